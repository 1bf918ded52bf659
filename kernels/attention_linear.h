// Linear attention (Katharopoulos et al., "Transformers are RNNs", arXiv 2006.16236, eq. 5 and 7): for each sample and
// head, with f(x) = elu(x) + 1 elementwise,
//     S = sum_n f(K_n) V_n^T (D,D)      s = sum_n f(K_n) (D)      out_k = f(Q_k)^T S / (f(Q_k)^T s)
// As in the paper there is no sqrt(D): f(Q_k)^T f(K_n) replaces exp(Q_k^T K_n / sqrt(D)). Every weight is positive and
// a row of them sums to 1; nothing of size N x N exists.
//     qkv (B,N,3,H,D)     out (B,NQ,C), C = H D
#pragma once
#include "matmul.h"
#include "vector_math.h"

typedef struct {
    float *q, *k;  // (N,D): f(Q), of NQ rows, and f(K)
    float* dratio; // (N,D): dout / (f(Q)^T s), of NQ rows
    float *S, *dS; // (D,D)
    float *s, *ds; // (D)
} LinearWork;

static inline size_t linear_attention_work(int N, int D) { return ((size_t)3 * N + 2 * D + 2) * D; }

static inline LinearWork linear_attention_cut(float* scratch, int N, int D) { // this thread's
    size_t rows = (size_t)N * D, square = (size_t)D * D;
    float *q = scratch + thread_number() * linear_attention_work(N, D), *S = q + 3 * rows, *s = S + 2 * square;
    return (LinearWork){.q = q, .k = q + rows, .dratio = q + 2 * rows, .S = S, .dS = S + square, .s = s, .ds = s + D};
}

static inline size_t linear_attention_scratch(int N, int C, int H) {
    return max_threads() * linear_attention_work(N, C / H);
}

ALWAYS_INLINE float linear_feature(float x) { return x > 0 ? x + 1 : vm_exp(x); }
ALWAYS_INLINE float linear_feature_slope(float feature) { return vm_min(feature, 1); } // 1 for x > 0, else e^x

// f(Q), f(K), S and s: rows of q, k, v are 3C apart
static inline void linear_attention_sums(LinearWork w, const float* q, int N, int NQ, int C, int D) {
    const float* k = q + C;
    memset(w.s, 0, D * sizeof *w.s);
    for (int n = 0; n < NQ; n++) {
        for (int i = 0; i < D; i++) { w.q[(size_t)n * D + i] = linear_feature(q[(size_t)n * 3 * C + i]); }
    }
    for (int n = 0; n < N; n++) {
        for (int i = 0; i < D; i++) { w.k[(size_t)n * D + i] = linear_feature(k[(size_t)n * 3 * C + i]); }
        for (int i = 0; i < D; i++) { w.s[i] += w.k[(size_t)n * D + i]; }
    }
    gemm(true, false, D, D, N, 1, w.k, D, q + 2 * C, 3 * C, 0, w.S, D);
}

static inline void linear_attention_forward(float* out, const float* qkv, float* scratch, int B, int N, int NQ, int C,
                                            int H) {
    int D = C / H;
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        size_t b = bh / H, column = (size_t)(bh % H) * D;
        float* o = out + b * NQ * C + column;
        LinearWork w = linear_attention_cut(scratch, N, D);
        linear_attention_sums(w, qkv + 3 * b * N * C + column, N, NQ, C, D);
        gemm(false, false, NQ, D, D, 1, w.q, D, w.S, D, 0, o, C);
        for (int k = 0; k < NQ; k++, o += C) {
            float inverse = 1 / vm_row_dot(w.q + (size_t)k * D, w.s, D);
            for (int i = 0; i < D; i++) { o[i] *= inverse; }
        }
    }
}

// The forward line: out_k = f(Q_k)^T S / (f(Q_k)^T s), of numerator and denominator. Begins dq with the denominator's
// part, (dout_k . out_k) being the product of the numerator with its gradient.
static inline void linear_attention_ratio_backward(LinearWork w, float* dq, const float* dout, const float* out, int NQ,
                                                   int C, int D) {
    memset(w.ds, 0, D * sizeof *w.ds);
    for (int k = 0; k < NQ; k++, dq += 3 * C, dout += C, out += C) {
        const float* feature = w.q + (size_t)k * D;
        float inverse = 1 / vm_row_dot(feature, w.s, D), ddenominator = -inverse * vm_row_dot(dout, out, D);
        for (int i = 0; i < D; i++) { w.dratio[(size_t)k * D + i] = inverse * dout[i]; }
        for (int i = 0; i < D; i++) { dq[i] = ddenominator * w.s[i]; }
        for (int i = 0; i < D; i++) { w.ds[i] += ddenominator * feature[i]; }
    }
}

// One sample and head. The forward lines: S = f(K)^T V; s = f(K)^T 1; the ratio of f(Q) S and f(Q) s
static inline void linear_attention_head_backward(LinearWork w, float* dq, const float* dout, const float* out,
                                                  const float* q, int N, int NQ, int C, int D) {
    const float* v = q + 2 * C;
    float *dk = dq + C, *dv = dq + 2 * C;
    int ld = 3 * C;
    linear_attention_sums(w, q, N, NQ, C, D);
    linear_attention_ratio_backward(w, dq, dout, out, NQ, C, D);
    gemm(true, false, D, D, NQ, 1, w.q, D, w.dratio, D, 0, w.dS, D);
    gemm(false, true, NQ, D, D, 1, w.dratio, D, w.S, D, 1, dq, ld);
    gemm(false, false, N, D, D, 1, w.k, D, w.dS, D, 0, dv, ld);
    for (int n = 0; n < N; n++) { memcpy(dk + (size_t)n * ld, w.ds, D * sizeof *dk); }
    gemm(false, true, N, D, D, 1, v, ld, w.dS, D, 1, dk, ld);
    for (int n = 0; n < NQ; n++, dq += ld) {
        for (int i = 0; i < D; i++) { dq[i] *= linear_feature_slope(w.q[(size_t)n * D + i]); }
    }
    for (int n = 0; n < N; n++, dk += ld) {
        for (int i = 0; i < D; i++) { dk[i] *= linear_feature_slope(w.k[(size_t)n * D + i]); }
    }
}

static inline void linear_attention_backward(float* dqkv, const float* dout, const float* out, const float* qkv,
                                             float* scratch, int B, int N, int NQ, int C, int H) {
    int D = C / H;
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        size_t b = bh / H, column = (size_t)(bh % H) * D, at = b * NQ * C + column, at_q = 3 * b * N * C + column;
        linear_attention_head_backward(linear_attention_cut(scratch, N, D), dqkv + at_q, dout + at, out + at,
                                       qkv + at_q, N, NQ, C, D);
    }
}
