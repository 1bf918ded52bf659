// Kolmogorov-Arnold attention (karat.h) where the weights sigma are formed, a tile of rows k at a time: the operator
// orders Phi(W A) and Phi Phi(A), full rank, and projections. For one sample and head, with z (NQ,R) given,
//     sigma_kn = sum_p W_np z_kp,  or z_kn (full rank),  or sum_p phi_pn(z_kp) (an outer operator)
//     P_k = projection of (sigma_k + beta)          out_k = sum_n P_kn V_n
// An outer operator in a basis that is linear in its coefficients is a product with the features of z; in another,
// every unit is evaluated by itself, as in karat_units.h. The forward saves z; the backward recomputes sigma, and
// nothing of size N^2 is kept (except in full rank, where z is sigma).
#pragma once
#include "karat_units.h"

enum { SIGMA_ROWS = 16 };

typedef struct {               // of one thread
    float *sigma, *P, *dsigma; // of SIGMA_ROWS rows, (SIGMA_ROWS, N); P is sigma where nothing is projected
    float *features, *slopes;  // of z, the base's behind them: (M, SIGMA_ROWS, R)
    float *df, *dz, *sort;     // (SIGMA_ROWS, R); and the projection's scratch
    KaratUnitsWork units;
} KaratSigmaWork;

static inline size_t karat_sigma_work(KaratSigmaWork* w, float* base, size_t at, KaratDims d) {
    size_t tile = (size_t)SIGMA_ROWS * d.N, tokens = (size_t)SIGMA_ROWS * d.R, M = karat_features_count(d);
    at = karat_take(&w->sort, base, at, d.projection == PROJECT_NONE ? 0 : simplex_scratch(d.N > d.R ? d.N : d.R));
    if (!karat_forms_sigma(d)) { return at; }
    at = karat_take(&w->sigma, base, at, tile);
    at = karat_take(&w->dsigma, base, at, tile);
    w->P = w->sigma;
    if (karat_projects_sigma(d)) { at = karat_take(&w->P, base, at, tile); }
    if (!karat_has_outer(d)) { return at; }
    at = karat_take(&w->features, base, at, M * tokens);
    at = karat_take(&w->slopes, base, at, M * tokens);
    at = karat_take(&w->df, base, at, tokens);
    at = karat_take(&w->dz, base, at, tokens);
    return basis_is_linear(d.basis) ? at : karat_units_work(&w->units, base, at, d);
}

// ---- Outer operators. A head's folded coefficients: (M,R,N) in a linear basis, else as karat_units_fold lays them out

static inline size_t karat_outer_coefs(KaratDims d) { return karat_has_outer(d) ? karat_units_coefs(d) : 0; }

static inline void karat_outer_fold(float* to, KaratOperator w, KaratDims d, int h) {
    if (!basis_is_linear(d.basis)) {
        karat_units_fold(to, w, d, h);
        return;
    }
    for (int m = 0; m < karat_features_count(d); m++) {
        for (int p = 0; p < d.R; p++) {
            for (int n = 0; n < d.N; n++) { *to++ = karat_coefficient(w, d, h, m, n, p); }
        }
    }
}

// The gradients of one (h,p) from slots that are stride apart, added in order
static inline void karat_outer_unfold(KaratOperatorGrads grads, KaratOperator w, const float* slots, size_t stride,
                                      int slot_count, KaratDims d, int h, int p) {
    if (!basis_is_linear(d.basis)) {
        karat_units_unfold(grads, w, slots, stride, slot_count, d, h, p);
        return;
    }
    for (int m = 0; m < karat_features_count(d); m++) {
        for (int n = 0; n < d.N; n++) {
            float sum = 0;
            for (int s = 0; s < slot_count; s++) { sum += slots[s * stride + ((size_t)m * d.R + p) * d.N + n]; }
            karat_coefficient_backward(grads, w, sum, d, h, m, n, p);
        }
    }
}

// Features of rows * R values of z in w, the base's last
static inline void karat_outer_features(const float* z, int rows, KaratSigmaWork w, KaratDims d) {
    int count = rows * d.R;
    if (basis_is_linear(d.basis)) { basis_features(w.features, z, count, karat_basis(d)); }
    karat_base_forward(w.features + (size_t)karat_coefficients(d) * count, z, count, d.base);
}

// sigma (rows,N) = features(z) coefs
static inline void karat_outer_linear(float* sigma, const float* coefs, int rows, KaratSigmaWork w, KaratDims d) {
    for (int m = 0; m < karat_features_count(d); m++) {
        gemm(false, false, rows, d.N, d.R, 1, w.features + (size_t)m * rows * d.R, d.R, coefs + (size_t)m * d.R * d.N,
             d.N, m > 0, sigma, d.N);
    }
}

// The forward line: sigma = features(z) coefs. dz is set, dcoefs is added to.
static inline void karat_outer_linear_backward(float* dcoefs, const float* coefs, const float* z, int rows,
                                               KaratSigmaWork w, KaratDims d) {
    int count = rows * d.R, N = d.N, R = d.R;
    memset(w.dz, 0, count * sizeof *w.dz);
    basis_slopes(w.slopes, w.features, z, count, karat_basis(d));
    for (int m = 0; m < karat_features_count(d); m++, coefs += (size_t)R * N, dcoefs += (size_t)R * N) {
        gemm(true, false, R, N, rows, 1, w.features + (size_t)m * count, R, w.dsigma, N, 1, dcoefs, N);
        gemm(false, true, rows, R, N, 1, w.dsigma, N, coefs, N, 0, w.df, R);
        if (m == karat_coefficients(d)) {
            karat_base_backward(w.dz, w.df, z, count, d.base);
        } else {
            const float* slopes = w.slopes + (size_t)m * count;
            for (int i = 0; i < count; i++) { w.dz[i] += slopes[i] * w.df[i]; }
        }
    }
}

static inline void fill_row(float* row, float value, int N) {
    for (int n = 0; n < N; n++) { row[n] = value; }
}

// sigma (rows,N) = sum over p of the units of p at z_kp
static inline void karat_outer_units(float* sigma, const float* z, const float* coefs, int rows, KaratSigmaWork w,
                                     KaratDims d) {
    int N = d.N, M = karat_coefficients(d);
    memset(sigma, 0, (size_t)rows * N * sizeof *sigma);
    for (int i = 0; i < rows * d.R; i++) {
        const float* theta = coefs + i % d.R * karat_units_row(d);
        float *row = sigma + (size_t)(i / d.R) * N, *x = w.units.x;
        fill_row(x, z[i], N);
        if (d.basis == BASIS_RATIONAL) {
            #pragma omp simd
            for (int n = 0; n < N; n++) { row[n] += basis_rational(x[n], theta + n, N).value; }
        } else {
            karat_units_wavelets(x, theta, w.units, d);
            for (int n = 0; n < N; n++) { row[n] += theta[n] * w.units.psi[n]; }
        }
        float b = d.base == KARAT_BASE_ZERO ? 0 : w.features[(size_t)M * rows * d.R + i];
        for (int n = 0; d.base != KARAT_BASE_ZERO && n < N; n++) { row[n] += theta[M * N + n] * b; }
    }
}

// The forward line: sigma_kn = sum_p phi_pn(z_kp). dz is set, dcoefs is added to.
static inline void karat_outer_units_backward(float* dcoefs, const float* coefs, const float* z, int rows,
                                              KaratSigmaWork w, KaratDims d) {
    int N = d.N, M = karat_coefficients(d), count = rows * d.R;
    for (int i = 0; i < count; i++) {
        size_t at = i % d.R * karat_units_row(d);
        const float *theta = coefs + at, *dsigma = w.dsigma + (size_t)(i / d.R) * N;
        float *dtheta = dcoefs + at, *x = w.units.x, *dx = w.units.dx;
        fill_row(x, z[i], N);
        fill_row(dx, 0, N);
        karat_units_one_backward(dx, dtheta, dsigma, x, theta, w.units, d);
        w.dz[i] = vm_row_sum(dx, N);
        if (d.base == KARAT_BASE_ZERO) { continue; }
        float b = w.features[(size_t)M * count + i];
        for (int n = 0; n < N; n++) { dtheta[M * N + n] += dsigma[n] * b; }
        w.df[i] = vm_row_dot(dsigma, theta + M * N, N);
    }
    karat_base_backward(w.dz, w.df, z, count, d.base);
}

// ---- The weights of a tile of rows

// w.sigma = sigma + beta of rows first.. on, w.P their projections; returns how many rows
static inline int karat_sigma_rows(const float* z, int first, KaratHead head, KaratSigmaWork w, KaratDims d) {
    int N = d.N, rows = min_int(SIGMA_ROWS, d.NQ - first);
    z += (size_t)first * d.R;
    if (karat_has_outer(d)) {
        karat_outer_features(z, rows, w, d);
        if (basis_is_linear(d.basis)) {
            karat_outer_linear(w.sigma, head.outer, rows, w, d);
        } else {
            karat_outer_units(w.sigma, z, head.outer, rows, w, d);
        }
    } else if (d.full_rank) {
        memcpy(w.sigma, z, (size_t)rows * N * sizeof *z);
    } else {
        gemm(false, true, rows, N, d.R, 1, z, d.R, head.W, d.R, 0, w.sigma, N);
    }
    for (int i = 0; head.beta && i < rows * N; i++) { w.sigma[i] += head.beta[i % N]; }
    for (int r = 0; w.P != w.sigma && r < rows; r++) {
        simplex_row_forward(w.P + (size_t)r * N, w.sigma + (size_t)r * N, d.projection, w.sort, N);
    }
    return rows;
}

// The forward line: sigma = W z, or z, or outer(z); dz (rows,R) from w.dsigma, gradients added to the slot's
static inline void karat_sigma_rows_backward(float* dz, KaratSlot slot, const float* z, int rows, KaratHead head,
                                             KaratSigmaWork w, KaratDims d) {
    int N = d.N, R = d.R;
    if (d.full_rank) {
        memcpy(dz, w.dsigma, (size_t)rows * N * sizeof *dz);
    } else if (!karat_has_outer(d)) {
        gemm(false, false, rows, R, N, 1, w.dsigma, N, head.W, R, 0, dz, R);
        gemm(true, false, N, R, rows, 1, w.dsigma, N, z, R, 1, slot.W, R);
    } else {
        (basis_is_linear(d.basis) ? karat_outer_linear_backward : karat_outer_units_backward)(slot.outer, head.outer, z,
                                                                                              rows, w, d);
        memcpy(dz, w.dz, (size_t)rows * R * sizeof *dz);
    }
}

// ---- A head

static inline void karat_sigma_out(float* out, const float* z, const float* v, KaratHead head, KaratSigmaWork w,
                                   KaratDims d) {
    for (int first = 0; first < d.NQ; first += SIGMA_ROWS) {
        int rows = karat_sigma_rows(z, first, head, w, d);
        gemm(false, false, rows, d.D, d.N, 1, w.P, d.N, v, 3 * d.C, 0, out + (size_t)first * d.C, d.C);
    }
}

// The forward lines: sigma; P; out = P V. Gives dz (NQ,R) and dV, adds to the slot's gradients of W or outer, and beta.
static inline void karat_sigma_out_backward(float* dz, float* dv, KaratSlot slot, const float* dout, const float* z,
                                            const float* v, KaratHead head, KaratSigmaWork w, KaratDims d) {
    int N = d.N, D = d.D, ld = 3 * d.C;
    for (int first = 0; first < d.NQ; first += SIGMA_ROWS) {
        int rows = karat_sigma_rows(z, first, head, w, d);
        const float* dout_tile = dout + (size_t)first * d.C;
        gemm(true, false, N, D, rows, 1, w.P, N, dout_tile, d.C, first > 0, dv, ld);
        gemm(false, true, rows, N, D, 1, dout_tile, d.C, v, ld, 0, w.dsigma, N);
        for (int r = 0; w.P != w.sigma && r < rows; r++) {
            size_t row = (size_t)r * N;
            simplex_row_backward(w.dsigma + row, w.dsigma + row, w.P + row, w.sigma + row, d.projection, N);
        }
        for (int i = 0; head.beta && i < rows * N; i++) { slot.beta[i % N] += w.dsigma[i]; }
        karat_sigma_rows_backward(dz + (size_t)first * d.R, slot, z + (size_t)first * d.R, rows, head, w, d);
    }
}

// ---- The order Phi(W A): z = A W = Q (K^T W) / sqrt(D), and A is not formed either. KW, dKW: (D,R)

static inline void karat_reduced_z(float* z, float* KW, const float* q, const float* W, KaratDims d) {
    int ld = 3 * d.C;
    gemm(true, false, d.D, d.R, d.N, 1, q + d.C, ld, W, d.R, 0, KW, d.R);
    gemm(false, false, d.NQ, d.R, d.D, 1 / sqrtf(d.D), q, ld, KW, d.R, 0, z, d.R);
}

// The forward lines: KW = K^T W; z = Q KW / sqrt(D)
static inline void karat_reduced_z_backward(float* dq, float* dW, const float* dz, const float* q, const float* W,
                                            float* KW, float* dKW, KaratDims d) {
    int ld = 3 * d.C, N = d.N, R = d.R, D = d.D;
    const float* k = q + d.C;
    float scale = 1 / sqrtf(D);
    gemm(true, false, D, R, N, 1, k, ld, W, R, 0, KW, R);
    gemm(false, true, d.NQ, D, R, scale, dz, R, KW, R, 0, dq, ld);
    gemm(true, false, D, R, d.NQ, scale, q, ld, dz, R, 0, dKW, R);
    gemm(false, true, N, D, R, 1, W, R, dKW, R, 0, dq + d.C, ld);
    gemm(false, false, N, R, D, 1, k, ld, dKW, R, 1, dW, R);
}
