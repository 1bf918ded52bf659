// Gated positional self-attention on the GPU: kernels/attention_gpsa.h, for T = float or bf16. Per image and head
//     patch = softmax(Q K^T / sqrt(D))      place_kq = softmax over q of  w . (dx, dy, dx^2 + dy^2)
//     A = (1 - g) patch + g place,  g = sigmoid(gating)          out = A V
//     backward: dA = dout V^T   dV = A^T dout   dS = patch ((1 - g) dA - delta),  delta = (1 - g) patch . dA
//               dQ = dS K / sqrt(D)   dK = dS^T Q / sqrt(D)       = dout . out - g place . dA
//               dplace = g dA, summed over the images: place . dA gives dgating, and softmax's backward dw
//     qkv (B,N,3,H,D)     position (H,3), w     gating (H)     out (B,N,C), C = H D     lse (B,H,N) fp32
// The kernels are those of attention.cuh, compiled once more with place mixed in; the sum of dA is that of
// attention_mixing.cuh. place is made once a call, in fp32 and, for the tensor cores, in bf16 as a lane's registers
// hold its blocks, so that a block is one load of 16 bytes a lane. Beside softmax attention's, products of 16 x 16 x 16
// for a block of A at D = 48: forward 3, backward 3 + 3. No atomics: the same bits in every run.
#pragma once
#include "activation_values.h"
#include "attention_mixing.cuh"

struct GpsaPlaces {
    static constexpr bool ANY = true;
    static constexpr int WIDTH = 48; // ConViT's heads
    const float *place, *gating;     // (H,N,N), (H)
    const uint4 *rows, *columns;     // blocks of 16 x 16 of place and of its transpose, (H,tiles,tiles,32)
    float* patch_dA;                 // (B,H,N): patch . dA of each row, for the gates
    __device__ float gate(int h) const { return sigmoid(gating[h]); }
    __device__ float keep(int h) const { return 1 - gate(h); }
    __device__ void note(float along, size_t row, bool mine) const {
        if (mine) { patch_dA[row] = along; }
    }

    // ---- Plain form

    // P (count,N) of the queries from first on, to A
    __device__ void blend_plain(float* P, int h, int first, int count, AttentionDims d) const {
        const float* rows_here = place + ((size_t)h * d.N + first) * d.N;
        float g = gate(h);
        for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) { P[i] += g * (rows_here[i] - P[i]); }
    }

    // P^T (count,N) of the keys from first on
    __device__ void blend_plain_transposed(float* P, int h, int first, int count, AttentionDims d) const {
        const float* matrix = place + (size_t)h * d.N * d.N;
        float g = gate(h);
        for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) {
            P[i] += g * (matrix[(size_t)(i % d.N) * d.N + first + i / d.N] - P[i]);
        }
    }

    // g place . dA of a row, by a warp
    __device__ float share_plain(const float* dA, int h, int row, AttentionDims d) const {
        const float* place_row = place + ((size_t)h * d.N + row) * d.N;
        float sum = 0;
        for (int n = threadIdx.x % WARP; n < d.N; n += WARP) { sum += place_row[n] * dA[n]; }
        return gate(h) * warp_sum(sum);
    }

    // ---- Tensor-core form

    // The block that begins at a row and a column, as a left factor
    __device__ void load(uint32_t* left, const uint4* blocks, int h, int row, int column, int N) const {
        int tiles = (N + 15) / 16;
        uint4 pairs = blocks[((size_t)(h * tiles + row / 16) * tiles + column / 16) * WARP + lane_id()];
        left[0] = pairs.x, left[1] = pairs.y, left[2] = pairs.z, left[3] = pairs.w;
    }

    // sums = patch V of a warp's 16 rows, to A V. tile: what a tile of values is loaded into
    template <int D>
    __device__ void blend(float sums[][8], bf16* tile, const bf16* values, int h, int first, AttentionDims d) const {
        float placed[D / 16][8] = {}, g = gate(h);
        size_t ld = 3 * (size_t)d.C;
        for (int n = 0; n < d.N; n += ATTENTION_TILE) {
            __syncthreads();
            load_rows<D>(tile, values + n * ld, ld, ATTENTION_TILE, d.N - n, d.D);
            __syncthreads();
            for (int j = 0; j < ATTENTION_TILE && n + j < d.N && first < d.N; j += 16) {
                uint32_t left[4];
                load(left, rows, h, first, n + j, d.N);
                attention_sums<D>(placed, left, tile + j * (D + 8));
            }
        }
        for (int i = 0; i < D / 16; i++) {
            for (int e = 0; e < 8; e++) { sums[i][e] += g * (placed[i][e] - sums[i][e]); }
        }
    }

    // dout . out of a lane's two rows, to delta
    template <int D>
    __device__ void leave(float* delta, const uint32_t dout[][4], bf16* tile, const bf16* values, int h, int first,
                          AttentionDims d) const {
        float along[2] = {};
        size_t ld = 3 * (size_t)d.C;
        for (int n = 0; n < d.N; n += ATTENTION_TILE) {
            __syncthreads();
            load_rows<D>(tile, values + n * ld, ld, ATTENTION_TILE, d.N - n, d.D);
            __syncthreads();
            for (int j = 0; j < ATTENTION_TILE && n + j < d.N && first < d.N; j += 16) {
                float dA[8] = {};
                uint32_t pairs[4];
                attention_dots<D>(dA, dout, tile + j * (D + 8));
                load(pairs, rows, h, first, n + j, d.N);
                for (int i = 0; i < 4; i++) {
                    along[i % 2] += bf16_low(pairs[i]) * dA[2 * i] + bf16_high(pairs[i]) * dA[2 * i + 1];
                }
            }
        }
        for (int half = 0; half < 2; half++) { delta[half] -= gate(h) * row_sum(along[half]); }
    }

    // A block of P^T to A^T: rows of keys from first, columns of queries from `column` on
    __device__ void blend_transposed(float* P, int h, int first, int column, AttentionDims d) const {
        float g = gate(h);
        uint32_t pairs[4];
        load(pairs, columns, h, first, column, d.N);
        for (int i = 0; i < 4; i++) {
            P[2 * i] += g * (bf16_low(pairs[i]) - P[2 * i]);
            P[2 * i + 1] += g * (bf16_high(pairs[i]) - P[2 * i + 1]);
        }
    }
};

// ---- place

struct GpsaOffset { float of[3]; }; // of patch q from patch k, and what w is multiplied by
__device__ inline GpsaOffset gpsa_offset(int k, int q, int S) {
    float dx = q % S - k % S, dy = q / S - k / S;
    return {{dx, dy, dx * dx + dy * dy}};
}

// A warp a row of (H,N,N)
__global__ void gpsa_place_kernel(float* place, const float* position, int S, int N, int rows) {
    int row = (blockIdx.x * BLOCK + threadIdx.x) / WARP;
    if (row >= rows) { return; }
    const float* w = position + row / N * 3;
    place += (size_t)row * N;
    for (int q = threadIdx.x % WARP; q < N; q += WARP) { // which the softmax's lanes are to read
        GpsaOffset offset = gpsa_offset(row % N, q, S);
        place[q] = w[0] * offset.of[0] + w[1] * offset.of[1] + w[2] * offset.of[2];
    }
    attention_softmax_row(place, N);
}

// blocks (2,H,tiles,tiles,32) of 4 pairs: of place, then of its transpose; zeros beyond N
__global__ void gpsa_blocks_kernel(uint32_t* blocks, const float* place, int N, int H) {
    int tiles = (N + 15) / 16, i = blockIdx.x * BLOCK + threadIdx.x, pair = i % 4, lane = i / 4 % WARP, block = i / 128;
    int column = block % tiles * 16, row = block / tiles % tiles * 16, h = block / tiles / tiles % H;
    bool transposed = block / tiles / tiles / H == 1;
    if (block >= 2 * H * tiles * tiles) { return; }
    float value[2];
    row += lane / 4 + pair % 2 * 8, column += lane % 4 * 2 + pair / 2 * 8; // as tensor_cores.cuh has them
    for (int j = 0; j < 2; j++) {
        int k = transposed ? column + j : row, q = transposed ? row : column + j;
        value[j] = k < N && q < N ? place[((size_t)h * N + k) * N + q] : 0;
    }
    blocks[i] = pack_bf16(value[0], value[1]);
}

struct GpsaScratch {
    float *blocks, *place, *delta, *patch_dA, *slots, *sums; // pairs, (H,N,N), (B,H,N), (B,H,N), mixing's, (H,N,4)
};

static inline size_t gpsa_scratch_cut(GpsaScratch* s, float* base, int B, int N, int H) {
    size_t tiles = ceil_div(N, 16), matrix = (size_t)H * N * N, rows = (size_t)B * H * N;
    const size_t sizes[] = {256 * H * tiles * tiles, matrix, rows, rows, mixing_scratch(B, N, H), 4 * (size_t)H * N};
    float** parts[] = {&s->blocks, &s->place, &s->delta, &s->patch_dA, &s->slots, &s->sums};
    size_t at = 0;
    for (int i = 0; i < 6; i++) {
        *parts[i] = base ? base + at : nullptr;
        at += (sizes[i] + 3) / 4 * 4; // blocks are loaded 16 bytes at a time
    }
    return at;
}

static inline size_t gpsa_scratch(int B, int N, int H) {
    GpsaScratch unused;
    return gpsa_scratch_cut(&unused, nullptr, B, N, H);
}

static inline GpsaPlaces gpsa_places(GpsaScratch s, const float* position, const float* gating, int N, int H,
                                     cudaStream_t stream) {
    int tiles = ceil_div(N, 16), S = (int)(sqrtf(N) + 0.5f), pairs = 256 * H * tiles * tiles;
    gpsa_place_kernel<<<ceil_div(H * N, BLOCK / WARP), BLOCK, 0, stream>>>(s.place, position, S, N, H * N);
    gpsa_blocks_kernel<<<ceil_div(pairs, (int)BLOCK), BLOCK, 0, stream>>>((uint32_t*)s.blocks, s.place, N, H);
    CUDA_CHECK_LAUNCH();
    const uint4* blocks = (const uint4*)s.blocks;
    return {s.place, gating, blocks, blocks + (size_t)H * tiles * tiles * WARP, s.patch_dA};
}

// ---- The gradients of w and of the gates

// From the slots' dA (slots,H,N,N), of each row: what it adds to dw, without g, and place . dA. A warp a row; the first
// slot takes the others.
__global__ void gpsa_rows_kernel(float* sums, float* slots, const float* place, int S, int N, int rows, int count) {
    int row = (blockIdx.x * BLOCK + threadIdx.x) / WARP;
    if (row >= rows) { return; }
    float *dA = slots + (size_t)row * N, along = 0, dw[3] = {};
    place += (size_t)row * N;
    for (int q = threadIdx.x % WARP; q < N; q += WARP) {
        for (int slot = 1; slot < count; slot++) { dA[q] += dA[(size_t)slot * rows * N + q]; }
        along += place[q] * dA[q];
    }
    along = warp_sum(along);
    for (int q = threadIdx.x % WARP; q < N; q += WARP) {
        GpsaOffset offset = gpsa_offset(row % N, q, S);
        float dS = place[q] * (dA[q] - along);
        for (int i = 0; i < 3; i++) { dw[i] += dS * offset.of[i]; }
    }
    for (int i = 0; i < 3; i++) { dw[i] = warp_sum(dw[i]); }
    if (threadIdx.x % WARP < 4) {
        int i = threadIdx.x % WARP;
        sums[(size_t)row * 4 + i] = i == 0 ? dw[0] : i == 1 ? dw[1] : i == 2 ? dw[2] : along;
    }
}

// A block a head: dw += g sums over the rows, dgating += g (1 - g) (place . dA - patch . dA)
__global__ void gpsa_gradients_kernel(float* dposition, float* dgating, const float* sums, const float* patch_dA,
                                      const float* gating, int B, int N, int H) {
    int h = blockIdx.x;
    float total[4] = {}, along = 0, g = sigmoid(gating[h]);
    for (int k = threadIdx.x; k < N; k += BLOCK) {
        for (int i = 0; i < 4; i++) { total[i] += sums[((size_t)h * N + k) * 4 + i]; }
    }
    for (int i = threadIdx.x; i < B * N; i += BLOCK) { along += patch_dA[((size_t)(i / N) * H + h) * N + i % N]; }
    for (int i = 0; i < 4; i++) { total[i] = block_sum(total[i]); }
    along = block_sum(along);
    if (threadIdx.x > 0) { return; }
    for (int i = 0; i < 3; i++) { dposition[3 * h + i] += g * total[i]; }
    dgating[h] += g * (1 - g) * (total[3] - along);
}

// ---- Launches. scratch: gpsa_scratch floats

template <class T>
static void gpsa_forward(T* out, float* lse, const T* qkv, const float* position, const float* gating, float* scratch,
                         int B, int N, int C, int H, cudaStream_t stream) {
    GpsaScratch s;
    gpsa_scratch_cut(&s, scratch, B, N, H);
    GpsaPlaces places = gpsa_places(s, position, gating, N, H, stream);
    attention_forward_with(out, lse, qkv, places, {B, N, N, C, H, C / H}, stream);
}

// dposition and dgating are added to
template <class T>
static void gpsa_backward(T* dqkv, float* dposition, float* dgating, const T* dout, const T* out, const float* lse,
                          const T* qkv, const float* position, const float* gating, float* scratch, int B, int N, int C,
                          int H, cudaStream_t stream) {
    AttentionDims d = {B, N, N, C, H, C / H};
    int rows = H * N, S = (int)(sqrtf(N) + 0.5f);
    GpsaScratch s;
    gpsa_scratch_cut(&s, scratch, B, N, H);
    GpsaPlaces places = gpsa_places(s, position, gating, N, H, stream);
    attention_backward_with(dqkv, (float*)nullptr, dout, out, lse, qkv, s.delta, places, d, stream);
    mixing_gradient(s.slots, dout, qkv, d, stream);
    gpsa_rows_kernel<<<ceil_div(rows, BLOCK / WARP), BLOCK, 0, stream>>>(s.sums, s.slots, s.place, S, N, rows,
                                                                        mixing_slots(B));
    gpsa_gradients_kernel<<<H, BLOCK, 0, stream>>>(dposition, dgating, s.sums, s.patch_dA, gating, B, N, H);
    CUDA_CHECK_LAUNCH();
}
