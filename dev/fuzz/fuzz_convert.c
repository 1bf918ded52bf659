// One official file of a data set to be converted, idx or CIFAR's, packed or not. The first byte selects
//   bits 0-1 the layout (idx, CIFAR-10's, CIFAR-100's), 2-3 the file, 4 named .gz; the other files are valid.
#include "../../data/convert_official.h"
#include "fuzz.h"

enum { FUZZ_IMAGES = 2, FUZZ_PIXELS = 2 };

static const char* const fuzz_classes[] = {"zero", "one", "two"};
static const Source fuzz_sources[] = {
    {.name = "idx", .folders = {"inner"}, .layout = LAYOUT_IDX, .classes = 3, .channels = 1, .side = FUZZ_PIXELS,
     .train_count = FUZZ_IMAGES, .test_count = FUZZ_IMAGES, .class_names = fuzz_classes,
     .files = {{"ti", NULL}, {"tl", NULL}, {"ei", NULL}, {"el", NULL}}},
    {.name = "cifar", .folders = {"inner"}, .layout = LAYOUT_CIFAR, .classes = 3, .channels = 3, .side = FUZZ_PIXELS,
     .train_files = 3, .train_count = FUZZ_IMAGES, .test_count = FUZZ_IMAGES, .class_names = fuzz_classes,
     .files = {{"b1", NULL}, {"b2", NULL}, {"b3", NULL}, {"t", NULL}}},
    {.name = "coarse", .folders = {"inner"}, .layout = LAYOUT_CIFAR, .classes = 3, .channels = 3, .side = FUZZ_PIXELS,
     .coarse_classes = 2, .train_files = 3, .train_count = FUZZ_IMAGES, .test_count = FUZZ_IMAGES,
     .class_names = fuzz_classes, .files = {{"b1", NULL}, {"b2", NULL}, {"b3", NULL}, {"t", NULL}}},
};

static void write_good_file(const Source* s, int file) {
    uint8_t bytes[256] = {0};
    int pixels = s->channels * s->side * s->side, count = FUZZ_IMAGES * (pixels + 1 + (s->coarse_classes > 0));
    if (s->layout == LAYOUT_IDX) {
        bool labels = file % 2;
        count = labels ? 8 + FUZZ_IMAGES : 16 + FUZZ_IMAGES * pixels;
        bytes[2] = 8;
        bytes[3] = labels ? 1 : 3;
        bytes[7] = FUZZ_IMAGES;
        if (!labels) { bytes[11] = bytes[15] = FUZZ_PIXELS; }
    }
    write_file(in_folder(s->files[file].name), bytes, (size_t)count);
}

// The result can be read.
static void check_converted(const Source* s) {
    const char* const splits[] = {"train", "test"};
    for (int i = 0; i < 2; i++) {
        Dataset d;
        Error err;
        char name[64];
        snprintf(name, sizeof name, "%s.%s.kds", s->name, splits[i]);
        FUZZ_CHECK(dataset_load(&d, in_folder(name), &err), err.text);
        dataset_free(&d);
    }
}

static void fuzz_convert(const uint8_t* bytes, size_t size) {
    if (size < 1) { return; }
    const Source* s = &fuzz_sources[bytes[0] % 4 % 3];
    int which = bytes[0] / 4 % 4;
    char name[16];
    Error err = {""};
    open_test_folder();
    for (int i = 0; i < 4; i++) {
        if (i != which) { write_good_file(s, i); }
    }
    snprintf(name, sizeof name, "%s%s", s->files[which].name, bytes[0] & 16 ? ".gz" : "");
    write_file(in_folder(name), bytes + 1, size - 1);
    Input in = {s, test_folder, false};
    if (convert(&in, test_folder, &err)) {
        check_converted(s);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    remove_test_folder();
}
FUZZ_TARGET(fuzz_convert)
