// The functions of cpu_controls.h.
#include "cpu_controls.h"
#include "../../kernels/attention_gate.h"
#include "../../kernels/attention_linear.h"
#include "../../kernels/attention_mixing.h"
#include "../../kernels/attention_pointwise.h"
#include "../../kernels/attention_rank.h"
#include "../../kernels/kan.h"
#include "../../runtime/memory.h"

void cpu_pointwise(float* out, float* dqkv, const float* qkv, const float* dout, PointwiseKind kind, int B, int N,
                   int NQ, int C, int H) {
    float* scratch = alloc_floats(pointwise_scratch(N), "test");
    matmul_init();
    pointwise_forward(out, qkv, kind, scratch, B, N, NQ, C, H);
    pointwise_backward(dqkv, dout, qkv, kind, scratch, B, N, NQ, C, H);
    free(scratch);
}

void cpu_gate(float* out, float* dmix, float* ds, const float* s, const float* mix, const float* dout, int rows, int C,
              int H) {
    gate_forward(out, s, mix, rows, C, H);
    gate_backward(dmix, ds, dout, s, mix, rows, C, H);
}

void cpu_mixing(float* out, float* dqkv, float* dmix, const float* qkv, const float* mix, const float* dout, int B,
                int N, int NQ, int C, int H) {
    float* scratch = alloc_floats(mixing_scratch(B, N, H), "test");
    matmul_init();
    mixing_forward(out, qkv, mix, B, N, NQ, C, H);
    mixing_backward(dqkv, dmix, dout, qkv, mix, scratch, B, N, NQ, C, H);
    free(scratch);
}

void cpu_rank(float* out, float* lse, float* dqkv, float* ddown, float* dW, const float* qkv, const float* down,
              const float* W, const float* dout, int B, int N, int NQ, int C, int H, int R) {
    float* scratch = alloc_floats(rank_scratch(B, N, C, H, R), "test");
    matmul_init();
    rank_forward(out, lse, qkv, down, W, scratch, B, N, NQ, C, H, R);
    rank_backward(dqkv, ddown, dW, dout, out, lse, qkv, down, W, scratch, B, N, NQ, C, H, R);
    free(scratch);
}

void cpu_linear_attention(float* out, float* dqkv, const float* qkv, const float* dout, int B, int N, int NQ, int C,
                          int H) {
    float* scratch = alloc_floats(linear_attention_scratch(N, C, H), "test");
    matmul_init();
    linear_attention_forward(out, qkv, scratch, B, N, NQ, C, H);
    linear_attention_backward(dqkv, dout, out, qkv, scratch, B, N, NQ, C, H);
    free(scratch);
}

void cpu_kan(float* out, float* dinp, float* dweight, float* dspline_weight, float* dbias, const float* inp,
             const float* weight, const float* spline_weight, const float* bias, const float* dout, int rows, int C,
             int OC, Basis basis) {
    float* scratch = alloc_floats(kan_scratch(C, OC, basis), "test");
    matmul_init();
    kan_forward(out, inp, weight, spline_weight, bias, scratch, rows, C, OC, basis);
    kan_backward(dinp, dweight, dspline_weight, dbias, dout, inp, weight, spline_weight, scratch, rows, C, OC, basis);
    free(scratch);
}
