// ImageNet's validation images when they are not in folders of classes: in one archive, in any order, or in one folder.
// Their names have numbers, and a text tells the class of each number. They come in the order of their numbers.
#pragma once
#include "class_tars.h"
#include "imagenet_text.h"
#include "tree_plan.h"

typedef struct {
    uint32_t number, label;
    uint64_t offset, bytes;
} ValImage;

typedef struct {
    char path[PATH_MAX];
    ValImage* images;     // (count)
    size_t count, room;
    size_t left_out;      // images of classes that the set does not have
    const ClassList* classes;
} ValTar;

static inline void val_tar_free(ValTar* v) {
    free(v->images);
    *v = (ValTar){0};
}

// ---- labels

enum { LABEL_UNTOLD = -1, LABEL_LEFT_OUT = -2 };

static inline int truth_label(const ImagenetText* t, const ClassList* classes, uint32_t number) {
    if (number < 1 || number > t->truth_count || t->truth[number - 1] < 0) { return LABEL_UNTOLD; }
    int label = class_number(classes, table_text(&t->wnids, (size_t)t->truth[number - 1]));
    return label < 0 ? LABEL_LEFT_OUT : label;
}

// Always false
static inline bool no_truth(const ImagenetText* t, const char* name, const char* path, Error* err) {
    if (!val_number(name)) {
        return set_error(err, "%s holds %s, and names like ILSVRC2012_val_00000001.JPEG are wanted: take it out", path,
                         name);
    }
    if (*t->truth_from) { return set_error(err, "%s says nothing of %s: fetch it again", t->truth_from, name); }
    return set_error(err, "nothing says of which classes the images in %s are: put " DEVKIT ".tar.gz beside, or "
                     "Kaggle's LOC_val_solution.csv, or a text file with a WordNet id a line", path);
}

// ---- the archive

static inline bool val_tar_take(ValTar* v, const TarWalk* w, const ImagenetText* t, Error* err) {
    const char* slash = strrchr(w->name, '/');
    const char* name = slash ? slash + 1 : w->name;
    uint32_t number = val_number(name);
    int label = truth_label(t, v->classes, number);
    if (label == LABEL_UNTOLD) { return no_truth(t, name, v->path, err); }
    v->left_out += label == LABEL_LEFT_OUT;
    if (label == LABEL_LEFT_OUT) { return true; }
    ValImage* images = (ValImage*)array_grow(v->images, v->count, &v->room, sizeof *images, err);
    if (!images) { return false; }
    v->images = images;
    v->images[v->count++] = (ValImage){number, (uint32_t)label, w->offset, w->bytes};
    return true;
}

static inline int compare_val_images(const void* a, const void* b) {
    const ValImage *x = (const ValImage*)a, *y = (const ValImage*)b;
    return x->number < y->number ? -1 : x->number > y->number;
}

// Reads all its headers; path and classes are set already.
static inline bool val_tar_read(ValTar* v, const ImagenetText* t, Error* err) {
    struct stat status;
    int found, descriptor = open_archive(v->path, &status, err);
    TarWalk* w = (TarWalk*)malloc(sizeof *w);
    bool ok = descriptor >= 0 && (w || set_error(err, "no memory to read %s: close other programs", v->path));
    if (ok) { tar_begin(w, descriptor, v->path, 0, (uint64_t)status.st_size); }
    while (ok && (found = tar_next(w, err)) != 0) {
        ok = found > 0 && (!tar_is_file(w) || !is_image_name(w->name) || val_tar_take(v, w, t, err));
    }
    free(w);
    if (descriptor >= 0) { close(descriptor); }
    if (ok && !v->count) { ok = set_error(err, "%s holds no image of the set's classes", v->path); }
    if (ok) { qsort(v->images, v->count, sizeof *v->images, compare_val_images); }
    for (size_t i = 1; i < v->count && ok; i++) {
        if (v->images[i].number == v->images[i - 1].number) {
            ok = set_error(err, "%s holds image %u twice", v->path, v->images[i].number);
        }
    }
    return ok;
}

static inline bool val_tar_begin(Cursor* c, Error* err) {
    struct stat status;
    int descriptor = open_archive(((const ValTar*)c->job->input)->path, &status, err);
    if (descriptor >= 0) { c->descriptors[c->descriptor_count++] = descriptor; }
    return descriptor >= 0;
}

static inline int val_tar_next(Cursor* c, InputImage* image, Error* err) {
    const ValTar* in = (const ValTar*)c->job->input;
    (void)err;
    if (c->at == c->job->last) { return 0; }
    const ValImage* v = &in->images[c->at++];
    image->descriptor = c->descriptors[0];
    image->offset = v->offset;
    image->bytes = v->bytes;
    image->refused = NULL;
    image->label = (int)v->label;
    image->png = false;
    snprintf(image->from, sizeof image->from, "ILSVRC2012_val_%08u.JPEG", v->number);
    member_key(image->key, in->classes->ids[v->label], image->from, 0);
    return 1;
}

static const ImageSource val_tar_source = {val_tar_begin, val_tar_next};

static inline bool plan_val_tar(Plan* p, const ValTar* in, Error* err) {
    for (size_t first = 0; first < in->count; first += VAL_IMAGES_A_SHARD) {
        Job* job = plan_add(p, SPLIT_VAL, &val_tar_source, in, first, err);
        if (!job) { return false; }
        job->last = in->count - first < VAL_IMAGES_A_SHARD ? in->count : first + VAL_IMAGES_A_SHARD;
        for (size_t i = first; i < job->last; i++) {
            job->units += (double)in->images[i].bytes;
            job->digest = digest_number(digest_bytes(job->digest, &in->images[i].number, 8), in->images[i].bytes);
        }
    }
    return true;
}

// ---- the folder

static inline int compare_val_tree(const void* a, const void* b) {
    const char *x = tree_texts + ((const TreeImage*)a)->path, *y = tree_texts + ((const TreeImage*)b)->path;
    uint32_t i = val_number(x), j = val_number(y);
    return i != j ? (i < j ? -1 : 1) : strcmp(x, y);
}

static inline void tree_sort_by_number(ImageTree* t) {
    tree_texts = t->texts.block;
    if (t->count) { qsort(t->images, t->count, sizeof *t->images, compare_val_tree); }
}

static inline bool all_have_numbers(const ImageTree* t) {
    for (size_t i = 0; i < t->count; i++) {
        if (!val_number(t->texts.block + t->images[i].path)) { return false; }
    }
    return t->count > 0;
}

// The images in t->root itself, with the classes that the text gives
static inline bool val_folder_read(ImageTree* t, const ClassList* classes, const ImagenetText* text, size_t* left_out,
                                   Error* err) {
    DIR* entries = opendir(t->root);
    bool ok = entries || set_error(err, "cannot look into %s: %s", t->root, strerror(errno));
    *left_out = 0;
    for (struct dirent* e; ok && (e = readdir(entries));) {
        if (e->d_name[0] == '.') { continue; }
        if (!is_image_name(e->d_name)) {
            ok = tree_add_other(t, e->d_name, err);
            continue;
        }
        int label = truth_label(text, classes, val_number(e->d_name));
        *left_out += label == LABEL_LEFT_OUT;
        if (label == LABEL_UNTOLD) { ok = no_truth(text, e->d_name, t->root, err); }
        if (label >= 0) { ok = tree_add_image(t, e->d_name, (uint32_t)label, err); }
    }
    if (entries) { closedir(entries); }
    if (ok && !t->count) { ok = set_error(err, "%s holds no image of the set's classes", t->root); }
    if (ok) { tree_sort_by_number(t); }
    return ok;
}
