// Attention without a normalisation on the GPU: kernels/attention_pointwise.h, for T = float or bf16. Per sample, head:
//     A = Q K^T / sqrt(D)      P = f(A)      out = P V
//     sigmoid   f(a) = 1 / (1 + e^(log N - a))      relu   f(a) = max(a, 0) / N      polynomial   f(a) = a^3 / sqrt(N)
//     backward: dP = dout V^T   dA = f'(A) dP   dV = P^T dout   dQ = dA K / sqrt(D)   dK = dA^T Q / sqrt(D)
//     qkv (B,N,3,H,D)     out (B,NQ,C), C = H D
// The forms, their blocks and the memory they move are those of attention.cuh; a row has no statistics here, so the
// forward meets each tile once as it is, and the backward needs neither lse nor delta. Where rows of a tile lie beyond
// the last token their keys, values, queries or gradients are zeros, which add nothing whatever f is.
#pragma once
#include "attention.cuh"
#include "pointwise_kind.h"

struct Pointwise {
    PointwiseKind kind;
    float log_N, inverse_N, inverse_root_N;
};

template <class T> __device__ inline float pointwise_value(Pointwise f, float a) {
    if (f.kind == POINTWISE_RELU) { return f.inverse_N * (a < 0 ? 0 : a); } // this way round a NaN stays
    if (f.kind == POINTWISE_POLYNOMIAL) { return f.inverse_root_N * a * a * a; }
    if constexpr (sizeof(T) == sizeof(bf16)) {
        return reciprocal(1 + __expf(f.log_N - a));
    } else {
        return 1 / (1 + expf(f.log_N - a));
    }
}

__device__ inline float pointwise_slope(Pointwise f, float a, float p) { // f'(a); p = f(a)
    if (f.kind == POINTWISE_RELU) { return a > 0 ? f.inverse_N : 0; }
    if (f.kind == POINTWISE_POLYNOMIAL) { return 3 * f.inverse_root_N * a * a; }
    return p * (1 - p);
}

// ---- Plain form: blocks (tile of 16 rows, head, sample)

template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
pointwise_forward_plain(T* out, const T* qkv, Pointwise f, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C;
    const T* q = qkv + attention_at_q(d, b, h);
    float *queries = (float*)shared, *P = queries + PLAIN_ROWS * d.D;
    plain_load(queries, q + first * ld, ld, count, d.D);
    __syncthreads();
    plain_dots(P, 1 / sqrtf(d.D), queries, q + d.C, ld, d.N, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) { P[i] = pointwise_value<T>(f, P[i]); }
    __syncthreads();
    plain_sums(out + attention_at(d, b, h) + (size_t)first * d.C, d.C, 1, P, q + 2 * d.C, ld, d.N, count, d.D);
}

// Two tiles (16, D) of factors and two of weights (16, N): A, which becomes P, and dP, which
// becomes dA
struct PointwiseTiles { float *left, *right, *P, *dA; };

__device__ inline PointwiseTiles pointwise_tiles(float4* shared, AttentionDims d) {
    float *left = (float*)shared, *P = left + 2 * PLAIN_ROWS * d.D;
    return {left, left + PLAIN_ROWS * d.D, P, P + PLAIN_ROWS * d.N};
}

// dQ of 16 rows
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
pointwise_backward_query_plain(T* dqkv, const T* dout, const T* qkv, Pointwise f, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, at_q = attention_at_q(d, b, h);
    const T* q = qkv + at_q;
    PointwiseTiles t = pointwise_tiles(shared, d);
    float scale = 1 / sqrtf(d.D);
    plain_load(t.left, q + first * ld, ld, count, d.D);
    plain_load(t.right, dout + attention_at(d, b, h) + (size_t)first * d.C, d.C, count, d.D);
    __syncthreads();
    plain_dots(t.P, scale, t.left, q + d.C, ld, d.N, d.D);
    plain_dots(t.dA, 1, t.right, q + 2 * d.C, ld, d.N, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) {
        t.dA[i] *= pointwise_slope(f, t.P[i], pointwise_value<T>(f, t.P[i]));
    }
    __syncthreads();
    plain_sums(dqkv + at_q + first * ld, ld, scale, t.dA, q + d.C, ld, d.N, count, d.D);
}

// dK and dV of 16 rows: the tiles are of A^T and dP^T
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
pointwise_backward_key_plain(T* dqkv, const T* dout, const T* qkv, Pointwise f, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C, at = attention_at(d, b, h), at_q = attention_at_q(d, b, h);
    const T *q = qkv + at_q, *k = q + d.C + first * ld;
    PointwiseTiles t = pointwise_tiles(shared, d);
    float scale = 1 / sqrtf(d.D);
    plain_load(t.left, k, ld, count, d.D);
    plain_load(t.right, k + d.C, ld, count, d.D);
    __syncthreads();
    plain_dots(t.P, scale, t.left, q, ld, d.NQ, d.D);
    plain_dots(t.dA, 1, t.right, dout + at, d.C, d.NQ, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.NQ; i += PLAIN_THREADS) {
        float a = t.P[i], p = pointwise_value<T>(f, a);
        t.P[i] = p;
        t.dA[i] *= pointwise_slope(f, a, p);
    }
    __syncthreads();
    T* dk = dqkv + at_q + d.C + first * ld;
    plain_sums(dk, ld, scale, t.dA, q, ld, d.NQ, count, d.D);
    plain_sums(dk + d.C, ld, 1, t.P, dout + at, d.C, d.NQ, count, d.D);
}

// ---- Tensor-core form: blocks (up to ATTENTION_WARPS tiles of 16 rows, head, sample)

template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
pointwise_forward_tensor(bf16* out, const bf16* qkv, Pointwise f, AttentionDims d) {
    __shared__ alignas(16) bf16 keys[ATTENTION_TILE * (D + 8)];
    __shared__ alignas(16) bf16 values[ATTENTION_TILE * (D + 8)];
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = d.NQ - first; // rows; not positive for a warp that has none
    size_t ld = 3 * (size_t)d.C;
    const bf16* q = qkv + attention_at_q(d, b, h);
    uint32_t queries[D / 16][4];
    attention_load_left<D>(queries, q + first * ld, ld, count, d.D);
    float sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    for (int tile = 0; tile < d.N; tile += ATTENTION_TILE) {
        __syncthreads();
        load_rows<D>(keys, q + d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        load_rows<D>(values, q + 2 * d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        __syncthreads();
        for (int j = 0; j < ATTENTION_TILE && tile + j < d.N && count > 0; j += 16) {
            float P[8] = {};
            uint32_t factor[4];
            attention_dots<D>(P, queries, keys + j * (D + 8));
            for (int e = 0; e < 8; e++) { P[e] = pointwise_value<bf16>(f, scale * P[e]); }
            block_to_left(factor, P);
            attention_sums<D>(sums, factor, values + j * (D + 8));
        }
    }
    attention_store<D>(out + attention_at(d, b, h) + (size_t)first * d.C, d.C, sums, 1, count, d.D);
}

template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
pointwise_backward_query_tensor(bf16* dqkv, const bf16* dout, const bf16* qkv, Pointwise f, AttentionDims d) {
    __shared__ alignas(16) bf16 keys[ATTENTION_TILE * (D + 8)];
    __shared__ alignas(16) bf16 values[ATTENTION_TILE * (D + 8)];
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = d.NQ - first;
    size_t ld = 3 * (size_t)d.C, at_q = attention_at_q(d, b, h);
    const bf16* k = qkv + at_q + d.C;
    uint32_t queries[D / 16][4], dout_rows[D / 16][4];
    attention_load_left<D>(queries, qkv + at_q + first * ld, ld, count, d.D);
    attention_load_left<D>(dout_rows, dout + attention_at(d, b, h) + (size_t)first * d.C, d.C, count, d.D);
    float sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    for (int tile = 0; tile < d.N; tile += ATTENTION_TILE) {
        __syncthreads();
        load_rows<D>(keys, k + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        load_rows<D>(values, k + d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        __syncthreads();
        for (int j = 0; j < ATTENTION_TILE && tile + j < d.N && count > 0; j += 16) {
            float slopes[8] = {}, dA[8] = {};
            uint32_t factor[4];
            attention_dots<D>(slopes, queries, keys + j * (D + 8));
            for (int e = 0; e < 8; e++) {
                float a = scale * slopes[e];
                slopes[e] = pointwise_slope(f, a, pointwise_value<bf16>(f, a));
            }
            attention_dots<D>(dA, dout_rows, values + j * (D + 8));
            for (int e = 0; e < 8; e++) { dA[e] *= slopes[e]; }
            block_to_left(factor, dA);
            attention_sums<D>(sums, factor, keys + j * (D + 8));
        }
    }
    attention_store<D>(dqkv + at_q + first * ld, ld, sums, scale, count, d.D);
}

// dK and dV: blocks are of A^T, rows of keys
template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
pointwise_backward_key_tensor(bf16* dqkv, const bf16* dout, const bf16* qkv, Pointwise f, AttentionDims d) {
    __shared__ alignas(16) bf16 queries[ATTENTION_TILE * (D + 8)];
    __shared__ alignas(16) bf16 dout_rows[ATTENTION_TILE * (D + 8)];
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = d.N - first, left = d.NQ; // keys; queries to come
    size_t ld = 3 * (size_t)d.C, at_q = attention_at_q(d, b, h), at_k = at_q + d.C + first * ld;
    dout += attention_at(d, b, h);
    uint32_t keys[D / 16][4], values[D / 16][4];
    attention_load_left<D>(keys, qkv + at_k, ld, count, d.D);
    attention_load_left<D>(values, qkv + at_k + d.C, ld, count, d.D);
    float dk[D / 16][8] = {}, dv[D / 16][8] = {}, scale = rsqrtf(d.D);
    for (int tile = 0; left > 0; tile += ATTENTION_TILE, left -= ATTENTION_TILE, dout += ATTENTION_TILE * (size_t)d.C) {
        __syncthreads();
        load_rows<D>(queries, qkv + at_q + tile * ld, ld, ATTENTION_TILE, left, d.D);
        load_rows<D>(dout_rows, dout, d.C, ATTENTION_TILE, left, d.D);
        __syncthreads();
        for (int j = 0; j < ATTENTION_TILE && j < left && count > 0; j += 16) {
            float P[8] = {}, dA[8] = {};
            uint32_t factor[4];
            attention_dots<D>(P, keys, queries + j * (D + 8));
            attention_dots<D>(dA, values, dout_rows + j * (D + 8));
            for (int e = 0; e < 8; e++) {
                float a = scale * P[e];
                P[e] = pointwise_value<bf16>(f, a);
                dA[e] *= pointwise_slope(f, a, P[e]);
            }
            block_to_left(factor, P);
            attention_sums<D>(dv, factor, dout_rows + j * (D + 8));
            block_to_left(factor, dA);
            attention_sums<D>(dk, factor, queries + j * (D + 8));
        }
    }
    attention_store<D>(dqkv + at_k, ld, dk, scale, count, d.D);
    attention_store<D>(dqkv + at_k + d.C, ld, dv, 1, count, d.D);
}

// ---- Launches

template <int D>
static void pointwise_launch_forward(bf16* out, const bf16* qkv, Pointwise f, AttentionDims d, cudaStream_t stream) {
    dim3 grid(attention_blocks(d.NQ), d.H, d.B);
    pointwise_forward_tensor<D><<<grid, 32 * attention_warps(d.NQ), 0, stream>>>(out, qkv, f, d);
}

template <int D>
static void pointwise_launch_backward(bf16* dqkv, const bf16* dout, const bf16* qkv, Pointwise f, AttentionDims d,
                                      cudaStream_t stream) {
    dim3 queries(attention_blocks(d.NQ), d.H, d.B), keys(attention_blocks(d.N), d.H, d.B);
    pointwise_backward_query_tensor<D><<<queries, 32 * attention_warps(d.NQ), 0, stream>>>(dqkv, dout, qkv, f, d);
    pointwise_backward_key_tensor<D><<<keys, 32 * attention_warps(d.N), 0, stream>>>(dqkv, dout, qkv, f, d);
}

static inline Pointwise pointwise_of(PointwiseKind kind, int N) {
    return {kind, logf((float)N), 1.0f / N, 1 / sqrtf((float)N)};
}

template <class T>
static void pointwise_forward(T* out, const T* qkv, PointwiseKind kind, int B, int N, int NQ, int C, int H,
                              cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    Pointwise f = pointwise_of(kind, N);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            auto launch = d.D <= 32 ? pointwise_launch_forward<32>
                        : d.D <= 64 ? pointwise_launch_forward<64> : pointwise_launch_forward<128>;
            launch(out, qkv, f, d, stream);
            CUDA_CHECK_LAUNCH();
            return;
        }
    }
    size_t shared = PLAIN_ROWS * (size_t)(d.D + N) * sizeof(float);
    dim3 grid(plain_tiles(NQ), H, B);
    allow_shared(pointwise_forward_plain<T>, shared);
    pointwise_forward_plain<T><<<grid, PLAIN_THREADS, shared, stream>>>(out, qkv, f, d);
    CUDA_CHECK_LAUNCH();
}

template <class T>
static void pointwise_backward(T* dqkv, const T* dout, const T* qkv, PointwiseKind kind, int B, int N, int NQ, int C,
                               int H, cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    Pointwise f = pointwise_of(kind, N);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            auto launch = d.D <= 32 ? pointwise_launch_backward<32>
                        : d.D <= 64 ? pointwise_launch_backward<64> : pointwise_launch_backward<128>;
            launch(dqkv, dout, qkv, f, d, stream);
            CUDA_CHECK_LAUNCH();
            return;
        }
    }
    size_t shared = 2 * PLAIN_ROWS * (size_t)(d.D + N) * sizeof(float);
    dim3 queries(plain_tiles(NQ), H, B), keys(plain_tiles(N), H, B);
    allow_shared(pointwise_backward_query_plain<T>, shared);
    allow_shared(pointwise_backward_key_plain<T>, shared);
    pointwise_backward_query_plain<T><<<queries, PLAIN_THREADS, shared, stream>>>(dqkv, dout, qkv, f, d);
    pointwise_backward_key_plain<T><<<keys, PLAIN_THREADS, shared, stream>>>(dqkv, dout, qkv, f, d);
    CUDA_CHECK_LAUNCH();
}
