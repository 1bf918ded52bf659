// Pictures that take as many bytes and as long to decode as photographs: smooth colours, brightness with structure at
// every scale, the finest only in some places, and edges of a few shapes.
#pragma once
#include "../../runtime/random.h"
#include <stdint.h>
#include <stdlib.h>

typedef struct { float* values; int height, width; } Plane;

// Adds noise with a structure of `cell` pixels: random values at the corners of cells, linear in between.
static void add_noise(Plane plane, int cell, float amplitude, uint64_t seed) {
    int across = plane.width / cell + 2;
    float* corners = malloc(sizeof(float) * 2 * (size_t)across); // of the rows above and below
    for (int y = 0; y < plane.height; y++) {
        for (int k = 0; k < 2 * across && y % cell == 0; k++) {
            uint64_t corner = (uint64_t)(y / cell + k / across) << 32 | (uint64_t)(k % across);
            corners[k] = amplitude * (2 * random_uniform(seed, STREAM_CHECK, (uint32_t)cell, corner) - 1);
        }
        float down = (float)(y % cell) / (float)cell;
        for (int x = 0; x < plane.width; x++) {
            float right = (float)(x % cell) / (float)cell;
            const float *above = corners + x / cell, *below = above + across;
            float upper = above[0] + right * (above[1] - above[0]), lower = below[0] + right * (below[1] - below[0]);
            plane.values[y * plane.width + x] += upper + down * (lower - upper);
        }
    }
    free(corners);
}

static Plane plane_create(int height, int width) {
    return (Plane){calloc((size_t)height * width, sizeof(float)), height, width};
}

static void add_shapes(Plane plane, uint64_t seed) {
    for (uint64_t k = 0; k < 12; k++) {
        Random4 r = random_bits(seed, STREAM_CHECK, 1, k);
        int radius = 10 + (int)random_below((uint32_t)plane.width / 6, r.word[0]);
        int left = (int)random_below((uint32_t)plane.width, r.word[1]);
        int top = (int)random_below((uint32_t)plane.height, r.word[2]);
        float step = 80 * (uniform_from(r.word[3]) - 0.5f);
        for (int y = 0; y < plane.height; y++) {
            for (int x = 0; x < plane.width; x++) {
                int dx = x - left, dy = 2 * (y - top);
                if (dx * dx + dy * dy < radius * radius) { plane.values[y * plane.width + x] += step; }
            }
        }
    }
}

// out (3, height, width)
static void make_photo(uint8_t* out, int height, int width, uint64_t seed) {
    Plane light = plane_create(height, width), fine = plane_create(height, width), where = plane_create(height, width);
    for (int cell = 128; cell >= 8; cell /= 2) { add_noise(light, cell, 24 + 0.25f * (float)cell, seed); }
    for (int cell = 4; cell >= 1; cell /= 2) { add_noise(fine, cell, 88 - 68 / (float)cell, seed); }
    add_noise(where, 64, 1.2f, seed + 1);
    add_shapes(light, seed);
    for (int c = 0; c < 3; c++) {
        Plane colour = plane_create(height, width);
        for (int cell = 128; cell >= 16; cell /= 2) {
            add_noise(colour, cell, 0.2f * (float)cell, seed + 2 + (uint64_t)c);
        }
        for (int i = 0; i < height * width; i++) {
            float busy = where.values[i] < 0 ? 0.1f : 0.1f + where.values[i];
            float value = 120 + light.values[i] + colour.values[i] + busy * fine.values[i];
            out[(size_t)c * height * width + i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
        free(colour.values);
    }
    free(light.values); free(fine.values); free(where.values);
}
