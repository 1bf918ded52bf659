// The CPU functions that the CUDA kernels are held against. They are C with vector types, which nvcc does not take:
// cpu_kernels.c is compiled by the C compiler and hands them over in this table.
#pragma once
#include "../../kernels/activation_kind.h"
#include "../../kernels/adamw_step.h"
#include "../../kernels/rational_shape.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    void (*activation_forward)(float* out, const float* inp, ActivationKind kind, size_t n);
    void (*activation_backward)(float* dinp, const float* dout, const float* inp, ActivationKind kind, size_t n);
    void (*prelu_forward)(float* out, const float* inp, const float* weight, size_t n);
    void (*prelu_backward)(float* dinp, float* dweight, const float* dout, const float* inp, const float* weight,
                           float* scratch, size_t n);
    size_t (*prelu_scratch)(size_t n);

    void (*rational_forward)(float* out, const float* inp, const float* numerator, const float* denominator, int rows,
                             int C, RationalShape s);
    void (*rational_backward)(float* dinp, float* dnumerator, float* ddenominator, const float* dout, const float* inp,
                              const float* numerator, const float* denominator, float* scratch, int rows, int C,
                              RationalShape s);
    size_t (*rational_scratch)(int rows, int C, RationalShape s);

    void (*layernorm_forward)(float* out, float* mean, float* rstd, const float* inp, const float* weight,
                              const float* bias, float eps, int rows, int C);
    void (*layernorm_backward)(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp,
                               const float* weight, const float* mean, const float* rstd, float* scratch, int rows,
                               int C);
    size_t (*layernorm_scratch)(int rows, int C);

    void (*residual_forward)(float* out, const float* x, const float* branch, const float* layer_scale,
                             const float* keep, int B, int N, int C);
    void (*residual_backward)(float* dbranch, float* dlayer_scale, const float* dout, const float* branch,
                              const float* layer_scale, const float* keep, float* scratch, int B, int N, int C);
    size_t (*residual_scratch)(int B, int N, int C);
    void (*pool_forward)(float* out, const float* x, bool average, int prefix, int B, int N, int C);
    void (*pool_backward)(float* dx, const float* dout, bool average, int prefix, int B, int N, int C);

    void (*prefix_forward)(float* x, const float* tokens, const float* cls_token, const float* reg_token, int B, int N,
                           int P, int C);
    void (*prefix_backward)(float* dtokens, float* dcls_token, float* dreg_token, const float* dx, int B, int N, int P,
                            int C);
    void (*extract_patches)(float* patches, const float* images, int B, int S, int P);
    void (*patch_embed_backward)(float* dweight, float* dbias, float* dcls_token, float* dpos_embed, const float* dout,
                                 const float* patches, float* scratch, int B, int S, int P, int C);
    size_t (*patch_embed_scratch)(int B, int S, int P, int C);

    void (*cross_entropy_forward)(float* losses, float* probs, const float* logits, const float* targets, int B, int K);
    void (*cross_entropy_backward)(float* dlogits, const float* probs, const float* targets, float dloss, int B, int K);
    int (*rank_of_label)(const float* logits, int K, int label);

    void (*adamw_update)(float* params, float* m, float* v, float* ema, const float* grads, const uint8_t* groups,
                         size_t n, AdamW c, const AdamWStep* steps, float grad_scale);
    void (*granule_squares)(double* squares, const float* grads, size_t n);
    double (*norm_of_granules)(const double* squares, size_t granules);
} CpuKernels;

#ifdef __cplusplus
extern "C"
#else
extern
#endif
const CpuKernels cpu;
