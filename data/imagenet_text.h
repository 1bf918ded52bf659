// What ImageNet's texts say: which words belong to a WordNet id, and the classes of validation images that are not
// sorted into folders. Read from any of
//
//   the development kit    meta.mat (ids, numbers, words) and the ground truth: line k is the number, ILSVRC2012_ID, of
//                          image k; packed or not
//   Kaggle's files         LOC_synset_mapping.txt ("n01440764 tench, Tinca tinca"), LOC_val_solution.csv
//                          ("ILSVRC2012_val_00048981,n03995372 85 1 499 272")
//   a text                 one WordNet id per line, in the order of the images' numbers
#pragma once
#include "members.h"
#include "set_text.h"
#include "source_file.h"
#include "synsets.h"

#ifdef HAVE_ARCHIVE
enum { READS_ARCHIVES = 1 };
#else
enum { READS_ARCHIVES = 0 };
#endif
enum { WNID_LENGTH = 9, TRUTH_LIMIT = 16 << 20, DEVKIT_LIMIT = 64 << 20, MAX_TRUTH = 1000000 };
#define DEVKIT "ILSVRC2012_devkit_t12"

typedef struct {
    TextTable wnids;                    // of classes
    char (*names)[CLASS_NAME_BYTES];    // (wnids) their first words; empty: not known
    size_t name_room;
    int32_t* truth;                     // (truth_count) the class of image k + 1, among the wnids; -1: not known
    size_t truth_count, truth_room;
    char truth_from[PATH_MAX];          // the file that says so; empty: none
} ImagenetText;

static inline void imagenet_text_free(ImagenetText* t) {
    table_free(&t->wnids);
    free(t->names);
    free(t->truth);
    *t = (ImagenetText){0};
}

// "n" and eight digits, whatever follows them
static inline bool begins_with_wnid(const char* text) {
    return text[0] == 'n' && strspn(text + 1, "0123456789") == WNID_LENGTH - 1;
}

static inline bool is_wnid(const char* text) { return begins_with_wnid(text) && !text[WNID_LENGTH]; }

// The image's number in "…ILSVRC2012_val_00000001…"; 0: there is none
static inline uint32_t val_number(const char* name) {
    static const char before[] = "ILSVRC2012_val_";
    const char* found = strstr(name, before);
    const char* digits = found ? found + strlen(before) : "";
    return strspn(digits, "0123456789") == 8 ? (uint32_t)strtoul(digits, NULL, 10) : 0;
}

// The number in t->wnids of the id that text begins with, which is added if it is new; -1: err says why not
static inline int64_t wnid_number(ImagenetText* t, const char* text, Error* err) {
    char wnid[WNID_LENGTH + 1];
    snprintf(wnid, sizeof wnid, "%.9s", text);
    int64_t number = table_find(&t->wnids, wnid);
    if (number >= 0) { return number; }
    if (t->wnids.count == MAX_CLASSES) {
        set_error(err, "there are more than %d classes", MAX_CLASSES);
        return -1;
    }
    void* names = array_grow(t->names, t->wnids.count, &t->name_room, sizeof *t->names, err);
    if (!names) { return -1; }
    t->names = (char (*)[CLASS_NAME_BYTES])names;
    *t->names[t->wnids.count] = 0;
    return table_add(&t->wnids, wnid, err) ? (int64_t)t->wnids.count - 1 : -1;
}

// words: "tench, Tinca tinca"
static inline bool add_wnid(ImagenetText* t, const char* wnid, const char* words, Error* err) {
    char first[256];
    int64_t number = wnid_number(t, wnid, err);
    if (number < 0) { return false; }
    snprintf(first, sizeof first, "%.*s", (int)strcspn(words, ",\r\n"), words);
    plain_field(t->names[number], first, CLASS_NAME_BYTES);
    return true;
}

// Records that image `number`, from 1, is of this class.
static inline bool add_truth(ImagenetText* t, size_t number, int64_t wnid, const char* path, Error* err) {
    if (number < 1 || number > MAX_TRUTH) {
        return set_error(err, "%s tells of image %zu, which is none", path, number);
    }
    while (t->truth_count < number) {
        int32_t* truth = (int32_t*)array_grow(t->truth, t->truth_count, &t->truth_room, sizeof *truth, err);
        if (!truth) { return false; }
        t->truth = truth;
        t->truth[t->truth_count++] = -1;
    }
    t->truth[number - 1] = (int32_t)wnid;
    snprintf(t->truth_from, sizeof t->truth_from, "%s", path);
    return true;
}

// ---- the development kit

// classes: for each ILSVRC2012_ID its number in t->wnids; -1: there is no such class
static inline bool add_synsets(ImagenetText* t, const uint8_t* bytes, size_t size, const char* path, int64_t classes[],
                               int limit, Error* err) {
    int count = 0;
    Synset* synsets = synsets_read(bytes, size, path, &count, err);
    bool ok = synsets != NULL;
    for (int i = 0; i < limit; i++) { classes[i] = -1; }
    for (int i = 0; i < count && ok; i++) {
        if (synsets[i].children || synsets[i].id >= limit) { continue; }
        ok = add_wnid(t, synsets[i].wnid, synsets[i].words, err);
        classes[synsets[i].id] = ok ? table_find(&t->wnids, synsets[i].wnid) : -1;
    }
    free(synsets);
    return ok;
}

static inline bool add_ground_truth(ImagenetText* t, const char* text, const char* path, const int64_t classes[],
                                    int limit, Error* err) {
    size_t line = 0;
    for (const char* at = text; *at; at += strcspn(at, "\n") + (at[strcspn(at, "\n")] != 0)) {
        char* end;
        long id = strtol(at, &end, 10);
        bool ends = *end == '\n' || *end == '\r' || !*end;
        line++;
        if (end == at || !ends || id < 1 || id >= limit || classes[id] < 0) {
            return set_error(err, "%s: line %zu is not the ILSVRC2012_ID of a class: fetch the development kit again",
                             path, line);
        }
        if (!add_truth(t, line, classes[id], path, err)) { return false; }
    }
    return line > 0 || set_error(err, "%s is empty: fetch the development kit again", path);
}

// Both files of the kit, unpacked
static inline bool add_devkit(ImagenetText* t, const uint8_t* meta, size_t size, const char* truth, const char* path,
                              Error* err) {
    enum { IDS = 4096 };
    int64_t* classes = (int64_t*)malloc(IDS * sizeof *classes);
    if (!classes) { return set_error(err, "no memory for the classes of %s: close other programs", path); }
    bool ok = add_synsets(t, meta, size, path, classes, IDS, err)
        && add_ground_truth(t, truth, path, classes, IDS, err);
    free(classes);
    return ok;
}

static inline bool check_devkit(const char* path, bool any_hash, Error* err) {
    static const SourceFile kit = {DEVKIT ".tar.gz", "fa75699e90414af021442c21a62c3abf"};
    size_t count;
    uint8_t* archive = read_whole(path, DEVKIT_LIMIT, &count, err);
    bool ok = archive && check_hash(&kit, path, archive, count, any_hash, err);
    free(archive);
    return ok;
}

// Both files, from a walk over the kit; to be freed
static inline bool devkit_files(MemberWalk* w, uint8_t** meta, size_t* size, uint8_t** truth, Error* err) {
    int found = 1;
    while (!(*meta && *truth) && (found = members_next(w, err)) > 0) {
        bool is_meta = strcmp(w->name, "data/meta.mat") == 0;
        if (!is_meta && strcmp(w->name, "data/ILSVRC2012_validation_ground_truth.txt") != 0) { continue; }
        uint8_t** file = is_meta ? meta : truth;
        if (*file) { continue; }
        if (is_meta) { *size = w->bytes; }
        *file = members_take(w, is_meta ? SYNSETS_LIMIT : TRUTH_LIMIT, err);
        if (!*file) { return false; }
    }
    if (found == 0) {
        return set_error(err, "%s lacks data/meta.mat or data/ILSVRC2012_validation_ground_truth.txt: fetch it again",
                         w->place.path);
    }
    return found > 0;
}

static inline bool read_devkit(ImagenetText* t, const SetPlace* place, bool any_hash, Error* err) {
    uint8_t *meta = NULL, *truth = NULL;
    size_t size = 0;
    MemberWalk* w = (MemberWalk*)malloc(sizeof *w);
    if (!w) { return set_error(err, "no memory to read %s: close other programs", place->path); }
    bool ok = (!place->archive || check_devkit(place->path, any_hash, err)) && members_open(w, place, err);
    if (ok) {
        ok = devkit_files(w, &meta, &size, &truth, err)
            && add_devkit(t, meta, size, (const char*)truth, place->path, err);
        members_close(w);
    }
    free(w);
    free(meta);
    free(truth);
    return ok;
}

// ---- texts

// Passes each line, without its end, to `take`, until that returns false.
typedef bool (*TakeLine)(ImagenetText* t, const char* line, size_t number, const char* path, Error* err);

static inline bool read_lines(ImagenetText* t, const char* path, TakeLine take, Error* err) {
    size_t count, number = 0;
    char* text = (char*)read_whole(path, TRUTH_LIMIT, &count, err);
    bool ok = text != NULL;
    for (char* line = text; ok && *line;) {
        size_t length = strcspn(line, "\n");
        bool last = !line[length];
        line[length] = 0;
        if (length && line[length - 1] == '\r') { line[length - 1] = 0; }
        ok = take(t, line, ++number, path, err);
        line += length + !last;
    }
    free(text);
    return ok;
}

static inline bool take_mapping(ImagenetText* t, const char* line, size_t number, const char* path, Error* err) {
    if (!*line) { return true; }
    if (!begins_with_wnid(line) || line[WNID_LENGTH] != ' ') {
        return set_error(err, "%s: line %zu is not a WordNet id and words: fetch the file again", path, number);
    }
    return add_wnid(t, line, line + WNID_LENGTH + 1, err);
}

static inline bool take_solution(ImagenetText* t, const char* line, size_t number, const char* path, Error* err) {
    const char* comma = strchr(line, ',');
    if (!*line || (number == 1 && strncmp(line, "ImageId", 7) == 0)) { return true; }
    uint32_t image = val_number(line);
    if (!comma || !image || !begins_with_wnid(comma + 1)) {
        return set_error(err, "%s: line %zu is not an image and a WordNet id: fetch the file again", path, number);
    }
    int64_t wnid = wnid_number(t, comma + 1, err);
    return wnid >= 0 && add_truth(t, image, wnid, path, err);
}

static inline bool take_wnid(ImagenetText* t, const char* line, size_t number, const char* path, Error* err) {
    if (!is_wnid(line)) {
        return set_error(err, "%s: line %zu is not a WordNet id, as the lines before it: complete the list, or take it "
                         "out", path, number);
    }
    int64_t wnid = wnid_number(t, line, err);
    return wnid >= 0 && add_truth(t, number, wnid, path, err);
}

static inline bool find_in(char path[PATH_MAX], const char* root, const char* name) {
    return snprintf(path, PATH_MAX, "%s/%s", root, name) < PATH_MAX && path_exists(path);
}

// The first text in a folder, by name, whose first line is a WordNet id
static inline bool find_wnid_list(char path[PATH_MAX], const char* folder) {
    char names[2][256] = {"", ""}, line[32];
    DIR* entries;
    for (;;) { // the next name, among all
        if (!(entries = opendir(folder))) { return false; }
        *names[1] = 0;
        for (struct dirent* e; (e = readdir(entries));) {
            bool later = ends_with(e->d_name, ".txt") && strcmp(e->d_name, names[0]) > 0;
            if (later && (!*names[1] || strcmp(e->d_name, names[1]) < 0)) { snprintf(names[1], 256, "%s", e->d_name); }
        }
        closedir(entries);
        if (!*names[1]) { return false; }
        memcpy(names[0], names[1], sizeof names[0]);
        FILE* f = find_in(path, folder, names[0]) && is_file(path) ? fopen(path, "r") : NULL;
        bool first = f && fgets(line, sizeof line, f);
        if (f) { fclose(f); }
        if (first) { line[strcspn(line, "\r\n")] = 0; }
        if (first && is_wnid(line)) { return true; }
    }
}

// ---- whichever are there

// The kit is read first; what a missing text would say is unknown. labels: whether the classes of validation images are
// wanted, and not only names, for which a kit that cannot be unpacked is skipped.
static inline bool imagenet_text_read(ImagenetText* t, const char* root, bool any_hash, bool labels, Error* err) {
    SetPlace kit;
    Error ignored;
    char path[PATH_MAX];
    bool found = find_set(&kit, root, DEVKIT, "data/meta.mat", DEVKIT ".tar.gz", 2, &ignored);
    if (found && kit.archive && !READS_ARCHIVES && !labels) {
        printf("note: %s is not read, since this program was built without libarchive\n", kit.path);
        found = false;
    }
    *t = (ImagenetText){0};
    if (found && !read_devkit(t, &kit, any_hash, err)) { return false; }
    if (find_in(path, root, "LOC_synset_mapping.txt") && !read_lines(t, path, take_mapping, err)) { return false; }
    if (*t->truth_from) { return true; }
    if (find_in(path, root, "LOC_val_solution.csv")) { return read_lines(t, path, take_solution, err); }
    return !find_wnid_list(path, root) || read_lines(t, path, take_wnid, err);
}
