// A picture that is drawn here and written as PNG: 8 bits, red, green and blue interleaved.
#pragma once
#include "../runtime/files.h"
#include "../runtime/memory.h"
#include "image_file.h"
#include "png_file.h"

typedef struct {
    int height, width;
    uint8_t* pixels; // (height, width, 3)
} Picture;

static inline Picture picture_create(int height, int width, uint8_t grey) {
    size_t bytes = (size_t)3 * height * width;
    Picture p = {height, width, alloc_array(uint8_t, bytes, "a picture")};
    memset(p.pixels, grey, bytes);
    return p;
}

static inline void picture_free(Picture* p) {
    free(p->pixels);
    *p = (Picture){0};
}

#ifdef HAVE_PNG

typedef struct {
    Failure failure;
    FILE* file;
    png_structp png;
    png_infop info;
} PngWriter;

static inline void picture_fail(png_structp png, png_const_charp message) {
    failure_jump((Failure*)png_get_error_ptr(png), "libpng does not write the picture: %s", message);
}

// An error stays set in the stream, where whole_file_end finds it.
static inline void picture_put_bytes(png_structp png, png_bytep bytes, size_t count) {
    fwrite(bytes, 1, count, ((PngWriter*)png_get_io_ptr(png))->file);
}

static inline void picture_flush(png_structp png) { (void)png; }

static inline bool picture_encode(PngWriter* w, const Picture* p, Error* err) {
    w->failure.err = err;
    if (setjmp(w->failure.begin) != 0) {
        png_destroy_write_struct(&w->png, &w->info);
        return false;
    }
    w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &w->failure, picture_fail, png_file_notice);
    if (w->png) { w->info = png_create_info_struct(w->png); }
    if (!w->info) { failure_jump(&w->failure, "libpng does not start: free some memory"); }
    png_set_write_fn(w->png, w, picture_put_bytes, picture_flush);
    png_set_IHDR(w->png, w->info, (png_uint_32)p->width, (png_uint_32)p->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(w->png, w->info);
    for (int y = 0; y < p->height; y++) { png_write_row(w->png, p->pixels + (size_t)3 * y * p->width); }
    png_write_end(w->png, w->info);
    png_destroy_write_struct(&w->png, &w->info);
    return true;
}

// The PNG file in memory, to be freed
static inline bool picture_png(const Picture* p, uint8_t** bytes, size_t* count, Error* err) {
    char* text = NULL;
    PngWriter w = {.file = open_memstream(&text, count)};
    if (!w.file) { return set_error(err, "no memory for a picture: close other programs"); }
    bool ok = picture_encode(&w, p, err) && !ferror(w.file);
    ok = fclose(w.file) == 0 && ok;
    *bytes = (uint8_t*)text;
    if (!ok) { free(text); }
    return ok;
}

static inline bool picture_write(const char* path, const Picture* p, Error* err) {
    WholeFile f;
    if (!whole_file_begin(&f, path, err)) { return false; }
    PngWriter w = {.file = f.file};
    if (picture_encode(&w, p, err)) { return whole_file_end(&f, err); }
    whole_file_drop(&f);
    return false;
}

#else

static inline bool picture_png(const Picture* p, uint8_t** bytes, size_t* count, Error* err) {
    (void)p, (void)bytes, (void)count;
    return set_error(err, "this build writes no PNG files: install libpng-dev, and build again");
}

static inline bool picture_write(const char* path, const Picture* p, Error* err) {
    (void)p;
    return set_error(err, "cannot write %s: this build writes no PNG files: install libpng-dev, and build again", path);
}

#endif
