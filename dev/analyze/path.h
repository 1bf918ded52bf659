// ./analyze path: the path of the weights over the saved checkpoints θ_0 (the start), θ_1, ..., θ_T:
//     distances from start and end   |θ_t - θ_0|, |θ_T - θ_t|
//     steps                          s_t = θ_t - θ_(t-1), their length, and that per step of the optimiser
//     turns                          cos(s_t, s_(t-1)): 1 straight on, 0 at right angles, -1 back
//     the straight line              the loss at θ_0 + α (θ_T - θ_0), and that of θ_t at its projection on the line,
//                                    α_t = (θ_t - θ_0)·(θ_T - θ_0) / |θ_T - θ_0|²
// Lengths are over all parameters, in double precision.
#pragma once
#include "analysis.h"

enum { LINE_POINTS = 25, PATH_IMAGES = 1000 }; // of the test split, unless --images is given

typedef struct {
    int64_t step;
    double from_start, to_end, length, cosine, along; // cosine: NaN for the first
    Evaluation test;
} PathPoint;

typedef struct {
    Run* run;
    Checkpoint* list;
    size_t count;
    float *start, *end, *before, *now; // weights (total); before: of the last checkpoint
    double* turn;                      // the last step (total)
    PathPoint* points;                 // (count)
    double alpha[LINE_POINTS];
    Evaluation line[LINE_POINTS];
    WorkProgress progress;             // in evaluations
} PathStudy;

static double distance_between(const float* a, const float* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) { sum += pow((double)a[i] - b[i], 2); }
    return sqrt(sum);
}

// (a - origin)·(b - origin)
static double product_from(const float* origin, const float* a, const float* b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) { sum += ((double)a[i] - origin[i]) * ((double)b[i] - origin[i]); }
    return sum;
}

// Replaces the last step in `turn` by the one from `before` to `now` (n); returns their cosine.
static double turn_by(double* turn, const float* before, const float* now, size_t n) {
    double last = 0, this = 0, product = 0;
    for (size_t i = 0; i < n; i++) {
        double step = (double)now[i] - before[i];
        last += turn[i] * turn[i];
        this += step * step;
        product += step * turn[i];
        turn[i] = step;
    }
    return last > 0 && this > 0 ? product / sqrt(last * this) : NAN;
}

static Evaluation evaluate_weights(PathStudy* s, float* flat) {
    work_progress_say(&s->progress, "evaluating", "");
    Evaluation e = evaluate(&s->run->t, flat, NULL);
    s->progress.units++;
    return e;
}

static bool path_points(PathStudy* s, Error* err) {
    size_t n = s->run->t.model.table.total;
    int64_t step;
    if (!run_weights(s->run, s->list[0].name, s->start, &step, err) ||
        !run_weights(s->run, s->list[s->count - 1].name, s->end, &step, err)) { return false; }
    double whole = product_from(s->start, s->end, s->end, n);
    memcpy(s->before, s->start, n * sizeof *s->before);
    for (size_t t = 0; t < s->count; t++) {
        PathPoint* p = &s->points[t];
        if (!run_weights(s->run, s->list[t].name, s->now, &p->step, err)) { return false; }
        p->from_start = distance_between(s->now, s->start, n);
        p->to_end = distance_between(s->now, s->end, n);
        p->length = distance_between(s->now, s->before, n);
        p->cosine = turn_by(s->turn, s->before, s->now, n);
        p->along = whole > 0 ? product_from(s->start, s->now, s->end, n) / whole : NAN;
        p->test = evaluate_weights(s, s->now);
        memcpy(s->before, s->now, n * sizeof *s->before);
    }
    return true;
}

// From a quarter before the start to a quarter past the end
static void path_line(PathStudy* s) {
    size_t n = s->run->t.model.table.total;
    for (int k = 0; k < LINE_POINTS; k++) {
        double alpha = s->alpha[k] = 1.5 * k / (LINE_POINTS - 1) - 0.25;
        for (size_t i = 0; i < n; i++) { s->now[i] = (float)(s->start[i] + alpha * ((double)s->end[i] - s->start[i])); }
        s->line[k] = evaluate_weights(s, s->now);
    }
}

// ---- What is written

static bool path_csv(const PathStudy* s, const Results* results, Error* err) {
    Csv csv;
    if (!csv_begin(&csv, results, "path.csv", "checkpoint,step,from_start,to_end,step_length,cosine,along,test_loss,"
                   "test_loss_se,test_top1", err)) { return false; }
    for (size_t t = 0; t < s->count; t++) {
        const PathPoint* p = &s->points[t];
        csv_row(&csv, "%s,%lld,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.6g,%.6g", s->list[t].name, (long long)p->step,
                p->from_start, p->to_end, p->length, p->cosine, p->along, p->test.loss, p->test.loss_se, p->test.top1);
    }
    if (!csv_end(&csv, err)) { return false; }
    if (!csv_begin(&csv, results, "path-line.csv", "alpha,test_loss,test_loss_se,test_top1", err)) { return false; }
    for (int k = 0; k < LINE_POINTS; k++) {
        csv_row(&csv, "%.9g,%.9g,%.6g,%.6g", s->alpha[k], s->line[k].loss, s->line[k].loss_se, s->line[k].top1);
    }
    return csv_end(&csv, err);
}

// The points' numbers as columns: step, from start, to end, length per step, cosine, along, loss, top-1
enum { PATH_STEP, PATH_FROM, PATH_TO, PATH_LENGTH, PATH_COSINE, PATH_ALONG, PATH_LOSS, PATH_TOP1, PATH_COLUMNS };

static void path_columns(const PathStudy* s, double* column[PATH_COLUMNS]) {
    for (size_t t = 0; t < s->count; t++) {
        const PathPoint* p = &s->points[t];
        double steps = t > 0 ? (double)(p->step - s->points[t - 1].step) : 0;
        double values[] = {(double)p->step, p->from_start, p->to_end, steps > 0 ? p->length / steps : NAN, p->cosine,
                           p->along, p->test.loss, p->test.top1};
        for (int k = 0; k < PATH_COLUMNS; k++) { column[k][t] = values[k]; }
    }
}

static void path_panels(Figure* f, const PathStudy* s, double* const column[PATH_COLUMNS]) {
    int n = (int)s->count;
    Axis step = {.label = "step"}, alpha = {.label = "α: 0 start, 1 end", .low = -0.25, .high = 1.25};
    double loss[LINE_POINTS], top1[LINE_POINTS];
    for (int k = 0; k < LINE_POINTS; k++) {
        loss[k] = s->line[k].loss;
        top1[k] = s->line[k].top1;
    }
    panel_begin(f, "Distances", step, (Axis){.label = "|θ - θ'|"});
    plot_line_points(f, column[PATH_STEP], column[PATH_FROM], n, (Style){.label = "from the start", .color = 0});
    plot_line_points(f, column[PATH_STEP], column[PATH_TO], n, (Style){.label = "from the end", .color = 1});
    panel_end(f);
    panel_begin(f, "Distance an optimiser step", step, (Axis){.label = "|s| / steps", .log = true});
    plot_line_points(f, column[PATH_STEP], column[PATH_LENGTH], n, (Style){.color = 0});
    panel_end(f);
    panel_begin(f, "Cosine between successive steps", step, (Axis){.label = "cosine", .low = -1, .high = 1});
    plot_line_points(f, column[PATH_STEP], column[PATH_COSINE], n, (Style){.color = 0});
    panel_end(f);
    panel_begin(f, "Test loss on the line from start to end", alpha, (Axis){.label = "loss (nats)"});
    plot_line(f, s->alpha, loss, LINE_POINTS, (Style){.label = "straight line", .color = 0});
    plot_line_points(f, column[PATH_ALONG], column[PATH_LOSS], n, (Style){.label = "checkpoints", .color = 1});
    panel_end(f);
    panel_begin(f, "Test accuracy on that line", alpha, (Axis){.label = "top-1 (%)"});
    plot_line(f, s->alpha, top1, LINE_POINTS, (Style){.label = "straight line", .color = 0});
    plot_line_points(f, column[PATH_ALONG], column[PATH_TOP1], n, (Style){.label = "checkpoints", .color = 1});
    panel_end(f);
}

static bool path_figure(const PathStudy* s, Results* results, Error* err) {
    char subject[1024];
    double* column[PATH_COLUMNS];
    Figure f;
    for (int k = 0; k < PATH_COLUMNS; k++) { column[k] = alloc_array(double, s->count, "a path"); }
    path_columns(s, column);
    subject_of(s->run, "", 0, subject, sizeof subject);
    size_t used = strlen(subject);
    snprintf(subject + used, sizeof subject - used, ", %zu checkpoints from start to %s%s, %d test images", s->count,
             s->list[s->count - 1].name, s->run->config.model_ema_decay > 0 ? " (running means)" : "",
             s->run->t.test.count);
    figure_begin(&f, results, "path", 2, "Path of the weights",
                 "how far the weights went, and the loss along their path", subject);
    path_panels(&f, s, column);
    for (int k = 0; k < PATH_COLUMNS; k++) { free(column[k]); }
    return figure_end(&f, err);
}

static void path_table(const PathStudy* s, Results* results) {
    Table t;
    double length = 0, highest = -INFINITY;
    Running cosine = {0};
    for (size_t i = 1; i < s->count; i++) {
        length += s->points[i].length;
        if (!isnan(s->points[i].cosine)) { running_add(&cosine, s->points[i].cosine); }
    }
    for (int k = 0; k < LINE_POINTS; k++) {
        if (s->alpha[k] >= 0 && s->alpha[k] <= 1) { highest = fmax(highest, s->line[k].loss); }
    }
    double ends = fmax(s->points[0].test.loss, s->points[s->count - 1].test.loss);
    table_begin(&t, "Path of the weights", "checkpoints\tlength of the path\tfrom start to end\tdistance / path\t"
                "mean cosine\tbarrier on the line, nats");
    double direct = s->points[s->count - 1].from_start;
    table_row(&t, "%zu\t%.4g\t%.4g\t%.3f\t%.3f\t%.4f", s->count, length, direct, length > 0 ? direct / length : 0,
              cosine.count ? cosine.mean : NAN, fmax(0, highest - ends));
    table_end(&t, results);
}

// ---- The command

static bool path_begin(PathStudy* s, Analysis* a, Error* err) {
    s->run = &a->runs[0];
    if (!a->options.images) { a->options.images = PATH_IMAGES; }
    bool ready = run_model(s->run, err) && run_trajectory(s->run, &s->list, &s->count, err) && run_data(s->run, err);
    if (!ready) { return false; }
    size_t n = s->run->t.model.table.total;
    float** buffers[] = {&s->start, &s->end, &s->before, &s->now};
    for (int i = 0; i < 4; i++) { *buffers[i] = alloc_floats(n, "weights"); }
    s->turn = alloc_array(double, n, "a step");
    s->points = alloc_array(PathPoint, s->count, "a path");
    s->progress = work_progress((double)s->count + LINE_POINTS);
    return true;
}

static bool path(Analysis* a, Error* err) {
    PathStudy s = {0};
    bool ok = path_begin(&s, a, err) && path_points(&s, err);
    if (ok) { path_line(&s); }
    ok = ok && path_csv(&s, &a->results, err) && path_figure(&s, &a->results, err);
    if (ok) { path_table(&s, &a->results); }
    void* buffers[] = {s.list, s.start, s.end, s.before, s.now, s.turn, s.points};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) { free(buffers[i]); }
    return ok;
}
