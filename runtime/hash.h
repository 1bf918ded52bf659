// 64-bit FNV-1a: tells whether two processes, or two files, hold the same data; no protection against tampering.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static const uint64_t hash_start = 14695981039346656037u;

static inline uint64_t hash_bytes(uint64_t hash, const void* bytes, size_t count) {
    for (size_t i = 0; i < count; i++) { hash = (hash ^ ((const uint8_t*)bytes)[i]) * 1099511628211u; }
    return hash;
}

// One float at a time
static inline uint64_t hash_floats(uint64_t hash, const float* x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = (hash ^ bits) * 1099511628211u;
    }
    return hash;
}
