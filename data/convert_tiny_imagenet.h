// Tiny ImageNet: tiny-imagenet-200.zip, packed or unpacked.
//
//   wnids.txt                          200 WordNet ids, one per line; sorted, they are the classes
//   words.txt                          id, tab, lemmas with ", " between them; of all of WordNet
//   train/ID/images/ID_0.JPEG ..       500 images per class, 64 x 64; about 2 % of all are grey
//   val/images/val_0.JPEG ..           10,000 images: the test split
//   val/val_annotations.txt            file, tab, id, tab, a box
//   test/                              images without labels, not used
//
// What is there is listed first; images are ordered by path, wherever they lie in the archive.
#pragma once
#include "convert_options.h"
#include "decode.h"
#include "members.h"
#include "save_splits.h"
#include "source_file.h"

enum {
    TINY_SIDE = 64, TINY_IMAGE = 3 * TINY_SIDE * TINY_SIDE, TINY_NAME = 64, TINY_ID = 10,
    TINY_TEXT_LIMIT = 16 << 20, TINY_IMAGE_LIMIT = 1 << 20, TINY_IMAGES_LIMIT = 10000000,
    TINY_CLASSES = 200, TINY_TRAIN = 100000, TINY_VAL = 10000,
};
static const SizedFile tiny_zip = {{"tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de"}, 248100043};

typedef struct {
    char name[TINY_NAME]; // "val/images/val_0.JPEG"
    int label;            // -1: not known yet
    bool done;
} TinyImage;

typedef struct {
    TinyImage* list; // by name, once all are there
    int count, room;
} TinyImages;

typedef struct { char id[TINY_ID], name[CLASS_NAME_BYTES]; } TinyClass;

typedef struct {
    SetPlace place;
    char *wnids, *words, *annotations; // the texts
    TinyClass* classes;                // (class_count) by id
    int class_count;
    TinyImages train, val;
} TinyImagenet;

static inline void tiny_free(TinyImagenet* t) {
    free(t->wnids);
    free(t->words);
    free(t->annotations);
    free(t->classes);
    free(t->train.list);
    free(t->val.list);
}

// ---- what is there ----

static inline bool tiny_add(TinyImages* images, const char* name, Error* err) {
    if (strlen(name) >= TINY_NAME || images->count == TINY_IMAGES_LIMIT) {
        return set_error(err, "%s: this name, or so many images, are not Tiny ImageNet's: fetch the official set",
                         name);
    }
    if (images->count == images->room) {
        int room = 2 * images->room + 1024;
        TinyImage* grown = (TinyImage*)realloc(images->list, (size_t)room * sizeof *grown);
        if (!grown) { return set_error(err, "no memory for a list of %d images: close other programs", room); }
        images->list = grown;
        images->room = room;
    }
    TinyImage* image = &images->list[images->count++];
    *image = (TinyImage){.label = -1};
    strcpy(image->name, name);
    return true;
}

// Takes the walk's current file: a text is kept, an image is listed, others are skipped.
static inline bool tiny_take(TinyImagenet* t, MemberWalk* w, Error* err) {
    char** text = strcmp(w->name, "wnids.txt") == 0 ? &t->wnids : strcmp(w->name, "words.txt") == 0 ? &t->words
                : strcmp(w->name, "val/val_annotations.txt") == 0 ? &t->annotations : NULL;
    if (text && !*text) { return (*text = (char*)members_take(w, TINY_TEXT_LIMIT, err)) != NULL; }
    if (fnmatch("train/*/images/*.JPEG", w->name, FNM_PATHNAME) == 0) { return tiny_add(&t->train, w->name, err); }
    if (fnmatch("val/images/*.JPEG", w->name, FNM_PATHNAME) == 0) { return tiny_add(&t->val, w->name, err); }
    return true;
}

static inline int compare_tiny_images(const void* a, const void* b) {
    return strcmp(((const TinyImage*)a)->name, ((const TinyImage*)b)->name);
}

static inline bool tiny_sort(TinyImages* images, Error* err) {
    if (images->count) { qsort(images->list, (size_t)images->count, sizeof *images->list, compare_tiny_images); }
    for (int i = 1; i < images->count; i++) {
        if (strcmp(images->list[i].name, images->list[i - 1].name) == 0) {
            return set_error(err, "%s is there twice: fetch tiny-imagenet-200.zip again", images->list[i].name);
        }
    }
    return true;
}

static inline TinyImage* tiny_find(const TinyImages* images, const char* name) {
    TinyImage key;
    if (!images->count || strlen(name) >= TINY_NAME) { return NULL; }
    strcpy(key.name, name);
    return (TinyImage*)bsearch(&key, images->list, (size_t)images->count, sizeof key, compare_tiny_images);
}

static inline bool tiny_list(TinyImagenet* t, Error* err) {
    MemberWalk w;
    int found;
    if (!members_open(&w, &t->place, err)) { return false; }
    while ((found = members_next(&w, err)) > 0 && tiny_take(t, &w, err)) {}
    members_close(&w);
    if (found != 0) { return false; }
    const char* missing = !t->wnids ? "wnids.txt" : !t->words ? "words.txt"
                        : !t->annotations ? "val/val_annotations.txt" : NULL;
    if (missing) {
        return set_error(err, "%s has no %s: fetch tiny-imagenet-200.zip again", t->place.path, missing);
    }
    return tiny_sort(&t->train, err) && tiny_sort(&t->val, err);
}

// ---- classes and labels ----

// Moves *text past the line; returns its length without the end.
static inline size_t next_line(char** text, char** line) {
    *line = *text;
    size_t length = strcspn(*text, "\r\n");
    *text += length + strspn(*text + length, "\r\n");
    return length;
}

static inline int compare_tiny_classes(const void* a, const void* b) {
    return strcmp(((const TinyClass*)a)->id, ((const TinyClass*)b)->id);
}

// id: not terminated by a zero
static inline TinyClass* tiny_class(const TinyImagenet* t, const char* id, size_t length) {
    TinyClass key = {0};
    if (length >= TINY_ID) { return NULL; }
    memcpy(key.id, id, length);
    return (TinyClass*)bsearch(&key, t->classes, (size_t)t->class_count, sizeof key, compare_tiny_classes);
}

// Each class is named by its id until there is a better name.
static inline bool tiny_read_ids(TinyImagenet* t, Error* err) {
    char *text = t->wnids, *line;
    t->classes = (TinyClass*)calloc(strlen(text) / (TINY_ID - 1) + 1, sizeof *t->classes);
    if (!t->classes) { return set_error(err, "no memory for the classes: close other programs"); }
    while (*text) {
        size_t length = next_line(&text, &line);
        if (length == 0) { continue; }
        if (length != TINY_ID - 1 || strspn(line + 1, "0123456789") != 8 || line[0] != 'n') {
            return set_error(err, "%s: wnids.txt has a line '%.*s', which is no WordNet id: fetch it again",
                             t->place.path, (int)(length < 40 ? length : 40), line);
        }
        TinyClass* c = &t->classes[t->class_count++];
        memcpy(c->id, line, length);
        memcpy(c->name, line, length);
    }
    if (t->class_count == 0 || t->class_count > MAX_CLASSES) {
        return set_error(err, "%s: wnids.txt names %d classes: fetch it again", t->place.path, t->class_count);
    }
    qsort(t->classes, (size_t)t->class_count, sizeof *t->classes, compare_tiny_classes);
    for (int k = 1; k < t->class_count; k++) {
        if (strcmp(t->classes[k].id, t->classes[k - 1].id) == 0) {
            return set_error(err, "%s: wnids.txt has %s twice: fetch it again", t->place.path, t->classes[k].id);
        }
    }
    return true;
}

// The first lemma, as much of it as fits
static inline void tiny_read_names(TinyImagenet* t) {
    char *text = t->words, *line;
    while (*text) {
        size_t length = next_line(&text, &line), id = strcspn(line, "\t\r\n");
        TinyClass* c = id < length ? tiny_class(t, line, id) : NULL;
        size_t lemma = strcspn(line + id + (id < length), ",\t\r\n");
        if (!c || lemma == 0) { continue; }
        snprintf(c->name, sizeof c->name, "%.*s", (int)lemma, line + id + 1);
        hide_control_characters(c->name);
    }
}

static inline bool tiny_label_train(TinyImagenet* t, Error* err) {
    for (int i = 0; i < t->train.count; i++) {
        TinyImage* image = &t->train.list[i];
        const char* id = image->name + strlen("train/");
        TinyClass* c = tiny_class(t, id, strcspn(id, "/"));
        if (!c) {
            return set_error(err, "%s: %s is of a class that wnids.txt does not have: fetch it again", t->place.path,
                             image->name);
        }
        image->label = (int)(c - t->classes);
    }
    return true;
}

static inline bool tiny_label_val(TinyImagenet* t, Error* err) {
    char *text = t->annotations, *line, name[TINY_NAME];
    while (*text) {
        size_t length = next_line(&text, &line), file = strcspn(line, "\t\r\n");
        if (length == 0) { continue; }
        const char* id = line + file + (file < length);
        TinyClass* c = tiny_class(t, id, strcspn(id, "\t\r\n"));
        int whole = snprintf(name, sizeof name, "val/images/%.*s", (int)(file < TINY_NAME ? file : TINY_NAME), line);
        TinyImage* image = whole < TINY_NAME ? tiny_find(&t->val, name) : NULL;
        if (!c || !image) {
            return set_error(err, "%s: val_annotations.txt has a line '%.*s', which names no image and class: fetch it "
                             "again", t->place.path, (int)(length < 60 ? length : 60), line);
        }
        image->label = (int)(c - t->classes);
    }
    for (int i = 0; i < t->val.count; i++) {
        if (t->val.list[i].label < 0) {
            return set_error(err, "%s: val_annotations.txt does not name %s: fetch it again", t->place.path,
                             t->val.list[i].name);
        }
    }
    return true;
}

static inline bool tiny_check_counts(const TinyImagenet* t, bool any_hash, Error* err) {
    bool official = t->class_count == TINY_CLASSES && t->train.count == TINY_TRAIN && t->val.count == TINY_VAL;
    if (t->train.count == 0 || t->val.count == 0 || (!official && !any_hash)) {
        return set_error(err, "%s has %d classes, %d images in train and %d in val, where Tiny ImageNet has %d, %d and "
                         "%d: fetch it again, or give --any-hash to convert a changed data set", t->place.path,
                         t->class_count, t->train.count, t->val.count, TINY_CLASSES, TINY_TRAIN, TINY_VAL);
    }
    return true;
}

// ---- images ----

static inline bool tiny_create(const TinyImagenet* t, const TinyImages* images, Dataset* d, Error* err) {
    if (!dataset_create(d, "tiny-imagenet", images->count, t->class_count, 3, TINY_SIDE, TINY_SIDE, err)) {
        return false;
    }
    for (int k = 0; k < t->class_count; k++) { memcpy(d->class_names[k], t->classes[k].name, CLASS_NAME_BYTES); }
    for (int i = 0; i < images->count; i++) { d->labels[i] = (uint16_t)images->list[i].label; }
    return true;
}

// out (3, TINY_SIDE, TINY_SIDE). err: the reason alone
static inline bool tiny_decode(Decoder* decoder, const uint8_t* bytes, size_t count, uint8_t* out, Error* err) {
    ImageInfo info;
    if (!image_info(&info, bytes, count, err)) { return false; }
    if (info.height != TINY_SIDE || info.width != TINY_SIDE) {
        return set_error(err, "has %d x %d pixels instead of 64 x 64", info.width, info.height);
    }
    return decode_box(decoder, bytes, count, whole_image(info), out, err);
}

// Takes the walk's current file, if it is an image of the split.
static inline bool tiny_take_image(TinyImages* images, Dataset* d, MemberWalk* w, Decoder* decoder, Error* err) {
    Error reason;
    TinyImage* image = tiny_find(images, w->name);
    if (!image) { return true; }
    uint8_t* bytes = members_take(w, TINY_IMAGE_LIMIT, err);
    if (!bytes) { return false; }
    uint8_t* out = d->images + (size_t)(image - images->list) * TINY_IMAGE;
    image->done = tiny_decode(decoder, bytes, (size_t)w->bytes, out, &reason);
    free(bytes);
    return image->done || set_error(err, "%s: %s %s: fetch it again", w->place.path, w->name, reason.text);
}

static inline bool tiny_read_images(TinyImagenet* t, Dataset* train, Dataset* val, Error* err) {
    MemberWalk w;
    int found;
    if (!members_open(&w, &t->place, err)) { return false; }
    Decoder* decoder = decoder_create();
    while ((found = members_next(&w, err)) > 0 && tiny_take_image(&t->train, train, &w, decoder, err)
           && tiny_take_image(&t->val, val, &w, decoder, err)) {}
    decoder_free(decoder);
    members_close(&w);
    bool all = true;
    for (int i = 0; i < t->train.count; i++) { all = all && t->train.list[i].done; }
    for (int i = 0; i < t->val.count; i++) { all = all && t->val.list[i].done; }
    return found == 0 && (all || set_error(err, "%s was changed while it was read", t->place.path));
}

static inline bool convert_tiny_imagenet(const char* set, const char* const* folders, const ConvertOptions* o,
                                         Error* err) {
    TinyImagenet t = {0};
    Dataset train = {0}, val = {0};
    bool ok = check_output(folders[1], set, err)
        && find_set(&t.place, folders[0], "tiny-imagenet-200", "wnids.txt", tiny_zip.file.name, 4, err)
        && (!t.place.archive || check_sized_file(&tiny_zip, t.place.path, o->any_hash, err))
        && tiny_list(&t, err) && tiny_read_ids(&t, err)
        && tiny_check_counts(&t, o->any_hash, err) && tiny_label_train(&t, err) && tiny_label_val(&t, err);
    if (ok) { tiny_read_names(&t); }
    ok = ok && tiny_create(&t, &t.train, &train, err) && tiny_create(&t, &t.val, &val, err)
        && tiny_read_images(&t, &train, &val, err) && save_both(&train, &val, folders[1], err);
    dataset_free(&train);
    dataset_free(&val);
    tiny_free(&t);
    return ok;
}
