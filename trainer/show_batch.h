// --show-batch: draws the first batch as the model sees it, for people to look at.
#pragma once
#include "../data/contact_sheet.h"
#include "step.h"

enum { CAPTION_BYTES = 2 * (CLASS_NAME_BYTES + 8) };

// The class of image i; both classes of a mixed one, that with the larger share first
static void caption_of(char caption[CAPTION_BYTES], const Dataset* d, const Batch* b, int K, int i) {
    int one = b->labels[i], other = b->labels[b->count - 1 - i];
    const float* share = b->targets + (size_t)i * K;
    if (b->mix.shares.own >= 1 || one == other) {
        snprintf(caption, CAPTION_BYTES, "%s", d->class_names[one]);
        return;
    }
    int major = share[one] >= share[other] ? one : other, minor = one + other - major;
    snprintf(caption, CAPTION_BYTES, "%.0f %% %s\n%.0f %% %s", 100 * share[major], d->class_names[major],
             100 * share[minor], d->class_names[minor]);
}

// The batch as the model sees it, as many of its images as a sheet has space for; to be freed
RUNS_ONCE static Picture draw_batch(Trainer* t, const Batch* b, int* shown) {
    const LoaderConfig* c = &t->train_loader.plan.config;
    char(*text)[CAPTION_BYTES] = (char(*)[CAPTION_BYTES])alloc_bytes((size_t)b->count * CAPTION_BYTES, "captions");
    const char** captions = alloc_array(const char*, b->count, "captions");
    for (int i = 0; i < b->count; i++) {
        caption_of(text[i], &t->train, b, t->model.dims.K, i);
        captions[i] = text[i];
    }
    model_images(&t->model, b);
    ContactSheet sheet = {model_fetch_images(&t->model, b), b->count, c->image_size, {}, {}, captions, 0};
    for (int i = 0; i < 3; i++) {
        sheet.mean[i] = (float)c->mean[i];
        sheet.std[i] = (float)c->std[i];
    }
    Picture p = contact_sheet_draw(&sheet);
    *shown = sheet_images(&sheet);
    free(captions);
    free(text);
    return p;
}

RUNS_ONCE static int show_batch(Trainer* t, const char* path) {
    const Batch* b = loader_next(&t->train_loader);
    int shown;
    Picture sheet = draw_batch(t, b, &shown);
    Error err;
    if (!picture_write(path, &sheet, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    printf("wrote %s: %d of the %d images of the first batch\n", path, shown, b->count);
    picture_free(&sheet);
    return 0;
}
