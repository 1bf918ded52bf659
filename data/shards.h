// Encoded images: plain tar files, the shards, and an index of them beside, NAME/train.index and NAME/val.index.
//
// A shard is a tar that tar, webdataset, timm and DALI can read; a record of the index says where in it an image's file
// lies, so that any image takes one read at a known place. Little-endian, in memory as in the file:
//
//   offset  bytes  what
//   0       8      magic "KATINDX\n"
//   8       8      checksum of every byte after it (dataset_checksum)
//   16      4      uint32 version, 1
//   20      4      uint32 records n
//   24      4      uint32 classes K
//   28      4      uint32 shards
//   32      12     float32 mean of each channel over the pixels of the TRAINING split, as 0..1
//   44      12     float32 standard deviation, likewise; both splits carry the same numbers
//   56      4      uint32 S, if images were resized to a shorter side of S; 0: they are unchanged
//   60      4      uint32 quality of the JPEGs that were written; 0: none were
//   64      64     data-set name, filled up with zeros
//   128     64     what encoded them (library, version, sampling), filled up with zeros
//   192     32 K   class names, filled up with zeros
//   ...     32 K   class ids: WordNet ids, or the folders' names
//   ...     64 a shard   name, 56 bytes, filled up with zeros: a file in the index's folder; uint64 its bytes
//   ...     24 n   records: ShardRecord
//
// The index and the sizes of the shards are checked when it is opened; the bytes of a record are checked against its
// crc32 the first time that they are read, if there is zlib.
#pragma once
#include "dataset.h"
#include <sys/resource.h>
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#define SHARD_INDEX_MAGIC "KATINDX\n"
enum { SHARD_INDEX_VERSION = 1, SHARD_NAME_BYTES = 56, ENCODER_BYTES = 64, MAX_SHARDS = 65536 };

typedef struct {
    char magic[8];
    uint64_t checksum;
    uint32_t version, count, classes, shards;
    float mean[3], std[3];
    uint32_t side, quality;
    char name[DATASET_NAME_BYTES], encoder[ENCODER_BYTES];
} ShardIndexHeader;
static_assert(sizeof(ShardIndexHeader) == 192, "the header is written as it lies in memory");

typedef struct { char name[SHARD_NAME_BYTES]; uint64_t bytes; } ShardFile;
static_assert(sizeof(ShardFile) == 64, "written as it lies in memory");

typedef struct {
    uint64_t offset;          // in its shard, of the image's file
    uint32_t bytes, crc;      // of that file
    uint16_t shard, label, width, height;
} ShardRecord;
static_assert(sizeof(ShardRecord) == 24, "written as it lies in memory");

struct Shards {
    int count;
    const ShardIndexHeader* header; // these three lie in the data set's file
    const ShardFile* files;         // (count)
    const ShardRecord* records;     // (images of the data set)
    int* descriptors;               // (count)
    uint8_t* state;                 // (images) what is known about each record: RecordState
    uint8_t** kept;                 // (images) decoded ones (image_reader.h), each NULL until then; NULL: none are kept
    int64_t* room_left;             // for those, in bytes
    char folder[PATH_MAX];
};

typedef enum { RECORD_UNREAD, RECORD_CHECKED, RECORD_BAD } RecordState; // checked: its bytes have its crc32

static inline uint64_t shard_index_bytes(const ShardIndexHeader* h) {
    return sizeof *h + 2 * (uint64_t)CLASS_NAME_BYTES * h->classes + (uint64_t)sizeof(ShardFile) * h->shards
        + (uint64_t)sizeof(ShardRecord) * h->count;
}

// Where the parts of an index begin, if it starts with a valid header
static inline char (*shard_index_class_names(uint8_t* index))[CLASS_NAME_BYTES] {
    return (char (*)[CLASS_NAME_BYTES])(index + sizeof(ShardIndexHeader));
}
static inline char (*shard_index_class_ids(uint8_t* index))[CLASS_NAME_BYTES] {
    return shard_index_class_names(index) + ((ShardIndexHeader*)index)->classes;
}
static inline ShardFile* shard_index_files(uint8_t* index) {
    return (ShardFile*)(shard_index_class_ids(index) + ((ShardIndexHeader*)index)->classes);
}
static inline ShardRecord* shard_index_records(uint8_t* index) {
    return (ShardRecord*)(shard_index_files(index) + ((ShardIndexHeader*)index)->shards);
}

// ---- writing

// Makes an empty index for what `h` says, to be filled in and freed. NULL: too large, or no memory
static inline uint8_t* shard_index_create(ShardIndexHeader h, Error* err) {
    memcpy(h.magic, SHARD_INDEX_MAGIC, sizeof h.magic);
    h.version = SHARD_INDEX_VERSION;
    if (h.count < 1 || h.count > INT32_MAX || h.classes < 1 || h.classes > MAX_CLASSES || h.shards < 1
        || h.shards > MAX_SHARDS) {
        set_error(err, "data set %.63s: %u images in %u classes and %u shards cannot be stored: see data/shards.h",
                  h.name, h.count, h.classes, h.shards);
        return NULL;
    }
    uint8_t* index = (uint8_t*)calloc(1, shard_index_bytes(&h));
    if (!index) {
        set_error(err, "no memory for an index of %.1f MB: close other programs", (double)shard_index_bytes(&h) / 1e6);
        return NULL;
    }
    memcpy(index, &h, sizeof h);
    return index;
}

static inline bool shard_index_save(uint8_t* index, const char* path, Error* err) {
    ShardIndexHeader* h = (ShardIndexHeader*)index;
    WholeFile f;
    h->checksum = dataset_checksum(index + 16, shard_index_bytes(h) - 16);
    if (!whole_file_begin(&f, path, err)) { return false; }
    fwrite(index, 1, shard_index_bytes(h), f.file);
    return whole_file_end(&f, err);
}

// ---- opening

static inline bool shard_header_valid(const ShardIndexHeader* h, size_t header_read, uint64_t bytes, const char* path,
                                      Error* err) {
    if (header_read < sizeof h->magic || memcmp(h->magic, SHARD_INDEX_MAGIC, sizeof h->magic) != 0) {
        return set_error(err, "%s is not an index of this program: make one with ./convert_data index", path);
    }
    if (header_read == sizeof *h && h->version != SHARD_INDEX_VERSION) {
        return set_error(err, "%s has format version %u, and this program reads version %d: make it again with "
                         "./convert_data index", path, h->version, SHARD_INDEX_VERSION);
    }
    bool sane = header_read == sizeof *h && h->count >= 1 && h->count <= INT32_MAX && h->classes >= 1
        && h->classes <= MAX_CLASSES && h->shards >= 1 && h->shards <= MAX_SHARDS
        && !h->name[DATASET_NAME_BYTES - 1] && !h->encoder[ENCODER_BYTES - 1];
    for (int c = 0; c < 3 && sane; c++) { // or a NaN
        sane = h->mean[c] >= 0 && h->mean[c] <= 1 && h->std[c] >= 1e-6f && h->std[c] <= 1;
    }
    if (!sane || bytes != shard_index_bytes(h)) {
        return set_error(err, "%s is damaged, or truncated (%llu bytes): make it again with ./convert_data index", path,
                         (unsigned long long)bytes);
    }
    return true;
}

// Whether every class name ends, and every record has a label, a size and a place within its shard; the header is
// valid.
static inline bool shard_index_valid(uint8_t* index, const char* path, Error* err) {
    const ShardIndexHeader* h = (const ShardIndexHeader*)index;
    const ShardFile* files = shard_index_files(index);
    const ShardRecord* records = shard_index_records(index);
    bool sane = dataset_checksum(index + 16, shard_index_bytes(h) - 16) == h->checksum;
    for (uint32_t k = 0; k < 2 * h->classes && sane; k++) {
        sane = !shard_index_class_names(index)[k][CLASS_NAME_BYTES - 1];
    }
    for (uint32_t k = 0; k < h->shards && sane; k++) {
        sane = *files[k].name && !files[k].name[SHARD_NAME_BYTES - 1] && !strchr(files[k].name, '/')
            && files[k].bytes <= INT64_MAX;
    }
    for (uint32_t i = 0; i < h->count && sane; i++) {
        ShardRecord r = records[i];
        sane = r.shard < h->shards && r.label < h->classes && r.bytes >= 1 && r.width >= 1 && r.height >= 1
            && r.width <= MAX_IMAGE_SIDE && r.height <= MAX_IMAGE_SIDE
            && r.offset <= files[r.shard].bytes && r.bytes <= files[r.shard].bytes - r.offset;
    }
    return sane || set_error(err, "%s is damaged: make it again with ./convert_data index", path);
}

// The whole index, checked; the caller frees it. NULL: err says why not
RUNS_ONCE static inline uint8_t* shard_index_load(const char* path, Error* err) {
    struct stat status;
    ShardIndexHeader h = {0};
    uint8_t* index = NULL;
    int descriptor = open(path, O_RDONLY | O_NONBLOCK); // a fifo is refused instead of waited for
    FILE* f = descriptor < 0 ? NULL : fdopen(descriptor, "rb");
    if (!f) {
        set_error(err, "cannot open %s: %s; ./convert_data makes data sets", path, strerror(errno));
        return NULL;
    }
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode)) {
        set_error(err, "%s is not a regular file: give one that ./convert_data wrote", path);
    } else if (shard_header_valid(&h, fread(&h, 1, sizeof h, f), (uint64_t)status.st_size, path, err)
               && (index = shard_index_create(h, err))) {
        size_t rest = shard_index_bytes(&h) - sizeof h;
        if (fread(index + sizeof h, 1, rest, f) != rest) {
            set_error(err, "cannot read %s: %s", path, ferror(f) ? strerror(errno) : "it became shorter meanwhile");
            free(index);
            index = NULL;
        } else if (!shard_index_valid(index, path, err)) {
            free(index);
            index = NULL;
        }
    }
    fclose(f);
    return index;
}

static inline void shards_close(Shards* s) {
    for (int k = 0; k < s->count && s->descriptors; k++) {
        if (s->descriptors[k] >= 0) { close(s->descriptors[k]); }
    }
    free(s->descriptors);
    for (uint32_t i = 0; s->kept && i < s->header->count; i++) { free(s->kept[i]); }
    free(s->kept);
    free(s->state);
    free(s);
}

static inline bool shard_path(char path[PATH_MAX], const Shards* s, int shard, Error* err) {
    return snprintf(path, PATH_MAX, "%s/%s", s->folder, s->files[shard].name) < PATH_MAX
        || set_error(err, "the path %.100s... is too long: move the data set to a shorter one", s->folder);
}

// All of them stay open, as many files as the set has shards.
static inline bool shards_open_files(Shards* s, Error* err) {
    struct rlimit files;
    char path[PATH_MAX];
    struct stat status;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int k = 0; k < s->count; k++) {
        if (!shard_path(path, s, k, err)) { return false; }
        s->descriptors[k] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (s->descriptors[k] < 0) {
            return set_error(err, "cannot open %s: %s: bring it back beside the index, or make the data set again",
                             path, strerror(errno));
        }
        if (fstat(s->descriptors[k], &status) != 0 || !S_ISREG(status.st_mode)
            || (uint64_t)status.st_size != s->files[k].bytes) {
            return set_error(err,
                             "%s is not the file that the index was made of (%llu bytes instead of %llu): bring that "
                             "back, or make the index again with ./convert_data index", path,
                             (unsigned long long)status.st_size, (unsigned long long)s->files[k].bytes);
        }
    }
    return true;
}

// Sets the fields of a data set whose d->file is a valid index. The labels are copied, since they are scattered in the
// records.
static inline void shards_point(Dataset* d, Shards* s, uint8_t* index) {
    const ShardIndexHeader* h = (const ShardIndexHeader*)index;
    size_t index_bytes = shard_index_bytes(h);
    s->header = h;
    s->count = (int)h->shards;
    s->files = shard_index_files(index);
    s->records = shard_index_records(index);
    *d = (Dataset){.count = (int)h->count, .classes = (int)h->classes, .channels = 3, .checksum = h->checksum,
                   .class_names = shard_index_class_names(index), .class_ids = shard_index_class_ids(index),
                   .labels = (uint16_t*)(index + index_bytes), .shards = s, .close_shards = shards_close, .file = index,
                   .file_bytes = index_bytes + h->count * sizeof(uint16_t)};
    memcpy(d->mean, h->mean, sizeof d->mean);
    memcpy(d->std, h->std, sizeof d->std);
    memcpy(d->name, h->name, sizeof d->name);
    for (int i = 0; i < d->count; i++) { d->labels[i] = s->records[i].label; }
}

// path: that of the index. A record that has changed is reported when it is read.
RUNS_ONCE static inline bool shards_load(Dataset* d, const char* path, Error* err) {
    *d = (Dataset){0};
    uint8_t* index = shard_index_load(path, err);
    if (!index) { return false; }
    const ShardIndexHeader* h = (const ShardIndexHeader*)index;
    uint8_t* grown = (uint8_t*)realloc(index, shard_index_bytes(h) + h->count * sizeof(uint16_t));
    Shards* s = (Shards*)calloc(1, sizeof *s);
    if (!grown || !s) {
        free(grown ? grown : index);
        free(s);
        return set_error(err, "no memory for the data set %s: close other programs", path);
    }
    shards_point(d, s, grown);
    s->descriptors = (int*)malloc((size_t)s->count * sizeof *s->descriptors);
    s->state = (uint8_t*)calloc(1, (size_t)d->count);
    for (int k = 0; k < s->count && s->descriptors; k++) { s->descriptors[k] = -1; }
    const char* slash = strrchr(path, '/');
    int length = slash ? (int)(slash - path) : 1;
    bool fits = snprintf(s->folder, sizeof s->folder, "%.*s", length, slash ? path : ".") < (int)sizeof s->folder;
    bool ok = s->descriptors && s->state && fits
        ? shards_open_files(s, err)
        : set_error(err, "no memory, or too long a path, for the data set %s", path);
    if (!ok) { dataset_free(d); }
    return ok;
}

// ---- reading

// Image i's shard and the member's name in it, where a plain tar has it
static inline void shard_record_name(char name[192], const Dataset* d, int image) {
    const Shards* s = d->shards;
    ShardRecord r = s->records[image];
    char header[512];
    bool tar = r.offset >= 512 && pread(s->descriptors[r.shard], header, 512, (off_t)r.offset - 512) == 512
        && memcmp(header + 257, "ustar", 5) == 0;
    snprintf(name, 192, "%s: %.100s%srecord %d%s", s->files[r.shard].name, tar ? header : "", tar ? " (" : "", image,
             tar ? ")" : "");
    hide_control_characters(name);
}

// Lets the system read it in advance.
static inline void shard_record_hint(const Dataset* d, int image) {
    ShardRecord r = d->shards->records[image];
    posix_fadvise(d->shards->descriptors[r.shard], (off_t)r.offset, r.bytes, POSIX_FADV_WILLNEED);
}

// Several threads read and set it, but it changes only once.
static inline RecordState record_state(const Shards* s, int image) {
    return (RecordState)__atomic_load_n(&s->state[image], __ATOMIC_RELAXED);
}
static inline void set_record_state(Shards* s, int image, RecordState state) {
    __atomic_store_n(&s->state[image], (uint8_t)state, __ATOMIC_RELAXED);
}

// Reads the file of image i into bytes, which holds records[i].bytes. err: the reason alone
static inline bool shard_record_read(const Dataset* d, int image, uint8_t* bytes, Error* err) {
    Shards* s = d->shards;
    ShardRecord r = s->records[image];
    if (record_state(s, image) == RECORD_BAD) { return set_error(err, "was refused before"); }
    ssize_t got = read_at(s->descriptors[r.shard], bytes, r.bytes, r.offset);
    if (got != (ssize_t)r.bytes) {
        return set_error(err, "cannot be read: %s", got < 0 ? strerror(errno) : "the shard ends before");
    }
#ifdef HAVE_ZLIB
    if (record_state(s, image) == RECORD_UNREAD && crc32(0, bytes, r.bytes) != r.crc) {
        return set_error(err, "is not what was indexed: its crc32 is another");
    }
    set_record_state(s, image, RECORD_CHECKED);
#endif
    return true;
}
