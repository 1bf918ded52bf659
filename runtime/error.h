// How errors are passed on. A function that can fail on input returns false and writes one sentence into an Error: what
// is wrong, where, and one thing to do. Only the programs themselves (train_vit.c, data/convert.c) end the process:
// exit 1 for run time, 2 for usage, 3 for a run that a signal stopped and that can be resumed, 75 if that signal asked
// it to start again.
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EXIT_RUN_TIME = 1, EXIT_USAGE = 2, EXIT_STOPPED = 3, EXIT_COME_AGAIN = 75 };

typedef struct {
    char text[1024];
} Error;

// Text from a file, such as a tensor's name, must not control the terminal.
static inline void hide_control_characters(char* text) {
    for (; *text; text++) {
        if ((*text >= 0 && *text < ' ') || *text == 127) { *text = '?'; }
    }
}

__attribute__((format(printf, 2, 3)))
static inline bool set_error(Error* err, const char* format, ...) { // always false, so that callers can return it
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    hide_control_characters(err->text);
    return false;
}

static bool output_line_open; // on a terminal: an unfinished line, which the next one overwrites (output.h)
static bool program_failed;
static char program_rank[128]; // "rank 3 on node2: " with several processes; else ""
static int program_patience;   // seconds for others to report first: they may know the cause, and end all

__attribute__((noreturn, format(printf, 2, 3)))
static inline void fail(int exit_code, const char* format, ...) {
    va_list args;
    va_start(args, format);
    program_failed = true;
    sleep((unsigned)program_patience);
    if (output_line_open) { fputc('\n', stdout); }
    fflush(stdout);
    fprintf(stderr, "error: %s", program_rank);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(exit_code);
}
