// Operations on images, RandAugment's strings and levels, boxes, mixing of bytes and repeated augmentation against
// Pillow, timm and torchvision, value by value: dev/test/augment_fixtures.txt.
#include "../../data/repeated.h"
#include "augment_cases.h"

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

// ---- the file ----

static const struct {
    const char* kind;
    void (*check)(const Fixtures*);
} records[] = {
    {"luma", check_colours}, {"hsv", check_colours}, {"rgb", check_colours}, {"parse", check_parse},
    {"operations", check_operations}, {"magnitude", check_magnitude}, {"level", check_level}, {"crop", check_box},
    {"erase", check_box}, {"fallback", check_box}, {"cutmix", check_cutmix}, {"evaluate", check_evaluate},
    {"target", check_target}, {"repeat", check_repeat},
};

static bool check_record(const Fixtures* f) {
    for (size_t i = 0; i < sizeof records / sizeof *records; i++) {
        if (strcmp(records[i].kind, f->word[0]) == 0) { records[i].check(f); return true; }
    }
    return false;
}

static void normalise_levels(float* x, const uint8_t* levels, size_t count, double mean, double std) {
    for (size_t i = 0; i < count; i++) { x[i] = normalised_level(levels[i], mean, std); }
}

static const Maker cpu = {apply_guarded, mix_bytes, normalise_levels, erase_boxes};
static const char* const path = "dev/test/augment_fixtures.txt";

// The comparison sees one wrong byte.
static void test_comparison(void) {
    Fixtures f;
    Case k;
    fixtures_open(&f, path);
    while (fixtures_next(&f) && strcmp(f.word[0], "case") != 0) { }
    read_case(&k, &f);
    RgbImage got = case_result(&cpu, &k, "", 0, 0);
    got.pixels[plane_bytes(got)] ^= 1;
    CHECK(differing_bytes(&f, got) == 1, "one byte was changed");
    free(got.pixels);
    fixtures_close(&f);
}

int main(void) {
    check_fixtures(&cpu, path, check_record);
    test_comparison();
    return tests_finish();
}
