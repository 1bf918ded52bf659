// activation.cuh against activation.h: numbers of elements that are one, odd, and more than one turn of the grid; rows
// that no block divides, channels that are no multiple of 8 or 64 and more than a block has; the bias in front against
// the column sums of what was written.
#include "../../kernels/activation.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: gelu 2.2e-7 2.4e-3, silu 2.1e-7 2.8e-3, relu and prelu none, dweight 1.5e-7 4.8e-6
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {1e-5, 1e-5};

static const char* const names[] = {ACTIVATIONS(CHOICE_NAME)};

template <class T> static void test_function(const char* name, ActivationKind kind, int rows, int C) {
    size_t n = (size_t)rows * C;
    Floats x = random_values<T>(n, 2), dout = random_values<T>(n), dbias(C, 0.5f), out(n), dinp(n);
    x[0] = 0;
    Device<T> d_x(x), d_dout(dout), d_out(n);
    Device<float> d_dbias(dbias), scratch(activation_scratch(rows, C));
    cpu.activation_forward(out.data(), x.data(), kind, n);
    activation_forward<T>(d_out, d_x, kind, n, 0);
    check<T>(name, d_out, out, VALUES);
    cpu.activation_backward(dinp.data(), dout.data(), x.data(), kind, n);
    activation_backward<T>(d_dout, d_dbias, d_dout, d_x, kind, scratch, rows, C, 0);
    check<T>(name, d_dout, dinp, VALUES);
    check<T>("dbias", d_dbias, plus_column_sums(dbias, d_dout.host()), SUMS);
}

template <class T> static void test_prelu(int rows, int C) {
    size_t n = (size_t)rows * C;
    Floats x = random_values<T>(n), dout = random_values<T>(n), weight = {0.25f}, dweight = {0.5f}, out(n), dinp(n);
    Floats dbias(C, 0.5f);
    Device<T> d_x(x), d_dout(dout), d_out(n);
    Device<float> d_weight(weight), d_dweight(dweight), d_dbias(dbias), scratch(activation_scratch(rows, C));
    Floats cpu_scratch(cpu.prelu_scratch(n));
    cpu.prelu_forward(out.data(), x.data(), weight.data(), n);
    prelu_forward<T>(d_out, d_x, d_weight, n, 0);
    check<T>("prelu_forward", d_out, out, VALUES);
    cpu.prelu_backward(dinp.data(), dweight.data(), dout.data(), x.data(), weight.data(), cpu_scratch.data(), n);
    prelu_backward<T>(d_dout, d_dbias, d_dweight, d_dout, d_x, d_weight, scratch, rows, C, 0);
    check<T>("prelu_backward dinp", d_dout, dinp, VALUES);
    check<T>("prelu_backward dweight", d_dweight, dweight, SUMS);
    check<T>("prelu_backward dbias", d_dbias, plus_column_sums(dbias, d_dout.host()), SUMS);
}

template <class T> static void test_storage() {
    static const struct { int rows, C; } shapes[] = {{1, 1}, {1, 64}, {197, 65}, {197, 40}, {250, 400}};
    for (auto s : shapes) {
        for (int kind = 0; kind < ACTIVATION_COUNT; kind++) {
            test_function<T>(names[kind], (ActivationKind)kind, s.rows, s.C);
        }
        test_prelu<T>(s.rows, s.C);
    }
}

// Far out values and slopes are the CPU's, and a NaN stays one, as infinity does
static void test_ends() {
    Floats x = {-200, 200, -20, 20, NAN, INFINITY}, ones(6, 1.0f), y(6), slope(6);
    Device<float> d_x(x), d_ones(ones), out(6), dbias(Floats(6)), scratch(activation_scratch(1, 6));
    for (int i = 0; i < ACTIVATION_COUNT; i++) {
        ActivationKind kind = (ActivationKind)i;
        cpu.activation_forward(y.data(), x.data(), kind, 6);
        cpu.activation_backward(slope.data(), ones.data(), x.data(), kind, 6);
        activation_forward<float>(out, d_x, kind, 6, 0);
        Floats got = out.host();
        for (int k = 0; k < 4; k++) { CHECK_NEAR(got[k], y[k], 1e-7 * (1 + fabs(y[k])), names[kind]); }
        CHECK(isnan(got[4]) && got[5] == INFINITY, "%s of a NaN, of infinity: %g", names[kind], got[5]);
        activation_backward<float>(out, dbias, d_ones, d_x, kind, scratch, 1, 6, 0);
        got = out.host();
        for (int k = 0; k < 4; k++) { CHECK_NEAR(got[k], slope[k], 1e-6, names[kind]); }
        CHECK(isnan(got[4]) == isnan(slope[4]), "the slope of %s at a NaN", names[kind]);
    }
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    test_ends();
    return kernel_tests_finish(argc, argv);
}
