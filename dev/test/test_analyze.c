// The numbers of ./analyze against small computations of their own, and what its pictures and pages are made of:
// curves, weights, functions, path, report. What the commands do with runs, good and bad ones, is in
// test_analyze_runs.sh.
#pragma GCC diagnostic ignored "-Wunused-function" // what only main calls
#define TESTING
#include "../../train_vit.c"
#include "../analyze/analysis.h"
#include "../analyze/curves.h"
#include "../analyze/functions.h"
#include "../analyze/path.h"
#include "../analyze/report.h"
#include "../analyze/watch.h"
#include "../analyze/weights.h"
#include "plain_basis.h"
#include "said.h"
#include "config_from.h"

// ---- Moments and densities

static void test_moments(void) {
    static const float first[] = {1, 2, 3}, second[] = {4, 20};
    Part parts[] = {{first, 3}, {second, 2}};
    Moments m = moments_of(parts, 2);
    CHECK(m.count == 5 && m.low == 1 && m.high == 20, "count %zu, from %g to %g", m.count, m.low, m.high);
    CHECK_NEAR(m.mean, 6, 1e-12, "mean of 1 2 3 4 20");
    CHECK_NEAR(m.sd, sqrt((25 + 16 + 9 + 4 + 196) / 5.0), 1e-12, "deviation"); // distances -5 -4 -3 -2 14
    CHECK_NEAR(m.kurtosis, (625 + 256 + 81 + 16 + 38416) / 5.0 / 2500, 1e-12, "kurtosis");
    CHECK_NEAR(m.beyond, 0, 0, "share beyond 3 deviations");
    float many[100] = {[99] = 1}; // mean 0.01, deviation 0.0995
    m = moments_of(&(Part){many, 100}, 1);
    CHECK_NEAR(m.beyond, 0.01, 1e-12, "one of a hundred is beyond 3 deviations");
    m = moments_of(&(Part){first, 1}, 1);
    CHECK(m.sd == 0 && isnan(m.kurtosis), "one value has no kurtosis");
}

static void test_normal_moments(void) {
    enum { COUNT = 40000 };
    float* x = alloc_floats(COUNT, "test");
    double density[MOST_BINS], sum = 0, middle = 0;
    for (int i = 0; i < COUNT; i++) { x[i] = (float)(0.5 * random_normal(7, STREAM_CHECK, 1, (uint64_t)i)); }
    Part part = {x, COUNT};
    Moments m = moments_of(&part, 1);
    CHECK_NEAR(m.kurtosis, 3, 0.12, "kurtosis of normal numbers");
    CHECK_NEAR(m.beyond, 0.0027, 0.0012, "normal numbers beyond 3 deviations");
    density_of(&part, 1, COUNT, 4, density);
    int bins = bins_for(COUNT);
    for (int i = 0; i < bins; i++) { sum += density[i] * 8 / bins; }
    middle = density[bins / 2];
    CHECK_NEAR(sum, 1, 1e-6, "a density sums to 1");
    CHECK_NEAR(middle, 1 / (0.5 * sqrt(2 * plain_pi())), 0.05, "the normal density at 0");
    CHECK(bins_for(10) % 2 && bins_for(3000) % 2 && bins_for(1 << 30) == MOST_BINS, "an odd number of bins");
    free(x);
}

// A head's part of a tensor is what the kernels take for that head's.
static void test_head_parts(void) {
    Model m;
    Error err;
    Config c = config_from("--attn karat --dim 24 --heads 3 --depth 2 --image-size 8 --patch 4 --mlp gelu "
                           "--karat-rank 2");
    if (!model_plan(&m, &c, 10, 2, &err) || !model_allocate(&m, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    KaratDims d = karat_dims(&m, m.dims, 1);
    Params p = params_of_block(&m.table, m.params, 1);
    Part* parts = alloc_array(Part, m.tensor_count, "test");
    int count = parts_of(parts, &m, m.params, &(WeightGroup){.row = ROW_karat_coef, .block = 1, .head = 2});
    size_t size = (size_t)d.R * karat_coefficients(d) * d.N;
    CHECK(count == 1 && parts->count == size && parts->values == p.karat_coef + 2 * size,
          "coefficients of block 1, head 2: %zu from %td", parts->count, parts->values - p.karat_coef);
    count = parts_of(parts, &m, m.params, &(WeightGroup){.row = ROW_karat_weight, .block = 0, .head = 1});
    size = (size_t)d.N * d.R;
    CHECK(count == 1 && parts->count == size && parts->values == params_of(&m.table, m.params).karat_weight + size,
          "W of block 0, head 1: %zu", parts->count);
    count = parts_of(parts, &m, m.params, &(WeightGroup){.row = ROW_karat_weight, .block = -1, .head = -1});
    CHECK(count == 2 && parts[1].values == p.karat_weight && parts[1].count == 3 * size, "W of both blocks");
    count = parts_of(parts, &m, m.params, &(WeightGroup){.row = -1, .block = -1, .head = -1});
    for (int i = size = 0; i < count; i++) { size += parts[i].count; }
    CHECK(count == m.tensor_count && size == m.table.count, "all weights are all");
    free(parts);
    model_free(&m);
}

// ---- Curves

static void make_run(const char* name, const char* flags, const char* rows) {
    char path[600];
    Config c = config_from(flags);
    mkdir(in_folder(name), 0777);
    snprintf(path, sizeof path, "%s/config.txt", in_folder(name));
    FILE* out = fopen(path, "w");
    settings_write(out, &c);
    fclose(out);
    snprintf(path, sizeof path, "%s/metrics.csv", in_folder(name));
    out = fopen(path, "w");
    fprintf(out, "%s%s", metrics_header(), rows);
    fclose(out);
}

// step, epoch, training loss, se, accuracy, lr, norm, ms, images/s, gflops, wait | test loss, se, top-1, se, top-5, se
static const char rows_1[] = "10,1,2,.1,20,.1,1,5,100,1,0,,,,,,\n10,1,,,,,,,,,,2.5,.1,30,1,60,1\n"
                             "20,2,1,.1,40,.1,1,5,100,1,0,,,,,,\n20,2,,,,,,,,,,1.5,.1,50,1,80,1\n";
static const char rows_2[] = "10,1,4,.1,30,.1,1,5,300,1,0,,,,,,\n10,1,,,,,,,,,,3.5,.1,32,1,60,1\n"
                             "15,1.5,9,.1,30,.1,1,5,300,1,0,,,,,,\n20,2,2,.1,60,.1,1,5,300,1,0,,,,,,\n21,2.1,1,.1";

static void open_runs(Run* runs, const char* const* names, int count, const AnalyzeOptions* options) {
    Error err;
    for (int i = 0; i < count; i++) {
        if (!run_open(&runs[i], in_folder(names[i]), options, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    }
}

static void test_curves(void) {
    static AnalyzeOptions options;
    static const char* const names[] = {"seed-1", "seed-2", "other"};
    static Run runs[3];
    MetricsTable logs[3];
    int curve_of[3];
    double x[8], mean[8], low[8], high[8], sd[8];
    Curve curve[3];
    Error err;
    make_run("seed-1", "--model vit-mini --seed 1", rows_1);
    make_run("seed-2", "--model vit-mini --seed 2", rows_2); // its last row is not there yet
    make_run("other", "--model vit-mini --seed 2 --lr 3", rows_2);
    open_runs(runs, names, 3, &options);
    for (int i = 0; i < 3; i++) { CHECK(metrics_read(&logs[i], runs[i].folder, &err), "%s", err.text); }
    CHECK(logs[0].rows == 4 && logs[1].rows == 4, "%d and %d rows", logs[0].rows, logs[1].rows);
    Curves c = {.runs = runs, .logs = logs, .curve_of = curve_of, .curves = curve, .count = 3};
    group_runs(&c);
    CHECK(c.curve_count == 2 && curve[0].count == 2 && curve[1].count == 1, "%d curves", c.curve_count);
    CHECK(strcmp(curve[0].label, "seed-1") == 0, "two curves of one model are named by runs: %s", curve[0].label);
    curve[0].x = x, curve[0].mean = mean, curve[0].low = low, curve[0].high = high, curve[0].sd = sd;
    curve_fill(&c, 0, METRIC_train_loss);
    CHECK(curve[0].rows == 2 && x[0] == 1 && x[1] == 2, "rows that both have: %d", curve[0].rows);
    CHECK_NEAR(mean[0], 3, 1e-12, "mean of 2 and 4");
    CHECK_NEAR(sd[0], sqrt(2), 1e-12, "their deviation");
    CHECK_NEAR(low[1], 1.5 - sqrt(0.5), 1e-12, "the band's lower edge");
    CHECK_NEAR(high[1], 1.5 + sqrt(0.5), 1e-12, "the band's upper edge");
    curve_fill(&c, 0, METRIC_test_top1);
    CHECK(curve[0].rows == 1 && mean[0] == 31, "one evaluation that both have: %d, %g", curve[0].rows, mean[0]);
    CHECK(metrics_last(&logs[0], METRIC_test_loss) == 1.5 && metrics_largest(&logs[1], METRIC_train_loss) == 9,
          "last and largest of a column");
    for (int i = 0; i < 3; i++) { metrics_table_free(&logs[i]); }
}

static void test_watch_line(void) {
    static AnalyzeOptions options;
    static const char* const names[] = {"seed-1"};
    static Run run;
    MetricsTable log;
    Error err;
    char line[512];
    open_runs(&run, names, 1, &options);
    metrics_read(&log, run.folder, &err);
    run.config.epochs = 3; // of 10 steps
    bool done = watch_line(&run, &log, line, sizeof line);
    CHECK(!done && strstr(line, "step 20/30") && strstr(line, "test 50.00 %"), "%s", line);
    run.config.epochs = 2;
    CHECK(watch_line(&run, &log, line, sizeof line) && strstr(line, "done"), "%s", line);
    metrics_table_free(&log);
}

// ---- Functions

static double plain_base(KaratBase base, double x) {
    return base == KARAT_BASE_IDENTITY ? x : base == KARAT_BASE_SILU ? x / (1 + exp(-x))
         : base == KARAT_BASE_GELU ? 0.5 * x * (1 + erf(x / sqrt(2))) : 0;
}

// phi_pq of every basis, with its scales and base activation
static void check_units(const Model* m, const char* flags) {
    KaratDims d = karat_dims(m, m->dims, 1);
    KaratOperator w = first_operator(m, m->params, 1, d);
    int h = d.H - 1, p = d.R - 1, q = d.N - 2, M = karat_coefficients(d);
    size_t unit = ((size_t)h * d.R + p) * d.N + q;
    float* theta = folded_units(w, d, h);
    float x[37], got[37];
    double coef[256], want[37];
    for (int k = 0; k < M; k++) { coef[k] = w.coef[(((size_t)h * d.R + p) * M + k) * d.N + q]; }
    for (int i = 0; i < 37; i++) {
        x[i] = -2.7f + 0.15f * i;
        want[i] = w.scale_basis[unit] * plain_phi(karat_basis(d), coef, x[i], q, d.N)
                + (d.base == KARAT_BASE_ZERO ? 0 : w.scale_base[unit] * plain_base(d.base, x[i]));
    }
    unit_values(got, x, 37, w, theta, d, h, p, q);
    CHECK_TENSOR(got, want, 37, 2e-5, flags);
    free(theta);
}

// The units are the model's: z_kp = Σ_q phi_pq(A_kq) from the logits that the inputs are taken from
static void check_sum(const Model* m, const char* flags, int B) {
    KaratDims d = karat_dims(m, m->dims, B);
    int N = d.N, heads = m->dims.H, h = d.H - 1, b = B - 1, p = d.R - 1;
    Acts a = acts_of_block(&m->acts_table, m->acts, 1);
    KaratOperator w = first_operator(m, m->params, 1, d);
    float *A = alloc_floats((size_t)B * heads * N * N, "test"), *theta = folded_units(w, d, h);
    float inputs[64], values[64];
    double sum[64] = {0};
    attention_logits(A, m, a, B);
    UnitInputs in = {A, B, heads, m->config.softmax_heads + h, N, N};
    for (int q = 0; q < N; q++) {
        int n = unit_inputs(inputs, &in, q, B * N);
        CHECK(n == B * N, "%d inputs", n);
        unit_values(values, inputs, n, w, theta, d, h, p, q);
        for (int k = 0; k < N; k++) { sum[k] += values[b * N + k]; }
    }
    float got[64];
    for (int k = 0; k < N; k++) { got[k] = a.z[(((size_t)b * d.H + h) * N + k) * d.R + p]; }
    CHECK_TENSOR(got, sum, (size_t)N, 1e-4, flags);
    free(A);
    free(theta);
}

static void test_units(void) {
    enum { B = 2 };
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        char flags[512];
        const char* order = basis % 2 ? "phi-phi" : "w-phi";
        static Model m;
        Error err;
        snprintf(flags, sizeof flags, "--attn karat --basis %s --karat-base %s --karat-order %s --dim 24 --heads 3 "
                 "--depth 2 --image-size 8 --patch 2 --mlp gelu --karat-rank 2 --softmax-heads 1",
                 choice_name(config_option("basis")->choices, basis), basis % 3 ? "silu" : "gelu", order);
        Config c = config_from(flags);
        c.classes = 10;
        c.batch_size = B;
        if (!plan_whole_model(&m, &c, &err) || !model_allocate(&m, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
        float* images = alloc_floats(B * 3 * 64, "test");
        for (int i = 0; i < B * 3 * 64; i++) { images[i] = (float)random_normal(1, STREAM_CHECK, 7, (uint64_t)i); }
        model_forward(&m, m.params, images, B, NULL);
        check_units(&m, flags);
        check_sum(&m, flags, B);
        free(images);
        model_free(&m);
    }
}

static void test_inputs(void) {
    enum { COUNT = 2001 };
    float x[COUNT], thin[200];
    FunctionPlace place;
    double sum = 0;
    for (int i = 0; i < COUNT; i++) { x[i] = (float)((i * 1237) % COUNT) / (COUNT - 1); } // 0 to 1, mixed
    place_inputs(&place, x, COUNT);
    CHECK_NEAR(place.x[0], 0.005, 1e-3, "the range leaves 0.5 % out below");
    CHECK_NEAR(place.x[CURVE_POINTS - 1], 0.995, 1e-3, "and above");
    CHECK_NEAR(place.density[CURVE_POINTS / 2], 1, 0.02, "the density of even inputs");
    for (int k = 0; k < CURVE_POINTS; k++) { sum += place.density[k] * (place.x[1] - place.x[0]); }
    CHECK_NEAR(sum, 0.97, 0.03, "a density is near 1 in sum");
    for (int i = 0; i < COUNT; i++) { x[i] = 3; }
    place_inputs(&place, x, COUNT);
    CHECK(place.x[CURVE_POINTS - 1] > place.x[0], "inputs of one value still have a range");
    int n = thin_out(thin, x, COUNT, 199);
    CHECK(n > 150 && n <= 199, "%d of %d inputs, at most 199", n, COUNT);
}

// ---- Path

static void test_path(void) {
    static const float start[] = {0, 0}, one[] = {3, 0}, end[] = {3, 4};
    double turn[2] = {0};
    CHECK_NEAR(distance_between(start, end, 2), 5, 1e-12, "distance of 3, 4");
    CHECK(isnan(turn_by(turn, start, one, 2)), "the first step has no turn");
    CHECK_NEAR(turn_by(turn, one, end, 2), 0, 1e-12, "a right angle");
    CHECK_NEAR(turn_by(turn, end, start, 2), -0.8, 1e-12, "back: (0,4)·(-3,-4) / 20");
    CHECK_NEAR(turn_by(turn, start, end, 2), -1, 1e-12, "and forth again");
    CHECK_NEAR(product_from(start, one, end, 2) / product_from(start, end, end, 2), 9.0 / 25, 1e-12, "along the line");
}

// ---- Options, files, pictures

static void test_number_list(void) {
    int numbers[5], count;
    Error err;
    CHECK(number_list("0,3", 5, "block", numbers, &count, &err) && count == 2 && numbers[1] == 3, "0,3");
    CHECK(number_list("last", 5, "block", numbers, &count, &err) && count == 1 && numbers[0] == 4, "last");
    CHECK(number_list("all", 5, "block", numbers, &count, &err) && count == 5 && numbers[4] == 4, "all");
    static const char* const bad[] = {"5", "-1", "1;2", "x", "", "0,0,0,0,0,0", "1,,2"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK(!number_list(bad[i], 5, "block", numbers, &count, &err) && strstr(err.text, "from 0 to 4"), "'%s': %s",
              bad[i], err.text);
    }
}

static void test_csv(void) {
    Results r = {.lock = -1};
    Csv csv;
    Error err;
    size_t count;
    snprintf(r.folder, sizeof r.folder, "%s", test_folder);
    CHECK(strcmp(csv_text("a, \"b\""), "\"a, \"\"b\"\"\"") == 0 && strcmp(csv_text("plain"), "plain") == 0, "quotes");
    write_file(in_folder("mine.csv"), "my own, numbers\n", 16);
    CHECK(!csv_begin(&csv, &r, "mine.csv", "step,loss", &err) && strstr(err.text, "stays as it is"), "%s", err.text);
    char* text = (char*)read_file(in_folder("mine.csv"), &count);
    CHECK(strcmp(strtok(text, "\n"), "my own, numbers") == 0, "a stranger's csv is unchanged");
    free(text);
    said_begin();
    for (int again = 0; again < 2; again++) {
        CHECK(csv_begin(&csv, &r, "own.csv", "step,loss", &err), "%s", err.text);
        csv_row(&csv, "%d,%g", again, 0.5);
        CHECK(csv_end(&csv, &err), "%s", err.text);
    }
    said_end();
    text = (char*)read_file(in_folder("own.csv"), &count);
    CHECK(count == 16 && memcmp(text, "step,loss\n1,0.5\n", 16) == 0, "its own is replaced: %.16s", text);
    free(text);
}

// What `write` puts into a page, to be freed
static char* page_text(void (*write)(FILE* page)) {
    char* text = NULL;
    size_t size;
    FILE* page = open_memstream(&text, &size);
    write(page);
    fclose(page);
    return text;
}

static void put_a_text(FILE* page) { html_text(page, "<b> & \"c\""); }
static void put_a_table(FILE* page) {
    char cells[] = "name\tvalue\n<a>\t1\n";
    table_html(page, "Title", cells);
}
static void put_base64_tests(FILE* page) {
    put_base64(page, (const uint8_t*)"Man", 3);
    fputc(' ', page);
    put_base64(page, (const uint8_t*)"Ma", 2);
    fputc(' ', page);
    put_base64(page, (const uint8_t*)"\xff", 1);
}
static void put_a_picture(FILE* page) {
    static const char svg[] = "<?xml version=\"1.0\"?>\n<svg width=\"9\" xmlns=\"http://www.w3.org/2000/svg\"\n>\n"
        "<title>Gnuplot</title><desc>Produced by GNUPLOT</desc><rect fill=\"#ffffff\"/>"
        "<path id='a' stroke='rgb( 26,  27,  28)' fill='rgb(213,94,0)' d='M1,2'/><use xlink:href='#a'/>"
        "<path stroke='rgb(1,2,3)' filter='url(#f)'/></svg>\n";
    Error err;
    if (!page_svg(page, svg, "a & b", 7, &err)) { fputs(err.text, page); }
}

static void test_page_parts(void) {
    static const struct { void (*write)(FILE* page); const char* text; } rows[] = {
        {put_a_text, "&lt;b&gt; &amp; &quot;c&quot;"},
        {put_a_table, "<div class=\"table\" tabindex=\"0\"><table><caption>Title</caption>\n"
         "<tr><th scope=\"col\">name</th><th scope=\"col\">value</th></tr>\n"
         "<tr><th scope=\"row\">&lt;a&gt;</th><td>1</td></tr>\n</table></div>\n"},
        {put_base64_tests, "TWFu TWE= /w=="},
        {put_a_picture, "<svg role=\"img\" width=\"480\" height=\"340\" viewBox=\"0 0 480 340\" "
         "aria-label=\"a &amp; b\">\n"
         "<rect fill=\"none\"/><path id='p7-a' stroke='var(--ink)' fill='var(--c1)' d='M1,2'/><use href='#p7-a'/>"
         "<path stroke='rgb(1,2,3)' filter='url(#p7-f)'/></svg>\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char* text = page_text(rows[i].write);
        CHECK(strcmp(text, rows[i].text) == 0, "got\n%s\nwant\n%s", text, rows[i].text);
        free(text);
    }
}

static void test_tables(void) {
    Results r = {.lock = -1};
    Table t;
    said_begin();
    table_begin(&t, "Title", "name\tvalue");
    table_row(&t, "%s\t%d", "±", 12345678);
    table_end(&t, &r);
    const char* text = said_end();
    CHECK(strcmp(text, "\nTitle\n  name     value\n  ±     12345678\n") == 0, "got\n%s", text);
}

static void test_commands(void) {
    static Analysis a;
    static Run runs[2];
    static const Analyzer analyzer = {.name = "path", .options = "data|images|threads"};
    Error err;
    strcpy(runs[0].folder, "runs/first");
    strcpy(runs[1].folder, "it's second");
    a.runs = runs;
    a.count = 2;
    options_defaults(&a.options, analyze_options, ANALYZE_OPTIONS, &err);
    strcpy(a.options.data, "new place");
    memset(a.given, 1, sizeof a.given); // but for what it does not take, or what changes nothing
    command_text(&a, &analyzer);
    CHECK(strcmp(a.results.command, "./analyze path runs/first 'it'\\''s second' --data 'new place' --images 0") == 0,
          "%s", a.results.command);
    char text[8] = "abc";
    CHECK(add_word(text, sizeof text, 3, "de fgh") == 7 && strcmp(text, "abc 'de") == 0, "cut where it ends: %s", text);
}

static void test_captions(void) {
    char* text = NULL;
    size_t size;
    FILE* out = open_memstream(&text, &size);
    put_caption(out, "one two \"three\" four", 12);
    fputc(' ', out);
    put_quoted(out, "it's");
    fclose(out);
    CHECK(strcmp(text, "\"one two \\n\\\"three\\\" four\" 'it''s'") == 0, "got %s", text);
    free(text);
    CHECK_NEAR(tic_step((double[]){0, 6}), 2, 0, "marks of 0 to 6");
    CHECK_NEAR(tic_step((double[]){-0.07, 0.07}), 0.02, 1e-15, "marks of -0.07 to 0.07");
    CHECK_NEAR(tic_step((double[]){2, 2}), 1, 0, "marks of nothing");
}

int main(void) {
    open_test_folder();
    threads_begin(0);
    test_moments();
    test_normal_moments();
    test_head_parts();
    test_curves();
    test_watch_line();
    test_units();
    test_inputs();
    test_path();
    test_number_list();
    test_csv();
    test_page_parts();
    test_tables();
    test_commands();
    test_captions();
    remove_test_folder();
    return tests_finish();
}
