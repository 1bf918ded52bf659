// The group rational of GR-KAN (Yang & Wang, Kolmogorov-Arnold Transformer, arXiv 2409.10594, section 4):
//
//     F(x) = P(x) / Q(x),   P(x) = a0 + a1 x + ... + am x^m
//     form A      Q(x) = 1 + |b1||x| + ... + |bn||x|^n       what the released models and their kernels compute
//     form paper  Q(x) = 1 + |b1 x + ... + bn x^n|           equation 12 of the paper
//
// The C channels are split into contiguous groups: one numerator (1, m+1) for all, a denominator (groups, n) for each.
// Both are Q = 1 + |S(y)| with S(y) = β1 y + ... + βn y^n: form A has y = |x|, β = |b|; form paper y = x, β = b.
//
// Backward, with t = dout / Q:
//     dx   = t (P'(x) - F Q'(x)),   Q'(x) = sgn(x) S'(|x|) in form A, sgn(S) S'(x) in form paper
//     da_i = Σ t x^i                over all rows and channels
//     db_j = Σ -t F dQ/db_j         over the group's channels; dQ/db_j = sgn(b_j) |x|^j, or sgn(S) x^j
// |.| has no derivative at 0; sgn(0) = +1 there, so that denominators can move away from a start at zero.
#pragma once
#include "lanes.h"
#include "partials.h"
#include "rational_shape.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

// c0 + c1 x + ... by Horner, and its derivative
ALWAYS_INLINE Lanes polynomial(Lanes x, const float* c, int degree, Lanes* derivative) {
    *derivative = (Lanes){0};
    if (degree == 0) { return splat(c[0]); }
    Lanes slope = splat(c[degree]), value = slope * x + c[degree - 1];
    UNROLLED_FEW
    for (int i = degree - 2; i >= 0; i--) {
        slope = slope * x + value;
        value = value * x + c[i];
    }
    *derivative = slope;
    return value;
}

typedef struct {
    Lanes value;      // F
    Lanes reciprocal; // 1/Q
    Lanes slope;      // Q F' = P' - F Q'
    Lanes s;          // S
} RationalPoint;

// beta: |b| in form A, b in form paper; y: the argument of S, |x| or x
ALWAYS_INLINE RationalPoint rational_at(Lanes x, Lanes y, const float* a, const float* beta, RationalShape s) {
    Lanes dP, dR = {0}, R = {0}; // S(y) = y R(y)
    Lanes P = polynomial(x, a, s.m, &dP);
    if (s.n > 0) { R = polynomial(y, beta, s.n - 1, &dR); }
    Lanes S = R * y, dS = R + y * dR;
    Lanes reciprocal = 1 / (1 + lanes_abs(S));
    Lanes F = P * reciprocal;
    Lanes dQ = negate_where_negative(dS, s.form == RATIONAL_FORM_A ? x : S);
    return (RationalPoint){F, reciprocal, dP - F * dQ, S};
}

ALWAYS_INLINE Lanes rational_argument(Lanes x, RationalForm form) { return form == RATIONAL_FORM_A ? lanes_abs(x) : x; }

// The W channels of one group in several rows, which are C apart
typedef struct {
    const float* a;
    float beta[RATIONAL_MAX_ORDER];
    int rows, C, W;
} RationalGroup;

static inline RationalGroup rational_group(const float* a, const float* b, int rows, int C, RationalShape s) {
    RationalGroup g = {.a = a, .rows = rows, .C = C, .W = C / s.groups};
    for (int j = 0; j < s.n; j++) { g.beta[j] = s.form == RATIONAL_FORM_A ? fabsf(b[j]) : b[j]; }
    return g;
}

// The orders of the released models are compiled separately: as literals they unroll every loop.
static const RationalShape USUAL_FORM_A = {5, 4, 0, RATIONAL_FORM_A}, USUAL_FORM_PAPER = {5, 4, 0, RATIONAL_FORM_PAPER};

static inline bool rational_is(RationalShape s, RationalShape usual) {
    return s.m == usual.m && s.n == usual.n && s.form == usual.form;
}

// A group is a narrow column of its rows, too short for the hardware to detect the stride: later rows are prefetched.
// That address may be past the buffer, which does no harm; it is an integer, since no pointer may point there.
enum { PREFETCH_ROWS = 4 };

#define PREFETCH(p, C, for_write) \
    __builtin_prefetch((const void*)((uintptr_t)(p) + sizeof(float) * PREFETCH_ROWS * (C)), for_write)

// count lanes of a row. What follows them may be read if later rows have enough numbers.
ALWAYS_INLINE Lanes rational_load(const float* x, int count, int row, const RationalGroup* g) {
    bool readable = (g->rows - 1 - row) * g->C >= LANES;
    return count < LANES && readable ? load_first_lanes(x, count) : load_lanes(x, count);
}

ALWAYS_INLINE void rational_forward_lanes(float* out, const float* inp, int count, int row, const RationalGroup* g,
                                          RationalShape s) {
    PREFETCH(inp, g->C, 0);
    Lanes x = rational_load(inp, count, row, g);
    store_lanes(out, rational_at(x, rational_argument(x, s.form), g->a, g->beta, s).value, count);
}

ALWAYS_INLINE void rational_forward_rows(float* out, const float* inp, const RationalGroup* g, RationalShape s) {
    for (int row = 0; row < g->rows; row++, out += g->C, inp += g->C) {
        int c = 0;
        for (; c + LANES <= g->W; c += LANES) { rational_forward_lanes(out + c, inp + c, LANES, row, g, s); }
        if (c < g->W) { rational_forward_lanes(out + c, inp + c, g->W - c, row, g, s); }
    }
}

static inline void rational_forward_group(float* out, const float* inp, const RationalGroup* g, RationalShape s) {
    if (rational_is(s, USUAL_FORM_A)) {
        rational_forward_rows(out, inp, g, USUAL_FORM_A);
    } else if (rational_is(s, USUAL_FORM_PAPER)) {
        rational_forward_rows(out, inp, g, USUAL_FORM_PAPER);
    } else {
        rational_forward_rows(out, inp, g, s);
    }
}

static inline void rational_forward(float* out, const float* inp, const float* numerator, const float* denominator,
                                    int rows, int C, RationalShape s) {
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < part_count(rows); part++) {
        for (int group = 0; group < s.groups; group++) {
            RationalGroup g = rational_group(numerator, denominator + group * s.n, part_length(rows, part), C, s);
            size_t at = (size_t)part * PART_ROWS * C + group * g.W;
            rational_forward_group(out + at, inp + at, &g, s);
        }
    }
}

// sum_a (m+1), sum_b (n) +=
ALWAYS_INLINE void rational_backward_lanes(float* dinp, Lanes* sum_a, Lanes* sum_b, const float* dout, const float* inp,
                                           int count, int row, const RationalGroup* g, RationalShape s) {
    PREFETCH(inp, g->C, 0);
    PREFETCH(dout, g->C, 0);
    PREFETCH(dinp, g->C, 1);
    Lanes x = rational_load(inp, count, row, g);
    RationalPoint f = rational_at(x, rational_argument(x, s.form), g->a, g->beta, s);
    Lanes t = rational_load(dout, count, row, g) * f.reciprocal, u = -t * f.value;
    store_lanes(dinp, t * f.slope, count);
    if (s.form == RATIONAL_FORM_PAPER) { u = negate_where_negative(u, f.s); }
    sum_a[0] += t;
    Lanes power = x;
    UNROLLED_FEW
    for (int i = 1; i <= (s.m > s.n ? s.m : s.n); i++, power *= x) {
        if (i <= s.m) { sum_a[i] += t * power; }
        if (i <= s.n) { sum_b[i - 1] += u * rational_argument(power, s.form); }
    }
}

// da (m+1), db (n) +=
ALWAYS_INLINE void rational_backward_rows(float* dinp, float* da, float* db, const float* dout, const float* inp,
                                          const RationalGroup* g, RationalShape s) {
    Lanes sum_a[RATIONAL_MAX_ORDER + 1] = {{0}}, sum_b[RATIONAL_MAX_ORDER + 1] = {{0}};
    for (int row = 0; row < g->rows; row++, dinp += g->C, dout += g->C, inp += g->C) {
        int c = 0;
        for (; c + LANES <= g->W; c += LANES) {
            rational_backward_lanes(dinp + c, sum_a, sum_b, dout + c, inp + c, LANES, row, g, s);
        }
        if (c < g->W) { rational_backward_lanes(dinp + c, sum_a, sum_b, dout + c, inp + c, g->W - c, row, g, s); }
    }
    for (int i = 0; i <= s.m; i++) { da[i] += lanes_sum(sum_a[i]); }
    for (int j = 0; j < s.n; j++) { db[j] += lanes_sum(sum_b[j]); }
}

static inline void rational_backward_group(float* dinp, float* da, float* db, const float* dout, const float* inp,
                                           const RationalGroup* g, RationalShape s) {
    if (rational_is(s, USUAL_FORM_A)) {
        rational_backward_rows(dinp, da, db, dout, inp, g, USUAL_FORM_A);
    } else if (rational_is(s, USUAL_FORM_PAPER)) {
        rational_backward_rows(dinp, da, db, dout, inp, g, USUAL_FORM_PAPER);
    } else {
        rational_backward_rows(dinp, da, db, dout, inp, g, s);
    }
}

// A row of coefficient sums (m+1, then groups*n) for each part, and one for their total
static inline size_t rational_scratch(int rows, int C, RationalShape s) {
    (void)C;
    return (size_t)(part_count(rows) + 1) * rational_coefficients(s);
}

// out = P(inp) / Q(inp): dinp =, dnumerator +=, ddenominator +=; dinp may be dout
static inline void rational_backward(float* dinp, float* dnumerator, float* ddenominator, const float* dout,
                                     const float* inp, const float* numerator, const float* denominator, float* scratch,
                                     int rows, int C, RationalShape s) {
    int parts = part_count(rows), K = rational_coefficients(s);
    memset(scratch, 0, rational_scratch(rows, C, s) * sizeof(float));
    #pragma omp parallel for schedule(static)
    for (int part = 0; part < parts; part++) {
        float *da = scratch + (size_t)part * K, *db = da + s.m + 1;
        for (int group = 0; group < s.groups; group++, db += s.n) {
            RationalGroup g = rational_group(numerator, denominator + group * s.n, part_length(rows, part), C, s);
            size_t at = (size_t)part * PART_ROWS * C + group * g.W;
            rational_backward_group(dinp + at, da, db, dout + at, inp + at, &g, s);
        }
    }
    float *da = scratch + (size_t)parts * K, *db = da + s.m + 1;
    add_partials(da, scratch, parts, K);
    for (int i = 0; i <= s.m; i++) { dnumerator[i] += da[i]; }
    for (int j = 0; j < s.groups * s.n; j++) {
        bool flip = s.form == RATIONAL_FORM_A && denominator[j] < 0; // d|b|/db = sgn(b)
        ddenominator[j] += flip ? -db[j] : db[j];
    }
}
