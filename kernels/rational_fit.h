// Least-squares fit of a rational P/Q (rational.h, both denominators) to any smooth function on an interval, in double:
// Levenberg-Marquardt (Marquardt, SIAM J. Appl. Math. 1963) on Chebyshev-spaced points, the same result in every run.
// The variable is scaled to x / R, with R the interval's larger end, so that the powers stay of one size.
#pragma once
#include "rational_shape.h"
#include <math.h>
#include <string.h>

enum { FIT_POINTS = 601, FIT_ROUNDS = 400, FIT_MAX = 2 * RATIONAL_MAX_ORDER + 1 };

typedef double (*RealFunction)(double x);

// F(x) of coefficients c = a0..am, b1..bn; its derivatives by c go to gradient, unless that is NULL
static inline double rational_value(double x, const double* c, RationalShape s, double* gradient) {
    double y = s.form == RATIONAL_FORM_A ? fabs(x) : x, P = 0, S = 0;
    const double* b = c + s.m; // b[1..n]
    for (int i = s.m; i >= 0; i--) { P = P * x + c[i]; }
    for (int j = s.n; j >= 1; j--) { S = (S + (s.form == RATIONAL_FORM_A ? fabs(b[j]) : b[j])) * y; }
    double Q = 1 + fabs(S), F = P / Q, power = 1 / Q;
    for (int i = 0; gradient && i <= s.m; i++, power *= x) { gradient[i] = power; }
    power = -F / Q * (S < 0 ? -1 : 1);
    for (int j = 1; gradient && j <= s.n; j++) {
        power *= y;
        gradient[s.m + j] = s.form == RATIONAL_FORM_A && b[j] < 0 ? -power : power;
    }
    return F;
}

typedef struct {
    RealFunction function;
    double low, high, radius;
    RationalShape shape;
} FitProblem;

static inline double fit_point(const FitProblem* f, int i) { // in [low, high], denser at the ends
    double t = -cos(3.14159265358979323846 * (i + 0.5) / (double)FIT_POINTS);
    return 0.5 * (f->low + f->high) + 0.5 * (f->high - f->low) * t;
}

// Sum of squared errors of the scaled coefficients c; with normal, also J^T J (K, K) and right = J^T error
static inline double fit_error(const FitProblem* f, const double* c, double normal[FIT_MAX][FIT_MAX], double* right) {
    int K = f->shape.m + 1 + f->shape.n;
    double sum = 0, gradient[FIT_MAX];
    for (int i = 0; normal && i < K; i++) {
        right[i] = 0;
        for (int j = 0; j < K; j++) { normal[i][j] = 0; }
    }
    for (int p = 0; p < FIT_POINTS; p++) {
        double x = fit_point(f, p);
        double error = f->function(x) - rational_value(x / f->radius, c, f->shape, normal ? gradient : NULL);
        sum += error * error;
        for (int i = 0; normal && i < K; i++) {
            right[i] += gradient[i] * error;
            for (int j = 0; j < K; j++) { normal[i][j] += gradient[i] * gradient[j]; }
        }
    }
    return sum;
}

// Form A keeps its b at 0 or above, where |b| is smooth. A b that is at 0 and would go below it is left out of the
// step.
static inline bool fit_held(const double* c, const double* right, int i, RationalShape s) {
    return s.form == RATIONAL_FORM_A && i > s.m && c[i] <= 0 && right[i] <= 0;
}

// Solves (normal + damping diag(normal)) step = right by Cholesky; false when that matrix is not positive definite
static inline bool fit_solve(double* step, double normal[FIT_MAX][FIT_MAX], const double* right, double damping,
                             int K) {
    double L[FIT_MAX][FIT_MAX];
    for (int i = 0; i < K; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = i == j ? normal[i][i] * (1 + damping) + 1e-300 : normal[i][j];
            for (int k = 0; k < j; k++) { sum -= L[i][k] * L[j][k]; }
            if (i == j && !(sum > 0)) { return false; }
            L[i][j] = i == j ? sqrt(sum) : sum / L[j][j];
        }
    }
    for (int i = 0; i < K; i++) {
        step[i] = right[i];
        for (int k = 0; k < i; k++) { step[i] -= L[i][k] * step[k]; }
        step[i] /= L[i][i];
    }
    for (int i = K - 1; i >= 0; i--) {
        for (int k = i + 1; k < K; k++) { step[i] -= L[k][i] * step[k]; }
        step[i] /= L[i][i];
    }
    return true;
}

// One Marquardt step from c to trial; a b of form A that would go below 0 stops there
static inline bool fit_step(double* trial, const double* c, double normal[FIT_MAX][FIT_MAX], const double* right,
                            double damping, RationalShape s) {
    double kept[FIT_MAX][FIT_MAX], pull[FIT_MAX], step[FIT_MAX];
    int K = s.m + 1 + s.n;
    for (int i = 0; i < K; i++) { pull[i] = fit_held(c, right, i, s) ? 0 : right[i]; }
    for (int i = 0; i < K; i++) {
        for (int j = 0; j < K; j++) {
            bool held = i != j && (fit_held(c, right, i, s) || fit_held(c, right, j, s));
            kept[i][j] = held ? 0 : normal[i][j];
        }
    }
    if (!fit_solve(step, kept, pull, damping, K)) { return false; }
    for (int i = 0; i < K; i++) {
        trial[i] = c[i] + step[i];
        if (s.form == RATIONAL_FORM_A && i > s.m && trial[i] < 0) { trial[i] = 0; }
    }
    return true;
}

// Improves c = a0..am, b1..bn from its present values, never making it worse; returns the root mean square error on
// [low, high]
static inline double rational_improve(double* c, RationalShape s, RealFunction function, double low, double high) {
    FitProblem f = {function, low, high, fmax(fabs(low), fabs(high)), s};
    int K = s.m + 1 + s.n;
    double normal[FIT_MAX][FIT_MAX], right[FIT_MAX], trial[FIT_MAX], damping = 1e-3;
    for (int i = 0; i < K; i++) { c[i] *= pow(f.radius, i <= s.m ? i : i - s.m); }
    for (int i = s.m + 1; s.form == RATIONAL_FORM_A && i < K; i++) { c[i] = fabs(c[i]); }
    double error = fit_error(&f, c, normal, right);
    for (int round = 0; round < FIT_ROUNDS && damping < 1e12; round++) {
        bool stepped = fit_step(trial, c, normal, right, damping, s);
        if (stepped && fit_error(&f, trial, NULL, NULL) < error) {
            memcpy(c, trial, K * sizeof(double));
            error = fit_error(&f, c, normal, right);
            damping = fmax(damping / 5, 1e-15);
        } else {
            damping *= 4;
        }
    }
    for (int i = 0; i < K; i++) { c[i] /= pow(f.radius, i <= s.m ? i : i - s.m); }
    return sqrt(error / (double)FIT_POINTS);
}

// Fits c = a0..am, b1..bn to function on [low, high] and returns the root mean square error. The denominator's degree
// rises by one at a time: each fit starts both from the one before, which it can only improve, and from a plain
// denominator, and the better result is kept. One start alone often ends in a poor local minimum.
static inline double rational_fit(double* c, RationalShape s, RealFunction function, double low, double high) {
    double best = INFINITY;
    memset(c, 0, (s.m + 1 + s.n) * sizeof(double));
    for (int n = 0; n <= s.n; n++) {
        RationalShape shape = {s.m, n, 1, s.form};
        double plain[FIT_MAX] = {0};
        for (int j = 1; j <= n; j++) { plain[s.m + j] = j == 2 ? 0.1 : 0.01; }
        best = rational_improve(c, shape, function, low, high);
        double other = rational_improve(plain, shape, function, low, high);
        if (other < best) {
            memcpy(c, plain, (s.m + 1 + n) * sizeof(double));
            best = other;
        }
    }
    return best;
}
