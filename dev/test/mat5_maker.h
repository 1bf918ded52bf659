// MATLAB 5 files for tests, assembled in memory (data/mat5.h describes their contents).
#pragma once
#include "../../data/mat5.h"

#ifdef HAVE_ZLIB
enum { MAT5_CAN_PACK = 1 };
#else
enum { MAT5_CAN_PACK = 0 };
#endif

typedef struct {
    int slot;       // 1..: its memory; 0: none yet. 16 may be in use at a time
    uint8_t* bytes;
    size_t count;
} Mat5Maker;

static inline void mat5_put(Mat5Maker* f, const void* bytes, size_t count) {
    static struct { uint8_t* bytes; size_t room; } slots[16];
    static int next;
    if (!f->slot) { f->slot = 1 + next++ % 16; }
    size_t room = f->count + count + 64;
    if (slots[f->slot - 1].room < room) {
        slots[f->slot - 1].bytes = realloc(slots[f->slot - 1].bytes, 2 * room);
        slots[f->slot - 1].room = 2 * room;
    }
    f->bytes = slots[f->slot - 1].bytes;
    if (!f->bytes) { perror("memory for a test"); exit(1); }
    if (count) { memcpy(f->bytes + f->count, bytes, count); }
    f->count += count;
}

static inline void mat5_put_tag(Mat5Maker* f, uint32_t type, uint32_t bytes) {
    mat5_put(f, &type, 4);
    mat5_put(f, &bytes, 4);
}

static inline Mat5Maker mat5_made(void) {
    char head[MAT5_HEADER] = "MATLAB 5.0 MAT-file, made by a test";
    Mat5Maker f = {0};
    memcpy(head + 124, "\0\1IM", 4);
    mat5_put(&f, head, sizeof head);
    return f;
}

// In the small form if possible
static inline void mat5_put_element(Mat5Maker* f, uint32_t type, const void* bytes, size_t count) {
    static const uint8_t zeros[8];
    if (count >= 1 && count <= 4) {
        uint32_t tag = type | (uint32_t)count << 16;
        mat5_put(f, &tag, 4);
        mat5_put(f, bytes, count);
        mat5_put(f, zeros, 4 - count);
        return;
    }
    mat5_put_tag(f, type, (uint32_t)count);
    mat5_put(f, bytes, count);
    mat5_put(f, zeros, (8 - count % 8) % 8);
}

// What precedes a matrix's values; mat5_end_matrix writes the size into its tag.
static inline size_t mat5_begin_matrix(Mat5Maker* f, const char* name, int class, int dims, const int* dim) {
    uint32_t flags[2] = {(uint32_t)class, 0};
    mat5_put_tag(f, MAT5_MATRIX, 0);
    size_t begin = f->count;
    mat5_put_element(f, MAT5_UINT32, flags, 8);
    mat5_put_element(f, MAT5_INT32, dim, 4 * (size_t)dims);
    mat5_put_element(f, MAT5_INT8, name, strlen(name));
    return begin;
}

static inline void mat5_end_matrix(Mat5Maker* f, size_t begin) {
    uint32_t bytes = (uint32_t)(f->count - begin);
    memcpy(f->bytes + begin - 4, &bytes, 4);
}

static inline void mat5_put_matrix(Mat5Maker* f, const char* name, int class, int dims, const int* dim, int type,
                                   const void* bytes, size_t count) {
    size_t begin = mat5_begin_matrix(f, name, class, dims, dim);
    mat5_put_element(f, (uint32_t)type, bytes, count);
    mat5_end_matrix(f, begin);
}

// An element, packed into another
static inline void mat5_put_packed(Mat5Maker* f, const Mat5Maker* element) {
#ifdef HAVE_ZLIB
    uLongf bytes = compressBound((uLong)element->count);
    uint8_t* packed = malloc(bytes);
    if (!packed || compress2(packed, &bytes, element->bytes, (uLong)element->count, 6) != Z_OK) { abort(); }
    mat5_put_tag(f, MAT5_PACKED, (uint32_t)bytes);
    mat5_put(f, packed, bytes);
    free(packed);
#else
    (void)f; (void)element;
    abort();
#endif
}

// One number in the file's form
static inline int mat5_store(uint8_t* p, double value, int type) {
    int8_t i8 = (int8_t)(type == 1 ? value : 0);
    uint8_t u8 = (uint8_t)(type == 2 ? value : 0);
    int16_t i16 = (int16_t)(type == 3 ? value : 0);
    uint16_t u16 = (uint16_t)(type == 4 ? value : 0);
    int32_t i32 = (int32_t)(type == 5 ? value : 0);
    uint32_t u32 = (uint32_t)(type == 6 ? value : 0);
    float f = (float)value;
    int64_t i64 = (int64_t)(type == 12 ? value : 0);
    uint64_t u64 = (uint64_t)(type == 13 ? value : 0);
    const void* const all[] = {NULL, &i8, &u8, &i16, &u16, &i32, &u32, &f, NULL, &value, NULL, NULL, &i64, &u64};
    memcpy(p, all[type], (size_t)mat5_width(type));
    return mat5_width(type);
}

// values: as many as the product of dim, stored as `type`
static inline void mat5_put_numbers(Mat5Maker* f, const char* name, int class, int type, int dims, const int* dim,
                                    const double* values, bool packed) {
    size_t count = 1, bytes = 0;
    for (int i = 0; i < dims; i++) { count *= (size_t)dim[i]; }
    uint8_t* stored = malloc(8 * count + 8);
    Mat5Maker element = {0};
    for (size_t i = 0; i < count; i++) { bytes += (size_t)mat5_store(stored + bytes, values[i], type); }
    mat5_put_matrix(packed ? &element : f, name, class, dims, dim, type, stored, bytes);
    if (packed) { mat5_put_packed(f, &element); }
    free(stored);
}

// fields: their names, a zero after each and one more at the end; cells: the matrices of all structures
static inline void mat5_put_structs(Mat5Maker* f, const char* name, int count, const char* fields,
                                    const Mat5Maker* cells, bool packed) {
    Mat5Maker element = {0}, names = {0}, *to = packed ? &element : f;
    int32_t length = 32;
    for (const char* field = fields; *field; field += strlen(field) + 1) {
        char filled[32] = "";
        snprintf(filled, sizeof filled, "%s", field);
        mat5_put(&names, filled, sizeof filled);
    }
    size_t begin = mat5_begin_matrix(to, name, MAT5_STRUCT, 2, (int[]){count, 1});
    mat5_put_element(to, MAT5_INT32, &length, 4);
    mat5_put_element(to, MAT5_INT8, names.bytes, names.count);
    mat5_put(to, cells->bytes, cells->count);
    mat5_end_matrix(to, begin);
    if (packed) { mat5_put_packed(f, &element); }
}

static const char mat5_synset_fields[] = "ILSVRC2012_ID\0WNID\0words\0num_children\0children\0";

// One of the structures of meta.mat: fields mat5_synset_fields
static inline void mat5_put_synset(Mat5Maker* f, int id, const char* wnid, const char* words, int children) {
    uint8_t wide[256];
    double child[] = {7, 8};
    for (size_t i = 0; i < strlen(words); i++) { wide[2 * i] = (uint8_t)words[i]; wide[2 * i + 1] = 0; }
    mat5_put_numbers(f, "", MAT5_DOUBLE, id < 256 ? MAT5_UINT8 : 4, 2, (int[]){1, 1}, (double[]){id}, false);
    mat5_put_matrix(f, "", MAT5_CHAR, 2, (int[]){1, (int)strlen(wnid)}, MAT5_UTF8, wnid, strlen(wnid));
    mat5_put_matrix(f, "", MAT5_CHAR, 2, (int[]){1, (int)strlen(words)}, 4, wide, 2 * strlen(words));
    mat5_put_numbers(f, "", MAT5_DOUBLE, MAT5_UINT8, 2, (int[]){1, 1}, (double[]){children}, false);
    if (children) {
        mat5_put_numbers(f, "", MAT5_DOUBLE, 9, 2, (int[]){1, 2}, child, false);
    } else {
        mat5_put_tag(f, MAT5_MATRIX, 0);
    }
}
