// Sums over rows, in two stages and a fixed order: blocks write partial sums side by side, a second kernel adds them
// up. How rows are cut into blocks depends on the shape and on the number of multiprocessors alone.
//
//     add_partials   sum (n) += column sums of partials (parts, n)
//     column_sums    sum (n) += Σ over the rows of term.at(row, column); each term is asked for once
//     bias_backward  dbias (C) += column sums of dout (rows, C), its rows ld apart: a linear layer's bias
#pragma once
#include "cuda_common.cuh"

enum { PARTIAL_COLUMNS = 32, PARTIAL_ROWS = 16 }; // threads of a block, side by side and above each other

// Of the values that PARTIAL_ROWS threads above each other have, the total in the thread of the first row
__device__ inline float sum_of_rows(float x) {
    __shared__ float rows[PARTIAL_ROWS][PARTIAL_COLUMNS];
    rows[threadIdx.y][threadIdx.x] = x;
    __syncthreads();
    float sum = 0;
    for (int row = 0; row < PARTIAL_ROWS && threadIdx.y == 0; row++) { sum += rows[row][threadIdx.x]; }
    __syncthreads(); // the next call may write
    return sum;
}

// Columns 0..n-1 go to sum, n..n+n2-1 to sum2
__global__ void add_partials_kernel(float* sum, int n, float* sum2, int n2, const float* partials, int parts) {
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x;
    float total = 0;
    for (int part = threadIdx.y; part < parts && i < n + n2; part += PARTIAL_ROWS) {
        total += partials[(size_t)part * (n + n2) + i];
    }
    total = sum_of_rows(total);
    if (threadIdx.y == 0 && i < n + n2) { *(i < n ? sum + i : sum2 + (i - n)) += total; }
}

static inline void add_partials(float* sum, int n, float* sum2, int n2, const float* partials, int parts,
                                cudaStream_t stream) {
    dim3 block(PARTIAL_COLUMNS, PARTIAL_ROWS);
    add_partials_kernel<<<ceil_div(n + n2, PARTIAL_COLUMNS), block, 0, stream>>>(sum, n, sum2, n2, partials, parts);
    CUDA_CHECK_LAUNCH();
}

// Elements of a tensor (rows, n) whose rows are `stride` apart, as the terms of sums
template <class T> struct TensorTerm {
    const T* inp;
    size_t stride;
    __device__ float at(int row, int i) const { return to_float(inp[row * stride + i]); }
};

// Block (x, y) sums columns 32x to 32x+31 of the rows that are its own: y * PARTIAL_ROWS + threadIdx.y, and so on
template <class Term> __global__ void column_sums_kernel(float* partials, Term term, int rows, int n) {
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x;
    float total = 0;
    for (int row = blockIdx.y * PARTIAL_ROWS + threadIdx.y; row < rows && i < n; row += gridDim.y * PARTIAL_ROWS) {
        total += term.at(row, i);
    }
    total = sum_of_rows(total);
    if (threadIdx.y == 0 && i < n) { partials[(size_t)blockIdx.y * n + i] = total; }
}

// How often the rows are cut: where there are few columns, often enough to keep the device busy
static inline int column_sum_parts(int rows, int n) {
    int columns = ceil_div(n, PARTIAL_COLUMNS);
    return ceil_div(blocks_for((size_t)ceil_div(rows, PARTIAL_ROWS) * columns, 1, 8), columns);
}

static inline size_t column_sums_scratch(int rows, int n) { return (size_t)column_sum_parts(rows, n) * n; }

template <class Term>
inline void column_sums(float* sum, Term term, float* scratch, int rows, int n, cudaStream_t stream) {
    int parts = column_sum_parts(rows, n);
    dim3 grid(ceil_div(n, PARTIAL_COLUMNS), parts), block(PARTIAL_COLUMNS, PARTIAL_ROWS);
    column_sums_kernel<<<grid, block, 0, stream>>>(scratch, term, rows, n);
    CUDA_CHECK_LAUNCH();
    add_partials(sum, n, nullptr, 0, scratch, parts, stream);
}

static inline size_t bias_backward_scratch(int rows, int C) { return column_sums_scratch(rows, C); }

// out = ... + bias
template <class T>
inline void bias_backward(float* dbias, const T* dout, int ld, float* scratch, int rows, int C, cudaStream_t stream) {
    column_sums(dbias, TensorTerm<T>{dout, (size_t)ld}, scratch, rows, C, stream);
}
