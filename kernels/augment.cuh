// Boxes of images (uint8, on the device) to a batch of normalised tensors on the GPU: bit for bit what data/batch.h
// makes of the same draws; except noise, whose logarithm and cosine are the device's own, to 1 ulp.
//
//     level_{y,x}  the pixel of the box, black beyond the image, mirrored or not; resampled if boxes lack their new
//                  size:    rows_{y,x}  = clip(Σ_k across_{x,k} pixel_{y,first_x+k})
//                           level_{y,x} = clip(Σ_k down_{y,k} rows_{first_y+k,x})
//     then         mixup: of i and B-1-i, λ own + (1-λ) other; cutmix: the other's inside the box;
//                  normalisation; 0 or N(0,1) where erased. Bytes are mixed before the other two, or floats after.
//
// levels (B, 3, S, S), out (B, 3, S, S). A thread computes one value of image i and its partner's: each needs both.
#pragma once
#include "../data/augment.h"
#include "../data/boxes.h"
#include "cuda_common.cuh"

typedef struct {
    const uint8_t* pixels;   // the base of BoxPlace.pixels, on the device like all of these
    const int* tables;       // the base of BoxPlace.across and down
    const ImageDraw* draws;  // (B)
    const BoxPlace* places;  // (B) of the images that contain the boxes, or of the boxes
    uint8_t* rows;           // between the passes; NULL: nothing is resampled
    uint8_t* levels;         // (B, 3, S, S)
    const Mix* mix;
    int channels, S, tallest; // tallest: the height of the tallest box
    MixOrder order;
    float mean[3], std[3];   // of levels
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

// Output o of an axis, whose weights are in `table`; pixel(i) is the input there
template <class Pixel>
__device__ inline uint8_t resampled(const int* table, int stride, int S, int o, Pixel pixel) {
    const int* weights = table + 2 * S + (size_t)o * stride;
    int sum = 1 << (WEIGHT_BITS - 1), first = table[o], taps = table[S + o];
    for (int k = 0; k < taps; k++) { sum += pixel(first + k) * weights[k]; }
    return (uint8_t)min(max(sum >> WEIGHT_BITS, 0), 255);
}

// rows: (channels, height, S) of each box, up to its height. Blocks (part of a channel, channel, image).
__global__ void resample_rows_kernel(DeviceImages images) {
    int S = images.S, i = blockIdx.x * BLOCK + threadIdx.x, y = i / S, x = i % S, channel = blockIdx.y, b = blockIdx.z;
    Crop box = images.draws[b].box;
    BoxPlace place = images.places[b];
    if (y >= box.height) { return; }
    images.rows[place.rows + ((size_t)channel * box.height + y) * S + x]
        = resampled(images.tables + place.across, place.across_stride, S, x,
                    [&](int column) { return box_pixel(images, box, place, channel, y, column); });
}

// levels. Blocks (part of a channel, channel, image).
__global__ void box_levels_kernel(DeviceImages images) {
    int S = images.S, i = blockIdx.x * BLOCK + threadIdx.x, y = i / S, x = i % S, channel = blockIdx.y, b = blockIdx.z;
    if (y >= S) { return; }
    const ImageDraw& draw = images.draws[b];
    Crop box = draw.box;
    BoxPlace place = images.places[b];
    int column = draw.mirrored ? S - 1 - x : x, row = draw.upside_down ? S - 1 - y : y;
    int plane = images.channels == 1 ? 0 : channel;
    uint8_t* level = images.levels + ((size_t)b * 3 + channel) * S * S + i;
    if (images.rows) {
        const uint8_t* rows = images.rows + place.rows + (size_t)plane * box.height * S + column;
        *level = resampled(images.tables + place.down, place.down_stride, S, row,
                                     [&](int k) { return rows[(size_t)k * S]; });
    } else {
        *level = box_pixel(images, box, place, plane, draw.resize.top + row, draw.resize.left + column);
    }
}

// With a variable index the compiler would copy the array to local memory.
__device__ inline float of_channel(const float (&x)[3], int channel) {
    return channel == 0 ? x[0] : channel == 1 ? x[1] : x[2];
}

// A level's value: normalised, or what it was erased to; the last of the boxes that contain it counts
__device__ inline float finished(const DeviceImages& images, int b, uint8_t level, int channel, int y, int x) {
    const Erasures& erased = images.draws[b].erased;
    for (int k = erased.count - 1; k >= 0; k--) {
        if (!inside(erased.box[k], y, x)) { continue; }
        return erased_level(&erased, k, channel, ((size_t)channel * images.S + y) * images.S + x);
    }
    return (level - of_channel(images.mean, channel)) / of_channel(images.std, channel);
}

__device__ inline void mix_two_levels(uint8_t* own, uint8_t* other, const Mix& mix, float one) {
    uint8_t a = *own, b = *other;
    *own = mixed_byte(a, b, mix.shares, one);
    *other = mixed_byte(b, a, mix.shares, one);
}

__device__ inline void mix_two_floats(float* own, float* other, const Mix& mix) {
    float a = *own, b = *other;
    *own = fmaf(mix.shares.own, a, mix.shares.other * b);
    *other = fmaf(mix.shares.own, b, mix.shares.other * a);
}

template <class T> __device__ inline void exchange(T* own, T* other) {
    T swap = *own;
    *own = *other;
    *other = swap;
}

// Blocks (part of a channel, channel, image of the first half)
__global__ void finish_images_kernel(float* out, DeviceImages images, int B, float one) {
    int S = images.S, at = blockIdx.x * BLOCK + threadIdx.x, y = at / S, x = at % S;
    int channel = blockIdx.y, b = blockIdx.z, partner = B - 1 - b;
    if (y >= S) { return; }
    const Mix& mix = *images.mix;
    bool paired = b < partner, bytes = images.order == MIX_BYTES; // in an odd batch the middle image has no partner
    bool exchanged = paired && mix.cutmix && inside(mix.box, y, x), mixed = paired && mix.mixed && !mix.cutmix;
    size_t i = ((size_t)b * 3 + channel) * S * S + at, j = ((size_t)partner * 3 + channel) * S * S + at;
    uint8_t level = images.levels[i], other_level = images.levels[j];
    if (bytes && exchanged) { exchange(&level, &other_level); }
    if (bytes && mixed) { mix_two_levels(&level, &other_level, mix, one); }
    float own = finished(images, b, level, channel, y, x), other = finished(images, partner, other_level, channel, y, x);
    if (!bytes && exchanged) { exchange(&own, &other); }
    if (!bytes && mixed) { mix_two_floats(&own, &other, mix); }
    if (paired) { out[j] = other; }
    out[i] = own;
}

// Blocks for all values of so many images, with 3 channels or the boxes' own, and this many rows
static inline dim3 image_blocks(int rows, int S, int channels, int images) {
    return dim3(ceil_div(rows * S, BLOCK), channels, images);
}

// Computes images.levels.
static inline void box_levels(DeviceImages images, int B, cudaStream_t stream) {
    int S = images.S;
    if (images.rows) {
        resample_rows_kernel<<<image_blocks(images.tallest, S, images.channels, B), BLOCK, 0, stream>>>(images);
        CUDA_CHECK_LAUNCH();
    }
    box_levels_kernel<<<image_blocks(S, S, 3, B), BLOCK, 0, stream>>>(images);
    CUDA_CHECK_LAUNCH();
}

// Computes out from images.levels.
static inline void finish_images(float* out, DeviceImages images, int B, cudaStream_t stream) {
    int S = images.S;
    finish_images_kernel<<<image_blocks(S, S, 3, (B + 1) / 2), BLOCK, 0, stream>>>(out, images, B,
                                                                                   (float)unknown_one());
    CUDA_CHECK_LAUNCH();
}
