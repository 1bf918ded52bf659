// flat.h on the GPU. Operations go to flat_stream: the step's stream, or the wire during messages between ranks. The
// gradients of a micro-batch stay in place, because captured graphs use their address: what has to wait is copied
// aside. Messages on the wire are sequential, as are the operations on their data: there they are complete as soon as
// they have begun.
#pragma once
#define FLAT_ON_DEVICE
#include "../kernels/tree_sum.cuh"
#include "../runtime/device.cuh"
#include "../runtime/exchange.h"

static cudaStream_t flat_stream;

static inline void* flat_alloc(size_t bytes, const char* what) { return device_bytes(bytes, what); }
static inline void flat_free(void* flat) { CUDA_CHECK(cudaFree(flat)); }
static inline void flat_copy(float* to, const float* from, size_t n) {
    if (n) { CUDA_CHECK(cudaMemcpyAsync(to, from, n * sizeof *to, cudaMemcpyDeviceToDevice, flat_stream)); }
}
static inline void add_left(float* right, const float* left, size_t n) { add_left(right, left, n, flat_stream); }
static inline float* flat_put_aside(float** aside, float* grads, size_t n) {
    flat_copy(*aside, grads, n);
    CUDA_CHECK(cudaMemsetAsync(grads, 0, n * sizeof *grads, flat_stream));
    return grads;
}

typedef struct {} FlatTransfer;
static inline void flat_transfer_begin(FlatTransfer* t, int tag, const Message* out, int outs, const Message* in, int ins) {
    (void)t, (void)tag;
    if (outs + ins > 0) { wire_exchange(out, outs, in, ins); }
}
static inline bool flat_transfer_done(FlatTransfer* t) { (void)t; return true; }
