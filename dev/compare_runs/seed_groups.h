// Runs that differ only by their seed, as one row: mean and standard deviation, and tests against a baseline.
#pragma once
#include "run_list.h"
#include "t_test.h"

typedef struct {
    const ListedRun** runs; // (count)
    size_t count;
    Running top1, top5, loss;
    double steps, seconds, images, gflop; // sums
    char label[512];        // its model, and the options that others do not share
    Unasked unasked;
    TTest test;             // of top-1, against the baseline's
    bool paired;
} SeedGroup;

typedef struct { SeedGroup* groups; size_t count, baseline; } SeedGroups;

static inline void seed_groups_free(SeedGroups* g) {
    for (size_t k = 0; k < g->count; k++) { free(g->groups[k].runs); }
    free(g->groups);
    *g = (SeedGroups){0};
}

static inline void group_add(SeedGroup* g, const ListedRun* r) {
    const RunSummary* s = &r->summary;
    g->runs[g->count++] = r;
    if (!isnan(s->top1)) {
        running_add(&g->top1, s->top1);
        running_add(&g->top5, s->top5);
        running_add(&g->loss, s->loss);
    }
    g->steps += isnan(s->step) ? 0 : s->step;
    g->seconds += s->seconds;
    g->images += s->images;
    g->gflop += s->gflop;
}

static inline double deviation(const Running* r) { return r->count > 1 ? sqrt(r->squares / (r->count - 1)) : NAN; }

// Whether any two groups differ in the option
static inline bool groups_differ_in(const SeedGroups* g, const Option* o) {
    for (size_t k = 1; k < g->count; k++) {
        if (!same_setting(&g->groups[0].runs[0]->config, &g->groups[k].runs[0]->config, o)) { return true; }
    }
    return false;
}

// "vit-tiny --lr 0.5": options set by model and recipe are not listed
static inline void group_label(const SeedGroups* g, SeedGroup* group) {
    const Config* c = &group->runs[0]->config;
    size_t used = (size_t)snprintf(group->label, sizeof group->label, "%.100s", c->model);
    without_flags(&group->unasked, c);
    for (int i = 0; i < CONFIG_OPTIONS && used < sizeof group->label; i++) {
        const Option* o = &config_table[i];
        char text[OPTION_TEXT_SIZE];
        bool shapes = o->type != OPTION_GROUP && (RESUME_ALL >> o->resume & 1);
        bool says = shapes && position_in("model|seed|init-from", option_name(o)) < 0;
        if (!says || !groups_differ_in(g, o) || setter_of(&group->unasked, c, o) != SET_BY_USER) { continue; }
        const char* value = o->resume == RESUME_PATH ? last_part(option_text(c, o, text)) : option_text(c, o, text);
        used += (size_t)snprintf(group->label + used, sizeof group->label - used, " --%s %s", option_name(o), value);
    }
}

static inline const ListedRun* run_of_seed(const SeedGroup* g, int seed) {
    for (size_t i = 0; i < g->count; i++) {
        if (g->runs[i]->config.seed == seed) { return g->runs[i]; }
    }
    return NULL;
}

// Whether both have the same seeds
static inline bool same_seeds(const SeedGroup* a, const SeedGroup* b) {
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) { same = run_of_seed(b, a->runs[i]->config.seed) != NULL; }
    for (size_t i = 0; same && i < b->count; i++) { same = run_of_seed(a, b->runs[i]->config.seed) != NULL; }
    return same;
}

static inline void group_test(SeedGroup* g, const SeedGroup* baseline) {
    Running differences = {0};
    g->paired = same_seeds(g, baseline);
    for (size_t i = 0; g->paired && i < g->count; i++) {
        running_add(&differences,
                    g->runs[i]->summary.top1 - run_of_seed(baseline, g->runs[i]->config.seed)->summary.top1);
    }
    g->test = g->paired ? t_test_paired(&differences) : t_test_welch(&g->top1, &baseline->top1);
}

// Finds the group that the run in this folder is in.
static inline bool find_baseline(SeedGroups* g, const char* folder, Error* err) {
    if (!*folder) { return true; }
    for (size_t k = 0; k < g->count; k++) {
        for (size_t i = 0; i < g->groups[k].count; i++) {
            if (!same_file(g->groups[k].runs[i]->folder, folder)) { continue; }
            g->baseline = k;
            return true;
        }
    }
    return set_error(err, "--baseline %s is none of the runs of the table: give the folder of one of them", folder);
}

// In the order of their first runs, which stay in place.
static inline bool group_by_seed(SeedGroups* g, const RunList* l, const char* baseline, Error* err) {
    g->groups = alloc_array(SeedGroup, l->count, "groups");
    for (size_t i = 0; i < l->count; i++) {
        size_t k = 0;
        while (k < g->count && !configs_are_seeds(&g->groups[k].runs[0]->config, &l->runs[i].config)) { k++; }
        if (k == g->count) { g->groups[g->count++].runs = alloc_array(const ListedRun*, l->count, "groups"); }
        group_add(&g->groups[k], &l->runs[i]);
    }
    if (!find_baseline(g, baseline, err)) { return false; }
    for (size_t k = 0; k < g->count; k++) { group_label(g, &g->groups[k]); }
    for (size_t k = 0; k < g->count; k++) { group_test(&g->groups[k], &g->groups[g->baseline]); }
    return true;
}

// ---- Written

// A text in a ring buffer, as in choice_name; "": none
__attribute__((format(printf, 1, 0)))
static inline const char* number_or_nothing(const char* format, double value) {
    static char texts[16][32];
    static int turn;
    char* text = texts[turn = (turn + 1) % 16];
    text[0] = 0;
    if (!isnan(value)) { snprintf(text, sizeof texts[0], format, value); }
    return text;
}

static inline double mean_or_nothing(const Running* r) { return r->count ? r->mean : NAN; }

// "86.94 ± 0.34"
static inline void mean_text(char text[64], const char* format, const Running* r) {
    bool spread = r->count > 1;
    snprintf(text, 64, "%s%s%s", r->count ? number_or_nothing(format, r->mean) : "-", spread ? " ± " : "",
             spread ? number_or_nothing(format, deviation(r)) : "");
}

static inline void test_text(char text[96], const SeedGroup* g, bool baseline) {
    if (baseline) { snprintf(text, 96, "baseline"); return; }
    int used = snprintf(text, 96, "%+.2f", g->test.difference);
    if (isnan(g->test.p)) { return; }
    snprintf(text + used, 96 - (size_t)used, ", %s t(%.3g) = %.2f, p = %.2g", g->paired ? "paired" : "Welch's",
             g->test.freedom, g->test.t, g->test.p);
}

static inline void groups_markdown(const SeedGroups* g) {
    Table t;
    table_begin(&t, "", "runs\tn\ttop-1, %\ttop-5, %\ttest loss\timages/s\thours\ttop-1 against the baseline");
    for (size_t k = 0; k < g->count; k++) {
        const SeedGroup* group = &g->groups[k];
        char top1[64], top5[64], loss[64], test[96];
        mean_text(top1, "%.2f", &group->top1);
        mean_text(top5, "%.2f", &group->top5);
        mean_text(loss, "%.4f", &group->loss);
        test_text(test, group, k == g->baseline);
        table_row(&t, "%s\t%zu\t%s\t%s\t%s\t%.1f\t%.3g\t%s", group->label, group->count, top1, top5, loss,
                  group->seconds > 0 ? group->images / group->seconds : 0, group->seconds / group->count / 3600, test);
    }
    fclose(t.out);
    table_markdown(t.text);
    free(t.text);
}

// Steps, PFLOP, hours: per run, without its evaluations
static inline void group_csv(const SeedGroup* g) {
    double n = (double)g->count;
    printf("%s,%zu,", csv_text(g->label), g->count);
    printf("%s,%s,", number_or_nothing("%.2f", mean_or_nothing(&g->top1)),
           number_or_nothing("%.2f", deviation(&g->top1)));
    printf("%s,%s,", number_or_nothing("%.2f", mean_or_nothing(&g->top5)),
           number_or_nothing("%.2f", deviation(&g->top5)));
    printf("%s,%s,", number_or_nothing("%.4f", mean_or_nothing(&g->loss)),
           number_or_nothing("%.4f", deviation(&g->loss)));
    for (size_t i = 0; i < g->count; i++) {
        printf("%s%s", i ? " " : "", number_or_nothing("%.2f", g->runs[i]->summary.top1));
    }
    putchar(',');
    for (size_t i = 0; i < g->count; i++) { printf("%s%d", i ? " " : "", g->runs[i]->config.seed); }
    printf(",%.0f,%.3g,%.1f,%.3g", floor(g->steps / n), 1e-6 * g->gflop / n,
           g->seconds > 0 ? g->images / g->seconds : 0, g->seconds / n / 3600);
    printf(",%s,%s,", number_or_nothing("%.4f", g->test.difference), g->paired ? "paired" : "welch");
    printf("%s,%s,%s\n", number_or_nothing("%.4g", g->test.t), number_or_nothing("%.4g", g->test.freedom),
           number_or_nothing("%.3g", g->test.p));
}

static inline void groups_csv(const SeedGroups* g) {
    printf("runs,n,top1,top1_sd,top5,top5_sd,loss,loss_sd,each_top1,seeds,steps,pflop,images_per_second,hours,difference,"
           "test,t,freedom,p\n");
    for (size_t k = 0; k < g->count; k++) { group_csv(&g->groups[k]); }
}
