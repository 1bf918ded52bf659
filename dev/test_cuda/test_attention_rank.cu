// attention_rank.cuh against attention_rank.h: rank 1, ranks above the number of tokens, one token, rows and columns
// that no tile divides, one sample, more samples than slots, gradients that are added to.
#include "../../kernels/attention_rank.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 5.4e-7 4.1e-3
static const Limits LIMITS = {2e-6, 1e-2};

template <class T> static void test_problem(int B, int N, int NQ, int C, int H, int R) {
    size_t n = (size_t)B * NQ * C, m = 3 * (size_t)B * N * C, weights = (size_t)H * R * N, rows = (size_t)B * H * NQ;
    Floats qkv = without_queries(random_values<T>(m), N, NQ, C), dout = random_values<T>(n), out(n), dqkv(m), lse(rows);
    Floats down = random_values<float>(weights), W = random_values<float>(weights);
    Floats ddown = random_values<float>(weights), dW = random_values<float>(weights);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(n), d_dqkv(dqkv);
    Device<float> d_lse(rows), d_down(down), d_W(W), d_ddown(ddown), d_dW(dW), scratch(rank_scratch(B, N, C, H, R));
    cpu_rank(out.data(), lse.data(), dqkv.data(), ddown.data(), dW.data(), qkv.data(), down.data(), W.data(),
             dout.data(), B, N, NQ, C, H, R);
    rank_forward<T>(d_out, d_lse, d_qkv, d_down, d_W, scratch, B, N, NQ, C, H, R, 0);
    rank_backward<T>(d_dqkv, d_ddown, d_dW, d_dout, d_out, d_lse, d_qkv, d_down, d_W, scratch, B, N, NQ, C, H, R, 0);
    check<T>("rank_forward", d_out, out, LIMITS);
    check<T>("rank_forward lse", d_lse, lse, LIMITS);
    check<T>("rank_backward dqkv", d_dqkv, dqkv, LIMITS);
    check<T>("rank_backward ddown", d_ddown, ddown, LIMITS);
    check<T>("rank_backward dW", d_dW, dW, LIMITS);
}

template <class T> static void test_storage() {
    test_problem<T>(2, 1, 1, 8, 1, 2);
    test_problem<T>(3, 5, 5, 21, 1, 12);
    test_problem<T>(11, 17, 17, 48, 2, 1);
    test_problem<T>(11, 17, 1, 48, 2, 5);
    test_problem<T>(2, 65, 20, 21, 1, 12);
    test_problem<T>(2, 65, 65, 96, 3, 12);
    test_problem<T>(1, 197, 197, 64, 1, 12);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
