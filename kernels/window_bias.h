// The relative position bias of windows (windows.h) as a matrix to be added to the logits, and the mask with it: for
// each kind of window and head
//     bias_ij = table[window_bias_row(i, j)] + (mask where i and j are of different regions)
//     table (offsets, heads of the layer), from these H heads' first column on     bias (kinds,H,N,ld)
// The mask does not depend on the table: the gradient of bias, of every kind together, is dbias (H,N,ld).
#pragma once
#include "windows.h"
#include <stdbool.h>
#include <stddef.h>

static inline void window_bias_forward(float* bias, const float* table, Windows w, float mask, int heads, int H,
                                       int ld) {
    int N = window_tokens(w);
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < window_kinds(w) * H * N; row++) {
        int i = row % N, h = row / N % H, kind = row / N / H;
        float* to = bias + (size_t)row * ld;
        for (int j = 0; j < N; j++) {
            bool meet = window_region(w, kind, i) == window_region(w, kind, j);
            to[j] = table[(size_t)window_bias_row(w, i, j) * heads + h] + (meet ? 0 : mask);
        }
        for (int j = N; j < ld; j++) { to[j] = 0; }
    }
}

// dtable is added to, pairs in order
static inline void window_bias_backward(float* dtable, const float* dbias, Windows w, int heads, int H, int ld) {
    int N = window_tokens(w);
    #pragma omp parallel for schedule(static)
    for (int h = 0; h < H; h++) {
        for (int i = 0; i < N; i++) {
            const float* row = dbias + ((size_t)h * N + i) * ld;
            for (int j = 0; j < N; j++) { dtable[(size_t)window_bias_row(w, i, j) * heads + h] += row[j]; }
        }
    }
}
