// kan.cuh against kan.h: orders and grids from the smallest on, numbers beyond the knots, widths that no tile divides
// (multiples of 8 in bf16, as products want them), more rows than a part, no gradient of the input.
#include "../../kernels/kan.cuh"
#include "cpu_controls.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 5.2e-7 5.1e-3, sums 1.3e-6 2.2e-3
static const Limits VALUES = {2e-6, 1.2e-2}, SUMS = {4e-6, 6e-3};

template <class T> static void test_layer(int rows, int C, int OC, int grid, int order, float range, bool input) {
    Basis basis = {BASIS_BSPLINE, grid, order, range};
    size_t edges = (size_t)OC * C, splines = edges * basis_coefficients(basis);
    Floats inp = random_values<T>((size_t)rows * C, 2), dout = random_values<T>((size_t)rows * OC);
    Floats weight = random_values<T>(edges), spline_weight = random_values<T>(splines), bias = random_values<T>(OC);
    Floats out(dout.size()), dinp(inp.size()), dweight = random_values<float>(edges);
    Floats dspline_weight = random_values<float>(splines), dbias = random_values<float>(OC);
    Device<T> d_inp(inp), d_dout(dout), d_weight(weight), d_spline_weight(spline_weight), d_bias(bias);
    Device<T> d_out(out.size()), d_dinp(inp.size());
    Device<float> d_dweight(dweight), d_dspline_weight(dspline_weight), d_dbias(dbias);
    Device<float> scratch(kan_scratch(rows, C, OC, basis));
    cpu_kan(out.data(), dinp.data(), dweight.data(), dspline_weight.data(), dbias.data(), inp.data(), weight.data(),
            spline_weight.data(), bias.data(), dout.data(), rows, C, OC, basis);
    kan_forward<T>(d_out, d_inp, d_weight, d_spline_weight, d_bias, scratch, rows, C, OC, basis, 0);
    kan_backward<T>(input ? d_dinp.data : nullptr, d_dweight, d_dspline_weight, d_dbias, d_dout, d_inp, d_weight,
                    d_spline_weight, scratch, rows, C, OC, basis, 0);
    check<T>("kan_forward", d_out, out, VALUES);
    if (input) { check<T>("kan_backward dinp", d_dinp, dinp, VALUES); }
    check<T>("kan_backward dweight", d_dweight, dweight, SUMS);
    check<T>("kan_backward dspline_weight", d_dspline_weight, dspline_weight, SUMS);
    check<T>("kan_backward dbias", d_dbias, dbias, SUMS);
}

template <class T> static void test_storage() {
    test_layer<T>(1, 8, 8, 1, 0, 4, true);
    test_layer<T>(5, 16, 24, 1, 1, 1, true);
    test_layer<T>(130, 24, 40, 2, 3, 4, true);
    test_layer<T>(65, 40, 8, 5, 7, 3, false);
    test_layer<T>(KAN_ROWS + 1, 8, 8, 2, 3, 4, true);
}

int main(int argc, char** argv) {
    matmul_init(false);
    test_storage<float>();
    test_layer<float>(17, 21, 35, 3, 2, 4, true);
    test_storage<bf16>();
    matmul_free();
    return kernel_tests_finish(argc, argv);
}
