// A plain form of every kind of attention, in double, with its weights sigma (N,N) materialised, with which the
// trainer's fused kernels are compared. To be included after train_vit.c.
#pragma once
#include "plain_basis.h"

static double plain_base(double x, int base) {
    double options[] = {0, x, x / (1 + exp(-x)), 0.5 * x * (1 + erf(x / sqrt(2)))};
    return options[base];
}

enum { MAX_COEFFICIENTS = 16 }; // of a unit, in these tests

static int compare_down(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x < y) - (x > y);
}

// The projection of x (n) on the simplex or on the l1 unit ball, from its sorted values
static void plain_project(double* x, int n, int projection) {
    double *sorted = malloc(sizeof(double) * n), sum = 0, tau = 0, norm = 0;
    for (int i = 0; i < n; i++) { norm += fabs(x[i]); }
    if (projection == PROJECT_NONE || (projection == PROJECT_L1 && norm <= 1)) {
        free(sorted);
        return;
    }
    for (int i = 0; i < n; i++) { sorted[i] = projection == PROJECT_L1 ? fabs(x[i]) : x[i]; }
    qsort(sorted, n, sizeof(double), compare_down);
    for (int i = 0; i < n; i++) {
        sum += sorted[i];
        if (sorted[i] > (sum - 1) / (i + 1)) { tau = (sum - 1) / (i + 1); }
    }
    for (int i = 0; i < n; i++) {
        x[i] = projection == PROJECT_L1 ? copysign(fmax(fabs(x[i]) - tau, 0), x[i]) : fmax(x[i] - tau, 0);
    }
    free(sorted);
}

// phi_pq(x) of one operator's head h
static double plain_unit(const Model* m, const float* coef, const float* scale_basis, const float* scale_base, int h,
                         int p, int q, double x) {
    int N = m->dims.N, R = m->dims.R, M = m->dims.M;
    double theta[MAX_COEFFICIENTS] = {0};
    size_t row = (size_t)h * R + p, unit = row * N + q;
    for (int i = 0; i < M; i++) { theta[i] = coef[(row * M + i) * N + q]; }
    return (scale_basis ? scale_basis[unit] : 1) * plain_phi(config_basis(&m->config), theta, x, q, N)
         + (scale_base ? scale_base[unit] : 1) * plain_base(x, m->config.karat_base);
}

// sigma (N) of one row of logits (N), h counting KArAt's heads
static void plain_sigma(double* sigma, const double* logits, const Model* m, Params p, int h) {
    int N = m->dims.N, R = m->dims.R, order = m->config.karat_order, projection = m->config.karat_projection;
    double* z = calloc(R, sizeof(double));
    for (int r = 0; r < R; r++) {
        for (int q = 0; q < N; q++) {
            z[r] += order == KARAT_PHI_W ? p.karat_weight[((size_t)h * N + q) * R + r] * logits[q]
                  : plain_unit(m, p.karat_coef, p.scale_basis, p.scale_base, h, r, q, logits[q]);
        }
    }
    if (m->config.karat_project) { plain_project(z, R, projection); }
    for (int n = 0; n < N; n++) {
        sigma[n] = p.karat_bias ? p.karat_bias[n] : 0;
        if (m->config.karat_full) { sigma[n] += z[n]; }
        for (int r = 0; r < R && !m->config.karat_full; r++) {
            sigma[n] += order == KARAT_W_PHI ? p.karat_weight[((size_t)h * N + n) * R + r] * z[r]
                      : order == KARAT_PHI_W ? plain_unit(m, p.karat_coef, p.scale_basis, p.scale_base, h, r, n, z[r])
                      : plain_unit(m, p.outer_coef, p.outer_scale_basis, p.outer_scale_base, h, r, n, z[r]);
        }
    }
    if (!m->config.karat_project) { plain_project(sigma, N, projection); }
    free(z);
}

static void plain_softmax(double* weights, const double* logits, int N) {
    double sum = 0;
    for (int q = 0; q < N; q++) { sum += exp(logits[q]); }
    for (int q = 0; q < N; q++) { weights[q] = exp(logits[q]) / sum; }
}

// softmax of the logits, then down (R,N) and up (N,R)
static void plain_rank(double* weights, const double* logits, const Model* m, Params p, int h) {
    int N = m->dims.N, R = m->dims.R;
    double *P = calloc(N, sizeof(double)), *z = calloc(R, sizeof(double));
    plain_softmax(P, logits, N);
    for (int r = 0; r < R; r++) {
        for (int n = 0; n < N; n++) { z[r] += p.rank_down[((size_t)h * R + r) * N + n] * P[n]; }
    }
    for (int n = 0; n < N; n++) {
        weights[n] = 0;
        for (int r = 0; r < R; r++) { weights[n] += p.rank_up[((size_t)h * N + n) * R + r] * z[r]; }
    }
    free(P);
    free(z);
}

// Rows 3C apart of D
static void plain_linear_attention(double* weights, const double* q, const double* keys, int N, int C, int D) {
    double sum = 0;
    for (int n = 0; n < N; n++) {
        const double* k = keys + n * 3 * C;
        weights[n] = 0;
        for (int i = 0; i < D; i++) {
            weights[n] += (q[i] > 0 ? q[i] + 1 : exp(q[i])) * (k[i] > 0 ? k[i] + 1 : exp(k[i]));
        }
        sum += weights[n];
    }
    for (int n = 0; n < N; n++) { weights[n] /= sum; }
}

// weights (N) of row k of head h, from its logits (N), which are products of q (D) and keys, rows 3C apart
static void plain_weights(double* weights, const double* logits, const double* q, const double* keys, const Model* m,
                          Params p, int h, int k) {
    int N = m->dims.N, hybrid = m->config.softmax_heads;
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT:
        if (h < hybrid) {
            plain_softmax(weights, logits, N);
        } else {
            plain_sigma(weights, logits, m, p, h - hybrid);
        }
        break;
    case ATTN_SOFTMAX: plain_softmax(weights, logits, N); break;
    case ATTN_SOFTMAX_RANK: plain_rank(weights, logits, m, p, h); break;
    case ATTN_LINEAR: plain_linear_attention(weights, q, keys, N, m->dims.C, m->dims.D); break;
    case ATTN_MIXING:
        for (int n = 0; n < N; n++) { weights[n] = p.mixing[((size_t)h * N + k) * N + n]; }
        break;
    case ATTN_RELU:
        for (int n = 0; n < N; n++) { weights[n] = fmax(logits[n], 0) / N; }
        break;
    case ATTN_POLYNOMIAL:
        for (int n = 0; n < N; n++) { weights[n] = pow(logits[n], 3) / sqrt(N); }
        break;
    case ATTN_SIGMOID:
        for (int n = 0; n < N; n++) { weights[n] = 1 / (1 + N * exp(-logits[n])); }
    }
}

static void plain_attention(double* out /* (N,C) */, const double* qkv /* (N,3C) */, const Model* m, Params p) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = C / H;
    double *logits = malloc(sizeof(double) * N), *weights = malloc(sizeof(double) * N);
    for (int h = 0; h < H; h++) {
        const double *Q = qkv + h * D, *K = Q + C, *V = K + C; // this head's, rows 3C apart
        for (int k = 0; k < N; k++) {
            for (int q = 0; q < N; q++) {
                logits[q] = 0;
                for (int i = 0; i < D; i++) { logits[q] += Q[k * 3 * C + i] * K[q * 3 * C + i] / sqrt(D); }
            }
            plain_weights(weights, logits, Q + k * 3 * C, K, m, p, h, k);
            for (int i = 0; i < D; i++) {
                double sum = 0;
                for (int q = 0; q < N; q++) { sum += weights[q] * V[q * 3 * C + i]; }
                out[k * C + h * D + i] = sum;
            }
        }
    }
    free(logits);
    free(weights);
}
