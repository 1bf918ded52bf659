// ./analyze functions: the learned functions, over their inputs from the test images.
//     KArAt       phi_pq of chosen heads, of logits A_kq (in the order Φ(W A) of z_kp) over images and rows k
//     rationals   F of each block and group, of its inputs, over images, tokens and channels
// Inputs are those of the last checkpoint, from one batch; curves cover their range without the outer 0.5 % at each
// end, with their density beneath. Of a head's units, those with the widest and with medium spread of outputs are
// shown.
#pragma once
#include "analysis.h"
#include "attention_maps.h"
#include "parameter_rows.h"
#include "weights.h"

enum { CURVE_POINTS = 161, UNIT_INPUTS = 4096 };

// The function of a curve, the range of its inputs, and their density
typedef struct {
    int block, head, p, q;        // KArAt: head among those with KArAt
    int which;                    // a rational: 1 before fc1, 2 before fc2; 0: KArAt
    float x[CURVE_POINTS];
    double density[CURVE_POINTS]; // of inputs at x
    double spread;                // KArAt: the standard deviation of its outputs
} FunctionPlace;

typedef struct {
    Run* run;
    Checkpoint* list;
    size_t count;
    FunctionPlace* places;
    size_t place_count, room;
    float* values;                // (count, place_count, groups, CURVE_POINTS)
    int groups;                   // curves per place, at most
    int blocks[1024], block_count, heads[1024], head_count;
} FunctionStudy;

// ---- Units of KArAt

// phi_pq at x (n), of head h of an operator. theta: folded_units() of that head
static void unit_values(float* out, const float* x, int n, KaratOperator w, const float* theta, KaratDims d, int h,
                        int p, int q) {
    int M = karat_coefficients(d);
    float* e = alloc_floats((size_t)(M + 1) * n, "a function's values");
    memset(out, 0, (size_t)n * sizeof *out);
    if (basis_is_linear(d.basis)) {
        basis_features(e, x, n, karat_basis(d));
        for (int m = 0; m < M; m++) {
            for (int i = 0; i < n; i++) { out[i] += karat_coefficient(w, d, h, m, q, p) * e[(size_t)m * n + i]; }
        }
    } else {
        const float* unit = theta + p * karat_units_row(d) + q;
        for (int i = 0; i < n; i++) { // wavelets: amplitude ψ((x - tau) / s)
            float y = (x[i] - unit[d.N]) * unit[2 * d.N], slope;
            if (d.basis == BASIS_RATIONAL) {
                out[i] = basis_rational(x[i], unit, d.N).value;
            } else {
                basis_wavelets(&out[i], &slope, &y, 1, d.basis);
                out[i] *= unit[0];
            }
        }
    }
    if (d.base != KARAT_BASE_ZERO) {
        karat_base_forward(e, x, n, d.base);
        for (int i = 0; i < n; i++) { out[i] += karat_coefficient(w, d, h, M, q, p) * e[i]; }
    }
    free(e);
}

// The operator whose inputs are logits or, if W comes first, z
static KaratOperator first_operator(const Model* m, const float* flat, int l, KaratDims d) {
    KaratParams params = karat_params(params_of_block(&m->table, (float*)flat, l), NULL, d);
    return karat_has_inner(d) ? params.inner : params.outer;
}

// What a head's functions are evaluated with if the basis is not linear in its coefficients, else NULL; to be freed
static float* folded_units(KaratOperator w, KaratDims d, int h) {
    if (basis_is_linear(d.basis)) { return NULL; }
    float* theta = alloc_floats(karat_units_coefs(d), "a head's functions");
    karat_units_fold(theta, w, d, h);
    return theta;
}

// ---- Inputs

static int by_value(const void* left, const void* right) {
    float a = *(const float*)left, b = *(const float*)right;
    return a < b ? -1 : a > b;
}

// The range of inputs (n), which this sorts, and their density: a triangular kernel, a twentieth wide
static void place_inputs(FunctionPlace* place, float* inputs, int n) {
    qsort(inputs, (size_t)n, sizeof *inputs, by_value);
    double low = inputs[n / 200], high = inputs[n - 1 - n / 200], least = 1e-6 * (1 + fabs(low));
    if (high - low < least) { low -= least; high += least; }
    double step = (high - low) / (CURVE_POINTS - 1), width = (high - low) / 20;
    for (int k = 0; k < CURVE_POINTS; k++) {
        double x = low + k * step, sum = 0;
        for (int i = 0; i < n; i++) { sum += fmax(0, 1 - fabs(inputs[i] - x) / width); }
        place->x[k] = (float)x;
        place->density[k] = sum / (n * width);
    }
}

// Takes values at regular intervals from `count`, `most` at most.
static int thin_out(float* to, const float* from, size_t count, int most) {
    size_t stride = (count + (size_t)most - 1) / (size_t)most;
    int n = 0;
    stride += stride > 1 && stride % 2 == 0; // odd: not always the same channels
    for (size_t i = 0; i < count; i += stride) { to[n++] = from[i]; }
    return n;
}

// The inputs of units (., q) of a head: a column of logits (B,H,N,N), or of z (B,HK,N,R)
typedef struct { const float* values; int B, heads, head, rows, columns; } UnitInputs;

static int unit_inputs(float* to, const UnitInputs* in, int column, int most) {
    int count = in->B * in->rows, stride = (count + most - 1) / most, n = 0;
    for (int i = 0; i < count; i += stride) {
        size_t row = ((size_t)(i / in->rows) * in->heads + in->head) * in->rows + i % in->rows;
        to[n++] = in->values[row * in->columns + column];
    }
    return n;
}

// ---- Places

static FunctionPlace* next_place(FunctionStudy* s, Error* err) {
    FunctionPlace* grown = (FunctionPlace*)array_grow(s->places, s->place_count, &s->room, sizeof *grown, err);
    if (!grown) { return NULL; }
    s->places = grown;
    grown[s->place_count] = (FunctionPlace){0};
    return &grown[s->place_count++];
}

typedef struct { float spread; int p, q; } Unit;

static int by_spread(const void* left, const void* right) {
    const Unit *a = (const Unit*)left, *b = (const Unit*)right;
    if (a->spread != b->spread) { return a->spread < b->spread ? 1 : -1; }
    return a->p != b->p ? a->p - b->p : a->q - b->q;
}

// Sorts the units (p, q) of a head by the deviation of phi_pq over their inputs, widest first
static void rank_units(Unit* units, const UnitInputs* in, KaratOperator w, KaratDims d, int h) {
    enum { SOME = 256 };
    float* theta = folded_units(w, d, h);
    #pragma omp parallel for schedule(static)
    for (int u = 0; u < d.R * d.N; u++) {
        float x[SOME], y[SOME];
        int p = u / d.N, q = u % d.N, n = unit_inputs(x, in, karat_has_inner(d) ? q : p, SOME);
        Running sum = {0};
        unit_values(y, x, n, w, theta, d, h, p, q);
        for (int i = 0; i < n; i++) { running_add(&sum, y[i]); }
        units[u] = (Unit){(float)sqrt(sum.squares / sum.count), p, q};
    }
    free(theta);
    qsort(units, (size_t)d.R * d.N, sizeof *units, by_spread);
}

// Adds the units of a head that are shown, and csv rows for all of them
static bool add_units(FunctionStudy* s, int block, int h, const UnitInputs* in, KaratOperator w, KaratDims d, Csv* csv,
                      Error* err) {
    int count = d.R * d.N, shown[] = {0, count / 2};
    Unit* units = alloc_array(Unit, count, "functions");
    float inputs[UNIT_INPUTS];
    bool ok = true;
    rank_units(units, in, w, d, h);
    for (int u = 0; u < count; u++) {
        csv_row(csv, "%d,%d,%d,%d,%.6g", block, in->head, units[u].p, units[u].q, units[u].spread);
    }
    for (int i = 0; ok && i < 2; i++) {
        Unit unit = units[shown[i]];
        FunctionPlace* place = next_place(s, err);
        ok = place != NULL;
        if (!ok) { break; }
        place_inputs(place, inputs, unit_inputs(inputs, in, karat_has_inner(d) ? unit.q : unit.p, UNIT_INPUTS));
        place->block = block;
        place->head = h;
        place->p = unit.p;
        place->q = unit.q;
        place->spread = unit.spread;
    }
    free(units);
    return ok;
}

// Adds a block's operator, from the activations left by model_forward
static bool add_operator(FunctionStudy* s, int block, int B, Csv* csv, Error* err) {
    Model* m = &s->run->t.model;
    KaratDims d = karat_dims(m, m->dims, B);
    Acts a = acts_of_block(&m->acts_table, m->acts, block);
    KaratOperator w = first_operator(m, m->params, block, d);
    int softmax = m->config.softmax_heads;
    float* A = karat_has_inner(d) ? alloc_floats((size_t)B * m->dims.H * d.N * d.N, "logits of attention") : NULL;
    bool ok = true;
    if (A) { attention_logits(A, m, a, B); }
    for (int i = 0; ok && i < s->head_count; i++) {
        int h = s->heads[i] - softmax;
        if (h < 0) { continue; } // softmax
        UnitInputs in = A ? (UnitInputs){A, B, m->dims.H, s->heads[i], d.N, d.N}
                          : (UnitInputs){a.z, B, d.H, h, d.N, d.R};
        ok = add_units(s, block, h, &in, w, d, csv, err);
    }
    free(A);
    return ok;
}

static bool add_rationals(FunctionStudy* s, int block, int B, Error* err) {
    enum { SOME = 1 << 15 };
    Model* m = &s->run->t.model;
    Acts a = acts_of_block(&m->acts_table, m->acts, block);
    Dims d = dims_at(m, block);
    size_t rows = (size_t)B * d.N;
    float* inputs = alloc_floats(SOME + 1, "inputs");
    bool ok = true;
    for (int which = m->config.mlp == MLP_GR_KAN ? 1 : 2; ok && which <= 2; which++) {
        FunctionPlace* place = next_place(s, err);
        ok = place != NULL;
        if (!ok) { break; }
        place->block = block;
        place->which = which;
        int n = which == 1 ? thin_out(inputs, a.ln2, rows * d.C, SOME)
                           : thin_out(inputs, a.fc1, rows * d.F, SOME);
        place_inputs(place, inputs, n);
    }
    free(inputs);
    return ok;
}

static bool has_rationals(const Config* c) { return c->mlp == MLP_GR_KAN || c->mlp == MLP_RATIONAL; }

// Finds all places, by the last checkpoint's forward of one batch.
static bool find_places(FunctionStudy* s, const Results* results, Error* err) {
    enum { ENOUGH_IMAGES = 32 };
    Trainer* t = &s->run->t;
    Model* m = &t->model;
    Csv csv;
    loader_seek(&t->test_loader, 0);
    const Batch* batch = loader_next(&t->test_loader);
    int B = batch->count < ENOUGH_IMAGES ? batch->count : ENOUGH_IMAGES;
    Checkpoint* last = &s->list[s->count - 1];
    if (!run_weights(s->run, last->name, m->params, &last->step, err)) { return false; }
    model_forward(m, m->params, model_images(m, batch), B, NULL);
    bool karat = m->config.attn == ATTN_KARAT, ok = true;
    if (karat) { ok = csv_begin(&csv, results, "functions-units.csv", "block,head,p,q,output_deviation", err); }
    bool begun = karat && ok;
    for (int i = 0; ok && karat && i < s->block_count; i++) { ok = add_operator(s, s->blocks[i], B, &csv, err); }
    if (begun && ok) { ok = csv_end(&csv, err); } else if (begun) { whole_file_drop(&csv.out); }
    bool chosen = *s->run->options->blocks; // else those of every block: there are few
    for (int i = 0; ok && has_rationals(&m->config) && i < (chosen ? s->block_count : m->dims.L); i++) {
        ok = add_rationals(s, chosen ? s->blocks[i] : i, B, err);
    }
    return ok;
}

// ---- Values at every checkpoint

static float* values_at(const FunctionStudy* s, size_t c, size_t place, int group) {
    return s->values + ((c * s->place_count + place) * (size_t)s->groups + (size_t)group) * CURVE_POINTS;
}

static int groups_of(const FunctionStudy* s, const FunctionPlace* place) {
    return place->which ? rational_shape(&s->run->t.model.config).groups : 1;
}

static void evaluate_place(const FunctionStudy* s, size_t c, size_t k, const float* flat) {
    const Model* m = &s->run->t.model;
    const FunctionPlace* place = &s->places[k];
    Params p = params_of_block(&m->table, (float*)flat, place->block);
    if (place->which) {
        RationalShape shape = rational_shape(&m->config);
        const float* numerator = place->which == 1 ? p.numerator1 : p.numerator2;
        const float* denominator = place->which == 1 ? p.denominator1 : p.denominator2;
        RationalShape one = shape;
        one.groups = 1;
        for (int g = 0; g < shape.groups; g++) {
            rational_forward(values_at(s, c, k, g), place->x, numerator, denominator + g * shape.n, 1, CURVE_POINTS,
                             one);
        }
        return;
    }
    KaratDims d = karat_dims(m, m->dims, 1);
    KaratOperator w = first_operator(m, flat, place->block, d);
    float* theta = folded_units(w, d, place->head);
    unit_values(values_at(s, c, k, 0), place->x, CURVE_POINTS, w, theta, d, place->head, place->p, place->q);
    free(theta);
}

static bool evaluate_places(FunctionStudy* s, Error* err) {
    Model* m = &s->run->t.model;
    s->groups = has_rationals(&m->config) ? rational_shape(&m->config).groups : 1;
    s->values = alloc_floats(s->count * s->place_count * (size_t)s->groups * CURVE_POINTS, "functions");
    for (size_t c = 0; c < s->count; c++) {
        if (!run_weights(s->run, s->list[c].name, m->params, &s->list[c].step, err)) { return false; }
        for (size_t k = 0; k < s->place_count; k++) { evaluate_place(s, c, k, m->params); }
    }
    return true;
}

// ---- What is written

// A head's number counts heads with softmax too.
static int head_number(const FunctionStudy* s, const FunctionPlace* p) {
    return p->head + s->run->t.model.config.softmax_heads;
}

static bool functions_csv(const FunctionStudy* s, bool rationals, const Results* results, Error* err) {
    Csv csv;
    const char* name = rationals ? "functions-rational.csv" : "functions-karat.csv";
    const char* columns = rationals ? "checkpoint,step,block,rational,group,input,output,input_density"
                                    : "checkpoint,step,block,head,p,q,input,output,input_density";
    if (!csv_begin(&csv, results, name, columns, err)) { return false; }
    for (size_t c = 0; c < s->count; c++) {
        for (size_t k = 0; k < s->place_count; k++) {
            const FunctionPlace* p = &s->places[k];
            if ((p->which > 0) != rationals) { continue; }
            for (int i = 0; i < groups_of(s, p) * CURVE_POINTS; i++) {
                int group = i / CURVE_POINTS, at = i % CURVE_POINTS;
                fprintf(csv.out.file, "%s,%lld,%d,", s->list[c].name, (long long)s->list[c].step, p->block);
                if (rationals) {
                    fprintf(csv.out.file, "%d,%d", p->which, group);
                } else {
                    fprintf(csv.out.file, "%d,%d,%d", head_number(s, p), p->p, p->q);
                }
                csv_row(&csv, ",%.6g,%.6g,%.6g", p->x[at], values_at(s, c, k, group)[at], p->density[at]);
            }
        }
    }
    return csv_end(&csv, err);
}

// Curves of a place; beneath them, at a quarter of the height, the density of inputs
static void plot_place(Figure* f, const FunctionStudy* s, size_t k) {
    const FunctionPlace* place = &s->places[k];
    double x[CURVE_POINTS], y[CURVE_POINTS], floor[CURVE_POINTS], low = INFINITY, high = -INFINITY, densest = 0;
    int groups = groups_of(s, place);
    for (size_t c = 0; c < s->count; c++) {
        for (int i = 0; i < groups * CURVE_POINTS; i++) {
            low = fmin(low, values_at(s, c, k, 0)[i]);
            high = fmax(high, values_at(s, c, k, 0)[i]);
        }
    }
    for (int i = 0; i < CURVE_POINTS; i++) { densest = fmax(densest, place->density[i]); }
    if (!(high > low)) { high = low + 1; }
    low -= 0.05 * (high - low);
    for (int i = 0; i < CURVE_POINTS; i++) {
        x[i] = place->x[i];
        floor[i] = low;
        y[i] = low + 0.25 * (high - low) * place->density[i] / densest;
    }
    plot_area(f, x, floor, y, CURVE_POINTS, (Style){.label = "inputs", .color = COLOR_MUTED});
    for (size_t c = 0; c < s->count; c++) {
        Style style = checkpoint_style(&s->list[c], (int)c);
        style.width = groups > 1 ? 1 : 2;
        for (int g = 0; g < groups; g++) {
            for (int i = 0; i < CURVE_POINTS; i++) { y[i] = values_at(s, c, k, g)[i]; }
            plot_line(f, x, y, CURVE_POINTS, style);
            style.label = NULL;
        }
    }
}

static void functions_panel(Figure* f, const FunctionStudy* s, size_t k, int rank) {
    const FunctionPlace* p = &s->places[k];
    bool inner = karat_has_inner(karat_dims(&s->run->t.model, s->run->t.model.dims, 1));
    char title[PLOT_TEXT];
    if (p->which) {
        snprintf(title, sizeof title, "block %d, rational %d", p->block, p->which);
    } else {
        snprintf(title, sizeof title, "block %d, head %d: φ(%d, %d), %s", p->block, head_number(s, p), p->p, p->q,
                 rank % 2 ? "median spread" : "largest spread");
    }
    Axis x = {.label = p->which ? "input" : inner ? "logit" : "z", .low = p->x[0], .high = p->x[CURVE_POINTS - 1]};
    panel_begin(f, title, x, (Axis){.label = p->which ? "F(input)" : "φ"});
    plot_place(f, s, k);
    panel_end(f);
}

static bool functions_figure(const FunctionStudy* s, bool rationals, Results* results, Error* err) {
    char subject[1024];
    Figure f;
    const Checkpoint* last = &s->list[s->count - 1];
    subject_of(s->run, last->name, last->step, subject, sizeof subject);
    size_t used = strlen(subject);
    snprintf(subject + used, sizeof subject - used, " and before; shaded: how dense its inputs are, not to scale%s",
             rationals ? "; a line a group" : "");
    figure_begin(&f, results, rationals ? "functions-rational" : "functions-karat", 2,
                 rationals ? "Rationals of the MLPs" : "Functions of KArAt's heads",
                 "a learned function over the range of its inputs, at several checkpoints", subject);
    int shown = 0;
    for (size_t k = 0; k < s->place_count && f.panels < PLOT_MAX_PANELS; k++) {
        if ((s->places[k].which > 0) == rationals) { functions_panel(&f, s, k, shown++); }
    }
    return figure_end(&f, err);
}

// The change of a function since the first checkpoint: the largest distance over its inputs
static double change_of(const FunctionStudy* s, size_t k) {
    double change = 0;
    for (int i = 0; i < groups_of(s, &s->places[k]) * CURVE_POINTS; i++) {
        change = fmax(change, fabs(values_at(s, s->count - 1, k, 0)[i] - values_at(s, 0, k, 0)[i]));
    }
    return change;
}

// The largest distance between two groups at the last checkpoint
static double group_gap(const FunctionStudy* s, size_t k) {
    double gap = 0;
    for (int i = 0; i < CURVE_POINTS; i++) {
        double low = INFINITY, high = -INFINITY;
        for (int g = 0; g < groups_of(s, &s->places[k]); g++) {
            low = fmin(low, values_at(s, s->count - 1, k, g)[i]);
            high = fmax(high, values_at(s, s->count - 1, k, g)[i]);
        }
        gap = fmax(gap, high - low);
    }
    return gap;
}

static void functions_table(const FunctionStudy* s, bool rationals, Results* results) {
    Table t;
    char title[256];
    snprintf(title, sizeof title, "%s (inputs: 99 %% of them; change: largest, from %s to %s%s)",
             rationals ? "Rationals" : "Functions of KArAt", s->list[0].name, s->list[s->count - 1].name,
             rationals ? "; between groups: largest, at the end" : "; deviation: of outputs over inputs, at the end");
    table_begin(&t, title, rationals ? "block\trational\tinputs from\tto\tchange\tbetween groups"
                                     : "block\thead\tp, q\tinputs from\tto\tchange\tdeviation");
    for (size_t k = 0; k < s->place_count; k++) {
        const FunctionPlace* p = &s->places[k];
        double from = p->x[0], to = p->x[CURVE_POINTS - 1];
        if ((p->which > 0) != rationals) { continue; }
        if (rationals) {
            table_row(&t, "%d\t%d\t%.3g\t%.3g\t%.3g\t%.3g", p->block, p->which, from, to, change_of(s, k),
                      group_gap(s, k));
        } else {
            table_row(&t, "%d\t%d\t%d, %d\t%.3g\t%.3g\t%.3g\t%.3g", p->block, head_number(s, p), p->p, p->q, from, to,
                      change_of(s, k), p->spread);
        }
    }
    table_end(&t, results);
}

// ---- The command

static bool functions_begin(FunctionStudy* s, Analysis* a, Error* err) {
    s->run = &a->runs[0];
    const Config* c = &s->run->config;
    if (c->attn != ATTN_KARAT && !has_rationals(c)) {
        return nothing_to_analyze(a, err, "%s has no learned functions, as KArAt and the rationals are (attention %s, "
                                  "mlp %s)", s->run->folder, choice_name(config_option("attn")->choices, c->attn),
                                  choice_name(config_option("mlp")->choices, c->mlp));
    }
    bool ready = attends_to_all(a, s->run, err) && run_model(s->run, err) &&
                 run_checkpoints(s->run, a->options.checkpoints, &s->list, &s->count, err) && run_data(s->run, err);
    if (!ready) { return false; }
    Dims d = s->run->t.model.dims;
    const char *blocks = a->options.blocks, *heads = a->options.heads;
    return block_list(s->run, blocks, s->blocks, &s->block_count, err) &&
           number_list(*heads ? heads : "all", d.H, "head", s->heads, &s->head_count, err);
}

static bool functions_write(const FunctionStudy* s, bool rationals, Results* results, Error* err) {
    bool any = false;
    for (size_t k = 0; k < s->place_count; k++) { any = any || (s->places[k].which > 0) == rationals; }
    if (!any) { return true; }
    if (!functions_csv(s, rationals, results, err) || !functions_figure(s, rationals, results, err)) { return false; }
    functions_table(s, rationals, results);
    return true;
}

static bool functions(Analysis* a, Error* err) {
    FunctionStudy* s = alloc_array(FunctionStudy, 1, "an analysis");
    bool ok = functions_begin(s, a, err) && find_places(s, &a->results, err) && evaluate_places(s, err) &&
              functions_write(s, false, &a->results, err) && functions_write(s, true, &a->results, err);
    free(s->list);
    free(s->places);
    free(s->values);
    free(s);
    return ok;
}
