// What other programs have to know about a trained model: how images are prepared for it, and what its outputs stand
// for. It is written as JSON, under timm's names for these.
#pragma once
#include "../runtime/metadata.h"

typedef struct {
    int image_size, classes;
    double mean[3], std[3], crop_pct;
    const char* interpolation;
    char *class_names, *class_ids; // one per line, to be freed; NULL: not known
} Preprocessing;

static inline void preprocessing_free(Preprocessing* p) {
    free(p->class_names);
    free(p->class_ids);
}

// ---- JSON

static inline void put_number(FILE* out, double number) {
    char text[32];
    real_text(number, text);
    fputs(text, out);
}

static inline void put_three(FILE* out, const double numbers[3]) {
    for (int i = 0; i < 3; i++) {
        fputs(i ? ", " : "[", out);
        put_number(out, numbers[i]);
    }
    fputc(']', out);
}

static inline void put_input_size(FILE* out, const Preprocessing* p) {
    fprintf(out, "[3, %d, %d]", p->image_size, p->image_size);
}

// Reads the line of class k and moves *text past it; "class 17" if there is none
static inline void put_class(FILE* out, const char** text, int k) {
    char number[32];
    size_t length = strcspn(*text, "\n");
    char* line = alloc_array(char, length + 1, "class names");
    memcpy(line, *text, length);
    *text += length + ((*text)[length] == '\n');
    snprintf(number, sizeof number, "class %d", k);
    safetensors_put_string(out, *line ? line : number);
    free(line);
}

// The name that identifies each class: its id, if classes have ids
static inline void put_label_names(FILE* out, const Preprocessing* p) {
    const char* lines = p->class_ids ? p->class_ids : p->class_names;
    for (int k = 0; k < p->classes; k++) {
        fputs(k ? ", " : "[", out);
        put_class(out, &lines, k);
    }
    fputc(']', out);
}

// If ids are the names: what each class is called
static inline void put_label_descriptions(FILE* out, const Preprocessing* p) {
    const char *ids = p->class_ids, *names = p->class_names;
    for (int k = 0; k < p->classes; k++) {
        fputs(k ? ", " : "{", out);
        put_class(out, &ids, k);
        fputs(": ", out);
        put_class(out, &names, k);
    }
    fputc('}', out);
}

// ---- As metadata of a file

typedef void (*PutJson)(FILE*, const Preprocessing*);
static inline void put_mean(FILE* out, const Preprocessing* p) { put_three(out, p->mean); }
static inline void put_std(FILE* out, const Preprocessing* p) { put_three(out, p->std); }
static inline void put_crop_pct(FILE* out, const Preprocessing* p) { put_number(out, p->crop_pct); }

static inline void add_json(Metadata* m, const char* key, PutJson put, const Preprocessing* p) {
    char* text = NULL;
    size_t length;
    FILE* out = open_memstream(&text, &length);
    if (out) { put(out, p); }
    if (!out || fclose(out) != 0) { fail(EXIT_RUN_TIME, "no memory for the metadata of a file: close other programs"); }
    metadata_add(m, key, text);
    free(text);
}

static inline void add_preprocessing(Metadata* m, const Preprocessing* p) {
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
