// JPEG files read and written through libjpeg-turbo.
//
// Reading: accurate integer IDCT, fancy upsampling, the default colour space; grey three times; CMYK and YCCK always
// inverted. EXIF, its orientation and ICC profiles are ignored. Only one of libjpeg's warnings counts: that the file
// ends while pixels are still wanted.
//
// Above a box and beside it, only the entropy code is decoded; what lies below is not touched. Fancy upsampling treats
// the first and last decoded column as the image's edges, so one more is decoded on either side. Rows need none:
// libjpeg decodes the chroma above and below that it upsamples from.
#pragma once
#include "image_file.h"

typedef struct {
    int quality;     // 1..100
    bool subsampled; // colours at half the resolution in both directions (4:2:0), else 4:4:4
    bool optimized;  // Huffman tables of its own: about 3 % smaller, and slower to write
} JpegOptions;

typedef struct { uint8_t* bytes; size_t count, room; } JpegBuffer; // zeros at first; it grows; free its bytes

#ifdef HAVE_JPEG
#include <jpeglib.h>
#include <jerror.h>

enum {
    JPEG_ROWS = 8,          // a call
    JPEG_COLUMNS = 8,       // or more; with fewer than three samples of chroma, upsampling is a plainer one
    JPEG_MEGABYTES = 512,   // of libjpeg's own: all coefficients of a progressive file are kept
    JPEG_MAX_SCANS = 100,   // encoders make about ten; each goes through the whole image, however few its bytes are
};

typedef struct {
    Failure failure;
    struct jpeg_decompress_struct j;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    Room rows;
    uint8_t* row[JPEG_ROWS]; // in it
} JpegReader;

// ---- errors

static inline void jpeg_file_fail(j_common_ptr j) {
    char message[JMSG_LENGTH_MAX];
    Failure* failure = (Failure*)j->client_data;
    if (j->err->msg_code == JERR_OUT_OF_MEMORY || j->err->msg_code == JERR_NO_BACKING_STORE) {
        failure_jump(failure, "takes more than %d MB to decode, or than there is: make it smaller, or not progressive",
                     JPEG_MEGABYTES);
    }
    j->err->format_message(j, message);
    failure_jump(failure, "cannot be %s (%s)", j->is_decompressor ? "decoded" : "written as JPEG", message);
}

static inline void jpeg_file_notice(j_common_ptr j, int level) {
    if (level == -1 && j->err->msg_code == JWRN_JPEG_EOF) {
        failure_jump((Failure*)j->client_data, "is truncated: fetch or copy it again");
    }
}

static inline struct jpeg_error_mgr* jpeg_file_error_calls(struct jpeg_error_mgr* errors) {
    jpeg_std_error(errors);
    errors->error_exit = jpeg_file_fail;
    errors->emit_message = jpeg_file_notice;
    return errors;
}

static inline void jpeg_file_count_scans(j_common_ptr j) {
    if (j->is_decompressor && ((j_decompress_ptr)j)->input_scan_number > JPEG_MAX_SCANS) {
        failure_jump((Failure*)j->client_data, "has more than %d scans: save it again", JPEG_MAX_SCANS);
    }
}

// ---- reading

// Reads up to the first scan. Every file gets a new object: otherwise the tables of the last file would replace those
// that a damaged one lacks.
static inline ImageInfo jpeg_file_begin(JpegReader* r, const uint8_t* bytes, size_t count) {
    j_decompress_ptr j = &r->j;
    j->client_data = &r->failure;
    j->err = jpeg_file_error_calls(&r->errors);
    jpeg_create_decompress(j);
    j->mem->max_memory_to_use = JPEG_MEGABYTES * 1000000L;
    r->progress.progress_monitor = jpeg_file_count_scans;
    j->progress = &r->progress;
    jpeg_mem_src(j, bytes, (unsigned long)count);
    jpeg_read_header(j, TRUE);
    check_image_size(j->image_height, j->image_width, &r->failure);
    if (j->num_components != 1 && j->num_components != 3 && j->num_components != 4) {
        failure_jump(&r->failure, "has %d components, which is neither grey, RGB nor CMYK", j->num_components);
    }
    return (ImageInfo){IMAGE_JPEG, (int)j->image_height, (int)j->image_width, j->num_components};
}

// Whether a progressive file lacks scans, so that libjpeg estimates their contents from neighbouring blocks
static inline bool jpeg_file_estimates(j_decompress_ptr j) {
    bool complete = true;
    for (int c = 0; c < j->num_components && j->progressive_mode && j->coef_bits; c++) {
        for (int k = 0; k < DCTSIZE2; k++) { complete &= j->coef_bits[c][k] == 0; }
    }
    return !complete;
}

// Makes space for JPEG_ROWS decoded rows.
static inline void jpeg_file_row_places(JpegReader* r) {
    size_t row_bytes = (size_t)r->j.output_width * r->j.output_components;
    uint8_t* bytes = room_for(&r->rows, JPEG_ROWS * row_bytes, "rows of an image");
    for (int k = 0; k < JPEG_ROWS; k++) { r->row[k] = bytes + k * row_bytes; }
}

static inline int jpeg_file_next_rows(JpegReader* r, int most) {
    return (int)jpeg_read_scanlines(&r->j, r->row, (JDIMENSION)(most < JPEG_ROWS ? most : JPEG_ROWS));
}

// Sets the columns to decode for the box; libjpeg moves their left end to the start of a block, which is returned.
static inline int jpeg_file_crop(j_decompress_ptr j, Crop box) {
    int width = (int)j->output_width, left = box.left - 1, right = box.left + box.width + 1;
    if (left > width - JPEG_COLUMNS) { left = width - JPEG_COLUMNS; }
    if (left < 0) { left = 0; }
    if (right < left + JPEG_COLUMNS) { right = left + JPEG_COLUMNS; }
    if (right > width) { right = width; }
    JDIMENSION first = (JDIMENSION)left, columns = (JDIMENSION)(right - left);
    if (right - left < width) { jpeg_crop_scanline(j, &first, &columns); }
    return (int)first;
}

// Gets ready to read the box's first row; returns the column of such rows at which the box begins.
static inline int jpeg_file_begin_box(JpegReader* r, Crop box) {
    j_decompress_ptr j = &r->j;
    j->out_color_space = j->num_components == 1 ? JCS_GRAYSCALE : j->num_components == 3 ? JCS_RGB : JCS_CMYK;
    j->dct_method = JDCT_ISLOW;
    j->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(j);
    if (jpeg_file_estimates(j)) { // it would treat the box's edges as the image's, so all is decoded
        jpeg_file_row_places(r);
        for (int y = 0; y < box.top;) { y += jpeg_file_next_rows(r, box.top - y); }
        return box.left;
    }
    int first = jpeg_file_crop(j, box);
    if (box.top > 0) { jpeg_skip_scanlines(j, (JDIMENSION)box.top); }
    jpeg_file_row_places(r);
    return box.left - first;
}

static inline void jpeg_file_read_planes(JpegReader* r, Crop box, int left, uint8_t* out) {
    size_t components = (size_t)r->j.output_components, plane = (size_t)box.height * box.width;
    for (int y = 0; y < box.height;) {
        int got = jpeg_file_next_rows(r, box.height - y);
        for (int k = 0; k < got; k++, y++) {
            const uint8_t* row = r->row[k] + left * components;
            uint8_t* to = out + (size_t)y * box.width;
            if (components == 1) { planes_from_grey(to, plane, row, box.width); }
            if (components == 3) { planes_from_rgb(to, plane, row, box.width); }
            if (components == 4) { planes_from_cmyk(to, plane, row, box.width); }
        }
    }
}

static inline bool jpeg_file_info(JpegReader* r, ImageInfo* info, const uint8_t* bytes, size_t count, Error* err) {
    r->failure.err = err;
    if (setjmp(r->failure.begin) != 0) {
        jpeg_destroy_decompress(&r->j);
        return false;
    }
    *info = jpeg_file_begin(r, bytes, count);
    jpeg_destroy_decompress(&r->j);
    return true;
}

// out (3, box.height, box.width)
static inline bool jpeg_file_read_box(JpegReader* r, const uint8_t* bytes, size_t count, Crop box, uint8_t* out,
                                      Error* err) {
    r->failure.err = err;
    if (setjmp(r->failure.begin) != 0) {
        jpeg_destroy_decompress(&r->j);
        return false;
    }
    check_box(box, jpeg_file_begin(r, bytes, count), &r->failure);
    int left = jpeg_file_begin_box(r, box);
    jpeg_file_read_planes(r, box, left, out);
    jpeg_destroy_decompress(&r->j);
    return true;
}

// ---- writing

typedef struct {
    Failure failure;
    struct jpeg_compress_struct j;
    struct jpeg_error_mgr errors;
    struct jpeg_destination_mgr destination;
    JpegBuffer* out;
    Room rows;
} JpegWriter;

static inline void jpeg_file_writer_room(JpegWriter* w, size_t room) {
    uint8_t* grown = (uint8_t*)realloc(w->out->bytes, room);
    if (!grown) { failure_jump(&w->failure, "takes more memory than there is: %.1f MB", (double)room / 1e6); }
    w->out->bytes = grown;
    w->out->room = room;
}

static inline void jpeg_file_output_begin(j_compress_ptr j) {
    JpegWriter* w = (JpegWriter*)((char*)j - offsetof(JpegWriter, j));
    if (w->out->room == 0) { jpeg_file_writer_room(w, 1 << 16); }
    w->destination.next_output_byte = w->out->bytes;
    w->destination.free_in_buffer = w->out->room;
}

static inline boolean jpeg_file_output_full(j_compress_ptr j) {
    JpegWriter* w = (JpegWriter*)((char*)j - offsetof(JpegWriter, j));
    size_t full = w->out->room;
    jpeg_file_writer_room(w, 2 * full);
    w->destination.next_output_byte = w->out->bytes + full;
    w->destination.free_in_buffer = full;
    return TRUE;
}

static inline void jpeg_file_output_end(j_compress_ptr j) {
    JpegWriter* w = (JpegWriter*)((char*)j - offsetof(JpegWriter, j));
    w->out->count = w->out->room - w->destination.free_in_buffer;
}

static inline void jpeg_file_writer_begin(JpegWriter* w, ImageView in, JpegOptions options) {
    j_compress_ptr j = &w->j;
    j->client_data = &w->failure;
    j->err = jpeg_file_error_calls(&w->errors);
    jpeg_create_compress(j);
    w->destination.init_destination = jpeg_file_output_begin;
    w->destination.empty_output_buffer = jpeg_file_output_full;
    w->destination.term_destination = jpeg_file_output_end;
    j->dest = &w->destination;
    j->image_height = (JDIMENSION)in.height;
    j->image_width = (JDIMENSION)in.width;
    j->input_components = in.channels;
    j->in_color_space = in.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(j); // baseline, 4:2:0, the standard's Huffman tables
    jpeg_set_quality(j, options.quality, TRUE);
    j->dct_method = JDCT_ISLOW;
    j->optimize_coding = options.optimized;
    if (!options.subsampled) { j->comp_info[0].h_samp_factor = j->comp_info[0].v_samp_factor = 1; }
}

static inline void jpeg_file_write_rows(JpegWriter* w, ImageView in) {
    uint8_t* row = room_for(&w->rows, (size_t)in.channels * in.width, "a row of an image");
    jpeg_start_compress(&w->j, TRUE);
    for (int y = 0; y < in.height; y++) {
        const uint8_t* from = in.pixels + y * in.row_stride;
        for (int x = 0; x < in.width; x++) {
            for (int c = 0; c < in.channels; c++) { row[x * in.channels + c] = from[c * in.plane_stride + x]; }
        }
        jpeg_write_scanlines(&w->j, &row, 1);
    }
    jpeg_finish_compress(&w->j);
}

static inline bool jpeg_file_write(JpegWriter* w, ImageView in, JpegOptions options, Error* err) {
    w->failure.err = err;
    if (setjmp(w->failure.begin) != 0) {
        jpeg_destroy_compress(&w->j);
        return false;
    }
    jpeg_file_writer_begin(w, in, options);
    jpeg_file_write_rows(w, in);
    jpeg_destroy_compress(&w->j);
    return true;
}

// in: 1 channel (a grey file) or 3. The same libjpeg-turbo writes the same bytes everywhere.
static inline bool encode_jpeg(JpegBuffer* out, ImageView in, JpegOptions options, Error* err) {
    JpegWriter w = {.out = out};
    bool ok = jpeg_file_write(&w, in, options, err);
    room_free(&w.rows);
    return ok;
}

#define JPEG_TEXT(x) #x
#define JPEG_VALUE(x) JPEG_TEXT(x)
#define JPEG_LIBRARY "libjpeg-turbo " JPEG_VALUE(LIBJPEG_TURBO_VERSION)

// For the header of an index
static inline void jpeg_encoder_text(char* text, size_t room, JpegOptions options) {
    snprintf(text, room, "%s, quality %d, %s%s", JPEG_LIBRARY, options.quality, options.subsampled ? "4:2:0" : "4:4:4",
             options.optimized ? ", optimized" : "");
}

#else

typedef struct { Room rows; } JpegReader;

static inline bool jpeg_file_info(JpegReader* r, ImageInfo* info, const uint8_t* bytes, size_t count, Error* err) {
    (void)r, (void)info, (void)bytes, (void)count;
    return set_error(err, "is a JPEG, which this build does not read: install libjpeg-dev (libjpeg-turbo), and build "
                     "again");
}

static inline bool jpeg_file_read_box(JpegReader* r, const uint8_t* bytes, size_t count, Crop box, uint8_t* out,
                                      Error* err) {
    (void)box, (void)out;
    return jpeg_file_info(r, NULL, bytes, count, err);
}

static inline bool encode_jpeg(JpegBuffer* out, ImageView in, JpegOptions options, Error* err) {
    (void)out, (void)in, (void)options;
    return set_error(err, "this build writes no JPEG files: install libjpeg-dev (libjpeg-turbo), and build again");
}

static inline void jpeg_encoder_text(char* text, size_t room, JpegOptions options) {
    (void)options;
    snprintf(text, room, "%s", "");
}

#endif
