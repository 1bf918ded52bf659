// A contact sheet: the images of a batch as the network sees them, in a grid, each with a caption under it.
#pragma once
#include "font.h"
#include <math.h>

enum {
    SHEET_IMAGES = 64,             // at most, nor more than
    SHEET_PIXELS = 1 << 26,        // of all images together
    SHEET_SIDE = 128,              // smaller images are enlarged by a whole factor, so that captions fit under them
    SHEET_GAP = 6,                 // around images, and half of it above their captions
    CAPTION_HEIGHT = GLYPH_HEIGHT + 2,
    SHEET_GREY = 240,
};

typedef struct {
    const float* images;           // (count, 3, S, S), normalised by mean and std
    int count, S;
    float mean[3], std[3];
    const char* const* captions;   // (count); a newline begins a new line, and what is too long is cut off
    int columns;                   // 0: a nearly square grid, of the first SHEET_IMAGES
} ContactSheet;

// The number of images shown: the first so many
static inline int sheet_images(const ContactSheet* s) {
    int most = SHEET_PIXELS / (s->S * s->S);
    if (!s->columns && most > SHEET_IMAGES) { most = SHEET_IMAGES; }
    return most < 1 ? 1 : s->count < most ? s->count : most;
}

static inline int caption_lines(const char* caption) {
    int lines = 1;
    for (; *caption; caption++) { lines += *caption == '\n'; }
    return lines;
}

static inline uint8_t sheet_level(float x, float mean, float std) { // 0 where there is a NaN
    float level = 255 * (x * std + mean);
    return level > 0 ? level < 255 ? (uint8_t)lroundf(level) : 255 : 0;
}

// Draws image i, with pixels enlarged `zoom` times.
static inline void draw_image_of_sheet(Picture* p, int top, int left, const ContactSheet* s, int i, int zoom) {
    int S = s->S;
    for (int y = 0; y < S * zoom; y++) {
        uint8_t* to = p->pixels + 3 * ((size_t)(top + y) * p->width + left);
        for (int k = 0; k < 3 * S * zoom; k++) {
            int c = k % 3, x = k / 3 / zoom;
            to[k] = sheet_level(s->images[(((size_t)i * 3 + c) * S + y / zoom) * S + x], s->mean[c], s->std[c]);
        }
    }
}

static inline void draw_caption(Picture* p, int top, int left, int width, const char* caption) {
    for (int x = 0; *caption; caption++) {
        if (*caption == '\n') {
            top += CAPTION_HEIGHT;
            x = 0;
        } else if (x < letters_in(width) && (*caption & 0xC0) != 0x80) { // the first byte of a character in UTF-8
            draw_letter(p, top, left + LETTER_WIDTH * x++, *caption);
        }
    }
}

// The sheet, row by row; to be freed
static inline Picture contact_sheet_draw(const ContactSheet* s) {
    int n = sheet_images(s), columns = s->columns ? s->columns : (int)ceil(sqrt(n)), lines = 1;
    for (int i = 0; i < n; i++) {
        int own = caption_lines(s->captions[i]);
        lines = own > lines ? own : lines;
    }
    int zoom = s->S < SHEET_SIDE ? (SHEET_SIDE + s->S - 1) / s->S : 1, side = s->S * zoom;
    int across = side + SHEET_GAP, down = side + SHEET_GAP + lines * CAPTION_HEIGHT;
    int rows = (n + columns - 1) / columns;
    Picture p = picture_create(SHEET_GAP + rows * down, SHEET_GAP + columns * across, SHEET_GREY);
    for (int i = 0; i < n; i++) {
        int top = SHEET_GAP + i / columns * down, left = SHEET_GAP + i % columns * across;
        draw_image_of_sheet(&p, top, left, s, i, zoom);
        draw_caption(&p, top + side + SHEET_GAP / 2, left, side, s->captions[i]);
    }
    return p;
}

static inline bool contact_sheet_write(const char* path, const ContactSheet* s, Error* err) {
    Picture p = contact_sheet_draw(s);
    bool ok = picture_write(path, &p, err);
    picture_free(&p);
    return ok;
}
