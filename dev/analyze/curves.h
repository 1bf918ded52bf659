// ./analyze curves: the logs of runs, in common plots. Runs that differ only by their seed are one curve: their mean m
// = Σ x_i / n over the rows that all of them have, with a band of m ± s, s² = Σ (x_i - m)² / (n - 1).
#pragma once
#include "analysis.h"
#include "../compare_runs/metrics_table.h"

typedef struct {
    int first, count;          // its first run; number of runs
    const char* label;
    double *x, *mean, *low, *high, *sd;  // of one column: (rows)
    int rows;
} Curve;

typedef struct { int column; const char *title, *unit; bool log; } CurvePanel;
static const CurvePanel curve_panels[] = {
    {METRIC_train_loss, "Training loss", "loss (nats)", false},
    {METRIC_test_loss, "Test loss", "loss (nats)", false},
    {METRIC_train_accuracy, "Training accuracy", "top-1 (%)", false},
    {METRIC_test_top1, "Test accuracy", "top-1 (%)", false},
    {METRIC_test_top5, "Test accuracy, top-5", "top-5 (%)", false},
    {METRIC_lr, "Learning rate", "learning rate", false},
    {METRIC_grad_norm, "Gradient norm", "norm, before clipping", true},
    {METRIC_images_per_second, "Speed", "images/s", false},
};
enum { CURVE_PANELS = sizeof curve_panels / sizeof curve_panels[0] };

typedef struct {
    const Run* runs;
    MetricsTable* logs;  // (count)
    int* curve_of;       // (count) the curve of each run
    Curve* curves;
    int count, curve_count;
} Curves;

static void group_runs(Curves* c) {
    for (int i = 0; i < c->count; i++) {
        int k = 0;
        while (k < c->curve_count && !configs_are_seeds(&c->runs[c->curves[k].first].config, &c->runs[i].config)) {
            k++;
        }
        if (k == c->curve_count) { c->curves[c->curve_count++] = (Curve){.first = i}; }
        c->curves[k].count++;
        c->curve_of[i] = k;
    }
    for (int k = 0; k < c->curve_count; k++) { // by the model, if that distinguishes them
        const Run* r = &c->runs[c->curves[k].first];
        int same = 0;
        for (int j = 0; j < c->curve_count; j++) {
            same += strcmp(c->runs[c->curves[j].first].config.model, r->config.model) == 0;
        }
        c->curves[k].label = same > 1 ? r->name : r->config.model;
    }
}

// The row of this step in which a column has a value; -1: none
static int row_of_step(const MetricsTable* t, int column, double step) {
    for (int i = 0; i < t->rows; i++) {
        if (t->column[METRIC_step][i] == step && !isnan(t->column[column][i])) { return i; }
    }
    return -1;
}

// Mean and deviation over the runs of curve k at a row of its first run; false: one of them lacks it
static bool curve_point(const Curves* c, int k, int column, int row, Running* sum) {
    const MetricsTable* first = &c->logs[c->curves[k].first];
    *sum = (Running){0};
    if (isnan(first->column[column][row])) { return false; }
    for (int i = 0; i < c->count; i++) {
        if (c->curve_of[i] != k) { continue; }
        int at = i == c->curves[k].first ? row : row_of_step(&c->logs[i], column, first->column[METRIC_step][row]);
        if (at < 0) { return false; }
        running_add(sum, c->logs[i].column[column][at]);
    }
    return true;
}

static void curve_fill(Curves* c, int k, int column) {
    Curve* curve = &c->curves[k];
    const MetricsTable* first = &c->logs[curve->first];
    curve->rows = 0;
    for (int row = 0; row < first->rows; row++) {
        Running sum;
        if (!curve_point(c, k, column, row, &sum)) { continue; }
        double sd = sum.count > 1 ? sqrt(sum.squares / (sum.count - 1)) : 0;
        int at = curve->rows++;
        curve->x[at] = first->column[METRIC_epoch][row];
        curve->mean[at] = sum.mean;
        curve->sd[at] = sd;
        curve->low[at] = fmax(0, sum.mean - sd); // none of them can be negative
        curve->high[at] = sum.mean + sd;
    }
}

static int curves_points(const Curves* c) {
    int points = 0;
    for (int k = 0; k < c->curve_count; k++) { points += c->curves[k].rows; }
    return points;
}

static void curves_panel(Figure* f, Curves* c, const CurvePanel* p, Csv* csv) {
    for (int k = 0; k < c->curve_count; k++) { curve_fill(c, k, p->column); }
    if (!curves_points(c)) { return; }
    panel_begin(f, p->title, (Axis){.label = "epoch"}, (Axis){.label = p->unit, .log = p->log});
    for (int k = 0; k < c->curve_count; k++) {
        Curve* v = &c->curves[k];
        Style style = {.label = v->label, .color = k, .dash = k / COLORS};
        if (v->count > 1) { plot_band(f, v->x, v->low, v->high, v->rows, k); }
        if (v->rows > 1) { plot_line(f, v->x, v->mean, v->rows, style); }
        if (v->rows == 1) { plot_points(f, v->x, v->mean, 1, style); }
        for (int i = 0; i < v->rows; i++) {
            csv_row(csv, "%s,%s,%d,%.9g,%.9g,%.9g", csv_text(v->label), csv_text(p->title), v->count, v->x[i],
                    v->mean[i], v->sd[i]);
        }
    }
    panel_end(f);
}

static void add_value(Table* t, const Curves* c, int k, int column, bool largest, const char* format) {
    Running sum = {0};
    char text[64] = "-";
    for (int i = 0; i < c->count; i++) {
        double value = largest ? metrics_largest(&c->logs[i], column) : metrics_last(&c->logs[i], column);
        if (c->curve_of[i] == k && !isnan(value)) { running_add(&sum, value); }
    }
    int used = sum.count ? snprintf(text, sizeof text, format, sum.mean) : 0;
    if (sum.count > 1) {
        used += snprintf(text + used, sizeof text - (size_t)used, " ± ");
        snprintf(text + used, sizeof text - (size_t)used, format, sqrt(sum.squares / (sum.count - 1)));
    }
    fprintf(t->out, "\t%s", text);
}

static void curves_table(const Curves* c, Results* results) {
    Table t;
    table_begin(&t, "At the end (mean ± standard deviation over seeds)",
                "curve\truns\tepochs\ttop-1, %\tbest top-1, %\ttest loss\ttraining loss\timages/s");
    for (int k = 0; k < c->curve_count; k++) {
        fprintf(t.out, "%s\t%d", c->curves[k].label, c->curves[k].count);
        add_value(&t, c, k, METRIC_epoch, false, "%.3g");
        add_value(&t, c, k, METRIC_test_top1, false, "%.2f");
        add_value(&t, c, k, METRIC_test_top1, true, "%.2f");
        add_value(&t, c, k, METRIC_test_loss, false, "%.4f");
        add_value(&t, c, k, METRIC_train_loss, false, "%.4f");
        add_value(&t, c, k, METRIC_images_per_second, false, "%.0f");
        fputc('\n', t.out);
    }
    table_end(&t, results);
}

static void curves_subject(const Curves* c, char* text, size_t size) {
    size_t used = 0;
    for (int i = 0; i < c->count && used < size; i++) {
        char one[FOLDER_SIZE + OPTION_TEXT_SIZE + 32];
        subject_of(&c->runs[i], "", 0, one, sizeof one);
        used += (size_t)snprintf(text + used, size - used, "%s%s", i ? "; " : "", one);
    }
    bool seeds = c->curve_count < c->count;
    if (seeds && used < size) {
        snprintf(text + used, size - used, ". Lines are means over seeds, bands a standard deviation");
    }
}

static bool curves_draw(Curves* c, Results* results, Error* err) {
    char subject[2048];
    Figure f;
    Csv csv;
    curves_subject(c, subject, sizeof subject);
    if (!csv_begin(&csv, results, "curves.csv", "curve,quantity,runs,epoch,mean,sd", err)) { return false; }
    figure_begin(&f, results, "curves", 2, "Training curves", "curves over epochs, one for each model", subject);
    for (int i = 0; i < CURVE_PANELS; i++) { curves_panel(&f, c, &curve_panels[i], &csv); }
    bool ok = csv_end(&csv, err);
    if (!ok) { figure_drop(&f); }
    ok = ok && figure_end(&f, err);
    if (ok) { curves_table(c, results); }
    return ok;
}

static bool curves(Analysis* a, Error* err) {
    Curves c = {.runs = a->runs, .count = a->count};
    c.logs = alloc_array(MetricsTable, a->count, "logs");
    c.curve_of = alloc_array(int, a->count, "curves");
    c.curves = alloc_array(Curve, a->count, "curves");
    bool ok = true;
    for (int i = 0; ok && i < a->count; i++) { ok = metrics_read(&c.logs[i], a->runs[i].folder, err); }
    if (ok) { group_runs(&c); }
    for (int k = 0; k < c.curve_count; k++) {
        Curve* v = &c.curves[k];
        double** arrays[] = {&v->x, &v->mean, &v->low, &v->high, &v->sd};
        for (int i = 0; i < 5; i++) { *arrays[i] = alloc_array(double, c.logs[v->first].rows, "curves"); }
    }
    ok = ok && curves_draw(&c, &a->results, err);
    for (int k = 0; k < c.curve_count; k++) {
        Curve* v = &c.curves[k];
        double* arrays[] = {v->x, v->mean, v->low, v->high, v->sd};
        for (int i = 0; i < 5; i++) { free(arrays[i]); }
    }
    for (int i = 0; i < a->count; i++) { metrics_table_free(&c.logs[i]); }
    free(c.logs);
    free(c.curve_of);
    free(c.curves);
    return ok;
}
