// layernorm.cuh against layernorm.h, residual.h and rational.h: stream, its gradient and activations in fp32 and bf16
// and mixed, rows that no grid divides, C that is no multiple of 8, means far from zero, every optional input left out.
// Forms that join the stream equal one function after the other; the bias of a branch is held against the column sums of
// its gradient.
#include "../../kernels/layernorm.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: out 4.3e-6 (where the mean is 50 deviations) 3e-3, rational 2.8e-7 3.8e-3, stream 1.3e-6
// 3.5e-3 (rounding to bf16 alone: 2^-8 of the value), mean and rstd 2.7e-7, sums 6.6e-6
static const Limits VALUES = {1e-5, 4e-3}, STATISTICS = {1e-6, 1e-6}, SUMS = {1e-5, 1e-5}, STREAM = {2e-6, 4e-3};

template <class T> static Floats rounded_to(Floats values) {
    for (float& value : values) {
        T stored;
        from_host(&stored, value);
        value = to_host(stored);
    }
    return values;
}

static const float EPS = LAYERNORM_EPS;

template <class G, class R, class T> static void test_layernorm(int rows, int C, float mean, float eps) {
    size_t n = (size_t)rows * C;
    Floats x = random_values<R>(n, 2), weight = random_values<float>(C), bias = random_values<float>(C);
    for (float& value : x) { value += mean; }
    x = rounded_to<R>(x);
    Floats dout = random_values<T>(n), dx = random_values<G>(n), dweight = random_values<float>(C);
    Floats dbias = random_values<float>(C), out(n), means(rows), rstds(rows);
    Device<R> d_x(x);
    Device<G> d_dx(dx);
    Device<T> d_out(n), d_dout(dout);
    Device<float> d_weight(weight), d_bias(bias), d_mean(rows), d_rstd(rows), d_dweight(dweight), d_dbias(dbias);
    Device<float> scratch(layernorm_scratch(rows, C));

    cpu.layernorm_forward(out.data(), means.data(), rstds.data(), x.data(), weight.data(), bias.data(), eps, rows, C);
    layernorm_forward<R, T>(d_out, d_mean, d_rstd, d_x, d_weight, d_bias, eps, rows, C, 0);
    check<T>("layernorm_forward", d_out, out, VALUES);
    check<T>("mean", d_mean, means, STATISTICS);
    check<T>("rstd", d_rstd, rstds, STATISTICS);

    Floats cpu_scratch(cpu.layernorm_scratch(rows, C));
    cpu.layernorm_backward(dx.data(), dweight.data(), dbias.data(), dout.data(), x.data(), weight.data(), means.data(),
                           rstds.data(), cpu_scratch.data(), rows, C);
    layernorm_backward<G, R, T>(d_dx, d_dweight, d_dbias, d_dout, d_x, d_weight, d_mean, d_rstd, scratch, rows, C, 0);
    check<G>("layernorm_backward dinp", d_dx, dx, STREAM);
    check<T>("layernorm_backward dweight", d_dweight, dweight, SUMS);
    check<T>("layernorm_backward dbias", d_dbias, dbias, SUMS);
}

// The fused kernel equals the single ones, whose roundings it does as well
template <class R, class T> static void test_fused(int B, int N, int C, bool scales, bool drops, RationalShape s) {
    size_t n = (size_t)B * N * C;
    Floats x = random_values<R>(n), branch = random_values<T>(n), weight = random_values<float>(C);
    Floats bias = random_values<float>(C), scale = random_values<float>(C), keep(B), x_out(n), out(n), rational_out(n);
    Floats a = random_values<float>(s.m + 1), b = random_values<float>((size_t)s.groups * s.n, 0.5f);
    Floats means(B * N), rstds(B * N);
    for (int i = 0; i < B; i++) { keep[i] = i % 3 == 1 ? 0 : 1.25f; }
    Device<R> d_x(x);
    Device<T> d_branch(branch), d_out(n), d_rational_out(n);
    Device<float> d_weight(weight), d_bias(bias), d_scale(scale), d_keep(keep), d_a(a), d_b(b), d_mean(B * N);
    Device<float> d_rstd(B * N);

    cpu.residual_forward(x_out.data(), x.data(), branch.data(), scales ? scale.data() : nullptr,
                         drops ? keep.data() : nullptr, B, N, C);
    residual_layernorm_rational_forward<R, T>(d_x, d_out, d_rational_out, d_mean, d_rstd, d_x, d_branch,
                                              scales ? d_scale.data : nullptr, drops ? d_keep.data : nullptr, d_weight,
                                              d_bias, EPS, d_a, d_b, B, N, C, s, 0);
    check<R>("fused x_out", d_x, x_out, STREAM);
    x_out = d_x.host(); // one ulp of bf16 apart where the sum lay halfway: go on from the same
    cpu.layernorm_forward(out.data(), means.data(), rstds.data(), x_out.data(), weight.data(), bias.data(), EPS, B * N,
                          C);
    check<T>("fused out", d_out, out, VALUES);
    out = d_out.host();
    cpu.rational_forward(rational_out.data(), out.data(), a.data(), b.data(), B * N, C, s);
    check<T>("fused rational_out", d_rational_out, rational_out, VALUES);
    check<T>("fused mean", d_mean, means, STATISTICS);
    check<T>("fused rstd", d_rstd, rstds, STATISTICS);
}

// The backward of norm and residual in one, against one after the other: dx NULL where `begins`, no branch where not
// `joins`
template <class G, class R, class T>
static void test_fused_backward(int B, int N, int C, bool scales, bool drops, bool begins, bool joins) {
    size_t n = (size_t)B * N * C;
    Floats x = random_values<R>(n), dx = begins ? Floats(n) : random_values<G>(n), dout = random_values<T>(n);
    Floats weight = random_values<float>(C), bias(C), scale = random_values<float>(C), keep(B), dbranch(n), dscale(C);
    Floats dweight = random_values<float>(C), dbias = random_values<float>(C), out(n), means(B * N), rstds(B * N);
    Floats dbranch_bias(C, 0.5f);
    for (int i = 0; i < B; i++) { keep[i] = i % 3 == 1 ? 0 : 1.25f; }
    cpu.layernorm_forward(out.data(), means.data(), rstds.data(), x.data(), weight.data(), bias.data(), EPS, B * N, C);
    Device<R> d_x(x);
    Device<G> d_dx(dx), d_sum(n);
    Device<T> d_dout(dout), d_dbranch(n);
    Device<float> d_weight(weight), d_mean(means), d_rstd(rstds), d_scale(scale), d_keep(keep), d_dweight(dweight);
    Device<float> d_dbias(dbias), d_dbranch_bias(dbranch_bias), scratch(layernorm_scratch(B * N, C));
    G* out_of_place = begins ? d_sum.data : d_dx.data; // else it is added to in place

    Floats cpu_scratch(cpu.layernorm_scratch(B * N, C));
    cpu.layernorm_backward(dx.data(), dweight.data(), dbias.data(), dout.data(), x.data(), weight.data(), means.data(),
                           rstds.data(), cpu_scratch.data(), B * N, C);
    layernorm_residual_backward<G, R, T>(out_of_place, joins ? d_dbranch.data : nullptr,
                                         joins ? d_dbranch_bias.data : nullptr, d_dweight, d_dbias,
                                         begins ? nullptr : d_dx.data, d_dout, d_x, d_weight, d_mean, d_rstd,
                                         scales ? d_scale.data : nullptr, drops ? d_keep.data : nullptr, scratch, B, N,
                                         C, 0);
    check<G>("fused backward dinp", begins ? d_sum : d_dx, dx, STREAM);
    check<T>("fused backward dweight", d_dweight, dweight, SUMS);
    check<T>("fused backward dbias", d_dbias, dbias, SUMS);
    if (!joins) { return; }
    dx = (begins ? d_sum : d_dx).host(); // one ulp of bf16 apart where the sum lay halfway: go on from the same
    cpu.residual_backward(dbranch.data(), dscale.data(), dx.data(), dbranch.data(), scales ? scale.data() : nullptr,
                          drops ? keep.data() : nullptr, Floats(cpu.residual_scratch(B, N, C)).data(), B, N, C);
    check<T>("fused backward dbranch", d_dbranch, dbranch, VALUES);
    check<T>("fused backward dbranch_bias", d_dbranch_bias, plus_column_sums(dbranch_bias, d_dbranch.host()), SUMS);
}

template <class G, class R, class T> static void test_norms() {
    test_layernorm<G, R, T>(1, 8, 0, EPS);
    test_layernorm<G, R, T>(3, 65, 10, 0.25f);
    test_layernorm<G, R, T>(65, 192, 0, 0.25f);
    test_layernorm<G, R, T>(197, 40, 100, EPS);
    test_layernorm<G, R, T>(65, 768, 1, EPS); // four warps a block in the backward
}

template <class G, class R, class T> static void test_fused_backwards() {
    test_fused_backward<G, R, T>(1, 1, 8, false, false, true, true);
    test_fused_backward<G, R, T>(3, 17, 65, true, true, false, true);
    test_fused_backward<G, R, T>(4, 65, 192, false, true, true, true);
    test_fused_backward<G, R, T>(2, 5, 96, true, false, false, true);
    test_fused_backward<G, R, T>(1, 197, 72, true, false, false, true);
    test_fused_backward<G, R, T>(3, 5, 768, false, false, false, true); // four warps a block, and half the shared memory
    test_fused_backward<G, R, T>(5, 17, 40, false, true, false, false);
}

template <class R, class T> static void test_storage() {
    test_norms<R, R, T>();
    test_fused<R, T>(3, 5, 192, false, false, {5, 4, 8, RATIONAL_FORM_A});
    test_fused<R, T>(3, 65, 96, true, true, {5, 4, 4, RATIONAL_FORM_PAPER});
    test_fused<R, T>(4, 17, 96, true, false, {3, 3, 1, RATIONAL_FORM_A});
    test_fused<R, T>(4, 5, 96, false, true, {5, 4, 8, RATIONAL_FORM_A}); // 12 channels a group: not fused
    test_fused<R, T>(4, 5, 35, true, true, {6, 5, 5, RATIONAL_FORM_A});
    test_fused_backwards<R, R, T>();
}

// A stream in fp32, its gradient in bf16
template <class T> static void test_low_gradient() {
    test_norms<bf16, float, T>();
    test_fused_backwards<bf16, float, T>();
}

int main(int argc, char** argv) {
    test_storage<float, float>();
    test_storage<bf16, bf16>();
    test_storage<float, bf16>();
    test_low_gradient<bf16>();
    test_low_gradient<float>();
    return kernel_tests_finish(argc, argv);
}
