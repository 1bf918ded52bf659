// Batches that are made on the GPU: the loader draws, kernels/augment.cuh makes the pixels. The data set's uint8 images
// lie on the device, or those of each batch are copied there (LoaderConfig.output says which).
//
//   device_input_open(&input, &loader);
//   device_input_batch(images, &input, loader_next(&loader), stream);   // images (B, 3, S, S) on the device
//   device_input_close(&input);                                         // before the loader
#pragma once
#include "../kernels/augment.cuh"
#include "loader.h"

typedef struct {
    const Loader* loader;
    DeviceImages images;
    uint8_t *pixels, *rows; // rows: between the two passes of resampling; NULL where nothing is resampled
    ImageDraw* draws;
    Mix* mix;
    void *across, *down;    // memory of the resampler's weights
} DeviceInput;

static inline void* device_input_bytes(size_t bytes) {
    void* p = NULL;
    cudaError_t error = cudaMalloc(&p, bytes);
    if (error == cudaErrorMemoryAllocation) {
        fail(EXIT_RUN_TIME, "the GPU has no memory for %.1f MB of input: use a smaller --batch-size or "
             "--data-on-gpu off", bytes / 1e6);
    }
    CUDA_CHECK(error);
    return p;
}

// All lengths that a box can have, both filters: made on the host, where they are the CPU's to the bit
static inline DeviceAxis device_axis(void** memory, int shortest, int longest, int out) {
    size_t tables = (size_t)(longest - shortest + 1) * FILTERS, bytes = tables * sizeof(AxisWeights);
    for (int n = shortest; n <= longest; n++) { bytes += FILTERS * sizeof(int) * axis_ints(n, out); }
    char *host = (char*)alloc_bytes(bytes, "resize tables"), *device = (char*)device_input_bytes(bytes);
    AxisWeights* table = (AxisWeights*)host;
    int* next = (int*)(table + tables);
    for (size_t i = 0; i < tables; i++) {
        int length = shortest + (int)(i / FILTERS);
        AxisWeights a = axis_weights(next, length, 0, (float)length, out, (ResampleFilter)(i % FILTERS));
        next += axis_ints(length, out);
        ptrdiff_t move = device - host; // what they point to will lie there
        table[i] = AxisWeights{a.stride, (int*)((char*)a.first + move), (int*)((char*)a.taps + move),
                               (int*)((char*)a.weights + move)};
    }
    CUDA_CHECK(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
    free(host);
    *memory = device;
    return DeviceAxis{(AxisWeights*)device, shortest};
}

// Where boxes are resampled: their weights, and room between the passes
static inline void device_input_resampling(DeviceInput* in) {
    const LoaderConfig* c = &in->loader->plan.config;
    DeviceImages* images = &in->images;
    bool random_boxes = c->train && c->augment.random_resized_crop;
    int H = images->height, W = images->width;
    if (!random_boxes && images->size.height == H && images->size.width == W) { return; }
    images->across = device_axis(&in->across, random_boxes ? 1 : W, W, images->size.width);
    images->down = device_axis(&in->down, random_boxes ? 1 : H, H, images->size.height);
    in->rows = (uint8_t*)device_input_bytes((size_t)c->batch_size * images->channels * H * c->image_size);
}

// The batches of the loader, pinned: copied without help of the host. A page that they share can be pinned once
// only; what stays unpinned is copied more slowly.
static inline void device_input_pin(const Loader* l, bool pin) {
    for (const Place& place : l->place) {
        uint8_t* pixels = place.batch.pixels;
        size_t bytes = (size_t)l->plan.config.batch_size * image_bytes(l->plan.dataset);
        if (!pixels) { continue; }
        cudaError_t error = pin ? cudaHostRegister(pixels, bytes, cudaHostRegisterDefault) : cudaHostUnregister(pixels);
        if (error != cudaSuccess) { cudaGetLastError(); }
    }
}

static inline void device_input_open(DeviceInput* in, const Loader* l) {
    const Dataset* d = l->plan.dataset;
    const LoaderConfig* c = &l->plan.config;
    bool whole = c->output == LOAD_DRAWS;
    int S = c->image_size;
    Resize resize = c->train && c->augment.random_resized_crop ? Resize{S, S, 0, 0, S}
                  : resize_and_crop(d->height, d->width, S, c->train ? 1 : c->crop_pct);
    size_t bytes = (whole ? d->count : c->batch_size) * image_bytes(d);
    *in = DeviceInput{};
    in->loader = l;
    in->pixels = (uint8_t*)device_input_bytes(bytes);
    in->draws = (ImageDraw*)device_input_bytes(c->batch_size * sizeof(ImageDraw));
    in->mix = (Mix*)device_input_bytes(sizeof(Mix));
    if (whole) { CUDA_CHECK(cudaMemcpy(in->pixels, d->images, bytes, cudaMemcpyHostToDevice)); }
    in->images = DeviceImages{in->pixels, d->channels, d->height, d->width, resize, {}, {}, {}, {}};
    for (int i = 0; i < 3; i++) { normalisation(&in->images.gain[i], &in->images.offset[i], c->mean[i], c->std[i]); }
    device_input_resampling(in);
    device_input_pin(l, true);
}

static inline void device_input_close(DeviceInput* in) {
    device_input_pin(in->loader, false);
    void* const memory[] = {in->pixels, in->rows, in->draws, in->mix, in->across, in->down};
    for (void* p : memory) { CUDA_CHECK(cudaFree(p)); }
}

static inline void device_input_batch(float* images, DeviceInput* in, const Batch* b, cudaStream_t stream) {
    if (b->pixels) {
        CUDA_CHECK(cudaMemcpyAsync(in->pixels, b->pixels, b->count * image_bytes(in->loader->plan.dataset),
                                   cudaMemcpyHostToDevice, stream));
    }
    CUDA_CHECK(cudaMemcpyAsync(in->draws, b->draws, b->count * sizeof(ImageDraw), cudaMemcpyHostToDevice, stream));
    CUDA_CHECK(cudaMemcpyAsync(in->mix, &b->mix, sizeof(Mix), cudaMemcpyHostToDevice, stream));
    augment_images(images, in->rows, in->images, in->draws, in->mix, b->count, stream);
}
