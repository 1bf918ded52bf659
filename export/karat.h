// Kolmogorov-Arnold attention (kernels/karat.h) in its fused form: no tensor has N x N x r elements. If functions are
// linear in their coefficients, z is the sum over the features e_m of the products e_m(A) C_m, with C_m (H,N,r), into
// which the scales are folded; other units are added up one p of the r at a time. sigma is formed only if an operation
// needs it. The folded coefficients are separate initialisers, named after the operator and
//     .folded.M     C_m (H,N,r), or (H,r,N) of an outer operator; summed over the inputs if the feature is 1 everywhere
//     .unit.P.M     coefficient M of the functions of p (H,1,N)
// In windows all tensors have an axis of windows before that of heads.
#pragma once
#include "../kernels/karat_units.h"
#include "bases.h"
#include "windows.h"

typedef struct {
    char name[GRAPH_NAME];
    KaratOperator w;
    KaratDims d;
    bool outer;    // from z to sigma, otherwise from logits to z
    Value meet;    // in windows of several regions: 1 if query and key are in the same (windows,1,N,N), else 0. NULL: 1
} ExportedOperator;

// The start of its tensors' names, whether it belongs to all blocks, to a stage or to a block
static const char* export_operator_row(const Export* e) {
    bool block = e->m->config.karat_mode == KARAT_BLOCK;
    return block ? "blocks.%d.attn.karat" : e->m->config.window ? "layers.%d.karat" : "karat";
}

static ExportedOperator export_operator(Export* e, KaratParams params, KaratDims d, bool outer) {
    ExportedOperator o = {.w = outer ? params.outer : params.inner, .d = d, .outer = outer};
    char name[NAME_SIZE];
    export_name(e, export_operator_row(e), name);
    snprintf(o.name, sizeof o.name, "%s%s", name, outer && d.order == KARAT_PHI_PHI ? ".outer" : "");
    if (karat_has_regions(d)) { o.meet = export_window_pairs(e, "meet", 1, 0); }
    return o;
}

static float export_coefficient(const ExportedOperator* o, int h, int m, int from, int to) {
    return karat_coefficient(o->w, o->d, h, m, o->outer ? to : from, o->outer ? from : to);
}

// C_m; added up over all inputs if `summed`
static Value export_folded(Export* e, const ExportedOperator* o, int m, bool summed) {
    int H = o->d.H, inputs = o->outer ? o->d.R : o->d.N, outputs = o->outer ? o->d.N : o->d.R;
    char name[2 * GRAPH_NAME];
    float* data;
    snprintf(name, sizeof name, "%s.folded.%d", o->name, m);
    Value C = graph_new_tensor(&e->graph, name, 3, (int64_t[]){H, summed ? 1 : inputs, outputs}, &data);
    for (int h = 0; data && h < H; h++) {
        float* head = data + (size_t)h * (summed ? 1 : inputs) * outputs;
        for (int to = 0; to < outputs; to++) {
            double sum = 0;
            for (int from = 0; from < inputs; from++) {
                float c = export_coefficient(o, h, m, from, to);
                sum += c;
                if (!summed) { head[(size_t)from * outputs + to] = c; }
            }
            if (summed) { head[to] = (float)sum; }
        }
    }
    return C;
}

// The feature if query and key may meet, else 0; NULL is 1
static Value export_met(Export* e, const ExportedOperator* o, Value feature) {
    if (!o->meet) { return feature; }
    return feature ? export_multiply(&e->graph, feature, o->meet) : o->meet;
}

// Σ_m e_m(x) C_m
static Value export_linear_basis(Export* e, const ExportedOperator* o, Value x) {
    Value feature[EXPORT_FEATURES], sum = NULL;
    export_features(&e->graph, feature, x, karat_basis(o->d));
    for (int m = 0; m < karat_coefficients(o->d); m++) {
        Value met = export_met(e, o, feature[m]), C = export_folded(e, o, m, !met);
        sum = export_sum(&e->graph, sum, met ? export_product(&e->graph, met, C) : C);
    }
    return sum;
}

// ---- Units with parameters of their own

// theta[0..M), each (H,1,N), of the functions of p
static void export_unit_coefficients(Export* e, const ExportedOperator* o, const float* folded, int p, Value* theta) {
    int H = o->d.H, N = o->d.N;
    size_t head = karat_units_coefs(o->d), row = karat_units_row(o->d);
    for (int m = 0; m < karat_coefficients(o->d); m++) {
        char name[2 * GRAPH_NAME];
        float* data;
        snprintf(name, sizeof name, "%s.unit.%d.%d", o->name, p, m);
        theta[m] = graph_new_tensor(&e->graph, name, 3, (int64_t[]){H, 1, N}, &data);
        for (int h = 0; data && h < H; h++) {
            memcpy(data + (size_t)h * N, folded + h * head + p * row + (size_t)m * N, (size_t)N * sizeof *data);
        }
    }
}

// The functions phi_pq of p at x, which is (B,H,NQ,N) or (B,H,NQ,1)
static Value export_unit(Export* e, const ExportedOperator* o, Value x, const Value* theta) {
    Graph* g = &e->graph;
    if (o->d.basis == BASIS_RATIONAL) {
        return export_rational(g, x, x, theta, RATIONAL_UNIT_NUMERATOR - 1, theta + RATIONAL_UNIT_NUMERATOR,
                               RATIONAL_UNIT_DENOMINATOR);
    }
    Value shifted = export_multiply(g, export_subtract(g, x, theta[1]), theta[2]);
    return export_multiply(g, export_wavelet(g, shifted, o->d.basis), theta[0]);
}

// Inner: z_p = Σ_q phi_pq(x_q), one p after the other. Outer: sigma = Σ_p phi_p(z_p)
static Value export_units(Export* e, const ExportedOperator* o, Value x) {
    Graph* g = &e->graph;
    int R = o->d.R;
    size_t head = karat_units_coefs(o->d);
    float* folded = alloc_floats(o->d.H * head, "an ONNX graph");
    Value sum = NULL, *z = alloc_array(Value, R, "an ONNX graph"), theta[RATIONAL_UNIT_NUMERATOR + RATIONAL_UNIT_DENOMINATOR];
    for (int h = 0; h < o->d.H; h++) { karat_units_fold(folded + h * head, o->w, o->d, h); }
    for (int p = 0; p < R; p++) {
        char part[NAME_SIZE];
        graph_part(g, "%s.%s.%d", export_name(e, "blocks.%d.attn.karat", part), o->outer ? "outer" : "inner", p);
        export_unit_coefficients(e, o, folded, p, theta);
        Value phi = export_unit(e, o, o->outer ? export_slice(g, x, -1, p, p + 1) : x, theta);
        if (o->outer) { sum = export_sum(g, sum, phi); } else { z[p] = export_row_sum(g, phi); }
    }
    export_part(e, "blocks.%d.attn.karat");
    Value all = o->outer ? sum : export_concat(g, R, z, -1);
    free(folded);
    free(z);
    return all;
}

// The operator's values of x, including the base activation's part
static Value export_operator_values(Export* e, const ExportedOperator* o, Value x) {
    Graph* g = &e->graph;
    Value values = basis_is_linear(o->d.basis) ? export_linear_basis(e, o, x) : export_units(e, o, x);
    if (o->d.base == KARAT_BASE_ZERO) { return values; }
    Value C = export_folded(e, o, karat_coefficients(o->d), false);
    Value base = export_met(e, o, export_base_function(g, x, o->d.base));
    return export_add(g, values, export_product(g, base, C));
}

// ---- Projections of rows of n numbers (kernels/simplex.h), by sorting: with u the row in descending order, tau is
// (u_1 + .. + u_k - 1) / k for the largest k with k u_k > u_1 + .. + u_k - 1; these u come first.

static Value export_simplex(Graph* g, Value x, int n) {
    Onnx__NodeProto* highest = graph_node(g, "ReduceMax", 1, &x, 1);
    graph_set_ints(g, highest, "axes", 1, (int64_t[]){-1});
    Value below = export_subtract(g, x, highest->output[0]);
    Value u = graph_node(g, "TopK", 2, (Value[]){below, INTEGERS(g, n)}, 2)->output[0];
    Value excess = export_shift(g, graph_binary(g, "CumSum", u, graph_integer(g, -1)), -1), rank, zero;
    char name[64];
    float* data;
    snprintf(name, sizeof name, "ranks.%d", n);
    rank = graph_new_tensor(g, name, 1, (int64_t[]){n}, &data);
    for (int i = 0; data && i < n; i++) { data[i] = (float)(i + 1); }
    zero = graph_number_of(g, 0);
    Value kept = graph_binary(g, "Greater", export_multiply(g, u, rank), excess);
    Value count = export_row_sum(g, graph_choose(g, kept, graph_number_of(g, 1), zero));
    Value tau = export_divide(g, export_shift(g, export_row_sum(g, graph_choose(g, kept, u, zero)), -1), count);
    return export_relu(g, export_subtract(g, below, tau));
}

static Value export_l1(Graph* g, Value x, int n) {
    Value size = export_absolute(g, x), one = graph_number_of(g, 1);
    Value inside = graph_binary(g, "LessOrEqual", export_row_sum(g, size), one);
    return graph_choose(g, inside, x, export_multiply(g, graph_unary(g, "Sign", x), export_simplex(g, size, n)));
}

static Value export_projection(Graph* g, Value x, Projection kind, int n) {
    switch (kind) {
    case PROJECT_SIMPLEX: return export_simplex(g, x, n);
    case PROJECT_L1: return export_l1(g, x, n);
    case PROJECT_NONE: break;
    }
    return x;
}

// ---- Attention

// sigma (B,H,NQ,N), projected
static Value export_sigma(Export* e, KaratParams params, KaratDims d, Value z, Value W, Value beta) {
    Graph* g = &e->graph;
    Value sigma = z;
    if (karat_has_outer(d)) {
        ExportedOperator outer = export_operator(e, params, d, true);
        sigma = export_operator_values(e, &outer, z);
    } else if (!d.full_rank) {
        sigma = export_product(g, z, export_swap(g, W, 3));
    }
    if (beta) { sigma = export_add(g, sigma, beta); }
    return export_projection(g, sigma, karat_projects_sigma(d) ? d.projection : PROJECT_NONE, d.N);
}

// z (B,H,NQ,R) of queries (B,H,NQ,D), scaled, and keys (B,H,D,N)
static Value export_z(Export* e, KaratParams params, KaratDims d, Value q, Value k, Value W, int first_head) {
    Graph* g = &e->graph;
    Value z;
    if (karat_has_inner(d)) {
        ExportedOperator inner = export_operator(e, params, d, false);
        float mask = d.windows.shift && d.mask == KARAT_MASK_LITERAL ? karat_literal_mask(d) : 0;
        z = export_operator_values(e, &inner, export_logits(e, q, k, first_head, d.H, mask));
    } else {
        z = export_product(g, q, export_product(g, k, W));
    }
    return export_projection(g, z, d.project_z ? d.projection : PROJECT_NONE, d.R);
}

// z (W^T V) + 1 (beta^T V): sigma V, without sigma
static Value export_fused_values(Export* e, Value z, Value v, Value W, Value beta, KaratDims d) {
    Graph* g = &e->graph;
    Value out = export_product(g, z, export_product(g, export_swap(g, W, 3), v));
    return beta ? export_add(g, out, export_product(g, export_reshape(g, beta, INTEGERS(g, 1, d.N)), v)) : out;
}

// The same in windows of several regions, each with its own tokens only
static Value export_values_by_region(Export* e, Value z, Value v, Value W, Value beta, KaratDims d) {
    Graph* g = &e->graph;
    Value sum = NULL;
    for (int r = 0; r < WINDOW_REGIONS; r++) {
        Value places = export_window_region(e, r);
        Value out = export_fused_values(e, z, export_multiply(g, v, places), W, beta, d);
        sum = export_sum(g, sum, export_multiply(g, out, places));
    }
    return sum;
}

static Value export_operator_weight(Export* e, const char* name) {
    return export_layer_weight(e, export_operator_row(e), name);
}

// (B,H,NQ,D) of queries (B,H,NQ,D), scaled, keys (B,H,D,N) and values (B,H,N,D), for the block's heads from first_head
static Value export_karat(Export* e, Value q, Value k, Value v, int first_head) {
    KaratDims d = karat_dims(e->m, e->d, 1);
    KaratParams params = karat_params(export_params(e), NULL, d);
    export_part(e, "blocks.%d.attn.karat");
    Value W = export_operator_weight(e, "proj.weight"), beta = export_operator_weight(e, "proj.bias");
    Value z = export_z(e, params, d, q, k, W, first_head);
    if (karat_forms_sigma(d)) { return export_product(&e->graph, export_sigma(e, params, d, z, W, beta), v); }
    return (karat_has_regions(d) ? export_values_by_region : export_fused_values)(e, z, v, W, beta, d);
}
