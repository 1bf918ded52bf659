// Shared by tests of the whole model, included after train_vit.c: models from flags, and batches of noise.
#pragma once
#include "kernel_test.h"
#include "config_from.h"

static void plan_model(Model* m, const char* flags, int classes) {
    Config c = config_from(flags);
    Error err;
    if (!model_plan(m, &c, classes, c.batch_size, &err)) { fail(EXIT_RUN_TIME, "%s: %s", flags, err.text); }
}

__attribute__((unused)) static void build_model(Model* m, const char* flags, int classes) {
    Error err;
    plan_model(m, flags, classes);
    if (!model_allocate(m, &err)) { fail(EXIT_RUN_TIME, "%s: %s", flags, err.text); }
}

// Builds the last block for all tokens, even if the head reads only the class token.
__attribute__((unused)) static void build_whole_model(Model* m, const char* flags, int classes) {
    Error err;
    plan_model(m, flags, classes);
    m->dims.NQ = m->dims.N;
    m->acts_table = activation_table(&m->config, m->dims, m->B);
    if (!model_allocate(m, &err)) { fail(EXIT_RUN_TIME, "%s: %s", flags, err.text); }
}

// A batch of noise: images (B,3,S,S), soft targets (B,K)
static Batch random_batch(const Model* m, int B) {
    int S = m->dims.S, K = m->dims.K;
    Batch batch = {
        .count = B,
        .images = alloc_floats((size_t)B * 3 * S * S, "test"),
        .targets = alloc_floats((size_t)B * K, "test"),
        .labels = alloc_bytes(sizeof(int) * (size_t)B, "test"),
    };
    for (int i = 0; i < B * 3 * S * S; i++) { batch.images[i] = (float)random_normal(1, STREAM_CHECK, 7, (uint64_t)i); }
    for (int b = 0; b < B; b++) {
        batch.labels[b] = b % K;
        for (int k = 0; k < K; k++) { batch.targets[b * K + k] = (float)(k == b % K ? 0.9 + 0.1 / K : 0.1 / K); }
    }
    return batch;
}

static void drop_batch(Batch* b) {
    free(b->images);
    free(b->targets);
    free(b->labels);
}
