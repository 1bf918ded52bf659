// The relative position bias of windows (windows.h), and the mask with it, as a matrix to be added to the logits: for
// each kind of window and head
//     bias_ij = table[window_bias_row(i, j)] + (mask where i and j are of different regions)
//     table (offsets, heads of the layer), from these H heads' first column on     bias (kinds,H,rows,ld)
// with zeros beyond N rows and columns. The gradient of bias, of every kind of window together, is dbias (H,rows,ld).
#pragma once
#include "windows.h"
#include <stdbool.h>
#include <stddef.h>

// Row i of one head's matrix: its offsets from all places, in order, without dividing
static inline void window_bias_matrix_row(float* to, const float* table, Windows w, float mask, bool transposed,
                                          int heads, int kind, int i) {
    int middle = window_offsets(w) / 2, offset = window_offset(w, i), region = window_region(w, kind, i);
    int across = 2 * w.size - 1, edge = w.size - w.shift;
    for (int y = 0; y < w.size; y++) {
        for (int x = 0; x < w.size; x++) {
            int apart = offset - (y * across + x);
            bool below = kind / 2 && y >= edge, right = kind % 2 && x >= edge;
            bool meet = region == below * (1 + kind % 2) + right;
            *to++ = table[(size_t)(transposed ? middle - apart : middle + apart) * heads] + (meet ? 0 : mask);
        }
    }
}

// transposed: bias_ij is at (j,i)
static inline void window_bias_forward(float* bias, const float* table, Windows w, float mask, bool transposed,
                                       int heads, int H, int rows, int ld) {
    int N = window_tokens(w);
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < window_kinds(w) * H * rows; row++) {
        int i = row % rows, h = row / rows % H, kind = row / rows / H;
        float* to = bias + (size_t)row * ld;
        for (int j = 0; j < ld; j++) { to[j] = 0; }
        if (i < N) { window_bias_matrix_row(to, table + h, w, mask, transposed, heads, kind, i); }
    }
}

// meet (kinds,rows,ld): 1 where two places are of the same region, else 0
static inline void window_meetings(float* meet, Windows w, int rows, int ld) {
    int N = window_tokens(w);
    for (int row = 0; row < window_kinds(w) * rows; row++) {
        int i = row % rows, kind = row / rows;
        for (int j = 0; j < ld; j++) {
            bool inside = i < N && j < N;
            meet[(size_t)row * ld + j] = inside && window_region(w, kind, i) == window_region(w, kind, j);
        }
    }
}

// dtable is added to, pairs in order
static inline void window_bias_backward(float* dtable, const float* dbias, Windows w, int heads, int H, int rows,
                                        int ld) {
    int N = window_tokens(w);
    #pragma omp parallel for schedule(static)
    for (int h = 0; h < H; h++) {
        for (int i = 0; i < N; i++) {
            const float* row = dbias + ((size_t)h * rows + i) * ld;
            for (int j = 0; j < N; j++) { dtable[(size_t)window_bias_row(w, i, j) * heads + h] += row[j]; }
        }
    }
}
