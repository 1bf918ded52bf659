// data/picture.h, font.h and contact_sheet.h: what is written is read again by libpng and compared pixel by pixel.
#include "../../data/augment.h"
#include "../../data/contact_sheet.h"
#include "../../data/decode.h"
#include "test_files.h"

// ---- letters

enum { GLYPH_BYTES = 3 * GLYPH_HEIGHT * GLYPH_WIDTH, GLYPHS = 95 };

static void make_letter(uint8_t pixels[GLYPH_BYTES], int letter) {
    Picture p = {GLYPH_HEIGHT, GLYPH_WIDTH, pixels};
    memset(pixels, 255, GLYPH_BYTES);
    draw_letter(&p, 0, 0, (char)letter);
}

static void test_font(void) {
    uint8_t glyphs[GLYPHS][GLYPH_BYTES], other[GLYPH_BYTES];
    for (int i = 0; i < 6 * GLYPH_HEIGHT; i++) {
        size_t length = strlen(font_bands[i / GLYPH_HEIGHT][i % GLYPH_HEIGHT]);
        CHECK(length == LETTERS_A_BAND * LETTER_WIDTH - 1, "row %d of the font has %zu characters", i, length);
    }
    for (int k = 0; k < GLYPHS; k++) {
        make_letter(glyphs[k], ' ' + k);
        for (int j = 0; j < k; j++) {
            CHECK(memcmp(glyphs[j], glyphs[k], GLYPH_BYTES) != 0, "%c looks like %c", ' ' + k, ' ' + j);
        }
    }
    for (int c = -128; c < 128; c++) {
        if (c >= ' ' && c <= '~') { continue; }
        make_letter(other, c);
        CHECK(memcmp(glyphs['?' - ' '], other, GLYPH_BYTES) == 0, "byte %d is no question mark", c);
    }
}

// ---- images

// Every level of a normalised image comes back as it was.
static void test_levels(void) {
    static const float means[] = {0.485f, 0.456f, 0.406f, 0, 0.5f, 0.9f};
    static const float stds[] = {0.229f, 0.224f, 0.225f, 1, 0.5f, 0.01f};
    for (int k = 0; k < 6; k++) {
        for (int level = 0; level < 256; level++) {
            int got = sheet_level(normalised_level((uint8_t)level, means[k], stds[k]), means[k], stds[k]);
            CHECK(got == level, "level %d came back as %d", level, got);
        }
    }
    CHECK(sheet_level(-9, 0.5f, 1) == 0 && sheet_level(9, 0.5f, 1) == 255, "levels beyond 0..255 are not clipped");
    CHECK(sheet_level(NAN, 0.5f, 1) == 0 && sheet_level(INFINITY, 0.5f, 1) == 255, "NaN or infinity is no level");
}

static void test_counts(void) {
    ContactSheet s = {NULL, 1000, 224, {0, 0, 0}, {1, 1, 1}, NULL, 0};
    CHECK(sheet_images(&s) == SHEET_IMAGES, "%d images of 224", sheet_images(&s));
    s.count = 7;
    CHECK(sheet_images(&s) == 7, "%d images of 7", sheet_images(&s));
    s.S = 4096;
    CHECK(sheet_images(&s) == 4, "%d images of 4096", sheet_images(&s));
    s.S = 16384;
    CHECK(sheet_images(&s) == 1, "%d images of 16384", sheet_images(&s));
}

// ---- files

#ifdef HAVE_PNG
// The file's pixels as a picture
static Picture read_picture(const char* path) {
    size_t count = 0;
    uint8_t* bytes = read_file(path, &count);
    Decoder* decoder = decoder_create();
    ImageInfo info = {IMAGE_PNG, 1, 1, 0};
    Error err;
    CHECK(bytes && image_info(&info, bytes, count, &err), "%s is no picture", path);
    CHECK(info.format == IMAGE_PNG && info.components == 3, "%s has %d colours", path, info.components);
    size_t plane = (size_t)info.height * info.width;
    Picture p = picture_create(info.height, info.width, 0);
    uint8_t* planar = malloc(3 * plane);
    CHECK(decode_box(decoder, bytes, count, whole_image(info), planar, &err), "%s: %s", path, err.text);
    for (size_t i = 0; i < 3 * plane; i++) { p.pixels[i] = planar[i % 3 * plane + i / 3]; }
    free(planar);
    decoder_free(decoder);
    free(bytes);
    return p;
}

static bool same_picture(const Picture* a, const Picture* b) {
    return a->height == b->height && a->width == b->width
        && memcmp(a->pixels, b->pixels, (size_t)3 * a->height * a->width) == 0;
}

static void test_pictures(void) {
    static const int sizes[][2] = {{1, 1}, {3, 7}, {64, 1}, {100, 251}};
    Error err;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        Picture p = picture_create(sizes[i][0], sizes[i][1], 0);
        for (unsigned k = 0; k < 3u * p.height * p.width; k++) { p.pixels[k] = (uint8_t)(k * k * 7 + k / 31); }
        CHECK(picture_write(in_folder("a.png"), &p, &err), "%dx%d: %s", p.height, p.width, err.text);
        Picture back = read_picture(in_folder("a.png"));
        CHECK(same_picture(&p, &back), "%dx%d came back as another picture", p.height, p.width);
        picture_free(&back);
        picture_free(&p);
    }
}

// Whole or not at all
static void test_refusals(void) {
    Picture p = picture_create(300, 300, 7), huge = {1, 2000000, p.pixels}; // wider than libpng allows
    Error err = {""};
    CHECK(!picture_write(in_folder("absent/a.png"), &p, &err) && strstr(err.text, "make its folder"), "%s", err.text);
    CHECK(!picture_write(test_folder, &p, &err) && strstr(err.text, "directory"), "%s", err.text);
    CHECK(!picture_write("/dev/full", &p, &err) && strstr(err.text, "free some space"), "%s", err.text);
    write_file(in_folder("old.png"), "old", 3);
    CHECK(!picture_write(in_folder("old.png"), &huge, &err) && strstr(err.text, "libpng"), "%s", err.text);
    size_t count = 0;
    uint8_t* old = read_file(in_folder("old.png"), &count);
    CHECK(count == 3 && memcmp(old, "old", 3) == 0, "what was there has changed");
    CHECK(!path_exists(in_folder("old.png.tmp")), "a temporary file stays");
    free(old);
    picture_free(&p);
}

// ---- sheets

static Picture sheet_of(const ContactSheet* s) {
    Error err;
    CHECK(contact_sheet_write(in_folder("sheet.png"), s, &err), "%s", err.text);
    return read_picture(in_folder("sheet.png"));
}

static bool pixel_is(const Picture* p, int y, int x, int red, int green, int blue) {
    const uint8_t* at = p->pixels + 3 * ((size_t)y * p->width + x);
    return at[0] == red && at[1] == green && at[2] == blue;
}

// Five images of 2 x 2, in 3 columns and 2 rows of 64 times their size
static void test_places(void) {
    enum { N = 5, S = 2 };
    const float m[3] = {0.5f, 0.25f, 0}, d[3] = {0.25f, 0.5f, 1};
    const char* captions[N] = {"a", "b", "two\nlines", "", "e"};
    float images[N * 3 * S * S];
    for (int i = 0; i < N * 3 * S * S; i++) {
        int c = i / (S * S) % 3;
        images[i] = ((float)(i * 4) / 255 - m[c]) / d[c];
    }
    ContactSheet s = {images, N, S, {m[0], m[1], m[2]}, {d[0], d[1], d[2]}, captions, 0};
    Picture p = sheet_of(&s);
    int side = SHEET_SIDE, across = side + SHEET_GAP, down = side + SHEET_GAP + 2 * CAPTION_HEIGHT;
    CHECK(p.width == SHEET_GAP + 3 * across, "the sheet is %d wide", p.width);
    CHECK(p.height == SHEET_GAP + 2 * down, "the sheet is %d high", p.height);
    for (int i = 0; i < N; i++) {
        int top = SHEET_GAP + i / 3 * down, left = SHEET_GAP + i % 3 * across, wrong = 0;
        for (int y = 0; y < side; y++) {
            for (int x = 0; x < side; x++) {
                int at = (i * 3 * S + y / 64) * S + x / 64;
                wrong += !pixel_is(&p, top + y, left + x, at * 4, (at + S * S) * 4, (at + 2 * S * S) * 4);
            }
        }
        CHECK(wrong == 0, "%d pixels of image %d are wrong", wrong, i);
        CHECK(pixel_is(&p, top - 1, left - 1, SHEET_GREY, SHEET_GREY, SHEET_GREY), "no gap around image %d", i);
    }
    CHECK(pixel_is(&p, p.height - 5, p.width - 5, SHEET_GREY, SHEET_GREY, SHEET_GREY), "the last place is not empty");
    picture_free(&p);
}

static void draw_line(Picture* p, int top, const char* line) {
    for (int i = 0; line[i]; i++) { draw_letter(p, top, SHEET_GAP + i * LETTER_WIDTH, line[i]); }
}

// Under one image, which is black: what the caption should look like
static void test_caption(const char* caption, const char* first, const char* second) {
    float image[3] = {0, 0, 0};
    ContactSheet s = {image, 1, 1, {0, 0, 0}, {1, 1, 1}, &caption, 0};
    Picture p = sheet_of(&s), want = picture_create(p.height, p.width, SHEET_GREY);
    for (int y = SHEET_GAP; y < SHEET_GAP + SHEET_SIDE; y++) {
        memset(want.pixels + 3 * (y * p.width + SHEET_GAP), 0, 3 * SHEET_SIDE);
    }
    int top = SHEET_GAP + SHEET_SIDE + SHEET_GAP / 2, height = (*second ? 2 : 1) * CAPTION_HEIGHT;
    draw_line(&want, top, first);
    draw_line(&want, top + CAPTION_HEIGHT, second);
    CHECK(p.height == 2 * SHEET_GAP + SHEET_SIDE + height, "the sheet of \"%s\" is %d high", caption, p.height);
    CHECK(same_picture(&p, &want), "another caption than \"%s\"", caption);
    picture_free(&want);
    picture_free(&p);
}

static void test_captions(void) {
    test_caption("", "", "");
    test_caption("golden retriever", "golden retriever", "");
    test_caption("62 % cat\n38 % dog", "62 % cat", "38 % dog");
    test_caption("123456789012345678901234567\nx", "123456789012345678901", "x"); // 128 pixels: 21 letters
    test_caption("caf\xc3\xa9 \t", "caf? ?", "");
}

static void test_files(void) {
    test_pictures();
    test_refusals();
    test_places();
    test_captions();
}
#else
static void test_files(void) {
    Picture p = {1, 1, (uint8_t[3]){0}};
    Error err = {""};
    CHECK(!picture_write(in_folder("a.png"), &p, &err) && strstr(err.text, "libpng-dev"), "%s", err.text);
}
#endif

int main(void) {
    open_test_folder();
    test_font();
    test_levels();
    test_counts();
    test_files();
    remove_test_folder();
    return tests_finish();
}
