// Names of models, ours (kat-tiny-g3b) and timm's (vit_tiny_patch16_224.augreg_in21k), and the sizes they stand for.
#pragma once
#include "config.h"

static const struct { const char* name; int mlp; double mlp_ratio; const char* note; } families[] = {
    {"vit", ACTIVATION_GELU, 4, "vision transformer: --attn softmax --mlp gelu"},
    {"kat", MLP_GR_KAN, 4, "Kolmogorov-Arnold transformer: --attn softmax --mlp gr-kan"},
    {"kan", MLP_KAN, 2, "vision transformer with KAN layers: --attn softmax --mlp kan --mlp-ratio 2"},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

typedef struct { const char* name; int dim, heads, depth, image_size, patch; } Preset;
static const Preset presets[] = {
    {"mini", 96, 3, 4, 32, 4},
    {"tiny", 192, 3, 12, 224, 16},
    {"small", 384, 6, 12, 224, 16},
    {"base", 768, 12, 12, 224, 16},
    {"large", 1024, 16, 24, 224, 16},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

// timm's families, as ours. DeiT III has LayerScale, which starts at 1e-6.
static const struct { const char *name, *family; double layer_scale; } timm_families[] = {
    {"vit", "vit", 0}, {"deit", "vit", 0}, {"deit3", "vit", 1e-6}, {"kat", "kat", 0},
};

static inline bool unknown_model(const char* name, Error* err) {
    return set_error(err, "--model %s is unknown: use vit, kat or kan, then -mini, -tiny, -small, -base or -large, "
                     "then nothing, or -gNb or -gNu for KArAt with grid N (kat-tiny, vit-tiny-g3b, kat-small-g3u); or "
                     "timm's name of a plain ViT, DeiT or KAT of these sizes, such as vit_tiny_patch16_224", name);
}

// False where there is no such family or size
static inline bool apply_preset(Config* c, const char* family, const char* size) {
    for (int f = 0; f < FAMILIES; f++) {
        for (int p = 0; p < PRESETS; p++) {
            if (strcmp(families[f].name, family) != 0 || strcmp(presets[p].name, size) != 0) { continue; }
            c->mlp = families[f].mlp;
            c->mlp_ratio = families[f].mlp_ratio;
            c->attn = ATTN_SOFTMAX;
            c->dim = presets[p].dim;
            c->heads = presets[p].heads;
            c->depth = presets[p].depth;
            c->image_size = presets[p].image_size;
            c->patch = presets[p].patch;
            return true;
        }
    }
    return false;
}

// "g3b": KArAt with grid 3, blockwise
static inline bool apply_operator(Config* c, const char* variant) {
    int grid = 0, used = 0;
    char mode = 0;
    bool read = sscanf(variant, "g%d%c%n", &grid, &mode, &used) == 2 && !variant[used];
    if (!read || grid < 1 || grid > 64 || (mode != 'b' && mode != 'u')) { return false; }
    c->attn = ATTN_KARAT;
    c->grid = grid;
    c->karat_mode = mode == 'b' ? KARAT_BLOCK : KARAT_UNIVERSAL;
    return true;
}

// Takes one of these parts, which say how weights were made and nothing of the sizes, out of a name of timm's.
static inline void drop_part(char* name) {
    static const char* const parts[] = {"_distilled", "_swish", "_vitft", "_in21k"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char* part = strstr(name, parts[i]);
        if (part) { memmove(part, part + strlen(parts[i]), strlen(part + strlen(parts[i])) + 1); }
    }
}

// "deit_small_distilled_patch16_224.fb_in1k": behind the dot are the weights, before it the sizes.
static inline bool apply_timm_name(Config* c, const char* name, Error* err) {
    char plain[64], family[8], size[8], patch[8], side[8];
    int used = 0;
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "."), name);
    drop_part(plain);
    bool read = sscanf(plain, "%7[a-z0-9]_%7[a-z]_patch%7[0-9]_%7[0-9]%n", family, size, patch, side, &used) == 4;
    for (size_t i = 0; read && !plain[used] && i < sizeof timm_families / sizeof timm_families[0]; i++) {
        if (strcmp(timm_families[i].name, family) != 0 || !apply_preset(c, timm_families[i].family, size)) { continue; }
        c->layer_scale = timm_families[i].layer_scale;
        return option_set(c, config_option("patch"), patch, err) &&
               option_set(c, config_option("image-size"), side, err);
    }
    return unknown_model(name, err);
}

// Sets the sizes, attention and MLP; flags given beside the name win.
static inline bool config_apply_model(Config* c, const char* name, Error* err) {
    char family[8] = "", size[16] = "", variant[16] = "";
    if (strchr(name, '_')) { return apply_timm_name(c, name, err); }
    int parts = sscanf(name, "%7[^-]-%15[^-]-%15s", family, size, variant);
    bool ends = strlen(name) == strlen(family) + 1 + strlen(size);
    bool known = parts >= 2 && apply_preset(c, family, size) && (parts == 3 ? apply_operator(c, variant) : ends);
    return known || unknown_model(name, err);
}
