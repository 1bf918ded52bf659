// Street View House Numbers, format 2 (cropped digits): three MATLAB files, each with
//   X  uint8, 32 x 32 x 3 x N, column-major: an image is 3072 consecutive bytes, three planes column by column
//   y  N x 1, 1..10; 10 means the digit 0
// The training split is train_32x32.mat; with --extra, extra_32x32.mat's 531,131 images as well, which are easier.
#pragma once
#include "column_major.h"
#include "convert_options.h"
#include "mat5.h"
#include "save_splits.h"
#include "source_file.h"

enum { SVHN_SIDE = 32, SVHN_IMAGE = 3 * SVHN_SIDE * SVHN_SIDE, SVHN_LIMIT = INT32_MAX };

typedef enum { SVHN_TRAIN, SVHN_TEST, SVHN_EXTRA, SVHN_PARTS } SvhnPartName;
static const SizedFile svhn_files[SVHN_PARTS] = {
    {{"train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373"}, 182040794},
    {{"test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3"}, 64275384},
    {{"extra_32x32.mat", "a93ce644f1a588dc4d68dda5feec44a7"}, 1329278602},
};
static const int svhn_counts[SVHN_PARTS] = {73257, 26032, 531131};

typedef struct {
    char path[PATH_MAX];
    Mat5 file;
    const Mat5Array* images;
    int* labels; // (count) 1..10
    int count;
} SvhnPart;

static inline void svhn_close(SvhnPart* p) {
    mat5_close(&p->file);
    free(p->labels);
}

static inline bool svhn_check_arrays(SvhnPart* p, int official, bool any_hash, Error* err) {
    const Mat5Array* x = p->images = mat5_find(&p->file, "X", err);
    if (!x || !(p->labels = mat5_integers(&p->file, "y", 1, 10, &p->count, err))) { return false; }
    bool images = x->class == MAT5_CLASS_UINT8 && x->type == MAT5_UINT8 && x->dims >= 3 && x->dims <= 4
        && x->dim[0] == SVHN_SIDE && x->dim[1] == SVHN_SIDE && x->dim[2] == 3;
    if (!images || x->count == 0) {
        return set_error(err, "%s: X is not 32 x 32 x 3 x N of uint8: it is not the file it is named after", p->path);
    }
    if (x->count != (uint64_t)p->count * SVHN_IMAGE) {
        return set_error(err, "%s: %llu images, but %d labels: fetch it again", p->path,
                         (unsigned long long)x->count / SVHN_IMAGE, p->count);
    }
    return p->count == official || any_hash
        || set_error(err, "%s has %d images, the official one %d: fetch it again, or give --any-hash to convert a "
                     "changed data set", p->path, p->count, official);
}

static inline bool svhn_open(SvhnPart* p, SvhnPartName name, const char* dir, bool any_hash, Error* err) {
    const SizedFile* f = &svhn_files[name];
    return find_source(p->path, dir, f->file.name, "svhn", err) && check_sized_file(f, p->path, any_hash, err)
        && mat5_open(&p->file, p->path, SVHN_LIMIT, err) && svhn_check_arrays(p, svhn_counts[name], any_hash, err);
}

// Into d, from image `first` on
static inline bool svhn_fill(const SvhnPart* p, Dataset* d, int first, Error* err) {
    uint8_t stored[SVHN_IMAGE];
    Mat5Stream s;
    if (!mat5_values_begin(&s, &p->file, p->images, err)) { return false; }
    bool ok = true;
    for (int i = 0; i < p->count && ok; i++) {
        ok = mat5_values_read(&s, &p->file, p->images, stored, sizeof stored, err);
        transpose_planes(d->images + (size_t)(first + i) * SVHN_IMAGE, stored, 3, SVHN_SIDE);
        d->labels[first + i] = (uint16_t)(p->labels[i] % 10);
    }
    return mat5_values_end(&s, &p->file, p->images, ok, err);
}

// more: NULL, or images that follow
static inline bool svhn_split(const SvhnPart* p, const SvhnPart* more, const char* name, Dataset* d, Error* err) {
    int count = p->count + (more ? more->count : 0);
    if (!dataset_create(d, name, count, 10, 3, SVHN_SIDE, SVHN_SIDE, err)) { return false; }
    for (int k = 0; k < 10; k++) { snprintf(d->class_names[k], CLASS_NAME_BYTES, "%d", k); }
    return svhn_fill(p, d, 0, err) && (!more || svhn_fill(more, d, p->count, err));
}

static inline bool convert_svhn(const char* set, const char* const* folders, const ConvertOptions* o, Error* err) {
    (void)set;
    const char* name = o->extra ? "svhn-extra" : "svhn";
    Dataset train = {0}, test = {0};
    SvhnPart* parts = (SvhnPart*)calloc(SVHN_PARTS, sizeof *parts);
    bool ok = parts ? check_output(folders[1], name, err) : set_error(err, "no memory: close other programs");
    for (int i = 0; i < SVHN_PARTS && ok; i++) {
        ok = (i == SVHN_EXTRA && !o->extra) || svhn_open(&parts[i], (SvhnPartName)i, folders[0], o->any_hash, err);
    }
    ok = ok && svhn_split(&parts[SVHN_TRAIN], o->extra ? &parts[SVHN_EXTRA] : NULL, name, &train, err)
        && svhn_split(&parts[SVHN_TEST], NULL, name, &test, err) && save_both(&train, &test, folders[1], err);
    dataset_free(&train);
    dataset_free(&test);
    for (int i = 0; i < SVHN_PARTS && parts; i++) { svhn_close(&parts[i]); }
    free(parts);
    return ok;
}
