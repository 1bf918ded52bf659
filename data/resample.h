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
//
//   resample(out, in, box, out_height, out_width, filter, scratch);            // scratch: resample_scratch(...) bytes
//   resample_part(out, in, box, out_height, out_width, part, filter, scratch); // only that part of the result
//
// If the image is yet to be decoded, the plan says which of its pixels the part needs, and those suffice:
//
//   ResamplePlan plan = resample_plan(height, width, box, out_height, out_width, part, filter, scratch);
//   ...                                              // pixels (channels, plan.source.height, plan.source.width)
//   resample_planned(out, view_of(pixels, channels, plan.source.height, plan.source.width), &plan);
//
// Both passes are the same loop, over SPAN bytes that lie side by side: of a row of the image, or, for the pass over
// rows, of a column of SPAN rows that were transposed. It vectorises without intrinsics; integers make its result the
// same everywhere.
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

typedef struct { int top, left, height, width; } Crop; // whole pixels
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

// out (channels, height, width)
static inline void copy_view(uint8_t* out, ImageView v) {
    for (int r = 0; r < v.channels * v.height; r++) {
        const uint8_t* row = v.pixels + (r / v.height) * v.plane_stride + (r % v.height) * v.row_stride;
        memcpy(out + (size_t)r * v.width, row, (size_t)v.width);
    }
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

static inline size_t axis_part_ints(int in, int out, int count) { return (size_t)count * (2 + axis_stride(in, out)); }

static inline size_t axis_ints(int in, int out) { return axis_part_ints(in, out, out); }

// Outputs from .. from + count - 1 of `out`, numbered from 0 in the result. start and end are floats, and so is their
// difference, because they are in Pillow.
static inline AxisWeights axis_part(int* memory, int in, float start, float end, int out, int from, int count,
                                    ResampleFilter filter) {
    AxisWeights a = {axis_stride(in, out), memory, memory + count, memory + 2 * (size_t)count};
    double scale = (double)(end - start) / out, widening = scale < 1 ? 1 : scale;
    double support = filter_support(filter) * widening;
    for (int o = 0; o < count; o++) {
        double centre = start + (from + o + 0.5) * scale, sum = 0;
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

static inline AxisWeights axis_weights(int* memory, int in, float start, float end, int out, ResampleFilter filter) {
    return axis_part(memory, in, start, end, out, 0, out, filter);
}

// ---- a plan: what a part of the result is made of

typedef struct {
    int height, width;          // of the part
    Crop source;                // what it needs of the image
    AxisWeights across, down;   // of the part's columns and rows; first counts from the source's edges
    uint8_t *square, *spare;    // (SPAN, SPAN)
    uint8_t* columns;           // (source width, SPAN)
    uint8_t* rows;              // (source height, width): between the passes
} ResamplePlan;

// Loops of this constant length become vector registers that keep their sums, in gcc and in clang.
enum { SPAN = 64 };

static inline size_t span_up(int n) { return (size_t)(n + SPAN - 1) / SPAN * SPAN; }

// Bytes of scratch for a part of any box of an image of height x width
static inline size_t resample_part_scratch(int height, int width, int out_height, int out_width, Crop part) {
    size_t ints = axis_part_ints(width, out_width, part.width) + axis_part_ints(height, out_height, part.height);
    size_t spans = 2 * SPAN + span_up(width) + span_up(height) * (span_up(part.width) / SPAN);
    return spans * SPAN + ints * sizeof(int);
}

static inline size_t resample_scratch(int height, int width, int out_height, int out_width) {
    return resample_part_scratch(height, width, out_height, out_width, (Crop){0, 0, out_height, out_width});
}

// How many inputs of the axis its `count` outputs need, from *start on; afterwards a->first counts from there.
static inline int axis_source(AxisWeights* a, int count, int* start) {
    int length = a->first[count - 1] + a->taps[count - 1] - a->first[0];
    *start = a->first[0];
    for (int o = 0; o < count; o++) { a->first[o] -= *start; }
    return length;
}

// The plan points into scratch.
static inline ResamplePlan resample_plan(int height, int width, Box box, int out_height, int out_width, Crop part,
                                         ResampleFilter filter, void* scratch) {
    ResamplePlan p = {.height = part.height, .width = part.width};
    p.square = (uint8_t*)scratch;
    p.spare = p.square + SPAN * SPAN;
    p.columns = p.spare + SPAN * SPAN;
    p.rows = p.columns + SPAN * span_up(width);
    int* memory = (int*)(p.rows + span_up(height) * span_up(part.width));
    p.across = axis_part(memory, width, box.left, box.right, out_width, part.left, part.width, filter);
    memory += axis_part_ints(width, out_width, part.width);
    p.down = axis_part(memory, height, box.top, box.bottom, out_height, part.top, part.height, filter);
    p.source.width = axis_source(&p.across, p.width, &p.source.left);
    p.source.height = axis_source(&p.down, p.height, &p.source.top);
    return p;
}

// ---- SPAN bytes at a time

// out[i] = Σ_k weight_k in[(first + k) * stride + i], of output o
static inline void span_sum(uint8_t* __restrict out, const uint8_t* __restrict in, size_t stride, const AxisWeights* a,
                            int o) {
    const int* __restrict weights = a->weights + (size_t)o * a->stride;
    const int taps = a->taps[o];
    int sums[SPAN];
    in += a->first[o] * stride;
    for (int i = 0; i < SPAN; i++) { sums[i] = 1 << (WEIGHT_BITS - 1); }
    for (int k = 0; k < taps; k++, in += stride) {
        int weight = weights[k];
        for (int i = 0; i < SPAN; i++) { sums[i] += in[i] * weight; }
    }
    for (int i = 0; i < SPAN; i++) {
        int value = sums[i] >> WEIGHT_BITS;
        value = value < 0 ? 0 : value;
        out[i] = (uint8_t)(value > 255 ? 255 : value);
    }
}

static inline void copy_span(uint8_t* out, const uint8_t* in, int count) { // or less of it
    if (count >= SPAN) { memcpy(out, in, SPAN); } else { memcpy(out, in, (size_t)count); }
}

static inline void interleave_halves(uint8_t* __restrict out, const uint8_t* __restrict in) {
    for (int i = 0; i < SPAN * SPAN / 2; i++) {
        out[2 * i] = in[i];
        out[2 * i + 1] = in[i + SPAN * SPAN / 2];
    }
}

// A place in the square is twelve bits, six of its row, then six of its column. Interleaving the halves rotates them by
// one: after six times row and column have changed places.
static inline void transpose(uint8_t* square, uint8_t* spare) {
    for (int i = 0; i < 3; i++) {
        interleave_halves(spare, square);
        interleave_halves(square, spare);
    }
}

// ---- the passes over one plane

// columns (width, SPAN) of `count` rows, at most SPAN
static inline void load_columns(const ResamplePlan* p, const uint8_t* in, size_t row_stride, int count) {
    for (int x = 0; x < p->source.width; x += SPAN) {
        uint8_t* square = p->columns + (size_t)x * SPAN;
        for (int y = 0; y < count; y++) { copy_span(square + y * SPAN, in + y * row_stride + x, p->source.width - x); }
        transpose(square, p->spare);
    }
}

static inline void resample_across(const ResamplePlan* p, const uint8_t* in, size_t row_stride) {
    size_t stride = span_up(p->width);
    for (int y = 0; y < p->source.height; y += SPAN) {
        int left = p->source.height - y;
        load_columns(p, in + y * row_stride, row_stride, left < SPAN ? left : SPAN);
        for (int x = 0; x < p->width; x += SPAN) {
            for (int j = 0; j < SPAN && x + j < p->width; j++) {
                span_sum(p->square + j * SPAN, p->columns, SPAN, &p->across, x + j);
            }
            transpose(p->square, p->spare);
            for (int j = 0; j < SPAN; j++) { memcpy(p->rows + (y + j) * stride + x, p->square + j * SPAN, SPAN); }
        }
    }
}

// out (height, width)
static inline void resample_down(uint8_t* out, const ResamplePlan* p) {
    size_t stride = span_up(p->width);
    uint8_t sums[SPAN];
    for (int y = 0; y < p->height; y++) {
        for (int x = 0; x < p->width; x += SPAN) {
            span_sum(sums, p->rows + x, stride, &p->down, y);
            copy_span(out + (size_t)y * p->width + x, sums, p->width - x);
        }
    }
}

// ---- images

// out (channels, part height, part width) from the plan's source alone
static inline void resample_planned(uint8_t* out, ImageView source, const ResamplePlan* p) {
    for (int c = 0; c < source.channels; c++) {
        resample_across(p, source.pixels + c * source.plane_stride, source.row_stride);
        resample_down(out + (size_t)c * p->height * p->width, p);
    }
}

static inline void resample_part(uint8_t* out, ImageView in, Box box, int out_height, int out_width, Crop part,
                                 ResampleFilter filter, void* scratch) {
    ResamplePlan p = resample_plan(in.height, in.width, box, out_height, out_width, part, filter, scratch);
    Crop s = p.source;
    resample_planned(out, view_crop(in, s.top, s.left, s.height, s.width), &p);
}

// out (channels, out_height, out_width)
static inline void resample(uint8_t* out, ImageView in, Box box, int out_height, int out_width, ResampleFilter filter,
                            void* scratch) {
    Crop whole = {0, 0, out_height, out_width};
    resample_part(out, in, box, out_height, out_width, whole, filter, scratch);
}
