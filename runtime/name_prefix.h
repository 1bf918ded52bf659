// Prefixes of tensor names. Programs save a model's tensors under the name that the model has in them: module. for
// DistributedDataParallel, _orig_mod. for torch.compile, model., backbone., encoder., or several as in
// module._orig_mod.; our own files to resume from hold param., exp_avg. and others side by side. A file's prefix is
// found from its names: the one under which most of the model's tensors are found.
#pragma once
#include "checkpoint.h"

enum { NAME_PREFIX_SIZE = 96, NAME_PREFIXES = 32 }; // more than 32 in one file are ignored

// Length of what precedes such a name, up to a dot: 0 if nothing does, -1 if it is another name
static inline int length_before(const char* stored, const char* name) {
    size_t all = strlen(stored), end = strlen(name);
    if (all < end || strcmp(stored + all - end, name) != 0) { return -1; }
    size_t length = all - end;
    return length < NAME_PREFIX_SIZE && (length == 0 || stored[length - 1] == '.') ? (int)length : -1;
}

// Whether what precedes a name ends in the number of a stage, "layers.2.", which belongs to the name
static inline bool ends_in_stage(const char* stored, int length) {
    int digits = 1;
    while (digits < length && isdigit((unsigned char)stored[length - 1 - digits])) { digits++; }
    int words = digits + (int)strlen("layers.");
    return digits > 1 && length >= words && strncmp(stored + length - words, "layers.", 7) == 0;
}

// Adds the prefix of a stored name, unless it is known already or has no tensor that only a vision transformer has.
static inline int add_prefix(char prefixes[][NAME_PREFIX_SIZE], int count, const char* stored) {
    static const char* const telling[] = {"patch_embed.proj.weight", "blocks.0.norm1.weight",
                                          "blocks.0.attn.qkv.weight"};
    int length = -1;
    for (size_t i = 0; length < 0 && i < sizeof telling / sizeof telling[0]; i++) {
        length = length_before(stored, telling[i]);
    }
    if (length < 0 || ends_in_stage(stored, length) || count == NAME_PREFIXES) { return count; }
    snprintf(prefixes[count], NAME_PREFIX_SIZE, "%.*s", length, stored);
    for (int i = 0; i < count; i++) {
        if (strcmp(prefixes[i], prefixes[count]) == 0) { return count; }
    }
    return count + 1;
}

// Whose names a file has, if not timm's; NULL if those are unknown too
static inline const char* other_names(const SafeTensors* file) {
    static const struct { const char *part, *whose; } known[] = {
        {"embeddings.patch_embeddings.projection.weight", "Hugging Face's transformers"},
        {"encoder.layers.encoder_layer_0.", "torchvision"},
        {"transformer.resblocks.0.", "CLIP"},
        {"encoderblock_0/", "JAX"},
        {"backbone.layers.0.", "MMPretrain"},
    };
    for (int i = 0; i < file->count; i++) {
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++) {
            if (strstr(file->tensors[i].name, known[k].part)) { return known[k].whose; }
        }
    }
    return NULL;
}

// Always false; err says that the file's names are not timm's.
static inline bool refuse_names(const SafeTensors* file, Error* err) {
    const char* whose = other_names(file);
    if (whose) {
        return set_error(err,
                         "its tensors have the names of %s: take timm's file of the model, whose names are such as "
                         "blocks.0.attn.qkv.weight", whose);
    }
    return set_error(err, "no tensor of it is one of this model: names must be timm's, such as "
                     "blocks.0.attn.qkv.weight; its first is %.200s", file->count ? file->tensors[0].name : "absent");
}

static inline const SafeTensor* find_prefixed(const SafeTensors* file, const char* prefix, const char* name) {
    char full[2 * NAME_PREFIX_SIZE];
    snprintf(full, sizeof full, "%.95s%.95s", prefix, name);
    return safetensors_find(file, full);
}

static inline int found_under(const SafeTensors* file, const char* prefix, const NamedTensor* tensors, int count) {
    int found = 0;
    for (int i = 0; i < count; i++) { found += find_prefixed(file, prefix, tensors[i].name) != NULL; }
    return found;
}

// Among equals no prefix is preferred, then param., beside which are gradients or moments of the same names.
static inline int prefix_rank(const char* prefix) {
    return *prefix == 0 ? 2 : strcmp(prefix, "param.") == 0;
}

// The prefix of the model's names in the file, "" if they have none or are missing. False if the file holds two models
// and nothing tells which is meant.
static inline bool find_prefix(const SafeTensors* file, const NamedTensor* tensors, int count,
                               char prefix[NAME_PREFIX_SIZE], Error* err) {
    char prefixes[NAME_PREFIXES][NAME_PREFIX_SIZE];
    int candidates = 0, most = 0, best = -1, rival = -1;
    for (int i = 0; i < file->count; i++) { candidates = add_prefix(prefixes, candidates, file->tensors[i].name); }
    for (int i = 0; i < candidates; i++) {
        int found = found_under(file, prefixes[i], tensors, count);
        int better = found - most;
        if (better == 0 && best >= 0) {
            better = prefix_rank(prefixes[i]) - prefix_rank(prefixes[best]);
            if (better == 0) { rival = i; }
        }
        if (better <= 0) { continue; }
        most = found;
        best = i;
        rival = -1;
    }
    snprintf(prefix, NAME_PREFIX_SIZE, "%s", best < 0 ? "" : prefixes[best]);
    return rival < 0 || set_error(err, "it holds more than one model, under %s and under %s: save the one that you "
                                  "want as a file of its own", prefix, prefixes[rival]);
}
