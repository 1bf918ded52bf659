// The training loop: steps, the log, evaluations and checkpoints when they are due.
#pragma once
#include "../runtime/clock.h"
#include "../runtime/signals.h"
#include "agree.h"
#include "checkpoints.h"
#include "evaluate.h"
#include "folder.h"
#include "notes.h"
#include "not_finite.h"
#include "records.h"
#include "step.h"

typedef struct { double start, waited; int64_t step; } Clock; // for the time since the last row

static Clock clock_start(const Trainer* t) {
    return (Clock){.start = seconds_now(), .waited = loader_wait_seconds(&t->train_loader), .step = t->step};
}

static Progress progress_of(const Trainer* t, const StepResult* r, const Clock* clock) {
    double seconds = seconds_now() - clock->start;
    double steps = (double)(t->step - clock->step), images = steps * (double)r->images;
    return (Progress){
        .step = t->step, .epoch = (double)t->step / (double)t->steps_per_epoch, .loss = t->loss,
        .accuracy = t->seen ? 100.0 * (double)t->hits / (double)t->seen : 0,
        .lr = r->lr, .grad_norm = r->grad_norm,
        .ms_per_step = 1e3 * seconds / steps, .images_per_second = images / seconds,
        .gflops = 1e-9 * images * t->flops_per_image / seconds,
        .wait_percent = 100 * (loader_wait_seconds(&t->train_loader) - clock->waited) / seconds,
    };
}

static void show_progress(Trainer* t, Records* records, const StepResult* r, Clock* clock) {
    bool row = t->step % t->model.config.log_every == 0 || t->step == t->total_steps;
    Progress p = progress_of(t, r, clock);
    print_progress(&p, t->total_steps, 1e-3 * p.ms_per_step * (double)(t->total_steps - t->step), row);
    if (!row) { return; }
    record_row(t, records, &p, NULL);
    t->loss = (Running){0};
    t->hits = t->seen = 0;
    *clock = clock_start(t);
}

static void evaluate_epoch(Trainer* t, Records* records) {
    float* weights = t->model.ema ? t->model.ema : t->model.params;
    double epoch = (double)t->step / (double)t->steps_per_epoch;
    char what[64];
    snprintf(what, sizeof what, "epoch %.2f, test%s", epoch, t->model.ema ? " (EMA)" : "");
    Evaluation e = evaluate_and_print(t, weights, what);
    record_row(t, records, NULL, &e);
    record_functions(t, records, weights);
    if (e.top1 > t->best_top1 || !t->best_step) {
        t->best_top1 = e.top1;
        t->best_step = t->step;
        save_weights(t, BEST_FILE, weights);
        save_best_folder(t);
    }
}

static void keep_checkpoint(Trainer* t) {
    char name[64];
    snprintf(name, sizeof name, "epoch-%lld.safetensors", (long long)(t->step / t->steps_per_epoch));
    save_weights(t, name, t->model.ema ? t->model.ema : t->model.params);
}

// True when what is due every so many units (0: never) is due at the end of this one.
static bool due(int64_t at, int64_t every) { return every > 0 && at % every == 0; }

// Saves the log's rows up to this step, then the checkpoint that continues after them.
static void save_all(Trainer* t, Records* records) {
    compare_parameters(t);
    records_sync(records);
    save_last(t);
}

static void after_step(Trainer* t, Records* records, const StepResult* r, Clock* clock) {
    const Config* c = &t->model.config;
    bool last = t->step == t->total_steps, epoch_ends = t->step % t->steps_per_epoch == 0;
    int64_t epoch = t->step / t->steps_per_epoch;
    show_progress(t, records, r, clock);
    double paused = seconds_now();
    if (last || (epoch_ends && due(epoch, c->eval_every))) { evaluate_epoch(t, records); }
    if (epoch_ends && due(epoch, c->keep_every)) { keep_checkpoint(t); }
    bool save = c->checkpoint_every ? due(t->step, c->checkpoint_every) : epoch_ends;
    if (last || save) { save_all(t, records); }
    clock->start += seconds_now() - paused; // evaluation and files do not count as training time
}

// The last line: the result, and the files that exist
static void print_result(const Trainer* t) {
    static const char* const names[] = {"metrics.csv", "config.txt", BEST_FILE, "last.safetensors", BEST_FOLDER "/"};
    printf("best top-1 %.2f %% at step %lld; files in %s:", t->best_top1, (long long)t->best_step, t->output);
    const char* separator = " ";
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!folder_has(t->output, names[i])) { continue; }
        printf("%s%s", separator, names[i]);
        separator = ", ";
    }
    printf("\n");
}

// Between steps: the signal that ends the run; 0: none. With several ranks all obey what the last step has told all.
static int signal_to_stop(const StepResult* last) { return ranks.size == 1 ? stop_requested : last->stop; }

static int train(Trainer* t) {
    static Records records; // too large for a small stack
    records_open(t, &records);
    if (t->best_step) { save_best_folder(t); }
    output_outlives_reader();
    stop_on_signals();
    if (t->step == t->total_steps) {
        printf("finished   all %lld steps of this run are done; more --epochs or --steps make it longer\n",
               (long long)t->total_steps);
    }
    record_first_batch(t, &records);
    loader_seek(&t->train_loader, t->step * own_share(t->model.config.grad_accum_steps).count);
    Clock clock = clock_start(t);
    StepResult r = {0};
    while (t->step < t->total_steps && !signal_to_stop(&r)) {
        watchdog_at(t->step + 1);
        r = train_step(t);
        watchdog_writes(false); // rank 0 took part, so it is done with its files
        if (!step_finite(&r)) { stop_not_finite(t, &r); }
        after_step(t, &records, &r, &clock);
    }
    bool stopped = t->step < t->total_steps;
    if (stopped) { save_all(t, &records); }
    records_close(&records);
    if (stopped) {
        if (ranks_lead()) { lock_note_stopped(t->output, t->step); }
        output_keep();
        printf("stopped at step %lld: go on with --resume %s\n", (long long)t->step, t->output);
        return signal_to_stop(&r) == SIGUSR1 ? EXIT_COME_AGAIN : EXIT_STOPPED;
    }
    note_bad_images(t);
    printf("peak memory %.1f MB\n", peak_memory());
    print_result(t);
    return 0;
}
