// attention.cuh against attention.h: one token, one query, rows and columns that no tile divides, heads of every width
// that has a form of its own, heads that are part of a wider layer, large logits.
#include "../../kernels/attention.cuh"
#include "cpu_attention.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 5.8e-7 3.7e-3, with large logits 1.9e-6 6.0e-3
static const Limits NORMAL = {3e-6, 8e-3}, LARGE = {1e-5, 1.5e-2}, BIAS = {1e-5, 1e-5};

// dbias (3,C) += column sums of dqkv (B,N,3,C): the first `width` columns of each third, queries of NQ tokens alone
static Floats qkv_bias(Floats dbias, Floats dqkv, int N, int NQ, int C, int width) {
    for (size_t i = 0; i < dqkv.size(); i++) {
        bool query = i / C % 3 == 0;
        if ((int)(i % C) >= width || (query && (int)(i / C / 3 % N) >= NQ)) { dqkv[i] = 0; }
    }
    return plus_column_sums(dbias, dqkv);
}

// The first H heads, of D each, of a layer of width C; the others' columns stay as they are
template <class T>
static void test_problem(int B, int N, int NQ, int C, int H, int D, float logit_scale, Limits limits) {
    size_t n = (size_t)B * NQ * C, m = 3 * (size_t)B * N * C, rows = (size_t)B * H * NQ;
    Floats qkv = without_queries(random_values<T>(m, logit_scale), N, NQ, C), dout = random_values<T>(n);
    Floats out(n, 0.5f), dqkv(m, 0.5f);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(out), d_dqkv(dqkv);
    Floats dbias(3 * C, 0.5f);
    Device<float> d_lse(rows), d_dbias(dbias);
    Device<float> scratch(attention_scratch(B, NQ, H) + attention_bias_scratch(B, N, NQ, C));
    Floats lse(rows);
    cpu_attention(out.data(), lse.data(), dqkv.data(), qkv.data(), dout.data(), B, N, NQ, C, H, D);
    attention_forward<T>(d_out, d_lse, d_qkv, B, N, NQ, C, H, D, 0);
    bool summed = attention_backward<T>(d_dqkv, d_dbias, d_dout, d_out, d_lse, d_qkv, scratch, B, N, NQ, C, H, D, 0);
    const char* large = limits.fp32 > NORMAL.fp32 ? "large logits" : "normal logits";
    check<T>(large, d_out, out, limits);
    check<T>(large, d_lse, lse, limits);
    check<T>(large, d_dqkv, dqkv, limits);
    CHECK(summed == (sizeof(T) == sizeof(bf16) && D % 8 == 0), "the bias is summed on tensor cores");
    if (summed) { check<T>("dbias", d_dbias, qkv_bias(dbias, d_dqkv.host(), N, NQ, C, H * D), BIAS); }
}

template <class T> static void test_storage() {
    test_problem<T>(2, 1, 1, 8, 1, 8, 1, NORMAL);
    test_problem<T>(3, 5, 5, 21, 1, 21, 1, NORMAL);
    test_problem<T>(2, 17, 17, 48, 2, 24, 1, NORMAL);
    test_problem<T>(1, 65, 65, 128, 3, 32, 1, NORMAL);
    test_problem<T>(1, 197, 197, 64, 1, 64, 1, NORMAL);
    test_problem<T>(3, 65, 65, 72, 1, 56, 1, NORMAL);
    test_problem<T>(2, 197, 1, 64, 2, 32, 1, NORMAL);
    test_problem<T>(2, 65, 20, 48, 2, 24, 1, NORMAL);
    test_problem<T>(1, 33, 33, 96, 1, 96, 1, NORMAL);
    test_problem<T>(2, 33, 33, 64, 1, 64, 4, LARGE); // logits to about 60
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    return kernel_tests_finish(argc, argv);
}
