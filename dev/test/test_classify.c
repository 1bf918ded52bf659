// --classify: image files by themselves come out as an evaluation's loader makes them, byte for byte; and the trainer
// as a process names their classes, with the probabilities that the loss of --eval has, and says what it cannot read.
#include "../../data/loader.h"
#include "../../data/open.h"
#include "../../data/photo.h"
#include "../../data/picture.h"
#include "encoded_set.h"
#include "trainer_process.h"

#ifdef HAVE_CJSON
enum { READS_CHECKPOINTS = 1 };
#else
enum { READS_CHECKPOINTS = 0 };
#endif

#ifdef HAVE_JPEG
enum { IMAGES = 24 };

static void name_classes(uint8_t* index) {
    static const char* const names[] = {"hen", "tench\twater", "n00000002"}; // a tab; no other name than its id
    for (int k = 0; k < ENCODED_CLASSES; k++) {
        snprintf(shard_index_class_names(index)[k], CLASS_NAME_BYTES, "%s", names[k]);
    }
}

// The encoded data set, and photos/NN.jpg, the files of its images for evaluation
static void make_files(void) {
    Dataset train, test;
    Error err;
    char path[600];
    make_encoded_split(test_folder, "train", 0, IMAGES);
    make_encoded_split(test_folder, "val", IMAGES, IMAGES);
    change_index(in_folder("train.index"), name_classes);
    change_index(in_folder("val.index"), name_classes);
    mkdir(in_folder("photos"), 0777);
    if (!dataset_open(&train, &test, test_folder, false, &err)) { fail(1, "%s", err.text); }
    for (int i = 0; i < IMAGES; i++) {
        uint8_t* bytes = malloc(test.shards->records[i].bytes);
        if (!shard_record_read(&test, i, bytes, &err)) { fail(1, "%s", err.text); }
        snprintf(path, sizeof path, "%s/photos/%02d.jpg", test_folder, i);
        write_file(path, bytes, test.shards->records[i].bytes);
        free(bytes);
    }
    dataset_free(&train);
    dataset_free(&test);
}

// ---- pixels

static void test_pixels(int image_size, float crop_pct, Interpolation interpolation) {
    Dataset train, test;
    Loader loader;
    PhotoReader reader;
    Error err;
    char path[600];
    if (!dataset_open(&train, &test, test_folder, false, &err)) { fail(1, "%s", err.text); }
    LoaderConfig config = loader_defaults(&test, 5, image_size, false, 1);
    config.crop_pct = crop_pct;
    config.eval_interpolation = interpolation;
    bool ok = loader_open(&loader, &test, &config, &err) && photo_reader_open(&reader, &config, &err);
    if (!CHECK(ok, "%s", err.text)) { return; }
    const Batch* batch = NULL;
    size_t pixels = (size_t)3 * image_size * image_size;
    for (int i = 0; i < IMAGES; i++) {
        if (i % 5 == 0) { batch = loader_next(&loader); }
        snprintf(path, sizeof path, "%s/photos/%02d.jpg", test_folder, i);
        const Batch* photo = photo_read(&reader, path, &err);
        bool same = photo && photo->count == 1 &&
                    memcmp(photo->images, batch->images + i % 5 * pixels, pixels * sizeof(float)) == 0;
        CHECK(same, "image %d at %d, crop %g: %s", i, image_size, (double)crop_pct, photo ? "other pixels" : err.text);
    }
    loader_close(&loader);
    photo_reader_close(&reader);
    dataset_free(&train);
    dataset_free(&test);
}

// ---- what is printed

typedef struct { double percent; char name[64]; } Named;

// Of one file, in the last output; how many
static int named_of(const char* file, Named named[8]) {
    const char* at = strstr(output, file);
    int count = 0;
    if (at) { at = strchr(at, '\n'); }
    while (at && count < 8 && sscanf(at, "\n %lf %% %63[^\n]", &named[count].percent, named[count].name) == 2) {
        count++;
        at = strchr(at + 1, '\n');
    }
    return count;
}

static void train_model(void) {
    RUN(0, "best top-1", "--data . --model vit-mini --dim 16 --heads 1 --depth 1 --mlp-ratio 2 --image-size 16 "
        "--batch-size 6 --steps 150 --lr 1e-2 --warmup-epochs 0 --crop-pct 0.8 --interpolation bilinear --output run");
}

// Of each file's class: the logarithm of its probability is the loss of --eval.
static void test_probabilities(void) {
    Named named[8], whole[8];
    double sum = 0, loss = -1, of_label = -1;
    RUN(0, "top-1", "--data . --eval run/last.safetensors --test-images 1");
    const char* at = strstr(output, "| loss ");
    if (at) { sscanf(at, "| loss %lf", &loss); }
    RUN(0, "photos/00.jpg", "--init-from run/last.safetensors --classify photos/00.jpg");
    int count = named_of("photos/00.jpg", named);
    CHECK(count == ENCODED_CLASSES, "%d classes", count);
    for (int i = 0; i < count; i++) {
        sum += named[i].percent;
        CHECK(i == 0 || named[i].percent <= named[i - 1].percent, "the likeliest first:\n%s", output);
        if (strcmp(named[i].name, "hen (n00000000)") == 0) { of_label = named[i].percent; } // image 0 has label 0
    }
    CHECK_NEAR(sum, 100, 0.02, "the sum of all, in percent");
    CHECK_NEAR(of_label, 100 * exp(-loss), 0.012, "the probability of the label, in percent");
    CHECK(said("%  tench?water (n00000001)\n") && said("%  n00000002\n"), "names and ids:\n%s", output);
    RUN(0, "photos/00.jpg", "--init-from run/last.safetensors --classify photos/00.jpg --crop-pct 1");
    bool other = named_of("photos/00.jpg", whole) == count && whole[0].percent != named[0].percent;
    CHECK(other, "--crop-pct wins:\n%s", output);
}

// A PNG of its pixels, with a JPEG's name, is the same image.
static void test_png(void) {
#ifdef HAVE_PNG
    PhotoReader reader;
    Error err;
    LoaderConfig config = {.batch_size = 1, .image_size = 16, .num_classes = 1, .std = {1, 1, 1}, .crop_pct = 1,
                           .augment = augment_none()};
    char jpeg[4000];
    RUN(0, "photos/07.jpg", "--init-from run/last.safetensors --classify photos/07.jpg");
    snprintf(jpeg, sizeof jpeg, "%s", strchr(output, '\n') ? strchr(output, '\n') : "");
    bool ok = photo_reader_open(&reader, &config, &err) && photo_decode(&reader, in_folder("photos/07.jpg"), &err);
    if (!CHECK(ok, "%s", err.text)) { return; }
    Picture picture = picture_create(reader.set.height, reader.set.width, 0);
    size_t plane = (size_t)picture.height * picture.width;
    for (size_t i = 0; i < 3 * plane; i++) { picture.pixels[i] = reader.set.images[i % 3 * plane + i / 3]; }
    CHECK(picture_write(in_folder("as.jpg"), &picture, &err), "%s", err.text);
    RUN(0, "as.jpg", "--init-from run/last.safetensors --classify as.jpg");
    CHECK(strchr(output, '\n') && strcmp(strchr(output, '\n'), jpeg) == 0, "PNG:%sJPEG:%s", output, jpeg);
    picture_free(&picture);
    photo_reader_close(&reader);
#endif
}

// ---- lists, folders, files that cannot be read

static bool in_order(const char* first, const char* second) {
    const char* at = strstr(output, first);
    return at && strstr(at, second);
}

static void test_lists(void) {
    Named named[8];
    RUN(0, "photos/05.jpg", "-k 1 --classify photos/09.jpg photos/05.jpg --threads 1 --init-from run/last.safetensors");
    CHECK(in_order("photos/09.jpg\n", "photos/05.jpg\n") && named_of("05.jpg", named) == 1, "as given:\n%s", output);
    RUN(0, "photos/05.jpg", "--classify=photos/09.jpg photos/05.jpg -k=2 --eval run/last.safetensors");
    CHECK(named_of("09.jpg", named) == 2 && named_of("05.jpg", named) == 2, "behind a =:\n%s", output);
    RUN(0, "photos/00.jpg", "--initial-checkpoint run/last.safetensors --topk 1 --classify photos/");
    bool sorted = in_order("photos/00.jpg\n", "photos/23.jpg\n") && in_order("photos/08.jpg\n", "photos/09.jpg\n");
    CHECK(sorted && !said("//"), "a folder in order:\n%s", output);
}

static void test_folders(void) {
    size_t count;
    uint8_t* jpeg = read_file(in_folder("photos/01.jpg"), &count);
    mkdir(in_folder("mixed"), 0777);
    mkdir(in_folder("mixed/folder.jpg"), 0777);
    mkdir(in_folder("empty"), 0777);
    write_file(in_folder("mixed/b.JPEG"), jpeg, count);
    write_file(in_folder("mixed/a.png"), jpeg, count); // by content
    write_file(in_folder("mixed/.hidden.jpg"), "x", 1);
    write_file(in_folder("mixed/notes.txt"), "x", 1);
    RUN(0, "mixed/a.png", "--init-from run/last.safetensors --classify mixed");
    bool others = said("hidden") || said("notes") || said("folder");
    CHECK(in_order("mixed/a.png\n", "mixed/b.JPEG\n") && !others, "%s", output);
    write_file(in_folder("mixed/c.jpg"), jpeg, count / 2);
    RUN(1, "error: mixed/c.jpg ", "--init-from run/last.safetensors --classify mixed photos/02.jpg");
    CHECK(in_order("mixed/c.jpg", "photos/02.jpg\n"), "the others go on:\n%s", output);
    RUN(1, "error: empty holds no file", "--init-from run/last.safetensors --classify empty");
    free(jpeg);
}

static void test_unreadable(void) {
    static const char flags[] = "--init-from run/last.safetensors --classify";
    write_file(in_folder("photo.gif"), "GIF89a", 6);
    write_file(in_folder("nothing.jpg"), "", 0);
    mkfifo(in_folder("pipe.jpg"), 0666);
    RUN(1, "error: absent.jpg cannot be opened", "%s absent.jpg photos/03.jpg", flags);
    CHECK(said("photos/03.jpg\n"), "the others go on:\n%s", output);
    RUN(1, "error: photo.gif is a GIF image", "%s photo.gif nothing.jpg pipe.jpg", flags);
    CHECK(said("nothing.jpg is empty") && said("pipe.jpg is not a regular file"), "%s", output);
}

// ---- another program's file: without the mark nothing that it says is believed

static void test_foreign(void) {
    size_t count;
    Named ours[8], theirs[8];
    char flags[] = "--crop-pct 0.8 --interpolation bilinear --init-from foreign.safetensors --classify photos/00.jpg";
    uint8_t* bytes = read_file(in_folder("run/last.safetensors"), &count);
    char* mark = strstr((char*)bytes + 8, "\"kat.c\""); // in the header, behind its length
    if (!CHECK(mark != NULL, "the checkpoint has no mark")) { return; }
    mark[5] = 'x';
    write_file(in_folder("foreign.safetensors"), bytes, count);
    free(bytes);
    RUN(2, "does not say how its images", "%s", flags);
    RUN(0, "%  class 0\n", "%s --normalize half", flags);
    RUN(0, "photos/00.jpg", "--init-from run/last.safetensors --classify photos/00.jpg");
    named_of("photos/00.jpg", ours);
    RUN(0, "photos/00.jpg", "%s --data .", flags);
    bool same = named_of("photos/00.jpg", theirs) == ENCODED_CLASSES;
    for (int i = 0; i < ENCODED_CLASSES && same; i++) {
        same = ours[i].percent == theirs[i].percent && strcmp(ours[i].name, theirs[i].name) == 0;
    }
    CHECK(same, "names and normalisation of the data:\n%s", output);
    RUN(1, "absent", "%s --data absent", flags);
    RUN(0, "hen (n00000000)", "--data absent --init-from run/last.safetensors --classify photos/00.jpg"); // not needed
}

static void test_command_line(void) {
    RUN(2, "--classify needs a value", "--classify");
    RUN(2, "--classify needs a value", "--classify -k 3");
    RUN(2, "--classify needs a model", "--classify photos/00.jpg");
    RUN(2, "one model", "--classify photos/00.jpg --eval run/last.safetensors --init-from run/last.safetensors");
    RUN(2, "leave --profile out", "--classify photos/00.jpg --init-from run/last.safetensors --profile 2");
    RUN(2, "leave --resume out", "--classify photos/00.jpg --init-from run/last.safetensors --resume run");
    RUN(2, "--topk 0 is out of range", "--classify photos/00.jpg --init-from run/last.safetensors -k 0");
    RUN(2, "unknown option -q", "-q 3");
    RUN(2, "'-kk' is not an option", "-kk 3");
    RUN(1, "absent.safetensors", "--classify photos/00.jpg --init-from absent.safetensors");
    RUN(1, "photos/00.jpg", "--classify photos/00.jpg --init-from photos/00.jpg");
}

static void test_runs(void) {
    train_model();
    test_probabilities();
    test_png();
    test_lists();
    test_folders();
    test_unreadable();
    test_foreign();
    test_command_line();
}
#endif

int main(void) {
#ifdef HAVE_JPEG
    find_trainer();
    open_test_folder();
    make_files();
    test_pixels(16, 1, INTERPOLATE_BICUBIC);
    test_pixels(24, 0.8f, INTERPOLATE_BILINEAR);
    test_pixels(64, 0.875f, INTERPOLATE_BICUBIC);
    if (READS_CHECKPOINTS) { test_runs(); }
    remove_test_folder();
#endif
    return tests_finish();
}
