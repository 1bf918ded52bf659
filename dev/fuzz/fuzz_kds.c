// The two files of a data set, one after the other (the second starts at the second magic; without one both are the
// same), from opening them to batches for training and evaluation.
#include "fuzz.h"
#include "../../data/loader.h"
#include "../../data/open.h"

enum { FUZZ_SIDE = 8, FUZZ_RESIZED = 1 << 20 }; // pixels: one line of a picture becomes FUZZ_SIDE of them

static size_t second_magic(const uint8_t* bytes, size_t size) {
    const size_t magic = sizeof DATASET_MAGIC - 1;
    for (size_t at = 1; at + magic <= size; at++) {
        if (memcmp(bytes + at, DATASET_MAGIC, magic) == 0) { return at; }
    }
    return size;
}

static void fuzz_batch(const Dataset* d, const LoaderConfig* config) {
    Loader loader;
    Error err;
    Resize size = resize_and_crop(d->height, d->width, config->image_size, config->crop_pct);
    if ((int64_t)size.height * size.width > FUZZ_RESIZED || !loader_open(&loader, d, config, &err)) { return; }
    const Batch* b = loader_next(&loader);
    FUZZ_CHECK(b->count >= 1 && b->count <= config->batch_size, "a batch has images, and not too many");
    for (int i = 0; i < b->count; i++) {
        FUZZ_CHECK(b->labels[i] >= 0 && b->labels[i] < d->classes, "a label is a class");
        FUZZ_CHECK(b->indices[i] >= 0 && b->indices[i] < d->count, "an image is in the data set");
    }
    for (int i = 0; i < b->count * 3 * FUZZ_SIDE * FUZZ_SIDE; i++) {
        FUZZ_CHECK(isfinite(b->images[i]), "a pixel is finite");
    }
    loader_close(&loader);
}

static void fuzz_batches(const Dataset* train, const Dataset* test) {
    LoaderConfig config = loader_defaults(train, 3, FUZZ_SIDE, true, 1);
    config.workers = 0;
    config.augment.flip = config.augment.erasing.probability = config.augment.smoothing = 0.5f;
    config.augment.mixup = config.augment.cutmix = 1;
    config.augment.crop_padding = 1;
    fuzz_batch(train, &config);
    config.augment.crop_padding = 0;
    config.augment.random_resized_crop = true;
    fuzz_batch(train, &config);
    config.train = false;
    config.crop_pct = 0.9f;
    fuzz_batch(test, &config);
}

static void fuzz_kds(const uint8_t* bytes, size_t size) {
    Dataset train, test;
    Error err = {""};
    size_t end = second_magic(bytes, size);
    open_test_folder();
    write_file(in_folder("x.train.kds"), bytes, end);
    write_file(in_folder("x.test.kds"), end < size ? bytes + end : bytes, end < size ? size - end : size);
    if (dataset_open(&train, &test, in_folder("x"), false, &err)) {
        free(dataset_class_text(&train, train.class_names));
        fuzz_batches(&train, &test);
        dataset_free(&train);
        dataset_free(&test);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    remove_test_folder();
}
FUZZ_TARGET(fuzz_kds)

#ifdef FUZZING
static void correct_checksum(uint8_t* file, size_t size) {
    if (size < sizeof(DatasetHeader)) { return; }
    uint64_t checksum = dataset_checksum(file + 16, size - 16);
    memcpy(file + 8, &checksum, sizeof checksum);
}

// The checksums are mostly corrected; otherwise the files would be refused at once.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    size = LLVMFuzzerMutate(bytes, size, room);
    if (seed % 16 == 0) { return size; }
    size_t end = second_magic(bytes, size);
    correct_checksum(bytes, end);
    correct_checksum(bytes + end, size - end);
    return size;
}
#endif
