// A run: training loop, evaluation, log, checkpoints, and what is done instead of training. The trainers on the CPU
// (train_vit.c) and on the GPU (train_vit.cu) share it; each includes it behind its model, which is
//     Model                                     with config, dims, table, tensors, tensor_count, B (images that there is
//                                               room for), profile, keep (drop path, on the host), and the flat buffers
//                                               params, grads, exp_avg, exp_avg_sq, ema (NULL: off), wherever they lie
//     model_images, model_fetch_images          of a batch: as model_forward takes them, and on the host
//     model_forward, model_loss                 of a batch, and nothing else
//     model_zero_gradients, model_gradients     of the micro-batches of a step: forward, loss and backward
//     model_update                              unless the norm of the gradients, or the loss, is not finite
//     model_step_sums                           of the step: the first of these three to wait for a GPU
//     model_prefetch                            says which batch model_gradients gets next
//     model_fetch, model_store                  a flat buffer as the host reads and writes it, and back
//     model_logits, model_losses                of the last batch, on the host
//     name_bad_activation, print_memory, program_name
#pragma once
#include "../data/loader.h"
#include "../data/procedural.h"
#include "../kernels/adamw.h" // all_finite
#include "../kernels/loss.h"  // rank_of_label
#include "../runtime/checkpoint.h"
#include "../runtime/clock.h"
#include "../runtime/log.h"
#include "../runtime/schedule.h"
#include "cost.h"
#include "gradcheck.h"
#include "list.h"
#include "parameters.h"
#include "pos_embed.h"
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------------------------
// What it costs

// FLOPs of one image, forward and backward; the backward is twice the forward.
static double train_flops(const Model* m) { return 3 * 2 * model_macs(&m->config, m->dims); }

// What the process has held at most, from the operating system, in MB
static double peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024e-6 * (double)usage.ru_maxrss;
}

static void print_plan(const Model* m, size_t data_bytes) {
    const Config* c = &m->config;
    Dims d = m->dims;
    printf("model      %s: C %d, %d blocks, %d heads, %d tokens, %d classes; attention %s, mlp %s\n",
           c->model, d.C, d.L, d.H, d.N, d.K, choice_name(config_option("attn")->choices, c->attn),
           choice_name(config_option("mlp")->choices, c->mlp));
    printf("parameters %zu in %d tensors\n", m->table.total, tensor_count(&m->table));
    print_memory(m, data_bytes);
    printf("compute    %.4f GMAC an image forward, %.3f GFLOP to train on it\n", 1e-9 * model_macs(c, d),
           1e-9 * train_flops(m));
}

// ---------------------------------------------------------------------------------------------------------------------
// The training run

typedef struct {
    Model model;
    Dataset train, test;
    Loader train_loader, test_loader;
    const Batch* first_batch; // what --overfit-batch repeats
    const Batch* coming;      // the next step's first, once it was fetched
    char output[OPTION_TEXT_SIZE];
    Schedule schedule;
    int64_t step, total_steps, steps_per_epoch; // step: updates done
    double best_top1;
    int64_t best_step;
    Running loss;        // of the steps since the last row of the log
    int64_t hits, seen;  // images among them: right ones, all
    double flops_per_image;
} Trainer;

// The first Ctrl-C (or SIGTERM) ends the run after the step or evaluation under way, with a checkpoint; the second
// ends it at once.
static volatile sig_atomic_t stop_requested;
static void request_stop(int signal_number) {
    stop_requested = 1;
    signal(signal_number, SIG_DFL);
}

typedef struct { double loss, grad_norm, lr; int64_t hits, images; } StepResult;

static const Batch* next_batch(Trainer* t) {
    if (!t->model.config.overfit_batch) { return loader_next(&t->train_loader); }
    if (!t->first_batch) { t->first_batch = loader_next(&t->train_loader); }
    return t->first_batch;
}

// Which branches of this micro-batch are dropped: rate rising linearly over the blocks.
static void draw_drop_path(Model* m, int64_t micro_batch) {
    int L = m->dims.L;
    for (int i = 0; m->keep && i < L * 2 * m->B; i++) {
        int l = i / (2 * m->B);
        float rate = L > 1 ? (float)(m->config.drop_path * l / (L - 1)) : 0;
        float u = random_uniform((uint64_t)m->config.seed, STREAM_DROP_PATH, (uint32_t)micro_batch, (uint64_t)i);
        m->keep[i] = u < rate ? 0 : 1 / (1 - rate);
    }
}

// The next micro-batch, with its draws. It may be fetched as soon as model_gradients has returned from the one before.
static const Batch* fetch_batch(Trainer* t, int64_t micro_batch) {
    Model* m = &t->model;
    m->profile.direction = PROFILE_FORWARD;
    const Batch* batch = next_batch(t);
    draw_drop_path(m, micro_batch);
    model_prefetch(m, batch);
    lap(m, PART_DATA);
    return batch;
}

static double step_learning_rate(const Trainer* t) {
    double at = t->model.config.sched_on_updates ? (double)t->step : (double)(t->step / t->steps_per_epoch);
    return learning_rate(&t->schedule, at);
}

static bool step_finite(const StepResult* r) { return isfinite(r->loss) && isfinite(r->grad_norm); }

// Forward and backward over the micro-batches of one step, and the update by the gradients of their mean loss. Where
// something is not finite nothing is updated and the step does not count.
static StepResult train_step(Trainer* t) {
    Model* m = &t->model;
    int micro_batches = m->config.grad_accum_steps;
    int64_t next = t->step * micro_batches, end = t->total_steps * micro_batches;
    StepResult result = {.lr = step_learning_rate(t)};
    model_zero_gradients(m);
    for (int i = 0; i < micro_batches; i++) {
        const Batch* batch = t->coming ? t->coming : fetch_batch(t, next);
        result.images += batch->count;
        model_gradients(m, batch, m->keep, 1.0f / (float)(batch->count * micro_batches));
        if (i == micro_batches - 1) { model_update(m, result.lr, t->step + 1); }
        t->coming = ++next < end ? fetch_batch(t, next) : NULL;
    }
    StepSums sums = model_step_sums(m);
    result.loss = sums.loss / (double)result.images;
    result.grad_norm = sums.norm;
    result.hits = (int64_t)sums.hits;
    if (!step_finite(&result)) { return result; }
    t->step++;
    running_add(&t->loss, result.loss);
    t->hits += result.hits;
    t->seen += result.images;
    return result;
}

// ---------------------------------------------------------------------------------------------------------------------
// Evaluation over the whole test split

typedef struct { int64_t images, hits; } ClassCount;

static Evaluation evaluate(Trainer* t, float* flat, ClassCount* per_class /* (K) or NULL */) {
    Model* m = &t->model;
    Running loss = {0}, top1 = {0}, top5 = {0};
    loader_seek(&t->test_loader, 0);
    while ((int64_t)loss.count < t->test.count) {
        const Batch* batch = loader_next(&t->test_loader);
        model_forward(m, flat, model_images(m, batch), batch->count, NULL);
        model_loss(m, batch->targets, batch->count);
        const float *logits = model_logits(m), *losses = model_losses(m);
        for (int b = 0; b < batch->count; b++) {
            int rank = rank_of_label(logits + (size_t)b * m->dims.K, m->dims.K, batch->labels[b]);
            running_add(&loss, losses[b]);
            running_add(&top1, 100.0 * (rank < 1));
            running_add(&top5, 100.0 * (rank < 5));
            if (per_class) {
                per_class[batch->labels[b]].images++;
                per_class[batch->labels[b]].hits += rank < 1;
            }
        }
    }
    return (Evaluation){
        .loss = loss.mean, .loss_se = running_error(&loss), .top1 = top1.mean, .top1_se = running_error(&top1),
        .top5 = top5.mean, .top5_se = running_error(&top5), .images = (int64_t)loss.count,
    };
}

static void print_classes(const Dataset* data, const ClassCount* counts) {
    for (int k = 0; k < data->classes; k++) {
        long long images = counts[k].images;
        double share = images ? (double)counts[k].hits / (double)images : 0;
        double error = images ? sqrt(share * (1 - share) / (double)images) : 0;
        printf("  %-24s %6.2f ± %.2f %% of %lld\n", data->class_names[k], 100 * share, 100 * error, images);
    }
}

static Evaluation evaluate_and_print(Trainer* t, float* flat, const char* what) {
    Model* m = &t->model;
    ClassCount* counts = alloc_array(ClassCount, m->dims.K, "class counts");
    Evaluation e = evaluate(t, flat, counts);
    print_evaluation(what, &e);
    if (m->config.per_class) { print_classes(&t->test, counts); }
    free(counts);
    return e;
}

// ---------------------------------------------------------------------------------------------------------------------
// Checkpoints

enum { PATH_SIZE = OPTION_TEXT_SIZE + 64 }; // a folder or prefix that the user gave, and a name of ours

static void output_path(const Trainer* t, const char* name, char path[PATH_SIZE]) {
    snprintf(path, PATH_SIZE, "%s/%s", t->output, name);
}

// The configuration and the step; to be freed
static Metadata* run_metadata(const Trainer* t) {
    Metadata* metadata = alloc_array(Metadata, 1, "metadata");
    metadata_add_config(metadata, &t->model.config, config_table, CONFIG_OPTIONS);
    metadata_add(metadata, "step", "%lld", (long long)t->step);
    return metadata;
}

static void save_buffers(const Trainer* t, const char* name, const TensorBuffer* buffers, int count,
                         const Metadata* metadata) {
    char path[PATH_SIZE];
    Error err;
    output_path(t, name, path);
    if (!checkpoint_save(path, t->model.tensors, t->model.tensor_count, buffers, count, metadata, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
}

static void save_weights(Trainer* t, const char* name, float* flat) {
    Metadata* metadata = run_metadata(t);
    TensorBuffer weights = {"", model_fetch(&t->model, flat)};
    save_buffers(t, name, &weights, 1, metadata);
    free(metadata);
}

// The buffers that a resumed run goes on with: where the model has them, and where the host does
typedef struct { float* flat[4]; TensorBuffer buffers[4]; int count; } ResumeState;
static ResumeState resume_state(Model* m) {
    static const char* const prefixes[] = {"param.", "exp_avg.", "exp_avg_sq.", "ema."};
    ResumeState state = {.flat = {m->params, m->exp_avg, m->exp_avg_sq, m->ema}, .count = m->ema ? 4 : 3};
    for (int i = 0; i < state.count; i++) {
        state.buffers[i] = (TensorBuffer){prefixes[i], model_fetch(m, state.flat[i])};
    }
    return state;
}

// The file to resume from comes last: a run that is killed in between goes on from an earlier step and writes all again.
static void save_last(Trainer* t) {
    Model* m = &t->model;
    save_weights(t, "last.safetensors", m->params);
    if (m->ema) { save_weights(t, "last.ema.safetensors", m->ema); }
    Metadata* metadata = run_metadata(t);
    metadata_add(metadata, "best", "%lld %.17g", (long long)t->best_step, t->best_top1);
    metadata_add(metadata, "window", "%.17g %.17g %.17g %lld %lld", t->loss.count, t->loss.mean, t->loss.squares,
                 (long long)t->hits, (long long)t->seen);
    ResumeState state = resume_state(m);
    save_buffers(t, "last.resume.safetensors", state.buffers, state.count, metadata);
    free(metadata);
}

static SafeTensors open_or_fail(const char* path) {
    SafeTensors file;
    Error err;
    if (!safetensors_open(&file, path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return file;
}

// Reads back the metadata of save_last; false where some of it is missing.
static bool read_position(Trainer* t, const SafeTensors* file) {
    const char* step = safetensors_metadata(file, "step");
    const char* best = safetensors_metadata(file, "best");
    const char* window = safetensors_metadata(file, "window");
    Running* loss = &t->loss;
    long long at = -1, best_step = 0, hits = 0, seen = 0;
    bool read = step && sscanf(step, "%lld", &at) == 1 &&
        best && sscanf(best, "%lld %lf", &best_step, &t->best_top1) == 2 &&
        window && sscanf(window, "%lf %lf %lf %lld %lld", &loss->count, &loss->mean, &loss->squares, &hits, &seen) == 5;
    t->step = at;
    t->best_step = best_step;
    t->hits = hits;
    t->seen = seen;
    return read && at >= 0;
}

static void load_resume(Trainer* t, const char* folder) {
    Model* m = &t->model;
    char path[PATH_SIZE];
    Error err;
    snprintf(path, sizeof path, "%s/last.resume.safetensors", folder);
    SafeTensors file = open_or_fail(path);
    ResumeState state = resume_state(m);
    for (int i = 0; i < state.count; i++) {
        if (!checkpoint_load(&file, m->tensors, m->tensor_count, state.buffers[i], &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
        model_store(m, state.flat[i]);
    }
    if (!read_position(t, &file)) {
        fail(EXIT_RUN_TIME, "%s does not say at which step it was saved: it is not a file to resume from", path);
    }
    safetensors_close(&file);
}

// ---------------------------------------------------------------------------------------------------------------------
// A loss or gradient that is not finite is never applied

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

static void stop_not_finite(Trainer* t, const StepResult* r) {
    char name[160];
    int B = t->model.B < t->train.count ? t->model.B : t->train.count;
    name_not_finite(&t->model, B, name);
    save_last(t);
    fail(EXIT_RUN_TIME, "step %lld is not finite (loss %g, gradient norm %g): the first bad tensor is %s. "
         "The update was not applied and the state before it is saved in %s. "
         "Try a smaller --lr, a longer --warmup-epochs or --clip-grad 1",
         (long long)t->step + 1, r->loss, r->grad_norm, name, t->output);
}

// ---------------------------------------------------------------------------------------------------------------------
// The training loop

typedef struct { double start, waited; int64_t step; } Clock; // of the window since the last row

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

static void show_progress(Trainer* t, FILE* csv, const StepResult* r, Clock* clock) {
    bool row = t->step % t->model.config.log_every == 0 || t->step == t->total_steps;
    Progress p = progress_of(t, r, clock);
    print_progress(&p, t->total_steps, 1e-3 * p.ms_per_step * (double)(t->total_steps - t->step), row);
    if (!row) { return; }
    metrics_train(csv, &p);
    t->loss = (Running){0};
    t->hits = t->seen = 0;
    *clock = clock_start(t);
}

static void evaluate_epoch(Trainer* t, FILE* csv) {
    float* weights = t->model.ema ? t->model.ema : t->model.params;
    double epoch = (double)t->step / (double)t->steps_per_epoch;
    char what[64];
    snprintf(what, sizeof what, "epoch %.2f, test%s", epoch, t->model.ema ? " (EMA)" : "");
    Evaluation e = evaluate_and_print(t, weights, what);
    metrics_test(csv, t->step, epoch, &e);
    if (e.top1 > t->best_top1 || !t->best_step) {
        t->best_top1 = e.top1;
        t->best_step = t->step;
        save_weights(t, "best.safetensors", weights);
    }
}

static void keep_checkpoint(Trainer* t) {
    char name[64];
    snprintf(name, sizeof name, "epoch-%lld.safetensors", (long long)(t->step / t->steps_per_epoch));
    save_weights(t, name, t->model.ema ? t->model.ema : t->model.params);
}

// True when what is due every so many units (0: never) is due at the end of this one.
static bool due(int64_t at, int64_t every) { return every > 0 && at % every == 0; }

static void after_step(Trainer* t, FILE* csv, const StepResult* r, Clock* clock) {
    const Config* c = &t->model.config;
    bool last = t->step == t->total_steps, epoch_ends = t->step % t->steps_per_epoch == 0;
    int64_t epoch = t->step / t->steps_per_epoch;
    show_progress(t, csv, r, clock);
    double paused = seconds_now();
    if (last || (epoch_ends && due(epoch, c->eval_every))) { evaluate_epoch(t, csv); }
    if (epoch_ends && due(epoch, c->keep_every)) { keep_checkpoint(t); }
    bool save = c->checkpoint_every ? due(t->step, c->checkpoint_every) : epoch_ends;
    if (last || save) { save_last(t); }
    clock->start += seconds_now() - paused; // evaluation and files do not count as training time
}

static int train(Trainer* t) {
    Error err;
    char path[PATH_SIZE];
    output_path(t, "metrics.csv", path);
    FILE* csv = metrics_open(path, t->step, &err);
    if (!csv) { fail(EXIT_RUN_TIME, "%s", err.text); }
    signal(SIGINT, request_stop);
    signal(SIGTERM, request_stop);
    loader_seek(&t->train_loader, t->step * t->model.config.grad_accum_steps);
    Clock clock = clock_start(t);
    while (t->step < t->total_steps && !stop_requested) {
        StepResult r = train_step(t);
        if (!step_finite(&r)) { stop_not_finite(t, &r); }
        after_step(t, csv, &r, &clock);
    }
    fclose(csv);
    if (stop_requested) {
        save_last(t);
        printf("\nstopped at step %lld: go on with --resume %s\n", (long long)t->step, t->output);
        return 0;
    }
    printf("peak memory %.1f MB\n", peak_memory());
    printf("best top-1 %.2f %% at step %lld; files in %s: metrics.csv, config.txt, best.safetensors, "
           "last.safetensors\n", t->best_top1, (long long)t->best_step, t->output);
    return 0;
}

static int overfit(Trainer* t) {
    const double goal = 0.01;
    while (t->step < t->total_steps) {
        long long step = t->step;
        StepResult r = train_step(t);
        if (!step_finite(&r)) { fail(EXIT_RUN_TIME, "step %lld is not finite", step + 1); }
        if (due(step, t->model.config.log_every) || r.loss < goal) { printf("step %lld: loss %.6f\n", step, r.loss); }
        if (r.loss < goal) {
            printf("the first batch is learned: loss below %g\n", goal);
            return 0;
        }
    }
    printf("the first batch is not learned to loss %g in %lld steps: give more --steps or another --lr\n", goal,
           (long long)t->total_steps);
    return EXIT_RUN_TIME;
}

// ---------------------------------------------------------------------------------------------------------------------
// --profile: the parts of some steps

// A table of milliseconds a step, over so many steps of so many images, with the arithmetic rate of the parts that are
// products (the backward of a product is two of its size) and each part's share
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

static int profile(Trainer* t) {
    Model* m = &t->model;
    int steps = m->config.profile;
    for (int i = -1; i < steps; i++) { // the first step warms up
        if (i == 0) { profile_start(&m->profile); }
        train_step(t);
    }
    print_profile(m, &m->profile, steps, (double)m->B * m->config.grad_accum_steps);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// --dump-state and --gradcheck: the first batch, no drop path

// Gradients of the mean loss over the first batch in m->grads; returns the loss.
static double first_gradients(Trainer* t, const Batch* batch) {
    Model* m = &t->model;
    model_zero_gradients(m);
    model_gradients(m, batch, NULL, 1.0f / (float)batch->count);
    return model_step_sums(m).loss / batch->count;
}

static int dump_state(Trainer* t, const char* path) {
    Model* m = &t->model;
    Dims d = m->dims;
    const Batch* batch = loader_next(&t->train_loader);
    float loss = (float)first_gradients(t, batch);
    int count = 4 + 2 * m->tensor_count;
    SafeTensorOut* out = alloc_array(SafeTensorOut, count, "a dump");
    char(*names)[128] = (char(*)[128])alloc_array(char, (size_t)count * 128, "a dump");
    out[0] = (SafeTensorOut){"input", 4, {batch->count, 3, d.S, d.S}, model_fetch_images(m, batch)};
    out[1] = (SafeTensorOut){"target", 2, {batch->count, d.K}, batch->targets};
    out[2] = (SafeTensorOut){"logits", 2, {batch->count, d.K}, model_logits(m)};
    out[3] = (SafeTensorOut){"loss", 1, {1}, &loss};
    const float *params = model_fetch(m, m->params), *grads = model_fetch(m, m->grads);
    for (int i = 0; i < 2 * m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i / 2];
        snprintf(names[i], sizeof names[i], "%s.%s", i % 2 ? "grad" : "param", p->name);
        const float* flat = i % 2 ? grads : params;
        out[4 + i] = (SafeTensorOut){.name = names[i], .rank = p->rank, .data = flat + p->offset};
        memcpy(out[4 + i].shape, p->shape, sizeof p->shape);
    }
    Metadata* metadata = alloc_array(Metadata, 1, "metadata");
    metadata_add_config(metadata, &m->config, config_table, CONFIG_OPTIONS);
    const char* pairs[METADATA_MAX][2];
    Error err;
    metadata_pairs(metadata, pairs);
    if (!safetensors_save(path, out, count, pairs, metadata->count, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    printf("wrote %s: loss %.6f on %d images\n", path, loss, batch->count);
    free(metadata);
    free(names);
    free(out);
    return 0;
}

typedef struct { Model* model; const Batch* batch; } CheckedLoss;
static double loss_of_params(void* context) {
    CheckedLoss* c = (CheckedLoss*)context;
    model_store(c->model, c->model->params);
    model_forward(c->model, c->model->params, model_images(c->model, c->batch), c->batch->count, NULL);
    return model_loss(c->model, c->batch->targets, c->batch->count);
}

static int gradcheck(Trainer* t) {
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

// ---------------------------------------------------------------------------------------------------------------------
// From the command line to a run

// Flags, over what the file of --resume or --eval says. Ends the program on --help, --list and errors.
static Config configure(int argc, char** argv) {
    Config c, saved;
    Error err;
    char given[OPTION_TEXT_SIZE], path[PATH_SIZE] = "";
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "help", given)) {
        config_help(stdout, program_name);
        exit(0);
    }
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "list", given)) {
        config_list(stdout);
        exit(0);
    }
    bool resumes = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "resume", given) && *given;
    if (resumes) {
        snprintf(path, sizeof path, "%s/last.resume.safetensors", given);
    } else if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "eval", given)) {
        snprintf(path, sizeof path, "%s", given);
    }
    if (!options_defaults(&saved, config_table, CONFIG_OPTIONS, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (*path) {
        SafeTensors file = open_or_fail(path);
        if (!metadata_read_config(&file, &saved, config_table, CONFIG_OPTIONS, &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
        safetensors_close(&file);
    }
    if (!config_parse(&c, *path ? &saved : NULL, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (resumes && !options_same(&saved, &c, config_table, CONFIG_OPTIONS, &err)) {
        fail(EXIT_USAGE, "a resumed run keeps its configuration, but %s: leave these flags out", err.text);
    }
    return c;
}

static void load_data(Trainer* t, const Config* c) {
    Error err;
    if (!dataset_open(&t->train, &t->test, c->data, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    if (c->train_images && c->train_images < t->train.count) { t->train.count = c->train_images; }
    if (c->test_images && c->test_images < t->test.count) { t->test.count = c->test_images; }
    if (c->classes && c->classes < t->train.classes) {
        fail(EXIT_USAGE, "--classes %d is fewer than the %d of %s: leave it out", c->classes, t->train.classes,
             c->data);
    }
}

static void choose_normalization(LoaderConfig* loader, const Dataset* data, int normalize) {
    static const float imagenet_mean[] = {0.485f, 0.456f, 0.406f}, imagenet_std[] = {0.229f, 0.224f, 0.225f};
    static const float half[] = {0.5f, 0.5f, 0.5f};
    const float* const mean[] = {
        [NORMALIZE_DATASET] = data->mean, [NORMALIZE_IMAGENET] = imagenet_mean, [NORMALIZE_HALF] = half};
    const float* const std[] = {
        [NORMALIZE_DATASET] = data->std, [NORMALIZE_IMAGENET] = imagenet_std, [NORMALIZE_HALF] = half};
    memcpy(loader->mean, mean[normalize], sizeof loader->mean);
    memcpy(loader->std, std[normalize], sizeof loader->std);
}

static void open_loaders(Trainer* t, LoaderOutput output) {
    const Config* c = &t->model.config;
    Error err;
    LoaderConfig train = {
        .batch_size = c->batch_size, .image_size = c->image_size, .num_classes = t->model.dims.K,
        .output = output, .train = true, .prefetch = true, .seed = (uint64_t)c->seed,
        .crop_pct = (float)c->crop_pct, .eval_interpolation = (Interpolation)c->interpolation,
        .augment = {
            .crop_padding = c->crop_padding, .random_resized_crop = c->rrc != 0,
            .scale = {(float)c->scale[0], (float)c->scale[1]}, .ratio = {(float)c->ratio[0], (float)c->ratio[1]},
            .train_interpolation = (Interpolation)c->train_interpolation, .flip = (float)c->hflip,
            .erase = (float)c->reprob, .erase_by_noise = c->remode == ERASE_BY_NOISE,
            .mixup = (float)c->mixup, .cutmix = (float)c->cutmix,
            .mix_probability = (float)c->mixup_prob, .mix_switch = (float)c->mixup_switch_prob,
            .smoothing = (float)c->smoothing,
        },
    };
    choose_normalization(&train, &t->train, c->normalize);
    LoaderConfig test = train;
    test.train = false;
    if (!loader_open(&t->train_loader, &t->train, &train, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (!loader_open(&t->test_loader, &t->test, &test, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

static void plan_steps(Trainer* t) {
    const Config* c = &t->model.config;
    t->steps_per_epoch = t->train_loader.steps_per_epoch / c->grad_accum_steps;
    if (t->steps_per_epoch < 1) { t->steps_per_epoch = 1; }
    t->total_steps = c->steps ? c->steps : c->epochs * t->steps_per_epoch;
    double unit = c->sched_on_updates ? 1 : 1.0 / (double)t->steps_per_epoch; // the schedule counts steps, or epochs
    t->schedule = (Schedule){
        .lr = c->lr, .min_lr = c->min_lr, .warmup_lr = c->warmup_lr,
        .warmup = c->warmup_epochs * (double)t->steps_per_epoch * unit, .total = (double)t->total_steps * unit,
    };
    t->flops_per_image = train_flops(&t->model);
}

static bool folder_holds_run(const char* folder) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    return access(path, F_OK) == 0;
}

static void make_folders(const char* path) { // as mkdir -p
    char part[OPTION_TEXT_SIZE];
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] != '/' && path[n]) { continue; }
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            fail(EXIT_RUN_TIME, "cannot make the folder %s: %s. Choose another --output", part, strerror(errno));
        }
    }
}

// What an earlier run left must not be taken for this one's: resumed before its first checkpoint, it would go on with
// that.
static void remove_run(const Trainer* t) {
    static const char* const names[] = {"last.resume.safetensors", "last.safetensors", "last.ema.safetensors",
                                        "best.safetensors", "metrics.csv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_SIZE];
        output_path(t, names[i], path);
        if (unlink(path) != 0 && errno != ENOENT) {
            fail(EXIT_RUN_TIME, "cannot remove %s: %s", path, strerror(errno));
        }
    }
}

// Where the run leaves its files: --output, else the folder that it resumes, else a new one.
static void open_output(Trainer* t) {
    const Config* c = &t->model.config;
    const char* data = strrchr(c->data, '/') ? strrchr(c->data, '/') + 1 : c->data;
    snprintf(t->output, sizeof t->output, "%s", *c->output ? c->output : c->resume);
    bool resumes = *c->resume && strcmp(t->output, c->resume) == 0;
    for (int n = 1; !*t->output || (!*c->output && !*c->resume && folder_holds_run(t->output)); n++) {
        int used = snprintf(t->output, sizeof t->output, "runs/%.120s-%.120s-s%d", data, c->model, c->seed);
        if (n > 1) { snprintf(t->output + used, sizeof t->output - (size_t)used, "-%d", n); }
    }
    if (!resumes && !c->overwrite && folder_holds_run(t->output)) {
        fail(EXIT_USAGE, "--output %s already holds a run: go on with --resume %s, start anew with --overwrite, "
             "or choose another folder", t->output, t->output);
    }
    make_folders(t->output);
    if (!resumes) { remove_run(t); }
    char path[PATH_SIZE];
    output_path(t, "config.txt", path);
    FILE* f = fopen(path, "w");
    if (!f) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    config_write(f, c);
    if (fclose(f) != 0) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
}

static void load_weights(Trainer* t) {
    Model* m = &t->model;
    Error err;
    const char* path = *m->config.eval ? m->config.eval : m->config.init_from;
    if (*m->config.resume) {
        load_resume(t, m->config.resume);
        return;
    }
    float* params = model_fetch(m, m->params);
    if (*path) {
        SafeTensors file = open_or_fail(path);
        TensorBuffer weights = {"", params};
        bool ok = *m->config.eval
            ? checkpoint_load(&file, m->tensors, m->tensor_count, weights, &err)
            : checkpoint_load_matching(&file, m->tensors, m->tensor_count, params, adapt_pos_embed, &err);
        if (!ok) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
        safetensors_close(&file);
        model_store(m, m->params);
    }
    if (m->ema) {
        memcpy(model_fetch(m, m->ema), params, m->table.total * sizeof(float));
        model_store(m, m->ema);
    }
}

static int run(Trainer* t) {
    const Config* c = &t->model.config;
    if (*c->eval) {
        evaluate_and_print(t, t->model.params, c->eval);
        return 0;
    }
    if (*c->dump_state) { return dump_state(t, c->dump_state); }
    if (c->gradcheck) { return gradcheck(t); }
    if (c->overfit_batch) { return overfit(t); }
    if (c->profile) { return profile(t); }
    open_output(t);
    return train(t);
}
