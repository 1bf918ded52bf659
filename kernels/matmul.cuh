// Matrix products on the GPU: the linear layer of matmul.h by cublasLt.
//
//     out (rows, OC) = inp (rows, C) weight (OC, C)^T + bias (OC)
//     dinp = dout weight        dweight += dout^T inp        dbias += column sums of dout
//
// cublasLt is column-major, we are row-major: a row-major matrix is the transpose of the column-major one in the same
// memory, so each product is computed as that of the transposes, with its factors exchanged. Activations, their
// gradients and the copy of the weights that products read are stored as T; sums are fp32, and so are the gradients of
// the weights. A shape's plan is made when it first occurs, so that it is always computed in the same way, to the same
// bits.
#pragma once
#include "linear_shape.h"
#include "partials.cuh"
#include "product_choice.cuh"

// call: the first one, for which it is made
static inline ProductPlan* product_plan(ProductShape s, ProductCall call) {
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
        set_attribute(plan->description, CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias);
    }
    plan->a = s.transpose_a ? product_layout(s.type, s.k, s.m, s.ld_a) : product_layout(s.type, s.m, s.k, s.ld_a);
    plan->b = s.transpose_b ? product_layout(s.type, s.n, s.k, s.ld_b) : product_layout(s.type, s.k, s.n, s.ld_b);
    plan->d = product_layout(s.type_d, s.m, s.n, s.ld_d);
    plan->algo = choose_algorithm(plan, call);
    return plan;
}

// d = op(a) op(b) + bias + keep d
static inline void product(void* d, const void* a, const void* b, const void* bias, float keep, ProductShape s,
                           cudaStream_t stream) {
    s.aligned = ((uintptr_t)d | (uintptr_t)a | (uintptr_t)b | (uintptr_t)bias) % PRODUCT_ALIGNMENT == 0;
    ProductCall call = {d, a, b, bias, keep, stream};
    ProductPlan* plan = product_plan(s, call);
    launch_product(plan, &plan->algo, call);
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
