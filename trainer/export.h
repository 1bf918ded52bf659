// --export: a trained model as other programs take it, an ONNX file.
#pragma once
#include "classify.h"

static bool exports(const Config* c) { return *c->export_to != 0; }

#ifdef HAVE_PROTOBUF_C
#include "../export/model.h"
#include "../export/onnx_file.h"
#include "preprocessing.h"

// The graph of a model with its parameters
static void export_graph(Export* e, const Model* m, float* flat) {
    *e = (Export){.m = m, .flat = flat, .tensors = m->tensors, .count = m->tensor_count};
    graph_begin(&e->graph);
    export_whole_model(e);
}

static void export_onnx(Trainer* t, const char* path) {
    Model* m = &t->model;
    Export e;
    Error err;
    Metadata metadata = {0};
    Preprocessing p = preprocessing_of(t);
    metadata_add(&metadata, "model", m->config.model);
    add_preprocessing(&metadata, &p);
    export_graph(&e, m, m->params);
    if (!onnx_save(&e.graph, m->config.model, &metadata, path, ONNX_MOST_INSIDE, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    printf("wrote %s: %zu nodes of ONNX's operator set %d, %.1f MB of weights\n", path, e.graph.proto.n_node, ONNX_OPERATORS,
           1e-6 * 4 * (double)m->table.total);
    graph_free(&e.graph);
    metadata_free(&metadata);
}
#else
__attribute__((noreturn)) static void export_onnx(Trainer* t, const char* path) {
    (void)t;
    fail(EXIT_USAGE, "cannot write %s: this program was built without protobuf-c; install the packages libprotobuf-c-dev and "
         "protobuf-c-compiler, and build again", path);
}
#endif

// Of the model what is written, and nothing to train it with
static void load_parameters(Trainer* t, const Config* c) {
    Model* m = &t->model;
    Error err;
    int classes = c->classes ? c->classes : t->train.classes;
    if (!classes) { fail(EXIT_RUN_TIME, "%s has no head.weight, which says how many classes there are", c->eval); }
    if (!model_plan(m, c, classes, 1, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    m->tensors = named_tensors(&m->table);
    m->tensor_count = tensor_count(&m->table);
    m->params = alloc_floats(m->table.total, "parameters");
    load_weights(t);
}

RUNS_ONCE static int export_model(Trainer* t, const Config* config) {
    ask_data(t, config);
    load_parameters(t, config);
    export_onnx(t, config->export_to);
    dataset_free(&t->train);
    dataset_free(&t->test);
    model_free(&t->model);
    return 0;
}
