// The MLP of every kind (--mlp) as ONNX operations.
#pragma once
#include "bases.h"
#include "layers.h"

// ---- GR-KAN's rational (kernels/rational.h)

// Coefficient j of each channel's group, as used by the form, (C)
static Value export_group_coefficient(Export* e, const char* layer, const float* b, int j, int C) {
    RationalShape s = rational_shape(&e->m->config);
    char part[NAME_SIZE], name[GRAPH_NAME];
    float* data;
    snprintf(name, sizeof name, "%s.denominator.%d", export_name(e, layer, part), j + 1);
    Value value = graph_new_tensor(&e->graph, name, 1, (int64_t[]){C}, &data);
    for (int c = 0; data && c < C; c++) {
        float own = b[c / (C / s.groups) * s.n + j];
        data[c] = s.form == RATIONAL_FORM_A ? fabsf(own) : own;
    }
    return value;
}

// x (B,NQ,C) with the numerator (m+1) and the denominators (groups,n) of a layer
static Value export_group_rational(Export* e, Value x, const char* layer, const float* a, const float* b, int C) {
    Graph* g = &e->graph;
    RationalShape s = rational_shape(&e->m->config);
    Value numerator[RATIONAL_MAX_ORDER + 1], denominator[RATIONAL_MAX_ORDER];
    export_part(e, layer);
    for (int i = 0; i <= s.m; i++) { numerator[i] = graph_number_of(g, a[i]); }
    for (int j = 0; j < s.n; j++) { denominator[j] = export_group_coefficient(e, layer, b, j, C); }
    Value y = s.form == RATIONAL_FORM_A && s.n > 0 ? export_absolute(g, x) : x;
    return export_rational(g, x, y, numerator, s.m, denominator, s.n);
}

// ---- KAN layers (kernels/kan.h)

// Σ_m B_m(x) S_m^T + silu(x) W^T + bias; splines (OC,C,M) of weights
static Value export_kan_layer(Export* e, Value x, const char* layer, const float* splines, int C, int OC) {
    Graph* g = &e->graph;
    Basis basis = kan_basis(&e->m->config);
    int M = basis_coefficients(basis);
    Value feature[EXPORT_FEATURES], sum = export_linear(e, export_silu(g, x), layer);
    export_features(g, feature, x, basis);
    for (int m = 0; m < M; m++) {
        char part[NAME_SIZE], name[GRAPH_NAME];
        float* data;
        snprintf(name, sizeof name, "%s.spline_weight.%d", export_name(e, layer, part), m);
        Value S = graph_new_tensor(g, name, 2, (int64_t[]){C, OC}, &data);
        for (int i = 0; data && i < C * OC; i++) { data[i] = splines[((size_t)(i % OC) * C + i / OC) * M + m]; }
        sum = export_add(g, sum, export_product(g, feature[m], S));
    }
    return sum;
}

// ---- By kind

static Value export_prelu(Export* e, Value x) {
    return graph_binary(&e->graph, "PRelu", x, export_weight(e, "blocks.%d.mlp.act.weight"));
}

// The activation between the two linear layers
static Value export_activation(Export* e, Value x) {
    Graph* g = &e->graph;
    Params p = export_params(e);
    int F = e->d.F;
    export_part(e, "blocks.%d.mlp.act");
    switch (e->m->config.mlp) {
    case ACTIVATION_GELU: return export_gelu(g, x);
    case ACTIVATION_RELU: return export_relu(g, x);
    case ACTIVATION_SILU: return export_silu(g, x);
    case ACTIVATION_SOFTPLUS: return export_softplus(g, x);
    case MLP_PRELU: return export_prelu(e, x);
    case MLP_RATIONAL: return export_group_rational(e, x, "blocks.%d.mlp.act", p.numerator2, p.denominator2, F);
    case MLP_GR_KAN: return export_group_rational(e, x, "blocks.%d.mlp.act2", p.numerator2, p.denominator2, F);
    }
    return NULL;
}

// (B,NQ,C) to (B,NQ,C)
static Value export_mlp(Export* e, Value x) {
    Params p = export_params(e);
    int C = e->d.C, F = e->d.F, mlp = e->m->config.mlp;
    if (mlp == MLP_KAN) {
        Value hidden = export_kan_layer(e, x, "blocks.%d.mlp.fc1", p.fc1_spline, C, F);
        return export_kan_layer(e, hidden, "blocks.%d.mlp.fc2", p.fc2_spline, F, C);
    }
    if (mlp == MLP_GR_KAN) { x = export_group_rational(e, x, "blocks.%d.mlp.act1", p.numerator1, p.denominator1, C); }
    return export_linear(e, export_activation(e, export_linear(e, x, "blocks.%d.mlp.fc1")), "blocks.%d.mlp.fc2");
}
