// Attention in windows, gated positional attention and patch merging on the CPU, forward and backward, for tests of the
// GPU's: cpu_windows.c is compiled as C, as cpu_kernels.c is. Gradients of parameters are added to.
#pragma once
#include "../../kernels/windows.h"

#ifdef __cplusplus
extern "C" {
#endif
void cpu_window_attention(float* out, float* lse, float* dqkv, float* dtable, const float* qkv, const float* table,
                          const float* dout, int B, Windows w, int C, int H, int D);
void cpu_gpsa(float* out, float* lse, float* dqkv, float* dposition, float* dgating, const float* qkv,
              const float* position, const float* gating, const float* dout, int B, int N, int C, int H);
void cpu_patch_merge(float* out, float* dx, const float* x, const float* dout, int B, int grid, int C);
#ifdef __cplusplus
}
#endif
