// Softmax attention inside windows of a grid of tokens (Liu et al., "Swin Transformer", arXiv 2103.14030), for each
// image, window and head:
//     S = Q K^T / sqrt(D) + bias + mask      P = softmax(S) over each row      out = P V
// with a learned bias for each offset between two places of a window, and a mask where the grid is rolled (windows.h).
//     qkv (B,T,3,H,D), T = grid^2 tokens in the order of the grid     out (B,T,C)     lse (B,windows,H,N), N = size^2
//     table ((2 size - 1)^2, heads of the layer), from the column of the first of these H heads on
// A head's rows of a window are gathered into a thread's scratch, where attention.h takes them as a sequence of N
// tokens, and its results put back. The gradient of bias is summed over images and windows in up to WINDOW_SLOTS slots,
// each a fixed set of windows, and the slots in order: it does not depend on the number of threads.
#pragma once
#include "attention.h"
#include "partials.h"
#include "window_bias.h"
#include "window_rows.h"
#include <stdint.h>

enum { WINDOW_SLOTS = 16 };

static inline int window_slots(int B, Windows w) { return min_int(B * windows_of_image(w), WINDOW_SLOTS); }

typedef struct { float *qkv, *dqkv, *out, *dout, *tiles; } WindowWork; // a head's, (N,3,D) and (N,D), and attention's

static inline size_t window_work_size(int N, int D) {
    return 8 * (size_t)round_up(N * D, VM_LANES) + 2 * attention_tile(N);
}

// The calling thread's
static inline WindowWork window_work(float* works, int N, int D) {
    float* base = works + thread_number() * window_work_size(N, D);
    size_t rows = round_up(N * D, VM_LANES);
    return (WindowWork){base, base + 3 * rows, base + 6 * rows, base + 7 * rows, base + 8 * rows};
}

// Floats of a bias (H,N,stride) of one kind of windows
static inline size_t window_bias_size(Windows w, int H) {
    return (size_t)H * window_tokens(w) * attention_stride(window_tokens(w));
}

// The bias of every kind, the slots of its gradient (slots,H,N,stride), the threads' work
static inline size_t window_attention_scratch(int B, Windows w, int H, int D) {
    return (window_kinds(w) + window_slots(B, w)) * window_bias_size(w, H) +
           max_threads() * window_work_size(window_tokens(w), D);
}

typedef struct { float *bias, *slots, *works; } WindowScratch;

static inline WindowScratch window_scratch_cut(float* scratch, int B, Windows w, int H) {
    float* slots = scratch + window_kinds(w) * window_bias_size(w, H);
    return (WindowScratch){scratch, slots, slots + window_slots(B, w) * window_bias_size(w, H)};
}

// The first H heads, of D each, of a layer of width C
static inline void window_attention_forward(float* out, float* lse, const float* qkv, const float* table,
                                            float* scratch, int B, Windows w, int C, int H, int D) {
    int N = window_tokens(w), T = w.grid * w.grid, windows = windows_of_image(w), lds = attention_stride(N);
    WindowScratch s = window_scratch_cut(scratch, B, w, H);
    window_bias_forward(s.bias, table, w, WINDOW_MASK, false, C / D, H, N, lds);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < B * windows * H; task++) {
        int h = task % H, n = task / H % windows;
        size_t token = (size_t)(task / H / windows) * T;
        WindowWork work = window_work(s.works, N, D);
        window_gather(work.qkv, qkv + token * 3 * C + h * D, w, n, 3, C, 3 * C, D);
        attention_head_forward(work.out, lse + (size_t)task * N, work.qkv, work.qkv + 2 * D, 3 * D,
                               s.bias + ((size_t)window_kind(w, n) * H + h) * N * lds, work.tiles, N, N, D, D);
        window_scatter(out + token * C + h * D, work.out, w, n, 1, 0, C, D);
    }
}

// One window and head of an image, whose first tokens' rows dqkv, dout, out and qkv are; dbias is added to
static inline void window_head_backward(float* dqkv, float* dbias, const float* dout, const float* out,
                                        const float* lse, const float* qkv, const float* bias, WindowWork work,
                                        Windows w, int n, int C, int D) {
    int N = window_tokens(w);
    window_gather(work.qkv, qkv, w, n, 3, C, 3 * C, D);
    window_gather(work.out, out, w, n, 1, 0, C, D);
    window_gather(work.dout, dout, w, n, 1, 0, C, D);
    attention_head_backward(work.dqkv, work.dqkv + 2 * D, dbias, work.dout, work.out, lse, work.qkv, work.qkv + 2 * D,
                            3 * D, bias, work.tiles, N, N, D, D);
    window_scatter(dqkv, work.dqkv, w, n, 3, C, 3 * C, D);
}

// dtable is added to
static inline void window_attention_backward(float* dqkv, float* dtable, const float* dout, const float* out,
                                             const float* lse, const float* qkv, const float* table, float* scratch,
                                             int B, Windows w, int C, int H, int D) {
    int N = window_tokens(w), T = w.grid * w.grid, windows = windows_of_image(w), lds = attention_stride(N);
    int slots = window_slots(B, w);
    size_t size = (size_t)N * lds; // of a head's bias
    WindowScratch s = window_scratch_cut(scratch, B, w, H);
    window_bias_forward(s.bias, table, w, WINDOW_MASK, false, C / D, H, N, lds);
    memset(s.slots, 0, slots * H * size * sizeof(float));
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < slots * H; task++) {
        int64_t slot = task / H, h = task % H, sequences = (int64_t)B * windows;
        for (int64_t i = slot * sequences / slots; i < (slot + 1) * sequences / slots; i++) {
            int n = (int)(i % windows);
            size_t at = i / windows * T * C + h * D, at_q = 3 * (i / windows) * T * C + h * D;
            window_head_backward(dqkv + at_q, s.slots + task * size, dout + at, out + at, lse + (i * H + h) * N,
                                 qkv + at_q, s.bias + (window_kind(w, n) * H + h) * size, window_work(s.works, N, D), w,
                                 n, C, D);
        }
    }
    add_partials(s.slots, s.slots + H * size, slots - 1, (int)(H * size));
    window_bias_backward(dtable, s.slots, w, C / D, H, N, lds);
}
