// Kolmogorov-Arnold attention (karat.cuh), from logits to z and back, in its plain form: any basis, rank and size, fp32
// arithmetic, either storage. Blocks of PLAIN_THREADS have a tile of PLAIN_ROWS rows of logits in shared memory
// (plain_tiles.cuh). The forward and dQ take tiles of rows k; dK and the gradient of the coefficients take tiles of
// A^T, rows q, over the samples of one slot. Features of PLAIN_THREADS logits at a time, one a thread, lie in
// shared memory.
//     coefs (H,N,F,R): F features of every q, or the folded parameters of its units (karat_units.cuh)
#pragma once
#include "karat_units.cuh"
#include "plain_tiles.cuh"

// Blocks of the backward at once on a multiprocessor: of 13 tiles of 16 rows, or several that come to that
static inline int karat_resident(KaratDims d) {
    int resident = 13 / ((d.N + 15) / 16);
    return resident > 1 ? resident : 1;
}

// The slots that gradients of the operator are summed in: as many as the device has room for at once. Like sums of
// partials.cuh, gradients have the same bits in every run on one device; on one of other size they are added in another
// order.
static inline int karat_slots(KaratDims d) {
    int slots = multiprocessors() * karat_resident(d) / d.H;
    return d.B < slots ? d.B : slots > 1 ? slots : 1;
}
__device__ inline int karat_slot_start(KaratDims d, int slot, int slots) { return (int)((int64_t)slot * d.B / slots); }

// To one of a slot's sums, which its first sample begins
__device__ inline void karat_slot_add(float* sum, float x, bool begins) { *sum = begins ? x : *sum + x; }

__device__ inline BasisValue karat_base(float x, KaratBase base) {
    if (base == KARAT_BASE_IDENTITY) { return {x, 1}; }
    float s = base == KARAT_BASE_SILU ? 1 / (1 + basis_exp(-x)) : normcdff(x);
    float slope = base == KARAT_BASE_SILU ? x * s * (1 - s) : 0.39894228f * x * basis_exp(-0.5f * x * x);
    return {x * s, s + slope};
}

// Floats of one thread's features, or slopes; odd, so that threads are in different banks
__host__ __device__ inline int karat_feature_stride(KaratDims d) {
    return basis_is_linear(d.basis) ? karat_features_count(d) | 1 : 0;
}

// All F features of one logit
__device__ inline void karat_features(float* e, float x, KaratDims d) {
    basis_features(e, &x, 1, karat_basis(d));
    if (d.base != KARAT_BASE_ZERO) { e[karat_coefficients(d)] = karat_base(x, d.base).value; }
}

// The gradient of one logit, sum_p phi'_p(x) dz_p. In a linear basis e and slopes are left as the features of x.
__device__ inline float karat_logit_backward(float* e, float* slopes, float x, const float* coefs, const float* dz,
                                             KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d);
    float base_slope = d.base != KARAT_BASE_ZERO ? karat_base(x, d.base).slope : 0, dx = 0;
    if (!basis_is_linear(d.basis)) {
        for (int p = 0; p < d.R; p++) {
            float slope = karat_units_phi(x, coefs + p, d.R, d).slope;
            dx += dz[p] * (F > M ? slope + base_slope * coefs[M * d.R + p] : slope);
        }
        return dx;
    }
    karat_features(e, x, d);
    basis_slopes(slopes, e, &x, 1, karat_basis(d));
    if (F > M) { slopes[M] = base_slope; }
    for (int m = 0; m < F; m++) {
        float sum = 0;
        for (int p = 0; p < d.R; p++) { sum += dz[p] * coefs[m * d.R + p]; }
        dx += slopes[m] * sum;
    }
    return dx;
}

// ---- Forward

// Which rows of a tile and columns meet: all, or as karat_window.cuh has it. Features of the others are 0.
struct KaratAllMeet {
    __device__ bool operator()(int, int) const { return true; }
};

__device__ inline float karat_no_features(float* e, KaratDims d) {
    for (int m = 0; m < karat_features_count(d); m++) { e[m] = 0; }
    return 0;
}

// z (PLAIN_ROWS, R) of rows of logits x: PLAIN_THREADS features at a time, then a thread for each z
template <class Meet>
__device__ inline void karat_plain_linear(float* z, float* features, const float* x, const float* coefs, KaratDims d,
                                          Meet meet) {
    constexpr int COLUMNS = PLAIN_THREADS / PLAIN_ROWS;
    int F = karat_features_count(d), stride = karat_feature_stride(d), row = threadIdx.x / COLUMNS;
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.R; i += PLAIN_THREADS) { z[i] = 0; }
    for (int q0 = 0; q0 < d.N; q0 += COLUMNS) {
        int q = q0 + threadIdx.x % COLUMNS;
        if (q < d.N) {
            float* e = features + threadIdx.x * stride;
            karat_features(e, x[row * d.N + q], d);
            if (!meet(row, q)) { karat_no_features(e, d); }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < PLAIN_ROWS * d.R; i += PLAIN_THREADS) {
            const float *e = features + i / d.R * COLUMNS * stride, *c = coefs + (size_t)q0 * F * d.R + i % d.R;
            float sum = 0;
            for (int j = 0; j < min(COLUMNS, d.N - q0); j++) {
                for (int m = 0; m < F; m++) { sum += e[j * stride + m] * c[(j * F + m) * d.R]; }
            }
            z[i] += sum;
        }
        __syncthreads();
    }
}

__device__ inline void karat_plain_units(float* z, const float* x, const float* coefs, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d);
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.R; i += PLAIN_THREADS) {
        float sum = 0;
        for (int q = 0; q < d.N; q++) {
            const float* theta = coefs + (size_t)q * F * d.R + i % d.R;
            float value = x[i / d.R * d.N + q];
            sum += karat_units_phi(value, theta, d.R, d).value;
            if (F > M) { sum += theta[M * d.R] * karat_base(value, d.base).value; }
        }
        z[i] = sum;
    }
}

static inline size_t karat_forward_plain_shared(KaratDims d) {
    return (PLAIN_ROWS * (size_t)(d.D + d.N + d.R) + PLAIN_THREADS * karat_feature_stride(d)) * sizeof(float);
}

// z of a tile of rows. Blocks (tile, head, sample).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_forward_plain(float* z, const T* qkv, const float* coefs, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C;
    const T* q = qkv + b * d.N * ld + h * d.D;
    float *queries = (float*)shared, *x = queries + PLAIN_ROWS * d.D, *tile_z = x + PLAIN_ROWS * d.N;
    float* features = tile_z + PLAIN_ROWS * d.R;
    plain_load(queries, q + first * ld, ld, count, d.D);
    __syncthreads();
    plain_dots(x, 1 / sqrtf(d.D), queries, q + d.C, ld, d.N, d.D);
    __syncthreads();
    coefs += (size_t)h * d.N * karat_features_count(d) * d.R;
    if (basis_is_linear(d.basis)) {
        karat_plain_linear(tile_z, features, x, coefs, d, KaratAllMeet());
    } else {
        karat_plain_units(tile_z, x, coefs, d);
    }
    __syncthreads();
    z += (((size_t)b * d.H + h) * d.NQ + first) * d.R;
    for (int i = threadIdx.x; i < count * d.R; i += PLAIN_THREADS) { z[i] = tile_z[i]; }
}

// ---- Backward. The forward lines: A = Q K^T / sqrt(D); z = features(A) coefs

static inline size_t karat_backward_plain_shared(KaratDims d) {
    return (PLAIN_ROWS * (size_t)(d.D + d.N) + 2 * PLAIN_THREADS * karat_feature_stride(d)) * sizeof(float);
}

// dQ of a tile of rows. Blocks (tile, head, sample). dz (B,H,NQ,R)
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_backward_query_plain(T* dqkv, const float* dz, const T* qkv, const float* coefs, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    int F = karat_features_count(d), stride = karat_feature_stride(d);
    size_t ld = 3 * (size_t)d.C, at = b * d.N * ld + h * d.D;
    const T* q = qkv + at;
    float *queries = (float*)shared, *x = queries + PLAIN_ROWS * d.D, *features = x + PLAIN_ROWS * d.N;
    float *e = features + threadIdx.x * stride, *slopes = e + PLAIN_THREADS * stride, scale = 1 / sqrtf(d.D);
    plain_load(queries, q + first * ld, ld, count, d.D);
    __syncthreads();
    plain_dots(x, scale, queries, q + d.C, ld, d.N, d.D);
    __syncthreads();
    dz += (((size_t)b * d.H + h) * d.NQ + first) * d.R;
    coefs += (size_t)h * d.N * F * d.R;
    for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) {
        x[i] = karat_logit_backward(e, slopes, x[i], coefs + (size_t)(i % d.N) * F * d.R, dz + i / d.N * d.R, d);
    }
    __syncthreads();
    plain_sums(dqkv + at + first * ld, ld, scale, x, q + d.C, ld, d.N, count, d.D);
}

// One row q of logits x (NQ) to their gradients, and what they add to dcoefs (F,R). All threads come here.
template <class Meet>
__device__ inline void karat_plain_linear_row_backward(float* dcoefs, float* x, float* features, const float* coefs,
                                                       const float* dz, bool begins, KaratDims d, Meet meet) {
    int F = karat_features_count(d), stride = karat_feature_stride(d);
    float *e = features + threadIdx.x * stride, *slopes = e + PLAIN_THREADS * stride;
    for (int k0 = 0; k0 < d.NQ; k0 += PLAIN_THREADS) {
        int k = k0 + threadIdx.x;
        if (k < d.NQ) {
            x[k] = karat_logit_backward(e, slopes, x[k], coefs, dz + (size_t)k * d.R, d);
            if (!meet(0, k)) { x[k] = karat_no_features(e, d); }
        }
        __syncthreads();
        for (int i = threadIdx.x; i < F * d.R; i += PLAIN_THREADS) {
            float sum = 0;
            for (int j = 0; j < min(PLAIN_THREADS, d.NQ - k0); j++) {
                sum += features[j * stride + i / d.R] * dz[(size_t)(k0 + j) * d.R + i % d.R];
            }
            karat_slot_add(dcoefs + i, sum, begins && k0 == 0);
        }
        __syncthreads();
    }
}

// What a tile of rows q adds to the gradients of the parameters of the units (q,p), a thread each
__device__ inline void karat_plain_units_gradient(float* dcoefs, const float* x, const float* coefs, const float* dz,
                                                  int count, bool begins, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d);
    for (int i = threadIdx.x; i < count * d.R; i += PLAIN_THREADS) {
        int r = i / d.R, p = i % d.R;
        size_t unit = (size_t)r * F * d.R + p;
        float sum[KARAT_UNIT_PARAMETERS] = {}, base_sum = 0;
        for (int k = 0; k < d.NQ; k++) {
            float value = x[r * d.NQ + k], dphi = dz[(size_t)k * d.R + p];
            karat_units_gradient(sum, dphi, value, coefs + unit, d.R, d);
            if (F > M) { base_sum += dphi * karat_base(value, d.base).value; }
        }
        #pragma unroll
        for (int m = 0; m < KARAT_UNIT_PARAMETERS; m++) {
            if (m < M) { karat_slot_add(dcoefs + unit + m * d.R, sum[m], begins); }
        }
        if (F > M) { karat_slot_add(dcoefs + unit + M * d.R, base_sum, begins); }
    }
}

// What the two kernels of dK share: logits of a tile of rows q of A^T into x, the keys' tile in front of it
template <class T>
__device__ inline void karat_plain_key_logits(float* x, float* keys, const T* q, int first, int count, KaratDims d) {
    size_t ld = 3 * (size_t)d.C;
    __syncthreads();
    plain_load(keys, q + d.C + first * ld, ld, count, d.D);
    __syncthreads();
    plain_dots(x, 1 / sqrtf(d.D), keys, q, ld, d.NQ, d.D);
    __syncthreads();
}

// dK of a tile of rows q of A^T, and the gradient of coefs over the samples of a slot, dcoefs (H,slots,N,F,R). Blocks
// (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 4)
karat_backward_key_linear(T* dqkv, float* dcoefs, const float* dz, const T* qkv, const float* coefs, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z;
    int count = min(PLAIN_ROWS, d.N - first), row_coefs = karat_features_count(d) * d.R;
    size_t ld = 3 * (size_t)d.C;
    float *keys = (float*)shared, *x = keys + PLAIN_ROWS * d.D, *features = x + PLAIN_ROWS * d.N;
    coefs += ((size_t)h * d.N + first) * row_coefs;
    dcoefs += (((size_t)h * slots + slot) * d.N + first) * row_coefs;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at = b * d.N * ld + h * d.D;
        const float* sample_dz = dz + ((size_t)b * d.H + h) * d.NQ * d.R;
        bool begins = b == karat_slot_start(d, slot, slots);
        karat_plain_key_logits(x, keys, qkv + at, first, count, d);
        for (int r = 0; r < count; r++) {
            karat_plain_linear_row_backward(dcoefs + r * row_coefs, x + r * d.NQ, features, coefs + r * row_coefs,
                                            sample_dz, begins, d, KaratAllMeet());
        }
        plain_sums(dqkv + at + d.C + first * ld, ld, 1 / sqrtf(d.D), x, qkv + at, ld, d.NQ, count, d.D);
    }
}

template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 4)
karat_backward_key_units(T* dqkv, float* dcoefs, const float* dz, const T* qkv, const float* coefs, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z;
    int count = min(PLAIN_ROWS, d.N - first), row_coefs = karat_features_count(d) * d.R;
    size_t ld = 3 * (size_t)d.C;
    float *keys = (float*)shared, *x = keys + PLAIN_ROWS * d.D;
    coefs += ((size_t)h * d.N + first) * row_coefs;
    dcoefs += (((size_t)h * slots + slot) * d.N + first) * row_coefs;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at = b * d.N * ld + h * d.D;
        const float* sample_dz = dz + ((size_t)b * d.H + h) * d.NQ * d.R;
        karat_plain_key_logits(x, keys, qkv + at, first, count, d);
        karat_plain_units_gradient(dcoefs, x, coefs, sample_dz, count, b == karat_slot_start(d, slot, slots), d);
        __syncthreads();
        for (int i = threadIdx.x; i < PLAIN_ROWS * d.NQ; i += PLAIN_THREADS) {
            const float* theta = coefs + (size_t)min(i / d.NQ, count - 1) * row_coefs; // rows beyond are not stored
            x[i] = karat_logit_backward(nullptr, nullptr, x[i], theta, sample_dz + (size_t)(i % d.NQ) * d.R, d);
        }
        __syncthreads();
        plain_sums(dqkv + at + d.C + first * ld, ld, 1 / sqrtf(d.D), x, qkv + at, ld, d.NQ, count, d.D);
    }
}
