// Captures what a function prints to the standard output.
#pragma once
#include "test_files.h"
#include <fcntl.h>

static int said_terminal;

static inline void said_begin(void) {
    fflush(stdout);
    said_terminal = dup(STDOUT_FILENO);
    int file = open(in_folder("said"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDOUT_FILENO);
    close(file);
}

// The text, until the next call
static inline const char* said_end(void) {
    static char text[1 << 14];
    size_t count = 0;
    fflush(stdout);
    dup2(said_terminal, STDOUT_FILENO);
    close(said_terminal);
    uint8_t* bytes = read_file(in_folder("said"), &count);
    snprintf(text, sizeof text, "%.*s", (int)count, (char*)bytes);
    free(bytes);
    return text;
}
