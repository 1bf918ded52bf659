// Layer normalisation over the channels of each row of inp (rows, C) (Ba et al., arXiv 1607.06450):
//     out = norm * weight + bias,   norm = (inp - mean) * rstd,   rstd = 1 / sqrt(variance + eps)
// The variance is taken about the mean in a second pass, so that a large mean costs no digits.
#pragma once
#include "partials.h"
#include <math.h>
#include <string.h>

#define LAYERNORM_EPS 1e-6f // that of ViTs

// out (rows, C), mean and rstd (rows) are kept for the backward
static inline void layernorm_forward(float* out, float* mean, float* rstd, const float* inp, const float* weight,
                                     const float* bias, float eps, int rows, int C) {
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < rows; row++) {
        const float* x = inp + (size_t)row * C;
        float* y = out + (size_t)row * C;
        float sum = 0, squares = 0;
        #pragma omp simd reduction(+:sum)
        for (int c = 0; c < C; c++) { sum += x[c]; }
        float m = sum / C;
        #pragma omp simd reduction(+:squares)
        for (int c = 0; c < C; c++) { squares += (x[c] - m) * (x[c] - m); }
        float s = 1.0f / sqrtf(squares / C + eps);
        for (int c = 0; c < C; c++) { y[c] = (x[c] - m) * s * weight[c] + bias[c]; }
        mean[row] = m;
        rstd[row] = s;
    }
}

// One row of dweight and dbias sums for each part
static inline size_t layernorm_scratch(int rows, int C) { return (size_t)part_count(rows) * 2 * C; }

// One row. dx += rstd (dnorm - mean(dnorm) - norm mean(dnorm norm)), dnorm = dout weight; the other two +=
static inline void layernorm_backward_row(float* dx, float* dweight, float* dbias, const float* dout, const float* x,
                                          const float* weight, float mean, float rstd, int C) {
    float sum = 0, sum_norm = 0;
    #pragma omp simd reduction(+:sum, sum_norm)
    for (int c = 0; c < C; c++) {
        float dnorm = dout[c] * weight[c];
        sum += dnorm;
        sum_norm += dnorm * (x[c] - mean) * rstd;
    }
    sum /= C;
    sum_norm /= C;
    #pragma omp simd
    for (int c = 0; c < C; c++) {
        float norm = (x[c] - mean) * rstd;
        dx[c] += rstd * (dout[c] * weight[c] - sum - norm * sum_norm);
        dweight[c] += dout[c] * norm;
        dbias[c] += dout[c];
    }
}

// out = (inp - mean) rstd weight + bias: dinp += (the residual stream), dweight (C) and dbias (C) +=
static inline void layernorm_backward(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp,
                                      const float* weight, const float* mean, const float* rstd, float* scratch,
                                      int rows, int C) {
    int parts = part_count(rows);
    float *dweight_parts = scratch, *dbias_parts = scratch + (size_t)parts * C; // (parts, C) each
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        float *dw = dweight_parts + (size_t)part * C, *db = dbias_parts + (size_t)part * C;
        memset(dw, 0, C * sizeof(float));
        memset(db, 0, C * sizeof(float));
        int first = part * PART_ROWS, last = first + part_length(rows, part);
        for (int row = first; row < last; row++) {
            size_t at = (size_t)row * C;
            layernorm_backward_row(dinp + at, dw, db, dout + at, inp + at, weight, mean[row], rstd[row], C);
        }
    }
    add_partials(dweight, dweight_parts, parts, C);
    add_partials(dbias, dbias_parts, parts, C);
}
