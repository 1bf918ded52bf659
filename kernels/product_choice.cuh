// The choice among cublasLt's algorithms for a product: the one that cublasLt expects to be fastest, or with
// --tune-products the one that is, timed when the product first occurs. Algorithms add in different orders, and timings
// vary: so that a resumed run uses the same ones, and gives the same bits, choices are kept in a file beside it.
#pragma once
#include "../runtime/files.h"
#include "product_plan.cuh"
#include <array>
#include <inttypes.h>

typedef std::array<int, 12> ShapeNumbers;

static inline ShapeNumbers shape_numbers(const ProductShape& s) {
    return {s.m, s.n, s.k, s.transpose_a, s.transpose_b, s.bias, s.type, s.type_d, s.ld_a, s.ld_b, s.ld_d, s.aligned};
}

struct ProductChoice {
    ShapeNumbers shape;
    cublasLtMatmulAlgo_t algo;
};

static struct {
    bool timed;
    char path[PATH_MAX]; // of the file; "": choices are not saved
    ProductChoice choice[PRODUCT_PLANS];
    int count;
} product_choices;

// ---- The file: what its algorithms are for, then one line per product, its shape and its algorithm's words

static inline void choices_machine(char text[400]) {
    snprintf(text, 400, "cublasLt %zu, %s, %s", cublasLtGetVersion(), device_properties().name,
             products.fp32 == CUBLAS_COMPUTE_32F ? "fp32" : "tf32");
}

static inline void write_choices(void) {
    WholeFile out;
    Error err;
    char machine[400];
    if (!*product_choices.path) { return; }
    if (!whole_file_begin(&out, product_choices.path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    choices_machine(machine);
    fprintf(out.file, "%s\n", machine);
    for (int i = 0; i < product_choices.count; i++) {
        const ProductChoice& c = product_choices.choice[i];
        for (int number : c.shape) { fprintf(out.file, "%d ", number); }
        for (uint64_t word : c.algo.data) { fprintf(out.file, " %" PRIx64, word); }
        fprintf(out.file, "\n");
    }
    if (!whole_file_end(&out, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
}

static inline bool read_choice(FILE* in, ProductChoice* c) {
    for (int& number : c->shape) {
        if (fscanf(in, "%d", &number) != 1) { return false; }
    }
    for (uint64_t& word : c->algo.data) {
        if (fscanf(in, "%" SCNx64, &word) != 1) { return false; }
    }
    return true;
}

static inline void read_choices(FILE* in) {
    char machine[400], there[400] = "";
    choices_machine(machine);
    if (!fgets(there, sizeof there, in)) { return; }
    there[strcspn(there, "\n")] = 0;
    if (strcmp(there, machine) != 0) {
        printf("note       %s is for %s, and this is %s: products are timed anew, and their last bits may be others\n",
               product_choices.path, there, machine);
        return;
    }
    int* count = &product_choices.count;
    while (*count < PRODUCT_PLANS && read_choice(in, &product_choices.choice[*count])) { (*count)++; }
}

// From here on products are timed, and choices kept in this file; those left by an earlier part of the run are used.
static inline void keep_choices(const char* path) {
    product_choices.timed = true;
    if (!*path) { return; } // they are not saved
    snprintf(product_choices.path, sizeof product_choices.path, "%s", path);
    FILE* in = fopen(path, "r");
    if (in) {
        read_choices(in);
        fclose(in);
    }
    printf("products   timed as they come up, and kept in %s (%d are there)\n", path, product_choices.count);
}

// ---- The choice

// Milliseconds of one run, between two events
static inline float time_algorithm(ProductPlan* plan, const cublasLtMatmulAlgo_t* algo, ProductCall call,
                                   cudaEvent_t events[2]) {
    float milliseconds = 0;
    CUDA_CHECK(cudaEventRecord(events[0], call.stream));
    launch_product(plan, algo, call);
    CUDA_CHECK(cudaEventRecord(events[1], call.stream));
    CUDA_CHECK(cudaEventSynchronize(events[1]));
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events[0], events[1]));
    return milliseconds;
}

// By the shortest of several runs each, in turns; the first turn loads the kernels. Of two equally fast, the earlier.
static inline int quickest_algorithm(ProductPlan* plan, const cublasLtMatmulAlgo_t* algos, int count, ProductCall call) {
    enum { TURNS = 5 };
    float shortest[PRODUCT_ALGORITHMS];
    int best = 0;
    cudaEvent_t events[2];
    for (cudaEvent_t& event : events) { CUDA_CHECK(cudaEventCreate(&event)); }
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < count; i++) {
            float ms = time_algorithm(plan, &algos[i], call, events);
            if (turn <= 1 || ms < shortest[i]) { shortest[i] = ms; }
        }
    }
    for (cudaEvent_t event : events) { CUDA_CHECK(cudaEventDestroy(event)); }
    for (int i = 1; i < count; i++) {
        if (shortest[i] < shortest[best]) { best = i; }
    }
    return best;
}

// On the operands of the call, whose d is kept: if the call adds to it, temporary memory is used
static inline cublasLtMatmulAlgo_t timed_choice(ProductPlan* plan, const cublasLtMatmulAlgo_t* algos, int count,
                                                ProductCall call) {
    const ProductShape& s = plan->shape;
    size_t bytes = (size_t)s.n * (s.ld_d ? s.ld_d : s.m) * (s.type_d == CUDA_R_32F ? sizeof(float) : sizeof(bf16));
    void* own = NULL;
    if (call.keep != 0) {
        if (cudaMalloc(&own, bytes) != cudaSuccess) {
            cudaGetLastError();
            return algos[0];
        }
        CUDA_CHECK(cudaMemsetAsync(own, 0, bytes, call.stream));
        call.d = own;
    }
    int best = quickest_algorithm(plan, algos, count, call);
    CUDA_CHECK(cudaFree(own));
    return algos[best];
}

// call: the first with the plan's product
static inline cublasLtMatmulAlgo_t choose_algorithm(ProductPlan* plan, ProductCall call) {
    ShapeNumbers shape = shape_numbers(plan->shape);
    cublasLtMatmulAlgo_t algos[PRODUCT_ALGORITHMS];
    for (int i = 0; i < product_choices.count; i++) {
        const ProductChoice& c = product_choices.choice[i];
        if (c.shape == shape && algorithm_runs(plan, &c.algo)) { return c.algo; }
    }
    int count = product_algorithms(plan, algos);
    if (!product_choices.timed) { return algos[0]; }
    cublasLtMatmulAlgo_t chosen = timed_choice(plan, algos, count, call);
    if (product_choices.count < PRODUCT_PLANS) { product_choices.choice[product_choices.count++] = {shape, chosen}; }
    write_choices();
    return chosen;
}
