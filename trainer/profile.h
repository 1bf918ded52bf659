// --profile: where the time of some steps goes, part by part.
#pragma once
#include "../model/cost.h"
#include "step.h"

// A table of milliseconds per step, averaged over `steps` of so many images each, with the arithmetic rate of the parts
// that are matrix products (the backward of one is two of its size) and each part's share
static void print_profile(const Model* m, const Profile* profile, int steps, double images) {
    double total = profile_total(profile), all_flops = 0;
    printf("%-12s %12s %12s %14s %14s %8s\n", "part", "forward, ms", "backward, ms", "forward, GF/s", "backward, GF/s",
           "share");
    for (int part = 0; part < PARTS; part++) {
        const double* seconds = profile->seconds[part];
        double flops = 2 * part_macs(&m->config, m->dims, part) * images * steps;
        all_flops += 3 * flops;
        printf("%-12s %12.2f %12.2f", part_names[part], 1e3 * seconds[0] / steps, 1e3 * seconds[1] / steps);
        if (flops > 0) {
            printf(" %14.1f %14.1f", 1e-9 * flops / seconds[0], 2e-9 * flops / seconds[1]);
        } else {
            printf(" %14s %14s", "", "");
        }
        printf(" %6.1f %%\n", 100 * (seconds[0] + seconds[1]) / total);
    }
    printf("%-12s %25.2f %29.1f  %.1f images/s\n", "step", 1e3 * total / steps, 1e-9 * all_flops / total,
           images * steps / total);
}

RUNS_ONCE static int profile(Trainer* t) {
    Model* m = &t->model;
    int steps = m->config.profile;
    for (int i = -1; i < steps; i++) { // the first one warms up, and is not counted
        if (i == 0) { profile_start(&m->profile); }
        train_step(t);
    }
    print_profile(m, &m->profile, steps, (double)t->train_loader.plan.config.batch_size * m->config.grad_accum_steps);
    return 0;
}
