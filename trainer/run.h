// What a trainer does once its model exists: it trains, or does what was asked for instead.
#pragma once
#include "classify.h"
#include "configure.h"
#include "dump.h"
#include "evaluate.h"
#include "folder.h"
#include "gradcheck.h"
#include "notes.h"
#include "overfit.h"
#include "profile.h"
#include "show_batch.h"
#include "train.h"
#include "trainer.h"
#include "weights.h"

// Whether this is a training run, with a folder of its own
static bool trains(const Config* c) {
    return !*c->eval && !*c->show_batch && !*c->dump_state && !c->gradcheck && !c->overfit_batch && !c->profile;
}

static void keep_products(Trainer* t) {
    char path[PATH_SIZE];
    output_path(t, PRODUCTS_FILE, path);
    model_keep_products(&t->model, path);
}

static int run(Trainer* t) {
    const Config* c = &t->model.config;
    if (*c->eval) {
        evaluate_and_print(t, t->model.params, c->eval);
        note_bad_images(t);
        return 0;
    }
    if (*c->show_batch) { return show_batch(t, c->show_batch); }
    if (*c->dump_state) { return dump_state(t, c->dump_state); }
    if (c->gradcheck) { return gradcheck(t); }
    if (c->overfit_batch) { return overfit(t); }
    if (c->profile) { return profile(t); }
    print_notes(t);
    if (ranks_lead()) { prepare_folder(t); }
    share_position(t);
    keep_products(t);
    return train(t);
}
