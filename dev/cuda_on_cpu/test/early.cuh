// Kernels that are launched early, behind one whose output they read.
#pragma once
#include "support.cuh"

#ifdef CUDA_EMU
__global__ void double_kernel(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { x[i] *= 2; }
}

template <int ADDED> __global__ void add_kernel(float* out, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float value = PLANTED(wait_after_load) && i < n ? x[i] : 0;
    if (!PLANTED(no_wait_in_early_kernel)) { emu_grid_wait(); }
    if (i < n) { out[i] = (PLANTED(wait_after_load) ? value : x[i]) + ADDED; }
}

static void test_early(void) {
    int n = 100;
    auto x = random_values<float>(n);
    std::vector<double> want;
    for (float value : x) { want.push_back((double)(2 * value) + 1); }
    Device<float> dev_x(x), out(n);
    double_kernel<<<2, 64>>>(dev_x.data, n);
    emu_launch_early<float*, const float*, int>(add_kernel<1>, 2, 64, 0, nullptr, out.data, dev_x.data, n);
    check_output("a kernel launched early", out, want, 1e-6);
}
#else
static void test_early(void) {}
#endif
