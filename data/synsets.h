// The classes of ImageNet-1K as in its development kit: meta.mat, a variable `synsets`, 1860 structures. Those without
// children are the 1000 classes; ILSVRC2012_ID is the number that the ground truth of the validation images uses, which
// is not the index that models use: that is the place of the WordNet id among the sorted ones.
#pragma once
#include "mat5.h"

typedef struct {
    int id;          // ILSVRC2012_ID
    int children;    // 0: it is a class
    char wnid[16];   // "n01440764"
    char words[256]; // "tench, Tinca tinca"
} Synset;

enum { SYNSETS_LIMIT = 4 << 20 }; // bytes that they may unpack to

static inline bool synset_of(Synset* out, const Mat5Structs* s, int i) {
    double id = 0, children = 0;
    *out = (Synset){0};
    bool ok = mat5_cell_number(mat5_cell(s, i, "ILSVRC2012_ID"), &id)
        && mat5_cell_number(mat5_cell(s, i, "num_children"), &children)
        && mat5_cell_text(mat5_cell(s, i, "WNID"), out->wnid, sizeof out->wnid)
        && mat5_cell_text(mat5_cell(s, i, "words"), out->words, sizeof out->words)
        && id >= 1 && id < 1e6 && children >= 0 && children < 1e6 // excludes NaN
        && strlen(out->wnid) == 9 && out->wnid[0] == 'n' && strspn(out->wnid + 1, "0123456789") == 8;
    out->id = ok ? (int)id : 0;
    out->children = ok ? (int)children : 0;
    hide_control_characters(out->words);
    return ok;
}

static inline Synset* synsets_of(const Mat5* m, int* count, Error* err) {
    Mat5Structs s;
    if (!mat5_structs(&s, m, "synsets", err)) { return NULL; }
    Synset* list = (Synset*)malloc(((size_t)s.count + 1) * sizeof *list);
    bool ok = list || set_error(err, "no memory for %s: close other programs", m->path);
    for (int i = 0; i < s.count && ok; i++) {
        ok = synset_of(&list[i], &s, i)
            || set_error(err, "%s: synset %d has no ILSVRC2012_ID, WNID, words or num_children as it should: fetch the "
                         "file again", m->path, i);
    }
    *count = s.count;
    mat5_structs_free(&s);
    if (ok) { return list; }
    free(list);
    return NULL;
}

// From the contents of meta.mat, which errors call `name`: *count of them in the file's order, to be freed; NULL on
// error
static inline Synset* synsets_read(const uint8_t* bytes, size_t size, const char* name, int* count, Error* err) {
    Mat5 m;
    if (!mat5_open_memory(&m, bytes, size, name, SYNSETS_LIMIT, err)) { return NULL; }
    Synset* list = synsets_of(&m, count, err);
    mat5_close(&m);
    return list;
}
