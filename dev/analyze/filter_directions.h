// A random direction in the space of the parameters, normalised filter by filter (Li et al., 2018, arXiv 1712.09913): a
// Gaussian one in which each filter has the same length as in the weights, so that models whose weights differ in scale
// can be compared. A filter produces one output:
//     (OC, C) and (C, 3, P, P), splines (F, C, M)     a row of all but the first dimension
//     with heads, (H, R, M, N), (H, N, R), (H, N, N)  and (1, N, C): of all but the first two
// One-dimensional parameters (biases, norms, LayerScale) stay as they are.
#pragma once
#include "../../model/parameters.h"

static inline size_t filter_size(const NamedTensor* t) {
    bool plain = t->rank == 2 || strstr(t->name, "patch_embed") || strstr(t->name, "spline");
    int64_t filters = plain ? t->shape[0] : t->shape[0] * t->shape[1];
    return t->size / (size_t)filters;
}

static inline void scale_filter(float* d, const float* theta, size_t n) {
    double own = 0, wanted = 0;
    for (size_t i = 0; i < n; i++) {
        own += (double)d[i] * d[i];
        wanted += (double)theta[i] * theta[i];
    }
    for (size_t i = 0; i < n; i++) { d[i] *= (float)sqrt(wanted / own); }
}

// direction, theta: flat. which: distinguishes two draws of one seed
static inline void filter_direction(float* direction, const float* theta, const NamedTensor* tensors, int count,
                                    uint64_t seed, uint32_t which) {
    size_t before = 0; // elements of the tensors before t, wherever they are stored
    for (int k = 0; k < count; before += tensors[k++].size) {
        const NamedTensor* t = &tensors[k];
        float* d = direction + t->offset;
        for (size_t i = 0; i < t->size; i++) {
            d[i] = t->rank == 1 ? 0 : (float)random_normal(seed, STREAM_CHECK, which, before + i);
        }
        if (t->rank == 1) { continue; }
        size_t n = filter_size(t);
        for (size_t i = 0; i < t->size; i += n) { scale_filter(d + i, theta + t->offset + i, n); }
    }
}
