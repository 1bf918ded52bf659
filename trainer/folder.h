// A run's folder: which it is, what may be replaced there, and the configuration in it.
#pragma once
#include "../runtime/files.h"
#include "checkpoints.h"
#include <unistd.h>

static bool folder_holds_run(const char* folder) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    return access(path, F_OK) == 0;
}

// What an earlier run left must not be taken for this one's: resumed before its first checkpoint, it would go on with
// that.
static void remove_run(const Trainer* t) {
    static const char* const names[] = {"last.resume.safetensors", "last.safetensors", "last.ema.safetensors",
                                        "best.safetensors", "metrics.csv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_SIZE];
        output_path(t, names[i], path);
        if (unlink(path) != 0 && errno != ENOENT) {
            fail(EXIT_RUN_TIME, "cannot remove %s: %s", path, strerror(errno));
        }
    }
}

// Where the run leaves its files: --output, else the folder that it resumes, else a new one.
static void open_output(Trainer* t) {
    const Config* c = &t->model.config;
    const char* data = strrchr(c->data, '/') ? strrchr(c->data, '/') + 1 : c->data;
    snprintf(t->output, sizeof t->output, "%s", *c->output ? c->output : c->resume);
    bool resumes = *c->resume && strcmp(t->output, c->resume) == 0;
    for (int n = 1; !*t->output || (!*c->output && !*c->resume && folder_holds_run(t->output)); n++) {
        int used = snprintf(t->output, sizeof t->output, "runs/%.120s-%.120s-s%d", data, c->model, c->seed);
        if (n > 1) { snprintf(t->output + used, sizeof t->output - (size_t)used, "-%d", n); }
    }
    if (!resumes && !c->overwrite && folder_holds_run(t->output)) {
        fail(EXIT_USAGE, "--output %s already holds a run: go on with --resume %s, start anew with --overwrite, "
             "or choose another folder", t->output, t->output);
    }
    Error err;
    if (!make_folders(t->output, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    if (!resumes) { remove_run(t); }
    char path[PATH_SIZE];
    output_path(t, "config.txt", path);
    FILE* f = fopen(path, "w");
    if (!f) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    config_write(f, c);
    if (fclose(f) != 0) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
}
