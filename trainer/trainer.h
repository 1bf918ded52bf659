// What a run holds, and how it is set up from data and configuration. The files of trainer/ are shared by the trainers
// for the CPU (train_vit.c) and for the GPU (train_vit.cu); each includes them, through run.h, after its model, which
// is
//     Model                                     with config, dims, table, tensors, tensor_count, B (images that the
//                                               activations hold), profile, keep (drop path, on the host), and the flat
//                                               buffers params, grads, exp_avg, exp_avg_sq, ema (NULL: off), on the
//                                               host or the device
//     model_images, model_fetch_images          of a batch, whether made or only drawn: as model_forward takes them,
//                                               and on the host
//     model_forward, model_loss                 of one batch, outside of a step
//     model_zero_gradients, model_gradients     of this rank's micro-batches of a step: forward, loss and backward
//     model_update                              by the gradients of all ranks, unless their norm or the loss is not
//                                               finite
//     model_step_sums                           of the step; the first of these three that waits for a GPU
//     model_prefetch                            announces the batch that model_gradients or model_evaluate gets next
//     model_evaluate                            logits and losses of a batch that was prefetched; it may be reused then
//     model_fetch                               a flat buffer where the host can read it. All ranks must ask for it,
//                                               and none for gradients; it may lie in their place until the next step
//     model_room, model_store                   where the host writes a flat buffer's new contents; makes them its own
//     model_whole                               parameters or running mean, as model_forward takes them; as model_fetch
//     model_logits, model_losses                of the last batch, on the host; to be called in this order, since the
//                                               first may wait
//     model_keep_products                       sets where the choice of products is stored, if they are timed
//     processor_name                            of the hardware and libraries: with the same name come the same bits
//     name_bad_activation, print_memory, program_name
#pragma once
#include "../data/loader.h"
#include "../data/open.h"
#include "../model/parameters.h"
#include "../runtime/log.h"
#include "../runtime/ranks.h"
#include "../runtime/schedule.h"
#include "origin.h"
#include "plan.h"

typedef struct {
    Model model;
    Dataset train, test;
    int64_t room_to_keep;     // bytes of decoded images (--cache-gb)
    Loader train_loader, test_loader;
    const Batch* first_batch; // what --overfit-batch repeats
    const Batch* coming;      // the next step's first, if it was fetched already
    Origin origin;            // what the checkpoint says that is resumed or evaluated
    char output[FOLDER_SIZE]; // the run's folder
    bool in_place;            // it resumes in the same folder
    char superseded[PATH_SIZE]; // a file of an earlier run there that this one started from; "": none
    char extended[512];       // where it was made longer, from what to what
    Schedule schedule;
    int64_t step, total_steps, steps_per_epoch; // step: updates so far
    int64_t saved; // the step when it was last saved; 0: not yet
    double best_top1;
    int64_t best_step;
    Running loss;        // over the steps since the last row of the log
    int64_t hits, seen;  // images in them: classified right, all
    double flops_per_image;
} Trainer;

RUNS_ONCE static void load_data(Trainer* t, const Config* c) {
    Error err;
    if (!dataset_open(&t->train, &t->test, c->data, *c->eval, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    if (c->train_images && c->train_images < t->train.count) { dataset_take(&t->train, c->train_images); }
    if (c->test_images && c->test_images < t->test.count) { dataset_take(&t->test, c->test_images); }
    t->room_to_keep = (int64_t)(1e9 * c->cache_gb);
    bool keeps = t->room_to_keep > 0 && t->train.shards;
    if (keeps && !(shards_keep(&t->train, &t->room_to_keep, &err) && shards_keep(&t->test, &t->room_to_keep, &err))) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    if (c->classes && c->classes < t->train.classes) {
        fail(EXIT_USAGE, "--classes %d is fewer than the %d of %s: leave it out", c->classes, t->train.classes,
             c->data);
    }
}

// Of the data, on the host; for an encoded set: its index, the images that are kept, and a third batch of each split
static size_t input_bytes(const Trainer* t, const Config* c) {
    size_t floats = 3 * (size_t)c->image_size * c->image_size + t->train.classes;
    size_t batch = floats * (size_t)c->batch_size * sizeof(float);
    return t->train.file_bytes + t->test.file_bytes + (t->train.shards ? (size_t)t->room_to_keep + 2 * batch : 0);
}

// Compares the data with what the checkpoint was trained on.
RUNS_ONCE static void check_data(const Trainer* t) {
    const Config* c = &t->model.config;
    if (*c->resume) { check_resumed_data(&t->origin, c, &t->train, &t->test); }
    if (*c->eval) { note_evaluated_data(&t->origin, c, &t->test); }
}

// The most images that a batch can have: no more than the larger split has, if the data are known
static int largest_batch(const Trainer* t, const Config* c) {
    int images = t->train.count > t->test.count ? t->train.count : t->test.count;
    return images && images < c->batch_size ? images : c->batch_size;
}

// What --normalize has names for, except for the data set's own
static const double known_mean[][3] = {{0}, {0.485, 0.456, 0.406}, {0.5, 0.5, 0.5}};
static const double known_std[][3] = {{0}, {0.229, 0.224, 0.225}, {0.5, 0.5, 0.5}};
static_assert(NORMALIZE_DATASET == 0 && NORMALIZE_IMAGENET == 1 && NORMALIZE_HALF == 2, "as in the arrays above");

// As the model of --eval was trained, or as --normalize says
static void choose_normalization(LoaderConfig* loader, const Trainer* t) {
    const Config* c = &t->model.config;
    bool as_trained = *c->eval && t->origin.normalizes, of_data = c->normalize == NORMALIZE_DATASET;
    for (int i = 0; i < 3; i++) {
        loader->mean[i] = as_trained ? t->origin.mean[i] : of_data ? t->train.mean[i] : known_mean[c->normalize][i];
        loader->std[i] = as_trained ? t->origin.std[i] : of_data ? t->train.std[i] : known_std[c->normalize][i];
    }
}

// How an evaluation prepares an image
static void evaluate_as_configured(LoaderConfig* loader, const Trainer* t) {
    loader->crop_pct = t->model.config.crop_pct;
    loader->eval_interpolation = (Interpolation)t->model.config.interpolation;
    choose_normalization(loader, t);
}

static int worker_count(const Trainer* t, const Config* c) {
    return c->workers ? c->workers : t->train.shards ? core_count() : 1;
}

RUNS_ONCE static void open_loaders(Trainer* t, LoaderOutput output) {
    const Config* c = &t->model.config;
    Error err;
    LoaderConfig train = {
        .batch_size = c->batch_size, .image_size = c->image_size, .num_classes = t->model.dims.K,
        .output = output, .train = true, .strict = c->strict != 0, .workers = worker_count(t, c),
        .seed = (uint64_t)c->seed,
    };
    if (!config_augment(&train.augment, c, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    evaluate_as_configured(&train, t);
    LoaderConfig test = train;
    Share own = own_share(c->grad_accum_steps);
    train.first = own.first, train.run = own.count, train.stride = c->grad_accum_steps;
    test.first = ranks.place, test.run = 1, test.stride = ranks.size;
    test.train = false;
    if (!loader_open(&t->train_loader, &t->train, &train, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (!loader_open(&t->test_loader, &t->test, &test, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

static int64_t steps_of(const Trainer* t, const Config* c) {
    return c->steps ? c->steps : c->epochs * t->steps_per_epoch;
}

// It counts in steps or in epochs.
static Schedule schedule_of(const Trainer* t, const Config* c) {
    double unit = c->sched_on_updates ? 1 : 1.0 / (double)t->steps_per_epoch;
    return (Schedule){
        .lr = c->lr, .min_lr = c->min_lr, .warmup_lr = c->warmup_lr,
        .warmup = c->warmup_epochs * (double)t->steps_per_epoch * unit, .total = (double)steps_of(t, c) * unit,
    };
}

RUNS_ONCE static void plan_steps(Trainer* t) {
    const Config* c = &t->model.config;
    t->steps_per_epoch = t->train_loader.plan.steps_per_epoch / c->grad_accum_steps;
    if (t->steps_per_epoch < 1) { t->steps_per_epoch = 1; }
    t->total_steps = steps_of(t, c);
    t->schedule = schedule_of(t, c);
    t->flops_per_image = train_flops(&t->model);
}

// The position in a schedule of the step that follows so many others
static double schedule_at(const Trainer* t, int64_t step) {
    return t->model.config.sched_on_updates ? (double)step : (double)(step / t->steps_per_epoch);
}

// The learning rate of this step by a schedule
static double scheduled_rate(const Trainer* t, const Schedule* schedule) {
    return learning_rate(schedule, schedule_at(t, t->step));
}
