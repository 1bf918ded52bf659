// A single image file, as a data set that has this one image in memory, from which a loader makes batches.
//
//   PhotoReader reader;
//   if (!photo_reader_open(&reader, &config, &err)) { ... }
//   const Batch* batch = photo_read(&reader, path, &err);  // NULL: err continues after the file's name
//   photo_reader_close(&reader);
#pragma once
#include "loader.h"

typedef struct {
    Dataset set;     // its image lies in `pixels`
    Loader loader;   // without threads: it makes a batch when asked for one
    Decoder* decoder;
    Room pixels;
    uint16_t label;  // 0, since it is not known
} PhotoReader;

// Prepares images one at a time, as an evaluation with this configuration does. The reader must not move afterwards.
static inline bool photo_reader_open(PhotoReader* r, const LoaderConfig* config, Error* err) {
    LoaderConfig c = *config;
    c.workers = 0;
    *r = (PhotoReader){.set = {.count = 1, .classes = 1, .channels = 3, .height = 1, .width = 1}};
    r->set.labels = &r->label;
    r->set.images = room_for(&r->pixels, image_bytes(&r->set), "an image");
    r->decoder = decoder_create();
    return loader_open(&r->loader, &r->set, &c, err);
}

static inline void photo_reader_close(PhotoReader* r) {
    loader_close(&r->loader);
    decoder_free(r->decoder);
    room_free(&r->pixels);
}

// The whole image
static inline bool photo_decode(PhotoReader* r, const char* path, Error* err) {
    uint8_t* bytes;
    size_t count = 0;
    ImageInfo info = {};
    bool ok = read_image_file(path, &bytes, &count, err) && image_info(&info, bytes, count, err);
    if (ok) {
        r->set.height = info.height;
        r->set.width = info.width;
        r->set.images = room_for(&r->pixels, image_bytes(&r->set), "an image");
        ok = decode_box(r->decoder, bytes, count, whole_image(info), r->set.images, err);
    }
    free(bytes);
    return ok;
}

static inline const Batch* photo_read(PhotoReader* r, const char* path, Error* err) {
    return photo_decode(r, path, err) ? loader_next(&r->loader) : NULL;
}
