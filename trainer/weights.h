// The weights that a run starts from: its own, or another file's.
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

// By rank 0
RUNS_ONCE static void read_weights(Trainer* t) {
    Model* m = &t->model;
    Error err;
    const char* path = *m->config.eval ? m->config.eval : m->config.init_from;
    if (*m->config.resume) {
        load_resume(t, m->config.resume);
        change_length(t);
    } else if (*path) {
        SafeTensors file = open_or_fail(path);
        bool ok = load_foreign_weights(&file, m->tensors, m->tensor_count, model_fetch(m, m->params), *m->config.eval,
                                       m->config.any_weights, &err);
        if (!ok) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
        if (*m->config.eval) { note_outputs(t, &file); }
        safetensors_close(&file);
        model_store(m, m->params);
    }
}

// What rank 0 read from files comes to all.
static void share_weights(Trainer* t) {
    const Config* c = &t->model.config;
    if (ranks.size == 1 || !(*c->resume || *c->init_from || *c->eval)) { return; }
    ResumeState state = resume_state(&t->model);
    for (int i = 0; i < (*c->resume ? state.count : 1); i++) {
        lead_tells(state.buffers[i].flat, t->model.table.total * sizeof(float));
        model_store(&t->model, state.flat[i]);
    }
}

static void load_weights(Trainer* t) {
    Model* m = &t->model;
    if (ranks_lead()) { read_weights(t); }
    share_weights(t);
    if (m->ema && !*m->config.resume) {
        memcpy(model_fetch(m, m->ema), model_fetch(m, m->params), m->table.total * sizeof(float));
        model_store(m, m->ema);
    }
}
