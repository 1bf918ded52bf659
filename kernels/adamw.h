// What is done to the flat buffers of parameters and gradients in each step: AdamW, that is Adam with decoupled weight
// decay (Loshchilov & Hutter, arXiv 1711.05101; the arithmetic is PyTorch's), the moving average of the parameters, the
// norm of the gradients, and the search for a NaN. The first three work on parts of a fixed size, so that a process
// that has only some of the parts gets the same bits.
#pragma once
#include "adamw_step.h"
#include <float.h>
#include <stdbool.h>
#include <stddef.h>

// g = grad_scale * grads; step t counts from 1:
//     m = β1 m + (1-β1) g,  v = β2 v + (1-β2) g²
//     p = p (1 - lr wd) - lr / (1-β1^t) m / (√v / √(1-β2^t) + eps)
//     ema = ema_decay ema + (1 - ema_decay) p,  which may be NULL
// groups (n / GROUP_FLOATS, rounded up): which of steps, with its lr and wd, applies to each GROUP_FLOATS elements.
static inline void adamw_update(float* params, float* m, float* v, float* ema, const float* grads,
                                const uint8_t* groups, size_t n, AdamW c, const AdamWStep* steps, float grad_scale) {
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += GROUP_FLOATS) {
        AdamWStep s = steps[groups[first / GROUP_FLOATS]];
        size_t last = first + GROUP_FLOATS < n ? first + GROUP_FLOATS : n;
        #pragma omp simd
        for (size_t i = first; i < last; i++) {
            float g = grad_scale * grads[i];
            m[i] += (1 - c.beta1) * (g - m[i]);
            v[i] += (1 - c.beta2) * (g * g - v[i]);
            params[i] = s.decay * params[i] - s.step * m[i] / (sqrtf(v[i]) * s.v_scale + c.eps);
        }
        #pragma omp simd
        for (size_t i = first; i < (ema ? last : first); i++) { ema[i] += (1 - c.ema_decay) * (params[i] - ema[i]); }
    }
}

// squares[i] = Σ grads² of the i-th granule, in double; a NaN or Inf shows in the sum
static inline void granule_squares(double* squares, const float* grads, size_t n) {
    #pragma omp parallel for schedule(static)
    for (size_t first = 0; first < n; first += GRANULE_FLOATS) {
        size_t last = first + GRANULE_FLOATS < n ? first + GRANULE_FLOATS : n;
        double sum = 0;
        #pragma omp simd reduction(+:sum)
        for (size_t i = first; i < last; i++) { sum += (double)grads[i] * grads[i]; }
        squares[first / GRANULE_FLOATS] = sum;
    }
}

// √Σ grads², adding the granules in order
static inline double norm_of_granules(const double* squares, size_t granules) {
    double total = 0;
    for (size_t i = 0; i < granules; i++) { total += squares[i]; }
    return sqrt(total);
}

// A buffer is cut into the same parts for any number of threads; a part begins at buffer_part(n, part).
enum { BUFFER_PARTS = 64 };

static inline size_t buffer_part(size_t n, int part) {
    return n / BUFFER_PARTS * part + n % BUFFER_PARTS * part / BUFFER_PARTS;
}

// Index of the first NaN or Inf; n: there is none
static inline size_t first_not_finite(const float* x, size_t n) {
    size_t found[BUFFER_PARTS];
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < BUFFER_PARTS; part++) {
        size_t first = buffer_part(n, part), last = buffer_part(n, part + 1);
        int bad = 0;
        #pragma omp simd reduction(+:bad)
        for (size_t i = first; i < last; i++) { bad += !(fabsf(x[i]) <= FLT_MAX); }
        while (bad && fabsf(x[first]) <= FLT_MAX) { first++; }
        found[part] = bad ? first : n;
    }
    for (int part = 0; part < BUFFER_PARTS; part++) {
        if (found[part] < n) { return found[part]; }
    }
    return n;
}

static inline bool all_finite(const float* x, size_t n) { return first_not_finite(x, n) == n; }
