// The group rational of GR-KAN on the GPU; rational.h has the maths. One numerator (m+1) for all channels, one
// denominator (n) for each group of C / groups channels.
//
//     F(x) = P(x) / Q(x),  Q = 1 + |S(y)|:  dx = t (P' - F Q'),  da_i = Σ t x^i,  db_j = Σ -t F dQ/db_j,  t = dout / Q
//
// A thread keeps a fixed vector of 8 channels, which lie in one group, and walks down the rows, its coefficients and
// m+1+n sums in registers; at the end one reduction in the block, a row of partial sums to the workspace, and a small
// kernel that adds the rows. Where groups are not multiples of 8 channels wide, a thread has one channel instead.
// Column sums of dx, the gradient of a bias in front, wait in shared memory: registers are few.
// The forward loads four rows before it stores the first: 64 bytes of bf16 of each thread are on their way.
// Orders up to (5, 4) are calculated as (5, 4), others as (15, 15), the missing coefficients being zero.
//
// Bytes moved an element: forward 2 sizeof(T), backward 3 sizeof(T).
// Instructions an element, (5, 4) form A: 15 forward and 47 backward on sm_90.
#pragma once
#include "partials.cuh"
#include "rational_shape.h"

enum { RATIONAL_BLOCKS = 4 }; // of BLOCK threads on a multiprocessor: a thread may have 64 registers

struct RationalPoint {
    float value;      // F
    float reciprocal; // 1/Q
    float slope;      // Q F' = P' - F Q'
    float s;          // S
};

// The coefficients of one group, zero above the orders of the shape
template <int M, int N, RationalForm FORM> struct Rational {
    float a[M + 1], beta[N]; // beta: |b| in form A, b in form paper

    __device__ Rational(const float* numerator, const float* denominator, RationalShape shape) {
        for (int i = 0; i <= M; i++) { a[i] = i <= shape.m ? __ldg(numerator + i) : 0; }
        for (int j = 0; j < N; j++) {
            float b = j < shape.n ? __ldg(denominator + j) : 0;
            beta[j] = FORM == RATIONAL_FORM_A ? fabsf(b) : b;
        }
    }

    static __device__ float argument(float x) { return FORM == RATIONAL_FORM_A ? fabsf(x) : x; } // of S

    __device__ float value(float x) const {
        float y = argument(x), P = a[M], R = beta[N - 1]; // S(y) = y R(y)
        for (int i = M - 1; i >= 0; i--) { P = P * x + a[i]; }
        for (int j = N - 2; j >= 0; j--) { R = R * y + beta[j]; }
        return P * reciprocal(1 + fabsf(R * y));
    }

    __device__ RationalPoint at(float x) const {
        float y = argument(x), dP = a[M], P = a[M] * x + a[M - 1];
        for (int i = M - 2; i >= 0; i--) {
            dP = dP * x + P;
            P = P * x + a[i];
        }
        float dS = beta[N - 1], S = beta[N - 1] * y; // Horner for 0 + β1 y + ...
        for (int j = N - 2; j >= 0; j--) {
            S += beta[j];
            dS = dS * y + S;
            S *= y;
        }
        float r = reciprocal(1 + fabsf(S)), F = P * r;
        float dQ = negate_where_negative(dS, FORM == RATIONAL_FORM_A ? x : S);
        return {F, r, dP - F * dQ, S};
    }
};

template <int M, int N, RationalForm FORM, int W, class T>
__global__ void __launch_bounds__(BLOCK, N > 4 ? 1 : RATIONAL_BLOCKS)
rational_forward_kernel(T* out, const T* inp, const float* numerator, const float* denominator, int rows, int C,
                        RationalShape shape) {
    wait_for_kernel_in_front();
    Column<W> column(rows, C);
    Rational<M, N, FORM> f(numerator, denominator + column.c / (C / shape.groups) * shape.n, shape);
    constexpr int ROWS = N > 4 ? 1 : 4; // loaded before the first is stored, as the source must say: out may be inp
    for (size_t first = column.at; first < column.end; first += ROWS * column.step) {
        alignas(16) T packed[ROWS][W];
        for (int r = 0; r < ROWS; r++) {
            size_t at = first + r * column.step;
            if (at < column.end) { copy<W>(packed[r], inp + at); }
        }
        for (int r = 0; r < ROWS; r++) {
            size_t at = first + r * column.step;
            if (at >= column.end) { break; }
            float x[W];
            load(x, packed[r]);
            for (int i = 0; i < W; i++) { x[i] = f.value(x[i]); }
            store(out + at, x);
        }
    }
}

// partials (blocks, K): the block's row = the sums of its threads, da (m+1) and then db (groups, n)
template <int M, int N, RationalForm FORM>
__device__ void rational_block_sums(float* partials, const float (&sum_a)[M + 1], const float (&sum_b)[N], int group,
                                    const float* denominator, RationalShape shape) {
    __shared__ float sums[M + 1 + N][BLOCK];
    __shared__ int groups[BLOCK];
    for (int i = 0; i <= M; i++) { sums[i][threadIdx.x] = sum_a[i]; }
    for (int j = 0; j < N; j++) { sums[M + 1 + j][threadIdx.x] = sum_b[j]; }
    groups[threadIdx.x] = group;
    __syncthreads();
    int K = shape.m + 1 + shape.groups * shape.n, lane = threadIdx.x % WARP;
    for (int k = threadIdx.x / WARP; k < K; k += BLOCK / WARP) { // a warp a sum
        int j = k - (shape.m + 1);
        bool of_group = j >= 0;
        const float* values = sums[of_group ? M + 1 + j % shape.n : k];
        float sum = 0;
        for (int t = lane; t < BLOCK; t += WARP) { sum += !of_group || groups[t] == j / shape.n ? values[t] : 0; }
        sum = warp_sum(sum);
        if (of_group && FORM == RATIONAL_FORM_A) { sum = negate_where_negative(sum, denominator[j]); } // d|b|/db
        if (lane == 0) { partials[(size_t)(blockIdx.y * gridDim.x + blockIdx.x) * K + k] = sum; }
    }
}

// column_partials (gridDim.y, C): column sums of dinp; NULL: they are not wanted
template <int M, int N, RationalForm FORM, int W, class T>
__global__ void __launch_bounds__(BLOCK, N > 4 ? 1 : RATIONAL_BLOCKS)
rational_backward_kernel(T* dinp, float* partials, float* column_partials, const T* dout, const T* inp,
                         const float* numerator, const float* denominator, int rows, int C, RationalShape shape) {
    wait_for_kernel_in_front();
    __shared__ alignas(16) float column_sums[BLOCK * W];
    Column<W> column(rows, C);
    int group = column.c / (C / shape.groups);
    Rational<M, N, FORM> f(numerator, denominator + group * shape.n, shape);
    float sum_a[M + 1] = {}, sum_b[N] = {}, x[W] = {}, d[W];
    store_shared(column_sums, x, threadIdx.x * W, BLOCK * W);
    for (size_t at = column.at; at < column.end; at += column.step) {
        load(x, inp + at);
        load(d, dout + at);
        for (int i = 0; i < W; i++) {
            RationalPoint p = f.at(x[i]);
            float t = d[i] * p.reciprocal, u = -t * p.value, power = x[i];
            if (FORM == RATIONAL_FORM_PAPER) { u = negate_where_negative(u, p.s); }
            d[i] = t * p.slope;
            sum_a[0] += t;
            for (int k = 1; k <= M; k++, power *= x[i]) {
                sum_a[k] += t * power;
                if (k <= N) { sum_b[k - 1] += u * f.argument(power); }
            }
        }
        store_and_round(dinp + at, d);
        if (column_partials) { add_to_shared(column_sums, d, threadIdx.x * W, BLOCK * W); }
    }
    rational_block_sums<M, N, FORM>(partials, sum_a, sum_b, group, denominator, shape);
    if (column_partials) { column_block_sums<W>(column_partials, column_sums, C); }
}

// launch(Constant<M>, Constant<N>, Constant<form>): the smallest orders compiled that hold the shape's
template <class Launch> inline void with_rational(RationalShape s, Launch launch) {
    constexpr int MAX = RATIONAL_MAX_ORDER;
    bool usual = s.m <= 5 && s.n <= 4, a = s.form == RATIONAL_FORM_A;
    if (usual && a) {
        launch(Constant<5>(), Constant<4>(), Constant<RATIONAL_FORM_A>());
    } else if (usual) {
        launch(Constant<5>(), Constant<4>(), Constant<RATIONAL_FORM_PAPER>());
    } else if (a) {
        launch(Constant<MAX>(), Constant<MAX>(), Constant<RATIONAL_FORM_A>());
    } else {
        launch(Constant<MAX>(), Constant<MAX>(), Constant<RATIONAL_FORM_PAPER>());
    }
}

template <class T>
inline void rational_forward(T* out, const T* inp, const float* numerator, const float* denominator, int rows, int C,
                             RationalShape s, cudaStream_t stream) {
    with_rational(s, [=](auto m, auto n, auto form) {
        with_width(vectorises(C / s.groups, out, inp), [=](auto width) {
            constexpr int M = m.value, N = n.value, W = width.value;
            constexpr RationalForm FORM = (RationalForm)form.value;
            dim3 grid = column_grid(rows, C, W, RATIONAL_BLOCKS);
            launch_early(rational_forward_kernel<M, N, FORM, W, T>, grid, BLOCK, 0, stream, out, inp, numerator,
                         denominator, rows, C, s);
        });
    });
}

// A row of coefficient sums for each block, and partial sums of dinp's columns
static inline size_t rational_scratch(int rows, int C, RationalShape s) {
    return column_scratch(rows, C, RATIONAL_BLOCKS, rational_coefficients(s));
}

// out = P(inp) / Q(inp): dinp =, dnumerator +=, ddenominator +=; dinp may be dout. dbias (C, may be NULL) += column
// sums of dinp, for the linear layer that made inp.
template <class T>
inline void rational_backward(T* dinp, float* dbias, float* dnumerator, float* ddenominator, const T* dout,
                              const T* inp, const float* numerator, const float* denominator, float* scratch, int rows,
                              int C, RationalShape s, cudaStream_t stream) {
    dim3 grid;
    float* columns = nullptr;
    int K = rational_coefficients(s), of_a = s.m + 1;
    with_rational(s, [&](auto m, auto n, auto form) {
        with_width(vectorises(C / s.groups, dinp, dout, inp), [&](auto width) {
            constexpr int M = m.value, N = n.value, W = width.value;
            constexpr RationalForm FORM = (RationalForm)form.value;
            grid = column_grid(rows, C, W, RATIONAL_BLOCKS);
            columns = scratch + (size_t)grid.x * grid.y * K;
            launch_early(rational_backward_kernel<M, N, FORM, W, T>, grid, BLOCK, 0, stream, dinp, scratch,
                         dbias ? columns : nullptr, dout, inp, numerator, denominator, rows, C, s);
        });
    });
    int blocks = grid.x * grid.y, parts = grid.y;
    add_partials({{{dnumerator, of_a, scratch, K, blocks}, {ddenominator, K - of_a, scratch + of_a, K, blocks},
                   {dbias, C, columns, C, parts}}}, stream);
}
