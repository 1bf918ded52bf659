// What a set of shards will be, known before any image is read: its classes and its jobs, one for each shard. Which
// images a job takes, and in which order, depends on the input alone.
#pragma once
#include "../runtime/output.h"
#include "image_tree.h"
#include "shards.h"
#include "tar.h"

typedef enum { SPLIT_TRAIN, SPLIT_VAL, SPLITS } Split;
static const char* const split_names[] = {"train", "val"};

// A training shard takes so many classes, or fewer if they have more than so many images; a validation shard takes so
// many images.
enum { CLASSES_A_SHARD = 8, TRAIN_IMAGES_A_SHARD = 20000, VAL_IMAGES_A_SHARD = 10000 };

// What is done with every image
typedef struct {
    int side, quality;     // the shorter side that larger images are resized to, 0: none are; the quality of these
    bool webdataset;       // a .cls member after each image
    bool strict;           // a damaged image is an error
    int workers;
} Treatment;

// ---- Images in the input

typedef struct {
    int descriptor;             // of the archive that it lies in; -1: it is a file of its own, at path
    char path[PATH_MAX];
    uint64_t offset, bytes;     // in the archive
    int label;
    bool png;                   // by its name
    char key[MEMBER_KEY_BYTES]; // name in the shard, without extension
    char from[512];             // name for the report
    const char* refused;        // why it is not read at all; NULL: it is
} InputImage;

typedef struct Job Job;

// How far the reading of a job has come; only the source uses it. Files stay open until the job is done.
typedef struct {
    const Job* job;
    size_t at;
    int descriptors[CLASSES_A_SHARD], descriptor_count;
    char path[PATH_MAX];
    TarWalk walk;
    bool walking;
} Cursor;

typedef struct {
    bool (*begin)(Cursor* c, Error* err);
    int (*next)(Cursor* c, InputImage* image, Error* err); // 1: an image; 0: no more; -1: err says what is wrong
} ImageSource;

struct Job {
    Split split;
    char shard[SHARD_NAME_BYTES];
    const ImageSource* source;
    const void* input;      // what the source reads from
    size_t first, last;     // what of it, last excluded
    double units;           // images or bytes of the input, for progress
    uint64_t digest;        // of what it is going to hold
};

typedef struct SetSummary SetSummary; // report.h
typedef struct Part Part;             // part.h
typedef struct Plan Plan;

struct Plan {
    const char* output;     // folder
    char name[DATASET_NAME_BYTES], encoder[ENCODER_BYTES];
    int side, quality;      // as the index has them
    bool writes;            // shards are made; else they exist, and are only read
    ClassList classes;
    Job* jobs;              // training first
    size_t count, room;
    int shards[SPLITS];
    Texts remarks;          // for the report, one per line
    const ImageTree* trees[SPLITS]; // whose files that are no images are reported; NULL: none
    // Settles what could not be known before everything was read; checks what is known of such a set, for the report;
    // NULL: nothing
    bool (*settle)(Plan* p, const Part* parts, Error* err);
    void (*checks)(FILE* out, const SetSummary* s);
};

static inline void plan_free(Plan* p) {
    classes_free(&p->classes);
    texts_free(&p->remarks);
    free(p->jobs);
    *p = (Plan){0};
}

// Printed at once, since the work may take hours, and again in the report
__attribute__((format(printf, 3, 4)))
static inline bool plan_remark(Plan* p, Error* err, const char* format, ...) {
    char line[1024];
    size_t at;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    hide_control_characters(line);
    printf("%s\n", line);
    output_flush();
    return texts_add(&p->remarks, line, &at, err);
}

// ---- Digests, by which a job or a set is recognised as unchanged

static inline uint64_t digest_bytes(uint64_t digest, const void* bytes, size_t count) {
    return (digest ^ dataset_checksum((const uint8_t*)bytes, count)) * 0x9E3779B97F4A7C15u ^ digest >> 29;
}

static inline uint64_t digest_text(uint64_t digest, const char* text) {
    return digest_bytes(digest, text, strlen(text));
}

static inline uint64_t digest_number(uint64_t digest, uint64_t number) {
    return digest_bytes(digest, &number, sizeof number);
}

// ---- jobs

// The next shard of a split
static inline Job* plan_add(Plan* p, Split split, const ImageSource* source, const void* input, size_t first,
                            Error* err) {
    Job* jobs = (Job*)array_grow(p->jobs, p->count, &p->room, sizeof *jobs, err);
    if (!jobs) { return NULL; }
    p->jobs = jobs;
    if (p->shards[split] == MAX_SHARDS) {
        set_error(err, "there would be more than %d shards: make a set of fewer classes", MAX_SHARDS);
        return NULL;
    }
    Job* job = &p->jobs[p->count++];
    *job = (Job){.split = split, .source = source, .input = input, .first = first, .last = first};
    snprintf(job->shard, sizeof job->shard, "%s-%06d.tar", split_names[split], p->shards[split]++);
    job->digest = digest_text(0, job->shard);
    return job;
}

static inline uint64_t plan_digest(const Plan* p) {
    uint64_t digest = 0;
    for (int k = 0; k < p->classes.count; k++) {
        digest = digest_text(digest_text(digest, p->classes.ids[k]), p->classes.names[k]);
    }
    for (size_t j = 0; j < p->count; j++) { digest = digest_number(digest, p->jobs[j].digest); }
    return digest;
}

static inline bool in_output(char path[PATH_MAX], const Plan* p, const char* name, Error* err) {
    return snprintf(path, PATH_MAX, "%s/%s", p->output, name) < PATH_MAX
        || set_error(err, "the path %.100s... is too long: choose a shorter one", p->output);
}
