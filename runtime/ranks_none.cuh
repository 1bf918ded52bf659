// One rank on a GPU, without others to talk to. Replaces ranks_nccl.cuh if the program is built without NCCL.
#pragma once
#include "../kernels/cuda_common.cuh"

static struct { cudaStream_t wire; } nccl;

static inline void wire_follows(cudaStream_t stream) { (void)stream; }
static inline void wire_precedes(cudaStream_t stream) { (void)stream; }
static inline void wire_exchange(const Message* out, int outs, const Message* in, int ins) {
    (void)out, (void)outs, (void)in, (void)ins;
}
static inline void ranks_wait(cudaStream_t stream) { CUDA_CHECK(cudaStreamSynchronize(stream)); }
