// exp, erf, sin and cos, sigmoid without branches, calls or tables, so that a loop over them vectorises:
//     #pragma omp simd
//     for (size_t i = 0; i < n; i++) { y[i] = vm_exp(x[i]); }
// Each is a range reduction followed by a minimax polynomial (Lawson's iteration in 40 digits). Errors against libm in
// double: exp 1e-7 relative, erf 4e-7, sin and cos 1e-7 absolute for |x| < 1e4. A NaN comes out as NaN. Every
// comparison is written so that a NaN fails it and passes through, and so that it compiles to a min, a max or a blend.
// Rounding is rintf, which is one instruction from SSE 4.1 on and honours every flag the compiler may be given.
#pragma once
#include "../runtime/inlining.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

ALWAYS_INLINE int32_t vm_bits(float x) {
    int32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

ALWAYS_INLINE float vm_from_bits(int32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

ALWAYS_INLINE float vm_min(float x, float high) { return high < x ? high : x; } // a NaN x stays
ALWAYS_INLINE float vm_max(float x, float low) { return low > x ? low : x; }

// Nearest integer as int, for a NaN some number: the caller's float result is NaN by itself then.
ALWAYS_INLINE int32_t vm_to_int(float rounded) {
    rounded = rounded > -0x1p30f ? rounded : -0x1p30f; // the other way round than vm_max: a NaN becomes a number
    return (int32_t)vm_min(rounded, 0x1p30f);
}

ALWAYS_INLINE float vm_power_of_two(int32_t n) { return vm_from_bits((int32_t)((uint32_t)(n + 127) << 23)); }

// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2. 2^n is applied in two factors, so that results go down through
// the denormals to 0 and up to infinity as libm's do.
ALWAYS_INLINE float vm_exp(float x) {
    x = vm_min(vm_max(x, -104.0f), 89.0f);
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693115234375f - n * 3.19461833e-5f; // ln 2 in two parts, the first with bits to spare for n
    float p = 1.381448391e-3f * r + 8.368780382e-3f;
    p = p * r + 4.166839398e-2f;
    p = p * r + 1.666652011e-1f;
    p = p * r + 4.999999341e-1f;
    p = p * (r * r) + r + 1.0f;
    int32_t whole = vm_to_int(n), half = whole >> 1;
    return p * vm_power_of_two(half) * vm_power_of_two(whole - half);
}

ALWAYS_INLINE float vm_sigmoid(float x) { return 1.0f / (1.0f + vm_exp(-x)); }

// erf(x) = x P(x^2) / Q(x^2) on |x| <= 4, where 1 - erf is below half a unit in the last place
ALWAYS_INLINE float vm_erf(float x) {
    x = vm_min(vm_max(x, -4.0f), 4.0f);
    float t = x * x;
    float p = 1.911029873e-8f * t - 1.941927707e-6f;
    p = p * t + 1.47217096e-4f;
    p = p * t + 3.987976684e-3f;
    p = p * t + 5.151696609e-2f;
    p = p * t + 2.070665344e-1f;
    p = p * t + 1.128379096f;
    float q = 1.020458511e-3f * t + 1.495293176e-2f;
    q = q * t + 1.179463222e-1f;
    q = q * t + 5.168392083e-1f;
    q = q * t + 1.0f;
    return vm_min(vm_max(x * p / q, -1.0f), 1.0f);
}

// x = n pi/2 + r, |r| <= pi/4; n's two low bits say which of sin r and cos r goes where and with what sign.
// pi/2 is subtracted in three parts, the first two short, so that n times either is exact without a fused multiply-add
// too. Beyond |x| = 1e4 the reduction loses digits (1e-6 at 1e5); results stay within [-1, 1] whatever x is: r is held
// within 0.8, as an integer, since gcc makes several branches of a float that is held between two constants, and
// `lost` brings a NaN back. n's low bits are read off n + 1.5 2^23, whose last place is 1.
ALWAYS_INLINE void vm_sincos(float x, float* sine, float* cosine) {
    float n = rintf(x * 0.636619772f);
    float r = x - n * 1.5703125f;
    r = r - n * 4.8375129699707e-4f;
    r = r - n * 7.549790126e-8f;
    float lost = r - r;
    int32_t sign = vm_bits(r) & INT32_MIN, size = vm_bits(r) & INT32_MAX, high = vm_bits(0.8f);
    r = vm_from_bits((size < high ? size : high) | sign);
    float t = r * r + lost;
    float s = (-1.949495006e-4f * t + 8.331973263e-3f) * t - 1.666665057e-1f;
    s = s * (t * r) + r;
    float c = (2.443772901e-5f * t - 1.388736144e-3f) * t + 4.166664675e-2f;
    c = (c * t - 0.5f) * t + 1.0f;
    int32_t quarter = vm_bits(n + 0x1.8p23f);
    int32_t sine_bits = vm_bits(quarter & 1 ? c : s), cosine_bits = vm_bits(quarter & 1 ? s : c);
    *sine = vm_from_bits(sine_bits ^ (int32_t)((uint32_t)(quarter & 2) << 30));
    *cosine = vm_from_bits(cosine_bits ^ (int32_t)((uint32_t)((quarter + 1) & 2) << 30));
}

// ---- Reductions over a row, in VM_LANES running values that are joined at the end: compilers keep the order of float
// additions, so it is written in the order that vectorises, and it is the same order on every machine.
enum { VM_LANES = 16 };

static inline float vm_row_max(const float* x, int n) {
    float lane[VM_LANES], high = x[0];
    int i = 0;
    for (int l = 0; l < VM_LANES; l++) { lane[l] = high; }
    for (; i + VM_LANES <= n; i += VM_LANES) {
        for (int l = 0; l < VM_LANES; l++) { lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l]; }
    }
    for (int l = 0; l < VM_LANES; l++) { high = lane[l] > high ? lane[l] : high; }
    for (; i < n; i++) { high = x[i] > high ? x[i] : high; }
    return high;
}

static inline float vm_row_sum(const float* x, int n) {
    float lane[VM_LANES] = {0}, sum = 0;
    int i = 0;
    for (; i + VM_LANES <= n; i += VM_LANES) {
        for (int l = 0; l < VM_LANES; l++) { lane[l] += x[i + l]; }
    }
    for (int l = 0; l < VM_LANES; l++) { sum += lane[l]; }
    for (; i < n; i++) { sum += x[i]; }
    return sum;
}

static inline float vm_row_dot(const float* x, const float* y, int n) {
    float lane[VM_LANES] = {0}, sum = 0;
    int i = 0;
    for (; i + VM_LANES <= n; i += VM_LANES) {
        for (int l = 0; l < VM_LANES; l++) { lane[l] += x[i + l] * y[i + l]; }
    }
    for (int l = 0; l < VM_LANES; l++) { sum += lane[l]; }
    for (; i < n; i++) { sum += x[i] * y[i]; }
    return sum;
}
