// GELU in the exact form (Hendrycks & Gimpel, arXiv 1606.08415): gelu(x) = x Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, and
// gelu'(x) = Φ(x) + x φ(x) with φ the normal density.
#pragma once
#include "vector_math.h"
#include <stddef.h>

enum { ACTIVATION_BLOCK = 8192 }; // elements a thread takes at once

static inline float normal_cdf(float x) { return 0.5f + 0.5f * vm_erf(x * 0.70710678f); }

static inline float normal_density(float x) { return 0.39894228f * vm_exp(-0.5f * x * x); }

static inline void gelu_forward(float* out, const float* inp, size_t n) {
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += ACTIVATION_BLOCK) {
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        #pragma omp simd
        for (size_t i = first; i < last; i++) { out[i] = inp[i] * normal_cdf(inp[i]); }
    }
}

// out = gelu(inp): dinp =; dinp may be dout
static inline void gelu_backward(float* dinp, const float* dout, const float* inp, size_t n) {
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += ACTIVATION_BLOCK) {
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        #pragma omp simd
        for (size_t i = first; i < last; i++) {
            float x = inp[i];
            dinp[i] = dout[i] * (normal_cdf(x) + x * normal_density(x));
        }
    }
}
