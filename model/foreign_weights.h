// Reads weights from a file that another program may have written: all of the model's to evaluate it (--eval), or those
// that fit to start from them (--init-from). Names may carry a prefix, or be those of Swin's authors; positions may be
// for other tokens. What can hardly be intended is refused unless --any-weights is given: a file of which almost
// nothing fits, or one with a NaN.
#pragma once
#include "../kernels/adamw.h" // all_finite
#include "../runtime/name_prefix.h"
#include "pos_embed.h"

typedef struct {
    const SafeTensors* file;
    char prefix[NAME_PREFIX_SIZE]; // of the names in the file
    const NamedTensor* tensors;    // the model's (count)
    int count;
    float* flat;
    bool anything; // --any-weights
    bool authors;  // a Swin in its authors' names
} WeightSource;

// What one of our tensors is called in the file. Swin's authors merge at the end of a stage, not at the start of the
// next.
static inline const char* stored_name(const WeightSource* source, const char* name, char other[NAME_SIZE]) {
    int stage, used = 0;
    if (source->authors && sscanf(name, "layers.%d.downsample.%n", &stage, &used) == 1 && used) {
        snprintf(other, NAME_SIZE, "layers.%d.downsample.%.64s", stage - 1, name + used);
        return other;
    }
    if (source->authors && strncmp(name, "head.fc.", 8) == 0) {
        snprintf(other, NAME_SIZE, "head.%.64s", name + 8);
        return other;
    }
    return name;
}

static inline const SafeTensor* source_find(const WeightSource* source, const char* name) {
    char other[NAME_SIZE];
    return find_prefixed(source->file, source->prefix, stored_name(source, name, other));
}

// Whether one of our tensors has this name in the file
static inline bool takes_name(const WeightSource* source, const char* stored) {
    char other[NAME_SIZE];
    for (int i = 0; i < source->count; i++) {
        if (strcmp(stored_name(source, source->tensors[i].name, other), stored) == 0) { return true; }
    }
    return false;
}

// What programs store beside parameters although it follows from the sizes
static inline bool is_derived(const char* name) {
    return strstr(name, ".relative_position_index") != NULL || strstr(name, ".attn_mask") != NULL;
}

// The name without the file's prefix; NULL if it does not have this prefix
static inline const char* bare_name(const WeightSource* source, const char* stored) {
    size_t length = strlen(source->prefix);
    return strncmp(stored, source->prefix, length) == 0 ? stored + length : NULL;
}

static inline bool is_used(const WeightSource* source, const SafeTensor* stored) {
    const char* name = bare_name(source, stored->name);
    return name && (takes_name(source, name) || is_derived(name));
}

// A list of lines, of which the first 24 are printed
enum { LINES_SHOWN = 24 };
static inline void print_item(int* items, const char* what, const char* name) {
    char shown[400];
    snprintf(shown, sizeof shown, "%s", name);
    hide_control_characters(shown);
    if ((*items)++ < LINES_SHOWN) { printf("  %s: %s\n", what, shown); }
}

static inline void print_more(int items, const char* what) {
    if (items > LINES_SHOWN) { printf("  %s: %d more\n", what, items - LINES_SHOWN); }
}

// What a file to resume from holds beside the parameters is not listed.
static inline bool is_resume_file(const WeightSource* source) { return strcmp(source->prefix, "param.") == 0; }

static inline void print_left_out(const WeightSource* source) {
    const char* what = "only in the file, left out";
    int items = 0;
    for (int i = 0; i < source->file->count; i++) {
        const SafeTensor* stored = &source->file->tensors[i];
        bool beside = is_resume_file(source) && !bare_name(source, stored->name);
        if (!beside && !is_used(source, stored)) { print_item(&items, what, stored->name); }
    }
    print_more(items, what);
}

static inline void print_prefix(const WeightSource* source) {
    char shown[NAME_PREFIX_SIZE];
    strcpy(shown, source->prefix);
    hide_control_characters(shown);
    if (is_resume_file(source)) {
        bool mean = safetensors_find(source->file, "ema.pos_embed") != NULL;
        printf("  a file to resume from: its parameters are taken%s\n", mean ? ", not their running mean" : "");
    } else if (*shown) {
        printf("  names in the file begin with %s, which is taken off\n", shown);
    }
}

// Only what was loaded can hold a NaN: the rest of the model still has its start.
static inline bool check_finite(const WeightSource* source, Error* err) {
    for (int i = 0; i < source->count && !source->anything; i++) {
        const NamedTensor* own = &source->tensors[i];
        if (all_finite(source->flat + own->offset, own->size)) { continue; }
        return set_error(err, "tensor %s%s holds NaN or Inf: take a file from before that, or give --any-weights to "
                         "use it as it is", source->prefix, own->name);
    }
    return true;
}

// Reads positions for other tokens. 1: done, and described in note; 0: they cannot be adapted; -1: read error
static inline int read_positions(const WeightSource* source, const NamedTensor* own, const SafeTensor* stored,
                                 char note[128], Error* err) {
    if (!is_positions(own, stored)) { return 0; }
    if (!safetensors_check_dtype(source->file, stored, err)) { return -1; }
    float* values = alloc_floats((size_t)safetensors_elements(stored), "positions of other tokens");
    bool ok = safetensors_read(source->file, stored, values, err);
    bool adapted = ok && adapt_positions(source->flat + own->offset, own, values, stored->shape[1],
                                         prefix_tokens(source->file, source->prefix), note);
    free(values);
    return ok ? adapted : -1;
}

// ---------------------------------------------------------------------------------------------------------------------
// --eval: every tensor is needed, and none of the file's model may stay unused

// The first tensor that the file's model computes with and this one lacks; NULL: there is none
static inline const char* misplaced_tensor(const WeightSource* source) {
    static const char* const parts[] = {"dist_token", "reg_token", "register_tokens", "cls_token", "blocks.", "layers.",
                                        "karat.", "norm.", "norm_pre.", "fc_norm.", "attn_pool."};
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++) {
        for (int i = 0; i < source->file->count; i++) {
            const SafeTensor* stored = &source->file->tensors[i];
            const char* name = bare_name(source, stored->name);
            if (name && strncmp(name, parts[k], strlen(parts[k])) == 0 && !is_used(source, stored)) { return name; }
        }
    }
    return NULL;
}

// The file's model has such a token before its patches, this one does not.
static inline bool refuse_token(const WeightSource* source, const char* name, Error* err) {
    const char* advice = "start from it by --init-from, or give --any-weights to evaluate it without them";
    if (strcmp(name, "dist_token") == 0) {
        return set_error(err, "it is of a distilled model (dist_token), which has two heads and needs a teacher; this "
                         "program has neither: %s", advice);
    }
    bool registers = strcmp(name, "reg_token") == 0;
    PrefixTokens tokens = prefix_tokens(source->file, source->prefix);
    const SafeTensor* positions = source_find(source, "pos_embed");
    bool of_patches = positions && positions->rank == 3 && position_layout(positions->shape[1], tokens, 0).prefix == 0;
    if (registers && of_patches) {
        return set_error(err, "it has registers (reg_token): give --reg-tokens %d --no-embed-class, or --any-weights "
                         "to evaluate it without them", tokens.others);
    }
    return set_error(err, "it has %s (%s), which this program does not have: %s",
                     registers ? "registers with positions" : "further tokens", name, advice);
}

static inline bool check_same_model(const WeightSource* source, Error* err) {
    const char* name = misplaced_tensor(source);
    if (found_under(source->file, source->prefix, source->tensors, source->count) == 0) {
        return refuse_names(source->file, err);
    }
    bool head = find_prefixed(source->file, source->prefix, "head.weight") != NULL ||
                find_prefixed(source->file, source->prefix, "head.fc.weight") != NULL;
    if (source_find(source, "norm.weight") && !head) {
        return set_error(err, "it has no head.weight and knows no classes: train one from it by --init-from");
    }
    if (!name || source->anything) { return true; }
    if (strcmp(name, "dist_token") == 0 || strcmp(name, "reg_token") == 0 || strcmp(name, "register_tokens") == 0) {
        return refuse_token(source, name, err);
    }
    return set_error(err, "its tensor %.200s has no place in this model: give the --model and sizes that it was made "
                     "with, or --any-weights to leave it out", name);
}

static inline bool load_whole(const WeightSource* source, Error* err) {
    TensorBuffer buffer = {source->prefix, source->flat};
    PrefixTokens tokens = prefix_tokens(source->file, source->prefix);
    for (int i = 0; i < source->count; i++) {
        const NamedTensor* own = &source->tensors[i];
        const SafeTensor* stored = source_find(source, own->name);
        char note[128];
        bool adapts = stored && !same_shape(stored, own) && is_positions(own, stored) &&
                      (source->anything || positions_equivalent(own, stored, tokens));
        int done = adapts ? read_positions(source, own, stored, note, err) : 0;
        NamedTensor named = *own;
        char other[NAME_SIZE];
        snprintf(named.name, sizeof named.name, "%s", stored_name(source, own->name, other));
        if (done < 0 || (done == 0 && !checkpoint_load_tensor(source->file, &named, buffer, err))) { return false; }
    }
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// --init-from: what fits

typedef struct {
    int named, loaded;               // tensors that the file has; that fit
    int trunk, trunk_loaded;         // tensors of the model without its head; that fit
    double offered, offered_loaded;  // elements of those that the file has by name; that fit
} Fit;

static inline void count_fit(Fit* fit, const NamedTensor* own, bool offered, bool loaded) {
    fit->named += offered;
    fit->loaded += loaded;
    if (strncmp(own->name, "head.", 5) == 0) { return; }
    fit->trunk++;
    fit->trunk_loaded += loaded;
    fit->offered += offered ? (double)own->size : 0;
    fit->offered_loaded += loaded ? (double)own->size : 0;
}

// A stored tensor of another shape. Prints what becomes of it; 1: it was adapted; 0: it was not; -1: read error
static inline int load_other_shape(const WeightSource* source, const NamedTensor* own, const SafeTensor* stored,
                                   int* items, Error* err) {
    char stored_shape[128], own_shape[128], note[128], text[400];
    int done = read_positions(source, own, stored, note, err);
    if (done < 0) { return -1; }
    snprintf(text, sizeof text, "%s is %s in the file, %s here", own->name,
             shape_text(stored->rank, stored->shape, stored_shape), shape_text(own->rank, own->shape, own_shape));
    if (done) {
        printf("  other shape, %s: %s\n", note, text);
    } else {
        print_item(items, "other shape, starts fresh", text);
    }
    return done;
}

static inline bool load_fitting(const WeightSource* source, Fit* fit, Error* err) {
    int items = 0;
    for (int i = 0; i < source->count; i++) {
        const NamedTensor* own = &source->tensors[i];
        const SafeTensor* stored = source_find(source, own->name);
        int done = 0;
        if (!stored) {
            print_item(&items, "not in the file, starts fresh", own->name);
        } else if (!same_shape(stored, own)) {
            done = load_other_shape(source, own, stored, &items, err);
        } else {
            done = safetensors_read(source->file, stored, source->flat + own->offset, err) ? 1 : -1;
        }
        if (done < 0) { return false; }
        count_fit(fit, own, stored != NULL, done);
    }
    print_more(items, "start fresh");
    return true;
}

static inline bool check_fit(const WeightSource* source, const Fit* fit, Error* err) {
    if (fit->named == 0) { return refuse_names(source->file, err); }
    bool enough = 2 * fit->trunk_loaded >= fit->trunk && 2 * fit->offered_loaded >= fit->offered;
    if (enough || (source->anything && fit->loaded > 0)) { return true; }
    double share = fit->offered > 0 ? fit->offered_loaded / fit->offered : 0;
    return set_error(err, "only %d of %d tensors (%.0f %% of the values) fit, the head aside: give the --model and "
                     "sizes that the file was made with, or --any-weights to start from what fits", fit->trunk_loaded,
                     fit->trunk, 100 * share);
}

// ---------------------------------------------------------------------------------------------------------------------

static inline bool load_for_evaluation(const WeightSource* source, Error* err) {
    print_prefix(source);
    return check_same_model(source, err) && load_whole(source, err) && check_finite(source, err);
}

static inline bool load_to_start_from(const WeightSource* source, Error* err) {
    Fit fit = {0};
    print_prefix(source);
    if (!load_fitting(source, &fit, err)) { return false; }
    print_left_out(source);
    printf("  %d of %d tensors loaded\n", fit.loaded, source->count);
    return check_fit(source, &fit, err) && check_finite(source, err);
}

// Loads the weights of a file into flat: all for an evaluation, else what fits.
static inline bool load_foreign_weights(const SafeTensors* file, const NamedTensor* tensors, int count, float* flat,
                                        bool evaluation, bool anything, Error* err) {
    WeightSource source = {.file = file, .tensors = tensors, .count = count, .flat = flat, .anything = anything};
    if (!find_prefix(file, tensors, count, source.prefix, err)) { return false; }
    source.authors = find_prefixed(file, source.prefix, "layers.0.downsample.reduction.weight") != NULL;
    return evaluation ? load_for_evaluation(&source, err) : load_to_start_from(&source, err);
}
