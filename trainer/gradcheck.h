// --gradcheck: compares the gradients of the first batch's loss with finite differences.
#pragma once
#include "../model/gradcheck.h"
#include "step.h"

typedef struct { Model* model; const Batch* batch; } CheckedLoss;
static double loss_of_params(void* context) {
    CheckedLoss* c = (CheckedLoss*)context;
    model_store(c->model, c->model->params);
    model_forward(c->model, c->model->params, model_images(c->model, c->batch), c->batch->count, NULL);
    return model_loss(c->model, c->batch->targets, c->batch->count);
}

RUNS_ONCE static int gradcheck(Trainer* t) {
    Model* m = &t->model;
    CheckedLoss checked = {m, loader_next(&t->train_loader)};
    float* params = model_fetch(m, m->params);
    gradcheck_move(params, m->tensors, m->tensor_count, (uint64_t)m->config.seed);
    model_store(m, m->params);
    first_gradients(t, checked.batch);
    GradcheckResult r = gradcheck_run(loss_of_params, &checked, params, model_fetch(m, m->grads), m->tensors,
                                      m->tensor_count, (uint64_t)m->config.seed, true);
    printf("%d passed, %d failed, %d skipped at kinks\n", r.passed, r.failed, r.kinks);
    return r.failed > 0;
}
