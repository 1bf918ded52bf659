// Cross entropy against soft targets (label smoothing, mixup, cutmix): loss_b = Σ_k target_k (log Σ_j e^z_j - z_k).
// Usually a row of targets sums to 1; the formulas below hold for any sum.
#pragma once
#include "vector_math.h"
#include <math.h>
#include <stddef.h>

// losses (B); probs (B, K) = softmax(logits (B, K)) is kept for the backward. A NaN or +Inf logit makes the loss NaN.
static inline void cross_entropy_forward(float* losses, float* probs, const float* logits, const float* targets,
                                         int B, int K) {
    #pragma omp parallel for schedule(static)
    for (int b = 0; b < B; b++) {
        const float *z = logits + (size_t)b * K, *target = targets + (size_t)b * K;
        float *p = probs + (size_t)b * K, largest = z[0];
        for (int k = 1; k < K; k++) { largest = z[k] > largest ? z[k] : largest; }
        #pragma omp simd
        for (int k = 0; k < K; k++) { p[k] = vm_exp(z[k] - largest); }
        double sum = 0, loss = 0;
        for (int k = 0; k < K; k++) { sum += p[k]; }
        double log_sum = log(sum);
        for (int k = 0; k < K; k++) { loss += target[k] * (log_sum - ((double)z[k] - largest)); }
        float scale = (float)(1 / sum);
        for (int k = 0; k < K; k++) { p[k] *= scale; }
        losses[b] = (float)loss;
    }
}

// dlogits (B, K) = dloss (probs Σ target - target); dloss is the weight of each sample's loss, 1/B for their mean
static inline void cross_entropy_backward(float* dlogits, const float* probs, const float* targets, float dloss,
                                          int B, int K) {
    #pragma omp parallel for schedule(static)
    for (int b = 0; b < B; b++) {
        size_t at = (size_t)b * K;
        double sum = 0;
        for (int k = 0; k < K; k++) { sum += targets[at + k]; }
        float total = (float)sum;
        for (int k = 0; k < K; k++) { dlogits[at + k] = dloss * (probs[at + k] * total - targets[at + k]); }
    }
}

// How many classes come before the label: 0 is a top-1 hit, below k a top-k hit. Equal logits keep their order. A NaN
// comes before everything, even as the label's own, so that it is never a hit.
static inline int rank_of_label(const float* logits, int K, int label) {
    int rank = 0;
    for (int k = 0; k < K; k++) {
        rank += k < label ? !(logits[k] < logits[label]) : !(logits[k] <= logits[label]);
    }
    return rank;
}
