// Which version a program is, and what it was built with. The build's part is in an object of its own (scripts/version.sh),
// so that a new commit compiles nothing anew; a program that is linked without it says so.
#pragma once
#include <stdio.h>

#define KAT_VERSION "1.0"

extern const char build_commit[] __attribute__((weak)), build_settings[] __attribute__((weak));

enum { VERSION_TEXT = 512 };

// "kat.c 1.0, commit 5cc55a3; gcc 12.2.0, -march=native; OpenMP, cJSON 1.7.15"
static inline const char* version_text(char text[VERSION_TEXT]) {
    const char* commit = build_commit ? build_commit : "unknown";
    int used = snprintf(text, VERSION_TEXT, "kat.c " KAT_VERSION ", commit %s", commit);
#ifdef __CUDACC_VER_MAJOR__
    used += snprintf(text + used, VERSION_TEXT - (size_t)used, "; nvcc %d.%d", __CUDACC_VER_MAJOR__, __CUDACC_VER_MINOR__);
#endif
    if (build_settings) { snprintf(text + used, VERSION_TEXT - (size_t)used, "; %s", build_settings); }
    return text;
}
