// Sums over rows, in two stages and a fixed order: blocks write partial sums, a second kernel adds them up. How rows
// are split into blocks depends only on the shape and the device.
//
//     add_partials   sum (n) += column sums of partials (parts, n)
//     column_sums    sum (n) += Σ over the rows of term.at(row, column); each term is computed once
//     bias_backward  dbias (C) += column sums of dout (rows, C), its rows ld apart: a linear layer's bias
//
// A kernel that writes dout of a linear layer sums it on the way, since it has the values: LayerNorm's backward, the
// activations', the rational's, softmax attention's on tensor cores. bias_backward is for all that none of these wrote.
#pragma once
#include "cuda_common.cuh"

enum { PARTIAL_COLUMNS = 32, PARTIAL_ROWS = 16 }; // threads of a block, horizontally and vertically

// The total over the PARTIAL_ROWS threads of a column, in the thread of the first row
__device__ inline float sum_of_rows(float x) {
    __shared__ float rows[PARTIAL_ROWS][PARTIAL_COLUMNS];
    rows[threadIdx.y][threadIdx.x] = x;
    __syncthreads();
    float sum = 0;
    for (int row = 0; row < PARTIAL_ROWS && threadIdx.y == 0; row++) { sum += rows[row][threadIdx.x]; }
    __syncthreads(); // the next call may write
    return sum;
}

// sum (n) += column sums of partials (parts, n), whose rows are ld apart; sum may be NULL
struct PartialSum { float* sum; int n; const float* partials; int ld, parts; };
enum { PARTIAL_SUMS = 3 }; // at most, in one launch
struct PartialSums { PartialSum of[PARTIAL_SUMS]; };

__global__ void add_partials_kernel(PartialSums sums) {
    PartialSum s = blockIdx.y == 0 ? sums.of[0] : blockIdx.y == 1 ? sums.of[1] : sums.of[2];
    wait_for_kernel_in_front();
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x;
    float total = 0;
    #pragma unroll 8 // loads overlap
    for (int part = threadIdx.y; part < s.parts && i < s.n; part += PARTIAL_ROWS) {
        total += s.partials[(size_t)part * s.ld + i];
    }
    total = sum_of_rows(total);
    if (threadIdx.y == 0 && i < s.n) { s.sum[i] += total; }
}

static inline void add_partials(PartialSums sums, cudaStream_t stream) {
    int widest = 0;
    for (PartialSum& s : sums.of) {
        s.n = s.sum ? s.n : 0;
        widest = s.n > widest ? s.n : widest;
    }
    int count = sums.of[2].n ? 3 : sums.of[1].n ? 2 : 1;
    dim3 grid(ceil_div(widest, PARTIAL_COLUMNS), count), block(PARTIAL_COLUMNS, PARTIAL_ROWS);
    launch_early(add_partials_kernel, grid, block, 0, stream, sums);
}

// Columns 0..n-1 of partials (parts, n + n2) go to sum, n..n+n2-1 to sum2
static inline void add_partials(float* sum, int n, float* sum2, int n2, const float* partials, int parts,
                                cudaStream_t stream) {
    add_partials({{{sum, n, partials, n + n2, parts}, {sum2, n2, partials + n, n + n2, parts}}}, stream);
}

// Elements of a tensor (rows, n) whose rows are `stride` apart, as the terms of sums
template <class T> struct TensorTerm {
    const T* inp;
    size_t stride;
    __device__ float at(int row, int i) const { return to_float(inp[row * stride + i]); }
};

// Block (x, y) sums columns 32x to 32x+31 of the rows that are its own: y * PARTIAL_ROWS + threadIdx.y, and so on
template <class Term> __global__ void column_sums_kernel(float* partials, Term term, int rows, int n) {
    wait_for_kernel_in_front();
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x;
    float total = 0;
    for (int row = blockIdx.y * PARTIAL_ROWS + threadIdx.y; row < rows && i < n; row += gridDim.y * PARTIAL_ROWS) {
        total += term.at(row, i);
    }
    total = sum_of_rows(total);
    if (threadIdx.y == 0 && i < n) { partials[(size_t)blockIdx.y * n + i] = total; }
}

// Number of parts of the rows: if there are few columns, enough to keep the device busy
static inline int column_sum_parts(int rows, int n) {
    int columns = ceil_div(n, PARTIAL_COLUMNS);
    return ceil_div(blocks_for((size_t)ceil_div(rows, PARTIAL_ROWS) * columns, 1, 8), columns);
}

static inline size_t column_sums_scratch(int rows, int n) { return (size_t)column_sum_parts(rows, n) * n; }

template <class Term>
inline void column_sums(float* sum, Term term, float* scratch, int rows, int n, cudaStream_t stream) {
    int parts = column_sum_parts(rows, n);
    dim3 grid(ceil_div(n, PARTIAL_COLUMNS), parts), block(PARTIAL_COLUMNS, PARTIAL_ROWS);
    launch_early(column_sums_kernel<Term>, grid, block, 0, stream, scratch, term, rows, n);
    add_partials(sum, n, nullptr, 0, scratch, parts, stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// Sums down the columns of a tensor (rows, C), alongside what a kernel does to each of its elements. A block of BLOCK
// threads has up to 32 vectors of W channels side by side, one per thread, and goes down the rows, as many at a time as
// it has rows of threads. Grid: (slices of the columns, parts of the rows).

struct ColumnShape {
    int lanes, slices, height; // threads across a block, blocks across, rows of a block at a time
    __host__ __device__ ColumnShape(int C, int width) {
        int vectors = ceil_div(C, width);
        slices = ceil_div(vectors, WARP);
        lanes = ceil_div(vectors, slices);
        height = BLOCK / lanes;
    }
};

// The channels of a thread, from c on, and its elements there: at, at + step, ... below end
template <int W> struct Column {
    int c;
    size_t at, step, end;
    __device__ Column(int rows, int C) {
        ColumnShape shape(C, W);
        int row = blockIdx.y * shape.height + threadIdx.x / shape.lanes;
        c = (blockIdx.x * shape.lanes + threadIdx.x % shape.lanes) * W;
        step = (size_t)gridDim.y * shape.height * C;
        end = (size_t)rows * C;
        at = (size_t)row * C + c;
        if (c >= C || (int)threadIdx.x >= shape.lanes * shape.height) { c = 0, at = end; }
    }
};

// So many blocks per multiprocessor, or one part if that is more
static inline dim3 column_grid(int rows, int C, int width, int blocks_of_multiprocessor) {
    ColumnShape shape(C, width);
    int parts = multiprocessors() * blocks_of_multiprocessor / shape.slices, needed = ceil_div(rows, shape.height);
    parts = parts < needed ? parts : needed;
    return dim3(shape.slices, parts > 1 ? parts : 1);
}

// Partial sums of every column and of_block more per block, for any width that the pointers allow
static inline size_t column_scratch(int rows, int C, int blocks_of_multiprocessor, size_t of_block) {
    size_t most = 0;
    for (int width : {1, (int)VECTOR}) {
        dim3 grid = column_grid(rows, C, width, blocks_of_multiprocessor);
        size_t floats = (size_t)grid.y * (C + grid.x * of_block);
        most = floats > most ? floats : most;
    }
    return most;
}

// sums, in shared memory, laid out by shared_place for the vector that begins at c: += added
template <int W> __device__ inline void add_to_shared(float* sums, const float (&added)[W], int c, int n) {
    float sum[W];
    load_shared(sum, sums, c, n);
    for (int i = 0; i < W; i++) { sum[i] += added[i]; }
    store_shared(sums, sum, c, n);
}

// partials (gridDim.y, C): the block's part of row blockIdx.y = the sum of its threads' sums (BLOCK W), each stored by
// add_to_shared at threadIdx.x W
template <int W> __device__ inline void column_block_sums(float* partials, const float* sums, int C) {
    ColumnShape shape(C, W);
    __syncthreads();
    for (int i = threadIdx.x; i < shape.lanes * W; i += BLOCK) {
        int c = blockIdx.x * shape.lanes * W + i;
        float sum = 0;
        for (int row = 0; row < shape.height; row++) {
            sum += sums[shared_place<W>(row * shape.lanes * W + i, BLOCK * W)];
        }
        if (c < C) { partials[(size_t)blockIdx.y * C + c] = sum; }
    }
}

enum { BIAS_BLOCKS = 6 }; // per multiprocessor

// partials (gridDim.y, C): column sums of dout (rows, C)
template <int W, class T>
__global__ void __launch_bounds__(BLOCK, BIAS_BLOCKS)
bias_backward_kernel(float* partials, const T* dout, int rows, int C) {
    wait_for_kernel_in_front();
    __shared__ alignas(16) float sums[BLOCK * W];
    Column<W> column(rows, C);
    float d[W], sum[W] = {};
    #pragma unroll 4 // loads overlap
    for (size_t at = column.at; at < column.end; at += column.step) {
        load(d, dout + at);
        for (int i = 0; i < W; i++) { sum[i] += d[i]; }
    }
    store_shared(sums, sum, threadIdx.x * W, BLOCK * W);
    column_block_sums<W>(partials, sums, C);
}

static inline size_t bias_backward_scratch(int rows, int C) {
    size_t vectors = column_scratch(rows, C, BIAS_BLOCKS, 0), elements = column_sums_scratch(rows, C);
    return vectors > elements ? vectors : elements;
}

// out = ... + bias. Contiguous rows are read 16 bytes at a time.
template <class T>
inline void bias_backward(float* dbias, const T* dout, int ld, float* scratch, int rows, int C, cudaStream_t stream) {
    if (ld != C || !vectorises(C, dout)) {
        column_sums(dbias, TensorTerm<T>{dout, (size_t)ld}, scratch, rows, C, stream);
        return;
    }
    dim3 grid = column_grid(rows, C, VECTOR, BIAS_BLOCKS);
    launch_early(bias_backward_kernel<VECTOR, T>, grid, BLOCK, 0, stream, scratch, dout, rows, C);
    add_partials(dbias, C, nullptr, 0, scratch, grid.y, stream);
}
