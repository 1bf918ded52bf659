// A rank that waits for others records it, and a thread watches. It ends this process with a sentence if nothing has
// arrived for too long; the launcher then ends the others. A rank that hangs cannot be told from one that is dead.
//
//     watchdog_begin(300);                                // seconds; twice as many until the first step is done
//     watchdog_meet();                                    // the ranks are in touch
//     wait_on("gradients of bucket", 4);                  // what is waited for next; -1: it has no number
//     wait_for(rank, beside);                             // a message from or to it is on its way
//     wait_begin(); ... wait_got(rank, beside); ... wait_end();   // it has arrived
//
// Messages that travel beside other work are not polled while others are waited for: then only the latter count.
//
// Seconds are those that this process has seen pass: if all ranks were suspended and continue, none is blamed. After a
// signal to end, a rank waits 10 s longer than any wait of a step before, except while rank 0 writes files
// (watchdog_writes).
#pragma once
#include "memory.h"
#include "ranks.h"
#include "signals.h"
#include <math.h>
#include <pthread.h>

enum {
    LOOKS_A_SECOND = 10,
    NAMED_RANKS = 8,         // at most, in one sentence
};
static const double signal_patience = 10; // seconds after a signal to end
static const double speakers_apart = 5;   // seconds between ranks' sentences: the first should make others unnecessary
static const double missed_apart = 3;     // and between a rank that misses one other and a rank that misses two

typedef struct {
    pthread_mutex_t lock;    // of everything here
    int timeout;             // seconds
    bool settled, writes;    // the first step is done; rank 0 is writing files
    int64_t step;            // the current one; 0: none yet
    const char* what;        // what is waited for; NULL: unknown
    int number;              // its number, or -1
    int (*on_their_way)[2];  // (size) messages from and to each rank, [1] beside other work; NULL: not in touch yet
    int exchanged;           // messages that are not beside other work
    bool waits;
    unsigned news, seen;     // number of events (begun, arrived, ended); and how many of them the thread has seen
    double silence, longest; // seconds without news in this wait; and the most in any wait that continued
    double after_signal;     // seconds of silence since a signal
} Watchdog;

static Watchdog watchdog = {.lock = PTHREAD_MUTEX_INITIALIZER, .number = -1};

// ---- Messages

static inline bool is_missed(int rank) {
    return watchdog.on_their_way && watchdog.on_their_way[rank][watchdog.exchanged == 0] > 0;
}

// The number of missed ranks from first to end - 1
static inline int count_missed(int first, int end) {
    int missed = 0;
    for (int r = first; r < end; r++) { missed += is_missed(r); }
    return missed;
}

// Seconds by which this rank lets others report first: lower ranks, unless they are missed here. A rank that waits for
// a waiting one misses more ranks than the one that waits for the culprit.
static inline double speaks_later(void) {
    int before = ranks.rank - count_missed(0, ranks.rank), missed = count_missed(0, ranks.size);
    return speakers_apart * fmin(before, 6) + missed_apart * fmin(missed > 1 ? missed - 1 : 0, 4);
}

__attribute__((format(printf, 2, 3)))
static inline void text_add(Error* text, const char* format, ...) {
    size_t used = strlen(text->text);
    va_list args;
    va_start(args, format);
    vsnprintf(text->text + used, sizeof text->text - used, format, args);
    va_end(args);
}

static inline bool same_node(int a, int b) { return !ranks.node_of || strcmp(ranks.node_of[a], ranks.node_of[b]) == 0; }

// "rank 3 on node2", "ranks 3, 5 on node2", "ranks 3 on node2, 5 on node3"; returns their number
static inline int add_missed(Error* text) {
    int missed = count_missed(0, ranks.size), named = 0, before = -1;
    text_add(text, missed == 0 ? "other ranks" : missed == 1 ? "rank" : "ranks");
    for (int r = 0; r < ranks.size && named < NAMED_RANKS; r++) {
        if (!is_missed(r)) { continue; }
        if (before >= 0 && !same_node(before, r)) { text_add(text, " on %s", ranks.node_of[before]); }
        text_add(text, "%s %d", named++ ? "," : "", r);
        before = r;
    }
    if (missed > named) { text_add(text, " and %d more", missed - named); }
    if (before >= 0 && ranks.node_of) { text_add(text, " on %s", ranks.node_of[before]); }
    return missed;
}

static inline void add_place(Error* text) {
    if (watchdog.step) {
        text_add(text, " at step %lld", (long long)watchdog.step);
    } else {
        text_add(text, " at the start");
    }
    if (!watchdog.what) { return; }
    text_add(text, " (%s", watchdog.what);
    if (watchdog.number >= 0) { text_add(text, " %d", watchdog.number); }
    text_add(text, ")");
}

static inline bool waits_after_signal(void) { return watchdog.after_signal > signal_patience; }

static inline void watchdog_sentence(Error* text) {
    double seconds = waits_after_signal() ? watchdog.after_signal : watchdog.silence;
    text->text[0] = 0;
    if (!watchdog.on_their_way) {
        text_add(text,
                 "not all of %d ranks have come within %.0f s: see what the others say, or give more --rank-timeout",
                 ranks.size, seconds);
        return;
    }
    text_add(text, "rank %d has waited %.0f s for ", ranks.rank, seconds);
    int missed = add_missed(text);
    add_place(text);
    if (waits_after_signal()) {
        text_add(text, " after a signal to end");
    } else {
        text_add(text, ": %s for one that is, or --rank-timeout is too short",
                 missed == 1 ? "it is dead, stuck or waits" : "they are dead, stuck or wait");
    }
}

// ---- The thread

// Checks once; true: this rank has waited for too long
static inline bool watchdog_look(void) {
    if (watchdog.news != watchdog.seen || !watchdog.waits) {
        watchdog.longest = fmax(watchdog.longest, watchdog.silence);
        watchdog.silence = watchdog.after_signal = 0;
        watchdog.seen = watchdog.news;
        return false;
    }
    watchdog.silence += 1.0 / (double)LOOKS_A_SECOND;
    bool hurries = stop_requested && stop_requested != SIGUSR1 && !watchdog.writes;
    watchdog.after_signal += hurries ? 1.0 / (double)LOOKS_A_SECOND : 0;
    double later = speaks_later(), most = watchdog.timeout * (watchdog.settled ? 1 : 2);
    return watchdog.silence > most + later || watchdog.after_signal > signal_patience + watchdog.longest + later;
}

RUNS_ONCE static inline void* watchdog_loop(void* nothing) {
    bool due = false;
    while (!due) {
        usleep(1000000 / LOOKS_A_SECOND);
        pthread_mutex_lock(&watchdog.lock);
        due = watchdog_look();
        if (!due) { pthread_mutex_unlock(&watchdog.lock); } // otherwise everything stops here
    }
    Error text;
    watchdog_sentence(&text);
    dprintf(STDERR_FILENO, "error: %s\n", text.text);
    _exit(EXIT_RUN_TIME);
    return nothing;
}

// Signals are left to the calling thread.
static inline void watchdog_begin(int timeout) {
    pthread_t thread;
    sigset_t all, before;
    watchdog.timeout = timeout;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&thread, NULL, watchdog_loop, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) { fail(EXIT_RUN_TIME, "no thread to look after waiting ranks: %s", strerror(error)); }
    pthread_detach(thread);
}

// ---- Reports from the rest of the program

static inline void watchdog_meet(void) {
    int(*none)[2] = (int(*)[2])alloc_array(int, 2 * ranks.size, "ranks");
    pthread_mutex_lock(&watchdog.lock);
    watchdog.on_their_way = none;
    pthread_mutex_unlock(&watchdog.lock);
}

// Before each step. Once the first is done, the waits at the start are forgotten.
static inline void watchdog_at(int64_t step) {
    pthread_mutex_lock(&watchdog.lock);
    bool done = watchdog.step > 0;
    if (done && !watchdog.settled) { watchdog.longest = 0; }
    watchdog.settled = done;
    watchdog.step = step;
    pthread_mutex_unlock(&watchdog.lock);
}

// Called on the other ranks: while rank 0 writes, they wait for its files, which would be lost with it.
static inline void watchdog_writes(bool writes) {
    pthread_mutex_lock(&watchdog.lock);
    watchdog.writes = writes;
    pthread_mutex_unlock(&watchdog.lock);
}

static inline void wait_on(const char* what, int number) {
    pthread_mutex_lock(&watchdog.lock);
    watchdog.what = what, watchdog.number = number;
    pthread_mutex_unlock(&watchdog.lock);
}

static inline void wait_count(int rank, bool beside, int messages) {
    pthread_mutex_lock(&watchdog.lock);
    if (watchdog.on_their_way) { watchdog.on_their_way[rank][beside] += messages; }
    watchdog.exchanged += beside ? 0 : messages;
    watchdog.news++;
    pthread_mutex_unlock(&watchdog.lock);
}

static inline void wait_for(int rank, bool beside) { wait_count(rank, beside, 1); }
static inline void wait_got(int rank, bool beside) { wait_count(rank, beside, -1); }

static inline void wait_now(bool waits) {
    pthread_mutex_lock(&watchdog.lock);
    watchdog.waits = waits;
    watchdog.news++;
    pthread_mutex_unlock(&watchdog.lock);
}

static inline void wait_begin(void) { wait_now(true); }
static inline void wait_end(void) { wait_now(false); }
