// Softmax attention inside windows of a grid of tokens (Liu et al., "Swin Transformer", arXiv 2103.14030), for each
// image, window and head:
//     S = Q K^T / sqrt(D) + bias + mask      P = softmax(S) over each row      out = P V
// with a learned bias for each offset between two places of a window, and a mask where the grid is rolled (windows.h).
//     qkv (B,T,3,H,D), T = grid^2 tokens in the order of the grid     out (B,T,C)     lse (B,windows,H,N), N = size^2
//     table ((2 size - 1)^2, heads of the layer), from the column of the first of these H heads on
// A window's rows of WINDOW_HEADS heads are gathered into a thread's scratch (with fewer, the runs of memory would be
// too short to be read fast), where attention.h treats them as a sequence of N tokens, and its results are scattered
// back. The gradient of bias is summed over images and windows in up to WINDOW_SLOTS slots, each a fixed set of
// windows, and the slots in order, so that it does not depend on the number of threads.
#pragma once
#include "attention.h"
#include "partials.h"
#include "window_bias.h"
#include "window_rows.h"
#include <stdint.h>

enum { WINDOW_SLOTS = 32, WINDOW_HEADS = 4 };

static inline int window_slots(int B, Windows w) { return min_int(B * windows_of_image(w), WINDOW_SLOTS); }

typedef struct { // of one thread and its heads, `width` channels: (N,3,width), (N,width), and attention's tiles
    float *qkv, *dqkv, *out, *dout, *tiles;
} WindowWork;

static inline size_t window_work_size(int N, int D) {
    return 8 * (size_t)round_up(N * D * WINDOW_HEADS, VM_LANES) + 2 * attention_tile(N);
}

// The calling thread's
static inline WindowWork window_work(float* works, int N, int D) {
    float* base = works + thread_number() * window_work_size(N, D);
    size_t rows = round_up(N * D * WINDOW_HEADS, VM_LANES);
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

// Which heads go together: count of them, from first on
typedef struct { int first, count; } WindowHeads;

static inline int window_groups(int H) { return (H + WINDOW_HEADS - 1) / WINDOW_HEADS; }
static inline WindowHeads window_heads(int group, int H) {
    return (WindowHeads){group * WINDOW_HEADS, min_int(WINDOW_HEADS, H - group * WINDOW_HEADS)};
}

// The first H heads, of D each, of a layer of width C
static inline void window_attention_forward(float* out, float* lse, const float* qkv, const float* table,
                                            float* scratch, int B, Windows w, int C, int H, int D) {
    int N = window_tokens(w), T = w.grid * w.grid, windows = windows_of_image(w), lds = attention_stride(N);
    int groups = window_groups(H);
    WindowScratch s = window_scratch_cut(scratch, B, w, H);
    window_bias_forward(s.bias, table, w, WINDOW_MASK, false, C / D, H, N, lds);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < B * windows * groups; task++) {
        int n = task / groups % windows;
        size_t sequence = task / groups, token = sequence / windows * T;
        WindowHeads heads = window_heads(task % groups, H);
        int column = heads.first * D, width = heads.count * D;
        WindowWork work = window_work(s.works, N, D);
        window_gather(work.qkv, qkv + token * 3 * C + column, w, n, 3, C, 3 * C, width);
        for (int i = 0; i < heads.count; i++) {
            int h = heads.first + i;
            const float* q = work.qkv + i * D;
            attention_head_forward(work.out + i * D, lse + (sequence * H + h) * N, q, q + 2 * width, 3 * width,
                                   s.bias + ((size_t)window_kind(w, n) * H + h) * N * lds, work.tiles, N, N, width, D);
        }
        window_scatter(out + token * C + column, work.out, w, n, 1, 0, C, width);
    }
}

// One window and some heads of an image, whose rows dqkv, dout, out and qkv are; lse and the biases are these heads',
// dbias is added to
static inline void window_heads_backward(float* dqkv, float* dbias, const float* dout, const float* out,
                                         const float* lse, const float* qkv, const float* bias, WindowWork work,
                                         Windows w, int n, int C, int heads, int D) {
    int N = window_tokens(w), width = heads * D;
    size_t size = (size_t)N * attention_stride(N); // of a head's bias
    window_gather(work.qkv, qkv, w, n, 3, C, 3 * C, width);
    window_gather(work.out, out, w, n, 1, 0, C, width);
    window_gather(work.dout, dout, w, n, 1, 0, C, width);
    for (int i = 0; i < heads; i++) {
        const float* q = work.qkv + i * D;
        float* dq = work.dqkv + i * D;
        attention_head_backward(dq, dq + 2 * width, dbias + i * size, work.dout + i * D, work.out + i * D,
                                lse + (size_t)i * N, q, q + 2 * width, 3 * width, bias + i * size, work.tiles, N, N,
                                width, D);
    }
    window_scatter(dqkv, work.dqkv, w, n, 3, C, 3 * C, width);
}

// dtable is added to
static inline void window_attention_backward(float* dqkv, float* dtable, const float* dout, const float* out,
                                             const float* lse, const float* qkv, const float* table, float* scratch,
                                             int B, Windows w, int C, int H, int D) {
    int N = window_tokens(w), T = w.grid * w.grid, windows = windows_of_image(w), lds = attention_stride(N);
    int slots = window_slots(B, w), groups = window_groups(H);
    size_t size = (size_t)N * lds; // of a head's bias
    WindowScratch s = window_scratch_cut(scratch, B, w, H);
    window_bias_forward(s.bias, table, w, WINDOW_MASK, false, C / D, H, N, lds);
    memset(s.slots, 0, slots * H * size * sizeof(float));
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < slots * groups; task++) {
        int64_t slot = task / groups, sequences = (int64_t)B * windows;
        WindowHeads heads = window_heads(task % groups, H);
        for (int64_t i = slot * sequences / slots; i < (slot + 1) * sequences / slots; i++) {
            int n = (int)(i % windows);
            size_t token = i / windows * T, at = token * C + heads.first * D, at_q = 3 * token * C + heads.first * D;
            window_heads_backward(dqkv + at_q, s.slots + (slot * H + heads.first) * size, dout + at, out + at,
                                  lse + (i * H + heads.first) * N, qkv + at_q,
                                  s.bias + (window_kind(w, n) * H + heads.first) * size, window_work(s.works, N, D), w,
                                  n, C, heads.count, D);
        }
    }
    add_partials(s.slots, s.slots + H * size, slots - 1, (int)(H * size));
    window_bias_backward(dtable, s.slots, w, C / D, H, N, lds);
}
