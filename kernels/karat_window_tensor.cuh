// Kolmogorov-Arnold attention in windows of a grid (karat_window.cuh) on tensor cores: bf16, the Fourier basis with up
// to 3 harmonics, R (and beta's column) up to 16, D up to 32, windows of up to 64 tokens. What is done to a block of A
// is that of karat_tensor.cuh; a warp has 16 rows of A in the forward and of A^T in the backward. Where a window has
// regions, factors are masked in registers: rows of W and z by region for U_g and dU_g, features where k and q do not
// meet.
//     forward    blocks (window, head, image)
//     backward   blocks (slot, head): dC, dW and the gradient of the bias stay in registers over all windows
#pragma once
#include "karat_tensor.cuh"
#include "karat_window.cuh"

constexpr int KARAT_WINDOW_WIDTH = 32; // D padded
constexpr int KARAT_WINDOW_U = KARAT_RANK * (KARAT_WINDOW_WIDTH + 8); // elements of a region's U

// A block of logits, rows from row and columns from column on; of A^T: rows are keys
struct KaratWindowBlock {
    WindowPlaces p;
    Windows w;
    float mask;
    int row, column, regions;
    bool transposed;
    __device__ void logits(float* x) const {
        for (int e = 0; e < 8; e++) {
            int i = row + block_row(e), j = column + block_column(e);
            x[e] += transposed ? window_bias(p, w, mask, j, i) : window_bias(p, w, mask, i, j);
        }
    }
    __device__ void keep_met(uint32_t* left) const {
        for (int i = 0; regions > 1 && i < 4; i++) {
            int region = p.region[row + block_row(2 * i)];
            const int* columns = p.region + column + block_column(2 * i);
            left[i] &= (columns[0] == region ? 0xffffu : 0) | (columns[1] == region ? 0xffff0000u : 0);
        }
    }
    __device__ void keep_met(float* x) const {
        for (int e = 0; regions > 1 && e < 8; e++) {
            x[e] = p.region[row + block_row(e)] == p.region[column + block_column(e)] ? x[e] : 0;
        }
    }
};

// Rows from `row` on of a left factor, where they are of a region
__device__ inline void karat_keep_region(uint32_t* left, const uint32_t* from, WindowPlaces p, int row, int region,
                                         int regions) {
    for (int i = 0; i < 4; i++) {
        left[i] = regions == 1 || p.region[row + block_row(2 * i)] == region ? from[i] : 0;
    }
}

// 16 columns of one region's sums (KARAT_RANK,D) = rank^T matrix, rank (.,KARAT_RANK), KARAT_RANK_LD apart. By a warp.
__device__ inline void karat_region_product(bf16* sums, const bf16* rank, const bf16* matrix, int column,
                                            WindowPlaces p, int region, int regions, int tiles) {
    constexpr int LD = KARAT_WINDOW_WIDTH + 8;
    float block[8] = {};
    for (int tile = 0; tile < tiles; tile++) {
        uint32_t left[4], right[4];
        load_left_transposed(left, rank + tile * 16 * KARAT_RANK_LD, KARAT_RANK_LD);
        for (int i = 0; regions > 1 && i < 4; i++) {
            const int* pair = p.region + tile * 16 + block_column(2 * i);
            left[i] &= (pair[0] == region ? 0xffffu : 0) | (pair[1] == region ? 0xffff0000u : 0);
        }
        load_right(right, matrix + tile * 16 * LD + column, LD);
        block_multiply(block, left, right);
    }
    store_block(sums, LD, block, 1, column, KARAT_RANK, KARAT_WINDOW_WIDTH);
}

// sums (16,D) += the rows of a left factor, each times its region's U
__device__ inline void karat_region_sums(float sums[][8], const uint32_t* rank, const bf16* U, WindowPlaces p,
                                         int first, int regions) {
    for (int region = 0; region < regions; region++) {
        uint32_t left[4];
        karat_keep_region(left, rank, p, first, region, regions);
        attention_sums<KARAT_WINDOW_WIDTH>(sums, left, U + region * KARAT_WINDOW_U);
    }
}

// dots (16,16) += the rows of a matrix (.,D) from first on, each times its region's U^T
__device__ inline void karat_region_dots(float* dots, const bf16* rows, const bf16* U, WindowPlaces p, int first,
                                         int regions) {
    constexpr int LD = KARAT_WINDOW_WIDTH + 8;
    for (int i = 0; i < KARAT_WINDOW_WIDTH; i += 16) {
        uint32_t from[4];
        load_left(from, rows + first * LD + i, LD);
        for (int region = 0; region < regions; region++) {
            uint32_t left[4], right[4];
            karat_keep_region(left, from, p, first, region, regions);
            load_right_transposed(right, U + region * KARAT_WINDOW_U + i, LD);
            block_multiply(dots, left, right);
        }
    }
}

__device__ inline int karat_window_regions(KaratDims d, int n) {
    return karat_has_regions(d) ? window_regions(window_kind(d.windows, n)) : 1;
}

// Blocks (window, head, image)
__global__ void __launch_bounds__(WINDOW_THREADS)
karat_window_forward_tensor(bf16* out, float* z, const bf16* qkv, const uint32_t* coefs, const float* W,
                            const float* beta, const float* table, KaratDims d, WindowDims w) {
    wait_for_kernel_in_front();
    constexpr int D = KARAT_WINDOW_WIDTH, LD = D + 8;
    __shared__ alignas(16) bf16 rows[3][WINDOW_ROWS * LD];
    __shared__ alignas(16) bf16 weights[WINDOW_ROWS * KARAT_RANK_LD];
    __shared__ alignas(16) bf16 U[WINDOW_REGIONS * KARAT_WINDOW_U];
    __shared__ int words[WINDOW_WORDS];
    int n = blockIdx.x, h = blockIdx.y, b = blockIdx.z, warp = threadIdx.x / WARP, first = warp * 16;
    int tiles = karat_tiles(d.N), regions = karat_window_regions(d, n);
    size_t row = window_row(w, b, 0), ld = 3 * (size_t)d.C;
    WindowPlaces p = window_places(words, WINDOW_ROWS);
    window_enter(p, d.windows, n, WINDOW_ROWS);
    window_load_table(p, table, d.windows, h, w.heads);
    karat_load_rank(weights, KARAT_RANK_LD, W + (size_t)h * d.N * d.R, d.N, beta, 0, d);
    __syncthreads();
    for (int part = 0; part < 3; part++) {
        window_load<D>(rows[part], qkv + row * ld + part * d.C + h * d.D, ld, p, d.N, d.D);
    }
    __syncthreads();
    for (int i = warp; i < regions * D / 16; i += WINDOW_THREADS / WARP) {
        int region = i / (D / 16), column = i % (D / 16) * 16;
        karat_region_product(U + region * KARAT_WINDOW_U, weights, rows[2], column, p, region, regions, tiles);
    }
    uint32_t queries[D / 16][4], left[4];
    float block[8] = {}, sums[D / 16][8] = {}, mask = karat_window_mask(d);
    for (int i = 0; i < D / 16; i++) { load_left(queries[i], rows[0] + first * LD + i * 16, LD); }
    if (first < d.N) {
        karat_tensor_z<D>(block, queries, rows[1], coefs + (size_t)h * tiles * 2 * d.G * 128, rsqrtf(d.D), d,
                          [=](int tile) {
                              return KaratWindowBlock{p, d.windows, mask, first, tile * 16, regions, false};
                          });
    }
    z += (((size_t)b * gridDim.x + n) * d.H + h) * d.N * d.R;
    for (int e = 0; e < 8; e++) {
        int i = first + block_row(e), f = block_column(e);
        if (i < d.N && f < d.R) { z[(size_t)i * d.R + f] = block[e]; }
        if (beta && f == d.R) { block[e] = 1; }
    }
    __syncthreads();
    block_to_left(left, block);
    karat_region_sums(sums, left, U, p, first, regions);
    window_store<D>(out + row * d.C + h * d.D, d.C, sums, 1, p, first, d.N, d.D);
}

// ---- Backward

struct KaratWindowTensors {
    static constexpr int LD = KARAT_WINDOW_WIDTH + 8, LD_A = WINDOW_ROWS + 8;
    bf16 q[WINDOW_ROWS * LD], k[WINDOW_ROWS * LD], v[WINDOW_ROWS * LD], dout[WINDOW_ROWS * LD];
    bf16 weights[WINDOW_ROWS * KARAT_RANK_LD], dz[WINDOW_ROWS * KARAT_RANK_LD]; // z until dz is there
    bf16 U[WINDOW_REGIONS * KARAT_WINDOW_U], dU[WINDOW_REGIONS * KARAT_WINDOW_U];
    bf16 dA[WINDOW_ROWS * LD_A]; // dA^T
    int words[WINDOW_WORDS];
};

// The forward lines: U = W^T V; out = z U. dz (to shared memory) and dV of a warp's rows; dW is added to
__device__ inline void karat_window_tensor_values(bf16* dv, float* dW, KaratWindowTensors* s, WindowPlaces p, int first,
                                                  int regions, KaratDims d) {
    float dz[8] = {}, sums[KARAT_WINDOW_WIDTH / 16][8] = {};
    uint32_t left[4];
    karat_region_dots(dz, s->dout, s->U, p, first, regions);
    karat_region_dots(dW, s->v, s->dU, p, first, regions);
    load_left(left, s->weights + first * KARAT_RANK_LD, KARAT_RANK_LD);
    karat_region_sums(sums, left, s->dU, p, first, regions);
    window_store<KARAT_WINDOW_WIDTH>(dv, 3 * (size_t)d.C, sums, 1, p, first, d.N, d.D);
    store_block(s->dz + first * KARAT_RANK_LD, KARAT_RANK_LD, dz, 1, 0, 16, KARAT_RANK);
}

// dQ and dK of a warp's rows from dA^T
__device__ inline void karat_window_tensor_logits(bf16* dq, KaratWindowTensors* s, WindowPlaces p, int first,
                                                  KaratDims d) {
    constexpr int D = KARAT_WINDOW_WIDTH, LD = KaratWindowTensors::LD, LD_A = KaratWindowTensors::LD_A;
    float dq_sums[D / 16][8] = {}, dk_sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    for (int tile = 0; tile < d.N; tile += 16) {
        uint32_t left[4];
        load_left_transposed(left, s->dA + tile * LD_A + first, LD_A);
        attention_sums<D>(dq_sums, left, s->k + tile * LD);
        load_left(left, s->dA + first * LD_A + tile, LD_A);
        attention_sums<D>(dk_sums, left, s->q + tile * LD);
    }
    window_store<D>(dq, 3 * (size_t)d.C, dq_sums, scale, p, first, d.N, d.D);
    window_store<D>(dq + d.C, 3 * (size_t)d.C, dk_sums, scale, p, first, d.N, d.D);
}

// dcoefs (H,slots,N,2G,R), dW (H,slots,N,KARAT_RANK), dtable (H,slots,offsets)
template <int G>
__global__ void __launch_bounds__(WINDOW_THREADS, 3)
karat_window_backward_tensor(bf16* dqkv, float* dcoefs, float* dW, float* dtable, const bf16* dout, const float* z,
                             const bf16* qkv, const uint32_t* coefs, const float* W, const float* beta,
                             const float* table, KaratDims d, WindowDims w) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    constexpr int D = KARAT_WINDOW_WIDTH, LD = KaratWindowTensors::LD, LD_A = KaratWindowTensors::LD_A, OFFSETS = 2;
    static_assert(OFFSETS * WINDOW_THREADS >= WINDOW_WORDS - 3 * WINDOW_ROWS, "a thread sums so many offsets");
    KaratWindowTensors* s = (KaratWindowTensors*)shared;
    int slot = blockIdx.x, slots = gridDim.x, h = blockIdx.y, warp = threadIdx.x / WARP, first = warp * 16;
    int tiles = karat_tiles(d.N), windows = windows_of_image(d.windows), offsets = window_offsets(d.windows);
    int head_slot = h * slots + slot;
    size_t ld = 3 * (size_t)d.C;
    float dC[2 * G][8] = {}, dW_sum[8] = {}, table_sum[OFFSETS] = {}, mask = karat_window_mask(d);
    WindowPlaces p = window_places(s->words, WINDOW_ROWS);
    window_load_table(p, table, d.windows, h, w.heads);
    karat_load_rank(s->weights, KARAT_RANK_LD, W + (size_t)h * d.N * d.R, d.N, beta, 0, d);
    coefs += (size_t)(h * tiles + warp) * 2 * d.G * 128;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t row = window_row(w, b / windows, 0), at_q = row * ld + h * d.D;
        int regions = karat_window_regions(d, b % windows);
        __syncthreads();
        window_enter(p, d.windows, b % windows, WINDOW_ROWS);
        __syncthreads();
        window_load<D>(s->q, qkv + at_q, ld, p, d.N, d.D);
        window_load<D>(s->k, qkv + at_q + d.C, ld, p, d.N, d.D);
        window_load<D>(s->v, qkv + at_q + 2 * d.C, ld, p, d.N, d.D);
        window_load<D>(s->dout, dout + row * d.C + h * d.D, d.C, p, d.N, d.D);
        karat_load_rank(s->dz, KARAT_RANK_LD, z + ((size_t)b * d.H + h) * d.N * d.R, d.N, nullptr, beta ? 1 : 0, d);
        __syncthreads();
        for (int i = warp; i < 2 * regions * D / 16; i += WINDOW_THREADS / WARP) {
            int column = i % (D / 16) * 16, region = i / (D / 16) % regions;
            bool of_U = i < regions * D / 16;
            karat_region_product((of_U ? s->U : s->dU) + region * KARAT_WINDOW_U, of_U ? s->weights : s->dz,
                                 of_U ? s->v : s->dout, column, p, region, regions, tiles);
        }
        __syncthreads();
        if (first < d.N) { karat_window_tensor_values(dqkv + at_q + 2 * d.C, dW_sum, s, p, first, regions, d); }
        __syncthreads();
        for (int column = 0; column < d.N && first < d.N; column += 16) {
            float dA[8] = {};
            KaratWindowBlock window = {p, d.windows, mask, first, column, regions, true};
            karat_tensor_block_backward<D, G, false>(dA, dC, s->k + first * LD, s->q + column * LD,
                                                     s->dz + column * KARAT_RANK_LD, coefs, 0, rsqrtf(d.D), d, window);
            window.keep_met(dA);
            store_block(s->dA + first * LD_A + column, LD_A, dA, 1, 0, 16, 16);
        }
        __syncthreads();
        for (int i = 0; i < OFFSETS; i++) { // the offset of j from i, in rows of j
            int offset = offsets - 1 - (int)threadIdx.x - i * WINDOW_THREADS;
            if (offset >= 0) { table_sum[i] += window_offset_sum(s->dA, LD_A, d.windows, offset, 0, d.N); }
        }
        if (first < d.N) { karat_window_tensor_logits(dqkv + at_q, s, p, first, d); }
    }
    karat_tensor_add_coefs<G>(dcoefs + head_slot * d.N * 2 * d.G * d.R, dC, 0, first, true, d);
    for (int e = 0; e < 8; e++) {
        int n = first + block_row(e);
        if (n < d.N) { dW[(head_slot * d.N + n) * KARAT_RANK + block_column(e)] = dW_sum[e]; }
    }
    for (int i = 0; i < OFFSETS; i++) {
        int offset = (int)threadIdx.x + i * WINDOW_THREADS;
        if (offset < offsets) { dtable[head_slot * offsets + offset] = table_sum[i]; }
    }
}

// ---- Launches

static inline bool karat_window_fits_tensor(KaratDims d, bool bias) {
    return d.basis == BASIS_FOURIER && d.base == KARAT_BASE_ZERO && d.G <= 3 && d.R + bias <= KARAT_RANK &&
           d.D % 8 == 0 && d.D <= KARAT_WINDOW_WIDTH && d.C % 8 == 0 && d.N <= WINDOW_ROWS;
}

static void karat_window_launch_forward(bf16* out, float* z, const bf16* qkv, float* coefs, KaratParams params,
                                        KaratDims d, cudaStream_t stream) {
    WindowDims w = karat_window_dims(d);
    karat_launch_fold(coefs, params, true, d, stream);
    dim3 grid(windows_of_image(d.windows), d.H, w.B);
    launch_early(karat_window_forward_tensor, grid, WINDOW_THREADS, 0, stream, out, z, qkv, (const uint32_t*)coefs,
                 params.proj_weight, params.proj_bias, params.bias_table, d, w);
}

static void karat_window_launch_backward(bf16* dqkv, float* dcoefs, float* dW, float* dtable, const bf16* dout,
                                         const float* z, const bf16* qkv, float* coefs, KaratParams params, KaratDims d,
                                         cudaStream_t stream) {
    auto kernel = d.G == 1 ? karat_window_backward_tensor<1>
                : d.G == 2 ? karat_window_backward_tensor<2> : karat_window_backward_tensor<3>;
    karat_launch_fold(coefs, params, false, d, stream);
    allow_shared(kernel, sizeof(KaratWindowTensors));
    launch_early(kernel, dim3(karat_slots(d), d.H), WINDOW_THREADS, sizeof(KaratWindowTensors), stream, dqkv, dcoefs,
                 dW, dtable, dout, z, qkv, (const uint32_t*)coefs, params.proj_weight, params.proj_bias,
                 params.bias_table, d, karat_window_dims(d));
}
