// ImageNet-1K to shards, from any of the forms in which people have it; the contents of INPUT decide:
//
//   training      ILSVRC2012_img_train.tar; a folder train of archives n01440764.tar; or of classes, train/n01440764
//   validation    ILSVRC2012_img_val.tar; a folder of classes, val/n01440764; val with all images in it
//   which class   ILSVRC2012_devkit_t12.tar.gz, or unpacked; Kaggle's LOC_val_solution.csv; a text of WordNet ids
//   names         the kit's, or Kaggle's LOC_synset_mapping.txt; else the ids
//
// Folders are looked for in INPUT and in Kaggle's ILSVRC/Data/CLS-LOC. Archives are not unpacked. A subset of the
// classes is accepted; validation images of other classes are left out. If there are no training images, only val.index
// is made.
#pragma once
#include "convert_folder.h"
#include "imagenet_checks.h"
#include "imagenet_val.h"

typedef enum { SHAPE_NONE, SHAPE_TAR, SHAPE_CLASS_TARS, SHAPE_CLASS_FOLDERS, SHAPE_FLAT } Shape;

typedef struct {
    char root[PATH_MAX];
    bool any_hash;
    ImagenetText text;
    Shape shapes[SPLITS];
    ClassTars class_tars;
    ValTar val_tar;
    ImageTree trees[SPLITS];
    TreeInput inputs[SPLITS];
} Imagenet;

static inline void imagenet_free(Imagenet* in) {
    imagenet_text_free(&in->text);
    class_tars_free(&in->class_tars);
    val_tar_free(&in->val_tar);
    for (int split = 0; split < SPLITS; split++) { tree_free(&in->trees[split]); }
}

// ---- What is there

static inline bool find_images_folder(char path[PATH_MAX], const char* root, const char* name, const char* other) {
    static const char* const places[] = {"", "/ILSVRC/Data/CLS-LOC", "/Data/CLS-LOC"};
    for (int i = 0; i < 6; i++) {
        int length = snprintf(path, PATH_MAX, "%s%s/%s", root, places[i / 2], i % 2 ? other : name);
        if (length < PATH_MAX && is_folder(path)) { return true; }
    }
    return false;
}

static inline Shape folder_shape(const char* path) {
    Error ignored;
    char name[256];
    int count = 0;
    char (*folders)[FOLDER_NAME_BYTES] = list_folders(path, &count, &ignored);
    free(folders);
    if (count > 0) { return SHAPE_CLASS_FOLDERS; }
    return find_entry(path, "n[0-9]*.tar", name) ? SHAPE_CLASS_TARS : SHAPE_FLAT;
}

static inline void find_shapes(Imagenet* in) {
    char name[256];
    ImageTree *train = &in->trees[SPLIT_TRAIN], *val = &in->trees[SPLIT_VAL];
    if (find_in(in->class_tars.path, in->root, "ILSVRC2012_img_train.tar")) {
        in->shapes[SPLIT_TRAIN] = SHAPE_TAR;
    } else if (find_images_folder(train->root, in->root, "train", "ILSVRC2012_img_train")) {
        in->shapes[SPLIT_TRAIN] = folder_shape(train->root);
        snprintf(in->class_tars.path, PATH_MAX, "%s", train->root);
    } else if (find_entry(in->root, "n[0-9]*.tar", name)) {
        in->shapes[SPLIT_TRAIN] = SHAPE_CLASS_TARS;
        snprintf(in->class_tars.path, PATH_MAX, "%s", in->root);
    }
    if (find_in(in->val_tar.path, in->root, "ILSVRC2012_img_val.tar")) {
        in->shapes[SPLIT_VAL] = SHAPE_TAR;
    } else if (find_images_folder(val->root, in->root, "val", "validation")) {
        in->shapes[SPLIT_VAL] = folder_shape(val->root);
    }
}

// Says what lies there instead; always false
static inline bool explain_imagenet(const Imagenet* in, const char* wanted, Error* err) {
    static const struct { const char *pattern, *what; } found[] = {
        {"ILSVRC2012_img_*.tar?*", "is a download that is not finished: let it go on to its end"},
        {"*.crdownload", "is a download that is not finished: let it go on to its end"},
        {"*.aria2", "tells of a download that is not finished: let it go on to its end"},
        {"ILSVRC2012_img_train_t3.tar", "holds the dogs of another task: fetch ILSVRC2012_img_train.tar, of 148 GB"},
        {"ILSVRC2012_img_test*.tar", "holds images without labels: fetch ILSVRC2012_img_val.tar"},
        {"imagenet-object-localization*.zip", "is packed: unzip it there"},
        {"*.zip", "is packed: unzip it there"},
        {"n[0-9]*", "is a class itself: give the folder that holds train and val, or use ./convert_data folder"},
        {"*.parquet", "is a table: fetch the archives, or webdataset's shards for ./convert_data index"},
    };
    char name[256];
    for (size_t i = 0; i < sizeof found / sizeof found[0]; i++) {
        if (!find_entry(in->root, found[i].pattern, name)) { continue; }
        return set_error(err, "%s holds no images for %s; %s %s", in->root, wanted, name, found[i].what);
    }
    return set_error(err, "%s holds no images for %s: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar are looked "
                     "for, or folders train and val, there or in ILSVRC/Data/CLS-LOC", in->root, wanted);
}

// ---- classes

static inline bool classes_of_text(ClassList* c, const ImagenetText* t, Error* err) {
    char (*names)[FOLDER_NAME_BYTES] = (char (*)[FOLDER_NAME_BYTES])calloc(t->wnids.count + 1, sizeof *names);
    if (!names) { return set_error(err, "no memory for %zu classes: close other programs", t->wnids.count); }
    for (size_t k = 0; k < t->wnids.count; k++) { strcpy(names[k], table_text(&t->wnids, k)); }
    bool ok = classes_sorted(c, names, (int)t->wnids.count, err);
    if (!ok) { free(names); }
    return ok;
}

static inline bool classes_of_tars(ClassList* c, ClassTars* tars, Error* err) {
    char (*names)[FOLDER_NAME_BYTES] = class_tar_names(tars, err);
    bool ok = names && classes_sorted(c, names, (int)tars->count, err);
    if (!ok) { free(names); }
    return ok;
}

static inline void name_classes(ClassList* c, const ImagenetText* t) {
    for (int k = 0; k < c->count; k++) {
        int64_t number = table_find(&t->wnids, c->folders[k]);
        if (number >= 0 && *t->names[number]) { memcpy(c->names[k], t->names[number], CLASS_NAME_BYTES); }
    }
}

// ---- images

static inline bool train_images(Imagenet* in, Plan* p, Error* err) {
    ImageTree* tree = &in->trees[SPLIT_TRAIN];
    ClassTars* tars = &in->class_tars;
    tars->classes = &p->classes;
    switch (in->shapes[SPLIT_TRAIN]) {
    case SHAPE_TAR:
        return class_tars_of_archive(tars, err) && classes_of_tars(&p->classes, tars, err)
            && plan_class_tars(p, tars, err);
    case SHAPE_CLASS_TARS:
        return class_tars_of_folder(tars, err) && classes_of_tars(&p->classes, tars, err)
            && plan_class_tars(p, tars, err);
    case SHAPE_CLASS_FOLDERS:
        in->inputs[SPLIT_TRAIN] = (TreeInput){tree, &p->classes, "train"};
        p->trees[SPLIT_TRAIN] = tree;
        return check_outside(p->output, tree, err) && tree_classes(&p->classes, tree, err)
            && tree_fill(tree, &p->classes, err)
            && plan_tree(p, SPLIT_TRAIN, &in->inputs[SPLIT_TRAIN], CLASSES_A_SHARD, TRAIN_IMAGES_A_SHARD, err);
    default:
        return explain_imagenet(in, "training", err);
    }
}

// Without training images the classes are those that the text lists, or the folders of the validation images.
static inline bool val_classes(Imagenet* in, Plan* p, Error* err) {
    if (in->text.wnids.count) { return classes_of_text(&p->classes, &in->text, err); }
    if (in->shapes[SPLIT_VAL] == SHAPE_CLASS_FOLDERS) { return tree_classes(&p->classes, &in->trees[SPLIT_VAL], err); }
    return no_truth(&in->text, "ILSVRC2012_val_00000001.JPEG", in->root, err);
}

// Folders of classes that the set does not have are left out, as such images are elsewhere.
static inline bool val_folders(Imagenet* in, Plan* p, Error* err) {
    ImageTree* tree = &in->trees[SPLIT_VAL];
    int count = 0, others = 0;
    char (*folders)[FOLDER_NAME_BYTES] = list_folders(tree->root, &count, err);
    for (int i = 0; i < count && folders; i++) { others += class_number(&p->classes, folders[i]) < 0; }
    free(folders);
    if (!folders || !tree_fill(tree, &p->classes, err)) { return false; }
    if (others && !plan_remark(p, err, "warning: %d folders of %s are no classes for training, and left out", others,
                               tree->root)) {
        return false;
    }
    if (!all_have_numbers(tree)) { return tree_spread(tree, err); }
    tree_sort_by_number(tree);
    return true;
}

static inline bool val_images(Imagenet* in, Plan* p, Error* err) {
    ImageTree* tree = &in->trees[SPLIT_VAL];
    size_t left_out = 0;
    bool ok = true;
    in->val_tar.classes = &p->classes;
    in->inputs[SPLIT_VAL] = (TreeInput){tree, &p->classes, "val"};
    switch (in->shapes[SPLIT_VAL]) {
    case SHAPE_TAR:
        ok = val_tar_read(&in->val_tar, &in->text, err) && plan_val_tar(p, &in->val_tar, err);
        left_out = in->val_tar.left_out;
        break;
    case SHAPE_FLAT:
        ok = val_folder_read(tree, &p->classes, &in->text, &left_out, err);
        break;
    case SHAPE_CLASS_FOLDERS:
        ok = val_folders(in, p, err);
        break;
    default:
        return explain_imagenet(in, "validation", err);
    }
    if (ok && in->shapes[SPLIT_VAL] != SHAPE_TAR) {
        p->trees[SPLIT_VAL] = tree;
        ok = plan_tree(p, SPLIT_VAL, &in->inputs[SPLIT_VAL], 0, VAL_IMAGES_A_SHARD, err);
    }
    return ok && (!left_out || plan_remark(p, err, "%zu validation images are of other classes, and left out",
                                           left_out));
}

// ---- checks before the work

static inline bool check_val_labels(const Imagenet* in, Error* err) {
    ValLabels v;
    const ImageTree* tree = &in->trees[SPLIT_VAL];
    if (!val_labels_create(&v, err)) { return false; }
    for (size_t i = 0; i < in->val_tar.count; i++) {
        val_labels_add(&v, in->val_tar.images[i].number, (int)in->val_tar.images[i].label);
    }
    for (size_t i = 0; i < tree->count; i++) {
        val_labels_add(&v, val_number(tree->texts.block + tree->images[i].path), (int)tree->images[i].label);
    }
    const char* fault = val_labels_fault(&v);
    free(v.labels);
    return !fault || set_error(err, "the labels of the validation images are wrong: %s. Repair that, or give "
                               "--any-hash to go on", fault);
}

static inline bool imagenet_known_faults(const Imagenet* in, Plan* p, Error* err) {
    if (p->classes.count == IMAGENET_CLASSES) { return in->any_hash || check_val_labels(in, err); }
    return plan_remark(p, err, "%d classes, not the %d of ImageNet-1K: a subset, and its counts are not checked",
                       p->classes.count, IMAGENET_CLASSES);
}

static inline bool plan_imagenet(Imagenet* in, Plan* p, Error* err) {
    snprintf(p->name, sizeof p->name, "imagenet");
    p->checks = imagenet_checks;
    if (!is_folder(in->root)) {
        return set_error(err, "%s is no folder: give one that holds the archives, or train and val", in->root);
    }
    printf("looking through %s\n", in->root);
    output_flush();
    find_shapes(in);
    if (in->shapes[SPLIT_TRAIN] == SHAPE_NONE && in->shapes[SPLIT_VAL] == SHAPE_NONE) {
        return explain_imagenet(in, "training", err);
    }
    bool labels = in->shapes[SPLIT_VAL] != SHAPE_CLASS_FOLDERS;
    if (!imagenet_text_read(&in->text, in->root, in->any_hash, labels, err)) { return false; }
    bool train = in->shapes[SPLIT_TRAIN] != SHAPE_NONE;
    if (!(train ? train_images(in, p, err) : val_classes(in, p, err))) { return false; }
    name_classes(&p->classes, &in->text);
    if (!train && !plan_remark(p, err, "no images for training: val.index alone is made, with its own mean and "
                               "deviation")) {
        return false;
    }
    return val_images(in, p, err) && imagenet_known_faults(in, p, err);
}

static inline bool convert_imagenet(const char* command, const char* const* folders, const ConvertOptions* o,
                                    Error* err) {
    Imagenet* in = (Imagenet*)calloc(1, sizeof *in);
    Plan plan = {.output = folders[1], .writes = true};
    Treatment treatment;
    if (!in) { return set_error(err, "no memory to look through %s: close other programs", folders[0]); }
    snprintf(in->root, sizeof in->root, "%.3900s", folders[0]);
    in->any_hash = o->any_hash;
    bool ok = treatment_of(&treatment, &plan, command, o, err) && plan_imagenet(in, &plan, err)
        && make_set(&plan, command, &treatment, 0, err);
    plan_free(&plan);
    imagenet_free(in);
    free(in);
    return ok;
}
