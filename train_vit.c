// kat.c: trains vision transformers, Kolmogorov-Arnold ones among them, on the CPU. This file is the whole path:
//
//     configuration -> parameter table -> data -> forward -> backward -> update -> log
//
// model/config.h holds the option table, model/parameters.h the parameter table, kernels/ one file an operation with
// its maths on top, data/ images from files into batches, runtime/ what is not about the model.
//
// Shapes: B images, N tokens, C width, H heads, L blocks, F hidden width of the MLP, K classes. All tensors are
// row-major fp32. Gradients carry a d in front; gradients of parameters are added to, gradients of activations are set,
// except that of the residual stream, dx, to which every branch adds.
#include "data/loader.h"
#include "data/procedural.h"
#include "kernels/activation.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/attention_linear.h"
#include "kernels/attention_mixing.h"
#include "kernels/attention_pointwise.h"
#include "kernels/attention_rank.h"
#include "kernels/kan.h"
#include "kernels/karat.h"
#include "kernels/layernorm.h"
#include "kernels/loss.h"
#include "kernels/matmul.h"
#include "kernels/patch_embed.h"
#include "kernels/rational.h"
#include "kernels/residual.h"
#include "model/config.h"
#include "model/cost.h"
#include "model/gradcheck.h"
#include "model/list.h"
#include "model/mimetic.h"
#include "model/parameters.h"
#include "model/pos_embed.h"
#include "runtime/checkpoint.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/profile.h"
#include "runtime/schedule.h"
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Activations: one table (field, present, copies, floats an image), as for the parameters. A buffer with a copy a block
// is (copies, B, ...): what the backward needs. The others are overwritten by every block.

#define SAVED_TABLE(A) \
A(patches,   true, 1,       (size_t)(d.S / d.P) * (d.S / d.P) * 3 * d.P * d.P) \
A(x,         true, d.L + 1, (size_t)d.N * d.C)         /* input of each block; the last one is the stack's output */ \
A(ln1,       true, kept,    (size_t)d.N * d.C) \
A(ln1_mean,  true, kept,    (size_t)d.N) \
A(ln1_rstd,  true, kept,    (size_t)d.N) \
A(qkv,       true, kept,    (size_t)d.N * 3 * d.C) \
A(lse,       softmax_heads(c, d) > 0, kept, (size_t)softmax_heads(c, d) * d.N) \
A(z,         c->attn == ATTN_KARAT,   kept, (size_t)d.HK * d.N * d.R) \
A(mix,       true, kept,    (size_t)d.N * d.C)         /* the values, weighted by attention */ \
A(proj,      true, c->layer_scale > 0 ? kept : 1, (size_t)d.N * d.C) \
A(x_mid,     true, kept,    (size_t)d.N * d.C)         /* the residual stream between attention and MLP */ \
A(ln2,       true, kept,    (size_t)d.N * d.C) \
A(ln2_mean,  true, kept,    (size_t)d.N) \
A(ln2_rstd,  true, kept,    (size_t)d.N) \
A(act1,      c->mlp == MLP_GR_KAN, kept, (size_t)d.N * d.C) \
A(fc1,       true, kept,    (size_t)d.N * d.F) \
A(act2,      c->mlp != MLP_KAN, kept, (size_t)d.N * d.F) \
A(fc2,       true, c->layer_scale > 0 ? kept : 1, (size_t)d.N * d.C) \
A(norm,      true, 1,       (size_t)d.N * d.C) \
A(norm_mean, true, 1,       (size_t)d.N) \
A(norm_rstd, true, 1,       (size_t)d.N) \
A(pooled,    true, 1,       (size_t)d.C) \
A(logits,    true, 1,       (size_t)d.K) \
A(probs,     true, 1,       (size_t)d.K) \
A(losses,    true, 1,       1)

#define BACKWARD_TABLE(A) \
A(dx,        true, 1, (size_t)d.N * d.C)               /* gradient of the residual stream */ \
A(dbranch,   true, 1, (size_t)d.N * d.C)               /* of what attention or MLP adds to it */ \
A(dln,       true, 1, (size_t)d.N * d.C) \
A(dmix,      true, 1, (size_t)d.N * d.C) \
A(dqkv,      true, 1, (size_t)d.N * 3 * d.C) \
A(dhidden,   true, 1, (size_t)d.N * d.F) \
A(dpooled,   true, 1, (size_t)d.C) \
A(dlogits,   true, 1, (size_t)d.K)

#define ACTIVATION_TABLE(A) SAVED_TABLE(A) BACKWARD_TABLE(A)
typedef struct { ACTIVATION_TABLE(POINTER_FIELD) } Acts;
enum { SAVED_ROWS = 0 SAVED_TABLE(COUNT_ROW), ACTIVATION_ROWS = SAVED_ROWS BACKWARD_TABLE(COUNT_ROW) };

typedef struct {
    const char* name;
    size_t copies, per_image, offset; // offset in floats, for the batch size that the table was made for
} Activation;

typedef struct {
    Activation row[ACTIVATION_ROWS];
    size_t saved, total; // floats: of the saved ones, of all
} ActivationTable;

// Heads whose softmax the backward recomputes from its log-sum-exp
static int softmax_heads(const Config* c, Dims d) {
    return c->attn == ATTN_SOFTMAX || c->attn == ATTN_SOFTMAX_RANK ? d.H : c->softmax_heads;
}

static ActivationTable activation_table(const Config* c, Dims d, int B) {
    int kept = c->recompute ? 1 : d.L; // blocks whose inner activations are there at a time
#define ACTIVATION_ROW(field, present, row_copies, floats) {#field, (present) ? (size_t)(row_copies) : 0, floats, 0},
    ActivationTable table = {.row = {ACTIVATION_TABLE(ACTIVATION_ROW)}};
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        Activation* a = &table.row[i];
        a->offset = table.total;
        table.total += (a->copies * a->per_image * (size_t)B + 15) / 16 * 16; // each starts on a cache line
        if (i < SAVED_ROWS) { table.saved = table.total; }
    }
    return table;
}

// Pointers into the buffer, every per-block one at block l.
static Acts acts_of_block(const ActivationTable* table, float* flat, int B, int l) {
    float* pointers[ACTIVATION_ROWS];
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        const Activation* a = &table->row[i];
        size_t skip = a->copies > 1 ? (size_t)l * (size_t)B * a->per_image : 0;
        pointers[i] = a->copies ? flat + a->offset + skip : NULL;
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
    float *params, *grads, *exp_avg, *exp_avg_sq, *ema; // flat, (table.total); ema NULL when off
    ActivationTable acts_table;
    float* acts;
    float* scratch;
    float* keep; // (L, 2, B) drop path: 0 or 1/(1-rate) for each block, branch, image; NULL: all kept
    int B;       // images that the activations have room for
    Profile profile;
} Model;

// What went before, since the last lap, was this part
static void lap(Model* m, int part) { profile_lap(&m->profile, part); }

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

// ---------------------------------------------------------------------------------------------------------------------
// What can be chosen: how the logits of attention become weights (--attn), and the MLP's activation (--mlp)

static KaratDims karat_dims(const Model* m, int B) {
    const Config* c = &m->config;
    Dims d = m->dims;
    static const KaratBase bases[] = {KARAT_BASE_ZERO, KARAT_BASE_IDENTITY, KARAT_BASE_SILU, KARAT_BASE_GELU};
    Basis basis = config_basis(c);
    return (KaratDims){.B = B, .N = d.N, .C = d.C, .H = d.HK, .D = d.D, .R = d.R, .G = d.G,
                       .base = bases[c->karat_base], .basis = basis.kind, .spline_order = basis.order,
                       .spline_range = basis.range, .order = (KaratOrder)c->karat_order, .full_rank = c->karat_full != 0,
                       .projection = (Projection)c->karat_projection,
                       .project_z = c->karat_projection != PROJECT_NONE && c->karat_project};
}

static KaratParams karat_params(Params p, KaratDims d) {
    KaratOperator first = {p.karat_coef, p.scale_basis, p.scale_base};
    KaratOperator second = {p.outer_coef, p.outer_scale_basis, p.outer_scale_base};
    return (KaratParams){.inner = first, .outer = d.order == KARAT_PHI_W ? first : second,
                         .proj_weight = p.karat_weight, .proj_bias = p.karat_bias};
}

static KaratGrads karat_grads(Params p, KaratDims d) {
    KaratOperatorGrads first = {p.karat_coef, p.scale_basis, p.scale_base};
    KaratOperatorGrads second = {p.outer_coef, p.outer_scale_basis, p.outer_scale_base};
    return (KaratGrads){.inner = first, .outer = d.order == KARAT_PHI_W ? first : second,
                        .proj_weight = p.karat_weight, .proj_bias = p.karat_bias};
}

static PointwiseKind pointwise_kind(const Config* c) {
    return c->attn == ATTN_SIGMOID ? POINTWISE_SIGMOID : POINTWISE_RELU;
}

// Workspace in floats for attend_forward and attend_backward
static size_t attend_scratch(const Model* m) {
    Dims d = m->dims;
    size_t hybrid = m->config.softmax_heads ? attention_scratch(d.N) : 0;
    switch (m->config.attn) {
    case ATTN_KARAT: return largest(karat_scratch(karat_dims(m, m->B)), hybrid);
    case ATTN_MIXING: return mixing_scratch(m->B, d.N, d.H);
    case ATTN_SOFTMAX_RANK: return rank_scratch(m->B, d.N, d.C, d.H, d.R);
    case ATTN_LINEAR: return linear_attention_scratch(d.N, d.C, d.H);
    case ATTN_SOFTMAX: return attention_scratch(d.N);
    default: return pointwise_scratch(d.N);
    }
}

// a.mix = the values of a.qkv, weighted
static void attend_forward(const Model* m, Params p, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = m->dims.D, first = m->config.softmax_heads * D;
    KaratDims k = karat_dims(m, B);
    switch (m->config.attn) {
    case ATTN_KARAT: // softmax heads, if any, stand first
        attention_forward(a.mix, a.lse, a.qkv, m->scratch, B, N, C, m->config.softmax_heads, D);
        karat_forward(a.mix + first, a.z, a.qkv + first, karat_params(p, k), m->scratch, k);
        break;
    case ATTN_SOFTMAX: attention_forward(a.mix, a.lse, a.qkv, m->scratch, B, N, C, H, D); break;
    case ATTN_MIXING: mixing_forward(a.mix, a.qkv, p.mixing, B, N, C, H); break;
    case ATTN_SOFTMAX_RANK:
        rank_forward(a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch, B, N, C, H, m->dims.R);
        break;
    case ATTN_LINEAR: linear_attention_forward(a.mix, a.qkv, m->scratch, B, N, C, H); break;
    default: pointwise_forward(a.mix, a.qkv, pointwise_kind(&m->config), m->scratch, B, N, C, H);
    }
}

// a.dqkv from a.dmix
static void attend_backward(const Model* m, Params p, Params d, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = m->dims.D, first = m->config.softmax_heads * D;
    KaratDims k = karat_dims(m, B);
    switch (m->config.attn) {
    case ATTN_KARAT:
        attention_backward(a.dqkv, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, C, m->config.softmax_heads, D);
        karat_backward(a.dqkv + first, karat_grads(d, k), a.dmix + first, a.z, a.qkv + first, karat_params(p, k),
                       m->scratch, k);
        break;
    case ATTN_SOFTMAX: attention_backward(a.dqkv, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, C, H, D); break;
    case ATTN_MIXING: mixing_backward(a.dqkv, d.mixing, a.dmix, a.qkv, p.mixing, m->scratch, B, N, C, H); break;
    case ATTN_SOFTMAX_RANK:
        rank_backward(a.dqkv, d.rank_down, d.rank_up, a.dmix, a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch,
                      B, N, C, H, m->dims.R);
        break;
    case ATTN_LINEAR: linear_attention_backward(a.dqkv, a.dmix, a.mix, a.qkv, m->scratch, B, N, C, H); break;
    default: pointwise_backward(a.dqkv, a.dmix, a.qkv, pointwise_kind(&m->config), m->scratch, B, N, C, H);
    }
}

// a.act2 = activation(a.fc1), rows of F
static void activation_forward(const Model* m, Params p, Acts a, int rows) {
    int F = m->dims.F;
    size_t n = (size_t)rows * F;
    switch (m->config.mlp) {
    case MLP_GELU: gelu_forward(a.act2, a.fc1, n); break;
    case MLP_RELU: relu_forward(a.act2, a.fc1, n); break;
    case MLP_SILU: silu_forward(a.act2, a.fc1, n); break;
    case MLP_PRELU: prelu_forward(a.act2, a.fc1, p.prelu_weight, n); break;
    default: rational_forward(a.act2, a.fc1, p.numerator2, p.denominator2, rows, F, rational_shape(&m->config));
    }
}

// act2 = activation(fc1): a.dhidden becomes d(fc1) from d(act2)
static void activation_backward(const Model* m, Params p, Params d, Acts a, int rows) {
    int F = m->dims.F;
    size_t n = (size_t)rows * F;
    switch (m->config.mlp) {
    case MLP_GELU: gelu_backward(a.dhidden, a.dhidden, a.fc1, n); break;
    case MLP_RELU: relu_backward(a.dhidden, a.dhidden, a.fc1, n); break;
    case MLP_SILU: silu_backward(a.dhidden, a.dhidden, a.fc1, n); break;
    case MLP_PRELU:
        prelu_backward(a.dhidden, d.prelu_weight, a.dhidden, a.fc1, p.prelu_weight, m->scratch, n);
        break;
    default:
        rational_backward(a.dhidden, d.numerator2, d.denominator2, a.dhidden, a.fc1, p.numerator2, p.denominator2,
                          m->scratch, rows, F, rational_shape(&m->config));
    }
}

// a.fc2 = two KAN layers of a.ln2, in the place of the MLP
static void kan_mlp_forward(Model* m, Params p, Acts a, int rows) {
    int C = m->dims.C, F = m->dims.F;
    Basis basis = kan_basis(&m->config);
    kan_forward(a.fc1, a.ln2, p.fc1_weight, p.fc1_spline, p.fc1_bias, m->scratch, rows, C, F, basis);
    lap(m, PART_FC1);
    kan_forward(a.fc2, a.fc1, p.fc2_weight, p.fc2_spline, p.fc2_bias, m->scratch, rows, F, C, basis);
    lap(m, PART_FC2);
}

// a.dln from a.dbranch = d(a.fc2)
static void kan_mlp_backward(Model* m, Params p, Params d, Acts a, int rows) {
    int C = m->dims.C, F = m->dims.F;
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

// Workspace in floats that the hungriest kernel wants.
static size_t model_scratch(const Model* m) {
    Dims d = m->dims;
    int B = m->B, rows = B * d.N;
    size_t most = patch_embed_scratch(B, d.S, d.P, d.C);
    most = largest(most, linear_backward_scratch(rows, d.C, 3 * d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, d.C));
    most = largest(most, linear_backward_scratch(rows, d.C, d.F));
    most = largest(most, linear_backward_scratch(rows, d.F, d.C));
    most = largest(most, linear_backward_scratch(B, d.C, d.K));
    most = largest(most, layernorm_scratch(rows, d.C));
    most = largest(most, residual_scratch(B, d.N, d.C));
    most = largest(most, rational_scratch(rows, d.F, rational_shape(&m->config)));
    most = largest(most, rational_scratch(rows, d.C, rational_shape(&m->config)));
    most = largest(most, prelu_scratch((size_t)rows * d.F));
    if (m->config.mlp == MLP_KAN) {
        most = largest(most, kan_scratch(d.C, d.F, kan_basis(&m->config)));
        most = largest(most, kan_scratch(d.F, d.C, kan_basis(&m->config)));
    }
    return largest(most, attend_scratch(m));
}

// Sizes only: nothing is allocated, so that --dry-run can tell what a run would need.
static bool model_plan(Model* m, const Config* config, int classes, Error* err) {
    *m = (Model){.config = *config, .dims = dims_of(config, classes), .B = config->batch_size};
    if (!parameter_table(&m->table, config, m->dims, err)) { return false; }
    m->acts_table = activation_table(config, m->dims, m->B);
    return true;
}

static bool model_allocate(Model* m, Error* err) {
    size_t total = m->table.total;
    m->tensors = named_tensors(&m->table);
    m->tensor_count = tensor_count(&m->table);
    m->params = alloc_floats(total, "parameters");
    m->grads = alloc_floats(total, "gradients");
    m->exp_avg = alloc_floats(total, "AdamW's first moment");
    m->exp_avg_sq = alloc_floats(total, "AdamW's second moment");
    m->ema = m->config.model_ema_decay > 0 ? alloc_floats(total, "the running mean of the weights") : NULL;
    m->acts = alloc_floats(m->acts_table.total, "activations");
    m->scratch = alloc_floats(model_scratch(m), "workspace");
    m->keep = m->config.drop_path > 0 ? alloc_floats((size_t)m->dims.L * 2 * m->B, "drop path") : NULL;
    if (!params_init(&m->table, &m->config, m->params, err)) { return false; }
    bool replaced = *m->config.eval || *m->config.resume; // every parameter will come from a file
    if (m->config.attn_init == ATTN_INIT_MIMETIC && !replaced) {
        mimetic_init(&m->table, m->dims, (uint64_t)m->config.seed, m->params);
    }
    return true;
}

static void model_free(Model* m) {
    float* buffers[] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema, m->acts, m->scratch, m->keep};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) { free(buffers[i]); }
    free(m->tensors);
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward

// a.proj = attention(a.x), the branch before its residual
static void attention_branch_forward(Model* m, Params p, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C;
    layernorm_forward(a.ln1, a.ln1_mean, a.ln1_rstd, a.x, p.norm1_weight, p.norm1_bias, B * N, C);
    lap(m, PART_NORM);
    linear_forward(a.qkv, a.ln1, p.qkv_weight, p.qkv_bias, B * N, C, 3 * C);
    lap(m, PART_QKV);
    attend_forward(m, p, a, B);
    lap(m, PART_ATTENTION);
    linear_forward(a.proj, a.mix, p.proj_weight, p.proj_bias, B * N, C, C);
    lap(m, PART_PROJ);
}

// a.fc2 = mlp(a.x_mid)
static void mlp_branch_forward(Model* m, Params p, Acts a, int B) {
    int rows = B * m->dims.N, C = m->dims.C, F = m->dims.F;
    const float* inp = a.ln2;
    layernorm_forward(a.ln2, a.ln2_mean, a.ln2_rstd, a.x_mid, p.norm2_weight, p.norm2_bias, rows, C);
    lap(m, PART_NORM);
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_forward(m, p, a, rows);
        return;
    }
    if (m->config.mlp == MLP_GR_KAN) {
        rational_forward(a.act1, a.ln2, p.numerator1, p.denominator1, rows, C, rational_shape(&m->config));
        lap(m, PART_ACTIVATION);
        inp = a.act1;
    }
    linear_forward(a.fc1, inp, p.fc1_weight, p.fc1_bias, rows, C, F);
    lap(m, PART_FC1);
    activation_forward(m, p, a, rows);
    lap(m, PART_ACTIVATION);
    linear_forward(a.fc2, a.act2, p.fc2_weight, p.fc2_bias, rows, F, C);
    lap(m, PART_FC2);
}

static const float* keep_of(const float* keep, int l, int branch, int B) {
    return keep ? keep + ((size_t)l * 2 + branch) * B : NULL;
}

// The input of block l + 1 from that of block l, in a.x; keep: drop path, or NULL
static void block_forward(Model* m, float* flat, int l, int B, const float* keep) {
    int N = m->dims.N, C = m->dims.C;
    Params p = params_of_block(&m->table, flat, l);
    Acts a = acts_of_block(&m->acts_table, m->acts, m->B, l);
    float* x_next = acts_of_block(&m->acts_table, m->acts, m->B, l + 1).x;
    attention_branch_forward(m, p, a, B);
    residual_forward(a.x_mid, a.x, a.proj, p.ls1, keep_of(keep, l, 0, m->B), B, N, C);
    lap(m, PART_RESIDUAL);
    mlp_branch_forward(m, p, a, B);
    residual_forward(x_next, a.x_mid, a.fc2, p.ls2, keep_of(keep, l, 1, m->B), B, N, C);
    lap(m, PART_RESIDUAL);
}

// Logits (B,K) of images (B,3,S,S). flat: the parameters or their running mean; keep: drop path, or NULL.
static void model_forward(Model* m, float* flat, const float* images, int B, const float* keep) {
    int N = m->dims.N, C = m->dims.C, L = m->dims.L;
    Params p = params_of(&m->table, flat);
    Acts a = acts_of_block(&m->acts_table, m->acts, m->B, 0);
    m->profile.direction = PROFILE_FORWARD;
    patch_embed_forward(a.x, a.patches, images, p.patch_weight, p.patch_bias, p.cls_token, p.pos_embed, m->scratch,
                        B, m->dims.S, m->dims.P, C);
    lap(m, PART_PATCH_EMBED);
    for (int l = 0; l < L; l++) { block_forward(m, flat, l, B, keep); }
    a = acts_of_block(&m->acts_table, m->acts, m->B, L);
    layernorm_forward(a.norm, a.norm_mean, a.norm_rstd, a.x, p.norm_weight, p.norm_bias, B * N, C);
    lap(m, PART_NORM);
    pool_forward(a.pooled, a.norm, m->config.pool == POOL_AVG, p.cls_token != NULL, B, N, C);
    linear_forward(a.logits, a.pooled, p.head_weight, p.head_bias, B, C, m->dims.K);
    lap(m, PART_HEAD);
}

// Mean loss over B images with soft targets (B,K), after model_forward
static double model_loss(Model* m, const float* targets, int B) {
    Acts a = acts_of_block(&m->acts_table, m->acts, m->B, 0);
    cross_entropy_forward(a.losses, a.probs, a.logits, targets, B, m->dims.K);
    double sum = 0;
    for (int b = 0; b < B; b++) { sum += a.losses[b]; }
    return sum / B;
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: the forward read from its end. p, a: as in the forward; d: gradients of the parameters.

// dx += d(mlp(x_mid)) given dbranch = d(fc2 output)
static void mlp_branch_backward(Model* m, Params p, Params d, Acts a, int B) {
    int rows = B * m->dims.N, C = m->dims.C, F = m->dims.F;
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_backward(m, p, d, a, rows);
    } else {
        linear_backward(a.dhidden, d.fc2_weight, d.fc2_bias, a.dbranch, a.act2, p.fc2_weight, m->scratch, rows, F, C);
        lap(m, PART_FC2);
        activation_backward(m, p, d, a, rows);
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
    layernorm_backward(a.dx, d.norm2_weight, d.norm2_bias, a.dln, a.x_mid, p.norm2_weight, a.ln2_mean, a.ln2_rstd,
                       m->scratch, rows, C);
    lap(m, PART_NORM);
}

// dx += d(attention(x)) given dbranch = d(proj output)
static void attention_branch_backward(Model* m, Params p, Params d, Acts a, int B) {
    int N = m->dims.N, C = m->dims.C;
    linear_backward(a.dmix, d.proj_weight, d.proj_bias, a.dbranch, a.mix, p.proj_weight, m->scratch, B * N, C, C);
    lap(m, PART_PROJ);
    attend_backward(m, p, d, a, B);
    lap(m, PART_ATTENTION);
    linear_backward(a.dln, d.qkv_weight, d.qkv_bias, a.dqkv, a.ln1, p.qkv_weight, m->scratch, B * N, C, 3 * C);
    lap(m, PART_QKV);
    layernorm_backward(a.dx, d.norm1_weight, d.norm1_bias, a.dln, a.x, p.norm1_weight, a.ln1_mean, a.ln1_rstd,
                       m->scratch, B * N, C);
    lap(m, PART_NORM);
}

// Block l, given a.dx of its output: a.dx of its input
static void block_backward(Model* m, int l, int B, const float* keep) {
    int N = m->dims.N, C = m->dims.C;
    Params p = params_of_block(&m->table, m->params, l), d = params_of_block(&m->table, m->grads, l);
    Acts a = acts_of_block(&m->acts_table, m->acts, m->B, l);
    if (m->config.recompute && l < m->dims.L - 1) { block_forward(m, m->params, l, B, keep); } // the last is still there
    residual_backward(a.dbranch, d.ls2, a.dx, a.fc2, p.ls2, keep_of(keep, l, 1, m->B), m->scratch, B, N, C);
    lap(m, PART_RESIDUAL);
    mlp_branch_backward(m, p, d, a, B);
    residual_backward(a.dbranch, d.ls1, a.dx, a.proj, p.ls1, keep_of(keep, l, 0, m->B), m->scratch, B, N, C);
    lap(m, PART_RESIDUAL);
    attention_branch_backward(m, p, d, a, B);
}

// Adds to m->grads the gradient of dloss * Σ_b loss_b, after model_forward and model_loss with the same arguments.
static void model_backward(Model* m, const float* targets, int B, const float* keep, float dloss) {
    int N = m->dims.N, C = m->dims.C, L = m->dims.L, K = m->dims.K;
    Params p = params_of(&m->table, m->params), d = params_of(&m->table, m->grads);
    Acts a = acts_of_block(&m->acts_table, m->acts, m->B, L);
    m->profile.direction = PROFILE_BACKWARD;
    cross_entropy_backward(a.dlogits, a.probs, targets, dloss, B, K);
    linear_backward(a.dpooled, d.head_weight, d.head_bias, a.dlogits, a.pooled, p.head_weight, m->scratch, B, C, K);
    pool_backward(a.dln, a.dpooled, m->config.pool == POOL_AVG, p.cls_token != NULL, B, N, C);
    lap(m, PART_HEAD);
    memset(a.dx, 0, (size_t)B * N * C * sizeof(float));
    layernorm_backward(a.dx, d.norm_weight, d.norm_bias, a.dln, a.x, p.norm_weight, a.norm_mean, a.norm_rstd,
                       m->scratch, B * N, C);
    lap(m, PART_NORM);
    for (int l = L - 1; l >= 0; l--) { block_backward(m, l, B, keep); }
    patch_embed_backward(d.patch_weight, d.patch_bias, d.cls_token, d.pos_embed, a.dx, a.patches, m->scratch,
                         B, m->dims.S, m->dims.P, C);
    lap(m, PART_PATCH_EMBED);
}

// ---------------------------------------------------------------------------------------------------------------------
// Update

// t: number of this update, from 1. Rows of the table that lie together and agree on decay are one span.
static void model_update(Model* m, double lr, float grad_scale, int64_t t) {
    const Config* c = &m->config;
    for (int i = 0; i < PARAMETER_ROWS;) {
        const Parameter* first = &m->table.row[i];
        size_t count = 0;
        for (; i < PARAMETER_ROWS && m->table.row[i].decays == first->decays; i++) {
            count += m->table.row[i].size * (size_t)m->table.row[i].copies;
        }
        size_t at = first->offset;
        adamw_update(m->params + at, m->exp_avg + at, m->exp_avg_sq + at, m->grads + at, count, (float)lr,
                     (float)c->opt_betas[0], (float)c->opt_betas[1], (float)c->opt_eps,
                     first->decays ? (float)c->weight_decay : 0, grad_scale, t);
    }
    if (m->ema) { ema_update(m->ema, m->params, m->table.total, (float)c->model_ema_decay); }
}

// Which branches of this micro-batch are dropped: rate rising linearly over the blocks.
static void draw_drop_path(Model* m, int64_t micro_batch) {
    int L = m->dims.L;
    for (int i = 0; m->keep && i < L * 2 * m->B; i++) {
        int l = i / (2 * m->B);
        float rate = L > 1 ? (float)(m->config.drop_path * l / (L - 1)) : 0;
        float u = random_uniform((uint64_t)m->config.seed, STREAM_DROP_PATH, (uint32_t)micro_batch, (uint64_t)i);
        m->keep[i] = u < rate ? 0 : 1 / (1 - rate);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What it costs

// FLOPs of one image, forward and backward; the backward is twice the forward.
static double train_flops(const Model* m) { return 3 * 2 * model_macs(&m->config, m->dims); }

// What the process has held at most, from the operating system, in MB
static double peak_memory(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024e-6 * (double)usage.ru_maxrss;
}

static void print_memory(const Model* m, size_t data_bytes) {
    bool ema = m->config.model_ema_decay > 0;
    double mb = 1e-6 * sizeof(float), pixels = 3.0 * m->dims.S * m->dims.S;
    double params = mb * (double)m->table.total, moments = (ema ? 3 : 2) * params;
    double saved = mb * (double)m->acts_table.saved;
    double workspace = mb * (double)(m->acts_table.total - m->acts_table.saved + model_scratch(m));
    double batches = mb * 4 * m->B * (pixels + m->dims.K), images = 1e-6 * (double)data_bytes;
    double program = 8; // code, libraries and stacks, as measured
    double total = 2 * params + moments + saved + workspace + batches + images + program;
    printf("memory     %.1f MB: parameters %.1f, gradients %.1f, AdamW%s %.1f, activations %.1f, workspace %.1f, "
           "batches %.1f, images %.1f, program %.1f\n", total, params, params, ema ? " and EMA" : "", moments, saved,
           workspace, batches, images, program);
}

static void print_plan(const Model* m, size_t data_bytes) {
    const Config* c = &m->config;
    Dims d = m->dims;
    printf("model      %s: C %d, %d blocks, %d heads, %d tokens, %d classes; attention %s, mlp %s\n",
           c->model, d.C, d.L, d.H, d.N, d.K, choice_name(config_option("attn")->choices, c->attn),
           choice_name(config_option("mlp")->choices, c->mlp));
    printf("parameters %zu in %d tensors\n", m->table.total, tensor_count(&m->table));
    print_memory(m, data_bytes);
    printf("compute    %.4f GMAC an image forward, %.3f GFLOP to train on it\n", 1e-9 * model_macs(c, d),
           1e-9 * train_flops(m));
}

// ---------------------------------------------------------------------------------------------------------------------
// The training run

typedef struct {
    Model model;
    Dataset train, test;
    Loader train_loader, test_loader;
    const Batch* first_batch; // what --overfit-batch repeats
    char output[OPTION_TEXT_SIZE];
    Schedule schedule;
    int64_t step, total_steps, steps_per_epoch; // step: updates done
    double best_top1;
    int64_t best_step;
    Running loss;        // of the steps since the last row of the log
    int64_t hits, seen;  // images among them: right ones, all
    double flops_per_image;
} Trainer;

// The first Ctrl-C (or SIGTERM) ends the run after the step or evaluation under way, with a checkpoint; the second
// ends it at once.
static volatile sig_atomic_t stop_requested;
static void request_stop(int signal_number) {
    stop_requested = 1;
    signal(signal_number, SIG_DFL);
}

typedef struct { double loss, grad_norm, lr; int64_t hits, images; } StepResult;

static const Batch* next_batch(Trainer* t) {
    if (!t->model.config.overfit_batch) { return loader_next(&t->train_loader); }
    if (!t->first_batch) { t->first_batch = loader_next(&t->train_loader); }
    return t->first_batch;
}

// Forward and backward over the micro-batches of one step: gradients of the mean loss. Nothing is updated.
static StepResult accumulate_gradients(Trainer* t) {
    Model* m = &t->model;
    int micro_batches = m->config.grad_accum_steps;
    StepResult result = {0};
    memset(m->grads, 0, m->table.total * sizeof(float));
    lap(m, PART_UPDATE);
    for (int i = 0; i < micro_batches; i++) {
        m->profile.direction = PROFILE_FORWARD;
        const Batch* batch = next_batch(t);
        lap(m, PART_DATA);
        draw_drop_path(m, t->step * micro_batches + i);
        model_forward(m, m->params, batch->images, batch->count, m->keep);
        result.loss += model_loss(m, batch->targets, batch->count) / micro_batches;
        model_backward(m, batch->targets, batch->count, m->keep, 1.0f / (float)(batch->count * micro_batches));
        const float* logits = acts_of_block(&m->acts_table, m->acts, m->B, 0).logits;
        for (int b = 0; b < batch->count; b++) {
            result.hits += rank_of_label(logits + (size_t)b * m->dims.K, m->dims.K, batch->labels[b]) == 0;
        }
        result.images += batch->count;
    }
    result.grad_norm = global_norm(m->grads, m->table.total);
    lap(m, PART_UPDATE);
    double at = m->config.sched_on_updates ? (double)t->step : (double)(t->step / t->steps_per_epoch);
    result.lr = learning_rate(&t->schedule, at);
    return result;
}

static void apply_update(Trainer* t, const StepResult* r) {
    double clip = t->model.config.clip_grad;
    float scale = clip > 0 && r->grad_norm > clip ? (float)(clip / r->grad_norm) : 1;
    t->step++;
    model_update(&t->model, r->lr, scale, t->step);
    lap(&t->model, PART_UPDATE);
    running_add(&t->loss, r->loss);
    t->hits += r->hits;
    t->seen += r->images;
}

// ---------------------------------------------------------------------------------------------------------------------
// Evaluation over the whole test split

typedef struct { int64_t images, hits; } ClassCount;

static Evaluation evaluate(Trainer* t, float* flat, ClassCount* per_class /* (K) or NULL */) {
    Model* m = &t->model;
    const float* logits = acts_of_block(&m->acts_table, m->acts, m->B, 0).logits;
    const float* losses = acts_of_block(&m->acts_table, m->acts, m->B, 0).losses;
    Running loss = {0}, top1 = {0}, top5 = {0};
    loader_seek(&t->test_loader, 0);
    while ((int64_t)loss.count < t->test.count) {
        const Batch* batch = loader_next(&t->test_loader);
        model_forward(m, flat, batch->images, batch->count, NULL);
        model_loss(m, batch->targets, batch->count);
        for (int b = 0; b < batch->count; b++) {
            int rank = rank_of_label(logits + (size_t)b * m->dims.K, m->dims.K, batch->labels[b]);
            running_add(&loss, losses[b]);
            running_add(&top1, 100.0 * (rank < 1));
            running_add(&top5, 100.0 * (rank < 5));
            if (per_class) {
                per_class[batch->labels[b]].images++;
                per_class[batch->labels[b]].hits += rank < 1;
            }
        }
    }
    return (Evaluation){
        .loss = loss.mean, .loss_se = running_error(&loss), .top1 = top1.mean, .top1_se = running_error(&top1),
        .top5 = top5.mean, .top5_se = running_error(&top5), .images = (int64_t)loss.count,
    };
}

static void print_classes(const Dataset* data, const ClassCount* counts) {
    for (int k = 0; k < data->classes; k++) {
        long long images = counts[k].images;
        double share = images ? (double)counts[k].hits / (double)images : 0;
        double error = images ? sqrt(share * (1 - share) / (double)images) : 0;
        printf("  %-24s %6.2f ± %.2f %% of %lld\n", data->class_names[k], 100 * share, 100 * error, images);
    }
}

static Evaluation evaluate_and_print(Trainer* t, float* flat, const char* what) {
    Model* m = &t->model;
    ClassCount* counts = alloc_array(ClassCount, m->dims.K, "class counts");
    Evaluation e = evaluate(t, flat, counts);
    print_evaluation(what, &e);
    if (m->config.per_class) { print_classes(&t->test, counts); }
    free(counts);
    return e;
}

// ---------------------------------------------------------------------------------------------------------------------
// Checkpoints

enum { PATH_SIZE = OPTION_TEXT_SIZE + 64 }; // a folder or prefix that the user gave, and a name of ours

static void output_path(const Trainer* t, const char* name, char path[PATH_SIZE]) {
    snprintf(path, PATH_SIZE, "%s/%s", t->output, name);
}

// The configuration and the step; to be freed
static Metadata* run_metadata(const Trainer* t) {
    Metadata* metadata = alloc_array(Metadata, 1, "metadata");
    metadata_add_config(metadata, &t->model.config, config_table, CONFIG_OPTIONS);
    metadata_add(metadata, "step", "%lld", (long long)t->step);
    return metadata;
}

static void save_buffers(const Trainer* t, const char* name, const TensorBuffer* buffers, int count,
                         const Metadata* metadata) {
    char path[PATH_SIZE];
    Error err;
    output_path(t, name, path);
    if (!checkpoint_save(path, t->model.tensors, t->model.tensor_count, buffers, count, metadata, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
}

static void save_weights(const Trainer* t, const char* name, float* flat) {
    Metadata* metadata = run_metadata(t);
    TensorBuffer weights = {"", flat};
    save_buffers(t, name, &weights, 1, metadata);
    free(metadata);
}

// The buffers that a resumed run goes on with
typedef struct { TensorBuffer buffers[4]; int count; } ResumeState;
static ResumeState resume_state(const Model* m) {
    return (ResumeState){
        {{"param.", m->params}, {"exp_avg.", m->exp_avg}, {"exp_avg_sq.", m->exp_avg_sq}, {"ema.", m->ema}},
        m->ema ? 4 : 3,
    };
}

static void save_last(const Trainer* t) {
    const Model* m = &t->model;
    Metadata* metadata = run_metadata(t);
    metadata_add(metadata, "best", "%lld %.17g", (long long)t->best_step, t->best_top1);
    metadata_add(metadata, "window", "%.17g %.17g %.17g %lld %lld", t->loss.count, t->loss.mean, t->loss.squares,
                 (long long)t->hits, (long long)t->seen);
    ResumeState state = resume_state(m);
    save_buffers(t, "last.resume.safetensors", state.buffers, state.count, metadata);
    free(metadata);
    save_weights(t, "last.safetensors", m->params);
    if (m->ema) { save_weights(t, "last.ema.safetensors", m->ema); }
}

static SafeTensors open_or_fail(const char* path) {
    SafeTensors file;
    Error err;
    if (!safetensors_open(&file, path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return file;
}

// Reads back the metadata of save_last; false where some of it is missing.
static bool read_position(Trainer* t, const SafeTensors* file) {
    const char* step = safetensors_metadata(file, "step");
    const char* best = safetensors_metadata(file, "best");
    const char* window = safetensors_metadata(file, "window");
    Running* loss = &t->loss;
    long long at = -1, best_step = 0, hits = 0, seen = 0;
    bool read = step && sscanf(step, "%lld", &at) == 1 &&
        best && sscanf(best, "%lld %lf", &best_step, &t->best_top1) == 2 &&
        window && sscanf(window, "%lf %lf %lf %lld %lld", &loss->count, &loss->mean, &loss->squares, &hits, &seen) == 5;
    t->step = at;
    t->best_step = best_step;
    t->hits = hits;
    t->seen = seen;
    return read && at >= 0;
}

static void load_resume(Trainer* t, const char* folder) {
    const Model* m = &t->model;
    char path[PATH_SIZE];
    Error err;
    snprintf(path, sizeof path, "%s/last.resume.safetensors", folder);
    SafeTensors file = open_or_fail(path);
    ResumeState state = resume_state(m);
    for (int i = 0; i < state.count; i++) {
        if (!checkpoint_load(&file, m->tensors, m->tensor_count, state.buffers[i], &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
    }
    if (!read_position(t, &file)) {
        fail(EXIT_RUN_TIME, "%s does not say at which step it was saved: it is not a file to resume from", path);
    }
    safetensors_close(&file);
}

// ---------------------------------------------------------------------------------------------------------------------
// A loss or gradient that is not finite is never applied

// The first tensor that holds a NaN or Inf: of the parameters, then of the activations in the order of the forward,
// then of the gradients
static void name_not_finite(const Model* m, int B, char name[160]) {
    snprintf(name, 160, "the gradient norm");
    for (int i = 0; i < m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i];
        if (!all_finite(m->params + p->offset, p->size)) { snprintf(name, 160, "parameter %s", p->name); return; }
    }
    // What has no copy a block comes after the blocks, but for the first row, the patches.
    for (int l = 0; l <= m->dims.L; l++) {
        for (int i = 0; i < SAVED_ROWS; i++) {
            const Activation* a = &m->acts_table.row[i];
            bool every_block = a->copies > 1;
            bool here = every_block ? (size_t)l < a->copies : l == (i == 0 ? 0 : m->dims.L);
            const float* values = m->acts + a->offset + (every_block ? (size_t)l * (size_t)m->B * a->per_image : 0);
            if (here && a->copies && !all_finite(values, (size_t)B * a->per_image)) {
                int used = snprintf(name, 160, "activation %s", a->name);
                if (every_block) { snprintf(name + used, (size_t)(160 - used), " of block %d", l); }
                return;
            }
        }
    }
    for (int i = 0; i < m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i];
        if (!all_finite(m->grads + p->offset, p->size)) { snprintf(name, 160, "gradient of %s", p->name); return; }
    }
}

static void stop_not_finite(const Trainer* t, const StepResult* r) {
    char name[160];
    int B = t->model.B < t->train.count ? t->model.B : t->train.count;
    name_not_finite(&t->model, B, name);
    save_last(t);
    fail(EXIT_RUN_TIME, "step %lld is not finite (loss %g, gradient norm %g): the first bad tensor is %s. "
         "The update was not applied and the state before it is saved in %s. "
         "Try a smaller --lr, a longer --warmup-epochs or --clip-grad 1",
         (long long)t->step + 1, r->loss, r->grad_norm, name, t->output);
}

// ---------------------------------------------------------------------------------------------------------------------
// The training loop

typedef struct { double start, waited; int64_t step; } Clock; // of the window since the last row

static Clock clock_start(const Trainer* t) {
    return (Clock){.start = seconds_now(), .waited = loader_wait_seconds(&t->train_loader), .step = t->step};
}

static Progress progress_of(const Trainer* t, const StepResult* r, const Clock* clock) {
    double seconds = seconds_now() - clock->start;
    double steps = (double)(t->step - clock->step), images = steps * (double)r->images;
    return (Progress){
        .step = t->step, .epoch = (double)t->step / (double)t->steps_per_epoch, .loss = t->loss,
        .accuracy = t->seen ? 100.0 * (double)t->hits / (double)t->seen : 0,
        .lr = r->lr, .grad_norm = r->grad_norm,
        .ms_per_step = 1e3 * seconds / steps, .images_per_second = images / seconds,
        .gflops = 1e-9 * images * t->flops_per_image / seconds,
        .wait_percent = 100 * (loader_wait_seconds(&t->train_loader) - clock->waited) / seconds,
    };
}

static void show_progress(Trainer* t, FILE* csv, const StepResult* r, Clock* clock) {
    bool row = t->step % t->model.config.log_every == 0 || t->step == t->total_steps;
    Progress p = progress_of(t, r, clock);
    print_progress(&p, t->total_steps, 1e-3 * p.ms_per_step * (double)(t->total_steps - t->step), row);
    if (!row) { return; }
    metrics_train(csv, &p);
    t->loss = (Running){0};
    t->hits = t->seen = 0;
    *clock = clock_start(t);
}

static void evaluate_epoch(Trainer* t, FILE* csv) {
    float* weights = t->model.ema ? t->model.ema : t->model.params;
    double epoch = (double)t->step / (double)t->steps_per_epoch;
    char what[64];
    snprintf(what, sizeof what, "epoch %.2f, test%s", epoch, t->model.ema ? " (EMA)" : "");
    Evaluation e = evaluate_and_print(t, weights, what);
    metrics_test(csv, t->step, epoch, &e);
    if (e.top1 > t->best_top1 || !t->best_step) {
        t->best_top1 = e.top1;
        t->best_step = t->step;
        save_weights(t, "best.safetensors", weights);
    }
}

static void keep_checkpoint(const Trainer* t) {
    char name[64];
    snprintf(name, sizeof name, "epoch-%lld.safetensors", (long long)(t->step / t->steps_per_epoch));
    save_weights(t, name, t->model.ema ? t->model.ema : t->model.params);
}

// True when what is due every so many units (0: never) is due at the end of this one.
static bool due(int64_t at, int64_t every) { return every > 0 && at % every == 0; }

static void after_step(Trainer* t, FILE* csv, const StepResult* r, Clock* clock) {
    const Config* c = &t->model.config;
    bool last = t->step == t->total_steps, epoch_ends = t->step % t->steps_per_epoch == 0;
    int64_t epoch = t->step / t->steps_per_epoch;
    show_progress(t, csv, r, clock);
    double paused = seconds_now();
    if (last || (epoch_ends && due(epoch, c->eval_every))) { evaluate_epoch(t, csv); }
    if (epoch_ends && due(epoch, c->keep_every)) { keep_checkpoint(t); }
    bool save = c->checkpoint_every ? due(t->step, c->checkpoint_every) : epoch_ends;
    if (last || save) { save_last(t); }
    clock->start += seconds_now() - paused; // evaluation and files do not count as training time
}

static int train(Trainer* t) {
    Error err;
    char path[PATH_SIZE];
    output_path(t, "metrics.csv", path);
    FILE* csv = metrics_open(path, t->step, &err);
    if (!csv) { fail(EXIT_RUN_TIME, "%s", err.text); }
    signal(SIGINT, request_stop);
    signal(SIGTERM, request_stop);
    loader_seek(&t->train_loader, t->step * t->model.config.grad_accum_steps);
    Clock clock = clock_start(t);
    while (t->step < t->total_steps && !stop_requested) {
        StepResult r = accumulate_gradients(t);
        if (!isfinite(r.loss) || !isfinite(r.grad_norm)) { stop_not_finite(t, &r); }
        apply_update(t, &r);
        after_step(t, csv, &r, &clock);
    }
    fclose(csv);
    if (stop_requested) {
        save_last(t);
        printf("\nstopped at step %lld: go on with --resume %s\n", (long long)t->step, t->output);
        return 0;
    }
    printf("peak memory %.1f MB\n", peak_memory());
    printf("best top-1 %.2f %% at step %lld; files in %s: metrics.csv, config.txt, best.safetensors, "
           "last.safetensors\n", t->best_top1, (long long)t->best_step, t->output);
    return 0;
}

static int overfit(Trainer* t) {
    const double goal = 0.01;
    while (t->step < t->total_steps) {
        StepResult r = accumulate_gradients(t);
        long long step = t->step;
        if (!isfinite(r.loss) || !isfinite(r.grad_norm)) { fail(EXIT_RUN_TIME, "step %lld is not finite", step + 1); }
        if (due(step, t->model.config.log_every) || r.loss < goal) { printf("step %lld: loss %.6f\n", step, r.loss); }
        if (r.loss < goal) {
            printf("the first batch is learned: loss below %g\n", goal);
            return 0;
        }
        apply_update(t, &r);
    }
    printf("the first batch is not learned to loss %g in %lld steps: give more --steps or another --lr\n", goal,
           (long long)t->total_steps);
    return EXIT_RUN_TIME;
}

// ---------------------------------------------------------------------------------------------------------------------
// --profile: the parts of some steps

// A table of milliseconds a step, over so many steps of so many images, with the arithmetic rate of the parts that are
// products (the backward of a product is two of its size) and each part's share
static void print_profile(const Model* m, const Profile* profile, int steps, double images) {
    double total = profile_total(profile), all_flops = 0;
    printf("%-12s %12s %12s %14s %14s %8s\n", "part", "forward, ms", "backward, ms", "forward, GF/s", "backward, GF/s",
           "share");
    for (int part = 0; part < PARTS; part++) {
        const double* seconds = profile->seconds[part];
        double flops = 2 * part_macs(&m->config, m->dims, part) * images * steps;
        all_flops += 3 * flops;
        printf("%-12s %12.2f %12.2f", part_names[part], 1e3 * seconds[0] / steps, 1e3 * seconds[1] / steps);
        if (flops > 0) {
            printf(" %14.1f %14.1f", 1e-9 * flops / seconds[0], 2e-9 * flops / seconds[1]);
        } else {
            printf(" %14s %14s", "", "");
        }
        printf(" %6.1f %%\n", 100 * (seconds[0] + seconds[1]) / total);
    }
    printf("%-12s %25.2f %29.1f  %.1f images/s\n", "step", 1e3 * total / steps, 1e-9 * all_flops / total,
           images * steps / total);
}

static int profile(Trainer* t) {
    Model* m = &t->model;
    int steps = m->config.profile;
    for (int i = -1; i < steps; i++) { // the first step warms up
        if (i == 0) { profile_start(&m->profile); }
        StepResult r = accumulate_gradients(t);
        apply_update(t, &r);
    }
    print_profile(m, &m->profile, steps, (double)m->B * m->config.grad_accum_steps);
    return 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// --dump-state and --gradcheck: the first batch, no drop path

// Gradients of the mean loss over the first batch in m->grads; returns the loss.
static double first_gradients(Trainer* t, const Batch* batch) {
    Model* m = &t->model;
    memset(m->grads, 0, m->table.total * sizeof(float));
    model_forward(m, m->params, batch->images, batch->count, NULL);
    double loss = model_loss(m, batch->targets, batch->count);
    model_backward(m, batch->targets, batch->count, NULL, 1.0f / (float)batch->count);
    return loss;
}

static int dump_state(Trainer* t, const char* path) {
    Model* m = &t->model;
    Dims d = m->dims;
    const Batch* batch = loader_next(&t->train_loader);
    float loss = (float)first_gradients(t, batch);
    int count = 4 + 2 * m->tensor_count;
    SafeTensorOut* out = alloc_array(SafeTensorOut, count, "a dump");
    char(*names)[128] = (char(*)[128])alloc_array(char, (size_t)count * 128, "a dump");
    out[0] = (SafeTensorOut){"input", 4, {batch->count, 3, d.S, d.S}, batch->images};
    out[1] = (SafeTensorOut){"target", 2, {batch->count, d.K}, batch->targets};
    out[2] = (SafeTensorOut){"logits", 2, {batch->count, d.K}, acts_of_block(&m->acts_table, m->acts, m->B, 0).logits};
    out[3] = (SafeTensorOut){"loss", 1, {1}, &loss};
    for (int i = 0; i < 2 * m->tensor_count; i++) {
        const NamedTensor* p = &m->tensors[i / 2];
        snprintf(names[i], sizeof names[i], "%s.%s", i % 2 ? "grad" : "param", p->name);
        const float* flat = i % 2 ? m->grads : m->params;
        out[4 + i] = (SafeTensorOut){.name = names[i], .rank = p->rank, .data = flat + p->offset};
        memcpy(out[4 + i].shape, p->shape, sizeof p->shape);
    }
    Metadata* metadata = alloc_array(Metadata, 1, "metadata");
    metadata_add_config(metadata, &m->config, config_table, CONFIG_OPTIONS);
    const char* pairs[METADATA_MAX][2];
    Error err;
    metadata_pairs(metadata, pairs);
    if (!safetensors_save(path, out, count, pairs, metadata->count, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    printf("wrote %s: loss %.6f on %d images\n", path, loss, batch->count);
    free(metadata);
    free(names);
    free(out);
    return 0;
}

typedef struct { Model* model; const Batch* batch; } CheckedLoss;
static double loss_of_params(void* context) {
    CheckedLoss* c = (CheckedLoss*)context;
    model_forward(c->model, c->model->params, c->batch->images, c->batch->count, NULL);
    return model_loss(c->model, c->batch->targets, c->batch->count);
}

static int gradcheck(Trainer* t) {
    Model* m = &t->model;
    CheckedLoss checked = {m, loader_next(&t->train_loader)};
    gradcheck_move(m->params, m->tensors, m->tensor_count, (uint64_t)m->config.seed);
    first_gradients(t, checked.batch);
    GradcheckResult r = gradcheck_run(loss_of_params, &checked, m->params, m->grads, m->tensors, m->tensor_count,
                                      (uint64_t)m->config.seed, true);
    printf("%d passed, %d failed, %d skipped at kinks\n", r.passed, r.failed, r.kinks);
    return r.failed > 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// From the command line to a run

// Flags, over what the file of --resume or --eval says. Ends the program on --help, --list and errors.
static Config configure(int argc, char** argv) {
    Config c, saved;
    Error err;
    char given[OPTION_TEXT_SIZE], path[PATH_SIZE] = "";
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "help", given)) {
        config_help(stdout);
        exit(0);
    }
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "list", given)) {
        config_list(stdout);
        exit(0);
    }
    bool resumes = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "resume", given) && *given;
    if (resumes) {
        snprintf(path, sizeof path, "%s/last.resume.safetensors", given);
    } else if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "eval", given)) {
        snprintf(path, sizeof path, "%s", given);
    }
    if (!options_defaults(&saved, config_table, CONFIG_OPTIONS, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (*path) {
        SafeTensors file = open_or_fail(path);
        if (!metadata_read_config(&file, &saved, config_table, CONFIG_OPTIONS, &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
        safetensors_close(&file);
    }
    if (!config_parse(&c, *path ? &saved : NULL, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (resumes && !options_same(&saved, &c, config_table, CONFIG_OPTIONS, &err)) {
        fail(EXIT_USAGE, "a resumed run keeps its configuration, but %s: leave these flags out", err.text);
    }
    return c;
}

static void load_data(Trainer* t, const Config* c) {
    Error err;
    if (!dataset_open(&t->train, &t->test, c->data, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    if (c->train_images && c->train_images < t->train.count) { t->train.count = c->train_images; }
    if (c->test_images && c->test_images < t->test.count) { t->test.count = c->test_images; }
    if (c->classes && c->classes < t->train.classes) {
        fail(EXIT_USAGE, "--classes %d is fewer than the %d of %s: leave it out", c->classes, t->train.classes,
             c->data);
    }
}

static void choose_normalization(LoaderConfig* loader, const Dataset* data, int normalize) {
    static const float imagenet_mean[] = {0.485f, 0.456f, 0.406f}, imagenet_std[] = {0.229f, 0.224f, 0.225f};
    static const float half[] = {0.5f, 0.5f, 0.5f};
    const float* const mean[] = {
        [NORMALIZE_DATASET] = data->mean, [NORMALIZE_IMAGENET] = imagenet_mean, [NORMALIZE_HALF] = half};
    const float* const std[] = {
        [NORMALIZE_DATASET] = data->std, [NORMALIZE_IMAGENET] = imagenet_std, [NORMALIZE_HALF] = half};
    memcpy(loader->mean, mean[normalize], sizeof loader->mean);
    memcpy(loader->std, std[normalize], sizeof loader->std);
}

static void open_loaders(Trainer* t) {
    const Config* c = &t->model.config;
    Error err;
    LoaderConfig train = {
        .batch_size = c->batch_size, .image_size = c->image_size, .num_classes = t->model.dims.K,
        .train = true, .prefetch = true, .seed = (uint64_t)c->seed,
        .crop_pct = (float)c->crop_pct, .eval_interpolation = (Interpolation)c->interpolation,
        .augment = {
            .crop_padding = c->crop_padding, .flip = (float)c->hflip, .random_resized_crop = c->rrc,
            .scale = {(float)c->scale[0], (float)c->scale[1]}, .ratio = {(float)c->ratio[0], (float)c->ratio[1]},
            .train_interpolation = (Interpolation)c->train_interpolation,
            .mixup = (float)c->mixup, .cutmix = (float)c->cutmix,
            .mix_probability = (float)c->mixup_prob, .mix_switch = (float)c->mixup_switch_prob,
            .smoothing = (float)c->smoothing,
        },
    };
    choose_normalization(&train, &t->train, c->normalize);
    LoaderConfig test = train;
    test.train = false;
    if (!loader_open(&t->train_loader, &t->train, &train, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (!loader_open(&t->test_loader, &t->test, &test, &err)) { fail(EXIT_USAGE, "%s", err.text); }
}

static void plan_steps(Trainer* t) {
    const Config* c = &t->model.config;
    t->steps_per_epoch = t->train_loader.steps_per_epoch / c->grad_accum_steps;
    if (t->steps_per_epoch < 1) { t->steps_per_epoch = 1; }
    t->total_steps = c->steps ? c->steps : c->epochs * t->steps_per_epoch;
    double unit = c->sched_on_updates ? 1 : 1.0 / (double)t->steps_per_epoch; // the schedule counts steps, or epochs
    t->schedule = (Schedule){
        .lr = c->lr, .min_lr = c->min_lr, .warmup_lr = c->warmup_lr,
        .warmup = c->warmup_epochs * (double)t->steps_per_epoch * unit, .total = (double)t->total_steps * unit,
    };
    t->flops_per_image = train_flops(&t->model);
}

static bool folder_holds_run(const char* folder) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/metrics.csv", folder);
    return access(path, F_OK) == 0;
}

static void make_folders(const char* path) { // as mkdir -p
    char part[OPTION_TEXT_SIZE];
    for (size_t n = 1; n <= strlen(path); n++) {
        if (path[n] != '/' && path[n]) { continue; }
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        if (mkdir(part, 0777) != 0 && errno != EEXIST) {
            fail(EXIT_RUN_TIME, "cannot make the folder %s: %s. Choose another --output", part, strerror(errno));
        }
    }
}

// What an earlier run left must not be taken for this one's: resumed before its first checkpoint, it would go on with
// that.
static void remove_run(const Trainer* t) {
    static const char* const names[] = {"last.resume.safetensors", "last.safetensors", "last.ema.safetensors",
                                        "best.safetensors", "metrics.csv"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_SIZE];
        output_path(t, names[i], path);
        if (unlink(path) != 0 && errno != ENOENT) {
            fail(EXIT_RUN_TIME, "cannot remove %s: %s", path, strerror(errno));
        }
    }
}

// Where the run leaves its files: --output, else the folder that it resumes, else a new one.
static void open_output(Trainer* t) {
    const Config* c = &t->model.config;
    const char* data = strrchr(c->data, '/') ? strrchr(c->data, '/') + 1 : c->data;
    snprintf(t->output, sizeof t->output, "%s", *c->output ? c->output : c->resume);
    bool resumes = *c->resume && strcmp(t->output, c->resume) == 0;
    for (int n = 1; !*t->output || (!*c->output && !*c->resume && folder_holds_run(t->output)); n++) {
        int used = snprintf(t->output, sizeof t->output, "runs/%.120s-%.120s-s%d", data, c->model, c->seed);
        if (n > 1) { snprintf(t->output + used, sizeof t->output - (size_t)used, "-%d", n); }
    }
    if (!resumes && !c->overwrite && folder_holds_run(t->output)) {
        fail(EXIT_USAGE, "--output %s already holds a run: go on with --resume %s, start anew with --overwrite, "
             "or choose another folder", t->output, t->output);
    }
    make_folders(t->output);
    if (!resumes) { remove_run(t); }
    char path[PATH_SIZE];
    output_path(t, "config.txt", path);
    FILE* f = fopen(path, "w");
    if (!f) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
    config_write(f, c);
    if (fclose(f) != 0) { fail(EXIT_RUN_TIME, "cannot write %s: %s", path, strerror(errno)); }
}

static void load_weights(Trainer* t) {
    Model* m = &t->model;
    Error err;
    const char* path = *m->config.eval ? m->config.eval : m->config.init_from;
    if (*m->config.resume) {
        load_resume(t, m->config.resume);
        return;
    }
    if (*path) {
        SafeTensors file = open_or_fail(path);
        TensorBuffer weights = {"", m->params};
        bool ok = *m->config.eval
            ? checkpoint_load(&file, m->tensors, m->tensor_count, weights, &err)
            : checkpoint_load_matching(&file, m->tensors, m->tensor_count, m->params, adapt_pos_embed, &err);
        if (!ok) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
        safetensors_close(&file);
    }
    if (m->ema) { memcpy(m->ema, m->params, m->table.total * sizeof(float)); }
}

// Waiting threads must sleep: spinning ones take the core from the loader's thread, and from whoever shares the
// machine. The OpenMP runtime reads this once, before main, hence the second start.
static void start_with_sleeping_threads(char** argv) {
#ifdef _OPENMP
    if (getenv("OMP_WAIT_POLICY")) { return; }
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv); // returns only where it cannot: then this process goes on as it is
#else
    (void)argv;
#endif
}

static int threads_begin(const Config* c) {
    matmul_init();
#ifdef _OPENMP
    if (c->threads) { omp_set_num_threads(c->threads); }
    return omp_get_max_threads();
#else
    (void)c;
    return 1;
#endif
}

static int run(Trainer* t) {
    const Config* c = &t->model.config;
    if (*c->eval) {
        evaluate_and_print(t, t->model.params, c->eval);
        return 0;
    }
    if (*c->dump_state) { return dump_state(t, c->dump_state); }
    if (c->gradcheck) { return gradcheck(t); }
    if (c->overfit_batch) { return overfit(t); }
    if (c->profile) { return profile(t); }
    open_output(t);
    return train(t);
}

#ifndef TESTING
int main(int argc, char** argv) {
    static Trainer t;
    Error err;
    start_with_sleeping_threads(argv);
    Config config = configure(argc, argv);
    int threads = threads_begin(&config);
    bool counts_only = config.dry_run && config.classes;
    if (!counts_only) { load_data(&t, &config); }
    int classes = config.classes ? config.classes : t.train.classes;
    if (!model_plan(&t.model, &config, classes, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    print_plan(&t.model, t.train.file_bytes + t.test.file_bytes);
    if (config.dry_run) { return 0; }
    printf("data       %s: %d training and %d test images, %d classes\n", config.data, t.train.count, t.test.count,
           t.train.classes);
    printf("machine    %d threads, products by %s\n", threads, matmul_library());
    if (!model_allocate(&t.model, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    open_loaders(&t);
    plan_steps(&t);
    load_weights(&t);
    int code = run(&t);
    loader_close(&t.train_loader);
    loader_close(&t.test_loader);
    dataset_free(&t.train);
    dataset_free(&t.test);
    model_free(&t.model);
    return code;
}
#endif
