// Layer normalisation over the channels of each row on the GPU; layernorm.h has the maths.
//
//     out (rows, C) = (inp - mean) rstd weight + bias
//
// The residual stream (inp) is stored as R, its gradient (dinp) as G, out and dout as T. A warp takes a row; the
// forward reads it from memory once and keeps it in shared memory. In front of it the branch that joins the stream can
// be added (residual.h), behind it the first rational of GR-KAN applied:
//
//     residual_layernorm_forward             x_out = x + keep layer_scale branch,   out = layernorm(x_out)
//     residual_layernorm_rational_forward    the same, and rational_out = F(out)
//     layernorm_residual_backward            backward: dx_out = dx + d(layernorm),   dbranch = keep layer_scale dx_out,
//                                            and column sums of dbranch: the branch ends in a linear layer with a bias
//
// Bytes moved an element, all in 16 bits: forward 4, with a residual 8, with a rational 2 more; backward 8, with a
// residual 10.
// The backward sums down the columns in two stages: each warp over its rows in shared memory and the warps of a block
// into a row of partial sums, then those by partials.cuh.
#pragma once
#include "rational.cuh"

#define LAYERNORM_EPS 1e-6f // of a ViT's

// At most so many warps in a block and on a multiprocessor, and so many bytes of shared memory in a block
enum { LAYERNORM_WARPS = 8, LAYERNORM_WARPS_RESIDENT = 32, LAYERNORM_SHARED = 48 << 10 };

// Warps of a block, given the bytes of shared memory that the block and each of its warps want
static inline int layernorm_warps(size_t of_block, size_t of_warp, int C) {
    int warps = LAYERNORM_WARPS;
    while (warps > 0 && of_block + warps * of_warp > LAYERNORM_SHARED) { warps /= 2; }
    if (warps == 0) {
        fail(EXIT_USAGE, "rows of %d channels are too wide for the shared memory of a block: choose a narrower model", C);
    }
    return warps;
}

// As many as are resident at a time: blocks of so many warps and bytes of shared memory
static inline int layernorm_blocks(int rows, int warps, size_t shared) {
    int by_warps = LAYERNORM_WARPS_RESIDENT / warps, by_shared = blocks_in_shared(shared);
    return blocks_for(rows, warps, by_shared < by_warps ? by_shared : by_warps);
}

// Where a row comes from: memory ...
template <class R> struct StreamRow {
    const R* x;
    template <int W> __device__ void read(float (&values)[W], int row, int c, int C) const {
        load(values, x + (size_t)row * C + c);
    }
};

// ... or the stream and a branch, whose sum goes back into the stream. layer_scale (C) and keep (B) may be NULL.
template <class R, class T> struct JoinedRow {
    R* x_out;
    const R* x;
    const T* branch;
    const float *layer_scale, *keep;
    int N;
    template <int W> __device__ void read(float (&values)[W], int row, int c, int C) const {
        size_t at = (size_t)row * C + c;
        float k = keep ? keep[row / N] : 1, scale[W], added[W];
        load(values, x + at);
        load(added, branch + at);
        if (layer_scale) { load(scale, layer_scale + c); }
        for (int i = 0; i < W; i++) { values[i] += (layer_scale ? k * scale[i] : k) * added[i]; }
        store_and_round(x_out + at, values);
    }
};

// What follows: nothing, or F of what was stored
struct NoRational {
    template <int W> __device__ void write(float (&)[W], int, int, int) const {}
};
template <RationalForm FORM, class T> struct RationalBehind {
    T* out;
    const float *numerator, *denominator;
    RationalShape shape;
    template <int W> __device__ void write(float (&y)[W], int row, int c, int C) const {
        Rational<5, 4, FORM> f(numerator, denominator + c / (C / shape.groups) * shape.n, shape);
        for (int i = 0; i < W; i++) { y[i] = f.value(y[i]); }
        store(out + (size_t)row * C + c, y);
    }
};

template <int W, class R, class T, class Row, class Behind>
__global__ void __launch_bounds__(LAYERNORM_WARPS * WARP, LAYERNORM_WARPS_RESIDENT / LAYERNORM_WARPS)
layernorm_forward_kernel(T* out, float* mean, float* rstd, Row inp, const float* weight, const float* bias,
                         Behind behind, float eps, int rows, int C) {
    wait_for_kernel_in_front();
    extern __shared__ float4 layernorm_shared[];
    float *weight_here = (float*)layernorm_shared, *bias_here = weight_here + C; // (C) each, as shared_place has them
    int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y;
    float* x = bias_here + C + (size_t)warp * C; // a lane reads what it wrote itself
    for (int c = warp * WARP + lane; c < C; c += warps * WARP) {
        weight_here[shared_place<W>(c, C)] = weight[c];
        bias_here[shared_place<W>(c, C)] = bias[c];
    }
    __syncthreads();
    for (int row = blockIdx.x * warps + warp; row < rows; row += gridDim.x * warps) {
        float sum = 0, squares = 0, v[W], w[W], b[W];
        for (int c = lane * W; c < C; c += WARP * W) {
            inp.read(v, row, c, C);
            store_shared(x, v, c, C);
            for (int i = 0; i < W; i++) { sum += v[i]; }
        }
        float m = warp_sum(sum) / C;
        for (int c = lane * W; c < C; c += WARP * W) {
            load_shared(v, x, c, C);
            for (int i = 0; i < W; i++) { squares += (v[i] - m) * (v[i] - m); }
        }
        float s = 1 / sqrtf(warp_sum(squares) / C + eps);
        for (int c = lane * W; c < C; c += WARP * W) {
            load_shared(v, x, c, C);
            load_shared(w, weight_here, c, C);
            load_shared(b, bias_here, c, C);
            for (int i = 0; i < W; i++) { v[i] = (v[i] - m) * s * w[i] + b[i]; }
            store_and_round(out + (size_t)row * C + c, v);
            behind.write(v, row, c, C);
        }
        if (lane == 0) {
            mean[row] = m;
            rstd[row] = s;
        }
    }
}

template <int W, class R, class T, class Row, class Behind>
inline void layernorm_forward_launch(T* out, float* mean, float* rstd, Row inp, const float* weight, const float* bias,
                                     Behind behind, float eps, int rows, int C, cudaStream_t stream) {
    size_t of_warp = C * sizeof(float), of_block = 2 * of_warp;
    int warps = layernorm_warps(of_block, of_warp, C);
    size_t shared = of_block + warps * of_warp;
    dim3 block(WARP, warps);
    launch_early(layernorm_forward_kernel<W, R, T, Row, Behind>, layernorm_blocks(rows, warps, shared), block, shared,
                 stream, out, mean, rstd, inp, weight, bias, behind, eps, rows, C);
}

template <class R, class T>
inline void layernorm_forward(T* out, float* mean, float* rstd, const R* inp, const float* weight, const float* bias,
                              float eps, int rows, int C, cudaStream_t stream) {
    with_width(vectorises(C, out, inp), [=](auto width) {
        layernorm_forward_launch<width.value, R>(out, mean, rstd, StreamRow<R>{inp}, weight, bias, NoRational(), eps,
                                                 rows, C, stream);
    });
}

// x_out (B, N, C) may be x
template <class R, class T>
inline void residual_layernorm_forward(R* x_out, T* out, float* mean, float* rstd, const R* x, const T* branch,
                                       const float* layer_scale, const float* keep, const float* weight,
                                       const float* bias, float eps, int B, int N, int C, cudaStream_t stream) {
    JoinedRow<R, T> joined = {x_out, x, branch, layer_scale, keep, N};
    with_width(vectorises(C, x_out, out, x, branch, layer_scale), [=](auto width) {
        layernorm_forward_launch<width.value, R>(out, mean, rstd, joined, weight, bias, NoRational(), eps, B * N, C,
                                                 stream);
    });
}

// Orders and widths that the fused kernel does not have go through the rational's own
template <class R, class T>
inline void residual_layernorm_rational_forward(R* x_out, T* out, T* rational_out, float* mean, float* rstd, const R* x,
                                                const T* branch, const float* layer_scale, const float* keep,
                                                const float* weight, const float* bias, float eps,
                                                const float* numerator, const float* denominator, int B,
                                                int N, int C, RationalShape s, cudaStream_t stream) {
    bool fits = vectorises(C / s.groups, x_out, out, rational_out, x, branch, layer_scale) && s.m <= 5 && s.n <= 4;
    if (!fits) {
        residual_layernorm_forward(x_out, out, mean, rstd, x, branch, layer_scale, keep, weight, bias, eps, B, N, C,
                                   stream);
        rational_forward(rational_out, out, numerator, denominator, B * N, C, s, stream);
        return;
    }
    JoinedRow<R, T> joined = {x_out, x, branch, layer_scale, keep, N};
    auto launch = [=](auto behind) {
        layernorm_forward_launch<VECTOR, R>(out, mean, rstd, joined, weight, bias, behind, eps, B * N, C, stream);
    };
    if (s.form == RATIONAL_FORM_A) {
        launch(RationalBehind<RATIONAL_FORM_A, T>{rational_out, numerator, denominator, s});
    } else {
        launch(RationalBehind<RATIONAL_FORM_PAPER, T>{rational_out, numerator, denominator, s});
    }
}

// The gradient of the stream, which LayerNorm adds to, and of the branch that joined it just before. inp may be out, or
// NULL: zero; branch, layer_scale (C) and keep (B) may be NULL.
template <class G, class T> struct StreamGradient {
    G* out;
    const G* inp;
    T* branch;
    const float *layer_scale, *keep;
    int N;
    template <int W> __device__ void read(float (&d)[W], int row, int c, int C) const {
        for (int i = 0; i < W; i++) { d[i] = 0; }
        if (inp) { load(d, inp + (size_t)row * C + c); }
    }
    template <int W> __device__ void write(float (&d)[W], int row, int c, int C) const { // d becomes the branch's
        size_t at = (size_t)row * C + c;
        store_and_round(out + at, d);
        if (!branch) { return; }
        float k = keep ? keep[row / N] : 1, scale[W];
        if (layer_scale) { load(scale, layer_scale + c); }
        for (int i = 0; i < W; i++) { d[i] *= layer_scale ? k * scale[i] : k; }
        store_and_round(branch + at, d);
    }
};

// Column sums of a warp, in shared memory, (C) each: of the norm's parameters and of the branch, which may be NULL
struct LayernormSums { float *dweight, *dbias, *dbranch; };

// One row. dx += rstd (dnorm - mean(dnorm) - norm mean(dnorm norm)), dnorm = dout weight
template <int W, class G, class R, class T>
__device__ void layernorm_backward_row(StreamGradient<G, T> dx, LayernormSums sums, const T* dout, const R* x,
                                       const float* weight, float mean, float rstd, int row, int C) {
    float sum = 0, sum_norm = 0, d[W], norm[W], w[W], dstream[W];
    for (int c = threadIdx.x * W; c < C; c += WARP * W) {
        load(d, dout + c);
        load(norm, x + c);
        load_shared(w, weight, c, C);
        for (int i = 0; i < W; i++) {
            norm[i] = (norm[i] - mean) * rstd;
            sum += d[i] * w[i];
            sum_norm += d[i] * w[i] * norm[i];
        }
    }
    sum = warp_sum(sum) / C;
    sum_norm = warp_sum(sum_norm) / C;
    for (int c = threadIdx.x * W; c < C; c += WARP * W) {
        load(d, dout + c);
        load(norm, x + c);
        load_shared(w, weight, c, C);
        dx.read(dstream, row, c, C);
        for (int i = 0; i < W; i++) {
            norm[i] = (norm[i] - mean) * rstd;
            dstream[i] += rstd * (d[i] * w[i] - sum - norm[i] * sum_norm);
            norm[i] *= d[i];
        }
        dx.write(dstream, row, c, C);
        add_to_shared(sums.dweight, norm, c, C);
        add_to_shared(sums.dbias, d, c, C);
        if (sums.dbranch) { add_to_shared(sums.dbranch, dstream, c, C); }
    }
}

// partials (gridDim.x, kinds C): row blockIdx.x = the block's sums of dweight, dbias and, of three kinds, the branch
template <int W, class G, class R, class T>
__global__ void __launch_bounds__(LAYERNORM_WARPS * WARP, LAYERNORM_WARPS_RESIDENT / LAYERNORM_WARPS)
layernorm_backward_kernel(StreamGradient<G, T> dx, float* partials, int kinds, const T* dout, const R* inp,
                          const float* weight, const float* mean, const float* rstd, int rows, int C) {
    wait_for_kernel_in_front();
    extern __shared__ float4 layernorm_shared[];
    float *weight_here = (float*)layernorm_shared, *sums = weight_here + C; // (C), (warps, kinds, C), by shared_place
    int lane = threadIdx.x, warp = threadIdx.y, warps = blockDim.y, threads = warps * WARP;
    for (int c = warp * WARP + lane; c < C; c += threads) { weight_here[shared_place<W>(c, C)] = weight[c]; }
    for (int i = warp * WARP + lane; i < warps * kinds * C; i += threads) { sums[i] = 0; }
    __syncthreads();
    float* mine = sums + (size_t)warp * kinds * C;
    LayernormSums of_warp = {mine, mine + C, kinds > 2 ? mine + 2 * C : nullptr};
    for (int row = blockIdx.x * warps + warp; row < rows; row += gridDim.x * warps) {
        size_t at = (size_t)row * C;
        layernorm_backward_row<W>(dx, of_warp, dout + at, inp + at, weight_here, mean[row], rstd[row], row, C);
    }
    __syncthreads();
    for (int i = warp * WARP + lane; i < kinds * C; i += threads) {
        int place = i / C * C + shared_place<W>(i % C, C);
        float sum = 0;
        for (int w = 0; w < warps; w++) { sum += sums[w * kinds * C + place]; }
        partials[(size_t)blockIdx.x * kinds * C + i] = sum;
    }
}

struct LayernormBackwardShape { int warps, blocks; size_t shared; };

static inline LayernormBackwardShape layernorm_backward_shape(int kinds, int rows, int C) {
    size_t of_block = C * sizeof(float), of_warp = kinds * of_block;
    int warps = layernorm_warps(of_block, of_warp, C);
    size_t shared = of_block + warps * of_warp;
    return {warps, layernorm_blocks(rows, warps, shared), shared};
}

// A row of sums for each block
static inline size_t layernorm_scratch(int rows, int C) {
    size_t two = (size_t)layernorm_backward_shape(2, rows, C).blocks * 2;
    size_t three = (size_t)layernorm_backward_shape(3, rows, C).blocks * 3;
    return (two > three ? two : three) * C;
}

template <class G, class R, class T>
inline void layernorm_backward_launch(StreamGradient<G, T> dx, float* dbranch_bias, float* dweight, float* dbias,
                                      const T* dout, const R* inp, const float* weight, const float* mean,
                                      const float* rstd, float* scratch, int rows, int C, cudaStream_t stream) {
    int kinds = dbranch_bias ? 3 : 2, ld = kinds * C;
    LayernormBackwardShape s = layernorm_backward_shape(kinds, rows, C);
    dim3 block(WARP, s.warps);
    with_width(vectorises(C, dx.out, dx.inp, dx.branch, dx.layer_scale, dout, inp), [=](auto width) {
        launch_early(layernorm_backward_kernel<width.value, G, R, T>, s.blocks, block, s.shared, stream, dx, scratch,
                     kinds, dout, inp, weight, mean, rstd, rows, C);
    });
    add_partials({{{dweight, C, scratch, ld, s.blocks}, {dbias, C, scratch + C, ld, s.blocks},
                   {dbranch_bias, C, scratch + 2 * C, ld, s.blocks}}}, stream);
}

// out = (inp - mean) rstd weight + bias: dinp += (the residual stream), dweight (C) and dbias (C) +=
template <class G, class R, class T>
inline void layernorm_backward(G* dinp, float* dweight, float* dbias, const T* dout, const R* inp, const float* weight,
                               const float* mean, const float* rstd, float* scratch, int rows, int C,
                               cudaStream_t stream) {
    StreamGradient<G, T> dx = {dinp, dinp, nullptr, nullptr, nullptr, 1};
    layernorm_backward_launch(dx, nullptr, dweight, dbias, dout, inp, weight, mean, rstd, scratch, rows, C, stream);
}

// inp (B, N, C) = ... + keep layer_scale branch, out = layernorm(inp): dinp_out = dinp + what comes through the norm,
// dbranch = keep layer_scale dinp_out, dweight (C) and dbias (C) +=, dbranch_bias (C) += column sums of dbranch. dinp
// may be dinp_out, or NULL where the norm alone reads the stream; dbranch is NULL where no branch joined it,
// dbranch_bias where its sums are not wanted.
template <class G, class R, class T>
inline void layernorm_residual_backward(G* dinp_out, T* dbranch, float* dbranch_bias, float* dweight, float* dbias,
                                        const G* dinp, const T* dout, const R* inp, const float* weight,
                                        const float* mean, const float* rstd, const float* layer_scale,
                                        const float* keep, float* scratch, int B, int N, int C, cudaStream_t stream) {
    StreamGradient<G, T> dx = {dinp_out, dinp, dbranch, layer_scale, keep, N};
    layernorm_backward_launch(dx, dbranch_bias, dweight, dbias, dout, inp, weight, mean, rstd, scratch, B * N, C,
                              stream);
}
