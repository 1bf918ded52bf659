// attention_gate.cuh against attention_gate.h: heads narrower and wider than a warp, odd widths, more rows than a
// block, gates that are all but shut and open.
#include "../../kernels/attention_gate.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 9.1e-8 3.0e-3, of s 2.8e-7 2.2e-3
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {1e-6, 6e-3};

template <class T> static void test_problem(int rows, int C, int H, float scale) {
    size_t n = (size_t)rows * C, heads = (size_t)rows * H;
    Floats s = random_values<float>(heads, scale), mix = random_values<T>(n), dout = random_values<T>(n);
    Floats out(n), dmix(n), ds(heads);
    Device<float> d_s(s);
    Device<T> d_mix(mix), d_dout(dout), d_out(n), d_ds(heads);
    cpu_gate(out.data(), dmix.data(), ds.data(), s.data(), mix.data(), dout.data(), rows, C, H);
    gate_forward<T>(d_out, d_s, d_mix, rows, C, H, 0);
    gate_backward<T>(d_dout, d_ds, d_dout, d_s, d_mix, rows, C, H, 0);
    check<T>("out", d_out, out, VALUES);
    check<T>("dmix", d_dout, dmix, VALUES);
    check<T>("ds", d_ds, ds, SUMS);
}

template <class T> static void test_storage() {
    test_problem<T>(1, 1, 1, 1);
    test_problem<T>(5, 21, 3, 1);
    test_problem<T>(197, 192, 3, 1);
    test_problem<T>(65, 96, 3, 1);
    test_problem<T>(33, 66, 1, 40);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
