// What a step adds up after its backward, on the GPU: gradients, in the order of runtime/tree.h, and the counts of its
// micro-batches.
//
//     add_left      right = left + right
//     add_counts    the sums of A micro-batches, one after the other; the first signal reported by one of them
//
// Bytes moved per gradient: 12.
#pragma once
#include "../model/step.h"
#include "cuda_common.cuh"

__global__ void add_left_kernel(float* right, const float* left, size_t n) {
    size_t i = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * 4;
    float l[4], r[4];
    if (i >= n) { return; }
    load(l, left + i);
    load(r, right + i);
    for (int k = 0; k < 4; k++) { r[k] = l[k] + r[k]; }
    store(right + i, r);
}

// right (n) += left (n): n is a multiple of 4, and both are aligned to 4 floats
static inline void add_left(float* right, const float* left, size_t n, cudaStream_t stream) {
    if (n == 0) { return; }
    add_left_kernel<<<ceil_div(n / 4, (size_t)BLOCK), BLOCK, 0, stream>>>(right, left, n);
    CUDA_CHECK_LAUNCH();
}

__global__ void add_counts_kernel(StepSums* sums, const MicroSums* counted, int A) {
    double loss = 0, hits = 0;
    int stop = 0;
    for (int i = 0; i < A; i++) {
        loss += counted[i].loss, hits += counted[i].hits;
        stop = stop ? stop : counted[i].stop;
    }
    sums->loss = loss;
    sums->hits = hits;
    sums->stop = stop;
}

// sums: of counted (A), in order
static inline void add_counts(StepSums* sums, const MicroSums* counted, int A, cudaStream_t stream) {
    add_counts_kernel<<<1, 1, 0, stream>>>(sums, counted, A);
    CUDA_CHECK_LAUNCH();
}
