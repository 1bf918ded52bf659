// loss.cuh against loss.h: from one class to more than a block has threads, targets that do not sum to 1, large logits,
// a NaN and an Inf among them.
#include "../../kernels/loss.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16: losses 1.3e-7, probabilities 1.2e-7, dlogits 1.3e-7 2.2e-3
static const Limits LOSSES = {1e-6, 1e-6}, VALUES = {1e-6, 4e-3};

template <class T> static void test_cross_entropy(int B, int K, float scale) {
    size_t n = (size_t)B * K;
    Floats logits = random_values<float>(n, scale), targets = random_values<float>(n), losses(B), probs(n), dlogits(n);
    for (float& target : targets) { target = fabsf(target) / K; }
    float dloss = 1.0f / B;
    Device<float> d_logits(logits), d_targets(targets), d_losses(B), d_probs(n), d_fused_losses(B);
    Device<T> d_dlogits(n), d_fused(n);
    cpu.cross_entropy_forward(losses.data(), probs.data(), logits.data(), targets.data(), B, K);
    cross_entropy_forward(d_losses, d_probs, d_logits, d_targets, B, K, 0);
    check<T>("cross_entropy_forward losses", d_losses, losses, LOSSES);
    check<float>("cross_entropy_forward probs", d_probs, probs, VALUES);
    cpu.cross_entropy_backward(dlogits.data(), probs.data(), targets.data(), dloss, B, K);
    cross_entropy_backward<T>(d_dlogits, d_probs, d_targets, dloss, B, K, 0);
    check<T>("cross_entropy_backward", d_dlogits, dlogits, VALUES);
    cross_entropy<T>(d_fused_losses, d_fused, d_logits, d_targets, dloss, B, K, 0);
    check<T>("cross_entropy losses", d_fused_losses, losses, LOSSES);
    check<T>("cross_entropy dlogits", d_fused, dlogits, VALUES);
}

static void test_not_finite(float bad) {
    Floats targets = {1, 0, 0, 0, 0, 1}, logits = {0, bad, 0, 1, 2, 3};
    Device<float> d_logits(logits), d_targets(targets), losses(2), dlogits(6);
    cross_entropy<float>(losses, dlogits, d_logits, d_targets, 0.5f, 2, 3, 0);
    Floats got = losses.host();
    CHECK(isnan(got[0]) && isfinite(got[1]), "losses of %g among the logits: %g and %g", bad, got[0], got[1]);
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
    return kernel_tests_finish(argc, argv);
}
