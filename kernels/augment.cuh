// Boxes of images (uint8, on the device) into a batch of normalised tensors on the GPU: what data/batch.h makes of the same
// draws, to the bit; noise, whose logarithm and cosine are the device's own, to 1 ulp.
//
//     level_{y,x}  the pixel of the box, black beyond the image; resampled where boxes are not of their new size:
//                  rows_{y,x}  = clip(Σ_k across_{x,k} pixel_{y,first_x+k})
//                  level_{y,x} = clip(Σ_k down_{y,k} rows_{first_y+k,x})
//     x_i          = level gain + offset, mirrored or not; 0 or N(0,1) where it is erased
//     mixup        out_i = λ x_i + (1-λ) x_{B-1-i}
//     cutmix       out_i = x_{B-1-i} inside the box, x_i outside
//
// out (B, 3, S, S). A thread makes one value of image i and that of its partner, since each needs both.
#pragma once
#include "../data/augment.h"
#include "../data/boxes.h"
#include "cuda_common.cuh"

typedef struct {
    const uint8_t* pixels;   // what BoxPlace.pixels counts from, on the device like all of these
    const int* tables;       // and what BoxPlace.across and down count from
    const ImageDraw* draws;  // (B)
    const BoxPlace* places;  // (B) of the images that the boxes are parts of, or of the boxes
    uint8_t* rows;           // between the passes; NULL: nothing is resampled
    int channels, S, tallest; // tallest: the height of the tallest box
    float gain[3], offset[3];
} DeviceImages;

__device__ inline bool inside(const Crop& box, int y, int x) {
    return y >= box.top && y < box.top + box.height && x >= box.left && x < box.left + box.width;
}

__device__ inline uint8_t box_pixel(const DeviceImages& images, const Crop& box, const BoxPlace& place, int channel, int y,
                                    int x) {
    int row = box.top + y, column = box.left + x;
    if (!inside({0, 0, place.height, place.width}, row, column)) { return 0; }
    return images.pixels[place.pixels + ((size_t)channel * place.height + row) * place.width + column];
}

// Output o of an axis, whose weights are in `table`; pixel(i) is what lies there
template <class Pixel>
__device__ inline uint8_t resampled(const int* table, int stride, int S, int o, Pixel pixel) {
    const int* weights = table + 2 * S + (size_t)o * stride;
    int sum = 1 << (WEIGHT_BITS - 1), first = table[o], taps = table[S + o];
    for (int k = 0; k < taps; k++) { sum += pixel(first + k) * weights[k]; }
    return (uint8_t)min(max(sum >> WEIGHT_BITS, 0), 255);
}

// rows: (channels, height, S) of each box, as far as it goes; a block works at one of them
__global__ void resample_rows_kernel(DeviceImages images) {
    int S = images.S, per_plane = images.tallest * S, blocks = (int)ceil_div((size_t)images.channels * per_plane, (size_t)BLOCK);
    int b = blockIdx.x / blocks, i = blockIdx.x % blocks * BLOCK + threadIdx.x;
    int channel = i / per_plane, y = i / S % images.tallest, x = i % S;
    Crop box = images.draws[b].box;
    BoxPlace place = images.places[b];
    if (channel >= images.channels || y >= box.height) { return; }
    images.rows[place.rows + ((size_t)channel * box.height + y) * S + x]
        = resampled(images.tables + place.across, place.across_stride, S, x,
                    [&](int column) { return box_pixel(images, box, place, channel, y, column); });
}

// An index that is not known would have the compiler copy the array to local memory.
__device__ inline float of_channel(const float (&x)[3], int channel) {
    return channel == 0 ? x[0] : channel == 1 ? x[1] : x[2];
}

// Of image b, normalised
__device__ inline float value_of(const DeviceImages& images, int b, int channel, int y, int x) {
    ImageDraw draw = images.draws[b];
    BoxPlace place = images.places[b];
    int S = images.S, column = draw.mirrored ? S - 1 - x : x, plane = channel % images.channels;
    if (inside(draw.erased, y, x)) { return erased_value(draw.noise, ((size_t)channel * S + y) * S + x); }
    uint8_t level;
    if (images.rows) {
        const uint8_t* rows = images.rows + place.rows + (size_t)plane * draw.box.height * S + column;
        level = resampled(images.tables + place.down, place.down_stride, S, y,
                          [&](int row) { return rows[(size_t)row * S]; });
    } else {
        level = box_pixel(images, draw.box, place, plane, draw.resize.top + y, draw.resize.left + column);
    }
    return fmaf(level, of_channel(images.gain, channel), of_channel(images.offset, channel));
}

__device__ inline void mix_values(float* own, float* other, Mix mix, int y, int x) {
    float a = *own, b = *other, rest = 1 - mix.lambda;
    if (mix.lambda >= 1 || (mix.cutmix && !inside(mix.box, y, x))) { return; }
    *own = mix.cutmix ? b : fmaf(mix.lambda, a, rest * b);
    *other = mix.cutmix ? a : fmaf(mix.lambda, b, rest * a);
}

__global__ void augment_images_kernel(float* out, DeviceImages images, const Mix* mix, int B) {
    int S = images.S;
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x, pixels = (size_t)3 * S * S;
    int x = (int)(i % S), y = (int)(i / S % S), channel = (int)(i / ((size_t)S * S) % 3);
    int b = (int)(i / pixels), partner = B - 1 - b;
    if (b > partner) { return; }
    float own = value_of(images, b, channel, y, x);
    if (b < partner) { // in an odd batch the middle image has none
        float other = value_of(images, partner, channel, y, x);
        mix_values(&own, &other, *mix, y, x);
        out[(size_t)partner * pixels + i % pixels] = other;
    }
    out[i] = own;
}

// out (B, 3, S, S); mix is on the device as well
static inline void augment_images(float* out, DeviceImages images, const Mix* mix, int B, cudaStream_t stream) {
    size_t S = images.S, values = ((size_t)B + 1) / 2 * 3 * S * S;
    if (images.rows) {
        size_t blocks = ceil_div((size_t)images.channels * images.tallest * S, (size_t)BLOCK);
        resample_rows_kernel<<<B * blocks, BLOCK, 0, stream>>>(images);
        CUDA_CHECK_LAUNCH();
    }
    augment_images_kernel<<<ceil_div(values, (size_t)BLOCK), BLOCK, 0, stream>>>(out, images, mix, B);
    CUDA_CHECK_LAUNCH();
}
