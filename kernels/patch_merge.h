// Patch merging (Liu et al., arXiv 2103.14030): the channels of 2 x 2 neighbours of a grid become those of one token of
// a grid of half the side. A layer norm and a linear map of 4C to 2C channels follow.
//     x (B,grid,grid,C)     out (B,grid/2,grid/2,4C): out(y,x) = [x(2y,2x), x(2y+1,2x), x(2y,2x+1), x(2y+1,2x+1)]
#pragma once
#include <stddef.h>
#include <string.h>

// The token of x (B grid grid) that becomes quarter i of token `row` of out
static inline size_t merged_token(int row, int i, int grid) {
    int half = grid / 2, b = row / (half * half), y = row / half % half, x = row % half;
    return ((size_t)b * grid + 2 * y + i % 2) * grid + 2 * x + i / 2;
}

static inline void patch_merge_forward(float* out, const float* x, int B, int grid, int C) {
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * grid * grid / 4; row++) {
        for (int i = 0; i < 4; i++) {
            memcpy(out + ((size_t)row * 4 + i) * C, x + merged_token(row, i, grid) * C, C * sizeof(float));
        }
    }
}

// dx is set: each token has its place in one row of dout
static inline void patch_merge_backward(float* dx, const float* dout, int B, int grid, int C) {
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * grid * grid / 4; row++) {
        for (int i = 0; i < 4; i++) {
            memcpy(dx + merged_token(row, i, grid) * C, dout + ((size_t)row * 4 + i) * C, C * sizeof(float));
        }
    }
}
