// ./analyze spectrum: singular values of attention's logits A and weights sigma, (N,N) each, over images and heads (by
// default of the last block and five test images, as in KArAt's paper). Numbers: the largest, the numerical rank, the
// effective rank, and whether the rank respects the attention's bound:
//     A        D, the width of a head: it is a product of (N,D) and (D,N)
//     sigma    KArAt in the order W Phi(A): r, and one more for a bias; softmax-rank: r; linear: D; others: N
#pragma once
#include "analysis.h"
#include "attention_maps.h"
#include "singular_values.h"

enum { SPECTRUM_IMAGES = 5 };

typedef struct {
    Run* run;
    int images, N, H;
    double* values[2];      // of A and sigma, (images, H, N), for the current block
    int head_count, *heads; // those analysed
    Csv spreads, ranks;
    Table table;
    Figure figure;
    bool exceeded;          // some rank exceeds its bound
} Spectrum;

static int rank_limit(const Model* m, int head, int matrix) {
    const Config* c = &m->config;
    bool karat = c->attn == ATTN_KARAT && head >= c->softmax_heads, W_last = c->karat_order == KARAT_W_PHI;
    bool projects = c->karat_projection != PROJECT_NONE && c->karat_project == KARAT_PROJECT_SIGMA;
    int N = m->dims.N, limit = N;
    if (matrix == 0 || c->attn == ATTN_LINEAR) {
        limit = m->dims.D;
    } else if (karat && W_last && !c->karat_full && !projects) {
        limit = m->dims.R + (c->karat_bias != KARAT_BIAS_OFF);
    } else if (c->attn == ATTN_SOFTMAX_RANK) {
        limit = m->dims.R;
    }
    return limit < N ? limit : N;
}

// ---- Singular values

// For maps (B,H,N,N) of images first..; each matrix by one thread
static void spectrum_of_maps(Spectrum* s, int matrix, const float* maps, int first, int B) {
    int N = s->N;
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < B * s->H; bh++) {
        double* M = alloc_array(double, (size_t)N * N, "singular values");
        for (int i = 0; i < N * N; i++) { M[i] = maps[(size_t)bh * N * N + i]; }
        singular_values(s->values[matrix] + ((size_t)first * s->H + bh) * N, M, N);
        free(M);
    }
}

static void spectrum_of_block(Spectrum* s, int l, WorkProgress* progress) {
    Trainer* t = &s->run->t;
    Model* m = &t->model;
    float* maps = alloc_floats((size_t)m->B * s->H * s->N * s->N, "attention maps");
    loader_seek(&t->test_loader, 0);
    for (int first = 0; first < s->images;) {
        const Batch* batch = loader_next(&t->test_loader);
        int B = batch->count < s->images - first ? batch->count : s->images - first;
        model_forward(m, m->params, model_images(m, batch), B, NULL);
        Acts a = acts_of_block(&m->acts_table, m->acts, l);
        attention_logits(maps, m, a, B);
        spectrum_of_maps(s, 0, maps, first, B);
        attention_weights(maps, m, params_of_block(&m->table, m->params, l), a, B);
        spectrum_of_maps(s, 1, maps, first, B);
        first += B;
        progress->units += B;
        work_progress_say(progress, "spectrum", "");
    }
    free(maps);
}

// The k-th of images * head_count analysed matrices
static const double* values_of(const Spectrum* s, int matrix, int k) {
    size_t image = (size_t)(k / s->head_count);
    return s->values[matrix] + (image * s->H + s->heads[k % s->head_count]) * s->N;
}

// Singular value i over these matrices
typedef struct { double low, mean, high; } Spread;
static Spread spread_of(const Spectrum* s, int matrix, int i) {
    Spread spread = {INFINITY, 0, 0};
    int count = s->images * s->head_count;
    for (int k = 0; k < count; k++) {
        double value = values_of(s, matrix, k)[i];
        spread.low = fmin(spread.low, value);
        spread.high = fmax(spread.high, value);
        spread.mean += value / count;
    }
    return spread;
}

// ---- What is written of a block

static void write_spreads(Spectrum* s, int block) {
    for (int i = 0; i < s->N; i++) {
        Spread A = spread_of(s, 0, i), sigma = spread_of(s, 1, i);
        csv_row(&s->spreads, "%d,%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.6g", block, i + 1, A.low, A.mean, A.high, sigma.low,
                sigma.mean, sigma.high);
    }
}

// A row of the csv for each matrix, and one of the table for A or sigma
static void write_ranks(Spectrum* s, int block, int matrix) {
    Running largest = {0}, rank = {0}, effective = {0};
    int most = 0, limit = 0;
    bool exceeded = false;
    for (int k = 0; k < s->images * s->head_count; k++) {
        const double* values = values_of(s, matrix, k);
        int head = s->heads[k % s->head_count], own = numerical_rank(values, s->N);
        int allowed = rank_limit(&s->run->t.model, head, matrix);
        csv_row(&s->ranks, "%d,%d,%d,%s,%.6g,%d,%d,%.6g", block, k / s->head_count, head, matrix ? "sigma" : "A",
                values[0], own, allowed, effective_rank(values, s->N));
        running_add(&largest, values[0]);
        running_add(&rank, own);
        running_add(&effective, effective_rank(values, s->N));
        most = own > most ? own : most;
        limit = allowed > limit ? allowed : limit;
        exceeded = exceeded || own > allowed;
    }
    table_row(&s->table, "%d %s\t%.4g\t%.1f\t%d\t%d%s\t%.2f", block, matrix ? "σ" : "A", largest.mean, rank.mean, most,
              limit, exceeded ? " (exceeded)" : "", effective.mean);
    s->exceeded = s->exceeded || exceeded;
}

static double on_log_scale(double x) { return x > 0 ? x : NAN; } // 0 cannot be shown there

static void draw_spectrum(Spectrum* s, int block, int matrix) {
    Figure* f = &s->figure;
    double *x = alloc_array(double, 4 * s->N, "a picture"), *low = x + s->N, *mean = low + s->N, *high = mean + s->N;
    char title[PLOT_TEXT];
    snprintf(title, sizeof title, "Block %d, %s", block, matrix ? "weights σ" : "logits A");
    for (int i = 0; i < s->N; i++) {
        Spread spread = spread_of(s, matrix, i);
        x[i] = i + 1;
        low[i] = on_log_scale(spread.low);
        mean[i] = on_log_scale(spread.mean);
        high[i] = on_log_scale(spread.high);
    }
    panel_begin(f, title, (Axis){.label = "index"}, (Axis){.label = "singular value", .log = true});
    plot_band(f, x, low, high, s->N, matrix);
    plot_line(f, x, mean, s->N, (Style){.label = "mean; band: min to max", .color = matrix});
    panel_end(f);
    free(x);
}

// ---- The analysis

static bool open_spectrum(Spectrum* s, Analysis* a, int64_t* step, Error* err) {
    Run* r = &a->runs[0];
    Model* m = &r->t.model;
    AnalyzeOptions* o = &a->options;
    *s = (Spectrum){.run = r};
    if (!o->images) { o->images = SPECTRUM_IMAGES; }
    if (!attends_to_all(a, r, err) || !run_model(r, err)) { return false; }
    if (!run_weights(r, o->checkpoint, m->params, step, err) || !run_data(r, err)) { return false; }
    s->images = r->t.test.count;
    s->N = m->dims.N;
    s->H = m->dims.H;
    for (int k = 0; k < 2; k++) {
        s->values[k] = alloc_array(double, (size_t)s->images * s->H * s->N, "singular values");
    }
    s->heads = alloc_array(int, s->H, "heads");
    return number_list(*o->heads ? o->heads : "all", s->H, "head", s->heads, &s->head_count, err);
}

static void close_spectrum(Spectrum* s) {
    free(s->heads);
    free(s->values[0]);
    free(s->values[1]);
}

static bool begin_files(Spectrum* s, Results* out, Error* err) {
    if (!csv_begin(&s->spreads, out, "spectrum.csv",
                   "block,index,A_min,A_mean,A_max,sigma_min,sigma_mean,sigma_max", err)) {
        return false;
    }
    if (!csv_begin(&s->ranks, out, "spectrum-ranks.csv",
                   "block,image,head,matrix,largest,rank,allowed,effective_rank", err)) {
        whole_file_drop(&s->spreads.out);
        return false;
    }
    table_begin(&s->table, "Ranks of attention: means over images and heads",
                "block\tlargest value\trank\thighest\tallowed\teffective rank");
    return true;
}

// Adds the values of KArAt's paper.
static void note_spectrum(const Spectrum* s, Results* out) {
    char text[256];
    snprintf(text, sizeof text, "Of %d images and %d heads. Ranks count values above N ε σ₁, ε = 2⁻²³ of fp32; %s what "
             "is allowed.", s->images, s->head_count, s->exceeded ? "those marked exceed" : "none exceeds");
    results_note(out, text);
    results_note(out, "Published (ViT-Tiny, CIFAR-10 at 224²): A drops after index 63; the largest value of σ is about "
                 "1.25 with softmax and 16 with G3B, which drops after index 12.");
}

static bool write_spectrum(Spectrum* s, Results* out, const int* blocks, int count, const char* subject, Error* err) {
    WorkProgress progress = work_progress((double)count * s->images);
    if (!begin_files(s, out, err)) { return false; }
    figure_begin(&s->figure, out, "spectrum", 2, "Singular values of attention",
                 "singular values by index, their minimum, mean and maximum over images and heads", subject);
    for (int i = 0; i < count; i++) {
        spectrum_of_block(s, blocks[i], &progress);
        write_spreads(s, blocks[i]);
        for (int matrix = 0; matrix < 2; matrix++) {
            write_ranks(s, blocks[i], matrix);
            draw_spectrum(s, blocks[i], matrix);
        }
    }
    table_end(&s->table, out);
    note_spectrum(s, out);
    bool ok = csv_end(&s->spreads, err);
    ok = csv_end(&s->ranks, err) && ok;
    return figure_end(&s->figure, err) && ok;
}

static bool spectrum(Analysis* a, Error* err) {
    Spectrum s;
    char subject[1024];
    int64_t step;
    bool ok = open_spectrum(&s, a, &step, err);
    if (ok) {
        int L = s.run->t.model.dims.L, count, *blocks = alloc_array(int, L, "blocks");
        subject_of(s.run, a->options.checkpoint, step, subject, sizeof subject);
        ok = block_list(s.run, a->options.blocks, blocks, &count, err) &&
             write_spectrum(&s, &a->results, blocks, count, subject, err);
        free(blocks);
    }
    close_spectrum(&s);
    return ok;
}
