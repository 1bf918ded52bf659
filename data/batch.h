// One batch: which images it holds, what is drawn for them, and how they are made from that.
//
// Training: steps_per_epoch = n / B full batches; the rest of each epoch is left out (n < B: one short batch of n).
// Epoch e visits the images in a permutation that is a pure function of (seed, e), so that batch `step` is a pure
// function of (data set, configuration, step): a run can resume anywhere, and nothing has to be saved. Evaluation:
// every image once, in the data set's order, the last batch short; after the last batch comes the first.
//
// A batch is drawn, then made image by image, then mixed pair by pair, so that several threads can work on one batch;
// the result does not depend on which of them did what. The trainer for GPUs takes the draws and makes the pixels
// itself (device_input.cuh).
#pragma once
#include "../runtime/memory.h"
#include "apply_operation.h"
#include "augment.h"
#include "boxes.h"
#include "image_reader.h"
#include "repeated.h"

typedef enum {
    LOAD_IMAGES,           // finished batches
    LOAD_DRAWS,            // what was drawn, for those who have the data set's pixels
    LOAD_BOXES,            // also the boxes that were drawn
} LoaderOutput;

typedef struct {
    int batch_size, image_size, num_classes;
    LoaderOutput output;
    bool train;                        // shuffle and augment, or evaluate
    bool strict;                       // an image that cannot be read is an error
    int workers;                       // threads that prepare batches ahead; 0: the caller prepares them
    int first, run, stride;            // this loader's batches: `run` from `first` on, in every `stride`; run 0: all
    uint64_t seed;
    double mean[3], std[3];            // of normalisation
    double crop_pct;                   // evaluation
    Interpolation eval_interpolation;  // bilinear or bicubic
    Augment augment;                   // training
} LoaderConfig;

// Which batches there are
typedef struct {
    const Dataset* dataset;
    LoaderConfig config;
    int64_t steps_per_epoch;
} BatchPlan;

typedef struct {
    uint8_t* levels;  // (B, 3, S, S), the images in the making
    float* images;    // (B, 3, S, S); both are NULL if draws are wanted
    ImageDraw* draws; // (B)
    BoxPlace* places; // (B), where the boxes lie in a block; NULL unless wanted
    BoxBlock* boxes;
    size_t row_bytes; // written by the horizontal passes of all boxes
    Mix mix;
    float* targets;   // (B, num_classes), rows sum to 1
    int* labels;      // (B), before mixing
    int* indices;     // (B), position in the data set
    int count;        // images in this batch
    int64_t step;     // -1: nothing yet
    bool train;       // from a loader for training
    uint32_t* order;  // (n), the permutation of order_epoch
    int64_t order_epoch;
} Batch;

// Memory of one thread that makes images
typedef struct {
    ImageReader reader;
    Room resized, tables, operations;
} ImageMaker;

static inline void image_maker_free(ImageMaker* m) {
    image_reader_free(&m->reader);
    room_free(&m->resized);
    room_free(&m->tables);
    room_free(&m->operations);
}

static inline LoaderConfig loader_defaults(const Dataset* d, int batch_size, int image_size, bool train,
                                           uint64_t seed) {
    LoaderConfig c = {.batch_size = batch_size, .image_size = image_size, .num_classes = d->classes, .train = train,
                      .workers = 1, .seed = seed, .crop_pct = 1, .eval_interpolation = INTERPOLATE_BICUBIC,
                      .augment = augment_none()};
    for (int i = 0; i < 3; i++) {
        c.mean[i] = d->mean[i];
        c.std[i] = d->std[i];
    }
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
    const float fractions[] = {a->flip, a->vflip, a->mix_probability, a->mix_switch, a->smoothing,
                               a->erasing.probability};
    const char* const names[] = {"flip probability", "vertical flip probability", "mix probability",
                                 "mix switch probability", "label smoothing", "probability of random erasing"};
    for (int i = 0; i < 6; i++) {
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
    if (d->shards && c->augment.crop_padding > 0) {
        return set_error(err, "padded crop needs images of one size, which those of %s are not: use RandomResizedCrop",
                         d->name);
    }
    return augment_valid(&c->augment, d->shards ? 1 : d->height, d->shards ? 1 : d->width, err);
}

// The number of a loader's k-th batch
static inline int64_t batch_number(const LoaderConfig* c, int64_t k) {
    return c->run ? k / c->run * c->stride + c->first + k % c->run : k;
}

// How many of the first n batches belong to a loader
static inline int64_t batches_among(const LoaderConfig* c, int64_t n) {
    if (!c->run) { return n; }
    int64_t rest = n % c->stride - c->first;
    return n / c->stride * c->run + (rest < 0 ? 0 : rest < c->run ? rest : c->run);
}

// ---- memory

static inline Batch batch_create(const BatchPlan* plan) {
    const Dataset* d = plan->dataset;
    const LoaderConfig* c = &plan->config;
    size_t B = (size_t)c->batch_size, S = (size_t)c->image_size;
    Batch b = {.step = -1, .train = c->train, .order_epoch = -1};
    if (c->output == LOAD_IMAGES) {
        b.levels = alloc_array(uint8_t, B * 3 * S * S, "a batch's images");
        b.images = alloc_floats(B * 3 * S * S, "a batch's images");
    }
    if (c->output == LOAD_BOXES) { b.places = alloc_array(BoxPlace, B, "a batch's boxes"); }
    b.draws = alloc_array(ImageDraw, B, "a batch's draws");
    b.targets = alloc_floats(B * (size_t)c->num_classes, "a batch's targets");
    b.labels = alloc_array(int, B, "a batch's labels");
    b.indices = alloc_array(int, B, "a batch's indices");
    if (c->train) { b.order = alloc_array(uint32_t, d->count, "an epoch's permutation"); }
    return b;
}

static inline void batch_free(Batch* b) {
    free(b->levels); free(b->images); free(b->draws); free(b->places); block_free(b->boxes);
    free(b->targets); free(b->labels); free(b->indices); free(b->order);
    *b = (Batch){0};
}

// ---- Drawing

// Fisher and Yates: makes order (n) the permutation of (seed, epoch).
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
static inline void choose_images(const BatchPlan* plan, int64_t step, Batch* b) {
    const int n = plan->dataset->count, B = plan->config.batch_size;
    int64_t epoch = step / plan->steps_per_epoch;
    int first = (int)(step % plan->steps_per_epoch) * B;
    b->count = n - first < B ? n - first : B;
    if (plan->config.train && b->order_epoch != epoch) {
        shuffle(b->order, n, plan->config.seed, (uint32_t)epoch);
        b->order_epoch = epoch;
    }
    for (int i = 0; i < b->count; i++) {
        int64_t place = plan->config.train ? repeated_place(first + i, n, plan->config.augment.repeats, 1, 0)
                                           : first + i;
        b->indices[i] = plan->config.train ? (int)b->order[place] : first + i;
    }
}

// Draws all that is random about place i of batch b->step, which image indices[i] takes. If an image is seen several
// times in an epoch, each time counts as a different image for the draws.
static inline void draw_image(const BatchPlan* plan, Batch* b, int i) {
    const Dataset* d = plan->dataset;
    const LoaderConfig* c = &plan->config;
    int image = b->indices[i], height = image_height(d, image), width = image_width(d, image);
    b->labels[i] = d->labels[image];
    if (c->train) {
        int64_t position = b->step % plan->steps_per_epoch * c->batch_size + i;
        uint64_t time = (uint64_t)(position % c->augment.repeats) * (uint64_t)d->count;
        ImageKey key = {c->seed, (uint64_t)image + time, (uint32_t)(b->step / plan->steps_per_epoch)};
        b->draws[i] = draw_train_image(&c->augment, image, key, height, width, c->image_size);
    } else {
        Resize resize = resize_and_crop(height, width, c->image_size, c->crop_pct);
        b->draws[i] = draw_eval_image(image, height, width, resize, filter_of(c->eval_interpolation));
    }
}

// Whether boxes have to be resampled
static inline bool batch_resamples(const BatchPlan* plan) {
    const Dataset* d = plan->dataset;
    const LoaderConfig* c = &plan->config;
    Resize size = resize_and_crop(d->height, d->width, c->image_size, c->train ? 1 : c->crop_pct);
    return d->shards || (c->train && c->augment.random_resized_crop) || size.height != d->height ||
           size.width != d->width;
}

// Reserves space for box i after those that are there.
static inline void place_box(const BatchPlan* plan, Batch* b, int i) {
    const ImageDraw* draw = &b->draws[i];
    int S = draw->resize.S, height = draw->box.height, width = draw->box.width, channels = plan->dataset->channels;
    bool resampled = batch_resamples(plan);
    size_t pixels = box_aligned((size_t)channels * height * width);
    size_t across = resampled ? box_axis_bytes(width, draw->resize.width, S) : 0;
    size_t down = resampled ? box_axis_bytes(height, draw->resize.height, S) : 0;
    b->boxes = block_grown(b->boxes, pixels + across + down);
    size_t at = b->boxes->used;
    b->places[i] = (BoxPlace){.pixels = at, .across = (at + pixels) / sizeof(int),
                              .down = (at + pixels + across) / sizeof(int), .rows = b->row_bytes};
    b->boxes->used += pixels + across + down;
    b->row_bytes += (size_t)channels * height * S;
}

static inline void batch_draw(const BatchPlan* plan, int64_t step, Batch* b) {
    const LoaderConfig* c = &plan->config;
    b->step = step;
    choose_images(plan, step, b);
    for (int i = 0; i < b->count; i++) { image_hint(plan->dataset, b->indices[i]); }
    for (int i = 0; i < b->count; i++) { draw_image(plan, b, i); }
    b->mix = mix_none();
    if (c->train) { b->mix = mix_draw(&c->augment, c->seed, (uint32_t)step, c->image_size); }
    if (c->output != LOAD_BOXES) { return; }
    if (b->boxes) { b->boxes->used = 0; }
    b->row_bytes = 0;
    for (int i = 0; i < b->count; i++) { place_box(plan, b, i); }
}

// ---- Making

// Makes the levels (channels, S, S) from a box. part: what is needed of the resized box
static inline bool resampled_box(uint8_t* out, const BatchPlan* plan, const ImageDraw* draw, ImageMaker* maker,
                                 Error* err) {
    Resize size = draw->resize;
    Crop box = draw->box, part = {size.top, size.left, size.S, size.S};
    Box whole = {0, 0, (float)box.width, (float)box.height};
    size_t scratch = resample_part_scratch(box.height, box.width, size.height, size.width, part);
    ResamplePlan p = resample_plan(box.height, box.width, whole, size.height, size.width, part, draw->filter,
                                   room_for(&maker->tables, scratch, "resize tables"));
    ImageView view;
    if (!read_box(&maker->reader, plan->dataset, draw->image, box, p.source, &view, err)) { return false; }
    resample_planned(out, view, &p);
    return true;
}

static inline bool copied_box(uint8_t* out, const BatchPlan* plan, const ImageDraw* draw, ImageMaker* maker,
                              Error* err) {
    int S = draw->resize.S;
    Crop part = {draw->resize.top, draw->resize.left, S, S};
    ImageView view;
    if (!read_box(&maker->reader, plan->dataset, draw->image, draw->box, part, &view, err)) { return false; }
    copy_view(out, view);
    return true;
}

// levels (3, S, S)
static inline bool make_levels(uint8_t* levels, const BatchPlan* plan, const ImageDraw* draw, ImageMaker* maker,
                               Error* err) {
    Resize size = draw->resize;
    size_t plane = (size_t)size.S * size.S;
    bool same = size.height == draw->box.height && size.width == draw->box.width;
    bool read = same ? copied_box(levels, plan, draw, maker, err) : resampled_box(levels, plan, draw, maker, err);
    if (!read) { return false; }
    for (int c = plan->dataset->channels; c < 3; c++) { memcpy(levels + c * plane, levels, plane); }
    RgbImage image = {levels, size.S, size.S};
    uint8_t fill[3];
    if (draw->mirrored) { flip_horizontally(image); }
    if (draw->upside_down) { flip_vertically(image); }
    fill_colour(fill, plan->config.mean);
    void* scratch = room_for(&maker->operations, operation_scratch(size.S, size.S), "an image's operations");
    apply_operations(image, &draw->operations, fill, scratch);
    return true;
}

// Puts box i and its weights in their places.
static inline bool store_box(const BatchPlan* plan, Batch* b, int i, ImageMaker* maker, Error* err) {
    ImageDraw* draw = &b->draws[i];
    BoxPlace* place = &b->places[i];
    Resize size = draw->resize;
    Crop box = draw->box, part = {0, 0, box.height, box.width};
    int* tables = (int*)block_bytes(b->boxes);
    ImageView view;
    if (batch_resamples(plan)) {
        AxisWeights across = axis_part(tables + place->across, box.width, 0, (float)box.width, size.width, size.left,
                                       size.S, draw->filter);
        AxisWeights down = axis_part(tables + place->down, box.height, 0, (float)box.height, size.height, size.top,
                                     size.S, draw->filter);
        part.width = axis_source(&across, size.S, &part.left);
        part.height = axis_source(&down, size.S, &part.top);
        place->across_stride = across.stride;
        place->down_stride = down.stride;
    }
    if (!read_box(&maker->reader, plan->dataset, draw->image, box, part, &view, err)) { return false; }
    copy_view(block_bytes(b->boxes) + place->pixels, view);
    place->height = view.height;
    place->width = view.width;
    draw->box = (Crop){0, 0, view.height, view.width};
    return true;
}

// Makes image i as drawn; false: it cannot be read
static inline bool batch_make_image(const BatchPlan* plan, Batch* b, int i, ImageMaker* maker, Error* err) {
    size_t pixels = (size_t)3 * plan->config.image_size * plan->config.image_size;
    switch (plan->config.output) {
    case LOAD_IMAGES: return make_levels(b->levels + i * pixels, plan, &b->draws[i], maker, err);
    case LOAD_BOXES: return store_box(plan, b, i, maker, err);
    case LOAD_DRAWS: return true;
    }
    return true;
}

// Puts the next image in the place of image i, which cannot be read (as timm does). No other image may be in the
// making.
static inline void batch_replace(const BatchPlan* plan, Batch* b, int i) {
    b->indices[i] = (b->indices[i] + 1) % plan->dataset->count;
    draw_image(plan, b, i);
    if (plan->config.output == LOAD_BOXES) { place_box(plan, b, i); }
}

// ---- Finishing, once all images are made

static inline int batch_pairs(const Batch* b) { return (b->count + 1) / 2; }

static inline void finish_image(const BatchPlan* plan, Batch* b, int i) {
    const LoaderConfig* c = &plan->config;
    int S = c->image_size;
    size_t at = (size_t)i * 3 * S * S;
    normalise(b->images + at, b->levels + at, S, c->mean, c->std);
    erase_boxes(b->images + at, S, S, &b->draws[i].erased);
}

// Mixes, normalises and erases image i and its partner, in one of two orders. The middle image of an odd batch is its
// own
static inline void batch_mix_pair(const BatchPlan* plan, Batch* b, int i) {
    int S = plan->config.image_size, partner = b->count - 1 - i;
    size_t pixels = (size_t)3 * S * S, x = i * pixels, y = partner * pixels;
    bool bytes = plan->config.augment.mix_order == MIX_BYTES;
    if (plan->config.output != LOAD_IMAGES) { return; }
    if (bytes && partner > i) { mix_levels(b->levels + x, b->levels + y, &b->mix, S); }
    finish_image(plan, b, i);
    if (partner > i) { finish_image(plan, b, partner); }
    if (!bytes && partner > i) { mix_floats(b->images + x, b->images + y, &b->mix, S); }
}

static inline void batch_finish(const BatchPlan* plan, Batch* b) {
    const LoaderConfig* c = &plan->config;
    int K = c->num_classes;
    for (int i = 0; i < b->count; i++) {
        mix_target(b->targets + (size_t)i * K, K, b->labels[i], b->labels[b->count - 1 - i], b->mix.shares,
                   c->train ? c->augment.smoothing : 0);
    }
}
