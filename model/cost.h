// What a model costs: the multiply-adds of matrix products in one image's forward, part by part, as this program does
// them, with the last block computed for NQ tokens only. The parts are those that --profile and dev/bench time; one
// without products (norm, activation, data) costs memory traffic and counts 0 here.
#pragma once
#include "../runtime/profile.h"
#include "parameters.h"

// Multiply-adds of one head of KArAt: NQ x N x R units of M coefficients, one each whatever the basis, and what
// surrounds them
static double karat_macs(const Config* c, Dims d, double N, double NQ) {
    double D = d.D, R = d.R, units = d.M * NQ * N * R, logits = NQ * N * D, values = NQ * N * D;
    switch (c->karat_order) {
    case KARAT_PHI_W: return (N + NQ) * D * R + units + values;
    case KARAT_PHI_PHI: return logits + 2 * units + values;
    default: break;
    }
    if (c->karat_full) { return logits + units + values; }
    bool forms_sigma = c->karat_projection != PROJECT_NONE && c->karat_project == KARAT_PROJECT_SIGMA;
    return logits + units + (forms_sigma ? NQ * N * R + values : (N + NQ) * D * R);
}

// Of computing weights and weighting values by them, for all heads, of NQ queries over N tokens
static double weights_macs(const Config* c, Dims d, double N, double NQ) {
    double C = d.C, softmax = 2 * NQ * N * C;
    if (d.local) { return softmax; }
    switch ((Attention)c->attn) {
    case ATTN_KARAT: return d.HK * karat_macs(c, d, N, NQ) + softmax * c->softmax_heads / d.H;
    case ATTN_MIXING: return NQ * N * C;
    case ATTN_SOFTMAX_RANK: return softmax + 2 * N * d.R * C;
    case ATTN_LINEAR: return (N + NQ) * C * d.D;
    case ATTN_SOFTMAX: case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL: return softmax;
    }
    return 0;
}

// Of attention between qkv and proj: over all tokens, or in windows
static double attention_macs(const Config* c, Dims d) {
    double weights = d.NA < d.N ? (double)d.N / d.NA * weights_macs(c, d, d.NA, d.NA) : weights_macs(c, d, d.N, d.NQ);
    return weights + (c->attn_gate ? (double)d.NQ * d.C * d.H : 0);
}

// Of either of the MLP's two layers
static double fc_macs(const Config* c, Dims d) {
    return (double)d.NQ * d.C * d.F * (c->mlp == MLP_KAN ? 1 + d.MK : 1);
}

// Of the linear map that merges 2 x 2 tokens into one
static double merge_macs(Dims d) { return d.entry == ENTRY_MERGE ? 2.0 * d.N * d.C * d.C : 0; }

// Of the linear map before the blocks
static double embed_macs(Dims first) { return pow(first.S / first.P, 2) * 3 * first.P * first.P * first.C; }

// enum, name, multiply-adds in a block of sizes d, and before and after the blocks, the first of which has sizes
// `first`
#define PART_TABLE(ROW) \
ROW(PART_DATA,        "data",        0, 0) \
ROW(PART_PATCH_EMBED, "patch embed", merge_macs(d), embed_macs(first)) \
ROW(PART_NORM,        "norm",        0, 0) \
ROW(PART_QKV,         "qkv",         (2.0 * d.N + d.NQ) * d.C * d.C, 0) \
ROW(PART_ATTENTION,   "attention",   attention_macs(c, d), 0) \
ROW(PART_PROJ,        "proj",        (double)d.NQ * d.C * d.C, 0) \
ROW(PART_RESIDUAL,    "residual",    0, 0) \
ROW(PART_FC1,         "fc1",         fc_macs(c, d), 0) \
ROW(PART_ACTIVATION,  "activation",  0, 0) \
ROW(PART_FC2,         "fc2",         fc_macs(c, d), 0) \
ROW(PART_HEAD,        "head, loss",  0, (double)d.C * d.K) \
ROW(PART_UPDATE,      "update",      0, 0)
#define PART_ENUM(part, ...) part,
enum { PART_TABLE(PART_ENUM) PARTS };
#define PART_NAME(part, name, ...) name,
static const char* const part_names[PARTS] = {PART_TABLE(PART_NAME)};
static_assert((int)PARTS <= (int)PROFILE_PARTS, "runtime/profile.h has room for every part");

static double block_macs(const Config* c, Dims d, int part) {
#define PART_OF_BLOCK(name, text, of_block, around) of_block,
    const double macs[] = {PART_TABLE(PART_OF_BLOCK)};
    return macs[part];
}

static double part_macs(const Config* c, Dims d, int part) {
#define PART_AROUND(name, text, of_block, around) around,
    Dims first = dims_of_block(c, d, 0);
    const double macs[] = {PART_TABLE(PART_AROUND)};
    double sum = macs[part];
    for (int l = 0; l < d.L; l++) { sum += block_macs(c, dims_of_block(c, d, l), part); }
    return sum;
}

static double model_macs(const Config* c, Dims d) {
    double sum = 0;
    for (int part = 0; part < PARTS; part++) { sum += part_macs(c, d, part); }
    return sum;
}
