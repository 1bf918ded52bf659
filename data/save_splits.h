// Where a converted data set goes: OUTPUT_DIR/NAME.train.kds and NAME.test.kds. Checked before the work, written and
// reported after it.
#pragma once
#include "dataset.h"

static inline void print_split(const char* split, const Dataset* d) {
    int* counts = calloc((size_t)d->classes, sizeof *counts);
    int least = d->count, most = 0;
    for (int i = 0; i < d->count && counts; i++) { counts[d->labels[i]]++; }
    for (int k = 0; k < d->classes && counts; k++) {
        least = counts[k] < least ? counts[k] : least;
        most = counts[k] > most ? counts[k] : most;
    }
    printf("%s: %d images of %dx%dx%d, %d classes of %d to %d images\n", split, d->count, d->channels, d->height,
           d->width, d->classes, least, most);
    if (least == 0) { printf("warning: the %s split has classes without a single image\n", split); }
    free(counts);
}

static inline bool output_path(char path[PATH_MAX], const char* dir, const char* name, const char* split, Error* err) {
    return snprintf(path, PATH_MAX, "%s/%s.%s.kds", dir, name, split) < PATH_MAX ||
           set_error(err, "the path %.100s... is too long: choose a shorter one", dir);
}

static inline bool save_split(Dataset* d, const char* dir, const char* split, Error* err) {
    char path[PATH_MAX];
    if (!output_path(path, dir, d->name, split, err) || !dataset_save(d, path, err)) { return false; }
    printf("wrote %s (%.1f MB)\n", path, d->file_bytes / 1e6);
    return true;
}

// Cuts a path to the part of it that exists.
static inline void cut_to_existing(char path[PATH_MAX]) {
    while (!path_exists(path) && (errno == ENOENT || errno == ENOTDIR)) {
        char* slash = strrchr(path, '/');
        if (slash && slash > path) { *slash = 0; } else { snprintf(path, PATH_MAX, "%s", slash ? "/" : "."); }
    }
}

// Whether the folder exists and files can be made in it, or it can be made itself. Nothing is made yet.
static inline bool check_folder(const char* dir, Error* err) {
    char part[PATH_MAX];
    if (!*dir || snprintf(part, sizeof part, "%s", dir) >= (int)sizeof part) {
        return set_error(err, "'%.100s' is no name for an output folder: choose another", dir);
    }
    cut_to_existing(part);
    if (is_folder(part) && access(part, W_OK | X_OK) == 0) { return true; }
    const char* reason = strerror(errno);
    if (path_exists(part) && !is_folder(part)) { reason = "it is not a folder"; }
    return set_error(err, "cannot write into %s: %s: %s; choose another output folder", dir, part, reason);
}

// Whether both files can be written, as far as that can be known in advance
static inline bool check_output(const char* dir, const char* name, Error* err) {
    const char* const splits[] = {"train", "test"};
    char path[PATH_MAX];
    for (int i = 0; i < 2; i++) {
        if (!output_path(path, dir, name, splits[i], err)) { return false; }
        if (path_exists(path) && !is_file(path)) {
            return set_error(err, "%s is in the way, and is not a file: remove it, or choose another output folder",
                             path);
        }
    }
    return check_folder(dir, err);
}

static inline bool save_both(Dataset* train, Dataset* test, const char* dir, Error* err) {
    dataset_measure(train);
    memcpy(test->mean, train->mean, sizeof test->mean);
    memcpy(test->std, train->std, sizeof test->std);
    print_split("train", train);
    print_split("test", test);
    const float *m = train->mean, *s = train->std;
    printf("mean %.4f %.4f %.4f, std %.4f %.4f %.4f of the training split\n", m[0], m[1], m[2], s[0], s[1], s[2]);
    return make_folders(dir, err) && save_split(train, dir, "train", err) && save_split(test, dir, "test", err);
}
