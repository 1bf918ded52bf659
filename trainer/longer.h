// A run that is made longer than it was planned, or shorter: tells what that does to its schedule, and records it.
#pragma once
#include "trainer.h"

static void note_length(Trainer* t, int64_t planned) {
    size_t used = strlen(t->extended);
    snprintf(t->extended + used, sizeof t->extended - used, "%sstep %lld: %lld -> %lld steps", used ? "; " : "",
             (long long)t->step, (long long)planned, (long long)t->total_steps);
}

static void change_length(Trainer* t) {
    const Config* before = &t->origin.config;
    Schedule planned = schedule_of(t, before);
    int64_t steps = steps_of(t, before);
    memcpy(t->extended, t->origin.extended, sizeof t->extended);
    if (t->total_steps == steps) { return; }
    if (t->total_steps < t->step) {
        fail(EXIT_USAGE, "the run is at step %lld already, behind the %lld steps asked for: give more --epochs or "
             "--steps", (long long)t->step, (long long)t->total_steps);
    }
    printf("length     %lld steps become %lld: at step %lld the learning rate goes on at %.4g, as the schedule of the "
           "new length has it (the old: %.4g)\n", (long long)steps, (long long)t->total_steps, (long long)t->step,
           scheduled_rate(t, &t->schedule), scheduled_rate(t, &planned));
    note_length(t, steps);
}
