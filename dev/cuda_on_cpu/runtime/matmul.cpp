// The arithmetic of cublasLt's matmul. Every operand is checked to be within one allocation of the device.
#include "matmul.h"
#include "internal.h"
#include <cuda_bf16.h>
#include <math.h>
#include <string.h>
#include <vector>

namespace emu {

size_t element_size(cudaDataType_t type) { return type == CUDA_R_32F ? 4 : 2; }

static float load(const Matrix& x, int64_t i) {
    return x.type == CUDA_R_32F ? ((const float*)x.data)[i] : __bfloat162float(((const __nv_bfloat16*)x.data)[i]);
}
static void store(const Matrix& x, int64_t i, float value) {
    if (x.type == CUDA_R_32F) {
        ((float*)x.data)[i] = value;
    } else {
        ((__nv_bfloat16*)x.data)[i] = __float2bfloat16(value);
    }
}

static float round_to_tf32(float x) { // to nearest, ties away from zero, like cvt.rna
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}

// cublasLt's GELU is the tanh form: x/2·(1 + tanh(u)), u = √(2/π)·(x + 0.044715·x³)
static float gelu(float x) { return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x))); }
static float gelu_derivative(float x) {
    float t = tanhf(0.7978845608f * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.7978845608f * (1 + 3 * 0.044715f * x * x);
}

bool adds_bias(cublasLtEpilogue_t kind) {
    return kind == CUBLASLT_EPILOGUE_BIAS || kind == CUBLASLT_EPILOGUE_RELU_BIAS ||
           kind == CUBLASLT_EPILOGUE_GELU_BIAS || kind == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}
bool writes_bias(cublasLtEpilogue_t kind) {
    return kind == CUBLASLT_EPILOGUE_BGRADA || kind == CUBLASLT_EPILOGUE_BGRADB ||
           kind == CUBLASLT_EPILOGUE_DGELU_BGRAD;
}
bool reads_aux(cublasLtEpilogue_t kind) {
    return kind == CUBLASLT_EPILOGUE_DGELU || kind == CUBLASLT_EPILOGUE_DGELU_BGRAD;
}
bool writes_aux(cublasLtEpilogue_t kind) {
    return kind == CUBLASLT_EPILOGUE_GELU_AUX || kind == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
}

// ---- ranges --------------------------------------------------------------------------------------------------------

static void check_matrix(const Matrix& x, int64_t rows, int64_t columns, int batch, const char* name, Direction way) {
    for (int i = 0; i < batch; i++) {
        size_t size = element_size(x.type);
        check_range((char*)x.data + i * x.stride * size, ((columns - 1) * x.leading + rows) * size, name, way);
    }
}

static void check_operands(const Matmul& p) {
    const Epilogue& e = p.epilogue;
    check_matrix(p.a, p.a.transposed ? p.k : p.m, p.a.transposed ? p.m : p.k, p.batch, "cublasLt A", Direction::read);
    check_matrix(p.b, p.b.transposed ? p.n : p.k, p.b.transposed ? p.k : p.n, p.batch, "cublasLt B", Direction::read);
    if (p.beta != 0) { check_matrix(p.c, p.m, p.n, p.batch, "cublasLt C", Direction::read); }
    if (adds_bias(e.kind)) { check_matrix(e.bias, p.m, 1, 1, "cublasLt bias", Direction::read); }
    if (writes_bias(e.kind)) {
        int64_t size = e.kind == CUBLASLT_EPILOGUE_BGRADB ? p.n : p.m;
        check_matrix(e.bias, size, 1, 1, "cublasLt bias gradient", Direction::write);
    }
    if (reads_aux(e.kind)) { check_matrix(e.aux, p.m, p.n, p.batch, "cublasLt aux", Direction::read); }
    if (writes_aux(e.kind)) { check_matrix(e.aux, p.m, p.n, p.batch, "cublasLt aux", Direction::write); }
    check_matrix(p.d, p.m, p.n, p.batch, "cublasLt D", Direction::write);
}

// ---- arithmetic ----------------------------------------------------------------------------------------------------

// op(x), rows×columns, as plain floats, column-major
static std::vector<float> unpack(const Matrix& x, int64_t rows, int64_t columns, int index, bool tf32) {
    std::vector<float> plain(rows * columns);
    for (int64_t j = 0; j < columns; j++) {
        for (int64_t i = 0; i < rows; i++) {
            float value = load(x, index * x.stride + (x.transposed ? i * x.leading + j : j * x.leading + i));
            plain[j * rows + i] = tf32 ? round_to_tf32(value) : value;
        }
    }
    return plain;
}

// Passes one element through the epilogue; `at` is its place in aux.
static float finish(const Epilogue& e, float value, int64_t row, int64_t at) {
    if (adds_bias(e.kind)) { value += load(e.bias, row); }
    if (writes_aux(e.kind)) { store(e.aux, at, value); }
    switch (e.kind) {
    case CUBLASLT_EPILOGUE_RELU:
    case CUBLASLT_EPILOGUE_RELU_BIAS: return value > 0 ? value : 0;
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS: return gelu(value);
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD: return value * gelu_derivative(load(e.aux, at));
    default: return value;
    }
}

// The sums over a row of op(A), over a column of op(B), or over a row of D before it is rounded.
static void store_bias_gradient(const Epilogue& e, const float* summand, int64_t size, int64_t count, bool along_row) {
    for (int64_t i = 0; i < size; i++) {
        float sum = 0;
        for (int64_t j = 0; j < count; j++) { sum += summand[along_row ? j * size + i : i * count + j]; }
        store(e.bias, i, sum);
    }
}

static float round_to(cudaDataType_t type, float x) {
    return type == CUDA_R_32F ? x : __bfloat162float(__float2bfloat16(x));
}

// column (m) += op(A) (m, k) times a column of op(B) (k), one part of k after the other
static void add_product(float* column, const float* a, const float* b, const Matmul& p) {
    for (int part = 0; part < p.parts; part++) {
        std::vector<float> sums(p.m);
        for (int64_t l = p.k * part / p.parts; l < p.k * (part + 1) / p.parts; l++) {
            for (int64_t i = 0; i < p.m; i++) { sums[i] += a[l * p.m + i] * b[l]; }
        }
        for (int64_t i = 0; i < p.m; i++) {
            cudaDataType_t type = p.parts_in_type_d ? p.d.type : CUDA_R_32F;
            column[i] = round_to(type, column[i] + round_to(type, sums[i]));
        }
    }
}

static void run_one(const Matmul& p, int index) {
    const Epilogue& e = p.epilogue;
    std::vector<float> a = unpack(p.a, p.m, p.k, index, p.tf32), b = unpack(p.b, p.k, p.n, index, p.tf32);
    std::vector<float> d(p.m * p.n);
    for (int64_t j = 0; j < p.n; j++) {
        float* column = &d[j * p.m];
        add_product(column, a.data(), &b[j * p.k], p);
        for (int64_t i = 0; i < p.m; i++) {
            float value = p.alpha * column[i];
            if (p.beta != 0) { value += p.beta * load(p.c, index * p.c.stride + j * p.c.leading + i); }
            column[i] = finish(e, value, i, index * e.aux.stride + j * e.aux.leading + i);
            store(p.d, index * p.d.stride + j * p.d.leading + i, column[i]);
        }
    }
    if (e.kind == CUBLASLT_EPILOGUE_BGRADA) { store_bias_gradient(e, a.data(), p.m, p.k, true); }
    if (e.kind == CUBLASLT_EPILOGUE_BGRADB) { store_bias_gradient(e, b.data(), p.n, p.k, false); }
    if (e.kind == CUBLASLT_EPILOGUE_DGELU_BGRAD) { store_bias_gradient(e, d.data(), p.m, p.n, true); }
}

static void clear_one(const Matmul& p, int index) {
    for (int64_t j = 0; j < p.n; j++) {
        for (int64_t i = 0; i < p.m; i++) { store(p.d, index * p.d.stride + j * p.d.leading + i, 0); }
    }
}

void run_matmul(const Matmul& matmul) {
    check_operands(matmul);
    record_product(matmul);
    for (int index = 0; index < matmul.batch && !settings.skips; index++) {
        if (settings.products) {
            run_one(matmul, index);
        } else {
            clear_one(matmul, index);
        }
    }
}

}
