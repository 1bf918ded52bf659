// The file of one image: its bytes from disk, its format by the first of them, whatever its name says, and what its
// readers share (jpeg_file.h, png_file.h). Pixels are planar, as Pillow's open(...).convert("RGB") gives them.
//
// libjpeg and libpng report an error by a call that must not return: it writes the sentence and jumps back to where the
// reader began. Sentences continue after the file's name, which the caller knows.
#pragma once
#include "../runtime/inlining.h"
#include "dataset.h"
#include "resample.h"
#include <setjmp.h>
#include <strings.h>

enum { MAX_IMAGE_PIXELS = 89478485 }; // where Pillow begins to warn of decompression bombs

// ---- on disk

static inline bool has_extension(const char* name, const char* extension) {
    size_t length = strlen(name), end = strlen(extension);
    return length > end && strcasecmp(name + length - end, extension) == 0;
}

// The extensions that are looked for in folders
static inline bool is_image_name(const char* name) {
    return has_extension(name, ".jpg") || has_extension(name, ".jpeg") || has_extension(name, ".png");
}

static inline bool read_descriptor(int descriptor, uint64_t offset, uint64_t count, uint8_t** bytes, Error* err) {
    if (count > UINT32_MAX / 2) { return set_error(err, "has %.1f GB, more than any image", (double)count / 1e9); }
    *bytes = (uint8_t*)malloc(count + 1);
    if (!*bytes) { return set_error(err, "takes more memory than there is: %.1f MB", (double)count / 1e6); }
    ssize_t got = read_at(descriptor, *bytes, count, offset);
    if (got == (ssize_t)count) { return true; }
    return set_error(err, "cannot be read: %s", got < 0 ? strerror(errno) : "it became shorter meanwhile");
}

// To be freed, also if err says why they are incomplete. A fifo is not waited for.
static inline bool read_image_file(const char* path, uint8_t** bytes, size_t* count, Error* err) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    *bytes = NULL;
    if (descriptor < 0) { return set_error(err, "cannot be opened: %s", strerror(errno)); }
    bool ok = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    *count = (size_t)status.st_size;
    ok = ok ? read_descriptor(descriptor, 0, *count, bytes, err) : set_error(err, "is not a regular file");
    close(descriptor);
    return ok;
}

// ---- in memory

typedef enum { IMAGE_JPEG, IMAGE_PNG } ImageFormat;

typedef struct {
    ImageFormat format;
    int height, width;
    int components; // as stored. 1: grey, or a PNG's palette; 2: grey and alpha; 3; 4: CMYK, or a PNG with alpha
} ImageInfo;

typedef struct {
    jmp_buf begin;
    Error* err;
} Failure;

__attribute__((noreturn, format(printf, 2, 3)))
NEVER_INLINE void failure_jump(Failure* f, const char* format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(f->err->text, sizeof f->err->text, format, args);
    va_end(args);
    hide_control_characters(f->err->text);
    longjmp(f->begin, 1);
}

static inline void check_image_size(int64_t height, int64_t width, Failure* failure) {
    bool small = height <= MAX_IMAGE_SIDE && width <= MAX_IMAGE_SIDE && height * width <= MAX_IMAGE_PIXELS;
    if (height < 1 || width < 1 || !small) {
        failure_jump(failure, "has %lld x %lld pixels, and at most %d on a side and %d million in all are read: make "
                     "it smaller", (long long)width, (long long)height, MAX_IMAGE_SIDE, MAX_IMAGE_PIXELS / 1000000);
    }
}

static inline void check_box(Crop box, ImageInfo info, Failure* failure) {
    if (box.top < 0 || box.left < 0 || box.height < 1 || box.width < 1 || box.height > info.height - box.top
        || box.width > info.width - box.left) {
        failure_jump(failure, "has %d x %d pixels, and %d x %d from (%d, %d) on are wanted: make its index again",
                     info.width, info.height, box.width, box.height, box.left, box.top);
    }
}

// ---- one row into planes; out: its place in the first of them

static inline void planes_from_grey(uint8_t* out, size_t plane, const uint8_t* in, int width) {
    for (int c = 0; c < 3; c++) { memcpy(out + c * plane, in, (size_t)width); }
}

static inline void planes_from_rgb(uint8_t* out, size_t plane, const uint8_t* __restrict in, int width) {
    uint8_t *__restrict red = out, *__restrict green = out + plane, *__restrict blue = out + 2 * plane;
    for (int x = 0; x < width; x++) {
        red[x] = in[3 * x];
        green[x] = in[3 * x + 1];
        blue[x] = in[3 * x + 2];
    }
}

// in holds ink as JPEGs store it, 255 - ink: black k takes its share of what the other inks leave, rounded as by
// Pillow.
static inline void planes_from_cmyk(uint8_t* out, size_t plane, const uint8_t* __restrict in, int width) {
    for (int c = 0; c < 3; c++) {
        uint8_t* __restrict to = out + c * plane;
        for (int x = 0; x < width; x++) {
            int k = in[4 * x + 3], product = (255 - in[4 * x + c]) * k + 128;
            int value = k - ((product + (product >> 8)) >> 8);
            to[x] = (uint8_t)(value < 0 ? 0 : value);
        }
    }
}

// ---- formats

typedef struct { const char* magic; size_t length, offset; const char* name; } ForeignImage;
static const ForeignImage foreign_images[] = {
    {"GIF8", 4, 0, "a GIF image"}, {"WEBP", 4, 8, "a WebP image"}, {"BM", 2, 0, "a BMP image"},
    {"II*\0", 4, 0, "a TIFF image"}, {"MM\0*", 4, 0, "a TIFF image"}, {"ftypavif", 8, 4, "an AVIF image"},
    {"ftyphei", 7, 4, "an HEIC image"}, {"\xff\x0a", 2, 0, "a JPEG XL image"},
    {"\0\0\0\x0cJXL ", 8, 0, "a JPEG XL image"}, {"\0\0\0\x0cjP  ", 8, 0, "a JPEG 2000 image"},
};

static inline bool has_magic(const uint8_t* bytes, size_t count, const char* magic, size_t length, size_t offset) {
    return offset + length <= count && memcmp(bytes + offset, magic, length) == 0;
}

static inline bool image_format(ImageFormat* format, const uint8_t* bytes, size_t count, Error* err) {
    bool png = has_magic(bytes, count, "\x89PNG", 4, 0);
    *format = png ? IMAGE_PNG : IMAGE_JPEG;
    if (png || has_magic(bytes, count, "\xff\xd8\xff", 3, 0)) { return true; }
    if (count == 0) { return set_error(err, "is empty: fetch or copy it again"); }
    for (size_t i = 0; i < sizeof foreign_images / sizeof foreign_images[0]; i++) {
        const ForeignImage* f = &foreign_images[i];
        if (has_magic(bytes, count, f->magic, f->length, f->offset)) {
            return set_error(err, "is %s: convert it to JPEG or PNG", f->name);
        }
    }
    return set_error(err, "is neither a JPEG nor a PNG by its first bytes: take it out, or fetch it again");
}
