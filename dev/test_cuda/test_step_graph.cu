// step_graph.cuh: how often a part of a step is called on the host, and that each repetition reaches the device.
#include "../../runtime/step_graph.cuh"
#include "kernel_test.cuh"

__global__ void add_kernel(float* sum, float x) {
    if (threadIdx.x == 0) { *sum += x; }
}

struct Steps {
    Device<float> sum = Device<float>(Floats{0});
    StepGraph graphs[2] = {};
    bool captured = true;
    int calls = 0; // of the part, on the host
    cudaStream_t stream;
    Steps() { CUDA_CHECK(cudaStreamCreate(&stream)); }
    ~Steps() {
        for (StepGraph& graph : graphs) { forget_graph(&graph); }
        CUDA_CHECK(cudaStreamDestroy(stream));
    }
    void step(int B) {
        repeat(graph_for(graphs, {B, 1.0f / B, false}), &captured, stream, [=, this] {
            calls++;
            add_kernel<<<1, 32, 0, stream>>>(sum.data, (float)B);
            CUDA_CHECK_LAUNCH();
        });
    }
    void check_sum(const char* what, float want) {
        CUDA_CHECK(cudaStreamSynchronize(stream));
        check<float>(what, sum, {want}, {0, 0});
    }
};

static void test_same_batch() {
    Steps s;
    for (int i = 0; i < 6; i++) { s.step(8); }
    CHECK(s.calls == 2, "6 steps: the part was called %d times, once itself and once to be captured", s.calls);
    s.check_sum("6 steps", 48);
}

// Epochs of 4 whole batches and a short one
static void test_short_batch() {
    Steps s;
    for (int i = 0; i < 25; i++) { s.step(i % 5 == 4 ? 3 : 8); }
    CHECK(s.calls == 4, "two sizes of batches: the part was called %d times, twice for each", s.calls);
    s.check_sum("two sizes of batches", 20 * 8 + 5 * 3);
}

// Of three sizes the one that was not used for longest is captured anew.
static void test_third_batch() {
    Steps s;
    for (int B : {8, 8, 3, 3, 8, 5, 5, 8, 5, 8}) { s.step(B); }
    CHECK(s.calls == 6, "a third size: the part was called %d times, twice for each", s.calls);
    s.step(3);
    CHECK(s.calls == 7, "a size that was forgotten: the part was called %d times", s.calls);
    s.check_sum("three sizes of batches", 5 * 8 + 3 * 5 + 3 * 3);
}

static void test_without_graphs() {
    Steps s;
    s.captured = false;
    for (int i = 0; i < 5; i++) { s.step(2); }
    CHECK(s.calls == 5, "without graphs: the part was called %d times in 5 steps", s.calls);
    s.check_sum("without graphs", 10);
}

int main(int argc, char** argv) {
    test_same_batch();
    test_short_batch();
    test_third_batch();
    test_without_graphs();
    return kernel_tests_finish(argc, argv);
}
