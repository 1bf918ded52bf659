// The activations as defined by the rows of kernels/activation_kind.h, in double precision, with which the tests
// compare kernels/activation.h. Their slopes are differences of five values.
#pragma once
#include "../../kernels/activation_kind.h"
#include <math.h>
#include <stdbool.h>

static inline double plain_activation(ActivationKind kind, double x) {
#define DEFINITION_CASE(constant, name, note, function, ...) case constant: return __VA_ARGS__;
    switch (kind) {
    ACTIVATIONS(DEFINITION_CASE)
    case ACTIVATION_COUNT: break;
    }
#undef DEFINITION_CASE
    return NAN;
}

static const double SLOPE_STEP = 1e-4; // the differences are then accurate to 1e-11

static inline double plain_activation_slope(ActivationKind kind, double x) {
    double h = SLOPE_STEP, near = plain_activation(kind, x + h) - plain_activation(kind, x - h);
    return (8 * near - plain_activation(kind, x + 2 * h) + plain_activation(kind, x - 2 * h)) / (12 * h);
}

// Whether the slope changes by more than 0.05 so near to x that the differences mean nothing
static inline bool plain_activation_has_kink(ActivationKind kind, double x) {
    double wide = 4 * SLOPE_STEP, above = plain_activation(kind, x + wide), below = plain_activation(kind, x - wide);
    return fabs(above - 2 * plain_activation(kind, x) + below) > 0.05 * wide;
}
