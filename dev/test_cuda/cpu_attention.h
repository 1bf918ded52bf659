// Attention on the CPU, forward and backward, for tests of the GPU's: cpu_attention.c is compiled as C, as
// cpu_kernels.c is.
#pragma once
#include "../../kernels/karat_dims.h"

#ifdef __cplusplus
extern "C" {
#endif
void cpu_attention(float* out, float* lse, float* dqkv, const float* qkv, const float* dout, int B, int N, int NQ,
                   int C, int H, int D);
void cpu_karat(float* out, float* z, float* dqkv, KaratGrads grads, const float* qkv, const float* dout,
               KaratParams params, KaratDims d);
// out (rows,N) = projections of the rows of x, and dx from dout
void cpu_simplex(float* out, float* dx, const float* x, const float* dout, Projection kind, int rows, int N);
#ifdef __cplusplus
}
#endif
