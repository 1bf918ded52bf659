// What all forms of Kolmogorov-Arnold attention (karat.h, karat_units.h, karat_sigma.h) refer to: sizes, parameters,
// gradients.
#pragma once
#include "basis.h"
#include "simplex.h"
#include "windows.h"
#include "../runtime/choices.h"
#include <stddef.h>

// How a row of logits A_k (N) becomes the weights sigma_k (N), Phi an operator of N x R functions (KArAt, table of
// operator orders):
//     KARAT_W_PHI    z = Phi A_k,  sigma = W z        the paper's choice
//     KARAT_PHI_W    z = W^T A_k,  sigma = Phi^T z    W first, then R -> N by functions
//     KARAT_PHI_PHI  z = Phi A_k,  sigma = Phi2^T z   functions both ways, no W
#define KARAT_ORDERS(X) \
X(KARAT_W_PHI, "w-phi", "W Φ(A_k): functions N to r, then a matrix; the paper's choice") \
X(KARAT_PHI_W, "phi-w", "Φ(W A_k): a matrix N to r, then functions to N") \
X(KARAT_PHI_PHI, "phi-phi", "Φ Φ(A_k): functions both ways")
typedef enum { KARAT_ORDERS(CHOICE_CONSTANT) } KaratOrder;

// What a mask does where a grid is rolled (windows.h): -100 in a logit keeps tokens apart under softmax; for KArAt it
// is a number like any other.
#define KARAT_MASKS(X) \
X(KARAT_MASK_REGION, "region", "z and out leave out the tokens of other regions") \
X(KARAT_MASK_LITERAL, "literal", "-100 is added to the logits, as in front of softmax")
typedef enum { KARAT_MASKS(CHOICE_CONSTANT) } KaratMask;

// NQ rows k, the queries of the first tokens, meet the keys and values of all N (attention.h). In windows, B counts the
// windows of all images, N = NQ are the tokens of one window, qkv and out are in the order of the grid, and A includes
// the relative position bias.
typedef struct {
    int B, N, NQ, C, H, D, R, G; // H heads of width D; C: the width of all heads of the layer, others' included
    KaratBase base;
    KaratBasis basis;
    int spline_order;
    float spline_range;
    KaratOrder order;
    bool full_rank;          // N x N functions: R = N, sigma = z, no W
    Projection projection;   // of the rows of sigma, or of z
    bool project_z;
    Windows windows;         // grid 0: none
    KaratMask mask;
} KaratDims;

typedef struct {              // an operator Phi, all heads together
    const float* coef;        // (H,R,M,N), M as in basis.h
    const float* scale_basis; // (H,R,N), or NULL: 1
    const float* scale_base;  // (H,R,N), or NULL: 1
} KaratOperator;

typedef struct {
    KaratOperator inner;      // from logits to z; unused in the order KARAT_PHI_W
    KaratOperator outer;      // from z to sigma; unused in the order KARAT_W_PHI
    const float* proj_weight; // (H,N,R), W; unused without one
    const float* proj_bias;   // (N), beta of karat.h, or NULL: 0
    const float* bias_table;  // of windows: ((2 size - 1)^2, heads of the layer), from these heads' first column on
} KaratParams;

typedef struct { float *coef, *scale_basis, *scale_base; } KaratOperatorGrads;
typedef struct { // the parameters' gradients, all +=; NULL where the parameter is
    KaratOperatorGrads inner, outer;
    float *proj_weight, *proj_bias, *bias_table;
} KaratGrads;

BASIS_FUNCTION Basis karat_basis(KaratDims d) { return (Basis){d.basis, d.G, d.spline_order, d.spline_range}; }
BASIS_FUNCTION int karat_coefficients(KaratDims d) { return basis_coefficients(karat_basis(d)); } // M
BASIS_FUNCTION int karat_features_count(KaratDims d) { return karat_coefficients(d) + (d.base != KARAT_BASE_ZERO); }
BASIS_FUNCTION bool karat_has_inner(KaratDims d) { return d.order != KARAT_PHI_W; }
BASIS_FUNCTION bool karat_has_outer(KaratDims d) { return d.order != KARAT_W_PHI; }
BASIS_FUNCTION bool karat_has_weight(KaratDims d) { return d.order != KARAT_PHI_PHI && !d.full_rank; }

BASIS_FUNCTION bool karat_projects_sigma(KaratDims d) { return d.projection != PROJECT_NONE && !d.project_z; }

// Whether sigma is formed, a tile of rows at a time (karat_sigma.h), or out = z (W^T V) at once
static inline bool karat_forms_sigma(KaratDims d) {
    return karat_has_outer(d) || d.full_rank || karat_projects_sigma(d);
}

BASIS_FUNCTION bool karat_in_windows(KaratDims d) { return d.windows.grid > 0; }
BASIS_FUNCTION bool karat_has_regions(KaratDims d) {
    return karat_in_windows(d) && d.windows.shift > 0 && d.mask == KARAT_MASK_REGION;
}

// Which forms work in windows: those whose out is z (W^T V), and where there are regions, linear bases
static inline bool karat_takes_windows(KaratDims d) {
    bool usual = d.order == KARAT_W_PHI && !karat_forms_sigma(d) && !d.project_z;
    return usual && (!karat_has_regions(d) || basis_is_linear(d.basis));
}

// What a literal mask adds to logits. Harmonics cannot distinguish -100 from -100 + 32 pi, with which fp32 keeps more
// digits of A.
BASIS_FUNCTION float karat_literal_mask(KaratDims d) {
    return d.basis == BASIS_FOURIER && d.base == KARAT_BASE_ZERO ? 0.530964915f : WINDOW_MASK;
}

// A coefficient of a unit with its scale folded in: scale_basis_pq coef_pmq, and scale_base_pq for the base's feature,
// the last
BASIS_VALUE float karat_coefficient(KaratOperator w, KaratDims d, int h, int m, int q, int p) {
    size_t unit = (size_t)(h * d.R + p) * d.N + q;
    int count = karat_coefficients(d);
    if (m == count) { return w.scale_base ? w.scale_base[unit] : 1; }
    return (w.scale_basis ? w.scale_basis[unit] : 1) * w.coef[((size_t)(h * d.R + p) * count + m) * d.N + q];
}

// The backward of karat_coefficient: folded is the gradient of what it returns
BASIS_VALUE void karat_coefficient_backward(KaratOperatorGrads grads, KaratOperator w, float folded, KaratDims d,
                                              int h, int m, int q, int p) {
    size_t unit = (size_t)(h * d.R + p) * d.N + q;
    int count = karat_coefficients(d);
    size_t c = ((size_t)(h * d.R + p) * count + m) * d.N + q;
    if (m == count) {
        if (w.scale_base) { grads.scale_base[unit] += folded; }
        return;
    }
    grads.coef[c] += (w.scale_basis ? w.scale_basis[unit] : 1) * folded;
    if (w.scale_basis) { grads.scale_basis[unit] += w.coef[c] * folded; }
}

static inline size_t karat_take(float** pointer, float* base, size_t at, size_t count) { // whole cache lines
    *pointer = base ? base + at : NULL;
    return at + (count + 15) / 16 * 16;
}

typedef struct {               // what one head reads: its folded coefficients, and its part of the tensors
    const float *inner, *outer;
    const float *W, *beta;     // (N,R), (N)
} KaratHead;

typedef struct { float *inner, *outer, *W, *beta, *bias; } KaratSlot; // one head's gradients, over some of the samples
