// cublasLt's interface for matmul: fp32, tf32 and bf16 with fp32 sums, strided batches, and the epilogues of a ViT.
// What is not emulated stops the program, as does what a GPU would refuse: mismatched shapes, misaligned pointers.
#include "internal.h"
#include "matmul.h"
#include <initializer_list>
#include <stdlib.h>
#include <string.h>

using namespace emu;

// The toolkit's header declares the handles' types and sizes, but not what they point to.
struct Description {
    cublasComputeType_t compute;
    int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
    cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    void *bias = nullptr, *aux = nullptr;
    int64_t aux_leading = 0, aux_stride = 0;
    int32_t bias_type = -1, aux_type = -1; // -1: that of D
};
struct Layout {
    cudaDataType_t type;
    uint64_t rows, columns;
    int64_t leading;
    int32_t batch = 1;
    int64_t stride = 0;
};

template <class T> static void read_attribute(T& target, const void* value, size_t size) {
    if (size != sizeof(T)) { fail("cublasLt: an attribute of %zu bytes was given with %zu", sizeof(T), size); }
    memcpy(&target, value, size);
}

static void check_type(int type) {
    if (type != CUDA_R_32F && type != CUDA_R_16BF) { fail("cublasLt: data type %d is not emulated", type); }
}

// The alignment that an algorithm may expect of its pointers, in bytes; the bias must be aligned like D.
struct Alignment { uint32_t a = 16, b = 16, c = 16, d = 16; };

struct Preference {
    Alignment alignment;
    uint64_t workspace = 0;
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
};

// It accepts pointers with the alignment in the preference by which it was found.
struct Algorithm {
    int32_t parts;      // into which the sums over k are split
    uint32_t scheme;    // how these are added
    bool wide;          // needs columns of all matrices to begin at multiples of 16 bytes
    float seconds;      // a run's duration by the clock of events
    Alignment alignment;
};

// In the order of the heuristic, with what a program has to expect from cublasLt: sums in bf16 unless the preference
// forbids them, one that fails although it was found, and the fastest last.
static const Algorithm algorithms[] = {
    {4, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE, false, 1, {}},
    {1, CUBLASLT_REDUCTION_SCHEME_NONE, true, 4, {}},
    {1, CUBLASLT_REDUCTION_SCHEME_NONE, false, 3, {}},
    {2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, false, 2, {}},
};

static Algorithm read_algorithm(const cublasLtMatmulAlgo_t* algo) {
    Algorithm algorithm = algorithms[2];
    if (algo) { memcpy((void*)&algorithm, algo->data, sizeof algorithm); }
    if (algorithm.parts < 1 || algorithm.parts > 4) { fail("cublasLt: not an algorithm"); }
    return algorithm;
}

static size_t workspace_of(const Algorithm& algorithm, const Layout& d) {
    return algorithm.parts == 1 ? 0 : algorithm.parts * d.rows * d.columns * sizeof(float);
}

static bool takes_layouts(const Algorithm& algorithm, std::initializer_list<const Layout*> layouts) {
    for (const Layout* x : layouts) {
        if (algorithm.wide && x->leading * (x->type == CUDA_R_32F ? 4 : 2) % 16) { return false; }
    }
    return true;
}

static void check_aligned(const void* p, const char* name, uint32_t bytes) {
    if (!p) { fail("cublasLtMatmul: no pointer for %s", name); }
    if ((uintptr_t)p % bytes) { fail("cublasLtMatmul: %s is not %u-byte aligned", name, bytes); }
}

static void check_leading(const Layout& x, const char* name) {
    if (x.leading < (int64_t)x.rows) { fail("cublasLtMatmul: leading dimension of %s below its rows", name); }
}

static void check_types(const Description& description, const Layout& a, const Layout& b, const Layout& c,
                        const Layout& d) {
    for (const Layout* x : {&a, &b, &c, &d}) { check_type(x->type); }
    bool fp32 = a.type == CUDA_R_32F && d.type == CUDA_R_32F, bf16 = a.type == CUDA_R_16BF;
    bool tf32 = description.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    if (a.type != b.type || c.type != d.type || (!fp32 && !bf16)) { fail("cublasLtMatmul: types do not go together"); }
    if (tf32 && !fp32) { fail("cublasLtMatmul: tf32 is for fp32 inputs"); }
}

static void check_shapes(const Matmul& p, const Description& description, const Layout& a, const Layout& b,
                         const Layout& c, const Layout& d) {
    bool ta = description.transpose_a != CUBLAS_OP_N, tb = description.transpose_b != CUBLAS_OP_N;
    bool fit = (int64_t)(ta ? a.columns : a.rows) == p.m && (int64_t)(tb ? b.rows : b.columns) == p.n &&
               (int64_t)(tb ? b.columns : b.rows) == p.k && c.rows == d.rows && c.columns == d.columns;
    if (!fit || p.m <= 0 || p.n <= 0 || p.k <= 0) {
        fail("cublasLtMatmul: shapes do not fit: A %zu×%zu%s, B %zu×%zu%s, C %zu×%zu, D %zu×%zu", (size_t)a.rows,
             (size_t)a.columns, ta ? "ᵀ" : "", (size_t)b.rows, (size_t)b.columns, tb ? "ᵀ" : "", (size_t)c.rows,
             (size_t)c.columns, (size_t)d.rows, (size_t)d.columns);
    }
    if (a.batch != d.batch || b.batch != d.batch || c.batch != d.batch) { fail("cublasLtMatmul: batch counts differ"); }
}

static void check_epilogue(const Matmul& p, const Description& description, Alignment alignment) {
    const Epilogue& e = p.epilogue;
    bool known = e.kind == CUBLASLT_EPILOGUE_DEFAULT || e.kind == CUBLASLT_EPILOGUE_RELU ||
                 e.kind == CUBLASLT_EPILOGUE_GELU || adds_bias(e.kind) || writes_bias(e.kind) || reads_aux(e.kind) ||
                 writes_aux(e.kind);
    if (!known) { fail("cublasLtMatmul: epilogue %d is not emulated", (int)e.kind); }
    if (adds_bias(e.kind) || writes_bias(e.kind)) {
        check_aligned(e.bias.data, "the bias", alignment.d);
        check_type(e.bias.type);
    }
    if (writes_bias(e.kind) && p.batch > 1) { fail("cublasLtMatmul: a bias gradient over a batch is not emulated"); }
    if (!reads_aux(e.kind) && !writes_aux(e.kind)) { return; }
    check_aligned(e.aux.data, "the epilogue's aux", 16);
    check_type(e.aux.type);
    if (e.aux.leading < p.m || e.aux.leading % 8) {
        fail("cublasLtMatmul: the aux leading dimension %lld must reach m and be a multiple of 8",
             (long long)description.aux_leading);
    }
}

static Matrix matrix(const void* data, const Layout& layout, bool transposed) {
    return {(void*)data, layout.type, layout.leading, layout.stride, transposed};
}

static Matmul make_matmul(const Description& x, float alpha, const void* A, const Layout& a, const void* B,
                          const Layout& b, float beta, const void* C, const Layout& c, void* D, const Layout& d,
                          Alignment alignment) {
    bool ta = x.transpose_a != CUBLAS_OP_N, tb = x.transpose_b != CUBLAS_OP_N;
    Matmul p = {};
    p.m = d.rows;
    p.n = d.columns;
    p.k = ta ? a.rows : a.columns;
    p.batch = d.batch;
    p.alpha = alpha;
    p.beta = beta;
    p.tf32 = x.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
    p.a = matrix(A, a, ta);
    p.b = matrix(B, b, tb);
    p.c = matrix(C, c, false);
    p.d = matrix(D, d, false);
    p.epilogue.kind = x.epilogue;
    p.epilogue.bias = {x.bias, x.bias_type < 0 ? d.type : (cudaDataType_t)x.bias_type, p.m, 0, false};
    p.epilogue.aux = {x.aux, x.aux_type < 0 ? d.type : (cudaDataType_t)x.aux_type, x.aux_leading, x.aux_stride, false};
    check_types(x, a, b, c, d);
    check_shapes(p, x, a, b, c, d);
    check_epilogue(p, x, alignment);
    return p;
}

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
    *handle = (cublasLtHandle_t)malloc(1);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
    free(handle);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* description, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
    if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) {
        fail("cublasLt: compute type %d is not emulated", (int)compute);
    }
    if (scale != CUDA_R_32F) { fail("cublasLt: alpha and beta must be fp32"); }
    Description* x = new Description;
    x->compute = compute;
    *description = (cublasLtMatmulDesc_t)x;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t description) {
    delete (Description*)description;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t size) {
    Description& x = *(Description*)description;
    switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: read_attribute(x.transpose_a, value, size); break;
    case CUBLASLT_MATMUL_DESC_TRANSB: read_attribute(x.transpose_b, value, size); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE: read_attribute(x.epilogue, value, size); break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: read_attribute(x.bias, value, size); break;
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: read_attribute(x.bias_type, value, size); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER: read_attribute(x.aux, value, size); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD: read_attribute(x.aux_leading, value, size); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE: read_attribute(x.aux_stride, value, size); break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE: read_attribute(x.aux_type, value, size); break;
    default: fail("cublasLt: attribute %d of a matmul is not emulated", (int)attribute);
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type, uint64_t rows,
                                          uint64_t columns, int64_t leading) {
    Layout* x = new Layout;
    x->type = type;
    x->rows = rows;
    x->columns = columns;
    x->leading = leading;
    *layout = (cublasLtMatrixLayout_t)x;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
    delete (Layout*)layout;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t size) {
    Layout& x = *(Layout*)layout;
    int32_t order = CUBLASLT_ORDER_COL;
    switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: read_attribute(x.batch, value, size); break;
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: read_attribute(x.stride, value, size); break;
    case CUBLASLT_MATRIX_LAYOUT_ORDER: read_attribute(order, value, size); break;
    default: fail("cublasLt: attribute %d of a layout is not emulated", (int)attribute);
    }
    if (order != CUBLASLT_ORDER_COL) { fail("cublasLt: only the column-major order is emulated"); }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
    *preference = (cublasLtMatmulPreference_t)new Preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
    delete (Preference*)preference;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t size) {
    Preference& x = *(Preference*)preference;
    switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: read_attribute(x.workspace, value, size); break;
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: read_attribute(x.schemes, value, size); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: read_attribute(x.alignment.a, value, size); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: read_attribute(x.alignment.b, value, size); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: read_attribute(x.alignment.c, value, size); break;
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: read_attribute(x.alignment.d, value, size); break;
    default: break;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t layout_d, cublasLtMatmulPreference_t preference,
                                              int wanted, cublasLtMatmulHeuristicResult_t* results, int* found) {
    const Preference& wish = *(Preference*)preference;
    *found = 0;
    for (const Algorithm& known : algorithms) {
        bool allowed = known.scheme == CUBLASLT_REDUCTION_SCHEME_NONE || (known.scheme & wish.schemes);
        size_t bytes = workspace_of(known, *(Layout*)layout_d);
        if (*found == wanted || !allowed || bytes > wish.workspace) { continue; }
        cublasLtMatmulHeuristicResult_t* result = &results[(*found)++];
        memset(result, 0, sizeof *result);
        Algorithm offered = known;
        offered.alignment = wish.alignment;
        static_assert(sizeof offered <= sizeof result->algo.data, "an algorithm has room for it");
        memcpy(result->algo.data, (void*)&offered, sizeof offered);
        result->workspaceSize = bytes;
        result->state = CUBLAS_STATUS_SUCCESS;
    }
    return *found ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t, cublasLtMatrixLayout_t layout_a,
                                       cublasLtMatrixLayout_t layout_b, cublasLtMatrixLayout_t layout_c,
                                       cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algo,
                                       cublasLtMatmulHeuristicResult_t* result) {
    Layout *a = (Layout*)layout_a, *b = (Layout*)layout_b, *c = (Layout*)layout_c, *d = (Layout*)layout_d;
    Algorithm algorithm = read_algorithm(algo);
    result->workspaceSize = workspace_of(algorithm, *d);
    result->state = takes_layouts(algorithm, {a, b, c, d}) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
    return result->state;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha, const void* A,
                              cublasLtMatrixLayout_t layout_a, const void* B, cublasLtMatrixLayout_t layout_b,
                              const void* beta, const void* C, cublasLtMatrixLayout_t layout_c, void* D,
                              cublasLtMatrixLayout_t layout_d, const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_size, cudaStream_t stream) {
    const Layout &a = *(Layout*)layout_a, &b = *(Layout*)layout_b, &c = *(Layout*)layout_c, &d = *(Layout*)layout_d;
    check_leading(a, "A");
    check_leading(b, "B");
    check_leading(d, "D");
    Algorithm algorithm = read_algorithm(algo);
    Alignment alignment = algorithm.alignment;
    if (!takes_layouts(algorithm, {&a, &b, &c, &d})) { return CUBLAS_STATUS_NOT_SUPPORTED; }
    if (workspace_of(algorithm, d) > workspace_size) {
        fail("cublasLtMatmul: a workspace of %zu bytes, %zu are needed", workspace_size, workspace_of(algorithm, d));
    }
    check_aligned(A, "A", alignment.a);
    check_aligned(B, "B", alignment.b);
    check_aligned(D, "D", alignment.d);
    float alpha_now = *(const float*)alpha, beta_now = *(const float*)beta;
    if (beta_now != 0) {
        check_leading(c, "C");
        check_aligned(C, "C", alignment.c);
    }
    Matmul matmul = make_matmul(*(Description*)description, alpha_now, A, a, B, b, beta_now, C, c, D, d,
                                alignment);
    matmul.parts = algorithm.parts;
    matmul.parts_in_type_d = algorithm.scheme == CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
    enqueue(stream, [=] {
        check_range(workspace, workspace_size, "cublasLt workspace", Direction::write);
        run_matmul(matmul);
        pass_seconds(algorithm.seconds);
    });
    return CUBLAS_STATUS_SUCCESS;
}

size_t cublasLtGetVersion() { return 1; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS         ? "success"
         : status == CUBLAS_STATUS_NOT_SUPPORTED   ? "not supported"
                                                   : "an error that the emulation does not name";
}
const char* cublasLtGetStatusName(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "CUBLAS_STATUS_UNKNOWN";
}

}
