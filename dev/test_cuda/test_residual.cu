// residual.cuh against residual.h: stream and branch in fp32, bf16 and mixed, LayerScale and drop path on and off, both
// kinds of pooling, C that is no multiple of 8.
#include "../../kernels/residual.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 9.5e-8 3.9e-3 (rounding to bf16 alone: 2^-8 of the value), dscale 2.1e-7
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {2e-6, 2e-6};

template <class R, class T> static void test_residual(int B, int N, int C, bool scales, bool drops) {
    size_t n = (size_t)B * N * C;
    Floats x = random_values<R>(n), branch = random_values<T>(n), scale = random_values<float>(C), keep(B);
    Floats dout = random_values<R>(n), dscale = random_values<float>(C), out(n), dbranch(n);
    for (int b = 0; b < B; b++) { keep[b] = b % 3 == 1 ? 0 : 1.25f; }
    const float *s = scales ? scale.data() : nullptr, *k = drops ? keep.data() : nullptr;
    Device<R> d_x(x), d_dout(dout);
    Device<T> d_branch(branch), d_dbranch(n);
    Device<float> d_scale(scale), d_keep(keep), d_dscale(dscale), scratch(residual_scratch(B, N, C));
    const float *d_s = scales ? d_scale.data : nullptr, *d_k = drops ? d_keep.data : nullptr;

    cpu.residual_forward(out.data(), x.data(), branch.data(), s, k, B, N, C);
    residual_forward<R, T>(d_x, d_x, d_branch, d_s, d_k, B, N, C, 0);
    check<R>("residual_forward", d_x, out, VALUES);

    Floats cpu_scratch(cpu.residual_scratch(B, N, C));
    cpu.residual_backward(dbranch.data(), dscale.data(), dout.data(), branch.data(), s, k, cpu_scratch.data(), B, N, C);
    residual_backward<R, T>(d_dbranch, d_dscale, d_dout, d_branch, d_s, d_k, scratch, B, N, C, 0);
    check<T>("residual_backward dbranch", d_dbranch, dbranch, VALUES);
    check<T>("residual_backward dscale", d_dscale, dscale, SUMS);
}

template <class R, class T> static void test_pool(int B, int N, int C, bool average, bool has_cls) {
    Floats x = random_values<R>((size_t)B * N * C), dout = random_values<T>((size_t)B * C), out(B * C), dx(x.size());
    Device<R> d_x(x), d_dx(x.size());
    Device<T> d_dout(dout), d_out(B * C);
    cpu.pool_forward(out.data(), x.data(), average, has_cls, B, N, C);
    pool_forward<T, R>(d_out, d_x, average, has_cls, B, N, C, 0);
    check<T>("pool_forward", d_out, out, VALUES);
    cpu.pool_backward(dx.data(), dout.data(), average, has_cls, B, N, C);
    pool_backward<R, T>(d_dx, d_dout, average, has_cls, B, N, C, 0);
    check<R>("pool_backward", d_dx, dx, VALUES);
}

template <class R, class T> static void test_storage() {
    for (int options = 0; options < 4; options++) {
        test_residual<R, T>(1, 1, 8, options & 1, options & 2);
        test_residual<R, T>(3, 17, 65, options & 1, options & 2);
        test_residual<R, T>(5, 65, 96, options & 1, options & 2);
    }
    test_pool<R, T>(1, 1, 3, false, true);
    test_pool<R, T>(3, 17, 65, false, true);
    test_pool<R, T>(3, 17, 65, true, true);
    test_pool<R, T>(5, 64, 96, true, false);
}

int main(int argc, char** argv) {
    test_storage<float, float>();
    test_storage<bf16, bf16>();
    test_storage<float, bf16>();
    return kernel_tests_finish(argc, argv);
}
