// Image data sets in memory and on disk: one format, NAME.train.kds and NAME.test.kds.
//
// Little-endian throughout. The layout in memory is that of the file, so that loading is one read and saving one write.
//
//   offset  bytes  what
//   0       8      magic "KATDATA\n"
//   8       8      checksum of every byte after it (see dataset_checksum)
//   16      4      uint32 version, 1
//   20      4      uint32 images n
//   24      4      uint32 classes K
//   28      4      uint32 channels, 1 (grey) or 3 (red, green, blue)
//   32      4      uint32 height H
//   36      4      uint32 width W
//   40      12     float32 mean of each channel over the TRAINING split, pixels as 0..1 (grey: three equal values)
//   52      12     float32 standard deviation, likewise; both splits carry the same numbers
//   64      64     data-set name, filled up with zeros
//   128     32 K   class names, 32 bytes each, filled up with zeros
//   ...     2 n    uint16 labels, 0..K-1
//   ...     n*channels*H*W   uint8 images, planar: (n, channels, H, W)
//
// Loading refuses, each with its own sentence, files of other kinds, of another version, too short or too long, damaged
// (checksum), or with impossible values. The size is checked before anything is allocated.
#pragma once
#include "../runtime/files.h"
#include "../runtime/memory.h"
#include <math.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the data-set format is little-endian, and read as it lies");

#define DATASET_MAGIC "KATDATA\n"
enum {
    DATASET_VERSION = 1, DATASET_NAME_BYTES = 64, CLASS_NAME_BYTES = 32,
    MAX_CLASSES = 65536, MAX_IMAGE_SIDE = 16384,
};

typedef struct {
    char magic[8];
    uint64_t checksum;
    uint32_t version, count, classes, channels, height, width;
    float mean[3], std[3];
    char name[DATASET_NAME_BYTES];
} DatasetHeader;
static_assert(sizeof(DatasetHeader) == 128, "the header is written as it lies in memory");

typedef struct Shards Shards;

typedef struct {
    int count, classes, channels;
    int height, width;                      // of every image; 0: each has its own, and is read on demand (shards.h)
    float mean[3], std[3];                  // of the training split, pixels in 0..1
    uint64_t checksum;                      // of the whole split, even if only some of its images are used
    char name[DATASET_NAME_BYTES];
    char (*class_names)[CLASS_NAME_BYTES];  // (classes)
    char (*class_ids)[CLASS_NAME_BYTES];    // (classes) WordNet ids or folders' names; NULL: there are none
    uint16_t* labels;                       // (count)
    uint8_t* images;                        // (count, channels, height, width); NULL if each has its own size
    Shards* shards;                         // where they are then read from, and what closes that
    void (*close_shards)(Shards*);
    uint8_t* file;                          // the whole file, which the pointers above point into
    size_t file_bytes;
} Dataset;

static inline size_t image_bytes(const Dataset* d) { return (size_t)d->channels * d->height * d->width; }

static inline void dataset_free(Dataset* d) {
    if (d->shards) { d->close_shards(d->shards); }
    free(d->file);
    *d = (Dataset){0};
}

// FNV-1a over 64-bit words, the last one padded with zeros. The shift carries high bits down, which FNV's
// multiplication alone never does. Every step is a bijection, so that a single changed word always changes the result.
static inline uint64_t dataset_checksum(const uint8_t* bytes, size_t count) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < count; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, count - i < 8 ? count - i : 8);
        hash = (hash ^ word) * 0x100000001B3u;
        hash ^= hash >> 32;
    }
    return hash;
}

// The dimensions are at most 2^32 images of 2^14 x 2^14 x 3: no overflow in 64 bits.
static inline uint64_t dataset_file_bytes(const DatasetHeader* h) {
    uint64_t pixels = (uint64_t)h->channels * h->height * h->width;
    return sizeof *h + (uint64_t)CLASS_NAME_BYTES * h->classes + h->count * (sizeof(uint16_t) + pixels);
}

static inline bool header_sane(const DatasetHeader* h) {
    return h->count >= 1 && h->count <= INT32_MAX && h->classes >= 1 && h->classes <= MAX_CLASSES
        && (h->channels == 1 || h->channels == 3)
        && h->height >= 1 && h->height <= MAX_IMAGE_SIDE && h->width >= 1 && h->width <= MAX_IMAGE_SIDE
        && h->name[DATASET_NAME_BYTES - 1] == '\0';
}

// Sets the fields and pointers of a data set whose d->file starts with a valid header.
static inline void dataset_point(Dataset* d, const DatasetHeader* h) {
    d->count = (int)h->count; d->classes = (int)h->classes;
    d->channels = (int)h->channels; d->height = (int)h->height; d->width = (int)h->width;
    memcpy(d->mean, h->mean, sizeof d->mean);
    memcpy(d->std, h->std, sizeof d->std);
    memcpy(d->name, h->name, sizeof d->name);
    d->checksum = h->checksum;
    d->file_bytes = dataset_file_bytes(h);
    d->class_names = (char (*)[CLASS_NAME_BYTES])(d->file + sizeof *h);
    d->labels = (uint16_t*)(d->class_names + d->classes);
    d->images = (uint8_t*)(d->labels + d->count);
}

// Makes an empty data set to be filled in: class names, labels and images are zero, mean 0, standard deviation 1.
static inline bool dataset_create(Dataset* d, const char* name, int count, int classes, int channels, int height,
                                  int width, Error* err) {
    DatasetHeader h = {.version = DATASET_VERSION, .count = (uint32_t)count, .classes = (uint32_t)classes,
                       .channels = (uint32_t)channels, .height = (uint32_t)height, .width = (uint32_t)width,
                       .std = {1, 1, 1}};
    memcpy(h.magic, DATASET_MAGIC, sizeof h.magic);
    snprintf(h.name, sizeof h.name, "%s", name);
    *d = (Dataset){0};
    if (!header_sane(&h)) {
        return set_error(err, "data set %s: %d images of %dx%dx%d in %d classes cannot be stored: see data/dataset.h",
                         name, count, channels, height, width, classes);
    }
    uint64_t bytes = dataset_file_bytes(&h);
    d->file = bytes <= SIZE_MAX ? (uint8_t*)calloc(1, bytes) : NULL;
    if (!d->file) {
        return set_error(err, "no memory for data set %s (%.1f MB): close other programs", name, bytes / 1e6);
    }
    memcpy(d->file, &h, sizeof h);
    dataset_point(d, &h);
    return true;
}

// Adds n values to *sum and their squares to *squares, exactly.
static inline void pixel_sums(const uint8_t* values, size_t n, uint64_t* sum, uint64_t* squares) {
    enum { BLOCK = 65536 }; // 255^2 BLOCK fits into 32 bits
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t last = n - first < BLOCK ? n : first + BLOCK;
        uint32_t block_sum = 0, block_squares = 0;
        for (size_t i = first; i < last; i++) {
            block_sum += values[i];
            block_squares += (uint32_t)values[i] * values[i];
        }
        *sum += block_sum;
        *squares += block_squares;
    }
}

// Mean and standard deviation of n values 0..255, as 0..1
static inline void pixel_moments(uint64_t sum, uint64_t squares, double n, float* mean, float* std) {
    double average = sum / n, variance = squares / n - average * average;
    *mean = (float)(average / 255);
    *std = variance > 1e-6 ? (float)(sqrt(variance) / 255) : 1.0f; // one flat colour: leave the scale alone
}

// Mean and standard deviation of each channel, from exact integer sums. Grey values are repeated in all three places.
static inline void dataset_measure(Dataset* d) {
    size_t plane = (size_t)d->height * d->width;
    for (int c = 0; c < 3; c++) {
        uint64_t sum = 0, squares = 0;
        for (int i = 0; i < d->count; i++) {
            pixel_sums(d->images + ((size_t)i * d->channels + c % d->channels) * plane, plane, &sum, &squares);
        }
        pixel_moments(sum, squares, (double)d->count * plane, &d->mean[c], &d->std[c]);
    }
}

// Updates the header from the fields, and the checksum.
static inline void dataset_seal(Dataset* d) {
    DatasetHeader* h = (DatasetHeader*)d->file;
    memcpy(h->mean, d->mean, sizeof h->mean);
    memcpy(h->std, d->std, sizeof h->std);
    memcpy(h->name, d->name, sizeof h->name);
    h->checksum = d->checksum = dataset_checksum(d->file + 16, d->file_bytes - 16);
}

static inline bool labels_valid(const Dataset* d, const char* path, Error* err) {
    for (int i = 0; i < d->count; i++) {
        if (d->labels[i] >= d->classes) {
            return set_error(err, "%s: image %d has label %d, but there are only %d classes: convert the data again",
                             path, i, d->labels[i], d->classes);
        }
    }
    return true;
}

// Readers of `path` see the old file or the complete new one.
static inline bool dataset_save(Dataset* d, const char* path, Error* err) {
    WholeFile f;
    if (!labels_valid(d, path, err)) { return false; }
    dataset_seal(d);
    if (!whole_file_begin(&f, path, err)) { return false; }
    fwrite(d->file, 1, d->file_bytes, f.file);
    return whole_file_end(&f, err);
}

static inline bool header_valid(const DatasetHeader* h, size_t header_read, uint64_t bytes, const char* path,
                                Error* err) {
    if (header_read < sizeof h->magic || memcmp(h->magic, DATASET_MAGIC, sizeof h->magic) != 0) {
        return set_error(err, "%s is not a data set of this program: make one with ./convert_data", path);
    }
    if (header_read < sizeof *h) {
        return set_error(err, "%s is truncated: %llu bytes, less than its header: convert the data again", path,
                         (unsigned long long)bytes);
    }
    if (h->version != DATASET_VERSION) {
        return set_error(err, "%s has format version %u, and this program reads version %d: convert the data again",
                         path, h->version, DATASET_VERSION);
    }
    if (!header_sane(h)) {
        return set_error(err, "%s: its header is damaged (%u images of %ux%ux%u in %u classes): convert the data again",
                         path, h->count, h->channels, h->height, h->width, h->classes);
    }
    uint64_t expected = dataset_file_bytes(h);
    if (bytes != expected) {
        return set_error(err, "%s is %s: %llu bytes where its header promises %llu: convert the data again", path,
                         bytes < expected ? "truncated" : "too long", (unsigned long long)bytes,
                         (unsigned long long)expected);
    }
    return true;
}

// What the checksum cannot tell: whether the writer wrote sensible values.
static inline bool contents_valid(const Dataset* d, const char* path, Error* err) {
    for (int c = 0; c < 3; c++) {
        if (!(d->mean[c] >= 0 && d->mean[c] <= 1 && d->std[c] >= 1e-6f && d->std[c] <= 1)) { // or a NaN
            return set_error(err, "%s: channel %d has mean %g and standard deviation %g of pixels in 0..1: convert the "
                             "data again", path, c, d->mean[c], d->std[c]);
        }
    }
    for (int k = 0; k < d->classes; k++) {
        if (d->class_names[k][CLASS_NAME_BYTES - 1] != '\0') {
            return set_error(err, "%s: the name of class %d does not end: convert the data again", path, k);
        }
    }
    return labels_valid(d, path, err);
}

RUNS_ONCE static inline bool dataset_read(Dataset* d, FILE* f, const char* path, Error* err) {
    struct stat status;
    if (fstat(fileno(f), &status) != 0 || !S_ISREG(status.st_mode)) {
        return set_error(err, "%s is not a regular file: give a file that ./convert_data wrote", path);
    }
    DatasetHeader h = {0};
    size_t header_read = fread(&h, 1, sizeof h, f);
    if (!header_valid(&h, header_read, (uint64_t)status.st_size, path, err)) { return false; }
    if (!dataset_create(d, h.name, (int)h.count, (int)h.classes, (int)h.channels, (int)h.height, (int)h.width, err)) {
        return false;
    }
    memcpy(d->file, &h, sizeof h);
    dataset_point(d, &h);
    if (fread(d->file + sizeof h, 1, d->file_bytes - sizeof h, f) != d->file_bytes - sizeof h) {
        return set_error(err, "cannot read %s: %s", path, ferror(f) ? strerror(errno) : "it became shorter meanwhile");
    }
    if (dataset_checksum(d->file + 16, d->file_bytes - 16) != h.checksum) {
        return set_error(err, "%s is damaged: its checksum does not match its contents: convert the data again", path);
    }
    return contents_valid(d, path, err);
}

static inline bool dataset_load(Dataset* d, const char* path, Error* err) {
    *d = (Dataset){0};
    int descriptor = open(path, O_RDONLY | O_NONBLOCK); // a fifo is refused instead of waited for
    FILE* f = descriptor < 0 ? NULL : fdopen(descriptor, "rb");
    if (!f) {
        return set_error(err, "cannot open %s: %s; ./convert_data makes data sets, and --data procedural needs no file",
                         path, strerror(errno));
    }
    bool ok = dataset_read(d, f, path, err);
    fclose(f);
    if (!ok) { dataset_free(d); }
    return ok;
}

// ---- What ties a checkpoint to the data that it was trained on ----

enum { FINGERPRINT_SIZE = 17 };

// 16 hex digits
static inline const char* dataset_fingerprint(const Dataset* d, char text[FINGERPRINT_SIZE]) {
    snprintf(text, FINGERPRINT_SIZE, "%016llx", (unsigned long long)d->checksum);
    return text;
}

// The names or ids of the classes, separated by newlines; to be freed
static inline char* dataset_class_text(const Dataset* d, char (*names)[CLASS_NAME_BYTES]) {
    char* text = alloc_array(char, (size_t)d->classes * CLASS_NAME_BYTES, "class names");
    for (int k = 0, at = 0; k < d->classes; k++) {
        if (k) { text[at++] = '\n'; }
        for (const char* c = names[k]; *c; c++) { text[at++] = *c == '\n' ? ' ' : *c; }
    }
    return text;
}

// Whether what was learned on one split can be tested on the other. The sizes of their images may differ.
static inline bool splits_agree(const Dataset* train, const Dataset* test, const char* train_path,
                                const char* test_path, Error* err) {
    if (train->classes != test->classes || train->channels != test->channels) {
        return set_error(err, "%s and %s do not belong together (%d and %d classes, %d and %d channels): "
                         "convert them again", train_path, test_path, train->classes, test->classes, train->channels,
                         test->channels);
    }
    for (int k = 0; k < train->classes; k++) {
        const char *a = train->class_names[k], *b = test->class_names[k];
        if (strcmp(a, b) != 0) {
            return set_error(err, "%s and %s do not belong together: class %d is '%s' in one and '%s' in the other: "
                             "convert them again", train_path, test_path, k, a, b);
        }
    }
    return true;
}
