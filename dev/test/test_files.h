// Files for tests: a private temporary folder, and bytes in and out of it.
#pragma once
#include "test.h"
#include <dirent.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static char test_folder[256];

static inline void open_test_folder(void) {
    const char* parent = getenv("TMPDIR");
    snprintf(test_folder, sizeof test_folder, "%.200s/kat-test-XXXXXX", parent ? parent : "/tmp");
    if (!mkdtemp(test_folder)) { perror(test_folder); exit(1); }
}

static inline void remove_folder(const char* folder) {
    DIR* entries = opendir(folder);
    for (struct dirent* e; entries && (e = readdir(entries));) {
        char path[1024];
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) { continue; }
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) >= (int)sizeof path) { continue; }
        if (unlink(path) != 0) { remove_folder(path); }
    }
    if (entries) { closedir(entries); }
    rmdir(folder);
}

static inline void remove_test_folder(void) { remove_folder(test_folder); }

// TEST_FOLDER/name; four may be in use at a time
static inline const char* in_folder(const char* name) {
    static char paths[4][512];
    static int next;
    char* path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", test_folder, name);
    return path;
}

static inline void write_file(const char* path, const void* bytes, size_t count) {
    FILE* f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, count, f) != count || fclose(f) != 0) { perror(path); exit(1); }
}

// The whole file; the caller frees it. NULL if it is not there.
static inline uint8_t* read_file(const char* path, size_t* count) {
    FILE* f = fopen(path, "rb");
    if (!f) { return NULL; }
    fseek(f, 0, SEEK_END);
    *count = (size_t)ftell(f);
    rewind(f);
    uint8_t* bytes = (uint8_t*)malloc(*count + 1);
    if (!bytes || fread(bytes, 1, *count, f) != *count) { perror(path); exit(1); }
    fclose(f);
    return bytes;
}
