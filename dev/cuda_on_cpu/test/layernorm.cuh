// Layernorm, one warp a row: by shuffles, and by cooperative groups with float4 loads.
#pragma once
#include "support.cuh"
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>

__device__ __forceinline__ float warp_sum(float v) {
#pragma unroll
    for (int offset = 16; offset > 0; offset >>= 1) { v += __shfl_xor_sync(0xffffffff, v, offset); }
    return v;
}

__global__ void __launch_bounds__(128)
layernorm_kernel(float* __restrict__ out, float* mean, float* rstd, const float* __restrict__ inp, const float* weight,
                 const float* bias, int N, int C) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= N) { return; }
    const float* x = inp + (size_t)row * C;
    float sum = 0.0f, squares = 0.0f;
    for (int i = lane; i < C; i += 32) { sum += x[i]; }
    if (PLANTED(full_mask_in_half_warp)) {
        if (lane < 16) { sum = warp_sum(sum); }
    } else {
        sum = warp_sum(sum);
    }
    float m = sum / C;
    for (int i = lane; i < C; i += 32) { squares += (x[i] - m) * (x[i] - m); }
    float r = rsqrtf(warp_sum(squares) / C + 1e-5f);
    if (lane == 0) {
        __stcs(mean + row, m);
        __stcs(rstd + row, r);
    }
    float* o = out + (size_t)row * C;
    for (int i = lane; i < C; i += 32) { __stcs(o + i, (__ldcs(x + i) - m) * r * weight[i] + bias[i]); }
}

__global__ void layernorm_groups_kernel(float* out, const float* inp, const float* weight, const float* bias, int N,
                                        int C) {
    namespace cg = cooperative_groups;
    cg::thread_block block = cg::this_thread_block();
    cg::thread_block_tile<32> warp = cg::tiled_partition<32>(block);
    int row = blockIdx.x * warp.meta_group_size() + warp.meta_group_rank();
    if (row >= N) { return; }
    int first = PLANTED(misaligned_float4) ? 1 : 0, count = C / 4 - first;
    const float4* x = reinterpret_cast<const float4*>(inp + (size_t)row * C + first);
    float sum = 0.0f, squares = 0.0f;
    for (int i = warp.thread_rank(); i < count; i += warp.size()) {
        float4 v = __ldg(x + i);
        sum += v.x + v.y + v.z + v.w;
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    sum = cg::reduce(warp, sum, cg::plus<float>{});
    squares = cg::reduce(warp, squares, cg::plus<float>{});
    float m = sum / C, r = rsqrtf(squares / C - m * m + 1e-5f);
    for (int i = warp.thread_rank(); i < count; i += warp.size()) {
        float4 v = x[i], w = ((const float4*)weight)[i], b = ((const float4*)bias)[i];
        ((float4*)(out + (size_t)row * C))[i] =
            make_float4((v.x - m) * r * w.x + b.x, (v.y - m) * r * w.y + b.y, (v.z - m) * r * w.z + b.z,
                        (v.w - m) * r * w.w + b.w);
    }
}

static void test_layernorm() {
    int N = 37, C = 96;
    auto x = random_values<float>(N * C), weight = random_values<float>(C), bias = random_values<float>(C);
    std::vector<double> want(N * C), means(N), rstds(N);
    for (int n = 0; n < N; n++) {
        double variance = 0;
        for (int i = 0; i < C; i++) { means[n] += (double)x[n * C + i] / C; }
        for (int i = 0; i < C; i++) { variance += pow(x[n * C + i] - means[n], 2) / C; }
        rstds[n] = 1 / sqrt(variance + 1e-5);
        for (int i = 0; i < C; i++) { want[n * C + i] = (x[n * C + i] - means[n]) * rstds[n] * weight[i] + bias[i]; }
    }
    Device<float> inp(x), w(weight), b(bias), out(N * C), mean(N), rstd(N), out_groups(N * C);
    layernorm_kernel<<<CEIL_DIV(N, 4), 128>>>(out.data, mean.data, rstd.data, inp.data, w.data, b.data, N, C);
    check_output("layernorm", out, want, 1e-6); // 1.0e-7; by groups 1.6e-7
    check_output("layernorm's mean", mean, means, 1e-6);
    check_output("layernorm's rstd", rstd, rstds, 1e-6);
    layernorm_groups_kernel<<<CEIL_DIV(N, 4), 128>>>(out_groups.data, inp.data, w.data, b.data, N, C);
    check_output("layernorm by groups and float4", out_groups, want, 1e-6);
}
