// Random erasing (Zhong et al., arXiv 1708.04896) as in timm. With probability p an image loses `count` boxes, or
// between 1 and `most`. Each has up to ten tries: area A = U(0.02, 1/3) H W / count, height / width ρ log-uniform in
// 0.3..1/0.3, sides √(A ρ) and √(A / ρ) rounded to even, and has to be smaller than the image on either side. Boxes may
// overlap. They are filled, in the normalised image, with zeros, one N(0,1) per channel, or one per value.
#pragma once
#include "../runtime/choices.h"
#include "rand_augment.h"
#include "resample.h"

enum { MAX_ERASED_BOXES = 4, ERASURE_TRIES = 10 };

#define ERASE_MODES(X) X(ERASE_CONST, "const") X(ERASE_RAND, "rand") X(ERASE_PIXEL, "pixel")
typedef enum { ERASE_MODES(CHOICE_CONSTANT) } EraseMode;

typedef struct {
    float probability;
    int most;           // boxes: 1..MAX_ERASED_BOXES
    EraseMode mode;
} RandomErasing;

typedef struct {
    int count;
    Crop box[MAX_ERASED_BOXES];
    EraseMode mode;
    uint64_t noise;     // seed of its normal numbers
} Erasures;

// Sides of a box: along / across = ratio
static inline void box_sides(int* along, int* across, double area, double ratio) {
    *along = (int)nearbyint(sqrt(area * ratio));
    *across = (int)nearbyint(sqrt(area / ratio));
}

static inline bool erased_sides(int* height, int* width, int H, int W, double fraction, double ratio, int count) {
    box_sides(height, width, fraction * (H * W) / count, ratio);
    return *height < H && *width < W;
}

// One try
static inline bool draw_erased_box(Crop* box, Random4 r, int H, int W, int count) {
    const double one = unknown_one(), low = log(0.3);
    double fraction = 0.02 + (1 / 3.0 - 0.02) * uniform_from(r.word[0]) * one;
    double ratio = exp(low - 2 * low * uniform_from(r.word[1]) * one);
    int h, w;
    if (!erased_sides(&h, &w, H, W, fraction, ratio, count)) { return false; }
    *box = (Crop){(int)random_below((uint32_t)(H - h + 1), r.word[2]),
                  (int)random_below((uint32_t)(W - w + 1), r.word[3]), h, w};
    return true;
}

static inline Erasures draw_erasures(const RandomErasing* e, ImageKey key, int H, int W) {
    Erasures drawn = {.mode = e->mode};
    Random4 r = operation_draw(key, DRAW_ERASURES);
    if (uniform_from(r.word[0]) >= e->probability) { return drawn; }
    drawn.noise = (uint64_t)r.word[1] << 32 | r.word[2];
    int count = 1 + (int)random_below((uint32_t)e->most, r.word[3]);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < ERASURE_TRIES; k++) {
            Random4 tried = random_bits(drawn.noise, STREAM_ERASE, 1, (uint64_t)(i * ERASURE_TRIES + k));
            if (draw_erased_box(&drawn.box[drawn.count], tried, H, W, count)) { drawn.count++; break; }
        }
    }
    return drawn;
}

// At `index` of (3, H, W), in channel c of box i
HOST_DEVICE static inline float erased_level(const Erasures* e, int i, int c, size_t index) {
    switch (e->mode) {
        case ERASE_RAND: return (float)random_normal(e->noise, STREAM_ERASE, 2, (uint64_t)(3 * i + c));
        case ERASE_PIXEL: return (float)random_normal(e->noise, STREAM_ERASE, 0, index);
        default: return 0;
    }
}

// x (3, H, W)
static inline void erase_boxes(float* x, int H, int W, const Erasures* e) {
    for (int i = 0; i < e->count; i++) {
        Crop box = e->box[i];
        for (int r = 0; r < 3 * box.height; r++) {
            size_t row = ((size_t)(r / box.height) * H + box.top + r % box.height) * W + box.left;
            for (int k = 0; k < box.width; k++) { x[row + k] = erased_level(e, i, r / box.height, row + k); }
        }
    }
}
