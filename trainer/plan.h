// What a run is and costs, printed before anything is allocated.
#pragma once
#include "../model/cost.h"
#include "../model/parameters.h"
#include "../model/settings.h"
#include "../runtime/inlining.h"
#include <stdio.h>
#include <sys/resource.h>

// FLOPs for one image, forward and backward; the backward counts as twice the forward.
static double train_flops(const Model* m) { return 3 * 2 * model_macs(&m->config, m->dims); }

// The most memory that the process has held, in MB, according to the operating system
static double peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024e-6 * (double)usage.ru_maxrss;
}

// How long the run is, as far as that can be said without the number of training images
static void print_length(const Config* c) {
    printf("training   %d %s; a step is %d micro-batch%s of %d images\n", c->steps ? c->steps : c->epochs,
           c->steps ? "steps" : "epochs", c->grad_accum_steps, c->grad_accum_steps > 1 ? "es" : "", c->batch_size);
}

RUNS_ONCE static void print_plan(const Model* m, size_t data_bytes) {
    const Config* c = &m->config;
    Dims d = m->dims, first = dims_at(m, 0), shown = c->window ? first : d;
    char depth[OPTION_TEXT_SIZE], heads[OPTION_TEXT_SIZE];
    option_text(c, config_option("depth"), depth);
    option_text(c, config_option("heads"), heads);
    if (c->recipe != RECIPE_NONE) { settings_print(c); }
    printf("model      %s: C %d, %s blocks, %s heads, %d tokens, %d classes; attention %s, mlp %s\n",
           c->model, shown.C, depth, heads, shown.N, d.K, choice_name(config_option("attn")->choices, c->attn),
           choice_name(config_option("mlp")->choices, c->mlp));
    printf("parameters %zu in %d tensors\n", m->table.count, tensor_count(&m->table));
    print_memory(m, data_bytes);
    printf("compute    %.4f GMAC an image forward, %.3f GFLOP to train on it\n", 1e-9 * model_macs(c, d),
           1e-9 * train_flops(m));
    print_length(c);
}
