// ./convert_data index: our own shards' indices come out again from the tars alone, webdataset's and plain tars get
// theirs; and the walk over tar headers, in all that stands in them.
#include "../../data/convert_index.h"
#include "convert_test.h"
#include "tar_maker.h"

// ---- the walk

static TarWalk walk_of(const TarMaker* t, const char* name) {
    TarWalk w;
    write_file(in_folder(name), t->bytes, t->count);
    int descriptor = open(in_folder(name), O_RDONLY);
    tar_begin(&w, descriptor, "t.tar", 0, t->count);
    return w;
}

static void expect_member(TarWalk* w, const char* name, const char* data) {
    char got[64] = "";
    Error err = {""};
    int found = tar_next(w, &err);
    bool ok = found == 1 && strcmp(w->name, name) == 0 && w->bytes == strlen(data) && tar_read(w, got, w->bytes, &err)
        && strcmp(got, data) == 0;
    CHECK(ok, "a member %.40s with %s: %d, %.40s, %s, %s", name, data, found, w->name, got, err.text);
}

static void expect_end(TarWalk* w) {
    Error err = {""};
    int found = tar_next(w, &err);
    CHECK(found == 0, "the end: %d, %s", found, err.text);
    close(w->descriptor);
}

static void expect_broken(const TarMaker* t, size_t count, const char* words) {
    TarMaker part = *t;
    Error err = {""};
    part.count = count;
    TarWalk w = walk_of(&part, "broken");
    int found;
    while ((found = tar_next(&w, &err)) == 1) {}
    CHECK(found == -1 && strstr(err.text, words), "'%s' is said: %d, %s", words, found, err.text);
    close(w.descriptor);
}

// A header's field changed, and its sum made right again
static void change_header(TarMaker* t, size_t header, size_t field, const void* bytes, size_t count) {
    unsigned sum = 0;
    char* h = (char*)t->bytes + header;
    memcpy(h + field, bytes, count);
    memset(h + 148, ' ', 8);
    for (int i = 0; i < TAR_BLOCK; i++) { sum += (uint8_t)h[i]; }
    tar_octal(h + 148, 6, sum);
    h[154] = 0;
}

static void test_walk(void) {
    TarMaker t = {0};
    char long_name[600], records[700], prefixed[200], *end = long_name;
    for (int i = 0; i < 50; i++) { end += sprintf(end, "folder %02d/", i); }
    strcpy(end, "x.jpg");
    tar_put_member(&t, "a.jpg", '0', "one", 3);
    tar_put_member(&t, "folder/", '5', "", 0);
    snprintf(prefixed, sizeof prefixed, "%0*d/%0*d", 150, 1, 40, 2);
    tar_put_member(&t, prefixed, '0', "two", 3);
    tar_put_member(&t, "././@LongLink", 'L', long_name, strlen(long_name) + 1);
    tar_put_member(&t, "cut", '0', "three", 5);
    int length = snprintf(records, sizeof records, "20 atime=1234567.89\n%zu path=%s\n9 size=4\n",
                          strlen(long_name) + 10, long_name);
    tar_put_member(&t, "PaxHeaders/x", 'x', records, (size_t)length);
    tar_put_member(&t, "cut", '0', "four", 4);
    tar_put_member(&t, "old", 0, "", 0);
    size_t base_256 = t.count;
    tar_put_member(&t, "large", '0', "five", 4);
    change_header(&t, base_256, 124, "\x80\0\0\0\0\0\0\0\0\0\0\4", 12);
    size_t whole = t.count;
    tar_put_end(&t);

    TarWalk w = walk_of(&t, "walk");
    expect_member(&w, "a.jpg", "one");
    expect_member(&w, "folder/", "");
    CHECK(!tar_is_file(&w), "a folder is no file");
    expect_member(&w, prefixed, "two");
    expect_member(&w, long_name, "three");
    expect_member(&w, long_name, "four");
    expect_member(&w, "old", "");
    CHECK(tar_is_file(&w), "an old tar's file is one");
    expect_member(&w, "large", "five");
    expect_end(&w);
    w = walk_of(&(TarMaker){t.bytes, whole, 0}, "walk");
    for (int i = 0; i < 7; i++) { CHECK(tar_next(&w, &(Error){""}) == 1, "member %d", i); }
    expect_end(&w);

    expect_broken(&t, whole - 509, "is truncated: its member large needs it up to byte");
    w = walk_of(&(TarMaker){t.bytes, whole - 500, 0}, "walk"); // what fills up the last member is not missed
    while (tar_next(&w, &(Error){""}) == 1) {}
    close(w.descriptor);
    expect_broken(&t, 1300, "t.tar is truncated: a header needs it");
    change_header(&t, base_256, 124, "\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\4", 12);
    expect_broken(&t, whole, "has no size");
    change_header(&t, base_256, 124, "777777777777", 12);
    expect_broken(&t, whole, "is truncated: its member large needs");
    t.bytes[base_256] ^= 1;
    expect_broken(&t, whole, "there is no header at byte");
    tar_drop(&t);
}

#ifndef HAVE_JPEG
int main(void) {
    open_test_folder();
    test_walk();
    remove_test_folder();
    return tests_finish();
}
#else

static bool run_index(const char* folder) {
    ConvertOptions o = convert_defaults();
    return run_convert(convert_index, "index", folder, NULL, &o);
}

// ---- our own

static void copy_tars(const char* from, const char* to) {
    DIR* entries = opendir(from);
    char a[PATH_MAX], b[PATH_MAX];
    Error err;
    if (!make_folders(to, &err)) { fail(1, "%s", err.text); }
    for (struct dirent* e; entries && (e = readdir(entries));) {
        if (!ends_with(e->d_name, ".tar")) { continue; }
        snprintf(a, sizeof a, "%.2000s/%s", from, e->d_name);
        snprintf(b, sizeof b, "%.2000s/%s", to, e->d_name);
        size_t count = 0;
        uint8_t* bytes = read_file(a, &count);
        write_file(b, bytes, count);
        free(bytes);
    }
    if (entries) { closedir(entries); }
}

static void expect_rebuilt(const char* set, const char* what) {
    char again[256];
    snprintf(again, sizeof again, "%.200s/again", test_folder);
    copy_tars(set, again);
    CHECK(run_index(again), "%s: %s", what, convert_error.text);
    expect_said("the shards' own comment");
    expect_same_set(set, again, what);
    CHECK(run_index(again), "%s, once more: %s", what, convert_error.text);
    expect_said("is finished already");
    remove_folder(again);
}

static void test_own(void) {
    char tree[256], set[256];
    ConvertOptions o = convert_defaults();
    snprintf(tree, sizeof tree, "%.200s/tree", test_folder);
    snprintf(set, sizeof set, "%.200s/set", test_folder);
    make_tree(tree, 9, 2, 2);
    put_jpeg(tree, "train/a class whose name is too long for an id/i.jpg", 3);
    CHECK(run_folder(tree, set, &o), "a set: %s", convert_error.text);
    expect_rebuilt(set, "shards");
    o.side = 11;
    snprintf(set, sizeof set, "%.200s/side", test_folder);
    CHECK(run_folder(tree, set, &o), "a set: %s", convert_error.text);
    expect_rebuilt(set, "shards of a shorter side");
    o.split = 1;
    snprintf(tree, sizeof tree, "%.200s/tree/train", test_folder);
    snprintf(set, sizeof set, "%.200s/val", test_folder);
    CHECK(run_folder(tree, set, &o), "a set: %s", convert_error.text);
    expect_rebuilt(set, "shards for validation alone");
    o.split = 0;
}

static void test_unfinished(void) {
    char set[256], path[300];
    snprintf(set, sizeof set, "%.200s/set", test_folder);
    snprintf(path, sizeof path, "%s/train-000001.tar", set);
    CHECK(unlink(path) == 0, "a shard less");
    expect_refusal(run_index(set), "holds 2 of the 3 shards that", "a set that is not finished");
}

// ---- webdataset's

static void put_sample(TarMaker* t, const char* key, int number, const char* label, bool label_first) {
    char name[128];
    size_t count;
    uint8_t* bytes = numbered_jpeg(number, &count);
    for (int i = 0; i < 2; i++) {
        bool is_label = (i == 0) == label_first;
        snprintf(name, sizeof name, "%s.%s", key, is_label ? "cls" : number % 2 ? "jpg" : "JPEG");
        if (is_label && label) { tar_put_member(t, name, '0', label, strlen(label)); }
        if (!is_label) { tar_put_member(t, name, '0', bytes, count); }
    }
    snprintf(name, sizeof name, "%s.json", key);
    tar_put_member(t, name, '0', "{}", 2);
    free(bytes);
}

static void put_tar(TarMaker* t, const char* name) {
    tar_put_end(t);
    put_file(t->bytes, t->count, "%s", in_folder(name));
    tar_drop(t);
}

static void test_webdataset(void) {
    TarMaker t = {0};
    put_sample(&t, "n00000003_1", 1, "1", true);
    put_sample(&t, "n00000002_1", 2, "0\n", false);
    put_sample(&t, "n00000002_2", 3, NULL, false);
    put_sample(&t, "n00000002_3", 3, "cat", false);
    put_sample(&t, "n00000002_4.left", 3, "0", false); // of key n00000002_4, whose extensions are another's
    put_sample(&t, "n00000002_5", 4, "0", true);
    put_tar(&t, "w/imagenet1k-train-0000.tar");
    put_sample(&t, "n00000005_1", 5, "2", true);
    put_tar(&t, "w/imagenet1k-train-0001.tar");
    put_sample(&t, "ILSVRC2012_val_00000001", 6, "2", true);
    put_tar(&t, "w/imagenet1k-validation-00.tar");
    put_file("", 0, "%s", in_folder("w/other.tar"));
    CHECK(run_index(in_folder("w")), "webdataset's: %s", convert_error.text);
    expect_said("other.tar is left out");
    expect_said("classes by .cls members");
    expect_said("has no member .cls beside it: 1\n  imagenet1k-train-0000.tar: n00000002_2.jpg");
    expect_said("is no number of a class: 1\n  imagenet1k-train-0000.tar: n00000002_3.jpg");
    Dataset d = open_split(in_folder("w"), "train"), val = open_split(in_folder("w"), "val");
    CHECK(d.count == 4 && d.classes == 3 && val.count == 1 && val.labels[0] == 2, "%d images of %d classes", d.count,
          d.classes);
    CHECK(d.labels[0] == 1 && d.labels[1] == 0 && d.labels[2] == 0 && d.labels[3] == 2, "their labels");
    CHECK(strcmp(d.class_ids[0], "n00000002") == 0 && strcmp(val.class_ids[2], "n00000005") == 0, "ids by names: %s",
          d.class_ids[0]);
    CHECK(strcmp(d.name, "w") == 0, "its name is %s", d.name);
    dataset_free(&d);
    dataset_free(&val);
}

// Ids of single images that contradict each other are none; labels of the development kit are told.
static void test_kit_labels(void) {
    TarMaker t = {0};
    put_sample(&t, "n00000003_1", 1, "999", true);
    put_sample(&t, "n00000002_1", 2, "999", true);
    put_tar(&t, "k/train.tar");
    put_sample(&t, "x/ILSVRC2012_val_00000001", 6, "489", true);
    put_tar(&t, "k/val.tar");
    CHECK(run_index(in_folder("k")), "the kit's labels: %s", convert_error.text);
    expect_said("warning: the labels of the validation images are wrong: they look like the development kit's numbers");
    Dataset d = open_split(in_folder("k"), "train");
    CHECK(d.classes == 1000 && strcmp(d.class_ids[999], "999") == 0, "numbers stay: %s", d.class_ids[999]);
    dataset_free(&d);
}

// ---- plain ones

static void test_folders(void) {
    TarMaker t = {0};
    size_t count;
    uint8_t* bytes = numbered_jpeg(1, &count);
    tar_put_member(&t, "./train/10/a.b.jpg", '0', bytes, count);
    tar_put_member(&t, "./train/9/c.JPEG", '0', bytes, count);
    tar_put_member(&t, "loose.jpg", '0', bytes, count);
    tar_put_member(&t, "train/9/half.jpg", '0', bytes, count / 2);
    put_tar(&t, "f/mytrain.tar");
    tar_put_member(&t, "10/d.png", '0', bytes, count);
    put_tar(&t, "f/test.tar");
    CHECK(run_index(in_folder("f")), "plain tars: %s", convert_error.text);
    expect_said("not read, lies in no folder: 1\n  mytrain.tar: loose.jpg");
    expect_said("JPEG under a PNG's name: 1");
    Dataset d = open_split(in_folder("f"), "train"), val = open_split(in_folder("f"), "val");
    CHECK(d.count == 2 && strcmp(d.class_ids[0], "9") == 0 && d.labels[0] == 1 && d.labels[1] == 0
          && val.labels[0] == 1, "classes are numbers");
    dataset_free(&d);
    dataset_free(&val);
    // another image: the index that is there is of another tar
    tar_put_member(&t, "9/d.jpg", '0', bytes, count);
    tar_put_member(&t, "10/d.jpg", '0', bytes, count);
    put_tar(&t, "f/test.tar");
    CHECK(run_index(in_folder("f")), "once more: %s", convert_error.text);
    val = open_split(in_folder("f"), "val");
    CHECK(val.count == 2, "it is made again");
    dataset_free(&val);
    free(bytes);
}

static void test_refusals(void) {
    TarMaker t = {0};
    put_file("", 0, "%s", in_folder("none/x.tar"));
    expect_refusal(run_index(in_folder("none")), "holds no tars whose names say train or val", "other names");
    expect_refusal(run_index(in_folder("nowhere")), "cannot look into", "no folder");
    put_file("text", 4, "%s", in_folder("text/train.tar"));
    expect_refusal(run_index(in_folder("text")), "is truncated: a header", "a text");
    put_tar(&t, "bare/train.tar");
    expect_refusal(run_index(in_folder("bare")), "hold no images in folders, and no .cls members", "an empty tar");
    put_sample(&t, "a", 1, "0", true);
    t.count -= TAR_BLOCK;
    put_file(t.bytes, t.count, "%s", in_folder("short/train.tar"));
    tar_drop(&t);
    expect_refusal(run_index(in_folder("short")), "train.tar is truncated: its member a.json", "a cut tar");
    put_sample(&t, "a", 1, "x", true);
    put_tar(&t, "unlabelled/train.tar");
    expect_refusal(run_index(in_folder("unlabelled")), "not a single image for train could be read",
                   "no label that is one");
}

int main(void) {
    open_test_folder();
    test_walk();
    test_own();
    test_unfinished();
    test_webdataset();
    test_kit_labels();
    test_folders();
    test_refusals();
    remove_test_folder();
    return tests_finish();
}
#endif
