// The parts of a product by cublasLt: its shape, its plan, and the algorithms that cublasLt has for it. All state is in
// one place: a handle, a workspace, and the plan of each shape that has occurred.
#pragma once
#include "cuda_common.cuh"
#include <cublasLt.h>

static inline void cublas_check(cublasStatus_t status, const char* file, int line) {
    if (status != CUBLAS_STATUS_SUCCESS) {
        fail(EXIT_RUN_TIME, "%s:%d: cublasLt reports: %s%s", file, line, cublasLtGetStatusString(status), capture_advice());
    }
}
#define CUBLAS_CHECK(call) cublas_check((call), __FILE__, __LINE__)

template <class T> constexpr cudaDataType_t cuda_type() { return sizeof(T) == 2 ? CUDA_R_16BF : CUDA_R_32F; }

// D (m, n) = op(A) (m, k) op(B) (k, n) + bias (m), column-major
struct ProductShape {
    int m, n, k;
    bool transpose_a, transpose_b, bias;
    cudaDataType_t type, type_d;       // of A and B; of D and bias
    int ld_a = 0, ld_b = 0, ld_d = 0;  // elements from one column to the next; 0: contiguous
    bool aligned = true;               // A, B, D and bias begin at multiples of PRODUCT_ALIGNMENT
    bool operator==(const ProductShape&) const = default;
};

struct ProductPlan {
    ProductShape shape;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t a, b, d;
    cublasLtMatmulAlgo_t algo;
};

// Products of one model: some 40 shapes, and as many more for a short batch
enum { PRODUCT_PLANS = 128, PRODUCT_WORKSPACE = 32 << 20, PRODUCT_ALIGNMENT = 16, // bytes
       PRODUCT_ALGORITHMS = 16 };                                                 // requested from cublasLt
static struct {
    cublasLtHandle_t handle;
    cublasComputeType_t fp32; // for fp32 factors
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

// If the sums over k are split into parts, these are added in fp32: with bf16 results, not in bf16.
static inline uint32_t reduction_schemes(const ProductShape& s) {
    uint32_t in_fp32 = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    return s.type_d == CUDA_R_32F ? in_fp32 | CUBLASLT_REDUCTION_SCHEME_INPLACE : in_fp32;
}

static inline cublasLtMatmulPreference_t product_preference(const ProductShape& s) {
    cublasLtMatmulPreference_t preference;
    uint32_t bytes = s.aligned ? (uint32_t)PRODUCT_ALIGNMENT : s.type == CUDA_R_32F ? sizeof(float) : sizeof(bf16);
    CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    set_preference(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (uint64_t)PRODUCT_WORKSPACE);
    set_preference(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reduction_schemes(s));
    for (auto alignment : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                           CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
        set_preference(preference, alignment, bytes);
    }
    return preference;
}

// Whether cublasLt accepts the algorithm for this product here
static inline bool algorithm_runs(const ProductPlan* plan, const cublasLtMatmulAlgo_t* algo) {
    cublasLtMatmulHeuristicResult_t result;
    return cublasLtMatmulAlgoCheck(products.handle, plan->description, plan->a, plan->b, plan->d, plan->d, algo,
                                   &result) == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= PRODUCT_WORKSPACE;
}

// Those that cublasLt proposes and accepts, the one that it expects to be fastest first; returns their number
static inline int product_algorithms(const ProductPlan* plan, cublasLtMatmulAlgo_t algos[PRODUCT_ALGORITHMS]) {
    cublasLtMatmulHeuristicResult_t results[PRODUCT_ALGORITHMS];
    const ProductShape& s = plan->shape;
    int found = 0, count = 0;
    cublasLtMatmulPreference_t preference = product_preference(s);
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(products.handle, plan->description, plan->a, plan->b, plan->d,
                                                           plan->d, preference, PRODUCT_ALGORITHMS, results, &found);
    CUBLAS_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; i++) {
        bool proposed = results[i].state == CUBLAS_STATUS_SUCCESS;
        if (proposed && algorithm_runs(plan, &results[i].algo)) { algos[count++] = results[i].algo; }
    }
    if (count == 0) {
        fail(EXIT_RUN_TIME, "cublasLt knows no way for a product of %d x %d x %d: try another --batch-size or "
             "--precision", s.m, s.n, s.k);
    }
    return count;
}

// A product's operands: d = op(a) op(b) + bias + keep d
struct ProductCall {
    void* d;
    const void *a, *b, *bias;
    float keep;
    cudaStream_t stream;
};

static inline void launch_product(ProductPlan* plan, const cublasLtMatmulAlgo_t* algo, ProductCall c) {
    float one = 1;
    if (plan->shape.bias) { set_attribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, c.bias); }
    CUBLAS_CHECK(cublasLtMatmul(products.handle, plan->description, &one, c.a, plan->a, c.b, plan->b, &c.keep, c.d,
                                plan->d, c.d, plan->d, algo, products.workspace, PRODUCT_WORKSPACE, c.stream));
}
