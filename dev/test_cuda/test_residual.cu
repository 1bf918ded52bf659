// residual.cuh against residual.h: stream and branch in fp32, bf16 and mixed, drop path on and off, both kinds of
// pooling, C that is no multiple of 8.
#include "../../kernels/residual.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: values 9.5e-8 3.9e-3 (rounding to bf16 alone: 2^-8 of the value), dscale 2.1e-7
static const Limits VALUES = {1e-6, 4e-3}, SUMS = {2e-6, 2e-6};

// Where no norm follows at once: scale is empty without LayerScale
template <class R, class T>
static void test_residual(Floats x, Floats branch, Floats scale, const Floats* keep, int B, int N, int C) {
    Floats out(x.size()), dbranch(x.size()), dscale(C), cpu_scratch(cpu.residual_scratch(B, N, C));
    Device<R> d_x(x), d_out(x.size());
    Device<T> d_branch(branch), d_dbranch(x.size());
    Device<float> d_scale(scale.empty() ? Floats(1) : scale), d_keep(keep ? *keep : Floats(1));
    const float *scales = scale.empty() ? nullptr : scale.data(), *keeps = keep ? keep->data() : nullptr;
    const float *device_scales = scales ? d_scale.data : nullptr, *device_keeps = keeps ? d_keep.data : nullptr;
    cpu.residual_forward(out.data(), x.data(), branch.data(), scales, keeps, B, N, C);
    residual_forward<R, T>(d_out, d_x, d_branch, device_scales, device_keeps, B, N, C, 0);
    check<R>("residual_forward", d_out, out, VALUES);
    cpu.residual_backward(dbranch.data(), dscale.data(), x.data(), branch.data(), scales, keeps, cpu_scratch.data(), B, N,
                          C);
    residual_backward<T, R>(d_dbranch, d_x, device_scales, device_keeps, B, N, C, 0);
    check<T>("residual_backward", d_dbranch, dbranch, VALUES);
}

template <class R, class T> static void test_layer_scale(int B, int N, int C, bool drops) {
    size_t n = (size_t)B * N * C;
    Floats branch = random_values<T>(n), dout = random_values<R>(n), keep(B), scale(C, 1), dbranch(n);
    Floats dscale = random_values<float>(C);
    for (int b = 0; b < B; b++) { keep[b] = b % 3 == 1 ? 0 : 1.25f; }
    Device<R> d_dout(dout);
    Device<T> d_branch(branch);
    Device<float> d_keep(keep), d_dscale(dscale), scratch(layer_scale_scratch(B, N, C));
    Floats cpu_scratch(cpu.residual_scratch(B, N, C));
    cpu.residual_backward(dbranch.data(), dscale.data(), dout.data(), branch.data(), scale.data(),
                          drops ? keep.data() : nullptr, cpu_scratch.data(), B, N, C);
    test_residual<R, T>(dout, branch, scale, drops ? &keep : nullptr, B, N, C);
    test_residual<R, T>(dout, branch, {}, drops ? &keep : nullptr, B, N, C);
    layer_scale_backward<R, T>(d_dscale, d_dout, d_branch, drops ? d_keep.data : nullptr, scratch, B, N, C, 0);
    check<T>("layer_scale_backward", d_dscale, dscale, SUMS);
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
    test_layer_scale<R, T>(1, 1, 8, false);
    test_layer_scale<R, T>(3, 17, 65, true);
    test_layer_scale<R, T>(5, 65, 96, true);
    test_pool<R, T>(1, 1, 3, false, true);
    test_pool<R, T>(3, 17, 65, false, true);
    test_pool<R, T>(3, 17, 65, true, true);
    test_pool<R, T>(5, 64, 96, true, false);
    test_pool<R, T>(3, 197, 40, true, true);
}

int main(int argc, char** argv) {
    test_storage<float, float>();
    test_storage<bf16, bf16>();
    test_storage<float, bf16>();
    test_storage<bf16, float>();
    return kernel_tests_finish(argc, argv);
}
