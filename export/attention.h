// Attention of every kind (--attn) as ONNX operations, as kernels/attention*.h have it.
#pragma once
#include "karat.h"

// Queries (B,h,NQ,D), divided by sqrt(D), keys (B,h,D,N) and values (B,h,N,D) of h of the heads
typedef struct { Value q, k, v; } HeadValues;

// (B,N,C) to (B,H,N,D)
static Value export_heads(Export* e, Value x) {
    Dims d = e->m->dims;
    Value rows = export_reshape(&e->graph, x, INTEGERS(&e->graph, 0, d.N, d.H, d.D));
    return export_transpose(&e->graph, rows, 4, (int64_t[]){0, 2, 1, 3});
}

static HeadValues export_qkv(Export* e, Value x) {
    Graph* g = &e->graph;
    Dims d = e->m->dims;
    Value qkv = export_block_linear(e, x, "attn.qkv");
    graph_part(g, "blocks.%d.attn", e->block);
    char** part = export_split(g, qkv, 2, 3, (int64_t[]){d.C, d.C, d.C})->output;
    Value q = export_queries(e, export_heads(e, part[0]), 2), k = export_heads(e, part[1]), v = export_heads(e, part[2]);
    return (HeadValues){export_scale(g, q, 1 / sqrt(d.D)), export_swap(g, k, 4), v};
}

static Value export_softmax_weights(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value logits = export_product(g, x.q, x.k);
    Onnx__NodeProto* node = graph_node(g, "Softmax", 1, &logits, 1);
    graph_set_int(g, node, "axis", -1);
    return node->output[0];
}

static Value export_softmax(Export* e, HeadValues x) {
    return export_product(&e->graph, export_softmax_weights(e, x), x.v);
}

// Weights times other values, down^T (W^T V)
static Value export_softmax_rank(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value down = export_block_weight(e, "attn.rank.down"), up = export_block_weight(e, "attn.rank.up");
    Value values = export_product(g, export_swap(g, down, 3), export_product(g, export_swap(g, up, 3), x.v));
    return export_product(g, export_softmax_weights(e, x), values);
}

static Value export_mixing(Export* e, HeadValues x) {
    Value M = export_queries(e, export_block_weight(e, "attn.mixing"), 1);
    return export_product(&e->graph, M, x.v);
}

static Value export_sigmoid_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value logits = export_shift(g, export_product(g, x.q, x.k), -log(e->m->dims.N));
    return export_product(g, export_sigmoid(g, logits), x.v);
}

static Value export_relu_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value weights = export_relu(g, export_product(g, x.q, x.k));
    return export_product(g, export_scale(g, weights, 1.0 / e->m->dims.N), x.v);
}

static Value export_polynomial_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value logits = export_product(g, x.q, x.k), cube = export_multiply(g, export_multiply(g, logits, logits), logits);
    return export_product(g, export_scale(g, cube, 1 / sqrt(e->m->dims.N)), x.v);
}

// elu(x) + 1: e^x below 0, where a sum would lose its digits
static Value export_linear_feature(Graph* g, Value x) {
    Value negative = graph_binary(g, "Min", x, graph_number_of(g, 0));
    return export_add(g, export_relu(g, x), export_exp(g, negative));
}

// f(Q) S / (f(Q) s), S = f(K)^T V (D,D), s = Σ_n f(K_n) (D). Q is not divided by sqrt(D) here.
static Value export_linear_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value q = export_linear_feature(g, export_scale(g, x.q, sqrt(e->m->dims.D))), k = export_linear_feature(g, x.k);
    return export_divide(g, export_product(g, q, export_product(g, k, x.v)),
                         export_product(g, q, export_row_sum(g, k)));
}

// KArAt; the first heads may have kept softmax
static Value export_karat_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    int kept = e->m->config.softmax_heads;
    if (!kept) { return export_karat(e, x.q, x.k, x.v); }
    const int64_t heads[] = {kept, e->m->dims.HK};
    char **q = export_split(g, x.q, 1, 2, heads)->output, **k = export_split(g, x.k, 1, 2, heads)->output,
         **v = export_split(g, x.v, 1, 2, heads)->output;
    Value softmax = export_softmax(e, (HeadValues){q[0], k[0], v[0]}), karat = export_karat(e, q[1], k[1], v[1]);
    return export_concat(g, 2, (Value[]){softmax, karat}, 1);
}

// The weighted values (B,H,NQ,D)
static Value export_attend(Export* e, HeadValues x) {
    switch ((Attention)e->m->config.attn) {
    case ATTN_SOFTMAX: return export_softmax(e, x);
    case ATTN_KARAT: return export_karat_attention(e, x);
    case ATTN_SIGMOID: return export_sigmoid_attention(e, x);
    case ATTN_RELU: return export_relu_attention(e, x);
    case ATTN_POLYNOMIAL: return export_polynomial_attention(e, x);
    case ATTN_MIXING: return export_mixing(e, x);
    case ATTN_SOFTMAX_RANK: return export_softmax_rank(e, x);
    case ATTN_LINEAR: return export_linear_attention(e, x);
    }
    return NULL;
}

// mix (B,H,NQ,D) times the sigmoid of a number for each token and head
static Value export_gate(Export* e, Value x, Value mix) {
    Graph* g = &e->graph;
    Value gate = export_sigmoid(g, export_block_linear(e, export_queries(e, x, 1), "attn.gate"));
    Value rows = export_transpose(g, gate, 3, (int64_t[]){0, 2, 1});
    return export_multiply(g, mix, export_reshape(g, rows, INTEGERS(g, 0, e->m->dims.H, e->NQ, 1)));
}

// The branch (B,NQ,C) from the block's normalised input (B,N,C)
static Value export_attention(Export* e, Value x) {
    Graph* g = &e->graph;
    Value mix = export_attend(e, export_qkv(e, x));
    if (e->m->config.attn_gate) { mix = export_gate(e, x, mix); }
    graph_part(g, "blocks.%d.attn", e->block);
    Value rows = export_transpose(g, mix, 4, (int64_t[]){0, 2, 1, 3});
    return export_block_linear(e, export_reshape(g, rows, INTEGERS(g, 0, e->NQ, e->m->dims.C)), "attn.proj");
}
