// Images (B, 3, S, S) to tokens (B, N, C) on the GPU, in the three steps of patch_embed.h:
//
//     extract_patches        patches (B*T, 3*P*P), T = (S/P)^2, in the order of the weight (C, 3, P, P)
//     the linear layer       tokens (B*T, C) = patches weight^T + bias, a matrix product
//     embed_tokens_forward   out (B, N, C) = [cls_token; tokens] + pos_embed, N = T + 1, or T without a class token
//
// Images are stored as X, patches and tokens as T, out as the residual stream R, dout as its gradient G. Bytes moved
// per element: sizeof(X) + sizeof(T) for the patches, sizeof(T) + sizeof(R) for the tokens, and 4 per position and
// channel.
#pragma once
#include "prefix.cuh"

// Blocks (part of an image, image)
template <int W, class T, class X>
__global__ void extract_patches_kernel(T* patches, const X* images, int S, int P) {
    int side = S / P, K = 3 * P * P, at = (blockIdx.x * BLOCK + threadIdx.x) * W, patch = at / K, k = at % K;
    if (patch >= side * side) { return; }
    int channel = k / (P * P), y = patch / side * P + k / P % P, x = patch % side * P + k % P;
    size_t image = (size_t)blockIdx.y * 3 * S * S;
    float values[W];
    load(values, images + image + (channel * S + y) * S + x);
    store(patches + image + at, values);
}

// The T patches of every image as rows: (B*T, 3*P*P)
template <class T, class X>
inline void extract_patches(T* patches, const X* images, int B, int S, int P, cudaStream_t stream) {
    with_width(vectorises(P, patches, images), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(3 * S * S, BLOCK * W), B);
        extract_patches_kernel<W><<<blocks, BLOCK, 0, stream>>>(patches, images, S, P);
    });
    CUDA_CHECK_LAUNCH();
}

// Blocks (part of an image, image)
template <int W, class R, class T>
__global__ void embed_tokens_forward_kernel(R* out, const T* tokens, const float* cls_token, const float* pos_embed,
                                            int N, int C) {
    int at = (blockIdx.x * BLOCK + threadIdx.x) * W, first = cls_token ? C : 0; // of the tokens made from patches
    size_t b = blockIdx.y;
    if (at >= N * C) { return; }
    float value[W], position[W];
    if (at < first) {
        load(value, cls_token + at);
    } else {
        load(value, tokens + b * (N * C - first) + at - first);
    }
    if (pos_embed) { load(position, pos_embed + at); }
    for (int i = 0; pos_embed && i < W; i++) { value[i] += position[i]; }
    store(out + b * N * C + at, value);
}

// out (B, N, C); tokens (B, T, C); cls_token (C) or NULL; pos_embed (N, C) or NULL
template <class R, class T>
inline void embed_tokens_forward(R* out, const T* tokens, const float* cls_token, const float* pos_embed, int B, int N,
                                 int C, cudaStream_t stream) {
    with_width(vectorises(C, out, tokens, cls_token, pos_embed), [=](auto width) {
        constexpr int W = width.value;
        dim3 blocks(ceil_div(N * C, BLOCK * W), B);
        embed_tokens_forward_kernel<W><<<blocks, BLOCK, 0, stream>>>(out, tokens, cls_token, pos_embed, N, C);
    });
    CUDA_CHECK_LAUNCH();
}

static inline size_t embed_tokens_scratch(int B, int N, int C) {
    size_t positions = column_sums_scratch(B, N * C), cls = column_sums_scratch(B, C);
    return positions > cls ? positions : cls;
}

// out = [cls_token; tokens] + pos_embed: dtokens =, the parameters' +=; dcls_token and dpos_embed are NULL if there is
// none
template <class G, class T>
inline void embed_tokens_backward(T* dtokens, float* dcls_token, float* dpos_embed, const G* dout, float* scratch,
                                  int B, int N, int C, cudaStream_t stream) {
    int prefix = dcls_token ? 1 : 0;
    TensorTerm<G> images = {dout, (size_t)N * C};
    if (dpos_embed) { column_sums(dpos_embed, images, scratch, B, N * C, stream); }
    if (dcls_token) { column_sums(dcls_token, images, scratch, B, C, stream); }
    drop_prefix(dtokens, dout, B, N, prefix, C, stream);
}
