// Analyses of finished runs: one command per question, each in a separate file beside this one. Numbers go to csv
// files, pictures to PNG and SVG (through gnuplot), tables to the standard output.
//
//   ./analyze curves runs/first                 ./analyze --help lists all
//
// The model, its weights and its evaluation are the trainer's: this program includes the trainer.
#pragma GCC diagnostic ignored "-Wunused-function" // functions that only the trainer's main calls
#define TESTING
#include "../../train_vit.c"
#include "analysis.h"
#include "attention.h"
#include "curves.h"
#include "functions.h"
#include "landscape.h"
#include "path.h"
#include "report.h"
#include "spectrum.h"
#include "transfer.h"
#include "watch.h"
#include "weights.h"

static const Analyzer analyzers[] = {
    {"curves", "RUN [RUN...]", "output|threads", REPORT_RUNS, curves,
     "      loss, accuracy, learning rate, gradient norm and images/s of the runs over each other; runs that differ\n"
     "      by their seed alone are one line, the mean, with a band of a standard deviation\n"},
    {"weights", "RUN", "checkpoints|blocks|heads|output|threads", REPORT_EACH, weights,
     "      how the weights are distributed: all, each kind of tensor, KArAt's coefficients and W of each head (of\n"
     "      the last block, or --blocks); kurtosis, share beyond 3 standard deviations\n"},
    {"functions", "RUN", "checkpoints|blocks|heads|data|batch-size|output|threads", REPORT_EACH,
     functions,
     "      the functions of KArAt's heads (of the last block, or --blocks) and the rationals of every block, over\n"
     "      the range of inputs that test images give them, at several checkpoints\n"},
    {"path", "RUN", "data|images|batch-size|output|threads", REPORT_EACH, path,
     "      the path of the weights over the saved checkpoints (--keep-every 1 of ./train_kat): distances, steps,\n"
     "      turns, and the loss of 1000 test images, or --images, on the straight line from start to end\n"},
    {"landscape", "RUN", "images|grid|directions|products|seed|data|batch-size|output|threads", REPORT_EACH,
     landscape,
     "      loss and accuracy over 1000 test images, or --images, on planes through the last weights, the trajectory\n"
     "      of the weights, curvature, local minima; long, and one that was stopped goes on by the same command\n"},
    {"attention", "RUN", "checkpoint|blocks|heads|images|files|box|mask|mass|data|batch-size|output|threads",
     REPORT_EACH, attention,
     "      what the class token looks at in the last block, or --blocks: maps of each head before and after the\n"
     "      operator; entropy, negative and positional share, over 64 test images, or --images, or --files\n"},
    {"spectrum", "RUN", "checkpoint|blocks|heads|images|data|batch-size|output|threads", REPORT_EACH, spectrum,
     "      singular values of attention's logits and weights in the last block, or --blocks, over heads and 5 test\n"
     "      images, or --images; ranks\n"},
    {"transfer", "RUN [RUN]", "checkpoint|maps|images|data|output|threads", REPORT_NOT, transfer,
     "      a fresh model of the second run, or else of the first, trained with the first's attention in the place of\n"
     "      its own: each image's map, or the mean one; it takes as long as training, and goes on where it stopped\n"},
    {"report", "RUN [RUN...]",
     "checkpoint|checkpoints|blocks|heads|images|grid|directions|products|data|batch-size|output|threads", REPORT_NOT,
     report,
     "      all of the above of these runs, on one page, report.html, which needs no other file\n"},
    {"watch", "RUN [RUN...]", "every|output", REPORT_NOT, watch,
     "      curves of a run that goes on, here and on a page that reloads itself, until the run is done\n"},
};
enum { ANALYZERS = sizeof analyzers / sizeof analyzers[0] };

// ---- help and usage

static void print_analyzer(FILE* out, const char* before, const Analyzer* a) {
    fprintf(out, "%s%s %s\n%s      takes", before, a->name, a->words, a->help);
    const char* separator = " ";
    for (int i = 0; i < ANALYZE_OPTIONS; i++) {
        if (position_in(a->options, option_name(&analyze_options[i])) < 0) { continue; }
        fprintf(out, "%s--%s", separator, option_name(&analyze_options[i]));
        separator = ", ";
    }
    fputc('\n', out);
}

// The usage of one analysis, or of all
static void print_usage(FILE* out, const Analyzer* a) {
    if (a) {
        print_analyzer(out, "usage: ./analyze ", a);
    } else {
        fprintf(out, "usage: ./analyze NAME RUN... [options]\n\nRUN is the folder of a run. The analyses:\n");
        for (int i = 0; i < ANALYZERS; i++) { print_analyzer(out, "  ", &analyzers[i]); }
    }
    fprintf(out, "\nOptions, each with its default:\n");
    for (int i = 0; i < ANALYZE_OPTIONS; i++) {
        bool its = !a || position_in(a->options, option_name(&analyze_options[i])) >= 0;
        if (its) { options_help(out, &analyze_options[i], 1); }
    }
}

__attribute__((noreturn))
static void fail_usage(const Analyzer* a, const char* reason) {
    if (a) { fail(EXIT_USAGE, "%s: ./analyze %s --help tells more", reason, a->name); }
    char names[1024] = "";
    for (int i = 0, used = 0; i < ANALYZERS; i++) {
        used += snprintf(names + used, sizeof names - (size_t)used, "%s%s", i ? "|" : "", analyzers[i].name);
    }
    fail(EXIT_USAGE, "%s: the analyses are %s; ./analyze --help tells all", reason, names);
}

// ---- the command line

typedef struct {
    char** words; // (count) the analysis, runs
    int count;
    AnalyzeOptions options;
    bool given[ANALYZE_OPTIONS];
} CommandLine;

static const Analyzer* find_analyzer(const char* name) {
    for (int i = 0; i < ANALYZERS && name; i++) {
        if (strcmp(analyzers[i].name, name) == 0) { return &analyzers[i]; }
    }
    return NULL;
}

static bool check_command_line(const Analyzer* a, const CommandLine* line, Error* err) {
    if (!line->count) { return set_error(err, "expected an analysis and a run"); }
    if (!a) { return set_error(err, "unknown analysis %s", line->words[0]); }
    if (line->count < 2) { return set_error(err, "expected after %s: %s", a->name, a->words); }
    if (line->count > 2 && !strchr(a->words, '[')) { return set_error(err, "%s takes one run", a->name); }
    for (int i = 0; i < ANALYZE_OPTIONS; i++) {
        const char* name = option_name(&analyze_options[i]);
        if (line->given[i] && strcmp(name, "help") != 0 && position_in(a->options, name) < 0) {
            return set_error(err, "--%s is no option of %s", name, a->name);
        }
    }
    return true;
}

static bool begin(Analysis* a, const Analyzer* analyzer, const CommandLine* line, Error* err) {
    char folder[PATH_SIZE];
    a->options = line->options;
    a->analyzers = analyzers;
    a->analyzer_count = ANALYZERS;
    a->count = line->count - 1;
    a->runs = alloc_array(Run, a->count, "runs");
    for (int i = 0; i < a->count; i++) {
        if (!run_open(&a->runs[i], line->words[i + 1], &a->options, err)) { return false; }
    }
    memcpy(a->given, line->given, sizeof a->given);
    command_text(a, analyzer);
    run_path(&a->runs[0], "analysis", folder);
    return results_open(&a->results, *a->options.output ? a->options.output : folder, err);
}

int main(int argc, char** argv) {
    static Analysis analysis;
    CommandLine line = {.words = argv};
    Error err;
    output_guard();
    start_with_sleeping_threads(argv);
    bool read = options_and_words(&line.options, analyze_options, ANALYZE_OPTIONS, argc, argv, &line.count, line.given,
                                  &err);
    const Analyzer* analyzer = find_analyzer(line.words[0]);
    if (!read) { fail_usage(analyzer, err.text); }
    if (line.options.help) {
        print_usage(stdout, analyzer);
        return 0;
    }
    if (!check_command_line(analyzer, &line, &err)) { fail_usage(analyzer, err.text); }
    threads_begin(line.options.threads);
    bool ok = begin(&analysis, analyzer, &line, &err) && analyzer->run(&analysis, &err);
    if (!ok) { fail(stop_requested ? EXIT_STOPPED : EXIT_RUN_TIME, "%s", err.text); }
    for (int i = 0; i < analysis.count; i++) { run_release(&analysis.runs[i]); }
    free(analysis.runs);
    results_close(&analysis.results);
    if (analysis.results.undrawn) {
        fail(EXIT_RUN_TIME, "gnuplot is missing, and %d pictures were not drawn: install gnuplot-nox; the numbers "
             "are in %s", analysis.results.undrawn, analysis.results.folder);
    }
    return 0;
}
