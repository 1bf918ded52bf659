// Activations between the two linear layers of an MLP on the GPU, elementwise: the functions of activation_kind.h, and
//     prelu(x) = x > 0 ? x : w x
// activation.h and activation_values.h have the maths.
//
// n counts elements; every backward sets dinp, which may be dout. Bytes moved an element: forward 2 sizeof(T), backward
// 3 sizeof(T). PReLU's dw is summed a block at a time over a fixed set of elements, then by partials.cuh.
#pragma once
#include "activation_kind.h"
#include "activation_values.h"
#include "partials.cuh"

enum { PRELU_BLOCKS = 8 }; // on a multiprocessor

// gelu_activation, ...: a type for each row of ACTIVATIONS
#define ACTIVATION_TYPE(constant, name, note, function, ...) \
    struct function##_activation { \
        static __device__ float value(float x) { return function##_value(x); } \
        static __device__ float slope(float x) { return function##_slope(x); } \
    };
ACTIVATIONS(ACTIVATION_TYPE)

// call(of that type)
template <class Call> inline void with_activation(ActivationKind kind, Call call) {
#define ACTIVATION_CASE(constant, name, note, function, ...) case constant: call(function##_activation()); break;
    switch (kind) {
    ACTIVATIONS(ACTIVATION_CASE)
    case ACTIVATION_COUNT: break;
    }
#undef ACTIVATION_CASE
}

template <class Activation, int W, class T> __global__ void activation_forward_kernel(T* out, const T* inp, size_t n) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float x[W];
    load(x, inp + at);
    for (int i = 0; i < W; i++) { x[i] = Activation::value(x[i]); }
    store(out + at, x);
}

template <class Activation, int W, class T>
__global__ void activation_backward_kernel(T* dinp, const T* dout, const T* inp, size_t n) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    float x[W], d[W];
    load(x, inp + at);
    load(d, dout + at);
    for (int i = 0; i < W; i++) { d[i] *= Activation::slope(x[i]); }
    store(dinp + at, d);
}

// out = f(inp), f of this kind
template <class T>
inline void activation_forward(T* out, const T* inp, ActivationKind kind, size_t n, cudaStream_t stream) {
    with_activation(kind, [=](auto activation) {
        with_width(vectorises(n, out, inp), [=](auto width) {
            constexpr int W = width.value;
            activation_forward_kernel<decltype(activation), W>
                <<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(out, inp, n);
        });
    });
    CUDA_CHECK_LAUNCH();
}

// The forward line: dinp = dout f'(inp)
template <class T>
inline void activation_backward(T* dinp, const T* dout, const T* inp, ActivationKind kind, size_t n,
                                cudaStream_t stream) {
    with_activation(kind, [=](auto activation) {
        with_width(vectorises(n, dinp, dout, inp), [=](auto width) {
            constexpr int W = width.value;
            activation_backward_kernel<decltype(activation), W>
                <<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(dinp, dout, inp, n);
        });
    });
    CUDA_CHECK_LAUNCH();
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

template <int W, class T>
__global__ void prelu_backward_kernel(T* dinp, float* partials, const T* dout, const T* inp, const float* weight,
                                      size_t n) {
    float x[W], d[W], w = *weight, sum = 0;
    size_t step = (size_t)gridDim.x * BLOCK * W;
    for (size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W; at < n; at += step) {
        load(x, inp + at);
        load(d, dout + at);
        for (int i = 0; i < W; i++) {
            sum += x[i] > 0 ? 0 : d[i] * x[i];
            d[i] = x[i] > 0 ? d[i] : d[i] * w;
        }
        store(dinp + at, d);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) { partials[blockIdx.x] = sum; }
}

// One partial sum of dweight for each block
static inline size_t prelu_scratch(size_t n) { return (size_t)blocks_for(n, BLOCK, PRELU_BLOCKS); }

// out = inp > 0 ? inp : weight inp: dinp =, dweight +=
template <class T>
inline void prelu_backward(T* dinp, float* dweight, const T* dout, const T* inp, const float* weight, float* scratch,
                           size_t n, cudaStream_t stream) {
    int blocks = 0;
    with_width(vectorises(n, dinp, dout, inp), [&](auto width) {
        constexpr int W = width.value;
        blocks = blocks_for(n, BLOCK * W, PRELU_BLOCKS);
        prelu_backward_kernel<W><<<blocks, BLOCK, 0, stream>>>(dinp, scratch, dout, inp, weight, n);
    });
    CUDA_CHECK_LAUNCH();
    add_partials(dweight, 1, nullptr, 0, scratch, blocks, stream);
}
