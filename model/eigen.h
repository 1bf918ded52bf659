// Eigenvalues and eigenvectors of a symmetric matrix M (n, n), in double: Householder reflections to a tridiagonal
// matrix T = Qᵀ M Q, then implicit QL steps with Wilkinson's shift (Golub & Van Loan, Matrix Computations, sections
// 8.3.1 and 8.3.3). Some 9 n³ operations, a second for n = 768; serial, so that many matrices can be done in parallel.
#pragma once
#include "../runtime/memory.h"
#include <float.h>
#include <math.h>

// Reflection k = I - v vᵀ, v in row k of reflectors, takes column k of M to (.., diagonal[k], off[k], 0, ..). M is
// overwritten.
static inline void tridiagonalize(double* M, double* reflectors, double* diagonal, double* off, double* w, int n) {
    for (int k = 0; k < n - 1; k++) {
        double *v = reflectors + (size_t)k * n, *column = M + (size_t)k * n, squares = 0, vw = 0;
        for (int i = k + 1; i < n; i++) { squares += column[i] * column[i]; }
        double target = -copysign(sqrt(squares), column[k + 1]), head = column[k + 1] - target;
        double scale = squares > 0 ? sqrt(1 / (-target * head)) : 0; // so that vᵀv = 2
        for (int i = k + 1; i < n; i++) { v[i] = scale * (i == k + 1 ? head : column[i]); }
        diagonal[k] = column[k];
        off[k] = target;
        for (int i = k + 1; i < n; i++) { // w = M v - (vᵀ M v / 2) v; then M -= v wᵀ + w vᵀ
            double sum = 0;
            #pragma omp simd reduction(+:sum)
            for (int j = k + 1; j < n; j++) { sum += M[(size_t)i * n + j] * v[j]; }
            w[i] = sum;
            vw += v[i] * sum;
        }
        for (int i = k + 1; i < n; i++) { w[i] -= 0.5 * vw * v[i]; }
        for (int i = k + 1; i < n; i++) {
            #pragma omp simd
            for (int j = k + 1; j < n; j++) { M[(size_t)i * n + j] -= v[i] * w[j] + w[i] * v[j]; }
        }
    }
    diagonal[n - 1] = M[(size_t)n * n - 1];
    off[n - 1] = 0;
}

// rows (n, n) = Qᵀ: the last reflection comes first, so that each is applied only to what it can change
static inline void collect_reflections(double* rows, const double* reflectors, int n) {
    memset(rows, 0, (size_t)n * n * sizeof(double));
    for (int i = 0; i < n; i++) { rows[(size_t)i * n + i] = 1; }
    for (int k = n - 2; k >= 0; k--) {
        const double* v = reflectors + (size_t)k * n;
        for (int i = k + 1; i < n; i++) {
            double *row = rows + (size_t)i * n, sum = 0;
            #pragma omp simd reduction(+:sum)
            for (int j = k + 1; j < n; j++) { sum += row[j] * v[j]; }
            #pragma omp simd
            for (int j = k + 1; j < n; j++) { row[j] -= sum * v[j]; }
        }
    }
}

// One QL step on the unreduced block first..last; the rotations go to the rows of vectors as well
static inline void ql_step(double* diagonal, double* off, double* vectors, int first, int last, int n) {
    double half = (diagonal[first + 1] - diagonal[first]) / (2 * off[first]);
    double shift = diagonal[first] - off[first] / (half + copysign(hypot(half, 1), half));
    double x = diagonal[last] - shift, s = 1, c = 1, moved = 0;
    for (int i = last - 1; i >= first; i--) {
        double y = s * off[i], rest = c * off[i], length = hypot(x, y);
        off[i + 1] = length;
        s = length > 0 ? y / length : 0;
        c = length > 0 ? x / length : 1;
        double corner = diagonal[i + 1] - moved, t = (diagonal[i] - corner) * s + 2 * c * rest;
        moved = s * t;
        diagonal[i + 1] = corner + moved;
        x = c * t - rest;
        double *low = vectors + (size_t)i * n, *high = low + n;
        #pragma omp simd
        for (int j = 0; j < n; j++) {
            double a = low[j], b = high[j];
            high[j] = s * a + c * b;
            low[j] = c * a - s * b;
        }
    }
    diagonal[first] -= moved;
    off[first] = x;
    off[last] = 0;
}

// values (n), unsorted; vectors (n, n), row i belongs to values[i]. M is overwritten.
static inline void symmetric_eigen(double* M, double* values, double* vectors, int n) {
    double* reflectors = alloc_array(double, ((size_t)n + 2) * n, "an eigenvalue problem");
    double *off = reflectors + (size_t)n * n, *w = off + n;
    tridiagonalize(M, reflectors, values, off, w, n);
    collect_reflections(vectors, reflectors, n);
    for (int first = 0; first < n; first++) {
        for (int step = 0; step < 60; step++) { // two or three are usual
            int last = first;
            while (last < n - 1 && fabs(off[last]) > DBL_EPSILON * (fabs(values[last]) + fabs(values[last + 1]))) {
                last++;
            }
            if (last == first) { break; }
            ql_step(values, off, vectors, first, last, n);
        }
    }
    free(reflectors);
}
