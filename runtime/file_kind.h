// What a file given as weights really is, judged by its first bytes, and one thing to do about it.
#pragma once
#include "error.h"
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { FILE_KIND_HEAD = 4096 }; // bytes that are examined

#define CONVERT_TORCH "python3 -c \"import sys, torch; from safetensors.torch import save_file; " \
    "s = torch.load(sys.argv[1], map_location='cpu', weights_only=True); s = s.get('model', s.get('state_dict', s)); " \
    "save_file({k: v.clone().contiguous() for k, v in s.items() if hasattr(v, 'clone')}, sys.argv[2])\" " \
    "FILE weights.safetensors"
#define SAVE_AGAIN "load it where it was made, and save its tensors as safetensors under timm's names"
#define UNPACK "unpack it, and give the .safetensors file in it"

typedef struct { const char* magic; size_t length, offset; const char *what, *advice; } FileKind;
static const FileKind file_kinds[] = {
    {"version https://git-lfs", 23, 0, "a Git LFS pointer, not the file it points to",
     "run `git lfs pull` in its repository"},
    {"\x80\x02", 2, 0, "a Python pickle, most likely of PyTorch", "convert it: " CONVERT_TORCH},
    {"\x80\x03", 2, 0, "a Python pickle, most likely of PyTorch", "convert it: " CONVERT_TORCH},
    {"\x80\x04", 2, 0, "a Python pickle", "convert it: " CONVERT_TORCH},
    {"\x80\x05", 2, 0, "a Python pickle", "convert it: " CONVERT_TORCH},
    {"\x93NUMPY", 6, 0, "a NumPy array", SAVE_AGAIN},
    {"\x89HDF\r\n", 6, 0, "an HDF5 file, as Keras writes them", SAVE_AGAIN},
    {"GGUF", 4, 0, "a GGUF file", SAVE_AGAIN},
    {"\x1f\x8b", 2, 0, "compressed by gzip", "gunzip it first"},
    {"\xfd" "7zXZ", 5, 0, "compressed by xz", "unxz it first"},
    {"\x28\xb5\x2f\xfd", 4, 0, "compressed by zstd", "unzstd it first"},
    {"BZh", 3, 0, "compressed by bzip2", "bunzip2 it first"},
    {"ustar", 5, 257, "a tar archive", UNPACK},
    {"KATDATA\n", 8, 0, "a data set, not weights", "give it by --data, without .train.kds or .test.kds"},
};

// Position of text in the head, ignoring case; n if it is not there
static inline size_t head_find(const unsigned char* head, size_t n, const char* text) {
    for (size_t i = 0; i < n; i++) {
        size_t k = 0;
        while (text[k] && i + k < n && (head[i + k] | (text[k] >= 'a' ? 32 : 0)) == (unsigned char)text[k]) { k++; }
        if (!text[k]) { return i; }
    }
    return n;
}

static inline bool head_has(const unsigned char* head, size_t n, const char* text) {
    return head_find(head, n, text) < n;
}

static inline bool name_kind(const char* path, const char* what, const char* advice, Error* err) {
    set_error(err, "%s is %s: %s", path, what, advice);
    return true;
}

static inline bool name_zip(const char* path, const unsigned char* head, size_t n, Error* err) {
    if (head_has(head, n, "data.pkl")) {
        return name_kind(path, "a PyTorch file (a zip of pickles)", "convert it: " CONVERT_TORCH, err);
    }
    if (head_has(head, n, ".npy")) { return name_kind(path, "an archive of NumPy arrays", SAVE_AGAIN, err); }
    return name_kind(path, "a zip archive", UNPACK, err);
}

// {"weight_map": {TENSOR: FILE, ...}}: the tensors are in other files, the shards
static inline bool name_index(const char* path, const unsigned char* head, size_t n, Error* err) {
    size_t start = head_find(head, n, "\"weight_map\"");
    size_t end = start + head_find(head + start, n - start, ".safetensors\""), begin = end;
    while (begin > start && head[begin - 1] != '"') { begin--; }
    bool named = end < n && end - begin < 100;
    set_error(err, "%s is the index of a model in several files%s%.*s%s: join them: "
              "python3 -c \"import sys; from safetensors.torch import load_file, save_file; t = {}; "
              "[t.update(load_file(f)) for f in sys.argv[2:]]; save_file(t, sys.argv[1])\" all.safetensors SHARDS, "
              "and give all.safetensors", path, named ? ", such as " : "", named ? (int)(end - begin) : 0,
              (const char*)head + begin, named ? ".safetensors" : "");
    return true;
}

// Whether the head has only bytes that occur in UTF-8 text
static inline bool head_is_text(const unsigned char* head, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool blank = head[i] >= '\t' && head[i] <= '\r';
        if ((head[i] < ' ' && !blank) || head[i] >= 0xF8) { return false; }
    }
    return n > 0;
}

static inline bool name_text(const char* path, const unsigned char* head, size_t n, Error* err) {
    size_t first = n >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; // a byte order mark
    while (first < n && strchr(" \t\r\n", head[first])) { first++; }
    if (first < n && head[first] == '<') {
        bool page = head_has(head, n, "<html") || head_has(head, n, "<!doctype html");
        return name_kind(path, page ? "a web page (HTML), not the file behind its link" : "a text (XML)",
                         "fetch the file itself", err);
    }
    if (head_has(head, n, "\"weight_map\"")) { return name_index(path, head, n, err); }
    bool json = first < n && (head[first] == '{' || head[first] == '[');
    return name_kind(path, json ? "a text (JSON)" : "a text", "give the .safetensors file that belongs to it", err);
}

// A safetensors file begins with the length of its header, far below 2^32, and the header with '{'.
static inline bool head_is_safetensors(const unsigned char* head, size_t n) {
    return n > 8 && memcmp(head + 4, "\0\0\0\0", 4) == 0 && head[8] == '{';
}

// True, and err says what the file is, if its first n bytes show that it is not a safetensors file.
static inline bool name_file_kind(const char* path, const unsigned char* head, size_t n, Error* err) {
    if (n == 0) { return name_kind(path, "empty", "fetch or copy it again", err); }
    if (head_is_safetensors(head, n)) { return false; }
    for (size_t i = 0; i < sizeof file_kinds / sizeof file_kinds[0]; i++) {
        const FileKind* kind = &file_kinds[i];
        bool same = kind->offset + kind->length <= n && memcmp(head + kind->offset, kind->magic, kind->length) == 0;
        if (same) { return name_kind(path, kind->what, kind->advice, err); }
    }
    if (n >= 4 && memcmp(head, "PK\3\4", 4) == 0) { return name_zip(path, head, n, err); }
    if (head_is_text(head, n)) { return name_text(path, head, n, err); }
    // Protobuf: field 1, the version, as a small number; then field 2, the producer's name, or field 7, the graph
    bool onnx = n > 4 && head[0] == 0x08 && head[1] < 0x20 && (head[2] == 0x12 || head[2] == 0x3a);
    return onnx && name_kind(path, "an ONNX file, most likely", SAVE_AGAIN, err);
}

// Refuses a folder; always false.
static inline bool refuse_folder(const char* path, Error* err) {
    static const char* const names[] = {"best.safetensors", "last.safetensors", "model.safetensors"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, names[i]);
        if (access(file, F_OK) == 0) { return set_error(err, "%s is a folder: give a file in it, %s", path, file); }
    }
    return set_error(err, "%s is a folder: give the path of a .safetensors file", path);
}
#undef CONVERT_TORCH
#undef SAVE_AGAIN
#undef UNPACK
