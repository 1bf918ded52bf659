// The weights of a model in a graph, under the names and with the bytes that a checkpoint has them with, and the layers that
// are the same in every model. To be included behind Model (trainer/trainer.h): of it config, dims and table are read.
#pragma once
#include "operations.h"

typedef struct {
    Graph graph;
    const Model* m;
    float* flat;                // parameters, as m->table has them
    const NamedTensor* tensors; // their names (count)
    int count;
    int block;                  // the block at hand, and its sizes
    Dims d;
} Export;

// What a name such as "blocks.%d.attn.qkv" is for the block at hand
static const char* export_name(const Export* e, const char* row, char name[NAME_SIZE]) {
    tensor_name(&e->m->table, row, e->block, name);
    return name;
}

// The nodes to come are of this part of the model.
static void export_part(Export* e, const char* row) {
    char name[NAME_SIZE];
    graph_part(&e->graph, "%s", export_name(e, row, name));
}

// NULL where the model has no such tensor
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

// The parameters as the trainer knows them, where more is to be made of them than is stored
static Params export_params(const Export* e) { return params_of_block(&e->m->table, e->flat, e->block); }

// x (B,N,C) W^T + b, W (OC,C) as it is stored; there need not be a bias
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

// Those of the tokens (B,N,C), or of another tensor along its axis, that the block goes on with behind keys and values
static Value export_queries(Export* e, Value x, int axis) {
    return e->d.NQ < e->d.N ? export_slice(&e->graph, x, axis, 0, e->d.NQ) : x;
}
