// Activations between the two linear layers of an MLP on the GPU, elementwise; activation.h has the maths.
//
//     gelu(x) = x Φ(x), the exact form     relu(x) = max(x, 0)
//     silu(x) = x / (1 + e^-x)             prelu(x) = x > 0 ? x : w x
//
// n counts elements; every backward sets dinp, which may be dout. Bytes moved an element: forward 2 sizeof(T), backward
// 3 sizeof(T). PReLU's dw is summed a block at a time over a fixed set of elements, then by partials.cuh.
#pragma once
#include "partials.cuh"

enum { PRELU_BLOCKS = 8 }; // on a multiprocessor

// With erff these would cost 31 and 43 instructions an element, and the memory would wait for them. Φ(-|x|) = φ(x) times a
// polynomial in 1 / (1 + c |x|) is right to 7.5e-8 (Abramowitz & Stegun 26.2.17), takes half, and shares φ with the slope.
struct Gelu {
    static __device__ float density(float x) { return 0.39894228f * __expf(-0.5f * x * x); }
    static __device__ float cdf(float x, float density) {
        float t = reciprocal(1 + 0.2316419f * fabsf(x));
        float tail = t * (0.319381530f + t * (-0.356563782f + t * (1.781477937f + t * (-1.821255978f
                     + t * 1.330274429f)))) * density;
        return x < 0 ? tail : 1 - tail;
    }
    static __device__ float value(float x) { return x * cdf(x, density(x)); }
    static __device__ float slope(float x) {
        float phi = density(x);
        return cdf(x, phi) + x * phi;
    }
};

struct Relu {
    static __device__ float value(float x) { return x < 0 ? 0 : x; } // this way round a NaN stays
    static __device__ float slope(float x) { return x > 0 ? 1 : 0; }
};

struct Silu {
    static __device__ float sigmoid(float x) { return __fdividef(1, 1 + __expf(-x)); }
    static __device__ float value(float x) { return x * sigmoid(x); }
    static __device__ float slope(float x) {
        float s = sigmoid(x);
        return s * (1 + x * (1 - s));
    }
};

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

template <class Activation, class T>
inline void activation_forward(T* out, const T* inp, size_t n, cudaStream_t stream) {
    with_width(vectorises(n, out, inp), [=](auto width) {
        constexpr int W = width.value;
        activation_forward_kernel<Activation, W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(out, inp, n);
    });
    CUDA_CHECK_LAUNCH();
}

template <class Activation, class T>
inline void activation_backward(T* dinp, const T* dout, const T* inp, size_t n, cudaStream_t stream) {
    with_width(vectorises(n, dinp, dout, inp), [=](auto width) {
        constexpr int W = width.value;
        activation_backward_kernel<Activation, W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(dinp, dout, inp, n);
    });
    CUDA_CHECK_LAUNCH();
}

// name_forward: out = name(inp).  name_backward, of that line: dinp = dout name'(inp)
#define DEFINE_ACTIVATION(name, Activation) \
    template <class T> inline void name##_forward(T* out, const T* inp, size_t n, cudaStream_t stream) { \
        activation_forward<Activation>(out, inp, n, stream); \
    } \
    template <class T> inline void name##_backward(T* dinp, const T* dout, const T* inp, size_t n, \
                                                   cudaStream_t stream) { \
        activation_backward<Activation>(dinp, dout, inp, n, stream); \
    }
DEFINE_ACTIVATION(gelu, Gelu)
DEFINE_ACTIVATION(relu, Relu)
DEFINE_ACTIVATION(silu, Silu)

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
