// Softmax attention and a linear map of rank R on the GPU: kernels/attention_rank.h, for T = float or bf16. Per sample
// and head
//     P = softmax(Q K^T / sqrt(D))      T = W^T V      V' = down^T T      out = P V'
//     backward: dV' and dQ, dK as attention.cuh   dT = down dV'   ddown += T dV'^T   dW += V dT^T   dV = W dT
//     qkv (B,N,3,H,D)     down (H,R,N)     W (H,N,R)     out (B,NQ,C), C = H D     lse (B,H,NQ)
// It is softmax attention over other values: queries, keys and V' are put side by side as a qkv of its own, which
// attention.cuh takes in either of its forms. That copy and T are made again in the backward, nothing of them is saved.
// Gradients of down and W are summed in up to RANK_SLOTS slots, each a fixed set of samples, by the block that owns a
// tile of tokens in a slot; add_partials adds the slots in order: no atomics, the same bits in every run.
//
// What is added to attention's work is R / N of it forward and twice that backward, on CUDA cores in fp32, and in
// memory, elements of (B,N,C): 3 + 3 for the copy in each direction, 3 + 1 for the gradients.
#pragma once
#include "attention.cuh"
#include "partials.cuh"

enum { RANK_SLOTS = 8 };

static inline int rank_slots(int B) { return B < RANK_SLOTS ? B : RANK_SLOTS; }

// ---- Workspace, in floats

typedef struct {
    float* qkv;    // (B,N,3,H,D) of T: queries, keys, V'
    float *T, *dT; // (B,H,R,D)
    float* delta;  // attention_scratch
    float* slots;  // (slots, H R N + H N R): gradients of down, of W
} RankScratch;

static inline size_t rank_copy_size(int B, int N, int C) { return ceil_div(3 * (size_t)B * N * C, (size_t)4) * 4; }

// For either storage
static inline size_t rank_scratch(int B, int N, int C, int H, int R) {
    return rank_copy_size(B, N, C) + 2 * (size_t)B * R * C + attention_scratch(B, N, H) +
           (size_t)rank_slots(B) * 2 * H * R * N;
}

static inline RankScratch rank_cut(float* scratch, int B, int N, int C, int H, int R) {
    float *T = scratch + rank_copy_size(B, N, C), *dT = T + (size_t)B * R * C, *delta = dT + (size_t)B * R * C;
    return {scratch, T, dT, delta, delta + attention_scratch(B, N, H)};
}

// ---- Between V and V'

// A factor (N,R) of each head, by its steps: W itself, or down^T
struct RankFactor {
    const float* data;
    int row, column;
    __device__ const float* head(int h, int N, int R) const { return data + (size_t)h * N * R; }
};

// products (B,H,R,D) = factor^T matrix, matrix (N,D) in the place of values. Blocks (BLOCK products, head, sample).
template <class T>
__global__ void rank_products_kernel(float* products, RankFactor factor, const T* qkv, AttentionDims d, int R) {
    int i = blockIdx.x * BLOCK + threadIdx.x, p = i / d.D, h = blockIdx.y, b = blockIdx.z;
    if (p >= R) { return; }
    const T* matrix = qkv + attention_at_q(d, b, h) + 2 * d.C + i % d.D;
    const float* weights = factor.head(h, d.N, R) + p * factor.column;
    float sum = 0;
    for (int n = 0; n < d.N; n++) { sum += weights[(size_t)n * factor.row] * to_float(matrix[n * 3 * (size_t)d.C]); }
    products[((size_t)b * d.H + h) * R * d.D + i] = sum;
}

// to = NQ queries and the keys of qkv, and V' = down^T T. Blocks (BLOCK elements of a head, head, sample).
template <class T>
__global__ void rank_values_kernel(T* to, const T* qkv, const float* products, const float* down, AttentionDims d,
                                   int R) {
    int i = blockIdx.x * BLOCK + threadIdx.x, n = i / d.D, h = blockIdx.y, b = blockIdx.z;
    if (n >= d.N) { return; }
    size_t at = attention_at_q(d, b, h) + n * 3 * (size_t)d.C + i % d.D;
    products += ((size_t)b * d.H + h) * R * d.D + i % d.D;
    down += (size_t)h * R * d.N + n;
    float sum = 0;
    for (int p = 0; p < R; p++) { sum += down[(size_t)p * d.N] * products[p * d.D]; }
    if (n < d.NQ) { to[at] = qkv[at]; }
    to[at + d.C] = qkv[at + d.C];
    to[at + 2 * d.C] = from_float<T>(sum);
}

// Of 16 tokens: what the samples of a slot add to ddown and dW, which start as zeros, and dV in the place of dV'.
// Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
rank_gradient_kernel(T* dqkv, float* slots, const T* qkv, const float* products, const float* dproducts, const float* W,
                     AttentionDims d, int R) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C, size = (size_t)R * d.N; // of a head's down and W
    float *values = (float*)shared, *dvalues = values + PLAIN_ROWS * d.D;
    float* ddown = slots + (slot * 2 * d.H + h) * size + first;
    float* dW = slots + ((slot * 2 + 1) * d.H + h) * size + first * R;
    W += h * size + first * R;
    int end = (int)((int64_t)(slot + 1) * d.B / gridDim.z);
    for (int b = (int)((int64_t)slot * d.B / gridDim.z); b < end; b++) {
        size_t at = attention_at_q(d, b, h) + 2 * d.C + first * ld, head = ((size_t)b * d.H + h) * R * d.D;
        __syncthreads();
        plain_load(values, qkv + at, ld, count, d.D);
        plain_load(dvalues, dqkv + at, ld, count, d.D);
        __syncthreads();
        for (int i = threadIdx.x; i < count * R; i += PLAIN_THREADS) {
            int r = i / R, p = i % R;
            float by_down = 0, by_W = 0;
            for (int j = 0; j < d.D; j++) {
                by_down += dvalues[r * d.D + j] * products[head + p * d.D + j];
                by_W += values[r * d.D + j] * dproducts[head + p * d.D + j];
            }
            ddown[(size_t)p * d.N + r] += by_down;
            dW[i] += by_W;
        }
        for (int i = threadIdx.x; i < count * d.D; i += PLAIN_THREADS) {
            float sum = 0;
            for (int p = 0; p < R; p++) { sum += W[i / d.D * R + p] * dproducts[head + p * d.D + i % d.D]; }
            dqkv[at + i / d.D * ld + i % d.D] = from_float<T>(sum);
        }
    }
}

// ---- Launches

template <class T>
static void rank_products(float* products, RankFactor factor, const T* qkv, AttentionDims d, int R,
                          cudaStream_t stream) {
    dim3 grid(ceil_div(R * d.D, (int)BLOCK), d.H, d.B);
    rank_products_kernel<<<grid, BLOCK, 0, stream>>>(products, factor, qkv, d, R);
    CUDA_CHECK_LAUNCH();
}

// T = W^T V; V' = down^T T
template <class T>
static void rank_values(RankScratch s, const T* qkv, const float* down, const float* W, AttentionDims d, int R,
                        cudaStream_t stream) {
    rank_products(s.T, RankFactor{W, R, 1}, qkv, d, R, stream);
    dim3 grid(ceil_div(d.N * d.D, (int)BLOCK), d.H, d.B);
    rank_values_kernel<<<grid, BLOCK, 0, stream>>>((T*)s.qkv, qkv, s.T, down, d, R);
    CUDA_CHECK_LAUNCH();
}

// scratch: rank_scratch floats
template <class T>
static void rank_forward(T* out, float* lse, const T* qkv, const float* down, const float* W, float* scratch, int B,
                         int N, int NQ, int C, int H, int R, cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    RankScratch s = rank_cut(scratch, B, N, C, H, R);
    rank_values(s, qkv, down, W, d, R, stream);
    attention_forward(out, lse, (const T*)s.qkv, B, N, NQ, C, H, d.D, stream);
}

// The forward lines: T = W^T V; V' = down^T T; out = P V'
template <class T>
static void rank_backward(T* dqkv, float* ddown, float* dW, const T* dout, const T* out, const float* lse, const T* qkv,
                          const float* down, const float* W, float* scratch, int B, int N, int NQ, int C, int H, int R,
                          cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    RankScratch s = rank_cut(scratch, B, N, C, H, R);
    int slots = rank_slots(B), size = H * R * N;
    rank_values(s, qkv, down, W, d, R, stream);
    attention_backward(dqkv, (float*)NULL, dout, out, lse, (const T*)s.qkv, s.delta, B, N, NQ, C, H, d.D, stream);
    rank_products(s.dT, RankFactor{down, 1, N}, dqkv, d, R, stream);
    CUDA_CHECK(cudaMemsetAsync(s.slots, 0, (size_t)slots * 2 * size * sizeof(float), stream));
    size_t shared = 2 * PLAIN_ROWS * (size_t)d.D * sizeof(float);
    dim3 grid(plain_tiles(N), H, slots);
    allow_shared(rank_gradient_kernel<T>, shared);
    rank_gradient_kernel<T><<<grid, PLAIN_THREADS, shared, stream>>>(dqkv, s.slots, qkv, s.T, s.dT, W, d, R);
    CUDA_CHECK_LAUNCH();
    add_partials(ddown, size, dW, size, s.slots, slots, stream);
}
