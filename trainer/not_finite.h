// A loss or gradient that is not finite is never applied: the run ends, and names the first tensor that is not.
#pragma once
#include "../kernels/adamw.h"
#include "../runtime/exchange.h"
#include "agree.h"
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
    const float *params = model_fetch(m, m->params), *grads = model_fetch(m, m->grads); // all ranks must ask for these
    snprintf(name, 160, "the gradient norm");
    if (name_bad_tensor(m, params, "parameter", name)) { return; }
    if (name_bad_activation(m, B, name)) { return; }
    name_bad_tensor(m, grads, "gradient of", name);
}

// With several ranks, the first that has a bad activation names it; a bad parameter or gradient is the same on all.
static void choose_name(char name[160]) {
    char(*all)[160] = (char(*)[160])alloc_array(char, (size_t)ranks.size * 160, "names");
    memcpy(all[ranks.place], name, 160);
    gather_all(all, 160);
    int chosen = 0;
    while (chosen < ranks.size && strncmp(all[chosen], "activation", 10) != 0) { chosen++; }
    if (chosen == ranks.size) { chosen = 0; }
    snprintf(name, 160, "%.159s", all[chosen]);
    if (ranks.size > 1 && strncmp(name, "activation", 10) == 0) {
        snprintf(name, 160, "rank %d's %.140s", ranks.at_place[chosen], all[chosen]);
    }
    free(all);
}

// All ranks come here in the same step. Rank 0 saves and reports it, and then all end.
RUNS_ONCE static void stop_not_finite(Trainer* t, const StepResult* r) {
    Error err;
    char name[160] = "";
    int B = t->model.B < t->train.count ? t->model.B : t->train.count;
    name_not_finite(&t->model, B, name);
    choose_name(name);
    save_last(t);
    char saved = 1;
    wait_on("the files that rank 0 writes", -1);
    lead_tells(&saved, 1);
    set_error(&err, "step %lld is not finite (loss %g, gradient norm %g): the first bad tensor is %s. "
              "The update was not applied and the state before it is saved in %s. "
              "Try a smaller --lr, a longer --warmup-epochs or --clip-grad 1",
              (long long)t->step + 1, r->loss, r->grad_norm, name, t->output);
    leave_together(EXIT_RUN_TIME, err.text);
}
