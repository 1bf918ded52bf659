// Data sets that tests make to convert them: files in folders and archives, and calls of converters.
#pragma once
#include "../../data/convert_options.h"
#include "../../runtime/files.h"
#include "said.h"
#ifdef HAVE_ARCHIVE
#include <archive.h>
#include <archive_entry.h>
#endif

typedef bool Converter(const char* set, const char* const* folders, const ConvertOptions* options, Error* err);
typedef struct { const char* name; const uint8_t* bytes; size_t count; } SetFile;

static const char* converter_said;

// Converts into the folder out, over what is there already.
static inline bool convert_again(Converter* converter, const char* set, const char* input,
                                 const ConvertOptions* options, Error* err) {
    char in[512], out[512];
    snprintf(in, sizeof in, "%s", in_folder(input));
    snprintf(out, sizeof out, "%s", in_folder("out"));
    said_begin();
    bool ok = converter(set, (const char*[]){in, out, NULL}, options, err);
    converter_said = said_end();
    return ok;
}

static inline bool convert_set(Converter* converter, const char* set, const char* input, const ConvertOptions* options,
                               Error* err) {
    remove_folder(in_folder("out"));
    return convert_again(converter, set, input, options, err);
}

static inline void expect_refused(Converter* converter, const char* set, const char* input,
                                  const ConvertOptions* options, const char* reason) {
    Error err = {""};
    CHECK(!convert_set(converter, set, input, options, &err), "%s is accepted where '%s' is expected", set, reason);
    CHECK(strstr(err.text, reason), "'%s' is not in: %s", reason, err.text);
    CHECK(access(in_folder("out"), F_OK) != 0, "%s: something was written", reason);
}

static inline void write_files(const char* folder, const SetFile* files, int count) {
    for (int i = 0; i < count; i++) {
        char path[1024];
        Error err;
        snprintf(path, sizeof path, "%s/%s", in_folder(folder), files[i].name);
        char* slash = strrchr(path, '/');
        *slash = 0;
        if (!make_folders(path, &err)) { puts(err.text); }
        *slash = '/';
        write_file(path, files[i].bytes, files[i].count);
    }
}

#ifdef HAVE_ARCHIVE
enum { CAN_UNPACK = 1 };
static inline void write_archive(const char* path, bool zip, const char* folder, const SetFile* files, int count) {
    struct archive* a = archive_write_new();
    if (zip) { archive_write_set_format_zip(a); } else { archive_write_set_format_ustar(a); }
    if (!zip) { archive_write_add_filter_gzip(a); }
    bool ok = archive_write_open_filename(a, path) == ARCHIVE_OK;
    for (int i = count - 1; i >= 0 && ok; i--) { // in a different order than in a folder
        struct archive_entry* e = archive_entry_new();
        char name[256];
        snprintf(name, sizeof name, "%s/%s", folder, files[i].name);
        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, 0644);
        archive_entry_set_size(e, (la_int64_t)files[i].count);
        ok = archive_write_header(a, e) == ARCHIVE_OK
            && archive_write_data(a, files[i].bytes, files[i].count) == (la_ssize_t)files[i].count;
        archive_entry_free(e);
    }
    CHECK(ok && archive_write_close(a) == ARCHIVE_OK, "%s is not written", path);
    archive_write_free(a);
}
#else
enum { CAN_UNPACK = 0 };
static inline void write_archive(const char* path, bool zip, const char* folder, const SetFile* files, int count) {
    (void)zip; (void)folder; (void)files; (void)count;
    write_file(path, "PK", 2);
}
#endif

static inline void cut_file(const char* path, size_t less) {
    size_t count;
    uint8_t* bytes = read_file(path, &count);
    write_file(path, bytes, count - less);
    free(bytes);
}
