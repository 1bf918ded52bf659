// STL-10, the binary version: stl10_binary.tar.gz, packed or unpacked. X: images of 3 x 96 x 96 bytes, planes red,
// green, blue, each column by column; y: one byte per image, 1..10. The 100,000 images without labels are not used.
#pragma once
#include "column_major.h"
#include "convert_options.h"
#include "members.h"
#include "save_splits.h"
#include "source_file.h"

enum { STL10_SIDE = 96, STL10_IMAGE = 3 * STL10_SIDE * STL10_SIDE, STL10_CLASSES = 10, STL10_LIMIT = INT32_MAX };

enum { STL10_TRAIN_X, STL10_TRAIN_Y, STL10_TEST_X, STL10_TEST_Y, STL10_FILES };
static const SizedFile stl10_files[STL10_FILES] = {
    {{"train_X.bin", "918c2871b30a85fa023e0c44e0bee87f"}, 138240000},
    {{"train_y.bin", "5a34089d4802c674881badbb80307741"}, 5000},
    {{"test_X.bin", "7f263ba9f9e0b06b93213547f721ac82"}, 221184000},
    {{"test_y.bin", "36f9794fa4beb8a2c72628de14fa638e"}, 8000},
};
static const char* const stl10_classes[STL10_CLASSES] = {
    "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
};

typedef struct {
    SetPlace place;
    uint8_t* files[STL10_FILES];
    size_t bytes[STL10_FILES];
} Stl10;

// Takes the walk's current file, if it is one of the four.
static inline bool stl10_take(Stl10* s, MemberWalk* w, bool any_hash, Error* err) {
    int i = 0;
    while (i < STL10_FILES && strcmp(stl10_files[i].file.name, w->name) != 0) { i++; }
    if (i == STL10_FILES || s->files[i]) { return true; }
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", s->place.path, w->name);
    if (!check_size(&stl10_files[i], path, w->bytes, any_hash, err)) { return false; }
    s->files[i] = members_take(w, STL10_LIMIT, err);
    s->bytes[i] = (size_t)w->bytes;
    return s->files[i] && check_hash(&stl10_files[i].file, path, s->files[i], s->bytes[i], any_hash, err);
}

static inline bool stl10_read(Stl10* s, bool any_hash, Error* err) {
    MemberWalk w;
    int found = 1, missing = STL10_FILES;
    if (!members_open(&w, &s->place, err)) { return false; }
    while (missing && (found = members_next(&w, err)) > 0 && stl10_take(s, &w, any_hash, err)) {
        missing = 0;
        for (int i = 0; i < STL10_FILES; i++) { missing += !s->files[i]; }
    }
    members_close(&w);
    if (!missing || found != 0) { return !missing; }
    int i = 0;
    while (s->files[i]) { i++; }
    return set_error(err, "%s has no %s: fetch stl10_binary.tar.gz again", s->place.path, stl10_files[i].file.name);
}

static inline bool stl10_split(const Stl10* s, int x, Dataset* d, Error* err) {
    size_t count = s->bytes[x + 1];
    if (count == 0 || count > INT32_MAX / STL10_IMAGE || s->bytes[x] != count * STL10_IMAGE) {
        return set_error(err, "%s/%s has %zu bytes, which are not the %zu images of %s: fetch it again", s->place.path,
                         stl10_files[x].file.name, s->bytes[x], count, stl10_files[x + 1].file.name);
    }
    if (!dataset_create(d, "stl10", (int)count, STL10_CLASSES, 3, STL10_SIDE, STL10_SIDE, err)) { return false; }
    for (int k = 0; k < STL10_CLASSES; k++) { snprintf(d->class_names[k], CLASS_NAME_BYTES, "%s", stl10_classes[k]); }
    for (size_t i = 0; i < count; i++) {
        int label = s->files[x + 1][i];
        if (label < 1 || label > STL10_CLASSES) {
            return set_error(err, "%s/%s: image %zu has label %d, which is not in 1..10: it is not the file it is "
                             "named after", s->place.path, stl10_files[x + 1].file.name, i, label);
        }
        d->labels[i] = (uint16_t)(label - 1);
        transpose_planes(d->images + i * STL10_IMAGE, s->files[x] + i * STL10_IMAGE, 3, STL10_SIDE);
    }
    return true;
}

static inline bool convert_stl10(const char* set, const char* const* folders, const ConvertOptions* o, Error* err) {
    Stl10 s = {0};
    Dataset train = {0}, test = {0};
    bool ok = check_output(folders[1], set, err)
        && find_set(&s.place, folders[0], "stl10_binary", "train_X.bin", "stl10_binary.tar.gz", 1, err)
        && stl10_read(&s, o->any_hash, err) && stl10_split(&s, STL10_TRAIN_X, &train, err)
        && stl10_split(&s, STL10_TEST_X, &test, err) && save_both(&train, &test, folders[1], err);
    dataset_free(&train);
    dataset_free(&test);
    for (int i = 0; i < STL10_FILES; i++) { free(s.files[i]); }
    return ok;
}
