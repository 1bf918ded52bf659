// data/decode.h against Pillow (decode_fixtures.txt) and against itself: boxes are parts of the whole, truncated and
// damaged files come back as sentences, nothing depends on what was decoded before. And data/jpeg_file.h's writing.
#include "../../data/decode.h"
#include "../../runtime/random.h"
#include "image_files.h"
#include "test_files.h"

#ifdef REDUCED
enum { BOXES = 3, DAMAGES = 40 };
#else
enum { BOXES = 30, DAMAGES = 400 };
#endif

static int random_to(int most) { // 0..most
    static uint64_t draw;
    return (int)random_below((uint32_t)most + 1, random_bits(7, STREAM_CHECK, 0, draw++).word[0]);
}

// The whole image, planar; the caller frees it. NULL: refused, and err says why. The bytes end where their memory does.
static uint8_t* decoded(ImageInfo* info, const uint8_t* file, size_t count, Error* err) {
    uint8_t *bytes = malloc(count ? count : 1), *out = NULL;
    Decoder* d = decoder_create();
    memcpy(bytes, file, count);
    *err = (Error){""};
    bool ok = image_info(info, bytes, count, err);
    if (ok) {
        out = malloc((size_t)3 * info->height * info->width);
        ok = decode_box(d, bytes, count, whole_image(*info), out, err);
    }
    if (!ok) { CHECK(*err->text, "a refused file has a reason"); }
    decoder_free(d);
    free(bytes);
    if (ok) { return out; }
    free(out);
    return NULL;
}

// Rows of a box that are not the whole image's
static int other_rows(const uint8_t* part, Crop box, const uint8_t* whole, ImageInfo info) {
    int other = 0;
    for (int r = 0; r < 3 * box.height; r++) {
        int c = r / box.height, y = r % box.height;
        const uint8_t* want = whole + ((size_t)c * info.height + box.top + y) * info.width + box.left;
        other += memcmp(part + (size_t)r * box.width, want, (size_t)box.width) != 0;
    }
    return other;
}

static Crop random_crop(ImageInfo info, int most) {
    int height = 1 + random_to((info.height < most ? info.height : most) - 1);
    int width = 1 + random_to((info.width < most ? info.width : most) - 1);
    return (Crop){random_to(info.height - height), random_to(info.width - width), height, width};
}

static void check_boxes(Decoder* d, const uint8_t* file, size_t count, const char* name) {
    ImageInfo info;
    Error err;
    uint8_t* whole = decoded(&info, file, count, &err);
    if (!CHECK(whole, "%s: %s", name, err.text)) { return; }
    uint8_t* part = malloc((size_t)3 * info.height * info.width);
    for (int i = 0; i < BOXES; i++) {
        Crop box = random_crop(info, i % 2 ? 9 : MAX_IMAGE_SIDE);
        if (i == 0) { box = (Crop){0, 0, info.height, 1}; }
        if (i == 1) { box = (Crop){info.height - 1, info.width - 1, 1, 1}; }
        bool ok = decode_box(d, file, count, box, part, &err);
        CHECK(ok && other_rows(part, box, whole, info) == 0, "%s, %d x %d from (%d, %d) on, of %d x %d: %s", name,
              box.width, box.height, box.left, box.top, info.width, info.height,
              ok ? "not what the whole image has there" : err.text);
    }
    free(part);
    free(whole);
}

// ---- what Pillow has

typedef struct {
    char kind[32];
    uint8_t *file, *pixels; // (count), (3, height, width)
    size_t count;
    int height, width;
} Fixture;

static size_t read_hex(uint8_t* out, size_t stride, const char* text) {
    size_t count = 0;
    for (unsigned byte; sscanf(text, "%2x", &byte) == 1; text += 2) { out[stride * count++] = (uint8_t)byte; }
    return count;
}

// One case; false: there is none any more
static bool read_fixture(FILE* f, Fixture* x) {
    char *line = NULL, *row = malloc(1 << 16);
    size_t room = 0;
    *x = (Fixture){.height = -1};
    int y = 0;
    while (y != x->height && getline(&line, &room, f) > 0) {
        if (sscanf(line, "case %31s", x->kind) == 1) { continue; }
        if (strncmp(line, "file ", 5) == 0) {
            x->file = malloc(strlen(line));
            x->count = read_hex(x->file, 1, line + 5);
        } else if (sscanf(line, "out %d %d", &x->height, &x->width) == 2) {
            x->pixels = malloc((size_t)3 * x->height * x->width);
        } else if (x->pixels && read_hex((uint8_t*)row, 1, line) == (size_t)3 * x->width) {
            for (int k = 0; k < 3 * x->width; k++) {
                x->pixels[(k % 3 * x->height + y) * x->width + k / 3] = (uint8_t)row[k];
            }
            y++;
        }
    }
    free(row);
    free(line);
    return x->pixels && y == x->height;
}

static bool is_read(const uint8_t* file) {
#ifndef HAVE_JPEG
    if (file[0] == 0xff) { return false; }
#endif
#ifndef HAVE_PNG
    if (file[0] == 0x89) { return false; }
#endif
    (void)file;
    return true;
}

// Any shorter file is refused, or has all that is wanted.
static void check_cuts(const Fixture* x) {
    ImageInfo info;
    Error err;
    size_t rest = x->file[0] == 0x89 ? 12 : strcmp(x->kind, "trailing") == 0 ? 25 : 2; // behind the last byte of pixels
    for (size_t count = 0; count < x->count; count++) {
        uint8_t* pixels = decoded(&info, x->file, count, &err);
        if (count < x->count - rest) {
            CHECK(!pixels, "%s is not truncated at %zu of %zu bytes", x->kind, count, x->count);
        } else if (pixels) {
            CHECK(memcmp(pixels, x->pixels, (size_t)3 * x->height * x->width) == 0,
                  "%s is another image at %zu of %zu bytes", x->kind, count, x->count);
        }
        free(pixels);
    }
    free(decoded(&info, x->file, x->count * 2 / 3, &err));
    CHECK(strncmp(err.text, "is truncated", 12) == 0, "%s at two thirds: %s", x->kind, err.text);
}

static void test_fixtures(void) {
    FILE* f = fopen("dev/test/decode_fixtures.txt", "r");
    Decoder* d = decoder_create();
    Fixture x;
    int count = 0;
    for (; f && read_fixture(f, &x); count++) {
        ImageInfo info;
        Error err;
        uint8_t* pixels = decoded(&info, x.file, x.count, &err);
        if (is_read(x.file)) {
            CHECK(pixels && info.height == x.height && info.width == x.width
                  && memcmp(pixels, x.pixels, (size_t)3 * x.height * x.width) == 0, "%s: %s", x.kind,
                  pixels ? "not Pillow's pixels" : err.text);
            check_boxes(d, x.file, x.count, x.kind);
            check_cuts(&x);
        } else {
            CHECK(!pixels && strstr(err.text, "install lib"), "%s: no library is named: %s", x.kind, err.text);
        }
        free(pixels);
        free(x.file);
        free(x.pixels);
    }
    CHECK(count == 14, "14 cases, not %d", count);
    decoder_free(d);
    if (f) { fclose(f); }
}

static void test_foreign(void) {
    static const struct { const char* bytes; size_t count; const char* words; } cases[] = {
        {"", 0, "is empty"}, {"GIF89a..", 8, "a GIF image: convert it"}, {"RIFF....WEBPVP8 ", 16, "a WebP image"},
        {"\xff\xd8", 2, "neither"}, {"<html>", 6, "neither"}, {"\0\0\0\x1c" "ftypavif", 12, "an AVIF image"},
    };
    ImageInfo info;
    Error err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(!decoded(&info, (const uint8_t*)cases[i].bytes, cases[i].count, &err), "no image is read");
        CHECK(strstr(err.text, cases[i].words), "'%s' and not: %s", cases[i].words, err.text);
    }
}

#if defined HAVE_JPEG || defined HAVE_PNG
// Bytes of a good file changed: anything but a crash, a hang, or a refusal without a sentence
static void check_damages(const uint8_t* file, size_t count) {
    uint8_t* bytes = malloc(count);
    for (int i = 0; i < DAMAGES; i++) {
        ImageInfo info;
        Error err;
        memcpy(bytes, file, count);
        for (int k = 0; k <= i % 4; k++) { bytes[random_to((int)count - 1)] = (uint8_t)random_to(255); }
        free(decoded(&info, bytes, count, &err));
    }
    free(bytes);
}

static void check_refused(const uint8_t* file, size_t count, const char* words) {
    ImageInfo info;
    Error err;
    uint8_t* pixels = decoded(&info, file, count, &err);
    CHECK(!pixels && strstr(err.text, words), "'%s' and not: %s", words, pixels ? "it is read" : err.text);
    free(pixels);
}
#endif

#ifdef HAVE_JPEG
// Sampling X x Y of the first component; then more fields
#define KIND(HEIGHT, WIDTH, COMPONENTS, X, Y, ...) {.height = HEIGHT, .width = WIDTH, .components = COMPONENTS, \
                                                    .quality = 90, .horizontal = X, .vertical = Y, __VA_ARGS__}
#define PROGRESSIVE .progressive = true
static const JpegKind jpeg_kinds[] = {
    KIND(61, 77, 3, 1, 1), KIND(61, 77, 3, 2, 1), KIND(61, 77, 3, 2, 2), KIND(61, 77, 3, 1, 2), KIND(61, 77, 3, 4, 1),
    KIND(61, 77, 3, 4, 2), KIND(61, 77, 3, 1, 4), KIND(61, 77, 1, 1, 1), KIND(61, 77, 1, 2, 2), KIND(61, 77, 4, 1, 1),
    KIND(61, 77, 4, 2, 2), KIND(64, 48, 3, 2, 2, .restart = 3), KIND(33, 50, 3, 2, 2, .restart = 4, PROGRESSIVE),
    KIND(61, 77, 3, 2, 2, PROGRESSIVE), KIND(61, 77, 3, 1, 1, PROGRESSIVE), KIND(61, 77, 1, 1, 1, PROGRESSIVE),
    KIND(61, 77, 3, 2, 1, .optimized = true), KIND(9, 3, 3, 2, 2), KIND(7, 5, 3, 2, 2), KIND(1, 1, 3, 2, 2),
    KIND(300, 17, 3, 2, 2), KIND(17, 300, 3, 2, 1),
#ifdef C_ARITH_CODING_SUPPORTED
    KIND(61, 77, 3, 2, 2, .arithmetic = true), KIND(61, 77, 3, 2, 2, .arithmetic = true, PROGRESSIVE),
#endif
};

static void test_jpeg_boxes(void) {
    Decoder* d = decoder_create();
    for (size_t i = 0; i < sizeof jpeg_kinds / sizeof jpeg_kinds[0]; i++) {
        const JpegKind* kind = &jpeg_kinds[i];
        char name[100];
        size_t count;
        uint8_t* file = make_jpeg(kind, &count);
        snprintf(name, sizeof name, "%d components, %d x %d%s%s%s", kind->components, kind->horizontal, kind->vertical,
                 kind->progressive ? ", progressive" : "", kind->restart ? ", restart markers" : "",
                 kind->arithmetic ? ", arithmetic" : "");
        check_boxes(d, file, count, name);
        check_damages(file, count);
        free(file);
    }
    decoder_free(d);
}

// Where the k-th marker of a kind begins
static size_t find_marker(const uint8_t* file, size_t count, int marker, int k) {
    for (size_t i = 0; i + 1 < count; i++) {
        if (file[i] == 0xff && file[i + 1] == marker && k-- == 0) { return i; }
    }
    return count;
}

// A progressive file that ends properly after its first scans: libjpeg estimates the rest, of boxes as of the whole.
static void test_missing_scans(void) {
    Decoder* d = decoder_create();
    for (int scans = 1; scans < 6; scans += 2) {
        JpegKind kind = KIND(61, 77, 3, 2, 2, PROGRESSIVE);
        size_t count;
        uint8_t* file = make_jpeg(&kind, &count);
        size_t end = find_marker(file, count, 0xda, scans);
        memcpy(file + end, "\xff\xd9", 2);
        check_boxes(d, file, end + 2, "progressive, with scans missing");
        free(file);
    }
    decoder_free(d);
}

// A file without Huffman tables is decoded by the standard's, not by those of the file before.
static void test_no_memory_of_tables(void) {
    JpegKind optimized = KIND(40, 40, 3, 2, 2, .optimized = true);
    JpegKind without = KIND(40, 40, 3, 2, 2, .without_tables = true);
    size_t first_count, count;
    uint8_t *first = make_jpeg(&optimized, &first_count), *file = make_jpeg(&without, &count);
    uint8_t *alone = malloc(3 * 40 * 40), *after = malloc(3 * 40 * 40);
    Error err = {""};
    for (int k = 0; k < 2; k++) {
        Decoder* d = decoder_create();
        if (k == 1) { CHECK(decode_box(d, first, first_count, (Crop){0, 0, 40, 40}, after, &err), "%s", err.text); }
        CHECK(decode_box(d, file, count, (Crop){0, 0, 40, 40}, k ? after : alone, &err), "%s", err.text);
        decoder_free(d);
    }
    CHECK(memcmp(alone, after, 3 * 40 * 40) == 0, "an image depends on the one before");
    free(first); free(file); free(alone); free(after);
}

// In a file with the first half of its bytes the upper rows are there, and so is any box of them.
static void test_box_above_cut(void) {
    JpegKind kind = KIND(160, 90, 3, 2, 2);
    Crop above = {8, 20, 24, 60}, across = {8, 20, 140, 60};
    size_t count;
    uint8_t *file = make_jpeg(&kind, &count), *part = malloc(3 * 160 * 90);
    Decoder* d = decoder_create();
    ImageInfo info;
    Error err = {""};
    uint8_t* whole = decoded(&info, file, count, &err);
    CHECK(decode_box(d, file, count / 2, above, part, &err) && other_rows(part, above, whole, info) == 0,
          "a box above: %s", err.text);
    CHECK(!decode_box(d, file, count / 2, across, part, &err) && strstr(err.text, "is truncated"), "%s", err.text);
    const Crop outside[] = {{0, 0, 161, 90}, {0, 1, 160, 90}, {-1, 0, 5, 5}, {3, 3, 0, 5}, {1, 0, INT32_MAX, 1}};
    for (int i = 0; i < 5; i++) {
        CHECK(!decode_box(d, file, count, outside[i], part, &err) && strstr(err.text, "90 x 160"), "box %d: %s", i,
              err.text);
    }
    decoder_free(d);
    free(file); free(part); free(whole);
}

// The frame header says another size, of more or less than there is.
static void set_jpeg_size(uint8_t* file, size_t count, int marker, int height, int width) {
    uint8_t* frame = file + find_marker(file, count, marker, 0);
    frame[5] = (uint8_t)(height >> 8);
    frame[6] = (uint8_t)height;
    frame[7] = (uint8_t)(width >> 8);
    frame[8] = (uint8_t)width;
}

static void test_jpeg_limits(void) {
    JpegKind baseline = KIND(8, 8, 3, 1, 1), progressive = KIND(8, 8, 3, 1, 1, PROGRESSIVE);
    size_t count, progressive_count;
    uint8_t *file = make_jpeg(&baseline, &count), *bomb = make_jpeg(&progressive, &progressive_count);
    set_jpeg_size(file, count, 0xc0, 16385, 8);
    check_refused(file, count, "8 x 16385 pixels");
    set_jpeg_size(file, count, 0xc0, 10000, 10000);
    check_refused(file, count, "10000 x 10000 pixels");
    set_jpeg_size(file, count, 0xc0, 65535, 65535);
    check_refused(file, count, "cannot be decoded"); // libjpeg has a limit of its own
    set_jpeg_size(file, count, 0xc0, 0, 8);
    check_refused(file, count, "cannot be decoded");
    set_jpeg_size(bomb, progressive_count, 0xc2, 16384, 5400); // 531 MB of coefficients
    check_refused(bomb, progressive_count, "takes more than 512 MB");
    file[find_marker(file, count, 0xc0, 0) + 4] = 12; // bits
    check_refused(file, count, "cannot be decoded");
    free(file);
    free(bomb);
}

static void test_too_many_scans(void) {
    jpeg_scan_info scans[127] = {{.comps_in_scan = 1}}; // one for each coefficient, less its last bit, and one for that
    for (int k = 1; k < 64; k++) {
        scans[k] = (jpeg_scan_info){.comps_in_scan = 1, .Ss = k, .Se = k, .Al = 1};
        scans[63 + k] = (jpeg_scan_info){.comps_in_scan = 1, .Ss = k, .Se = k, .Ah = 1};
    }
    JpegKind kind = KIND(16, 16, 1, 1, 1, .scans = scans, .scan_count = 127);
    size_t count;
    uint8_t* file = make_jpeg(&kind, &count);
    check_refused(file, count, "more than 100 scans");
    free(file);
}

static uint8_t* encoded(ImageView in, JpegOptions options, size_t* count) {
    JpegBuffer out = {0};
    Error err = {""};
    CHECK(encode_jpeg(&out, in, options, &err), "%s", err.text);
    *count = out.count;
    return out.bytes;
}

static double mean_difference(const uint8_t* a, const uint8_t* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) { sum += abs(a[i] - b[i]); }
    return sum / (double)n;
}

// A smooth image survives, in either sampling; grey stays one component; a second time makes the same bytes.
static void check_encoding(int channels, JpegOptions options) {
    enum { HEIGHT = 203, WIDTH = 305 };
    uint8_t* pixels = malloc(3 * HEIGHT * WIDTH);
    size_t count, count_again;
    for (int i = 0; i < 3 * HEIGHT * WIDTH; i++) {
        int x = i % WIDTH, y = i / WIDTH % HEIGHT, c = channels == 1 ? 0 : i / (WIDTH * HEIGHT);
        pixels[i] = (uint8_t)(30 + x * (c + 1) / 5 + y / 2 * (3 - c) / 4);
    }
    ImageView in = view_of(pixels, channels, HEIGHT, WIDTH);
    uint8_t *file = encoded(in, options, &count), *again = encoded(in, options, &count_again);
    CHECK(count == count_again && memcmp(file, again, count) == 0, "the same image became other bytes");
    ImageInfo info;
    Error err;
    uint8_t* out = decoded(&info, file, count, &err);
    CHECK(out && info.components == channels, "%d channels: %s", channels, err.text);
    if (out) { CHECK_NEAR(mean_difference(out, pixels, 3 * HEIGHT * WIDTH), 0, 1.0, "mean difference of values"); }
    const uint8_t* frame = file + find_marker(file, count, 0xc0, 0);
    CHECK(frame[11] == (channels == 3 && options.subsampled ? 0x22 : 0x11), "sampling 0x%x", frame[11]);
    free(pixels); free(file); free(again); free(out);
}

static void test_encoding(void) {
    check_encoding(3, (JpegOptions){.quality = 90, .subsampled = true});
    check_encoding(3, (JpegOptions){.quality = 90});
    check_encoding(3, (JpegOptions){.quality = 90, .subsampled = true, .optimized = true});
    check_encoding(1, (JpegOptions){.quality = 90, .subsampled = true});
    enum { SIDE = 300 }; // noise: the buffer grows, and is used again
    uint8_t* noise = malloc(3 * SIDE * SIDE);
    for (int i = 0; i < 3 * SIDE * SIDE; i++) { noise[i] = (uint8_t)random_to(255); }
    JpegBuffer out = {0};
    Error err = {""};
    for (int k = 0; k < 2; k++) {
        CHECK(encode_jpeg(&out, view_of(noise, 3, SIDE, SIDE), (JpegOptions){.quality = 100}, &err), "%s", err.text);
        ImageInfo info;
        free(decoded(&info, out.bytes, out.count, &err));
        CHECK(out.count > 1 << 16 && !*err.text, "%zu bytes of noise: %s", out.count, err.text);
    }
    CHECK(!encode_jpeg(&out, view_of(noise, 1, 1, 70000), (JpegOptions){.quality = 90}, &err), "70000 pixels in a row");
    CHECK(strstr(err.text, "cannot be written as JPEG"), "%s", err.text);
    char text[64];
    jpeg_encoder_text(text, sizeof text, (JpegOptions){.quality = 90, .subsampled = true});
    CHECK(strncmp(text, "libjpeg-turbo ", 14) == 0 && strstr(text, ", quality 90, 4:2:0"), "%s", text);
    free(out.bytes);
    free(noise);
}
#endif

#ifdef HAVE_PNG
static int png_want(const PngKind* kind, int x, int y, int c) {
    int grey = kind->colour == PNG_COLOR_TYPE_GRAY || kind->colour == PNG_COLOR_TYPE_GRAY_ALPHA;
    int sample = png_sample(kind, x, y, grey ? 0 : c);
    if (kind->colour == PNG_COLOR_TYPE_PALETTE) {
        png_color p = palette_colour(png_sample(kind, x, y, 0));
        return c == 0 ? p.red : c == 1 ? p.green : p.blue;
    }
    return kind->depth == 16 ? sample >> 8 : sample * (255 / ((1 << kind->depth) - 1));
}

static void check_png(Decoder* d, const PngKind* kind) {
    char name[100];
    size_t count, other = 0, i = 0;
    ImageInfo info;
    Error err;
    uint8_t* file = make_png(kind, &count);
    uint8_t* pixels = decoded(&info, file, count, &err);
    snprintf(name, sizeof name, "PNG of colour type %d, %d bits%s", kind->colour, kind->depth,
             kind->passes ? ", Adam7" : "");
    for (int r = 0; r < 3 * kind->height && pixels; r++) {
        int c = r / kind->height, y = r % kind->height;
        for (int x = 0; x < kind->width; x++, i++) { other += pixels[i] != png_want(kind, x, y, c); }
    }
    CHECK(pixels && other == 0 && info.components == png_channels(kind->colour), "%s: %zu values differ; %s", name,
          other, err.text);
    check_boxes(d, file, count, name);
    check_damages(file, count);
    free(pixels);
    free(file);
}

static void test_png(void) {
    static const int kinds[][2] = {{0, 1}, {0, 2}, {0, 4}, {0, 8}, {2, 8}, {2, 16}, {3, 1}, {3, 2}, {3, 4}, {3, 8},
                                   {4, 8}, {4, 16}, {6, 8}, {6, 16}};
    static const int sizes[][2] = {{1, 1}, {3, 5}, {29, 37}};
    Decoder* d = decoder_create();
    for (int i = 0; i < 14 * 3 * 2; i++) {
        const int *kind = kinds[i / 6], *size = sizes[i / 2 % 3];
        check_png(d, &(PngKind){size[0], size[1], kind[0], kind[1], i % 2 == 1});
    }
    PngKind large = {900, 700, PNG_COLOR_TYPE_RGB, 8, true}, deep = {5, 5, PNG_COLOR_TYPE_GRAY, 16, false};
    size_t count;
    uint8_t* file = make_png(&large, &count);
    check_boxes(d, file, count, "a large PNG in passes");
    CHECK(d->png.rows.size <= KEPT_ROWS, "the memory of a large image was kept");
    free(file);
    file = make_png(&deep, &count);
    check_refused(file, count, "grey of 16 bits");
    free(file);
    decoder_free(d);
}

static void test_png_limits(void) {
    PngKind wide = {1, 16385, PNG_COLOR_TYPE_GRAY, 1, false}, large = {1, 1, PNG_COLOR_TYPE_GRAY, 8, false};
    size_t count;
    uint8_t* file = make_png(&wide, &count);
    check_refused(file, count, "16385 x 1 pixels");
    free(file);
    file = make_png(&large, &count);
    memcpy(file + 16, "\0\0\x2b\x11\0\0\x2b\x11", 8); // 11025 on either side
    uint32_t sum = ~0u; // CRC-32 of the changed chunk
    for (int i = 12; i < 29; i++) {
        sum ^= file[i];
        for (int k = 0; k < 8; k++) { sum = sum >> 1 ^ (sum & 1 ? 0xEDB88320u : 0); }
    }
    for (int i = 0; i < 4; i++) { file[29 + i] = (uint8_t)(~sum >> (24 - 8 * i)); }
    check_refused(file, count, "11025 x 11025 pixels");
    file[29] ^= 1;
    check_refused(file, count, "is damaged");
    free(file);
}
#endif

int main(void) {
    test_fixtures();
    test_foreign();
#ifdef HAVE_JPEG
    test_jpeg_boxes();
    test_missing_scans();
    test_no_memory_of_tables();
    test_box_above_cut();
    test_jpeg_limits();
    test_too_many_scans();
    test_encoding();
#endif
#ifdef HAVE_PNG
    test_png();
    test_png_limits();
#endif
    return tests_finish();
}
