// Shards being written: plain tars whose bytes depend on their contents alone. ustar headers, mode 0644, no owner, time
// 0, two blocks of zeros at the end. The first shard of a split begins with a comment, in pax records for the whole
// archive, which describes the set: tar and other readers skip it, and an index can be made again from the tars alone.
#pragma once
#include "tar.h"

typedef struct {
    WholeFile file; // only a finished shard has its final name
    uint64_t at;
} ShardWriter;

static inline void tar_octal(char* field, int digits, uint64_t value) {
    for (int i = digits - 1; i >= 0; i--, value >>= 3) { field[i] = (char)('0' + (value & 7)); }
}

// name: at most 100 bytes, or 155 up to a slash and 100 after it. Sizes of 8 GiB and more cannot be stored.
static inline bool tar_make_header(char header[TAR_BLOCK], const char* name, char type, uint64_t bytes) {
    const char* base = name;
    memset(header, 0, TAR_BLOCK);
    while (strlen(base) > 100 && strchr(base, '/')) { base = strchr(base, '/') + 1; }
    size_t prefix = base > name ? (size_t)(base - name) - 1 : 0;
    if (strlen(base) > 100 || prefix > 155 || bytes >> 33) { return false; }
    memcpy(header, base, strlen(base));
    memcpy(header + 345, name, prefix);
    tar_octal(header + 100, 7, 0644);
    tar_octal(header + 108, 7, 0);
    tar_octal(header + 116, 7, 0);
    tar_octal(header + 124, 11, bytes);
    tar_octal(header + 136, 11, 0);
    header[156] = type;
    memcpy(header + 257, "ustar\0" "00", 8);
    unsigned sum = 8 * ' ';
    for (int i = 0; i < TAR_BLOCK; i++) { sum += (uint8_t)header[i]; }
    tar_octal(header + 148, 6, sum);
    header[155] = ' ';
    return true;
}

static inline bool shard_begin(ShardWriter* w, const char* path, Error* err) {
    w->at = 0;
    return whole_file_begin(&w->file, path, err);
}

static inline bool shard_write(ShardWriter* w, const void* bytes, size_t count, Error* err) {
    w->at += count;
    return fwrite(bytes, 1, count, w->file.file) == count
        || set_error(err, "cannot write %s: %s; what is finished is kept: %s", w->file.path, strerror(errno),
                     write_advice(errno));
}

static inline bool shard_pad(ShardWriter* w, Error* err) {
    static const char zeros[TAR_BLOCK];
    return shard_write(w, zeros, tar_padded(w->at) - w->at, err);
}

// offset: where its data begins
static inline bool shard_add(ShardWriter* w, const char* name, char type, const void* bytes, size_t count,
                             uint64_t* offset, Error* err) {
    char header[TAR_BLOCK];
    if (!tar_make_header(header, name, type, count)) {
        return set_error(err, "%s (%zu bytes) has no place in a tar: shorten its name", name, count);
    }
    if (!shard_write(w, header, TAR_BLOCK, err)) { return false; }
    *offset = w->at;
    return shard_write(w, bytes, count, err) && shard_pad(w, err);
}

// Pax records of the whole archive: "LENGTH comment=TEXT\n", where the length counts itself
static inline bool shard_add_comment(ShardWriter* w, const char* text, Error* err) {
    size_t rest = strlen(" comment=") + strlen(text) + 1, digits = 1;
    for (size_t limit = 10; rest + digits >= limit; limit *= 10) { digits++; }
    char* record = (char*)malloc(rest + digits + 1);
    uint64_t offset;
    if (!record) { return set_error(err, "no memory for a comment of %zu bytes: close other programs", rest); }
    snprintf(record, rest + digits + 1, "%zu comment=%s\n", rest + digits, text);
    bool ok = shard_add(w, "pax_global_header", 'g', record, rest + digits, &offset, err);
    free(record);
    return ok;
}

// Syncs the shard and gives it its name.
static inline bool shard_end(ShardWriter* w, Error* err) {
    static const char zeros[2 * TAR_BLOCK];
    if (!shard_write(w, zeros, sizeof zeros, err)) {
        whole_file_drop(&w->file);
        return false;
    }
    return whole_file_end(&w->file, err);
}
