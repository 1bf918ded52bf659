// Euclidean projections of a row of N numbers, which KArAt (Maity et al., arXiv 2503.10632) tries on the rows of sigma:
//     simplex    onto {x >= 0, sum x = 1}:    out = max(x - tau, 0) with the tau that makes out sum to 1
//     l1         onto {sum |x| <= 1}:         out = x there, else sgn(x) times the projection of |x| onto the simplex
// tau as in Condat, "Fast projection onto the simplex and the l1 ball" (Mathematical Programming 158, 2016): any subset
// v of the row bounds it, (sum v - 1) / |v| <= tau, and what is not above a bound is 0 in the result. One pass collects
// what is above the bound of those collected before; further passes drop what is not above the bound of those that are
// left, until nothing is dropped. No sorting; O(N) expected.
//
// All of this is done on the row minus its largest element: then -1 <= tau <= -1/N, so that rows of any magnitude keep
// their digits, the largest element is never dropped, and -1 is a bound to begin with (Condat's list of elements put
// aside stays empty). tau is double: rounded to fp32, its error would count N times in the sum of out. A NaN comes out
// as NaN, and so does +inf (in l1 -inf too).
#pragma once
#include "../runtime/choices.h"
#include "vector_math.h"
#include <stdbool.h>
#include <stddef.h>

#define PROJECTIONS(X) X(PROJECT_NONE, "none") X(PROJECT_SIMPLEX, "simplex") X(PROJECT_L1, "l1")
typedef enum { PROJECTIONS(CHOICE_CONSTANT) } Projection;

// tau of v (N), whose largest element is 0; v is overwritten. The test is v_i > (sum - 1) / count, without dividing.
static inline double simplex_threshold(float* v, int N) {
    double sum = 0;
    int count = 0, before;
    for (int i = 0; i < N; i++) {
        if (v[i] > -1 && count * (double)v[i] > sum - 1) {
            sum += v[i];
            v[count++] = v[i];
        }
    }
    do {
        int kept = 0;
        before = count;
        for (int i = 0; i < before; i++) {
            if (count * (double)v[i] > sum - 1) {
                v[kept++] = v[i];
            } else {
                sum -= v[i];
                count--;
            }
        }
    } while (count < before);
    return (sum - 1) / count;
}

static inline bool inside_l1_ball(const float* x, int N) {
    double sum = 0;
    #pragma omp simd reduction(+:sum)
    for (int i = 0; i < N; i++) { sum += fabsf(x[i]); }
    return sum <= 1;
}

static inline size_t simplex_scratch(int N) { return N; }

// out (N) = projection of x (N); out may be x
static inline void simplex_row_forward(float* out, const float* x, Projection kind, float* scratch, int N) {
    bool l1 = kind == PROJECT_L1;
    if (kind == PROJECT_NONE || (l1 && inside_l1_ball(x, N))) {
        memmove(out, x, N * sizeof *out);
        return;
    }
    for (int i = 0; i < N; i++) { scratch[i] = l1 ? fabsf(x[i]) : x[i]; }
    float high = vm_row_max(scratch, N);
    for (int i = 0; i < N; i++) { scratch[i] -= high; }
    double tau = simplex_threshold(scratch, N);
    for (int i = 0; i < N; i++) {
        double above = (l1 ? fabsf(x[i]) : x[i]) - high - tau;
        float size = above < 0 ? 0 : (float)above; // in this order a NaN stays
        out[i] = l1 ? copysignf(size, x[i]) : size;
    }
}

// The forward line: out = projection of x. With S where out is not 0 and s its signs, dx = dout - s mean_S(s dout) on S
// and 0 elsewhere; inside the l1 ball dx = dout. dx may be dout; x is read for l1 only.
static inline void simplex_row_backward(float* dx, const float* dout, const float* out, const float* x, Projection kind,
                                        int N) {
    if (kind == PROJECT_NONE || (kind == PROJECT_L1 && inside_l1_ball(x, N))) {
        memmove(dx, dout, N * sizeof *dx);
        return;
    }
    double sum = 0;
    int count = 0;
    #pragma omp simd reduction(+:sum, count)
    for (int i = 0; i < N; i++) {
        sum += out[i] != 0 ? copysignf(1, out[i]) * dout[i] : 0;
        count += out[i] != 0;
    }
    float mean = (float)(sum / count);
    #pragma omp simd
    for (int i = 0; i < N; i++) { dx[i] = out[i] != 0 ? dout[i] - copysignf(1, out[i]) * mean : 0; }
}
