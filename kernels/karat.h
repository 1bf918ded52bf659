// Kolmogorov-Arnold attention, KArAt (Maity et al., arXiv 2503.10632), in every basis of basis.h. For each sample and
// head softmax over the rows of A = Q K^T / sqrt(D) is replaced by a learned operator, the same for every row k:
//     z_kp = sum_q phi_pq(A_kq)                        p = 1..R, each phi_pq its own function
//     phi_pq(x) = scale_base_pq b(x) + scale_basis_pq (sum_m c_pmq e_m(x), or a unit of its own parameters)
//     sigma_kn = sum_p W_np z_kp + beta_n              out_k = sum_n sigma_kn V_n
// By associativity out = z U + 1 (beta^T V) with U = W^T V (R,D): sigma is never formed. Units are evaluated one by one
// in karat_units.h. If phi is linear in its coefficients (fourier: e_m = cos(mx), sin(mx)), the scales are folded into
// them once per call, so that with M features e_m of every logit (and b(x)),
//     z = features(A) C,  C (M N, R)
// is a matrix product. It runs on register tiles (matmul.h), tile by tile: neither A nor its features are kept; the
// forward saves z (B,H,NQ,R), and the backward recomputes both. Rows k are those of the first NQ tokens.
//
// Tiles are KARAT_ROWS rows by TILE_COLS lanes. The forward has rows of q and lanes of k, so that z is a sum over rows;
// the backward has rows of k and lanes of q, so that the gradient of C is. Gradients of the operator are summed over
// the batch in up to KARAT_SLOTS slots, each a fixed set of samples, and the slots in order: no result depends on the
// number of threads.
#pragma once
#include "karat_regions.h"
#include "karat_sigma.h"
#include "window_bias.h"
#include "window_rows.h"
#include <assert.h> // static_assert

enum { KARAT_ROWS = 48, KARAT_SLOTS = 8 };
static_assert(KARAT_ROWS % TILE_ROWS == 0, "a tile of logits is a whole number of register tiles");

static inline int karat_slots(KaratDims d) { return min_int(d.B, KARAT_SLOTS); }

// ---- Folded coefficients of the inner operator

// For the forward, one head: for each tile of rows q, panels over p of (M, rows, TILE_ROWS), the left factors of z
static inline size_t karat_row_coefs(KaratDims d) {
    return (size_t)karat_features_count(d) * round_up(d.N, TILE_ROWS) * round_up(d.R, TILE_ROWS);
}

static inline void karat_pack_rows(float* to, KaratOperator w, KaratDims d, int h) {
    int M = karat_features_count(d), padded = round_up(d.N, TILE_ROWS);
    for (int q0 = 0; q0 < padded; q0 += KARAT_ROWS) {
        int end = min_int(q0 + KARAT_ROWS, padded);
        for (int p0 = 0; p0 < d.R; p0 += TILE_ROWS) {
            for (int m = 0; m < M; m++) {
                for (int q = q0; q < end; q++) {
                    for (int p = p0; p < p0 + TILE_ROWS; p++) {
                        *to++ = q < d.N && p < d.R ? karat_coefficient(w, d, h, m, q, p) : 0;
                    }
                }
            }
        }
    }
}

// For the backward, one head: for each panel of lanes q, (M, R rounded up, TILE_COLS). The gradient has the same
// layout.
static inline size_t karat_lane_coefs(KaratDims d) {
    return (size_t)karat_features_count(d) * round_up(d.R, TILE_ROWS) * round_up(d.N, TILE_COLS);
}

static inline size_t karat_lane_index(KaratDims d, int m, int q, int p) {
    size_t panel = q / TILE_COLS, row = (panel * karat_features_count(d) + m) * round_up(d.R, TILE_ROWS) + p;
    return row * TILE_COLS + q % TILE_COLS;
}

static inline void karat_pack_lanes(float* to, KaratOperator w, KaratDims d, int h) {
    memset(to, 0, karat_lane_coefs(d) * sizeof *to);
    for (int m = 0; m < karat_features_count(d); m++) {
        for (int p = 0; p < d.R; p++) {
            for (int q = 0; q < d.N; q++) { to[karat_lane_index(d, m, q, p)] = karat_coefficient(w, d, h, m, q, p); }
        }
    }
}

// For either form of basis: floats per head of the coefficients as each direction reads them
static inline size_t karat_forward_coefs(KaratDims d) {
    if (!karat_has_inner(d)) { return 0; }
    return basis_is_linear(d.basis) ? karat_row_coefs(d) : karat_units_coefs(d);
}

static inline size_t karat_backward_coefs(KaratDims d) {
    if (!karat_has_inner(d)) { return 0; }
    return basis_is_linear(d.basis) ? karat_lane_coefs(d) : karat_units_coefs(d);
}

// ---- Scratch

// Columns of dA that are kept for the products with K and Q: whole panels of lanes; all of them if dA leaves space in
// the second cache level, and at least 96
static inline int karat_columns(int N) {
    int room = 48 * 1024 / N;
    return min_int(round_up(N, TILE_COLS), (room > 96 ? room : 96) / TILE_COLS * TILE_COLS);
}

typedef struct {                // of one thread
    const float* rows;          // K (forward) or Q (backward), 3C apart; in last_rows (TILE_ROWS,D) those behind the
    float *last_rows;           // last whole register tile, and zeros
    int row_count;              // N or NQ
    float *lane_panels;         // Q (forward) or K (backward), (N rounded up, D), in panels of TILE_COLS lanes
    float *x;                   // a tile: logits (KARAT_ROWS, TILE_COLS)
    float *features, *slopes;   // and features (M, KARAT_ROWS, TILE_COLS), their derivatives
    float *z;                   // of one panel of lanes k, transposed: (R rounded up, TILE_COLS)
    float *dz, *dz_p;           // (NQ rounded up, R); in panels of TILE_ROWS p (R rounded up, NQ)
    float *U, *dU, *row;        // (R,D), (R,D), (D)
    float *dA;                  // (NQ rounded up, karat_columns)
    KaratUnitsWork units;       // of the per-unit form, in place of the tile and of what it is made from
    float *z_used, *dz_used;    // the projections of z, their gradients (NQ,R)
    KaratSigmaWork sigma;       // where sigma is formed or z projected
    const float *bias, *meet;   // of the window at hand, by the tiles' rows and lanes: what is added to its logits, and
    int kind;                   // which of them its regions let meet. NULL: nothing, and all
    KaratRegionsWork regions;
    float *qkv, *dqkv;          // its rows of one head, gathered: (N,3,D)
    float *out, *dout;          // (N,D)
} KaratWork;

// Cuts a thread's scratch from base (NULL: only counts); returns its size in floats
static inline size_t karat_work(KaratWork* w, float* base, KaratDims d) {
    size_t D = d.D, tile = KARAT_ROWS * TILE_COLS, R_padded = round_up(d.R, TILE_ROWS);
    size_t NQ_rows = round_up(d.NQ, TILE_ROWS), N_lanes = round_up(d.N, TILE_COLS), at = 0;
    *w = (KaratWork){0};
    at = karat_take(&w->dz, base, at, NQ_rows * d.R);
    at = karat_take(&w->U, base, at, d.R * D);
    at = karat_take(&w->dU, base, at, d.R * D);
    at = karat_take(&w->row, base, at, D);
    at = karat_take(&w->z_used, base, at, d.project_z ? (size_t)d.NQ * d.R : 0);
    at = karat_take(&w->dz_used, base, at, d.project_z ? (size_t)d.NQ * d.R : 0);
    at = karat_sigma_work(&w->sigma, base, at, d);
    at = karat_regions_work(&w->regions, base, at, d);
    at = karat_take(&w->qkv, base, at, karat_in_windows(d) ? 3 * d.N * D : 0);
    at = karat_take(&w->dqkv, base, at, karat_in_windows(d) ? 3 * d.N * D : 0);
    at = karat_take(&w->out, base, at, karat_in_windows(d) ? d.N * D : 0);
    at = karat_take(&w->dout, base, at, karat_in_windows(d) ? d.N * D : 0);
    if (!karat_has_inner(d)) { return at; }
    if (!basis_is_linear(d.basis)) { return karat_units_work(&w->units, base, at, d); }
    at = karat_take(&w->last_rows, base, at, TILE_ROWS * D);
    at = karat_take(&w->lane_panels, base, at, N_lanes * D);
    at = karat_take(&w->x, base, at, tile);
    at = karat_take(&w->features, base, at, karat_features_count(d) * tile);
    at = karat_take(&w->slopes, base, at, d.basis == BASIS_FOURIER ? 0 : karat_coefficients(d) * tile);
    at = karat_take(&w->z, base, at, R_padded * TILE_COLS);
    at = karat_take(&w->dz_p, base, at, R_padded * d.NQ);
    return karat_take(&w->dA, base, at, NQ_rows * karat_columns(d.N));
}

// One (head, slot)'s gradients: of the folded coefficients, inner and outer, of W (N,R), of beta (N) and of the logits'
// bias
static inline size_t karat_slot_size(KaratDims d) {
    return karat_backward_coefs(d) + karat_outer_coefs(d) + (size_t)d.N * d.R + d.N + karat_bias_size(d);
}

typedef struct {                         // the workspace, cut
    float *inner, *outer, *works, *slots;
    float *bias, *meet;                  // (kinds,H) and (kinds) of karat_bias_size
    size_t coefs, outer_coefs, work;     // floats of one head's, of one thread's
} KaratScratch;

// coefs: karat_forward_coefs or karat_backward_coefs, whose layouts differ
static inline KaratScratch karat_scratch_cut(float* scratch, size_t coefs, KaratDims d) {
    KaratWork unused;
    KaratScratch s = {.inner = scratch, .coefs = coefs, .outer_coefs = karat_outer_coefs(d),
                      .work = karat_work(&unused, NULL, d)};
    s.outer = s.inner + d.H * coefs;
    s.works = s.outer + d.H * s.outer_coefs;
    s.bias = s.works + max_threads() * s.work;
    s.meet = s.bias + window_kinds(d.windows) * d.H * karat_bias_size(d);
    s.slots = s.meet + (karat_has_regions(d) ? WINDOW_KINDS * karat_bias_size(d) : 0);
    return s;
}

static inline size_t karat_scratch(KaratDims d) {
    KaratWork unused;
    size_t forward = karat_forward_coefs(d), backward = karat_backward_coefs(d);
    size_t coefs = (forward > backward ? forward : backward) + karat_outer_coefs(d);
    size_t bias = (window_kinds(d.windows) * d.H + (karat_has_regions(d) ? WINDOW_KINDS : 0)) * karat_bias_size(d);
    return d.H * coefs + bias + max_threads() * karat_work(&unused, NULL, d) +
           d.H * karat_slots(d) * karat_slot_size(d);
}

typedef void (*KaratFold)(float* to, KaratOperator w, KaratDims d, int h);

static inline void karat_fold(KaratScratch s, KaratParams params, KaratFold fold_inner, KaratDims d) {
    #pragma omp parallel for schedule(dynamic)
    for (int h = 0; h < d.H; h++) {
        if (karat_has_inner(d)) { fold_inner(s.inner + h * s.coefs, params.inner, d, h); }
        if (karat_has_outer(d)) { karat_outer_fold(s.outer + h * s.outer_coefs, params.outer, d, h); }
    }
}

static inline KaratHead karat_head(KaratScratch s, KaratParams params, KaratDims d, int h) {
    const float* W = karat_has_weight(d) ? params.proj_weight + (size_t)h * d.N * d.R : NULL;
    return (KaratHead){s.inner + h * s.coefs, s.outer + h * s.outer_coefs, W, params.proj_bias};
}

// ---- Tiles

// Sets the rows of the next logits: x (count,D), 3C apart
static inline void karat_set_rows(KaratWork* w, const float* x, int count, KaratDims d) {
    int whole = count / TILE_ROWS * TILE_ROWS;
    w->rows = x;
    w->row_count = count;
    memset(w->last_rows, 0, (size_t)TILE_ROWS * d.D * sizeof(float));
    for (int r = whole; r < count; r++) {
        memcpy(w->last_rows + (size_t)(r - whole) * d.D, x + (size_t)r * 3 * d.C, d.D * sizeof(float));
    }
}

// Lanes of the panel from first on that are wanted. Bases other than fourier, whose features are not those of every
// number that may have been left in the others, take them all.
static inline int karat_lanes(int first, int count, KaratDims d) {
    return d.basis == BASIS_FOURIER ? min_int(TILE_COLS, count - first) : TILE_COLS;
}

// x (rows, TILE_COLS) = the products of the rows from first on with the lanes of a panel, / sqrt(D) + beta x
ALWAYS_INLINE void karat_products(KaratWork w, int first, const float* lane_panel, int lanes, int rows, float beta,
                                  KaratDims d) {
    float scale = 1 / sqrtf(d.D), *x = w.x;
    for (int r = 0; r < rows; r += TILE_ROWS, x += TILE_ROWS * TILE_COLS) {
        bool whole = first + r + TILE_ROWS <= w.row_count;
        size_t step = whole ? 3 * (size_t)d.C : (size_t)d.D;
        const float* a = whole ? w.rows + (first + r) * step : w.last_rows;
        if (lanes <= VEC_LANES) {
            register_tile(x, TILE_COLS, d.D, a, step, 1, lane_panel, scale, beta, HALF_WIDE_TILE);
        } else {
            register_tile(x, TILE_COLS, d.D, a, step, 1, lane_panel, scale, beta, WHOLE_TILE);
        }
    }
}

// The logits of a tile: in windows with their bias
static inline void karat_logits(KaratWork w, int first, int first_lane, int lanes, int rows, KaratDims d) {
    const float* lane_panel = w.lane_panels + (size_t)first_lane * d.D;
    if (!w.bias) {
        karat_products(w, first, lane_panel, lanes, rows, 0, d);
        return;
    }
    for (int r = 0; r < rows; r++) {
        const float* bias = w.bias + (size_t)(first + r) * karat_bias_ld(d) + first_lane;
        memcpy(w.x + r * TILE_COLS, bias, TILE_COLS * sizeof *bias);
    }
    karat_products(w, first, lane_panel, lanes, rows, 1, d);
}

// cos(mx) and sin(mx) as basis_harmonics has them; a vector at a time, so that what m + 1 needs of m stays in registers
static inline void karat_harmonics(float* features, const float* x, int count, int G) {
    float *cosines = features, *sines = features + G * count;
    #pragma omp simd
    for (int i = 0; i < count; i++) { vm_sincos(x[i], &sines[i], &cosines[i]); }
    for (int i = 0; i < count; i += VEC_LANES) {
        Vec c1 = *(const Vec*)(cosines + i), s1 = *(const Vec*)(sines + i), c = c1, s = s1;
        for (int m = 1; m < G; m++) {
            Vec next = c * c1 - s * s1;
            s = s * c1 + c * s1;
            c = next;
            *(Vec*)(cosines + m * count + i) = c;
            *(Vec*)(sines + m * count + i) = s;
        }
    }
}

// x (rows, TILE_COLS), ld apart, is 0 where its rows first.. and lanes may not meet
static inline void karat_keep_met(float* x, int ld, const float* meet, int first, int first_lane, int rows,
                                  KaratDims d) {
    for (int r = 0; r < rows; r++) {
        const float* row = meet + (size_t)(first + r) * karat_bias_ld(d) + first_lane;
        for (int lane = 0; lane < TILE_COLS; lane++) { x[(size_t)r * ld + lane] *= row[lane]; }
    }
}

// The tile's logits and features, rows of q0.. or k0.. on; returns its number of rows, a whole number of TILE_ROWS
static inline int karat_tile(KaratWork w, int first_row, int first_lane, int lanes, KaratDims d) {
    int rows = round_up(min_int(KARAT_ROWS, w.row_count - first_row), TILE_ROWS);
    karat_logits(w, first_row, first_lane, lanes, rows, d);
    if (d.basis == BASIS_FOURIER) {
        karat_harmonics(w.features, w.x, rows * TILE_COLS, d.G);
    } else {
        basis_features(w.features, w.x, rows * TILE_COLS, karat_basis(d));
    }
    karat_base_forward(w.features + (size_t)karat_coefficients(d) * rows * TILE_COLS, w.x, rows * TILE_COLS, d.base);
    for (int m = 0; w.meet && m < karat_features_count(d); m++) {
        karat_keep_met(w.features + (size_t)m * rows * TILE_COLS, TILE_COLS, w.meet, first_row, first_lane, rows, d);
    }
    return rows;
}

// The register tile's part of dA, (TILE_ROWS, TILE_COLS) and ld apart, of TILE_ROWS rows of dz (R) and one panel of
// coefficients:
//     dx = sum_m e_m'(x) df_m,  df = dz C^T
// For fourier, where cos and sin are each other's derivatives: half of the lanes at a time, so that df of both stays in
// registers. Features are rows * TILE_COLS floats apart.
static inline void karat_harmonics_backward(float* dx, int ld, const float* features, const float* dz,
                                            const float* coefs, int lanes, int rows, KaratDims d) {
    size_t apart = (size_t)rows * TILE_COLS, coefs_apart = (size_t)round_up(d.R, TILE_ROWS) * TILE_COLS;
    for (int m = 1; m <= d.G; m++, features += apart, coefs += coefs_apart) {
        for (int lane = 0; lane < lanes; lane += VEC_LANES) {
            const float *c = features + lane, *s = c + d.G * apart, *c_coefs = coefs + lane;
            Vec df[TILE_ROWS][2] = {0};
            register_sums(df, d.R, dz, d.R, 1, c_coefs, c_coefs + d.G * coefs_apart, NOTHING_COMING,
                          WHOLE_TILE);
            UNROLLED
            for (int r = 0; r < TILE_ROWS; r++, c += TILE_COLS, s += TILE_COLS) {
                Vec part = (float)m * (*(const Vec*)c * df[r][1] - *(const Vec*)s * df[r][0]);
                Vec* to = (Vec*)(dx + (size_t)r * ld + lane);
                if (m > 1) { part += *to; }
                *to = part;
            }
        }
    }
}

enum { KARAT_TILE = TILE_ROWS * TILE_COLS };

// For a basis whose derivatives are computed apart
static inline void karat_slopes_backward(float* dx, int ld, const float* slopes, const float* dz, const float* coefs,
                                         int rows, KaratDims d) {
    float df[KARAT_TILE] __attribute__((aligned(64))), sum[KARAT_TILE] __attribute__((aligned(64))) = {0};
    for (int m = 0; m < karat_coefficients(d); m++, slopes += rows * TILE_COLS) {
        register_tile(df, TILE_COLS, d.R, dz, d.R, 1, coefs + m * round_up(d.R, TILE_ROWS) * TILE_COLS, 1, 0,
                      WHOLE_TILE);
        for (int i = 0; i < KARAT_TILE; i++) { sum[i] += slopes[i] * df[i]; }
    }
    for (int r = 0; r < TILE_ROWS; r++) {
        memcpy(dx + (size_t)r * ld, sum + r * TILE_COLS, TILE_COLS * sizeof *dx);
    }
}

// dx += b'(x) db
static inline void karat_tile_base_backward(float* dx, int ld, const float* x, const float* dz, const float* coefs,
                                            KaratDims d) {
    float db[KARAT_TILE] __attribute__((aligned(64)));
    register_tile(db, TILE_COLS, d.R, dz, d.R, 1, coefs, 1, 0, WHOLE_TILE);
    for (int r = 0; r < TILE_ROWS; r++) {
        karat_base_backward(dx + (size_t)r * ld, db + r * TILE_COLS, x + r * TILE_COLS, TILE_COLS, d.base);
    }
}

// dx (rows, TILE_COLS), ld apart, of the tile in w: rows k from those of dz on, lanes q of one panel of C
static inline void karat_tile_backward(float* dx, int ld, KaratWork w, const float* dz, const float* coefs, int lanes,
                                       int rows, KaratDims d) {
    size_t base_coefs = (size_t)karat_coefficients(d) * round_up(d.R, TILE_ROWS) * TILE_COLS;
    bool fourier = d.basis == BASIS_FOURIER;
    if (!fourier) { basis_slopes(w.slopes, w.features, w.x, rows * TILE_COLS, karat_basis(d)); }
    for (int r = 0; r < rows; r += TILE_ROWS, dz += TILE_ROWS * d.R, dx += (size_t)TILE_ROWS * ld) {
        if (fourier) {
            karat_harmonics_backward(dx, ld, w.features + r * TILE_COLS, dz, coefs, lanes, rows, d);
        } else {
            karat_slopes_backward(dx, ld, w.slopes + r * TILE_COLS, dz, coefs, rows, d);
        }
        if (d.base != KARAT_BASE_ZERO) {
            karat_tile_base_backward(dx, ld, w.x + r * TILE_COLS, dz, coefs + base_coefs, d);
        }
    }
}

// ---- Forward

// z (NQ,R) of one sample and head
static inline void karat_head_z(float* z, const float* q, const float* coefs, KaratWork w, KaratDims d) {
    int D = d.D, M = karat_features_count(d), R_padded = round_up(d.R, TILE_ROWS);
    const float* k = q + d.C;
    karat_set_rows(&w, k, d.N, d);
    pack_panels(w.lane_panels, TILE_COLS, d.NQ, D, q, 3 * (size_t)d.C, 1);
    for (int k0 = 0; k0 < d.NQ; k0 += TILE_COLS) {
        int lanes = karat_lanes(k0, d.NQ, d);
        memset(w.z, 0, R_padded * TILE_COLS * sizeof *w.z);
        for (int q0 = 0; q0 < d.N; q0 += KARAT_ROWS) {
            int rows = karat_tile(w, q0, k0, lanes, d);
            const float* tile_coefs = coefs + (size_t)q0 * M * R_padded;
            for (int p = 0; p < d.R; p += TILE_ROWS) {
                tile_product(w.z + p * TILE_COLS, M * rows, tile_coefs + (size_t)p * M * rows, w.features, lanes);
            }
        }
        for (int lane = 0; lane < min_int(TILE_COLS, d.NQ - k0); lane++) {
            for (int p = 0; p < d.R; p++) { z[(size_t)(k0 + lane) * d.R + p] = w.z[p * TILE_COLS + lane]; }
        }
    }
}

// out = z U + 1 (beta^T V), U = W^T V
static inline void karat_head_out(float* out, const float* z, const float* v, KaratHead head, KaratWork w,
                                  KaratDims d) {
    int D = d.D, ld = 3 * d.C;
    gemm(true, false, d.R, D, d.N, 1, head.W, d.R, v, ld, 0, w.U, D);
    if (head.beta) {
        gemm(false, false, 1, D, d.N, 1, head.beta, d.N, v, ld, 0, w.row, D);
        for (int k = 0; k < d.NQ; k++) { memcpy(out + (size_t)k * d.C, w.row, D * sizeof *out); }
    }
    gemm(false, false, d.NQ, D, d.R, 1, z, d.R, w.U, D, head.beta ? 1 : 0, out, d.C);
}

// What follows z: z itself, or its projected rows
static inline const float* karat_used_z(const float* z, KaratWork w, KaratDims d) {
    if (!d.project_z) { return z; }
    for (int k = 0; k < d.NQ; k++) {
        size_t row = (size_t)k * d.R;
        simplex_row_forward(w.z_used + row, z + row, d.projection, w.sigma.sort, d.R);
    }
    return w.z_used;
}

// One sample and head
static inline void karat_head_forward(float* out, float* z, const float* q, KaratHead head, KaratWork w, KaratDims d) {
    if (!karat_has_inner(d)) {
        karat_reduced_z(z, w.U, q, head.W, d);
    } else if (basis_is_linear(d.basis)) {
        karat_head_z(z, q, head.inner, w, d);
    } else {
        karat_units_z(z, q, head.inner, w.units, d);
    }
    const float* used = karat_used_z(z, w, d);
    if (karat_forms_sigma(d)) {
        karat_sigma_out(out, used, q + 2 * d.C, head, w.sigma, d);
    } else if (w.meet) {
        karat_regions_out(out, used, q + 2 * d.C, head, w.regions, w.kind, d);
    } else {
        karat_head_out(out, used, q + 2 * d.C, head, w, d);
    }
}

// Prepares windows for one direction: their bias, transposed if tiles have lanes of k, and which places may meet
static inline void karat_start_windows(KaratScratch s, KaratParams params, bool transposed, KaratDims d) {
    if (!karat_in_windows(d)) { return; }
    float mask = d.mask == KARAT_MASK_LITERAL ? karat_literal_mask(d) : 0;
    int rows = karat_bias_rows(d), ld = karat_bias_ld(d);
    window_bias_forward(s.bias, params.bias_table, d.windows, mask, transposed, d.C / d.D, d.H, rows, ld);
    if (karat_has_regions(d)) { window_meetings(s.meet, d.windows, rows, ld); }
}

// Window b, over all images, and head h: puts its bias and its rows of qkv into w; returns the first row of its image
static inline size_t karat_enter_window(KaratWork* w, KaratScratch s, const float* qkv, int b, int h, KaratDims d) {
    int windows = windows_of_image(d.windows), n = b % windows;
    size_t first = (size_t)(b / windows) * d.windows.grid * d.windows.grid;
    w->kind = window_kind(d.windows, n);
    w->bias = w->units.bias = s.bias + (w->kind * d.H + h) * karat_bias_size(d);
    w->meet = karat_has_regions(d) && w->kind > 0 ? s.meet + w->kind * karat_bias_size(d) : NULL;
    window_gather(w->qkv, qkv + first * 3 * d.C + h * d.D, d.windows, n, 3, d.C, 3 * d.C, d.D);
    return first;
}

static inline KaratDims karat_gathered(KaratDims d) { // a head's rows are contiguous
    d.C = d.D;
    return d;
}

static inline void karat_window_forward(float* out, float* z, const float* qkv, KaratHead head, KaratWork w,
                                        KaratScratch s, int b, int h, KaratDims d) {
    size_t first = karat_enter_window(&w, s, qkv, b, h, d);
    karat_head_forward(w.out, z, w.qkv, head, w, karat_gathered(d));
    window_scatter(out + first * d.C + h * d.D, w.out, d.windows, b % windows_of_image(d.windows), 1, 0, d.C, d.D);
}

static inline void karat_forward(float* out, float* z, const float* qkv, KaratParams params, float* scratch,
                                 KaratDims d) {
    KaratScratch s = karat_scratch_cut(scratch, karat_forward_coefs(d), d);
    karat_fold(s, params, basis_is_linear(d.basis) ? karat_pack_rows : karat_units_fold, d);
    karat_start_windows(s, params, basis_is_linear(d.basis), d);
    #pragma omp parallel for schedule(dynamic)
    for (int bh = 0; bh < d.B * d.H; bh++) {
        int b = bh / d.H, h = bh % d.H;
        size_t at = (size_t)b * d.NQ * d.C + h * d.D, at_q = 3 * (size_t)b * d.N * d.C + h * d.D;
        float* z_head = z + (size_t)bh * d.NQ * d.R;
        KaratWork w;
        karat_work(&w, s.works + thread_number() * s.work, d);
        if (karat_in_windows(d)) {
            karat_window_forward(out, z_head, qkv, karat_head(s, params, d, h), w, s, b, h, d);
        } else {
            karat_head_forward(out + at, z_head, qkv + at_q, karat_head(s, params, d, h), w, d);
        }
    }
}

// ---- Backward

static inline KaratSlot karat_slot(float* slots, KaratDims d, int h, int slot) {
    float* inner = slots + (size_t)(h * karat_slots(d) + slot) * karat_slot_size(d);
    float *outer = inner + karat_backward_coefs(d), *W = outer + karat_outer_coefs(d);
    float* beta = W + (size_t)d.N * d.R;
    return (KaratSlot){inner, outer, W, beta, beta + d.N};
}

// The forward lines: U = W^T V; out = z U + 1 (beta^T V). Gives dz, dV and adds to dW and dbeta.
static inline void karat_head_out_backward(float* dz, float* dv, KaratSlot slot, const float* dout, const float* z,
                                           const float* v, KaratHead head, KaratWork w, KaratDims d) {
    int D = d.D, N = d.N, R = d.R, ld = 3 * d.C;
    gemm(true, false, R, D, N, 1, head.W, R, v, ld, 0, w.U, D);
    gemm(false, true, d.NQ, R, D, 1, dout, d.C, w.U, D, 0, dz, R);
    gemm(true, false, R, D, d.NQ, 1, z, R, dout, d.C, 0, w.dU, D);
    gemm(false, true, N, R, D, 1, v, ld, w.dU, D, 1, slot.W, R);
    gemm(false, false, N, D, R, 1, head.W, R, w.dU, D, 0, dv, ld);
    if (!head.beta) { return; }
    memset(w.row, 0, D * sizeof *w.row); // the column sums of dout
    for (int k = 0; k < d.NQ; k++) {
        for (int i = 0; i < D; i++) { w.row[i] += dout[(size_t)k * d.C + i]; }
    }
    gemm(false, true, N, 1, D, 1, v, ld, w.row, D, 1, slot.beta, 1);
    gemm(false, false, N, D, 1, 1, head.beta, 1, w.row, D, 1, dv, ld);
}

// The forward line: z = features(A) C. For one panel of lanes q0..: computes dA's columns, and adds the gradient of C
// to dcoefs.
static inline void karat_panel_backward(float* dA, int ld, float* dcoefs, const float* coefs, int q0, KaratWork w,
                                        KaratDims d) {
    int R_padded = round_up(d.R, TILE_ROWS), lanes = karat_lanes(q0, d.N, d);
    for (int k0 = 0; k0 < d.NQ; k0 += KARAT_ROWS) {
        int rows = karat_tile(w, k0, q0, lanes, d), count = min_int(rows, d.NQ - k0);
        for (int m = 0; m < karat_features_count(d); m++) {
            for (int p = 0; p < d.R; p += TILE_ROWS) {
                tile_product(dcoefs + (m * R_padded + p) * TILE_COLS, count, w.dz_p + (size_t)p * d.NQ + k0 * TILE_ROWS,
                             w.features + (size_t)m * rows * TILE_COLS, lanes);
            }
        }
        karat_tile_backward(dA + (size_t)k0 * ld, ld, w, w.dz + (size_t)k0 * d.R, coefs, lanes, rows, d);
        if (w.meet) { karat_keep_met(dA + (size_t)k0 * ld, ld, w.meet, k0, q0, rows, d); }
    }
}

// The forward lines: A = Q K^T / sqrt(D) + bias; z = features(A) C. dQ, dK from dz in w, a block of columns of dA at a
// time.
static inline void karat_head_z_backward(float* dq, KaratSlot slot, const float* q, const float* coefs, KaratWork w,
                                         KaratDims d) {
    int D = d.D, N = d.N, NQ = d.NQ, ld = 3 * d.C, columns = karat_columns(N);
    size_t panel_coefs = (size_t)karat_features_count(d) * round_up(d.R, TILE_ROWS); // a lane's
    const float* k = q + d.C;
    float *dk = dq + d.C, scale = 1 / sqrtf(D);
    karat_set_rows(&w, q, NQ, d);
    pack_panels(w.lane_panels, TILE_COLS, N, D, k, ld, 1);
    memset(w.dz + (size_t)NQ * d.R, 0, (size_t)(round_up(NQ, TILE_ROWS) - NQ) * d.R * sizeof(float));
    pack_panels(w.dz_p, TILE_ROWS, d.R, NQ, w.dz, 1, d.R);
    for (int first = 0; first < N; first += columns) {
        int count = min_int(columns, N - first);
        for (int q0 = first; q0 < first + count; q0 += TILE_COLS) {
            karat_panel_backward(w.dA + q0 - first, columns, slot.inner + q0 * panel_coefs, coefs + q0 * panel_coefs,
                                 q0, w, d);
        }
        if (w.bias) { karat_add_to_bias(slot.bias + first, w.dA, columns, 0, NQ, count, d); }
        gemm(false, false, NQ, D, count, scale, w.dA, columns, k + (size_t)first * ld, ld, first > 0, dq, ld);
        gemm(true, false, count, D, NQ, scale, w.dA, columns, q, ld, 0, dk + (size_t)first * ld, ld);
    }
}

// Adds the slots' gradients of the inner operator's folded coefficients, for one (h,p), to those of its tensors
static inline void karat_unfold(KaratOperatorGrads grads, KaratOperator params, float* slots, KaratDims d, int h,
                                int p) {
    for (int m = 0; m < karat_features_count(d); m++) {
        for (int q0 = 0; q0 < d.N; q0 += TILE_COLS) {
            float sum[TILE_COLS] = {0};
            for (int s = 0; s < karat_slots(d); s++) {
                const float* slot = karat_slot(slots, d, h, s).inner + karat_lane_index(d, m, q0, p);
                for (int lane = 0; lane < TILE_COLS; lane++) { sum[lane] += slot[lane]; }
            }
            for (int lane = 0; lane < min_int(TILE_COLS, d.N - q0); lane++) {
                karat_coefficient_backward(grads, params, sum[lane], d, h, m, q0 + lane, p);
            }
        }
    }
}

static inline void karat_reduce_unit(KaratGrads grads, KaratParams params, float* slots, KaratDims d, int h, int p) {
    KaratSlot first = karat_slot(slots, d, h, 0);
    if (karat_has_inner(d) && basis_is_linear(d.basis)) {
        karat_unfold(grads.inner, params.inner, slots, d, h, p);
    } else if (karat_has_inner(d)) {
        karat_units_unfold(grads.inner, params.inner, first.inner, karat_slot_size(d), karat_slots(d), d, h, p);
    }
    if (karat_has_outer(d)) {
        karat_outer_unfold(grads.outer, params.outer, first.outer, karat_slot_size(d), karat_slots(d), d, h, p);
    }
}

static inline void karat_reduce_projection(KaratGrads grads, float* slots, KaratDims d) {
    for (int h = 0; h < d.H; h++) {
        for (int s = 0; s < karat_slots(d); s++) {
            KaratSlot slot = karat_slot(slots, d, h, s);
            float* dW = grads.proj_weight + (size_t)h * d.N * d.R;
            for (int i = 0; karat_has_weight(d) && i < d.N * d.R; i++) { dW[i] += slot.W[i]; }
            for (int n = 0; grads.proj_bias && n < d.N; n++) { grads.proj_bias[n] += slot.beta[n]; }
        }
    }
}

// The way from z to out: gives dz (in w.dz) and dV
static inline void karat_head_behind_z_backward(KaratSlot slot, float* dv, const float* dout, const float* z,
                                                const float* v, KaratHead head, KaratWork w, KaratDims d) {
    const float* used = karat_used_z(z, w, d);
    float* dused = d.project_z ? w.dz_used : w.dz;
    if (karat_forms_sigma(d)) {
        karat_sigma_out_backward(dused, dv, slot, dout, used, v, head, w.sigma, d);
    } else if (w.meet) {
        karat_regions_out_backward(dused, dv, slot, dout, used, v, head, w.regions, w.kind, d);
    } else {
        karat_head_out_backward(dused, dv, slot, dout, used, v, head, w, d);
    }
    for (int k = 0; d.project_z && k < d.NQ; k++) {
        size_t row = (size_t)k * d.R;
        simplex_row_backward(w.dz + row, dused + row, used + row, z + row, d.projection, d.R);
    }
}

// One sample and head: dQ, dK, dV; gradients of the parameters are added to the slot's
static inline void karat_head_backward(KaratSlot slot, float* dq, const float* dout, const float* z, const float* q,
                                       KaratHead head, KaratWork w, KaratDims d) {
    karat_head_behind_z_backward(slot, dq + 2 * d.C, dout, z, q + 2 * d.C, head, w, d);
    if (!karat_has_inner(d)) {
        karat_reduced_z_backward(dq, slot.W, w.dz, q, head.W, w.U, w.dU, d);
    } else if (basis_is_linear(d.basis)) {
        karat_head_z_backward(dq, slot, q, head.inner, w, d);
    } else {
        karat_units_z_backward(dq, slot, w.dz, q, head.inner, w.units, d);
    }
}

static inline void karat_window_backward(KaratSlot slot, float* dqkv, const float* dout, const float* z,
                                         const float* qkv, KaratHead head, KaratWork w, KaratScratch s, int b, int h,
                                         KaratDims d) {
    int n = b % windows_of_image(d.windows);
    size_t first = karat_enter_window(&w, s, qkv, b, h, d);
    window_gather(w.dout, dout + first * d.C + h * d.D, d.windows, n, 1, 0, d.C, d.D);
    karat_head_backward(slot, w.dqkv, w.dout, z, w.qkv, head, w, karat_gathered(d));
    window_scatter(dqkv + first * 3 * d.C + h * d.D, w.dqkv, d.windows, n, 3, d.C, 3 * d.C, d.D);
}

// For one head: adds up its slots' gradients of the bias in the first.
static inline void karat_reduce_bias(KaratGrads grads, float* slots, KaratDims d, int h) {
    float* sum = karat_slot(slots, d, h, 0).bias;
    for (int s = 1; s < karat_slots(d); s++) {
        const float* bias = karat_slot(slots, d, h, s).bias;
        for (size_t i = 0; i < karat_bias_size(d); i++) { sum[i] += bias[i]; }
    }
    window_bias_backward(grads.bias_table + h, sum, d.windows, d.C / d.D, 1, karat_bias_rows(d), karat_bias_ld(d));
}

static inline void karat_backward(float* dqkv, KaratGrads grads, const float* dout, const float* z, const float* qkv,
                                  KaratParams params, float* scratch, KaratDims d) {
    int slots = karat_slots(d);
    KaratScratch s = karat_scratch_cut(scratch, karat_backward_coefs(d), d);
    karat_fold(s, params, basis_is_linear(d.basis) ? karat_pack_lanes : karat_units_fold, d);
    karat_start_windows(s, params, false, d);
    #pragma omp parallel for schedule(dynamic)
    for (int task = 0; task < d.H * slots; task++) {
        int h = task / slots, part = task % slots;
        KaratSlot slot = karat_slot(s.slots, d, h, part);
        KaratWork w;
        karat_work(&w, s.works + thread_number() * s.work, d);
        memset(slot.inner, 0, karat_slot_size(d) * sizeof(float));
        for (int b = (int)((int64_t)part * d.B / slots); b < (int)((int64_t)(part + 1) * d.B / slots); b++) {
            size_t at = (size_t)b * d.NQ * d.C + h * d.D, at_q = 3 * (size_t)b * d.N * d.C + h * d.D;
            const float* z_head = z + (size_t)(b * d.H + h) * d.NQ * d.R;
            KaratHead head = karat_head(s, params, d, h);
            if (karat_in_windows(d)) {
                karat_window_backward(slot, dqkv, dout, z_head, qkv, head, w, s, b, h, d);
            } else {
                karat_head_backward(slot, dqkv + at_q, dout + at, z_head, qkv + at_q, head, w, d);
            }
        }
    }
    #pragma omp parallel for schedule(static)
    for (int unit = 0; unit < d.H * d.R; unit++) {
        karat_reduce_unit(grads, params, s.slots, d, unit / d.R, unit % d.R);
    }
    karat_reduce_projection(grads, s.slots, d);
    #pragma omp parallel for schedule(static)
    for (int h = 0; h < (karat_in_windows(d) ? d.H : 0); h++) { karat_reduce_bias(grads, s.slots, d, h); }
}
