// A set of shards from beginning to end: the folder is claimed, unfinished jobs are done, then the indices are written,
// and the parts, whose contents they include, are removed.
#pragma once
#include "prepare.h"
#include "report.h"
#include "save_splits.h"
#include "set_text.h"

// ---- the indices

static inline ShardIndexHeader index_header(const SetSummary* s, Split split) {
    const Plan* p = s->plan;
    ShardIndexHeader h = {.count = (uint32_t)s->images[split], .classes = (uint32_t)p->classes.count,
                          .shards = (uint32_t)p->shards[split], .side = (uint32_t)p->side,
                          .quality = (uint32_t)p->quality};
    memcpy(h.mean, s->mean, sizeof h.mean);
    memcpy(h.std, s->std, sizeof h.std);
    strcpy(h.name, p->name);
    strcpy(h.encoder, p->encoder);
    return h;
}

static inline bool index_path(char path[PATH_MAX], const Plan* p, Split split, Error* err) {
    char name[16];
    snprintf(name, sizeof name, "%s.index", split_names[split]);
    return in_output(path, p, name, err);
}

static inline bool save_index(const SetSummary* s, Split split, Error* err) {
    const Plan* p = s->plan;
    char path[PATH_MAX];
    uint16_t shard = 0;
    size_t record = 0;
    uint8_t* index = shard_index_create(index_header(s, split), err);
    if (!index) { return false; }
    for (int k = 0; k < p->classes.count; k++) { // what follows the end of a text is not copied
        strcpy(shard_index_class_names(index)[k], p->classes.names[k]);
        strcpy(shard_index_class_ids(index)[k], p->classes.ids[k]);
    }
    for (size_t j = 0; j < p->count; j++) {
        const Part* part = &s->parts[j];
        if (p->jobs[j].split != split) { continue; }
        ShardFile* file = &shard_index_files(index)[shard];
        snprintf(file->name, sizeof file->name, "%s", p->jobs[j].shard);
        file->bytes = part->header.shard_bytes;
        for (uint32_t i = 0; i < part->header.records; i++, record++) {
            shard_index_records(index)[record] = part->records[i];
            shard_index_records(index)[record].shard = shard;
        }
        shard++;
    }
    bool ok = index_path(path, p, split, err) && shard_index_save(index, path, err);
    if (ok) { printf("wrote %s (%.1f MB)\n", path, (double)shard_index_bytes((ShardIndexHeader*)index) / 1e6); }
    free(index);
    return ok;
}

// ---- for webdataset's readers in timm: how many images there are, and where

static inline void info_split(FILE* out, const SetSummary* s, Split split, bool first) {
    const char* comma = "";
    fprintf(out, "%s\n    \"%s\": {\"name\": \"%s\", \"num_samples\": %llu, \"filenames\": [", first ? "" : ",",
            split == SPLIT_TRAIN ? "train" : "validation", split == SPLIT_TRAIN ? "train" : "validation",
            (unsigned long long)s->images[split]);
    for (size_t j = 0; j < s->plan->count; j++) {
        if (s->plan->jobs[j].split != split) { continue; }
        fprintf(out, "%s\"%s\"", comma, s->plan->jobs[j].shard);
        comma = ", ";
    }
    comma = "";
    fprintf(out, "], \"shard_lengths\": [");
    for (size_t j = 0; j < s->plan->count; j++) {
        if (s->plan->jobs[j].split != split) { continue; }
        fprintf(out, "%s%u", comma, s->parts[j].header.records);
        comma = ", ";
    }
    fprintf(out, "]}");
}

static inline bool save_info(const SetSummary* s, Error* err) {
    char path[PATH_MAX];
    WholeFile f;
    if (!in_output(path, s->plan, "_info.json", err) || !whole_file_begin(&f, path, err)) { return false; }
    fprintf(f.file, "{\"splits\": {");
    bool first = true;
    for (int split = 0; split < SPLITS; split++) {
        if (!s->plan->shards[split]) { continue; }
        info_split(f.file, s, (Split)split, first);
        first = false;
    }
    fprintf(f.file, "\n}}\n");
    return whole_file_end(&f, err);
}

// ---- what is there already

static inline void remove_parts(const Plan* p) {
    char path[PATH_MAX];
    Error ignored;
    for (size_t j = 0; j < p->count; j++) {
        if (part_path(path, p, &p->jobs[j], &ignored)) { unlink(path); }
    }
}

// Whether the indices and their shards exist; images: how many images they have
static inline bool set_is_finished(const Plan* p, int images[SPLITS]) {
    for (int split = 0; split < SPLITS; split++) {
        char path[PATH_MAX];
        Dataset d;
        Error ignored;
        images[split] = 0;
        if (!p->shards[split]) { continue; }
        if (!index_path(path, p, (Split)split, &ignored) || !shards_load(&d, path, &ignored)) { return false; }
        images[split] = d.count;
        bool same = d.shards->count == p->shards[split];
        dataset_free(&d);
        if (!same) { return false; }
    }
    return true;
}

static inline void tell_finished(const Plan* p, const int images[SPLITS]) {
    remove_parts(p);
    printf("%s is finished already: %d images for training, %d for validation; nothing is changed. To make it again, "
           "remove its indices%s first\n", p->output, images[SPLIT_TRAIN], images[SPLIT_VAL],
           p->writes ? " and shards" : "");
}

// ---- all of it

static inline void parts_free(Part* parts, size_t count) {
    for (size_t j = 0; j < count && parts; j++) { part_free(&parts[j]); }
    free(parts);
}

// The parts of all shards. NULL: err says which shard is not finished, or what is missing
static inline Part* load_parts(const Plan* p, Error* err) {
    Part* parts = (Part*)calloc(p->count, sizeof *parts);
    if (!parts) {
        set_error(err, "no memory for the records of all shards: close other programs");
        return NULL;
    }
    for (size_t j = 0; j < p->count; j++) {
        if (part_load(&parts[j], p, &p->jobs[j])) { continue; }
        set_error(err, "%s/%s is no longer what it was when it was finished: run the same command again", p->output,
                  p->jobs[j].shard);
        parts_free(parts, p->count);
        return NULL;
    }
    return parts;
}

// --strict also applies to images that an earlier run accepted
static inline bool check_strict(const SetSummary* s, Error* err) {
    uint64_t count = 0;
    for (size_t j = 0; j < s->plan->count; j++) { count += s->parts[j].header.odd[ODD_FAILED]; }
    return !count || set_error(err, "%llu images could not be read (see above), and --strict was given: replace them, "
                               "and give another output folder; or go on without it", (unsigned long long)count);
}

static inline bool finish_set(Plan* p, const Treatment* t, const char* report, Error* err) {
    SetSummary s = {0};
    Part* parts = load_parts(p, err);
    bool ok = parts && (!p->settle || p->settle(p, parts, err)) && summarize(&s, p, parts, err)
        && report_print(stdout, &s, 10, err);
    for (int split = 0; split < SPLITS && ok; split++) {
        ok = s.images[split] || !p->shards[split]
            || set_error(err, "not a single image for %s could be read (see above)", split_names[split]);
    }
    ok = ok && (!t->strict || check_strict(&s, err)) && report_save(&s, report, err)
        && (!t->webdataset || save_info(&s, err));
    for (int split = 0; split < SPLITS && ok; split++) {
        if (s.images[split]) { ok = save_index(&s, (Split)split, err); }
    }
    if (ok) {
        remove_parts(p);
        printf("report: %s/%s\n", p->output, report);
    }
    summary_free(&s);
    parts_free(parts, p->count);
    return ok;
}

static inline bool prepare_and_finish(Plan* p, const Treatment* t, const char* comment, const char* report,
                                      Error* err) {
    bool* finished = (bool*)calloc(p->count + 1, sizeof *finished);
    size_t count = 0;
    if (!finished) { return set_error(err, "no memory for a list of shards: close other programs"); }
    for (size_t j = 0; j < p->count; j++) {
        Part part;
        finished[j] = part_load(&part, p, &p->jobs[j]);
        count += finished[j];
        part_free(&part);
    }
    if (count) { printf("%zu of %zu shards are finished already\n", count, p->count); }
    output_flush();
    stop_on_signals();
    output_outlives_reader();
    bool ok = prepare_jobs(p, t, comment, finished, err) && finish_set(p, t, report, err);
    free(finished);
    return ok;
}

// Only one process at a time may work in a folder.
static inline bool lock_output(const Plan* p, int* lock, Error* err) {
    *lock = folder_lock(p->output, err);
    if (*lock == LOCK_NONE) { printf("note: %s: a second process could write there at the same time\n", err->text); }
    return *lock != LOCK_HELD_BY_OTHER;
}

// Makes the set of a plan that writes shards. command, split: as in the request
static inline bool make_set(Plan* p, const char* command, const Treatment* t, double split, Error* err) {
    int lock = LOCK_NONE, images[SPLITS];
    char* request = set_request(p, command, t, split);
    char* comment = set_comment(p);
    bool ok = (request && comment) || set_error(err, "no memory for the list of classes: close other programs");
    ok = ok && check_folder(p->output, err) && make_folders(p->output, err) && lock_output(p, &lock, err)
        && request_claim(p, request, err);
    if (ok && set_is_finished(p, images)) {
        tell_finished(p, images);
    } else if (ok) {
        ok = prepare_and_finish(p, t, comment, "report.txt", err);
    }
    if (lock >= 0) { close(lock); }
    free(request);
    free(comment);
    return ok;
}
