// What a model costs: multiply-adds of one image, forward, in products alone, part by part, as many as are done here,
// where the last block is calculated for NQ tokens. The parts are those that --profile and dev/bench time; one without
// products (norm, activation, data) costs memory traffic and counts 0 here.
#pragma once
#include "../runtime/profile.h"
#include "parameters.h"

// Multiply-adds of KArAt's NQ x N x R units of M coefficients, each one whatever the basis, and of what is around them;
// one head
static double karat_macs(const Config* c, Dims d, double NQ) {
    double N = d.N, D = d.D, R = d.R, units = d.M * NQ * N * R, logits = NQ * N * D, values = NQ * N * D;
    switch (c->karat_order) {
    case KARAT_PHI_W: return (N + NQ) * D * R + units + values;
    case KARAT_PHI_PHI: return logits + 2 * units + values;
    default: break;
    }
    if (c->karat_full) { return logits + units + values; }
    bool forms_sigma = c->karat_projection != PROJECT_NONE && c->karat_project == KARAT_PROJECT_SIGMA;
    return logits + units + (forms_sigma ? NQ * N * R + values : (N + NQ) * D * R);
}

// Of what makes weights and takes the values by them, all heads
static double weights_macs(const Config* c, Dims d, double NQ) {
    double N = d.N, C = d.C, softmax = 2 * NQ * N * C;
    switch ((Attention)c->attn) {
    case ATTN_KARAT: return d.HK * karat_macs(c, d, NQ) + softmax * c->softmax_heads / d.H;
    case ATTN_MIXING: return NQ * N * C;
    case ATTN_SOFTMAX_RANK: return softmax + 2 * N * d.R * C;
    case ATTN_LINEAR: return (N + NQ) * C * d.D;
    case ATTN_SOFTMAX: case ATTN_SIGMOID: case ATTN_RELU: case ATTN_POLYNOMIAL: return softmax;
    }
    return 0;
}

// Of attention between qkv and proj, for the queries of NQ tokens
static double attention_macs(const Config* c, Dims d, double NQ) {
    return weights_macs(c, d, NQ) + (c->attn_gate ? NQ * d.C * d.H : 0);
}

// Rows of queries, and of all that is behind attention, in all blocks
static double query_rows_of_blocks(Dims d) { return (d.L - 1.0) * d.N + d.NQ; }

// Of one of the MLP's two layers, in all blocks
static double fc_macs(const Config* c, Dims d) {
    return query_rows_of_blocks(d) * d.C * d.F * (c->mlp == MLP_KAN ? 1 + d.MK : 1);
}

// enum, name, multiply-adds
#define PART_TABLE(ROW) \
ROW(PART_DATA,        "data",        0) \
ROW(PART_PATCH_EMBED, "patch embed", (double)(d.S / d.P) * (d.S / d.P) * 3 * d.P * d.P * d.C) \
ROW(PART_NORM,        "norm",        0) \
ROW(PART_QKV,         "qkv",         (2.0 * d.L * d.N + query_rows_of_blocks(d)) * d.C * d.C) \
ROW(PART_ATTENTION,   "attention",   (d.L - 1) * attention_macs(c, d, d.N) + attention_macs(c, d, d.NQ)) \
ROW(PART_PROJ,        "proj",        query_rows_of_blocks(d) * d.C * d.C) \
ROW(PART_RESIDUAL,    "residual",    0) \
ROW(PART_FC1,         "fc1",         fc_macs(c, d)) \
ROW(PART_ACTIVATION,  "activation",  0) \
ROW(PART_FC2,         "fc2",         fc_macs(c, d)) \
ROW(PART_HEAD,        "head, loss",  (double)d.C * d.K) \
ROW(PART_UPDATE,      "update",      0)
#define PART_ENUM(part, ...) part,
enum { PART_TABLE(PART_ENUM) PARTS };
#define PART_NAME(part, name, ...) name,
static const char* const part_names[PARTS] = {PART_TABLE(PART_NAME)};
static_assert((int)PARTS <= (int)PROFILE_PARTS, "runtime/profile.h has room for every part");

static double part_macs(const Config* c, Dims d, int part) {
#define PART_MACS(name, text, macs) macs,
    double table[] = {PART_TABLE(PART_MACS)};
    return table[part];
}

static double model_macs(const Config* c, Dims d) {
    double sum = 0;
    for (int part = 0; part < PARTS; part++) { sum += part_macs(c, d, part); }
    return sum;
}
