// A MATLAB 5 file: everything that data/mat5.h can read from it, and its synsets.
#include "../../data/synsets.h"
#include "fuzz.h"

enum { FUZZ_MAT5_LIMIT = 1 << 20 };

static void fuzz_numbers(const Mat5* m, const Mat5Array* a) {
    Error err = {""};
    int count;
    int* numbers = mat5_integers(m, a->name, -1000, 1000, &count, &err);
    FUZZ_CHECK(numbers || *err.text, "refused without a sentence");
    FUZZ_CHECK(!numbers || count >= 0, "less numbers than none");
    free(numbers);
}

static void fuzz_structs(const Mat5* m, const Mat5Array* a) {
    Error err = {""};
    Mat5Structs s;
    if (!mat5_structs(&s, m, a->name, &err)) {
        FUZZ_CHECK(*err.text, "refused without a sentence");
        return;
    }
    for (int i = 0; i < s.count * s.fields; i++) {
        char text[32];
        double number;
        mat5_cell_number(&s.cells[i], &number);
        mat5_cell_text(&s.cells[i], text, sizeof text);
        FUZZ_CHECK(memchr(text, 0, sizeof text), "the text has no end");
    }
    mat5_structs_free(&s);
}

static void fuzz_mat5(const uint8_t* bytes, size_t size) {
    Mat5 m;
    Error err = {""};
    int count;
    free(synsets_read(bytes, size, "meta.mat", &count, &err));
    if (!mat5_open_memory(&m, bytes, size, "meta.mat", FUZZ_MAT5_LIMIT, &err)) {
        FUZZ_CHECK(*err.text, "refused without a sentence");
        return;
    }
    for (int i = 0; i < m.count; i++) {
        fuzz_numbers(&m, &m.variables[i]);
        fuzz_structs(&m, &m.variables[i]);
    }
    mat5_close(&m);
}
FUZZ_TARGET(fuzz_mat5)
