// The bases as defined by the rows of kernels/basis.h, in double precision, one x at a time, with which the tests
// compare its functions.
#pragma once
#include "../../kernels/basis.h"
#include <math.h>

static inline double plain_pi(void) { return 3.14159265358979323846; }

// B-spline of the given order that begins at knot j, by Cox and de Boor
static inline double plain_spline(double x, int j, int order, Basis b) {
    double step = 2.0 * b.range / b.grid, first = -b.range + (j - b.order) * step;
    if (order == 0) { return x >= first && x < first + step; }
    return ((x - first) * plain_spline(x, j, order - 1, b)
            + (first + (order + 1) * step - x) * plain_spline(x, j + 1, order - 1, b)) / (order * step);
}

static inline double plain_meyer(double x) {
    double a = fabs(x), t = 2 * a - 1, nu = pow(t, 4) * (35 - 84 * t + 70 * t * t - 20 * t * t * t);
    return sin(plain_pi() * a) * (a <= 0.5 ? 1 : a < 1 ? cos(plain_pi() / 2 * nu) : 0);
}

// e_m(x) of a linear basis
static inline double plain_feature(Basis b, int m, double x) {
#define DEFINITION_CASE(constant, name, note, count, features, slopes, ...) case constant: return __VA_ARGS__;
    switch (b.kind) {
    LINEAR_BASES(DEFINITION_CASE)
    default: return NAN;
    }
#undef DEFINITION_CASE
}

static inline double plain_wavelet(KaratBasis kind, double x) {
#define DEFINITION_CASE(constant, name, note, function, ...) case constant: return __VA_ARGS__;
    switch (kind) {
    WAVELETS(DEFINITION_CASE)
    default: return NAN;
    }
#undef DEFINITION_CASE
}

static inline double plain_rational_unit(double x, const double* t /* a0..a5, b1..b4 */) {
    double P = 0, S = 0;
    for (int i = 0; i <= 5; i++) { P += t[i] * pow(x, i); }
    for (int j = 1; j <= 4; j++) { S += t[5 + j] * pow(x, j); }
    return P / (1 + fabs(S));
}

// phi(x; theta) of token q among N: theta is its M coefficients
static inline double plain_phi(Basis b, const double* theta, double x, int q, int N) {
    double sum = 0;
    if (b.kind == BASIS_RATIONAL) { return plain_rational_unit(x, theta); }
    if (basis_is_wavelet(b.kind)) {
        double window = b.kind == BASIS_SHANNON && N > 1 ? 0.54 - 0.46 * cos(2 * plain_pi() * q / (N - 1)) : 1;
        return theta[0] * window * plain_wavelet(b.kind, (x - theta[1]) / theta[2]);
    }
    for (int m = 0; m < basis_coefficients(b); m++) { sum += theta[m] * plain_feature(b, m, x); }
    return sum;
}
