// The trainer as a process: TRAIN_KAT, default ./train_kat, in the test's folder.
//   trainer_flags = "--threads 1";                       // for every run
//   RUN(code, "a part of what it prints", "arguments", ...);
#pragma once
#include "test_files.h"
#include <limits.h>
#include <sys/wait.h>

static char program[PATH_MAX], output[1 << 16]; // what the last run printed
static const char* trainer_flags = "";

static inline void find_trainer(void) {
    const char* given = getenv("TRAIN_KAT");
    if (!realpath(given ? given : "./train_kat", program)) { perror("TRAIN_KAT"); exit(1); }
}

// Its exit code
__attribute__((format(printf, 1, 2)))
static inline int run(const char* format, ...) {
    char arguments[2000], command[PATH_MAX + 3000];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    setenv("PROGRAM", program, 1);
    snprintf(command, sizeof command, "cd '%s' && \"$PROGRAM\" --device cpu %s %s 2>&1", test_folder, trainer_flags,
             arguments);
    FILE* printed = popen(command, "r");
    if (!printed) { perror(command); exit(1); }
    output[fread(output, 1, sizeof output - 1, printed)] = 0;
    int status = pclose(printed);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

static inline bool said(const char* text) { return strstr(output, text) != NULL; }

#define RUN(code, text, ...) do { int got_ = run(__VA_ARGS__); \
    CHECK(got_ == (code) && said(text), "exit %d, want %d and \"%s\":\n%s", got_, code, text, output); } while (0)
