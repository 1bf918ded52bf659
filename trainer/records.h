// What a run records of its course: metrics.csv and, on request, its rows as JSON and TensorBoard's event files.
#pragma once
#include "../runtime/event_file.h"
#include "../runtime/metrics_jsonl.h"
#include "show_batch.h"

typedef struct {
    Metrics csv, jsonl; // jsonl.file NULL: not asked for
    EventFile events;   // likewise
} Records;

static void recorded(bool done, const Error* err) {
    if (!done) { fail(EXIT_RUN_TIME, "%s", err->text); }
}

// ---- TensorBoard

// Columns of metrics.csv, under timm's names where it has any: train_loss, lr, eval_top1
static void event_number(EventFile* e, const char* name, double value) {
    char tag[64];
    bool test = strncmp(name, "test_", 5) == 0;
    snprintf(tag, sizeof tag, "%s%s", test ? "eval_" : "", test ? name + 5 : name);
    if (strcmp(name, "step") != 0) { events_scalar(e, tag, value); } // every event has its step anyway
}

static void event_numbers(EventFile* events, int64_t step, double epoch, const Progress* p, const Evaluation* e) {
#define EVENT_NUMBER(name, format, value) event_number(events, #name, value);
#define EVENT_OF_TRAINING(name, format, value) if (p) { EVENT_NUMBER(name, format, value) }
#define EVENT_OF_TEST(name, format, value) if (e) { EVENT_NUMBER(name, format, value) }
    METRICS_TABLE(EVENT_NUMBER, EVENT_OF_TRAINING, EVENT_OF_TEST)
}

// Whether a tensor holds a learned function, or what another kind of model has in its place
static bool is_of_function(const char* name) {
    static const char* const parts[] = {"karat.", "weight_numerator", "weight_denominator", "spline_weight",
                                        "act.weight", "attn.mixing", "attn.rank."};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(name, parts[i])) { return true; }
    }
    return false;
}

// Histograms of the learned functions in the weights that were evaluated; all ranks must call it, to fetch these.
RUNS_ONCE static void record_functions(Trainer* t, Records* r, float* weights) {
    Error err;
    if (!t->model.config.tensorboard) { return; }
    const float* flat = model_fetch(&t->model, weights);
    if (!ranks_lead()) { return; }
    for (int i = 0; i < t->model.tensor_count; i++) {
        const NamedTensor* tensor = &t->model.tensors[i];
        if (is_of_function(tensor->name)) {
            events_histogram(&r->events, tensor->name, flat + tensor->offset, tensor->size);
        }
    }
    if (r->events.summary.count) { recorded(events_write(&r->events, t->step, &err), &err); }
}

// Draws the first batch as the model sees it. Afterwards the loader has to be set back.
RUNS_ONCE static void record_first_batch(Trainer* t, Records* r) {
    Error err;
    Picture sheet;
    uint8_t* png = NULL;
    size_t bytes = 0;
    int shown;
    if (!ranks_lead() || !r->events.file || t->step > 0) { return; }
    sheet = draw_batch(t, loader_next(&t->train_loader), &shown);
    if (picture_png(&sheet, &png, &bytes, &err)) {
        events_image(&r->events, "first_batch", sheet.height, sheet.width, png, bytes);
        recorded(events_write(&r->events, 0, &err), &err);
        free(png);
    } else {
        printf("note       TensorBoard gets no picture of the first batch: %s\n", err.text);
    }
    picture_free(&sheet);
}

// ---- All of them, on rank 0 only

RUNS_ONCE static void records_open(Trainer* t, Records* r) {
    Error err;
    char path[PATH_SIZE];
    *r = (Records){0};
    if (!ranks_lead()) { return; }
    output_path(t, "metrics.csv", path);
    recorded(metrics_open(&r->csv, path, t->step, &err), &err);
    output_path(t, "metrics.jsonl", path);
    if (t->model.config.metrics_jsonl) { recorded(metrics_jsonl_open(&r->jsonl, path, t->step, &err), &err); }
    if (t->model.config.tensorboard) { recorded(events_open(&r->events, t->output, t->step, &err), &err); }
}

// A row: p or e is NULL
static void record_row(const Trainer* t, Records* r, const Progress* p, const Evaluation* e) {
    Error err;
    double epoch = (double)t->step / (double)t->steps_per_epoch;
    if (!ranks_lead()) { return; }
    recorded(metrics_row(&r->csv, t->step, epoch, p, e, &err), &err);
    if (r->jsonl.file) { recorded(metrics_jsonl_row(&r->jsonl, t->step, epoch, p, e, &err), &err); }
    if (!r->events.file) { return; }
    event_numbers(&r->events, t->step, epoch, p, e);
    recorded(events_write(&r->events, t->step, &err), &err);
}

// Makes sure that what was written is on disk. TensorBoard's files are left out, since the trainer never reads them.
static void records_sync(Records* r) {
    Error err;
    if (!ranks_lead()) { return; }
    recorded(metrics_sync(&r->csv, &err), &err);
    if (r->jsonl.file) { recorded(metrics_sync(&r->jsonl, &err), &err); }
}

RUNS_ONCE static void records_close(Records* r) {
    Error err;
    if (!ranks_lead()) { return; }
    recorded(metrics_close(&r->csv, &err), &err);
    if (r->jsonl.file) { recorded(metrics_close(&r->jsonl, &err), &err); }
    if (r->events.file) { recorded(events_close(&r->events, &err), &err); }
}
