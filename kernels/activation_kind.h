// The pointwise activations of activation.h and activation.cuh, a row each; C and C++ alike. A new one needs a row here
// and formulas NAME_value and NAME_slope in activation_values.h, nothing else.
//   A(constant, name as a choice of --mlp, note for --list, NAME, definition)
// The definition is plain C in double precision, of x, which the tests compare the formulas with.
#pragma once
#include "../runtime/choices.h"

#define ACTIVATIONS(A) \
A(ACTIVATION_GELU, "gelu", "linear, x Φ(x) with Φ the normal distribution, linear", gelu, x * erfc(-x / sqrt(2)) / 2) \
A(ACTIVATION_RELU, "relu", "linear, max(x, 0), linear", relu, x > 0 ? x : 0) \
A(ACTIVATION_SILU, "silu", "linear, x / (1 + e^-x), linear; also called swish", silu, x / (1 + exp(-x))) \
A(ACTIVATION_SOFTPLUS, "softplus", "linear, log(1 + e^x), linear", softplus, fmax(x, 0) + log1p(exp(-fabs(x))))

typedef enum { ACTIVATIONS(CHOICE_CONSTANT) ACTIVATION_COUNT } ActivationKind;
