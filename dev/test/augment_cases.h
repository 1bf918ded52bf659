// Images and batches of dev/test/augment_fixtures.txt, against Pillow, timm and torchvision, for any maker: the CPU
// (dev/test/test_augment_fixtures.c) or the GPU (dev/test_cuda/test_augment_operations.cu).
#pragma once
#include "../../data/augment.h"
#include "augment_fixtures.h"

// The functions that make them, all in host memory
typedef struct {
    void (*apply)(RgbImage image, const OperationList* list, const uint8_t fill[3]);
    void (*mix)(uint8_t* x, uint8_t* y, size_t count, MixShares s);
    void (*normalise)(float* x, const uint8_t* levels, size_t count, double mean, double std);
    void (*erase)(float* x, int H, int W, const Erasures* e);
} Maker;

// ---- images ----

static const char* const operation_names[] = {
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y", "hue"};

static inline ImageOperationKind operation_named(const char* name) {
    for (int i = 0; i < IMAGE_OPERATION_KINDS; i++) {
        if (strcmp(operation_names[i], name) == 0) { return (ImageOperationKind)i; }
    }
    return IMAGE_OPERATION_KINDS;
}

// A case, as far as it has been read
typedef struct {
    RgbImage image;
    OperationList list;
    uint8_t fill[3];
    Crop box;
    ResampleFilter filter;
    int size;
    float crop_pct;
    bool flip, vertical_first;
} Case;

static inline void read_argument(Case* k, ImageOperation* op, const Fixtures* f, int* at) {
    const char* name = f->word[(*at)++];
    if (strcmp(name, "fill") == 0) {
        for (int c = 0; c < 3; c++) { k->fill[c] = (uint8_t)int_word(f, (*at)++); }
    } else if (strcmp(name, "filter") == 0) {
        const char* filter = f->word[(*at)++];
        bool bicubic = strcmp(filter, "bicubic") == 0;
        op->filter = filter[0] == 'n' ? AFFINE_NEAREST : bicubic ? AFFINE_BICUBIC : AFFINE_BILINEAR;
    } else if (strcmp(name, "box") == 0) {
        int v[4];
        for (int i = 0; i < 4; i++) { v[i] = int_word(f, (*at)++); }
        k->box = (Crop){v[0], v[1], v[2], v[3]};
    } else {
        double value = real_word(f, *at);
        if (strcmp(name, "size") == 0) { k->size = (int)value; }
        if (strcmp(name, "crop_pct") == 0) { k->crop_pct = (float)value; }
        if (strcmp(name, "flip") == 0) { k->flip = value != 0; }
        if (strcmp(name, "order") == 0) { k->vertical_first = true; }
        op->argument = value;
        ++*at;
    }
}

// Reads up to its result's first line.
static inline void read_case(Case* k, Fixtures* f) {
    *k = (Case){.box = {0, 0, 0, 0}};
    ImageOperation* op = &k->list.operation[0];
    op->kind = operation_named(f->word[1]);
    k->list.count = op->kind < IMAGE_OPERATION_KINDS;
    while (fixtures_next(f) && strcmp(f->word[0], "out") != 0 && strcmp(f->word[0], "sum") != 0) {
        int at = 1;
        if (strcmp(f->word[0], "in") == 0) {
            k->image = made_image(f->word[1], int_word(f, 2), int_word(f, 3), (uint32_t)int_word(f, 4));
            CHECK(image_checksum(k->image) == hex_word(f, 5), "an input is not the fixture's");
            continue;
        }
        if (strcmp(f->word[0], "step") == 0) {
            op = &k->list.operation[k->list.count++];
            op->kind = operation_named(f->word[at++]);
        }
        while (at < f->words) { read_argument(k, op, f, &at); }
        if (strcmp(f->word[0], "arg") == 0) {
            k->filter = op->filter == AFFINE_BICUBIC ? FILTER_BICUBIC : FILTER_BILINEAR;
        }
    }
}

static inline RgbImage resized(RgbImage image, Crop box, int height, int width, ResampleFilter filter) {
    ImageView in = view_crop(view_of(image.pixels, 3, image.height, image.width), box.top, box.left, box.height,
                             box.width);
    RgbImage out = new_image(height, width);
    void* scratch = malloc(resample_scratch(box.height, box.width, height, width));
    resample(out.pixels, in, view_box(in), height, width, filter, scratch);
    free(scratch);
    free(image.pixels);
    return out;
}

static inline RgbImage evaluated(RgbImage image, int S, float crop_pct, ResampleFilter filter) {
    Resize r = resize_and_crop(image.height, image.width, S, crop_pct);
    image = resized(image, (Crop){0, 0, image.height, image.width}, r.height, r.width, filter);
    return resized(image, (Crop){r.top, r.left, S, S}, S, S, filter);
}

// What the case's operation makes of its image; height x width: its result's size
static inline RgbImage case_result(const Maker* maker, const Case* k, const char* name, int height, int width) {
    RgbImage image = k->image;
    Crop whole = {0, 0, image.height, image.width}, box = k->box.height ? k->box : whole;
    if (strcmp(name, "evaluate") == 0) { return evaluated(image, k->size, k->crop_pct, k->filter); }
    if (strcmp(name, "resize") == 0 && k->vertical_first) {
        image = resized(image, box, height, box.width, k->filter);
        box = (Crop){0, 0, height, box.width};
    }
    if (strcmp(name, "resize") == 0 || strcmp(name, "pipeline") == 0) {
        image = resized(image, box, height, width, k->filter);
    }
    if (k->flip || strcmp(name, "flip") == 0) { flip_horizontally(image); }
    maker->apply(image, &k->list, k->fill);
    return image;
}

// ---- records of one line ----

static const double fixture_mean[3] = {0.485, 0.456, 0.406}, fixture_std[3] = {0.229, 0.224, 0.225};

static inline void check_normalise(const Maker* maker, const Fixtures* f) {
    uint8_t level = (uint8_t)int_word(f, 1);
    int c = int_word(f, 2);
    float got;
    maker->normalise(&got, &level, 1, fixture_mean[c], fixture_std[c]);
    CHECK(got == float_word(f, 3), "level %d of channel %d: %.9g", level, c, got);
    CHECK_NEAR(got, float_word(f, 4), 5e-7, "the other form of normalisation");
}

static inline void check_mix(const Maker* maker, const Fixtures* f) {
    double lambda = real_word(f, 1);
    for (int each = 0; each < 2; each++) {
        uint8_t a = (uint8_t)int_word(f, 2), b = (uint8_t)int_word(f, 3);
        maker->mix(&a, &b, 1, each ? shares_of_image(lambda) : shares_of_batch(lambda));
        CHECK(a == int_word(f, 4 + each), "%g of %s and %s: %d", lambda, f->word[2], f->word[3], a);
    }
}

// ---- batches ----

static inline uint64_t batch_checksum(const uint8_t* bytes, int B, int S) { // of the pixels in order
    size_t plane = (size_t)S * S;
    uint64_t hash = FNV_START;
    for (size_t i = 0; i < B * 3 * plane; i++) {
        hash = fnv(hash, bytes + i / (3 * plane) * 3 * plane + i % 3 * plane + i / 3 % plane, 1);
    }
    return hash;
}

// Four images, mixed as bytes, then normalised, then a box of image 2 erased
static inline void check_batch(const Maker* maker, const Fixtures* f, const RgbImage pipelines[5]) {
    enum { B = 4 };
    const int chosen[B] = {0, 1, 3, 4}, S = pipelines[0].height;
    const size_t image = (size_t)3 * S * S;
    uint8_t* bytes = (uint8_t*)malloc(B * image);
    float* x = (float*)malloc(B * image * sizeof(float));
    for (int i = 0; i < B; i++) { memcpy(bytes + i * image, pipelines[chosen[i]].pixels, image); }
    int at = 3;
    for (int i = 0; i < B / 2; i++) {
        uint8_t *own = bytes + i * image, *other = bytes + (B - 1 - i) * image;
        if (strcmp(f->word[1], "mixup") == 0) { maker->mix(own, other, image, shares_of_batch(real_word(f, 2))); }
        if (strcmp(f->word[1], "cutmix") == 0) {
            int y0 = int_word(f, 3), y1 = int_word(f, 4), x0 = int_word(f, 5), x1 = int_word(f, 6);
            exchange_box(own, other, S, S, (Crop){y0, x0, y1 - y0, x1 - x0});
            at = 7;
        }
    }
    CHECK(batch_checksum(bytes, B, S) == hex_word(f, at + 1), "%s: the bytes differ", f->word[1]);
    for (int i = 0; i < B * 3; i++) {
        size_t plane = (size_t)S * S, at_plane = i * plane;
        maker->normalise(x + at_plane, bytes + at_plane, plane, fixture_mean[i % 3], fixture_std[i % 3]);
    }
    CHECK(fnv(FNV_START, x, B * image * sizeof *x) == hex_word(f, at + 3), "%s: the floats differ", f->word[1]);
    Erasures e = {.count = 1, .mode = ERASE_CONST};
    e.box[0] = (Crop){int_word(f, at + 5), int_word(f, at + 6), int_word(f, at + 7), int_word(f, at + 8)};
    maker->erase(x + 2 * image, S, S, &e);
    CHECK(fnv(FNV_START, x, B * image * sizeof *x) == hex_word(f, at + 9), "%s: what was erased differs", f->word[1]);
    free(bytes);
    free(x);
}

// ---- the file ----

// The first five pipelines' results are kept for the batches.
static inline void check_case(const Maker* maker, Fixtures* f, RgbImage pipelines[5], int* pipeline) {
    char name[32];
    Case k;
    snprintf(name, sizeof name, "%s", f->word[1]);
    read_case(&k, f);
    RgbImage got = case_result(maker, &k, name, int_word(f, 1), int_word(f, 2));
    int differing = differing_bytes(f, got);
    CHECK(differing == 0, "%s of %dx%d, argument %g, filter %d: %d bytes differ", name, k.image.height, k.image.width,
          k.list.operation[0].argument, (int)k.list.operation[0].filter, differing);
    if (strcmp(name, "pipeline") == 0 && *pipeline < 5) {
        pipelines[(*pipeline)++] = got;
    } else {
        free(got.pixels);
    }
}

// other: checks a record that holds neither images nor their levels
static inline void check_fixtures(const Maker* maker, const char* path, bool (*other)(const Fixtures*)) {
    Fixtures f;
    RgbImage pipelines[5];
    int pipeline = 0, cases = 0, lines = 0;
    fixtures_open(&f, path);
    while (fixtures_next(&f)) {
        bool is_case = strcmp(f.word[0], "case") == 0;
        cases += is_case;
        lines += !is_case;
        if (is_case) {
            check_case(maker, &f, pipelines, &pipeline);
        } else if (strcmp(f.word[0], "batch") == 0) {
            check_batch(maker, &f, pipelines);
        } else if (strcmp(f.word[0], "mix") == 0) {
            check_mix(maker, &f);
        } else if (strcmp(f.word[0], "normalise") == 0) {
            check_normalise(maker, &f);
        } else {
            CHECK(other(&f), "a record of kind %s", f.word[0]);
        }
    }
    CHECK(cases == 291 && lines == 857, "the fixtures have %d cases and %d records", cases, lines);
    for (int i = 0; i < pipeline; i++) { free(pipelines[i].pixels); }
    fixtures_close(&f);
}
