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
    int block;                  // the block at hand
    int NQ;                     // tokens that it is calculated for behind keys and values: the first N or 1
} Export;

static const NamedTensor* export_find(const Export* e, const char* name) {
    for (int i = 0; i < e->count; i++) {
        if (strcmp(e->tensors[i].name, name) == 0) { return &e->tensors[i]; }
    }
    return NULL;
}

// NULL where the model has no such tensor
static Value export_weight(Export* e, const char* name) {
    const NamedTensor* t = export_find(e, name);
    return t ? graph_tensor(&e->graph, t->name, t->rank, t->shape, e->flat + t->offset) : NULL;
}

// Of the block at hand
static Value export_block_weight(Export* e, const char* name) {
    char whole[GRAPH_NAME];
    snprintf(whole, sizeof whole, "blocks.%d.%s", e->block, name);
    return export_weight(e, whole);
}

// The weight or the bias of a layer of it
static Value export_layer_weight(Export* e, const char* layer, const char* which) {
    char whole[GRAPH_NAME];
    snprintf(whole, sizeof whole, "blocks.%d.%s.%s", e->block, layer, which);
    return export_weight(e, whole);
}

// The parameters as the trainer knows them, where more is to be made of them than is stored
static Params export_params(const Export* e) { return params_of_block(&e->m->table, e->flat, e->block); }

// x (B,N,C) W^T + b; W (OC,C) as it is stored; bias may be NULL
static Value export_linear(Export* e, Value x, Value weight, Value bias) {
    Graph* g = &e->graph;
    Value product = export_product(g, x, export_swap(g, weight, 2));
    return bias ? export_add(g, product, bias) : product;
}

static Value export_block_linear(Export* e, Value x, const char* layer) {
    graph_part(&e->graph, "blocks.%d.%s", e->block, layer);
    return export_linear(e, x, export_layer_weight(e, layer, "weight"), export_layer_weight(e, layer, "bias"));
}

static Value export_layer_norm(Export* e, Value x, Value weight, Value bias) {
    Graph* g = &e->graph;
    Onnx__NodeProto* node = graph_node(g, "LayerNormalization", 3, (Value[]){x, weight, bias}, 1);
    graph_set_int(g, node, "axis", -1);
    graph_set_float(g, node, "epsilon", LAYERNORM_EPS);
    return node->output[0];
}

static Value export_block_norm(Export* e, Value x, const char* layer) {
    graph_part(&e->graph, "blocks.%d.%s", e->block, layer);
    return export_layer_norm(e, x, export_layer_weight(e, layer, "weight"), export_layer_weight(e, layer, "bias"));
}

// Those of the tokens (B,N,C), or of another tensor along its axis, that the block goes on with
static Value export_queries(Export* e, Value x, int axis) {
    return e->NQ < e->m->dims.N ? export_slice(&e->graph, x, axis, 0, e->NQ) : x;
}
