// One step of training: its micro-batches with their draws, forward and backward, and the update.
#pragma once
#include "../runtime/random.h"
#include "trainer.h"

typedef struct {
    double loss, grad_norm, lr;
    int64_t hits, images;
    int stop; // the signal to one of several ranks, of which all know now; 0: none
} StepResult;

static const Batch* next_batch(Trainer* t) {
    if (!t->model.config.overfit_batch) { return loader_next(&t->train_loader); }
    if (!t->first_batch) { t->first_batch = loader_next(&t->train_loader); }
    return t->first_batch;
}

// Draws which branches of this micro-batch are dropped, at a rate that rises linearly over the blocks. Draws are
// numbered as if every micro-batch had --batch-size images.
static void draw_drop_path(Model* m, int64_t micro_batch) {
    int L = m->dims.L;
    for (int i = 0; m->keep && i < L * 2 * m->B; i++) {
        int l = i / (2 * m->B);
        float rate = L > 1 ? (float)(m->config.drop_path * l / (L - 1)) : 0;
        uint64_t draw = (uint64_t)(i / m->B) * (uint64_t)m->config.batch_size + (uint64_t)(i % m->B);
        float u = random_uniform((uint64_t)m->config.seed, STREAM_DROP_PATH, (uint32_t)micro_batch, draw);
        m->keep[i] = u < rate ? 0 : 1 / (1 - rate);
    }
}

// The loader's next micro-batch, its k-th, with its draws. It may be fetched once model_gradients has returned for the
// one before.
static const Batch* fetch_batch(Trainer* t, int64_t k) {
    Model* m = &t->model;
    m->profile.direction = PROFILE_FORWARD;
    const Batch* batch = next_batch(t);
    draw_drop_path(m, loader_number(&t->train_loader, k));
    model_prefetch(m, batch);
    lap(m, PART_DATA);
    return batch;
}

static bool step_finite(const StepResult* r) { return isfinite(r->loss) && isfinite(r->grad_norm); }

// Records the outcome of a step, whose rate and number of images are set already; a step that is not finite does not
// count.
static StepResult step_counted(Trainer* t, StepResult result) {
    StepSums sums = model_step_sums(&t->model);
    result.loss = sums.loss / (double)result.images;
    result.grad_norm = sums.norm;
    result.hits = (int64_t)sums.hits;
    result.stop = sums.stop;
    if (!step_finite(&result)) { return result; }
    t->step++;
    running_add(&t->loss, result.loss);
    t->hits += result.hits;
    t->seen += result.images;
    return result;
}

// Forward and backward over this rank's micro-batches of one step, then the update by the gradients of the mean loss
// over all ranks' micro-batches. If something is not finite, nothing is updated and the step does not count.
static StepResult train_step(Trainer* t) {
    Model* m = &t->model;
    int micro_batches = m->config.grad_accum_steps, own = own_share(micro_batches).count;
    int64_t next = t->step * own, end = t->total_steps * own;
    StepResult result = {.lr = scheduled_rate(t, &t->schedule)};
    model_zero_gradients(m);
    for (int i = 0; i < own; i++) {
        const Batch* batch = t->coming ? t->coming : fetch_batch(t, next);
        result.images = (int64_t)batch->count * micro_batches; // all have the same size
        model_gradients(m, batch, m->keep, 1.0f / (float)(batch->count * micro_batches));
        if (i == own - 1) { model_update(m, result.lr, t->step + 1); }
        t->coming = ++next < end ? fetch_batch(t, next) : NULL;
    }
    return step_counted(t, result);
}

// Leaves the gradients of the mean loss over one batch, without drop path, in m->grads; returns the loss.
static double first_gradients(Trainer* t, const Batch* batch) {
    Model* m = &t->model;
    model_zero_gradients(m);
    model_gradients(m, batch, NULL, 1.0f / (float)batch->count);
    return model_step_sums(m).loss / batch->count;
}
