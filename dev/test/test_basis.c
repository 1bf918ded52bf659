// kernels/basis.h: every value against its definition in double precision, every derivative against differences of it.
#include "../../kernels/basis.h"
#include "plain_basis.h"
#include "test.h"

enum { POINTS = 4001, MAX_M = 2 * 11 };

static const char* const names[] = {BASES(CHOICE_NAME)};

static float point(int i) { return -6.0137f + 12.0f * i / (POINTS - 1); } // no kink within a difference of one

// Largest error of values and slopes over the largest of each; want: [0] values, [1] slopes, (count)
static void compare(const char* name, int M, const float* value, const float* slope, double* want[2], size_t count,
                    double limit) {
    double of_value = relative_error(value, want[0], count), of_slope = relative_error(slope, want[1], count);
    CHECK(of_value <= limit, "%s, M = %d: values off by %.3g, limit %.2g", name, M, of_value, limit);
    CHECK(of_slope <= limit, "%s, M = %d: derivatives off by %.3g, limit %.2g", name, M, of_slope, limit);
}

static void test_linear(Basis b, int count, double limit) {
    static float x[POINTS], e[MAX_M * POINTS], slopes[MAX_M * POINTS];
    static double values[MAX_M * POINTS], differences[MAX_M * POINTS];
    double* want[2] = {values, differences};
    int M = basis_coefficients(b);
    for (int i = 0; i < count; i++) { x[i] = point(i * (POINTS / count)); }
    basis_features(e, x, count, b);
    basis_slopes(slopes, e, x, count, b);
    for (int m = 0; m < M; m++) {
        for (int i = 0; i < count; i++) {
            const double h = 1e-5;
            double at = x[i];
            values[m * count + i] = plain_feature(b, m, at);
            differences[m * count + i] = (plain_feature(b, m, at + h) - plain_feature(b, m, at - h)) / (2 * h);
        }
    }
    compare(names[b.kind], M, e, slopes, want, (size_t)M * count, limit);
}

static void test_wavelet(KaratBasis kind) {
    static float x[POINTS], value[POINTS], slope[POINTS];
    static double values[POINTS], differences[POINTS];
    double *want[2] = {values, differences}, h = 1e-5;
    for (int i = 0; i < POINTS; i++) {
        x[i] = point(i);
        values[i] = plain_wavelet(kind, x[i]);
        differences[i] = (plain_wavelet(kind, x[i] + h) - plain_wavelet(kind, x[i] - h)) / (2 * h);
    }
    basis_wavelets(value, slope, x, POINTS, kind);
    compare(names[kind], 1, value, slope, want, POINTS, 5e-6); // observed: at most 1.5e-6 (meyer)
}

// By x and by each parameter; theta for each point anew
static void test_rational(void) {
    double worst = 0;
    for (int i = 0; i < POINTS; i++) {
        float x = 0.4f * point(i), theta[10];
        double t[10], h = 1e-6;
        for (int m = 0; m < 10; m++) { t[m] = theta[m] = (float)sin(1.7 * m + 0.31 * i); }
        if (fabs(t[6] + x * (t[7] + x * (t[8] + x * t[9]))) < 1e-3) { continue; } // the kink at S = 0
        BasisRational got = basis_rational(x, theta, 1);
        double value = plain_rational_unit(x, t);
        double slope = (plain_rational_unit(x + h, t) - plain_rational_unit(x - h, t)) / (2 * h);
        worst = fmax(worst, fabs(got.value - value) / (1 + fabs(value)));
        worst = fmax(worst, fabs(got.slope - slope) / (1 + fabs(slope)));
        for (int m = 0; m < 10; m++) {
            double start = t[m], up, down, gradient = m < 6 ? got.gain * pow(x, m) : got.turn * pow(x, m - 5);
            t[m] = start + h, up = plain_rational_unit(x, t);
            t[m] = start - h, down = plain_rational_unit(x, t);
            t[m] = start;
            double difference = (up - down) / (2 * h);
            worst = fmax(worst, fabs(gradient - difference) / (1 + fabs(difference)));
        }
    }
    CHECK(worst <= 2e-5, "the rational unit is off by %.3g", worst);
}

// What the definitions say at special places
static void test_places(void) {
    CHECK(basis_shannon(0).value == 1 && basis_shannon(0).slope == 0, "sinc at 0");
    CHECK_NEAR(basis_shannon(0.4999f).slope, basis_shannon(0.5001f).slope, 1e-4, "sinc's slope where the series ends");
    CHECK_NEAR(basis_meyer(0.5f).value, 1, 1e-6, "meyer at 1/2");
    CHECK(basis_meyer(1).value == 0 && basis_meyer(-7).value == 0 && basis_meyer(-7).slope == 0, "meyer beyond 1");
    CHECK_NEAR(basis_meyer(0).slope, 3.14159265, 1e-6, "meyer's slope at its kink: the upper side's");
    CHECK_NEAR(basis_shannon_window(0, 9), 0.08, 1e-6, "Hamming's window at its end");
    CHECK_NEAR(basis_shannon_window(4, 9), 1, 1e-6, "Hamming's window in the middle");
    CHECK(basis_shannon_window(0, 1) == 1, "Hamming's window of one token");
    CHECK_NEAR(basis_inverse_scale(0), 1000, 1e-3, "1/s at 0");
    CHECK_NEAR(basis_inverse_scale(-1e-9f), -1000, 1e-3, "1/s near 0");
    CHECK(basis_inverse_scale(-2) == -0.5f && isnan(basis_inverse_scale(NAN)), "1/s elsewhere");
    float zero_denominator[10] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
    BasisRational r = basis_rational(2, zero_denominator, 1);
    CHECK(r.value == 3 && r.slope == 1 && r.turn == -3, "rational at S = 0 takes the upper side");
}

static void test_not_a_number(void) {
    float x = NAN, e[MAX_M], slope[MAX_M], theta[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (int kind = 0; kind < BASIS_COUNT; kind++) {
        if (kind == BASIS_RATIONAL) {
            e[0] = basis_rational(x, theta, 1).value;
        } else if (basis_is_linear(kind)) {
            basis_features(e, &x, 1, (Basis){kind, 3, 3, 4});
            e[0] += e[1];
        } else {
            basis_wavelets(e, slope, &x, 1, kind);
        }
        CHECK(isnan(e[0]), "%s swallows a NaN", names[kind]);
    }
}

// Within the range the B-splines add to 1, whatever their order
static void test_partition(void) {
    for (int order = 0; order <= SPLINE_MAX_ORDER; order++) {
        float x[70], e[70 * 12], worst = 0;
        for (int i = 0; i < 70; i++) { x[i] = -2.5f + 0.0724f * i; }
        basis_features(e, x, 70, (Basis){BASIS_BSPLINE, 5, order, 2.5f});
        for (int i = 0; i < 70; i++) {
            float sum = 0;
            for (int m = 0; m < 5 + order; m++) { sum += e[m * 70 + i]; }
            worst = fmaxf(worst, fabsf(sum - 1));
        }
        CHECK(worst <= 1e-6f, "B-splines of order %d add to 1 within %.3g", order, worst);
    }
}

int main(void) {
    const float R = 4;
    // observed: fourier 9e-7 (G = 11), splines 2e-6, chebyshev 2e-6 (G = 11), powers 3e-7
    for (int kind = 0; kind < BASIS_COUNT; kind++) {
        if (basis_is_wavelet(kind)) { test_wavelet(kind); }
        if (!basis_is_linear(kind)) { continue; }
        test_linear((Basis){kind, 1, 3, R}, 5, 1e-5);
        test_linear((Basis){kind, 2, 1, 2.5f}, 77, 1e-5);
        test_linear((Basis){kind, 5, 3, R}, POINTS, 1e-5);
    }
    test_linear((Basis){BASIS_FOURIER, 1, 3, R}, 1, 1e-5);
    test_linear((Basis){BASIS_FOURIER, 11, 3, R}, POINTS, 1e-5);
    for (int order = 0; order <= SPLINE_MAX_ORDER; order++) {
        test_linear((Basis){BASIS_BSPLINE, 3, order, R}, 1999, 1e-5);
        test_linear((Basis){BASIS_BSPLINE, 8, order, 2.5f}, 77, 1e-5);
    }
    test_linear((Basis){BASIS_CHEBYSHEV, 11, 3, R}, POINTS, 5e-5);
    test_rational();
    test_places();
    test_not_a_number();
    test_partition();
    return tests_finish();
}
