// What happens to the flat buffers of parameters and gradients once a step, on the GPU; adamw.h has the maths.
//
//     global_norm     √Σ grads², and the factor that clips it: both stay on the device, so that the host need not wait
//     adamw_update    AdamW on a span of parameters that share a decay setting, their moving average, and the bf16 copy
//                     that the matrix products read: one pass
//
// All but that copy is fp32. Bytes moved a parameter: norm 4; update 28, with the average 8 more, with the copy 2.
#pragma once
#include "cuda_common.cuh"

enum { NORM_BLOCKS = 8 }; // on a multiprocessor

// partials[blockIdx.x] = Σ grads² of the elements the block's threads meet
__global__ void sum_of_squares_kernel(double* partials, const float* grads, size_t n) {
    double sum = 0;
    for (size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x; i < n; i += (size_t)gridDim.x * BLOCK) {
        sum += (double)grads[i] * grads[i];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) { partials[blockIdx.x] = sum; }
}

__global__ void norm_and_scale_kernel(double* norm, float* grad_scale, const double* partials, int parts, double clip) {
    double sum = 0;
    for (int part = threadIdx.x; part < parts; part += BLOCK) { sum += partials[part]; }
    double length = sqrt(block_sum(sum));
    if (threadIdx.x == 0) {
        *norm = length;
        *grad_scale = clip > 0 && length > clip ? (float)(clip / length) : 1;
    }
}

static inline size_t global_norm_scratch(size_t n) { return (size_t)blocks_for(n, BLOCK, NORM_BLOCKS); } // doubles

// norm (1) = √Σ grads²; grad_scale (1) = what brings it down to clip; 1 if it is below, or if clip is 0. A NaN comes
// through.
static inline void global_norm(double* norm, float* grad_scale, const float* grads, double* scratch, size_t n,
                               double clip, cudaStream_t stream) {
    int blocks = blocks_for(n, BLOCK, NORM_BLOCKS);
    sum_of_squares_kernel<<<blocks, BLOCK, 0, stream>>>(scratch, grads, n);
    CUDA_CHECK_LAUNCH();
    norm_and_scale_kernel<<<1, BLOCK, 0, stream>>>(norm, grad_scale, scratch, blocks, clip);
    CUDA_CHECK_LAUNCH();
}

// What is the same for all elements of a step
struct AdamWStep {
    float step, v_scale, decay; // lr / (1-β1^t), 1 / √(1-β2^t), 1 - lr wd
    float beta1, beta2, eps, ema_decay;
};

__global__ void adamw_kernel(float* params, float* m, float* v, float* ema, bf16* low, const float* grads, size_t n,
                             AdamWStep s, const float* grad_scale) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) { return; }
    float g = *grad_scale * grads[i], mean = m[i], square = v[i];
    mean += (1 - s.beta1) * (g - mean);
    square += (1 - s.beta2) * (g * g - square);
    float p = s.decay * params[i] - s.step * mean / (sqrtf(square) * s.v_scale + s.eps);
    m[i] = mean;
    v[i] = square;
    params[i] = p;
    if (ema) { ema[i] += (1 - s.ema_decay) * (p - ema[i]); }
    if (low) { low[i] = __float2bfloat16(p); }
}

// The n elements of one span. g = grad_scale grads; step t counts from 1:
//     m = β1 m + (1-β1) g,  v = β2 v + (1-β2) g²
//     p = p (1 - lr wd) - lr / (1-β1^t) m / (√v / √(1-β2^t) + eps)
//     ema = ema_decay ema + (1 - ema_decay) p,  low = p in bf16;  either may be NULL
static inline void adamw_update(float* params, float* m, float* v, float* ema, bf16* low, const float* grads, size_t n,
                                float lr, float beta1, float beta2, float eps, float weight_decay, float ema_decay,
                                const float* grad_scale, int64_t t, cudaStream_t stream) {
    AdamWStep step = {
        (float)(lr / (1 - pow(beta1, (double)t))), (float)(1 / sqrt(1 - pow(beta2, (double)t))),
        (float)(1 - (double)lr * weight_decay), beta1, beta2, eps, ema_decay,
    };
    adamw_kernel<<<ceil_div(n, BLOCK), BLOCK, 0, stream>>>(params, m, v, ema, low, grads, n, step, grad_scale);
    CUDA_CHECK_LAUNCH();
}

__global__ void bf16_copy_kernel(bf16* low, const float* params, size_t n) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) { low[i] = __float2bfloat16(params[i]); }
}

// low (n) = params (n) in bf16, where no update has written it
static inline void bf16_copy(bf16* low, const float* params, size_t n, cudaStream_t stream) {
    bf16_copy_kernel<<<ceil_div(n, (size_t)BLOCK), BLOCK, 0, stream>>>(low, params, n);
    CUDA_CHECK_LAUNCH();
}
