// A small encoded data set (data/shards.h) in the test's folder: photo-like JPEGs of many sizes, grey and coloured, one
// after another in two shards per split.
#pragma once
#include "../../data/image_reader.h"
#include "../../runtime/random.h"
#include "test_files.h"

enum { ENCODED_CLASSES = 3, ENCODED_SHARDS = 2 };

static inline uint32_t encoded_random(int image, int draw) {
    return random_bits(31, STREAM_CHECK, (uint32_t)image, (uint64_t)draw).word[0];
}

// (channels, height, width): slopes, edges and a little noise
static inline void paint_photo(uint8_t* pixels, int image, int channels, int height, int width) {
    for (int c = 0; c < channels; c++) {
        double a = 0.02 + 0.003 * (image % 7), b = 0.03 + 0.002 * c;
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                double value = 128 + 60 * sin(a * x + c) + 40 * cos(b * y + image) + ((x / 9 + y / 7) % 2 ? 12 : -12);
                *pixels++ = (uint8_t)(value + encoded_random(image, y * width + x) % 8);
            }
        }
    }
}

static inline void encoded_size(int image, int* height, int* width) {
    *height = 9 + (int)(encoded_random(image, -1) % 50);
    *width = 9 + (int)(encoded_random(image, -2) % 50);
    if (image == 3) { *width = 1; }
    if (image == 4) { *height = 2; }
}

static inline ShardRecord write_photo(FILE* f, int image, int label, int shard) {
    Error err;
    int height, width, channels = image % 5 == 1 ? 1 : 3;
    encoded_size(image, &height, &width);
    uint8_t* pixels = (uint8_t*)malloc((size_t)channels * height * width);
    JpegBuffer jpeg = {};
    paint_photo(pixels, image, channels, height, width);
    JpegOptions options = {.quality = 90, .subsampled = image % 2 == 1};
    if (!encode_jpeg(&jpeg, view_of(pixels, channels, height, width), options, &err)) { fail(1, "%s", err.text); }
    ShardRecord r = {.offset = (uint64_t)ftell(f), .bytes = (uint32_t)jpeg.count, .shard = (uint16_t)shard,
                     .label = (uint16_t)label, .width = (uint16_t)width, .height = (uint16_t)height};
#ifdef HAVE_ZLIB
    r.crc = (uint32_t)crc32(0, jpeg.bytes, (unsigned)jpeg.count);
#endif
    fwrite(jpeg.bytes, 1, jpeg.count, f);
    free(jpeg.bytes);
    free(pixels);
    return r;
}

// FOLDER/split.index and its shards; image: the number of the first
static inline void make_encoded_split(const char* folder, const char* split, int image, int count) {
    Error err;
    char path[512];
    ShardIndexHeader h = {.count = (uint32_t)count, .classes = ENCODED_CLASSES, .shards = ENCODED_SHARDS,
                          .mean = {0.5f, 0.5f, 0.5f}, .std = {0.25f, 0.25f, 0.25f}};
    snprintf(h.name, sizeof h.name, "encoded");
    uint8_t* index = shard_index_create(h, &err);
    if (!index) { fail(1, "%s", err.text); }
    for (int k = 0; k < ENCODED_CLASSES; k++) {
        snprintf(shard_index_class_names(index)[k], CLASS_NAME_BYTES, "class %d", k);
        snprintf(shard_index_class_ids(index)[k], CLASS_NAME_BYTES, "n%08d", k);
    }
    for (int k = 0, i = 0; k < ENCODED_SHARDS; k++) {
        ShardFile* file = &shard_index_files(index)[k];
        snprintf(file->name, sizeof file->name, "%s-%06d.tar", split, k);
        snprintf(path, sizeof path, "%s/%s", folder, file->name);
        FILE* f = fopen(path, "wb");
        if (!f) { perror(path); exit(1); }
        fprintf(f, "%-512s", "an image"); // where a tar has its header
        for (; i < count * (k + 1) / ENCODED_SHARDS; i++) {
            shard_index_records(index)[i] = write_photo(f, image + i, i * 7 % ENCODED_CLASSES, k);
        }
        file->bytes = (uint64_t)ftell(f);
        fclose(f);
    }
    snprintf(path, sizeof path, "%s/%s.index", folder, split);
    if (!shard_index_save(index, path, &err)) { fail(1, "%s", err.text); }
    free(index);
}

// Rewrites the index, with its checksum, after a test has changed it.
static inline void change_index(const char* path, void (*change)(uint8_t* index)) {
    Error err;
    uint8_t* index = shard_index_load(path, &err);
    if (!index) { fail(1, "%s", err.text); }
    change(index);
    if (!shard_index_save(index, path, &err)) { fail(1, "%s", err.text); }
    free(index);
}
