// What happens to an image between the data set (uint8) and the network (float, normalised), and what happens to a
// batch.
//
// One image, in this order (training), all of it bytes:
//   padded random crop    pad by P black pixels all round, crop the original size anywhere
//   or RandomResizedCrop  a box of random area and aspect ratio, resized to image_size (torchvision's algorithm)
//   resize                to image_size, if the size still differs (the same as evaluation with crop_pct 1)
//   flips                 horizontal and vertical, each with its probability
//   RandAugment           (rand_augment.h), or else colour jitter (color_jitter.h), on grey tripled to three channels
// Evaluation: shorter side to floor(image_size / crop_pct), centre crop; nothing is resampled if the size is right
// already.
//
// One batch (timm's "batch" mode: one choice and one λ for all, the partner of image i is image B-1-i):
//   mixup   x_i <- λ x_i + (1-λ) x_{B-1-i},  λ ~ Beta(α,α)                    (Zhang et al., arXiv 1710.09412)
//   cutmix  a box of area 1-λ comes from the partner; λ is corrected for the clipped box    (Yun et al., 1905.04899)
//   normalisation   (level - 255 mean) / (255 std)
//   random erasing  of each image (random_erasing.h)
//   targets         λ t_i + (1-λ) t_{B-1-i}, t = smoothing/K off the label, 1 - smoothing + smoothing/K on it
// This is the order of timm's loader, which mixes bytes; DeiT's loader normalises and erases first, and mixes floats
// (MixOrder).
//
// Every draw is a pure function of (seed, epoch, image) or, for a batch, of (seed, step). Drawing and applying what was
// drawn are two steps, so that the GPU can do the second (kernels/augment.cuh). Floats are mixed by fmaf, which gives
// the same bits with every compiler and on the GPU.
#pragma once
#include "../runtime/choices.h"
#include "../runtime/random.h"
#include "color_jitter.h"
#include "mix_bytes.h"
#include "rand_augment.h"
#include "random_erasing.h"
#include "resample.h"

#define INTERPOLATIONS(X) X(INTERPOLATE_BILINEAR, "bilinear") X(INTERPOLATE_BICUBIC, "bicubic")
#define TRAIN_INTERPOLATIONS(X) INTERPOLATIONS(X) X(INTERPOLATE_RANDOM, "random")
typedef enum { TRAIN_INTERPOLATIONS(CHOICE_CONSTANT) } Interpolation;

#define MIX_ORDERS(X) X(MIX_FLOATS, "floats") X(MIX_BYTES, "bytes")
typedef enum { MIX_ORDERS(CHOICE_CONSTANT) } MixOrder;

typedef struct {
    int crop_padding;                  // 0: no padded crop; excludes random_resized_crop
    bool random_resized_crop;
    float scale[2], ratio[2];          // of RandomResizedCrop: area as a fraction of the image; width / height
    Interpolation train_interpolation; // also for geometric operations
    float flip, vflip;                 // probabilities
    RandAugment rand;                  // without operations: off
    ColorJitter jitter;                // used if that is off
    RandomErasing erasing;
    float mixup, cutmix;               // α of Beta(α,α); 0: off
    float mix_probability;             // that a batch is mixed at all
    float mix_switch;                  // probability of cutmix if both are on
    MixOrder mix_order;
    float smoothing;                   // of labels
    int repeats;                       // how often an image is seen in an epoch (repeated.h); 1: off
} Augment;

static inline Augment augment_none(void) {
    return (Augment){.scale = {0.08f, 1}, .ratio = {3 / 4.0f, 4 / 3.0f}, .train_interpolation = INTERPOLATE_RANDOM,
                     .jitter = {.probability = 1}, .erasing = {.most = 1, .mode = ERASE_PIXEL}, .mix_probability = 1,
                     .mix_switch = 0.5f, .repeats = 1};
}

// Whether images may be changed by operations
static inline bool has_operations(const Augment* a) {
    const ColorJitter* j = &a->jitter;
    return a->rand.operations > 0 || j->brightness > 0 || j->contrast > 0 || j->saturation > 0 || j->hue > 0 ||
           j->grey > 0;
}

// ---- one image ----

// DRAW_CROP: the first of BOX_TRIES draws
enum { AUGMENT_DRAWS = 32, DRAW_CHOICES = 0, DRAW_CROP = 1, BOX_TRIES = 10 };

static inline Random4 image_draw(ImageKey key, int draw) {
    return random_bits(key.seed, STREAM_AUGMENT, key.epoch, key.image * AUGMENT_DRAWS + (uint64_t)draw);
}

// What a box is resized to: height x width pixels, of which S x S are taken from (top, left)
typedef struct { int height, width, top, left, S; } Resize;

// What is drawn for one image
typedef struct {
    int image;              // its index in the data set
    Crop box;               // the part that is taken; black where a padded crop extends beyond the image
    Resize resize;
    ResampleFilter filter;  // that resizes the box, if its size changes
    bool mirrored, upside_down;
    OperationList operations;
    Erasures erased;        // of the finished image
} ImageDraw;

static inline int round_even(double x) { return (int)nearbyint(x); } // Python's round

static inline int clamp_int(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

// If ten random boxes did not fit: the largest centred box with an allowed aspect ratio.
static inline Crop centre_box(int height, int width, const float ratio[2]) {
    double whole = (double)width / height;
    int h = height, w = width;
    if (whole < ratio[0]) { h = clamp_int(round_even(width / ratio[0]), 1, height); }
    if (whole > ratio[1]) { w = clamp_int(round_even(height * ratio[1]), 1, width); }
    return (Crop){(height - h) / 2, (width - w) / 2, h, w};
}

// A box with its area uniform in scale, its aspect ratio log-uniform in ratio, and a uniform position; returns whether
// it fits
static inline bool draw_box(Crop* box, Random4 r, int height, int width, const float scale[2], const float ratio[2]) {
    double log_low = log(ratio[0]), log_high = log(ratio[1]);
    double area = (double)height * width * (scale[0] + (scale[1] - scale[0]) * uniform_from(r.word[0]));
    double aspect = exp(log_low + (log_high - log_low) * uniform_from(r.word[1]));
    int w = round_even(sqrt(area * aspect)), h = round_even(sqrt(area / aspect));
    if (w < 1 || w > width || h < 1 || h > height) { return false; }
    *box = (Crop){(int)random_below((uint32_t)(height - h + 1), r.word[2]),
                  (int)random_below((uint32_t)(width - w + 1), r.word[3]), h, w};
    return true;
}

// RandomResizedCrop's box
static inline Crop random_box(ImageKey key, int height, int width, const float scale[2], const float ratio[2]) {
    Crop box;
    for (int i = 0; i < BOX_TRIES; i++) {
        if (draw_box(&box, image_draw(key, DRAW_CROP + i), height, width, scale, ratio)) { return box; }
    }
    return centre_box(height, width, ratio);
}

// out (channels, height, width) = the image shifted by (top, left) in -padding..padding, black beyond its edges
static inline void shift_image(uint8_t* out, ImageView in, int top, int left) {
    memset(out, 0, (size_t)in.channels * in.height * in.width);
    int x0 = left < 0 ? -left : 0, x1 = left > 0 ? in.width - left : in.width;
    for (int c = 0; c < in.channels && x0 < x1; c++) {
        for (int y = 0; y < in.height; y++) {
            if (y + top < 0 || y + top >= in.height) { continue; }
            memcpy(out + ((size_t)c * in.height + y) * in.width + x0,
                   in.pixels + c * in.plane_stride + (y + top) * in.row_stride + x0 + left, (size_t)(x1 - x0));
        }
    }
}

// out (3, S, S) from levels (3, S, S)
static inline void normalise(float* __restrict out, const uint8_t* __restrict levels, int S, const double mean[3],
                             const double std[3]) {
    size_t plane = (size_t)S * S;
    for (int c = 0; c < 3; c++) {
        for (size_t k = 0; k < plane; k++) {
            out[c * plane + k] = normalised_level(levels[c * plane + k], mean[c], std[c]);
        }
    }
}

// The size of an image whose shorter side becomes `side`.
static inline Crop shorter_side(int height, int width, int side) {
    Crop c = {0, 0, side, side};
    if (width < height) { c.height = (int)((int64_t)side * height / width); }
    if (height < width) { c.width = (int)((int64_t)side * width / height); }
    return c;
}

static inline int side_before_crop(int image_size, double crop_pct) { return (int)floor(image_size / crop_pct); }

// The shorter side to floor(S / crop_pct), then the centre. With crop_pct 1, an S x S image stays as it is.
static inline Resize resize_and_crop(int height, int width, int S, double crop_pct) {
    Crop size = shorter_side(height, width, side_before_crop(S, crop_pct));
    int top = round_even((size.height - S) / 2.0), left = round_even((size.width - S) / 2.0);
    return (Resize){size.height, size.width, top, left, S};
}

static inline ResampleFilter filter_of(Interpolation i) {
    return i == INTERPOLATE_BICUBIC ? FILTER_BICUBIC : FILTER_BILINEAR;
}

static inline ImageDraw draw_eval_image(int image, int height, int width, Resize resize, ResampleFilter filter) {
    return (ImageDraw){.image = image, .box = {0, 0, height, width}, .resize = resize, .filter = filter};
}

// key.image is the image's number, or a different number for each time that it is seen
static inline ImageDraw draw_train_image(const Augment* a, int image, ImageKey key, int height, int width, int S) {
    Random4 choice = image_draw(key, DRAW_CHOICES);
    bool bicubic = a->train_interpolation == INTERPOLATE_BICUBIC
        || (a->train_interpolation == INTERPOLATE_RANDOM && choice.word[1] >> 31);
    Resize resize = a->random_resized_crop ? (Resize){S, S, 0, 0, S} : resize_and_crop(height, width, S, 1);
    ImageDraw draw = draw_eval_image(image, height, width, resize, bicubic ? FILTER_BICUBIC : FILTER_BILINEAR);
    draw.mirrored = uniform_from(choice.word[0]) < a->flip;
    draw.upside_down = uniform_from(choice.word[2]) < a->vflip;
    if (a->random_resized_crop) {
        draw.box = random_box(key, height, width, a->scale, a->ratio);
    } else if (a->crop_padding > 0) {
        Random4 r = image_draw(key, DRAW_CROP);
        draw.box.top = (int)random_below(2u * (uint32_t)a->crop_padding + 1, r.word[0]) - a->crop_padding;
        draw.box.left = (int)random_below(2u * (uint32_t)a->crop_padding + 1, r.word[1]) - a->crop_padding;
    }
    if (a->rand.operations > 0) {
        draw_rand_augment(&draw.operations, &a->rand, key, (GeometryFilter)a->train_interpolation);
    } else if (has_operations(a)) {
        draw_color_jitter(&draw.operations, &a->jitter, key);
    }
    draw.erased = draw_erasures(&a->erasing, key, S, S);
    return draw;
}

// The part of an image that is taken; one that extends beyond the image has the image's size, and is made in shifted
static inline ImageView take_box(ImageView in, Crop box, uint8_t* shifted) {
    if (box.height < in.height || box.width < in.width || (box.top == 0 && box.left == 0)) {
        return view_crop(in, box.top, box.left, box.height, box.width);
    }
    shift_image(shifted, in, box.top, box.left);
    return view_of(shifted, in.channels, in.height, in.width);
}

// ---- one batch ----

enum { DRAW_MIX = 0, DRAW_LAMBDA = 1 };

// Gamma(shape, 1) by Marsaglia and Tsang (2000); *draw counts the random indices used. Below 1 the shape is raised by
// one and the result multiplied by U^(1/shape).
static inline double random_gamma(double shape, uint64_t seed, uint32_t step, uint64_t* draw) {
    double d = (shape < 1 ? shape + 1 : shape) - 1 / 3.0, c = 1 / sqrt(9 * d);
    for (;;) {
        uint64_t index = (*draw)++;
        Random4 r = random_bits(seed, STREAM_MIX, step, index);
        double x = random_normal(seed, STREAM_MIX, step, index), v = 1 + c * x; // takes words 0 and 1
        if (v <= 0) { continue; }
        v = v * v * v;
        if (log((r.word[2] + 0.5) * 0x1p-32) < 0.5 * x * x + d - d * v + d * log(v)) {
            return d * v * (shape < 1 ? pow((r.word[3] + 0.5) * 0x1p-32, 1 / shape) : 1);
        }
    }
}

static inline double random_beta(double alpha, uint64_t seed, uint32_t step) { // Beta(alpha, alpha)
    uint64_t draw = DRAW_LAMBDA;
    double a = random_gamma(alpha, seed, step, &draw), b = random_gamma(alpha, seed, step, &draw);
    return a + b > 0 ? a / (a + b) : 0.5; // both underflow only if alpha is too small to mean anything
}

typedef struct {
    bool mixed, cutmix;
    MixShares shares; // of the image itself, and of its partner
    Crop box;         // cutmix: the part that comes from the partner
} Mix;

static inline Mix mix_none(void) { return (Mix){.shares = shares_of_batch(1)}; }

static inline Mix mix_draw(const Augment* a, uint64_t seed, uint32_t step, int S) {
    Random4 r = random_bits(seed, STREAM_MIX, step, DRAW_MIX);
    Mix mix = mix_none();
    if ((a->mixup <= 0 && a->cutmix <= 0) || uniform_from(r.word[0]) >= a->mix_probability) { return mix; }
    mix.mixed = true;
    mix.cutmix = a->cutmix > 0 && (a->mixup <= 0 || uniform_from(r.word[1]) < a->mix_switch);
    double lambda = random_beta(mix.cutmix ? a->cutmix : a->mixup, seed, step);
    if (mix.cutmix) {
        int y = (int)random_below((uint32_t)S, r.word[2]), x = (int)random_below((uint32_t)S, r.word[3]);
        mix.box = cutmix_box(S, S, lambda, y, x, false);
        lambda = cutmix_lambda(mix.box, S, S);
    }
    mix.shares = shares_of_batch(lambda);
    return mix;
}

// An image and its partner, both levels (3, S, S), in place
static inline void mix_levels(uint8_t* x, uint8_t* y, const Mix* mix, int S) {
    if (mix->cutmix) {
        exchange_box(x, y, S, S, mix->box);
    } else if (mix->mixed) {
        mix_bytes(x, y, (size_t)3 * S * S, mix->shares);
    }
}

// The same for normalised images
static inline void mix_floats(float* __restrict x, float* __restrict y, const Mix* mix, int S) {
    MixShares s = mix->shares;
    for (size_t k = 0; k < (size_t)3 * S * S && mix->mixed && !mix->cutmix; k++) {
        float a = x[k], b = y[k];
        x[k] = fmaf(s.own, a, s.other * b);
        y[k] = fmaf(s.own, b, s.other * a);
    }
    for (int r = 0; r < 3 * mix->box.height; r++) {
        size_t row = ((size_t)(r / mix->box.height) * S + mix->box.top + r % mix->box.height) * S + mix->box.left;
        for (int k = 0; k < mix->box.width; k++) {
            float a = x[row + k];
            x[row + k] = y[row + k];
            y[row + k] = a;
        }
    }
}
