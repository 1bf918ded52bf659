// make bench-cuda: what this GPU can do, whole training steps on it, and each operation of a step against its floor,
// all measured in this one run, in bf16.
//
//     ./bench_cuda SIZE [--rounds N] [--json FILE] [--small] [more flags of train_katcu, such as --batch-size 64]
//
// SIZE, tiny, small or base, stands for four models: vit, kat, and both with Fourier-KArAt (G = 3, of base 1). They are
// on the device together, and every round times a few steps of each. A step is the trainer's own, on one batch: its way
// to the device, forward, backward, the gradient's norm, update. Its FLOPs are its products alone (3 x forward), and MFU
// is their rate as a share of that of a large product. dev/bench/bench_operations.cuh has the operations.
// --small: sizes for the emulation of CUDA on the CPU, which shows that all this runs, and whose times mean nothing.
// --json appends an object a line.
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#ifdef __CUDACC__
#pragma nv_diag_suppress 177
#endif
#define TESTING
#include "../../train_vit.cu"
#include "median.h"

enum { MAX_ROUNDS = 51, MODELS = 4, MAX_WORDS = 64, STEPS = 3 }; // STEPS: of one model in a round

typedef struct {
    Trainer trainer;
    char name[64];
    double step[MAX_ROUNDS], copy_ms; // ms of a step; of its batch's way to the device
    double memory;                    // bytes
} Timed;

typedef struct {
    const char* size;
    int rounds;
    bool small;
    FILE* json;
    char* words[MAX_WORDS]; // what train_katcu's parser gets, "--model NAME" first
    int count;
    cudaStream_t stream;
    cudaEvent_t start, stop;
    double bandwidth, bf16_rate, tf32_rate; // bytes/s of a copy, read and written; FLOP/s of a large product
} Bench;

// ---------------------------------------------------------------------------------------------------------------------
// Timing by events

// Seconds of one of `count` calls in a row; run(i) puts the i-th on the stream
template <class Run> static double time_row(const Bench* b, int count, Run run) {
    float ms = 0;
    CUDA_CHECK(cudaEventRecord(b->start, b->stream));
    for (int i = 0; i < count; i++) { run(i); }
    CUDA_CHECK(cudaEventRecord(b->stop, b->stream));
    CUDA_CHECK(cudaEventSynchronize(b->stop));
    CUDA_CHECK(cudaEventElapsedTime(&ms, b->start, b->stop));
    return 1e-3 * ms / count;
}

// The median over rows of calls, each row some 3 ms long and a multiple of `least` calls
template <class Run> static double time_calls(const Bench* b, int least, Run run) {
    enum { ROWS = 7 };
    double rows[ROWS];
    if (b->small) { return time_row(b, least, run); }
    time_row(b, least, run); // warms up
    double once = time_row(b, least, run), wanted = 3e-3 / (once * least);
    int count = least * (int)(wanted < 1 ? 1 : wanted > 100 ? 100 : wanted);
    for (int i = 0; i < ROWS; i++) { rows[i] = time_row(b, count, run); }
    return median(rows, ROWS);
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

static void measure_device(Bench* b) {
    cudaDeviceProp device;
    CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
    matmul_init(true);
    b->bandwidth = copy_bandwidth(b);
    b->bf16_rate = matrix_rate<bf16>(b);
    b->tf32_rate = matrix_rate<float>(b);
    matmul_free();
    printf("%s, %d multiprocessors, %.0f GB\ncopy %.3f TB/s (read and written); products of %d^3: bf16 %.1f TFLOP/s, "
           "tf32 %.1f\n", device.name, device.multiProcessorCount, 1e-9 * (double)device.totalGlobalMem,
           1e-12 * b->bandwidth, b->small ? 64 : 8192, 1e-12 * b->bf16_rate, 1e-12 * b->tf32_rate);
    if (b->json) {
        fprintf(b->json, "{\"part\": \"device\", \"name\": \"%s\", \"copy_tb_s\": %.4f, \"bf16_tflop_s\": %.2f, "
                "\"tf32_tflop_s\": %.2f}\n", device.name, 1e-12 * b->bandwidth, 1e-12 * b->bf16_rate,
                1e-12 * b->tf32_rate);
    }
}

#include "bench_operations.cuh"

// ---------------------------------------------------------------------------------------------------------------------
// Whole steps

// A preset sets the image size too, so the flags come after it
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
    printf("\n%-15s %6s %9s %10s %9s %8s %8s %10s   throughput of %s\n", "step", "batch", "ms", "images/s", "TFLOP/s",
           "MFU", "GB", "copy, ms", timed[0].name);
    for (int i = 0; i < MODELS; i++) {
        const Model* m = &timed[i].trainer.model;
        double ms = median(timed[i].step, b->rounds), rate = 1e3 * m->B * train_flops(m) / ms;
        printf("%-15s %6d %9.3f %10.1f %9.2f %6.1f %% %8.3f %10.3f   %.3f\n", timed[i].name, m->B, ms,
               1e3 * m->B / ms, 1e-12 * rate, 100 * rate / b->bf16_rate, 1e-9 * timed[i].memory, timed[i].copy_ms,
               base / ms);
        if (!b->json) { continue; }
        fprintf(b->json, "{\"part\": \"steps\", \"name\": \"%s\", \"batch\": %d, \"ms\": %.4f, \"images_s\": %.1f, "
                "\"tflop_s\": %.3f, \"mfu\": %.4f, \"memory_gb\": %.4f, \"copy_ms\": %.4f, \"of_vit\": %.4f}\n",
                timed[i].name, m->B, ms, 1e3 * m->B / ms, 1e-12 * rate, rate / b->bf16_rate, 1e-9 * timed[i].memory,
                timed[i].copy_ms, base / ms);
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
        if (strcmp(argv[i], "--small") == 0) {
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
}

int main(int argc, char** argv) {
    static Timed timed[MODELS];
    static Bench b;
    read_arguments(&b, argc, argv);
    require_gpu();
    CUDA_CHECK(cudaEventCreate(&b.start));
    CUDA_CHECK(cudaEventCreate(&b.stop));
    measure_device(&b);
    const char *grid = strcmp(b.size, "base") == 0 ? "-g1b" : "-g3b", *families[] = {"vit", "kat", "vit", "kat"};
    for (int i = 0; i < MODELS; i++) {
        snprintf(timed[i].name, sizeof timed[i].name, "%s-%s%s", families[i], b.size, i < 2 ? "" : grid);
        build(&timed[i], &b, i == 0);
    }
    for (Timed& t : timed) {
        time_steps(&t, 0, 1); // warms up
        time_copy(&t);
    }
    for (int r = 0; r < b.rounds; r++) {
        for (Timed& t : timed) { time_steps(&t, r, b.small ? 1 : STEPS); }
    }
    print_steps(&b, timed);
    time_operations(&b, &timed[0], &timed[MODELS - 1]);
    if (b.json && fclose(b.json) != 0) { fail(EXIT_RUN_TIME, "cannot write the results: %s", strerror(errno)); }
    return 0;
}
