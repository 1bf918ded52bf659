// kernels/matmul.h against plain loops in double: both products, and the linear layer at odd shapes.
#include "../../kernels/matmul.h"
#include "kernel_test.h"

enum { GUARD = 64 };
static const float sentinel = 12345.0f;

static float* normals(size_t n, uint64_t seed) {
    float* x = alloc_floats(n + GUARD, "test");
    for (size_t i = 0; i < n + GUARD; i++) { x[i] = i < n ? (float)random_normal(seed, STREAM_CHECK, 0, i) : sentinel; }
    return x;
}

static void check_guard(const char* what, const float* x, size_t n) {
    int intact = 1;
    for (int i = 0; i < GUARD; i++) { intact &= x[n + i] == sentinel; }
    CHECK(intact, "%s is overrun", what);
}

typedef void Product(bool, bool, int, int, int, float, const float*, int, const float*, int, float, float*, int);

// Rows of A, B and C are further apart than they are long; what lies between C's rows must stay.
static void test_product(Product* product, const char* name, bool ta, bool tb, int M, int N, int K, float alpha,
                         float beta) {
    int lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 1, ldc = N + 2;
    float *A = normals((size_t)(ta ? K : M) * lda, 1), *B = normals((size_t)(tb ? N : K) * ldb, 2);
    float* C = normals((size_t)M * ldc, 3);
    double* want = alloc_bytes((size_t)M * ldc * sizeof *want, "test");
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < ldc; n++) {
            float* c = &C[(size_t)m * ldc + n];
            double sum = 0;
            for (int k = 0; n < N && k < K; k++) {
                double a = A[ta ? k * lda + m : m * lda + k], b = B[tb ? n * ldb + k : k * ldb + n];
                sum += a * b;
            }
            want[(size_t)m * ldc + n] = n >= N ? *c : alpha * sum + (beta != 0 ? beta * *c : 0);
            if (n < N && beta == 0) { *c = NAN; }
        }
    }
    product(ta, tb, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
    double e = relative_error(C, want, (size_t)M * ldc);
    CHECK(e <= 4e-6, "%s ta=%d tb=%d M=%d N=%d K=%d alpha=%g beta=%g: relative error %.3g", // observed 8.9e-7
          name, ta, tb, M, N, K, alpha, beta, e);
    check_guard(name, C, (size_t)M * ldc);
    free(A), free(B), free(C), free(want);
}

static void test_products(void) {
    const int shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {1, 64, 65}, {65, 12, 64}, {64, 65, 65}, {49, 257, 300},
                             {197, 33, 530}};
    const float betas[] = {0, 1, -0.7f};
    for (int i = 0; i < 7; i++) {
        for (int t = 0; t < 4; t++) {
            const int* s = shapes[i];
            test_product(own_gemm, "own_gemm", t & 1, t >> 1, s[0], s[1], s[2], 0.5f, betas[i % 3]);
            test_product(gemm, "gemm", t & 1, t >> 1, s[0], s[1], s[2], -1.5f, betas[(i + 2) % 3]);
        }
    }
}

typedef struct { float *out, *dinp, *dweight, *dbias; } Linear;

static Linear linear_run(int M, int C, int OC, bool bias, bool dinp) {
    float *inp = normals((size_t)M * C, 1), *weight = normals((size_t)OC * C, 2), *b = normals(OC, 3);
    float* dout = normals((size_t)M * OC, 4);
    size_t scratch_size = linear_backward_scratch(M, C, OC);
    float* scratch = normals(scratch_size, 9);
    Linear l = {normals((size_t)M * OC, 5), normals((size_t)M * C, 6), normals((size_t)OC * C, 7), normals(OC, 8)};
    linear_forward(l.out, inp, weight, bias ? b : NULL, M, C, OC);
    linear_backward(dinp ? l.dinp : NULL, l.dweight, bias ? l.dbias : NULL, dout, inp, weight, scratch, M, C, OC);
    check_guard("scratch", scratch, scratch_size);
    free(inp), free(weight), free(b), free(dout), free(scratch);
    return l;
}

static void linear_free(Linear l) { free(l.out), free(l.dinp), free(l.dweight), free(l.dbias); }

static void test_linear(int M, int C, int OC, bool bias, bool dinp) {
    float *inp = normals((size_t)M * C, 1), *weight = normals((size_t)OC * C, 2), *b = normals(OC, 3);
    float* dout = normals((size_t)M * OC, 4);
    double *out = alloc_bytes((size_t)M * OC * 8, "test"), *din = alloc_bytes((size_t)M * C * 8, "test");
    double *dw = alloc_bytes((size_t)OC * C * 8, "test"), *db = alloc_bytes((size_t)OC * 8, "test");
    float *dw0 = normals((size_t)OC * C, 7), *db0 = normals(OC, 8), *din0 = normals((size_t)M * C, 6);
    for (int i = 0; i < OC * C; i++) { dw[i] = dw0[i]; } // the gradients add to what is there
    for (int i = 0; i < OC; i++) { db[i] = db0[i]; }
    for (int m = 0; m < M; m++) {
        for (int o = 0; o < OC; o++) {
            double g = dout[(size_t)m * OC + o], sum = bias ? b[o] : 0;
            for (int c = 0; c < C; c++) {
                sum += (double)inp[(size_t)m * C + c] * weight[(size_t)o * C + c];
                din[(size_t)m * C + c] += g * weight[(size_t)o * C + c];
                dw[(size_t)o * C + c] += g * inp[(size_t)m * C + c];
            }
            out[(size_t)m * OC + o] = sum;
            db[o] += bias ? g : 0;
        }
    }
    for (int i = 0; !dinp && i < M * C; i++) { din[i] = din0[i]; } // left alone
    Linear l = linear_run(M, C, OC, bias, dinp);
    const float* got[] = {l.out, l.dinp, l.dweight, l.dbias};
    double* want[] = {out, din, dw, db};
    const size_t sizes[] = {(size_t)M * OC, (size_t)M * C, (size_t)OC * C, OC};
    const char* names[] = {"out", "dinp", "dweight", "dbias"};
    for (int i = 0; i < 4; i++) {
        double e = relative_error(got[i], want[i], sizes[i]);
        CHECK(e <= 4e-6, "linear M=%d C=%d OC=%d: %s relative error %.3g", M, C, OC, names[i], e); // observed 6.5e-7
        check_guard(names[i], got[i], sizes[i]);
        free(want[i]);
    }
    linear_free(l);
    free(inp), free(weight), free(b), free(dout), free(dw0), free(db0), free(din0);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(int M, int C, int OC) {
    const int threads[] = {2, 1, 2, 3};
    Linear first = {0};
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        Linear l = linear_run(M, C, OC, true, true);
        if (i == 0) {
            first = l;
            continue;
        }
        bool same = !memcmp(l.out, first.out, (size_t)M * OC * 4) && !memcmp(l.dinp, first.dinp, (size_t)M * C * 4) &&
                    !memcmp(l.dweight, first.dweight, (size_t)OC * C * 4) && !memcmp(l.dbias, first.dbias, OC * 4);
        CHECK(same, "M=%d C=%d OC=%d: other bits with %d threads", M, C, OC, threads[i]);
        linear_free(l);
    }
    linear_free(first);
    use_threads(2);
}

int main(void) {
    matmul_init();
    use_threads(2);
    printf("matmul: %s\n", matmul_library());
    test_products();
    test_linear(1, 1, 1, true, true);
    test_linear(5, 20, 7, true, true);
    test_linear(17, 21, 63, false, false);
    test_linear(65 * 3, 24, 72, true, true);
    test_linear(1300, 40, 210, true, true); // several chunks and tiles
    test_linear(515, 33, 400, false, true);
    test_threads(65, 48, 144);
    test_threads(2200, 96, 384);
    return tests_finish();
}
