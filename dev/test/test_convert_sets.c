// SVHN, STL-10 and Tiny ImageNet, small ones in their formats, made here: pixels and labels come out right, from
// folders and archives alike, and what is not the official set, or is damaged, is refused with a sentence and without
// writing anything.
#include "../../data/convert_stl10.h"
#include "../../data/convert_svhn.h"
#include "../../data/convert_tiny_imagenet.h"
#include "mat5_maker.h"
#include "set_files.h"

// A value that no transposition, exchange of channels or of images leaves as it is
static uint8_t pixel_of(int split, int image, int c, int y, int x) {
    return (uint8_t)(split * 101 + image * 37 + c * 83 + y * 5 + x * 2 + y * x / 7);
}

static const ConvertOptions any = {.any_hash = 1}, official = {0};

static bool load_split(Dataset* d, const char* name, const char* split) {
    char path[128];
    Error err;
    snprintf(path, sizeof path, "out/%s.%s.kds", name, split);
    return CHECK(dataset_load(d, in_folder(path), &err), "%s", err.text);
}

// Images `first`.. of d are those that pixel_of knows as split's 0..
static int wrong_pixels(const Dataset* d, int first, int count, int split) {
    int wrong = 0;
    for (int i = 0; i < count; i++) {
        const uint8_t* p = d->images + (size_t)(first + i) * image_bytes(d);
        for (int k = 0; k < (int)image_bytes(d); k++) {
            int plane = d->height * d->width;
            wrong += p[k] != pixel_of(split, i, k / plane, k % plane / d->width, k % d->width);
        }
    }
    return wrong;
}

// ---- SVHN

static const int svhn_made[SVHN_PARTS] = {7, 5, 4};
static int svhn_label(int part, int image) { return (image * 3 + part) % 10 + 1; }

static void write_svhn(int part, int last_label, bool packed) {
    int count = svhn_made[part];
    double* x = malloc((size_t)count * SVHN_IMAGE * sizeof *x), y[8];
    char path[64];
    for (size_t k = 0; k < (size_t)count * SVHN_IMAGE; k++) { // the row runs fastest
        x[k] = pixel_of(part, (int)(k / SVHN_IMAGE), (int)(k / 1024 % 3), (int)(k % 32), (int)(k / 32 % 32));
    }
    for (int i = 0; i < count; i++) { y[i] = svhn_label(part, i); }
    y[count - 1] = last_label ? last_label : y[count - 1];
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "X", MAT5_CLASS_UINT8, MAT5_UINT8, 4, (int[]){32, 32, 3, count}, x, packed);
    int class = part == SVHN_EXTRA ? MAT5_DOUBLE : MAT5_CLASS_UINT8;
    mat5_put_numbers(&f, "y", class, MAT5_UINT8, 2, (int[]){count, 1}, y, packed);
    snprintf(path, sizeof path, "svhn/%s", svhn_files[part].file.name);
    write_file(in_folder(path), f.bytes, f.count);
    free(x);
}

static void check_svhn_part(const Dataset* d, int first, int part) {
    int wrong = wrong_pixels(d, first, svhn_made[part], part);
    CHECK(wrong == 0, "SVHN's part %d: %d pixels are wrong", part, wrong);
    for (int i = 0; i < svhn_made[part]; i++) {
        int label = d->labels[first + i];
        CHECK(label == svhn_label(part, i) % 10, "SVHN's part %d: label %d is %d", part, i, label);
    }
}

static void expect_svhn(bool extra) {
    Error err = {""};
    Dataset train, test;
    const char* name = extra ? "svhn-extra" : "svhn";
    ConvertOptions options = {.any_hash = 1, .extra = extra};
    if (!CHECK(convert_set(convert_svhn, "svhn", "svhn", &options, &err), "%s: %s", name, err.text)) { return; }
    if (!load_split(&train, name, "train")) { return; }
    if (load_split(&test, name, "test")) {
        CHECK(train.count == (extra ? 11 : 7) && test.count == 5 && train.classes == 10, "%s: sizes", name);
        check_svhn_part(&train, 0, SVHN_TRAIN);
        if (extra) { check_svhn_part(&train, 7, SVHN_EXTRA); }
        check_svhn_part(&test, 0, SVHN_TEST);
        CHECK(strcmp(train.class_names[0], "0") == 0 && strcmp(test.class_names[9], "9") == 0, "%s: names", name);
        dataset_free(&test);
    }
    dataset_free(&train);
}

static void svhn_refused(const char* input, const ConvertOptions* options, const char* reason) {
    expect_refused(convert_svhn, "svhn", input, options, reason);
}

static void expect_svhn_refused(const Mat5Maker* f, const char* reason) {
    write_file(in_folder("svhn/test_32x32.mat"), f->bytes, f->count);
    svhn_refused("svhn", &any, reason);
}

static void test_svhn(void) {
    static const double zeros[2 * SVHN_IMAGE];
    mkdir(in_folder("svhn"), 0777);
    for (int part = 0; part < SVHN_PARTS; part++) { write_svhn(part, 0, MAT5_CAN_PACK); }
    expect_svhn(false);
    expect_svhn(true);
    for (int part = 0; part < SVHN_PARTS; part++) { write_svhn(part, 0, false); }
    expect_svhn(true);
    svhn_refused("svhn", &official, "truncated: the official train_32x32.mat has 182040794 bytes");
    write_svhn(SVHN_TEST, 11, false);
    svhn_refused("svhn", &any, "value 4 of 'y' is 11, not a whole number of 1..10");
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "X", MAT5_CLASS_UINT8, MAT5_UINT8, 4, (int[]){32, 32, 3, 2}, zeros, false);
    Mat5Maker only = f;
    mat5_put_numbers(&f, "y", MAT5_CLASS_UINT8, MAT5_UINT8, 2, (int[]){1, 1}, (double[]){1}, false);
    expect_svhn_refused(&f, "2 images, but 1 labels");
    only.bytes = f.bytes;
    expect_svhn_refused(&only, "no variable 'y'");
    f.count -= 64;
    expect_svhn_refused(&f, "truncated");
    f = mat5_made();
    mat5_put_numbers(&f, "X", MAT5_CLASS_UINT8, MAT5_UINT8, 4, (int[]){32, 3, 32, 1}, zeros, false);
    mat5_put_numbers(&f, "y", MAT5_CLASS_UINT8, MAT5_UINT8, 2, (int[]){1, 1}, (double[]){1}, false);
    expect_svhn_refused(&f, "X is not 32 x 32 x 3 x N");
    f = mat5_made();
    mat5_put_numbers(&f, "X", MAT5_DOUBLE, 9, 4, (int[]){32, 32, 3, 1}, zeros, false);
    mat5_put_numbers(&f, "y", MAT5_CLASS_UINT8, MAT5_UINT8, 2, (int[]){1, 1}, (double[]){1}, false);
    expect_svhn_refused(&f, "of uint8");
    unlink(in_folder("svhn/test_32x32.mat"));
    svhn_refused("svhn", &any, "test_32x32.mat is not in ");
    svhn_refused("absent", &any, "cannot look into");
    svhn_refused("svhn/train_32x32.mat", &any, "it is not a folder");
}

// ---- STL-10

enum { STL10_MADE_TRAIN = 4, STL10_MADE_TEST = 3 };
static uint8_t stl10_bytes[2][4 * STL10_IMAGE], stl10_labels[2][4];
static SetFile stl10_made[5] = {
    {"test_X.bin", stl10_bytes[1], STL10_MADE_TEST * STL10_IMAGE}, {"test_y.bin", stl10_labels[1], STL10_MADE_TEST},
    {"train_X.bin", stl10_bytes[0], STL10_MADE_TRAIN * STL10_IMAGE}, {"train_y.bin", stl10_labels[0], STL10_MADE_TRAIN},
    {"unlabeled_X.bin", stl10_bytes[0], 100},
};

static void make_stl10(void) {
    for (int split = 0; split < 2; split++) {
        for (int k = 0; k < 4 * STL10_IMAGE; k++) { // the row runs fastest
            stl10_bytes[split][k] = pixel_of(split, k / STL10_IMAGE, k / 9216 % 3, k % 96, k / 96 % 96);
        }
        for (int i = 0; i < 4; i++) { stl10_labels[split][i] = (uint8_t)(split ? 10 - i : 1 + 2 * i); }
    }
}

static void expect_stl10(const char* input) {
    Error err = {""};
    Dataset train, test;
    if (!CHECK(convert_set(convert_stl10, "stl10", input, &any, &err), "%s: %s", input, err.text)) { return; }
    if (!load_split(&train, "stl10", "train")) { return; }
    if (load_split(&test, "stl10", "test")) {
        CHECK(train.count == 4 && test.count == 3 && train.classes == 10 && train.height == 96, "%s: sizes", input);
        CHECK(wrong_pixels(&train, 0, 4, 0) + wrong_pixels(&test, 0, 3, 1) == 0, "%s: pixels are wrong", input);
        CHECK(train.labels[0] == 0 && train.labels[3] == 6, "%s: labels of train", input);
        CHECK(test.labels[0] == 9 && test.labels[2] == 7, "%s: labels of test", input);
        CHECK(strcmp(train.class_names[7], "monkey") == 0, "%s: names", input);
        dataset_free(&test);
    }
    dataset_free(&train);
}

static void stl10_refused(const char* input, const ConvertOptions* options, const char* reason) {
    expect_refused(convert_stl10, "stl10", input, options, reason);
}

static void test_stl10(void) {
    make_stl10();
    mkdir(in_folder("packed"), 0777);
    write_files("stl10", stl10_made, 5);
    write_files("outer/stl10_binary", stl10_made, 5);
    expect_stl10("stl10");
    expect_stl10("outer");
    char archive[512];
    snprintf(archive, sizeof archive, "%s", in_folder("packed/stl10_binary.tar.gz"));
    write_archive(archive, false, "stl10_binary", stl10_made, 5);
    if (CAN_UNPACK) {
        expect_stl10("packed");
        expect_stl10("packed/stl10_binary.tar.gz");
        cut_file(archive, 2000);
        stl10_refused("packed", &any, "cannot be unpacked");
        write_archive(archive, false, "stl10_binary", stl10_made + 1, 4);
        stl10_refused("packed", &any, "stl10_binary.tar.gz has no test_X.bin");
        write_file(archive, "x", 1);
        stl10_refused("packed", &any, "cannot be unpacked");
    } else {
        stl10_refused("packed", &any, "install libarchive-dev");
    }
    stl10_refused("stl10", &official, "truncated: the official test_X.bin has 221184000 bytes");
    stl10_refused("svhn", &any, "neither stl10_binary.tar.gz nor the folder stl10_binary");
    cut_file(in_folder("stl10/train_X.bin"), 1);
    stl10_refused("stl10", &any, "bytes, which are not the 4 images of train_y.bin");
    write_file(in_folder("outer/stl10_binary/test_y.bin"), "\1\2\13", 3);
    stl10_refused("outer", &any, "test_y.bin: image 2 has label 11");
    write_file(in_folder("outer/stl10_binary/test_y.bin"), "\1\0\3", 3);
    stl10_refused("outer", &any, "test_y.bin: image 1 has label 0");
    write_file(in_folder("outer/stl10_binary/test_y.bin"), "", 0);
    stl10_refused("outer", &any, "which are not the 0 images");
    unlink(in_folder("outer/stl10_binary/test_y.bin"));
    stl10_refused("outer", &any, "has no test_y.bin");
}

// ---- Tiny ImageNet

#ifdef HAVE_JPEG
enum { TINY_MADE_TRAIN = 6, TINY_MADE_VAL = 3, TINY_MADE = TINY_MADE_TRAIN + TINY_MADE_VAL };
static const char* const tiny_names[TINY_MADE] = { // in order of class and name
    "train/n01443537/images/n01443537_0.JPEG", "train/n01443537/images/n01443537_10.JPEG",
    "train/n01443537/images/n01443537_2.JPEG", "train/n02124075/images/n02124075_0.JPEG",
    "train/n02124075/images/n02124075_1.JPEG", "train/n12267677/images/n12267677_7.JPEG",
    "val/images/val_0.JPEG", "val/images/val_1.JPEG", "val/images/val_10.JPEG",
};
static const int tiny_labels[TINY_MADE] = {0, 0, 0, 1, 1, 2, 2, 0, 1};
static const char tiny_wnids[] = "n12267677\r\nn01443537\nn02124075\n";
static const char tiny_words[] = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\n"
                                 "n02124075\ta cat whose name is longer than there is room for, cat\n";
static const char tiny_annotations[] = "val_0.JPEG\tn12267677\t0\t32\t44\t62\nval_1.JPEG\tn01443537\t52\t55\t57\t59\n"
                                       "val_10.JPEG\tn02124075\t4\t0\t60\t55\n";

// Smooth, so that a JPEG keeps it; grey where the image's number is 4
static uint8_t tiny_value(int image, int c, int y, int x) {
    c = image == 4 ? 0 : c;
    return (uint8_t)(60 + 9 * image + 40 * c + y / 2 + (c == 1 ? 0 : x / 4));
}

static JpegBuffer make_jpeg(int image, int side) {
    uint8_t pixels[3 * 72 * 72];
    JpegBuffer jpeg = {0};
    Error err;
    int channels = image == 4 ? 1 : 3;
    for (int k = 0; k < channels * side * side; k++) {
        pixels[k] = tiny_value(image, k / (side * side), k / side % side, k % side);
    }
    JpegOptions options = {.quality = 97};
    CHECK(encode_jpeg(&jpeg, view_of(pixels, channels, side, side), options, &err), "a JPEG is not made: %s", err.text);
    return jpeg;
}

static JpegBuffer tiny_jpegs[TINY_MADE];
static SetFile tiny_made[TINY_MADE + 4];

static SetFile text_file(const char* name, const char* text) {
    return (SetFile){name, (const uint8_t*)text, strlen(text)};
}

static void make_tiny(void) {
    for (int i = 0; i < TINY_MADE; i++) {
        tiny_jpegs[i] = make_jpeg(i, TINY_SIDE);
        tiny_made[i] = (SetFile){tiny_names[i], tiny_jpegs[i].bytes, tiny_jpegs[i].count};
    }
    tiny_made[TINY_MADE] = text_file("wnids.txt", tiny_wnids);
    tiny_made[TINY_MADE + 1] = text_file("words.txt", tiny_words);
    tiny_made[TINY_MADE + 2] = text_file("val/val_annotations.txt", tiny_annotations);
    tiny_made[TINY_MADE + 3] = text_file("test/images/test_0.JPEG", "x");
}

static void check_tiny_image(const Dataset* d, int at, int image) {
    const uint8_t* p = d->images + (size_t)at * TINY_IMAGE;
    int worst = 0;
    for (int k = 0; k < TINY_IMAGE; k++) {
        int off = abs(p[k] - tiny_value(image, k / 4096, k / 64 % 64, k % 64));
        worst = off > worst ? off : worst;
    }
    CHECK(worst <= 6, "%s: pixels are off by %d", tiny_names[image], worst);
    CHECK(d->labels[at] == tiny_labels[image], "%s: label %d", tiny_names[image], d->labels[at]);
}

static void expect_tiny(const char* input) {
    Error err = {""};
    Dataset train, val;
    bool ok = convert_set(convert_tiny_imagenet, "tiny-imagenet", input, &any, &err);
    if (!CHECK(ok, "%s: %s", input, err.text) || !load_split(&train, "tiny-imagenet", "train")) { return; }
    if (load_split(&val, "tiny-imagenet", "test")) {
        CHECK(train.count == TINY_MADE_TRAIN && val.count == TINY_MADE_VAL && val.classes == 3, "%s: sizes", input);
        for (int i = 0; i < TINY_MADE_TRAIN; i++) { check_tiny_image(&train, i, i); }
        for (int i = 0; i < TINY_MADE_VAL; i++) { check_tiny_image(&val, i, TINY_MADE_TRAIN + i); }
        const char *first = train.class_names[0], *second = train.class_names[1], *third = train.class_names[2];
        CHECK(strcmp(first, "goldfish") == 0 && strcmp(second, "a cat whose name is longer than") == 0
              && strcmp(third, "n12267677") == 0, "%s: '%s', '%s', '%s'", input, first, second, third);
        dataset_free(&val);
    }
    dataset_free(&train);
}

static void tiny_refused(const char* input, const ConvertOptions* options, const char* reason) {
    expect_refused(convert_tiny_imagenet, "tiny-imagenet", input, options, reason);
}

// With one file of the folder changed, or one more
static void tiny_refused_with(SetFile file, const char* reason) {
    char path[256];
    write_files("tiny", tiny_made, TINY_MADE + 4);
    write_files("tiny", &file, 1);
    tiny_refused("tiny", &any, reason);
    snprintf(path, sizeof path, "tiny/%s", file.name);
    unlink(in_folder(path));
}

static void test_tiny_images(void) {
    JpegBuffer large = make_jpeg(0, 72);
    const char* name = "val/images/val_1.JPEG";
    tiny_refused_with((SetFile){name, large.bytes, large.count}, "val_1.JPEG has 72 x 72 pixels instead of 64 x 64");
    tiny_refused_with((SetFile){name, tiny_jpegs[0].bytes, tiny_jpegs[0].count / 2}, "val_1.JPEG is truncated");
    tiny_refused_with(text_file(name, "x"), "val_1.JPEG");
    tiny_refused_with(text_file(name, ""), "val_1.JPEG");
    tiny_refused_with(text_file("val/images/val_2.JPEG", "x"), "does not name val/images/val_2.JPEG");
    free(large.bytes);
}

static void test_tiny_texts(void) {
    const char* name = "val/val_annotations.txt";
    tiny_refused_with(text_file(name, "val_7.JPEG\tn12267677\n"), "'val_7.JPEG?n12267677', which names no image");
    tiny_refused_with(text_file(name, "val_1.JPEG\tn1226767\n"), "which names no image and class");
    tiny_refused_with(text_file(name, "val_1.JPEG\tn12267677\n"), "does not name val/images/val_0.JPEG");
    tiny_refused_with(text_file("wnids.txt", "n12267677\nn01443537\n"), "of a class that wnids.txt does not have");
    tiny_refused_with(text_file("wnids.txt", "n12267677\nn12267677\n"), "has n12267677 twice");
    tiny_refused_with(text_file("wnids.txt", "goldfish\n"), "'goldfish', which is no WordNet id");
    tiny_refused_with(text_file("wnids.txt", "\n\n"), "names 0 classes");
    write_files("tiny", tiny_made, TINY_MADE + 4);
    unlink(in_folder("tiny/words.txt"));
    tiny_refused("tiny", &any, "has no words.txt");
}

static void test_tiny(void) {
    make_tiny();
    write_files("tiny", tiny_made, TINY_MADE + 4);
    write_files("above/tiny-imagenet-200", tiny_made, TINY_MADE + 4);
    expect_tiny("tiny");
    expect_tiny("above");
    char archive[512];
    mkdir(in_folder("zip"), 0777);
    snprintf(archive, sizeof archive, "%s", in_folder("zip/tiny-imagenet-200.zip"));
    write_archive(archive, true, "tiny-imagenet-200", tiny_made, TINY_MADE + 4);
    if (CAN_UNPACK) {
        expect_tiny("zip");
        tiny_refused("zip", &official, "truncated: the official tiny-imagenet-200.zip");
        cut_file(archive, 3000);
        tiny_refused("zip", &any, "fetch");
    } else {
        tiny_refused("zip", &any, "install libarchive-dev");
    }
    tiny_refused("tiny", &official, "has 3 classes, 6 images in train and 3 in val, where Tiny ImageNet has 200, "
                 "100000 and 10000");
    test_tiny_images();
    test_tiny_texts();
    for (int i = 0; i < TINY_MADE; i++) { free(tiny_jpegs[i].bytes); }
}
#else
static void test_tiny(void) {}
#endif

int main(void) {
    open_test_folder();
    test_svhn();
    test_stl10();
    test_tiny();
    remove_test_folder();
    return tests_finish();
}
