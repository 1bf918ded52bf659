// kernels/rational.h, rational_fit.h and rational_start.h against a plain double-precision form and known values.
#include "../../kernels/rational.h"
#include "../../kernels/rational_start.h"
#include "kernel_test.h"

// The oracle: F and its derivatives by x, a (m+1) and b (n), straight from the definition
static double oracle(double x, const double* a, const double* b, RationalShape s, double* dx, double* da, double* db) {
    double P = 0, dP = 0, S = 0, dS = 0;
    for (int i = 0; i <= s.m; i++) { P += a[i] * pow(x, i); }
    for (int i = 1; i <= s.m; i++) { dP += i * a[i] * pow(x, i - 1); }
    double sign_x = x < 0 ? -1 : 1;
    for (int j = 1; j <= s.n; j++) {
        if (s.form == RATIONAL_FORM_A) {
            S += fabs(b[j - 1]) * pow(fabs(x), j);
            dS += sign_x * j * fabs(b[j - 1]) * pow(fabs(x), j - 1);
        } else {
            S += b[j - 1] * pow(x, j);
            dS += j * b[j - 1] * pow(x, j - 1);
        }
    }
    double sign_S = S < 0 ? -1 : 1, Q = 1 + fabs(S), F = P / Q;
    *dx = (dP - F * sign_S * dS) / Q;
    for (int i = 0; i <= s.m; i++) { da[i] = pow(x, i) / Q; }
    for (int j = 1; j <= s.n; j++) {
        double sign_b = b[j - 1] < 0 ? -1 : 1;
        double dS_db = s.form == RATIONAL_FORM_A ? sign_b * pow(fabs(x), j) : pow(x, j);
        db[j - 1] = -F / Q * sign_S * dS_db;
    }
    return F;
}

// The oracle's derivatives against central differences, away from kinks (observed 9e-10)
static void test_oracle(void) {
    for (int form = 0; form < 2; form++) {
        RationalShape s = {5, 4, 1, form};
        double a[] = {.1, .9, -.3, .05, .02, -.01}, b[] = {-.4, .3, -.2, .1}, dx, da[6], db[4], unused[7], h = 1e-6;
        for (double x = -2.35; x < 2.5; x += 0.7) {
            oracle(x, a, b, s, &dx, da, db);
            double high = oracle(x + h, a, b, s, unused, unused + 1, unused + 1);
            double low = oracle(x - h, a, b, s, unused, unused + 1, unused + 1);
            CHECK_NEAR(dx, (high - low) / (2 * h), 1e-8, "dF/dx");
            for (int i = 0; i < 10; i++) {
                double* c = i < 6 ? a + i : &b[i - 6];
                double kept = *c;
                *c = kept + h;
                high = oracle(x, a, b, s, unused, unused + 1, unused + 1);
                *c = kept - h;
                low = oracle(x, a, b, s, unused, unused + 1, unused + 1);
                *c = kept;
                CHECK_NEAR(i < 6 ? da[i] : db[i - 6], (high - low) / (2 * h), 1e-8, "dF/dcoefficient");
            }
        }
    }
}

typedef struct {
    float value, slope, da[RATIONAL_MAX_ORDER + 1], db[RATIONAL_MAX_ORDER];
} Point;

static Point at_point(float x, const float* a, const float* b, RationalShape s) {
    Point p = {0};
    float scratch[2 * FIT_MAX], inp[LANES] = {x}, dout[LANES] = {1}, out[LANES], dinp[LANES];
    rational_forward(out, inp, a, b, 1, 1, s);
    rational_backward(dinp, p.da, p.db, dout, inp, a, b, scratch, 1, 1, s);
    p.value = out[0];
    p.slope = dinp[0];
    return p;
}

// Values computed in double from the published coefficients (observed 9.5e-8)
static void test_known_values(void) {
    RationalShape s = {5, 4, 1, RATIONAL_FORM_A};
    float swish_a[6], swish_b[4], a[] = {.1f, .9f, -.3f, .05f, .02f, -.01f}, b[] = {-.4f, .3f, -.2f, .1f};
    Error err;
    CHECK(rational_start("swish", s, swish_a, swish_b, &err), "swish starts");
    struct { const float *a, *b; float x; double value, slope; } known[] = {
        {swish_a, swish_b, -3, -0.142278817860, -0.088086899710},
        {swish_a, swish_b, 2, 1.761593995745, 1.090782751085},
        {a, b, -0.75f, -0.477132117328, 0.465491074350},
        {a, b, 2, 0.177419354839, -0.183454734651},
    };
    for (int i = 0; i < 4; i++) {
        Point p = at_point(known[i].x, known[i].a, known[i].b, s);
        CHECK_NEAR(p.value, known[i].value, 1e-6, "known value");
        CHECK_NEAR(p.slope, known[i].slope, 1e-6, "known derivative");
    }
}

// sgn(0) = +1 for x, b and S, in the value's derivative and in the coefficients'
static void test_kinks(void) {
    for (int form = 0; form < 2; form++) {
        RationalShape s = {5, 4, 1, form};
        float a[] = {1, 1, 0, 0, 0, 0}, b[] = {-.5f, 0, 0, 0}, zero[4] = {0};
        Point p = at_point(0, a, b, s); // F = (1 + x) / (1 + ½|x|)
        CHECK(p.value == 1 && p.slope == (form == RATIONAL_FORM_A ? 0.5f : 1.5f), "form %d, x = 0: %g", form, p.slope);
        p = at_point(-2, a, zero, s); // F = P = -1, Q = 1, S = 0
        CHECK(p.value == -1 && p.slope == 1, "form %d, b = 0: slope %g", form, p.slope);
        CHECK(p.db[0] == (form == RATIONAL_FORM_A ? 2 : -2) && p.db[1] == 4 && p.db[3] == 16,
              "form %d, b = 0: db %g %g %g", form, p.db[0], p.db[1], p.db[3]);
    }
}

typedef struct {
    RationalShape s;
    int rows, C;
    float *inp, *dout, *a, *b, *scratch; // inputs
    float *out, *dinp, *da, *db;         // results
} Case;

static Case make_case(int rows, int C, RationalShape s) {
    size_t n = (size_t)rows * C;
    Case t = {s, rows, C, random_floats(n, 1), random_floats(n, 2), random_floats(s.m + 1, 3),
              random_floats(s.groups * s.n, 4), guarded_floats(rational_scratch(rows, C, s)),
              guarded_floats(n), guarded_floats(n), guarded_floats(s.m + 1), guarded_floats(s.groups * s.n)};
    for (size_t i = 0; i < n; i += 13) { t.inp[i] = 0; } // on the kink
    for (int i = 0; i <= s.m; i++) { t.a[i] *= powf(0.4f, i); }
    for (int j = 0; j < s.groups * s.n; j++) { t.b[j] *= powf(0.4f, j % s.n); }
    return t;
}

static void free_case(Case* t) {
    float* all[] = {t->inp, t->dout, t->a, t->b, t->scratch, t->out, t->dinp, t->da, t->db};
    for (int i = 0; i < 9; i++) { free(all[i]); }
}

static void run_case(Case* t) {
    for (int i = 0; i <= t->s.m; i++) { t->da[i] = 1; } // += is part of the contract
    for (int i = 0; i < t->s.groups * t->s.n; i++) { t->db[i] = 1; }
    rational_forward(t->out, t->inp, t->a, t->b, t->rows, t->C, t->s);
    rational_backward(t->dinp, t->da, t->db, t->dout, t->inp, t->a, t->b, t->scratch, t->rows, t->C, t->s);
}

// Observed: out 5e-7, dinp 1.1e-6, da 2.8e-6, db 1.4e-6; without fused multiply-add, orders (15, 15): 3.8e-6, 7.6e-6,
// 2.3e-6, 7.4e-6
static void check_case(const Case* t) {
    RationalShape s = t->s;
    size_t n = (size_t)t->rows * t->C;
    int W = t->C / s.groups, B = s.groups * s.n;
    double *out = zero_doubles(n), *dinp = zero_doubles(n), *da = zero_doubles(s.m + 1), *db = zero_doubles(B);
    double a[RATIONAL_MAX_ORDER + 1], b[RATIONAL_MAX_ORDER], slope;
    double by_a[RATIONAL_MAX_ORDER + 1], by_b[RATIONAL_MAX_ORDER];
    for (int i = 0; i <= s.m; i++) { a[i] = t->a[i]; da[i] = 1; }
    for (int i = 0; i < B; i++) { db[i] = 1; }
    for (size_t k = 0; k < n; k++) {
        int group = k % t->C / W;
        for (int j = 0; j < s.n; j++) { b[j] = t->b[group * s.n + j]; }
        out[k] = oracle(t->inp[k], a, b, s, &slope, by_a, by_b);
        dinp[k] = t->dout[k] * slope;
        for (int i = 0; i <= s.m; i++) { da[i] += t->dout[k] * by_a[i]; }
        for (int j = 0; j < s.n; j++) { db[group * s.n + j] += t->dout[k] * by_b[j]; }
    }
    char what[100];
    snprintf(what, sizeof what, "form %d (%d,%d) g %d, %d x %d", s.form, s.m, s.n, s.groups, t->rows, t->C);
    double limit = s.m < 15 ? 8e-6 : 3e-5;
    CHECK_TENSOR(t->out, out, n, limit, what);
    CHECK_TENSOR(t->dinp, dinp, n, limit, what);
    CHECK_TENSOR(t->da, da, s.m + 1, limit, what);
    CHECK_TENSOR(t->db, db, B, limit, what);
    CHECK(all_numbers(t->out, n) && all_numbers(t->dinp, n) && all_numbers(t->da, s.m + 1) && all_numbers(t->db, B),
          "%s: all finite", what);
    CHECK(guards_intact(t->out, n) && guards_intact(t->dinp, n) && guards_intact(t->da, s.m + 1)
          && guards_intact(t->db, B) && guards_intact(t->scratch, rational_scratch(t->rows, t->C, s)),
          "%s: sentinels", what);
    free(out); free(dinp); free(da); free(db);
}

static void test_against_oracle(void) {
    int shapes[][3] = {{1, 24, 8}, {17, 40, 5}, {65, 24, 8}, {65, 768, 8}, {33, 7, 1}, {3, 64, 64}}; // rows, C, groups
    int orders[][2] = {{5, 4}, {1, 0}, {3, 2}, {2, 6}, {7, 1}, {15, 15}};
    for (int form = 0; form < 2; form++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
                RationalShape s = {orders[o][0], orders[o][1], shapes[i][2], form};
                Case t = make_case(shapes[i][0], shapes[i][1], s);
                run_case(&t);
                check_case(&t);
                free_case(&t);
            }
        }
    }
}

static void test_threads_and_aliasing(void) {
    for (int form = 0; form < 2; form++) {
        RationalShape s = {5, 4, 8, form};
        Case one = make_case(131, 200, s), more = make_case(131, 200, s);
        size_t n = 131 * 200;
        use_threads(1);
        run_case(&one);
        for (int threads = 2; threads <= 3; threads++) {
            use_threads(threads);
            run_case(&more);
            CHECK(!memcmp(one.out, more.out, n * 4) && !memcmp(one.dinp, more.dinp, n * 4)
                  && !memcmp(one.da, more.da, 6 * 4) && !memcmp(one.db, more.db, 32 * 4),
                  "form %d: the same bits with %d threads", form, threads);
        }
        rational_backward(more.dout, more.da, more.db, more.dout, more.inp, more.a, more.b, more.scratch, 131, 200, s);
        CHECK(!memcmp(one.dinp, more.dout, n * 4), "form %d: dinp may be dout", form);
        free_case(&one);
        free_case(&more);
    }
}

static void test_not_finite(void) {
    RationalShape s = {5, 4, 8, RATIONAL_FORM_A};
    float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        Case t = make_case(2, 24, s);
        t.inp[5] = bad[i];
        run_case(&t);
        CHECK(!isfinite(t.out[5]) && !isfinite(t.dinp[5]) && !isfinite(t.da[5]), "%g comes through", bad[i]);
        CHECK(isfinite(t.out[4]) && isfinite(t.out[6]) && isfinite(t.db[0]) && !isfinite(t.db[7]),
              "%g stays in its place", bad[i]);
        free_case(&t);
    }
}

static double largest_miss(const char* name, RationalShape s, RealFunction function) { // in fp32, on [-3, 3]
    float a[RATIONAL_MAX_ORDER + 1], b[RATIONAL_MAX_ORDER + 1], x[601], y[601];
    double worst = 0;
    Error err;
    CHECK(rational_start(name, s, a, b, &err), "%s starts", name);
    for (int i = 0; i <= 600; i++) { x[i] = (i - 300) / 100.0f; }
    rational_forward(y, x, a, b, 601, 1, s);
    for (int i = 0; i <= 600; i++) { worst = fmax(worst, fabs(y[i] - function(x[i]))); }
    return worst;
}

static double itself(double x) { return x; }

static void test_starts(void) {
    RationalShape A = {5, 4, 1, RATIONAL_FORM_A}, paper = {5, 4, 1, RATIONAL_FORM_PAPER};
    CHECK_NEAR(largest_miss("identity", A, itself), 0, 0, "identity");
    CHECK_NEAR(largest_miss("identity", (RationalShape){1, 0, 1, RATIONAL_FORM_PAPER}, itself), 0, 0, "identity (1,0)");
    CHECK_NEAR(largest_miss("swish", A, exact_swish), 0, 1.6e-6, "swish, form A (observed 1.3e-6)");
    CHECK_NEAR(largest_miss("swish", paper, exact_swish), 0, 3e-6, "swish, paper (observed 7.6e-7)");
    CHECK_NEAR(largest_miss("gelu", A, exact_gelu), 0, 4.3e-3, "gelu, form A (observed 4.14e-3)");
    CHECK_NEAR(largest_miss("gelu", paper, exact_gelu), 0, 3.1e-3, "gelu, paper (observed 2.95e-3)");
    CHECK_NEAR(largest_miss("gelu-as-released", A, exact_gelu), 1.47, 0.01, "gelu as released (observed 1.465)");
}

// Any orders: a longer denominator or numerator never fits worse than the shorter one did
static void test_fits(void) {
    for (int form = 0; form < 2; form++) {
        RationalShape small = {3, 2, 1, form}, large = {7, 6, 1, form}, highest = {15, 15, 1, form};
        double c[FIT_MAX];
        double rough = rational_fit(c, small, exact_gelu, -3, 3), previous = INFINITY;
        CHECK_NEAR(rough, 0, 8e-3, "gelu (3,2), root mean square (observed 6.4e-3 and 7e-3)");
        CHECK_NEAR(largest_miss("swish", large, exact_swish), 0, 2e-6, "swish (7,6) (observed 4.6e-7)");
        CHECK_NEAR(largest_miss("gelu", large, exact_gelu), 0, 5e-6, "gelu (7,6) (observed 1.9e-6)");
        CHECK_NEAR(largest_miss("gelu", highest, exact_gelu), 0, 3e-6, "gelu (15,15) (observed 6e-7)");
        for (int n = 0; n <= 4; n++) {
            double error = rational_fit(c, (RationalShape){4, n, 1, form}, exact_swish, -3, 3);
            CHECK(error <= previous * (1 + 1e-9), "swish (4,%d), form %d: %.3g after %.3g", n, form, error, previous);
            previous = error;
        }
        CHECK_NEAR(rational_fit(c, small, exp, 0, 1), 0, 1e-3, "exp on [0, 1] (observed 3.9e-4)");
    }
}

static void test_second_moment(void) {
    struct { const char* name; double gain, printed; } known[] = { // of the exact functions, and as the paper prints it
        {"identity", 1, 1}, {"swish", 2.810761, 2.8178}, {"gelu", 2.351716, 2.3568}};
    for (int i = 0; i < 3; i++) {
        RationalShape s = {5, 4, 8, RATIONAL_FORM_A};
        float a[6] = {0}, b[32] = {0};
        Error err;
        CHECK(rational_start(known[i].name, s, a, b, &err), "%s starts", known[i].name);
        CHECK(!memcmp(b, b + 28, 4 * sizeof *b), "%s: every group starts the same", known[i].name);
        double gain = 1 / rational_second_moment(a, b, s);
        CHECK_NEAR(gain, known[i].gain, 3e-4, "gain (observed 1e-4, the fit's error)");
        CHECK_NEAR(gain, known[i].printed, 0.008, "gain as printed");
    }
}

static void test_refusals(void) {
    float a[16], b[16];
    Error err;
    RationalShape s = {5, 4, 8, RATIONAL_FORM_A};
    CHECK(!rational_check(s, 100, &err) && strstr(err.text, "100 channels"), "100 channels, 8 groups: %s", err.text);
    CHECK(rational_check(s, 96, &err), "96 channels, 8 groups");
    CHECK(!rational_check((RationalShape){16, 4, 8, 0}, 96, &err) && strstr(err.text, "(16, 4)"), "%s", err.text);
    CHECK(!rational_check((RationalShape){0, 4, 8, 0}, 96, &err), "order 0");
    CHECK(!rational_check((RationalShape){5, 4, 0, 0}, 96, &err), "no groups");
    CHECK(!rational_start("tanh", (RationalShape){5, 4, 1, 0}, a, b, &err) && strstr(err.text, "tanh"), "%s", err.text);
    CHECK(!rational_start("gelu-as-released", (RationalShape){5, 4, 1, RATIONAL_FORM_PAPER}, a, b, &err), "refused");
}

int main(void) {
    test_oracle();
    test_known_values();
    test_kinks();
    test_against_oracle();
    test_threads_and_aliasing();
    test_not_finite();
    test_starts();
    test_fits();
    test_second_moment();
    test_refusals();
    return tests_finish();
}
