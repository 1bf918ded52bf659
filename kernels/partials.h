// Sums over rows that have the same bits for any number of threads. The rows are cut into parts that depend on the
// shape only; each part writes its own sums, and the parts are then added in order.
#pragma once
#include "../runtime/inlining.h"
#include <stddef.h>

enum { PART_ROWS = 32, PART_COLUMNS = 64 };

static inline int part_count(int rows) { return (rows + PART_ROWS - 1) / PART_ROWS; }

static inline int part_length(int rows, int part) {
    int rest = rows - part * PART_ROWS;
    return rest < PART_ROWS ? rest : PART_ROWS;
}

// sum[i] += the column sums of partials (parts, n)
NEVER_INLINE void add_partials(float* sum, const float* partials, int parts, int n) {
    #pragma omp parallel for schedule(static)
    for (int first = 0; first < n; first += PART_COLUMNS) {
        int width = n - first < PART_COLUMNS ? n - first : PART_COLUMNS;
        double total[PART_COLUMNS] = {0};
        for (int part = 0; part < parts; part++) {
            const float* row = partials + (size_t)part * n + first;
            for (int i = 0; i < width; i++) { total[i] += row[i]; }
        }
        for (int i = 0; i < width; i++) { sum[first + i] += (float)total[i]; }
    }
}
