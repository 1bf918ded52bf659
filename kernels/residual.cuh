// What the head reads from the residual stream on the GPU, and LayerScale's gradient; residual.h has the maths.
//
//     x_out (B, N, C) = x + keep[b] layer_scale[c] branch          keep (B), layer_scale (C): NULL if they are off
//
// is computed in layernorm.cuh, where the stream is normalised next, as is its backward: here it is for when the stream
// is used otherwise first. The sum down the columns of LayerScale's gradient is as in partials.cuh, over the stream's
// gradient, stored as G, and the branch, stored as T.
#pragma once
#include "partials.cuh"

// The terms of LayerScale's gradient, summed down the columns
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

// Blocks (part of an image, image)
template <int W, class R, class T>
__global__ void residual_forward_kernel(R* x_out, const R* x, const T* branch, const float* layer_scale,
                                        const float* keep, int N, int C) {
    int i = (blockIdx.x * BLOCK + threadIdx.x) * W;
    size_t at = (size_t)blockIdx.y * N * C + i;
    float k = keep ? keep[blockIdx.y] : 1, value[W], added[W], scale[W];
    if (i >= N * C) { return; }
    load(value, x + at);
    load(added, branch + at);
    if (layer_scale) { load(scale, layer_scale + i % C); }
    for (int j = 0; j < W; j++) { value[j] += (layer_scale ? k * scale[j] : k) * added[j]; }
    store(x_out + at, value);
}

// x_out may be x
template <class R, class T>
inline void residual_forward(R* x_out, const R* x, const T* branch, const float* layer_scale, const float* keep, int B,
                             int N, int C, cudaStream_t stream) {
    with_width(vectorises(C, x_out, x, branch, layer_scale), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        residual_forward_kernel<W><<<blocks, BLOCK, 0, stream>>>(x_out, x, branch, layer_scale, keep, N, C);
    });
    CUDA_CHECK_LAUNCH();
}

// Blocks (part of an image, image)
template <int W, class T, class G>
__global__ void residual_backward_kernel(T* dbranch, const G* dout, const float* layer_scale, const float* keep, int N,
                                         int C) {
    int i = (blockIdx.x * BLOCK + threadIdx.x) * W;
    size_t at = (size_t)blockIdx.y * N * C + i;
    float k = keep ? keep[blockIdx.y] : 1, d[W], scale[W];
    if (i >= N * C) { return; }
    load(d, dout + at);
    if (layer_scale) { load(scale, layer_scale + i % C); }
    for (int j = 0; j < W; j++) { d[j] *= layer_scale ? k * scale[j] : k; }
    store(dbranch + at, d);
}

// dbranch = keep layer_scale dout; if both are NULL it is dout, stored as T
template <class T, class G>
inline void residual_backward(T* dbranch, const G* dout, const float* layer_scale, const float* keep, int B, int N, int C,
                              cudaStream_t stream) {
    with_width(vectorises(C, dbranch, dout, layer_scale), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        residual_backward_kernel<W><<<blocks, BLOCK, 0, stream>>>(dbranch, dout, layer_scale, keep, N, C);
    });
    CUDA_CHECK_LAUNCH();
}

// One thread per channel of an image, tokens in order
template <class T, class X>
__global__ void pool_forward_kernel(T* out, const X* x, int first, int last, int B, int N, int C) {
    int i = blockIdx.x * BLOCK + threadIdx.x, b = i / C, c = i % C;
    if (b >= B) { return; }
    float sum = 0;
    for (int n = first; n < last; n++) { sum += to_float(x[((size_t)b * N + n) * C + c]); }
    out[i] = from_float<T>(sum / (last - first));
}

// The head's input (B, C) from x (B, N, C): token 0, or the mean over all tokens except the first `prefix`
template <class T, class X>
inline void pool_forward(T* out, const X* x, bool average, int prefix, int B, int N, int C, cudaStream_t stream) {
    int first = average ? prefix : 0, last = average ? N : 1;
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
inline void pool_backward(X* dx, const T* dout, bool average, int prefix, int B, int N, int C, cudaStream_t stream) {
    int first = average ? prefix : 0, last = average ? N : 1;
    with_width(vectorises(C, dx, dout), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        float share = 1.0f / (last - first);
        pool_backward_kernel<W><<<blocks, BLOCK, 0, stream>>>(dx, dout, first, last, share, N, C);
    });
    CUDA_CHECK_LAUNCH();
}
