// data/augment.h and data/loader.h: what each augmentation does, written out plainly; each epoch a permutation; each
// batch a pure function of its step, with a thread and without; evaluation visits every image once.
#include "../../data/loader.h"
#include "../../data/open.h"
#include "test_files.h"

enum { N = 103, SIDE = 12, CLASSES = 5 };

static Dataset make_dataset(int count, int channels, int height, int width) {
    Dataset d;
    Error err;
    if (!dataset_create(&d, "made up", count, CLASSES, channels, height, width, &err)) { fail(1, "%s", err.text); }
    for (int i = 0; i < count; i++) { d.labels[i] = (uint16_t)(i * 7 % CLASSES); }
    for (size_t k = 0; k < count * image_bytes(&d); k++) {
        d.images[k] = (uint8_t)random_bits(5, STREAM_CHECK, 0, k).word[0];
    }
    dataset_measure(&d);
    return d;
}

static void open_loader(Loader* l, const Dataset* d, const LoaderConfig* c) {
    Error err;
    if (!loader_open(l, d, c, &err)) { fail(1, "%s", err.text); }
}

static const Batch* callers_batch(const Loader* l) {
    return &l->place[(l->next + l->places - 1) % l->places].batch;
}

// The batch of `step` by this thread alone
static void batch_fill(const BatchPlan* plan, int64_t step, Batch* b, ImageMaker* maker) {
    Error err;
    batch_draw(plan, step, b);
    for (int i = 0; i < b->count; i++) {
        CHECK(batch_make_image(plan, b, i, maker, &err), "image %d: %s", i, err.text);
    }
    for (int i = 0; i < batch_pairs(b); i++) { batch_mix_pair(plan, b, i); }
    batch_finish(plan, b);
}

static LoaderConfig everything_on(const Dataset* d, int batch_size, int image_size) {
    LoaderConfig c = loader_defaults(d, batch_size, image_size, true, 42);
    c.augment.random_resized_crop = true;
    c.augment.flip = c.augment.vflip = 0.5f;
    c.augment.rand = (RandAugment){.magnitude = 9, .operations = 2, .probability = 0.5, .deviation = 0.5, .highest = 10};
    c.augment.erasing = (RandomErasing){0.25f, 3, ERASE_PIXEL};
    c.augment.mixup = 0.8f;
    c.augment.cutmix = 1;
    c.augment.mix_order = MIX_BYTES;
    c.augment.smoothing = 0.1f;
    c.augment.repeats = 3;
    return c;
}

static bool same_batch(const Loader* l, const Batch* a, const Batch* b) {
    size_t B = (size_t)a->count, S = (size_t)l->plan.config.image_size;
    return a->count == b->count && memcmp(a->images, b->images, B * 3 * S * S * sizeof(float)) == 0
        && memcmp(a->targets, b->targets, B * (size_t)l->plan.config.num_classes * sizeof(float)) == 0
        && memcmp(a->labels, b->labels, B * sizeof(int)) == 0 && memcmp(a->indices, b->indices, B * sizeof(int)) == 0;
}

static double pixel_value(const Dataset* d, const LoaderConfig* c, int image, int channel, int y, int x) {
    if (y < 0 || y >= d->height || x < 0 || x >= d->width) { return (0.0 - c->mean[channel]) / c->std[channel]; }
    int plane = image * d->channels + channel % d->channels;
    return (d->images[((size_t)plane * d->height + y) * d->width + x] / 255.0 - c->mean[channel]) / c->std[channel];
}

// ---- order ----

static void test_epochs(void) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, 10, SIDE, true, 1);
    Loader l;
    open_loader(&l, &d, &c);
    CHECK(l.plan.steps_per_epoch == 10, "103 images in batches of 10 make %d steps", (int)l.plan.steps_per_epoch);
    int first[100], moved = 0;
    for (int epoch = 0; epoch < 3; epoch++) {
        int seen[N] = {0}, twice = 0;
        for (int i = 0; i < 100; i++) {
            const Batch* b = i % 10 == 0 ? loader_next(&l) : callers_batch(&l);
            int image = b->indices[i % 10];
            CHECK(b->count == 10 && b->labels[i % 10] == d.labels[image], "step %d", i / 10);
            twice += seen[image]++;
            moved += epoch > 0 && first[i] != image;
            if (epoch == 0) { first[i] = image; }
        }
        CHECK(twice == 0, "epoch %d visits %d images twice", epoch, twice);
    }
    CHECK(moved > 180, "later epochs repeat the first one's order: only %d of 200 places differ", moved);
    BatchPlan twin = l.plan;
    twin.config.seed = 2;
    Batch other_seed = batch_create(&twin);
    batch_draw(&twin, 0, &other_seed);
    CHECK(memcmp(other_seed.indices, first, 10 * sizeof(int)) != 0, "another seed gives the same order");
    batch_free(&other_seed);
    loader_close(&l);
    dataset_free(&d);
}

// Every image is equally often at every place: mean place of each image over many epochs.
static void test_shuffle_is_uniform(void) {
    enum { n = 8, EPOCHS = 8000 };
    int counts[n][n] = {{0}}, worst = 0;
    for (uint32_t epoch = 0; epoch < EPOCHS; epoch++) {
        uint32_t order[n];
        shuffle(order, n, 3, epoch);
        for (int i = 0; i < n; i++) { counts[order[i]][i]++; }
    }
    for (int i = 0; i < n * n; i++) {
        int off = abs(counts[i / n][i % n] - EPOCHS / n);
        worst = off > worst ? off : worst;
    }
    CHECK(worst <= 150, "an image is off by %d of 1000 at some place (standard deviation 30)", worst); // observed 94
}

static void test_short_data(void) {
    Dataset d = make_dataset(7, 3, SIDE, SIDE);
    LoaderConfig c = everything_on(&d, 64, SIDE);
    c.augment.repeats = 1;
    Loader l;
    open_loader(&l, &d, &c);
    CHECK(l.plan.steps_per_epoch == 1 && l.plan.config.batch_size == 7, "%d steps, room for %d images",
          (int)l.plan.steps_per_epoch, l.plan.config.batch_size);
    for (int epoch = 0; epoch < 4; epoch++) {
        const Batch* b = loader_next(&l);
        int sum = 0;
        for (int i = 0; i < b->count; i++) { sum += 1 << b->indices[i]; }
        CHECK(b->count == 7 && sum == 127, "7 images in a batch of 64: %d images, set %d", b->count, sum);
    }
    loader_close(&l);
    dataset_free(&d);
}

static void test_evaluation(int batch_size, int workers) {
    Dataset d = make_dataset(N, 1, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, batch_size, SIDE, false, 1);
    c.workers = workers;
    c.augment = everything_on(&d, 1, SIDE).augment; // must not matter
    Loader l;
    open_loader(&l, &d, &c);
    CHECK(l.plan.config.batch_size == (batch_size < N ? batch_size : N), "room for %d images",
          l.plan.config.batch_size);
    double worst = 0;
    int visited = 0;
    for (int round = 0; round < 2; round++) {
        for (int64_t step = 0; step < l.plan.steps_per_epoch; step++) {
            const Batch* b = loader_next(&l);
            CHECK(b->step == step, "step %d of a round is numbered %d", (int)step, (int)b->step);
            CHECK(b->count == (N - step * batch_size < batch_size ? N - step * batch_size : batch_size), "count %d",
                  b->count);
            for (int i = 0; i < b->count; i++, visited++) {
                int image = visited % N;
                CHECK(b->indices[i] == image && b->labels[i] == d.labels[image], "place %d holds image %d", visited,
                      b->indices[i]);
                for (int k = 0; k < CLASSES; k++) {
                    CHECK(b->targets[i * CLASSES + k] == (k == d.labels[image]), "evaluation targets are one-hot");
                }
                for (int k = 0; k < 3 * SIDE * SIDE; k++) { // untouched, normalised, grey in all three channels
                    double want = pixel_value(&d, &c, image, k / (SIDE * SIDE), k / SIDE % SIDE, k % SIDE);
                    worst = fmax(worst, fabs(b->images[i * 3 * SIDE * SIDE + k] - want));
                }
            }
        }
    }
    CHECK(visited == 2 * N, "%d images in two rounds", visited);
    CHECK(worst <= 1e-6, "normalisation is off by %g", worst); // observed 1.3e-7
    loader_close(&l);
    dataset_free(&d);
}

// ---- purity ----

static void test_pure_function_of_step(int workers) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    LoaderConfig c = everything_on(&d, 10, 16);
    Loader threaded, plain;
    ImageMaker maker = {0};
    c.workers = workers;
    open_loader(&threaded, &d, &c);
    c.workers = 0;
    open_loader(&plain, &d, &c);
    CHECK(threaded.workers == workers && !plain.workers, "%d and %d threads", threaded.workers, plain.workers);
    Batch direct = batch_create(&plain.plan);
    const int64_t visits[] = {0, 1, 2, 25, 26, 3, 1000000, 9, 10, 11, 9, 9};
    for (int i = 0; i < 12; i++) {
        if (i > 0 && visits[i] != visits[i - 1] + 1) {
            loader_seek(&threaded, visits[i]);
            loader_seek(&plain, visits[i]);
        }
        const Batch* a = loader_next(&threaded);
        const Batch* b = loader_next(&plain);
        batch_fill(&plain.plan, visits[i], &direct, &maker);
        CHECK(a->step == visits[i] && b->step == visits[i], "steps %d %d", (int)a->step, (int)b->step);
        CHECK(same_batch(&plain, a, b), "step %d: %d threads prepare another batch", (int)visits[i], workers);
        CHECK(same_batch(&plain, a, &direct), "step %d: batch_fill prepares another batch", (int)visits[i]);
    }
    const Batch* held = loader_next(&threaded); // stays what it is while the threads work and while others are sought
    batch_fill(&plain.plan, 10, &direct, &maker);
    for (int i = 0; i < 50; i++) { loader_seek(&threaded, i); }
    CHECK(same_batch(&plain, held, &direct), "a batch in use changed");
    CHECK(loader_wait_seconds(&threaded) > 0 && loader_wait_seconds(&threaded) < 60, "waited %g s",
          loader_wait_seconds(&threaded));
    batch_free(&direct);
    image_maker_free(&maker);
    loader_close(&threaded);
    loader_close(&plain);
    dataset_free(&d);
}

// ---- one image ----

static double distance_to_shift(const Dataset* d, const LoaderConfig* c, const float* got, int image, int top, int left,
                                bool flip) {
    double worst = 0;
    for (int k = 0; k < 3 * SIDE * SIDE; k++) {
        int x = k % SIDE, y = k / SIDE % SIDE;
        double want = pixel_value(d, c, image, k / (SIDE * SIDE), y + top, (flip ? SIDE - 1 - x : x) + left);
        worst = fmax(worst, fabs(got[k] - want));
    }
    return worst;
}

// Each image must be one of the (2P+1)² shifts, mirrored or not; all of them must occur, about equally often.
static void test_padded_crop_and_flip(void) {
    enum { P = 2, WAYS = 2 * (2 * P + 1) * (2 * P + 1), EPOCHS = 100 };
    Dataset d = make_dataset(20, 3, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, 20, SIDE, true, 9);
    c.augment.crop_padding = P;
    c.augment.flip = 0.25f;
    Loader l;
    open_loader(&l, &d, &c);
    int counts[WAYS] = {0}, flipped = 0, unexplained = 0;
    for (int i = 0; i < EPOCHS * 20; i++) {
        const Batch* b = i % 20 == 0 ? loader_next(&l) : callers_batch(&l);
        int way = 0;
        for (; way < WAYS; way++) {
            int top = way / 2 % (2 * P + 1) - P, left = way / 2 / (2 * P + 1) - P;
            const float* got = b->images + i % 20 * 3 * SIDE * SIDE;
            if (distance_to_shift(&d, &c, got, b->indices[i % 20], top, left, way % 2) < 1e-5) { break; }
        }
        if (way == WAYS) { unexplained++; continue; }
        counts[way]++;
        flipped += way % 2;
    }
    CHECK(unexplained == 0, "%d images are no shift and no mirror image of the original", unexplained);
    for (int way = 0; way < WAYS; way++) { CHECK(counts[way] > 0, "shift %d never occurred", way); }
    // standard deviation 0.01; observed 0.2435
    CHECK_NEAR(flipped / (EPOCHS * 20.0), 0.25, 0.04, "share of mirrored images");
    loader_close(&l);
    dataset_free(&d);
}

static void test_random_boxes(void) {
    const float scale[2] = {0.08f, 1}, ratio[2] = {3 / 4.0f, 4 / 3.0f}, half[2] = {0.2f, 0.4f}, one[2] = {1, 1};
    double area = 0, half_area = 0, logs = 0;
    int outside = 0, bad_ratio = 0, count = 20000;
    for (int i = 0; i < count; i++) {
        ImageKey key = {1, (uint64_t)i, 3};
        Crop b = random_box(key, 320, 480, scale, ratio);
        outside += b.top < 0 || b.left < 0 || b.height < 1 || b.width < 1 || b.top + b.height > 320
            || b.left + b.width > 480;
        double r = (double)b.width / b.height;
        bad_ratio += r < 0.74 || r > 1.345;
        Crop square = random_box(key, 400, 400, scale, ratio);
        logs += log((double)square.width / square.height) / count;
        area += (double)b.width * b.height / (320 * 480) / count;
        Crop h = random_box(key, 400, 400, half, one);
        half_area += (double)h.width * h.height / (400 * 400) / count;
    }
    CHECK(outside == 0, "%d boxes leave the image", outside);
    CHECK(bad_ratio == 0, "%d boxes have a ratio outside 3/4..4/3", bad_ratio);
    CHECK_NEAR(logs, 0, 0.006, "mean log aspect ratio");      // standard deviation 0.0012; observed 0.0005
    CHECK_NEAR(half_area, 0.3, 0.002, "mean area");           // standard deviation 0.0004; observed 0.3008
    // 0.54 if all fitted; observed 0.391
    CHECK(area > 0.3 && area < 0.54, "mean area %g of boxes that mostly fit", area);
    const float wide[2] = {4, 5}, tall[2] = {0.2f, 0.25f}, all[2] = {1, 1};
    Crop w = random_box((ImageKey){1, 2, 3}, 30, 30, all, wide), t = random_box((ImageKey){1, 2, 3}, 30, 30, all, tall);
    CHECK(w.width == 30 && w.height == 8 && w.left == 0 && w.top == 11, "too wide: %d %d %d %d", w.top, w.left,
          w.height, w.width);
    CHECK(t.width == 8 && t.height == 30 && t.left == 11 && t.top == 0, "too tall: %d %d %d %d", t.top, t.left,
          t.height, t.width);
    Crop tiny = random_box((ImageKey){1, 2, 3}, 1, 1, scale, ratio);
    CHECK(tiny.width == 1 && tiny.height == 1 && tiny.top == 0 && tiny.left == 0, "an image of one pixel");
}

// The image that comes out is its box, copied, resized (as test_resample.c checks) and normalised.
static void test_resized_crop(void) {
    enum { S = 20 };
    Dataset d = make_dataset(9, 3, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, 9, S, true, 4);
    c.augment.random_resized_crop = true;
    c.augment.train_interpolation = INTERPOLATE_BICUBIC;
    Loader l;
    open_loader(&l, &d, &c);
    const Batch* b = loader_next(&l);
    double worst = 0;
    for (int i = 0; i < 9; i++) {
        Crop box = random_box((ImageKey){4, (uint64_t)b->indices[i], 0}, SIDE, SIDE, c.augment.scale, c.augment.ratio);
        uint8_t copy[3 * SIDE * SIDE], resized[3 * S * S];
        for (int k = 0; k < 3 * box.height * box.width; k++) {
            int ch = k / (box.height * box.width), y = k / box.width % box.height, x = k % box.width;
            copy[k] = d.images[((b->indices[i] * 3 + ch) * SIDE + y + box.top) * SIDE + x + box.left];
        }
        ImageView view = view_of(copy, 3, box.height, box.width);
        void* scratch = malloc(resample_scratch(box.height, box.width, S, S));
        resample(resized, view, view_box(view), S, S, FILTER_BICUBIC, scratch);
        free(scratch);
        for (int k = 0; k < 3 * S * S; k++) {
            double want = (resized[k] / 255.0 - c.mean[k / (S * S)]) / c.std[k / (S * S)];
            worst = fmax(worst, fabs(b->images[i * 3 * S * S + k] - want));
        }
    }
    CHECK(worst <= 1e-6, "RandomResizedCrop is off by %g", worst); // observed 1.8e-7
    loader_close(&l);
    dataset_free(&d);
}

// What was erased is a box of 2 % to 1/3 of the image, up to rounding, and 0 or noise there; the rest is as without.
// ---- operations, mixed bytes, repeated images

// What a batch is made of, step by step, from whole images
static void make_plainly(uint8_t* levels, const Dataset* d, const LoaderConfig* c, const ImageDraw* draw) {
    RgbImage image = {levels, SIDE, SIDE};
    uint8_t fill[3];
    void* scratch = malloc(operation_scratch(SIDE, SIDE));
    memcpy(levels, d->images + draw->image * image_bytes(d), image_bytes(d));
    if (draw->mirrored) { flip_horizontally(image); }
    if (draw->upside_down) { flip_vertically(image); }
    fill_colour(fill, c->mean);
    apply_operations(image, &draw->operations, fill, scratch);
    free(scratch);
}

static void test_whole_batch(MixOrder order) {
    enum { B = 8, PIXELS = 3 * SIDE * SIDE };
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    LoaderConfig c = everything_on(&d, B, SIDE);
    c.augment.random_resized_crop = false;
    c.augment.mix_order = order;
    Loader l;
    open_loader(&l, &d, &c);
    int wrong = 0, operations = 0, erased = 0;
    for (int step = 0; step < 40; step++) {
        const Batch* b = loader_next(&l);
        static uint8_t levels[B][PIXELS];
        static float want[B][PIXELS];
        for (int i = 0; i < B; i++) { make_plainly(levels[i], &d, &c, &b->draws[i]); }
        for (int i = 0; i < B / 2 && order == MIX_BYTES; i++) {
            mix_levels(levels[i], levels[B - 1 - i], &b->mix, SIDE);
        }
        for (int i = 0; i < B; i++) {
            normalise(want[i], levels[i], SIDE, c.mean, c.std);
            erase_boxes(want[i], SIDE, SIDE, &b->draws[i].erased);
            operations += b->draws[i].operations.count;
            erased += b->draws[i].erased.count;
        }
        for (int i = 0; i < B / 2 && order == MIX_FLOATS; i++) { mix_floats(want[i], want[B - 1 - i], &b->mix, SIDE); }
        wrong += memcmp(want, b->images, sizeof want) != 0;
    }
    CHECK(wrong == 0, "order %d: %d of 40 batches are others", (int)order, wrong);
    CHECK(operations > 200 && erased > 40, "%d operations and %d erased boxes in 320 images", operations, erased);
    loader_close(&l);
    dataset_free(&d);
}

// An epoch sees a third of the images, each three times, otherwise drawn each time.
static void test_repeats(void) {
    enum { B = 9 };
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    LoaderConfig c = everything_on(&d, B, SIDE);
    c.augment.mixup = c.augment.cutmix = 0;
    Loader l;
    open_loader(&l, &d, &c);
    int seen[N] = {0}, times[4] = {0}, same = 0;
    for (int step = 0; step < l.plan.steps_per_epoch; step++) {
        const Batch* b = loader_next(&l);
        for (int i = 0; i < B; i++) { seen[b->indices[i]]++; }
        for (int i = 0; i < B; i += 3) {
            CHECK(b->indices[i] == b->indices[i + 2], "images %d and %d follow", b->indices[i], b->indices[i + 2]);
            same += memcmp(&b->draws[i].box, &b->draws[i + 1].box, sizeof(Crop)) == 0;
        }
    }
    for (int i = 0; i < N; i++) { times[seen[i] > 3 ? 3 : seen[i]]++; }
    CHECK(times[3] == 33 && times[0] == 70, "%d images are seen three times, %d never", times[3], times[0]);
    CHECK(same <= 3, "%d of 33 images have the same box again", same);
    loader_close(&l);
    dataset_free(&d);
}

static void test_erasing(bool by_noise) {
    enum { S = 24, EPOCHS = 60, COUNT = 20 };
    Dataset d = make_dataset(COUNT, 1, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, COUNT, S, true, 8);
    c.workers = 0;
    c.augment.flip = 0.5f;
    Loader plain, erasing;
    open_loader(&plain, &d, &c);
    c.augment.erasing.probability = 0.25f;
    c.augment.erasing.mode = by_noise ? ERASE_PIXEL : ERASE_CONST;
    open_loader(&erasing, &d, &c);
    int erased = 0, wrong = 0, bad_box = 0, values = 0;
    double sum = 0, squares = 0, area = 0;
    for (int i = 0; i < EPOCHS * COUNT; i++) {
        const Batch* a = i % COUNT == 0 ? loader_next(&plain) : callers_batch(&plain);
        const Batch* b = i % COUNT == 0 ? loader_next(&erasing) : callers_batch(&erasing);
        const Erasures* drawn = &b->draws[i % COUNT].erased;
        Crop box = drawn->count ? drawn->box[0] : (Crop){0};
        erased += box.height > 0;
        area += (double)box.height * box.width / (S * S);
        double ratio = box.height ? (double)box.width / box.height : 1;
        bad_box += box.height && (box.height >= S || box.width >= S || ratio < 0.2 || ratio > 5);
        for (int k = 0; k < 3 * S * S; k++) {
            int y = k / S % S - box.top, x = k % S - box.left;
            bool inside = y >= 0 && y < box.height && x >= 0 && x < box.width;
            float got = b->images[i % COUNT * 3 * S * S + k], was = a->images[i % COUNT * 3 * S * S + k];
            wrong += inside && !by_noise ? got != 0 : inside ? got == was || fabsf(got) > 6 : got != was;
            values += inside;
            sum += inside ? got : 0;
            squares += inside ? got * got : 0;
        }
    }
    CHECK(wrong == 0 && bad_box == 0, "%d values and %d boxes are wrong", wrong, bad_box);
    CHECK_NEAR(erased / (double)(EPOCHS * COUNT), 0.25, 0.05, "share of erased images"); // observed 0.2425
    CHECK_NEAR(area / erased, (0.02 + 1 / 3.0) / 2, 0.03, "mean area");                  // observed 0.1793
    if (by_noise) { // 90,156 values: standard deviations 0.0033 and 0.0047; observed -0.0030 and 0.9965
        CHECK_NEAR(sum / values, 0, 0.02, "mean of the noise");
        CHECK_NEAR(squares / values, 1, 0.02, "its variance");
    }
    loader_close(&plain);
    loader_close(&erasing);
    dataset_free(&d);
}

// As Python has it: 32 / 0.8 is 40, though 0.8 as a float is a little more
static void test_side_before_crop(void) {
    CHECK(side_before_crop(32, 0.8) == 40 && side_before_crop(28, 0.7) == 40 && side_before_crop(224, 0.875) == 256 &&
          side_before_crop(224, 0.9) == 248 && side_before_crop(224, 0.95) == 235, "sides before the crop: %d %d",
          side_before_crop(32, 0.8), side_before_crop(28, 0.7));
}

// Shorter side to floor(S / crop_pct), then the centre: 10 x 15 at S = 18, 90 %, becomes 20 x 30, cut at (1, 6).
static void test_eval_crop(void) {
    enum { S = 18 };
    Dataset d = make_dataset(3, 3, 10, 15);
    LoaderConfig c = loader_defaults(&d, 3, S, false, 4);
    c.crop_pct = 0.9f;
    Loader l;
    open_loader(&l, &d, &c);
    const Batch* b = loader_next(&l);
    uint8_t resized[3 * 20 * 30];
    double worst = 0;
    for (int i = 0; i < 3; i++) {
        ImageView view = view_of(d.images + i * image_bytes(&d), 3, 10, 15);
        void* scratch = malloc(resample_scratch(10, 15, 20, 30));
        resample(resized, view, view_box(view), 20, 30, FILTER_BICUBIC, scratch);
        free(scratch);
        for (int k = 0; k < 3 * S * S; k++) {
            int ch = k / (S * S), y = k / S % S, x = k % S;
            double want = (resized[(ch * 20 + y + 1) * 30 + x + 6] / 255.0 - c.mean[ch]) / c.std[ch];
            worst = fmax(worst, fabs(b->images[i * 3 * S * S + k] - want));
        }
    }
    CHECK(worst <= 1e-6, "resizing and cropping for evaluation is off by %g", worst); // observed 2.2e-7
    loader_close(&l);
    dataset_free(&d);
}

// ---- one batch ----

static void test_beta(void) {
    const double alphas[] = {0.2, 0.8, 1, 3};
    for (int a = 0; a < 4; a++) {
        double alpha = alphas[a], mean = 0, square = 0;
        int count = 20000, outside = 0;
        for (int i = 0; i < count; i++) {
            double x = random_beta(alpha, 8, (uint32_t)i);
            outside += !(x >= 0 && x <= 1);
            mean += x / count;
            square += x * x / count;
        }
        CHECK(outside == 0, "Beta(%g) left 0..1 %d times", alpha, outside);
        CHECK_NEAR(mean, 0.5, 0.012, "mean of Beta"); // observed off by 0.0034, the variance by 0.0006
        CHECK_NEAR(square - mean * mean, 1 / (4 * (2 * alpha + 1)), 0.004, "variance of Beta");
    }
}

// timm's formula: one-hot with `on` and `off`, for the image and for its partner, weighted by λ.
static void check_targets(const Batch* b, double lambda, double smoothing) {
    double worst = 0, off = smoothing / CLASSES, on = 1 - smoothing + off;
    for (int i = 0; i < b->count * CLASSES; i++) {
        int k = i % CLASSES, mine = b->labels[i / CLASSES], partner = b->labels[b->count - 1 - i / CLASSES];
        double want = lambda * (k == mine ? on : off) + (1 - lambda) * (k == partner ? on : off);
        worst = fmax(worst, fabs(b->targets[i] - want));
    }
    CHECK(worst <= 2e-7, "targets are off by %g", worst); // observed 1.0e-7
    for (int i = 0; i < b->count; i++) {
        double sum = 0;
        for (int k = 0; k < CLASSES; k++) { sum += b->targets[i * CLASSES + k]; }
        CHECK_NEAR(sum, 1, 3e-7, "a row of targets sums to"); // observed off by 1.1e-7
    }
}

// Batches of 9 (odd: the middle image is its own partner) against the same batches without mixing.
static void test_mix(float mixup, float cutmix, float probability) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    LoaderConfig c = loader_defaults(&d, 9, SIDE, true, 6);
    c.workers = 0;
    c.augment.smoothing = 0.1f;
    Loader plain, mixed;
    open_loader(&plain, &d, &c);
    c.augment.mixup = mixup;
    c.augment.cutmix = cutmix;
    c.augment.mix_probability = probability;
    open_loader(&mixed, &d, &c);
    double worst = 0;
    int cut = 0, blended = 0, steps = 200;
    for (int step = 0; step < steps; step++) {
        const Batch* a = loader_next(&plain);
        const Batch* b = loader_next(&mixed);
        Mix mix = mix_draw(&c.augment, c.seed, (uint32_t)step, SIDE);
        double lambda = mix.shares.own;
        cut += lambda < 1 && mix.cutmix;
        blended += lambda < 1 && !mix.cutmix;
        int from_partner = 0;
        for (int k = 0; k < 9 * 3 * SIDE * SIDE; k++) {
            int i = k / (3 * SIDE * SIDE), y = k / SIDE % SIDE, x = k % SIDE, rest = k % (3 * SIDE * SIDE);
            bool inside = mix.cutmix && y >= mix.box.top && y < mix.box.top + mix.box.height
                && x >= mix.box.left && x < mix.box.left + mix.box.width;
            double own = a->images[k], partner = a->images[(8 - i) * 3 * SIDE * SIDE + rest];
            double share = mix.cutmix ? !inside : lambda;
            worst = fmax(worst, fabs(b->images[k] - (share * own + (1 - share) * partner)));
            from_partner += inside && i == 0;
        }
        if (mix.cutmix) { CHECK_NEAR(1 - lambda, from_partner / (3.0 * SIDE * SIDE), 1e-6, "cutmix: 1 - lambda"); }
        check_targets(b, lambda, 0.1);
    }
    CHECK(worst <= 1e-6, "mixed images are off by %g", worst); // observed 1.7e-7
    double share = mixup > 0 && cutmix > 0 ? 0.5 : cutmix > 0;
    // observed off by 0.015 and 0.015; a cut of no pixel does not count as one
    CHECK_NEAR(cut / (double)steps, probability * share, 0.15, "share of cutmix batches");
    CHECK_NEAR(blended / (double)steps, probability * (mixup > 0 ? 1 - share : 0), 0.12, "share of mixup batches");
    loader_close(&plain);
    loader_close(&mixed);
    dataset_free(&d);
}

// ---- the rest ----

static void test_working_directory(void) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE), train, test;
    Error err;
    char before[1024];
    if (!getcwd(before, sizeof before) || chdir(test_folder) != 0) { perror("chdir"); exit(1); }
    CHECK(dataset_save(&d, "here.train.kds", &err) && dataset_save(&d, "here.test.kds", &err), "%s", err.text);
    if (CHECK(dataset_open(&train, &test, "./here", false, &err), "%s", err.text)) {
        LoaderConfig c = everything_on(&d, 10, 16);
        Loader l, again;
        open_loader(&l, &train, &c);
        if (chdir("/") != 0) { perror("chdir"); exit(1); }
        remove_test_folder();
        open_loader(&again, &d, &c);
        for (int step = 0; step < 12; step++) {
            CHECK(same_batch(&l, loader_next(&l), loader_next(&again)), "step %d after leaving the folder", step);
        }
        loader_close(&l);
        loader_close(&again);
        dataset_free(&train);
        dataset_free(&test);
    }
    if (chdir(before) != 0) { perror(before); exit(1); }
    dataset_free(&d);
}

// ---- shared by several processes ----

// Step by step, R loaders have the A micro-batches of one that has them all, each its own in a row.
static void test_shared_steps(const Dataset* d, int A, int R) {
    enum { STEPS = 3 };
    LoaderConfig c = loader_defaults(d, 2, 4, true, 42);
    c.workers = 0;
    int wrong = 0, order[STEPS * 12] = {0};
    for (int p = 0; p < R; p++) {
        c.first = A * p / R;
        c.run = A * (p + 1) / R - c.first;
        c.stride = A;
        for (int64_t k = 0; k < STEPS * c.run; k++) {
            int64_t number = batch_number(&c, k);
            wrong += number < 0 || number >= STEPS * A || number / A != k / c.run;
            if (!wrong) { order[number]++; }
            wrong += batches_among(&c, number) != k || batches_among(&c, number + 1) != k + 1;
        }
    }
    for (int i = 0; i < STEPS * A; i++) { wrong += order[i] != 1; }
    CHECK(wrong == 0, "%d micro-batches on %d ranks: %d are wrong", A, R, wrong);
}

// What a loader hands out are the batches of those numbers, also after a seek and round the end of an evaluation.
static void test_shared_batches(bool train, int batch_size, int A, int R) {
    Dataset d = make_dataset(31, 3, 4, 4);
    int64_t all = (31 + batch_size - 1) / batch_size;
    for (int p = 0; p < R; p++) {
        LoaderConfig c = loader_defaults(&d, batch_size, 4, train, 42);
        c.first = train ? A * p / R : p;
        c.run = train ? A * (p + 1) / R - A * p / R : 1;
        c.stride = train ? A : R;
        c.workers = p % 2;
        Loader l;
        open_loader(&l, &d, &c);
        int64_t own = loader_batches(&l), round = own > 0 ? own : 1, wrong = 0;
        CHECK(train || own == (p < all ? (all - p + R - 1) / R : 0), "rank %d of %d has %d batches of %d", p, R,
              (int)own, (int)all);
        for (int64_t k = 0; k < 12; k++) {
            if (k == 7) { loader_seek(&l, k); }
            int64_t number = loader_next(&l)->step;
            wrong += number != (train ? batch_number(&c, k) : own > 0 ? p + k % round * R : p % all);
        }
        CHECK(wrong == 0, "rank %d of %d, %s: %d batches are others", p, R, train ? "training" : "evaluation",
              (int)wrong);
        loader_close(&l);
    }
    dataset_free(&d);
}

static void test_shared(void) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    for (int A = 1; A <= 12; A++) {
        for (int R = 1; R <= A; R++) { test_shared_steps(&d, A, R); }
    }
    dataset_free(&d);
    LoaderConfig whole = {.first = 0, .run = 0}, one = {.first = 0, .run = 6, .stride = 6};
    for (int k = 0; k < 30; k++) {
        CHECK(batch_number(&whole, k) == k && batch_number(&one, k) == k, "batch %d of one process", k);
    }
    test_shared_batches(true, 5, 6, 4);
    test_shared_batches(true, 5, 4, 4);
    test_shared_batches(false, 5, 0, 3);
    test_shared_batches(false, 10, 0, 6); // two of them without work
}

static void test_refusals(void) {
    Dataset d = make_dataset(N, 3, SIDE, SIDE);
    const LoaderConfig good = everything_on(&d, 10, 16);
    LoaderConfig bad[17];
    for (int i = 0; i < 17; i++) { bad[i] = good; }
    bad[0].batch_size = 0;
    bad[1].image_size = 0;
    bad[2].num_classes = CLASSES - 1;
    bad[3].crop_pct = 0;
    bad[4].crop_pct = 1.5f;
    bad[5].eval_interpolation = INTERPOLATE_RANDOM;
    bad[6].std[1] = 0;
    bad[7].mean[2] = NAN;
    bad[8].augment.crop_padding = 4; // with RandomResizedCrop
    bad[9].augment.random_resized_crop = false, bad[9].augment.crop_padding = SIDE;
    bad[10].augment.scale[0] = 0;
    bad[11].augment.ratio[1] = 0.5f;
    bad[12].augment.flip = 1.5f;
    bad[13].augment.mixup = -1;
    bad[14].augment.smoothing = NAN;
    bad[15].augment.cutmix = INFINITY;
    bad[16].augment.erasing.probability = -0.1f;
    for (int i = 0; i < 17; i++) {
        Loader l;
        Error err = {""};
        bool opened = loader_open(&l, &d, &bad[i], &err);
        CHECK(!opened && err.text[0], "impossible configuration %d was accepted", i);
        if (opened) { loader_close(&l); }
    }
    dataset_free(&d);
}

// Images wider than high, cropped to a side that makes the resizer's tables largest (for the address sanitizer).
static void test_odd_shapes(void) {
    const int sizes[][3] = {{29, 30, 29}, {30, 29, 29}, {5, 40, 7}, {40, 5, 64}, {1, 1, 3}, {64, 50, 1}};
    for (int i = 0; i < 6; i++) {
        Dataset d = make_dataset(11, 3, sizes[i][0], sizes[i][1]);
        LoaderConfig c = everything_on(&d, 11, sizes[i][2]);
        c.augment.ratio[0] = 0.1f;
        c.augment.ratio[1] = 10;
        for (int kind = 0; kind < 3; kind++) {
            c.augment.random_resized_crop = kind == 0;
            c.train = kind < 2;
            c.crop_pct = 0.7f;
            Loader l;
            open_loader(&l, &d, &c);
            int wrong = 0;
            for (int step = 0; step < 5; step++) {
                const Batch* b = loader_next(&l);
                for (int k = 0; k < 11 * 3 * sizes[i][2] * sizes[i][2]; k++) { wrong += !isfinite(b->images[k]); }
            }
            CHECK(wrong == 0, "%dx%d to %d, kind %d: %d values", sizes[i][0], sizes[i][1], sizes[i][2], kind, wrong);
            loader_close(&l);
        }
        dataset_free(&d);
    }
}

int main(void) {
    open_test_folder();
    test_epochs();
    test_shuffle_is_uniform();
    test_short_data();
    test_evaluation(10, 1);
    test_evaluation(N, 2);
    test_evaluation(200, 0);
    test_evaluation(1, 3);
    for (int workers = 1; workers <= 4; workers *= 2) { test_pure_function_of_step(workers); }
    test_padded_crop_and_flip();
    test_random_boxes();
    test_resized_crop();
    test_side_before_crop();
    test_eval_crop();
    test_whole_batch(MIX_BYTES);
    test_whole_batch(MIX_FLOATS);
    test_repeats();
    test_erasing(false);
    test_erasing(true);
    test_odd_shapes();
    test_beta();
    test_mix(0.8f, 1, 1);
    test_mix(0.8f, 0, 0.5f);
    test_mix(0, 1, 1);
    test_mix(0.2f, 1, 0);
    test_working_directory();
    test_shared();
    test_refusals();
    return tests_finish();
}
