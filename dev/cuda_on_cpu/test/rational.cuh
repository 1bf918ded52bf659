// A rational activation's backward: y = P(x) / (1 + |A(x)|) with coefficients by group, their gradients summed in two
// launches without atomics.
#pragma once
#include "layernorm.cuh"

constexpr int NUMERATOR = 6, DENOMINATOR = 4, COEFFICIENTS = NUMERATOR + DENOMINATOR;

// T float on the device, double for the reference. Adds dy·∂y/∂c to dc and returns dy·∂y/∂x.
template <class T> __host__ __device__ inline T rational_backward(T x, const T* c, T dy, T* dc) {
    T power[NUMERATOR], P = 0, dP = 0, A = 0, dA = 0;
    power[0] = 1;
    for (int i = 1; i < NUMERATOR; i++) { power[i] = power[i - 1] * x; }
    for (int i = 0; i < NUMERATOR; i++) { P += c[i] * power[i]; }
    for (int i = 1; i < NUMERATOR; i++) { dP += i * c[i] * power[i - 1]; }
    for (int j = 0; j < DENOMINATOR; j++) {
        A += c[NUMERATOR + j] * power[j + 1];
        dA += (j + 1) * c[NUMERATOR + j] * power[j];
    }
    T sign = A < 0 ? -1 : 1, inverse = 1 / (1 + sign * A), y = P * inverse;
    for (int i = 0; i < NUMERATOR; i++) { dc[i] += dy * power[i] * inverse; }
    for (int j = 0; j < DENOMINATOR; j++) { dc[NUMERATOR + j] -= dy * sign * power[j + 1] * y * inverse; }
    return dy * (dP - y * sign * dA) * inverse;
}

// grid (parts, G); partial[G, parts, COEFFICIENTS]
template <int BLOCK> __global__ void __launch_bounds__(BLOCK)
rational_partial_kernel(float* __restrict__ dx, float* __restrict__ partial, const float* __restrict__ dy,
                        const float* __restrict__ x, const float* coefficients, int N, int C, int G) {
    __shared__ float of_warp[BLOCK / 32][COEFFICIENTS];
    __shared__ float c[COEFFICIENTS];
    int g = blockIdx.y, D = C / G, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (threadIdx.x < COEFFICIENTS) { c[threadIdx.x] = coefficients[g * COEFFICIENTS + threadIdx.x]; }
    __syncthreads();
    float sums[COEFFICIENTS];
    for (int i = 0; i < COEFFICIENTS; i++) { sums[i] = 0.0f; }
    for (int e = blockIdx.x * BLOCK + threadIdx.x; e < N * D; e += gridDim.x * BLOCK) {
        size_t at = (size_t)(e / D) * C + g * D + e % D;
        dx[at] = rational_backward(x[at], c, dy[at], sums);
    }
    for (int i = 0; i < COEFFICIENTS; i++) {
        float sum = warp_sum(sums[i]);
        if (lane == 0) { of_warp[warp][i] = sum; }
    }
    __syncthreads();
    if (threadIdx.x >= COEFFICIENTS) { return; }
    float sum = 0.0f;
    for (int w = 0; w < BLOCK / 32; w++) { sum += of_warp[w][threadIdx.x]; }
    partial[((size_t)g * gridDim.x + blockIdx.x) * COEFFICIENTS + threadIdx.x] = sum;
}

// grid G, one warp a coefficient
__global__ void rational_sum_kernel(float* dc, const float* partial, int parts) {
    int g = blockIdx.x, i = threadIdx.x / 32, lane = threadIdx.x % 32;
    float sum = 0.0f;
    for (int p = lane; p < parts; p += 32) { sum += partial[((size_t)g * parts + p) * COEFFICIENTS + i]; }
    sum = warp_sum(sum);
    if (lane == 0) { dc[g * COEFFICIENTS + i] += sum; }
}

static void test_rational() {
    int N = 34, C = 64, G = 8, D = C / G, parts = 3;
    auto x = random_values<float>(N * C, 2.0f), dy = random_values<float>(N * C);
    auto c = random_values<float>(G * COEFFICIENTS);
    std::vector<double> want_dx(N * C), want_dc(G * COEFFICIENTS), wide(c.begin(), c.end());
    for (int i = 0; i < N * C; i++) {
        int at = i % C / D * COEFFICIENTS;
        want_dx[i] = rational_backward<double>(x[i], &wide[at], dy[i], &want_dc[at]);
    }
    Device<float> dev_x(x), grad(dy), dev_c(c), dx(N * C), partial(G * parts * COEFFICIENTS), dc(G * COEFFICIENTS);
    if (!PLANTED_HOST(gradient_not_zeroed)) { dc.zero(); }
    rational_partial_kernel<128><<<dim3(parts, G), 128>>>(dx.data, partial.data, grad.data, dev_x.data, dev_c.data, N,
                                                          C, G);
    rational_sum_kernel<<<G, 32 * COEFFICIENTS>>>(dc.data, partial.data, parts);
    check_output("rational dx", dx, want_dx, 2e-6); // 2.7e-7
    check_output("rational dc", dc, want_dc, 2e-6);
}
