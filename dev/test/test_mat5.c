// mat5.h and synsets.h: files in all forms that MATLAB and scipy write, made here, packed and not; two that scipy 1.17
// wrote; and damaged, foreign and impossible ones, each refused with a sentence.
#include "../../data/synsets.h"
#include "mat5_maker.h"
#include "test_files.h"

enum { LIMIT = 1 << 20 };

// The call gives nothing, and err the reason.
#define CHECK_REFUSED(call, reason) CHECK(!(call) && strstr(err.text, reason), "'%s' is not in: %s", reason, err.text)

static bool open_made(Mat5* m, const Mat5Maker* f, uint64_t limit, Error* err) {
    return mat5_open_memory(m, f->bytes, f->count, "made.mat", limit, err);
}

static void expect_refused(const Mat5Maker* f, const char* reason, const char* what) {
    Mat5 m;
    Error err = {""};
    if (!CHECK(!open_made(&m, f, LIMIT, &err), "%s is accepted", what)) { mat5_close(&m); }
    CHECK(strstr(err.text, reason) && strstr(err.text, "made.mat"), "%s: '%s' is not in: %s", what, reason, err.text);
}

// ---- numbers

// Doubles, stored as each numeric type, small and long, packed and not
static void test_number_types(void) {
    static const double values[] = {0, 1, 100, -3, 0.5, 65000, 3e9};
    static const int types[] = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13};
    static const int whole_values[] = {4, 3, 4, 3, 4, 3, 5, 7, 4, 3}; // of values, what the type can hold
    for (int i = 0; i < 80; i++) {
        int type = types[i / 8], whole = whole_values[i / 8], count = i % 4 ? i % 4 : whole;
        bool packed = i % 8 >= 4;
        if (packed && !MAT5_CAN_PACK) { continue; }
        Mat5Maker f = mat5_made();
        mat5_put_numbers(&f, "d", MAT5_DOUBLE, type, 2, (int[]){1, count}, values, packed);
        Mat5 m;
        Error err = {""};
        double got[8] = {0};
        if (!CHECK(open_made(&m, &f, LIMIT, &err), "type %d: %s", type, err.text)) { continue; }
        const Mat5Array* a = mat5_find(&m, "d", &err);
        bool ok = a && a->count == (uint64_t)count && mat5_numbers(&m, a, got, &err);
        for (int k = 0; k < count; k++) { ok = ok && got[k] == values[k]; }
        CHECK(ok, "type %d, %d numbers%s: %g %g %g %g %s", type, count, packed ? ", packed" : "", got[0], got[1],
              got[2], got[3], err.text);
        mat5_close(&m);
    }
}

// More than a piece of a stream, and read as bytes
static void test_long_arrays(bool packed) {
    enum { N = 50000 };
    double* values = malloc(N * sizeof *values);
    double* got = malloc(N * sizeof *got);
    uint8_t* bytes = malloc(N);
    for (int i = 0; i < N; i++) { values[i] = (i * 7919 ^ i >> 3) % 251; }
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "first", MAT5_DOUBLE, 4, 2, (int[]){N / 4, 4}, values, packed);
    mat5_put_numbers(&f, "X", MAT5_CLASS_UINT8, MAT5_UINT8, 2, (int[]){2, N / 2}, values, packed);
    Mat5 m;
    Mat5Stream s;
    Error err = {""};
    if (CHECK(open_made(&m, &f, LIMIT, &err), "%s", err.text)) {
        const Mat5Array *first = mat5_find(&m, "first", &err), *x = mat5_find(&m, "X", &err);
        bool ok = first && mat5_numbers(&m, first, got, &err);
        CHECK(ok && memcmp(got, values, N * sizeof *got) == 0, "first: %s", err.text);
        ok = x && x->type == MAT5_UINT8 && x->bytes == N && x->dim[1] == N / 2
            && mat5_values_begin(&s, &m, x, &err);
        for (int i = 0; i < N && ok; i += N / 10) { ok = mat5_values_read(&s, &m, x, bytes + i, N / 10, &err); }
        CHECK(x && mat5_values_end(&s, &m, x, ok, &err), "X: %s", err.text);
        int wrong = 0;
        for (int i = 0; i < N; i++) { wrong += bytes[i] != values[i]; }
        CHECK(wrong == 0, "%d bytes differ", wrong);
        mat5_close(&m);
    }
    free(values);
    free(got);
    free(bytes);
}

static void expect_integers(int least, int most, const char* reason) {
    static const double values[] = {1, 10, 3};
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "y", MAT5_DOUBLE, MAT5_UINT8, 2, (int[]){3, 1}, values, false);
    mat5_put_numbers(&f, "halves", MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){0.5}, false);
    mat5_put_numbers(&f, "nan", MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){NAN}, false);
    Mat5 m;
    Error err = {""};
    int count;
    if (!CHECK(open_made(&m, &f, LIMIT, &err), "%s", err.text)) { return; }
    int* y = mat5_integers(&m, "y", least, most, &count, &err);
    if (reason) {
        CHECK(!y && strstr(err.text, reason), "%d..%d: %s", least, most, err.text);
    } else {
        CHECK(y && count == 3 && y[0] == 1 && y[1] == 10 && y[2] == 3, "y: %s", err.text);
    }
    CHECK_REFUSED(mat5_integers(&m, "halves", 0, 1, &count, &err), "is 0.5, not a whole number");
    CHECK_REFUSED(mat5_integers(&m, "nan", 0, 1, &count, &err), "nan");
    CHECK_REFUSED(mat5_integers(&m, "labels", 0, 1, &count, &err), "no variable 'labels'");
    mat5_close(&m);
    free(y);
}

// ---- characters and structures

static void expect_text(int type, const void* bytes, int count, int characters, size_t room, const char* want) {
    Mat5Maker f = {0};
    char got[64];
    mat5_put_matrix(&f, "", MAT5_CHAR, 2, (int[]){characters > 0, characters}, type, bytes, (size_t)count);
    Mat5Cell cell = {f.bytes + 8, f.count - 8};
    CHECK(mat5_cell_text(&cell, got, room) && strcmp(got, want) == 0, "type %d: '%s' instead of '%s'", type, got, want);
}

static void test_characters(void) {
    const uint8_t wide[] = {'T', 0, 0xFC, 0, 0x34, 0xD8, 0x1E, 0xDD, 0x34, 0xD8, 'x', 0}; // T ü 𝄞, half of one, x
    expect_text(4, wide, 12, 6, 64, "Tü𝄞?x");
    expect_text(17, wide, 4, 2, 64, "Tü");
    expect_text(4, wide, 12, 6, 7, "Tü");
    expect_text(4, wide, 12, 6, 8, "Tü𝄞");
    expect_text(4, wide, 10, 5, 64, "Tü𝄞?"); // the file ends in half a character
    expect_text(16, "Tü𝄞", 7, 3, 64, "Tü𝄞");
    expect_text(16, "Tü𝄞", 7, 3, 7, "Tü");
    expect_text(16, "Tü𝄞", 7, 3, 3, "T");
    expect_text(1, "n01440764", 9, 9, 64, "n01440764");
    expect_text(2, "ab", 2, 2, 64, "ab");
    expect_text(4, "", 0, 0, 64, "");
    char got[8];
    double number;
    CHECK(mat5_cell_text(&(Mat5Cell){NULL, 0}, got, sizeof got) && !*got, "an empty field is no text");
    CHECK(!mat5_cell_number(&(Mat5Cell){NULL, 0}, &number), "an empty field is a number");
    CHECK(!mat5_cell_text(NULL, got, sizeof got) && !mat5_cell_number(NULL, &number), "no field is one");
}

static Mat5Maker made_synsets(const char* last_wnid, bool packed) {
    Mat5Maker cells = {0}, f = mat5_made();
    mat5_put_synset(&cells, 1, "n01440764", "tench, Tinca tinca", 0);
    mat5_put_synset(&cells, 300, "n02119789", "kit\x1b fox", 0);
    mat5_put_synset(&cells, 1001, last_wnid, "entity", 2);
    mat5_put_structs(&f, "synsets", 3, mat5_synset_fields, &cells, packed);
    return f;
}

static void expect_synsets(const uint8_t* bytes, size_t count, int wanted, int id, const char* wnid, const char* words,
                           int children) {
    Error err = {""};
    int got = 0;
    Synset* s = synsets_read(bytes, count, "meta.mat", &got, &err);
    if (!CHECK(s && got == wanted, "%d synsets instead of %d: %s", got, wanted, err.text)) { return; }
    const Synset* last = &s[got - 1];
    bool right = last->id == id && strcmp(last->wnid, wnid) == 0 && strcmp(last->words, words) == 0;
    CHECK(right && last->children == children, "the last is %d, %s, %s, %d", last->id, last->wnid, last->words,
          last->children);
    right = s[0].id == 1 && strcmp(s[0].wnid, "n01440764") == 0 && strcmp(s[0].words, "tench, Tinca tinca") == 0;
    CHECK(right && s[0].children == 0, "the first is %d, %s, %s", s[0].id, s[0].wnid, s[0].words);
    CHECK(!strchr(s[1].words, '\x1b'), "an escape character stays in '%s'", s[1].words);
    free(s);
}

static void test_synsets(void) {
    Error err = {""};
    int count;
    for (int packed = 0; packed <= MAT5_CAN_PACK; packed++) {
        Mat5Maker f = made_synsets("n00001740", packed);
        expect_synsets(f.bytes, f.count, 3, 1001, "n00001740", "entity", 2);
        f = made_synsets("n0000174", packed);
        CHECK_REFUSED(synsets_read(f.bytes, f.count, "meta.mat", &count, &err), "synset 2 has no");
    }
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "synsets", MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){1}, false);
    CHECK_REFUSED(synsets_read(f.bytes, f.count, "meta.mat", &count, &err), "not an array of structures");
    f = mat5_made();
    mat5_put_structs(&f, "synsets", 0, "ILSVRC2012_ID\0", &(Mat5Maker){0}, false);
    Synset* none = synsets_read(f.bytes, f.count, "meta.mat", &count, &err);
    CHECK(none && count == 0, "an empty array: %s", err.text);
    free(none);
    f = mat5_made();
    mat5_put_structs(&f, "synsets", 3, "ILSVRC2012_ID\0", &(Mat5Maker){0}, false);
    CHECK_REFUSED(synsets_read(f.bytes, f.count, "meta.mat", &count, &err), "ends too soon");
}

// ---- of scipy 1.17

static const char scipy_synsets[] = // behind the text
    "\0\x01IM\x0f\0\0\0\x04\x01\0\0x\x9c\xe3\143``\xd8\xc1\xcc\xc0\xc0\x06\xa4\071\x80\x98\x89\x01\x02X\x91\xf8\x8cP"
    "\xcc\x0e\xc4\xc5\x95y\xc5\xa9%\xc5@y\x16\x06>\xa8x\x08\x10{\xfa\x04\x87\x05\071\x1b\x19\x18\x1a\xc5{\xba\060"
    "\x84\xfb\x01\x09\070(\xcf/J)\x86\xf3\xd2s\xf2\x8b\x11\xbc\xbc\xd2\xdc\xf8\xe4\x8c\xcc\x9c\x94\xa2\xd4<\x06\x06"
    "\x04\x0b\x06@vX0 \xdc\xc7\x86\xe6>F$\x0c\x02\x9cPq\x08\xf8`\x0f\xd2\xef\x80\xa4\x9f\x05\x8b~N$\xfd\x02P~\x9e"
    "\x81\xa1\x89\x89\x81\xb9\x99\x09\x92;<\x08\x98#\x84\146\x0e\x88_\x92\x9a\x97\x9c\xa1\xa3\x10\x92\x99\x97\x9c"
    "\xa8P\x02\x22\xb1\xfb\x0b\x9bylh\xe6\x81\xf8\x89\x0ai\x99\xc5\x19\x94\x86\x0b\104\xbf\x01\x01\xfd\x0ch\xfa\xb1"
    "\xb9\x9b${=\xfa\x1d\xc8\x8f\x0f 0471@r\x07!s\xd0\xc3\x8f\x0b\x88\103\x0e\xef)\xd2Q\xf8\060\xb7\145\x1e\xf6p@7"
    "\x07\x06\x90\xcd\xa1\070\x1c\x80NGw\x3f\066\xfdLh\xfa\x05\xe0\xda\x3f\xd8\xc3\xcc\x01\0\x91\x10\061\xd2";
static const char scipy_arrays[] = // behind the text
    "\0\x01IM\x0e\0\0\0P\0\0\0\x06\0\0\0\x08\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\x10\0\0\0\x02\0\0\0\x02\0\0\0\x03\0\0"
    "\0\x02\0\0\0\x01\0\x01\0X\0\0\0\x02\0\0\0\x18\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e"
    "\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x0e\0\0\0\060\0\0\0\x06\0\0\0\x08\0\0\0\x09\0\0\0\0\0\0\0\x05\0\0\0\x08\0"
    "\0\0\x02\0\0\0\x01\0\0\0\x01\0\x01\0y\0\0\0\x02\0\x02\0\x01\x0a\0\0\x0e\0\0\0@\0\0\0\x06\0\0\0\x08\0\0\0\x06\0"
    "\0\0\0\0\0\0\x05\0\0\0\x08\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\x04\0half\x09\0\0\0\x10\0\0\0\0\0\0\0\0\0\xf8\x3f\0"
    "\0\0\0\0\0\x02\xc0";

static Mat5Maker of_scipy(const char* rest, size_t bytes) {
    Mat5Maker f = mat5_made();
    f.count = 124;
    mat5_put(&f, rest, bytes);
    return f;
}

static void test_scipy(void) {
    Mat5Maker f = of_scipy(scipy_arrays, sizeof scipy_arrays - 1);
    Mat5 m;
    Error err = {""};
    double x[24] = {0}, half[2] = {0};
    int count = 0, wrong = 0;
    if (CHECK(open_made(&m, &f, LIMIT, &err), "%s", err.text)) {
        const Mat5Array *a = mat5_find(&m, "X", &err), *b = mat5_find(&m, "half", &err);
        CHECK(a && a->dims == 4 && a->dim[2] == 3 && mat5_numbers(&m, a, x, &err), "X: %s", err.text);
        for (int i = 0; i < 24; i++) { wrong += x[i] != i; }
        CHECK(wrong == 0, "%d values of X", wrong);
        CHECK(b && mat5_numbers(&m, b, half, &err), "half: %s", err.text);
        CHECK(half[0] == 1.5 && half[1] == -2.25, "half: %g %g", half[0], half[1]);
        int* y = mat5_integers(&m, "y", 1, 10, &count, &err);
        CHECK(y && count == 2 && y[0] == 1 && y[1] == 10, "y: %s", err.text);
        free(y);
        mat5_close(&m);
    }
    f = of_scipy(scipy_synsets, sizeof scipy_synsets - 1);
    if (MAT5_CAN_PACK) {
        expect_synsets(f.bytes, f.count, 2, 1001, "n00001740", "Tür, 𝄞", 2);
    } else {
        expect_refused(&f, "install zlib1g-dev", "a packed file without zlib");
    }
}

// ---- what is refused

static Mat5Maker changed(Mat5Maker f, size_t at, uint8_t byte) {
    f.bytes[at] = byte;
    return f;
}

static Mat5Maker one_number(void) {
    Mat5Maker f = mat5_made();
    mat5_put_numbers(&f, "one", MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){1}, false);
    return f;
}

static void test_foreign(void) {
    Mat5Maker f = {0};
    expect_refused(&f, "is empty", "an empty file");
    mat5_put(&f, "\x89HDF", 4);
    expect_refused(&f, "is not a MATLAB 5 file", "another file");
    f = one_number();
    f.count = 127;
    expect_refused(&f, "is not a MATLAB 5 file", "a cut header");
    f = one_number();
    memcpy(f.bytes + 124, "\1\0MI", 4);
    expect_refused(&f, "big-endian", "a big-endian file");
    f = changed(one_number(), 125, 2);
    expect_refused(&f, "not of version 5", "version 7.3");
    Mat5 m;
    Error err = {""};
    char path[512];
    snprintf(path, sizeof path, "%s/fifo", test_folder);
    if (mkfifo(path, 0600) != 0) { perror(path); }
    CHECK_REFUSED(mat5_open(&m, path, LIMIT, &err), "not a regular file");
    CHECK_REFUSED(mat5_open(&m, test_folder, LIMIT, &err), "not a regular file");
    CHECK_REFUSED(mat5_open(&m, in_folder("absent"), LIMIT, &err), "No such file");
    f = one_number();
    write_file(in_folder("one.mat"), f.bytes, f.count);
    CHECK(mat5_open(&m, in_folder("one.mat"), LIMIT, &err) && mat5_find(&m, "one", &err), "a file: %s", err.text);
    mat5_close(&m);
}

static void test_impossible(void) { // one_number's matrix begins at 136: flags, 152 dimensions, 168 name, 176 values
    static const struct { size_t at; uint8_t byte; const char* reason; } cases[] = {
        {132, 1, "it ends too soon"}, {133, 200, "the file is truncated"}, {136, 5, "does not begin as a matrix"},
        {140, 4, "does not begin as a matrix"}, {144, 4, "characters are not as many"},
        {152, 6, "dimensions are not such"}, {156, 4, "dimensions are not such"}, {156, 7, "dimensions are not such"},
        {156, 200, "an element is longer"}, {160, 2, "values are not as many"},
        {163, 0x80, "dimensions are impossible"},
        {168, 2, "name is too long, or none"}, {170, 5, "size is impossible"}, {176, 8, "of no known type"},
        {176, 2, "values are not as many"}, {180, 16, "an element is longer"}, {180, 4, "values are not as many"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Mat5Maker f = changed(one_number(), cases[i].at, cases[i].byte);
        char what[64];
        snprintf(what, sizeof what, "byte %zu set to %d", cases[i].at, cases[i].byte);
        expect_refused(&f, cases[i].reason, what);
    }
    Mat5Maker f = mat5_made();
    mat5_put_matrix(&f, "big", MAT5_DOUBLE, 8, (int[]){1 << 30, 1 << 30, 1 << 30, 1 << 30, 1, 1, 1, 1}, 9, "", 0);
    expect_refused(&f, "dimensions are impossible", "2^120 values");
    f = mat5_made();
    mat5_put_matrix(&f, "big", MAT5_DOUBLE, 3, (int[]){1 << 30, 1 << 30, 8}, 9, "", 0);
    expect_refused(&f, "not as many as its dimensions", "2^63 values, whose bytes are 0 in 64 bits");
    f = mat5_made();
    for (int i = 0; i <= MAT5_VARIABLES; i++) {
        mat5_put_numbers(&f, "one", MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){1}, false);
    }
    expect_refused(&f, "more than 32 variables", "33 variables");
    f = mat5_made();
    char name[MAT5_NAME + 1] = "";
    memset(name, 'n', MAT5_NAME);
    mat5_put_numbers(&f, name, MAT5_DOUBLE, 9, 2, (int[]){1, 1}, (double[]){1}, false);
    expect_refused(&f, "name is too long", "a long name");
}

// What is no array of real numbers, or too large, is known, and not read; what is none of ours is passed over.
static void test_unreadable(void) {
    static const double values[] = {1, 2, 3};
    Mat5Maker f = mat5_made();
    mat5_put_tag(&f, 3, 16);
    mat5_put(&f, "0123456789abcdef", 16);
    mat5_put_tag(&f, MAT5_MATRIX, 0);
    mat5_put_matrix(&f, "function", 16, 2, (int[]){1, 1}, 9, "", 0);
    mat5_put_matrix(&f, "text", MAT5_CHAR, 2, (int[]){1, 2}, 1, "ab", 2);
    mat5_put_numbers(&f, "complex", MAT5_DOUBLE | MAT5_COMPLEX, 9, 2, (int[]){1, 3}, values, false);
    mat5_put_matrix(&f, "cell", 1, 2, (int[]){1 << 30, 1}, 9, "", 0); // which says nothing
    mat5_put_numbers(&f, "good", MAT5_DOUBLE, 9, 2, (int[]){1, 3}, values, false);
    Mat5 m;
    Error err = {""};
    double got[3];
    if (!CHECK(open_made(&m, &f, 80, &err), "%s", err.text)) { return; }
    const char* const refused[] = {"text", "complex", "cell"};
    for (int i = 0; i < 3; i++) {
        const Mat5Array* a = mat5_find(&m, refused[i], &err);
        CHECK_REFUSED(!a || mat5_numbers(&m, a, got, &err), "not an array of real numbers");
    }
    int count;
    CHECK_REFUSED(mat5_integers(&m, "cell", 0, 9, &count, &err), "not an array of real numbers");
    CHECK(!mat5_find(&m, "function", &err), "a function is found");
    const Mat5Array* good = mat5_find(&m, "good", &err);
    CHECK(good && mat5_numbers(&m, good, got, &err) && got[2] == 3, "good: %s", err.text);
    m.limit = good->size - 1;
    CHECK_REFUSED(mat5_numbers(&m, good, got, &err), "larger than in the official");
    CHECK_REFUSED(mat5_integers(&m, "good", 0, 9, &count, &err), "larger than");
    mat5_close(&m);
}

// Everything that the file has to give, which must not crash
static bool read_all(const uint8_t* bytes, size_t count) {
    Mat5 m;
    Error err = {""};
    double numbers[16];
    bool ok = mat5_open_memory(&m, bytes, count, "made.mat", LIMIT, &err);
    for (int i = 0; ok && i < m.count; i++) {
        const Mat5Array* a = &m.variables[i];
        if (a->class != MAT5_STRUCT && a->count <= 16 && !mat5_numbers(&m, a, numbers, &err)) { ok = false; }
    }
    if (ok || m.file) { mat5_close(&m); }
    int synsets;
    Synset* s = synsets_read(bytes, count, "made.mat", &synsets, &err);
    ok = ok && s;
    free(s);
    CHECK(ok || *err.text, "refused without a sentence");
    return ok;
}

static Mat5Maker everything(bool packed) {
    static const double values[] = {1, 2, 3};
    Mat5Maker f = made_synsets("n00001740", packed);
    mat5_put_numbers(&f, "small", MAT5_DOUBLE, MAT5_UINT8, 2, (int[]){1, 3}, values, packed);
    mat5_put_numbers(&f, "long", MAT5_DOUBLE, 9, 2, (int[]){3, 1}, values, packed);
    return f;
}

static void test_damaged(bool packed) {
    Mat5Maker f = everything(packed);
    CHECK(read_all(f.bytes, f.count), "the whole file is refused");
    int accepted = 0;
    for (size_t n = 0; n < f.count; n++) {
        uint8_t* cut = malloc(n + 1); // with nothing behind it that could be read
        memcpy(cut, f.bytes, n);
        accepted += read_all(cut, n);
        free(cut);
    }
    CHECK(accepted <= 2, "%d cut files are accepted", accepted); // those that end with a whole variable
    for (size_t i = 0; i < f.count; i++) {
        uint8_t right = f.bytes[i];
        f.bytes[i] ^= (uint8_t)(i % 3 ? 0xFF : 1 << i % 8);
        bool ok = read_all(f.bytes, f.count);
        CHECK(!ok || !packed || i < MAT5_HEADER, "byte %zu of packed data is changed, and accepted", i);
        f.bytes[i] = right;
    }
}

#ifdef HAVE_ZLIB
static void test_packed(void) {
    static const double values[] = {1, 2, 3};
    Mat5Maker one = {0}, f = mat5_made();
    Mat5 m;
    Error err = {""};
    double got[3];
    mat5_put_numbers(&one, "one", MAT5_DOUBLE, 9, 2, (int[]){1, 3}, values, false);
    Mat5Maker two = {0};
    mat5_put(&two, one.bytes, one.count);
    mat5_put(&two, one.bytes, one.count);
    mat5_put_packed(&f, &two);
    if (CHECK(open_made(&m, &f, LIMIT, &err), "%s", err.text)) {
        CHECK_REFUSED(mat5_numbers(&m, &m.variables[0], got, &err), "together with something else");
        mat5_close(&m);
    }
    f = mat5_made();
    one.count -= 8;
    mat5_put_packed(&f, &one);
    expect_refused(&f, "packed data ends too soon", "less packed than its size says");
    f = mat5_made();
    Mat5Maker text = {0};
    mat5_put_tag(&text, 3, 16);
    mat5_put(&text, "0123456789abcdef", 16);
    mat5_put_packed(&f, &text); // passed over
    mat5_put_tag(&f, MAT5_PACKED, 5);
    mat5_put(&f, "xxxxx", 5);
    expect_refused(&f, "packed data is damaged", "what is not zlib's");
}
#else
static void test_packed(void) {}
#endif

int main(void) {
    open_test_folder();
    test_number_types();
    for (int packed = 0; packed <= MAT5_CAN_PACK; packed++) {
        test_long_arrays(packed);
        test_damaged(packed);
    }
    expect_integers(1, 10, NULL);
    expect_integers(1, 9, "value 1 of 'y' is 10, not a whole number of 1..9");
    expect_integers(2, 10, "value 0 of 'y' is 1");
    test_characters();
    test_synsets();
    test_scipy();
    test_foreign();
    test_impossible();
    test_unreadable();
    test_packed();
    remove_test_folder();
    return tests_finish();
}
