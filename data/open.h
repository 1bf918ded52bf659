// A data set by its name: the procedural one, .kds files, or shards.
#pragma once
#include "procedural.h"
#include "shards.h"

// Says what --data should be if it is the path of a file, or of a folder with data sets; false: it is neither
static inline bool explain_data_path(const char* where, Error* err) {
    static const char* const endings[] = {".train.kds", ".test.kds", "/train.index", "/val.index"};
    size_t length = strlen(where);
    char name[256];
    for (int i = 0; i < 4; i++) {
        size_t rest = strlen(endings[i]);
        if (length <= rest || strcmp(where + length - rest, endings[i]) != 0) { continue; }
        set_error(err, "a data set is two files: give --data %.*s, without %s", (int)(length - rest), where,
                  endings[i]);
        return true;
    }
    if (!is_folder(where)) { return false; }
    const char* slash = where[length - 1] == '/' ? "" : "/";
    if (find_entry(where, "*.train.kds", name)) {
        set_error(err, "%s is a folder: give --data %s%s%.*s", where, where, slash, (int)strlen(name) - 10, name);
    } else {
        set_error(err, "%s is a folder without a data set: ./convert_data folder makes one of folders of images, "
                  "./convert_data index one of tar shards, and the others are given as --data %s%sNAME",
                  where, where, slash);
    }
    return true;
}

// Takes only n of the images: the first ones, or from an encoded set, which is sorted by class, evenly spaced ones.
static inline void dataset_take(Dataset* d, int n) {
    ShardRecord* records = d->shards ? shard_index_records(d->file) : NULL;
    for (int i = 0; i < n && records; i++) {
        records[i] = records[(int64_t)i * d->count / n];
        d->labels[i] = records[i].label;
    }
    d->count = n;
}

typedef struct {
    const char *train, *test; // endings of the paths of both splits
    bool (*load)(Dataset*, const char* path, Error* err);
} DatasetForm;
static const DatasetForm in_memory = {".train.kds", ".test.kds", dataset_load};
static const DatasetForm in_shards = {"/train.index", "/val.index", shards_load};

typedef struct { char train[PATH_MAX], test[PATH_MAX]; } SplitPaths;

static inline SplitPaths split_paths(const char* where, const DatasetForm* form) {
    SplitPaths p;
    snprintf(p.train, PATH_MAX, "%s%s", where, form->train);
    snprintf(p.test, PATH_MAX, "%s%s", where, form->test);
    return p;
}

static inline bool find_split_files(SplitPaths* p, const DatasetForm** form, const char* where, bool test_suffices,
                                    Error* err) {
    *form = &in_shards;
    *p = split_paths(where, *form);
    if (!path_exists(p->train) && !path_exists(p->test)) {
        *form = &in_memory;
        *p = split_paths(where, *form);
    }
    if (path_exists(p->train)) { return true; }
    bool alone = path_exists(p->test);
    if (alone && test_suffices) { strcpy(p->train, p->test); }
    if (alone && !test_suffices && *form == &in_shards) {
        return set_error(err,
                         "%s has val.index alone, which is enough for --eval: training needs train.index beside it",
                         where);
    }
    return alone || !explain_data_path(where, err);
}

// `where` is "procedural", or the path of a data set without its ending: DIR/NAME for DIR/NAME.train.kds and
// DIR/NAME.test.kds, DIR for the shards of DIR/train.index and DIR/val.index. test_suffices: if only the test split
// exists, it stands for both. Files are opened here, so that later changes of the working directory do not matter.
static inline bool dataset_open(Dataset* train, Dataset* test, const char* where, bool test_suffices, Error* err) {
    SplitPaths p;
    const DatasetForm* form;
    if (strcmp(where, "procedural") == 0) { return dataset_procedural(train, test, err); }
    *train = *test = (Dataset){0};
    if (strlen(where) + 16 > PATH_MAX) {
        return set_error(err, "the path %.100s... is too long: choose a shorter one", where);
    }
    if (!find_split_files(&p, &form, where, test_suffices, err)) { return false; }
    if (!form->load(train, p.train, err) || !form->load(test, p.test, err)) {
        dataset_free(train);
        return false;
    }
    if (!splits_agree(train, test, p.train, p.test, err)) {
        dataset_free(train);
        dataset_free(test);
        return false;
    }
    return true;
}
