// Euclidean projections of rows of N numbers, a warp for each row (defined in kernels/simplex.h):
//     simplex    out = max(x - tau, 0)                         sum out = 1
//     l1         out = x within the ball, else sgn(x) max(|x| - tau, 0)
// On the row minus its largest element, tau is the zero of f(t) = sum_i max(v_i - t, 0) - 1, which is convex and
// decreasing. Newton's steps from -1, where f >= 0, approach it from below (Michelot, "A finite algorithm for finding
// the projection of a point onto the canonical simplex of R^n", JOTA 50, 1986):
//     tau <- (sum of the v_i > tau, minus 1) / their count
// Every step drops elements; if it drops none, tau is exact: no sorting, and sums in a fixed order. tau is double, as
// on the CPU; NaN and +inf give NaN.
//
// Bytes: out is written once, x read once from memory, and again from cache for each of the 3 to 8 steps.
#pragma once
#include "cuda_common.cuh"
#include "simplex.h"

typedef struct { // of a projected row
    double tau;  // minus high
    float high;  // the largest element
    float mean;  // of s dout over the support, s the signs: what the backward subtracts
    bool same;   // the row is its own projection
} SimplexRow;

__device__ inline float simplex_size(float x, Projection kind) { return kind == PROJECT_L1 ? fabsf(x) : x; }

__device__ inline bool simplex_stays(const float* x, Projection kind, int N) {
    double sum = 0;
    if (kind != PROJECT_L1) { return kind == PROJECT_NONE; }
    for (int i = threadIdx.x % WARP; i < N; i += WARP) { sum += fabsf(x[i]); }
    return warp_reduce<Sum>(sum) <= 1;
}

__device__ inline double simplex_threshold(const float* x, float high, Projection kind, int N) {
    double tau = -1;
    int count = N + 1, before;
    do {
        double sum = 0;
        before = count;
        count = 0;
        for (int i = threadIdx.x % WARP; i < N; i += WARP) {
            float v = simplex_size(x[i], kind) - high;
            if (v > tau) {
                sum += v;
                count++;
            }
        }
        count = warp_reduce<Sum>(count);
        tau = (warp_reduce<Sum>(sum) - 1) / count;
    } while (count < before);
    return tau;
}

// All of a row x (N) except its mean. By a whole warp: every lane has the result.
__device__ inline SimplexRow simplex_row(const float* x, Projection kind, int N) {
    SimplexRow row = {0, -INFINITY, 0, simplex_stays(x, kind, N)};
    if (row.same) { return row; }
    for (int i = threadIdx.x % WARP; i < N; i += WARP) { row.high = fmaxf(row.high, simplex_size(x[i], kind)); }
    row.high = warp_reduce<Largest>(row.high);
    row.tau = simplex_threshold(x, row.high, kind, N);
    return row;
}

// The projection of an element
__device__ inline float simplex_value(float x, SimplexRow row, Projection kind) {
    if (row.same) { return x; }
    double above = simplex_size(x, kind) - row.high - row.tau;
    float size = above < 0 ? 0 : (float)above; // written so that NaN stays NaN
    return kind == PROJECT_L1 ? copysignf(size, x) : size;
}

// For a row projected to out; by a whole warp
__device__ inline float simplex_mean(const float* dout, const float* out, int N) {
    double sum = 0;
    int count = 0;
    for (int i = threadIdx.x % WARP; i < N; i += WARP) {
        if (out[i] != 0) {
            sum += copysignf(1, out[i]) * dout[i];
            count++;
        }
    }
    return (float)(warp_reduce<Sum>(sum) / warp_reduce<Sum>(count));
}

// The forward line: out = projection of x, an element of it
__device__ inline float simplex_slope(float dout, float out, SimplexRow row) {
    return row.same ? dout : out != 0 ? dout - copysignf(1, out) * row.mean : 0;
}

// ---- Rows in global memory

__global__ void simplex_rows_forward_kernel(float* out, const float* x, Projection kind, int rows, int N) {
    wait_for_kernel_in_front();
    int r = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (r >= rows) { return; }
    x += (size_t)r * N, out += (size_t)r * N;
    SimplexRow row = simplex_row(x, kind, N);
    for (int i = threadIdx.x % WARP; i < N; i += WARP) { out[i] = simplex_value(x[i], row, kind); }
}

__global__ void simplex_rows_backward_kernel(float* dx, const float* dout, const float* out, const float* x,
                                             Projection kind, int rows, int N) {
    wait_for_kernel_in_front();
    int r = (blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    if (r >= rows) { return; }
    x += (size_t)r * N, out += (size_t)r * N, dout += (size_t)r * N, dx += (size_t)r * N;
    SimplexRow row = {0, 0, 0, simplex_stays(x, kind, N)};
    if (!row.same) { row.mean = simplex_mean(dout, out, N); }
    for (int i = threadIdx.x % WARP; i < N; i += WARP) { dx[i] = simplex_slope(dout[i], out[i], row); }
}

// out (rows,N) = projections of the rows of x; out may be x
static inline void simplex_rows_forward(float* out, const float* x, Projection kind, int rows, int N,
                                        cudaStream_t stream) {
    launch_early(simplex_rows_forward_kernel, ceil_div(rows, BLOCK / WARP), BLOCK, 0, stream, out, x, kind, rows, N);
}

// The forward line: out = projections of the rows of x. dx may be dout.
static inline void simplex_rows_backward(float* dx, const float* dout, const float* out, const float* x,
                                         Projection kind, int rows, int N, cudaStream_t stream) {
    int blocks = ceil_div(rows, BLOCK / WARP);
    launch_early(simplex_rows_backward_kernel, blocks, BLOCK, 0, stream, dx, dout, out, x, kind, rows, N);
}
