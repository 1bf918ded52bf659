// Activations between the two linear layers of an MLP, elementwise: the functions of activation_kind.h, whose maths is
// in activation_values.h, and one with a parameter,
//     prelu(x) = x for x > 0, else w x               one trained w for all channels (He et al., arXiv 1502.01852);
//                prelu'(0) = w, and dw = Σ dout x over the x <= 0
// A NaN comes out as NaN. n counts elements; every backward sets dinp, which may be dout.
#pragma once
#include "activation_kind.h"
#include "activation_values.h"
#include "partials.h"
#include <stddef.h>

enum { ACTIVATION_BLOCK = 8192 }; // elements a thread takes at once

// out = f(inp), f of this kind. Each has a loop of its own, which its formula is inlined into, so that it vectorises.
static inline void activation_forward(float* out, const float* inp, ActivationKind kind, size_t n) {
#define FORWARD_CASE(constant, name, note, function, ...) \
    case constant: \
        _Pragma("omp simd") \
        for (size_t i = first; i < last; i++) { out[i] = function##_value(inp[i]); } \
        break;
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += ACTIVATION_BLOCK) {
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        switch (kind) {
        ACTIVATIONS(FORWARD_CASE)
        case ACTIVATION_COUNT: break;
        }
    }
#undef FORWARD_CASE
}

// The forward line: dinp = dout f'(inp)
static inline void activation_backward(float* dinp, const float* dout, const float* inp, ActivationKind kind,
                                       size_t n) {
#define BACKWARD_CASE(constant, name, note, function, ...) \
    case constant: \
        _Pragma("omp simd") \
        for (size_t i = first; i < last; i++) { dinp[i] = dout[i] * function##_slope(inp[i]); } \
        break;
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += ACTIVATION_BLOCK) {
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        switch (kind) {
        ACTIVATIONS(BACKWARD_CASE)
        case ACTIVATION_COUNT: break;
        }
    }
#undef BACKWARD_CASE
}

static inline void prelu_forward(float* out, const float* inp, const float* weight /* (1) */, size_t n) {
    float w = *weight;
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += ACTIVATION_BLOCK) {
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        #pragma omp simd
        for (size_t i = first; i < last; i++) { out[i] = inp[i] > 0 ? inp[i] : w * inp[i]; }
    }
}

static inline int prelu_parts(size_t n) { return (int)((n + ACTIVATION_BLOCK - 1) / ACTIVATION_BLOCK); }

// One partial sum of dweight for each block
static inline size_t prelu_scratch(size_t n) { return (size_t)prelu_parts(n); }

// out = inp > 0 ? inp : weight inp: dinp =, dweight +=
static inline void prelu_backward(float* dinp, float* dweight, const float* dout, const float* inp, const float* weight,
                                  float* scratch, size_t n) {
    float w = *weight;
    int parts = prelu_parts(n);
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        size_t first = (size_t)part * ACTIVATION_BLOCK;
        size_t last = first + ACTIVATION_BLOCK < n ? first + ACTIVATION_BLOCK : n;
        float sum = 0;
        #pragma omp simd reduction(+:sum)
        for (size_t i = first; i < last; i++) {
            float x = inp[i], d = dout[i];
            sum += x > 0 ? 0 : d * x;
            dinp[i] = x > 0 ? d : d * w;
        }
        scratch[part] = sum;
    }
    add_partials(dweight, scratch, parts, 1);
}
