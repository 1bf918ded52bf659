// Prefix tokens on the GPU; prefix.h has the maths.
//     x (B,N,C) = [cls_token; reg_token; tokens (B,N-P,C)],   the first P are the prefix
#pragma once
#include "partials.cuh"

// Blocks (part of an image, image)
template <int W, class R>
__global__ void prefix_forward_kernel(R* x, const R* tokens, const float* cls_token, const float* reg_token, int N, int P,
                                      int C) {
    int at = (blockIdx.x * BLOCK + threadIdx.x) * W, first = cls_token ? C : 0; // of registers
    size_t b = blockIdx.y;
    float value[W];
    if (at >= N * C) { return; }
    if (at < P * C) {
        load(value, at < first ? cls_token + at : reg_token + at - first);
    } else {
        load(value, tokens + b * (N - P) * C + at - P * C);
    }
    store(x + b * N * C + at, value);
}

// cls_token (C) and reg_token (P - 1 or P, C) may be NULL: none
template <class R>
inline void prefix_forward(R* x, const R* tokens, const float* cls_token, const float* reg_token, int B, int N, int P,
                           int C, cudaStream_t stream) {
    with_width(vectorises(C, x, tokens, cls_token, reg_token), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        prefix_forward_kernel<W><<<blocks, BLOCK, 0, stream>>>(x, tokens, cls_token, reg_token, N, P, C);
    });
    CUDA_CHECK_LAUNCH();
}

// dtokens (B,N-P,C) = the rows of dx (B,N,C) after the first P. Blocks (part of an image, image)
template <int W, class G, class T>
__global__ void drop_prefix_kernel(T* dtokens, const G* dx, int N, int P, int C) {
    int at = (blockIdx.x * BLOCK + threadIdx.x) * W, of_image = (N - P) * C;
    size_t b = blockIdx.y;
    if (at >= of_image) { return; }
    float d[W];
    load(d, dx + (b * N + P) * C + at);
    store(dtokens + b * of_image + at, d);
}

template <class G, class T>
inline void drop_prefix(T* dtokens, const G* dx, int B, int N, int P, int C, cudaStream_t stream) {
    with_width(vectorises(C, dtokens, dx), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div((N - P) * C, BLOCK * W), B);
        drop_prefix_kernel<W><<<blocks, BLOCK, 0, stream>>>(dtokens, dx, N, P, C);
    });
    CUDA_CHECK_LAUNCH();
}

static inline size_t prefix_scratch(int B, int P, int C) { return P ? column_sums_scratch(B, P * C) : 0; }

// dtokens is set, the other two are added to
template <class G>
inline void prefix_backward(G* dtokens, float* dcls_token, float* dreg_token, const G* dx, float* scratch, int B, int N,
                            int P, int C, cudaStream_t stream) {
    int first = dcls_token ? C : 0;
    TensorTerm<G> class_tokens = {dx, (size_t)N * C}, registers = {dx + first, (size_t)N * C};
    if (dcls_token) { column_sums(dcls_token, class_tokens, scratch, B, C, stream); }
    if (dreg_token) { column_sums(dreg_token, registers, scratch, B, P * C - first, stream); }
    drop_prefix(dtokens, dx, B, N, P, C, stream);
}
