// A page around its parts: one file without scripts or external resources; light or dark by the reader's setting, and
// for the width of a phone as well as a desktop.
#pragma once
#include "analysis.h"

#define PAGE_MARK "<!doctype html><!-- kat.c report -->"

// Series have colours that are visible on dark as well; a raster picture keeps its white background.
static const char page_style[] =
    ":root{color-scheme:light dark;--ink:#1a1b1c;--muted:#606468;--grid:#d9dadb;--paper:#fff;--card:#f5f6f7;\n"
    "--c0:#0072b2;--c1:#d55e00;--c2:#009e73;--c3:#cc79a7;--c4:#e69f00;--c5:#56b4e9}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6e7e8;--muted:#a6abb0;--grid:#3a3e42;--paper:#15171a;\n"
    "--card:#1e2125;--c0:#4ba6e0;--c1:#ff8a3d;--c2:#2cc496;--c3:#e39bc2;--c4:#f0b840;--c5:#8ad0f5}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:68rem;background:var(--paper);color:var(--ink);\n"
    "font:1rem/1.5 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.2}h2{font-size:1.3rem;margin-top:2.5rem;border-bottom:1px solid var(--grid)}\n"
    "h3{font-size:1.05rem;margin:1.5rem 0 .5rem}h1,h2,h3,p,code,figcaption,summary{overflow-wrap:anywhere}\n"
    "a{color:var(--c0)}nav ul{padding-left:1.2rem}nav li{margin:.2rem 0}\n"
    "figure{margin:1.5rem 0}figcaption{color:var(--muted);font-size:.8rem;margin-top:.5rem}\n"
    ".panels{display:grid;gap:.75rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr))}\n"
    ".panels>*{display:block;width:100%;height:auto;max-width:36rem;background:var(--card);border-radius:.4rem}\n"
    ".panels>img{background:#fff}figure{overflow-x:auto}figure>img{display:block;width:100%;min-width:40rem;height:auto}\n"
    ".table{overflow-x:auto}table{border-collapse:collapse;font-size:.85rem;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;font-weight:600;padding:.5rem 0;max-width:calc(100vw - 2rem)}\n"
    "th,td{padding:.25rem .75rem .25rem 0;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}\n"
    "th:first-child,td:first-child{text-align:left}th{font-weight:600}th[scope=row]{font-weight:400}\n"
    "details{margin:1rem 0}summary{cursor:pointer}.missing{color:var(--muted)}\n";

// refresh: seconds after which it reloads itself; 0: never
static void page_begin(FILE* page, const char* title, int refresh) {
    fputs(PAGE_MARK "\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n", page);
    if (refresh) { fprintf(page, "<meta http-equiv=\"refresh\" content=\"%d\">\n", refresh); }
    fputs("<title>", page);
    html_text(page, title);
    fprintf(page, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<h1>", page_style);
    html_text(page, title);
    fputs("</h1>\n", page);
}

static void page_end(FILE* page) { fputs("</body>\n</html>\n", page); }

static void page_heading(FILE* page, const char* id, int number, const char* title) {
    fprintf(page, "<h2 id=\"%s%d\">", id, number);
    html_text(page, title);
    fputs("</h2>\n", page);
}

// Whether an option is listed: not if it depends on the machine, or is an action
static bool is_told(const Option* o) {
    return o->type != OPTION_GROUP && o->resume != RESUME_FREE;
}

// The options in which the runs differ, or all of them: one row per option, one column per run
static void page_options(FILE* page, const Run* runs, int count, bool all) {
    char* text = NULL;
    size_t size;
    FILE* rows = open_memstream(&text, &size);
    if (!rows) { fail(EXIT_RUN_TIME, "no memory for a page: close other programs"); }
    fputs("option", rows);
    for (int i = 0; i < count; i++) { fprintf(rows, "\t%s", runs[i].name); }
    fputc('\n', rows);
    for (int k = 0; k < CONFIG_OPTIONS; k++) {
        char first[OPTION_TEXT_SIZE], value[OPTION_TEXT_SIZE];
        bool differs = all;
        if (!is_told(&config_table[k])) { continue; }
        option_text(&runs[0].config, &config_table[k], first);
        for (int i = 1; i < count; i++) {
            differs = differs || strcmp(first, option_text(&runs[i].config, &config_table[k], value)) != 0;
        }
        if (!differs) { continue; }
        fprintf(rows, "--%s", option_name(&config_table[k]));
        for (int i = 0; i < count; i++) {
            fprintf(rows, "\t%s", option_text(&runs[i].config, &config_table[k], value));
        }
        fputc('\n', rows);
    }
    fclose(rows);
    table_html(page, all ? "Every option that shapes a run" : "Options in which they differ", text);
    free(text);
}

static void page_runs(FILE* page, const Run* runs, int count) {
    page_heading(page, "runs", 0, "Runs");
    if (count > 1) { page_options(page, runs, count, false); }
    fputs("<details><summary>Configuration</summary>\n", page);
    page_options(page, runs, count, true);
    fputs("</details>\n", page);
}

// Saves the whole page, under its name in the results.
static bool page_save(const Results* r, const char* name, const char* text, size_t size, Error* err) {
    char path[PATH_SIZE];
    Bytes bytes = {(uint8_t*)text, size};
    results_path(r, name, path);
    if (!results_may_replace(path, PAGE_MARK, err) || !write_bytes(path, &bytes, err)) { return false; }
    if (!r->quiet) { printf("\nwrote %s\n", path); }
    return true;
}
