// What one training step runs on the device, for dev/step_bytes/count.sh: the trainer's own forward, backward and
// update under the emulation of CUDA, which records every launch and product (EMU_RECORD). Notes between them name the
// part of the step to which they belong, as in --profile.
//
//     step_bytes_emu MODEL BATCH [flags of train_katcu]
//
// There are three blocks: the first, one that represents all in between, the last. The batch comes ready-made from the
// host, so that making it is not counted.
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#define TESTING
#include "../../runtime/profile.h"
static void note_part(const Profile* profile, int part);
#define profile_lap(profile, part) note_part(profile, part)
#include "../../train_vit.cu"

enum { COUNTED_DEPTH = 3, MAX_WORDS = 64 };

static void note_part(const Profile* profile, int part) {
    const char* direction = profile->direction == PROFILE_FORWARD ? "forward" : "backward";
    emu_note("part\t%s\t%s", part == PART_UPDATE ? "update" : direction, part_names[part]);
}

static Config configuration(int argc, char** argv) {
    static char model[] = "--model", batch[] = "--batch-size", precision[] = "--precision", bf16[] = "bf16",
                classes[] = "--classes", thousand[] = "1000", graph[] = "--cuda-graph", off[] = "off";
    char* words[MAX_WORDS] = {argv[0], model, argv[1], batch, argv[2], precision, bf16, classes, thousand, graph, off};
    int count = 11;
    Config config;
    Error err;
    for (int i = 3; i < argc && count < MAX_WORDS; i++) { words[count++] = argv[i]; }
    if (!config_parse(&config, NULL, count, words, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    return config;
}

static void plan(Model* m, const Config* config) {
    Error err;
    if (!model_plan(m, config, config->classes, config->batch_size, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

static Batch blank_batch(const Model* m) {
    size_t pixels = 3 * (size_t)m->dims.S * m->dims.S;
    Batch batch = {};
    batch.count = m->B;
    batch.images = alloc_array(float, m->B * pixels, "images");
    batch.targets = alloc_array(float, (size_t)m->B * m->dims.K, "targets");
    batch.labels = alloc_array(int, m->B, "labels");
    return batch;
}

static void run_step(Model* m, const Batch* batch) {
    model_gradients(m, batch, NULL, 1.0f / (float)m->B);
    model_update(m, m->config.lr, 1);
}

// The second step is counted, because products are planned in the first.
int main(int argc, char** argv) {
    static Model whole, m;
    Error err;
    if (argc < 3) { fail(EXIT_USAGE, "give a model and a batch size"); }
    Config config = configuration(argc, argv);
    plan(&whole, &config);
    config.depth = one_int(COUNTED_DEPTH);
    plan(&m, &config);
    if (!model_allocate(&m, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    Batch batch = blank_batch(&m);
    bool skipped = emu_skip(true);
    run_step(&m, &batch);
    emu_skip(skipped);
    model_prefetch(&m, &batch);
    emu_note("step\t%d\t%d\t%d\t%zu\t%zu\t%.6g", m.dims.N, m.dims.C, whole.dims.L, whole.table.total, m.table.total,
             train_flops(&whole));
    run_step(&m, &batch);
    return 0;
}
