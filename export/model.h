// The whole model as an ONNX graph: "input" (batch,3,S,S), images prepared as for an evaluation, to "logits" (batch,K).
// It follows the forward of train_vit.c, from patches to the head.
#pragma once
#include "attention.h"
#include "mlp.h"

// The prefix tokens (B,prefix,C), then x (B,N,C)
static Value export_with_prefix(Export* e, Value images, Value x) {
    Graph* g = &e->graph;
    Value tokens[] = {export_weight(e, "cls_token"), export_weight(e, "reg_token")}, parts[3];
    int count = 0;
    Value batch = export_slice(g, graph_unary(g, "Shape", images), 0, 0, 1);
    for (int i = 0; i < 2; i++) {
        if (!tokens[i]) { continue; }
        int length = i ? e->m->config.reg_tokens : 1;
        Value shape = export_concat(g, 2, (Value[]){batch, INTEGERS(g, length, e->d.C)}, 0);
        parts[count++] = graph_binary(g, "Expand", tokens[i], shape);
    }
    parts[count++] = x;
    return export_concat(g, count, parts, 1);
}

// (B,3,S,S) to (B,N,C): if class tokens have positions, they are there from the start
static Value export_patch_embed(Export* e, Value images) {
    Graph* g = &e->graph;
    Dims d = e->d;
    int patches = (d.S / d.P) * (d.S / d.P);
    graph_part(g, "patch_embed");
    Value inputs[] = {images, export_weight(e, "patch_embed.proj.weight"), export_weight(e, "patch_embed.proj.bias")};
    Onnx__NodeProto* conv = graph_node(g, "Conv", 3, inputs, 1);
    graph_set_ints(g, conv, "kernel_shape", 2, (int64_t[]){d.P, d.P});
    graph_set_ints(g, conv, "strides", 2, (int64_t[]){d.P, d.P});
    Value x = export_swap(g, export_reshape(g, conv->output[0], INTEGERS(g, 0, d.C, patches)), 3);
    if (d.prefix && d.entry != ENTRY_JOIN) { x = export_with_prefix(e, images, x); }
    Value positions = export_weight(e, "pos_embed");
    return positions ? export_add(g, x, positions) : x;
}

// (B,grid,grid,C) to (B,grid/2,grid/2,4C), as in kernels/patch_merge.h
static Value export_merged(Export* e, Value x) {
    Graph* g = &e->graph;
    int half = e->d.windows.grid, C = e->d.C / 2;
    export_part(e, "layers.%d.downsample");
    x = export_reshape(g, x, INTEGERS(g, 0, half, 2, half, 2, C));
    x = export_transpose(g, x, 6, (int64_t[]){0, 1, 3, 4, 2, 5});
    return export_reshape(g, x, INTEGERS(g, 0, half * half, 4 * C));
}

// The change of the stream before the block
static Value export_enter_stage(Export* e, Value images, Value x) {
    switch (e->d.entry) {
    case ENTRY_NONE: return x;
    case ENTRY_JOIN:
        export_part(e, "blocks.%d");
        return export_with_prefix(e, images, x);
    case ENTRY_NORM: return export_norm(e, x, "patch_embed.norm");
    case ENTRY_MERGE:
        return export_linear(e, export_norm(e, export_merged(e, x), "layers.%d.downsample.norm"), "layers.%d.downsample.reduction");
    }
    return x;
}

// x + ls branch
static Value export_residual(Export* e, Value x, Value branch, const char* layer_scale) {
    Graph* g = &e->graph;
    Value scale = export_weight(e, layer_scale);
    export_part(e, "blocks.%d");
    return export_add(g, x, scale ? export_multiply(g, branch, scale) : branch);
}

// (B,N,C) to (B,NQ,C)
static Value export_block(Export* e, Value x) {
    Value branch = export_attention(e, export_norm(e, x, "blocks.%d.norm1"));
    export_part(e, "blocks.%d");
    x = export_residual(e, export_queries(e, x, 1), branch, "blocks.%d.ls1.gamma");
    return export_residual(e, x, export_mlp(e, export_norm(e, x, "blocks.%d.norm2")), "blocks.%d.ls2.gamma");
}

// The class token, or the mean over all tokens except the prefix: (B,C)
static Value export_pool(Export* e, Value x) {
    Graph* g = &e->graph;
    bool mean = e->m->config.pool == POOL_AVG;
    int first = mean ? e->d.prefix : 0, last = mean ? e->d.N : 1;
    graph_part(g, "head");
    if (first > 0 || last < e->d.N) { x = export_slice(g, x, 1, first, last); }
    Onnx__NodeProto* node = graph_node(g, "ReduceMean", 1, &x, 1);
    graph_set_ints(g, node, "axes", 1, (int64_t[]){1});
    graph_set_int(g, node, "keepdims", 0);
    return node->output[0];
}

// (B,N,C) to (B,K)
static void export_head(Export* e, Value x) {
    const Config* c = &e->m->config;
    Graph* g = &e->graph;
    Value pooled = c->fc_norm ? export_norm(e, export_pool(e, x), "fc_norm") : export_pool(e, export_norm(e, x, "norm"));
    graph_part(g, "head");
    Value inputs[] = {pooled, export_weight(e, HEAD("weight")), export_weight(e, HEAD("bias"))};
    Onnx__NodeProto* node = graph_node(g, "Gemm", 3, inputs, 1);
    graph_set_int(g, node, "transB", 1);
    node->output[0] = graph_text(g, "logits");
}

// Fills e->graph
static void export_whole_model(Export* e) {
    Graph* g = &e->graph;
    Dims d = e->m->dims;
    graph_input(g, "input", 4, (int64_t[]){GRAPH_BATCH, 3, d.S, d.S});
    graph_output(g, "logits", 2, (int64_t[]){GRAPH_BATCH, d.K});
    e->block = 0;
    e->d = dims_at(e->m, 0);
    Value x = export_patch_embed(e, "input");
    for (; e->block < d.L; e->block++) {
        e->d = dims_at(e->m, e->block);
        x = export_block(e, export_enter_stage(e, "input", x));
    }
    e->block = d.L - 1;
    e->d = dims_at(e->m, d.L);
    export_head(e, x);
}
