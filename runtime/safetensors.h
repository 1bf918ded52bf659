// Reading and writing safetensors, the file format of parameters, checkpoints and dumps:
//
//     8 bytes      header length n, little endian
//     n bytes      JSON {"name": {"dtype": "F32", "shape": [3, 4], "data_offsets": [begin, end]}, ...,
//                        "__metadata__": {"key": "value", ...}}, padded with spaces
//     the rest     the tensors' elements, little endian, row-major; offsets count from here, and cover it without holes
//
// A file may come from anywhere, so that its header is trusted only after every number in it has been checked against
// the file's size: what fails is refused with a sentence, before any memory is allocated for it. Reading parses JSON
// with cJSON; writing needs no library. The machine is assumed to be little endian.
//
// What other programs put into a file does not matter: metadata other than strings are skipped, and a tensor of an
// unknown dtype (some 8-bit floats, 4-bit integers) is refused only when it is read.
#pragma once
#include "error.h"
#include "file_kind.h"
#include "files.h"
#include "inlining.h"
#include "memory.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_CJSON
#include <cjson/cJSON.h>
#endif

enum {
    SAFETENSORS_MAX_RANK = 8,
    SAFETENSORS_MAX_HEADER = 100 * 1000 * 1000, // bytes, the format's own limit
    SAFETENSORS_MAX_ENTRIES = 1000 * 1000,      // commas and brackets: bounds the memory that its JSON tree takes
    SAFETENSORS_MAX_DEPTH = 32,                 // { "name": { "shape": [ are 3; others' metadata nest deeper
};

typedef struct {
    char* name;
    char dtype[24]; // an unknown name may be cut
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    uint64_t begin, end; // bytes, counted from the start of the data
} SafeTensor;

typedef struct {
    char* path;
    int fd;
    uint64_t data_start, data_bytes; // where the header ends; how much follows it
    SafeTensor* tensors;             // (count), in the order of their data
    const SafeTensor** by_name;      // (count), in the order of their names
    int count;
    char** metadata; // (2*metadata_count): key, value, key, value, ...
    int metadata_count;
} SafeTensors;

typedef struct {
    const char* name;
    int rank;
    int64_t shape[SAFETENSORS_MAX_RANK];
    const float* data;
} SafeTensorOut;

static const struct { char name[8]; int bytes; } safetensors_dtypes[] = {
    {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
    {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4}, {"F64", 8}, {"I64", 8}, {"U64", 8},
};

static inline int safetensors_dtype_bytes(const char* dtype) { // 0: unknown
    for (size_t i = 0; i < sizeof safetensors_dtypes / sizeof safetensors_dtypes[0]; i++) {
        if (strncmp(safetensors_dtypes[i].name, dtype, sizeof safetensors_dtypes[i].name) == 0) {
            return safetensors_dtypes[i].bytes;
        }
    }
    return 0;
}

// Whether safetensors_read takes it. The size of an unknown dtype is unknown, so that its shape cannot be trusted.
static inline bool safetensors_readable(const SafeTensor* t) {
    return strcmp(t->dtype, "F32") == 0 || strcmp(t->dtype, "F16") == 0 || strcmp(t->dtype, "BF16") == 0 ||
           strcmp(t->dtype, "F64") == 0;
}

static inline int64_t safetensors_elements(const SafeTensor* t) {
    int64_t elements = 1;
    for (int i = 0; i < t->rank; i++) { elements *= t->shape[i]; }
    return elements;
}

// Length of the UTF-8 character that s (n bytes) begins with, 0 if there is none: stray or missing continuation bytes,
// overlong forms, surrogates, code points past U+10FFFF.
static inline int safetensors_utf8_length(const char* s, size_t n) {
    unsigned char lead = (unsigned char)s[0];
    if (lead < 0x80) { return 1; }
    int length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC0 || lead > 0xF4 || (size_t)length > n) { return 0; }
    uint32_t code = lead & (0x7F >> length);
    for (int i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) { return 0; }
        code = code << 6 | (s[i] & 0x3F);
    }
    uint32_t smallest = length == 4 ? 0x10000 : length == 3 ? 0x800 : 0x80;
    return code < smallest || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF) ? 0 : length;
}

// ---------------------------------------------------------------------------------------------------------------------
// Reading

__attribute__((format(printf, 3, 4)))
static inline bool safetensors_refuse(const SafeTensors* file, Error* err, const char* format, ...) {
    char reason[512];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof reason, format, args);
    va_end(args);
    return set_error(err, "%s is not a valid safetensors file: %s; save or fetch it again", file->path, reason);
}

static inline bool safetensors_read_bytes(const SafeTensors* file, uint64_t offset, void* to, size_t bytes,
                                          Error* err) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(file->fd, (char*)to + done, bytes - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) { continue; }
        if (got < 0) { return set_error(err, "cannot read %s: %s; check its disk", file->path, strerror(errno)); }
        if (got == 0) { return safetensors_refuse(file, err, "it became shorter while it was read"); }
        done += (size_t)got;
    }
    return true;
}

// Refuses what the JSON parser would accept or spend too much on. text is n bytes and a final NUL.
static inline bool safetensors_check_text(const SafeTensors* file, const char* text, size_t n, Error* err) {
    bool in_string = false;
    int depth = 0, entries = 0, length = 1;
    for (size_t i = 0; i < n; i += (size_t)length) {
        char c = text[i];
        length = safetensors_utf8_length(text + i, n - i);
        if (length == 0) { return safetensors_refuse(file, err, "byte %zu of its header is not UTF-8", i); }
        if (c == 0) { return safetensors_refuse(file, err, "byte %zu of its header is NUL", i); }
        if (in_string && c > 0 && c < ' ') {
            return safetensors_refuse(file, err, "byte %zu of its header is a control character in a string", i);
        }
        if (in_string && c == '\\') {
            if (strncmp(text + i, "\\u0000", 6) == 0) {
                return safetensors_refuse(file, err, "a string in its header contains NUL, at byte %zu", i);
            }
            length = 2;
        }
        if (c == '"') { in_string = !in_string; }
        if (in_string) { continue; }
        bool opens = c == '{' || c == '[';
        depth += opens - (c == '}' || c == ']');
        entries += opens || c == ',';
        if (depth > SAFETENSORS_MAX_DEPTH) {
            return safetensors_refuse(file, err, "its header nests deeper than %d levels", SAFETENSORS_MAX_DEPTH);
        }
        if (entries > SAFETENSORS_MAX_ENTRIES) {
            return safetensors_refuse(file, err, "its header has more than %d entries", SAFETENSORS_MAX_ENTRIES);
        }
    }
    return true;
}

static inline int safetensors_by_offset(const void* left, const void* right) {
    const SafeTensor *a = (const SafeTensor*)left, *b = (const SafeTensor*)right;
    if (a->begin != b->begin) { return a->begin < b->begin ? -1 : 1; }
    if (a->end != b->end) { return a->end < b->end ? -1 : 1; }
    return strcmp(a->name, b->name);
}

static inline int safetensors_by_name(const void* left, const void* right) {
    return strcmp((*(const SafeTensor* const*)left)->name, (*(const SafeTensor* const*)right)->name);
}

static inline int safetensors_by_string(const void* left, const void* right) {
    return strcmp(*(char* const*)left, *(char* const*)right);
}

// Sorts the names, to find duplicates, and tensors later.
static inline bool safetensors_sort_names(SafeTensors* file, Error* err) {
    file->by_name = alloc_array(const SafeTensor*, file->count, "tensor names");
    for (int i = 0; i < file->count; i++) { file->by_name[i] = &file->tensors[i]; }
    qsort(file->by_name, (size_t)file->count, sizeof *file->by_name, safetensors_by_name);
    for (int i = 1; i < file->count; i++) {
        const char* name = file->by_name[i]->name;
        if (strcmp(file->by_name[i - 1]->name, name) == 0) {
            return safetensors_refuse(file, err, "it has two tensors named %.200s", name);
        }
    }
    return true;
}

static inline bool safetensors_check_keys(const SafeTensors* file, Error* err) {
    char** keys = alloc_array(char*, file->metadata_count, "metadata");
    for (int i = 0; i < file->metadata_count; i++) { keys[i] = file->metadata[2 * (size_t)i]; }
    qsort(keys, (size_t)file->metadata_count, sizeof *keys, safetensors_by_string);
    bool ok = true;
    for (int i = 1; ok && i < file->metadata_count; i++) {
        ok = strcmp(keys[i - 1], keys[i]) != 0 ||
             safetensors_refuse(file, err, "its metadata has two values for %.200s", keys[i]);
    }
    free(keys);
    return ok;
}

// The tensors, sorted by offset, must follow one another from the first byte of data to the last.
static inline bool safetensors_check_cover(const SafeTensors* file, Error* err) {
    uint64_t covered = 0;
    for (int i = 0; i < file->count; i++) {
        const SafeTensor* t = &file->tensors[i];
        unsigned long long begin = t->begin, end = t->end, before = covered;
        if (begin < before) {
            return safetensors_refuse(file, err, "tensor %.200s begins at byte %llu, but the one before it ends at "
                                      "byte %llu", t->name, begin, before);
        }
        if (begin > before) {
            return safetensors_refuse(file, err, "bytes %llu to %llu, before tensor %.200s, belong to no tensor",
                                      before, begin, t->name);
        }
        covered = end;
    }
    if (covered < file->data_bytes) {
        return safetensors_refuse(file, err, "%llu bytes after the last tensor belong to none",
                                  (unsigned long long)(file->data_bytes - covered));
    }
    return true;
}

#ifdef HAVE_CJSON
// A JSON number that counts something: NULL, or what is wrong with it.
static inline const char* safetensors_count_problem(const cJSON* item) {
    if (!cJSON_IsNumber(item)) { return "is not a number"; }
    if (item->valuedouble < 0) { return "is negative"; }
    if (!(item->valuedouble <= 0x1p53)) { return "is above 2^53"; }
    return item->valuedouble != floor(item->valuedouble) ? "has a fraction" : NULL;
}

// The member of that name if there is exactly one (cJSON's own look-up ignores case and repetitions).
static inline const cJSON* safetensors_member(const cJSON* object, const char* name) {
    const cJSON *item, *found = NULL;
    cJSON_ArrayForEach(item, object) {
        if (strcmp(item->string, name) != 0) { continue; }
        if (found) { return NULL; }
        found = item;
    }
    return found;
}

static inline bool safetensors_parse_shape(const SafeTensors* file, const cJSON* shape, SafeTensor* t, Error* err) {
    const cJSON* item;
    cJSON_ArrayForEach(item, shape) {
        const char* problem = safetensors_count_problem(item);
        if (problem) {
            return safetensors_refuse(file, err, "dimension %d of tensor %.200s %s", t->rank, t->name, problem);
        }
        if (t->rank == SAFETENSORS_MAX_RANK) {
            return safetensors_refuse(file, err, "tensor %.200s has more than %d dimensions", t->name, t->rank);
        }
        t->shape[t->rank++] = (int64_t)item->valuedouble;
    }
    int known = safetensors_dtype_bytes(t->dtype);
    int64_t bytes = known ? known : 1;
    for (int i = 0; i < t->rank; i++) {
        if (__builtin_mul_overflow(bytes, t->shape[i], &bytes)) {
            return safetensors_refuse(file, err, "the shape of tensor %.200s has a product above 2^63", t->name);
        }
    }
    if (known && (uint64_t)bytes != t->end - t->begin) {
        return safetensors_refuse(file, err, "tensor %.200s takes %llu bytes, but its shape in %s takes %lld", t->name,
                                  (unsigned long long)(t->end - t->begin), t->dtype, (long long)bytes);
    }
    return true;
}

static inline bool safetensors_parse_offsets(const SafeTensors* file, const cJSON* pair, SafeTensor* t, Error* err) {
    if (cJSON_GetArraySize(pair) != 2) {
        return safetensors_refuse(file, err, "the data_offsets of tensor %.200s are not two numbers", t->name);
    }
    const cJSON *begin = pair->child, *end = begin->next;
    const char* problem = safetensors_count_problem(begin);
    if (!problem) { problem = safetensors_count_problem(end); }
    if (problem) { return safetensors_refuse(file, err, "an offset of tensor %.200s %s", t->name, problem); }
    t->begin = (uint64_t)begin->valuedouble;
    t->end = (uint64_t)end->valuedouble;
    if (t->begin > t->end) { return safetensors_refuse(file, err, "tensor %.200s ends before it begins", t->name); }
    if (t->end > file->data_bytes) {
        return safetensors_refuse(file, err, "tensor %.200s ends at byte %llu, but only %llu bytes of data are there",
                                  t->name, (unsigned long long)t->end, (unsigned long long)file->data_bytes);
    }
    return true;
}

static inline bool safetensors_parse_tensor(SafeTensors* file, const cJSON* entry, Error* err) {
    SafeTensor* t = &file->tensors[file->count++];
    t->name = copy_text(entry->string, "a tensor name");
    if (!cJSON_IsObject(entry)) {
        return safetensors_refuse(file, err, "the entry of tensor %.200s is not an object", t->name);
    }
    const cJSON *dtype = safetensors_member(entry, "dtype"), *shape = safetensors_member(entry, "shape");
    const cJSON* offsets = safetensors_member(entry, "data_offsets");
    if (!cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets)) {
        return safetensors_refuse(file, err, "tensor %.200s needs one dtype (a string), one shape (an array) and one "
                                  "data_offsets (an array)", t->name);
    }
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype->valuestring);
    return safetensors_parse_offsets(file, offsets, t, err) && safetensors_parse_shape(file, shape, t, err);
}

static inline bool safetensors_parse_metadata(SafeTensors* file, const cJSON* entry, Error* err) {
    if (!cJSON_IsObject(entry)) { return true; } // null, as some programs write it
    if (file->metadata) { return safetensors_refuse(file, err, "it has __metadata__ twice"); }
    file->metadata = alloc_array(char*, 2 * (size_t)cJSON_GetArraySize(entry), "metadata");
    const cJSON* item;
    cJSON_ArrayForEach(item, entry) {
        if (!cJSON_IsString(item)) { continue; }
        file->metadata[2 * file->metadata_count] = copy_text(item->string, "metadata");
        file->metadata[2 * file->metadata_count + 1] = copy_text(item->valuestring, "metadata");
        file->metadata_count++;
    }
    return true;
}

static inline bool safetensors_parse_object(SafeTensors* file, const cJSON* root, Error* err) {
    file->tensors = alloc_array(SafeTensor, cJSON_GetArraySize(root), "the list of tensors");
    const cJSON* entry;
    cJSON_ArrayForEach(entry, root) {
        bool ok = strcmp(entry->string, "__metadata__") == 0 ? safetensors_parse_metadata(file, entry, err)
                                                             : safetensors_parse_tensor(file, entry, err);
        if (!ok) { return false; }
    }
    qsort(file->tensors, (size_t)file->count, sizeof *file->tensors, safetensors_by_offset);
    return safetensors_sort_names(file, err) && safetensors_check_keys(file, err) && safetensors_check_cover(file, err);
}

static inline bool safetensors_parse(SafeTensors* file, const char* text, size_t n, Error* err) {
    if (!safetensors_check_text(file, text, n, err)) { return false; }
    if (text[0] != '{') { return safetensors_refuse(file, err, "its header is not a JSON object"); }
    const char* end = text;
    cJSON* root = cJSON_ParseWithOpts(text, &end, false);
    bool ok;
    if (!root) {
        ok = safetensors_refuse(file, err, "its header is not JSON, from byte %zu on", (size_t)(end - text));
    } else if (end[strspn(end, " \t\r\n")] != 0) {
        ok = safetensors_refuse(file, err, "its header goes on after the JSON object, at byte %zu",
                                (size_t)(end - text));
    } else {
        ok = safetensors_parse_object(file, root, err);
    }
    cJSON_Delete(root);
    return ok;
}
#else
static inline bool safetensors_parse(SafeTensors* file, const char* text, size_t n, Error* err) {
    (void)text; (void)n;
    return set_error(err, "cannot read %s: this program was built without cJSON; install the package libcjson-dev and "
                     "build again", file->path);
}
#endif

static inline void safetensors_close(SafeTensors* file) {
    for (int i = 0; i < file->count; i++) { free(file->tensors[i].name); }
    for (int i = 0; i < 2 * file->metadata_count; i++) { free(file->metadata[i]); }
    if (file->fd >= 0) { close(file->fd); }
    free(file->tensors);
    free(file->by_name);
    free(file->metadata);
    free(file->path);
    *file = (SafeTensors){.fd = -1};
}

RUNS_ONCE static inline bool safetensors_read_header(SafeTensors* file, Error* err) {
    struct stat info;
    if (file->fd < 0 || fstat(file->fd, &info) != 0) {
        return set_error(err, "cannot open %s: %s; check the path", file->path, strerror(errno));
    }
    if (S_ISDIR(info.st_mode)) { return refuse_folder(file->path, err); }
    if (!S_ISREG(info.st_mode)) {
        return set_error(err, "%s is not a file; give the path of a .safetensors file", file->path);
    }
    uint64_t size = (uint64_t)info.st_size, length = 0;
    unsigned char head[FILE_KIND_HEAD];
    size_t seen = size < sizeof head ? (size_t)size : sizeof head;
    if (!safetensors_read_bytes(file, 0, head, seen, err) || name_file_kind(file->path, head, seen, err)) {
        return false;
    }
    if (size < 8) { return safetensors_refuse(file, err, "it is only %d bytes long", (int)size); }
    memcpy(&length, head, 8);
    unsigned long long shown = length;
    if (length == 0) { return safetensors_refuse(file, err, "its header is empty"); }
    if (length > SAFETENSORS_MAX_HEADER) {
        return safetensors_refuse(file, err, "its header claims %llu bytes, above 100 MB", shown);
    }
    if (length > size - 8) {
        return safetensors_refuse(file, err, "its header claims %llu bytes, past the end of the file", shown);
    }
    file->data_start = 8 + length;
    file->data_bytes = size - file->data_start;
    char* text = alloc_array(char, length + 1, "a safetensors header"); // zeroed, hence NUL-terminated
    bool ok = safetensors_read_bytes(file, 8, text, length, err) && safetensors_parse(file, text, length, err);
    free(text);
    return ok;
}

static inline bool safetensors_open(SafeTensors* file, const char* path, Error* err) {
    // O_NONBLOCK: a fifo is refused instead of waited for
    *file = (SafeTensors){.path = copy_text(path, "a path"), .fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    bool ok = safetensors_read_header(file, err);
    if (!ok) { safetensors_close(file); }
    return ok;
}

NEVER_INLINE const SafeTensor* safetensors_find(const SafeTensors* file, const char* name) {
    int low = 0, high = file->count;
    while (low < high) {
        int middle = low + (high - low) / 2, order = strcmp(file->by_name[middle]->name, name);
        if (order == 0) { return file->by_name[middle]; }
        if (order < 0) { low = middle + 1; } else { high = middle; }
    }
    return NULL;
}

static inline const char* safetensors_metadata(const SafeTensors* file, const char* key) {
    for (int i = 0; i < file->metadata_count; i++) {
        if (strcmp(file->metadata[2 * i], key) == 0) { return file->metadata[2 * i + 1]; }
    }
    return NULL;
}

static inline float safetensors_float_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

// The exponent's bias is 15 in fp16, 127 in fp32: shifted into place, the value is 2^112 too small, also a denormal.
static inline float safetensors_float_from_f16(uint16_t half) {
    uint32_t sign = (half & 0x8000u) << 16, magnitude = (half & 0x7FFFu) << 13;
    if (magnitude >= 0x0F800000u) { return safetensors_float_from_bits(sign | magnitude | 0x7F800000u); } // inf, NaN
    float x = safetensors_float_from_bits(magnitude) * 0x1p112f;
    return sign ? -x : x;
}

static inline void safetensors_to_float(const char* dtype, const unsigned char* raw, size_t n, float* out) {
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        double wide;
        if (dtype[0] == 'F' && dtype[1] == '6') {
            memcpy(&wide, raw + 8 * i, 8);
            out[i] = (float)wide;
            continue;
        }
        memcpy(&half, raw + 2 * i, 2);
        out[i] = dtype[0] == 'B' ? safetensors_float_from_bits((uint32_t)half << 16) : safetensors_float_from_f16(half);
    }
}

static inline bool safetensors_check_dtype(const SafeTensors* file, const SafeTensor* t, Error* err) {
    return safetensors_readable(t) ||
           set_error(err, "tensor %.200s of %s holds %s, and only F32, F16, BF16 and F64 can be read; convert it first",
                     t->name, file->path, t->dtype);
}

// out: safetensors_elements(t) floats
static inline bool safetensors_read(const SafeTensors* file, const SafeTensor* t, float* out, Error* err) {
    uint64_t offset = file->data_start + t->begin, end = file->data_start + t->end;
    if (!safetensors_check_dtype(file, t, err)) { return false; }
    if (strcmp(t->dtype, "F32") == 0) { return safetensors_read_bytes(file, offset, out, end - offset, err); }
    unsigned char raw[1 << 14];
    size_t width = (size_t)safetensors_dtype_bytes(t->dtype);
    while (offset < end) {
        size_t bytes = end - offset < sizeof raw ? end - offset : sizeof raw;
        if (!safetensors_read_bytes(file, offset, raw, bytes, err)) { return false; }
        safetensors_to_float(t->dtype, raw, bytes / width, out);
        out += bytes / width;
        offset += bytes;
    }
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Writing

// Bytes that are not UTF-8 (a path in another encoding, say) become U+FFFD, so that other readers accept the file.
static inline void safetensors_put_string(FILE* out, const char* s) {
    size_t n = strlen(s);
    fputc('"', out);
    for (size_t i = 0; i < n;) {
        int length = safetensors_utf8_length(s + i, n - i);
        if (length == 0) {
            fputs("\\ufffd", out);
            i++;
            continue;
        }
        if (s[i] > 0 && s[i] < ' ') {
            fprintf(out, "\\u%04x", s[i]);
        } else {
            if (s[i] == '"' || s[i] == '\\') { fputc('\\', out); }
            fwrite(s + i, 1, (size_t)length, out);
        }
        i += (size_t)length;
    }
    fputc('"', out);
}

static inline size_t safetensors_out_bytes(const SafeTensorOut* t) {
    size_t bytes = sizeof(float);
    for (int i = 0; i < t->rank; i++) { bytes *= (size_t)t->shape[i]; }
    return bytes;
}

static inline void safetensors_put_json(FILE* out, const SafeTensorOut* tensors, int count,
                                        const char* const (*metadata)[2], int metadata_count) {
    const char* separator = "{";
    if (metadata_count > 0) { fputs("{\"__metadata__\":", out); }
    for (int i = 0; i < metadata_count; i++, separator = ",") {
        fputs(separator, out);
        safetensors_put_string(out, metadata[i][0]);
        fputc(':', out);
        safetensors_put_string(out, metadata[i][1]);
    }
    if (metadata_count > 0) { fputc('}', out); }
    size_t offset = 0;
    for (int i = 0; i < count; i++, separator = ",") {
        fputs(separator, out);
        safetensors_put_string(out, tensors[i].name);
        fputs(":{\"dtype\":\"F32\",\"shape\":[", out);
        for (int j = 0; j < tensors[i].rank; j++) {
            fprintf(out, "%s%lld", j ? "," : "", (long long)tensors[i].shape[j]);
        }
        size_t end = offset + safetensors_out_bytes(&tensors[i]);
        fprintf(out, "],\"data_offsets\":[%zu,%zu]}", offset, end);
        offset = end;
    }
    fputs(separator[0] == '{' ? "{}" : "}", out);
}

// The JSON text, padded to a multiple of 8 bytes so that the data stay aligned; NULL if there is no memory.
static inline char* safetensors_header(const SafeTensorOut* tensors, int count, const char* const (*metadata)[2],
                                       int metadata_count, size_t* length) {
    char* header = NULL;
    FILE* text = open_memstream(&header, length);
    if (!text) { return NULL; }
    safetensors_put_json(text, tensors, count, metadata, metadata_count);
    for (long end = ftell(text); end % 8 != 0; end++) { fputc(' ', text); }
    bool ok = !ferror(text);
    if (fclose(text) == 0 && ok) { return header; }
    free(header);
    return NULL;
}

// Gives the data of the i-th tensor when its turn comes; tensor NULL: SafeTensorOut has them
typedef struct { const float* (*tensor)(void* context, int i); void* context; } TensorSource;

static inline void safetensors_put(FILE* out, const char* header, size_t length, const SafeTensorOut* tensors,
                                   int count, TensorSource source) {
    for (int i = 0; i < 8; i++) { fputc((int)((uint64_t)length >> (8 * i) & 0xFF), out); }
    fwrite(header, 1, length, out);
    for (int i = 0; i < count; i++) {
        size_t bytes = safetensors_out_bytes(&tensors[i]);
        const float* data = source.tensor ? source.tensor(source.context, i) : tensors[i].data;
        if (bytes > 0 && fwrite(data, 1, bytes, out) != bytes) { return; } // the stream keeps the error
    }
}

// PATH is always a complete file, the old one or the new one (files.h). Equal input gives equal bytes. Names must be
// distinct; data of an empty tensor may be NULL.
RUNS_ONCE static inline bool safetensors_save_from(TensorSource source, const char* path, const SafeTensorOut* tensors,
                                                   int count, const char* const (*metadata)[2], int metadata_count,
                                                   Error* err) {
    size_t length = 0;
    WholeFile out;
    char* header = safetensors_header(tensors, count, metadata, metadata_count, &length);
    if (!header) { return set_error(err, "no memory to write %s; close other programs", path); }
    bool ok = whole_file_begin(&out, path, err);
    if (ok) {
        safetensors_put(out.file, header, length, tensors, count, source);
        ok = whole_file_end(&out, err);
    }
    free(header);
    return ok;
}

static inline bool safetensors_save(const char* path, const SafeTensorOut* tensors, int count,
                                    const char* const (*metadata)[2], int metadata_count, Error* err) {
    return safetensors_save_from((TensorSource){0}, path, tensors, count, metadata, metadata_count, err);
}
