// From a data set to batches: shuffled, augmented, normalised, prepared one batch ahead by a thread of its own.
//
// Training: steps_per_epoch = n / B full batches, the rest of each epoch left out (n < B: one short batch of n).
// Epoch e visits the images in a permutation that is a pure function of (seed, e), so that batch `step` is a pure
// function of (data set, configuration, step): a run resumes with loader_seek, and nothing needs saving.
// Evaluation: every image once, in the data set's order, the last batch short; after the last batch comes the first.
//
//   Loader loader;
//   if (!loader_open(&loader, &dataset, &config, &error)) { ... }
//   loader_seek(&loader, step);                         // 0 after opening
//   const Batch* batch = loader_next(&loader);          // valid until the next loader_next
//   loader_close(&loader);
//
// loader_fill prepares any batch directly, in the caller's thread, into a Batch made by batch_create.
//
// A batch is drawn, then made: which images, boxes, mirrors and mix, then the pixels. A trainer on the GPU takes the
// draws and makes the pixels itself (device_input.cuh).
#pragma once
#include "../runtime/clock.h"
#include "../runtime/memory.h"
#include "../runtime/threads.h"
#include "augment.h"
#include "dataset.h"
#include <pthread.h>
#include <signal.h>

typedef enum {
    LOAD_IMAGES,           // finished batches
    LOAD_DRAWS,            // what was drawn, for who has the data set's pixels
    LOAD_DRAWS_AND_PIXELS, // and copies of the images that it is about; ImageDraw.image is their place in the batch
} LoaderOutput;

typedef struct {
    int batch_size, image_size, num_classes;
    LoaderOutput output;
    bool train;                        // shuffle and augment, or evaluate
    bool prefetch;                     // with a thread; without, loader_next prepares the batch itself
    uint64_t seed;
    float mean[3], std[3];             // of normalisation
    float crop_pct;                    // evaluation
    Interpolation eval_interpolation;  // bilinear or bicubic
    Augment augment;                   // training
} LoaderConfig;

typedef struct {
    float* images;    // (B, 3, S, S); NULL where draws are wanted
    uint8_t* pixels;  // (B, channels, height, width), of the data set; NULL unless wanted
    ImageDraw* draws; // (B)
    Mix mix;
    float* targets;   // (B, num_classes), rows sum to 1
    int* labels;      // (B), before mixing
    int* indices;     // (B), position in the data set
    int count;        // images in this batch
    int64_t step;     // -1: nothing yet
    bool train;       // of a loader for training
    // workspace of whoever fills it
    uint32_t* order;  // (n), the permutation of order_epoch
    int64_t order_epoch;
    ImageScratch scratch;
} Batch;

typedef struct {
    const Dataset* dataset;
    LoaderConfig config;
    int64_t steps_per_epoch;
    // shared with the thread, under the lock
    Batch batches[2];           // one is the caller's, the other, batches[filling], the thread's
    int filling;
    int64_t wanted;             // the step that loader_next returns next
    bool stop, threaded;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    double wait_seconds;
} Loader;

static inline LoaderConfig loader_defaults(const Dataset* d, int batch_size, int image_size, bool train,
                                           uint64_t seed) {
    LoaderConfig c = {.batch_size = batch_size, .image_size = image_size, .num_classes = d->classes, .train = train,
                      .prefetch = true, .seed = seed, .crop_pct = 1, .eval_interpolation = INTERPOLATE_BICUBIC,
                      .augment = augment_none()};
    memcpy(c.mean, d->mean, sizeof c.mean);
    memcpy(c.std, d->std, sizeof c.std);
    return c;
}

static inline bool augment_valid(const Augment* a, int height, int width, Error* err) {
    if (a->crop_padding < 0 || a->crop_padding >= (height < width ? height : width)) {
        return set_error(err, "crop padding %d is not in 0..%d, the image's side less one", a->crop_padding,
                         (height < width ? height : width) - 1);
    }
    if (a->crop_padding > 0 && a->random_resized_crop) {
        return set_error(err, "padded crop and RandomResizedCrop exclude each other: choose one");
    }
    if (!(a->scale[0] > 0 && a->scale[0] <= a->scale[1] && a->scale[1] <= 1)) {
        return set_error(err, "the crop's scale %g..%g is not a range within (0, 1]", a->scale[0], a->scale[1]);
    }
    if (!(a->ratio[0] > 0 && a->ratio[0] <= a->ratio[1] && isfinite(a->ratio[1]))) {
        return set_error(err, "the crop's ratio %g..%g is not a range of positive numbers", a->ratio[0], a->ratio[1]);
    }
    if (!(a->mixup >= 0 && isfinite(a->mixup) && a->cutmix >= 0 && isfinite(a->cutmix))) {
        return set_error(err, "mixup %g and cutmix %g must be 0 (off) or positive", a->mixup, a->cutmix);
    }
    const float fractions[] = {a->flip, a->mix_probability, a->mix_switch, a->smoothing, a->erase};
    const char* const names[] = {"flip probability", "mix probability", "mix switch probability", "label smoothing",
                                 "probability of random erasing"};
    for (int i = 0; i < 5; i++) {
        if (!(fractions[i] >= 0 && fractions[i] <= 1)) {
            return set_error(err, "%s %g is not in 0..1", names[i], fractions[i]);
        }
    }
    return true;
}

static inline bool loader_config_valid(const Dataset* d, const LoaderConfig* c, Error* err) {
    if (c->batch_size < 1) { return set_error(err, "batch size %d is less than 1", c->batch_size); }
    if (c->image_size < 1 || c->image_size > MAX_IMAGE_SIDE) {
        return set_error(err, "image size %d is not in 1..%d", c->image_size, MAX_IMAGE_SIDE);
    }
    if (c->num_classes < d->classes) {
        return set_error(err, "%d classes are too few for data set %s: it has %d", c->num_classes, d->name, d->classes);
    }
    if (!(c->crop_pct > 0.05f && c->crop_pct <= 1)) {
        return set_error(err, "evaluation crop %g is not in (0.05, 1]", c->crop_pct);
    }
    if (c->eval_interpolation == INTERPOLATE_RANDOM) {
        return set_error(err, "evaluation cannot choose its interpolation at random: take bilinear or bicubic");
    }
    for (int i = 0; i < 3; i++) {
        if (!(isfinite(c->mean[i]) && isfinite(c->std[i]) && c->std[i] > 0)) {
            return set_error(err, "normalisation by mean %g and standard deviation %g is impossible", c->mean[i],
                             c->std[i]);
        }
    }
    return augment_valid(&c->augment, d->height, d->width, err);
}

// ---- batches ----

// Random boxes become S x S; anything else keeps its proportions until its centre is taken.
static inline Resize loader_resize(const Loader* l) {
    const LoaderConfig* c = &l->config;
    int S = c->image_size;
    if (c->train && c->augment.random_resized_crop) { return (Resize){S, S, 0, 0, S}; }
    return resize_and_crop(l->dataset->height, l->dataset->width, S, c->train ? 1 : c->crop_pct);
}

static inline ImageScratch scratch_create(const Dataset* d, Resize size) {
    return (ImageScratch){
        .shifted = alloc_array(uint8_t, image_bytes(d), "an image"),
        .resized = alloc_array(uint8_t, (size_t)d->channels * size.height * size.width, "a resized image"),
        .tables = alloc_bytes(resample_scratch(d->height, d->width, size.height, size.width), "resize tables"),
    };
}

static inline Batch batch_create(const Loader* l) {
    const Dataset* d = l->dataset;
    const LoaderConfig* c = &l->config;
    size_t B = (size_t)c->batch_size, S = (size_t)c->image_size;
    Batch b = {.step = -1, .train = c->train, .order_epoch = -1};
    if (c->output == LOAD_IMAGES) {
        b.images = alloc_floats(B * 3 * S * S, "a batch's images");
        b.scratch = scratch_create(d, loader_resize(l));
    }
    if (c->output == LOAD_DRAWS_AND_PIXELS) { b.pixels = alloc_array(uint8_t, B * image_bytes(d), "a batch's pixels"); }
    b.draws = alloc_array(ImageDraw, B, "a batch's draws");
    b.targets = alloc_floats(B * (size_t)c->num_classes, "a batch's targets");
    b.labels = alloc_array(int, B, "a batch's labels");
    b.indices = alloc_array(int, B, "a batch's indices");
    if (c->train) { b.order = alloc_array(uint32_t, d->count, "an epoch's permutation"); }
    return b;
}

static inline void batch_free(Batch* b) {
    free(b->images); free(b->pixels); free(b->draws);
    free(b->targets); free(b->labels); free(b->indices); free(b->order);
    free(b->scratch.shifted); free(b->scratch.resized); free(b->scratch.tables);
    *b = (Batch){0};
}

// Fisher and Yates: order (n) becomes the permutation of (seed, epoch).
static inline void shuffle(uint32_t* order, int n, uint64_t seed, uint32_t epoch) {
    for (int i = 0; i < n; i++) { order[i] = (uint32_t)i; }
    for (int i = n - 1; i > 0; i--) {
        uint32_t j = random_below((uint32_t)i + 1, random_bits(seed, STREAM_SHUFFLE, epoch, (uint64_t)i).word[0]);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

// Which images batch `step` holds.
static inline void choose_images(const Loader* l, int64_t step, Batch* b) {
    const int n = l->dataset->count, B = l->config.batch_size;
    int64_t epoch = step / l->steps_per_epoch;
    int first = (int)(step % l->steps_per_epoch) * B;
    b->count = n - first < B ? n - first : B;
    if (l->config.train && b->order_epoch != epoch) {
        shuffle(b->order, n, l->config.seed, (uint32_t)epoch);
        b->order_epoch = epoch;
    }
    for (int i = 0; i < b->count; i++) {
        b->indices[i] = l->config.train ? (int)b->order[first + i] : first + i;
        b->labels[i] = l->dataset->labels[b->indices[i]];
    }
}

// All that is random about batch `step`
static inline void draw_batch(const Loader* l, int64_t step, Batch* b) {
    const Dataset* d = l->dataset;
    const LoaderConfig* c = &l->config;
    ResampleFilter eval_filter = c->eval_interpolation == INTERPOLATE_BICUBIC ? FILTER_BICUBIC : FILTER_BILINEAR;
    for (int i = 0; i < b->count; i++) {
        ImageKey key = {c->seed, (uint64_t)b->indices[i], (uint32_t)(step / l->steps_per_epoch)};
        b->draws[i] = c->train ? draw_train_image(&c->augment, key, d->height, d->width, c->image_size)
                               : draw_eval_image(b->indices[i], d->height, d->width, eval_filter);
    }
    b->mix = (Mix){.lambda = 1};
    if (c->train) { b->mix = mix_draw(&c->augment, c->seed, (uint32_t)step, c->image_size); }
}

static inline void make_images(const Loader* l, Batch* b) {
    const Dataset* d = l->dataset;
    const LoaderConfig* c = &l->config;
    const int S = c->image_size;
    Resize size = loader_resize(l);
    for (int i = 0; i < b->count; i++) {
        ImageView in = view_of(d->images + b->draws[i].image * image_bytes(d), d->channels, d->height, d->width);
        make_image(b->images + (size_t)i * 3 * S * S, in, &b->draws[i], size, c->mean, c->std, &b->scratch);
    }
    mix_images(b->images, b->mix, b->count, S);
}

static inline void copy_pixels(const Dataset* d, Batch* b) {
    for (int i = 0; i < b->count; i++) {
        memcpy(b->pixels + i * image_bytes(d), d->images + b->draws[i].image * image_bytes(d), image_bytes(d));
        b->draws[i].image = i;
    }
}

// The batch of `step`, into b. Does not touch the loader.
static inline void loader_fill(const Loader* l, int64_t step, Batch* b) {
    const LoaderConfig* c = &l->config;
    choose_images(l, step, b);
    draw_batch(l, step, b);
    if (c->output == LOAD_IMAGES) { make_images(l, b); }
    if (c->output == LOAD_DRAWS_AND_PIXELS) { copy_pixels(l->dataset, b); }
    mix_targets(b->targets, b->labels, b->mix.lambda, c->train ? c->augment.smoothing : 0, b->count, c->num_classes);
}

// ---- the thread ----

// Evaluation starts again after its last batch, so that the batch prepared ahead is the next evaluation's first.
static inline int64_t loader_wrap(const Loader* l, int64_t step) {
    return l->config.train ? step : step % l->steps_per_epoch;
}

// Keeps batches[filling] equal to the wanted step; loader_next and loader_seek change what is wanted.
static inline void* loader_run(void* argument) {
    Loader* l = (Loader*)argument;
    threads_unbind(); // it takes whichever core is free
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        Batch* b = &l->batches[l->filling];
        int64_t step = l->wanted;
        if (b->step == step) {
            pthread_cond_wait(&l->changed, &l->lock);
            continue;
        }
        b->step = -1;
        pthread_mutex_unlock(&l->lock);
        loader_fill(l, step, b);
        pthread_mutex_lock(&l->lock);
        b->step = step;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

// Waits for the wanted batch if need be, hands it out, and lets the thread start on the one after it.
static inline const Batch* loader_next(Loader* l) {
    double start = seconds_now();
    pthread_mutex_lock(&l->lock);
    Batch* b = &l->batches[l->filling];
    if (!l->threaded && b->step != l->wanted) {
        loader_fill(l, l->wanted, b);
        b->step = l->wanted;
    }
    while (b->step != l->wanted) { pthread_cond_wait(&l->changed, &l->lock); }
    l->filling = 1 - l->filling;
    l->wanted = loader_wrap(l, l->wanted + 1);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    l->wait_seconds += seconds_now() - start;
    return b;
}

// The next batch will be that of `step`.
static inline void loader_seek(Loader* l, int64_t step) {
    pthread_mutex_lock(&l->lock);
    l->wanted = loader_wrap(l, step);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

// Seconds that loader_next has taken since loader_open: what loading costs the training.
static inline double loader_wait_seconds(const Loader* l) { return l->wait_seconds; }

// Signals stay with the caller's threads. Without a thread to be had, batches are prepared by loader_next.
static inline void loader_start_thread(Loader* l) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    l->threaded = pthread_create(&l->thread, NULL, loader_run, l) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// The loader must not move afterwards (its thread points to it), and the data set must outlive it.
static inline bool loader_open(Loader* l, const Dataset* d, const LoaderConfig* config, Error* err) {
    *l = (Loader){.dataset = d, .config = *config};
    if (!loader_config_valid(d, config, err)) { return false; }
    if (l->config.batch_size > d->count) { l->config.batch_size = d->count; }
    int B = l->config.batch_size;
    l->steps_per_epoch = l->config.train ? d->count / B : ((int64_t)d->count + B - 1) / B;
    for (int i = 0; i < 2; i++) { l->batches[i] = batch_create(l); }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    if (l->config.prefetch) { loader_start_thread(l); }
    return true;
}

static inline void loader_close(Loader* l) {
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    if (l->threaded) { pthread_join(l->thread, NULL); }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    for (int i = 0; i < 2; i++) { batch_free(&l->batches[i]); }
    *l = (Loader){0};
}
