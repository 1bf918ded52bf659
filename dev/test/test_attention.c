// kernels/attention.h against softmax attention in double with every matrix formed.
#include "../../kernels/attention.h"
#include "kernel_test.h"

enum { GUARD = 64 };
static const float sentinel = 12345.0f;

typedef struct { // sizes, inputs, outputs
    int B, N, NQ, C, H;
    size_t activations, gradients; // elements of out, of dqkv
    float *qkv, *dout, *out, *lse, *dqkv;
} Problem;

static float* filled(size_t n, float scale, uint64_t seed) { // normals, then sentinels
    float* x = alloc_floats(n + GUARD, "test");
    for (size_t i = 0; i < n + GUARD; i++) {
        x[i] = i < n ? scale * (float)random_normal(seed, STREAM_CHECK, 0, i) : sentinel;
    }
    return x;
}

static void check_guard(const char* what, const float* x, size_t n) {
    int intact = 1;
    for (int i = 0; i < GUARD; i++) { intact &= x[n + i] == sentinel; }
    CHECK(intact, "%s is overrun", what);
}

static Problem run(int B, int N, int NQ, int C, int H, float logit_scale) {
    Problem p = {.B = B, .N = N, .NQ = NQ, .C = C, .H = H};
    p.activations = (size_t)B * NQ * C, p.gradients = 3 * (size_t)B * N * C;
    p.qkv = filled(p.gradients, logit_scale, 1), p.dout = filled(p.activations, 1, 2);
    p.out = filled(p.activations, NAN, 3), p.lse = filled((size_t)B * H * NQ, NAN, 4);
    p.dqkv = filled(p.gradients, NAN, 5);
    fill_unused_queries(p.qkv, NAN, B, N, NQ, C);
    size_t scratch_size = attention_scratch(N);
    float* scratch = filled(scratch_size, NAN, 6);
    attention_forward(p.out, p.lse, p.qkv, scratch, B, N, NQ, C, H, C / H);
    attention_backward(p.dqkv, p.dout, p.out, p.lse, p.qkv, scratch, B, N, NQ, C, H, C / H);
    check_guard("scratch", scratch, scratch_size);
    check_guard("out", p.out, p.activations);
    check_guard("lse", p.lse, (size_t)B * H * NQ);
    check_guard("dqkv", p.dqkv, p.gradients);
    CHECK(unused_queries_intact(p.dqkv, B, N, NQ, C), "the gradient of a query that there is not is written");
    free(scratch);
    return p;
}

static void problem_free(Problem p) { free(p.qkv), free(p.dout), free(p.out), free(p.lse), free(p.dqkv); }

static double dot(const float* a, const float* b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) { sum += (double)a[i] * b[i]; }
    return sum;
}

// Row k of one sample and head; q, dq, dout and out point at the head's first token
static void oracle_row(const float* q, const float* dout, double* out, double* lse, double* dq, int k, int N, int C,
                       int D) {
    size_t ld = 3 * (size_t)C;
    double *P = alloc_bytes(N * 8, "test"), *dP = alloc_bytes(N * 8, "test"), sum = 0, delta = 0, high = -INFINITY;
    for (int n = 0; n < N; n++) {
        P[n] = dot(q + k * ld, q + n * ld + C, D) / sqrt(D);
        high = P[n] > high ? P[n] : high;
    }
    for (int n = 0; n < N; n++) { sum += exp(P[n] - high); }
    *lse = high + log(sum);
    for (int n = 0; n < N; n++) {
        P[n] = exp(P[n] - *lse);
        dP[n] = dot(dout + (size_t)k * C, q + n * ld + 2 * C, D);
        delta += P[n] * dP[n];
    }
    for (int n = 0; n < N; n++) {
        double dS = P[n] * (dP[n] - delta) / sqrt(D);
        for (int i = 0; i < D; i++) {
            out[(size_t)k * C + i] += P[n] * q[n * ld + 2 * C + i];
            dq[k * ld + i] += dS * q[n * ld + C + i];
            dq[n * ld + C + i] += dS * q[k * ld + i];
            dq[n * ld + 2 * C + i] += P[n] * dout[(size_t)k * C + i];
        }
    }
    free(P), free(dP);
}

static void test_problem(int B, int N, int NQ, int C, int H, float logit_scale, double limit) {
    Problem p = run(B, N, NQ, C, H, logit_scale);
    size_t rows = (size_t)B * H * NQ;
    double *out = alloc_bytes(p.activations * 8, "test"), *dqkv = alloc_bytes(p.gradients * 8, "test");
    double* lse = alloc_bytes(rows * 8, "test");
    for (int bh = 0; bh < B * H; bh++) {
        size_t b = bh / H, column = (size_t)(bh % H) * (C / H), at = b * NQ * C + column, at3 = 3 * b * N * C + column;
        for (int k = 0; k < NQ; k++) {
            oracle_row(p.qkv + at3, p.dout + at, out + at, lse + (size_t)bh * NQ + k, dqkv + at3, k, N, C, C / H);
        }
    }
    const float* got[] = {p.out, p.lse, p.dqkv};
    const double* want[] = {out, lse, dqkv};
    const size_t sizes[] = {p.activations, rows, p.gradients};
    static const char* const tensors[] = {"out", "lse", "dqkv"};
    for (int i = 0; i < 3; i++) {
        double e = relative_error(got[i], want[i], sizes[i]);
        CHECK(e <= limit, "B=%d N=%d NQ=%d C=%d H=%d: %s relative error %.3g, limit %.2g", B, N, NQ, C, H, tensors[i],
              e, limit);
    }
    free(out), free(dqkv), free(lse);
    problem_free(p);
}

// The same bits from 1, 2 and 3 threads, and from two runs
static void test_threads(void) {
    const int threads[] = {2, 1, 2, 3};
    Problem p[4];
    for (int i = 0; i < 4; i++) {
        use_threads(threads[i]);
        p[i] = run(5, 101, 101, 60, 3, 1);
        size_t bytes = p[0].activations * sizeof(float);
        bool same = !memcmp(p[i].out, p[0].out, bytes) && !memcmp(p[i].dqkv, p[0].dqkv, 3 * bytes);
        CHECK(same, "other bits with %d threads", threads[i]);
    }
    for (int i = 0; i < 4; i++) { problem_free(p[i]); }
    use_threads(2);
}

int main(void) {
    matmul_init();
    use_threads(2);
    const double limit = 3e-6, limit_large = 2e-5; // observed: 7.7e-7, and 4.0e-6 with large logits
    test_problem(2, 1, 1, 7, 1, 1, limit);
    test_problem(3, 5, 5, 20, 1, 1, limit);
    test_problem(2, 17, 17, 64, 2, 1, limit);
    test_problem(1, 65, 65, 192, 3, 1, limit);
    test_problem(1, 197, 197, 128, 2, 1, limit);
    test_problem(3, 197, 1, 20, 2, 1, limit);
    test_problem(2, 197, 110, 14, 2, 1, limit); // of two tiles of rows
    test_problem(2, 33, 33, 96, 3, 7, limit_large); // logits to about 200
    test_threads();
    return tests_finish();
}
