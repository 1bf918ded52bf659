// The GPU that this process uses, and its memory. Several ranks on a node each have their own.
#pragma once
#include "../kernels/cuda_common.cuh"
#include "ranks.h"

// A launcher may show each rank only its own GPU. NCCL_MULTI_RANK_GPU_ENABLE=1 lets several share one, for tests.
static inline void device_begin(void) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        fail(EXIT_RUN_TIME, "there is no GPU to train on (%s): ./train_kat --device cpu trains without one",
             error == cudaSuccess ? "no device" : cudaGetErrorString(error));
    }
    const char* share = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    if (count > 1 && ranks.local_size > count && !(share && strcmp(share, "1") == 0)) {
        fail(EXIT_USAGE, "%s: %d ranks, but %d GPUs: start at most %d there", ranks.node, ranks.local_size, count, count);
    }
    CUDA_CHECK(cudaSetDevice(ranks.local_rank % count));
}

static inline void* device_bytes(size_t bytes, const char* what) {
    void* p = NULL;
    cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        fail(EXIT_RUN_TIME, "the GPU has no memory for %s (%.1f MB): use a smaller --batch-size, --recompute or "
             "--precision bf16", what, bytes / 1e6);
    }
    CUDA_CHECK(error);
    return p;
}

template <class T> static inline T* device_array(size_t count, const char* what) {
    return (T*)device_bytes(count * sizeof(T), what);
}

template <class T> static inline T* device_zeros(size_t count, const char* what) {
    T* p = device_array<T>(count, what);
    CUDA_CHECK(cudaMemset(p, 0, count * sizeof(T)));
    return p;
}

template <class T> static inline T* pinned_array(size_t count) { // on the host, for copies beside the program
    void* p = NULL;
    CUDA_CHECK(cudaMallocHost(&p, count * sizeof(T)));
    return (T*)p;
}
