// What is known about the whole of ImageNet-1K, by which a complete and correct set can be told from others: how many
// images there are, and the classes of some of them.
#pragma once
#include "source_file.h"
#include "report.h"

enum {
    IMAGENET_CLASSES = 1000, IMAGENET_TRAIN = 1281167, IMAGENET_VAL = 50000,
    IMAGENET_LEAST = 732, IMAGENET_MOST = 1300, IMAGENET_VAL_A_CLASS = 50,
};
#define IMAGENET_IDS_MD5 "5ef135d00f8768c0f62853cd9dbc563d" // of the sorted ids, one per line

// Whether the classes are exactly those of ImageNet-1K. Without libcrypto, their number has to suffice.
static inline bool are_imagenet_classes(const ClassList* c) {
    char text[33] = "", *ids = c->count == IMAGENET_CLASSES ? (char*)malloc(IMAGENET_CLASSES * CLASS_NAME_BYTES) : NULL;
    size_t length = 0;
    for (int k = 0; k < c->count && ids; k++) { length += (size_t)sprintf(ids + length, "%s\n", c->ids[k]); }
    bool right = ids && (!HAVE_MD5 || (md5_text(text, (const uint8_t*)ids, length)
                                       && strcmp(text, IMAGENET_IDS_MD5) == 0));
    free(ids);
    return right;
}

// ---- Whether validation images have the right classes

// Classes of images, by number, as they are met
typedef struct {
    int32_t* labels;   // (IMAGENET_VAL + 1) of image k; -1: not met
} ValLabels;

static inline bool val_labels_create(ValLabels* v, Error* err) {
    v->labels = (int32_t*)malloc((IMAGENET_VAL + 1) * sizeof *v->labels);
    for (int k = 0; k <= IMAGENET_VAL && v->labels; k++) { v->labels[k] = -1; }
    return v->labels || set_error(err, "no memory for the labels of the validation images: close other programs");
}

static inline void val_labels_add(ValLabels* v, uint32_t number, int label) {
    if (number >= 1 && number <= IMAGENET_VAL) { v->labels[number] = label; }
}

// Whether three images whose classes are known have these classes, as far as they were met
static inline bool val_labels_right(const ValLabels* v) {
    static const int known[][2] = {{1, 65}, {293, 0}, {543, 0}};
    bool right = true;
    for (int i = 0; i < 3; i++) {
        int label = v->labels[known[i][0]];
        right = right && (label < 0 || label == known[i][1]);
    }
    return right;
}

static inline bool val_labels_ascend(const ValLabels* v) {
    int met = 0, last = -1;
    for (int k = 1; k <= IMAGENET_VAL; k++) {
        if (v->labels[k] < 0) { continue; }
        if (v->labels[k] < last) { return false; }
        last = v->labels[k];
        met++;
    }
    return met > 1;
}

// What is wrong with the labels of the 1000 classes' images, in words; NULL: nothing known
static inline const char* val_labels_fault(const ValLabels* v) {
    if (val_labels_right(v)) { return NULL; }
    if (v->labels[1] == 489 || v->labels[1] == 490) {
        return "they look like the development kit's numbers (ILSVRC2012_ID), which are not the places of the sorted "
               "WordNet ids";
    }
    if (val_labels_ascend(v)) {
        return "they ascend with the numbers of the images, as if these had been laid into folders without the ground "
               "truth";
    }
    return "image 1 is not of class n01751748, or image 293 or 543 not of n01440764: images and labels are in another "
           "order";
}

// ---- at the end

static inline void check_counts(FILE* out, const SetSummary* s, Split split, uint64_t images, uint32_t least,
                                uint32_t most) {
    int outside = 0;
    if (!s->plan->shards[split]) { return; }
    for (int k = 0; k < s->plan->classes.count; k++) {
        outside += s->of_class[split][k] < least || s->of_class[split][k] > most;
    }
    if (s->images[split] == images && !outside) {
        fprintf(out, "check: %s has the %llu images of ImageNet-1K, %u to %u a class\n", split_names[split],
                (unsigned long long)images, least, most);
        return;
    }
    fprintf(out, "warning: %s has %llu images, ImageNet-1K has %llu; %d classes have fewer than %u or more than %u: a "
            "download that is not complete, or images that could not be read\n", split_names[split],
            (unsigned long long)s->images[split], (unsigned long long)images, outside, least, most);
}

static inline void imagenet_checks(FILE* out, const SetSummary* s) {
    if (!are_imagenet_classes(&s->plan->classes)) { return; }
    check_counts(out, s, SPLIT_TRAIN, IMAGENET_TRAIN, IMAGENET_LEAST, IMAGENET_MOST);
    check_counts(out, s, SPLIT_VAL, IMAGENET_VAL, IMAGENET_VAL_A_CLASS, IMAGENET_VAL_A_CLASS);
}
