// cublasLt: the products of a linear layer, forward and backward, with their epilogues, in bf16, fp32 and tf32.
#pragma once
#include "support.cuh"
#include <cublasLt.h>

#define CUBLAS_CHECK(call) do { cublasStatus_t status_ = (call); if (status_ != CUBLAS_STATUS_SUCCESS) { \
    printf("FAILED %s:%d: cublasLt status %d\n", __FILE__, __LINE__, (int)status_); exit(1); } } while (0)

enum { MOST_ALGORITHMS = 8, WORKSPACE = 1 << 20 };

// D[m,n] = op(A) op(B), column-major, packed; epilogue with bias and aux as it needs them, both of D's type
struct LtProduct {
    int m, n, k;
    bool transpose_a, transpose_b;
    cudaDataType_t type;
    cublasComputeType_t compute;
    cublasLtEpilogue_t epilogue;
    void *bias, *aux;
    int batch;
};

template <class T>
static void set_attribute(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, T value) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value));
}

template <class T>
static void set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                           T value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

static cublasLtMatrixLayout_t make_layout(const LtProduct& p, int rows, int columns) {
    cublasLtMatrixLayout_t layout;
    int64_t stride = (int64_t)rows * columns;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, p.type, rows, columns, rows));
    CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &p.batch,
                                                  sizeof p.batch));
    CUBLAS_CHECK(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                  sizeof stride));
    return layout;
}

static cublasLtMatmulDesc_t make_description(const LtProduct& p) {
    cublasLtMatmulDesc_t description;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&description, p.compute, CUDA_R_32F));
    set_attribute(description, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_attribute(description, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_attribute(description, CUBLASLT_MATMUL_DESC_EPILOGUE, p.epilogue);
    if (p.bias) {
        set_attribute(description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
        set_attribute(description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, p.type);
    }
    if (p.aux) {
        set_attribute(description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux);
        set_attribute(description, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, (int64_t)p.m);
    }
    return description;
}

// One that runs, behind the first `which` that cublasLt proposes; parts are added in fp32
static cublasLtMatmulAlgo_t find_algorithm(cublasLtHandle_t handle, cublasLtMatmulDesc_t description,
                                           cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t d,
                                           int which) {
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t results[MOST_ALGORITHMS], checked;
    uint64_t bytes = WORKSPACE;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    int found = 0;
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes);
    if (!PLANTED_HOST(sums_in_bf16)) { set_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes); }
    CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle, description, a, b, d, d, preference, MOST_ALGORITHMS, results,
                                                &found));
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    CHECK(which < found, "cublasLt proposes %d algorithms", found);
    bool runs = PLANTED_HOST(unchecked_algorithm);
    while (!runs && which < found) {
        const cublasLtMatmulAlgo_t* algo = &results[which].algo;
        runs = cublasLtMatmulAlgoCheck(handle, description, a, b, d, d, algo, &checked) == CUBLAS_STATUS_SUCCESS;
        which += !runs;
    }
    CHECK(runs, "cublasLt has no algorithm that runs");
    return results[which].algo;
}

// which: how many of the algorithms to pass over
static void lt_multiply(const LtProduct& p, const void* a, const void* b, void* d, int which = 0) {
    cublasLtHandle_t handle;
    float one = 1.0f, zero = 0.0f;
    CUBLAS_CHECK(cublasLtCreate(&handle));
    cublasLtMatmulDesc_t description = make_description(p);
    cublasLtMatrixLayout_t layout_a = p.transpose_a ? make_layout(p, p.k, p.m) : make_layout(p, p.m, p.k);
    cublasLtMatrixLayout_t layout_b = p.transpose_b ? make_layout(p, p.n, p.k) : make_layout(p, p.k, p.n);
    cublasLtMatrixLayout_t layout_d = make_layout(p, p.m, p.n);
    cublasLtMatmulAlgo_t algo = find_algorithm(handle, description, layout_a, layout_b, layout_d, which);
    Device<char> workspace(PLANTED_HOST(no_workspace) ? 1 : WORKSPACE);
    CUBLAS_CHECK(cublasLtMatmul(handle, description, &one, a, layout_a, b, layout_b, &zero, d, layout_d, d, layout_d,
                                &algo, workspace.data, workspace.count, nullptr));
    for (cublasLtMatrixLayout_t layout : {layout_a, layout_b, layout_d}) {
        CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(layout));
    }
    CUBLAS_CHECK(cublasLtMatmulDescDestroy(description));
    CUDA_CHECK(cudaDeviceSynchronize());
    CUBLAS_CHECK(cublasLtDestroy(handle));
}

template <class T>
static std::vector<double> product(const LtProduct& p, const std::vector<T>& a, const std::vector<T>& b) {
    std::vector<double> d((size_t)p.batch * p.m * p.n);
    for (int s = 0; s < p.batch; s++) {
        for (int at = 0; at < p.m * p.n; at++) {
            int i = at % p.m, j = at / p.m;
            for (int l = 0; l < p.k; l++) {
                int in_a = p.transpose_a ? i * p.k + l : l * p.m + i, in_b = p.transpose_b ? l * p.n + j : j * p.k + l;
                d[s * p.m * p.n + at] +=
                    (double)to_float(a[s * p.m * p.k + in_a]) * to_float(b[s * p.k * p.n + in_b]);
            }
        }
    }
    return d;
}

static double gelu(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }

static const double BF16_ROUNDING = 4e-3; // at most 2^-8 of the largest value, as observed 2.7e-3

// out = gelu(x wᵀ + bias), aux what gelu was applied to; then dgelu of aux
static void test_gelu_epilogues() {
    LtProduct p = {24, 10, 32, true, false, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
                   nullptr, nullptr, 1};
    auto w = random_values<bf16>(p.m * p.k), x = random_values<bf16>(p.k * p.n), bias = random_values<bf16>(p.m);
    std::vector<double> before = product(p, w, x), after(before.size()), dgelu(before.size());
    for (size_t i = 0; i < before.size(); i++) {
        before[i] += to_float(bias[i % p.m]);
        after[i] = gelu(before[i]);
    }
    Device<bf16> dw(w), dx(x), dbias(bias), out(p.m * p.n), aux(p.m * p.n);
    p.bias = dbias.data;
    p.aux = aux.data;
    lt_multiply(p, dw.data, dx.data, out.data);
    check_output("cublasLt gelu + bias", out, after, BF16_ROUNDING);
    check_output("cublasLt gelu's aux", aux, before, BF16_ROUNDING);

    std::vector<bf16> aux_values = aux.host();
    std::vector<double> gradient = product(p, w, x);
    for (size_t i = 0; i < dgelu.size(); i++) {
        double z = to_float(aux_values[i]), h = 1e-5;
        dgelu[i] = gradient[i] * (gelu(z + h) - gelu(z - h)) / (2 * h);
    }
    p.epilogue = CUBLASLT_EPILOGUE_DGELU;
    p.bias = nullptr;
    lt_multiply(p, dw.data, dx.data, out.data);
    check_output("cublasLt dgelu", out, dgelu, BF16_ROUNDING);
}

// The weight's gradient of a linear layer, dw = x doutᵀ (C×OC, column-major), and the bias's: the row sums of dout
static void test_bias_gradient() {
    LtProduct p = {32, 24, 40, false, true, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_BGRADB, nullptr,
                   nullptr, 1};
    auto x = random_values<bf16>(p.m * p.k), dout = random_values<bf16>(p.n * p.k);
    std::vector<double> sums(p.n);
    for (int i = 0; i < p.n * p.k; i++) { sums[i % p.n] += to_float(dout[i]); }
    Device<bf16> dev_x(x), dev_dout(dout), dw(p.m * p.n), dbias(p.n);
    p.bias = dbias.data;
    lt_multiply(p, dev_x.data, dev_dout.data, dw.data);
    check_output("cublasLt dw", dw, product(p, x, dout), BF16_ROUNDING);
    check_output("cublasLt dbias", dbias, sums, BF16_ROUNDING);
}

static void test_fp32_products() {
    LtProduct p = {17, 9, 33, true, false, CUDA_R_32F, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_BIAS, nullptr, nullptr, 1};
    auto w = random_values<float>(p.m * p.k), x = random_values<float>(p.k * p.n), bias = random_values<float>(p.m);
    std::vector<double> want = product(p, w, x);
    for (size_t i = 0; i < want.size(); i++) { want[i] += bias[i % p.m]; }
    Device<float> dw(w), dx(x), dbias(bias), out(p.m * p.n);
    p.bias = dbias.data;
    lt_multiply(p, dw.data, dx.data, out.data);
    check_output("cublasLt fp32 + bias", out, want, 1e-6); // 1.5e-7

    LtProduct batched = {16, 8, 12, false, false, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLASLT_EPILOGUE_DEFAULT,
                         nullptr, nullptr, 3};
    auto a = random_values<float>(3 * 16 * 12), b = random_values<float>(3 * 12 * 8);
    std::vector<double> want_batched = product(batched, a, b);
    if (PLANTED_HOST(operand_too_short)) { a.pop_back(); }
    Device<float> da(a), db(b), d(3 * 16 * 8);
    lt_multiply(batched, da.data, db.data, d.data);
    check_output("cublasLt tf32, a batch of 3", d, want_batched, 2e-3); // 2^-11 an input; 3.5e-4
}

// Each of them. The second half of the sums nearly cancels the first: added in bf16, parts of them would be far off.
static void test_algorithms() {
    LtProduct p = {16, 8, 64, false, false, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT,
                   nullptr, nullptr, 1};
    auto a = random_values<bf16>(p.m * p.k), b = random_values<bf16>(p.k * p.n);
    for (int i = 0; i < p.m * p.k; i++) {
        int l = i / p.m, half = p.k / 2;
        if (l >= half) { a[i] = __float2bfloat16(-to_float(a[i - half * p.m]) * (1 + 0.01f * (l % 2))); }
    }
    for (int j = 0; j < p.n; j++) {
        for (int l = p.k / 2; l < p.k; l++) { b[j * p.k + l] = b[j * p.k + l - p.k / 2]; }
    }
    std::vector<double> want = product(p, a, b);
    Device<bf16> da(a), db(b), d(p.m * p.n);
    for (int which = 0; which < 3; which++) {
        lt_multiply(p, da.data, db.data, d.data, which);
        check_output("cublasLt, each algorithm", d, want, BF16_ROUNDING);
    }
}

static void test_cublas_lt() {
    test_algorithms();
    test_gelu_epilogues();
    test_bias_gradient();
    test_fp32_products();
}
