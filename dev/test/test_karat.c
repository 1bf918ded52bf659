// kernels/karat.h against the operator as it is defined, in double: phi and sigma materialised.
#include "../../kernels/karat.h"
#include "plain_basis.h"
#include "kernel_test.h"

enum { GUARD = 64 };
static const float sentinel = 12345.0f;

typedef struct { bool scales, bias; float logit_scale; } Options;

typedef struct { // one problem: inputs, outputs (guarded by sentinels), and what they should be
    KaratDims d;
    Options o;
    size_t activations, gradients, tokens, coefs, units, weights, offsets; // sizes; gradients: of dqkv
    float *qkv, *dout, *coef, *scale_basis, *scale_base, *W, *beta, *table;
    float *out, *z, *dqkv, *dcoef, *dscale_basis, *dscale_base, *dW, *dbeta, *dtable;
    double *want_out, *want_z, *want_dqkv, *want_dcoef, *want_dscale_basis, *want_dscale_base, *want_dW, *want_dbeta;
    double* want_dtable;
} Problem;

static float* normals(size_t n, float scale, uint64_t seed) {
    float* x = alloc_floats(n, "test");
    for (size_t i = 0; i < n; i++) { x[i] = scale * (float)random_normal(seed, STREAM_CHECK, 0, i); }
    return x;
}

static float* guarded(size_t n) { return alloc_floats(n + GUARD, "test"); }
static double* doubles(size_t n) { return alloc_bytes(n * sizeof(double), "test"); }

static KaratDims dims(int B, int N, int C, int H, int R, int G, KaratBase base) { // in the Fourier basis
    return (KaratDims){.B = B, .N = N, .NQ = N, .C = C, .H = H, .D = C / H, .R = R, .G = G, .base = base,
                       .spline_order = 3, .spline_range = 4};
}

static KaratDims with_queries(KaratDims d, int NQ) {
    d.NQ = NQ;
    return d;
}

static KaratDims with_basis(KaratDims d, KaratBasis basis) {
    d.basis = basis;
    return d;
}

static KaratDims with_windows(KaratDims d, int shift, KaratMask mask) { // of a grid of 2 x 2 for each image
    int size = (int)(sqrt(d.N) + 0.5);
    d.windows = (Windows){2 * size, size, shift}, d.mask = mask, d.B *= 4;
    return d;
}

// |s| to 0.5 and above: of a wavelet as narrow as a random s can be, fp32 cannot follow the derivatives
static void widen_wavelets(float* coef, KaratDims d) {
    if (!basis_is_wavelet(d.basis)) { return; }
    for (size_t unit = 0; unit < (size_t)d.H * d.R; unit++) {
        for (int q = 0; q < d.N; q++) {
            float* s = &coef[(unit * WAVELET_PARAMETERS + 2) * d.N + q];
            *s += copysignf(0.5f, *s);
        }
    }
}

static Problem problem_new(KaratDims d, Options o) {
    Problem p = {.d = d, .o = o};
    p.activations = (size_t)d.B * d.NQ * d.C;
    p.gradients = 3 * (size_t)d.B * d.N * d.C;
    p.tokens = (size_t)d.B * d.H * d.NQ * d.R;
    p.units = (size_t)d.H * d.R * d.N;
    p.coefs = p.units * karat_coefficients(d);
    p.weights = (size_t)d.H * d.N * d.R;
    p.offsets = karat_in_windows(d) ? (size_t)window_offsets(d.windows) * d.H : 0;
    p.table = normals(p.offsets, 1, 8);
    p.dtable = guarded(p.offsets), p.want_dtable = doubles(p.offsets);
    p.qkv = normals(p.gradients, o.logit_scale, 1);
    fill_unused_queries(p.qkv, NAN, d.B, d.N, d.NQ, d.C);
    p.dout = normals(p.activations, 1, 2);
    p.coef = normals(p.coefs, 1, 3);
    widen_wavelets(p.coef, d);
    p.scale_basis = normals(p.units, 0.5f, 4);
    p.scale_base = normals(p.units, 1, 5);
    p.W = normals(p.weights, 0.3f, 6);
    p.beta = normals(d.N, 0.3f, 7);
    p.out = guarded(p.activations), p.want_out = doubles(p.activations);
    p.z = guarded(p.tokens), p.want_z = doubles(p.tokens);
    p.dqkv = guarded(p.gradients), p.want_dqkv = doubles(p.gradients);
    p.dcoef = guarded(p.coefs), p.want_dcoef = doubles(p.coefs);
    p.dscale_basis = guarded(p.units), p.want_dscale_basis = doubles(p.units);
    p.dscale_base = guarded(p.units), p.want_dscale_base = doubles(p.units);
    p.dW = guarded(p.weights), p.want_dW = doubles(p.weights);
    p.dbeta = guarded(d.N), p.want_dbeta = doubles(d.N);
    return p;
}

static void problem_free(Problem* p) {
    void* all[] = {p->qkv, p->dout, p->coef, p->scale_basis, p->scale_base, p->W, p->beta, p->out, p->z, p->dqkv,
        p->dcoef, p->dscale_basis, p->dscale_base, p->dW, p->dbeta, p->want_out, p->want_z, p->want_dqkv, p->want_dcoef,
        p->want_dscale_basis, p->want_dscale_base, p->want_dW, p->want_dbeta, p->table, p->dtable, p->want_dtable};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) { free(all[i]); }
}

static void reset(float* x, size_t n, float value) { // gradients begin at value: they are added to
    for (size_t i = 0; i < n + GUARD; i++) { x[i] = i < n ? value : sentinel; }
}

static const float gradient_start = 0.25f;

static void run(Problem* p) {
    bool scales = p->o.scales;
    KaratParams params = {
        .inner = {p->coef, scales ? p->scale_basis : NULL, scales ? p->scale_base : NULL},
        .proj_weight = p->W, .proj_bias = p->o.bias ? p->beta : NULL, .bias_table = p->table};
    KaratGrads grads = {
        .inner = {p->dcoef, scales ? p->dscale_basis : NULL, scales ? p->dscale_base : NULL},
        .proj_weight = p->dW, .proj_bias = p->o.bias ? p->dbeta : NULL, .bias_table = p->dtable};
    reset(p->out, p->activations, NAN), reset(p->z, p->tokens, NAN), reset(p->dqkv, p->gradients, NAN);
    reset(p->dcoef, p->coefs, gradient_start), reset(p->dscale_basis, p->units, gradient_start);
    reset(p->dscale_base, p->units, gradient_start), reset(p->dW, p->weights, gradient_start);
    reset(p->dbeta, p->d.N, gradient_start), reset(p->dtable, p->offsets, gradient_start);
    size_t scratch_size = karat_scratch(p->d);
    float* scratch = guarded(scratch_size);
    reset(scratch, scratch_size, NAN);
    karat_forward(p->out, p->z, p->qkv, params, scratch, p->d);
    karat_backward(p->dqkv, grads, p->dout, p->z, p->qkv, params, scratch, p->d);
    int intact = 1;
    for (int i = 0; i < GUARD; i++) { intact &= scratch[scratch_size + i] == sentinel; }
    CHECK(intact, "scratch is overrun");
    CHECK(unused_queries_intact(p->dqkv, p->d.B, p->d.N, p->d.NQ, p->d.C),
          "the gradient of a query that there is not is written");
    free(scratch);
}

// ---- The oracle

static double base_value(double x, KaratBase base, double* slope) {
    double s = 1 / (1 + exp(-x)), cdf = 0.5 * (1 + erf(x / sqrt(2.0)));
    switch (base) {
    case KARAT_BASE_IDENTITY: *slope = 1; return x;
    case KARAT_BASE_SILU: *slope = s * (1 + x * (1 - s)); return x * s;
    case KARAT_BASE_GELU: *slope = cdf + x * exp(-0.5 * x * x) / sqrt(2 * 3.14159265358979323846); return x * cdf;
    default: *slope = 0; return 0;
    }
}

enum { MAX_COEFFICIENTS = 32 };
static const double STEP = 1e-6; // of differences

// phi_pq(x), and its slope; with upstream gradient g also the parameters' gradients
static double oracle_phi(Problem* P, size_t unit, int q, double x, double* slope, double g) {
    size_t i = unit * P->d.N + q;
    int N = P->d.N, M = karat_coefficients(P->d);
    Basis basis = karat_basis(P->d);
    double scale_basis = P->o.scales ? P->scale_basis[i] : 1, scale_base = P->o.scales ? P->scale_base[i] : 1;
    double base_slope, b = base_value(x, P->d.base, &base_slope), theta[MAX_COEFFICIENTS] = {0};
    for (int m = 0; m < M; m++) { theta[m] = P->coef[(unit * M + m) * N + q]; }
    double sum = plain_phi(basis, theta, x, q, N);
    double sum_slope = (plain_phi(basis, theta, x + STEP, q, N) - plain_phi(basis, theta, x - STEP, q, N)) / (2 * STEP);
    for (int m = 0; g != 0 && m < M; m++) {
        double start = theta[m], up, down;
        theta[m] = start + STEP, up = plain_phi(basis, theta, x, q, N);
        theta[m] = start - STEP, down = plain_phi(basis, theta, x, q, N);
        theta[m] = start;
        P->want_dcoef[(unit * M + m) * N + q] += g * scale_basis * (up - down) / (2 * STEP);
    }
    P->want_dscale_basis[i] += g * sum;
    P->want_dscale_base[i] += g * b;
    *slope = scale_base * base_slope + scale_basis * sum_slope;
    return scale_base * b + scale_basis * sum;
}

// Place n of sequence b: where on the rolled grid, if that is what it is a window of; and its row among all tokens
static void place_of(const Problem* P, int b, int n, int* y, int* x) {
    int size = P->d.windows.size, across = P->d.windows.grid / size, window = b % (across * across);
    *y = window / across * size + n / size, *x = window % across * size + n % size;
}

static size_t row_of(const Problem* P, int b, int n, int tokens) {
    int y, x, grid = P->d.windows.grid, shift = P->d.windows.shift;
    if (!karat_in_windows(P->d)) { return (size_t)b * tokens + n; }
    place_of(P, b, n, &y, &x);
    return (size_t)b / windows_of_image(P->d.windows) * grid * grid + (y + shift) % grid * grid + (x + shift) % grid;
}

static bool of_one_region(const Problem* P, int b, int k, int n) {
    int y[2], x[2], edge = P->d.windows.grid - P->d.windows.shift;
    if (!karat_in_windows(P->d) || P->d.windows.shift == 0) { return true; }
    place_of(P, b, k, &y[0], &x[0]), place_of(P, b, n, &y[1], &x[1]);
    return (y[0] >= edge) == (y[1] >= edge) && (x[0] >= edge) == (x[1] >= edge);
}

static size_t table_row(const Problem* P, int k, int n) {
    int w = P->d.windows.size;
    return (size_t)(k / w - n / w + w - 1) * (2 * w - 1) + k % w - n % w + w - 1;
}

static double logit(Problem* P, int b, int h, int k, int n) {
    int D = P->d.C / P->d.H, N = P->d.N;
    double sum = 0;
    const float* query = P->qkv + row_of(P, b, k, N) * 3 * P->d.C + h * D;
    const float* key = P->qkv + row_of(P, b, n, N) * 3 * P->d.C + P->d.C + h * D;
    for (int i = 0; i < D; i++) { sum += (double)query[i] * key[i] / sqrt(D); }
    if (karat_in_windows(P->d)) { sum += P->table[table_row(P, k, n) * P->d.H + h]; }
    return P->d.mask == KARAT_MASK_LITERAL && !of_one_region(P, b, k, n) ? sum - 100 : sum;
}

static bool may_meet(const Problem* P, int b, int k, int n) {
    return P->d.mask == KARAT_MASK_LITERAL || of_one_region(P, b, k, n);
}

// One row k of one sample and head: z, sigma, out, and every gradient
static void oracle_row(Problem* P, int b, int h, int k) {
    int N = P->d.N, C = P->d.C, D = C / P->d.H, R = P->d.R;
    size_t at = row_of(P, b, k, P->d.NQ) * C + h * D, at_q = 3 * row_of(P, b, k, N) * C + h * D;
    const float *q = P->qkv + at_q, *dout = P->dout + at;
    double *z = P->want_z + ((size_t)(b * P->d.H + h) * P->d.NQ + k) * R, *dz = doubles(R), slope;
    for (int p = 0; p < R; p++) {
        for (int n = 0; n < N; n++) {
            if (may_meet(P, b, k, n)) { z[p] += oracle_phi(P, h * R + p, n, logit(P, b, h, k, n), &slope, 0); }
        }
    }
    for (int n = 0; n < N; n++) {
        if (!may_meet(P, b, k, n)) { continue; }
        const float* W = P->W + ((size_t)h * N + n) * R;
        size_t at_v = (3 * row_of(P, b, n, N) + 2) * C + h * D;
        double sigma = P->o.bias ? P->beta[n] : 0, dsigma = 0;
        for (int p = 0; p < R; p++) { sigma += W[p] * z[p]; }
        for (int i = 0; i < D; i++) {
            P->want_out[at + i] += sigma * P->qkv[at_v + i];
            P->want_dqkv[at_v + i] += sigma * dout[i];
            dsigma += dout[i] * (double)P->qkv[at_v + i];
        }
        P->want_dbeta[n] += dsigma;
        for (int p = 0; p < R; p++) {
            P->want_dW[((size_t)h * N + n) * R + p] += dsigma * z[p];
            dz[p] += W[p] * dsigma;
        }
    }
    for (int n = 0; n < N; n++) {
        if (!may_meet(P, b, k, n)) { continue; }
        double dA = 0, A = logit(P, b, h, k, n);
        size_t at_k = (3 * row_of(P, b, n, N) + 1) * C + h * D;
        for (int p = 0; p < R; p++) {
            oracle_phi(P, h * R + p, n, A, &slope, dz[p]);
            dA += slope * dz[p];
        }
        for (int i = 0; i < D; i++) {
            P->want_dqkv[at_q + i] += dA * P->qkv[at_k + i] / sqrt(D);
            P->want_dqkv[at_k + i] += dA * q[i] / sqrt(D);
        }
        if (karat_in_windows(P->d)) { P->want_dtable[table_row(P, k, n) * P->d.H + h] += dA; }
    }
    free(dz);
}

// ---- Checks

static void check(Problem* P, const char* what, const float* got, double* want, size_t n, double limit,
                  bool accumulates) {
    for (size_t i = 0; accumulates && i < n; i++) { want[i] += gradient_start; }
    double e = relative_error(got, want, n);
    CHECK(e <= limit, "basis %d B=%d N=%d NQ=%d C=%d H=%d R=%d G=%d base %d scales %d bias %d, grid %d shifted by %d, "
          "mask %d: %s relative error %.3g, limit %.2g", P->d.basis, P->d.B, P->d.N, P->d.NQ, P->d.C, P->d.H, P->d.R,
          P->d.G, P->d.base, P->o.scales, P->o.bias, P->d.windows.grid, P->d.windows.shift, P->d.mask, what, e, limit);
    int intact = 1;
    for (int i = 0; i < GUARD; i++) { intact &= got[n + i] == sentinel; }
    CHECK(intact, "%s is overrun", what);
}

static void untouched(const char* what, const float* got, size_t n) {
    int same = 1;
    for (size_t i = 0; i < n; i++) { same &= got[i] == gradient_start; }
    CHECK(same, "%s is written although its parameter is off", what);
}

static void test_problem(KaratDims d, Options o, double limit) {
    Problem P = problem_new(d, o);
    run(&P);
    for (int b = 0; b < d.B; b++) {
        for (int h = 0; h < d.H; h++) {
            for (int k = 0; k < d.NQ; k++) { oracle_row(&P, b, h, k); }
        }
    }
    check(&P, "out", P.out, P.want_out, P.activations, limit, false);
    check(&P, "z", P.z, P.want_z, P.tokens, limit, false);
    check(&P, "dqkv", P.dqkv, P.want_dqkv, P.gradients, limit, false);
    check(&P, "dcoef", P.dcoef, P.want_dcoef, P.coefs, limit, true);
    check(&P, "dW", P.dW, P.want_dW, P.weights, limit, true);
    if (o.scales) { check(&P, "dscale_basis", P.dscale_basis, P.want_dscale_basis, P.units, limit, true); }
    if (o.scales && d.base != KARAT_BASE_ZERO) {
        check(&P, "dscale_base", P.dscale_base, P.want_dscale_base, P.units, limit, true);
    } else {
        untouched("dscale_base", P.dscale_base, P.units);
    }
    if (o.bias) { check(&P, "dbeta", P.dbeta, P.want_dbeta, d.N, limit, true); }
    check(&P, "dtable", P.dtable, P.want_dtable, P.offsets, limit, true);
    problem_free(&P);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(KaratDims d) {
    const int threads[] = {2, 1, 2, 3};
    Problem P[4];
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        P[i] = problem_new(d, (Options){true, true, 1});
        run(&P[i]);
    }
    for (int i = 1; i < 4; i++) {
        Problem *a = &P[i], *b = &P[0];
        const float* ours[] = {a->out, a->z, a->dqkv, a->dcoef, a->dscale_basis, a->dscale_base, a->dW, a->dbeta,
                               a->dtable};
        const float* first[] = {b->out, b->z, b->dqkv, b->dcoef, b->dscale_basis, b->dscale_base, b->dW, b->dbeta,
                                b->dtable};
        size_t sizes[] = {P[0].activations, P[0].tokens, P[0].gradients, P[0].coefs, P[0].units, P[0].units,
                          P[0].weights, d.N, P[0].offsets};
        for (int t = 0; t < 9; t++) {
            bool same = !memcmp(ours[t], first[t], sizes[t] * sizeof(float));
            CHECK(same, "basis %d, tensor %d: other bits with %d threads", d.basis, t, threads[i]);
        }
    }
    for (int i = 0; i < 4; i++) { problem_free(&P[i]); }
    use_threads(2);
}

static void swap(double* a, double* b) {
    double t = *a;
    *a = *b;
    *b = t;
}

// Row-reduces A (n,n) with complete pivoting; returns how many pivots exceed limit times the first
static int numerical_rank(double* A, int n, double limit) {
    double first = 0;
    for (int rank = 0; rank < n; rank++) {
        int row = rank, col = rank;
        for (int i = rank; i < n; i++) {
            for (int j = rank; j < n; j++) {
                if (fabs(A[i * n + j]) > fabs(A[row * n + col])) { row = i, col = j; }
            }
        }
        double pivot = A[row * n + col];
        if (rank == 0) { first = fabs(pivot); }
        if (!(fabs(pivot) > limit * first)) { return rank; }
        for (int j = 0; j < n; j++) { swap(&A[row * n + j], &A[rank * n + j]); }
        for (int i = 0; i < n; i++) { swap(&A[i * n + col], &A[i * n + rank]); }
        for (int i = rank + 1; i < n; i++) {
            double f = A[i * n + rank] / pivot;
            for (int j = rank; j < n; j++) { A[i * n + j] -= f * A[rank * n + j]; }
        }
    }
    return n;
}

// sigma is at most of rank R, R + 1 with beta: with V the identity, out is sigma itself
static void test_rank(void) {
    enum { N = 24, R = 5 };
    for (int bias = 0; bias < 2; bias++) {
        Problem P = problem_new(dims(1, N, N, 1, R, 3, KARAT_BASE_ZERO), (Options){true, bias, 1});
        for (int n = 0; n < N; n++) {
            for (int i = 0; i < N; i++) { P.qkv[(size_t)n * 3 * N + 2 * N + i] = n == i; }
        }
        run(&P);
        double sigma[N * N];
        for (int i = 0; i < N * N; i++) { sigma[i] = P.out[i]; }
        int rank = numerical_rank(sigma, N, 1e-4);
        CHECK(rank == R + bias, "rank of sigma: %d, R = %d, bias %d", rank, R, bias);
        problem_free(&P);
    }
}

// One token; every base activation; more samples than slots, a tail of rows and lanes in every direction; splines of
// order 1 and a grid of 2
static void test_basis(KaratBasis basis) {
    const Options full = {true, true, 1}, plain = {false, false, 1};
    const double limit = 2e-5; // observed: at most 6e-6 (rational)
    test_problem(with_basis(dims(1, 1, 7, 1, 1, 1, KARAT_BASE_ZERO), basis), full, limit);
    test_problem(with_basis(dims(3, 5, 20, 1, 3, 3, KARAT_BASE_IDENTITY), basis), full, limit);
    test_problem(with_basis(dims(9, 17, 21, 3, 5, 2, KARAT_BASE_GELU), basis), plain, limit);
    test_problem(with_basis(dims(1, 65, 40, 2, 7, 5, KARAT_BASE_SILU), basis), full, limit);
    test_problem(with_queries(with_basis(dims(9, 17, 21, 3, 5, 2, KARAT_BASE_SILU), basis), 1), full, limit);
    KaratDims wide = with_basis(dims(2, 33, 24, 2, 4, 2, KARAT_BASE_ZERO), basis);
    wide.spline_order = 1, wide.spline_range = 0.7f;
    test_problem(wide, (Options){true, false, 1}, limit);
}

// Windows, cut where they lie and of a rolled grid, both masks; without the units of a basis that has no regions
static void test_windows(KaratBasis basis) {
    const Options full = {true, true, 1};
    const double limit = 2e-5;
    for (int mask = 0; mask < 2; mask++) {
        for (int shift = 0; shift < 3; shift++) {
            KaratDims d = with_windows(with_basis(dims(2, 16, 21, 3, 5, 3, KARAT_BASE_SILU), basis), shift, mask);
            if (karat_takes_windows(d)) { test_problem(d, full, limit); }
            d.base = KARAT_BASE_ZERO;
            if (karat_takes_windows(d)) { test_problem(d, (Options){true, false, 1}, limit); }
        }
    }
}

int main(void) {
    matmul_init();
    use_threads(2);
    const Options full = {true, true, 1}, plain = {false, false, 1}, large = {true, true, 7};
    // observed: 2.8e-6 at most (N = 197, G = 11), 1.9e-5 with large logits (to about 200)
    const double limit = 1e-5, limit_large = 1e-4;
    test_problem(dims(1, 1, 7, 1, 1, 1, KARAT_BASE_ZERO), plain, limit);
    test_problem(dims(3, 5, 20, 1, 3, 3, KARAT_BASE_IDENTITY), full, limit);
    test_problem(dims(2, 17, 64, 2, 12, 11, KARAT_BASE_SILU), full, limit);
    test_problem(dims(9, 17, 21, 3, 3, 1, KARAT_BASE_GELU), plain, limit);
    test_problem(dims(2, 65, 128, 2, 12, 3, KARAT_BASE_ZERO), full, limit);
    test_problem(dims(1, 65, 40, 2, 12, 3, KARAT_BASE_GELU), (Options){true, false, 1}, limit);
    test_problem(dims(1, 197, 64, 1, 12, 3, KARAT_BASE_ZERO), (Options){true, false, 1}, limit);
    test_problem(dims(1, 197, 14, 2, 1, 11, KARAT_BASE_IDENTITY), (Options){false, true, 1}, limit);
    test_problem(with_queries(dims(2, 197, 20, 2, 12, 3, KARAT_BASE_ZERO), 1), full, limit);
    test_problem(with_queries(dims(2, 65, 20, 2, 12, 3, KARAT_BASE_ZERO), 51), full, limit);
    test_problem(dims(2, 17, 64, 2, 12, 3, KARAT_BASE_SILU), large, limit_large);
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        test_threads(with_basis(dims(11, 37, 60, 3, 12, 3, KARAT_BASE_SILU), basis));
        test_basis(basis);
        test_windows(basis);
    }
    test_problem(with_windows(dims(1, 49, 64, 2, 12, 3, KARAT_BASE_ZERO), 3, KARAT_MASK_REGION), full, limit);
    test_problem(with_windows(dims(1, 49, 64, 2, 12, 3, KARAT_BASE_ZERO), 3, KARAT_MASK_LITERAL), full, limit);
    test_problem(with_windows(dims(1, 9, 5, 1, 1, 2, KARAT_BASE_IDENTITY), 1, KARAT_MASK_REGION), full, limit);
    test_threads(with_windows(dims(3, 16, 60, 3, 12, 3, KARAT_BASE_SILU), 2, KARAT_MASK_REGION));
    test_threads(with_windows(dims(3, 16, 60, 3, 12, 3, KARAT_BASE_ZERO), 0, KARAT_MASK_LITERAL));
    test_rank();
    return tests_finish();
}
