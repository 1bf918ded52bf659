// The rows of the parameter table by name, and one head's part of a tensor.
#pragma once
#include "run.h"

#define ROW_CONSTANT(field, ...) ROW_##field,
enum { PARAMETER_TABLE(ROW_CONSTANT) };

// Of block l; of a tensor that all blocks share, that
static inline const float* row_of_block(const Model* m, const float* flat, int row, int l) {
    const Parameter* p = &m->table.row[row];
    return p->size ? flat + p->offset + (p->copies > 1 ? (size_t)l * p->size : 0) : NULL;
}
