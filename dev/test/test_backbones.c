// Whole models against float64: timm's ViT with its variants, ConViT and Swin, with softmax and with KArAt in its
// place. dev/test/backbone_fixtures.txt, whose head says what it holds, has logits, loss and gradients of each;
// parameters and images are made from names, so that both start from the same numbers.
#pragma GCC diagnostic ignored "-Wunused-function" // what only main calls
#define TESTING
#include "../../train_vit.c"
#include "model_test.h"

enum { IMAGES = 2, CLASSES = 5 }; // of every case
static const char* const path = "dev/test/backbone_fixtures.txt";

// The models in this program's flags
#define VIT "--model vit-mini --image-size 32 --patch 8 --dim 24 --depth 2 --heads 4"
#define CONVIT "--model convit-mini --image-size 32 --patch 8 --dim 24 --depth 4 --heads 4 --local-blocks 2"
#define SWIN "--model swin-mini --image-size 32 --patch 2 --dim 8 --depth 2,2,2 --heads 2,2,4 --window-size 4"
#define KARAT " --attn karat --karat-rank 3 --grid 2"
static const struct { const char *name, *flags; } cases[] = {
    {"vit-token", VIT},
    {"vit-karat-block", VIT KARAT},
    {"vit-karat-universal", VIT KARAT " --karat-mode universal"},
    {"vit-token-reg2", VIT " --reg-tokens 2 --no-embed-class --layer-scale 1"},
    {"vit-gap-reg2", VIT " --reg-tokens 2 --no-embed-class --layer-scale 1 --pool avg --fc-norm"},
    {"vit-gap", VIT " --qkv-bias off --layer-scale 1 --pool avg"},
    {"convit", CONVIT},
    {"convit-karat-block", CONVIT KARAT},
    {"convit-karat-universal", CONVIT KARAT " --karat-mode universal"},
    {"swin", SWIN},
    {"swin-karat-literal", SWIN KARAT " --karat-mask literal"},
    {"swin-karat-region", SWIN KARAT " --karat-mask region"},
};

// ---- Values from names

// k of element i, -32768 to 32767; hash: name_hash of what the values are of
static int whole_number(uint32_t hash, size_t i) {
    uint32_t x = hash + (uint32_t)i * 0x9E3779B1u;
    x ^= x >> 16, x *= 0x85EBCA6Bu;
    x ^= x >> 13, x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return (int)(x >> 16) - 32768;
}

// Returns their sum
static double fill_from_name(float* values, size_t n, const char* name, double base, double amplitude) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        values[i] = (float)(base + amplitude * whole_number(name_hash(name), i) / 32768);
        sum += values[i];
    }
    return sum;
}

// ---- The file

enum { PROBES = 5, MOST_TENSORS = 128 };

typedef struct {
    char name[96], shape[64];
    double base, amplitude, values; // the last: their sum
    double sum, sum_abs, dot, probe[PROBES]; // of the gradient
} Tensor;

typedef struct {
    char name[64];
    int parameters, tensor_count;
    double logits[IMAGES][CLASSES], loss;
    Tensor tensor[MOST_TENSORS];
} Case;

static bool read_line(Case* c, const char* line) {
    int b;
    double v[CLASSES];
    Tensor* t = &c->tensor[c->tensor_count];
    if (sscanf(line, "logits %d %lf %lf %lf %lf %lf", &b, v, v + 1, v + 2, v + 3, v + 4) == 6 && b >= 0 && b < IMAGES) {
        memcpy(c->logits[b], v, sizeof v);
        return true;
    }
    if (sscanf(line, "tensor %95s shape %63s base %lf amplitude %lf values %lf grad %lf abs %lf dot %lf at "
               "%lf %lf %lf %lf %lf", t->name, t->shape, &t->base, &t->amplitude, &t->values, &t->sum, &t->sum_abs,
               &t->dot, t->probe, t->probe + 1, t->probe + 2, t->probe + 3, t->probe + 4) == 13) {
        return ++c->tensor_count < MOST_TENSORS;
    }
    return sscanf(line, "parameters %d", &c->parameters) == 1 || sscanf(line, "loss %lf", &c->loss) == 1 ||
           strncmp(line, "flags ", 6) == 0 || strncmp(line, "trace ", 6) == 0 || *line == '#';
}

static bool read_case(Case* c, FILE* in) {
    char line[1024];
    *c = (Case){0};
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "case %63s", c->name) == 1) { break; }
    }
    while (*c->name && fgets(line, sizeof line, in) && strcmp(line, "end\n") != 0) {
        CHECK(read_line(c, line), "%s: cannot read %s", c->name, line);
    }
    return *c->name != 0;
}

// ---- The comparison. Observed: logits 6e-6; gradients 2e-5 of their tensor's mean size, 1.2e-4 in Swin with KArAt,
// where six blocks of sines follow one another.

static const NamedTensor* own_tensor(const Model* m, const char* name) {
    for (int i = 0; i < m->tensor_count; i++) {
        if (strcmp(m->tensors[i].name, name) == 0) { return &m->tensors[i]; }
    }
    return NULL;
}

// Every tensor of the case with its values
static bool take_parameters(Model* m, const Case* c) {
    bool all = CHECK(m->tensor_count == c->tensor_count && (int)m->table.count == c->parameters,
                     "%s: %zu parameters in %d tensors, not %d in %d", c->name, m->table.count, m->tensor_count,
                     c->parameters, c->tensor_count);
    for (int i = 0; i < c->tensor_count; i++) {
        const Tensor* t = &c->tensor[i];
        const NamedTensor* own = own_tensor(m, t->name);
        char shape[128], want[70];
        all &= CHECK(own != NULL, "%s: there is no tensor %s", c->name, t->name);
        if (!own) { continue; }
        snprintf(want, sizeof want, "(%s)", t->shape);
        for (char* x = want; *x; x++) { *x = *x == 'x' ? ',' : *x; }
        all &= CHECK(strcmp(shape_text(own->rank, own->shape, shape), want) == 0, "%s: %s is %s, not %s", c->name,
                     t->name, shape, want);
        double sum = fill_from_name(m->params + own->offset, own->size, t->name, t->base, t->amplitude);
        CHECK_NEAR(sum, t->values, 1e-12 * (1 + fabs(t->values)), t->name);
    }
    return all;
}

static double mean_size(const Tensor* t, const NamedTensor* own) { return t->sum_abs / (double)own->size; }

// noise: what may be left of a gradient that is exactly 0
static void check_gradient(const Case* c, const Tensor* t, const NamedTensor* own, const float* grad, double noise) {
    size_t n = own->size;
    double limit = 3e-4 * mean_size(t, own) + noise, dot = 0;
    char full[128];
    snprintf(full, sizeof full, "grad.%s", t->name);
    for (size_t i = 0; i < n; i++) { dot += grad[i] * whole_number(name_hash(full), i) / 32768.0; }
    CHECK(fabs(dot - t->dot) <= limit * sqrt((double)n), "%s: gradient of %s, dot product %.9g, not %.9g", c->name,
          t->name, dot, t->dot);
    for (size_t i = 0; i < PROBES; i++) {
        size_t at = i < PROBES - 1 ? i * n / 4 : n - 1;
        CHECK(fabs(grad[at] - t->probe[i]) <= limit, "%s: gradient of %s at %zu: %.9g, not %.9g", c->name, t->name, at,
              grad[at], t->probe[i]);
    }
}

static void check_gradients(const Model* m, const Case* c) {
    double largest = 0;
    for (int i = 0; i < c->tensor_count; i++) {
        double size = mean_size(&c->tensor[i], own_tensor(m, c->tensor[i].name));
        largest = size > largest ? size : largest;
    }
    for (int i = 0; i < c->tensor_count; i++) {
        const NamedTensor* own = own_tensor(m, c->tensor[i].name);
        check_gradient(c, &c->tensor[i], own, m->grads + own->offset, 1e-6 * largest);
    }
}

static void check_forward(Model* m, const Case* c, const float* images, const float* targets) {
    model_forward(m, m->params, images, IMAGES, NULL);
    CHECK_NEAR(model_loss(m, targets, IMAGES), c->loss, 2e-5, c->name);
    for (int b = 0; b < IMAGES; b++) {
        for (int k = 0; k < CLASSES; k++) {
            CHECK_NEAR(model_logits(m)[b * CLASSES + k], c->logits[b][k], 2e-5, c->name);
        }
    }
}

static void check_case(const Case* c, const char* flags) {
    Model m;
    char all[512];
    snprintf(all, sizeof all, "%s --batch-size %d", flags, IMAGES);
    build_model(&m, all, CLASSES);
    int S = m.dims.S;
    float *images = guarded_floats((size_t)IMAGES * 3 * S * S), targets[IMAGES * CLASSES] = {0};
    fill_from_name(images, (size_t)IMAGES * 3 * S * S, "input", 0, 2);
    for (int b = 0; b < IMAGES; b++) { targets[b * CLASSES + (3 * b + 1) % CLASSES] = 1; }
    if (take_parameters(&m, c)) {
        check_forward(&m, c, images, targets);
        model_zero_gradients(&m);
        model_backward(&m, targets, IMAGES, NULL, 1.0f / IMAGES);
        check_gradients(&m, c);
    }
    free(images);
    model_free(&m);
}

static const char* flags_of(const char* name) {
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strcmp(cases[i].name, name) == 0) { return cases[i].flags; }
    }
    return NULL;
}

// ---- Parameters of the named models

static void test_counts(void) {
    static const struct { const char* model; size_t of_1000, of_100, of_10; } rows[] = { // 0: not printed anywhere
        {"convit-tiny", 5710512, 5536812, 5519442}, {"convit-small", 27777322, 27387622, 27348652},
        {"convit-base", 86540040, 85847940, 85778730}, {"convit-mini", 0, 0, 458354},
        {"swin-tiny", 28288354, 27596254, 27527044}, {"swin-small", 49606258, 48914158, 48844948},
        {"swin-base", 87768224, 86845724, 86753474}, {"swin-mini", 0, 0, 1267670},
        {"convit-tiny-g3b", 5880720, 0, 5689650}, {"convit-tiny-g3u", 5795616, 0, 5604546},
        {"swin-tiny-g3b", 29018650, 0, 28257340}, {"swin-tiny-g3u", 28288354 + 238140, 0, 27527044 + 238140},
        {"convit_tiny.fb_in1k", 5710512, 0, 0}, {"swin_tiny_patch4_window7_224", 28288354, 0, 0},
        {"vit_small_patch32_224", 22878952, 0, 22497802}, {"deit_tiny_patch16_224", 5717416, 0, 5526346}};
    const int classes[] = {1000, 100, 10};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const size_t want[] = {rows[i].of_1000, rows[i].of_100, rows[i].of_10};
        char flags[128];
        snprintf(flags, sizeof flags, "--model %s", rows[i].model);
        for (int k = 0; k < 3; k++) {
            Model m;
            plan_model(&m, flags, classes[k]);
            CHECK(!want[k] || m.table.count == want[k], "%s with %d classes has %zu parameters, not %zu", rows[i].model,
                  classes[k], m.table.count, want[k]);
            model_free(&m);
        }
    }
}

// How many tensors decay, of how many
static void test_decay(const char* flags, int decayed, int all) {
    Model m;
    int count = 0;
    plan_model(&m, flags, 1000);
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(&m.table, i); l++) {
            const Parameter* p = &m.table.row[l][i];
            count += p->size > 0 && p->group == UPDATE_DECAYED;
        }
    }
    CHECK(count == decayed && tensor_count(&m.table) == all, "%s: %d of %d tensors decay, not %d of %d", flags, count,
          tensor_count(&m.table), decayed, all);
    model_free(&m);
}

// ---- How GPSA starts: heads look at the four patches, or nine, around their own, sharply; values as they are

static void test_local_start(void) {
    static const float four[4][3] = {{-1, -1, -1}, {-1, 1, -1}, {1, -1, -1}, {1, 1, -1}};
    Model m;
    build_model(&m, CONVIT " --batch-size 2 --locality-strength 2", CLASSES);
    Params p = params_of_block(&m.table, m.params, 1);
    int wrong = 0, C = m.dims.C;
    for (int i = 0; i < 12; i++) { wrong += p.position[i] != 2 * four[i / 3][i % 3]; }
    for (int i = 0; i < C * C; i++) { wrong += p.v_weight[i] != (i / C == i % C); }
    for (int h = 0; h < 4; h++) { wrong += p.gating[h] != 1 || p.position_bias[h] != 0; }
    CHECK(wrong == 0, "%d values of GPSA start otherwise", wrong);
    CHECK(!p.qkv_weight && params_of_block(&m.table, m.params, 2).qkv_weight, "the wrong blocks have GPSA");
    model_free(&m);
}

// ---- A Swin's file in the names of its authors, with what they keep beside the parameters

static void save_as_authors(const Model* m, const char* file_path) {
    enum { MOST = 128 };
    static char names[MOST][NAME_SIZE];
    static SafeTensorOut out[MOST];
    static const float derived[16] = {0};
    Error err;
    int count = m->tensor_count;
    for (int i = 0; i < count; i++) {
        const NamedTensor* t = &m->tensors[i];
        int stage, used = 0;
        snprintf(names[i], NAME_SIZE, "model.%.80s", t->name);
        if (sscanf(t->name, "layers.%d.downsample.%n", &stage, &used) == 1 && used) {
            snprintf(names[i], NAME_SIZE, "model.layers.%d.downsample.%.40s", stage - 1, t->name + used);
        }
        if (strncmp(t->name, "head.fc.", 8) == 0) { snprintf(names[i], NAME_SIZE, "model.head.%.40s", t->name + 8); }
        out[i] = (SafeTensorOut){.name = names[i], .rank = t->rank, .data = m->params + t->offset};
        memcpy(out[i].shape, t->shape, sizeof t->shape);
    }
    out[count++] = (SafeTensorOut){"model.layers.0.blocks.0.attn.relative_position_index", 2, {4, 4}, derived};
    out[count++] = (SafeTensorOut){"model.layers.0.blocks.1.attn_mask", 1, {16}, derived};
    CHECK(safetensors_save(file_path, out, count, NULL, 0, &err), "%s", err.text);
}

static void test_authors_names(void) {
    char file_path[] = "/tmp/kat-test-XXXXXX";
    static Model from, to;
    Error err;
    SafeTensors file;
    int handle = mkstemp(file_path);
    build_model(&from, SWIN " --seed 1", CLASSES);
    build_model(&to, SWIN " --seed 2", CLASSES);
    save_as_authors(&from, file_path);
    CHECK(safetensors_open(&file, file_path, &err), "%s", err.text);
    for (int evaluates = 0; evaluates < 2; evaluates++) {
        memset(to.params, 0, to.table.total * sizeof(float));
        bool loaded = load_foreign_weights(&file, to.tensors, to.tensor_count, to.params, evaluates, false, &err);
        CHECK(loaded, "%s", err.text);
        CHECK(memcmp(from.params, to.params, from.table.total * sizeof(float)) == 0, "other weights came back");
    }
    safetensors_close(&file);
    close(handle);
    unlink(file_path);
    model_free(&from);
    model_free(&to);
}

// A file without a configuration is the named model that has its sizes.
static void test_sizes_of_file(const char* name, bool has_name, const char* more) {
    char file_path[] = "/tmp/kat-test-XXXXXX", flags[128];
    Model m;
    Error err;
    SafeTensors file;
    Config c = config_from("--batch-size 2");
    int handle = mkstemp(file_path);
    snprintf(flags, sizeof flags, "--model %s --batch-size 2 %s", name, more);
    build_model(&m, flags, CLASSES);
    save_as_authors(&m, file_path);
    CHECK(safetensors_open(&file, file_path, &err), "%s", err.text);
    bool read = config_from_tensors(&c, &file, true, &err);
    if (CHECK(read == has_name, "%s: %s", name, err.text) && read) {
        CHECK(strcmp(c.model, name) == 0 && c.classes == CLASSES, "%s of %d classes, not %s", c.model, c.classes, name);
        CHECK(c.window == m.config.window && c.local_blocks == m.config.local_blocks && c.pool == m.config.pool &&
              c.qkv_bias == m.config.qkv_bias && c.heads.value[0] == m.config.heads.value[0], "%s: other sizes", name);
    }
    safetensors_close(&file);
    close(handle);
    unlink(file_path);
    model_free(&m);
}

int main(void) {
    static Case c;
    FILE* in = fopen(path, "r");
    int checked = 0;
    if (!in) { perror(path); return 1; }
    while (read_case(&c, in)) {
        const char* flags = flags_of(c.name);
        if (!flags) { continue; }
        check_case(&c, flags);
        checked++;
    }
    fclose(in);
    CHECK(checked == (int)(sizeof cases / sizeof cases[0]), "%d cases are not in %s", checked, path);
    test_counts();
    test_decay("--model convit-tiny", 70, 180);
    test_decay("--model swin-tiny", 53, 173);
    test_local_start();
    test_authors_names();
    test_sizes_of_file("swin-mini", true, "");
    test_sizes_of_file("convit-mini", true, "");
    test_sizes_of_file("swin-mini", false, "--depth 2,2,4");
    test_sizes_of_file("convit-mini", false, "--dim 24");
    return tests_finish();
}
