// data/resample.h against Pillow 12.3, bit for bit, in small images value by value and in large ones by checksum.
// The numbers below were printed by:
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

int main(void) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) { test_case(&cases[i]); }
    test_identity_and_strides();
    return tests_finish();
}
