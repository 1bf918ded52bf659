// What each intrinsic returns, lane by lane, beside plain loops; one warp of one block, a whole one or the last 20
// lanes missing.
#pragma once
#include "support.cuh"

struct Lanes { // what lane i got
    int shuffled, up, down, exchanged, segment, ballot, any, all, sum, largest, smallest;
};

__global__ void lanes_kernel(Lanes* out) {
    int i = threadIdx.x;
    unsigned mask = blockDim.x == 32 ? 0xffffffffu : (1u << blockDim.x) - 1;
    Lanes mine;
    mine.shuffled = __shfl_sync(mask, 100 + i, 3);
    mine.up = __shfl_up_sync(mask, 100 + i, 2);
    mine.down = __shfl_down_sync(mask, 100 + i, 1, 4);
    mine.exchanged = __shfl_xor_sync(mask, 100 + i, 1);
    mine.segment = __shfl_sync(mask, 100 + i, 5, 4);
    mine.ballot = (int)__ballot_sync(mask, i % 3 == 0);
    mine.any = __any_sync(mask, i == 7);
    mine.all = __all_sync(mask, i < 11);
    mine.sum = __reduce_add_sync(mask, i);
    mine.largest = __reduce_max_sync(mask, i * 7 % 32);
    mine.smallest = __reduce_min_sync(mask, 5 + i);
    out[i] = mine;
}

static void test_lanes(int count) {
    Device<Lanes> out(count);
    lanes_kernel<<<1, count>>>(out.data);
    std::vector<Lanes> got = out.host();
    int ballot = 0, sum = 0, largest = 0;
    for (int i = 0; i < count; i++) {
        ballot |= (i % 3 == 0) << i;
        sum += i;
        if (i * 7 % 32 > largest) { largest = i * 7 % 32; }
    }
    for (int i = 0; i < count; i++) {
        const Lanes& l = got[i];
        bool shuffles = l.shuffled == 103 && l.up == 100 + (i < 2 ? i : i - 2) &&
                        l.down == 100 + (i % 4 == 3 ? i : i + 1) && l.exchanged == 100 + (i ^ 1) &&
                        l.segment == 100 + i / 4 * 4 + 1;
        bool votes = l.ballot == ballot && l.any == 1 && l.all == (count <= 11);
        CHECK(shuffles, "shuffles of lane %d of %d", i, count);
        CHECK(votes, "votes of lane %d of %d", i, count);
        CHECK(l.sum == sum && l.largest == largest && l.smallest == 5, "reductions of lane %d of %d", i, count);
    }
}

__global__ void votes_kernel(int* out) {
    int i = threadIdx.x, count = __syncthreads_count(i % 5 == 0), any = __syncthreads_or(i == 64);
    out[i] = count * 100 + any * 10 + __syncthreads_and(i >= 0);
}

struct Parameters { // by value, larger than registers, with a pointer inside
    float values[60];
    float* out;
};
__global__ void parameters_kernel(Parameters parameters, int count) {
    if (threadIdx.x < count) { parameters.out[threadIdx.x] = parameters.values[threadIdx.x]; }
}

__global__ void conversions_kernel(float* out, const bf16* x) {
    __nv_bfloat162 pair = *(const __nv_bfloat162*)x;
    float2 wide = __bfloat1622float2(pair);
    __nv_bfloat162 back = __floats2bfloat162_rn(wide.x + 1.0f, wide.y * 2.0f);
    float4 four = make_float4(wide.x, wide.y, __low2float(back), __high2float(back));
    __stcs((float4*)out, four);
    out[4] = __bfloat162float(__hfma(pair.x, pair.y, pair.x));
    out[5] = __expf(1.0f) + rsqrtf(4.0f) + min(3, 4) + fmaxf(1.0f, 2.0f);
    out[6] = __int_as_float(__float_as_int(wide.x));
    out[7] = (float)(__popc(0xf0f0u) + __clz(1) + __ffs(8));
}

static void test_conversions() {
    std::vector<bf16> x = {__float2bfloat16(1.5f), __float2bfloat16(-0.375f)};
    Device<bf16> dx(x);
    Device<float> out(8);
    conversions_kernel<<<1, 1>>>(out.data, dx.data);
    std::vector<double> want = {1.5, -0.375, 2.5, -0.75, 0.9375, M_E + 0.5 + 3 + 2, 1.5, 8 + 31 + 4};
    check_output("conversions", out, want, 1e-6);
}

static void test_intrinsics() {
    test_lanes(32);
    test_lanes(12);
    int threads = 96;
    Device<int> votes(threads);
    votes_kernel<<<1, threads>>>(votes.data);
    std::vector<int> got = votes.host();
    for (int i = 0; i < threads; i++) { CHECK(got[i] == 20 * 100 + 10 + 1, "block votes of thread %d: %d", i, got[i]); }
    Device<float> out(60);
    Parameters parameters = {};
    parameters.out = out.data;
    for (int i = 0; i < 60; i++) { parameters.values[i] = (float)i; }
    parameters_kernel<<<1, 64>>>(parameters, 60);
    check_output("parameters by value", out, std::vector<double>(parameters.values, parameters.values + 60), 0.0);
    test_conversions();
}
