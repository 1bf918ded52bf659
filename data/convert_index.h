// Indices for existing tars: our own shards, whose comment says everything; webdataset's, where a member KEY.cls beside
// an image has the number of its class; or plain ones, where the folder of an image is its class. They are read, not
// changed:
//
//   ./convert_data index FOLDER    makes train.index of FOLDER/*train*.tar, val.index of FOLDER/*val*.tar, *test*.tar
#pragma once
#include "convert_folder.h"
#include "imagenet_checks.h"
#include "imagenet_text.h"

typedef enum { LABELS_OF_COMMENT, LABELS_OF_CLS, LABELS_OF_FOLDERS } LabelKind;
static const char* const label_kinds[] = {"the shards' own comment", ".cls members", "the folders that images lie in"};

typedef struct {
    const char* folder;
    char (*names)[SHARD_NAME_BYTES];  // (count) tars, training first
    int count, of_split[SPLITS];
    LabelKind labels;
    const ClassList* classes;
} TarSet;

static inline void tar_set_free(TarSet* s) {
    free(s->names);
    *s = (TarSet){0};
}

static inline bool tar_set_path(char path[PATH_MAX], const TarSet* s, int tar, Error* err) {
    return snprintf(path, PATH_MAX, "%s/%s", s->folder, s->names[tar]) < PATH_MAX
        || set_error(err, "the path %.100s... is too long: move the shards to a shorter one", s->folder);
}

// ---- which tars

// The split that a tar's name indicates; SPLITS: none
static inline Split split_of_name(const char* name) {
    if (strstr(name, "train")) { return SPLIT_TRAIN; }
    return strstr(name, "val") || strstr(name, "test") ? SPLIT_VAL : SPLITS;
}

static inline int compare_tar_names(const void* a, const void* b) {
    Split x = split_of_name((const char*)a), y = split_of_name((const char*)b);
    return x != y ? (x < y ? -1 : 1) : strcmp((const char*)a, (const char*)b);
}

static inline bool tar_set_take(TarSet* s, size_t* room, const char* name, Error* err) {
    Split split = split_of_name(name);
    if (split == SPLITS) {
        printf("note: %s/%s is left out: its name says neither train nor val\n", s->folder, name);
        return true;
    }
    if (strlen(name) >= SHARD_NAME_BYTES) {
        return set_error(err, "%s/%s: names of up to %d bytes have room in an index: rename it", s->folder, name,
                         SHARD_NAME_BYTES - 1);
    }
    void* names = array_grow(s->names, (size_t)s->count, room, sizeof *s->names, err);
    if (!names) { return false; }
    s->names = (char (*)[SHARD_NAME_BYTES])names;
    memset(s->names[s->count], 0, sizeof s->names[0]);
    memcpy(s->names[s->count++], name, strlen(name));
    s->of_split[split]++;
    return true;
}

static inline bool tar_set_find(TarSet* s, Error* err) {
    size_t room = 0;
    DIR* entries = opendir(s->folder);
    bool ok = entries || set_error(err, "cannot look into %s: %s; give a folder that holds tars", s->folder,
                                   strerror(errno));
    for (struct dirent* e; ok && (e = readdir(entries));) {
        if (e->d_name[0] != '.' && ends_with(e->d_name, ".tar")) { ok = tar_set_take(s, &room, e->d_name, err); }
    }
    if (entries) { closedir(entries); }
    if (ok && !s->count) {
        ok = set_error(err, "%s holds no tars whose names say train or val: train-000000.tar and val-000000.tar, say",
                       s->folder);
    }
    if (ok) { qsort(s->names, (size_t)s->count, sizeof *s->names, compare_tar_names); }
    return ok;
}

// ---- members

// Cuts a member's name as webdataset does: the key goes up to the first dot after the last slash; returns what follows
// it.
static inline const char* member_extension(const char* name, size_t* key_length) {
    const char* slash = strrchr(name, '/');
    const char* dot = strchr(slash ? slash : name, '.');
    *key_length = dot ? (size_t)(dot - name) : strlen(name);
    return dot ? dot + 1 : "";
}

static inline bool is_image_extension(const char* extension) {
    return strcasecmp(extension, "jpg") == 0 || strcasecmp(extension, "jpeg") == 0 || strcasecmp(extension, "png") == 0;
}

// The innermost folder of a member; false: it lies in none, or in one with too long a name
static inline bool member_folder(char folder[FOLDER_NAME_BYTES], const char* name) {
    const char* end = strrchr(name, '/');
    const char* begin = end;
    while (begin && begin > name && begin[-1] != '/') { begin--; }
    if (!end || begin == end || end - begin >= FOLDER_NAME_BYTES) { return false; }
    snprintf(folder, FOLDER_NAME_BYTES, "%.*s", (int)(end - begin), begin);
    return strcmp(folder, ".") != 0;
}

static inline void take_member(const Cursor* c, InputImage* image) {
    const TarSet* s = (const TarSet*)c->job->input;
    image->descriptor = c->walk.descriptor;
    image->offset = c->walk.offset;
    image->bytes = c->walk.bytes;
    image->png = has_extension(c->walk.name, ".png");
    image->refused = NULL;
    image->label = 0;
    snprintf(image->from, sizeof image->from, "%s: %.400s", s->names[c->job->first], c->walk.name);
}

// ---- Images with their labels

static inline int next_in_folder(Cursor* c, InputImage* image, Error* err) {
    const TarSet* s = (const TarSet*)c->job->input;
    char folder[FOLDER_NAME_BYTES];
    for (;;) {
        int found = tar_next(&c->walk, err);
        if (found != 1) { return found; }
        if (!tar_is_file(&c->walk) || !is_image_name(c->walk.name)) { continue; }
        take_member(c, image);
        bool inside = member_folder(folder, c->walk.name);
        image->label = inside ? class_number(s->classes, folder) : -1;
        if (image->label < 0) {
            image->refused = inside ? "lies in a folder that is no class of the set" : "lies in no folder";
        }
        return 1;
    }
}

// The number in the current member; -1: there is none
static inline int cls_label(const TarWalk* w) {
    char text[32] = "", *end;
    size_t count = w->bytes < sizeof text - 1 ? w->bytes : sizeof text - 1;
    Error ignored;
    if (!tar_read(w, text, count, &ignored)) { return -1; }
    long label = strtol(text, &end, 10);
    return end > text && !*(end + strspn(end, " \r\n")) && label >= 0 && label < MAX_CLASSES ? (int)label : -1;
}

// Members with the same key are adjacent, in any order. c->walking: the next member has been read already.
static inline int next_with_cls(Cursor* c, InputImage* image, Error* err) {
    char key[TAR_NAME_BYTES] = "";
    bool has_image = false, has_label = false;
    int label = -1;
    for (;;) {
        int found = c->walking ? 1 : tar_next(&c->walk, err);
        size_t length = 0;
        if (found < 0) { return -1; }
        c->walking = found && !tar_is_file(&c->walk) ? false : found;
        if (found && !c->walking) { continue; }
        const char* extension = found ? member_extension(c->walk.name, &length) : "";
        bool same = found && strlen(key) == length && memcmp(key, c->walk.name, length) == 0;
        if (!same && has_image) { break; }
        if (!found) { return 0; }
        if (!same) {
            snprintf(key, sizeof key, "%.*s", (int)length, c->walk.name);
            has_label = false;
        }
        if (!has_image && is_image_extension(extension)) { take_member(c, image); has_image = true; }
        if (strcmp(extension, "cls") == 0) { label = cls_label(&c->walk); has_label = true; }
        c->walking = false;
    }
    image->label = has_label ? label : 0;
    if (!has_label) { image->refused = "has no member .cls beside it"; }
    if (has_label && label < 0) { image->refused = "has a member .cls that is no number of a class"; }
    return 1;
}

static inline bool tar_set_begin(Cursor* c, Error* err) {
    const TarSet* s = (const TarSet*)c->job->input;
    struct stat status;
    if (!tar_set_path(c->path, s, (int)c->job->first, err)) { return false; }
    int descriptor = open_archive(c->path, &status, err);
    if (descriptor < 0) { return false; }
    c->descriptors[c->descriptor_count++] = descriptor;
    tar_begin(&c->walk, descriptor, c->path, 0, (uint64_t)status.st_size);
    return true;
}

static inline int tar_set_next(Cursor* c, InputImage* image, Error* err) {
    bool cls = ((const TarSet*)c->job->input)->labels == LABELS_OF_CLS;
    return cls ? next_with_cls(c, image, err) : next_in_folder(c, image, err);
}

static const ImageSource tar_set_source = {tar_set_begin, tar_set_next};

// ---- what the labels are

// The comment of a tar that begins with one, to be freed; NULL: it does not
static inline char* tar_comment(TarWalk* w) {
    Error ignored;
    size_t length;
    char *records, *text = NULL;
    if (tar_next(w, &ignored) != 1 || w->type != 'g' || w->bytes > (4 << 20)) { return NULL; }
    records = (char*)malloc(w->bytes + 1);
    if (records && tar_read(w, records, w->bytes, &ignored)) {
        const char* comment = pax_find(records, w->bytes, "comment", &length);
        text = comment ? strndup(comment, length) : NULL;
    }
    free(records);
    return text;
}

// Whether the first image has a .cls member beside it
static inline bool tar_has_cls(TarWalk* w) {
    Error ignored;
    for (int members = 0; members < 8 && tar_next(w, &ignored) == 1; members++) {
        if (tar_is_file(w) && ends_with(w->name, ".cls")) { return true; }
    }
    return false;
}

// Applies `look` to the members of a tar, from its beginning.
typedef bool (*TarLook)(TarWalk* w, void* what, Error* err);

static inline bool look_into_tar(const TarSet* s, int tar, TarLook look, void* what, Error* err) {
    char path[PATH_MAX];
    struct stat status;
    if (!tar_set_path(path, s, tar, err)) { return false; }
    int descriptor = open_archive(path, &status, err);
    TarWalk* w = (TarWalk*)malloc(sizeof *w);
    bool ok = descriptor >= 0 && (w || set_error(err, "no memory to read %s: close other programs", path));
    if (ok) {
        tar_begin(w, descriptor, path, 0, (uint64_t)status.st_size);
        ok = look(w, what, err);
    }
    free(w);
    if (descriptor >= 0) { close(descriptor); }
    return ok;
}

typedef struct { Plan* plan; LabelKind* labels; } LabelsToFind;

static inline void take_comment(Plan* p, const Plan* told) {
    memcpy(p->name, told->name, sizeof p->name);
    memcpy(p->encoder, told->encoder, sizeof p->encoder);
    p->side = told->side;
    p->quality = told->quality;
    p->classes = told->classes;
}

static inline bool look_at_beginning(TarWalk* w, void* what, Error* err) {
    const LabelsToFind* f = (const LabelsToFind*)what;
    char* comment = tar_comment(w);
    Plan told = {0};
    bool own = comment && comment_read(&told, comment, err);
    free(comment);
    if (own) { take_comment(f->plan, &told); }
    tar_begin(w, w->descriptor, w->path, 0, w->end);
    *f->labels = own ? LABELS_OF_COMMENT : tar_has_cls(w) ? LABELS_OF_CLS : LABELS_OF_FOLDERS;
    return true;
}

static inline bool look_for_folders(TarWalk* w, void* what, Error* err) {
    TextTable* folders = (TextTable*)what;
    char folder[FOLDER_NAME_BYTES];
    int found;
    while ((found = tar_next(w, err)) == 1) {
        bool inside = tar_is_file(w) && is_image_name(w->name) && member_folder(folder, w->name);
        if (inside && table_find(folders, folder) < 0 && !table_add(folders, folder, err)) { return false; }
    }
    return found == 0;
}

static inline bool classes_of_folders(const TarSet* s, ClassList* classes, Error* err) {
    TextTable folders = {0};
    char (*names)[FOLDER_NAME_BYTES] = NULL;
    bool ok = true;
    for (int tar = 0; tar < s->count && ok; tar++) { ok = look_into_tar(s, tar, look_for_folders, &folders, err); }
    if (ok && !folders.count) {
        ok = set_error(err, "the tars in %s hold no images in folders, and no .cls members", s->folder);
    }
    if (ok) {
        names = (char (*)[FOLDER_NAME_BYTES])calloc(folders.count, sizeof *names);
        ok = names || set_error(err, "no memory for %zu classes: close other programs", folders.count);
    }
    for (size_t k = 0; k < folders.count && ok; k++) { strcpy(names[k], table_text(&folders, k)); }
    ok = ok && classes_sorted(classes, names, (int)folders.count, err);
    if (!ok) { free(names); }
    table_free(&folders);
    return ok;
}

static inline bool find_labels(TarSet* s, Plan* p, Error* err) {
    LabelsToFind f = {p, &s->labels};
    folder_name(p->name, s->folder);
    s->classes = &p->classes;
    if (!look_into_tar(s, 0, look_at_beginning, &f, err)) { return false; }
    printf("%d tars for training, %d for validation; classes by %s\n", s->of_split[SPLIT_TRAIN], s->of_split[SPLIT_VAL],
           label_kinds[s->labels]);
    return s->labels != LABELS_OF_FOLDERS || classes_of_folders(s, &p->classes, err);
}

// ---- when all images are read

// The name of the member whose data begins at offset, as far as the header right before it has it
static inline bool name_before(char name[128], int descriptor, uint64_t offset) {
    char header[TAR_BLOCK];
    *name = 0;
    if (offset < TAR_BLOCK || read_at(descriptor, header, TAR_BLOCK, offset - TAR_BLOCK) != TAR_BLOCK) { return false; }
    snprintf(name, 128, "%.100s", header);
    return *name;
}

// The "n01440764" at the start of a name, or after a slash or _ in it; "": there is none
static inline void wnid_in_name(char wnid[CLASS_NAME_BYTES], const char* name) {
    *wnid = 0;
    for (const char* c = name; *c; c++) {
        bool front = c == name || c[-1] == '/' || c[-1] == '_';
        if (!front || !begins_with_wnid(c) || (c[WNID_LENGTH] >= '0' && c[WNID_LENGTH] <= '9')) { continue; }
        snprintf(wnid, CLASS_NAME_BYTES, "%.9s", c);
        return;
    }
}

typedef struct {
    char (*ids)[CLASS_NAME_BYTES]; // (classes) as they are in the names of images
    bool agree;                    // all images of a class have the same
    ValLabels val;
} NamesSeen;

static inline void see_record(NamesSeen* seen, Split split, const char* name, int label) {
    char wnid[CLASS_NAME_BYTES];
    if (split == SPLIT_VAL) { val_labels_add(&seen->val, val_number(name), label); }
    wnid_in_name(wnid, name);
    if (split == SPLIT_VAL && !*wnid) { return; }
    if (!*seen->ids[label]) { memcpy(seen->ids[label], wnid, CLASS_NAME_BYTES); }
    seen->agree = seen->agree && *wnid && strcmp(wnid, seen->ids[label]) == 0;
}

// This reads one header of every image again.
static inline bool see_names(NamesSeen* seen, const Plan* p, const Part* parts, Error* err) {
    char path[PATH_MAX], name[128];
    for (size_t j = 0; j < p->count; j++) {
        struct stat status;
        if (!in_output(path, p, p->jobs[j].shard, err)) { return false; }
        int descriptor = open_archive(path, &status, err);
        if (descriptor < 0) { return false; }
        for (uint32_t i = 0; i < parts[j].header.records; i++) {
            const ShardRecord* r = &parts[j].records[i];
            if (name_before(name, descriptor, r->offset)) { see_record(seen, p->jobs[j].split, name, r->label); }
        }
        close(descriptor);
    }
    return true;
}

// If classes are given by numbers in .cls members: as many as the largest number needs
static inline bool number_classes(Plan* p, const Part* parts, Error* err) {
    int count = 0;
    for (size_t j = 0; j < p->count; j++) {
        for (uint32_t i = 0; i < parts[j].header.records; i++) {
            count = parts[j].records[i].label >= count ? parts[j].records[i].label + 1 : count;
        }
    }
    char (*names)[FOLDER_NAME_BYTES] = (char (*)[FOLDER_NAME_BYTES])calloc((size_t)count + 1, sizeof *names);
    if (!names) { return set_error(err, "no memory for %d classes: close other programs", count); }
    for (int k = 0; k < count; k++) { snprintf(names[k], sizeof names[k], "%d", k); }
    bool ok = classes_sorted(&p->classes, names, count, err);
    if (!ok) { free(names); }
    return ok;
}

// Numbers become WordNet ids if the names of the images show these, one per class.
static inline void take_ids(ClassList* c, const NamesSeen* seen) {
    TextTable ids = {0};
    Error ignored;
    bool all = seen->agree;
    for (int k = 0; k < c->count && all; k++) {
        all = *seen->ids[k] && table_find(&ids, seen->ids[k]) < 0 && table_add(&ids, seen->ids[k], &ignored);
    }
    for (int k = 0; k < c->count && all; k++) {
        memcpy(c->ids[k], seen->ids[k], CLASS_NAME_BYTES);
        memcpy(c->names[k], seen->ids[k], CLASS_NAME_BYTES);
    }
    table_free(&ids);
}

static inline bool settle_index(Plan* p, const Part* parts, Error* err) {
    bool numbers = p->classes.count == 0;
    if (numbers && !number_classes(p, parts, err)) { return false; }
    NamesSeen seen = {.agree = true};
    seen.ids = (char (*)[CLASS_NAME_BYTES])calloc((size_t)p->classes.count + 1, CLASS_NAME_BYTES);
    bool ok = seen.ids || set_error(err, "no memory for %d classes: close other programs", p->classes.count);
    ok = ok && val_labels_create(&seen.val, err) && see_names(&seen, p, parts, err);
    if (ok && numbers) { take_ids(&p->classes, &seen); }
    const char* fault = ok && p->classes.count == IMAGENET_CLASSES ? val_labels_fault(&seen.val) : NULL;
    if (fault) { ok = plan_remark(p, err, "warning: the labels of the validation images are wrong: %s", fault); }
    free(seen.ids);
    free(seen.val.labels);
    return ok;
}

// ---- the command

static inline bool plan_index(Plan* p, TarSet* s, Error* err) {
    if (!tar_set_find(s, err) || !find_labels(s, p, err)) { return false; }
    for (int tar = 0; tar < s->count; tar++) {
        char path[PATH_MAX];
        struct stat status;
        Job* job = plan_add(p, split_of_name(s->names[tar]), &tar_set_source, s, (size_t)tar, err);
        if (!job || !tar_set_path(path, s, tar, err)) { return false; }
        if (stat(path, &status) != 0) { return set_error(err, "cannot look at %s: %s", path, strerror(errno)); }
        memcpy(job->shard, s->names[tar], sizeof job->shard);
        job->last = (size_t)tar + 1;
        job->units = (double)status.st_size;
        job->digest = digest_number(digest_text(s->labels, job->shard), (uint64_t)status.st_size);
        job->digest = digest_bytes(job->digest, &status.st_mtim, sizeof status.st_mtim);
    }
    if (s->labels != LABELS_OF_COMMENT) { p->settle = settle_index; }
    p->checks = imagenet_checks;
    return true;
}

// A preparation that was stopped has not made all its shards.
static inline bool check_complete(const TarSet* s, Error* err) {
    char path[PATH_MAX], line[256];
    int wanted = 0, number;
    if (snprintf(path, sizeof path, "%s/set.txt", s->folder) >= (int)sizeof path || !is_file(path)) { return true; }
    FILE* f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        bool shards = sscanf(line, "training-shards %d", &number) == 1
            || sscanf(line, "validation-shards %d", &number) == 1;
        wanted += shards ? number : 0;
    }
    if (f) { fclose(f); }
    return s->count >= wanted
        || set_error(err, "%s holds %d of the %d shards that %s tells of: let the command that makes them go on",
                     s->folder, s->count, wanted, path);
}

static inline bool make_index(Plan* p, const TarSet* s, const Treatment* t, Error* err) {
    int lock = LOCK_NONE, images[SPLITS];
    bool ok = check_folder(p->output, err) && lock_output(p, &lock, err) && check_complete(s, err);
    if (ok && set_is_finished(p, images)) {
        tell_finished(p, images);
    } else if (ok) {
        ok = prepare_and_finish(p, t, NULL, "index-report.txt", err);
    }
    if (lock >= 0) { close(lock); }
    return ok;
}

static inline bool convert_index(const char* command, const char* const* folders, const ConvertOptions* o, Error* err) {
    TarSet set = {.folder = folders[0]};
    Plan plan = {.output = folders[0]};
    Treatment t;
    bool ok = treatment_of(&t, &plan, command, o, err) && plan_index(&plan, &set, err)
        && make_index(&plan, &set, &t, err);
    plan_free(&plan);
    tar_set_free(&set);
    return ok;
}
