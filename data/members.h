// The files of a data set, one after another, from its folder or from the archive (tar, zip, packed or not) that it is
// published in, which is not unpacked to disk. Archives need -DHAVE_ARCHIVE -larchive.
//
//   MemberWalk w;
//   if (!members_open(&w, place, &err)) { ... }
//   while ((found = members_next(&w, &err)) > 0) { ... w.name, w.bytes ... members_read(&w, bytes, &err) ... }
//   members_close(&w);                               // found < 0: an error
#pragma once
#include "../runtime/files.h"
#include <fts.h>
#include <stdint.h>
#ifdef HAVE_ARCHIVE
#include <archive.h>
#include <archive_entry.h>
#endif

// Where a data set was found
typedef struct {
    const char* folder; // that the archive unpacks to: its name is removed from members' names
    char path[PATH_MAX];
    bool archive;       // path is that; else the folder
    int depth;          // how deep files lie in the folder: 1, in it itself
} SetPlace;

typedef struct {
    SetPlace place;
    char name[PATH_MAX]; // below the folder: "train/n01443537/images/n01443537_0.JPEG"
    uint64_t bytes;
    FTS* tree;
    FTSENT* entry;
#ifdef HAVE_ARCHIVE
    struct archive* archive;
#endif
} MemberWalk;

// ---- finding it ----

static inline bool is_file_in(const char* dir, const char* folder, const char* name, char path[PATH_MAX]) {
    return snprintf(path, PATH_MAX, "%s/%s%s%s", dir, folder, *folder ? "/" : "", name) < PATH_MAX && is_file(path);
}

// Finds the set unpacked, which the file `mark` shows, or as the archive; dir itself may be either.
static inline bool find_set(SetPlace* p, const char* dir, const char* folder, const char* mark, const char* archive,
                            int depth, Error* err) {
    char path[PATH_MAX];
    *p = (SetPlace){.folder = folder, .depth = depth};
    if (!path_exists(dir)) {
        return set_error(err, "cannot look into %s: %s; give the folder that holds %s", dir, strerror(errno), archive);
    }
    const char* const folders[] = {"", folder};
    for (int i = 0; i < 2; i++) {
        if (!is_file_in(dir, folders[i], mark, path)) { continue; }
        snprintf(p->path, PATH_MAX, "%.*s", (int)(strlen(path) - strlen(mark) - 1), path);
        return true;
    }
    p->archive = is_file_in(dir, "", archive, p->path);
    if (!p->archive && is_file(dir)) { p->archive = snprintf(p->path, PATH_MAX, "%s", dir) < PATH_MAX; }
    return p->archive || set_error(err, "neither %s nor the folder %s with %s is in %s: fetch %s", archive, folder,
                                   mark, dir, archive);
}

// ---- in a folder ----

static inline int compare_entries(const FTSENT** a, const FTSENT** b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

static inline bool folder_open(MemberWalk* w, Error* err) {
    char* const roots[] = {w->place.path, NULL};
    w->tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, compare_entries);
    return w->tree || set_error(err, "cannot look into %s: %s", w->place.path, strerror(errno));
}

static inline int folder_next(MemberWalk* w, Error* err) {
    for (;;) {
        errno = 0;
        FTSENT* e = w->entry = fts_read(w->tree);
        if (!e && errno == 0) { return 0; }
        if (!e || e->fts_info == FTS_DNR || e->fts_info == FTS_ERR) {
            set_error(err, "cannot look into %s: %s", e ? e->fts_path : w->place.path,
                      strerror(e ? e->fts_errno : errno));
            return -1;
        }
        if (e->fts_info == FTS_D && e->fts_level >= w->place.depth) { fts_set(w->tree, e, FTS_SKIP); }
        if (e->fts_info != FTS_F) { continue; }
        const char* name = e->fts_path + strlen(w->place.path);
        snprintf(w->name, sizeof w->name, "%s", name + strspn(name, "/"));
        w->bytes = (uint64_t)e->fts_statp->st_size;
        return 1;
    }
}

static inline bool folder_read(MemberWalk* w, uint8_t* bytes, Error* err) {
    FILE* f = fopen(w->entry->fts_accpath, "rb");
    bool ok = f && fread(bytes, 1, w->bytes, f) == w->bytes;
    const char* reason = !f || ferror(f) ? strerror(errno) : "it became shorter meanwhile";
    if (!ok) { set_error(err, "cannot read %s: %s", w->entry->fts_path, reason); }
    if (f) { fclose(f); }
    return ok;
}

// ---- in an archive ----

#ifdef HAVE_ARCHIVE
static inline bool archive_refuse(const MemberWalk* w, Error* err) {
    const char* reason = w->archive ? archive_error_string(w->archive) : "no memory";
    return set_error(err, "%s cannot be unpacked: %s; fetch it again", w->place.path,
                     reason ? reason : "it is damaged");
}

static inline bool archive_begin(MemberWalk* w, Error* err) {
    w->archive = archive_read_new();
    if (!w->archive) { return archive_refuse(w, err); }
    archive_read_support_filter_all(w->archive);
    archive_read_support_format_tar(w->archive);
    archive_read_support_format_zip(w->archive);
    return archive_read_open_filename(w->archive, w->place.path, 1 << 18) == ARCHIVE_OK || archive_refuse(w, err);
}

static inline int archive_step(MemberWalk* w, Error* err) {
    for (;;) {
        struct archive_entry* e = NULL;
        int code = archive_read_next_header(w->archive, &e);
        if (code == ARCHIVE_EOF) { return 0; }
        if (code != ARCHIVE_OK && code != ARCHIVE_WARN) {
            archive_refuse(w, err);
            return -1;
        }
        const char* name = archive_entry_pathname(e);
        size_t folder = strlen(w->place.folder);
        if (!name || archive_entry_filetype(e) != AE_IFREG || !archive_entry_size_is_set(e)) { continue; }
        if (strncmp(name, "./", 2) == 0) { name += 2; }
        if (strncmp(name, w->place.folder, folder) == 0 && name[folder] == '/') { name += folder + 1; }
        if (archive_entry_size(e) < 0 || strlen(name) >= sizeof w->name) { continue; }
        strcpy(w->name, name);
        w->bytes = (uint64_t)archive_entry_size(e);
        return 1;
    }
}

static inline bool archive_take(MemberWalk* w, uint8_t* bytes, Error* err) {
    for (uint64_t done = 0; done < w->bytes;) {
        la_ssize_t got = archive_read_data(w->archive, bytes + done, (size_t)(w->bytes - done));
        if (got < 0) { return archive_refuse(w, err); }
        if (got == 0) { return set_error(err, "%s ends within %s: fetch it again", w->place.path, w->name); }
        done += (uint64_t)got;
    }
    return true;
}

static inline void archive_end(MemberWalk* w) {
    if (w->archive) { archive_read_free(w->archive); }
}
#else
static inline bool archive_begin(MemberWalk* w, Error* err) {
    return set_error(err, "%s is an archive, and this program was built without libarchive: unpack it there, or "
                     "install libarchive-dev and build again", w->place.path);
}
static inline int archive_step(MemberWalk* w, Error* err) {
    (void)w; (void)err;
    return -1;
}
static inline bool archive_take(MemberWalk* w, uint8_t* bytes, Error* err) {
    (void)w; (void)bytes; (void)err;
    return false;
}
static inline void archive_end(MemberWalk* w) { (void)w; }
#endif

// ---- either ----

static inline void members_close(MemberWalk* w) {
    if (w->tree) { fts_close(w->tree); }
    archive_end(w);
    w->tree = NULL;
}

static inline bool members_open(MemberWalk* w, const SetPlace* place, Error* err) {
    memset(w, 0, sizeof *w);
    w->place = *place;
    bool ok = place->archive ? archive_begin(w, err) : folder_open(w, err);
    if (!ok) { members_close(w); }
    return ok;
}

// 1: the next file, in a folder by name; 0: there is none; -1: err says what is wrong
static inline int members_next(MemberWalk* w, Error* err) {
    return w->place.archive ? archive_step(w, err) : folder_next(w, err);
}

// Reads all of its w->bytes.
static inline bool members_read(MemberWalk* w, uint8_t* bytes, Error* err) {
    return w->place.archive ? archive_take(w, bytes, err) : folder_read(w, bytes, err);
}

// The same into memory of its own, with a zero appended; to be freed. NULL: more than `limit` bytes, or an error
static inline uint8_t* members_take(MemberWalk* w, uint64_t limit, Error* err) {
    if (w->bytes > limit) {
        set_error(err, "%s: %s has %llu bytes, and in the official set %llu at most: fetch it again", w->place.path,
                  w->name, (unsigned long long)w->bytes, (unsigned long long)limit);
        return NULL;
    }
    uint8_t* bytes = (uint8_t*)malloc(w->bytes + 1);
    if (!bytes) { set_error(err, "no memory for %s (%.1f MB): close other programs", w->name, (double)w->bytes / 1e6); }
    if (bytes && members_read(w, bytes, err)) {
        bytes[w->bytes] = 0;
        return bytes;
    }
    free(bytes);
    return NULL;
}
