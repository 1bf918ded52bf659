// loss.cuh against loss.h: from one class to more than a block has threads, targets that do not sum to 1, large logits,
// a NaN and Infs among them, labels whose logits are largest, equal to the largest, or neither.
#include "../../kernels/loss.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: losses 1.3e-7, dlogits 1.3e-7 2.2e-3
static const Limits LOSSES = {1e-6, 1e-6}, VALUES = {1e-6, 4e-3}, EXACT = {0, 0};

template <class T> static void test_cross_entropy(int B, int K, float scale) {
    size_t n = (size_t)B * K;
    Floats logits = random_values<float>(n, scale), targets = random_values<float>(n), losses(B), probs(n), dlogits(n);
    Floats hits(B);
    std::vector<int> labels(B);
    for (float& target : targets) { target = fabsf(target) / K; }
    for (int b = 0; b < B; b++) {
        float* z = &logits[(size_t)b * K];
        int largest = 0;
        for (int k = 1; k < K; k++) { largest = z[k] > z[largest] ? k : largest; }
        labels[b] = b % 3 == 0 ? b % K : largest;
        if (b % 3 == 2) { z[K - 1] = z[largest]; } // of equal ones the first is right
        if (b % 6 == 5) { labels[b] = K - 1; }
        hits[b] = cpu.rank_of_label(z, K, labels[b]) == 0;
    }
    float dloss = 1.0f / B;
    Device<float> d_logits(logits), d_targets(targets), d_losses(B), d_hits(B), only_losses(B);
    DeviceArray<int> d_labels(labels);
    Device<T> d_dlogits(n);
    cpu.cross_entropy_forward(losses.data(), probs.data(), logits.data(), targets.data(), B, K);
    cpu.cross_entropy_backward(dlogits.data(), probs.data(), targets.data(), dloss, B, K);
    cross_entropy<T>(d_losses, d_hits, d_dlogits, d_logits, d_targets, d_labels, dloss, B, K, 0);
    check<T>("losses", d_losses, losses, LOSSES);
    check<T>("dlogits", d_dlogits, dlogits, VALUES);
    check<float>("hits", d_hits, hits, EXACT);
    cross_entropy<T>(only_losses, nullptr, nullptr, d_logits, d_targets, nullptr, 0, B, K, 0);
    check<T>("losses alone", only_losses, losses, LOSSES);
}

// Added twice, onto sums of zero
static void test_add_batch(int B) {
    Floats losses = random_values<float>(B), hits(B);
    double loss = 0, right = 0, got[2] = {0, 0};
    for (int b = 0; b < B; b++) {
        hits[b] = b % 3 == 0;
        loss += 2.0 * losses[b];
        right += 2.0 * hits[b];
    }
    DeviceArray<double> sums({0, 0});
    Device<float> d_losses(losses), d_hits(hits);
    for (int i = 0; i < 2; i++) { add_batch(sums, sums + 1, d_losses, d_hits, B, 0); }
    CUDA_CHECK(cudaMemcpy(got, sums, sizeof got, cudaMemcpyDeviceToHost));
    CHECK(fabs(got[0] - loss) <= 1e-12 * B && got[1] == right, "%d losses: %.17g and %g, want %.17g and %g", B, got[0],
          got[1], loss, right);
}

// The second row is well; the first has a loss and gradients that are not finite
static void test_not_finite(float bad) {
    Floats targets = {0.5, 0.5, 0, 0, 0, 1}, logits = {0, bad, 0, 1, 2, 3};
    Device<float> d_logits(logits), d_targets(targets), losses(2), dlogits(6);
    cross_entropy<float>(losses, nullptr, dlogits, d_logits, d_targets, nullptr, 0.5f, 2, 3, 0);
    Floats got = losses.host(), d = dlogits.host();
    CHECK(!isfinite(got[0]) && isfinite(got[1]), "losses of %g among the logits: %g and %g", bad, got[0], got[1]);
    for (int i = 0; i < 6; i++) { CHECK(isfinite(d[i]) == (i > 2), "%g among logits: dlogits[%d] %g", bad, i, d[i]); }
}

template <class T> static void test_storage() {
    test_cross_entropy<T>(1, 1, 1);
    test_cross_entropy<T>(3, 10, 3);
    test_cross_entropy<T>(65, 100, 30);
    test_cross_entropy<T>(7, 1000, 2);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    test_not_finite(NAN);
    test_not_finite(INFINITY);
    test_not_finite(-INFINITY);
    test_add_batch(1);
    test_add_batch(1000);
    return kernel_tests_finish(argc, argv);
}
