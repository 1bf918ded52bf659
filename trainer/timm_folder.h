// A run's folder best/, which timm can open (model/timm_config.h): best.safetensors under a second name, and a file
// beside it with what timm has to know. There is none if timm has no such model.
#pragma once
#include "checkpoints.h"

#define BEST_FILE "best.safetensors"
#define BEST_FOLDER "best"

// To be freed. Class names come from the weights, or else from the data.
static Preprocessing preprocessing_of(const Trainer* t) {
    const Config* c = &t->model.config;
    const Origin* o = &t->origin;
    LoaderConfig loader;
    evaluate_as_configured(&loader, t);
    Preprocessing p = {.image_size = c->image_size, .classes = t->model.dims.K, .crop_pct = c->crop_pct};
    p.interpolation = choice_name(config_option("interpolation")->choices, c->interpolation);
    memcpy(p.mean, loader.mean, sizeof p.mean);
    memcpy(p.std, loader.std, sizeof p.std);
    if (o->class_names) {
        p.class_names = copy_text(o->class_names, "class names");
        p.class_ids = o->class_ids ? copy_text(o->class_ids, "class names") : NULL;
    } else if (t->train.count) {
        p.class_names = dataset_class_text(&t->train, t->train.class_names);
        p.class_ids = t->train.class_ids ? dataset_class_text(&t->train, t->train.class_ids) : NULL;
    }
    return p;
}

// Makes the folder and its config.json.
static void save_timm_config(const Trainer* t, const char* folder) {
    Preprocessing p = preprocessing_of(t);
    Error err;
    if (!make_folders(folder, &err) || !timm_config_write(folder, &t->model.config, t->model.dims, &p, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    preprocessing_free(&p);
}

// Called once best.safetensors is written. A run that is killed before this does it when it resumes.
RUNS_ONCE static void save_best_folder(const Trainer* t) {
    char best[PATH_SIZE], folder[PATH_SIZE], weights[PATH_SIZE + 32];
    Error err;
    if (!ranks_lead() || !timm_knows(&t->model.config)) { return; }
    output_path(t, BEST_FILE, best);
    output_path(t, BEST_FOLDER, folder);
    snprintf(weights, sizeof weights, "%s/" TIMM_WEIGHTS, folder);
    save_timm_config(t, folder);
    if (!link_file(best, weights, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
}
