// What both forms of Kolmogorov-Arnold attention (karat.h, karat_units.h) speak of: sizes, parameters, gradients.
#pragma once
#include "basis.h"
#include <stddef.h>

typedef struct {
    int B, N, C, H, R, G;
    KaratBase base;
    KaratBasis basis;
    int order;   // of bspline
    float range; // of bspline
} KaratDims;

typedef struct {              // one operator set, all heads together
    const float* coef;        // (H,R,M,N), M as in basis.h
    const float* scale_basis; // (H,R,N), or NULL: 1
    const float* scale_base;  // (H,R,N), or NULL: 1
    const float* proj_weight; // (H,N,R), W of karat.h
    const float* proj_bias;   // (N), beta of karat.h, or NULL: 0
} KaratParams;

typedef struct { // the parameters' gradients, all +=; NULL where the parameter is
    float *coef, *scale_basis, *scale_base, *proj_weight, *proj_bias;
} KaratGrads;

static inline Basis karat_basis(KaratDims d) { return (Basis){d.basis, d.G, d.order, d.range}; }
static inline int karat_coefficients(KaratDims d) { return basis_coefficients(karat_basis(d)); } // M
static inline int karat_features_count(KaratDims d) { return karat_coefficients(d) + (d.base != KARAT_BASE_ZERO); }

static inline size_t karat_take(float** pointer, float* base, size_t at, size_t count) { // whole cache lines
    *pointer = base ? base + at : NULL;
    return at + (count + 15) / 16 * 16;
}
