// ./convert_data imagenet on small sets in every shape in which people have ImageNet: the same images give the same
// shards from all of them, and what is wrong with them is told before the work.
#include "../../data/convert_imagenet.h"
#include "convert_test.h"
#include "mat5_maker.h"
#include "tar_maker.h"

#ifndef HAVE_JPEG
int main(void) { return tests_finish(); } // test_convert_folder.c sees what is said
#else

enum { CLASSES = 10, TRAIN = 3, VAL = 25 }; // images a class, and in all

static char right[256]; // the set that the archives give

// Ids ascend with k, the kit's numbers descend, and a class without images stands between.
static const char* wnid_of(int k) {
    static char texts[4][16];
    static int next;
    char* text = texts[next++ % 4];
    snprintf(text, 16, "n%08d", 1000 + 37 * k);
    return text;
}
static int kit_number(int k) { return CLASSES - k; }
static int val_class(int number) { return number * 7 % CLASSES; }
static int val_image(int number) { return 100 + number; } // which picture

static const char* lemmas_of(int k) {
    static char text[64];
    snprintf(text, sizeof text, "word %d, other word", k);
    return text;
}

static const char* in_set(const char* set, const char* name) {
    static char paths[4][600];
    static int next;
    char* path = paths[next++ % 4];
    snprintf(path, 600, "%.200s/%.60s%s%s", test_folder, set, *name ? "/" : "", name);
    return path;
}

// ---- the shapes

static TarMaker class_tar(int k) {
    TarMaker t = {0};
    char name[64];
    for (int i = 0; i < TRAIN; i++) {
        size_t count;
        uint8_t* bytes = numbered_jpeg(k * TRAIN + i, &count);
        snprintf(name, sizeof name, "%s_%d.JPEG", wnid_of(k), 10 + i);
        tar_put_member(&t, name, '0', bytes, count);
        free(bytes);
    }
    tar_put_end(&t);
    return t;
}

static void put_train_tar(const char* set) {
    TarMaker all = {0};
    char name[32];
    for (int i = 0; i < CLASSES; i++) { // not in their order
        int k = i * 3 % CLASSES;
        TarMaker t = class_tar(k);
        snprintf(name, sizeof name, "%s.tar", wnid_of(k));
        tar_put_member(&all, name, '0', t.bytes, t.count);
        tar_drop(&t);
    }
    tar_put_end(&all);
    put_file(all.bytes, all.count, "%s", in_set(set, "ILSVRC2012_img_train.tar"));
    tar_drop(&all);
}

static void put_class_tars(const char* set) {
    for (int k = 0; k < CLASSES; k++) {
        TarMaker t = class_tar(k);
        put_file(t.bytes, t.count, "%s/train/%s.tar", in_set(set, ""), wnid_of(k));
        tar_drop(&t);
    }
}

static void put_train_folders(const char* set, const char* below) {
    char name[128];
    for (int i = 0; i < CLASSES * TRAIN; i++) {
        snprintf(name, sizeof name, "%strain/%s/%s_%d.JPEG", below, wnid_of(i / TRAIN), wnid_of(i / TRAIN),
                 10 + i % TRAIN);
        put_jpeg(in_set(set, ""), name, i);
    }
}

static void put_val_tar(const char* set) {
    TarMaker t = {0};
    char name[64];
    for (int i = 0; i < VAL; i++) { // not in their order
        int number = 1 + i * 7 % VAL;
        size_t count;
        uint8_t* bytes = numbered_jpeg(val_image(number), &count);
        snprintf(name, sizeof name, "ILSVRC2012_val_%08d.JPEG", number);
        tar_put_member(&t, name, '0', bytes, count);
        free(bytes);
    }
    tar_put_end(&t);
    put_file(t.bytes, t.count, "%s", in_set(set, "ILSVRC2012_img_val.tar"));
    tar_drop(&t);
}

static void put_val_folder(const char* set, const char* below, bool in_classes) {
    char name[128];
    for (int number = 1; number <= VAL; number++) {
        const char* class = in_classes ? wnid_of(val_class(number)) : "";
        snprintf(name, sizeof name, "%sval/%s%sILSVRC2012_val_%08d.JPEG", below, class, *class ? "/" : "", number);
        put_jpeg(in_set(set, ""), name, val_image(number));
    }
}

static Mat5Maker made_meta(void) {
    Mat5Maker cells = {0}, f = mat5_made();
    for (int k = CLASSES - 1; k >= 0; k--) { mat5_put_synset(&cells, kit_number(k), wnid_of(k), lemmas_of(k), 0); }
    mat5_put_synset(&cells, CLASSES + 1, "n09999999", "all of them", 2);
    mat5_put_structs(&f, "synsets", CLASSES + 1, mat5_synset_fields, &cells, MAT5_CAN_PACK);
    return f;
}

static size_t made_truth(char* text) {
    size_t at = 0;
    for (int number = 1; number <= VAL; number++) {
        at += (size_t)sprintf(text + at, "%d\n", kit_number(val_class(number)));
    }
    return at;
}

static void put_kit(const char* set) {
    char truth[8 * VAL];
    size_t count = made_truth(truth);
    Mat5Maker meta = made_meta();
    put_file(meta.bytes, meta.count, "%s", in_set(set, DEVKIT "/data/meta.mat"));
    put_file(truth, count, "%s", in_set(set, DEVKIT "/data/ILSVRC2012_validation_ground_truth.txt"));
}

#if defined(HAVE_ARCHIVE) && defined(HAVE_ZLIB)
static void put_packed_kit(const char* set, bool with_truth) {
    char truth[8 * VAL];
    size_t count = made_truth(truth);
    Mat5Maker meta = made_meta();
    TarMaker t = {0};
    tar_put_member(&t, DEVKIT "/", '5', "", 0);
    tar_put_member(&t, DEVKIT "/readme.txt", '0', "text", 4);
    tar_put_member(&t, DEVKIT "/data/meta.mat", '0', meta.bytes, meta.count);
    if (with_truth) { tar_put_member(&t, DEVKIT "/data/ILSVRC2012_validation_ground_truth.txt", '0', truth, count); }
    tar_put_end(&t);
    gzFile f = gzopen(in_set(set, DEVKIT ".tar.gz"), "wb");
    CHECK(f && gzwrite(f, t.bytes, (unsigned)t.count) > 0 && gzclose(f) == Z_OK, "a packed kit");
    tar_drop(&t);
}
#endif

static void put_kaggle_texts(const char* set) {
    char text[80 * VAL];
    size_t at = 0;
    for (int k = 0; k < CLASSES; k++) { at += (size_t)sprintf(text + at, "%s %s\n", wnid_of(k), lemmas_of(k)); }
    put_file(text, at, "%s", in_set(set, "LOC_synset_mapping.txt"));
    at = (size_t)sprintf(text, "ImageId,PredictionString\r\n");
    for (int i = 0; i < VAL; i++) {
        int number = 1 + i * 4 % VAL;
        at += (size_t)sprintf(text + at, "ILSVRC2012_val_%08d,%s 85 1 499 272 \r\n", number,
                              wnid_of(val_class(number)));
    }
    put_file(text, at, "%s", in_set(set, "LOC_val_solution.csv"));
}

static void put_wnid_list(const char* set) {
    char text[16 * VAL];
    size_t at = 0;
    for (int number = 1; number <= VAL; number++) {
        at += (size_t)sprintf(text + at, "%s\n", wnid_of(val_class(number)));
    }
    put_file("not this one\n", 13, "%s", in_set(set, "a.txt"));
    put_file(text, at, "%s", in_set(set, "labels.txt"));
}

// ---- they give the same

static bool run_imagenet(const char* set, const char* output, bool any_hash) {
    ConvertOptions o = convert_defaults();
    o.any_hash = any_hash;
    return run_convert(convert_imagenet, "imagenet", in_set(set, ""), output, &o);
}

static void expect_same(const char* set, const char* what) {
    char output[256];
    snprintf(output, sizeof output, "%.180s/%s.out", test_folder, set);
    CHECK(run_imagenet(set, output, false), "%s: %s", what, convert_error.text);
    expect_same_set(right, output, what);
}

static void test_archives(void) {
    put_train_tar("tars");
    put_val_tar("tars");
    put_kit("tars");
    snprintf(right, sizeof right, "%.200s/right", test_folder);
    CHECK(run_imagenet("tars", right, false), "archives: %s", convert_error.text);
    expect_said("10 classes, not the 1000 of ImageNet-1K: a subset");
    Dataset train = open_split(right, "train"), val = open_split(right, "val");
    CHECK(train.count == CLASSES * TRAIN && val.count == VAL && train.classes == CLASSES, "%d and %d images",
          train.count, val.count);
    CHECK(strcmp(train.name, "imagenet") == 0, "its name is %s", train.name);
    for (int k = 0; k < CLASSES; k++) {
        char name[32];
        snprintf(name, sizeof name, "word %d", k);
        CHECK(strcmp(train.class_ids[k], wnid_of(k)) == 0 && strcmp(val.class_names[k], name) == 0,
              "class %d is %s, %s", k, train.class_ids[k], val.class_names[k]);
    }
    for (int i = 0; i < VAL; i++) {
        char name[256], wanted[64];
        member_of(name, &val, i);
        snprintf(wanted, sizeof wanted, "%s/ILSVRC2012_val_%08d.jpg", wnid_of(val_class(i + 1)), i + 1);
        CHECK(strcmp(name, wanted) == 0 && val.labels[i] == val_class(i + 1), "image %d is %s", i, name);
    }
    dataset_free(&train);
    dataset_free(&val);
}

static void test_shapes(void) {
    put_class_tars("classes-in-tars");
    put_val_folder("classes-in-tars", "", true);
    put_kit("classes-in-tars");
    expect_same("classes-in-tars", "archives of classes, and folders for validation");
    put_train_folders("folders", "");
    put_val_folder("folders", "", false);
    put_kit("folders");
    expect_same("folders", "folders of classes, validation in one");
    put_train_folders("kaggle", "ILSVRC/Data/CLS-LOC/");
    put_val_folder("kaggle", "ILSVRC/Data/CLS-LOC/", false);
    put_kaggle_texts("kaggle");
    expect_same("kaggle", "Kaggle's");
    put_train_tar("list");
    put_val_folder("list", "", false);
    put_wnid_list("list");
    char output[256];
    snprintf(output, sizeof output, "%.200s/list.out", test_folder);
    CHECK(run_imagenet("list", output, false), "a list of ids: %s", convert_error.text);
    Dataset d = open_split(output, "val");
    CHECK(d.count == VAL && d.labels[3] == val_class(4) && strcmp(d.class_names[2], wnid_of(2)) == 0,
          "which tells no names");
    dataset_free(&d);
}

static void test_packed_kit(void) {
#if defined(HAVE_ARCHIVE) && defined(HAVE_ZLIB)
    char output[256];
    snprintf(output, sizeof output, "%.200s/packed.out", test_folder);
    put_train_tar("packed");
    put_val_tar("packed");
    put_packed_kit("packed", false);
    expect_refusal(run_imagenet("packed", output, true),
                   "lacks data/meta.mat or data/ILSVRC2012_validation_ground_truth.txt", "half a kit");
    put_packed_kit("packed", true);
    if (HAVE_MD5) {
        expect_refusal(run_imagenet("packed", output, false), "is not the official file: MD5", "another kit");
    }
    CHECK(run_imagenet("packed", output, true), "a packed kit: %s", convert_error.text);
    expect_same_set(right, output, "a packed kit");
#elif !defined(HAVE_ARCHIVE)
    put_train_tar("packed");
    put_val_tar("packed");
    put_file("x", 1, "%s", in_set("packed", DEVKIT ".tar.gz"));
    expect_refusal(run_imagenet("packed", in_set("packed.out", ""), true), "libarchive",
                   "a packed kit without libarchive");
#endif
}

// ---- parts of a set

static void test_val_alone(void) {
    put_val_tar("val");
    put_kit("val");
    CHECK(run_imagenet("val", in_set("val.out", ""), false), "validation alone: %s", convert_error.text);
    Dataset d = open_split(in_set("val.out", ""), "val");
    CHECK(d.count == VAL && d.classes == CLASSES && !path_exists(in_set("val.out", "train.index")), "val.index alone");
    dataset_free(&d);
    CHECK(run_imagenet("val", in_set("val.out", ""), false), "once more: %s", convert_error.text);
    expect_said("is finished already");
}

static void test_subset(void) {
    char name[64];
    int wanted = 0;
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "train/%s/a%d.JPEG", wnid_of(i / 2), i);
        put_jpeg(in_set("subset", ""), name, i);
    }
    put_val_tar("subset");
    put_kit("subset");
    for (int number = 1; number <= VAL; number++) { wanted += val_class(number) < 2; }
    CHECK(run_imagenet("subset", in_set("subset.out", ""), false), "two classes: %s", convert_error.text);
    snprintf(name, sizeof name, "%d validation images are of other classes", VAL - wanted);
    expect_said(name);
    Dataset d = open_split(in_set("subset.out", ""), "val");
    CHECK(d.count == wanted && d.classes == 2, "%d images of %d classes", d.count, d.classes);
    dataset_free(&d);
}

// ---- what is wrong

static void expect_refused(const char* set, const char* words, const char* what) {
    expect_refusal(run_imagenet(set, in_set("refused", ""), false), words, what);
    CHECK(!path_exists(in_set("refused", "")), "%s: nothing is made", what);
}

static void test_incomplete(void) {
    size_t count = 0;
    put_train_tar("cut");
    put_val_tar("cut");
    put_kit("cut");
    uint8_t* bytes = read_file(in_set("cut", "ILSVRC2012_img_train.tar"), &count);
    write_file(in_set("cut", "ILSVRC2012_img_train.tar"), bytes, count / 2);
    free(bytes);
    expect_refused("cut", "ILSVRC2012_img_train.tar is truncated: its member n0000", "half a download");
    put_train_tar("cut");
    bytes = read_file(in_set("cut", "ILSVRC2012_img_val.tar"), &count);
    write_file(in_set("cut", "ILSVRC2012_img_val.tar"), bytes, count - 3000);
    expect_refused("cut", "ILSVRC2012_img_val.tar is truncated: its member ILSVRC2012_val_", "most of a download");
    bytes[3] ^= 1;
    write_file(in_set("cut", "ILSVRC2012_img_val.tar"), bytes, count);
    expect_refused("cut", "is no tar archive, or damaged: there is no header at byte 0", "a damaged header");
    free(bytes);

    put_jpeg(in_set("untold", ""), "val/ILSVRC2012_val_00000001.JPEG", 1);
    put_train_tar("untold");
    expect_refused("untold", "nothing says of which classes the images in", "no labels");
    put_kit("untold");
    put_jpeg(in_set("untold", ""), "val/ILSVRC2012_val_00000999.JPEG", 1);
    expect_refused("untold", "says nothing of ILSVRC2012_val_00000999.JPEG", "more images than labels");
    CHECK(unlink(in_set("untold", "val/ILSVRC2012_val_00000999.JPEG")) == 0, "it goes");
    put_jpeg(in_set("untold", ""), "val/photo.jpg", 1);
    expect_refused("untold", "holds photo.jpg, and names like", "another name");
    put_file("490\n361\n12x\n", 12, "%s", in_set("untold", DEVKIT "/data/ILSVRC2012_validation_ground_truth.txt"));
    expect_refused("untold", "line 1 is not the ILSVRC2012_ID of a class", "other numbers");
}

static void test_strays(void) {
    put_file("", 0, "%s", in_set("stray", "ILSVRC2012_img_train.tar.part"));
    expect_refused("stray", "ILSVRC2012_img_train.tar.part is a download that is not finished", "a part of a download");
    put_file("", 0, "%s", in_set("stray2", "ILSVRC2012_img_train_t3.tar"));
    expect_refused("stray2", "holds the dogs of another task", "task 3");
    put_file("", 0, "%s", in_set("stray3", "n01440764/a.JPEG"));
    expect_refused("stray3", "give the folder that holds train and val", "the training folder itself");
    put_file("", 0, "%s", in_set("stray4", "x"));
    expect_refused("stray4", "are looked for", "nothing at all");
    put_train_tar("stray5");
    expect_refused("stray5", "holds no images for validation", "no validation");
    expect_refused("stray6", "is no folder", "no folder");
}

// Validation images of 1000 classes, in folders of the classes that `label` says; planned alone
static const char* fault_of(int (*label)(int number)) {
    ValLabels v;
    Error err;
    if (!val_labels_create(&v, &err)) { exit(1); }
    for (int number = 1; number <= IMAGENET_VAL; number++) { val_labels_add(&v, (uint32_t)number, label(number)); }
    const char* fault = val_labels_fault(&v);
    free(v.labels);
    return fault ? fault : "none";
}
static int right_label(int number) {
    return number == 1 ? 65 : number == 293 || number == 543 ? 0 : number * 31 % 1000;
}
static int kit_label(int number) { return number == 1 ? 489 : number == 2 ? 360 : number * 31 % 1000; }
static int kit_label_from_1(int number) { return kit_label(number) + 1; }
static int ascending_label(int number) { return (number - 1) / 50; }
static int shuffled_label(int number) { return number * 77 % 1000; }

// What is said of so many images a class
static void expect_counts(int classes, uint32_t a_class, uint32_t odd, const char* words) {
    char* text = NULL;
    size_t size = 0;
    uint32_t* of_class = calloc((size_t)classes, sizeof *of_class);
    Plan plan = {.shards = {1, 0}, .classes = {.count = classes}};
    SetSummary s = {.plan = &plan, .images = {(uint64_t)(classes - 1) * a_class + odd}, .of_class = {of_class, NULL}};
    for (int k = 0; k < classes; k++) { of_class[k] = k ? a_class : odd; }
    FILE* out = open_memstream(&text, &size);
    check_counts(out, &s, SPLIT_TRAIN, 100, 9, 11);
    check_counts(out, &s, SPLIT_VAL, 100, 9, 11);
    fclose(out);
    CHECK(strncmp(text, words, strlen(words)) == 0, "of %u and %u: %s", a_class, odd, text);
    free(text);
    free(of_class);
}

static void test_counts(void) {
    expect_counts(10, 10, 10, "check: train has the 100 images of ImageNet-1K, 9 to 11 a class\n");
    expect_counts(10, 10, 9, "warning: train has 99 images, ImageNet-1K has 100; 0 classes have fewer");
    expect_counts(11, 9, 10, "check: train has the 100 images");
    expect_counts(9, 10, 20, "warning: train has 100 images, ImageNet-1K has 100; 1 classes have fewer than 9 or more");
    char (*names)[FOLDER_NAME_BYTES] = calloc(1000, sizeof *names);
    ClassList c;
    Error err;
    for (int k = 0; k < 1000; k++) { snprintf(names[k], FOLDER_NAME_BYTES, "n%08d", k); }
    CHECK(classes_sorted(&c, names, 1000, &err), "%s", err.text);
    CHECK(are_imagenet_classes(&c) == !HAVE_MD5, "1000 other ids are told by their MD5");
    classes_free(&c);
}

static void test_labels(void) {
    CHECK(strcmp(fault_of(right_label), "none") == 0, "right labels: %s", fault_of(right_label));
    CHECK(strstr(fault_of(kit_label), "development kit's numbers"), "the kit's: %s", fault_of(kit_label));
    CHECK(strstr(fault_of(kit_label_from_1), "development kit's numbers"), "the kit's: %s", fault_of(kit_label_from_1));
    CHECK(strstr(fault_of(ascending_label), "ascend"), "ascending ones: %s", fault_of(ascending_label));
    CHECK(strstr(fault_of(shuffled_label), "another order"), "other ones: %s", fault_of(shuffled_label));

    char name[64];
    for (int k = 1; k <= 1000; k++) {
        snprintf(name, sizeof name, "%s/train/%d/a.jpg", in_set("numbers", ""), k);
        put_file("", 0, "%s", name);
    }
    put_jpeg(in_set("numbers", ""), "val/490/ILSVRC2012_val_00000001.JPEG", 1);
    expect_refused("numbers", "development kit's numbers", "folders of the kit's numbers");
}

int main(void) {
    open_test_folder();
    test_archives();
    test_shapes();
    test_packed_kit();
    test_val_alone();
    test_subset();
    test_incomplete();
    test_strays();
    test_labels();
    test_counts();
    remove_test_folder();
    return tests_finish();
}
#endif
