// KArAt's units that are not linear in their parameters (kernels/karat_units.h), rational and the wavelets, as the
// plain form of karat.cuh evaluates them: one by one, in fp32. What is folded before a call lies at theta[m step] of a
// unit:
//     rational  scale a0 .. scale a5, b1 .. b4        wavelet  scale w window, tau, 1/s        and scale_base last
#pragma once
#include "karat_dims.h"

constexpr int KARAT_UNIT_PARAMETERS = RATIONAL_UNIT_NUMERATOR + RATIONAL_UNIT_DENOMINATOR;

__device__ inline float karat_units_window(KaratDims d, int q) {
    return d.basis == BASIS_SHANNON ? basis_shannon_window(q, d.N) : 1;
}

__device__ inline float karat_units_folded(KaratOperator w, KaratDims d, int h, int m, int q, int p) {
    size_t unit = (size_t)(h * d.R + p) * d.N + q;
    int M = karat_coefficients(d);
    if (m == M) { return w.scale_base ? w.scale_base[unit] : 1; }
    float c = w.coef[((size_t)(h * d.R + p) * M + m) * d.N + q], scale = w.scale_basis ? w.scale_basis[unit] : 1;
    if (d.basis == BASIS_RATIONAL) { return m < RATIONAL_UNIT_NUMERATOR ? scale * c : c; }
    return m == 0 ? scale * c * karat_units_window(d, q) : m == 1 ? c : basis_inverse_scale(c);
}

__device__ inline BasisValue karat_units_wavelet(float x, KaratBasis kind) {
#define WAVELET_CASE(constant, name, note, function, ...) case constant: return function(x);
    switch (kind) {
    WAVELETS(WAVELET_CASE)
    default: return {};
    }
#undef WAVELET_CASE
}

// phi(x) and phi'(x)
__device__ inline BasisValue karat_units_phi(float x, const float* theta, int step, KaratDims d) {
    if (d.basis == BASIS_RATIONAL) {
        BasisRational phi = basis_rational(x, theta, step);
        return {phi.value, phi.slope};
    }
    float inverse = theta[2 * step];
    BasisValue psi = karat_units_wavelet((x - theta[step]) * inverse, d.basis);
    return {theta[0] * psi.value, theta[0] * psi.slope * inverse};
}

// dtheta += dphi times the derivatives of phi by its folded parameters; for tau and s without their factor -1/s, which
// karat_units_unfold brings
__device__ inline void karat_units_gradient(float* dtheta, float dphi, float x, const float* theta, int step,
                                            KaratDims d) {
    if (d.basis == BASIS_RATIONAL) {
        BasisRational phi = basis_rational(x, theta, step);
        float by_a = dphi * phi.gain, by_b = dphi * phi.turn * x;
        for (int i = 0; i < RATIONAL_UNIT_NUMERATOR; i++, by_a *= x) { dtheta[i] += by_a; }
        for (int j = 0; j < RATIONAL_UNIT_DENOMINATOR; j++, by_b *= x) {
            dtheta[RATIONAL_UNIT_NUMERATOR + j] += by_b;
        }
        return;
    }
    float y = (x - theta[step]) * theta[2 * step];
    BasisValue psi = karat_units_wavelet(y, d.basis);
    float t = dphi * theta[0] * psi.slope;
    dtheta[0] += dphi * psi.value;
    dtheta[1] += t;
    dtheta[2] += t * y;
}

// Adds the gradients of one unit's folded parameters to those of its tensors; scale_base's is last in folded
__device__ inline void karat_units_unfold(KaratOperatorGrads grads, KaratOperator w, const float* folded, KaratDims d,
                                          int h, int q, int p) {
    size_t unit = (size_t)(h * d.R + p) * d.N + q;
    int N = d.N, M = karat_coefficients(d), scaled = d.basis == BASIS_RATIONAL ? RATIONAL_UNIT_NUMERATOR : 1;
    size_t c = (size_t)(h * d.R + p) * M * N + q;
    float scale = w.scale_basis ? w.scale_basis[unit] : 1, window = karat_units_window(d, q), dscale = 0;
    for (int m = 0; m < scaled; m++) {
        grads.coef[c + m * N] += scale * window * folded[m];
        dscale += w.coef[c + m * N] * window * folded[m];
    }
    float rest = d.basis == BASIS_RATIONAL ? 1 : -basis_inverse_scale(w.coef[c + 2 * N]);
    for (int m = scaled; m < M; m++) { grads.coef[c + m * N] += rest * folded[m]; }
    if (w.scale_basis) { grads.scale_basis[unit] += dscale; }
    if (w.scale_base && d.base != KARAT_BASE_ZERO) { grads.scale_base[unit] += folded[M]; }
}
