// tree_sum.cuh against plain loops: exact, for sizes from one vector to several blocks; neighbours stay as they are.
#include "../../kernels/tree_sum.cuh"
#include "kernel_test.cuh"

static const Limits EXACT = {0, 0};

static void test_add_left(size_t n) {
    const size_t margin = 4;
    Floats left = random_values<float>(n + margin), right = random_values<float>(n + margin), want = right;
    for (size_t i = 0; i < n; i++) { want[i] = left[i] + right[i]; }
    Device<float> d_left(left), d_right(right);
    add_left(d_right, d_left, n, 0);
    check<float>("right", d_right, want, EXACT);
    check<float>("left", d_left, left, EXACT);
}

// Of so different sizes that another order gives other bits
static void test_add_counts(int A) {
    std::vector<MicroSums> counted(A);
    double loss = 0, hits = 0;
    int stop = A > 3 ? 3 : 0; // the first that is told
    for (int i = 0; i < A; i++) { counted[i] = {pow(10, i * 7 % 17) / 3, (double)(i % 5), i < 3 ? 0 : i}; }
    for (int i = 0; i < A; i++) { loss += counted[i].loss, hits += counted[i].hits; }
    DeviceArray<MicroSums> d_counted(counted);
    DeviceArray<StepSums> d_sums({{7, 7, 7, 5}});
    StepSums got;
    add_counts(d_sums, d_counted, A, 0);
    CUDA_CHECK(cudaMemcpy(&got, d_sums, sizeof got, cudaMemcpyDeviceToHost));
    CHECK(got.loss == loss && got.hits == hits && got.stop == stop && got.norm == 5,
          "of %d: %.17g, %g, %d, %g, want %.17g, %g, %d, 5", A, got.loss, got.hits, got.stop, got.norm, loss, hits, stop);
}

int main(int argc, char** argv) {
    for (size_t n : {(size_t)0, (size_t)4, (size_t)1024, (size_t)5000}) { test_add_left(n); }
    for (int A : {1, 2, 30}) { test_add_counts(A); }
    return kernel_tests_finish(argc, argv);
}
