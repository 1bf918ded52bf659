// A vector register of floats, by the vector types of gcc and clang. Loops over arrays vectorise by themselves; these
// types are for loops that must keep many sums in registers from one iteration to the next, where the compilers would
// write arrays to memory: the coefficient sums of the rational and the tile of the matrix product.
//
// A register has 16 lanes with AVX-512, 8 with AVX, and 4 elsewhere (SSE, NEON).
#pragma once
#include "../runtime/inlining.h"
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t LaneBits __attribute__((vector_size(LANES * sizeof(int32_t))));

ALWAYS_INLINE Lanes splat(float value) { return value - (Lanes){0}; }

ALWAYS_INLINE Lanes lanes_abs(Lanes x) { return (Lanes)((LaneBits)x & INT32_MAX); }

ALWAYS_INLINE Lanes negate_where_negative(Lanes x, Lanes sign) {
    return (Lanes)((LaneBits)x ^ ((sign < 0) & INT32_MIN));
}

ALWAYS_INLINE Lanes load_lanes(const float* p, int count) { // the missing lanes are zero
    Lanes x = {0};
    if (count >= LANES) { memcpy(&x, p, sizeof x); } else { memcpy(&x, p, count * sizeof(float)); }
    return x;
}

// The same if LANES numbers may be read: no call is needed, nor a vector assembled in memory
ALWAYS_INLINE Lanes load_first_lanes(const float* p, int count) {
    Lanes x = load_lanes(p, LANES);
    LaneBits number;
    UNROLLED
    for (int i = 0; i < LANES; i++) { number[i] = i; }
    return count >= LANES ? x : (Lanes)((LaneBits)x & (number < count));
}

ALWAYS_INLINE void store_lanes(float* p, Lanes x, int count) {
    if (count >= LANES) {
        memcpy(p, &x, sizeof x);
    } else if (count == LANES / 2) {
        memcpy(p, &x, sizeof x / 2);
    } else {
        memcpy(p, &x, count * sizeof(float));
    }
}

// Four of the eight numbers of two vectors of four, by their indices 0..7
#ifdef __clang__
#define SHUFFLE4(x, y, i, j, k, l) __builtin_shufflevector(x, y, i, j, k, l)
#else
#define SHUFFLE4(x, y, i, j, k, l) \
    __builtin_shuffle(x, y, (int32_t __attribute__((vector_size(16)))){i, j, k, l})
#endif

static inline float lanes_sum(Lanes x) {
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++) { sum += x[lane]; }
    return (float)sum;
}
