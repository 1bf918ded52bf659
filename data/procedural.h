// A data set that needs no file: 32x32 colour images of ten shapes and textures, so that everything can be tried at
// once.
//
// Class k is one of: disc, ring, square, frame, triangle, cross, and a window filled with horizontal, vertical or
// diagonal stripes or with checkers. Each image draws its own position, size, tilt, two colours (the figure's the
// lighter: where either may be, a small transformer learns nothing for hundreds of steps), shading of the ground, a
// small disc that has no meaning, and noise: no colour and no single pixel gives the class away. Test accuracy from raw
// pixels: softmax regression 37 %, nearest neighbour 41 %, a perceptron with 256 hidden units 81 %.
//
// Image i of a split is a pure function of (split, i), computed in integers, so that every compiler and any number of
// threads makes the same bytes. Its class is i mod 10. Shape coordinates (u, v) are in units of radius / 1024.
#pragma once
#include "../runtime/random.h"
#include "dataset.h"

enum {
#ifdef REDUCED // for programs under sanitizers, which train on fewer: making images is most of their work
    PROCEDURAL_TRAIN = 800, PROCEDURAL_TEST = 200,
#else
    PROCEDURAL_TRAIN = 8000, PROCEDURAL_TEST = 2000,
#endif
    PROCEDURAL_SIDE = 32, PROCEDURAL_CLASSES = 10,
    PROCEDURAL_DRAWS = 256,   // random indices per image: 4 for the scene, the rest for noise
    SHAPE_UNIT = 1024,
};

static const char* const procedural_class_names[PROCEDURAL_CLASSES] = {
    "disc", "ring", "square", "frame", "triangle", "cross",
    "horizontal stripes", "vertical stripes", "diagonal stripes", "checkers",
};

typedef struct {
    int shape, bands;         // class; stripes per radius
    int u[3], v[3];           // (u, v) = (u[0] x + u[1] y + u[2], ...) >> 8, x and y in quarter pixels
    int ground[3], slope[3];  // ground colour, and its change from left to right
    int figure[3];
    int spot_x, spot_y, spot_radius, spot[3]; // the distractor, in pixels
    int noise;                // noise is uniform in -noise..noise
} Scene;

static inline int random_between(int low, int high, uint32_t word) { // low..high, both included
    return low + (int)random_below((uint32_t)(high - low + 1), word);
}

static inline bool odd_band(int coordinate, int bands) { return ((coordinate + 8 * SHAPE_UNIT) * bands >> 10) & 1; }
static inline int from_middle(int u, int v) { return u * u + v * v; } // squared
static inline int farther(int u, int v) { return abs(u) > abs(v) ? abs(u) : abs(v); }
static inline int nearer(int u, int v) { return abs(u) < abs(v) ? abs(u) : abs(v); }

// Adds 1 to covered[x] where (us[x], vs[x]) is inside the shape, for a row of pixels. Each shape has a loop of its own:
// without a switch in it, the compiler computes many pixels at once.
static inline void cover_points(int* covered, const int* us, const int* vs, int shape, int bands) {
#define BOTH(one, other) ((int)(one) & (int)(other)) // without a branch
#define WHERE(inside) \
    for (int x = 0; x < PROCEDURAL_SIDE; x++) { int u = us[x], v = vs[x]; covered[x] += (inside); } break
    switch (shape) {
        case 0: WHERE(from_middle(u, v) < 1024 * 1024);
        case 1: WHERE(BOTH(from_middle(u, v) < 1024 * 1024, from_middle(u, v) > 560 * 560));
        case 2: WHERE(farther(u, v) < 900);
        case 3: WHERE(BOTH(farther(u, v) < 900, farther(u, v) > 500));
        case 4: WHERE(BOTH(v < 800, 8 * abs(u) < 5 * (v + 1000)));
        case 5: WHERE(BOTH(farther(u, v) < 1024, nearer(u, v) < 320));
        case 6: WHERE(BOTH(farther(u, v) < 1024, odd_band(v, bands)));
        case 7: WHERE(BOTH(farther(u, v) < 1024, odd_band(u, bands)));
        case 8: WHERE(BOTH(farther(u, v) < 1024, odd_band((u + v) * 3 / 4, bands)));
        default: WHERE(BOTH(farther(u, v) < 1024, odd_band(u, bands) != odd_band(v, bands)));
    }
#undef BOTH
#undef WHERE
}

// Tilt by at most 20°, an angle with rational cosine (1-t²)/(1+t²) and sine 2t/(1+t²), t = tilt/1024.
static inline void scene_place(Scene* s, Random4 r) {
    int radius = random_between(8 * 4, 13 * 4, r.word[0]); // quarter pixels
    int margin = 4 * PROCEDURAL_SIDE - 2 * radius;
    int x = radius + random_between(0, margin, r.word[1]), y = radius + random_between(0, margin, r.word[2]);
    int tilt = random_between(-180, 180, r.word[3] << 16), mirror = r.word[3] >> 31 ? -1 : 1;
    int unit = 1024 * 1024 + tilt * tilt, scale = 256 * SHAPE_UNIT / radius;
    int cosine = (int)((int64_t)scale * (1024 * 1024 - tilt * tilt) / unit);
    int sine = (int)((int64_t)scale * 2048 * tilt / unit);
    s->u[0] = mirror * cosine; s->u[1] = mirror * sine; s->u[2] = -(s->u[0] * x + s->u[1] * y);
    s->v[0] = -sine; s->v[1] = cosine; s->v[2] = -(s->v[0] * x + s->v[1] * y);
}

static inline Scene scene_draw(int shape, uint32_t split, uint64_t first) {
    Scene s = {.shape = shape};
    scene_place(&s, random_bits(0, STREAM_PROCEDURAL, split, first));
    Random4 colour = random_bits(0, STREAM_PROCEDURAL, split, first + 1);
    Random4 place = random_bits(0, STREAM_PROCEDURAL, split, first + 2);
    for (int c = 0; c < 3; c++) {
        uint32_t word = colour.word[c]; // one byte of it for each draw
        s.ground[c] = random_between(0, 127, word << 24);
        s.figure[c] = s.ground[c] + random_between(40, 128, word << 16);
        s.slope[c] = random_between(-60, 60, word << 8);
        s.spot[c] = random_between(0, 255, word);
    }
    s.noise = random_between(8, 48, colour.word[3]);
    s.bands = random_between(2, 3, colour.word[3] << 16);
    s.spot_x = random_between(0, PROCEDURAL_SIDE - 1, place.word[0]);
    s.spot_y = random_between(0, PROCEDURAL_SIDE - 1, place.word[1]);
    s.spot_radius = random_between(2, 4, place.word[2]);
    return s;
}

// How much of each pixel of row y the shape covers, 0..4, by four samples, a quarter pixel from the middle
static inline void cover_row(int* covered, const Scene* s, int y) {
    int us[PROCEDURAL_SIDE], vs[PROCEDURAL_SIDE];
    memset(covered, 0, sizeof us);
    for (int k = 0; k < 4; k++) {
        int qy = 4 * y + 1 + (k & 2);
        for (int x = 0; x < PROCEDURAL_SIDE; x++) {
            int qx = 4 * x + 1 + 2 * (k & 1);
            us[x] = (s->u[0] * qx + s->u[1] * qy + s->u[2]) >> 8;
            vs[x] = (s->v[0] * qx + s->v[1] * qy + s->v[2]) >> 8;
        }
        cover_points(covered, us, vs, s->shape, s->bands);
    }
}

static inline void scene_paint(uint8_t* out, const Scene* s) { // out (3, 32, 32)
    const int side = PROCEDURAL_SIDE;
    for (int y = 0; y < side; y++) {
        int covered[PROCEDURAL_SIDE];
        cover_row(covered, s, y);
        for (int c = 0; c < 3; c++) {
            for (int x = 0; x < side; x++) {
                int dx = x - s->spot_x, dy = y - s->spot_y;
                bool spot = dx * dx + dy * dy < s->spot_radius * s->spot_radius;
                int ground = spot ? s->spot[c] : s->ground[c] + s->slope[c] * (2 * x - side + 1) / (2 * side);
                int value = (covered[x] * s->figure[c] + (4 - covered[x]) * ground) / 4;
                out[(c * side + y) * side + x] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
            }
        }
    }
}

// One random byte per value, sixteen values per draw.
static inline void add_noise(uint8_t* values, int count, int noise, uint32_t split, uint64_t first) {
    for (int i = 0; i < count; i += 16) {
        Random4 r = random_bits(0, STREAM_PROCEDURAL, split, first + i / 16);
        for (int k = 0; k < 16; k++) {
            int byte = (r.word[k / 4] >> (8 * (k % 4))) & 255;
            int value = values[i + k] + ((2 * byte - 255) * noise) / 255;
            values[i + k] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
    }
}

static inline bool procedural_split(Dataset* d, bool train, Error* err) {
    int count = train ? PROCEDURAL_TRAIN : PROCEDURAL_TEST;
    uint32_t split = train ? 0 : 1;
    if (!dataset_create(d, "procedural", count, PROCEDURAL_CLASSES, 3, PROCEDURAL_SIDE, PROCEDURAL_SIDE, err)) {
        return false;
    }
    for (int k = 0; k < PROCEDURAL_CLASSES; k++) {
        snprintf(d->class_names[k], CLASS_NAME_BYTES, "%s", procedural_class_names[k]);
    }
    #pragma omp parallel for schedule(static)
    for (int i = 0; i < count; i++) {
        uint64_t first = (uint64_t)i * PROCEDURAL_DRAWS;
        uint8_t* image = d->images + i * image_bytes(d);
        d->labels[i] = (uint16_t)(i % PROCEDURAL_CLASSES);
        Scene scene = scene_draw(d->labels[i], split, first);
        scene_paint(image, &scene);
        add_noise(image, (int)image_bytes(d), scene.noise, split, first + 4);
    }
    return true;
}

// Both splits, normalised by the training split like every data set
static inline bool dataset_procedural(Dataset* train, Dataset* test, Error* err) {
    *train = *test = (Dataset){0};
    if (!procedural_split(train, true, err) || !procedural_split(test, false, err)) {
        dataset_free(train);
        return false;
    }
    dataset_measure(train);
    memcpy(test->mean, train->mean, sizeof test->mean);
    memcpy(test->std, train->std, sizeof test->std);
    dataset_seal(train);
    dataset_seal(test);
    return true;
}
