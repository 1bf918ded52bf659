// model/eigen.h and model/mimetic.h: the decomposition against its definition, and the products of weights that the
// start is made for, against the best approximation of their rank.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../model/mimetic.h"
#include "../../model/settings.h"
#include "kernel_test.h"

static double normal_at(uint32_t tensor, size_t i) { return random_normal(2, STREAM_CHECK, tensor, i); }

// M V = V diag(values) and V orthonormal; kind 0: noise, 1: eigenvalue 1 many times, 2: diagonal, 3: zero
static void check_eigen(int n, int kind) {
    size_t size = (size_t)n * n;
    double *M = zero_doubles(size), *spent = zero_doubles(size), *V = zero_doubles(size), *values = zero_doubles(n);
    double residual = 0, skew = 0;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j <= i; j++) {
            double options[] = {normal_at(1, (size_t)i * n + j), 1 + (i == j && i > 0), i == j ? i : 0, 0};
            M[i * n + j] = M[j * n + i] = options[kind];
        }
    }
    memcpy(spent, M, size * sizeof *M);
    symmetric_eigen(spent, values, V, n);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            double product = 0, dot = 0;
            for (int k = 0; k < n; k++) {
                product += M[j * n + k] * V[i * n + k];
                dot += V[i * n + k] * V[j * n + k];
            }
            residual = fmax(residual, fabs(product - values[i] * V[i * n + j]));
            skew = fmax(skew, fabs(dot - (i == j)));
        }
    }
    CHECK_NEAR(residual, 0, 1e-14 * n, "M v = lambda v (observed 1.2e-15 n)");
    CHECK_NEAR(skew, 0, 2e-15 * n, "eigenvectors are orthonormal (observed 3e-16 n)");
    free(M); free(spent); free(V); free(values);
}

static void check_factors(int C) {
    size_t size = (size_t)C * C;
    double *A = zero_doubles(size), *left = zero_doubles(size), *right = zero_doubles(size), miss = 0, balance = 0;
    double previous = INFINITY;
    mimetic_target(A, 0.4, -0.4, 3, 7, C);
    balanced_factors(left, right, A, C);
    for (size_t at = 0; at < size; at++) {
        double sum = 0;
        for (int i = 0; i < C; i++) { sum += left[(size_t)i * C + at / C] * right[(size_t)i * C + at % C]; }
        miss = fmax(miss, fabs(sum - A[at]));
    }
    for (int i = 0; i < C; i++) {
        double s = 0, t = 0;
        for (int c = 0; c < C; c++) {
            s += left[(size_t)i * C + c] * left[(size_t)i * C + c];
            t += right[(size_t)i * C + c] * right[(size_t)i * C + c];
        }
        balance = fmax(balance, fabs(s - t));
        CHECK(t <= previous + 1e-12, "singular value %d is %g after %g", i, t, previous);
        previous = t;
    }
    CHECK_NEAR(miss, 0, 1e-14, "sum of left rightᵀ (observed 7e-16)");
    CHECK_NEAR(balance, 0, 1e-12, "both factors carry the root of the singular value (observed 1.2e-14)");
    free(A); free(left); free(right);
}

// Frobenius: |product - A|², against the least there can be, the squares of the singular values that are cut
static void check_product(const float* rows, const float* columns, int row_step, int column_step, const double* A,
                          int rank, int C, const char* what) {
    size_t size = (size_t)C * C;
    double *left = zero_doubles(size), *right = zero_doubles(size), miss = 0, least = 0, all = 0;
    balanced_factors(left, right, A, C);
    for (int i = 0; i < C; i++) {
        double s = 0;
        for (int c = 0; c < C; c++) { s += right[(size_t)i * C + c] * right[(size_t)i * C + c]; }
        least += i < rank ? 0 : s * s;
        all += s * s;
    }
    for (int r = 0; r < C; r++) {
        for (int c = 0; c < C; c++) {
            double sum = -A[(size_t)r * C + c];
            for (int i = 0; i < rank; i++) { sum += (double)rows[i * C + r] * columns[i * row_step + c * column_step]; }
            miss += sum * sum;
        }
    }
    CHECK_NEAR(miss / all, least / all, 1e-9, what); // observed: 1e-15 of rank C, below 1e-9 else
    CHECK(rank == C || least > 0.01 * all, "%s: something is cut", what);
    free(left); free(right);
}

static void check_start(int threads, float* kept, size_t kept_size) {
    Config c;
    Error err;
    char* argv[] = {"test", "--model", "vit-mini", "--dim", "40", "--heads", "5", "--depth", "2"};
    ParameterTable table = {0};
    CHECK(config_parse(&c, NULL, 9, argv, &err), "%s", err.text);
    Dims d = dims_of(&c, 10);
    CHECK(parameter_table(&table, &c, d, &err), "%s", err.text);
    float* flat = alloc_floats(table.total, "test");
    use_threads(threads);
    mimetic_init(&table, d, 42, flat);
    int C = d.C, D = C / d.H;
    double* A = zero_doubles((size_t)C * C);
    for (int l = 0; l < d.L; l++) {
        Params p = params_of_block(&table, flat, l);
        for (int h = 0; h < d.H; h++) {
            const float *q = p.qkv_weight + (size_t)h * D * C, *k = q + (size_t)C * C;
            mimetic_target(A, 0.7, 0.7, 42, (uint64_t)(l * (d.H + 1) + h), C);
            check_product(q, k, C, 1, A, D, C, "queries and keys");
        }
        mimetic_target(A, 0.4, -0.4, 42, (uint64_t)(l * (d.H + 1) + d.H), C);
        check_product(p.qkv_weight + 2 * (size_t)C * C, p.proj_weight, 1, C, A, C, C, "values and projection");
    }
    CHECK(kept_size >= table.total, "room to compare");
    if (threads == 1) { memcpy(kept, flat, table.total * sizeof *flat); }
    CHECK(!memcmp(kept, flat, table.total * sizeof *flat), "the same bits with %d threads", threads);
    free(flat); free(A);
    parameter_table_free(&table);
}

static void test_target(void) {
    enum { C = 96 };
    double* A = zero_doubles(C * C);
    mimetic_target(A, 0.7, 0.7, 1, 0, C);
    double off = 0, diagonal = 0;
    for (int i = 0; i < C * C; i++) {
        off += i / C != i % C ? A[i] * A[i] / (C * (C - 1)) : 0;
        diagonal += i / C == i % C ? A[i] / C : 0;
    }
    CHECK_NEAR(off, 0.49 / C, 0.05 * 0.49 / C, "variance off the diagonal"); // standard error 1 %
    CHECK_NEAR(diagonal, 0.7, 0.03, "mean of the diagonal");                 // standard error 0.007
    free(A);
}

int main(void) {
    for (int kind = 0; kind < 4; kind++) {
        check_eigen(1, kind);
        check_eigen(2, kind);
        check_eigen(17, kind);
        check_eigen(64, kind);
    }
    check_factors(5);
    check_factors(96);
    float* kept = alloc_floats(1 << 20, "test");
    for (int threads = 1; threads <= 3; threads++) { check_start(threads, kept, 1 << 20); }
    free(kept);
    test_target();
    return tests_finish();
}
