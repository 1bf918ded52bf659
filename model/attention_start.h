// Applies --attn-init to randomly started parameters.
#pragma once
#include "impulse.h"

static inline void attention_start(const Config* c, const ParameterTable* table, Dims d, float* flat) {
    switch (c->attn_init) {
    case ATTN_INIT_MIMETIC: mimetic_init(table, d, (uint64_t)c->seed, flat); break;
    case ATTN_INIT_IMPULSE: impulse_init(table, d, positions_of(c, d), (uint64_t)c->seed, flat); break;
    }
}
