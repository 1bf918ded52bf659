// karat.cuh against karat.h: every basis, every base activation, one token, rows and ranks that no tile divides, more
// samples than slots, heads that are part of a wider layer.
#include "../../kernels/karat.cuh"
#include "cpu_attention.h"
#include "kernel_test.cuh"

typedef struct { bool scales, bias; float logit_scale; } Options;
static const Options FULL = {true, true, 1}, PLAIN = {false, false, 1}, LARGE_LOGITS = {true, true, 4};

// Seen in fp32 and bf16: 1.2e-6 7.4e-3 fourier, 5.1e-6 4.8e-3 with large logits, 3.1e-6 3.7e-3 the other bases. One
// token has one z, the terms of which may cancel.
static const Limits FOURIER = {1e-5, 1e-2}, OTHERS = {2e-5, 1e-2}, LARGE = {3e-5, 1.5e-2}, ONE_TOKEN = {2e-5, 5e-2};

typedef struct { Floats coef, scale_basis, scale_base, W, beta; } Tensors; // parameters, or their gradients

static Tensors random_tensors(KaratDims d, float start) {
    size_t units = (size_t)d.H * d.R * d.N;
    return {random_values<float>(units * karat_coefficients(d), start), random_values<float>(units, 0.5f * start),
            random_values<float>(units, start), random_values<float>((size_t)d.H * d.N * d.R, 0.3f * start),
            random_values<float>(d.N, 0.3f * start)};
}

// |s| to 0.5 and above: of a wavelet as narrow as a random s can be, fp32 cannot follow the derivatives
static void widen_wavelets(Floats& coef, KaratDims d) {
    if (basis_is_linear(d.basis) || d.basis == BASIS_RATIONAL) { return; }
    for (size_t i = 0; i < coef.size(); i++) {
        if (i / d.N % WAVELET_PARAMETERS == 2) { coef[i] += copysignf(0.5f, coef[i]); }
    }
}

struct DeviceTensors {
    Device<float> coef, scale_basis, scale_base, W, beta;
    DeviceTensors(const Tensors& t)
        : coef(t.coef), scale_basis(t.scale_basis), scale_base(t.scale_base), W(t.W), beta(t.beta) {}
};

template <class Params, class Operator, class Source> static Params pointers(Source& t, Options o) {
    return {.inner = {&t.coef[0], o.scales ? &t.scale_basis[0] : nullptr, o.scales ? &t.scale_base[0] : nullptr},
            .outer = {}, .proj_weight = &t.W[0], .proj_bias = o.bias ? &t.beta[0] : nullptr};
}

template <class T> static void test_problem(const char* what, KaratDims d, Options o, Limits limits) {
    size_t n = (size_t)d.B * d.N * d.C;
    Floats qkv = random_values<T>(3 * n, o.logit_scale), dout = random_values<T>(n), out(n, 0.5f), dqkv(3 * n, 0.5f);
    Floats z((size_t)d.B * d.H * d.N * d.R);
    Tensors params = random_tensors(d, 1), grads = random_tensors(d, 0.25f);
    widen_wavelets(params.coef, d);
    Device<T> d_qkv(qkv), d_dout(dout), d_out(out), d_dqkv(dqkv);
    Device<float> d_z(z.size()), scratch(karat_scratch(d));
    DeviceTensors d_params(params), d_grads(grads);
    cpu_karat(out.data(), z.data(), dqkv.data(), pointers<KaratGrads, KaratOperatorGrads>(grads, o), qkv.data(),
              dout.data(), pointers<KaratParams, KaratOperator>(params, o), d);
    KaratParams gpu_params = pointers<KaratParams, KaratOperator>(d_params, o);
    karat_forward<T>(d_out, d_z, d_qkv, gpu_params, scratch, d, 0);
    karat_backward<T>(d_dqkv, pointers<KaratGrads, KaratOperatorGrads>(d_grads, o), d_dout, d_z, d_qkv, gpu_params,
                      scratch, d, 0);
    check<T>(what, d_out, out, limits);
    check<T>(what, d_z, z, limits);
    check<T>(what, d_dqkv, dqkv, limits);
    check<T>(what, d_grads.coef, grads.coef, limits);
    check<T>(what, d_grads.scale_basis, grads.scale_basis, limits); // those that are off stay as they are
    check<T>(what, d_grads.scale_base, grads.scale_base, limits);
    check<T>(what, d_grads.W, grads.W, limits);
    check<T>(what, d_grads.beta, grads.beta, limits);
}

static KaratDims dims(int B, int N, int C, int H, int D, int R, int G, KaratBase base) {
    KaratDims d = {};
    d.B = B, d.N = N, d.C = C, d.H = H, d.D = D, d.R = R, d.G = G, d.base = base;
    d.spline_order = 3, d.spline_range = 4;
    return d;
}

static KaratDims with_basis(KaratDims d, KaratBasis basis) {
    d.basis = basis;
    return d;
}

template <class T> static void test_fourier() {
    const char* what = "fourier";
    test_problem<T>(what, dims(3, 5, 21, 1, 21, 3, 3, KARAT_BASE_IDENTITY), FULL, FOURIER);
    test_problem<T>(what, dims(2, 17, 64, 2, 32, 12, 11, KARAT_BASE_SILU), FULL, FOURIER);
    test_problem<T>(what, dims(70, 97, 16, 2, 8, 3, 1, KARAT_BASE_ZERO), PLAIN, FOURIER); // 66 slots
    test_problem<T>(what, dims(2, 65, 128, 2, 64, 12, 3, KARAT_BASE_ZERO), FULL, FOURIER);
    test_problem<T>(what, dims(2, 65, 128, 2, 64, 12, 2, KARAT_BASE_ZERO), PLAIN, FOURIER);
    test_problem<T>(what, dims(3, 33, 32, 1, 32, 16, 11, KARAT_BASE_ZERO), PLAIN, FOURIER);
    test_problem<T>(what, dims(1, 65, 64, 1, 64, 16, 1, KARAT_BASE_GELU), {true, false, 1}, FOURIER);
    test_problem<T>(what, dims(1, 197, 64, 1, 64, 12, 3, KARAT_BASE_ZERO), FULL, FOURIER);
    test_problem<T>("fourier, large logits", dims(2, 17, 64, 2, 32, 12, 3, KARAT_BASE_ZERO), LARGE_LOGITS,
                    LARGE);
}

template <class T> static void test_basis(const char* what, KaratBasis basis) {
    test_problem<T>("one token", with_basis(dims(1, 1, 8, 1, 8, 1, 1, KARAT_BASE_ZERO), basis), FULL, ONE_TOKEN);
    test_problem<T>(what, with_basis(dims(3, 5, 21, 1, 21, 3, 3, KARAT_BASE_IDENTITY), basis), FULL, OTHERS);
    test_problem<T>(what, with_basis(dims(3, 17, 16, 2, 8, 12, 2, KARAT_BASE_GELU), basis), PLAIN, OTHERS);
    test_problem<T>(what, with_basis(dims(1, 33, 32, 1, 32, 4, 5, KARAT_BASE_SILU), basis), FULL, OTHERS);
}

// The models' 197 tokens fit into a block of sm_80, whatever the grid
static void test_shared_memory() {
    KaratDims d = dims(1, 197, 192, 3, 64, 12, 3, KARAT_BASE_ZERO);
    size_t forward = karat_forward_tensor_shared(d, KARAT_WIDTH), backward = karat_backward_tensor_shared(d);
    CHECK(forward <= 163 << 10 && backward <= 163 << 10, "%zu and %zu bytes of shared memory", forward, backward);
}

int main(int argc, char** argv) {
    test_shared_memory();
    test_fourier<float>();
    test_fourier<bf16>();
    char names[] = KARAT_BASES, *name = strtok(names, "|");
    for (int basis = 0; basis < BASIS_COUNT; basis++, name = strtok(NULL, "|")) {
        test_basis<float>(name, (KaratBasis)basis);
        test_basis<bf16>(name, (KaratBasis)basis);
    }
    return kernel_tests_finish(argc, argv);
}
