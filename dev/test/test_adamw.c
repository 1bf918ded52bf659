// kernels/adamw.h against double precision: several steps of AdamW, the moving average, the norm, the search for NaN.
#include "../../kernels/adamw.h"
#include "kernel_test.h"

// The definition in PyTorch's documentation, in double
static void oracle_adamw(double* p, double* m, double* v, const float* g, size_t n, double lr, double beta1,
                         double beta2, double eps, double weight_decay, double grad_scale, int t) {
    for (size_t i = 0; i < n; i++) {
        double grad = grad_scale * g[i];
        p[i] -= lr * weight_decay * p[i];
        m[i] = beta1 * m[i] + (1 - beta1) * grad;
        v[i] = beta2 * v[i] + (1 - beta2) * grad * grad;
        p[i] -= lr * (m[i] / (1 - pow(beta1, t))) / (sqrt(v[i] / (1 - pow(beta2, t))) + eps);
    }
}

static void check_adamw(size_t n, float weight_decay, float grad_scale) {
    float *p = random_floats(n, 1), *m = guarded_floats(n), *v = guarded_floats(n), *g = guarded_floats(n);
    double *want_p = zero_doubles(n), *want_m = zero_doubles(n), *want_v = zero_doubles(n);
    float lr = 1e-2f, beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;
    uint8_t* groups = alloc_array(uint8_t, n / GROUP_FLOATS + 1, "test");
    for (size_t i = 0; i < n; i++) { want_p[i] = p[i]; }
    for (int t = 1; t <= 7; t++) {
        fill_normal(g, n, 10 + t);
        for (size_t i = 0; i < n; i++) { g[i] *= i % 5 ? 1 : 1e-7f; } // some gradients near eps
        AdamWStep step = adamw_step(lr, beta1, beta2, weight_decay, t);
        adamw_update(p, m, v, NULL, g, groups, n, (AdamW){beta1, beta2, eps, 0}, &step, grad_scale);
        oracle_adamw(want_p, want_m, want_v, g, n, lr, beta1, beta2, eps, weight_decay, grad_scale, t);
    }
    CHECK_TENSOR(p, want_p, n, 1e-6, "AdamW parameters (observed 2.4e-7)");
    CHECK_TENSOR(m, want_m, n, 1e-6, "AdamW m (observed 7e-8)");
    CHECK_TENSOR(v, want_v, n, 1e-6, "AdamW v (observed 9e-8)");
    CHECK(all_numbers(p, n) && guards_intact(p, n) && guards_intact(m, n) && guards_intact(v, n), "AdamW: sentinels");
    free(p); free(m); free(v); free(g); free(want_p); free(want_m); free(want_v); free(groups);
}

// After one step from m = v = 0 every parameter moves by lr against the gradient's sign, whatever its size
static void test_first_step(void) {
    float p[] = {1, 1, 1}, m[3] = {0}, v[3] = {0}, g[] = {100, -0.01f, 0};
    const AdamW c = {0.9f, 0.95f, 1e-8f, 0};
    AdamWStep first = adamw_step(0.125f, 0.9f, 0.95f, 0, 1), second = adamw_step(0.125f, 0.9f, 0.95f, 0.5f, 2);
    adamw_update(p, m, v, NULL, g, (uint8_t[]){0}, 3, c, &first, 1);
    CHECK_NEAR(p[0], 0.875, 2e-7, "first step (observed 0)");
    CHECK_NEAR(p[1], 1.125, 5e-7, "first step up (observed 1.2e-7)");
    CHECK(p[2] == 1, "no gradient, no decay, no step: %g", p[2]);
    adamw_update(p, m, v, NULL, (float[]){0, 0, 0}, (uint8_t[]){0}, 3, c, &second, 1);
    CHECK(p[2] == 0.9375f, "decay alone multiplies by 1 - lr wd: %g", p[2]);
}

// Each GROUP_FLOATS by the step of their group, the last ones fewer
static void test_groups(void) {
    size_t n = 3 * GROUP_FLOATS + 7;
    const uint8_t groups[] = {1, 0, 2, 1};
    const AdamW c = {0.9f, 0.95f, 1e-8f, 0};
    AdamWStep steps[3];
    float *p = random_floats(n, 1), *alone = random_floats(n, 1), *g = random_floats(n, 2), *m = guarded_floats(n);
    float *v = guarded_floats(n), *m_alone = guarded_floats(n), *v_alone = guarded_floats(n);
    memset(m, 0, n * sizeof *m), memset(v, 0, n * sizeof *v);
    memset(m_alone, 0, n * sizeof *m), memset(v_alone, 0, n * sizeof *v);
    for (int i = 0; i < 3; i++) { steps[i] = adamw_step(0.01f * (float)i, 0.9f, 0.95f, 0.1f, 1); }
    adamw_update(p, m, v, NULL, g, groups, n, c, steps, 1);
    for (size_t at = 0; at < n; at += GROUP_FLOATS) {
        size_t count = n - at < GROUP_FLOATS ? n - at : GROUP_FLOATS;
        adamw_update(alone + at, m_alone + at, v_alone + at, NULL, g + at, (uint8_t[]){0}, count, c,
                     &steps[groups[at / GROUP_FLOATS]], 1);
    }
    CHECK(!memcmp(p, alone, n * sizeof *p) && guards_intact(p, n), "a group has its own step");
    free(p); free(alone); free(g); free(m); free(v); free(m_alone); free(v_alone);
}

static void test_ema(void) {
    size_t n = 1001;
    float *ema = random_floats(n, 1), *p = random_floats(n, 2), *m = guarded_floats(n), *v = guarded_floats(n);
    double* want = zero_doubles(n);
    const AdamWStep still = {0, 1, 1};
    for (size_t i = 0; i < n; i++) { want[i] = 0.99 * ema[i] + 0.01 * p[i], m[i] = v[i] = 0; }
    adamw_update(p, m, v, ema, m, (uint8_t[]){0, 0, 0, 0}, n, (AdamW){0.9f, 0.95f, 1e-8f, 0.99f}, &still, 1);
    CHECK_TENSOR(ema, want, n, 2e-7, "moving average (observed 4e-8)");
    CHECK(guards_intact(ema, n), "moving average: sentinels");
    adamw_update(p, m, v, ema, m, (uint8_t[]){0, 0, 0, 0}, n, (AdamW){0.9f, 0.95f, 1e-8f, 0}, &still, 1);
    for (size_t i = 0; i < n; i++) { want[i] = p[i]; }
    CHECK_TENSOR(ema, want, n, 2e-7, "a decay of 0 copies (observed 8e-8)");
    free(ema); free(p); free(m); free(v); free(want);
}

static double norm_of(const float* g, size_t n) {
    double* squares = zero_doubles(granules_of(n));
    granule_squares(squares, g, n);
    double norm = norm_of_granules(squares, granules_of(n));
    free(squares);
    return norm;
}

static void test_norm_and_search(void) {
    size_t lengths[] = {0, 1, 63, 64, 65, 100003};
    for (int k = 0; k < 6; k++) {
        size_t n = lengths[k];
        float* g = random_floats(n, 1);
        double want = 0;
        for (size_t i = 0; i < n; i++) { want += (double)g[i] * g[i]; }
        CHECK_NEAR(norm_of(g, n), sqrt(want), 1e-12 * sqrt(want), "norm (observed 4e-14 relative)");
        CHECK(all_finite(g, n) && first_not_finite(g, n) == n, "%zu numbers", n);
        for (size_t at = 0; at < n; at += n / 3 + 1) {
            float bad[] = {NAN, INFINITY, -INFINITY}, kept = g[at];
            for (int i = 0; i < 3; i++) {
                g[at] = bad[i];
                CHECK(first_not_finite(g, n) == at && !isfinite(norm_of(g, n)), "%g at %zu of %zu", bad[i], at, n);
            }
            g[n - 1] = NAN;
            CHECK(first_not_finite(g, n) == at, "the first of two, at %zu", at);
            g[at] = kept;
            g[n - 1] = 1;
        }
        free(g);
    }
    float large[] = {3.4028235e38f, -3.4028235e38f};
    CHECK(all_finite(large, 2) && isfinite(norm_of(large, 2)), "the largest float is finite, and so is its norm");
}

static void test_threads(void) {
    size_t n = 10007;
    float *results[3], *means[3];
    const uint8_t groups[40] = {0};
    double norms[3];
    for (int threads = 1; threads <= 3; threads++) {
        float *p = random_floats(n, 1), *m = random_floats(n, 2), *v = random_floats(n, 3), *g = random_floats(n, 4);
        float* ema = random_floats(n, 5);
        use_threads(threads);
        for (size_t i = 0; i < n; i++) { v[i] *= v[i]; }
        AdamWStep step = adamw_step(1e-2f, 0.9f, 0.999f, 0.05f, 3);
        adamw_update(p, m, v, ema, g, groups, n, (AdamW){0.9f, 0.999f, 1e-8f, 0.9f}, &step, 0.7f);
        norms[threads - 1] = norm_of(p, n);
        results[threads - 1] = p, means[threads - 1] = ema;
        CHECK(!memcmp(p, results[0], n * sizeof *p) && norms[threads - 1] == norms[0],
              "the same bits with %d threads", threads);
        CHECK(!memcmp(ema, means[0], n * sizeof *ema), "the same moving average with %d threads", threads);
        free(m); free(v); free(g);
    }
    for (int i = 0; i < 3; i++) { free(results[i]), free(means[i]); }
}

int main(void) {
    check_adamw(1, 0.05f, 1);
    check_adamw(1003, 0.05f, 0.25f);
    check_adamw(4099, 0, 1);
    test_first_step();
    test_groups();
    test_ema();
    test_norm_and_search();
    test_threads();
    return tests_finish();
}
