// What the options of config.h choose between, one table each (runtime/choices.h); choices that concern one kernel
// alone are beside it. With a switch over one of these types and no default, the compiler names any choice that is
// forgotten.
#pragma once
#include "../data/augment.h"
#include "../kernels/activation_kind.h"
#include "../kernels/karat_dims.h"
#include "../kernels/pointwise_kind.h"
#include "../kernels/rational_shape.h"
#include "../runtime/choices.h"
#include "recipes.h"

#define ATTENTIONS(X) \
X(ATTN_SOFTMAX, "softmax", "exp(A_kq) over its sum along row k") \
X(ATTN_KARAT, "karat", "a learned operator W Φ(A_k) of rank r, sums of learned functions; the same for every row k") \
X(ATTN_SIGMOID, "sigmoid", "1 / (1 + N exp(-A_kq)): every weight by itself") \
X(ATTN_RELU, "relu", "max(A_kq, 0) / N") \
X(ATTN_POLYNOMIAL, "polynomial", "A_kq^3 / sqrt(N)") \
X(ATTN_MIXING, "mixing", "N x N weights for each head that are learned and ignore the image") \
X(ATTN_SOFTMAX_RANK, "softmax-rank", \
  "softmax, then a learned linear map of rank r: what KArAt is without its functions") \
X(ATTN_LINEAR, "linear", "f(Q_k) f(K_q) over its sum along row k, f = elu + 1")
typedef enum { ATTENTIONS(CHOICE_CONSTANT) } Attention;

// The function of sigmoid, relu or polynomial attention
static inline PointwiseKind pointwise_kind(int attn) {
    return attn == ATTN_SIGMOID ? POINTWISE_SIGMOID : attn == ATTN_RELU ? POINTWISE_RELU : POINTWISE_POLYNOMIAL;
}

// Numbered after the activations, so that an Mlp below ACTIVATION_COUNT is an ActivationKind
#define MLPS_WITH_PARAMETERS(X) \
X(MLP_PRELU, "prelu", "linear, x or w x where x <= 0 with one trained w a layer, linear") \
X(MLP_GR_KAN, "gr-kan", "KAT: group rational, linear, group rational, linear") \
X(MLP_RATIONAL, "rational", "linear, one rational for all channels (PAU), linear") \
X(MLP_KAN, "kan", "two KAN layers: SiLU and B-splines on every edge")
enum { MLP_LAST_ACTIVATION = ACTIVATION_COUNT - 1, MLPS_WITH_PARAMETERS(CHOICE_CONSTANT) };
#define MLPS(X) ACTIVATIONS(X) MLPS_WITH_PARAMETERS(X)

#define ATTN_INITS(X) X(ATTN_INIT_TRUNC02, "trunc02") X(ATTN_INIT_MIMETIC, "mimetic") X(ATTN_INIT_IMPULSE, "impulse")
enum { ATTN_INITS(CHOICE_CONSTANT) };

#define MLP_INITS(X) X(MLP_INIT_TRUNC02, "trunc02") X(MLP_INIT_VARIANCE_PRESERVING, "variance-preserving")
enum { MLP_INITS(CHOICE_CONSTANT) };

#define POOLS(X) X(POOL_TOKEN, "token") X(POOL_AVG, "avg")
enum { POOLS(CHOICE_CONSTANT) };

#define KARAT_MODES(X) X(KARAT_BLOCK, "block") X(KARAT_UNIVERSAL, "universal")
enum { KARAT_MODES(CHOICE_CONSTANT) };

#define KARAT_BIASES(X) X(KARAT_BIAS_OFF, "off") X(KARAT_BIAS_BLOCK, "block")
enum { KARAT_BIASES(CHOICE_CONSTANT) };

#define KARAT_INITS(X) X(KARAT_INIT_PAPER, "paper") X(KARAT_INIT_UNIT, "unit")
enum { KARAT_INITS(CHOICE_CONSTANT) };

#define KARAT_PROJECTED(X) X(KARAT_PROJECT_SIGMA, "sigma") X(KARAT_PROJECT_Z, "z")
enum { KARAT_PROJECTED(CHOICE_CONSTANT) };

#define DATA_PLACES(X) X(DATA_WHERE_IT_FITS, "auto") X(DATA_ON_GPU, "on") X(DATA_ON_HOST, "off")
enum { DATA_PLACES(CHOICE_CONSTANT) };

#define NORMALIZATIONS(X) X(NORMALIZE_DATASET, "dataset") X(NORMALIZE_IMAGENET, "imagenet") X(NORMALIZE_HALF, "half")
enum { NORMALIZATIONS(CHOICE_CONSTANT) };

#define PRECISIONS(X) X(PRECISION_FP32, "fp32") X(PRECISION_TF32, "tf32") X(PRECISION_BF16, "bf16")
enum { PRECISIONS(CHOICE_CONSTANT) };

#define STREAM_GRADS(X) X(STREAM_GRAD_FP32, "fp32") X(STREAM_GRAD_BF16, "bf16")
enum { STREAM_GRADS(CHOICE_CONSTANT) };

#define DEVICES(X) X(DEVICE_AUTO, "auto") X(DEVICE_CPU, "cpu") X(DEVICE_CUDA, "cuda")
enum { DEVICES(CHOICE_CONSTANT) };
