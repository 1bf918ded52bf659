// karat_window.cuh and karat_window_tensor.cuh against karat.h in windows of a grid: windows as they lie and of a
// rolled grid, both masks, every basis that windows take, beta, heads that are part of a wider layer, fewer windows
// than slots and more.
#include "../../kernels/karat.cuh"
#include "cpu_attention.h"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: 1.9e-6 6.2e-3, of the table, whose gradient is a sum of rounded ones, 9.3e-3
static const Limits FOURIER = {1e-5, 1.5e-2}, OTHERS = {3e-5, 1.5e-2};

enum { TENSORS = 6 }; // parameters: coef, scale_basis, scale_base, W, beta, table
static const char* const names[TENSORS] = {"dcoef", "dscale_basis", "dscale_base", "dW", "dbeta", "dtable"};

template <class Params, class Source> static Params pointers(Source* t, bool bias) {
    return {.inner = {&t[0][0], &t[1][0], &t[2][0]}, .proj_weight = &t[3][0], .proj_bias = bias ? &t[4][0] : nullptr,
            .bias_table = &t[5][0]};
}

template <class T> static void test_problem(KaratDims d, bool bias, Limits limits) {
    size_t n = (size_t)d.B * d.N * d.C, units = (size_t)d.H * d.R * d.N, heads = d.C / d.D;
    const size_t sizes[TENSORS] = {units * karat_coefficients(d), units, units, units, (size_t)d.N,
                                   window_offsets(d.windows) * heads};
    Floats qkv = random_values<T>(3 * n), dout = random_values<T>(n), out(n, 0.5f), dqkv(3 * n, 0.5f);
    Floats z((size_t)d.B * d.H * d.N * d.R), params[TENSORS], grads[TENSORS];
    for (int i = 0; i < TENSORS; i++) {
        params[i] = random_values<float>(sizes[i], i == 5 ? 1 : 0.3f);
        grads[i] = random_values<float>(sizes[i]);
    }
    for (size_t i = 0; basis_is_wavelet(d.basis) && i < sizes[0]; i++) { // |s| to 0.5 and above, as in test_karat.cu
        if (i / d.N % WAVELET_PARAMETERS == 2) { params[0][i] += copysignf(0.5f, params[0][i]); }
    }
    Device<T> d_qkv(qkv), d_dout(dout), d_out(out), d_dqkv(dqkv);
    Device<float> d_z(z.size()), scratch(karat_scratch(d));
    Device<float> d_params[TENSORS] = {Device<float>(params[0]), Device<float>(params[1]), Device<float>(params[2]),
                                       Device<float>(params[3]), Device<float>(params[4]), Device<float>(params[5])};
    Device<float> d_grads[TENSORS] = {Device<float>(grads[0]), Device<float>(grads[1]), Device<float>(grads[2]),
                                      Device<float>(grads[3]), Device<float>(grads[4]), Device<float>(grads[5])};
    cpu_karat(out.data(), z.data(), dqkv.data(), pointers<KaratGrads>(grads, bias), qkv.data(), dout.data(),
              pointers<KaratParams>(params, bias), d);
    KaratParams gpu_params = pointers<KaratParams>(d_params, bias);
    karat_forward<T>(d_out, d_z, d_qkv, gpu_params, scratch, d, 0);
    karat_backward<T>(d_dqkv, pointers<KaratGrads>(d_grads, bias), d_dout, d_z, d_qkv, gpu_params, scratch, d, 0);
    check<T>("out", d_out, out, limits);
    check<T>("z", d_z, z, limits);
    check<T>("dqkv", d_dqkv, dqkv, limits);
    for (int i = 0; i < TENSORS; i++) { check<T>(names[i], d_grads[i], grads[i], limits); }
}

// Windows of size^2 tokens on a grid of 2 x 2 of them for each image; H heads of `heads`
static KaratDims dims(int images, int size, int shift, int heads, int H, int D, int R, int G, KaratMask mask) {
    KaratDims d = {};
    d.B = 4 * images, d.N = d.NQ = size * size, d.C = heads * D, d.H = H, d.D = D, d.R = R, d.G = G;
    d.spline_order = 3, d.spline_range = 4, d.windows = {2 * size, size, shift}, d.mask = mask;
    return d;
}

template <class T> static void test_fourier(KaratMask mask) {
    test_problem<T>(dims(2, 3, 0, 2, 2, 8, 3, 3, mask), true, FOURIER);
    test_problem<T>(dims(2, 3, 1, 2, 2, 8, 3, 2, mask), true, FOURIER);
    test_problem<T>(dims(1, 4, 2, 3, 2, 16, 12, 5, mask), false, FOURIER);
    test_problem<T>(dims(1, 7, 3, 1, 1, 32, 12, 3, mask), true, FOURIER);
    test_problem<T>(dims(4, 7, 3, 2, 1, 32, 12, 1, mask), false, FOURIER); // more windows than slots
    test_problem<T>(dims(1, 5, 2, 1, 1, 7, 4, 2, mask), true, FOURIER);
}

template <class T> static void test_bases() {
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        for (KaratMask mask : {KARAT_MASK_REGION, KARAT_MASK_LITERAL}) {
            KaratDims d = dims(1, 4, mask == KARAT_MASK_REGION ? 2 : 1, 1, 1, 8, 3, 3, mask);
            d.basis = (KaratBasis)basis, d.base = KARAT_BASE_SILU;
            if (!karat_takes_windows(d)) { d.windows.shift = 0; }
            test_problem<T>(d, true, OTHERS);
        }
    }
    KaratDims few_slots = dims(1, 7, 0, 4, 4, 8, 3, 3, KARAT_MASK_REGION);
    few_slots.basis = BASIS_RATIONAL, few_slots.base = KARAT_BASE_SILU;
    test_problem<T>(few_slots, true, OTHERS);
}

int main(int argc, char** argv) {
    for (KaratMask mask : {KARAT_MASK_REGION, KARAT_MASK_LITERAL}) {
        test_fourier<float>(mask);
        test_fourier<bf16>(mask);
    }
    test_bases<float>();
    test_bases<bf16>();
    return kernel_tests_finish(argc, argv);
}
