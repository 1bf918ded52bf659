// What happens to the flat buffers of parameters and gradients once a step: AdamW, that is Adam with decoupled weight
// decay (Loshchilov & Hutter, arXiv 1711.05101; the arithmetic is PyTorch's), the moving average of the parameters, the
// norm of the gradients, and the search for a NaN.
#pragma once
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A buffer is cut into so many parts for any number of threads; a part begins at buffer_part(n, part).
enum { BUFFER_PARTS = 64 };

static inline size_t buffer_part(size_t n, int part) {
    return n / BUFFER_PARTS * part + n % BUFFER_PARTS * part / BUFFER_PARTS;
}

// The n elements of one span that share a decay setting. g = grad_scale * grads; step t counts from 1:
//     m = β1 m + (1-β1) g,  v = β2 v + (1-β2) g²
//     p = p (1 - lr wd) - lr / (1-β1^t) m / (√v / √(1-β2^t) + eps)
static inline void adamw_update(float* params, float* m, float* v, const float* grads, size_t n, float lr, float beta1,
                                float beta2, float eps, float weight_decay, float grad_scale, int64_t t) {
    float step = (float)(lr / (1 - pow(beta1, (double)t)));
    float v_scale = (float)(1 / sqrt(1 - pow(beta2, (double)t)));
    float decay = (float)(1 - (double)lr * weight_decay);
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < BUFFER_PARTS; part++) {
        size_t last = buffer_part(n, part + 1);
        #pragma omp simd
        for (size_t i = buffer_part(n, part); i < last; i++) {
            float g = grad_scale * grads[i];
            m[i] += (1 - beta1) * (g - m[i]);
            v[i] += (1 - beta2) * (g * g - v[i]);
            params[i] = decay * params[i] - step * m[i] / (sqrtf(v[i]) * v_scale + eps);
        }
    }
}

// ema = decay ema + (1 - decay) params
static inline void ema_update(float* ema, const float* params, size_t n, float decay) {
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < BUFFER_PARTS; part++) {
        size_t last = buffer_part(n, part + 1);
        #pragma omp simd
        for (size_t i = buffer_part(n, part); i < last; i++) { ema[i] += (1 - decay) * (params[i] - ema[i]); }
    }
}

// √Σ grads², in double, the parts added in order; a NaN or Inf comes through
static inline double global_norm(const float* grads, size_t n) {
    double squares[BUFFER_PARTS], total = 0;
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < BUFFER_PARTS; part++) {
        double sum = 0;
        size_t last = buffer_part(n, part + 1);
        #pragma omp simd reduction(+:sum)
        for (size_t i = buffer_part(n, part); i < last; i++) { sum += (double)grads[i] * grads[i]; }
        squares[part] = sum;
    }
    for (int part = 0; part < BUFFER_PARTS; part++) { total += squares[part]; }
    return sqrt(total);
}

// Index of the first NaN or Inf, n when there is none
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
