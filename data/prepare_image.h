// One image on its way into a shard: read, decoded as a whole (which finds damage, and gives its size and the sums for
// mean and deviation), and, if a shorter side is asked for, resized to it and written anew.
//
// A baseline JPEG that is not larger than that, grey or of three colours, keeps its bytes; other images that are not
// larger are written anew at their own size. Nothing is enlarged. Sums are over the pixels that the written bytes
// decode to.
#pragma once
#include "../runtime/crc32.h"
#include "augment.h"
#include "odd_images.h"
#include "plan.h"
#include <pthread.h>

enum { LARGE_PIXELS = 1 << 24, KEPT_BYTES = 1 << 26 };

typedef struct {
    uint64_t pixels, sums[3], squares[3]; // of the values of each colour
} PixelSums;

// What became of an image. bytes: to be written, and freed by the owner of the result
typedef struct {
    uint8_t* bytes;
    ShardRecord record;      // its shard and place there are not known yet
    PixelSums sums;
    int height, width;       // as it came
    unsigned kinds;          // bits of OddKind; ODD_FAILED: nothing else is set
    char key[MEMBER_KEY_BYTES], from[512], reason[256];
    bool png;                // its name in the shard ends in .png
    uint64_t place;          // in its archive
    double units;
} PreparedImage;

// What each worker has for itself
typedef struct {
    Decoder* decoder;
    Room pixels, scaled, scratch;
    InputImage image;
} ImageWorker;

static inline void image_worker_free(ImageWorker* w) {
    if (w->decoder) { decoder_free(w->decoder); }
    room_free(&w->pixels);
    room_free(&w->scaled);
    room_free(&w->scratch);
}

// ---- reading

// The file's bytes, to be freed, also if err says why they are incomplete
static inline bool read_image(const InputImage* image, uint8_t** bytes, size_t* count, Error* err) {
    *bytes = NULL;
    *count = image->bytes;
    if (image->descriptor >= 0) { return read_descriptor(image->descriptor, image->offset, image->bytes, bytes, err); }
    return read_image_file(image->path, bytes, count, err);
}

// ---- pixels

static inline bool decode_whole(ImageWorker* w, const uint8_t* bytes, size_t count, ImageInfo info, Error* err) {
    uint8_t* pixels = room_for(&w->pixels, 3 * (size_t)info.height * info.width, "an image");
    return decode_box(w->decoder, bytes, count, whole_image(info), pixels, err);
}

static inline PixelSums measure(const uint8_t* pixels, int height, int width) {
    PixelSums s = {(uint64_t)height * width, {0}, {0}};
    for (int c = 0; c < 3; c++) { pixel_sums(pixels + c * s.pixels, s.pixels, &s.sums[c], &s.squares[c]); }
    return s;
}

static inline bool planes_agree(const uint8_t* pixels, ImageInfo info) {
    size_t plane = (size_t)info.height * info.width;
    return memcmp(pixels, pixels + plane, plane) == 0 && memcmp(pixels, pixels + 2 * plane, plane) == 0;
}

// ---- the shorter side

static inline bool keeps_bytes(ImageInfo info, JpegMarks marks, int side) {
    bool small = side == 0 || info.height <= side || info.width <= side;
    bool plain = info.format == IMAGE_JPEG && info.components != 4 && !marks.progressive;
    return side == 0 || (small && plain);
}

// Resizes w->pixels to the shorter side, if it is larger.
static inline ImageView shrink(ImageWorker* w, ImageInfo info, int side, bool grey) {
    int channels = grey ? 1 : 3;
    ImageView in = view_of(w->pixels.bytes, channels, info.height, info.width);
    if (info.height <= side || info.width <= side) { return in; }
    Crop size = shorter_side(info.height, info.width, side);
    uint8_t* scaled = room_for(&w->scaled, (size_t)channels * size.height * size.width, "a resized image");
    void* scratch = room_for(&w->scratch, resample_scratch(info.height, info.width, size.height, size.width),
                             "resize tables");
    resample(scaled, in, view_box(in), size.height, size.width, FILTER_BICUBIC, scratch);
    return view_of(scaled, channels, size.height, size.width);
}

static inline JpegOptions jpeg_options(int quality) { return (JpegOptions){.quality = quality, .subsampled = true}; }

// Replaces the bytes by those of a new JPEG, and w->pixels and info by what it decodes to.
static inline bool write_anew(ImageWorker* w, const Treatment* t, uint8_t** bytes, size_t* count, ImageInfo* info,
                              bool grey, Error* err) {
    ImageView view = shrink(w, *info, t->side, grey);
    JpegBuffer jpeg = {0};
    if (!encode_jpeg(&jpeg, view, jpeg_options(t->quality), err)) {
        free(jpeg.bytes);
        return false;
    }
    free(*bytes);
    *bytes = jpeg.bytes;
    *count = jpeg.count;
    *info = (ImageInfo){IMAGE_JPEG, view.height, view.width, view.channels};
    return decode_whole(w, *bytes, *count, *info, err);
}

// ---- all of it

// err: the reason alone
static inline bool prepare_bytes(ImageWorker* w, const Treatment* t, PreparedImage* out, size_t count, Error* err) {
    ImageInfo info;
    JpegMarks marks = {false, 1};
    if (!image_info(&info, out->bytes, count, err) || !decode_whole(w, out->bytes, count, info, err)) { return false; }
    if (info.format == IMAGE_JPEG) { marks = jpeg_marks(out->bytes, count); }
    bool grey = info.format == IMAGE_JPEG ? info.components == 1 : planes_agree(w->pixels.bytes, info);
    out->height = info.height;
    out->width = info.width;
    out->kinds = odd_kinds(info, marks, w->image.png, grey);
    if (!keeps_bytes(info, marks, t->side) && !write_anew(w, t, &out->bytes, &count, &info, grey, err)) {
        return false;
    }
    out->sums = measure(w->pixels.bytes, info.height, info.width);
    out->record = (ShardRecord){.bytes = (uint32_t)count, .crc = crc32_of(out->bytes, count),
                                .label = (uint16_t)w->image.label, .width = (uint16_t)info.width,
                                .height = (uint16_t)info.height};
    return true;
}

// A few files are so large that several at a time could exhaust memory; these wait for each other.
static inline bool prepare_in_turn(ImageWorker* w, const Treatment* t, PreparedImage* out, size_t count, Error* err) {
    static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;
    ImageInfo info;
    bool large = image_info(&info, out->bytes, count, err) && (int64_t)info.height * info.width > LARGE_PIXELS;
    if (large) { pthread_mutex_lock(&turn); }
    bool ok = prepare_bytes(w, t, out, count, err);
    if (w->pixels.size > KEPT_BYTES) { room_free(&w->pixels); }
    if (w->scratch.size > KEPT_BYTES) { room_free(&w->scratch); }
    if (large) { pthread_mutex_unlock(&turn); }
    return ok;
}

// Turns w->image into *out, or into a reason why not.
static inline void prepare_image(ImageWorker* w, const Treatment* t, PreparedImage* out) {
    Error err = {""};
    size_t count = 0;
    memset(out, 0, sizeof *out);
    memcpy(out->key, w->image.key, sizeof out->key);
    memcpy(out->from, w->image.from, sizeof out->from);
    out->png = w->image.png && t->side == 0;
    out->place = w->image.offset;
    bool ok = w->image.refused ? set_error(&err, "%s", w->image.refused)
        : read_image(&w->image, &out->bytes, &count, &err) && prepare_in_turn(w, t, out, count, &err);
    out->units = w->image.descriptor >= 0 ? (double)count : 1;
    if (ok) { return; }
    free(out->bytes);
    out->bytes = NULL;
    out->kinds = 1u << ODD_FAILED;
    snprintf(out->reason, sizeof out->reason, "%.255s", err.text);
}
