// A run's folder, for other programs: the contents of its config.txt, and what makes runs one experiment.
#pragma once
#include "../../model/settings.h"
#include "../../runtime/files.h"

enum { RUN_NAME = 128 };

static inline const char* last_part(const char* path) { return strrchr(path, '/') ? strrchr(path, '/') + 1 : path; }

// The run's configuration: the defaults if config.txt, such as an earlier version's, lacks an option
static inline bool run_folder_config(const char* folder, Config* c, Error* err) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/config.txt", folder);
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    if (!in) {
        return set_error(err, "%s is no folder of a run: it has no config.txt. Give what ./train_kat had as --output",
                         folder);
    }
    bool ok = options_defaults(c, config_table, CONFIG_OPTIONS, err) &&
              options_read(in, c, config_table, CONFIG_OPTIONS, RESUME_ALL, err) && config_check(c, err);
    fclose(in);
    if (ok) { return true; }
    Error reason = *err;
    return set_error(err, "%s: %s", path, reason.text);
}

// The folder, without trailing slashes; its name is the last part of its full path
static inline bool run_folder_open(const char* given, char folder[FOLDER_SIZE], char name[RUN_NAME], Error* err) {
    char path[PATH_MAX];
    if (strlen(given) >= FOLDER_SIZE) { return set_error(err, "the path %.100s... is too long", given); }
    strcpy(folder, given);
    for (size_t n = strlen(given); n > 1 && folder[n - 1] == '/'; n--) { folder[n - 1] = 0; }
    if (!is_folder(folder)) {
        return set_error(err, path_exists(folder) ? "%s is a file: give the folder of a run"
                                                  : "there is no run %s: give the folder of one", given);
    }
    snprintf(name, RUN_NAME, "%.127s", last_part(realpath(folder, path) ? path : folder));
    hide_control_characters(name);
    return true;
}

// Whether they are one experiment, except for the seed. Only the name of data counts, not its location; of a start,
// only that there is one: each seed may have its own.
static inline bool configs_are_seeds(const Config* a, const Config* b) {
    Error ignored;
    Config other = *b;
    other.seed = a->seed;
    return options_same(a, &other, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME | 1u << RESUME_LENGTH, &ignored) &&
           strcmp(last_part(a->data), last_part(b->data)) == 0 && !*a->init_from == !*b->init_from;
}
