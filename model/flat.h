// What is done to a model's flat buffers when they are summed and shared out, on the host. flat.cuh has the same for
// the GPU.
#pragma once
#include "../runtime/exchange.h"
#include "step.h"

static inline void* flat_alloc(size_t bytes, const char* what) { return alloc_bytes(bytes, what); }
static inline void flat_free(void* flat) { free(flat); }
static inline void flat_copy(float* to, const float* from, size_t n) { memcpy(to, from, n * sizeof *to); }

// right += left
static inline void add_left(float* right, const float* left, size_t n) {
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) { right[i] = left[i] + right[i]; }
}

// Moves the contents of grads to *aside, whose own are lost; returns zeros, which are the new grads.
static inline float* flat_put_aside(float** aside, float* grads, size_t n) {
    float* next = *aside;
    *aside = grads;
    return (float*)memset(next, 0, n * sizeof *next);
}

// Messages of flat buffers, as in exchange.h
typedef Transfer FlatTransfer;
static inline void flat_transfer_begin(FlatTransfer* t, int tag, const Message* out, int outs, const Message* in,
                                       int ins) {
    transfer_begin(t, tag, out, outs, in, ins);
}
static inline bool flat_transfer_done(FlatTransfer* t) { return transfer_done(t); }
