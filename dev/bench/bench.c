// make bench: whole training steps against the machine's own matrix rate, all measured in this one run.
//
// Each round times a plain sgemm and then one step (forward, backward, update) of every model, so that a machine that
// slows down slows all of them; the table shows the medians over the rounds, and each step's arithmetic rate as a share
// of the sgemm rate. A step's FLOPs are its products alone (3 x forward); everything else counts as overhead.
//
//     ./bench [rounds] [batch size] [more flags of train_kat, such as --image-size 224 --patch 16]
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#define TESTING
#include "../../train_vit.c"

enum { MAX_ROUNDS = 101, MODELS = 4 };
static const char* const model_names[MODELS] = {"vit-tiny", "kat-tiny", "vit-tiny-g3b", "kat-tiny-g3b"};

static int compare_doubles(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

static double median(const double* values, int count) {
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, sizeof *values * (size_t)count);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    return count % 2 ? sorted[count / 2] : 0.5 * (sorted[count / 2 - 1] + sorted[count / 2]);
}

// GFLOP/s of a large product on all threads: the library's own threading where there is one, else our linear layer.
static double sgemm_rate(void) {
    enum { SIZE = 1536 };
    static float *a, *b, *c;
    if (!a) {
        a = alloc_floats((size_t)SIZE * SIZE, "sgemm");
        b = alloc_floats((size_t)SIZE * SIZE, "sgemm");
        c = alloc_floats((size_t)SIZE * SIZE, "sgemm");
        for (int i = 0; i < SIZE * SIZE; i++) { a[i] = (float)(i % 17) / 17; b[i] = (float)(i % 13) / 13; }
    }
    double start = seconds_now();
#ifdef HAVE_OPENBLAS
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, SIZE, SIZE, SIZE, 1, a, SIZE, b, SIZE, 0, c, SIZE);
#else
    linear_forward(c, a, b, NULL, SIZE, SIZE, SIZE);
#endif
    return 2e-9 * SIZE * SIZE * SIZE / (seconds_now() - start);
}

static void build(Model* m, int index, int argc, char** argv, int batch_size) {
    char batch[16];
    char* words[64] = {"bench", "--model", (char*)model_names[index], "--image-size", "32", "--patch", "4",
                       "--batch-size", batch};
    int count = 9;
    Config config;
    Error err;
    snprintf(batch, sizeof batch, "%d", batch_size);
    for (int i = 3; i < argc && count < 63; i++) { words[count++] = argv[i]; }
    if (!config_parse(&config, NULL, count, words, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (!model_plan(m, &config, 10, &err) || !model_allocate(m, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

// Milliseconds of one step on a batch of noise
static double time_step(Model* m, const float* images, const float* targets, int64_t t) {
    double start = seconds_now();
    memset(m->grads, 0, m->table.total * sizeof(float));
    model_forward(m, m->params, images, m->B, NULL);
    model_loss(m, targets, m->B);
    model_backward(m, targets, m->B, NULL, 1.0f / (float)m->B);
    if (!isfinite(global_norm(m->grads, m->table.total))) {
        fail(EXIT_RUN_TIME, "%s: gradient not finite", m->config.model);
    }
    model_update(m, 1e-4, 1, t);
    return 1e3 * (seconds_now() - start);
}

static void print_table(const Model* models, double times[MODELS][MAX_ROUNDS], const double* sgemm, int rounds) {
    double rate = median(sgemm, rounds), base = median(times[0], rounds);
    printf("\nsgemm %.1f GFLOP/s (median of %d; %s)\n\n", rate, rounds, matmul_library());
    printf("%-14s %10s %10s %10s %12s %8s\n", "step", "ms", "images/s", "GFLOP/s", "of sgemm", "of vit");
    for (int i = 0; i < MODELS; i++) {
        double ms = median(times[i], rounds), gflops = 1e-6 * models[i].B * train_flops(&models[i]) / ms;
        printf("%-14s %10.2f %10.1f %10.1f %10.1f %% %8.3f\n", model_names[i], ms, 1e3 * models[i].B / ms, gflops,
               100 * gflops / rate, ms / base);
    }
}

static void write_csv(const char* path, double times[MODELS][MAX_ROUNDS], const double* sgemm, int rounds) {
    FILE* csv = fopen(path, "w");
    if (!csv) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    fprintf(csv, "round,sgemm_gflops");
    for (int i = 0; i < MODELS; i++) { fprintf(csv, ",%s_ms", model_names[i]); }
    for (int r = 0; r < rounds; r++) {
        fprintf(csv, "\n%d,%.2f", r, sgemm[r]);
        for (int i = 0; i < MODELS; i++) { fprintf(csv, ",%.3f", times[i][r]); }
    }
    fprintf(csv, "\n");
    if (fclose(csv) != 0) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    printf("\nevery round is in %s\n", path);
}

int main(int argc, char** argv) {
    static Model models[MODELS];
    static double times[MODELS][MAX_ROUNDS], sgemm[MAX_ROUNDS];
    start_with_sleeping_threads(argv);
    int rounds = argc > 1 ? atoi(argv[1]) : 9, batch_size = argc > 2 ? atoi(argv[2]) : 64;
    if (rounds < 1 || rounds > MAX_ROUNDS || batch_size < 1) {
        fail(EXIT_USAGE, "give 1 to %d rounds and a batch size", MAX_ROUNDS);
    }
    Config config = {0};
    int threads = threads_begin(&config);
    for (int i = 0; i < MODELS; i++) { build(&models[i], i, argc, argv, batch_size); }
    Dims d = models[0].dims;
    size_t pixels = (size_t)batch_size * 3 * d.S * d.S;
    float* images = alloc_floats(pixels, "images");
    float* targets = alloc_floats((size_t)batch_size * d.K, "targets");
    for (size_t i = 0; i < pixels; i++) { images[i] = (float)random_normal(1, STREAM_CHECK, 1, i); }
    for (int b = 0; b < batch_size; b++) { targets[b * d.K + b % d.K] = 1; }
    printf("%d threads, images %d x %d, patch %d, %d tokens, batch %d, %d rounds\n", threads, d.S, d.S, d.P, d.N,
           batch_size, rounds);
    for (int r = -1; r < rounds; r++) { // round -1 warms up and is overwritten
        int slot = r < 0 ? 0 : r;
        sgemm[slot] = sgemm_rate();
        for (int i = 0; i < MODELS; i++) { times[i][slot] = time_step(&models[i], images, targets, r + 2); }
    }
    print_table(models, times, sgemm, rounds);
    char path[4096];
    snprintf(path, sizeof path, "%s.csv", argv[0]);
    write_csv(path, times, sgemm, rounds);
    return 0;
}
