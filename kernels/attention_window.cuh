// Softmax attention inside windows of a grid of tokens on the GPU: kernels/attention_window.h, for T = float or bf16.
// For each image, window and head
//     S = Q K^T / sqrt(D) + bias + mask      P = softmax(S) over each row      out = P V
//     backward: P = exp(S - lse)   dP = dout V^T   dS = P (dP - dout . out)   dV = P^T dout   dQ = dS K / sqrt(D)
//               dK = dS^T Q / sqrt(D)   dbias: the sum of dS over images and windows
//     qkv (B,T,3,H,D), T = grid^2     out (B,T,C)     lse (B,windows,H,N) fp32     table (offsets, heads of the layer)
// A block has a window's rows of a head in shared memory, gathered by their tokens: nothing is moved to the order of
// windows. In the backward it goes through the windows of a slot, as many slots as the device has room for, and sums
// dS; slots are added in a fixed order. No atomics: the same bits in every run on one device.
//
// bf16 with D a multiple of 8 up to 64 and windows of up to 64 tokens take the tensor cores: a warp has 16 rows of S,
// all columns. Products of 16 x 16 x 16 for a 16 x 16 block of S and D = 32: forward 2 + 2, backward 5 x 2. Memory read
// and written, elements of (B,T,C): forward 3 + 1, backward 5 + 3. Everything else takes the plain form, fp32
// arithmetic.
#pragma once
#include "attention.cuh"
#include "windows.cuh"

constexpr int WINDOW_RESIDENT = 3; // blocks of the backward at once on a multiprocessor: 168 registers a thread

static inline int window_slots(int B, Windows w, int H) {
    int slots = multiprocessors() * WINDOW_RESIDENT / H, sequences = B * windows_of_image(w);
    slots = slots > 1 ? slots : 1;
    return sequences < slots ? sequences : slots;
}

// The slots' gradients of the table (H,slots,offsets)
static inline size_t window_attention_scratch(int B, Windows w, int H) {
    return (size_t)H * window_slots(B, w, H) * window_offsets(w);
}

__device__ inline int window_slot_start(WindowDims d, int slot, int slots) {
    return (int)((int64_t)slot * d.B * windows_of_image(d.w) / slots);
}

// ---- Plain form: tiles of PLAIN_ROWS queries, one after the other

static inline size_t window_forward_plain_shared(WindowDims d) {
    return (3 * (size_t)d.N * d.D + PLAIN_ROWS * d.N + window_places_size(d.w, d.N)) * sizeof(float);
}

// What the largest of the plain form's blocks wants, in bytes
static inline size_t window_plain_shared(WindowDims d) {
    return (6 * (size_t)d.N * d.D + 2 * PLAIN_ROWS * d.N + window_places_size(d.w, d.N) + window_offsets(d.w)) *
           sizeof(float);
}

// to (N,D) = D columns of a window's rows of x
template <class T>
__device__ inline void window_load_plain(float* to, const T* x, size_t ld, WindowPlaces p, WindowDims d) {
    for (int i = threadIdx.x; i < d.N * d.D; i += blockDim.x) { to[i] = to_float(x[p.token[i / d.D] * ld + i % d.D]); }
}

template <class T>
__device__ inline void window_store_plain(T* x, size_t ld, const float* from, WindowPlaces p, WindowDims d) {
    for (int i = threadIdx.x; i < d.N * d.D; i += blockDim.x) {
        x[p.token[i / d.D] * ld + i % d.D] = from_float<T>(from[i]);
    }
}

// to (rows,N) = scale left (rows,D) right^T
__device__ inline void window_dots_plain(float* to, float scale, const float* left, const float* right, int rows,
                                         WindowDims d) {
    for (int i = threadIdx.x; i < rows * d.N; i += blockDim.x) {
        float sum = 0;
        for (int c = 0; c < d.D; c++) { sum += left[i / d.N * d.D + c] * right[i % d.N * d.D + c]; }
        to[i] = scale * sum;
    }
}

// S of the queries from first on, with bias and mask
__device__ inline void window_logits_plain(float* S, const float* q, const float* k, WindowPlaces p, int first,
                                           int rows, WindowDims d) {
    window_dots_plain(S, 1 / sqrtf(d.D), q + first * d.D, k, rows, d);
    for (int i = threadIdx.x; i < rows * d.N; i += blockDim.x) { // a thread's own
        S[i] += window_bias(p, d.w, WINDOW_MASK, first + i / d.N, i % d.N);
    }
}

// to (N,D) += scale x^T (rows,N) right (rows,D)
__device__ inline void window_sums_plain(float* to, float scale, const float* x, const float* right, int rows,
                                         WindowDims d) {
    for (int i = threadIdx.x; i < d.N * d.D; i += blockDim.x) {
        float sum = 0;
        for (int r = 0; r < rows; r++) { sum += x[r * d.N + i / d.D] * right[r * d.D + i % d.D]; }
        to[i] += scale * sum;
    }
}

// scale x (rows,N) right (N,D), to a window's rows of a tensor from first on
template <class T>
__device__ inline void window_rows_plain(T* to, size_t ld, float scale, const float* x, const float* right,
                                         WindowPlaces p, int first, int rows, WindowDims d) {
    for (int i = threadIdx.x; i < rows * d.D; i += blockDim.x) {
        float sum = 0;
        for (int n = 0; n < d.N; n++) { sum += x[i / d.D * d.N + n] * right[n * d.D + i % d.D]; }
        to[p.token[first + i / d.D] * ld + i % d.D] = from_float<T>(scale * sum);
    }
}

// Blocks (window, head, image)
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
window_forward_plain(T* out, float* lse, const T* qkv, const float* table, WindowDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int n = blockIdx.x, h = blockIdx.y, b = blockIdx.z;
    size_t row = window_row(d, b, 0), ld = 3 * (size_t)d.C;
    float *q = (float*)shared, *k = q + d.N * d.D, *v = k + d.N * d.D, *P = v + d.N * d.D;
    WindowPlaces p = window_places(P + PLAIN_ROWS * d.N, d.N);
    window_enter(p, d.w, n, d.N);
    window_load_table(p, table, d.w, h, d.heads);
    __syncthreads();
    for (int part = 0; part < 3; part++) {
        window_load_plain(q + part * d.N * d.D, qkv + row * ld + part * d.C + h * d.D, ld, p, d);
    }
    lse += (((size_t)b * gridDim.x + n) * d.H + h) * d.N;
    for (int first = 0; first < d.N; first += PLAIN_ROWS) {
        int rows = min(PLAIN_ROWS, d.N - first);
        __syncthreads();
        window_logits_plain(P, q, k, p, first, rows, d);
        __syncthreads();
        for (int r = threadIdx.x / WARP; r < rows; r += PLAIN_THREADS / WARP) {
            float row_lse = attention_softmax_row(P + r * d.N, d.N);
            if (threadIdx.x % WARP == 0) { lse[first + r] = row_lse; }
        }
        __syncthreads();
        window_rows_plain(out + row * d.C + h * d.D, d.C, 1, P, v, p, first, rows, d);
    }
}

// S and dP of the queries from first on, rows of them, to P and dS
template <class T>
__device__ inline void window_rows_backward_plain(float* S, float* dP, const float* lse, const float* dout,
                                                  const T* out, WindowPlaces p, int first, int rows, WindowDims d) {
    for (int r = threadIdx.x / WARP; r < rows; r += PLAIN_THREADS / WARP) {
        float delta = 0;
        for (int c = threadIdx.x % WARP; c < d.D; c += WARP) {
            delta += dout[(first + r) * d.D + c] * to_float(out[p.token[first + r] * (size_t)d.C + c]);
        }
        delta = warp_sum(delta);
        for (int i = r * d.N + threadIdx.x % WARP; i < (r + 1) * d.N; i += WARP) {
            S[i] = expf(S[i] - lse[first + r]);
            dP[i] = S[i] * (dP[i] - delta);
        }
    }
}

// Blocks (slot, head)
template <class T>
__global__ void __launch_bounds__(PLAIN_THREADS)
window_backward_plain(T* dqkv, float* partials, const T* dout, const T* out, const float* lse, const T* qkv,
                      const float* table, WindowDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    int slot = blockIdx.x, slots = gridDim.x, h = blockIdx.y, size = d.N * d.D, windows = windows_of_image(d.w);
    size_t ld = 3 * (size_t)d.C;
    float *q = (float*)shared, *k = q + size, *v = k + size, *dout_rows = v + size, *dk = dout_rows + size;
    float *dv = dk + size, *P = dv + size, *dS = P + PLAIN_ROWS * d.N, *dtable = dS + PLAIN_ROWS * d.N;
    float scale = 1 / sqrtf(d.D);
    WindowPlaces p = window_places(dtable + window_offsets(d.w), d.N);
    window_load_table(p, table, d.w, h, d.heads);
    for (int i = threadIdx.x; i < window_offsets(d.w); i += PLAIN_THREADS) { dtable[i] = 0; }
    for (int s = window_slot_start(d, slot, slots); s < window_slot_start(d, slot + 1, slots); s++) {
        size_t row = window_row(d, s / windows, 0), at = row * d.C + h * d.D, at_q = row * ld + h * d.D;
        __syncthreads();
        window_enter(p, d.w, s % windows, d.N);
        __syncthreads();
        for (int part = 0; part < 3; part++) {
            window_load_plain(q + part * size, qkv + at_q + part * d.C, ld, p, d);
        }
        window_load_plain(dout_rows, dout + at, d.C, p, d);
        for (int i = threadIdx.x; i < 2 * size; i += PLAIN_THREADS) { dk[i] = 0; } // and dv
        for (int first = 0; first < d.N; first += PLAIN_ROWS) {
            int rows = min(PLAIN_ROWS, d.N - first);
            __syncthreads();
            window_logits_plain(P, q, k, p, first, rows, d);
            window_dots_plain(dS, 1, dout_rows + first * d.D, v, rows, d);
            __syncthreads();
            window_rows_backward_plain(P, dS, lse + ((size_t)s * d.H + h) * d.N, dout_rows, out + at, p, first, rows,
                                       d);
            __syncthreads();
            for (int i = threadIdx.x; i < window_offsets(d.w); i += PLAIN_THREADS) {
                dtable[i] += window_offset_sum(dS, d.N, d.w, i, first, rows);
            }
            window_rows_plain(dqkv + at_q, ld, scale, dS, k, p, first, rows, d);
            window_sums_plain(dk, scale, dS, q + first * d.D, rows, d);
            window_sums_plain(dv, 1, P, dout_rows + first * d.D, rows, d);
        }
        __syncthreads();
        window_store_plain(dqkv + at_q + d.C, ld, dk, p, d);
        window_store_plain(dqkv + at_q + 2 * d.C, ld, dv, p, d);
    }
    partials += ((size_t)h * slots + slot) * window_offsets(d.w);
    for (int i = threadIdx.x; i < window_offsets(d.w); i += PLAIN_THREADS) { partials[i] = dtable[i]; }
}

// ---- Tensor-core form

template <int D> struct WindowShared {
    static constexpr int LD = D + 8, LD_P = WINDOW_ROWS + 8;
    bf16 q[WINDOW_ROWS * LD], k[WINDOW_ROWS * LD], v[WINDOW_ROWS * LD], dout[WINDOW_ROWS * LD];
    alignas(16) bf16 P[WINDOW_ROWS * LD_P], dS[WINDOW_ROWS * LD_P];
    int places[WINDOW_WORDS];
};

// S of a 16 x 16 block from its products, with bias and mask: rows from i, columns from j on
__device__ inline void window_logits(float* S, float scale, WindowPlaces p, Windows w, int i, int j) {
    for (int e = 0; e < 8; e++) {
        S[e] = scale * S[e] + window_bias(p, w, WINDOW_MASK, i + block_row(e), j + block_column(e));
    }
}

// Blocks (window, head, image)
template <int D>
__global__ void __launch_bounds__(WINDOW_THREADS)
window_forward_tensor(bf16* out, float* lse, const bf16* qkv, const float* table, WindowDims d) {
    wait_for_kernel_in_front();
    constexpr int LD = D + 8;
    __shared__ alignas(16) bf16 rows[3][WINDOW_ROWS * LD];
    __shared__ int words[WINDOW_WORDS];
    int n = blockIdx.x, h = blockIdx.y, b = blockIdx.z, first = threadIdx.x / WARP * 16;
    size_t row = window_row(d, b, 0);
    WindowPlaces p = window_places(words, WINDOW_ROWS);
    window_enter(p, d.w, n, WINDOW_ROWS);
    window_load_table(p, table, d.w, h, d.heads);
    __syncthreads();
    for (int part = 0; part < 3; part++) {
        window_load<D>(rows[part], qkv + row * 3 * d.C + part * d.C + h * d.D, 3 * (size_t)d.C, p, d.N, d.D);
    }
    __syncthreads();
    if (first >= d.N) { return; }
    uint32_t queries[D / 16][4];
    for (int i = 0; i < D / 16; i++) { load_left(queries[i], rows[0] + first * LD + i * 16, LD); }
    float S[WINDOW_ROWS / 16][8] = {}, sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    #pragma unroll
    for (int j = 0; j < WINDOW_ROWS / 16; j++) {
        if (j * 16 < d.N) { attention_dots<D>(S[j], queries, rows[1] + j * 16 * LD); }
        window_logits(S[j], scale, p, d.w, first, j * 16);
        for (int e = 0; e < 8; e++) { S[j][e] = j * 16 + block_column(e) < d.N ? S[j][e] : -INFINITY; }
    }
    SoftmaxRows softmax = {{-INFINITY, -INFINITY}, {0, 0}};
    attention_online_softmax<D>(S, sums, &softmax);
    for (int half = 0; half < 2; half++) { softmax.sum[half] = row_sum(softmax.sum[half]); }
    #pragma unroll
    for (int j = 0; j < WINDOW_ROWS / 16; j++) {
        uint32_t P[4];
        block_to_left(P, S[j]);
        if (j * 16 < d.N) { attention_sums<D>(sums, P, rows[2] + j * 16 * LD); }
    }
    for (int i = 0; i < D / 16; i++) {
        for (int e = 0; e < 8; e++) { sums[i][e] /= softmax.sum[e / 2 % 2]; }
    }
    window_store<D>(out + row * d.C + h * d.D, d.C, sums, 1, p, first, d.N, d.D);
    lse += (((size_t)b * gridDim.x + n) * d.H + h) * d.N;
    for (int e = 0; e < 4; e += 2) {
        int i = first + block_row(e);
        if (lane_id() % 4 == 0 && i < d.N) { lse[i] = softmax.high[e / 2] + __logf(softmax.sum[e / 2]); }
    }
}

// delta = dout . out of a lane's two rows: dout in shared memory, and out where it lies
template <int D>
__device__ inline void window_delta(float* delta, const bf16* dout, const bf16* out, WindowPlaces p, int first,
                                    WindowDims d) {
    uint32_t dout_rows[D / 16][4], out_rows[D / 16][4];
    #pragma unroll
    for (int i = 0; i < D / 16; i++) {
        load_left(dout_rows[i], dout + first * (D + 8) + i * 16, D + 8);
        for (int j = 0; j < 4; j++) {
            int row = first + block_row(2 * j), column = i * 16 + block_column(2 * j);
            bool inside = row < d.N && column < d.D;
            out_rows[i][j] = inside ? *(const uint32_t*)(out + p.token[row] * (size_t)d.C + column) : 0;
        }
    }
    attention_delta<D>(delta, dout_rows, out_rows);
}

// A warp's rows: P and dS to shared memory; dbias += dS, dQ = dS K / sqrt(D)
template <int D>
__device__ inline void window_query_backward(bf16* dq, float dbias[][8], WindowShared<D>* s, WindowPlaces p,
                                             const bf16* out, const float* lse, int first, WindowDims d) {
    constexpr int LD = WindowShared<D>::LD, LD_P = WindowShared<D>::LD_P;
    uint32_t queries[D / 16][4];
    for (int i = 0; i < D / 16; i++) { load_left(queries[i], s->q + first * LD + i * 16, LD); }
    float delta[2], row_lse[2], sums[D / 16][8] = {}, scale = rsqrtf(d.D);
    window_delta<D>(delta, s->dout, out, p, first, d);
    for (int half = 0; half < 2; half++) {
        int i = first + block_row(2 * half);
        row_lse[half] = i < d.N ? lse[i] : 0;
    }
    #pragma unroll
    for (int j = 0; j < WINDOW_ROWS / 16; j++) {
        float P[8] = {}, dS[8] = {};
        if (j * 16 < d.N) {
            attention_dots<D>(P, queries, s->k + j * 16 * LD);
            attention_dots<D>(dS, s->dout + first * LD, s->v + j * 16 * LD);
            window_logits(P, scale, p, d.w, first, j * 16);
        }
        for (int e = 0; e < 8; e++) {
            bool inside = first + block_row(e) < d.N && j * 16 + block_column(e) < d.N;
            P[e] = inside ? __expf(P[e] - row_lse[e / 2 % 2]) : 0;
            dS[e] = P[e] * (dS[e] - delta[e / 2 % 2]);
            dbias[j][e] += dS[e];
        }
        store_block(s->P + first * LD_P, LD_P, P, 1, j * 16, 16, WINDOW_ROWS);
        store_block(s->dS + first * LD_P, LD_P, dS, 1, j * 16, 16, WINDOW_ROWS);
        uint32_t left[4];
        block_to_left(left, dS);
        if (j * 16 < d.N) { attention_sums<D>(sums, left, s->k + j * 16 * LD); }
    }
    window_store<D>(dq, 3 * (size_t)d.C, sums, scale, p, first, d.N, d.D);
}

// A warp's rows of keys: to = scale x^T rows, x (WINDOW_ROWS, WINDOW_ROWS) and rows (WINDOW_ROWS, D) of the queries
template <int D>
__device__ inline void window_key_backward(bf16* to, float scale, const bf16* x, const bf16* rows, WindowPlaces p,
                                           int first, WindowDims d) {
    constexpr int LD = WindowShared<D>::LD, LD_P = WindowShared<D>::LD_P;
    float sums[D / 16][8] = {};
    for (int i = 0; i < d.N; i += 16) {
        uint32_t left[4];
        load_left_transposed(left, x + i * LD_P + first, LD_P);
        attention_sums<D>(sums, left, rows + i * LD);
    }
    window_store<D>(to, 3 * (size_t)d.C, sums, scale, p, first, d.N, d.D);
}

// Blocks (slot, head)
template <int D>
__global__ void __launch_bounds__(WINDOW_THREADS, D <= 32 ? WINDOW_RESIDENT : 2)
window_backward_tensor(bf16* dqkv, float* partials, const bf16* dout, const bf16* out, const float* lse,
                       const bf16* qkv, const float* table, WindowDims d) {
    wait_for_kernel_in_front();
    extern __shared__ float4 shared[];
    WindowShared<D>* s = (WindowShared<D>*)shared;
    int slot = blockIdx.x, slots = gridDim.x, h = blockIdx.y, first = threadIdx.x / WARP * 16;
    int windows = windows_of_image(d.w);
    size_t ld = 3 * (size_t)d.C;
    float dbias[WINDOW_ROWS / 16][8] = {};
    WindowPlaces p = window_places(s->places, WINDOW_ROWS);
    window_load_table(p, table, d.w, h, d.heads);
    for (int i = window_slot_start(d, slot, slots); i < window_slot_start(d, slot + 1, slots); i++) {
        size_t row = window_row(d, i / windows, 0), at = row * d.C + h * d.D, at_q = row * ld + h * d.D;
        __syncthreads();
        window_enter(p, d.w, i % windows, WINDOW_ROWS);
        __syncthreads();
        window_load<D>(s->q, qkv + at_q, ld, p, d.N, d.D);
        window_load<D>(s->k, qkv + at_q + d.C, ld, p, d.N, d.D);
        window_load<D>(s->v, qkv + at_q + 2 * d.C, ld, p, d.N, d.D);
        window_load<D>(s->dout, dout + at, d.C, p, d.N, d.D);
        __syncthreads();
        window_query_backward<D>(dqkv + at_q, dbias, s, p, out + at, lse + ((size_t)i * d.H + h) * d.N, first, d);
        __syncthreads();
        if (first >= d.N) { continue; }
        window_key_backward<D>(dqkv + at_q + d.C, rsqrtf(d.D), s->dS, s->q, p, first, d);
        window_key_backward<D>(dqkv + at_q + 2 * d.C, 1, s->P, s->dout, p, first, d);
    }
    __syncthreads();
    float* dA = (float*)s->P; // and on into dS: (WINDOW_ROWS, WINDOW_ROWS)
    for (int i = 0; i < WINDOW_ROWS / 16 * 8; i++) {
        dA[(first + block_row(i % 8)) * WINDOW_ROWS + i / 8 * 16 + block_column(i % 8)] = dbias[i / 8][i % 8];
    }
    __syncthreads();
    partials += ((size_t)h * slots + slot) * window_offsets(d.w);
    for (int i = threadIdx.x; i < window_offsets(d.w); i += WINDOW_THREADS) {
        partials[i] = window_offset_sum(dA, WINDOW_ROWS, d.w, i, 0, d.N);
    }
}

// ---- Launches

static inline bool window_fits_tensor(WindowDims d) {
    return d.N <= WINDOW_ROWS && d.D % 8 == 0 && d.D <= 64 && d.C % 8 == 0;
}

// The first H heads, of D each, of a layer of width C; table from the column of the first of them on
template <class T>
static void window_attention_forward(T* out, float* lse, const T* qkv, const float* table, int B, Windows w, int C,
                                     int H, int D, cudaStream_t stream) {
    WindowDims d = window_dims(B, w, C, H, D);
    dim3 grid(windows_of_image(w), H, B);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (window_fits_tensor(d)) {
            auto kernel = D <= 32 ? window_forward_tensor<32> : window_forward_tensor<64>;
            launch_early(kernel, grid, WINDOW_THREADS, 0, stream, out, lse, qkv, table, d);
            return;
        }
    }
    size_t shared = window_forward_plain_shared(d);
    allow_shared(window_forward_plain<T>, shared);
    launch_early(window_forward_plain<T>, grid, PLAIN_THREADS, shared, stream, out, lse, qkv, table, d);
}

template <int D>
static void window_launch_backward(bf16* dqkv, float* partials, const bf16* dout, const bf16* out, const float* lse,
                                   const bf16* qkv, const float* table, dim3 grid, WindowDims d, cudaStream_t stream) {
    allow_shared(window_backward_tensor<D>, sizeof(WindowShared<D>));
    launch_early(window_backward_tensor<D>, grid, WINDOW_THREADS, sizeof(WindowShared<D>), stream, dqkv, partials, dout,
                 out, lse, qkv, table, d);
}

// dtable is added to. scratch: window_attention_scratch floats
template <class T>
static void window_attention_backward(T* dqkv, float* dtable, const T* dout, const T* out, const float* lse,
                                      const T* qkv, const float* table, float* scratch, int B, Windows w, int C, int H,
                                      int D, cudaStream_t stream) {
    WindowDims d = window_dims(B, w, C, H, D);
    int slots = window_slots(B, w, H);
    dim3 grid(slots, H);
    bool done = false;
    if constexpr (sizeof(T) == sizeof(bf16)) {
        if (window_fits_tensor(d)) {
            auto launch = D <= 32 ? window_launch_backward<32> : window_launch_backward<64>;
            launch(dqkv, scratch, dout, out, lse, qkv, table, grid, d, stream);
            done = true;
        }
    }
    if (!done) {
        size_t shared = window_plain_shared(d);
        allow_shared(window_backward_plain<T>, shared);
        launch_early(window_backward_plain<T>, grid, PLAIN_THREADS, shared, stream, dqkv, scratch, dout, out, lse, qkv,
                     table, d);
    }
    window_table_backward(dtable, scratch, slots, w, H, d.heads, stream);
}
