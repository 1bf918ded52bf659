// Patch merging on the GPU: kernels/patch_merge.h, for any storage T. Each element is read and written once.
//     x (B,grid,grid,C)     out (B,grid/2,grid/2,4C): out(y,x) = [x(2y,2x), x(2y+1,2x), x(2y,2x+1), x(2y+1,2x+1)]
#pragma once
#include "cuda_common.cuh"

// A thread handles W channels of one token of x. SPLIT: x from out
template <int W, bool SPLIT, class T>
__global__ void patch_merge_kernel(T* to, const T* from, int rows, int grid, int C) {
    size_t i = (blockIdx.x * (size_t)BLOCK + threadIdx.x) * W, token = i / C;
    int column = token % grid, row = token / grid, half = grid / 2; // row over all images
    if (row >= rows) { return; }
    size_t merged = (size_t)(row / 2) * half + column / 2, quarter = row % 2 + column % 2 * 2;
    size_t at = (merged * 4 + quarter) * C + i % C;
    copy<W>(to + (SPLIT ? i : at), from + (SPLIT ? at : i));
}

template <bool SPLIT, class T>
static void patch_merge_launch(T* to, const T* from, int B, int grid, int C, cudaStream_t stream) {
    with_width(vectorises(C, to, from), [=](auto width) {
        size_t blocks = ceil_div((size_t)B * grid * grid * C / width.value, (size_t)BLOCK);
        patch_merge_kernel<width.value, SPLIT><<<blocks, BLOCK, 0, stream>>>(to, from, B * grid, grid, C);
        CUDA_CHECK_LAUNCH();
    });
}

template <class T> static void patch_merge_forward(T* out, const T* x, int B, int grid, int C, cudaStream_t stream) {
    patch_merge_launch<false>(out, x, B, grid, C, stream);
}

// dx is set
template <class T> static void patch_merge_backward(T* dx, const T* dout, int B, int grid, int C, cudaStream_t stream) {
    patch_merge_launch<true>(dx, dout, B, grid, C, stream);
}
