// Dense products, row-major, single precision, and the linear layer made of them.
//
// gemm() is one thread's product: OpenBLAS's sgemm under HAVE_OPENBLAS, or own_gemm() below, which is the usual blocked
// form (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008): blocks of op(A) and
// op(B) are packed into panels in cache, and a register tile walks over the panels.
//
// The linear layers split their work by shape alone and run single-threaded products inside a parallel region, so that
// the bits of every result are the same for any number of threads.
#pragma once
#include "lanes.h"
#include <stdbool.h>
#include <stddef.h>
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

static inline int min_int(int a, int b) { return a < b ? a : b; }
static inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// ---- Threads, for scratch that each owns: results never depend on either number
static inline int max_threads(void) {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

static inline int thread_number(void) {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

// ---- The register tile: TILE_ROWS x TILE_COLS sums held in vector registers (two vectors wide). clang cuts 512-bit
// vectors in halves for most processors and would run out of registers, hence the half.
#if !defined(__AVX512F__)
enum { VEC_LANES = LANES, TILE_ROWS = 6 };
#elif defined(__clang__)
enum { VEC_LANES = LANES / 2, TILE_ROWS = 6 };
#else
enum { VEC_LANES = LANES, TILE_ROWS = 12 };
#endif
enum { TILE_COLS = 2 * VEC_LANES };
typedef float Vec __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias)); // loads from any float address

// tile[r][c] = (add ? tile[r][c] : 0) + sum over k of a[k][r] b[k][c], for panels a (K, TILE_ROWS) and b (K, TILE_COLS)
static inline void tile_product(float* tile, bool add, int K, const float* a, const float* b) {
    Vec sum[TILE_ROWS][2] = {0};
    for (int r = 0; add && r < TILE_ROWS; r++) {
        sum[r][0] = *(Vec*)(tile + r * TILE_COLS);
        sum[r][1] = *(Vec*)(tile + r * TILE_COLS + VEC_LANES);
    }
    for (int k = 0; k < K; k++, a += TILE_ROWS, b += TILE_COLS) {
        Vec left = *(const Vec*)b, right = *(const Vec*)(b + VEC_LANES);
        for (int r = 0; r < TILE_ROWS; r++) {
            sum[r][0] += a[r] * left;
            sum[r][1] += a[r] * right;
        }
    }
    for (int r = 0; r < TILE_ROWS; r++) {
        *(Vec*)(tile + r * TILE_COLS) = sum[r][0];
        *(Vec*)(tile + r * TILE_COLS + VEC_LANES) = sum[r][1];
    }
}

// panels (ceil(count / width), K, width) from x[j * step + k * step_k], j < count; lanes beyond count are 0
ALWAYS_INLINE void pack_panels(float* panels, int width, int count, int K, const float* x, size_t step, size_t step_k) {
    for (int j0 = 0; j0 < count; j0 += width) {
        int lanes = count - j0 < width ? count - j0 : width;
        for (int k = 0; k < K; k++, panels += width) {
            const float* from = x + j0 * step + k * step_k;
            if (lanes == width) {
                for (int j = 0; j < width; j++) { panels[j] = from[j * step]; }
            } else {
                for (int j = 0; j < width; j++) { panels[j] = j < lanes ? from[j * step] : 0; }
            }
        }
    }
}

// C (rows, cols of it) = alpha tile + beta C; beta = 0 does not read C
static inline void store_tile(float* C, int ldc, const float* tile, int rows, int cols, float alpha, float beta) {
    for (int r = 0; r < rows; r++, C += ldc, tile += TILE_COLS) {
        if (beta == 0) {
            for (int c = 0; c < cols; c++) { C[c] = alpha * tile[c]; }
        } else {
            for (int c = 0; c < cols; c++) { C[c] = alpha * tile[c] + beta * C[c]; }
        }
    }
}

// A block of B and one of A share the second cache level
enum { BLOCK_M = 8 * TILE_ROWS, BLOCK_N = 256, BLOCK_K = 256 };

// C = alpha op(A) op(B) + beta C: op(A) (M,K), op(B) (K,N), C (M,N)
static inline void own_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                            int lda, const float* B, int ldb, float beta, float* C, int ldc) {
    float a_panels[BLOCK_M * BLOCK_K] __attribute__((aligned(64)));
    float b_panels[BLOCK_N * BLOCK_K] __attribute__((aligned(64)));
    float tile[TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));
    size_t a_row = transpose_a ? 1 : lda, a_k = transpose_a ? lda : 1;
    size_t b_col = transpose_b ? ldb : 1, b_k = transpose_b ? 1 : ldb;
    for (int n0 = 0; n0 < N; n0 += BLOCK_N) {
        int cols = min_int(BLOCK_N, N - n0);
        for (int k0 = 0; k0 < K; k0 += BLOCK_K) {
            int depth = min_int(BLOCK_K, K - k0);
            float keep = k0 == 0 ? beta : 1;
            pack_panels(b_panels, TILE_COLS, cols, depth, B + n0 * b_col + k0 * b_k, b_col, b_k);
            for (int m0 = 0; m0 < M; m0 += BLOCK_M) {
                int rows = min_int(BLOCK_M, M - m0);
                pack_panels(a_panels, TILE_ROWS, rows, depth, A + m0 * a_row + k0 * a_k, a_row, a_k);
                for (int n = 0; n < cols; n += TILE_COLS) {
                    for (int m = 0; m < rows; m += TILE_ROWS) {
                        tile_product(tile, false, depth, a_panels + (size_t)m * depth, b_panels + (size_t)n * depth);
                        store_tile(C + (size_t)(m0 + m) * ldc + n0 + n, ldc, tile, min_int(TILE_ROWS, rows - m),
                                   min_int(TILE_COLS, cols - n), alpha, keep);
                    }
                }
            }
        }
    }
}

// ---- One thread's product, from the library if there is one. A head's products are too small to repay the library's
// preparations (it clears C in a pass of its own), unless it knows wider vectors than this program was compiled for.
enum { SMALL_PRODUCT = VEC_LANES >= 8 ? 1 << 20 : 0 };

#ifdef HAVE_OPENBLAS
static inline void library_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                                int lda, const float* B, int ldb, float beta, float* C, int ldc) {
#ifdef _OPENMP // outside of a parallel region OpenBLAS takes every thread that OpenMP has, whatever it was told
    int threads = omp_in_parallel() ? 1 : omp_get_max_threads();
    if (threads > 1) { omp_set_num_threads(1); }
#endif
    cblas_sgemm(CblasRowMajor, transpose_a ? CblasTrans : CblasNoTrans, transpose_b ? CblasTrans : CblasNoTrans,
                M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
#ifdef _OPENMP
    if (threads > 1) { omp_set_num_threads(threads); }
#endif
}
#endif

static inline void gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A, int lda,
                        const float* B, int ldb, float beta, float* C, int ldc) {
#ifdef HAVE_OPENBLAS
    if ((size_t)M * N * K >= SMALL_PRODUCT) {
        library_gemm(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
        return;
    }
#endif
    own_gemm(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}

// Before the first product. The OpenMP flavour is held to one thread by library_gemm.
static inline void matmul_init(void) {
#ifdef HAVE_OPENBLAS
    enum { OPENMP_FLAVOUR = 2 };
    if (openblas_get_parallel() != OPENMP_FLAVOUR) { openblas_set_num_threads(1); }
#endif
}

static inline const char* matmul_library(void) {
#ifdef HAVE_OPENBLAS
    return openblas_get_config();
#else
    return "own loops";
#endif
}

// ---- The linear layer
// Rows of a task: enough tasks to balance 2 to 16 threads, enough rows for each to repay packing the weight again.
static inline int linear_rows(int M) {
    int rows = (M + 31) / 32;
    return rows < 64 ? 64 : (rows + 7) / 8 * 8;
}

// out (M,OC) = inp (M,C) weight (OC,C)^T + bias (OC, may be NULL)
static inline void linear_forward(float* out, const float* inp, const float* weight, const float* bias, int M, int C,
                                  int OC) {
    int rows = linear_rows(M);
    #pragma omp parallel for schedule(dynamic)
    for (int m = 0; m < M; m += rows) {
        int count = min_int(rows, M - m);
        float* o = out + (size_t)m * OC;
        for (int i = 0; bias && i < count; i++) {
            for (int c = 0; c < OC; c++) { o[(size_t)i * OC + c] = bias[c]; }
        }
        gemm(false, true, count, OC, C, 1, inp + (size_t)m * C, C, weight, C, bias ? 1 : 0, o, OC);
    }
}

// The weight gradient sums over M rows. Its tasks are tiles of OC rows times chunks of the M rows, about 32 of them.
enum { LINEAR_TILE = 192, LINEAR_CHUNK = 256, LINEAR_MAX_CHUNKS = 8, LINEAR_TASKS = 32 };

static inline int linear_tiles(int OC) { return (OC + LINEAR_TILE - 1) / LINEAR_TILE; }

static inline int linear_chunks(int M, int OC) {
    int chunks = min_int(min_int(M / LINEAR_CHUNK, LINEAR_MAX_CHUNKS), LINEAR_TASKS / linear_tiles(OC));
    return chunks < 1 ? 1 : chunks;
}

// One partial gradient a chunk beyond the first: (OC,C) for the weight and (OC) for the bias
static inline size_t linear_backward_scratch(int M, int C, int OC) {
    return (size_t)(linear_chunks(M, OC) - 1) * OC * (C + 1);
}

// One task: dweight (count,C) = keep dweight + dout[rows]^T inp[rows], and dbias (count) likewise with column sums of
// dout
static inline void linear_weight_task(float* dweight, float* dbias, const float* dout, const float* inp, float keep,
                                      int rows, int count, int C, int OC) {
    gemm(true, false, count, C, rows, 1, dout, OC, inp, C, keep, dweight, C);
    if (!dbias) { return; }
    for (int c = 0; keep == 0 && c < count; c++) { dbias[c] = 0; }
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < count; c++) { dbias[c] += dout[(size_t)r * OC + c]; }
    }
}

// The forward line: out = inp weight^T + bias. The first chunk adds straight to the gradient, the others to partial
// gradients that are then added in order.
static inline void linear_backward_weight(float* dweight, float* dbias, const float* dout, const float* inp,
                                          float* scratch, int M, int C, int OC) {
    int chunks = linear_chunks(M, OC), chunk_rows = (M + chunks - 1) / chunks, tiles = linear_tiles(OC);
    size_t partial = (size_t)OC * (C + 1);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < chunks * tiles; task++) {
        int chunk = task / tiles, oc = task % tiles * LINEAR_TILE, m = chunk * chunk_rows;
        float* dw = chunk ? scratch + (chunk - 1) * partial : dweight;
        float* db = chunk ? dw + (size_t)OC * C : dbias;
        linear_weight_task(dw + (size_t)oc * C, dbias ? db + oc : NULL, dout + (size_t)m * OC + oc, inp + (size_t)m * C,
                           chunk ? 0 : 1, min_int(chunk_rows, M - m), min_int(LINEAR_TILE, OC - oc), C, OC);
    }
    #pragma omp parallel for schedule(static)
    for (int oc = 0; oc < OC; oc++) {
        for (int chunk = 1; chunk < chunks; chunk++) {
            const float* dw = scratch + (chunk - 1) * partial;
            for (int c = 0; c < C; c++) { dweight[(size_t)oc * C + c] += dw[(size_t)oc * C + c]; }
            if (dbias) { dbias[oc] += dw[(size_t)OC * C + oc]; }
        }
    }
}

// The forward line: out = inp weight^T + bias.
// dinp (M,C) = dout weight (dinp may be NULL), dweight (OC,C) += dout^T inp, dbias (OC, may be NULL) += column sums of
// dout
static inline void linear_backward(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp,
                                   const float* weight, float* scratch, int M, int C, int OC) {
    int rows = linear_rows(M);
    if (dinp) {
        #pragma omp parallel for schedule(dynamic)
        for (int m = 0; m < M; m += rows) {
            gemm(false, false, min_int(rows, M - m), C, OC, 1, dout + (size_t)m * OC, OC, weight, C, 0,
                 dinp + (size_t)m * C, C);
        }
    }
    linear_backward_weight(dweight, dbias, dout, inp, scratch, M, C, OC);
}
