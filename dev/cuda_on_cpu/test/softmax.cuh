// Softmax, one block a row, with block reductions in two steps that share one buffer.
#pragma once
#include "support.cuh"

struct Larger {
    __device__ float operator()(float a, float b) const { return a > b ? a : b; }
};
struct Sum {
    __device__ float operator()(float a, float b) const { return a + b; }
};

__device__ float block_reduce(float v, bool larger, float identity) {
    __shared__ float of_warp[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    auto op = [=](float a, float b) { return larger ? Larger()(a, b) : Sum()(a, b); };
    for (int offset = 16; offset > 0; offset >>= 1) { v = op(v, __shfl_xor_sync(0xffffffff, v, offset)); }
    if (lane == 0) { of_warp[PLANTED(static_shared_overflow) ? 32 + warp : warp] = v; }
    __syncthreads();
    v = lane < warps || PLANTED(unwritten_shared) ? of_warp[lane] : identity;
    for (int offset = 16; offset > 0; offset >>= 1) { v = op(v, __shfl_xor_sync(0xffffffff, v, offset)); }
    if (!PLANTED(reused_reduce_buffer)) { __syncthreads(); } // the next call writes of_warp
    return v;
}

__global__ void softmax_kernel(float* out, const float* inp, int C) {
    const float* x = inp + (size_t)blockIdx.x * C;
    float largest = -INFINITY, sum = 0.0f;
    for (int i = threadIdx.x; i < C; i += blockDim.x) { largest = fmaxf(largest, x[i]); }
    if (PLANTED(different_barriers)) {
        if (threadIdx.x < 64) { __syncthreads(); } else {
            __syncthreads();
        }
    }
    largest = block_reduce(largest, true, -INFINITY);
    for (int i = threadIdx.x; i < C; i += blockDim.x) { sum += __expf(x[i] - largest); }
    sum = block_reduce(sum, false, 0.0f);
    for (int i = threadIdx.x; i < C; i += blockDim.x) {
        out[(size_t)blockIdx.x * C + i] = __expf(x[i] - largest) / sum;
    }
}

static void test_softmax() {
    int N = 5, C = 333;
    auto x = random_values<float>(N * C);
    std::vector<double> want(N * C);
    for (int n = 0; n < N; n++) {
        double sum = 0;
        for (int i = 0; i < C; i++) { sum += exp(x[n * C + i]); }
        for (int i = 0; i < C; i++) { want[n * C + i] = exp(x[n * C + i]) / sum; }
    }
    Device<float> inp(x), out(N * C);
    softmax_kernel<<<N, 128>>>(out.data, inp.data, C);
    check_output("softmax", out, want, 1e-6); // 1.3e-7
}
