// adamw.cuh against adamw.h: three steps of two groups, with and without decay and clipping, moving average and bf16
// copy on and off, sizes from one element to many granules, in two buckets; gradients that are not finite change nothing.
#include "../../kernels/adamw.cuh"
#include "kernel_test.cuh"

// Seen: params 2.2e-7, m 1.2e-7, v 7.9e-8, average 1.5e-7, norm and scale exact, bf16 copy 2.5e-3
static const Limits VALUES = {1e-6, 1e-6}, COPY = {4e-3, 4e-3}, EXACT = {0, 0};

// Of buckets of n/2 floats, rounded down to whole blocks, and of the rest
static std::vector<size_t> granule_starts(size_t n) {
    std::vector<size_t> starts;
    size_t half = n / 2 / BLOCK * BLOCK;
    for (size_t at = 0; at < half; at += GRANULE_FLOATS) { starts.push_back(at); }
    for (size_t at = half; at < n; at += GRANULE_FLOATS) { starts.push_back(at); }
    starts.push_back(n);
    return starts;
}

struct Optimizer { // on the device, as the trainer has it
    Device<float> params, m, v, ema, scale;
    Device<bf16> low;
    DeviceArray<uint8_t> groups;
    DeviceArray<double> norm, squares;
    DeviceArray<size_t> starts;
    int granules;
    Optimizer(const Floats& start, const std::vector<uint8_t>& groups)
        : params(start), m(Floats(start.size())), v(Floats(start.size())), ema(start), scale(1), low(start),
          groups(groups), norm({0}), squares(std::vector<double>(granule_starts(start.size()).size())),
          starts(granule_starts(start.size())), granules((int)granule_starts(start.size()).size() - 1) {}
    double step(Device<float>& grads, double clip, bool average, bool copy, const std::vector<AdamWStep>& steps) {
        double got;
        DeviceArray<AdamWStep> d_steps(steps);
        global_norm(norm, scale, grads, squares, starts, granules, clip, 0);
        adamw_update(params, m, v, average ? ema.data : nullptr, copy ? low.data : nullptr, grads, groups, grads.n,
                     {0.9f, 0.999f, 1e-8f, 0.9f}, d_steps, scale, 0);
        CUDA_CHECK(cudaMemcpy(&got, norm, sizeof got, cudaMemcpyDeviceToHost));
        return got;
    }
};

// The first half of the blocks decays, the rest does not and has half the learning rate
static void test_steps(size_t n, float weight_decay, double clip, bool average, bool copy) {
    size_t blocks = ceil_div(n, (size_t)BLOCK), half = blocks == 1 ? n : blocks / 2 * BLOCK;
    std::vector<uint8_t> groups(blocks);
    for (size_t i = 0; i < blocks; i++) { groups[i] = i * BLOCK < half; }
    Floats params = random_values<float>(n), m(n), v(n), ema = params, grads;
    Optimizer device(params, groups);
    for (int t = 1; t <= 3; t++) {
        grads = random_values<float>(n);
        Device<float> d_grads(grads);
        std::vector<size_t> starts = granule_starts(n);
        std::vector<double> squares(starts.size() - 1);
        for (size_t i = 0; i + 1 < starts.size(); i++) {
            cpu.granule_squares(&squares[i], &grads[starts[i]], starts[i + 1] - starts[i]);
        }
        double want = cpu.norm_of_granules(squares.data(), squares.size());
        float scale = clip > 0 && want > clip ? (float)(clip / want) : 1;
        std::vector<AdamWStep> steps = {adamw_step(0.5e-2f, 0.9f, 0.999f, 0, t),
                                        adamw_step(1e-2f, 0.9f, 0.999f, weight_decay, t)};
        cpu.adamw_update(params.data(), m.data(), v.data(), ema.data(), grads.data(), groups.data(), n,
                         {0.9f, 0.999f, 1e-8f, 0.9f}, steps.data(), scale);
        double got = device.step(d_grads, clip, average, copy, steps);
        check_values<float>("global_norm", {(float)got}, {(float)want}, VALUES);
        check<float>("grad_scale", device.scale, {scale}, VALUES);
        check<float>("gradients", d_grads, Floats(n), EXACT);
    }
    check<float>("params", device.params, params, VALUES);
    check<float>("m", device.m, m, VALUES);
    check<float>("v", device.v, v, VALUES);
    if (average) { check<float>("ema", device.ema, ema, VALUES); }
    if (copy) { check<bf16>("bf16 copy", device.low, params, COPY); }
}

static void test_not_finite(float bad, double clip) {
    size_t n = 1000;
    Floats params = random_values<float>(n), grads = random_values<float>(n);
    grads[n - 1] = bad;
    Device<float> d_grads(grads);
    Optimizer device(params, std::vector<uint8_t>(4));
    double norm = device.step(d_grads, clip, true, true, {adamw_step(1e-2f, 0.9f, 0.999f, 0.05f, 1)});
    CHECK(!isfinite(norm), "the norm with %g among the gradients is %g", bad, norm);
    Floats got = d_grads.host();
    CHECK(memcmp(got.data(), grads.data(), n * sizeof(float)) == 0, "%g: the gradients have changed", bad);
    for (Device<float>* kept : {&device.params, &device.ema}) { check<float>("not applied", *kept, params, EXACT); }
    for (Device<float>* kept : {&device.m, &device.v}) { check<float>("not applied", *kept, Floats(n), EXACT); }
}

int main(int argc, char** argv) {
    test_steps(1, 0, 0, true, true);
    test_steps(1000, 0.05f, 1, true, true);
    test_steps(50021, 0.05f, 1, true, false);
    test_steps(257, 0.05f, 1e6, false, true);
    test_not_finite(NAN, 0);
    test_not_finite(NAN, 1);
    test_not_finite(INFINITY, 1);
    return kernel_tests_finish(argc, argv);
}
