// kat.c trains vision transformers, among them Kolmogorov-Arnold ones, on the CPU. Read it in this order:
//
//     configuration -> parameter table -> data -> forward -> backward -> update -> log
//
// This file holds the model: its activations, forward, backward and update, and main. model/config.h has the option
// table, model/parameters.h the parameter table. trainer/ has what a run does around its model (steps, evaluation,
// checkpoints, its folder), shared with the CUDA trainer, and how several processes join in one run (meet.h). kernels/
// has one file per operation, with its maths at the top; data/ turns image files into batches; runtime/ has what does
// not depend on the model.
//
// Shapes: B images, N tokens, C width, H heads, L blocks, F hidden width of the MLP, K classes. All tensors are
// row-major fp32; --precision bf16 rounds the operands of linear layers as they are read, and --stream-grad bf16 rounds
// the gradient of the residual stream once every branch has added to it. Names of gradients begin with d. Gradients of
// parameters are accumulated; gradients of activations are overwritten, except dx, that of the residual stream, to
// which every branch adds.
#include "data/loader.h"
#include "kernels/activation.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/attention_gate.h"
#include "kernels/attention_gpsa.h"
#include "kernels/attention_linear.h"
#include "kernels/attention_mixing.h"
#include "kernels/attention_pointwise.h"
#include "kernels/attention_rank.h"
#include "kernels/attention_window.h"
#include "kernels/kan.h"
#include "kernels/karat.h"
#include "kernels/layernorm.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "kernels/patch_embed.h"
#include "kernels/patch_merge.h"
#include "kernels/prefix.h"
#include "kernels/rational.h"
#include "kernels/residual.h"
#include "model/activations.h"
#include "model/attention_start.h"
#include "model/config.h"
#include "model/cost.h"
#include "model/gradient_sum.h"
#include "model/parameters.h"
#include "model/owners.h"
#include "model/step.h"
#include "runtime/hand_over.h"
#include "runtime/profile.h"
#include "runtime/threads.h"
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------------------------
// Activations: one table (field, present, kept, floats per image), as for the parameters; d: the sizes of a block. What
// is kept per block is what the backward needs. After keys and values, a block is computed for NQ tokens: for all, or
// in the last block for the class token alone.

#define SAVED_TABLE(A) \
A(patches,   true, ONCE,    (size_t)(d.S / d.P) * (d.S / d.P) * 3 * d.P * d.P) \
A(before,    d.entry != ENTRY_NONE, ENTRIES, entering_size(d))    /* the residual stream before a stage */ \
A(merged,    d.entry == ENTRY_MERGE, ENTRIES, (size_t)d.N * 2 * d.C) \
A(merged_norm, d.entry == ENTRY_MERGE, ENTRIES, (size_t)d.N * 2 * d.C) \
A(entry_mean, normalises(d.entry), ENTRIES, (size_t)d.N) /* of that norm, or of the patches' */ \
A(entry_rstd, normalises(d.entry), ENTRIES, (size_t)d.N) \
A(x,         true, INPUTS,  (size_t)d.N * d.C)         /* input of each block; the last one is the stack's output */ \
A(ln1,       true, kept,    (size_t)d.N * d.C) \
A(ln1_mean,  true, kept,    (size_t)d.N) \
A(ln1_rstd,  true, kept,    (size_t)d.N) \
A(qkv,       true, kept,    (size_t)d.N * 3 * d.C)     /* queries of NQ tokens only */ \
A(lse,       softmax_heads(c, d) > 0, kept, (size_t)softmax_heads(c, d) * d.NQ) \
A(z,         c->attn == ATTN_KARAT && !d.local, kept, (size_t)d.HK * d.NQ * d.R) \
A(mix,       true, kept,    (size_t)d.NQ * d.C)        /* the values, weighted by attention */ \
A(gate,      c->attn_gate, kept, (size_t)d.NQ * d.H)   /* before the sigmoid */ \
A(gated,     c->attn_gate, kept, (size_t)d.NQ * d.C)   /* mix, each head times its gate */ \
A(proj,      true, c->layer_scale > 0 ? kept : PASSING, (size_t)d.NQ * d.C) \
A(x_mid,     true, kept,    (size_t)d.NQ * d.C)        /* the residual stream between attention and MLP */ \
A(ln2,       true, kept,    (size_t)d.NQ * d.C) \
A(ln2_mean,  true, kept,    (size_t)d.NQ) \
A(ln2_rstd,  true, kept,    (size_t)d.NQ) \
A(act1,      c->mlp == MLP_GR_KAN, kept, (size_t)d.NQ * d.C) \
A(fc1,       true, kept,    (size_t)d.NQ * d.F) \
A(act2,      c->mlp != MLP_KAN, kept, (size_t)d.NQ * d.F) \
A(fc2,       true, c->layer_scale > 0 ? kept : PASSING, (size_t)d.NQ * d.C) \
A(norm,      true, ONCE,    (size_t)d.N * d.C) \
A(norm_mean, true, ONCE,    (size_t)d.N) \
A(norm_rstd, true, ONCE,    (size_t)d.N) \
A(pooled,    true, ONCE,    (size_t)d.C) \
A(logits,    true, ONCE,    (size_t)d.K) \
A(probs,     true, ONCE,    (size_t)d.K) \
A(losses,    true, ONCE,    1)

#define BACKWARD_TABLE(A) \
A(dx,        true, PASSING, (size_t)d.N * d.C)         /* gradient of the residual stream */ \
A(dx_token,  d.NQ < d.N, PASSING, (size_t)d.C)         /* the same of the class token, where it alone goes on */ \
A(dbranch,   true, PASSING, (size_t)d.N * d.C)         /* of what attention or MLP adds to it */ \
A(dln,       true, PASSING, (size_t)d.N * d.C) \
A(dmix,      true, PASSING, (size_t)d.N * d.C) \
A(dgate,     c->attn_gate, PASSING, (size_t)d.N * d.H) \
A(dqkv,      true, PASSING, (size_t)d.N * 3 * d.C) \
A(dhidden,   true, PASSING, (size_t)d.N * d.F) \
A(dpooled,   true, ONCE,    (size_t)d.C) \
A(dlogits,   true, ONCE,    (size_t)d.K)

#define ACTIVATION_TABLE(A) SAVED_TABLE(A) BACKWARD_TABLE(A)
typedef struct { ACTIVATION_TABLE(POINTER_FIELD) } Acts;
enum { SAVED_ROWS = 0 SAVED_TABLE(COUNT_ROW), ACTIVATION_ROWS = SAVED_ROWS BACKWARD_TABLE(COUNT_ROW) };

typedef struct {
    Activation row[ACTIVATION_ROWS];
    Ints depths;         // blocks of each stage
    size_t saved, total; // bytes: of the saved activations, of all
} ActivationTable;

// Heads whose softmax the backward recomputes from its log-sum-exp
static int softmax_heads(const Config* c, Dims d) {
    return d.local || c->attn == ATTN_SOFTMAX || c->attn == ATTN_SOFTMAX_RANK ? d.H : c->softmax_heads;
}

static void activation_sizes(size_t* elements, const Config* c, Dims d) {
#define ACTIVATION_SIZE(field, present, kept, floats) (present) ? floats : 0,
    const size_t sizes[] = {ACTIVATION_TABLE(ACTIVATION_SIZE)};
    memcpy(elements, sizes, sizeof sizes);
}

static ActivationTable activation_table(const Config* c, Dims d, int B) {
    Keeping kept = c->recompute ? PASSING : KEPT;
#define ACTIVATION_ROW(field, present, kept, floats) {.name = #field, .keeping = kept, .size = sizeof(float)},
    ActivationTable table = {.row = {ACTIVATION_TABLE(ACTIVATION_ROW)}, .depths = stage_depths(c)};
    enum { CACHE_LINE = 64 }; // bytes
    table.total = place_activations(table.row, ACTIVATION_ROWS, activation_sizes, c, d, B, CACHE_LINE);
    table.saved = table.row[SAVED_ROWS].offset[0];
    return table;
}

// Pointers into the buffer; those to per-block activations point to block l's
static Acts acts_of_block(const ActivationTable* table, float* flat, int l) {
    float* pointers[ACTIVATION_ROWS];
    BlockPlace at = place_in(table->depths, l);
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        const Activation* a = &table->row[i];
        pointers[i] = activation_exists(a, at) ? flat + activation_offset(a, at) / sizeof(float) : NULL;
    }
    Acts acts;
    static_assert(sizeof acts == sizeof pointers, "Acts has one pointer a row");
    memcpy(&acts, pointers, sizeof acts);
    return acts;
}

// ---------------------------------------------------------------------------------------------------------------------
// The model

typedef struct {
    Config config;
    Dims dims;
    ParameterTable table;
    NamedTensor* tensors;
    int tensor_count;
    float *params, *grads;              // flat, (table.total)
    float *exp_avg, *exp_avg_sq, *ema;  // of what this rank updates (owners.owned); ema: NULL when off
    uint8_t* groups;                    // the UpdateGroup of every GROUP_FLOATS floats of a flat buffer
    ActivationTable acts_table;
    float* acts;
    float* scratch;
    float* keep; // (L, 2, B) drop path: 0 or 1/(1-rate) for each block, branch, image; NULL: all kept
    int B;       // images that the activation buffer can hold
    StepSums sums;
    GradientSum sum; // of the gradients of a step's micro-batches
    Owners owners;   // this rank's part, among other ranks
    Profile profile;
} Model;

// Counts the time since the last lap towards this part, and moves messages along that are under way.
static void lap(Model* m, int part) {
    profile_lap(&m->profile, part);
    owners_poll(&m->owners);
}

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

// The sizes of block l; l = L: of what comes after the blocks
static Dims dims_at(const Model* m, int l) { return dims_of_block(&m->config, m->dims, l); }

static Acts acts_at(const Model* m, int l) { return acts_of_block(&m->acts_table, m->acts, l); }

// ---------------------------------------------------------------------------------------------------------------------
// What can be chosen: how the logits of attention become weights (--attn), and the MLP's activation (--mlp)

static KaratDims karat_dims(const Model* m, Dims d, int B) {
    const Config* c = &m->config;
    Basis basis = config_basis(c);
    int windows = d.windows.grid ? windows_of_image(d.windows) : 1;
    return (KaratDims){.B = B * windows, .N = d.NA, .NQ = windows > 1 ? d.NA : d.NQ, .C = d.C, .H = d.HK, .D = d.D,
                       .R = d.R, .G = d.G, .base = (KaratBase)c->karat_base, .basis = basis.kind,
                       .spline_order = basis.order, .spline_range = basis.range, .order = (KaratOrder)c->karat_order,
                       .full_rank = c->karat_full != 0, .projection = (Projection)c->karat_projection,
                       .project_z = c->karat_projection != PROJECT_NONE && c->karat_project == KARAT_PROJECT_Z,
                       .windows = d.windows, .mask = (KaratMask)c->karat_mask};
}

// bias_table: in windows, that of KArAt's heads, from the first on
static KaratParams karat_params(Params p, const float* bias_table, KaratDims d) {
    KaratOperator first = {p.karat_coef, p.scale_basis, p.scale_base};
    KaratOperator second = {p.outer_coef, p.outer_scale_basis, p.outer_scale_base};
    return (KaratParams){.inner = first, .outer = d.order == KARAT_PHI_W ? first : second,
                         .proj_weight = p.karat_weight, .proj_bias = p.karat_bias, .bias_table = bias_table};
}

static KaratGrads karat_grads(Params p, float* bias_table, KaratDims d) {
    KaratOperatorGrads first = {p.karat_coef, p.scale_basis, p.scale_base};
    KaratOperatorGrads second = {p.outer_coef, p.outer_scale_basis, p.outer_scale_base};
    return (KaratGrads){.inner = first, .outer = d.order == KARAT_PHI_W ? first : second, .proj_weight = p.karat_weight,
                        .proj_bias = p.karat_bias, .bias_table = bias_table};
}

// Workspace in floats for attend_forward and attend_backward
static size_t attend_scratch(const Model* m, Dims d) {
    if (d.local) { return gpsa_scratch(m->B, d.N, d.H); }
    if (d.windows.grid) {
        size_t softmax = window_attention_scratch(m->B, d.windows, softmax_heads(&m->config, d), d.D);
        bool karat = m->config.attn == ATTN_KARAT;
        return karat ? largest(softmax, karat_scratch(karat_dims(m, d, m->B))) : softmax;
    }
    size_t hybrid = m->config.softmax_heads ? attention_scratch(d.N) : 0;
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT: return largest(karat_scratch(karat_dims(m, d, m->B)), hybrid);
    case ATTN_MIXING: return mixing_scratch(m->B, d.N, d.H);
    case ATTN_SOFTMAX_RANK: return rank_scratch(m->B, d.N, d.C, d.H, d.R);
    case ATTN_LINEAR: return linear_attention_scratch(d.N, d.C, d.H);
    case ATTN_SOFTMAX: return attention_scratch(d.N);
    case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL: return pointwise_scratch(d.N);
    }
    return 0;
}

static void attend_to_all_forward(const Model* m, Params p, Acts a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H, D = s.D, first = m->config.softmax_heads * D;
    KaratDims k = karat_dims(m, s, B);
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT: // softmax heads, if any, come first
        attention_forward(a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, m->config.softmax_heads, D);
        karat_forward(a.mix + first, a.z, a.qkv + first, karat_params(p, NULL, k), m->scratch, k);
        break;
    case ATTN_SOFTMAX: attention_forward(a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, H, D); break;
    case ATTN_MIXING: mixing_forward(a.mix, a.qkv, p.mixing, B, N, NQ, C, H); break;
    case ATTN_SOFTMAX_RANK:
        rank_forward(a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch, B, N, NQ, C, H, s.R);
        break;
    case ATTN_LINEAR: linear_attention_forward(a.mix, a.qkv, m->scratch, B, N, NQ, C, H); break;
    case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL:
        pointwise_forward(a.mix, a.qkv, pointwise_kind(m->config.attn), m->scratch, B, N, NQ, C, H);
    }
}

// In windows: softmax in the first heads, perhaps in all, KArAt in the others
static void attend_in_windows_forward(const Model* m, Params p, Acts a, Dims s, int B) {
    int softmax = softmax_heads(&m->config, s), first = softmax * s.D;
    KaratDims k = karat_dims(m, s, B);
    if (softmax) {
        window_attention_forward(a.mix, a.lse, a.qkv, p.window_table, m->scratch, B, s.windows, s.C, softmax, s.D);
    }
    if (m->config.attn == ATTN_KARAT) {
        karat_forward(a.mix + first, a.z, a.qkv + first, karat_params(p, p.window_table + softmax, k), m->scratch, k);
    }
}

// a.mix = the weighted values of a.qkv, for the queries of the first NQ tokens. s, here and below: the sizes of the
// block
static void attend_forward(const Model* m, Params p, Acts a, Dims s, int B) {
    if (s.local) {
        gpsa_forward(a.mix, a.lse, a.qkv, p.position, p.gating, m->scratch, B, s.N, s.C, s.H);
    } else if (s.windows.grid) {
        attend_in_windows_forward(m, p, a, s, B);
    } else {
        attend_to_all_forward(m, p, a, s, B);
    }
}

static void attend_to_all_backward(const Model* m, Params p, Params d, Acts a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H, D = s.D, first = m->config.softmax_heads * D;
    KaratDims k = karat_dims(m, s, B);
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT:
        attention_backward(a.dqkv, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, m->config.softmax_heads, D);
        karat_backward(a.dqkv + first, karat_grads(d, NULL, k), a.dmix + first, a.z, a.qkv + first,
                       karat_params(p, NULL, k), m->scratch, k);
        break;
    case ATTN_SOFTMAX: attention_backward(a.dqkv, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, H, D); break;
    case ATTN_MIXING: mixing_backward(a.dqkv, d.mixing, a.dmix, a.qkv, p.mixing, m->scratch, B, N, NQ, C, H); break;
    case ATTN_SOFTMAX_RANK:
        rank_backward(a.dqkv, d.rank_down, d.rank_up, a.dmix, a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch,
                      B, N, NQ, C, H, s.R);
        break;
    case ATTN_LINEAR: linear_attention_backward(a.dqkv, a.dmix, a.mix, a.qkv, m->scratch, B, N, NQ, C, H); break;
    case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL:
        pointwise_backward(a.dqkv, a.dmix, a.qkv, pointwise_kind(m->config.attn), m->scratch, B, N, NQ, C, H);
    }
}

static void attend_in_windows_backward(const Model* m, Params p, Params d, Acts a, Dims s, int B) {
    int softmax = softmax_heads(&m->config, s), first = softmax * s.D;
    KaratDims k = karat_dims(m, s, B);
    if (softmax) {
        window_attention_backward(a.dqkv, d.window_table, a.dmix, a.mix, a.lse, a.qkv, p.window_table, m->scratch, B,
                                  s.windows, s.C, softmax, s.D);
    }
    if (m->config.attn == ATTN_KARAT) {
        karat_backward(a.dqkv + first, karat_grads(d, d.window_table + softmax, k), a.dmix + first, a.z, a.qkv + first,
                       karat_params(p, p.window_table + softmax, k), m->scratch, k);
    }
}

// a.dqkv from a.dmix
static void attend_backward(const Model* m, Params p, Params d, Acts a, Dims s, int B) {
    if (s.local) {
        gpsa_backward(a.dqkv, d.position, d.gating, a.dmix, a.lse, a.qkv, p.position, p.gating, m->scratch, B, s.N, s.C,
                      s.H);
    } else if (s.windows.grid) {
        attend_in_windows_backward(m, p, d, a, s, B);
    } else {
        attend_to_all_backward(m, p, d, a, s, B);
    }
}

// a.act2 = activation(a.fc1), rows of F
static void mlp_activation_forward(const Model* m, Params p, Acts a, Dims s, int rows) {
    int F = s.F, mlp = m->config.mlp;
    size_t n = (size_t)rows * F;
    if (mlp < ACTIVATION_COUNT) {
        activation_forward(a.act2, a.fc1, (ActivationKind)mlp, n);
    } else if (mlp == MLP_PRELU) {
        prelu_forward(a.act2, a.fc1, p.prelu_weight, n);
    } else {
        rational_forward(a.act2, a.fc1, p.numerator2, p.denominator2, rows, F, rational_shape(&m->config));
    }
}

// act2 = activation(fc1): turns a.dhidden from d(act2) into d(fc1)
static void mlp_activation_backward(const Model* m, Params p, Params d, Acts a, Dims s, int rows) {
    int F = s.F, mlp = m->config.mlp;
    size_t n = (size_t)rows * F;
    if (mlp < ACTIVATION_COUNT) {
        activation_backward(a.dhidden, a.dhidden, a.fc1, (ActivationKind)mlp, n);
    } else if (mlp == MLP_PRELU) {
        prelu_backward(a.dhidden, d.prelu_weight, a.dhidden, a.fc1, p.prelu_weight, m->scratch, n);
    } else {
        rational_backward(a.dhidden, d.numerator2, d.denominator2, a.dhidden, a.fc1, p.numerator2, p.denominator2,
                          m->scratch, rows, F, rational_shape(&m->config));
    }
}

// a.fc2 = two KAN layers of a.ln2, instead of the MLP
static void kan_mlp_forward(Model* m, Params p, Acts a, Dims s, int rows) {
    int C = s.C, F = s.F;
    Basis basis = kan_basis(&m->config);
    kan_forward(a.fc1, a.ln2, p.fc1_weight, p.fc1_spline, p.fc1_bias, m->scratch, rows, C, F, basis);
    lap(m, PART_FC1);
    kan_forward(a.fc2, a.fc1, p.fc2_weight, p.fc2_spline, p.fc2_bias, m->scratch, rows, F, C, basis);
    lap(m, PART_FC2);
}

// a.dln from a.dbranch = d(a.fc2)
static void kan_mlp_backward(Model* m, Params p, Params d, Acts a, Dims s, int rows) {
    int C = s.C, F = s.F;
    Basis basis = kan_basis(&m->config);
    kan_backward(a.dhidden, d.fc2_weight, d.fc2_spline, d.fc2_bias, a.dbranch, a.fc1, p.fc2_weight, p.fc2_spline,
                 m->scratch, rows, F, C, basis);
    lap(m, PART_FC2);
    kan_backward(a.dln, d.fc1_weight, d.fc1_spline, d.fc1_bias, a.dhidden, a.ln2, p.fc1_weight, p.fc1_spline,
                 m->scratch, rows, C, F, basis);
    lap(m, PART_FC1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Planning and allocation

// Workspace, in floats, for the kernel that needs most: in a block, or before and after the blocks
static size_t block_scratch(const Model* m, Dims d) {
    int B = m->B, rows = B * d.N;
    size_t most = patch_embed_scratch(B, d.S, d.P, d.C);
    most = largest(most, linear_backward_scratch(rows, d.C, 3 * d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, 2 * d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, d.H));
    most = largest(most, linear_backward_scratch(rows, 2 * d.C, d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, d.F));
    most = largest(most, linear_backward_scratch(rows, d.F, d.C));
    most = largest(most, linear_backward_scratch(B, d.C, d.K));
    most = largest(most, layernorm_scratch(rows, 2 * d.C));
    most = largest(most, residual_scratch(B, d.N, d.C));
    most = largest(most, rational_scratch(rows, d.F, rational_shape(&m->config)));
    most = largest(most, rational_scratch(rows, d.C, rational_shape(&m->config)));
    most = largest(most, prelu_scratch((size_t)rows * d.F));
    if (m->config.mlp == MLP_KAN) {
        most = largest(most, kan_scratch(d.C, d.F, kan_basis(&m->config)));
        most = largest(most, kan_scratch(d.F, d.C, kan_basis(&m->config)));
    }
    return largest(most, attend_scratch(m, d));
}

static size_t model_scratch(const Model* m) {
    size_t most = 0;
    for (int l = 0; l < m->dims.L; l++) { most = largest(most, block_scratch(m, dims_at(m, l))); }
    return most;
}

// Sizes only: nothing is allocated, so that --dry-run can tell what a run would need. B: images in a batch, at most
RUNS_ONCE static bool model_plan(Model* m, const Config* config, int classes, int B, Error* err) {
    if (config->precision == PRECISION_TF32) {
        return set_error(err, "--precision tf32 is for the GPU: use ./train_katcu, or leave it out");
    }
    if (config->precision == PRECISION_BF16 && config->gradcheck) {
        return set_error(err, "--gradcheck takes differences of the loss that are lost in bf16: leave --precision out");
    }
    *m = (Model){.config = *config, .dims = dims_of(config, classes), .B = B};
    if (!parameter_table(&m->table, config, m->dims, err)) { return false; }
    m->acts_table = activation_table(config, m->dims, m->B);
    m->sum = gradient_sum_plan(m->table.total, config->grad_accum_steps);
    m->owners = owners_plan(&m->table, config->grad_accum_steps);
    return true;
}

static bool model_allocate(Model* m, Error* err) {
    size_t total = m->table.total, owned = m->owners.owned;
    matmul_init();
    linear_use_bf16(m->config.precision == PRECISION_BF16);
    m->tensors = named_tensors(&m->table);
    m->tensor_count = tensor_count(&m->table);
    m->params = alloc_floats(total, "parameters");
    m->grads = alloc_floats(total, "gradients");
    m->exp_avg = alloc_floats(owned, "AdamW's first moment");
    m->exp_avg_sq = alloc_floats(owned, "AdamW's second moment");
    m->ema = m->config.model_ema_decay > 0 ? alloc_floats(owned, "the running mean of the weights") : NULL;
    m->groups = update_groups(&m->table);
    owners_allocate(&m->owners);
    m->acts = alloc_floats(m->acts_table.total / sizeof(float), "activations");
    m->scratch = alloc_floats(model_scratch(m), "workspace");
    m->keep = m->config.drop_path > 0 ? alloc_floats((size_t)m->dims.L * 2 * m->B, "drop path") : NULL;
    if (!params_init(&m->table, &m->config, m->params, err)) { return false; }
    bool replaced = *m->config.eval || *m->config.resume; // every parameter will come from a file
    if (!replaced) { attention_start(&m->config, &m->table, m->dims, m->params); }
    return true;
}

static void model_free(Model* m) {
    void* buffers[] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema, m->groups, m->acts, m->scratch, m->keep};
    owners_settle(&m->owners);
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) { free(buffers[i]); }
    gradient_sum_free(&m->sum);
    owners_free(&m->owners);
    parameter_table_free(&m->table);
    free(m->tensors);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// The rows of ln1 that have queries, as the input of a linear layer
static LinearShape query_rows(Dims s, int B, int OC, int ld_out) {
    return (LinearShape){B * s.NQ, s.C, OC, s.NQ < s.N ? s.N * s.C : s.C, ld_out};
}

// A bias from element i on; NULL where there is none
static float* bias_from(float* bias, int i) { return bias ? bias + i : NULL; }

// a.qkv: queries of the first NQ tokens, keys and values of all
static void qkv_forward(Params p, Acts a, Dims s, int B) {
    int N = s.N, C = s.C;
    if (s.local) { // values have a weight of their own
        linear_forward_strided(a.qkv, a.ln1, p.qk_weight, p.qk_bias, (LinearShape){B * N, C, 2 * C, C, 3 * C});
        linear_forward_strided(a.qkv + 2 * C, a.ln1, p.v_weight, p.v_bias, (LinearShape){B * N, C, C, C, 3 * C});
    } else if (s.NQ == N) {
        linear_forward(a.qkv, a.ln1, p.qkv_weight, p.qkv_bias, B * N, C, 3 * C);
    } else {
        linear_forward_strided(a.qkv, a.ln1, p.qkv_weight, p.qkv_bias, query_rows(s, B, C, N * 3 * C));
        linear_forward_strided(a.qkv + C, a.ln1, p.qkv_weight + (size_t)C * C, bias_from(p.qkv_bias, C),
                               (LinearShape){B * N, C, 2 * C, C, 3 * C});
    }
}

// a.proj = attention(a.x), the branch before it is added to the residual stream
static void attention_branch_forward(Model* m, Params p, Acts a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H;
    layernorm_forward(a.ln1, a.ln1_mean, a.ln1_rstd, a.x, p.norm1_weight, p.norm1_bias, norm_eps(&m->config), B * N, C);
    lap(m, PART_NORM);
    qkv_forward(p, a, s, B);
    lap(m, PART_QKV);
    attend_forward(m, p, a, s, B);
    if (p.gate_weight) {
        linear_forward_strided(a.gate, a.ln1, p.gate_weight, NULL, query_rows(s, B, H, H));
        gate_forward(a.gated, a.gate, a.mix, B * NQ, C, H);
    }
    lap(m, PART_ATTENTION);
    linear_forward(a.proj, p.gate_weight ? a.gated : a.mix, p.proj_weight, p.proj_bias, B * NQ, C, C);
    lap(m, PART_PROJ);
}

// a.fc2 = mlp(a.x_mid)
static void mlp_branch_forward(Model* m, Params p, Acts a, Dims s, int rows) {
    int C = s.C, F = s.F;
    const float* inp = a.ln2;
    layernorm_forward(a.ln2, a.ln2_mean, a.ln2_rstd, a.x_mid, p.norm2_weight, p.norm2_bias, norm_eps(&m->config), rows,
                      C);
    lap(m, PART_NORM);
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_forward(m, p, a, s, rows);
        return;
    }
    if (m->config.mlp == MLP_GR_KAN) {
        rational_forward(a.act1, a.ln2, p.numerator1, p.denominator1, rows, C, rational_shape(&m->config));
        lap(m, PART_ACTIVATION);
        inp = a.act1;
    }
    linear_forward(a.fc1, inp, p.fc1_weight, p.fc1_bias, rows, C, F);
    lap(m, PART_FC1);
    mlp_activation_forward(m, p, a, s, rows);
    lap(m, PART_ACTIVATION);
    linear_forward(a.fc2, a.act2, p.fc2_weight, p.fc2_bias, rows, F, C);
    lap(m, PART_FC2);
}

static const float* keep_of(const float* keep, int l, int branch, int B) {
    return keep ? keep + ((size_t)l * 2 + branch) * B : NULL;
}

// A block's a.x from a.before, the stream before its stage
static void enter_stage_forward(Model* m, Params p, Acts a, Dims s, int B) {
    int rows = B * s.N, C = s.C;
    float eps = norm_eps(&m->config);
    switch (s.entry) {
    case ENTRY_NONE: return;
    case ENTRY_JOIN: prefix_forward(a.x, a.before, p.cls_token, p.reg_token, B, s.N, s.prefix, C); break;
    case ENTRY_NORM:
        layernorm_forward(a.x, a.entry_mean, a.entry_rstd, a.before, p.patch_norm_weight, p.patch_norm_bias, eps, rows,
                          C);
        break;
    case ENTRY_MERGE:
        patch_merge_forward(a.merged, a.before, B, 2 * s.windows.grid, C / 2);
        layernorm_forward(a.merged_norm, a.entry_mean, a.entry_rstd, a.merged, p.merge_norm_weight, p.merge_norm_bias,
                          eps, rows, 2 * C);
        linear_forward(a.x, a.merged_norm, p.merge_weight, NULL, rows, 2 * C, C);
    }
    lap(m, PART_PATCH_EMBED);
}

// Where to write the stream that block l reads; l = L: that the head reads
static float* stream_into(const Model* m, int l) {
    Acts a = acts_at(m, l);
    return l < m->dims.L && dims_at(m, l).entry != ENTRY_NONE ? a.before : a.x;
}

// From a.x of block l, what the next one reads; keep: drop path, or NULL. Where the head reads the class token alone,
// the last block computes nothing else, except for attention's keys and values.
static void block_forward(Model* m, float* flat, int l, int B, const float* keep) {
    Dims s = dims_at(m, l);
    int N = s.N, NQ = s.NQ, C = s.C;
    Params p = params_of_block(&m->table, flat, l);
    Acts a = acts_at(m, l);
    attention_branch_forward(m, p, a, s, B);
    if (NQ < N) { pool_forward(a.x_mid, a.x, false, 1, B, N, C); } // the class tokens; no others go on
    residual_forward(a.x_mid, NQ < N ? a.x_mid : a.x, a.proj, p.ls1, keep_of(keep, l, 0, m->B), B, NQ, C);
    lap(m, PART_RESIDUAL);
    mlp_branch_forward(m, p, a, s, B * NQ);
    residual_forward(stream_into(m, l + 1), a.x_mid, a.fc2, p.ls2, keep_of(keep, l, 1, m->B), B, NQ, C);
    lap(m, PART_RESIDUAL);
}

// The start of the residual stream
static void embed_forward(Model* m, Params p, const float* images, int B) {
    Dims s = dims_at(m, 0);
    bool joined = s.prefix && s.entry != ENTRY_JOIN; // class tokens are there from the start, and have positions
    patch_embed_forward(stream_into(m, 0), acts_at(m, 0).patches, images, p.patch_weight, p.patch_bias,
                        joined ? p.cls_token : NULL, p.pos_embed, m->scratch, B, s.S, s.P, s.C);
    lap(m, PART_PATCH_EMBED);
}

// a.logits from a.x, the output of the blocks: a norm and a mean over tokens, in either order, then the head
static void head_forward(Model* m, Params p, Acts a, Dims s, int B) {
    bool mean = m->config.pool == POOL_AVG, mean_first = m->config.fc_norm;
    if (mean_first) { pool_forward(a.pooled, a.x, mean, s.prefix, B, s.N, s.C); }
    layernorm_forward(a.norm, a.norm_mean, a.norm_rstd, mean_first ? a.pooled : a.x, p.norm_weight, p.norm_bias,
                      norm_eps(&m->config), mean_first ? B : B * s.N, s.C);
    lap(m, PART_NORM);
    if (!mean_first) { pool_forward(a.pooled, a.norm, mean, s.prefix, B, s.N, s.C); }
    linear_forward(a.logits, mean_first ? a.norm : a.pooled, p.head_weight, p.head_bias, B, s.C, s.K);
    lap(m, PART_HEAD);
}

// Called before the parameters of a segment are read: waits until what other ranks update of them is here.
static void arrive(Model* m, const float* flat, int segment) {
    owners_poll(&m->owners);
    if (flat == m->params) { bucket_arrive(&m->owners, segment); }
}

// Logits (B,K) of images (B,3,S,S). flat: the parameters or their running mean; keep: drop path, or NULL.
static void model_forward(Model* m, float* flat, const float* images, int B, const float* keep) {
    int L = m->dims.L;
    Params p = params_of(&m->table, flat);
    m->profile.direction = PROFILE_FORWARD;
    arrive(m, flat, 0);
    embed_forward(m, p, images, B);
    for (int l = 0; l < L; l++) {
        arrive(m, flat, l + 1);
        enter_stage_forward(m, params_of_block(&m->table, flat, l), acts_at(m, l), dims_at(m, l), B);
        block_forward(m, flat, l, B, keep);
    }
    arrive(m, flat, L + 1);
    head_forward(m, p, acts_at(m, L), dims_at(m, L), B);
}

// As model_forward takes them: the loader made them.
static const float* model_images(Model* m, const Batch* batch) {
    (void)m;
    return batch->images;
}
static const float* model_fetch_images(Model* m, const Batch* batch) { return model_images(m, batch); }

// Mean loss over B images with soft targets (B,K), after model_forward
static double model_loss(Model* m, const float* targets, int B) {
    Acts a = acts_at(m, 0);
    cross_entropy_forward(a.losses, a.probs, a.logits, targets, B, m->dims.K);
    double sum = 0;
    for (int b = 0; b < B; b++) { sum += a.losses[b]; }
    return sum / B;
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: the forward, read from its end. p, a: as in the forward; d: gradients of the parameters

// Rounds it if --stream-grad stores it in bf16.
static void round_stream_gradient(const Model* m, float* dx, size_t n) {
    if (m->config.stream_grad == STREAM_GRAD_BF16) { round_to_bf16(dx, n); }
}

// dx += the gradient through a norm of x (rows, C), given dln
static void norm_backward(Model* m, float* dx, float* dweight, float* dbias, const float* dln, const float* x,
                          const float* weight, const float* mean, const float* rstd, int rows, int C) {
    layernorm_backward(dx, dweight, dbias, dln, x, weight, mean, rstd, m->scratch, rows, C);
    round_stream_gradient(m, dx, (size_t)rows * C);
    lap(m, PART_NORM);
}

// dx += d(mlp(x_mid)) given dbranch = d(fc2 output)
static void mlp_branch_backward(Model* m, Params p, Params d, Acts a, float* dx, Dims s, int rows) {
    int C = s.C, F = s.F;
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_backward(m, p, d, a, s, rows);
    } else {
        linear_backward(a.dhidden, d.fc2_weight, d.fc2_bias, a.dbranch, a.act2, p.fc2_weight, m->scratch, rows, F, C);
        lap(m, PART_FC2);
        mlp_activation_backward(m, p, d, a, s, rows);
        lap(m, PART_ACTIVATION);
        linear_backward(a.dln, d.fc1_weight, d.fc1_bias, a.dhidden, gr_kan ? a.act1 : a.ln2, p.fc1_weight, m->scratch,
                        rows, C, F);
        lap(m, PART_FC1);
    }
    if (gr_kan) {
        rational_backward(a.dln, d.numerator1, d.denominator1, a.dln, a.ln2, p.numerator1, p.denominator1,
                          m->scratch, rows, C, rational_shape(&m->config));
        lap(m, PART_ACTIVATION);
    }
    norm_backward(m, dx, d.norm2_weight, d.norm2_bias, a.dln, a.x_mid, p.norm2_weight, a.ln2_mean, a.ln2_rstd, rows, C);
}

// dln1 from a.dqkv
static void qkv_backward(const Model* m, Params p, Params d, Acts a, Dims s, int B) {
    int N = s.N, C = s.C;
    if (s.local) {
        linear_backward_strided(a.dln, 0, d.qk_weight, d.qk_bias, a.dqkv, a.ln1, p.qk_weight, m->scratch,
                                (LinearShape){B * N, C, 2 * C, C, 3 * C});
        linear_backward_strided(a.dln, 1, d.v_weight, d.v_bias, a.dqkv + 2 * C, a.ln1, p.v_weight, m->scratch,
                                (LinearShape){B * N, C, C, C, 3 * C});
    } else if (s.NQ == N) {
        linear_backward(a.dln, d.qkv_weight, d.qkv_bias, a.dqkv, a.ln1, p.qkv_weight, m->scratch, B * N, C, 3 * C);
    } else {
        size_t at = (size_t)C * C; // where the keys' weight begins
        linear_backward_strided(a.dln, 0, d.qkv_weight + at, bias_from(d.qkv_bias, C), a.dqkv + C, a.ln1,
                                p.qkv_weight + at, m->scratch, (LinearShape){B * N, C, 2 * C, C, 3 * C});
        linear_backward_strided(a.dln, 1, d.qkv_weight, d.qkv_bias, a.dqkv, a.ln1, p.qkv_weight, m->scratch,
                                query_rows(s, B, C, N * 3 * C));
    }
}

// dx += d(attention(x)) given dbranch = d(proj output)
static void attention_branch_backward(Model* m, Params p, Params d, Acts a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H;
    linear_backward(a.dmix, d.proj_weight, d.proj_bias, a.dbranch, p.gate_weight ? a.gated : a.mix, p.proj_weight,
                    m->scratch, B * NQ, C, C);
    lap(m, PART_PROJ);
    if (p.gate_weight) { gate_backward(a.dmix, a.dgate, a.dmix, a.gate, a.mix, B * NQ, C, H); }
    attend_backward(m, p, d, a, s, B);
    lap(m, PART_ATTENTION);
    qkv_backward(m, p, d, a, s, B);
    if (p.gate_weight) { // which has the same input
        linear_backward_strided(a.dln, 1, d.gate_weight, NULL, a.dgate, a.ln1, p.gate_weight, m->scratch,
                                query_rows(s, B, H, H));
    }
    lap(m, PART_QKV);
    norm_backward(m, a.dx, d.norm1_weight, d.norm1_bias, a.dln, a.x, p.norm1_weight, a.ln1_mean, a.ln1_rstd, B * N,
                  C);
}

// The gradient of the stream at the NQ tokens that go on, (B,NQ,C)
static float* stream_gradient(Acts a, Dims s) { return s.NQ < s.N ? a.dx_token : a.dx; }

// Block l: from the stream's gradient at its output, a.dx at its input
static void block_backward(Model* m, int l, int B, const float* keep) {
    Dims s = dims_at(m, l);
    int N = s.N, NQ = s.NQ, C = s.C;
    Params p = params_of_block(&m->table, m->params, l), d = params_of_block(&m->table, m->grads, l);
    Acts a = acts_at(m, l);
    float* dx = stream_gradient(a, s);
    // The last block's activations are still there.
    if (m->config.recompute && l < m->dims.L - 1) { block_forward(m, m->params, l, B, keep); }
    residual_backward(a.dbranch, d.ls2, dx, a.fc2, p.ls2, keep_of(keep, l, 1, m->B), m->scratch, B, NQ, C);
    lap(m, PART_RESIDUAL);
    mlp_branch_backward(m, p, d, a, dx, s, B * NQ);
    residual_backward(a.dbranch, d.ls1, dx, a.proj, p.ls1, keep_of(keep, l, 0, m->B), m->scratch, B, NQ, C);
    if (NQ < N) { pool_backward(a.dx, dx, false, 1, B, N, C); } // zero for the tokens that end here
    lap(m, PART_RESIDUAL);
    attention_branch_backward(m, p, d, a, s, B);
}

// Turns a.dx from the gradient of a.x into that of a.before
static void enter_stage_backward(Model* m, Params p, Params d, Acts a, Dims s, int B) {
    int rows = B * s.N, C = s.C;
    size_t elements = (size_t)rows * C;
    switch (s.entry) {
    case ENTRY_NONE: return;
    case ENTRY_JOIN:
        memcpy(a.dln, a.dx, elements * sizeof(float));
        prefix_backward(a.dx, d.cls_token, d.reg_token, a.dln, B, s.N, s.prefix, C);
        break;
    case ENTRY_NORM:
        memcpy(a.dln, a.dx, elements * sizeof(float));
        memset(a.dx, 0, elements * sizeof(float));
        norm_backward(m, a.dx, d.patch_norm_weight, d.patch_norm_bias, a.dln, a.before, p.patch_norm_weight,
                      a.entry_mean, a.entry_rstd, rows, C);
        break;
    case ENTRY_MERGE: // its norm has twice the width
        linear_backward(a.dln, d.merge_weight, NULL, a.dx, a.merged_norm, p.merge_weight, m->scratch, rows, 2 * C, C);
        memset(a.dbranch, 0, 2 * elements * sizeof(float));
        norm_backward(m, a.dbranch, d.merge_norm_weight, d.merge_norm_bias, a.dln, a.merged, p.merge_norm_weight,
                      a.entry_mean, a.entry_rstd, rows, 2 * C);
        patch_merge_backward(a.dx, a.dbranch, B, 2 * s.windows.grid, C / 2);
    }
    lap(m, PART_PATCH_EMBED);
}

static void embed_backward(Model* m, Params d, int B) {
    Dims s = dims_at(m, 0);
    Acts a = acts_at(m, 0);
    bool joined = s.prefix && s.entry != ENTRY_JOIN;
    patch_embed_backward(d.patch_weight, d.patch_bias, joined ? d.cls_token : NULL, d.pos_embed, a.dx, a.patches,
                         m->scratch, B, s.S, s.P, s.C);
    lap(m, PART_PATCH_EMBED);
}

// dx, the stream's gradient after the blocks, from a.dlogits
static void head_backward(Model* m, Params p, Params d, Acts a, float* dx, Dims s, int B) {
    bool mean = m->config.pool == POOL_AVG, mean_first = m->config.fc_norm;
    int rows = mean_first ? B : B * s.N;
    float* dnorm_input = mean_first ? a.dbranch : dx;
    linear_backward(mean_first ? a.dln : a.dpooled, d.head_weight, d.head_bias, a.dlogits,
                    mean_first ? a.norm : a.pooled, p.head_weight, m->scratch, B, s.C, s.K);
    if (!mean_first) { pool_backward(a.dln, a.dpooled, mean, s.prefix, B, s.N, s.C); }
    lap(m, PART_HEAD);
    memset(dnorm_input, 0, (size_t)rows * s.C * sizeof(float));
    norm_backward(m, dnorm_input, d.norm_weight, d.norm_bias, a.dln, mean_first ? a.pooled : a.x, p.norm_weight,
                  a.norm_mean, a.norm_rstd, rows, s.C);
    if (mean_first) {
        pool_backward(dx, dnorm_input, mean, s.prefix, B, s.N, s.C);
        round_stream_gradient(m, dx, (size_t)B * s.N * s.C);
    }
}

// Adds to m->grads the gradient of dloss * Σ_b loss_b, after model_forward and model_loss with the same arguments.
static void model_backward(Model* m, const float* targets, int B, const float* keep, float dloss) {
    int L = m->dims.L;
    Params p = params_of(&m->table, m->params), d = params_of(&m->table, m->grads);
    Acts a = acts_at(m, L);
    m->profile.direction = PROFILE_BACKWARD;
    cross_entropy_backward(a.dlogits, a.probs, targets, dloss, B, m->dims.K);
    head_backward(m, p, d, a, stream_gradient(a, dims_at(m, L - 1)), dims_at(m, L), B);
    bucket_depart(&m->owners, L + 1);
    for (int l = L - 1; l >= 0; l--) {
        block_backward(m, l, B, keep);
        enter_stage_backward(m, params_of_block(&m->table, m->params, l), params_of_block(&m->table, m->grads, l),
                             acts_at(m, l), dims_at(m, l), B);
        bucket_depart(&m->owners, l + 1);
    }
    embed_backward(m, d, B);
    bucket_depart(&m->owners, 0);
}

// Of the last batch, (B,K) and (B)
static const float* model_logits(const Model* m) { return acts_at(m, 0).logits; }
static const float* model_losses(const Model* m) { return acts_at(m, 0).losses; }

// Computes both
static void model_evaluate(Model* m, float* flat, const Batch* batch) {
    model_forward(m, flat, model_images(m, batch), batch->count, NULL);
    model_loss(m, batch->targets, batch->count);
}

// One micro-batch of a step: its gradient of dloss * Σ_b loss_b goes into the sum, its losses and hits into m->sums
static void model_gradients(Model* m, const Batch* batch, const float* keep, float dloss) {
    int B = batch->count, K = m->dims.K;
    m->grads = gradient_sum_next(&m->sum, m->grads);
    model_forward(m, m->params, model_images(m, batch), B, keep);
    double loss = B * model_loss(m, batch->targets, B), hits = 0;
    for (int b = 0; b < B; b++) { hits += rank_of_label(model_logits(m) + (size_t)b * K, K, batch->labels[b]) == 0; }
    m->sums.loss += loss;
    m->sums.hits += hits;
    if (ranks.size > 1) { *gradient_sum_count(&m->sum) = (MicroSums){loss, hits, 0}; }
    if (m->sum.begun == m->sum.own.count) { owners_close(&m->owners, &m->sum, m->grads); }
    model_backward(m, batch->targets, B, keep, dloss);
}

// ---------------------------------------------------------------------------------------------------------------------
// Update

// Updates what this rank owns; t: number of this update, from 1
static void update_parameters(Model* m, double lr, float grad_scale, int64_t t) {
    const Config* c = &m->config;
    AdamW constants = {(float)c->opt_betas[0], (float)c->opt_betas[1], (float)c->opt_eps, (float)c->model_ema_decay};
    AdamWStep steps[UPDATE_GROUPS];
    for (int group = 0; group < UPDATE_GROUPS; group++) {
        UpdateRule rule = update_rule(c, (UpdateGroup)group);
        steps[group] = adamw_step((float)(rule.rate * lr), constants.beta1, constants.beta2, (float)rule.decay, t);
    }
    for (int b = 0; b < m->owners.buckets.count; b++) {
        Slice own = m->owners.bucket[b].own;
        size_t kept = m->owners.bucket[b].kept_at;
        adamw_update(m->params + own.first, m->exp_avg + kept, m->exp_avg_sq + kept, m->ema ? m->ema + kept : NULL,
                     m->grads + own.first, m->groups + own.first / GROUP_FLOATS, length_of(own), constants, steps,
                     grad_scale);
        bucket_gather(&m->owners, b, m->params);
    }
}

// The sums of a step, over all its micro-batches in their order, whichever rank counted them
static void share_counts(Model* m) {
    gradient_sum_count(&m->sum)->stop = stop_requested;
    share_facts(&m->owners, &m->sum);
    m->sums = (StepSums){0};
    for (int i = 0; i < m->config.grad_accum_steps; i++) {
        MicroSums counted = m->sum.counted[i];
        m->sums.loss += counted.loss;
        m->sums.hits += counted.hits;
        m->sums.stop = m->sums.stop ? m->sums.stop : counted.stop;
    }
}

// Updates by the gradients of the step's micro-batches, scaled down to --clip-grad; if they or the loss are not finite,
// it does nothing.
static void model_update(Model* m, double lr, int64_t t) {
    owners_finish(&m->owners, m->grads);
    if (ranks.size > 1) { share_counts(m); }
    double clip = m->config.clip_grad, norm = owners_norm(&m->owners);
    m->sums.norm = norm;
    if (isfinite(norm) && isfinite(m->sums.loss)) {
        update_parameters(m, lr, clip > 0 && norm > clip ? (float)(clip / norm) : 1, t);
    }
    lap(m, PART_UPDATE);
}

// ---------------------------------------------------------------------------------------------------------------------
// What else trainer/run.h needs

static void model_zero_gradients(Model* m) {
    gradient_sum_begin(&m->sum);
    memset(m->grads, 0, m->table.total * sizeof(float));
    lap(m, PART_UPDATE);
}

// The sums since they were last asked for
static StepSums model_step_sums(Model* m) {
    StepSums sums = m->sums;
    m->sums = (StepSums){0};
    return sums;
}

// Nothing has to be fetched in advance here.
static void model_prefetch(Model* m, const Batch* batch) { (void)m, (void)batch; }

// Whether this rank holds only a part of it. The whole of such a buffer is assembled where the gradients usually are.
static bool is_shared_out(const Model* m, const float* flat) {
    return ranks.size > 1 && flat != m->params && flat != m->grads;
}

static float* model_room(Model* m, float* flat) { return is_shared_out(m, flat) ? m->grads : flat; }

static float* model_fetch(Model* m, float* flat) {
    float* whole = model_room(m, flat);
    if (whole != flat) { owners_spread(&m->owners, whole, flat); }
    if (whole != m->params) { owners_gather(&m->owners, whole); }
    owners_settle(&m->owners);
    return whole;
}

static void model_store(Model* m, float* flat) {
    if (is_shared_out(m, flat)) { owners_keep(&m->owners, flat, m->grads); }
}

static float* model_whole(Model* m, float* flat) { return model_fetch(m, flat); }

// Names the first activation of the last batch, in the order of the forward, that holds a NaN or Inf; false: none does
static bool name_bad_activation(const Model* m, int B, char name[160]) {
    int L = m->dims.L;
    for (int l = 0; l <= L; l++) {
        BlockPlace at = place_in(m->acts_table.depths, l);
        for (int i = 0; i < SAVED_ROWS; i++) {
            const Activation* a = &m->acts_table.row[i];
            bool first = i == 0; // the patches come before the blocks
            size_t floats = first ? (l == 0 ? a->of_end : 0) : activation_elements(a, at, l, L);
            const float* values = m->acts + activation_offset(a, at) / sizeof(float);
            if (!floats || all_finite(values, (size_t)B * floats)) { continue; }
            int used = snprintf(name, 160, "activation %s", a->name);
            if (a->keeping != ONCE) { snprintf(name + used, (size_t)(160 - used), " of block %d", l); }
            return true;
        }
    }
    return false;
}

static void model_keep_products(Model* m, const char* path) { (void)m, (void)path; }

static void print_memory(const Model* m, size_t data_bytes) {
    bool ema = m->config.model_ema_decay > 0;
    double mb = 1e-6 * sizeof(float), pixels = 3.0 * m->dims.S * m->dims.S;
    double params = mb * (double)m->table.total, moments = (ema ? 3 : 2) * mb * (double)m->owners.owned;
    double grads = params + 1e-6 * (double)(gradient_sum_bytes(&m->sum) + owners_bytes(&m->owners));
    double saved = 1e-6 * (double)m->acts_table.saved;
    double workspace = 1e-6 * (double)(m->acts_table.total - m->acts_table.saved) + mb * (double)model_scratch(m);
    double batches = mb * 4 * m->B * (pixels + m->dims.K), images = 1e-6 * (double)data_bytes;
    double program = 8; // code, libraries and stacks, as measured
    double total = params + grads + moments + saved + workspace + batches + images + program;
    printf("memory     %.1f MB: parameters %.1f, gradients %.1f, AdamW%s %.1f, activations %.1f, workspace %.1f, "
           "batches %.1f, images %.1f, program %.1f\n", total, params, grads, ema ? " and EMA" : "", moments, saved,
           workspace, batches, images, program);
}

// "model name" of /proc/cpuinfo; "" where there is none
static void processor_name(char name[PROCESSOR_NAME]) {
    char line[256];
    FILE* in = fopen("/proc/cpuinfo", "r");
    name[0] = 0;
    while (in && !*name && fgets(line, sizeof line, in)) { sscanf(line, "model name : %95[^\n]", name); }
    if (in) { fclose(in); }
}

static const char program_name[] = "./train_kat";

#include "trainer/run.h"
#include "trainer/export.h"
#include "trainer/meet.h"

// ---------------------------------------------------------------------------------------------------------------------
// From the command line to a run

RUNS_ONCE static void go_on_in(const char* other, char** argv) {
    fflush(stdout);
    threads_unbind();
    execv(other, argv);
    fail(EXIT_RUN_TIME, "cannot start %s: %s. Use --device cpu", other, strerror(errno));
}

// --device: if ./train_katcu lies beside this program and finds a GPU, it takes over with the same arguments. If it is
// not there, auto says nothing.
RUNS_ONCE static void choose_device(const Config* c, char** argv) {
    static const char* const trial[] = {"train_katcu", "--dry-run", "--classes", "10", NULL}; // fails without a GPU
    char other[PATH_MAX];
    bool automatic = c->device == DEVICE_AUTO, built = program_beside("train_katcu", other);
    if (automatic && ranks.size > 1) { return; } // nodes could choose differently
    if (c->device == DEVICE_CUDA && !built) {
        fail(EXIT_RUN_TIME, "--device cuda needs %s, which is not there: build it by make train_katcu, or use "
             "--device cpu", other);
    }
    if (c->device == DEVICE_CPU || !built) { return; }
    bool usable = !automatic || runs_well(other, trial);
    if (automatic) {
        printf("device     %s\n", usable ? "the GPU, by ./train_katcu" : "the CPU: ./train_katcu does not find a GPU");
    }
    if (usable) { go_on_in(other, argv); }
}

// Each of several ranks hands over to ./train_katcu by itself, before the ranks are in touch.
RUNS_ONCE static void choose_device_of_rank(int argc, char** argv) {
    char given[OPTION_TEXT_SIZE], other[PATH_MAX];
    Ranks r;
    Error err;
    bool cuda = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "device", given) && strcmp(given, "cuda") == 0;
    if (!cuda || !ranks_from_environment(&r, &err) || r.size == 1) { return; }
    if (program_beside("train_katcu", other)) { go_on_in(other, argv); }
}

#ifndef TESTING
int main(int argc, char** argv) {
    static Trainer t;
    Error err;
    output_guard();
    start_with_sleeping_threads(argv);
    choose_device_of_rank(argc, argv);
    begin_rank(argc, argv);
    Config config = {0};
    if (ranks_lead()) {
        config = configure(argc, argv, &t.origin);
        if (!exports(&config)) { choose_device(&config, argv); }
    }
    meet(argv, &config, &t.origin);
    int threads = threads_begin(threads_of_rank(&config));
    if (classifies(&config)) { return classify(&t, &config); }
    if (exports(&config)) { return export_model(&t, &config); }
    bool counts_only = config.dry_run && config.classes;
    if (!counts_only) { load_data(&t, &config); }
    int classes = config.classes ? config.classes : t.train.classes;
    if (!model_plan(&t.model, &config, classes, largest_batch(&t, &config), &err)) { fail(EXIT_USAGE, "%s", err.text); }
    print_plan(&t.model, input_bytes(&t, &config));
    if (config.dry_run) { return 0; }
    check_data(&t);
    compare_data(&t);
    print_data(&t);
    printf("machine    %d threads on %d cores, products by %s\n", threads, core_count(), matmul_library());
    print_ranks(&config, threads);
    if (!model_allocate(&t.model, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    bool bf16 = config.precision == PRECISION_BF16;
    if (bf16) { printf("bf16       operands of the linear layers; %s\n", linear_bf16_unit()); }
    open_loaders(&t, LOAD_IMAGES);
    plan_steps(&t);
    if (trains(&config) && ranks_lead()) { take_folder(&t); }
    load_weights(&t);
    int code = run(&t);
    loader_close(&t.train_loader);
    loader_close(&t.test_loader);
    dataset_free(&t.train);
    dataset_free(&t.test);
    model_free(&t.model);
    engine_end();
    return code;
}
#endif
