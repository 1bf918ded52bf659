// Converts the official files of Fashion-MNIST, MNIST, CIFAR-10 and CIFAR-100 (binary version) to this project's format
// (data/dataset.h):
//
//   ./convert_data fashion-mnist|mnist|cifar10|cifar100 INPUT_DIR OUTPUT_DIR [--any-hash]
//
// Every input file must have exactly the official size, header, label range and MD5; all is checked before anything is
// written. cc -O2 data/convert.c -o convert_data -lm builds it without libraries; -DHAVE_ZLIB -lz lets it read .gz
// files, -DHAVE_LIBCRYPTO -lcrypto lets it check the MD5s.
#include "../runtime/output.h"
#include "dataset.h"
#include "strays.h"
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LIBCRYPTO
#include <openssl/evp.h>
#endif

// ---- what the official files are ----

typedef enum { LAYOUT_IDX, LAYOUT_CIFAR } Layout;

typedef struct {
    const char* name;
    const char* md5; // of the unpacked file; NULL: not known
} SourceFile;

typedef struct {
    const char* name;
    const char* folders[2];      // where the official archive unpacks to, and torchvision; also looked into
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

// The MD5s are of the unpacked files, so that it does not matter who packed them. Fashion-MNIST: unpacked from Debian's
// dataset-fashion-mnist, whose .gz are packed anew. For CIFAR-100's .bin files none is known.
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
    bool any_hash; // a wrong MD5 is reported, not refused
} Input;

// ---- reading a file, packed or not ----

#ifdef HAVE_ZLIB
enum { HAVE_GZIP = 1 };
// Up to `limit` bytes, unpacked where the file is packed; -1 on error.
static inline int64_t read_bytes(uint8_t* bytes, size_t limit, const char* path, Error* err) {
    gzFile f = gzopen(path, "rb");
    if (!f) { set_error(err, "cannot open %s: %s", path, strerror(errno)); return -1; }
    int64_t count = gzread(f, bytes, (unsigned)limit);
    int code = Z_OK;
    const char* reason = gzerror(f, &code);
    if (count < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        reason = code == Z_ERRNO ? strerror(errno) : reason;
        set_error(err, "%s cannot be unpacked (%s): fetch the file again", path, reason);
        count = -1;
    }
    gzclose(f);
    return count;
}
#else
enum { HAVE_GZIP = 0 };
static inline int64_t read_bytes(uint8_t* bytes, size_t limit, const char* path, Error* err) {
    FILE* f = fopen(path, "rb");
    if (!f) { set_error(err, "cannot open %s: %s", path, strerror(errno)); return -1; }
    int64_t count = (int64_t)fread(bytes, 1, limit, f);
    if (ferror(f)) { set_error(err, "cannot read %s: %s", path, strerror(errno)); count = -1; }
    fclose(f);
    return count;
}
#endif

static inline bool is_file(const char* path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

// The path of DIR/NAME or DIR/FOLDER/NAME, or of one with .gz; false: none of them is a file
static inline bool locate(char path[PATH_MAX], const char* dir, const Source* s, const char* name) {
    const char* const places[] = {".", s->folders[0], s->folders[1]};
    for (int i = 0; i < 6; i++) {
        if (!places[i / 2]) { continue; }
        bool top = i / 2 == 0;
        int length = snprintf(path, PATH_MAX, "%s%s%s/%s%s", dir, top ? "" : "/", top ? "" : places[i / 2], name,
                              i % 2 ? ".gz" : "");
        if (length < PATH_MAX && is_file(path)) { return true; }
    }
    return false;
}

static inline bool holds_any(const char* dir, const Source* s) {
    char path[PATH_MAX];
    for (int i = 0; i < 6 && s->files[i].name; i++) {
        if (locate(path, dir, s, s->files[i].name)) { return true; }
    }
    return false;
}

// Why an official file is not there; always false
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
    if (!locate(path, in->dir, in->source, name)) { return missing_file(in, name, err); }
    bool packed = strcmp(path + strlen(path) - 3, ".gz") == 0;
    if (HAVE_GZIP || !packed) { return true; }
    return set_error(err, "%s is packed, and this program was built without zlib: gunzip the file first, or install "
                     "zlib1g-dev and build again", path);
}

#ifdef HAVE_LIBCRYPTO
enum { HAVE_MD5 = 1 };
static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!EVP_Digest(bytes, count, digest, &length, EVP_md5(), NULL) || length != 16) { return false; }
    for (int i = 0; i < 16; i++) { snprintf(text + 2 * i, 3, "%02x", digest[i]); }
    return true;
}
#else
enum { HAVE_MD5 = 0 };
static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    (void)text; (void)bytes; (void)count;
    return false;
}
#endif

static inline bool check_hash(const Input* in, const SourceFile* file, const char* path, const uint8_t* bytes,
                              size_t count, Error* err) {
    char md5[33] = "";
    if (!file->md5) {
        printf("  %s: size and contents are checked; no official hash is known for it\n", file->name);
    } else if (!HAVE_MD5) {
        printf("  %s: size and contents are checked, the MD5 is not (install libssl-dev and build again)\n",
               file->name);
    } else if (!md5_text(md5, bytes, count)) {
        return set_error(err, "libcrypto refuses to compute an MD5: build without -DHAVE_LIBCRYPTO to go without");
    } else if (strcmp(md5, file->md5) == 0) {
        printf("  %s: MD5 is the official one\n", file->name);
    } else if (in->any_hash) {
        printf("  %s: MD5 is %s, not the official %s (accepted: --any-hash)\n", file->name, md5, file->md5);
    } else {
        return set_error(err, "%s is not the official file: MD5 %s instead of %s; fetch it again, or give --any-hash "
                         "to convert a changed data set", path, md5, file->md5);
    }
    return true;
}

// The unpacked contents of one official file of exactly `count` bytes; the caller frees them. NULL on error.
static inline uint8_t* read_source(const Input* in, const SourceFile* file, size_t count, Error* err) {
    char path[PATH_MAX];
    if (!find_file(path, in, file->name, err)) { return NULL; }
    uint8_t* bytes = malloc(count + 1); // one more, to see that the file ends
    if (!bytes) {
        set_error(err, "no memory for %s (%.1f MB): close other programs", path, count / 1e6);
        return NULL;
    }
    int64_t got = read_bytes(bytes, count + 1, path, err);
    if (got >= 0 && (size_t)got != count) {
        bool less = (size_t)got < count;
        set_error(err, "%s is %s: the official file of %s has %zu bytes unpacked, this one has %s%lld; fetch it again",
                  path, less ? "truncated" : "too long", in->source->name, count, less ? "" : "at least ",
                  (long long)got);
        got = -1;
    }
    if (got < 0 || !check_hash(in, file, path, bytes, count, err)) {
        free(bytes);
        return NULL;
    }
    return bytes;
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
    uint8_t* bytes = read_source(in, file, 16 + pixels, err);
    bool ok = bytes && check_idx(bytes, 3, (int[]){d->count, d->height, d->width}, file->name, err);
    if (ok) { memcpy(d->images, bytes + 16, pixels); }
    free(bytes);
    return ok;
}

static inline bool convert_idx_labels(const Input* in, const SourceFile* file, Dataset* d, Error* err) {
    uint8_t* bytes = read_source(in, file, 8 + (size_t)d->count, err);
    bool ok = bytes && check_idx(bytes, 1, &d->count, file->name, err);
    for (int i = 0; i < d->count && ok; i++) {
        d->labels[i] = bytes[8 + i];
        ok = check_label(d->labels[i], d->classes, "label", file->name, i, err);
    }
    free(bytes);
    return ok;
}

// One CIFAR file: records of [coarse label,] label, image (channels, side, side); into d from image `first` on.
static inline bool convert_cifar_file(const Input* in, const SourceFile* file, int first, int count, Dataset* d,
                                      Error* err) {
    const Source* s = in->source;
    size_t label_bytes = s->coarse_classes > 0 ? 2 : 1, record = label_bytes + image_bytes(d);
    uint8_t* bytes = read_source(in, file, count * record, err);
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

// Whether the folder is there and lets files be made, or can be made itself. Nothing is made yet.
static inline bool check_folder(const char* dir, Error* err) {
    char part[PATH_MAX];
    if (!*dir || snprintf(part, sizeof part, "%s", dir) >= (int)sizeof part) {
        return set_error(err, "'%.100s' is no name for an output folder: choose another", dir);
    }
    while (!path_exists(part) && (errno == ENOENT || errno == ENOTDIR)) { // up to what is there
        char* slash = strrchr(part, '/');
        if (slash && slash > part) { *slash = 0; } else { snprintf(part, sizeof part, "%s", slash ? "/" : "."); }
    }
    if (is_folder(part) && access(part, W_OK | X_OK) == 0) { return true; }
    const char* reason = strerror(errno);
    if (path_exists(part) && !is_folder(part)) { reason = "it is not a folder"; }
    return set_error(err, "cannot write into %s: %s: %s; choose another output folder", dir, part, reason);
}

// Whether both files can be written, as far as can be known before
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

// What is to be written where is checked first; both splits are read and checked before either is written.
static inline bool convert(const Input* in, const char* output_dir, Error* err) {
    Dataset train = {0}, test = {0};
    bool ok = check_output(output_dir, in->source->name, err)
        && convert_split(in, true, &train, err) && convert_split(in, false, &test, err)
        && save_both(&train, &test, output_dir, err);
    dataset_free(&train);
    dataset_free(&test);
    return ok;
}

#ifndef TESTING
static const char usage[] =
    "usage: ./convert_data fashion-mnist|mnist|cifar10|cifar100 INPUT_DIR OUTPUT_DIR [--any-hash]\n"
    "\n"
    "Converts official files to OUTPUT_DIR/NAME.train.kds and NAME.test.kds, for ./train_kat --data OUTPUT_DIR/NAME.\n"
    "INPUT_DIR holds, as they are or packed with gzip:\n"
    "  fashion-mnist, mnist   train-images-idx3-ubyte, train-labels-idx1-ubyte,\n"
    "                         t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte\n"
    "  cifar10                data_batch_1.bin to data_batch_5.bin, test_batch.bin (\"binary version\")\n"
    "  cifar100               train.bin, test.bin (\"binary version\"; fine labels)\n"
    "\n"
    "  --any-hash  also accept files that have the right size and contents, but not the official MD5\n"
    "  --help      print this\n";

__attribute__((noreturn))
static void fail_usage(const char* what, const char* argument) {
    fail(EXIT_USAGE, "%s%s\n\n%s", what, argument, usage);
}

int main(int argc, char** argv) {
    output_guard();
    const char* words[3] = {0};
    int count = 0;
    bool any_hash = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) { fputs(usage, stdout); return 0; }
        if (strcmp(argv[i], "--any-hash") == 0) { any_hash = true; continue; }
        if (argv[i][0] == '-') { fail_usage("unknown option ", argv[i]); }
        if (count == 3) { fail_usage("one argument too many: ", argv[i]); }
        words[count++] = argv[i];
    }
    if (count < 3) { fail_usage("expected a data set, an input folder and an output folder", ""); }

    Input input = {NULL, words[1], any_hash};
    for (int i = 0; i < SOURCES; i++) {
        if (strcmp(sources[i].name, words[0]) == 0) { input.source = &sources[i]; }
    }
    if (!input.source) { fail_usage("unknown data set ", words[0]); }
    Error error;
    if (!convert(&input, words[2], &error)) { fail(EXIT_RUN_TIME, "%s", error.text); }
    return 0;
}
#endif
