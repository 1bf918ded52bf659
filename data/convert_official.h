// The official files of Fashion-MNIST, MNIST (idx), CIFAR-10 and CIFAR-100 (binary version), converted to .kds files.
// Every file must have exactly the official size, header, label range and MD5; everything is checked before anything is
// written.
#pragma once
#include "convert_options.h"
#include "save_splits.h"
#include "source_file.h"
#include "strays.h"

// ---- what the official files are ----

typedef enum { LAYOUT_IDX, LAYOUT_CIFAR } Layout;

typedef struct {
    const char* name;
    const char* folders[2];      // where the official archive, and torchvision, unpack to; also searched
    const char* wanted;          // what to fetch, in words
    Layout layout;
    int classes, channels, side;
    int coarse_classes;          // CIFAR-100 puts a coarse label before the fine one; 0: only one label
    int train_files;             // CIFAR: how many of `files` are training; IDX: images and labels of each split
    int train_count, test_count; // images in each file of the split
    SourceFile files[6];
    const char* const* class_names;
} Source;

static const char* const fashion_mnist_classes[] = {
    "t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
};
static const char* const mnist_classes[] = {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"};
static const char* const cifar10_classes[] = {
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
};
static const char* const cifar100_classes[] = {
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger",
    "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
};

#define IDX_FILES "train-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz and the two others, packed or not"

// The MD5s are of the unpacked files, so that it does not matter how they were packed. Fashion-MNIST: unpacked from
// Debian's dataset-fashion-mnist, whose .gz files are packed anew. For CIFAR-100's .bin files no MD5 is known.
static const Source sources[] = {
    {.name = "fashion-mnist", .folders = {"fashion-mnist", "FashionMNIST/raw"}, .wanted = IDX_FILES,
     .layout = LAYOUT_IDX, .classes = 10, .channels = 1, .side = 28,
     .train_count = 60000, .test_count = 10000, .class_names = fashion_mnist_classes,
     .files = {{"train-images-idx3-ubyte", "f4a8712d7a061bf5bd6d2ca38dc4d50a"},
               {"train-labels-idx1-ubyte", "9018921c3c673c538a1fc5bad174d6f9"},
               {"t10k-images-idx3-ubyte", "8181f5470baa50b63fa0f6fddb340f0a"},
               {"t10k-labels-idx1-ubyte", "15d484375f8d13e6eb1aabb0c3f46965"}}},
    {.name = "mnist", .folders = {"mnist", "MNIST/raw"}, .wanted = IDX_FILES,
     .layout = LAYOUT_IDX, .classes = 10, .channels = 1, .side = 28,
     .train_count = 60000, .test_count = 10000, .class_names = mnist_classes,
     .files = {{"train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"},
               {"train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"},
               {"t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"},
               {"t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"}}},
    {.name = "cifar10", .folders = {"cifar-10-batches-bin"},
     .wanted = "the binary version, cifar-10-binary.tar.gz", .layout = LAYOUT_CIFAR, .classes = 10, .channels = 3,
     .side = 32, .train_files = 5, .train_count = 10000, .test_count = 10000, .class_names = cifar10_classes,
     .files = {{"data_batch_1.bin", "5dd7e06a14cb22eb9f671a540d1b7c25"},
               {"data_batch_2.bin", "5ea93a67294ea407fff1d09f752e9692"},
               {"data_batch_3.bin", "942cd6a4bcdd0dd3c604fbe906cb4421"},
               {"data_batch_4.bin", "ae636b3ba5c66a11e91e8cb52e771fcb"},
               {"data_batch_5.bin", "53f37980c15c3d472c316c40844f3f0d"},
               {"test_batch.bin", "803d5f7f4d78ea53de84dbe85f74fb6d"}}},
    {.name = "cifar100", .folders = {"cifar-100-binary"},
     .wanted = "the binary version, cifar-100-binary.tar.gz", .layout = LAYOUT_CIFAR, .classes = 100, .channels = 3,
     .side = 32, .coarse_classes = 20, .train_files = 1, .train_count = 50000, .test_count = 10000,
     .class_names = cifar100_classes,
     .files = {{"train.bin", NULL}, {"test.bin", NULL}}},
};
enum { SOURCES = sizeof sources / sizeof sources[0] };

typedef struct {
    const Source* source;
    const char* dir;
    bool any_hash; // a wrong MD5 is reported instead of refused
} Input;

// ---- finding them ----

static inline bool holds_any(const char* dir, const Source* s) {
    char path[PATH_MAX];
    for (int i = 0; i < 6 && s->files[i].name; i++) {
        if (locate_file(path, dir, s->folders, s->files[i].name)) { return true; }
    }
    return false;
}

// Says why an official file is not there; always false
static inline bool missing_file(const Input* in, const char* name, Error* err) {
    const Source* s = in->source;
    struct stat status;
    if (stat(in->dir, &status) != 0) {
        return set_error(err, "cannot look into %s: %s; give the folder that holds the official files of %s", in->dir,
                         strerror(errno), s->name);
    }
    if (!S_ISDIR(status.st_mode)) {
        return set_error(err, "%s is not a folder: unpack it if it is an archive, and give the folder that holds the "
                         "official files of %s", in->dir, s->name);
    }
    for (int i = 0; i < SOURCES && !holds_any(in->dir, s); i++) {
        if (holds_any(in->dir, &sources[i])) {
            return set_error(err, "%s holds the files of %s, not of %s: give the other name, or another folder",
                             in->dir, sources[i].name, s->name);
        }
    }
    if (!holds_any(in->dir, s) && explain_stray(in->dir, s->wanted, err)) { return false; }
    return set_error(err, "neither %s nor %s.gz is in %s or its folder %s: unpack the official files of %s there", name,
                     name, in->dir, s->folders[0], s->name);
}

static inline bool find_file(char path[PATH_MAX], const Input* in, const char* name, Error* err) {
    if (!locate_file(path, in->dir, in->source->folders, name)) { return missing_file(in, name, err); }
    bool packed = strcmp(path + strlen(path) - 3, ".gz") == 0;
    if (HAVE_GZIP || !packed) { return true; }
    return set_error(err, "%s is packed, and this program was built without zlib: gunzip the file first, or install "
                     "zlib1g-dev and build again", path);
}

static inline uint8_t* read_official(const Input* in, const SourceFile* file, size_t count, Error* err) {
    char path[PATH_MAX];
    return find_file(path, in, file->name, err)
        ? read_source(file, path, in->source->name, count, in->any_hash, err) : NULL;
}

// ---- the two layouts ----

static inline uint32_t big_endian(const uint8_t* b) {
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static inline bool check_label(int label, int classes, const char* what, const char* file, int image, Error* err) {
    if (label < classes) { return true; }
    return set_error(err, "%s: image %d has %s %d, which is not in 0..%d: this is not the file it is named after",
                     file, image, what, label, classes - 1);
}

// An idx header: 0x00000800 + the number of dimensions (of unsigned bytes), then each dimension, all big-endian.
static inline bool check_idx(const uint8_t* bytes, int dims, const int* sizes, const char* file, Error* err) {
    uint32_t magic = 0x800u + (uint32_t)dims;
    if (big_endian(bytes) != magic) {
        return set_error(err, "%s starts with 0x%08x instead of 0x%08x: this is not an idx file of %d dimensions", file,
                         big_endian(bytes), magic, dims);
    }
    for (int i = 0; i < dims; i++) {
        if (big_endian(bytes + 4 + 4 * i) != (uint32_t)sizes[i]) {
            return set_error(err, "%s: dimension %d is %u instead of %d: this is not the official file", file, i,
                             big_endian(bytes + 4 + 4 * i), sizes[i]);
        }
    }
    return true;
}

static inline bool convert_idx_images(const Input* in, const SourceFile* file, Dataset* d, Error* err) {
    size_t pixels = d->count * image_bytes(d);
    uint8_t* bytes = read_official(in, file, 16 + pixels, err);
    bool ok = bytes && check_idx(bytes, 3, (int[]){d->count, d->height, d->width}, file->name, err);
    if (ok) { memcpy(d->images, bytes + 16, pixels); }
    free(bytes);
    return ok;
}

static inline bool convert_idx_labels(const Input* in, const SourceFile* file, Dataset* d, Error* err) {
    uint8_t* bytes = read_official(in, file, 8 + (size_t)d->count, err);
    bool ok = bytes && check_idx(bytes, 1, &d->count, file->name, err);
    for (int i = 0; i < d->count && ok; i++) {
        d->labels[i] = bytes[8 + i];
        ok = check_label(d->labels[i], d->classes, "label", file->name, i, err);
    }
    free(bytes);
    return ok;
}

// One CIFAR file: records of [coarse label,] label, image (channels, side, side); into d, from image `first` on.
static inline bool convert_cifar_file(const Input* in, const SourceFile* file, int first, int count, Dataset* d,
                                      Error* err) {
    const Source* s = in->source;
    size_t label_bytes = s->coarse_classes > 0 ? 2 : 1, record = label_bytes + image_bytes(d);
    uint8_t* bytes = read_official(in, file, count * record, err);
    bool ok = bytes != NULL;
    for (int i = 0; i < count && ok; i++) {
        const uint8_t* r = bytes + i * record;
        int label = r[label_bytes - 1];
        ok = (s->coarse_classes == 0 || check_label(r[0], s->coarse_classes, "coarse label", file->name, i, err))
            && check_label(label, s->classes, "label", file->name, i, err);
        d->labels[first + i] = (uint16_t)label;
        memcpy(d->images + (first + i) * image_bytes(d), r + label_bytes, image_bytes(d));
    }
    free(bytes);
    return ok;
}

// ---- a split, a data set ----

static inline bool convert_split(const Input* in, bool train, Dataset* d, Error* err) {
    const Source* s = in->source;
    bool idx = s->layout == LAYOUT_IDX;
    const SourceFile* files = s->files + (train ? 0 : idx ? 2 : s->train_files);
    int file_count = train && !idx ? s->train_files : 1, images = train ? s->train_count : s->test_count;
    if (!dataset_create(d, s->name, file_count * images, s->classes, s->channels, s->side, s->side, err)) {
        return false;
    }
    for (int k = 0; k < s->classes; k++) { snprintf(d->class_names[k], CLASS_NAME_BYTES, "%s", s->class_names[k]); }
    if (idx) {
        return convert_idx_images(in, &files[0], d, err) && convert_idx_labels(in, &files[1], d, err);
    }
    for (int i = 0; i < file_count; i++) {
        if (!convert_cifar_file(in, &files[i], i * images, images, d, err)) { return false; }
    }
    return true;
}

// The output's place is checked first; both splits are read and checked before either is written.
static inline bool convert(const Input* in, const char* output_dir, Error* err) {
    Dataset train = {0}, test = {0};
    bool ok = check_output(output_dir, in->source->name, err)
        && convert_split(in, true, &train, err) && convert_split(in, false, &test, err)
        && save_both(&train, &test, output_dir, err);
    dataset_free(&train);
    dataset_free(&test);
    return ok;
}

static inline bool convert_official(const char* set, const char* const* folders, const ConvertOptions* o, Error* err) {
    const Source* source = NULL;
    for (int i = 0; i < SOURCES; i++) {
        if (strcmp(sources[i].name, set) == 0) { source = &sources[i]; }
    }
    return convert(&(Input){source, folders[0], o->any_hash}, folders[1], err);
}
