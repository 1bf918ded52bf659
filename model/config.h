// The configuration: one table of every option. The struct Config, the parser, --help, the printed and the saved
// configuration, and the comparison on resume are all made from it. Adding an option is one line.
#pragma once
#include "../runtime/options.h"
#include "choices.h"
#include <math.h>

#define RATIONAL_STARTS "identity|swish|gelu|gelu-as-released"
#define SAME RESUME_SAME
#define LENGTH RESUME_LENGTH
#define INPUT RESUME_PATH
#define FREE RESUME_FREE

//  GROUP(title)
//  INT, INTS, REAL, PAIR(field, names, default, min, max, resume, help)   TEXT, SWITCH(field, names, default, resume, help)
//  CHOICE(field, names, default, choices, resume, help)   WORDS(field, names, resume, help)
#define CONFIG_TABLE(GROUP, INT, INTS, REAL, PAIR, TEXT, CHOICE, SWITCH, WORDS) \
GROUP("Model") \
TEXT  (model, "model", "kat-mini-g3b", SAME, "vit|kat|kan|convit|swin - mini|tiny|small|base|large, then -gNb|-gNu for KArAt with grid N, blockwise|universal; or timm's name") \
INT   (image_size, "image-size|img-size", "32", 1, 4096, SAME, "side of the square input") \
INT   (patch, "patch|patch-size", "4", 1, 1024, SAME, "side P of a patch; divides the image size") \
INT   (dim, "dim", "96", 1, 16384, SAME, "embedding width C") \
INTS  (depth, "depth", "4", 1, 1000, SAME, "number of blocks L; with --window-size of each stage, where the width doubles: 2,2,6,2") \
INTS  (heads, "heads", "3", 1, 1024, SAME, "attention heads H; divides the width; of each stage") \
INT   (window, "window-size|window", "0", 0, 1024, SAME, "Swin: attention in windows of so many tokens a side, every second block shifted; 0: over all") \
INT   (local_blocks, "local-blocks", "0", 0, 1000, SAME, "ConViT: the first N blocks have GPSA, the class token joins behind them; 0: none") \
REAL  (locality_strength, "locality-strength", "1", 0, 1000, SAME, "ConViT: how sharply GPSA's heads look aside at the start") \
REAL  (mlp_ratio, "mlp-ratio", "4", 0.01, 64, SAME, "hidden width of the MLP over C") \
INT   (classes, "classes|num-classes", "0", 0, 65535, SAME, "outputs; 0: as many as the data set has") \
CHOICE(pool, "pool|gp", "token", CHOICES(POOLS), SAME, "class token, or mean of the tokens without a class token") \
SWITCH(fc_norm, "fc-norm", "off", SAME, "with --pool avg: the last norm behind the mean, not before it") \
INT   (reg_tokens, "reg-tokens", "0", 0, 1024, SAME, "registers: so many tokens more, that the head does not read") \
SWITCH(no_embed_class, "no-embed-class", "off", SAME, "positions for the patches alone, not for class token and registers") \
SWITCH(qkv_bias, "qkv-bias", "on", SAME, "biases of queries, keys and values") \
CHOICE(attn, "attn", "karat", CHOICES(ATTENTIONS), SAME, "what turns logits into weights") \
INT   (softmax_heads, "softmax-heads", "0", 0, 1023, SAME, "hybrid: the first N heads keep softmax, the others KArAt") \
SWITCH(attn_gate, "attn-gate", "off", SAME, "a gate on what each head gives, a sigmoid of the block's normalised input") \
CHOICE(attn_init, "attn-init", "trunc02", CHOICES(ATTN_INITS), SAME, "start of qkv and proj; mimetic: Wq Wk near I, Wv Wp near -I; impulse: heads look one patch aside") \
CHOICE(mlp, "mlp", "gr-kan", CHOICES(MLPS), SAME, "linear, activation, linear; KAT's GR-KAN; B-spline KAN") \
REAL  (layer_scale, "layer-scale", "0", 0, 10, SAME, "start of LayerScale's per-channel factors; 0: no LayerScale") \
REAL  (drop_path, "drop-path", "0", 0, 0.95, SAME, "stochastic depth: the last block's rate, rising linearly from 0") \
GROUP("KArAt attention (--attn karat)") \
CHOICE(basis, "basis", "fourier", CHOICES(BASES), SAME, "the functions that the units are made of") \
INT   (grid, "grid", "3", 1, 64, SAME, "grid G: frequencies, intervals of the splines, or degree") \
INT   (spline_order, "spline-order", "3", 0, 7, SAME, "bspline: order k") \
REAL  (spline_range, "spline-range", "4", 1e-3, 1e6, SAME, "bspline: knots from -R to R, then k more a side") \
INT   (karat_rank, "karat-rank", "12", 1, 1024, SAME, "rank r of the learned operator, or of --attn softmax-rank") \
SWITCH(karat_full, "karat-full", "off", SAME, "full rank: N x N functions and no W") \
CHOICE(karat_order, "karat-order", "w-phi", CHOICES(KARAT_ORDERS), SAME, "order of the operator: W Φ(A), Φ(W A), Φ Φ(A)") \
CHOICE(karat_projection, "karat-projection", "none", CHOICES(PROJECTIONS), SAME, "rows projected on the simplex, or on the l1 unit ball") \
CHOICE(karat_project, "karat-project", "sigma", CHOICES(KARAT_PROJECTED), SAME, "what is projected: the weights, or z before W") \
CHOICE(karat_mask, "karat-mask", "region", CHOICES(KARAT_MASKS), SAME, "shifted windows: sums over a token's own region; literal: Φ(A - 100) elsewhere, as softmax has it") \
CHOICE(karat_mode, "karat-mode", "block", CHOICES(KARAT_MODES), SAME, "an operator for each block, or one shared by all") \
CHOICE(karat_base, "karat-base", "zero", CHOICES(KARAT_BASE_FUNCTIONS), SAME, "base activation b(x) beside the basis") \
SWITCH(karat_scales, "karat-scales", "on", SAME, "two trained scalars a unit, as the paper's counts have them") \
CHOICE(karat_bias, "karat-bias", "off", CHOICES(KARAT_BIASES), SAME, "output bias beta, one value a token") \
CHOICE(karat_init, "karat-init", "paper", CHOICES(KARAT_INITS), SAME, "N(0,1) coefficients; unit: softmax's output variance") \
REAL  (karat_init_scale, "karat-init-scale", "1", 0, 1000, SAME, "factor on the starting coefficients") \
REAL  (karat_init_denominator, "karat-init-denominator", "0.1", 0, 1000, SAME, "rational units: deviation of the starting denominators; as printed: 1") \
GROUP("Rationals (--mlp gr-kan; --mlp rational has one, before fc2, in one group)") \
CHOICE(rational_form, "rational-form", "a", CHOICES(RATIONAL_FORMS), SAME, "denominator 1+sum|b||x|^j; paper: 1+|sum b x^j|") \
INT   (rational_m, "rational-m", "5", 1, 12, SAME, "degree of the numerator") \
INT   (rational_n, "rational-n", "4", 0, 12, SAME, "degree of the denominator") \
INT   (rational_groups, "rational-groups", "8", 1, 4096, SAME, "groups g; divides the width") \
CHOICE(rational_init1, "rational-init1", "identity", RATIONAL_STARTS, SAME, "start of the rational before fc1") \
CHOICE(rational_init2, "rational-init2|rational-init", "swish", RATIONAL_STARTS, SAME, "start of the rational before fc2") \
REAL  (rational_lr_scale, "rational-lr-scale", "1", 0, 1000, SAME, "factor on the learning rate of the rational coefficients") \
SWITCH(rational_decay, "rational-decay", "on", SAME, "weight decay on the rational coefficients, as released") \
CHOICE(mlp_init, "mlp-init", "trunc02", CHOICES(MLP_INITS), SAME, "start of fc1 and fc2 (released: trunc02)") \
GROUP("B-spline KAN layers (--mlp kan)") \
INT   (kan_grid, "kan-grid", "2", 1, 64, SAME, "intervals G of the splines") \
INT   (kan_order, "kan-order", "3", 0, 7, SAME, "order k of the splines") \
REAL  (kan_range, "kan-range", "4", 1e-3, 1e6, SAME, "knots from -R to R, then k more a side") \
GROUP("Data and augmentation") \
TEXT  (data, "data|data-dir", "procedural", INPUT, "procedural, PREFIX of PREFIX.train.kds and PREFIX.test.kds, or a folder with train.index and val.index") \
INT   (train_images, "train-images", "0", 0, 100000000, SAME, "use only N training images, the first, or of an encoded set every so many; 0: all") \
INT   (test_images, "test-images", "0", 0, 100000000, SAME, "evaluate on N test images, likewise; 0: all") \
INT   (workers, "workers|j", "0", 0, 256, FREE, "threads that prepare batches; 0: as many as cores for encoded images, else one") \
REAL  (cache_gb, "cache-gb", "0", 0, 1e6, FREE, "encoded sets: keep so much of decoded images in memory as they are first seen") \
SWITCH(strict, "strict", "off", FREE, "an image that cannot be read ends the run; off: the next takes its place") \
CHOICE(data_on_gpu, "data-on-gpu", "auto", CHOICES(DATA_PLACES), FREE, "the images lie on the GPU; off: each batch's are copied; auto: if they fit") \
CHOICE(normalize, "normalize", "dataset", CHOICES(NORMALIZATIONS), SAME, "mean and deviation: the training set's, ImageNet's, 0.5") \
INT   (crop_padding, "crop-padding", "0", 0, 256, SAME, "random crop from the image padded by N pixels a side") \
REAL  (hflip, "hflip", "0", 0, 1, SAME, "probability of a horizontal flip") \
REAL  (vflip, "vflip", "0", 0, 1, SAME, "probability of a vertical flip") \
TEXT  (aa, "aa", "", SAME, "RandAugment as timm writes it, such as rand-m9-mstd0.5-inc1; empty: off") \
REAL  (color_jitter, "color-jitter", "0", 0, 10, SAME, "brightness, contrast, saturation changed by up to so much, where --aa is off") \
REAL  (color_jitter_hue, "color-jitter-hue", "0", 0, 0.5, SAME, "the same of the hue") \
REAL  (color_jitter_prob, "color-jitter-prob", "1", 0, 1, SAME, "probability that an image is jittered") \
REAL  (grayscale_prob, "grayscale-prob", "0", 0, 1, SAME, "probability of grey scale, where --aa is off") \
SWITCH(rrc, "rrc", "off", SAME, "RandomResizedCrop to the image size") \
PAIR  (scale, "scale", "0.08,1", 0.0001, 1, SAME, "RandomResizedCrop: range of the area") \
PAIR  (ratio, "ratio", "0.75,1.3333333", 0.01, 100, SAME, "RandomResizedCrop: range of the aspect ratio") \
CHOICE(train_interpolation, "train-interpolation", "random", CHOICES(TRAIN_INTERPOLATIONS), SAME, "resampling in training") \
CHOICE(interpolation, "interpolation", "bicubic", CHOICES(INTERPOLATIONS), SAME, "resampling in evaluation") \
REAL  (crop_pct, "crop-pct", "1", 0.1, 1, SAME, "evaluation: resize to size/X, then crop the centre") \
REAL  (reprob, "reprob", "0", 0, 1, SAME, "random erasing: probability for each image") \
CHOICE(remode, "remode", "pixel", CHOICES(ERASE_MODES), SAME, "what stands where it erased: 0, noise of a channel or of every value") \
INT   (recount, "recount", "1", 1, 4, SAME, "random erasing: at most so many boxes") \
INT   (aug_repeats, "aug-repeats", "1", 1, 100, SAME, "repeated augmentation: an epoch sees a share of the images so many times") \
REAL  (mixup, "mixup", "0", 0, 100, SAME, "alpha of mixup; 0: off") \
REAL  (cutmix, "cutmix", "0", 0, 100, SAME, "alpha of cutmix; 0: off") \
REAL  (mixup_prob, "mixup-prob", "1", 0, 1, SAME, "probability that a batch is mixed") \
REAL  (mixup_switch_prob, "mixup-switch-prob", "0.5", 0, 1, SAME, "probability of cutmix where both are on") \
CHOICE(mix_order, "mix-order", "floats", CHOICES(MIX_ORDERS), SAME, "bytes: mixed before normalisation and erasing, as timm; floats: after, as DeiT") \
REAL  (smoothing, "smoothing", "0", 0, 0.99, SAME, "label smoothing") \
GROUP("Training") \
CHOICE(recipe, "recipe", "none", CHOICES(RECIPES), SAME, "what a published model was trained with; flags beside it win; --list tells which") \
INT   (epochs, "epochs", "5", 1, 1000000, LENGTH, "passes over the training set") \
INT   (steps, "steps", "0", 0, 2000000000, LENGTH, "optimizer steps, instead of --epochs; 0: off") \
INT   (batch_size, "batch-size|b", "64", 1, 65536, SAME, "images a micro-batch") \
INT   (grad_accum_steps, "grad-accum-steps", "0", 0, 4096, SAME, "micro-batches a step, shared by the ranks; 0: one for each") \
REAL  (lr, "lr", "0.001", 0, 100, SAME, "peak learning rate") \
REAL  (min_lr, "min-lr", "0", 0, 100, SAME, "learning rate at the end of the cosine") \
REAL  (warmup_lr, "warmup-lr", "1e-6", 0, 100, SAME, "learning rate at the start of the warm-up") \
REAL  (warmup_epochs, "warmup-epochs", "1", 0, 1000000, SAME, "linear warm-up, in epochs") \
SWITCH(sched_on_updates, "sched-on-updates", "on", SAME, "change the learning rate every step; off: once an epoch") \
REAL  (weight_decay, "weight-decay", "0.05", 0, 10, SAME, "decoupled; matrices only") \
PAIR  (opt_betas, "opt-betas", "0.9,0.999", 0, 0.999999999, SAME, "AdamW's beta 1 and 2") \
REAL  (opt_eps, "opt-eps", "1e-8", 1e-30, 1, SAME, "AdamW's epsilon") \
REAL  (clip_grad, "clip-grad", "0", 0, 1e9, SAME, "largest gradient norm; 0: off") \
REAL  (model_ema_decay, "model-ema-decay", "0", 0, 0.99999999, SAME, "running mean of the weights, evaluated instead; 0: off") \
INT   (seed, "seed", "42", 0, 2147483647, SAME, "the one seed of everything random") \
SWITCH(recompute, "recompute", "off", FREE, "keep the blocks' inputs alone and compute the rest again: less memory, the same bits") \
CHOICE(precision, "precision", "fp32", CHOICES(PRECISIONS), SAME, "of products; bf16: on the GPU of activations too, on the CPU of linear layers alone; tf32: GPU") \
CHOICE(stream_grad, "stream-grad", "fp32", CHOICES(STREAM_GRADS), SAME, "the gradient of the residual stream; bf16: half of its bytes on the GPU, rounded once a branch") \
CHOICE(device, "device", "auto", CHOICES(DEVICES), FREE, "auto: ./train_katcu takes over where it is built and finds a GPU") \
SWITCH(tune_products, "tune-products", "off", SAME, "on the GPU: products by the quickest kernels, timed; the bits are the run's own") \
SWITCH(cuda_graph, "cuda-graph", "on", FREE, "on the GPU: a step is captured once, and launched as a whole from then on") \
INT   (threads, "threads", "0", 0, 4096, FREE, "0: all cores; the result does not depend on it") \
INT   (rank_timeout, "rank-timeout", "300", 1, 1000000, FREE, "seconds that one of several processes waits for another; at the start twice as many") \
GROUP("Output") \
TEXT  (output, "output", "", FREE, "folder of the run; default: a new one under runs/") \
SWITCH(overwrite, "overwrite", "off", FREE, "start anew in a folder that holds a run, and remove that run") \
INT   (log_every, "log-every|log-interval", "50", 1, 1000000, SAME, "steps between rows of metrics.csv and progress lines") \
SWITCH(metrics_jsonl, "metrics-jsonl", "off", FREE, "the rows of metrics.csv as JSON too, a line each, in metrics.jsonl") \
SWITCH(tensorboard, "tensorboard", "off", FREE, "event files for TensorBoard: the same numbers, learned functions as histograms, the first batch") \
INT   (eval_every, "eval-every|val-interval", "1", 0, 1000000, SAME, "epochs between evaluations; 0: only at the end") \
INT   (checkpoint_every, "checkpoint-every|recovery-interval", "0", 0, 1000000000, FREE, "steps between checkpoints; 0: every epoch") \
INT   (keep_every, "keep-every", "0", 0, 1000000, FREE, "epochs between kept files epoch-N.safetensors; 0: none") \
SWITCH(per_class, "per-class", "off", FREE, "evaluation prints every class") \
GROUP("What to do (default: train)") \
TEXT  (resume, "resume", "", FREE, "go on with the run in this folder, bit by bit as if never interrupted; for longer with --epochs or --steps") \
SWITCH(continue_run, "continue", "off", FREE, "go on with the run in --output if there is one, else start it: for queues") \
TEXT  (config, "config|c", "", FREE, "begin with the options of this config.txt, or of the run in this folder; flags beside it win") \
TEXT  (init_from, "init-from|initial-checkpoint", "", INPUT, "start from the tensors of a safetensors file, or of a folder that timm opens, by name") \
SWITCH(any_weights, "any-weights", "off", FREE, "--init-from, --eval: also a file of which little fits, or that holds NaN") \
TEXT  (eval, "eval", "", FREE, "evaluate this safetensors file, or folder that timm opens, and stop") \
WORDS (classify, "classify", FREE, "name what image files (JPEG, PNG, folders of them) show, by the model of --init-from, and stop") \
INT   (topk, "topk|k", "5", 1, 65535, FREE, "--classify: classes of each image, the likeliest first; -k for short") \
TEXT  (export_to, "export", "", FREE, "write the model of --init-from for other programs and stop: NAME.onnx, or a folder that timm opens") \
TEXT  (show_batch, "show-batch", "", FREE, "write the first training batch as the model sees it to this file, a PNG, and stop") \
TEXT  (dump_state, "dump-state", "", FREE, "write the first batch, parameters, gradients to this file and stop") \
SWITCH(overfit_batch, "overfit-batch", "off", SAME, "train on the first batch only: the loss must go to 0") \
SWITCH(gradcheck, "gradcheck", "off", FREE, "compare every tensor's gradient with differences of the loss and stop") \
INT   (profile, "profile", "0", 0, 1000000, FREE, "train N steps, print where the time went and stop; 0: off") \
SWITCH(dry_run, "dry-run", "off", FREE, "print parameters, memory and FLOPs and stop") \
SWITCH(list, "list", "off", FREE, "print models, attentions, bases and MLPs, a line each, and stop") \
SWITCH(version, "version", "off", FREE, "print version, commit, compiler and libraries, and stop") \
SWITCH(help, "help|h", "off", FREE, "print this and stop")

#define NO_FIELD(...)
#define INT_FIELD(field, ...) int field;
#define INTS_FIELD(field, ...) Ints field;
#define REAL_FIELD(field, ...) double field;
#define PAIR_FIELD(field, ...) double field[2];
#define TEXT_FIELD(field, ...) char field[OPTION_TEXT_SIZE];
#define WORDS_FIELD(field, ...) Words field;
typedef struct {
    CONFIG_TABLE(NO_FIELD, INT_FIELD, INTS_FIELD, REAL_FIELD, PAIR_FIELD, TEXT_FIELD, INT_FIELD, INT_FIELD, WORDS_FIELD)
} Config;

#define GROUP_ROW(title) {OPTION_GROUP, "", 0, "", 0, 0, "", RESUME_FREE, title},
#define NUMBER_ROW(type, field, names, initial, min, max, resume, help) \
    {type, names, offsetof(Config, field), initial, min, max, "", resume, help},
#define INT_ROW(...) NUMBER_ROW(OPTION_INT, __VA_ARGS__)
#define INTS_ROW(...) NUMBER_ROW(OPTION_INTS, __VA_ARGS__)
#define REAL_ROW(...) NUMBER_ROW(OPTION_REAL, __VA_ARGS__)
#define PAIR_ROW(...) NUMBER_ROW(OPTION_PAIR, __VA_ARGS__)
#define TEXT_ROW(field, names, initial, resume, help) \
    {OPTION_TEXT, names, offsetof(Config, field), initial, 0, 0, "", resume, help},
#define CHOICE_ROW(field, names, initial, choices, resume, help) \
    {OPTION_CHOICE, names, offsetof(Config, field), initial, 0, 0, choices, resume, help},
#define SWITCH_ROW(field, names, initial, resume, help) \
    {OPTION_SWITCH, names, offsetof(Config, field), initial, 0, 0, "", resume, help},
#define WORDS_ROW(field, names, resume, help) \
    {OPTION_WORDS, names, offsetof(Config, field), "", 0, 0, "", resume, help},
static const Option config_table[] = {
    CONFIG_TABLE(GROUP_ROW, INT_ROW, INTS_ROW, REAL_ROW, PAIR_ROW, TEXT_ROW, CHOICE_ROW, SWITCH_ROW, WORDS_ROW)
};
enum { CONFIG_OPTIONS = sizeof config_table / sizeof config_table[0] };
#undef SAME
#undef LENGTH
#undef INPUT
#undef FREE

static inline const Option* config_option(const char* name) { return option_find(config_table, CONFIG_OPTIONS, name); }

// A class token, if there is one, and registers
static inline int tokens_in_front(const Config* c) { return (c->pool == POOL_TOKEN) + c->reg_tokens; }

static inline int ints_sum(Ints ints) {
    int sum = 0;
    for (int i = 0; i < ints.count; i++) { sum += ints.value[i]; }
    return sum;
}

// Which of KArAt's variants cannot be combined
static inline bool operator_check(const Config* c, Error* err) {
    if (c->attn != ATTN_KARAT && c->softmax_heads) {
        return set_error(err, "--softmax-heads %d makes a hybrid with KArAt: give --attn karat", c->softmax_heads);
    }
    for (int i = 0; i < c->heads.count; i++) {
        if (c->softmax_heads >= c->heads.value[i]) {
            return set_error(err, "--softmax-heads %d leaves none of --heads %d to KArAt: use --attn softmax, or fewer",
                             c->softmax_heads, c->heads.value[i]);
        }
    }
    if (c->karat_full && c->karat_order != KARAT_W_PHI) {
        return set_error(err, "--karat-full has no W and no second operator: leave --karat-order out");
    }
    if (c->karat_full && c->karat_projection != PROJECT_NONE && c->karat_project == KARAT_PROJECT_Z) {
        return set_error(err, "with --karat-full z is sigma: use --karat-project sigma");
    }
    return true;
}

// The augmentation of single images by --aa and others; only the policy's text can be wrong.
static inline bool config_augment(Augment* a, const Config* c, Error* err) {
    float jitter = (float)c->color_jitter;
    *a = (Augment){
        .crop_padding = c->crop_padding, .random_resized_crop = c->rrc != 0,
        .scale = {(float)c->scale[0], (float)c->scale[1]}, .ratio = {(float)c->ratio[0], (float)c->ratio[1]},
        .train_interpolation = (Interpolation)c->train_interpolation, .flip = (float)c->hflip, .vflip = (float)c->vflip,
        .jitter = {jitter, jitter, jitter, (float)c->color_jitter_hue, (float)c->color_jitter_prob, (float)c->grayscale_prob},
        .erasing = {(float)c->reprob, c->recount, (EraseMode)c->remode},
        .mixup = (float)c->mixup, .cutmix = (float)c->cutmix, .mix_probability = (float)c->mixup_prob,
        .mix_switch = (float)c->mixup_switch_prob, .mix_order = (MixOrder)c->mix_order, .smoothing = (float)c->smoothing,
        .repeats = c->aug_repeats,
    };
    return !*c->aa || rand_augment_parse(&a->rand, c->aa, err);
}

// --classify and --export take a model and nothing else to do.
static inline bool stands_alone(const Config* c, const char* flag, Error* err) {
    const struct { const char* name; bool on; } others[] = {
        {"resume", *c->resume != 0}, {"continue", c->continue_run != 0}, {"show-batch", *c->show_batch != 0},
        {"dump-state", *c->dump_state != 0}, {"overfit-batch", c->overfit_batch != 0}, {"gradcheck", c->gradcheck != 0},
        {"profile", c->profile != 0}, {"dry-run", c->dry_run != 0},
        {"export", *c->export_to && strcmp(flag, "export") != 0}};
    if (!*c->init_from && !*c->eval) {
        return set_error(err, "--%s needs a model: give --init-from FILE.safetensors", flag);
    }
    if (*c->init_from && *c->eval) {
        return set_error(err, "--%s takes one model, by --init-from or by --eval: leave out one of the two", flag);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (others[i].on) { return set_error(err, "--%s does nothing else: leave --%s out", flag, others[i].name); }
    }
    return true;
}

// The tokens before the patches, and how all are pooled at the end
static inline bool tokens_check(const Config* c, Error* err) {
    if (c->fc_norm && c->pool != POOL_AVG) {
        return set_error(err, "--fc-norm normalises the mean of the tokens: give --pool avg, or leave it out");
    }
    if (c->reg_tokens && !c->no_embed_class) {
        return set_error(err, "registers have no positions: give --no-embed-class with --reg-tokens %d", c->reg_tokens);
    }
    return true;
}

// What decides whether KArAt works in a shifted window
static inline KaratDims masked_karat(const Config* c) {
    bool projects = c->karat_projection != PROJECT_NONE;
    return (KaratDims){.basis = (KaratBasis)c->basis, .order = (KaratOrder)c->karat_order,
                       .full_rank = c->karat_full != 0, .projection = (Projection)c->karat_projection,
                       .project_z = projects && c->karat_project == KARAT_PROJECT_Z,
                       .windows = {.grid = 2, .size = 2, .shift = 1}, .mask = (KaratMask)c->karat_mask};
}

// Of a Swin
static inline bool windows_check(const Config* c, Error* err) {
    int side = c->image_size / c->patch;
    const struct { const char* flag; bool on; } others[] = {
        {"local-blocks", c->local_blocks != 0}, {"reg-tokens", c->reg_tokens != 0}, {"fc-norm", c->fc_norm != 0},
        {"attn-gate", c->attn_gate != 0}};
    if (!c->window) {
        return c->depth.count == 1 ||
               set_error(err, "--depth with %d numbers is of a model in stages: give --window-size, or one number",
                         c->depth.count);
    }
    if (c->pool != POOL_AVG) { return set_error(err, "with --window-size there is no class token: give --pool avg"); }
    if (c->attn != ATTN_SOFTMAX && c->attn != ATTN_KARAT) {
        return set_error(err, "attention in windows is softmax or KArAt: give --attn softmax or --attn karat");
    }
    if (c->attn_init != ATTN_INIT_TRUNC02) {
        return set_error(err, "--attn-init %s is of attention over all tokens: leave it out, or --window-size",
                         choice_name(config_option("attn-init")->choices, c->attn_init));
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (others[i].on) { return set_error(err, "with --window-size there is no --%s: leave it out", others[i].flag); }
    }
    if (c->attn == ATTN_KARAT && !karat_takes_windows(masked_karat(c))) {
        return set_error(err, "there is no such KArAt in shifted windows: leave --basis, --karat-order, --karat-full "
                         "and --karat-projection out; with --karat-mask literal there is every basis");
    }
    for (int stage = 0; stage < c->depth.count; stage++, side /= 2) {
        int size = c->window < side ? c->window : side;
        bool halves = stage == c->depth.count - 1 || side % 2 == 0;
        if (size == 0 || side % size || !halves) {
            return set_error(err, "the grid of %d x %d tokens of stage %d is not made of windows of %d, or cannot be "
                             "halved: change --window-size, --patch or --image-size (32 in patches of 2 is grids of "
                             "16, 8 and 4, which --window-size 4 fits)", side, side, stage, size);
        }
    }
    return true;
}

// Of a ConViT
static inline bool local_check(const Config* c, Error* err) {
    if (!c->local_blocks) { return true; }
    if (c->local_blocks >= ints_sum(c->depth)) {
        return set_error(err, "--local-blocks %d of %d blocks leave none to the class token, which joins behind them: "
                         "use fewer", c->local_blocks, ints_sum(c->depth));
    }
    if (c->pool != POOL_TOKEN) {
        return set_error(err, "--local-blocks is of models with a class token: leave --pool out");
    }
    if (c->reg_tokens || c->no_embed_class || c->attn_gate || c->attn_init != ATTN_INIT_TRUNC02) {
        return set_error(err, "--local-blocks has neither registers nor --no-embed-class, --attn-gate or --attn-init: "
                         "leave them out");
    }
    return true;
}

static inline bool heads_check(const Config* c, Error* err) {
    if (c->heads.count != c->depth.count) {
        return set_error(err, "--heads has %d numbers and --depth has %d: give one for each stage", c->heads.count,
                         c->depth.count);
    }
    for (int stage = 0; stage < c->heads.count; stage++) {
        int64_t C = (int64_t)c->dim << stage;
        if (C % c->heads.value[stage]) {
            return set_error(err, "--dim %lld is not a multiple of --heads %d", (long long)C, c->heads.value[stage]);
        }
    }
    return true;
}

static inline bool config_check(const Config* c, Error* err) {
    Augment augment;
    int hidden = (int)lround(c->dim * c->mlp_ratio);
    if (c->image_size % c->patch) {
        return set_error(err, "--image-size %d is not a multiple of --patch %d", c->image_size, c->patch);
    }
    if (!heads_check(c, err) || !tokens_check(c, err)) { return false; }
    if (!windows_check(c, err) || !local_check(c, err)) { return false; }
    if (hidden < 1) { return set_error(err, "--mlp-ratio %g of --dim %d leaves no hidden unit", c->mlp_ratio, c->dim); }
    if (c->mlp == MLP_GR_KAN && (c->dim % c->rational_groups || hidden % c->rational_groups)) {
        return set_error(err, "the widths of GR-KAN, %d and %d, must be multiples of --rational-groups %d: "
                              "change --dim, --mlp-ratio or --rational-groups", c->dim, hidden, c->rational_groups);
    }
    if (c->mlp != MLP_GR_KAN && c->mlp_init == MLP_INIT_VARIANCE_PRESERVING) {
        return set_error(err, "--mlp-init variance-preserving is made for the rationals of --mlp gr-kan: leave it out");
    }
    if (c->gradcheck && c->stream_grad == STREAM_GRAD_BF16) {
        return set_error(err, "--gradcheck would find what --stream-grad bf16 rounds: leave that out");
    }
    if (c->continue_run && (c->overwrite || *c->resume)) {
        return set_error(err, "--continue, --resume and --overwrite say what becomes of a run that is there: choose one");
    }
    if (c->classify.count && !stands_alone(c, "classify", err)) { return false; }
    if (*c->export_to && !stands_alone(c, "export", err)) { return false; }
    if (!operator_check(c, err) || !config_augment(&augment, c, err)) { return false; }
    int side = c->image_size / c->patch;
    double rows = (double)c->batch_size * ((double)side * side + 1), widest = fmax(3.0 * c->dim, hidden);
    if (rows * widest > 1e12 || rows > 1e9) {
        return set_error(err, "%.3g tokens a batch are beyond any memory: use a smaller --batch-size, a smaller "
                         "--image-size or a larger --patch", rows);
    }
    return true;
}

static inline void config_help(FILE* out, const char* program) {
    fprintf(out, "Usage: %s [--option value]...\n"
                 "Trains a (Kolmogorov-Arnold) vision transformer. Without any option: a small KAT with\n"
                 "Fourier-KArAt attention on a procedural data set. Flags of timm's train.py are taken too: what they\n"
                 "mean here is in model/timm_flags.h.\n", program);
    options_help(out, config_table, CONFIG_OPTIONS);
}
