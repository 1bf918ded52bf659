// Images from the data set (uint8, on the device) into a batch of normalised tensors on the GPU: what data/augment.h
// makes of the same draws, to the bit; noise, whose logarithm and cosine are the device's own, to 1 ulp.
//
//     level_{y,x}  the pixel of the box, black beyond the image; resampled where the box is not of its new size:
//                  rows_{y,x}  = clip(Σ_k across_{x,k} pixel_{y,first_x+k})
//                  level_{y,x} = clip(Σ_k down_{y,k} rows_{first_y+k,x})
//     x_i          = level gain + offset, mirrored or not; 0 or N(0,1) where it is erased
//     mixup        out_i = λ x_i + (1-λ) x_{B-1-i}
//     cutmix       out_i = x_{B-1-i} inside the box, x_i outside
//
// out (B, 3, S, S). A thread makes one value of image i and that of its partner, since each needs both.
#pragma once
#include "../data/augment.h"
#include "cuda_common.cuh"

enum { FILTERS = 2 };

// The weights of resampling every length from `shortest` on, with either filter
typedef struct {
    const AxisWeights* weights; // [length - shortest][filter], and what they point to, on the device
    int shortest;
} DeviceAxis;

typedef struct {
    const uint8_t* pixels;   // (images, channels, height, width), 1 or 3 channels, on the device
    int channels, height, width;
    Resize size;
    DeviceAxis across, down; // where boxes are resampled
    float gain[3], offset[3];
} DeviceImages;

__device__ inline bool inside(const Crop& box, int y, int x) {
    return y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
}

__device__ inline uint8_t box_pixel(const DeviceImages& images, const ImageDraw& draw, int channel, int y, int x) {
    int row = draw.box.top + y, column = draw.box.left + x;
    bool image = inside({0, 0, images.height, images.width}, row, column);
    size_t plane = (size_t)draw.image * images.channels + channel;
    return image ? images.pixels[(plane * images.height + row) * images.width + column] : 0;
}

// Output o of an axis `length` pixels long; pixel(i) is what lies there
template <class Pixel>
__device__ inline uint8_t resampled(DeviceAxis axis, int length, ResampleFilter filter, int o, Pixel pixel) {
    AxisWeights a = axis.weights[(length - axis.shortest) * FILTERS + filter];
    const int* weights = a.weights + (size_t)o * a.stride;
    int sum = 1 << (WEIGHT_BITS - 1), first = a.first[o], taps = a.taps[o];
    for (int k = 0; k < taps; k++) { sum += pixel(first + k) * weights[k]; }
    return (uint8_t)min(max(sum >> WEIGHT_BITS, 0), 255);
}

// rows (B, channels, height, S): of each box, as far as it goes
__global__ void resample_rows_kernel(uint8_t* rows, DeviceImages images, const ImageDraw* draws, int B) {
    int S = images.size.S;
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x, plane = i / ((size_t)images.height * S);
    int x = (int)(i % S), y = (int)(i / S % images.height);
    int channel = (int)(plane % images.channels), b = (int)(plane / images.channels);
    if (b >= B || y >= draws[b].box.height) { return; }
    ImageDraw draw = draws[b];
    rows[i] = resampled(images.across, draw.box.width, draw.filter, images.size.left + x,
                        [&](int column) { return box_pixel(images, draw, channel, y, column); });
}

// An index that is not known would have the compiler copy the array to local memory.
__device__ inline float of_channel(const float (&x)[3], int channel) {
    return channel == 0 ? x[0] : channel == 1 ? x[1] : x[2];
}

// Of image b, normalised; rows is NULL where nothing is resampled
__device__ inline float value_of(const DeviceImages& images, const uint8_t* rows, const ImageDraw* draws, int b,
                                 int channel, int y, int x) {
    ImageDraw draw = draws[b];
    int S = images.size.S, place = draw.mirrored ? S - 1 - x : x, plane = channel % images.channels;
    if (inside(draw.erased, y, x)) { return erased_value(draw.noise, ((size_t)channel * S + y) * S + x); }
    uint8_t level;
    if (rows) {
        const uint8_t* column = rows + ((size_t)b * images.channels + plane) * images.height * S + place;
        level = resampled(images.down, draw.box.height, draw.filter, images.size.top + y,
                          [&](int row) { return column[(size_t)row * S]; });
    } else {
        level = box_pixel(images, draw, plane, images.size.top + y, images.size.left + place);
    }
    return fmaf(level, of_channel(images.gain, channel), of_channel(images.offset, channel));
}

__device__ inline void mix_values(float* own, float* other, Mix mix, int y, int x) {
    float a = *own, b = *other, rest = 1 - mix.lambda;
    if (mix.lambda >= 1 || (mix.cutmix && !inside(mix.box, y, x))) { return; }
    *own = mix.cutmix ? b : fmaf(mix.lambda, a, rest * b);
    *other = mix.cutmix ? a : fmaf(mix.lambda, b, rest * a);
}

__global__ void augment_images_kernel(float* out, DeviceImages images, const uint8_t* rows, const ImageDraw* draws,
                                      const Mix* mix, int B) {
    int S = images.size.S;
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x, pixels = (size_t)3 * S * S;
    int x = (int)(i % S), y = (int)(i / S % S), channel = (int)(i / ((size_t)S * S) % 3);
    int b = (int)(i / pixels), partner = B - 1 - b;
    if (b > partner) { return; }
    float own = value_of(images, rows, draws, b, channel, y, x);
    if (b < partner) { // in an odd batch the middle image has none
        float other = value_of(images, rows, draws, partner, channel, y, x);
        mix_values(&own, &other, *mix, y, x);
        out[(size_t)partner * pixels + i % pixels] = other;
    }
    out[i] = own;
}

// out (B, 3, S, S); draws (B) and mix are on the device as well, and rows, NULL where no box is resampled
static inline void augment_images(float* out, uint8_t* rows, DeviceImages images, const ImageDraw* draws,
                                  const Mix* mix, int B, cudaStream_t stream) {
    size_t S = images.size.S, values = ((size_t)B + 1) / 2 * 3 * S * S;
    if (rows) {
        size_t n = (size_t)B * images.channels * images.height * S;
        resample_rows_kernel<<<ceil_div(n, (size_t)BLOCK), BLOCK, 0, stream>>>(rows, images, draws, B);
        CUDA_CHECK_LAUNCH();
    }
    augment_images_kernel<<<ceil_div(values, (size_t)BLOCK), BLOCK, 0, stream>>>(out, images, rows, draws, mix, B);
    CUDA_CHECK_LAUNCH();
}
