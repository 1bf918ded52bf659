// Signals that end a run: SIGINT (Ctrl-C), SIGTERM (a batch system), SIGHUP (a closed terminal) and SIGUSR1 (a batch
// system, in good time: the job is to be started again) ask it to stop after the current step or evaluation, with a
// checkpoint; several ranks end the step in which one tells all others of the signal. Another SIGINT ends it at once,
// unless it comes within a second: a shell sends it to the whole group and to the process. Batch systems repeat the
// other signals. A signal that was ignored when the program began, as under nohup and `&`, stays ignored.
#pragma once
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t stop_requested; // 0, or the signal
static volatile sig_atomic_t stop_second, stop_tenth; // when it came

// Seconds since the first request, to a tenth
static inline double stop_age(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - stop_second) + 0.1 * (double)(now.tv_nsec / 100000000 - stop_tenth);
}

static inline void request_stop(int signal_number) {
    struct timespec now;
    if (stop_requested && signal_number == SIGINT && stop_age() > 1) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    if (stop_requested) { return; }
    clock_gettime(CLOCK_MONOTONIC, &now);
    stop_second = (sig_atomic_t)now.tv_sec;
    stop_tenth = (sig_atomic_t)(now.tv_nsec / 100000000);
    stop_requested = signal_number;
}

static inline void stop_on_signal(int signal_number) {
    struct sigaction before, action;
    memset(&action, 0, sizeof action);
    action.sa_handler = request_stop;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    if (sigaction(signal_number, NULL, &before) == 0 && before.sa_handler != SIG_IGN) {
        sigaction(signal_number, &action, NULL);
    }
}

static inline void stop_on_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) { stop_on_signal(signals[i]); }
}
