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
    for (size_t i = 0; i < n; i++) { want_p[i] = p[i]; }
    for (int t = 1; t <= 7; t++) {
        fill_normal(g, n, 10 + t);
        for (size_t i = 0; i < n; i++) { g[i] *= i % 5 ? 1 : 1e-7f; } // some gradients near eps
        adamw_update(p, m, v, g, n, lr, beta1, beta2, eps, weight_decay, grad_scale, t);
        oracle_adamw(want_p, want_m, want_v, g, n, lr, beta1, beta2, eps, weight_decay, grad_scale, t);
    }
    CHECK_TENSOR(p, want_p, n, 1e-6, "AdamW parameters (observed 2.4e-7)");
    CHECK_TENSOR(m, want_m, n, 1e-6, "AdamW m (observed 7e-8)");
    CHECK_TENSOR(v, want_v, n, 1e-6, "AdamW v (observed 9e-8)");
    CHECK(all_numbers(p, n) && guards_intact(p, n) && guards_intact(m, n) && guards_intact(v, n), "AdamW: sentinels");
    free(p); free(m); free(v); free(g); free(want_p); free(want_m); free(want_v);
}

// After one step from m = v = 0 every parameter moves by lr against the gradient's sign, whatever its size
static void test_first_step(void) {
    float p[] = {1, 1, 1}, m[3] = {0}, v[3] = {0}, g[] = {100, -0.01f, 0};
    adamw_update(p, m, v, g, 3, 0.125f, 0.9f, 0.95f, 1e-8f, 0, 1, 1);
    CHECK_NEAR(p[0], 0.875, 2e-7, "first step (observed 0)");
    CHECK_NEAR(p[1], 1.125, 5e-7, "first step up (observed 1.2e-7)");
    CHECK(p[2] == 1, "no gradient, no decay, no step: %g", p[2]);
    adamw_update(p, m, v, (float[]){0, 0, 0}, 3, 0.125f, 0.9f, 0.95f, 1e-8f, 0.5f, 1, 2);
    CHECK(p[2] == 0.9375f, "decay alone multiplies by 1 - lr wd: %g", p[2]);
}

static void test_ema(void) {
    size_t n = 1001;
    float *ema = random_floats(n, 1), *p = random_floats(n, 2);
    double* want = zero_doubles(n);
    for (size_t i = 0; i < n; i++) { want[i] = 0.99 * ema[i] + 0.01 * p[i]; }
    ema_update(ema, p, n, 0.99f);
    CHECK_TENSOR(ema, want, n, 2e-7, "moving average (observed 4e-8)");
    CHECK(guards_intact(ema, n), "moving average: sentinels");
    ema_update(ema, p, n, 0);
    for (size_t i = 0; i < n; i++) { want[i] = p[i]; }
    CHECK_TENSOR(ema, want, n, 2e-7, "a decay of 0 copies (observed 8e-8)");
    free(ema); free(p); free(want);
}

static void test_norm_and_search(void) {
    size_t lengths[] = {0, 1, 63, 64, 65, 100003};
    for (int k = 0; k < 6; k++) {
        size_t n = lengths[k];
        float* g = random_floats(n, 1);
        double want = 0;
        for (size_t i = 0; i < n; i++) { want += (double)g[i] * g[i]; }
        CHECK_NEAR(global_norm(g, n), sqrt(want), 1e-12 * sqrt(want), "norm (observed 4e-14 relative)");
        CHECK(all_finite(g, n) && first_not_finite(g, n) == n, "%zu numbers", n);
        for (size_t at = 0; at < n; at += n / 3 + 1) {
            float bad[] = {NAN, INFINITY, -INFINITY}, kept = g[at];
            for (int i = 0; i < 3; i++) {
                g[at] = bad[i];
                CHECK(first_not_finite(g, n) == at && !isfinite(global_norm(g, n)), "%g at %zu of %zu", bad[i], at, n);
            }
            g[n - 1] = NAN;
            CHECK(first_not_finite(g, n) == at, "the first of two, at %zu", at);
            g[at] = kept;
            g[n - 1] = 1;
        }
        free(g);
    }
    float large[] = {3.4028235e38f, -3.4028235e38f};
    CHECK(all_finite(large, 2) && isfinite(global_norm(large, 2)), "the largest float is finite, and so is its norm");
}

static void test_threads(void) {
    size_t n = 10007;
    float* results[3];
    double norms[3];
    for (int threads = 1; threads <= 3; threads++) {
        float *p = random_floats(n, 1), *m = random_floats(n, 2), *v = random_floats(n, 3), *g = random_floats(n, 4);
        use_threads(threads);
        for (size_t i = 0; i < n; i++) { v[i] *= v[i]; }
        adamw_update(p, m, v, g, n, 1e-2f, 0.9f, 0.999f, 1e-8f, 0.05f, 0.7f, 3);
        ema_update(p, m, n, 0.9f);
        norms[threads - 1] = global_norm(p, n);
        results[threads - 1] = p;
        CHECK(!memcmp(p, results[0], n * sizeof *p) && norms[threads - 1] == norms[0],
              "the same bits with %d threads", threads);
        free(m); free(v); free(g);
    }
    for (int i = 0; i < 3; i++) { free(results[i]); }
}

int main(void) {
    check_adamw(1, 0.05f, 1);
    check_adamw(1003, 0.05f, 0.25f);
    check_adamw(4099, 0, 1);
    test_first_step();
    test_ema();
    test_norm_and_search();
    test_threads();
    return tests_finish();
}
