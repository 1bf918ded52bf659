// kernels/vector_math.h against libm in double, over the whole range and at the edges.
#include "../../kernels/vector_math.h"
#include "test.h"
#include <float.h>

enum { COUNT = 200001 };
static float x[COUNT], y[COUNT], z[COUNT];

static void spread(float low, float high) {
    for (int i = 0; i < COUNT; i++) { x[i] = low + (high - low) * ((float)i / (COUNT - 1)); }
}

static double larger(double a, double b) { return !(b <= a) ? b : a; } // keeps a NaN

static void test_exp(void) {
    spread(-87.0f, 88.7f);
    #pragma omp simd
    for (int i = 0; i < COUNT; i++) { y[i] = vm_exp(x[i]); }
    double worst = 0;
    for (int i = 0; i < COUNT; i++) { worst = larger(worst, fabs(y[i] / exp((double)x[i]) - 1)); }
    CHECK(worst <= 2e-7, "exp: relative error %.3g on [-87, 88.7]", worst); // observed 8.4e-8
    spread(-110.0f, -87.0f);
    worst = 0;
    for (int i = 0; i < COUNT; i++) { worst = larger(worst, fabs(vm_exp(x[i]) - exp((double)x[i]))); }
    CHECK(worst <= 2e-45, "exp: absolute error %.3g among the denormals", worst); // observed 1.1e-45, under one unit
    CHECK(vm_exp(0.0f) == 1.0f && vm_exp(-0.0f) == 1.0f && vm_exp(1e-40f) == 1.0f, "exp(0) is 1");
    CHECK(vm_exp(-INFINITY) == 0.0f && vm_exp(-FLT_MAX) == 0.0f, "exp(-inf) is 0: %g", vm_exp(-INFINITY));
    CHECK(isinf(vm_exp(INFINITY)) && isinf(vm_exp(FLT_MAX)) && isinf(vm_exp(89.0f)), "exp overflows to infinity");
    CHECK(isnan(vm_exp(NAN)), "exp(NaN) is %g", vm_exp(NAN));
}

static void test_sigmoid(void) {
    spread(-80.0f, 80.0f);
    #pragma omp simd
    for (int i = 0; i < COUNT; i++) { y[i] = vm_sigmoid(x[i]); }
    double worst = 0;
    for (int i = 0; i < COUNT; i++) { worst = larger(worst, fabs(y[i] * (1 + exp(-(double)x[i])) - 1)); }
    CHECK(worst <= 3e-7, "sigmoid: relative error %.3g", worst); // observed 1.5e-7
    CHECK(vm_sigmoid(-INFINITY) == 0.0f && vm_sigmoid(INFINITY) == 1.0f && vm_sigmoid(0.0f) == 0.5f, "sigmoid's ends");
    CHECK(isnan(vm_sigmoid(NAN)), "sigmoid(NaN) is %g", vm_sigmoid(NAN));
}

static void test_exp_negative(void) {
    spread(-87.0f, 0.0f);
    #pragma omp simd
    for (int i = 0; i < COUNT; i++) { y[i] = vm_exp_negative(x[i]); }
    double worst = 0;
    for (int i = 0; i < COUNT; i++) { worst = larger(worst, fabs(y[i] / exp((double)x[i]) - 1)); }
    CHECK(worst <= 2e-7, "exp of x <= 0: relative error %.3g", worst); // observed 7.8e-8
    CHECK(vm_exp_negative(0.0f) == 1.0f && vm_exp_negative(-0.0f) == 1.0f, "exp(0) of x <= 0 is 1");
    CHECK(vm_exp_negative(-87.01f) == 0.0f && vm_exp_negative(-FLT_MAX) == 0.0f && vm_exp_negative(-INFINITY) == 0.0f,
          "exp of x <= 0 far below is 0");
    CHECK_NEAR(vm_exp_negative(1e-3f), 1.0010005, 2e-7, "exp of x <= 0, a little above 0");
    CHECK(isnan(vm_exp_negative(NAN)), "exp of x <= 0 of NaN is %g", vm_exp_negative(NAN));
}

static double sincos_error(float low, float high) {
    spread(low, high);
    #pragma omp simd
    for (int i = 0; i < COUNT; i++) { vm_sincos(x[i], &y[i], &z[i]); }
    double worst = 0;
    for (int i = 0; i < COUNT; i++) {
        worst = larger(worst, fabs(y[i] - sin((double)x[i])));
        worst = larger(worst, fabs(z[i] - cos((double)x[i])));
    }
    return worst;
}

static void test_sincos(void) {
    double near = sincos_error(-7.0f, 7.0f), wide = sincos_error(-1e4f, 1e4f), far = sincos_error(9e4f, 1e5f);
    CHECK(near <= 1.2e-7, "sin, cos: absolute error %.3g for |x| < 7", near); // observed 8.3e-8
    CHECK(wide <= 1.2e-7, "sin, cos: absolute error %.3g for |x| < 1e4", wide); // observed 8.3e-8
    CHECK(far <= 1e-5, "sin, cos: absolute error %.3g for |x| < 1e5", far); // observed 9.6e-7 without fma
    float s, c;
    vm_sincos(-0.0f, &s, &c);
    CHECK(s == 0.0f && c == 1.0f, "sin 0 and cos 0: %g %g", s, c);
    vm_sincos(1e-40f, &s, &c);
    CHECK(s == 1e-40f && c == 1.0f, "sin of a denormal: %g %g", s, c);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        vm_sincos(bad[i], &s, &c);
        CHECK(isnan(s) && isnan(c), "sin, cos of %g: %g %g", bad[i], s, c);
    }
    const float huge[] = {1e7f, -3e12f, FLT_MAX};
    for (int i = 0; i < 3; i++) {
        vm_sincos(huge[i], &s, &c);
        CHECK(fabsf(s) <= 1 && fabsf(c) <= 1, "sin, cos of %g stay bounded: %g %g", huge[i], s, c);
    }
}

static void test_rows(void) {
    const int sizes[] = {1, 5, 16, 17, 65, 1000};
    for (int t = 0; t < 6; t++) {
        int n = sizes[t];
        double high = -INFINITY, sum = 0, dot = 0, magnitude = 0;
        for (int i = 0; i < n; i++) {
            x[i] = -3 + (float)((i * 37) % 101) / 10, y[i] = (float)((i * 53) % 89) / 10 - 4;
            high = x[i] > high ? x[i] : high;
            sum += x[i], dot += (double)x[i] * y[i], magnitude += fabs((double)x[i] * y[i]);
        }
        CHECK(vm_row_max(x, n) == (float)high, "row max of %d: %g", n, vm_row_max(x, n));
        CHECK_NEAR(vm_row_sum(x, n), sum, 1e-6 * 10 * n, "row sum");
        CHECK_NEAR(vm_row_dot(x, y, n), dot, 1e-6 * magnitude, "row dot");
    }
}

int main(void) {
    test_rows();
    test_exp();
    test_sigmoid();
    test_exp_negative();
    test_sincos();
    return tests_finish();
}
