// Cross entropy against soft targets on the GPU; loss.h has the maths.
//
//     loss_b = Σ_k target_k (log Σ_j e^z_j - z_k),   dlogits = dloss (softmax(z) Σ target - target)
//
// A block takes a row of K classes. logits, targets, losses and probs are fp32; dlogits goes into the backward of the
// head and is stored as T. In training cross_entropy does both directions at once and moves 8 + sizeof(T) bytes an
// element (later readings of a row find it in the cache); the single functions have the names of loss.h.
#pragma once
#include "cuda_common.cuh"

struct RowOfLogits {
    float largest, sum, targets, loss; // sum: Σ e^(z - largest); targets: their sum
};

// A NaN or +Inf logit makes the loss NaN: the largest passes over a NaN, the sum does not
__device__ inline RowOfLogits row_of_logits(const float* z, const float* target, int K) {
    float largest = -INFINITY, sum = 0, targets = 0, weighted = 0;
    for (int k = threadIdx.x; k < K; k += BLOCK) { largest = fmaxf(largest, z[k]); }
    largest = block_max(largest);
    for (int k = threadIdx.x; k < K; k += BLOCK) {
        sum += expf(z[k] - largest);
        targets += target[k];
        weighted += target[k] * (z[k] - largest);
    }
    sum = block_sum(sum);
    targets = block_sum(targets);
    weighted = block_sum(weighted);
    return {largest, sum, targets, targets * logf(sum) - weighted};
}

__global__ void cross_entropy_forward_kernel(float* losses, float* probs, const float* logits, const float* targets,
                                             int K) {
    size_t at = (size_t)blockIdx.x * K;
    RowOfLogits row = row_of_logits(logits + at, targets + at, K);
    float scale = 1 / row.sum;
    for (int k = threadIdx.x; k < K; k += BLOCK) { probs[at + k] = expf(logits[at + k] - row.largest) * scale; }
    if (threadIdx.x == 0) { losses[blockIdx.x] = row.loss; }
}

// losses (B); probs (B, K) = softmax(logits (B, K)) is kept for the backward
static inline void cross_entropy_forward(float* losses, float* probs, const float* logits, const float* targets, int B,
                                         int K, cudaStream_t stream) {
    cross_entropy_forward_kernel<<<B, BLOCK, 0, stream>>>(losses, probs, logits, targets, K);
    CUDA_CHECK_LAUNCH();
}

template <class T>
__global__ void cross_entropy_backward_kernel(T* dlogits, const float* probs, const float* targets, float dloss,
                                              int K) {
    size_t at = (size_t)blockIdx.x * K;
    float total = 0;
    for (int k = threadIdx.x; k < K; k += BLOCK) { total += targets[at + k]; }
    total = block_sum(total);
    for (int k = threadIdx.x; k < K; k += BLOCK) {
        dlogits[at + k] = from_float<T>(dloss * (probs[at + k] * total - targets[at + k]));
    }
}

// dlogits (B, K) = dloss (probs Σ target - target); dloss is what each sample's loss weighs, 1/B for their mean
template <class T>
inline void cross_entropy_backward(T* dlogits, const float* probs, const float* targets, float dloss, int B, int K,
                                   cudaStream_t stream) {
    cross_entropy_backward_kernel<<<B, BLOCK, 0, stream>>>(dlogits, probs, targets, dloss, K);
    CUDA_CHECK_LAUNCH();
}

template <class T>
__global__ void cross_entropy_kernel(float* losses, T* dlogits, const float* logits, const float* targets, float dloss,
                                     int K) {
    size_t at = (size_t)blockIdx.x * K;
    RowOfLogits row = row_of_logits(logits + at, targets + at, K);
    float scale = row.targets / row.sum;
    for (int k = threadIdx.x; k < K; k += BLOCK) {
        dlogits[at + k] = from_float<T>(dloss * (expf(logits[at + k] - row.largest) * scale - targets[at + k]));
    }
    if (threadIdx.x == 0) { losses[blockIdx.x] = row.loss; }
}

// Forward and backward in one: losses (B) =, dlogits (B, K) =
template <class T>
inline void cross_entropy(float* losses, T* dlogits, const float* logits, const float* targets, float dloss, int B,
                          int K, cudaStream_t stream) {
    cross_entropy_kernel<<<B, BLOCK, 0, stream>>>(losses, dlogits, logits, targets, dloss, K);
    CUDA_CHECK_LAUNCH();
}
