// The largest eigenvalue of the Hessian H of a loss, by power iteration on products H v that are computed only as
// differences of gradients:
//     H v ~ (g(theta + h v) - g(theta - h v)) / 2h
// Parameters are fp32, and theta + h v is rounded. The actual step, d = theta+ - theta-, is exact in double:
// eigenvalues are Rayleigh quotients d.(g+ - g-) / d.d along it.
//
// Power iteration finds the eigenvalue of largest magnitude. If that is negative, a second round on H - lambda, whose
// eigenvalues are all >= 0, finds the largest.
//
// What is known about the error of the estimate and its unit vector v:
//     residual     |H v - lambda v|: H has an eigenvalue at most that far from lambda (H is symmetric)
//     difference   between v.Hv at steps h and 2h: three times the error of the step, or fp32 gradients' rounding
#pragma once
#include "../../runtime/memory.h"
#include "../../runtime/random.h"
#include <math.h>

typedef struct {
    double value, residual, difference;
    int steps; // products H v
} Curvature;

// grad (count), mean gradient at theta (count)
typedef void (*GradientAt)(void* context, float* grad, const float* theta);
typedef void (*CurvatureSaid)(void* context, const Curvature* now); // progress

typedef struct {
    GradientAt gradient;
    void* context;
    CurvatureSaid said;            // or NULL
    void* said_context;
    const float* theta;
    size_t count;
    double step, shift, tolerance; // h; of H - shift; sufficient relative residual
    int most;                      // at most so many products
    float *ahead, *behind, *grad_ahead, *grad_behind;
    double *v, *Hv;
} PowerIteration;

static inline double dot_of(const double* a, const double* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) { sum += a[i] * b[i]; }
    return sum;
}

static inline void make_unit(double* v, size_t n) {
    double length = sqrt(dot_of(v, v, n));
    for (size_t i = 0; i < n && length > 0; i++) { v[i] /= length; }
}

// Hv = (H - shift) v, by a step of h along v; returns the Rayleigh quotient
static inline double hessian_product(PowerIteration* p, double h) {
    double product = 0, squares = 0;
    for (size_t i = 0; i < p->count; i++) {
        p->ahead[i] = (float)(p->theta[i] + h * p->v[i]);
        p->behind[i] = (float)(p->theta[i] - h * p->v[i]);
    }
    p->gradient(p->context, p->grad_ahead, p->ahead);
    p->gradient(p->context, p->grad_behind, p->behind);
    for (size_t i = 0; i < p->count; i++) {
        double d = (double)p->ahead[i] - p->behind[i], dg = (double)p->grad_ahead[i] - p->grad_behind[i];
        product += d * dg;
        squares += d * d;
        p->Hv[i] = dg / (2 * h) - p->shift * p->v[i];
    }
    return product / squares - p->shift;
}

static inline Curvature iterate(PowerIteration* p) {
    Curvature c = {0};
    for (;;) {
        double residual = 0;
        c.value = hessian_product(p, p->step);
        for (size_t i = 0; i < p->count; i++) { residual += pow(p->Hv[i] - c.value * p->v[i], 2); }
        c.residual = sqrt(residual);
        c.steps++;
        if (p->said) { p->said(p->said_context, &c); }
        if (c.residual <= p->tolerance * fabs(c.value) || c.steps >= p->most) { break; }
        double* swap = p->v;
        p->v = p->Hv;
        p->Hv = swap;
        make_unit(p->v, p->count);
    }
    c.difference = fabs(hessian_product(p, 2 * p->step) - c.value);
    c.value += p->shift;
    return c;
}

static inline void start_vector(PowerIteration* p, uint32_t which) {
    for (size_t i = 0; i < p->count; i++) { p->v[i] = random_normal(1, STREAM_CHECK, which, i); }
    make_unit(p->v, p->count);
}

// p: set up to `ahead`, except the shift
static inline Curvature largest_curvature(PowerIteration* p) {
    float* floats = alloc_floats(4 * p->count, "gradients");
    double* doubles = alloc_array(double, 2 * p->count, "a Hessian product");
    p->ahead = floats;
    p->behind = floats + p->count;
    p->grad_ahead = floats + 2 * p->count;
    p->grad_behind = floats + 3 * p->count;
    p->v = doubles;
    p->Hv = doubles + p->count;
    p->shift = 0;
    start_vector(p, 1);
    Curvature c = iterate(p);
    if (c.value < 0) {
        int before = c.steps;
        p->shift = c.value;
        start_vector(p, 2);
        c = iterate(p);
        c.steps += before;
    }
    free(floats);
    free(doubles);
    return c;
}
