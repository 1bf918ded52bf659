// A run's folder: which it is, who uses it, what may be replaced in it, and the configuration there. It belongs to this
// process from take_folder() on; prepare_folder() removes what an earlier run left there, once the weights are read.
#pragma once
#include "../model/settings.h"
#include "../runtime/event_file.h"
#include "../runtime/files.h"
#include "timm_folder.h"
#include <dirent.h>

static bool folder_has(const char* folder, const char* name) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path_exists(path);
}

// "." for a file in the working directory
static const char* folder_of(const char* path, char folder[FOLDER_SIZE]) {
    const char* slash = strrchr(path, '/');
    int length = !slash ? 0 : slash == path ? 1 : (int)(slash - path);
    snprintf(folder, FOLDER_SIZE, "%.*s", length ? length : 1, length ? path : ".");
    return folder;
}

// The n-th folder to try for a run without --output
static void default_folder(const Config* c, int n, char folder[FOLDER_SIZE]) {
    const char* data = strrchr(c->data, '/') ? strrchr(c->data, '/') + 1 : c->data;
    int used = snprintf(folder, FOLDER_SIZE, "runs/%.120s-%.120s-s%d", data, c->model, c->seed);
    if (n > 1) { snprintf(folder + used, FOLDER_SIZE - (size_t)used, "-%d", n); }
}

static bool is_unfinished(const char* name) {
    size_t length = strlen(name);
    return length > 4 && strcmp(name + length - 4, ".tmp") == 0;
}

// Whether a run gives files this name, finished or not
static bool is_run_file(const char* name) {
    static const char* const names[] = {"metrics.csv", "metrics.jsonl", "config.txt", BEST_FILE, "last.safetensors",
                                        "last.ema.safetensors", PRODUCTS_FILE, RESUME_FILE};
    char stem[256];
    int epoch, used = 0;
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(name) - (is_unfinished(name) ? 4 : 0)), name);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(stem, names[i]) == 0) { return true; }
    }
    if (strncmp(stem, EVENT_FILES, strlen(EVENT_FILES)) == 0) { return true; }
    return sscanf(stem, "epoch-%d.safetensors%n", &epoch, &used) == 1 && used && !stem[used];
}

static DIR* open_folder_or_fail(const char* folder) {
    DIR* entries = opendir(folder);
    if (!entries) {
        fail(EXIT_RUN_TIME, "cannot list the folder %s: %s. Choose another --output", folder, strerror(errno));
    }
    return entries;
}

// The first finished file of a run there; false: there is none
static bool first_run_file(const char* folder, char name[256]) {
    DIR* entries = open_folder_or_fail(folder);
    bool found = false;
    for (struct dirent* e; !found && (e = readdir(entries)) != NULL;) {
        found = is_run_file(e->d_name) && !is_unfinished(e->d_name);
        snprintf(name, 256, "%s", e->d_name);
    }
    closedir(entries);
    return found;
}

// Removes a file that is in the way of a new run, but not a link, a pipe or a folder.
static void remove_run_file(Trainer* t, const char* name) {
    char path[PATH_SIZE], room[PATH_MAX];
    struct stat status;
    output_path(t, name, path);
    if (lstat(path, &status) != 0) { return; }
    if (!S_ISREG(status.st_mode)) {
        fail(EXIT_RUN_TIME, "%s is no plain file (a link, a pipe or a folder), and --overwrite removes only those: "
             "remove it yourself, or choose another --output", path);
    }
    const char* source = t->model.config.init_from;
    if (*source && same_file(path, weights_path(source, room))) {
        snprintf(t->superseded, sizeof t->superseded, "%s", path);
    } else if (unlink(path) != 0) {
        fail(EXIT_RUN_TIME, "cannot remove %s: %s", path, strerror(errno));
    }
}

// Removes what timm opens, and the folder if nothing else is in it; unless all is set, only unfinished files.
static void remove_best_folder(Trainer* t, bool all) {
    static const char* const names[] = {TIMM_WEIGHTS, TIMM_CONFIG, TIMM_WEIGHTS ".tmp", TIMM_CONFIG ".tmp"};
    char name[64], path[PATH_SIZE];
    for (int i = all ? 0 : 2; i < 4; i++) {
        snprintf(name, sizeof name, BEST_FOLDER "/%s", names[i]);
        remove_run_file(t, name);
    }
    output_path(t, BEST_FOLDER, path);
    if (all) { rmdir(path); }
}

// Removes all files of an earlier run in the folder, or only unfinished ones. The file to resume from goes first, so
// that the rest cannot be taken for a run.
static void remove_run(Trainer* t, bool all) {
    DIR* entries = open_folder_or_fail(t->output);
    if (all) { remove_run_file(t, RESUME_FILE); }
    remove_best_folder(t, all);
    for (struct dirent* e; (e = readdir(entries)) != NULL;) {
        if (is_run_file(e->d_name) && (all || is_unfinished(e->d_name))) { remove_run_file(t, e->d_name); }
    }
    closedir(entries);
}

// Whether the folder holds only the beginning of this very run, stopped before its first checkpoint
static bool holds_beginning(const Trainer* t) {
    const Config* c = &t->model.config;
    char path[PATH_SIZE];
    Config there;
    Error err;
    output_path(t, "config.txt", path);
    FILE* in = folder_has(t->output, RESUME_FILE) ? NULL : fopen(path, "r");
    if (!in) { return false; }
    bool read = options_defaults(&there, config_table, CONFIG_OPTIONS, &err) &&
                options_read(in, &there, config_table, CONFIG_OPTIONS, RESUME_ALL, &err);
    fclose(in);
    return read && options_same(&there, c, config_table, CONFIG_OPTIONS, RESUME_ALL, &err);
}

static void refuse_to_replace(const Trainer* t) {
    const Config* c = &t->model.config;
    char name[256];
    if (c->overwrite || !first_run_file(t->output, name) || (c->continue_run && holds_beginning(t))) { return; }
    if (folder_has(t->output, RESUME_FILE)) {
        fail(EXIT_USAGE, "--output %s already holds a run (%s): go on with --resume %s, start anew with --overwrite, "
             "or choose another folder", t->output, name, t->output);
    }
    fail(EXIT_USAGE, "--output %s already holds a file of a run (%s): choose another folder, or remove all such files "
         "with --overwrite", t->output, name);
}

static void lock_folder(const Trainer* t) {
    Error err;
    int lock = folder_lock(t->output, &err);
    if (lock == LOCK_HELD_BY_OTHER) {
        fail(EXIT_RUN_TIME, "%s: wait until that run ends, or choose another folder with --output", err.text);
    }
    if (lock == LOCK_NONE) { printf("note       %s: start no second run there\n", err.text); }
}

// Settles where the run writes its files: --output, else the folder that it resumes, else a new one, which is made once
// there is something to put there. Nothing in it is changed yet.
RUNS_ONCE static void take_folder(Trainer* t) {
    const Config* c = &t->model.config;
    Error err;
    snprintf(t->output, sizeof t->output, "%s", *c->output ? c->output : c->resume);
    if (!*t->output) { return; }
    if (!make_folders(t->output, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    lock_folder(t);
    t->in_place = *c->resume && same_file(c->resume, t->output);
    if (!t->in_place) { refuse_to_replace(t); }
}

// ---------------------------------------------------------------------------------------------------------------------
// Once the weights are read

// A folder that this process itself has just made cannot be in use by another.
static void make_new_folder(Trainer* t) {
    Error err;
    if (!make_folders("runs", &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    for (int n = 1;; n++) {
        default_folder(&t->model.config, n, t->output);
        if (mkdir(t->output, 0777) == 0) { break; }
        if (errno != EEXIST) {
            fail(EXIT_RUN_TIME, "cannot make the folder %s: %s. Give --output", t->output, strerror(errno));
        }
    }
    lock_folder(t);
}

// A run that resumes into another folder takes along what its summary, its plots and its choice of products need.
static void bring_along(Trainer* t) {
    static const char* const names[] = {"metrics.csv", "metrics.jsonl", BEST_FILE, PRODUCTS_FILE};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char from[PATH_SIZE], to[PATH_SIZE];
        Error err;
        snprintf(from, sizeof from, "%s/%s", t->model.config.resume, names[i]);
        output_path(t, names[i], to);
        if (path_exists(from) && !copy_file(from, to, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    }
}

static void save_config(const Trainer* t) {
    char path[PATH_SIZE], build[VERSION_TEXT];
    WholeFile out;
    Error err;
    output_path(t, "config.txt", path);
    if (!whole_file_begin(&out, path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    settings_write(out.file, &t->model.config);
    fprintf(out.file, "# by %s\n", version_text(build));
    if (*t->extended) { fprintf(out.file, "# made longer at %s\n", t->extended); }
    if (!whole_file_end(&out, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
}

// The step of best.safetensors; -1: there is no such file
static long long step_of_best(const Trainer* t) {
    char path[PATH_SIZE];
    SafeTensors file;
    Error err;
    output_path(t, BEST_FILE, path);
    if (!safetensors_open(&file, path, &err)) { return -1; }
    const char* step = safetensors_metadata(&file, "step");
    long long at = step ? atoll(step) : -1;
    safetensors_close(&file);
    return at;
}

// The choice of the best weights starts over if their file is gone, or if it is of a later step than the run resumes
// from and that step will not come out the same again.
static void check_best(Trainer* t) {
    bool same_length = t->total_steps == steps_of(t, &t->origin.config);
    long long at = t->best_step ? step_of_best(t) : 0;
    if (at < 0 || (at != t->best_step && !same_length)) { t->best_step = 0; }
}

RUNS_ONCE static void prepare_folder(Trainer* t) {
    const Config* c = &t->model.config;
    if (!*t->output) { make_new_folder(t); }
    remove_run(t, !t->in_place);
    if (!t->in_place && *c->resume) { bring_along(t); }
    if (*c->resume) { check_best(t); }
    save_config(t);
}
