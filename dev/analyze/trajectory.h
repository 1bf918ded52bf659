// The plane in which a run's weights moved most: the two principal components of theta_t - theta_end over its
// checkpoints t, which are read one tensor at a time: only the end and the two directions are in memory as whole
// models.
#pragma once
#include "analysis.h"
#include "principal.h"

typedef struct {
    Run* run;
    Checkpoint* list;      // the last one is the end
    int count;
    SafeTensors* files;    // (count); none for "start"
    bool* open;            // (count)
    float *start, *end;    // (total), weights; start is NULL unless it is a checkpoint
    double* G;             // (count, count), products of theta_t - theta_end
    Principal principal;
} Trajectory;

static bool trajectory_open_files(Trajectory* w, Error* err) {
    Model* m = &w->run->t.model;
    int64_t step;
    for (int t = 0; t < w->count; t++) {
        if (strcmp(w->list[t].name, "start") == 0) {
            w->start = alloc_floats(m->table.total, "the weights of the start");
            if (!run_weights(w->run, "start", w->start, &step, err)) { return false; }
        } else if (!checkpoint_open(w->run, w->list[t].name, &w->files[t], &step, err)) {
            return false;
        } else {
            w->open[t] = true;
        }
    }
    return true;
}

// One tensor of a checkpoint minus that of the end; difference: (size)
static bool read_difference(const Trajectory* w, int t, const NamedTensor* tensor, float* difference, Error* err) {
    Error reason;
    NamedTensor own = *tensor;
    own.offset = 0;
    if (!w->open[t]) {
        memcpy(difference, w->start + tensor->offset, tensor->size * sizeof(float));
    } else if (!checkpoint_load_tensor(&w->files[t], &own, (TensorBuffer){"", difference}, &reason)) {
        return set_error(err, "%s: %s", w->files[t].path, reason.text);
    }
    if (!all_finite(difference, tensor->size)) {
        return set_error(err, "%s of checkpoint %s holds NaN or infinite weights: take it out of %s", tensor->name,
                         w->list[t].name, w->run->folder);
    }
    for (size_t i = 0; i < tensor->size; i++) { difference[i] -= w->end[tensor->offset + i]; }
    return true;
}

// rows: (count) pointers to the differences of one tensor
typedef void (*WithDifferences)(Trajectory* w, const float* const* rows, const NamedTensor* tensor, float* const* to);

// Visits the tensors with the differences of all checkpoints
static bool for_differences(Trajectory* w, WithDifferences use, float* const* to, Error* err) {
    const Model* m = &w->run->t.model;
    size_t largest = 0;
    bool ok = true;
    for (int k = 0; k < m->tensor_count; k++) {
        if (m->tensors[k].size > largest) { largest = m->tensors[k].size; }
    }
    float* rows = alloc_floats((size_t)w->count * largest, "the checkpoints' differences");
    const float** pointers = alloc_array(const float*, w->count, "the checkpoints' differences");
    for (int t = 0; t < w->count; t++) { pointers[t] = rows + (size_t)t * largest; }
    for (int k = 0; ok && k < m->tensor_count; k++) {
        for (int t = 0; ok && t < w->count; t++) {
            ok = read_difference(w, t, &m->tensors[k], rows + (size_t)t * largest, err);
        }
        if (ok) { use(w, pointers, &m->tensors[k], to); }
    }
    free(pointers);
    free(rows);
    return ok;
}

static void add_tensor_products(Trajectory* w, const float* const* rows, const NamedTensor* tensor, float* const* to) {
    (void)to;
    add_products(w->G, rows, w->count, tensor->size);
}

// to: the two components (total)
static void set_tensor_directions(Trajectory* w, const float* const* rows, const NamedTensor* tensor,
                                  float* const* to) {
    for (int k = 0; k < 2; k++) {
        #pragma omp parallel for schedule(static)
        for (size_t i = 0; i < tensor->size; i++) {
            double sum = 0;
            for (int t = 0; t < w->count; t++) { sum += w->principal.weights[k][t] * rows[t][i]; }
            to[k][tensor->offset + i] = (float)sum;
        }
    }
}

static void trajectory_free(Trajectory* w) {
    for (int t = 0; t < w->count && w->open; t++) {
        if (w->open[t]) { safetensors_close(&w->files[t]); }
    }
    free(w->list);
    free(w->files);
    free(w->open);
    free(w->start);
    free(w->G);
    principal_free(&w->principal);
    *w = (Trajectory){0};
}

// weights (3, total) = those of the last checkpoint, at step *step, and the two components; *lacking: whether there are
// too few checkpoints. After run_model.
static bool trajectory_read(Trajectory* w, Run* r, float* weights, int64_t* step, bool* lacking, Error* err) {
    size_t count;
    Checkpoint* list;
    size_t total = r->t.model.table.total;
    *w = (Trajectory){.run = r, .end = weights};
    if (!run_trajectory(r, &list, &count, err)) { return false; }
    *lacking = count < 3;
    if (*lacking) {
        free(list);
        return set_error(err, "%s has kept no weights between its start and its end, and two points span no plane: "
                         "train it with --keep-every 1, or use --directions random", r->folder);
    }
    w->list = list;
    w->count = (int)count;
    w->files = alloc_array(SafeTensors, count, "checkpoints");
    w->open = alloc_array(bool, count, "checkpoints");
    w->G = alloc_array(double, count * count, "products of checkpoints");
    bool ok = run_weights(r, w->list[count - 1].name, weights, step, err) && trajectory_open_files(w, err) &&
              for_differences(w, add_tensor_products, NULL, err);
    if (ok) {
        principal_components(&w->principal, w->G, w->count);
        ok = for_differences(w, set_tensor_directions, (float*[]){weights + total, weights + 2 * total}, err);
    }
    if (!ok) { trajectory_free(w); }
    return ok;
}
