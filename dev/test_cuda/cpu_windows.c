// The functions of cpu_windows.h.
#include "cpu_windows.h"
#include "../../kernels/attention_gpsa.h"
#include "../../kernels/attention_window.h"
#include "../../kernels/patch_merge.h"
#include "../../runtime/memory.h"

void cpu_window_attention(float* out, float* lse, float* dqkv, float* dtable, const float* qkv, const float* table,
                          const float* dout, int B, Windows w, int C, int H, int D) {
    float* scratch = alloc_floats(window_attention_scratch(B, w, H, D), "test");
    matmul_init();
    window_attention_forward(out, lse, qkv, table, scratch, B, w, C, H, D);
    window_attention_backward(dqkv, dtable, dout, out, lse, qkv, table, scratch, B, w, C, H, D);
    free(scratch);
}

void cpu_gpsa(float* out, float* lse, float* dqkv, float* dposition, float* dgating, const float* qkv,
              const float* position, const float* gating, const float* dout, int B, int N, int C, int H) {
    float* scratch = alloc_floats(gpsa_scratch(B, N, H), "test");
    matmul_init();
    gpsa_forward(out, lse, qkv, position, gating, scratch, B, N, C, H);
    gpsa_backward(dqkv, dposition, dgating, dout, lse, qkv, position, gating, scratch, B, N, C, H);
    free(scratch);
}

void cpu_patch_merge(float* out, float* dx, const float* x, const float* dout, int B, int grid, int C) {
    patch_merge_forward(out, x, B, grid, C);
    patch_merge_backward(dx, dout, B, grid, C);
}
