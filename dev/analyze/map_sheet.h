// A contact sheet of attention maps: a row for each image, with the image first, then maps of each head, and masks,
// over it.
#pragma once
#include "../../data/contact_sheet.h"
#include "map_numbers.h"

enum { MAP_CAPTION = 64 };

typedef struct {
    int S, zoom, side, columns, rows; // of the images and of the grid of patches; cells
    int used;                         // cells
    float* cells;                     // (rows * columns, 3, S * zoom, S * zoom), from 0 to 1
    char (*text)[MAP_CAPTION];
    const char** captions;
    float *map, *picture;             // of one cell: (side, side), painted as (S zoom, S zoom); (3, S, S) from 0 to 1
} MapSheet;

static inline MapSheet map_sheet_create(int rows, int columns, int S, int side) {
    MapSheet m = {.S = S, .side = side, .columns = columns, .rows = rows};
    m.zoom = S < SHEET_SIDE ? (SHEET_SIDE + S - 1) / S : 1;
    size_t Z = (size_t)S * m.zoom, cells = (size_t)rows * columns;
    m.cells = alloc_floats(cells * 3 * Z * Z, "a contact sheet");
    m.map = alloc_floats(Z * Z, "a contact sheet");
    m.picture = alloc_floats(3 * (size_t)S * S, "a contact sheet");
    m.text = (char (*)[MAP_CAPTION])alloc_bytes(cells * MAP_CAPTION, "captions");
    m.captions = alloc_array(const char*, cells, "captions");
    for (size_t i = 0; i < cells; i++) { m.captions[i] = m.text[i]; }
    return m;
}

static inline void map_sheet_free(MapSheet* m) {
    free(m->cells);
    free(m->map);
    free(m->picture);
    free(m->text);
    free(m->captions);
}

// The next cell, which gets this caption
static inline float* next_cell_of(MapSheet* m, const char* caption) {
    size_t Z = (size_t)m->S * m->zoom;
    snprintf(m->text[m->used], MAP_CAPTION, "%s", caption);
    return m->cells + (size_t)m->used++ * 3 * Z * Z;
}

static inline float pixel_of(const MapSheet* m, int c, int y, int x) {
    return m->picture[((size_t)c * m->S + y / m->zoom) * m->S + x / m->zoom];
}

// Begins a row with its image: (3,S,S), normalised
static inline void sheet_image(MapSheet* m, const float* image, const double mean[3], const double std[3],
                               const char* caption) {
    int Z = m->S * m->zoom, plane = m->S * m->S;
    for (int i = 0; i < 3 * plane; i++) { m->picture[i] = (float)(image[i] * std[i / plane] + mean[i / plane]); }
    float* cell = next_cell_of(m, caption);
    for (int i = 0; i < 3 * Z * Z; i++) { cell[i] = pixel_of(m, i / (Z * Z), i / Z % Z, i % Z); }
}

// Over the image in grey: vermilion where the map (side,side) is positive, blue where it is negative (distinguishable
// by the colour-blind), the largest magnitude opaque
static inline void sheet_map(MapSheet* m, const float* map, const char* caption) {
    static const float colors[2][3] = {{0.835f, 0.369f, 0}, {0, 0.447f, 0.698f}};
    int Z = m->S * m->zoom;
    float *cell = next_cell_of(m, caption), largest = 0;
    for (int i = 0; i < m->side * m->side; i++) { largest = fmaxf(largest, fabsf(map[i])); }
    map_upsample(m->map, map, m->side, Z);
    for (int i = 0; i < Z * Z; i++) {
        float grey = (pixel_of(m, 0, i / Z, i % Z) + pixel_of(m, 1, i / Z, i % Z) + pixel_of(m, 2, i / Z, i % Z)) / 3;
        float part = largest > 0 ? fabsf(m->map[i]) / largest : 0;
        for (int c = 0; c < 3; c++) { cell[c * Z * Z + i] = (1 - part) * grey + part * colors[m->map[i] < 0][c]; }
    }
}

// The image, dark where a patch is not in the mask (side,side)
static inline void sheet_mask(MapSheet* m, const bool* mask, const char* caption) {
    int Z = m->S * m->zoom;
    float* cell = next_cell_of(m, caption);
    for (int i = 0; i < 3 * Z * Z; i++) {
        int y = i / Z % Z, x = i % Z;
        cell[i] = pixel_of(m, i / (Z * Z), y, x) * (mask[y * m->side / Z * m->side + x * m->side / Z] ? 1 : 0.25f);
    }
}

static inline bool map_sheet_write(const MapSheet* m, const char* path, Error* err) {
    ContactSheet sheet = {m->cells, m->used, m->S * m->zoom, {0, 0, 0}, {1, 1, 1}, m->captions, m->columns};
    return contact_sheet_write(path, &sheet, err);
}
