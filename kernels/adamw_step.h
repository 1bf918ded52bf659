// What AdamW on the CPU and on the GPU have in common: the parts that a flat buffer is cut into, and the numbers of a
// step.
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GROUP_FLOATS = 256,   // AdamW treats these alike: every tensor starts at a multiple of them
    GRANULE_FLOATS = 2048 // their squares are summed at a time
};

// Floats, or granules, first ... end - 1. Like everything that a std::vector holds in CUDA code, it has a tag of its
// own: nvcc 13.0 crashes on a struct that is named by a typedef alone.
typedef struct Slice { size_t first, end; } Slice;

static inline size_t granules_of(size_t n) { return (n + GRANULE_FLOATS - 1) / GRANULE_FLOATS; }

// The numbers that are specific to a step, for one group of parameters
typedef struct AdamWStep {
    float step, v_scale, decay; // lr / (1-β1^t), 1 / √(1-β2^t), 1 - lr wd
} AdamWStep;

typedef struct {
    float beta1, beta2, eps, ema_decay;
} AdamW;

static inline AdamWStep adamw_step(float lr, float beta1, float beta2, float weight_decay, int64_t t) {
    return (AdamWStep){(float)(lr / (1 - pow(beta1, (double)t))), (float)(1 / sqrt(1 - pow(beta2, (double)t))),
                       (float)(1 - (double)lr * weight_decay)};
}
