// Runs as a set: which there are and how they stand, results over those that differ only by their seed, and the options
// in which two of them differ.
//
//     ./compare_runs                         those under runs/; --help lists all
//     ./compare_runs table runs/a-s1 runs/a-s2 runs/b-s1 runs/b-s2
//     ./compare_runs diff runs/a-s1 runs/b-s1
#define _GNU_SOURCE // versionsort
#include "../../runtime/options.h"
#include "run_list.h"
#include "seed_groups.h"

enum { MARKDOWN, CSV };
typedef struct {
    char baseline[OPTION_TEXT_SIZE];
    int format, unfinished, help;
} CompareOptions;

static const Option compare_options[] = {
    {OPTION_TEXT, "baseline", offsetof(CompareOptions, baseline), "", 0, 0, "", RESUME_FREE,
     "table: one of the runs that others are compared with; default: the first"},
    {OPTION_CHOICE, "format", offsetof(CompareOptions, format), "markdown", 0, 0, "markdown|csv", RESUME_FREE,
     "table: how it is written; csv has more columns"},
    {OPTION_SWITCH, "unfinished", offsetof(CompareOptions, unfinished), "off", 0, 0, "", RESUME_FREE,
     "table: also runs that are not at their end, as far as they are"},
    {OPTION_SWITCH, "help|h", offsetof(CompareOptions, help), "off", 0, 0, "", RESUME_FREE, "print this and stop"},
};
enum { COMPARE_OPTIONS = sizeof compare_options / sizeof compare_options[0] };

static void print_usage(FILE* out) {
    fprintf(out, "usage: ./compare_runs [list] [FOLDER...]\n"
                 "      the runs in and under the folders, by default runs/: model, data, seed, epochs, top-1 ± standard\n"
                 "      error, images/s, and whether a run goes on, was stopped, is finished, or failed or was killed\n"
                 "   or: ./compare_runs table FOLDER... [options]\n"
                 "      finished runs, those that differ by their seed alone as one row: mean ± standard deviation, and\n"
                 "      t-tests of top-1 against a baseline: paired where the seeds are the same, else Welch's\n"
                 "   or: ./compare_runs diff RUN RUN\n"
                 "      the options that the two differ in\n\nOptions, each with its default:\n");
    options_help(out, compare_options, COMPARE_OPTIONS);
}

// ---- list

static void list_run(Table* t, const ListedRun* r) {
    const RunSummary* s = &r->summary;
    char epochs[64] = "-", top1[64] = "-", rate[32] = "-";
    if (!isnan(s->epoch)) { snprintf(epochs, sizeof epochs, "%.4g/%.4g", s->epoch, epochs_of_run(r)); }
    if (!isnan(s->top1)) { snprintf(top1, sizeof top1, "%.2f ± %.2f", s->top1, s->top1_se); }
    if (s->seconds > 0) { snprintf(rate, sizeof rate, "%.1f", s->images / s->seconds); }
    table_row(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s", r->folder, r->config.model, last_part(r->config.data),
              r->config.seed, epochs, top1, rate, run_state_names[r->state]);
}

static int list(const RunList* l) {
    Table t;
    table_begin(&t, "", "run\tmodel\tdata\tseed\tepochs\ttop-1, %\timages/s\tstate");
    for (size_t i = 0; i < l->count; i++) { list_run(&t, &l->runs[i]); }
    fclose(t.out);
    table_print(NULL, t.text);
    free(t.text);
    return 0;
}

// ---- diff

static int diff(const ListedRun* a, const ListedRun* b) {
    Table t;
    int count = 0;
    char columns[2 * FOLDER_SIZE + 16], text[2][OPTION_TEXT_SIZE];
    snprintf(columns, sizeof columns, "option\t%s\t%s", a->folder, b->folder);
    table_begin(&t, "", columns);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const Option* o = &config_table[i];
        bool shapes = o->type != OPTION_GROUP && (RESUME_ALL >> o->resume & 1);
        if (!shapes || same_setting(&a->config, &b->config, o)) { continue; }
        table_row(&t, "--%s\t%s\t%s", option_name(o), option_text(&a->config, o, text[0]),
                  option_text(&b->config, o, text[1]));
        count++;
    }
    fclose(t.out);
    if (count) { table_print(NULL, t.text); }
    else { printf("%s and %s differ in no option that shapes a run\n", a->folder, b->folder); }
    free(t.text);
    return 0;
}

// ---- table

static int table(RunList* l, const CompareOptions* o) {
    Error err;
    SeedGroups groups = {0};
    size_t left_out = o->unfinished ? 0 : run_list_keep_finished(l);
    if (!l->count) {
        fail(EXIT_RUN_TIME, "none of the %zu runs is finished: --unfinished takes them as far as they are", left_out);
    }
    if (!group_by_seed(&groups, l, o->baseline, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (o->format == CSV) { groups_csv(&groups); } else { groups_markdown(&groups); }
    if (left_out && o->format == MARKDOWN) { printf("\nNot finished, and left out: %zu\n", left_out); }
    seed_groups_free(&groups);
    return 0;
}

// ---- what to do

static int usage(const char* reason) { fail(EXIT_USAGE, "%s: ./compare_runs --help tells all", reason); }

int main(int argc, char** argv) {
    CompareOptions options;
    RunList runs = {0};
    Error err;
    int words, result;
    output_guard();
    bool read = options_and_words(&options, compare_options, COMPARE_OPTIONS, argc, argv, &words, NULL, &err);
    if (!read) { usage(err.text); }
    if (options.help) {
        print_usage(stdout);
        return 0;
    }
    const char* what = words ? argv[0] : "list";
    bool named = position_in("list|table|diff", what) >= 0;
    int first = words && named ? 1 : 0;
    if (words == first) { argv[first] = (char*)"runs"; }
    if (words == first && strcmp(what, "list") != 0) { usage("expected runs"); }
    for (int i = first; i < words || i == first; i++) {
        if (!run_list_add(&runs, argv[i], &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    }
    if (strcmp(what, "diff") == 0) {
        if (words != 3 || runs.count != 2) { usage("diff takes two runs"); }
        result = diff(&runs.runs[0], &runs.runs[1]);
    } else {
        result = strcmp(what, "table") == 0 ? table(&runs, &options) : list(&runs);
    }
    run_list_free(&runs);
    return result;
}
