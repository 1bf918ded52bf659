// make bench-cuda: what this GPU can do, whole training steps on it, and each operation of a step compared with its
// floor, all measured in one run, in bf16.
//
//     ./bench_cuda SIZE [--rounds N] [--steps-only] [--json FILE] [--small] [flags of train_katcu, such as --batch-size 64]
//
// SIZE, tiny, small or base, selects four models: vit, kat, and both with Fourier-KArAt (G = 3, of base 1). They are on
// the device together, and every round times a few steps of each. A step is the trainer's own, on one batch: copying it
// to the device, augmentation, forward, backward, the gradient's norm, update. Its FLOPs are its products only (3 x
// forward), and MFU is their rate as a share of that of a large product: the mean of measurements before the steps, on
// a warm card, and after them. dev/bench/bench_operations.cuh has the operations.
// --small: sizes for the emulation of CUDA on the CPU, which shows that all this runs; its times are meaningless.
// --json appends one object per line, each as soon as it is known.
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#ifdef __CUDACC__
#pragma nv_diag_suppress 177
#endif
#define TESTING
#include "../../train_vit.cu"
#include "median.h"

enum { MAX_ROUNDS = 51, MODELS = 4, MAX_WORDS = 64, WARM_STEPS = 3, STEPS = 3 }; // STEPS: of one model in a round
static const double WARM_SECONDS = 1; // an idle card's clocks are low

typedef struct { double mhz, watts, celsius; } Clocks; // 0: not known by nvidia-smi

typedef struct {
    Trainer trainer;
    char name[64];
    double step[MAX_ROUNDS], copy_ms; // ms of a step; of copying its batch to the device
    double memory;                    // bytes
    Clocks clocks;                    // during its steps
} Timed;

typedef struct { double copy, bf16; } Ceilings; // bytes/s of a copy, read and written; FLOP/s of a large product

typedef struct {
    const char* size;
    int rounds;
    bool small, steps_only;
    FILE* json;
    char* words[MAX_WORDS]; // for train_katcu's parser, "--model NAME" first
    int count;
    cudaStream_t stream;
    cudaEvent_t start, stop;
    char card[32]; // its name for nvidia-smi
    Ceilings before, ceilings; // before the steps; the mean of before and after them
} Bench;

// ---------------------------------------------------------------------------------------------------------------------
// Timing by events

// Calls submitted to the device together
typedef struct {
    const Bench* b;
    cudaGraphExec_t exec;
    int count;
} Row;

// run(i) puts the i-th call on the stream. As one graph: when launched one by one, short calls would wait for the host.
template <class Run> static Row row_of(const Bench* b, int count, Run run) {
    Row row = {b, NULL, count};
    cudaGraph_t graph = NULL;
    CUDA_CHECK(cudaStreamBeginCapture(b->stream, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < count; i++) { run(i); }
    CUDA_CHECK(cudaStreamEndCapture(b->stream, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&row.exec, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    return row;
}

// Seconds of one of its calls
static double time_row(Row row) {
    float ms = 0;
    CUDA_CHECK(cudaEventRecord(row.b->start, row.b->stream));
    CUDA_CHECK(cudaGraphLaunch(row.exec, row.b->stream));
    CUDA_CHECK(cudaEventRecord(row.b->stop, row.b->stream));
    CUDA_CHECK(cudaEventSynchronize(row.b->stop));
    CUDA_CHECK(cudaEventElapsedTime(&ms, row.b->start, row.b->stop));
    return 1e-3 * ms / row.count;
}

static double median_time(Row row) {
    enum { ROWS = 7 };
    double seconds[ROWS];
    int times = row.b->small ? 1 : ROWS;
    if (times > 1) { time_row(row); } // uploads the graph to the device
    for (int i = 0; i < times; i++) { seconds[i] = time_row(row); }
    CUDA_CHECK(cudaGraphExecDestroy(row.exec));
    return median(seconds, times);
}

// The median over rows of calls, each row taking about 3 ms and a multiple of `least` calls long
template <class Run> static double time_calls(const Bench* b, int least, Run run) {
    for (int i = 0; i < least; i++) { run(i); } // plans products and loads kernels, which a graph cannot
    double once = least * median_time(row_of(b, least, run)), wanted = 3e-3 / once;
    if (b->small || wanted < 2) { return once / least; }
    return median_time(row_of(b, least * (int)(wanted > 100 ? 100 : wanted), run));
}

// ---------------------------------------------------------------------------------------------------------------------
// What the device can do

// Uniform in (-1, 1): a product of zeros would draw less power, and run faster
template <class T> __global__ void fill_kernel(T* x, size_t n) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    uint32_t bits = (uint32_t)i * 2654435761u;
    bits = (bits ^ bits >> 15) * 2246822519u;
    if (i < n) { x[i] = from_float<T>((float)(bits >> 8) / (1 << 23) - 1); }
}

template <class T> static T* random_array(size_t n, cudaStream_t stream) {
    T* x = device_array<T>(n, "a large product");
    fill_kernel<<<ceil_div(n, (size_t)BLOCK), BLOCK, 0, stream>>>(x, n);
    CUDA_CHECK_LAUNCH();
    return x;
}

static double copy_bandwidth(const Bench* b) {
    size_t bytes = b->small ? 1 << 16 : (size_t)1 << 30;
    char* from = device_zeros<char>(2 * bytes, "a copy");
    double seconds = time_calls(b, 1, [=](int) {
        CUDA_CHECK(cudaMemcpyAsync(from + bytes, from, bytes, cudaMemcpyDeviceToDevice, b->stream));
    });
    CUDA_CHECK(cudaFree(from));
    return 2 * bytes / seconds;
}

template <class T> static double matrix_rate(const Bench* b) {
    int n = b->small ? 64 : 8192;
    T *x = random_array<T>((size_t)n * n, b->stream), *y = random_array<T>((size_t)n * n, b->stream);
    T *out = device_array<T>((size_t)n * n, "a large product"), *bias = random_array<T>(n, b->stream);
    double seconds = time_calls(b, 1, [=](int) { linear_forward(out, x, y, bias, n, n, n, b->stream); });
    for (T* p : {x, y, out, bias}) { CUDA_CHECK(cudaFree(p)); }
    return 2.0 * n * n * n / seconds;
}

// Runs products until the card is warm, and measures the last.
static Ceilings measure_ceilings(const Bench* b, const char* when) {
    double start = seconds_now();
    Ceilings c;
    do { c.bf16 = matrix_rate<bf16>(b); } while (!b->small && seconds_now() - start < WARM_SECONDS);
    c.copy = copy_bandwidth(b);
    printf("%s the steps: copy %.3f TB/s (read and written); product of %d^3 in bf16 %.1f TFLOP/s\n", when,
           1e-12 * c.copy, b->small ? 64 : 8192, 1e-12 * c.bf16);
    if (b->json) {
        fprintf(b->json, "{\"part\": \"ceilings\", \"size\": \"%s\", \"when\": \"%s\", \"copy_tb_s\": %.4f, "
                "\"bf16_tflop_s\": %.2f}\n", b->size, when, 1e-12 * c.copy, 1e-12 * c.bf16);
    }
    return c;
}

static void measure_device(Bench* b) {
    cudaDeviceProp device = device_properties();
    snprintf(b->card, sizeof b->card, "%08x:%02x:%02x.0", device.pciDomainID, device.pciBusID, device.pciDeviceID);
    printf("%s, %d multiprocessors, %.0f GB\n", device.name, device.multiProcessorCount,
           1e-9 * (double)device.totalGlobalMem);
    matmul_init(true);
    b->before = measure_ceilings(b, "before");
    printf("product in tf32 %.1f TFLOP/s\n", 1e-12 * matrix_rate<float>(b));
    matmul_free();
}

// What nvidia-smi, a concurrent process, reports about the card while run() goes on
template <class Run> static Clocks clocks_during(const Bench* b, Run run) {
    char command[192];
    Clocks c = {};
    snprintf(command, sizeof command, "nvidia-smi -i %s --query-gpu=clocks.sm,power.draw,temperature.gpu "
             "--format=csv,noheader,nounits 2>/dev/null", b->card);
    FILE* answer = popen(command, "r");
    double start = seconds_now();
    do { run(); } while (!b->small && seconds_now() - start < 0.5 * WARM_SECONDS);
    if (answer && fscanf(answer, "%lf, %lf, %lf", &c.mhz, &c.watts, &c.celsius) != 3) { c = {}; }
    if (answer) { pclose(answer); }
    return c;
}

#include "bench_operations.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Whole steps

// A preset also sets the image size, so the flags come after it.
static Config configuration(const Bench* b, char* model) {
    char flag[] = "--model";
    char* words[MAX_WORDS + 3] = {b->words[0], flag, model};
    Config config;
    Error err;
    for (int i = 1; i < b->count; i++) { words[i + 2] = b->words[i]; }
    if (!config_parse(&config, NULL, b->count + 2, words, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    return config;
}

static void build(Timed* timed, const Bench* b, bool first) {
    Trainer* t = &timed->trainer;
    Config config = configuration(b, timed->name);
    Error err;
    size_t before = 0, after = 0, total = 0;
    load_data(t, &config);
    if (!first) { matmul_free(); } // the last model's: no product has been planned yet
    CUDA_CHECK(cudaMemGetInfo(&before, &total));
    if (!model_plan(&t->model, &config, config.classes, config.batch_size, &err) || !model_allocate(&t->model, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
    CUDA_CHECK(cudaMemGetInfo(&after, &total));
    timed->memory = (double)before - (double)after;
    model_keep_products(&t->model, "");
    open_input(t);
    plan_steps(t);
}

static void run_step(Trainer* t) {
    StepResult result = train_step(t);
    if (!step_finite(&result)) { fail(EXIT_RUN_TIME, "%s: gradient not finite", t->model.config.model); }
}

static void time_steps(Timed* timed, int round, int steps) {
    double start = seconds_now();
    for (int i = 0; i < steps; i++) { run_step(&timed->trainer); }
    CUDA_CHECK(cudaStreamSynchronize(timed->trainer.model.stream));
    timed->step[round] = 1e3 * (seconds_now() - start) / steps;
}

static void time_copy(Timed* timed) {
    Profile* profile = &timed->trainer.model.profile;
    profile_start(profile);
    run_step(&timed->trainer);
    timed->copy_ms = 1e3 * profile->seconds[PART_DATA][PROFILE_FORWARD];
    profile->on = false;
}

static void print_steps(const Bench* b, const Timed* timed) {
    double base = median(timed[0].step, b->rounds);
    printf("\n%-15s %6s %9s %19s %10s %9s %8s %8s %10s %6s %5s   throughput of %s\n", "step", "batch", "ms",
           "fastest, slowest", "images/s", "TFLOP/s", "MFU", "GB", "copy, ms", "MHz", "W", timed[0].name);
    for (int i = 0; i < MODELS; i++) {
        const Model* m = &timed[i].trainer.model;
        Clocks c = timed[i].clocks;
        double ms = median(timed[i].step, b->rounds), rate = 1e3 * m->B * train_flops(m) / ms, least = ms, most = ms;
        for (int r = 0; r < b->rounds; r++) {
            least = fmin(least, timed[i].step[r]);
            most = fmax(most, timed[i].step[r]);
        }
        printf("%-15s %6d %9.3f %9.3f %9.3f %10.1f %9.2f %6.1f %% %8.3f %10.3f %6.0f %5.0f   %.3f\n", timed[i].name,
               m->B, ms, least, most, 1e3 * m->B / ms, 1e-12 * rate, 100 * rate / b->ceilings.bf16,
               1e-9 * timed[i].memory, timed[i].copy_ms, c.mhz, c.watts, base / ms);
        if (!b->json) { continue; }
        fprintf(b->json, "{\"part\": \"steps\", \"name\": \"%s\", \"batch\": %d, \"ms\": %.4f, "
                "\"ms_least\": %.4f, \"ms_most\": %.4f, \"rounds\": %d, \"images_s\": %.1f, \"tflop_s\": %.3f, "
                "\"mfu\": %.4f, \"memory_gb\": %.4f, \"copy_ms\": %.4f, \"mhz\": %.0f, \"watts\": %.0f, "
                "\"celsius\": %.0f, \"of_vit\": %.4f, \"time\": %.0f}\n", timed[i].name, m->B, ms, least, most,
                b->rounds, 1e3 * m->B / ms, 1e-12 * rate, rate / b->ceilings.bf16, 1e-9 * timed[i].memory,
                timed[i].copy_ms, c.mhz, c.watts, c.celsius, base / ms, (double)time(NULL));
    }
}

// ---------------------------------------------------------------------------------------------------------------------

static void append_words(Bench* b, std::initializer_list<const char*> words) {
    for (const char* word : words) { b->words[b->count++] = (char*)word; }
}

static void read_arguments(Bench* b, int argc, char** argv) {
    const char* path = NULL;
    b->size = argc > 1 ? argv[1] : "tiny";
    b->rounds = 9;
    bool base = strcmp(b->size, "base") == 0;
    append_words(b, {"bench_cuda", "--precision", "bf16", "--batch-size", base ? "128" : "256", "--classes", "1000",
                     "--train-images", "512", "--test-images", "16", "--overfit-batch", "--steps", "1000000",
                     "--lr", "1e-5", "--min-lr", "1e-5", "--warmup-epochs", "0"});
    for (int i = 2; i < argc; i++) {
        bool value = i + 1 < argc;
        if (strcmp(argv[i], "--steps-only") == 0) {
            b->steps_only = true;
        } else if (strcmp(argv[i], "--small") == 0) {
            b->small = true;
            append_words(b, {"--dim", "48", "--heads", "3", "--depth", "2", "--image-size", "16", "--patch", "4",
                             "--batch-size", "2"});
        } else if (value && strcmp(argv[i], "--rounds") == 0) {
            b->rounds = atoi(argv[++i]);
        } else if (value && strcmp(argv[i], "--json") == 0) {
            path = argv[++i];
        } else if (b->count < MAX_WORDS - 12) {
            b->words[b->count++] = argv[i];
        }
    }
    if (b->rounds < 1 || b->rounds > MAX_ROUNDS) { fail(EXIT_USAGE, "--rounds is 1 to %d", (int)MAX_ROUNDS); }
    b->json = path ? fopen(path, "a") : NULL;
    if (path && !b->json) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    if (b->json) { setvbuf(b->json, NULL, _IOLBF, BUFSIZ); }
}

int main(int argc, char** argv) {
    static Timed timed[MODELS];
    static Bench b;
    read_arguments(&b, argc, argv);
    device_begin();
    CUDA_CHECK(cudaStreamCreate(&b.stream));
    CUDA_CHECK(cudaEventCreate(&b.start));
    CUDA_CHECK(cudaEventCreate(&b.stop));
    measure_device(&b);
    const char *grid = strcmp(b.size, "base") == 0 ? "-g1b" : "-g3b", *families[] = {"vit", "kat", "vit", "kat"};
    for (int i = 0; i < MODELS; i++) {
        snprintf(timed[i].name, sizeof timed[i].name, "%s-%s%s", families[i], b.size, i < 2 ? "" : grid);
        build(&timed[i], &b, i == 0);
    }
    for (Timed& t : timed) {
        time_steps(&t, 0, b.small ? 1 : WARM_STEPS);
        time_copy(&t);
        t.clocks = clocks_during(&b, [&t] { run_step(&t.trainer); });
    }
    for (int r = 0; r < b.rounds; r++) {
        for (Timed& t : timed) { time_steps(&t, r, b.small ? 1 : STEPS); }
    }
    Ceilings after = measure_ceilings(&b, "behind");
    b.ceilings = {(b.before.copy + after.copy) / 2, (b.before.bf16 + after.bf16) / 2};
    print_steps(&b, timed);
    if (!b.steps_only) { time_operations(&b, &timed[0], &timed[MODELS - 1]); }
    if (b.json && fclose(b.json) != 0) { fail(EXIT_RUN_TIME, "cannot write the results: %s", strerror(errno)); }
    return 0;
}
