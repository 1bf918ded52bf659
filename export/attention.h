// Attention of every kind (--attn) as ONNX operations, as in kernels/attention*.h.
#pragma once
#include "karat.h"

// Queries (B,h,NQ,D), divided by sqrt(D), keys (B,h,D,N) and values (B,h,N,D) of h of the heads, from `first` on. In
// windows they are (B,windows,h,N,D): the heads' axis is the third from last.
typedef struct { Value q, k, v; int first, count; } HeadValues;
enum { HEADS_AXIS = -3 };

// ---- Splitting and joining heads

// (B,N,C) to (B,H,N,D)
static Value export_heads(Export* e, Value x) {
    Graph* g = &e->graph;
    Dims d = e->d;
    if (export_in_windows(e)) {
        Value rows = export_reshape(g, export_to_windows(e, x, d.C), INTEGERS(g, 0, 0, d.NA, d.H, d.D));
        return export_transpose(g, rows, 5, (int64_t[]){0, 1, 3, 2, 4});
    }
    return export_transpose(g, export_reshape(g, x, INTEGERS(g, 0, d.N, d.H, d.D)), 4, (int64_t[]){0, 2, 1, 3});
}

// (B,H,NQ,D) to (B,NQ,C)
static Value export_together(Export* e, Value x) {
    Graph* g = &e->graph;
    Dims d = e->d;
    if (export_in_windows(e)) { return export_from_windows(e, export_transpose(g, x, 5, (int64_t[]){0, 1, 3, 2, 4}), d.C); }
    return export_reshape(g, export_transpose(g, x, 4, (int64_t[]){0, 2, 1, 3}), INTEGERS(g, 0, d.NQ, d.C));
}

static Value export_keys(Export* e, Value x) {
    const int64_t plain[] = {0, 1, 3, 2}, windows[] = {0, 1, 2, 4, 3};
    bool in_windows = export_in_windows(e);
    return export_transpose(&e->graph, export_heads(e, x), in_windows ? 5 : 4, in_windows ? windows : plain);
}

static HeadValues export_qkv(Export* e, Value x) {
    Graph* g = &e->graph;
    Dims d = e->d;
    Value part[3];
    if (d.local) { // values have a separate weight
        memcpy(part, export_split(g, export_linear(e, x, "blocks.%d.attn.qk"), 2, 2, (int64_t[]){d.C, d.C})->output,
               2 * sizeof *part);
        part[2] = export_linear(e, x, "blocks.%d.attn.v");
    } else {
        memcpy(part, export_split(g, export_linear(e, x, "blocks.%d.attn.qkv"), 2, 3, (int64_t[]){d.C, d.C, d.C})->output,
               sizeof part);
    }
    export_part(e, "blocks.%d.attn");
    Value q = export_queries(e, export_heads(e, part[0]), 2);
    return (HeadValues){export_scale(g, q, 1 / sqrt(d.D)), export_keys(e, part[1]), export_heads(e, part[2]), 0, d.H};
}

// ---- The kinds: the weighted values (B,H,NQ,D)

static Value export_softmax_rows(Graph* g, Value logits) {
    Onnx__NodeProto* node = graph_node(g, "Softmax", 1, &logits, 1);
    graph_set_int(g, node, "axis", -1);
    return node->output[0];
}

static Value export_softmax_weights(Export* e, HeadValues x) {
    return export_softmax_rows(&e->graph, export_logits(e, x.q, x.k, x.first, x.count, WINDOW_MASK));
}

static Value export_softmax(Export* e, HeadValues x) {
    return export_product(&e->graph, export_softmax_weights(e, x), x.v);
}

// Weights times other values, down^T (W^T V)
static Value export_softmax_rank(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value down = export_weight(e, "blocks.%d.attn.rank.down"), up = export_weight(e, "blocks.%d.attn.rank.up");
    Value values = export_product(g, export_swap(g, down, 3), export_product(g, export_swap(g, up, 3), x.v));
    return export_product(g, export_softmax_weights(e, x), values);
}

static Value export_mixing(Export* e, HeadValues x) {
    Value M = export_queries(e, export_weight(e, "blocks.%d.attn.mixing"), 1);
    return export_product(&e->graph, M, x.v);
}

static Value export_sigmoid_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value logits = export_shift(g, export_product(g, x.q, x.k), -log(e->d.N));
    return export_product(g, export_sigmoid(g, logits), x.v);
}

static Value export_relu_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value weights = export_relu(g, export_product(g, x.q, x.k));
    return export_product(g, export_scale(g, weights, 1.0 / e->d.N), x.v);
}

static Value export_polynomial_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value logits = export_product(g, x.q, x.k), cube = export_multiply(g, export_multiply(g, logits, logits), logits);
    return export_product(g, export_scale(g, cube, 1 / sqrt(e->d.N)), x.v);
}

// elu(x) + 1: below 0 computed as e^x, since a sum would lose digits
static Value export_linear_feature(Graph* g, Value x) {
    Value negative = graph_binary(g, "Min", x, graph_number_of(g, 0));
    return export_add(g, export_relu(g, x), export_exp(g, negative));
}

// f(Q) S / (f(Q) s), S = f(K)^T V (D,D), s = Σ_n f(K_n) (D). Q is not divided by sqrt(D) here.
static Value export_linear_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    Value q = export_linear_feature(g, export_scale(g, x.q, sqrt(e->d.D))), k = export_linear_feature(g, x.k);
    return export_divide(g, export_product(g, q, export_product(g, k, x.v)),
                         export_product(g, q, export_row_sum(g, k)));
}

// KArAt; the first heads may have kept softmax
static Value export_karat_attention(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    int kept = e->m->config.softmax_heads;
    if (!kept) { return export_karat(e, x.q, x.k, x.v, 0); }
    const int64_t heads[] = {kept, e->d.HK};
    char **q = export_split(g, x.q, HEADS_AXIS, 2, heads)->output, **k = export_split(g, x.k, HEADS_AXIS, 2, heads)->output,
         **v = export_split(g, x.v, HEADS_AXIS, 2, heads)->output;
    Value softmax = export_softmax(e, (HeadValues){q[0], k[0], v[0], 0, kept}), karat = export_karat(e, q[1], k[1], v[1], kept);
    return export_concat(g, 2, (Value[]){softmax, karat}, HEADS_AXIS);
}

// ConViT's (kernels/attention_gpsa.h): (1 - g) times the weights by content plus g times those by place, which are the
// softmax of w . (dx, dy, dx^2 + dy^2) + b over the patches
static Value export_gpsa(Export* e, HeadValues x) {
    Graph* g = &e->graph;
    int N = e->d.N, H = e->d.H, side = (int)lround(sqrt(N));
    char name[64];
    float* data;
    snprintf(name, sizeof name, "offsets.%d", side);
    Value offsets = graph_new_tensor(g, name, 3, (int64_t[]){N, N, 3}, &data);
    for (int i = 0; data && i < N * N; i++, data += 3) { // patch i % N relative to patch i / N
        float dx = i % N % side - i / N % side, dy = i % N / side - i / N / side;
        data[0] = dx, data[1] = dy, data[2] = dx * dx + dy * dy;
    }
    Value content = export_softmax_weights(e, x);
    Value by_place = export_transpose(g, export_linear(e, offsets, "blocks.%d.attn.pos_proj"), 3, (int64_t[]){2, 0, 1});
    export_part(e, "blocks.%d.attn");
    Value place = export_softmax_rows(g, by_place);
    Value gate = export_sigmoid(g, export_reshape(g, export_weight(e, "blocks.%d.attn.gating_param"), INTEGERS(g, H, 1, 1)));
    Value turned = export_multiply(g, gate, export_subtract(g, place, content));
    return export_product(g, export_add(g, content, turned), x.v);
}

static Value export_attend(Export* e, HeadValues x) {
    if (e->d.local) { return export_gpsa(e, x); }
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

// ---- The branch

// mix (B,NQ,C), each head times the sigmoid of a number from x
static Value export_gate(Export* e, Value x, Value mix) {
    Graph* g = &e->graph;
    Dims d = e->d;
    Value gate = export_sigmoid(g, export_linear(e, export_queries(e, x, 1), "blocks.%d.attn.gate"));
    Value heads = export_reshape(g, mix, INTEGERS(g, 0, d.NQ, d.H, d.D));
    Value gated = export_multiply(g, heads, export_reshape(g, gate, INTEGERS(g, 0, d.NQ, d.H, 1)));
    return export_reshape(g, gated, INTEGERS(g, 0, d.NQ, d.C));
}

// (B,NQ,C) from the block's normalised input (B,N,C)
static Value export_attention(Export* e, Value x) {
    Value heads = export_attend(e, export_qkv(e, x));
    export_part(e, "blocks.%d.attn");
    Value mix = export_together(e, heads);
    if (e->m->config.attn_gate) { mix = export_gate(e, x, mix); }
    return export_linear(e, mix, "blocks.%d.attn.proj");
}
