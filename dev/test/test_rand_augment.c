// What is drawn for RandAugment, colour jitter and random erasing, strings that are refused, and what the fixtures do
// not reach of operations on images (test_augment_fixtures.c): odd sizes, shortcuts, rounding.
#include "../../data/color_jitter.h"
#include "../../data/mix_bytes.h"
#include "../../data/random_erasing.h"
#include "augment_fixtures.h"

static void test_refusals(void) {
    static const char* const refused[] = {
        "", "original", "3a", "augmix-m3-w3", "randm9", "rand-", "rand--m9", "rand-m", "rand-m9-", "rand-m9.5",
        "rand-x5", "rand-9", "rand-mstd.5.5", "rand-mstd-1", "rand-p1.5", "rand-n0", "rand-n9", "rand-m1e3",
        "rand-minf", "rand-t3a", "rand-inc2", "rand-m99999999999", "rand-p0x1",
        "rand-m00000000000000000000000000000000000000000000000000000000000000009"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        RandAugment r;
        Error err = {""};
        CHECK(!rand_augment_parse(&r, refused[i], &err), "\"%s\" was taken for a policy", refused[i]);
        CHECK(strstr(err.text, refused[i]) && strlen(err.text) > strlen(refused[i]) + 30, "\"%s\": %s", refused[i],
              err.text);
    }
}

#ifdef REDUCED
enum { KEYS = 4000 };
#else
enum { KEYS = 40000 };
#endif

// count of KEYS is as likely as p: within five standard deviations
static void check_share(double count, double of, double p, const char* what) {
    CHECK_NEAR(count / of, p, 5 * sqrt(p * (1 - p) / of) + 1e-9, what);
}

static RandAugment policy(const char* text) {
    RandAugment r;
    Error err;
    if (!rand_augment_parse(&r, text, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    return r;
}

static OperationList drawn(const char* text, int image, GeometryFilter filter) {
    RandAugment r = policy(text);
    OperationList list = {0};
    draw_rand_augment(&list, &r, (ImageKey){3, (uint64_t)image, 7}, filter);
    return list;
}

static void test_policy_draws(void) {
    int of_length[3] = {0}, of_kind[RAND_OPERATION_KINDS] = {0}, bicubic = 0, negative = 0, rotations = 0, clipped = 0;
    int beyond = 0;
    for (int i = 0; i < KEYS; i++) {
        OperationList list = drawn("rand-m9-mstd0.5-inc1", i, GEOMETRY_RANDOM);
        of_length[list.count]++;
        for (int k = 0; k < list.count; k++) {
            ImageOperation op = list.operation[k];
            of_kind[op.kind]++;
            bicubic += op.filter == AFFINE_BICUBIC;
            if (op.kind != OPERATION_ROTATE) { continue; }
            rotations++;
            negative += op.argument < 0;
            clipped += fabs(op.argument) == 30;
            beyond += !(fabs(op.argument) > 18 && fabs(op.argument) <= 30);
        }
    }
    CHECK(beyond == 0, "%d rotations by less than magnitude 6 or more than 10", beyond);
    int all = of_length[1] + 2 * of_length[2];
    for (int i = 0; i < 3; i++) { check_share(of_length[i], KEYS, i == 1 ? 0.5 : 0.25, "images with i operations"); }
    for (int i = 0; i < RAND_OPERATION_KINDS; i++) { check_share(of_kind[i], all, 1 / 15.0, set_names[1][i]); }
    check_share(bicubic, all, 0.5, "bicubic interpolation");
    check_share(negative, rotations, 0.5, "rotations to the right");
    check_share(clipped, rotations, 0.02275, "magnitudes beyond 10");
}

static void test_other_draws(void) {
    double sum = 0, least = 99, most = 0;
    int rotations = 0, others = 0, posterized = 0, black = 0;
    for (int i = 0; i < KEYS; i++) {
        OperationList list = drawn("rand-m15-n2-mstd1.0-inc1-p1", i, GEOMETRY_NEAREST);
        others += list.count != 2;
        for (int k = 0; k < list.count; k++) {
            posterized += list.operation[k].kind == OPERATION_POSTERIZE;
            black += list.operation[k].kind == OPERATION_POSTERIZE && list.operation[k].argument == 0;
            others += list.operation[k].filter != AFFINE_NEAREST;
        }
        ImageOperation op = drawn("rand-m8-n1-mstd101-p1", i, GEOMETRY_BICUBIC).operation[0];
        if (op.kind == OPERATION_ROTATE) {
            rotations++;
            sum += fabs(op.argument);
            least = fmin(least, fabs(op.argument));
            most = fmax(most, fabs(op.argument));
        }
    }
    CHECK(others == 0, "with probability 1 there are two operations, with the filter that was given");
    CHECK(posterized > 0 && posterized == black, "Posterize keeps no bit: %d of %d", black, posterized);
    CHECK_NEAR(sum / rotations, 12, 5 * 24 / sqrt(12.0 * rotations), "mean of uniform magnitudes");
    CHECK(least < 1 && most > 23 && most <= 24, "uniform magnitudes up to 8: %g to %g degrees", least, most);
}

static OperationList jittered(const ColorJitter* j, int image) {
    OperationList list = {0};
    draw_color_jitter(&list, j, (ImageKey){3, (uint64_t)image, 7});
    return list;
}

static void test_jitter(void) {
    ColorJitter j = {1.5f, 0.4f, 0.4f, 0.1f, 1, 0.25f}, off = {0.4f, 0.4f, 0.4f, 0.1f, 0, 0};
    ColorJitter three = {0.4f, 0.4f, 0.4f, 0, 1, 0};
    int of_order[256] = {0}, orders = 0, grey = 0, beyond = 0;
    for (int i = 0; i < KEYS; i++) {
        static const double low[] = {-0.1001, 0.5999, 0.5999, 0}, high[] = {0.1001, 1.4001, 1.4001, 2.5};
        static const ImageOperationKind kinds[] = {OPERATION_HUE, OPERATION_CONTRAST, OPERATION_COLOR,
                                                   OPERATION_BRIGHTNESS};
        OperationList list = jittered(&j, i);
        int order = 0;
        for (int k = 0; k < 4; k++) {
            ImageOperation op = list.operation[k];
            int which = 0;
            while (kinds[which] != op.kind) { which++; }
            order = 4 * order + which;
            beyond += !(op.argument >= low[which] && op.argument <= high[which]);
        }
        of_order[order]++;
        grey += list.count == 5 && list.operation[4].kind == OPERATION_COLOR && list.operation[4].argument == 0;
    }
    CHECK(jittered(&off, 1).count == 0, "probability 0 leaves the image alone");
    CHECK(jittered(&three, 1).count == 3, "without hue there are three");
    CHECK(beyond == 0, "%d factors are out of range", beyond);
    for (int i = 0; i < 256; i++) {
        if (of_order[i]) { orders++; check_share(of_order[i], KEYS, 1 / 24.0, "an order of the four"); }
    }
    CHECK(orders == 24, "%d orders of the four", orders);
    check_share(grey, KEYS, 0.25, "grey scale");
}

static void test_grey_scale(void) {
    RgbImage image = made_image("noise", 9, 7, 5), before = copy_image(image);
    OperationList list = {1, {{OPERATION_COLOR, AFFINE_NEAREST, 0}}};
    apply_guarded(image, &list, (uint8_t[3]){0});
    for (int i = 0; i < 63; i++) {
        int grey = luma(before.pixels[i], before.pixels[63 + i], before.pixels[126 + i]);
        CHECK(image.pixels[i] == grey && image.pixels[63 + i] == grey && image.pixels[126 + i] == grey, "pixel %d", i);
    }
    free(image.pixels);
    free(before.pixels);
}

static void test_erasures(void) {
    enum { H = 20, W = 31 };
    RandomErasing e = {0.25f, 3, ERASE_PIXEL};
    int of_count[MAX_ERASED_BOXES + 1] = {0}, beyond = 0;
    for (int i = 0; i < KEYS; i++) {
        Erasures drawn = draw_erasures(&e, (ImageKey){3, (uint64_t)i, 7}, H, W);
        of_count[drawn.count]++;
        for (int k = 0; k < drawn.count; k++) {
            Crop b = drawn.box[k];
            beyond += !(b.top >= 0 && b.height < H && b.top + b.height <= H);
            beyond += !(b.left >= 0 && b.width < W && b.left + b.width <= W);
        }
    }
    CHECK(beyond == 0, "%d boxes leave the image", beyond);
    check_share(of_count[0], KEYS, 0.75, "images that keep everything");
    for (int i = 1; i <= 3; i++) { check_share(of_count[i], KEYS, 0.25 / 3, "images that lose so many boxes"); }
    e.probability = 1;
    Erasures single = draw_erasures(&e, (ImageKey){3, 0, 7}, 1, 1);
    for (int k = 0; k < single.count; k++) {
        CHECK(single.box[k].height * single.box[k].width == 0, "one pixel has no smaller box");
    }
}

// Only what is in the boxes changes, to the content of the mode
static void test_erased_content(void) {
    enum { H = 20, W = 31, VALUES = 3 * H * W };
    for (EraseMode mode = ERASE_CONST; mode <= ERASE_PIXEL; mode++) {
        Erasures e = {2, {{2, 3, 9, 11}, {8, 20, 12, 10}}, mode, 12345};
        float x[VALUES];
        double sum = 0, squares = 0;
        int count = 0, changes = 0, wrong = 0;
        for (int i = 0; i < VALUES; i++) { x[i] = 77; }
        erase_boxes(x, H, W, &e);
        for (int i = 0; i < VALUES; i++) {
            int row = i / W % H, column = i % W;
            bool in_first = row >= 2 && row < 11 && column >= 3 && column < 14;
            bool in_second = row >= 8 && column >= 20 && column < 30;
            wrong += (x[i] == 77) == (in_first || in_second);
            if (!in_first) { continue; }
            count++;
            sum += x[i];
            squares += x[i] * x[i];
            changes += column > 3 && x[i] != x[i - 1];
        }
        CHECK(wrong == 0, "mode %d: %d values are wrongly erased or kept", (int)mode, wrong);
        CHECK(mode == ERASE_PIXEL ? changes == count - 27 : changes == 0, "mode %d: %d changes", (int)mode, changes);
        CHECK(mode == ERASE_CONST ? squares == 0 : squares > 0, "mode %d: Σ x² = %g", (int)mode, squares);
        if (mode == ERASE_PIXEL) { CHECK_NEAR(sum / count, 0, 5 / sqrt(count), "mean of the noise"); }
    }
}

// Every operation on small and odd images, with arguments beyond what is drawn: no byte beyond the image is touched.
static void test_sizes(void) {
    static const int sizes[][2] = {{1, 1}, {1, 40}, {40, 1}, {2, 2}, {3, 33}, {33, 3}, {31, 64}, {32, 32}, {5, 65}};
    static const double arguments[] = {0, 1, -1, 90, 180, 270, 0.4999, 1e6, -1e6};
    for (int kind = 0; kind < IMAGE_OPERATION_KINDS; kind++) {
        for (int i = 0; i < 9 * 9 * 3; i++) {
            const int* size = sizes[i / 27];
            double argument = kind == OPERATION_HUE ? 0.5 / (1 + i % 9) : arguments[i % 9];
            OperationList list = {1, {{(ImageOperationKind)kind, (AffineFilter)(i / 9 % 3), argument}}};
            RgbImage image = made_image("noise", size[0], size[1], 9);
            apply_guarded(image, &list, (uint8_t[3]){1, 2, 3});
            free(image.pixels);
        }
    }
}

// Leaving out the pass that changes nothing changes nothing.
static void test_shortcuts(void) {
    enum { H = 41, W = 70 };
    static const uint8_t fill[3] = {124, 116, 104};
    RgbImage image = made_image("noise", H, W, 4), shorter = copy_image(image), whole = copy_image(image);
    uint32_t* memory = malloc(affine_scratch(H, W));
    FramedImage in = frame_image(image, memory);
    for (int i = 0; i < 40; i++) {
        double amount = (i - 20) * 0.0171 + (i % 5 == 0 ? 0.25 : 0);
        AffineMap maps[] = {shear_x_map(amount), shear_y_map(amount), translate_x_map(amount, W),
                            translate_y_map(amount, H)};
        const AffineMap* map = &maps[i % 4];
        AffineFilter filter = i / 4 % 2 ? AFFINE_BICUBIC : AFFINE_BILINEAR;
        transform_smoothly(shorter, &in, map, filter, fill);
        for (int y = 0; y < H; y++) {
            for (int left = 0; left < W; left += AFFINE_STRIP) {
                StripPlaces places;
                strip_places(&places, &in, map, left, y);
                (filter == AFFINE_BICUBIC ? bicubic_both : bilinear_both)(whole, &in, &places, left, y, fill);
            }
        }
        CHECK(memcmp(shorter.pixels, whole.pixels, 3 * H * W) == 0, "map %d by %g", i % 4, amount);
    }
    free(memory);
    free(image.pixels); free(shorter.pixels); free(whole.pixels);
}

static void test_turns(void) {
    RgbImage image = made_image("noise", 7, 7, 4), before = copy_image(image);
    OperationList turns = {4, {{OPERATION_ROTATE, AFFINE_BILINEAR, 90}, {OPERATION_ROTATE, AFFINE_BILINEAR, 90},
                               {OPERATION_ROTATE, AFFINE_BILINEAR, -90}, {OPERATION_ROTATE, AFFINE_BILINEAR, 270}}};
    apply_guarded(image, &turns, (uint8_t[3]){0});
    CHECK(memcmp(image.pixels, before.pixels, 3 * 49) == 0, "two turns to the left, two to the right");
    flip_vertically(image);
    CHECK(memcmp(image.pixels, before.pixels + 42, 7) == 0, "the last row comes first");
    flip_horizontally(image);
    turns.count = 2;
    apply_guarded(image, &turns, (uint8_t[3]){0});
    CHECK(memcmp(image.pixels, before.pixels, 3 * 49) == 0, "both flips are half a turn");
    free(image.pixels);
    free(before.pixels);
}

static void test_rounding(void) {
    int wrong = 0;
    for (int S = 0; S <= 13 * 255; S++) { wrong += thirteenth(S) != (2 * S + 13) / 26; }
    CHECK(wrong == 0, "%d sums are divided by 13 otherwise", wrong);
    for (int i = 0; i < 256 * 256 * 2; i++) {
        MixShares s = shares_of_batch(i % 2 ? 0.5 : 0.30000001);
        uint8_t a = (uint8_t)(i >> 9), b = (uint8_t)(i >> 1), x = a, y = b;
        volatile float own = s.own * a, other = s.other * b; // rounded
        mix_bytes(&x, &y, 1, s);
        wrong += x != nearbyintf(own + other);
    }
    CHECK(wrong == 0, "%d pairs of bytes are mixed otherwise", wrong);
}

int main(void) {
    test_refusals();
    test_policy_draws();
    test_other_draws();
    test_jitter();
    test_grey_scale();
    test_erasures();
    test_erased_content();
    test_sizes();
    test_shortcuts();
    test_turns();
    test_rounding();
    return tests_finish();
}
