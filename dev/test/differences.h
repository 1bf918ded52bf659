// Gradients against central differences of a plain form in double precision, for tests of kernels.
#pragma once
#include "kernel_test.h"

enum { DIFFERENCE_PLACES = 48 }; // at most; for a larger tensor a selection that includes the last

// got (n): a kernel's gradient of loss; x (n): where the plain form reads the tensor. Errors are relative to the
// largest of the differences, which are accurate to 1e-9 of it.
static void check_by_differences(const char* what, const float* got, double* x, size_t n, double (*loss)(const void*),
                                 const void* problem, double limit) {
    const double step = 1e-5;
    double largest = 0, worst = 0;
    size_t places = n < DIFFERENCE_PLACES ? n : DIFFERENCE_PLACES;
    for (size_t p = 0; p < places; p++) {
        size_t i = places == n ? p : (p + 1) * n / places - 1;
        double here = x[i], above, below, error;
        x[i] = here + step, above = loss(problem);
        x[i] = here - step, below = loss(problem);
        x[i] = here;
        error = fabs(got[i] - (above - below) / (2 * step));
        largest = fmax(largest, fabs(above - below) / (2 * step));
        worst = error <= worst ? worst : error; // written so that NaN stays NaN
    }
    CHECK(worst <= limit * largest, "%s: %.3g of the largest apart from differences, limit %.2g", what, worst / largest,
          limit);
}

static double* as_doubles(const float* x, size_t n) {
    double* y = zero_doubles(n);
    for (size_t i = 0; i < n; i++) { y[i] = x[i]; }
    return y;
}
