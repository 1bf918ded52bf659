// Products of a tile of PLAIN_ROWS rows with a whole matrix, on CUDA cores in fp32, of which the plain forms of
// attention are made. They accept any sizes and either storage, for comparison with the CPU and for shapes that the
// tensor-core forms do not accept. A block of PLAIN_THREADS works on a tile; matrices stay in global memory (a head's
// fit in cache), tiles and their rows of logits (PLAIN_ROWS, N) are in shared memory. The caller puts a barrier between
// writing and reading a tile.
#pragma once
#include "cuda_common.cuh"

constexpr int PLAIN_ROWS = 16, PLAIN_THREADS = 128;
constexpr size_t STATIC_SHARED = 1024; // bytes: more than the static arrays of any kernel with dynamic shared memory

__host__ __device__ inline int plain_tiles(int N) { return (N + PLAIN_ROWS - 1) / PLAIN_ROWS; }

// Bytes of shared memory that a block can ask for: 227 KB on sm_90, 163 on sm_80, 99 on sm_86 and sm_89
static inline size_t shared_limit(void) {
    static int limit = 0;
    if (limit == 0) { limit = device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }
    return (size_t)limit;
}

// Above 48 KB, including static arrays, dynamic shared memory must be requested, once per kernel.
template <class Kernel> void allow_shared(Kernel* kernel, size_t bytes) {
    if (bytes + STATIC_SHARED > 48 * 1024) {
        CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    }
}

// tile (PLAIN_ROWS, width) = rows of a matrix; zeros beyond count
template <class T> __device__ void plain_load(float* tile, const T* rows, size_t ld, int count, int width) {
    for (int i = threadIdx.x; i < PLAIN_ROWS * width; i += blockDim.x) {
        int r = i / width;
        tile[i] = r < count ? to_float(rows[r * ld + i % width]) : 0;
    }
}

// tile (PLAIN_ROWS, N) = columns of a matrix (N, count); zeros beyond count
template <class T> __device__ void plain_load_columns(float* tile, const T* columns, size_t ld, int count, int N) {
    for (int i = threadIdx.x; i < PLAIN_ROWS * N; i += blockDim.x) {
        int r = i % PLAIN_ROWS, n = i / PLAIN_ROWS;
        tile[r * N + n] = r < count ? to_float(columns[n * ld + r]) : 0;
    }
}

// x (PLAIN_ROWS, N) = scale tile (PLAIN_ROWS, D) matrix^T, matrix (N, D)
template <class T>
__device__ void plain_dots(float* x, float scale, const float* tile, const T* matrix, size_t ld, int N, int D) {
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        float sum[PLAIN_ROWS] = {};
        for (int i = 0; i < D; i++) {
            float value = to_float(matrix[n * ld + i]);
            #pragma unroll
            for (int r = 0; r < PLAIN_ROWS; r++) { sum[r] += tile[r * D + i] * value; }
        }
        #pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) { x[r * N + n] = scale * sum[r]; }
    }
}

// out (count, D) = scale x (PLAIN_ROWS, N) matrix, matrix (N, D)
template <class To, class T>
__device__ void plain_sums(To* out, size_t ld_out, float scale, const float* x, const T* matrix, size_t ld, int N,
                           int count, int D) {
    constexpr int ROWS = 4; // of a thread
    for (int i = threadIdx.x; i < PLAIN_ROWS / ROWS * D; i += blockDim.x) {
        int first = i / D * ROWS, column = i % D;
        float sum[ROWS] = {};
        for (int n = 0; n < N; n++) {
            float value = to_float(matrix[n * ld + column]);
            #pragma unroll
            for (int r = 0; r < ROWS; r++) { sum[r] += x[(first + r) * N + n] * value; }
        }
        #pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (first + r < count) { out[(first + r) * ld_out + column] = from_float<To>(scale * sum[r]); }
        }
    }
}
