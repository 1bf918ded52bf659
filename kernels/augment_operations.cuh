// The operations of RandAugment and colour jitter on a batch of images on the GPU: the same bytes as from
// data/apply_operation.h. The formulas are the CPU's own functions; products that are added are rounded
// (runtime/rounding.h), so that nothing depends on --fmad.
//
// Images are (B, 3, H, W) bytes. Operations come in rounds, at most one per image. A round is two kernels: tables, for
// the operations that have one (from a histogram or the mean luma; a block per channel), then pixels, one per thread,
// from one buffer into another, since geometry and sharpness read neighbours.
#pragma once
#include "../data/apply_operation.h"
#include "cuda_common.cuh"

struct DeviceOperation {
    ImageOperation op; // kind IMAGE_OPERATION_KINDS: none
    AffineMap map;     // for the geometric ones
};

typedef struct { uint8_t level[3]; } FillColour;

// operations (rounds, B) on the host, from each image's list; returns the number of rounds, at most MAX_OPERATIONS
static inline int operation_rounds(DeviceOperation* operations, const OperationList* lists, int B, int H, int W) {
    int rounds = 0;
    for (int b = 0; b < B; b++) { rounds = lists[b].count > rounds ? lists[b].count : rounds; }
    for (int r = 0; r < rounds; r++) {
        for (int b = 0; b < B; b++) {
            ImageOperation op = {IMAGE_OPERATION_KINDS, AFFINE_NEAREST, 0};
            if (r < lists[b].count) { op = lists[b].operation[r]; }
            operations[r * B + b] = DeviceOperation{op, {}};
            if (is_geometric(op.kind)) { operations[r * B + b].map = operation_map(op, H, W); }
        }
    }
    return rounds;
}

// An image (3, H, W), or with an offset one of its channels
typedef struct {
    const uint8_t* levels;
    int H, W;
} DeviceImage;

__device__ inline DeviceImage channel_of(DeviceImage image, int channel) {
    return {image.levels + (size_t)channel * image.H * image.W, image.H, image.W};
}

__device__ inline int level_at(DeviceImage channel, int y, int x) { // beyond an edge, the edge's
    return channel.levels[min(max(y, 0), channel.H - 1) * channel.W + min(max(x, 0), channel.W - 1)];
}

// ---- tables ----

__device__ inline void count_channel(uint32_t* histogram, const uint8_t* levels, int count) {
    for (int i = threadIdx.x; i < count; i += LEVELS) { atomicAdd(&histogram[levels[i]], 1u); }
}

__device__ inline void sum_luma(unsigned long long* sum, const uint8_t* image, int pixels) {
    unsigned long long own = 0;
    for (int i = threadIdx.x; i < pixels; i += LEVELS) {
        own += (unsigned long long)luma(image[i], image[pixels + i], image[2 * pixels + i]);
    }
    atomicAdd(sum, own);
}

// tables (B, 3, LEVELS): a block for each channel of each image, a thread for each level
__global__ void operation_tables_kernel(uint8_t* tables, const uint8_t* images, const DeviceOperation* operations,
                                        int pixels, double one) {
    __shared__ uint32_t histogram[LEVELS];
    __shared__ unsigned long long sum;
    int level = threadIdx.x, b = blockIdx.x / 3, channel = blockIdx.x % 3;
    const uint8_t* image = images + (size_t)b * 3 * pixels;
    ImageOperation op = operations[b].op;
    if (!is_table(op.kind)) { return; }
    histogram[level] = 0;
    if (level == 0) { sum = 0; }
    __syncthreads();
    if (needs_histogram(op.kind)) { count_channel(histogram, image + (size_t)channel * pixels, pixels); }
    if (op.kind == OPERATION_CONTRAST) { sum_luma(&sum, image, pixels); }
    __syncthreads();
    LevelStatistics s = {0, 0, 0, rounded_mean(sum, pixels)};
    uint32_t below = 0;
    if (needs_histogram(op.kind)) {
        s = channel_statistics(histogram, pixels);
        for (int i = 0; i < level; i++) { below += histogram[i]; }
    }
    tables[(size_t)blockIdx.x * LEVELS + level] = (uint8_t)table_level(op, s, level, below, one);
}

// ---- pixels ----

__device__ inline int sharpened_level(DeviceImage channel, int y, int x, float factor, float one) {
    const uint8_t* row = channel.levels + y * channel.W;
    bool border = y == 0 || y == channel.H - 1 || x == 0 || x == channel.W - 1;
    if (border) { return row[x]; }
    return blend_level((float)smoothed_level(row - channel.W, row, row + channel.W, x), row[x], factor, one);
}

__device__ inline double linear_row(DeviceImage p, int y, AffinePlace at, double one) {
    return linear(level_at(p, y, at.x), level_at(p, y, at.x + 1), at.across, one);
}

__device__ inline double cubic_row(DeviceImage p, int y, AffinePlace at, double one) {
    return cubic(level_at(p, y, at.x - 1), level_at(p, y, at.x), level_at(p, y, at.x + 1), level_at(p, y, at.x + 2),
                 at.across, one);
}

__device__ inline int interpolated_level(DeviceImage p, AffinePlace at, AffineFilter filter, double one) {
    int y = at.y;
    if (filter == AFFINE_BILINEAR) {
        return clip_level(linear(linear_row(p, y, at, one), linear_row(p, y + 1, at, one), at.down, one));
    }
    return clip_level(cubic(cubic_row(p, y - 1, at, one), cubic_row(p, y, at, one), cubic_row(p, y + 1, at, one),
                            cubic_row(p, y + 2, at, one), at.down, one));
}

// start + step + step...: as on the CPU, every sum is rounded
__device__ inline int stepped_index(double start, double step, int steps, int length) {
    for (int i = 0; i < steps; i++) { start += step; }
    return index_at(start, length);
}

__device__ inline AffinePlace nearest_place(AffineMap m, int H, int W, int x, int y) {
    bool scaled = m.b == 0 && m.d == 0;
    int64_t from_x = scaled ? stepped_index(m.c + m.a * 0.5, m.a, x, W) : fixed_index(m.a, m.b, m.c, x, y);
    int64_t from_y = scaled ? stepped_index(m.f + m.e * 0.5, m.e, y, H) : fixed_index(m.d, m.e, m.f, x, y);
    bool inside = from_x >= 0 && from_x < W && from_y >= 0 && from_y < H;
    return {inside, inside ? (int)from_x : 0, inside ? (int)from_y : 0, 0, 0};
}

__device__ inline void transform_pixel(uint8_t level[3], DeviceImage image, DeviceOperation o, FillColour fill, int y,
                                       int x, double one) {
    AffineFilter filter = o.op.filter;
    AffinePlace place = filter == AFFINE_NEAREST ? nearest_place(o.map, image.H, image.W, x, y)
                                                 : affine_place(o.map, image.H, image.W, x, y, one);
    for (int c = 0; c < 3; c++) {
        DeviceImage channel = channel_of(image, c);
        level[c] = (uint8_t)(!place.inside ? fill.level[c]
                             : filter == AFFINE_NEAREST ? level_at(channel, place.y, place.x)
                                                        : interpolated_level(channel, place, filter, one));
    }
}

// Color, hue
__device__ inline void change_colour(uint8_t level[3], ImageOperation op, double one) {
    if (op.kind == OPERATION_HUE) {
        Colour shifted = shifted_hue(Colour{level[0], level[1], level[2]}, op.argument, one);
        level[0] = shifted.a;
        level[1] = shifted.b;
        level[2] = shifted.c;
        return;
    }
    float grey = (float)luma(level[0], level[1], level[2]);
    for (int c = 0; c < 3; c++) { level[c] = (uint8_t)blend_level(grey, level[c], (float)op.argument, (float)one); }
}

// tables: this image's
__device__ inline void operate_on_pixel(uint8_t level[3], DeviceImage image, const uint8_t* tables, DeviceOperation o,
                                        FillColour fill, int y, int x, double one) {
    ImageOperationKind kind = o.op.kind;
    if (is_geometric(kind)) {
        transform_pixel(level, image, o, fill, y, x, one);
        return;
    }
    for (int c = 0; c < 3; c++) {
        DeviceImage channel = channel_of(image, c);
        level[c] = channel.levels[y * image.W + x];
        if (is_table(kind)) { level[c] = tables[c * LEVELS + level[c]]; }
        if (kind == OPERATION_SHARPNESS) {
            level[c] = (uint8_t)sharpened_level(channel, y, x, (float)o.op.argument, (float)one);
        }
    }
    if (kind == OPERATION_COLOR || kind == OPERATION_HUE) { change_colour(level, o.op, one); }
}

// Blocks (part of an image, image)
__global__ void __launch_bounds__(BLOCK, 4)
operations_kernel(uint8_t* out, const uint8_t* in, const uint8_t* tables,
                                  const DeviceOperation* operations, FillColour fill, int H, int W, double one) {
    int p = blockIdx.x * BLOCK + threadIdx.x, pixels = H * W;
    size_t b = blockIdx.y;
    if (p >= pixels) { return; }
    uint8_t level[3];
    operate_on_pixel(level, {in + b * 3 * pixels, H, W}, tables + b * 3 * LEVELS, operations[b], fill, p / W, p % W,
                     one);
    for (int c = 0; c < 3; c++) { out[(b * 3 + c) * pixels + p] = level[c]; }
}

// images (B, 3, H, W), and as much space in room; tables (B, 3, LEVELS); operations (rounds, B) on the device. Returns
// where the result is: images or room.
static inline uint8_t* apply_operations(uint8_t* images, uint8_t* room, uint8_t* tables,
                                        const DeviceOperation* operations, int rounds, const uint8_t fill[3], int B,
                                        int H, int W, cudaStream_t stream) {
    FillColour colour = {{fill[0], fill[1], fill[2]}};
    const double one = unknown_one();
    dim3 blocks(ceil_div(H * W, BLOCK), B);
    for (int r = 0; r < rounds; r++, operations += B) {
        operation_tables_kernel<<<3 * B, LEVELS, 0, stream>>>(tables, images, operations, H * W, one);
        CUDA_CHECK_LAUNCH();
        operations_kernel<<<blocks, BLOCK, 0, stream>>>(room, images, tables, operations, colour, H, W, one);
        CUDA_CHECK_LAUNCH();
        uint8_t* made = room;
        room = images;
        images = made;
    }
    return images;
}
