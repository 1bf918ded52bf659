// Gradient check of a whole model: for every tensor, directional derivatives of the loss by central differences against
// <gradient, direction>.
//
// A direction is the tensor's own gradient, each element scaled by a random factor, plus noise of the gradient's root
// mean square: the first makes the change of the loss large against fp32 rounding, the second finds elements whose
// gradient is missing. The five-point formula
//     L'(0) ≈ [8 (L(h) - L(-h)) - (L(2h) - L(-2h))] / 12h,    error O(h⁴)
// is used with an h that changes the loss by about 1 %. Where it disagrees, the loss may have a kink within the
// interval (|x|, |b| or the |S| of a denominator crosses 0): h is divided by 4 until fp32 rounding hides the answer,
// which gets rid of a kink but not of a wrong gradient. A direction that agrees for no h fails; one with fewer than
// three usable values of h counts as a kink and is not judged.
#pragma once
#include "../runtime/checkpoint.h"
#include "../runtime/random.h"
#include <math.h>

#ifndef GRADCHECK_DIRECTIONS
#define GRADCHECK_DIRECTIONS 3 // of each tensor
#endif
#define GRADCHECK_TOLERANCE 1e-2 // relative; a correct model shows about 1e-4 to 2e-3 (fp32 loss, relative change 1e-2)

typedef struct { int passed, failed, kinks; double worst; } GradcheckResult;

// Moves every parameter away from its start, where denominators, biases and scales sit exactly on a kink or a symmetry.
static inline void gradcheck_move(float* params, const NamedTensor* tensors, int count, uint64_t seed) {
    for (int i = 0; i < count; i++) {
        float* p = params + tensors[i].offset;
        double squares = 0;
        for (size_t k = 0; k < tensors[i].size; k++) { squares += (double)p[k] * p[k]; }
        double size = 0.2 + 0.3 * sqrt(squares / (double)tensors[i].size);
        for (size_t k = 0; k < tensors[i].size; k++) {
            double u = 2 * random_uniform(seed, STREAM_CHECK, (uint32_t)i, k) - 1;
            p[k] += (float)(copysign(0.3 + 0.7 * fabs(u), u) * size);
        }
    }
}

static inline void gradcheck_direction(float* direction, const float* grad, size_t size, uint64_t seed, uint32_t draw) {
    double squares = 0;
    for (size_t k = 0; k < size; k++) { squares += (double)grad[k] * grad[k]; }
    double rms = sqrt(squares / (double)size) + 1e-12;
    for (size_t k = 0; k < size; k++) {
        double factor = 0.5 + random_uniform(seed, STREAM_CHECK, draw, 2 * k + 1);
        direction[k] = (float)(factor * grad[k] / rms + random_normal(seed, STREAM_CHECK, draw, 2 * k));
    }
}

typedef double (*GradcheckLoss)(void* context);

// The loss with params = start + h * direction
static inline double loss_along(GradcheckLoss loss, void* context, float* params, const float* start,
                                const float* direction, size_t size, double h) {
    for (size_t k = 0; k < size; k++) { params[k] = (float)(start[k] + h * direction[k]); }
    return loss(context);
}

static inline double five_point(GradcheckLoss loss, void* context, float* params, const float* start,
                                const float* direction, size_t size, double h) {
    double near = loss_along(loss, context, params, start, direction, size, h)
                - loss_along(loss, context, params, start, direction, size, -h);
    double far = loss_along(loss, context, params, start, direction, size, 2 * h)
               - loss_along(loss, context, params, start, direction, size, -2 * h);
    return (8 * near - far) / (12 * h);
}

typedef enum { CHECK_PASSED, CHECK_FAILED, CHECK_KINK } CheckVerdict;

// One direction of one tensor. base: the loss at the start; error: relative to slope and rounding.
static inline CheckVerdict gradcheck_one(GradcheckLoss loss, void* context, float* params, const float* start,
                                         const float* direction, const float* grad, size_t size, double base,
                                         double* error) {
    double slope = 0, length = 0;
    for (size_t k = 0; k < size; k++) {
        slope += (double)grad[k] * direction[k];
        length += (double)direction[k] * direction[k];
    }
    double h = fmin(0.01 * fabs(base) / (fabs(slope) + 1e-9), 0.01 / sqrt(length / (double)size));
    int attempts = 0;
    for (; attempts < 8; attempts++, h /= 4) {
        double noise = 3e-7 * fabs(base) / h; // observed: rounding moves the loss by some 1e-7 of itself
        if (attempts > 0 && noise > 0.1 * fabs(slope)) { break; }
        double measured = five_point(loss, context, params, start, direction, size, h);
        *error = fabs(measured - slope) / (fabs(slope) + noise / GRADCHECK_TOLERANCE);
        if (*error <= GRADCHECK_TOLERANCE) { return CHECK_PASSED; }
    }
    return attempts < 3 ? CHECK_KINK : CHECK_FAILED;
}

// params is changed during the check and restored; prints each failure, and each tensor when verbose.
static inline GradcheckResult gradcheck_run(GradcheckLoss loss, void* context, float* params, const float* grads,
                                            const NamedTensor* tensors, int count, uint64_t seed, bool verbose) {
    GradcheckResult result = {0};
    double base = loss(context);
    for (int i = 0; i < count; i++) {
        size_t size = tensors[i].size, bytes = size * sizeof(float);
        float *p = params + tensors[i].offset, *start = alloc_floats(size, "a gradient check"),
              *direction = alloc_floats(size, "a gradient check");
        const float* grad = grads + tensors[i].offset;
        double worst = 0;
        memcpy(start, p, bytes);
        for (int n = 0; n < GRADCHECK_DIRECTIONS; n++) {
            double error;
            gradcheck_direction(direction, grad, size, seed, (uint32_t)(1000 + i * GRADCHECK_DIRECTIONS + n));
            CheckVerdict verdict = gradcheck_one(loss, context, p, start, direction, grad, size, base, &error);
            result.passed += verdict == CHECK_PASSED;
            result.failed += verdict == CHECK_FAILED;
            result.kinks += verdict == CHECK_KINK;
            if (verdict == CHECK_FAILED) {
                printf("FAILED gradient of %s: relative error %.3g\n", tensors[i].name, error);
            }
            if (verdict != CHECK_KINK && !(error <= worst)) { worst = error; }
        }
        memcpy(p, start, bytes);
        if (verbose) { printf("  %-44s %9zu elements, error %.1e\n", tensors[i].name, size, worst); }
        if (!(worst <= result.worst)) { result.worst = worst; }
        free(start);
        free(direction);
    }
    return result;
}
