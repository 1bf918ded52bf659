// kernels/attention_gate.h against its definition in double, and its gradients against central differences of the loss
// sum(dout out); gates that are all but shut and open; the same bits for any number of threads.
#include "../../kernels/attention_gate.h"
#include "kernel_test.h"

static double gate(double s) { return 1 / (1 + exp(-s)); }

static void test_problem(int rows, int C, int H, float scale) {
    size_t n = (size_t)rows * C, heads = (size_t)rows * H;
    float *s = random_floats(heads, 1), *mix = random_floats(n, 2), *dout = random_floats(n, 3);
    float *out = guarded_floats(n), *ds = guarded_floats(heads);
    double *want = zero_doubles(n), *want_dmix = zero_doubles(n), *want_ds = zero_doubles(heads);
    for (size_t head = 0; head < heads; head++) { s[head] *= scale; }
    for (size_t i = 0; i < n; i++) {
        size_t head = i / (C / H);
        double slope = (gate(s[head] + 1e-5) - gate(s[head] - 1e-5)) / 2e-5;
        want[i] = gate(s[head]) * mix[i];
        want_dmix[i] = gate(s[head]) * dout[i];
        want_ds[head] += slope * dout[i] * mix[i];
    }
    gate_forward(out, s, mix, rows, C, H);
    CHECK_TENSOR(out, want, n, 5e-7, "gated (observed 1.5e-7)");
    gate_backward(dout, ds, dout, s, mix, rows, C, H); // in place
    CHECK_TENSOR(dout, want_dmix, n, 5e-7, "dmix (observed 1.5e-7)");
    CHECK_TENSOR(ds, want_ds, heads, 1e-6, "ds (observed 3e-7)");
    CHECK(guards_intact(out, n) && guards_intact(dout, n) && guards_intact(ds, heads), "sentinels");
    free(s), free(mix), free(dout), free(out), free(ds), free(want), free(want_dmix), free(want_ds);
}

static void test_threads(void) {
    enum { ROWS = 101, C = 42, H = 3 };
    float *s = random_floats(ROWS * H, 1), *mix = random_floats(ROWS * C, 2), *dout = random_floats(ROWS * C, 3);
    float* results[4];
    for (int threads = 1; threads <= 3; threads++) {
        float *out = guarded_floats(ROWS * (2 * C + H)), *ds = out + 2 * ROWS * C;
        use_threads(threads);
        gate_forward(out, s, mix, ROWS, C, H);
        gate_backward(out + ROWS * C, ds, dout, s, mix, ROWS, C, H);
        results[threads] = out;
        CHECK(!memcmp(out, results[1], ROWS * (2 * C + H) * sizeof *out), "the same bits with %d threads", threads);
    }
    for (int threads = 1; threads <= 3; threads++) { free(results[threads]); }
    free(s), free(mix), free(dout);
}

int main(void) {
    test_problem(1, 1, 1, 1);
    test_problem(5, 21, 3, 1);
    test_problem(65, 96, 3, 1);
    test_problem(33, 64, 1, 40);
    test_threads();
    return tests_finish();
}
