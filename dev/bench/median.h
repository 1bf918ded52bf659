// The median of a benchmark's rounds.
#pragma once
#include <stdlib.h>
#include <string.h>

enum { MEDIAN_VALUES = 101 };

static int compare_doubles(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

// At most MEDIAN_VALUES values, whose order is kept
static double median(const double* values, int count) {
    double sorted[MEDIAN_VALUES];
    memcpy(sorted, values, sizeof *values * (size_t)count);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    return count % 2 ? sorted[count / 2] : 0.5 * (sorted[count / 2 - 1] + sorted[count / 2]);
}
