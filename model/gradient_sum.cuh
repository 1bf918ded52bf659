// gradient_sum.h on the GPU, where flat buffers lie. What is done to them is put on flat_stream: the step's, or the wire
// while ranks talk. The gradients of a micro-batch stay where they are, for captured graphs know their place: what waits is
// copied aside.
#pragma once
#include "../kernels/tree_sum.cuh"
#include "../runtime/device.cuh"
#include "../runtime/exchange.h"

static cudaStream_t flat_stream;

#define FLAT_ON_DEVICE
static inline void* flat_alloc(size_t bytes, const char* what) { return device_bytes(bytes, what); }
static inline void flat_free(void* flat) { CUDA_CHECK(cudaFree(flat)); }
static inline void flat_copy(float* to, const float* from, size_t n) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, n * sizeof *to, cudaMemcpyDeviceToDevice, flat_stream));
}
static inline void flat_exchange(const Message* out, int outs, const Message* in, int ins) {
    wire_exchange(out, outs, in, ins);
}
static inline void add_left(float* right, const float* left, size_t n) { add_left(right, left, n, flat_stream); }
static inline float* flat_put_aside(float** aside, float* grads, size_t n) {
    flat_copy(*aside, grads, n);
    CUDA_CHECK(cudaMemsetAsync(grads, 0, n * sizeof *grads, flat_stream));
    return grads;
}
#include "gradient_sum.h"

static_assert(offsetof(StepSums, loss) == 0 && offsetof(StepSums, hits) == sizeof(double), "as MicroSums");

// What the last micro-batch has counted: of one rank it stays in sums, and others are added there; else it goes where all
// ranks will see it.
static inline void count_micro_batch(GradientSum* s, StepSums* sums, cudaStream_t stream) {
    if (ranks.size == 1) { return; }
    CUDA_CHECK(cudaMemcpyAsync(gradient_sum_count(s), sums, sizeof(MicroSums), cudaMemcpyDeviceToDevice, stream));
    CUDA_CHECK(cudaMemsetAsync(sums, 0, sizeof(MicroSums), stream));
}

// Behind the last micro-batch of this rank: grads and sums become those of the whole step.
static inline void sum_gradients(GradientSum* s, float* grads, StepSums* sums, cudaStream_t stream) {
    if (s->begun == 0) { return; }
    if (ranks.size > 1) {
        wire_follows(stream);
        flat_stream = nccl.wire;
    }
    gradient_sum_end(s, grads);
    if (ranks.size > 1) {
        add_counts(sums, s->counted, s->micro_batches, nccl.wire);
        flat_stream = stream;
        wire_precedes(stream);
    }
}
