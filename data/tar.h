// Plain tar archives, read in place: ustar, and what pax and GNU tar put before a member with a long name or a large
// size.
//
// A member is a header of 512 bytes, its data, and zeros up to the next multiple of 512; a header of zeros ends the
// archive. The header, as far as it is used:
//
//   offset  bytes  what
//   0       100    name, to its first zero byte
//   124     12     size: octal digits, or base 256 where the first bit is set
//   148     8      sum of the header's bytes, these eight taken as spaces; octal
//   156     1      type: 0 or nul a file, 5 a folder, x and g pax records, L a long name of GNU tar, ...
//   257     6      "ustar"; only then:
//   345     155    what stands before the name, and a slash
#pragma once
#include "../runtime/files.h"
#include <stdint.h>

enum { TAR_BLOCK = 512, TAR_NAME_BYTES = 1024, TAR_EXTENSION_BYTES = 1 << 16 };

// -1: err says why not. A fifo is not waited for.
static inline int open_archive(const char* path, struct stat* status, Error* err) {
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor < 0 || fstat(descriptor, status) != 0) {
        set_error(err, "cannot open %s: %s", path, strerror(errno));
    } else if (!S_ISREG(status->st_mode)) {
        set_error(err, "%s is not a regular file", path);
    } else {
        return descriptor;
    }
    if (descriptor >= 0) { close(descriptor); }
    return -1;
}

// A walk over the members between two places of a file
typedef struct {
    int descriptor;
    const char* path;          // what errors call it
    uint64_t at, end;
    // the member
    char name[TAR_NAME_BYTES], type;
    uint64_t offset, bytes;    // of its data in the file
    // what an extension says of the next member
    char long_name[TAR_NAME_BYTES];
    bool has_long_name, has_size;
    uint64_t size;
} TarWalk;

static inline void tar_begin(TarWalk* w, int descriptor, const char* path, uint64_t begin, uint64_t end) {
    memset(w, 0, sizeof *w);
    w->descriptor = descriptor;
    w->path = path;
    w->at = begin;
    w->end = end;
}

static inline uint64_t tar_padded(uint64_t bytes) { return (bytes + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK; }

// A file, or what old tars used for one. Links, folders and sparse files have no data that can be read in place.
static inline bool tar_is_file(const TarWalk* w) { return w->type == '0' || w->type == 0 || w->type == '7'; }

static inline bool tar_number(uint64_t* value, const uint8_t* field, int bytes) {
    *value = 0;
    if (field[0] & 0x80) {
        for (int i = 0; i < bytes; i++) {
            if (*value >> 55) { return false; }
            *value = *value << 8 | (i ? field[i] : field[i] & 0x7F);
        }
        return true;
    }
    int i = 0;
    while (i < bytes && field[i] == ' ') { i++; }
    for (; i < bytes && field[i] >= '0' && field[i] <= '7'; i++) { *value = *value << 3 | (field[i] - '0'); }
    return i == bytes || field[i] == 0 || field[i] == ' ';
}

static inline bool tar_sum_right(const uint8_t* header) {
    uint64_t said;
    int64_t plain = 0, as_signed = 0; // some tars add signed bytes
    if (!tar_number(&said, header + 148, 8)) { return false; }
    for (int i = 0; i < TAR_BLOCK; i++) {
        uint8_t byte = i >= 148 && i < 156 ? ' ' : header[i];
        plain += byte;
        as_signed += (int8_t)byte;
    }
    return (int64_t)said == plain || (int64_t)said == as_signed;
}

static inline bool tar_is_zero(const uint8_t* block) {
    for (int i = 0; i < TAR_BLOCK; i++) {
        if (block[i]) { return false; }
    }
    return true;
}

static inline bool tar_take_name(TarWalk* w, const char* text, size_t length, Error* err) {
    length = strnlen(text, length);
    if (length >= sizeof w->long_name) {
        return set_error(err, "%s has a member whose name has %zu bytes: %d are read; pack it again with shorter names",
                         w->path, length, TAR_NAME_BYTES - 1);
    }
    memcpy(w->long_name, text, length);
    w->long_name[length] = 0;
    w->has_long_name = true;
    return true;
}

// The value of a key among pax records, "LENGTH KEY=VALUE\n" each, with its length; NULL: it is not there
static inline const char* pax_find(const char* records, size_t count, const char* key, size_t* length) {
    size_t key_length = strlen(key);
    for (size_t at = 0; at < count;) {
        size_t bytes = 0, digits = at;
        while (digits < count && records[digits] >= '0' && records[digits] <= '9' && bytes < count) {
            bytes = 10 * bytes + (size_t)(records[digits++] - '0');
        }
        size_t end = at + bytes, text = digits + 1; // after the space
        if (bytes == 0 || end > count || text + key_length + 2 > end) { return NULL; }
        if (memcmp(records + text, key, key_length) == 0 && records[text + key_length] == '=') {
            *length = end - 1 - (text + key_length + 1);
            return records + text + key_length + 1;
        }
        at = end;
    }
    return NULL;
}

static inline bool tar_take_pax(TarWalk* w, const char* records, size_t count, Error* err) {
    size_t length;
    const char* value = pax_find(records, count, "path", &length);
    if (value && !tar_take_name(w, value, length, err)) { return false; }
    value = pax_find(records, count, "size", &length);
    if (!value) { return true; }
    w->size = 0;
    for (size_t i = 0; i < length && value[i] >= '0' && value[i] <= '9' && w->size < UINT64_MAX / 20; i++) {
        w->size = 10 * w->size + (uint64_t)(value[i] - '0');
    }
    w->has_size = true;
    return true;
}

// As much of the current member's data as fits
static inline bool tar_read(const TarWalk* w, void* bytes, size_t count, Error* err) {
    ssize_t got = read_at(w->descriptor, bytes, count, w->offset);
    return got == (ssize_t)count
        || set_error(err, "cannot read %s: %s", w->path, got < 0 ? strerror(errno) : "it became shorter meanwhile");
}

// Takes what precedes a member and belongs to it: a long name, or pax records.
static inline bool tar_take_extension(TarWalk* w, Error* err) {
    if (w->bytes > TAR_EXTENSION_BYTES) {
        return set_error(err, "%s: what stands before a member has %llu bytes, more than any name: it is damaged",
                         w->path, (unsigned long long)w->bytes);
    }
    char* records = (char*)malloc(w->bytes + 1);
    if (!records) { return set_error(err, "no memory to read %s: close other programs", w->path); }
    bool ok = tar_read(w, records, w->bytes, err);
    if (ok && w->type == 'x') { ok = tar_take_pax(w, records, w->bytes, err); }
    if (ok && w->type == 'L') { ok = tar_take_name(w, records, w->bytes, err); }
    free(records);
    return ok;
}

static inline void tar_member_name(TarWalk* w, const char* header) {
    if (w->has_long_name) {
        memcpy(w->name, w->long_name, sizeof w->name);
        return;
    }
    bool prefix = memcmp(header + 257, "ustar", 6) == 0 && header[345];
    snprintf(w->name, sizeof w->name, "%.*s%s%.100s", prefix ? 155 : 0, header + 345, prefix ? "/" : "", header);
}

static inline bool tar_cut(const TarWalk* w, uint64_t wanted, Error* err) {
    return set_error(err, "%s is truncated: %s%s needs it up to byte %llu, and it has %llu: fetch or copy the rest",
                     w->path, *w->name ? "its member " : "a header", w->name, (unsigned long long)wanted,
                     (unsigned long long)w->end);
}

// Reads the current header; 0: the end
static inline int tar_header(TarWalk* w, uint8_t* header, Error* err) {
    *w->name = 0;
    if (w->at == w->end) { return 0; } // some writers leave the zeros out
    if (w->end - w->at < TAR_BLOCK) {
        tar_cut(w, w->at + TAR_BLOCK, err);
        return -1;
    }
    if (read_at(w->descriptor, header, TAR_BLOCK, w->at) != TAR_BLOCK) {
        set_error(err, "cannot read %s: %s", w->path, errno ? strerror(errno) : "it became shorter meanwhile");
        return -1;
    }
    if (tar_is_zero(header)) { return 0; }
    if (!tar_sum_right(header)) {
        set_error(err, "%s is no tar archive, or damaged: there is no header at byte %llu", w->path,
                  (unsigned long long)w->at);
        return -1;
    }
    return 1;
}

// The next header's fields, extensions included
static inline int tar_step(TarWalk* w, Error* err) {
    uint8_t header[TAR_BLOCK];
    errno = 0;
    int found = tar_header(w, header, err);
    if (found != 1) { return found; }
    w->type = (char)header[156];
    w->offset = w->at + TAR_BLOCK;
    bool extension = w->type == 'x' || w->type == 'g' || w->type == 'L' || w->type == 'K';
    if (!tar_number(&w->bytes, header + 124, 12)) {
        set_error(err, "%s is damaged: the header at byte %llu has no size", w->path, (unsigned long long)w->at);
        return -1;
    }
    if (!extension) {
        tar_member_name(w, (const char*)header);
        if (w->has_size) { w->bytes = w->size; }
        w->has_long_name = w->has_size = false;
    }
    if (w->type == '1' || w->type == '2') { w->bytes = 0; } // a link's size is that of its target
    if (w->bytes > w->end - w->offset) {
        tar_cut(w, w->bytes < UINT64_MAX / 2 ? w->offset + w->bytes : w->bytes, err);
        return -1;
    }
    w->at = tar_padded(w->bytes) < w->end - w->offset ? w->offset + tar_padded(w->bytes) : w->end;
    return 1;
}

// 1: a member, or pax records of the whole archive (type g); 0: the end; -1: err says what is wrong
static inline int tar_next(TarWalk* w, Error* err) {
    for (;;) {
        int found = tar_step(w, err);
        if (found != 1) { return found; }
        if (w->type != 'x' && w->type != 'L' && w->type != 'K') { return 1; }
        if (!tar_take_extension(w, err)) { return -1; }
    }
}
