// The images in a folder of classes, ROOT/CLASS/..., as a sorted list: files named .jpg, .jpeg or .png in any case,
// also in folders within a class. Names that begin with a dot are skipped, links are followed, except into a folder
// that is being visited already.
#pragma once
#include "classes.h"
#include "image_file.h"

enum { TREE_DEPTH = 32, MEMBER_CUT = 72, MEMBER_KEY_BYTES = 160 };

typedef struct {
    size_t path;    // in texts: below the root, "CLASS/NAME.JPEG"
    uint32_t label;
    uint32_t twin;  // how many before it in its class have the same name in the shard
} TreeImage;

typedef struct {
    char root[PATH_MAX];
    Texts texts;
    TreeImage* images; // by class, then by path
    size_t count, room;
    TextTable others;  // the first of the files that are no images by name, which other_count counts
    size_t other_count;
} ImageTree;

enum { OTHERS_KEPT = 1000 };

static inline void tree_free(ImageTree* t) {
    texts_free(&t->texts);
    table_free(&t->others);
    free(t->images);
    *t = (ImageTree){0};
}

// ---- names in shards

// The part of a path below its class; the path begins below the root
static inline const char* path_in_class(const char* path) {
    const char* slash = strchr(path, '/');
    return slash ? slash + 1 : path;
}

// NAME without its extension and folders, as used in a shard: without dots, at which some readers cut, and slashes. A ~
// precedes what distinguishes names that would be equal.
static inline void member_base(char base[MEMBER_KEY_BYTES], const char* path, uint32_t twin) {
    char plain[PATH_MAX];
    snprintf(plain, sizeof plain, "%s", path);
    char* dot = strrchr(plain, '.');
    if (dot && dot > plain && !strchr(dot, '/')) { *dot = 0; }
    for (char* c = plain; *c; c++) {
        if (*c == '.' || *c == '~') { *c = '_'; }
    }
    copy_plain(base, plain, MEMBER_CUT);
    if (strlen(plain) > MEMBER_CUT) {
        snprintf(base + strlen(base), MEMBER_KEY_BYTES - strlen(base), "~%016llx", (unsigned long long)text_hash(path));
    }
    if (twin) { snprintf(base + strlen(base), MEMBER_KEY_BYTES - strlen(base), "~%u", twin + 1); }
}

static inline void member_key(char key[MEMBER_KEY_BYTES], const char* class_id, const char* path, uint32_t twin) {
    char base[MEMBER_KEY_BYTES];
    member_base(base, path, twin);
    snprintf(key, MEMBER_KEY_BYTES, "%s/%.110s", class_id, base);
}

// ---- Visiting folders

typedef struct {
    ImageTree* tree;
    uint32_t label;
    char path[PATH_MAX];       // the current path
    size_t root;               // bytes of it up to and including the root
    dev_t devices[TREE_DEPTH]; // of the folders that are being visited
    ino_t inodes[TREE_DEPTH];
} TreeWalk;

static inline bool tree_add_image(ImageTree* t, const char* path, uint32_t label, Error* err) {
    TreeImage* images = (TreeImage*)array_grow(t->images, t->count, &t->room, sizeof *images, err);
    if (!images) { return false; }
    t->images = images;
    t->images[t->count] = (TreeImage){.label = label};
    return texts_add(&t->texts, path, &t->images[t->count++].path, err);
}

static inline bool tree_add_other(ImageTree* t, const char* path, Error* err) {
    t->other_count++;
    return t->others.count >= OTHERS_KEPT || table_add(&t->others, path, err);
}

static inline bool tree_walk(TreeWalk* w, int depth, Error* err);

// A folder, if it is not one of those around it
static inline bool tree_enter(TreeWalk* w, const struct stat* status, int depth, Error* err) {
    for (int i = 0; i < depth; i++) {
        if (w->devices[i] == status->st_dev && w->inodes[i] == status->st_ino) { return true; }
    }
    if (depth == TREE_DEPTH) { return set_error(err, "%.300s...: folders lie more than %d deep", w->path, depth); }
    w->devices[depth] = status->st_dev;
    w->inodes[depth] = status->st_ino;
    return tree_walk(w, depth + 1, err);
}

static inline bool tree_take_entry(TreeWalk* w, const struct dirent* e, int depth, Error* err) {
    const char* below = w->path + w->root;
    struct stat status;
    if (e->d_name[0] == '.') { return tree_add_other(w->tree, below, err); }
    bool image = is_image_name(e->d_name);
    if (e->d_type == DT_REG && image) { return tree_add_image(w->tree, below, w->label, err); }
    if (stat(w->path, &status) != 0) { return tree_add_other(w->tree, below, err); } // a link to nothing
    if (S_ISDIR(status.st_mode)) { return tree_enter(w, &status, depth, err); }
    if (S_ISREG(status.st_mode) && image) { return tree_add_image(w->tree, below, w->label, err); }
    return tree_add_other(w->tree, below, err);
}

static inline bool tree_walk(TreeWalk* w, int depth, Error* err) {
    size_t length = strlen(w->path);
    DIR* entries = opendir(w->path);
    if (!entries) { return set_error(err, "cannot look into %.800s: %s", w->path, strerror(errno)); }
    bool ok = true;
    for (struct dirent* e; ok && (e = readdir(entries));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) { continue; }
        size_t room = sizeof w->path - length;
        ok = snprintf(w->path + length, room, "/%s", e->d_name) < (int)room
            ? tree_take_entry(w, e, depth, err)
            : set_error(err, "the path %.200s... is too long: move the images to a shorter one", w->path);
        w->path[length] = 0;
    }
    closedir(entries);
    return ok;
}

// ---- a class

static const char* tree_texts; // where the compared paths lie

static inline int compare_tree_images(const void* a, const void* b) {
    return strcmp(tree_texts + ((const TreeImage*)a)->path, tree_texts + ((const TreeImage*)b)->path);
}

// Images whose names in the shard would be equal get numbers.
static inline bool tree_tell_twins(ImageTree* t, size_t first, Error* err) {
    TextTable names = {0};
    uint32_t* times = (uint32_t*)calloc(t->count - first + 1, sizeof *times);
    bool ok = times || set_error(err, "no memory for the names of a class: close other programs");
    for (size_t i = first; i < t->count && ok; i++) {
        char base[MEMBER_KEY_BYTES];
        member_base(base, path_in_class(t->texts.block + t->images[i].path), 0);
        int64_t number = table_find(&names, base);
        if (number < 0) { ok = table_add(&names, base, err); } else { t->images[i].twin = ++times[number]; }
    }
    free(times);
    table_free(&names);
    return ok;
}

static inline bool tree_walk_class(ImageTree* t, const char* folder, int label, Error* err) {
    struct stat status;
    TreeWalk* w = (TreeWalk*)calloc(1, sizeof *w);
    if (!w) { return set_error(err, "no memory to look into %s: close other programs", folder); }
    w->tree = t;
    w->label = (uint32_t)label;
    w->root = strlen(t->root) + 1;
    bool ok = snprintf(w->path, sizeof w->path, "%s/%s", t->root, folder) < (int)sizeof w->path
        && stat(w->path, &status) == 0;
    ok = ok ? tree_enter(w, &status, 0, err) : set_error(err, "cannot look into %.800s: %s", w->path, strerror(errno));
    free(w);
    return ok;
}

// Adds the images in ROOT/FOLDER as those of a class, sorted.
static inline bool tree_add_class(ImageTree* t, const char* folder, int label, Error* err) {
    size_t first = t->count;
    if (!tree_walk_class(t, folder, label, err)) { return false; }
    tree_texts = t->texts.block;
    if (t->count > first) { qsort(t->images + first, t->count - first, sizeof *t->images, compare_tree_images); }
    return tree_tell_twins(t, first, err);
}

// ---- the classes of a folder

// The names of the folders in it, to be freed; NULL: err says why not
static inline char (*list_folders(const char* root, int* count, Error* err))[FOLDER_NAME_BYTES] {
    char (*names)[FOLDER_NAME_BYTES] = NULL, path[PATH_MAX];
    size_t room = 0, found = 0;
    DIR* entries = opendir(root);
    bool ok = entries || set_error(err, "cannot look into %s: %s; check the path", root, strerror(errno));
    for (struct dirent* e; ok && (e = readdir(entries));) {
        snprintf(path, sizeof path, "%.3800s/%s", root, e->d_name);
        bool maybe = e->d_name[0] != '.' && (e->d_type == DT_DIR || e->d_type == DT_LNK || e->d_type == DT_UNKNOWN);
        if (!maybe || !is_folder(path)) { continue; }
        void* grown = array_grow(names, found, &room, sizeof *names, err);
        ok = grown != NULL;
        if (ok) {
            names = (char (*)[FOLDER_NAME_BYTES])grown;
            snprintf(names[found++], FOLDER_NAME_BYTES, "%s", e->d_name);
        }
    }
    if (entries) { closedir(entries); }
    if (ok && !names) { names = (char (*)[FOLDER_NAME_BYTES])calloc(1, sizeof *names); }
    if (!ok) { free(names); }
    *count = (int)found;
    return ok ? names : NULL;
}
