// Student's t-test: whether two groups of runs differ in their mean.
//
// Welch: independent groups, n and m values with means a, b and variances s², u²
//     t = (a - b) / sqrt(s²/n + u²/m)      degrees of freedom (s²/n + u²/m)² / ((s²/n)²/(n-1) + (u²/m)²/(m-1))
// Paired: n differences of runs with the same seed, with mean d and variance s²
//     t = d / sqrt(s²/n)                   degrees of freedom n - 1
// p is the probability of a |t| at least as large if there is no difference: I_x(f/2, 1/2), x = f / (f + t²).
#pragma once
#include "../../runtime/log.h"

typedef struct { double difference, t, freedom, p; } TTest; // t, p NaN: too few values, or no spread

// The regularized incomplete beta function I_x(a, b), by its continued fraction (Lentz's method), which converges
// quickly for x below (a + 1) / (a + b + 2); above that I_x(a, b) = 1 - I_{1-x}(b, a)
static inline double incomplete_beta(double x, double a, double b) {
    if (!(x > 0)) { return x <= 0 ? 0 : NAN; }
    if (x >= 1) { return 1; }
    if (x > (a + 1) / (a + b + 2)) { return 1 - incomplete_beta(1 - x, b, a); }
    const double least = 1e-300;
    double c = 1, d = 1 / fmax(1 - (a + b) * x / (a + 1), least), fraction = d;
    for (int m = 1; m < 500; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int part = 0; part < 2; part++) {
            double coefficient = part == 0 ? even : odd;
            d = 1 + coefficient * d;
            c = 1 + coefficient / c;
            d = 1 / (fabs(d) < least ? least : d);
            c = fabs(c) < least ? least : c;
            fraction *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15) { break; }
    }
    return exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x)) / a * fraction;
}

static inline double t_probability(double t, double freedom) {
    return isinf(t) ? 0 : incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5);
}

static inline double variance_of_mean(const Running* r) { return r->squares / (r->count - 1) / r->count; }

static inline TTest t_test_of(double difference, double variance, double freedom) {
    double t = variance > 0 ? difference / sqrt(variance) : NAN;
    return (TTest){difference, t, freedom, isnan(t) ? NAN : t_probability(t, freedom)};
}

static inline TTest t_test_welch(const Running* a, const Running* b) {
    if (a->count < 2 || b->count < 2) { return (TTest){a->mean - b->mean, NAN, NAN, NAN}; }
    double va = variance_of_mean(a), vb = variance_of_mean(b), v = va + vb;
    double freedom = v > 0 ? v * v / (va * va / (a->count - 1) + vb * vb / (b->count - 1)) : NAN;
    return t_test_of(a->mean - b->mean, v, freedom);
}

static inline TTest t_test_paired(const Running* differences) {
    if (differences->count < 2) { return (TTest){differences->mean, NAN, NAN, NAN}; }
    return t_test_of(differences->mean, variance_of_mean(differences), differences->count - 1);
}
