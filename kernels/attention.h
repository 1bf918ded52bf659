// Softmax attention (Vaswani et al., 2017), for each sample and head:
//     S = Q K^T / sqrt(D)      P = softmax(S) over each row      out = P V
// Nothing of size N x N is kept: the forward saves each row's log-sum-exp, from which the backward recomputes P as
// exp(S - lse) (Dao et al., "FlashAttention", 2022). Each thread's scratch holds one tile of rows of S at a time.
//     qkv (B,N,3,H,D), as timm lays out its qkv product     out (B,NQ,C)     lse (B,H,NQ)
// A bias (NQ,N) can be added to S, its rows attention_stride(N) apart (attention_window.h); NULL: none.
// Like all attention here, it applies NQ queries, those of the first NQ tokens, to the keys and values of all N; the
// places of other queries in qkv and dqkv are neither read nor written.
#pragma once
#include "matmul.h"
#include "vector_math.h"

// Floats from one row of a tile to the next: a multiple of a vector, so that no loop over a row has a remainder
static inline int attention_stride(int N) { return round_up(N, VM_LANES); }

// Rows of a tile: equal tiles of at least 96 rows, two of which fit into the second cache level for N up to some
// hundreds
static inline int attention_rows(int N) {
    int room = 48 * 1024 / attention_stride(N), most = room > 96 ? room : 96, tiles = (N + most - 1) / most;
    return round_up((N + tiles - 1) / tiles, TILE_ROWS);
}

static inline size_t attention_tile(int N) { return (size_t)attention_rows(N) * attention_stride(N); }

// Two tiles of S for each thread
static inline size_t attention_scratch(int N) { return max_threads() * 2 * attention_tile(N); }

// row (N, of a tile): S to P; returns the log-sum-exp
static inline float softmax_row(float* row, int N) {
    int whole = attention_stride(N);
    for (int i = N; i < whole; i++) { row[i] = -INFINITY; }
    float high = vm_row_max(row, whole);
    for (int i = 0; i < whole; i++) { row[i] = vm_exp_negative(row[i] - high); }
    float sum = vm_row_sum(row, whole), inverse = 1 / sum;
    for (int i = 0; i < whole; i++) { row[i] *= inverse; }
    return high + logf(sum);
}

// S (count,N) of queries q, whose rows and those of k are ld apart; bias as S, or NULL
static inline void attention_tile_logits(float* S, const float* q, const float* k, int ld, const float* bias, int count,
                                    int N, int D) {
    int lds = attention_stride(N);
    if (OWN_PRODUCTS) {
        Addend add = {bias, lds, bias ? 1 : 0};
        own_gemm_added(false, true, count, N, D, 1 / sqrtf(D), q, ld, k, ld, add, S, lds);
        return;
    }
    if (bias) { memcpy(S, bias, (size_t)count * lds * sizeof *S); }
    gemm(false, true, count, N, D, 1 / sqrtf(D), q, ld, k, ld, bias ? 1 : 0, S, lds);
}

// One sample and head: rows of q and k are 3C apart, v's ldv, out's C
static inline void attention_head_forward(float* out, float* lse, const float* q, const float* v, int ldv,
                                          const float* bias, float* scratch, int N, int NQ, int C, int D) {
    const float* k = q + C;
    int rows = attention_rows(N), lds = attention_stride(N);
    for (int n = 0; n < NQ; n += rows) {
        int count = min_int(rows, NQ - n);
        attention_tile_logits(scratch, q + (size_t)n * 3 * C, k, 3 * C, bias ? bias + (size_t)n * lds : NULL, count, N,
                              D);
        for (int i = 0; i < count; i++) { lse[n + i] = softmax_row(scratch + (size_t)i * lds, N); }
        gemm(false, false, count, D, N, 1, scratch, lds, v, ldv, 0, out + (size_t)n * C, C);
    }
}

// The first H heads, of D each, of a layer of width C
static inline void attention_forward(float* out, float* lse, const float* qkv, float* scratch, int B, int N, int NQ,
                                     int C, int H, int D) {
    size_t tiles = 2 * attention_tile(N);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        int b = bh / H, h = bh % H;
        const float* q = qkv + (size_t)b * N * 3 * C + h * D;
        attention_head_forward(out + (size_t)b * NQ * C + h * D, lse + (size_t)bh * NQ, q, q + 2 * C, 3 * C, NULL,
                               scratch + thread_number() * tiles, N, NQ, C, D);
    }
}

// P and dP rows of a tile to dS = P (dP - delta), delta = sum_j P_j dP_j = dout . out (D): a row of P sums to 1
// whatever S is
static inline void softmax_row_backward(float* dp, const float* p, const float* dout, const float* out, int N, int D) {
    float delta = vm_row_dot(dout, out, D);
    for (int i = 0; i < attention_stride(N); i++) { dp[i] = p[i] * (dp[i] - delta); }
}

// The forward lines: S = Q K^T / sqrt(D) + bias; P = exp(S - lse); out = P V. Strides are the forward's, dv's is v's,
// dbias's bias's; it is added to.
static inline void attention_head_backward(float* dq, float* dv, float* dbias, const float* dout, const float* out,
                                           const float* lse, const float* q, const float* v, int ldv,
                                           const float* bias, float* scratch, int N, int NQ, int C, int D) {
    const float* k = q + C;
    float *dk = dq + C, scale = 1 / sqrtf(D);
    int rows = attention_rows(N), ld = 3 * C, lds = attention_stride(N);
    float *P = scratch, *dP = scratch + attention_tile(N);
    for (int n = 0; n < NQ; n += rows) {
        int count = min_int(rows, NQ - n);
        const float *q_tile = q + (size_t)n * ld, *dout_tile = dout + (size_t)n * C, *out_tile = out + (size_t)n * C;
        float keep = n > 0; // the first tile sets dk and dv, the others add to them
        attention_tile_logits(P, q_tile, k, ld, bias ? bias + (size_t)n * lds : NULL, count, N, D);
        for (int i = 0; i < count; i++) {
            float* p = P + (size_t)i * lds;
            for (int j = 0; j < lds; j++) { p[j] = vm_exp_negative(p[j] - lse[n + i]); }
        }
        gemm(true, false, N, D, count, 1, P, lds, dout_tile, C, keep, dv, ldv);
        gemm(false, true, count, N, D, 1, dout_tile, C, v, ldv, 0, dP, lds);
        for (int i = 0; i < count; i++) {
            softmax_row_backward(dP + (size_t)i * lds, P + (size_t)i * lds, dout_tile + (size_t)i * C,
                                 out_tile + (size_t)i * C, N, D);
        }
        for (int i = 0; dbias && i < count * lds; i++) { dbias[(size_t)n * lds + i] += dP[i]; }
        gemm(false, false, count, D, N, scale, dP, lds, k, ld, 0, dq + (size_t)n * ld, ld);
        gemm(true, false, N, D, count, scale, dP, lds, q_tile, ld, keep, dk, ld);
    }
}

static inline void attention_backward(float* dqkv, const float* dout, const float* out, const float* lse,
                                      const float* qkv, float* scratch, int B, int N, int NQ, int C, int H, int D) {
    size_t tiles = 2 * attention_tile(N);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        int b = bh / H, h = bh % H;
        size_t at = (size_t)b * NQ * C + h * D, at_q = 3 * (size_t)b * N * C + h * D;
        const float* q = qkv + at_q;
        float* dq = dqkv + at_q;
        attention_head_backward(dq, dq + 2 * C, NULL, dout + at, out + at, lse + (size_t)bh * NQ, q, q + 2 * C, 3 * C,
                                NULL, scratch + thread_number() * tiles, N, NQ, C, D);
    }
}
