// Mimetic start of attention (Trockman & Kolter, arXiv 2305.09828, with the figures of KAT's code): products of weights
// look as they do after training: that of queries and keys is near the identity, that of values and projection near its
// negative.
//     each head       Wq Wkᵀ = .7 Z + .7 I, cut to its rank D:   A = U S Vᵀ, Wq = U √S, Wk = V √S (first D columns)
//     all its heads   Wv Wp  = .4 Z - .4 I, of full rank C:      B = U S Vᵀ, Wv = U √S, Wp = √S Vᵀ
// with Z (C, C) uniform of variance 1/C, drawn anew for every head. A linear layer is x Wᵀ with W (out, in): its row i
// is column i of Wq, and the columns of proj.weight are those of V √S. V and S² are the eigenvectors and eigenvalues of
// Aᵀ A, and U √S = A V / √S.
#pragma once
#include "eigen.h"
#include "parameters.h"

// The singular directions of A (C, C), largest first, as rows: left[i] = u_i √s_i and right[i] = v_i √s_i
static inline void balanced_factors(double* left, double* right, const double* A, int C) {
    size_t size = (size_t)C * C;
    double* gram = alloc_array(double, 2 * size + C, "a singular value decomposition");
    double *vectors = gram + size, *values = vectors + size;
    for (int k = 0; k < C; k++) {
        for (int i = 0; i < C; i++) {
            #pragma omp simd
            for (int j = 0; j < C; j++) { gram[(size_t)i * C + j] += A[(size_t)k * C + i] * A[(size_t)k * C + j]; }
        }
    }
    symmetric_eigen(gram, values, vectors, C);
    for (int i = 0; i < C; i++) {
        int best = 0;
        for (int j = 1; j < C; j++) { best = values[j] > values[best] ? j : best; }
        const double* v = vectors + (size_t)best * C;
        double root = sqrt(sqrt(fmax(values[best], 0)));
        for (int r = 0; r < C; r++) {
            double sum = 0;
            #pragma omp simd reduction(+:sum)
            for (int j = 0; j < C; j++) { sum += A[(size_t)r * C + j] * v[j]; }
            left[(size_t)i * C + r] = root > 0 ? sum / root : 0;
            right[(size_t)i * C + r] = v[r] * root;
        }
        values[best] = -INFINITY; // taken
    }
    free(gram);
}

// A (C, C) = noise Z + diagonal I; which: a different number for every matrix of the model
static inline void mimetic_target(double* A, double noise, double diagonal, uint64_t seed, uint64_t which, int C) {
    double bound = sqrt(3.0 / C); // variance 1/C
    uint32_t tensor = name_hash("blocks.%d.attn.mimetic");
    for (int i = 0; i < C * C; i++) {
        double u = random_uniform(seed, STREAM_INIT, tensor, which * (uint64_t)(C * C) + (uint64_t)i);
        A[i] = noise * bound * (2 * u - 1) + (i / C == i % C ? diagonal : 0);
    }
}

// Queries and keys of head h of one block; h = H: its values and projection
static inline void mimetic_matrices(Params p, int h, Dims d, uint64_t seed, uint64_t which) {
    int C = d.C, D = C / d.H;
    double* A = alloc_array(double, 3 * (size_t)C * C, "a mimetic start");
    double *left = A + (size_t)C * C, *right = left + (size_t)C * C;
    bool queries = h < d.H;
    mimetic_target(A, queries ? 0.7 : 0.4, queries ? 0.7 : -0.4, seed, which, C);
    balanced_factors(left, right, A, C);
    float *first = p.qkv_weight + (queries ? (size_t)h * D * C : 2 * (size_t)C * C), *keys = first + (size_t)C * C;
    for (int i = 0; i < (queries ? D : C); i++) {
        for (int c = 0; c < C; c++) {
            size_t at = (size_t)i * C + c;
            first[at] = (float)left[at];
            if (queries) { keys[at] = (float)right[at]; } else { p.proj_weight[(size_t)c * C + i] = (float)right[at]; }
        }
    }
    free(A);
}

static inline void mimetic_init(const ParameterTable* table, Dims d, uint64_t seed, float* flat) {
    #pragma omp parallel for schedule(dynamic)
    for (int job = 0; job < d.L * (d.H + 1); job++) {
        Params p = params_of_block(table, flat, job / (d.H + 1));
        mimetic_matrices(p, job % (d.H + 1), d, seed, (uint64_t)job);
    }
}
