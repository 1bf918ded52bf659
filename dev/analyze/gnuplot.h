// gnuplot as a process: a script in, a picture out, over pipes, so that the picture's file is written atomically.
#pragma once
#include "../../runtime/files.h"
#include "../../runtime/texts.h"
#include <spawn.h>
#include <sys/wait.h>

extern char** environ;

typedef struct { uint8_t* bytes; size_t count; } Bytes;

// All output from a pipe, followed by a zero byte
static bool read_pipe(int fd, Bytes* out, Error* err) {
    size_t room = 0;
    *out = (Bytes){0};
    for (;;) {
        uint8_t* grown = (uint8_t*)array_grow(out->bytes, out->count + 1, &room, 1, err);
        if (!grown) { return false; }
        out->bytes = grown;
        ssize_t got = read(fd, grown + out->count, room - out->count - 1);
        if (got < 0 && errno == EINTR) { continue; }
        if (got <= 0) { break; }
        out->count += (size_t)got;
    }
    if (out->bytes) { out->bytes[out->count] = 0; }
    return true;
}

// Starts a program with its standard output in a pipe and its errors in `complaints`; -1: it does not exist.
static pid_t start_program(char* const arguments[], int* from, FILE* complaints) {
    int ends[2];
    pid_t child = -1;
    posix_spawn_file_actions_t actions;
    if (pipe(ends) != 0) { return -1; }
    for (int i = 0; i < 2; i++) { fcntl(ends[i], F_SETFD, FD_CLOEXEC); }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(complaints), STDERR_FILENO);
    if (posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ) != 0) { child = -1; }
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    *from = ends[0];
    if (child < 0) { close(ends[0]); }
    return child;
}

// A program's output, to be freed; false: it does not exist, or fails
static bool program_output(char* const arguments[], Bytes* out, Error* err) {
    int from, status = -1;
    FILE* complaints = tmpfile();
    char said[300] = "";
    pid_t child = complaints ? start_program(arguments, &from, complaints) : -1;
    *out = (Bytes){0};
    bool ok = child >= 0;
    if (ok) {
        ok = read_pipe(from, out, err);
        close(from);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        rewind(complaints);
        while (!said[0] || said[0] == '\n') { if (!fgets(said, sizeof said, complaints)) { break; } }
        said[strcspn(said, "\n")] = 0;
    } else {
        set_error(err, "%s does not start: install gnuplot-nox", arguments[0]);
    }
    if (complaints) { fclose(complaints); }
    if (ok && status != 0) { ok = set_error(err, "%s fails: %s", arguments[0], *said ? said : "without a word"); }
    if (!ok) { free(out->bytes); }
    return ok;
}

static bool gnuplot_is_there(void) {
    static int known = -1;
    char* arguments[] = {"gnuplot", "--version", NULL};
    Bytes version;
    Error ignored;
    if (known < 0) {
        known = program_output(arguments, &version, &ignored);
        if (known) { free(version.bytes); }
    }
    return known;
}

// The picture drawn by a script of plot.h; settings: of its variables
static bool gnuplot_draw(const char* script, char* settings, Bytes* picture, Error* err) {
    char path[PATH_MAX + 2];
    snprintf(path, sizeof path, "%s%s", script[0] == '-' ? "./" : "", script);
    char* arguments[] = {"gnuplot", "-e", settings, path, NULL};
    return program_output(arguments, picture, err) &&
           (picture->count || set_error(err, "gnuplot draws nothing from %s", script));
}
