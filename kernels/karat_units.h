// Kolmogorov-Arnold attention (karat.h) for bases that are not linear in their parameters: rational and the wavelets of
// basis.h. Every unit is evaluated by itself,
//     z_kp = sum_q scale_base_pq b(A_kq) + scale_basis_pq phi(A_kq; theta_pq)
// The scales are folded in once a call: scale_basis into a rational's numerator, scale_basis, w and the window into
// a wavelet's amplitude, beside its tau and 1/s. Rows of A are computed UNITS_ROWS at a time, in both directions, and
// loops run over q. Nothing of size N^2 is kept.
#pragma once
#include "karat_base.h"
#include "karat_dims.h"
#include "matmul.h"

enum { UNITS_ROWS = 16 };

typedef struct {                  // of one thread
    float *x, *dx, *b, *db;       // logits of UNITS_ROWS rows k, b of them, and gradients, each (UNITS_ROWS, N)
    float *shifted, *psi, *slope; // of one row and p: (x - tau) / s, and the wavelet there, each (N)
    float* dphi;                  // gradients of its units (N)
    const float* bias;            // added to the logits, rows karat_bias_ld apart; NULL: none
} KaratUnitsWork;

// A head's bias of the logits in windows (window_bias.h), as both forms want it: whole register tiles
static inline int karat_bias_rows(KaratDims d) { return round_up(d.N, TILE_ROWS); }
static inline int karat_bias_ld(KaratDims d) { return round_up(d.N, TILE_COLS); }
static inline size_t karat_bias_size(KaratDims d) {
    return karat_in_windows(d) ? (size_t)karat_bias_rows(d) * karat_bias_ld(d) : 0;
}

static inline size_t karat_units_work(KaratUnitsWork* w, float* base, size_t at, KaratDims d) {
    size_t rows = (size_t)UNITS_ROWS * d.N;
    float** of_rows[] = {&w->x, &w->dx, &w->b, &w->db};
    float** of_units[] = {&w->shifted, &w->psi, &w->slope, &w->dphi};
    for (int i = 0; i < 4; i++) { at = karat_take(of_rows[i], base, at, rows); }
    for (int i = 0; i < 4; i++) { at = karat_take(of_units[i], base, at, d.N); }
    return at;
}

// ---- Folded parameters of a head: (R, M (+ 1: scale_base), N). So are the gradients laid out.

static inline size_t karat_units_row(KaratDims d) { return (size_t)karat_features_count(d) * d.N; } // of one p
static inline size_t karat_units_coefs(KaratDims d) { return d.R * karat_units_row(d); }

static inline float karat_units_window(KaratDims d, int q) {
    return d.basis == BASIS_SHANNON ? basis_shannon_window(q, d.N) : 1;
}

static inline void karat_units_fold(float* to, KaratOperator w, KaratDims d, int h) {
    int N = d.N, M = karat_coefficients(d);
    for (int p = 0; p < d.R; p++, to += karat_units_row(d)) {
        size_t unit = (size_t)(h * d.R + p) * N;
        const float* coef = w.coef + unit * M;
        for (int q = 0; q < N; q++) {
            float scale = w.scale_basis ? w.scale_basis[unit + q] : 1;
            int scaled = d.basis == BASIS_RATIONAL ? RATIONAL_UNIT_NUMERATOR : 1;
            for (int m = 0; m < M; m++) { to[m * N + q] = (m < scaled ? scale : 1) * coef[m * N + q]; }
            if (d.basis != BASIS_RATIONAL) {
                to[q] *= karat_units_window(d, q);
                to[2 * N + q] = basis_inverse_scale(coef[2 * N + q]);
            }
            if (d.base != KARAT_BASE_ZERO) { to[M * N + q] = w.scale_base ? w.scale_base[unit + q] : 1; }
        }
    }
}

// ---- One p of one row k of logits x (N)

static inline void karat_units_wavelets(const float* x, const float* theta, KaratUnitsWork w, KaratDims d) {
    const float *tau = theta + d.N, *inverse = tau + d.N;
    for (int q = 0; q < d.N; q++) { w.shifted[q] = (x[q] - tau[q]) * inverse[q]; }
    basis_wavelets(w.psi, w.slope, w.shifted, d.N, d.basis);
}

static inline float karat_units_sum(const float* x, const float* b, const float* theta, KaratUnitsWork w, KaratDims d) {
    int N = d.N;
    float sum = 0;
    if (d.basis == BASIS_RATIONAL) {
        #pragma omp simd reduction(+:sum)
        for (int q = 0; q < N; q++) { sum += basis_rational(x[q], theta + q, N).value; }
    } else {
        karat_units_wavelets(x, theta, w, d);
        sum = vm_row_dot(w.psi, theta, N);
    }
    return d.base == KARAT_BASE_ZERO ? sum : sum + vm_row_dot(b, theta + karat_coefficients(d) * N, N);
}

// The forward line: phi_q(x_q; theta_q) = P/Q, of which dphi (N) are the gradients. dtheta is added to, and so is dx.
static inline void karat_units_rational_backward(float* dx, float* dtheta, const float* dphi, const float* x,
                                                 const float* theta, int N) {
    #pragma omp simd
    for (int q = 0; q < N; q++) {
        BasisRational phi = basis_rational(x[q], theta + q, N);
        float by_a = dphi[q] * phi.gain, by_b = dphi[q] * phi.turn * x[q];
        float *da = dtheta + q, *db = da + RATIONAL_UNIT_NUMERATOR * N;
        UNROLLED
        for (int i = 0; i < RATIONAL_UNIT_NUMERATOR; i++, by_a *= x[q]) { da[i * N] += by_a; }
        UNROLLED
        for (int j = 0; j < RATIONAL_UNIT_DENOMINATOR; j++, by_b *= x[q]) { db[j * N] += by_b; }
        dx[q] += dphi[q] * phi.slope;
    }
}

// The forward line: phi_q = amplitude psi(y), y = (x - tau)/s. dtheta takes dphi psi for the amplitude, and for tau and
// s, with t = dphi amplitude psi'(y), t and t y, which karat_units_unfold multiplies by -1/s.
static inline void karat_units_wavelet_backward(float* dx, float* dtheta, const float* dphi, const float* x,
                                                const float* theta, KaratUnitsWork w, KaratDims d) {
    int N = d.N;
    karat_units_wavelets(x, theta, w, d);
    #pragma omp simd
    for (int q = 0; q < N; q++) {
        float t = dphi[q] * theta[q] * w.slope[q];
        dtheta[q] += dphi[q] * w.psi[q];
        dtheta[N + q] += t;
        dtheta[2 * N + q] += t * w.shifted[q];
        dx[q] += t * theta[2 * N + q];
    }
}

static inline void karat_units_one_backward(float* dx, float* dtheta, const float* dphi, const float* x,
                                            const float* theta, KaratUnitsWork w, KaratDims d) {
    if (d.basis == BASIS_RATIONAL) {
        karat_units_rational_backward(dx, dtheta, dphi, x, theta, d.N);
    } else {
        karat_units_wavelet_backward(dx, dtheta, dphi, x, theta, w, d);
    }
}

// ---- A head

// Logits of rows first.., b of them; returns how many rows
static inline int karat_units_logits(const float* q, int first, KaratUnitsWork w, KaratDims d) {
    int D = d.D, ld = 3 * d.C, rows = min_int(UNITS_ROWS, d.NQ - first);
    for (int r = 0; w.bias && r < rows; r++) {
        memcpy(w.x + (size_t)r * d.N, w.bias + (size_t)(first + r) * karat_bias_ld(d), d.N * sizeof *w.x);
    }
    gemm(false, true, rows, d.N, D, 1 / sqrtf(D), q + (size_t)first * ld, ld, q + d.C, ld, w.bias ? 1 : 0, w.x, d.N);
    karat_base_forward(w.b, w.x, rows * d.N, d.base);
    return rows;
}

// z (NQ,R) of one sample and head
static inline void karat_units_z(float* z, const float* q, const float* coefs, KaratUnitsWork w, KaratDims d) {
    for (int first = 0; first < d.NQ; first += UNITS_ROWS) {
        int rows = karat_units_logits(q, first, w, d);
        for (int p = 0; p < d.R; p++) {
            for (int r = 0; r < rows; r++) {
                size_t row = (size_t)r * d.N;
                z[(size_t)(first + r) * d.R + p] = karat_units_sum(w.x + row, w.b + row, coefs + p * karat_units_row(d),
                                                                   w, d);
            }
        }
    }
}

// dx of rows of logits in w; dcoefs is added to
static inline void karat_units_rows_backward(float* dcoefs, const float* dz, const float* coefs, int rows,
                                             KaratUnitsWork w, KaratDims d) {
    int N = d.N, M = karat_coefficients(d);
    memset(w.dx, 0, (size_t)rows * N * sizeof *w.dx);
    memset(w.db, 0, (size_t)rows * N * sizeof *w.db);
    for (int p = 0; p < d.R; p++, coefs += karat_units_row(d), dcoefs += karat_units_row(d)) {
        for (int r = 0; r < rows; r++) {
            size_t row = (size_t)r * N;
            float dz_kp = dz[(size_t)r * d.R + p];
            for (int q = 0; q < N; q++) { w.dphi[q] = dz_kp; } // z is the sum of the units
            karat_units_one_backward(w.dx + row, dcoefs, w.dphi, w.x + row, coefs, w, d);
            for (int q = 0; d.base != KARAT_BASE_ZERO && q < N; q++) {
                dcoefs[M * N + q] += dz_kp * w.b[row + q];
                w.db[row + q] += dz_kp * coefs[M * N + q];
            }
        }
    }
    karat_base_backward(w.dx, w.db, w.x, rows * N, d.base);
}

// dbias += dA of rows first.. on
static inline void karat_add_to_bias(float* dbias, const float* dA, int ld, int first, int rows, int columns,
                                     KaratDims d) {
    for (int r = 0; r < rows; r++) {
        float* to = dbias + (size_t)(first + r) * karat_bias_ld(d);
        for (int c = 0; c < columns; c++) { to[c] += dA[(size_t)r * ld + c]; }
    }
}

// The forward lines: A = Q K^T / sqrt(D) + bias; z. Gives dQ and dK, adds to the slot's gradients.
static inline void karat_units_z_backward(float* dq, KaratSlot slot, const float* dz, const float* q,
                                          const float* coefs, KaratUnitsWork w, KaratDims d) {
    int D = d.D, N = d.N, ld = 3 * d.C;
    float scale = 1 / sqrtf(D);
    for (int first = 0; first < d.NQ; first += UNITS_ROWS) {
        int rows = karat_units_logits(q, first, w, d);
        size_t at = (size_t)first * ld;
        karat_units_rows_backward(slot.inner, dz + (size_t)first * d.R, coefs, rows, w, d);
        if (w.bias) { karat_add_to_bias(slot.bias, w.dx, N, first, rows, N, d); }
        gemm(false, false, rows, D, N, scale, w.dx, N, q + d.C, ld, 0, dq + at, ld);
        gemm(true, false, N, D, rows, scale, w.dx, N, q + at, ld, first > 0, dq + d.C, ld);
    }
}

// Adds the gradients of one unit's folded parameters to those of coef (at c, rows N apart) and of the scales (at i)
static inline void karat_units_unfold_one(KaratOperatorGrads grads, KaratOperator w, const float* folded, KaratDims d,
                                          size_t c, size_t i, int q) {
    int N = d.N, M = karat_coefficients(d), scaled = d.basis == BASIS_RATIONAL ? RATIONAL_UNIT_NUMERATOR : 1;
    float scale = w.scale_basis ? w.scale_basis[i] : 1, window = karat_units_window(d, q), dscale = 0;
    for (int m = 0; m < scaled; m++) {
        grads.coef[c + m * N] += scale * window * folded[m];
        dscale += w.coef[c + m * N] * window * folded[m];
    }
    float rest = d.basis == BASIS_RATIONAL ? 1 : -basis_inverse_scale(w.coef[c + 2 * N]);
    for (int m = scaled; m < M; m++) { grads.coef[c + m * N] += rest * folded[m]; }
    if (w.scale_basis) { grads.scale_basis[i] += dscale; }
    if (w.scale_base && d.base != KARAT_BASE_ZERO) { grads.scale_base[i] += folded[M]; }
}

// Of one (h,p), from slots that are stride apart, added in order
static inline void karat_units_unfold(KaratOperatorGrads grads, KaratOperator params, const float* slots, size_t stride,
                                      int slot_count, KaratDims d, int h, int p) {
    size_t unit = (size_t)(h * d.R + p) * d.N;
    for (int q = 0; q < d.N; q++) {
        float sum[RATIONAL_UNIT_NUMERATOR + RATIONAL_UNIT_DENOMINATOR + 1] = {0};
        for (int s = 0; s < slot_count; s++) {
            const float* slot = slots + s * stride + p * karat_units_row(d) + q;
            for (int m = 0; m < karat_features_count(d); m++) { sum[m] += slot[m * d.N]; }
        }
        karat_units_unfold_one(grads, params, sum, d, unit * karat_coefficients(d) + q, unit + q, q);
    }
}
