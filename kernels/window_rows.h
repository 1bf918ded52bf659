// One head's rows of a window (windows.h), from the order of the grid to that of the window and back, so that attention
// can treat the window as a sequence.
#pragma once
#include "matmul.h"
#include "windows.h"

// A few vectors, which cost less than a call of memcpy
ALWAYS_INLINE void copy_row(float* to, const float* from, int n) {
    int i = 0;
    for (; i + VEC_LANES <= n; i += VEC_LANES) { *(Vec*)(to + i) = *(const Vec*)(from + i); }
    for (; i < n; i++) { to[i] = from[i]; }
}

// rows (N,parts,D) and a head's D columns of each of the parts, step apart, of a window's rows of x (T,ld): from x, or
// to x. Places in order, without dividing.
ALWAYS_INLINE void window_move_rows(float* rows, float* x, bool from_x, Windows w, int n, int parts, int step, int ld,
                                    int D) {
    int across = w.grid / w.size, top = n / across * w.size + w.shift, left = n % across * w.size + w.shift;
    for (int i = 0; i < w.size; i++) {
        int y = top + i < w.grid ? top + i : top + i - w.grid;
        for (int j = 0; j < w.size; j++) {
            int column = left + j < w.grid ? left + j : left + j - w.grid;
            float* row = x + ((size_t)y * w.grid + column) * ld;
            for (int part = 0; part < parts; part++, rows += D) {
                copy_row(from_x ? rows : row + part * step, from_x ? row + part * step : rows, D);
            }
        }
    }
}

static inline void window_gather(float* to, const float* x, Windows w, int n, int parts, int step, int ld, int D) {
    window_move_rows(to, (float*)x, true, w, n, parts, step, ld, D);
}

static inline void window_scatter(float* x, float* from, Windows w, int n, int parts, int step, int ld, int D) {
    window_move_rows(from, x, false, w, n, parts, step, ld, D);
}
