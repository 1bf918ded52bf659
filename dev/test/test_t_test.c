// Student's t against closed forms, and Welch's and the paired test against a plain calculation of theirs.
#include "../compare_runs/t_test.h"
#include "test.h"

// P(|T| >= t) where it has a closed form
static double closed_form(double t, int freedom) {
    double half = t / sqrt(freedom + t * t), s = t * t / (1 + t * t / 4);
    switch (freedom) {
    case 1: return 1 - 2 / M_PI * atan(t);
    case 2: return 1 - half;
    default: return 1 - 3.0 / 4 * t / sqrt(1 + t * t / 4) * (1 - s / 12); // 4
    }
}

static void test_probabilities(void) {
    static const int freedoms[] = {1, 2, 4};
    for (int i = 0; i < 3; i++) {
        for (double t = 0; t < 40; t += 0.37) {
            double want = closed_form(t, freedoms[i]);
            CHECK_NEAR(t_probability(t, freedoms[i]), want, 1e-12, "p");
            CHECK_NEAR(t_probability(-t, freedoms[i]), want, 1e-12, "p of -t");
        }
    }
    // of tables
    CHECK_NEAR(t_probability(2.228138852, 10), 0.05, 1e-9, "t(10) at 5 %");
    CHECK_NEAR(t_probability(2.042272456, 30), 0.05, 1e-9, "t(30) at 5 %");
    CHECK_NEAR(t_probability(1.95996398, 1e9), 0.05, 1e-7, "of many degrees of freedom: the normal distribution");
    CHECK(t_probability(INFINITY, 3) == 0, "nothing is beyond infinity");
}

static Running running_of(const double* x, int n) {
    Running r = {0};
    for (int i = 0; i < n; i++) { running_add(&r, x[i]); }
    return r;
}

static void test_tests(void) {
    static const double a[] = {3, 4, 5}, b[] = {1, 1, 4}; // variances 1 and 3
    double d[3];
    for (int i = 0; i < 3; i++) { d[i] = a[i] - b[i]; } // 2, 3, 1: mean 2, variance 1
    Running ra = running_of(a, 3), rb = running_of(b, 3), rd = running_of(d, 3);
    TTest welch = t_test_welch(&ra, &rb), paired = t_test_paired(&rd);
    CHECK_NEAR(welch.difference, 2, 1e-12, "Welch's difference");
    CHECK_NEAR(welch.t, 2 / sqrt(4.0 / 3), 1e-12, "Welch's t");
    CHECK_NEAR(welch.freedom, (4.0 / 3) * (4.0 / 3) / ((1 + 9) / 9.0 / 2), 1e-12, "Welch's degrees of freedom");
    CHECK_NEAR(paired.t, 2 * sqrt(3), 1e-12, "paired t");
    CHECK(paired.freedom == 2, "paired degrees of freedom %g", paired.freedom);
    CHECK_NEAR(paired.p, closed_form(2 * sqrt(3), 2), 1e-12, "paired p");
    Running one = running_of(a, 1), same = running_of((double[]){2, 2}, 2), other = running_of((double[]){1, 1}, 2);
    TTest of_one = t_test_welch(&one, &rb), without_spread = t_test_welch(&same, &other);
    CHECK(of_one.difference == 1 && isnan(of_one.p), "one value has no spread: p %g", of_one.p);
    CHECK(without_spread.difference == 1 && isnan(without_spread.p), "nor have values that are equal: p %g",
          without_spread.p);
}

int main(void) {
    test_probabilities();
    test_tests();
    return tests_finish();
}
