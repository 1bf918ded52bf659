// ./convert_data folder: trees of every kind, the same bytes whatever the number of workers and however often it is
// killed, damaged images, a shorter side, and refusals that say what to do.
#include "convert_test.h"
#include "../../data/image_reader.h"
#include <sys/resource.h>

#ifndef HAVE_JPEG
int main(void) {
    ConvertOptions o = convert_defaults();
    open_test_folder();
    expect_refusal(run_folder(test_folder, in_folder("out"), &o), "install libjpeg-dev", "a build without libjpeg");
    remove_test_folder();
    return tests_finish();
}
#else

// ---- what is in a set

// The member's bytes, size and class are those of the file that it came from.
static void expect_record(const Dataset* d, int image, const char* member, const char* file, const char* class) {
    char name[256];
    size_t count = 0;
    Error err;
    ImageInfo info;
    ShardRecord r = d->shards->records[image];
    member_of(name, d, image);
    CHECK(strcmp(name, member) == 0, "image %d is %s: %s", image, member, name);
    CHECK(strcmp(d->class_ids[r.label], class) == 0, "%s is of class %s: %s", member, class, d->class_ids[r.label]);
    uint8_t *bytes = malloc(r.bytes), *from = read_file(file, &count);
    CHECK(from && count == r.bytes && shard_record_read(d, image, bytes, &err) && memcmp(from, bytes, count) == 0,
          "%s has the bytes of %s", member, file);
    CHECK(r.crc == crc32_of(from, count), "and their crc");
    CHECK(image_info(&info, from, count, &err) && info.height == r.height && info.width == r.width, "and its size");
    free(bytes);
    free(from);
}

static void test_odd_tree(void) {
    char folder[256], output[256], long_class[] = "a class whose name is by far too long to be an id", path[512];
    const char* const files[] = {"b.jpg", "B.JPG", "deep/er/c.jpeg", "x.y.jpg", "x_y.jpg", "x~y.JPEG", "d e.jpg",
                                 "ä.jpg"};
    const char* const members[] = {"B", "b", "d e", "deep_er_c", "x_y", "x_y~2", "x_y~3", "ä"};
    const char* const of_file[] = {"B.JPG", "b.jpg", "d e.jpg", "deep/er/c.jpeg", "x.y.jpg", "x_y.jpg", "x~y.JPEG",
                                   "ä.jpg"};
    snprintf(folder, sizeof folder, "%.200s/odd", test_folder);
    snprintf(output, sizeof output, "%.200s/odd.out", test_folder);
    for (int i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "k/%s", files[i]);
        put_jpeg(folder, path, i);
    }
    snprintf(path, sizeof path, "%s/i.jpg", long_class);
    put_jpeg(folder, path, 8);
    put_file("text", 4, "%s/k/notes.txt", folder);
    put_file("text", 4, "%s/k/.hidden.jpg", folder);
    snprintf(path, sizeof path, "%s/k/deep/loop", folder);
    CHECK(symlink("..", path) == 0, "a loop");
    snprintf(path, sizeof path, "%s/k/broken.jpg", folder);
    CHECK(symlink("nothing", path) == 0, "a link to nothing");
    snprintf(path, sizeof path, "%s/linked", folder);
    CHECK(symlink(long_class, path) == 0, "a linked class");

    ConvertOptions o = convert_defaults();
    o.split = 0.25;
    CHECK(run_folder(folder, output, &o), "an odd tree: %s", convert_error.text);
    expect_said("files of ");
    Dataset train = open_split(output, "train"), val = open_split(output, "val");
    CHECK(train.classes == 3 && train.count == 8 && val.count == 2, "%d classes, %d and %d images", train.classes,
          train.count, val.count);
    CHECK(strcmp(train.class_ids[0], "a class whose name is by~0") == 0, "a long class: %s", train.class_ids[0]);
    CHECK(strcmp(train.class_ids[1], "k") == 0 && strcmp(train.class_ids[2], "linked") == 0, "the others");
    CHECK(strcmp(train.name, "odd") == 0, "its name: %s", train.name);
    for (int i = 0, t = 1, v = 0; i < 8; i++) { // every fourth of k is for validation
        bool taken = evenly_taken((size_t)i, 8, 2);
        char member[256];
        snprintf(path, sizeof path, "%s/k/%s", folder, of_file[i]);
        snprintf(member, sizeof member, "k/%s.jpg", members[i]);
        expect_record(taken ? &val : &train, taken ? v++ : t++, member, path, "k");
    }
    dataset_free(&train);
    dataset_free(&val);
}

static void test_numbers(void) {
    char folder[256], output[256];
    const char* const sorted[] = {"0", "2", "10", "0100"};
    snprintf(folder, sizeof folder, "%.200s/numbers", test_folder);
    snprintf(output, sizeof output, "%.200s/numbers.out", test_folder);
    put_jpeg(folder, "train/10/a.jpg", 1);
    put_jpeg(folder, "train/2/a.jpg", 2);
    put_jpeg(folder, "train/0100/a.jpg", 3);
    put_jpeg(folder, "train/0/a.jpg", 4);
    put_jpeg(folder, "test/10/b.jpg", 5);
    ConvertOptions o = convert_defaults();
    CHECK(run_folder(folder, output, &o), "classes that are numbers: %s", convert_error.text);
    expect_said("val has no image of 3 classes");
    Dataset d = open_split(output, "val");
    for (int k = 0; k < 4; k++) { CHECK(strcmp(d.class_ids[k], sorted[k]) == 0, "%s comes at %d", sorted[k], k); }
    CHECK(d.count == 1 && d.labels[0] == 2, "an image of class 10 is of the third");
    dataset_free(&d);
}

// The mean and deviation that the pixels have
static void test_moments(const char* output) {
    Dataset d = open_split(output, "train");
    ImageReader reader = {0};
    double n = 0, sum[3] = {0}, squares[3] = {0};
    for (int i = 0; i < d.count; i++) {
        ImageView view;
        Error err;
        Crop whole = {0, 0, image_height(&d, i), image_width(&d, i)};
        CHECK(read_box(&reader, &d, i, whole, whole, &view, &err), "image %d: %s", i, err.text);
        n += (double)view.height * view.width;
        for (int k = 0; k < 3 * view.height * view.width; k++) {
            double value = view.pixels[k] / 255.0;
            sum[k / (view.height * view.width)] += value;
            squares[k / (view.height * view.width)] += value * value;
        }
    }
    for (int c = 0; c < 3; c++) {
        double mean = sum[c] / n;
        CHECK_NEAR(d.mean[c], mean, 1e-6, "mean");
        CHECK_NEAR(d.std[c], sqrt(squares[c] / n - mean * mean), 1e-6, "deviation");
    }
    image_reader_free(&reader);
    dataset_free(&d);
}

// ---- the same bytes

static void test_workers(const char* input, const char* right) {
    char output[300];
    for (int workers = 1; workers <= 5; workers += workers == 1 ? 1 : 3) {
        ConvertOptions o = convert_defaults();
        o.workers = workers;
        snprintf(output, sizeof output, "%.200s/workers%d", test_folder, workers);
        CHECK(run_folder(input, output, &o), "%d workers: %s", workers, convert_error.text);
        expect_same_set(right, output, "another number of workers");
    }
    struct stat before, after;
    ConvertOptions o = convert_defaults();
    snprintf(output, sizeof output, "%.200s/workers2/train.index", test_folder);
    stat(output, &before);
    *strrchr(output, '/') = 0;
    CHECK(run_folder(input, output, &o), "once more: %s", convert_error.text);
    expect_said("is finished already: 60 images for training, 20 for validation");
    strcat(output, "/train.index");
    stat(output, &after);
    CHECK(before.st_ino == after.st_ino, "nothing is written then");
}

static void test_kills(const char* input, const char* right) {
    enum { KILLS = 10 };
    char output[300], shard[400];
    ConvertOptions o = convert_defaults();
    int killed = 0;
    for (int k = 0; k < KILLS; k++) { // when so many files are there, and a little later
        struct stat before = {0}, after = {0};
        snprintf(output, sizeof output, "%.200s/killed%d", test_folder, k);
        pid_t child = start_convert(convert_folder, "folder", input, output, &o);
        while (count_entries(output, "*") < k % 6 && !has_ended(child)) { sleep_seconds(5e-5); }
        sleep_seconds(1e-4 * k);
        kill(child, SIGKILL);
        killed += end_of(child) == 128 + SIGKILL;
        snprintf(shard, sizeof shard, "%s/train-000000.part", output);
        bool finished = path_exists(shard);
        strcpy(strrchr(shard, '.'), ".tar");
        stat(shard, &before);
        CHECK(run_folder(input, output, &o), "goes on: %s", convert_error.text);
        stat(shard, &after);
        CHECK(!finished || before.st_ino == after.st_ino, "a finished shard stays");
        expect_same_set(right, output, "killed and gone on");
    }
    CHECK(killed >= 3, "%d of %d were killed in time", killed, KILLS);
}

static void test_stop(const char* input, const char* right) {
    char output[300];
    ConvertOptions o = convert_defaults();
    int code = 0;
    for (int k = 0; k < 30 && code != EXIT_STOPPED; k++) {
        snprintf(output, sizeof output, "%.200s/stopped%d", test_folder, k);
        pid_t child = start_convert(convert_folder, "folder", input, output, &o);
        while (count_entries(output, "*.tmp") == 0 && !has_ended(child)) { sleep_seconds(5e-5); }
        kill(child, SIGTERM);
        code = end_of(child);
    }
    CHECK(code == EXIT_STOPPED, "SIGTERM ends it by %d", code);
    CHECK(count_entries(output, "*.tmp") == 0, "nothing half done is left");
    CHECK(run_folder(input, output, &o), "goes on: %s", convert_error.text);
    expect_same_set(right, output, "stopped and gone on");
}

static void test_full_disk(const char* input, const char* right) {
    char output[300];
    ConvertOptions o = convert_defaults();
    snprintf(output, sizeof output, "%.200s/full", test_folder);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {20000, 20000};
        const char* const words[] = {input, output, NULL};
        Error err;
        signal(SIGXFSZ, SIG_IGN);
        if (!freopen("/dev/null", "w", stdout) || setrlimit(RLIMIT_FSIZE, &limit) != 0) { _exit(9); }
        bool ok = convert_folder("folder", words, &o, &err);
        _exit(ok ? 8 : strstr(err.text, "cannot write") && strstr(err.text, "free some space") ? 0 : 7);
    }
    CHECK(end_of(child) == 0, "a disk that is full is told");
    CHECK(count_entries(output, "*.tmp") == 0, "nothing half done is left");
    CHECK(run_folder(input, output, &o), "goes on: %s", convert_error.text);
    expect_same_set(right, output, "written once there was room");
}

// A part that does not belong to what it lies beside is not trusted. One worker under --strict has finished what comes
// before a damaged image.
static void test_parts(void) {
    char input[256], right[256], output[256], part[300];
    ConvertOptions o = convert_defaults();
    snprintf(input, sizeof input, "%.200s/late", test_folder);
    snprintf(right, sizeof right, "%.200s/late.out", test_folder);
    make_tree(input, 20, 1, 1);
    put_file("", 0, "%s/train/c19/empty.jpg", input);
    CHECK(run_folder(input, right, &o), "a damaged image is skipped: %s", convert_error.text);
    for (int change = 0; change < 4; change++) {
        size_t count = 0;
        snprintf(output, sizeof output, "%.200s/part%d", test_folder, change);
        snprintf(part, sizeof part, "%s/train-000000.part", output);
        o.workers = o.strict = 1;
        expect_refusal(run_folder(input, output, &o), "train/c19/empty.jpg is empty", "a damaged image");
        uint8_t* bytes = read_file(part, &count);
        if (!CHECK(bytes && count_entries(output, "*.part") == 2, "two parts are there")) { return; }
        if (change == 0) { bytes[count / 2] ^= 1; }
        write_file(part, bytes, count - (change == 1));
        strcpy(strrchr(part, '.'), ".tar");
        CHECK(change != 2 || truncate(part, 1000) == 0, "a shard is cut");
        CHECK(change != 3 || unlink(part) == 0, "a shard is gone");
        free(bytes);
        o.strict = 0;
        CHECK(run_folder(input, output, &o), "goes on: %s", convert_error.text);
        expect_said("1 of 4 shards are finished already");
        expect_same_set(right, output, "parts that do not fit");
    }
}

// ---- damage

static void put_damaged(const char* folder) {
    char path[512];
    size_t count;
    uint8_t* bytes = numbered_jpeg(7, &count);
    put_file(bytes, count / 2, "%s/train/c00/cut.jpg", folder);
    put_file(bytes, 0, "%s/train/c00/empty.jpg", folder);
    put_file("<html>", 6, "%s/train/c00/page.jpg", folder);
    put_file("GIF89a", 6, "%s/val/c01/moving.JPG", folder);
    bytes[count / 2] = 0xFF;
    put_file(bytes, count, "%s/val/c01/odd.jpg", folder);
    free(bytes);
    snprintf(path, sizeof path, "%s/train/c01/pipe.jpg", folder);
    CHECK(mkfifo(path, 0600) == 0, "a fifo");
    snprintf(path, sizeof path, "%s/train/c01/unreadable.jpg", folder);
    CHECK(symlink("/proc/self/mem", path) == 0, "a link to what is no image");
}

static void test_damage(void) {
    char folder[256], output[300], report[400];
    size_t count = 0;
    ConvertOptions o = convert_defaults();
    snprintf(folder, sizeof folder, "%.200s/damage", test_folder);
    snprintf(output, sizeof output, "%.200s/damage.out", test_folder);
    make_tree(folder, 2, 3, 2);
    put_damaged(folder);
    CHECK(run_folder(folder, output, &o), "damaged images are skipped: %s", convert_error.text);
    expect_said("not read, is truncated");
    expect_said("  train/c00/cut.jpg\n");
    expect_said("  train/c00/empty.jpg\n");
    expect_said("  train/c00/page.jpg\n");
    expect_said("is a GIF image: convert it to JPEG or PNG: 1\n  val/c01/moving.JPG\n");
    Dataset d = open_split(output, "train");
    CHECK(d.count == 6, "what is whole is there: %d", d.count);
    dataset_free(&d);
    snprintf(report, sizeof report, "%s/report.txt", output);
    char* text = (char*)read_file(report, &count);
    CHECK(text && strstr(text, "train/c00/cut.jpg") && strstr(text, "\n0\tc00\tc00\t3\t2\n"), "the report has it");
    free(text);

    o.strict = 1;
    snprintf(output, sizeof output, "%.200s/strict", test_folder);
    expect_refusal(run_folder(folder, output, &o), "--strict", "a damaged image");
    o.strict = 0;
    CHECK(run_folder(folder, output, &o), "without --strict it goes on: %s", convert_error.text);
}

// ---- a shorter side

static void expect_jpeg(const Dataset* d, int image, int height, int width, int components, const char* what) {
    ShardRecord r = d->shards->records[image];
    uint8_t* bytes = malloc(r.bytes);
    ImageInfo info = {0};
    Error err;
    bool ok = shard_record_read(d, image, bytes, &err) && image_info(&info, bytes, r.bytes, &err);
    CHECK(ok && info.format == IMAGE_JPEG && !jpeg_marks(bytes, r.bytes).progressive, "%s is a baseline JPEG", what);
    CHECK(info.height == height && info.width == width && info.components == components && r.height == height
          && r.width == width, "%s has %d x %d, %d components", what, info.width, info.height, info.components);
    free(bytes);
}

// With an EXIF segment that says orientation 6, or 1
static void put_turned(const char* folder, const char* name, bool turned) {
    static const uint8_t big[] = "\xff\xe1\0\x22" "Exif\0\0" "MM\0*\0\0\0\x08" "\0\x01"
                                 "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" "\0\0\0";
    static const uint8_t little[] = "\xff\xe1\0\x22" "Exif\0\0" "II*\0\x08\0\0\0" "\x01\0"
                                    "\x12\x01\x03\0\x01\0\0\0\x01\0\0\0" "\0\0\0";
    enum { SEGMENT = 36 };
    size_t count;
    uint8_t *bytes = numbered_jpeg(0, &count), *with = malloc(count + SEGMENT);
    memcpy(with, bytes, 2);
    memcpy(with + 2, turned ? big : little, SEGMENT);
    memcpy(with + 2 + SEGMENT, bytes + 2, count - 2);
    put_file(with, count + SEGMENT, "%s/%s", folder, name);
    CHECK(jpeg_marks(with, count + SEGMENT).orientation == (turned ? 6 : 1), "%s has its orientation", name);
    for (size_t cut = 0; cut < 2 + SEGMENT; cut++) { jpeg_marks(with, cut); }
    free(bytes);
    free(with);
}

static void put_kinds(const char* folder) {
    size_t count;
    const JpegKind kinds[] = {
        {.height = 40, .width = 61, .components = 3, .quality = 90, .horizontal = 1, .vertical = 1},
        {.height = 61, .width = 40, .components = 1, .quality = 90, .horizontal = 1, .vertical = 1},
        {.height = 20, .width = 61, .components = 3, .quality = 90, .horizontal = 2, .vertical = 2},
        {.height = 20, .width = 30, .components = 3, .quality = 90, .horizontal = 2, .vertical = 1,
         .progressive = true},
        {.height = 50, .width = 50, .components = 4, .quality = 90, .horizontal = 1, .vertical = 1},
        {.height = 24, .width = 192, .components = 3, .quality = 90, .horizontal = 1, .vertical = 1},
    };
    for (int i = 0; i < 6; i++) {
        uint8_t* bytes = make_jpeg(&kinds[i], &count);
        put_file(bytes, count, "%s/train/c/%d.jpg", folder, i);
        free(bytes);
    }
    put_turned(folder, "train/c/8.jpg", true);
    put_turned(folder, "train/c/9.jpg", false);
#ifdef HAVE_PNG
    uint8_t* png = make_png(&(PngKind){30, 20, PNG_COLOR_TYPE_RGB_ALPHA, 8, false}, &count);
    put_file(png, count, "%s/train/c/6.JPEG", folder);
    put_file(png, count, "%s/train/c/7.png", folder);
    free(png);
#endif
    put_jpeg(folder, "val/c/0.jpg", 0);
}

static void test_side(void) {
    char folder[256], output[300];
    ConvertOptions o = convert_defaults();
    snprintf(folder, sizeof folder, "%.200s/kinds", test_folder);
    put_kinds(folder);
    snprintf(output, sizeof output, "%.200s/side", test_folder);
    o.side = 20;
    o.quality = 80;
    CHECK(run_folder(folder, output, &o), "a shorter side: %s", convert_error.text);
    expect_said("CMYK: 1\n  train/c/4.jpg\n");
    expect_said("extreme shape: 1\n  train/c/5.jpg (192 x 24)\n");
    expect_said("progressive: 1\n");
    expect_said("with an EXIF orientation, which is not followed: 1\n");
    Dataset d = open_split(output, "train");
    expect_jpeg(&d, 0, 20, 30, 3, "a large one");
    expect_jpeg(&d, 1, 30, 20, 1, "a grey one");
    expect_jpeg(&d, 2, 20, 61, 3, "a small one");
    expect_jpeg(&d, 3, 20, 30, 3, "a progressive one");
    expect_jpeg(&d, 4, 20, 20, 3, "a CMYK one");
    expect_jpeg(&d, 5, 20, 160, 3, "a wide one");
    char file[400];
    snprintf(file, sizeof file, "%s/train/c/2.jpg", folder);
    expect_record(&d, 2, "c/2.jpg", file, "c");
    CHECK(d.shards->header->side == 20 && d.shards->header->quality == 80
          && strstr(d.shards->header->encoder, "quality 80"), "the index tells what was done: %s",
          d.shards->header->encoder);
#ifdef HAVE_PNG
    expect_said("PNG under a JPEG's name: 1\n  train/c/6.JPEG\n");
    expect_jpeg(&d, 6, 30, 20, 3, "a PNG");
    expect_jpeg(&d, 7, 30, 20, 3, "a PNG");
#endif
    dataset_free(&d);
    test_moments(output);
}

// ---- for other readers

static void test_webdataset(void) {
    char folder[256], output[256], file[800];
    size_t count = 0;
    ConvertOptions o = convert_defaults();
    snprintf(folder, sizeof folder, "%.200s/kinds", test_folder);
    snprintf(output, sizeof output, "%.200s/webdataset", test_folder);
    o.webdataset = 1;
    CHECK(run_folder(folder, output, &o), "members .cls: %s", convert_error.text);
    snprintf(file, sizeof file, "tar tf '%s/train-000000.tar' >'%s/list' 2>&1", output, output);
    if (system(file) == 0) {
        snprintf(file, sizeof file, "%s/list", output);
        char* text = (char*)read_file(file, &count);
        text[count] = 0;
        CHECK(strncmp(text, "c/0.jpg\nc/0.cls\nc/1.jpg\nc/1.cls\n", 32) == 0, "tar lists it: %s", text);
        free(text);
    }
    snprintf(file, sizeof file, "%s/_info.json", output);
    char* text = (char*)read_file(file, &count);
    text[count] = 0;
    CHECK(strstr(text, "\"validation\": {\"name\": \"validation\", \"num_samples\": 1, \"filenames\": "
                 "[\"val-000000.tar\"], \"shard_lengths\": [1]}"), "%s", text);
    free(text);
}

// ---- refusals

static void test_refusals(const char* input, const char* right) {
    char folder[256], output[300];
    ConvertOptions o = convert_defaults();
    snprintf(folder, sizeof folder, "%.200s/kinds", test_folder);
    expect_refusal(run_folder(folder, right, &o), "set.txt tells of another set: there it is 'name tree', and now "
                   "'name kinds'", "another set's folder");
    o.side = 100;
    expect_refusal(run_folder(input, right, &o), "there it is 'side 0', and now 'side 100'", "another side");
    o.side = 0;
    o.split = 0.5;
    expect_refusal(run_folder(input, right, &o), "leave --split out", "a split of what is split");
    snprintf(folder, sizeof folder, "%.200s/odd", test_folder);
    snprintf(output, sizeof output, "%.200s/none", test_folder);
    o.split = 0;
    expect_refusal(run_folder(folder, output, &o), "--split 0.1", "classes without a split");
    expect_refusal(run_folder("/nowhere", output, &o), "/nowhere is no folder", "no folder");
    snprintf(folder, sizeof folder, "%.200s/empty", test_folder);
    put_file("", 0, "%s/train/c/none.txt", folder);
    put_file("", 0, "%s/val/c/none.txt", folder);
    expect_refusal(run_folder(folder, output, &o), "no file in its folders ends in .jpg, .jpeg or .png", "no images");
    put_jpeg(folder, "train/c/a.jpg", 1);
    put_jpeg(folder, "val/c/a.jpg", 1);
    put_jpeg(folder, "val/other/a.jpg", 1);
    expect_refusal(run_folder(folder, output, &o), "val/other is no class for training",
                   "a class for validation alone");
    CHECK(!path_exists(output), "nothing is made then");
    expect_refusal(run_folder(input, in_folder("tree/train/c00/../new/out"), &o), "whose folders are the classes",
                   "a folder among the classes");
    expect_refusal(run_folder(input, in_folder("tree/train/out"), &o), "whose folders are the classes",
                   "a folder among the classes");
    put_file("", 0, "%s", in_folder("plain"));
    expect_refusal(run_folder(input, in_folder("plain"), &o), "it is not a folder", "a file for output");
    put_file("", 0, "%s/x.tar", output);
    expect_refusal(run_folder(input, output, &o), "holds another set already (x.tar)", "a folder with tars");
    int lock = folder_lock(output, &convert_error);
    expect_refusal(run_folder(input, output, &o), "is in use by process", "a folder in use");
    close(lock);
}

int main(void) {
    char tree[256], right[256];
    open_test_folder();
    snprintf(tree, sizeof tree, "%.200s/tree", test_folder);
    snprintf(right, sizeof right, "%.200s/workers1", test_folder);
    make_tree(tree, 20, 3, 1);
    test_odd_tree();
    test_numbers();
    test_workers(tree, right);
    test_moments(right);
    test_kills(tree, right);
    test_stop(tree, right);
    test_full_disk(tree, right);
    test_parts();
    test_damage();
    test_side();
    test_webdataset();
    test_refusals(tree, right);
    remove_test_folder();
    return tests_finish();
}
#endif
