// kernels/attention_gpsa.h against gated positional self-attention in double, with every matrix formed.
#include "../../kernels/attention_gpsa.h"
#include "differences.h"

typedef struct {
    int B, N, C, H;
    size_t activations, rows;                // elements of out, of lse
    double *qkv, *position, *gating, *dout;  // what the plain form reads
    double* out;                             // what it fills
} Problem;

static void plain_softmax(double* x, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) { sum += exp(x[i]); }
    for (int i = 0; i < n; i++) { x[i] = exp(x[i]) / sum; }
}

// Row k of one image and head, whose columns q and out are
static void plain_row(double* out, const double* q, const double* position, double gating, int k, int N, int C, int D) {
    int S = (int)(sqrt(N) + 0.5);
    double *patch = zero_doubles(N), *place = zero_doubles(N), g = 1 / (1 + exp(-gating));
    for (int n = 0; n < N; n++) {
        double dx = n % S - k % S, dy = n / S - k / S;
        place[n] = position[0] * dx + position[1] * dy + position[2] * (dx * dx + dy * dy);
        for (int i = 0; i < D; i++) { patch[n] += q[3 * C * k + i] * q[3 * C * n + C + i] / sqrt(D); }
    }
    plain_softmax(patch, N);
    plain_softmax(place, N);
    for (int i = 0; i < D; i++) {
        out[C * k + i] = 0;
        for (int n = 0; n < N; n++) {
            out[C * k + i] += ((1 - g) * patch[n] + g * place[n]) * q[3 * C * n + 2 * C + i];
        }
    }
    free(patch), free(place);
}

static double loss(const void* problem) {
    const Problem* p = problem;
    int D = p->C / p->H;
    double sum = 0;
    for (int i = 0; i < p->B * p->H * p->N; i++) {
        int k = i % p->N, h = i / p->N % p->H;
        size_t b = i / p->N / p->H, at = b * p->N * p->C + h * D, at_q = 3 * b * p->N * p->C + h * D;
        plain_row(p->out + at, p->qkv + at_q, p->position + 3 * h, p->gating[h], k, p->N, p->C, D);
    }
    for (size_t i = 0; i < p->activations; i++) { sum += p->out[i] * p->dout[i]; }
    return sum;
}

typedef struct { float *qkv, *position, *gating, *dout, *out, *lse, *dqkv, *dposition, *dgating; } Run;

static Run run(const Problem* p, float gate) {
    size_t n = p->activations, H = p->H, scratch_size = gpsa_scratch(p->B, p->N, p->H);
    Run r = {random_floats(3 * n, 1), random_floats(3 * H, 2), random_floats(H, 3), random_floats(n, 4),
             random_floats(n, 5), random_floats(p->rows, 6), random_floats(3 * n, 7), guarded_floats(3 * H),
             guarded_floats(H)};
    float* scratch = random_floats(scratch_size, 8);
    for (size_t h = 0; h < H; h++) { r.gating[h] += gate; }
    for (size_t i = 0; i < 3 * H; i++) { r.position[i] *= 0.5f, r.dposition[i] = 0.25f; }
    for (size_t h = 0; h < H; h++) { r.dgating[h] = 0.25f; }
    gpsa_forward(r.out, r.lse, r.qkv, r.position, r.gating, scratch, p->B, p->N, p->C, p->H);
    gpsa_backward(r.dqkv, r.dposition, r.dgating, r.dout, r.lse, r.qkv, r.position, r.gating, scratch, p->B, p->N, p->C,
                  p->H);
    for (size_t i = 0; i < 3 * H; i++) { r.dposition[i] -= 0.25f; } // they are added to
    for (size_t h = 0; h < H; h++) { r.dgating[h] -= 0.25f; }
    CHECK(guards_intact(r.out, n) && guards_intact(r.lse, p->rows) && guards_intact(r.dqkv, 3 * n) &&
          guards_intact(r.dposition, 3 * H) && guards_intact(r.dgating, H) && guards_intact(scratch, scratch_size),
          "sentinels");
    free(scratch);
    return r;
}

static void run_free(Run r) {
    free(r.qkv), free(r.position), free(r.gating), free(r.dout), free(r.out), free(r.lse), free(r.dqkv);
    free(r.dposition), free(r.dgating);
}

static Problem problem_of(int B, int N, int C, int H) {
    return (Problem){.B = B, .N = N, .C = C, .H = H, .activations = (size_t)B * N * C, .rows = (size_t)B * N * H};
}

static void test_problem(int B, int N, int C, int H) {
    // observed 5e-7, and 4e-5: logits of place are in the hundreds, and what sums to 0 is multiplied by as much
    const double limit = 3e-6, position_limit = 1e-4;
    Problem p = problem_of(B, N, C, H);
    Run r = run(&p, 0);
    p.qkv = as_doubles(r.qkv, 3 * p.activations), p.position = as_doubles(r.position, 3 * H);
    p.gating = as_doubles(r.gating, H), p.dout = as_doubles(r.dout, p.activations), p.out = zero_doubles(p.activations);
    char what[80];
    snprintf(what, sizeof what, "B=%d N=%d C=%d H=%d", B, N, C, H);
    loss(&p);
    double error = relative_error(r.out, p.out, p.activations);
    CHECK(error <= limit, "%s: out %.3g, limit %.2g", what, error, limit);
    check_by_differences(what, r.dqkv, p.qkv, 3 * p.activations, loss, &p, limit);
    check_by_differences(what, r.dposition, p.position, 3 * H, loss, &p, position_limit);
    check_by_differences(what, r.dgating, p.gating, H, loss, &p, limit);
    free(p.qkv), free(p.position), free(p.gating), free(p.dout), free(p.out);
    run_free(r);
}

// With every gate shut GPSA is softmax attention; with every gate open it mixes, whatever queries and keys are
static void test_gates(void) {
    Problem p = problem_of(2, 16, 20, 2);
    size_t n = p.activations;
    Run shut = run(&p, -100), open = run(&p, 100);
    float *out = random_floats(n, 8), *lse = random_floats(p.rows, 9);
    float* scratch = random_floats(attention_scratch(16), 10);
    attention_forward(out, lse, shut.qkv, scratch, 2, 16, 16, 20, 2, 10);
    CHECK(!memcmp(out, shut.out, n * sizeof *out), "gates shut: softmax attention");
    int unmoved = 1;
    for (size_t i = 0; i < 3 * n; i++) { unmoved &= i / 20 % 3 == 2 || open.dqkv[i] == 0; }
    CHECK(unmoved, "gates open: queries and keys have a gradient");
    free(out), free(lse), free(scratch), run_free(shut), run_free(open);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(void) {
    Problem p = problem_of(11, 49, 48, 3);
    const int threads[] = {2, 1, 2, 3};
    Run runs[4];
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        runs[i] = run(&p, 0);
        CHECK(!memcmp(runs[i].out, runs[0].out, p.activations * sizeof(float)) &&
              !memcmp(runs[i].dqkv, runs[0].dqkv, 3 * p.activations * sizeof(float)) &&
              !memcmp(runs[i].dposition, runs[0].dposition, 9 * sizeof(float)) &&
              !memcmp(runs[i].dgating, runs[0].dgating, 3 * sizeof(float)), "other bits with %d threads", threads[i]);
    }
    for (int i = 0; i < 4; i++) { run_free(runs[i]); }
    use_threads(2);
}

int main(void) {
    matmul_init();
    use_threads(2);
    test_problem(1, 4, 3, 1);
    test_problem(9, 16, 24, 4);
    test_problem(2, 49, 48, 1);
    test_problem(1, 196, 96, 2);
    test_problem(1, 225, 8, 2); // of two tiles of rows
    test_gates();
    test_threads();
    return tests_finish();
}
