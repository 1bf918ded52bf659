// A loss or gradient that is not finite is never applied: the run ends, and names the first tensor that is not.
#pragma once
#include "../kernels/adamw.h"
#include "checkpoints.h"
#include "step.h"

static bool name_bad_tensor(const Model* m, const float* flat, const char* what, char name[160]) {
    for (int i = 0; i < m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i];
        if (!all_finite(flat + p->offset, p->size)) {
            snprintf(name, 160, "%s %s", what, p->name);
            return true;
        }
    }
    return false;
}

// The first tensor that holds a NaN or Inf: of the parameters, then of the activations, then of the gradients
static void name_not_finite(Model* m, int B, char name[160]) {
    snprintf(name, 160, "the gradient norm");
    if (name_bad_tensor(m, model_fetch(m, m->params), "parameter", name)) { return; }
    if (name_bad_activation(m, B, name)) { return; }
    name_bad_tensor(m, model_fetch(m, m->grads), "gradient of", name);
}

RUNS_ONCE static void stop_not_finite(Trainer* t, const StepResult* r) {
    char name[160];
    int B = t->model.B < t->train.count ? t->model.B : t->train.count;
    name_not_finite(&t->model, B, name);
    save_last(t);
    fail(EXIT_RUN_TIME, "step %lld is not finite (loss %g, gradient norm %g): the first bad tensor is %s. "
         "The update was not applied and the state before it is saved in %s. "
         "Try a smaller --lr, a longer --warmup-epochs or --clip-grad 1",
         (long long)t->step + 1, r->loss, r->grad_norm, name, t->output);
}
