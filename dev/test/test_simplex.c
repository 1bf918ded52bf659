// kernels/simplex.h against the projection by sorting, in double, and its derivatives against differences of that.
#include "../../kernels/simplex.h"
#include "kernel_test.h"

enum { MAX_N = 1000 };

// ---- The oracle

static int descending(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x < y) - (x > y);
}

// tau = (sum of the K largest - 1) / K, for the largest K whose smallest is above it
static double oracle_threshold(const double* x, int N) {
    double sorted[MAX_N], sum = 0, tau = 0, high = -INFINITY;
    for (int i = 0; i < N; i++) { high = fmax(high, x[i]); }
    for (int i = 0; i < N; i++) { sorted[i] = x[i] - high; }
    qsort(sorted, N, sizeof *sorted, descending);
    for (int k = 0; k < N; k++) {
        sum += sorted[k];
        if (sorted[k] > (sum - 1) / (k + 1)) { tau = (sum - 1) / (k + 1); }
    }
    return tau; // less the largest element
}

static void oracle(double* out, const double* x, Projection kind, int N) {
    double size[MAX_N], norm = 0, high = -INFINITY;
    for (int i = 0; i < N; i++) {
        size[i] = kind == PROJECT_L1 ? fabs(x[i]) : x[i];
        norm += fabs(x[i]);
        high = fmax(high, size[i]);
    }
    bool same = kind == PROJECT_NONE || (kind == PROJECT_L1 && norm <= 1);
    double tau = same ? 0 : oracle_threshold(size, N);
    for (int i = 0; i < N; i++) {
        double projected = fmax(size[i] - high - tau, 0);
        out[i] = same ? x[i] : kind == PROJECT_L1 ? copysign(projected, x[i]) : projected;
    }
}

// dx_j = sum_i dout_i d out_i / d x_j
static void oracle_backward(double* dx, const double* dout, const double* x, Projection kind, int N) {
    const double step = 1e-7;
    double at[MAX_N], up[MAX_N], down[MAX_N];
    for (int j = 0; j < N; j++) {
        memcpy(at, x, N * sizeof *x);
        at[j] = x[j] + step;
        oracle(up, at, kind, N);
        at[j] = x[j] - step;
        oracle(down, at, kind, N);
        dx[j] = 0;
        for (int i = 0; i < N; i++) { dx[j] += dout[i] * (up[i] - down[i]) / (2 * step); }
    }
}

// ---- Checks

static double largest_difference(const float* got, const double* want, int N) {
    double worst = 0;
    for (int i = 0; i < N; i++) {
        double e = fabs(got[i] - want[i]);
        if (!(e <= worst)) { worst = e; }
    }
    return worst;
}

static void check_constraint(const float* out, Projection kind, const char* what, int N) {
    double sum = 0, norm = 0, low = 0;
    for (int i = 0; i < N; i++) {
        sum += out[i];
        norm += fabs(out[i]);
        low = fmin(low, out[i]);
    }
    bool simplex = kind == PROJECT_SIMPLEX; // observed: 5.2e-8
    CHECK(!simplex || (fabs(sum - 1) <= 2e-7 && low == 0), "%s: sum %.9g, smallest %g", what, sum, low);
    CHECK(kind != PROJECT_L1 || norm <= 1 + 2e-7, "%s: norm %.9g", what, norm);
}

static void check_forward(const float* x, Projection kind, const char* what, int N) {
    float *out = guarded_floats(N), *scratch = guarded_floats(simplex_scratch(N)), *in_place = guarded_floats(N);
    static double exact[MAX_N], want[MAX_N];
    for (int i = 0; i < N; i++) {
        exact[i] = in_place[i] = x[i];
        scratch[i] = NAN;
    }
    oracle(want, exact, kind, N);
    simplex_row_forward(out, x, kind, scratch, N);
    simplex_row_forward(in_place, in_place, kind, scratch, N);
    CHECK_NEAR(largest_difference(out, want, N), 0, 2e-7, what); // observed: 4e-8
    check_constraint(out, kind, what, N);
    CHECK(!memcmp(out, in_place, N * sizeof *out), "%s: other bits in place", what);
    CHECK(guards_intact(out, N) && guards_intact(scratch, simplex_scratch(N)) && guards_intact(in_place, N),
          "%s: overrun", what);
    free(out), free(scratch), free(in_place);
}

static void check_backward(const float* x, Projection kind, const char* what, int N) {
    float *out = guarded_floats(N), *dout = random_floats(N, 7), *dx = guarded_floats(N);
    static float scratch[MAX_N];
    static double exact[MAX_N], exact_dout[MAX_N], want[MAX_N];
    for (int i = 0; i < N; i++) {
        exact[i] = x[i];
        exact_dout[i] = dout[i];
    }
    oracle_backward(want, exact_dout, exact, kind, N);
    simplex_row_forward(out, x, kind, scratch, N);
    simplex_row_backward(dx, dout, out, x, kind, N);
    simplex_row_backward(dout, dout, out, x, kind, N);
    CHECK_NEAR(largest_difference(dx, want, N), 0, 5e-7, what); // observed: 1.2e-7, which is the differences'
    CHECK(!memcmp(dx, dout, N * sizeof *dx), "%s: other bits in place", what);
    CHECK(guards_intact(dx, N) && guards_intact(dout, N), "%s: overrun", what);
    free(out), free(dout), free(dx);
}

static void random_row(float* x, int N, float scale, float shift, uint32_t tensor) {
    fill_normal(x, N, tensor);
    for (int i = 0; i < N; i++) { x[i] = shift + scale * x[i]; }
}

// From rows within the ball and wide supports to a single survivor, and rows without digits left after the point
static void test_random(void) {
    const int sizes[] = {1, 2, 3, 5, 17, 65, 197, MAX_N};
    const float scales[] = {1e-3f, 0.1f, 1, 30, 1e8f, 1e37f}, shifts[] = {0, -3, 1000};
    float x[MAX_N];
    char what[100];
    for (int i = 0; i < 8 * 6 * 3 * 3; i++) {
        int N = sizes[i % 8], scale = i / 8 % 6, shift = i / 48 % 3;
        Projection kind = i / 144;
        random_row(x, N, scales[scale], shifts[shift], i);
        snprintf(what, sizeof what, "kind %d, N = %d, scale %g, shift %g", kind, N, scales[scale], shifts[shift]);
        check_forward(x, kind, what, N);
        if (N <= 197 && scale < 4 && shift < 2) { check_backward(x, kind, what, N); }
    }
}

// Lists that never shrink, or by one at a time; ties; one element ahead of a wide support
static void test_shapes(void) {
    float x[197];
    for (Projection kind = PROJECT_NONE; kind <= PROJECT_L1; kind++) {
        for (int N = 1; N <= 197; N += 49) {
            for (int i = 0; i < N; i++) { x[i] = 2.5f; }
            check_forward(x, kind, "equal elements", N);
            check_backward(x, kind, "equal elements", N);
            for (int i = 0; i < N; i++) { x[i] = (i * 7 % 5 - 2) / 4.0f; }
            check_forward(x, kind, "ties", N);
            for (int i = 0; i < N; i++) { x[i] = 0.02f * i; }
            check_forward(x, kind, "rising", N);
            for (int i = 0; i < N; i++) { x[i] = -0.02f * i; }
            check_forward(x, kind, "falling", N);
            for (int i = 0; i < N; i++) { x[i] = -powf(0.5f, i); }
            check_forward(x, kind, "halving", N);
            for (int i = 0; i < N; i++) { x[i] = i % 2 ? 3e38f : -3e38f; }
            check_forward(x, kind, "the largest numbers", N);
            for (int i = 0; i < N; i++) { x[i] = i == N / 2 ? 0.6f : 0.0041f * (i % 11) / 11; } // tau in many digits
            check_forward(x, kind, "one ahead", N);
            memset(x, 0, sizeof x);
            check_forward(x, kind, "zeros", N);
        }
    }
}

// What lies in the set stays as it is, in the ball to the bit
static void test_feasible(void) {
    const float distribution[] = {0.25f, 0, 0.125f, 0.5f, 0, 0.125f}, sphere[] = {-0.25f, 0, 0.125f, -0.5f, 0, 0.125f};
    float out[6], scratch[6];
    simplex_row_forward(out, distribution, PROJECT_SIMPLEX, scratch, 6);
    CHECK(!memcmp(out, distribution, sizeof out), "a distribution stays");
    simplex_row_forward(out, sphere, PROJECT_L1, scratch, 6);
    CHECK(!memcmp(out, sphere, sizeof out), "a row of norm 1 stays");
    const float dout[] = {1, 2, 3, 4, 5, 6};
    float dx[6];
    simplex_row_backward(dx, dout, out, sphere, PROJECT_L1, 6);
    CHECK(!memcmp(dx, dout, sizeof dx), "and its gradient");
    simplex_row_backward(dx, dout, distribution, NULL, PROJECT_SIMPLEX, 6);
    const float mean = 3.5f; // of elements 0, 2, 3, 5
    CHECK(dx[0] == 1 - mean && dx[1] == 0 && dx[2] == 3 - mean && dx[4] == 0, "gradients on the support");
}

// A NaN, or an infinity that has no projection, comes out as a NaN from wherever it is; -inf is 0 on the simplex
static void test_not_finite(void) {
    const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[37], out[37], scratch[37];
    for (int kind = PROJECT_SIMPLEX; kind <= PROJECT_L1; kind++) {
        for (int i = 0; i < 3 * 37; i++) {
            int place = i % 37;
            random_row(x, 37, 1, 0, 3);
            x[place] = bad[i / 37];
            simplex_row_forward(out, x, kind, scratch, 37);
            bool zero = kind == PROJECT_SIMPLEX && i / 37 == 2;
            CHECK(zero ? out[place] == 0 : isnan(out[place]), "kind %d, %g at %d becomes %g", kind, x[place], place,
                  out[place]);
        }
        for (int i = 0; i < 37; i++) { x[i] = bad[i % 3]; }
        simplex_row_forward(out, x, kind, scratch, 37);
        CHECK(isnan(out[0]), "kind %d: nothing but infinities and NaNs", kind);
        for (int i = 0; i < 37; i++) { x[i] = -INFINITY; }
        simplex_row_forward(out, x, kind, scratch, 37);
        CHECK(isnan(out[0]), "kind %d: nothing but -inf", kind);
    }
}

int main(void) {
    test_random();
    test_shapes();
    test_feasible();
    test_not_finite();
    return tests_finish();
}
