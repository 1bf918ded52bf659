// Names of models, ours (kat-tiny-g3b) and timm's (vit_tiny_patch16_224.augreg_in21k), and the sizes they stand for.
#pragma once
#include "config.h"

typedef enum { BACKBONE_VIT, BACKBONE_CONVIT, BACKBONE_SWIN } Backbone;

static const struct { const char* name; Backbone backbone; int mlp; double mlp_ratio; const char* note; } families[] = {
    {"vit", BACKBONE_VIT, ACTIVATION_GELU, 4, "vision transformer: --attn softmax --mlp gelu"},
    {"kat", BACKBONE_VIT, MLP_GR_KAN, 4, "Kolmogorov-Arnold transformer: --attn softmax --mlp gr-kan"},
    {"kan", BACKBONE_VIT, MLP_KAN, 2, "vision transformer with KAN layers: --attn softmax --mlp kan --mlp-ratio 2"},
    {"convit", BACKBONE_CONVIT, ACTIVATION_GELU, 4,
     "ConViT: gated positional attention in the first blocks (--local-blocks)"},
    {"swin", BACKBONE_SWIN, ACTIVATION_GELU, 4,
     "Swin: attention in shifted windows (--window-size), in stages of half the grid"},
};
enum { FAMILIES = sizeof families / sizeof families[0] };

typedef struct {
    Backbone backbone;
    const char* name;
    int dim;
    const char *heads, *depth; // of each stage
    int image_size, patch, window, local_blocks;
} Preset;
static const Preset presets[] = {
    {BACKBONE_VIT, "mini", 96, "3", "4", 32, 4, 0, 0},
    {BACKBONE_VIT, "tiny", 192, "3", "12", 224, 16, 0, 0},
    {BACKBONE_VIT, "small", 384, "6", "12", 224, 16, 0, 0},
    {BACKBONE_VIT, "base", 768, "12", "12", 224, 16, 0, 0},
    {BACKBONE_VIT, "large", 1024, "16", "24", 224, 16, 0, 0},
    {BACKBONE_CONVIT, "mini", 96, "4", "4", 32, 4, 0, 2},
    {BACKBONE_CONVIT, "tiny", 192, "4", "12", 224, 16, 0, 10},
    {BACKBONE_CONVIT, "small", 432, "9", "12", 224, 16, 0, 10},
    {BACKBONE_CONVIT, "base", 768, "16", "12", 224, 16, 0, 10},
    {BACKBONE_SWIN, "mini", 48, "2,4,8", "2,2,2", 32, 2, 4, 0},
    {BACKBONE_SWIN, "tiny", 96, "3,6,12,24", "2,2,6,2", 224, 4, 7, 0},
    {BACKBONE_SWIN, "small", 96, "3,6,12,24", "2,2,18,2", 224, 4, 7, 0},
    {BACKBONE_SWIN, "base", 128, "4,8,16,32", "2,2,18,2", 224, 4, 7, 0},
};
enum { PRESETS = sizeof presets / sizeof presets[0] };

// timm's families and ours. DeiT III has LayerScale, which starts at 1e-6.
static const struct { const char *name, *family; double layer_scale; } timm_families[] = {
    {"vit", "vit", 0}, {"deit", "vit", 0}, {"deit3", "vit", 1e-6}, {"kat", "kat", 0},
};

static inline bool unknown_model(const char* name, Error* err) {
    return set_error(err, "--model %s is unknown: use vit, kat or kan, then -mini, -tiny, -small, -base or -large, "
                     "or convit or swin, then one of these up to -base; then nothing, or -gNb or -gNu for KArAt with "
                     "grid N (kat-tiny, vit-tiny-g3b, swin-tiny-g3b); or timm's name of a plain ViT, DeiT, KAT, ConViT "
                     "or Swin of these sizes, such as vit_tiny_patch16_224", name);
}

static inline void set_preset(Config* c, const Preset* p) {
    Error never;
    option_set(c, config_option("heads"), p->heads, &never);
    option_set(c, config_option("depth"), p->depth, &never);
    c->attn = ATTN_SOFTMAX;
    c->dim = p->dim;
    c->image_size = p->image_size;
    c->patch = p->patch;
    c->window = p->window;
    c->local_blocks = p->local_blocks;
    c->qkv_bias = p->backbone != BACKBONE_CONVIT;
    c->pool = p->backbone == BACKBONE_SWIN ? POOL_AVG : POOL_TOKEN;
}

// False: there is no such family or size
static inline bool apply_preset(Config* c, const char* family, const char* size) {
    for (int f = 0; f < FAMILIES; f++) {
        for (int p = 0; p < PRESETS; p++) {
            bool same = presets[p].backbone == families[f].backbone && strcmp(families[f].name, family) == 0;
            if (!same || strcmp(presets[p].name, size) != 0) { continue; }
            set_preset(c, &presets[p]);
            c->mlp = families[f].mlp;
            c->mlp_ratio = families[f].mlp_ratio;
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

// Removes these parts from one of timm's names: they say how weights were made, and nothing about sizes.
static inline void drop_part(char* name) {
    static const char* const parts[] = {"_distilled", "_swish", "_vitft", "_in21k"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char* part = strstr(name, parts[i]);
        if (part) { memmove(part, part + strlen(parts[i]), strlen(part + strlen(parts[i])) + 1); }
    }
}

static inline bool set_sizes(Config* c, const char* patch, const char* side, Error* err) {
    return option_set(c, config_option("patch"), patch, err) && option_set(c, config_option("image-size"), side, err);
}

// "vit_tiny_patch16_224"; 1: it was applied; 0: it is not such a name; -1: its numbers are not valid
static inline int apply_plain_name(Config* c, const char* name, Error* err) {
    char family[8], size[8], patch[8], side[8];
    int used = 0;
    bool read = sscanf(name, "%7[a-z0-9]_%7[a-z]_patch%7[0-9]_%7[0-9]%n", family, size, patch, side, &used) == 4;
    for (size_t i = 0; read && !name[used] && i < sizeof timm_families / sizeof timm_families[0]; i++) {
        if (strcmp(timm_families[i].name, family) != 0 || !apply_preset(c, timm_families[i].family, size)) { continue; }
        c->layer_scale = timm_families[i].layer_scale;
        return set_sizes(c, patch, side, err) ? 1 : -1;
    }
    return 0;
}

// "convit_tiny", "swin_tiny_patch4_window7_224"
static inline int apply_other_name(Config* c, const char* name, Error* err) {
    char size[8], patch[8], window[8], side[8];
    int used = 0;
    if (sscanf(name, "convit_%7[a-z]%n", size, &used) == 1 && !name[used]) { return apply_preset(c, "convit", size); }
    const char* form = "swin_%7[a-z]_patch%7[0-9]_window%7[0-9]_%7[0-9]%n";
    bool read = sscanf(name, form, size, patch, window, side, &used) == 4;
    if (!read || name[used] || !apply_preset(c, "swin", size)) { return 0; }
    return option_set(c, config_option("window-size"), window, err) && set_sizes(c, patch, side, err) ? 1 : -1;
}

// "deit_small_distilled_patch16_224.fb_in1k": after the dot come the weights, before it the sizes.
static inline bool apply_timm_name(Config* c, const char* name, Error* err) {
    char plain[64];
    snprintf(plain, sizeof plain, "%.*s", (int)strcspn(name, "."), name);
    drop_part(plain);
    int applied = apply_plain_name(c, plain, err);
    if (!applied) { applied = apply_other_name(c, plain, err); }
    return applied ? applied > 0 : unknown_model(name, err);
}

// Sets the sizes, attention and MLP. Flags given beside the name take precedence.
static inline bool config_apply_model(Config* c, const char* name, Error* err) {
    char family[8] = "", size[16] = "", variant[16] = "";
    if (strchr(name, '_')) { return apply_timm_name(c, name, err); }
    int parts = sscanf(name, "%7[^-]-%15[^-]-%15s", family, size, variant);
    bool ends = strlen(name) == strlen(family) + 1 + strlen(size);
    bool known = parts >= 2 && apply_preset(c, family, size) && (parts == 3 ? apply_operator(c, variant) : ends);
    return known || unknown_model(name, err);
}
