// Numbers of attention maps. A row w (N) may have negative entries if attention is not softmax; its mass is sum |w_n|.
#pragma once
#include "../../runtime/memory.h"
#include <float.h>
#include <math.h>
#include <stdbool.h>

// -sum p ln p of p = |w| / sum |w|, in nats: ln N if all tokens have the same mass, 0 if one has all of it
static inline double map_entropy(const float* w, int n) {
    double mass = 0, entropy = 0;
    for (int i = 0; i < n; i++) { mass += fabs(w[i]); }
    for (int i = 0; i < n && mass > 0; i++) {
        double p = fabs(w[i]) / mass;
        if (p > 0) { entropy -= p * log(p); }
    }
    return entropy;
}

// The share of the mass in negative entries
static inline double map_negative_share(const float* w, int n) {
    double mass = 0, negative = 0;
    for (int i = 0; i < n; i++) {
        mass += fabs(w[i]);
        negative += w[i] < 0 ? -(double)w[i] : 0;
    }
    return mass > 0 ? negative / mass : 0;
}

// The share of the positive entries' sum that is inside a region, NaN if none is positive; inside (n): the part of each
// patch that is in the region
static inline double map_inside_share(const float* w, const float* inside, int n) {
    double sum = 0, within = 0;
    for (int i = 0; i < n; i++) {
        double positive = w[i] > 0 ? w[i] : 0;
        sum += positive;
        within += positive * inside[i];
    }
    return sum > 0 ? within / sum : NAN;
}

// The fewest patches whose positive entries have this share of the positive entries' sum: mask (n) of 0 and 1. Among
// equal entries the earlier come first.
static inline void map_mass_mask(bool* mask, const float* w, double share, int n) {
    double sum = 0, held = 0;
    for (int i = 0; i < n; i++) {
        sum += w[i] > 0 ? w[i] : 0;
        mask[i] = false;
    }
    while (held < share * sum) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            if (!mask[i] && w[i] > 0 && (best < 0 || w[i] > w[best])) { best = i; }
        }
        if (best < 0) { return; }
        mask[best] = true;
        held += w[best];
    }
}

// Bilinear, pixel centres on pixel centres, edges repeated: map (side,side) to out (S,S)
static inline void map_upsample(float* out, const float* map, int side, int S) {
    for (int i = 0; i < S * S; i++) {
        double at[2];
        int low[2], high[2];
        for (int axis = 0; axis < 2; axis++) {
            double x = ((axis ? i % S : i / S) + 0.5) * side / S - 0.5;
            x = x < 0 ? 0 : x > side - 1 ? side - 1 : x;
            low[axis] = (int)x;
            high[axis] = low[axis] + (low[axis] < side - 1);
            at[axis] = x - low[axis];
        }
        const float *upper = map + low[0] * side, *lower = map + high[0] * side;
        double top = (1 - at[1]) * upper[low[1]] + at[1] * upper[high[1]];
        double bottom = (1 - at[1]) * lower[low[1]] + at[1] * lower[high[1]];
        out[i] = (float)((1 - at[0]) * top + at[0] * bottom);
    }
}

// ---- Position and content. Of maps w_i(x), i = 1..E, of images x = 1..n, with the mean map w_i and its mean m:
//     content   = sum_x sum_i (w_i(x) - w_i)^2 / ((n - 1) E)    how much an entry varies from image to image
//     position  = sum_i (w_i - m)^2 / E - content / n           how much the mean map varies from entry to entry, less
//                                                               what n images leave of content in it; at least 0
//     share of position = position / (position + content)
// 1: all images have the same map; 0: on average, no entry is larger than another. The level m counts as neither: a map
// that is constant to the precision of fp32 has no share (NaN).
typedef struct {
    size_t entries;
    double images;
    double *mean, *squares; // (entries): of w_i(x), and sum of (w_i(x) - mean)^2
} MapVariance;

static inline MapVariance map_variance_create(size_t entries) {
    return (MapVariance){entries, 0, alloc_array(double, entries, "the mean of attention maps"),
                         alloc_array(double, entries, "the variance of attention maps")};
}

static inline void map_variance_free(MapVariance* v) {
    free(v->mean);
    free(v->squares);
}

static inline void map_variance_add(MapVariance* v, const float* map) {
    v->images++;
    for (size_t i = 0; i < v->entries; i++) {
        double delta = map[i] - v->mean[i];
        v->mean[i] += delta / v->images;
        v->squares[i] += delta * (map[i] - v->mean[i]);
    }
}

typedef struct { double position, content, share; } PositionContent;

static inline PositionContent position_content(const MapVariance* v) {
    double level = 0, between = 0, within = 0, E = (double)v->entries;
    for (size_t i = 0; i < v->entries; i++) { level += v->mean[i] / E; }
    for (size_t i = 0; i < v->entries; i++) {
        between += (v->mean[i] - level) * (v->mean[i] - level) / E;
        within += v->squares[i] / E;
    }
    double content = v->images > 1 ? within / (v->images - 1) : 0;
    double position = fmax(between - content / v->images, 0);
    bool varies = position + content > pow(FLT_EPSILON * level, 2);
    return (PositionContent){position, content, varies ? position / (position + content) : NAN};
}
