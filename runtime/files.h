// Files and folders.
#pragma once
#include "error.h"
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

static inline bool is_folder(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

// As mkdir -p
static inline bool make_folders(const char* path, Error* err) {
    char part[PATH_MAX];
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] != '/' && path[n]) { continue; }
        int length = snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (length < (int)sizeof part && (mkdir(part, 0777) == 0 || (errno == EEXIST && is_folder(part)))) { continue; }
        const char* reason = length >= (int)sizeof part ? "its name is too long"
                           : errno == EEXIST ? "a file of this name is in the way" : strerror(errno);
        return set_error(err, "cannot make the folder %s: %s. Choose another folder", part, reason);
    }
    return true;
}
