// Tiled matmul, out[M,N] = a[M,K] b[K,N], with static and with dynamic shared memory.
#pragma once
#include "support.cuh"

template <int T>
__global__ void matmul_static_kernel(float* out, const float* a, const float* b, int M, int N, int K) {
    __shared__ float a_tile[T][T + 1];
    __shared__ float b_tile[T][T + 1];
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, column = blockIdx.x * T + tx;
    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += T) {
        a_tile[ty][tx] = row < M && k0 + tx < K ? a[(size_t)row * K + k0 + tx] : 0.0f;
        b_tile[ty][tx] = column < N && k0 + ty < K ? b[(size_t)(k0 + ty) * N + column] : 0.0f;
        if (!PLANTED(no_barrier_after_load)) { __syncthreads(); }
        for (int k = 0; k < T; k++) { sum += a_tile[ty][k] * b_tile[k][tx]; }
        if (PLANTED(barrier_in_branch)) {
            if (ty < 5) { __syncthreads(); }
        } else if (!PLANTED(no_barrier_before_load)) {
            __syncthreads();
        }
    }
    bool inside = row < M || (row == M && PLANTED(write_past_end));
    if (inside && column < N) { out[(size_t)row * N + column] = sum; }
}

__global__ void matmul_dynamic_kernel(float* out, const float* a, const float* b, int M, int N, int K, int T) {
    extern __shared__ float tiles[];
    float *a_tile = tiles, *b_tile = tiles + T * T;
    int tx = threadIdx.x, ty = threadIdx.y, row = blockIdx.y * T + ty, column = blockIdx.x * T + tx;
    if (PLANTED(return_before_barrier) && row >= M) { return; }
    float sum = 0.0f;
    for (int k0 = 0; k0 < K; k0 += T) {
        a_tile[ty * T + tx] = row < M && k0 + tx < K ? a[(size_t)row * K + k0 + tx] : 0.0f;
        b_tile[ty * T + tx] = column < N && k0 + ty < K ? b[(size_t)(k0 + ty) * N + column] : 0.0f;
        __syncthreads();
        for (int k = 0; k < T; k++) { sum += a_tile[ty * T + k] * b_tile[k * T + tx]; }
        __syncthreads();
    }
    if (row < M && column < N) { out[(size_t)row * N + column] = sum; }
}

static void test_matmul() {
    int M = 45, N = 50, K = 70, T = 16;
    auto a = random_values<float>(M * K), b = random_values<float>(K * N);
    std::vector<double> want(M * N);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            for (int k = 0; k < K; k++) { want[i * N + j] += (double)a[i * K + k] * b[k * N + j]; }
        }
    }
    Device<float> da(a), db(b), out_static(M * N), out_dynamic(M * N);
    const float* left = PLANTED_HOST(host_pointer_to_kernel) ? a.data() : da.data;
    if (PLANTED_HOST(host_reads_device)) { printf("%f\n", db.data[3]); }
    dim3 grid(CEIL_DIV(N, T), CEIL_DIV(M, T)), block(T, T);
    dim3 short_grid(grid.x, grid.y - (PLANTED_HOST(grid_too_small) ? 1 : 0));
    matmul_static_kernel<16><<<short_grid, block>>>(out_static.data, left, db.data, M, N, K);
    check_output("matmul, static tiles", out_static, want, 1e-6); // 2.0e-7
    size_t shared = 2 * T * T * sizeof(float) / (PLANTED_HOST(dynamic_shared_too_small) ? 2 : 1);
    if (PLANTED_HOST(shared_above_limit)) { shared = (48 << 10) + 4; }
    matmul_dynamic_kernel<<<grid, block, shared>>>(out_dynamic.data, da.data, db.data, M, N, K, T);
    check_output("matmul, dynamic tiles", out_dynamic, want, 1e-6);
}
