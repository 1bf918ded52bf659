// How a branch joins the residual stream on the GPU, and what leaves it for the head; residual.h has the maths.
//
//     x_out (B, N, C) = x + keep[b] layer_scale[c] branch          keep (B), layer_scale (C): NULL where they are off
//
// The stream is stored as R, the branch as T. Bytes moved an element, all in 16 bits: forward 6, backward 4, with
// LayerScale 6 and the branch once more for its gradient, which is summed down the columns as in partials.cuh.
// layernorm.cuh has the forward fused with the normalisation that follows.
#pragma once
#include "partials.cuh"

// keep layer_scale, for W channels of one row
template <int W>
__device__ inline void branch_gain(float (&gain)[W], const float* layer_scale, const float* keep, int b, int c) {
    float k = keep ? keep[b] : 1;
    for (int i = 0; i < W; i++) { gain[i] = layer_scale ? k * layer_scale[c + i] : k; }
}

template <int W, class R, class T>
__global__ void residual_forward_kernel(R* out, const R* x, const T* branch, const float* layer_scale,
                                        const float* keep, size_t n, int N, int C) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float gain[W], sum[W], added[W];
    branch_gain(gain, layer_scale, keep, (int)(at / ((size_t)N * C)), (int)(at % C));
    load(sum, x + at);
    load(added, branch + at);
    for (int i = 0; i < W; i++) { sum[i] += gain[i] * added[i]; }
    store(out + at, sum);
}

// out may be x
template <class R, class T>
inline void residual_forward(R* out, const R* x, const T* branch, const float* layer_scale, const float* keep, int B,
                             int N, int C, cudaStream_t stream) {
    size_t n = (size_t)B * N * C;
    with_width(vectorises(C, out, x, branch), [=](auto width) {
        constexpr int W = width.value;
        residual_forward_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(out, x, branch, layer_scale, keep, n,
                                                                                 N, C);
    });
    CUDA_CHECK_LAUNCH();
}

template <int W, class R, class T>
__global__ void residual_backward_kernel(T* dbranch, const R* dout, const float* layer_scale, const float* keep,
                                         size_t n, int N, int C) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float gain[W], d[W];
    branch_gain(gain, layer_scale, keep, (int)(at / ((size_t)N * C)), (int)(at % C));
    load(d, dout + at);
    for (int i = 0; i < W; i++) { d[i] *= gain[i]; }
    store(dbranch + at, d);
}

// What LayerScale's gradient sums down the columns
template <class R, class T> struct LayerScaleTerm {
    const R* dout;
    const T* branch;
    const float* keep;
    int N, C;
    __device__ float at(int row, int c) const {
        size_t i = (size_t)row * C + c;
        return (keep ? keep[row / N] : 1) * to_float(branch[i]) * to_float(dout[i]);
    }
};

static inline size_t residual_scratch(int B, int N, int C) { return column_sums_scratch(B * N, C); }

// dbranch = keep layer_scale dout (and may be dout); dlayer_scale += Σ keep branch dout. dx is dout itself, which the
// stream carries on. branch, scratch and dlayer_scale are used only with layer_scale, and may be NULL without.
template <class R, class T>
inline void residual_backward(T* dbranch, float* dlayer_scale, const R* dout, const T* branch, const float* layer_scale,
                              const float* keep, float* scratch, int B, int N, int C, cudaStream_t stream) {
    size_t n = (size_t)B * N * C;
    if (layer_scale) { // first, for dbranch may take the place of dout
        LayerScaleTerm<R, T> term = {dout, branch, keep, N, C};
        column_sums(dlayer_scale, term, scratch, B * N, C, stream);
    }
    with_width(vectorises(C, dbranch, dout), [=](auto width) {
        constexpr int W = width.value;
        residual_backward_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(dbranch, dout, layer_scale, keep, n,
                                                                                  N, C);
    });
    CUDA_CHECK_LAUNCH();
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

template <class X, class T>
__global__ void pool_backward_kernel(X* dx, const T* dout, int first, int last, size_t n, int N, int C) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i >= n) { return; }
    size_t row = i / C;
    int token = (int)(row % N);
    float share = token >= first && token < last ? 1.0f / (last - first) : 0;
    dx[i] = from_float<X>(share * to_float(dout[row / N * C + i % C]));
}

// out = mean of tokens first..last-1: dx (B, N, C) =, zero for the tokens left out
template <class X, class T>
inline void pool_backward(X* dx, const T* dout, bool average, bool has_cls, int B, int N, int C, cudaStream_t stream) {
    int first = average && has_cls ? 1 : 0, last = average ? N : 1;
    size_t n = (size_t)B * N * C;
    pool_backward_kernel<<<ceil_div(n, BLOCK), BLOCK, 0, stream>>>(dx, dout, first, last, n, N, C);
    CUDA_CHECK_LAUNCH();
}
