// Many short texts in one block of memory, and a table to look them up; arrays that grow.
#pragma once
#include "error.h"
#include <stdint.h>
#include <string.h>

// The array with space for one more element; NULL: no memory, and it stays as it was. room counts elements.
static inline void* array_grow(void* array, size_t count, size_t* room, size_t element, Error* err) {
    if (count < *room) { return array; }
    size_t wanted = *room ? 2 * *room : 16;
    void* grown = realloc(array, wanted * element);
    if (!grown) {
        set_error(err, "no memory for a list of %zu entries: close other programs", wanted);
        return NULL;
    }
    *room = wanted;
    return grown;
}

// One after another, each identified by its offset, because the block moves when it grows.
typedef struct { char* block; size_t used, room; } Texts;

static inline bool texts_add(Texts* t, const char* text, size_t* at, Error* err) {
    size_t bytes = strlen(text) + 1;
    while (t->used + bytes > t->room) {
        char* grown = (char*)array_grow(t->block, t->room, &t->room, 1, err);
        if (!grown) { return false; }
        t->block = grown;
    }
    memcpy(t->block + t->used, text, bytes);
    *at = t->used;
    t->used += bytes;
    return true;
}

static inline void texts_free(Texts* t) {
    free(t->block);
    *t = (Texts){0};
}

// ---- Texts with numbers, in the order in which they were added

typedef struct {
    Texts texts;
    size_t* at;              // (count) the offset of each
    uint32_t* slots;         // (slot_count, a power of two, at least twice the texts) their numbers + 1; 0: free
    size_t count, room, slot_count;
} TextTable;

static inline const char* table_text(const TextTable* t, size_t number) { return t->texts.block + t->at[number]; }

static inline uint64_t text_hash(const char* text) { // FNV-1a
    uint64_t hash = 0xCBF29CE484222325u;
    for (; *text; text++) { hash = (hash ^ (uint8_t)*text) * 0x100000001B3u; }
    return hash ^ hash >> 32;
}

// The slot of a text, or the free one that it would take
static inline size_t table_slot(const TextTable* t, const char* text) {
    size_t slot = text_hash(text) & (t->slot_count - 1);
    while (t->slots[slot] && strcmp(table_text(t, t->slots[slot] - 1), text) != 0) {
        slot = (slot + 1) & (t->slot_count - 1);
    }
    return slot;
}

// A text's number; -1: not there
static inline int64_t table_find(const TextTable* t, const char* text) {
    return t->count ? (int64_t)t->slots[table_slot(t, text)] - 1 : -1;
}

static inline bool table_spread(TextTable* t, Error* err) {
    size_t wanted = t->slot_count ? 2 * t->slot_count : 64;
    uint32_t* slots = (uint32_t*)calloc(wanted, sizeof *slots);
    if (!slots) { return set_error(err, "no memory for a table of %zu entries: close other programs", wanted); }
    free(t->slots);
    t->slots = slots;
    t->slot_count = wanted;
    for (size_t i = 0; i < t->count; i++) { t->slots[table_slot(t, table_text(t, i))] = (uint32_t)i + 1; }
    return true;
}

// Adds a text that is not there yet, with the number t->count.
static inline bool table_add(TextTable* t, const char* text, Error* err) {
    if (2 * (t->count + 1) > t->slot_count && !table_spread(t, err)) { return false; }
    size_t* at = (size_t*)array_grow(t->at, t->count, &t->room, sizeof *t->at, err);
    if (!at) { return false; }
    t->at = at;
    size_t slot = table_slot(t, text);
    if (!texts_add(&t->texts, text, &t->at[t->count], err)) { return false; }
    t->slots[slot] = (uint32_t)++t->count;
    return true;
}

static inline void table_free(TextTable* t) {
    texts_free(&t->texts);
    free(t->at);
    free(t->slots);
    *t = (TextTable){0};
}
