// What the trainer's kernels never form: the logits A and the weights sigma of attention, each (B,H,N,N) with one row k
// per query, for one block, from the activations left by model_forward.
//     A = Q K^T / sqrt(D)          out_k = sum_n sigma_kn V_n
// Every kind of attention is linear in its values: given unit vectors instead, its own kernel returns sigma, D columns
// at a time. So sigma is what the model computes with, for any attention.
#pragma once
#include "../../kernels/matmul.h"

static void attention_logits(float* A, const Model* m, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = m->dims.D;
    for (int bh = 0; bh < B * H; bh++) {
        const float* q = a.qkv + (size_t)(bh / H) * N * 3 * C + bh % H * D;
        gemm(false, true, N, N, D, 1 / sqrtf(D), q, 3 * C, q + C, 3 * C, 0, A + (size_t)bh * N * N, N);
    }
}

// Sets the values of every head: row n of V is a unit vector if first <= n < first + D, else 0.
static void set_unit_values(float* qkv, const Model* m, int first, int B) {
    int N = m->dims.N, C = m->dims.C, D = m->dims.D;
    for (int i = 0; i < B * N; i++) {
        float* v = qkv + (size_t)i * 3 * C + 2 * C;
        for (int c = 0; c < C; c++) { v[c] = i % N - first == c % D; }
    }
}

// p: the block's parameters
static void attention_weights(float* sigma, const Model* m, Params p, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = m->dims.D;
    size_t tokens = (size_t)B * N;
    Acts unit = a;
    unit.qkv = alloc_floats(3 * tokens * C, "attention maps");
    unit.mix = alloc_floats(tokens * C, "attention maps");
    memcpy(unit.qkv, a.qkv, 3 * tokens * C * sizeof(float));
    for (int first = 0; first < N; first += D) {
        int count = N - first < D ? N - first : D;
        set_unit_values(unit.qkv, m, first, B);
        attend_forward(m, p, unit, m->dims, B);
        for (size_t row = 0; row < tokens * H; row++) { // image, head, token
            size_t bh = row / N, token = bh / H * N + row % N;
            memcpy(sigma + row * N + first, unit.mix + token * C + bh % H * D, count * sizeof(float));
        }
    }
    free(unit.qkv);
    free(unit.mix);
}
