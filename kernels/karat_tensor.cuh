// Kolmogorov-Arnold attention (karat.cuh) in the Fourier basis, on tensor cores: bf16, R (and beta's column) up to 16.
// A block keeps all keys of a head in shared memory. The accumulators of a 16 x 16 block of A become, by one sine and
// cosine and rotation, those of the features cos(mx), sin(mx), and these the left factors of the next product: features
// do not leave their registers. Ranks are padded to 16; beta is a further column of W whose z is 1.
//
// Products of 16 x 16 x 16, two instructions each, for each block of A at D = 64: forward 4 + 2G, backward 12 + 4G
// (softmax: 8 and, with one pass, 20). Bytes: the forward reads qkv, V once more where N takes two blocks, and writes
// out and z; the backward reads qkv, dout, z and writes dqkv, once.
//
//     forward   a warp has 16 rows k:  z += features(A) C over all q;  out = z U
//     backward  a block has a head and the samples of a slot, a warp 16 rows q of A^T:
//               dC_m += e_m(A^T) dz in registers, over all samples;   dA^T = sum_m e_m'(A^T) (C_m dz^T)
//               dA^T goes to shared memory whole, and from there into dQ = dA K and dK = dA^T Q
//
// The backward's loads are asynchronous: queries and keys come while dz and dV are calculated from values and dout, and
// where there is room for these beside dA, those of the next sample come while dA, dQ and dK are calculated.
#pragma once
#include "attention.cuh"
#include "karat_plain.cuh"

constexpr int KARAT_WARPS = 13;    // of the backward: 208 rows, and 128 registers a thread
constexpr int KARAT_WIDTH = 64;      // D padded
constexpr int KARAT_RANK = 16;       // R padded
constexpr int KARAT_RANK_LD = KARAT_RANK + 8; // between rows (.,R) in shared memory: in different banks

__host__ __device__ inline int karat_tiles(int rows) { return (rows + 15) / 16; }

// ---- Coefficients as a lane's registers hold them: (H, tiles of q, 2G, 32 lanes, 4 pairs), zeros beyond N and R

// Of the forward, right factors (q,p): pairs of q. Of the backward, left factors (q,p): pairs of p.
__global__ void karat_fold_tensor(uint32_t* coefs, KaratOperator w, KaratDims d, bool right) {
    wait_for_kernel_in_front();
    int i = blockIdx.x * blockDim.x + threadIdx.x, pair = i % 4, lane = i / 4 % 32, m = i / 128 % (2 * d.G);
    int tile = i / 128 / (2 * d.G) % karat_tiles(d.N), h = i / 128 / (2 * d.G) / karat_tiles(d.N);
    if (h >= d.H) { return; }
    int single = lane / 4 + (right ? pair / 2 : pair % 2) * 8;
    int paired = lane % 4 * 2 + (right ? pair % 2 : pair / 2) * 8;
    float value[2];
    for (int j = 0; j < 2; j++) {
        int q = tile * 16 + (right ? paired + j : single), p = right ? single : paired + j;
        value[j] = q < d.N && p < d.R ? karat_coefficient(w, d, h, m, q, p) : 0;
    }
    coefs[i] = pack_bf16(value[0], value[1]);
}

__device__ inline void karat_load_coefs(uint32_t* factor, const uint32_t* coefs, int m) {
    uint4 pairs = ((const uint4*)coefs)[m * 32 + lane_id()];
    factor[0] = pairs.x, factor[1] = pairs.y, factor[2] = pairs.z, factor[3] = pairs.w;
}

// ---- Harmonics of a 16 x 16 block

struct Harmonics { float cos1[8], sin1[8], cosine[8], sine[8]; }; // of x and of mx

// The special-function unit is good to 2^-21 within (-pi, pi)
__device__ inline void sincos_fast(float x, float* sine, float* cosine) {
    float turns = rintf(x * 0.15915494f), rest = x - turns * 6.28125f - turns * 1.9353072e-3f;
    *sine = __sinf(rest);
    *cosine = __cosf(rest);
}

__device__ inline void harmonics_start(Harmonics* w, const float* x) {
    #pragma unroll
    for (int e = 0; e < 8; e++) {
        sincos_fast(x[e], &w->sin1[e], &w->cos1[e]);
        w->sine[e] = w->sin1[e];
        w->cosine[e] = w->cos1[e];
    }
}

// From m to m + 1
__device__ inline void harmonics_next(Harmonics* w) {
    #pragma unroll
    for (int e = 0; e < 8; e++) {
        float cosine = w->cosine[e] * w->cos1[e] - w->sine[e] * w->sin1[e];
        w->sine[e] = w->sine[e] * w->cos1[e] + w->cosine[e] * w->sin1[e];
        w->cosine[e] = cosine;
    }
}

// cos(mx) and sin(mx) of one element from those of x, by Chebyshev's recurrence, for a small m known to the compiler:
// where registers are short, nothing is carried from one m to the next
__device__ inline void harmonic(int m, float cos1, float sin1, float* cosine, float* sine) {
    float cosine_before = 1, sine_before = 0;
    *cosine = cos1, *sine = sin1;
    for (int i = 1; i < m; i++) {
        float next_cosine = 2 * cos1 * *cosine - cosine_before, next_sine = 2 * cos1 * *sine - sine_before;
        cosine_before = *cosine, sine_before = *sine;
        *cosine = next_cosine, *sine = next_sine;
    }
}

// ---- Products over all tokens

// tile (padded, KARAT_RANK) in shared memory, ld apart, = rows (count,R), column R extra (count); NULL: all `otherwise`
__device__ inline void karat_load_rank(bf16* tile, int ld, const float* rows, int count, const float* extra,
                                       float otherwise, KaratDims d) {
    for (int i = threadIdx.x; i < karat_tiles(d.N) * 16 * KARAT_RANK; i += blockDim.x) {
        int n = i / KARAT_RANK, p = i % KARAT_RANK;
        float value = 0;
        if (n < count && p <= d.R) { value = p < d.R ? rows[(size_t)n * d.R + p] : extra ? extra[n] : otherwise; }
        tile[n * ld + p] = __float2bfloat16(value);
    }
}

// 16 columns of sums (KARAT_RANK, D) = rank^T matrix, rank (padded, KARAT_RANK), matrix (padded, D): U, dU. By a warp.
template <int D>
__device__ inline void karat_rank_product(bf16* sums, const bf16* rank, int ld, const bf16* matrix, int column,
                                          int tiles) {
    float block[8] = {};
    #pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        uint32_t left[4], right[4];
        load_left_transposed(left, rank + tile * 16 * ld, ld);
        load_right(right, matrix + tile * 16 * (D + 8) + column, D + 8);
        block_multiply(block, left, right);
    }
    store_block(sums, D + 8, block, 1, column, KARAT_RANK, D);
}

// What windows do to a block of logits, and to the features' left factors (karat_window_tensor.cuh): here nothing
struct KaratNoWindow {
    __device__ void logits(float*) const {}
    __device__ void keep_met(uint32_t*) const {}
};

// ---- Forward: blocks (up to ATTENTION_WARPS tiles of rows k, head, sample)

static inline size_t karat_forward_tensor_shared(KaratDims d, int D) {
    size_t padded = (size_t)karat_tiles(d.N) * 16;
    return (2 * padded * (D + 8) + padded * KARAT_RANK_LD + KARAT_RANK * (D + 8)) * sizeof(bf16);
}

// z (16,16) of a warp's rows; window(tile): what is done to the logits and features of a tile of q
template <int D, class Windows>
__device__ inline void karat_tensor_z(float* z, const uint32_t queries[][4], const bf16* keys, const uint32_t* coefs,
                                      float scale, KaratDims d, Windows window) {
    for (int tile = 0; tile < karat_tiles(d.N); tile++, coefs += 2 * d.G * 128) {
        float x[8] = {};
        attention_dots<D>(x, queries, keys + tile * 16 * (D + 8));
        for (int e = 0; e < 8; e++) { x[e] *= scale; }
        auto here = window(tile);
        here.logits(x);
        Harmonics w;
        harmonics_start(&w, x);
        for (int m = 0; m < d.G; m++) {
            uint32_t left[4], right[4];
            karat_load_coefs(right, coefs, m);
            block_to_left(left, w.cosine);
            here.keep_met(left);
            block_multiply(z, left, right);
            karat_load_coefs(right, coefs, d.G + m);
            block_to_left(left, w.sine);
            here.keep_met(left);
            block_multiply(z, left, right);
            harmonics_next(&w);
        }
    }
}

template <int D>
__global__ void __launch_bounds__(32 * ATTENTION_WARPS, 2)
karat_forward_tensor(bf16* out, float* z, const bf16* qkv, const uint32_t* coefs, const float* W, const float* beta,
                     KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int warp = threadIdx.x / 32, first = (blockIdx.x * blockDim.x + threadIdx.x) / 32 * 16, h = blockIdx.y;
    int b = blockIdx.z, tiles = karat_tiles(d.N), count = d.NQ - first;
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h;
    const bf16* q = qkv + b * d.N * ld + h * d.D;
    bf16 *keys = (bf16*)shared, *values = keys + tiles * 16 * (D + 8), *weights = values + tiles * 16 * (D + 8);
    bf16* U = weights + tiles * 16 * KARAT_RANK_LD;
    load_rows<D>(keys, q + d.C, ld, tiles * 16, d.N, d.D);
    load_rows<D>(values, q + 2 * d.C, ld, tiles * 16, d.N, d.D);
    karat_load_rank(weights, KARAT_RANK_LD, W + (size_t)h * d.N * d.R, d.N, beta, 0, d);
    __syncthreads();
    for (int i = warp; i < D / 16; i += blockDim.x / 32) {
        karat_rank_product<D>(U, weights, KARAT_RANK_LD, values, i * 16, tiles);
    }
    uint32_t queries[D / 16][4], left[4];
    float block[8] = {}, sums[D / 16][8] = {};
    attention_load_left<D>(queries, q + first * ld, ld, count, d.D);
    karat_tensor_z<D>(block, queries, keys, coefs + (size_t)h * tiles * 2 * d.G * 128, rsqrtf(d.D), d,
                      [](int) { return KaratNoWindow(); });
    for (int e = 0; e < 8; e++) {
        int row = block_row(e), p = block_column(e);
        if (row < count && p < d.R) { z[(bh * d.NQ + first + row) * d.R + p] = block[e]; }
        if (beta && p == d.R) { block[e] = 1; }
    }
    __syncthreads();
    block_to_left(left, block);
    attention_sums<D>(sums, left, U);
    attention_store<D>(out + ((size_t)b * d.NQ + first) * d.C + h * d.D, d.C, sums, 1, count, d.D);
}

// ---- Backward: blocks (slot, head) of a warp for each tile of rows

// Whether the harmonics are more than have their dC in registers
static inline bool karat_many(KaratDims d) { return d.G > 3; }

// What there is room for in shared memory
struct KaratRoom {
    bool ahead; // values and dout beside dA, not in its place, so that those of the next sample can come
    bool wide;  // dA in fp32 between two groups of harmonics
};

template <int D> struct KaratShared { // bf16, rows D + 8, KARAT_RANK (weights), KARAT_RANK_LD (dz), dA_ld apart
    bf16 *queries, *keys;   // (padded, D)
    bf16 *weights, *dz;     // (padded, KARAT_RANK); z until dz is there
    bf16* dA;               // (padded, padded), dA^T, in the place of U, dU and unless ahead of values and dout, which
                            // are not read any more by then
    bf16 *U, *dU;           // (KARAT_RANK, D)
    bf16 *values, *dout;    // (padded, D)
    int dA_ld;              // such that rows that a warp loads together are in different banks
};

template <int D> __host__ __device__ inline size_t karat_backward_cut(KaratShared<D>* s, bf16* at, KaratRoom room,
                                                                      KaratDims d) {
    size_t padded = (size_t)karat_tiles(d.N) * 16, rows = padded * (D + 8);
    bf16* start = at;
    s->dA_ld = (room.wide ? 2 * padded : padded) + 8;
    s->queries = at, at += rows;
    s->keys = at, at += rows;
    s->weights = at, at += padded * KARAT_RANK;
    s->dz = at, at += padded * KARAT_RANK_LD;
    s->dA = s->U = at, at += KARAT_RANK * (D + 8);
    s->dU = at, at += KARAT_RANK * (D + 8);
    bf16* end = s->dA + padded * s->dA_ld;
    if (room.ahead && end > at) { at = end; }
    s->values = at, at += rows;
    s->dout = at, at += rows;
    return (end > at ? end : at) - start;
}

static inline size_t karat_backward_tensor_shared(KaratRoom room, KaratDims d) {
    KaratShared<KARAT_WIDTH> unused;
    return karat_backward_cut<KARAT_WIDTH>(&unused, nullptr, room, d) * sizeof(bf16);
}

// What leaves room for as many blocks as karat_slots counts on; each takes 1 KB more. At D = 64, sm_90's 227 KB let dA
// be wide up to 192 tokens, and values be loaded ahead for 197. Without either these take 162.5 KB of the 163 that
// sm_80 has: hence weights without gaps.
static inline KaratRoom karat_backward_room(KaratDims d) {
    static const KaratRoom wishes[] = {{true, true}, {false, true}, {true, false}};
    for (KaratRoom room : wishes) {
        if (room.wide && !karat_many(d)) { continue; }
        size_t block = karat_backward_tensor_shared(room, d) + 1024;
        if (karat_resident(d) * block <= shared_limit() + 1024) { return room; }
    }
    return {false, false};
}

// The forward lines: U = W^T V; out = z U. dz (to shared memory) and dV of a warp's rows; adds to dW (N,KARAT_RANK), or
// begins it.
template <int D>
__device__ inline void karat_tensor_value_backward(float* dW, bf16* dv, KaratShared<D> s, int first, bool begins,
                                                   KaratDims d) {
    float dz[8] = {}, block_dW[8] = {}, sums[D / 16][8] = {};
    uint32_t left[4], right[4];
    for (int i = 0; i < D; i += 16) {
        load_left(left, s.dout + first * (D + 8) + i, D + 8);
        load_right_transposed(right, s.U + i, D + 8);
        block_multiply(dz, left, right);
        load_left(left, s.values + first * (D + 8) + i, D + 8);
        load_right_transposed(right, s.dU + i, D + 8);
        block_multiply(block_dW, left, right);
    }
    load_left(left, s.weights + first * KARAT_RANK, KARAT_RANK);
    attention_sums<D>(sums, left, s.dU);
    attention_store<D>(dv, 3 * (size_t)d.C, sums, 1, d.N - first, d.D);
    store_block(s.dz + first * KARAT_RANK_LD, KARAT_RANK_LD, dz, 1, 0, 16, KARAT_RANK);
    for (int e = 0; e < 8; e += 2) {
        if (first + block_row(e) >= d.N) { continue; }
        float2* pair = (float2*)(dW + (first + block_row(e)) * KARAT_RANK + block_column(e));
        float2 before = begins ? make_float2(0, 0) : *pair;
        *pair = make_float2(before.x + block_dW[e], before.y + block_dW[e + 1]);
    }
}

// The forward lines: A = Q K^T / sqrt(D); z = features(A) C, harmonics before + 1 .. before + GROUP of them. Adds to
// one block of dA^T, rows q and columns k of which dz are, and to dC.
template <int D, int GROUP, bool MANY, class Window>
__device__ inline void karat_tensor_block_backward(float* dA, float dC[][8], const bf16* keys, const bf16* queries,
                                                   const bf16* dz, const uint32_t* coefs, int before, float scale,
                                                   KaratDims d, Window window) {
    uint32_t left[4], right[4];
    float x[8] = {}, cos1[8], sin1[8];
    #pragma unroll
    for (int i = 0; i < D; i += 16) {
        load_left(left, keys + i, D + 8);
        load_right_transposed(right, queries + i, D + 8);
        block_multiply(x, left, right);
    }
    for (int e = 0; e < 8; e++) { x[e] *= scale; }
    window.logits(x);
    for (int e = 0; !MANY && e < 8; e++) { sincos_fast(x[e], &sin1[e], &cos1[e]); }
    #pragma unroll
    for (int i = 0; i < GROUP; i++) {
        int m = before + i + 1;
        if (MANY && m > d.G) { break; }
        float cosine[8] = {}, sine[8] = {}; // gradients of the features, then the features
        __syncwarp(); // keeps the loads of this turn from moving up into earlier ones: registers are short
        load_right_transposed(right, dz, KARAT_RANK_LD);
        karat_load_coefs(left, coefs, m - 1);
        block_multiply(cosine, left, right);
        karat_load_coefs(left, coefs, d.G + m - 1);
        block_multiply(sine, left, right);
        for (int e = 0; e < 8; e++) {
            float dcosine = cosine[e], dsine = sine[e];
            if (MANY) { sincos_fast(m * x[e], &sine[e], &cosine[e]); }
            else { harmonic(i + 1, cos1[e], sin1[e], &cosine[e], &sine[e]); }
            dA[e] += m * (cosine[e] * dsine - sine[e] * dcosine);
        }
        load_right(right, dz, KARAT_RANK_LD);
        block_to_left(left, cosine);
        window.keep_met(left);
        block_multiply(dC[i], left, right);
        block_to_left(left, sine);
        window.keep_met(left);
        block_multiply(dC[GROUP + i], left, right);
    }
}

// A block of dA between two groups of harmonics: its columns of rows ld apart
__device__ inline void karat_load_sums(float* dA, const bf16* rows, int ld, int column, bool wide) {
    for (int e = 0; e < 8; e += 2) {
        const bf16* row = rows + block_row(e) * ld;
        int at = column + block_column(e);
        if (wide) {
            uint2 pair = *(const uint2*)(row + 2 * at);
            dA[e] = __uint_as_float(pair.x), dA[e + 1] = __uint_as_float(pair.y);
        } else {
            uint32_t pair = *(const uint32_t*)(row + at);
            dA[e] = bf16_low(pair), dA[e + 1] = bf16_high(pair);
        }
    }
}

__device__ inline void karat_store_sums(bf16* rows, int ld, int column, const float* dA) {
    for (int e = 0; e < 8; e += 2) {
        uint2* pair = (uint2*)(rows + block_row(e) * ld + 2 * (column + block_column(e)));
        *pair = make_uint2(__float_as_uint(dA[e]), __float_as_uint(dA[e + 1]));
    }
}

// dA^T of a warp's rows and of all queries, to shared memory; adds to dC. A further group of harmonics adds to what the
// one before stored. If that was fp32, the last group stores bf16 in the first half of each row, over columns that the
// warp has read: the first block's own before the __syncwarp above.
template <int D, int GROUP, bool MANY>
__device__ inline void karat_tensor_rows_backward(float dC[][8], KaratShared<D> s, const uint32_t* coefs, int before,
                                                  int first, float scale, bool wide, KaratDims d) {
    bf16* rows = s.dA + first * s.dA_ld;
    #pragma unroll 1
    for (int column = 0; column < d.NQ; column += 16) {
        float dA[8] = {};
        if (MANY && before > 0) { karat_load_sums(dA, rows, s.dA_ld, column, wide); }
        karat_tensor_block_backward<D, GROUP, MANY>(dA, dC, s.keys + first * (D + 8), s.queries + column * (D + 8),
                                                    s.dz + column * KARAT_RANK_LD, coefs, before, scale, d,
                                                    KaratNoWindow());
        if (MANY && wide && before + GROUP < d.G) {
            karat_store_sums(rows, s.dA_ld, column, dA);
        } else {
            store_block(rows + column, s.dA_ld, dA, 1, 0, 16, 16);
        }
    }
}

// To dcoefs (N,2G,R) dC of a warp's rows, which starts again from zero
template <int GROUP>
__device__ inline void karat_tensor_add_coefs(float* dcoefs, float dC[][8], int before, int first, bool begins,
                                              KaratDims d) {
    #pragma unroll
    for (int i = 0; i < 2 * GROUP; i++) {
        int harmonic = before + i % GROUP, m = i < GROUP ? harmonic : d.G + harmonic;
        for (int e = 0; e < 8; e++) {
            int q = first + block_row(e), p = block_column(e);
            if (harmonic < d.G && q < d.N && p < d.R) {
                karat_slot_add(dcoefs + (size_t)(q * 2 * d.G + m) * d.R + p, dC[i][e], begins);
            }
            dC[i][e] = 0;
        }
    }
}

// dQ and dK of a warp's rows from dA^T
template <int D>
__device__ inline void karat_tensor_logits_backward(bf16* dq, KaratShared<D> s, int first, float scale, KaratDims d) {
    int tiles = karat_tiles(d.N), ld = s.dA_ld;
    uint32_t left[4];
    float sums[D / 16][8] = {};
    #pragma unroll 1
    for (int tile = 0; tile < tiles && first < d.NQ; tile++) {
        load_left_transposed(left, s.dA + tile * 16 * ld + first, ld);
        attention_sums<D>(sums, left, s.keys + tile * 16 * (D + 8));
    }
    attention_store<D>(dq, 3 * (size_t)d.C, sums, scale, d.NQ - first, d.D);
    for (int i = 0; i < D / 16; i++) {
        for (int e = 0; e < 8; e++) { sums[i][e] = 0; }
    }
    #pragma unroll 1
    for (int tile = 0; tile < karat_tiles(d.NQ); tile++) {
        load_left(left, s.dA + first * ld + tile * 16, ld);
        attention_sums<D>(sums, left, s.queries + tile * 16 * (D + 8));
    }
    attention_store<D>(dq + d.C, 3 * (size_t)d.C, sums, scale, d.N - first, d.D);
}

// Starts the copies of a sample's values and dout
template <int D>
__device__ inline void karat_tensor_start_values(KaratShared<D> s, const bf16* qkv, const bf16* dout, int b, int h,
                                                 KaratDims d) {
    size_t ld = 3 * (size_t)d.C;
    int padded = karat_tiles(d.N) * 16;
    load_rows<D, true>(s.values, qkv + b * d.N * ld + 2 * d.C + h * d.D, ld, padded, d.N, d.D);
    load_rows<D, true>(s.dout, dout + (size_t)b * d.NQ * d.C + h * d.D, d.C, padded, d.NQ, d.D);
    copy_async_commit();
}

template <int D>
__device__ inline void karat_tensor_start_logits(KaratShared<D> s, const bf16* q, KaratDims d) {
    size_t ld = 3 * (size_t)d.C;
    int padded = karat_tiles(d.N) * 16;
    load_rows<D, true>(s.queries, q, ld, padded, d.NQ, d.D);
    load_rows<D, true>(s.keys, q + d.C, ld, padded, d.N, d.D);
    copy_async_commit();
}

// A block's sums begin as zeros where registers are too few to know which sample is the first
__device__ inline void karat_begin_sums(float* sums, int count) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) { sums[i] = 0; }
}

// dcoefs (H,slots,N,2G,R), dW (H,slots,N,KARAT_RANK). Where G fits into one GROUP, dC stays in registers over all
// samples; else (MANY) every sample takes the harmonics group by group, between which dA is rounded to bf16 unless there
// is room for fp32.
template <int D, int GROUP, bool MANY>
__global__ void __launch_bounds__(32 * KARAT_WARPS, 1)
karat_backward_tensor(bf16* dqkv, float* dcoefs, float* dW, const bf16* dout, const float* z, const bf16* qkv,
                      const uint32_t* coefs, const float* W, const float* beta, KaratRoom room, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int slot = blockIdx.x, slots = gridDim.x, h = blockIdx.y, first = threadIdx.x / 32 * 16, tiles = karat_tiles(d.N);
    size_t ld = 3 * (size_t)d.C, row = ((size_t)h * slots + slot) * d.N; // the slot's
    float dC[2 * GROUP][8] = {}, scale = rsqrtf(d.D);
    KaratShared<D> s;
    if (MANY) {
        karat_begin_sums(dW + row * KARAT_RANK, d.N * KARAT_RANK);
        karat_begin_sums(dcoefs + row * 2 * d.G * d.R, d.N * 2 * d.G * d.R);
    }
    room.wide = MANY && room.wide;
    karat_backward_cut(&s, (bf16*)shared, room, d);
    coefs += (size_t)(h * tiles + first / 16) * 2 * d.G * 128;
    karat_load_rank(s.weights, KARAT_RANK, W + (size_t)h * d.N * d.R, d.N, beta, 0, d);
    if (room.ahead) { karat_tensor_start_values(s, qkv, dout, karat_slot_start(d, slot, slots), h, d); }
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        bf16* dq = dqkv + b * d.N * ld + h * d.D + first * ld;
        bool begins = !MANY && b == karat_slot_start(d, slot, slots);
        __syncthreads();
        if (!room.ahead) { karat_tensor_start_values(s, qkv, dout, b, h, d); }
        karat_tensor_start_logits(s, qkv + b * d.N * ld + h * d.D, d);
        karat_load_rank(s.dz, KARAT_RANK_LD, z + ((size_t)b * d.H + h) * d.NQ * d.R, d.NQ, nullptr, beta ? 1 : 0, d);
        copy_async_wait<1>(); // for values and dout
        __syncthreads();
        for (int i = first; i < 2 * D; i += tiles * 16) {
            if (i < D) {
                karat_rank_product<D>(s.U, s.weights, KARAT_RANK, s.values, i, tiles);
            } else {
                karat_rank_product<D>(s.dU, s.dz, KARAT_RANK_LD, s.dout, i - D, tiles);
            }
        }
        __syncthreads();
        karat_tensor_value_backward<D>(dW + row * KARAT_RANK, dq + 2 * d.C, s, first, begins, d);
        copy_async_wait<0>();
        __syncthreads();
        if (room.ahead && b + 1 < karat_slot_start(d, slot + 1, slots)) {
            karat_tensor_start_values(s, qkv, dout, b + 1, h, d);
        }
        for (int before = 0; before < (MANY ? d.G : 1); before += GROUP) {
            karat_tensor_rows_backward<D, GROUP, MANY>(dC, s, coefs, before, first, scale, room.wide, d);
            if (MANY) { karat_tensor_add_coefs<GROUP>(dcoefs + row * 2 * d.G * d.R, dC, before, first, false, d); }
        }
        __syncthreads();
        karat_tensor_logits_backward<D>(dq, s, first, scale, d);
    }
    if (!MANY) { karat_tensor_add_coefs<GROUP>(dcoefs + row * 2 * d.G * d.R, dC, 0, first, true, d); }
}

// ---- Launches

static inline bool karat_fits_tensor(KaratDims d, bool bias) {
    bool usual = d.order == KARAT_W_PHI && !d.full_rank && d.projection == PROJECT_NONE && !karat_in_windows(d);
    return usual && d.basis == BASIS_FOURIER && d.base == KARAT_BASE_ZERO && d.R + bias <= KARAT_RANK &&
           d.D % 8 == 0 && d.D <= KARAT_WIDTH && d.C % 8 == 0 && karat_tiles(d.N) <= KARAT_WARPS &&
           karat_backward_tensor_shared({false, false}, d) <= shared_limit();
}

static void karat_launch_fold(float* coefs, KaratParams params, bool right, KaratDims d, cudaStream_t stream) {
    int pairs = d.H * karat_tiles(d.N) * 2 * d.G * 128;
    launch_early(karat_fold_tensor, ceil_div(pairs, BLOCK), BLOCK, 0, stream, (uint32_t*)coefs, params.inner, d, right);
}

template <int D>
static void karat_launch_forward(bf16* out, float* z, const bf16* qkv, KaratParams params, float* coefs, KaratDims d,
                                 cudaStream_t stream) {
    dim3 grid(attention_blocks(d.NQ), d.H, d.B);
    size_t shared = karat_forward_tensor_shared(d, D);
    karat_launch_fold(coefs, params, true, d, stream);
    allow_shared(karat_forward_tensor<D>, shared);
    launch_early(karat_forward_tensor<D>, grid, 32 * attention_warps(d.NQ), shared, stream, out, z, qkv,
                 (const uint32_t*)coefs, params.proj_weight, params.proj_bias, d);
}

template <int D, int GROUP, bool MANY>
static void karat_launch_backward(bf16* dqkv, float* dcoefs, float* dW, const bf16* dout, const float* z,
                                  const bf16* qkv, KaratParams params, float* coefs, KaratDims d, cudaStream_t stream) {
    KaratRoom room = karat_backward_room(d);
    size_t shared = karat_backward_tensor_shared(room, d);
    karat_launch_fold(coefs, params, false, d, stream);
    allow_shared(karat_backward_tensor<D, GROUP, MANY>, shared);
    launch_early(karat_backward_tensor<D, GROUP, MANY>, dim3(karat_slots(d), d.H), 32 * karat_tiles(d.N), shared,
                 stream, dqkv, dcoefs, dW, dout, z, qkv, (const uint32_t*)coefs, params.proj_weight, params.proj_bias,
                 room, d);
}
