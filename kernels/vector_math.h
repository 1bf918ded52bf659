// exp, sin and cos, sigmoid without branches, calls or tables, so that a loop over them vectorises:
//     #pragma omp simd
//     for (size_t i = 0; i < n; i++) { y[i] = vm_exp(x[i]); }
// Each is a range reduction followed by a minimax polynomial (Lawson's iteration in 40 digits). Errors against libm in
// double: exp 1e-7 relative, sin and cos 1e-7 absolute for |x| < 1e4. A NaN comes out as NaN. Every
// comparison is written so that a NaN fails it and passes through, and so that it compiles to a min, a max or a blend.
// Nearest integers are rintf, one instruction from SSE 4.1 on, or read off a sum with 1.5 2^23, whose last place is 1.
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

ALWAYS_INLINE float vm_power_of_two(int32_t n) { return vm_from_bits((int32_t)(((uint32_t)n + 127) << 23)); }

// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln(2)/2: returns e^r, and n as an integer. For a NaN, and far outside
// exp's range, n is arbitrary.
ALWAYS_INLINE float vm_exp_rest(float x, int32_t* whole) {
    float shifted = x * 1.44269504f + 0x1.8p23f, n = shifted - 0x1.8p23f;
    float r = x - n * 0.693115234375f - n * 3.19461833e-5f; // ln 2 in two parts, the first with bits to spare for n
    float p = 1.381448391e-3f * r + 8.368780382e-3f;
    p = p * r + 4.166839398e-2f;
    p = p * r + 1.666652011e-1f;
    p = p * r + 4.999999341e-1f;
    *whole = (int32_t)((uint32_t)vm_bits(shifted) - (uint32_t)vm_bits(0x1.8p23f));
    return p * (r * r) + r + 1.0f;
}

// 2^n is applied in two factors, so that results go down through the denormals to 0 and up to infinity as libm's do.
ALWAYS_INLINE float vm_exp(float x) {
    x = vm_min(vm_max(x, -104.0f), 89.0f);
    int32_t n;
    float p = vm_exp_rest(x, &n);
    int32_t half = n >> 1;
    return p * vm_power_of_two(half) * vm_power_of_two(n - half);
}

// The same for -87 <= x <= 80, at two thirds of the cost. Of other x some number, infinity or NaN
ALWAYS_INLINE float vm_exp_within(float x) {
    int32_t n;
    float p = vm_exp_rest(x, &n);
    return p * vm_power_of_two(n);
}

// The same for x <= 0 (and up to 80), with 0 for what is below e^-87
ALWAYS_INLINE float vm_exp_negative(float x) {
    float result = vm_exp_within(x);
    return x < -87.0f ? 0 : result;
}

ALWAYS_INLINE float vm_sigmoid(float x) { return 1.0f / (1.0f + vm_exp(-x)); }

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
