// The input of an analysis, and its entry in the table of analyze.c.
#pragma once
#include "figure.h"
#include "../../data/progress.h"

typedef struct Analyzer Analyzer;
typedef enum { REPORT_NOT, REPORT_RUNS, REPORT_EACH } ReportPart; // in a report: not, once for all its runs, for each

typedef struct {
    Run* runs;
    int count;
    AnalyzeOptions options;
    bool given[ANALYZE_OPTIONS];
    Results results;
    const Analyzer* analyzers; // (analyzer_count) all of them
    int analyzer_count;
    bool absent;               // it failed because the model has nothing of the kind
} Analysis;

struct Analyzer {
    const char* name;
    const char* words;   // that follow it: "RUN", "RUN [RUN...]"
    const char* options; // the analyze_options that it takes: "output|checkpoint"
    ReportPart part;
    bool (*run)(Analysis* a, Error* err);
    const char* help;    // lines are indented by 6
};

// Always false: a report continues with the next analysis
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

// Analyses of the weights of all tokens for all tokens find none if attention is in windows.
static bool attends_to_all(Analysis* a, const Run* r, Error* err) {
    return !r->config.window ||
           nothing_to_analyze(a, err, "%s attends in windows: no token has weights for all tokens, which this "
                              "analysis is of", r->folder);
}

// Those of --blocks that have softmax or KArAt over all tokens; the last if none is named
static bool block_list(const Run* r, const char* which, int* blocks, int* count, Error* err) {
    int first = r->config.local_blocks;
    if (!number_list(*which ? which : "last", r->t.model.dims.L, "block", blocks, count, err)) { return false; }
    for (int i = 0; i < *count; i++) {
        if (blocks[i] < first) {
            return set_error(err, "block %d of %s has gated positional attention: give --blocks from %d on", blocks[i],
                             r->folder, first);
        }
    }
    return true;
}

// A run in a caption: "runs/first (kat-mini-g3b, seed 1), checkpoint best of step 500"; checkpoint: "": none
static void subject_of(const Run* r, const char* checkpoint, int64_t step, char* text, size_t size) {
    int used = snprintf(text, size, "%s (%s, seed %d)", r->folder, r->config.model, r->config.seed);
    if (!*checkpoint || used < 0 || (size_t)used >= size) { return; }
    bool start = strcmp(checkpoint, "start") == 0;
    snprintf(text + used, size - (size_t)used, start ? ", before training" : ", checkpoint %s of step %lld", checkpoint,
             (long long)step);
}

// Appends to the used part of a text; what does not fit is left out.
static size_t add_text(char* text, size_t size, size_t used, const char* more) {
    return used + strlen(strncat(text + used, more, size - 1 - used));
}

// Appends a space, and a word quoted for a shell.
static size_t add_word(char* text, size_t size, size_t used, const char* word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+:=@%,-";
    bool quoted = !*word || word[strspn(word, plain)];
    used = add_text(text, size, used, " ");
    if (quoted) { used = add_text(text, size, used, "'"); }
    for (; *word; word++) { used = add_text(text, size, used, *word == '\'' ? "'\\''" : (char[]){*word, 0}); }
    return quoted ? add_text(text, size, used, "'") : used;
}

// The command, to be typed again, without the options that do not change results: the output's place, number of cores
static void command_text(Analysis* a, const Analyzer* analyzer) {
    char *text = a->results.command, value[OPTION_TEXT_SIZE];
    size_t size = sizeof a->results.command, used = (size_t)snprintf(text, size, "./analyze %s", analyzer->name);
    for (int i = 0; i < a->count; i++) { used = add_word(text, size, used, a->runs[i].folder); }
    for (int i = 0; i < ANALYZE_OPTIONS; i++) {
        const char* name = option_name(&analyze_options[i]);
        bool takes = position_in(analyzer->options, name) >= 0 && position_in("output|threads|help", name) < 0;
        if (!a->given[i] || !takes) { continue; }
        char flag[80];
        snprintf(flag, sizeof flag, "--%s", name);
        used = add_word(text, size, used, flag);
        used = add_word(text, size, used, option_text(&a->options, &analyze_options[i], value));
    }
    hide_control_characters(text);
}
