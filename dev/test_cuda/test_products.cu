// matmul.cuh against plain loops: sums that nearly cancel, which parts added in bf16 would lose; as many outputs as there
// are classes, whose rows begin anywhere; products chosen by timing, which must leave what they add to as it was.
#include "../../kernels/matmul.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 1.0e-6 2.8e-3
static const Limits LIMITS = {2e-6, 8e-3};

// out (rows, OC) = inp (rows, C) weight (OC, C)^T
static Floats product_of(const Floats& inp, const Floats& weight, int rows, int C, int OC) {
    Floats out((size_t)rows * OC);
    for (int r = 0; r < rows; r++) {
        for (int o = 0; o < OC; o++) {
            double sum = 0;
            for (int c = 0; c < C; c++) { sum += (double)inp[r * C + c] * weight[o * C + c]; }
            out[r * OC + o] = (float)sum;
        }
    }
    return out;
}

static Floats transposed(const Floats& x, int rows, int columns) {
    Floats t(x.size());
    for (int i = 0; i < rows * columns; i++) { t[i % columns * rows + i / columns] = x[i]; }
    return t;
}

// The second half of each sum is the first with the other sign, but for two terms.
template <class T> static void test_cancelling(int rows, int C, int OC) {
    Floats inp = random_values<T>((size_t)rows * C), weight = random_values<T>((size_t)OC * C);
    for (int i = 0; i < rows * C; i++) {
        if (i % C > C / 2) { inp[i] = -inp[i - C / 2]; }
    }
    for (int i = 0; i < OC * C; i++) {
        if (i % C > C / 2) { weight[i] = weight[i - C / 2]; }
    }
    Device<T> d_inp(inp), d_weight(weight), d_out((size_t)rows * OC);
    linear_forward(d_out.data, d_inp.data, d_weight.data, (const T*)nullptr, rows, C, OC, 0);
    check<T>("linear_forward, cancelling", d_out, product_of(inp, weight, rows, C, OC), LIMITS);
}

// As the head: fp32 logits, their gradient in T
template <class T> static void test_head(const char* what, int rows, int C, int K) {
    Floats inp = random_values<T>((size_t)rows * C), weight = random_values<T>((size_t)K * C);
    Floats dout = random_values<T>((size_t)rows * K), before = random_values<float>((size_t)K * C);
    Device<T> d_inp(inp), d_weight(weight), d_dout(dout), d_dinp((size_t)rows * C);
    Device<float> d_out((size_t)rows * K), d_dweight(before), scratch(linear_backward_scratch(rows, K));
    linear_forward(d_out.data, d_inp.data, d_weight.data, (const float*)nullptr, rows, C, K, 0);
    linear_backward(d_dinp.data, d_dweight.data, (float*)nullptr, d_dout.data, d_inp.data, d_weight.data, scratch.data, rows,
                    C, K, 0);
    Floats dweight = product_of(transposed(dout, rows, K), transposed(inp, rows, C), K, rows, C);
    for (size_t i = 0; i < dweight.size(); i++) { dweight[i] += before[i]; }
    check<float>(what, d_out, product_of(inp, weight, rows, C, K), LIMITS);
    check<T>(what, d_dinp, product_of(dout, transposed(weight, K, C), rows, K, C), LIMITS);
    check<float>(what, d_dweight, dweight, LIMITS);
}

template <class T> static void test_storage() {
    test_cancelling<T>(16, 72, 24);
    test_head<T>("a head of 10 classes", 12, 24, 10);
    test_head<T>("a head of 3 classes", 5, 8, 3);
}

int main(int argc, char** argv) {
    matmul_init(false);
    test_storage<float>();
    test_storage<bf16>();
    keep_choices("");
    test_head<float>("products that are timed", 20, 40, 16);
    test_head<bf16>("products that are timed", 20, 40, 16);
    CHECK(product_choices.count == 6, "%d products were chosen by timing, not 6", product_choices.count);
    matmul_free();
    return kernel_tests_finish(argc, argv);
}
