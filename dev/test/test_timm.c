// Folders as timm has them, model/timm_config.h: config.json of timm's present and earlier forms, damaged ones, what is
// taken of it for weights of another program, and that what is written reads back. That timm opens what is written is
// shown by dev/export/check_timm.py, which needs Python.
#include "../../model/settings.h"
#include "../../model/timm_config.h"
#include "kernel_test.h"
#include "trainer_process.h"

#ifdef HAVE_CJSON
#include "config_from.h"

static void write_text(const char* name, const char* text) { write_file(in_folder(name), text, strlen(text)); }

static bool read_config(TimmConfig* t, const char* text, Error* err) {
    write_text("config.json", text);
    return timm_config_read(t, in_folder("config.json"), err);
}

static void test_forms(void) {
    TimmConfig t;
    Error err;
    CHECK(read_config(&t,
                      "{\"architecture\": \"vit_tiny_patch16_224\", \"num_classes\": 2, \"label_names\": [\"n1\", \"n2\"],"
                          "\"label_descriptions\": {\"n2\": \"two\\nlines\", \"n1\": \"one\"}, \"model_args\": {\"num_heads\": 4,"
                          "\"act_layer\": \"relu\"}, \"pretrained_cfg\": {\"mean\": [0.1, 0.2, 0.3], \"std\": [0.5, 0.6, 0.7],"
                          "\"interpolation\": \"bilinear\", \"crop_pct\": 0.9, \"crop_mode\": \"center\"}}", &err), "%s", err.text);
    CHECK(strcmp(t.architecture, "vit_tiny_patch16_224") == 0 && strcmp(t.act_layer, "relu") == 0 &&
          strcmp(timm_arg(&t, "num_heads"), "4") == 0, "model");
    CHECK(t.normalizes && t.mean[1] == 0.2 && t.std[2] == 0.7 && t.crop_pct == 0.9, "images");
    CHECK(strcmp(t.interpolation, "bilinear") == 0 && strcmp(t.crop_mode, "center") == 0, "resampling");
    CHECK(strcmp(t.class_ids, "n1\nn2") == 0 && strcmp(t.class_names, "one\ntwo lines") == 0, "%s", t.class_names);
    timm_config_free(&t);
    CHECK(read_config(&t,
                      "{\"architecture\": \"deit_small_patch16_224\", \"mean\": [0.5, 0.5, 0.5], \"std\": [1, 1, 1],"
                          "\"crop_pct\": 0.875, \"label_names\": [\"a\", 7]}", &err), "%s", err.text);
    CHECK(t.normalizes && t.crop_pct == 0.875 && !*timm_arg(&t, "num_heads") && !t.class_ids, "one object");
    CHECK(strcmp(t.class_names, "a\n") == 0, "a name that is none: %s", t.class_names);
    timm_config_free(&t);
    CHECK(read_config(&t, "{}", &err) && !t.normalizes && !t.class_names && t.crop_pct == 0, "nothing said");
    static const char* const odd[] = {"{\"mean\": [0.5, 0.5], \"std\": [1, 1, 1]}", "{\"mean\": [0.5, 0.5, 0.5], \"std\": [1, 0, 1]}",
        "{\"mean\": [0.5, 0.5, 0.5, 0.5], \"std\": [1, 1, 1]}", "{\"mean\": 3, \"std\": \"x\", \"pretrained_cfg\": 7, \"model_args\": []}",
        "{\"mean\": [0.5, 0.5, \"a\"], \"std\": [1, 1, 1], \"label_names\": {\"0\": \"a\"}, \"label_descriptions\": 3}",
        "{\"mean\": [1e999, 0.5, 0.5], \"std\": [1, 1, 1]}", "{\"mean\": [0.5, 0.5, 0.5], \"std\": [1, 1e999, 1]}"};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        CHECK(read_config(&t, odd[i], &err) && !t.normalizes && !t.class_names, "%s", odd[i]);
    }
    static const char* const wrong[] = {"", "[]", "{", "{\"a\": 1} }x", "\"text\"", "nul"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        bool ok = read_config(&t, wrong[i], &err);
        CHECK(ok || strstr(err.text, "is not the JSON object that timm writes"), "%s: %s", wrong[i], err.text);
        CHECK(!ok || i == 3, "%s is taken", wrong[i]);
    }
}

// What is written says the same when it is read
static void test_round(const char* flags, const char* architecture) {
    Config c = config_from(flags);
    Dims d = dims_of(&c, 3);
    TimmConfig t;
    Error err;
    char names[] = "a \"b\"\\\té", ids[] = "n1\nn2\nn3"; // two of three have no name
    Preprocessing p = {.image_size = d.S, .classes = 3, .mean = {0.1, 1 / 3.0, 0.3}, .std = {0.2, 0.3, 1e-7}, .crop_pct = 0.9,
                       .interpolation = "bilinear", .class_names = names, .class_ids = ids};
    CHECK(timm_config_write(test_folder, &c, d, &p, &err) && timm_config_read(&t, in_folder("config.json"), &err), "%s",
          err.text);
    CHECK(strcmp(t.architecture, architecture) == 0 && atoi(timm_arg(&t, "num_heads")) == c.heads.value[0], "%s: %s",
          flags, t.architecture);
    CHECK(memcmp(t.mean, p.mean, sizeof t.mean) == 0 && memcmp(t.std, p.std, sizeof t.std) == 0 && t.crop_pct == 0.9,
          "%s", flags);
    CHECK(t.class_names && strcmp(t.class_names, "a \"b\"\\\té\nclass 1\nclass 2") == 0 &&
          strcmp(t.class_ids, ids) == 0, "%s", t.class_names);
    timm_config_free(&t);
}

static void test_known(void) {
    static const struct { const char* flags; bool known; } models[] = {
        {"--model vit-tiny", true}, {"--model vit-mini --pool avg --layer-scale 1e-5 --mlp prelu", true},
        {"--model kat-base", true}, {"--model kat-base --rational-form paper", false},
        {"--model kat-base --rational-groups 4", false}, {"--model vit-tiny --mlp softplus", false},
        {"--model vit-tiny --attn-gate", false}, {"--model vit-tiny-g3b", false}, {"--model kan-tiny", false},
        {"--model vit-tiny --attn sigmoid", false}, {"--model vit-tiny --mlp rational", false}};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        Config c = config_from(models[i].flags);
        CHECK(timm_knows(&c) == models[i].known, "%s", models[i].flags);
    }
}

static void test_mlp_ratio(void) {
    for (int C = 3; C < 400; C += 7) {
        for (double ratio = 0.34; ratio < 4.3; ratio += 0.37) {
            Config c = {.dim = C, .mlp_ratio = ratio};
            Dims d = {.C = C, .F = (int)lround(C * ratio)};
            CHECK((int)(C * timm_mlp_ratio(&c, d)) == d.F, "%d times %g is not %d", C, timm_mlp_ratio(&c, d), d.F);
        }
    }
}

// ---- Weights of another program, without our metadata

static void save_foreign(const char* folder, const char* flags, const char* config) {
    Config c = config_from(flags);
    ParameterTable table;
    Error err;
    Metadata none = {0};
    char path[600];
    CHECK(parameter_table(&table, &c, dims_of(&c, 10), &err), "%s", err.text);
    TensorBuffer weights = {"", alloc_floats(table.total, "test")};
    NamedTensor* tensors = named_tensors(&table);
    for (size_t i = 0; i < table.total; i++) { weights.flat[i] = 0.5f * (float)random_normal(3, STREAM_CHECK, 1, i); }
    mkdir(in_folder(folder), 0777);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    CHECK(checkpoint_save(in_folder(path), tensors, tensor_count(&table), &weights, 1, (FlatReader){0}, &none, &err),
          "%s", err.text);
    snprintf(path, sizeof path, "%s/config.json", folder);
    write_text(path, config);
    free(weights.flat);
    free(tensors);
    parameter_table_free(&table);
}

// Of the last run
static void last_result(char to[200]) {
    const char* at = strstr(output, ": top-1 ");
    snprintf(to, 200, "%.*s", at ? (int)strcspn(at, "\n") : 0, at ? at : "");
}

static void test_foreign(void) {
    char want[200], got[200];
    save_foreign("theirs", "--model vit-mini --dim 32 --heads 4 --depth 1 --patch 8 --image-size 16 --mlp relu",
                 "{\"architecture\": \"vit_small_patch16_224\", \"label_names\": [\"x\", \"y\"], \"model_args\": {\"num_heads\": 4,"
                 "\"act_layer\": \"relu\"}, \"pretrained_cfg\": {\"mean\": [0.5, 0.5, 0.5], \"std\": [0.5, 0.5, 0.5],"
                 "\"interpolation\": \"bilinear\", \"crop_pct\": 0.8}}");
    RUN(0, "theirs/config.json, flags beside it win: 4 heads, MLP relu; images bilinear, crop 80 %, mean 0.5 0.5 0.5, std 0.5",
        "--eval theirs");
    last_result(got);
    CHECK(said("1 blocks, 4 heads") && said("mlp relu"), "%s", output);
    RUN(0, "top-1",
        "--eval theirs/model.safetensors --heads 4 --mlp relu --normalize half --interpolation bilinear --crop-pct 0.8");
    last_result(want);
    CHECK(*got && strcmp(got, want) == 0, "by the folder%s, by flags%s", got, want);
    RUN(0, "top-1", "--eval theirs/ --crop-pct 1 --heads 1 --normalize imagenet");
    last_result(want);
    CHECK(strcmp(got, want) != 0 && said("1 blocks, 1 heads"), "flags do not win:%s,%s\n%s", got, want, output);
    RUN(0, "4 heads", "--init-from theirs --steps 1 --output begun");
    size_t n = 0;
    char* config = (char*)read_file(in_folder("begun/config.txt"), &n);
    config[n] = 0;
    CHECK(strstr(config, "\nnormalize half\n") && strstr(config, "\ncrop-pct 0.8\n") && strstr(config, "\nmlp relu\n")
          && strstr(config, "\ninterpolation bilinear\n"), "%s", config);
    free(config);
    write_text("theirs/config.json", "{\"crop_pct\": 7}");
    RUN(1, "theirs/config.json: --crop-pct 7 is out of range", "--eval theirs");
    write_text("theirs/config.json", "{\"pretrained_cfg\": ");
    RUN(1, "theirs/config.json is not the JSON object that timm writes", "--eval theirs");
    RUN(1, "is a folder: give the path of a .safetensors file", "--eval begun/..");
}

// What is no ViT has its sizes from the name and the arguments beside it.
static void test_foreign_stages(void) {
    char want[200], got[200];
    save_foreign("swin",
                 "--model swin-mini --dim 16 --heads 2,4 --depth 2,2 --image-size 16 --patch 2 --window-size 4 --classes 10",
                 "{\"architecture\": \"swin_tiny_patch4_window7_224\", \"model_args\": {\"img_size\": 16, \"patch_size\": 2,"
                 "\"embed_dim\": 16, \"depths\": [2, 2], \"num_heads\": [2, 4], \"window_size\": 4}}");
    RUN(0, "model      swin_tiny_patch4_window7_224: C 16, 2,2 blocks, 2,4 heads", "--eval swin --normalize half");
    last_result(got);
    RUN(0, "top-1", "--eval swin/model.safetensors --normalize half --model swin-mini --dim 16 --heads 2,4 --depth 2,2 "
        "--image-size 16");
    last_result(want);
    CHECK(*got && strcmp(strrchr(got, 'l'), strrchr(want, 'l')) == 0, "by the folder%s, by flags%s", got, want);
    RUN(0, "tensors loaded", "--init-from swin --steps 1 --output swun");
    CHECK(!said("starts fresh"), "%s", output);
    write_text("swin/config.json", "{\"architecture\": \"swin_tiny_patch4_window7_224\"}");
    RUN(1, "tensor patch_embed.proj.weight is (16,3,2,2) in the file and (96,3,4,4) in the model",
        "--eval swin --normalize half");
}

static void test_arguments(void) {
    Error err;
    TimmConfig t;
    Config c = config_from("--model vit-mini --pool avg");
    CHECK(read_config(&t,
                      "{\"architecture\": \"vit_tiny_patch16_224\", \"model_args\": {\"class_token\": false, \"global_pool\":"
                          "\"avg\", \"reg_tokens\": 4, \"no_embed_class\": true, \"embed_dim\": 7, \"qkv_bias\": false}}", &err) &&
          take_timm_model(&c, &t, &err), "%s", err.text);
    CHECK(c.fc_norm && c.reg_tokens == 4 && c.no_embed_class && !c.qkv_bias && c.dim == 96 && c.pool == POOL_AVG,
          "a ViT");
    CHECK(read_config(&t, "{\"architecture\": \"convit_small\", \"model_args\": {\"embed_dim\": 24, \"num_heads\": 5,"
                          "\"local_up_to_layer\": 2, \"depth\": 4, \"img_size\": [32, 32], \"patch_size\": 4}}", &err) &&
          take_timm_model(&c, &t, &err), "%s", err.text);
    CHECK(c.dim == 120 && c.heads.value[0] == 5 && c.local_blocks == 2 && ints_sum(c.depth) == 4 && c.image_size == 32,
          "ConViT");
    CHECK(read_config(&t, "{\"architecture\": \"convit_tiny\", \"model_args\": {\"embed_dim\": 16384,"
                          "\"num_heads\": 1000}}", &err) && !take_timm_model(&c, &t, &err) &&
          strstr(err.text, "--dim 16384000 is out of range"), "%s", err.text);
    CHECK(read_config(&t, "{\"model_args\": {\"global_pool\": \"map\"}}", &err) && !take_timm_model(&c, &t, &err) &&
          strstr(err.text, "--pool map is unknown"), "%s", err.text);
}

// Heads by the name of the architecture, where that is a model of this width
static void test_heads(void) {
    Config c = config_from("--model vit-mini --dim 384 --heads 12");
    TimmConfig t = {.architecture = "deit_small_patch16_224"};
    Error err;
    CHECK(take_timm_model(&c, &t, &err) && c.heads.value[0] == 6, "%d heads", c.heads.value[0]);
    c = config_from("--model vit-mini --dim 96 --heads 8");
    CHECK(take_timm_model(&c, &t, &err) && c.heads.value[0] == 8, "%d heads", c.heads.value[0]);
    for (int i = 0; i < TIMM_ARGS; i++) { snprintf(t.args[i], sizeof t.args[i], "%s", i == 7 ? "5000" : ""); }
    CHECK(!take_timm_model(&c, &t, &err) && strstr(err.text, "out of range"), "%s", err.text);
}

int main(void) {
    find_trainer();
    open_test_folder();
    trainer_flags = "--threads 1 --train-images 40 --test-images 40 --batch-size 8";
    test_forms();
    test_round("--model vit-tiny", "vit_tiny_patch16_224");
    test_round("--model vit-base --pool avg --image-size 384 --mlp silu", "vit_base_patch16_224");
    test_round("--model kat-small", "kat_small_patch16_224");
    test_round("--model kat-mini --layer-scale 1e-5", "kat_tiny_patch16_224");
    test_round("--model convit-small", "convit_small");
    test_round("--model swin-small", "swin_small_patch4_window7_224");
    test_round("--model swin-mini", "swin_tiny_patch4_window7_224");
    test_known();
    test_mlp_ratio();
    test_foreign();
    test_foreign_stages();
    test_arguments();
    test_heads();
    remove_test_folder();
    return tests_finish();
}
#else
int main(void) {
    printf("SKIPPED: this build has no cJSON\n");
    return tests_finish();
}
#endif
