// The functions of cpu_attention.h.
#include "cpu_attention.h"
#include "../../kernels/attention.h"
#include "../../kernels/karat.h"
#include "../../runtime/memory.h"

void cpu_attention(float* out, float* lse, float* dqkv, const float* qkv, const float* dout, int B, int N, int NQ,
                   int C, int H, int D) {
    float* scratch = alloc_floats(attention_scratch(N), "test");
    matmul_init();
    attention_forward(out, lse, qkv, scratch, B, N, NQ, C, H, D);
    attention_backward(dqkv, dout, out, lse, qkv, scratch, B, N, NQ, C, H, D);
    free(scratch);
}

void cpu_karat(float* out, float* z, float* dqkv, KaratGrads grads, const float* qkv, const float* dout,
               KaratParams params, KaratDims d) {
    float* scratch = alloc_floats(karat_scratch(d), "test");
    matmul_init();
    karat_forward(out, z, qkv, params, scratch, d);
    karat_backward(dqkv, grads, dout, z, qkv, params, scratch, d);
    free(scratch);
}

void cpu_simplex(float* out, float* dx, const float* x, const float* dout, Projection kind, int rows, int N) {
    float* scratch = alloc_floats(simplex_scratch(N), "test");
    for (size_t at = 0; at < (size_t)rows * N; at += N) {
        simplex_row_forward(out + at, x + at, kind, scratch, N);
        simplex_row_backward(dx + at, dout + at, out + at, x + at, kind, N);
    }
    free(scratch);
}
