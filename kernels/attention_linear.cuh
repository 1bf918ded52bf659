// Linear attention on the GPU: kernels/attention_linear.h, for T = float or bf16. Per sample, head, with f = elu + 1,
//     S = sum_n f(K_n) V_n^T (D,D)      s = sum_n f(K_n) (D)      out_k = f(Q_k)^T S / (f(Q_k)^T s)
//     backward, with i_k = 1 / (f(Q_k)^T s) and e_k = -i_k (dout_k . out_k), the gradient of the denominator:
//         df(Q_k) = i_k S dout_k + e_k s      dS = sum_k f(Q_k) i_k dout_k^T      ds = sum_k e_k f(Q_k)
//         df(K_n) = dS V_n + ds               dV_n = dS^T f(K_n)
//     qkv (B,N,3,H,D)     out (B,NQ,C), C = H D
// Everything is made of the tiles of plain_tiles.cuh, in fp32: 16 rows of S, or 16 tokens, a block, the other side from
// the cache. Work is D / N of softmax attention's. Sums over tokens are whole in one block each: no atomics, the same
// bits in every run. Memory read and written, elements of (B,N,C): forward 3 + 1, backward 2 + (1 + 1 + 1) + 2 + 2 read
// and 3 written; besides S and dS, (B,H,D,D) fp32.
#pragma once
#include "attention.cuh"

__device__ inline float linear_feature(float x) { return x > 0 ? x + 1 : expf(x); }
__device__ inline float linear_feature_slope(float feature) { return 1 < feature ? 1 : feature; } // a NaN stays

// ---- Workspace, in floats

typedef struct {
    float *S, *dS;                 // (B,H,D,D)
    float *s, *ds;                 // (B,H,D)
    float *inverse, *ddenominator; // (B,H,NQ): i and e
} LinearScratch;

static inline size_t linear_attention_scratch(int B, int N, int C, int H) {
    return 2 * ((size_t)B * C * (C / H) + (size_t)B * C + (size_t)B * H * N);
}

static inline LinearScratch linear_attention_cut(float* scratch, int B, int N, int C, int H) {
    size_t square = (size_t)B * C * (C / H), row = (size_t)B * C, tokens = (size_t)B * H * N;
    float *s = scratch + 2 * square, *inverse = s + 2 * row;
    return {scratch, scratch + square, s, s + row, inverse, inverse + tokens};
}

// Dynamic shared memory of the hungriest kernel
static inline size_t linear_attention_shared(int N, int D) {
    return PLAIN_ROWS * (size_t)(N > 3 * D ? N : 3 * D) * sizeof(float);
}

// ---- Kernels

// Features (PLAIN_ROWS, D) of rows; of zeros beyond count
template <class T>
__device__ void linear_load_features(float* tile, const T* rows, size_t ld, int count, int D) {
    plain_load(tile, rows, ld, count, D);
    for (int i = threadIdx.x; i < PLAIN_ROWS * D; i += blockDim.x) { tile[i] = linear_feature(tile[i]); }
}

// 16 rows of a (D,D) = sum_n weight_n f(X_n) matrix_n^T, and of b (D) = sum_n weight_b_n f(X_n), of so many tokens n. X
// lies in qkv, matrix (B,tokens,H,D) has its tokens ld apart. Weights (B,H,tokens) are 1 where they are NULL. Blocks
// (tile of D, head, sample).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
linear_attention_sums_kernel(float* a, float* b, const T* X, const float* weight, const float* weight_b,
                             const T* matrix, size_t ld, int tokens, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, sample = blockIdx.z, count = min(PLAIN_ROWS, d.D - first);
    size_t bh = (size_t)sample * d.H + h;
    float* features = (float*)shared;
    plain_load_columns(features, X + attention_at_q(d, sample, h) + first, 3 * (size_t)d.C, count, tokens);
    __syncthreads();
    for (int r = threadIdx.x / 32; r < count; r += PLAIN_THREADS / 32) {
        float sum = 0;
        for (int n = threadIdx.x % 32; n < tokens; n += 32) {
            float feature = linear_feature(features[r * tokens + n]);
            sum += (weight_b ? weight_b[bh * tokens + n] : 1) * feature;
            features[r * tokens + n] = (weight ? weight[bh * tokens + n] : 1) * feature;
        }
        sum = warp_sum(sum);
        if (threadIdx.x % 32 == 0) { b[bh * d.D + first + r] = sum; }
    }
    __syncthreads();
    plain_sums(a + (bh * d.D + first) * d.D, d.D, 1, features, matrix + sample * tokens * ld + h * d.D, ld, tokens,
               count, d.D);
}

// 16 rows of out. Blocks (tile of tokens, head, sample), here and below.
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
linear_attention_forward_kernel(T* out, const T* qkv, const float* S, const float* s, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h;
    float* features = (float*)shared;
    linear_load_features(features, qkv + attention_at_q(d, b, h) + first * ld, ld, count, d.D);
    __syncthreads();
    for (int r = threadIdx.x / 32; r < count; r += PLAIN_THREADS / 32) {
        float sum = 0;
        for (int i = threadIdx.x % 32; i < d.D; i += 32) { sum += features[r * d.D + i] * s[bh * d.D + i]; }
        sum = warp_sum(sum);
        for (int i = threadIdx.x % 32; i < d.D; i += 32) { features[r * d.D + i] /= sum; }
    }
    __syncthreads();
    plain_sums(out + attention_at(d, b, h) + (size_t)first * d.C, d.C, 1, features, S + bh * d.D * d.D, d.D, d.D, count,
               d.D);
}

// A row of dout, by a warp: times i, which goes to inverse; returns e
template <class T>
__device__ inline float linear_ratio_backward(float* dout_row, float* inverse, const float* features, const float* s,
                                              const T* out_row, int D) {
    float denominator = 0, dot = 0;
    for (int i = threadIdx.x % 32; i < D; i += 32) {
        denominator += features[i] * s[i];
        dot += dout_row[i] * to_float(out_row[i]);
    }
    float i_k = 1 / warp_sum(denominator), e_k = -i_k * warp_sum(dot);
    for (int i = threadIdx.x % 32; i < D; i += 32) { dout_row[i] *= i_k; }
    if (threadIdx.x % 32 == 0) { *inverse = i_k; }
    return e_k;
}

// dQ of 16 rows, i and e
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
linear_attention_query_kernel(T* dqkv, float* inverse, float* ddenominator, const T* dout, const T* out, const T* qkv,
                              const float* S, const float* s, AttentionDims d) {
    extern __shared__ float4 shared[];
    __shared__ float e_rows[PLAIN_ROWS];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h, at = attention_at(d, b, h) + (size_t)first * d.C;
    size_t at_q = attention_at_q(d, b, h) + first * ld;
    float *features = (float*)shared, *dout_rows = features + PLAIN_ROWS * d.D, *x = dout_rows + PLAIN_ROWS * d.D;
    s += bh * d.D;
    linear_load_features(features, qkv + at_q, ld, count, d.D);
    plain_load(dout_rows, dout + at, d.C, count, d.D);
    __syncthreads();
    for (int r = threadIdx.x / 32; r < count; r += PLAIN_THREADS / 32) {
        size_t row = bh * d.NQ + first + r;
        float e_k = linear_ratio_backward(dout_rows + r * d.D, inverse + row, features + r * d.D, s,
                                          out + at + (size_t)r * d.C, d.D);
        if (threadIdx.x % 32 == 0) { ddenominator[row] = e_rows[r] = e_k; }
    }
    __syncthreads();
    plain_dots(x, 1, dout_rows, S + bh * d.D * d.D, d.D, d.D, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < count * d.D; i += PLAIN_THREADS) {
        float dfeature = x[i] + e_rows[i / d.D] * s[i % d.D];
        dqkv[at_q + i / d.D * ld + i % d.D] = from_float<T>(linear_feature_slope(features[i]) * dfeature);
    }
}

// dK and dV of 16 rows
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
linear_attention_key_kernel(T* dqkv, const T* qkv, const float* dS, const float* ds, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h, at_k = attention_at_q(d, b, h) + d.C + first * ld;
    float *features = (float*)shared, *values = features + PLAIN_ROWS * d.D, *x = values + PLAIN_ROWS * d.D;
    dS += bh * d.D * d.D, ds += bh * d.D;
    linear_load_features(features, qkv + at_k, ld, count, d.D);
    plain_load(values, qkv + at_k + d.C, ld, count, d.D);
    __syncthreads();
    plain_dots(x, 1, values, dS, d.D, d.D, d.D);
    plain_sums(dqkv + at_k + d.C, ld, 1, features, dS, d.D, d.D, count, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < count * d.D; i += PLAIN_THREADS) {
        dqkv[at_k + i / d.D * ld + i % d.D] = from_float<T>(linear_feature_slope(features[i]) * (x[i] + ds[i % d.D]));
    }
}

// ---- Launches

// S = f(K)^T V; s = f(K)^T 1
template <class T>
static void linear_attention_sums(LinearScratch w, const T* qkv, AttentionDims d, cudaStream_t stream) {
    size_t shared = linear_attention_shared(d.N, d.D);
    allow_shared(linear_attention_sums_kernel<T>, shared);
    linear_attention_sums_kernel<T><<<dim3(plain_tiles(d.D), d.H, d.B), PLAIN_THREADS, shared, stream>>>(
        w.S, w.s, qkv + d.C, nullptr, nullptr, qkv + 2 * d.C, 3 * (size_t)d.C, d.N, d);
    CUDA_CHECK_LAUNCH();
}

// scratch: linear_attention_scratch floats
template <class T>
static void linear_attention_forward(T* out, const T* qkv, float* scratch, int B, int N, int NQ, int C, int H,
                                     cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    LinearScratch w = linear_attention_cut(scratch, B, N, C, H);
    size_t shared = linear_attention_shared(N, d.D);
    linear_attention_sums(w, qkv, d, stream);
    allow_shared(linear_attention_forward_kernel<T>, shared);
    dim3 grid(plain_tiles(NQ), H, B);
    linear_attention_forward_kernel<T><<<grid, PLAIN_THREADS, shared, stream>>>(out, qkv, w.S, w.s, d);
    CUDA_CHECK_LAUNCH();
}

template <class T>
static void linear_attention_backward(T* dqkv, const T* dout, const T* out, const T* qkv, float* scratch, int B, int N,
                                      int NQ, int C, int H, cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    LinearScratch w = linear_attention_cut(scratch, B, N, C, H);
    size_t shared = linear_attention_shared(N, d.D);
    dim3 by_query(plain_tiles(NQ), H, B), by_key(plain_tiles(N), H, B), by_feature(plain_tiles(d.D), H, B);
    linear_attention_sums(w, qkv, d, stream);
    allow_shared(linear_attention_query_kernel<T>, shared);
    linear_attention_query_kernel<T><<<by_query, PLAIN_THREADS, shared, stream>>>(
        dqkv, w.inverse, w.ddenominator, dout, out, qkv, w.S, w.s, d);
    linear_attention_sums_kernel<T><<<by_feature, PLAIN_THREADS, shared, stream>>>(
        w.dS, w.ds, qkv, w.inverse, w.ddenominator, dout, (size_t)C, NQ, d);
    allow_shared(linear_attention_key_kernel<T>, shared);
    linear_attention_key_kernel<T><<<by_key, PLAIN_THREADS, shared, stream>>>(dqkv, qkv, w.dS, w.ds, d);
    CUDA_CHECK_LAUNCH();
}
