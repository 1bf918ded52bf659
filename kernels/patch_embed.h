// Images (B, 3, S, S) to tokens (B, N, C) (Dosovitskiy et al., arXiv 2010.11929): each P x P patch goes through one
// linear map (a convolution of stride P), the class token, if any, is put before them, and learned positions are added.
// T = (S/P)^2 patches per image, row by row; N = T + 1 with a class token, else T. S is a multiple of P.
#pragma once
#include "matmul.h"
#include <string.h>

// The T patches of every image as rows: (B*T, 3*P*P), in the order of weight (C, 3, P, P)
static inline void extract_patches(float* patches, const float* images, int B, int S, int P) {
    int side = S / P, T = side * side, K = 3 * P * P;
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * T; row++) {
        int b = row / T, top = row % T / side * P, left = row % side * P;
        float* patch = patches + (size_t)row * K;
        for (int channel = 0; channel < 3; channel++) {
            const float* plane = images + ((size_t)b * 3 + channel) * S * S;
            for (int y = 0; y < P; y++, patch += P) {
                memcpy(patch, plane + (size_t)(top + y) * S + left, P * sizeof(float));
            }
        }
    }
}

// The embedded patches without class tokens (B*T, C), and what the linear map's backward needs
static inline size_t patch_embed_scratch(int B, int S, int P, int C) {
    int T = (S / P) * (S / P);
    return (size_t)B * T * C + linear_backward_scratch(B * T, 3 * P * P, C);
}

// out (B, N, C); patches (B, T, 3*P*P) is kept for the backward; cls_token (C) or NULL; pos_embed (N, C) or NULL
static inline void patch_embed_forward(float* out, float* patches, const float* images, const float* weight,
                                       const float* bias, const float* cls_token, const float* pos_embed,
                                       float* scratch, int B, int S, int P, int C) {
    int T = (S / P) * (S / P), prefix = cls_token ? 1 : 0, N = T + prefix;
    extract_patches(patches, images, B, S, P);
    linear_forward(scratch, patches, weight, bias, B * T, 3 * P * P, C);
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * N; row++) {
        int b = row / N, n = row % N;
        const float* token = n < prefix ? cls_token : scratch + ((size_t)b * T + n - prefix) * C;
        float* to = out + (size_t)row * C;
        memcpy(to, token, C * sizeof(float));
        for (int c = 0; pos_embed && c < C; c++) { to[c] += pos_embed[(size_t)n * C + c]; }
    }
}

// out = [cls_token; patches weight^T + bias] + pos_embed: all gradients +=; dcls_token and dpos_embed are NULL
// where there is none
static inline void patch_embed_backward(float* dweight, float* dbias, float* dcls_token, float* dpos_embed,
                                        const float* dout, const float* patches, float* scratch,
                                        int B, int S, int P, int C) {
    int T = (S / P) * (S / P), prefix = dcls_token ? 1 : 0, N = T + prefix;
    float *dtokens = scratch, *linear_scratch = scratch + (size_t)B * T * C;
    #pragma omp parallel for schedule(static)
    for (int n = 0; n < N; n++) { // each position belongs to one thread, which adds images in order
        for (int b = 0; b < B; b++) {
            const float* d = dout + ((size_t)b * N + n) * C;
            for (int c = 0; dpos_embed && c < C; c++) { dpos_embed[(size_t)n * C + c] += d[c]; }
            if (n < prefix) {
                for (int c = 0; c < C; c++) { dcls_token[c] += d[c]; }
            } else {
                memcpy(dtokens + ((size_t)b * T + n - prefix) * C, d, C * sizeof(float));
            }
        }
    }
    linear_backward(NULL, dweight, dbias, dtokens, patches, NULL, linear_scratch, B * T, 3 * P * P, C);
}
