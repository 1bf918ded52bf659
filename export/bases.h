// The functions of kernels/basis.h as ONNX operations on a tensor of any shape.
#pragma once
#include "../kernels/basis.h"
#include "operations.h"

enum { EXPORT_FEATURES = 2 * 64 }; // the largest --grid is 64

// ---- Features e_m(x) of the linear bases. NULL is 1 everywhere.

static inline void export_harmonics(Graph* g, Value* e, Value x, Basis b) {
    for (int m = 1; m <= b.grid; m++) {
        Value angle = m == 1 ? x : export_scale(g, x, m);
        e[m - 1] = graph_unary(g, "Cos", angle);
        e[b.grid + m - 1] = graph_unary(g, "Sin", angle);
    }
}

static inline void export_powers(Graph* g, Value* e, Value x, Basis b) {
    e[0] = NULL;
    for (int m = 1; m <= b.grid; m++) { e[m] = m == 1 ? x : export_multiply(g, e[m - 1], x); }
}

// T_1 = t = tanh x, T_m = 2t T_(m-1) - T_(m-2)
static inline void export_chebyshev(Graph* g, Value* e, Value x, Basis b) {
    Value t = graph_unary(g, "Tanh", x), twice = export_scale(g, t, 2);
    e[0] = NULL;
    e[1] = t;
    for (int m = 2; m <= b.grid; m++) {
        Value next = export_multiply(g, twice, e[m - 1]);
        e[m] = m == 2 ? export_shift(g, next, -1) : export_subtract(g, next, e[m - 2]);
    }
}

// 1 where x equals c, else 0
static inline Value export_indicator(Graph* g, Value x, double c) {
    Onnx__NodeProto* node = graph_node(g, "Cast", 1, (Value[]){graph_binary(g, "Equal", x, graph_number_of(g, c))}, 1);
    graph_set_int(g, node, "to", ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT);
    return node->output[0];
}

// By Cox and de Boor on knots one apart; spline m begins at m. With t = x - m, which is from 0 to k+1 there,
//     k B_m = t B'_m + (k+1 - t) B'_(m+1),  B' of order k-1
static inline void export_splines(Graph* g, Value* e, Value x, Basis b) {
    int G = b.grid, order = b.order;
    Value place = export_shift(g, export_scale(g, x, G / (2.0 * b.range)), 0.5 * G + order);
    Value cell = graph_unary(g, "Floor", place), t[EXPORT_FEATURES];
    for (int m = 0; m < G + 2 * order; m++) {
        e[m] = export_indicator(g, cell, m);
        t[m] = m == 0 ? place : export_shift(g, place, -m);
    }
    for (int k = 1; k <= order; k++) {
        for (int m = 0; m < G + 2 * order - k; m++) {
            Value own = export_multiply(g, export_scale(g, t[m], 1.0 / k), e[m]);
            Value right = export_multiply(g, export_scale(g, export_minus(g, k + 1, t[m]), 1.0 / k), e[m + 1]);
            e[m] = export_add(g, own, right);
        }
    }
}

// e[0..M) of x
static inline void export_features(Graph* g, Value e[EXPORT_FEATURES], Value x, Basis b) {
    switch (b.kind) {
    case BASIS_FOURIER: export_harmonics(g, e, x, b); break;
    case BASIS_BSPLINE: export_splines(g, e, x, b); break;
    case BASIS_CHEBYSHEV: export_chebyshev(g, e, x, b); break;
    case BASIS_POLYNOMIAL: export_powers(g, e, x, b); break;
    case BASIS_RATIONAL: case BASIS_MEXICAN_HAT: case BASIS_MORLET: case BASIS_DOG: case BASIS_MEYER:
    case BASIS_SHANNON: case BASIS_SECH: case BASIS_COUNT: break; // not linear in their coefficients
    }
}

// ---- Wavelets

static inline Value export_mexican_hat(Graph* g, Value x) {
    Value hat = export_minus(g, 1, export_multiply(g, x, x));
    return export_scale(g, export_multiply(g, hat, export_bell(g, x)), 0.86732507058407751);
}

static inline Value export_morlet(Graph* g, Value x) {
    return export_multiply(g, graph_unary(g, "Cos", export_scale(g, x, 5)), export_bell(g, x));
}

static inline Value export_dog(Graph* g, Value x) { return export_multiply(g, x, export_bell(g, x)); }

// sin(π|x|) cos(π/2 ν(2|x|-1)); ν is 0 up to 0 and 1 from 1 on, where the cosine is 0
static inline Value export_meyer(Graph* g, Value x) {
    const double pi = 3.14159265358979323846;
    Value a = export_absolute(g, x), t = export_shift(g, export_scale(g, a, 2), -1), c[5];
    t = graph_binary(g, "Min", graph_binary(g, "Max", t, graph_number_of(g, 0)), graph_number_of(g, 1));
    const double nu[] = {35, -84, 70, -20};
    for (int i = 0; i < 4; i++) { c[i] = graph_number_of(g, nu[i]); }
    Value square = export_multiply(g, t, t), rest = export_polynomial(g, t, c, 3);
    Value window = export_scale(g, export_multiply(g, export_multiply(g, square, square), rest), pi / 2);
    return export_multiply(g, graph_unary(g, "Sin", export_scale(g, a, pi)), graph_unary(g, "Cos", window));
}

// sin(x)/x; 1 - x²/6 near 0, where that is 0/0
static inline Value export_shannon(Graph* g, Value x) {
    Value small = graph_binary(g, "Less", export_absolute(g, x), graph_number_of(g, 1e-2));
    Value series = export_minus(g, 1, export_scale(g, export_multiply(g, x, x), 1 / 6.0));
    Value divisor = graph_choose(g, small, graph_number_of(g, 1), x);
    return graph_choose(g, small, series, export_divide(g, graph_unary(g, "Sin", x), divisor));
}

// 2t / (1 + t²), t = e^-|x|
static inline Value export_sech(Graph* g, Value x) {
    Value t = export_exp(g, graph_unary(g, "Neg", export_absolute(g, x)));
    return export_divide(g, export_scale(g, t, 2), export_shift(g, export_multiply(g, t, t), 1));
}

static inline Value export_wavelet(Graph* g, Value x, KaratBasis kind) {
    switch (kind) {
    case BASIS_MEXICAN_HAT: return export_mexican_hat(g, x);
    case BASIS_MORLET: return export_morlet(g, x);
    case BASIS_DOG: return export_dog(g, x);
    case BASIS_MEYER: return export_meyer(g, x);
    case BASIS_SHANNON: return export_shannon(g, x);
    case BASIS_SECH: return export_sech(g, x);
    case BASIS_FOURIER: case BASIS_RATIONAL: case BASIS_BSPLINE: case BASIS_CHEBYSHEV: case BASIS_POLYNOMIAL:
    case BASIS_COUNT: break; // not wavelets
    }
    return NULL;
}

static inline Value export_base_function(Graph* g, Value x, KaratBase base) {
    switch (base) {
    case KARAT_BASE_IDENTITY: return x;
    case KARAT_BASE_SILU: return export_silu(g, x);
    case KARAT_BASE_GELU: return export_gelu(g, x);
    case KARAT_BASE_ZERO: break;
    }
    return NULL;
}
