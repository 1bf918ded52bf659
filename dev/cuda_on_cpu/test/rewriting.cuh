// Launches and shared memory as they may be written: what cuda_to_cpp.sh must turn into C++. Words in comments must not
// disturb it: __shared__ arrays, and kernel<<<grid, block>>>(x).
#pragma once
#include "support.cuh"

template <class A, class B> struct Pair {
    A first;
    B second;
};

template <class T, int SIZE> __global__ void fill_kernel(float* out, T value) {
    __shared__ alignas(16) float aligned[SIZE];
    alignas(16) __shared__ float4 one;
    __shared__ Pair<int, float> pairs[SIZE / 8][2 + 1]; // a comma in the type
    extern __shared__ __align__(16) unsigned char bytes[];
    if (threadIdx.x == 0) {
        one = make_float4(1, 2, 3, 4);
        pairs[0][2] = {5, 6.0f};
        ((float*)bytes)[1] = 7.0f;
    }
    aligned[threadIdx.x] = value.second;
    __syncthreads();
    out[threadIdx.x] = aligned[SIZE - 1 - threadIdx.x] + one.w + pairs[0][2].second + ((float*)bytes)[1];
}

__global__ void line_kernel(float* out) { out[0] = 1.0f; }

struct Sizes {
    int grid, block;
};

static void test_rewriting() {
    Device<float> out(16), one(1);
    Sizes sizes = {1, 16}, *at = &sizes;
    Pair<int, Pair<int, float>> value = {1, {2, 3.0f}};
    fill_kernel<Pair<int, float>, (8 << 1)>
        <<<dim3(at->grid),
           at->block > 8 ? at->block : 8, // across lines, with a comment
           2 * sizeof(float)>>>(out.data, value.second);
    check_output("a launch across lines", out, std::vector<double>(16, 3 + 4 + 6 + 7), 0.0);
    void (*kernels[2])(float*) = {nullptr, line_kernel};
    kernels[1]<<<1, 1>>>(one.data), kernels[1] <<< 1, 1 >>> (one.data);
    CHECK(__LINE__ == 43, "line %d: the rewriting moved it", __LINE__);
    check_output("a launch by pointer", one, {1.0}, 0.0);
}
