// What a preparation has found, for the terminal and for OUTPUT/report.txt: images per class, odd and unreadable ones,
// files that are no images, and remarks made on the way.
#pragma once
#include "part.h"

struct SetSummary {
    const Plan* plan;
    const Part* parts;       // (plan->count)
    uint64_t images[SPLITS], bytes[SPLITS];
    uint32_t* of_class[SPLITS]; // (classes)
    float mean[3], std[3];
};

static inline void summary_free(SetSummary* s) {
    for (int k = 0; k < SPLITS; k++) { free(s->of_class[k]); }
}

// Mean and deviation are those of the training split, or of the other one if there are no training images.
static inline void summarize_pixels(SetSummary* s) {
    PixelSums sums = {0};
    Split split = s->images[SPLIT_TRAIN] ? SPLIT_TRAIN : SPLIT_VAL;
    for (size_t j = 0; j < s->plan->count; j++) {
        const PixelSums* part = &s->parts[j].header.sums;
        if (s->plan->jobs[j].split != split) { continue; }
        sums.pixels += part->pixels;
        for (int c = 0; c < 3; c++) {
            sums.sums[c] += part->sums[c];
            sums.squares[c] += part->squares[c];
        }
    }
    for (int c = 0; c < 3; c++) {
        s->std[c] = 1;
        if (sums.pixels) { pixel_moments(sums.sums[c], sums.squares[c], (double)sums.pixels, &s->mean[c], &s->std[c]); }
    }
}

static inline bool summarize(SetSummary* s, const Plan* plan, const Part* parts, Error* err) {
    *s = (SetSummary){.plan = plan, .parts = parts};
    for (int k = 0; k < SPLITS; k++) {
        s->of_class[k] = (uint32_t*)calloc((size_t)plan->classes.count + 1, sizeof(uint32_t));
        if (!s->of_class[k]) { return set_error(err, "no memory for the report: close other programs"); }
    }
    for (size_t j = 0; j < plan->count; j++) {
        Split split = plan->jobs[j].split;
        s->bytes[split] += parts[j].header.shard_bytes;
        s->images[split] += parts[j].header.records;
        for (uint32_t i = 0; i < parts[j].header.records; i++) {
            if (parts[j].records[i].label >= plan->classes.count) {
                return set_error(err, "%s has an image of class %d, and there are %d: fetch it again",
                                 plan->jobs[j].shard, parts[j].records[i].label, plan->classes.count);
            }
            s->of_class[split][parts[j].records[i].label]++;
        }
    }
    summarize_pixels(s);
    return true;
}

// ---- What is reported

static inline void report_split(FILE* out, const SetSummary* s, Split split) {
    uint32_t least = UINT32_MAX, most = 0;
    int without = 0;
    if (!s->plan->shards[split]) { return; }
    for (int k = 0; k < s->plan->classes.count; k++) {
        uint32_t n = s->of_class[split][k];
        least = n < least ? n : least;
        most = n > most ? n : most;
        without += n == 0;
    }
    fprintf(out, "%s: %llu images, %d classes of %u to %u, %d shard%s of %.1f MB\n", split_names[split],
            (unsigned long long)s->images[split], s->plan->classes.count, least, most, s->plan->shards[split],
            s->plan->shards[split] == 1 ? "" : "s", (double)s->bytes[split] / 1e6);
    if (without) { fprintf(out, "warning: %s has no image of %d classes\n", split_names[split], without); }
}

// Names the images of one kind, by notes "KIND<tab>NAME<tab>REASON\n"; reason: of those with this reason, NULL: with
// any
static inline size_t report_names(FILE* out, const SetSummary* s, OddKind kind, const char* reason, size_t limit) {
    size_t found = 0;
    for (size_t j = 0; j < s->plan->count; j++) {
        const Texts* notes = &s->parts[j].notes;
        for (size_t at = 0; at < notes->used; at += strlen(notes->block + at) + 1) {
            const char* name = strchr(notes->block + at, '\t');
            const char* why = name ? strchr(name + 1, '\t') : NULL;
            if (!why || atoi(notes->block + at) != (int)kind) { continue; }
            size_t length = strcspn(why + 1, "\n");
            if (reason && (strlen(reason) != length || memcmp(reason, why + 1, length) != 0)) { continue; }
            if (found++ >= limit) { continue; }
            fprintf(out, "  %.*s", (int)(why - name - 1), name + 1);
            fprintf(out, !reason && length ? " (%.*s)\n" : "\n", (int)length, why + 1);
        }
    }
    if (found > limit && limit > 0) { fprintf(out, "  and %zu more, all in report.txt\n", found - limit); }
    return found;
}

// Those that could not be read, by reason
static inline bool report_failures(FILE* out, const SetSummary* s, size_t limit, Error* err) {
    TextTable reasons = {0};
    char reason[sizeof((PreparedImage*)0)->reason];
    bool ok = true;
    for (size_t j = 0; j < s->plan->count && ok; j++) {
        const Texts* notes = &s->parts[j].notes;
        for (size_t at = 0; at < notes->used && ok; at += strlen(notes->block + at) + 1) {
            const char* why = strrchr(notes->block + at, '\t');
            if (!why || atoi(notes->block + at) != ODD_FAILED) { continue; }
            snprintf(reason, sizeof reason, "%.*s", (int)strcspn(why + 1, "\n"), why + 1);
            ok = table_find(&reasons, reason) >= 0 || table_add(&reasons, reason, err);
        }
    }
    for (size_t r = 0; r < reasons.count && ok; r++) {
        const char* text = table_text(&reasons, r);
        fprintf(out, "not read, %s: %zu\n", text, report_names(out, s, ODD_FAILED, text, 0));
        report_names(out, s, ODD_FAILED, text, limit);
    }
    table_free(&reasons);
    return ok;
}

static inline void report_odd(FILE* out, const SetSummary* s, size_t limit) {
    for (int kind = ODD_FAILED + 1; kind < ODD_KIND_COUNT; kind++) {
        uint64_t count = 0;
        for (size_t j = 0; j < s->plan->count; j++) { count += s->parts[j].header.odd[kind]; }
        if (!count) { continue; }
        fprintf(out, "%s: %llu\n", odd_names[kind], (unsigned long long)count);
        if (odd_named[kind]) { report_names(out, s, (OddKind)kind, NULL, limit); }
    }
}

static inline void report_others(FILE* out, const ImageTree* tree, size_t limit) {
    if (!tree || !tree->other_count) { return; }
    size_t shown = limit < tree->others.count ? limit : tree->others.count;
    fprintf(out, "files of %s that are no images by their names, or hidden: %zu\n", tree->root, tree->other_count);
    for (size_t i = 0; i < shown; i++) {
        char name[512];
        snprintf(name, sizeof name, "%.500s", table_text(&tree->others, i));
        hide_control_characters(name);
        fprintf(out, "  %s\n", name);
    }
    if (shown < tree->other_count) { fprintf(out, "  and %zu more\n", tree->other_count - shown); }
}

// limit: names of each kind, at most
static inline bool report_print(FILE* out, const SetSummary* s, size_t limit, Error* err) {
    for (int split = 0; split < SPLITS; split++) { report_split(out, s, (Split)split); }
    fprintf(out, "mean %.4f %.4f %.4f, std %.4f %.4f %.4f\n", s->mean[0], s->mean[1], s->mean[2], s->std[0], s->std[1],
            s->std[2]);
    if (!report_failures(out, s, limit, err)) { return false; }
    report_odd(out, s, limit);
    if (s->plan->checks) { s->plan->checks(out, s); }
    for (int split = 0; split < SPLITS; split++) { report_others(out, s->plan->trees[split], limit); }
    return true;
}

static inline bool report_save(const SetSummary* s, const char* name, Error* err) {
    char path[PATH_MAX];
    WholeFile f;
    const Plan* p = s->plan;
    if (!in_output(path, p, name, err) || !whole_file_begin(&f, path, err)) { return false; }
    for (size_t at = 0; at < p->remarks.used; at += strlen(p->remarks.block + at) + 1) {
        fprintf(f.file, "%s\n", p->remarks.block + at);
    }
    if (!report_print(f.file, s, SIZE_MAX, err)) {
        whole_file_drop(&f);
        return false;
    }
    fprintf(f.file, "\nclass, id, name, images for training, for validation\n");
    for (int k = 0; k < p->classes.count; k++) {
        fprintf(f.file, "%d\t%s\t%s\t%u\t%u\n", k, p->classes.ids[k], p->classes.names[k], s->of_class[SPLIT_TRAIN][k],
                s->of_class[SPLIT_VAL][k]);
    }
    return whole_file_end(&f, err);
}
