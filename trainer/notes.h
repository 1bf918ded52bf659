// Notes before a run begins, one line each, on choices that are valid but rarely intended.
#pragma once
#include "../runtime/version.h"
#include "trainer.h"

// --lr is the peak of the schedule, at the end of the warm-up.
static void note_warmup(const Trainer* t) {
    const Schedule* s = &t->schedule;
    double last = schedule_at(t, t->total_steps - 1), epochs = (double)t->total_steps / (double)t->steps_per_epoch;
    if (last >= s->warmup || s->warmup_lr >= s->lr) { return; }
    printf("note       the run of %.3g epochs ends within its warm-up of %g: the learning rate ends at %.2e and never "
           "reaches --lr %g. Give more --epochs or --steps, or --warmup-epochs %.2g\n", epochs,
           t->model.config.warmup_epochs, learning_rate(s, last), s->lr, epochs / 10);
}

// The running mean begins with the starting weights; each step multiplies their share in it by the decay.
static void note_ema(const Trainer* t) {
    double decay = t->model.config.model_ema_decay, steps = (double)t->total_steps, share = pow(decay, steps);
    if (share <= 0.1) { return; }
    double enough = pow(0.01, 1 / steps); // the decay that leaves 1 % of them
    printf("note       --model-ema-decay %g is for longer runs: after %.0f steps %.0f %% of the mean, which is what is "
           "evaluated, are still the start. Give more steps, or a decay of %.*f\n", decay, steps, 100 * share,
           (int)ceil(1 - log10(1 - enough)), enough);
}

static void note_batch(const Trainer* t) {
    int batch = t->model.config.batch_size;
    if (batch <= t->train.count) { return; }
    printf("note       --batch-size %d is more than the %d training images there are: every step takes all of them\n",
           batch, t->train.count);
}

// Which data the run reads
RUNS_ONCE static void print_data(const Trainer* t) {
    const Config* c = &t->model.config;
    printf("data       %s: ", c->data);
    if (!*c->eval) { printf("%d training and ", t->train.count); }
    printf("%d test images, %d classes", t->test.count, t->test.classes);
    const ShardIndexHeader* h = t->train.shards ? t->train.shards->header : NULL;
    if (h && h->side) { printf("; encoded, shorter side at most %u, by %s", h->side, h->encoder); }
    if (h && !h->side) { printf("; encoded, as they came"); }
    printf("\n");
}

// Which build this is
RUNS_ONCE static void print_build(void) {
    char text[VERSION_TEXT];
    printf("build      %s\n", version_text(text));
}

// How many images could not be read
static void note_bad_images(const Trainer* t) {
    const Loader* loaders[] = {&t->train_loader, &t->test_loader};
    const char* const names[] = {"training", "test"};
    for (int i = 0; i < 2; i++) {
        if (loaders[i]->bad == 0) { continue; }
        printf("note       %d of %d %s images could not be read, and others took their place\n", loaders[i]->bad,
               loaders[i]->plan.dataset->count, names[i]);
    }
}

RUNS_ONCE static void print_notes(const Trainer* t) {
    print_build();
    note_warmup(t);
    note_ema(t);
    note_batch(t);
}
