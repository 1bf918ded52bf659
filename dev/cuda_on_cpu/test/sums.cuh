// Sums that cross blocks: a bias gradient by atomics, and a grid-wide sum that the last block to finish completes.
#pragma once
#include "softmax.cuh"

__global__ void column_sum_kernel(float* dbias, const bf16* dout, int N, int C) {
    extern __shared__ float of_block[];
    for (int c = threadIdx.x; c < C; c += blockDim.x) { of_block[c] = 0.0f; }
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < N * C; i += gridDim.x * blockDim.x) {
        float value = __bfloat162float(dout[i]);
        if (PLANTED(plain_add_in_block)) {
            of_block[i % C] += value;
        } else {
            atomicAdd(&of_block[i % C], value);
        }
    }
    __syncthreads();
    for (int c = threadIdx.x; c < C; c += blockDim.x) {
        if (PLANTED(plain_add_between_blocks)) {
            dbias[c] += of_block[c];
        } else {
            atomicAdd(&dbias[c], of_block[c]);
        }
    }
}

__device__ unsigned tickets = 0;
__global__ void total_kernel(float* out, float* partial, const float* x, int n) {
    __shared__ int is_last;
    float sum = 0.0f;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) { sum += x[i]; }
    sum = block_reduce(sum, false, 0.0f);
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = sum;
        if (!PLANTED(no_threadfence)) { __threadfence(); }
        is_last = atomicInc(&tickets, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (!is_last) { return; }
    sum = 0.0f;
    for (int i = threadIdx.x; i < gridDim.x; i += blockDim.x) { sum += __ldcg(partial + i); }
    sum = block_reduce(sum, false, 0.0f);
    if (threadIdx.x == 0) { *out = sum; }
}

// out[i] = x[i] + x[i + 1]; in place it would be a race between the blocks, unseen where they run one after another
__global__ void add_neighbour_kernel(float* out, const float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = i < n ? x[i] + (i + 1 < n ? x[i + 1] : 0.0f) : 0.0f;
    __syncthreads();
    if (i < n) { out[i] = sum; }
}

// A warp's running total in one shared cell: read by all lanes, then changed by one, which the __syncwarps keep apart.
__global__ void warp_total_kernel(float* out, const float* x, int n) {
    __shared__ float total;
    if (threadIdx.x == 0) { total = 0.0f; }
    __syncwarp();
    float before = 0.0f;
    for (int i = 0; i < n; i++) {
        if (threadIdx.x <= i) { before = total; }
        __syncwarp();
        if (threadIdx.x == i % 32) { total = total + x[i]; }
        __syncwarp();
    }
    out[threadIdx.x] = before + total;
}

static void test_sums_in_order() {
    int n = 96;
    auto x = random_values<float>(n);
    std::vector<double> want(n), want_total(32);
    double last = 0, total = 0;
    for (int i = 0; i < n; i++) {
        want[i] = (double)x[i] + (i + 1 < n ? x[i + 1] : 0.0f);
        last = total;
        total += x[i];
    }
    for (double& value : want_total) { value = last + total; }
    Device<float> dev_x(x), out(n), totals(32);
    warp_total_kernel<<<1, 32>>>(totals.data, dev_x.data, n);
    check_output("a warp's running total", totals, want_total, 1e-6);
    float* target = PLANTED_HOST(neighbour_read_in_place) ? dev_x.data : out.data;
    add_neighbour_kernel<<<3, 32>>>(target, dev_x.data, n);
    if (target == out.data) { check_output("sums with the neighbour", out, want, 1e-6); }
}

static void test_sums() {
    int N = 33, C = 72, blocks = 4;
    auto dout = random_values<bf16>(N * C);
    std::vector<double> want_columns(C), want_total(1);
    std::vector<float> x;
    for (int i = 0; i < N * C; i++) {
        x.push_back(to_float(dout[i]));
        want_columns[i % C] += x[i];
        want_total[0] += x[i];
    }
    Device<bf16> dev_dout(dout);
    Device<float> dbias(C), dev_x(x), partial(blocks), total(1);
    dbias.zero();
    column_sum_kernel<<<blocks, 96, C * sizeof(float)>>>(dbias.data, dev_dout.data, N, C);
    check_output("column sums by atomics", dbias, want_columns, 1e-6, ONE_ORDER); // 0: bf16 values, exact sums
    total_kernel<<<blocks, 64>>>(total.data, partial.data, dev_x.data, N * C);
    check_output("total by the last block", total, want_total, 1e-6);
}
