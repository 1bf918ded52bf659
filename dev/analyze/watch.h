// ./analyze watch: the curves of unfinished runs, in the terminal and on a page, watch.html, which reloads itself.
#pragma once
#include "curves.h"
#include "web_page.h"

// The progress of a run, in one line; whether it is done
static bool watch_line(const Run* r, const MetricsTable* log, char* line, size_t size) {
    char eta[32];
    double step = metrics_last(log, METRIC_step), total = steps_to_come(&r->config, log);
    double left = 1e-3 * metrics_last(log, METRIC_ms_per_step) * (total - step);
    bool done = total > 0 && step >= total;
    duration_text(left, eta);
    snprintf(line, size, "%s | step %.0f/%.0f | loss %.4f | acc %.2f %% | test %.2f %% | %s%s", r->name, step, total,
             metrics_last(log, METRIC_train_loss), metrics_last(log, METRIC_train_accuracy),
             metrics_last(log, METRIC_test_top1), done ? "done" : "eta ", done ? "" : eta);
    return done;
}

// A panel of the curves drawn with characters
static bool watch_panel(const Results* results, int panel, Error* err) {
    char script[PATH_SIZE], settings[96];
    Bytes picture;
    int columns = terminal_columns() < 150 ? terminal_columns() - 1 : 150;
    results_path(results, "curves.gp", script);
    snprintf(settings, sizeof settings, "format='dumb'; panel=%d; columns=%d; lines=16", panel, columns);
    if (!gnuplot_draw(script, settings, &picture, err)) { return false; }
    fputs((const char*)picture.bytes, stdout);
    free(picture.bytes);
    return true;
}

static bool watch_page(Analysis* a, char* text, size_t size, Error* err) {
    return page_save(&a->results, "watch.html", text, size, err);
}

// One update: page, pictures, terminal. done: every run has ended
static bool watch_look(Analysis* a, bool* done, Error* err) {
    char *text = NULL, line[512];
    size_t size;
    FILE* page = open_memstream(&text, &size);
    if (!page) { return set_error(err, "no memory for a page: close other programs"); }
    if (terminal_rewrites()) { fputs("\033[H\033[J", stdout); }
    *done = true;
    page_begin(page, "kat.c: training", a->options.every);
    bool ok = true;
    for (int i = 0; ok && i < a->count; i++) {
        MetricsTable log;
        ok = metrics_read(&log, a->runs[i].folder, err);
        if (!ok) { break; }
        *done = watch_line(&a->runs[i], &log, line, sizeof line) && *done;
        metrics_table_free(&log);
        a->results.page = page;
        results_note(&a->results, line);
    }
    a->results.quiet = true;
    ok = ok && curves(a, err);
    a->results.quiet = false;
    for (int panel = 1; ok && panel <= 2 && gnuplot_is_there(); panel++) { ok = watch_panel(&a->results, panel, err); }
    if (ok) { page_runs(page, a->runs, a->count); }
    page_end(page);
    fclose(page);
    a->results.page = NULL;
    a->results.quiet = terminal_rewrites();
    ok = ok && watch_page(a, text, size, err);
    a->results.quiet = false;
    free(text);
    output_flush();
    return ok;
}

// Whether every run's log has its first row
static bool watch_has_rows(const Analysis* a) {
    for (int i = 0; i < a->count; i++) {
        char path[PATH_SIZE];
        struct stat log;
        run_path(&a->runs[i], "metrics.csv", path);
        if (stat(path, &log) != 0 || log.st_size <= (off_t)strlen(metrics_header())) { return false; }
    }
    return true;
}

static bool watch(Analysis* a, Error* err) {
    bool done = false, told = false;
    stop_on_signals();
    while (!done && !stop_requested) {
        bool ready = !a->options.every || watch_has_rows(a);
        if (!ready && !told) { results_note(&a->results, "waiting for the first row of metrics.csv"); }
        told = true;
        output_flush();
        a->results.undrawn = 0;
        if (ready && !watch_look(a, &done, err)) { return false; }
        if (!a->options.every) { break; }
        for (int s = 0; s < a->options.every && !done && !stop_requested; s++) { sleep(1); }
    }
    return true;
}
