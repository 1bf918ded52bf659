// What the head reads of the residual stream on the GPU, and LayerScale's gradient; residual.h has the maths.
//
//     x_out (B, N, C) = x + keep[b] layer_scale[c] branch          keep (B), layer_scale (C): NULL where they are off
//
// is done where the stream is normalised next, in layernorm.cuh, as is its backward. What is left of it here is the sum
// down the columns, as in partials.cuh, over the stream's gradient, stored as G, and the branch, stored as T.
#pragma once
#include "partials.cuh"

// What LayerScale's gradient sums down the columns
template <class G, class T> struct LayerScaleTerm {
    const G* dout;
    const T* branch;
    const float* keep;
    int N, C;
    __device__ float at(int row, int c) const {
        size_t i = (size_t)row * C + c;
        return (keep ? keep[row / N] : 1) * to_float(branch[i]) * to_float(dout[i]);
    }
};

static inline size_t layer_scale_scratch(int B, int N, int C) { return column_sums_scratch(B * N, C); }

// dlayer_scale (C) += Σ keep branch dout, dout (B, N, C) the gradient of x_out
template <class G, class T>
inline void layer_scale_backward(float* dlayer_scale, const G* dout, const T* branch, const float* keep, float* scratch,
                                 int B, int N, int C, cudaStream_t stream) {
    column_sums(dlayer_scale, LayerScaleTerm<G, T>{dout, branch, keep, N, C}, scratch, B * N, C, stream);
}

// A thread a channel of one image, tokens in order
template <class T, class X>
__global__ void pool_forward_kernel(T* out, const X* x, int first, int last, int B, int N, int C) {
    int i = blockIdx.x * BLOCK + threadIdx.x, b = i / C, c = i % C;
    if (b >= B) { return; }
    float sum = 0;
    for (int n = first; n < last; n++) { sum += to_float(x[((size_t)b * N + n) * C + c]); }
    out[i] = from_float<T>(sum / (last - first));
}

// The head's input (B, C) out of x (B, N, C): token 0, or the mean over the tokens that are not the class token
template <class T, class X>
inline void pool_forward(T* out, const X* x, bool average, bool has_cls, int B, int N, int C, cudaStream_t stream) {
    int first = average && has_cls ? 1 : 0, last = average ? N : 1;
    pool_forward_kernel<<<ceil_div(B * C, BLOCK), BLOCK, 0, stream>>>(out, x, first, last, B, N, C);
    CUDA_CHECK_LAUNCH();
}

// Blocks (part of an image, image)
template <int W, class X, class T>
__global__ void pool_backward_kernel(X* dx, const T* dout, int first, int last, float share, int N, int C) {
    int at = (blockIdx.x * BLOCK + threadIdx.x) * W, token = at / C, c = at % C;
    size_t b = blockIdx.y;
    float d[W];
    if (token >= N) { return; }
    load(d, dout + b * C + c);
    for (int i = 0; i < W; i++) { d[i] *= token >= first && token < last ? share : 0; }
    store(dx + b * N * C + at, d);
}

// out = mean of tokens first..last-1: dx (B, N, C) =, zero for the tokens left out
template <class X, class T>
inline void pool_backward(X* dx, const T* dout, bool average, bool has_cls, int B, int N, int C, cudaStream_t stream) {
    int first = average && has_cls ? 1 : 0, last = average ? N : 1;
    with_width(vectorises(C, dx, dout), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        float share = 1.0f / (last - first);
        pool_backward_kernel<W><<<blocks, BLOCK, 0, stream>>>(dx, dout, first, last, share, N, C);
    });
    CUDA_CHECK_LAUNCH();
}
