// Tar archives in memory, for tests.
#pragma once
#include "../../data/shard_writer.h"

typedef struct { uint8_t* bytes; size_t count, room; } TarMaker;

static inline void tar_put(TarMaker* t, const void* bytes, size_t count) {
    size_t padded = tar_padded(count);
    if (t->count + padded > t->room) {
        t->room = 2 * (t->count + padded) + 4096;
        t->bytes = realloc(t->bytes, t->room);
        if (!t->bytes) { fail(EXIT_RUN_TIME, "no memory for a test"); }
    }
    if (count) { memcpy(t->bytes + t->count, bytes, count); }
    memset(t->bytes + t->count + count, 0, padded - count);
    t->count += padded;
}

static inline void tar_put_member(TarMaker* t, const char* name, char type, const void* bytes, size_t count) {
    char header[TAR_BLOCK];
    if (!tar_make_header(header, name, type, count)) { fail(EXIT_RUN_TIME, "%s is no name for a tar", name); }
    tar_put(t, header, TAR_BLOCK);
    tar_put(t, bytes, count);
}

static inline void tar_put_end(TarMaker* t) {
    static const char zeros[2 * TAR_BLOCK];
    tar_put(t, zeros, sizeof zeros);
}

static inline void tar_drop(TarMaker* t) {
    free(t->bytes);
    *t = (TarMaker){0};
}
