// karat.cuh against karat.h: every basis, every base activation, every order of the operator, full rank, projections,
// one token, rows and ranks that no tile divides, more samples than slots, more harmonics than one group of them, heads
// that are part of a wider layer.
#include "../../kernels/karat.cuh"
#include "cpu_attention.h"
#include "kernel_test.cuh"

typedef struct { bool scales, bias; float logit_scale, start; } Options; // start: deviation of the coefficients
static const Options FULL = {true, true, 1, 1}, PLAIN = {false, false, 1, 1}, LARGE_LOGITS = {true, true, 4, 1};
// Functions of z want a z of a few units; in the smallest start some rows of sigma are in the l1 ball
static const Options HALF = {true, true, 1, 0.5f}, LOW = {false, false, 1, 0.3f}, LOWEST = {true, true, 1, 0.2f};

// Seen in fp32 and bf16: 1.2e-6 6.7e-3 fourier, 5.5e-6 5.1e-3 with large logits, 7.5e-6 3.6e-3 the other bases
// (rational), 1.1e-5 3.7e-3 where sigma is formed or z projected. One token has one z, the terms of which may cancel.
static const Limits FOURIER = {1e-5, 1e-2}, OTHERS = {3e-5, 1e-2}, LARGE = {3e-5, 1.5e-2}, ONE_TOKEN = {2e-5, 5e-2};
static const Limits SIGMA = {4e-5, 1e-2};

typedef struct { // parameters, or their gradients
    Floats coef, scale_basis, scale_base, W, beta, outer_coef, outer_scale_basis, outer_scale_base;
} Tensors;

static Tensors random_tensors(KaratDims d, float start) {
    size_t units = (size_t)d.H * d.R * d.N;
    return {random_values<float>(units * karat_coefficients(d), start), random_values<float>(units, 0.5f * start),
            random_values<float>(units, start), random_values<float>((size_t)d.H * d.N * d.R, 0.3f * start),
            random_values<float>(d.N, 0.3f * start), random_values<float>(units * karat_coefficients(d), start),
            random_values<float>(units, 0.5f * start), random_values<float>(units, start)};
}

// |s| to 0.5 and above: of a wavelet as narrow as a random s can be, fp32 cannot follow the derivatives
static void widen_wavelets(Floats& coef, KaratDims d) {
    if (!basis_is_wavelet(d.basis)) { return; }
    for (size_t i = 0; i < coef.size(); i++) {
        if (i / d.N % WAVELET_PARAMETERS == 2) { coef[i] += copysignf(0.5f, coef[i]); }
    }
}

struct DeviceTensors {
    Device<float> coef, scale_basis, scale_base, W, beta, outer_coef, outer_scale_basis, outer_scale_base;
    DeviceTensors(const Tensors& t)
        : coef(t.coef), scale_basis(t.scale_basis), scale_base(t.scale_base), W(t.W), beta(t.beta),
          outer_coef(t.outer_coef), outer_scale_basis(t.outer_scale_basis), outer_scale_base(t.outer_scale_base) {}
};

template <class Params, class Operator, class Source> static Params pointers(Source& t, Options o) {
    return {.inner = {&t.coef[0], o.scales ? &t.scale_basis[0] : nullptr, o.scales ? &t.scale_base[0] : nullptr},
            .outer = {&t.outer_coef[0], o.scales ? &t.outer_scale_basis[0] : nullptr,
                      o.scales ? &t.outer_scale_base[0] : nullptr},
            .proj_weight = &t.W[0], .proj_bias = o.bias ? &t.beta[0] : nullptr};
}

static double rms_error(const Floats& got, const Floats& want) {
    double error = 0, size = 0;
    for (size_t i = 0; i < want.size(); i++) {
        error += (double)(got[i] - want[i]) * (got[i] - want[i]);
        size += (double)want[i] * want[i];
    }
    return sqrt(error / size);
}

// Returns the rms error of dqkv
template <class T> static double test_problem(const char* what, KaratDims d, Options o, Limits limits) {
    size_t n = (size_t)d.B * d.NQ * d.C, m = 3 * (size_t)d.B * d.N * d.C;
    Floats qkv = without_queries(random_values<T>(m, o.logit_scale), d.N, d.NQ, d.C), dout = random_values<T>(n);
    Floats out(n, 0.5f), dqkv(m, 0.5f), z((size_t)d.B * d.H * d.NQ * d.R);
    Tensors params = random_tensors(d, o.start), grads = random_tensors(d, 0.25f);
    widen_wavelets(params.coef, d);
    widen_wavelets(params.outer_coef, d);
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
    check<T>(what, d_grads.outer_coef, grads.outer_coef, limits);
    check<T>(what, d_grads.outer_scale_basis, grads.outer_scale_basis, limits);
    check<T>(what, d_grads.outer_scale_base, grads.outer_scale_base, limits);
    return rms_error(d_dqkv.host(), dqkv);
}

static KaratDims dims(int B, int N, int C, int H, int D, int R, int G, KaratBase base) {
    KaratDims d = {};
    d.B = B, d.N = d.NQ = N, d.C = C, d.H = H, d.D = D, d.R = R, d.G = G, d.base = base;
    d.spline_order = 3, d.spline_range = 4;
    return d;
}

static KaratDims with_queries(KaratDims d, int NQ) {
    d.NQ = NQ;
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
    test_problem<T>(what, dims(11, 97, 16, 2, 8, 3, 1, KARAT_BASE_ZERO), PLAIN, FOURIER); // 2 slots under the emulation
    test_problem<T>(what, dims(37, 5, 8, 1, 8, 3, 3, KARAT_BASE_ZERO), FULL, FOURIER);    // 37: more than threads share
    test_problem<T>(what, dims(2, 65, 128, 2, 64, 12, 3, KARAT_BASE_ZERO), FULL, FOURIER);
    test_problem<T>(what, dims(2, 65, 128, 2, 64, 12, 2, KARAT_BASE_ZERO), PLAIN, FOURIER);
    test_problem<T>(what, dims(3, 33, 32, 1, 32, 16, 11, KARAT_BASE_ZERO), PLAIN, FOURIER);
    test_problem<T>(what, dims(1, 65, 64, 1, 64, 16, 1, KARAT_BASE_GELU), {true, false, 1, 1}, FOURIER);
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

// Between groups of harmonics dA is in fp32, where a block has room for it. Seen: 4.0e-3; rounded to bf16 each time, as
// for 197 tokens, it is 6.1e-3.
static void test_many_harmonics() {
    KaratDims wide = dims(2, 65, 64, 1, 64, 12, 31, KARAT_BASE_ZERO);
    KaratDims narrow = dims(1, 197, 64, 1, 64, 12, 5, KARAT_BASE_ZERO);
    double error = test_problem<bf16>("many harmonics", wide, LOW, FOURIER);
    CHECK(!karat_backward_room(wide).wide || error <= 5e-3, "many harmonics: rms error %.3g of dqkv", error);
    test_problem<bf16>("many harmonics, 197 tokens", narrow, PLAIN, FOURIER);
}

// The models' 197 tokens fit into a block of sm_80, whatever the grid
static void test_shared_memory() {
    KaratDims d = dims(1, 197, 192, 3, 64, 12, 3, KARAT_BASE_ZERO);
    size_t forward = karat_forward_tensor_shared(d, KARAT_WIDTH);
    size_t backward = karat_backward_tensor_shared({false, false}, d);
    CHECK(forward <= 163 << 10 && backward <= 163 << 10, "%zu and %zu bytes of shared memory", forward, backward);
    CHECK(shared_limit() < 227 << 10 || karat_backward_room(d).ahead, "sm_90 does not load values ahead");
}

// ---- Where sigma is formed, or z projected

static KaratDims with_order(KaratDims d, KaratOrder order) {
    d.order = order;
    return d;
}

static KaratDims of_full_rank(KaratDims d) {
    d.full_rank = true;
    d.R = d.N;
    return d;
}

static KaratDims projected(KaratDims d, Projection kind, bool z) {
    d.projection = kind;
    d.project_z = z;
    return d;
}

template <class T> static void test_basis_behind(const char* what, KaratBasis basis) {
    KaratDims odd = with_basis(dims(3, 5, 21, 1, 21, 3, 3, KARAT_BASE_IDENTITY), basis);
    KaratDims heads = with_basis(dims(3, 17, 24, 2, 8, 12, 2, KARAT_BASE_GELU), basis); // of three
    for (KaratOrder order : {KARAT_PHI_W, KARAT_PHI_PHI}) {
        test_problem<T>(what, with_order(odd, order), LOW, OTHERS);
        test_problem<T>(what, with_order(heads, order), HALF, OTHERS);
    }
    test_problem<T>(what, of_full_rank(odd), FULL, OTHERS);
}

template <class T> static void test_sigma() {
    KaratDims d = dims(2, 17, 24, 2, 8, 5, 2, KARAT_BASE_SILU), one = dims(1, 1, 8, 1, 8, 1, 1, KARAT_BASE_ZERO);
    KaratDims many = dims(11, 65, 16, 2, 8, 3, 1, KARAT_BASE_ZERO); // 4 slots
    KaratDims wide = dims(1, 197, 64, 1, 64, 12, 3, KARAT_BASE_ZERO);
    for (KaratOrder order : {KARAT_W_PHI, KARAT_PHI_W, KARAT_PHI_PHI}) {
        for (Projection kind : {PROJECT_SIMPLEX, PROJECT_L1}) {
            test_problem<T>("projected sigma", projected(with_order(d, order), kind, false), FULL, SIGMA);
            test_problem<T>("projected z", projected(with_order(d, order), kind, true), FULL, SIGMA);
        }
        test_problem<T>("in the l1 ball", projected(with_order(d, order), PROJECT_L1, false), LOWEST, SIGMA);
        test_problem<T>("sigma, one token", projected(with_order(one, order), PROJECT_L1, false), FULL, ONE_TOKEN);
        test_problem<T>("many samples", projected(with_order(many, order), PROJECT_SIMPLEX, false), PLAIN, SIGMA);
    }
    test_problem<T>("197 tokens", with_order(wide, KARAT_PHI_W), HALF, SIGMA);
    test_problem<T>("197 tokens", with_order(wide, KARAT_PHI_PHI), LOW, SIGMA);
    test_problem<T>("full rank", projected(of_full_rank(d), PROJECT_SIMPLEX, false), FULL, SIGMA);
    test_problem<T>("full rank", of_full_rank(dims(2, 65, 16, 1, 16, 0, 3, KARAT_BASE_ZERO)), PLAIN, SIGMA);
}

// Of the first tokens alone: in every form
template <class T> static void test_few_queries(const char* const* names) {
    KaratDims d = with_queries(dims(2, 33, 24, 2, 8, 5, 2, KARAT_BASE_SILU), 3);
    test_problem<T>("one query", with_queries(dims(3, 65, 64, 2, 32, 12, 3, KARAT_BASE_ZERO), 1), FULL, FOURIER);
    test_problem<T>("20 queries", with_queries(dims(2, 65, 64, 1, 64, 16, 11, KARAT_BASE_ZERO), 20), PLAIN, FOURIER);
    for (KaratOrder order : {KARAT_W_PHI, KARAT_PHI_W, KARAT_PHI_PHI}) {
        test_problem<T>("few, projected sigma", projected(with_order(d, order), PROJECT_SIMPLEX, false), HALF, SIGMA);
        test_problem<T>("few, projected z", projected(with_order(d, order), PROJECT_L1, true), HALF, SIGMA);
        for (KaratBasis basis : {BASIS_FOURIER, BASIS_MORLET}) {
            test_problem<T>(names[basis], with_basis(with_order(d, order), basis), LOW, OTHERS);
        }
    }
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        test_problem<T>(names[basis], with_basis(d, (KaratBasis)basis), FULL, OTHERS);
    }
    test_problem<T>("few, full rank", projected(of_full_rank(d), PROJECT_SIMPLEX, false), HALF, SIGMA);
}

int main(int argc, char** argv) {
    test_shared_memory();
    test_fourier<float>();
    test_fourier<bf16>();
    test_sigma<float>();
    test_sigma<bf16>();
    static const char* const names[] = {BASES(CHOICE_NAME)};
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        test_basis<float>(names[basis], (KaratBasis)basis);
        test_basis<bf16>(names[basis], (KaratBasis)basis);
        test_basis_behind<float>(names[basis], (KaratBasis)basis);
        test_basis_behind<bf16>(names[basis], (KaratBasis)basis);
    }
    test_few_queries<float>(names);
    test_few_queries<bf16>(names);
    test_many_harmonics();
    return kernel_tests_finish(argc, argv);
}
