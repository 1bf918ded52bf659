// The files of a run that hold tensors: the weights, and what a run needs to resume.
#pragma once
#include "../model/timm_config.h"
#include "../runtime/checkpoint.h"
#include "../runtime/exchange.h"
#include "../runtime/version.h"
#include "trainer.h"

#define RESUME_FILE "last.resume.safetensors"
#define PRODUCTS_FILE "products.txt" // of --tune-products

static void output_path(const Trainer* t, const char* name, char path[PATH_SIZE]) {
    snprintf(path, PATH_SIZE, "%s/%s", t->output, name);
}

// Configuration, data, build and step
static Metadata run_metadata(const Trainer* t) {
    const LoaderConfig* loader = &t->train_loader.plan.config;
    Metadata metadata = {0};
    char build[VERSION_TEXT];
    metadata_add_config(&metadata, &t->model.config, config_table, CONFIG_OPTIONS);
    add_data(&metadata, &t->train, &t->test, loader->mean, loader->std);
    metadata_add(&metadata, "build", version_text(build));
    metadata_print(&metadata, "step", "%lld", (long long)t->step);
    if (*t->extended) { metadata_add(&metadata, "extended", t->extended); }
    return metadata;
}

static float* fetch_for_file(void* model, float* flat) { return model_fetch((Model*)model, flat); }

// Rank 0 writes. What is spread over the ranks is gathered on the way.
static void save_buffers(Trainer* t, const char* name, const TensorBuffer* buffers, int count,
                         const Metadata* metadata) {
    char path[PATH_SIZE];
    Error err;
    if (!ranks_lead()) {
        watchdog_writes(true);
        for (int i = 0; i < count; i++) { model_fetch(&t->model, buffers[i].flat); }
        return;
    }
    output_path(t, name, path);
    FlatReader reader = {fetch_for_file, &t->model};
    if (!checkpoint_save(path, t->model.tensors, t->model.tensor_count, buffers, count, reader, metadata, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    if (strcmp(path, t->superseded) == 0) { t->superseded[0] = 0; }
}

RUNS_ONCE static void save_weights(Trainer* t, const char* name, float* flat) {
    Metadata metadata = run_metadata(t);
    TensorBuffer weights = {"", flat};
    save_buffers(t, name, &weights, 1, &metadata);
    metadata_free(&metadata);
}

// The buffers that a run needs to resume
typedef struct { TensorBuffer buffers[4]; int count; } ResumeState;
static ResumeState resume_state(Model* m) {
    return (ResumeState){{{"param.", m->params}, {"exp_avg.", m->exp_avg}, {"exp_avg_sq.", m->exp_avg_sq},
                          {"ema.", m->ema}}, m->ema ? 4 : 3};
}

// Removes the file of an earlier run in this folder that this run started from, once the run can do without it, unless
// one of the run's own files has replaced it already.
static void drop_superseded(Trainer* t) {
    if (*t->superseded) { unlink(t->superseded); }
    t->superseded[0] = 0;
}

// The file to resume from is written last: a run that is killed before that resumes from an earlier step and writes all
// of them again.
RUNS_ONCE static void save_last(Trainer* t) {
    Model* m = &t->model;
    save_weights(t, "last.safetensors", m->params);
    if (m->ema) { save_weights(t, "last.ema.safetensors", m->ema); }
    Metadata metadata = run_metadata(t);
    metadata_print(&metadata, "best", "%lld %.17g", (long long)t->best_step, t->best_top1);
    metadata_print(&metadata, "window", "%.17g %.17g %.17g %lld %lld", t->loss.count, t->loss.mean, t->loss.squares,
                   (long long)t->hits, (long long)t->seen);
    ResumeState state = resume_state(m);
    save_buffers(t, RESUME_FILE, state.buffers, state.count, &metadata);
    metadata_free(&metadata);
    t->saved = t->step;
    drop_superseded(t);
}

// Opens a file of weights, or that in a folder of timm's
static SafeTensors open_or_fail(const char* path) {
    SafeTensors file;
    Error err;
    char room[PATH_MAX];
    if (!safetensors_open(&file, weights_path(path, room), &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return file;
}

// Reads back the metadata that save_last wrote; false if some of it is missing
static bool read_position(Trainer* t, const SafeTensors* file) {
    const char* step = safetensors_metadata(file, "step");
    const char* best = safetensors_metadata(file, "best");
    const char* window = safetensors_metadata(file, "window");
    Running* loss = &t->loss;
    long long at = -1, best_step = 0, hits = 0, seen = 0;
    bool read = step && sscanf(step, "%lld", &at) == 1 &&
        best && sscanf(best, "%lld %lf", &best_step, &t->best_top1) == 2 &&
        window && sscanf(window, "%lf %lf %lf %lld %lld", &loss->count, &loss->mean, &loss->squares, &hits, &seen) == 5;
    t->step = at;
    t->best_step = best_step;
    t->hits = hits;
    t->seen = seen;
    return read && at >= 0 && at <= INT32_MAX; // as far as --steps goes
}

// Rank 0 reads the file and passes its contents to all ranks.
RUNS_ONCE static void load_resume(Trainer* t, const char* folder) {
    Model* m = &t->model;
    char path[PATH_SIZE];
    Error err;
    snprintf(path, sizeof path, "%s/" RESUME_FILE, folder);
    SafeTensors file = {0};
    if (ranks_lead()) { file = open_or_fail(path); }
    ResumeState state = resume_state(m);
    for (int i = 0; i < state.count; i++) {
        TensorBuffer buffer = {state.buffers[i].prefix, model_room(m, state.buffers[i].flat)};
        if (ranks_lead() && !checkpoint_load(&file, m->tensors, m->tensor_count, buffer, &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
        lead_tells(buffer.flat, m->table.total * sizeof(float));
        model_store(m, state.buffers[i].flat);
    }
    if (!ranks_lead()) { return; }
    if (!read_position(t, &file)) {
        fail(EXIT_RUN_TIME, "%s does not say at which step it was saved: it is not a file to resume from", path);
    }
    safetensors_close(&file);
}
