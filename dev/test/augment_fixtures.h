// dev/test/augment_fixtures.txt, whose head describes its contents: its lines as words, and its images.
#pragma once
#include "../../data/apply_operation.h"
#include "test.h"

enum { FIXTURE_WORDS = 80 };

typedef struct {
    FILE* file;
    char* line;
    size_t room;
    char* word[FIXTURE_WORDS];
    int words;
} Fixtures;

static inline void fixtures_open(Fixtures* f, const char* path) {
    *f = (Fixtures){.file = fopen(path, "r")};
    if (!f->file) { perror(path); exit(1); }
}

static inline void fixtures_close(Fixtures* f) {
    fclose(f->file);
    free(f->line);
}

// The next line that is neither empty nor a comment; false at the end
static inline bool fixtures_next(Fixtures* f) {
    while (getline(&f->line, &f->room, f->file) > 0) {
        f->words = 0;
        if (f->line[0] == '#') { continue; }
        for (char* w = strtok(f->line, " \n"); w && f->words < FIXTURE_WORDS; w = strtok(NULL, " \n")) {
            f->word[f->words++] = w;
        }
        if (f->words > 0) { return true; }
    }
    return false;
}

static inline double real_word(const Fixtures* f, int i) { return i < f->words ? strtod(f->word[i], NULL) : NAN; }
static inline int int_word(const Fixtures* f, int i) { return i < f->words ? atoi(f->word[i]) : -1; }
static inline uint64_t hex_word(const Fixtures* f, int i) { return i < f->words ? strtoull(f->word[i], NULL, 16) : 0; }

static inline float float_word(const Fixtures* f, int i) { // f3f800000
    uint32_t bits = i < f->words ? (uint32_t)strtoul(f->word[i] + 1, NULL, 16) : 0;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// timm's names of RandAugment's operations, in the plain and in the increasing set
static const char* const set_names[2][RAND_OPERATION_KINDS] = {
#define PLAIN_NAME(constant, plain, increasing) plain,
#define INCREASING_NAME(constant, plain, increasing) increasing,
    {RAND_OPERATIONS(PLAIN_NAME)}, {RAND_OPERATIONS(INCREASING_NAME)}};

// ---- images ----

static inline RgbImage new_image(int height, int width) {
    RgbImage image = {(uint8_t*)malloc((size_t)3 * height * width + 1), height, width};
    if (!image.pixels) { perror("an image"); exit(1); }
    image.pixels[3 * plane_bytes(image)] = 0xA5; // this one must not be touched
    return image;
}

static inline RgbImage copy_image(RgbImage image) {
    RgbImage copy = new_image(image.height, image.width);
    memcpy(copy.pixels, image.pixels, 3 * plane_bytes(image));
    return copy;
}

static inline uint32_t hashed(uint32_t i, uint32_t seed) {
    uint32_t v = (i + 1) * 0x9E3779B1u + seed * 0x85EBCA77u;
    v ^= v >> 15; v *= 0x2C1B3C6Du;
    v ^= v >> 12; v *= 0x297A2D39u;
    return v ^ v >> 15;
}

// Channel c of pixel (x, y)
static inline int made_level(const char* kind, int H, int W, uint32_t seed, int x, int y, int c) {
    uint32_t p = (uint32_t)(y * W + x), h = hashed(3 * p + (uint32_t)c, seed);
    int columns = W > 1 ? W - 1 : 1, rows = H > 1 ? H - 1 : 1;
    switch (kind[0]) {
        case 'n': return kind[1] == 'o' ? (int)(h >> 24) : (int)(60 + 10 * c + h % (uint32_t)(50 + 20 * c));
        case 'r': return (7 * x + 13 * y + 40 * c + 29 * (int)seed) % 256;
        case 'p':
            return 10 + 3 * (x * (97 + 40 * c) / columns + y * (83 + 20 * (2 - c)) / rows) / 4 + (int)(h >> 29);
        case 'g': return (int)(hashed(p, seed) >> 24);
        case 'd': return (int)((h >> 24) * (h >> 24) / 256);
        case 'f': return (37 * (int)seed + 50 * c) % 256;
        default: return h & 1 ? 200 : 30; // two
    }
}

static inline RgbImage made_image(const char* kind, int H, int W, uint32_t seed) {
    RgbImage image = new_image(H, W);
    for (int c = 0; c < 3; c++) {
        for (int p = 0; p < H * W; p++) {
            image_plane(image, c)[p] = (uint8_t)made_level(kind, H, W, seed, p % W, p / W, c);
        }
    }
    return image;
}

static inline uint64_t fnv(uint64_t hash, const void* bytes, size_t count) { // begin with FNV_START
    for (size_t i = 0; i < count; i++) { hash = (hash ^ ((const uint8_t*)bytes)[i]) * 0x100000001B3u; }
    return hash;
}
#define FNV_START 0xCBF29CE484222325u

static inline uint64_t image_checksum(RgbImage image) { // of the pixels one after the other
    uint64_t hash = FNV_START;
    for (size_t p = 0; p < plane_bytes(image); p++) {
        for (int c = 0; c < 3; c++) { hash = fnv(hash, image_plane(image, c) + p, 1); }
    }
    return hash;
}

// The number of bytes of row y that differ from the hexadecimal digits of its pixels
static inline int differing_in_row(RgbImage image, int y, const char* digits) {
    if (strlen(digits) != (size_t)6 * image.width) { return 3 * image.width; }
    int differing = 0;
    for (int i = 0; i < 3 * image.width; i++) {
        char byte[3] = {digits[2 * i], digits[2 * i + 1], 0};
        differing += image_plane(image, i % 3)[(size_t)y * image.width + i / 3] != strtoul(byte, NULL, 16);
    }
    return differing;
}

// For a case whose line `out` or `sum` has been read: the number of bytes that differ, all of them if the size does.
// Reads on to its end.
static inline int differing_bytes(Fixtures* f, RgbImage image) {
    bool rows = strcmp(f->word[0], "out") == 0;
    int differing = 0, all = (int)(3 * plane_bytes(image));
    if (int_word(f, 1) != image.height || int_word(f, 2) != image.width) { differing = all; }
    if (!rows) {
        if (hex_word(f, 3) != image_checksum(image)) { differing += all; }
        for (int i = 4; i + 1 < f->words && !differing; i += 2) {
            differing += differing_in_row(image, int_word(f, i), f->word[i + 1]);
        }
    }
    for (int y = 0; fixtures_next(f) && strcmp(f->word[0], "end") != 0; y++) {
        if (y < image.height && !differing) { differing += differing_in_row(image, y, f->word[0]); }
    }
    return differing;
}

// Applies them, and checks that they keep to their memory.
static inline void apply_guarded(RgbImage image, const OperationList* list, const uint8_t fill[3]) {
    size_t bytes = operation_scratch(image.height, image.width);
    uint8_t* scratch = (uint8_t*)malloc(bytes + 1);
    scratch[bytes] = 0xA5;
    apply_operations(image, list, fill, scratch);
    CHECK(scratch[bytes] == 0xA5 && image.pixels[3 * plane_bytes(image)] == 0xA5,
          "operation %d of %dx%d wrote beyond its memory", (int)list->operation[0].kind, image.height, image.width);
    free(scratch);
}
