// The standard output: written completely, or the program fails; and a line that the next one overwrites, if the
// terminal can do that.
#pragma once
#include "error.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int output_errno; // of the first flush that failed

static inline void output_flush(void) {
    if (fflush(stdout) != 0 && !output_errno) { output_errno = errno; }
}

// At the end of the program. If fail() has reported something, that remains the last message.
static inline void output_check(void) {
    output_flush();
    bool failed = ferror(stdout);
    if (fclose(stdout) != 0) { // some file systems report only now that the disk is full
        failed = true;
        if (!output_errno) { output_errno = errno; }
    }
    if (!failed || program_failed) { return; }
    const char* reason = output_errno == EBADF ? "it is closed" : output_errno == EPIPE ? "its reader is gone"
                       : output_errno ? strerror(output_errno) : "it is not there to its end";
    fprintf(stderr, "error: cannot write the standard output: %s. Send it elsewhere\n", reason);
    _exit(EXIT_RUN_TIME);
}

// Called once, before anything is opened or printed: no file of the program can take the place of a closed stream, and
// output that cannot be written becomes an error in the end. Reaching the limit on the size of files makes a write
// fail, which is reported.
static inline void output_guard(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        bool closed = fcntl(fd, F_GETFD) < 0 && errno == EBADF;
        if (closed && open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) < 0) { exit(EXIT_RUN_TIME); }
    }
    signal(SIGXFSZ, SIG_IGN);
    static char buffer[1 << 16]; // what fits is written by a flush, which reports errors
    if (!isatty(STDOUT_FILENO)) { setvbuf(stdout, buffer, _IOFBF, sizeof buffer); }
    atexit(output_check);
}

// From here on a pipe without a reader is an output error like others, and does not end the program at once.
static inline void output_outlives_reader(void) { signal(SIGPIPE, SIG_IGN); }

// ---------------------------------------------------------------------------------------------------------------------
// The terminal

// Whether a line can be erased. TERM=dumb, or none, has no escape sequences.
static inline bool terminal_rewrites(void) {
    const char* term = getenv("TERM");
    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

// The terminal's current width
static inline int terminal_columns(void) {
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) { return size.ws_col; }
    const char* columns = getenv("COLUMNS");
    int number = columns ? atoi(columns) : 0;
    return number > 0 ? number : 80;
}

// Columns of UTF-8 text, each of whose characters is one wide
static inline int text_columns(const char* text) {
    int columns = 0;
    for (; *text; text++) { columns += (*text & 0xC0) != 0x80; }
    return columns;
}

// Cuts text to so many columns.
static inline void text_cut(char* text, int columns) {
    while (*text && columns >= ((*text & 0xC0) != 0x80)) { columns -= (*text++ & 0xC0) != 0x80; }
    *text = 0;
}

// Before other lines: erases the line that is to be overwritten, if there is one,
static inline void output_take_back(void) {
    if (output_line_open) { fputs("\r\033[K", stdout); }
    output_line_open = false;
}

// or keeps it.
static inline void output_keep(void) {
    if (output_line_open) { fputc('\n', stdout); }
    output_line_open = false;
}
