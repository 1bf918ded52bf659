// The whole model as an ONNX graph: "input" (batch,3,S,S), images prepared as an evaluation prepares them, to "logits"
// (batch,K). It reads as the forward of train_vit.c does, from patches to the head.
#pragma once
#include "attention.h"
#include "mlp.h"

// (B,3,S,S) to (B,N,C)
static Value export_patch_embed(Export* e, Value images) {
    Graph* g = &e->graph;
    Dims d = e->m->dims;
    int patches = (d.S / d.P) * (d.S / d.P);
    graph_part(g, "patch_embed");
    Value inputs[] = {images, export_weight(e, "patch_embed.proj.weight"), export_weight(e, "patch_embed.proj.bias")};
    Onnx__NodeProto* conv = graph_node(g, "Conv", 3, inputs, 1);
    graph_set_ints(g, conv, "kernel_shape", 2, (int64_t[]){d.P, d.P});
    graph_set_ints(g, conv, "strides", 2, (int64_t[]){d.P, d.P});
    Value x = export_swap(g, export_reshape(g, conv->output[0], INTEGERS(g, 0, d.C, patches)), 3);
    Value cls_token = export_weight(e, "cls_token");
    if (cls_token) {
        Value batch = export_slice(g, graph_unary(g, "Shape", images), 0, 0, 1);
        Value shape = export_concat(g, 2, (Value[]){batch, INTEGERS(g, 1, d.C)}, 0);
        x = export_concat(g, 2, (Value[]){graph_binary(g, "Expand", cls_token, shape), x}, 1);
    }
    return export_add(g, x, export_weight(e, "pos_embed"));
}

// x + ls branch
static Value export_residual(Export* e, Value x, Value branch, const char* layer_scale) {
    Graph* g = &e->graph;
    Value scale = export_block_weight(e, layer_scale);
    graph_part(g, "blocks.%d", e->block);
    return export_add(g, x, scale ? export_multiply(g, branch, scale) : branch);
}

// (B,N,C) to (B,NQ,C)
static Value export_block(Export* e, Value x) {
    Value branch = export_attention(e, export_block_norm(e, x, "norm1"));
    graph_part(&e->graph, "blocks.%d", e->block);
    x = export_residual(e, export_queries(e, x, 1), branch, "ls1.gamma");
    return export_residual(e, x, export_mlp(e, export_block_norm(e, x, "norm2")), "ls2.gamma");
}

// (B,NQ,C) to (B,K)
static void export_head(Export* e, Value x) {
    Graph* g = &e->graph;
    graph_part(g, "norm");
    x = export_layer_norm(e, x, export_weight(e, "norm.weight"), export_weight(e, "norm.bias"));
    graph_part(g, "head");
    Onnx__NodeProto* pooled = graph_node(g, "ReduceMean", 1, &x, 1); // of the class token, or of all
    graph_set_ints(g, pooled, "axes", 1, (int64_t[]){1});
    graph_set_int(g, pooled, "keepdims", 0);
    Value inputs[] = {pooled->output[0], export_weight(e, "head.weight"), export_weight(e, "head.bias")};
    Onnx__NodeProto* head = graph_node(g, "Gemm", 3, inputs, 1);
    graph_set_int(g, head, "transB", 1);
    head->output[0] = graph_text(g, "logits");
}

// Fills e->graph
static void export_whole_model(Export* e) {
    Graph* g = &e->graph;
    Dims d = e->m->dims;
    graph_input(g, "input", 4, (int64_t[]){GRAPH_BATCH, 3, d.S, d.S});
    graph_output(g, "logits", 2, (int64_t[]){GRAPH_BATCH, d.K});
    Value x = export_patch_embed(e, "input");
    for (e->block = 0; e->block < d.L; e->block++) {
        e->NQ = dims_at(e->m, e->block).NQ;
        x = export_block(e, x);
    }
    export_head(e, x);
}
