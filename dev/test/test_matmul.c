// kernels/matmul.h against plain loops in double: the products, and the linear layer at odd shapes, also with operands
// rounded to bf16; and oneDNN's products, in fp32 where this processor has none in bf16.
#include "../../kernels/matmul.h"
#include "kernel_test.h"

enum { GUARD = 64 };
static const float sentinel = 12345.0f;

// The first n random numbers of a seed below 10, then sentinels. Kept: drawing them took longer than the products.
static float* normals(size_t n, uint64_t seed) {
    static float* kept[10];
    static size_t drawn[10];
    if (n > drawn[seed]) {
        kept[seed] = realloc(kept[seed], n * sizeof(float));
        for (size_t i = drawn[seed]; i < n; i++) { kept[seed][i] = (float)random_normal(seed, STREAM_CHECK, 0, i); }
        drawn[seed] = n;
    }
    float* x = alloc_floats(n + GUARD, "test");
    if (n) { memcpy(x, kept[seed], n * sizeof(float)); }
    for (int i = 0; i < GUARD; i++) { x[n + i] = sentinel; }
    return x;
}

static void check_guard(const char* what, const float* x, size_t n) {
    int intact = 1;
    for (int i = 0; i < GUARD; i++) { intact &= x[n + i] == sentinel; }
    CHECK(intact, "%s is overrun", what);
}

// The nearest number of 8 significant bits, ties to even, by arithmetic; of zeros and normal numbers
static double plain_bf16(double x) {
    int exponent;
    double fraction = frexp(x, &exponent); // 0.5 <= |fraction| < 1
    return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static double* operands(const float* x, size_t n, bool bf16) { // of a product, as it reads them
    double* y = alloc_bytes(n * sizeof *y, "test");
    for (size_t i = 0; i < n; i++) { y[i] = bf16 ? plain_bf16(x[i]) : x[i]; }
    return y;
}

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void test_rounding(void) {
    const struct { uint32_t from, want; } cases[] = {
        {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0xbf818000, 0xbf82}, // ties, and just above
        {0x7f7fffff, 0x7f80}, {0xff800000, 0xff80}, {0x80000000, 0x8000}, // the largest to infinity; -infinity; -0
        {0x00018000, 0x0002}, {0x00008000, 0x0000},                       // subnormal
        {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff}, {0x7fffffff, 0x7fff}, // NaN
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned got = bf16_from_float(from_bits(cases[i].from));
        CHECK(got == cases[i].want, "%08x rounds to %04x, not to %04x", cases[i].from, got, cases[i].want);
    }
    float* x = normals(100000, 1);
    int same = 1;
    for (int i = 0; i < 100000; i++) { same &= float_from_bf16(bf16_from_float(x[i])) == plain_bf16(x[i]); }
    CHECK(same, "a normal number is not rounded to the nearest");
    free(x);
}

typedef void Product(bool, bool, int, int, int, float, const float*, int, const float*, int, float, float*, int);

// Rows of A, B and C are further apart than they are long; what lies between C's rows must stay.
static void test_product(Product* product, const char* name, bool ta, bool tb, int M, int N, int K, float alpha,
                         float beta) {
    int lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 1, ldc = N + 2;
    size_t a_size = (size_t)(ta ? K : M) * lda, b_size = (size_t)(tb ? N : K) * ldb;
    float *A = normals(a_size, 1), *B = normals(b_size, 2), *C = normals((size_t)M * ldc, 3);
    double *a = operands(A, a_size, product == bf16_gemm), *b = operands(B, b_size, product == bf16_gemm);
    double* want = alloc_bytes((size_t)M * ldc * sizeof *want, "test");
    for (int m = 0; m < M; m++) {
        for (int n = 0; n < ldc; n++) {
            float* c = &C[(size_t)m * ldc + n];
            double sum = 0;
            for (int k = 0; n < N && k < K; k++) {
                sum += a[ta ? k * lda + m : m * lda + k] * b[tb ? n * ldb + k : k * ldb + n];
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
    free(A), free(B), free(C), free(a), free(b), free(want);
}

static void test_products(void) {
    const int shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {1, 64, 65}, {65, 12, 64}, {64, 65, 65}, {49, 257, 300},
                             {197, 33, 530}, {200, 195, 800}};
    const float betas[] = {0, 1, -0.7f};
    for (int i = 0; i < 8; i++) {
        for (int t = 0; t < 4; t++) {
            const int* s = shapes[i];
            test_product(own_gemm, "own_gemm", t & 1, t >> 1, s[0], s[1], s[2], 0.5f, betas[i % 3]);
            test_product(gemm, "gemm", t & 1, t >> 1, s[0], s[1], s[2], -1.5f, betas[(i + 2) % 3]);
            test_product(bf16_gemm, "bf16_gemm", t & 1, t >> 1, s[0], s[1], s[2], 0.5f, betas[(i + 1) % 3]);
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
    bool bf16 = bf16_products.on;
    double *x = operands(inp, (size_t)M * C, bf16), *w = operands(weight, (size_t)OC * C, bf16);
    double* g = operands(dout, (size_t)M * OC, bf16);
    double *out = alloc_bytes((size_t)M * OC * 8, "test"), *din = alloc_bytes((size_t)M * C * 8, "test");
    double *dw = alloc_bytes((size_t)OC * C * 8, "test"), *db = alloc_bytes((size_t)OC * 8, "test");
    float *dw0 = normals((size_t)OC * C, 7), *db0 = normals(OC, 8), *din0 = normals((size_t)M * C, 6);
    for (int i = 0; i < OC * C; i++) { dw[i] = dw0[i]; } // the gradients add to what is there
    for (int i = 0; i < OC; i++) { db[i] = db0[i]; }
    for (int m = 0; m < M; m++) {
        for (int o = 0; o < OC; o++) {
            double gradient = g[(size_t)m * OC + o], sum = bias ? b[o] : 0;
            for (int c = 0; c < C; c++) {
                sum += x[(size_t)m * C + c] * w[(size_t)o * C + c];
                din[(size_t)m * C + c] += gradient * w[(size_t)o * C + c];
                dw[(size_t)o * C + c] += gradient * x[(size_t)m * C + c];
            }
            out[(size_t)m * OC + o] = sum;
            db[o] += bias ? dout[(size_t)m * OC + o] : 0; // no product
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
        CHECK(e <= 4e-6, "linear M=%d C=%d OC=%d bf16=%d: %s relative error %.3g", // observed 6.5e-7
              M, C, OC, bf16, names[i], e);
        check_guard(names[i], got[i], sizes[i]);
        free(want[i]);
    }
    linear_free(l);
    free(inp), free(weight), free(b), free(dout), free(x), free(w), free(g), free(dw0), free(db0), free(din0);
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

// x (rows, n) with its rows ld apart and NaN in between
static float* apart(const float* x, int rows, int n, int ld) {
    float* to = alloc_floats((size_t)rows * ld, "test");
    for (int i = 0; i < rows * ld; i++) { to[i] = i % ld < n ? x[i / ld * n + i % ld] : NAN; }
    return to;
}

// Whether rows that lie apart are those of x, and nothing was written in between
static bool same_rows(const float* got, const float* x, int rows, int n, int ld) {
    float* want = apart(x, rows, n, ld);
    bool same = true;
    for (int i = 0; i < rows * ld; i++) { same &= got[i] == want[i] || (isnan(got[i]) && isnan(want[i])); }
    free(want);
    return same;
}

// Rows that lie apart give the same bits as those that do not.
static void test_strided(int M, int C, int OC) {
    LinearShape s = {M, C, OC, C + 5, OC + 3};
    Linear l = linear_run(M, C, OC, true, true);
    float* rows[] = {normals((size_t)M * C, 1), normals((size_t)M * OC, 4), normals((size_t)M * OC, 5),
                     normals((size_t)M * C, 6)};
    float *inp = apart(rows[0], M, C, s.ld_inp), *dout = apart(rows[1], M, OC, s.ld_out);
    float *out = apart(rows[2], M, OC, s.ld_out), *dinp = apart(rows[3], M, C, s.ld_inp);
    float *weight = normals((size_t)OC * C, 2), *b = normals(OC, 3), *dweight = normals((size_t)OC * C, 7);
    float *dbias = normals(OC, 8), *scratch = normals(linear_backward_scratch(M, C, OC), 9);
    linear_forward_strided(out, inp, weight, b, s);
    linear_backward_strided(dinp, 0, dweight, dbias, dout, inp, weight, scratch, s);
    CHECK(same_rows(out, l.out, M, OC, s.ld_out) && same_rows(dinp, l.dinp, M, C, s.ld_inp),
          "M=%d C=%d OC=%d: rows that lie apart have other bits", M, C, OC);
    CHECK(!memcmp(dweight, l.dweight, (size_t)OC * C * 4) && !memcmp(dbias, l.dbias, OC * 4),
          "M=%d C=%d OC=%d: of rows that lie apart gradients have other bits", M, C, OC);
    for (int i = 0; i < 4; i++) { free(rows[i]); }
    free(inp), free(dout), free(out), free(dinp), free(weight), free(b), free(dweight), free(dbias), free(scratch);
    linear_free(l);
}

// The linear layer, in fp32 or bf16
static void test_linears(void) {
    test_linear(1, 1, 1, true, true);
    test_linear(5, 20, 7, true, true);
    test_linear(17, 21, 63, false, false);
    test_linear(65 * 3, 24, 72, true, true);
    test_linear(1300, 40, 210, true, true); // several chunks and tiles
    test_linear(515, 33, 400, false, true);
    test_strided(33, 21, 100);
    test_strided(1300, 40, 210);
    test_threads(65, 48, 144);
    test_threads(2200, 96, 384);
}

#ifdef HAVE_DNNL
// false: oneDNN has none
static bool test_onednn_product(OnednnShape s) {
    size_t a_size = (size_t)s.M * s.K, b_size = (size_t)s.K * s.N, size = (size_t)s.M * s.N;
    bool low = s.type == dnnl_bf16;
    float *a = normals(a_size, 1), *b = normals(b_size, 2), *out = normals(size, 3);
    double *x = operands(a, a_size, low), *y = operands(b, b_size, low), *want = operands(out, size, false);
    Bf16 *low_a = alloc_bytes(a_size * sizeof *low_a, "test"), *low_b = alloc_bytes(b_size * sizeof *low_b, "test");
    bf16_block(low_a, a, s.K, s.M, s.K);
    bf16_block(low_b, b, s.N, s.K, s.N);
    for (int i = 0; i < s.M * s.N; i++) {
        int m = i / s.N, n = i % s.N;
        want[i] = 0;
        for (int k = 0; k < s.K; k++) {
            want[i] += x[s.transpose_a ? k * s.M + m : m * s.K + k] * y[s.transpose_b ? n * s.K + k : k * s.N + n];
        }
    }
    bool done = low ? onednn_product(out, low_a, low_b, s) : onednn_product(out, a, b, s);
    if (done) { CHECK_TENSOR(out, want, size, 4e-6, "oneDNN's product"); } // observed 3e-7 in fp32
    check_guard("oneDNN's product", out, size);
    free(a), free(b), free(out), free(x), free(y), free(want), free(low_a), free(low_b);
    return done;
}

// In every thread more shapes than are kept, and twice, so that some are found again and others made again
static void test_onednn(void) {
    int done = 0, low = 0;
    #pragma omp parallel for schedule(static) reduction(+:done, low)
    for (int thread = 0; thread < 3; thread++) {
        for (int i = 0; i < 2 * (ONEDNN_KEPT + 8); i++) {
            int n = i % (ONEDNN_KEPT + 8);
            OnednnShape s = {n & 1, n >> 1 & 1, 1 + n % 37, 3 + n % 61, 1 + n, dnnl_f32};
            #pragma omp critical
            done += test_onednn_product(s);
            s.type = dnnl_bf16;
            #pragma omp critical
            low += test_onednn_product(s);
        }
    }
    CHECK(done == 6 * (ONEDNN_KEPT + 8), "oneDNN made %d products in fp32", done);
    printf("oneDNN: %d products in fp32, %d in bf16\n", done, low);
}

// The same bits from every thread of 1, 2 and 3
static void test_onednn_threads(void) {
    OnednnShape s = {false, true, BF16_M, BF16_N, BF16_K, dnnl_f32};
    size_t size = (size_t)s.M * s.N;
    float *a = normals((size_t)s.M * s.K, 1), *b = normals((size_t)s.K * s.N, 2), *out = normals(9 * size, 3);
    for (int threads = 1; threads <= 3; threads++) {
        use_threads(threads);
        #pragma omp parallel for schedule(static)
        for (int i = 0; i < 3; i++) { onednn_product(out + (3 * (threads - 1) + i) * size, a, b, s); }
    }
    use_threads(2);
    for (int i = 1; i < 9; i++) {
        CHECK(memcmp(out, out + i * size, size * sizeof *out) == 0, "oneDNN: other bits with %d threads", i / 3 + 1);
    }
    free(a), free(b), free(out);
}
#endif

int main(void) {
    matmul_init();
    use_threads(2);
    printf("matmul: %s\n", matmul_library());
    test_rounding();
    test_products();
    test_linears();
    linear_use_bf16(true);
    printf("bf16: %s\n", linear_bf16_unit());
    test_products();
    test_linears();
#ifdef HAVE_DNNL
    test_onednn();
    test_onednn_threads();
    bf16_products.by_onednn = true; // also where there is no unit: what oneDNN cannot is left to gemm
    test_linears();
#endif
    return tests_finish();
}
