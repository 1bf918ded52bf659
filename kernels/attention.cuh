// Softmax attention (Vaswani et al., 2017) on the GPU: kernels/attention.h, for T = float or bf16. Per sample, head:
//     S = Q K^T / sqrt(D)      P = softmax(S) over each row      out = P V
//     backward: P = exp(S - lse)   dP = dout V^T   dS = P (dP - delta)   dV = P^T dout   dQ = dS K / sqrt(D)
//               dK = dS^T Q / sqrt(D),   with delta = dout . out row by row
//     qkv (B,N,3,H,D)     out (B,NQ,C)     lse (B,H,NQ) fp32
// NQ queries, those of the first tokens, as attention.h has it.
// Nothing of size N x N leaves a block. There are no atomics: dQ is written by the block of its rows, dK and dV by that
// of theirs, and each of the two computes S and dP again (Dao, "FlashAttention-2", 2023, has one kernel and adds dQ up
// by atomics). So results have the same bits in every run. On tensor cores both also sum their columns, the gradient of
// the bias in qkv: a product of ones with what lies in shared memory to be stored.
//
// bf16 with D a multiple of 8 up to 128 takes the tensor cores: a warp has 16 rows (queries; keys where dK and dV are
// made) and their results in registers; the other side comes by ATTENTION_TILE rows through shared memory. In products
// of 16 x 16 x 16 for a 16 x 16 block of S and D = 64: forward 4 + 4, backward 3 x 4 + 4 x 4. Memory read and written,
// elements of (B,N,C) for NQ = N: forward 3 + 1, backward 2 x (3 + 1) + 1 + 3, the other side of each block from the
// second cache level. Everything else takes the plain form, fp32 arithmetic, (16, N) logits in shared memory (N up to
// 1700).
#pragma once
#include "partials.cuh"
#include "plain_tiles.cuh"
#include "tensor_cores.cuh"

struct AttentionDims { int B, N, NQ, C, H, D; };

// Elements in front of one sample and head's first row: of (B,NQ,C), and of qkv
__device__ inline size_t attention_at(AttentionDims d, int b, int h) { return (size_t)b * d.NQ * d.C + h * d.D; }
__device__ inline size_t attention_at_q(AttentionDims d, int b, int h) { return 3 * (size_t)b * d.N * d.C + h * d.D; }

// Other weights that are mixed into softmax's, out = ((1 - g) P + g place) V (attention_gpsa.cuh): here none. Known to
// the compiler, so that it leaves nothing behind.
struct NoPlaces {
    static constexpr bool ANY = false;
    static constexpr int WIDTH = 64; // which heads of more than 32 and up to that take, padded; wider ones: 128
    __device__ float keep(int) const { return 1; } // 1 - g of a head
};

// delta of each row (B,H,NQ), from the kernel of dQ to that of dK and dV
static inline size_t attention_scratch(int B, int NQ, int H) { return (size_t)B * H * NQ; }

// ---- Plain form: blocks (tile of 16 rows, head, sample)

// One row in shared memory, by a warp: S to P; returns the log-sum-exp
__device__ inline float attention_softmax_row(float* row, int N) {
    float high = -INFINITY, sum = 0;
    for (int n = threadIdx.x % 32; n < N; n += 32) { high = fmaxf(high, row[n]); }
    high = warp_reduce<Largest>(high);
    for (int n = threadIdx.x % 32; n < N; n += 32) {
        row[n] = expf(row[n] - high);
        sum += row[n];
    }
    sum = warp_sum(sum);
    for (int n = threadIdx.x % 32; n < N; n += 32) { row[n] /= sum; }
    return high + logf(sum);
}

template <class T, class Places>
__global__ void __launch_bounds__(PLAIN_THREADS)
attention_forward_plain(T* out, float* lse, const T* qkv, Places places, AttentionDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C;
    const T* q = qkv + attention_at_q(d, b, h);
    float *queries = (float*)shared, *P = queries + PLAIN_ROWS * d.D;
    plain_load(queries, q + first * ld, ld, count, d.D);
    __syncthreads();
    plain_dots(P, 1 / sqrtf(d.D), queries, q + d.C, ld, d.N, d.D);
    __syncthreads();
    for (int r = threadIdx.x / 32; r < count; r += PLAIN_THREADS / 32) {
        float row_lse = attention_softmax_row(P + r * d.N, d.N);
        if (threadIdx.x % 32 == 0) { lse[((size_t)b * d.H + h) * d.NQ + first + r] = row_lse; }
    }
    __syncthreads();
    if constexpr (Places::ANY) {
        places.blend_plain(P, h, first, count, d);
        __syncthreads();
    }
    plain_sums(out + attention_at(d, b, h) + (size_t)first * d.C, d.C, 1, P, q + 2 * d.C, ld, d.N, count, d.D);
}

// dQ and delta of 16 rows
template <class T, class Places>
__global__ void __launch_bounds__(PLAIN_THREADS)
attention_backward_query_plain(T* dqkv, float* delta, const T* dout, const T* out, const float* lse, const T* qkv,
                               Places places, AttentionDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, at = attention_at(d, b, h) + (size_t)first * d.C;
    size_t row = ((size_t)b * d.H + h) * d.NQ + first;
    const T* q = qkv + attention_at_q(d, b, h);
    float *queries = (float*)shared, *dout_rows = queries + PLAIN_ROWS * d.D;
    float *P = dout_rows + PLAIN_ROWS * d.D, *dP = P + PLAIN_ROWS * d.N, scale = 1 / sqrtf(d.D);
    plain_load(queries, q + first * ld, ld, count, d.D);
    plain_load(dout_rows, dout + at, d.C, count, d.D);
    __syncthreads();
    plain_dots(P, scale, queries, q + d.C, ld, d.N, d.D);
    plain_dots(dP, 1, dout_rows, q + 2 * d.C, ld, d.N, d.D);
    __syncthreads();
    for (int r = threadIdx.x / 32; r < count; r += PLAIN_THREADS / 32) {
        float sum = 0;
        for (int i = threadIdx.x % 32; i < d.D; i += 32) {
            sum += dout_rows[r * d.D + i] * to_float(out[at + (size_t)r * d.C + i]);
        }
        sum = warp_sum(sum);
        if constexpr (Places::ANY) { sum -= places.share_plain(dP + r * d.N, h, first + r, d); }
        if (threadIdx.x % 32 == 0) { delta[row + r] = sum; }
        float along = 0; // P . dP
        for (int n = threadIdx.x % 32; n < d.N; n += 32) {
            int i = r * d.N + n;
            float weight = expf(P[i] - lse[row + r]);
            along += weight * dP[i];
            P[i] = weight * (places.keep(h) * dP[i] - sum);
        }
        if constexpr (Places::ANY) { places.note(warp_sum(along), row + r, threadIdx.x % 32 == 0); }
    }
    __syncthreads();
    plain_sums(dqkv + attention_at_q(d, b, h) + first * ld, ld, scale, P, q + d.C, ld, d.N, count, d.D);
}

// dK and dV of 16 rows: the tiles are of S^T and dP^T
template <class T, class Places>
__global__ void __launch_bounds__(PLAIN_THREADS)
attention_backward_key_plain(T* dqkv, const T* dout, const float* lse, const float* delta, const T* qkv, Places places,
                             AttentionDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C, at = attention_at(d, b, h), at_q = attention_at_q(d, b, h);
    size_t row = ((size_t)b * d.H + h) * d.NQ;
    const T *q = qkv + at_q, *k = q + d.C + first * ld;
    float *keys = (float*)shared, *values = keys + PLAIN_ROWS * d.D;
    float *P = values + PLAIN_ROWS * d.D, *dS = P + PLAIN_ROWS * d.NQ, scale = 1 / sqrtf(d.D);
    plain_load(keys, k, ld, count, d.D);
    plain_load(values, k + d.C, ld, count, d.D);
    __syncthreads();
    plain_dots(P, scale, keys, q, ld, d.NQ, d.D);
    plain_dots(dS, 1, values, dout + at, d.C, d.NQ, d.D);
    __syncthreads();
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.NQ; i += PLAIN_THREADS) {
        P[i] = expf(P[i] - lse[row + i % d.NQ]);
        dS[i] = P[i] * (places.keep(h) * dS[i] - delta[row + i % d.NQ]);
    }
    __syncthreads();
    if constexpr (Places::ANY) {
        places.blend_plain_transposed(P, h, first, count, d);
        __syncthreads();
    }
    T* dk = dqkv + at_q + d.C + first * ld;
    plain_sums(dk, ld, scale, dS, q, ld, d.NQ, count, d.D);
    plain_sums(dk + d.C, ld, 1, P, dout + at, d.C, d.NQ, count, d.D);
}

// ---- Tensor-core form: blocks (up to ATTENTION_WARPS tiles of 16 rows, head, sample)

constexpr int ATTENTION_WARPS = 8, ATTENTION_TILE = 64, ATTENTION_MIN_WARPS = 4;

// Equal blocks: 13 tiles of rows are two blocks of 7 warps. Of few rows some warps have none, and help to load.
static inline int attention_blocks(int rows) { return ((rows + 15) / 16 + ATTENTION_WARPS - 1) / ATTENTION_WARPS; }
static inline int attention_warps(int rows) {
    int warps = ((rows + 15) / 16 + attention_blocks(rows) - 1) / attention_blocks(rows);
    return warps < ATTENTION_MIN_WARPS ? ATTENTION_MIN_WARPS : warps;
}

// Behind delta in the scratch, where the bias in qkv is wanted: column sums of each block, of dQ and of dK and dV
static inline size_t attention_bias_scratch(int B, int N, int NQ, int C) {
    return (size_t)B * C * (attention_blocks(NQ) + 2 * attention_blocks(N));
}

// S += left rows^T over D: 16 rows in registers against 16 in shared memory
template <int D> __device__ inline void attention_dots(float* S, const uint32_t left[][4], const bf16* rows) {
    #pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t right[4];
        load_right_transposed(right, rows + i * 16, D + 8);
        block_multiply(S, left[i], right);
    }
}

// The same with the left rows in shared memory
template <int D> __device__ inline void attention_dots(float* S, const bf16* left_rows, const bf16* rows) {
    #pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t left[4], right[4];
        load_left(left, left_rows + i * 16, D + 8);
        load_right_transposed(right, rows + i * 16, D + 8);
        block_multiply(S, left, right);
    }
}

// sums (16, D) += left (16,16) rows (16, D)
template <int D> __device__ inline void attention_sums(float sums[][8], const uint32_t* left, const bf16* rows) {
    #pragma unroll
    for (int i = 0; i < D / 16; i++) {
        uint32_t right[4];
        load_right(right, rows + i * 16, D + 8);
        block_multiply(sums[i], left, right);
    }
}

template <int D>
__device__ inline void attention_load_left(uint32_t left[][4], const bf16* rows, size_t ld, int count, int columns) {
    #pragma unroll
    for (int i = 0; i < D / 16; i++) { load_left_global(left[i], rows, ld, i * 16, count, columns); }
}

template <int D>
__device__ inline void attention_store(bf16* rows, size_t ld, float sums[][8], float scale, int count, int columns) {
    #pragma unroll
    for (int i = 0; i < D / 16; i++) { store_block(rows, ld, sums[i], scale, i * 16, count, columns); }
}

// The four lanes of a row of accumulators
__device__ inline float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}
__device__ inline float row_sum(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

struct SoftmaxRows { float high[2], sum[2]; }; // of a lane's two rows; the sum over its own columns only

// Softmax met tile by tile (Milakov and Gimelshein, arXiv 1805.02867): S (16, ATTENTION_TILE) to exp(S - high), and
// what was summed before is rescaled to the new high
template <int D>
__device__ inline void attention_online_softmax(float S[][8], float out[][8], SoftmaxRows* rows) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
        float high = rows->high[half];
        for (int j = 0; j < ATTENTION_TILE / 16; j++) {
            for (int e = 0; e < 8; e++) { high = e / 2 % 2 == half ? fmaxf(high, S[j][e]) : high; }
        }
        high = row_max(high);
        float shrink = __expf(rows->high[half] - high), sum = rows->sum[half] * shrink;
        for (int j = 0; j < ATTENTION_TILE / 16; j++) {
            for (int e = 0; e < 8; e++) {
                if (e / 2 % 2 != half) { continue; }
                S[j][e] = __expf(S[j][e] - high);
                sum += S[j][e];
            }
        }
        for (int i = 0; i < D / 16; i++) {
            for (int e = 0; e < 8; e++) { out[i][e] *= e / 2 % 2 == half ? shrink : 1; }
        }
        rows->high[half] = high, rows->sum[half] = sum;
    }
}

// D: the head's width rounded up, its columns beyond d.D zeros
template <int D, class Places>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
attention_forward_tensor(bf16* out, float* lse, const bf16* qkv, Places places, AttentionDims d) {
    wait_for_kernel_in_front();
    __shared__ alignas(16) bf16 keys[ATTENTION_TILE * (D + 8)];
    __shared__ alignas(16) bf16 values[ATTENTION_TILE * (D + 8)];
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = d.NQ - first; // rows; not positive for a warp that has none
    size_t ld = 3 * (size_t)d.C;
    const bf16* q = qkv + attention_at_q(d, b, h);
    uint32_t queries[D / 16][4];
    attention_load_left<D>(queries, q + first * ld, ld, count, d.D);
    float sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    SoftmaxRows rows = {{-INFINITY, -INFINITY}, {0, 0}};
    for (int tile = 0; tile < d.N; tile += ATTENTION_TILE) {
        __syncthreads();
        load_rows<D>(keys, q + d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        load_rows<D>(values, q + 2 * d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        __syncthreads();
        if (count <= 0) { continue; }
        float S[ATTENTION_TILE / 16][8] = {};
        #pragma unroll
        for (int j = 0; j < ATTENTION_TILE / 16; j++) {
            int left = d.N - tile - j * 16; // columns; not positive for a block beyond the last
            if (left > 0) { attention_dots<D>(S[j], queries, keys + j * 16 * (D + 8)); }
            for (int e = 0; e < 8; e++) { S[j][e] = block_column(e) < left ? scale * S[j][e] : -INFINITY; }
        }
        attention_online_softmax<D>(S, sums, &rows);
        #pragma unroll
        for (int j = 0; j < ATTENTION_TILE / 16; j++) {
            uint32_t P[4];
            block_to_left(P, S[j]);
            if (tile + j * 16 < d.N) { attention_sums<D>(sums, P, values + j * 16 * (D + 8)); }
        }
    }
    if (!Places::ANY && count <= 0) { return; }
    for (int half = 0; half < 2; half++) { rows.sum[half] = row_sum(rows.sum[half]); }
    for (int i = 0; i < D / 16; i++) {
        for (int e = 0; e < 8; e++) { sums[i][e] /= rows.sum[e / 2 % 2]; }
    }
    if constexpr (Places::ANY) { places.template blend<D>(sums, values, q + 2 * d.C, h, first, d); }
    attention_store<D>(out + attention_at(d, b, h) + (size_t)first * d.C, d.C, sums, 1, count, d.D);
    for (int e = 0; e < 4; e += 2) {
        if (lane_id() % 4 == 0 && block_row(e) < count) {
            lse[((size_t)b * d.H + h) * d.NQ + first + block_row(e)] = rows.high[e / 2] + __logf(rows.sum[e / 2]);
        }
    }
}

// A warp's 16 rows = scale sums, as far as count and columns go, by way of shared memory: stored 16 bytes at a time,
// and their column sums, D a warp, by a product with ones. stage: 16 rows a warp
template <int D>
__device__ inline void attention_store_and_sum(bf16* rows, size_t ld, float* column_sums, bf16* stage,
                                               const float sums[][8], float scale, int count, int columns) {
    constexpr int LD = D + 8, VECTORS = D / 8;
    int warp = threadIdx.x / 32, lane = lane_id();
    stage += warp * 16 * LD;
    #pragma unroll
    for (int i = 0; i < D / 16; i++) {
        for (int e = 0; e < 8; e += 2) {
            bool inside = block_row(e) < count;
            *(uint32_t*)(stage + block_row(e) * LD + i * 16 + block_column(e)) =
                inside ? pack_bf16(scale * sums[i][e], scale * sums[i][e + 1]) : 0;
        }
    }
    __syncwarp();
    for (int i = lane; i < 16 * VECTORS; i += 32) {
        int row = i / VECTORS, column = i % VECTORS * 8;
        if (row < count && column < columns) {
            *(uint4*)(rows + row * ld + column) = *(const uint4*)(stage + row * LD + column);
        }
    }
    const uint32_t one = pack_bf16(1, 1), ones[4] = {one, one, one, one};
    for (int i = 0; i < D / 16; i++) {
        float total[8] = {}; // every row the same
        uint32_t right[4];
        load_right(right, stage + i * 16, LD);
        block_multiply(total, ones, right);
        for (int e = 0; e < 8; e++) {
            if (block_row(e) == 0) { column_sums[warp * D + i * 16 + block_column(e)] = total[e]; }
        }
    }
}

// This block's row of partial sums
__device__ inline size_t attention_part(void) { return (size_t)blockIdx.z * gridDim.x + blockIdx.x; }

// to (columns) = column sums of the block's warps
template <int D> __device__ inline void attention_block_sums(float* to, const float* column_sums, int columns) {
    __syncthreads();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        float sum = 0;
        for (int warp = 0; warp < (int)blockDim.x / 32; warp++) { sum += column_sums[warp * D + c]; }
        to[c] = sum;
    }
}

// delta of a lane's two rows, from left factors
template <int D>
__device__ inline void attention_delta(float* delta, const uint32_t dout[][4], const uint32_t out[][4]) {
    delta[0] = delta[1] = 0;
    for (int i = 0; i < D / 16; i++) {
        for (int j = 0; j < 4; j++) {
            uint32_t x = dout[i][j], y = out[i][j];
            delta[j % 2] += bf16_low(x) * bf16_low(y) + bf16_high(x) * bf16_high(y);
        }
    }
    for (int half = 0; half < 2; half++) { delta[half] = row_sum(delta[half]); }
}

// dQ and delta. partials (B gridDim.x, C): column sums of dQ; NULL: they are not wanted
template <int D, class Places>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS)
attention_backward_query_tensor(bf16* dqkv, float* delta, float* partials, const bf16* dout, const bf16* out,
                                const float* lse, const bf16* qkv, Places places, AttentionDims d) {
    wait_for_kernel_in_front();
    __shared__ alignas(16) bf16 tiles[2 * ATTENTION_TILE * (D + 8)];
    __shared__ float column_sums[ATTENTION_WARPS * D];
    bf16 *keys = tiles, *values = keys + ATTENTION_TILE * (D + 8);
    int first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y, b = blockIdx.z;
    int count = d.NQ - first;
    size_t ld = 3 * (size_t)d.C, at = attention_at(d, b, h) + (size_t)first * d.C;
    size_t at_q = attention_at_q(d, b, h), row = ((size_t)b * d.H + h) * d.NQ + first;
    const bf16* k = qkv + at_q + d.C;
    uint32_t queries[D / 16][4], dout_rows[D / 16][4], out_rows[D / 16][4];
    attention_load_left<D>(queries, qkv + at_q + first * ld, ld, count, d.D);
    attention_load_left<D>(dout_rows, dout + at, d.C, count, d.D);
    attention_load_left<D>(out_rows, out + at, d.C, count, d.D);
    float row_delta[2], row_lse[2], along[2] = {}, sums[D / 16][8] = {}, scale = rsqrtf(d.D); // along: P . dP
    attention_delta<D>(row_delta, dout_rows, out_rows);
    if constexpr (Places::ANY) { places.template leave<D>(row_delta, dout_rows, values, k + d.C, h, first, d); }
    for (int e = 0; e < 4; e += 2) {
        bool inside = block_row(e) < count;
        row_lse[e / 2] = inside ? lse[row + block_row(e)] : 0;
        if (inside && lane_id() % 4 == 0) { delta[row + block_row(e)] = row_delta[e / 2]; }
    }
    for (int tile = 0; tile < d.N; tile += ATTENTION_TILE) {
        __syncthreads();
        load_rows<D>(keys, k + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        load_rows<D>(values, k + d.C + tile * ld, ld, ATTENTION_TILE, d.N - tile, d.D);
        __syncthreads();
        for (int j = 0; j < ATTENTION_TILE && tile + j < d.N && count > 0; j += 16) {
            float S[8] = {}, dP[8] = {};
            uint32_t dS[4];
            attention_dots<D>(S, queries, keys + j * (D + 8));
            attention_dots<D>(dP, dout_rows, values + j * (D + 8));
            for (int e = 0; e < 8; e++) {
                float P = tile + j + block_column(e) < d.N ? __expf(scale * S[e] - row_lse[e / 2 % 2]) : 0;
                S[e] = P * (places.keep(h) * dP[e] - row_delta[e / 2 % 2]);
                along[e / 2 % 2] += P * dP[e];
            }
            block_to_left(dS, S);
            attention_sums<D>(sums, dS, keys + j * (D + 8));
        }
    }
    for (int e = 0; Places::ANY && e < 4; e += 2) {
        float total = row_sum(along[e / 2]);
        if constexpr (Places::ANY) {
            places.note(total, row + block_row(e), block_row(e) < count && lane_id() % 4 == 0);
        }
    }
    __syncthreads(); // the tiles become rows to be stored
    attention_store_and_sum<D>(dqkv + at_q + first * ld, ld, column_sums, tiles, sums, scale, count, d.D);
    if (partials) { attention_block_sums<D>(partials + attention_part() * d.C + h * d.D, column_sums, d.D); }
}

// Shared memory of dK and dV's kernel: two tiles of queries and dout, one being filled, with their lse and delta; the
// block's values; column sums. Less than 99 KB, which any GPU from sm_80 on has.
template <int D> struct AttentionKeyShared {
    static constexpr int TILE = D <= 64 ? 64 : 32, LD = D + 8;
    bf16 tiles[2][2][TILE * LD];
    bf16 values[ATTENTION_WARPS * 16 * LD];
    float lse[2][TILE], delta[2][TILE];
    float column_sums[2][ATTENTION_WARPS * D];
};

// dK and dV: blocks are of S^T, rows of keys. Queries beyond the last are zeros with lse and delta 0: they add nothing.
// partials (B gridDim.x, 2C): column sums of dK and of dV; NULL: they are not wanted. Two blocks are to be on a
// multiprocessor, so registers are few: the values' left factors are loaded when they are needed.
template <int D, class Places>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS, D <= 64 ? 2 : 1)
attention_backward_key_tensor(bf16* dqkv, float* partials, const bf16* dout, const float* lse, const float* delta,
                              const bf16* qkv, Places places, AttentionDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    constexpr int TILE = AttentionKeyShared<D>::TILE, LD = D + 8;
    constexpr bool BESIDE = TILE * 2 == ATTENTION_WARPS * 16; // keys on their way to registers fill one buffer alone
    AttentionKeyShared<D>* s = (AttentionKeyShared<D>*)shared;
    int warp = threadIdx.x / 32, rows = blockDim.x / 2, h = blockIdx.y, b = blockIdx.z; // 16 rows a warp
    int block_first = blockIdx.x * rows, first = block_first + warp * 16, count = d.N - first;
    size_t ld = 3 * (size_t)d.C, at = attention_at(d, b, h), at_q = attention_at_q(d, b, h);
    size_t row = ((size_t)b * d.H + h) * d.NQ;
    const bf16* k = qkv + at_q + d.C + block_first * ld;
    auto load_tile = [&](int tile) {
        int buffer = tile / TILE % 2, left = d.NQ - tile;
        load_rows<D, true>(s->tiles[buffer][0], qkv + at_q + tile * ld, ld, TILE, left, d.D);
        load_rows<D, true>(s->tiles[buffer][1], dout + at + (size_t)tile * d.C, d.C, TILE, left, d.D);
        for (int i = threadIdx.x; i < TILE; i += blockDim.x) {
            copy_async(&s->lse[buffer][i], lse + row + (i < left ? tile + i : 0), i < left);
            copy_async(&s->delta[buffer][i], delta + row + (i < left ? tile + i : 0), i < left);
        }
    };
    bf16 *keys_here = BESIDE ? s->tiles[1][0] : s->tiles[0][0], *values = s->values + warp * 16 * LD;
    load_rows<D, true>(s->values, k + d.C, ld, rows, d.N - block_first, d.D);
    load_rows<D, true>(keys_here, k, ld, rows, d.N - block_first, d.D);
    if (BESIDE) { load_tile(0); }
    copy_async_wait_all();
    __syncthreads();
    uint32_t keys[D / 16][4];
    #pragma unroll
    for (int i = 0; i < D / 16; i++) { load_left(keys[i], keys_here + warp * 16 * LD + i * 16, LD); }
    if (!BESIDE) {
        __syncthreads();
        load_tile(0);
    }
    float dk[D / 16][8] = {}, dv[D / 16][8] = {}, scale = rsqrtf(d.D);
    for (int tile = 0; tile < d.NQ; tile += TILE) {
        int buffer = tile / TILE % 2;
        copy_async_wait_all();
        __syncthreads(); // the tile is there, and nobody reads the other one any more
        if (tile + TILE < d.NQ) { load_tile(tile + TILE); }
        for (int j = 0; j < TILE && tile + j < d.NQ && count > 0; j += 16) {
            const bf16 *queries = s->tiles[buffer][0] + j * LD, *dout_rows = s->tiles[buffer][1] + j * LD;
            float P[8] = {}, dS[8] = {};
            uint32_t factor[4];
            attention_dots<D>(P, keys, queries);
            attention_dots<D>(dS, values, dout_rows);
            for (int e = 0; e < 8; e++) {
                int column = j + block_column(e);
                P[e] = __expf(scale * P[e] - s->lse[buffer][column]);
                dS[e] = P[e] * (places.keep(h) * dS[e] - s->delta[buffer][column]);
            }
            if constexpr (Places::ANY) { places.blend_transposed(P, h, first, tile + j, d); }
            block_to_left(factor, P);
            attention_sums<D>(dv, factor, dout_rows);
            block_to_left(factor, dS);
            attention_sums<D>(dk, factor, queries);
        }
    }
    __syncwarp(); // the warp's values become rows to be stored
    bf16* to_k = dqkv + at_q + d.C + first * ld;
    attention_store_and_sum<D>(to_k, ld, s->column_sums[0], s->values, dk, scale, count, d.D);
    __syncwarp();
    attention_store_and_sum<D>(to_k + d.C, ld, s->column_sums[1], s->values, dv, 1, count, d.D);
    if (!partials) { return; }
    float* to = partials + attention_part() * 2 * d.C + h * d.D;
    attention_block_sums<D>(to, s->column_sums[0], d.D);
    attention_block_sums<D>(to + d.C, s->column_sums[1], d.D);
}

// ---- Launches

// Whether the shape can take the tensor cores: rows of whole 16-byte vectors
static inline bool attention_fits_tensor(AttentionDims d) { return d.D % 8 == 0 && d.D <= 128 && d.C % 8 == 0; }

template <int D, class Places>
static void attention_launch_forward(bf16* out, float* lse, const bf16* qkv, Places places, AttentionDims d,
                                     cudaStream_t stream) {
    dim3 grid(attention_blocks(d.NQ), d.H, d.B);
    launch_early(attention_forward_tensor<D, Places>, grid, 32 * attention_warps(d.NQ), 0, stream, out, lse, qkv,
                 places, d);
}

// partials: of dQ and of dK and dV, NULL or both
template <int D, class Places>
static void attention_launch_backward(bf16* dqkv, float* query_partials, float* key_partials, const bf16* dout,
                                      const bf16* out, const float* lse, const bf16* qkv, float* delta, Places places,
                                      AttentionDims d, cudaStream_t stream) {
    dim3 queries(attention_blocks(d.NQ), d.H, d.B), keys(attention_blocks(d.N), d.H, d.B);
    size_t shared = sizeof(AttentionKeyShared<D>);
    allow_shared(attention_backward_key_tensor<D, Places>, shared);
    launch_early(attention_backward_query_tensor<D, Places>, queries, 32 * attention_warps(d.NQ), 0, stream, dqkv,
                 delta, query_partials, dout, out, lse, qkv, places, d);
    launch_early(attention_backward_key_tensor<D, Places>, keys, 32 * attention_warps(d.N), shared, stream, dqkv,
                 key_partials, dout, lse, delta, qkv, places, d);
}

template <class T, class Places>
static void attention_forward_with(T* out, float* lse, const T* qkv, Places places, AttentionDims d,
                                   cudaStream_t stream) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            constexpr int WIDTH = Places::WIDTH;
            auto launch = d.D <= 32 ? attention_launch_forward<32, Places>
                        : d.D <= WIDTH ? attention_launch_forward<WIDTH, Places>
                        : attention_launch_forward<128, Places>;
            launch(out, lse, qkv, places, d, stream);
            return;
        }
    }
    size_t shared = PLAIN_ROWS * (size_t)(d.D + d.N) * sizeof(float);
    dim3 grid(plain_tiles(d.NQ), d.H, d.B);
    allow_shared(attention_forward_plain<T, Places>, shared);
    launch_early(attention_forward_plain<T, Places>, grid, PLAIN_THREADS, shared, stream, out, lse, qkv, places, d);
}

// The first H heads, of D each, of a layer of width C
template <class T>
static void attention_forward(T* out, float* lse, const T* qkv, int B, int N, int NQ, int C, int H, int D,
                              cudaStream_t stream) {
    attention_forward_with(out, lse, qkv, NoPlaces(), {B, N, NQ, C, H, D}, stream);
}

template <class T, class Places>
static bool attention_backward_with(T* dqkv, float* dbias, const T* dout, const T* out, const float* lse, const T* qkv,
                                    float* scratch, Places places, AttentionDims d, cudaStream_t stream) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (attention_fits_tensor(d)) {
            constexpr int WIDTH = Places::WIDTH;
            auto launch = d.D <= 32 ? attention_launch_backward<32, Places>
                        : d.D <= WIDTH ? attention_launch_backward<WIDTH, Places>
                        : attention_launch_backward<128, Places>;
            int query_parts = d.B * attention_blocks(d.NQ), key_parts = d.B * attention_blocks(d.N);
            int C = d.C, width = d.H * d.D;
            float* of_queries = scratch + attention_scratch(d.B, d.NQ, d.H);
            float* of_keys = of_queries + (size_t)query_parts * C;
            launch(dqkv, dbias ? of_queries : nullptr, dbias ? of_keys : nullptr, dout, out, lse, qkv, scratch, places,
                   d, stream);
            if (!dbias) { return false; }
            add_partials({{{dbias, width, of_queries, C, query_parts}, {dbias + C, width, of_keys, 2 * C, key_parts},
                           {dbias + 2 * C, width, of_keys + C, 2 * C, key_parts}}}, stream);
            return true;
        }
    }
    size_t shared = 2 * PLAIN_ROWS * (size_t)(d.D + d.N) * sizeof(float);
    dim3 queries(plain_tiles(d.NQ), d.H, d.B), keys(plain_tiles(d.N), d.H, d.B);
    allow_shared(attention_backward_query_plain<T, Places>, shared);
    allow_shared(attention_backward_key_plain<T, Places>, shared);
    launch_early(attention_backward_query_plain<T, Places>, queries, PLAIN_THREADS, shared, stream, dqkv, scratch, dout,
                 out, lse, qkv, places, d);
    launch_early(attention_backward_key_plain<T, Places>, keys, PLAIN_THREADS, shared, stream, dqkv, dout, lse, scratch,
                 qkv, places, d);
    return false;
}

// dbias (3,C), may be NULL: where the tensor cores are taken the heads' column sums of dqkv are added to it; returns
// whether that was done. scratch: attention_scratch floats, and with dbias attention_bias_scratch more
template <class T>
static bool attention_backward(T* dqkv, float* dbias, const T* dout, const T* out, const float* lse, const T* qkv,
                               float* scratch, int B, int N, int NQ, int C, int H, int D, cudaStream_t stream) {
    return attention_backward_with(dqkv, dbias, dout, out, lse, qkv, scratch, NoPlaces(), {B, N, NQ, C, H, D}, stream);
}
