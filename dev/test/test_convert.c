// data/convert_official.h on small files of the official layouts, made here: good ones, packed and not, and truncated,
// too long, corrupted, wrong and missing ones, each refused with its own sentence and without writing anything.
// With -DHAVE_ZLIB -lz packed files are read (without, refused), with -DHAVE_LIBCRYPTO -lcrypto MD5s are checked.
#include "../../data/convert_official.h"
#include "../../data/open.h"
#include "test_files.h"
#include <fcntl.h>
#include <sys/wait.h>

enum { IDX_TRAIN = 30, IDX_TEST = 12, CIFAR_TRAIN = 8, CIFAR_TEST = 6, SIDE = 5 };

static const char* const names[] = {"zero", "one", "two", "three"};

static const Source idx = {
    .name = "small-idx", .folders = {"inner"}, .layout = LAYOUT_IDX, .classes = 4, .channels = 1, .side = SIDE,
    .train_count = IDX_TRAIN, .test_count = IDX_TEST, .class_names = names,
    .files = {{"ti", NULL}, {"tl", NULL}, {"ei", NULL}, {"el", NULL}},
};
static const Source cifar = {
    .name = "small-cifar", .folders = {"inner"}, .layout = LAYOUT_CIFAR, .classes = 4, .channels = 3, .side = SIDE,
    .train_files = 2, .train_count = CIFAR_TRAIN, .test_count = CIFAR_TEST, .class_names = names,
    .files = {{"b1", NULL}, {"b2", NULL}, {"t", NULL}},
};
static const Source coarse = {
    .name = "small-coarse", .folders = {"inner"}, .layout = LAYOUT_CIFAR, .classes = 4, .channels = 3, .side = SIDE,
    .coarse_classes = 2, .train_files = 1, .train_count = CIFAR_TRAIN, .test_count = CIFAR_TEST, .class_names = names,
    .files = {{"train.bin", NULL}, {"test.bin", NULL}},
};

static uint8_t pixel_of(int file, int image, int k) { return (uint8_t)(file * 101 + image * 31 + k * k * 3 + k); }
static int label_of(int file, int image) { return (image * 3 + file) % 4; }

// The bytes of file number `file` of a source; the caller frees them.
static uint8_t* make_idx(int file, size_t* count) {
    int images = file < 2 ? IDX_TRAIN : IDX_TEST, labels = file % 2, header = labels ? 8 : 16;
    *count = header + (size_t)images * (labels ? 1 : SIDE * SIDE);
    uint8_t* bytes = calloc(1, *count);
    bytes[2] = 8; bytes[3] = labels ? 1 : 3; bytes[7] = (uint8_t)images;
    if (!labels) { bytes[11] = bytes[15] = SIDE; }
    for (int i = 0; i < images; i++) {
        if (labels) { bytes[8 + i] = (uint8_t)label_of(file / 2, i); continue; }
        for (int k = 0; k < SIDE * SIDE; k++) { bytes[16 + i * SIDE * SIDE + k] = pixel_of(file / 2, i, k); }
    }
    return bytes;
}

static uint8_t* make_cifar(const Source* s, int file, size_t* count) {
    int images = file < s->train_files ? s->train_count : s->test_count, pixels = 3 * SIDE * SIDE;
    int label_bytes = s->coarse_classes ? 2 : 1, record = label_bytes + pixels;
    *count = (size_t)images * record;
    uint8_t* bytes = calloc(1, *count);
    for (int i = 0; i < images; i++) {
        uint8_t* r = bytes + (size_t)i * record;
        r[label_bytes - 1] = (uint8_t)label_of(file, i);
        if (s->coarse_classes) { r[0] = (uint8_t)(label_of(file, i) / 2); }
        for (int k = 0; k < pixels; k++) { r[label_bytes + k] = pixel_of(file, i, k); }
    }
    return bytes;
}

static int file_count(const Source* s) { return s->layout == LAYOUT_IDX ? 4 : s->train_files + 1; }

static uint8_t* make_file(const Source* s, int file, size_t* count) {
    return s->layout == LAYOUT_IDX ? make_idx(file, count) : make_cifar(s, file, count);
}

static void write_good_files(const Source* s, const char* folder) {
    char path[512];
    for (int i = 0; i < file_count(s); i++) {
        size_t count;
        uint8_t* bytes = make_file(s, i, &count);
        snprintf(path, sizeof path, "%.400s/%s", folder, s->files[i].name);
        write_file(path, bytes, count);
        free(bytes);
    }
}

static void check_split(const Source* s, bool train, const char* path) {
    Dataset d;
    Error err;
    int per_file = train ? s->train_count : s->test_count, wrong = 0;
    int files = train && s->layout == LAYOUT_CIFAR ? s->train_files : 1;
    if (!CHECK(dataset_load(&d, path, &err), "%s", err.text)) { return; }
    CHECK(d.count == files * per_file && d.classes == 4 && d.channels == s->channels && d.height == SIDE,
          "%s: dimensions", path);
    CHECK(strcmp(d.name, s->name) == 0 && strcmp(d.class_names[3], "three") == 0, "%s: names", path);
    for (int i = 0; i < d.count; i++) {
        int file = s->layout == LAYOUT_IDX ? !train : train ? i / per_file : s->train_files;
        wrong += d.labels[i] != label_of(file, i % per_file);
        for (int k = 0; k < (int)image_bytes(&d); k++) {
            wrong += d.images[i * image_bytes(&d) + k] != pixel_of(file, i % per_file, k);
        }
    }
    CHECK(wrong == 0, "%s: %d labels or pixels are wrong", path, wrong);
    dataset_free(&d);
}

// convert, without its report
static bool convert_quietly(const Source* s, const char* input_dir, const char* output_dir, bool any_hash, Error* err) {
    fflush(stdout);
    int terminal = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, STDOUT_FILENO);
    bool ok = convert(&(Input){s, input_dir, any_hash}, output_dir, err);
    fflush(stdout);
    dup2(terminal, STDOUT_FILENO);
    close(terminal);
    close(nowhere);
    return ok;
}

static void remove_outputs(void) { remove_folder(in_folder("out")); }

static void expect_converted(const Source* s, const char* folder, const char* what) {
    Error err;
    char path[512];
    remove_outputs();
    bool ok = convert_quietly(s, folder, in_folder("out"), false, &err);
    if (!CHECK(ok, "%s, %s: %s", s->name, what, err.text)) { return; }
    for (int train = 0; train < 2; train++) {
        snprintf(path, sizeof path, "%s/out/%s.%s.kds", test_folder, s->name, train ? "train" : "test");
        check_split(s, train, path);
    }
    // both splits carry the training split's mean
    Dataset a, b;
    snprintf(path, sizeof path, "%s/out/%s", test_folder, s->name);
    if (CHECK(dataset_open(&a, &b, path, false, &err), "%s", err.text)) {
        CHECK(memcmp(a.mean, b.mean, sizeof a.mean) == 0 && memcmp(a.std, b.std, sizeof a.std) == 0,
              "mean and std differ");
        dataset_free(&a);
        dataset_free(&b);
    }
}

static void expect_refused(const Source* s, const char* reason, const char* what) {
    Error err = {""};
    remove_outputs();
    CHECK(!convert_quietly(s, in_folder("in"), in_folder("out"), false, &err), "%s, %s: was converted", s->name, what);
    CHECK(strstr(err.text, reason), "%s, %s: the sentence does not say '%s': %s", s->name, what, reason, err.text);
    CHECK(access(in_folder("out"), F_OK) != 0, "%s, %s: something was written", s->name, what);
}

// Every file in turn: cut, lengthened, absent, empty.
static void test_damaged_files(const Source* s) {
    for (int i = 0; i < file_count(s); i++) {
        char path[512];
        size_t count;
        uint8_t* bytes = make_file(s, i, &count);
        bytes = realloc(bytes, count + 1);
        bytes[count] = 0;
        snprintf(path, sizeof path, "%s/in/%s", test_folder, s->files[i].name);
        const size_t cuts[] = {0, 1, 7, count / 2, count - 1};
        for (int k = 0; k < 5; k++) {
            write_file(path, bytes, cuts[k]);
            expect_refused(s, "truncated", "a cut file");
        }
        write_file(path, bytes, count + 1);
        expect_refused(s, "too long", "a longer file");
        unlink(path);
        expect_refused(s, s->files[i].name, "a missing file");
        write_file(path, bytes, count);
        free(bytes);
    }
    expect_converted(s, in_folder("in"), "repaired");
}

static void expect_refused_byte(const Source* s, int file, size_t offset, uint8_t value, const char* reason) {
    char path[512], what[64];
    size_t count;
    uint8_t* bytes = make_file(s, file, &count);
    uint8_t old = bytes[offset];
    bytes[offset] = value;
    snprintf(path, sizeof path, "%s/in/%s", test_folder, s->files[file].name);
    snprintf(what, sizeof what, "byte %zu of file %d set to %d", offset, file, value);
    write_file(path, bytes, count);
    expect_refused(s, reason, what);
    bytes[offset] = old;
    write_file(path, bytes, count);
    free(bytes);
}

static void test_corrupted_files(void) {
    expect_refused_byte(&idx, 0, 3, 1, "not an idx file");
    expect_refused_byte(&idx, 1, 2, 9, "not an idx file");
    expect_refused_byte(&idx, 0, 7, IDX_TRAIN - 1, "dimension 0");
    expect_refused_byte(&idx, 2, 11, SIDE + 1, "dimension 1");
    expect_refused_byte(&idx, 3, 7, 99, "dimension 0");
    expect_refused_byte(&idx, 1, 8 + 17, 4, "image 17 has label 4");
    expect_refused_byte(&cifar, 1, 2 * 76, 200, "image 2 has label 200");
    expect_refused_byte(&coarse, 0, 3 * 77, 2, "image 3 has coarse label 2");
    expect_refused_byte(&coarse, 1, 5 * 77 + 1, 4, "image 5 has label 4");
}

// One data set's files under another's name.
static void test_wrong_files(void) {
    size_t count;
    uint8_t* images = make_idx(0, &count);
    write_file(in_folder("in/tl"), images, count);
    expect_refused(&idx, "too long", "images in place of labels");
    free(images);
    uint8_t* labels = make_idx(1, &count);
    write_file(in_folder("in/tl"), labels, count);
    free(labels);
    Error err;
    CHECK(!convert_quietly(&idx, in_folder("nowhere"), in_folder("out"), false, &err),
          "a missing folder was converted");
}

#ifdef HAVE_ZLIB
static void pack_file(const char* path, const uint8_t* bytes, size_t count) {
    gzFile f = gzopen(path, "wb");
    if (!f || gzwrite(f, bytes, (unsigned)count) != (int)count || gzclose(f) != Z_OK) { perror(path); exit(1); }
}

static void test_packed_files(const Source* s) {
    char path[512];
    for (int i = 0; i < file_count(s); i++) { // pack all of them, leave no plain one
        size_t count;
        uint8_t* bytes = make_file(s, i, &count);
        snprintf(path, sizeof path, "%s/in/%s", test_folder, s->files[i].name);
        unlink(path);
        strcat(path, ".gz");
        pack_file(path, bytes, count);
        free(bytes);
    }
    expect_converted(s, in_folder("in"), "packed");

    size_t count = 0; // path is the last file's
    uint8_t* packed = read_file(path, &count);
    const size_t cuts[] = {count / 2, count - 9, count - 1}; // within the data, its end, the checksum
    for (int k = 0; k < 3; k++) {
        write_file(path, packed, cuts[k]);
        expect_refused(s, "cannot be unpacked", "a cut packed file");
    }
    packed[count - 6] ^= 1; // CRC
    write_file(path, packed, count);
    expect_refused(s, "cannot be unpacked", "a packed file with a wrong checksum");
    packed[count - 6] ^= 1;
    packed[count / 2] ^= 0x10;
    write_file(path, packed, count);
    expect_refused(s, "unpack", "a damaged packed file");
    free(packed);

    uint8_t* bytes = make_file(s, file_count(s) - 1, &count);
    pack_file(path, bytes, count - 1);
    expect_refused(s, "truncated", "a packed cut file");
    free(bytes);
    for (int i = 0; i < file_count(s); i++) {
        snprintf(path, sizeof path, "%s/in/%s.gz", test_folder, s->files[i].name);
        unlink(path);
    }
    write_good_files(s, in_folder("in"));
}
#else
static void test_packed_files(const Source* s) {
    char path[512];
    snprintf(path, sizeof path, "%s/in/%s", test_folder, s->files[0].name);
    unlink(path);
    strcat(path, ".gz");
    write_file(path, "\x1f\x8b", 2);
    expect_refused(s, "gunzip", "a packed file without zlib");
    unlink(path);
    write_good_files(s, in_folder("in"));
}
#endif

// MD5s: the right one passes, a wrong one is refused, --any-hash accepts it all the same.
static void test_hashes(void) {
    Error err;
    Source s = cifar;
    s.files[0].md5 = "0123456789abcdef0123456789abcdef";
    if (HAVE_MD5) { expect_refused(&s, "not the official file", "a wrong MD5"); }
    CHECK(convert_quietly(&s, in_folder("in"), in_folder("out"), true, &err), "--any-hash: %s", err.text);
    char md5[33];
    size_t count;
    uint8_t* bytes = make_file(&s, 0, &count);
    if (HAVE_MD5 && CHECK(md5_text(md5, bytes, count), "no MD5")) {
        s.files[0].md5 = md5;
        expect_converted(&s, in_folder("in"), "the right MD5");
        CHECK(md5_text(md5, (const uint8_t*)"abc", 3) && strcmp(md5, "900150983cd24fb0d6963f7d28e17f72") == 0,
              "MD5 of abc (RFC 1321): %s", md5);
    }
    free(bytes);
}

static void test_folders(void) {
    mkdir(in_folder("outer"), 0777);
    mkdir(in_folder("outer/inner"), 0777);
    write_good_files(&cifar, in_folder("outer/inner"));
    expect_converted(&cifar, in_folder("outer"), "in the official sub-folder");
    Source nested = idx;
    nested.folders[1] = "inner/raw";
    mkdir(in_folder("outer/inner/raw"), 0777);
    write_good_files(&nested, in_folder("outer/inner/raw"));
    expect_converted(&nested, in_folder("outer"), "in torchvision's sub-folder");
}

// ---- other things than the official files, each called by its name

static const Source* official(const char* name) {
    for (int i = 0; i < SOURCES; i++) {
        if (strcmp(sources[i].name, name) == 0) { return &sources[i]; }
    }
    return NULL;
}

static void test_strays(void) {
    static const struct { const char *set, *there, *what, *wanted; } cases[] = { // there: with a / at its end a folder
        {"cifar10", "cifar-10-batches-py/", "batches-py is the Python version of CIFAR-10", "cifar-10-binary.tar.gz"},
        {"cifar10", "data_batch_1", "data_batch_1 is the Python version", "the binary version"},
        {"cifar10", "cifar-10-python.tar.gz", "cifar-10-python.tar.gz is the Python version", "the binary version"},
        {"cifar10", "data_batch_1.mat", "is a MATLAB version", "the binary version"},
        {"cifar10", "cifar-10-batches-mat/", "the MATLAB version of CIFAR-10", "the binary version"},
        {"cifar10", "cifar-10-binary.tar.gz", "cifar-10-binary.tar.gz is an archive: unpack it there", "binary"},
        {"cifar10", "cifar.zip", "cifar.zip is an archive", "binary"},
        {"cifar100", "meta", "meta is the Python version of CIFAR-100", "cifar-100-binary.tar.gz"},
        {"cifar100", "cifar-100-python/", "the Python version of CIFAR-100", "cifar-100-binary.tar.gz"},
        {"mnist", "mnist.tar", "mnist.tar is an archive", "train-images-idx3-ubyte.gz"},
        {"mnist", "train-images.idx3-ubyte", "under another name", "train-images-idx3-ubyte.gz"},
        {"mnist", "mnist.npz", "is a NumPy version", "train-images-idx3-ubyte.gz"},
        {"mnist", "mnist_train.csv", "mnist_train.csv is a table", "train-images-idx3-ubyte.gz"},
        {"cifar10", "train.bin", "holds the files of cifar100, not of cifar10", "give the other name"},
        {"cifar100", "data_batch_1.bin", "holds the files of cifar10, not of cifar100", "give the other name"},
        {"mnist", "test.bin", "holds the files of cifar100, not of mnist", "give the other name"},
        {"fashion-mnist", "notes.txt", "neither train-images-idx3-ubyte nor", "unpack the official files"},
    };
    char folder[300], path[512];
    snprintf(folder, sizeof folder, "%s/strays", test_folder);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Error err = {""};
        mkdir(folder, 0777);
        snprintf(path, sizeof path, "%s/%s", folder, cases[i].there);
        if (path[strlen(path) - 1] == '/') { mkdir(path, 0777); } else { write_file(path, "x", 1); }
        CHECK(!convert_quietly(official(cases[i].set), folder, in_folder("out"), false, &err)
              && strstr(err.text, cases[i].what) && strstr(err.text, cases[i].wanted), "%s of %s: %s", cases[i].set,
              cases[i].there, err.text);
        remove_folder(folder);
    }
}

static void expect_reason(const Source* s, const char* input_dir, const char* output_dir, const char* reason) {
    Error err = {""};
    CHECK(!convert_quietly(s, input_dir, output_dir, false, &err) && strstr(err.text, reason), "%s into %s: %s",
          input_dir, output_dir, err.text);
}

static void test_input_folder(void) {
    remove_outputs();
    write_file(in_folder("set.tar.gz"), "x", 1);
    expect_reason(&cifar, in_folder("set.tar.gz"), in_folder("out"), "is not a folder: unpack it");
    expect_reason(&cifar, in_folder("absent"), in_folder("out"), "cannot look into");
    // an archive beside the official files is not what is missing
    write_file(in_folder("in/set.tar.gz"), "x", 1);
    unlink(in_folder("in/b2"));
    expect_reason(&cifar, in_folder("in"), in_folder("out"), "neither b2 nor b2.gz");
    unlink(in_folder("in/set.tar.gz"));
    write_good_files(&cifar, in_folder("in"));
    CHECK(access(in_folder("out"), F_OK) != 0, "a folder was made for nothing");
}

// ---- where it is written: known before anything is read, here from a folder that is not there

static void test_output_folder(void) {
    char out[300], file[300];
    snprintf(out, sizeof out, "%s/out", test_folder);
    snprintf(file, sizeof file, "%s/plain", test_folder);
    write_file(file, "x", 1);
    remove_outputs();
    expect_reason(&cifar, "absent", file, "plain: it is not a folder");
    expect_reason(&cifar, "absent", in_folder("plain/a/b"), "plain: it is not a folder");
    expect_reason(&cifar, "absent", "", "no name for an output folder");
    if (symlink("nowhere", out) != 0) { perror(out); }
    expect_reason(&cifar, "absent", out, "out: it is not a folder");
    unlink(out);
    mkdir(out, 0777);
    mkdir(in_folder("out/small-cifar.test.kds"), 0777);
    expect_reason(&cifar, "absent", out, "is in the way");
    remove_outputs();
    expect_reason(&cifar, "absent", out, "cannot look into");
    CHECK(access(out, F_OK) != 0, "a folder was made for nothing");
}

static void test_nested_output(void) {
    Error err = {""};
    char before[512], target[300], path[300];
    struct stat status;
    remove_outputs();
    CHECK(convert_quietly(&cifar, in_folder("in"), in_folder("out/a/b/c/"), false, &err), "folders in folders: %s",
          err.text);
    check_split(&cifar, true, in_folder("out/a/b/c/small-cifar.train.kds"));
    if (!getcwd(before, sizeof before) || chdir(test_folder) != 0) { perror("the working directory"); return; }
    CHECK(convert_quietly(&cifar, "in", "out/d/e", false, &err), "a relative path: %s", err.text);
    check_split(&cifar, false, "out/d/e/small-cifar.test.kds");
    if (chdir(before) != 0) { perror(before); }
    // a link is followed
    snprintf(target, sizeof target, "%s/target.kds", test_folder);
    snprintf(path, sizeof path, "%s/out/small-cifar.train.kds", test_folder);
    write_file(target, "old", 3);
    if (symlink(target, path) != 0) { perror(path); }
    CHECK(convert_quietly(&cifar, in_folder("in"), in_folder("out"), false, &err), "a link: %s", err.text);
    CHECK(lstat(path, &status) == 0 && S_ISLNK(status.st_mode), "a link was replaced");
    check_split(&cifar, true, target);
}

// Root may write everywhere, so that a child tries it as nobody.
static void test_unwritable_output(void) {
    char locked[300];
    snprintf(locked, sizeof locked, "%s/locked", test_folder);
    mkdir(locked, 0555);
    chmod(test_folder, 0755);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        Error err = {""};
        if (geteuid() == 0 && setuid(65534) != 0) { _exit(0); }
        strcat(locked, "/a/b");
        bool refused = !convert(&(Input){&cifar, "absent", false}, locked, &err);
        _exit(refused && strstr(err.text, "locked: Permission denied") ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0, "a folder that may not be written to was not refused before the work");
}

static void test_tables(void) {
    for (int i = 0; i < SOURCES; i++) {
        const Source* s = &sources[i];
        for (int a = 0; a < s->classes; a++) {
            CHECK(s->class_names[a] && strlen(s->class_names[a]) < CLASS_NAME_BYTES, "%s: the name of class %d",
                  s->name, a);
            int same = 0;
            for (int b = 0; b < a; b++) { same += strcmp(s->class_names[a], s->class_names[b]) == 0; }
            CHECK(same == 0, "%s: the name of class %d is taken", s->name, a);
        }
        for (int f = 0; f < file_count(s); f++) {
            CHECK(s->files[f].name && (!s->files[f].md5 || strlen(s->files[f].md5) == 32), "%s: file %d", s->name, f);
        }
    }
}

int main(void) {
    open_test_folder();
    mkdir(in_folder("in"), 0777);
    const Source* const all[] = {&idx, &cifar, &coarse};
    for (int i = 0; i < 3; i++) {
        write_good_files(all[i], in_folder("in"));
        expect_converted(all[i], in_folder("in"), "good files");
        test_damaged_files(all[i]);
        test_packed_files(all[i]);
    }
    test_corrupted_files();
    test_wrong_files();
    test_hashes();
    test_folders();
    test_strays();
    test_input_folder();
    test_output_folder();
    test_nested_output();
    test_unwritable_output();
    test_tables();
    remove_test_folder();
    return tests_finish();
}
