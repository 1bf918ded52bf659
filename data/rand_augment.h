// RandAugment (Cubuk et al., arXiv 1909.13719) as in timm, and its strings: `rand`, then parts in any order, each a
// dash, letters and a number:
//     m9       magnitude, an integer (10)       n2     operations per image (2)       p0.5   probability of each (0.5)
//     mstd0.5  standard deviation of the magnitude (0); above 100: uniform in 0..m instead
//     mmax10   what the magnitude is clipped to (10)
//     inc1     the increasing set: the greater the magnitude, the stronger every operation (0)
//
// An image gets n operations, drawn uniformly with replacement from fifteen, each applied with probability p, at a
// magnitude of its own: N(m, mstd), clipped to 0..mmax. With t = magnitude / 10 and a sign drawn for ±:
//                                       plain                       increasing
//     Rotate, degrees                   ±30 t
//     Posterize, bits kept              trunc(4 t)                  4 - trunc(4 t)
//     Solarize, threshold               min(256, trunc(256 t))      256 - that
//     SolarizeAdd, addend               min(128, trunc(110 t))
//     Color, Contrast, Brightness,
//     Sharpness, factor                 1.8 t + 0.1                 max(0.1, 1 ± 0.9 t)
//     ShearX, ShearY, factor            ±0.3 t
//     TranslateXRel, TranslateYRel      ±0.45 t of the side
#pragma once
#include "../runtime/error.h"
#include "../runtime/random.h"
#include "../runtime/rounding.h"
#include "image_operation.h"
#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { MAX_RAND_OPERATIONS = 8 };

typedef struct {
    int magnitude, operations;  // operations 0: no RandAugment
    double probability;
    double deviation;           // of the magnitude; INFINITY: uniform in 0..magnitude
    int highest;                // magnitude
    bool increasing;
} RandAugment;

// ---- the string ----

static inline bool policy_error(const char* policy, const char* part, const char* what, Error* err) {
    return set_error(err, "the augmentation policy \"%.100s\" has the part \"%.40s\": %s", policy, part, what);
}

// Reads a number of digits and at most one dot, up to `highest`, and whole if it must be.
static inline bool part_number(double* value, const char* digits, double highest, bool whole) {
    char* end;
    if (!isdigit((unsigned char)*digits) || digits[strspn(digits, whole ? "0123456789" : "0123456789.")]) {
        return false;
    }
    *value = strtod(digits, &end);
    return *end == '\0' && *value <= highest;
}

// One part, such as mstd0.5
static inline bool rand_augment_part(RandAugment* r, const char* policy, const char* part, Error* err) {
    static const struct { const char *key, *wanted; double highest; bool whole; } keys[] = {
        {"m", "m is a magnitude, such as m9", 1e6, true}, {"n", "n is a number of operations, n1 to n8", 8, true},
        {"p", "p is a probability, such as p0.5", 1, false},
        {"mstd", "mstd is a standard deviation, such as mstd0.5", 1e6, false},
        {"mmax", "mmax is the highest magnitude, such as mmax10", 1e6, true}, {"inc", "inc is inc0 or inc1", 1, true},
    };
    size_t letters = strcspn(part, "0123456789.");
    double value;
    for (int k = 0; k < 6; k++) {
        if (strlen(keys[k].key) != letters || strncmp(part, keys[k].key, letters) != 0) { continue; }
        if (!part_number(&value, part + letters, keys[k].highest, keys[k].whole) || (k == 1 && value < 1)) {
            return policy_error(policy, part, keys[k].wanted, err);
        }
        switch (k) {
            case 0: r->magnitude = (int)value; break;
            case 1: r->operations = (int)value; break;
            case 2: r->probability = value; break;
            case 3: r->deviation = value > 100 ? INFINITY : value; break;
            case 4: r->highest = value > 0 ? (int)value : 10; break;
            case 5: r->increasing = value > 0; break;
        }
        return true;
    }
    return policy_error(policy, part, "there are m, n, p, mstd, mmax and inc, each with a number behind it", err);
}

static inline bool rand_augment_parse(RandAugment* r, const char* policy, Error* err) {
    *r = (RandAugment){.magnitude = 10, .operations = 2, .probability = 0.5, .highest = 10};
    const char* rest = policy;
    for (bool first = true; *rest || first; first = false) {
        char part[64];
        size_t length = strcspn(rest, "-");
        snprintf(part, sizeof part, "%.*s", (int)length, rest);
        if (length >= sizeof part) { return policy_error(policy, part, "that is too long for one", err); }
        if (first && strcmp(part, "rand") != 0) {
            return set_error(err, "the augmentation policy \"%.100s\" is not there: give a RandAugment, such as "
                             "rand-m9-mstd0.5-inc1", policy);
        }
        if (!first && !rand_augment_part(r, policy, part, err)) { return false; }
        rest += length;
        if (*rest == '-' && !*++rest) { return policy_error(policy, "", "nothing stands behind the last dash", err); }
    }
    return true;
}

// ---- levels ----

static inline double clip_magnitude(double magnitude, int highest) {
    return magnitude < 0 ? 0 : magnitude > highest ? highest : magnitude;
}

static inline bool is_blend(ImageOperationKind kind) { return kind >= OPERATION_COLOR && kind <= OPERATION_SHARPNESS; }

static inline bool has_sign(ImageOperationKind kind, bool increasing) {
    return is_geometric(kind) || (is_blend(kind) && increasing);
}

static inline double operation_argument(ImageOperationKind kind, bool increasing, double magnitude, bool negative) {
    const double one = unknown_one(), t = magnitude / 10, sign = negative ? -1 : 1;
    switch (kind) {
        case OPERATION_ROTATE: return sign * (t * 30);
        case OPERATION_POSTERIZE: return increasing ? 4 - trunc(t * 4) : trunc(t * 4);
        case OPERATION_SOLARIZE: return increasing ? 256 - fmin(256, trunc(t * 256)) : fmin(256, trunc(t * 256));
        case OPERATION_SOLARIZE_ADD: return fmin(128, trunc(t * 110));
        case OPERATION_SHEAR_X: case OPERATION_SHEAR_Y: return sign * (t * 0.3);
        case OPERATION_TRANSLATE_X: case OPERATION_TRANSLATE_Y: return sign * (t * 0.45);
        default:
            if (!is_blend(kind)) { return 0; }
            return increasing ? fmax(0.1, 1 + sign * (t * 0.9) * one) : t * 1.8 * one + 0.1;
    }
}

// ---- draws ----

// The draws of an image; those of RandAugment, two per operation, come first
enum { OPERATION_DRAWS = 32, DRAW_JITTER = 2 * MAX_RAND_OPERATIONS, DRAW_JITTER_FACTORS, DRAW_ERASURES };

// One image of one epoch
typedef struct {
    uint64_t seed, image;
    uint32_t epoch;
} ImageKey;

static inline uint64_t operation_index(ImageKey key, int draw) {
    return key.image * OPERATION_DRAWS + (uint64_t)draw;
}

static inline Random4 operation_draw(ImageKey key, int draw) {
    return random_bits(key.seed, STREAM_OPERATIONS, key.epoch, operation_index(key, draw));
}

static inline double draw_magnitude(const RandAugment* r, ImageKey key, int draw) {
    double magnitude = r->magnitude;
    if (isinf(r->deviation)) {
        magnitude *= uniform_from(operation_draw(key, draw).word[0]);
    } else if (r->deviation > 0) {
        double normal = random_normal(key.seed, STREAM_OPERATIONS, key.epoch, operation_index(key, draw));
        magnitude += r->deviation * normal * unknown_one();
    }
    return clip_magnitude(magnitude, r->highest);
}

typedef enum { GEOMETRY_BILINEAR, GEOMETRY_BICUBIC, GEOMETRY_RANDOM, GEOMETRY_NEAREST } GeometryFilter;

static inline AffineFilter geometry_filter(GeometryFilter filter, bool coin) {
    switch (filter) {
        case GEOMETRY_NEAREST: return AFFINE_NEAREST;
        case GEOMETRY_BILINEAR: return AFFINE_BILINEAR;
        case GEOMETRY_BICUBIC: return AFFINE_BICUBIC;
        default: return coin ? AFFINE_BICUBIC : AFFINE_BILINEAR;
    }
}

static inline void draw_rand_augment(OperationList* list, const RandAugment* r, ImageKey key,
                                     GeometryFilter filter) {
    for (int i = 0; i < r->operations; i++) {
        Random4 choice = operation_draw(key, 2 * i);
        if (uniform_from(choice.word[1]) > r->probability) { continue; }
        ImageOperationKind kind = (ImageOperationKind)random_below(RAND_OPERATION_KINDS, choice.word[0]);
        bool negative = has_sign(kind, r->increasing) && choice.word[2] >> 31;
        double magnitude = draw_magnitude(r, key, 2 * i + 1);
        double argument = operation_argument(kind, r->increasing, magnitude, negative);
        add_operation(list, (ImageOperation){kind, geometry_filter(filter, choice.word[3] >> 31), argument});
    }
}

// The colour of what geometric operations leave open: the mean that pixels are normalised by
static inline void fill_colour(uint8_t fill[3], const double mean[3]) {
    for (int c = 0; c < 3; c++) {
        double level = nearbyint(255.0 * mean[c]);
        fill[c] = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
    }
}
