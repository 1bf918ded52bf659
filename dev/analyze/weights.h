// ./analyze weights: the distribution of the weights at several checkpoints: all of them, those of each kind of tensor,
// and, for KArAt, the coefficients and W of each head. For n weights w of mean m and s² = Σ (w - m)² / n:
//     kurtosis   Σ (w - m)^4 / (n s^4)                 3 for a normal distribution, more for heavy tails
//     beyond     the share with |w - m| > 3 s          0.27 % for a normal distribution
#pragma once
#include "analysis.h"
#include "parameter_rows.h"

typedef struct { size_t count; double mean, sd, kurtosis, beyond, low, high; } Moments;

// Of non-contiguous parts
typedef struct { const float* values; size_t count; } Part;
enum { MOST_BINS = 81 };

static Moments moments_of(const Part* parts, int part_count) {
    Moments m = {.low = INFINITY, .high = -INFINITY};
    double sum = 0, second = 0, fourth = 0, beyond = 0;
    for (int k = 0; k < part_count; k++) {
        m.count += parts[k].count;
        for (size_t i = 0; i < parts[k].count; i++) {
            double w = parts[k].values[i];
            sum += w;
            m.low = fmin(m.low, w);
            m.high = fmax(m.high, w);
        }
    }
    m.mean = m.count ? sum / (double)m.count : 0;
    for (int k = 0; k < part_count; k++) {
        for (size_t i = 0; i < parts[k].count; i++) {
            double square = pow(parts[k].values[i] - m.mean, 2);
            second += square;
            fourth += square * square;
        }
    }
    double variance = m.count ? second / (double)m.count : 0;
    for (int k = 0; k < part_count; k++) {
        for (size_t i = 0; i < parts[k].count; i++) { beyond += pow(parts[k].values[i] - m.mean, 2) > 9 * variance; }
    }
    m.sd = sqrt(variance);
    m.kurtosis = variance > 0 ? fourth / (double)m.count / (variance * variance) : NAN;
    m.beyond = m.count ? beyond / (double)m.count : 0;
    return m;
}

// Fewer bins for few weights; an odd number, so that 0 is in the middle of one
static int bins_for(size_t count) {
    double bins = 2 * cbrt((double)count);
    return bins > MOST_BINS ? MOST_BINS : bins < 11 ? 11 : (int)bins / 2 * 2 + 1;
}

// Shares of the weights per unit of width, in bins_for(count) bins from -reach to reach
static void density_of(const Part* parts, int part_count, size_t count, double reach, double* density) {
    int bins = bins_for(count);
    double width = 2 * reach / bins;
    memset(density, 0, (size_t)bins * sizeof *density);
    for (int k = 0; k < part_count; k++) {
        for (size_t i = 0; i < parts[k].count; i++) {
            double bin = floor((parts[k].values[i] + reach) / width);
            if (bin >= 0 && bin < bins) { density[(int)bin] += 1 / ((double)count * width); }
        }
    }
}

// ---- Which weights belong together

typedef struct {
    char label[96];
    int row;             // of the parameter table; -1: all
    int block, head;     // -1: all
} WeightGroup;

typedef struct {
    Run* run;
    Checkpoint* list;
    size_t count;            // checkpoints
    WeightGroup* groups;
    size_t group_count, room;
    Part* parts;             // (tensors), of one group
    Moments* moments;        // (count, group_count)
    double* density;         // (count, group_count, MOST_BINS)
    double* reach;           // (group_count)
    int blocks[1024], block_count, heads[1024], head_count; // chosen
} WeightStudy;

static double* density_at(const WeightStudy* s, size_t c, size_t g) {
    return s->density + (c * s->group_count + g) * MOST_BINS;
}

static bool add_group(WeightStudy* s, const char* label, int row, int block, int head, Error* err) {
    WeightGroup* grown = (WeightGroup*)array_grow(s->groups, s->group_count, &s->room, sizeof *grown, err);
    if (!grown) { return false; }
    s->groups = grown;
    WeightGroup* g = &grown[s->group_count++];
    *g = (WeightGroup){.row = row, .block = block, .head = head};
    snprintf(g->label, sizeof g->label, "%s", label);
    return true;
}

// "blocks.%d.attn.qkv.weight" is attn.qkv.
static void row_label(const Parameter* p, char label[64]) {
    const char* name = strncmp(p->name, "blocks.%d.", 10) == 0 ? p->name + 10 : p->name;
    snprintf(label, 64, "%.*s", (int)(strlen(name) - (ends_with(name, ".weight") ? 7 : 0)), name);
}

// Whether the outermost dimension of a block's tensor is heads, each with its own weights
static bool row_has_heads(int row) {
    return row == ROW_karat_coef || row == ROW_outer_coef || row == ROW_karat_weight || row == ROW_mixing ||
           row == ROW_rank_down || row == ROW_rank_up;
}

// Adds chosen blocks of a tensor that each block has, or the one that they share.
static bool add_heads(WeightStudy* s, int row, const char* label, Error* err) {
    const ParameterTable* table = &s->run->t.model.table;
    bool per_block = table->row[0][row].per_block, ok = true;
    for (int i = 0; ok && i < (per_block ? s->block_count : 1); i++) {
        const Parameter* p = &table->row[s->blocks[i]][row];
        for (int k = 0; ok && k < s->head_count; k++) {
            int h = s->heads[k];
            if (p->size && h < p->shape[0]) { ok = add_group(s, label, row, per_block ? s->blocks[i] : -1, h, err); }
        }
    }
    return ok;
}

static size_t row_elements(const ParameterTable* table, int row) {
    size_t elements = 0;
    for (int l = 0; l < row_copies(table, row); l++) { elements += table->row[l][row].size; }
    return elements;
}

// Chooses all, each kind of tensor large enough for a histogram, and the heads of tensors that have them.
static bool choose_groups(WeightStudy* s, Error* err) {
    const ParameterTable* table = &s->run->t.model.table;
    enum { ENOUGH = 100 };
    bool ok = add_group(s, "all weights", -1, -1, -1, err);
    for (int pass = 0; pass < 2; pass++) { // kinds, then heads
        for (int row = 0; ok && row < PARAMETER_ROWS; row++) {
            const Parameter* p = &table->row[0][row];
            char label[64];
            row_label(p, label);
            if (row_elements(table, row) < ENOUGH || p->rank < 2) { continue; }
            if (pass == 0) { ok = add_group(s, label, row, -1, -1, err); }
            if (pass == 1 && row_has_heads(row)) { ok = add_heads(s, row, label, err); }
        }
    }
    return ok;
}

static Part head_of(const float* flat, const Parameter* p, int head) {
    size_t size = p->size / (size_t)p->shape[0];
    return (Part){flat + p->offset + (size_t)head * size, size};
}

// parts: space for all tensors; returns their number
static int parts_of(Part* parts, const Model* m, const float* flat, const WeightGroup* g) {
    const ParameterTable* table = &m->table;
    int count = 0;
    if (g->head >= 0) {
        parts[0] = head_of(flat, &table->row[g->block < 0 ? 0 : g->block][g->row], g->head);
        return 1;
    }
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; (g->row < 0 || g->row == i) && l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            if (p->size) { parts[count++] = (Part){flat + p->offset, p->size}; }
        }
    }
    return count;
}

// ---- Two passes over the checkpoints: moments, then densities, in bins common to all

static bool study_moments(WeightStudy* s, float* flat, Error* err) {
    Model* m = &s->run->t.model;
    for (size_t c = 0; c < s->count; c++) {
        if (!run_weights(s->run, s->list[c].name, flat, &s->list[c].step, err)) { return false; }
        for (size_t g = 0; g < s->group_count; g++) {
            Moments* moments = &s->moments[c * s->group_count + g];
            *moments = moments_of(s->parts, parts_of(s->parts, m, flat, &s->groups[g]));
            double farthest = fmax(-moments->low, moments->high), usual = fabs(moments->mean) + 6 * moments->sd;
            s->reach[g] = fmax(s->reach[g], fmin(farthest, usual));
        }
    }
    for (size_t g = 0; g < s->group_count; g++) { s->reach[g] = s->reach[g] > 0 ? s->reach[g] : 1; }
    return true;
}

static bool study_densities(WeightStudy* s, float* flat, Error* err) {
    Model* m = &s->run->t.model;
    for (size_t c = 0; c < s->count; c++) {
        if (!run_weights(s->run, s->list[c].name, flat, &s->list[c].step, err)) { return false; }
        for (size_t g = 0; g < s->group_count; g++) {
            int parts = parts_of(s->parts, m, flat, &s->groups[g]);
            density_of(s->parts, parts, s->moments[g].count, s->reach[g], density_at(s, c, g));
        }
    }
    return true;
}

// ---- What is written

static const char* number_or_all(int number, char text[16]) {
    snprintf(text, 16, number < 0 ? "all" : "%d", number);
    return text;
}

// The first cells of a row: which weights, and when
static void put_group(const Csv* csv, const WeightStudy* s, size_t c, const WeightGroup* g) {
    char block[16], head[16];
    fprintf(csv->out.file, "%s,%lld,%s,%s,%s,", csv_text(s->list[c].name), (long long)s->list[c].step, g->label,
            number_or_all(g->block, block), number_or_all(g->head, head));
}

static bool weights_csv(const WeightStudy* s, const Results* results, Error* err) {
    Csv csv;
    if (!csv_begin(&csv, results, "weights.csv", "checkpoint,step,tensor,block,head,count,mean,sd,kurtosis,beyond_3sd,"
                   "smallest,largest", err)) { return false; }
    for (size_t c = 0; c < s->count; c++) {
        for (size_t g = 0; g < s->group_count; g++) {
            const WeightGroup* group = &s->groups[g];
            const Moments* m = &s->moments[c * s->group_count + g];
            put_group(&csv, s, c, group);
            csv_row(&csv, "%zu,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g", m->count, m->mean, m->sd, m->kurtosis, m->beyond, m->low,
                    m->high);
        }
    }
    return csv_end(&csv, err);
}

static bool histogram_csv(const WeightStudy* s, const Results* results, Error* err) {
    Csv csv;
    if (!csv_begin(&csv, results, "weights-histogram.csv", "checkpoint,step,tensor,block,head,from,to,density", err)) {
        return false;
    }
    for (size_t c = 0; c < s->count; c++) {
        for (size_t g = 0; g < s->group_count; g++) {
            const WeightGroup* group = &s->groups[g];
            const double* density = density_at(s, c, g);
            int bins = bins_for(s->moments[g].count);
            double width = 2 * s->reach[g] / bins;
            for (int i = 0; i < bins; i++) {
                put_group(&csv, s, c, group);
                csv_row(&csv, "%.9g,%.9g,%.9g", i * width - s->reach[g], (i + 1) * width - s->reach[g], density[i]);
            }
        }
    }
    return csv_end(&csv, err);
}

static Style checkpoint_style(const Checkpoint* c, int number) {
    bool start = strcmp(c->name, "start") == 0;
    int color = number - 1 < 0 ? 0 : number - 1;
    return (Style){.label = c->name, .color = start ? COLOR_MUTED : color, .dash = start ? 1 : color / COLORS};
}

static void weights_panel(Figure* f, const WeightStudy* s, size_t g) {
    const WeightGroup* group = &s->groups[g];
    char title[PLOT_TEXT];
    int bins = bins_for(s->moments[g].count);
    double x[MOST_BINS], y[MOST_BINS], width = 2 * s->reach[g] / bins;
    int used = snprintf(title, sizeof title, "%s", group->label);
    if (group->block >= 0) { used += snprintf(title + used, sizeof title - (size_t)used, ", block %d", group->block); }
    if (group->head >= 0) { snprintf(title + used, sizeof title - (size_t)used, ", head %d", group->head); }
    panel_begin(f, title, (Axis){.label = "weight", .low = -s->reach[g], .high = s->reach[g]},
                (Axis){.label = "density", .log = true});
    for (size_t c = 0; c < s->count; c++) {
        const double* density = density_at(s, c, g);
        for (int i = 0; i < bins; i++) {
            x[i] = (i + 0.5) * width - s->reach[g];
            y[i] = density[i] > 0 ? density[i] : NAN;
        }
        plot_line(f, x, y, bins, checkpoint_style(&s->list[c], (int)c));
    }
    panel_end(f);
}

// Whether it has a single value at every checkpoint, and so no histogram
static bool is_constant(const WeightStudy* s, size_t g) {
    bool constant = true;
    for (size_t c = 0; c < s->count; c++) { constant = constant && !(s->moments[c * s->group_count + g].sd > 0); }
    return constant;
}

// For the groups with heads, or those without
static bool weights_figure(const WeightStudy* s, bool of_heads, Results* results, Error* err) {
    char subject[1024];
    Figure f;
    int count = 0;
    for (size_t g = 0; g < s->group_count; g++) { count += (s->groups[g].head >= 0) == of_heads; }
    if (!count) { return true; }
    subject_of(s->run, "", 0, subject, sizeof subject);
    int columns = !of_heads ? 3 : s->head_count < 4 ? s->head_count : 4;
    figure_begin(&f, results, of_heads ? "weights-heads" : "weights", columns,
                 of_heads ? "Weights of each head" : "Weights", "densities of the weights, one line a checkpoint",
                 subject);
    for (size_t g = 0; g < s->group_count && f.panels < PLOT_MAX_PANELS; g++) {
        if ((s->groups[g].head >= 0) == of_heads && !is_constant(s, g)) { weights_panel(&f, s, g); }
    }
    return figure_end(&f, err);
}

static void weights_table(const WeightStudy* s, Results* results) {
    Table t;
    table_begin(&t, "Weights (a normal distribution has kurtosis 3, and 0.27 % beyond 3 standard deviations)",
                "tensor\tblock\thead\tcheckpoint\tcount\tmean\tdeviation\tkurtosis\tbeyond 3 sd, %");
    char block[16], head[16];
    for (size_t g = 0; g < s->group_count; g++) {
        const WeightGroup* group = &s->groups[g];
        for (size_t c = 0; c < s->count; c++) {
            const Moments* m = &s->moments[c * s->group_count + g];
            if (c > 0 && c + 1 < s->count) { continue; } // the csv has those in between
            table_row(&t, "%s\t%s\t%s\t%s\t%zu\t%.3g\t%.3g\t%.2f\t%.2f", group->label,
                      number_or_all(group->block, block), number_or_all(group->head, head), s->list[c].name, m->count,
                      m->mean, m->sd, m->kurtosis, 100 * m->beyond);
        }
    }
    table_end(&t, results);
}

// ---- The command

static bool weights_begin(WeightStudy* s, Analysis* a, Error* err) {
    const char* blocks = *a->options.blocks ? a->options.blocks : "last";
    const char* heads = *a->options.heads ? a->options.heads : "all";
    s->run = &a->runs[0];
    bool there = run_model(s->run, err) && run_checkpoints(s->run, a->options.checkpoints, &s->list, &s->count, err);
    if (!there) { return false; }
    Dims d = s->run->t.model.dims;
    bool chosen = number_list(blocks, d.L, "block", s->blocks, &s->block_count, err) &&
                  number_list(heads, d.H, "head", s->heads, &s->head_count, err) && choose_groups(s, err);
    if (!chosen) { return false; }
    size_t cells = s->count * s->group_count;
    s->parts = alloc_array(Part, s->run->t.model.tensor_count, "moments");
    s->moments = alloc_array(Moments, cells, "moments");
    s->density = alloc_array(double, cells * MOST_BINS, "histograms");
    s->reach = alloc_array(double, s->group_count, "histograms");
    return true;
}

static bool weights(Analysis* a, Error* err) {
    WeightStudy* s = alloc_array(WeightStudy, 1, "an analysis");
    bool ok = weights_begin(s, a, err);
    float* flat = ok ? alloc_floats(s->run->t.model.table.total, "weights") : NULL;
    ok = ok && study_moments(s, flat, err) && study_densities(s, flat, err);
    ok = ok && weights_csv(s, &a->results, err) && histogram_csv(s, &a->results, err) &&
         weights_figure(s, false, &a->results, err) && weights_figure(s, true, &a->results, err);
    if (ok) { weights_table(s, &a->results); }
    free(flat);
    free(s->list);
    free(s->groups);
    free(s->parts);
    free(s->moments);
    free(s->density);
    free(s->reach);
    free(s);
    return ok;
}
