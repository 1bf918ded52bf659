// make bench: whole training steps and their parts, compared with the machine's own matrix rate, all measured in one
// run.
//
// Each round times one step (forward, backward, update) of every model and a plain sgemm before each, so that a
// slowdown of the machine affects all of them; the tables show medians over the rounds, and each step's arithmetic rate
// as a share of the sgemm rate. A step's FLOPs are its products only (3 x forward); everything else counts as overhead.
//
//     ./bench [--rounds N] [--models NAME,NAME..] [more flags of train_kat, such as --batch-size 4]
//
// A name may be followed by its own flags. "vit-tiny --pool avg" needs all tokens to the end: compared with it,
// vit-tiny shows what the last block saves because the head reads only the class token.
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#define TESTING
#include "../../train_vit.c"
#include "median.h"

enum { MAX_ROUNDS = 101, MAX_MODELS = 8, MAX_WORDS = 64 };

typedef struct { // one model, over the rounds
    const char* name; // with its own flags
    Model model;
    double step[MAX_ROUNDS], part[PARTS][2][MAX_ROUNDS]; // milliseconds
} Timed;

typedef struct {
    int rounds, models;
    char names[OPTION_TEXT_SIZE];
    char* words[MAX_WORDS]; // for train_kat's parser, "--model NAME" last
    int count;
    double sgemm[MAX_ROUNDS]; // GFLOP/s
} Bench;

// GFLOP/s of a large product on all threads: with the library's own threading if there is one, else our linear layer.
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

static void read_arguments(Bench* b, int argc, char** argv) {
    static char* const standard[] = {"bench", "--batch-size", "16"};
    b->rounds = 9;
    snprintf(b->names, sizeof b->names, "vit-tiny,vit-tiny --pool avg,vit-tiny-g1b,vit-tiny-g3b,kat-tiny,kat-tiny-g3b,"
             "convit-tiny,swin-tiny");
    for (size_t i = 0; i < sizeof standard / sizeof standard[0]; i++) { b->words[b->count++] = standard[i]; }
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc) {
            b->rounds = atoi(argv[++i]);
        } else if (strcmp(argv[i], "--models") == 0 && i + 1 < argc) {
            snprintf(b->names, sizeof b->names, "%s", argv[++i]);
        } else if (b->count < MAX_WORDS - 2) {
            b->words[b->count++] = argv[i];
        }
    }
    if (b->rounds < 1 || b->rounds > MAX_ROUNDS) { fail(EXIT_USAGE, "--rounds is 1 to %d", MAX_ROUNDS); }
}

// A preset also sets the image size, so the flags come after it.
static void build(Timed* timed, const Bench* b, char* name) {
    static char own[OPTION_TEXT_SIZE];
    char *words[2 * MAX_WORDS] = {b->words[0], "--model"}, *rest = NULL;
    int count = 2;
    Config config;
    Error err;
    timed->name = name;
    snprintf(own, sizeof own, "%s", name);
    for (char* word = strtok_r(own, " ", &rest); word && count < MAX_WORDS; word = strtok_r(NULL, " ", &rest)) {
        words[count++] = word;
    }
    for (int i = 1; i < b->count; i++) { words[count++] = b->words[i]; }
    if (!config_parse(&config, NULL, count, words, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    Model* m = &timed->model;
    if (!model_plan(m, &config, 10, config.batch_size, &err) || !model_allocate(m, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
}

// Times one step on a batch of noise, for this round.
static void time_step(Timed* timed, const float* images, const float* targets, int round, int64_t t) {
    Model* m = &timed->model;
    profile_start(&m->profile);
    double start = seconds_now();
    memset(m->grads, 0, m->table.total * sizeof(float));
    model_forward(m, m->params, images, m->B, NULL);
    model_loss(m, targets, m->B);
    model_backward(m, targets, m->B, NULL, 1.0f / (float)m->B);
    m->profile.direction = PROFILE_FORWARD;
    model_update(m, 1e-4, t);
    timed->step[round] = 1e3 * (seconds_now() - start);
    if (!isfinite(model_step_sums(m).norm)) { fail(EXIT_RUN_TIME, "%s: gradient not finite", timed->name); }
    for (int part = 0; part < PARTS; part++) {
        for (int k = 0; k < 2; k++) { timed->part[part][k][round] = 1e3 * m->profile.seconds[part][k]; }
    }
}

static void print_steps(const Timed* timed, const Bench* b) {
    double rate = median(b->sgemm, b->rounds), base = median(timed[0].step, b->rounds);
#ifdef HAVE_OPENBLAS
    const char* library = openblas_get_config();
#else
    const char* library = matmul_library();
#endif
    printf("\nsgemm %.1f GFLOP/s (median of %d; %s)\n\n", rate, b->rounds, library);
    double base_rate = 1e-6 * timed[0].model.B * train_flops(&timed[0].model) / base;
    printf("%-19s %10s %10s %10s %12s   of %s: ms, GFLOP/s\n", "step", "ms", "images/s", "GFLOP/s", "of sgemm",
           timed[0].name);
    for (int i = 0; i < b->models; i++) {
        const Model* m = &timed[i].model;
        double ms = median(timed[i].step, b->rounds), gflops = 1e-6 * m->B * train_flops(m) / ms;
        printf("%-19s %10.2f %10.1f %10.1f %10.1f %%   %.3f, %.3f\n", timed[i].name, ms, 1e3 * m->B / ms, gflops,
               100 * gflops / rate, ms / base, gflops / base_rate);
    }
}

// ms and GFLOP/s of each part of one model, forward and backward, and its share of the step
static void print_parts(const Timed* timed, const Bench* b) {
    const Model* m = &timed->model;
    double step = median(timed->step, b->rounds);
    printf("\n%-19s %7s %9s %13s %9s %8s\n", timed->name, "forward, ms", "GFLOP/s", "backward, ms", "GFLOP/s",
           "share");
    for (int part = 0; part < PARTS; part++) {
        double gflop = 2e-9 * m->B * part_macs(&m->config, m->dims, part), both = 0;
        for (int k = 0; k < 2; k++) { both += median(timed->part[part][k], b->rounds); }
        if (both == 0) { continue; }
        printf("  %-12s", part_names[part]);
        for (int k = 0; k < 2; k++) {
            double ms = median(timed->part[part][k], b->rounds);
            printf(" %*.2f", k ? 13 : 12, ms);
            if (gflop > 0) {
                printf(" %9.1f", 1e3 * (k + 1) * gflop / ms);
            } else {
                printf(" %9s", "");
            }
        }
        printf(" %6.1f %%\n", 100 * both / step);
    }
}

static void write_csv(const char* path, const Timed* timed, const Bench* b) {
    FILE* csv = fopen(path, "w");
    if (!csv) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    fprintf(csv, "round,model,sgemm_gflops,step_ms");
    for (int part = 0; part < PARTS; part++) {
        fprintf(csv, ",\"%s forward ms\",\"%s backward ms\"", part_names[part], part_names[part]);
    }
    for (int r = 0; r < b->rounds; r++) {
        for (int i = 0; i < b->models; i++) {
            fprintf(csv, "\n%d,\"%s\",%.2f,%.3f", r, timed[i].name, b->sgemm[r], timed[i].step[r]);
            for (int part = 0; part < PARTS; part++) {
                fprintf(csv, ",%.3f,%.3f", timed[i].part[part][0][r], timed[i].part[part][1][r]);
            }
        }
    }
    fprintf(csv, "\n");
    if (fclose(csv) != 0) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    printf("\nevery round is in %s\n", path);
}

int main(int argc, char** argv) {
    static Timed timed[MAX_MODELS];
    static Bench b;
    start_with_sleeping_threads(argv);
    read_arguments(&b, argc, argv);
    int threads = threads_begin(0);
    for (char* name = strtok(b.names, ","); name && b.models < MAX_MODELS; name = strtok(NULL, ",")) {
        build(&timed[b.models++], &b, name);
    }
    if (!b.models) { fail(EXIT_USAGE, "--models names no model"); }
    Dims d = timed[0].model.dims;
    int B = timed[0].model.B;
    size_t pixels = (size_t)B * 3 * d.S * d.S;
    float* images = alloc_floats(pixels, "images");
    float* targets = alloc_floats((size_t)B * d.K, "targets");
    for (size_t i = 0; i < pixels; i++) { images[i] = (float)random_normal(1, STREAM_CHECK, 1, i); }
    for (int k = 0; k < B; k++) { targets[k * d.K + k % d.K] = 1; }
    printf("%d threads, images %d x %d, patch %d, %d tokens, batch %d, %d rounds\n", threads, d.S, d.S, d.P, d.N, B,
           b.rounds);
    for (int r = -1; r < b.rounds; r++) { // round -1 warms up and is overwritten
        int slot = r < 0 ? 0 : r;
        b.sgemm[slot] = 0;
        for (int i = 0; i < b.models; i++) {
            b.sgemm[slot] += sgemm_rate() / b.models;
            time_step(&timed[i], images, targets, slot, r + 2);
        }
    }
    print_steps(timed, &b);
    for (int i = 0; i < b.models; i++) { print_parts(&timed[i], &b); }
    char path[4096];
    snprintf(path, sizeof path, "%s.csv", argv[0]);
    write_csv(path, timed, &b);
    return 0;
}
