// What is known about a finished shard, in a file beside it until the index of all shards exists:
// OUTPUT/train-000000.part. A shard is finished if its part is complete, belongs to this job, and names the size that
// the shard has.
#pragma once
#include "prepare_image.h"

#define PART_MAGIC "KATPART\n"
enum { PART_VERSION = 1 };

typedef struct {
    char magic[8];
    uint32_t version, crc;    // crc32 of all that follows it
    uint64_t job;             // its digest
    uint64_t shard_bytes, notes_bytes;
    PixelSums sums;
    uint32_t records, odd[ODD_KIND_COUNT];
} PartHeader;

struct Part {
    PartHeader header;
    ShardRecord* records;
    size_t room;
    Texts notes;              // for each image that is named in the report: "KIND\tNAME\tREASON\n"
};

static inline void part_free(Part* p) {
    free(p->records);
    texts_free(&p->notes);
    *p = (Part){0};
}

static inline bool part_note(Part* p, OddKind kind, const PreparedImage* image, Error* err) {
    char line[sizeof image->from + sizeof image->reason + 16], from[sizeof image->from];
    size_t at;
    snprintf(from, sizeof from, "%s", image->from);
    hide_control_characters(from);
    int size = snprintf(line, sizeof line, "%d\t%s\t", kind, from);
    if (kind == ODD_SHAPE) {
        snprintf(line + size, sizeof line - (size_t)size, "%d x %d", image->width, image->height);
    }
    if (kind == ODD_FAILED) { snprintf(line + size, sizeof line - (size_t)size, "%s", image->reason); }
    strcat(line, "\n");
    return texts_add(&p->notes, line, &at, err);
}

// Adds its record as well, if it was read.
static inline bool part_add(Part* p, const PreparedImage* image, uint64_t offset, Error* err) {
    for (int k = 0; k < ODD_KIND_COUNT; k++) {
        bool odd = image->kinds >> k & 1;
        p->header.odd[k] += odd;
        if (odd && odd_named[k] && !part_note(p, (OddKind)k, image, err)) { return false; }
    }
    if (image->kinds >> ODD_FAILED & 1) { return true; }
    ShardRecord* records = (ShardRecord*)array_grow(p->records, p->header.records, &p->room, sizeof *records, err);
    if (!records) { return false; }
    p->records = records;
    p->records[p->header.records] = image->record;
    p->records[p->header.records++].offset = offset;
    p->header.sums.pixels += image->sums.pixels;
    for (int c = 0; c < 3; c++) {
        p->header.sums.sums[c] += image->sums.sums[c];
        p->header.sums.squares[c] += image->sums.squares[c];
    }
    return true;
}

static inline bool part_path(char path[PATH_MAX], const Plan* plan, const Job* job, Error* err) {
    char name[SHARD_NAME_BYTES + 8];
    snprintf(name, sizeof name, "%.*s.part", (int)(strlen(job->shard) - strlen(".tar")), job->shard);
    return in_output(path, plan, name, err);
}

// All of a part after its crc, as one block; to be freed
static inline uint8_t* part_block(const Part* p, size_t* count, Error* err) {
    size_t head = offsetof(PartHeader, job), records = p->header.records * sizeof *p->records;
    *count = sizeof p->header - head + records + p->notes.used;
    uint8_t* block = (uint8_t*)malloc(*count + 1);
    if (!block) {
        set_error(err, "no memory for the records of a shard: close other programs");
        return NULL;
    }
    memcpy(block, (const uint8_t*)&p->header + head, sizeof p->header - head);
    if (records) { memcpy(block + sizeof p->header - head, p->records, records); }
    if (p->notes.used) { memcpy(block + *count - p->notes.used, p->notes.block, p->notes.used); }
    return block;
}

static inline bool part_save(Part* p, const Plan* plan, const Job* job, uint64_t shard_bytes, Error* err) {
    char path[PATH_MAX];
    size_t count = 0;
    WholeFile f;
    memcpy(p->header.magic, PART_MAGIC, sizeof p->header.magic);
    p->header.version = PART_VERSION;
    p->header.job = job->digest;
    p->header.shard_bytes = shard_bytes;
    p->header.notes_bytes = p->notes.used;
    uint8_t* block = part_block(p, &count, err);
    if (!block) { return false; }
    p->header.crc = crc32_of(block, count);
    bool ok = part_path(path, plan, job, err) && whole_file_begin(&f, path, err);
    if (ok) {
        fwrite(&p->header, 1, offsetof(PartHeader, job), f.file);
        fwrite(block, 1, count, f.file);
        ok = whole_file_end(&f, err);
    }
    free(block);
    return ok;
}

static inline bool part_header_right(const PartHeader* h, const Job* job, uint64_t bytes) {
    return memcmp(h->magic, PART_MAGIC, sizeof h->magic) == 0 && h->version == PART_VERSION && h->job == job->digest
        && h->notes_bytes <= bytes && bytes == sizeof *h + (uint64_t)h->records * sizeof(ShardRecord) + h->notes_bytes;
}

static inline bool part_read(Part* p, FILE* f) {
    size_t records = p->header.records, count = 0;
    Error ignored;
    p->records = (ShardRecord*)malloc((records + 1) * sizeof *p->records);
    p->notes.block = (char*)malloc(p->header.notes_bytes + 1);
    p->notes.used = p->notes.room = p->header.notes_bytes;
    p->room = records;
    bool ok = p->records && p->notes.block && fread(p->records, sizeof *p->records, records, f) == records
        && fread(p->notes.block, 1, p->notes.used, f) == p->notes.used
        && (!p->notes.used || !p->notes.block[p->notes.used - 1]);
    uint8_t* block = ok ? part_block(p, &count, &ignored) : NULL;
    ok = block && crc32_of(block, count) == p->header.crc;
    free(block);
    return ok;
}

// Whether the job's shard is finished; if so, *p is what is known about it, to be freed
static inline bool part_load(Part* p, const Plan* plan, const Job* job) {
    char path[PATH_MAX], shard[PATH_MAX];
    struct stat status, shard_status;
    Error ignored;
    *p = (Part){0};
    if (!part_path(path, plan, job, &ignored) || !in_output(shard, plan, job->shard, &ignored)) { return false; }
    FILE* f = is_file(path) ? fopen(path, "rb") : NULL;
    bool ok = f && fstat(fileno(f), &status) == 0 && fread(&p->header, 1, sizeof p->header, f) == sizeof p->header
        && part_header_right(&p->header, job, (uint64_t)status.st_size) && part_read(p, f)
        && stat(shard, &shard_status) == 0 && S_ISREG(shard_status.st_mode)
        && (uint64_t)shard_status.st_size == p->header.shard_bytes;
    if (f) { fclose(f); }
    if (!ok) { part_free(p); }
    return ok;
}
