// --export: writes a trained model for other programs, as an ONNX file or as a folder that timm opens.
#pragma once
#include "classify.h"
#include "timm_folder.h"

static bool exports(const Config* c) { return *c->export_to != 0; }

// ---- ONNX

#ifdef HAVE_PROTOBUF_C
#include "../export/model.h"
#include "../export/onnx_file.h"

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
    bool ok = onnx_save(&e.graph, m->config.model, &metadata, path, ONNX_MOST_INSIDE, &err);
    if (!ok) { fail(EXIT_RUN_TIME, "%s", err.text); }
    printf("wrote %s: %zu nodes of ONNX's operator set %d, %.1f MB of weights\n", path, e.graph.proto.n_node,
           ONNX_OPERATORS, 4e-6 * (double)m->table.total);
    graph_free(&e.graph);
    metadata_free(&metadata);
    preprocessing_free(&p);
}
#else
__attribute__((noreturn)) static void export_onnx(Trainer* t, const char* path) {
    (void)t;
    fail(EXIT_USAGE, "cannot write %s: this program was built without protobuf-c; install the packages "
         "libprotobuf-c-dev and protobuf-c-compiler, and build again", path);
}
#endif

// ---- timm's folder

// The metadata of the weights if this program wrote them, else the configuration that they are used with
static Metadata exported_metadata(const Trainer* t) {
    SafeTensors file = open_or_fail(t->model.config.eval);
    Metadata metadata = {0};
    if (!metadata_is_ours(&file)) { metadata_add_config(&metadata, &t->model.config, config_table, CONFIG_OPTIONS); }
    for (int i = 0; metadata_is_ours(&file) && i < file.metadata_count; i++) {
        metadata_add(&metadata, file.metadata[2 * i], file.metadata[2 * i + 1]);
    }
    safetensors_close(&file);
    return metadata;
}

static void export_timm(Trainer* t, const char* folder) {
    Model* m = &t->model;
    Error err;
    char path[PATH_MAX], architecture[64];
    TensorBuffer weights = {"", m->params};
    if (!timm_knows(&m->config)) {
        fail(EXIT_USAGE, "timm and the public code of KAT have no model with this attention, MLP or rational: give "
             "--export NAME.onnx");
    }
    Metadata metadata = exported_metadata(t);
    save_timm_config(t, folder);
    snprintf(path, sizeof path, "%.4000s/" TIMM_WEIGHTS, folder);
    if (!checkpoint_save(path, m->tensors, m->tensor_count, &weights, 1, (FlatReader){0}, &metadata, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    timm_architecture(&m->config, architecture);
    printf("wrote %s: " TIMM_WEIGHTS " and " TIMM_CONFIG ", timm's %s with arguments of its own\n", folder,
           architecture);
    metadata_free(&metadata);
}

// ----

// Loads only what is written: the parameters, and nothing to train them with.
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
    if (ends_with(config->export_to, ".onnx")) {
        export_onnx(t, config->export_to);
    } else {
        export_timm(t, config->export_to);
    }
    dataset_free(&t->train);
    dataset_free(&t->test);
    model_free(&t->model);
    return 0;
}
