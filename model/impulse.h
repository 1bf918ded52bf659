// Impulse start of attention (Zheng et al., "Structured Initialization for Vision Transformers", arXiv 2505.19985, with
// the figures of its code): each head begins as one tap of a 3 x 3 convolution, which attends to the patch at an offset
// of its own. A query knows where it is only by its position. With P (n, C) the LayerNorm of the n patches' position
// codes and H (n, n) the shift, H_kq = 1 where q lies at the offset from k, queries P Wq and keys P Wk are to have
//     (P Wq) (P Wk)ᵀ ~ H
// In the D leading directions of P = U S Vᵀ, with D a head's width, the part of H that rank D can represent is U Uᵀ H U
// Uᵀ:
//     Wk = V S⁻¹     keys P Wk = U     Wq = Wk (Uᵀ H U)     queries P Wq = U Uᵀ H U
// Both are then scaled to one Frobenius norm. The position codes, the class token's too, are scaled up, so that the
// contents of the patches do not drown them. Offsets go round over the heads of all blocks: three heads have all nine
// in three blocks. Values and projection start as in mimetic.h.
#pragma once
#include "mimetic.h"

enum { IMPULSE_OFFSETS = 9 };
static const double IMPULSE_POSITIONS = 18, IMPULSE_NORM = 7; // factor on the position codes; norm of Wq, of Wk

// The patch at an offset from patch k of `side` by `side`, -1 beyond the border: itself first, then the four beside it
static inline int impulse_target(int k, int offset, int side) {
    static const int down[IMPULSE_OFFSETS] = {0, -1, 0, 0, 1, -1, -1, 1, 1};
    static const int right[IMPULSE_OFFSETS] = {0, 0, 1, -1, 0, -1, 1, -1, 1};
    int row = k / side + down[offset], column = k % side + right[offset];
    return row < 0 || row >= side || column < 0 || column >= side ? -1 : row * side + column;
}

// P (n, C) = LayerNorm of the position codes
static inline void impulse_codes(double* P, const float* pos_embed, int n, int C) {
    for (int k = 0; k < n; k++) {
        const float* code = pos_embed + (size_t)k * C;
        double mean = 0, variance = 0;
        for (int c = 0; c < C; c++) { mean += code[c] / (double)C; }
        for (int c = 0; c < C; c++) { variance += (code[c] - mean) * (code[c] - mean) / C; }
        for (int c = 0; c < C; c++) { P[(size_t)k * C + c] = (code[c] - mean) / sqrt(variance + 1e-6); }
    }
}

// 1 or -1, whichever makes the largest of x (n) positive: the sign of a computed eigenvector depends on rounding
static inline double impulse_sign(const double* x, int n) {
    int largest = 0;
    for (int i = 1; i < n; i++) { largest = fabs(x[i]) > fabs(x[largest]) ? i : largest; }
    return x[largest] < 0 ? -1 : 1;
}

// Columns of Wk as rows (D, C), in the order of falling singular values. Returns how many there are, at most the rank
// of P.
static inline int impulse_keys(double* Wk, const double* P, int n, int C, int D) {
    size_t size = (size_t)C * C;
    double* gram = alloc_array(double, 2 * size + C, "an impulse start");
    double *vectors = gram + size, *values = vectors + size, largest = 0;
    int rank = 0;
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < C; i++) {
            #pragma omp simd
            for (int j = 0; j < C; j++) { gram[(size_t)i * C + j] += P[(size_t)k * C + i] * P[(size_t)k * C + j]; }
        }
    }
    symmetric_eigen(gram, values, vectors, C);
    for (int i = 0; i < C; i++) { largest = fmax(largest, values[i]); }
    for (; rank < D; rank++) {
        int best = 0;
        for (int i = 1; i < C; i++) { best = values[i] > values[best] ? i : best; }
        if (!(values[best] > 1e-9 * largest)) { break; }
        const double* v = vectors + (size_t)best * C;
        double scale = impulse_sign(v, C) / sqrt(values[best]);
        for (int c = 0; c < C; c++) { Wk[(size_t)rank * C + c] = scale * v[c]; }
        values[best] = -INFINITY; // taken
    }
    free(gram);
    return rank;
}

// Rows of U (rank, n), the columns of P Wk
static inline void impulse_directions(double* U, const double* P, const double* Wk, int rank, int n, int C) {
    for (int i = 0; i < rank; i++) {
        for (int k = 0; k < n; k++) {
            double sum = 0;
            #pragma omp simd reduction(+:sum)
            for (int c = 0; c < C; c++) { sum += Wk[(size_t)i * C + c] * P[(size_t)k * C + c]; }
            U[(size_t)i * n + k] = sum;
        }
    }
}

// Wq (rank, C): its row j is column j of Wk (Uᵀ H U)
static inline void impulse_queries(double* Wq, const double* U, const double* Wk, int offset, int rank, int side,
                                   int C) {
    int n = side * side;
    memset(Wq, 0, (size_t)rank * C * sizeof *Wq);
    for (int i = 0; i < rank; i++) {
        for (int j = 0; j < rank; j++) {
            double overlap = 0;
            for (int k = 0; k < n; k++) {
                int q = impulse_target(k, offset, side);
                overlap += q < 0 ? 0 : U[(size_t)i * n + k] * U[(size_t)j * n + q];
            }
            for (int c = 0; c < C; c++) { Wq[(size_t)j * C + c] += overlap * Wk[(size_t)i * C + c]; }
        }
    }
}

// Sets weight (size) to W scaled to this norm; leaves it as it is if W is 0, as for a shift off a single patch.
static inline void impulse_store(float* weight, const double* W, size_t size) {
    double squares = 0;
    for (size_t i = 0; i < size; i++) { squares += W[i] * W[i]; }
    for (size_t i = 0; i < size && squares > 0; i++) { weight[i] = (float)(IMPULSE_NORM / sqrt(squares) * W[i]); }
}

// One block; U and Wk are the whole model's
static inline void impulse_block(const ParameterTable* table, Dims d, uint64_t seed, float* flat, int l,
                                 const double* U, const double* Wk, int rank) {
    Params p = params_of_block(table, flat, l);
    size_t size = (size_t)rank * d.C;
    double* Wq = alloc_array(double, size, "an impulse start");
    for (int h = 0; h < d.H; h++) {
        float *queries = p.qkv_weight + (size_t)h * d.D * d.C, *keys = queries + (size_t)d.C * d.C;
        impulse_queries(Wq, U, Wk, (l * d.H + h) % IMPULSE_OFFSETS, rank, d.S / d.P, d.C);
        impulse_store(queries, Wq, size);
        impulse_store(keys, Wk, size);
    }
    mimetic_matrices(p, d.H, d, seed, (uint64_t)(l * (d.H + 1) + d.H));
    free(Wq);
}

// positions: rows of pos_embed, the last n of which are the patches'. Rows of queries and keys beyond the rank of P
// keep their random start.
static inline void impulse_init(const ParameterTable* table, Dims d, int positions, uint64_t seed, float* flat) {
    int n = d.S / d.P * (d.S / d.P), C = d.C, D = d.D;
    double* P = alloc_array(double, (size_t)n * C + (size_t)D * (n + C), "an impulse start");
    double *U = P + (size_t)n * C, *Wk = U + (size_t)D * n;
    float* pos_embed = params_of(table, flat).pos_embed;
    for (int i = 0; i < positions * C; i++) { pos_embed[i] *= (float)IMPULSE_POSITIONS; }
    impulse_codes(P, pos_embed + (size_t)(positions - n) * C, n, C);
    int rank = impulse_keys(Wk, P, n, C, D);
    impulse_directions(U, P, Wk, rank, n, C);
    #pragma omp parallel for schedule(dynamic)
    for (int l = 0; l < d.L; l++) { impulse_block(table, d, seed, flat, l, U, Wk, rank); }
    free(P);
}
