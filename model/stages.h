// The sizes that every function refers to, of a model and of each of its blocks. Consecutive blocks of the same sizes
// are a stage. A ViT has one; a ConViT has two, with the class token from the second on; a Swin has one for each
// --depth, with half the grid side and twice the width of the one before.
#pragma once
#include "../kernels/windows.h"
#include "config.h"

// What happens to the residual stream before a block
typedef enum {
    ENTRY_NONE,
    ENTRY_JOIN,  // class token and registers join, without positions
    ENTRY_NORM,  // it is normalised
    ENTRY_MERGE, // 2 x 2 tokens become one, of twice their width
} Entry;

typedef struct {
    int S, P;        // image side, patch side
    int C, H, L;     // width, heads, blocks of the model
    int N;           // tokens: a square of patches, and those before it
    int prefix;      // of N, those before the patches: class token, registers
    int NQ;          // tokens whose queries, and all that follows, the block computes: all; in the last block, the
                     // class token alone if the head reads no other
    int NA;          // tokens that attend to one another: N, or those of one window
    Windows windows; // size 0: there are none
    bool local;      // attention is GPSA
    Entry entry;
    int D;           // width of a head
    int F;           // hidden width of the MLP
    int K;           // classes
    int HK;          // heads with KArAt: all but the softmax ones
    int G, R, M;     // KArAt: grid, rank, coefficients per unit
    int MK;          // splines per edge of a KAN layer
} Dims;

static inline Basis config_basis(const Config* c) {
    return (Basis){.kind = (KaratBasis)c->basis, .grid = c->grid, .order = c->spline_order,
                   .range = (float)c->spline_range};
}

static inline Basis kan_basis(const Config* c) {
    return (Basis){.kind = BASIS_BSPLINE, .grid = c->kan_grid, .order = c->kan_order, .range = (float)c->kan_range};
}

enum { STAGES_MOST = OPTION_INTS_MOST };

// Blocks of each stage
static inline Ints stage_depths(const Config* c) {
    int L = ints_sum(c->depth);
    return c->local_blocks ? (Ints){2, {c->local_blocks, L - c->local_blocks}} : c->depth;
}

// The stage of block l, and its number in it; l = L: one after the last
typedef struct { int stage, block; } BlockPlace;

static inline BlockPlace place_in(Ints depths, int l) {
    BlockPlace at = {0, l};
    while (at.stage < depths.count - 1 && at.block >= depths.value[at.stage]) { at.block -= depths.value[at.stage++]; }
    return at;
}

// The block before which the tokens before the patches join, without positions; -1: they have positions and are there
// from the start
static inline int joining_block(const Config* c) {
    return c->local_blocks ? c->local_blocks : c->no_embed_class && tokens_in_front(c) ? 0 : -1;
}

static inline Entry entry_of(const Config* c, int l) {
    BlockPlace at = place_in(stage_depths(c), l);
    if (c->window) { return at.block ? ENTRY_NONE : at.stage ? ENTRY_MERGE : ENTRY_NORM; }
    return l == joining_block(c) ? ENTRY_JOIN : ENTRY_NONE;
}

// The windows of a grid, shifted in every second block
static inline Windows windows_of_grid(const Config* c, int side, int block) {
    int size = c->window < side ? c->window : side;
    return (Windows){.grid = side, .size = size, .shift = block % 2 && side > size ? size / 2 : 0};
}

// The sizes of block l if it is computed for all tokens
static inline Dims whole_block(const Config* c, int classes, int l) {
    BlockPlace at = place_in(stage_depths(c), l);
    int halvings = c->window ? at.stage : 0, side = c->image_size / c->patch >> halvings;
    int C = c->dim << halvings, H = c->heads.value[halvings];
    int prefix = l < joining_block(c) ? 0 : tokens_in_front(c), N = side * side + prefix;
    Windows windows = c->window ? windows_of_grid(c, side, at.block) : (Windows){0};
    int NA = c->window ? window_tokens(windows) : N;
    bool full = c->attn == ATTN_KARAT && c->karat_full;
    return (Dims){.S = c->image_size, .P = c->patch, .C = C, .H = H, .L = ints_sum(c->depth), .N = N, .prefix = prefix,
                  .NQ = N, .NA = NA, .windows = windows, .local = l < c->local_blocks,
                  .entry = entry_of(c, l), .D = C / H,
                  .F = (int)lround(C * c->mlp_ratio), .K = classes, .HK = H - c->softmax_heads, .G = c->grid,
                  .R = full ? NA : c->karat_rank, .M = basis_coefficients(config_basis(c)),
                  .MK = basis_coefficients(kan_basis(c))};
}

// The sizes of the model are those of its last block, which the head follows.
static inline Dims dims_of(const Config* c, int classes) {
    Dims d = whole_block(c, classes, ints_sum(c->depth) - 1);
    d.NQ = c->pool == POOL_TOKEN ? 1 : d.N;
    return d;
}

// The sizes of block l of a model of sizes d; l = L: of what comes after the blocks, where there are NQ tokens
static inline Dims dims_of_block(const Config* c, Dims d, int l) {
    if (l < d.L - 1) { return whole_block(c, d.K, l); }
    if (l == d.L) { d.N = d.NQ; }
    return d;
}

// Elements of an image's residual stream before what `entry` says is done to it
static inline size_t entering_size(Dims d) {
    size_t tokens = (size_t)(d.entry == ENTRY_JOIN ? d.N - d.prefix : d.N);
    return tokens * d.C * (d.entry == ENTRY_MERGE ? 2 : 1);
}

static inline bool normalises(Entry entry) { return entry == ENTRY_NORM || entry == ENTRY_MERGE; }

static inline float norm_eps(const Config* c) { return c->window ? 1e-5f : 1e-6f; } // timm's
