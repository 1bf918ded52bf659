// Kolmogorov-Arnold attention (karat.cuh) where the weights sigma are formed (kernels/karat_sigma.h): the operator
// orders Phi(W A) and Phi Phi(A), full rank, and projections; fp32 arithmetic, either storage. With z (N,R) of a sample
// and head,
//     sigma_kn = sum_p W_np z_kp,  or z_kn (full rank),  or sum_p phi_pn(z_kp) (an outer operator)
//     P_k = projection of (sigma_k + beta)          out_k = sum_n P_kn V_n
//     dV_n = sum_k P_kn dout_k      dP_kn = dout_k V_n     dsigma from dP and P (simplex.cuh)
//     dbeta_n += sum_k dsigma_kn    dW_np += sum_k dsigma_kn z_kp
//     dz_kp = sum_n dsigma_kn W_np, or dsigma_kp, or sum_n dsigma_kn phi'_pn(z_kp)
//
// Blocks of PLAIN_THREADS have a tile of PLAIN_ROWS rows k of sigma in shared memory, for out and dz, or PLAIN_ROWS
// columns n of it, for dV, dW, dbeta and the outer operator's gradient, over the samples of one slot. Both calculate
// sigma again from z, in the same order of sums, and nothing of size N x N leaves a block; of a projected row its
// SimplexRow goes from the blocks of rows to those of columns.
//     z, dz (B,H,NQ,R)     rows (B,H,NQ)     outer (H,R,F,N): folded, F coefficients of each unit (p,n)
// Bytes: a tile of rows reads its rows of z, and from the cache V of the head and R F N coefficients; one of columns
// its coefficients once, and of every sample z and dout.
#pragma once
#include "karat_plain.cuh"
#include "simplex.cuh"

// What stands behind z, of all heads: outer in the form above, or W (H,N,R), or neither; beta (N) or NULL
__device__ inline KaratHead karat_head(KaratHead all, int h, KaratDims d) {
    size_t weights = (size_t)h * d.N * d.R;
    if (karat_has_outer(d)) {
        all.outer += weights * karat_features_count(d);
    } else if (!d.full_rank) {
        all.W += weights;
    }
    return all;
}

__host__ __device__ inline int karat_ranks(KaratDims d) { return karat_has_weight(d) ? d.R : 0; } // columns of W

// ---- Shared memory

typedef struct {
    float *x, *dx;   // sigma, then P, and dP, then dsigma: (PLAIN_ROWS,N) of rows, or (PLAIN_ROWS,NQ) of columns
    float *tile;     // dout of rows, or V of columns (PLAIN_ROWS,D)
    float *z;        // of rows (PLAIN_ROWS,R)
    float *e;        // their features (PLAIN_ROWS,R,stride), and gradients of these (PLAIN_ROWS,R,F)
    float *behind;   // in the place of z and e: the columns of W (PLAIN_ROWS,R) or of outer (R,F,PLAIN_ROWS)
    float *features; // of one z a thread (PLAIN_THREADS,stride), and slopes
} KaratSigmaShared;

// Cuts what a block of the forward, or the backward, has from base (NULL: only counts); returns its size in floats
__host__ __device__ inline size_t karat_sigma_cut(KaratSigmaShared* s, float* base, bool backward, KaratDims d) {
    size_t row = PLAIN_ROWS * (size_t)d.N, z = d.full_rank ? 0 : PLAIN_ROWS * (size_t)d.R;
    size_t own = backward && karat_has_outer(d) ? 2 * PLAIN_THREADS * karat_feature_stride(d) : 0;
    s->x = base;
    s->z = s->behind = s->x + row;
    s->e = s->z + z;
    s->features = s->e + (karat_has_outer(d) ? z * (karat_features_count(d) | 1) : 0);
    s->dx = s->features + own;
    s->tile = s->dx + (backward ? row : 0);
    return s->tile + (backward ? PLAIN_ROWS * d.D : 0) - base;
}

static inline size_t karat_sigma_shared(bool backward, KaratDims d) { // in bytes
    KaratSigmaShared unused;
    return karat_sigma_cut(&unused, NULL, backward, d) * sizeof(float);
}

// ---- Outer operators: a tile of rows k

// x (PLAIN_ROWS,N) = features(z) coefs
__device__ inline void karat_outer_linear(KaratSigmaShared s, const float* coefs, KaratDims d) {
    int F = karat_features_count(d), stride = karat_feature_stride(d);
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.R; i += PLAIN_THREADS) {
        karat_features(s.e + i * stride, s.z[i], d);
    }
    __syncthreads();
    for (int n = threadIdx.x; n < d.N; n += PLAIN_THREADS) {
        float sum[PLAIN_ROWS] = {};
        for (int j = 0; j < d.R * F; j++) {
            const float* e = s.e + j / F * stride + j % F;
            float c = coefs[(size_t)j * d.N + n];
            #pragma unroll
            for (int r = 0; r < PLAIN_ROWS; r++) { sum[r] += e[r * d.R * stride] * c; }
        }
        #pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) { s.x[r * d.N + n] = sum[r]; }
    }
}

// phi_pn(z) summed over p: theta of (p,n) is R steps of F apart
__device__ inline float karat_outer_units_sum(const float* z, const float* theta, int step, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d);
    float sum = 0;
    for (int p = 0; p < d.R; p++, theta += (size_t)F * step) {
        sum += karat_units_phi(z[p], theta, step, d).value;
        if (F > M) { sum += theta[M * step] * karat_base(z[p], d.base).value; }
    }
    return sum;
}

__device__ inline void karat_outer_units(KaratSigmaShared s, const float* coefs, KaratDims d) {
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) {
        s.x[i] = karat_outer_units_sum(s.z + i / d.N * d.R, coefs + i % d.N, d.N, d);
    }
}

// dz (count,R) from dsigma (PLAIN_ROWS,N): first the gradients of the features, a warp for each of a row's
__device__ inline void karat_outer_linear_dz(float* dz, KaratSigmaShared s, const float* z, const float* coefs,
                                             int count, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d), stride = karat_feature_stride(d);
    int lane = threadIdx.x % WARP;
    for (int j = threadIdx.x / WARP; j < d.R * F; j += PLAIN_THREADS / WARP) {
        float sum[PLAIN_ROWS] = {};
        for (int n = lane; n < d.N; n += WARP) {
            float c = coefs[(size_t)j * d.N + n];
            #pragma unroll
            for (int r = 0; r < PLAIN_ROWS; r++) { sum[r] += s.dx[r * d.N + n] * c; }
        }
        #pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) {
            sum[r] = warp_sum(sum[r]);
            if (lane == 0) { s.e[r * d.R * F + j] = sum[r]; }
        }
    }
    __syncthreads();
    float *e = s.features + threadIdx.x * stride, *slopes = e + PLAIN_THREADS * stride;
    for (int i = threadIdx.x; i < count * d.R; i += PLAIN_THREADS) {
        float sum = 0;
        karat_features(e, z[i], d);
        basis_slopes(slopes, e, &z[i], 1, karat_basis(d));
        if (F > M) { slopes[M] = karat_base(z[i], d.base).slope; }
        for (int m = 0; m < F; m++) { sum += slopes[m] * s.e[i * F + m]; }
        dz[i] = sum;
    }
}

// A warp for each z
__device__ inline void karat_outer_units_dz(float* dz, KaratSigmaShared s, const float* z, const float* coefs,
                                            int count, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d), lane = threadIdx.x % WARP;
    for (int i = threadIdx.x / WARP; i < count * d.R; i += PLAIN_THREADS / WARP) {
        const float *dsigma = s.dx + i / d.R * d.N, *theta = coefs + (size_t)(i % d.R) * F * d.N;
        float base_slope = F > M ? karat_base(z[i], d.base).slope : 0, sum = 0;
        for (int n = lane; n < d.N; n += WARP) {
            float slope = karat_units_phi(z[i], theta + n, d.N, d).slope;
            if (F > M) { slope += base_slope * theta[M * d.N + n]; }
            sum += dsigma[n] * slope;
        }
        sum = warp_sum(sum);
        if (lane == 0) { dz[i] = sum; }
    }
}

// ---- Outer operators: a tile of columns n, whose coefficients are in s.behind

// x (PLAIN_ROWS,NQ) of columns n = features(z) coefs: a thread has all columns of a row k
__device__ inline void karat_outer_linear_columns(KaratSigmaShared s, const float* z, KaratDims d) {
    int F = karat_features_count(d);
    float* e = s.features + threadIdx.x * karat_feature_stride(d);
    for (int k = threadIdx.x; k < d.NQ; k += PLAIN_THREADS) {
        float sum[PLAIN_ROWS] = {};
        for (int p = 0; p < d.R; p++) {
            karat_features(e, z[(size_t)k * d.R + p], d);
            for (int m = 0; m < F; m++) {
                const float* c = s.behind + (p * F + m) * PLAIN_ROWS;
                #pragma unroll
                for (int r = 0; r < PLAIN_ROWS; r++) { sum[r] += e[m] * c[r]; }
            }
        }
        #pragma unroll
        for (int r = 0; r < PLAIN_ROWS; r++) { s.x[r * d.NQ + k] = sum[r]; }
    }
}

__device__ inline void karat_outer_units_columns(KaratSigmaShared s, const float* z, KaratDims d) {
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.NQ; i += PLAIN_THREADS) {
        s.x[i] = karat_outer_units_sum(z + (size_t)(i % d.NQ) * d.R, s.behind + i / d.NQ, PLAIN_ROWS, d);
    }
}

// To dcoefs (R,F,count), rows N apart, features(z)^T dsigma: features of PLAIN_THREADS rows k at a time
__device__ inline void karat_outer_linear_gradient(float* dcoefs, KaratSigmaShared s, const float* z, int count,
                                                   bool begins, KaratDims d) {
    int F = karat_features_count(d), stride = karat_feature_stride(d);
    for (int p = 0; p < d.R; p++, dcoefs += (size_t)F * d.N) {
        for (int k0 = 0; k0 < d.NQ; k0 += PLAIN_THREADS) {
            int k = k0 + threadIdx.x, rows = min(PLAIN_THREADS, d.NQ - k0);
            if (k < d.NQ) { karat_features(s.features + threadIdx.x * stride, z[(size_t)k * d.R + p], d); }
            __syncthreads();
            for (int i = threadIdx.x; i < F * PLAIN_ROWS; i += PLAIN_THREADS) {
                int m = i / PLAIN_ROWS, r = i % PLAIN_ROWS;
                const float* dsigma = s.dx + r * d.NQ + k0;
                float sum = 0;
                for (int j = 0; j < rows; j++) { sum += s.features[j * stride + m] * dsigma[j]; }
                if (r < count) { karat_slot_add(dcoefs + (size_t)m * d.N + r, sum, begins && k0 == 0); }
            }
            __syncthreads();
        }
    }
}

// A thread for each unit (p,n)
__device__ inline void karat_outer_units_gradient(float* dcoefs, KaratSigmaShared s, const float* z, int count,
                                                  bool begins, KaratDims d) {
    int M = karat_coefficients(d), F = karat_features_count(d);
    for (int i = threadIdx.x; i < d.R * PLAIN_ROWS; i += PLAIN_THREADS) {
        int p = i / PLAIN_ROWS, r = i % PLAIN_ROWS;
        const float *theta = s.behind + p * F * PLAIN_ROWS + r, *dsigma = s.dx + r * d.NQ;
        float sum[KARAT_UNIT_PARAMETERS] = {}, base_sum = 0;
        if (r >= count) { continue; }
        for (int k = 0; k < d.NQ; k++) {
            float value = z[(size_t)k * d.R + p];
            karat_units_gradient(sum, dsigma[k], value, theta, PLAIN_ROWS, d);
            if (F > M) { base_sum += dsigma[k] * karat_base(value, d.base).value; }
        }
        float* unit = dcoefs + (size_t)p * F * d.N + r;
        #pragma unroll
        for (int m = 0; m < KARAT_UNIT_PARAMETERS; m++) {
            if (m < M) { karat_slot_add(unit + (size_t)m * d.N, sum[m], begins); }
        }
        if (F > M) { karat_slot_add(unit + (size_t)M * d.N, base_sum, begins); }
    }
}

// ---- The weights of a tile

// s.x = sigma + beta of count rows, whose z (count,R) is given
__device__ inline void karat_sigma_rows(KaratSigmaShared s, const float* z, KaratHead head, int count, KaratDims d) {
    if (d.full_rank) {
        plain_load(s.x, z, d.R, count, d.N);
    } else {
        plain_load(s.z, z, d.R, count, d.R);
        __syncthreads();
        if (!karat_has_outer(d)) {
            plain_dots(s.x, 1, s.z, head.W, d.R, d.N, d.R);
        } else if (basis_is_linear(d.basis)) {
            karat_outer_linear(s, head.outer, d);
        } else {
            karat_outer_units(s, head.outer, d);
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; head.beta && i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) { s.x[i] += head.beta[i % d.N]; }
    __syncthreads();
}

// s.x = sigma of count columns from first on; z (NQ,R)
__device__ inline void karat_sigma_columns(KaratSigmaShared s, const float* z, int first, int count, KaratDims d) {
    if (d.full_rank) {
        for (int i = threadIdx.x; i < PLAIN_ROWS * d.NQ; i += PLAIN_THREADS) {
            int r = i % PLAIN_ROWS, k = i / PLAIN_ROWS;
            s.x[r * d.NQ + k] = r < count ? z[(size_t)k * d.R + first + r] : 0;
        }
    } else if (!karat_has_outer(d)) {
        plain_dots(s.x, 1, s.behind, z, d.R, d.NQ, d.R);
    } else if (basis_is_linear(d.basis)) {
        karat_outer_linear_columns(s, z, d);
    } else {
        karat_outer_units_columns(s, z, d);
    }
}

// ---- Forward. Blocks (tile of rows, head, sample)

template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 8)
karat_sigma_out_kernel(T* out, const float* z, const T* qkv, KaratHead heads, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, bh = (size_t)b * d.H + h;
    KaratSigmaShared s;
    karat_sigma_cut(&s, (float*)shared, false, d);
    karat_sigma_rows(s, z + (bh * d.NQ + first) * d.R, karat_head(heads, h, d), count, d);
    for (int r = threadIdx.x / WARP; karat_projects_sigma(d) && r < count; r += PLAIN_THREADS / WARP) {
        float* x = s.x + r * d.N;
        SimplexRow row = simplex_row(x, d.projection, d.N);
        for (int n = threadIdx.x % WARP; n < d.N; n += WARP) { x[n] = simplex_value(x[n], row, d.projection); }
    }
    __syncthreads();
    const T* v = qkv + b * d.N * ld + 2 * d.C + h * d.D;
    plain_sums(out + ((size_t)b * d.NQ + first) * d.C + h * d.D, d.C, 1, s.x, v, ld, d.N, count, d.D);
}

// ---- Backward

// Rows of dP to dsigma, and what is known of each, by a warp; those of sigma become P
__device__ inline void karat_project_rows_backward(SimplexRow* rows, KaratSigmaShared s, int count, KaratDims d) {
    int lane = threadIdx.x % WARP;
    for (int r = threadIdx.x / WARP; r < count; r += PLAIN_THREADS / WARP) {
        float *x = s.x + r * d.N, *dx = s.dx + r * d.N;
        SimplexRow row = simplex_row(x, d.projection, d.N);
        for (int n = lane; n < d.N; n += WARP) { x[n] = simplex_value(x[n], row, d.projection); }
        if (!row.same) { row.mean = simplex_mean(dx, x, d.N); }
        for (int n = lane; n < d.N; n += WARP) { dx[n] = simplex_slope(dx[n], x[n], row); }
        if (lane == 0) { rows[r] = row; }
    }
}

// The forward lines: sigma = W z, or z, or outer(z); P; out = P V. dz of a tile of rows. Blocks (tile, head, sample).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 8)
karat_sigma_rows_backward(float* dz, SimplexRow* rows, const T* dout, const float* z, const T* qkv, KaratHead heads,
                          KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, b = blockIdx.z, count = min(PLAIN_ROWS, d.NQ - first);
    size_t ld = 3 * (size_t)d.C, row = ((size_t)b * d.H + h) * d.NQ + first;
    KaratHead head = karat_head(heads, h, d);
    KaratSigmaShared s;
    karat_sigma_cut(&s, (float*)shared, true, d);
    z += row * d.R, dz += row * d.R;
    plain_load(s.tile, dout + ((size_t)b * d.NQ + first) * d.C + h * d.D, d.C, count, d.D);
    __syncthreads();
    plain_dots(s.dx, 1, s.tile, qkv + b * d.N * ld + 2 * d.C + h * d.D, ld, d.N, d.D);
    if (karat_projects_sigma(d)) {
        karat_sigma_rows(s, z, head, count, d);
        karat_project_rows_backward(rows + row, s, count, d);
    }
    __syncthreads();
    if (d.full_rank) {
        for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) { dz[i] = s.dx[i]; }
    } else if (!karat_has_outer(d)) {
        plain_sums(dz, d.R, 1, s.dx, head.W, d.R, d.N, count, d.R);
    } else if (basis_is_linear(d.basis)) {
        karat_outer_linear_dz(dz, s, z, head.outer, count, d);
    } else {
        karat_outer_units_dz(dz, s, z, head.outer, count, d);
    }
}

// Columns of dP to dsigma, those of sigma to P, with beta
__device__ inline void karat_project_columns_backward(KaratSigmaShared s, const SimplexRow* rows, const float* beta,
                                                      int count, KaratDims d) {
    for (int i = threadIdx.x; i < count * d.NQ; i += PLAIN_THREADS) {
        float sigma = beta ? s.x[i] + beta[i / d.NQ] : s.x[i];
        s.x[i] = sigma;
        if (karat_projects_sigma(d)) {
            SimplexRow row = rows[i % d.NQ];
            s.x[i] = simplex_value(sigma, row, d.projection);
            s.dx[i] = simplex_slope(s.dx[i], s.x[i], row);
        }
    }
}

// What stands behind z, of a tile of columns, to s.behind
__device__ inline void karat_load_behind(KaratSigmaShared s, KaratHead head, int first, int count, KaratDims d) {
    if (karat_has_outer(d)) {
        for (int i = threadIdx.x; i < d.R * karat_features_count(d) * PLAIN_ROWS; i += PLAIN_THREADS) {
            int r = i % PLAIN_ROWS;
            s.behind[i] = r < count ? head.outer[(size_t)(i / PLAIN_ROWS) * d.N + first + r] : 0;
        }
    } else if (!d.full_rank) {
        plain_load(s.behind, head.W + (size_t)first * d.R, d.R, count, d.R);
    }
}

// To dW (count, ranks + 1), its last column dbeta, sum_k dsigma_kn z_kp
__device__ inline void karat_sigma_weights_backward(float* dW, KaratSigmaShared s, const float* z, int count,
                                                    bool begins, KaratDims d) {
    int columns = karat_ranks(d) + 1, skipped = karat_has_outer(d) ? columns - 1 : 0; // W is in front of z
    for (int i = threadIdx.x; i < count * columns; i += PLAIN_THREADS) {
        int r = i / columns, p = i % columns;
        float sum = 0;
        if (p < skipped) { continue; }
        for (int k = 0; k < d.NQ; k++) { sum += s.dx[r * d.NQ + k] * (p == columns - 1 ? 1 : z[(size_t)k * d.R + p]); }
        karat_slot_add(dW + i, sum, begins);
    }
}

// The same forward lines: dV of a tile of columns, and over the samples of a slot dW (H,slots,N,ranks+1), where there
// is an outer operator its last column alone, and the gradient of outer (H,slots,R,F,N). Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 3)
karat_sigma_columns_backward(T* dqkv, float* douter, float* dW, const SimplexRow* rows, const T* dout, const float* z,
                             const T* qkv, KaratHead heads, KaratDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z;
    int count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C, head_slot = (size_t)h * slots + slot;
    KaratHead head = karat_head(heads, h, d);
    KaratSigmaShared s;
    karat_sigma_cut(&s, (float*)shared, true, d);
    karat_load_behind(s, head, first, count, d);
    dW += (head_slot * d.N + first) * (karat_ranks(d) + 1);
    douter += karat_has_outer(d) ? head_slot * d.R * karat_features_count(d) * d.N + first : 0;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at = ((size_t)b * d.N + first) * ld + 2 * d.C + h * d.D, row = ((size_t)b * d.H + h) * d.NQ;
        const T* sample_dout = dout + (size_t)b * d.NQ * d.C + h * d.D;
        const float* sample_z = z + row * d.R;
        bool begins = b == karat_slot_start(d, slot, slots);
        plain_load(s.tile, qkv + at, ld, count, d.D);
        __syncthreads();
        plain_dots(s.dx, 1, s.tile, sample_dout, d.C, d.NQ, d.D);
        karat_sigma_columns(s, sample_z, first, count, d);
        __syncthreads();
        karat_project_columns_backward(s, rows + row, head.beta ? head.beta + first : nullptr, count, d);
        __syncthreads();
        plain_sums(dqkv + at, ld, 1, s.x, sample_dout, d.C, d.NQ, count, d.D);
        karat_sigma_weights_backward(dW, s, sample_z, count, begins, d);
        if (!karat_has_outer(d)) { continue; }
        if (basis_is_linear(d.basis)) {
            karat_outer_linear_gradient(douter, s, sample_z, count, begins, d);
        } else {
            karat_outer_units_gradient(douter, s, sample_z, count, begins, d);
        }
    }
}

// ---- Launches

template <class T>
static void karat_sigma_out(T* out, const float* z, const T* qkv, KaratHead heads, KaratDims d, cudaStream_t stream) {
    size_t shared = karat_sigma_shared(false, d);
    allow_shared(karat_sigma_out_kernel<T>, shared);
    dim3 by_sample(plain_tiles(d.NQ), d.H, d.B);
    launch_early(karat_sigma_out_kernel<T>, by_sample, PLAIN_THREADS, shared, stream, out, z, qkv, heads, d);
}

// Gives dz and dV, and in douter and dW the slots' gradients
template <class T>
static void karat_sigma_out_backward(T* dqkv, float* dz, SimplexRow* rows, float* douter, float* dW, const T* dout,
                                     const float* z, const T* qkv, KaratHead heads, KaratDims d, cudaStream_t stream) {
    size_t shared = karat_sigma_shared(true, d);
    dim3 by_sample(plain_tiles(d.NQ), d.H, d.B), by_slot(plain_tiles(d.N), d.H, karat_slots(d));
    allow_shared(karat_sigma_rows_backward<T>, shared);
    allow_shared(karat_sigma_columns_backward<T>, shared);
    launch_early(karat_sigma_rows_backward<T>, by_sample, PLAIN_THREADS, shared, stream, dz, rows, dout, z, qkv, heads,
                 d);
    launch_early(karat_sigma_columns_backward<T>, by_slot, PLAIN_THREADS, shared, stream, dqkv, douter, dW, rows, dout,
                 z, qkv, heads, d);
}
