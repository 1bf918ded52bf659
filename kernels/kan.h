// The Kolmogorov-Arnold layer (Liu et al., KAN, arXiv 2404.19756), which replaces a linear layer in ViT + KAN: every
// edge from an input i to an output o has a function of its own,
//     out_o = bias_o + sum_i phi_oi(inp_i),    phi_oi(x) = weight_oi silu(x) + sum_m spline_oim B_m(x)
// with the M = G + k B-splines of basis.h (a Basis of kind bspline).
//     inp (rows,C), out (rows,OC), weight (OC,C), spline_weight (OC,C,M), bias (OC)
//
// ViT + KAN has two such layers for the MLP of each block, C to hidden and hidden to C. The KAT paper (Yang & Wang,
// arXiv 2409.10594) prints 12.8M, 50.4M and 199.8M parameters for Tiny, Small and Base with 1000 classes, but neither
// hidden nor G nor k. Derived: with hidden = 2C and G + k + 1 = 6 parameters per edge (G = 2, k = 3), a block has 6 * 2
// * C * 2C weights and 3C biases where the MLP has 2 * C * 4C and 5C, which gives 12,790,696, 50,353,000 and
// 199,795,432. Hidden = 4C with 3 parameters per edge fits the printed figures as well.
//
// Both directions are matrix products with the M + 1 features (silu, B_0, B_1, ..) of every input. The features are not
// kept: blocks of up to KAN_ROWS rows by KAN_CHANNELS inputs are computed where a product reads them, as (rows, M+1,
// channels), with the weights packed to match. Blocks depend on shapes only, and every gradient is summed over the rows
// in order by one task: no result depends on the number of threads.
#pragma once
#include "karat_base.h"
#include "matmul.h"
#include "partials.h"

enum { KAN_ROWS = 256, KAN_CHANNELS = 64, KAN_OUTPUTS = 192 };

static inline int kan_features_count(Basis basis) { return basis_coefficients(basis) + 1; } // M + 1

static inline int kan_rows(int rows) { return min_int(linear_rows(rows), KAN_ROWS); } // of a task

// ---- Scratch

typedef struct {
    float* packed;   // the weights: for each block of channels (OC, M+1, channels)
    float* features; // of one thread: a block's features or their gradients
    float* gradient; // of one thread: of a block's weights, (KAN_OUTPUTS, M+1, channels)
    float* slopes;   // of one thread: B_m' of one row of a block (M, channels)
} KanWork;

static inline size_t kan_packed_size(int C, int OC, Basis basis) { return (size_t)OC * kan_features_count(basis) * C; }

static inline size_t kan_thread_size(Basis basis) {
    return (size_t)(KAN_ROWS + KAN_OUTPUTS + 1) * kan_features_count(basis) * KAN_CHANNELS;
}

static inline size_t kan_scratch(int C, int OC, Basis basis) {
    return kan_packed_size(C, OC, basis) + max_threads() * kan_thread_size(basis);
}

static inline KanWork kan_work(float* scratch, int C, int OC, Basis basis) { // the calling thread's
    size_t row = (size_t)kan_features_count(basis) * KAN_CHANNELS;
    float* own = scratch + kan_packed_size(C, OC, basis) + thread_number() * kan_thread_size(basis);
    return (KanWork){scratch, own, own + KAN_ROWS * row, own + (KAN_ROWS + KAN_OUTPUTS) * row};
}

// ---- Blocks: channels first .. first + channels of the C

static inline float* kan_packed_block(KanWork w, int first, int OC, Basis basis) {
    return w.packed + (size_t)OC * kan_features_count(basis) * first;
}

static inline void kan_pack(float* packed, const float* weight, const float* spline_weight, int C, int OC,
                            Basis basis) {
    int M = basis_coefficients(basis);
    #pragma omp parallel for schedule(static)
    for (int first = 0; first < C; first += KAN_CHANNELS) {
        int channels = min_int(KAN_CHANNELS, C - first);
        float* to = packed + (size_t)OC * (M + 1) * first;
        for (int o = 0; o < OC; o++, to += (M + 1) * channels) {
            size_t edge = (size_t)o * C + first;
            memcpy(to, weight + edge, channels * sizeof *to);
            for (int m = 0; m < M; m++) {
                for (int c = 0; c < channels; c++) { to[(m + 1) * channels + c] = spline_weight[(edge + c) * M + m]; }
            }
        }
    }
}

// dweight, dspline_weight += a block's gradient (outputs, M+1, channels); the pointers are at its first edge
static inline void kan_add_gradient(float* dweight, float* dspline_weight, const float* from, int outputs, int channels,
                                    int C, Basis basis) {
    int M = basis_coefficients(basis);
    for (size_t o = 0; o < (size_t)outputs; o++, from += (M + 1) * channels) {
        for (int c = 0; c < channels; c++) { dweight[o * C + c] += from[c]; }
        for (int m = 0; m < M; m++) {
            for (int c = 0; c < channels; c++) { dspline_weight[(o * C + c) * M + m] += from[(m + 1) * channels + c]; }
        }
    }
}

// features (rows, M+1, channels) of inp, whose rows are C apart
static inline void kan_features(float* features, const float* inp, int rows, int channels, int C, Basis basis) {
    for (int r = 0; r < rows; r++, inp += C, features += kan_features_count(basis) * channels) {
        karat_base_forward(features, inp, channels, KARAT_BASE_SILU);
        basis_features(features + channels, inp, channels, basis);
    }
}

// The forward line: kan_features. dinp = sum over the features of their derivative times dfeatures
static inline void kan_features_backward(float* dinp, const float* dfeatures, const float* inp, KanWork w, int rows,
                                         int channels, int C, Basis basis) {
    for (int r = 0; r < rows; r++, inp += C, dinp += C) {
        basis_slopes(w.slopes, NULL, inp, channels, basis); // B-splines' slopes need no values
        for (int c = 0; c < channels; c++) { dinp[c] = 0; }
        karat_base_backward(dinp, dfeatures, inp, channels, KARAT_BASE_SILU);
        dfeatures += channels;
        for (int m = 0; m < basis_coefficients(basis); m++, dfeatures += channels) {
            for (int c = 0; c < channels; c++) { dinp[c] += dfeatures[c] * w.slopes[m * channels + c]; }
        }
    }
}

// ---- The layer

static inline void kan_forward(float* out, const float* inp, const float* weight, const float* spline_weight,
                               const float* bias, float* scratch, int rows, int C, int OC, Basis basis) {
    int step = kan_rows(rows);
    kan_pack(scratch, weight, spline_weight, C, OC, basis);
    #pragma omp parallel for schedule(dynamic)
    for (int row = 0; row < rows; row += step) {
        int count = min_int(step, rows - row);
        KanWork w = kan_work(scratch, C, OC, basis);
        float* o = out + (size_t)row * OC;
        for (int r = 0; r < count; r++) { memcpy(o + (size_t)r * OC, bias, OC * sizeof *o); }
        for (int first = 0; first < C; first += KAN_CHANNELS) {
            int channels = min_int(KAN_CHANNELS, C - first), K = kan_features_count(basis) * channels;
            kan_features(w.features, inp + (size_t)row * C + first, count, channels, C, basis);
            gemm(false, true, count, OC, K, 1, w.features, K, kan_packed_block(w, first, OC, basis), K, 1, o, OC);
        }
    }
}

// The forward line: out = features packed^T + bias, for dinp
static inline void kan_backward_input(float* dinp, const float* dout, const float* inp, float* scratch, int rows, int C,
                                      int OC, Basis basis) {
    int step = kan_rows(rows);
    #pragma omp parallel for schedule(dynamic)
    for (int row = 0; row < rows; row += step) {
        int count = min_int(step, rows - row);
        KanWork w = kan_work(scratch, C, OC, basis);
        for (int first = 0; first < C; first += KAN_CHANNELS) {
            int channels = min_int(KAN_CHANNELS, C - first), K = kan_features_count(basis) * channels;
            size_t at = (size_t)row * C + first;
            gemm(false, false, count, K, OC, 1, dout + (size_t)row * OC, OC, kan_packed_block(w, first, OC, basis), K,
                 0, w.features, K);
            kan_features_backward(dinp + at, w.features, inp + at, w, count, channels, C, basis);
        }
    }
}

// The same line, for dweight and dspline_weight. A task has a block of channels and one of outputs, and all rows.
static inline void kan_backward_weights(float* dweight, float* dspline_weight, const float* dout, const float* inp,
                                        float* scratch, int rows, int C, int OC, Basis basis) {
    #pragma omp parallel for collapse(2) schedule(dynamic)
    for (int first = 0; first < C; first += KAN_CHANNELS) {
        for (int o = 0; o < OC; o += KAN_OUTPUTS) {
            int channels = min_int(KAN_CHANNELS, C - first), outputs = min_int(KAN_OUTPUTS, OC - o);
            int K = kan_features_count(basis) * channels;
            KanWork w = kan_work(scratch, C, OC, basis);
            for (int row = 0; row < rows; row += KAN_ROWS) {
                int count = min_int(KAN_ROWS, rows - row);
                kan_features(w.features, inp + (size_t)row * C + first, count, channels, C, basis);
                gemm(true, false, outputs, K, count, 1, dout + (size_t)row * OC + o, OC, w.features, K, row > 0,
                     w.gradient, K);
            }
            size_t edge = (size_t)o * C + first;
            kan_add_gradient(dweight + edge, dspline_weight + edge * basis_coefficients(basis), w.gradient, outputs,
                             channels, C, basis);
        }
    }
}

// dinp = (may be NULL), dweight, dspline_weight and dbias +=
static inline void kan_backward(float* dinp, float* dweight, float* dspline_weight, float* dbias, const float* dout,
                                const float* inp, const float* weight, const float* spline_weight, float* scratch,
                                int rows, int C, int OC, Basis basis) {
    if (dinp) {
        kan_pack(scratch, weight, spline_weight, C, OC, basis);
        kan_backward_input(dinp, dout, inp, scratch, rows, C, OC, basis);
    }
    kan_backward_weights(dweight, dspline_weight, dout, inp, scratch, rows, C, OC, basis);
    add_partials(dbias, dout, rows, OC);
}
