// --export to ONNX: files are read back, and hold a graph that is in order, the weights to the byte, and what was said
// beside them. That a runtime computes the same logits is shown by dev/export/check_onnx.py, which needs Python.
#pragma GCC diagnostic ignored "-Wunused-function" // what only main calls
#define TESTING
#include "../../train_vit.c"
#include "model_test.h"
#include "test_files.h"

#ifdef HAVE_PROTOBUF_C
#define SIZES " --dim 24 --heads 3 --depth 2 --image-size 16 --patch 8"
#define STAGES " --dim 16 --heads 2,4 --depth 2,2 --image-size 16 --patch 2 --window-size 4"
enum { CLASSES = 7 };

// A file read back; its bytes are dropped by close_file
typedef struct { Onnx__ModelProto* model; Onnx__GraphProto* graph; } OnnxRead;

static OnnxRead read_onnx(const char* name) {
    size_t count;
    uint8_t* bytes = read_file(in_folder(name), &count);
    OnnxRead f = {.model = onnx__model_proto__unpack(NULL, count, bytes)};
    free(bytes);
    if (!f.model) { fail(EXIT_RUN_TIME, "%s is no message of onnx.proto", name); }
    f.graph = f.model->graph;
    return f;
}

static void close_file(OnnxRead* f) { onnx__model_proto__free_unpacked(f->model, NULL); }

// A model of these flags with parameters of noise, so that none equals another
static void noisy_model(Model* m, const char* flags) {
    build_model(m, flags, CLASSES);
    for (size_t i = 0; i < m->table.total; i++) { m->params[i] = (float)random_normal(3, STREAM_CHECK, 1, i); }
}

static void save_model(Model* m, const char* name, size_t most_inside) {
    Export e;
    Error err;
    Metadata metadata = {0};
    metadata_add(&metadata, "input_size", "[3, 16, 16]");
    metadata_add(&metadata, "label_names", "[\"a \\\"b\\\"\", \"é\"]");
    export_graph(&e, m, m->params);
    bool ok = onnx_save(&e.graph, m->config.model, &metadata, in_folder(name), most_inside, &err);
    CHECK(ok, "%s", err.text);
    graph_free(&e.graph);
    metadata_free(&metadata);
}

static Onnx__TensorProto* find_tensor(const OnnxRead* f, const char* name) {
    for (size_t i = 0; i < f->graph->n_initializer; i++) {
        if (strcmp(f->graph->initializer[i]->name, name) == 0) { return f->graph->initializer[i]; }
    }
    return NULL;
}

static Onnx__NodeProto* find_node(const OnnxRead* f, const char* name) {
    for (size_t i = 0; i < f->graph->n_node; i++) {
        if (strcmp(f->graph->node[i]->name, name) == 0) { return f->graph->node[i]; }
    }
    return NULL;
}

static int count_nodes(const OnnxRead* f, const char* operation) {
    int count = 0;
    for (size_t i = 0; i < f->graph->n_node; i++) { count += strcmp(f->graph->node[i]->op_type, operation) == 0; }
    return count;
}

// ---- Any graph: each value is there once and before it is used; what is there is used

static bool define(TextTable* values, const char* name) {
    bool added;
    graph_number(values, name, &added);
    return added;
}

static bool uses(const OnnxRead* f, const char* name) {
    for (size_t i = 0; i < f->graph->n_node; i++) {
        for (size_t k = 0; k < f->graph->node[i]->n_input; k++) {
            if (strcmp(f->graph->node[i]->input[k], name) == 0) { return true; }
        }
    }
    return false;
}

static void check_order(const OnnxRead* f, const char* flags) {
    TextTable values = {0}, names = {0};
    const Onnx__GraphProto* g = f->graph;
    bool fresh = define(&values, "input"), known = true, used = true;
    for (size_t i = 0; i < g->n_initializer; i++) {
        fresh = fresh && define(&values, g->initializer[i]->name);
        used = used && uses(f, g->initializer[i]->name);
    }
    for (size_t i = 0; i < g->n_node; i++) {
        const Onnx__NodeProto* node = g->node[i];
        fresh = fresh && define(&names, node->name);
        for (size_t k = 0; k < node->n_input; k++) { known = known && table_find(&values, node->input[k]) >= 0; }
        for (size_t k = 0; k < node->n_output; k++) { fresh = fresh && define(&values, node->output[k]); }
    }
    CHECK(fresh, "%s: a name is there twice", flags);
    CHECK(known, "%s: a value is used before it is there", flags);
    CHECK(used, "%s: an initialiser is not used", flags);
    CHECK(table_find(&values, "logits") >= 0, "%s: no logits", flags);
    table_free(&values);
    table_free(&names);
}

static void check_value(const Onnx__ValueInfoProto* v, const char* name, int rank, const int64_t* shape) {
    const Onnx__TensorShapeProto* s = v->type->tensor_type->shape;
    bool same = (int)s->n_dim == rank && s->dim[0]->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
    for (int k = 1; same && k < rank; k++) { same = s->dim[k]->dim_value == shape[k]; }
    CHECK(same && strcmp(v->name, name) == 0 && v->type->tensor_type->elem_type == 1 &&
          strcmp(s->dim[0]->dim_param, "batch") == 0, "%s: another name, type or shape", name);
}

static void check_head(const OnnxRead* f) {
    const Onnx__ModelProto* m = f->model;
    CHECK(m->ir_version == 8 && m->n_opset_import == 1 && m->opset_import[0]->version == 17 &&
          strcmp(m->producer_name, "kat.c") == 0, "versions %d, %d", (int)m->ir_version, (int)m->opset_import[0]->version);
    CHECK(f->graph->n_input == 1 && f->graph->n_output == 1, "%zu inputs, %zu outputs", f->graph->n_input,
          f->graph->n_output);
    check_value(f->graph->input[0], "input", 4, (int64_t[]){0, 3, 16, 16});
    check_value(f->graph->output[0], "logits", 2, (int64_t[]){0, CLASSES});
    CHECK(m->n_metadata_props == 2 && strcmp(m->metadata_props[1]->key, "label_names") == 0 &&
          strcmp(m->metadata_props[1]->value, "[\"a \\\"b\\\"\", \"é\"]") == 0, "metadata");
}

// ---- Weights

// What becomes other initialisers: folded coefficients, those of every channel, splines apart
static bool is_folded(const char* name) {
    static const char* const parts[] = {".coef", "scale_basis", "scale_base", "weight_numerator", "weight_denominator",
                                        "spline_weight", "relative_position_bias_table"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t length = strlen(parts[i]), all = strlen(name);
        if (all >= length && strcmp(name + all - length, parts[i]) == 0) { return true; }
    }
    return false;
}

static bool same_tensor(const Onnx__TensorProto* t, const NamedTensor* own, const float* data) {
    bool same = t && t->data_type == 1 && (int)t->n_dims == own->rank && t->raw_data.len == own->size * sizeof(float);
    for (int k = 0; same && k < own->rank; k++) { same = t->dims[k] == own->shape[k]; }
    return same && memcmp(t->raw_data.data, data, t->raw_data.len) == 0;
}

static void check_weights(const OnnxRead* f, const Model* m, const char* flags) {
    for (int i = 0; i < m->tensor_count; i++) {
        const NamedTensor* own = &m->tensors[i];
        const Onnx__TensorProto* t = find_tensor(f, own->name);
        if (is_folded(own->name)) {
            CHECK(!t, "%s: %s is there as it was stored", flags, own->name);
        } else {
            CHECK(same_tensor(t, own, m->params + own->offset), "%s: %s is not there, or is another", flags, own->name);
        }
    }
}

static void test_models(void) {
    static const char* const models[] = {"vit-mini" SIZES, "vit-mini --pool avg --layer-scale 0.1" SIZES,
        "vit-mini --attn-gate" SIZES, "vit-mini --mlp prelu --attn softmax-rank" SIZES, "kat-mini --attn linear" SIZES,
        "vit-mini --mlp rational --attn mixing" SIZES, "kan-mini --attn polynomial" SIZES,
        "kat-mini-g2b --karat-bias block --softmax-heads 1" SIZES, "vit-mini-g2u --karat-base gelu" SIZES,
        "vit-mini-g2b --karat-order phi-phi --basis bspline" SIZES, "vit-mini-g2u --karat-order phi-phi --basis morlet" SIZES,
        "vit-mini-g2b --karat-full --basis rational" SIZES, "vit-mini-g2b --karat-order phi-w --basis polynomial" SIZES,
        "vit-mini-g2b --karat-projection l1 --karat-scales off --mlp silu" SIZES,
        "vit-mini --reg-tokens 2 --no-embed-class --qkv-bias off" SIZES, "vit-mini --pool avg --fc-norm" SIZES,
        "convit-mini-g2b --local-blocks 1 --qkv-bias on" SIZES, "swin-mini" STAGES, "swin-mini-g2u --karat-bias block" STAGES,
        "swin-mini-g2b --softmax-heads 1 --mlp kan" STAGES};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        char flags[300];
        Model m;
        snprintf(flags, sizeof flags, "--model %s", models[i]);
        noisy_model(&m, flags);
        save_model(&m, "model.onnx", ONNX_MOST_INSIDE);
        OnnxRead f = read_onnx("model.onnx");
        check_head(&f);
        check_order(&f, flags);
        check_weights(&f, &m, flags);
        close_file(&f);
        model_free(&m);
    }
}

// ---- Where operations stand, and what they are given

static void test_names(void) {
    static const struct { const char *node, *input; } want[] = {
        {"patch_embed/Conv", "patch_embed.proj.weight"}, {"patch_embed/Add", "pos_embed"},
        {"blocks.0.norm1/LayerNormalization", "blocks.0.norm1.weight"}, {"blocks.1.attn.qkv/Transpose", "blocks.1.attn.qkv.weight"},
        {"blocks.1.attn.qkv/Add", "blocks.1.attn.qkv.bias"}, {"blocks.0.attn/Softmax", "blocks.0.attn/MatMul"},
        {"blocks.1.mlp.fc2/Add", "blocks.1.mlp.fc2.bias"}, {"norm/LayerNormalization", "norm.bias"}, {"head/Gemm", "head.weight"}};
    Model m;
    noisy_model(&m, "--model vit-mini" SIZES);
    save_model(&m, "model.onnx", ONNX_MOST_INSIDE);
    OnnxRead f = read_onnx("model.onnx");
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const Onnx__NodeProto* node = find_node(&f, want[i].node);
        bool found = false;
        for (size_t k = 0; node && k < node->n_input; k++) {
            found = found || strcmp(node->input[k], want[i].input) == 0;
        }
        CHECK(found, "%s does not take %s", want[i].node, want[i].input);
    }
    CHECK(count_nodes(&f, "Softmax") == 2 && count_nodes(&f, "LayerNormalization") == 5 && count_nodes(&f, "Erf") == 2,
          "operations of two blocks");
    const Onnx__NodeProto* norm = find_node(&f, "norm/LayerNormalization");
    CHECK(norm->n_attribute == 2 && norm->attribute[0]->i == -1 && norm->attribute[1]->f == 1e-6f,
          "LayerNorm's epsilon");
    close_file(&f);
    model_free(&m);
}

// Stages, windows that are rolled in every second block, and the bias of a head looked up in its table
static void test_windows(void) {
    Model m;
    noisy_model(&m, "--model swin-mini" STAGES);
    save_model(&m, "model.onnx", ONNX_MOST_INSIDE);
    OnnxRead f = read_onnx("model.onnx");
    Params p = params_of_block(&m.table, m.params, 2);
    CHECK(find_node(&f, "layers.0.blocks.1.attn/Softmax") && find_node(&f, "layers.1.downsample.reduction/MatMul") &&
          find_node(&f, "layers.1.blocks.0.attn.qkv/Add"), "names of stages");
    CHECK(find_tensor(&f, "windows.8.4.mask.-100") && !find_tensor(&f, "windows.4.4.mask.-100"), "masks");
    const Onnx__TensorProto* bias = find_tensor(&f, "layers.1.blocks.0.attn.relative_position_bias.0");
    bool shaped = bias && bias->n_dims == 3 && bias->dims[0] == 4 && bias->dims[1] == 16 && bias->dims[2] == 16;
    CHECK(shaped, "the bias of four heads");
    for (int i = 0; shaped && i < 4 * 16 * 16; i++) { // of head h, from place a to place b
        int h = i / 256, a = i / 16 % 16, b = i % 16, dy = a / 4 - b / 4 + 3, dx = a % 4 - b % 4 + 3;
        float got;
        memcpy(&got, bias->raw_data.data + (size_t)i * sizeof got, sizeof got);
        if (!CHECK(got == p.window_table[(dy * 7 + dx) * 4 + h], "head %d, from %d to %d: %g", h, a, b, got)) { break; }
    }
    close_file(&f);
    model_free(&m);
}

// C_m (H,N,r) is scale_basis coef; a block's in a blockwise model, one for all in a universal one
static void test_folded(const char* flags, const char* name, int m, int blocks) {
    Model model;
    noisy_model(&model, flags);
    save_model(&model, "model.onnx", ONNX_MOST_INSIDE);
    OnnxRead f = read_onnx("model.onnx");
    Params p = params_of_block(&model.table, model.params, blocks > 1 ? 1 : 0);
    const Onnx__TensorProto* t = find_tensor(&f, name);
    Dims d = model.dims;
    bool shaped = t && t->n_dims == 3 && t->dims[0] == d.HK && t->dims[1] == d.N && t->dims[2] == d.R;
    double worst = shaped ? 0 : 1;
    for (int i = 0; shaped && i < d.HK * d.N * d.R; i++) {
        int h = i / (d.N * d.R), q = i / d.R % d.N, r = i % d.R, unit = h * d.R + r;
        float got, want = p.karat_coef[((size_t)unit * d.M + m) * d.N + q] * p.scale_basis[(size_t)unit * d.N + q];
        memcpy(&got, t->raw_data.data + (size_t)i * sizeof got, sizeof got);
        worst = fmax(worst, fabs(got - want));
    }
    CHECK(worst <= 1e-6, "%s: %s is off by %g", flags, name, worst);
    close_file(&f);
    model_free(&model);
}

// No product of functions of the logits is larger than the logits: z is added up
static void test_fused(void) {
    Model m;
    noisy_model(&m, "--model vit-mini-g3b" SIZES);
    save_model(&m, "model.onnx", ONNX_MOST_INSIDE);
    OnnxRead f = read_onnx("model.onnx");
    CHECK(count_nodes(&f, "Cos") == 2 * 3 && count_nodes(&f, "Sin") == 2 * 3 && count_nodes(&f, "Softmax") == 0,
          "cosines and sines of two blocks");
    for (size_t i = 0; i < f.graph->n_node; i++) {
        const Onnx__NodeProto* node = f.graph->node[i];
        bool joins = strcmp(node->op_type, "Concat") == 0 || strcmp(node->op_type, "Expand") == 0;
        CHECK(!joins || strncmp(node->name, "patch_embed/", 12) == 0, "%s makes a larger tensor", node->name);
    }
    close_file(&f);
    model_free(&m);
}

// ---- Files

static void test_beside(void) {
    Model m;
    size_t bytes = 0;
    noisy_model(&m, "--model vit-mini" SIZES);
    save_model(&m, "large.onnx", 1000);
    OnnxRead f = read_onnx("large.onnx");
    uint8_t* data = read_file(in_folder("large.onnx.data"), &bytes);
    for (int i = 0; i < m.tensor_count; i++) {
        const NamedTensor* own = &m.tensors[i];
        const Onnx__TensorProto* t = find_tensor(&f, own->name);
        if (own->size * sizeof(float) < ONNX_SMALL_TENSOR) {
            CHECK(same_tensor(t, own, m.params + own->offset), "%s is small", own->name);
            continue;
        }
        bool refers = t && t->data_location == ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL && t->n_external_data == 3 &&
                      t->raw_data.len == 0 && strcmp(t->external_data[0]->value, "large.onnx.data") == 0;
        size_t at = refers ? (size_t)atoll(t->external_data[1]->value) : bytes, length = own->size * sizeof(float);
        refers = refers && (size_t)atoll(t->external_data[2]->value) == length && at % 4096 == 0 && at + length <= bytes;
        CHECK(refers && memcmp(data + at, m.params + own->offset, length) == 0, "%s lies elsewhere", own->name);
    }
    free(data);
    close_file(&f);
    model_free(&m);
}

static void test_refusal(void) {
    Model m;
    Export e;
    Error err;
    Metadata none = {0};
    noisy_model(&m, "--model vit-mini" SIZES);
    export_graph(&e, &m, m.params);
    bool ok = onnx_save(&e.graph, "x", &none, in_folder("absent/model.onnx"), ONNX_MOST_INSIDE, &err);
    CHECK(!ok && strstr(err.text, "make its folder first"), "%s", err.text);
    graph_free(&e.graph);
    model_free(&m);
}

int main(void) {
    open_test_folder();
    test_models();
    test_names();
    test_windows();
    test_folded("--model vit-mini-g2b" SIZES, "blocks.1.attn.karat.folded.3", 3, 2);
    test_folded("--model vit-mini-g2u" SIZES, "karat.folded.0", 0, 1);
    test_folded("--model kat-mini-g2b --softmax-heads 1 --basis chebyshev" SIZES, "blocks.1.attn.karat.folded.2", 2, 2);
    test_fused();
    test_beside();
    test_refusal();
    remove_test_folder();
    return tests_finish();
}
#else
int main(void) {
    printf("SKIPPED: this build has no protobuf-c\n");
    return tests_finish();
}
#endif
