// Encoded data sets (data/shards.h, data/image_reader.h) and their batches: the same with any number of threads, and as
// whole images decoded, cut and resized one by one; kept images change nothing; images that cannot be read are named
// and replaced; an index or a shard that is not what it was is refused.
#include "../../data/loader.h"
#include "../../data/open.h"
#include "encoded_set.h"

enum { TRAIN = 41, VAL = 13, S = 24 };

#ifdef HAVE_JPEG
static Dataset train, val;

static void make_set(void) {
    make_encoded_split(test_folder, "train", 0, TRAIN);
    make_encoded_split(test_folder, "val", 100, VAL);
}

static void open_set(void) {
    Error err = {""};
    if (!CHECK(dataset_open(&train, &val, test_folder, false, &err), "%s", err.text)) { exit(1); }
}

static void close_set(void) {
    dataset_free(&train);
    dataset_free(&val);
}

static void open_loader(Loader* l, const Dataset* d, LoaderConfig c) {
    Error err;
    if (!loader_open(l, d, &c, &err)) { fail(1, "%s", err.text); }
}

static LoaderConfig everything_on(const Dataset* d, int workers) {
    LoaderConfig c = loader_defaults(d, 10, S, d == &train, 42);
    c.crop_pct = 0.8f;
    c.workers = workers;
    c.augment.random_resized_crop = true;
    c.augment.flip = 0.5f;
    c.augment.erasing.probability = 0.25f;
    c.augment.mixup = 0.8f;
    c.augment.cutmix = 1;
    return c;
}

// ---- batches

static uint64_t batches_checksum(const Dataset* d, LoaderConfig c, int steps) {
    Loader l;
    uint64_t sum = 0;
    open_loader(&l, d, c);
    for (int step = 0; step < steps; step++) {
        const Batch* b = loader_next(&l);
        size_t B = (size_t)b->count;
        sum = sum * 31 + dataset_checksum((const uint8_t*)b->images, B * 3 * S * S * sizeof(float));
        sum = sum * 31 + dataset_checksum((const uint8_t*)b->targets, B * ENCODED_CLASSES * sizeof(float));
        sum = sum * 31 + dataset_checksum((const uint8_t*)b->indices, B * sizeof(int));
    }
    loader_close(&l);
    return sum;
}

static void test_threads(void) {
    open_set();
    const Dataset* const splits[] = {&train, &val};
    for (int k = 0; k < 2; k++) {
        uint64_t alone = batches_checksum(splits[k], everything_on(splits[k], 0), 11);
        for (int workers = 1; workers <= 4; workers *= 2) {
            uint64_t sum = batches_checksum(splits[k], everything_on(splits[k], workers), 11);
            CHECK(sum == alone, "split %d: other batches with %d threads", k, workers);
        }
    }
    close_set();
}

// Image `image` decoded whole; to be freed
static uint8_t* decode_whole(const Dataset* d, int image) {
    Error err;
    ImageReader r = {0};
    Crop whole = {0, 0, image_height(d, image), image_width(d, image)};
    uint8_t* pixels = malloc((size_t)3 * whole.height * whole.width);
    CHECK(decode_record(&r, d, image, whole, pixels, &err), "image %d: %s", image, err.text);
    image_reader_free(&r);
    return pixels;
}

// Largest difference of one image of a batch from the same made of the whole one: cut, resized, its centre taken
static double distance_to_whole(const BatchPlan* plan, const Batch* b, int i) {
    const Dataset* d = plan->dataset;
    const ImageDraw* draw = &b->draws[i];
    Resize size = draw->resize;
    uint8_t* pixels = decode_whole(d, draw->image);
    ImageView box = view_crop(view_of(pixels, 3, image_height(d, draw->image), image_width(d, draw->image)),
                              draw->box.top, draw->box.left, draw->box.height, draw->box.width);
    uint8_t* resized = malloc((size_t)3 * size.height * size.width);
    void* scratch = malloc(resample_scratch(box.height, box.width, size.height, size.width));
    resample(resized, box, view_box(box), size.height, size.width, draw->filter, scratch);
    float* want = malloc(3 * S * S * sizeof(float));
    ImageView part = view_crop(view_of(resized, 3, size.height, size.width), size.top, size.left, S, S);
    uint8_t levels[3 * S * S];
    copy_view(levels, part);
    if (draw->mirrored) { flip_horizontally((RgbImage){levels, S, S}); }
    normalise(want, levels, S, plan->config.mean, plan->config.std);
    double worst = 0;
    for (int k = 0; k < 3 * S * S; k++) { worst = fmax(worst, fabs(want[k] - b->images[(size_t)i * 3 * S * S + k])); }
    free(want); free(scratch); free(resized); free(pixels);
    return worst;
}

static void test_pixels(void) {
    open_set();
    const Dataset* const splits[] = {&train, &val, &train};
    for (int k = 0; k < 3; k++) { // boxes; evaluation; whole images in training
        Loader l;
        LoaderConfig c = everything_on(splits[k], 2);
        c.augment.erasing.probability = c.augment.mixup = c.augment.cutmix = 0;
        c.augment.random_resized_crop = k == 0;
        open_loader(&l, splits[k], c);
        for (int64_t step = 0; step < l.plan.steps_per_epoch; step++) {
            const Batch* b = loader_next(&l);
            for (int i = 0; i < b->count; i++) {
                CHECK(b->labels[i] == splits[k]->labels[b->indices[i]], "label of image %d", b->indices[i]);
                CHECK(distance_to_whole(&l.plan, b, i) == 0, "%d: image %d is another", k, b->indices[i]);
            }
        }
        loader_close(&l);
    }
    close_set();
}

static void test_kept(void) {
    Error err;
    open_set();
    uint64_t want = batches_checksum(&train, everything_on(&train, 0), 9);
    for (int64_t room = 0; room <= 1 << 20; room = room ? room << 4 : 1 << 12) {
        int64_t left = room, kept = 0;
        close_set();
        open_set();
        CHECK(shards_keep(&train, &left, &err), "%s", err.text);
        CHECK(batches_checksum(&train, everything_on(&train, 4), 9) == want, "%d bytes to keep images in change them",
              (int)room);
        for (int i = 0; i < train.count; i++) {
            kept += train.shards->kept[i] ? 3 * image_height(&train, i) * image_width(&train, i) : 0;
        }
        CHECK(kept + left == room && left >= 0, "%d of %d bytes kept, %d left", (int)kept, (int)room, (int)left);
        CHECK(room < 1 << 20 || kept > 50000, "only %d bytes are kept", (int)kept);
    }
    close_set();
}

// ---- what cannot be read

static void damage(const Dataset* d, int image, int at) {
    ShardRecord r = d->shards->records[image];
    char path[PATH_MAX];
    Error err;
    CHECK(shard_path(path, d->shards, r.shard, &err), "%s", err.text);
    FILE* f = fopen(path, "r+b");
    fseek(f, (long)r.offset + at, SEEK_SET);
    fwrite("damaged", 1, 7, f);
    fclose(f);
}

// What loader_next says goes to a file, until this is given what it returned
static int divert_output(void) {
    fflush(stdout);
    int terminal = dup(STDOUT_FILENO), file = open(in_folder("said"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDOUT_FILENO);
    close(file);
    return terminal;
}
static char* end_diversion(int terminal) {
    size_t count = 0;
    fflush(stdout);
    dup2(terminal, STDOUT_FILENO);
    close(terminal);
    char* text = (char*)read_file(in_folder("said"), &count);
    text[count] = 0;
    return text;
}

static void test_bad_records(void) {
    make_set();
    open_set();
    damage(&val, 3, 0);
    damage(&val, 4, 0);
    damage(&val, VAL - 1, 0); // the first comes in its place
    for (int workers = 0; workers <= 4; workers += 2) {
        Loader l;
        LoaderConfig c = everything_on(&val, workers);
        close_set();
        open_set();
        open_loader(&l, &val, c);
        int terminal = divert_output();
        const Batch* b = loader_next(&l);
        char* said = end_diversion(terminal);
        CHECK(strstr(said, "val-000000.tar: record 3 is") && strstr(said, "the next image takes its place"), "says: %s",
              said);
        free(said);
        CHECK(b->indices[3] == 5 && b->indices[4] == 5 && b->indices[5] == 5, "images %d, %d, %d", b->indices[3],
              b->indices[4], b->indices[5]);
        CHECK(b->labels[3] == val.labels[5], "label %d of image 5", b->labels[3]);
        CHECK(memcmp(b->images + 3 * 3 * S * S, b->images + 5 * 3 * S * S, 3 * S * S * sizeof(float)) == 0,
              "its pixels");
        terminal = divert_output();
        b = loader_next(&l);
        free(end_diversion(terminal));
        CHECK(b->count == 3 && b->indices[2] == 0, "the last batch ends with image %d", b->indices[2]);
        b = loader_next(&l);
        CHECK(l.bad == 3, "%d images are bad", l.bad);
        loader_close(&l);
    }
    close_set();
    make_set();
}

#ifdef HAVE_ZLIB
static void test_checksum_of_record(void) {
    open_set();
    int image = 7;
    damage(&train, image, (int)train.shards->records[image].bytes - 40); // the JPEG can still be decoded
    Error err = {""};
    ImageReader r = {0};
    uint8_t pixel[3];
    bool read = decode_record(&r, &train, image, (Crop){0, 0, 1, 1}, pixel, &err);
    CHECK(!read && strstr(err.text, "crc32"), "a changed record: %s", err.text);
    image_reader_free(&r);
    close_set();
    make_set();
}
#endif

// ---- refusals

static void expect_refusal(const char* what, const char* sentence) {
    Error err = {""};
    CHECK(!dataset_open(&train, &val, test_folder, false, &err), "%s is accepted", what);
    CHECK(strstr(err.text, sentence), "%s: %s", what, err.text);
}

static void label_beyond(uint8_t* index) { shard_index_records(index)[5].label = ENCODED_CLASSES; }
static void record_beyond(uint8_t* index) { shard_index_records(index)[5].bytes = UINT32_MAX; }
static void no_width(uint8_t* index) { shard_index_records(index)[5].width = 0; }
static void shard_beyond(uint8_t* index) { shard_index_records(index)[5].shard = ENCODED_SHARDS; }
static void elsewhere(uint8_t* index) { strcpy(shard_index_files(index)[0].name, "../x"); }
static void other_class(uint8_t* index) { strcpy(shard_index_class_names(index)[1], "another"); }
static void nan_mean(uint8_t* index) { ((ShardIndexHeader*)index)->mean[1] = NAN; }

static void test_index_refusals(void) {
    static void (*const changes[])(uint8_t*) = {label_beyond, record_beyond, no_width, shard_beyond, elsewhere, nan_mean};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        make_set();
        change_index(in_folder("val.index"), changes[i]);
        expect_refusal("an index with impossible values", "is damaged");
    }
    make_set();
    change_index(in_folder("val.index"), other_class);
    expect_refusal("another class", "class 1 is");
    make_set();
    size_t count = 0;
    uint8_t* index = read_file(in_folder("train.index"), &count);
    write_file(in_folder("train.index"), index, count - 1);
    expect_refusal("a truncated index", "truncated");
    write_file(in_folder("train.index"), index, 100);
    expect_refusal("100 bytes of an index", "damaged");
    index[count - 1] ^= 1;
    write_file(in_folder("train.index"), index, count);
    expect_refusal("a changed index", "is damaged");
    write_file(in_folder("train.index"), "something else", 14);
    expect_refusal("another file", "is not an index");
    free(index);
}

static void test_shard_refusals(void) {
    make_set();
    CHECK(truncate(in_folder("val-000001.tar"), 1000) == 0, "cannot truncate");
    expect_refusal("a truncated shard", "is not the file that the index was made of");
    make_set();
    unlink(in_folder("val-000001.tar"));
    expect_refusal("a lost shard", "cannot open");
    unlink(in_folder("val.index"));
    expect_refusal("a lost index", "val.index");
    make_set();
    open_set();
    Loader l;
    Error err;
    LoaderConfig c = loader_defaults(&train, 4, S, true, 1);
    c.augment.crop_padding = 2;
    CHECK(!loader_open(&l, &train, &c, &err) && strstr(err.text, "of one size"), "a padded crop: %s", err.text);
    close_set();
}
#endif

int main(void) {
#ifdef HAVE_JPEG
    open_test_folder();
    make_set();
    test_threads();
    test_pixels();
    test_kept();
    test_bad_records();
#ifdef HAVE_ZLIB
    test_checksum_of_record();
#endif
    test_index_refusals();
    test_shard_refusals();
    remove_test_folder();
#else
    printf("SKIPPED, not passed: encoded data sets (built without libjpeg)\n");
#endif
    return tests_finish();
}
