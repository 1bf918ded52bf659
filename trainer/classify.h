// --classify: what image files show, according to a model. Each image is prepared as for an evaluation, and its classes
// are printed with their probabilities, the most likely first.
#pragma once
#include "../data/photo.h"
#include "../runtime/output.h"
#include "trainer.h"
#include "weights.h"

static bool classifies(const Config* c) { return c->classify.count > 0; }

typedef struct { float logit; int k; } Score; // of class k

typedef struct {
    Trainer* t;
    PhotoReader reader;
    Score* scores;         // (K)
    char shown[PATH_MAX];  // the current path, as it is printed
    bool failed;           // a file could not be read
} Classifier;

// ---- What is printed

// Line k of a text; empty if there is no such line, or no text
static void text_line(const char* text, int k, char line[CLASS_NAME_BYTES]) {
    while (text && k-- > 0) { text = strchr(text, '\n') ? strchr(text, '\n') + 1 : NULL; }
    snprintf(line, CLASS_NAME_BYTES, "%.*s", text ? (int)strcspn(text, "\n") : 0, text ? text : "");
    hide_control_characters(line);
}

// "tench (n01440764)", "tench", "class 17"
static void print_class(const Origin* o, int k) {
    char name[CLASS_NAME_BYTES], id[CLASS_NAME_BYTES];
    text_line(o->class_names, k, name);
    text_line(o->class_ids, k, id);
    if (!*name && !*id) { printf("class %d\n", k); return; }
    bool both = *name && *id && strcmp(name, id) != 0;
    printf("%s%s%s%s\n", *name ? name : id, both ? " (" : "", both ? id : "", both ? ")" : "");
}

static int likelier_first(const void* a, const void* b) {
    const Score *x = (const Score*)a, *y = (const Score*)b;
    return x->logit != y->logit ? (x->logit < y->logit ? 1 : -1) : x->k - y->k;
}

// p_k = exp(z_k) / Σ_j exp(z_j); false: it is not a number
static bool print_scores(Classifier* c, const float* logits) {
    int K = c->t->model.dims.K, topk = c->t->model.config.topk;
    double sum = 0;
    for (int k = 0; k < K; k++) { c->scores[k] = (Score){logits[k], k}; }
    qsort(c->scores, (size_t)K, sizeof *c->scores, likelier_first);
    for (int k = 0; k < K; k++) { sum += exp((double)logits[k] - c->scores[0].logit); }
    if (!isfinite(sum)) { return false; }
    printf("%s\n", c->shown);
    for (int i = 0; i < K && i < topk; i++) {
        printf("%8.2f %%  ", 100 * exp((double)c->scores[i].logit - c->scores[0].logit) / sum);
        print_class(&c->t->origin, c->scores[i].k);
    }
    return true;
}

// ---- Files

static void set_path(Classifier* c, const char* path) {
    snprintf(c->shown, sizeof c->shown, "%s", path);
    hide_control_characters(c->shown);
}

// Says why the current path failed; the others are still tried.
static void report_failure(Classifier* c, const char* reason) {
    output_flush();
    fprintf(stderr, "error: %s %s\n", c->shown, reason);
    c->failed = true;
}

static void classify_file(Classifier* c, const char* path) {
    Model* m = &c->t->model;
    Error err;
    set_path(c, path);
    const Batch* batch = photo_read(&c->reader, path, &err);
    if (!batch) {
        report_failure(c, err.text);
        return;
    }
    model_forward(m, m->params, model_images(m, batch), batch->count, NULL);
    if (!print_scores(c, model_logits(m))) {
        report_failure(c, "has outputs that are no numbers: the weights are damaged, take others for --init-from");
    }
}

static int is_image_entry(const struct dirent* e) { return e->d_name[0] != '.' && is_image_name(e->d_name); }

// Classifies the image files in a folder, in the order of their names.
static void classify_folder(Classifier* c, const char* folder) {
    struct dirent** entries = NULL;
    char path[PATH_MAX];
    int count = scandir(folder, &entries, is_image_entry, alphasort), error = errno, files = 0;
    const char* slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
    for (int i = 0; i < count; i++) {
        int length = snprintf(path, sizeof path, "%s%s%s", folder, slash, entries[i]->d_name);
        if (length < (int)sizeof path && !is_folder(path)) {
            classify_file(c, path);
            files++;
        }
        free(entries[i]);
    }
    free(entries);
    set_path(c, folder);
    if (count < 0) { report_failure(c, strerror(error)); }
    if (count >= 0 && files == 0) { report_failure(c, "holds no file that ends in .jpg, .jpeg or .png"); }
}

// ---- The model

// Loads the data set of --data if the checkpoint lacks something that it can tell: the class names, or the
// normalisation.
static void ask_data(Trainer* t, const Config* c) {
    Origin* o = &t->origin;
    bool normalizes = o->normalizes || c->normalize != NORMALIZE_DATASET;
    if (*c->data && !(o->class_names && normalizes)) { load_data(t, c); }
    if (!normalizes && !t->train.count) {
        fail(EXIT_USAGE, "%s does not say how its images were normalised: give --normalize imagenet, --normalize half, "
             "or the --data that it was trained on", c->eval);
    }
    if (!o->class_names && t->train.count) {
        o->class_names = dataset_class_text(&t->train, t->train.class_names);
        o->class_ids = t->train.class_ids ? dataset_class_text(&t->train, t->train.class_ids) : NULL;
    }
}

static void load_model(Trainer* t, const Config* c) {
    Error err;
    int classes = c->classes ? c->classes : t->train.classes;
    if (!classes) { fail(EXIT_RUN_TIME, "%s has no head.weight, which says how many classes there are", c->eval); }
    if (!model_plan(&t->model, c, classes, 1, &err) || !model_allocate(&t->model, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
    load_weights(t);
}

static void open_reader(Classifier* c) {
    Trainer* t = c->t;
    Error err;
    LoaderConfig config = {.batch_size = 1, .image_size = t->model.config.image_size, .num_classes = t->model.dims.K,
                           .output = LOAD_IMAGES, .augment = augment_none()};
    evaluate_as_configured(&config, t);
    if (!photo_reader_open(&c->reader, &config, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

// Returns the exit status, which says whether all files could be read.
RUNS_ONCE static int classify(Trainer* t, const Config* config) {
    Classifier c = {.t = t};
    ask_data(t, config);
    load_model(t, config);
    open_reader(&c);
    c.scores = alloc_array(Score, t->model.dims.K, "scores");
    for (int i = 0; i < config->classify.count; i++) {
        const char* path = words_at(&config->classify, i);
        if (is_folder(path)) { classify_folder(&c, path); } else { classify_file(&c, path); }
    }
    free(c.scores);
    photo_reader_close(&c.reader);
    dataset_free(&t->train);
    dataset_free(&t->test);
    model_free(&t->model);
    return c.failed ? EXIT_RUN_TIME : 0;
}
