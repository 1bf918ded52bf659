// An image that is changed in place: (3, H, W) bytes, red, green, blue.
#pragma once
#include "../runtime/inlining.h"
#include "../runtime/random.h"
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t* pixels; // (3, height, width)
    int height, width;
} RgbImage;

static inline size_t plane_bytes(RgbImage image) { return (size_t)image.height * image.width; }

static inline uint8_t* image_plane(RgbImage image, int channel) {
    return image.pixels + (size_t)channel * plane_bytes(image);
}

// Grey as in Pillow's convert("L"): 16 fractional bits, rounded half up
HOST_DEVICE ALWAYS_INLINE int luma(int red, int green, int blue) {
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16;
}

static inline void reverse_bytes(uint8_t* bytes, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        uint8_t swap = bytes[i];
        bytes[i] = bytes[count - 1 - i];
        bytes[count - 1 - i] = swap;
    }
}

static inline void flip_horizontally(RgbImage image) {
    for (int row = 0; row < 3 * image.height; row++) {
        reverse_bytes(image.pixels + (size_t)row * image.width, (size_t)image.width);
    }
}

static inline void flip_vertically(RgbImage image) {
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < image.height / 2; y++) {
            uint8_t* upper = image_plane(image, c) + (size_t)y * image.width;
            uint8_t* lower = image_plane(image, c) + (size_t)(image.height - 1 - y) * image.width;
            for (int x = 0; x < image.width; x++) {
                uint8_t swap = upper[x];
                upper[x] = lower[x];
                lower[x] = swap;
            }
        }
    }
}
