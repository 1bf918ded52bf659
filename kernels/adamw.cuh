// What is done with the flat buffers of parameters and gradients once per step, on the GPU; adamw.h has the maths.
//
//     granule_squares   Σ grads² of each granule
//     norm_and_scale    from these, √Σ grads², and the factor that clips it: both stay on the device, so that the
//                       host need not wait
//     adamw_update      AdamW on parameters, their moving average, the bf16 copy that the matrix products read, and the
//                       gradients back to zero: in one pass; nothing if the norm is not finite
//
// Each of several ranks does that for what it owns.
//
// All is fp32 except that copy. Bytes moved per parameter: norm 4; update 32, 8 more with the average, 2 with the copy.
#pragma once
#include "adamw_step.h"
#include "cuda_common.cuh"
#include <math.h>

static_assert((int)BLOCK == (int)GROUP_FLOATS, "a block updates what it treats alike");

__global__ void granule_squares_kernel(double* squares, const float* grads, const Slice* granules) {
    enum { OF_THREAD = (int)GRANULE_FLOATS / (int)BLOCK };
    size_t first = granules[blockIdx.x].first + threadIdx.x, end = granules[blockIdx.x].end;
    float g[OF_THREAD];
    double sum = 0;
    #pragma unroll
    for (int k = 0; k < OF_THREAD; k++) { g[k] = first + k * BLOCK < end ? grads[first + k * BLOCK] : 0; }
    #pragma unroll
    for (int k = 0; k < OF_THREAD; k++) { sum += (double)g[k] * g[k]; }
    sum = block_sum(sum);
    if (threadIdx.x == 0) { squares[blockIdx.x] = sum; }
}

// squares (count) = Σ grads² of the granules
static inline void granule_squares(double* squares, const float* grads, const Slice* granules, int count, cudaStream_t stream) {
    if (count == 0) { return; }
    granule_squares_kernel<<<count, BLOCK, 0, stream>>>(squares, grads, granules);
    CUDA_CHECK_LAUNCH();
}

__global__ void norm_and_scale_kernel(double* norm, float* grad_scale, const double* squares, const int* order, int count,
                                      double clip) {
    double sum = 0;
    #pragma unroll 8
    for (int i = threadIdx.x; i < count; i += BLOCK) { sum += squares[order ? order[i] : i]; }
    double length = sqrt(block_sum(sum));
    if (threadIdx.x == 0) {
        *norm = length;
        *grad_scale = !isfinite(length) ? NAN : clip > 0 && length > clip ? (float)(clip / length) : 1;
    }
}

// norm (1) = √Σ squares (count), added in this order (count), or in memory order if it is NULL; grad_scale (1) = the
// factor that reduces it to clip; 1 if it is below, or if clip is 0; NaN if the norm is not finite.
static inline void norm_and_scale(double* norm, float* grad_scale, const double* squares, const int* order, int count,
                                  double clip, cudaStream_t stream) {
    norm_and_scale_kernel<<<1, BLOCK, 0, stream>>>(norm, grad_scale, squares, order, count, clip);
    CUDA_CHECK_LAUNCH();
}

__global__ void adamw_kernel(float* params, float* m, float* v, float* ema, bf16* low, float* grads,
                             const uint8_t* groups, const uint32_t* place, size_t n, AdamW c, const AdamWStep* steps,
                             const float* grad_scale) {
    uint32_t block = place ? place[blockIdx.x] : blockIdx.x;
    size_t k = (size_t)blockIdx.x * BLOCK + threadIdx.x, i = (size_t)block * BLOCK + threadIdx.x;
    float scale = *grad_scale;
    if (k >= n || !isfinite(scale)) { return; }
    float g = scale * grads[i], mean = m[k], square = v[k];
    mean += (1 - c.beta1) * (g - mean);
    square += (1 - c.beta2) * (g * g - square);
    AdamWStep s = steps[groups[block]];
    float p = s.decay * params[i] - s.step * mean / (sqrtf(square) * s.v_scale + c.eps);
    m[k] = mean;
    v[k] = square;
    params[i] = p;
    grads[i] = 0;
    if (ema) { ema[k] += (1 - c.ema_decay) * (p - ema[k]); }
    if (low) { low[i] = __float2bfloat16(p); }
}

// g = grad_scale grads; step t counts from 1:
//     m = β1 m + (1-β1) g,  v = β2 v + (1-β2) g²
//     p = p (1 - lr wd) - lr / (1-β1^t) m / (√v / √(1-β2^t) + eps)
//     ema = ema_decay ema + (1 - ema_decay) p,  low = p in bf16;  either may be NULL
//     grads = 0
// groups: the index into steps, which have lr and wd, of each BLOCK elements. place (n / BLOCK, rounded up): which
// BLOCK elements of params, grads, low and groups correspond to those of m, v and ema (n); NULL: those at the same
// place. All and, from norm_and_scale, grad_scale (1) are on the device.
static inline void adamw_update(float* params, float* m, float* v, float* ema, bf16* low, float* grads,
                                const uint8_t* groups, const uint32_t* place, size_t n, AdamW c, const AdamWStep* steps,
                                const float* grad_scale, cudaStream_t stream) {
    if (n == 0) { return; }
    adamw_kernel<<<ceil_div(n, (size_t)BLOCK), BLOCK, 0, stream>>>(params, m, v, ema, low, grads, groups, place, n, c, steps,
                                                                   grad_scale);
    CUDA_CHECK_LAUNCH();
}

__global__ void bf16_copy_kernel(bf16* low, const float* params, size_t n) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) { low[i] = __float2bfloat16(params[i]); }
}

// low (n) = params (n) in bf16, for when no update has written it
static inline void bf16_copy(bf16* low, const float* params, size_t n, cudaStream_t stream) {
    bf16_copy_kernel<<<ceil_div(n, (size_t)BLOCK), BLOCK, 0, stream>>>(low, params, n);
    CUDA_CHECK_LAUNCH();
}
