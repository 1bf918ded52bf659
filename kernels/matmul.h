// Dense products, row-major, single precision, and the linear layer made of them.
//
// gemm() is a single-threaded product: own_gemm() below, in the usual blocked form (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): blocks of op(B) are packed into panels in cache, and a register tile
// walks over the panels and over op(A), which is read in place while that costs less than packing it. A build for
// narrow vectors leaves products to OpenBLAS's sgemm (HAVE_OPENBLAS), which chooses its vector width at run time.
//
// linear_gemm() is that product, or the same with both operands rounded to bf16 (--precision bf16).
//
// The linear layers split their work by shape only and run single-threaded products inside a parallel region, so that
// the bits of every result are the same for any number of threads.
#pragma once
#include "../runtime/thread_memory.h"
#include "lanes.h"
#include "linear_shape.h"
#include <assert.h> // static_assert
#include <stdbool.h>
#include <stddef.h>
#ifdef HAVE_OPENBLAS
#include <cblas.h>
#endif
#ifdef HAVE_DNNL
#include "onednn.h"
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

static inline int min_int(int a, int b) { return a < b ? a : b; }
static inline int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// ---- Threads, for scratch memory of each: results never depend on either number
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

// ---- The register tile: TILE_ROWS x TILE_COLS sums held in vector registers (two vectors wide). clang splits 512-bit
// vectors in half for most processors and would run out of registers, hence the half.
#if !defined(__AVX512F__)
enum { VEC_LANES = LANES, TILE_ROWS = 6 };
#elif defined(__clang__)
enum { VEC_LANES = LANES / 2, TILE_ROWS = 6 };
#else
enum { VEC_LANES = LANES, TILE_ROWS = 12 };
#endif
enum { TILE_COLS = 2 * VEC_LANES };
typedef float Vec __attribute__((vector_size(4 * VEC_LANES), aligned(4), may_alias)); // loads from any float address

// How much of a register tile is computed: all of it, or halves of its rows and columns at the end of a block
typedef struct { int rows, vectors; } TileShape;
#define WHOLE_TILE ((TileShape){TILE_ROWS, 2})
#define HALF_WIDE_TILE ((TileShape){TILE_ROWS, 1})

// The address of x[ahead]. Prefetching past the matrix does no harm, but no pointer may point there.
ALWAYS_INLINE uintptr_t address_ahead(const float* x, size_t ahead) { return (uintptr_t)x + ahead * sizeof *x; }

// What the next tiles read, which this one prefetches: a line for each of its k, step bytes apart, and for each row of
// its result, `jump` bytes on from the row's start. NOTHING_COMING costs nothing.
typedef struct { uintptr_t at; size_t step, jump; } Coming;
#define NOTHING_COMING ((Coming){0, 0, 0})

// sum[r][0] += sum over k < K of a's element (r,k), a[r * a_row + k * a_k], times a vector left[k * TILE_COLS ..];
// sum[r][1] with right. The two vectors are the halves of a panel's row, or in two panels.
ALWAYS_INLINE void register_sums(Vec sum[TILE_ROWS][2], int K, const float* a, size_t a_row, size_t a_k,
                                 const float* left, const float* right, Coming coming, TileShape s) {
    enum { HALF = TILE_ROWS / 2 };
    const float* lower = a + HALF * a_row; // the multiples of a_row up to HALF fit the integer registers
    for (int k = 0; k < K; k++, a += a_k, lower += a_k, left += TILE_COLS, right += TILE_COLS) {
        Vec l = *(const Vec*)left, r = *(const Vec*)right;
        if (coming.at) { __builtin_prefetch((const void*)coming.at); }
        coming.at += coming.step;
        UNROLLED
        for (int i = 0; i < s.rows; i++) {
            float x = i < HALF ? a[i * a_row] : lower[(i - HALF) * a_row];
            sum[i][0] += x * l;
            if (s.vectors == 2) { sum[i][1] += x * r; }
        }
    }
}

// The addend of a product: scale times the numbers at x, whose rows are ld apart (0: the same row for all). With scale
// = 0 x is not read.
typedef struct { const float* x; int ld; float scale; } Addend;

ALWAYS_INLINE Addend addend_at(Addend add, size_t row, size_t column) {
    add.x += row * add.ld + column;
    return add;
}

ALWAYS_INLINE void prefetch_written(float* row, TileShape s) {
    __builtin_prefetch(row, 1);
    if (s.vectors == 2) { __builtin_prefetch(row + VEC_LANES, 1); }
}

// C = alpha sum + add
ALWAYS_INLINE void store_sums(float* C, size_t ldc, Vec sum[TILE_ROWS][2], float alpha, Addend add, TileShape s) {
    UNROLLED
    for (int r = 0; r < s.rows; r++, C += ldc, add.x += add.ld) {
        for (int v = 0; v < s.vectors; v++) {
            Vec c = alpha * sum[r][v];
            if (add.scale != 0) { c += add.scale * *(const Vec*)(add.x + v * VEC_LANES); }
            *(Vec*)(C + v * VEC_LANES) = c;
        }
    }
}

// C (TILE_ROWS, TILE_COLS, or as much of it as s says) = alpha a b + beta C: a's element (r,k) is
// a[r * a_row + k * a_k], b a panel (K, TILE_COLS)
ALWAYS_INLINE void register_tile(float* C, size_t ldc, int K, const float* a, size_t a_row, size_t a_k, const float* b,
                                 float alpha, float beta, TileShape s) {
    Vec sum[TILE_ROWS][2] = {0};
    register_sums(sum, K, a, a_row, a_k, b, b + VEC_LANES, NOTHING_COMING, s);
    store_sums(C, ldc, sum, alpha, (Addend){C, (int)ldc, beta}, s);
}

// The same with prefetching: C = alpha a b + add
ALWAYS_INLINE void register_tile_from_memory(float* C, size_t ldc, int K, const float* a, size_t a_row, size_t a_k,
                                             const float* b, float alpha, Addend add, Coming coming, TileShape s) {
    Vec sum[TILE_ROWS][2] = {0};
    int step = K / s.rows;
    for (int r = 0; r <= s.rows; r++, a += step * a_k, b += step * TILE_COLS) {
        int count = r < s.rows ? step : K - step * s.rows; // one copy of register_sums, for the rest as well
        if (r < s.rows) { prefetch_written(C + r * ldc, s); } // all rows at once would delay a and b
        register_sums(sum, count, a, a_row, a_k, b, b + VEC_LANES, coming, s);
        coming.at += coming.jump;
    }
    store_sums(C, ldc, sum, alpha, add, s);
}

// tile[r][c] += sum over k of a[k][r] b[k][c], c < columns: for panels a (K, TILE_ROWS) and b (K, TILE_COLS)
static inline void tile_product(float* tile, int K, const float* a, const float* b, int columns) {
    if (columns <= VEC_LANES) {
        register_tile(tile, TILE_COLS, K, a, 1, TILE_ROWS, b, 1, 1, HALF_WIDE_TILE);
    } else {
        register_tile(tile, TILE_COLS, K, a, 1, TILE_ROWS, b, 1, 1, WHOLE_TILE);
    }
}

// to (4, width of it) = the transpose of 4 rows of 4 numbers, step apart
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
ALWAYS_INLINE void transpose_four(float* to, int width, const float* x, size_t step) {
    Four a = *(const Four*)x, b = *(const Four*)(x + step), c = *(const Four*)(x + 2 * step);
    Four d = *(const Four*)(x + 3 * step);
    Four ab = SHUFFLE4(a, b, 0, 4, 1, 5), cd = SHUFFLE4(c, d, 0, 4, 1, 5);
    *(Four*)to = SHUFFLE4(ab, cd, 0, 1, 4, 5);
    *(Four*)(to + width) = SHUFFLE4(ab, cd, 2, 3, 6, 7);
    ab = SHUFFLE4(a, b, 2, 6, 3, 7), cd = SHUFFLE4(c, d, 2, 6, 3, 7);
    *(Four*)(to + 2 * width) = SHUFFLE4(ab, cd, 0, 1, 4, 5);
    *(Four*)(to + 3 * width) = SHUFFLE4(ab, cd, 2, 3, 6, 7);
}

// The rows that a panel is copied from are short and far apart, so that later ones are prefetched.
enum { PREFETCH_PACKED = 8 };
ALWAYS_INLINE void prefetch_row(const float* x, size_t ahead) {
    __builtin_prefetch((const void*)address_ahead(x, ahead));
}

// panel (K, width) from x[j * step + k * step_k], j < lanes; the lanes beyond are 0
ALWAYS_INLINE void pack_panel(float* panel, int width, int lanes, int K, const float* x, size_t step, size_t step_k) {
    int k = 0;
    if (lanes == width && step == 1) {
        for (; k < K; k++, panel += width, x += step_k) {
            prefetch_row(x, PREFETCH_PACKED * step_k);
            memcpy(panel, x, width * sizeof *panel);
        }
    } else if (lanes == width && step_k == 1 && width % 4 == 0) {
        for (; k + 4 <= K; k += 4, panel += 4 * width, x += 4) {
            UNROLLED
            for (int j = 0; j < width; j += 4) { transpose_four(panel + j, width, x + j * step, step); }
        }
    }
    for (; k < K; k++, panel += width, x += step_k) {
        for (int j = 0; j < width; j++) { panel[j] = j < lanes ? x[j * step] : 0; }
    }
}

// panels (ceil(count / width), K, width) from x[j * step + k * step_k], j < count
ALWAYS_INLINE void pack_panels(float* panels, int width, int count, int K, const float* x, size_t step, size_t step_k) {
    for (int j = 0; j < count; j += width) {
        pack_panel(panels + (size_t)j * K, width, count - j < width ? count - j : width, K, x + j * step, step, step_k);
    }
}

// C (rows, cols of it) = alpha tile + add
static inline void store_tile(float* C, int ldc, const float* tile, int ldt, int rows, int cols, float alpha,
                              Addend add) {
    for (int r = 0; r < rows; r++, C += ldc, tile += ldt, add.x += add.ld) {
        if (add.scale == 0) {
            for (int c = 0; c < cols; c++) { C[c] = alpha * tile[c]; }
        } else {
            for (int c = 0; c < cols; c++) { C[c] = alpha * tile[c] + add.scale * add.x[c]; }
        }
    }
}

// A block of B and one of A share the second cache level. K is split into equal blocks.
enum { BLOCK_M = 96, BLOCK_N = 256, BLOCK_K = 256, PACKING_REPAYS = 128, CACHE_LINE = 64 };
static_assert(BLOCK_M % TILE_ROWS == 0 && BLOCK_N % TILE_COLS == 0, "blocks are whole tiles");

static inline int block_depth(int K, int most) {
    int blocks = (K + most - 1) / most;
    return blocks ? (K + blocks - 1) / blocks : 1;
}

// A block of op(A): element (m,k) is x[m * row + k * step]. Panels hold its last rows if those do not fill a tile, and
// all of it if `packed`: A's transpose, which would be read across its rows, if there are enough columns.
typedef struct { const float* x; size_t row, step; float* panels; bool packed; } LeftBlock;

// A block of op(B): element (k,n) is x[n * column + k * step]; all of it in panels, which must be filled if `fresh`
typedef struct { const float* x; size_t column, step; float* panels; bool fresh; } RightBlock;

// The panel of the rows from m on
NEVER_INLINE void left_pack(LeftBlock a, int m, int rows, int depth) {
    float* panel = a.panels + (size_t)m * depth;
    if (a.row == 1) {
        pack_panel(panel, TILE_ROWS, rows, depth, a.x + m, 1, a.step);
    } else {
        pack_panel(panel, TILE_ROWS, rows, depth, a.x + m * a.row, a.row, 1);
    }
}

// The panel of the columns from n on
NEVER_INLINE void right_pack(RightBlock b, int n, int columns, int depth) {
    float* panel = b.panels + (size_t)n * depth;
    if (b.column == 1) {
        pack_panel(panel, TILE_COLS, columns, depth, b.x + n, 1, b.step);
    } else {
        pack_panel(panel, TILE_COLS, columns, depth, b.x + n * b.column, b.column, 1);
    }
}

// TILE_ROWS rows from x[ahead] on, ld apart
static inline Coming coming_rows(const float* x, size_t ahead, size_t ld) {
    return (Coming){address_ahead(x, ahead), CACHE_LINE, ld * sizeof *x};
}

// One line of each of depth rows from x[ahead] on, ld apart
static inline Coming coming_lines(const float* x, size_t ahead, size_t ld, int depth) {
    return (Coming){address_ahead(x, ahead), ld * sizeof *x, depth / TILE_ROWS * ld * sizeof *x};
}

// Prefetched while the tile (m,n) is computed: in the first column the next rows of A, in all columns the ones packed
// next, of which each of the first tiles takes a part
static inline Coming block_coming(LeftBlock a, RightBlock b, int m, int n, int rows, int cols, int depth) {
    int line = m / TILE_ROWS * (CACHE_LINE / (int)sizeof(float)), next = n + TILE_COLS;
    if (n == 0 && a.packed && m + TILE_ROWS < rows) { return coming_lines(a.x, m + 2 * TILE_ROWS - 1, a.step, depth); }
    if (n == 0 && a.step == 1) { return coming_rows(a.x, (m + TILE_ROWS) * a.row, a.row); }
    if (b.fresh && next < cols) {
        if (b.column == 1 && line < TILE_COLS) { return coming_lines(b.x, next + line, b.step, depth); }
        if (b.step == 1 && m < TILE_COLS) { return coming_rows(b.x, (next + m) * b.column, b.column); }
    }
    return (Coming){(uintptr_t)b.panels, 0, 0}; // which is in cache already
}

// A tile of C, m rows down the block
ALWAYS_INLINE void block_tile(float* C, int ldc, LeftBlock a, int m, int depth, const float* b, float alpha, Addend add,
                              Coming coming, TileShape s) {
    if (a.packed || a.row == 1) { // a column of it is contiguous
        const float* left = a.packed ? a.panels + (size_t)m * depth : a.x + m;
        register_tile_from_memory(C, ldc, depth, left, 1, a.packed ? TILE_ROWS : a.step, b, alpha, add, coming, s);
    } else {
        register_tile_from_memory(C, ldc, depth, a.x + m * a.row, a.row, 1, b, alpha, add, coming, s);
    }
}

// At the end of a block of C, fewer rows or columns than a tile has: from panels padded with zeros. Rare enough for all
// layouts of a to share their code.
NEVER_INLINE void last_tile(float* C, int ldc, LeftBlock a, int m, int rows, int cols, int depth, const float* b,
                            float alpha, Addend add) {
    enum { HALF = TILE_ROWS / 2 };
    float tile[TILE_ROWS * TILE_COLS] __attribute__((aligned(64)));
    bool packed = a.packed || rows < TILE_ROWS;
    const float* left = packed ? a.panels + (size_t)m * depth : a.x + m * a.row;
    size_t row = packed ? 1 : a.row, step = packed ? TILE_ROWS : a.step;
    if (rows > HALF && cols > VEC_LANES) {
        register_tile(tile, TILE_COLS, depth, left, row, step, b, 1, 0, WHOLE_TILE);
    } else if (rows > HALF) {
        register_tile(tile, TILE_COLS, depth, left, row, step, b, 1, 0, HALF_WIDE_TILE);
    } else if (cols > VEC_LANES) {
        register_tile(tile, TILE_COLS, depth, left, row, step, b, 1, 0, (TileShape){HALF, 2});
    } else {
        register_tile(tile, TILE_COLS, depth, left, row, step, b, 1, 0, (TileShape){HALF, 1});
    }
    store_tile(C, ldc, tile, TILE_COLS, rows, cols, alpha, add);
}

// C (rows, cols) = alpha a b + add. Panels are filled when the first tile needs them: by then their lines have been
// prefetched.
static inline void block_product(float* C, int ldc, LeftBlock a, RightBlock b, int rows, int cols, int depth,
                                 float alpha, Addend add) {
    for (int n = 0; n < cols; n += TILE_COLS) {
        int width = min_int(TILE_COLS, cols - n);
        const float* panel = b.panels + (size_t)n * depth;
        if (b.fresh) { right_pack(b, n, width, depth); }
        for (int m = 0; m < rows; m += TILE_ROWS) {
            int height = min_int(TILE_ROWS, rows - m);
            float* c = C + (size_t)m * ldc + n;
            if (n == 0 && (a.packed || height < TILE_ROWS)) { left_pack(a, m, height, depth); }
            if (height == TILE_ROWS && width == TILE_COLS) {
                block_tile(c, ldc, a, m, depth, panel, alpha, addend_at(add, m, n),
                           block_coming(a, b, m, n, rows, cols, depth), WHOLE_TILE);
            } else {
                last_tile(c, ldc, a, m, height, width, depth, panel, alpha, addend_at(add, m, n));
            }
        }
    }
}

typedef struct { float a[BLOCK_M * BLOCK_K], b[BLOCK_N * BLOCK_K]; } GemmPanels;

static inline GemmPanels* gemm_panels(void) { // the calling thread's
    static ThreadMemory kind;
    static _Thread_local GemmPanels* own;
    if (!own) { own = (GemmPanels*)thread_memory(&kind, sizeof *own, "a thread's part of matrix products"); }
    return own;
}

// C = alpha op(A) op(B) + add: op(A) (M,K), op(B) (K,N), C (M,N)
NEVER_INLINE void own_gemm_added(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                                 int lda, const float* B, int ldb, Addend add, float* C, int ldc) {
    GemmPanels* panels = gemm_panels();
    LeftBlock a = {.row = transpose_a ? 1 : lda, .step = transpose_a ? lda : 1, .panels = panels->a,
                   .packed = transpose_a && N > PACKING_REPAYS};
    RightBlock b = {.column = transpose_b ? ldb : 1, .step = transpose_b ? 1 : ldb, .panels = panels->b};
    for (int n0 = 0; n0 < N; n0 += BLOCK_N) {
        int cols = min_int(BLOCK_N, N - n0);
        for (int k0 = 0, depth = block_depth(K, BLOCK_K); k0 < K; k0 += depth) {
            int rest = min_int(depth, K - k0);
            b.x = B + n0 * b.column + k0 * b.step;
            for (int m0 = 0; m0 < M; m0 += BLOCK_M) {
                a.x = A + m0 * a.row + k0 * a.step;
                b.fresh = m0 == 0;
                block_product(C + (size_t)m0 * ldc + n0, ldc, a, b, min_int(BLOCK_M, M - m0), cols, rest, alpha,
                              addend_at(k0 ? (Addend){C, ldc, 1} : add, m0, n0));
            }
        }
    }
}

// C = alpha op(A) op(B) + beta C
static inline void own_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                            int lda, const float* B, int ldb, float beta, float* C, int ldc) {
    own_gemm_added(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, (Addend){C, ldc, beta}, C, ldc);
}

// ---- The single-threaded product: the library's only if it uses wider vectors than this program was compiled for.
enum { OWN_PRODUCTS = VEC_LANES >= 8 };

#ifdef HAVE_OPENBLAS
static inline void library_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                                int lda, const float* B, int ldb, float beta, float* C, int ldc) {
#ifdef _OPENMP // outside of a parallel region OpenBLAS takes all of OpenMP's threads, whatever it was told
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
    if (!OWN_PRODUCTS) {
        library_gemm(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
        return;
    }
#endif
    own_gemm(transpose_a, transpose_b, M, N, K, alpha, A, lda, B, ldb, beta, C, ldc);
}

// Before the first product. OpenBLAS's OpenMP build is kept to one thread by library_gemm.
static inline void matmul_init(void) {
#ifdef HAVE_OPENBLAS
    enum { OPENMP_FLAVOUR = 2 };
    if (openblas_get_parallel() != OPENMP_FLAVOUR) { openblas_set_num_threads(1); }
#endif
}

static inline const char* matmul_library(void) {
#ifdef HAVE_OPENBLAS
    if (!OWN_PRODUCTS) { return openblas_get_config(); }
#endif
    return "own loops";
}

// ---- Products of the linear layers. --precision bf16 rounds their operands to 8 significant bits when they are read;
// fp32 holds the products of such numbers exactly and accumulates them, and stored results stay fp32. oneDNN computes
// them if the processor has a bf16 unit; otherwise the rounded operands go through gemm, no faster than fp32 ones.
typedef uint16_t Bf16;
static struct { bool on, by_onednn; } bf16_products;

// The nearest bf16, ties to even; NaN stays NaN
ALWAYS_INLINE Bf16 bf16_from_float(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet_nan = bits >> 16 | 0x40;
    return (Bf16)(x == x ? nearest : quiet_nan);
}

ALWAYS_INLINE float float_from_bf16(Bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Rounds n values as storing them as bf16 would.
static inline void round_to_bf16(float* x, size_t n) {
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) { x[i] = float_from_bf16(bf16_from_float(x[i])); }
}

// For every linear layer from now on; called outside of parallel regions
static inline void linear_use_bf16(bool on) {
    bf16_products.on = on;
#ifdef HAVE_DNNL
    bf16_products.by_onednn = on && onednn_init() && onednn_has_bf16_unit();
#endif
}

static inline const char* linear_bf16_unit(void) {
    if (bf16_products.by_onednn) { return "products by oneDNN, on this processor's bf16 unit"; }
    return "no faster than fp32: no bf16 unit here (avx512_bf16 or AMX), or no oneDNN in this build";
}

enum { BF16_M = 192, BF16_N = 192, BF16_K = 384 };

// to (rows, columns), contiguous, from rows of x that are ld apart
NEVER_INLINE void bf16_block(Bf16* to, const float* x, int ld, int rows, int columns) {
    for (int r = 0; r < rows; r++, to += columns, x += ld) {
        for (int c = 0; c < columns; c++) { to[c] = bf16_from_float(x[c]); }
    }
}

typedef struct {
    Bf16 a[BF16_M * BF16_K], b[BF16_N * BF16_K];
    float wide_a[BF16_M * BF16_K], wide_b[BF16_N * BF16_K]; // for gemm
    float out[BF16_M * BF16_N];
} Bf16Blocks;

static inline Bf16Blocks* bf16_blocks(void) { // the calling thread's
    static ThreadMemory kind;
    static _Thread_local Bf16Blocks* own;
    if (!own) { own = (Bf16Blocks*)thread_memory(&kind, sizeof *own, "a thread's part of bf16 products"); }
    return own;
}

// out (M,N) = op(a) op(b) of the blocks, all contiguous
static inline void bf16_block_product(Bf16Blocks* blocks, bool transpose_a, bool transpose_b, int M, int N, int K) {
#ifdef HAVE_DNNL
    OnednnShape shape = {transpose_a, transpose_b, M, N, K, dnnl_bf16};
    if (bf16_products.by_onednn && onednn_product(blocks->out, blocks->a, blocks->b, shape)) { return; }
#endif
    for (int i = 0; i < M * K; i++) { blocks->wide_a[i] = float_from_bf16(blocks->a[i]); }
    for (int i = 0; i < N * K; i++) { blocks->wide_b[i] = float_from_bf16(blocks->b[i]); }
    gemm(transpose_a, transpose_b, M, N, K, 1, blocks->wide_a, transpose_a ? M : K, blocks->wide_b, transpose_b ? K : N,
         0, blocks->out, N);
}

// gemm of rounded operands: a block of B is kept for all blocks of A
NEVER_INLINE void bf16_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, float alpha, const float* A,
                            int lda, const float* B, int ldb, float beta, float* C, int ldc) {
    Bf16Blocks* blocks = bf16_blocks();
    for (int n = 0; n < N; n += BF16_N) {
        int columns = min_int(BF16_N, N - n);
        for (int k = 0, most = block_depth(K, BF16_K); k < K; k += most) {
            int depth = min_int(most, K - k);
            if (transpose_b) {
                bf16_block(blocks->b, B + (size_t)n * ldb + k, ldb, columns, depth);
            } else {
                bf16_block(blocks->b, B + (size_t)k * ldb + n, ldb, depth, columns);
            }
            for (int m = 0; m < M; m += BF16_M) {
                int rows = min_int(BF16_M, M - m);
                if (transpose_a) {
                    bf16_block(blocks->a, A + (size_t)k * lda + m, lda, depth, rows);
                } else {
                    bf16_block(blocks->a, A + (size_t)m * lda + k, lda, rows, depth);
                }
                bf16_block_product(blocks, transpose_a, transpose_b, rows, columns, depth);
                float* c = C + (size_t)m * ldc + n;
                store_tile(c, ldc, blocks->out, columns, rows, columns, alpha, (Addend){c, ldc, k ? 1 : beta});
            }
        }
    }
}

static inline void linear_gemm(bool transpose_a, bool transpose_b, int M, int N, int K, const float* A, int lda,
                               const float* B, int ldb, float beta, float* C, int ldc) {
    if (bf16_products.on) {
        bf16_gemm(transpose_a, transpose_b, M, N, K, 1, A, lda, B, ldb, beta, C, ldc);
    } else {
        gemm(transpose_a, transpose_b, M, N, K, 1, A, lda, B, ldb, beta, C, ldc);
    }
}

// C (M,N) = A (M,K) B (N,K)^T + bias (N, may be NULL)
static inline void linear_gemm_biased(int M, int N, int K, const float* A, int lda, const float* B, int ldb,
                                      const float* bias, float* C, int ldc) {
    if (OWN_PRODUCTS && !bf16_products.on) {
        own_gemm_added(false, true, M, N, K, 1, A, lda, B, ldb, (Addend){bias, 0, bias ? 1 : 0}, C, ldc);
        return;
    }
    for (int m = 0; bias && m < M; m++) { memcpy(C + (size_t)m * ldc, bias, N * sizeof *C); }
    linear_gemm(false, true, M, N, K, A, lda, B, ldb, bias ? 1 : 0, C, ldc);
}

// ---- The linear layer
// Rows per task for callers that split by rows only: enough tasks to balance 2 to 16 threads, enough rows for each to
// repay packing the weight again.
static inline int linear_rows(int M) {
    int rows = (M + 31) / 32;
    return rows < 64 ? 64 : (rows + 7) / 8 * 8;
}

// A task of the linear layer is LINEAR_TILE columns of the result by a part of its rows: about LINEAR_TASKS tasks, but
// at most LINEAR_PARTS parts, since every task packs its columns of the weight again.
enum { LINEAR_TILE = 96, LINEAR_PARTS = 8, LINEAR_TASKS = 32 };

static inline int linear_tiles(int columns) { return (columns + LINEAR_TILE - 1) / LINEAR_TILE; }

static inline int linear_part(int M, int tiles) {
    int parts = tiles < LINEAR_TASKS ? min_int(LINEAR_PARTS, LINEAR_TASKS / tiles) : 1;
    int rows = round_up((M + parts - 1) / parts, TILE_ROWS);
    return rows < BLOCK_M ? BLOCK_M : rows;
}

// out (M,OC) = inp (M,C) weight (OC,C)^T + bias (OC, may be NULL)
static inline void linear_forward_strided(float* out, const float* inp, const float* weight, const float* bias,
                                          LinearShape s) {
    int tiles = linear_tiles(s.OC), part = linear_part(s.rows, tiles), tasks = (s.rows + part - 1) / part * tiles;
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < tasks; task++) {
        int m = task / tiles * part, oc = task % tiles * LINEAR_TILE;
        int rows = min_int(part, s.rows - m), columns = min_int(LINEAR_TILE, s.OC - oc);
        linear_gemm_biased(rows, columns, s.C, inp + (size_t)m * s.ld_inp, s.ld_inp, weight + (size_t)oc * s.C, s.C,
                           bias ? bias + oc : NULL, out + (size_t)m * s.ld_out + oc, s.ld_out);
    }
}

static inline void linear_forward(float* out, const float* inp, const float* weight, const float* bias, int M, int C,
                                  int OC) {
    linear_forward_strided(out, inp, weight, bias, (LinearShape){M, C, OC, C, OC});
}

// The forward line: out = inp weight^T + bias. dinp (M,C) = keep dinp + dout weight
static inline void linear_backward_input_strided(float* dinp, float keep, const float* dout, const float* weight,
                                                 LinearShape s) {
    int tiles = linear_tiles(s.C), part = linear_part(s.rows, tiles), tasks = (s.rows + part - 1) / part * tiles;
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < tasks; task++) {
        int m = task / tiles * part, c = task % tiles * LINEAR_TILE;
        linear_gemm(false, false, min_int(part, s.rows - m), min_int(LINEAR_TILE, s.C - c), s.OC,
                    dout + (size_t)m * s.ld_out, s.ld_out, weight + c, s.C, keep, dinp + (size_t)m * s.ld_inp + c,
                    s.ld_inp);
    }
}

static inline void linear_backward_input(float* dinp, float keep, const float* dout, const float* weight, int M, int C,
                                         int OC) {
    linear_backward_input_strided(dinp, keep, dout, weight, (LinearShape){M, C, OC, C, OC});
}

// The weight gradient sums over M rows. Its tasks are tiles of OC rows by chunks of the M rows, about 32 of them.
enum { LINEAR_CHUNK = 256, LINEAR_MAX_CHUNKS = 8, LINEAR_WEIGHT_TILE = 192 };

static inline int linear_weight_tiles(int OC) { return (OC + LINEAR_WEIGHT_TILE - 1) / LINEAR_WEIGHT_TILE; }

static inline int linear_chunks(int M, int OC) {
    int chunks = min_int(min_int(M / LINEAR_CHUNK, LINEAR_MAX_CHUNKS), LINEAR_TASKS / linear_weight_tiles(OC));
    return chunks < 1 ? 1 : chunks;
}

// One partial gradient per chunk after the first: (OC,C) for the weight and (OC) for the bias
static inline size_t linear_backward_scratch(int M, int C, int OC) {
    return (size_t)(linear_chunks(M, OC) - 1) * OC * (C + 1);
}

// One task: dweight (count,C) = keep dweight + dout[rows]^T inp[rows], and dbias (count) likewise with column sums of
// dout
static inline void linear_weight_task(float* dweight, float* dbias, const float* dout, const float* inp, float keep,
                                      int rows, int count, LinearShape s) {
    linear_gemm(true, false, count, s.C, rows, dout, s.ld_out, inp, s.ld_inp, keep, dweight, s.C);
    if (!dbias) { return; }
    for (int c = 0; keep == 0 && c < count; c++) { dbias[c] = 0; }
    for (int r = 0; r < rows; r++) {
        for (int c = 0; c < count; c++) { dbias[c] += dout[(size_t)r * s.ld_out + c]; }
    }
}

// The forward line: out = inp weight^T + bias. The first chunk adds directly to the gradient, the others to partial
// gradients, which are then added in order.
static inline void linear_backward_weight_strided(float* dweight, float* dbias, const float* dout, const float* inp,
                                                  float* scratch, LinearShape s) {
    int M = s.rows, C = s.C, OC = s.OC, tiles = linear_weight_tiles(OC);
    int chunks = linear_chunks(M, OC), chunk_rows = (M + chunks - 1) / chunks;
    size_t partial = (size_t)OC * (C + 1);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < chunks * tiles; task++) {
        int chunk = task / tiles, oc = task % tiles * LINEAR_WEIGHT_TILE, m = chunk * chunk_rows;
        float* dw = chunk ? scratch + (chunk - 1) * partial : dweight;
        float* db = chunk ? dw + (size_t)OC * C : dbias;
        linear_weight_task(dw + (size_t)oc * C, dbias ? db + oc : NULL, dout + (size_t)m * s.ld_out + oc,
                           inp + (size_t)m * s.ld_inp, chunk ? 0 : 1, min_int(chunk_rows, M - m),
                           min_int(LINEAR_WEIGHT_TILE, OC - oc), s);
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

static inline void linear_backward_weight(float* dweight, float* dbias, const float* dout, const float* inp,
                                          float* scratch, int M, int C, int OC) {
    linear_backward_weight_strided(dweight, dbias, dout, inp, scratch, (LinearShape){M, C, OC, C, OC});
}

// The forward line: out = inp weight^T + bias.
// dinp (M,C) = keep dinp + dout weight (dinp may be NULL), dweight (OC,C) += dout^T inp, dbias (OC, may be NULL) +=
// column sums of dout
static inline void linear_backward_strided(float* dinp, float keep, float* dweight, float* dbias, const float* dout,
                                           const float* inp, const float* weight, float* scratch, LinearShape s) {
    if (dinp) { linear_backward_input_strided(dinp, keep, dout, weight, s); }
    linear_backward_weight_strided(dweight, dbias, dout, inp, scratch, s);
}

// dinp (M,C) = dout weight
static inline void linear_backward(float* dinp, float* dweight, float* dbias, const float* dout, const float* inp,
                                   const float* weight, float* scratch, int M, int C, int OC) {
    linear_backward_strided(dinp, 0, dweight, dbias, dout, inp, weight, scratch, (LinearShape){M, C, OC, C, OC});
}
