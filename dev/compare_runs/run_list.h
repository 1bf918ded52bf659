// Runs in and under folders, in the order of their names.
#pragma once
#include "run_state.h"
#include "text_table.h"
#include <dirent.h>

typedef struct {
    char folder[FOLDER_SIZE], name[RUN_NAME];
    Config config;
    RunSummary summary;
    RunState state;
} ListedRun;

typedef struct { ListedRun* runs; size_t count, room; } RunList;

static inline void run_list_free(RunList* l) {
    free(l->runs);
    *l = (RunList){0};
}

// It may not have its first row yet.
static inline bool listed_run_read(ListedRun* r, Error* err) {
    MetricsTable log = {0};
    Error none;
    if (!run_folder_config(r->folder, &r->config, err)) { return false; }
    bool read = metrics_read(&log, r->folder, &none);
    r->summary = summary_of_log(&r->config, &log);
    if (read) { metrics_table_free(&log); }
    r->state = state_of_run(r->folder, &r->summary);
    return true;
}

// Its planned epochs
static inline double epochs_of_run(const ListedRun* r) {
    const RunSummary* s = &r->summary;
    return s->step > 0 ? s->total_steps * s->epoch / s->step : r->config.epochs;
}

static inline int not_hidden(const struct dirent* e) { return e->d_name[0] != '.'; }

static inline bool run_list_walk(RunList* l, const char* folder, int depth, Error* err);

static inline bool run_list_walk_into(RunList* l, const char* folder, int depth, Error* err) {
    struct dirent** entries;
    int count = depth < 16 ? scandir(folder, &entries, not_hidden, versionsort) : 0; // s2 before s10
    bool ok = count >= 0 || set_error(err, "cannot list the folder %s: %s", folder, strerror(errno));
    for (int i = 0; i < count; i++) {
        char path[PATH_SIZE + 256];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        bool below = ok && strlen(path) < FOLDER_SIZE && lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
        if (below) { ok = run_list_walk(l, path, depth + 1, err); }
        free(entries[i]);
    }
    if (count > 0) { free(entries); }
    return ok;
}

// A folder that is not a run may contain some. A configuration that cannot be read is reported and skipped.
static inline bool run_list_walk(RunList* l, const char* folder, int depth, Error* err) {
    char path[PATH_SIZE];
    Error reason;
    snprintf(path, sizeof path, "%s/config.txt", folder);
    if (!is_file(path)) { return run_list_walk_into(l, folder, depth, err); }
    ListedRun* grown = (ListedRun*)array_grow(l->runs, l->count, &l->room, sizeof *grown, err);
    if (!grown) { return false; }
    l->runs = grown;
    ListedRun* r = &grown[l->count];
    *r = (ListedRun){0};
    if (!run_folder_open(folder, r->folder, r->name, err)) { return false; }
    if (listed_run_read(r, &reason)) { l->count++; } else { fprintf(stderr, "note: %s\n", reason.text); }
    return true;
}

static inline bool run_list_add(RunList* l, const char* folder, Error* err) {
    char path[FOLDER_SIZE], name[RUN_NAME];
    size_t before = l->count;
    if (!run_folder_open(folder, path, name, err) || !run_list_walk(l, path, 0, err)) { return false; }
    return l->count > before ||
           set_error(err, "there is no run in or under %s: give what ./train_kat had as --output", folder);
}

// Returns how many were not finished.
static inline size_t run_list_keep_finished(RunList* l) {
    size_t kept = 0, count = l->count;
    for (size_t i = 0; i < count; i++) {
        if (l->runs[i].state == RUN_FINISHED) { l->runs[kept++] = l->runs[i]; }
    }
    l->count = kept;
    return count - kept;
}
