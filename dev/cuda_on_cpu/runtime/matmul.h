// One matrix product as cublasLt describes it: D = epilogue(alpha·op(A)·op(B) + beta·C), column-major, fp32 sums.
#pragma once
#include <cublasLt.h>
#include <stdint.h>

namespace emu {

struct Matrix {
    void* data;
    cudaDataType_t type; // CUDA_R_32F or CUDA_R_16BF
    int64_t leading, stride; // elements between columns, between the matrices of a batch
    bool transposed;
};

struct Epilogue {
    cublasLtEpilogue_t kind;
    Matrix bias; // a vector: of m elements, or for BGRADB of n
    Matrix aux;  // m×n: what GELU was applied to
};

struct Matmul {
    int64_t m, n, k;
    int batch;
    float alpha, beta;
    bool tf32; // inputs rounded to tf32
    int parts; // into which the sums over k are split
    bool parts_in_type_d; // added in D's type, not in fp32
    Matrix a, b, c, d;
    Epilogue epilogue;
};

void run_matmul(const Matmul& matmul);
void record_product(const Matmul& matmul); // record.cpp
size_t element_size(cudaDataType_t type);

// What an epilogue reads and writes besides A, B, C and D.
bool adds_bias(cublasLtEpilogue_t kind);
bool writes_bias(cublasLtEpilogue_t kind);
bool reads_aux(cublasLtEpilogue_t kind);
bool writes_aux(cublasLtEpilogue_t kind);

}
