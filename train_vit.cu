// kat.c on the GPU: train_vit.c in CUDA. The path to read is the same, and so are names, options, files and the log:
//
//     configuration -> parameter table -> data -> forward -> backward -> update -> log
//
// model/, data/ and runtime/ are shared with the CPU's trainer; a run begun by one goes on in the other. Kernels are in
// kernels/*.cuh under the names of the CPU's functions, with a stream at the end. What has no kernel yet is refused
// when the model is planned.
//
// Precision (--precision): the residual stream, parameters, their gradients, statistics and the optimiser are fp32
// always. With fp32 and tf32 all else is too; with bf16 activations and their gradients are stored as bf16 (T below),
// and products read a bf16 copy of the parameters that the update writes.
//
// Everything of a step is put on one stream, from memory that was allocated before. The host waits where it reads the
// losses and logits, and the gradient norm.
//
// Shapes: B images, N tokens, C width, H heads, L blocks, F hidden width of the MLP, K classes, row-major.
#include "kernels/activation.cuh"
#include "kernels/adamw.cuh"
#include "kernels/adamw.h" // all_finite
#include "kernels/attention.cuh"
#include "kernels/karat.cuh"
#include "kernels/layernorm.cuh"
#include "kernels/loss.cuh"
#include "kernels/matmul.cuh"
#include "kernels/patch_embed.cuh"
#include "kernels/rational.cuh"
#include "kernels/residual.cuh"
#include "model/config.h"
#include "model/cost.h"
#include "model/mimetic.h"
#include "model/parameters.h"
#include "runtime/profile.h"

typedef float Residual; // storage of the residual stream

enum { ALIGNMENT = 256 }; // bytes: where tensors start, so that products and 16-byte vectors can read each

// ---------------------------------------------------------------------------------------------------------------------
// Activations: the table of train_vit.c, with the type of each (field, type, present, copies, elements an image)

#define SAVED_TABLE(A) \
A(patches,   T,        true, 1,       (size_t)(d.S / d.P) * (d.S / d.P) * 3 * d.P * d.P) \
A(tokens,    T,        true, 1,       (size_t)d.N * d.C)         /* embedded patches, without class tokens */ \
A(x,         Residual, true, d.L + 1, (size_t)d.N * d.C)         /* input of each block; the last is the output */ \
A(ln1,       T,        true, kept,    (size_t)d.N * d.C) \
A(ln1_mean,  float,    true, kept,    (size_t)d.N) \
A(ln1_rstd,  float,    true, kept,    (size_t)d.N) \
A(qkv,       T,        true, kept,    (size_t)d.N * 3 * d.C) \
A(lse,       float,    softmax_heads(c, d) > 0, kept, (size_t)softmax_heads(c, d) * d.N) \
A(z,         float,    c->attn == ATTN_KARAT,   kept, (size_t)d.HK * d.N * d.R) \
A(mix,       T,        true, kept,    (size_t)d.N * d.C)         /* the values, weighted by attention */ \
A(proj,      T,        true, c->layer_scale > 0 ? kept : 1, (size_t)d.N * d.C) \
A(x_mid,     Residual, true, kept,    (size_t)d.N * d.C)         /* the residual stream between attention and MLP */ \
A(ln2,       T,        true, kept,    (size_t)d.N * d.C) \
A(ln2_mean,  float,    true, kept,    (size_t)d.N) \
A(ln2_rstd,  float,    true, kept,    (size_t)d.N) \
A(act1,      T,        c->mlp == MLP_GR_KAN, kept, (size_t)d.N * d.C) \
A(fc1,       T,        true, kept,    (size_t)d.N * d.F) \
A(act2,      T,        true, kept,    (size_t)d.N * d.F) \
A(fc2,       T,        true, c->layer_scale > 0 ? kept : 1, (size_t)d.N * d.C) \
A(norm,      T,        true, 1,       (size_t)d.N * d.C) \
A(norm_mean, float,    true, 1,       (size_t)d.N) \
A(norm_rstd, float,    true, 1,       (size_t)d.N) \
A(pooled,    T,        true, 1,       (size_t)d.C) \
A(logits,    float,    true, 1,       (size_t)d.K) \
A(probs,     float,    true, 1,       (size_t)d.K) \
A(losses,    float,    true, 1,       1)

#define BACKWARD_TABLE(A) \
A(dx,        Residual, true, 1, (size_t)d.N * d.C)               /* gradient of the residual stream */ \
A(dbranch,   T,        true, 1, (size_t)d.N * d.C)               /* of what attention or MLP adds to it */ \
A(dln,       T,        true, 1, (size_t)d.N * d.C) \
A(dmix,      T,        true, 1, (size_t)d.N * d.C) \
A(dqkv,      T,        true, 1, (size_t)d.N * 3 * d.C) \
A(dhidden,   T,        true, 1, (size_t)d.N * d.F) \
A(dpooled,   T,        true, 1, (size_t)d.C) \
A(dlogits,   T,        true, 1, (size_t)d.K)

#define ACTIVATION_TABLE(A) SAVED_TABLE(A) BACKWARD_TABLE(A)
#define ACTIVATION_FIELD(field, type, ...) type* field;
template <class T> struct Acts { ACTIVATION_TABLE(ACTIVATION_FIELD) };
#define ACTIVATION_ENUM(field, ...) ACT_##field,
enum { ACTIVATION_TABLE(ACTIVATION_ENUM) ACTIVATION_ROWS };
enum { SAVED_ROWS = 0 SAVED_TABLE(COUNT_ROW) };

typedef struct {
    const char* name;
    size_t copies, per_image, size; // elements of one image, bytes of an element
    size_t offset, stride;          // bytes: of the first copy, and from one to the next, for the table's batch size
} Activation;

typedef struct {
    Activation row[ACTIVATION_ROWS];
    size_t saved, total; // bytes: of the saved ones, of all
} ActivationTable;

static size_t aligned(size_t bytes) { return ceil_div(bytes, (size_t)ALIGNMENT) * ALIGNMENT; }

// Heads whose softmax the backward recomputes from its log-sum-exp
static int softmax_heads(const Config* c, Dims d) { return c->attn == ATTN_SOFTMAX ? d.H : c->softmax_heads; }

template <class T> static ActivationTable activation_table(const Config* c, Dims d, int B) {
    int kept = c->recompute ? 1 : d.L; // blocks whose inner activations are there at a time
#define ACTIVATION_ROW(field, type, present, row_copies, elements) \
    {#field, (present) ? (size_t)(row_copies) : 0, elements, sizeof(type), 0, 0},
    ActivationTable table = {.row = {ACTIVATION_TABLE(ACTIVATION_ROW)}, .saved = 0, .total = 0};
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        Activation* a = &table.row[i];
        a->stride = aligned(a->per_image * a->size * B);
        a->offset = table.total;
        table.total += a->copies * a->stride;
        if (i < SAVED_ROWS) { table.saved = table.total; }
    }
    return table;
}

// Pointers into the buffer, every per-block one at block l
template <class T> static Acts<T> acts_of_block(const ActivationTable* table, char* flat, int l) {
    void* pointers[ACTIVATION_ROWS];
    for (int i = 0; i < ACTIVATION_ROWS; i++) {
        const Activation* a = &table->row[i];
        pointers[i] = a->copies ? flat + a->offset + (a->copies > 1 ? l * a->stride : 0) : NULL;
    }
    Acts<T> acts;
    static_assert(sizeof acts == sizeof pointers, "Acts has one pointer a row");
    memcpy((void*)&acts, pointers, sizeof acts);
    return acts;
}

// ---------------------------------------------------------------------------------------------------------------------
// The parameters on the device: the rows of the parameter table, every copy of a tensor on an aligned place. What lies
// between them is zero and stays so.

typedef struct { size_t offset[PARAMETER_ROWS], stride[PARAMETER_ROWS], total; } DeviceLayout; // elements

static DeviceLayout device_layout(const ParameterTable* table) {
    DeviceLayout layout = {};
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        const Parameter* p = &table->row[i];
        layout.stride[i] = ceil_div(p->size, (size_t)ALIGNMENT) * ALIGNMENT;
        layout.offset[i] = layout.total;
        layout.total += layout.stride[i] * p->copies;
    }
    return layout;
}

// What products read: Params with another type. Both have a pointer a row, in table order.
#define WEIGHT_FIELD(field, ...) const T* field;
template <class T> struct Weights { PARAMETER_TABLE(WEIGHT_FIELD) };

template <class Pointers, class T>
static Pointers tensors_of_block(const ParameterTable* table, const DeviceLayout* layout, T* flat, int l) {
    T* pointers[PARAMETER_ROWS];
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        const Parameter* p = &table->row[i];
        pointers[i] = p->size ? flat + layout->offset[i] + (p->copies > 1 ? l * layout->stride[i] : 0) : NULL;
    }
    Pointers tensors;
    static_assert(sizeof tensors == sizeof pointers, "one pointer a row");
    memcpy((void*)&tensors, pointers, sizeof tensors);
    return tensors;
}

// ---------------------------------------------------------------------------------------------------------------------
// The model

enum { FLAT_BUFFERS = 5 };

typedef struct {
    Config config;
    Dims dims;
    ParameterTable table; // as files and the host have it
    DeviceLayout layout;  // as the device has it
    NamedTensor* tensors;
    int tensor_count;
    float *params, *grads, *exp_avg, *exp_avg_sq, *ema; // flat, on the device, (layout.total); ema NULL when off
    bf16 *low, *low_ema;                                // with bf16: params, and ema, as products read them
    float* mirrors[FLAT_BUFFERS];                       // the five on the host, (table.total), once they were asked for
    ActivationTable acts_table;
    char* acts;
    float *images, *targets;      // of the batch, on the device: (B,3,S,S), (B,K)
    float* scratch;
    double *norm, *norm_scratch;  // of the gradients
    float* grad_scale;            // what clips them
    float *keep, *keep_device;    // (L, 2, B) drop path: 0 or 1/(1-rate) for each block, branch, image; NULL: all kept
    float *host_logits, *host_losses; // pinned: (B,K), (B)
    double* host_norm;
    int B;                        // images that the activations have room for
    cudaStream_t stream;
    Profile profile;
} Model;

// What went before, since the last lap, was this part. Only a profile waits for the device.
static void lap(Model* m, int part) {
    if (m->profile.on) { CUDA_CHECK(cudaStreamSynchronize(m->stream)); }
    profile_lap(&m->profile, part);
}

static size_t largest(size_t a, size_t b) { return a > b ? a : b; }

template <class T> static Acts<T> acts_at(const Model* m, int l) {
    return acts_of_block<T>(&m->acts_table, m->acts, l);
}

static Params params_at(const Model* m, float* flat, int l) {
    return tensors_of_block<Params>(&m->table, &m->layout, flat, l);
}

// Of parameters, or of their running mean
template <class T> static Weights<T> weights_at(const Model* m, float* flat, int l) {
    if constexpr (sizeof(T) == sizeof(bf16)) {
        return tensors_of_block<Weights<T>>(&m->table, &m->layout, flat == m->params ? m->low : m->low_ema, l);
    } else {
        return tensors_of_block<Weights<T>>(&m->table, &m->layout, flat, l);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What can be chosen: how the logits of attention become weights (--attn), and the MLP's activation (--mlp)

static KaratDims karat_dims(const Model* m, int B) {
    const Config* c = &m->config;
    Dims d = m->dims;
    static const KaratBase bases[] = {KARAT_BASE_ZERO, KARAT_BASE_IDENTITY, KARAT_BASE_SILU, KARAT_BASE_GELU};
    Basis basis = config_basis(c);
    return (KaratDims){.B = B, .N = d.N, .C = d.C, .H = d.HK, .D = d.D, .R = d.R, .G = d.G,
                       .base = bases[c->karat_base], .basis = basis.kind, .spline_order = basis.order,
                       .spline_range = basis.range, .order = (KaratOrder)c->karat_order,
                       .full_rank = c->karat_full != 0, .projection = (Projection)c->karat_projection,
                       .project_z = c->karat_projection != PROJECT_NONE && c->karat_project};
}

static KaratParams karat_params(Params p) {
    return {.inner = {p.karat_coef, p.scale_basis, p.scale_base}, .outer = {},
            .proj_weight = p.karat_weight, .proj_bias = p.karat_bias};
}

static KaratGrads karat_grads(Params d) {
    return {.inner = {d.karat_coef, d.scale_basis, d.scale_base}, .outer = {},
            .proj_weight = d.karat_weight, .proj_bias = d.karat_bias};
}

// What there are no kernels for
static bool kernels_check(const Config* c, Dims d, Error* err) {
    bool attn = c->attn == ATTN_SOFTMAX || c->attn == ATTN_KARAT;
    bool full = c->karat_full || c->karat_projection != PROJECT_NONE || c->karat_order != KARAT_W_PHI;
    if (!attn) {
        return set_error(err, "--attn %s is not there for the GPU: use ./train_kat",
                         choice_name(config_option("attn")->choices, c->attn));
    }
    if (c->attn == ATTN_KARAT && full) {
        return set_error(err, "the GPU has KArAt in the order w-phi alone, of low rank and without projection: "
                         "use ./train_kat for --karat-order, --karat-full and --karat-projection");
    }
    if (c->mlp == MLP_KAN) { return set_error(err, "--mlp kan is not there for the GPU: use ./train_kat"); }
    if (c->precision == PRECISION_BF16 && (d.C % 8 || d.F % 8 || 3 * d.P * d.P % 8)) {
        return set_error(err, "with --precision bf16 --dim %d, the MLP's width %d and the values of a patch, %d, must "
                         "be multiples of 8: change them, or use --precision fp32", d.C, d.F, 3 * d.P * d.P);
    }
    return true;
}

// Workspace in floats for attend_forward and attend_backward
static size_t attend_scratch(const Model* m) {
    size_t softmax = attention_scratch(m->B, m->dims.N, softmax_heads(&m->config, m->dims));
    return m->config.attn == ATTN_KARAT ? largest(karat_scratch(karat_dims(m, m->B)), softmax) : softmax;
}

// a.mix = the values of a.qkv, weighted; softmax heads, if any, stand first
template <class T> static void attend_forward(const Model* m, Params p, Acts<T> a, int B) {
    int N = m->dims.N, C = m->dims.C, D = m->dims.D, softmax = softmax_heads(&m->config, m->dims);
    if (softmax) { attention_forward(a.mix, a.lse, a.qkv, B, N, C, softmax, D, m->stream); }
    if (m->config.attn == ATTN_KARAT) {
        karat_forward(a.mix + softmax * D, a.z, a.qkv + softmax * D, karat_params(p), m->scratch, karat_dims(m, B),
                      m->stream);
    }
}

// a.dqkv from a.dmix
template <class T> static void attend_backward(const Model* m, Params p, Params d, Acts<T> a, int B) {
    int N = m->dims.N, C = m->dims.C, D = m->dims.D, softmax = softmax_heads(&m->config, m->dims), first = softmax * D;
    if (softmax) {
        attention_backward(a.dqkv, a.dmix, a.mix, a.lse, a.qkv, m->scratch, B, N, C, softmax, D, m->stream);
    }
    if (m->config.attn == ATTN_KARAT) {
        karat_backward(a.dqkv + first, karat_grads(d), a.dmix + first, a.z, a.qkv + first, karat_params(p), m->scratch,
                       karat_dims(m, B), m->stream);
    }
}

// a.act2 = activation(a.fc1), rows of F
template <class T> static void activation_forward(const Model* m, Params p, Acts<T> a, int rows) {
    int F = m->dims.F;
    size_t n = (size_t)rows * F;
    switch (m->config.mlp) {
    case MLP_GELU: gelu_forward(a.act2, a.fc1, n, m->stream); break;
    case MLP_RELU: relu_forward(a.act2, a.fc1, n, m->stream); break;
    case MLP_SILU: silu_forward(a.act2, a.fc1, n, m->stream); break;
    case MLP_PRELU: prelu_forward(a.act2, a.fc1, p.prelu_weight, n, m->stream); break;
    default:
        rational_forward(a.act2, a.fc1, p.numerator2, p.denominator2, rows, F, rational_shape(&m->config), m->stream);
    }
}

// act2 = activation(fc1): a.dhidden becomes d(fc1) from d(act2)
template <class T> static void activation_backward(const Model* m, Params p, Params d, Acts<T> a, int rows) {
    int F = m->dims.F;
    size_t n = (size_t)rows * F;
    switch (m->config.mlp) {
    case MLP_GELU: gelu_backward(a.dhidden, a.dhidden, a.fc1, n, m->stream); break;
    case MLP_RELU: relu_backward(a.dhidden, a.dhidden, a.fc1, n, m->stream); break;
    case MLP_SILU: silu_backward(a.dhidden, a.dhidden, a.fc1, n, m->stream); break;
    case MLP_PRELU:
        prelu_backward(a.dhidden, d.prelu_weight, a.dhidden, a.fc1, p.prelu_weight, m->scratch, n, m->stream);
        break;
    default:
        rational_backward(a.dhidden, d.numerator2, d.denominator2, a.dhidden, a.fc1, p.numerator2, p.denominator2,
                          m->scratch, rows, F, rational_shape(&m->config), m->stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Planning and allocation

// Workspace in floats that the hungriest kernel wants
static size_t model_scratch(const Model* m) {
    Dims d = m->dims;
    int B = m->B, rows = B * d.N;
    RationalShape r = rational_shape(&m->config);
    size_t most = largest(embed_tokens_scratch(B, d.N, d.C), layer_scale_scratch(B, d.N, d.C));
    most = largest(most, linear_backward_scratch(rows, 3 * d.C));
    most = largest(most, linear_backward_scratch(rows, d.C));
    most = largest(most, linear_backward_scratch(rows, d.F));
    most = largest(most, linear_backward_scratch(B, d.K));
    most = largest(most, layernorm_scratch(rows, d.C));
    most = largest(most, largest(rational_scratch(rows, d.F, r), rational_scratch(rows, d.C, r)));
    most = largest(most, prelu_scratch((size_t)rows * d.F));
    return largest(most, attend_scratch(m));
}

// Sizes only: nothing is allocated, so that --dry-run can tell what a run would need
static bool model_plan(Model* m, const Config* config, int classes, Error* err) {
    *m = Model{};
    m->config = *config;
    m->dims = dims_of(config, classes);
    m->B = config->batch_size;
    if (!kernels_check(config, m->dims, err) || !parameter_table(&m->table, config, m->dims, err)) { return false; }
    m->layout = device_layout(&m->table);
    m->acts_table = config->precision == PRECISION_BF16 ? activation_table<bf16>(config, m->dims, m->B)
                                                        : activation_table<float>(config, m->dims, m->B);
    return true;
}

static void* device_bytes(size_t bytes, const char* what) {
    void* p = NULL;
    cudaError_t error = cudaMalloc(&p, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation) {
        fail(EXIT_RUN_TIME, "the GPU has no memory for %s (%.1f MB): use a smaller --batch-size, --recompute or "
             "--precision bf16", what, bytes / 1e6);
    }
    CUDA_CHECK(error);
    return p;
}

template <class T> static T* device_array(size_t count, const char* what) {
    return (T*)device_bytes(count * sizeof(T), what);
}

template <class T> static T* device_zeros(size_t count, const char* what) {
    T* p = device_array<T>(count, what);
    CUDA_CHECK(cudaMemset(p, 0, count * sizeof(T)));
    return p;
}

template <class T> static T* pinned_array(size_t count) { // on the host, where copies run beside the program
    void* p = NULL;
    CUDA_CHECK(cudaMallocHost(&p, count * sizeof(T)));
    return (T*)p;
}

// Whether attention's tiles fit into the shared memory of a multiprocessor
static bool shared_check(const Model* m, Error* err) {
    int limit = 0;
    Dims d = m->dims;
    KaratDims k = karat_dims(m, m->B);
    size_t bytes = 2 * PLAIN_ROWS * (size_t)(d.D + d.N) * sizeof(float);
    if (m->config.attn == ATTN_KARAT) {
        bytes = largest(bytes, largest(karat_forward_plain_shared(k), karat_backward_plain_shared(k)));
    }
    CUDA_CHECK(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    return bytes <= (size_t)limit ||
           set_error(err, "attention over %d tokens wants %zu bytes of the GPU's shared memory, which has %d: use a "
                     "larger --patch, a smaller --grid, or ./train_kat", d.N, bytes, limit);
}

static void allocate_parameters(Model* m) {
    size_t total = m->layout.total;
    m->tensors = named_tensors(&m->table);
    m->tensor_count = tensor_count(&m->table);
    m->params = device_zeros<float>(total, "parameters");
    m->grads = device_zeros<float>(total, "gradients");
    m->exp_avg = device_zeros<float>(total, "AdamW's first moment");
    m->exp_avg_sq = device_zeros<float>(total, "AdamW's second moment");
    m->ema = m->config.model_ema_decay > 0 ? device_zeros<float>(total, "the running mean of the weights") : NULL;
    if (m->config.precision == PRECISION_BF16) {
        m->low = device_zeros<bf16>(total, "parameters in bf16");
        m->low_ema = m->ema ? device_zeros<bf16>(total, "the running mean in bf16") : NULL;
    }
}

static void allocate_batch(Model* m) {
    Dims d = m->dims;
    size_t B = m->B, keeps = m->config.drop_path > 0 ? (size_t)d.L * 2 * B : 0;
    m->acts = device_array<char>(m->acts_table.total, "activations");
    m->images = device_array<float>(B * 3 * d.S * d.S, "images");
    m->targets = device_array<float>(B * d.K, "targets");
    m->scratch = device_array<float>(model_scratch(m), "workspace");
    m->norm_scratch = device_array<double>(global_norm_scratch(m->layout.total), "workspace");
    m->norm = device_array<double>(1, "the gradient norm");
    m->grad_scale = device_array<float>(1, "the gradient norm");
    m->keep = keeps ? pinned_array<float>(keeps) : NULL;
    m->keep_device = keeps ? device_array<float>(keeps, "drop path") : NULL;
    m->host_logits = pinned_array<float>(B * d.K);
    m->host_losses = pinned_array<float>(B);
    m->host_norm = pinned_array<double>(1);
}

static float* model_fetch(Model* m, float* flat);
static void model_store(Model* m, float* flat);

static bool model_allocate(Model* m, Error* err) {
    if (!shared_check(m, err)) { return false; }
    CUDA_CHECK(cudaStreamCreate(&m->stream));
    matmul_init(m->config.precision == PRECISION_TF32);
    allocate_parameters(m);
    allocate_batch(m);
    float* params = model_fetch(m, m->params);
    if (!params_init(&m->table, &m->config, params, err)) { return false; }
    bool replaced = *m->config.eval || *m->config.resume; // every parameter will come from a file
    if (m->config.attn_init == ATTN_INIT_MIMETIC && !replaced) {
        mimetic_init(&m->table, m->dims, (uint64_t)m->config.seed, params);
    }
    model_store(m, m->params);
    return true;
}

static void model_free(Model* m) {
    void* device[] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema, m->low, m->low_ema, m->acts, m->images,
                      m->targets, m->scratch, m->norm_scratch, m->norm, m->grad_scale, m->keep_device};
    void* pinned[] = {m->keep, m->host_logits, m->host_losses, m->host_norm};
    for (void* p : device) { CUDA_CHECK(cudaFree(p)); }
    for (void* p : pinned) { CUDA_CHECK(cudaFreeHost(p)); }
    for (float* p : m->mirrors) { free(p); }
    free(m->tensors);
    matmul_free();
    CUDA_CHECK(cudaStreamDestroy(m->stream));
}

// ---------------------------------------------------------------------------------------------------------------------
// Forward. p: parameters as kernels read them, w: as products do.

// a.ln1 = norm1(a.x), where no join has left it: in the first block, and in one that is calculated again
template <class T> static void norm1_forward(Model* m, Params p, Acts<T> a, int B) {
    layernorm_forward(a.ln1, a.ln1_mean, a.ln1_rstd, a.x, p.norm1_weight, p.norm1_bias, B * m->dims.N, m->dims.C,
                      m->stream);
    lap(m, PART_NORM);
}

// a.proj = attention(a.x), the branch before its residual, from a.ln1
template <class T> static void attention_branch_forward(Model* m, Params p, Weights<T> w, Acts<T> a, int B) {
    int rows = B * m->dims.N, C = m->dims.C;
    linear_forward(a.qkv, a.ln1, w.qkv_weight, w.qkv_bias, rows, C, 3 * C, m->stream);
    lap(m, PART_QKV);
    attend_forward(m, p, a, B);
    lap(m, PART_ATTENTION);
    linear_forward(a.proj, a.mix, w.proj_weight, w.proj_bias, rows, C, C, m->stream);
    lap(m, PART_PROJ);
}

// a.x_mid = a.x + a.proj and what the MLP reads of it, in one pass: a.ln2, with GR-KAN a.act1 too
template <class T> static void join_and_normalise(Model* m, Params p, Acts<T> a, int B, const float* keep) {
    int N = m->dims.N, C = m->dims.C;
    if (m->config.mlp == MLP_GR_KAN) {
        residual_layernorm_rational_forward(a.x_mid, a.ln2, a.act1, a.ln2_mean, a.ln2_rstd, a.x, a.proj, p.ls1, keep,
                                            p.norm2_weight, p.norm2_bias, p.numerator1, p.denominator1, B, N, C,
                                            rational_shape(&m->config), m->stream);
    } else {
        residual_layernorm_forward(a.x_mid, a.ln2, a.ln2_mean, a.ln2_rstd, a.x, a.proj, p.ls1, keep, p.norm2_weight,
                                   p.norm2_bias, B, N, C, m->stream);
    }
    lap(m, PART_NORM);
}

// a.fc2 = mlp(a.x_mid)
template <class T> static void mlp_branch_forward(Model* m, Params p, Weights<T> w, Acts<T> a, int B) {
    int rows = B * m->dims.N, C = m->dims.C, F = m->dims.F;
    const T* inp = m->config.mlp == MLP_GR_KAN ? a.act1 : a.ln2;
    linear_forward(a.fc1, inp, w.fc1_weight, w.fc1_bias, rows, C, F, m->stream);
    lap(m, PART_FC1);
    activation_forward(m, p, a, rows);
    lap(m, PART_ACTIVATION);
    linear_forward(a.fc2, a.act2, w.fc2_weight, w.fc2_bias, rows, F, C, m->stream);
    lap(m, PART_FC2);
}

static const float* keep_of(const float* keep, int l, int branch, int B) {
    return keep ? keep + ((size_t)l * 2 + branch) * B : NULL;
}

// Block l from a.x and a.ln1 up to a.fc2; keep: drop path on the device, or NULL
template <class T> static void block_forward(Model* m, float* flat, int l, int B, const float* keep) {
    Params p = params_at(m, flat, l);
    Weights<T> w = weights_at<T>(m, flat, l);
    Acts<T> a = acts_at<T>(m, l);
    attention_branch_forward(m, p, w, a, B);
    join_and_normalise(m, p, a, B, keep_of(keep, l, 0, m->B));
    mlp_branch_forward(m, p, w, a, B);
}

// Its output a.x_mid + a.fc2, and what reads that first, in one pass: norm1 of block l + 1, or the norm before the head
template <class T> static void block_output(Model* m, float* flat, int l, int B, const float* keep) {
    bool last = l == m->dims.L - 1;
    Params p = params_at(m, flat, l), next = params_at(m, flat, last ? l : l + 1);
    Acts<T> a = acts_at<T>(m, l), b = acts_at<T>(m, l + 1);
    residual_layernorm_forward(b.x, last ? b.norm : b.ln1, last ? b.norm_mean : b.ln1_mean,
                               last ? b.norm_rstd : b.ln1_rstd, a.x_mid, a.fc2, p.ls2, keep_of(keep, l, 1, m->B),
                               last ? p.norm_weight : next.norm1_weight, last ? p.norm_bias : next.norm1_bias, B,
                               m->dims.N, m->dims.C, m->stream);
    lap(m, PART_NORM);
}

// The residual stream's start, from m->images
template <class T> static void embed_forward(Model* m, Params p, Weights<T> w, Acts<T> a, int B) {
    int S = m->dims.S, P = m->dims.P, N = m->dims.N, C = m->dims.C, patches = (S / P) * (S / P);
    extract_patches(a.patches, m->images, B, S, P, m->stream);
    linear_forward(a.tokens, a.patches, w.patch_weight, w.patch_bias, B * patches, 3 * P * P, C, m->stream);
    embed_tokens_forward(a.x, a.tokens, p.cls_token, p.pos_embed, B, N, C, m->stream);
    lap(m, PART_PATCH_EMBED);
}

template <class T> static void forward(Model* m, float* flat, int B, const float* keep) {
    int N = m->dims.N, C = m->dims.C, L = m->dims.L;
    Params p = params_at(m, flat, 0);
    Weights<T> w = weights_at<T>(m, flat, 0);
    Acts<T> a = acts_at<T>(m, L);
    embed_forward(m, p, w, acts_at<T>(m, 0), B);
    norm1_forward(m, p, acts_at<T>(m, 0), B);
    for (int l = 0; l < L; l++) {
        block_forward<T>(m, flat, l, B, keep);
        block_output<T>(m, flat, l, B, keep);
    }
    pool_forward(a.pooled, a.norm, m->config.pool == POOL_AVG, p.cls_token != NULL, B, N, C, m->stream);
    linear_forward(a.logits, a.pooled, w.head_weight, p.head_bias, B, C, m->dims.K, m->stream);
    lap(m, PART_HEAD);
}

static void copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, stream));
}

// Logits (B,K) of images (B,3,S,S). flat: the parameters or their running mean; keep: m->keep, or NULL.
static void model_forward(Model* m, float* flat, const float* images, int B, const float* keep) {
    Dims d = m->dims;
    m->profile.direction = PROFILE_FORWARD;
    copy(m->images, images, (size_t)B * 3 * d.S * d.S * sizeof(float), cudaMemcpyHostToDevice, m->stream);
    if (keep) { copy(m->keep_device, keep, (size_t)d.L * 2 * m->B * sizeof(float), cudaMemcpyHostToDevice, m->stream); }
    lap(m, PART_DATA);
    if (m->config.precision == PRECISION_BF16) {
        if (flat != m->params) { bf16_copy(m->low_ema, flat, m->layout.total, m->stream); }
        forward<bf16>(m, flat, B, keep ? m->keep_device : NULL);
    } else {
        forward<float>(m, flat, B, keep ? m->keep_device : NULL);
    }
}

// Mean loss over B images with soft targets (B,K), after model_forward
static double model_loss(Model* m, const float* targets, int B) {
    int K = m->dims.K;
    Acts<float> a = acts_at<float>(m, 0); // for what is fp32 in any precision
    size_t bytes = (size_t)B * K * sizeof(float);
    copy(m->targets, targets, bytes, cudaMemcpyHostToDevice, m->stream);
    cross_entropy_forward(a.losses, a.probs, a.logits, m->targets, B, K, m->stream);
    copy(m->host_losses, a.losses, B * sizeof(float), cudaMemcpyDeviceToHost, m->stream);
    copy(m->host_logits, a.logits, bytes, cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    double sum = 0;
    for (int b = 0; b < B; b++) { sum += m->host_losses[b]; }
    return sum / B;
}

// ---------------------------------------------------------------------------------------------------------------------
// Backward: the forward read from its end. p, w, a: as in the forward; d: gradients of the parameters.

// A branch joined the stream, which was then normalised: a.dx = dx + what comes through the norm from a.dln, and
// a.dbranch, the gradient of that branch: of attention (0) or the MLP (1) of block l; l < 0: none joins before block 0.
template <class T>
static void joined_norm_backward(Model* m, float* dweight, float* dbias, const Residual* dx, const Residual* x,
                                 const float* weight, const float* mean, const float* rstd, int l, int branch, int B,
                                 const float* keep) {
    Params p = params_at(m, m->params, l < 0 ? 0 : l);
    Acts<T> a = acts_at<T>(m, 0);
    layernorm_residual_backward(a.dx, l < 0 ? NULL : a.dbranch, dweight, dbias, dx, a.dln, x, weight, mean, rstd,
                                branch == 0 ? p.ls1 : p.ls2, keep_of(keep, l < 0 ? 0 : l, branch, m->B), m->scratch, B,
                                m->dims.N, m->dims.C, m->stream);
    lap(m, PART_NORM);
}

// a.dln = d(norm2's output) given a.dbranch = d(fc2 output)
template <class T> static void mlp_branch_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, int B) {
    int rows = B * m->dims.N, C = m->dims.C, F = m->dims.F;
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    linear_backward(a.dhidden, d.fc2_weight, d.fc2_bias, a.dbranch, a.act2, w.fc2_weight, m->scratch, rows, F, C,
                    m->stream);
    lap(m, PART_FC2);
    activation_backward(m, p, d, a, rows);
    lap(m, PART_ACTIVATION);
    linear_backward(a.dln, d.fc1_weight, d.fc1_bias, a.dhidden, gr_kan ? a.act1 : a.ln2, w.fc1_weight, m->scratch, rows,
                    C, F, m->stream);
    lap(m, PART_FC1);
    if (gr_kan) {
        rational_backward(a.dln, d.numerator1, d.denominator1, a.dln, a.ln2, p.numerator1, p.denominator1, m->scratch,
                          rows, C, rational_shape(&m->config), m->stream);
        lap(m, PART_ACTIVATION);
    }
}

// a.dln = d(norm1's output) given a.dbranch = d(proj output)
template <class T> static void attention_branch_backward(Model* m, Params p, Weights<T> w, Params d, Acts<T> a, int B) {
    int rows = B * m->dims.N, C = m->dims.C;
    linear_backward(a.dmix, d.proj_weight, d.proj_bias, a.dbranch, a.mix, w.proj_weight, m->scratch, rows, C, C,
                    m->stream);
    lap(m, PART_PROJ);
    attend_backward(m, p, d, a, B);
    lap(m, PART_ATTENTION);
    linear_backward(a.dln, d.qkv_weight, d.qkv_bias, a.dqkv, a.ln1, w.qkv_weight, m->scratch, rows, C, 3 * C,
                    m->stream);
    lap(m, PART_QKV);
}

// d(layer_scale) of one branch, given a.dx behind it
template <class T>
static void branch_scale_backward(Model* m, float* dlayer_scale, Acts<T> a, const T* branch, int B, const float* keep) {
    if (!dlayer_scale) { return; }
    layer_scale_backward(dlayer_scale, a.dx, branch, keep, m->scratch, B, m->dims.N, m->dims.C, m->stream);
    lap(m, PART_RESIDUAL);
}

// Block l, given a.dx of its output and a.dbranch = d(a.fc2): a.dx of its input, and a.dbranch of the block before
template <class T> static void block_backward(Model* m, int l, int B, const float* keep) {
    Params p = params_at(m, m->params, l), d = params_at(m, m->grads, l);
    Weights<T> w = weights_at<T>(m, m->params, l);
    Acts<T> a = acts_at<T>(m, l);
    if (m->config.recompute && l < m->dims.L - 1) { // the last is there
        norm1_forward(m, p, a, B);
        block_forward<T>(m, m->params, l, B, keep);
    }
    branch_scale_backward(m, d.ls2, a, a.fc2, B, keep_of(keep, l, 1, m->B));
    mlp_branch_backward(m, p, w, d, a, B);
    joined_norm_backward<T>(m, d.norm2_weight, d.norm2_bias, a.dx, a.x_mid, p.norm2_weight, a.ln2_mean, a.ln2_rstd, l,
                            0, B, keep);
    branch_scale_backward(m, d.ls1, a, a.proj, B, keep_of(keep, l, 0, m->B));
    attention_branch_backward(m, p, w, d, a, B);
    joined_norm_backward<T>(m, d.norm1_weight, d.norm1_bias, a.dx, a.x, p.norm1_weight, a.ln1_mean, a.ln1_rstd, l - 1,
                            1, B, keep);
}

// a.dbranch takes the gradient of a.tokens
template <class T> static void embed_backward(Model* m, Params d, Acts<T> a, int B) {
    int S = m->dims.S, P = m->dims.P, N = m->dims.N, C = m->dims.C, patches = (S / P) * (S / P);
    embed_tokens_backward(a.dbranch, d.cls_token, d.pos_embed, a.dx, m->scratch, B, N, C, m->stream);
    linear_backward((T*)NULL, d.patch_weight, d.patch_bias, a.dbranch, a.patches, (const T*)NULL, m->scratch,
                    B * patches, 3 * P * P, C, m->stream);
    lap(m, PART_PATCH_EMBED);
}

template <class T> static void backward(Model* m, int B, const float* keep, float dloss) {
    int N = m->dims.N, C = m->dims.C, L = m->dims.L, K = m->dims.K;
    Params p = params_at(m, m->params, 0), d = params_at(m, m->grads, 0);
    Weights<T> w = weights_at<T>(m, m->params, 0);
    Acts<T> a = acts_at<T>(m, L);
    cross_entropy_backward(a.dlogits, a.probs, m->targets, dloss, B, K, m->stream);
    linear_backward(a.dpooled, d.head_weight, d.head_bias, a.dlogits, a.pooled, w.head_weight, m->scratch, B, C, K,
                    m->stream);
    pool_backward(a.dln, a.dpooled, m->config.pool == POOL_AVG, p.cls_token != NULL, B, N, C, m->stream);
    lap(m, PART_HEAD);
    joined_norm_backward<T>(m, d.norm_weight, d.norm_bias, NULL, a.x, p.norm_weight, a.norm_mean, a.norm_rstd, L - 1, 1,
                            B, keep);
    for (int l = L - 1; l >= 0; l--) { block_backward<T>(m, l, B, keep); }
    embed_backward(m, d, acts_at<T>(m, 0), B);
}

// Adds to m->grads the gradient of dloss * Σ_b loss_b, after model_forward and model_loss with the same arguments: what
// they copied to the device is still there.
static void model_backward(Model* m, const float* targets, int B, const float* keep, float dloss) {
    (void)targets;
    m->profile.direction = PROFILE_BACKWARD;
    const float* keep_device = keep ? m->keep_device : NULL;
    if (m->config.precision == PRECISION_BF16) {
        backward<bf16>(m, B, keep_device, dloss);
    } else {
        backward<float>(m, B, keep_device, dloss);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Update

// t: number of this update, from 1. Rows of the table that lie together and agree on decay are one span. The factor
// that clips is on the device, from model_gradient_norm.
static void model_update(Model* m, double lr, float grad_scale, int64_t t) {
    (void)grad_scale;
    const Config* c = &m->config;
    for (int i = 0; i < PARAMETER_ROWS;) {
        size_t at = m->layout.offset[i];
        bool decays = m->table.row[i].decays;
        while (i < PARAMETER_ROWS && m->table.row[i].decays == decays) { i++; }
        size_t count = (i < PARAMETER_ROWS ? m->layout.offset[i] : m->layout.total) - at;
        if (!count) { continue; }
        adamw_update(m->params + at, m->exp_avg + at, m->exp_avg_sq + at, m->ema ? m->ema + at : NULL,
                     m->low ? m->low + at : NULL, m->grads + at, count, (float)lr, (float)c->opt_betas[0],
                     (float)c->opt_betas[1], (float)c->opt_eps, decays ? (float)c->weight_decay : 0,
                     (float)c->model_ema_decay, m->grad_scale, t, m->stream);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What model/run.h needs besides

static void model_zero_gradients(Model* m) {
    CUDA_CHECK(cudaMemsetAsync(m->grads, 0, m->layout.total * sizeof(float), m->stream));
    lap(m, PART_UPDATE);
}

static double model_gradient_norm(const Model* m) {
    global_norm(m->norm, m->grad_scale, m->grads, m->norm_scratch, m->layout.total, m->config.clip_grad, m->stream);
    copy(m->host_norm, m->norm, sizeof(double), cudaMemcpyDeviceToHost, m->stream);
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
    return *m->host_norm;
}

// The host's copy of a flat buffer, in the order of the parameter table
static float* mirror_of(Model* m, const float* flat) {
    const float* const flats[FLAT_BUFFERS] = {m->params, m->grads, m->exp_avg, m->exp_avg_sq, m->ema};
    int i = 0;
    while (flats[i] != flat) { i++; }
    if (!m->mirrors[i]) { m->mirrors[i] = alloc_floats(m->table.total, "a copy of the parameters"); }
    return m->mirrors[i];
}

static void copy_tensors(Model* m, float* flat, float* mirror, cudaMemcpyKind kind) {
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        const Parameter* p = &m->table.row[i];
        for (int l = 0; l < p->copies; l++) {
            float* device = flat + m->layout.offset[i] + l * m->layout.stride[i];
            float* host = mirror + p->offset + l * p->size;
            bool fetch = kind == cudaMemcpyDeviceToHost;
            copy(fetch ? host : device, fetch ? device : host, p->size * sizeof(float), kind, m->stream);
        }
    }
    CUDA_CHECK(cudaStreamSynchronize(m->stream));
}

// A flat buffer as the host reads and writes it, and back
static float* model_fetch(Model* m, float* flat) {
    float* mirror = mirror_of(m, flat);
    copy_tensors(m, flat, mirror, cudaMemcpyDeviceToHost);
    return mirror;
}
static void model_store(Model* m, float* flat) {
    copy_tensors(m, flat, mirror_of(m, flat), cudaMemcpyHostToDevice);
    if (m->low && flat == m->params) { bf16_copy(m->low, flat, m->layout.total, m->stream); }
}

// Of the last batch, (B,K) and (B), as model_loss brought them
static const float* model_logits(const Model* m) { return m->host_logits; }
static const float* model_losses(const Model* m) { return m->host_losses; }

// Whether so many elements of an activation are all finite; they are brought to the host
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

// Names the first activation of the last batch, in the order of the forward, that holds a NaN or Inf; false: none does
static bool name_bad_activation(const Model* m, int B, char name[160]) {
    // What has no copy a block comes before the blocks up to x, behind them from there
    for (int l = 0; l <= m->dims.L; l++) {
        for (int i = 0; i < SAVED_ROWS; i++) {
            const Activation* a = &m->acts_table.row[i];
            bool every_block = a->copies > 1;
            bool here = every_block ? (size_t)l < a->copies : l == (i < ACT_x ? 0 : m->dims.L);
            size_t count = (size_t)(i == ACT_tokens ? B * (m->dims.N - (m->config.pool == POOL_TOKEN)) : B);
            count *= i == ACT_tokens ? m->dims.C : a->per_image;
            const char* values = m->acts + a->offset + (every_block ? l * a->stride : 0);
            if (!here || !a->copies || activation_finite(m, a, values, count)) { continue; }
            int used = snprintf(name, 160, "activation %s", a->name);
            if (every_block) { snprintf(name + used, (size_t)(160 - used), " of block %d", l); }
            return true;
        }
    }
    return false;
}

static void print_memory(const Model* m, size_t data_bytes) {
    bool ema = m->config.model_ema_decay > 0, low = m->config.precision == PRECISION_BF16;
    double total = (double)m->layout.total, params = 1e-6 * total * (low ? 6 : 4), grads = 1e-6 * total * 4;
    double moments = 1e-6 * total * ((ema ? 12 : 8) + (low && ema ? 2 : 0));
    double saved = 1e-6 * (double)m->acts_table.saved;
    double workspace = 1e-6 * (double)(m->acts_table.total - m->acts_table.saved + PRODUCT_WORKSPACE) +
                       4e-6 * (double)model_scratch(m);
    double batch = 4e-6 * m->B * (3.0 * m->dims.S * m->dims.S + m->dims.K);
    printf("memory     %.1f MB on the GPU: parameters %.1f, gradients %.1f, AdamW%s %.1f, activations %.1f, "
           "workspace %.1f, batch %.1f; images on the host %.1f\n",
           params + grads + moments + saved + workspace + batch, params, grads, ema ? " and EMA" : "",
           moments, saved, workspace, batch, 1e-6 * (double)data_bytes);
}

#include "model/run.h"

// ---------------------------------------------------------------------------------------------------------------------
// From the command line to a run

static void require_gpu(void) {
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        fail(EXIT_RUN_TIME, "there is no GPU to train on (%s): ./train_kat trains on the CPU",
             error == cudaSuccess ? "no device" : cudaGetErrorString(error));
    }
    CUDA_CHECK(cudaSetDevice(0));
}

// The loader's batches are read by the device as they lie. A page that two of them share can be pinned once only; what
// stays unpinned is copied more slowly.
static void pin_images(const Loader* loader, bool pin) {
    const LoaderConfig* c = &loader->config;
    size_t bytes = (size_t)c->batch_size * 3 * c->image_size * c->image_size * sizeof(float);
    for (const Batch& batch : loader->batches) {
        cudaError_t error = pin ? cudaHostRegister(batch.images, bytes, cudaHostRegisterDefault)
                                : cudaHostUnregister(batch.images);
        if (error != cudaSuccess) { cudaGetLastError(); }
    }
}

static void print_machine(const Model* m) {
    cudaDeviceProp device;
    CUDA_CHECK(cudaGetDeviceProperties(&device, 0));
    printf("machine    %s, %d multiprocessors, %.0f GB; products by cublasLt in %s\n", device.name,
           device.multiProcessorCount, 1e-9 * (double)device.totalGlobalMem,
           choice_name(config_option("precision")->choices, m->config.precision));
}

int main(int argc, char** argv) {
    static Trainer t;
    Error err;
    Config config = configure(argc, argv);
    require_gpu();
    bool counts_only = config.dry_run && config.classes;
    if (!counts_only) { load_data(&t, &config); }
    int classes = config.classes ? config.classes : t.train.classes;
    if (!model_plan(&t.model, &config, classes, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    print_plan(&t.model, t.train.file_bytes + t.test.file_bytes);
    if (config.dry_run) { return 0; }
    printf("data       %s: %d training and %d test images, %d classes\n", config.data, t.train.count, t.test.count,
           t.train.classes);
    print_machine(&t.model);
    if (!model_allocate(&t.model, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    open_loaders(&t);
    pin_images(&t.train_loader, true);
    pin_images(&t.test_loader, true);
    plan_steps(&t);
    load_weights(&t);
    int code = run(&t);
    model_free(&t.model);
    pin_images(&t.train_loader, false);
    pin_images(&t.test_loader, false);
    loader_close(&t.train_loader);
    loader_close(&t.test_loader);
    dataset_free(&t.train);
    dataset_free(&t.test);
    return code;
}
