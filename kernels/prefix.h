// Tokens before the others: the class token (C), then registers (R,C) (Darcet et al., arXiv 2309.16588).
//     x (B,N,C) = [cls_token; reg_token; tokens (B,N-P,C)],   P of them come first
#pragma once
#include <stddef.h>
#include <string.h>

// cls_token and reg_token are NULL if there are none
static inline void prefix_forward(float* x, const float* tokens, const float* cls_token, const float* reg_token, int B,
                                  int N, int P, int C) {
    int first = cls_token ? 1 : 0; // register
    #pragma omp parallel for schedule(static)
    for (int row = 0; row < B * N; row++) {
        int b = row / N, n = row % N;
        const float* from = n < first ? cls_token : n < P ? reg_token + (size_t)(n - first) * C
                                      : tokens + ((size_t)b * (N - P) + n - P) * C;
        memcpy(x + (size_t)row * C, from, C * sizeof(float));
    }
}

// dtokens is set, the other two are added to, images in order
static inline void prefix_backward(float* dtokens, float* dcls_token, float* dreg_token, const float* dx, int B, int N,
                                   int P, int C) {
    int first = dcls_token ? 1 : 0;
    size_t of_image = (size_t)(N - P) * C;
    for (int b = 0; b < B; b++) {
        const float* d = dx + (size_t)b * N * C;
        for (int c = 0; c < P * C; c++) {
            float* to = c < first * C ? dcls_token + c : dreg_token + c - first * C;
            *to += d[c];
        }
        memcpy(dtokens + b * of_image, d + (size_t)P * C, of_image * sizeof(float));
    }
}
