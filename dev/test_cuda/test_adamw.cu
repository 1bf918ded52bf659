// adamw.cuh against adamw.h: three steps with decay and clipping, moving average and bf16 copy on and off, sizes from
// one element to more than the grid of the norm.
#include "../../kernels/adamw.cuh"
#include "kernel_test.cuh"

// Seen: params 2.2e-7, m 1.2e-7, v 7.9e-8, average 1.5e-7, norm and scale exact, bf16 copy 2.5e-3
static const Limits VALUES = {1e-6, 1e-6}, COPY = {4e-3, 4e-3};

static void test_steps(size_t n, float weight_decay, double clip, bool average, bool copy) {
    Floats params = random_values<float>(n), m(n), v(n), ema = params, grads;
    Device<float> d_params(params), d_m(m), d_v(v), d_ema(ema), d_scale(1);
    Device<bf16> d_low(n);
    double *norm, *scratch, got;
    CUDA_CHECK(cudaMalloc((void**)&norm, sizeof(double)));
    CUDA_CHECK(cudaMalloc((void**)&scratch, global_norm_scratch(n) * sizeof(double)));
    for (int t = 1; t <= 3; t++) {
        grads = random_values<float>(n);
        Device<float> d_grads(grads);
        double want = cpu.global_norm(grads.data(), n);
        float scale = clip > 0 && want > clip ? (float)(clip / want) : 1;
        cpu.adamw_update(params.data(), m.data(), v.data(), grads.data(), n, 1e-2f, 0.9f, 0.999f, 1e-8f, weight_decay,
                         scale, t);
        cpu.ema_update(ema.data(), params.data(), n, 0.9f);
        global_norm(norm, d_scale, d_grads, scratch, n, clip, 0);
        adamw_update(d_params, d_m, d_v, average ? d_ema.data : nullptr, copy ? d_low.data : nullptr, d_grads, n, 1e-2f,
                     0.9f, 0.999f, 1e-8f, weight_decay, 0.9f, d_scale, t, 0);
        CUDA_CHECK(cudaMemcpy(&got, norm, sizeof got, cudaMemcpyDeviceToHost));
        check_values<float>("global_norm", {(float)got}, {(float)want}, VALUES);
        check<float>("grad_scale", d_scale, {scale}, VALUES);
    }
    check<float>("params", d_params, params, VALUES);
    check<float>("m", d_m, m, VALUES);
    check<float>("v", d_v, v, VALUES);
    if (average) { check<float>("ema", d_ema, ema, VALUES); }
    if (copy) { check<bf16>("bf16 copy", d_low, params, COPY); }
    CUDA_CHECK(cudaFree(norm));
    CUDA_CHECK(cudaFree(scratch));
}

int main(int argc, char** argv) {
    test_steps(1, 0, 0, true, true);
    test_steps(1000, 0.05f, 1, true, true);
    test_steps(50021, 0.05f, 1, true, false);
    test_steps(257, 0.05f, 1e6, false, true);
    return kernel_tests_finish(argc, argv);
}
