// Operations on the levels of an image, byte for byte as Pillow implements them (ImageOps, ImageEnhance) and timm and
// torchvision use them.
//
// Tables, one for each channel: out = T[in]
//     AutoContrast  lo, hi the least and greatest level there is; T[i] = clip(trunc(i s + o)), s = 255 / (hi - lo),
//                   o = -lo s, in double precision; hi <= lo: nothing changes
//     Equalize      h_i pixels of level i, step = (pixels - h_hi) / 255 rounded down;
//                   T[i] = min(255, (step / 2 + Σ_{j<i} h_j) / step); step 0: nothing changes
//     Invert        255 - i
//     Posterize     the `bits` upper bits of i; 0: black
//     Solarize      i below the threshold, else 255 - i
//     SolarizeAdd   min(255, i + addend) below 128, else i
//
// Blends with a degenerate image D, in float precision: out = trunc(clip(D + f (x - D))); the first two are tables too
//     Brightness    D = 0
//     Contrast      D = the rounded mean of the image's luma
//     Color         D = the pixel's luma
//     Sharpness     D = the image smoothed by (1 1 1; 1 5 1; 1 1 1) / 13, but for its outermost pixels, which stay
//
// Hue goes through Pillow's HSV of bytes, with all its rounding: levels of 0..255 for a circle of 256 steps.
#pragma once
#include "../runtime/rounding.h"
#include "image_operation.h"
#include "rgb_image.h"
#include <math.h>
#include <stdbool.h>

enum { LEVELS = 256 };

HOST_DEVICE ALWAYS_INLINE int clip_level(double value) { return value <= 0 ? 0 : value >= 255 ? 255 : (int)value; }

HOST_DEVICE ALWAYS_INLINE int blend_level(float degenerate, float x, float factor, float one) {
    float v = degenerate + factor * (x - degenerate) * one;
    return (int)(v <= 0 ? 0 : v >= 255 ? 255 : v);
}

// ---- tables ----

// What a table is made from besides the operation
typedef struct {
    int low, high;   // AutoContrast: least and greatest level of the channel
    uint32_t step;   // Equalize
    int grey;        // Contrast: mean luma of the image
} LevelStatistics;

HOST_DEVICE static inline bool is_table(ImageOperationKind kind) {
    return kind <= OPERATION_BRIGHTNESS && kind != OPERATION_ROTATE && kind != OPERATION_COLOR;
}

HOST_DEVICE static inline bool needs_histogram(ImageOperationKind kind) { return kind <= OPERATION_EQUALIZE; }

HOST_DEVICE static inline LevelStatistics channel_statistics(const uint32_t histogram[LEVELS], uint32_t pixels) {
    int low = 0, high = LEVELS - 1;
    while (low < LEVELS - 1 && histogram[low] == 0) { low++; }
    while (high > 0 && histogram[high] == 0) { high--; }
    return (LevelStatistics){low, high, (pixels - histogram[high]) / 255, 0};
}

HOST_DEVICE static inline int autocontrast_level(int low, int high, int level, double one) {
    if (high <= low) { return level; }
    double scale = 255.0 / (high - low);
    return clip_level(level * scale * one + -low * scale * one);
}

HOST_DEVICE static inline int posterize_level(int level, int bits) {
    return bits <= 0 ? 0 : bits >= 8 ? level : level >> (8 - bits) << (8 - bits);
}

// T[level]; below: the number of pixels of lower levels, if there is a histogram
HOST_DEVICE static inline int table_level(ImageOperation op, LevelStatistics s, int level, uint32_t below, double one) {
    int argument = (int)op.argument;
    switch (op.kind) {
        case OPERATION_AUTO_CONTRAST: return autocontrast_level(s.low, s.high, level, one);
        case OPERATION_EQUALIZE: {
            uint32_t equal = s.step ? (s.step / 2 + below) / s.step : (uint32_t)level;
            return equal < 255 ? (int)equal : 255;
        }
        case OPERATION_INVERT: return 255 - level;
        case OPERATION_POSTERIZE: return posterize_level(level, argument);
        case OPERATION_SOLARIZE: return level < argument ? level : 255 - level;
        case OPERATION_SOLARIZE_ADD: return level >= 128 ? level : level + argument < 255 ? level + argument : 255;
        case OPERATION_CONTRAST: return blend_level((float)s.grey, (float)level, (float)op.argument, (float)one);
        default: return blend_level(0, (float)level, (float)op.argument, (float)one);
    }
}

// Equal levels often follow each other: neighbours count in different rows, so that they need not wait for each other.
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

HOST_DEVICE static inline int rounded_mean(uint64_t sum, size_t count) {
    return (int)((double)sum / (double)count + 0.5);
}

static inline int mean_luma(RgbImage image) {
    const uint8_t *red = image_plane(image, 0), *green = image_plane(image, 1), *blue = image_plane(image, 2);
    const size_t pixels = plane_bytes(image);
    uint64_t sum = 0;
    for (size_t i = 0; i < pixels; i++) { sum += (uint32_t)luma(red[i], green[i], blue[i]); }
    return rounded_mean(sum, pixels);
}

static inline void apply_table(uint8_t* levels, size_t count, ImageOperation op, int grey) {
    uint32_t histogram[LEVELS] = {0}, below = 0;
    LevelStatistics s = {0};
    uint8_t table[LEVELS];
    const double one = unknown_one();
    if (needs_histogram(op.kind)) {
        count_levels(histogram, levels, count);
        s = channel_statistics(histogram, (uint32_t)count);
    }
    s.grey = grey;
    for (int i = 0; i < LEVELS; below += histogram[i++]) { table[i] = (uint8_t)table_level(op, s, i, below, one); }
    for (size_t i = 0; i < count; i++) { levels[i] = table[levels[i]]; }
}

static inline void apply_tables(RgbImage image, ImageOperation op) {
    int grey = op.kind == OPERATION_CONTRAST ? mean_luma(image) : 0;
    for (int c = 0; c < 3; c++) { apply_table(image_plane(image, c), plane_bytes(image), op, grey); }
}

// ---- other blends ----

static inline void blend_with_luma(RgbImage image, float factor) {
    const float one = (float)unknown_one();
    uint8_t *__restrict red = image_plane(image, 0), *__restrict green = image_plane(image, 1);
    uint8_t* __restrict blue = image_plane(image, 2);
    const size_t pixels = plane_bytes(image);
    for (size_t i = 0; i < pixels; i++) {
        float grey = (float)luma(red[i], green[i], blue[i]);
        red[i] = (uint8_t)blend_level(grey, red[i], factor, one);
        green[i] = (uint8_t)blend_level(grey, green[i], factor, one);
        blue[i] = (uint8_t)blend_level(grey, blue[i], factor, one);
    }
}

// The mean of 13 levels from their sum S, (2 S + 13) / 26 rounded down: it is never near a tie.
HOST_DEVICE ALWAYS_INLINE int thirteenth(int S) { return (int)((uint32_t)(2 * S + 13) * 10083u >> 18); }

// Around column x of three rows
HOST_DEVICE ALWAYS_INLINE int smoothed_level(const uint8_t* above, const uint8_t* row, const uint8_t* below, int x) {
    return thirteenth(above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1]
                      + below[x - 1] + below[x] + below[x + 1]);
}

// out (W) of the three rows around it, all of their old levels; its ends stay as they are
NEVER_INLINE void sharpen_row(uint8_t* __restrict out, const uint8_t* __restrict above, const uint8_t* __restrict row,
                              const uint8_t* __restrict below, int W, float factor) {
    const float one = (float)unknown_one();
    for (int x = 1; x < W - 1; x++) {
        out[x] = (uint8_t)blend_level((float)smoothed_level(above, row, below, x), row[x], factor, one);
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

HOST_DEVICE static inline Colour hsv_of(Colour rgb) {
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
    return (Colour){(uint8_t)clip_level(hue * 255.0), (uint8_t)clip_level(saturation * 255.0), (uint8_t)high};
}

HOST_DEVICE static inline Colour rgb_of(Colour hsv, double one) {
    if (hsv.b == 0) { return (Colour){hsv.c, hsv.c, hsv.c}; }
    int sixth = (int)(hsv.a * 6.0 / 255.0);
    float f = (float)(hsv.a * 6.0 / 255.0 - sixth), saturation = (float)(hsv.b / 255.0);
    float product = saturation * f;
    uint8_t v = hsv.c, p = (uint8_t)clip_level(round(v * (1.0 - saturation)));
    uint8_t q = (uint8_t)clip_level(round(v * (1.0 - product)));
    uint8_t t = (uint8_t)clip_level(round(v * (1.0 - saturation * (1.0 - f) * one)));
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
HOST_DEVICE static inline Colour shifted_hue(Colour rgb, double factor, double one) {
    Colour hsv = hsv_of(rgb);
    hsv.a = (uint8_t)(hsv.a + (int)(factor * 255));
    return rgb_of(hsv, one);
}

static inline void shift_hue(RgbImage image, double factor) {
    uint8_t *red = image_plane(image, 0), *green = image_plane(image, 1), *blue = image_plane(image, 2);
    const double one = unknown_one();
    for (size_t i = 0; i < plane_bytes(image); i++) {
        Colour rgb = shifted_hue((Colour){red[i], green[i], blue[i]}, factor, one);
        red[i] = rgb.a;
        green[i] = rgb.b;
        blue[i] = rgb.c;
    }
}
