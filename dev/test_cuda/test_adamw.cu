// adamw.cuh against adamw.h: three steps of two groups, with and without decay and clipping, moving average and bf16
// copy on and off, sizes from one element to many granules, in two buckets; gradients that are not finite change nothing.
#include "../../kernels/adamw.cuh"
#include "kernel_test.cuh"

// Seen: params 2.2e-7, m 1.2e-7, v 7.9e-8, average 1.5e-7, norm and scale exact, bf16 copy 2.5e-3
static const Limits VALUES = {1e-6, 1e-6}, COPY = {4e-3, 4e-3}, EXACT = {0, 0};

// Of buckets of n/2 floats, rounded down to whole blocks, and of the rest
static std::vector<Slice> granules_of_two(size_t n) {
    std::vector<Slice> granules;
    size_t half = n / 2 / BLOCK * BLOCK;
    for (Slice bucket : {Slice{0, half}, Slice{half, n}}) {
        for (size_t at = bucket.first; at < bucket.end; at += GRANULE_FLOATS) {
            granules.push_back({at, at + GRANULE_FLOATS < bucket.end ? at + GRANULE_FLOATS : bucket.end});
        }
    }
    return granules;
}

struct Optimizer { // on the device, as the trainer has it
    Device<float> params, m, v, ema, scale;
    Device<bf16> low;
    DeviceArray<uint8_t> groups;
    DeviceArray<double> norm, squares;
    DeviceArray<Slice> granules;
    int count;
    Optimizer(const Floats& start, const std::vector<uint8_t>& groups)
        : params(start), m(Floats(start.size())), v(Floats(start.size())), ema(start), scale(1), low(start),
          groups(groups), norm({0}), squares(std::vector<double>(granules_of_two(start.size()).size())),
          granules(granules_of_two(start.size())), count((int)granules_of_two(start.size()).size()) {}
    double step(Device<float>& grads, double clip, bool average, bool copy, const std::vector<AdamWStep>& steps) {
        double got;
        DeviceArray<AdamWStep> d_steps(steps);
        granule_squares(squares, grads, granules, count, 0);
        norm_and_scale(norm, scale, squares, nullptr, count, clip, 0);
        adamw_update(params, m, v, average ? ema.data : nullptr, copy ? low.data : nullptr, grads, groups, nullptr, grads.n,
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
        std::vector<Slice> granules = granules_of_two(n);
        std::vector<double> squares(granules.size());
        for (size_t i = 0; i < granules.size(); i++) {
            cpu.granule_squares(&squares[i], &grads[granules[i].first], granules[i].end - granules[i].first);
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

// Two ranks, one with the odd blocks, one with the even ones: together they do what one does with all, in the same bits.
static void test_shared_out() {
    const size_t n = 7 * BLOCK;
    Floats start = random_values<float>(n), grads = random_values<float>(n);
    std::vector<uint8_t> groups = {0, 1, 1, 0, 1, 0, 0};
    std::vector<AdamWStep> steps = {adamw_step(0.5e-2f, 0.9f, 0.999f, 0, 1), adamw_step(1e-2f, 0.9f, 0.999f, 0.05f, 1)};
    Optimizer one(start, groups), shared(start, groups);
    Device<float> d_grads(grads), d_shared(grads);
    one.step(d_grads, 1, true, true, steps);
    DeviceArray<AdamWStep> d_steps(steps);
    granule_squares(shared.squares, d_shared, shared.granules, shared.count, 0);
    norm_and_scale(shared.norm, shared.scale, shared.squares, nullptr, shared.count, 1, 0);
    for (uint32_t odd : {0u, 1u}) {
        std::vector<uint32_t> place;
        Floats kept_ema;
        for (uint32_t block = odd; block < 7; block += 2) {
            place.push_back(block);
            kept_ema.insert(kept_ema.end(), &start[block * BLOCK], &start[block * BLOCK] + BLOCK);
        }
        Device<float> m{Floats(kept_ema.size())}, v{Floats(kept_ema.size())}, ema(kept_ema);
        DeviceArray<uint32_t> d_place(place);
        adamw_update(shared.params, m, v, ema, shared.low, d_shared, shared.groups, d_place, kept_ema.size(),
                     {0.9f, 0.999f, 1e-8f, 0.9f}, d_steps, shared.scale, 0);
        Floats got = ema.host(), whole = one.ema.host(), want;
        for (uint32_t block : place) { want.insert(want.end(), &whole[block * BLOCK], &whole[block * BLOCK] + BLOCK); }
        check_values<float>("the mean of what is owned", got, want, EXACT);
    }
    check<float>("params of both", shared.params, one.params.host(), EXACT);
    check<bf16>("copies of both", shared.low, one.low.host(), EXACT);
    check<float>("gradients of both", d_shared, Floats(n), EXACT);
}

// Squares that come in another order are added in this one.
static void test_order() {
    const int n = 3000;
    std::vector<double> lying(n), coming(n);
    std::vector<int> order(n);
    for (int i = 0; i < n; i++) {
        lying[i] = pow(10, i * 7 % 13) / 3;
        order[i] = (int)(i * 1009LL % n);
        coming[order[i]] = lying[i];
    }
    DeviceArray<double> d_lying(lying), d_coming(coming), norms({0, 0});
    DeviceArray<int> d_order(order);
    Device<float> scale(1);
    double got[2];
    norm_and_scale(norms.data, scale, d_lying, nullptr, n, 0, 0);
    norm_and_scale(norms.data + 1, scale, d_coming, d_order, n, 0, 0);
    CUDA_CHECK(cudaMemcpy(got, norms, sizeof got, cudaMemcpyDeviceToHost));
    CHECK(got[0] == got[1] && got[0] > 0, "%.17g as they lie, %.17g as they come", got[0], got[1]);
}

int main(int argc, char** argv) {
    test_steps(1, 0, 0, true, true);
    test_steps(1000, 0.05f, 1, true, true);
    test_steps(50021, 0.05f, 1, true, false);
    test_steps(257, 0.05f, 1e6, false, true);
    test_not_finite(NAN, 0);
    test_not_finite(NAN, 1);
    test_not_finite(INFINITY, 1);
    test_shared_out();
    test_order();
    return kernel_tests_finish(argc, argv);
}
