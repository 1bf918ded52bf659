// Any folder of classes to shards: INPUT/train/CLASS/... and INPUT/val/CLASS/..., or INPUT/CLASS/... and a part of each
// class for validation.
#pragma once
#include "prepare_set.h"
#include "tree_plan.h"
#include "treatment.h"

typedef struct {
    char root[PATH_MAX];
    ImageTree trees[SPLITS];
    TreeInput inputs[SPLITS];
    char folders[SPLITS][16]; // "train", "test"; empty where the root holds the classes
} FolderInput;

static inline void folder_input_free(FolderInput* in) {
    for (int split = 0; split < SPLITS; split++) { tree_free(&in->trees[split]); }
}

static inline bool holds_folder(const char* root, const char* name) {
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", root, name) < (int)sizeof path && is_folder(path);
}

// Finds the folders of the splits.
static inline bool find_splits(FolderInput* in, double split, Error* err) {
    static const char* const names[] = {"val", "validation", "valid", "test"};
    const char *val = NULL, *root = in->root;
    for (size_t i = 0; i < 4 && !val; i++) { val = holds_folder(root, names[i]) ? names[i] : NULL; }
    bool train = holds_folder(root, "train");
    if (!is_folder(root)) {
        return set_error(err, "%s is no folder that can be looked into: give one that holds a folder for each class, "
                         "or train and val with these", root);
    }
    if (train && val && split > 0) {
        return set_error(err, "%s/%s holds images for validation: leave --split out", root, val);
    }
    if (!(train && val) && split == 0) {
        return set_error(err, "%s has no folders train and val: give --split 0.1 to take a tenth of each class for "
                         "validation", root);
    }
    snprintf(in->folders[SPLIT_TRAIN], sizeof in->folders[0], "%s", train ? "train" : "");
    snprintf(in->folders[SPLIT_VAL], sizeof in->folders[0], "%s", train && val ? val : in->folders[SPLIT_TRAIN]);
    return true;
}

static inline bool tree_open(ImageTree* t, const char* root, const char* folder, Error* err) {
    int length = snprintf(t->root, sizeof t->root, "%s%s%s", root, *folder ? "/" : "", folder);
    return length < (int)sizeof t->root || set_error(err, "the path %.100s... is too long: move the images", root);
}

// An output folder among the classes would count as a class when the command resumes.
static inline bool check_outside(const char* output, const ImageTree* t, Error* err) {
    char root[PATH_MAX], part[PATH_MAX], whole[PATH_MAX];
    snprintf(part, sizeof part, "%s", output);
    cut_to_existing(part);
    if (!realpath(t->root, root) || !realpath(part, whole)) { return true; } // reported elsewhere
    size_t length = strlen(root);
    bool inside = strncmp(root, whole, length) == 0 && (whole[length] == '/' || !whole[length]);
    return !inside || set_error(err, "%s lies in %s, whose folders are the classes: choose another output folder",
                                output, t->root);
}

// For the folders in a tree's root
static inline bool tree_classes(ClassList* classes, const ImageTree* t, Error* err) {
    int count = 0;
    char (*folders)[FOLDER_NAME_BYTES] = list_folders(t->root, &count, err);
    if (!folders) { return false; }
    if (count == 0 || !classes_sorted(classes, folders, count, err)) {
        free(folders);
        return count > 0 || set_error(err, "%s holds no folders: a folder for each class is wanted", t->root);
    }
    return true;
}

static inline bool tree_fill(ImageTree* t, const ClassList* classes, Error* err) {
    char path[PATH_MAX];
    for (int k = 0; k < classes->count; k++) {
        snprintf(path, sizeof path, "%.3800s/%s", t->root, classes->folders[k]);
        if (is_folder(path) && !tree_add_class(t, classes->folders[k], k, err)) { return false; }
    }
    return t->count || set_error(err, "%s: no file in its folders ends in .jpg, .jpeg or .png", t->root);
}

// A validation folder without a training folder of the same name is misnamed or misplaced.
static inline bool check_classes(const ImageTree* t, const ClassList* classes, Error* err) {
    int count = 0;
    char (*folders)[FOLDER_NAME_BYTES] = list_folders(t->root, &count, err);
    bool ok = folders != NULL;
    for (int i = 0; i < count && ok; i++) {
        ok = class_number(classes, folders[i]) >= 0
            || set_error(err, "%s/%s is no class for training: rename it, or take it out", t->root, folders[i]);
    }
    free(folders);
    return ok;
}

static inline bool folder_images(FolderInput* in, Plan* p, double split, Error* err) {
    ImageTree *train = &in->trees[SPLIT_TRAIN], *val = &in->trees[SPLIT_VAL];
    if (!tree_open(train, in->root, in->folders[SPLIT_TRAIN], err) || !check_outside(p->output, train, err)
        || !tree_classes(&p->classes, train, err)
        || !tree_fill(train, &p->classes, err)) {
        return false;
    }
    if (split > 0) { return tree_split(train, val, split, err) && tree_spread(val, err); }
    return tree_open(val, in->root, in->folders[SPLIT_VAL], err) && check_classes(val, &p->classes, err)
        && tree_fill(val, &p->classes, err) && tree_spread(val, err);
}

// The folder's own name, even if it is given as . or with a slash at the end
static inline void folder_name(char name[DATASET_NAME_BYTES], const char* path) {
    char whole[PATH_MAX];
    const char* slash = realpath(path, whole) ? strrchr(whole, '/') : NULL;
    plain_field(name, slash && slash[1] ? slash + 1 : "images", DATASET_NAME_BYTES);
}

static inline bool plan_folder(FolderInput* in, Plan* p, double split, Error* err) {
    if (!find_splits(in, split, err)) { return false; }
    folder_name(p->name, in->root);
    printf("looking through %s\n", in->root);
    output_flush();
    if (!folder_images(in, p, split, err)) { return false; }
    for (int s = 0; s < SPLITS; s++) {
        in->inputs[s] = (TreeInput){&in->trees[s], &p->classes, in->folders[s]};
        p->trees[s] = &in->trees[s];
    }
    printf("%d classes, %zu images for training, %zu for validation\n", p->classes.count, in->trees[SPLIT_TRAIN].count,
           in->trees[SPLIT_VAL].count);
    return plan_tree(p, SPLIT_TRAIN, &in->inputs[SPLIT_TRAIN], CLASSES_A_SHARD, TRAIN_IMAGES_A_SHARD, err)
        && plan_tree(p, SPLIT_VAL, &in->inputs[SPLIT_VAL], 0, VAL_IMAGES_A_SHARD, err);
}

static inline bool convert_folder(const char* command, const char* const* folders, const ConvertOptions* o,
                                  Error* err) {
    FolderInput* in = (FolderInput*)calloc(1, sizeof *in);
    Plan plan = {.output = folders[1], .writes = true};
    Treatment treatment;
    if (!in) { return set_error(err, "no memory to look through %s: close other programs", folders[0]); }
    snprintf(in->root, sizeof in->root, "%.4000s", folders[0]);
    bool ok = treatment_of(&treatment, &plan, command, o, err) && plan_folder(in, &plan, o->split, err)
        && make_set(&plan, command, &treatment, o->split, err);
    plan_free(&plan);
    folder_input_free(in);
    free(in);
    return ok;
}
