// The controls of KArAt, attention's gate and the KAN layer on the CPU, forward and backward, for tests of the GPU's:
// cpu_controls.c is compiled as C, as cpu_kernels.c is. Gradients of parameters are added to.
#pragma once
#include "../../kernels/basis.h"
#include "../../kernels/pointwise_kind.h"

#ifdef __cplusplus
extern "C" {
#endif
void cpu_pointwise(float* out, float* dqkv, const float* qkv, const float* dout, PointwiseKind kind, int B, int N,
                   int NQ, int C, int H);
void cpu_gate(float* out, float* dmix, float* ds, const float* s, const float* mix, const float* dout, int rows, int C,
              int H);
void cpu_mixing(float* out, float* dqkv, float* dmix, const float* qkv, const float* mix, const float* dout, int B,
                int N, int NQ, int C, int H);
void cpu_rank(float* out, float* lse, float* dqkv, float* ddown, float* dW, const float* qkv, const float* down,
              const float* W, const float* dout, int B, int N, int NQ, int C, int H, int R);
void cpu_linear_attention(float* out, float* dqkv, const float* qkv, const float* dout, int B, int N, int NQ, int C,
                          int H);
void cpu_kan(float* out, float* dinp, float* dweight, float* dspline_weight, float* dbias, const float* inp,
             const float* weight, const float* spline_weight, const float* bias, const float* dout, int rows, int C,
             int OC, Basis basis);
#ifdef __cplusplus
}
#endif
