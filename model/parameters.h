// The parameters: one table (field, name, present, update, init, shape). It yields the struct of pointers, sizes and
// offsets in one flat buffer, the initial values, how each is updated, the names in checkpoints, the count, and the
// tensors that a gradient check visits. Adding a tensor takes one line.
//
// A row whose name contains "%d" stands for a tensor in every block. The table is evaluated for each block l, so that a
// row may exist in some blocks only, or have another shape in each. The flat buffer is block-major: the gradients of a
// block lie together, and can be sent to other ranks while the backward continues.
//
//     front | block 0 | block 1 | ... | block L-1 | back
//
// The front has what all blocks share and what precedes them in the table, the back what follows them. Gradients,
// Adam's moments and the EMA are further buffers of this layout. Every tensor starts at a multiple of GROUP_FLOATS;
// what lies between tensors is zero and stays so. Files have the tensors row by row, wherever they lie here. Names and
// shapes are timm's, so that files can be exchanged.
#pragma once
#include "../kernels/adamw_step.h"
#include "../kernels/rational_start.h"
#include "../runtime/checkpoint.h"
#include "../runtime/memory.h"
#include "../runtime/random.h"
#include "stages.h"
#include <string.h>

// How a tensor starts: TRUNC_NORMAL and NORMAL by deviation, UNIFORM by bound, CONSTANT by value; a rational's
// coefficients from rational_start() (value 1 or 2: which rational of the block); KArAt's by coefficient_start()
// (value: their scale); IDENTITY a matrix; LOCALITY by locality_start() (value: the strength).
typedef enum {
    INIT_CONSTANT, INIT_TRUNC_NORMAL, INIT_NORMAL, INIT_UNIFORM, INIT_IDENTITY, INIT_LOCALITY, INIT_NUMERATOR,
    INIT_DENOMINATOR, INIT_COEFFICIENTS
} InitKind;

// How the optimiser treats a tensor; it treats all of a group alike
typedef enum { UPDATE_PLAIN, UPDATE_DECAYED, UPDATE_RATIONAL, UPDATE_GROUPS } UpdateGroup;
typedef struct { double rate, decay; } UpdateRule; // factor on the learning rate, weight decay

static inline UpdateRule update_rule(const Config* c, UpdateGroup group) {
    switch (group) {
    case UPDATE_DECAYED: return (UpdateRule){1, c->weight_decay};
    case UPDATE_RATIONAL: return (UpdateRule){c->rational_lr_scale, c->rational_decay ? c->weight_decay : 0};
    default: return (UpdateRule){1, 0};
    }
}

typedef struct {
    const char* name; // "blocks.%d." stands for every block, "layers.%d." for every stage
    UpdateGroup group;
    InitKind init;
    double init_value;
    int rank;
    int64_t shape[4];
    bool per_block;
    bool shared;   // the block has the tensor of an earlier one; size is 0 here
    size_t size;   // elements; 0: there is no such tensor
    size_t offset; // in the flat buffer
    size_t draw;   // elements of this row in earlier blocks: the tensors of a row are drawn as one
} Parameter;

#define SHAPE(...) __VA_ARGS__
#define OPERATOR(name) \
    (c->karat_mode == KARAT_BLOCK ? "blocks.%d.attn.karat." name : c->window ? "layers.%d.karat." name : "karat." name)
#define HEAD(name) (c->window ? "head.fc." name : "head." name)
#define WHEN_POSITIONS (!c->window)
#define WHEN_WINDOWS (c->window > 0)
#define WHEN_MERGED (d.entry == ENTRY_MERGE)
#define WHEN_LOCAL (d.local)
#define WHEN_LOCAL_BIAS (d.local && c->qkv_bias)
#define WHEN_TOKEN (c->pool == POOL_TOKEN)
#define WHEN_REGISTERS (c->reg_tokens > 0)
#define WHEN_QKV (!d.local)
#define WHEN_QKV_BIAS (!d.local && c->qkv_bias)
#define NORM(name) (c->fc_norm ? "fc_norm." name : "norm." name)
#define WHEN_KARAT (c->attn == ATTN_KARAT && !o.local)
#define WHEN_SCALES (WHEN_KARAT && c->karat_scales)
#define WHEN_BIAS (WHEN_KARAT && c->karat_bias == KARAT_BIAS_BLOCK)
#define WHEN_OUTER (WHEN_KARAT && c->karat_order == KARAT_PHI_PHI)
#define WHEN_W (WHEN_KARAT && !WHEN_OUTER && !c->karat_full)
#define WHEN_GATE (c->attn_gate)
#define WHEN_MIXING (c->attn == ATTN_MIXING && !d.local)
#define WHEN_RANK (c->attn == ATTN_SOFTMAX_RANK && !d.local)
#define WHEN_KAN (c->mlp == MLP_KAN)
#define WHEN_PRELU (c->mlp == MLP_PRELU)
#define WHEN_GR_KAN (c->mlp == MLP_GR_KAN)
#define WHEN_RATIONAL (WHEN_GR_KAN || c->mlp == MLP_RATIONAL)
#define RATIONAL_2(name) (WHEN_GR_KAN ? "blocks.%d.mlp.act2." name : "blocks.%d.mlp.act." name)
#define WHEN_LS (c->layer_scale > 0)

// T(field, name, present, update group, init kind, init value, shape)    c: const Config*, r: RationalShape; Dims d: of
// the block, o: of the blocks that have the operator, end: of what comes after all blocks
#define PARAMETER_TABLE(T) \
T(cls_token,    "cls_token",                  WHEN_TOKEN,  UPDATE_PLAIN,   token_init,        token_value,    SHAPE(1, 1, d.C)) \
T(reg_token,    "reg_token",                  WHEN_REGISTERS, UPDATE_PLAIN, INIT_NORMAL,      1e-6,           SHAPE(1, c->reg_tokens, d.C)) \
T(pos_embed,    "pos_embed",                  WHEN_POSITIONS, UPDATE_PLAIN,   INIT_TRUNC_NORMAL, 0.02,           SHAPE(1, positions_of(c, d), d.C)) \
T(patch_weight, "patch_embed.proj.weight",    true,        UPDATE_DECAYED, INIT_UNIFORM,      patch_bound,    SHAPE(d.C, 3, d.P, d.P)) \
T(patch_bias,   "patch_embed.proj.bias",      true,        UPDATE_PLAIN,   INIT_UNIFORM,      patch_bound,    SHAPE(d.C)) \
T(patch_norm_weight, "patch_embed.norm.weight", WHEN_WINDOWS, UPDATE_PLAIN,  INIT_CONSTANT,     1,              SHAPE(d.C)) \
T(patch_norm_bias,   "patch_embed.norm.bias", WHEN_WINDOWS, UPDATE_PLAIN,    INIT_CONSTANT,     0,              SHAPE(d.C)) \
T(merge_norm_weight, "layers.%d.downsample.norm.weight", WHEN_MERGED, UPDATE_PLAIN, INIT_CONSTANT, 1,           SHAPE(2 * d.C)) \
T(merge_norm_bias,   "layers.%d.downsample.norm.bias",   WHEN_MERGED, UPDATE_PLAIN, INIT_CONSTANT, 0,           SHAPE(2 * d.C)) \
T(merge_weight, "layers.%d.downsample.reduction.weight", WHEN_MERGED, UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,  SHAPE(d.C, 2 * d.C)) \
T(norm1_weight, "blocks.%d.norm1.weight",     true,        UPDATE_PLAIN,   INIT_CONSTANT,     1,              SHAPE(d.C)) \
T(norm1_bias,   "blocks.%d.norm1.bias",       true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(d.C)) \
T(qk_weight,    "blocks.%d.attn.qk.weight",   WHEN_LOCAL,  UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(2 * d.C, d.C)) \
T(qk_bias,      "blocks.%d.attn.qk.bias",     WHEN_LOCAL_BIAS, UPDATE_PLAIN, INIT_CONSTANT,   0,              SHAPE(2 * d.C)) \
T(v_weight,     "blocks.%d.attn.v.weight",    WHEN_LOCAL,  UPDATE_DECAYED, INIT_IDENTITY,     1,              SHAPE(d.C, d.C)) \
T(v_bias,       "blocks.%d.attn.v.bias",      WHEN_LOCAL_BIAS, UPDATE_PLAIN, INIT_CONSTANT,   0,              SHAPE(d.C)) \
T(position,     "blocks.%d.attn.pos_proj.weight", WHEN_LOCAL, UPDATE_DECAYED, INIT_LOCALITY, c->locality_strength, SHAPE(d.H, 3)) \
T(position_bias, "blocks.%d.attn.pos_proj.bias", WHEN_LOCAL, UPDATE_PLAIN, INIT_CONSTANT,      0,              SHAPE(d.H)) \
T(gating,       "blocks.%d.attn.gating_param", WHEN_LOCAL, UPDATE_PLAIN,   INIT_CONSTANT,     1,              SHAPE(d.H)) \
T(window_table, "blocks.%d.attn.relative_position_bias_table", WHEN_WINDOWS, UPDATE_PLAIN, INIT_TRUNC_NORMAL, 0.02, SHAPE(window_offsets(d.windows), d.H)) \
T(qkv_weight,   "blocks.%d.attn.qkv.weight",  WHEN_QKV,    UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(3 * d.C, d.C)) \
T(qkv_bias,     "blocks.%d.attn.qkv.bias",    WHEN_QKV_BIAS, UPDATE_PLAIN, INIT_CONSTANT,     0,              SHAPE(3 * d.C)) \
T(karat_coef,   OPERATOR("coef"),             WHEN_KARAT,  UPDATE_DECAYED, INIT_COEFFICIENTS, karat.coef,     SHAPE(o.HK, o.R, o.M, o.NA)) \
T(scale_basis,  OPERATOR("scale_basis"),      WHEN_SCALES, UPDATE_DECAYED, INIT_CONSTANT,     karat.basis,    SHAPE(o.HK, o.R, o.NA)) \
T(scale_base,   OPERATOR("scale_base"),       WHEN_SCALES, UPDATE_DECAYED, INIT_CONSTANT,     1,              SHAPE(o.HK, o.R, o.NA)) \
T(outer_coef,   OPERATOR("outer.coef"),       WHEN_OUTER,  UPDATE_DECAYED, INIT_COEFFICIENTS, outer.coef,     SHAPE(o.HK, o.R, o.M, o.NA)) \
T(outer_scale_basis, OPERATOR("outer.scale_basis"), WHEN_OUTER && c->karat_scales, UPDATE_DECAYED, INIT_CONSTANT, outer.basis, SHAPE(o.HK, o.R, o.NA)) \
T(outer_scale_base,  OPERATOR("outer.scale_base"),  WHEN_OUTER && c->karat_scales, UPDATE_DECAYED, INIT_CONSTANT, 1, SHAPE(o.HK, o.R, o.NA)) \
T(karat_weight, OPERATOR("proj.weight"),      WHEN_W,      UPDATE_DECAYED, INIT_TRUNC_NORMAL, karat.weight,   SHAPE(o.HK, o.NA, o.R)) \
T(karat_bias,   OPERATOR("proj.bias"),        WHEN_BIAS,   UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(o.NA)) \
T(mixing,       "blocks.%d.attn.mixing",      WHEN_MIXING, UPDATE_DECAYED, INIT_CONSTANT,     1.0 / d.NA,      SHAPE(d.H, d.NA, d.NA)) \
T(rank_down,    "blocks.%d.attn.rank.down",   WHEN_RANK,   UPDATE_DECAYED, INIT_NORMAL,       rank_deviation, SHAPE(d.H, d.R, d.NA)) \
T(rank_up,      "blocks.%d.attn.rank.up",     WHEN_RANK,   UPDATE_DECAYED, INIT_NORMAL,       rank_deviation, SHAPE(d.H, d.NA, d.R)) \
T(gate_weight,  "blocks.%d.attn.gate.weight", WHEN_GATE,   UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(d.H, d.C)) \
T(proj_weight,  "blocks.%d.attn.proj.weight", true,        UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(d.C, d.C)) \
T(proj_bias,    "blocks.%d.attn.proj.bias",   true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(d.C)) \
T(ls1,          "blocks.%d.ls1.gamma",        WHEN_LS,     UPDATE_PLAIN,   INIT_CONSTANT,     c->layer_scale, SHAPE(d.C)) \
T(norm2_weight, "blocks.%d.norm2.weight",     true,        UPDATE_PLAIN,   INIT_CONSTANT,     1,              SHAPE(d.C)) \
T(norm2_bias,   "blocks.%d.norm2.bias",       true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(d.C)) \
T(numerator1,   "blocks.%d.mlp.act1.weight_numerator",   WHEN_GR_KAN, UPDATE_RATIONAL, INIT_NUMERATOR, 1,   SHAPE(1, r.m + 1)) \
T(denominator1, "blocks.%d.mlp.act1.weight_denominator", WHEN_GR_KAN, UPDATE_RATIONAL, INIT_DENOMINATOR, 1, SHAPE(r.groups, r.n)) \
T(fc1_weight,   "blocks.%d.mlp.fc1.weight",   true,        UPDATE_DECAYED, mlp.kind,          mlp.fc1,        SHAPE(d.F, d.C)) \
T(fc1_spline,   "blocks.%d.mlp.fc1.spline_weight", WHEN_KAN, UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(d.F, d.C, d.MK)) \
T(fc1_bias,     "blocks.%d.mlp.fc1.bias",     true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(d.F)) \
T(prelu_weight, "blocks.%d.mlp.act.weight",   WHEN_PRELU,  UPDATE_PLAIN,   INIT_CONSTANT,     0.25,           SHAPE(1)) \
T(numerator2,   RATIONAL_2("weight_numerator"),   WHEN_RATIONAL, UPDATE_RATIONAL, INIT_NUMERATOR, 2,   SHAPE(1, r.m + 1)) \
T(denominator2, RATIONAL_2("weight_denominator"), WHEN_RATIONAL, UPDATE_RATIONAL, INIT_DENOMINATOR, 2, SHAPE(r.groups, r.n)) \
T(fc2_weight,   "blocks.%d.mlp.fc2.weight",   true,        UPDATE_DECAYED, mlp.kind,          mlp.fc2,        SHAPE(d.C, d.F)) \
T(fc2_spline,   "blocks.%d.mlp.fc2.spline_weight", WHEN_KAN, UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(d.C, d.F, d.MK)) \
T(fc2_bias,     "blocks.%d.mlp.fc2.bias",     true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(d.C)) \
T(ls2,          "blocks.%d.ls2.gamma",        WHEN_LS,     UPDATE_PLAIN,   INIT_CONSTANT,     c->layer_scale, SHAPE(d.C)) \
T(norm_weight,  NORM("weight"),               true,        UPDATE_PLAIN,   INIT_CONSTANT,     1,              SHAPE(end.C)) \
T(norm_bias,    NORM("bias"),                 true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(end.C)) \
T(head_weight,  HEAD("weight"),               true,        UPDATE_DECAYED, INIT_TRUNC_NORMAL, 0.02,           SHAPE(end.K, end.C)) \
T(head_bias,    HEAD("bias"),                 true,        UPDATE_PLAIN,   INIT_CONSTANT,     0,              SHAPE(end.K))

// Pointers into a flat buffer; NULL for tensors that the model does not have
#define POINTER_FIELD(field, ...) float* field;
typedef struct { PARAMETER_TABLE(POINTER_FIELD) } Params;
#define COUNT_ROW(...) + 1
enum { PARAMETER_ROWS = 0 PARAMETER_TABLE(COUNT_ROW) };

typedef struct {
    int blocks;                       // L
    Ints depths;                      // blocks of each stage; count 0: names have no stages
    Parameter (*row)[PARAMETER_ROWS]; // (L, rows), as block l has them; what is outside the blocks is the same in all
    size_t* segment;                  // (L + 3): where front, every block and back begin in a flat buffer, and its end
    size_t count, total;              // elements of all tensors; floats of a flat buffer
} ParameterTable;

// ---------------------------------------------------------------------------------------------------------------------
// Starting values

// --mlp rational is the "PAU" row of KAT's ablation (a Padé unit, Molina et al., arXiv 1907.06732): one rational for
// the whole layer instead of the activation, hence one group. It is GR-KAN's rational 2 under another name.
static inline RationalShape rational_shape(const Config* c) {
    return (RationalShape){.m = c->rational_m, .n = c->rational_n,
                           .groups = c->mlp == MLP_RATIONAL ? 1 : c->rational_groups,
                           .form = (RationalForm)c->rational_form};
}

// The start of rational 1 or 2: numerator (m+1), denominator (groups, n)
static inline bool rational_begin(const Config* c, int which, float* numerator, float* denominator, Error* err) {
    const char* name = choice_name(RATIONAL_STARTS, which == 1 ? c->rational_init1 : c->rational_init2);
    return rational_start(name, rational_shape(c), numerator, denominator, err);
}

// Variance-preserving weights [KAT, section 4.3]: deviation sqrt(α / fan_in) with α = 1 / E[F(x)²], x ~ N(0,1)
static inline bool preserving_deviation(const Config* c, int which, int fan_in, double* deviation, Error* err) {
    float numerator[RATIONAL_MAX_ORDER + 1];
    float* denominator = alloc_floats((size_t)c->rational_groups * (c->rational_n + 1), "starting coefficients");
    bool ok = rational_begin(c, which, numerator, denominator, err);
    if (ok) { *deviation = sqrt(1 / (rational_second_moment(numerator, denominator, rational_shape(c)) * fan_in)); }
    free(denominator);
    return ok;
}

// How coefficient m of a unit starts, N(mean, deviation²) at --karat-init-scale 1. Wavelets: w N(0,1), tau 0, s 1. A
// rational: numerator N(0,1), and a denominator of --karat-init-denominator: of N(0, 0.1²) it is near 1 for the logits
// of the start but off the kink at S = 0; table 6 of KArAt's paper has N(0,1).
typedef struct { double mean, deviation; bool scales; } CoefficientStart;
static inline CoefficientStart coefficient_start(const Config* c, int m) {
    KaratBasis basis = (KaratBasis)c->basis;
    if (basis == BASIS_RATIONAL && m >= RATIONAL_UNIT_NUMERATOR) {
        return (CoefficientStart){0, c->karat_init_denominator, false};
    }
    if (basis == BASIS_RATIONAL || basis_is_linear(basis) || m == 0) { return (CoefficientStart){0, 1, true}; }
    return (CoefficientStart){m == 2 ? 1.0 : 0.0, 0, false};
}

// Σ of the squares of what multiplies a unit's N(0,1) coefficients, at x: of the features, of x^i (a denominator near 1
// left out), or of ψ(x)
static inline double basis_squares(float x, Basis basis) {
    float e[2 * 64 + SPLINE_MAX_ORDER], unused; // the largest --grid is 64
    int count = basis_coefficients(basis);
    if (basis.kind == BASIS_RATIONAL) {
        count = RATIONAL_UNIT_NUMERATOR;
        basis_powers(e, &x, 1, (Basis){.grid = count - 1});
    } else if (basis_is_linear(basis.kind)) {
        basis_features(e, &x, 1, basis);
    } else {
        count = 1;
        basis_wavelets(e, &unused, &x, 1, basis.kind);
    }
    double sum = 0;
    for (int m = 0; m < count; m++) { sum += (double)e[m] * e[m]; }
    return sum;
}

// E[φ²] of a unit with coefficients N(0,1), over the logits of the start: N(0, (0.02² C)²), for weights of deviation
// 0.02 after a LayerNorm. Fourier: G at every x. Shannon: the mean over its window too.
static inline double basis_power(const Config* c, Dims d) {
    Basis basis = config_basis(c);
    double sum = 0, weights = 0, window = 0;
    if (basis.kind == BASIS_FOURIER) { return d.G; }
    for (int i = -300; i <= 300; i++) {
        double u = 0.02 * i, weight = exp(-0.5 * u * u);
        sum += weight * basis_squares((float)(u * 4e-4 * d.C), basis);
        weights += weight;
    }
    for (int q = 0; q < d.NA; q++) { window += pow(basis_shannon_window(q, d.NA), 2) / d.NA; }
    return sum / weights * (basis.kind == BASIS_SHANNON ? window : 1);
}

// KArAt's start. "paper": coefficients N(0,1), scale_basis 1/sqrt(N) (1/sqrt(R) where an operator sums R functions), W
// trunc_normal .02. "unit" starts what makes sigma so that sigma V has the variance of softmax V at the start, where
// logits near 0 make softmax 1/N everywhere: N E[sigma²] = 1/N. A sum of n units has the variance n scale_basis²
// basis_power(). W's sum over z gives R W² E[z²]; where functions give sigma themselves, their scale is set.
// --karat-init-scale multiplies the coefficients that φ is proportional to, and so the outputs, in both.
typedef struct { double coef, basis, weight; } KaratStart;

// The start of a sum of n functions; makes_sigma: whether it gives sigma itself
static inline KaratStart operator_start(const Config* c, Dims d, int n, bool makes_sigma) {
    KaratStart start = {.coef = c->karat_init_scale, .basis = 1 / sqrt(n), .weight = 0.02};
    if (c->karat_init == KARAT_INIT_PAPER) { return start; }
    if (makes_sigma) {
        start.basis = 1 / (d.NA * sqrt(n * basis_power(c, d)));
        if (!c->karat_scales) { start.coef *= start.basis; }
    } else {
        double scale = c->karat_scales ? start.basis : 1;
        start.weight = 1 / (d.NA * sqrt(d.R * n * scale * scale * basis_power(c, d)));
    }
    return start;
}

// For the operator that has the tensors "coef" and "scale_basis", and for W
static inline KaratStart karat_start(const Config* c, Dims d) {
    bool after_W = c->karat_order == KARAT_PHI_W;
    KaratStart start = operator_start(c, d, after_W ? d.R : d.NA, after_W || c->karat_full);
    if (after_W) { start.weight = 0.02; }
    return start;
}

static inline void parameter_table_free(ParameterTable* table) {
    free(table->row);
    free(table->segment);
    *table = (ParameterTable){0};
}

// How many tensors a row stands for, some of which may not exist
static inline int row_copies(const ParameterTable* table, int i) {
    return table->row[0][i].per_block ? table->blocks : 1;
}

// Sets sizes and draws from shapes. Returns the number of all elements; it does not overflow.
static inline double size_tensors(ParameterTable* table) {
    double elements = 0;
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        size_t draw = 0;
        for (int l = 0; l < table->blocks; l++) {
            Parameter* p = &table->row[l][i];
            bool per_stage = strncmp(p->name, "layers.%d.", 10) == 0;
            p->per_block = strstr(p->name, "%d") != NULL;
            p->shared = p->size && per_stage && place_in(table->depths, l).block > 0;
            if (p->shared) { p->size = 0; }
            double size = (double)p->size;
            for (int k = 0; k < p->rank; k++) {
                p->size *= (size_t)p->shape[k];
                size *= (double)p->shape[k];
            }
            p->draw = p->per_block ? draw : 0;
            draw += p->size;
            elements += p->per_block || l == 0 ? size : 0;
        }
    }
    return elements;
}

// Places the tensors of block l, or those that all share, of rows first ... end - 1. Returns where the next may begin.
static inline size_t place_rows(ParameterTable* table, int l, bool per_block, int first, int end, size_t at) {
    for (int i = first; i < end; i++) {
        Parameter* p = &table->row[l][i];
        if (p->per_block != per_block) { continue; }
        p->offset = at;
        at += (p->size + GROUP_FLOATS - 1) / GROUP_FLOATS * GROUP_FLOATS;
    }
    return at;
}

static inline void place_tensors(ParameterTable* table) {
    int L = table->blocks, behind = PARAMETER_ROWS;
    while (!table->row[0][behind - 1].per_block) { behind--; }
    size_t* segment = table->segment;
    segment[1] = place_rows(table, 0, false, 0, behind, segment[0] = 0);
    for (int l = 0; l < L; l++) { segment[l + 2] = place_rows(table, l, true, 0, behind, segment[l + 1]); }
    table->total = segment[L + 2] = place_rows(table, 0, false, behind, PARAMETER_ROWS, segment[L + 1]);
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        bool per_block = table->row[0][i].per_block;
        for (int l = 1; l < L; l++) {
            bool shared = table->row[l][i].shared || !per_block;
            if (shared) { table->row[l][i].offset = table->row[l - 1][i].offset; }
        }
    }
}

// Rows of pos_embed, d: the sizes of the first block
static inline int positions_of(const Config* c, Dims d) { return c->no_embed_class ? d.N - d.prefix : d.N; }

// Deviations of the weights of fc1 and fc2
typedef struct { InitKind kind; double fc1, fc2; } MlpStart;

static inline bool mlp_start(MlpStart* start, const Config* c, Dims d, Error* err) {
    *start = (MlpStart){INIT_TRUNC_NORMAL, 0.02, 0.02};
    if (c->mlp != MLP_GR_KAN || c->mlp_init != MLP_INIT_VARIANCE_PRESERVING) { return true; }
    start->kind = INIT_NORMAL;
    return preserving_deviation(c, 1, d.C, &start->fc1, err) && preserving_deviation(c, 2, d.F, &start->fc2, err);
}

// The tensors of block l of a model of sizes `model`
static inline void block_rows(Parameter rows[PARAMETER_ROWS], const Config* c, Dims model, int l, MlpStart mlp) {
    Dims d = dims_of_block(c, model, l), end = dims_of_block(c, model, model.L);
    Dims o = c->karat_mode == KARAT_UNIVERSAL && !c->window ? end : d;
    double patch_bound = 1 / sqrt(3.0 * d.P * d.P);
    InitKind token_init = c->local_blocks ? INIT_TRUNC_NORMAL : INIT_NORMAL;
    double token_value = c->local_blocks ? 0.02 : 1e-6;
    RationalShape r = rational_shape(c);
    KaratStart karat = karat_start(c, o), outer = operator_start(c, o, o.R, true);
    double rank_deviation = pow((double)d.NA * d.R, -0.25); // sigma as large as softmax's weights; both maps alike
#define TABLE_ROW(field, row_name, present, row_group, kind, value, row_shape) \
    {.name = row_name, .group = row_group, .init = kind, .init_value = value, \
     .rank = (int)(sizeof((int64_t[]){row_shape}) / sizeof(int64_t)), .shape = {row_shape}, \
     .size = (size_t)((present) ? 1 : 0)},
    const Parameter table[] = {PARAMETER_TABLE(TABLE_ROW)};
    memcpy(rows, table, sizeof table);
}

static inline bool parameter_table(ParameterTable* table, const Config* c, Dims d, Error* err) {
    size_t places = (size_t)d.L * PARAMETER_ROWS;
    Ints depths = stage_depths(c);
    MlpStart mlp = {};
    *table = (ParameterTable){.blocks = d.L, .depths = c->window ? depths : (Ints){0}};
    table->row = (Parameter(*)[PARAMETER_ROWS])alloc_array(Parameter, places, "the parameters' table");
    table->segment = alloc_array(size_t, d.L + 3, "the parameters' table");
    for (int l = 0; l < d.L; l++) {
        bool begins = place_in(depths, l).block == 0;
        if (begins && !mlp_start(&mlp, c, dims_of_block(c, d, l), err)) {
            parameter_table_free(table);
            return false;
        }
        block_rows(table->row[l], c, d, l, mlp);
    }
    double elements = size_tensors(table);
    if (elements > 0x1p60) {
        parameter_table_free(table);
        return set_error(err, "%.3g parameters are beyond any memory: use a smaller --dim, --depth, --heads or "
                         "--image-size", elements);
    }
    table->count = (size_t)elements;
    place_tensors(table);
    return true;
}

// The struct of pointers into a flat buffer, with the tensors of block l. Its fields are in table order, so it can be
// filled as an array.
static inline Params params_of_block(const ParameterTable* table, float* flat, int l) {
    float* pointers[PARAMETER_ROWS];
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        const Parameter* p = &table->row[l][i];
        pointers[i] = p->size || p->shared ? flat + p->offset : NULL;
    }
    Params params;
    static_assert(sizeof params == sizeof pointers, "Params has one pointer a row");
    memcpy(&params, pointers, sizeof params);
    return params;
}

// For uses that involve no tensor of a block
static inline Params params_of(const ParameterTable* table, float* flat) { return params_of_block(table, flat, 0); }

// The group of every GROUP_FLOATS floats of a flat buffer, (total / GROUP_FLOATS), to be freed
static inline uint8_t* update_groups(const ParameterTable* table) {
    uint8_t* groups = alloc_array(uint8_t, table->total / GROUP_FLOATS, "AdamW");
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            memset(groups + p->offset / GROUP_FLOATS, p->group, (p->size + GROUP_FLOATS - 1) / GROUP_FLOATS);
        }
    }
    return groups;
}

// Normal draws outside ±2 are drawn again, since timm's trunc_normal_ cuts at ±2, not at ±2 deviations.
static inline float trunc_normal(uint64_t seed, uint32_t tensor, uint64_t element, double deviation) {
    for (uint64_t attempt = 0;; attempt++) {
        double x = deviation * random_normal(seed, STREAM_INIT, tensor, element + (attempt << 40));
        if (fabs(x) <= 2) { return (float)x; }
    }
}

// FNV-1a of the name, so that a tensor's start does not depend on which other tensors the table has
static inline uint32_t name_hash(const char* name) {
    uint32_t hash = 2166136261u;
    for (; *name; name++) { hash = (hash ^ (uint8_t)*name) * 16777619u; }
    return hash;
}

// Element i of pos_proj.weight (H,3): head h1 + a h2, a = floor(sqrt(H)), looks at the patch (h2, h1) - (a - 1) / 2
// away; heads from a^2 on start like other weights.
static inline float locality_start(const Parameter* p, uint64_t seed, uint32_t tensor, int64_t i) {
    int a = (int)sqrt((double)p->shape[0]), head = (int)(i / 3);
    double middle = (a - 1) / 2.0, look[3] = {2 * (head / a - middle), 2 * (head % a - middle), -1};
    if (head >= a * a) { return trunc_normal(seed, tensor, p->draw + (uint64_t)i, 0.02); }
    return (float)(p->init_value * look[i % 3]);
}

static inline void init_random(const Parameter* p, uint64_t seed, float* out) {
    double value = p->init_value;
    uint32_t tensor = name_hash(p->name);
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < (int64_t)p->size; i++) {
        uint64_t draw = p->draw + (uint64_t)i;
        switch (p->init) {
        case INIT_TRUNC_NORMAL: out[i] = trunc_normal(seed, tensor, draw, value); break;
        case INIT_NORMAL: out[i] = (float)(value * random_normal(seed, STREAM_INIT, tensor, draw)); break;
        case INIT_UNIFORM: out[i] = (float)(value * (2 * random_uniform(seed, STREAM_INIT, tensor, draw) - 1)); break;
        case INIT_IDENTITY: out[i] = i / p->shape[1] == i % p->shape[1]; break;
        case INIT_LOCALITY: out[i] = locality_start(p, seed, tensor, i); break;
        default: out[i] = (float)value;
        }
    }
}

// coef (H,R,M,N)
static inline void init_coefficients(const Config* c, const Parameter* p, float* out) {
    uint32_t tensor = name_hash(p->name);
    #pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < (int64_t)p->size; i++) {
        CoefficientStart start = coefficient_start(c, (int)(i / p->shape[3] % p->shape[2]));
        double deviation = start.deviation * (start.scales ? p->init_value : 1);
        double draw = random_normal((uint64_t)c->seed, STREAM_INIT, tensor, p->draw + (uint64_t)i);
        out[i] = (float)(start.mean + deviation * draw);
    }
}

// A row of coefficients, in all blocks
static inline bool init_rational(const Config* c, const ParameterTable* table, int row, float* flat, Error* err) {
    float numerator[RATIONAL_MAX_ORDER + 1];
    float* denominator = alloc_floats((size_t)c->rational_groups * (c->rational_n + 1), "starting coefficients");
    const Parameter* first = &table->row[0][row];
    const float* start = first->init == INIT_NUMERATOR ? numerator : denominator;
    bool ok = rational_begin(c, (int)first->init_value, numerator, denominator, err);
    for (int l = 0; ok && l < table->blocks; l++) {
        const Parameter* p = &table->row[l][row];
        memcpy(flat + p->offset, start, p->size * sizeof(float));
    }
    free(denominator);
    return ok;
}

static inline bool params_init(const ParameterTable* table, const Config* c, float* flat, Error* err) {
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        InitKind kind = table->row[0][i].init;
        bool rational = (kind == INIT_NUMERATOR || kind == INIT_DENOMINATOR) && table->row[0][i].size;
        if (rational && !init_rational(c, table, i, flat, err)) { return false; }
        for (int l = 0; !rational && l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            if (kind == INIT_COEFFICIENTS) {
                init_coefficients(c, p, flat + p->offset);
            } else {
                init_random(p, (uint64_t)c->seed, flat + p->offset);
            }
        }
    }
    return true;
}

// ---------------------------------------------------------------------------------------------------------------------
// Single tensors, under the names that files and messages use

static inline int tensor_count(const ParameterTable* table) {
    int count = 0;
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(table, i); l++) { count += table->row[l][i].size > 0; }
    }
    return count;
}

// The name of a row's tensor in block l: "blocks.%d." becomes "layers.S.blocks.B." if names have stages
static inline void tensor_name(const ParameterTable* table, const char* row, int l, char name[NAME_SIZE]) {
    const char* mark = strstr(row, "%d");
    BlockPlace at = place_in(table->depths, l);
    if (!mark) {
        snprintf(name, NAME_SIZE, "%s", row);
    } else if (!table->depths.count) {
        snprintf(name, NAME_SIZE, "%.*s%d%s", (int)(mark - row), row, l, mark + 2);
    } else if (*row == 'l') {
        snprintf(name, NAME_SIZE, "layers.%d%s", at.stage, mark + 2);
    } else {
        snprintf(name, NAME_SIZE, "layers.%d.blocks.%d%s", at.stage, at.block, mark + 2);
    }
}

// tensor_count() entries in the order of the table, then of the blocks; to be freed
static inline NamedTensor* named_tensors(const ParameterTable* table) {
    NamedTensor* tensors = alloc_array(NamedTensor, tensor_count(table), "tensor names");
    int at = 0;
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(table, i); l++) {
            const Parameter* p = &table->row[l][i];
            if (!p->size) { continue; }
            NamedTensor* t = &tensors[at++];
            tensor_name(table, p->name, l, t->name);
            t->rank = p->rank;
            memcpy(t->shape, p->shape, sizeof t->shape);
            t->size = p->size;
            t->offset = p->offset;
        }
    }
    return tensors;
}
