// What the kernels of attention in windows (windows.h) share on the GPU: the places of a window, the bias and mask for
// two of them, and the sums of the table's gradient.
#pragma once
#include "partials.cuh"
#include "tensor_cores.cuh"
#include "windows.h"

struct WindowDims {
    Windows w;
    int B, N, C, H, D, heads; // images; tokens per window; H heads of width D, of `heads` in a layer of width C
};

static inline WindowDims window_dims(int B, Windows w, int C, int H, int D) {
    return {w, B, window_tokens(w), C, H, D, C / D};
}

// A row of a tensor (B,grid^2,ld): for place i of a window of image b
__device__ inline size_t window_row(WindowDims d, int b, int token) { return (size_t)b * d.w.grid * d.w.grid + token; }

// For each place of the current window, in shared memory: its token, and what determines bias and mask
struct WindowPlaces {
    int *token, *offset, *region;
    float* table; // the head's: (offsets)
};

// In words
__host__ __device__ inline int window_places_size(Windows w, int padded) { return 3 * padded + window_offsets(w); }

__host__ __device__ inline WindowPlaces window_places(void* words, int padded) {
    int* at = (int*)words;
    return {at, at + padded, at + 2 * padded, (float*)(at + 3 * padded)};
}

// The whole block enters a window, between barriers. Places beyond the last are like the first.
__device__ inline void window_enter(WindowPlaces p, Windows w, int n, int padded) {
    int kind = window_kind(w, n);
    for (int i = threadIdx.x; i < padded; i += blockDim.x) {
        int place = i < window_tokens(w) ? i : 0;
        p.token[i] = window_token(w, n, place);
        p.offset[i] = window_offset(w, place);
        p.region[i] = window_region(w, kind, place);
    }
}

__device__ inline void window_load_table(WindowPlaces p, const float* table, Windows w, int h, int heads) {
    for (int i = threadIdx.x; i < window_offsets(w); i += blockDim.x) { p.table[i] = table[(size_t)i * heads + h]; }
}

// What is added to the logit of query i and key j
__device__ inline float window_bias(WindowPlaces p, Windows w, float mask, int i, int j) {
    float bias = p.table[p.offset[i] - p.offset[j] + window_offsets(w) / 2];
    return p.region[i] == p.region[j] ? bias : bias + mask;
}

// The gradient of the table's row `offset`: the sum over its pairs of places among the rows first.. of dA (rows,ld),
// in order
template <class T>
__device__ inline float window_offset_sum(const T* dA, int ld, Windows w, int offset, int first, int rows) {
    int dy = offset / (2 * w.size - 1) - w.size + 1, dx = offset % (2 * w.size - 1) - w.size + 1;
    int y = first / w.size, x = first % w.size;
    float sum = 0;
    for (int i = 0; i < rows; i++) {
        bool inside = y >= dy && y - dy < w.size && x >= dx && x - dx < w.size;
        if (inside) { sum += to_float(dA[i * ld + (y - dy) * w.size + x - dx]); }
        if (++x == w.size) { x = 0, y++; }
    }
    return sum;
}

// dtable (offsets,heads) += the sums of partials (H,slots,offsets), slots in a fixed order
__global__ void __launch_bounds__(PARTIAL_COLUMNS * PARTIAL_ROWS)
window_table_kernel(float* dtable, const float* partials, int slots, int offsets, int H, int heads) {
    wait_for_kernel_in_front();
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x, offset = i % offsets, h = i / offsets;
    float sum = 0;
    for (int slot = threadIdx.y; slot < slots && h < H; slot += PARTIAL_ROWS) {
        sum += partials[((size_t)h * slots + slot) * offsets + offset];
    }
    sum = sum_of_rows(sum);
    if (threadIdx.y == 0 && h < H) { dtable[(size_t)offset * heads + h] += sum; }
}

static inline void window_table_backward(float* dtable, const float* partials, int slots, Windows w, int H, int heads,
                                         cudaStream_t stream) {
    int blocks = ceil_div(window_offsets(w) * H, PARTIAL_COLUMNS);
    launch_early(window_table_kernel, blocks, dim3(PARTIAL_COLUMNS, PARTIAL_ROWS), 0, stream, dtable, partials, slots,
                 window_offsets(w), H, heads);
}

// ---- Tensor cores: windows of up to WINDOW_ROWS tokens

constexpr int WINDOW_ROWS = 64, WINDOW_THREADS = 128;
constexpr int WINDOW_WORDS = 3 * WINDOW_ROWS + (2 * 8 - 1) * (2 * 8 - 1); // window_places_size of the largest

// tile (WINDOW_ROWS, WIDTH), rows WIDTH + 8 apart, = D columns of a window's rows of x, ld apart; zeros beyond both
template <int WIDTH>
__device__ inline void window_load(bf16* tile, const bf16* x, size_t ld, WindowPlaces p, int N, int D) {
    constexpr int VECTORS = WIDTH / 8;
    for (int i = threadIdx.x; i < WINDOW_ROWS * VECTORS; i += blockDim.x) {
        int row = i / VECTORS, column = i % VECTORS * 8;
        bool inside = row < N && column < D;
        *(uint4*)(tile + row * (WIDTH + 8) + column) =
            inside ? *(const uint4*)(x + p.token[row] * ld + column) : make_uint4(0, 0, 0, 0);
    }
}

// A window's rows first.. of x, ld apart, = scale sums, up to N and D
template <int WIDTH>
__device__ inline void window_store(bf16* x, size_t ld, const float sums[][8], float scale, WindowPlaces p, int first,
                                    int N, int D) {
    #pragma unroll
    for (int i = 0; i < WIDTH / 16; i++) {
        for (int e = 0; e < 8; e += 2) {
            int row = first + block_row(e), column = i * 16 + block_column(e);
            if (row < N && column < D) {
                *(uint32_t*)(x + p.token[row] * ld + column) = pack_bf16(scale * sums[i][e], scale * sums[i][e + 1]);
            }
        }
    }
}
