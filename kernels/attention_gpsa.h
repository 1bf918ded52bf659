// Gated positional self-attention (d'Ascoli et al., "ConViT", arXiv 2103.10697): each head weighs by content and by
// place, for the N = S^2 patches of an S x S grid without a class token. For each image and head
//     patch = softmax(Q K^T / sqrt(D))        place_kq = softmax over q of  w . (dx, dy, dx^2 + dy^2)
//     A = (1 - g) patch + g place,  g = sigmoid(gating)          out = A V
// with dx, dy the offset of patch q from patch k. (A bias added to place's logits would change nothing, since softmax
// cancels it.) place does not depend on the image; it is computed into scratch once per call. As in attention.h, each
// thread's scratch holds one tile of rows of A at a time, and nothing but each row's log-sum-exp is saved.
//     qkv (B,N,3,H,D)     position (H,3), w     gating (H)     out (B,N,C), C = H D     lse (B,H,N)
// The gradient of A is summed over the images in up to GPSA_SLOTS slots, each a fixed set of images, and the slots in
// order: no result depends on the number of threads.
#pragma once
#include "activation_values.h"
#include "attention.h"
#include "partials.h"
#include <stdint.h>

enum { GPSA_SLOTS = 8 };

static inline int gpsa_slots(int B) { return min_int(B, GPSA_SLOTS); }

// Floats of a head's place, and of a slot of the gradient of A; one more holds the slot's sum of patch dA
static inline size_t gpsa_matrix(int N) { return (size_t)N * attention_stride(N); }
static inline size_t gpsa_slot(int N) { return gpsa_matrix(N) + VM_LANES; }

// place (H,N,stride), the threads' tiles, the slots (H,slots)
static inline size_t gpsa_scratch(int B, int N, int H) {
    return H * gpsa_matrix(N) + attention_scratch(N) + (size_t)gpsa_slots(B) * H * gpsa_slot(N);
}

static inline void gpsa_place(float* place, const float* position, int N, int H) {
    int S = (int)lroundf(sqrtf(N)), lds = attention_stride(N);
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < H * N; row++) {
        const float* w = position + row / N * 3;
        float *to = place + (size_t)row * lds, *logit = to;
        for (int dy = -(row % N / S); dy < S - row % N / S; dy++) {
            for (int dx = -(row % S); dx < S - row % S; dx++) {
                *logit++ = w[0] * dx + w[1] * dy + w[2] * (dx * dx + dy * dy);
            }
        }
        softmax_row(to, N);
    }
}

// One image and head
static inline void gpsa_head_forward(float* out, float* lse, const float* q, const float* place, float g,
                                     float* scratch, int N, int C, int D) {
    int rows = attention_rows(N), lds = attention_stride(N), ld = 3 * C;
    for (int n = 0; n < N; n += rows) {
        int count = min_int(rows, N - n);
        gemm(false, true, count, N, D, 1 / sqrtf(D), q + (size_t)n * ld, ld, q + C, ld, 0, scratch, lds);
        for (int i = 0; i < count; i++) {
            float* row = scratch + (size_t)i * lds;
            const float* place_row = place + (size_t)(n + i) * lds;
            lse[n + i] = softmax_row(row, N);
            for (int j = 0; j < lds; j++) { row[j] += g * (place_row[j] - row[j]); }
        }
        gemm(false, false, count, D, N, 1, scratch, lds, q + 2 * C, ld, 0, out + (size_t)n * C, C);
    }
}

static inline void gpsa_forward(float* out, float* lse, const float* qkv, const float* position, const float* gating,
                                float* scratch, int B, int N, int C, int H) {
    int D = C / H;
    float *place = scratch, *tiles = place + H * gpsa_matrix(N);
    gpsa_place(place, position, N, H);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * H; bh++) {
        int b = bh / H, h = bh % H;
        gpsa_head_forward(out + (size_t)b * N * C + h * D, lse + (size_t)bh * N, qkv + 3 * (size_t)b * N * C + h * D,
                          place + h * gpsa_matrix(N), sigmoid(gating[h]),
                          tiles + thread_number() * 2 * attention_tile(N), N, C, D);
    }
}

// A row of logits and of dA, to A and dS = patch ((1 - g) dA - delta), delta = (1 - g) patch . dA. dA_sum += dA;
// returns patch . dA.
static inline float gpsa_row_backward(float* S, float* dA, float* dA_sum, const float* place, float lse, float g,
                                      int N) {
    int lds = attention_stride(N);
    for (int j = N; j < lds; j++) { S[j] = -INFINITY, dA[j] = 0; }
    for (int j = 0; j < lds; j++) {
        S[j] = vm_exp_negative(S[j] - lse);
        dA_sum[j] += dA[j];
    }
    float along = vm_row_dot(S, dA, lds);
    for (int j = 0; j < lds; j++) {
        dA[j] = (1 - g) * S[j] * (dA[j] - along);
        S[j] += g * (place[j] - S[j]);
    }
    return along;
}

// One image and head, the forward lines: S = Q K^T / sqrt(D); patch = exp(S - lse); A = patch + g (place - patch);
// out = A V. A slot's sums are added to: of dA, and behind it of patch dA.
static inline void gpsa_head_backward(float* dq, float* slot, const float* dout, const float* lse, const float* q,
                                      const float* place, float g, float* scratch, int N, int C, int D) {
    const float *k = q + C, *v = q + 2 * C;
    float *dk = dq + C, *dv = dq + 2 * C, scale = 1 / sqrtf(D);
    int rows = attention_rows(N), ld = 3 * C, lds = attention_stride(N);
    float *A = scratch, *dA = scratch + attention_tile(N);
    for (int n = 0; n < N; n += rows) {
        int count = min_int(rows, N - n);
        const float *q_tile = q + (size_t)n * ld, *dout_tile = dout + (size_t)n * C;
        float keep = n > 0; // the first tile sets dk and dv, the others add to them
        gemm(false, true, count, N, D, scale, q_tile, ld, k, ld, 0, A, lds);
        gemm(false, true, count, N, D, 1, dout_tile, C, v, ld, 0, dA, lds);
        for (int i = 0; i < count; i++) {
            size_t row = (size_t)i * lds, whole_row = (size_t)(n + i) * lds;
            slot[gpsa_matrix(N)] += gpsa_row_backward(A + row, dA + row, slot + whole_row, place + whole_row,
                                                      lse[n + i], g, N);
        }
        gemm(true, false, N, D, count, 1, A, lds, dout_tile, C, keep, dv, ld);
        gemm(false, false, count, D, N, scale, dA, lds, k, ld, 0, dq + (size_t)n * ld, ld);
        gemm(true, false, N, D, count, scale, dA, lds, q_tile, ld, keep, dk, ld);
    }
}

// One head, from the sums over all images. The forward lines: place = softmax(w . offsets);
// A = patch + g (place - patch). Both gradients are added to.
static inline void gpsa_place_backward(float* dposition, float* dgating, const float* dA, float patch_dA,
                                       const float* place, float g, int N) {
    int S = (int)lroundf(sqrtf(N)), lds = attention_stride(N);
    double place_dA = 0, dw[3] = {0};
    for (int k = 0; k < N; k++, place += lds, dA += lds) {
        float along = vm_row_dot(place, dA, N);
        const float *p = place, *d = dA;
        place_dA += along;
        for (int dy = -(k / S); dy < S - k / S; dy++) {
            for (int dx = -(k % S); dx < S - k % S; dx++) {
                float dS = *p++ * (*d++ - along);
                dw[0] += dS * dx, dw[1] += dS * dy, dw[2] += dS * (dx * dx + dy * dy);
            }
        }
    }
    for (int i = 0; i < 3; i++) { dposition[i] += (float)(g * dw[i]); }
    *dgating += (float)(g * (1 - g) * (place_dA - patch_dA));
}

// dposition and dgating are added to
static inline void gpsa_backward(float* dqkv, float* dposition, float* dgating, const float* dout, const float* lse,
                                 const float* qkv, const float* position, const float* gating, float* scratch, int B,
                                 int N, int C, int H) {
    int D = C / H, slots = gpsa_slots(B);
    size_t matrix = gpsa_matrix(N), slot_size = gpsa_slot(N);
    float *place = scratch, *tiles = place + H * matrix, *sums = tiles + attention_scratch(N); // (H,slots)
    gpsa_place(place, position, N, H);
    memset(sums, 0, H * slots * slot_size * sizeof *sums);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < slots * H; task++) {
        int s = task % slots, h = task / slots;
        for (int b = (int)((int64_t)s * B / slots); b < (int)((int64_t)(s + 1) * B / slots); b++) {
            size_t at = (size_t)b * N * C + h * D, at_q = 3 * (size_t)b * N * C + h * D;
            gpsa_head_backward(dqkv + at_q, sums + task * slot_size, dout + at, lse + (size_t)(b * H + h) * N,
                               qkv + at_q, place + h * matrix, sigmoid(gating[h]),
                               tiles + thread_number() * 2 * attention_tile(N), N, C, D);
        }
    }
    for (int h = 0; h < H; h++) {
        float* head_sums = sums + h * slots * slot_size; // the others are added to the first slot
        add_partials(head_sums, head_sums + slot_size, slots - 1, (int)slot_size);
    }
    #pragma omp parallel for schedule(static)
    for (int h = 0; h < H; h++) {
        const float* dA = sums + h * slots * slot_size;
        gpsa_place_backward(dposition + 3 * h, dgating + h, dA, dA[matrix], place + h * matrix, sigmoid(gating[h]), N);
    }
}
