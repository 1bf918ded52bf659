// Matrix products on the GPU: the linear layer of matmul.h by cublasLt.
//
//     out (rows, OC) = inp (rows, C) weight (OC, C)^T + bias (OC)
//     dinp = dout weight        dweight += dout^T inp        dbias += column sums of dout
//
// cublasLt knows columns, we have rows: a row-major matrix is the transpose of the column-major one in the same memory,
// so each product is that of the transposes, its factors exchanged. Activations, their gradients and the copy of the
// weights that products read are stored as T; sums are fp32, and so are the gradients of the weights.
// All state is in one place: a handle, a workspace, and for each shape the plan that cublasLt chose when it first came
// up, so that the same shape always takes the same way, to the same bits.
#pragma once
#include "linear_shape.h"
#include "partials.cuh"
#include <cublasLt.h>

static inline void cublas_check(cublasStatus_t status, const char* file, int line) {
    if (status != CUBLAS_STATUS_SUCCESS) {
        fail(EXIT_RUN_TIME, "%s:%d: cublasLt reports: %s", file, line, cublasLtGetStatusString(status));
    }
}
#define CUBLAS_CHECK(call) cublas_check((call), __FILE__, __LINE__)

template <class T> constexpr cudaDataType_t cuda_type() { return sizeof(T) == 2 ? CUDA_R_16BF : CUDA_R_32F; }

// D (m, n) = op(A) (m, k) op(B) (k, n) + bias (m), in columns
struct ProductShape {
    int m, n, k;
    bool transpose_a, transpose_b, bias;
    cudaDataType_t type, type_d;       // of A and B; of D and bias
    int ld_a = 0, ld_b = 0, ld_d = 0;  // elements from one column to the next; 0: they lie without gaps
    bool aligned = true;               // A, B, D and bias begin at multiples of PRODUCT_ALIGNMENT
    bool operator==(const ProductShape&) const = default;
};

struct ProductPlan {
    ProductShape shape;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
};

// Products of one model: some 40 shapes, and as many again with a short batch
enum { PRODUCT_PLANS = 128, PRODUCT_WORKSPACE = 32 << 20, PRODUCT_ALIGNMENT = 16 }; // bytes
static struct {
    cublasLtHandle_t handle;
    cublasComputeType_t fp32; // how fp32 factors are multiplied
    void* workspace;
    ProductPlan plans[PRODUCT_PLANS];
    int count;
} products;

static inline void matmul_init(bool tf32) {
    products.fp32 = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    CUBLAS_CHECK(cublasLtCreate(&products.handle));
    CUDA_CHECK(cudaMalloc(&products.workspace, PRODUCT_WORKSPACE));
}

static inline void matmul_free(void) {
    for (int i = 0; i < products.count; i++) {
        ProductPlan* plan = &products.plans[i];
        CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(plan->a));
        CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(plan->b));
        CUBLAS_CHECK(cublasLtMatrixLayoutDestroy(plan->d));
        CUBLAS_CHECK(cublasLtMatmulDescDestroy(plan->description));
    }
    products.count = 0;
    CUDA_CHECK(cudaFree(products.workspace));
    CUBLAS_CHECK(cublasLtDestroy(products.handle));
}

template <class Value>
inline void set_attribute(cublasLtMatmulDesc_t description, cublasLtMatmulDescAttributes_t attribute, Value value) {
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(description, attribute, &value, sizeof value));
}

template <class Value>
inline void set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                           Value value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

static inline cublasLtMatrixLayout_t product_layout(cudaDataType_t type, int rows, int columns, int ld) {
    cublasLtMatrixLayout_t layout;
    CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&layout, type, rows, columns, ld ? ld : rows));
    return layout;
}

static inline void choose_algorithm(ProductPlan* plan) {
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    ProductShape s = plan->shape;
    uint32_t bytes = s.aligned ? (uint32_t)PRODUCT_ALIGNMENT : s.type == CUDA_R_32F ? sizeof(float) : sizeof(bf16);
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)PRODUCT_WORKSPACE);
    for (auto alignment : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                           CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        set_preference(preference, alignment, bytes);
    }
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(products.handle, plan->description, plan->a, plan->b,
                                                           plan->d, plan->d, preference, 1, &result, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
        fail(EXIT_RUN_TIME, "cublasLt knows no way for a product of %d x %d x %d: try another --batch-size or "
             "--precision", s.m, s.n, s.k);
    }
    plan->algo = result.algo;
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
}

// bias: one that it will be called with
static inline ProductPlan* product_plan(ProductShape s, const void* bias) {
    for (int i = 0; i < products.count; i++) {
        if (products.plans[i].shape == s) { return &products.plans[i]; }
    }
    if (products.count == PRODUCT_PLANS) {
        fail(EXIT_RUN_TIME, "more than %d shapes of products: raise PRODUCT_PLANS", (int)PRODUCT_PLANS);
    }
    ProductPlan* plan = &products.plans[products.count++];
    plan->shape = s;
    CUBLAS_CHECK(cublasLtMatmulDescCreate(&plan->description, s.type == CUDA_R_32F ? products.fp32 : CUBLAS_COMPUTE_32F,
                                          CUDA_R_32F));
    set_attribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSA, s.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_attribute(plan->description, CUBLASLT_MATMUL_DESC_TRANSB, s.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (s.bias) {
        set_attribute(plan->description, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
        set_attribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, s.type_d);
        set_attribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    plan->a = s.transpose_a ? product_layout(s.type, s.k, s.m, s.ld_a) : product_layout(s.type, s.m, s.k, s.ld_a);
    plan->b = s.transpose_b ? product_layout(s.type, s.n, s.k, s.ld_b) : product_layout(s.type, s.k, s.n, s.ld_b);
    plan->d = product_layout(s.type_d, s.m, s.n, s.ld_d);
    choose_algorithm(plan);
    return plan;
}

// d = op(a) op(b) + bias + keep d
static inline void product(void* d, const void* a, const void* b, const void* bias, float keep, ProductShape s,
                           cudaStream_t stream) {
    float one = 1;
    s.aligned = ((uintptr_t)d | (uintptr_t)a | (uintptr_t)b | (uintptr_t)bias) % PRODUCT_ALIGNMENT == 0;
    ProductPlan* plan = product_plan(s, bias);
    if (s.bias) { set_attribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias); }
    CUBLAS_CHECK(cublasLtMatmul(products.handle, plan->description, &one, a, plan->a, b, plan->b, &keep, d, plan->d, d,
                                plan->d, &plan->algo, products.workspace, PRODUCT_WORKSPACE, stream));
}

// out (rows, OC) = inp (rows, C) weight (OC, C)^T + bias (OC, may be NULL)
template <class D, class T>
inline void linear_forward_strided(D* out, const T* inp, const T* weight, const D* bias, LinearShape s,
                                   cudaStream_t stream) {
    product(out, weight, inp, bias, 0, {s.OC, s.rows, s.C, true, false, bias != nullptr, cuda_type<T>(), cuda_type<D>(),
                                        0, s.ld_inp, s.ld_out}, stream);
}

template <class D, class T>
inline void linear_forward(D* out, const T* inp, const T* weight, const D* bias, int rows, int C, int OC,
                           cudaStream_t stream) {
    linear_forward_strided(out, inp, weight, bias, {rows, C, OC, C, OC}, stream);
}

static inline size_t linear_backward_scratch(int rows, int OC) { return bias_backward_scratch(rows, OC); }

// The forward line: out = inp weight^T + bias. dinp = keep dinp + dout weight
template <class T>
inline void linear_backward_input_strided(T* dinp, float keep, const T* dout, const T* weight, LinearShape s,
                                          cudaStream_t stream) {
    product(dinp, weight, dout, nullptr, keep, {s.C, s.rows, s.OC, false, false, false, cuda_type<T>(), cuda_type<T>(),
                                                0, s.ld_out, s.ld_inp}, stream);
}

// dweight (OC, C) += dout^T inp, dbias (OC, may be NULL) += column sums of dout
template <class T>
inline void linear_backward_weight_strided(float* dweight, float* dbias, const T* dout, const T* inp, float* scratch,
                                           LinearShape s, cudaStream_t stream) {
    product(dweight, inp, dout, nullptr, 1, {s.C, s.OC, s.rows, false, true, false, cuda_type<T>(), CUDA_R_32F,
                                             s.ld_inp, s.ld_out, 0}, stream);
    if (dbias) { bias_backward(dbias, dout, s.ld_out, scratch, s.rows, s.OC, stream); }
}

// Both: dinp = keep dinp + ..., unless it is NULL
template <class T>
inline void linear_backward_strided(T* dinp, float keep, float* dweight, float* dbias, const T* dout, const T* inp,
                                    const T* weight, float* scratch, LinearShape s, cudaStream_t stream) {
    if (dinp) { linear_backward_input_strided(dinp, keep, dout, weight, s, stream); }
    linear_backward_weight_strided(dweight, dbias, dout, inp, scratch, s, stream);
}

template <class T>
inline void linear_backward(T* dinp, float* dweight, float* dbias, const T* dout, const T* inp, const T* weight,
                            float* scratch, int rows, int C, int OC, cudaStream_t stream) {
    linear_backward_strided(dinp, 0, dweight, dbias, dout, inp, weight, scratch, {rows, C, OC, C, OC}, stream);
}
