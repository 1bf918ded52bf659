// JPEG and PNG files of any kind, for tests, made through libjpeg and libpng.
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Value of channel c at (x, y): slopes, edges and grain
static inline uint8_t picture(int x, int y, int c) {
    uint32_t grain = (uint32_t)(x * 73 + y * 151 + c * 311 + 1) * 0x9E3779B1u;
    grain = (grain ^ grain >> 15) * 0x2C1B3C6Du;
    int edge = (x / 11 + y / 7 * 3 + c) % 5 == 0 ? 90 : 0;
    return (uint8_t)((x * (3 + c) + y * (5 - c)) / 4 % 150 + edge + (int)(grain >> 28));
}

#ifdef HAVE_JPEG
#include <jpeglib.h>

typedef struct {
    int height, width, components, quality;
    int horizontal, vertical;   // sampling of the first component; that of the others is 1
    int restart;                // MCUs between restart markers; 0: none
    bool progressive, arithmetic, optimized;
    bool without_tables;        // Huffman tables are left out
    const jpeg_scan_info* scans;
    int scan_count;
} JpegKind;

static inline void set_jpeg_kind(j_compress_ptr j, const JpegKind* kind) {
    j->image_height = (JDIMENSION)kind->height;
    j->image_width = (JDIMENSION)kind->width;
    j->input_components = kind->components;
    j->in_color_space = kind->components == 1 ? JCS_GRAYSCALE : kind->components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, kind->quality, TRUE);
    j->comp_info[0].h_samp_factor = kind->horizontal;
    j->comp_info[0].v_samp_factor = kind->vertical;
    j->restart_interval = (unsigned)kind->restart;
    j->arith_code = kind->arithmetic;
    j->optimize_coding = kind->optimized;
    if (kind->progressive) { jpeg_simple_progression(j); }
    if (kind->scans) {
        j->scan_info = kind->scans;
        j->num_scans = kind->scan_count;
    }
}

// The picture as such a file; the caller frees it
static inline uint8_t* make_jpeg(const JpegKind* kind, size_t* count) {
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    uint8_t *bytes = NULL, *row = malloc((size_t)kind->width * kind->components);
    unsigned long size = 0;
    j.err = jpeg_std_error(&errors);
    jpeg_create_compress(&j);
    jpeg_mem_dest(&j, &bytes, &size);
    set_jpeg_kind(&j, kind);
    for (int k = 0; k < 2 && kind->without_tables; k++) {
        j.dc_huff_tbl_ptrs[k]->sent_table = j.ac_huff_tbl_ptrs[k]->sent_table = TRUE;
    }
    jpeg_start_compress(&j, FALSE);
    for (int y = 0; y < kind->height; y++) {
        for (int x = 0; x < kind->width; x++) {
            for (int c = 0; c < kind->components; c++) { row[x * kind->components + c] = picture(x, y, c); }
        }
        jpeg_write_scanlines(&j, &row, 1);
    }
    jpeg_finish_compress(&j);
    jpeg_destroy_compress(&j);
    free(row);
    *count = size;
    return bytes;
}
#endif

#ifdef HAVE_PNG
#include <png.h>

typedef struct {
    int height, width, colour, depth; // PNG_COLOR_TYPE_..., bits a channel
    bool passes;                      // Adam7
} PngKind;

typedef struct { uint8_t* bytes; size_t count; } PngBytes;

static inline void keep_png_bytes(png_structp png, png_bytep bytes, size_t count) {
    PngBytes* out = png_get_io_ptr(png);
    out->bytes = realloc(out->bytes, out->count + count);
    memcpy(out->bytes + out->count, bytes, count);
    out->count += count;
}

static inline int png_channels(int colour) {
    bool three = (colour & PNG_COLOR_MASK_COLOR) && !(colour & PNG_COLOR_MASK_PALETTE);
    return (three ? 3 : 1) + (colour & PNG_COLOR_MASK_ALPHA ? 1 : 0);
}

// The stored value of channel c at (x, y); palettes have 16 colours, or as many as the bits allow
static inline int png_sample(const PngKind* kind, int x, int y, int c) {
    int value = picture(x, y, c);
    if (kind->colour == PNG_COLOR_TYPE_PALETTE) { return value >> (kind->depth >= 4 ? 4 : 8 - kind->depth); }
    return kind->depth == 16 ? value << 8 | (255 - value) : value >> (8 - kind->depth);
}

static inline png_color palette_colour(int index) {
    return (png_color){(uint8_t)(index * 17), (uint8_t)(255 - index * 7), (uint8_t)(index * index)};
}

static inline void write_png_row(png_structp png, const PngKind* kind, int y, uint8_t* row, size_t row_bytes) {
    int channels = png_channels(kind->colour);
    memset(row, 0, row_bytes);
    for (int k = 0; k < kind->width * channels; k++) {
        int sample = png_sample(kind, k / channels, y, k % channels), bit = k * kind->depth;
        if (kind->depth == 16) {
            row[2 * k] = (uint8_t)(sample >> 8);
            row[2 * k + 1] = (uint8_t)sample;
        } else {
            row[bit / 8] |= (uint8_t)(sample << (8 - kind->depth - bit % 8));
        }
    }
    png_write_row(png, row);
}

// The picture as such a file; the caller frees it
static inline uint8_t* make_png(const PngKind* kind, size_t* count) {
    PngBytes out = {0};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &out, keep_png_bytes, NULL);
    png_set_IHDR(png, info, (png_uint_32)kind->width, (png_uint_32)kind->height, kind->depth, kind->colour,
                 kind->passes ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (kind->colour == PNG_COLOR_TYPE_PALETTE) {
        png_color palette[16];
        int colours = kind->depth >= 4 ? 16 : 1 << kind->depth;
        for (int i = 0; i < colours; i++) { palette[i] = palette_colour(i); }
        png_set_PLTE(png, info, palette, colours);
        png_set_tRNS(png, info, (const uint8_t[]){0, 100}, 2, NULL);
    }
    png_write_info(png, info);
    size_t row_bytes = png_get_rowbytes(png, info);
    uint8_t* row = malloc(row_bytes);
    int passes = png_set_interlace_handling(png);
    for (int y = 0; y < passes * kind->height; y++) { write_png_row(png, kind, y % kind->height, row, row_bytes); }
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(row);
    *count = out.count;
    return out.bytes;
}
#endif
