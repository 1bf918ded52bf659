// attention_pointwise.cuh against attention_pointwise.h: every function, one token, rows and columns that no tile
// divides, heads of every width that has a form of its own, large logits.
#include "../../kernels/attention_pointwise.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 5.8e-7 4.8e-3, with large logits 4.8e-7 5.2e-3
static const char* const names[] = {"sigmoid", "relu", "polynomial"};
static const Limits NORMAL = {2e-6, 1e-2}, LARGE = {3e-6, 1e-2};

template <class T>
static void test_problem(PointwiseKind kind, int B, int N, int NQ, int C, int H, float logit_scale, Limits limits) {
    size_t n = (size_t)B * NQ * C, m = 3 * (size_t)B * N * C;
    Floats qkv = without_queries(random_values<T>(m, logit_scale), N, NQ, C), dout = random_values<T>(n);
    Floats out(n), dqkv(m);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(n), d_dqkv(dqkv);
    cpu_pointwise(out.data(), dqkv.data(), qkv.data(), dout.data(), kind, B, N, NQ, C, H);
    pointwise_forward<T>(d_out, d_qkv, kind, B, N, NQ, C, H, 0);
    pointwise_backward<T>(d_dqkv, d_dout, d_qkv, kind, B, N, NQ, C, H, 0);
    const char* what = limits.fp32 > NORMAL.fp32 ? "large logits" : names[kind];
    check<T>(what, d_out, out, limits);
    check<T>(what, d_dqkv, dqkv, limits);
}

template <class T> static void test_storage() {
    for (PointwiseKind kind : {POINTWISE_SIGMOID, POINTWISE_RELU, POINTWISE_POLYNOMIAL}) {
        test_problem<T>(kind, 2, 1, 1, 8, 1, 1, NORMAL);
        test_problem<T>(kind, 3, 5, 5, 21, 1, 1, NORMAL);
        test_problem<T>(kind, 2, 17, 17, 48, 2, 1, NORMAL);
        test_problem<T>(kind, 2, 17, 1, 48, 2, 1, NORMAL);
        test_problem<T>(kind, 1, 65, 20, 96, 3, 1, NORMAL);
        test_problem<T>(kind, 1, 65, 65, 96, 3, 1, NORMAL);
        test_problem<T>(kind, 1, 197, 197, 64, 1, 1, NORMAL);
        test_problem<T>(kind, 1, 33, 33, 96, 1, 1, NORMAL);
        test_problem<T>(kind, 2, 33, 33, 64, 1, 4, LARGE); // logits to about 60
    }
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
