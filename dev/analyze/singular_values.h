// The singular values of a square matrix in double, by one-sided Jacobi rotations (Hestenes, 1958): pairs of rows are
// rotated until all are orthogonal; then their lengths are the singular values. Small ones are as exact as large ones,
// unlike those from M^T M. Serial, so that many matrices can be processed at once.
#pragma once
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

// Makes rows p and q (n) orthogonal; false: they were, or one is negligible compared with `scale`, the matrix's norm
static inline bool rotate_rows(double* p, double* q, int n, double scale) {
    double pp = 0, qq = 0, pq = 0, nothing = DBL_EPSILON * scale;
    #pragma omp simd reduction(+:pp, qq, pq)
    for (int i = 0; i < n; i++) {
        pp += p[i] * p[i];
        qq += q[i] * q[i];
        pq += p[i] * q[i];
    }
    if (fabs(pq) <= n * DBL_EPSILON * sqrt(pp * qq) || sqrt(fmin(pp, qq)) <= nothing) { return false; }
    double zeta = (qq - pp) / (2 * pq), t = copysign(1, zeta) / (fabs(zeta) + hypot(1, zeta));
    double c = 1 / hypot(1, t), s = c * t;
    #pragma omp simd
    for (int i = 0; i < n; i++) {
        double u = p[i], v = q[i];
        p[i] = c * u - s * v;
        q[i] = s * u + c * v;
    }
    return true;
}

static inline double row_length(const double* row, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) { sum += row[i] * row[i]; }
    return sqrt(sum);
}

static inline int larger_first(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x < y) - (x > y);
}

// values (n), the largest first, of M (n,n), which is overwritten
static inline void singular_values(double* values, double* M, int n) {
    double scale = row_length(M, (size_t)n * n);
    bool rotated = true;
    for (int sweep = 0; rotated && sweep < 60; sweep++) { // six to ten are usual
        rotated = false;
        for (int p = 0; p < n - 1; p++) {
            for (int q = p + 1; q < n; q++) {
                bool turned = rotate_rows(M + (size_t)p * n, M + (size_t)q * n, n, scale);
                rotated = rotated || turned;
            }
        }
    }
    for (int i = 0; i < n; i++) { values[i] = row_length(M + (size_t)i * n, (size_t)n); }
    qsort(values, (size_t)n, sizeof *values, larger_first);
}

// The number of singular values above what rounding a matrix to fp32 makes of a zero: n eps s_1
static inline int numerical_rank(const double* values, int n) {
    int rank = 0;
    while (rank < n && values[rank] > n * (double)FLT_EPSILON * values[0]) { rank++; }
    return rank;
}

// exp of the entropy of s_i / sum s (Roy & Vetterli, 2007): r if r of them are equal and the others 0
static inline double effective_rank(const double* values, int n) {
    double sum = 0, entropy = 0;
    for (int i = 0; i < n; i++) { sum += values[i]; }
    for (int i = 0; i < n && sum > 0; i++) {
        double p = values[i] / sum;
        if (p > 0) { entropy -= p * log(p); }
    }
    return sum > 0 ? exp(entropy) : 0;
}
