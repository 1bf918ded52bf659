// Kolmogorov-Arnold attention, KArAt (Maity et al., arXiv 2503.10632), on the GPU: kernels/karat.h, for T = float or
// bf16. For each sample and head, A = Q K^T / sqrt(D),
//     z_kp = sum_q phi_pq(A_kq)      out = z U + 1 (beta^T V),  U = W^T V                          p = 1..R
//     dz = dout U^T    dU = z^T dout    dV = W dU    dW += V dU^T         beta: a further column of W whose z is 1
//     dC_mqp += sum_k e_m(A_kq) dz_kp   dA_kq = sum_m e_m'(A_kq) sum_p dz_kp C_mqp   dQ = dA K / sqrt(D)   dK likewise
//     qkv (B,N,3,H,D)    out (B,NQ,C)    z (B,H,NQ,R) fp32
// Parameters and their gradients are fp32; the scales are folded into the coefficients once a call. Nothing of size
// N x N leaves a block (full rank apart, whose z it is). Gradients of the operator are summed over the batch in
// karat_slots slots, each a fixed set of samples, by the block that owns them; a last kernel adds the slots in a fixed
// order and unfolds the scales: no atomics, the same bits in every run.
//
// Where the forms are: karat_tensor.cuh has the above on tensor cores, for the shapes that it takes; karat_plain.cuh
// goes from the logits to z in every basis; karat_rank.cuh from z to out, and to z in the order Phi(W A);
// karat_sigma.cuh from z to out where sigma is formed. Where z is projected (simplex.cuh), the latter two read that.
// karat_window.cuh and karat_window_tensor.cuh have all of it in windows of a grid.
#pragma once
#include "karat_rank.cuh"
#include "karat_sigma.cuh"
#include "karat_tensor.cuh"
#include "karat_window_tensor.cuh"
#include "partials.cuh"

// ---- Workspace, in floats

typedef struct {
    float *coefs, *outer; // folded: (H,N,F,R) of the inner operator, (H,R,F,N) of the outer one
    float *U, *dU;        // (B,H,R+1,D)
    float *used;          // (B,H,NQ,R): z projected
    float *dz;            // (B,H,NQ,R)
    float *rows;          // (B,H,NQ) SimplexRow
    float *dcoefs;        // (H,slots,N,F,R)
    float *douter;        // (H,slots,R,F,N)
    float *dW;            // (H,slots,N,R+1), without W (H,slots,N,1), or (H,slots,N,KARAT_RANK)
    float *dtable;        // (H,slots,offsets), in windows
} KaratScratch;

static inline size_t karat_scratch_cut(KaratScratch* s, float* base, KaratDims d) {
    size_t features = (size_t)d.H * karat_features_count(d), coefs = features * d.N * d.R, slots = karat_slots(d);
    size_t fragments = features * karat_tiles(d.N) * 128, heads = (size_t)d.B * d.H, queries = heads * d.NQ, at = 0;
    size_t sums = karat_has_weight(d) ? heads * (d.R + 1) * d.D : 0, columns = karat_ranks(d) + 1;
    columns = columns < KARAT_RANK ? KARAT_RANK : columns;
    at = karat_take(&s->coefs, base, at, !karat_has_inner(d) ? 0 : coefs > fragments ? coefs : fragments);
    at = karat_take(&s->outer, base, at, karat_has_outer(d) ? coefs : 0);
    at = karat_take(&s->U, base, at, sums);
    at = karat_take(&s->dU, base, at, sums);
    at = karat_take(&s->used, base, at, d.project_z ? queries * d.R : 0);
    at = karat_take(&s->dz, base, at, queries * d.R);
    at = karat_take(&s->rows, base, at, karat_projects_sigma(d) ? queries * sizeof(SimplexRow) / sizeof(float) : 0);
    at = karat_take(&s->dcoefs, base, at, karat_has_inner(d) ? coefs * slots : 0);
    at = karat_take(&s->douter, base, at, karat_has_outer(d) ? coefs * slots : 0);
    at = karat_take(&s->dW, base, at, d.H * d.N * columns * slots);
    at = karat_take(&s->dtable, base, at, karat_in_windows(d) ? d.H * slots * window_offsets(d.windows) : 0);
    return at;
}

static inline size_t karat_scratch(KaratDims d) {
    KaratScratch unused;
    return karat_scratch_cut(&unused, NULL, d);
}

// The most shared memory that a block of the plain forms wants, in bytes
static inline size_t karat_plain_shared(KaratDims d) {
    size_t forward = karat_forward_plain_shared(d), backward = karat_backward_plain_shared(d);
    size_t most = forward > backward ? forward : backward, sigma = karat_sigma_shared(true, d);
    if (karat_in_windows(d)) { return karat_window_plain_shared(true, d); }
    return karat_forms_sigma(d) && sigma > most ? sigma : most;
}

// ---- Parameters

// An operator's units in the order of its folded coefficients, (H,N,F,R), or (H,R,F,N) of the outer one
__global__ void karat_fold_kernel(float* coefs, KaratOperator w, bool outer, KaratDims d) {
    wait_for_kernel_in_front();
    int F = karat_features_count(d), last = outer ? d.N : d.R, first = outer ? d.R : d.N;
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= (size_t)d.H * d.N * F * d.R) { return; }
    int y = i % last, m = i / last % F, x = i / last / F % first, h = i / last / F / first;
    int q = outer ? y : x, p = outer ? x : y;
    coefs[i] = basis_is_linear(d.basis) ? karat_coefficient(w, d, h, m, q, p) : karat_units_folded(w, d, h, m, q, p);
}

// The slots' gradients of PARTIAL_COLUMNS units, a few features at a time, and these taken to the units' tensors. The
// rows of threads above each other share the slots.
__global__ void __launch_bounds__(PARTIAL_COLUMNS * PARTIAL_ROWS)
karat_unfold_kernel(KaratOperatorGrads grads, KaratOperator w, const float* dcoefs, bool outer, KaratDims d,
                    int slots) {
    wait_for_kernel_in_front();
    constexpr int FEATURES = 4; // whose loads are under way at once
    int i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x, last = outer ? d.N : d.R, first = outer ? d.R : d.N;
    int y = i % last, x = i / last % first, h = i / last / first, q = outer ? y : x, p = outer ? x : y;
    int F = karat_features_count(d);
    float folded[KARAT_UNIT_PARAMETERS + 1];
    for (int before = 0; before < F; before += FEATURES) {
        float sums[FEATURES] = {};
        for (int s = threadIdx.y; s < slots && h < d.H; s += PARTIAL_ROWS) {
            const float* unit = dcoefs + ((((size_t)h * slots + s) * first + x) * F + before) * last + y;
            #pragma unroll
            for (int m = 0; m < FEATURES; m++) { sums[m] += before + m < F ? unit[m * last] : 0; }
        }
        for (int m = 0; m < FEATURES; m++) {
            float sum = sum_of_rows(sums[m]);
            if (threadIdx.y > 0 || h >= d.H || before + m >= F) { continue; }
            if (basis_is_linear(d.basis)) {
                karat_coefficient_backward(grads, w, sum, d, h, before + m, q, p);
            } else {
                folded[before + m] = sum;
            }
        }
    }
    if (threadIdx.y == 0 && h < d.H && !basis_is_linear(d.basis)) { karat_units_unfold(grads, w, folded, d, h, q, p); }
}

// dW (H,N,ranks) and dbeta (N) from the slots' (H,slots,N,columns), which the rows of threads share
__global__ void __launch_bounds__(PARTIAL_COLUMNS * PARTIAL_ROWS)
karat_reduce_weights_kernel(float* dweight, float* dbias, const float* dW, KaratDims d, int slots, int columns) {
    wait_for_kernel_in_front();
    int ranks = karat_ranks(d), i = blockIdx.x * PARTIAL_COLUMNS + threadIdx.x;
    int p = i % (ranks + 1), n = i / (ranks + 1) % d.N, h = i / (ranks + 1) / d.N;
    bool bias = p == ranks; // beta is one for all heads
    int parts = h >= d.H || (bias && (h > 0 || !dbias)) ? 0 : bias ? d.H * slots : slots;
    float sum = 0;
    for (int part = threadIdx.y; part < parts; part += PARTIAL_ROWS) {
        sum += dW[(((size_t)h * slots + part) * d.N + n) * columns + p];
    }
    sum = sum_of_rows(sum);
    if (threadIdx.y > 0 || parts == 0) { return; }
    if (bias) { dbias[n] += sum; } else { dweight[((size_t)h * d.N + n) * ranks + p] += sum; }
}

// ---- Launches

static inline void karat_fold(KaratScratch s, KaratParams params, KaratDims d, cudaStream_t stream) {
    size_t blocks = ceil_div((size_t)d.H * d.N * karat_features_count(d) * d.R, (size_t)BLOCK);
    auto fold = [=](float* coefs, KaratOperator w, bool outer) {
        launch_early(karat_fold_kernel, blocks, BLOCK, 0, stream, coefs, w, outer, d);
    };
    if (karat_has_inner(d)) { fold(s.coefs, params.inner, false); }
    if (karat_has_outer(d)) { fold(s.outer, params.outer, true); }
}

template <class T>
static void karat_inner(float* z, const T* qkv, const float* coefs, KaratDims d, cudaStream_t stream) {
    size_t shared = karat_forward_plain_shared(d);
    allow_shared(karat_forward_plain<T>, shared);
    dim3 by_sample(plain_tiles(d.NQ), d.H, d.B);
    launch_early(karat_forward_plain<T>, by_sample, PLAIN_THREADS, shared, stream, z, qkv, coefs, d);
}

template <class T>
static void karat_inner_backward(T* dqkv, float* dcoefs, const float* dz, const T* qkv, const float* coefs, KaratDims d,
                                 cudaStream_t stream) {
    size_t shared = karat_backward_plain_shared(d);
    dim3 by_sample(plain_tiles(d.NQ), d.H, d.B), by_slot(plain_tiles(d.N), d.H, karat_slots(d));
    auto backward_key = basis_is_linear(d.basis) ? karat_backward_key_linear<T> : karat_backward_key_units<T>;
    allow_shared(karat_backward_query_plain<T>, shared);
    allow_shared(backward_key, shared);
    launch_early(karat_backward_query_plain<T>, by_sample, PLAIN_THREADS, shared, stream, dqkv, dz, qkv, coefs, d);
    launch_early(backward_key, by_slot, PLAIN_THREADS, shared, stream, dqkv, dcoefs, dz, qkv, coefs, d);
}

// What stands behind z: z itself, or its rows projected
static inline const float* karat_used_z(const float* z, float* used, KaratDims d, cudaStream_t stream) {
    if (!d.project_z) { return z; }
    simplex_rows_forward(used, z, d.projection, d.B * d.H * d.NQ, d.R, stream);
    return used;
}

static inline KaratHead karat_behind_z(KaratScratch s, KaratParams params) {
    return {.inner = NULL, .outer = s.outer, .W = params.proj_weight, .beta = params.proj_bias};
}

// scratch: karat_scratch floats
template <class T>
static void karat_forward(T* out, float* z, const T* qkv, KaratParams params, float* scratch, KaratDims d,
                          cudaStream_t stream) {
    KaratScratch s;
    karat_scratch_cut(&s, scratch, d);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (karat_in_windows(d) && karat_window_fits_tensor(d, params.proj_bias)) {
            karat_window_launch_forward(out, z, qkv, s.coefs, params, d, stream);
            return;
        }
        if (karat_fits_tensor(d, params.proj_bias)) {
            karat_launch_forward<KARAT_WIDTH>(out, z, qkv, params, s.coefs, d, stream);
            return;
        }
    }
    karat_fold(s, params, d, stream);
    if (karat_in_windows(d)) {
        karat_window_forward(out, z, qkv, s.coefs, params, d, stream);
        return;
    }
    if (!karat_has_inner(d)) {
        karat_reduced_z(z, s.U, qkv, params.proj_weight, d, stream);
    } else {
        karat_inner(z, qkv, s.coefs, d, stream);
    }
    const float* used = karat_used_z(z, s.used, d, stream);
    if (karat_forms_sigma(d)) {
        karat_sigma_out(out, used, qkv, karat_behind_z(s, params), d, stream);
    } else {
        karat_rank_out(out, s.U, used, qkv, params.proj_weight, params.proj_bias, d, stream);
    }
}

// columns: of the slots' dW, beta's column behind those of W among them
static inline void karat_reduce(KaratGrads grads, KaratParams params, KaratScratch s, int columns, KaratDims d,
                                cudaStream_t stream) {
    int units = ceil_div(d.H * d.N * d.R, PARTIAL_COLUMNS), slots = karat_slots(d);
    int weights = ceil_div(d.H * d.N * (karat_ranks(d) + 1), PARTIAL_COLUMNS);
    dim3 block(PARTIAL_COLUMNS, PARTIAL_ROWS);
    auto unfold = [=](KaratOperatorGrads grads, KaratOperator w, const float* dcoefs, bool outer) {
        launch_early(karat_unfold_kernel, units, block, 0, stream, grads, w, dcoefs, outer, d, slots);
    };
    if (karat_has_inner(d)) { unfold(grads.inner, params.inner, s.dcoefs, false); }
    if (karat_has_outer(d)) { unfold(grads.outer, params.outer, s.douter, true); }
    launch_early(karat_reduce_weights_kernel, weights, block, 0, stream, grads.proj_weight, grads.proj_bias, s.dW, d,
                 slots, columns);
    if (karat_in_windows(d)) {
        window_table_backward(grads.bias_table, s.dtable, slots, d.windows, d.H, d.C / d.D, stream);
    }
}

// From what stands behind z to out: gives dz (in s.dz) and dV
template <class T>
static void karat_behind_z_backward(T* dqkv, KaratScratch s, const T* dout, const float* z, const T* qkv,
                                    KaratParams params, KaratDims d, cudaStream_t stream) {
    const float* used = karat_used_z(z, s.used, d, stream);
    if (karat_forms_sigma(d)) {
        karat_sigma_out_backward(dqkv, s.dz, (SimplexRow*)s.rows, s.douter, s.dW, dout, used, qkv,
                                 karat_behind_z(s, params), d, stream);
    } else {
        karat_rank_out_backward(dqkv, s.dz, s.dW, s.U, s.dU, dout, used, qkv, params.proj_weight, params.proj_bias, d,
                                stream);
    }
    if (d.project_z) {
        simplex_rows_backward(s.dz, s.dz, used, z, d.projection, d.B * d.H * d.NQ, d.R, stream);
    }
}

template <class T>
static void karat_backward(T* dqkv, KaratGrads grads, const T* dout, const float* z, const T* qkv, KaratParams params,
                           float* scratch, KaratDims d, cudaStream_t stream) {
    KaratScratch s;
    karat_scratch_cut(&s, scratch, d);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (karat_in_windows(d) && karat_window_fits_tensor(d, params.proj_bias)) {
            karat_window_launch_backward(dqkv, s.dcoefs, s.dW, s.dtable, dout, z, qkv, s.coefs, params, d, stream);
            karat_reduce(grads, params, s, KARAT_RANK, d, stream);
            return;
        }
        if (karat_fits_tensor(d, params.proj_bias)) {
            auto launch = d.G == 1 ? karat_launch_backward<KARAT_WIDTH, 1, false>
                        : d.G == 2 ? karat_launch_backward<KARAT_WIDTH, 2, false>
                        : d.G == 3 ? karat_launch_backward<KARAT_WIDTH, 3, false>
                        : karat_launch_backward<KARAT_WIDTH, 1, true>;
            launch(dqkv, s.dcoefs, s.dW, dout, z, qkv, params, s.coefs, d, stream);
            karat_reduce(grads, params, s, KARAT_RANK, d, stream);
            return;
        }
    }
    karat_fold(s, params, d, stream);
    if (karat_in_windows(d)) {
        karat_window_backward(dqkv, s.dcoefs, s.dW, s.dtable, dout, z, qkv, s.coefs, params, d, stream);
        karat_reduce(grads, params, s, karat_ranks(d) + 1, d, stream);
        return;
    }
    karat_behind_z_backward(dqkv, s, dout, z, qkv, params, d, stream);
    if (!karat_has_inner(d)) {
        karat_reduced_z_backward(dqkv, s.dW, s.U, s.dU, s.dz, qkv, params.proj_weight, d, stream);
    } else {
        karat_inner_backward(dqkv, s.dcoefs, s.dz, qkv, s.coefs, d, stream);
    }
    karat_reduce(grads, params, s, karat_ranks(d) + 1, d, stream);
}
