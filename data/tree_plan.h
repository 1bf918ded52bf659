// Jobs for trees of images, and how a tree is split into two, or reordered so that its beginning resembles the whole.
#pragma once
#include "plan.h"

// ---- a tree as a source

typedef struct {
    const ImageTree* tree;
    const ClassList* classes;
    const char* folder;        // "train", for names in reports
} TreeInput;

static inline bool tree_source_begin(Cursor* c, Error* err) {
    (void)c, (void)err;
    return true;
}

static inline int tree_source_next(Cursor* c, InputImage* image, Error* err) {
    const TreeInput* in = (const TreeInput*)c->job->input;
    if (c->at == c->job->last) { return 0; }
    const TreeImage* i = &in->tree->images[c->at++];
    const char* path = in->tree->texts.block + i->path;
    image->descriptor = -1;
    image->refused = NULL;
    image->label = (int)i->label;
    image->png = has_extension(path, ".png");
    member_key(image->key, in->classes->ids[i->label], path_in_class(path), i->twin);
    snprintf(image->from, sizeof image->from, "%.90s%s%.400s", in->folder, *in->folder ? "/" : "", path);
    if (snprintf(image->path, sizeof image->path, "%s/%s", in->tree->root, path) < (int)sizeof image->path) {
        return 1;
    }
    set_error(err, "the path %.200s... is too long: move the images to a shorter one", in->tree->root);
    return -1;
}

static const ImageSource tree_source = {tree_source_begin, tree_source_next};

// Adds jobs for a tree's images in their order, each of so many classes (0: any) and images at most.
static inline bool plan_tree(Plan* p, Split split, const TreeInput* in, uint32_t classes, size_t images, Error* err) {
    Job* job = NULL;
    for (size_t i = 0; i < in->tree->count; i++) {
        const TreeImage* image = &in->tree->images[i];
        bool other = job && classes && image->label / classes != in->tree->images[job->first].label / classes;
        if (!job || other || i - job->first == images) { job = plan_add(p, split, &tree_source, in, i, err); }
        if (!job) { return false; }
        job->last = i + 1;
        job->units++;
        job->digest = digest_number(digest_text(job->digest, in->tree->texts.block + image->path), image->label);
    }
    return true;
}

// ---- two of one

// Whether image i of n is among m evenly spaced ones
static inline bool evenly_taken(size_t i, size_t n, size_t m) { return (i + 1) * m / n > i * m / n; }

// Moves this part of each class, evenly spaced, to the other tree; at least one image of each class stays, unless all
// are to go.
static inline bool tree_split(ImageTree* from, ImageTree* to, double part, Error* err) {
    size_t kept = 0;
    memcpy(to->root, from->root, sizeof to->root);
    for (size_t first = 0, last; first < from->count; first = last) {
        for (last = first; last < from->count && from->images[last].label == from->images[first].label;) { last++; }
        size_t n = last - first, m = (size_t)(part * (double)n + 0.5);
        m = m == 0 && n > 1 ? 1 : m == n && part < 1 ? n - 1 : m;
        for (size_t i = 0; i < n; i++) {
            TreeImage image = from->images[first + i];
            if (!evenly_taken(i, n, m)) { from->images[kept++] = image; continue; }
            if (!tree_add_image(to, from->texts.block + image.path, image.label, err)) { return false; }
            to->images[to->count - 1].twin = image.twin;
        }
    }
    from->count = kept;
    return true;
}

// ---- spread

typedef struct { uint64_t place, number; } SpreadImage; // its place among all, as a fraction of 2^64; its former number

static inline int compare_spread(const void* a, const void* b) {
    const SpreadImage *x = (const SpreadImage*)a, *y = (const SpreadImage*)b;
    if (x->place != y->place) { return x->place < y->place ? -1 : 1; }
    return x->number < y->number ? -1 : x->number > y->number;
}

// Up to here images are sorted by class; afterwards image i of the n of a class comes at (i + 1/2) / n of the whole, so
// that any beginning has all classes in proportion.
static inline bool tree_spread(ImageTree* t, Error* err) {
    SpreadImage* order = (SpreadImage*)malloc((t->count + 1) * sizeof *order);
    TreeImage* images = (TreeImage*)malloc((t->count + 1) * sizeof *images);
    bool ok = (order && images) || set_error(err, "no memory for a list of %zu images: close other programs", t->count);
    for (size_t first = 0, last; first < t->count && ok; first = last) {
        for (last = first; last < t->count && t->images[last].label == t->images[first].label;) { last++; }
        for (size_t i = first; i < last; i++) {
            order[i] = (SpreadImage){(2 * (i - first) + 1) * (UINT64_MAX / (2 * (last - first))), i};
        }
    }
    if (ok) {
        qsort(order, t->count, sizeof *order, compare_spread);
        memcpy(images, t->images, t->count * sizeof *images);
        for (size_t i = 0; i < t->count; i++) { t->images[i] = images[order[i].number]; }
    }
    free(order);
    free(images);
    return ok;
}
