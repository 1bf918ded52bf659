// Batches made on the GPU: the loader draws, kernels/augment.cuh computes the pixels. The data set's uint8 images are
// on the device, or the boxes of each batch are copied there (LoaderConfig.output determines which).
//
//   device_input_open(&input, &loader);
//   device_input_batch(images, &input, loader_next(&loader), stream);   // images (B, 3, S, S) on the device
//   device_input_close(&input);                                         // before the loader
#pragma once
#include "../kernels/augment.cuh"
#include "../kernels/augment_operations.cuh"
#include "loader.h"

typedef struct { uint8_t* bytes; size_t size; } DeviceRoom; // on the device; growing loses its contents

// The weights of one axis of every possible box, in DeviceInput.tables: [length - shortest][filter]
typedef struct {
    int shortest;
    uint64_t* at;    // in ints
    int32_t* stride;
} AxisTables;

enum { FILTERS = 2 };

typedef struct {
    const Loader* loader;
    DeviceImages images;     // of the batch
    DeviceRoom pixels, rows;
    ImageDraw* draws;
    BoxPlace* places;
    Mix* mix;
    // if the data set's images are on the device
    int* tables;
    AxisTables across, down;
    BoxPlace* host_places;
    // if operations are applied to images
    OperationList* lists;                            // (B)
    DeviceOperation *host_operations, *operations;   // (rounds, B)
    uint8_t *room, *level_tables;                    // (B, 3, S, S), (B, 3, LEVELS)
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

static inline uint8_t* device_room_for(DeviceRoom* room, size_t bytes) {
    if (bytes > room->size) {
        CUDA_CHECK(cudaFree(room->bytes)); // waits until it is unused
        room->size = bytes + bytes / 4;
        room->bytes = (uint8_t*)device_input_bytes(room->size);
    }
    return room->bytes;
}

// ---- images on the device

// All lengths that a box can have, both filters, from `from` on of `out` outputs: made on the host, where they are the
// same as the CPU's, bit for bit. tables grows by the returned number. NULL: only counts
static inline size_t axis_tables(AxisTables* t, int* tables, size_t used, int shortest, int longest, int out, int from,
                                 int S) {
    int count = (longest - shortest + 1) * FILTERS;
    *t = AxisTables{shortest, alloc_array(uint64_t, count, "resize tables"), alloc_array(int32_t, count, "resize tables")};
    for (int i = 0; i < count; i++) {
        int length = shortest + i / FILTERS;
        t->at[i] = used;
        t->stride[i] = axis_stride(length, out);
        if (tables) { axis_part(tables + used, length, 0, (float)length, out, from, S, (ResampleFilter)(i % FILTERS)); }
        used += (size_t)S * (2 + t->stride[i]);
    }
    return used;
}

static inline void axis_tables_free(AxisTables* t) {
    free(t->at);
    free(t->stride);
}

static inline size_t device_input_tables(DeviceInput* in, int* tables) {
    const Dataset* d = in->loader->plan.dataset;
    const LoaderConfig* c = &in->loader->plan.config;
    int S = c->image_size;
    bool random_boxes = c->train && c->augment.random_resized_crop;
    Resize size = random_boxes ? Resize{S, S, 0, 0, S}
                               : resize_and_crop(d->height, d->width, S, c->train ? 1 : c->crop_pct);
    axis_tables_free(&in->across);
    axis_tables_free(&in->down);
    size_t used = axis_tables(&in->across, tables, 0, random_boxes ? 1 : d->width, d->width, size.width, size.left, S);
    return axis_tables(&in->down, tables, used, random_boxes ? 1 : d->height, d->height, size.height, size.top, S);
}

static inline void device_input_images(DeviceInput* in) {
    const Dataset* d = in->loader->plan.dataset;
    size_t bytes = d->count * image_bytes(d);
    in->pixels = DeviceRoom{(uint8_t*)device_input_bytes(bytes), bytes};
    CUDA_CHECK(cudaMemcpy(in->pixels.bytes, d->images, bytes, cudaMemcpyHostToDevice));
    in->host_places = alloc_array(BoxPlace, in->loader->plan.config.batch_size, "a batch's places");
    if (!batch_resamples(&in->loader->plan)) { return; }
    size_t ints = device_input_tables(in, NULL);
    int* tables = alloc_array(int, ints, "resize tables");
    device_input_tables(in, tables);
    in->tables = (int*)device_input_bytes(ints * sizeof(int));
    CUDA_CHECK(cudaMemcpy(in->tables, tables, ints * sizeof(int), cudaMemcpyHostToDevice));
    free(tables);
}

// Sets the images' places, and in images.rows the size that the passes across need.
static inline size_t device_input_places(DeviceInput* in, const Batch* b) {
    const Dataset* d = in->loader->plan.dataset;
    size_t rows = 0;
    for (int i = 0; i < b->count; i++) {
        const ImageDraw* draw = &b->draws[i];
        BoxPlace place = {.pixels = draw->image * image_bytes(d), .rows = rows, .height = d->height, .width = d->width};
        if (in->tables) {
            int across = (draw->box.width - in->across.shortest) * FILTERS + draw->filter;
            int down = (draw->box.height - in->down.shortest) * FILTERS + draw->filter;
            place.across = in->across.at[across];
            place.across_stride = in->across.stride[across];
            place.down = in->down.at[down];
            place.down_stride = in->down.stride[down];
        }
        rows += (size_t)d->channels * draw->box.height * in->images.S;
        in->host_places[i] = place;
    }
    return rows;
}

// ---- boxes that come with the batch

// Memory that cannot be pinned is copied more slowly, and the host waits for it.
static inline void note_not_pinned(cudaError_t error) {
    static bool said = false;
    cudaGetLastError();
    if (said) { return; }
    said = true;
    output_take_back();
    printf("note       batches are copied from memory that cannot be pinned (%s): more slowly; see ulimit -l\n",
           cudaGetErrorString(error));
}

static inline void block_pin(BoxBlock* block, bool pin) {
    if (!block || block->pinned == pin) { return; }
    cudaError_t error = pin ? cudaHostRegister(block, BOX_ALIGN + block->size, cudaHostRegisterDefault)
                            : cudaHostUnregister(block);
    if (error != cudaSuccess) { note_not_pinned(error); }
    block->pinned = pin && error == cudaSuccess;
}

// Smaller blocks from before are no longer needed.
static inline void device_input_pin(BoxBlock* block) {
    for (BoxBlock* b = block->older; b; b = b->older) { block_pin(b, false); }
    block_free(block->older);
    block->older = NULL;
    block_pin(block, true);
}

static inline void device_input_unpin(const Loader* l) {
    for (const Place& place : l->place) {
        for (BoxBlock* b = place.batch.boxes; b; b = b->older) { block_pin(b, false); }
    }
}

// ---- operations

static inline void device_input_operations(DeviceInput* in) {
    const LoaderConfig* c = &in->loader->plan.config;
    size_t B = c->batch_size, S = c->image_size, operations = MAX_OPERATIONS * B;
    if (!c->train || !has_operations(&c->augment)) { return; }
    in->lists = alloc_array(OperationList, B, "a batch's operations");
    in->host_operations = alloc_array(DeviceOperation, operations, "a batch's operations");
    in->operations = (DeviceOperation*)device_input_bytes(operations * sizeof(DeviceOperation));
    in->room = (uint8_t*)device_input_bytes(B * 3 * S * S);
    in->level_tables = (uint8_t*)device_input_bytes(B * 3 * LEVELS);
}

// Applied to images.levels
static inline void device_input_operate(DeviceInput* in, const Batch* b, cudaStream_t stream) {
    int B = b->count, S = in->images.S;
    uint8_t fill[3];
    if (!in->lists) { return; }
    for (int i = 0; i < B; i++) { in->lists[i] = b->draws[i].operations; }
    int rounds = operation_rounds(in->host_operations, in->lists, B, S, S);
    CUDA_CHECK(cudaMemcpyAsync(in->operations, in->host_operations, (size_t)rounds * B * sizeof(DeviceOperation),
                               cudaMemcpyHostToDevice, stream));
    fill_colour(fill, in->loader->plan.config.mean);
    uint8_t* made = apply_operations(in->images.levels, in->room, in->level_tables, in->operations, rounds, fill, B, S, S,
                                     stream);
    if (made != in->images.levels) {
        in->room = in->images.levels;
        in->images.levels = made;
    }
}

// ---- both

static inline void device_input_open(DeviceInput* in, const Loader* l) {
    const LoaderConfig* c = &l->plan.config;
    *in = DeviceInput{};
    in->loader = l;
    in->draws = (ImageDraw*)device_input_bytes(c->batch_size * sizeof(ImageDraw));
    in->places = (BoxPlace*)device_input_bytes(c->batch_size * sizeof(BoxPlace));
    in->mix = (Mix*)device_input_bytes(sizeof(Mix));
    in->images.channels = l->plan.dataset->channels;
    in->images.S = c->image_size;
    in->images.draws = in->draws;
    in->images.places = in->places;
    in->images.mix = in->mix;
    in->images.order = c->augment.mix_order;
    in->images.levels = (uint8_t*)device_input_bytes((size_t)c->batch_size * 3 * c->image_size * c->image_size);
    for (int i = 0; i < 3; i++) {
        in->images.mean[i] = of_levels(c->mean[i]);
        in->images.std[i] = of_levels(c->std[i]);
    }
    if (c->output == LOAD_DRAWS) { device_input_images(in); }
    device_input_operations(in);
    CUDA_CHECK(cudaDeviceSynchronize()); // copies on the default stream, for which other streams do not wait
}

static inline void device_input_close(DeviceInput* in) {
    device_input_unpin(in->loader);
    void* const memory[] = {in->pixels.bytes, in->rows.bytes, in->draws, in->places, in->mix, in->tables,
                            in->images.levels, in->operations, in->room, in->level_tables};
    for (void* p : memory) { CUDA_CHECK(cudaFree(p)); }
    axis_tables_free(&in->across);
    axis_tables_free(&in->down);
    free(in->host_places);
    free(in->lists);
    free(in->host_operations);
}

static inline void device_input_copy(void* to, const void* from, size_t bytes, cudaStream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream));
}

static inline void device_input_batch(float* images, DeviceInput* in, const Batch* b, cudaStream_t stream) {
    bool boxes = b->places != NULL;
    size_t row_bytes = boxes ? b->row_bytes : device_input_places(in, b);
    if (boxes) {
        device_input_pin(b->boxes);
        device_input_copy(device_room_for(&in->pixels, b->boxes->used), block_bytes(b->boxes), b->boxes->used, stream);
    }
    device_input_copy(in->places, boxes ? b->places : in->host_places, b->count * sizeof(BoxPlace), stream);
    device_input_copy(in->draws, b->draws, b->count * sizeof(ImageDraw), stream);
    device_input_copy(in->mix, &b->mix, sizeof(Mix), stream);
    in->images.pixels = in->pixels.bytes;
    in->images.tables = boxes ? (const int*)in->pixels.bytes : in->tables;
    in->images.tallest = 0;
    for (int i = 0; i < b->count; i++) {
        if (b->draws[i].box.height > in->images.tallest) { in->images.tallest = b->draws[i].box.height; }
    }
    in->images.rows = batch_resamples(&in->loader->plan) ? device_room_for(&in->rows, row_bytes) : NULL;
    box_levels(in->images, b->count, stream);
    device_input_operate(in, b, stream);
    finish_images(images, in->images, b->count, stream);
}
