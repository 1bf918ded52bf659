// Kolmogorov-Arnold attention (karat.cuh), the parts of rank R, in fp32 arithmetic and either storage. Between z and
// out, where sigma is not formed,
//     U = W^T V   out = z U + 1 (beta^T V)    dz = dout U^T         dU = z^T dout           dV = W dU   dW += V dU^T
// and between the logits and z in the order Phi(W A), where A is not formed (kernels/karat_sigma.h),
//     U = W^T K   z = Q U^T / sqrt(D)         dQ = dz U / sqrt(D)   dU = dz^T Q / sqrt(D)   dK = W dU   dW += K dU^T
//     U, dU (B,H,R+1,D): the last row is beta^T V, and the sum of dout's rows; zeros in the order Phi(W A)
// U and dU take a block for each sample and head, the others a block for each tile of PLAIN_ROWS rows as well; of z, Q
// and out there are NQ rows. Bytes: each reads its factors of N rows once, and U from the cache; the work is R / N of
// that between logits and z.
#pragma once
#include "karat_plain.cuh"

// A factor (rows,R) of sums over rows, of a head alone or of a sample's head, and a last column extra (rows); NULL: all
// `otherwise`
typedef struct {
    const float* data;
    int rows;
    bool of_sample;
    const float* extra;
    float otherwise;
} KaratFactor;

// The other: its rows lie ld apart, samples as told
template <class T> struct KaratMatrix {
    const T* data;
    size_t ld, sample;
};

// sums (B,H,R+1,D) = factor^T matrix for each sample and head. Blocks (head, sample).
template <class T>
__global__ void karat_rank_sums_kernel(float* sums, KaratFactor factor, KaratMatrix<T> matrix, KaratDims d) {
    wait_for_kernel_in_front();
    int h = blockIdx.x, b = blockIdx.y;
    factor.data += ((factor.of_sample ? (size_t)b * d.H : 0) + h) * factor.rows * d.R;
    matrix.data += b * matrix.sample + h * d.D;
    sums += ((size_t)b * d.H + h) * (d.R + 1) * d.D;
    for (int i = threadIdx.x; i < (d.R + 1) * d.D; i += blockDim.x) {
        int p = i / d.D;
        float sum = 0;
        for (int n = 0; n < factor.rows; n++) {
            float left = p < d.R ? factor.data[(size_t)n * d.R + p] : factor.extra ? factor.extra[n] : factor.otherwise;
            sum += left * to_float(matrix.data[n * matrix.ld + i % d.D]);
        }
        sums[i] = sum;
    }
}

// out (count,D) = scale (z (count,R) U + the last row of U), U (R+1,D)
template <class T>
__device__ void karat_rank_rows(T* out, size_t ld, float scale, const float* z, const float* U, int count,
                                KaratDims d) {
    for (int i = threadIdx.x; i < count * d.D; i += blockDim.x) {
        int r = i / d.D, column = i % d.D;
        float sum = U[d.R * d.D + column];
        for (int p = 0; p < d.R; p++) { sum += z[r * d.R + p] * U[p * d.D + column]; }
        out[r * ld + column] = from_float<T>(scale * sum);
    }
}

// to (count,R) = scale rows (PLAIN_ROWS,D) U^T
__device__ inline void karat_rank_dots(float* to, float scale, const float* rows, const float* U, int count,
                                       KaratDims d) {
    for (int i = threadIdx.x; i < count * d.R; i += PLAIN_THREADS) {
        int r = i / d.R, p = i % d.R;
        float sum = 0;
        for (int j = 0; j < d.D; j++) { sum += rows[r * d.D + j] * U[p * d.D + j]; }
        to[i] = scale * sum;
    }
}

// The forward line: U = W^T matrix, and beta^T matrix behind it. Of a tile of rows of the matrix: drows (count,D), and
// what is added to dW (count,R+1), the last column where there is a beta. scale: that of dU
template <class T>
__device__ void karat_rank_backward(T* drows, size_t ld, float* dW, float scale, const float* rows, const float* W,
                                    const float* beta, const float* dU, int count, bool begins, KaratDims d) {
    int columns = beta ? d.R + 1 : d.R;
    for (int i = threadIdx.x; i < count * columns; i += PLAIN_THREADS) {
        int r = i / columns, p = i % columns;
        float sum = 0;
        for (int j = 0; j < d.D; j++) { sum += rows[r * d.D + j] * dU[p * d.D + j]; }
        karat_slot_add(dW + r * (d.R + 1) + p, scale * sum, begins);
    }
    for (int i = threadIdx.x; i < count * d.D; i += PLAIN_THREADS) {
        int r = i / d.D, j = i % d.D;
        float sum = beta ? beta[r] * dU[d.R * d.D + j] : 0;
        for (int p = 0; p < d.R; p++) { sum += W[r * d.R + p] * dU[p * d.D + j]; }
        drows[r * ld + j] = from_float<T>(scale * sum);
    }
}

// ---- Between z and out

// out of a tile of rows from their z. Blocks (tile, head, sample).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_rank_out_kernel(T* out, const float* z, const float* U, KaratDims d) {
    wait_for_kernel_in_front();
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t bh = (size_t)b * d.H + h;
    karat_rank_rows(out + ((size_t)b * d.NQ + first) * d.C + h * d.D, d.C, 1, z + (bh * d.NQ + first) * d.R,
                    U + bh * (d.R + 1) * d.D, count, d);
}

// The forward lines: U = W^T V; out = z U + 1 (beta^T V). dz and dV of a tile of rows, and dW (H,slots,N,R+1) over the
// samples of a slot. Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_value_backward_kernel(T* dqkv, float* dz, float* dW, const T* dout, const T* qkv, const float* U, const float* dU,
                            const float* W, const float* beta, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z;
    int count = min(PLAIN_ROWS, d.N - first), queries = min(PLAIN_ROWS, d.NQ - first); // none: not positive
    size_t ld = 3 * (size_t)d.C;
    float *values = (float*)shared, *dout_rows = values + PLAIN_ROWS * d.D;
    dW += (((size_t)h * slots + slot) * d.N + first) * (d.R + 1);
    W += ((size_t)h * d.N + first) * d.R;
    if (beta) { beta += first; }
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at = ((size_t)b * d.N + first) * ld + 2 * d.C + h * d.D, bh = (size_t)b * d.H + h;
        __syncthreads();
        plain_load(values, qkv + at, ld, count, d.D);
        plain_load(dout_rows, dout + ((size_t)b * d.NQ + first) * d.C + h * d.D, d.C, queries, d.D);
        __syncthreads();
        karat_rank_dots(dz + (bh * d.NQ + first) * d.R, 1, dout_rows, U + bh * (d.R + 1) * d.D, queries, d);
        karat_rank_backward(dqkv + at, ld, dW, 1, values, W, beta, dU + bh * (d.R + 1) * d.D, count,
                            b == karat_slot_start(d, slot, slots), d);
    }
}

// ---- The order Phi(W A): U of the keys

// z of a tile of rows. Blocks (tile, head, sample).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_reduced_z_kernel(float* z, const T* qkv, const float* U, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h;
    plain_load((float*)shared, qkv + ((size_t)b * d.N + first) * ld + h * d.D, ld, count, d.D);
    __syncthreads();
    karat_rank_dots(z + (bh * d.NQ + first) * d.R, 1 / sqrtf(d.D), (float*)shared, U + bh * (d.R + 1) * d.D, count, d);
}

// The forward lines: U = W^T K; z = Q U^T / sqrt(D). dQ and dK of a tile of rows, and dW (H,slots,N,R+1), without its
// last column, over the samples of a slot. dU: without its factor 1 / sqrt(D). Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_reduced_z_backward_kernel(T* dqkv, float* dW, const float* dz, const T* qkv, const float* U, const float* dU,
                                const float* W, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z;
    int count = min(PLAIN_ROWS, d.N - first), queries = min(PLAIN_ROWS, d.NQ - first); // none: not positive
    size_t ld = 3 * (size_t)d.C;
    float *keys = (float*)shared, scale = 1 / sqrtf(d.D);
    dW += (((size_t)h * slots + slot) * d.N + first) * (d.R + 1);
    W += ((size_t)h * d.N + first) * d.R;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at = ((size_t)b * d.N + first) * ld + h * d.D, bh = (size_t)b * d.H + h;
        __syncthreads();
        plain_load(keys, qkv + at + d.C, ld, count, d.D);
        __syncthreads();
        karat_rank_rows(dqkv + at, ld, scale, dz + (bh * d.NQ + first) * d.R, U + bh * (d.R + 1) * d.D, queries, d);
        karat_rank_backward(dqkv + at + d.C, ld, dW, scale, keys, W, nullptr,
                            dU + bh * (d.R + 1) * d.D, count, b == karat_slot_start(d, slot, slots), d);
    }
}

// ---- Launches. Workspace: U, dU (B,H,R+1,D); W (H,N,R), beta (N) or NULL

template <class T>
static void karat_rank_sums(float* sums, KaratFactor factor, KaratMatrix<T> matrix, KaratDims d, cudaStream_t stream) {
    launch_early(karat_rank_sums_kernel<T>, dim3(d.H, d.B), BLOCK, 0, stream, sums, factor, matrix, d);
}

// Queries, keys or values, where in qkv part points to the first
template <class T> static KaratMatrix<T> karat_of_qkv(const T* part, KaratDims d) {
    return {part, 3 * (size_t)d.C, 3 * (size_t)d.N * d.C};
}

template <class T>
static void karat_rank_out(T* out, float* U, const float* z, const T* qkv, const float* W, const float* beta,
                           KaratDims d, cudaStream_t stream) {
    karat_rank_sums(U, {W, d.N, false, beta, 0}, karat_of_qkv(qkv + 2 * d.C, d), d, stream);
    launch_early(karat_rank_out_kernel<T>, dim3(plain_tiles(d.NQ), d.H, d.B), PLAIN_THREADS, 0, stream, out, z, U, d);
}

template <class T>
static void karat_rank_out_backward(T* dqkv, float* dz, float* dW, float* U, float* dU, const T* dout, const float* z,
                                    const T* qkv, const float* W, const float* beta, KaratDims d, cudaStream_t stream) {
    size_t shared = 2 * PLAIN_ROWS * (size_t)d.D * sizeof(float);
    dim3 by_slot(plain_tiles(d.N), d.H, karat_slots(d));
    KaratMatrix<T> dout_rows = {dout, (size_t)d.C, (size_t)d.NQ * d.C};
    karat_rank_sums(U, {W, d.N, false, beta, 0}, karat_of_qkv(qkv + 2 * d.C, d), d, stream);
    karat_rank_sums(dU, {z, d.NQ, true, NULL, 1}, dout_rows, d, stream);
    allow_shared(karat_value_backward_kernel<T>, shared);
    launch_early(karat_value_backward_kernel<T>, by_slot, PLAIN_THREADS, shared, stream, dqkv, dz, dW, dout, qkv, U, dU,
                 W, beta, d);
}

template <class T>
static void karat_reduced_z(float* z, float* U, const T* qkv, const float* W, KaratDims d, cudaStream_t stream) {
    size_t shared = PLAIN_ROWS * (size_t)d.D * sizeof(float);
    karat_rank_sums(U, {W, d.N, false, NULL, 0}, karat_of_qkv(qkv + d.C, d), d, stream);
    allow_shared(karat_reduced_z_kernel<T>, shared);
    dim3 by_sample(plain_tiles(d.NQ), d.H, d.B);
    launch_early(karat_reduced_z_kernel<T>, by_sample, PLAIN_THREADS, shared, stream, z, qkv, U, d);
}

template <class T>
static void karat_reduced_z_backward(T* dqkv, float* dW, float* U, float* dU, const float* dz, const T* qkv,
                                     const float* W, KaratDims d, cudaStream_t stream) {
    size_t shared = PLAIN_ROWS * (size_t)d.D * sizeof(float);
    karat_rank_sums(U, {W, d.N, false, NULL, 0}, karat_of_qkv(qkv + d.C, d), d, stream);
    karat_rank_sums(dU, {dz, d.NQ, true, NULL, 0}, karat_of_qkv(qkv, d), d, stream);
    allow_shared(karat_reduced_z_backward_kernel<T>, shared);
    dim3 by_slot(plain_tiles(d.N), d.H, karat_slots(d));
    launch_early(karat_reduced_z_backward_kernel<T>, by_slot, PLAIN_THREADS, shared, stream, dqkv, dW, dz, qkv, U, dU,
                 W, d);
}
