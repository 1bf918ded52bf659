// ./analyze report: every analysis that the table includes in it, of all runs or of each, on one page. What a model has
// nothing of, or what fails, is reported in its place; failures also at the end, as an error.
#pragma once
#include "web_page.h"

typedef struct {
    Analysis* a;
    FILE* page;
    int failures;
    Error first;   // failure
} Report;

// Adds one analysis of some of the runs to the page.
static void report_part(Report* r, const Analyzer* analyzer, Run* runs, int count, const char* suffix) {
    Analysis one = *r->a;
    Error err;
    one.runs = runs;
    one.count = count;
    one.absent = false;
    for (int i = 0; i < count; i++) { runs[i].options = &one.options; } // which an analysis may complete
    one.results.page = r->page;
    snprintf(one.results.suffix, sizeof one.results.suffix, "%s", suffix);
    command_text(&one, analyzer);
    printf("\n== %s\n", one.results.command);
    output_flush();
    bool ok = analyzer->run(&one, &err);
    for (int i = 0; i < count; i++) { runs[i].options = &r->a->options; }
    r->a->results.undrawn = one.results.undrawn;
    if (ok) { return; }
    output_take_back();
    printf("%s\n", err.text);
    fprintf(r->page, "<p class=\"missing\">%s: ", analyzer->name);
    html_text(r->page, err.text);
    fputs("</p>\n", r->page);
    if (!one.absent && r->failures++ == 0) { r->first = err; }
}

static void report_contents(FILE* page, const Run* runs, int count) {
    fputs("<nav><ul>\n<li><a href=\"#runs0\">Runs</a></li>\n<li><a href=\"#together0\">Comparison</a></li>\n", page);
    for (int i = 0; i < count; i++) {
        fprintf(page, "<li><a href=\"#run%d\">", i);
        html_text(page, runs[i].name);
        fputs("</a></li>\n", page);
    }
    fputs("</ul></nav>\n", page);
}

// Each run's files are named after it, and by its number if two have the same name.
static void report_suffix(const Run* runs, int count, int i, char suffix[132]) {
    bool twice = false;
    for (int k = 0; k < count; k++) { twice = twice || (k != i && strcmp(runs[k].name, runs[i].name) == 0); }
    suffix[0] = 0;
    if (twice) { snprintf(suffix, 132, "-%.100s-%d", runs[i].name, i + 1); }
    else if (count > 1) { snprintf(suffix, 132, "-%s", runs[i].name); }
}

static void report_parts(Report* r) {
    Analysis* a = r->a;
    page_runs(r->page, a->runs, a->count);
    page_heading(r->page, "together", 0, "Comparison");
    for (int k = 0; k < a->analyzer_count; k++) {
        if (a->analyzers[k].part == REPORT_RUNS) { report_part(r, &a->analyzers[k], a->runs, a->count, ""); }
    }
    for (int i = 0; i < a->count; i++) {
        char suffix[132];
        report_suffix(a->runs, a->count, i, suffix);
        page_heading(r->page, "run", i, a->runs[i].name);
        for (int k = 0; k < a->analyzer_count; k++) {
            if (a->analyzers[k].part == REPORT_EACH) { report_part(r, &a->analyzers[k], &a->runs[i], 1, suffix); }
        }
        run_release(&a->runs[i]);
    }
}

static bool report(Analysis* a, Error* err) {
    Report r = {.a = a};
    char *text = NULL, title[512] = "kat.c:";
    size_t size, used = strlen(title);
    r.page = open_memstream(&text, &size);
    if (!r.page) { return set_error(err, "no memory for a page: close other programs"); }
    for (int i = 0; i < a->count && used < sizeof title; i++) {
        used += (size_t)snprintf(title + used, sizeof title - used, "%s %s", i ? "," : "", a->runs[i].name);
    }
    page_begin(r.page, title, 0);
    fputs("<p>By <code>", r.page);
    html_text(r.page, a->results.command);
    fputs("</code>. The numbers behind every picture are in the csv files beside this page.</p>\n", r.page);
    report_contents(r.page, a->runs, a->count);
    report_parts(&r);
    page_end(r.page);
    fclose(r.page);
    bool ok = page_save(&a->results, "report.html", text, size, err);
    free(text);
    if (!ok || !r.failures) { return ok; }
    return set_error(err, "%d parts are missing in the report, the first as %s", r.failures, r.first.text);
}
