// How a branch is added to the residual stream, and what the head takes from it.
//     x_out (B, N, C) = x + keep[b] layer_scale[c] branch
// keep (B) is drop path (Huang et al., arXiv 1603.09382): 0, or one over the keep probability. layer_scale (C) is
// LayerScale (Touvron et al., arXiv 2103.17239). Each is NULL when it is off.
#pragma once
#include "partials.h"
#include <stdbool.h>
#include <string.h>

// out may be x
static inline void residual_forward(float* out, const float* x, const float* branch, const float* layer_scale,
                                    const float* keep, int B, int N, int C) {
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * N; row++) {
        size_t at = (size_t)row * C;
        float k = keep ? keep[row / N] : 1;
        if (layer_scale) {
            #pragma omp simd
            for (int c = 0; c < C; c++) { out[at + c] = x[at + c] + k * layer_scale[c] * branch[at + c]; }
        } else {
            #pragma omp simd
            for (int c = 0; c < C; c++) { out[at + c] = x[at + c] + k * branch[at + c]; }
        }
    }
}

// One row of dlayer_scale sums for each part; only LayerScale needs them
static inline size_t residual_scratch(int B, int N, int C) { return (size_t)part_count(B * N) * C; }

// dbranch = keep layer_scale dout (and may be dout); dlayer_scale += Σ keep branch dout. dx is dout itself, which the
// stream carries on. branch, scratch and dlayer_scale are used only with layer_scale, and may be NULL without.
static inline void residual_backward(float* dbranch, float* dlayer_scale, const float* dout, const float* branch,
                                     const float* layer_scale, const float* keep, float* scratch, int B, int N, int C) {
    int rows = B * N, parts = part_count(rows);
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        int first = part * PART_ROWS, last = first + part_length(rows, part);
        float* sums = layer_scale ? scratch + (size_t)part * C : NULL;
        if (sums) { memset(sums, 0, C * sizeof(float)); }
        for (int row = first; row < last; row++) {
            size_t at = (size_t)row * C;
            float k = keep ? keep[row / N] : 1;
            if (layer_scale) {
                for (int c = 0; c < C; c++) { sums[c] += k * branch[at + c] * dout[at + c]; }
                #pragma omp simd
                for (int c = 0; c < C; c++) { dbranch[at + c] = k * layer_scale[c] * dout[at + c]; }
            } else {
                #pragma omp simd
                for (int c = 0; c < C; c++) { dbranch[at + c] = k * dout[at + c]; }
            }
        }
    }
    if (layer_scale) { add_partials(dlayer_scale, scratch, parts, C); }
}

// The head's input (B, C) from x (B, N, C): token 0, or the mean over all but the first `prefix` tokens
static inline void pool_forward(float* out, const float* x, bool average, int prefix, int B, int N, int C) {
    int first = average ? prefix : 0, last = average ? N : 1;
    #pragma omp parallel for schedule(static)
    for (int b = 0; b < B; b++) {
        float* y = out + (size_t)b * C;
        memset(y, 0, C * sizeof(float));
        for (int n = first; n < last; n++) {
            const float* token = x + ((size_t)b * N + n) * C;
            for (int c = 0; c < C; c++) { y[c] += token[c]; }
        }
        for (int c = 0; c < C; c++) { y[c] /= last - first; }
    }
}

// out = mean of tokens first..last-1: dx (B, N, C) =, zero for the tokens left out
static inline void pool_backward(float* dx, const float* dout, bool average, int prefix, int B, int N, int C) {
    int first = average ? prefix : 0, last = average ? N : 1;
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * N; row++) {
        const float* dy = dout + (size_t)(row / N) * C;
        float* d = dx + (size_t)row * C;
        float share = row % N >= first && row % N < last ? 1.0f / (last - first) : 0;
        for (int c = 0; c < C; c++) { d[c] = share * dy[c]; }
    }
}
