// --dump-state: the first batch, all parameters and all gradients, for comparison with other implementations.
#pragma once
#include "../runtime/checkpoint.h"
#include "step.h"

RUNS_ONCE static int dump_state(Trainer* t, const char* path) {
    Model* m = &t->model;
    Dims d = m->dims;
    const Batch* batch = loader_next(&t->train_loader);
    float loss = (float)first_gradients(t, batch);
    int count = 4 + 2 * m->tensor_count;
    SafeTensorOut* out = alloc_array(SafeTensorOut, count, "a dump");
    char(*names)[128] = (char(*)[128])alloc_array(char, (size_t)count * 128, "a dump");
    out[0] = (SafeTensorOut){"input", 4, {batch->count, 3, d.S, d.S}, model_fetch_images(m, batch)};
    out[1] = (SafeTensorOut){"target", 2, {batch->count, d.K}, batch->targets};
    out[2] = (SafeTensorOut){"logits", 2, {batch->count, d.K}, model_logits(m)};
    out[3] = (SafeTensorOut){"loss", 1, {1}, &loss};
    const float *params = model_fetch(m, m->params), *grads = model_fetch(m, m->grads);
    for (int i = 0; i < 2 * m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i / 2];
        snprintf(names[i], sizeof names[i], "%s.%s", i % 2 ? "grad" : "param", p->name);
        const float* flat = i % 2 ? grads : params;
        out[4 + i] = (SafeTensorOut){.name = names[i], .rank = p->rank, .data = flat + p->offset};
        memcpy(out[4 + i].shape, p->shape, sizeof p->shape);
    }
    Metadata metadata = {0};
    Error err;
    metadata_add_config(&metadata, &m->config, config_table, CONFIG_OPTIONS);
    if (!safetensors_save(path, out, count, (const char* const (*)[2])metadata.pairs, metadata.count, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    printf("wrote %s: loss %.6f on %d images\n", path, loss, batch->count);
    metadata_free(&metadata);
    free(names);
    free(out);
    return 0;
}
