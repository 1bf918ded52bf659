// One head's rows of a window (windows.h), from the order of the grid to that of the window and back: so that attention
// can take the window as a sequence.
#pragma once
#include "windows.h"
#include <stddef.h>
#include <string.h>

// to (N,parts,D) = a head's D columns of each of the parts, step apart, of a window's rows of x (T,ld)
static inline void window_gather(float* to, const float* x, Windows w, int n, int parts, int step, int ld, int D) {
    for (int i = 0; i < window_tokens(w); i++) {
        const float* row = x + (size_t)window_token(w, n, i) * ld;
        for (int part = 0; part < parts; part++, to += D) { memcpy(to, row + part * step, D * sizeof *to); }
    }
}

static inline void window_scatter(float* x, const float* from, Windows w, int n, int parts, int step, int ld, int D) {
    for (int i = 0; i < window_tokens(w); i++) {
        float* row = x + (size_t)window_token(w, n, i) * ld;
        for (int part = 0; part < parts; part++, from += D) { memcpy(row + part * step, from, D * sizeof *from); }
    }
}
