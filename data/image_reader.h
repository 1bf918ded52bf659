// The pixels of one image of a data set, or of a box of it.
#pragma once
#include "../runtime/memory.h"
#include "augment.h"
#include "dataset.h"

static inline int image_height(const Dataset* d, int image) { (void)image; return d->height; }
static inline int image_width(const Dataset* d, int image) { (void)image; return d->width; }

// Memory of one thread
typedef struct { Room pixels; } ImageReader;

static inline void image_reader_free(ImageReader* r) { room_free(&r->pixels); }

// Black where the box leaves the image. It lies in the data set or in the reader, until that reads again.
static inline ImageView read_box(ImageReader* r, const Dataset* d, int image, Crop box) {
    ImageView whole = view_of(d->images + image * image_bytes(d), d->channels, d->height, d->width);
    return take_box(whole, box, room_for(&r->pixels, image_bytes(d), "an image"));
}
