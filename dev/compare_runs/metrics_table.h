// A run's metrics.csv, column by column.
#pragma once
#include "../../runtime/log.h"
#include "../../runtime/texts.h"
#include "run_folder.h"

#define METRIC_CONSTANT(name, ...) METRIC_##name,
enum { METRICS_TABLE(METRIC_CONSTANT, METRIC_CONSTANT, METRIC_CONSTANT) };

typedef struct {
    int rows;
    double* column[METRICS_COLUMNS]; // (rows) NaN where a cell is empty
} MetricsTable;

static inline void metrics_table_free(MetricsTable* t) {
    for (int k = 0; k < METRICS_COLUMNS; k++) { free(t->column[k]); }
    *t = (MetricsTable){0};
}

static inline bool metrics_add_row(MetricsTable* t, size_t room[METRICS_COLUMNS], const char* line, Error* err) {
    for (int k = 0; k < METRICS_COLUMNS; k++) {
        double* grown = (double*)array_grow(t->column[k], (size_t)t->rows, &room[k], sizeof(double), err);
        char* end;
        if (!grown) { return false; }
        t->column[k] = grown;
        double value = strtod(line, &end);
        grown[t->rows] = end == line ? NAN : value;
        line += strcspn(line, ",\n");
        line += *line == ',';
    }
    t->rows++;
    return true;
}

// Also reads an unfinished run's: an incomplete last line does not count yet.
static inline bool metrics_read(MetricsTable* t, const char* folder, Error* err) {
    char path[PATH_SIZE], *line = NULL;
    size_t room = 0, rooms[METRICS_COLUMNS] = {0};
    long long step;
    ssize_t length;
    *t = (MetricsTable){0};
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    if (!in) { return set_error(err, "%s has no metrics.csv to read: let the run come to its first row", folder); }
    bool ok = (length = getline(&line, &room, in)) > 0 && strcmp(line, metrics_header()) == 0;
    if (!ok) { set_error(err, "%s does not begin with the columns of this version's log", path); }
    while (ok && (length = getline(&line, &room, in)) > 0 && line[length - 1] == '\n') {
        ok = metrics_parse(line, (size_t)length, &step) || set_error(err, "%s: '%.60s' is no row of a log", path, line);
        ok = ok && metrics_add_row(t, rooms, line, err);
    }
    fclose(in);
    free(line);
    if (ok && !t->rows) { ok = set_error(err, "%s has no rows yet: let the run go on", path); }
    if (!ok) { metrics_table_free(t); }
    return ok;
}

// The last value of a column, and the largest; NaN if there is none
static inline double metrics_last(const MetricsTable* t, int column) {
    double value = NAN;
    for (int i = 0; i < t->rows; i++) { value = isnan(t->column[column][i]) ? value : t->column[column][i]; }
    return value;
}

static inline double metrics_largest(const MetricsTable* t, int column) {
    double value = NAN;
    for (int i = 0; i < t->rows; i++) { value = fmax(value, t->column[column][i]); } // ignores NaN
    return value;
}

// The run's planned steps, by its configuration and log; 0: not known yet
static inline double steps_to_come(const Config* c, const MetricsTable* log) {
    double step = metrics_last(log, METRIC_step), epoch = metrics_last(log, METRIC_epoch);
    if (c->steps) { return c->steps; }
    return epoch > 0 ? round(c->epochs * step / epoch) : 0;
}
