// PNG files read through libpng: palettes are expanded, transparency is dropped and the colours under it are taken as
// stored, grey is tripled, 16-bit colours are cut to their upper 8 bits, gamma and profiles are ignored.
//
// Rows come one after the other, so that those above a box are decoded too; those below it are not touched.
// 16-bit grey is refused: Pillow turns everything above 255 into white.
#pragma once
#include "image_file.h"

#ifdef HAVE_PNG
#include <png.h>

typedef struct {
    Failure failure;
    png_structp png;
    png_infop info;
    const uint8_t* next; // of the file
    size_t left;
    Room rows;
} PngReader;

static inline void png_file_fail(png_structp png, png_const_charp message) {
    failure_jump((Failure*)png_get_error_ptr(png), "is damaged (%s): fetch or copy it again", message);
}

static inline void png_file_notice(png_structp png, png_const_charp message) { (void)png, (void)message; }

static inline void png_file_give_bytes(png_structp png, png_bytep to, size_t count) {
    PngReader* r = (PngReader*)png_get_io_ptr(png);
    if (count > r->left) { failure_jump(&r->failure, "is truncated: fetch or copy it again"); }
    memcpy(to, r->next, count);
    r->next += count;
    r->left -= count;
}

// Reads up to the first bytes of the image. Chunks that do not concern stored colours are skipped, whatever they hold.
static inline ImageInfo png_file_begin(PngReader* r, const uint8_t* bytes, size_t count) {
    r->next = bytes;
    r->left = count;
    r->info = NULL;
    r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &r->failure, png_file_fail, png_file_notice);
    if (r->png) { r->info = png_create_info_struct(r->png); }
    if (!r->info) { failure_jump(&r->failure, "cannot be read: libpng does not start"); }
    png_set_read_fn(r->png, r, png_file_give_bytes);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(r->png, r->info);
    ImageInfo info = {IMAGE_PNG, (int)png_get_image_height(r->png, r->info), (int)png_get_image_width(r->png, r->info),
                      png_get_channels(r->png, r->info)};
    check_image_size(info.height, info.width, &r->failure);
    if (png_get_color_type(r->png, r->info) == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(r->png, r->info) == 16) {
        failure_jump(&r->failure, "is grey of 16 bits: convert it to 8 bits");
    }
    return info;
}

// Makes rows 3 bytes per pixel; returns whether the image comes in several passes.
static inline bool png_file_begin_rows(PngReader* r) {
    png_set_expand(r->png);
    png_set_strip_16(r->png);
    png_set_strip_alpha(r->png);
    png_set_gray_to_rgb(r->png);
    bool passes = png_set_interlace_handling(r->png) > 1;
    png_read_update_info(r->png, r->info);
    return passes;
}

static inline void png_file_read_planes(PngReader* r, ImageInfo info, Crop box, uint8_t* out) {
    size_t row_bytes = 3 * (size_t)info.width, plane = (size_t)box.height * box.width;
    bool passes = png_file_begin_rows(r);
    uint8_t* rows = room_for(&r->rows, row_bytes * (passes ? (size_t)info.height : 1), "rows of an image");
    for (int pass = 0; passes && pass < PNG_INTERLACE_ADAM7_PASSES; pass++) {
        for (int y = 0; y < info.height; y++) { png_read_row(r->png, rows + (size_t)y * row_bytes, NULL); }
    }
    for (int y = 0; y < box.top + box.height; y++) {
        if (!passes) { png_read_row(r->png, rows, NULL); }
        if (y < box.top) { continue; }
        const uint8_t* row = rows + (passes ? (size_t)y * row_bytes : 0);
        planes_from_rgb(out + (size_t)(y - box.top) * box.width, plane, row + 3 * (size_t)box.left, box.width);
    }
}

static inline bool png_file_info(PngReader* r, ImageInfo* info, const uint8_t* bytes, size_t count, Error* err) {
    r->failure.err = err;
    if (setjmp(r->failure.begin) != 0) {
        png_destroy_read_struct(&r->png, &r->info, NULL);
        return false;
    }
    *info = png_file_begin(r, bytes, count);
    png_destroy_read_struct(&r->png, &r->info, NULL);
    return true;
}

// out (3, box.height, box.width)
static inline bool png_file_read_box(PngReader* r, const uint8_t* bytes, size_t count, Crop box, uint8_t* out,
                                     Error* err) {
    r->failure.err = err;
    if (setjmp(r->failure.begin) != 0) {
        png_destroy_read_struct(&r->png, &r->info, NULL);
        return false;
    }
    ImageInfo info = png_file_begin(r, bytes, count);
    check_box(box, info, &r->failure);
    png_file_read_planes(r, info, box, out);
    png_destroy_read_struct(&r->png, &r->info, NULL);
    return true;
}

#else

typedef struct { Room rows; } PngReader;

static inline bool png_file_info(PngReader* r, ImageInfo* info, const uint8_t* bytes, size_t count, Error* err) {
    (void)r, (void)info, (void)bytes, (void)count;
    return set_error(err, "is a PNG, which this build does not read: install libpng-dev, and build again");
}

static inline bool png_file_read_box(PngReader* r, const uint8_t* bytes, size_t count, Crop box, uint8_t* out,
                                     Error* err) {
    (void)box, (void)out;
    return png_file_info(r, NULL, bytes, count, err);
}

#endif
