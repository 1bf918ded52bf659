// Memory for tensors: 64-byte aligned (a cache line, an AVX-512 register) and zeroed, so that a vectorised loop has the
// same alignment in every run and adds in the same order.
#pragma once
#include "error.h"
#include "inlining.h"
#include <assert.h> // static_assert
#include <stdint.h>
#include <string.h>

enum { ALLOC_ALIGN = 64, ALLOC_PAGE = 4096 };

NEVER_INLINE void* alloc_aligned(size_t alignment, size_t bytes, const char* what) {
    size_t rounded = bytes ? (bytes + alignment - 1) / alignment * alignment : alignment;
    void* p = rounded >= bytes ? aligned_alloc(alignment, rounded) : NULL;
    if (!p) {
        fail(EXIT_RUN_TIME, "no memory for %s (%.1f MB): use a smaller --batch-size or model", what, bytes / 1e6);
    }
    memset(p, 0, rounded);
    return p;
}

static inline void* alloc_bytes(size_t bytes, const char* what) { return alloc_aligned(ALLOC_ALIGN, bytes, what); }

NEVER_INLINE float* alloc_floats(size_t count, const char* what) {
    if (count > SIZE_MAX / sizeof(float)) { fail(EXIT_RUN_TIME, "%s is too large for this machine's addresses", what); }
    return (float*)alloc_bytes(count * sizeof(float), what);
}

// Allocates count elements of any type.
#define alloc_array(type, count, what) ((type*)alloc_bytes((size_t)(count) * sizeof(type), what))

// Memory that grows on demand, and then loses its contents
typedef struct { uint8_t* bytes; size_t size; } Room;

static inline uint8_t* room_for(Room* room, size_t bytes, const char* what) {
    if (bytes > room->size) {
        free(room->bytes);
        room->size = bytes + bytes / 4;
        room->bytes = (uint8_t*)alloc_bytes(room->size, what);
    }
    return room->bytes;
}

static inline void room_free(Room* room) {
    free(room->bytes);
    *room = (Room){0};
}

// A copy, to be freed
static inline char* copy_text(const char* text, const char* what) {
    char* copy = alloc_array(char, strlen(text) + 1, what);
    return strcpy(copy, text);
}
