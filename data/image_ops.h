// Operations on the levels of an image, byte for byte as Pillow has them (ImageOps, ImageEnhance) and timm and
// torchvision use them.
//
// Tables, one for each channel: out = T[in]
//     autocontrast  lo, hi the least and greatest level there is; T[i] = clip(trunc(i s + o)), s = 255 / (hi - lo),
//                   o = -lo s, in double precision; hi <= lo: nothing changes
//     equalize      h_i pixels of level i, h_last those of the greatest that there is, step = (pixels - h_last) / 255
//                   rounded down; T[i] = min(255, (step / 2 + Σ_{j<i} h_j) / step); step 0: nothing changes
//     invert        255 - i
//     posterize     the `bits` upper bits of i; 0: black
//     solarize      i below the threshold, else 255 - i
//     solarize_add  min(255, i + addend) below 128, else i
//
// Blends with a degenerate image D, in float precision: out = trunc(clip(D + f (x - D)))
//     brightness    D = 0
//     contrast      D = the rounded mean of the image's luma
//     color         D = the pixel's luma
//     sharpness     D = the image smoothed by (1 1 1; 1 5 1; 1 1 1) / 13, but for its outermost pixels, which stay
//
// Hue goes through Pillow's HSV of bytes, with all its rounding: levels of 0..255 for a circle of 256 steps.
#pragma once
#include "../runtime/rounding.h"
#include "rgb_image.h"
#include <math.h>
#include <stdbool.h>

enum { LEVELS = 256 };

// ---- tables ----

typedef struct { uint8_t level[LEVELS]; } LevelTable;

static inline void apply_table(uint8_t* levels, size_t count, const LevelTable* table) {
    for (size_t i = 0; i < count; i++) { levels[i] = table->level[levels[i]]; }
}

static inline LevelTable identity_table(void) {
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) { t.level[i] = (uint8_t)i; }
    return t;
}

static inline LevelTable autocontrast_table(const uint8_t* levels, size_t count) {
    uint8_t low = 255, high = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t level = levels[i];
        low = level < low ? level : low;
        high = level > high ? level : high;
    }
    if (high <= low) { return identity_table(); }
    const double one = unknown_one(), scale = 255.0 / (high - low), offset = -low * scale;
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) {
        int level = (int)(i * scale * one + offset);
        t.level[i] = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
    }
    return t;
}

// Equal levels often follow each other: neighbours count in different rows, that they need not wait for each other.
static inline void count_levels(uint32_t total[LEVELS], const uint8_t* levels, size_t count) {
    enum { ROWS = 4 };
    uint32_t rows[ROWS][LEVELS] = {{0}};
    size_t i = 0;
    for (; i + ROWS <= count; i += ROWS) {
        for (int r = 0; r < ROWS; r++) { rows[r][levels[i + r]]++; }
    }
    for (; i < count; i++) { rows[0][levels[i]]++; }
    for (int k = 0; k < LEVELS; k++) { total[k] = rows[0][k] + rows[1][k] + rows[2][k] + rows[3][k]; }
}

static inline LevelTable equalize_table(const uint8_t* levels, size_t count) {
    uint32_t histogram[LEVELS];
    count_levels(histogram, levels, count);
    int last = LEVELS - 1;
    while (last > 0 && histogram[last] == 0) { last--; }
    size_t step = (count - histogram[last]) / 255;
    if (step == 0) { return identity_table(); }
    LevelTable t;
    size_t sum = step / 2;
    for (int i = 0; i < LEVELS; sum += histogram[i++]) { t.level[i] = (uint8_t)(sum / step < 255 ? sum / step : 255); }
    return t;
}

static inline LevelTable invert_table(void) {
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) { t.level[i] = (uint8_t)(255 - i); }
    return t;
}

static inline LevelTable posterize_table(int bits) {
    LevelTable t;
    int mask = bits <= 0 ? 0 : bits >= 8 ? 255 : 256 - (1 << (8 - bits));
    for (int i = 0; i < LEVELS; i++) { t.level[i] = (uint8_t)(i & mask); }
    return t;
}

static inline LevelTable solarize_table(int threshold) {
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) { t.level[i] = (uint8_t)(i < threshold ? i : 255 - i); }
    return t;
}

static inline LevelTable solarize_add_table(int addend) {
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) { t.level[i] = (uint8_t)(i >= 128 ? i : i + addend < 255 ? i + addend : 255); }
    return t;
}

// ---- blends ----

ALWAYS_INLINE uint8_t blend_level(float degenerate, float x, float factor, float one) {
    float v = degenerate + factor * (x - degenerate) * one;
    return (uint8_t)(int)(v <= 0 ? 0 : v >= 255 ? 255 : v);
}

static inline LevelTable blend_table(int degenerate, float factor) {
    const float one = (float)unknown_one();
    LevelTable t;
    for (int i = 0; i < LEVELS; i++) { t.level[i] = blend_level((float)degenerate, (float)i, factor, one); }
    return t;
}

static inline int mean_luma(RgbImage image) { // rounded
    const uint8_t *red = image_plane(image, 0), *green = image_plane(image, 1), *blue = image_plane(image, 2);
    const size_t pixels = plane_bytes(image);
    uint64_t sum = 0;
    for (size_t i = 0; i < pixels; i++) { sum += (uint32_t)luma(red[i], green[i], blue[i]); }
    return (int)((double)sum / (double)pixels + 0.5);
}

static inline void blend_with_luma(RgbImage image, float factor) {
    const float one = (float)unknown_one();
    uint8_t *__restrict red = image_plane(image, 0), *__restrict green = image_plane(image, 1);
    uint8_t* __restrict blue = image_plane(image, 2);
    const size_t pixels = plane_bytes(image);
    for (size_t i = 0; i < pixels; i++) {
        float grey = (float)luma(red[i], green[i], blue[i]);
        red[i] = blend_level(grey, red[i], factor, one);
        green[i] = blend_level(grey, green[i], factor, one);
        blue[i] = blend_level(grey, blue[i], factor, one);
    }
}

// (2 S + 13) / 26 rounded down, S <= 13 * 255: the mean of 13, which is never near a tie, rounded
ALWAYS_INLINE int thirteenth(int S) { return (int)((uint32_t)(2 * S + 13) * 10083u >> 18); }

// out (W) of the three rows around it, all of their old levels; its ends stay as they are
NEVER_INLINE void sharpen_row(uint8_t* __restrict out, const uint8_t* __restrict above, const uint8_t* __restrict row,
                              const uint8_t* __restrict below, int W, float factor) {
    const float one = (float)unknown_one();
    for (int x = 1; x < W - 1; x++) {
        int S = above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1] + below[x - 1] + below[x]
              + below[x + 1];
        out[x] = blend_level((float)thirteenth(S), row[x], factor, one);
    }
}

// copy: plane_bytes
static inline void blend_with_smoothed(RgbImage image, float factor, uint8_t* copy) {
    const int W = image.width;
    for (int c = 0; c < 3; c++) {
        uint8_t* plane = image_plane(image, c);
        memcpy(copy, plane, plane_bytes(image));
        for (int y = 1; y < image.height - 1; y++) {
            const uint8_t* row = copy + (size_t)y * W;
            sharpen_row(plane + (size_t)y * W, row - W, row, row + W, W, factor);
        }
    }
}

// ---- hue ----

typedef struct { uint8_t a, b, c; } Colour; // red, green, blue, or hue, saturation, value

static inline uint8_t clip_byte(double x) { return (uint8_t)(x <= 0 ? 0 : x >= 255 ? 255 : (int)x); }

static inline Colour hsv_of(Colour rgb) {
    int high = rgb.a > rgb.b ? rgb.a : rgb.b, low = rgb.a < rgb.b ? rgb.a : rgb.b;
    high = rgb.c > high ? rgb.c : high;
    low = rgb.c < low ? rgb.c : low;
    if (low == high) { return (Colour){0, 0, (uint8_t)high}; }
    float range = (float)(high - low), saturation = range / (float)high;
    float red = (float)(high - rgb.a) / range, green = (float)(high - rgb.b) / range;
    float blue = (float)(high - rgb.c) / range;
    float hue = rgb.a == high ? blue - green
              : rgb.b == high ? (float)(2.0 + red - blue) : (float)(4.0 + green - red);
    double circles = hue / 6.0 + 1.0;
    hue = (float)(circles - floor(circles));
    return (Colour){clip_byte(hue * 255.0), clip_byte(saturation * 255.0), (uint8_t)high};
}

static inline Colour rgb_of(Colour hsv) {
    const double one = unknown_one();
    if (hsv.b == 0) { return (Colour){hsv.c, hsv.c, hsv.c}; }
    int sixth = (int)(hsv.a * 6.0 / 255.0);
    float f = (float)(hsv.a * 6.0 / 255.0 - sixth), saturation = (float)(hsv.b / 255.0);
    float product = saturation * f;
    uint8_t v = hsv.c, p = clip_byte(round(v * (1.0 - saturation))), q = clip_byte(round(v * (1.0 - product)));
    uint8_t t = clip_byte(round(v * (1.0 - saturation * (1.0 - f) * one)));
    switch (sixth % 6) {
        case 0: return (Colour){v, t, p};
        case 1: return (Colour){q, v, p};
        case 2: return (Colour){p, v, t};
        case 3: return (Colour){p, q, v};
        case 4: return (Colour){t, p, v};
        default: return (Colour){v, p, q};
    }
}

// factor: of the whole circle, -½..½
static inline void shift_hue(RgbImage image, double factor) {
    uint8_t *red = image_plane(image, 0), *green = image_plane(image, 1), *blue = image_plane(image, 2);
    uint8_t shift = (uint8_t)(int)(factor * 255);
    for (size_t i = 0; i < plane_bytes(image); i++) {
        Colour hsv = hsv_of((Colour){red[i], green[i], blue[i]});
        hsv.a = (uint8_t)(hsv.a + shift);
        Colour rgb = rgb_of(hsv);
        red[i] = rgb.a;
        green[i] = rgb.b;
        blue[i] = rgb.c;
    }
}
