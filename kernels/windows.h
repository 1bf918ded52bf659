// Square windows on a grid of tokens (Liu et al., "Swin Transformer", arXiv 2103.14030); C and CUDA alike. The grid is
// rolled by -shift in both directions and cut: place i of window n is a token of the grid, and everything but attention
// stays in the order of the grid. Rolling makes tokens from opposite edges neighbours in the windows of the last row
// and of the last column: there tokens are of different regions, which must not meet.
#pragma once

#ifdef __CUDACC__
#define WINDOWS_FUNCTION static inline __host__ __device__
#else
#define WINDOWS_FUNCTION static inline
#endif

typedef struct { int grid, size, shift; } Windows; // grid x grid tokens in windows of size x size, which divides grid

#define WINDOW_MASK (-100.0f) // added to the logits of tokens of different regions

WINDOWS_FUNCTION int windows_of_image(Windows w) { return w.grid / w.size * (w.grid / w.size); }
WINDOWS_FUNCTION int window_tokens(Windows w) { return w.size * w.size; }

// The token of the grid at place i of window n
WINDOWS_FUNCTION int window_token(Windows w, int n, int i) {
    int across = w.grid / w.size;
    int y = n / across * w.size + i / w.size + w.shift, x = n % across * w.size + i % w.size + w.shift;
    return (y < w.grid ? y : y - w.grid) * w.grid + (x < w.grid ? x : x - w.grid);
}

// The mask of window n: 0: nothing is masked; 1: that of the last column of windows, 2: of the last row, 3: both
enum { WINDOW_KINDS = 4, WINDOW_REGIONS = 4 }; // at most
WINDOWS_FUNCTION int window_kinds(Windows w) { return w.shift ? WINDOW_KINDS : 1; }
WINDOWS_FUNCTION int window_kind(Windows w, int n) {
    int across = w.grid / w.size;
    return w.shift ? (n / across == across - 1) * 2 + (n % across == across - 1) : 0;
}

// The region of such a window that place i is in, out of 1, 2, 2 or 4
WINDOWS_FUNCTION int window_regions(int kind) { return (1 + kind / 2) * (1 + kind % 2); }
WINDOWS_FUNCTION int window_region(Windows w, int kind, int i) {
    int edge = w.size - w.shift, below = kind / 2 && i / w.size >= edge, right = kind % 2 && i % w.size >= edge;
    return below * (1 + kind % 2) + right;
}

// The relative position bias: a learned number for each offset between two places and each head,
//     table ((2 size - 1)^2, heads),   bias of query i and key j = table[window_offset(i) - window_offset(j) + middle]
WINDOWS_FUNCTION int window_offsets(Windows w) { return (2 * w.size - 1) * (2 * w.size - 1); }
WINDOWS_FUNCTION int window_offset(Windows w, int i) { return i / w.size * (2 * w.size - 1) + i % w.size; }
WINDOWS_FUNCTION int window_bias_row(Windows w, int i, int j) {
    return window_offset(w, i) - window_offset(w, j) + window_offsets(w) / 2;
}
