// The parts of layers, as ONNX operations of operator set 17: shapes, products, and functions of every element.
#pragma once
#include "graph.h"

#define INTEGERS(g, ...) graph_integers(g, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), (int64_t[]){__VA_ARGS__})

// ---- Shapes. Batches may be of any size: the first dimension is always kept.

static inline Value export_reshape(Graph* g, Value x, Value shape) { return graph_binary(g, "Reshape", x, shape); }

static inline Value export_transpose(Graph* g, Value x, int rank, const int64_t* order) {
    Onnx__NodeProto* node = graph_node(g, "Transpose", 1, &x, 1);
    graph_set_ints(g, node, "perm", rank, order);
    return node->output[0];
}

// (.., A, B) to (.., B, A), of rank 2 to 4
static inline Value export_swap(Graph* g, Value x, int rank) {
    int64_t order[] = {0, 1, 2, 3};
    order[rank - 2] = rank - 1;
    order[rank - 1] = rank - 2;
    return export_transpose(g, x, rank, order);
}

// parts along an axis, whose lengths are `sizes`; they are node->output[0..]
static inline Onnx__NodeProto* export_split(Graph* g, Value x, int axis, int parts, const int64_t* sizes) {
    Onnx__NodeProto* node = graph_node(g, "Split", 2, (Value[]){x, graph_integers(g, parts, sizes)}, parts);
    graph_set_int(g, node, "axis", axis);
    return node;
}

static inline Value export_concat(Graph* g, int count, const Value* parts, int axis) {
    if (count == 1) { return parts[0]; }
    Onnx__NodeProto* node = graph_node(g, "Concat", count, parts, 1);
    graph_set_int(g, node, "axis", axis);
    return node->output[0];
}

// x[from..to) along an axis
static inline Value export_slice(Graph* g, Value x, int axis, int from, int to) {
    Value inputs[] = {x, INTEGERS(g, from), INTEGERS(g, to), INTEGERS(g, axis)};
    return graph_node(g, "Slice", 4, inputs, 1)->output[0];
}

// ---- Arithmetic

static inline Value export_add(Graph* g, Value x, Value y) { return graph_binary(g, "Add", x, y); }
static inline Value export_subtract(Graph* g, Value x, Value y) { return graph_binary(g, "Sub", x, y); }
static inline Value export_multiply(Graph* g, Value x, Value y) { return graph_binary(g, "Mul", x, y); }
static inline Value export_divide(Graph* g, Value x, Value y) { return graph_binary(g, "Div", x, y); }
static inline Value export_product(Graph* g, Value x, Value y) { return graph_binary(g, "MatMul", x, y); } // matrices
static inline Value export_absolute(Graph* g, Value x) { return graph_unary(g, "Abs", x); }
static inline Value export_scale(Graph* g, Value x, double by) { return export_multiply(g, x, graph_number_of(g, by)); }
static inline Value export_shift(Graph* g, Value x, double by) { return export_add(g, x, graph_number_of(g, by)); }
static inline Value export_exp(Graph* g, Value x) { return graph_unary(g, "Exp", x); }

// by - x
static inline Value export_minus(Graph* g, double by, Value x) { return export_subtract(g, graph_number_of(g, by), x); }

// sum + x; NULL: an empty sum
static inline Value export_sum(Graph* g, Value sum, Value x) { return sum ? export_add(g, sum, x) : x; }

// Over the last axis, which stays with one element
static inline Value export_row_sum(Graph* g, Value x) { return graph_binary(g, "ReduceSum", x, INTEGERS(g, -1)); }

// c_0 + c_1 x + .. + c_degree x^degree by Horner; the coefficients broadcast to x
static inline Value export_polynomial(Graph* g, Value x, const Value* c, int degree) {
    Value sum = c[degree];
    for (int i = degree - 1; i >= 0; i--) { sum = export_add(g, export_multiply(g, sum, x), c[i]); }
    return sum;
}

// P(x) / (1 + |y R(y)|), P of degree m with coefficients a, R of degree n - 1 with b
static inline Value export_rational(Graph* g, Value x, Value y, const Value* a, int m, const Value* b, int n) {
    Value P = export_polynomial(g, x, a, m);
    if (n == 0) { return P; }
    Value S = export_multiply(g, export_polynomial(g, y, b, n - 1), y);
    return export_divide(g, P, export_shift(g, export_absolute(g, S), 1));
}

// ---- Functions of every element

static inline Value export_relu(Graph* g, Value x) { return graph_unary(g, "Relu", x); }
static inline Value export_sigmoid(Graph* g, Value x) { return graph_unary(g, "Sigmoid", x); }
static inline Value export_silu(Graph* g, Value x) { return export_multiply(g, x, export_sigmoid(g, x)); }
static inline Value export_softplus(Graph* g, Value x) { return graph_unary(g, "Softplus", x); }

// x (1 + erf(x/√2)) / 2: the operator Gelu exists only from set 20 on
static inline Value export_gelu(Graph* g, Value x) {
    Value erf = graph_unary(g, "Erf", export_scale(g, x, 0.70710678118654752));
    return export_multiply(g, export_scale(g, x, 0.5), export_shift(g, erf, 1));
}

// e^(-x²/2)
static inline Value export_bell(Graph* g, Value x) {
    return export_exp(g, export_scale(g, export_multiply(g, x, x), -0.5));
}
