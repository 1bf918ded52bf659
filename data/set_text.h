// A description of a set of shards as text: the comment at the beginning of the first shard of each split, from which
// an index can be made again, and the request, OUTPUT/set.txt, which shows whether a folder holds what a command would
// make.
//
//   kat.c shards 1          the comment's lines; the classes in the order of their numbers, id and name
//   name imagenet
//   side 256
//   quality 90
//   encoder libjpeg-turbo 2.1.5, quality 90, 4:2:0
//   classes 1000
//   n01440764<tab>tench
#pragma once
#include "plan.h"

#define COMMENT_FIRST_LINE "kat.c shards 1\n"

static inline void plain_field(char* to, const char* text, size_t room) { // without characters that would end it
    copy_plain(to, text, room - 1);
    for (char* c = strchr(to, '\t'); c; c = strchr(c, '\t')) { *c = ' '; }
}

// To be freed; NULL: no memory
static inline char* set_comment(const Plan* p) {
    char* text = NULL;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    if (!out) { return NULL; }
    fprintf(out, COMMENT_FIRST_LINE "name %s\nside %d\nquality %d\nencoder %s\nclasses %d\n", p->name, p->side,
            p->quality, p->encoder, p->classes.count);
    for (int k = 0; k < p->classes.count; k++) { fprintf(out, "%s\t%s\n", p->classes.ids[k], p->classes.names[k]); }
    if (fclose(out) == 0) { return text; }
    free(text);
    return NULL;
}

// The line at *at, which moves past it; NULL: there is no complete line, or it is too long
static inline const char* text_line(char* line, size_t room, const char** at) {
    size_t length = strcspn(*at, "\n");
    if (!(*at)[length] || length >= room) { return NULL; }
    memcpy(line, *at, length);
    line[length] = 0;
    *at += length + 1;
    return line;
}

// "KEY VALUE"
static inline bool text_field(char* value, size_t room, const char* key, const char** at) {
    char line[256];
    size_t length = strlen(key);
    bool found = text_line(line, sizeof line, at) && strncmp(line, key, length) == 0 && line[length] == ' '
        && strlen(line + length + 1) < room;
    if (found) { strcpy(value, line + length + 1); }
    return found;
}

static inline bool number_field(int* value, int limit, const char* key, const char** at) {
    char text[16];
    bool found = text_field(text, sizeof text, key, at) && is_number(text) && strlen(text) < 9;
    if (found) { *value = atoi(text); }
    return found && *value <= limit;
}

// "ID<tab>NAME" for each class; the ids stand for the folders, since members' names begin with them.
static inline bool comment_classes(ClassList* c, int count, const char* at, Error* err) {
    char line[2 * CLASS_NAME_BYTES];
    char (*ids)[FOLDER_NAME_BYTES] = (char (*)[FOLDER_NAME_BYTES])calloc((size_t)count, FOLDER_NAME_BYTES);
    bool ok = ids || set_error(err, "no memory for %d classes: close other programs", count);
    const char* first = at;
    for (int k = 0; k < count && ok; k++) {
        const char* tab = text_line(line, sizeof line, &at) ? strchr(line, '\t') : NULL;
        ok = tab && tab > line && tab - line < CLASS_NAME_BYTES && strlen(tab + 1) < CLASS_NAME_BYTES;
        if (ok) { snprintf(ids[k], FOLDER_NAME_BYTES, "%.*s", (int)(tab - line), line); }
    }
    ok = ok && classes_listed(c, ids, count, err);
    if (!ok && !c->folders) { free(ids); }
    for (int k = 0; k < count && ok; k++) {
        text_line(line, sizeof line, &first);
        snprintf(c->names[k], CLASS_NAME_BYTES, "%s", strchr(line, '\t') + 1);
    }
    return ok;
}

// Whether a comment is one of these; if so, it sets the plan's name, encoder, size and classes.
static inline bool comment_read(Plan* p, const char* text, Error* err) {
    const char* at = text + strlen(COMMENT_FIRST_LINE);
    int count = 0;
    return strncmp(text, COMMENT_FIRST_LINE, strlen(COMMENT_FIRST_LINE)) == 0
        && text_field(p->name, sizeof p->name, "name", &at) && number_field(&p->side, MAX_IMAGE_SIDE, "side", &at)
        && number_field(&p->quality, 100, "quality", &at) && text_field(p->encoder, sizeof p->encoder, "encoder", &at)
        && number_field(&count, MAX_CLASSES, "classes", &at) && count > 0
        && comment_classes(&p->classes, count, at, err);
}

// ---- the request

// What a command would make, one line for each thing that affects it; to be freed. NULL: no memory
static inline char* set_request(const Plan* p, const char* command, const Treatment* t, double split) {
    char* text = NULL;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    if (!out) { return NULL; }
    fprintf(out, "command %s\nname %s\nside %d\nquality %d\nencoder %s\nwebdataset %s\nsplit %.9g\n", command, p->name,
            p->side, p->quality, p->encoder, t->webdataset ? "on" : "off", split);
    fprintf(out, "classes %d\ntraining-shards %d\nvalidation-shards %d\ndigest-of-input %016llx\n", p->classes.count,
            p->shards[SPLIT_TRAIN], p->shards[SPLIT_VAL], (unsigned long long)plan_digest(p));
    if (fclose(out) == 0) { return text; }
    free(text);
    return NULL;
}

// Whether the file says the same; err: the first line that differs
static inline bool request_same(FILE* in, const char* path, const char* request, Error* err) {
    char was[256], is[256];
    const char* at = request;
    for (;;) {
        bool more = fgets(was, sizeof was, in) != NULL, wanted = text_line(is, sizeof is, &at) != NULL;
        was[more ? strcspn(was, "\n") : 0] = 0;
        if (!more && !wanted) { return true; }
        if (more && wanted && strcmp(was, is) == 0) { continue; }
        return set_error(err, "%s tells of another set: there it is '%s', and now '%s': give another output folder, or "
                         "remove that one", path, was, wanted ? is : "");
    }
}

// Claims the folder for this request, unless it is claimed already.
static inline bool request_claim(const Plan* p, const char* request, Error* err) {
    char path[PATH_MAX], name[FOLDER_NAME_BYTES];
    WholeFile f;
    if (!in_output(path, p, "set.txt", err)) { return false; }
    if (path_exists(path)) {
        FILE* in = is_file(path) ? fopen(path, "r") : NULL;
        if (!in) { return set_error(err, "cannot read %s: remove it, or give another output folder", path); }
        bool same = request_same(in, path, request, err);
        fclose(in);
        return same;
    }
    if (find_entry(p->output, "*.index", name) || find_entry(p->output, "*.tar", name)) {
        return set_error(err, "%s holds another set already (%s): give another output folder", p->output, name);
    }
    if (!whole_file_begin(&f, path, err)) { return false; }
    fputs(request, f.file);
    return whole_file_end(&f, err);
}
