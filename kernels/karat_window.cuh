// Kolmogorov-Arnold attention (karat.cuh) in windows of a grid (windows.cuh), in its plain form: any linear basis, and
// where nothing is masked by regions any other; fp32 arithmetic, either storage. A block has a window's rows of a head
// in shared memory, gathered by their tokens:
//     A = Q K^T / sqrt(D) + bias (+ a literal mask)      z = features(A) C      out_k = z_k U_g(k)
// with U_g = W_g^T V_g of the tokens of region g, one region where all meet, and beta a further column of W whose z is
// 1 (kernels/karat_regions.h). Backward: dU_g = sum of z_k^T dout_k over g, dz_k = dout_k U_g(k)^T, dV_q = W_q dU_g(q),
// dW_q += V_q dU_g(q)^T; then dA and dC as outside of windows, from rows of A^T, and dbias: dA summed over the windows.
#pragma once
#include "attention_window.cuh"
#include "karat_plain.cuh"

static inline WindowDims karat_window_dims(KaratDims d) {
    return {d.windows, d.B / windows_of_image(d.windows), d.N, d.C, d.H, d.D, d.C / d.D};
}

__device__ inline float karat_window_mask(KaratDims d) {
    return d.mask == KARAT_MASK_LITERAL ? karat_literal_mask(d) : 0;
}

// Which place k's U is: that of its region
__device__ inline int karat_window_region(WindowPlaces p, KaratDims d, int i) {
    return karat_has_regions(d) ? p.region[i] : 0;
}

struct KaratWindowMeet { // whether row first + row and column q of A, or of A^T, meet; rows beyond the last do
    WindowPlaces p;
    int first, N;
    bool regions;
    __device__ bool operator()(int row, int q) const {
        return !regions || first + row >= N || p.region[first + row] == p.region[q];
    }
};

// What of a window is in shared memory; the last seven of the backward alone
struct KaratWindowShared {
    float *q, *k, *v, *x, *z, *U, *features; // (N,D), (PLAIN_ROWS,N), (N,R), (WINDOW_REGIONS,R+1,D)
    float *dout, *dq, *dz, *dU, *slopes, *dtable;
    WindowPlaces p;
};

__host__ __device__ inline size_t karat_window_cut(KaratWindowShared* s, float* base, bool backward, KaratDims d) {
    size_t rows = (size_t)d.N * d.D, sums = (size_t)WINDOW_REGIONS * (d.R + 1) * d.D, at = 0;
    size_t features = (size_t)PLAIN_THREADS * karat_feature_stride(d), z = (size_t)(d.N + PLAIN_ROWS) * d.R;
    auto take = [&](float** part, size_t count) {
        *part = base + at;
        at += count;
    };
    take(&s->q, rows), take(&s->k, rows), take(&s->v, rows), take(&s->x, PLAIN_ROWS * (size_t)d.N), take(&s->z, z);
    take(&s->U, sums), take(&s->features, features);
    if (backward) {
        take(&s->slopes, features); // behind the features
        take(&s->dout, rows), take(&s->dq, rows), take(&s->dz, z), take(&s->dU, sums);
        take(&s->dtable, window_offsets(d.windows));
    }
    s->p = window_places(base + at, d.N);
    return at + window_places_size(d.windows, d.N);
}

static inline size_t karat_window_plain_shared(bool backward, KaratDims d) {
    KaratWindowShared unused;
    float* base = (float*)sizeof(float4); // some number
    return karat_window_cut(&unused, base, backward, d) * sizeof(float);
}

// x (PLAIN_ROWS,N) = left rows first.. times right^T, with bias and mask; zeros beyond the last row. transposed: rows
// are keys
__device__ inline void karat_window_logits(float* x, const float* left, const float* right, WindowPlaces p, int first,
                                           bool transposed, KaratDims d) {
    float scale = 1 / sqrtf(d.D), mask = karat_window_mask(d);
    for (int i = threadIdx.x; i < PLAIN_ROWS * d.N; i += PLAIN_THREADS) {
        int row = first + i / d.N, column = i % d.N;
        float sum = 0;
        for (int c = 0; c < d.D && row < d.N; c++) { sum += left[row * d.D + c] * right[column * d.D + c]; }
        int query = transposed ? column : row, key = transposed ? row : column;
        x[i] = row < d.N ? scale * sum + window_bias(p, d.windows, mask, query, key) : 0;
    }
}

// sums (WINDOW_REGIONS,R+1,D): of the places of each region, factor^T rows; the last factor is extra, NULL: otherwise
__device__ inline void karat_window_sums(float* sums, const float* factor, const float* extra, float otherwise,
                                         const float* rows, WindowPlaces p, KaratDims d) {
    int columns = (d.R + 1) * d.D;
    for (int i = threadIdx.x; i < WINDOW_REGIONS * columns; i += PLAIN_THREADS) {
        int region = i / columns, f = i % columns / d.D, c = i % d.D;
        float sum = 0;
        for (int n = 0; n < d.N; n++) {
            if (karat_window_region(p, d, n) != region) { continue; }
            float left = f < d.R ? factor[n * d.R + f] : extra ? extra[n] : otherwise;
            sum += left * rows[n * d.D + c];
        }
        sums[i] = sum;
    }
}

// x (N,D) of a tensor = factor (N,R) and extra, or otherwise, times the sums of each row's region
template <class T>
__device__ inline void karat_window_rows(T* x, size_t ld, const float* factor, const float* extra, float otherwise,
                                         const float* sums, WindowPlaces p, KaratDims d) {
    for (int i = threadIdx.x; i < d.N * d.D; i += PLAIN_THREADS) {
        int n = i / d.D, c = i % d.D;
        const float* U = sums + karat_window_region(p, d, n) * (d.R + 1) * d.D;
        float sum = (extra ? extra[n] : otherwise) * U[d.R * d.D + c];
        for (int f = 0; f < d.R; f++) { sum += factor[n * d.R + f] * U[f * d.D + c]; }
        x[p.token[n] * ld + c] = from_float<T>(sum);
    }
}

// The product of a row of rows (N,D) and row f of the sums of its region
__device__ inline float karat_window_dot(const float* rows, const float* sums, int n, int f, WindowPlaces p,
                                         KaratDims d) {
    const float* U = sums + (karat_window_region(p, d, n) * (d.R + 1) + f) * d.D;
    float sum = 0;
    for (int c = 0; c < d.D; c++) { sum += rows[n * d.D + c] * U[c]; }
    return sum;
}

// Blocks (window, head, image)
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 4)
karat_window_forward_plain(T* out, float* z, const T* qkv, const float* coefs, const float* W, const float* beta,
                           const float* table, KaratDims d, WindowDims w) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int n = blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    size_t row = window_row(w, b, 0), ld = 3 * (size_t)d.C;
    KaratWindowShared s;
    karat_window_cut(&s, (float*)shared, false, d);
    window_enter(s.p, d.windows, n, d.N);
    window_load_table(s.p, table, d.windows, h, w.heads);
    __syncthreads();
    for (int part = 0; part < 3; part++) {
        window_load_plain(s.q + part * d.N * d.D, qkv + row * ld + part * d.C + h * d.D, ld, s.p, w);
    }
    coefs += (size_t)h * d.N * karat_features_count(d) * d.R;
    W += (size_t)h * d.N * d.R;
    __syncthreads();
    karat_window_sums(s.U, W, beta, 0, s.v, s.p, d);
    for (int first = 0; first < d.N; first += PLAIN_ROWS) {
        __syncthreads();
        karat_window_logits(s.x, s.q, s.k, s.p, first, false, d);
        __syncthreads();
        if (basis_is_linear(d.basis)) {
            KaratWindowMeet meet = {s.p, first, d.N, karat_has_regions(d)};
            karat_plain_linear(s.z + first * d.R, s.features, s.x, coefs, d, meet);
        } else {
            karat_plain_units(s.z + first * d.R, s.x, coefs, d);
        }
    }
    __syncthreads();
    z += (((size_t)b * gridDim.x + n) * d.H + h) * d.N * d.R;
    for (int i = threadIdx.x; i < d.N * d.R; i += PLAIN_THREADS) { z[i] = s.z[i]; }
    karat_window_rows(out + row * d.C + h * d.D, d.C, s.z, nullptr, 1, s.U, s.p, d);
}

// A tile of rows of A^T to dA^T, and what they add to the gradient of their coefficients
__device__ inline void karat_window_rows_backward(float* dcoefs, KaratWindowShared s, const float* coefs, int first,
                                                  bool begins, KaratDims d) {
    int count = min(PLAIN_ROWS, d.N - first), row_coefs = karat_features_count(d) * d.R;
    if (basis_is_linear(d.basis)) {
        for (int r = 0; r < count; r++) {
            karat_plain_linear_row_backward(dcoefs + r * row_coefs, s.x + r * d.N, s.features, coefs + r * row_coefs,
                                            s.dz, begins, d,
                                            KaratWindowMeet{s.p, first + r, d.N, karat_has_regions(d)});
        }
        return;
    }
    karat_plain_units_gradient(dcoefs, s.x, coefs, s.dz, count, begins, d);
    __syncthreads();
    for (int i = threadIdx.x; i < count * d.N; i += PLAIN_THREADS) {
        s.x[i] = karat_logit_backward(nullptr, nullptr, s.x[i], coefs + (size_t)(i / d.N) * row_coefs,
                                      s.dz + i % d.N * d.R, d);
    }
    __syncthreads();
}

// The forward lines: U; out = z U. dz, dV, and what is added to dW (N,R+1)
template <class T>
__device__ inline void karat_window_value_backward(T* dv, float* dW, KaratWindowShared s, const float* W,
                                                   const float* beta, bool begins, KaratDims d) {
    karat_window_sums(s.U, W, beta, 0, s.v, s.p, d);
    karat_window_sums(s.dU, s.z, nullptr, 1, s.dout, s.p, d);
    __syncthreads();
    for (int i = threadIdx.x; i < d.N * d.R; i += PLAIN_THREADS) {
        s.dz[i] = karat_window_dot(s.dout, s.U, i / d.R, i % d.R, s.p, d);
    }
    for (int i = threadIdx.x; i < d.N * (d.R + 1); i += PLAIN_THREADS) {
        karat_slot_add(dW + i, karat_window_dot(s.v, s.dU, i / (d.R + 1), i % (d.R + 1), s.p, d), begins);
    }
    karat_window_rows(dv, 3 * (size_t)d.C, W, beta, 0, s.dU, s.p, d);
}

// Blocks (slot, head). dcoefs (H,slots,N,F,R), dW (H,slots,N,R+1), dtable (H,slots,offsets)
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS, 4)
karat_window_backward_plain(T* dqkv, float* dcoefs, float* dW, float* dtable, const T* dout, const float* z,
                            const T* qkv, const float* coefs, const float* W, const float* beta, const float* table,
                            KaratDims d, WindowDims w) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int slot = blockIdx.x, slots = gridDim.x, h = blockIdx.y, row_coefs = karat_features_count(d) * d.R;
    int windows = windows_of_image(d.windows), offsets = window_offsets(d.windows);
    size_t ld = 3 * (size_t)d.C, head_slot = (size_t)h * slots + slot;
    KaratWindowShared s;
    karat_window_cut(&s, (float*)shared, true, d);
    window_load_table(s.p, table, d.windows, h, w.heads);
    coefs += (size_t)h * d.N * row_coefs, W += (size_t)h * d.N * d.R;
    dcoefs += head_slot * d.N * row_coefs, dW += head_slot * d.N * (d.R + 1), dtable += head_slot * offsets;
    for (int i = threadIdx.x; i < offsets; i += PLAIN_THREADS) { s.dtable[i] = 0; }
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t row = window_row(w, b / windows, 0), at = row * d.C + h * d.D, at_q = row * ld + h * d.D;
        bool begins = b == karat_slot_start(d, slot, slots);
        __syncthreads();
        window_enter(s.p, d.windows, b % windows, d.N);
        __syncthreads();
        for (int part = 0; part < 3; part++) {
            window_load_plain(s.q + part * d.N * d.D, qkv + at_q + part * d.C, ld, s.p, w);
        }
        window_load_plain(s.dout, dout + at, d.C, s.p, w);
        for (int i = threadIdx.x; i < d.N * d.R; i += PLAIN_THREADS) {
            s.z[i] = z[((size_t)b * d.H + h) * d.N * d.R + i];
        }
        for (int i = threadIdx.x; i < d.N * d.D; i += PLAIN_THREADS) { s.dq[i] = 0; }
        __syncthreads();
        karat_window_value_backward(dqkv + at_q + 2 * d.C, dW, s, W, beta, begins, d);
        for (int first = 0; first < d.N; first += PLAIN_ROWS) {
            int count = min(PLAIN_ROWS, d.N - first);
            float scale = 1 / sqrtf(d.D);
            __syncthreads();
            karat_window_logits(s.x, s.k, s.q, s.p, first, true, d);
            __syncthreads();
            size_t of_tile = (size_t)first * row_coefs;
            karat_window_rows_backward(dcoefs + of_tile, s, coefs + of_tile, first, begins, d);
            window_rows_plain(dqkv + at_q + d.C, ld, scale, s.x, s.q, s.p, first, count, w);
            window_sums_plain(s.dq, scale, s.x, s.k + first * d.D, count, w);
            for (int i = threadIdx.x; i < offsets; i += PLAIN_THREADS) { // the offset of j from i in rows of j
                s.dtable[i] += window_offset_sum(s.x, d.N, d.windows, offsets - 1 - i, first, count);
            }
        }
        __syncthreads();
        window_store_plain(dqkv + at_q, ld, s.dq, s.p, w);
    }
    for (int i = threadIdx.x; i < offsets; i += PLAIN_THREADS) { dtable[i] = s.dtable[i]; }
}

// ---- Launches

template <class T>
static void karat_window_forward(T* out, float* z, const T* qkv, const float* coefs, KaratParams params, KaratDims d,
                                 cudaStream_t stream) {
    WindowDims w = karat_window_dims(d);
    size_t shared = karat_window_plain_shared(false, d);
    allow_shared(karat_window_forward_plain<T>, shared);
    dim3 grid(windows_of_image(d.windows), d.H, w.B);
    launch_early(karat_window_forward_plain<T>, grid, PLAIN_THREADS, shared, stream, out, z, qkv, coefs,
                 params.proj_weight, params.proj_bias, params.bias_table, d, w);
}

template <class T>
static void karat_window_backward(T* dqkv, float* dcoefs, float* dW, float* dtable, const T* dout, const float* z,
                                  const T* qkv, const float* coefs, KaratParams params, KaratDims d,
                                  cudaStream_t stream) {
    size_t shared = karat_window_plain_shared(true, d);
    allow_shared(karat_window_backward_plain<T>, shared);
    launch_early(karat_window_backward_plain<T>, dim3(karat_slots(d), d.H), PLAIN_THREADS, shared, stream, dqkv, dcoefs,
                 dW, dtable, dout, z, qkv, coefs, params.proj_weight, params.proj_bias, params.bias_table, d,
                 karat_window_dims(d));
}
