// Programs in the same folder: how one finds another, and tests whether it runs.
#pragma once
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

// The path of the program `name` in the folder of the running one; false if there is none that can be run
static inline bool program_beside(const char* name, char path[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length < 0) { return false; }
    path[length] = 0;
    char* file = strrchr(path, '/') + 1;
    size_t left = (size_t)(path + PATH_MAX - file);
    return strlen(name) < left && strcpy(file, name) && access(path, X_OK) == 0;
}

// Runs a program without output; whether it exited with 0
static inline bool runs_well(const char* path, const char* const arguments[]) {
    pid_t child = fork();
    if (child == 0) {
        int nothing = open("/dev/null", O_RDWR);
        for (int stream = 0; stream < 3; stream++) { dup2(nothing, stream); }
        execv(path, (char* const*)arguments);
        _exit(127);
    }
    int status;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}
