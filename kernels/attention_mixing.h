// Learned mixing of the tokens, fixed over samples: for each sample and head
//     out_k = sum_n M_kn V_n
// with a trained matrix M for each head, the same for every sample. Queries and keys are ignored: this is what is left
// of attention if it need not depend on its input (the "Random" Synthesizer of Tay et al., arXiv 2005.00743, without
// its
// softmax).
//     qkv (B,N,3,H,D)     mix (H,N,N), M of each head, of which NQ rows are used     out (B,NQ,C), C = H D
// The gradient of M is summed over the batch in up to MIXING_SLOTS slots, each a fixed set of samples, and the slots in
// order, so that it does not depend on the number of threads.
#pragma once
#include "matmul.h"
#include "partials.h"
#include <stdint.h>
#include <string.h>

enum { MIXING_SLOTS = 8 };

static inline int mixing_slots(int B) { return min_int(B, MIXING_SLOTS); }

// Of the backward: the slots (slots,H,N,N)
static inline size_t mixing_scratch(int B, int N, int H) {
    return (size_t)mixing_slots(B) * H * N * N;
}

static inline void mixing_forward(float* out, const float* qkv, const float* mix, int B, int N, int NQ, int C, int H) {
    int D = C / H;
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        int h = bh % H;
        size_t b = bh / H;
        gemm(false, false, NQ, D, N, 1, mix + (size_t)h * N * N, N, qkv + 3 * b * N * C + 2 * C + h * D, 3 * C, 0,
             out + b * NQ * C + h * D, C);
    }
}

// One sample and head, the forward line: out = M V. dM is added to.
static inline void mixing_head_backward(float* dq, float* dmix, const float* dout, const float* v, const float* mix,
                                        int N, int NQ, int C, int D) {
    gemm(false, true, NQ, N, D, 1, dout, C, v, 3 * C, 1, dmix, N);
    gemm(true, false, N, D, NQ, 1, mix, N, dout, C, 0, dq + 2 * C, 3 * C);
    for (int n = 0; n < N; n++) {
        float* row = dq + (size_t)n * 3 * C;
        if (n < NQ) { memset(row, 0, D * sizeof *row); }
        memset(row + C, 0, D * sizeof *row);
    }
}

static inline void mixing_backward(float* dqkv, float* dmix, const float* dout, const float* qkv, const float* mix,
                                   float* scratch, int B, int N, int NQ, int C, int H) {
    int D = C / H, slots = mixing_slots(B);
    size_t size = (size_t)N * N; // of a head's M
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < slots * H; task++) {
        int s = task / H, h = task % H;
        float* slot = scratch + task * size;
        memset(slot, 0, size * sizeof *slot);
        for (int b = (int)((int64_t)s * B / slots); b < (int)((int64_t)(s + 1) * B / slots); b++) {
            size_t at_q = 3 * (size_t)b * N * C + h * D;
            mixing_head_backward(dqkv + at_q, slot, dout + (size_t)b * NQ * C + h * D, qkv + at_q + 2 * C,
                                 mix + h * size, N, NQ, C, D);
        }
    }
    add_partials(dmix, scratch, slots, (int)(H * size));
}
