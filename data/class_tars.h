// Training images as ImageNet publishes them: one archive per class, nXXXXXXXX.tar, all of them within one archive, or
// as files in a folder. They are read in place. A walk over the outer archive's headers, one per class, finds them.
#pragma once
#include "imagenet_text.h"
#include "plan.h"

typedef struct {
    char wnid[WNID_LENGTH + 1];
    uint64_t offset, bytes;    // in its file
} ClassTar;

typedef struct {
    char path[PATH_MAX];       // of the archive of archives, or of the folder with a file for each
    bool one_file;
    ClassTar* tars;            // (count) sorted by id: the place is the label
    size_t count, room;
    const ClassList* classes;
} ClassTars;

static inline void class_tars_free(ClassTars* in) {
    free(in->tars);
    *in = (ClassTars){0};
}

static inline int compare_class_tars(const void* a, const void* b) {
    return strcmp(((const ClassTar*)a)->wnid, ((const ClassTar*)b)->wnid);
}

// name: "n01440764.tar", after any path
static inline bool is_class_tar(const char* name) {
    const char* slash = strrchr(name, '/');
    const char* base = slash ? slash + 1 : name;
    return begins_with_wnid(base) && strcmp(base + WNID_LENGTH, ".tar") == 0;
}

static inline bool add_class_tar(ClassTars* in, const char* name, uint64_t offset, uint64_t bytes, Error* err) {
    const char* slash = strrchr(name, '/');
    ClassTar* tars = (ClassTar*)array_grow(in->tars, in->count, &in->room, sizeof *tars, err);
    if (!tars) { return false; }
    in->tars = tars;
    in->tars[in->count] = (ClassTar){.offset = offset, .bytes = bytes};
    snprintf(in->tars[in->count++].wnid, WNID_LENGTH + 1, "%.9s", slash ? slash + 1 : name);
    return true;
}

static inline bool sort_class_tars(ClassTars* in, Error* err) {
    if (!in->count) { return set_error(err, "%s holds no archives of classes (n01440764.tar, ...)", in->path); }
    qsort(in->tars, in->count, sizeof *in->tars, compare_class_tars);
    for (size_t k = 1; k < in->count; k++) {
        if (strcmp(in->tars[k].wnid, in->tars[k - 1].wnid) == 0) {
            return set_error(err, "%s holds %s.tar twice", in->path, in->tars[k].wnid);
        }
    }
    return true;
}

static inline bool class_tars_of_archive(ClassTars* in, Error* err) {
    struct stat status;
    int found, descriptor = open_archive(in->path, &status, err);
    TarWalk* w = (TarWalk*)malloc(sizeof *w);
    bool ok = descriptor >= 0 && (w || set_error(err, "no memory to read %s: close other programs", in->path));
    in->one_file = true;
    if (ok) { tar_begin(w, descriptor, in->path, 0, (uint64_t)status.st_size); }
    while (ok && (found = tar_next(w, err)) != 0) {
        ok = found > 0 && (!tar_is_file(w) || !is_class_tar(w->name)
                           || add_class_tar(in, w->name, w->offset, w->bytes, err));
    }
    free(w);
    if (descriptor >= 0) { close(descriptor); }
    return ok && sort_class_tars(in, err);
}

static inline bool class_tars_of_folder(ClassTars* in, Error* err) {
    char path[PATH_MAX];
    struct stat status;
    DIR* entries = opendir(in->path);
    bool ok = entries || set_error(err, "cannot look into %s: %s", in->path, strerror(errno));
    for (struct dirent* e; ok && (e = readdir(entries));) {
        if (!is_class_tar(e->d_name)) { continue; }
        snprintf(path, sizeof path, "%.3800s/%s", in->path, e->d_name);
        ok = stat(path, &status) == 0 ? add_class_tar(in, e->d_name, 0, (uint64_t)status.st_size, err)
                                      : set_error(err, "cannot look at %s: %s", path, strerror(errno));
    }
    if (entries) { closedir(entries); }
    return ok && sort_class_tars(in, err);
}

// Their ids, as names of classes; to be freed
static inline char (*class_tar_names(const ClassTars* in, Error* err))[FOLDER_NAME_BYTES] {
    char (*names)[FOLDER_NAME_BYTES] = (char (*)[FOLDER_NAME_BYTES])calloc(in->count, sizeof *names);
    if (!names) { set_error(err, "no memory for %zu classes: close other programs", in->count); }
    for (size_t k = 0; k < in->count && names; k++) { strcpy(names[k], in->tars[k].wnid); }
    return names;
}

// ---- the source

// The archive of class c->at, whose walk begins
static inline bool class_tar_open(Cursor* c, Error* err) {
    const ClassTars* in = (const ClassTars*)c->job->input;
    const ClassTar* tar = &in->tars[c->at];
    struct stat status;
    snprintf(c->path, sizeof c->path, "%.4000s%s%s.tar", in->path, in->one_file ? ": " : "/", tar->wnid);
    if (!in->one_file || c->descriptor_count == 0) {
        int descriptor = open_archive(in->one_file ? in->path : c->path, &status, err);
        if (descriptor < 0) { return false; }
        c->descriptors[c->descriptor_count++] = descriptor;
    }
    tar_begin(&c->walk, c->descriptors[c->descriptor_count - 1], c->path, tar->offset, tar->offset + tar->bytes);
    c->walking = true;
    return true;
}

static inline bool class_tars_begin(Cursor* c, Error* err) {
    (void)c, (void)err;
    return true;
}

static inline void class_tar_image(const Cursor* c, InputImage* image) {
    const ClassTars* in = (const ClassTars*)c->job->input;
    const char* slash = strrchr(c->walk.name, '/');
    const char* name = slash ? slash + 1 : c->walk.name;
    image->descriptor = c->walk.descriptor;
    image->offset = c->walk.offset;
    image->bytes = c->walk.bytes;
    image->refused = NULL;
    image->label = (int)c->at;
    image->png = has_extension(name, ".png");
    member_key(image->key, in->classes->ids[c->at], name, 0);
    snprintf(image->from, sizeof image->from, "%s.tar: %.400s", in->tars[c->at].wnid, name);
}

static inline int class_tars_next(Cursor* c, InputImage* image, Error* err) {
    while (c->at < c->job->last) {
        if (!c->walking && !class_tar_open(c, err)) { return -1; }
        int found = tar_next(&c->walk, err);
        if (found < 0) { return -1; }
        if (found == 0) {
            c->walking = false;
            c->at++;
        } else if (tar_is_file(&c->walk) && is_image_name(c->walk.name)) {
            class_tar_image(c, image);
            return 1;
        }
    }
    return 0;
}

static const ImageSource class_tars_source = {class_tars_begin, class_tars_next};

static inline bool plan_class_tars(Plan* p, const ClassTars* in, Error* err) {
    Job* job = NULL;
    for (size_t k = 0; k < in->count; k++) {
        if (k % CLASSES_A_SHARD == 0 && !(job = plan_add(p, SPLIT_TRAIN, &class_tars_source, in, k, err))) {
            return false;
        }
        job->last = k + 1;
        job->units += (double)in->tars[k].bytes;
        job->digest = digest_number(digest_text(job->digest, in->tars[k].wnid), in->tars[k].bytes);
    }
    return true;
}
