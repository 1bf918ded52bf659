// Geometric operations: an affine map from the output to the input, byte for byte as by Pillow's Image.transform and
// Image.rotate (all in double precision, every step rounded: runtime/rounding.h).
//
//     u = x + ½, v = y + ½       X = (a u + b v) + c,   Y = (d u + e v) + f
//     outside 0 <= X < W, 0 <= Y < H: the fill colour
//     x1 = floor(X - ½), δ = (X - ½) - x1; y1, ε likewise; pixels beyond an edge are the edge's
//     bilinear   row values r_j = p(x1) + (p(x1+1) - p(x1)) δ of rows y1, y1+1; out = trunc(r_0 + (r_1 - r_0) ε)
//     bicubic    Keys' cubic with parameter -1 through four, along x, then along y; out = trunc(clip(value))
//     nearest    by accumulated steps where the axes keep apart, else in fixed point with 16 fractional bits
//
// If ε = 0 everywhere (ShearX, TranslateX), the second pass returns its row y1, and if δ = 0, the first returns column
// x1: these passes are left out.
#pragma once
#include "image_levels.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct { double a, b, c, d, e, f; } AffineMap;

// ---- maps ----

static inline double round_15_decimals(double x) { // Python's round(x, 15)
    char text[32];
    snprintf(text, sizeof text, "%.15f", x);
    return strtod(text, NULL);
}

static inline AffineMap shear_x_map(double factor) { return (AffineMap){1, factor, 0, 0, 1, 0}; }
static inline AffineMap shear_y_map(double factor) { return (AffineMap){1, 0, 0, factor, 1, 0}; }
static inline AffineMap translate_x_map(double fraction, int W) { return (AffineMap){1, 0, fraction * W, 0, 1, 0}; }
static inline AffineMap translate_y_map(double fraction, int H) { return (AffineMap){1, 0, 0, 0, 1, fraction * H}; }

// degrees modulo 360, not negative
static inline double turn_of(double degrees) {
    double turn = fmod(degrees, 360);
    return turn < 0 ? turn + 360 : turn;
}

// Counter-clockwise about the centre. For multiples of 90° sine and cosine are 0 or ±1, so that pixels fall on pixels,
// as they do where Pillow copies them: in a half turn, and in quarter turns of squares.
static inline AffineMap rotation_map(double degrees, int H, int W) {
    const double one = unknown_one();
    double angle = -(turn_of(degrees) * (3.14159265358979323846 / 180)), x0 = W / 2.0, y0 = H / 2.0;
    double A = round_15_decimals(cos(angle)), B = round_15_decimals(sin(angle)), D = round_15_decimals(-sin(angle));
    return (AffineMap){A, B, A * -x0 * one + B * -y0 * one + x0, D, A, D * -x0 * one + A * -y0 * one + y0};
}

static inline AffineMap operation_map(ImageOperation op, int H, int W) {
    switch (op.kind) {
        case OPERATION_ROTATE: return rotation_map(op.argument, H, W);
        case OPERATION_SHEAR_X: return shear_x_map(op.argument);
        case OPERATION_SHEAR_Y: return shear_y_map(op.argument);
        case OPERATION_TRANSLATE_X: return translate_x_map(op.argument, W);
        default: return translate_y_map(op.argument, H);
    }
}

// ---- the input, as it is read: pixels of four bytes, red lowest, in a frame of copies of the edge ----

enum { AFFINE_FRAME = 2, AFFINE_STRIP = 32, AFFINE_MAX_TAPS = 16 };

typedef struct {
    uint32_t* origin; // pixel (0, 0)
    int height, width, stride;
} FramedImage;

// Bytes of scratch: the framed image, and an index for every column
static inline size_t affine_scratch(int height, int width) {
    return (size_t)(height + 2 * AFFINE_FRAME) * (width + 2 * AFFINE_FRAME) * sizeof(uint32_t) + width * sizeof(int);
}

static inline void frame_row(uint32_t* out, RgbImage image, int y) {
    const uint8_t *red = image_plane(image, 0) + (size_t)y * image.width, *green = red + plane_bytes(image),
                  *blue = green + plane_bytes(image);
    const int W = image.width;
    for (int x = 0; x < W; x++) { out[x] = red[x] | (uint32_t)green[x] << 8 | (uint32_t)blue[x] << 16; }
    for (int k = 1; k <= AFFINE_FRAME; k++) {
        out[-k] = out[0];
        out[W - 1 + k] = out[W - 1];
    }
}

static inline FramedImage frame_image(RgbImage image, uint32_t* memory) {
    const int H = image.height, W = image.width, stride = W + 2 * AFFINE_FRAME;
    FramedImage framed = {memory + (size_t)AFFINE_FRAME * stride + AFFINE_FRAME, H, W, stride};
    for (int y = 0; y < H; y++) { frame_row(framed.origin + (size_t)y * stride, image, y); }
    for (int k = 1; k <= AFFINE_FRAME; k++) {
        uint32_t *first = memory + (size_t)AFFINE_FRAME * stride, *last = first + (size_t)(H - 1) * stride;
        memcpy(first - (size_t)k * stride, first, sizeof(uint32_t) * (size_t)stride);
        memcpy(last + (size_t)k * stride, last, sizeof(uint32_t) * (size_t)stride);
    }
    return framed;
}

// ---- interpolation ----

typedef struct {
    bool inside;          // else filled
    int x, y;             // x1, y1
    double across, down;  // δ, ε
} AffinePlace;

HOST_DEVICE ALWAYS_INLINE AffinePlace affine_place(AffineMap m, int H, int W, int x, int y, double one) {
    double u = x + 0.5, v = y + 0.5;
    double X = m.a * u * one + m.b * v * one + m.c, Y = m.d * u * one + m.e * v * one + m.f;
    bool inside = (X >= 0) & (X < W) & (Y >= 0) & (Y < H);
    X = inside ? X - 0.5 : 0;
    Y = inside ? Y - 0.5 : 0;
    double x1 = floor(X), y1 = floor(Y);
    return (AffinePlace){inside, (int)x1, (int)y1, X - x1, Y - y1};
}

HOST_DEVICE ALWAYS_INLINE double linear(double v0, double v1, double t, double one) { return v0 + (v1 - v0) * t * one; }

HOST_DEVICE ALWAYS_INLINE double cubic(double v1, double v2, double v3, double v4, double t, double one) {
    double p2 = v3 - v1, p3 = 2 * (v1 - v2) + v3 - v4, p4 = v2 - v1 - v3 + v4;
    return v2 + t * (p2 + t * (p3 + t * p4 * one) * one) * one;
}

// ---- a strip of a row at a time ----

typedef struct {
    int offset[AFFINE_STRIP];  // of pixel (x1, y1) from the origin
    int inside[AFFINE_STRIP];
    double across[AFFINE_STRIP], down[AFFINE_STRIP];
} StripPlaces;

NEVER_INLINE void strip_places(StripPlaces* s, const FramedImage* in, const AffineMap* map, int left, int y) {
    const double one = unknown_one();
    const AffineMap m = *map;
    const int H = in->height, W = in->width, stride = in->stride;
    for (int i = 0; i < AFFINE_STRIP; i++) {
        AffinePlace p = affine_place(m, H, W, left + i, y, one);
        s->inside[i] = p.inside;
        s->offset[i] = p.y * stride + p.x;
        s->across[i] = p.across;
        s->down[i] = p.down;
    }
}

typedef uint32_t StripTaps[AFFINE_MAX_TAPS][AFFINE_STRIP];

// Tap k of a channel for pixel i
ALWAYS_INLINE double tap_level(StripTaps taps, int k, int i, int channel) {
    return (int)(taps[k][i] >> 8 * channel & 255);
}

// Interpolates through the taps of one row, of which there are 1, 2 or 4; the first is tap k.
ALWAYS_INLINE double tap_row(StripTaps taps, int k, int columns, int i, int channel, double t, double one) {
    double v = tap_level(taps, k, i, channel);
    if (columns == 1) { return v; }
    double next = tap_level(taps, k + 1, i, channel);
    if (columns == 2) { return linear(v, next, t, one); }
    return cubic(v, next, tap_level(taps, k + 2, i, channel), tap_level(taps, k + 3, i, channel), t, one);
}

ALWAYS_INLINE double tap_rows(StripTaps taps, int rows, int columns, int i, int channel, const StripPlaces* s,
                              double one) {
    double t = s->across[i], v = tap_row(taps, 0, columns, i, channel, t, one);
    if (rows == 1) { return v; }
    double next = tap_row(taps, columns, columns, i, channel, t, one);
    if (rows == 2) { return linear(v, next, s->down[i], one); }
    return cubic(v, next, tap_row(taps, 2 * columns, columns, i, channel, t, one),
                 tap_row(taps, 3 * columns, columns, i, channel, t, one), s->down[i], one);
}

// One channel of a strip, from `rows` x `columns` taps a pixel
ALWAYS_INLINE void strip_levels(uint8_t* out, StripTaps taps, const StripPlaces* s, int channel, int fill, int rows,
                                int columns) {
    const double one = unknown_one();
    int levels[AFFINE_STRIP];
    for (int i = 0; i < AFFINE_STRIP; i++) {
        int level = clip_level(tap_rows(taps, rows, columns, i, channel, s, one));
        levels[i] = s->inside[i] ? level : fill;
    }
    for (int i = 0; i < AFFINE_STRIP; i++) { out[i] = (uint8_t)levels[i]; }
}

ALWAYS_INLINE void interpolate_strip(RgbImage out, const FramedImage* in, const StripPlaces* s, int left, int y,
                                     const uint8_t fill[3], int rows, int columns) {
    StripTaps taps;
    uint8_t levels[AFFINE_STRIP];
    int count = out.width - left < AFFINE_STRIP ? out.width - left : AFFINE_STRIP;
    for (int j = 0; j < rows; j++) {
        for (int k = 0; k < columns; k++) {
            const uint32_t* from = in->origin + (rows == 4 ? j - 1 : j) * in->stride + (columns == 4 ? k - 1 : k);
            for (int i = 0; i < AFFINE_STRIP; i++) { taps[j * columns + k][i] = from[s->offset[i]]; }
        }
    }
    for (int c = 0; c < 3; c++) {
        strip_levels(levels, taps, s, c, fill[c], rows, columns);
        memcpy(image_plane(out, c) + (size_t)y * out.width + left, levels, (size_t)count);
    }
}

typedef void (*InterpolateStrip)(RgbImage, const FramedImage*, const StripPlaces*, int, int, const uint8_t[3]);
#define INTERPOLATE_STRIP(name, rows, columns) \
    NEVER_INLINE void name(RgbImage out, const FramedImage* in, const StripPlaces* s, int left, int y, \
                           const uint8_t fill[3]) { \
        interpolate_strip(out, in, s, left, y, fill, rows, columns); \
    }
INTERPOLATE_STRIP(bilinear_across, 1, 2)
INTERPOLATE_STRIP(bilinear_down, 2, 1)
INTERPOLATE_STRIP(bilinear_both, 2, 2)
INTERPOLATE_STRIP(bicubic_across, 1, 4)
INTERPOLATE_STRIP(bicubic_down, 4, 1)
INTERPOLATE_STRIP(bicubic_both, 4, 4)

static inline InterpolateStrip strip_function(const AffineMap* m, AffineFilter filter) {
    bool bicubic = filter == AFFINE_BICUBIC;
    if (m->d == 0 && m->e == 1 && m->f == 0) { return bicubic ? bicubic_across : bilinear_across; }
    if (m->a == 1 && m->b == 0 && m->c == 0) { return bicubic ? bicubic_down : bilinear_down; }
    return bicubic ? bicubic_both : bilinear_both;
}

static inline void transform_smoothly(RgbImage out, const FramedImage* in, const AffineMap* map, AffineFilter filter,
                                      const uint8_t fill[3]) {
    InterpolateStrip interpolate = strip_function(map, filter);
    for (int y = 0; y < out.height; y++) {
        for (int left = 0; left < out.width; left += AFFINE_STRIP) {
            StripPlaces places;
            strip_places(&places, in, map, left, y);
            interpolate(out, in, &places, left, y, fill);
        }
    }
}

// ---- nearest ----

static inline void put_pixel(RgbImage out, const FramedImage* in, int x, int y, int64_t from_x, int64_t from_y,
                             const uint8_t fill[3]) {
    bool inside = from_x >= 0 && from_x < in->width && from_y >= 0 && from_y < in->height;
    uint32_t pixel = inside ? in->origin[from_y * in->stride + from_x] : 0;
    for (int c = 0; c < 3; c++) {
        image_plane(out, c)[(size_t)y * out.width + x] = inside ? (uint8_t)(pixel >> 8 * c) : fill[c];
    }
}

// Accumulated position p as an index; -1: outside
HOST_DEVICE static inline int index_at(double p, int length) { return p >= 0 && p < length ? (int)p : -1; }

// b = d = 0; columns (width)
static inline void transform_nearest_scaled(RgbImage out, const FramedImage* in, const AffineMap* m,
                                            const uint8_t fill[3], int* columns) {
    double X = m->c + m->a * 0.5, Y = m->f + m->e * 0.5;
    for (int x = 0; x < out.width; x++, X += m->a) { columns[x] = index_at(X, in->width); }
    for (int y = 0; y < out.height; y++, Y += m->e) {
        int row = index_at(Y, in->height);
        for (int x = 0; x < out.width; x++) { put_pixel(out, in, x, y, columns[x], row, fill); }
    }
}

HOST_DEVICE static inline int64_t fixed_16(double x) { return (int64_t)floor(x * 65536 + 0.5); }

// a (x + ½) + b (y + ½) + c
HOST_DEVICE static inline int64_t fixed_index(double a, double b, double c, int x, int y) {
    return (fixed_16(c + a * 0.5 + b * 0.5) + x * fixed_16(a) + y * fixed_16(b)) >> 16;
}

static inline void transform_nearest(RgbImage out, const FramedImage* in, const AffineMap* m, const uint8_t fill[3]) {
    for (int y = 0; y < out.height; y++) {
        for (int x = 0; x < out.width; x++) {
            int64_t from_x = fixed_index(m->a, m->b, m->c, x, y), from_y = fixed_index(m->d, m->e, m->f, x, y);
            put_pixel(out, in, x, y, from_x, from_y, fill);
        }
    }
}

// ---- whole operations ----

// scratch: affine_scratch bytes, aligned for 32-bit words
static inline void transform_image(RgbImage image, const AffineMap* map, AffineFilter filter, const uint8_t fill[3],
                                   void* scratch) {
    FramedImage framed = frame_image(image, (uint32_t*)scratch);
    if (filter != AFFINE_NEAREST) {
        transform_smoothly(image, &framed, map, filter, fill);
    } else if (map->b == 0 && map->d == 0) {
        size_t pixels = (size_t)(image.height + 2 * AFFINE_FRAME) * (image.width + 2 * AFFINE_FRAME);
        transform_nearest_scaled(image, &framed, map, fill, (int*)((uint32_t*)scratch + pixels));
    } else {
        transform_nearest(image, &framed, map, fill);
    }
}
