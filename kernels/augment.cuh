// Images from the data set (uint8, on the device) into a batch of normalised tensors in one pass on the GPU, where no
// image needs resizing; augment.h has the maths, and the host draws what is random.
//
//     x_i      = image i shifted by (top, left), black beyond its edges, mirrored or not, (pixel/255 - mean) / std
//     mixup    out_i = λ x_i + (1-λ) x_{B-1-i}        cutmix    out_i = x_{B-1-i} inside the box, x_i outside
//     targets  λ t_i + (1-λ) t_{B-1-i}, t = smoothing/K off the label, 1 - smoothing + smoothing/K on it
//
// out (B, 3, S, S) is stored as X. Bytes moved an element: 1, with mixup 2, and sizeof(X).
#pragma once
#include "cuda_common.cuh"

typedef struct {
    int64_t image; // its index in the data set
    int top, left; // of the crop, from -padding to padding
    int mirrored;
} ImageDraw;

typedef struct {
    float lambda; // share of the image itself; 1: not mixed
    int cutmix, top, left, height, width;
} BatchMix;

typedef struct {
    const uint8_t* pixels; // (images, channels, S, S), 1 or 3 channels
    int channels, S;
    float gain[3], offset[3]; // x = pixel gain + offset: 1 / (255 std), -mean / std
} DeviceImages;

__device__ inline float pixel_of(const DeviceImages& images, ImageDraw draw, int channel, int y, int x) {
    int S = images.S, column = (draw.mirrored ? S - 1 - x : x) + draw.left, row = y + draw.top;
    bool inside = row >= 0 && row < S && column >= 0 && column < S;
    size_t plane = draw.image * images.channels + channel % images.channels;
    float pixel = inside ? images.pixels[(plane * S + row) * S + column] : 0;
    return pixel * images.gain[channel] + images.offset[channel];
}

template <class X>
__global__ void augment_images_kernel(X* out, DeviceImages images, const ImageDraw* draws, BatchMix mix, int B) {
    int S = images.S;
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x, plane = i / ((size_t)S * S);
    int x = (int)(i % S), y = (int)(i / S % S), channel = (int)(plane % 3), b = (int)(plane / 3);
    if (b >= B) { return; }
    bool in_box = mix.cutmix && y >= mix.top && y < mix.top + mix.height && x >= mix.left && x < mix.left + mix.width;
    int partner = B - 1 - b;
    float value = pixel_of(images, draws[in_box ? partner : b], channel, y, x);
    if (mix.lambda < 1 && !mix.cutmix) {
        value = mix.lambda * value + (1 - mix.lambda) * pixel_of(images, draws[partner], channel, y, x);
    }
    out[i] = from_float<X>(value);
}

// out (B, 3, S, S); draws (B) are on the device as well
template <class X>
inline void augment_images(X* out, DeviceImages images, const ImageDraw* draws, BatchMix mix, int B,
                           cudaStream_t stream) {
    size_t n = (size_t)B * 3 * images.S * images.S;
    augment_images_kernel<<<ceil_div(n, BLOCK), BLOCK, 0, stream>>>(out, images, draws, mix, B);
    CUDA_CHECK_LAUNCH();
}

__global__ void mix_targets_kernel(float* targets, const int* labels, float lambda, float smoothing, int B, int K) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    int b = (int)(i / K), k = (int)(i % K);
    if (b >= B) { return; }
    float own = labels[b] == k ? lambda * (1 - smoothing) : 0;
    float other = labels[B - 1 - b] == k ? (1 - lambda) * (1 - smoothing) : 0;
    targets[i] = smoothing / K + own + other;
}

// targets (B, K), labels (B)
static inline void mix_targets(float* targets, const int* labels, float lambda, float smoothing, int B, int K,
                               cudaStream_t stream) {
    size_t n = (size_t)B * K;
    mix_targets_kernel<<<ceil_div(n, BLOCK), BLOCK, 0, stream>>>(targets, labels, lambda, smoothing, B, K);
    CUDA_CHECK_LAUNCH();
}
