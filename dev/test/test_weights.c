// Weights of other programs, by the trainer as a process (TRAIN_KAT, default ./train_kat): names with prefixes, other
// tokens in front of the patches, files of which little fits or that hold NaN, sizes read off tensors, timm's names of
// models.
#include "../../data/dataset.h"
#include "../../runtime/checkpoint.h"
#include "trainer_process.h"

// 20 grey images of 16x16 in 10 classes, as both splits
static void save_data(void) {
    Dataset d;
    Error err;
    bool ok = dataset_create(&d, "toy", 20, 10, 1, 16, 16, &err);
    for (int i = 0; ok && i < 20 * 256; i++) { d.images[i] = (uint8_t)((i * 7919 >> 3) % 251); }
    for (int i = 0; ok && i < 20; i++) { d.labels[i] = (uint16_t)(i % 10); }
    for (int k = 0; ok && k < 10; k++) { snprintf(d.class_names[k], sizeof d.class_names[k], "class %d", k); }
    if (ok) { dataset_measure(&d); }
    ok = ok && dataset_save(&d, in_folder("toy.train.kds"), &err) && dataset_save(&d, in_folder("toy.test.kds"), &err);
    CHECK(ok, "%s", err.text);
    dataset_free(&d);
}

// ---------------------------------------------------------------------------------------------------------------------
// Files of a small ViT, and what may be different in them

typedef struct {
    const char* prefix;
    int C, L, P, side, F, K;
    bool class_token, positions_of_patches_alone, distilled, layer_scale, gr_kan, fc_norm;
    int registers;
    const char *without, *nan; // no tensors whose names begin so; NaN in this one
    int extra;                 // further tensors, named extra.0, ...
} Vit;
static const Vit plain = {.prefix = "", .C = 16, .L = 2, .P = 4, .side = 4, .F = 32, .K = 10, .class_token = true};

enum { MOST = 1400 };
typedef struct { SafeTensorOut tensors[MOST]; char names[MOST][120]; int count; const Vit* vit; } Maker;

static float value_of(const char* name, int i) {
    unsigned hash = 17;
    for (; *name; name++) { hash = hash * 31 + (unsigned char)*name; }
    return 0.1f * (float)((int)((hash + (unsigned)i * 7919) % 23) - 11);
}

static void add(Maker* m, const char* name, int rank, int64_t a, int64_t b, int64_t c, int64_t d) {
    if (m->vit->without && strncmp(name, m->vit->without, strlen(m->vit->without)) == 0) { return; }
    SafeTensorOut* t = &m->tensors[m->count];
    int64_t n = a * (rank > 1 ? b : 1) * (rank > 2 ? c : 1) * (rank > 3 ? d : 1);
    float* values = alloc_floats((size_t)n + 1, "a test's tensor");
    for (int i = 0; i < n; i++) { values[i] = value_of(name, i); }
    if (m->vit->nan && strcmp(name, m->vit->nan) == 0) { values[n / 2] = NAN; }
    snprintf(m->names[m->count], sizeof m->names[0], "%s%s", m->vit->prefix, name);
    *t = (SafeTensorOut){m->names[m->count++], rank, {a, b, c, d}, values};
}

static void add_block(Maker* m, int l) {
    static const char* const acts[] = {"act1", "act2"};
    const Vit* v = m->vit;
    char name[64];
#define IN_BLOCK(what, ...) snprintf(name, sizeof name, "blocks.%d.%s", l, what), add(m, name, __VA_ARGS__)
    IN_BLOCK("norm1.weight", 1, v->C, 0, 0, 0);
    IN_BLOCK("norm1.bias", 1, v->C, 0, 0, 0);
    IN_BLOCK("attn.qkv.weight", 2, 3 * v->C, v->C, 0, 0);
    IN_BLOCK("attn.qkv.bias", 1, 3 * v->C, 0, 0, 0);
    IN_BLOCK("attn.proj.weight", 2, v->C, v->C, 0, 0);
    IN_BLOCK("attn.proj.bias", 1, v->C, 0, 0, 0);
    IN_BLOCK("norm2.weight", 1, v->C, 0, 0, 0);
    IN_BLOCK("norm2.bias", 1, v->C, 0, 0, 0);
    IN_BLOCK("mlp.fc1.weight", 2, v->F, v->C, 0, 0);
    IN_BLOCK("mlp.fc1.bias", 1, v->F, 0, 0, 0);
    IN_BLOCK("mlp.fc2.weight", 2, v->C, v->F, 0, 0);
    IN_BLOCK("mlp.fc2.bias", 1, v->C, 0, 0, 0);
    for (int i = 0; i < 2 && v->layer_scale; i++) { IN_BLOCK(i ? "ls2.gamma" : "ls1.gamma", 1, v->C, 0, 0, 0); }
    for (int i = 0; i < 2 && v->gr_kan; i++) {
        char part[40];
        snprintf(part, sizeof part, "mlp.%s.weight_numerator", acts[i]);
        IN_BLOCK(part, 2, 1, 6, 0, 0);
        snprintf(part, sizeof part, "mlp.%s.weight_denominator", acts[i]);
        IN_BLOCK(part, 2, 4, 4, 0, 0);
    }
}

static void add_vit(Maker* m, const Vit* v) {
    m->vit = v;
    int in_front = v->class_token + v->distilled + v->registers;
    int positions = v->side * v->side + (v->positions_of_patches_alone ? 0 : in_front);
    if (v->class_token) { add(m, "cls_token", 3, 1, 1, v->C, 0); }
    if (v->distilled) { add(m, "dist_token", 3, 1, 1, v->C, 0); }
    if (v->registers) { add(m, "reg_token", 3, 1, v->registers, v->C, 0); }
    add(m, "pos_embed", 3, 1, positions, v->C, 0);
    add(m, "patch_embed.proj.weight", 4, v->C, 3, v->P, v->P);
    add(m, "patch_embed.proj.bias", 1, v->C, 0, 0, 0);
    for (int l = 0; l < v->L; l++) { add_block(m, l); }
    add(m, v->fc_norm ? "fc_norm.weight" : "norm.weight", 1, v->C, 0, 0, 0);
    add(m, v->fc_norm ? "fc_norm.bias" : "norm.bias", 1, v->C, 0, 0, 0);
    add(m, "head.weight", 2, v->K, v->C, 0, 0);
    add(m, "head.bias", 1, v->K, 0, 0, 0);
    if (v->distilled) { add(m, "head_dist.weight", 2, v->K, v->C, 0, 0); }
    for (int i = 0; i < v->extra; i++) {
        char name[64];
        snprintf(name, sizeof name, "extra.%d\x1b[2J", i);
        add(m, name, 1, i % 3, 0, 0, 0);
    }
}

// The values of one tensor of what was added, to look at or to change
static float* tensor(Maker* m, const char* name) {
    for (int i = 0; i < m->count; i++) {
        if (strcmp(m->names[i], name) == 0) { return (float*)(intptr_t)m->tensors[i].data; }
    }
    printf("no tensor %s\n", name);
    exit(1);
}

static void save(Maker* m, const char* name) {
    Error err;
    bool ok = safetensors_save(in_folder(name), m->tensors, m->count, NULL, 0, &err);
    CHECK(ok, "saving %s: %s", name, err.text);
    for (int i = 0; i < m->count; i++) { free((void*)(intptr_t)m->tensors[i].data); }
    m->count = 0;
}

static Maker maker;
static void save_vit(const char* name, const Vit* v) {
    add_vit(&maker, v);
    save(&maker, name);
}

// The last line, behind the name of the file: its accuracy and loss
static void last_result(char result[200]) {
    const char* at = strstr(output, ": top-1");
    snprintf(result, 200, "%s", at ? at : "none");
}

// Dumps the state that a start from this file gives, and reads a parameter; to be freed
static float* started(const char* name, const char* parameter, const char* flags) {
    SafeTensors file;
    Error err;
    int code = run("--init-from %s --dump-state dump.safetensors %s", name, flags);
    CHECK(code == 0, "a start from %s: %s", name, output);
    if (!safetensors_open(&file, in_folder("dump.safetensors"), &err)) { printf("%s\n", err.text); exit(1); }
    char full[100];
    snprintf(full, sizeof full, "param.%s", parameter);
    const SafeTensor* t = safetensors_find(&file, full);
    float* values = alloc_floats((size_t)safetensors_elements(t), "a parameter");
    CHECK(safetensors_read(&file, t, values, &err), "%s", err.text);
    safetensors_close(&file);
    unlink(in_folder("dump.safetensors"));
    return values;
}

static void check_values(const float* got, const char* name, int from, int n, const char* what) {
    int wrong = 0;
    for (int i = 0; i < n; i++) { wrong += got[i] != value_of(name, from + i); }
    CHECK(wrong == 0, "%s: %d of %d values differ from the file's", what, wrong, n);
}

// ---------------------------------------------------------------------------------------------------------------------

static void test_prefixes(void) {
    static const char* const prefixes[] = {"module.", "_orig_mod.", "model.", "backbone.", "encoder.", "vit.", "net.",
                                           "state_dict.", "module._orig_mod.", "a.model.of.mine."};
    char want[200], got[200], line[200];
    save_vit("plain.safetensors", &plain);
    RUN(0, ": top-1", "--eval plain.safetensors");
    last_result(want);
    CHECK(!strstr(want, "nan"), "%s", want);
    CHECK(!said("names in the file"), "a file without a prefix needs no line: %s", output);
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++) {
        Vit v = plain;
        v.prefix = prefixes[i];
        save_vit("prefixed.safetensors", &v);
        snprintf(line, sizeof line, "  names in the file begin with %s, which is taken off\n", prefixes[i]);
        RUN(0, line, "--eval prefixed.safetensors");
        last_result(got);
        CHECK(strcmp(want, got) == 0, "%s: the same result%s, not%s", prefixes[i], want, got);
    }
    float* weights = started("prefixed.safetensors", "blocks.1.mlp.fc2.weight", "");
    CHECK(said("32 of 32 tensors loaded"), "%s", output);
    check_values(weights, "blocks.1.mlp.fc2.weight", 0, 16 * 32, "a start from prefixed names");
    free(weights);
}

static void test_two_models(void) {
    Vit student = plain, teacher = plain;
    student.prefix = "student.backbone.";
    teacher.prefix = "teacher.backbone.";
    add_vit(&maker, &student);
    save_vit("both.safetensors", &teacher);
    RUN(1, "more than one model, under student.backbone. and under teacher.backbone.", "--eval both.safetensors");
    RUN(1, "more than one model", "--init-from both.safetensors --output never");
    teacher.prefix = "ema.";
    add_vit(&maker, &plain);
    save_vit("both.safetensors", &teacher);
    RUN(0, ": top-1", "--eval both.safetensors");
    CHECK(!said("names in the file"), "the names without a prefix are the model's: %s", output);
    teacher.without = "head.";
    add_vit(&maker, &student);
    save_vit("both.safetensors", &teacher);
    RUN(0, "begin with student.backbone.,", "--eval both.safetensors");
}

static void test_tokens(void) {
    Vit v = plain;
    v.distilled = true;
    save_vit("distilled.safetensors", &v);
    float* positions = started("distilled.safetensors", "pos_embed", "");
    CHECK(said("positions of 4x4 patches kept, 1 other token left out: pos_embed is (1,18,16) in the file, (1,17,16) "
               "here"), "%s", output);
    CHECK(said("left out: dist_token") && said("left out: head_dist.weight"), "%s", output);
    check_values(positions, "pos_embed", 0, 16, "distilled: the class token's position");
    check_values(positions + 16, "pos_embed", 32, 16 * 16, "distilled: the patches' positions");
    free(positions);
    positions = started("distilled.safetensors", "pos_embed", "--image-size 24");
    CHECK(said("resized from 4x4 to 6x6 patches, 1 other token left out"), "%s", output);
    check_values(positions, "pos_embed", 0, 16, "resized: the class token's position");
    free(positions);
    positions = started("distilled.safetensors", "pos_embed", "--pool avg");
    check_values(positions, "pos_embed", 32, 16 * 16, "without a class token: the patches' positions");
    free(positions);
    RUN(1, "a distilled model (dist_token), which has two heads and needs a teacher; this program has neither: start "
           "from it by --init-from", "--eval distilled.safetensors");
    RUN(0, ": top-1", "--eval distilled.safetensors --any-weights");

    v = plain;
    v.registers = 4;
    save_vit("registers.safetensors", &v);
    positions = started("registers.safetensors", "pos_embed", "");
    CHECK(said("4 other tokens left out"), "%s", output);
    check_values(positions + 16, "pos_embed", 5 * 16, 16 * 16, "registers: the patches' positions");
    free(positions);
    RUN(1, "it has registers with positions (reg_token), which this program does not have",
        "--eval registers.safetensors");
    v.positions_of_patches_alone = true;
    save_vit("registers.safetensors", &v);
    positions = started("registers.safetensors", "pos_embed", "");
    CHECK(said("positions of 4x4 patches kept: pos_embed"), "%s", output);
    check_values(positions + 16, "pos_embed", 0, 16 * 16, "registers without positions");
    CHECK(positions[0] == 0 && positions[15] == 0, "a class token without a position is one at 0: %g", positions[0]);
    free(positions);
    RUN(1, "it has registers (reg_token): give --reg-tokens 4 --no-embed-class", "--eval registers.safetensors");
    RUN(0, ": top-1", "--eval registers.safetensors --reg-tokens 4 --no-embed-class");
}

// A class token without a position (timm's no_embed_class, DeiT III) is one whose position is 0.
static void test_no_embed_class(void) {
    char want[200], got[200];
    Vit v = plain;
    add_vit(&maker, &v);
    float* values = tensor(&maker, "pos_embed");
    memset(values, 0, 16 * sizeof *values);
    for (int i = 0; i < 16 * 16; i++) { values[16 + i] = value_of("pos_embed", i); }
    save(&maker, "zero.safetensors");
    RUN(0, ": top-1", "--eval zero.safetensors");
    last_result(want);
    v.positions_of_patches_alone = true;
    save_vit("alone.safetensors", &v);
    RUN(0, ": top-1", "--eval alone.safetensors");
    last_result(got);
    CHECK(strcmp(want, got) == 0, "no_embed_class:%s, with position 0%s", got, want);
}

static void test_pooling(void) {
    Vit v = plain;
    v.class_token = false;
    save_vit("average.safetensors", &v);
    RUN(0, "no class token", "--eval average.safetensors");
    float* positions = started("average.safetensors", "pos_embed", "--pool token");
    CHECK(said("starts fresh: cls_token"), "%s", output);
    check_values(positions + 16, "pos_embed", 0, 16 * 16, "the patches' positions beside a new class token");
    free(positions);
    v.fc_norm = true;
    save_vit("fc_norm.safetensors", &v);
    RUN(1, "fc_norm.weight has no place", "--eval fc_norm.safetensors");
    free(started("fc_norm.safetensors", "pos_embed", ""));
    CHECK(said("starts fresh: norm.weight") && said("left out: fc_norm.weight"), "%s", output);
    RUN(1, "cls_token has no place in this model", "--eval plain.safetensors --pool avg");
}

static void test_little_fits(void) {
    save_vit("plain.safetensors", &plain);
    RUN(1, "give the --model and sizes",
        "--init-from plain.safetensors --model vit-tiny --depth 1 --image-size 16 --output never");
    CHECK(said("error: plain.safetensors: "), "%s", output);
    CHECK(access(in_folder("never/config.txt"), F_OK) != 0, "nothing was begun");
    RUN(1, "only 30 of 78 tensors (100 % of the values) fit", "--init-from plain.safetensors --depth 6 --output never");
    RUN(0, "32 of 80 tensors loaded", "--init-from plain.safetensors --depth 6 --any-weights --steps 1 --output any");
    RUN(0, "30 of 32 tensors loaded", "--init-from plain.safetensors --classes 12 --steps 1 --output head");
    CHECK(said("other shape, starts fresh: head.weight is (10,16) in the file, (12,16) here"), "%s", output);
    // half of the tensors fit, but hardly a value: as of a file whose matrices are packed
    add_vit(&maker, &plain);
    for (int i = 0; i < maker.count; i++) {
        SafeTensorOut* t = &maker.tensors[i];
        if (t->rank == 2 && strstr(t->name, "blocks.")) { t->shape[1] /= 4; }
    }
    save(&maker, "packed.safetensors");
    RUN(1, "fit, the head aside", "--init-from packed.safetensors --output never "
        "--model vit-mini --dim 16 --heads 1 --depth 2 --image-size 16 --mlp-ratio 2");
    Vit v = plain;
    v.prefix = "visual.";
    add_vit(&maker, &v);
    for (int i = 0; i < maker.count; i++) { maker.names[i][strlen(maker.names[i]) - 1] ^= 1; }
    save(&maker, "alien.safetensors");
    RUN(1, "names must be timm's", "--eval alien.safetensors");
    RUN(1, "no tensor of it is one of this model: names must be timm's",
        "--init-from alien.safetensors --model vit-mini --any-weights --output never");
    static const float values[768];
    const SafeTensorOut other = {"vit.embeddings.patch_embeddings.projection.weight", 4, {16, 3, 4, 4}, values};
    Error err;
    CHECK(safetensors_save(in_folder("other.safetensors"), &other, 1, NULL, 0, &err), "%s", err.text);
    RUN(1, "its tensors have the names of Hugging Face's transformers", "--eval other.safetensors");
    RUN(1, "its tensors have the names of Hugging Face's transformers", "--eval other.safetensors --model vit-mini");
    RUN(1, "its tensors have the names of Hugging Face's transformers",
        "--init-from other.safetensors --model vit-mini --output never");
    RUN(1, "only 0 of ",
        "--init-from plain.safetensors --model vit-tiny --depth 1 --classes 11 --any-weights --output never");
}

static void test_not_finite(void) {
    Vit v = plain;
    v.nan = "blocks.1.attn.qkv.bias";
    v.prefix = "module.";
    save_vit("nan.safetensors", &v);
    RUN(1, "tensor module.blocks.1.attn.qkv.bias holds NaN or Inf", "--eval nan.safetensors");
    RUN(1, "tensor module.blocks.1.attn.qkv.bias holds NaN or Inf", "--init-from nan.safetensors --output never");
    CHECK(access(in_folder("never/config.txt"), F_OK) != 0, "nothing was begun");
    RUN(0, ": top-1", "--eval nan.safetensors --any-weights");
    v.nan = "extra.1\x1b[2J";
    v.extra = 2;
    save_vit("nan.safetensors", &v);
    RUN(0, ": top-1", "--eval nan.safetensors"); // the model has no use for it
}

static void test_other_tensors(void) {
    Vit v = plain;
    v.extra = 1000; // a third of them of no element
    save_vit("many.safetensors", &v);
    RUN(0, ": top-1", "--eval many.safetensors");
    RUN(0, "only in the file, left out: extra.2?[2J", "--init-from many.safetensors --steps 1 --output many");
    CHECK(said("only in the file, left out: 976 more") && !strchr(output, '\x1b'), "%s", output);
    v = plain;
    v.without = "blocks.1.mlp";
    save_vit("hole.safetensors", &v);
    RUN(1, "the file has no tensor blocks.1.mlp.fc1.weight", "--eval hole.safetensors");
    RUN(1, "blocks.1.norm1.weight has no place in this model", "--eval plain.safetensors --depth 1");
    RUN(0, ": top-1", "--eval plain.safetensors --depth 1 --any-weights");
    v = plain;
    v.layer_scale = true;
    save_vit("scale.safetensors", &v);
    RUN(1, "blocks.0.ls1.gamma has no place in this model",
        "--eval scale.safetensors --model vit-mini --dim 16 --heads 1 --depth 2 --image-size 16 --mlp-ratio 2");
}

// Writes the file again with another dtype of the first tensor of this name
static void change_dtype(const char* name, const char* tensor_name, const char* dtype) {
    size_t n;
    uint8_t* bytes = read_file(in_folder(name), &n);
    char key[100];
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"", tensor_name);
    for (size_t i = 8; i + strlen(key) + 3 < n; i++) {
        if (memcmp(bytes + i, key, strlen(key)) != 0) { continue; }
        memcpy(bytes + i + strlen(key), dtype, 3);
        break;
    }
    write_file(in_folder(name), bytes, n);
    free(bytes);
}

static void test_dtypes(void) {
    Vit v = plain;
    v.distilled = true;
    save_vit("dtypes.safetensors", &v);
    change_dtype("dtypes.safetensors", "head_dist.weight", "I4X");
    free(started("dtypes.safetensors", "pos_embed", ""));
    CHECK(said("left out: head_dist.weight"), "%s", output);
    change_dtype("dtypes.safetensors", "pos_embed", "F4X");
    RUN(1, "tensor pos_embed of dtypes.safetensors holds F4X", "--init-from dtypes.safetensors --output never");
    save_vit("dtypes.safetensors", &plain);
    change_dtype("dtypes.safetensors", "blocks.0.attn.qkv.weight", "I32");
    RUN(1, "holds I32, and only F32, F16, BF16 and F64 can be read", "--eval dtypes.safetensors");
    RUN(1, "holds I32, and only F32, F16, BF16 and F64 can be read", "--init-from dtypes.safetensors --output never");
}

static void test_broken(void) {
    size_t n;
    save_vit("plain.safetensors", &plain);
    uint8_t* bytes = read_file(in_folder("plain.safetensors"), &n);
    static const int parts[] = {0, 4, 9, 200, 3000, 9000};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        write_file(in_folder("cut.safetensors"), bytes, parts[i] < (int)n ? (size_t)parts[i] : n - 1);
        RUN(1, "error: cut.safetensors is ", "--eval cut.safetensors");
    }
    write_file(in_folder("cut.safetensors"), bytes, n - 1);
    RUN(1, "error: cut.safetensors is not a valid safetensors file", "--init-from cut.safetensors --output never");
    free(bytes);
    add_vit(&maker, &plain);
    for (int i = 0; i < maker.count; i++) {
        SafeTensorOut* t = &maker.tensors[i];
        if (strcmp(t->name, "pos_embed") == 0) { *t = (SafeTensorOut){t->name, 2, {17, 16}, t->data}; }
    }
    save(&maker, "rank.safetensors");
    RUN(1, "no pos_embed of a square grid", "--eval rank.safetensors");
    RUN(1, "tensor pos_embed is (17,16) in the file and (1,17,16) in the model",
        "--eval rank.safetensors --model vit-mini --dim 16 --heads 1 --depth 2 --image-size 16 --mlp-ratio 2");
    RUN(1, "is a folder: give a file in it, many/best.safetensors", "--eval many");
}

static void test_sizes(void) {
    char want[200], got[200];
    Vit v = {.prefix = "module.", .C = 32, .L = 3, .P = 8, .side = 3, .F = 96, .K = 12, .class_token = true,
             .gr_kan = true, .layer_scale = true};
    save_vit("sizes.safetensors", &v);
    RUN(0, "flags beside it win: C 32, 3 blocks, patch 8, image 24, MLP 3 C of gr-kan, class token, LayerScale, "
        "12 classes; assumed: 1 heads", "--eval sizes.safetensors");
    last_result(want);
    RUN(0, "model      vit-mini: C 32, 3 blocks, 1 heads, 10 tokens, 12 classes; attention softmax, mlp gr-kan",
        "--eval sizes.safetensors --model vit-mini --dim 32 --heads 1 --depth 3 --patch 8 --image-size 24 --mlp gr-kan "
        "--mlp-ratio 3 --rational-groups 4 --layer-scale 1 --classes 12");
    last_result(got);
    CHECK(strcmp(want, got) == 0 && !said("sizes "), "sizes by flags:%s, by the file%s", got, want);
    RUN(0, "C 32, 3 blocks, 4 heads, 10 tokens, 12 classes", "--eval sizes.safetensors --heads 4");
    RUN(0, "C 32, 3 blocks, 1 heads, 26 tokens, 10 classes",
        "--init-from sizes.safetensors --image-size 40 --steps 1 --output sizes");
    CHECK(said("resized from 3x3 to 5x5 patches") && said("other shape, starts fresh: head.weight"), "%s", output);
    RUN(0, "note       12 outputs, 10 classes of --data toy: class k is taken for output k",
        "--eval sizes.safetensors");
    RUN(0, "12 classes", "--eval sizes.safetensors --model vit-mini --dim 32 --heads 1 --depth 3 --patch 8 "
        "--image-size 24 --mlp gr-kan --mlp-ratio 3 --rational-groups 4 --layer-scale 1");
    v.without = "head.";
    save_vit("headless.safetensors", &v);
    RUN(1, "it has no head.weight and knows no classes: train one from it by --init-from",
        "--eval headless.safetensors");
    RUN(0, "starts fresh: head.weight", "--init-from headless.safetensors --steps 1 --output headless");
    static const struct { int C, heads; } heads[] = {{96, 3}, {192, 3}, {256, 4}, {384, 6}, {20, 1}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        char line[40];
        v = plain;
        v.C = heads[i].C;
        save_vit("heads.safetensors", &v);
        snprintf(line, sizeof line, "assumed: %d heads", heads[i].heads);
        RUN(0, line, "--eval heads.safetensors");
    }
}

static void test_names_of_models(void) {
    static const struct { const char *name, *says; } models[] = {
        {"vit_tiny_patch16_224", "parameters 5717416 in"},
        {"vit_tiny_patch16_224.augreg_in21k", "parameters 5717416 in"},
        {"vit_small_patch16_224", "parameters 22050664 in"}, {"vit_base_patch16_224_in21k", "parameters 86567656 in"},
        {"vit_large_patch16_224", "parameters 304326632 in"}, {"vit-large", "parameters 304326632 in"},
        {"kat-large", "parameters 304328456 in"}, {"kat_base_patch16_224.vitft", "parameters 86568568 in"},
        {"kat_tiny_swish_patch16_224", "parameters 5718328 in"},
        {"deit_small_patch16_224.fb_in1k", "parameters 22050664 in"},
        {"deit_tiny_distilled_patch16_224", "parameters 5717416 in"}, {"vit_base_patch16_384", "577 tokens"},
        {"vit_base_patch8_224", "785 tokens"}, {"vit_base_patch32_384", "145 tokens"},
        {"deit3_small_patch16_384", "parameters 22205800 in 176 tensors"}, // LayerScale
        {"convit_small.fb_in1k", "parameters 27777322 in 180 tensors"},
        {"swin_tiny_patch4_window7_224.ms_in1k", "parameters 28288354 in 173 tensors"},
    };
    static const char* const unknown[] = {
        "vit_base_patch16_clip_224.openai", "vit_giant_patch14_224", "vit_tiny_patch16", "vit_tiny_patch16_224x", "_",
        "vit_", "swin_s3_tiny_224", "kan_tiny_patch16_224", "vit-tiny-g3x", "vit-tiny-", "resnet50", "",
        "vit-huge"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        RUN(0, models[i].says, "--model %s --classes 1000 --dry-run", models[i].name);
    }
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        RUN(2, "is unknown: use vit, kat or kan", "--model '%s' --classes 1000 --dry-run", unknown[i]);
    }
    RUN(2, "--image-size 225 is not a multiple of --patch 16", "--model vit_tiny_patch16_225 --dry-run");
    RUN(2, "--image-size 99999 is out of range", "--model vit_tiny_patch16_99999 --dry-run");
    RUN(0, "C 192, 12 blocks, 3 heads, 785 tokens", "--model vit_tiny_patch16_224 --patch 8 --classes 10 --dry-run");
    RUN(0, "timm's names", "--list");
}

// The file to resume from has all that is needed to evaluate it, or to start from it.
static void test_resume_file(void) {
    const char* model = "--model vit-mini --dim 16 --heads 1 --depth 1 --image-size 16";
    char want[200], got[200];
    RUN(0, "peak memory", "%s --steps 3 --output run", model);
    RUN(0, ": top-1", "--eval run/last.safetensors");
    last_result(want);
    RUN(0, "a file to resume from: its parameters are taken\n", "--eval run/last.resume.safetensors");
    last_result(got);
    CHECK(strcmp(want, got) == 0, "last.resume:%s, last:%s", got, want);
    RUN(0, "20 of 20 tensors loaded", "%s --init-from run/last.resume.safetensors --steps 1 --output again", model);
    CHECK(!said("left out"), "its moments need no line each: %s", output);
    RUN(0, "sizes      of run/last.safetensors, flags beside it win: vit-mini\n",
        "--init-from run/last.safetensors --mlp gr-kan --steps 1 --output ours");
    CHECK(said("vit-mini: C 16, 1 blocks, 1 heads, 17 tokens, 10 classes; attention softmax, mlp gr-kan"), "%s",
          output);
    CHECK(said("starts fresh: blocks.0.mlp.act1.weight_numerator") && said("20 of 24 tensors loaded"), "%s", output);
    RUN(0, "peak memory", "%s --steps 3 --model-ema-decay 0.9 --output run --overwrite", model);
    RUN(0, "its parameters are taken, not their running mean", "--eval run/last.resume.safetensors");
}

int main(void) {
    find_trainer();
    open_test_folder();
    trainer_flags = "--data toy --batch-size 4 --threads 1";
    save_data();
    test_prefixes();
    test_two_models();
    test_tokens();
    test_no_embed_class();
    test_pooling();
    test_little_fits();
    test_not_finite();
    test_other_tensors();
    test_dtypes();
    test_broken();
    test_sizes();
    test_names_of_models();
    test_resume_file();
    remove_test_folder();
    return tests_finish();
}
