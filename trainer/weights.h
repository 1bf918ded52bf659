// The weights that a run starts from: its own, or those of another file.
#pragma once
#include "../model/foreign_weights.h"
#include "../runtime/exchange.h"
#include "checkpoints.h"
#include "longer.h"

// A file of another program does not say which classes its outputs stand for.
static void note_outputs(const Trainer* t, const SafeTensors* file) {
    int outputs = t->model.dims.K, classes = t->test.classes;
    if (classes && outputs != classes && !metadata_is_ours(file)) {
        printf("note       %d outputs, %d classes of --data %s: class k is taken for output k\n", outputs, classes,
               t->model.config.data);
    }
}

// Reads the file of --eval or --init-from into flat.
RUNS_ONCE static void read_weights(Trainer* t, const char* path, float* flat) {
    Model* m = &t->model;
    Error err;
    SafeTensors file = open_or_fail(path);
    bool ok = load_foreign_weights(&file, m->tensors, m->tensor_count, flat, *m->config.eval, m->config.any_weights,
                                   &err);
    if (!ok) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
    if (*m->config.eval) { note_outputs(t, &file); }
    safetensors_close(&file);
}

// Rank 0 reads the weights and passes them to all ranks.
static void load_weights(Trainer* t) {
    Model* m = &t->model;
    const char* path = *m->config.eval ? m->config.eval : m->config.init_from;
    if (*m->config.resume) {
        load_resume(t, m->config.resume);
        if (ranks_lead()) { change_length(t); }
        return;
    }
    if (*path) {
        float* params = model_fetch(m, m->params);
        if (ranks_lead()) { read_weights(t, path, params); }
        lead_tells(params, m->table.total * sizeof(float));
        model_store(m, m->params);
    }
    if (m->ema) {
        memcpy(model_room(m, m->ema), model_fetch(m, m->params), m->table.total * sizeof(float));
        model_store(m, m->ema);
    }
}
