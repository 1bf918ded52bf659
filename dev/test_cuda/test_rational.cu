// rational.cuh against rational.h: both forms, orders beside (5, 4), 1 to 8 groups of channels that are a multiple of 8
// or not, single rows, rows that no grid divides, gradients that add, out in the place of inp, dinp in that of dout; the
// bias in front against the column sums of what was written.
#include "../../kernels/rational.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: forward 5.6e-7 3.4e-3, dinp 1.1e-6 3.3e-3 (rounding to bf16 alone: 2^-8 of the value), sums
// 5.1e-6 6.8e-6, where they cancel
static const Limits VALUES = {2e-6, 4e-3}, SUMS = {1e-5, 1e-5};

template <class T> static void test_rational(int rows, int C, RationalShape s) {
    size_t n = (size_t)rows * C, na = s.m + 1, nb = (size_t)s.groups * s.n;
    Floats x = random_values<T>(n, 1.5f), dout = random_values<T>(n), want(n), dwant(n);
    Floats a = random_values<float>(na), b = random_values<float>(nb, 0.5f);
    Floats da = random_values<float>(na), db = random_values<float>(nb), dbias = random_values<float>(C);
    if (nb) { b[0] = 0; } // sgn(0) = +1
    Device<T> d_x(x), d_dout(dout), d_out(n);
    Device<float> d_a(a), d_b(b), d_da(da), d_db(db), d_dbias(dbias);
    Device<float> scratch(rational_scratch(rows, C, s));

    cpu.rational_forward(want.data(), x.data(), a.data(), b.data(), rows, C, s);
    rational_forward<T>(d_out, d_x, d_a, d_b, rows, C, s, 0);
    check<T>("rational_forward", d_out, want, VALUES);
    Device<T> d_both(x);
    rational_forward<T>(d_both, d_both, d_a, d_b, rows, C, s, 0);
    check<T>("rational_forward in place", d_both, want, VALUES);

    Floats cpu_scratch(cpu.rational_scratch(rows, C, s));
    cpu.rational_backward(dwant.data(), da.data(), db.data(), dout.data(), x.data(), a.data(), b.data(),
                          cpu_scratch.data(), rows, C, s);
    rational_backward<T>(d_dout, d_dbias, d_da, d_db, d_dout, d_x, d_a, d_b, scratch, rows, C, s, 0);
    check<T>("rational_backward dinp", d_dout, dwant, VALUES);
    check<T>("rational_backward da", d_da, da, SUMS);
    if (nb) { check<T>("rational_backward db", d_db, db, SUMS); }
    check<T>("rational_backward dbias", d_dbias, plus_column_sums(dbias, d_dout.host()), SUMS);
}

template <class T> static void test_storage() {
    static const RationalForm forms[] = {RATIONAL_FORM_A, RATIONAL_FORM_PAPER};
    for (RationalForm form : forms) {
        test_rational<T>(1, 8, {5, 4, 1, form});
        test_rational<T>(3, 65, {5, 4, 1, form});
        test_rational<T>(65, 192, {5, 4, 8, form});
        test_rational<T>(197, 264, {5, 4, 3, form});
        test_rational<T>(197, 96, {5, 4, 4, form});
        test_rational<T>(197, 96, {5, 4, 8, form});  // 12 channels a group
        test_rational<T>(3, 21, {3, 2, 7, form});
        test_rational<T>(65, 24, {1, 0, 3, form});
        test_rational<T>(65, 40, {5, 5, 5, form});
        test_rational<T>(3, 5000, {5, 4, 2, form});  // wider than the emulated device has threads
    }
}

// Values of the published start: F(-3), F'(-3), F(2), F'(2)
static void test_swish() {
    static const Floats a = {3.054879741161051e-07f, 0.5000007853744493f, 0.24999783422824703f, 0.05326628273219478f,
                             0.005803034571292244f, 0.0002751961022402342f};
    static const Floats b = {-4.111554955950634e-06f, 0.10652899335007572f, -1.2690007399796238e-06f,
                             0.0005502331264140556f};
    Device<float> d_a(a), d_b(b), x(Floats{-3, 2}), out(2), dinp(2), dout(Floats{1, 1}), da(Floats(6)), db(Floats(4));
    RationalShape s = {5, 4, 1, RATIONAL_FORM_A};
    Device<float> scratch(rational_scratch(2, 1, s));
    rational_forward<float>(out, x, d_a, d_b, 2, 1, s, 0);
    rational_backward<float>(dinp, nullptr, da, db, dout, x, d_a, d_b, scratch, 2, 1, s, 0);
    check<float>("F(-3), F(2)", out, {-0.142278817860f, 1.761593995745f}, VALUES);
    check<float>("F'(-3), F'(2)", dinp, {-0.088086899710f, 1.090782751085f}, VALUES);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    test_swish();
    test_rational<float>(1001, 192, {5, 4, 8, RATIONAL_FORM_A}); // 5 or 6 rows a thread of the emulated device
    test_rational<bf16>(1001, 192, {5, 4, 8, RATIONAL_FORM_A});
    return kernel_tests_finish(argc, argv);
}
