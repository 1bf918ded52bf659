// Shared by the tests of kernels: buffers followed by sentinels, random contents, a number of threads.
#pragma once
#include "../../runtime/memory.h"
#include "../../runtime/random.h"
#include "test.h"
#ifdef _OPENMP
#include <omp.h>
#endif

enum { GUARDS = 16 };
static const float SENTINEL = -12345.678f;

static inline float* guarded_floats(size_t n) { // zeros, then sentinels
    float* p = alloc_floats(n + GUARDS, "a test buffer");
    for (size_t i = 0; i < GUARDS; i++) { p[n + i] = SENTINEL; }
    return p;
}

static inline int guards_intact(const float* p, size_t n) {
    for (size_t i = 0; i < GUARDS; i++) {
        if (p[n + i] != SENTINEL) { return 0; }
    }
    return 1;
}

static inline void fill_normal(float* p, size_t n, uint32_t tensor) {
    for (size_t i = 0; i < n; i++) { p[i] = (float)random_normal(1, STREAM_CHECK, tensor, i); }
}

static inline float* random_floats(size_t n, uint32_t tensor) { // N(0,1)
    float* p = guarded_floats(n);
    fill_normal(p, n, tensor);
    return p;
}

static inline double* zero_doubles(size_t n) { return alloc_bytes(n * sizeof(double), "a test buffer"); }

static inline int all_numbers(const float* p, size_t n) { // neither NaN nor Inf
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(p[i])) { return 0; }
    }
    return 1;
}

// Queries in qkv (B,N,3,C) beyond those of the first NQ tokens: attention neither reads nor writes them
static inline int is_unused_query(size_t i, int N, int NQ, int C) {
    return i / C % 3 == 0 && (int)(i / (3 * (size_t)C) % N) >= NQ;
}

static inline void fill_unused_queries(float* qkv, float value, int B, int N, int NQ, int C) {
    for (size_t i = 0; i < 3 * (size_t)B * N * C; i++) {
        if (is_unused_query(i, N, NQ, C)) { qkv[i] = value; }
    }
}

// Whether they are still NaN in dqkv; sets them to 0, so that they compare equal
static inline int unused_queries_intact(float* dqkv, int B, int N, int NQ, int C) {
    int intact = 1;
    for (size_t i = 0; i < 3 * (size_t)B * N * C; i++) {
        if (is_unused_query(i, N, NQ, C)) { intact &= isnan(dqkv[i]); }
    }
    fill_unused_queries(dqkv, 0, B, N, NQ, C);
    return intact;
}

static inline void use_threads(int threads) {
#ifdef _OPENMP
    omp_set_num_threads(threads);
#else
    (void)threads;
#endif
}
