// What a set's report says about single images: odd ones that some readers cannot handle, and those that could not be
// read.
#pragma once
#include "../runtime/choices.h"
#include "decode.h"

// X(constant, what it is, whether such images are named one by one)
#define ODD_KINDS(X) \
    X(ODD_FAILED, "not read", true) \
    X(ODD_PNG, "PNG under a JPEG's name", true) \
    X(ODD_JPEG, "JPEG under a PNG's name", true) \
    X(ODD_CMYK, "CMYK", true) \
    X(ODD_SHAPE, "extreme shape", true) \
    X(ODD_GREY, "grey", false) \
    X(ODD_PROGRESSIVE, "progressive", false) \
    X(ODD_TURNED, "with an EXIF orientation, which is not followed", false)
#define ODD_NAMED(constant, what, named) named,
typedef enum { ODD_KINDS(CHOICE_CONSTANT) ODD_KIND_COUNT } OddKind;
static const char* const odd_names[] = {ODD_KINDS(CHOICE_NAME)};
static const bool odd_named[] = {ODD_KINDS(ODD_NAMED)};

enum { EXTREME_RATIO = 8, EXTREME_SIDE = 3000 };

// ---- What a JPEG has before its pixels

typedef struct { bool progressive; int orientation; } JpegMarks; // orientation: EXIF's; 1 if there is none

static inline unsigned exif_number(const uint8_t* p, int bytes, bool big) {
    unsigned value = 0;
    for (int i = 0; i < bytes; i++) { value = value << 8 | p[big ? i : bytes - 1 - i]; }
    return value;
}

// From an EXIF segment: "Exif\0\0", then a TIFF with its byte order and the place of its first directory, 12 bytes per
// entry
static inline int exif_orientation(const uint8_t* segment, size_t count) {
    enum { HEAD = 6, TIFF_HEAD = 8, ENTRY = 12, ORIENTATION = 0x0112 };
    if (count < HEAD + TIFF_HEAD + 2 || memcmp(segment, "Exif\0", HEAD) != 0) { return 1; }
    const uint8_t* tiff = segment + HEAD;
    size_t bytes = count - HEAD;
    bool big = tiff[0] == 'M';
    size_t at = exif_number(tiff + 4, 4, big);
    if (at > bytes - 2) { return 1; }
    unsigned entries = exif_number(tiff + at, 2, big);
    at += 2;
    for (unsigned i = 0; i < entries && at + ENTRY <= bytes; i++, at += ENTRY) {
        if (exif_number(tiff + at, 2, big) != ORIENTATION) { continue; }
        unsigned value = exif_number(tiff + at + 8, 2, big);
        return value >= 2 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

static inline JpegMarks jpeg_marks(const uint8_t* bytes, size_t count) {
    JpegMarks marks = {false, 1};
    for (size_t at = 2; at + 4 <= count;) {
        if (bytes[at] != 0xFF) { at++; continue; }
        uint8_t marker = bytes[at + 1];
        if (marker == 0xFF || marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8)) { at++; continue; }
        size_t length = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
        bool frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
        if (frame) { marks.progressive = marker == 0xC2 || marker == 0xC6 || marker == 0xCA || marker == 0xCE; }
        if (frame || marker == 0xDA || marker == 0xD9) { break; }
        if (marker == 0xE1 && length >= 2 && at + 2 + length <= count && marks.orientation == 1) {
            marks.orientation = exif_orientation(bytes + at + 4, length - 2);
        }
        at += 2 + length;
    }
    return marks;
}

// ---- kinds as bits

static inline bool extreme_shape(int height, int width) {
    int longer = height > width ? height : width, shorter = height + width - longer;
    return longer > EXTREME_SIDE || longer >= EXTREME_RATIO * shorter;
}

// grey: all three colours agree, as far as that is known
static inline unsigned odd_kinds(ImageInfo info, JpegMarks marks, bool png_name, bool grey) {
    bool png = info.format == IMAGE_PNG;
    unsigned kinds = (unsigned)(png && !png_name) << ODD_PNG | (unsigned)(!png && png_name) << ODD_JPEG;
    kinds |= (unsigned)(!png && info.components == 4) << ODD_CMYK | (unsigned)grey << ODD_GREY;
    kinds |= (unsigned)extreme_shape(info.height, info.width) << ODD_SHAPE;
    return kinds | (unsigned)marks.progressive << ODD_PROGRESSIVE | (unsigned)(marks.orientation != 1) << ODD_TURNED;
}
