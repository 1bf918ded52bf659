// Kolmogorov-Arnold attention (karat.h) in a window of several regions, which must not meet (windows.h); z is given:
//     sigma_kn = sum_p W_np z_kp + beta_n where k and n are of one region, else 0        out_k = sum_n sigma_kn V_n
// Here, too, sigma is not formed. Each region g has a U_g = W_g^T V_g of its own tokens: every row of z and of W is put
// into the columns of its region, with zeros in the others, and out = z U, U = W^T V as in a window without regions.
// beta is one more column of W, whose z is 1.
#pragma once
#include "karat_dims.h"
#include "matmul.h"

typedef struct {             // of one thread
    float *z, *W, *dz, *dW;  // spread: (N,ranks)
    float *U, *dU;           // (ranks,D)
} KaratRegionsWork;

static inline int karat_region_columns(KaratHead head, KaratDims d) { return d.R + (head.beta ? 1 : 0); }

static inline size_t karat_regions_work(KaratRegionsWork* w, float* base, size_t at, KaratDims d) {
    size_t ranks = karat_has_regions(d) ? WINDOW_REGIONS * (d.R + 1) : 0, rows = d.N * ranks, sums = ranks * d.D;
    float **of_rows[] = {&w->z, &w->W, &w->dz, &w->dW};
    for (int i = 0; i < 4; i++) { at = karat_take(of_rows[i], base, at, rows); }
    at = karat_take(&w->U, base, at, sums);
    return karat_take(&w->dU, base, at, sums);
}

// to (N,ranks) from x (N,R), and from last (N) or 1 if there is one column more
static inline void karat_spread(float* to, const float* x, const float* last, int columns, int kind, KaratDims d) {
    int ranks = window_regions(kind) * columns;
    memset(to, 0, (size_t)d.N * ranks * sizeof *to);
    for (int n = 0; n < d.N; n++) {
        float* row = to + (size_t)n * ranks + window_region(d.windows, kind, n) * columns;
        memcpy(row, x + (size_t)n * d.R, d.R * sizeof *x);
        if (columns > d.R) { row[d.R] = last ? last[n] : 1; }
    }
}

static inline void karat_regions_out(float* out, const float* z, const float* v, KaratHead head, KaratRegionsWork w,
                                     int kind, KaratDims d) {
    int columns = karat_region_columns(head, d), ranks = window_regions(kind) * columns, D = d.D;
    karat_spread(w.z, z, NULL, columns, kind, d);
    karat_spread(w.W, head.W, head.beta, columns, kind, d);
    gemm(true, false, ranks, D, d.N, 1, w.W, ranks, v, 3 * d.C, 0, w.U, D);
    gemm(false, false, d.N, D, ranks, 1, w.z, ranks, w.U, D, 0, out, d.C);
}

// The forward lines: U = W^T V; out = z U, both spread. Gives dz, dV and adds to dW and dbeta.
static inline void karat_regions_out_backward(float* dz, float* dv, KaratSlot slot, const float* dout, const float* z,
                                              const float* v, KaratHead head, KaratRegionsWork w, int kind,
                                              KaratDims d) {
    int columns = karat_region_columns(head, d), ranks = window_regions(kind) * columns;
    int D = d.D, N = d.N, R = d.R, ld = 3 * d.C;
    karat_spread(w.z, z, NULL, columns, kind, d);
    karat_spread(w.W, head.W, head.beta, columns, kind, d);
    gemm(true, false, ranks, D, N, 1, w.W, ranks, v, ld, 0, w.U, D);
    gemm(false, true, N, ranks, D, 1, dout, d.C, w.U, D, 0, w.dz, ranks);
    gemm(true, false, ranks, D, N, 1, w.z, ranks, dout, d.C, 0, w.dU, D);
    gemm(false, true, N, ranks, D, 1, v, ld, w.dU, D, 0, w.dW, ranks);
    gemm(false, false, N, D, ranks, 1, w.W, ranks, w.dU, D, 0, dv, ld);
    for (int n = 0; n < N; n++) {
        size_t own = (size_t)n * ranks + window_region(d.windows, kind, n) * columns;
        memcpy(dz + (size_t)n * R, w.dz + own, R * sizeof *dz);
        for (int p = 0; p < R; p++) { slot.W[(size_t)n * R + p] += w.dW[own + p]; }
        if (head.beta) { slot.beta[n] += w.dW[own + R]; }
    }
}
