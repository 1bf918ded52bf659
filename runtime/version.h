// A program's version, and what it was built with. What depends on the build is in a separate object
// (scripts/version.sh), so that a new commit recompiles nothing; a program linked without that object says so.
#pragma once
#include <stdio.h>

#define KAT_VERSION "1.0"

extern const char build_commit[] __attribute__((weak)), build_compiler[] __attribute__((weak));
extern const char build_libraries[] __attribute__((weak)); // for the CPU program: the other needs the toolkit's

enum { VERSION_TEXT = 512 };

// "kat.c 1.0, commit 5cc55a3; gcc 12.2.0, -march=native; OpenMP, cJSON 1.7.15"
static inline const char* version_text(char text[VERSION_TEXT]) {
    const char* commit = build_commit ? build_commit : "unknown";
    int used = snprintf(text, VERSION_TEXT, "kat.c " KAT_VERSION ", commit %.60s", commit);
    if (build_compiler) { used += snprintf(text + used, VERSION_TEXT - (size_t)used, "; %.150s", build_compiler); }
#ifdef __CUDACC_VER_MAJOR__
    snprintf(text + used, VERSION_TEXT - (size_t)used, "; nvcc %d.%d", __CUDACC_VER_MAJOR__, __CUDACC_VER_MINOR__);
#else
    if (build_libraries) { snprintf(text + used, VERSION_TEXT - (size_t)used, "; %s", build_libraries); }
#endif
    return text;
}
