// The activations of activation.h and their slopes, of one number.
#pragma once
#include "vector_math.h"

static inline float normal_cdf(float x) { return 0.5f + 0.5f * vm_erf(x * 0.70710678f); }

static inline float normal_density(float x) { return 0.39894228f * vm_exp(-0.5f * x * x); }

static inline float gelu_value(float x) { return x * normal_cdf(x); }
static inline float gelu_slope(float x) { return normal_cdf(x) + x * normal_density(x); }

static inline float relu_value(float x) { return x < 0 ? 0 : x; } // this way round a NaN stays
static inline float relu_slope(float x) { return x > 0 ? 1 : 0; }

static inline float silu_value(float x) { return x * vm_sigmoid(x); }
static inline float silu_slope(float x) {
    float s = vm_sigmoid(x);
    return s * (1 + x * (1 - s));
}
