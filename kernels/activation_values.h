// The activations of activation_kind.h and their slopes, of one number: NAME_value and NAME_slope, for the CPU and, in
// what nvcc compiles, for the GPU. The formulas are the same for both; what they are made of comes first, in two forms.
// A NaN comes out as NaN.
#pragma once

#if defined(__CUDACC__) || defined(CUDA_EMU)
#include "cuda_common.cuh"
#define ACTIVATION_FUNCTION static __device__ inline

ACTIVATION_FUNCTION float fast_exp(float x) { return __expf(x); }
ACTIVATION_FUNCTION float fast_quotient(float x, float y) { return __fdividef(x, y); }
ACTIVATION_FUNCTION float fast_reciprocal(float x) { return reciprocal(x); }
ACTIVATION_FUNCTION float positive_part(float x) { return fmaxf(x, 0); } // of a NaN 0 here

ACTIVATION_FUNCTION float fast_exp2(float x) { // 2 ulp; 0 for x < -126
#ifdef CUDA_EMU
    return x < -126 ? 0 : exp2f(x);
#else
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#endif
}
ACTIVATION_FUNCTION float fast_bell(float x) { return fast_exp2(-0.72134752f * x * x); } // e^(-x²/2)
ACTIVATION_FUNCTION float fast_bell_within(float x) { return fast_bell(x); } // right for |x| <= 13.19

#else
#include "vector_math.h"
#include <stdbool.h>
#define ACTIVATION_FUNCTION ALWAYS_INLINE

ACTIVATION_FUNCTION float fast_exp(float x) { return vm_exp(x); }
ACTIVATION_FUNCTION float fast_quotient(float x, float y) { return x / y; }
ACTIVATION_FUNCTION float fast_reciprocal(float x) { return 1 / x; }
ACTIVATION_FUNCTION float positive_part(float x) { return x < 0 ? 0 : x; }
ACTIVATION_FUNCTION float fast_bell(float x) { return vm_exp_negative(-0.5f * x * x); }
ACTIVATION_FUNCTION float fast_bell_within(float x) { return vm_exp_within(-0.5f * x * x); }
#endif

// gelu(x) = x Φ(x), Φ(x) = (1 + erf(x/√2)) / 2: the exact form (Hendrycks & Gimpel, arXiv 1606.08415);
// gelu'(x) = Φ(x) + x φ(x) with φ the normal density.
// With erf these would cost up to twice the instructions, and on the GPU they would take longer than the memory
// traffic. Φ(-|x|) = φ(x) times a polynomial in 1 / (1 + c |x|) is accurate to 7.5e-8 (Abramowitz & Stegun 26.2.17),
// and shares √2π φ(x) = e^(-x²/2) with the slope. The coefficients are theirs / √2π.
typedef struct { float tail, bell; } Normal; // Φ(-|x|), √2π φ(x)
ACTIVATION_FUNCTION Normal normal_of(float x, bool within) { // within: right for |x| <= 13.19 alone
    float t = fast_reciprocal(1 + 0.2316419f * fabsf(x)), bell = within ? fast_bell_within(x) : fast_bell(x);
    float tail = t * (0.127414796f + t * (-0.142248368f + t * (0.710706871f + t * (-0.726576013f
                 + t * 0.530702714f)))) * bell;
    return (Normal){tail, bell};
}
// Beyond |x| = 13.19, where a float cannot hold the tail, it is max(x, 0), which is right at infinity as well.
ACTIVATION_FUNCTION float gelu_value(float x) {
    float part = positive_part(x), value = part - fabsf(x) * normal_of(x, true).tail;
    return fabsf(x) > 13.19f ? part : value;
}
ACTIVATION_FUNCTION float gelu_slope(float x) {
    Normal n = normal_of(x, false);
    return 0.39894228f * x * n.bell + (x < 0 ? n.tail : 1 - n.tail);
}

ACTIVATION_FUNCTION float sigmoid(float x) { return fast_quotient(1, 1 + fast_exp(-x)); }

// relu(x) = max(x, 0), relu'(0) = 0
ACTIVATION_FUNCTION float relu_value(float x) { return x < 0 ? 0 : x; } // this way round a NaN stays
ACTIVATION_FUNCTION float relu_slope(float x) { return x > 0 ? 1 : 0; }

// silu(x) = x s(x), s(x) = 1 / (1 + e^-x), silu'(x) = s(x) (1 + x (1 - s(x))); also called swish
ACTIVATION_FUNCTION float silu_value(float x) { return x * sigmoid(x); }
ACTIVATION_FUNCTION float silu_slope(float x) {
    float s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

// softplus(x) = log(1 + e^x) = max(x, 0) + log(1 + t), t = e^-|x|, of which neither tail overflows or loses digits;
// softplus'(x) = 1 / (1 + e^-x). log(1 + t) = 2 artanh(s), s = t / (2 + t) <= 1/3: a polynomial in s², right to 4e-9
ACTIVATION_FUNCTION float softplus_value(float x) {
    float t = fast_exp(-fabsf(x)), s = fast_quotient(t, 2 + t), u = s * s;
    float rest = s * (2 + u * (0.66666315f + u * (0.40024910f + u * (0.27960603f + u * 0.28178335f))));
    return x > 0 ? x + rest : rest;
}
ACTIVATION_FUNCTION float softplus_slope(float x) { return sigmoid(x); }
