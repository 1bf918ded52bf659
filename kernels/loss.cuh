// Cross entropy against soft targets on the GPU, forward and backward in one; loss.h has the maths.
//
//     loss_b = Σ_k target_k (log Σ_j e^z_j - z_k),   dlogits = dloss (softmax(z) Σ target - target)
//
// A block handles a row of K classes. logits, targets and losses are fp32; dlogits goes into the backward of the head
// and is stored as T. Bytes moved per element: 8 + sizeof(T); later reads of a row are from cache.
#pragma once
#include "cuda_common.cuh"
#include <math.h>

struct RowOfLogits {
    float largest, sum, targets, loss; // sum: Σ e^(z - largest); targets: their sum
};

// A NaN or +Inf logit makes the loss NaN: the largest ignores a NaN, the sum does not.
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

// rank_of_label of loss.h, for every thread
__device__ inline float rank_in_row(const float* z, int K, int label) {
    float rank = 0;
    for (int k = threadIdx.x; k < K; k += BLOCK) { rank += k < label ? !(z[k] < z[label]) : !(z[k] <= z[label]); }
    return block_sum(rank);
}

template <class T>
__global__ void cross_entropy_kernel(float* losses, float* hits, T* dlogits, const float* logits, const float* targets,
                                     const int* labels, float dloss, int K) {
    size_t at = (size_t)blockIdx.x * K;
    RowOfLogits row = row_of_logits(logits + at, targets + at, K);
    if (dlogits) {
        float scale = row.targets / row.sum, weight = isfinite(row.loss) ? dloss : NAN;
        for (int k = threadIdx.x; k < K; k += BLOCK) {
            dlogits[at + k] = from_float<T>(weight * (expf(logits[at + k] - row.largest) * scale - targets[at + k]));
        }
    }
    bool hit = labels && rank_in_row(logits + at, K, labels[blockIdx.x]) == 0;
    if (threadIdx.x == 0) {
        losses[blockIdx.x] = row.loss;
        if (labels) { hits[blockIdx.x] = hit; }
    }
}

// losses (B) =; dlogits (B, K) =, dloss being the weight of each sample's loss, 1/B for their mean; hits (B) = 1 if the
// label has the largest logit, else 0. dlogits may be NULL, labels and hits too. A loss that is not finite has a NaN
// gradient, so that the norm of all gradients shows it.
template <class T>
inline void cross_entropy(float* losses, float* hits, T* dlogits, const float* logits, const float* targets,
                          const int* labels, float dloss, int B, int K, cudaStream_t stream) {
    cross_entropy_kernel<<<B, BLOCK, 0, stream>>>(losses, hits, dlogits, logits, targets, labels, dloss, K);
    CUDA_CHECK_LAUNCH();
}

__global__ void add_batch_kernel(double* loss, double* hits, const float* batch_losses, const float* batch_hits,
                                 int B) {
    double loss_here = 0, hits_here = 0;
    for (int b = threadIdx.x; b < B; b += BLOCK) {
        loss_here += batch_losses[b];
        hits_here += batch_hits[b];
    }
    loss_here = block_sum(loss_here);
    hits_here = block_sum(hits_here);
    if (threadIdx.x == 0) {
        *loss += loss_here;
        *hits += hits_here;
    }
}

// loss (1) and hits (1) += the sums over a batch, of (B) each
static inline void add_batch(double* loss, double* hits, const float* batch_losses, const float* batch_hits, int B,
                             cudaStream_t stream) {
    add_batch_kernel<<<1, BLOCK, 0, stream>>>(loss, hits, batch_losses, batch_hits, B);
    CUDA_CHECK_LAUNCH();
}
