// The classes of a set of folders: each folder is a class, whose number is the folder's place among all, sorted
// bytewise, or as numbers if all of them are numbers.
#pragma once
#include "../runtime/texts.h"
#include "dataset.h"

enum { FOLDER_NAME_BYTES = 256, CLASS_ID_CUT = 24 };

typedef struct {
    int count;
    char (*folders)[FOLDER_NAME_BYTES]; // (count)
    char (*ids)[CLASS_NAME_BYTES];      // (count) prefix of members' names: the folder's name, or what fits of it
    char (*names)[CLASS_NAME_BYTES];    // (count) to be shown
    TextTable numbers;                  // of folders
} ClassList;

static inline void classes_free(ClassList* c) {
    free(c->folders);
    free(c->ids);
    free(c->names);
    table_free(&c->numbers);
    *c = (ClassList){0};
}

static inline bool is_number(const char* text) { return *text && !text[strspn(text, "0123456789")]; }

static inline int compare_texts(const void* a, const void* b) { return strcmp((const char*)a, (const char*)b); }

// 7, 07 and 10 in this order
static inline int compare_numbers(const void* a, const void* b) {
    const char *x = (const char*)a + strspn((const char*)a, "0"), *y = (const char*)b + strspn((const char*)b, "0");
    if (strlen(x) != strlen(y)) { return strlen(x) < strlen(y) ? -1 : 1; }
    int order = strcmp(x, y);
    return order ? order : strcmp((const char*)a, (const char*)b);
}

// At most `limit` bytes of text, without cutting a UTF-8 character in two; what would control a terminal or a path
// becomes _.
static inline void copy_plain(char* to, const char* text, size_t limit) {
    size_t length = strlen(text);
    if (length > limit) {
        length = limit;
        while (length > 0 && (text[length] & 0xC0) == 0x80) { length--; }
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        to[i] = byte < ' ' || byte == 127 || byte == '/' ? '_' : (char)byte;
    }
    to[length] = 0;
}

// What is too long for an id is cut, and its number appended, so that all differ; no other id has a ~.
static inline void class_id(char id[CLASS_NAME_BYTES], const char* folder, int number) {
    copy_plain(id, folder, CLASS_NAME_BYTES - 1);
    if (strcmp(id, folder) == 0 && !strchr(folder, '~')) { return; }
    copy_plain(id, folder, CLASS_ID_CUT);
    for (char* c = strchr(id, '~'); c; c = strchr(c, '~')) { *c = '_'; }
    snprintf(id + strlen(id), CLASS_NAME_BYTES - strlen(id), "~%d", number);
}

static inline bool class_is_new(const ClassList* c, const char* folder, Error* err) {
    return table_find(&c->numbers, folder) < 0 || set_error(err, "there are two classes %s: rename one", folder);
}

// folders (count): in the order of their numbers; if all goes well, the list owns them from now on. Ids and names are
// the folders' names, as far as they fit.
static inline bool classes_listed(ClassList* c, char (*folders)[FOLDER_NAME_BYTES], int count, Error* err) {
    *c = (ClassList){.count = count, .folders = folders};
    c->ids = (char (*)[CLASS_NAME_BYTES])calloc((size_t)count + 1, CLASS_NAME_BYTES);
    c->names = (char (*)[CLASS_NAME_BYTES])calloc((size_t)count + 1, CLASS_NAME_BYTES);
    bool ok = (c->ids && c->names) || set_error(err, "no memory for %d classes: close other programs", count);
    if (ok && count > MAX_CLASSES) {
        ok = set_error(err, "there are %d classes, and at most %d can be stored", count, MAX_CLASSES);
    }
    for (int k = 0; k < count && ok; k++) {
        snprintf(c->ids[k], CLASS_NAME_BYTES, "%.31s", folders[k]);
        memcpy(c->names[k], c->ids[k], CLASS_NAME_BYTES);
        ok = class_is_new(c, folders[k], err) && table_add(&c->numbers, folders[k], err);
    }
    c->folders = ok ? folders : NULL;
    if (!ok) { classes_free(c); }
    return ok;
}

// The same for folders that are to be sorted first, each with an id of its own
static inline bool classes_sorted(ClassList* c, char (*folders)[FOLDER_NAME_BYTES], int count, Error* err) {
    bool numbers = true;
    for (int k = 0; k < count && numbers; k++) { numbers = is_number(folders[k]); }
    qsort(folders, (size_t)count, FOLDER_NAME_BYTES, numbers ? compare_numbers : compare_texts);
    if (!classes_listed(c, folders, count, err)) { return false; }
    for (int k = 0; k < count; k++) {
        class_id(c->ids[k], folders[k], k);
        memcpy(c->names[k], c->ids[k], CLASS_NAME_BYTES);
    }
    return true;
}

// -1: there is none
static inline int class_number(const ClassList* c, const char* folder) { return (int)table_find(&c->numbers, folder); }
