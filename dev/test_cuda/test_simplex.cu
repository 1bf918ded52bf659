// simplex.cuh against simplex.h: rows of one element and of more than a warp's lanes, from within the ball to a single
// survivor, of any magnitude, ties, and what is not finite. Rows are fp32 in any storage.
#include "../../kernels/simplex.cuh"
#include "cpu_attention.h"
#include "kernel_test.cuh"

static const Limits EXACT = {1e-6, 0}; // seen: 0, as sums in double leave the same fp32

static void test_rows(const char* what, const Floats& x, Projection kind, int N) {
    int rows = x.size() / N;
    Floats dout = random_values<float>(x.size()), out(x.size()), dx(x.size());
    Device<float> d_x(x), d_in_place(x), d_dout(dout), d_out(x.size()), d_dx(x.size());
    cpu_simplex(out.data(), dx.data(), x.data(), dout.data(), kind, rows, N);
    simplex_rows_forward(d_out, d_x, kind, rows, N, 0);
    simplex_rows_forward(d_in_place, d_in_place, kind, rows, N, 0);
    simplex_rows_backward(d_dx, d_dout, d_out, d_x, kind, rows, N, 0);
    simplex_rows_backward(d_dout, d_dout, d_out, d_x, kind, rows, N, 0);
    check<float>(what, d_out, out, EXACT);
    check<float>("gradient", d_dx, dx, EXACT);
    bool same = d_in_place.host() == d_out.host() && d_dout.host() == d_dx.host();
    CHECK(same, "%s, N = %d: other values in place", what, N);
}

static Floats random_rows(int rows, int N, float scale, float shift) {
    Floats x = random_values<float>((size_t)rows * N, scale);
    for (float& value : x) { value += shift; }
    return x;
}

static void test_random(Projection kind) {
    for (int N : {1, 2, 5, 12, 33, 65, 197}) {
        for (float scale : {1e-3f, 0.1f, 1.0f, 30.0f, 1e8f, 1e37f}) {
            test_rows("random rows", random_rows(9, N, scale, 0), kind, N);
            test_rows("shifted rows", random_rows(3, N, scale, 1000), kind, N);
        }
    }
}

static void test_shapes(Projection kind) {
    for (int N : {1, 50, 197}) {
        Floats x;
        for (int i = 0; i < N; i++) { x.push_back(2.5f); }
        for (int i = 0; i < N; i++) { x.push_back((i * 7 % 5 - 2) / 4.0f); }
        for (int i = 0; i < N; i++) { x.push_back(0.02f * i); }
        for (int i = 0; i < N; i++) { x.push_back(-powf(0.5f, i)); }
        for (int i = 0; i < N; i++) { x.push_back(i % 2 ? 3e38f : -3e38f); }
        for (int i = 0; i < N; i++) { x.push_back(0); }
        test_rows("ties and long lists", x, kind, N);
    }
}

// A NaN, or an infinity that has no projection, comes out as a NaN from wherever it is; -inf is 0 on the simplex
static void test_not_finite(Projection kind) {
    const int N = 37;
    for (float bad : {NAN, INFINITY, -INFINITY}) {
        Floats x = random_rows(N, N, 1, 0);
        for (int r = 0; r < N; r++) { x[r * N + r] = bad; }
        Device<float> out(x);
        simplex_rows_forward(out, out, kind, N, N, 0);
        Floats got = out.host();
        bool zero = kind == PROJECT_SIMPLEX && bad == -INFINITY;
        for (int r = 0; r < N; r++) {
            float value = got[r * N + r];
            CHECK(zero ? value == 0 : isnan(value), "kind %d, %g at %d becomes %g", kind, bad, r, value);
        }
    }
}

int main(int argc, char** argv) {
    for (Projection kind : {PROJECT_NONE, PROJECT_SIMPLEX, PROJECT_L1}) {
        test_random(kind);
        test_shapes(kind);
        if (kind != PROJECT_NONE) { test_not_finite(kind); }
    }
    return kernel_tests_finish(argc, argv);
}
