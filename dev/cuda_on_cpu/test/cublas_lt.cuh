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
static void set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, T value) {
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

// which: how many of the algorithms to pass over
static void lt_multiply(const LtProduct& p, const void* a, const void* b, void* d, int which = 0) {
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t results[MOST_ALGORITHMS], checked;
    int found = 0;
    float one = 1.0f, zero = 0.0f;
    CUBLAS_CHECK(cublasLtCreate(&handle));
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    cublasLtMatmulDesc_t description = make_description(p);
    cublasLtMatrixLayout_t layout_a = p.transpose_a ? make_layout(p, p.k, p.m) : make_layout(p, p.m, p.k);
    cublasLtMatrixLayout_t layout_b = p.transpose_b ? make_layout(p, p.n, p.k) : make_layout(p, p.k, p.n);
    cublasLtMatrixLayout_t layout_d = make_layout(p, p.m, p.n);
    Device<char> workspace(WORKSPACE);
    uint64_t bytes = workspace.count;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes);
    if (!PLANTED_HOST(sums_in_bf16)) { set_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes); }
    CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(handle, description, layout_a, layout_b, layout_d, layout_d, preference,
                                                MOST_ALGORITHMS, results, &found));
    auto runs = [&](const cublasLtMatmulAlgo_t& algo) {
        return cublasLtMatmulAlgoCheck(handle, description, layout_a, layout_b, layout_d, layout_d, &algo, &checked) ==
               CUBLAS_STATUS_SUCCESS;
    };
    for (int i = which; i < found && !PLANTED_HOST(unchecked_algorithm); i++) {
        if (runs(results[i].algo)) { break; }
        which++;
    }
    CHECK(which < found, "cublasLt knows no way for epilogue %d", (int)p.epilogue);
    CUBLAS_CHECK(cublasLtMatmul(handle, description, &one, a, layout_a, b, layout_b, &zero, d, layout_d, d, layout_d,
                                &results[which].algo, PLANTED_HOST(no_workspace) ? nullptr : workspace.data,
                                PLANTED_HOST(no_workspace) ? 0 : bytes, nullptr));
    for (cublasLtMatrixLayout_t layout : {layout_a, layout_b, layout_d}) {
        CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(layout));
    }
    CUBLAS_CHECK(cublasLtMatmulDescDestroy(description));
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
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

// Algorithms may add in other orders, and the fastest by the clock of events need not be the first. A sum in bf16 of 4
// parts, of which the first three cancel to 1 % of each, would be off by more than a rounding.
static void test_algorithms() {
    LtProduct p = {16, 8, 64, false, false, CUDA_R_16BF, CUBLAS_COMPUTE_32F, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 1};
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
