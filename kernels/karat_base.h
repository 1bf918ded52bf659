// The base activations b(x) of basis.h on the CPU, one of which a KAN layer uses as well.
#pragma once
#include "activation_values.h"
#include "basis.h"

static inline void karat_base_forward(float* b, const float* x, int count, KaratBase base) {
    if (base == KARAT_BASE_IDENTITY) {
        memcpy(b, x, count * sizeof *b);
    } else if (base == KARAT_BASE_SILU) {
        #pragma omp simd
        for (int i = 0; i < count; i++) { b[i] = silu_value(x[i]); }
    } else if (base == KARAT_BASE_GELU) {
        #pragma omp simd
        for (int i = 0; i < count; i++) { b[i] = gelu_value(x[i]); }
    }
}

// dx += b'(x) db
static inline void karat_base_backward(float* dx, const float* db, const float* x, int count, KaratBase base) {
    if (base == KARAT_BASE_IDENTITY) {
        for (int i = 0; i < count; i++) { dx[i] += db[i]; }
    } else if (base == KARAT_BASE_SILU) {
        #pragma omp simd
        for (int i = 0; i < count; i++) { dx[i] += db[i] * silu_slope(x[i]); }
    } else if (base == KARAT_BASE_GELU) {
        #pragma omp simd
        for (int i = 0; i < count; i++) { dx[i] += db[i] * gelu_slope(x[i]); }
    }
}
