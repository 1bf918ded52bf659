// Flowers-102 to shards, a small one in its format, made here: the images of each split with their labels, from the
// folder and from the archive alike, and what is not the official set is refused.
#include "../../data/convert_flowers102.h"
#include "../../data/image_reader.h"
#include "mat5_maker.h"
#include "set_files.h"

#ifdef HAVE_JPEG
enum { MADE = 12 };
static const double made_labels[MADE] = {77, 77, 1, 1, 102, 102, 77, 1, 102, 1, 77, 102};
static const double made_train[] = {11, 3, 5}, made_valid[] = {1, 4, 6}, made_test[] = {8, 2, 9, 7, 12};
static const ConvertOptions any = {.any_hash = 1, .quality = 90, .workers = 2};
static const ConvertOptions official = {.quality = 90, .workers = 2};
static const ConvertOptions with_valid = {.any_hash = 1, .train_with_valid = 1, .quality = 90, .workers = 2};

static JpegBuffer jpegs[MADE];
static char names[MADE][32];
static SetFile images[MADE];

// One colour, by the image's number, which its size tells as well
static int grey_of(int number) { return 17 * number; }

static void make_images(void) {
    static uint8_t pixels[3 * 40 * 60];
    for (int i = 0; i < MADE; i++) {
        Error err;
        memset(pixels, grey_of(i + 1), sizeof pixels);
        ImageView view = view_of(pixels, 3, 20 + i, 30 + 2 * i);
        CHECK(encode_jpeg(&jpegs[i], view, (JpegOptions){.quality = 95}, &err), "a JPEG is not made: %s", err.text);
        snprintf(names[i], sizeof names[i], "image_%05d.jpg", i + 1);
        images[i] = (SetFile){names[i], jpegs[i].bytes, jpegs[i].count};
    }
}

// labels: NULL, or others
static void write_mats(const char* folder, const double* labels, int count) {
    char path[128];
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "labels", MAT5_DOUBLE, MAT5_UINT8, 2, (int[]){1, count}, labels ? labels : made_labels,
                     MAT5_CAN_PACK);
    snprintf(path, sizeof path, "%s/imagelabels.mat", folder);
    write_file(in_folder(path), f.bytes, f.count);
}

static void write_sets(const char* folder, const double* train, int count) {
    char path[128];
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "trnid", MAT5_DOUBLE, 4, 2, (int[]){1, count}, train, MAT5_CAN_PACK);
    mat5_put_numbers(&f, "valid", MAT5_DOUBLE, 4, 2, (int[]){1, 3}, made_valid, MAT5_CAN_PACK);
    mat5_put_numbers(&f, "tstid", MAT5_DOUBLE, 4, 2, (int[]){1, 5}, made_test, MAT5_CAN_PACK);
    snprintf(path, sizeof path, "%s/setid.mat", folder);
    write_file(in_folder(path), f.bytes, f.count);
}

// Each image is of the class that made_labels has for its number, and all of `wanted` are there.
static void check_split(const char* split, const double* wanted, int count, const double* more, int more_count) {
    char path[128];
    Dataset d;
    Error err;
    int found[MADE + 1] = {0};
    snprintf(path, sizeof path, "out/%s.index", split);
    if (!CHECK(shards_load(&d, in_folder(path), &err), "%s", err.text)) { return; }
    CHECK(d.count == count + more_count && d.classes == FLOWER_CLASSES, "%s: %d images", split, d.count);
    Decoder* decoder = decoder_create();
    for (int i = 0; i < d.count; i++) {
        static uint8_t bytes[1 << 14], pixels[3 * 40 * 60];
        ShardRecord r = d.shards->records[i];
        int number = r.height - 19;
        Crop all = {0, 0, r.height, r.width};
        bool ok = r.bytes <= sizeof bytes && number >= 1 && number <= MADE && shard_record_read(&d, i, bytes, &err)
            && decode_box(decoder, bytes, r.bytes, all, pixels, &err);
        if (!CHECK(ok, "%s: image %d: %s", split, i, err.text)) { continue; }
        found[number]++;
        CHECK(d.labels[i] == made_labels[number - 1] - 1, "%s: image %d has label %d", split, number, d.labels[i]);
        CHECK(abs(pixels[0] - grey_of(number)) <= 2, "%s: image %d is another: %d", split, number, pixels[0]);
    }
    decoder_free(decoder);
    for (int i = 0; i < count; i++) { CHECK(found[(int)wanted[i]] == 1, "%s: no image %g", split, wanted[i]); }
    for (int i = 0; i < more_count; i++) { CHECK(found[(int)more[i]] == 1, "%s: no image %g", split, more[i]); }
    CHECK(strcmp(d.class_names[76], "passion flower") == 0 && strcmp(d.class_ids[76], "77") == 0, "%s: names", split);
    dataset_free(&d);
}

static void expect_flowers(const char* input, const ConvertOptions* options) {
    Error err = {""};
    bool valid = options->train_with_valid;
    bool ok = convert_set(convert_flowers102, "flowers102", input, options, &err);
    if (!CHECK(ok, "%s: %s", input, err.text)) { return; }
    CHECK(strstr(converter_said, valid ? "training on trnid and valid: 6 images" : "training on trnid: 3 images"),
          "it does not say which: %s", converter_said);
    check_split("train", made_train, 3, made_valid, valid ? 3 : 0);
    check_split("val", made_test, 5, NULL, 0);
}

static void flowers_refused(const char* input, const ConvertOptions* options, const char* reason) {
    expect_refused(convert_flowers102, "flowers102", input, options, reason);
}

static void test_unpacked(void) {
    Error err = {""};
    write_files("in/jpg", images, MADE);
    write_mats("in", NULL, MADE);
    write_sets("in", made_train, 3);
    expect_flowers("in", &any);
    CHECK(!convert_again(convert_flowers102, "flowers102", "in", &with_valid, &err) && strstr(err.text, "another set"),
          "another set goes over it: %s", err.text);
    expect_flowers("in", &with_valid);
    flowers_refused("in", &official, HAVE_MD5 ? "imagelabels.mat is not the official file: MD5"
                                              : "has labels of 12 images, the official one of 8189");
}

static void test_packed(void) {
    char archive[512];
    size_t counts[2];
    mkdir(in_folder("packed"), 0777);
    snprintf(archive, sizeof archive, "%s", in_folder("packed/102flowers.tgz"));
    write_archive(archive, false, "jpg", images, MADE);
    write_mats("packed", NULL, MADE);
    write_sets("packed", made_train, 3);
    if (!CAN_UNPACK) { return; }
    expect_flowers("in", &any);
    uint8_t* from_folder = read_file(in_folder("out/train-000000.tar"), &counts[0]);
    expect_flowers("packed", &any);
    uint8_t* from_archive = read_file(in_folder("out/train-000000.tar"), &counts[1]);
    CHECK(counts[0] == counts[1] && memcmp(from_folder, from_archive, counts[0]) == 0, "the shards differ");
    free(from_folder);
    free(from_archive);
    cut_file(archive, 100);
    flowers_refused("packed", &any, "102flowers.tgz cannot be unpacked");
    write_archive(archive, false, "jpg", images, MADE - 1);
    Error err = {""};
    CHECK(convert_set(convert_flowers102, "flowers102", "packed", &any, &err), "%s", err.text);
    CHECK(strstr(converter_said, "is not in 102flowers.tgz: 1"), "a missing image is not told: %s", converter_said);
    unlink(archive);
    flowers_refused("packed", &any, "102flowers.tgz is not in");
}

static void test_texts(void) {
    static const double wrong_label[] = {77, 103}, in_test[] = {11, 8}, too_large[] = {11, 13};
    write_mats("in", wrong_label, 2);
    flowers_refused("in", &any, "value 1 of 'labels' is 103, not a whole number of 1..102");
    write_mats("in", NULL, MADE);
    write_sets("in", in_test, 2);
    flowers_refused("in", &any, "image 8 of tstid is in it twice");
    write_sets("in", too_large, 2);
    flowers_refused("in", &any, "value 1 of 'trnid' is 13, not a whole number of 1..12");
    unlink(in_folder("in/setid.mat"));
    flowers_refused("in", &any, "setid.mat is not in");
    flowers_refused("absent", &any, "cannot look into");
}

int main(void) {
    open_test_folder();
    make_images();
    test_unpacked();
    test_packed();
    test_texts();
    for (int i = 0; i < MADE; i++) { free(jpegs[i].bytes); }
    remove_test_folder();
    return tests_finish();
}
#else
int main(void) {
    open_test_folder();
    const ConvertOptions any = {.any_hash = 1, .quality = 90};
    expect_refused(convert_flowers102, "flowers102", "absent", &any, "install libjpeg-dev");
    remove_test_folder();
    return tests_finish();
}
#endif
