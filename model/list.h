// --list: the models with their parameter counts, and the choices of --attn, --basis, --karat-order, --mlp and --recipe
// with explanations, from their tables.
#pragma once
#include "../runtime/inlining.h"
#include "parameters.h"
#include "presets.h"

// The number of parameters of a named model with so many classes; 0: there is no such model
static inline size_t count_parameters(const char* model, int classes, Error* err) {
    Config c;
    ParameterTable table;
    bool ok = options_defaults(&c, config_table, CONFIG_OPTIONS, err) && config_apply_model(&c, model, err) &&
              parameter_table(&table, &c, dims_of(&c, classes), err);
    size_t count = ok ? table.count : 0;
    if (ok) { parameter_table_free(&table); }
    return count;
}

static inline void list_model(FILE* out, const char* family, const Preset* p) {
    char name[32];
    Error err;
    snprintf(name, sizeof name, "%s-%s", family, p->name);
    fprintf(out, "  %-15s %6d %10s %9s %7d, %-5d %24zu %13zu\n", name, p->dim, p->heads, p->depth, p->image_size,
            p->patch, count_parameters(name, 1000, &err), count_parameters(name, 10, &err));
}

static inline void list_models(FILE* out) {
    fprintf(out,
            "Models (--model)  width      heads    blocks  image, patch  parameters, 1000 classes    10 classes\n");
    for (int i = 0; i < FAMILIES; i++) {
        for (int k = 0; k < PRESETS; k++) {
            if (presets[k].backbone == families[i].backbone) { list_model(out, families[i].name, &presets[k]); }
        }
    }
    for (int i = 0; i < FAMILIES; i++) {
        fprintf(out, "  %-15s %s\n", families[i].name, families[i].note);
    }
    fprintf(out, "  NAME-gNb        with KArAt attention, grid N, an operator for each block: vit-tiny-g3b\n"
                 "  NAME-gNu        with KArAt attention, grid N, one operator shared by all blocks: kat-small-g3u\n"
                 "  timm's names    vit_tiny_patch16_224, deit_small_patch16_224, deit3_base_patch16_384, kat_base_patch16_224,\n"
                 "                  convit_tiny, swin_tiny_patch4_window7_224, with other patches and image sizes; what\n"
                 "                  follows a dot names weights and is passed over\n");
}

static inline void list_choices(FILE* out, const char* title, const char* option, const char* const* notes) {
    const char* choices = config_option(option)->choices;
    fprintf(out, "\n%s (--%s)\n", title, option);
    for (int i = 0; i < choice_count(choices); i++) {
        fprintf(out, "  %-15s %s\n", choice_name(choices, i), notes[i]);
    }
}

RUNS_ONCE static inline void config_list(FILE* out) {
    static const char* const attentions[] = {ATTENTIONS(CHOICE_NOTE)};
    static const char* const bases[] = {BASES(CHOICE_NOTE)};
    static const char* const orders[] = {KARAT_ORDERS(CHOICE_NOTE)};
    static const char* const mlps[] = {MLPS(CHOICE_NOTE)};
    static const char* const recipes[] = {RECIPES(CHOICE_NOTE)};
    list_models(out);
    list_choices(out, "Attention: logits to weights", "attn", attentions);
    list_choices(out, "Basis of KArAt's units", "basis", bases);
    list_choices(out, "Order of KArAt's operator", "karat-order", orders);
    list_choices(out, "MLP", "mlp", mlps);
    list_choices(out, "Recipes: what published models were trained with", "recipe", recipes);
}
