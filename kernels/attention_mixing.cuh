// Fixed learned mixing of the tokens on the GPU: kernels/attention_mixing.h, for T = float or bf16. Per sample and head
//     out = M V      backward: dV = M^T dout   dM += dout V^T over the samples   dQ = dK = 0
//     qkv (B,N,3,H,D)     mix (H,N,N) fp32, M of each head, of which NQ rows are used     out (B,NQ,C), C = H D
// The gradient of M is summed in up to MIXING_SLOTS slots, each a fixed set of samples, by the block that owns a part
// of it in a slot; add_partials adds the slots in order: no atomics, the same bits in every run.
//
// bf16 with D a multiple of 8 up to 128 takes the tensor cores: a warp has 16 rows of the result in registers, the
// other side comes by ATTENTION_TILE rows through shared memory, M straight from the second cache level, rounded to
// bf16. Everything else takes the plain form. Memory read and written, elements of (B,N,C): forward 1 + 1, backward
// 3 + 4; of (H,N,N) besides: M once a sample, from the cache, and the slots' gradients twice.
#pragma once
#include "attention.cuh"
#include "partials.cuh"

enum { MIXING_SLOTS = 8 };

static inline int mixing_slots(int B) { return B < MIXING_SLOTS ? B : MIXING_SLOTS; }
__device__ inline int mixing_slot_start(int slot, int slots, int B) { return (int)((int64_t)slot * B / slots); }

// Of the backward: the slots (slots,H,N,N)
static inline size_t mixing_scratch(int B, int N, int H) { return (size_t)mixing_slots(B) * H * N * N; }

// A tensor of heads: its element (0, 0, 0), how far its tokens are apart, and how many a sample has
template <class T> struct MixingRows {
    T* data;
    size_t ld;
    int tokens;
    __device__ T* head(AttentionDims d, int b, int h) const { return data + b * tokens * ld + h * d.D; }
};

// ---- Plain form

// 16 rows of to = M from, or of to = M^T from. Blocks (tile, head, sample).
template <bool TRANSPOSED, class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
mixing_plain(MixingRows<T> to, MixingRows<const T> from, const float* mix, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, to.tokens - first);
    float* weights = (float*)shared;
    mix += (size_t)h * d.N * d.N;
    if (TRANSPOSED) {
        plain_load_columns(weights, mix + first, d.N, count, from.tokens);
    } else {
        plain_load(weights, mix + (size_t)first * d.N, d.N, count, from.tokens);
    }
    __syncthreads();
    plain_sums(to.head(d, b, h) + first * to.ld, to.ld, 1, weights, from.head(d, b, h), from.ld, from.tokens, count,
               d.D);
}

// 16 rows of what the samples of a slot add to dM, zeros from NQ on. Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
mixing_gradient_plain(float* slots, const T* dout, const T* qkv, AttentionDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, count = min(PLAIN_ROWS, d.N - first);
    int end = mixing_slot_start(slot + 1, gridDim.z, d.B);
    float *dout_rows = (float*)shared, *products = dout_rows + PLAIN_ROWS * d.D, *sums = products + PLAIN_ROWS * d.N;
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) { sums[i] = 0; }
    for (int b = mixing_slot_start(slot, gridDim.z, d.B); b < end; b++) {
        plain_load(dout_rows, dout + attention_at(d, b, h) + (size_t)first * d.C, d.C, d.NQ - first, d.D);
        __syncthreads();
        plain_dots(products, 1, dout_rows, qkv + attention_at_q(d, b, h) + 2 * d.C, 3 * (size_t)d.C, d.N, d.D);
        __syncthreads();
        for (int i = threadIdx.x; i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) { sums[i] += products[i]; }
    }
    slots += (((size_t)slot * d.H + h) * d.N + first) * d.N;
    for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) { slots[i] = sums[i]; }
}

// ---- Tensor-core form

// A block of M, or of M^T, as a left factor; zeros beyond N
template <bool TRANSPOSED>
__device__ inline void mixing_left(uint32_t* left, const float* mix, int first, int first_column, int N) {
    float block[8];
    #pragma unroll
    for (int e = 0; e < 8; e++) {
        int row = first + block_row(e), column = first_column + block_column(e);
        bool inside = row < N && column < N;
        block[e] = inside ? mix[TRANSPOSED ? (size_t)column * N + row : (size_t)row * N + column] : 0;
    }
    block_to_left(left, block);
}

// to = M from, or to = M^T from. Blocks (up to ATTENTION_WARPS tiles of 16 rows, head, sample).
template <int D, bool TRANSPOSED>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
mixing_tensor(MixingRows<bf16> to, MixingRows<const bf16> from, const float* mix, AttentionDims d) {
    __shared__ alignas(16) bf16 rows[ATTENTION_TILE * (D + 8)];
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = to.tokens - first; // rows; not positive for a warp that has none
    float sums[D / 16][8] = {};
    mix += (size_t)h * d.N * d.N;
    for (int tile = 0; tile < from.tokens; tile += ATTENTION_TILE) {
        __syncthreads();
        load_rows<D>(rows, from.head(d, b, h) + tile * from.ld, from.ld, ATTENTION_TILE, from.tokens - tile, d.D);
        __syncthreads();
        for (int j = 0; j < ATTENTION_TILE && tile + j < from.tokens && count > 0; j += 16) {
            uint32_t left[4];
            mixing_left<TRANSPOSED>(left, mix, first, tile + j, d.N);
            attention_sums<D>(sums, left, rows + j * (D + 8));
        }
    }
    attention_store<D>(to.head(d, b, h) + first * to.ld, to.ld, sums, 1, count, d.D);
}

// What the samples of a slot add to ATTENTION_TILE columns of dM, 16 rows a warp. Blocks (rows and tile of columns,
// head, slot).
template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
mixing_gradient_tensor(float* slots, const bf16* dout, const bf16* qkv, AttentionDims d) {
    __shared__ alignas(16) bf16 values[ATTENTION_TILE * (D + 8)];
    int tiles = ceil_div(d.N, ATTENTION_TILE), tile = blockIdx.x % tiles * ATTENTION_TILE, h = blockIdx.y;
    int first = (blockIdx.x / tiles * blockDim.x + threadIdx.x) / 32 * 16, count = d.N - first, slot = blockIdx.z;
    int end = mixing_slot_start(slot + 1, gridDim.z, d.B);
    size_t ld = 3 * (size_t)d.C;
    float sums[ATTENTION_TILE / 16][8] = {};
    for (int b = mixing_slot_start(slot, gridDim.z, d.B); b < end; b++) {
        __syncthreads();
        load_rows<D>(values, qkv + attention_at_q(d, b, h) + 2 * d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        __syncthreads();
        uint32_t dout_rows[D / 16][4];
        attention_load_left<D>(dout_rows, dout + attention_at(d, b, h) + (size_t)first * d.C, d.C, d.NQ - first, d.D);
        #pragma unroll
        for (int j = 0; j < ATTENTION_TILE / 16; j++) {
            attention_dots<D>(sums[j], dout_rows, values + j * 16 * (D + 8));
        }
    }
    slots += (((size_t)slot * d.H + h) * d.N + first) * d.N;
    #pragma unroll
    for (int i = 0; i < ATTENTION_TILE / 16 * 8; i++) {
        int row = block_row(i % 8), column = tile + i / 8 * 16 + block_column(i % 8);
        if (row < count && column < d.N) { slots[(size_t)row * d.N + column] = sums[i / 8][i % 8]; }
    }
}

// ---- Launches

// to = M from, or to = M^T from
template <bool TRANSPOSED, class T>
static void mixing_product(MixingRows<T> to, MixingRows<const T> from, const float* mix, AttentionDims d,
                           cudaStream_t stream) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            auto kernel = d.D <= 32 ? mixing_tensor<32, TRANSPOSED>
                        : d.D <= 64 ? mixing_tensor<64, TRANSPOSED> : mixing_tensor<128, TRANSPOSED>;
            dim3 grid(attention_blocks(to.tokens), d.H, d.B);
            kernel<<<grid, 32 * attention_warps(to.tokens), 0, stream>>>(to, from, mix, d);
            CUDA_CHECK_LAUNCH();
            return;
        }
    }
    size_t shared = PLAIN_ROWS * (size_t)from.tokens * sizeof(float);
    auto kernel = mixing_plain<TRANSPOSED, T>;
    allow_shared(kernel, shared);
    kernel<<<dim3(plain_tiles(to.tokens), d.H, d.B), PLAIN_THREADS, shared, stream>>>(to, from, mix, d);
    CUDA_CHECK_LAUNCH();
}

// The slots' gradients of M
template <class T>
static void mixing_gradient(float* slots, const T* dout, const T* qkv, AttentionDims d, cudaStream_t stream) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            auto kernel = d.D <= 32 ? mixing_gradient_tensor<32>
                        : d.D <= 64 ? mixing_gradient_tensor<64> : mixing_gradient_tensor<128>;
            dim3 grid(attention_blocks(d.N) * ceil_div(d.N, ATTENTION_TILE), d.H, mixing_slots(d.B));
            kernel<<<grid, 32 * attention_warps(d.N), 0, stream>>>(slots, dout, qkv, d);
            CUDA_CHECK_LAUNCH();
            return;
        }
    }
    size_t shared = PLAIN_ROWS * (size_t)(d.D + 2 * d.N) * sizeof(float);
    dim3 grid(plain_tiles(d.N), d.H, mixing_slots(d.B));
    allow_shared(mixing_gradient_plain<T>, shared);
    mixing_gradient_plain<T><<<grid, PLAIN_THREADS, shared, stream>>>(slots, dout, qkv, d);
    CUDA_CHECK_LAUNCH();
}

template <class T>
static void mixing_forward(T* out, const T* qkv, const float* mix, int B, int N, int NQ, int C, int H,
                           cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    MixingRows<T> to = {out, (size_t)C, NQ};
    MixingRows<const T> values = {qkv + 2 * C, 3 * (size_t)C, N};
    mixing_product<false>(to, values, mix, d, stream);
}

// scratch: mixing_scratch floats
template <class T>
static void mixing_backward(T* dqkv, float* dmix, const T* dout, const T* qkv, const float* mix, float* scratch, int B,
                            int N, int NQ, int C, int H, cudaStream_t stream) {
    AttentionDims d = {B, N, NQ, C, H, C / H};
    MixingRows<T> dvalues = {dqkv + 2 * C, 3 * (size_t)C, N};
    MixingRows<const T> from = {dout, (size_t)C, NQ};
    CUDA_CHECK(cudaMemsetAsync(dqkv, 0, 3 * (size_t)B * N * C * sizeof(T), stream)); // dQ and dK stay so
    mixing_product<true>(dvalues, from, mix, d, stream);
    mixing_gradient(scratch, dout, qkv, d, stream);
    add_partials(dmix, H * N * N, nullptr, 0, scratch, mixing_slots(B), stream);
}
