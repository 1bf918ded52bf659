// ./analyze landscape: loss and accuracy over test images on planes through the final weights of a run:
//     components    of the trajectory (trajectory.h; KArAt's paper), 1.2 times as wide as it
//     random        two directions, normalised filter by filter (filter_directions.h; Li et al., 2018), from -1 to 1
// The end itself is a point of each grid, with the loss of an evaluation.
//
// Numbers: the variance that the components explain, the largest eigenvalue of the Hessian of that same loss at the end
// (curvature.h), and the share of a grid's points that are local minima.
#pragma once
#include "curvature.h"
#include "filter_directions.h"
#include "plane.h"
#include "trajectory.h"

enum { LANDSCAPE_IMAGES = 1000, LANDSCAPE_NUMBERS = 16 };

typedef struct {
    Run* run;
    Trajectory trajectory;  // if there is one
    float* weights;         // (3, total): the end, two directions
    double* values;         // (grid, grid), to be drawn
    int64_t end_step;
    char subject[1024];
    struct { char name[64]; double value; } numbers[LANDSCAPE_NUMBERS];
    int count;              // of numbers
} Landscape;

__attribute__((format(printf, 3, 4)))
static inline void add_number(Landscape* s, double value, const char* name, ...) {
    va_list args;
    va_start(args, name);
    vsnprintf(s->numbers[s->count].name, sizeof s->numbers[0].name, name, args);
    va_end(args);
    s->numbers[s->count++].value = value;
}

// ---- Curvature

// Gradient of the mean loss over the test images
static void landscape_gradient(void* context, float* grad, const float* theta) {
    Trainer* t = &((Landscape*)context)->run->t;
    Model* m = &t->model;
    size_t bytes = m->table.total * sizeof(float);
    memcpy(m->params, theta, bytes);
    model_zero_gradients(m);
    loader_seek(&t->test_loader, 0);
    for (int done = 0; done < t->test.count;) {
        const Batch* batch = loader_next(&t->test_loader);
        model_forward(m, m->params, model_images(m, batch), batch->count, NULL);
        model_loss(m, batch->targets, batch->count);
        model_backward(m, batch->targets, batch->count, NULL, 1.0f / (float)t->test.count);
        done += batch->count;
    }
    memcpy(grad, m->grads, bytes);
}

static void say_curvature(void* context, const Curvature* c) {
    char rate[96];
    snprintf(rate, sizeof rate, "eigenvalue %.5g, residual %.2g", c->value, c->residual);
    ((WorkProgress*)context)->units++;
    work_progress_say((WorkProgress*)context, "curvature", rate);
}

// The step is a fraction of the weights' length: for a small KArAt, five times as much showed third derivatives in the
// third digit, and half of it no rounding. Products are in fp32: bf16 would round the differences away.
static Curvature landscape_curvature(Landscape* s, int most) {
    size_t count = s->run->t.model.table.total;
    WorkProgress progress = work_progress(most);
    double squares = 0;
    for (size_t i = 0; i < count; i++) { squares += (double)s->weights[i] * s->weights[i]; }
    linear_use_bf16(false);
    PowerIteration p = {.gradient = landscape_gradient, .context = s, .said = say_curvature, .said_context = &progress,
                        .theta = s->weights, .count = count, .step = 2e-6 * sqrt(squares), .tolerance = 1e-2,
                        .most = most};
    Curvature c = largest_curvature(&p);
    linear_use_bf16(s->run->t.model.config.precision == PRECISION_BF16);
    return c;
}

// ---- Planes

static Plane empty_plane(const Landscape* s, int size) {
    size_t total = s->run->t.model.table.total;
    return (Plane){.size = size, .theta = s->weights, .directions = {s->weights + total, s->weights + 2 * total}};
}

// The other points are those of the trajectory.
static Plane plane_of_components(Landscape* s, int size) {
    const Trajectory* w = &s->trajectory;
    Plane p = empty_plane(s, size);
    for (int axis = 0; axis < 2; axis++) {
        double low = 0, high = 0;
        for (int t = 0; t < w->count; t++) {
            double at = principal_coordinate(&w->principal, w->G, w->count, t, axis);
            low = fmin(low, at);
            high = fmax(high, at);
        }
        plane_axis(&p, axis, low, high, 1.2);
    }
    plane_points(&p, w->count);
    for (int t = 0; t < w->count; t++) {
        p.x[size * size + t] = principal_coordinate(&w->principal, w->G, w->count, t, 0);
        p.y[size * size + t] = principal_coordinate(&w->principal, w->G, w->count, t, 1);
    }
    return p;
}

static Plane plane_of_filters(Landscape* s, int size, uint64_t seed) {
    const Model* m = &s->run->t.model;
    Plane p = empty_plane(s, size);
    for (uint32_t k = 0; k < 2; k++) {
        float* direction = s->weights + (k + 1) * m->table.total;
        filter_direction(direction, s->weights, m->tensors, m->tensor_count, seed, k);
        plane_axis(&p, (int)k, -1, 1, 1);
    }
    plane_points(&p, 0);
    return p;
}

// ---- What is written of a plane

typedef struct { const char *name, *file, *title, *x, *y; } PlaneText;
static const PlaneText plane_texts[2] = {
    {"components", "landscape", "Loss in the plane of the trajectory", "component 1", "component 2"},
    {"random", "landscape-random", "Loss in a random plane, normalised by filters", "direction 1", "direction 2"},
};

static bool write_points(const Plane* p, const PlaneText* text, Results* out, Error* err) {
    Csv csv;
    char name[64];
    snprintf(name, sizeof name, "%s.csv", text->file);
    if (!csv_begin(&csv, out, name, "row,column,x,y,loss,top1", err)) { return false; }
    for (int i = 0; i < p->size * p->size; i++) {
        csv_row(&csv, "%d,%d,%.9g,%.9g,%.9g,%.6g", i / p->size, i % p->size, p->x[i], p->y[i], p->loss[i], p->top1[i]);
    }
    return csv_end(&csv, err);
}

// off_plane: the distance of a checkpoint's weights from the plane
static bool write_trajectory(const Landscape* s, const Plane* p, Results* out, Error* err) {
    const Trajectory* w = &s->trajectory;
    Csv csv;
    if (!csv_begin(&csv, out, "landscape-trajectory.csv",
                   "checkpoint,step,x,y,off_plane,loss_in_plane,top1_in_plane", err)) {
        return false;
    }
    for (int t = 0; t < w->count; t++) {
        int i = p->size * p->size + t;
        double rest = w->G[t * w->count + t] - p->x[i] * p->x[i] - p->y[i] * p->y[i];
        csv_row(&csv, "%s,%lld,%.9g,%.9g,%.9g,%.9g,%.6g", csv_text(w->list[t].name), (long long)w->list[t].step,
                p->x[i], p->y[i], sqrt(fmax(rest, 0)), p->loss[i], p->top1[i]);
    }
    return csv_end(&csv, err);
}

static PlotMap plane_map(const Plane* p, const double* values, const char* label) {
    int last = p->size - 1;
    return (PlotMap){.rows = p->size, .columns = p->size, .x = {plane_at(p, 0, 0), plane_at(p, 0, last)},
                     .y = {plane_at(p, 1, 0), plane_at(p, 1, last)}, .values = values, .label = label};
}

// On a logarithmic scale if losses differ by more than a factor of 20; a loss that is NaN leaves a hole.
static PlotMap loss_map(const Landscape* s, const Plane* p) {
    double low = INFINITY, high = 0;
    for (int i = 0; i < p->size * p->size; i++) {
        s->values[i] = isfinite(p->loss[i]) ? p->loss[i] : NAN;
        low = fmin(low, s->values[i]);
        high = fmax(high, s->values[i]);
    }
    PlotMap map = plane_map(p, s->values, "loss (nats)");
    map.log = low > 0 && high > 20 * low;
    return map;
}

static bool draw_plane(const Landscape* s, const Plane* p, const PlaneText* text, Results* out, Error* err) {
    Figure f;
    int n = p->size * p->size, others = p->count - n;
    PlotMap loss = loss_map(s, p), accuracy = plane_map(p, p->top1, "top-1 (%)");
    Axis x = {.label = text->x}, y = {.label = text->y};
    Style path = {.label = others ? "trajectory" : NULL, .color = 1};
    figure_begin(&f, out, text->file, 3, text->title, "loss and accuracy around the weights that training ended with",
                 s->subject);
    panel_begin(&f, "Loss, contours", x, y);
    plot_map(&f, &loss, 12);
    if (others) { plot_line_points(&f, p->x + n, p->y + n, others, path); }
    plot_mark(&f, 0, 0, "end", 1);
    panel_end(&f);
    panel_begin(&f, "Loss, surface", x, y);
    plot_surface(&f, &loss, "loss (nats)");
    if (others) { plot_line_3d(&f, p->x + n, p->y + n, p->loss + n, others, (Style){.color = path.color}); }
    surface_end(&f);
    panel_begin(&f, "Accuracy", x, y);
    plot_map(&f, &accuracy, 0);
    if (others) { plot_line_points(&f, p->x + n, p->y + n, others, path); }
    panel_end(&f);
    return figure_end(&f, err);
}

// The points of a plane, its files and picture. Points saved by an interrupted run are removed when all is written.
static bool plane_results(Landscape* s, Plane* p, const PlaneText* text, Results* out, Error* err) {
    char name[64], part[PATH_SIZE];
    double lowest = INFINITY;
    snprintf(name, sizeof name, "%s.part", text->file);
    results_path(out, name, part);
    bool ok = plane_evaluate(p, s->run, part, text->file, err) && write_points(p, text, out, err) &&
              (p->count == p->size * p->size || write_trajectory(s, p, out, err)) && draw_plane(s, p, text, out, err);
    if (ok) {
        unlink(part);
        for (int i = 0; i < p->size * p->size; i++) { lowest = fmin(lowest, p->loss[i]); }
        add_number(s, lowest, "%s: lowest loss of the grid", text->name);
        add_number(s, local_minima_share(p->loss, p->size), "%s: share of points that are local minima", text->name);
    }
    plane_free(p);
    return ok;
}

// ---- The analysis

static const char* end_of(const Run* r) { return has_checkpoint(r, "last.ema") ? "last.ema" : "last"; }

// Without checkpoints on the way there is no plane of components; an error if no other was asked for.
static bool open_landscape(Landscape* s, Analysis* a, Error* err) {
    Run* r = s->run = &a->runs[0];
    int* directions = &a->options.directions;
    bool lacking = false;
    if (!a->options.images) { a->options.images = LANDSCAPE_IMAGES; }
    if (!run_model(r, err) || !run_data(r, err)) { return false; }
    size_t total = r->t.model.table.total;
    s->weights = alloc_floats(3 * total, "weights and directions");
    s->values = alloc_array(double, (size_t)a->options.grid * a->options.grid, "a landscape");
    bool ok = *directions == DIRECTIONS_RANDOM
        ? run_weights(r, end_of(r), s->weights, &s->end_step, err)
        : trajectory_read(&s->trajectory, r, s->weights, &s->end_step, &lacking, err);
    if (lacking && *directions == DIRECTIONS_BOTH) {
        *directions = DIRECTIONS_RANDOM;
        results_note(&a->results, err->text);
        ok = run_weights(r, end_of(r), s->weights, &s->end_step, err);
    }
    subject_of(r, end_of(r), s->end_step, s->subject, sizeof s->subject);
    return ok;
}

static void end_numbers(Landscape* s, int products) {
    Trainer* t = &s->run->t;
    memcpy(t->model.params, s->weights, t->model.table.total * sizeof(float));
    Evaluation e = evaluate(t, t->model.params, NULL);
    add_number(s, (double)e.images, "test images");
    add_number(s, e.loss, "loss at the end");
    add_number(s, e.top1, "top-1 at the end (%%)");
    if (!products) { return; }
    Curvature c = landscape_curvature(s, products);
    add_number(s, c.value, "largest eigenvalue of the Hessian");
    add_number(s, c.residual, "its residual");
    add_number(s, c.difference, "its change at twice the step");
    add_number(s, c.steps, "products with the Hessian");
}

static bool landscape_planes(Landscape* s, Analysis* a, Error* err) {
    int size = a->options.grid, directions = a->options.directions;
    if (directions != DIRECTIONS_RANDOM) {
        Plane p = plane_of_components(s, size);
        for (int k = 0; k < 2; k++) {
            add_number(s, s->trajectory.principal.explained[k], "variance explained by component %d", k + 1);
        }
        if (!plane_results(s, &p, &plane_texts[0], &a->results, err)) { return false; }
    }
    if (directions == DIRECTIONS_COMPONENTS) { return true; }
    Plane p = plane_of_filters(s, size, (uint64_t)a->options.seed);
    return plane_results(s, &p, &plane_texts[1], &a->results, err);
}

static bool write_numbers(const Landscape* s, Results* out, Error* err) {
    Table table;
    Csv csv;
    if (!csv_begin(&csv, out, "landscape-numbers.csv", "number,value", err)) { return false; }
    table_begin(&table, "Landscape", "number\tvalue");
    for (int i = 0; i < s->count; i++) {
        table_row(&table, "%s\t%.5g", s->numbers[i].name, s->numbers[i].value);
        csv_row(&csv, "%s,%.12g", csv_text(s->numbers[i].name), s->numbers[i].value);
    }
    table_end(&table, out);
    return csv_end(&csv, err);
}

static bool landscape(Analysis* a, Error* err) {
    Landscape s = {0};
    bool ok = open_landscape(&s, a, err);
    if (ok) {
        end_numbers(&s, a->options.products);
        ok = landscape_planes(&s, a, err) && write_numbers(&s, &a->results, err);
    }
    trajectory_free(&s.trajectory);
    free(s.weights);
    free(s.values);
    return ok;
}
