// activation.cuh against activation.h: numbers of elements that are one, odd, and more than one turn of the grid.
#include "../../kernels/activation.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: gelu 2.2e-7 2.4e-3, silu 2.1e-7 2.8e-3, relu and prelu none, dweight 1.5e-7 4.8e-6
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {1e-5, 1e-5};

typedef void (*CpuForward)(float*, const float*, size_t);
typedef void (*CpuBackward)(float*, const float*, const float*, size_t);

template <class T> struct Functions {
    const char *forward_name, *backward_name;
    void (*forward)(T*, const T*, size_t, cudaStream_t);
    void (*backward)(T*, const T*, const T*, size_t, cudaStream_t);
    CpuForward cpu_forward;
    CpuBackward cpu_backward;
};

template <class T> static void test_function(Functions<T> f, size_t n) {
    Floats x = random_values<T>(n, 2), dout = random_values<T>(n), out(n), dinp(n);
    x[0] = 0;
    Device<T> d_x(x), d_dout(dout), d_out(n);
    f.cpu_forward(out.data(), x.data(), n);
    f.forward(d_out, d_x, n, 0);
    check<T>(f.forward_name, d_out, out, VALUES);
    f.cpu_backward(dinp.data(), dout.data(), x.data(), n);
    f.backward(d_dout, d_dout, d_x, n, 0);
    check<T>(f.backward_name, d_dout, dinp, VALUES);
}

template <class T> static void test_prelu(size_t n) {
    Floats x = random_values<T>(n), dout = random_values<T>(n), weight = {0.25f}, dweight = {0.5f}, out(n), dinp(n);
    Device<T> d_x(x), d_dout(dout), d_out(n);
    Device<float> d_weight(weight), d_dweight(dweight), scratch(prelu_scratch(n));
    Floats cpu_scratch(cpu.prelu_scratch(n));
    cpu.prelu_forward(out.data(), x.data(), weight.data(), n);
    prelu_forward<T>(d_out, d_x, d_weight, n, 0);
    check<T>("prelu_forward", d_out, out, VALUES);
    cpu.prelu_backward(dinp.data(), dweight.data(), dout.data(), x.data(), weight.data(), cpu_scratch.data(), n);
    prelu_backward<T>(d_dout, d_dweight, d_dout, d_x, d_weight, scratch, n, 0);
    check<T>("prelu_backward dinp", d_dout, dinp, VALUES);
    check<T>("prelu_backward dweight", d_dweight, dweight, SUMS);
}

template <class T> static void test_storage() {
    static const size_t sizes[] = {1, 64, 197 * 65, 197 * 40, 100000};
    for (size_t n : sizes) {
        test_function<T>({"gelu_forward", "gelu_backward", gelu_forward<T>, gelu_backward<T>, cpu.gelu_forward,
                          cpu.gelu_backward}, n);
        test_function<T>({"relu_forward", "relu_backward", relu_forward<T>, relu_backward<T>, cpu.relu_forward,
                          cpu.relu_backward}, n);
        test_function<T>({"silu_forward", "silu_backward", silu_forward<T>, silu_backward<T>, cpu.silu_forward,
                          cpu.silu_backward}, n);
        test_prelu<T>(n);
    }
}

// Far out the functions are 0 or x, the slopes 0 or 1, and a NaN stays one
static void test_ends() {
    Floats x = {-200, 200, -20, 20, NAN}, ones(5, 1.0f);
    Device<float> d_x(x), d_ones(ones), out(5);
    for (int which = 0; which < 2; which++) {
        which ? silu_forward<float>(out, d_x, 5, 0) : gelu_forward<float>(out, d_x, 5, 0);
        Floats y = out.host();
        CHECK(y[0] == 0 && y[1] == 200 && fabs(y[2]) < 1e-7 && fabs(y[3] - 20) < 1e-5 && isnan(y[4]), "values far out");
        which ? silu_backward<float>(out, d_ones, d_x, 5, 0) : gelu_backward<float>(out, d_ones, d_x, 5, 0);
        y = out.host();
        CHECK(y[0] == 0 && y[1] == 1 && fabs(y[2]) < 1e-6 && fabs(y[3] - 1) < 1e-6 && isnan(y[4]), "slopes far out");
    }
    relu_forward<float>(out, d_x, 5, 0);
    CHECK(isnan(out.host()[4]), "relu of a NaN");
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    test_ends();
    return kernel_tests_finish(argc, argv);
}
