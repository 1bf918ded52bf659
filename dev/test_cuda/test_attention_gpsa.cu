// attention_gpsa.cuh against attention_gpsa.h: one patch, grids that no tile divides, several tiles of keys and two
// blocks of rows, heads of every width that has a form of its own, one image, more images than slots, gates that are
// shut and open, gradients that are added to.
#include "../../kernels/attention_gpsa.cuh"
#include "cpu_windows.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 1.2e-6 3.8e-3, the fp32 gradients of w and of the gates 1.3e-5 1.1e-5, 1e-6 3e-7
static const Limits VALUES = {5e-6, 1e-2}, POSITION = {5e-5, 5e-5}, GATING = {5e-6, 5e-6};

template <class T> static void test_problem(int B, int N, int C, int H, float gate) {
    size_t n = (size_t)B * N * C, rows = (size_t)B * H * N;
    Floats qkv = random_values<T>(3 * n), dout = random_values<T>(n), position = random_values<float>(3 * H, 0.3f);
    Floats gating = random_values<float>(H), out(n), lse(rows), dqkv(3 * n), dposition = random_values<float>(3 * H);
    Floats dgating = random_values<float>(H);
    for (float& x : gating) { x += gate; }
    Device<T> d_qkv(qkv), d_dout(dout), d_out(n), d_dqkv(3 * n);
    Device<float> d_position(position), d_gating(gating), d_lse(rows), d_dposition(dposition), d_dgating(dgating);
    Device<float> scratch(gpsa_scratch(B, N, H));
    cpu_gpsa(out.data(), lse.data(), dqkv.data(), dposition.data(), dgating.data(), qkv.data(), position.data(),
             gating.data(), dout.data(), B, N, C, H);
    gpsa_forward<T>(d_out, d_lse, d_qkv, d_position, d_gating, scratch, B, N, C, H, 0);
    gpsa_backward<T>(d_dqkv, d_dposition, d_dgating, d_dout, d_out, d_lse, d_qkv, d_position, d_gating, scratch, B, N,
                     C, H, 0);
    check<T>("gpsa_forward", d_out, out, VALUES);
    check<T>("lse", d_lse, lse, VALUES);
    check<T>("gpsa_backward", d_dqkv, dqkv, VALUES);
    check<T>("dposition", d_dposition, dposition, POSITION);
    check<T>("dgating", d_dgating, dgating, GATING);
}

template <class T> static void test_storage() {
    test_problem<T>(2, 1, 8, 1, 0);
    test_problem<T>(3, 4, 21, 3, 0);
    test_problem<T>(11, 16, 48, 1, 1);
    test_problem<T>(3, 49, 48, 2, 1);
    test_problem<T>(1, 196, 96, 2, 0);
    test_problem<T>(1, 100, 128, 1, 1);
    test_problem<T>(2, 36, 24, 3, -20);
    test_problem<T>(2, 36, 24, 3, 20);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
