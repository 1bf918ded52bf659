// Mixup and cutmix of bytes, and targets, as timm's loader on the device makes them: before normalisation and erasing,
// so that what is erased is not mixed. Every product and sum is rounded to float.
//
//     mixup    out = the byte nearest to a own + b other, ties to even; own = λ, other = 1 - λ, subtracted in double
//              precision where a batch shares λ, in float where every image or pair has its own
//     cutmix   a box of area 1 - λ around (cy, cx), clipped to the image, is the partner's; λ becomes its complement
//     targets  own t_i + other t_partner; t = 1 - s + s/K on the label, s/K elsewhere
//     normalised  (level - 255 mean) / (255 std)
#pragma once
#include "../runtime/inlining.h"
#include "../runtime/random.h"
#include "../runtime/rounding.h"
#include "resample.h"

typedef struct { float own, other; } MixShares;

static inline MixShares shares_of_batch(double lambda) { return (MixShares){(float)lambda, (float)(1 - lambda)}; }
static inline MixShares shares_of_image(double lambda) { return (MixShares){(float)lambda, 1 - (float)lambda}; }

HOST_DEVICE ALWAYS_INLINE float mixed_value(float a, float b, MixShares s, float one) {
    return s.own * a * one + s.other * b * one;
}

// Between 2²³ and 2²⁴ floats are whole numbers, so that adding 2²³ rounds.
HOST_DEVICE ALWAYS_INLINE uint8_t mixed_byte(uint8_t a, uint8_t b, MixShares s, float one) {
    return (uint8_t)(int)(mixed_value(a, b, s, one) + 0x1p23f - 0x1p23f);
}

// Mixes x and y, each with the other as its partner.
static inline void mix_bytes(uint8_t* __restrict x, uint8_t* __restrict y, size_t count, MixShares s) {
    const float one = (float)unknown_one();
    for (size_t i = 0; i < count; i++) {
        uint8_t a = x[i], b = y[i];
        x[i] = mixed_byte(a, b, s, one);
        y[i] = mixed_byte(b, a, s, one);
    }
}

// x and y (3, H, W) exchange a box
static inline void exchange_box(uint8_t* __restrict x, uint8_t* __restrict y, int H, int W, Crop box) {
    for (int r = 0; r < 3 * box.height; r++) {
        size_t row = ((size_t)(r / box.height) * H + box.top + r % box.height) * W + box.left;
        for (int k = 0; k < box.width; k++) {
            uint8_t swap = x[row + k];
            x[row + k] = y[row + k];
            y[row + k] = swap;
        }
    }
}

// The first row (column), and their number, of a side `length` around `centre`. whole: as in timm from 1.0.29 on;
// before that, an odd side lost a pixel
static inline void cutmix_side(int* first, int* count, int side, int length, int centre, bool whole) {
    int from = centre - length / 2, to = centre + (length + whole) / 2;
    *first = from < 0 ? 0 : from;
    *count = (to > side ? side : to) - *first;
}

static inline Crop cutmix_box(int H, int W, double lambda, int cy, int cx, bool whole) {
    double ratio = sqrt(1 - lambda);
    Crop box;
    cutmix_side(&box.top, &box.height, H, (int)(H * ratio), cy, whole);
    cutmix_side(&box.left, &box.width, W, (int)(W * ratio), cx, whole);
    return box;
}

static inline double cutmix_lambda(Crop box, int H, int W) {
    return 1 - (double)box.height * box.width / ((double)H * W);
}

// One row of targets (K)
static inline void mix_target(float* target, int K, int label, int partner, MixShares s, double smoothing) {
    const float one = (float)unknown_one();
    double rest = smoothing / K;
    float off = (float)rest, on = (float)(1 - smoothing + rest);
    for (int k = 0; k < K; k++) { target[k] = mixed_value(k == label ? on : off, k == partner ? on : off, s, one); }
}

// As torch does it after the loader; mean and std in 0..1
HOST_DEVICE ALWAYS_INLINE float of_levels(double x) { return (float)(x * 255); }
HOST_DEVICE ALWAYS_INLINE float normalised_level(uint8_t level, double mean, double std) {
    return ((float)level - of_levels(mean)) / of_levels(std);
}
