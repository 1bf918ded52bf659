// Operations on images, RandAugment's strings and levels, boxes, mixing of bytes and repeated augmentation against
// Pillow, timm and torchvision, value by value: dev/test/augment_fixtures.txt.
#include "../../data/augment.h"
#include "../../data/mix_bytes.h"
#include "../../data/random_erasing.h"
#include "../../data/repeated.h"
#include "augment_fixtures.h"

// ---- images of the fixtures ----

static const char* const operation_names[] = {
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "color", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y", "hue"};

static ImageOperationKind operation_named(const char* name) {
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

static void read_argument(Case* k, ImageOperation* op, const Fixtures* f, int* at) {
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

// Up to its result's first line
static void read_case(Case* k, Fixtures* f) {
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

static RgbImage resized(RgbImage image, Crop box, int height, int width, ResampleFilter filter) {
    ImageView in = view_crop(view_of(image.pixels, 3, image.height, image.width), box.top, box.left, box.height,
                             box.width);
    RgbImage out = new_image(height, width);
    void* scratch = malloc(resample_scratch(box.height, box.width, height, width));
    resample(out.pixels, in, view_box(in), height, width, filter, scratch);
    free(scratch);
    free(image.pixels);
    return out;
}

static RgbImage evaluated(RgbImage image, int S, float crop_pct, ResampleFilter filter) {
    Resize r = resize_and_crop(image.height, image.width, S, crop_pct);
    image = resized(image, (Crop){0, 0, image.height, image.width}, r.height, r.width, filter);
    return resized(image, (Crop){r.top, r.left, S, S}, S, S, filter);
}

// What the case's operation makes of its image; height x width: its result's size
static RgbImage case_result(const Case* k, const char* name, int height, int width) {
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
    apply_guarded(image, &k->list, k->fill);
    return image;
}

// ---- records of one line ----

static void check_colours(const Fixtures* f) {
    int v[6];
    for (int i = 0; i < 6; i++) { v[i] = int_word(f, i + 1); }
    if (strcmp(f->word[0], "luma") == 0) {
        CHECK(luma(v[0], v[1], v[2]) == v[3], "luma of %d %d %d is %d", v[0], v[1], v[2], luma(v[0], v[1], v[2]));
        return;
    }
    Colour in = {(uint8_t)v[0], (uint8_t)v[1], (uint8_t)v[2]};
    Colour out = strcmp(f->word[0], "hsv") == 0 ? hsv_of(in) : rgb_of(in, unknown_one());
    CHECK(out.a == v[3] && out.b == v[4] && out.c == v[5], "%s of %d %d %d is %d %d %d", f->word[0], v[0], v[1], v[2],
          out.a, out.b, out.c);
}

static void check_parse(const Fixtures* f) {
    RandAugment r;
    Error err;
    if (!CHECK(rand_augment_parse(&r, f->word[1], &err), "%s was refused: %s", f->word[1], err.text)) { return; }
    CHECK(r.magnitude == int_word(f, 2) && r.operations == int_word(f, 3) && r.probability == real_word(f, 4)
          && r.deviation == real_word(f, 5) && r.highest == int_word(f, 6) && r.increasing == int_word(f, 7),
          "%s was read otherwise", f->word[1]);
}

static void check_operations(const Fixtures* f) {
    CHECK(f->words == 2 + RAND_OPERATION_KINDS, "%d operations", f->words - 2);
    for (int i = 0; i < RAND_OPERATION_KINDS; i++) {
        CHECK(strcmp(f->word[2 + i], set_names[int_word(f, 1)][i]) == 0, "operation %d is %s", i, f->word[2 + i]);
    }
}

static void check_level(const Fixtures* f) {
    double magnitude = real_word(f, 2), want = real_word(f, 4);
    bool negative = int_word(f, 3);
    for (int increasing = 0; increasing < 2; increasing++) {
        for (int i = 0; i < RAND_OPERATION_KINDS; i++) {
            if (strcmp(f->word[1], set_names[increasing][i]) != 0) { continue; }
            double got = operation_argument((ImageOperationKind)i, increasing, magnitude, negative);
            CHECK(got == want, "%s at %g: %.17g, not %.17g", f->word[1], magnitude, got, want);
            CHECK(!negative || has_sign((ImageOperationKind)i, increasing), "%s has a sign", f->word[1]);
        }
    }
}

static void check_box(const Fixtures* f) {
    int H = int_word(f, 1), W = int_word(f, 2), h, w;
    double fraction = real_word(f, 3), aspect = real_word(f, 4);
    if (strcmp(f->word[0], "crop") == 0) {
        box_sides(&w, &h, (double)H * W * fraction, aspect);
        CHECK(h == int_word(f, 5) && w == int_word(f, 6) && (h <= H && w <= W) == int_word(f, 7),
              "crop of %d x %d: %d x %d", H, W, h, w);
    } else if (strcmp(f->word[0], "erase") == 0) {
        bool fits = erased_sides(&h, &w, H, W, fraction, aspect, int_word(f, 5));
        CHECK(h == int_word(f, 6) && w == int_word(f, 7) && fits == int_word(f, 8), "erasure of %d x %d: %d x %d", H, W,
              h, w);
    } else {
        Crop box = centre_box(H, W, (float[]){(float)fraction, (float)aspect});
        CHECK(box.top == int_word(f, 5) && box.left == int_word(f, 6) && box.height == int_word(f, 7)
              && box.width == int_word(f, 8), "centre box of %d x %d", H, W);
    }
}

static void check_evaluate(const Fixtures* f) {
    Resize r = resize_and_crop(int_word(f, 1), int_word(f, 2), int_word(f, 3), (float)real_word(f, 4));
    CHECK(r.height == int_word(f, 5) && r.width == int_word(f, 6) && r.top == int_word(f, 11)
          && r.left == int_word(f, 12), "evaluation of %s x %s: %d x %d at %d, %d", f->word[1], f->word[2], r.height,
          r.width, r.top, r.left);
}

static void check_cutmix(const Fixtures* f) {
    int H = int_word(f, 1), W = int_word(f, 2);
    Crop b = cutmix_box(H, W, real_word(f, 3), int_word(f, 4), int_word(f, 5), int_word(f, 6));
    CHECK(b.top == int_word(f, 7) && b.top + b.height == int_word(f, 8) && b.left == int_word(f, 9)
          && b.left + b.width == int_word(f, 10), "cutmix box of %d x %d", H, W);
    CHECK(cutmix_lambda(b, H, W) == real_word(f, 11), "λ of a cutmix box: %.17g", cutmix_lambda(b, H, W));
}

static const double mean[3] = {0.485, 0.456, 0.406}, deviation[3] = {0.229, 0.224, 0.225};

static void check_normalise(const Fixtures* f) {
    int level = int_word(f, 1), c = int_word(f, 2);
    float got = normalised_level((uint8_t)level, mean[c], deviation[c]);
    CHECK(got == float_word(f, 3), "level %d of channel %d: %.9g", level, c, got);
    CHECK_NEAR(got, float_word(f, 4), 5e-7, "the other form of normalisation");
}

static void check_mix(const Fixtures* f) {
    double lambda = real_word(f, 1);
    for (int each = 0; each < 2; each++) {
        uint8_t a = (uint8_t)int_word(f, 2), b = (uint8_t)int_word(f, 3);
        mix_bytes(&a, &b, 1, each ? shares_of_image(lambda) : shares_of_batch(lambda));
        CHECK(a == int_word(f, 4 + each), "%g of %s and %s: %d", lambda, f->word[2], f->word[3], a);
    }
}

static void check_target(const Fixtures* f) {
    int K = int_word(f, 1);
    double smoothing = real_word(f, 2);
    MixShares s = shares_of_batch(real_word(f, 3));
    float* t = malloc(sizeof(float) * (size_t)K);
    mix_target(t, K, 3, 5, s, smoothing);
    CHECK(t[3] == float_word(f, 4) && t[5] == float_word(f, 5) && t[0] == float_word(f, 7), "targets %.9g %.9g %.9g",
          t[3], t[5], t[0]);
    mix_target(t, K, 2, 2, s, smoothing);
    CHECK(t[2] == float_word(f, 6), "target of a pair of one class: %.9g", t[2]);
    free(t);
}

static void check_repeat(const Fixtures* f) {
    int64_t N = int_word(f, 1);
    int replicas = int_word(f, 3), rank = int_word(f, 4);
    CHECK(repeated_count(N, replicas, int_word(f, 5)) == int_word(f, 6), "a rank visits %s", f->word[6]);
    for (int i = 0; 7 + i < f->words; i++) {
        int64_t place = repeated_place(i, N, real_word(f, 2), replicas, rank);
        CHECK(place == int_word(f, 7 + i), "rank %d visits %d as its %d-th of %s", rank, (int)place, i, f->word[1]);
    }
}

static void check_magnitude(const Fixtures* f) {
    CHECK(clip_magnitude(real_word(f, 1), int_word(f, 2)) == real_word(f, 3), "magnitude %s is clipped", f->word[1]);
}

// ---- batches of the fixtures ----

// Four images, mixed as bytes, then normalised, then a box of image 2 erased
static void check_batch(Fixtures* f, const RgbImage pipelines[5]) {
    enum { B = 4 };
    const int chosen[B] = {0, 1, 3, 4}, S = pipelines[0].height;
    const size_t image = (size_t)3 * S * S;
    uint8_t* bytes = malloc(B * image);
    float* x = malloc(B * image * sizeof(float));
    for (int i = 0; i < B; i++) { memcpy(bytes + i * image, pipelines[chosen[i]].pixels, image); }
    int at = 3;
    for (int i = 0; i < B / 2; i++) {
        uint8_t *own = bytes + i * image, *other = bytes + (B - 1 - i) * image;
        if (strcmp(f->word[1], "mixup") == 0) { mix_bytes(own, other, image, shares_of_batch(real_word(f, 2))); }
        if (strcmp(f->word[1], "cutmix") == 0) {
            int y0 = int_word(f, 3), y1 = int_word(f, 4), x0 = int_word(f, 5), x1 = int_word(f, 6);
            exchange_box(own, other, S, S, (Crop){y0, x0, y1 - y0, x1 - x0});
            at = 7;
        }
    }
    uint64_t hash = FNV_START;
    for (int i = 0; i < B; i++) {
        for (size_t p = 0; p < image; p++) { hash = fnv(hash, bytes + i * image + p % 3 * S * S + p / 3, 1); }
    }
    CHECK(hash == hex_word(f, at + 1), "%s: the bytes differ", f->word[1]);
    for (size_t p = 0; p < B * image; p++) {
        size_t c = p / ((size_t)S * S) % 3;
        x[p] = normalised_level(bytes[p], mean[c], deviation[c]);
    }
    CHECK(fnv(FNV_START, x, B * image * sizeof *x) == hex_word(f, at + 3), "%s: the floats differ", f->word[1]);
    Erasures e = {.count = 1, .mode = ERASE_CONST};
    e.box[0] = (Crop){int_word(f, at + 5), int_word(f, at + 6), int_word(f, at + 7), int_word(f, at + 8)};
    erase_boxes(x + 2 * image, S, S, &e);
    CHECK(fnv(FNV_START, x, B * image * sizeof *x) == hex_word(f, at + 9), "%s: what was erased differs", f->word[1]);
    free(bytes);
    free(x);
}

// ---- the file ----

static const struct {
    const char* kind;
    void (*check)(const Fixtures*);
} records[] = {
    {"luma", check_colours}, {"hsv", check_colours}, {"rgb", check_colours}, {"parse", check_parse},
    {"operations", check_operations}, {"magnitude", check_magnitude}, {"level", check_level}, {"crop", check_box},
    {"erase", check_box}, {"fallback", check_box}, {"cutmix", check_cutmix}, {"evaluate", check_evaluate},
    {"normalise", check_normalise}, {"mix", check_mix}, {"target", check_target}, {"repeat", check_repeat},
};

static bool check_record(const Fixtures* f) {
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        if (strcmp(records[i].kind, f->word[0]) == 0) { records[i].check(f); return true; }
    }
    return false;
}

// The first five pipelines' results are kept for the batches.
static void check_case(Fixtures* f, RgbImage pipelines[5], int* pipeline) {
    char name[32];
    Case k;
    snprintf(name, sizeof name, "%s", f->word[1]);
    read_case(&k, f);
    RgbImage got = case_result(&k, name, int_word(f, 1), int_word(f, 2));
    int differing = differing_bytes(f, got);
    CHECK(differing == 0, "%s of %dx%d, argument %g, filter %d: %d bytes differ", name, k.image.height, k.image.width,
          k.list.operation[0].argument, (int)k.list.operation[0].filter, differing);
    if (strcmp(name, "pipeline") == 0 && *pipeline < 5) {
        pipelines[(*pipeline)++] = got;
    } else {
        free(got.pixels);
    }
}

static void test_fixtures(void) {
    Fixtures f;
    RgbImage pipelines[5];
    int pipeline = 0, cases = 0, lines = 0;
    fixtures_open(&f, "dev/test/augment_fixtures.txt");
    while (fixtures_next(&f)) {
        if (strcmp(f.word[0], "case") == 0) {
            cases++;
            check_case(&f, pipelines, &pipeline);
        } else {
            lines++;
            if (strcmp(f.word[0], "batch") == 0) {
                check_batch(&f, pipelines);
            } else {
                CHECK(check_record(&f), "a record of kind %s", f.word[0]);
            }
        }
    }
    CHECK(cases == 291 && lines == 857, "the fixtures have %d cases and %d records", cases, lines);
    for (int i = 0; i < pipeline; i++) { free(pipelines[i].pixels); }
    fixtures_close(&f);
}

// The comparison sees one wrong byte.
static void test_comparison(void) {
    Fixtures f;
    Case k;
    fixtures_open(&f, "dev/test/augment_fixtures.txt");
    while (fixtures_next(&f) && strcmp(f.word[0], "case") != 0) { }
    read_case(&k, &f);
    RgbImage got = case_result(&k, "", 0, 0);
    got.pixels[plane_bytes(got)] ^= 1;
    CHECK(differing_bytes(&f, got) == 1, "one byte was changed");
    free(got.pixels);
    fixtures_close(&f);
}

int main(void) {
    test_fixtures();
    test_comparison();
    return tests_finish();
}
