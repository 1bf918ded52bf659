// One file of a data set as published: read as a whole, unpacked if it is gzipped, and identified by its size and MD5.
// -DHAVE_ZLIB -lz lets it read .gz files, -DHAVE_LIBCRYPTO -lcrypto lets it check MD5s.
#pragma once
#include "../runtime/files.h"
#include <stdint.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_LIBCRYPTO
#include <openssl/evp.h>
#endif

typedef struct {
    const char* name;
    const char* md5; // of the unpacked file; NULL: not known
} SourceFile;

typedef struct {
    SourceFile file;
    uint64_t bytes;
} SizedFile;

// ---- reading ----

#ifdef HAVE_ZLIB
enum { HAVE_GZIP = 1 };
// Reads up to `limit` bytes, unpacked if the file is packed; -1 on error.
static inline int64_t read_bytes(uint8_t* bytes, size_t limit, const char* path, Error* err) {
    gzFile f = gzopen(path, "rb");
    if (!f) { set_error(err, "cannot open %s: %s", path, strerror(errno)); return -1; }
    int64_t count = gzread(f, bytes, (unsigned)limit);
    int code = Z_OK;
    const char* reason = gzerror(f, &code);
    if (count < 0 || (code != Z_OK && code != Z_STREAM_END)) {
        reason = code == Z_ERRNO ? strerror(errno) : reason;
        set_error(err, "%s cannot be unpacked (%s): fetch the file again", path, reason);
        count = -1;
    }
    gzclose(f);
    return count;
}
#else
enum { HAVE_GZIP = 0 };
static inline int64_t read_bytes(uint8_t* bytes, size_t limit, const char* path, Error* err) {
    FILE* f = fopen(path, "rb");
    if (!f) { set_error(err, "cannot open %s: %s", path, strerror(errno)); return -1; }
    int64_t count = (int64_t)fread(bytes, 1, limit, f);
    if (ferror(f)) { set_error(err, "cannot read %s: %s", path, strerror(errno)); count = -1; }
    fclose(f);
    return count;
}
#endif

// DIR/NAME, DIR/FOLDER/NAME of two folders (NULL: none), or one of these with .gz; false: none of them is a file
static inline bool locate_file(char path[PATH_MAX], const char* dir, const char* const folders[2], const char* name) {
    const char* const places[] = {".", folders[0], folders[1]};
    for (int i = 0; i < 6; i++) {
        if (!places[i / 2]) { continue; }
        bool top = i / 2 == 0;
        int length = snprintf(path, PATH_MAX, "%s%s%s/%s%s", dir, top ? "" : "/", top ? "" : places[i / 2], name,
                              i % 2 ? ".gz" : "");
        if (length < PATH_MAX && is_file(path)) { return true; }
    }
    return false;
}

// DIR/NAME of the data set `set`
static inline bool find_source(char path[PATH_MAX], const char* dir, const char* name, const char* set, Error* err) {
    if (!is_folder(dir)) {
        return set_error(err, "cannot look into %s: %s; give the folder that holds the official files of %s", dir,
                         path_exists(dir) ? "it is not a folder" : strerror(errno), set);
    }
    bool found = snprintf(path, PATH_MAX, "%s/%s", dir, name) < PATH_MAX && is_file(path);
    return found || set_error(err, "%s is not in %s: fetch the official files of %s there", name, dir, set);
}

// ---- the official one ----

#ifdef HAVE_LIBCRYPTO
enum { HAVE_MD5 = 1 };
static inline bool hex_text(char text[33], const uint8_t* digest, unsigned length) {
    for (int i = 0; i < 16 && length == 16; i++) { snprintf(text + 2 * i, 3, "%02x", digest[i]); }
    return length == 16;
}

static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    return EVP_Digest(bytes, count, digest, &length, EVP_md5(), NULL) && hex_text(text, digest, length);
}

// The MD5 of what remains of a file; false: libcrypto refuses, or the file cannot be read
static inline bool md5_stream(char text[33], FILE* f) {
    uint8_t digest[EVP_MAX_MD_SIZE], bytes[1 << 14];
    unsigned length = 0;
    EVP_MD_CTX* md5 = EVP_MD_CTX_new();
    bool ok = md5 && EVP_DigestInit_ex(md5, EVP_md5(), NULL);
    for (size_t got; ok && (got = fread(bytes, 1, sizeof bytes, f)) > 0;) { ok = EVP_DigestUpdate(md5, bytes, got); }
    ok = ok && EVP_DigestFinal_ex(md5, digest, &length) && !ferror(f) && hex_text(text, digest, length);
    EVP_MD_CTX_free(md5);
    return ok;
}
#else
enum { HAVE_MD5 = 0 };
static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    (void)text; (void)bytes; (void)count;
    return false;
}
static inline bool md5_stream(char text[33], FILE* f) {
    (void)text; (void)f;
    return false;
}
#endif

// Whether an MD5 can be compared; if not, says why.
static inline bool hash_wanted(const SourceFile* file) {
    if (!file->md5) {
        printf("  %s: size and contents are checked; no official hash is known for it\n", file->name);
    } else if (!HAVE_MD5) {
        printf("  %s: size and contents are checked, the MD5 is not (install libssl-dev and build again)\n",
               file->name);
    }
    return file->md5 && HAVE_MD5;
}

// md5: that of the file at path. any_hash: a wrong one is reported instead of refused
static inline bool judge_hash(const SourceFile* file, const char* path, const char* md5, bool any_hash, Error* err) {
    if (strcmp(md5, file->md5) == 0) {
        printf("  %s: MD5 is the official one\n", file->name);
    } else if (any_hash) {
        printf("  %s: MD5 is %s, not the official %s (accepted: --any-hash)\n", file->name, md5, file->md5);
    } else {
        return set_error(err, "%s is not the official file: MD5 %s instead of %s; fetch it again, or give --any-hash "
                         "to convert a changed data set", path, md5, file->md5);
    }
    return true;
}

static inline bool check_hash(const SourceFile* file, const char* path, const uint8_t* bytes, size_t count,
                              bool any_hash, Error* err) {
    char md5[33] = "";
    if (!hash_wanted(file)) { return true; }
    if (!md5_text(md5, bytes, count)) {
        return set_error(err, "libcrypto refuses to compute an MD5: build without -DHAVE_LIBCRYPTO to go without");
    }
    return judge_hash(file, path, md5, any_hash, err);
}

// The same for a file as it is on disk
static inline bool check_file_hash(const SourceFile* file, const char* path, bool any_hash, Error* err) {
    char md5[33] = "";
    if (!hash_wanted(file)) { return true; }
    FILE* f = fopen(path, "rb");
    if (!f) { return set_error(err, "cannot open %s: %s", path, strerror(errno)); }
    bool ok = md5_stream(md5, f);
    fclose(f);
    return ok ? judge_hash(file, path, md5, any_hash, err)
              : set_error(err, "cannot read %s to compute its MD5: check the disk", path);
}

// any_hash: any size is accepted
static inline bool check_size(const SizedFile* f, const char* path, uint64_t bytes, bool any_hash, Error* err) {
    if (bytes == f->bytes || any_hash) { return true; }
    return set_error(err, "%s is %s: the official %s has %llu bytes, this one has %llu; fetch it again, or give "
                     "--any-hash to convert a changed data set", path, bytes < f->bytes ? "truncated" : "too long",
                     f->file.name, (unsigned long long)f->bytes, (unsigned long long)bytes);
}

// Size and MD5 of a file as it is on disk
static inline bool check_sized_file(const SizedFile* f, const char* path, bool any_hash, Error* err) {
    struct stat status;
    if (stat(path, &status) != 0) { return set_error(err, "cannot open %s: %s", path, strerror(errno)); }
    return check_size(f, path, (uint64_t)status.st_size, any_hash, err)
        && check_file_hash(&f->file, path, any_hash, err);
}

// The unpacked contents of one official file of exactly `count` bytes, of the data set `set`; the caller frees them.
// NULL on error.
static inline uint8_t* read_source(const SourceFile* file, const char* path, const char* set, size_t count,
                                   bool any_hash, Error* err) {
    uint8_t* bytes = malloc(count + 1); // one more, to see that the file ends
    if (!bytes) {
        set_error(err, "no memory for %s (%.1f MB): close other programs", path, count / 1e6);
        return NULL;
    }
    int64_t got = read_bytes(bytes, count + 1, path, err);
    if (got >= 0 && (size_t)got != count) {
        bool less = (size_t)got < count;
        set_error(err, "%s is %s: the official file of %s has %zu bytes unpacked, this one has %s%lld; fetch it again",
                  path, less ? "truncated" : "too long", set, count, less ? "" : "at least ",
                  (long long)got);
        got = -1;
    }
    if (got < 0 || !check_hash(file, path, bytes, count, any_hash, err)) {
        free(bytes);
        return NULL;
    }
    return bytes;
}
