// A run to be analysed: its folder, configuration, model, checkpoints and test images, each opened when it is first
// needed. The model and its evaluation are the trainer's own.
#pragma once
#include "../compare_runs/run_folder.h"
#include "options.h"

typedef struct {
    char folder[FOLDER_SIZE];
    char name[RUN_NAME];   // the last part of its path, for keys of pictures and names of files
    Config config;         // from config.txt
    Trainer t;             // model, after run_model; test and test_loader after run_data
    const AnalyzeOptions* options;
    bool has_model, has_data;
} Run;

typedef struct { char name[64]; int64_t step; } Checkpoint;

static void run_path(const Run* r, const char* name, char path[PATH_SIZE]) {
    snprintf(path, PATH_SIZE, "%s/%s", r->folder, name);
}

// ---- The folder

static bool run_open(Run* r, const char* folder, const AnalyzeOptions* options, Error* err) {
    *r = (Run){.options = options};
    return run_folder_open(folder, r->folder, r->name, err) && run_folder_config(r->folder, &r->config, err);
}

static void run_release_data(Run* r) {
    if (!r->has_data) { return; }
    loader_close(&r->t.train_loader);
    loader_close(&r->t.test_loader);
    dataset_free(&r->t.train);
    dataset_free(&r->t.test);
    r->has_data = false;
}

static void run_release(Run* r) {
    run_release_data(r);
    if (r->has_model) { model_free(&r->t.model); }
    free(r->t.origin.class_names);
    free(r->t.origin.class_ids);
    r->t = (Trainer){0};
    r->has_model = false;
}

// ---- Checkpoints

// "best", "last", "last.ema", "epoch-N", or the path of a file
static void checkpoint_path(const Run* r, const char* name, char path[PATH_SIZE]) {
    bool whole = strchr(name, '/') || ends_with(name, ".safetensors");
    snprintf(path, PATH_SIZE, whole ? "%s%s" : "%s/%s.safetensors", whole ? "" : r->folder, name);
}

static bool has_checkpoint(const Run* r, const char* name) {
    char path[PATH_SIZE];
    checkpoint_path(r, name, path);
    return is_file(path);
}

static bool refuse_without_checkpoint(const Run* r, Error* err) {
    return set_error(err, "%s has no checkpoint (best.safetensors, last.safetensors, epoch-N.safetensors): let the run "
                     "come to its first one", r->folder);
}

static bool any_checkpoint(const Run* r, char name[256], Error* err) {
    static const char* const patterns[] = {"best.safetensors", "last.safetensors", "epoch-*.safetensors"};
    for (int i = 0; i < 3; i++) {
        if (find_entry(r->folder, patterns[i], name)) {
            *strstr(name, ".safetensors") = 0;
            return true;
        }
    }
    return refuse_without_checkpoint(r, err);
}

// Opens a checkpoint, if it is one of this run; its step
static bool checkpoint_open(const Run* r, const char* name, SafeTensors* file, int64_t* step, Error* err) {
    char path[PATH_SIZE];
    Origin origin = {.config = r->config};
    Error reason;
    checkpoint_path(r, name, path);
    if (!is_file(path)) {
        char some[256];
        return any_checkpoint(r, some, err) &&
               set_error(err, "there is no %s: %s has %s, for one", path, r->folder, some);
    }
    if (!safetensors_open(file, path, err)) { return false; }
    const char* at = safetensors_metadata(file, "step");
    *step = at ? atoll(at) : -1;
    bool same = origin_read(&origin, file, &reason);
    if (same && !origin.ours) { same = set_error(&reason, "another program wrote it"); }
    same = same && options_same(&origin.config, &r->config, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &reason);
    free(origin.class_names);
    free(origin.class_ids);
    if (same) { return true; }
    safetensors_close(file);
    return set_error(err, "%s is not of the run that %s/config.txt tells of (%s): an analysis is of one model",
                     path, r->folder, reason.text);
}

static int by_step(const void* left, const void* right) {
    const Checkpoint *a = (const Checkpoint*)left, *b = (const Checkpoint*)right;
    return a->step < b->step ? -1 : a->step > b->step;
}

static bool add_checkpoint(const Run* r, const char* name, Checkpoint** list, size_t* count, size_t* room, Error* err) {
    SafeTensors file;
    Checkpoint c = {.step = 0};
    snprintf(c.name, sizeof c.name, "%.63s", name);
    bool start = strcmp(name, "start") == 0;
    if (!start && !checkpoint_open(r, name, &file, &c.step, err)) { return false; }
    if (!start) { safetensors_close(&file); }
    Checkpoint* grown = (Checkpoint*)array_grow(*list, *count, room, sizeof c, err);
    if (!grown) { return false; }
    *list = grown;
    grown[(*count)++] = c;
    return true;
}

// The path of the weights, in the order of steps: start, every epoch-N, and the last, of the running mean if the run
// has one (epoch-N contains it too). To be freed.
static bool run_trajectory(const Run* r, Checkpoint** list, size_t* count, Error* err) {
    size_t room = 0;
    *list = NULL;
    *count = 0;
    if (!add_checkpoint(r, "start", list, count, &room, err)) { return false; }
    DIR* entries = opendir(r->folder);
    bool ok = entries || set_error(err, "cannot list the folder %s: %s", r->folder, strerror(errno));
    for (struct dirent* e; ok && (e = readdir(entries));) {
        int epoch, used = 0;
        char name[64];
        if (sscanf(e->d_name, "epoch-%d.safetensors%n", &epoch, &used) != 1 || !used || e->d_name[used]) { continue; }
        snprintf(name, sizeof name, "epoch-%d", epoch);
        ok = add_checkpoint(r, name, list, count, &room, err);
    }
    if (entries) { closedir(entries); }
    if (ok) { qsort(*list, *count, sizeof **list, by_step); }
    const char* last = has_checkpoint(r, "last.ema") ? "last.ema" : "last";
    if (ok && has_checkpoint(r, last)) {
        ok = add_checkpoint(r, last, list, count, &room, err);
        size_t n = *count;
        if (ok && (*list)[n - 1].step == (*list)[n - 2].step) { (*count)--; }
    }
    if (ok && *count > 1) { return true; }
    free(*list);
    *list = NULL;
    return ok ? refuse_without_checkpoint(r, err) : false;
}

// Those named by "all", "start,epoch-5,last", or "" (start, halfway, end), in this order. To be freed.
static bool run_checkpoints(const Run* r, const char* which, Checkpoint** list, size_t* count, Error* err) {
    if (!*which || strcmp(which, "all") == 0) {
        if (!run_trajectory(r, list, count, err)) { return false; }
        if (!*which && *count > 3) {
            size_t half = 1;
            while ((*list)[half].step < (*list)[*count - 1].step / 2) { half++; }
            (*list)[1] = (*list)[half];
            (*list)[2] = (*list)[*count - 1];
            *count = 3;
        }
        return true;
    }
    size_t room = 0;
    bool ok = true;
    *list = NULL;
    *count = 0;
    for (const char* at = which; ok && *at; at += strspn(at, ",")) {
        char name[OPTION_TEXT_SIZE];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at, ","), at);
        ok = add_checkpoint(r, name, list, count, &room, err);
        at += strcspn(at, ",");
    }
    if (ok && *count) { return true; }
    free(*list);
    *list = NULL;
    return ok ? set_error(err, "--checkpoints %s names none", which) : false;
}

// ---- The model, and weights for it

// recompute is not read: the activations of every block are kept.
static Config model_config(const Run* r, int classes) {
    Config c = r->config;
    int most = r->options->batch_size ? r->options->batch_size : 128;
    c.classes = classes;
    c.batch_size = r->options->batch_size || c.batch_size > most ? most : c.batch_size;
    if (c.precision == PRECISION_TF32) { c.precision = PRECISION_FP32; }
    if (*r->options->data) { strcpy(c.data, r->options->data); }
    return c;
}

// All tokens of the last block are used, also those that the head does not read.
static bool plan_whole_model(Model* m, const Config* c, Error* err) {
    if (!model_plan(m, c, c->classes, c->batch_size, err)) { return false; }
    m->dims.NQ = m->dims.N;
    m->acts_table = activation_table(&m->config, m->dims, m->B);
    return true;
}

// The model, planned and allocated, with the starting weights
static bool run_model(Run* r, Error* err) {
    SafeTensors file;
    char name[256];
    int64_t step;
    Config classes = r->config;
    if (r->has_model) { return true; }
    if (!any_checkpoint(r, name, err) || !checkpoint_open(r, name, &file, &step, err)) { return false; }
    bool read = config_classes_from_tensors(&classes, &file, err) && origin_read(&r->t.origin, &file, err);
    safetensors_close(&file);
    Config c = model_config(r, classes.classes);
    if (!read || !plan_whole_model(&r->t.model, &c, err) || !model_allocate(&r->t.model, err)) {
        return false;
    }
    return r->has_model = true;
}

// The weights that training began with
static bool run_start(Run* r, float* flat, Error* err) {
    Model* m = &r->t.model;
    const Config* c = &r->config;
    SafeTensors file;
    if (!params_init(&m->table, c, flat, err)) { return false; }
    attention_start(c, &m->table, m->dims, flat);
    if (!*c->init_from) { return true; }
    if (!safetensors_open(&file, c->init_from, err)) { return false; }
    bool ok = load_foreign_weights(&file, m->tensors, m->tensor_count, flat, false, true, err); // the run accepted them
    safetensors_close(&file);
    return ok;
}

// Weights (table.total) of "start" or of a checkpoint, and their step. After run_model.
static bool run_weights(Run* r, const char* name, float* flat, int64_t* step, Error* err) {
    Model* m = &r->t.model;
    SafeTensors file;
    Error reason;
    *step = 0;
    if (strcmp(name, "start") == 0) { return run_start(r, flat, err); }
    if (!checkpoint_open(r, name, &file, step, err)) { return false; }
    bool ok = checkpoint_load(&file, m->tensors, m->tensor_count, (TensorBuffer){"", flat}, &reason);
    if (ok && !all_finite(flat, m->table.total)) { ok = set_error(&reason, "it holds NaN or infinite weights"); }
    if (!ok) { set_error(err, "%s: %s", file.path, reason.text); }
    safetensors_close(&file);
    return ok;
}

// ---- The test images, so many as the options say by now. After run_model; t.test_loader gives them, and
// evaluate(&t, flat, NULL) goes over them.

static bool run_data(Run* r, Error* err) {
    Trainer* t = &r->t;
    Config* c = &t->model.config;
    int own = r->config.test_images, wanted = r->options->images; // 0: all
    if (!wanted || (own && own < wanted)) { wanted = own; }
    if (r->has_data && c->test_images == wanted) { return true; }
    run_release_data(r);
    c->test_images = wanted;
    if (!dataset_open(&t->train, &t->test, c->data, true, err)) { return false; }
    if (c->train_images && c->train_images < t->train.count) { dataset_take(&t->train, c->train_images); }
    if (c->test_images && c->test_images < t->test.count) { dataset_take(&t->test, c->test_images); }
    if (t->test.classes > c->classes) {
        set_error(err, "%s was trained for %d classes, and the data set %s has %d: give its own by --data", r->folder,
                  c->classes, c->data, t->test.classes);
        dataset_free(&t->train);
        dataset_free(&t->test);
        return false;
    }
    r->has_data = true;
    snprintf(c->eval, sizeof c->eval, "%s", r->folder); // normalised as in training
    check_data(t);
    open_loaders(t, LOAD_IMAGES);
    c->eval[0] = 0;
    return true;
}

// ---- Several runs

// Whether the runs have the same model: alike in all that determines the parameters
static inline bool runs_same_model(const Run* runs, int count, Error* err) {
    for (int i = 1; i < count; i++) {
        Error reason;
        bool same = options_same(&runs[0].config, &runs[i].config, config_table, model_options(), 1u << RESUME_SAME,
                                 &reason);
        if (same) { continue; }
        return set_error(err, "%s and %s are of different models (%s): give runs of one", runs[0].folder,
                         runs[i].folder, reason.text);
    }
    return true;
}
