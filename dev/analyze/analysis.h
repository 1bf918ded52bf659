// What an analysis is given, and what the table of analyze.c says of it.
#pragma once
#include "figure.h"
#include "../../data/progress.h"

enum { MAX_RUNS = 64 };

typedef struct {
    Run* runs;
    int count;
    AnalyzeOptions options;
    Results results;
} Analysis;

typedef struct {
    const char* name;
    const char* words;   // that follow it: "RUN", "RUN [RUN...]"
    const char* options; // of analyze_options, those that it takes: "output|checkpoint"
    bool (*run)(Analysis* a, Error* err);
    const char* help;    // lines indented by 6
} Analyzer;

// What a caption says of a run: "runs/first (kat-mini-g3b, seed 1), checkpoint best of step 500"; checkpoint: "": none
static void subject_of(const Run* r, const char* checkpoint, int64_t step, char* text, size_t size) {
    int used = snprintf(text, size, "%s (%s, seed %d)", r->folder, r->config.model, r->config.seed);
    if (!*checkpoint || used < 0 || (size_t)used >= size) { return; }
    bool start = strcmp(checkpoint, "start") == 0;
    snprintf(text + used, size - (size_t)used, start ? ", before training" : ", checkpoint %s of step %lld", checkpoint,
             (long long)step);
}
