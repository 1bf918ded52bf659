// Oxford's Flowers-102 to shards: 102flowers.tgz, or the folder jpg that it unpacks to, and two MATLAB files beside it.
//
//   jpg/image_00001.jpg ..   8189 images of many sizes
//   imagelabels.mat          labels, 1..102, of each image
//   setid.mat                trnid, valid, tstid: numbers of images, from 1
//
// The training split is trnid, 10 images per class; with --train-with-valid also valid, as in many papers. The test
// split is tstid. The archive is unpacked to a file without a name, which disappears with the process.
#pragma once
#include "mat5.h"
#include "prepare_set.h"
#include "source_file.h"
#include "tree_plan.h"
#include "treatment.h"

enum { FLOWER_CLASSES = 102, FLOWERS = 8189, FLOWERS_LIMIT = 99999, FLOWERS_MAT_LIMIT = 4 << 20, FLOWER_SETS = 3 };

static const SourceFile flowers_labels = {"imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"};
static const SourceFile flowers_sets = {"setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"};
static const SizedFile flowers_archive = {{"102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"}, 344862509};

enum { FLOWERS_TRNID, FLOWERS_VALID, FLOWERS_TSTID };
static const char* const flower_set_names[FLOWER_SETS] = {"trnid", "valid", "tstid"};
static const int flower_set_counts[FLOWER_SETS] = {1020, 1020, 6149};

static const char* const flower_names[FLOWER_CLASSES] = {
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea", "english marigold", "tiger lily",
    "moon orchid", "bird of paradise", "monkshood", "globe thistle", "snapdragon", "colt's foot", "king protea",
    "spear thistle", "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger", "grape hyacinth",
    "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke", "sweet william", "carnation",
    "garden phlox", "love in the mist", "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower",
    "great masterwort", "siam tulip", "lenten rose", "barberton daisy", "daffodil", "sword lily", "poinsettia",
    "bolero deep blue", "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia",
    "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia",
    "pink-yellow dahlia", "cautleya spicata", "japanese anemone", "black-eyed susan", "silverbush",
    "californian poppy", "osteospermum", "spring crocus", "bearded iris", "windflower", "tree poppy", "gazania",
    "azalea", "water lily", "rose", "thorn apple", "morning glory", "passion flower", "lotus", "toad lily",
    "anthurium", "frangipani", "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia",
    "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove", "bougainvillea",
    "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower", "trumpet creeper", "blackberry lily",
};

typedef struct { uint64_t offset, bytes; } FlowerPlace; // of an image's file in the archive; 0 bytes: it is missing

// What a job reads from. Its first member is a TreeInput, so that tree_plan.h can use it as well.
typedef struct {
    TreeInput tree;
    const FlowerPlace* places; // (images)
    int descriptor;
} FlowerInput;

typedef struct {
    const char* root;
    int count;                 // images
    int *labels, *sets[FLOWER_SETS], set_counts[FLOWER_SETS];
    uint8_t* split_of;         // (count) 1 + the split; 0: in none
    FILE* unpacked;            // NULL: the folder is there
    FlowerPlace* places;
    ImageTree trees[SPLITS];
    FlowerInput inputs[SPLITS];
} Flowers;

static inline void flowers_free(Flowers* f) {
    for (int s = 0; s < FLOWER_SETS; s++) { free(f->sets[s]); }
    for (int s = 0; s < SPLITS; s++) { tree_free(&f->trees[s]); }
    if (f->unpacked) { fclose(f->unpacked); }
    free(f->labels);
    free(f->split_of);
    free(f->places);
}

// ---- labels and splits ----

static inline bool flowers_open_mat(Mat5* m, char path[PATH_MAX], const Flowers* f, const SourceFile* file,
                                    bool any_hash, Error* err) {
    return find_source(path, f->root, file->name, "flowers102", err) && check_file_hash(file, path, any_hash, err)
        && mat5_open(m, path, FLOWERS_MAT_LIMIT, err);
}

static inline bool flowers_read_labels(Flowers* f, bool any_hash, Error* err) {
    char path[PATH_MAX];
    Mat5 m;
    if (!flowers_open_mat(&m, path, f, &flowers_labels, any_hash, err)) { return false; }
    f->labels = mat5_integers(&m, "labels", 1, FLOWER_CLASSES, &f->count, err);
    mat5_close(&m);
    if (!f->labels) { return false; }
    bool right = any_hash ? f->count >= 1 && f->count <= FLOWERS_LIMIT : f->count == FLOWERS;
    return right || set_error(err, "%s has labels of %d images, the official one of %d: fetch it again, or give "
                              "--any-hash to convert a changed data set", path, f->count, FLOWERS);
}

static inline bool flowers_read_sets(Flowers* f, bool any_hash, Error* err) {
    char path[PATH_MAX];
    Mat5 m;
    if (!flowers_open_mat(&m, path, f, &flowers_sets, any_hash, err)) { return false; }
    bool ok = true;
    for (int s = 0; s < FLOWER_SETS && ok; s++) {
        f->sets[s] = mat5_integers(&m, flower_set_names[s], 1, f->count, &f->set_counts[s], err);
        ok = f->sets[s] != NULL;
        int count = f->set_counts[s], official = flower_set_counts[s];
        if (ok && !any_hash && count != official) {
            ok = set_error(err, "%s has %d images in %s, the official one %d: fetch it again, or give --any-hash to "
                           "convert a changed data set", path, count, flower_set_names[s], official);
        }
    }
    mat5_close(&m);
    return ok;
}

static inline bool flowers_take_set(Flowers* f, int set, Split split, Error* err) {
    for (int i = 0; i < f->set_counts[set]; i++) {
        uint8_t* taken = &f->split_of[f->sets[set][i] - 1];
        if (*taken) {
            return set_error(err, "%s/%s: image %d of %s is in it twice: fetch it again", f->root, flowers_sets.name,
                             f->sets[set][i], flower_set_names[set]);
        }
        *taken = (uint8_t)(1 + split);
    }
    return true;
}

static inline bool flowers_split(Flowers* f, bool with_valid, Error* err) {
    f->split_of = (uint8_t*)calloc((size_t)f->count, 1);
    if (!f->split_of) { return set_error(err, "no memory for %d images: close other programs", f->count); }
    int train = f->set_counts[FLOWERS_TRNID], valid = f->set_counts[FLOWERS_VALID];
    if (with_valid) {
        printf("training on trnid and valid: %d images", train + valid);
    } else {
        printf("training on trnid: %d images; --train-with-valid adds the %d of valid", train, valid);
    }
    printf(". Testing on tstid: %d images\n", f->set_counts[FLOWERS_TSTID]);
    return flowers_take_set(f, FLOWERS_TRNID, SPLIT_TRAIN, err)
        && (!with_valid || flowers_take_set(f, FLOWERS_VALID, SPLIT_TRAIN, err))
        && flowers_take_set(f, FLOWERS_TSTID, SPLIT_VAL, err);
}

// By class, then by number; test images are then spread, so that the first n of them have all classes in proportion.
static inline bool flowers_list(Flowers* f, Split split, Error* err) {
    ImageTree* t = &f->trees[split];
    if (snprintf(t->root, sizeof t->root, "%s", f->root) >= (int)sizeof t->root) {
        return set_error(err, "the path %.100s... is too long: move the images", f->root);
    }
    for (int k = 0; k < FLOWER_CLASSES; k++) {
        for (int n = 1; n <= f->count; n++) {
            char path[32];
            if (f->labels[n - 1] != k + 1 || f->split_of[n - 1] != 1 + split) { continue; }
            snprintf(path, sizeof path, "jpg/image_%05d.jpg", n);
            if (!tree_add_image(t, path, (uint32_t)k, err)) { return false; }
        }
    }
    return split == SPLIT_TRAIN || tree_spread(t, err);
}

// ---- the archive ----

#ifdef HAVE_ZLIB
static inline bool flowers_unpack(Flowers* f, const char* path, Error* err) {
    char bytes[1 << 14];
    gzFile in = gzopen(path, "rb");
    f->unpacked = in ? tmpfile() : NULL;
    if (!f->unpacked) {
        set_error(err, in ? "cannot make a temporary file to unpack %s: %s; unpack it there yourself"
                          : "cannot open %s: %s", path, strerror(errno));
        if (in) { gzclose(in); }
        return false;
    }
    int got = 0, code = Z_OK;
    while ((got = gzread(in, bytes, sizeof bytes)) > 0 && fwrite(bytes, 1, (size_t)got, f->unpacked) == (size_t)got) {}
    const char* reason = gzerror(in, &code);
    bool ok = got == 0 && code == Z_OK;
    if (got < 0 || code != Z_OK) {
        reason = code == Z_ERRNO ? strerror(errno) : reason;
        set_error(err, "%s cannot be unpacked (%s): fetch the file again", path, reason);
    } else if (!ok || fflush(f->unpacked) != 0) {
        ok = set_error(err, "%s cannot be unpacked to a temporary file: %s; unpack it there yourself", path,
                       strerror(errno));
    }
    gzclose(in);
    return ok;
}
#else
static inline bool flowers_unpack(Flowers* f, const char* path, Error* err) {
    (void)f;
    return set_error(err, "%s is packed, and this program was built without zlib: unpack it there, or install "
                     "zlib1g-dev and build again", path);
}
#endif

// The number in image_00001.jpg, after any path
static inline int flower_number(const char* name) {
    const char* base = strstr(name, "image_");
    return base ? atoi(base + strlen("image_")) : 0;
}

static inline bool flowers_find_places(Flowers* f, const char* path, Error* err) {
    TarWalk w;
    int found, descriptor = fileno(f->unpacked);
    struct stat status;
    f->places = (FlowerPlace*)calloc((size_t)f->count, sizeof *f->places);
    if (!f->places || fstat(descriptor, &status) != 0) {
        return set_error(err, "no memory for %d images: close other programs", f->count);
    }
    tar_begin(&w, descriptor, path, 0, (uint64_t)status.st_size);
    while ((found = tar_next(&w, err)) > 0) {
        int number = tar_is_file(&w) ? flower_number(w.name) : 0;
        if (number >= 1 && number <= f->count) { f->places[number - 1] = (FlowerPlace){w.offset, w.bytes}; }
    }
    return found == 0;
}

static inline bool flowers_open_images(Flowers* f, bool any_hash, Error* err) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/jpg", f->root) < (int)sizeof path && is_folder(path)) {
        printf("images: %s/jpg (from %s they could be checked)\n", f->root, flowers_archive.file.name);
        return true;
    }
    return find_source(path, f->root, flowers_archive.file.name, "flowers102", err)
        && check_sized_file(&flowers_archive, path, any_hash, err) && flowers_unpack(f, path, err)
        && flowers_find_places(f, path, err);
}

// ---- the shards ----

// For image i of the tree
static inline FlowerPlace flower_place(const FlowerInput* in, size_t i) {
    const ImageTree* t = in->tree.tree;
    return in->places[flower_number(t->texts.block + t->images[i].path) - 1];
}

static inline int flowers_next(Cursor* c, InputImage* image, Error* err) {
    const FlowerInput* in = (const FlowerInput*)c->job->input;
    int found = tree_source_next(c, image, err);
    if (found != 1) { return found; }
    FlowerPlace place = flower_place(in, c->at - 1);
    image->descriptor = in->descriptor;
    image->offset = place.offset;
    image->bytes = place.bytes;
    image->refused = place.bytes ? NULL : "is not in 102flowers.tgz";
    return 1;
}

static const ImageSource flowers_source = {tree_source_begin, flowers_next};

static inline bool flowers_classes(ClassList* classes, Error* err) {
    char (*ids)[FOLDER_NAME_BYTES] = (char (*)[FOLDER_NAME_BYTES])calloc(FLOWER_CLASSES, FOLDER_NAME_BYTES);
    if (!ids) { return set_error(err, "no memory for %d classes: close other programs", FLOWER_CLASSES); }
    for (int k = 0; k < FLOWER_CLASSES; k++) { snprintf(ids[k], FOLDER_NAME_BYTES, "%d", k + 1); }
    if (!classes_listed(classes, ids, FLOWER_CLASSES, err)) {
        free(ids);
        return false;
    }
    for (int k = 0; k < FLOWER_CLASSES; k++) { snprintf(classes->names[k], CLASS_NAME_BYTES, "%s", flower_names[k]); }
    return true;
}

static inline bool plan_flowers(Flowers* f, Plan* p, Error* err) {
    static const size_t images[SPLITS] = {TRAIN_IMAGES_A_SHARD, VAL_IMAGES_A_SHARD};
    for (int s = 0; s < SPLITS; s++) {
        if (!flowers_list(f, (Split)s, err)) { return false; }
        FlowerInput* in = &f->inputs[s];
        *in = (FlowerInput){{&f->trees[s], &p->classes, ""}, f->places, f->unpacked ? fileno(f->unpacked) : -1};
        if (!plan_tree(p, (Split)s, &in->tree, 0, images[s], err)) { return false; }
    }
    for (size_t j = 0; j < p->count && f->unpacked; j++) {
        Job* job = &p->jobs[j];
        const FlowerInput* in = (const FlowerInput*)job->input;
        job->source = &flowers_source;
        job->units = 0; // bytes
        for (size_t i = job->first; i < job->last; i++) { job->units += (double)flower_place(in, i).bytes; }
    }
    return true;
}

static inline bool convert_flowers102(const char* command, const char* const* folders, const ConvertOptions* o,
                                      Error* err) {
    Flowers f = {.root = folders[0]};
    Plan plan = {.output = folders[1], .writes = true};
    Treatment treatment;
    snprintf(plan.name, sizeof plan.name, "flowers102%s", o->train_with_valid ? "-trainval" : "");
    bool ok = check_folder(folders[1], err) && treatment_of(&treatment, &plan, command, o, err)
        && flowers_read_labels(&f, o->any_hash, err) && flowers_read_sets(&f, o->any_hash, err)
        && flowers_split(&f, o->train_with_valid, err) && flowers_open_images(&f, o->any_hash, err)
        && flowers_classes(&plan.classes, err) && plan_flowers(&f, &plan, err)
        && make_set(&plan, command, &treatment, 0, err);
    plan_free(&plan);
    flowers_free(&f);
    return ok;
}
