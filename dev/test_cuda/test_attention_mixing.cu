// attention_mixing.cuh against attention_mixing.h: one token, rows and columns that no tile divides, heads of every
// width that has a form of its own, one sample, more samples than slots, gradients that are added to.
#include "../../kernels/attention_mixing.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 3.0e-7 4.4e-3, the gradient of M, which is fp32, 2.2e-7 1.3e-7
static const Limits VALUES = {1.5e-6, 1e-2}, SUMS = {1e-6, 1e-6};

template <class T> static void test_problem(int B, int N, int NQ, int C, int H) {
    size_t n = (size_t)B * NQ * C, m = 3 * (size_t)B * N * C, weights = (size_t)H * N * N;
    Floats qkv = random_values<T>(m), dout = random_values<T>(n), mix = random_values<float>(weights);
    Floats out(n), dqkv(m), dmix = random_values<float>(weights);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(n), d_dqkv(m);
    Device<float> d_mix(mix), d_dmix(dmix), scratch(mixing_scratch(B, N, H));
    cpu_mixing(out.data(), dqkv.data(), dmix.data(), qkv.data(), mix.data(), dout.data(), B, N, NQ, C, H);
    mixing_forward<T>(d_out, d_qkv, d_mix, B, N, NQ, C, H, 0);
    mixing_backward<T>(d_dqkv, d_dmix, d_dout, d_qkv, d_mix, scratch, B, N, NQ, C, H, 0);
    check<T>("mixing_forward", d_out, out, VALUES);
    check<T>("mixing_backward dqkv", d_dqkv, dqkv, VALUES);
    check<T>("mixing_backward dmix", d_dmix, dmix, SUMS);
}

template <class T> static void test_storage() {
    test_problem<T>(2, 1, 1, 8, 1);
    test_problem<T>(3, 5, 5, 21, 1);
    test_problem<T>(11, 17, 17, 48, 2);
    test_problem<T>(3, 17, 1, 42, 2);
    test_problem<T>(3, 33, 1, 48, 2);
    test_problem<T>(2, 65, 20, 48, 2);
    test_problem<T>(2, 65, 65, 96, 3);
    test_problem<T>(1, 197, 197, 64, 1);
    test_problem<T>(2, 33, 33, 96, 1);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
