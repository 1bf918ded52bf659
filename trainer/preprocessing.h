// What a program elsewhere has to know to use a trained model: how images are prepared for it, and what its outputs stand
// for, under the names that timm has for these and in the form of JSON.
#pragma once
#include "../runtime/metadata.h"
#include "trainer.h"

typedef struct {
    int image_size, classes;
    double mean[3], std[3], crop_pct;
    const char* interpolation;
    const char *class_names, *class_ids; // a line each; NULL: they are not known
} Preprocessing;

static Preprocessing preprocessing_of(const Trainer* t) {
    const Config* c = &t->model.config;
    LoaderConfig loader;
    evaluate_as_configured(&loader, t);
    Preprocessing p = {.image_size = c->image_size, .classes = t->model.dims.K, .crop_pct = c->crop_pct,
                       .class_names = t->origin.class_names, .class_ids = t->origin.class_ids};
    p.interpolation = choice_name(config_option("interpolation")->choices, c->interpolation);
    memcpy(p.mean, loader.mean, sizeof p.mean);
    memcpy(p.std, loader.std, sizeof p.std);
    return p;
}

// ---- JSON

static void put_number(FILE* out, double number) {
    char text[32];
    real_text(number, text);
    fputs(text, out);
}

static void put_three(FILE* out, const double numbers[3]) {
    for (int i = 0; i < 3; i++) {
        fputs(i ? ", " : "[", out);
        put_number(out, numbers[i]);
    }
    fputc(']', out);
}

static void put_input_size(FILE* out, const Preprocessing* p) {
    fprintf(out, "[3, %d, %d]", p->image_size, p->image_size);
}

// The next of the lines, without its end; *text moves behind it
static char* next_line(const char** text) {
    size_t length = strcspn(*text, "\n");
    char* line = alloc_array(char, length + 1, "class names");
    memcpy(line, *text, length);
    *text += length + ((*text)[length] == '\n');
    return line;
}

// A class has one name that is its own: its id, if there are any
static void put_label_names(FILE* out, const Preprocessing* p) {
    const char* lines = p->class_ids ? p->class_ids : p->class_names;
    for (int k = 0; k < p->classes; k++) {
        char* line = next_line(&lines);
        fputs(k ? ", " : "[", out);
        safetensors_put_string(out, line);
        free(line);
    }
    fputc(']', out);
}

// Where ids are the names, what each is called
static void put_label_descriptions(FILE* out, const Preprocessing* p) {
    const char *ids = p->class_ids, *names = p->class_names;
    for (int k = 0; k < p->classes; k++) {
        char *id = next_line(&ids), *name = next_line(&names);
        fputs(k ? ", " : "{", out);
        safetensors_put_string(out, id);
        fputs(": ", out);
        safetensors_put_string(out, name);
        free(id);
        free(name);
    }
    fputc('}', out);
}

// ---- As metadata of a file

typedef void (*PutJson)(FILE*, const Preprocessing*);
static void put_mean(FILE* out, const Preprocessing* p) { put_three(out, p->mean); }
static void put_std(FILE* out, const Preprocessing* p) { put_three(out, p->std); }
static void put_crop_pct(FILE* out, const Preprocessing* p) { put_number(out, p->crop_pct); }

static void add_json(Metadata* m, const char* key, PutJson put, const Preprocessing* p) {
    char* text = NULL;
    size_t length;
    FILE* out = open_memstream(&text, &length);
    if (out) { put(out, p); }
    if (!out || fclose(out) != 0) { fail(EXIT_RUN_TIME, "no memory for the metadata of a file: close other programs"); }
    metadata_add(m, key, text);
    free(text);
}

static void add_preprocessing(Metadata* m, const Preprocessing* p) {
    metadata_add(m, "pixels", "red, green, blue; (level / 255 - mean) / std");
    add_json(m, "input_size", put_input_size, p);
    add_json(m, "mean", put_mean, p);
    add_json(m, "std", put_std, p);
    metadata_add(m, "interpolation", p->interpolation);
    add_json(m, "crop_pct", put_crop_pct, p);
    metadata_add(m, "crop_mode", "center");
    if (p->class_names) { add_json(m, "label_names", put_label_names, p); }
    if (p->class_names && p->class_ids) { add_json(m, "label_descriptions", put_label_descriptions, p); }
}
