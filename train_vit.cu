// kat.c on the GPU: train_vit.c in CUDA. The path to read is the same, and so are names, options, files and the log:
//
//     configuration -> parameter table -> data -> forward -> backward -> update -> log
//
// model/, data/ and runtime/ are shared with the CPU trainer; a run begun by one can be resumed by the other. Kernels
// are in kernels/*.cuh under the names of the CPU's functions, with a stream as the last argument. Sizes that they do
// not support are refused when the model is planned.
//
// Precision (--precision): the residual stream, parameters, their gradients, statistics and the optimiser are always
// fp32. With fp32 and tf32 so is everything else; with bf16, activations and their gradients are stored as bf16 (T
// below), and products read a bf16 copy of the parameters that the update writes. The gradient of the residual stream
// is stored as set by --stream-grad (G), in any of them.
//
// All of a step goes to one stream, in memory that was allocated before; the host waits for it once, to read its loss
// and gradient norm. Two parts repeat unchanged, forward to backward and the update: each is captured into a CUDA graph
// and then launched as a whole (--cuda-graph). What differs from step to step is in memory that they read, and the next
// batch is copied there on a separate stream during a step.
//
// Shapes: B images, N tokens, C width, H heads, L blocks, F hidden width of the MLP, K classes, row-major.
#include "data/device_input.cuh"
#include "kernels/activation.cuh"
#include "kernels/adamw.cuh"
#include "kernels/adamw.h" // all_finite
#include "kernels/attention.cuh"
#include "kernels/attention_gate.cuh"
#include "kernels/attention_gpsa.cuh"
#include "kernels/attention_linear.cuh"
#include "kernels/attention_mixing.cuh"
#include "kernels/attention_pointwise.cuh"
#include "kernels/attention_rank.cuh"
#include "kernels/attention_window.cuh"
#include "kernels/kan.cuh"
#include "kernels/karat.cuh"
#include "kernels/layernorm.cuh"
#include "kernels/loss.cuh"
#include "kernels/matmul.cuh"
#include "kernels/patch_embed.cuh"
#include "kernels/patch_merge.cuh"
#include "kernels/prefix.cuh"
#include "kernels/rational.cuh"
#include "kernels/residual.cuh"
#include "model/activations.h"
#include "model/attention_start.h"
#include "model/config.h"
#include "model/cost.h"
#include "model/owners.cuh"
#include "model/parameters.h"
#include "model/step.h"
#include "runtime/device.cuh"
#include "runtime/profile.h"
#include "runtime/step_graph.cuh"

typedef float Residual; // storage of the residual stream

enum { ALIGNMENT = 256 }; // bytes: tensors start at multiples, for products and 16-byte vectors

// ---------------------------------------------------------------------------------------------------------------------
// Activations: the table of train_vit.c, with the type of each (field, type, present, kept, elements per image); d: the
// sizes of a block.

#define SAVED_TABLE(A) \
A(patches,   T,        true, ONCE,    (size_t)(d.S / d.P) * (d.S / d.P) * 3 * d.P * d.P) \
A(tokens,    T,        true, ONCE,    (size_t)(d.S / d.P) * (d.S / d.P) * c->dim) /* embedded patches */ \
A(before,    Residual, d.entry != ENTRY_NONE, ENTRIES, entering_size(d)) /* the residual stream, before a stage */ \
A(merged,    Residual, d.entry == ENTRY_MERGE, ENTRIES, (size_t)d.N * 2 * d.C) \
A(merged_norm, T,      d.entry == ENTRY_MERGE, ENTRIES, (size_t)d.N * 2 * d.C) \
A(entry_mean, float,   normalises(d.entry), ENTRIES, (size_t)d.N) /* of that norm, or of the patches' */ \
A(entry_rstd, float,   normalises(d.entry), ENTRIES, (size_t)d.N) \
A(x,         Residual, true, INPUTS,  (size_t)d.N * d.C)         /* input of each block; the last is the output */ \
A(ln1,       T,        true, kept,    (size_t)d.N * d.C) \
A(ln1_mean,  float,    true, kept,    (size_t)d.N) \
A(ln1_rstd,  float,    true, kept,    (size_t)d.N) \
A(qkv,       T,        true, kept,    (size_t)d.N * 3 * d.C)     /* queries of NQ tokens only */ \
A(lse,       float,    softmax_heads(c, d) > 0, kept, (size_t)softmax_heads(c, d) * d.NQ) \
A(z,         float,    c->attn == ATTN_KARAT && !d.local, kept, (size_t)d.HK * d.NQ * d.R) \
A(mix,       T,        true, kept,    (size_t)d.NQ * d.C)        /* the values, weighted by attention */ \
A(gate,      float,    c->attn_gate, kept, (size_t)d.NQ * d.H)   /* before the sigmoid */ \
A(gated,     T,        c->attn_gate, kept, (size_t)d.NQ * d.C)   /* mix, each head by its gate */ \
A(proj,      T,        true, c->layer_scale > 0 ? kept : PASSING, (size_t)d.NQ * d.C) \
A(x_mid,     Residual, true, kept,    (size_t)d.NQ * d.C)        /* the residual stream between attention and MLP */ \
A(ln2,       T,        true, kept,    (size_t)d.NQ * d.C) \
A(ln2_mean,  float,    true, kept,    (size_t)d.NQ) \
A(ln2_rstd,  float,    true, kept,    (size_t)d.NQ) \
A(act1,      T,        c->mlp == MLP_GR_KAN, kept, (size_t)d.NQ * d.C) \
A(fc1,       T,        true, kept,    (size_t)d.NQ * d.F) \
A(act2,      T,        c->mlp != MLP_KAN, kept, (size_t)d.NQ * d.F) \
A(fc2,       T,        true, c->layer_scale > 0 ? kept : PASSING, (size_t)d.NQ * d.C) \
A(norm,      T,        true, ONCE,    (size_t)d.N * d.C) \
A(norm_mean, float,    true, ONCE,    (size_t)d.N) \
A(norm_rstd, float,    true, ONCE,    (size_t)d.N) \
A(pooled,    T,        true, ONCE,    (size_t)d.C) \
A(logits,    float,    true, ONCE,    (size_t)d.K) \
A(losses,    float,    true, ONCE,    1)

#define BACKWARD_TABLE(A) \
A(dx,        char,     true, PASSING, stream_grad_size(c) * d.N * d.C) /* gradient of the residual stream, (N,C) of G */ \
A(dx_token,  char,     d.NQ < d.N, PASSING, stream_grad_size(c) * d.C) /* of the class token's, if it alone goes on */ \
A(dx_aside,  char,     leaves_blocks(c, d), PASSING, stream_grad_size(c) * d.N * d.C * (d.entry == ENTRY_MERGE ? 2 : 1)) \
A(dbranch,   T,        true, PASSING, (size_t)d.N * d.C)               /* of what attention or MLP adds to it */ \
A(dln,       T,        true, PASSING, (size_t)d.N * d.C) \
A(dmix,      T,        true, PASSING, (size_t)d.N * d.C) \
A(dgate,     T,        c->attn_gate, PASSING, (size_t)d.N * d.H) \
A(dqkv,      T,        true, PASSING, (size_t)d.N * 3 * d.C) \
A(dhidden,   T,        true, PASSING, (size_t)d.N * d.F) \
A(dpooled,   T,        true, ONCE,    (size_t)d.C) \
A(dlogits,   T,        true, ONCE,    (size_t)d.K) \
A(hits,      float,    true, ONCE,    1)                               /* 1: the label has the largest logit; 0 */

#define ACTIVATION_TABLE(A) SAVED_TABLE(A) BACKWARD_TABLE(A)
#define ACTIVATION_FIELD(field, type, ...) type* field;
template <class T> struct Acts { ACTIVATION_TABLE(ACTIVATION_FIELD) };
#define ACTIVATION_ENUM(field, ...) ACT_##field,
enum { ACTIVATION_TABLE(ACTIVATION_ENUM) ACTIVATION_ROWS };
enum { SAVED_ROWS = 0 SAVED_TABLE(COUNT_ROW) };

typedef struct {
    Activation row[ACTIVATION_ROWS];
    Ints depths;         // blocks of each stage
    size_t saved, total; // bytes of the saved ones, of all
} ActivationTable;

// Heads whose softmax the backward recomputes from its log-sum-exp
static int softmax_heads(const Config* c, Dims d) {
    return d.local || c->attn == ATTN_SOFTMAX || c->attn == ATTN_SOFTMAX_RANK ? d.H : c->softmax_heads;
}

// Bytes per element of G
static size_t stream_grad_size(const Config* c) {
    return c->stream_grad == STREAM_GRAD_BF16 ? sizeof(bf16) : sizeof(float);
}

// Whether the stream's gradient passes through more than blocks: before this one, or before the head's norm
static bool leaves_blocks(const Config* c, Dims d) { return d.entry != ENTRY_NONE || c->fc_norm; }

static void activation_sizes(size_t* elements, const Config* c, Dims d) {
#define ACTIVATION_SIZE(field, type, present, kept, elements) (present) ? elements : 0,
    const size_t sizes[] = {ACTIVATION_TABLE(ACTIVATION_SIZE)};
    memcpy(elements, sizes, sizeof sizes);
}

template <class T> static ActivationTable activation_table(const Config* c, Dims d, int B) {
    Keeping kept = c->recompute ? PASSING : KEPT;
#define ACTIVATION_ROW(field, type, present, kept, elements) {#field, kept, sizeof(type), {}, 0, 0, {}, {}},
    ActivationTable table = {{ACTIVATION_TABLE(ACTIVATION_ROW)}, stage_depths(c), 0, 0};
    table.total = place_activations(table.row, ACTIVATION_ROWS, activation_sizes, c, d, B, ALIGNMENT);
    table.saved = table.row[SAVED_ROWS].offset[0];
    return table;
}

// Pointers into the buffer, every per-block one at block l
template <class T> static Acts<T> acts_of_block(const ActivationTable* table, char* flat, int l) {
    void* pointers[ACTIVATION_ROWS];
    BlockPlace at = place_in(table->depths, l);
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        const Activation* a = &table->row[i];
        pointers[i] = activation_exists(a, at) ? flat + activation_offset(a, at) : NULL;
    }
    Acts<T> acts;
    static_assert(sizeof acts == sizeof pointers, "Acts has one pointer a row");
    memcpy((void*)&acts, pointers, sizeof acts);
    return acts;
}

// ---------------------------------------------------------------------------------------------------------------------
// The parameters on the device have the host's layout

// What products read: Params with another type. Both have one pointer per row, in table order.
#define WEIGHT_FIELD(field, ...) const T* field;
template <class T> struct Weights { PARAMETER_TABLE(WEIGHT_FIELD) };

template <class Pointers, class T>
static Pointers tensors_of_block(const ParameterTable* table, T* flat, int l) {
    T* pointers[PARAMETER_ROWS];
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        const Parameter* p = &table->row[l][i];
        pointers[i] = p->size || p->shared ? flat + p->offset : NULL;
    }
    Pointers tensors;
    static_assert(sizeof tensors == sizeof pointers, "one pointer a row");
    memcpy((void*)&tensors, pointers, sizeof tensors);
    return tensors;
}

// ---------------------------------------------------------------------------------------------------------------------
// The model

enum { FLAT_BUFFERS = 5 };

// What a batch has besides its images, in one buffer, to be moved in one copy
typedef struct {
    float* keep;    // (L, 2, B) drop path: 0 or 1/(1-rate) for each block, branch, image; NULL: all kept
    float* targets; // (B,K)
    int* labels;    // (B)
} Facts;

typedef struct {
    Config config;
    Dims dims;
    ParameterTable table;
    NamedTensor* tensors;
    int tensor_count;
    float *params, *grads;              // flat, on the device, (table.total)
    float *exp_avg, *exp_avg_sq, *ema;  // (owners.owned), what this rank updates; ema NULL when off
    bf16 *low, *low_ema;                                // with bf16: params, and ema, for products
    float* mirrors[FLAT_BUFFERS];                       // the five on the host, (table.total), once they were requested
    ActivationTable acts_table;
    char* acts;
    DeviceInput input[2];         // the source of batches for evaluation [0] and training [1]
    float* host_images;           // once they were requested
    float* scratch;
    float* images;                // (B,3,S,S) of the next batch, on the device: free once its patches are made
    char *facts, *facts_coming, *facts_host; // of the batch; of the next one; pinned, where that is assembled
    const Batch* coming;          // the next batch; NULL: none
    float* keep;                  // of facts_host
    GradientSum sum;              // of the step's micro-batches
    Owners owners;                // with other ranks
    OwnersTables tables;
    bool stale;                   // others have updated parameters that have not arrived yet
    bool gathers;                 // they arrive during the current part of a step
    StepSums *sums, *host_sums;   // of the step so far; pinned
    AdamWStep *adamw, *host_adamw; // of this step, for each group; pinned: the host writes it after the last step
    int* host_stop;               // likewise: the signal received
    uint8_t* groups;              // the UpdateGroup of each GROUP_FLOATS parameters
    float* grad_scale;            // the factor that clips the gradients
    bool grads_zero;
    bool graphs;                  // steps are captured
    bool low_ema_old;             // ema has changed since
    float *host_logits, *host_losses; // pinned: (B,K), (B)
    int B;                        // images for which the activations have space
    cudaStream_t stream, copies;
    cudaEvent_t copied, taken;    // a batch has arrived; it was moved to where the step reads it
    StepGraph gradients_graphs[6], update_graph; // first, middle and last micro-batch of a step; of two sizes
    Profile profile;
} Model;

// The time since the last lap belongs to this part. Only a profile waits for the device.
static void lap(Model* m, int part) {
    if (m->profile.on) { CUDA_CHECK(cudaStreamSynchronize(m->stream)); }
    profile_lap(&m->profile, part);
}

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

// The sizes of block l, or of what follows the blocks, l = L
static Dims dims_at(const Model* m, int l) { return dims_of_block(&m->config, m->dims, l); }

template <class T> static Acts<T> acts_at(const Model* m, int l) {
    return acts_of_block<T>(&m->acts_table, m->acts, l);
}

static Params params_at(const Model* m, float* flat, int l) {
    return params_of_block(&m->table, flat, l);
}

// For parameters, or for their running mean
template <class T> static Weights<T> weights_at(const Model* m, float* flat, int l) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        return tensors_of_block<Weights<T>>(&m->table, flat == m->params ? m->low : m->low_ema, l);
    } else {
        return tensors_of_block<Weights<T>>(&m->table, flat, l);
    }
}

static size_t keep_size(const Model* m) { return m->config.drop_path > 0 ? (size_t)m->dims.L * 2 * m->B : 0; }

static size_t facts_bytes(const Model* m) {
    return sizeof(float) * (keep_size(m) + (size_t)m->B * m->dims.K) + sizeof(int) * m->B;
}

static Facts facts_at(const Model* m, char* bytes) {
    float* targets = (float*)bytes + keep_size(m);
    return {keep_size(m) ? (float*)bytes : NULL, targets, (int*)(targets + (size_t)m->B * m->dims.K)};
}

// ---------------------------------------------------------------------------------------------------------------------
// The choices: how the logits of attention become weights (--attn), and the MLP's activation (--mlp)

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

// bias_table: in windows, from KArAt's first head on
static KaratParams karat_params(Params p, const float* bias_table, KaratDims k) {
    KaratOperator first = {p.karat_coef, p.scale_basis, p.scale_base};
    KaratOperator second = {p.outer_coef, p.outer_scale_basis, p.outer_scale_base};
    return {.inner = first, .outer = k.order == KARAT_PHI_W ? first : second, .proj_weight = p.karat_weight,
            .proj_bias = p.karat_bias, .bias_table = bias_table};
}

static KaratGrads karat_grads(Params d, float* bias_table, KaratDims k) {
    KaratOperatorGrads first = {d.karat_coef, d.scale_basis, d.scale_base};
    KaratOperatorGrads second = {d.outer_coef, d.outer_scale_basis, d.outer_scale_base};
    return {.inner = first, .outer = k.order == KARAT_PHI_W ? first : second, .proj_weight = d.karat_weight,
            .proj_bias = d.karat_bias, .bias_table = bias_table};
}

// Refuses sizes that no kernel supports.
static bool kernels_check(const Config* c, Dims model, Error* err) {
    for (int l = 0; l < model.L; l++) {
        Dims d = dims_of_block(c, model, l);
        if (c->precision == PRECISION_BF16 && (d.C % 8 || d.F % 8 || 3 * d.P * d.P % 8)) {
            return set_error(err, "with --precision bf16 --dim %d, the MLP's width %d and the values of a patch, %d, "
                             "must be multiples of 8: change them, or use --precision fp32", d.C, d.F, 3 * d.P * d.P);
        }
    }
    return true;
}

// Workspace in floats for attend_forward and attend_backward
static size_t attend_scratch(const Model* m, Dims d) {
    if (d.local) { return gpsa_scratch(m->B, d.N, d.H); }
    if (d.windows.grid) {
        int heads = softmax_heads(&m->config, d);
        size_t softmax = heads ? window_attention_scratch(m->B, d.windows, heads) : 0;
        bool karat = m->config.attn == ATTN_KARAT;
        return karat ? largest(softmax, karat_scratch(karat_dims(m, d, m->B))) : softmax;
    }
    size_t softmax = attention_scratch(m->B, d.N, softmax_heads(&m->config, d)) +
                     attention_bias_scratch(m->B, d.N, d.N, d.C);
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT: return largest(karat_scratch(karat_dims(m, d, m->B)), softmax);
    case ATTN_MIXING: return mixing_scratch(m->B, d.N, d.H);
    case ATTN_SOFTMAX_RANK: return rank_scratch(m->B, d.N, d.C, d.H, d.R);
    case ATTN_LINEAR: return linear_attention_scratch(m->B, d.N, d.C, d.H);
    case ATTN_SOFTMAX: case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL: return softmax;
    }
    return 0;
}

template <class T> static void attend_to_all_forward(const Model* m, Params p, Acts<T> a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H, D = s.D, softmax = m->config.softmax_heads;
    KaratDims k = karat_dims(m, s, B);
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT: // softmax heads, if any, come first
        if (softmax) { attention_forward(a.mix, a.lse, a.qkv, B, N, NQ, C, softmax, D, m->stream); }
        karat_forward(a.mix + softmax * D, a.z, a.qkv + softmax * D, karat_params(p, NULL, k), m->scratch, k, m->stream);
        break;
    case ATTN_SOFTMAX: attention_forward(a.mix, a.lse, a.qkv, B, N, NQ, C, H, D, m->stream); break;
    case ATTN_MIXING: mixing_forward(a.mix, a.qkv, p.mixing, B, N, NQ, C, H, m->stream); break;
    case ATTN_SOFTMAX_RANK:
        rank_forward(a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch, B, N, NQ, C, H, s.R, m->stream);
        break;
    case ATTN_LINEAR: linear_attention_forward(a.mix, a.qkv, m->scratch, B, N, NQ, C, H, m->stream); break;
    case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL:
        pointwise_forward(a.mix, a.qkv, pointwise_kind(m->config.attn), B, N, NQ, C, H, m->stream);
    }
}

// In windows: softmax for the first heads, perhaps all, KArAt for the others
template <class T> static void attend_in_windows_forward(const Model* m, Params p, Acts<T> a, Dims s, int B) {
    int softmax = softmax_heads(&m->config, s), first = softmax * s.D;
    KaratDims k = karat_dims(m, s, B);
    if (softmax) {
        window_attention_forward(a.mix, a.lse, a.qkv, p.window_table, B, s.windows, s.C, softmax, s.D, m->stream);
    }
    if (m->config.attn == ATTN_KARAT) {
        karat_forward(a.mix + first, a.z, a.qkv + first, karat_params(p, p.window_table + softmax, k), m->scratch, k,
                      m->stream);
    }
}

// a.mix = the values of a.qkv, weighted, for the queries of the first NQ tokens. s, here and below: the sizes of the
// block
template <class T> static void attend_forward(const Model* m, Params p, Acts<T> a, Dims s, int B) {
    if (s.local) {
        gpsa_forward(a.mix, a.lse, a.qkv, p.position, p.gating, m->scratch, B, s.N, s.C, s.H, m->stream);
    } else if (s.windows.grid) {
        attend_in_windows_forward(m, p, a, s, B);
    } else {
        attend_to_all_forward(m, p, a, s, B);
    }
}

// d.qkv_bias += column sums of a.dqkv
template <class T> static void qkv_bias_backward(const Model* m, Params d, Acts<T> a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C;
    if (d.qk_bias) {
        bias_backward(d.qk_bias, a.dqkv, 3 * C, m->scratch, B * N, 2 * C, m->stream);
        bias_backward(d.v_bias, a.dqkv + 2 * C, 3 * C, m->scratch, B * N, C, m->stream);
    }
    if (!d.qkv_bias) { return; }
    if (NQ == N) {
        bias_backward(d.qkv_bias, a.dqkv, 3 * C, m->scratch, B * N, 3 * C, m->stream);
    } else { // NQ is 1: one row of queries per image
        bias_backward(d.qkv_bias, a.dqkv, N * 3 * C, m->scratch, B * NQ, C, m->stream);
        bias_backward(d.qkv_bias + C, a.dqkv + C, 3 * C, m->scratch, B * N, 2 * C, m->stream);
    }
}

// Returns whether d.qkv_bias has its gradient
template <class T> static bool attend_to_all_backward(const Model* m, Params p, Params d, Acts<T> a, Dims s, int B) {
    int N = s.N, NQ = s.NQ, C = s.C, H = s.H, D = s.D, softmax = m->config.softmax_heads;
    int first = softmax * D;
    bool bias_summed = false;
    KaratDims k = karat_dims(m, s, B);
    switch ((Attention)m->config.attn) {
    case ATTN_KARAT:
        if (softmax) {
            attention_backward(a.dqkv, NULL, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, softmax, D,
                               m->stream);
        }
        karat_backward(a.dqkv + first, karat_grads(d, NULL, k), a.dmix + first, a.z, a.qkv + first,
                       karat_params(p, NULL, k), m->scratch, k, m->stream);
        break;
    case ATTN_SOFTMAX:
        bias_summed = attention_backward(a.dqkv, d.qkv_bias, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, NQ, C, H,
                                         D, m->stream);
        break;
    case ATTN_MIXING:
        mixing_backward(a.dqkv, d.mixing, a.dmix, a.qkv, p.mixing, m->scratch, B, N, NQ, C, H, m->stream);
        break;
    case ATTN_SOFTMAX_RANK:
        rank_backward(a.dqkv, d.rank_down, d.rank_up, a.dmix, a.mix, a.lse, a.qkv, p.rank_down, p.rank_up, m->scratch,
                      B, N, NQ, C, H, s.R, m->stream);
        break;
    case ATTN_LINEAR:
        linear_attention_backward(a.dqkv, a.dmix, a.mix, a.qkv, m->scratch, B, N, NQ, C, H, m->stream);
        break;
    case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL:
        pointwise_backward(a.dqkv, a.dmix, a.qkv, pointwise_kind(m->config.attn), B, N, NQ, C, H, m->stream);
    }
    return bias_summed;
}

template <class T>
static void attend_in_windows_backward(const Model* m, Params p, Params d, Acts<T> a, Dims s, int B) {
    int softmax = softmax_heads(&m->config, s), first = softmax * s.D;
    KaratDims k = karat_dims(m, s, B);
    if (softmax) {
        window_attention_backward(a.dqkv, d.window_table, a.dmix, a.mix, a.lse, a.qkv, p.window_table, m->scratch, B,
                                  s.windows, s.C, softmax, s.D, m->stream);
    }
    if (m->config.attn == ATTN_KARAT) {
        karat_backward(a.dqkv + first, karat_grads(d, d.window_table + softmax, k), a.dmix + first, a.z, a.qkv + first,
                       karat_params(p, p.window_table + softmax, k), m->scratch, k, m->stream);
    }
}

// a.dqkv from a.dmix, and the gradients of the biases within a.qkv
template <class T> static void attend_backward(const Model* m, Params p, Params d, Acts<T> a, Dims s, int B) {
    bool bias_summed = false;
    if (s.local) {
        gpsa_backward(a.dqkv, d.position, d.gating, a.dmix, a.mix, a.lse, a.qkv, p.position, p.gating, m->scratch, B,
                      s.N, s.C, s.H, m->stream);
    } else if (s.windows.grid) {
        attend_in_windows_backward(m, p, d, a, s, B);
    } else {
        bias_summed = attend_to_all_backward(m, p, d, a, s, B);
    }
    if (!bias_summed) { qkv_bias_backward(m, d, a, s, B); }
}

// a.act2 = activation(a.fc1), rows of F
template <class T> static void mlp_activation_forward(const Model* m, Params p, Acts<T> a, Dims s, int rows) {
    int F = s.F, mlp = m->config.mlp;
    size_t n = (size_t)rows * F;
    if (mlp < ACTIVATION_COUNT) {
        activation_forward(a.act2, a.fc1, (ActivationKind)mlp, n, m->stream);
    } else if (mlp == MLP_PRELU) {
        prelu_forward(a.act2, a.fc1, p.prelu_weight, n, m->stream);
    } else {
        rational_forward(a.act2, a.fc1, p.numerator2, p.denominator2, rows, F, rational_shape(&m->config), m->stream);
    }
}

// act2 = activation(fc1): a.dhidden becomes d(fc1) from d(act2), its column sums d(fc1_bias)
template <class T>
static void mlp_activation_backward(const Model* m, Params p, Params d, Acts<T> a, Dims s, int rows) {
    int F = s.F, mlp = m->config.mlp;
    if (mlp < ACTIVATION_COUNT) {
        activation_backward(a.dhidden, d.fc1_bias, a.dhidden, a.fc1, (ActivationKind)mlp, m->scratch, rows, F,
                            m->stream);
    } else if (mlp == MLP_PRELU) {
        prelu_backward(a.dhidden, d.fc1_bias, d.prelu_weight, a.dhidden, a.fc1, p.prelu_weight, m->scratch, rows, F,
                       m->stream);
    } else {
        rational_backward(a.dhidden, d.fc1_bias, d.numerator2, d.denominator2, a.dhidden, a.fc1, p.numerator2,
                          p.denominator2, m->scratch, rows, F, rational_shape(&m->config), m->stream);
    }
}

// a.fc2 = two KAN layers of a.ln2, instead of the MLP
template <class T> static void kan_mlp_forward(Model* m, Weights<T> w, Acts<T> a, Dims s, int rows) {
    int C = s.C, F = s.F;
    Basis basis = kan_basis(&m->config);
    kan_forward(a.fc1, a.ln2, w.fc1_weight, w.fc1_spline, w.fc1_bias, m->scratch, rows, C, F, basis, m->stream);
    lap(m, PART_FC1);
    kan_forward(a.fc2, a.fc1, w.fc2_weight, w.fc2_spline, w.fc2_bias, m->scratch, rows, F, C, basis, m->stream);
    lap(m, PART_FC2);
}

// a.dln from a.dbranch = d(a.fc2)
template <class T> static void kan_mlp_backward(Model* m, Weights<T> w, Params d, Acts<T> a, Dims s, int rows) {
    int C = s.C, F = s.F;
    Basis basis = kan_basis(&m->config);
    kan_backward(a.dhidden, d.fc2_weight, d.fc2_spline, d.fc2_bias, a.dbranch, a.fc1, w.fc2_weight, w.fc2_spline,
                 m->scratch, rows, F, C, basis, m->stream);
    lap(m, PART_FC2);
    kan_backward(a.dln, d.fc1_weight, d.fc1_spline, d.fc1_bias, a.dhidden, a.ln2, w.fc1_weight, w.fc1_spline,
                 m->scratch, rows, C, F, basis, m->stream);
    lap(m, PART_FC1);
}

// ---------------------------------------------------------------------------------------------------------------------
// Planning and allocation

// Workspace in floats needed at most by a kernel of a block, or around the blocks
static size_t block_scratch(const Model* m, Dims d) {
    int B = m->B, rows = B * d.N;
    RationalShape r = rational_shape(&m->config);
    size_t most = largest(embed_tokens_scratch(B, d.N, d.C), layer_scale_scratch(B, d.N, d.C));
    for (int columns : {1, 2, 3}) { most = largest(most, bias_backward_scratch(rows, columns * d.C)); }
    most = largest(most, linear_backward_scratch(B, d.K));
    most = largest(most, largest(layernorm_scratch(rows, 2 * d.C), layernorm_scratch(rows, d.C)));
    most = largest(most, prefix_scratch(B, d.prefix, d.C));
    most = largest(most, largest(rational_scratch(rows, d.F, r), rational_scratch(rows, d.C, r)));
    most = largest(most, activation_scratch(rows, d.F));
    if (m->config.mlp == MLP_KAN) {
        Basis basis = kan_basis(&m->config);
        most = largest(most, largest(kan_scratch(rows, d.C, d.F, basis), kan_scratch(rows, d.F, d.C, basis)));
    }
    return largest(most, attend_scratch(m, d));
}

static size_t model_scratch(const Model* m) {
    size_t most = 0;
    for (int l = 0; l < m->dims.L; l++) { most = largest(most, block_scratch(m, dims_at(m, l))); }
    return most;
}

// Sizes only: without buffers, so that --dry-run can tell what a run would need
static bool model_plan(Model* m, const Config* config, int classes, int B, Error* err) {
    *m = Model{};
    m->config = *config;
    m->dims = dims_of(config, classes);
    m->B = B;
    if (!kernels_check(config, m->dims, err) || !parameter_table(&m->table, config, m->dims, err)) { return false; }
    m->sum = gradient_sum_plan(m->table.total, config->grad_accum_steps);
    m->owners = owners_plan(&m->table, config->grad_accum_steps);
    m->acts_table = config->precision == PRECISION_BF16 ? activation_table<bf16>(config, m->dims, m->B)
                                                        : activation_table<float>(config, m->dims, m->B);
    return true;
}

// Bytes of shared memory that a block of attention needs at most
static size_t attend_shared(const Model* m, Dims d) {
    size_t softmax = 2 * PLAIN_ROWS * (size_t)(d.D + d.N) * sizeof(float);
    if (d.windows.grid) {
        size_t windows = window_plain_shared(window_dims(m->B, d.windows, d.C, d.H, d.D));
        bool karat = m->config.attn == ATTN_KARAT;
        return karat ? largest(windows, karat_plain_shared(karat_dims(m, d, m->B))) : windows;
    }
    if (m->config.attn == ATTN_LINEAR && !d.local) { return linear_attention_shared(d.N, d.D); }
    bool karat = m->config.attn == ATTN_KARAT && !d.local;
    return karat ? largest(softmax, karat_plain_shared(karat_dims(m, d, m->B))) : softmax;
}

// Whether attention's tiles fit into the shared memory of a multiprocessor
static bool shared_check(const Model* m, Error* err) {
    for (int l = 0; l < m->dims.L; l++) {
        Dims d = dims_at(m, l);
        size_t bytes = attend_shared(m, d);
        if (bytes + STATIC_SHARED > shared_limit()) {
            return set_error(err, "attention over %d tokens wants %zu bytes of the GPU's shared memory, which has %zu: "
                             "use a larger --patch, a smaller --grid, or ./train_kat --device cpu", d.NA, bytes,
                             shared_limit());
        }
    }
    return true;
}

static void allocate_parameters(Model* m) {
    size_t total = m->table.total, owned = m->owners.owned;
    m->tensors = named_tensors(&m->table);
    m->tensor_count = tensor_count(&m->table);
    m->params = device_zeros<float>(total, "parameters");
    m->grads = device_zeros<float>(total, "gradients");
    m->exp_avg = device_zeros<float>(owned, "AdamW's first moment");
    m->exp_avg_sq = device_zeros<float>(owned, "AdamW's second moment");
    m->ema = m->config.model_ema_decay > 0 ? device_zeros<float>(owned, "the running mean of the weights") : NULL;
    if (m->config.precision == PRECISION_BF16) {
        m->low = device_zeros<bf16>(total, "parameters in bf16");
        m->low_ema = m->ema ? device_zeros<bf16>(total, "the running mean in bf16") : NULL;
    }
}

static void allocate_batch(Model* m) {
    Dims d = m->dims;
    size_t B = m->B;
    m->acts = device_zeros<char>(m->acts_table.total, "activations"); // read even where nothing is written
    m->scratch = device_array<float>(model_scratch(m), "workspace");
    m->images = device_array<float>(B * 3 * d.S * d.S, "images");
    m->facts = device_array<char>(facts_bytes(m), "targets");
    m->facts_coming = device_array<char>(facts_bytes(m), "targets");
    m->facts_host = pinned_array<char>(facts_bytes(m));
    m->keep = facts_at(m, m->facts_host).keep;
    m->host_logits = pinned_array<float>(B * d.K);
    m->host_losses = pinned_array<float>(B);
}

static void allocate_update(Model* m) {
    gradient_sum_allocate(&m->sum);
    owners_allocate(&m->owners);
    m->tables = owners_tables(&m->owners);
    m->grad_scale = device_array<float>(1, "the gradient norm");
    m->sums = device_zeros<StepSums>(1, "the sums of a step");
    m->adamw = device_array<AdamWStep>(UPDATE_GROUPS, "AdamW");
    m->host_sums = pinned_array<StepSums>(1);
    m->host_adamw = pinned_array<AdamWStep>(UPDATE_GROUPS);
    m->host_stop = pinned_array<int>(1);
    size_t groups = m->table.total / GROUP_FLOATS;
    uint8_t* host_groups = update_groups(&m->table);
    m->groups = device_array<uint8_t>(groups, "AdamW");
    CUDA_CHECK(cudaMemcpy(m->groups, host_groups, groups, cudaMemcpyHostToDevice));
    free(host_groups);
}

static float* model_fetch(Model* m, float* flat);
static void model_store(Model* m, float* flat);

// If both have work, the step's goes first. The default stream waits for neither, nor they for it.
static void create_streams(Model* m) {
    int lowest = 0, highest = 0;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
    CUDA_CHECK(cudaStreamCreateWithPriority(&m->stream, cudaStreamNonBlocking, highest));
    CUDA_CHECK(cudaStreamCreateWithPriority(&m->copies, cudaStreamNonBlocking, lowest));
    flat_stream = m->stream;
    CUDA_CHECK(cudaEventCreateWithFlags(&m->copied, cudaEventDisableTiming));
    CUDA_CHECK(cudaEventCreateWithFlags(&m->taken, cudaEventDisableTiming));
}

static bool model_allocate(Model* m, Error* err) {
    if (!shared_check(m, err)) { return false; }
    create_streams(m);
    m->graphs = m->config.cuda_graph;
    matmul_init(m->config.precision == PRECISION_TF32);
    allocate_parameters(m);
    allocate_batch(m);
    allocate_update(m);
    CUDA_CHECK(cudaDeviceSynchronize()); // for the zeroing, on the default stream
    float* params = model_fetch(m, m->params);
    if (!params_init(&m->table, &m->config, params, err)) { return false; }
    bool replaced = *m->config.eval || *m->config.resume; // every parameter will come from a file
    if (!replaced) { attention_start(&m->config, &m->table, m->dims, params); }
    model_store(m, m->params);
    return true;
}

static void model_free(Model* m) {
    void* device[] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema, m->low, m->low_ema, m->acts, m->scratch,
                      m->images, m->facts, m->facts_coming, m->sums, m->adamw, m->groups,
                      m->grad_scale};
    void* pinned[] = {m->facts_host, m->host_logits, m->host_losses, m->host_sums, m->host_adamw, m->host_stop};
    for (StepGraph& graph : m->gradients_graphs) { forget_graph(&graph); }
    forget_graph(&m->update_graph);
    for (void* p : device) { CUDA_CHECK(cudaFree(p)); }
    for (void* p : pinned) { CUDA_CHECK(cudaFreeHost(p)); }
    for (float* p : m->mirrors) { free(p); }
    free(m->host_images);
    free(m->tensors);
    owners_tables_free(&m->tables, &m->owners);
    owners_free(&m->owners);
    parameter_table_free(&m->table);
    gradient_sum_free(&m->sum);
    matmul_free();
    for (cudaEvent_t event : {m->copied, m->taken}) { CUDA_CHECK(cudaEventDestroy(event)); }
    for (cudaStream_t stream : {m->stream, m->copies}) { CUDA_CHECK(cudaStreamDestroy(stream)); }
}

// ---------------------------------------------------------------------------------------------------------------------
// The batch, from the host to where a step reads it: on a separate stream, during the previous step.

static void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream));
}

// Moves a batch to m->images, once the previous one was taken: made on the device from the loader's draws, unless it
// comes ready-made. The loader may change the batch after model_loss, model_logits or model_gradients, which wait.
static const float* model_images(Model* m, const Batch* batch) {
    size_t bytes = 3 * sizeof(float) * m->dims.S * m->dims.S * batch->count;
    CUDA_CHECK(cudaStreamWaitEvent(m->copies, m->taken, 0));
    if (batch->images) {
        copy(m->images, batch->images, bytes, cudaMemcpyHostToDevice, m->copies);
    } else {
        device_input_batch(m->images, &m->input[batch->train], batch, m->copies);
    }
    CUDA_CHECK(cudaEventRecord(m->copied, m->copies));
    return m->images;
}

static const float* model_fetch_images(Model* m, const Batch* batch) {
    size_t pixels = 3 * (size_t)m->dims.S * m->dims.S;
    if (!m->host_images) { m->host_images = alloc_floats(m->B * pixels, "a copy of the images"); }
    CUDA_CHECK(cudaStreamWaitEvent(m->stream, m->copied, 0));
    copy(m->host_images, m->images, batch->count * pixels * sizeof(float), cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    return m->host_images;
}

// Starts to move the batch that model_gradients or model_evaluate gets next, and m->keep as it is. The caller must not
// change either until that function has returned.
static void model_prefetch(Model* m, const Batch* batch) {
    Facts facts = facts_at(m, m->facts_host);
    memcpy(facts.targets, batch->targets, (size_t)batch->count * m->dims.K * sizeof(float));
    memcpy(facts.labels, batch->labels, batch->count * sizeof(int));
    CUDA_CHECK(cudaStreamWaitEvent(m->copies, m->taken, 0));
    copy(m->facts_coming, m->facts_host, facts_bytes(m), cudaMemcpyHostToDevice, m->copies);
    model_images(m, batch);
    m->coming = batch;
}

// Makes the arrived batch current: a.patches of its images; its facts, unless it has none
template <class T> static void take_batch(Model* m, int B, bool has_facts) {
    CUDA_CHECK(cudaStreamWaitEvent(m->stream, m->copied, 0));
    if (has_facts) { copy(m->facts, m->facts_coming, facts_bytes(m), cudaMemcpyDeviceToDevice, m->stream); }
    lap(m, PART_DATA);
    extract_patches(acts_at<T>(m, 0).patches, m->images, B, m->dims.S, m->dims.P, m->stream);
    CUDA_CHECK(cudaEventRecord(m->taken, m->stream));
    m->coming = NULL;
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward. p: parameters as kernels read them, w: as products do.

// a.ln1 = norm1(a.x), unless a fused pass has left it: in the first block of a stage, and in a recomputed one
template <class T> static void norm1_forward(Model* m, Params p, Acts<T> a, Dims s, int B) {
    layernorm_forward(a.ln1, a.ln1_mean, a.ln1_rstd, a.x, p.norm1_weight, p.norm1_bias, norm_eps(&m->config), B * s.N,
                      s.C, m->stream);
    lap(m, PART_NORM);
}

// The rows of ln1 that have queries, as a linear layer's input
static LinearShape query_rows(Dims s, int B, int OC, int ld_out) {
    return {B * s.NQ, s.C, OC, s.NQ < s.N ? s.N * s.C : s.C, ld_out};
}

// The part of an optional bias from i on
template <class T> static const T* bias_from(const T* bias, int i) { return bias ? bias + i : NULL; }

// a.qkv: queries of the first NQ tokens, keys and values of all
template <class T> static void qkv_forward(const Model* m, Weights<T> w, Acts<T> a, Dims s, int B) {
    int N = s.N, C = s.C;
    if (s.local) { // values have a separate weight
        linear_forward_strided(a.qkv, a.ln1, w.qk_weight, w.qk_bias, {B * N, C, 2 * C, C, 3 * C}, m->stream);
        linear_forward_strided(a.qkv + 2 * C, a.ln1, w.v_weight, w.v_bias, {B * N, C, C, C, 3 * C}, m->stream);
    } else if (s.NQ == N) {
        linear_forward(a.qkv, a.ln1, w.qkv_weight, w.qkv_bias, B * N, C, 3 * C, m->stream);
    } else {
        linear_forward_strided(a.qkv, a.ln1, w.qkv_weight, w.qkv_bias, query_rows(s, B, C, N * 3 * C), m->stream);
        linear_forward_strided(a.qkv + C, a.ln1, w.qkv_weight + (size_t)C * C, bias_from(w.qkv_bias, C),
                               {B * N, C, 2 * C, C, 3 * C}, m->stream);
    }
}

// a.proj = attention(a.x), the branch before its residual, from a.ln1
template <class T> static void attention_branch_forward(Model* m, Params p, Weights<T> w, Acts<T> a, Dims s, int B) {
    int rows = B * s.NQ, C = s.C, H = s.H;
    qkv_forward(m, w, a, s, B);
    lap(m, PART_QKV);
    attend_forward(m, p, a, s, B);
    if (p.gate_weight) {
        linear_forward_strided(a.gate, a.ln1, w.gate_weight, (const float*)NULL, query_rows(s, B, H, H), m->stream);
        gate_forward(a.gated, a.gate, a.mix, rows, C, H, m->stream);
    }
    lap(m, PART_ATTENTION);
    linear_forward(a.proj, p.gate_weight ? a.gated : a.mix, w.proj_weight, w.proj_bias, rows, C, C, m->stream);
    lap(m, PART_PROJ);
}

// a.x_mid = a.x + a.proj of the first NQ tokens, and the MLP's input from it, in one pass: a.ln2, with GR-KAN a.act1
template <class T>
static void join_and_normalise(Model* m, Params p, Acts<T> a, Dims s, int B, const float* keep) {
    int N = s.N, NQ = s.NQ, C = s.C;
    float eps = norm_eps(&m->config);
    const Residual* x = NQ < N ? a.x_mid : a.x;
    if (NQ < N) { pool_forward(a.x_mid, a.x, false, 1, B, N, C, m->stream); } // class tokens; the others end here
    if (m->config.mlp == MLP_GR_KAN) {
        residual_layernorm_rational_forward(a.x_mid, a.ln2, a.act1, a.ln2_mean, a.ln2_rstd, x, a.proj, p.ls1, keep,
                                            p.norm2_weight, p.norm2_bias, eps, p.numerator1, p.denominator1, B, NQ, C,
                                            rational_shape(&m->config), m->stream);
    } else {
        residual_layernorm_forward(a.x_mid, a.ln2, a.ln2_mean, a.ln2_rstd, x, a.proj, p.ls1, keep, p.norm2_weight,
                                   p.norm2_bias, eps, B, NQ, C, m->stream);
    }
    lap(m, PART_NORM);
}

// a.fc2 = mlp(a.x_mid). again: only for what the backward reads, a.fc2 if there is LayerScale
template <class T>
static void mlp_branch_forward(Model* m, Params p, Weights<T> w, Acts<T> a, Dims s, int rows, bool again) {
    int C = s.C, F = s.F;
    const T* inp = m->config.mlp == MLP_GR_KAN ? a.act1 : a.ln2;
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_forward(m, w, a, s, rows);
        return;
    }
    linear_forward(a.fc1, inp, w.fc1_weight, w.fc1_bias, rows, C, F, m->stream);
    lap(m, PART_FC1);
    mlp_activation_forward(m, p, a, s, rows);
    lap(m, PART_ACTIVATION);
    if (again && !p.ls2) { return; }
    linear_forward(a.fc2, a.act2, w.fc2_weight, w.fc2_bias, rows, F, C, m->stream);
    lap(m, PART_FC2);
}

static const float* keep_of(const float* keep, int l, int branch, int B) {
    return keep ? keep + ((size_t)l * 2 + branch) * B : NULL;
}

// Block l from a.x and a.ln1 up to a.fc2; keep: drop path on the device, or NULL; again: in the backward. If the head
// reads only the class token, so does all of the last block except attention's keys and values.
template <class T> static void block_forward(Model* m, float* flat, int l, int B, const float* keep, bool again) {
    Dims s = dims_at(m, l);
    Params p = params_at(m, flat, l);
    Weights<T> w = weights_at<T>(m, flat, l);
    Acts<T> a = acts_at<T>(m, l);
    attention_branch_forward(m, p, w, a, s, B);
    join_and_normalise(m, p, a, s, B, keep_of(keep, l, 0, m->B));
    mlp_branch_forward(m, p, w, a, s, B * s.NQ, again);
}

// a.x of a block from a.before, what the stream was
template <class T> static void enter_stage_forward(Model* m, Params p, Weights<T> w, Acts<T> a, Dims s, int B) {
    int rows = B * s.N, C = s.C;
    float eps = norm_eps(&m->config);
    switch (s.entry) {
    case ENTRY_NONE: return;
    case ENTRY_JOIN: prefix_forward(a.x, a.before, p.cls_token, p.reg_token, B, s.N, s.prefix, C, m->stream); break;
    case ENTRY_NORM:
        layernorm_forward(a.x, a.entry_mean, a.entry_rstd, a.before, p.patch_norm_weight, p.patch_norm_bias, eps, rows,
                          C, m->stream);
        break;
    case ENTRY_MERGE:
        patch_merge_forward(a.merged, a.before, B, 2 * s.windows.grid, C / 2, m->stream);
        layernorm_forward(a.merged_norm, a.entry_mean, a.entry_rstd, a.merged, p.merge_norm_weight, p.merge_norm_bias,
                          eps, rows, 2 * C, m->stream);
        linear_forward(a.x, a.merged_norm, w.merge_weight, (const Residual*)NULL, rows, 2 * C, C, m->stream);
    }
    lap(m, PART_PATCH_EMBED);
}

// The output of block l, a.x_mid + a.fc2, into the input of block l + 1 or the head. If that is normalised at once, the
// norm is in the same pass: norm1 of block l + 1, or the norm before the head.
template <class T> static void block_output(Model* m, float* flat, int l, int B, const float* keep) {
    bool last = l == m->dims.L - 1;
    Dims s = dims_at(m, l), next_sizes = dims_at(m, l + 1);
    Params p = params_at(m, flat, l), next = params_at(m, flat, last ? l : l + 1);
    Acts<T> a = acts_at<T>(m, l), b = acts_at<T>(m, l + 1);
    const float* kept = keep_of(keep, l, 1, m->B);
    if (!last && next_sizes.entry != ENTRY_NONE) {
        residual_forward(b.before, a.x_mid, a.fc2, p.ls2, kept, B, s.NQ, s.C, m->stream);
        enter_stage_forward(m, next, weights_at<T>(m, flat, l + 1), b, next_sizes, B);
        norm1_forward(m, next, b, next_sizes, B);
    } else if (last && m->config.fc_norm) {
        residual_forward(b.x, a.x_mid, a.fc2, p.ls2, kept, B, s.NQ, s.C, m->stream);
    } else {
        residual_layernorm_forward(b.x, last ? b.norm : b.ln1, last ? b.norm_mean : b.ln1_mean,
                                   last ? b.norm_rstd : b.ln1_rstd, a.x_mid, a.fc2, p.ls2, kept,
                                   last ? p.norm_weight : next.norm1_weight, last ? p.norm_bias : next.norm1_bias,
                                   norm_eps(&m->config), B, s.NQ, s.C, m->stream);
    }
    lap(m, PART_NORM);
}

// The residual stream's start, from a.patches, and the first block's input from it
template <class T> static void embed_forward(Model* m, Params p, Weights<T> w, Acts<T> a, int B) {
    Dims s = dims_at(m, 0);
    int P = s.P, C = s.C, patches = s.S / P * (s.S / P);
    bool enters = s.entry != ENTRY_NONE, joined = s.prefix && !enters; // class tokens are present, and have positions
    linear_forward(a.tokens, a.patches, w.patch_weight, w.patch_bias, B * patches, 3 * P * P, C, m->stream);
    embed_tokens_forward(enters ? a.before : a.x, a.tokens, joined ? p.cls_token : NULL, p.pos_embed, B,
                         patches + (joined ? s.prefix : 0), C, m->stream);
    lap(m, PART_PATCH_EMBED);
    enter_stage_forward(m, p, w, a, s, B);
    norm1_forward(m, p, a, s, B);
}

// a.logits from the blocks' result, a.norm of it or a.x: a norm and a mean over tokens, in either order, and the head
template <class T> static void head_forward(Model* m, Params p, Weights<T> w, Acts<T> a, Dims s, int B) {
    bool mean = m->config.pool == POOL_AVG, mean_first = m->config.fc_norm;
    if (mean_first) {
        pool_forward(a.pooled, a.x, mean, s.prefix, B, s.N, s.C, m->stream);
        layernorm_forward(a.norm, a.norm_mean, a.norm_rstd, a.pooled, p.norm_weight, p.norm_bias, norm_eps(&m->config),
                          B, s.C, m->stream);
    } else {
        pool_forward(a.pooled, a.norm, mean, s.prefix, B, s.N, s.C, m->stream);
    }
    linear_forward(a.logits, mean_first ? a.norm : a.pooled, w.head_weight, p.head_bias, B, s.C, s.K, m->stream);
    lap(m, PART_HEAD);
}

// Called before the parameters of a segment (front, every block, back) are read
static void await(const Model* m, int segment) {
    if (m->gathers) { owners_await(&m->owners, &m->tables, segment, m->stream); }
}

template <class T> static void forward(Model* m, float* flat, int B, const float* keep) {
    int L = m->dims.L;
    Params p = params_at(m, flat, 0);
    Weights<T> w = weights_at<T>(m, flat, 0);
    await(m, 0);
    await(m, 1);
    embed_forward(m, p, w, acts_at<T>(m, 0), B);
    for (int l = 0; l < L; l++) {
        block_forward<T>(m, flat, l, B, keep, false);
        await(m, l + 2); // whatever reads its output first
        block_output<T>(m, flat, l, B, keep);
    }
    head_forward(m, p, w, acts_at<T>(m, L), dims_at(m, L), B);
}

// The running mean as products read it, updated if it has changed
static void round_ema(Model* m, const float* ema) {
    if (!m->low_ema || !m->low_ema_old) { return; }
    bf16_copy(m->low_ema, ema, m->table.total, m->stream);
    m->low_ema_old = false;
}

// The forward of the arrived batch, without drop path
static void forward_of_batch(Model* m, float* flat, int B, bool has_facts) {
    m->profile.direction = PROFILE_FORWARD;
    if (m->config.precision == PRECISION_BF16) {
        take_batch<bf16>(m, B, has_facts);
        forward<bf16>(m, flat, B, NULL);
    } else {
        take_batch<float>(m, B, has_facts);
        forward<float>(m, flat, B, NULL);
    }
}

// Logits (B,K) of m->images (B,3,S,S), without drop path. flat: the parameters or their running mean
static void model_forward(Model* m, float* flat, const float* images, int B, const float* keep) {
    (void)images, (void)keep;
    forward_of_batch(m, flat, B, false);
}

// Each image's loss, from logits and the targets of m->facts
static void losses_forward(Model* m, int B) {
    Acts<float> a = acts_at<float>(m, 0); // for what is fp32 in any precision
    Facts facts = facts_at(m, m->facts);
    cross_entropy<float>(a.losses, NULL, NULL, a.logits, facts.targets, NULL, 0, B, m->dims.K, m->stream);
    copy(m->host_losses, a.losses, B * sizeof(float), cudaMemcpyDeviceToHost, m->stream);
}

// Logits and losses of a prefetched batch, for model_logits and model_losses, to be called in this order: the first
// waits. The batch may be changed, and the next one prefetched, before they are called.
static void model_evaluate(Model* m, float* flat, const Batch* batch) {
    forward_of_batch(m, flat, batch->count, true);
    losses_forward(m, batch->count);
    CUDA_CHECK(cudaEventSynchronize(m->copied));
}

// Mean loss over B images with soft targets (B,K), after model_forward
static double model_loss(Model* m, const float* targets, int B) {
    size_t bytes = (size_t)B * m->dims.K * sizeof(float);
    copy(facts_at(m, m->facts).targets, targets, bytes, cudaMemcpyHostToDevice, m->stream);
    losses_forward(m, B);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    double sum = 0;
    for (int b = 0; b < B; b++) { sum += m->host_losses[b]; }
    return sum / B;
}

// Of the last batch: (B,K), and (B) from model_loss
static const float* model_logits(const Model* m) {
    size_t bytes = (size_t)m->B * m->dims.K * sizeof(float);
    copy(m->host_logits, acts_at<float>(m, 0).logits, bytes, cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    return m->host_logits;
}
static const float* model_losses(const Model* m) { return m->host_losses; }

// ---------------------------------------------------------------------------------------------------------------------
// Backward: the forward in reverse. p, w, a: as in the forward; d: gradients of the parameters. In a block the gradient
// of a linear layer's bias is summed where the gradient of its output is made, before linear_backward.

// A branch joined the stream of so many tokens, which was then normalised: dx += the gradient through the norm from
// a.dln (begins: dx =), and a.dbranch, the gradient of that branch: of attention (0) or the MLP (1) of block l; l < 0:
// none joined. Its column sums are the gradient of the bias of proj or fc2; a KAN sums its own.
template <class T, class G>
static void joined_norm_backward(Model* m, float* dweight, float* dbias, G* dx, bool begins, const Residual* x,
                                 const float* weight, const float* mean, const float* rstd, int l, int branch, int B,
                                 int tokens, int C, const float* keep) {
    Params p = params_at(m, m->params, l < 0 ? 0 : l), d = params_at(m, m->grads, l < 0 ? 0 : l);
    Acts<T> a = acts_at<T>(m, 0);
    float* branch_bias = branch == 0 ? d.proj_bias : m->config.mlp == MLP_KAN ? NULL : d.fc2_bias;
    layernorm_residual_backward(dx, l < 0 ? NULL : a.dbranch, l < 0 ? NULL : branch_bias, dweight, dbias,
                                begins ? NULL : dx, a.dln, x, weight, mean, rstd, branch == 0 ? p.ls1 : p.ls2,
                                keep_of(keep, l < 0 ? 0 : l, branch, m->B), m->scratch, B, tokens, C, m->stream);
    lap(m, PART_NORM);
}

// If no norm follows the MLP of block l: a.dbranch, and the gradient of fc2's bias
template <class T, class G> static void last_branch_backward(Model* m, G* dx, int l, int B, const float* keep) {
    Dims s = dims_at(m, l);
    Params p = params_at(m, m->params, l), d = params_at(m, m->grads, l);
    Acts<T> a = acts_at<T>(m, l);
    residual_backward(a.dbranch, dx, p.ls2, keep_of(keep, l, 1, m->B), B, s.NQ, s.C, m->stream);
    if (m->config.mlp != MLP_KAN) { bias_backward(d.fc2_bias, a.dbranch, s.C, m->scratch, B * s.NQ, s.C, m->stream); }
    lap(m, PART_RESIDUAL);
}

// a.dln = d(norm2's output) given a.dbranch = d(fc2 output)
template <class T>
static void mlp_branch_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, Dims s, int rows) {
    int C = s.C, F = s.F;
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    if (m->config.mlp == MLP_KAN) {
        kan_mlp_backward(m, w, d, a, s, rows);
    } else {
        linear_backward(a.dhidden, d.fc2_weight, NULL, a.dbranch, a.act2, w.fc2_weight, NULL, rows, F, C, m->stream);
        lap(m, PART_FC2);
        mlp_activation_backward(m, p, d, a, s, rows);
        lap(m, PART_ACTIVATION);
        linear_backward(a.dln, d.fc1_weight, NULL, a.dhidden, gr_kan ? a.act1 : a.ln2, w.fc1_weight, NULL, rows, C, F,
                        m->stream);
        lap(m, PART_FC1);
    }
    if (gr_kan) {
        rational_backward(a.dln, NULL, d.numerator1, d.denominator1, a.dln, a.ln2, p.numerator1, p.denominator1,
                          m->scratch, rows, C, rational_shape(&m->config), m->stream);
        lap(m, PART_ACTIVATION);
    }
}

// a.dln = d(norm1's output) from a.dqkv
template <class T> static void qkv_backward(const Model* m, Weights<T> w, Params d, Acts<T> a, Dims s, int B) {
    int N = s.N, C = s.C;
    if (s.local) {
        linear_backward_strided(a.dln, 0, d.qk_weight, NULL, a.dqkv, a.ln1, w.qk_weight, NULL,
                                {B * N, C, 2 * C, C, 3 * C}, m->stream);
        linear_backward_strided(a.dln, 1, d.v_weight, NULL, a.dqkv + 2 * C, a.ln1, w.v_weight, NULL,
                                {B * N, C, C, C, 3 * C}, m->stream);
    } else if (s.NQ == N) {
        linear_backward(a.dln, d.qkv_weight, NULL, a.dqkv, a.ln1, w.qkv_weight, NULL, B * N, C, 3 * C, m->stream);
    } else {
        size_t at = (size_t)C * C; // the start of the keys' weight
        linear_backward_strided(a.dln, 0, d.qkv_weight + at, NULL, a.dqkv + C, a.ln1, w.qkv_weight + at, NULL,
                                {B * N, C, 2 * C, C, 3 * C}, m->stream);
        linear_backward_strided(a.dln, 1, d.qkv_weight, NULL, a.dqkv, a.ln1, w.qkv_weight, NULL,
                                query_rows(s, B, C, N * 3 * C), m->stream);
    }
}

// a.dln = d(norm1's output) given a.dbranch = d(proj output)
template <class T>
static void attention_branch_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, Dims s, int B) {
    int rows = B * s.NQ, C = s.C, H = s.H;
    linear_backward(a.dmix, d.proj_weight, NULL, a.dbranch, p.gate_weight ? a.gated : a.mix, w.proj_weight, NULL, rows,
                    C, C, m->stream);
    lap(m, PART_PROJ);
    if (p.gate_weight) { gate_backward(a.dmix, a.dgate, a.dmix, a.gate, a.mix, rows, C, H, m->stream); }
    attend_backward(m, p, d, a, s, B);
    lap(m, PART_ATTENTION);
    qkv_backward(m, w, d, a, s, B);
    if (p.gate_weight) { // which has the same input
        linear_backward_strided(a.dln, 1, d.gate_weight, NULL, a.dgate, a.ln1, w.gate_weight, NULL,
                                query_rows(s, B, H, H), m->stream);
    }
    lap(m, PART_QKV);
}

// Calls part(g) with a g of type G.
template <class Part> static void with_stream_grad(const Model* m, Part part) {
    if (m->config.stream_grad == STREAM_GRAD_BF16) {
        part(bf16());
    } else {
        part(float());
    }
}

// d(layer_scale) of one branch, given dx after it, for so many tokens
template <class T, class G>
static void branch_scale_backward(Model* m, float* dlayer_scale, const G* dx, const T* branch, int B, Dims s,
                                  const float* keep) {
    if (!dlayer_scale) { return; }
    layer_scale_backward(dlayer_scale, dx, branch, keep, m->scratch, B, s.NQ, s.C, m->stream);
    lap(m, PART_RESIDUAL);
}

// The gradient of the stream where NQ tokens continue, (B,NQ,C)
template <class G, class T> static G* stream_gradient(Acts<T> a, Dims s) {
    return (G*)(s.NQ < s.N ? a.dx_token : a.dx);
}

// a.dx of a.before from that of a.x
template <class T, class G>
static void enter_stage_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, Dims s, int B) {
    int N = s.N, C = s.C, rows = B * N;
    G *dx = (G*)a.dx, *aside = (G*)a.dx_aside;
    size_t bytes = (size_t)rows * C * sizeof(G);
    switch (s.entry) {
    case ENTRY_NONE: return;
    case ENTRY_JOIN:
        copy(aside, dx, bytes, cudaMemcpyDeviceToDevice, m->stream);
        prefix_backward(dx, d.cls_token, d.reg_token, aside, m->scratch, B, N, s.prefix, C, m->stream);
        break;
    case ENTRY_NORM:
        copy(aside, dx, bytes, cudaMemcpyDeviceToDevice, m->stream);
        layernorm_residual_backward(dx, (G*)NULL, NULL, d.patch_norm_weight, d.patch_norm_bias, (const G*)NULL, aside,
                                    a.before, p.patch_norm_weight, a.entry_mean, a.entry_rstd, (const float*)NULL,
                                    (const float*)NULL, m->scratch, B, N, C, m->stream);
        break;
    case ENTRY_MERGE: // of twice the width
        residual_backward(a.dbranch, dx, NULL, NULL, B, N, C, m->stream); // as T
        linear_backward(a.dln, d.merge_weight, NULL, a.dbranch, a.merged_norm, w.merge_weight, NULL, rows, 2 * C, C,
                        m->stream);
        joined_norm_backward<T>(m, d.merge_norm_weight, d.merge_norm_bias, aside, true, a.merged, p.merge_norm_weight,
                                a.entry_mean, a.entry_rstd, -1, 1, B, N, 2 * C, NULL);
        patch_merge_backward(dx, aside, B, 2 * s.windows.grid, C / 2, m->stream);
    }
    lap(m, PART_PATCH_EMBED);
}

// Block l, given the stream's gradient at its output and a.dbranch = d(a.fc2): a.dx of its input, and a.dbranch of the
// block before
template <class T, class G> static void block_backward(Model* m, int l, int B, const float* keep) {
    Dims s = dims_at(m, l);
    int N = s.N, NQ = s.NQ, C = s.C;
    Params p = params_at(m, m->params, l), d = params_at(m, m->grads, l);
    Weights<T> w = weights_at<T>(m, m->params, l);
    Acts<T> a = acts_at<T>(m, l);
    G *dx = stream_gradient<G>(a, s), *dx_all = (G*)a.dx;
    bool enters = s.entry != ENTRY_NONE;
    if (m->config.recompute && l < m->dims.L - 1) { // the last is kept
        norm1_forward(m, p, a, s, B);
        block_forward<T>(m, m->params, l, B, keep, true);
    }
    branch_scale_backward(m, d.ls2, dx, a.fc2, B, s, keep_of(keep, l, 1, m->B));
    mlp_branch_backward(m, p, w, d, a, s, B * NQ);
    joined_norm_backward<T>(m, d.norm2_weight, d.norm2_bias, dx, false, a.x_mid, p.norm2_weight, a.ln2_mean, a.ln2_rstd,
                            l, 0, B, NQ, C, keep);
    branch_scale_backward(m, d.ls1, dx, a.proj, B, s, keep_of(keep, l, 0, m->B));
    attention_branch_backward(m, p, w, d, a, s, B);
    if (NQ < N) { pool_backward(dx_all, dx, false, 1, B, N, C, m->stream); } // zero for the tokens that end here
    joined_norm_backward<T>(m, d.norm1_weight, d.norm1_bias, dx_all, false, a.x, p.norm1_weight, a.ln1_mean, a.ln1_rstd,
                            enters ? -1 : l - 1, 1, B, N, C, keep);
    if (!enters) { return; }
    enter_stage_backward<T, G>(m, p, w, d, a, s, B);
    if (l > 0) { last_branch_backward<T>(m, dx_all, l - 1, B, keep); }
}

// a.dbranch takes the gradient of a.tokens
template <class G, class T> static void embed_backward(Model* m, Params d, Acts<T> a, int B) {
    Dims s = dims_at(m, 0);
    int P = s.P, C = s.C, patches = s.S / P * (s.S / P);
    bool joined = s.prefix && s.entry == ENTRY_NONE;
    embed_tokens_backward(a.dbranch, joined ? d.cls_token : NULL, d.pos_embed, (G*)a.dx, m->scratch, B,
                          patches + (joined ? s.prefix : 0), C, m->stream);
    linear_backward((T*)NULL, d.patch_weight, d.patch_bias, a.dbranch, a.patches, (const T*)NULL, m->scratch,
                    B * patches, 3 * P * P, C, m->stream);
    lap(m, PART_PATCH_EMBED);
}

// The stream's gradient after the blocks, dx, and a.dbranch of the last one's MLP, from a.dlogits
template <class T, class G>
static void head_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, G* dx, Dims s, int B,
                          const float* keep) {
    bool mean = m->config.pool == POOL_AVG;
    int N = s.N, C = s.C, last = m->dims.L - 1;
    G* aside = (G*)a.dx_aside;
    if (m->config.fc_norm) {
        linear_backward(a.dln, d.head_weight, d.head_bias, a.dlogits, a.norm, w.head_weight, m->scratch, B, C, s.K,
                        m->stream);
        layernorm_residual_backward(aside, (T*)NULL, NULL, d.norm_weight, d.norm_bias, (const G*)NULL, a.dln, a.pooled,
                                    p.norm_weight, a.norm_mean, a.norm_rstd, (const float*)NULL, (const float*)NULL,
                                    m->scratch, B, 1, C, m->stream);
        pool_backward(dx, aside, mean, s.prefix, B, N, C, m->stream);
        lap(m, PART_HEAD);
        last_branch_backward<T>(m, dx, last, B, keep);
        return;
    }
    linear_backward(a.dpooled, d.head_weight, d.head_bias, a.dlogits, a.pooled, w.head_weight, m->scratch, B, C, s.K,
                    m->stream);
    pool_backward(a.dln, a.dpooled, mean, s.prefix, B, N, C, m->stream);
    lap(m, PART_HEAD);
    joined_norm_backward<T>(m, d.norm_weight, d.norm_bias, dx, true, a.x, p.norm_weight, a.norm_mean, a.norm_rstd, last,
                            1, B, N, C, keep);
}

// From a.logits on, including the loss
template <class T, class G> static void backward(Model* m, int B, const float* keep, float dloss) {
    int L = m->dims.L, K = m->dims.K;
    Params p = params_at(m, m->params, 0), d = params_at(m, m->grads, 0);
    Acts<T> a = acts_at<T>(m, L);
    Facts facts = facts_at(m, m->facts);
    cross_entropy(a.losses, a.hits, a.dlogits, a.logits, facts.targets, facts.labels, dloss, B, K, m->stream);
    add_batch(&m->sums->loss, &m->sums->hits, a.losses, a.hits, B, m->stream);
    head_backward<T>(m, p, weights_at<T>(m, m->params, 0), d, a, stream_gradient<G>(a, dims_at(m, L - 1)), dims_at(m, L),
                     B, keep);
    owners_depart(&m->owners, L + 1, m->stream);
    for (int l = L - 1; l >= 0; l--) {
        block_backward<T, G>(m, l, B, keep);
        owners_depart(&m->owners, l + 1, m->stream);
    }
    embed_backward<G>(m, d, acts_at<T>(m, 0), B);
    owners_depart(&m->owners, 0, m->stream);
}

// ---------------------------------------------------------------------------------------------------------------------
// The step, in two parts that repeat

// The laps of --profile wait for the device, which is impossible in a graph.
template <class Part> static void repeat(Model* m, StepGraph* graph, Part part) {
    if (m->profile.on) {
        part();
    } else {
        repeat(graph, &m->graphs, m->stream, part);
    }
    if (ranks.size > 1 && m->config.cuda_graph && !m->graphs) { // other ranks would launch theirs
        fail(EXIT_RUN_TIME, "steps cannot be captured: use --cuda-graph off");
    }
}

template <class T> static void batch_gradients(Model* m, int B, bool drops, float dloss) {
    bool first = m->sum.begun == 1, last = m->sum.begun == m->sum.own.count;
    StepKey key = {B, dloss, drops, ranks.size > 1 && first, last};
    take_batch<T>(m, B, true);
    repeat(m, graph_for(m->gradients_graphs, key), [=] {
        if (key.gathers) { owners_bring(&m->owners, &m->tables, m->params, m->low, m->stream); }
        if (key.departs) { owners_close(&m->owners, &m->sum, m->grads); }
        m->gathers = key.gathers;
        const float* keep = drops ? facts_at(m, m->facts).keep : NULL;
        m->profile.direction = PROFILE_FORWARD;
        forward<T>(m, m->params, B, keep);
        m->profile.direction = PROFILE_BACKWARD;
        with_stream_grad(m, [=](auto g) { backward<T, decltype(g)>(m, B, keep, dloss); });
        m->owners.closed = m->gathers = false;
        if (ranks.size > 1 && (key.gathers || key.departs)) { wire_precedes(m->stream); }
    });
    m->stale &= !key.gathers;
}

// A micro-batch of a step: adds its gradient of dloss * Σ_b loss_b to the sum, m->sums += its losses and hits. keep is
// m->keep, or NULL. The arguments may be overwritten when it returns, although the device has hardly begun.
static void model_gradients(Model* m, const Batch* batch, const float* keep, float dloss) {
    if (m->coming != batch) { model_prefetch(m, batch); } // another was used in between
    m->grads_zero = false;
    gradient_sum_next(&m->sum, m->grads);
    if (m->config.precision == PRECISION_BF16) {
        batch_gradients<bf16>(m, batch->count, keep != NULL, dloss);
    } else {
        batch_gradients<float>(m, batch->count, keep != NULL, dloss);
    }
    count_micro_batch(&m->sum, m->sums, m->stream);
    CUDA_CHECK(cudaEventSynchronize(m->copied));
}

// Updates by the gradients of the step's micro-batches, clipped, and zeroes them; not if their norm is not finite. t:
// the number of this update, from 1.
static void model_update(Model* m, double lr, int64_t t) {
    const Config* c = &m->config;
    AdamW constants = {(float)c->opt_betas[0], (float)c->opt_betas[1], (float)c->opt_eps, (float)c->model_ema_decay};
    for (int group = 0; group < UPDATE_GROUPS; group++) {
        UpdateRule rule = update_rule(c, (UpdateGroup)group);
        m->host_adamw[group] = adamw_step((float)(rule.rate * lr), constants.beta1, constants.beta2,
                                          (float)rule.decay, t);
    }
    *m->host_stop = stop_requested;
    repeat(m, &m->update_graph, [=] {
        copy(m->adamw, m->host_adamw, UPDATE_GROUPS * sizeof(AdamWStep), cudaMemcpyHostToDevice, m->stream);
        double* squares = m->owners.squares;
        granule_squares(squares + m->owners.own_squares.first, m->grads, m->tables.granules, m->tables.own, m->stream);
        if (ranks.size > 1) { owners_tell(&m->owners, &m->sum, m->host_stop, m->sums, m->stream); }
        norm_and_scale(&m->sums->norm, m->grad_scale, squares, m->tables.order, m->tables.all, c->clip_grad, m->stream);
        adamw_update(m->params, m->exp_avg, m->exp_avg_sq, m->ema, m->low, m->grads, m->groups, m->tables.place,
                     m->owners.owned, constants, m->adamw, m->grad_scale, m->stream);
        lap(m, PART_UPDATE);
    });
    m->grads_zero = ranks.size == 1; // or the step was not applied, and none follows; each rank zeroes what it owns
    m->stale = ranks.size > 1;
    m->low_ema_old = true;
    gradient_sum_begin(&m->sum); // of the next step
}

// Sums since the last call: here the host waits
static StepSums model_step_sums(Model* m) {
    copy(m->host_sums, m->sums, sizeof(StepSums), cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaMemsetAsync(m->sums, 0, sizeof(StepSums), m->stream));
    ranks_wait(m->stream);
    return *m->host_sums;
}

static void model_zero_gradients(Model* m) {
    gradient_sum_begin(&m->sum);
    if (m->grads_zero) { return; }
    CUDA_CHECK(cudaMemsetAsync(m->grads, 0, m->table.total * sizeof(float), m->stream));
    m->grads_zero = true;
}

// ---------------------------------------------------------------------------------------------------------------------
// What else trainer/run.h needs

// The host's copy of a flat buffer
static float* mirror_of(Model* m, const float* flat) {
    const float* const flats[FLAT_BUFFERS] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema};
    int i = 0;
    while (flats[i] != flat) { i++; }
    if (!m->mirrors[i]) { m->mirrors[i] = alloc_floats(m->table.total, "a copy of the parameters"); }
    return m->mirrors[i];
}

// Whether this rank has only a part of it. The whole of such a buffer is put where the gradients are otherwise.
static bool is_shared_out(const Model* m, const float* flat) {
    return ranks.size > 1 && flat != m->params && flat != m->grads;
}

// Sends this rank's granules of a whole buffer to all, and gets theirs.
static void gather_whole(Model* m, float* whole, bf16* low) {
    owners_bring(&m->owners, &m->tables, whole, low, m->stream);
    wire_precedes(m->stream);
    m->stale &= whole != m->params;
}

static float* whole_of(Model* m, float* flat) {
    float* whole = is_shared_out(m, flat) ? m->grads : flat;
    if (whole != flat) { owners_spread(&m->owners, whole, flat); }
    if (ranks.size > 1 && (flat != m->params || m->stale)) { gather_whole(m, whole, flat == m->params ? m->low : NULL); }
    return whole;
}

static float* model_whole(Model* m, float* flat) {
    float* whole = whole_of(m, flat);
    if (flat == m->ema) { round_ema(m, whole); }
    return whole;
}

static float* model_fetch(Model* m, float* flat) {
    float *whole = whole_of(m, flat), *mirror = mirror_of(m, flat);
    copy(mirror, whole, m->table.total * sizeof(float), cudaMemcpyDeviceToHost, m->stream);
    ranks_wait(m->stream);
    return mirror;
}

static float* model_room(Model* m, float* flat) { return mirror_of(m, flat); }

static void model_store(Model* m, float* flat) {
    float* whole = is_shared_out(m, flat) ? m->grads : flat;
    copy(whole, mirror_of(m, flat), m->table.total * sizeof(float), cudaMemcpyHostToDevice, m->stream);
    if (whole != flat) { owners_keep(&m->owners, flat, whole); }
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    if (m->low && flat == m->params) { bf16_copy(m->low, flat, m->table.total, m->stream); }
    if (flat == m->ema) { m->low_ema_old = true; }
}

// Whether so many elements of an activation are all finite; copies them to the host
static bool activation_finite(const Model* m, const Activation* a, const char* values, size_t count) {
    char* raw = (char*)alloc_bytes(count * a->size, "a look at an activation");
    float* floats = alloc_floats(count, "a look at an activation");
    copy(raw, values, count * a->size, cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    for (size_t i = 0; i < count; i++) {
        floats[i] = a->size == sizeof(bf16) ? __bfloat162float(((bf16*)raw)[i]) : ((float*)raw)[i];
    }
    bool finite = all_finite(floats, count);
    free(raw);
    free(floats);
    return finite;
}

// Names the last batch's first activation, in the order of the forward, with a NaN or Inf; false: there is none
static bool name_bad_activation(const Model* m, int B, char name[160]) {
    int L = m->dims.L;
    for (int l = 0; l <= L; l++) {
        BlockPlace at = place_in(m->acts_table.depths, l);
        for (int i = 0; i < SAVED_ROWS; i++) {
            const Activation* a = &m->acts_table.row[i];
            bool first = i <= ACT_tokens; // before the blocks
            size_t count = first ? (l == 0 ? a->of_end : 0) : activation_elements(a, at, l, L);
            if (!count || activation_finite(m, a, m->acts + activation_offset(a, at), B * count)) { continue; }
            int used = snprintf(name, 160, "activation %s", a->name);
            if (a->keeping != ONCE) { snprintf(name + used, (size_t)(160 - used), " of block %d", l); }
            return true;
        }
    }
    return false;
}

// With --tune-products products are timed from here on
static void model_keep_products(Model* m, const char* path) {
    if (m->config.tune_products) { keep_choices(path); }
}

// On the GPU, in MB
typedef struct { double params, grads, moments, saved, workspace, batch, total; } DeviceMemory;

static DeviceMemory device_memory(const Model* m) {
    bool ema = m->config.model_ema_decay > 0, low = m->config.precision == PRECISION_BF16;
    double total = 1e-6 * (double)m->table.total;
    DeviceMemory plan = {};
    plan.params = total * (low ? 6 : 4);
    plan.grads = total * 4 + 1e-6 * (double)(gradient_sum_bytes(&m->sum) + owners_bytes(&m->owners));
    plan.moments = 1e-6 * (double)m->owners.owned * (ema ? 12 : 8) + total * (low && ema ? 2 : 0);
    plan.saved = 1e-6 * (double)m->acts_table.saved;
    plan.workspace = 1e-6 * (double)(m->acts_table.total - m->acts_table.saved + PRODUCT_WORKSPACE) +
                     4e-6 * (double)model_scratch(m);
    plan.batch = 4e-6 * m->B * (3.0 * m->dims.S * m->dims.S) + 2e-6 * (double)facts_bytes(m);
    plan.total = plan.params + plan.grads + plan.moments + plan.saved + plan.workspace + plan.batch;
    return plan;
}

static void print_memory(const Model* m, size_t data_bytes) {
    DeviceMemory plan = device_memory(m);
    printf("memory     %.1f MB on the GPU: parameters %.1f, gradients %.1f, AdamW%s %.1f, activations %.1f, "
           "workspace %.1f, batch %.1f; images on the host %.1f\n", plan.total, plan.params, plan.grads,
           m->config.model_ema_decay > 0 ? " and EMA" : "", plan.moments, plan.saved, plan.workspace, plan.batch,
           1e-6 * (double)data_bytes);
}

static void processor_name(char name[PROCESSOR_NAME]) {
    snprintf(name, PROCESSOR_NAME, "%.48s, cublasLt %zu, %s", device_properties().name, cublasLtGetVersion(), engine_name());
}

static const char program_name[] = "./train_katcu";

#include "trainer/run.h"
#include "trainer/meet.h"

// ---------------------------------------------------------------------------------------------------------------------
// From the command line to a run

// The data set's images are on the GPU if they fit beside the model, or if the user says so; otherwise each batch's are
// copied there. Either way batches are made on the GPU.
static void open_input(Trainer* t) {
    Model* m = &t->model;
    size_t room = 0, total = 0, bytes = ((size_t)t->train.count + t->test.count) * image_bytes(&t->train);
    CUDA_CHECK(cudaMemGetInfo(&room, &total));
    int wish = m->config.data_on_gpu;
    bool encoded = t->train.shards != NULL, fits = !encoded && bytes < room / 10 * 9;
    if (encoded && wish == DATA_ON_GPU) {
        fail(EXIT_USAGE, "--data-on-gpu on is for images of one size, in a .kds file: leave it out");
    }
    bool resident = wish == DATA_ON_GPU || (wish == DATA_WHERE_IT_FITS && fits);
    open_loaders(t, resident ? LOAD_DRAWS : LOAD_BOXES);
    device_input_open(&m->input[0], &t->test_loader);
    device_input_open(&m->input[1], &t->train_loader);
    const char* where = resident ? "all on the GPU" : "each batch's boxes copied to the GPU";
    printf("input      images %s, %s; batches are made there\n", encoded ? "decoded by the CPU" : "in memory", where);
}

static void close_input(Trainer* t) {
    for (DeviceInput& input : t->model.input) { device_input_close(&input); }
    loader_close(&t->train_loader);
    loader_close(&t->test_loader);
}

static double free_memory(void) { // of the GPU, in MB
    size_t available = 0, all = 0;
    CUDA_CHECK(cudaMemGetInfo(&available, &all));
    return 1e-6 * (double)available;
}

// The GPU allocates memory in larger pieces than requested, which shows in small models.
static void allocate_and_compare(Model* m) {
    Error err;
    double before = free_memory();
    if (!model_allocate(m, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    printf("allocated  %.1f MB on the GPU, %.1f were planned\n", before - free_memory(), device_memory(m).total);
}

static void print_machine(const Model* m) {
    cudaDeviceProp device = device_properties();
    printf("machine    %s, %d multiprocessors, %.0f GB; products by cublasLt in %s\n", device.name,
           device.multiProcessorCount, 1e-9 * (double)device.totalGlobalMem,
           choice_name(config_option("precision")->choices, m->config.precision));
}

#ifndef TESTING
int main(int argc, char** argv) {
    static Trainer t;
    Error err;
    output_guard();
    begin_rank(argc, argv);
    Config config = {};
    if (ranks_lead()) { config = configure(argc, argv, &t.origin); }
    if (config.device == DEVICE_CPU) { fail(EXIT_USAGE, "--device cpu is not for %s: use ./train_kat", program_name); }
    if (*config.export_to) { fail(EXIT_USAGE, "--export is not for %s: use ./train_kat", program_name); }
    device_begin();
    meet(argv, &config, &t.origin);
    int threads = threads_begin(threads_of_rank(&config));
    if (classifies(&config)) { return classify(&t, &config); }
    bool counts_only = config.dry_run && config.classes;
    if (!counts_only) { load_data(&t, &config); }
    int classes = config.classes ? config.classes : t.train.classes;
    if (!model_plan(&t.model, &config, classes, largest_batch(&t, &config), &err)) { fail(EXIT_USAGE, "%s", err.text); }
    print_plan(&t.model, input_bytes(&t, &config));
    if (config.dry_run) { return 0; }
    check_data(&t);
    compare_data(&t);
    print_data(&t);
    print_machine(&t.model);
    print_ranks(&config, threads);
    allocate_and_compare(&t.model);
    open_input(&t);
    plan_steps(&t);
    if (trains(&config) && ranks_lead()) { take_folder(&t); }
    load_weights(&t);
    int code = run(&t);
    close_input(&t);
    model_free(&t.model);
    dataset_free(&t.train);
    dataset_free(&t.test);
    engine_end();
    return code;
}
#endif
