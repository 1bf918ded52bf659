// attention_linear.cuh against attention_linear.h: one token, rows and columns that no tile divides, heads wider than
// there are tokens.
#include "../../kernels/attention_linear.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 7.2e-7 2.9e-3
static const Limits LIMITS = {3e-6, 8e-3};

template <class T> static void test_problem(int B, int N, int NQ, int C, int H) {
    size_t n = (size_t)B * NQ * C, m = 3 * (size_t)B * N * C;
    Floats qkv = without_queries(random_values<T>(m), N, NQ, C), dout = random_values<T>(n), out(n), dqkv(m);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(n), d_dqkv(dqkv);
    Device<float> scratch(linear_attention_scratch(B, N, C, H));
    cpu_linear_attention(out.data(), dqkv.data(), qkv.data(), dout.data(), B, N, NQ, C, H);
    linear_attention_forward<T>(d_out, d_qkv, scratch, B, N, NQ, C, H, 0);
    linear_attention_backward<T>(d_dqkv, d_dout, d_out, d_qkv, scratch, B, N, NQ, C, H, 0);
    check<T>("linear_attention_forward", d_out, out, LIMITS);
    check<T>("linear_attention_backward", d_dqkv, dqkv, LIMITS);
}

template <class T> static void test_storage() {
    test_problem<T>(2, 1, 1, 8, 1);
    test_problem<T>(3, 5, 5, 63, 3);
    test_problem<T>(2, 17, 17, 48, 2);
    test_problem<T>(2, 17, 1, 48, 2);
    test_problem<T>(2, 65, 20, 96, 3);
    test_problem<T>(3, 65, 65, 96, 3);
    test_problem<T>(1, 197, 197, 64, 1);
    test_problem<T>(1, 33, 33, 200, 1);
    test_problem<T>(1, 3, 3, 256, 1); // 48 KB of dynamic shared memory, beside static ones
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
