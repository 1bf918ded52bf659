// data/dataset.h: a round trip, and each refusal with its own sentence. data/open.h: the same bytes everywhere,
// balanced classes that colour does not give away.
#undef REDUCED // every image of it
#include "../../data/open.h"
#include "test_files.h"
#include <signal.h>
#include <sys/resource.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static Dataset make_dataset(int channels) {
    Dataset d;
    Error err;
    if (!dataset_create(&d, "tiny", 7, 3, channels, 5, 4, &err)) { fail(1, "%s", err.text); }
    for (int k = 0; k < 3; k++) { snprintf(d.class_names[k], CLASS_NAME_BYTES, "class %d", k); }
    for (int i = 0; i < d.count; i++) { d.labels[i] = (uint16_t)(i % 3); }
    for (size_t k = 0; k < d.count * image_bytes(&d); k++) { d.images[k] = (uint8_t)(k * k * 7 + 13 * k); }
    dataset_measure(&d);
    return d;
}

static void test_round_trip(int channels) {
    Dataset d = make_dataset(channels), back;
    Error err;
    CHECK(dataset_save(&d, in_folder("tiny.kds"), &err), "saving: %s", err.text);
    if (!CHECK(dataset_load(&back, in_folder("tiny.kds"), &err), "loading: %s", err.text)) { return; }
    CHECK(back.count == 7 && back.classes == 3 && back.channels == channels && back.height == 5 && back.width == 4,
          "dimensions after a round trip: %d %d %d %d %d", back.count, back.classes, back.channels, back.height,
          back.width);
    CHECK(back.file_bytes == d.file_bytes && memcmp(back.file, d.file, d.file_bytes) == 0,
          "bytes changed in a round trip");
    CHECK(memcmp(back.labels, d.labels, 14) == 0 && memcmp(back.images, d.images, 7 * image_bytes(&d)) == 0,
          "contents");
    CHECK(memcmp(back.mean, d.mean, sizeof d.mean) == 0 && memcmp(back.std, d.std, sizeof d.std) == 0, "mean and std");
    CHECK(strcmp(back.name, "tiny") == 0 && strcmp(back.class_names[2], "class 2") == 0, "names");
    CHECK(back.file_bytes == 128 + 3 * 32 + 7 * 2 + 7 * (size_t)channels * 20, "file size %zu", back.file_bytes);
    dataset_free(&back);
    dataset_free(&d);
}

static void test_measure(void) {
    Dataset d = make_dataset(3);
    for (int c = 0; c < 3; c++) {
        double sum = 0, squares = 0;
        for (int i = 0; i < 140; i++) { sum += d.images[(i / 20 * 3 + c) * 20 + i % 20] / 255.0; }
        for (int i = 0; i < 140; i++) {
            squares += pow(d.images[(i / 20 * 3 + c) * 20 + i % 20] / 255.0 - sum / 140, 2);
        }
        CHECK_NEAR(d.mean[c], sum / 140, 1e-7, "mean");             // observed 2e-8
        CHECK_NEAR(d.std[c], sqrt(squares / 140), 1e-7, "std");     // observed 1e-8
    }
    dataset_free(&d);
}

// The bytes of a good file, changed and written again, must be refused with a sentence that holds `reason`.
static void expect_refusal(const uint8_t* bytes, size_t count, const char* reason, const char* what) {
    Dataset d;
    Error err = {""};
    write_file(in_folder("bad.kds"), bytes, count);
    bool loaded = dataset_load(&d, in_folder("bad.kds"), &err);
    CHECK(!loaded, "%s was loaded", what);
    CHECK(strstr(err.text, reason), "%s: the sentence does not say '%s': %s", what, reason, err.text);
    if (loaded) { dataset_free(&d); }
}

static void test_truncation_and_damage(const uint8_t* good, size_t count) {
    uint8_t* bytes = malloc(count + 1);
    memcpy(bytes, good, count);
    bytes[count] = 0;
    expect_refusal(bytes, 0, "is not a data set", "an empty file");
    expect_refusal(bytes, 8, "truncated", "a magic alone");
    expect_refusal(bytes, 127, "truncated", "half a header");
    expect_refusal(bytes, 128, "truncated", "a header alone");
    expect_refusal(bytes, count / 2, "truncated", "half a file");
    expect_refusal(bytes, count - 1, "truncated", "a file without its last byte");
    expect_refusal(bytes, count + 1, "too long", "a file with one byte more");
    for (size_t at = 64; at < count; at += 37) { // name, class names, labels, pixels
        bytes[at] ^= 0x80;
        expect_refusal(bytes, count, at == 127 ? "header" : "damaged", "a file with a flipped bit");
        bytes[at] ^= 0x80;
    }
    bytes[8] ^= 1;
    expect_refusal(bytes, count, "checksum", "a file with a changed checksum");
    free(bytes);
}

static void write_u32(uint8_t* at, uint32_t value) { memcpy(at, &value, 4); }

// Fields that a checksum does not save: the file says so itself, and its checksum agrees.
static void test_impossible_fields(const uint8_t* good, size_t count) {
    const struct { int offset; uint32_t value; const char* reason; } fields[] = {
        {0, 0, "is not a data set"}, {16, 2, "version 2"},
        {20, 0, "header is damaged"}, {20, 0xFFFFFFFF, "header is damaged"}, {20, 0x7FFFFFFF, "truncated"},
        {24, 0, "header is damaged"}, {24, 70000, "header is damaged"}, {28, 2, "header is damaged"},
        {32, 0xFFFFFFFF, "header is damaged"}, {32, 6, "truncated"}, {32, 4, "too long"}, {36, 0, "header is damaged"},
        {40, 0x7FC00000, "mean"}, {52, 0, "standard deviation"}, // the first is a NaN
        {52, 0x00800000, "standard deviation"}, // 1e-38
        {124, 0x41414141, "header is damaged"}, {128 + 28, 0x41414141, "does not end"}, {128 + 96, 3, "label 3"},
    };
    uint8_t* bytes = malloc(count);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        memcpy(bytes, good, count);
        write_u32(bytes + fields[i].offset, fields[i].value);
        uint64_t checksum = dataset_checksum(bytes + 16, count - 16);
        memcpy(bytes + 8, &checksum, 8);
        char what[64];
        snprintf(what, sizeof what, "a file with %u at offset %d", fields[i].value, fields[i].offset);
        expect_refusal(bytes, count, fields[i].reason, what);
    }
    free(bytes);
}

// What is no regular file is refused at once: a fifo is not waited for, a device not read without end.
static void test_special_files(void) {
    Dataset d;
    Error err = {""};
    const char* fifo = in_folder("fifo.kds");
    const char* const paths[] = {fifo, test_folder, "/dev/zero", "/dev/null"};
    if (mkfifo(fifo, 0600) != 0) { perror(fifo); }
    alarm(20);
    for (int i = 0; i < 4; i++) {
        CHECK(!dataset_load(&d, paths[i], &err) && strstr(err.text, "not a regular file"), "%s: %s", paths[i],
              err.text);
    }
    alarm(0);
}

static void test_refusals(void) {
    Dataset d = make_dataset(3), other;
    Error err;
    CHECK(dataset_save(&d, in_folder("good.kds"), &err), "saving: %s", err.text);
    size_t count = 0;
    uint8_t* good = read_file(in_folder("good.kds"), &count);
    test_truncation_and_damage(good, count);
    test_impossible_fields(good, count);
    free(good);

    CHECK(!dataset_load(&other, in_folder("absent.kds"), &err) && strstr(err.text, "cannot open"), "a missing file: %s",
          err.text);
    test_special_files();
    CHECK(!dataset_create(&other, "odd", 1, 1, 2, 8, 8, &err), "two channels were accepted");
    CHECK(!dataset_create(&other, "odd", -1, 1, 3, 8, 8, &err), "-1 images were accepted");
    d.labels[5] = 3;
    CHECK(!dataset_save(&d, in_folder("label.kds"), &err) && strstr(err.text, "image 5 has label 3"), "label: %s",
          err.text);
    CHECK(access(in_folder("label.kds"), F_OK) != 0, "a refused file was written");
    dataset_free(&d);
}

// A write that fails midway (here: a limit on file sizes, as a full disk would) leaves the old file as it was.
static void test_failed_write(void) {
    Dataset d = make_dataset(3), back;
    Error err = {""};
    CHECK(dataset_save(&d, in_folder("keep.kds"), &err), "saving: %s", err.text);
    int old = d.images[0];
    d.images[0] = (uint8_t)(255 - old);
    struct rlimit before, small;
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){200, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    fflush(stdout);
    setrlimit(RLIMIT_FSIZE, &small);
    bool saved = dataset_save(&d, in_folder("keep.kds"), &err);
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(!saved && strstr(err.text, "cannot write"), "a failed write was not reported: %s", err.text);
    char left_over[512];
    snprintf(left_over, sizeof left_over, "%s.tmp", in_folder("keep.kds"));
    CHECK(access(left_over, F_OK) != 0, "a failed write left %s", left_over);
    if (CHECK(dataset_load(&back, in_folder("keep.kds"), &err), "after a failed write: %s", err.text)) {
        CHECK(back.images[0] == old, "the old file changed");
        dataset_free(&back);
    }
    CHECK(!dataset_save(&d, in_folder("no/such/folder.kds"), &err) && strstr(err.text, "make its folder first"), "%s",
          err.text);
    dataset_free(&d);
}

// Share of test images whose class has the nearest mean colour.
static double accuracy_of_colour(const Dataset* train, const Dataset* test) {
    double mean[10][3] = {{0}};
    int right = 0;
    for (int pass = 0; pass < 2; pass++) {
        const Dataset* d = pass ? test : train;
        for (int i = 0; i < d->count; i++) {
            double colour[3] = {0}, nearest = 1e9;
            int guess = 0;
            for (int k = 0; k < 3 * 1024; k++) { colour[k / 1024] += d->images[(size_t)i * 3072 + k] / (255.0 * 1024); }
            for (int c = 0; c < 3 && !pass; c++) { mean[d->labels[i]][c] += colour[c] * 10 / d->count; }
            for (int k = 0; k < 10 && pass; k++) {
                double distance = 0;
                for (int c = 0; c < 3; c++) { distance += pow(colour[c] - mean[k][c], 2); }
                if (distance < nearest) { nearest = distance; guess = k; }
            }
            right += pass && guess == d->labels[i];
        }
    }
    return (double)right / test->count;
}

static void test_procedural(void) {
    Dataset train, test, again;
    Error err;
    if (!CHECK(dataset_procedural(&train, &test, &err), "%s", err.text)) { return; }
    CHECK(train.count == 8000 && test.count == 2000 && train.classes == 10 && train.channels == 3, "dimensions");
    int counts[10] = {0};
    for (int i = 0; i < test.count; i++) { counts[test.labels[i]]++; }
    for (int k = 0; k < 10; k++) { CHECK(counts[k] == 200 && train.class_names[k][0], "class %d", k); }
    // the same bytes on every machine and with every compiler: these two numbers are part of the data set's definition
    uint64_t sums[2] = {dataset_checksum(train.images, train.count * image_bytes(&train)),
                        dataset_checksum(test.images, test.count * image_bytes(&test))};
    CHECK(sums[0] == 0x7C3216E2A669439Au && sums[1] == 0x902EDF5DECB9E152u,
          "procedural images changed: 0x%016llX 0x%016llX", (unsigned long long)sums[0], (unsigned long long)sums[1]);
    CHECK(memcmp(train.mean, test.mean, sizeof train.mean) == 0, "both splits are normalised by the training split");
    char fingerprint[FINGERPRINT_SIZE];
    CHECK(strcmp(dataset_fingerprint(&train, fingerprint), "ade55aea03b418af") == 0, "fingerprint %s", fingerprint);
    CHECK_NEAR(accuracy_of_colour(&train, &test), 0.1, 0.05, "accuracy from mean colour alone"); // observed 0.1195
#ifdef _OPENMP
    omp_set_num_threads(3);
#endif
    if (CHECK(procedural_split(&again, false, &err), "%s", err.text)) {
        CHECK(memcmp(again.images, test.images, test.count * image_bytes(&test)) == 0,
              "three threads made other images");
        dataset_free(&again);
    }
    dataset_free(&train);
    dataset_free(&test);
}

// The fingerprint is the file's: of any part of the images, under any name; another pixel gives another.
static void test_fingerprint(void) {
    Dataset d = make_dataset(3), back;
    Error err;
    char first[FINGERPRINT_SIZE], again[FINGERPRINT_SIZE], changed[FINGERPRINT_SIZE];
    CHECK(dataset_save(&d, in_folder("a.kds"), &err) && dataset_save(&d, in_folder("b.kds"), &err), "%s", err.text);
    dataset_fingerprint(&d, first);
    if (CHECK(dataset_load(&back, in_folder("b.kds"), &err), "%s", err.text)) {
        back.count = 2; // as --train-images does
        CHECK(strlen(first) == 16 && strcmp(first, dataset_fingerprint(&back, again)) == 0, "%s and %s", first, again);
        dataset_free(&back);
    }
    d.images[6 * image_bytes(&d)]++;
    CHECK(dataset_save(&d, in_folder("a.kds"), &err), "%s", err.text);
    CHECK(strcmp(first, dataset_fingerprint(&d, changed)) != 0, "another pixel, the same fingerprint %s", first);

    snprintf(d.class_names[1], CLASS_NAME_BYTES, "two\nlines, one name");
    char* text = dataset_class_text(&d, d.class_names);
    CHECK(text && strcmp(text, "class 0\ntwo lines, one name\nclass 2") == 0, "class names: %s", text);
    free(text);
    dataset_free(&d);
}

static void test_open(void) {
    Dataset d = make_dataset(1), other = make_dataset(3), train, test;
    Error err;
    CHECK(dataset_save(&d, in_folder("pair.train.kds"), &err), "%s", err.text);
    CHECK(!dataset_open(&train, &test, in_folder("pair"), false, &err) && strstr(err.text, "pair.test.kds"), "half a pair: %s",
          err.text);
    CHECK(dataset_save(&d, in_folder("pair.test.kds"), &err), "%s", err.text);
    if (CHECK(dataset_open(&train, &test, in_folder("pair"), false, &err), "%s", err.text)) {
        CHECK(train.count == 7 && test.count == 7, "counts");
        dataset_free(&train);
        dataset_free(&test);
    }
    snprintf(d.class_names[2], CLASS_NAME_BYTES, "klasse 2");
    CHECK(dataset_save(&d, in_folder("pair.test.kds"), &err), "%s", err.text);
    CHECK(!dataset_open(&train, &test, in_folder("pair"), false, &err)
          && strstr(err.text, "class 2 is 'class 2' in one and 'klasse 2' in the other"), "class names: %s", err.text);
    CHECK(dataset_save(&other, in_folder("pair.test.kds"), &err), "%s", err.text);
    CHECK(!dataset_open(&train, &test, in_folder("pair"), false, &err) && strstr(err.text, "belong together"), "pair: %s",
          err.text);
    dataset_free(&d);
    dataset_free(&other);
}

// Paths that are nearly right: the right one is told.
static void test_wrong_paths(void) {
    static const struct { const char *where, *told; } cases[] = {
        {"sets/two.train.kds", "give --data %s/sets/two, without .train.kds"},
        {"sets/two.test.kds", "give --data %s/sets/two, without .test.kds"},
        {"sets", "give --data %s/sets/two"}, {"sets/", "give --data %s/sets/two"},
        {"empty", "%s/empty is a folder without a data set"}, {"absent", "cannot open %s/absent.train.kds"},
    };
    Dataset train, test, d = make_dataset(1);
    mkdir(in_folder("sets"), 0777);
    mkdir(in_folder("empty"), 0777);
    Error err = {""};
    CHECK(dataset_save(&d, in_folder("sets/two.train.kds"), &err)
          && dataset_save(&d, in_folder("sets/two.test.kds"), &err)
          && dataset_save(&d, in_folder("sets/zwei.train.kds"), &err), "%s", err.text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char told[512];
        snprintf(told, sizeof told, cases[i].told, test_folder);
        CHECK(!dataset_open(&train, &test, in_folder(cases[i].where), false, &err) && strstr(err.text, told), "%s: %s",
              cases[i].where, err.text);
    }
    dataset_free(&d);
}

int main(void) {
    open_test_folder();
    test_round_trip(1);
    test_round_trip(3);
    test_measure();
    test_refusals();
    test_failed_write();
    test_procedural();
    test_fingerprint();
    test_open();
    test_wrong_paths();
    remove_test_folder();
    return tests_finish();
}
