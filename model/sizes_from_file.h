// The model that a file holds. Our files say which it is. For others, such as timm's, it is inferred from the tensors:
// width, blocks, patch, image size, MLP, class token and LayerScale. The number of heads cannot be inferred: it is that
// of the named model of this width, else heads are 64 wide. A ConViT or a Swin is the named model that has its width,
// patch and blocks.
#pragma once
#include "../runtime/name_prefix.h"
#include "pos_embed.h"
#include "presets.h"

// A file, and the prefix of the names in it
typedef struct { const SafeTensors* file; char prefix[NAME_PREFIX_SIZE]; } NamedFile;

static inline const SafeTensor* sized_tensor(const NamedFile* f, const char* name, int rank) {
    const SafeTensor* t = find_prefixed(f->file, f->prefix, name);
    return t && t->rank == rank && safetensors_readable(t) ? t : NULL;
}

static inline bool is_matrix(const SafeTensor* t, int64_t rows, int64_t columns) {
    return t && t->shape[0] == rows && t->shape[1] == columns;
}

static inline bool open_names(NamedFile* f, const SafeTensors* file, Error* err) {
    static const NamedTensor names[] = {{.name = "patch_embed.proj.weight"}, {.name = "pos_embed"},
        {.name = "blocks.0.norm1.weight"}, {.name = "blocks.0.attn.qkv.weight"}, {.name = "blocks.0.mlp.fc1.weight"},
        {.name = "norm.weight"}, {.name = "head.weight"}};
    f->file = file;
    return find_prefix(file, names, sizeof names / sizeof names[0], f->prefix, err);
}

// The tensors that decide the sizes must be readable: shapes of an unknown dtype are not trusted.
static inline bool check_dtypes(const NamedFile* f, Error* err) {
    static const char* const names[] = {"patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight",
                                        "blocks.0.mlp.fc1.weight"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const SafeTensor* t = find_prefixed(f->file, f->prefix, names[i]);
        if (t && !safetensors_check_dtype(f->file, t, err)) { return false; }
    }
    return true;
}

// Sets an option to a value; false: the option does not take it
static inline bool set_size(Config* c, const char* option, int64_t value, Error* err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    return option_set(c, config_option(option), text, err);
}

static inline bool take_patches(Config* c, const NamedFile* f, Error* err) {
    const SafeTensor* proj = sized_tensor(f, "patch_embed.proj.weight", 4);
    if (!proj) { return refuse_names(f->file, err); }
    if (proj->shape[1] != 3 || proj->shape[2] != proj->shape[3]) {
        return set_error(err, "its patch_embed.proj.weight is not of square patches and three colours, which is what "
                         "this program has: take another model's file");
    }
    return set_size(c, "dim", proj->shape[0], err) && set_size(c, "patch", proj->shape[2], err);
}

static inline bool take_image(Config* c, const NamedFile* f, Error* err) {
    const SafeTensor* positions = sized_tensor(f, "pos_embed", 3);
    PrefixTokens tokens = prefix_tokens(f->file, f->prefix);
    PositionLayout layout = {0, 0};
    c->pool = tokens.class_token ? POOL_TOKEN : POOL_AVG;
    bool fits = positions && positions->shape[2] == c->dim && positions->shape[1] < 1 << 24;
    if (fits) { layout = position_layout(positions->shape[1], tokens, 0); }
    if (!layout.side) {
        return set_error(err, "it has no pos_embed of a square grid, from which its image size could be taken: "
                         "give --model");
    }
    return set_size(c, "image-size", (int64_t)layout.side * c->patch, err);
}

// Blocks are counted by their largest tensors, so that a small file cannot ask for a large model.
static inline bool take_blocks(Config* c, const NamedFile* f, Error* err) {
    int64_t blocks = 0, C = c->dim;
    char name[64];
    do { snprintf(name, sizeof name, "blocks.%lld.attn.qkv.weight", (long long)blocks); }
    while (is_matrix(sized_tensor(f, name, 2), 3 * C, C) && ++blocks);
    const SafeTensor* fc1 = sized_tensor(f, "blocks.0.mlp.fc1.weight", 2);
    if (!blocks || !fc1 || !is_matrix(fc1, fc1->shape[0], C) || fc1->shape[0] > 64 * C) {
        return set_error(err, "it has no blocks.0.attn.qkv.weight and blocks.0.mlp.fc1.weight of its width %d, from "
                         "which its sizes could be taken: give --model", c->dim);
    }
    c->mlp_ratio = (double)fc1->shape[0] / c->dim;
    return set_size(c, "depth", blocks, err);
}

static inline bool take_rational(Config* c, const SafeTensor* numerator, const SafeTensor* denominator, Error* err) {
    return set_size(c, "rational-m", numerator->shape[1] - 1, err) &&
           set_size(c, "rational-n", denominator->shape[1], err);
}

// Told by the tensors that only one kind of MLP has. GELU, ReLU and SiLU have none; GELU, which timm uses, is assumed.
static inline bool take_mlp(Config* c, const NamedFile* f, Error* err) {
    const SafeTensor* numerator1 = sized_tensor(f, "blocks.0.mlp.act1.weight_numerator", 2);
    const SafeTensor* denominator1 = sized_tensor(f, "blocks.0.mlp.act1.weight_denominator", 2);
    const SafeTensor* numerator = sized_tensor(f, "blocks.0.mlp.act.weight_numerator", 2);
    const SafeTensor* denominator = sized_tensor(f, "blocks.0.mlp.act.weight_denominator", 2);
    const SafeTensor* spline = sized_tensor(f, "blocks.0.mlp.fc1.spline_weight", 3);
    c->mlp = ACTIVATION_GELU;
    if (sized_tensor(f, "blocks.0.mlp.act.weight", 1)) { c->mlp = MLP_PRELU; }
    if (numerator1 && denominator1) {
        c->mlp = MLP_GR_KAN;
        return take_rational(c, numerator1, denominator1, err) &&
               set_size(c, "rational-groups", denominator1->shape[0], err);
    }
    if (numerator && denominator) {
        c->mlp = MLP_RATIONAL;
        return take_rational(c, numerator, denominator, err);
    }
    if (spline) {
        c->mlp = MLP_KAN;
        return set_size(c, "kan-grid", spline->shape[2] - c->kan_order, err);
    }
    return true;
}

// ---- ConViT and Swin

static inline bool has_block(const NamedFile* f, Backbone backbone, int stage, int block) {
    char name[64];
    snprintf(name, sizeof name, "layers.%d.blocks.%d.norm1.weight", stage, block);
    if (backbone == BACKBONE_CONVIT) { snprintf(name, sizeof name, "blocks.%d.norm1.weight", block); }
    return sized_tensor(f, name, 1) != NULL;
}

static inline bool has_sizes_of(const Config* c, const NamedFile* f, const Preset* p) {
    Config named = *c;
    char local[64];
    set_preset(&named, p);
    bool same = named.dim == c->dim && named.patch == c->patch;
    for (int stage = 0; same && stage < named.depth.count; stage++) {
        int blocks = named.depth.value[stage];
        same = has_block(f, p->backbone, stage, blocks - 1) && !has_block(f, p->backbone, stage, blocks);
    }
    snprintf(local, sizeof local, "blocks.%d.attn.pos_proj.weight", named.local_blocks - 1);
    return same && (!named.local_blocks || sized_tensor(f, local, 2) != NULL);
}

static inline Backbone backbone_in(const NamedFile* f) {
    if (sized_tensor(f, "blocks.0.attn.pos_proj.weight", 2)) { return BACKBONE_CONVIT; }
    return sized_tensor(f, "layers.0.blocks.0.attn.relative_position_bias_table", 2) ? BACKBONE_SWIN : BACKBONE_VIT;
}

static inline bool take_named_sizes(Config* c, const NamedFile* f, Backbone backbone, Error* err) {
    const char* family = backbone == BACKBONE_SWIN ? "swin" : "convit";
    for (int i = 0; i < PRESETS; i++) {
        if (presets[i].backbone != backbone || !has_sizes_of(c, f, &presets[i])) { continue; }
        apply_preset(c, family, presets[i].name);
        snprintf(c->model, sizeof c->model, "%s-%s", family, presets[i].name);
        printf("sizes      of %s, flags beside it win: %s\n", f->file->path, c->model);
        return true;
    }
    return set_error(err, "it is a %s of sizes that have no name here: give --model and the sizes that differ", family);
}

static inline void assume_heads(Config* c) {
    c->heads = one_int(c->dim % 64 == 0 && c->dim / 64 <= 1024 ? c->dim / 64 : 1);
    for (int i = 0; i < PRESETS; i++) {
        const Preset* p = &presets[i];
        if (p->backbone == BACKBONE_VIT && p->dim == c->dim) { c->heads = one_int(atoi(p->heads)); }
    }
}

// "vit-tiny" if it is one of the named models, else "vit-8x1": width and blocks
static inline void name_by_sizes(Config* c) {
    const char* family = c->mlp == MLP_GR_KAN ? "kat" : c->mlp == MLP_KAN ? "kan" : "vit";
    snprintf(c->model, sizeof c->model, "%s-%dx%d", family, c->dim, ints_sum(c->depth));
    for (int i = 0; i < PRESETS; i++) {
        const Preset* p = &presets[i];
        bool same = p->backbone == BACKBONE_VIT && p->dim == c->dim && atoi(p->depth) == ints_sum(c->depth) &&
                    p->image_size == c->image_size && p->patch == c->patch;
        if (same) { snprintf(c->model, sizeof c->model, "%s-%s", family, p->name); }
    }
}

static inline void print_sizes(const Config* c, const char* path) {
    printf("sizes      of %s, flags beside it win: C %d, %d blocks, patch %d, image %d, MLP %g C of %s, %s%s", path,
           c->dim, ints_sum(c->depth), c->patch, c->image_size, c->mlp_ratio,
           choice_name(config_option("mlp")->choices, c->mlp),
           c->pool == POOL_TOKEN ? "class token" : "no class token", c->layer_scale > 0 ? ", LayerScale" : "");
    if (c->classes) { printf(", %d classes", c->classes); }
    printf("; assumed: %d heads\n", c->heads.value[0]);
}

// The number of the head's outputs, for an evaluation; it may differ from the number of classes of the data.
static inline bool take_classes(Config* c, const NamedFile* f, Error* err) {
    const SafeTensor* head = sized_tensor(f, "head.weight", 2);
    if (!head) { head = sized_tensor(f, "head.fc.weight", 2); }
    return !head || set_size(c, "classes", head->shape[0], err);
}

static inline bool config_classes_from_tensors(Config* c, const SafeTensors* file, Error* err) {
    NamedFile f;
    return open_names(&f, file, err) && take_classes(c, &f, err);
}

// Sets the sizes of c from the file's tensors, and with_head the number of classes, and prints a line that says which
// they are. False, with a sentence: the file holds no such ViT
static inline bool config_from_tensors(Config* c, const SafeTensors* file, bool with_head, Error* err) {
    NamedFile f;
    if (!open_names(&f, file, err) || !check_dtypes(&f, err) || !take_patches(c, &f, err)) { return false; }
    Backbone backbone = backbone_in(&f);
    if (backbone != BACKBONE_VIT) {
        return take_named_sizes(c, &f, backbone, err) && (!with_head || take_classes(c, &f, err));
    }
    if (!take_image(c, &f, err) || !take_blocks(c, &f, err) || !take_mlp(c, &f, err)) { return false; }
    if (with_head && !take_classes(c, &f, err)) { return false; }
    if (!sized_tensor(&f, "blocks.0.ls1.gamma", 1)) {
        c->layer_scale = 0;
    } else if (!(c->layer_scale > 0)) {
        c->layer_scale = 1e-5; // its start, should the file lack one
    }
    c->attn = ATTN_SOFTMAX;
    assume_heads(c);
    name_by_sizes(c);
    print_sizes(c, file->path);
    return true;
}

// The rows of the table that describe the model: all before those of the data
static inline int model_options(void) { return (int)(config_option("data") - config_table); }

// The model for a start from the weights of a file, with the classes of the data
static inline bool config_of_weights(Config* c, const SafeTensors* file, Error* err) {
    int classes = c->classes;
    if (!metadata_is_ours(file)) { return config_from_tensors(c, file, false, err); }
    if (!metadata_read_config(file, c, config_table, model_options(), err)) { return false; }
    c->classes = classes;
    printf("sizes      of %s, flags beside it win: %s\n", file->path, c->model);
    return true;
}
