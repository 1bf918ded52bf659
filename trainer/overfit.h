// --overfit-batch: checks that the model can learn one batch by heart.
#pragma once
#include "step.h"
#include "train.h"

RUNS_ONCE static int overfit(Trainer* t) {
    const double goal = 0.01;
    while (t->step < t->total_steps) {
        long long step = t->step;
        StepResult r = train_step(t);
        if (!step_finite(&r)) { fail(EXIT_RUN_TIME, "step %lld is not finite", step + 1); }
        if (due(step, t->model.config.log_every) || r.loss < goal) {
            printf("step %lld: loss %.6f\n", step, r.loss);
            output_flush();
        }
        if (r.loss < goal) {
            printf("the first batch is learned: loss below %g\n", goal);
            return 0;
        }
    }
    printf("the first batch is not learned to loss %g in %lld steps: give more --steps or another --lr\n", goal,
           (long long)t->total_steps);
    return EXIT_RUN_TIME;
}
