// The test harness: each CHECK counts, prints a failure with its place, and the last line is "N passed, N failed".
// Comparisons are written !(error <= limit), so that a NaN fails.
#pragma once
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tests_passed, tests_failed;

__attribute__((format(printf, 4, 5)))
static inline int check_at(const char* file, int line, int ok, const char* format, ...) {
    if (ok) { tests_passed++; return 1; }
    tests_failed++;
    va_list args;
    va_start(args, format);
    printf("FAILED %s:%d: ", file, line);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    return 0;
}

// CHECK(condition, "sentence with %d", values...)
#define CHECK(ok, ...) check_at(__FILE__, __LINE__, (ok) ? 1 : 0, __VA_ARGS__)
// |got - want| <= limit, absolute
#define CHECK_NEAR(got, want, limit, what) do { double got_ = (got), want_ = (want), limit_ = (limit); \
    CHECK(fabs(got_ - want_) <= limit_, "%s: got %.9g, want %.9g, limit %.2g", what, got_, want_, limit_); } while (0)

// Largest |got - want| over the largest |want|: the relative error of a whole tensor. NaN if anything is NaN.
static inline double relative_error(const float* got, const double* want, size_t n) {
    double worst = 0, scale = 1e-30;
    for (size_t i = 0; i < n; i++) {
        double e = fabs(got[i] - want[i]);
        if (!(e <= worst)) { worst = isnan(e) ? INFINITY : e; }
        if (!(fabs(want[i]) <= scale)) { scale = fabs(want[i]); }
    }
    return isfinite(worst) ? worst / scale : NAN;
}
#define CHECK_TENSOR(got, want, n, limit, what) do { double e_ = relative_error(got, want, n), limit_ = (limit); \
    CHECK(e_ <= limit_, "%s: relative error %.3g, limit %.2g", what, e_, limit_); } while (0)

static inline int tests_finish(void) { // returns main's exit status
    printf("%d passed, %d failed\n", tests_passed, tests_failed);
    return tests_failed > 0;
}
