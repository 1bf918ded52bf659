// MATLAB 5 files (.mat), as far as image sets use them: arrays of numbers, rows of characters, structures.
// Little-endian only, as all of these are.
//
//   128 bytes: text, version 0x0100, "IM"; then elements to the end of the file
//   element: uint32 type, uint32 bytes, data, zeros up to a multiple of 8. Small form, where the upper half of the
//            first word is not 0: uint16 type, uint16 bytes (at most 4), data in the 4 bytes that follow
//   type 15: a zlib stream that holds one element; nothing fills it up
//   type 14, a matrix, holds elements: flags (low byte: its class), dimensions (int32), name, then
//     numbers       one element of any numeric type, whatever the class: doubles that are small are stored as uint8;
//                   column-major: the first index runs fastest
//     characters    UTF-16 or UTF-8
//     structures    length L of a field's name, the names (L bytes each), then for each structure a matrix a field
//
// A file is scanned once for its variables: their kinds are known before their values are unpacked, and sizes that do
// not agree with dimensions are refused then. Numbers are read in pieces, so that no array has to be in memory as a
// whole. Structures are kept whole; the matrices within them are parsed on demand, and no deeper. A variable that
// unpacks to more than `limit` bytes is not read. Without -DHAVE_ZLIB -lz packed ones are refused.
#pragma once
#include "../runtime/files.h"
#include <math.h>
#include <stdint.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

enum {
    MAT5_HEADER = 128, MAT5_MATRIX = 14, MAT5_PACKED = 15,        // types of elements
    MAT5_INT8 = 1, MAT5_UINT8 = 2, MAT5_INT32 = 5, MAT5_UINT32 = 6, MAT5_UTF8 = 16,
    MAT5_STRUCT = 2, MAT5_CHAR = 4, MAT5_DOUBLE = 6, MAT5_CLASS_UINT8 = 9, MAT5_LAST_NUMBER = 15, // classes of matrices
    MAT5_COMPLEX = 0x0800,
    MAT5_VARIABLES = 32, MAT5_DIMS = 8, MAT5_NAME = 64,
    MAT5_PREFIX = 512, // large enough for what comes before the values
};

// A matrix: its kind, and where its values lie
typedef struct {
    char name[MAT5_NAME];
    int class, dims;
    bool complex;
    uint32_t dim[MAT5_DIMS];
    uint64_t count;           // the product of dim
    int type;                 // of the values
    uint64_t at, bytes;       // values, from the start of the matrix's data; structures: where their names begin
    uint64_t offset, packed;  // of a variable: the place of its data in the file; bytes packed, 0: not packed
    uint64_t size;            // of the matrix's data, unpacked
} Mat5Array;

typedef struct {
    FILE* file;
    const char* path;         // or what is named instead in sentences; the caller's
    uint64_t bytes, limit;
    int count;
    Mat5Array variables[MAT5_VARIABLES];
} Mat5;

// ---- elements and matrices in memory. Functions return why not, or NULL ----

#define MAT5_LONG_HEAD "what stands before its values is too long"
#define MAT5_TOO_LARGE "it is larger than in the official file"

typedef struct {
    uint32_t type, bytes;
    uint64_t at, next; // of the data; of the next element
} Mat5Tag;

static inline uint32_t mat5_word(const uint8_t* p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

// The element at offset `at` of data of `size` bytes, the first `have` of which are there
static inline const char* mat5_tag(Mat5Tag* tag, const uint8_t* data, uint64_t have, uint64_t size, uint64_t at) {
    if (at > have || have - at < 8) { return have < size ? MAT5_LONG_HEAD : "it ends too soon"; }
    uint32_t first = mat5_word(data + at);
    bool small = first >> 16;
    *tag = small ? (Mat5Tag){first & 0xFFFF, first >> 16, at + 4, at + 8}
                 : (Mat5Tag){first, mat5_word(data + at + 4), at + 8, 0};
    if (small) { return tag->bytes <= 4 ? NULL : "an element's size is impossible"; }
    if (tag->bytes > size - tag->at) { return "an element is longer than what holds it"; }
    tag->next = tag->at + ((uint64_t)tag->bytes + 7) / 8 * 8;
    if (tag->next > size) { tag->next = size; }
    return NULL;
}

// As mat5_tag, if all of its data must be in memory
static inline const char* mat5_whole_tag(Mat5Tag* tag, const uint8_t* data, uint64_t have, uint64_t size, uint64_t at) {
    const char* reason = mat5_tag(tag, data, have, size, at);
    if (reason) { return reason; }
    return tag->at + tag->bytes <= have ? NULL : MAT5_LONG_HEAD;
}

// Bytes of a number; 0: not one
static inline int mat5_width(int type) {
    static const uint8_t widths[] = {0, 1, 1, 2, 2, 4, 4, 4, 0, 8, 0, 0, 8, 8};
    return type >= 0 && type < (int)sizeof widths ? widths[type] : 0;
}

static inline const char* mat5_dimensions(Mat5Array* a, const uint8_t* p, const Mat5Tag* tag) {
    a->dims = (int)(tag->bytes / 4);
    if (tag->type != MAT5_INT32 || tag->bytes % 4 || a->dims < 2 || a->dims > MAT5_DIMS) {
        return "its dimensions are not such";
    }
    a->count = 1;
    for (int i = 0; i < a->dims; i++) {
        a->dim[i] = mat5_word(p + tag->at + 4 * i);
        if (a->dim[i] > INT32_MAX || __builtin_mul_overflow(a->count, a->dim[i], &a->count)) {
            return "its dimensions are impossible";
        }
    }
    return NULL;
}

static inline bool mat5_has_values(const Mat5Array* a) {
    return a->class == MAT5_CHAR || (a->class >= MAT5_DOUBLE && a->class <= MAT5_LAST_NUMBER);
}

// Whether the values are as many as the dimensions say. A UTF-8 character has up to 4 bytes.
static inline const char* mat5_check_values(const Mat5Array* a) {
    if (a->class == MAT5_CHAR) {
        bool known = (a->type >= MAT5_INT8 && a->type <= 4) || a->type == MAT5_UTF8 || a->type == MAT5_UTF8 + 1;
        bool enough = a->count <= a->bytes && a->bytes / 4 <= a->count;
        return known && enough ? NULL : "its characters are not as many as its dimensions say";
    }
    uint64_t width = (uint64_t)mat5_width(a->type);
    if (!width) { return "its values are of no known type"; }
    return a->bytes % width == 0 && a->bytes / width == a->count
        ? NULL : "its values are not as many as its dimensions say";
}

// Describes the matrix whose data of `size` bytes begins with `have` bytes at p.
static inline const char* mat5_array(Mat5Array* a, const uint8_t* p, uint64_t have, uint64_t size) {
    Mat5Tag flags, dimensions, name, values;
    const char* reason;
    *a = (Mat5Array){.size = size};
    if ((reason = mat5_whole_tag(&flags, p, have, size, 0))) { return reason; }
    if (flags.type != MAT5_UINT32 || flags.bytes != 8) { return "it does not begin as a matrix does"; }
    a->class = p[flags.at];
    if (a->class < 1 || a->class > MAT5_LAST_NUMBER) { return NULL; } // objects, functions: without a name, never found
    a->complex = mat5_word(p + flags.at) & MAT5_COMPLEX;
    if ((reason = mat5_whole_tag(&dimensions, p, have, size, flags.next))
        || (reason = mat5_dimensions(a, p, &dimensions))
        || (reason = mat5_whole_tag(&name, p, have, size, dimensions.next))) {
        return reason;
    }
    if (name.type != MAT5_INT8 || name.bytes >= MAT5_NAME) { return "its name is too long, or none"; }
    memcpy(a->name, p + name.at, name.bytes);
    a->at = name.next;
    if (!mat5_has_values(a) || (a->count == 0 && a->at == size)) { return NULL; }
    if ((reason = mat5_tag(&values, p, have, size, name.next))) { return reason; }
    a->at = values.at;
    a->bytes = values.bytes;
    a->type = (int)values.type;
    return mat5_check_values(a);
}

// One number in the file's form
static inline double mat5_number(const uint8_t* p, int type) {
    union {
        int8_t i8; uint8_t u8; int16_t i16; uint16_t u16; int32_t i32; uint32_t u32; float f; double d; int64_t i64;
        uint64_t u64;
    } v;
    memcpy(&v, p, (size_t)mat5_width(type));
    switch (type) {
    case 1: return v.i8;
    case 2: return v.u8;
    case 3: return v.i16;
    case 4: return v.u16;
    case 5: return v.i32;
    case 6: return v.u32;
    case 7: return (double)v.f;
    case 9: return v.d;
    case 12: return (double)v.i64;
    default: return (double)v.u64;
    }
}

// ---- a matrix's data, from the file in pieces ----

typedef struct {
    FILE* file;
    uint64_t left;   // bytes of the matrix still to come
    uint64_t packed; // bytes of the file still to come, if it is packed
    bool is_packed, ended;
#ifdef HAVE_ZLIB
    z_stream z;
    uint8_t piece[1 << 14];
#endif
} Mat5Stream;

#ifdef HAVE_ZLIB
static inline const char* mat5_inflate(Mat5Stream* s, void* out, size_t bytes) {
    s->z.next_out = (Bytef*)out;
    s->z.avail_out = (uInt)bytes;
    while (s->z.avail_out) {
        if (s->z.avail_in == 0) {
            size_t want = s->packed < sizeof s->piece ? (size_t)s->packed : sizeof s->piece;
            s->z.next_in = s->piece;
            s->z.avail_in = (uInt)fread(s->piece, 1, want, s->file);
            if (s->z.avail_in < want) { return "the file ends or cannot be read on"; }
            s->packed -= want;
        }
        int code = inflate(&s->z, Z_NO_FLUSH);
        s->ended = code == Z_STREAM_END;
        if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) { return "its packed data is damaged"; }
        bool no_more = s->ended || (s->z.avail_in == 0 && s->packed == 0);
        if (no_more && s->z.avail_out) { return "its packed data ends too soon"; }
    }
    return NULL;
}
static inline const char* mat5_inflate_begin(Mat5Stream* s) {
    return inflateInit(&s->z) == Z_OK ? NULL : "there is no memory to unpack it";
}
static inline void mat5_inflate_end(Mat5Stream* s) { inflateEnd(&s->z); }
#else
static inline const char* mat5_inflate(Mat5Stream* s, void* out, size_t bytes) {
    (void)s; (void)out; (void)bytes;
    return "it is packed";
}
static inline const char* mat5_inflate_begin(Mat5Stream* s) {
    (void)s;
    return "it is packed, and this program was built without zlib: install zlib1g-dev and build again";
}
static inline void mat5_inflate_end(Mat5Stream* s) { (void)s; }
#endif

// Begins at a place in the file; packed: so many bytes from there, 0: not packed; left: how many may be read
static inline const char* mat5_stream_begin(Mat5Stream* s, const Mat5* m, uint64_t offset, uint64_t packed,
                                            uint64_t left) {
    *s = (Mat5Stream){.file = m->file, .left = left, .packed = packed, .is_packed = packed > 0};
    if (fseeko(m->file, (off_t)offset, SEEK_SET) != 0) { return "the file cannot be read"; }
    return packed ? mat5_inflate_begin(s) : NULL;
}

static inline void mat5_stream_end(Mat5Stream* s) {
    if (s->is_packed) { mat5_inflate_end(s); }
}

// bytes < 2^32
static inline const char* mat5_stream_read(Mat5Stream* s, void* out, size_t bytes) {
    if (bytes > s->left) { return "it ends too soon"; }
    s->left -= bytes;
    if (s->is_packed) { return mat5_inflate(s, out, bytes); }
    return fread(out, 1, bytes, s->file) == bytes ? NULL : "the file ends or cannot be read on";
}

// Reads what is left, and zlib's checksum after it.
static inline const char* mat5_stream_finish(Mat5Stream* s) {
    uint8_t rest[64];
    const char* reason = NULL;
    while (s->left && !reason) { reason = mat5_stream_read(s, rest, s->left < sizeof rest ? s->left : sizeof rest); }
    if (reason || !s->is_packed || s->ended) { return reason; }
    reason = mat5_inflate(s, rest, 1);
    return s->ended ? NULL : reason ? reason : "it is packed together with something else";
}

// ---- the file ----

static inline bool mat5_refuse(const Mat5* m, const char* variable, const char* reason, Error* err) {
    bool named = *variable;
    return set_error(err, "%s%s%s%s cannot be read: %s; fetch the file again", m->path, named ? ": variable '" : "",
                     variable, named ? "'" : "", reason);
}

// The variable whose element is at *at, which moves past it; without a name if it is something else
static inline const char* mat5_scan_element(const Mat5* m, uint64_t* at, Mat5Array* a) {
    uint8_t head[MAT5_PREFIX];
    Mat5Stream s;
    const char* reason = mat5_stream_begin(&s, m, *at, 0, 8);
    if (reason || (reason = mat5_stream_read(&s, head, 8))) { return reason; }
    uint32_t type = mat5_word(head);
    uint64_t bytes = type >> 16 ? 0 : mat5_word(head + 4), offset = *at + 8;
    if (bytes > m->bytes - offset) { return "the file is truncated"; }
    uint64_t packed = type == MAT5_PACKED ? bytes : 0, filled = packed ? bytes : (bytes + 7) / 8 * 8;
    *at = filled < m->bytes - offset ? offset + filled : m->bytes;
    if (bytes == 0 || (type != MAT5_MATRIX && !packed)) { return NULL; }

    if ((reason = mat5_stream_begin(&s, m, offset, packed, packed ? 8 : bytes))) { return reason; }
    if (packed && !(reason = mat5_stream_read(&s, head, 8))) {
        s.left = bytes = mat5_word(head) == MAT5_MATRIX ? mat5_word(head + 4) : 0;
    }
    size_t have = bytes < MAT5_PREFIX ? (size_t)bytes : MAT5_PREFIX;
    if (!reason) { reason = mat5_stream_read(&s, head, have); }
    mat5_stream_end(&s);
    if (reason || bytes == 0) { return reason; }
    reason = mat5_array(a, head, have, bytes);
    a->offset = offset;
    a->packed = packed;
    return reason;
}

static inline bool mat5_check_header(const Mat5* m, Error* err) {
    uint8_t head[MAT5_HEADER];
    if (fread(head, 1, sizeof head, m->file) != sizeof head || memcmp(head, "MATLAB ", 7) != 0) {
        return set_error(err, "%s is not a MATLAB 5 file: fetch it again", m->path);
    }
    if (memcmp(head + 126, "MI", 2) == 0) {
        return set_error(err, "%s is a big-endian MATLAB file, which the official ones are not: fetch the official one",
                         m->path);
    }
    return memcmp(head + 124, "\0\1IM", 4) == 0
        || set_error(err, "%s is a MATLAB file, but not of version 5: fetch the official one, or save it with -v7",
                     m->path);
}

static inline bool mat5_scan(Mat5* m, Error* err) {
    if (!mat5_check_header(m, err)) { return false; }
    for (uint64_t at = MAT5_HEADER; at < m->bytes;) {
        if (m->count == MAT5_VARIABLES) {
            return set_error(err, "%s has more than %d variables: it is not the file it is named after", m->path,
                             MAT5_VARIABLES);
        }
        Mat5Array* a = &m->variables[m->count++];
        const char* reason = m->bytes - at < 8 ? "the file is truncated" : mat5_scan_element(m, &at, a);
        if (reason) { return mat5_refuse(m, a->name, reason, err); }
    }
    return true;
}

static inline void mat5_close(Mat5* m) {
    if (m->file) { fclose(m->file); }
    m->file = NULL;
}

static inline bool mat5_open(Mat5* m, const char* path, uint64_t limit, Error* err) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK); // a fifo is refused instead of waited for
    *m = (Mat5){.file = descriptor < 0 ? NULL : fdopen(descriptor, "rb"), .path = path, .limit = limit};
    if (!m->file) { return set_error(err, "cannot open %s: %s", path, strerror(errno)); }
    bool regular = fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
    m->bytes = regular ? (uint64_t)status.st_size : 0;
    bool ok = regular ? mat5_scan(m, err) : set_error(err, "%s is not a regular file: give the official one", path);
    if (!ok) { mat5_close(m); }
    return ok;
}

// Opens a file that is in memory, and has to stay there.
static inline bool mat5_open_memory(Mat5* m, const uint8_t* bytes, size_t count, const char* name, uint64_t limit,
                                    Error* err) {
    *m = (Mat5){.file = count ? fmemopen((void*)bytes, count, "rb") : NULL, .path = name, .bytes = count,
                .limit = limit};
    if (!m->file) { return set_error(err, "%s is empty, or there is no memory to read it: fetch it again", name); }
    bool ok = mat5_scan(m, err);
    if (!ok) { mat5_close(m); }
    return ok;
}

static inline const Mat5Array* mat5_find(const Mat5* m, const char* name, Error* err) {
    for (int i = 0; i < m->count; i++) {
        if (strcmp(m->variables[i].name, name) == 0) { return &m->variables[i]; }
    }
    set_error(err, "%s has no variable '%s': it is not the file it is named after; fetch it again", m->path, name);
    return NULL;
}

// ---- numbers ----

static inline bool mat5_is_numeric(const Mat5Array* a) {
    return a->class >= MAT5_DOUBLE && a->class <= MAT5_LAST_NUMBER && !a->complex;
}

// Why its numbers cannot be read. A numeric array has as many as its size allows; for other kinds the dimensions say
// nothing.
static inline const char* mat5_no_numbers(const Mat5* m, const Mat5Array* a) {
    return !mat5_is_numeric(a) ? "it is not an array of real numbers" : a->size > m->limit ? MAT5_TOO_LARGE : NULL;
}

// The matrix's data from its byte `skip` on, which is at most MAT5_PREFIX
static inline const char* mat5_data_begin(Mat5Stream* s, const Mat5* m, const Mat5Array* a, uint64_t skip) {
    uint8_t passed[8 + MAT5_PREFIX];
    if (a->size > m->limit) { return MAT5_TOO_LARGE; }
    uint64_t tag = a->packed ? 8 : 0;
    const char* reason = mat5_stream_begin(s, m, a->offset, a->packed, tag + a->size);
    if (!reason) { reason = mat5_stream_read(s, passed, (size_t)(tag + skip)); }
    if (reason) { mat5_stream_end(s); }
    return reason;
}

// Begins reading numbers as they are stored, a->bytes of them; mat5_values_end must follow.
static inline bool mat5_values_begin(Mat5Stream* s, const Mat5* m, const Mat5Array* a, Error* err) {
    *s = (Mat5Stream){0};
    const char* reason = mat5_no_numbers(m, a);
    if (!reason) { reason = mat5_data_begin(s, m, a, a->at); }
    return !reason || mat5_refuse(m, a->name, reason, err);
}

static inline bool mat5_values_read(Mat5Stream* s, const Mat5* m, const Mat5Array* a, void* out, size_t bytes,
                                    Error* err) {
    const char* reason = mat5_stream_read(s, out, bytes);
    return !reason || mat5_refuse(m, a->name, reason, err);
}

// ok: whether all has gone well so far; returns whether it still has.
static inline bool mat5_values_end(Mat5Stream* s, const Mat5* m, const Mat5Array* a, bool ok, Error* err) {
    const char* reason = ok ? mat5_stream_finish(s) : NULL;
    mat5_stream_end(s);
    return reason ? mat5_refuse(m, a->name, reason, err) : ok;
}

// All numbers of an array, a->count of them
static inline bool mat5_numbers(const Mat5* m, const Mat5Array* a, double* out, Error* err) {
    uint8_t piece[4096];
    Mat5Stream s;
    if (!mat5_values_begin(&s, m, a, err)) { return false; }
    uint64_t width = (uint64_t)mat5_width(a->type), room = a->count ? sizeof piece / width : 0;
    bool ok = true;
    for (uint64_t done = 0; done < a->count && ok;) {
        uint64_t n = a->count - done < room ? a->count - done : room;
        ok = mat5_values_read(&s, m, a, piece, (size_t)(n * width), err);
        for (uint64_t i = 0; i < n && ok; i++) { out[done + i] = mat5_number(piece + i * width, a->type); }
        done += n;
    }
    return mat5_values_end(&s, m, a, ok, err);
}

// A variable of whole numbers in least..most, *count of them, to be freed; NULL on error
static inline int* mat5_integers(const Mat5* m, const char* name, int least, int most, int* count, Error* err) {
    const Mat5Array* a = mat5_find(m, name, err);
    if (!a) { return NULL; }
    const char* reason = mat5_no_numbers(m, a);
    double* numbers = reason ? NULL : (double*)malloc((a->count + 1) * sizeof *numbers);
    int* out = reason ? NULL : (int*)malloc((a->count + 1) * sizeof *out);
    if (!reason && (!numbers || !out)) { reason = "there is no memory for it"; }
    bool ok = reason ? mat5_refuse(m, name, reason, err) : mat5_numbers(m, a, numbers, err);
    for (uint64_t i = 0; i < a->count && ok; i++) {
        bool whole = numbers[i] >= least && numbers[i] <= most && numbers[i] == floor(numbers[i]); // excludes NaN
        if (whole) { out[i] = (int)numbers[i]; }
        ok = whole || set_error(err, "%s: value %llu of '%s' is %g, not a whole number of %d..%d: it is not the file "
                                "it is named after", m->path, (unsigned long long)i, name, numbers[i], least, most);
    }
    free(numbers);
    *count = (int)a->count;
    if (ok) { return out; }
    free(out);
    return NULL;
}

// ---- characters, as UTF-8 ----

// One character; the number of its bytes
static inline int mat5_utf8(char out[4], uint32_t c) {
    int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (char)(more ? (0xFF00u >> (more + 1) & 0xFF) | c >> 6 * more : c);
    for (int i = 1; i <= more; i++) { out[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3F)); }
    return more + 1;
}

// Half of a surrogate pair becomes a question mark.
static inline uint32_t mat5_utf16(const uint8_t* p, uint64_t units, uint64_t* i) {
    uint32_t c = p[2 * *i] | (uint32_t)p[2 * *i + 1] << 8;
    ++*i;
    if (c < 0xD800 || c > 0xDFFF) { return c; }
    uint32_t low = *i < units ? p[2 * *i] | (uint32_t)p[2 * *i + 1] << 8 : 0;
    if (c > 0xDBFF || low < 0xDC00 || low > 0xDFFF) { return '?'; }
    ++*i;
    return 0x10000 + ((c & 0x3FF) << 10 | (low & 0x3FF));
}

// Characters of `type` as text, as many whole ones as fit
static inline void mat5_text(const uint8_t* p, uint64_t bytes, int type, char* out, size_t room) {
    size_t used = 0;
    bool wide = type == 4 || type == MAT5_UTF8 + 1;
    for (uint64_t i = 0; wide && i < bytes / 2;) {
        char c[4];
        size_t length = (size_t)mat5_utf8(c, mat5_utf16(p, bytes / 2, &i));
        if (used + length >= room) { break; }
        memcpy(out + used, c, length);
        used += length;
    }
    if (!wide) {
        used = bytes < room ? (size_t)bytes : room - 1;
        while (used < bytes && used > 0 && (p[used] & 0xC0) == 0x80) { used--; }
        memcpy(out, p, used);
    }
    out[used] = 0;
}

// ---- arrays of structures ----

typedef struct {
    const uint8_t* bytes; // the data of a matrix
    uint64_t size;
} Mat5Cell;

typedef struct {
    int count, fields;
    const char* names;  // (fields, name_bytes)
    uint32_t name_bytes;
    Mat5Cell* cells;    // (count, fields)
    uint8_t* bytes;     // what these point into
} Mat5Structs;

static inline void mat5_structs_free(Mat5Structs* s) {
    free(s->cells);
    free(s->bytes);
    *s = (Mat5Structs){0};
}

static inline const char* mat5_field_names(Mat5Structs* s, const Mat5Array* a, uint64_t* at) {
    Mat5Tag length, names;
    const char* reason;
    if ((reason = mat5_whole_tag(&length, s->bytes, a->size, a->size, a->at))
        || (reason = mat5_whole_tag(&names, s->bytes, a->size, a->size, length.next))) {
        return reason;
    }
    s->name_bytes = length.bytes == 4 ? mat5_word(s->bytes + length.at) : 0;
    if (length.type != MAT5_INT32 || names.type != MAT5_INT8 || s->name_bytes == 0 || names.bytes % s->name_bytes) {
        return "its fields have no names";
    }
    s->names = (const char*)s->bytes + names.at;
    s->fields = (int)(names.bytes / s->name_bytes);
    *at = names.next;
    return NULL;
}

// Finds each cell.
static inline const char* mat5_divide(Mat5Structs* s, const Mat5Array* a) {
    uint64_t at = 0;
    const char* reason = mat5_field_names(s, a, &at);
    if (reason) { return reason; }
    uint64_t tags = (a->size - at) / 8; // as many as fit
    if (s->fields == 0 || a->count > tags / (uint64_t)s->fields) { return "it ends too soon"; }
    s->count = (int)a->count;
    size_t cells = (size_t)s->count * (size_t)s->fields;
    s->cells = (Mat5Cell*)malloc((cells + 1) * sizeof *s->cells);
    if (!s->cells) { return "there is no memory for it"; }
    for (size_t i = 0; i < cells; i++) {
        Mat5Tag tag;
        if ((reason = mat5_tag(&tag, s->bytes, a->size, a->size, at))) { return reason; }
        if (tag.type != MAT5_MATRIX) { return "one of its fields is no matrix"; }
        s->cells[i] = (Mat5Cell){s->bytes + tag.at, tag.bytes};
        at = tag.next;
    }
    return NULL;
}

// A variable that is an array of structures, to be freed by mat5_structs_free
static inline bool mat5_structs(Mat5Structs* s, const Mat5* m, const char* name, Error* err) {
    Mat5Stream stream;
    *s = (Mat5Structs){0};
    const Mat5Array* a = mat5_find(m, name, err);
    if (!a) { return false; }
    const char* reason = a->class != MAT5_STRUCT ? "it is not an array of structures"
                       : mat5_data_begin(&stream, m, a, 0);
    if (reason) { return mat5_refuse(m, name, reason, err); }
    s->bytes = (uint8_t*)malloc(a->size);
    reason = s->bytes ? mat5_stream_read(&stream, s->bytes, (size_t)a->size) : "there is no memory for it";
    if (!reason) { reason = mat5_stream_finish(&stream); }
    mat5_stream_end(&stream);
    if (!reason) { reason = mat5_divide(s, a); }
    if (!reason) { return true; }
    mat5_structs_free(s);
    return mat5_refuse(m, name, reason, err);
}

// The field of structure i; NULL: there is no such field
static inline const Mat5Cell* mat5_cell(const Mat5Structs* s, int i, const char* field) {
    for (int k = 0; k < s->fields && strlen(field) < s->name_bytes; k++) {
        bool same = strncmp(s->names + k * (size_t)s->name_bytes, field, s->name_bytes) == 0;
        if (same) { return &s->cells[(size_t)i * (size_t)s->fields + (size_t)k]; }
    }
    return NULL;
}

// One number; false: it holds something else
static inline bool mat5_cell_number(const Mat5Cell* cell, double* number) {
    Mat5Array a;
    if (!cell || mat5_array(&a, cell->bytes, cell->size, cell->size)) { return false; }
    if (!mat5_is_numeric(&a) || a.count != 1) { return false; }
    *number = mat5_number(cell->bytes + a.at, a.type);
    return true;
}

// A row of characters, or nothing; false: it holds something else
static inline bool mat5_cell_text(const Mat5Cell* cell, char* text, size_t room) {
    Mat5Array a;
    text[0] = 0;
    if (cell && cell->size == 0) { return true; }
    if (!cell || mat5_array(&a, cell->bytes, cell->size, cell->size)) { return false; }
    if (a.count == 0) { return true; }
    if (a.class != MAT5_CHAR || a.dims != 2 || a.dim[0] != 1) { return false; }
    mat5_text(cell->bytes + a.at, a.bytes, a.type, text, room);
    return true;
}
