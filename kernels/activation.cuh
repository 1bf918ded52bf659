// Activations between the two linear layers of an MLP on the GPU, elementwise: the functions of activation_kind.h, and
//     prelu(x) = x > 0 ? x : w x
// activation.h and activation_values.h have the maths.
//
// n counts elements; the backward sums over rows of C: every backward sets dinp, which may be dout, and adds its column
// sums to dbias (C), the gradient of the preceding linear layer's bias. These and PReLU's dw are summed by block over a
// fixed set of elements, then by partials.cuh. Bytes moved per element: forward 2 sizeof(T), backward 3 sizeof(T).
#pragma once
#include "activation_kind.h"
#include "activation_values.h"
#include "partials.cuh"

enum { ACTIVATION_BLOCKS = 6 }; // of a backward per multiprocessor: a thread may use 40 registers

// gelu_activation, ...: a type for each row of ACTIVATIONS
#define ACTIVATION_TYPE(constant, name, note, function, ...) \
    struct function##_activation { \
        static __device__ float value(float x) { return function##_value(x); } \
        static __device__ float slope(float x) { return function##_slope(x); } \
    };
ACTIVATIONS(ACTIVATION_TYPE)

// call(a value of that type)
template <class Call> inline void with_activation(ActivationKind kind, Call call) {
#define ACTIVATION_CASE(constant, name, note, function, ...) case constant: call(function##_activation()); break;
    switch (kind) {
    ACTIVATIONS(ACTIVATION_CASE)
    case ACTIVATION_COUNT: break;
    }
#undef ACTIVATION_CASE
}

template <class Activation, int W, class T> __global__ void activation_forward_kernel(T* out, const T* inp, size_t n) {
    wait_for_kernel_in_front();
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float x[W];
    load(x, inp + at);
    for (int i = 0; i < W; i++) { x[i] = Activation::value(x[i]); }
    store(out + at, x);
}

// partials (gridDim.y, C)
template <class Activation, int W, class T>
__global__ void __launch_bounds__(BLOCK, ACTIVATION_BLOCKS)
activation_backward_kernel(T* dinp, float* partials, const T* dout, const T* inp, int rows, int C) {
    __shared__ alignas(16) float sums[BLOCK * W];
    wait_for_kernel_in_front();
    Column<W> column(rows, C);
    float x[W], d[W], sum[W] = {};
    for (size_t at = column.at; at < column.end; at += column.step) {
        load(x, inp + at);
        load(d, dout + at);
        for (int i = 0; i < W; i++) { d[i] *= Activation::slope(x[i]); }
        store_and_round(dinp + at, d);
        for (int i = 0; i < W; i++) { sum[i] += d[i]; }
    }
    store_shared(sums, sum, threadIdx.x * W, BLOCK * W);
    column_block_sums<W>(partials, sums, C);
}

// out = f(inp), f of this kind
template <class T>
inline void activation_forward(T* out, const T* inp, ActivationKind kind, size_t n, cudaStream_t stream) {
    with_activation(kind, [=](auto activation) {
        with_width(vectorises(n, out, inp), [=](auto width) {
            constexpr int W = width.value;
            launch_early(activation_forward_kernel<decltype(activation), W, T>, ceil_div(n, BLOCK * W), BLOCK, 0,
                         stream, out, inp, n);
        });
    });
}

// Partial sums of dinp's columns, and for PReLU one of dweight per block
static inline size_t activation_scratch(int rows, int C) {
    return column_scratch(rows, C, ACTIVATION_BLOCKS, 1);
}

// The forward line: dinp = dout f'(inp), dbias += its column sums
template <class T>
inline void activation_backward(T* dinp, float* dbias, const T* dout, const T* inp, ActivationKind kind, float* scratch,
                                int rows, int C, cudaStream_t stream) {
    dim3 grid;
    with_activation(kind, [&](auto activation) {
        with_width(vectorises(C, dinp, dout, inp), [&](auto width) {
            constexpr int W = width.value;
            grid = column_grid(rows, C, W, ACTIVATION_BLOCKS);
            launch_early(activation_backward_kernel<decltype(activation), W, T>, grid, BLOCK, 0, stream, dinp, scratch,
                         dout, inp, rows, C);
        });
    });
    add_partials(dbias, C, nullptr, 0, scratch, grid.y, stream);
}

template <int W, class T>
__global__ void prelu_forward_kernel(T* out, const T* inp, const float* weight, size_t n) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float x[W], w = *weight;
    load(x, inp + at);
    for (int i = 0; i < W; i++) { x[i] = x[i] > 0 ? x[i] : w * x[i]; }
    store(out + at, x);
}

template <class T>
inline void prelu_forward(T* out, const T* inp, const float* weight /* (1) */, size_t n, cudaStream_t stream) {
    with_width(vectorises(n, out, inp), [=](auto width) {
        constexpr int W = width.value;
        prelu_forward_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(out, inp, weight, n);
    });
    CUDA_CHECK_LAUNCH();
}

// partials (gridDim.y, C), and of dweight (gridDim.y gridDim.x)
template <int W, class T>
__global__ void __launch_bounds__(BLOCK, ACTIVATION_BLOCKS)
prelu_backward_kernel(T* dinp, float* partials, float* weight_partials, const T* dout, const T* inp,
                      const float* weight, int rows, int C) {
    __shared__ alignas(16) float sums[BLOCK * W];
    Column<W> column(rows, C);
    float x[W], d[W], sum[W] = {}, w = *weight, dweight = 0;
    for (size_t at = column.at; at < column.end; at += column.step) {
        load(x, inp + at);
        load(d, dout + at);
        for (int i = 0; i < W; i++) {
            dweight += x[i] > 0 ? 0 : d[i] * x[i];
            d[i] = x[i] > 0 ? d[i] : d[i] * w;
        }
        store_and_round(dinp + at, d);
        for (int i = 0; i < W; i++) { sum[i] += d[i]; }
    }
    store_shared(sums, sum, threadIdx.x * W, BLOCK * W);
    column_block_sums<W>(partials, sums, C);
    dweight = block_sum(dweight);
    if (threadIdx.x == 0) { weight_partials[blockIdx.y * gridDim.x + blockIdx.x] = dweight; }
}

// out = inp > 0 ? inp : weight inp: dinp =, dbias += its column sums, dweight +=
template <class T>
inline void prelu_backward(T* dinp, float* dbias, float* dweight, const T* dout, const T* inp, const float* weight,
                           float* scratch, int rows, int C, cudaStream_t stream) {
    dim3 grid;
    float* weights = nullptr;
    with_width(vectorises(C, dinp, dout, inp), [&](auto width) {
        constexpr int W = width.value;
        grid = column_grid(rows, C, W, ACTIVATION_BLOCKS);
        weights = scratch + (size_t)grid.y * C;
        prelu_backward_kernel<W><<<grid, BLOCK, 0, stream>>>(dinp, scratch, weights, dout, inp, weight, rows, C);
    });
    CUDA_CHECK_LAUNCH();
    int blocks = grid.x * grid.y;
    add_partials({{{dbias, C, scratch, C, (int)grid.y}, {dweight, 1, weights, 1, blocks}}}, stream);
}
