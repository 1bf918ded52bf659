// Attention without normalisation: a function is applied to every logit by itself, for each sample and head
//     A = Q K^T / sqrt(D)      P = f(A)      out = P V
//     sigmoid      f(a) = 1 / (1 + e^(log N - a))   (Ramapuram et al., "Theory, Analysis, and Best Practices for
//                                                    Sigmoid Self-Attention", arXiv 2409.04431: bias -log N)
//     relu         f(a) = max(a, 0) / N             (Wortsman et al., "Replacing softmax with ReLU in Vision
//                                                    Transformers", arXiv 2309.08586)
//     polynomial   f(a) = a^3 / sqrt(N)             (Saratchandran et al., "Rethinking Attention: Polynomial
//                                                    Alternatives to Softmax in Transformers", arXiv 2410.18613)
// log N and 1/N keep the sums of P's rows from growing with N, 1/sqrt(N) the Frobenius norm of P at O(sqrt N), as
// softmax has it. Each thread's scratch holds one tile of rows of P at a time, which the backward recomputes: nothing
// is saved.
//     qkv (B,N,3,H,D)     out (B,NQ,C), C = H D
#pragma once
#include "attention.h"
#include "pointwise_kind.h"

static inline size_t pointwise_scratch(int N) { return attention_scratch(N); }

// a (n): A to P
static inline void pointwise_values(float* a, size_t n, PointwiseKind kind, int N) {
    float bias = -logf(N), inverse = 1.0f / N, inverse_root = 1 / sqrtf(N);
    switch (kind) {
    case POINTWISE_SIGMOID:
        for (size_t i = 0; i < n; i++) { a[i] = vm_sigmoid(a[i] + bias); }
        break;
    case POINTWISE_RELU:
        for (size_t i = 0; i < n; i++) { a[i] = inverse * (a[i] < 0 ? 0 : a[i]); } // in this order a NaN stays
        break;
    case POINTWISE_POLYNOMIAL:
        for (size_t i = 0; i < n; i++) { a[i] *= inverse_root * a[i] * a[i]; }
    }
}

// The same, and dp (n): dP to dA = f'(A) dP
static inline void pointwise_values_backward(float* a, float* dp, size_t n, PointwiseKind kind, int N) {
    float bias = -logf(N), inverse = 1.0f / N, inverse_root = 1 / sqrtf(N);
    switch (kind) {
    case POINTWISE_SIGMOID: // f' = f (1 - f)
        for (size_t i = 0; i < n; i++) {
            a[i] = vm_sigmoid(a[i] + bias);
            dp[i] *= a[i] * (1 - a[i]);
        }
        break;
    case POINTWISE_RELU:
        for (size_t i = 0; i < n; i++) {
            dp[i] *= a[i] > 0 ? inverse : 0;
            a[i] = inverse * (a[i] < 0 ? 0 : a[i]);
        }
        break;
    case POINTWISE_POLYNOMIAL:
        for (size_t i = 0; i < n; i++) {
            float square = inverse_root * a[i] * a[i];
            dp[i] *= 3 * square;
            a[i] *= square;
        }
    }
}

// One sample and head: q, k, v rows are 3C apart, out's are C apart
static inline void pointwise_head_forward(float* out, const float* q, PointwiseKind kind, float* scratch, int N, int NQ,
                                          int C, int D) {
    const float *k = q + C, *v = q + 2 * C;
    int rows = attention_rows(N), ld = 3 * C;
    for (int n = 0; n < NQ; n += rows) {
        int count = min_int(rows, NQ - n);
        gemm(false, true, count, N, D, 1 / sqrtf(D), q + (size_t)n * ld, ld, k, ld, 0, scratch, N);
        pointwise_values(scratch, (size_t)count * N, kind, N);
        gemm(false, false, count, D, N, 1, scratch, N, v, ld, 0, out + (size_t)n * C, C);
    }
}

static inline void pointwise_forward(float* out, const float* qkv, PointwiseKind kind, float* scratch, int B, int N,
                                     int NQ, int C, int H) {
    int D = C / H;
    size_t tiles = 2 * attention_tile(N);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        size_t b = bh / H, column = (size_t)(bh % H) * D;
        pointwise_head_forward(out + b * NQ * C + column, qkv + 3 * b * N * C + column, kind,
                               scratch + thread_number() * tiles, N, NQ, C, D);
    }
}

// The forward lines: A = Q K^T / sqrt(D); P = f(A); out = P V
static inline void pointwise_head_backward(float* dq, const float* dout, const float* q, PointwiseKind kind,
                                           float* scratch, int N, int NQ, int C, int D) {
    const float *k = q + C, *v = q + 2 * C;
    float *dk = dq + C, *dv = dq + 2 * C, scale = 1 / sqrtf(D);
    int rows = attention_rows(N), ld = 3 * C;
    float *P = scratch, *dP = scratch + (size_t)rows * N;
    for (int n = 0; n < NQ; n += rows) {
        int count = min_int(rows, NQ - n);
        const float *q_tile = q + (size_t)n * ld, *dout_tile = dout + (size_t)n * C;
        float keep = n > 0; // the first tile sets dk and dv, the others add to them
        gemm(false, true, count, N, D, scale, q_tile, ld, k, ld, 0, P, N);
        gemm(false, true, count, N, D, 1, dout_tile, C, v, ld, 0, dP, N);
        pointwise_values_backward(P, dP, (size_t)count * N, kind, N);
        gemm(true, false, N, D, count, 1, P, N, dout_tile, C, keep, dv, ld);
        gemm(false, false, count, D, N, scale, dP, N, k, ld, 0, dq + (size_t)n * ld, ld);
        gemm(true, false, N, D, count, scale, dP, N, q_tile, ld, keep, dk, ld);
    }
}

static inline void pointwise_backward(float* dqkv, const float* dout, const float* qkv, PointwiseKind kind,
                                      float* scratch, int B, int N, int NQ, int C, int H) {
    int D = C / H;
    size_t tiles = 2 * attention_tile(N);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        size_t b = bh / H, column = (size_t)(bh % H) * D, at_q = 3 * b * N * C + column;
        pointwise_head_backward(dqkv + at_q, dout + b * NQ * C + column, qkv + at_q, kind,
                                scratch + thread_number() * tiles, N, NQ, C, D);
    }
}
