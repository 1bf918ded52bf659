// A sigmoid gate on the output of each head of attention (Qiu et al., "Gated Attention for Large Language Models",
// arXiv 2505.06708): for each token and head
//     g = 1 / (1 + e^-s), s = W x      out_h = g_h mix_h
// x is the block's normalised input, from which the queries are made as well: the gate depends on the query. This is
// their head-wise form, applied to the weighted values and without a bias: H C parameters per block, and gates near 1/2
// at the start. A gate for each channel would have C^2 parameters, as many as the projection that follows.
//     s (rows,H), a linear layer's product     mix, out (rows,C), C = H D
#pragma once
#include "activation_values.h"
#include <stddef.h>

static inline void gate_forward(float* out, const float* s, const float* mix, int rows, int C, int H) {
    int D = C / H;
    #pragma omp parallel for schedule(static)
    for (int head = 0; head < rows * H; head++) {
        size_t at = (size_t)head * D;
        float g = sigmoid(s[head]);
        for (int i = 0; i < D; i++) { out[at + i] = g * mix[at + i]; }
    }
}

// The forward line: out_h = g_h mix_h. dmix = and may be dout; ds = g (1 - g) sum_i dout_i mix_i.
static inline void gate_backward(float* dmix, float* ds, const float* dout, const float* s, const float* mix, int rows,
                                 int C, int H) {
    int D = C / H;
    #pragma omp parallel for schedule(static)
    for (int head = 0; head < rows * H; head++) {
        size_t at = (size_t)head * D;
        float g = sigmoid(s[head]);
        ds[head] = g * (1 - g) * vm_row_dot(dout + at, mix + at, D);
        for (int i = 0; i < D; i++) { dmix[at + i] = g * dout[at + i]; }
    }
}
