// make bench-data: the speed of one core on encoded images, stage by stage, beside libjpeg-turbo's own decoding of the
// same files, all in one run. Each round takes all images through one stage after the other (a processor remembers the
// branches of an image that it has just decoded); the tables show medians over the rounds: of a core's milliseconds per
// image, and of their ratio to libjpeg's own loop in the same round.
//
//     ./bench_data [--data FOLDER] [--images N] [--rounds N] [--size S]
//
// FOLDER has a train.index, as written by ./convert_data: N of its JPEGs are used, evenly spaced. Without one, images
// are made here, like ImageNet's (500 x 375, quality 96, 4:4:4, about 100 KB) and like its shards with a shorter side
// of 256 (quality 90, 4:2:0, 28 KB). Boxes are those of RandomResizedCrop, different ones in each round.
#pragma GCC diagnostic ignored "-Wunused-function" // all but those that make images
#include "../../data/batch.h"
#include "median.h"
#include "photos.h"
#include <time.h>

#ifdef HAVE_JPEG
enum { MOST_IMAGES = 1024, SHORTER_SIDE = 256, PHOTO_LONG = 500, PHOTO_SHORT = 375 };

typedef struct { // one set of images, and the stages' buffers
    Dataset data;
    int count;
    int image[MOST_IMAGES];              // its index in the data set
    uint8_t* file[MOST_IMAGES];
    size_t bytes[MOST_IMAGES];
    ImageInfo info[MOST_IMAGES];
    ImageDraw train[MOST_IMAGES], eval[MOST_IMAGES]; // of this round
    BatchPlan plan;
    ImageMaker maker;
    struct jpeg_decompress_struct jpeg;  // of libjpeg's own loops
    struct jpeg_error_mgr errors;
    uint8_t *pixels, *rows;              // (3, height, width) of the largest; interleaved
    uint8_t* levels;                     // (3, S, S), the result
    float* out;                          // (3, S, S)
} Bench;

// ---- the stages, of image i

static void read_file(Bench* b, int i) {
    Error err;
    if (!shard_record_read(&b->data, b->image[i], b->file[i], &err)) { fail(EXIT_RUN_TIME, "a file %s", err.text); }
}

static void read_header(Bench* b, int i) {
    Error err;
    if (!image_info(&b->info[i], b->file[i], b->bytes[i], &err)) { fail(EXIT_RUN_TIME, "a file %s", err.text); }
}

// The entropy code, into memory for all coefficients
static void libjpeg_coefficients(Bench* b, int i) {
    jpeg_mem_src(&b->jpeg, b->file[i], b->bytes[i]);
    jpeg_read_header(&b->jpeg, TRUE);
    jpeg_read_coefficients(&b->jpeg);
    jpeg_abort_decompress(&b->jpeg);
}

// As a plain program calls libjpeg: pixels interleaved, one object for all files
static void libjpeg_rows(Bench* b, int height) {
    size_t row_bytes = (size_t)b->jpeg.output_width * b->jpeg.output_components;
    for (int y = 0; y < height;) {
        JSAMPROW rows[JPEG_ROWS];
        for (int k = 0; k < JPEG_ROWS; k++) { rows[k] = b->rows + (size_t)(y + k) * row_bytes; }
        y += (int)jpeg_read_scanlines(&b->jpeg, rows, (JDIMENSION)(height - y < JPEG_ROWS ? height - y : JPEG_ROWS));
    }
}

static void libjpeg_whole(Bench* b, int i) {
    jpeg_mem_src(&b->jpeg, b->file[i], b->bytes[i]);
    jpeg_read_header(&b->jpeg, TRUE);
    jpeg_start_decompress(&b->jpeg);
    libjpeg_rows(b, (int)b->jpeg.output_height);
    jpeg_finish_decompress(&b->jpeg);
}

static void libjpeg_box(Bench* b, int i) {
    Crop box = b->train[i].box;
    JDIMENSION left = (JDIMENSION)box.left, width = (JDIMENSION)box.width;
    jpeg_mem_src(&b->jpeg, b->file[i], b->bytes[i]);
    jpeg_read_header(&b->jpeg, TRUE);
    jpeg_start_decompress(&b->jpeg);
    jpeg_crop_scanline(&b->jpeg, &left, &width);
    jpeg_skip_scanlines(&b->jpeg, (JDIMENSION)box.top);
    libjpeg_rows(b, box.height);
    jpeg_abort_decompress(&b->jpeg);
}

static void decode(Bench* b, int i, Crop box) {
    Error err;
    bool ok = decode_box(b->maker.reader.decoder, b->file[i], b->bytes[i], box, b->pixels, &err);
    if (!ok) { fail(EXIT_RUN_TIME, "a file %s", err.text); }
}

static void decode_whole(Bench* b, int i) {
    read_header(b, i);
    decode(b, i, whole_image(b->info[i]));
}

static void decode_drawn(Bench* b, int i) { decode(b, i, b->train[i].box); }

static void decode_and_resize(Bench* b, int i, ResampleFilter filter) {
    Crop box = b->train[i].box;
    int S = b->plan.config.image_size;
    ImageView view = view_of(b->pixels, 3, box.height, box.width);
    decode(b, i, box);
    void* scratch = room_for(&b->maker.tables, resample_scratch(box.height, box.width, S, S), "resize tables");
    resample(room_for(&b->maker.resized, (size_t)3 * S * S, "an image"), view, view_box(view), S, S, filter, scratch);
}

static void box_bilinear(Bench* b, int i) { decode_and_resize(b, i, FILTER_BILINEAR); }
static void box_bicubic(Bench* b, int i) { decode_and_resize(b, i, FILTER_BICUBIC); }

static void make(Bench* b, const ImageDraw* draw) {
    Error err;
    const LoaderConfig* c = &b->plan.config;
    if (!make_levels(b->levels, &b->plan, draw, &b->maker, &err)) { fail(EXIT_RUN_TIME, "an image %s", err.text); }
    normalise(b->out, b->levels, c->image_size, c->mean, c->std);
    erase_boxes(b->out, c->image_size, c->image_size, &draw->erased);
}

static void training(Bench* b, int i) { make(b, &b->train[i]); }
static void evaluation(Bench* b, int i) { make(b, &b->eval[i]); }

typedef struct {
    const char* name;
    void (*run)(Bench*, int image);
    int base; // the stage that its time is compared with
} Stage;

enum { LIBJPEG_WHOLE = 3, LIBJPEG_BOX = 5, STAGES = 11 };
static const Stage stages[STAGES] = {
    {"the file, read", read_file, LIBJPEG_WHOLE},
    {"header", read_header, LIBJPEG_WHOLE},
    {"libjpeg, coefficients alone", libjpeg_coefficients, LIBJPEG_WHOLE},
    {"libjpeg, whole, interleaved", libjpeg_whole, LIBJPEG_WHOLE},
    {"whole, planar", decode_whole, LIBJPEG_WHOLE},
    {"libjpeg, box, interleaved", libjpeg_box, LIBJPEG_BOX},
    {"box, planar", decode_drawn, LIBJPEG_BOX},
    {"box, resized, bilinear", box_bilinear, LIBJPEG_WHOLE},
    {"box, resized, bicubic", box_bicubic, LIBJPEG_WHOLE},
    {"training, all of it", training, LIBJPEG_WHOLE},
    {"evaluation, all of it", evaluation, LIBJPEG_WHOLE},
};

// ---- images made here

// Resizes a photo to a shorter side, as for shards.
static ImageView smaller(ImageView in, Room* pixels, Room* tables) {
    Crop size = shorter_side(in.height, in.width, SHORTER_SIDE);
    uint8_t* out = room_for(pixels, (size_t)3 * size.height * size.width, "an image");
    void* scratch = room_for(tables, resample_scratch(in.height, in.width, size.height, size.width), "resize tables");
    resample(out, in, view_box(in), size.height, size.width, FILTER_BICUBIC, scratch);
    return view_of(out, 3, size.height, size.width);
}

// Image i of a new set, at the end of its only shard
static void add_photo(FILE* shard, uint8_t* index, int i, bool small) {
    int height = i % 4 == 3 ? PHOTO_LONG : PHOTO_SHORT, width = i % 4 == 3 ? PHOTO_SHORT : PHOTO_LONG;
    Room pixels = {0}, reduced = {0}, tables = {0};
    JpegBuffer file = {0};
    Error err;
    ImageView view = view_of(room_for(&pixels, (size_t)3 * height * width, "an image"), 3, height, width);
    make_photo(pixels.bytes, height, width, (uint64_t)i * 100);
    if (small) { view = smaller(view, &reduced, &tables); }
    JpegOptions options = {.quality = small ? 90 : 96, .subsampled = small};
    if (!encode_jpeg(&file, view, options, &err)) { fail(EXIT_RUN_TIME, "a photo %s", err.text); }
    ShardRecord* r = &shard_index_records(index)[i];
    *r = (ShardRecord){.offset = (uint64_t)ftell(shard), .bytes = (uint32_t)file.count, .width = (uint16_t)view.width,
                       .height = (uint16_t)view.height};
#ifdef HAVE_ZLIB
    r->crc = (uint32_t)crc32(0, file.bytes, (uInt)file.count);
#endif
    fwrite(file.bytes, 1, file.count, shard);
    room_free(&pixels); room_free(&reduced); room_free(&tables);
    free(file.bytes);
}

// folder/train.index and its shard
static void make_photos(const char* folder, int count, bool small) {
    ShardIndexHeader header = {.count = (uint32_t)count, .classes = 1, .shards = 1, .mean = {0.5f, 0.5f, 0.5f},
                               .std = {0.25f, 0.25f, 0.25f}, .name = "photos"};
    char path[PATH_MAX];
    Error err;
    uint8_t* index = shard_index_create(header, &err);
    if (!index) { fail(EXIT_RUN_TIME, "%s", err.text); }
    snprintf(path, sizeof path, "%s/train.photos", folder);
    FILE* shard = fopen(path, "wb");
    for (int i = 0; shard && i < count; i++) { add_photo(shard, index, i, small); }
    ShardFile* file = shard_index_files(index);
    *file = (ShardFile){.name = "train.photos", .bytes = shard ? (uint64_t)ftell(shard) : 0};
    snprintf(path, sizeof path, "%s/train.index", folder);
    if (!shard || fclose(shard) != 0 || !shard_index_save(index, path, &err)) {
        fail(EXIT_RUN_TIME, "cannot write %s/train.photos: %s", folder, strerror(errno));
    }
    free(index);
}

// ---- a run

// Chooses N decodable JPEGs, evenly spaced in the set.
static void choose(Bench* b, int wanted) {
    size_t largest = 0;
    Error err;
    Decoder* d = b->maker.reader.decoder = decoder_create();
    for (int k = 0; k < wanted && k < b->data.count; k++) {
        int image = (int)((int64_t)k * b->data.count / (wanted < b->data.count ? wanted : b->data.count)), i = b->count;
        b->image[i] = image;
        b->bytes[i] = b->data.shards->records[image].bytes;
        b->file[i] = alloc_array(uint8_t, b->bytes[i], "a file");
        bool ok = shard_record_read(&b->data, image, b->file[i], &err)
            && image_info(&b->info[i], b->file[i], b->bytes[i], &err) && b->info[i].format == IMAGE_JPEG;
        size_t pixels = ok ? (size_t)b->info[i].height * b->info[i].width : 0;
        uint8_t* out = room_for(&b->maker.resized, 3 * pixels, "an image");
        if (!ok || !decode_box(d, b->file[i], b->bytes[i], whole_image(b->info[i]), out, &err)) {
            free(b->file[i]);
            continue;
        }
        largest = pixels > largest ? pixels : largest;
        b->count++;
    }
    if (!b->count) { fail(EXIT_RUN_TIME, "there is no JPEG among the images: give another set"); }
    b->pixels = alloc_array(uint8_t, 3 * largest, "an image");
    b->rows = alloc_array(uint8_t, 4 * largest + (4 * JPEG_ROWS * MAX_IMAGE_SIDE), "an image");
}

static void bench_open(Bench* b, const char* index, int images, int S) {
    Error err;
    if (!shards_load(&b->data, index, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    b->plan = (BatchPlan){&b->data, loader_defaults(&b->data, 1, S, true, 1), b->data.count};
    b->plan.config.augment.random_resized_crop = true;
    b->plan.config.augment.flip = 0.5f;
    b->plan.config.crop_pct = 0.875f;
    b->levels = alloc_array(uint8_t, (size_t)3 * S * S, "an image");
    b->out = alloc_floats((size_t)3 * S * S, "an image");
    b->jpeg.err = jpeg_std_error(&b->errors);
    jpeg_create_decompress(&b->jpeg);
    choose(b, images);
}

static void bench_close(Bench* b) {
    for (int i = 0; i < b->count; i++) { free(b->file[i]); }
    jpeg_destroy_decompress(&b->jpeg);
    image_maker_free(&b->maker);
    free(b->pixels); free(b->rows); free(b->levels); free(b->out);
    dataset_free(&b->data);
    memset(b, 0, sizeof *b);
}

static void draw(Bench* b, uint32_t round) {
    const LoaderConfig* c = &b->plan.config;
    for (int i = 0; i < b->count; i++) {
        int height = b->info[i].height, width = b->info[i].width;
        ImageKey key = {c->seed, (uint64_t)b->image[i], round};
        Resize resize = resize_and_crop(height, width, c->image_size, c->crop_pct);
        b->train[i] = draw_train_image(&c->augment, b->image[i], key, height, width, c->image_size);
        b->eval[i] = draw_eval_image(b->image[i], height, width, resize, FILTER_BICUBIC);
    }
}

static double core_seconds(void) { // used by this thread: others may share the core
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void describe(const Bench* b, const char* what, int rounds) {
    double bytes = 0, pixels = 0;
    for (int i = 0; i < b->count; i++) {
        bytes += (double)b->bytes[i] / b->count;
        pixels += (double)b->info[i].height * b->info[i].width / b->count;
    }
    printf("\n%s: %d images, on average %.1f KB and %.3f million pixels; to %d; %d rounds\n\n", what, b->count,
           1e-3 * bytes, 1e-6 * pixels, b->plan.config.image_size, rounds);
}

static void run(Bench* b, const char* what, int rounds) {
    static double ms[STAGES][MEDIAN_VALUES], ratio[STAGES][MEDIAN_VALUES];
    describe(b, what, rounds);
    for (int round = -1; round < rounds; round++) { // round -1 warms up and is overwritten
        int slot = round < 0 ? 0 : round;
        draw(b, (uint32_t)slot);
        for (int s = 0; s < STAGES; s++) {
            double start = core_seconds();
            for (int i = 0; i < b->count; i++) { stages[s].run(b, i); }
            ms[s][slot] = 1e3 * (core_seconds() - start) / b->count;
        }
        for (int s = 0; s < STAGES; s++) { ratio[s][slot] = ms[s][slot] / ms[stages[s].base][slot]; }
    }
    printf("%-30s %9s %11s %9s\n", "", "ms", "images/s", "ratio");
    for (int s = 0; s < STAGES; s++) {
        double median_ms = median(ms[s], rounds);
        printf("%-30s %9.3f %11.0f %9.3f %s\n", stages[s].name, median_ms, 1e3 / median_ms, median(ratio[s], rounds),
               stages[s].base == LIBJPEG_BOX ? "of libjpeg's box" : "of libjpeg's whole");
    }
}

static void run_photos(Bench* b, int images, int rounds, int S) {
    static const char* const names[] = {"as ImageNet's", "as shards of a shorter side of 256"};
    char folder[] = "/tmp/kat-bench-data-XXXXXX", index[64], shard[64];
    if (!mkdtemp(folder)) { fail(EXIT_RUN_TIME, "cannot make a folder in /tmp: %s", strerror(errno)); }
    snprintf(index, sizeof index, "%s/train.index", folder);
    snprintf(shard, sizeof shard, "%s/train.photos", folder);
    for (int small = 0; small < 2; small++) {
        make_photos(folder, images, small);
        bench_open(b, index, images, S);
        run(b, names[small], rounds);
        bench_close(b);
        unlink(index);
        unlink(shard);
    }
    rmdir(folder);
}

static int number(const char* word, const char* value, int most) {
    int n = value ? atoi(value) : 0;
    if (n < 1 || n > most) { fail(EXIT_USAGE, "%s is 1 to %d", word, most); }
    return n;
}

int main(int argc, char** argv) {
    static Bench b;
    const char* folder = NULL;
    int images = 48, rounds = 15, S = 224;
    for (int i = 1; i < argc; i += 2) {
        const char *word = argv[i], *value = argv[i + 1];
        if (strcmp(word, "--data") == 0 && value) { folder = value; }
        else if (strcmp(word, "--images") == 0) { images = number(word, value, MOST_IMAGES); }
        else if (strcmp(word, "--rounds") == 0) { rounds = number(word, value, MEDIAN_VALUES); }
        else if (strcmp(word, "--size") == 0) { S = number(word, value, 1024); }
        else { fail(EXIT_USAGE, "%s [--data FOLDER] [--images N] [--rounds N] [--size S]", argv[0]); }
    }
    printf("one thread, %s\n", JPEG_LIBRARY);
    if (folder) {
        char index[PATH_MAX];
        snprintf(index, sizeof index, "%.4000s/train.index", folder);
        bench_open(&b, index, images, S);
        run(&b, folder, rounds);
        bench_close(&b);
    } else {
        run_photos(&b, images, rounds, S);
    }
    return 0;
}
#else
int main(void) {
    fail(EXIT_RUN_TIME, "no JPEG files without libjpeg: install libjpeg-dev (libjpeg-turbo), and build again");
}
#endif
