// What a checkpoint says about itself: text under keys, in the header of its safetensors file. A file that train_kat or
// train_katcu wrote carries the key kat.c; nothing is trusted from any other file. Only those parts of the
// configuration are written and read that shape the result: never a path, and never an action.
#pragma once
#include "memory.h"
#include "options.h"
#include "safetensors.h"

#define METADATA_MARK "kat.c"

typedef struct {
    char* (*pairs)[2]; // (count) keys and values
    int count, room;
} Metadata;

static inline void metadata_free(Metadata* m) {
    for (int i = 0; i < m->count; i++) { free(m->pairs[i][0]); free(m->pairs[i][1]); }
    free(m->pairs);
    *m = (Metadata){0};
}

// An option's name as a key: "karat-mode" as "karat_mode"
static inline char* metadata_key(const char* name) {
    char* key = copy_text(name, "metadata");
    for (char* c = key; *c; c++) { *c = *c == '-' ? '_' : *c; }
    return key;
}

static inline void metadata_add(Metadata* m, const char* key, const char* value) {
    if (m->count == m->room) {
        char* (*old)[2] = m->pairs;
        m->room = 2 * m->room + 64;
        m->pairs = (char* (*)[2])alloc_array(char*, 2 * (size_t)m->room, "metadata");
        if (old) { memcpy(m->pairs, old, (size_t)m->count * sizeof *old); }
        free(old);
    }
    m->pairs[m->count][0] = metadata_key(key);
    m->pairs[m->count++][1] = copy_text(value, "metadata");
}

__attribute__((format(printf, 3, 4)))
static inline void metadata_print(Metadata* m, const char* key, const char* format, ...) {
    char value[512];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    metadata_add(m, key, value);
}

// Whether the metadata holds an option
static inline bool metadata_holds(const Option* option) {
    return option->type != OPTION_GROUP && (option->resume == RESUME_SAME || option->resume == RESUME_LENGTH);
}

static inline void metadata_add_config(Metadata* m, const void* config, const Option* table, int count) {
    metadata_add(m, METADATA_MARK, "1");
    for (int i = 0; i < count; i++) {
        char text[OPTION_TEXT_SIZE];
        if (!metadata_holds(&table[i])) { continue; }
        metadata_add(m, option_name(&table[i]), option_text(config, &table[i], text));
    }
}

static inline bool metadata_is_ours(const SafeTensors* file) {
    return safetensors_metadata(file, METADATA_MARK) != NULL;
}

// Sets the options that the file, which is ours, holds; the others stay as they are.
static inline bool metadata_read_config(const SafeTensors* file, void* config, const Option* table, int count,
                                        Error* err) {
    bool ok = true;
    for (int i = 0; ok && i < count; i++) {
        if (!metadata_holds(&table[i])) { continue; }
        char* key = metadata_key(option_name(&table[i]));
        const char* text = safetensors_metadata(file, key);
        ok = !text || option_set(config, &table[i], text, err);
        free(key);
    }
    return ok;
}
