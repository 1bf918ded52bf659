// data/resample.h against Pillow 12.3, bit for bit, in small images value by value and in large ones by checksum; then
// against a plain form of it in every kind of size, and its parts against the whole.
// The numbers of the cases were printed by:
//
//   import numpy as np
//   from PIL import Image
//   def image(h, w):
//       y, x = np.mgrid[:h, :w]
//       return Image.fromarray(((y*37 + x*x*11 + x*y*5) % 256).astype(np.uint8))
//   def resized(h, w, oh, ow, filter, *box):
//       return np.asarray(image(h, w).resize((ow, oh), filter, box or None)).reshape(-1).tolist()
//   def checksum(v):
//       h = 0xCBF29CE484222325
//       for i in range(0, len(v), 8):
//           h = (h ^ int.from_bytes(bytes(v[i:i+8]), 'little')) * 0x100000001B3 % 2**64
//           h ^= h >> 32
//       return h
#include "../../data/dataset.h"
#include "../../data/resample.h"
#include "../../runtime/random.h"
#include "test.h"

typedef struct {
    int height, width, out_height, out_width;
    ResampleFilter filter;
    Box box;                // right == 0: the whole image
    uint64_t checksum;
    const uint8_t* values;  // or all of them
} Case;

#define VALUES(...) .values = (const uint8_t[]){__VA_ARGS__}
#define L FILTER_BILINEAR
#define C FILTER_BICUBIC

static const Case cases[] = {
    {5, 7, 3, 4, L, VALUES(24, 73, 147, 117, 86, 148, 133, 105, 148, 181, 122, 111)},
    {5, 7, 3, 4, C, VALUES(16, 71, 151, 115, 80, 156, 140, 104, 150, 188, 118, 108)},
    {5, 7, 4, 9, C,
        VALUES(5, 10, 29, 60, 106, 194, 97, 59, 169, 49, 59, 83, 121, 170, 162, 122, 109, 133, 97, 111, 139, 188, 244,
               81, 132, 154, 39, 142, 160, 205, 205, 92, 135, 86, 74, 147)},
    {5, 7, 5, 3, C, VALUES(8, 99, 98, 49, 151, 162, 98, 140, 72, 139, 192, 136, 180, 126, 86)},
    {5, 7, 8, 7, L,
        VALUES(0, 11, 44, 99, 176, 19, 140, 16, 29, 65, 122, 201, 46, 169, 39, 56, 94, 154, 221, 85, 195, 62, 82, 123,
               187, 96, 124, 77, 86, 108, 153, 219, 52, 162, 39, 109, 134, 182, 252, 87, 201, 81, 132, 161, 211, 140,
               123, 96, 123, 148, 179, 232, 51, 148, 11, 152)},
    {5, 7, 3, 5, L, {1.25f, 0.5f, 6.75f, 4},
        VALUES(47, 95, 168, 118, 137, 96, 150, 142, 112, 93, 148, 202, 159, 141, 112)},
    {5, 7, 6, 7, C, {2, 0, 5, 5},
        VALUES(30, 49, 71, 97, 141, 175, 138, 65, 84, 107, 136, 190, 233, 196, 104, 127, 162, 181, 157, 119, 109, 141,
               170, 221, 238, 154, 53, 64, 186, 204, 217, 213, 167, 115, 116, 235, 217, 117, 43, 81, 146, 118)},
    {32, 32, 224, 224, C, .checksum = 0x85CB025AAE779B80u},
    {32, 32, 224, 224, L, .checksum = 0x1C55BE842A765388u},
    {32, 32, 248, 248, C, .checksum = 0xF2F916D47AF61F06u},
    {224, 224, 32, 32, C, .checksum = 0x6A54DEAA75B2F9A9u},
    {224, 199, 37, 61, L, .checksum = 0xFEFC8313C44522FAu},
    {28, 28, 32, 32, C, .checksum = 0x8C565E845D7F1B95u},
    {100, 60, 50, 70, C, {3, 10, 57, 61.5f}, .checksum = 0x1136E9EB9325EC5Au},
};

// Channel 0 is the image of the script; the others are shifted by 85, to show that channels stay apart.
static void make_image(uint8_t* pixels, int channels, int height, int width) {
    for (int c = 0; c < channels; c++) {
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                pixels[(c * height + y) * width + x] = (uint8_t)(y * 37 + x * x * 11 + x * y * 5 + 85 * c);
            }
        }
    }
}

// out, and a byte behind each buffer that nobody may touch
static uint8_t* resized(const uint8_t* pixels, int channels, const Case* k) {
    size_t out_bytes = (size_t)channels * k->out_height * k->out_width;
    size_t scratch_bytes = resample_scratch(k->height, k->width, k->out_height, k->out_width);
    uint8_t* out = malloc(out_bytes + 1);
    uint8_t* scratch = malloc(scratch_bytes + 1);
    out[out_bytes] = scratch[scratch_bytes] = 0xA5;
    ImageView in = view_of(pixels, channels, k->height, k->width);
    resample(out, in, k->box.right > 0 ? k->box : view_box(in), k->out_height, k->out_width, k->filter, scratch);
    CHECK(out[out_bytes] == 0xA5 && scratch[scratch_bytes] == 0xA5, "%dx%d to %dx%d wrote beyond its memory", k->height,
          k->width, k->out_height, k->out_width);
    free(scratch);
    return out;
}

static void test_case(const Case* k) {
    size_t pixels = (size_t)k->out_height * k->out_width;
    uint8_t* in = malloc((size_t)3 * k->height * k->width);
    make_image(in, 3, k->height, k->width);
    uint8_t* out = resized(in, 3, k);
    if (k->values) {
        CHECK(memcmp(out, k->values, pixels) == 0, "%dx%d to %dx%d differs from Pillow", k->height, k->width,
              k->out_height, k->out_width);
    } else {
        CHECK(dataset_checksum(out, pixels) == k->checksum, "%dx%d to %dx%d differs from Pillow: checksum 0x%016llX",
              k->height, k->width, k->out_height, k->out_width, (unsigned long long)dataset_checksum(out, pixels));
    }
    for (int c = 1; c < 3; c++) {
        uint8_t* alone = resized(in + (size_t)c * k->height * k->width, 1, k);
        CHECK(memcmp(alone, out + c * pixels, pixels) == 0, "channel %d differs from the same image in grey", c);
        free(alone);
    }
    free(in);
    free(out);
}

// The same size and the whole box: every byte as it was. A crop with strides: as if it were an image of its own.
static void test_identity_and_strides(void) {
    uint8_t in[3 * 20 * 24], small[3 * 9 * 11];
    make_image(in, 3, 20, 24);
    Case same = {20, 24, 20, 24, C, .checksum = 0};
    uint8_t* out = resized(in, 3, &same);
    CHECK(memcmp(out, in, sizeof in) == 0, "resizing to the same size changed the image");
    free(out);

    ImageView crop = view_crop(view_of(in, 3, 20, 24), 5, 7, 9, 11);
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < 9; y++) { memcpy(small + (c * 9 + y) * 11, in + (c * 20 + y + 5) * 24 + 7, 11); }
    }
    Case k = {9, 11, 16, 13, C, .checksum = 0};
    uint8_t* want = resized(small, 3, &k);
    uint8_t got[3 * 16 * 13];
    void* scratch = malloc(resample_scratch(9, 11, 16, 13));
    resample(got, crop, view_box(crop), 16, 13, C, scratch);
    CHECK(memcmp(got, want, sizeof got) == 0, "a crop by strides differs from a copied crop");
    free(scratch);
    free(want);
}

// ---- the plain form: one value at a time, and doubles that no compiler contracts or keeps in wider registers

#define MAX_TAPS 4200

static double plain_filter(ResampleFilter filter, double x) {
    volatile double y = fabs(x), p;
    if (filter == FILTER_BILINEAR) { return y < 1 ? 1 - y : 0; }
    if (y < 1) {
        p = 1.5 * y;
        p = p - 2.5;
        p = p * y;
        p = p * y;
        return p + 1;
    }
    p = (y - 5) * y;
    p = p + 8;
    p = p * y;
    p = p - 4;
    return y < 2 ? p * -0.5 : 0;
}

// weights (taps) of output o; the first input
static int plain_weights(int* weights, int* taps, int in, float start, float end, int out, int o,
                         ResampleFilter filter) {
    static double values[MAX_TAPS];
    volatile double scale = (double)(end - start) / out, wide = scale < 1 ? 1 : scale, inverse = 1 / wide;
    volatile double support = (filter == FILTER_BILINEAR ? 1 : 2) * wide, centre = (o + 0.5) * scale, sum = 0;
    centre = start + centre;
    volatile double low = centre - support, high = centre + support;
    int first = (int)fmax(low + 0.5, 0), last = (int)fmin(high + 0.5, in);
    for (int i = first; i < last; i++) {
        volatile double x = i - centre;
        x = x + 0.5;
        x = x * inverse;
        sum = sum + (values[i - first] = plain_filter(filter, x));
    }
    *taps = last - first;
    for (int k = 0; k < *taps; k++) { weights[k] = (int)lround(values[k] / sum * (1 << WEIGHT_BITS)); }
    return first;
}

static uint8_t plain_sum(const uint8_t* in, int stride, const int* weights, int taps) {
    int64_t sum = 1 << (WEIGHT_BITS - 1);
    for (int k = 0; k < taps; k++) { sum += (int64_t)weights[k] * in[k * stride]; }
    return (uint8_t)(sum < 0 ? 0 : sum >> WEIGHT_BITS > 255 ? 255 : sum >> WEIGHT_BITS);
}

// out (out_height, out_width) from one plane
static void plain_resample(uint8_t* out, const uint8_t* in, const Case* k, Box box) {
    static int weights[MAX_TAPS];
    uint8_t* rows = malloc((size_t)k->height * k->out_width);
    int taps;
    for (int x = 0; x < k->out_width; x++) {
        int first = plain_weights(weights, &taps, k->width, box.left, box.right, k->out_width, x, k->filter);
        for (int y = 0; y < k->height; y++) {
            rows[y * k->out_width + x] = plain_sum(in + y * k->width + first, 1, weights, taps);
        }
    }
    for (int y = 0; y < k->out_height; y++) {
        int first = plain_weights(weights, &taps, k->height, box.top, box.bottom, k->out_height, y, k->filter);
        for (int x = 0; x < k->out_width; x++) {
            out[y * k->out_width + x] = plain_sum(rows + first * k->out_width + x, k->out_width, weights, taps);
        }
    }
    free(rows);
}

// ---- every kind of size

static int draw(int low, int high, int i) { // low .. high
    return low + (int)random_below((uint32_t)(high - low + 1), random_bits(7, STREAM_CHECK, 0, (uint64_t)i).word[0]);
}

static void make_noise(uint8_t* pixels, size_t count) { // also black and white beside each other: what bicubic clips
    for (size_t i = 0; i < count; i++) {
        uint32_t word = random_bits(3, STREAM_CHECK, 1, i).word[0];
        pixels[i] = word >> 30 == 0 ? 0 : word >> 30 == 1 ? 255 : (uint8_t)word;
    }
}

static Box box_of(const Case* k) {
    return k->box.right > 0 ? k->box : (Box){0, 0, (float)k->width, (float)k->height};
}

static void test_plain(const Case* k) {
    size_t in_pixels = (size_t)k->height * k->width, pixels = (size_t)k->out_height * k->out_width;
    uint8_t *in = malloc(3 * in_pixels), *want = malloc(pixels);
    make_noise(in, 3 * in_pixels);
    uint8_t* got = resized(in, 3, k);
    for (int c = 0; c < 3; c++) {
        plain_resample(want, in + c * in_pixels, k, box_of(k));
        CHECK(memcmp(got + c * pixels, want, pixels) == 0, "%dx%d to %dx%d, filter %d: differs from the plain form",
              k->height, k->width, k->out_height, k->out_width, (int)k->filter);
    }
    free(in);
    free(want);
    free(got);
}

// A part, from the whole image and from a copy of nothing but what the plan asks for, in memory that ends with it
static void test_part(const uint8_t* in, const uint8_t* whole, const Case* k, Crop part) {
    size_t pixels = (size_t)part.height * part.width;
    uint8_t *want = malloc(3 * pixels), *got = malloc(3 * pixels);
    void* scratch = malloc(resample_part_scratch(k->height, k->width, k->out_height, k->out_width, part));
    for (int i = 0; i < 3 * part.height; i++) {
        int c = i / part.height, y = part.top + i % part.height;
        memcpy(want + (size_t)i * part.width, whole + ((size_t)c * k->out_height + y) * k->out_width + part.left,
               (size_t)part.width);
    }
    resample_part(got, view_of(in, 3, k->height, k->width), box_of(k), k->out_height, k->out_width, part, k->filter,
                  scratch);
    CHECK(memcmp(got, want, 3 * pixels) == 0, "%dx%d at %d,%d of %dx%d to %dx%d differs from the whole", part.height,
          part.width, part.top, part.left, k->height, k->width, k->out_height, k->out_width);

    ResamplePlan plan = resample_plan(k->height, k->width, box_of(k), k->out_height, k->out_width, part, k->filter,
                                      scratch);
    Crop s = plan.source;
    CHECK(s.top >= 0 && s.left >= 0 && s.height > 0 && s.width > 0 && s.top + s.height <= k->height &&
          s.left + s.width <= k->width, "the source %dx%d at %d,%d leaves the image", s.height, s.width, s.top, s.left);
    uint8_t* source = malloc((size_t)3 * s.height * s.width);
    for (int i = 0; i < 3 * s.height; i++) {
        int c = i / s.height, y = s.top + i % s.height;
        memcpy(source + (size_t)i * s.width, in + ((size_t)c * k->height + y) * k->width + s.left, (size_t)s.width);
    }
    memset(got, 0, 3 * pixels);
    resample_planned(got, view_of(source, 3, s.height, s.width), &plan);
    CHECK(memcmp(got, want, 3 * pixels) == 0, "%dx%d at %d,%d of %dx%d to %dx%d is another from its source alone",
          part.height, part.width, part.top, part.left, k->height, k->width, k->out_height, k->out_width);
    free(source);
    free(scratch);
    free(want);
    free(got);
}

static void test_parts(const Case* k) {
    size_t bytes = (size_t)3 * k->height * k->width;
    uint8_t* in = malloc(bytes);
    make_noise(in, bytes);
    uint8_t* whole = resized(in, 3, k);
    int H = k->out_height, W = k->out_width;
    const Crop parts[] = {{0, 0, 1, 1}, {H - 1, W - 1, 1, 1}, {(H + 1) / 4, (W + 1) / 4, (H + 1) / 2, (W + 1) / 2}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) { test_part(in, whole, k, parts[i]); }
    for (int i = 0; i < 6; i++) {
        int height = draw(1, H, 4 * i), width = draw(1, W, 4 * i + 1);
        test_part(in, whole, k, (Crop){draw(0, H - height, 4 * i + 2), draw(0, W - width, 4 * i + 3), height, width});
    }
    free(in);
    free(whole);
}

// height, width, out_height, out_width: below, at and beyond a span; extreme shapes; great reductions and enlargements;
// one axis as it was
static const int sizes[][4] = {
    {1, 1, 1, 1}, {1, 1, 5, 130}, {1, 9, 3, 2}, {9, 1, 1, 64}, {2, 3, 64, 65}, {63, 64, 65, 63}, {64, 63, 64, 128},
    {65, 129, 31, 127}, {128, 65, 130, 17}, {500, 33, 97, 64}, {33, 500, 256, 70}, {1, 2000, 1, 2}, {300, 2, 1, 1},
    {97, 61, 97, 40}, {50, 70, 33, 70},
};

static const Case boxes[] = {
    {90, 80, 41, 37, L, {7.5f, 3.25f, 71, 88.75f}, .checksum = 0},
    {90, 80, 41, 37, L, {79, 0, 80, 1}, .checksum = 0},
    {70, 130, 150, 66, L, {0.125f, 69.5f, 129.5f, 70}, .checksum = 0},
};

static void test_size(Case k) {
    for (int filter = FILTER_BILINEAR; filter <= FILTER_BICUBIC; filter++) {
        k.filter = (ResampleFilter)filter;
        test_plain(&k);
        test_parts(&k);
    }
}

static void test_sizes(void) {
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int* s = sizes[i];
        test_size((Case){s[0], s[1], s[2], s[3], L, .checksum = 0});
    }
    for (size_t i = 0; i < sizeof boxes / sizeof boxes[0]; i++) { test_size(boxes[i]); }
}

// Of every length of box to the usual size: the processor's instructions must not round a weight to another integer.
static void test_weights(void) {
    int out = 224, step = 1, plain[64], taps;
#ifdef REDUCED
    step = 7;
#endif
    for (int in = 1; in <= 600; in += step) {
        for (int filter = FILTER_BILINEAR; filter <= FILTER_BICUBIC; filter++) {
            int* memory = malloc(axis_ints(in, out) * sizeof(int));
            AxisWeights a = axis_weights(memory, in, 0, (float)in, out, (ResampleFilter)filter);
            int o = 0;
            for (; o < out; o++) {
                int first = plain_weights(plain, &taps, in, 0, (float)in, out, o, (ResampleFilter)filter);
                const int* weights = a.weights + (size_t)o * a.stride;
                bool same = true; // an outermost weight of 0 may be there or not
                for (int i = first - 1; i <= first + taps; i++) {
                    int want = i >= first && i < first + taps ? plain[i - first] : 0, k = i - a.first[o];
                    same = same && want == (k >= 0 && k < a.taps[o] ? weights[k] : 0);
                }
                if (!same) { break; }
            }
            CHECK(o == out, "%d to %d, filter %d: output %d has other weights than the plain form", in, out, filter, o);
            free(memory);
        }
    }
}

int main(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) { test_case(&cases[i]); }
    test_identity_and_strides();
    test_sizes();
    test_weights();
    return tests_finish();
}
