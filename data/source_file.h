// One file of a data set as it is published: read whole, unpacked where it is packed with gzip, and told from others by
// its size and MD5. -DHAVE_ZLIB -lz lets it read .gz files, -DHAVE_LIBCRYPTO -lcrypto lets it check MD5s.
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

// ---- reading ----

#ifdef HAVE_ZLIB
enum { HAVE_GZIP = 1 };
// Up to `limit` bytes, unpacked where the file is packed; -1 on error.
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

// ---- the official one ----

#ifdef HAVE_LIBCRYPTO
enum { HAVE_MD5 = 1 };
static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    if (!EVP_Digest(bytes, count, digest, &length, EVP_md5(), NULL) || length != 16) { return false; }
    for (int i = 0; i < 16; i++) { snprintf(text + 2 * i, 3, "%02x", digest[i]); }
    return true;
}
#else
enum { HAVE_MD5 = 0 };
static inline bool md5_text(char text[33], const uint8_t* bytes, size_t count) {
    (void)text; (void)bytes; (void)count;
    return false;
}
#endif

// any_hash: a wrong MD5 is reported, not refused
static inline bool check_hash(const SourceFile* file, const char* path, const uint8_t* bytes, size_t count,
                              bool any_hash, Error* err) {
    char md5[33] = "";
    if (!file->md5) {
        printf("  %s: size and contents are checked; no official hash is known for it\n", file->name);
    } else if (!HAVE_MD5) {
        printf("  %s: size and contents are checked, the MD5 is not (install libssl-dev and build again)\n",
               file->name);
    } else if (!md5_text(md5, bytes, count)) {
        return set_error(err, "libcrypto refuses to compute an MD5: build without -DHAVE_LIBCRYPTO to go without");
    } else if (strcmp(md5, file->md5) == 0) {
        printf("  %s: MD5 is the official one\n", file->name);
    } else if (any_hash) {
        printf("  %s: MD5 is %s, not the official %s (accepted: --any-hash)\n", file->name, md5, file->md5);
    } else {
        return set_error(err, "%s is not the official file: MD5 %s instead of %s; fetch it again, or give --any-hash "
                         "to convert a changed data set", path, md5, file->md5);
    }
    return true;
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
