// What an analysis is given, and what the table of analyze.c says of it.
#pragma once
#include "figure.h"
#include "../../data/progress.h"

enum { MAX_RUNS = 64 };

typedef struct Analyzer Analyzer;

typedef struct {
    Run* runs;
    int count;
    AnalyzeOptions options;
    Results results;
    const Analyzer* analyzers; // (analyzer_count) all that there are
    int analyzer_count;
    bool absent;               // what failed did so because the model has nothing of its kind
} Analysis;

struct Analyzer {
    const char* name;
    const char* words;   // that follow it: "RUN", "RUN [RUN...]"
    const char* options; // of analyze_options, those that it takes: "output|checkpoint"
    bool (*run)(Analysis* a, Error* err);
    const char* help;    // lines indented by 6
};

// Always false: a report goes on with the next analysis
__attribute__((format(printf, 3, 4)))
static inline bool nothing_to_analyze(Analysis* a, Error* err, const char* format, ...) {
    char text[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    a->absent = true;
    return set_error(err, "%s", text);
}

// What a caption says of a run: "runs/first (kat-mini-g3b, seed 1), checkpoint best of step 500"; checkpoint: "": none
static void subject_of(const Run* r, const char* checkpoint, int64_t step, char* text, size_t size) {
    int used = snprintf(text, size, "%s (%s, seed %d)", r->folder, r->config.model, r->config.seed);
    if (!*checkpoint || used < 0 || (size_t)used >= size) { return; }
    bool start = strcmp(checkpoint, "start") == 0;
    snprintf(text + used, size - (size_t)used, start ? ", before training" : ", checkpoint %s of step %lld", checkpoint,
             (long long)step);
}
