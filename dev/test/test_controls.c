// The controls of KArAt (kernels/attention_pointwise.h, _mixing.h, _rank.h, _linear.h) in double. Each is
// out = sigma V with a matrix sigma (N,N) for each sample and head, which the oracle forms as it is defined; gradients
// are checked against central differences of its loss sum(dout out).
#include "../../kernels/attention_linear.h"
#include "../../kernels/attention_mixing.h"
#include "../../kernels/attention_pointwise.h"
#include "../../kernels/attention_rank.h"
#include "kernel_test.h"

typedef enum { SIGMOID, RELU, POLYNOMIAL, MIXING, RANK, LINEAR, CONTROL_COUNT } Control;
static const char* const names[] = {"sigmoid", "relu", "polynomial", "mixing", "rank", "linear"};

enum { QKV, FIRST, SECOND, INPUT_COUNT }; // FIRST: mix or down, SECOND: W
static const char* const inputs[] = {"qkv", "mix or down", "W"};
static const float gradient_start = 0.25f; // gradients of parameters are added to

typedef struct {
    Control control;
    int B, N, NQ, C, H, R;
    size_t activations, sizes[INPUT_COUNT]; // an absent parameter's size is 0
    float *x[INPUT_COUNT], *dx[INPUT_COUNT], *dout, *out, *lse;
    double* plain[INPUT_COUNT]; // x
} Problem;

static float* filled(size_t n, float value) {
    float* p = guarded_floats(n);
    for (size_t i = 0; i < n; i++) { p[i] = value; }
    return p;
}

static Problem problem_new(Control control, int B, int N, int NQ, int C, int H, int R, float logit_scale) {
    Problem p = {.control = control, .B = B, .N = N, .NQ = NQ, .C = C, .H = H, .R = R,
                 .activations = (size_t)B * NQ * C};
    p.sizes[QKV] = 3 * (size_t)B * N * C;
    p.sizes[FIRST] = control == MIXING ? (size_t)H * N * N : control == RANK ? (size_t)H * R * N : 0;
    p.sizes[SECOND] = control == RANK ? (size_t)H * N * R : 0;
    for (int t = 0; t < INPUT_COUNT; t++) {
        p.x[t] = random_floats(p.sizes[t], t), p.plain[t] = zero_doubles(p.sizes[t]);
        p.dx[t] = filled(p.sizes[t], t == QKV ? NAN : gradient_start);
        for (size_t i = 0; i < p.sizes[t]; i++) {
            if (t == QKV) { p.x[t][i] *= logit_scale; }
            p.plain[t][i] = p.x[t][i];
        }
    }
    fill_unused_queries(p.x[QKV], NAN, B, N, NQ, C);
    p.dout = random_floats(p.activations, INPUT_COUNT), p.out = filled(p.activations, NAN);
    p.lse = filled((size_t)B * H * NQ, NAN);
    return p;
}

static void problem_free(Problem p) {
    for (int t = 0; t < INPUT_COUNT; t++) { free(p.x[t]), free(p.dx[t]), free(p.plain[t]); }
    free(p.dout), free(p.out), free(p.lse);
}

static size_t scratch_size(Problem p) {
    switch (p.control) {
    case MIXING: return mixing_scratch(p.B, p.N, p.H);
    case RANK: return rank_scratch(p.B, p.N, p.C, p.H, p.R);
    case LINEAR: return linear_attention_scratch(p.N, p.C, p.H);
    default: return pointwise_scratch(p.N);
    }
}

static void run_kernel(Problem p, float* scratch) {
    static const PointwiseKind kinds[] = {POINTWISE_SIGMOID, POINTWISE_RELU, POINTWISE_POLYNOMIAL};
    const float *qkv = p.x[QKV], *first = p.x[FIRST], *second = p.x[SECOND];
    switch (p.control) {
    case MIXING:
        mixing_forward(p.out, qkv, first, p.B, p.N, p.NQ, p.C, p.H);
        mixing_backward(p.dx[QKV], p.dx[FIRST], p.dout, qkv, first, scratch, p.B, p.N, p.NQ, p.C, p.H);
        break;
    case RANK:
        rank_forward(p.out, p.lse, qkv, first, second, scratch, p.B, p.N, p.NQ, p.C, p.H, p.R);
        rank_backward(p.dx[QKV], p.dx[FIRST], p.dx[SECOND], p.dout, p.out, p.lse, qkv, first, second, scratch, p.B,
                      p.N, p.NQ, p.C, p.H, p.R);
        break;
    case LINEAR:
        linear_attention_forward(p.out, qkv, scratch, p.B, p.N, p.NQ, p.C, p.H);
        linear_attention_backward(p.dx[QKV], p.dout, p.out, qkv, scratch, p.B, p.N, p.NQ, p.C, p.H);
        break;
    default:
        pointwise_forward(p.out, qkv, kinds[p.control], scratch, p.B, p.N, p.NQ, p.C, p.H);
        pointwise_backward(p.dx[QKV], p.dout, qkv, kinds[p.control], scratch, p.B, p.N, p.NQ, p.C, p.H);
    }
}

static void run(Problem p) {
    size_t size = scratch_size(p);
    float* scratch = filled(size, NAN);
    run_kernel(p, scratch);
    CHECK(guards_intact(scratch, size), "%s: scratch is overrun", names[p.control]);
    CHECK(guards_intact(p.out, p.activations), "%s: out is overrun", names[p.control]);
    CHECK(guards_intact(p.lse, (size_t)p.B * p.H * p.NQ), "%s: lse is overrun", names[p.control]);
    CHECK(unused_queries_intact(p.dx[QKV], p.B, p.N, p.NQ, p.C),
          "%s: the gradient of a query that there is not is written", names[p.control]);
    for (int t = 0; t < INPUT_COUNT; t++) {
        CHECK(guards_intact(p.dx[t], p.sizes[t]), "%s: gradient of %s is overrun", names[p.control], inputs[t]);
        CHECK(all_numbers(p.dx[t], p.sizes[t]), "%s: gradient of %s is not all set", names[p.control], inputs[t]);
    }
    free(scratch);
}

// ---- The oracle

static double plain_feature(double x) { return x > 0 ? x + 1 : exp(x); }

// What the control makes of one query and key
static double plain_weight(Control control, const double* q, const double* k, int N, int D) {
    double sum = 0;
    for (int i = 0; i < D; i++) {
        sum += control == LINEAR ? plain_feature(q[i]) * plain_feature(k[i]) : q[i] * k[i] / sqrt(D);
    }
    switch (control) {
    case SIGMOID: return 1 / (1 + exp(log(N) - sum));
    case RELU: return fmax(sum, 0) / N;
    case POLYNOMIAL: return pow(sum, 3) / sqrt(N);
    case RANK: return exp(sum);
    default: return sum;
    }
}

// sigma (N) to W down sigma
static void plain_rank_map(double* sigma, const Problem* p, int h) {
    const double *down = p->plain[FIRST] + (size_t)h * p->R * p->N, *W = p->plain[SECOND] + (size_t)h * p->N * p->R;
    double z[16] = {0};
    for (int r = 0; r < p->R; r++) {
        for (int n = 0; n < p->N; n++) { z[r] += down[r * p->N + n] * sigma[n]; }
    }
    for (int n = 0; n < p->N; n++) {
        sigma[n] = 0;
        for (int r = 0; r < p->R; r++) { sigma[n] += W[n * p->R + r] * z[r]; }
    }
}

// sigma (N), row k of one sample and head; q is the head's first query
static void plain_row(double* sigma, const Problem* p, const double* q, int h, int k) {
    int N = p->N, D = p->C / p->H, ld = 3 * p->C;
    double sum = 0;
    for (int n = 0; n < N; n++) {
        sigma[n] = p->control == MIXING ? p->plain[FIRST][((size_t)h * N + k) * N + n]
                                        : plain_weight(p->control, q + k * ld, q + n * ld + p->C, N, D);
        sum += sigma[n];
    }
    for (int n = 0; n < N && (p->control == RANK || p->control == LINEAR); n++) { sigma[n] /= sum; }
    if (p->control == RANK) { plain_rank_map(sigma, p, h); }
}

// One sample and head: its part of the loss; out (B,NQ,C, may be NULL) is set
static double plain_head(double* out, const Problem* p, int b, int h) {
    int N = p->N, D = p->C / p->H, ld = 3 * p->C;
    size_t column = (size_t)h * D;
    const double *q = p->plain[QKV] + 3 * (size_t)b * N * p->C + column, *v = q + 2 * p->C;
    double loss = 0, sigma[256];
    for (int k = 0; k < p->NQ; k++) {
        plain_row(sigma, p, q, h, k);
        for (int i = 0; i < D; i++) {
            size_t o = ((size_t)b * p->NQ + k) * p->C + column + i;
            double sum = 0;
            for (int n = 0; n < N; n++) { sum += sigma[n] * v[n * ld + i]; }
            loss += p->dout[o] * sum;
            if (out) { out[o] = sum; }
        }
    }
    return loss;
}

// The loss of the samples and heads that element i of input t has a part in
static double plain_loss(const Problem* p, int t, size_t i) {
    if (t == QKV) { return plain_head(NULL, p, (int)(i / (3 * p->N * p->C)), (int)(i % p->C) / (p->C / p->H)); }
    double loss = 0;
    for (int b = 0; b < p->B; b++) { loss += plain_head(NULL, p, b, (int)(i / (p->sizes[t] / p->H))); }
    return loss;
}

// ---- Checks

#ifdef REDUCED
enum { ELEMENTS = 30 };
#else
enum { ELEMENTS = 200 };
#endif
static const double STEP = 1e-6; // of differences

// About ELEMENTS elements of the gradient of input t
static void check_gradient(Problem* p, int t, double limit) {
    size_t stride = p->sizes[t] / ELEMENTS | 1, count = 0;
    float* got = guarded_floats(p->sizes[t]);
    double* want = zero_doubles(p->sizes[t]);
    for (size_t i = 0; i < p->sizes[t]; i += stride, count++) {
        double* x = &p->plain[t][i];
        double start = *x;
        *x = start + STEP;
        double up = plain_loss(p, t, i);
        *x = start - STEP;
        double down = plain_loss(p, t, i);
        *x = start;
        want[count] = (up - down) / (2 * STEP) + (t == QKV ? 0 : gradient_start);
        got[count] = p->dx[t][i];
    }
    double e = relative_error(got, want, count);
    CHECK(e <= limit, "%s B=%d N=%d NQ=%d C=%d H=%d R=%d: gradient of %s relative error %.3g, limit %.2g",
          names[p->control], p->B, p->N, p->NQ, p->C, p->H, p->R, inputs[t], e, limit);
    free(got), free(want);
}

static void test_problem(Control control, int B, int N, int NQ, int C, int H, int R, float logit_scale, double limit) {
    Problem p = problem_new(control, B, N, NQ, C, H, R, logit_scale);
    run(p);
    double* out = zero_doubles(p.activations);
    for (int bh = 0; bh < B * H; bh++) { plain_head(out, &p, bh / H, bh % H); }
    double e = relative_error(p.out, out, p.activations);
    CHECK(e <= limit, "%s B=%d N=%d NQ=%d C=%d H=%d R=%d: out relative error %.3g, limit %.2g", names[control], B, N,
          NQ, C, H, R, e, limit);
    for (int t = 0; t < INPUT_COUNT; t++) {
        if (p.sizes[t]) { check_gradient(&p, t, limit); }
    }
    free(out);
    problem_free(p);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(Control control) {
    const int threads[] = {2, 1, 2, 3};
    Problem p[4];
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        p[i] = problem_new(control, 11, 101, 101, 60, 3, 5, 1);
        run(p[i]);
        bool same = !memcmp(p[i].out, p[0].out, p[0].activations * sizeof(float));
        for (int t = 0; t < INPUT_COUNT; t++) {
            same &= !memcmp(p[i].dx[t], p[0].dx[t], p[0].sizes[t] * sizeof(float));
        }
        CHECK(same, "%s: other bits with %d threads", names[control], threads[i]);
    }
    for (int i = 0; i < 4; i++) { problem_free(p[i]); }
    use_threads(2);
}

// Fixed mixing does not look at queries and keys
static void test_mixing_gradient(void) {
    Problem p = problem_new(MIXING, 2, 17, 17, 21, 3, 0, 1);
    run(p);
    int zero = 1;
    for (size_t i = 0; i < p.sizes[QKV]; i++) { zero &= i / 21 % 3 == 2 || p.dx[QKV][i] == 0; }
    CHECK(zero, "mixing: queries and keys have a gradient");
    problem_free(p);
}

// With W = down^T = 1 (N,N) the map is none: plain attention. With values 1, linear attention gives 1.
static void test_identities(void) {
    enum { B = 2, N = 13, C = 24, H = 2 };
    Problem rank = problem_new(RANK, B, N, N, C, H, N, 1), linear = problem_new(LINEAR, B, N, N, C, H, 0, 1);
    for (int i = 0; i < H * N * N; i++) { rank.x[FIRST][i] = rank.x[SECOND][i] = i % (N * N) % (N + 1) == 0; }
    for (int i = 0; i < B * 3 * N * C; i++) {
        if (i / C % 3 == 2) { linear.x[QKV][i] = 1; }
    }
    run(rank), run(linear);
    Problem plain = problem_new(SIGMOID, B, N, N, C, H, 0, 1);
    float* scratch = guarded_floats(attention_scratch(N));
    attention_forward(plain.out, plain.lse, plain.x[QKV], scratch, B, N, N, C, H, C / H);
    attention_backward(plain.dx[QKV], plain.dout, plain.out, plain.lse, plain.x[QKV], scratch, B, N, N, C, H, C / H);
    double *ones = zero_doubles(plain.activations), *out = zero_doubles(plain.activations);
    double* dqkv = zero_doubles(plain.sizes[QKV]);
    for (size_t i = 0; i < plain.activations; i++) { ones[i] = 1, out[i] = plain.out[i]; }
    for (size_t i = 0; i < plain.sizes[QKV]; i++) { dqkv[i] = plain.dx[QKV][i]; }
    const double limit = 2e-6; // observed: 3e-7
    CHECK_TENSOR(linear.out, ones, plain.activations, limit, "linear attention to ones");
    CHECK_TENSOR(rank.out, out, plain.activations, limit, "out of rank N without a map");
    CHECK_TENSOR(rank.dx[QKV], dqkv, plain.sizes[QKV], limit, "dqkv of rank N without a map");
    free(scratch), free(ones), free(out), free(dqkv);
    problem_free(rank), problem_free(linear), problem_free(plain);
}

int main(void) {
    matmul_init();
    use_threads(2);
    const double limit = 3e-6, limit_large = 3e-5; // observed: 7e-7, and 7.5e-6 with large logits (rank)
    for (int control = 0; control < CONTROL_COUNT; control++) {
        test_problem(control, 1, 1, 1, 7, 1, 1, 1, limit);
        test_problem(control, 3, 5, 5, 20, 1, 3, 1, limit);
        test_problem(control, 5, 17, 17, 21, 3, 4, 1, limit);
        test_problem(control, 17, 5, 5, 12, 2, 3, 1, limit); // more samples than slots
        test_problem(control, 17, 33, 1, 12, 2, 3, 1, limit);
        test_problem(control, 2, 17, 3, 21, 3, 4, 1, limit);
        test_problem(control, 2, 65, 65, 40, 2, 12, 1, limit);
        test_problem(control, 1, 101, 101, 27, 3, 7, 1, limit); // more than one tile of rows
        test_problem(control, 4, 33, 33, 12, 1, 1, 7, limit_large);
        test_threads(control);
    }
    test_mixing_gradient();
    test_identities();
    return tests_finish();
}
