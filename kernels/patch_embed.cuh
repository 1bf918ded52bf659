// Images (B, 3, S, S) to tokens (B, N, C) on the GPU, in the three steps of patch_embed.h:
//
//     extract_patches        patches (B*T, 3*P*P), T = (S/P)^2, in the order of the weight (C, 3, P, P)
//     the linear layer       tokens (B*T, C) = patches weight^T + bias, which is the matrix product's affair
//     embed_tokens_forward   out (B, N, C) = [cls_token; tokens] + pos_embed, N = T + 1, or T without a class token
//
// Images are stored as X, patches and tokens as T, out as the residual stream R. Bytes moved an element: sizeof(X) +
// sizeof(T) for the patches, sizeof(T) + sizeof(R) for the tokens, and 4 a position and channel.
#pragma once
#include "partials.cuh"

template <int W, class T, class X>
__global__ void extract_patches_kernel(T* patches, const X* images, size_t n, int S, int P) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    int side = S / P, tokens = side * side, K = 3 * P * P;
    size_t row = at / K, b = row / tokens;
    int k = (int)(at % K), patch = (int)(row % tokens), channel = k / (P * P);
    int y = patch / side * P + k / P % P, x = patch % side * P + k % P;
    float values[W];
    load(values, images + ((b * 3 + channel) * S + y) * S + x);
    store(patches + at, values);
}

// The T patches of every image as rows: (B*T, 3*P*P)
template <class T, class X>
inline void extract_patches(T* patches, const X* images, int B, int S, int P, cudaStream_t stream) {
    size_t n = (size_t)B * (S / P) * (S / P) * 3 * P * P;
    with_width(vectorises(P, patches, images), [=](auto width) {
        constexpr int W = width.value;
        extract_patches_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(patches, images, n, S, P);
    });
    CUDA_CHECK_LAUNCH();
}

template <int W, class R, class T>
__global__ void embed_tokens_forward_kernel(R* out, const T* tokens, const float* cls_token, const float* pos_embed,
                                            size_t n, int N, int C) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    size_t row = at / C, b = row / N;
    int token = (int)(row % N), c = (int)(at % C), prefix = cls_token ? 1 : 0;
    float value[W], position[W];
    if (token < prefix) {
        load(value, cls_token + c);
    } else {
        load(value, tokens + (b * (N - prefix) + token - prefix) * C + c);
    }
    load(position, pos_embed + (size_t)token * C + c);
    for (int i = 0; i < W; i++) { value[i] += position[i]; }
    store(out + at, value);
}

// out (B, N, C); tokens (B, T, C); cls_token (C) or NULL; pos_embed (N, C)
template <class R, class T>
inline void embed_tokens_forward(R* out, const T* tokens, const float* cls_token, const float* pos_embed, int B, int N,
                                 int C, cudaStream_t stream) {
    size_t n = (size_t)B * N * C;
    with_width(vectorises(C, out, tokens, cls_token, pos_embed), [=](auto width) {
        constexpr int W = width.value;
        embed_tokens_forward_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(out, tokens, cls_token, pos_embed,
                                                                                     n, N, C);
    });
    CUDA_CHECK_LAUNCH();
}

// dtokens (B, T, C) = the rows of dout (B, N, C) behind the class tokens
template <int W, class R, class T>
__global__ void drop_prefix_kernel(T* dtokens, const R* dout, size_t n, int N, int prefix, int C) {
    size_t at = ((size_t)blockIdx.x * BLOCK + threadIdx.x) * W;
    if (at >= n) { return; }
    size_t of_image = (size_t)(N - prefix) * C, b = at / of_image;
    float d[W];
    load(d, dout + (b * N + prefix) * C + at % of_image);
    store(dtokens + at, d);
}

static inline size_t embed_tokens_scratch(int B, int N, int C) {
    size_t positions = column_sums_scratch(B, N * C), cls = column_sums_scratch(B, C);
    return positions > cls ? positions : cls;
}

// out = [cls_token; tokens] + pos_embed: dtokens =, the parameters' +=; dcls_token is NULL without a class token
template <class R, class T>
inline void embed_tokens_backward(T* dtokens, float* dcls_token, float* dpos_embed, const R* dout, float* scratch,
                                  int B, int N, int C, cudaStream_t stream) {
    int prefix = dcls_token ? 1 : 0;
    size_t n = (size_t)B * (N - prefix) * C;
    TensorTerm<R> images = {dout, (size_t)N * C};
    column_sums(dpos_embed, images, scratch, B, N * C, stream);
    if (dcls_token) { column_sums(dcls_token, images, scratch, B, C, stream); }
    with_width(vectorises(C, dtokens, dout), [=](auto width) {
        constexpr int W = width.value;
        drop_prefix_kernel<W><<<ceil_div(n, BLOCK * W), BLOCK, 0, stream>>>(dtokens, dout, n, N, prefix, C);
    });
    CUDA_CHECK_LAUNCH();
}
