// A model requested by a fuzz target's input: its table, and memory for its parameters.
#pragma once
#include "../../model/parameters.h"
#include "../../model/settings.h"

enum { FUZZ_PARAMETERS = 1 << 18 }; // larger models take long and show nothing else

typedef struct { ParameterTable table; NamedTensor* tensors; int count; float* params; } FuzzModel;

static bool fuzz_model_open(FuzzModel* m, const Config* c) {
    Error err;
    if (!parameter_table(&m->table, c, dims_of(c, c->classes ? c->classes : 10), &err)) { return false; }
    if (m->table.count > FUZZ_PARAMETERS) {
        parameter_table_free(&m->table);
        return false;
    }
    m->tensors = named_tensors(&m->table);
    m->count = tensor_count(&m->table);
    m->params = alloc_floats(m->table.total, "parameters");
    return true;
}

static void fuzz_model_close(FuzzModel* m) {
    parameter_table_free(&m->table);
    free(m->tensors);
    free(m->params);
}
