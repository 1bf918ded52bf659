// The pixels of one image of a data set, or of a box of it: either they are in memory, or their file is read and
// decoded, no more of it than the box needs. Decoded images can be kept as they are first seen, as long as there is
// space (shards_keep).
#pragma once
#include "../runtime/memory.h"
#include "augment.h"
#include "decode.h"
#include "shards.h"

static inline int image_height(const Dataset* d, int image) {
    return d->shards ? d->shards->records[image].height : d->height;
}
static inline int image_width(const Dataset* d, int image) {
    return d->shards ? d->shards->records[image].width : d->width;
}

// The image is going to be needed soon.
static inline void image_hint(const Dataset* d, int image) {
    bool kept = d->shards && d->shards->kept && __atomic_load_n(&d->shards->kept[image], __ATOMIC_RELAXED);
    if (d->shards && !kept) { shard_record_hint(d, image); }
}

// Memory of one thread
typedef struct {
    Decoder* decoder; // made when first needed
    Room file, pixels;
} ImageReader;

static inline void image_reader_free(ImageReader* r) {
    if (r->decoder) { decoder_free(r->decoder); }
    room_free(&r->file);
    room_free(&r->pixels);
}

// out (3, box.height, box.width)
static inline bool decode_record(ImageReader* r, const Dataset* d, int image, Crop box, uint8_t* out, Error* err) {
    size_t bytes = d->shards->records[image].bytes;
    uint8_t* file = room_for(&r->file, bytes, "an image's file");
    if (!r->decoder) { r->decoder = decoder_create(); }
    return shard_record_read(d, image, file, err) && decode_box(r->decoder, file, bytes, box, out, err);
}

// ---- kept images

// Keeps decoded images from now on; room: bytes left, which several data sets may share, and which must outlive them.
static inline bool shards_keep(Dataset* d, int64_t* room, Error* err) {
    d->shards->room_left = room;
    d->shards->kept = (uint8_t**)calloc((size_t)d->shards->header->count, sizeof(uint8_t*));
    return d->shards->kept != NULL || set_error(err, "no memory to keep images in: leave --cache-gb out");
}

// Image i, decoded, if it is kept or can be kept from now on; NULL: neither, or it cannot be read
static inline const uint8_t* kept_image(ImageReader* r, const Dataset* d, int image, Error* err) {
    Shards* s = d->shards;
    uint8_t *kept = __atomic_load_n(&s->kept[image], __ATOMIC_ACQUIRE), *before = NULL;
    if (kept) { return kept; }
    Crop whole = {0, 0, s->records[image].height, s->records[image].width};
    int64_t bytes = (int64_t)3 * whole.height * whole.width;
    bool fits = __atomic_sub_fetch(s->room_left, bytes, __ATOMIC_RELAXED) >= 0;
    if (fits) { kept = (uint8_t*)malloc((size_t)bytes); }
    bool ok = kept && decode_record(r, d, image, whole, kept, err);
    if (ok && __atomic_compare_exchange_n(&s->kept[image], &before, kept, false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE)) {
        return kept;
    }
    free(kept); // no space, unreadable, or another thread was first
    __atomic_add_fetch(s->room_left, bytes, __ATOMIC_RELAXED);
    return before;
}

// ---- boxes

static inline bool read_encoded(ImageReader* r, const Dataset* d, int image, Crop box, ImageView* view, Error* err) {
    const uint8_t* kept = d->shards->kept ? kept_image(r, d, image, err) : NULL;
    if (kept) {
        ImageView whole = view_of(kept, 3, image_height(d, image), image_width(d, image));
        *view = view_crop(whole, box.top, box.left, box.height, box.width);
        return true;
    }
    uint8_t* pixels = room_for(&r->pixels, (size_t)3 * box.height * box.width, "an image");
    *view = view_of(pixels, 3, box.height, box.width);
    return decode_record(r, d, image, box, pixels, err);
}

// `part` of a box of an image, black where a box extends beyond an image in memory. The view points into the data set,
// or into the reader until it reads again. err: the reason alone; an image in memory can always be read.
static inline bool read_box(ImageReader* r, const Dataset* d, int image, Crop box, Crop part, ImageView* view,
                            Error* err) {
    if (d->shards) {
        Crop place = {box.top + part.top, box.left + part.left, part.height, part.width};
        return read_encoded(r, d, image, place, view, err);
    }
    ImageView whole = view_of(d->images + image * image_bytes(d), d->channels, d->height, d->width);
    ImageView taken = take_box(whole, box, room_for(&r->pixels, image_bytes(d), "an image"));
    *view = view_crop(taken, part.top, part.left, part.height, part.width);
    return true;
}
