// The gate on attention's output on the GPU: kernels/attention_gate.h, for T = float or bf16.
//     g = 1 / (1 + e^-s), s = W x      out_h = g_h mix_h
//     backward: dmix_h = g_h dout_h      ds_h = g_h (1 - g_h) sum_i dout_hi mix_hi
//     s (rows,H), a linear layer's product in fp32     mix, out (rows,C), C = H D
// Bytes moved an element: forward 2 sizeof(T), backward 3 sizeof(T). A warp takes a head of a row.
#pragma once
#include "activation_values.h"
#include "cuda_common.cuh"

template <class T> __global__ void gate_forward_kernel(T* out, const float* s, const T* mix, int heads, int D) {
    int head = (blockIdx.x * BLOCK + threadIdx.x) / WARP;
    if (head >= heads) { return; }
    size_t at = (size_t)head * D;
    float g = sigmoid(s[head]);
    for (int i = threadIdx.x % WARP; i < D; i += WARP) { out[at + i] = from_float<T>(g * to_float(mix[at + i])); }
}

template <class T>
static void gate_forward(T* out, const float* s, const T* mix, int rows, int C, int H, cudaStream_t stream) {
    gate_forward_kernel<<<ceil_div(rows * H, BLOCK / WARP), BLOCK, 0, stream>>>(out, s, mix, rows * H, C / H);
    CUDA_CHECK_LAUNCH();
}

template <class T>
__global__ void gate_backward_kernel(T* dmix, T* ds, const T* dout, const float* s, const T* mix, int heads, int D) {
    int head = (blockIdx.x * BLOCK + threadIdx.x) / WARP;
    if (head >= heads) { return; }
    size_t at = (size_t)head * D;
    float g = sigmoid(s[head]), sum = 0;
    for (int i = threadIdx.x % WARP; i < D; i += WARP) {
        float d = to_float(dout[at + i]);
        sum += d * to_float(mix[at + i]);
        dmix[at + i] = from_float<T>(g * d);
    }
    sum = warp_sum(sum);
    if (threadIdx.x % WARP == 0) { ds[head] = from_float<T>(g * (1 - g) * sum); }
}

// dmix may be dout
template <class T>
static void gate_backward(T* dmix, T* ds, const T* dout, const float* s, const T* mix, int rows, int C, int H,
                          cudaStream_t stream) {
    gate_backward_kernel<<<ceil_div(rows * H, BLOCK / WARP), BLOCK, 0, stream>>>(dmix, ds, dout, s, mix, rows * H,
                                                                                C / H);
    CUDA_CHECK_LAUNCH();
}
