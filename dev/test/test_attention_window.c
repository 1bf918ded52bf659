// kernels/attention_window.h and kernels/patch_merge.h against the rolled grid, its windows and their logits as Swin is
// defined, in double.
#include "../../kernels/attention_window.h"
#include "../../kernels/patch_merge.h"
#include "differences.h"

typedef struct {
    int B, C, H, D;
    Windows w;
    size_t activations, rows, offsets; // elements of out, of lse, of the table
    double *qkv, *table, *dout;        // what the plain form reads
    double *out, *lse;                 // what it fills
} Problem;

static size_t token_of(const Problem* p, int b, int y, int x) { // of the rolled grid's place y, x
    int S = p->w.grid;
    return (size_t)(b * S + (y + p->w.shift) % S) * S + (x + p->w.shift) % S;
}

static int part(int c, Windows w) { return (c >= w.grid - w.size) + (c >= w.grid - w.shift); }

// One query of one window and head. row, column: the window's first on the rolled grid; i, j: the query's place in it
static void plain_query(const Problem* p, int b, int h, int row, int column, int i, int j, double* out, double* lse) {
    int w = p->w.size, N = w * w, C = p->C, D = p->D;
    double *logits = zero_doubles(N), sum = 0;
    const double* values[N];
    const double* q = p->qkv + 3 * C * token_of(p, b, row + i, column + j);
    for (int n = 0; n < N; n++) {
        int y = n / w, x = n % w, offset = (i - y + w - 1) * (2 * w - 1) + j - x + w - 1;
        const double* k = p->qkv + 3 * C * token_of(p, b, row + y, column + x) + C;
        for (int c = 0; c < D; c++) { logits[n] += q[h * D + c] * k[h * D + c] / sqrt(D); }
        logits[n] += p->table[offset * (C / D) + h];
        bool same = part(row + i, p->w) == part(row + y, p->w) && part(column + j, p->w) == part(column + x, p->w);
        if (p->w.shift && !same) { logits[n] -= 100; }
        values[n] = k + C + h * D;
        sum += exp(logits[n]);
    }
    for (int c = 0; c < D; c++) { out[c] = 0; }
    for (int n = 0; n < N; n++) {
        for (int c = 0; c < D; c++) { out[c] += exp(logits[n]) / sum * values[n][c]; }
    }
    *lse = log(sum);
    free(logits);
}

static double loss(const void* problem) {
    const Problem* p = problem;
    int w = p->w.size, across = p->w.grid / w, windows = across * across, N = w * w;
    double sum = 0;
    for (int i = 0; i < p->B * windows * p->H * N; i++) {
        int n = i % N, h = i / N % p->H, window = i / N / p->H % windows, b = i / N / p->H / windows;
        int row = window / across * w, column = window % across * w, y = n / w, x = n % w;
        size_t token = token_of(p, b, row + y, column + x);
        double* out = p->out + token * p->C + h * p->D;
        plain_query(p, b, h, row, column, y, x, out, p->lse + i);
        for (int c = 0; c < p->D; c++) { sum += out[c] * p->dout[token * p->C + h * p->D + c]; }
    }
    return sum;
}

typedef struct { float *qkv, *table, *dout, *out, *lse, *dqkv, *dtable; } Run;

static Run run(const Problem* p) {
    size_t n = p->activations, scratch_size = window_attention_scratch(p->B, p->w, p->H, p->D);
    Run r = {random_floats(3 * n, 1), random_floats(p->offsets, 2), random_floats(n, 3), random_floats(n, 4),
             random_floats(p->rows, 5), random_floats(3 * n, 6), guarded_floats(p->offsets)};
    float* scratch = random_floats(scratch_size, 7);
    for (size_t i = 0; i < p->offsets; i++) { r.dtable[i] = 0.25f; }
    window_attention_forward(r.out, r.lse, r.qkv, r.table, scratch, p->B, p->w, p->C, p->H, p->D);
    window_attention_backward(r.dqkv, r.dtable, r.dout, r.out, r.lse, r.qkv, r.table, scratch, p->B, p->w, p->C, p->H,
                              p->D);
    for (size_t i = 0; i < p->offsets; i++) { r.dtable[i] -= 0.25f; } // it is added to
    CHECK(guards_intact(r.out, n) && guards_intact(r.lse, p->rows) && guards_intact(r.dqkv, 3 * n) &&
          guards_intact(r.dtable, p->offsets) && guards_intact(scratch, scratch_size), "sentinels");
    free(scratch);
    return r;
}

static void run_free(Run r) {
    free(r.qkv), free(r.table), free(r.dout), free(r.out), free(r.lse), free(r.dqkv), free(r.dtable);
}

static Problem problem_of(int B, Windows w, int H, int D) {
    Problem p = {.B = B, .w = w, .C = H * D, .H = H, .D = D, .activations = (size_t)B * w.grid * w.grid * H * D,
                 .rows = (size_t)B * w.grid * w.grid * H, .offsets = (size_t)(2 * w.size - 1) * (2 * w.size - 1) * H};
    return p;
}

static void test_problem(int B, Windows w, int H, int D, double limit) {
    Problem p = problem_of(B, w, H, D);
    Run r = run(&p);
    p.qkv = as_doubles(r.qkv, 3 * p.activations), p.table = as_doubles(r.table, p.offsets);
    p.dout = as_doubles(r.dout, p.activations), p.out = zero_doubles(p.activations), p.lse = zero_doubles(p.rows);
    char what[80];
    snprintf(what, sizeof what, "B %d, grid %d, windows of %d shifted by %d, D %d", B, w.grid, w.size, w.shift, D);
    loss(&p);
    double out = relative_error(r.out, p.out, p.activations), lse = relative_error(r.lse, p.lse, p.rows);
    CHECK(out <= limit && lse <= limit, "%s: out %.3g, lse %.3g, limit %.2g", what, out, lse, limit);
    check_by_differences(what, r.dqkv, p.qkv, 3 * p.activations, loss, &p, limit);
    check_by_differences(what, r.dtable, p.table, p.offsets, loss, &p, limit);
    free(p.qkv), free(p.table), free(p.dout), free(p.out), free(p.lse);
    run_free(r);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(void) {
    Problem p = problem_of(3, (Windows){14, 7, 3}, 2, 16);
    const int threads[] = {2, 1, 2, 3};
    Run runs[4];
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        runs[i] = run(&p);
        CHECK(!memcmp(runs[i].out, runs[0].out, p.activations * sizeof(float)) &&
              !memcmp(runs[i].dqkv, runs[0].dqkv, 3 * p.activations * sizeof(float)) &&
              !memcmp(runs[i].dtable, runs[0].dtable, p.offsets * sizeof(float)),
              "other bits with %d threads", threads[i]);
    }
    for (int i = 0; i < 4; i++) { run_free(runs[i]); }
    use_threads(2);
}

// The first heads of a wider layer; the others are not touched
static void test_some_heads(void) {
    Problem whole = problem_of(2, (Windows){6, 3, 1}, 3, 4);
    Run r = run(&whole);
    size_t n = whole.activations, scratch_size = window_attention_scratch(2, whole.w, 2, 4);
    float *out = random_floats(n, 8), *lse = random_floats(whole.rows, 9), *scratch = random_floats(scratch_size, 7);
    float* untouched = random_floats(n, 8);
    window_attention_forward(out, lse, r.qkv, r.table, scratch, 2, whole.w, 12, 2, 4);
    int same = 1;
    for (size_t i = 0; i < n; i++) { same &= out[i] == (i % 12 < 8 ? r.out : untouched)[i]; }
    CHECK(same, "two heads of three");
    run_free(r), free(out), free(lse), free(scratch), free(untouched);
}

// What the specification of Swin says of 7 x 7: rows of the table, and how many windows and pairs have a mask
static void test_numbers(void) {
    Windows w = {56, 7, 3};
    const int pairs[][3] = {{0, 0, 84}, {0, 1, 83}, {0, 7, 71}, {48, 0, 168}, {0, 48, 0}, {8, 5, 93}};
    long sum = 0, masked = 0;
    for (int i = 0; i < 6; i++) {
        CHECK(window_bias_row(w, pairs[i][0], pairs[i][1]) == pairs[i][2], "the table's row of %d, %d", pairs[i][0],
              pairs[i][1]);
    }
    for (int i = 0; i < 49 * 49; i++) { sum += window_bias_row(w, i / 49, i % 49); }
    for (int i = 0; i < 64 * 49 * 49; i++) {
        int kind = window_kind(w, i / (49 * 49));
        masked += window_region(w, kind, i / 49 % 49) != window_region(w, kind, i % 49);
    }
    CHECK(sum == 201684, "the sum of all rows is %ld", sum);
    CHECK_NEAR(masked / (64.0 * 49 * 49), 0.1187, 5e-5, "the share of masked pairs");
}

// out(y,x) = [x(2y,2x), x(2y+1,2x), x(2y,2x+1), x(2y+1,2x+1)], and back
static void test_merge(int B, int grid, int C) {
    size_t n = (size_t)B * grid * grid * C;
    float *x = random_floats(n, 1), *out = random_floats(n, 2), *back = random_floats(n, 3);
    patch_merge_forward(out, x, B, grid, C);
    patch_merge_backward(back, out, B, grid, C);
    int right = 1, half = grid / 2;
    for (size_t i = 0; i < n; i++) {
        int c = i % C, quarter = i / C % 4, column = i / C / 4 % half, row = i / C / 4 / half % half;
        int b = i / C / 4 / half / half, down = quarter == 1 || quarter == 3, to_right = quarter >= 2;
        right &= out[i] == x[(((size_t)b * grid + 2 * row + down) * grid + 2 * column + to_right) * C + c];
    }
    CHECK(right && !memcmp(back, x, n * sizeof *x), "merging of %d x %d", grid, grid);
    CHECK(guards_intact(out, n) && guards_intact(back, n), "merging: sentinels");
    free(x), free(out), free(back);
}

int main(void) {
    matmul_init();
    use_threads(2);
    const double limit = 3e-6;
    test_problem(2, (Windows){8, 4, 0}, 2, 5, limit);
    test_problem(2, (Windows){8, 4, 2}, 2, 5, limit);
    test_problem(1, (Windows){14, 7, 3}, 1, 32, limit);
    test_problem(3, (Windows){7, 7, 0}, 2, 32, limit);
    test_problem(1, (Windows){9, 3, 1}, 3, 8, limit);
    test_problem(2, (Windows){6, 2, 1}, 1, 3, limit);
    test_problem(1, (Windows){22, 11, 5}, 1, 7, limit);
    test_threads();
    test_some_heads();
    test_numbers();
    test_merge(3, 4, 5);
    test_merge(1, 14, 96);
    return tests_finish();
}
