// A folder as timm opens it, timm.create_model("local-dir:FOLDER", pretrained=True): model.safetensors, and
// config.json, which says which model it is, how images are prepared for it, and what its classes are called. timm has
// ViTs with softmax attention and the MLPs of timm_acts, and ConViTs and Swins with GELU; the public code of KAT adds
// ViTs with the rationals of the released models. Such a folder can also be read, whoever wrote it.
#pragma once
#include "../runtime/files.h"
#include "parameters.h"
#include "preprocessing.h"
#include "sizes_from_file.h"

#define TIMM_WEIGHTS "model.safetensors"
#define TIMM_CONFIG "config.json"

static const struct { int mlp; const char* name; } timm_acts[] = {
    {ACTIVATION_GELU, "gelu"}, {ACTIVATION_RELU, "relu"}, {ACTIVATION_SILU, "silu"},
    {ACTIVATION_SILU, "swish"}, {MLP_PRELU, "prelu"}};
enum { TIMM_ACTS = sizeof timm_acts / sizeof timm_acts[0] };

// NULL: timm has no such activation
static inline const char* timm_act(int mlp) {
    for (int i = 0; i < TIMM_ACTS; i++) {
        if (timm_acts[i].mlp == mlp) { return timm_acts[i].name; }
    }
    return NULL;
}

// The rationals of KAT's public code
static inline bool released_rationals(const Config* c) {
    return c->rational_form == RATIONAL_FORM_A && c->rational_m == 5 && c->rational_n == 4 && c->rational_groups == 8;
}

static inline Backbone backbone_of(const Config* c) {
    return c->window ? BACKBONE_SWIN : c->local_blocks ? BACKBONE_CONVIT : BACKBONE_VIT;
}

static inline bool timm_knows(const Config* c) {
    if (c->attn != ATTN_SOFTMAX || c->attn_gate) { return false; }
    if (backbone_of(c) != BACKBONE_VIT) { // timm's constructors leave nothing else to choose
        return c->mlp == ACTIVATION_GELU && c->layer_scale == 0 && !c->reg_tokens && !c->fc_norm &&
               (c->window || c->pool == POOL_TOKEN);
    }
    return c->mlp == MLP_GR_KAN ? released_rationals(c) : timm_act(c->mlp) != NULL;
}

// One of timm's names: that of the model of this width, else the smallest. What differs in this model is written beside
// it.
static inline void timm_architecture(const Config* c, char name[64]) {
    Backbone backbone = backbone_of(c);
    const char* size = "tiny";
    for (int i = 0; i < PRESETS; i++) {
        const Preset* p = &presets[i];
        bool theirs = p->backbone == backbone && strcmp(p->name, "mini") != 0 &&
                      (c->mlp != MLP_GR_KAN || strcmp(p->name, "large") != 0);
        if (theirs && p->dim == c->dim && atoi(p->depth) <= c->depth.value[0]) { size = p->name; }
    }
    switch (backbone) {
    case BACKBONE_VIT: snprintf(name, 64, "%s_%s_patch16_224", c->mlp == MLP_GR_KAN ? "kat" : "vit", size); break;
    case BACKBONE_CONVIT: snprintf(name, 64, "convit_%s", size); break;
    case BACKBONE_SWIN: snprintf(name, 64, "swin_%s_patch4_window7_224", size); break;
    }
}

// ---- Writing

// timm truncates C times the ratio to an integer.
static inline double timm_mlp_ratio(const Config* c, Dims d) {
    return (int)(d.C * c->mlp_ratio) == d.F ? c->mlp_ratio : (d.F + 0.5) / d.C;
}

static inline void put_ints(FILE* out, Ints ints) {
    for (int i = 0; i < ints.count; i++) { fprintf(out, "%s%d", i ? ", " : "[", ints.value[i]); }
    fputc(']', out);
}

static inline void put_vit_args(FILE* out, const Config* c) {
    fprintf(out, "    \"embed_dim\": %d,\n    \"depth\": %d,\n    \"num_heads\": %d,\n", c->dim, c->depth.value[0],
            c->heads.value[0]);
    fprintf(out, "    \"class_token\": %s,\n    \"fc_norm\": %s,\n", c->pool == POOL_TOKEN ? "true" : "false",
            c->fc_norm ? "true" : "false");
    if (c->reg_tokens) { fprintf(out, "    \"reg_tokens\": %d,\n", c->reg_tokens); }
    if (c->no_embed_class) { fprintf(out, "    \"no_embed_class\": true,\n"); }
    if (c->layer_scale > 0) {
        fprintf(out, "    \"init_values\": ");
        put_number(out, c->layer_scale);
        fprintf(out, ",\n");
    }
    if (timm_act(c->mlp) && c->mlp != ACTIVATION_GELU) {
        fprintf(out, "    \"act_layer\": \"%s\",\n", timm_act(c->mlp));
    }
}

// timm's ConViT takes the width of a head instead of the model's.
static inline void put_convit_args(FILE* out, const Config* c) {
    fprintf(out, "    \"embed_dim\": %d,\n    \"depth\": %d,\n    \"num_heads\": %d,\n", c->dim / c->heads.value[0],
            ints_sum(c->depth), c->heads.value[0]);
    fprintf(out, "    \"local_up_to_layer\": %d,\n", c->local_blocks);
}

static inline void put_swin_args(FILE* out, const Config* c) {
    fprintf(out, "    \"embed_dim\": %d,\n    \"window_size\": %d,\n    \"depths\": ", c->dim, c->window);
    put_ints(out, c->depth);
    fprintf(out, ",\n    \"num_heads\": ");
    put_ints(out, c->heads);
    fprintf(out, ",\n");
}

static inline void put_model_args(FILE* out, const Config* c, Dims d) {
    fprintf(out, "  \"model_args\": {\n    \"img_size\": %d,\n    \"patch_size\": %d,\n", d.S, d.P);
    switch (backbone_of(c)) {
    case BACKBONE_VIT: put_vit_args(out, c); break;
    case BACKBONE_CONVIT: put_convit_args(out, c); break;
    case BACKBONE_SWIN: put_swin_args(out, c); break;
    }
    fprintf(out, "    \"qkv_bias\": %s,\n    \"global_pool\": \"%s\",\n    \"mlp_ratio\": ",
            c->qkv_bias ? "true" : "false", c->pool == POOL_TOKEN ? "token" : "avg");
    put_number(out, timm_mlp_ratio(c, d));
    fprintf(out, "\n  },\n");
}

static inline void put_pretrained_cfg(FILE* out, const Preprocessing* p, const char* classifier) {
    fprintf(out, "  \"pretrained_cfg\": {\n    \"custom_load\": false,\n    \"input_size\": ");
    put_input_size(out, p);
    fprintf(out, ",\n    \"fixed_input_size\": true,\n    \"interpolation\": \"%s\",\n    \"crop_pct\": ",
            p->interpolation);
    put_crop_pct(out, p);
    fprintf(out, ",\n    \"crop_mode\": \"center\",\n    \"mean\": ");
    put_mean(out, p);
    fprintf(out, ",\n    \"std\": ");
    put_std(out, p);
    fprintf(out, ",\n    \"num_classes\": %d,\n    \"pool_size\": null,\n", p->classes);
    fprintf(out, "    \"first_conv\": \"patch_embed.proj\",\n    \"classifier\": \"%s\"\n  }\n", classifier);
}

static inline void put_timm_config(FILE* out, const Config* c, Dims d, const Preprocessing* p) {
    char architecture[64];
    timm_architecture(c, architecture);
    fprintf(out, "{\n  \"architecture\": \"%s\",\n  \"num_classes\": %d,\n  \"num_features\": %d,\n", architecture, d.K,
            d.C);
    fprintf(out, "  \"global_pool\": \"%s\",\n", c->pool == POOL_TOKEN ? "token" : "avg");
    if (p->class_names) {
        fprintf(out, "  \"label_names\": ");
        put_label_names(out, p);
        fprintf(out, ",\n");
    }
    if (p->class_names && p->class_ids) {
        fprintf(out, "  \"label_descriptions\": ");
        put_label_descriptions(out, p);
        fprintf(out, ",\n");
    }
    put_model_args(out, c, d);
    put_pretrained_cfg(out, p, c->window ? "head.fc" : "head");
    fprintf(out, "}\n");
}

RUNS_ONCE static inline bool timm_config_write(const char* folder, const Config* c, Dims d, const Preprocessing* p,
                                               Error* err) {
    char path[PATH_MAX];
    WholeFile out;
    snprintf(path, sizeof path, "%.4000s/" TIMM_CONFIG, folder);
    if (!whole_file_begin(&out, path, err)) { return false; }
    put_timm_config(out.file, c, d, p);
    return whole_file_end(&out, err);
}

// ---- Reading

// The file that a path of weights stands for: such a folder's model.safetensors, else the path itself
static inline const char* weights_path(const char* given, char path[PATH_MAX]) {
    int length = (int)strlen(given);
    while (length > 1 && given[length - 1] == '/') { length--; }
    snprintf(path, PATH_MAX, "%.*s/" TIMM_WEIGHTS, length < 4000 ? length : 4000, given);
    return is_folder(given) && is_file(path) ? path : given;
}

// The config.json that belongs to a path of weights; false: there is none
static inline bool timm_config_path(const char* given, char path[PATH_MAX]) {
    char room[PATH_MAX];
    const char *file = weights_path(given, room), *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    if (strcmp(name, TIMM_WEIGHTS) != 0) { return false; }
    snprintf(path, PATH_MAX, "%.*s" TIMM_CONFIG, slash ? (int)(slash + 1 - file) : 0, file);
    return is_file(path);
}

// Arguments of timm's constructors, the options that correspond to them, and whether a ViT's tensors show them
static const struct { const char *name, *option; bool shown; } timm_args[] = {
    {"img_size", "image-size", true}, {"patch_size", "patch", true}, {"embed_dim", "dim", true},
    {"depth", "depth", true}, {"depths", "depth", true}, {"mlp_ratio", "mlp-ratio", true}, {"init_values", "layer-scale", true},
    {"num_heads", "heads", false}, {"window_size", "window-size", false}, {"local_up_to_layer", "local-blocks", false},
    {"qkv_bias", "qkv-bias", false}, {"reg_tokens", "reg-tokens", false}, {"global_pool", "pool", false},
    {"no_embed_class", "no-embed-class", false}, {"fc_norm", "fc-norm", false}};
enum { TIMM_ARGS = sizeof timm_args / sizeof timm_args[0] };

// What config.json says; what it does not say is 0, NULL or ""
typedef struct {
    char architecture[64], act_layer[16], interpolation[16], crop_mode[16];
    char args[TIMM_ARGS][64];       // as text, as options take them
    double crop_pct, mean[3], std[3];
    bool normalizes;                // mean and deviation are given
    char *class_names, *class_ids;  // one per line; to be freed
} TimmConfig;

static inline void timm_config_free(TimmConfig* t) {
    free(t->class_names);
    free(t->class_ids);
}

#ifdef HAVE_CJSON
enum { TIMM_CONFIG_BYTES = 1 << 24 };

static inline void copy_json_text(const cJSON* object, const char* name, char* to, size_t size) {
    const cJSON* item = safetensors_member(object, name);
    if (cJSON_IsString(item)) { snprintf(to, size, "%s", item->valuestring); }
}

static inline bool copy_json_three(const cJSON* object, const char* name, double to[3]) {
    const cJSON *list = safetensors_member(object, name), *item;
    int count = 0;
    cJSON_ArrayForEach(item, list) {
        if (count == 3 || !cJSON_IsNumber(item)) { return false; }
        to[count++] = item->valuedouble;
    }
    return count == 3;
}

// One line for each of the names, or for what `described` says about it
static inline char* json_lines(const cJSON* names, const cJSON* described) {
    char* text = NULL;
    size_t length;
    FILE* out = open_memstream(&text, &length);
    const cJSON* item;
    cJSON_ArrayForEach(item, names) {
        const cJSON* other = described && cJSON_IsString(item) ? safetensors_member(described, item->valuestring)
                                                               : item;
        const char* line = cJSON_IsString(other) ? other->valuestring : "";
        if (item != names->child) { fputc('\n', out); }
        for (const char* c = line; *c; c++) { fputc(*c == '\n' ? ' ' : *c, out); }
    }
    fclose(out);
    return text;
}

// A number, a text, true or false, or a list of numbers, as a user would give it to an option; "": something else
static inline void json_option_text(const cJSON* item, char text[64]) {
    const cJSON* one;
    text[0] = 0;
    if (cJSON_IsBool(item)) { snprintf(text, 64, "%s", cJSON_IsTrue(item) ? "on" : "off"); }
    if (cJSON_IsString(item)) { snprintf(text, 64, "%s", item->valuestring); }
    if (cJSON_IsNumber(item)) { snprintf(text, 64, "%.17g", item->valuedouble); }
    for (one = cJSON_IsArray(item) ? item->child : NULL; one && strlen(text) < 40; one = one->next) {
        snprintf(text + strlen(text), 16, "%s%d", one == item->child ? "" : ",", one->valueint);
    }
}

static inline void read_labels(TimmConfig* t, const cJSON* root, const cJSON* pretrained) {
    const cJSON* names = safetensors_member(root, "label_names");
    const cJSON* described = safetensors_member(root, "label_descriptions");
    if (!names) { names = safetensors_member(pretrained, "label_names"); }
    if (!described) { described = safetensors_member(pretrained, "label_descriptions"); }
    if (!cJSON_IsArray(names)) { return; }
    if (cJSON_IsObject(described)) { t->class_ids = json_lines(names, NULL); }
    t->class_names = json_lines(names, cJSON_IsObject(described) ? described : NULL);
}

// Earlier versions of timm do not nest it.
static inline void read_timm_json(TimmConfig* t, const cJSON* root) {
    const cJSON *nested = safetensors_member(root, "pretrained_cfg"), *args = safetensors_member(root, "model_args");
    const cJSON* pretrained = cJSON_IsObject(nested) ? nested : root;
    const cJSON* crop = safetensors_member(pretrained, "crop_pct");
    copy_json_text(root, "architecture", t->architecture, sizeof t->architecture);
    copy_json_text(pretrained, "interpolation", t->interpolation, sizeof t->interpolation);
    copy_json_text(pretrained, "crop_mode", t->crop_mode, sizeof t->crop_mode);
    if (cJSON_IsObject(args)) { copy_json_text(args, "act_layer", t->act_layer, sizeof t->act_layer); }
    for (int i = 0; i < TIMM_ARGS; i++) {
        const cJSON* item = cJSON_IsObject(args) ? safetensors_member(args, timm_args[i].name) : NULL;
        if (item) { json_option_text(item, t->args[i]); }
    }
    if (cJSON_IsNumber(crop)) { t->crop_pct = crop->valuedouble; }
    t->normalizes = copy_json_three(pretrained, "mean", t->mean) && copy_json_three(pretrained, "std", t->std);
    for (int i = 0; i < 3; i++) {
        t->normalizes = t->normalizes && isfinite(t->mean[i]) && isfinite(t->std[i]) && t->std[i] > 0;
    }
    read_labels(t, root, pretrained);
}

static inline bool timm_config_read(TimmConfig* t, const char* path, Error* err) {
    size_t count;
    *t = (TimmConfig){0};
    char* text = (char*)read_whole(path, TIMM_CONFIG_BYTES, &count, err);
    if (!text) { return false; }
    cJSON* root = cJSON_ParseWithLength(text, count);
    bool ok = cJSON_IsObject(root) ||
              set_error(err, "%s is not the JSON object that timm writes: fetch it again", path);
    if (ok) { read_timm_json(t, root); }
    cJSON_Delete(root);
    free(text);
    return ok;
}
#else
static inline bool timm_config_read(TimmConfig* t, const char* path, Error* err) {
    *t = (TimmConfig){0};
    return set_error(err,
                     "cannot read %s: this program was built without cJSON; install the package libcjson-dev and build "
                     "again", path);
}
#endif

static inline const char* timm_arg(const TimmConfig* t, const char* name) {
    for (int i = 0; i < TIMM_ARGS; i++) {
        if (strcmp(timm_args[i].name, name) == 0) { return t->args[i]; }
    }
    return "";
}

// Applies to c the model that it names; false: this program has no model of that name
static inline bool timm_model(const TimmConfig* t, Config* c) {
    Error unknown;
    return *t->architecture && apply_timm_name(c, t->architecture, &unknown);
}

// A side may be given as two equal numbers.
static inline bool set_timm_arg(Config* c, const Option* option, const char* value, Error* err) {
    char first[64];
    size_t length = strcspn(value, ",");
    bool square = option->type == OPTION_INT && value[length] && strlen(value) == 2 * length + 1 &&
                  strncmp(value, value + length + 1, length) == 0;
    snprintf(first, sizeof first, "%.*s", square ? (int)length : 63, value);
    return option_set(c, option, first, err);
}

// For another program's weights: what their tensors do not show, such as heads; for other models than ViTs, all of it
static inline bool take_timm_model(Config* c, const TimmConfig* t, Error* err) {
    Config named = *c;
    bool known = timm_model(t, &named), vit = !known || backbone_of(&named) == BACKBONE_VIT;
    if (!vit) {
        *c = named;
        snprintf(c->model, sizeof c->model, "%s", t->architecture);
    }
    if (known && named.dim == c->dim) { c->heads = named.heads; }
    for (int i = 0; i < TIMM_ARGS; i++) {
        if (!*t->args[i] || (vit && timm_args[i].shown)) { continue; }
        if (!set_timm_arg(c, config_option(timm_args[i].option), t->args[i], err)) { return false; }
    }
    if (c->local_blocks && *timm_arg(t, "embed_dim")) { // there of a head
        if (!set_size(c, "dim", (int64_t)c->dim * c->heads.value[0], err)) { return false; }
    }
    if (vit && strcmp(timm_arg(t, "global_pool"), "avg") == 0 && !*timm_arg(t, "fc_norm")) { c->fc_norm = 1; }
    for (int i = 0; i < TIMM_ACTS; i++) {
        bool has_tensor = timm_acts[i].mlp == MLP_PRELU || c->mlp >= ACTIVATION_COUNT;
        if (!has_tensor && strcmp(timm_acts[i].name, t->act_layer) == 0) { c->mlp = timm_acts[i].mlp; }
    }
    return true;
}

// How images are prepared. Where this program has no such choice, the configuration keeps its own.
static inline bool take_timm_images(Config* c, const TimmConfig* t, Error* err) {
    char text[32];
    Error unknown;
    real_text(t->crop_pct, text);
    if (*t->interpolation) { option_set(c, config_option("interpolation"), t->interpolation, &unknown); }
    return !t->crop_pct || option_set(c, config_option("crop-pct"), text, err);
}
