// Limits of a launch: shared memory, static and dynamic together, and registers as test/registers.txt has them.
#pragma once
#include "support.cuh"

// out[i] = x[i] + what the block's first thread has read
template <class T> __global__ void add_first_kernel(T* out, const T* x, int n) {
    extern __shared__ float4 room[];
    __shared__ T first[16];
    T* row = (T*)room;
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x < 16) { first[threadIdx.x] = x[blockIdx.x * blockDim.x]; }
    row[threadIdx.x] = i < n ? x[i] : T(0);
    __syncthreads();
    if (i < n) { out[i] = row[threadIdx.x] + first[threadIdx.x % 16]; }
}

__global__ void double_kernel(double* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { x[i] *= 2; }
}

// 48 KB of dynamic shared memory have to be asked for beside static ones, for each kernel
static void allow_all_shared(size_t bytes) {
    auto attribute = cudaFuncAttributeMaxDynamicSharedMemorySize;
    if (PLANTED_HOST(static_beside_dynamic)) { return; }
    if (PLANTED_HOST(limit_of_another_kernel)) {
        CUDA_CHECK(cudaFuncSetAttribute(add_first_kernel<double>, attribute, (int)bytes));
    } else {
        CUDA_CHECK(cudaFuncSetAttribute(add_first_kernel<float>, attribute, (int)bytes));
    }
}

static void test_limits() {
    int n = 700;
    size_t most = 48 << 10;
    auto x = random_values<float>(n);
    std::vector<double> want(n), twice(n);
    for (int i = 0; i < n; i++) {
        want[i] = (double)x[i] + x[i / 128 * 128];
        twice[i] = 2 * want[i];
    }
    Device<float> dx(x), out(n);
    allow_all_shared(most);
    add_first_kernel<<<CEIL_DIV(n, 128), 128, most>>>(out.data, dx.data, n);
    check_output("static and dynamic shared memory", out, want, 1e-6);

    Device<double> doubles(want);
    int block = PLANTED_HOST(too_many_registers) ? 288 : 256; // of 255 registers each
    double_kernel<<<CEIL_DIV(n, block), block>>>(doubles.data, n);
    check_output("255 registers a thread", doubles.host(), twice, 0.0);
}
