// Image resizing as Pillow does it, bit for bit: Image.resize((out_width, out_height), BILINEAR or BICUBIC, box) of
// Pillow 11.3 and 12.3 (13.0 rounds differently: some pixels are off by one).
//
// Two passes, rows then columns. Output position o has its centre at c = box_start + (o + ½) s in the input, where
// s = box length / output length; its value is Σ_i f((i + ½ - c) / max(s, 1)) in_i over the pixels within the
// filter's support, weights normalised to sum 1. When shrinking (s > 1) the filter widens with s, which is the
// antialiasing.
// Weights are fixed-point with 22 fractional bits, and the value between the passes is rounded and clipped to uint8.
//
// A box may have fractional ends; the filter may look beyond it, as far as the image goes (so does Pillow's). To keep
// it from looking, as torchvision's crops do, pass the crop as an image of its own: ImageView carries strides.
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum { FILTER_BILINEAR, FILTER_BICUBIC } ResampleFilter;

typedef struct {
    const uint8_t* pixels;            // channel c, row y, column x at c * plane_stride + y * row_stride + x
    int channels, height, width;
    size_t plane_stride, row_stride;
} ImageView;

typedef struct { int top, left, height, width; } Crop;         // whole pixels
typedef struct { float left, top, right, bottom; } Box;

enum { WEIGHT_BITS = 32 - 8 - 2 };

static inline ImageView view_of(const uint8_t* pixels, int channels, int height, int width) {
    return (ImageView){pixels, channels, height, width, (size_t)height * width, (size_t)width};
}

static inline ImageView view_crop(ImageView v, int top, int left, int height, int width) {
    v.pixels += top * v.row_stride + left;
    v.height = height;
    v.width = width;
    return v;
}

static inline Box view_box(ImageView v) { return (Box){0, 0, (float)v.width, (float)v.height}; }

static inline double filter_support(ResampleFilter filter) { return filter == FILTER_BILINEAR ? 1.0 : 2.0; }

static inline double filter_value(ResampleFilter filter, double x) {
    x = fabs(x);
    if (filter == FILTER_BILINEAR) { return x < 1 ? 1 - x : 0; }
    const double a = -0.5; // Keys' cubic
    if (x < 1) { return ((a + 2) * x - (a + 3)) * x * x + 1; }
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

// The taps of one axis: output o is the sum of weights[o * stride + k] * input[first[o] + k], k < taps[o].
typedef struct {
    int stride;
    int* first;    // (out)
    int* taps;     // (out)
    int* weights;  // (out, stride), WEIGHT_BITS fractional bits
} AxisWeights;

// Most taps of one output: the box is at most the whole axis.
static inline int axis_stride(int in, int out) {
    double scale = (double)in / out;
    return (int)ceil(2.0 * (scale < 1 ? 1 : scale)) * 2 + 1; // 2: bicubic, the wider filter
}

static inline size_t axis_ints(int in, int out) { return (size_t)out * (2 + axis_stride(in, out)); }

// start and end are floats, and so is their difference, because Pillow's are.
static inline AxisWeights axis_weights(int* memory, int in, float start, float end, int out, ResampleFilter filter) {
    AxisWeights a = {axis_stride(in, out), memory, memory + out, memory + 2 * (size_t)out};
    double scale = (double)(end - start) / out, widening = scale < 1 ? 1 : scale;
    double support = filter_support(filter) * widening;
    for (int o = 0; o < out; o++) {
        double centre = start + (o + 0.5) * scale, sum = 0;
        int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
        first = first < 0 ? 0 : first;
        last = last > in ? in : last;
        for (int i = first; i < last; i++) { sum += filter_value(filter, (i - centre + 0.5) * (1 / widening)); }
        for (int i = first; i < last; i++) {
            double weight = filter_value(filter, (i - centre + 0.5) * (1 / widening)) / (sum != 0 ? sum : 1);
            weight *= 1 << WEIGHT_BITS;
            a.weights[(size_t)o * a.stride + i - first] = (int)(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
        a.first[o] = first;
        a.taps[o] = last - first;
    }
    return a;
}

static inline uint8_t clip8(int sum) { // a sum with WEIGHT_BITS fractional bits and ½ already added
    int value = sum >> WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

// One row: out (out_width).
static inline void resample_row(uint8_t* out, const uint8_t* in, const AxisWeights* a, int out_width) {
    for (int x = 0; x < out_width; x++) {
        const int* w = a->weights + (size_t)x * a->stride;
        const uint8_t* p = in + a->first[x];
        int sum = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < a->taps[x]; k++) { sum += p[k] * w[k]; }
        out[x] = clip8(sum);
    }
}

// One output row y from the rows of `in` (rows, width), whose row 0 is input row `row0`. sums (width)
static inline void resample_column_row(uint8_t* __restrict out, const uint8_t* __restrict in, const AxisWeights* a, int y,
                                       int row0, int width, int* __restrict sums) {
    for (int x = 0; x < width; x++) { sums[x] = 1 << (WEIGHT_BITS - 1); }
    for (int k = 0; k < a->taps[y]; k++) {
        const uint8_t* row = in + (size_t)(a->first[y] + k - row0) * width;
        int weight = a->weights[(size_t)y * a->stride + k];
        for (int x = 0; x < width; x++) { sums[x] += row[x] * weight; }
    }
    for (int x = 0; x < width; x++) { out[x] = clip8(sums[x]); }
}

// Bytes of scratch for any box of an image of height x width.
static inline size_t resample_scratch(int height, int width, int out_height, int out_width) {
    size_t ints = axis_ints(width, out_width) + axis_ints(height, out_height) + (size_t)out_width;
    return ints * sizeof(int) + (size_t)height * out_width;
}

// out (channels, out_height, out_width). A pass is left out where the axis neither moves nor scales.
static inline void resample(uint8_t* out, ImageView in, Box box, int out_height, int out_width, ResampleFilter filter,
                            void* scratch) {
    int* memory = (int*)scratch;
    AxisWeights across = axis_weights(memory, in.width, box.left, box.right, out_width, filter);
    memory += axis_ints(in.width, out_width);
    AxisWeights down = axis_weights(memory, in.height, box.top, box.bottom, out_height, filter);
    memory += axis_ints(in.height, out_height);
    int* sums = memory;
    uint8_t* rows = (uint8_t*)(sums + out_width); // (last - row0, out_width), what the column pass will read
    bool across_same = out_width == in.width && box.left == 0 && box.right == (float)in.width;
    bool down_same = out_height == in.height && box.top == 0 && box.bottom == (float)in.height;
    int row0 = down_same ? 0 : down.first[0];
    int last = down_same ? in.height : down.first[out_height - 1] + down.taps[out_height - 1];

    for (int c = 0; c < in.channels; c++) {
        uint8_t* plane = out + (size_t)c * out_height * out_width;
        for (int y = row0; y < last; y++) {
            const uint8_t* row = in.pixels + c * in.plane_stride + y * in.row_stride;
            uint8_t* to = (down_same ? plane : rows) + (size_t)(y - row0) * out_width;
            if (across_same) { memcpy(to, row, out_width); } else { resample_row(to, row, &across, out_width); }
        }
        for (int y = 0; y < out_height && !down_same; y++) {
            resample_column_row(plane + (size_t)y * out_width, rows, &down, y, row0, out_width, sums);
        }
    }
}
