// Softmax attention followed by a linear map of rank R, the same for every row k of a head:
//     P = softmax(Q K^T / sqrt(D))      z_k = down P_k      sigma_k = W z_k      out_k = sum_n sigma_kn V_n
// This is KArAt's operator (karat.h) with softmax and a matrix instead of its functions phi: it shows what the low rank
// alone does. By associativity
//     out = P V',  V' = down^T (W^T V)
// which is softmax attention over other values: neither z nor sigma is formed, and the forward saves lse alone.
//     qkv (B,N,3,H,D)     down (H,R,N)     W (H,N,R)     out (B,NQ,C), C = H D     lse (B,H,NQ), as attention.h
// Gradients of down and W are summed over the batch in up to RANK_SLOTS slots, each a fixed set of samples, and the
// slots in order: they do not depend on the number of threads.
#pragma once
#include "attention.h"
#include "partials.h"

enum { RANK_SLOTS = 8 };

static inline int rank_slots(int B) { return min_int(B, RANK_SLOTS); }

// A thread's: T = W^T V (R,D), V' (N,D), their gradients, and the tiles of attention.h
static inline size_t rank_work(int N, int D, int R) {
    return 2 * (size_t)(R + N) * D + 2 * attention_tile(N);
}

// The threads', then the slots (slots,H,R,N) of down and (slots,H,N,R) of W
static inline size_t rank_scratch(int B, int N, int C, int H, int R) {
    return max_threads() * rank_work(N, C / H, R) + (size_t)rank_slots(B) * 2 * H * R * N;
}

// T = W^T V; V' = down^T T
static inline void rank_values(float* values, float* T, const float* v, const float* down, const float* W, int N, int C,
                               int D, int R) {
    gemm(true, false, R, D, N, 1, W, R, v, 3 * C, 0, T, D);
    gemm(true, false, N, D, R, 1, down, N, T, D, 0, values, D);
}

static inline void rank_forward(float* out, float* lse, const float* qkv, const float* down, const float* W,
                                float* scratch, int B, int N, int NQ, int C, int H, int R) {
    int D = C / H;
    size_t work = rank_work(N, D, R), size = (size_t)R * N; // of a head's down and W
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        int h = bh % H;
        size_t b = bh / H;
        const float* q = qkv + 3 * b * N * C + h * D;
        float *T = scratch + thread_number() * work, *values = T + R * D, *tiles = values + (size_t)N * D;
        rank_values(values, T, q + 2 * C, down + h * size, W + h * size, N, C, D, R);
        attention_head_forward(out + b * NQ * C + h * D, lse + (size_t)bh * NQ, q, values, D, NULL, tiles, N, NQ, C,
                               D);
    }
}

// One sample and head, the forward lines: T = W^T V; V' = down^T T; out = P V'. ddown and dW are added to.
static inline void rank_head_backward(float* dq, float* ddown, float* dW, const float* dout, const float* out,
                                      const float* lse, const float* q, const float* down, const float* W,
                                      float* scratch, int N, int NQ, int C, int D, int R) {
    const float* v = q + 2 * C;
    float *T = scratch, *dT = T + R * D, *values = dT + R * D, *dvalues = values + (size_t)N * D;
    rank_values(values, T, v, down, W, N, C, D, R);
    attention_head_backward(dq, dvalues, NULL, dout, out, lse, q, values, D, NULL, dvalues + (size_t)N * D, N, NQ, C,
                            D);
    gemm(false, true, R, N, D, 1, T, D, dvalues, D, 1, ddown, N);
    gemm(false, false, R, D, N, 1, down, N, dvalues, D, 0, dT, D);
    gemm(false, true, N, R, D, 1, v, 3 * C, dT, D, 1, dW, R);
    gemm(false, false, N, D, R, 1, W, R, dT, D, 0, dq + 2 * C, 3 * C);
}

static inline void rank_backward(float* dqkv, float* ddown, float* dW, const float* dout, const float* out,
                                 const float* lse, const float* qkv, const float* down, const float* W, float* scratch,
                                 int B, int N, int NQ, int C, int H, int R) {
    int D = C / H, slots = rank_slots(B);
    size_t work = rank_work(N, D, R), size = (size_t)R * N;
    float *down_slots = scratch + max_threads() * work, *W_slots = down_slots + slots * H * size;
    memset(down_slots, 0, 2 * slots * H * size * sizeof *down_slots);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < slots * H; task++) {
        int s = task / H, h = task % H;
        for (int b = (int)((int64_t)s * B / slots); b < (int)((int64_t)(s + 1) * B / slots); b++) {
            size_t at = (size_t)b * NQ * C + h * D, at_q = 3 * (size_t)b * N * C + h * D;
            rank_head_backward(dqkv + at_q, down_slots + task * size, W_slots + task * size, dout + at, out + at,
                               lse + (size_t)(b * H + h) * NQ, qkv + at_q, down + h * size, W + h * size,
                               scratch + thread_number() * work, N, NQ, C, D, R);
        }
    }
    add_partials(ddown, down_slots, slots, (int)(H * size));
    add_partials(dW, W_slots, slots, (int)(H * size));
}
