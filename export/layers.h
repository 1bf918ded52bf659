// The weights of a model in a graph, with the names and bytes of a checkpoint, and the layers that all models have in
// common. To be included after Model (trainer/trainer.h), of which config, dims and table are read.
#pragma once
#include "operations.h"

typedef struct {
    Graph graph;
    const Model* m;
    float* flat;                // parameters, in the layout of m->table
    const NamedTensor* tensors; // their names (count)
    int count;
    int block;                  // the current block, and its sizes
    Dims d;
} Export;

// A name such as "blocks.%d.attn.qkv" for the current block
static const char* export_name(const Export* e, const char* row, char name[NAME_SIZE]) {
    tensor_name(&e->m->table, row, e->block, name);
    return name;
}

// Following nodes belong to this part of the model.
static void export_part(Export* e, const char* row) {
    char name[NAME_SIZE];
    graph_part(&e->graph, "%s", export_name(e, row, name));
}

// NULL if the model has no such tensor
static Value export_weight(Export* e, const char* row) {
    char name[NAME_SIZE];
    export_name(e, row, name);
    for (int i = 0; i < e->count; i++) {
        const NamedTensor* t = &e->tensors[i];
        if (strcmp(t->name, name) == 0) { return graph_tensor(&e->graph, name, t->rank, t->shape, e->flat + t->offset); }
    }
    return NULL;
}

// The weight or the bias of a layer
static Value export_layer_weight(Export* e, const char* layer, const char* which) {
    char row[NAME_SIZE];
    snprintf(row, sizeof row, "%s.%s", layer, which);
    return export_weight(e, row);
}

// The parameters as the trainer has them, for what is computed from stored ones
static Params export_params(const Export* e) { return params_of_block(&e->m->table, e->flat, e->block); }

// x (B,N,C) W^T + b, W (OC,C) as stored; the bias is optional
static Value export_linear(Export* e, Value x, const char* layer) {
    Graph* g = &e->graph;
    export_part(e, layer);
    Value product = export_product(g, x, export_swap(g, export_layer_weight(e, layer, "weight"), 2));
    Value bias = export_layer_weight(e, layer, "bias");
    return bias ? export_add(g, product, bias) : product;
}

static Value export_norm(Export* e, Value x, const char* layer) {
    Graph* g = &e->graph;
    export_part(e, layer);
    Value inputs[] = {x, export_layer_weight(e, layer, "weight"), export_layer_weight(e, layer, "bias")};
    Onnx__NodeProto* node = graph_node(g, "LayerNormalization", 3, inputs, 1);
    graph_set_int(g, node, "axis", -1);
    graph_set_float(g, node, "epsilon", norm_eps(&e->m->config));
    return node->output[0];
}

// The part of the tokens (B,N,C), or of another tensor along its axis, that the block keeps after keys and values
static Value export_queries(Export* e, Value x, int axis) {
    return e->d.NQ < e->d.N ? export_slice(&e->graph, x, axis, 0, e->d.NQ) : x;
}
