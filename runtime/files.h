// Files and folders: folders made with their parents, files written completely or not at all, and a lock on a folder.
#pragma once
#include "error.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

static inline bool is_file(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

static inline bool is_folder(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

// Whether anything has that name, even a broken link
static inline bool path_exists(const char* path) {
    struct stat status;
    return lstat(path, &status) == 0;
}

// Whether two names, however spelled, are of the same file or folder
static inline bool same_file(const char* a, const char* b) {
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

static inline bool ends_with(const char* text, const char* end) {
    size_t length = strlen(text), rest = strlen(end);
    return length >= rest && strcmp(text + length - rest, end) == 0;
}

// The first entry of a folder, by name, that matches a pattern; false: none
static inline bool find_entry(const char* folder, const char* pattern, char name[256]) {
    DIR* entries = opendir(folder);
    name[0] = 0;
    for (struct dirent* e; entries && (e = readdir(entries));) {
        bool first = !name[0] || strcmp(e->d_name, name) < 0;
        if (first && fnmatch(pattern, e->d_name, 0) == 0) { snprintf(name, 256, "%.255s", e->d_name); }
    }
    if (entries) { closedir(entries); }
    return name[0];
}

// Up to `count` bytes from an offset in a file, fewer at its end; -1: errno says why not
static inline ssize_t read_at(int descriptor, void* bytes, size_t count, uint64_t offset) {
    size_t done = 0;
    while (done < count) {
        ssize_t got = pread(descriptor, (char*)bytes + done, count - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) { continue; }
        if (got < 0) { return -1; }
        if (got == 0) { break; }
        done += (size_t)got;
    }
    return (ssize_t)done;
}

// A whole file, followed by a zero byte; to be freed. NULL: err says why not
static inline uint8_t* read_whole(const char* path, size_t limit, size_t* count, Error* err) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // O_NONBLOCK: does not wait for a fifo
    bool ok = descriptor >= 0 && fstat(descriptor, &status) == 0;
    uint8_t* bytes = NULL;
    if (!ok) {
        set_error(err, "cannot open %s: %s", path, strerror(errno));
    } else if (!S_ISREG(status.st_mode) || (uint64_t)status.st_size > limit) {
        ok = set_error(err, "%s is %s: fetch the file again", path,
                       S_ISREG(status.st_mode) ? "larger than it should be" : "not a regular file");
    } else if (!(bytes = (uint8_t*)malloc((size_t)status.st_size + 1))) {
        ok = set_error(err, "no memory for %s: close other programs", path);
    } else if (read_at(descriptor, bytes, (size_t)status.st_size, 0) != status.st_size) {
        ok = set_error(err, "cannot read %s: %s", path, errno ? strerror(errno) : "it became shorter meanwhile");
    }
    if (descriptor >= 0) { close(descriptor); }
    if (!ok) {
        free(bytes);
        return NULL;
    }
    *count = (size_t)status.st_size;
    bytes[*count] = 0;
    return bytes;
}

// Like mkdir -p
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

static inline const char* write_advice(int error) {
    switch (error) {
    case ENOSPC: case EDQUOT: case EFBIG: return "free some space there, or write elsewhere";
    case ENOENT: case ENOTDIR: return "make its folder first";
    case EACCES: case EPERM: case EROFS: return "choose a folder that you may write to";
    case EISDIR: return "give the name of a file";
    default: return "check the disk, or write elsewhere";
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// A file that is written completely: under a temporary name beside it, synced, then renamed, so that its name always
// refers to a complete file, the old one or the new one. A link is followed to its target. Devices and pipes cannot be
// replaced: they are written to directly.
//
//   WholeFile f;
//   if (!whole_file_begin(&f, path, &err)) { ... }
//   fwrite(..., f.file);                            // an error stays in the stream
//   if (!whole_file_end(&f, &err)) { ... }          // what was there before is unchanged then

typedef struct {
    FILE* file;
    char path[PATH_MAX], temporary[PATH_MAX]; // temporary is empty if the file is written to directly
} WholeFile;

// The target of a link; any other path stays as it is. A broken link is an error.
static inline bool follow_link(const char* path, char target[PATH_MAX]) {
    struct stat status;
    if (lstat(path, &status) == 0 && S_ISLNK(status.st_mode)) { return realpath(path, target) != NULL; }
    int length = snprintf(target, PATH_MAX, "%s", path);
    if (length >= PATH_MAX) { errno = ENAMETOOLONG; }
    return length < PATH_MAX;
}

static inline FILE* whole_file_open(WholeFile* f, const char* path) {
    struct stat status;
    f->temporary[0] = 0;
    if (!follow_link(path, f->path)) { return NULL; }
    bool special = stat(f->path, &status) == 0 && !S_ISREG(status.st_mode); // fopen reports a folder
    if (special) { return fopen(f->path, "wb"); }
    if (snprintf(f->temporary, sizeof f->temporary, "%s.tmp", f->path) >= (int)sizeof f->temporary) {
        errno = ENAMETOOLONG;
        return NULL;
    }
    // O_NOFOLLOW and O_NONBLOCK: a link or pipe of the temporary name is not written to
    int fd = open(f->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    return fd < 0 ? NULL : fdopen(fd, "wb");
}

static inline bool whole_file_begin(WholeFile* f, const char* path, Error* err) {
    f->file = whole_file_open(f, path);
    return f->file || set_error(err, "cannot write %s: %s; what was there is unchanged: %s", path, strerror(errno),
                                write_advice(errno));
}

// The folder's entry must reach the disk as well, or a power cut could undo the rename.
static inline bool sync_folder_of(const char* path) {
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char* slash = strrchr(folder, '/');
    if (slash) { slash[slash == folder] = 0; }
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL); // EINVAL: a file system without fsync
    int error = errno;
    if (fd >= 0) { close(fd); }
    errno = error;
    return ok;
}

// Flushes, syncs and closes; false: errno says why it failed
static inline bool whole_file_close(WholeFile* f) {
    bool ok = !ferror(f->file) && fflush(f->file) == 0;
    bool synced = ok && (!f->temporary[0] || fsync(fileno(f->file)) == 0);
    int error = errno;
    if (fclose(f->file) != 0 && synced) { return false; }
    errno = error;
    return synced;
}

static inline bool whole_file_end(WholeFile* f, Error* err) {
    bool closed = whole_file_close(f);
    if (closed && !f->temporary[0]) { return true; }
    if (!closed || rename(f->temporary, f->path) != 0) {
        int error = errno;
        if (f->temporary[0]) { unlink(f->temporary); }
        return set_error(err, "cannot write %s: %s; what was there is unchanged: %s", f->path, strerror(error),
                         write_advice(error));
    }
    return sync_folder_of(f->path) ||
           set_error(err, "%s is written, but its folder cannot be synced to disk: %s; check the disk", f->path,
                     strerror(errno));
}

// Drops what was written so far.
static inline void whole_file_drop(WholeFile* f) {
    fclose(f->file);
    if (f->temporary[0]) { unlink(f->temporary); }
}

static inline bool copy_file(const char* from, const char* to, Error* err) {
    WholeFile out;
    char bytes[1 << 14];
    size_t got;
    FILE* in = fopen(from, "rb");
    if (!in) { return set_error(err, "cannot read %s: %s; check the path", from, strerror(errno)); }
    if (!whole_file_begin(&out, to, err)) {
        fclose(in);
        return false;
    }
    while ((got = fread(bytes, 1, sizeof bytes, in)) > 0) { fwrite(bytes, 1, got, out.file); }
    bool read = !ferror(in);
    fclose(in);
    if (read) { return whole_file_end(&out, err); }
    whole_file_drop(&out);
    return set_error(err, "cannot read %s to its end: check the disk", from);
}

// Makes another name for a file, which keeps its contents when the first name gets others; a copy if the file system
// has no links. What had that name is replaced atomically.
static inline bool link_file(const char* from, const char* to, Error* err) {
    char temporary[PATH_MAX];
    snprintf(temporary, sizeof temporary, "%.4000s.tmp", to);
    unlink(temporary);
    bool linked = linkat(AT_FDCWD, from, AT_FDCWD, temporary, AT_SYMLINK_FOLLOW) == 0 && rename(temporary, to) == 0;
    unlink(temporary); // rename leaves it if both were names of the same file
    if (!linked) { return copy_file(from, to, err); }
    return sync_folder_of(to) ||
           set_error(err, "cannot sync the folder of %s: %s; check the disk", to, strerror(errno));
}

// ---------------------------------------------------------------------------------------------------------------------
// A folder that belongs to one process: the lock is on the file .lock in it, which names the process, and ends with it.

enum { LOCK_NONE = -1, LOCK_HELD_BY_OTHER = -2 };

static inline void lock_describe(int fd) {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    if (ftruncate(fd, 0) == 0) { dprintf(fd, "process %ld on %s\n", (long)getpid(), host); }
}

#define LOCK_STOPPED "stopped" // the file's first word once its process has stopped, to be resumed later

// Writes, instead of the process, that it stopped. Only reports about the run depend on it.
static inline void lock_note_stopped(const char* folder, int64_t step) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/.lock", folder);
    int fd = open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) { return; }
    dprintf(fd, LOCK_STOPPED " at step %lld\n", (long long)step);
    close(fd);
}

// Takes it. Tries several times, because a program that only checks whether it is held (dev/compare_runs/run_state.h)
// holds it for a moment.
static inline bool lock_take(int fd) {
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; tries++) {
        if (errno != EWOULDBLOCK || tries == 3) { return false; }
        usleep(5000);
    }
    return true;
}

// The lock's descriptor, which holds it until it is closed; LOCK_HELD_BY_OTHER; LOCK_NONE if the file system has no
// locks or does not allow writing. err says why there is none.
static inline int folder_lock(const char* folder, Error* err) {
    char path[PATH_MAX], owner[300] = "";
    snprintf(path, sizeof path, "%s/.lock", folder);
    int fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd >= 0 && lock_take(fd)) {
        lock_describe(fd);
        return fd;
    }
    int error = errno;
    if (fd >= 0 && error == EWOULDBLOCK) {
        ssize_t length = read(fd, owner, sizeof owner - 1);
        owner[length > 0 ? strcspn(owner, "\n") : 0] = 0;
    }
    if (fd >= 0) { close(fd); }
    set_error(err, "the folder %s %s%s", folder, error == EWOULDBLOCK ? "is in use by " : "cannot be locked: ",
              error == EWOULDBLOCK ? (*owner ? owner : "another process") : strerror(error));
    return error == EWOULDBLOCK ? LOCK_HELD_BY_OTHER : LOCK_NONE;
}
