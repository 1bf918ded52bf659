// The Kolmogorov-Arnold layer on the GPU: kernels/kan.h, for T = float or bf16,
//     out_o = bias_o + sum_i (weight_oi silu(inp_i) + sum_m spline_oim B_m(inp_i))      M = G + k B-splines of basis.h
//     inp (rows,C), out (rows,OC), weight (OC,C), spline_weight (OC,C,M), bias (OC)
// as two products of cublasLt, with silu (rows,C) and with splines (rows,C,M), the features in the memory order of
// spline_weight:
//     out = silu weight^T + bias + splines spline_weight^T
//     dsilu = dout weight     dsplines = dout spline_weight     dinp = silu'(inp) dsilu + sum_m B_m'(inp) dsplines_m
//     dweight += dout^T silu      dspline_weight += dout^T splines      dbias += column sums of dout
// The features of all rows are never stored: up to KAN_ROWS rows of them are computed, read and overwritten, one part
// of the rows after the other, and the parts' gradients of the weights are added in this order. Bytes moved per number
// of inp besides the products': features (2 + M) sizeof(T), in the forward and in the backward; gradients (3 + M)
// sizeof(T).
//
// The weights, which products read, are stored as T like the activations; their gradients are fp32.
#pragma once
#include "activation.cuh"
#include "basis.h"
#include "matmul.cuh"

enum { KAN_ROWS = 4096, KAN_BLOCK = 128 };

// Rows of a part: equal parts, each of whole 16-byte vectors
static inline int kan_rows(int rows) {
    int parts = ceil_div(rows, (int)KAN_ROWS);
    return ceil_div(ceil_div(rows, parts), (int)VECTOR) * VECTOR;
}

// For either storage
static inline size_t kan_scratch(int rows, int C, int OC, Basis basis) {
    size_t features = (size_t)kan_rows(rows) * C * (basis_coefficients(basis) + 1);
    size_t bias = bias_backward_scratch(rows, OC);
    return features > bias ? features : bias;
}

template <class T> struct KanFeatures { T *silu, *splines; };

template <class T> static KanFeatures<T> kan_cut(float* scratch, int rows, int C) {
    return {(T*)scratch, (T*)scratch + (size_t)kan_rows(rows) * C};
}

// Floats of one thread's splines; odd, so that threads are in different banks
__host__ __device__ inline int kan_stride(Basis basis) { return basis_coefficients(basis) | 1; }
static inline size_t kan_shared(Basis basis) { return KAN_BLOCK * (size_t)kan_stride(basis) * sizeof(float); }

// Features of n numbers, one per thread. A block's features are written in memory order.
template <class T>
__global__ void __launch_bounds__(KAN_BLOCK)
kan_features_kernel(KanFeatures<T> to, const T* inp, size_t n, Basis basis) {
    extern __shared__ float4 shared[];
    size_t first = (size_t)blockIdx.x * KAN_BLOCK, i = first + threadIdx.x;
    int M = basis_coefficients(basis), stride = kan_stride(basis), count = (int)min((size_t)KAN_BLOCK, n - first);
    float* splines = (float*)shared;
    if (i < n) {
        float x = to_float(inp[i]);
        to.silu[i] = from_float<T>(silu_value(x));
        basis_splines(splines + threadIdx.x * stride, &x, 1, basis);
    }
    __syncthreads();
    for (int j = threadIdx.x; j < count * M; j += KAN_BLOCK) {
        to.splines[first * M + j] = from_float<T>(splines[j / M * stride + j % M]);
    }
}

// The forward lines: silu(inp), B_m(inp)
template <class T>
__global__ void __launch_bounds__(KAN_BLOCK)
kan_features_backward_kernel(T* dinp, KanFeatures<T> d, const T* inp, size_t n, Basis basis) {
    extern __shared__ float4 shared[];
    size_t i = (size_t)blockIdx.x * KAN_BLOCK + threadIdx.x;
    int M = basis_coefficients(basis);
    float* slopes = (float*)shared + threadIdx.x * kan_stride(basis);
    if (i >= n) { return; }
    float x = to_float(inp[i]), sum = silu_slope(x) * to_float(d.silu[i]);
    basis_spline_slopes(slopes, NULL, &x, 1, basis);
    for (int m = 0; m < M; m++) { sum += slopes[m] * to_float(d.splines[i * M + m]); }
    dinp[i] = from_float<T>(sum);
}

template <class T>
static void kan_features(KanFeatures<T> to, const T* inp, size_t n, Basis basis, cudaStream_t stream) {
    kan_features_kernel<T><<<ceil_div(n, (size_t)KAN_BLOCK), KAN_BLOCK, kan_shared(basis), stream>>>(to, inp, n, basis);
    CUDA_CHECK_LAUNCH();
}

template <class T>
static void kan_features_backward(T* dinp, KanFeatures<T> d, const T* inp, size_t n, Basis basis, cudaStream_t stream) {
    kan_features_backward_kernel<T><<<ceil_div(n, (size_t)KAN_BLOCK), KAN_BLOCK, kan_shared(basis), stream>>>(
        dinp, d, inp, n, basis);
    CUDA_CHECK_LAUNCH();
}

// scratch: kan_scratch floats
template <class T>
static void kan_forward(T* out, const T* inp, const T* weight, const T* spline_weight, const T* bias, float* scratch,
                        int rows, int C, int OC, Basis basis, cudaStream_t stream) {
    constexpr cudaDataType_t type = cuda_type<T>();
    int step = kan_rows(rows), K = C * basis_coefficients(basis);
    KanFeatures<T> e = kan_cut<T>(scratch, rows, C);
    for (int row = 0; row < rows; row += step) {
        int count = rows - row < step ? rows - row : step;
        T* part = out + (size_t)row * OC;
        kan_features(e, inp + (size_t)row * C, (size_t)count * C, basis, stream);
        linear_forward(part, e.silu, weight, bias, count, C, OC, stream);
        product(part, spline_weight, e.splines, nullptr, 1, {OC, count, K, true, false, false, type, type}, stream);
    }
}

// dinp = (may be NULL), dweight, dspline_weight and dbias +=. The gradients of the features replace the features.
template <class T>
static void kan_backward(T* dinp, float* dweight, float* dspline_weight, float* dbias, const T* dout, const T* inp,
                         const T* weight, const T* spline_weight, float* scratch, int rows, int C, int OC, Basis basis,
                         cudaStream_t stream) {
    constexpr cudaDataType_t type = cuda_type<T>();
    int step = kan_rows(rows), K = C * basis_coefficients(basis);
    KanFeatures<T> e = kan_cut<T>(scratch, rows, C);
    for (int row = 0; row < rows; row += step) {
        int count = rows - row < step ? rows - row : step;
        const T *x = inp + (size_t)row * C, *d = dout + (size_t)row * OC;
        kan_features(e, x, (size_t)count * C, basis, stream);
        product(dweight, e.silu, d, nullptr, 1, {C, OC, count, false, true, false, type, CUDA_R_32F}, stream);
        product(dspline_weight, e.splines, d, nullptr, 1, {K, OC, count, false, true, false, type, CUDA_R_32F}, stream);
        if (!dinp) { continue; }
        product(e.silu, weight, d, nullptr, 0, {C, count, OC, false, false, false, type, type}, stream);
        product(e.splines, spline_weight, d, nullptr, 0, {K, count, OC, false, false, false, type, type}, stream);
        kan_features_backward(dinp + (size_t)row * C, e, x, (size_t)count * C, basis, stream);
    }
    bias_backward(dbias, dout, OC, scratch, rows, OC, stream);
}
