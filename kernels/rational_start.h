// Starting coefficients of the group rationals, by name, and the gain for a variance-preserving start.
//     identity           x, exactly
//     swish, gelu        stored for orders (5, 4) where a published set exists for the form, else fitted on [-3, 3]
//     gelu-as-released   the paper form's gelu coefficients used in form A, as the released code does: it misses gelu
//                        by 1.47 at x = 3, and is there to reproduce released numbers
// The stored sets are those of Yang & Wang's code (arXiv 2409.10594).
#pragma once
#include "rational_fit.h"

#define START_INTERVAL 3.0 // fits are to [-3, 3]

static const double SWISH_FORM_A[] = { // a0..a5, b1..b4
    3.054879741161051e-07, 0.5000007853744493, 0.24999783422824703, 0.05326628273219478, 0.005803034571292244,
    0.0002751961022402342, -4.111554955950634e-06, 0.10652899335007572, -1.2690007399796238e-06, 0.0005502331264140556};
static const double GELU_FORM_A[] = {
    -0.0012423594497499122, 0.5080497063245629, 0.41586363182937475, 0.13022718688035761, 0.024355900098993424,
    0.00290283948155535, -0.06675015696494944, 0.17927646217001553, 0.03746682605496631, 1.6561610853276082e-10};
static const double GELU_FORM_PAPER[] = {
    -0.00153969, 0.51692871, 0.44075827, 0.0972553, -0.00884418, -0.00378675,
    -0.14171056, -0.06481231, -0.0444695, 0.01283776};

static inline double exact_swish(double x) { return x / (1 + exp(-x)); }
static inline double exact_gelu(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

// c = a0..am, b1..bn: the stored set if there is one, else a fit
static inline void start_coefficients(double* c, RationalShape s, RealFunction function) {
    const double* stored = NULL;
    if (s.m == 5 && s.n == 4) {
        if (function == exact_swish && s.form == RATIONAL_FORM_A) { stored = SWISH_FORM_A; }
        if (function == exact_gelu) { stored = s.form == RATIONAL_FORM_A ? GELU_FORM_A : GELU_FORM_PAPER; }
    }
    if (stored) {
        memcpy(c, stored, sizeof SWISH_FORM_A);
    } else {
        rational_fit(c, s, function, -START_INTERVAL, START_INTERVAL);
    }
}

// numerator (m+1), denominator (groups, n), every group the same
static inline bool rational_start(const char* name, RationalShape s, float* numerator, float* denominator, Error* err) {
    if (!rational_check(s, s.groups, err)) { return false; }
    bool as_released = strcmp(name, "gelu-as-released") == 0;
    if (as_released && s.form == RATIONAL_FORM_PAPER) {
        return set_error(err, "the start gelu-as-released is the paper form's gelu used in form A: "
                         "with the paper form ask for gelu, which is the same there");
    }
    double c[FIT_MAX] = {0};
    RationalShape made_for = s;
    if (as_released) { made_for.form = RATIONAL_FORM_PAPER; }
    if (strcmp(name, "identity") == 0) {
        c[1] = 1;
    } else if (strcmp(name, "swish") == 0) {
        start_coefficients(c, made_for, exact_swish);
    } else if (as_released || strcmp(name, "gelu") == 0) {
        start_coefficients(c, made_for, exact_gelu);
    } else {
        return set_error(err, "there is no rational start '%s': choose identity, swish, gelu or gelu-as-released",
                         name);
    }
    for (int i = 0; i <= s.m; i++) { numerator[i] = (float)c[i]; }
    for (int j = 0; j < s.groups * s.n; j++) { denominator[j] = (float)c[s.m + 1 + j % s.n]; }
    return true;
}

// E[F(x)^2] for x ~ N(0,1), of group 0: the trapezoid rule on [-12, 12], with a point on the kink at 0. Weights that
// follow F keep the variance when drawn from N(0, α / fan_in), α = 1 / E[F^2]: 1 identity, 2.8108 swish, 2.3516 gelu.
// (Yang & Wang print 2.8178 and 2.3568, a quarter of a percent above the integrals of the exact functions.)
static inline double rational_second_moment(const float* numerator, const float* denominator, RationalShape s) {
    enum { PANELS = 24 * 1024 };
    double c[FIT_MAX], sum = 0, h = 24.0 / (double)PANELS;
    for (int i = 0; i <= s.m; i++) { c[i] = numerator[i]; }
    for (int j = 0; j < s.n; j++) { c[s.m + 1 + j] = denominator[j]; }
    for (int p = 0; p <= PANELS; p++) {
        double x = -12 + h * p, F = rational_value(x, c, s, NULL);
        sum += F * F * exp(-0.5 * x * x);
    }
    return sum * h * 0.39894228040143267794;
}
