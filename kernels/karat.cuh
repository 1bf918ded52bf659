// Kolmogorov-Arnold attention, KArAt (Maity et al., arXiv 2503.10632), on the GPU: kernels/karat.h, order W Phi(A),
// without projections, for T = float or bf16. For each sample and head, A = Q K^T / sqrt(D),
//     z_kp = sum_q phi_pq(A_kq)      out = z U + 1 (beta^T V),  U = W^T V                          p = 1..R
//     dz = dout U^T    dU = z^T dout    dV = W dU    dW += V dU^T         beta: a further column of W whose z is 1
//     dC_mqp += sum_k e_m(A_kq) dz_kp   dA_kq = sum_m e_m'(A_kq) sum_p dz_kp C_mqp   dQ = dA K / sqrt(D)   dK likewise
//     qkv (B,N,3,H,D)    out (B,N,C)    z (B,H,N,R) fp32
// Parameters and their gradients are fp32; the scales are folded into the coefficients once a call (coefs). Nothing of
// size N x N leaves a block. Gradients of the operator are summed over the batch in karat_slots slots, each a fixed set
// of samples, by the block that owns them; a last kernel adds the slots in order and unfolds the scales: no atomics,
// the same bits in every run.
//
// A launch of karat_forward: fold, U, z and out. Of karat_backward: fold, U and dU, dz with dV and dW, then dQ, dK, dC,
// then the sums over slots. The parts from logits to z are in karat_plain.cuh; the others, whose work is R / N of it,
// are below.
#pragma once
#include "karat_tensor.cuh"

static inline bool karat_supported(KaratDims d) {
    return d.order == KARAT_W_PHI && !d.full_rank && d.projection == PROJECT_NONE;
}

// ---- Workspace, in floats

typedef struct {
    float *coefs;         // (H,N,F,R)
    float *U, *dU;        // (B,H,R+1,D)
    float *dz;            // (B,H,N,R)
    float *dcoefs;        // (H,slots,N,F,R)
    float *dW;            // (H,slots,N,R+1), or (H,slots,N,KARAT_RANK)
    size_t slots_size;    // of the last two together
} KaratScratch;

static inline size_t karat_scratch_cut(KaratScratch* s, float* base, KaratDims d) {
    size_t features = (size_t)d.H * karat_features_count(d), coefs = features * d.N * d.R, at = 0;
    size_t fragments = features * karat_tiles(d) * 128, heads = (size_t)d.B * d.H;
    size_t weights = (size_t)d.H * d.N * (d.R < KARAT_RANK ? KARAT_RANK : d.R + 1);
    at = karat_take(&s->coefs, base, at, coefs > fragments ? coefs : fragments);
    at = karat_take(&s->U, base, at, heads * (d.R + 1) * d.D);
    at = karat_take(&s->dU, base, at, heads * (d.R + 1) * d.D);
    at = karat_take(&s->dz, base, at, heads * d.N * d.R);
    size_t slots = at;
    at = karat_take(&s->dcoefs, base, at, coefs * karat_slots(d));
    at = karat_take(&s->dW, base, at, weights * karat_slots(d));
    s->slots_size = at - slots;
    return at;
}

static inline size_t karat_scratch(KaratDims d) {
    KaratScratch unused;
    return karat_scratch_cut(&unused, NULL, d);
}

// ---- Parameters

__global__ void karat_fold_kernel(float* coefs, KaratOperator w, KaratDims d) {
    int F = karat_features_count(d);
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= (size_t)d.H * d.N * F * d.R) { return; }
    int p = i % d.R, m = i / d.R % F, q = i / d.R / F % d.N, h = i / d.R / F / d.N;
    coefs[i] = basis_is_linear(d.basis) ? karat_coefficient(w, d, h, m, q, p) : karat_units_folded(w, d, h, m, q, p);
}

// The slots' gradients of one unit, added in order and taken to its tensors
__global__ void karat_unfold_kernel(KaratOperatorGrads grads, KaratOperator w, const float* dcoefs, KaratDims d,
                                    int slots) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, p = i % d.R, q = i / d.R % d.N, h = i / d.R / d.N;
    int F = karat_features_count(d);
    if (h >= d.H) { return; }
    float folded[KARAT_UNIT_PARAMETERS + 1];
    for (int m = 0; m < F; m++) {
        float sum = 0;
        for (int s = 0; s < slots; s++) { sum += dcoefs[((((size_t)h * slots + s) * d.N + q) * F + m) * d.R + p]; }
        if (basis_is_linear(d.basis)) {
            karat_coefficient_backward(grads, w, sum, d, h, m, q, p);
        } else {
            folded[m] = sum;
        }
    }
    if (!basis_is_linear(d.basis)) { karat_units_unfold(grads, w, folded, d, h, q, p); }
}

// dW (H,N,R) and dbeta (N) from the slots' (H,slots,N,columns)
__global__ void karat_reduce_weights_kernel(float* dweight, float* dbias, const float* dW, KaratDims d, int slots,
                                            int columns) {
    int i = blockIdx.x * blockDim.x + threadIdx.x, p = i % (d.R + 1), n = i / (d.R + 1) % d.N, h = i / (d.R + 1) / d.N;
    if (h >= d.H || (p == d.R && (h > 0 || !dbias))) { return; }
    float sum = 0;
    for (int head = h; head < (p == d.R ? d.H : h + 1); head++) { // beta is one for all heads
        for (int s = 0; s < slots; s++) { sum += dW[(((size_t)head * slots + s) * d.N + n) * columns + p]; }
    }
    if (p == d.R) { dbias[n] += sum; } else { dweight[((size_t)h * d.N + n) * d.R + p] += sum; }
}

// ---- Between z and out: a block for each sample and head, then for each tile of rows

// sums (R+1, D) = factor^T matrix: factor (N,R) with a last column extra (N); NULL: ones, or zeros where there is none
template <class T>
__device__ void karat_rank_sums(float* sums, const float* factor, const float* extra, float otherwise, const T* matrix,
                                size_t ld, KaratDims d) {
    for (int i = threadIdx.x; i < (d.R + 1) * d.D; i += blockDim.x) {
        int p = i / d.D;
        float sum = 0;
        for (int n = 0; n < d.N; n++) {
            float left = p < d.R ? factor[(size_t)n * d.R + p] : extra ? extra[n] : otherwise;
            sum += left * to_float(matrix[n * ld + i % d.D]);
        }
        sums[i] = sum;
    }
}

// U = W^T V with beta^T V behind it
template <class T>
__global__ void karat_U_kernel(float* U, const T* qkv, const float* W, const float* beta, KaratDims d) {
    int h = blockIdx.x, b = blockIdx.y;
    size_t ld = 3 * (size_t)d.C;
    karat_rank_sums(U + ((size_t)b * d.H + h) * (d.R + 1) * d.D, W + (size_t)h * d.N * d.R, beta, 0,
                    qkv + b * d.N * ld + 2 * d.C + h * d.D, ld, d);
}

// dU = z^T dout with the sum of dout's rows behind it
template <class T>
__global__ void karat_dU_kernel(float* dU, const float* z, const T* dout, KaratDims d) {
    int h = blockIdx.x, b = blockIdx.y;
    size_t bh = (size_t)b * d.H + h;
    karat_rank_sums(dU + bh * (d.R + 1) * d.D, z + bh * d.N * d.R, nullptr, 1,
                    dout + (size_t)b * d.N * d.C + h * d.D, d.C, d);
}

// The forward lines: U = W^T V; out = z U + 1 (beta^T V). dz and dV of a tile of rows, and what the samples of a slot
// add to dW (H,slots,N,R+1), which starts as zeros. Blocks (tile, head, slot).
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
karat_value_backward_kernel(T* dqkv, float* dz, float* dW, const T* dout, const T* qkv, const float* U, const float* dU,
                            const float* W, const float* beta, KaratDims d) {
    extern __shared__ float4 shared[];
    int first = blockIdx.x * PLAIN_ROWS, h = blockIdx.y, slot = blockIdx.z, slots = gridDim.z, R = d.R + 1;
    int count = min(PLAIN_ROWS, d.N - first);
    size_t ld = 3 * (size_t)d.C;
    float *values = (float*)shared, *dout_rows = values + PLAIN_ROWS * d.D;
    dW += (((size_t)h * slots + slot) * d.N + first) * R;
    for (int b = karat_slot_start(d, slot, slots); b < karat_slot_start(d, slot + 1, slots); b++) {
        size_t at_v = ((size_t)b * d.N + first) * ld + 2 * d.C + h * d.D, bh = (size_t)b * d.H + h;
        const float *head_U = U + bh * R * d.D, *head_dU = dU + bh * R * d.D;
        __syncthreads();
        plain_load(values, qkv + at_v, ld, count, d.D);
        plain_load(dout_rows, dout + ((size_t)b * d.N + first) * d.C + h * d.D, d.C, count, d.D);
        __syncthreads();
        for (int i = threadIdx.x; i < count * R; i += PLAIN_THREADS) {
            int r = i / R, p = i % R;
            float by_U = 0, by_V = 0;
            for (int j = 0; j < d.D; j++) {
                by_U += dout_rows[r * d.D + j] * head_U[p * d.D + j];
                by_V += values[r * d.D + j] * head_dU[p * d.D + j];
            }
            if (p < d.R) { dz[(bh * d.N + first + r) * d.R + p] = by_U; }
            dW[i] += by_V;
        }
        for (int i = threadIdx.x; i < count * d.D; i += PLAIN_THREADS) {
            int r = i / d.D, j = i % d.D;
            float sum = beta ? beta[first + r] * head_dU[d.R * d.D + j] : 0;
            for (int p = 0; p < d.R; p++) {
                sum += W[((size_t)h * d.N + first + r) * d.R + p] * head_dU[p * d.D + j];
            }
            dqkv[at_v + r * ld + j] = from_float<T>(sum);
        }
    }
}

// ---- Launches

static inline void karat_fold(KaratScratch s, KaratParams params, KaratDims d, cudaStream_t stream) {
    size_t coefs = (size_t)d.H * d.N * karat_features_count(d) * d.R;
    karat_fold_kernel<<<ceil_div(coefs, (size_t)BLOCK), BLOCK, 0, stream>>>(s.coefs, params.inner, d);
    CUDA_CHECK_LAUNCH();
}

// scratch: karat_scratch floats
template <class T>
static void karat_forward(T* out, float* z, const T* qkv, KaratParams params, float* scratch, KaratDims d,
                          cudaStream_t stream) {
    KaratScratch s;
    karat_scratch_cut(&s, scratch, d);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (karat_fits_tensor(d, params.proj_bias)) {
            karat_launch_forward<KARAT_WIDTH>(out, z, qkv, params, s.coefs, d, stream);
            return;
        }
    }
    karat_fold(s, params, d, stream);
    karat_U_kernel<<<dim3(d.H, d.B), BLOCK, 0, stream>>>(s.U, qkv, params.proj_weight, params.proj_bias, d);
    CUDA_CHECK_LAUNCH();
    size_t shared = karat_forward_plain_shared(d);
    allow_shared(karat_forward_plain<T>, shared);
    dim3 grid(plain_tiles(d.N), d.H, d.B);
    karat_forward_plain<T><<<grid, PLAIN_THREADS, shared, stream>>>(out, z, qkv, s.coefs, s.U, d);
    CUDA_CHECK_LAUNCH();
}

// columns: of the slots' dW, beta's column R among them
static inline void karat_reduce(KaratGrads grads, KaratParams params, KaratScratch s, int columns, KaratDims d,
                                cudaStream_t stream) {
    int units = d.H * d.N * d.R, weights = d.H * d.N * (d.R + 1), slots = karat_slots(d);
    karat_unfold_kernel<<<ceil_div(units, BLOCK), BLOCK, 0, stream>>>(grads.inner, params.inner, s.dcoefs, d, slots);
    karat_reduce_weights_kernel<<<ceil_div(weights, BLOCK), BLOCK, 0, stream>>>(grads.proj_weight, grads.proj_bias,
                                                                                s.dW, d, slots, columns);
    CUDA_CHECK_LAUNCH();
}

template <class T>
static void karat_backward(T* dqkv, KaratGrads grads, const T* dout, const float* z, const T* qkv, KaratParams params,
                           float* scratch, KaratDims d, cudaStream_t stream) {
    KaratScratch s;
    karat_scratch_cut(&s, scratch, d);
    CUDA_CHECK(cudaMemsetAsync(s.dcoefs, 0, s.slots_size * sizeof(float), stream));
    if constexpr (sizeof(T) == sizeof(bf16)) {
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
    karat_U_kernel<<<dim3(d.H, d.B), BLOCK, 0, stream>>>(s.U, qkv, params.proj_weight, params.proj_bias, d);
    karat_dU_kernel<<<dim3(d.H, d.B), BLOCK, 0, stream>>>(s.dU, z, dout, d);
    dim3 by_slot(plain_tiles(d.N), d.H, karat_slots(d)), by_sample(plain_tiles(d.N), d.H, d.B);
    size_t rows = 2 * PLAIN_ROWS * (size_t)d.D * sizeof(float), shared = karat_backward_plain_shared(d);
    allow_shared(karat_value_backward_kernel<T>, rows);
    karat_value_backward_kernel<T><<<by_slot, PLAIN_THREADS, rows, stream>>>(
        dqkv, s.dz, s.dW, dout, qkv, s.U, s.dU, params.proj_weight, params.proj_bias, d);
    allow_shared(karat_backward_query_plain<T>, shared);
    auto backward_key = basis_is_linear(d.basis) ? karat_backward_key_linear<T> : karat_backward_key_units<T>;
    allow_shared(backward_key, shared);
    karat_backward_query_plain<T><<<by_sample, PLAIN_THREADS, shared, stream>>>(dqkv, s.dz, qkv, s.coefs, d);
    backward_key<<<by_slot, PLAIN_THREADS, shared, stream>>>(dqkv, s.dcoefs, s.dz, qkv, s.coefs, d);
    CUDA_CHECK_LAUNCH();
    karat_reduce(grads, params, s, d.R + 1, d, stream);
}
