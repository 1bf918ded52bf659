// metrics.jsonl: the rows of metrics.csv as JSON, one object per line, without the columns that a row leaves empty.
#pragma once
#include "log.h"

// {"step":N,...
static inline bool jsonl_parse(const char* line, size_t length, long long* step) {
    char* end;
    bool begins = strncmp(line, "{\"step\":", 8) == 0;
    *step = begins ? strtoll(line + 8, &end, 10) : 0;
    return begins && *end == ',' && strlen(line) == length && length > 2 && strcmp(line + length - 2, "}\n") == 0;
}

static const LogFormat metrics_as_jsonl = {"", jsonl_parse};

RUNS_ONCE static inline bool metrics_jsonl_open(Metrics* m, const char* path, int64_t keep_step, Error* err) {
    return log_open(m, path, &metrics_as_jsonl, keep_step, err);
}

// JSON has no NaN.
static inline void jsonl_number(FILE* out, const char* before, const char* name, const char* format, double value) {
    char text[64] = "null";
    if (isfinite(value)) { snprintf(text, sizeof text, format, value); }
    fprintf(out, "%s\"%s\":%s", before, name, text);
}

// p or e is NULL if the row is not about it.
static inline bool metrics_jsonl_row(Metrics* m, int64_t step, double epoch, const Progress* p, const Evaluation* e,
                                     Error* err) {
    const char* before = "{";
#define JSONL_VALUE(name, format, value) jsonl_number(m->file, before, #name, format, value); before = ",";
#define JSONL_TRAIN(name, format, value) if (p) { JSONL_VALUE(name, format, value) }
#define JSONL_TEST(name, format, value) if (e) { JSONL_VALUE(name, format, value) }
    METRICS_TABLE(JSONL_VALUE, JSONL_TRAIN, JSONL_TEST)
    fputs("}\n", m->file);
    return (fflush(m->file) == 0 && !ferror(m->file)) || metrics_unwritten(m->path, err);
}
