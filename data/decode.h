// The pixels of any box of a JPEG or PNG file, planar, as Pillow's open(...).convert("RGB") gives them.
//
//   ImageInfo info;
//   Decoder* decoder = decoder_create();            // one a thread
//   if (!image_info(&info, bytes, count, &err)) { ... }
//   if (!decode_box(decoder, bytes, count, whole_image(info), pixels, &err)) { ... }
//
// Errors continue a sentence that begins with the file's name: "is truncated". A truncated file is refused if what is
// missing is wanted: a box above it can be read. (If a JPEG lacks just its last two bytes, in most files the last row
// is refused.) Damage that the format does not reveal goes unnoticed.
#pragma once
#include "jpeg_file.h"
#include "png_file.h"

enum { KEPT_ROWS = 1 << 20 }; // at most so many bytes of rows are kept for the next file

typedef struct {
    JpegReader jpeg;
    PngReader png;
} Decoder;

static inline Decoder* decoder_create(void) { return alloc_array(Decoder, 1, "a decoder"); }

static inline void decoder_free(Decoder* d) {
    room_free(&d->jpeg.rows);
    room_free(&d->png.rows);
    free(d);
}

// Of the header alone
static inline bool image_info(ImageInfo* info, const uint8_t* bytes, size_t count, Error* err) {
    Decoder d = {};
    ImageFormat format;
    *info = (ImageInfo){};
    if (!image_format(&format, bytes, count, err)) { return false; }
    return format == IMAGE_JPEG ? jpeg_file_info(&d.jpeg, info, bytes, count, err)
                                : png_file_info(&d.png, info, bytes, count, err);
}

static inline Crop whole_image(ImageInfo info) { return (Crop){0, 0, info.height, info.width}; }

// out (3, box.height, box.width): red, green, blue
static inline bool decode_box(Decoder* d, const uint8_t* bytes, size_t count, Crop box, uint8_t* out, Error* err) {
    ImageFormat format;
    if (!image_format(&format, bytes, count, err)) { return false; }
    if (format == IMAGE_JPEG) { return jpeg_file_read_box(&d->jpeg, bytes, count, box, out, err); }
    bool ok = png_file_read_box(&d->png, bytes, count, box, out, err);
    if (d->png.rows.size > KEPT_ROWS) { room_free(&d->png.rows); } // all rows of an interlaced image
    return ok;
}
