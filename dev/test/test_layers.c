// The plain layers against double-precision forms: activations, LayerNorm, patch embedding, residual, pooling, cross
// entropy.
#include "../../kernels/activation.h"
#include "../../kernels/layernorm.h"
#include "../../kernels/loss.h"
#include "../../kernels/patch_embed.h"
#include "../../kernels/prefix.h"
#include "../../kernels/residual.h"
#include "kernel_test.h"
#include "plain_activations.h"

// ---- Activations

static void check_activation(ActivationKind kind) {
    static const char* const names[] = {ACTIVATIONS(CHOICE_NAME)};
    const char* name = names[kind];
    size_t n = 3 * ACTIVATION_BLOCK + 17, kinks = 0;
    float *inp = random_floats(n, 1), *dout = random_floats(n, 2), *out = guarded_floats(n), *dinp = guarded_floats(n);
    double *want = zero_doubles(n), *dwant = zero_doubles(n);
    for (size_t i = 0; i < n; i++) {
        inp[i] *= 3;
        if (plain_activation_has_kink(kind, inp[i])) { inp[i] = 1, kinks++; }
        want[i] = plain_activation(kind, inp[i]);
        dwant[i] = dout[i] * plain_activation_slope(kind, inp[i]);
    }
    activation_forward(out, inp, kind, n);
    activation_backward(dinp, dout, inp, kind, n);
    CHECK_TENSOR(out, want, n, 3e-7, name);   // observed: gelu 7e-8, relu 0, silu 8e-8
    CHECK_TENSOR(dinp, dwant, n, 5e-7, name); // observed: gelu 1.2e-7, relu 0, silu 2.4e-7
    CHECK(kinks * 1000 < n, "%s: %zu of %zu values at kinks", name, kinks, n);
    activation_backward(dout, dout, inp, kind, n);
    CHECK(!memcmp(dinp, dout, n * sizeof *dout), "d%s in place", name);
    CHECK(guards_intact(out, n) && guards_intact(dinp, n), "%s: sentinels", name);
    float special[] = {0, -0.0f, 100, -100, NAN, INFINITY}, y[6];
    activation_forward(y, special, kind, 6);
    for (int i = 0; i < 4; i++) { CHECK_NEAR(y[i], plain_activation(kind, special[i]), 1e-5, name); }
    CHECK(isnan(y[4]), "%s of a NaN is %g", name, y[4]);
    CHECK(y[5] == INFINITY, "%s of infinity is %g", name, y[5]);
    free(inp); free(dout); free(out); free(dinp); free(want); free(dwant);
}

// Where it has a kink, at 0
static void check_relu_slope(void) {
    float x[] = {0, -0.0f, 1e-30f, -1e-30f}, ones[] = {1, 1, 1, 1}, slope[4];
    activation_backward(slope, ones, x, ACTIVATION_RELU, 4);
    CHECK(slope[0] == 0 && slope[1] == 0 && slope[2] == 1 && slope[3] == 0, "relu' around 0");
}

static void check_prelu(size_t n) {
    float *inp = random_floats(n, 1), *dout = random_floats(n, 2), *out = guarded_floats(n), *dinp = guarded_floats(n);
    float *scratch = guarded_floats(prelu_scratch(n)), weight = 0.25f, dweight = 2; // +=
    double *want = zero_doubles(n), *dwant = zero_doubles(n), dw = 2, size = 0;
    for (size_t i = 0; i < n; i++) {
        inp[i] *= i % 100 ? 1 : 0;
        bool positive = inp[i] > 0;
        want[i] = positive ? inp[i] : 0.25 * inp[i];
        dwant[i] = positive ? dout[i] : 0.25 * dout[i];
        dw += positive ? 0 : (double)dout[i] * inp[i];
        size += positive ? 0 : fabs((double)dout[i] * inp[i]);
    }
    prelu_forward(out, inp, &weight, n);
    prelu_backward(dinp, &dweight, dout, inp, &weight, scratch, n);
    CHECK_TENSOR(out, want, n, 1e-7, "prelu (observed 0)");
    CHECK_TENSOR(dinp, dwant, n, 1e-7, "dprelu (observed 0)");
    CHECK_NEAR(dweight, dw, 2e-8 * (2 + size), "prelu dweight (observed 3e-9 of the sum of magnitudes)");
    prelu_backward(dout, &dweight, dout, inp, &weight, scratch, n);
    CHECK(!memcmp(dinp, dout, n * sizeof *dinp), "dprelu in place");
    CHECK(guards_intact(out, n) && guards_intact(dinp, n) && guards_intact(scratch, prelu_scratch(n)),
          "prelu: sentinels");
    free(inp); free(dout); free(out); free(dinp); free(scratch); free(want); free(dwant);
}

static void test_activations(void) {
    for (int kind = 0; kind < ACTIVATION_COUNT; kind++) { check_activation((ActivationKind)kind); }
    check_relu_slope();
    check_prelu(1);
    check_prelu(5 * ACTIVATION_BLOCK + 17);
}

// ---- LayerNorm

// The oracle of one row: out, and the gradients of Σ dout out
static void oracle_layernorm(double* out, double* dx, double* dweight, double* dbias, const float* x,
                             const float* weight, const float* bias, const float* dout, double eps, int C) {
    double mean = 0, variance = 0, sum = 0, sum_norm = 0;
    for (int c = 0; c < C; c++) { mean += x[c] / (double)C; }
    for (int c = 0; c < C; c++) { variance += (x[c] - mean) * (x[c] - mean) / C; }
    double rstd = 1 / sqrt(variance + eps);
    for (int c = 0; c < C; c++) {
        double norm = (x[c] - mean) * rstd, dnorm = (double)dout[c] * weight[c];
        out[c] = norm * weight[c] + bias[c];
        dweight[c] += dout[c] * norm;
        dbias[c] += dout[c];
        sum += dnorm / C;
        sum_norm += dnorm * norm / C;
    }
    for (int c = 0; c < C; c++) {
        dx[c] += rstd * ((double)dout[c] * weight[c] - sum - (x[c] - mean) * rstd * sum_norm);
    }
}

static void check_layernorm(int rows, int C, float offset, float eps) {
    size_t n = (size_t)rows * C, S = layernorm_scratch(rows, C);
    float *inp = random_floats(n, 1), *dout = random_floats(n, 2), *weight = random_floats(C, 3);
    float *bias = random_floats(C, 4), *dinp = random_floats(n, 5), *dweight = random_floats(C, 6);
    float *dbias = random_floats(C, 7), *scratch = guarded_floats(S);
    float *out = guarded_floats(n), *mean = guarded_floats(rows), *rstd = guarded_floats(rows);
    double *want = zero_doubles(n), *dx = zero_doubles(n), *dw = zero_doubles(C), *db = zero_doubles(C);
    for (size_t i = 0; i < n; i++) { inp[i] += offset; dx[i] = dinp[i]; }
    for (int c = 0; c < C; c++) { dw[c] = dweight[c]; db[c] = dbias[c]; }
    for (int r = 0; r < rows; r++) {
        size_t at = (size_t)r * C;
        oracle_layernorm(want + at, dx + at, dw, db, inp + at, weight, bias, dout + at, eps, C);
    }
    layernorm_forward(out, mean, rstd, inp, weight, bias, eps, rows, C);
    layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, scratch, rows, C);
    double limit = 1e-6 + fabs(offset) * 2e-7; // the mean's rounding grows with the offset
    CHECK_TENSOR(out, want, n, limit, "layernorm (observed 2e-7, with an offset of 100 6e-6)");
    CHECK_TENSOR(dinp, dx, n, limit, "layernorm dinp (observed 2e-7, with offset 1.8e-6)");
    CHECK_TENSOR(dweight, dw, C, limit, "layernorm dweight (observed 2e-7, with offset 8e-6)");
    CHECK_TENSOR(dbias, db, C, limit, "layernorm dbias (observed 2e-7)");
    CHECK(all_numbers(out, n) && all_numbers(dinp, n) && all_numbers(dweight, C) && all_numbers(dbias, C), "finite");
    CHECK(guards_intact(out, n) && guards_intact(mean, rows) && guards_intact(rstd, rows) && guards_intact(dinp, n)
          && guards_intact(dweight, C) && guards_intact(dbias, C) && guards_intact(scratch, S), "layernorm: sentinels");
    float* all[] = {inp, dout, weight, bias, out, mean, rstd, dinp, dweight, dbias, scratch};
    for (int i = 0; i < 11; i++) { free(all[i]); }
    free(want); free(dx); free(dw); free(db);
}

// The oracle's dx against central differences of its own out
static void check_layernorm_oracle(void) {
    enum { C = 7 };
    float x[C], weight[C], bias[C], dout[C];
    double out[C], dx[C] = {0}, unused[C], dw[C] = {0}, db[C] = {0}, h = 1e-3;
    fill_normal(x, C, 1); fill_normal(weight, C, 2); fill_normal(bias, C, 3); fill_normal(dout, C, 4);
    oracle_layernorm(out, dx, dw, db, x, weight, bias, dout, LAYERNORM_EPS, C);
    for (int i = 0; i < C; i++) {
        double loss[2], kept = x[i], at[2];
        for (int side = 0; side < 2; side++) {
            x[i] = (float)(kept + (side ? h : -h));
            at[side] = x[i];
            oracle_layernorm(out, unused, dw, db, x, weight, bias, dout, LAYERNORM_EPS, C);
            loss[side] = 0;
            for (int c = 0; c < C; c++) { loss[side] += dout[c] * out[c]; }
        }
        x[i] = (float)kept;
        CHECK_NEAR(dx[i], (loss[1] - loss[0]) / (at[1] - at[0]), 1e-5, "layernorm by differences (observed 6e-7)");
    }
}

static void test_layernorm(void) {
    int shapes[][2] = {{1, 24}, {17, 40}, {65, 24}, {131, 192}, {3, 5}}; // rows, C
    for (int i = 0; i < 5; i++) { check_layernorm(shapes[i][0], shapes[i][1], 0, LAYERNORM_EPS); }
    check_layernorm(33, 40, 0, 0.25f);
    check_layernorm(17, 40, 100, LAYERNORM_EPS); // a one-pass variance would lose its digits here
    check_layernorm_oracle();
}

// ---- Patch embedding

// out[b][n] = (cls_token or weight . patch + bias) + pos_embed[n], and the gradients of Σ dout out
static void oracle_patch_embed(double* out, double* dweight, double* dbias, double* dcls, double* dpos,
                               const float* images, const float* weight, const float* bias, const float* cls,
                               const float* pos, const float* dout, int B, int S, int P, int C) {
    int side = S / P, prefix = cls ? 1 : 0, N = side * side + prefix;
    for (int i = 0; i < B * N * C; i++) {
        int b = i / (N * C), n = i / C % N, c = i % C, t = n - prefix;
        out[i] = pos[n * C + c] + (n < prefix ? cls[c] : bias[c]);
        dpos[n * C + c] += dout[i];
        if (n < prefix) { dcls[c] += dout[i]; continue; }
        dbias[c] += dout[i];
        for (int k = 0; k < 3 * P * P; k++) {
            int channel = k / (P * P), y = t / side * P + k / P % P, x = t % side * P + k % P;
            double pixel = images[((b * 3 + channel) * S + y) * S + x];
            out[i] += weight[c * 3 * P * P + k] * pixel;
            dweight[c * 3 * P * P + k] += dout[i] * pixel;
        }
    }
}

static void check_patch_embed(int B, int S, int P, int C, int has_cls) {
    int T = S / P * (S / P), N = T + has_cls, K = 3 * P * P;
    size_t n = (size_t)B * N * C, scratch_size = patch_embed_scratch(B, S, P, C);
    float *images = random_floats(B * 3 * S * S, 1), *weight = random_floats(C * K, 2), *bias = random_floats(C, 3);
    float *cls = has_cls ? random_floats(C, 4) : NULL, *pos = random_floats(N * C, 5), *dout = random_floats(n, 6);
    float *out = guarded_floats(n), *patches = guarded_floats(B * T * K), *scratch = guarded_floats(scratch_size);
    float *dweight = guarded_floats(C * K), *dbias = guarded_floats(C), *dpos = guarded_floats(N * C);
    float* dcls = has_cls ? guarded_floats(C) : NULL;
    double *want = zero_doubles(n), *dw = zero_doubles(C * K), *db = zero_doubles(C);
    double *dc = zero_doubles(C), *dp = zero_doubles(N * C);
    oracle_patch_embed(want, dw, db, dc, dp, images, weight, bias, cls, pos, dout, B, S, P, C);
    for (int c = 0; c < C; c++) { db[c] += 2; dbias[c] = 2; dw[c] += 2; dweight[c] = 2; dp[c] += 2; dpos[c] = 2; } // +=
    patch_embed_forward(out, patches, images, weight, bias, cls, pos, scratch, B, S, P, C);
    patch_embed_backward(dweight, dbias, dcls, dpos, dout, patches, scratch, B, S, P, C);
    CHECK_TENSOR(out, want, n, 2e-6, "patch embedding (observed 4e-7)");
    CHECK_TENSOR(dweight, dw, C * K, 2e-6, "patch embedding dweight (observed 4e-7)");
    CHECK_TENSOR(dbias, db, C, 2e-6, "patch embedding dbias (observed 5e-7)");
    CHECK_TENSOR(dpos, dp, N * C, 1e-6, "patch embedding dpos_embed (observed 1.2e-7)");
    if (has_cls) { CHECK_TENSOR(dcls, dc, C, 1e-6, "patch embedding dcls_token (observed 7e-8)"); }
    CHECK(all_numbers(out, n) && all_numbers(dweight, C * K) && all_numbers(dpos, N * C), "patch embedding: finite");
    CHECK(guards_intact(out, n) && guards_intact(patches, B * T * K) && guards_intact(scratch, scratch_size)
          && guards_intact(dweight, C * K) && guards_intact(dbias, C) && guards_intact(dpos, N * C)
          && (!has_cls || guards_intact(dcls, C)), "patch embedding: sentinels");
    float* all[] = {images, weight, bias, cls, pos, dout, out, patches, scratch, dweight, dbias, dpos, dcls};
    for (int i = 0; i < 13; i++) { free(all[i]); }
    free(want); free(dw); free(db); free(dc); free(dp);
}

static void test_patch_embed(void) {
    check_patch_embed(1, 8, 4, 24, 1); // N = 5
    check_patch_embed(3, 8, 4, 24, 0);
    check_patch_embed(3, 12, 4, 40, 1);
    check_patch_embed(2, 28, 7, 13, 1); // N = 17
    check_patch_embed(9, 32, 4, 17, 1); // 576 rows: more than one chunk of the weight's gradient
}

// ---- Residual, drop path, LayerScale

static void check_residual(int B, int N, int C, int scaled, int dropped) {
    size_t n = (size_t)B * N * C, S = residual_scratch(B, N, C);
    float *x = random_floats(n, 1), *branch = random_floats(n, 2), *dout = random_floats(n, 3);
    float *scale = random_floats(C, 4), *dscale = random_floats(C, 5);
    float *out = guarded_floats(n), *dbranch = guarded_floats(n), *scratch = guarded_floats(S);
    float keep[] = {1.25f, 0, 1.25f};
    double *want = zero_doubles(n), *db = zero_doubles(n), *ds = zero_doubles(C);
    for (int c = 0; c < C; c++) { ds[c] = dscale[c]; }
    for (size_t i = 0; i < n; i++) {
        double k = dropped ? keep[i / ((size_t)N * C)] : 1, s = scaled ? scale[i % C] : 1;
        want[i] = x[i] + k * s * branch[i];
        db[i] = k * s * dout[i];
        if (scaled) { ds[i % C] += k * branch[i] * dout[i]; }
    }
    const float *layer_scale = scaled ? scale : NULL, *kept = dropped ? keep : NULL;
    residual_forward(out, x, branch, layer_scale, kept, B, N, C);
    residual_backward(dbranch, scaled ? dscale : NULL, dout, scaled ? branch : NULL, layer_scale, kept,
                      scaled ? scratch : NULL, B, N, C);
    CHECK_TENSOR(out, want, n, 2e-7, "residual (observed 6e-8)");
    CHECK_TENSOR(dbranch, db, n, 2e-7, "residual dbranch (observed 7e-8)");
    CHECK_TENSOR(dscale, ds, C, 2e-6, "residual dlayer_scale (observed 2e-7)");
    CHECK(all_numbers(out, n) && all_numbers(dbranch, n) && all_numbers(dscale, C), "residual: finite");
    CHECK(guards_intact(out, n) && guards_intact(dbranch, n) && guards_intact(dscale, C) && guards_intact(scratch, S),
          "residual: sentinels");
    residual_forward(x, x, branch, layer_scale, kept, B, N, C);
    residual_backward(dout, dscale, dout, branch, layer_scale, kept, scratch, B, N, C);
    CHECK(!memcmp(x, out, n * sizeof *x) && !memcmp(dout, dbranch, n * sizeof *x), "residual in place");
    float* all[] = {x, branch, dout, scale, out, dbranch, dscale, scratch};
    for (int i = 0; i < 8; i++) { free(all[i]); }
    free(want); free(db); free(ds);
}

static void test_residual(void) {
    for (int option = 0; option < 4; option++) {
        check_residual(1, 5, 24, option & 1, option >> 1);
        check_residual(3, 17, 40, option & 1, option >> 1);
        check_residual(3, 65, 7, option & 1, option >> 1);
    }
}

// x = [class token; registers; tokens]; their gradients come back, those of the tokens in front summed over the images
static void check_prefix(int has_cls, int registers) {
    enum { B = 3, T = 5, C = 7 };
    int P = has_cls + registers, N = T + P;
    size_t n = (size_t)B * N * C, R = (size_t)registers * C;
    float *tokens = random_floats(B * T * C, 1), *cls = random_floats(C, 2), *reg = random_floats(R, 3);
    float *dx = random_floats(n, 4), *x = guarded_floats(n), *dtokens = guarded_floats(B * T * C);
    float *dcls = guarded_floats(C), *dreg = guarded_floats(R);
    int wrong = 0;
    prefix_forward(x, tokens, has_cls ? cls : NULL, registers ? reg : NULL, B, N, P, C);
    for (int c = 0; c < C; c++) { dcls[c] = 2; } // +=
    prefix_backward(dtokens, has_cls ? dcls : NULL, registers ? dreg : NULL, dx, B, N, P, C);
    for (int i = 0; i < B * N * C; i++) {
        int b = i / (N * C), n = i / C % N, c = i % C, at = (b * T + n - P) * C + c;
        float want = n < has_cls ? cls[c] : n < P ? reg[(n - has_cls) * C + c] : tokens[at];
        wrong += x[i] != want || (n >= P && dtokens[at] != dx[i]);
    }
    for (int c = 0; c < P * C; c++) {
        double sum = c < has_cls * C ? 2 : 0;
        for (int b = 0; b < B; b++) { sum += dx[(size_t)b * N * C + c]; }
        wrong += !(fabs(sum - (c < has_cls * C ? dcls[c] : dreg[c - has_cls * C])) < 1e-6);
    }
    CHECK(wrong == 0, "prefix of %d and %d: %d wrong", has_cls, registers, wrong);
    CHECK(guards_intact(x, n) && guards_intact(dtokens, B * T * C) && guards_intact(dcls, C) && guards_intact(dreg, R),
          "prefix: sentinels");
    float* all[] = {tokens, cls, reg, dx, x, dtokens, dcls, dreg};
    for (int i = 0; i < 8; i++) { free(all[i]); }
}

static void check_pool(int average, int has_cls) {
    enum { B = 3, N = 5, C = 7 };
    float x[B * N * C], dout[B * C], *out = guarded_floats(B * C), *dx = guarded_floats(B * N * C);
    double want[B * C] = {0}, dwant[B * N * C] = {0};
    int first = average && has_cls ? 1 : 0, last = average ? N : 1;
    fill_normal(x, B * N * C, 1);
    fill_normal(dout, B * C, 2);
    for (int i = 0; i < B * N * C; i++) {
        int b = i / (N * C), n = i / C % N, c = i % C;
        if (n < first || n >= last) { continue; }
        want[b * C + c] += x[i] / (double)(last - first);
        dwant[i] = dout[b * C + c] / (double)(last - first);
    }
    memset(dx, 0xff, B * N * C * sizeof *dx); // NaN: the whole tensor is to be written
    pool_forward(out, x, average, has_cls, B, N, C);
    pool_backward(dx, dout, average, has_cls, B, N, C);
    CHECK_TENSOR(out, want, B * C, 3e-7, "pool (observed 5e-8)");
    CHECK_TENSOR(dx, dwant, B * N * C, 3e-7, "dpool (observed 3e-8)");
    CHECK(all_numbers(out, B * C) && all_numbers(dx, B * N * C), "pool: finite");
    CHECK(guards_intact(out, B * C) && guards_intact(dx, B * N * C), "pool: sentinels");
    free(out); free(dx);
}

// ---- Cross entropy

static double oracle_cross_entropy(const double* logits, const float* targets, int K) {
    double sum = 0, loss = 0;
    for (int k = 0; k < K; k++) { sum += exp(logits[k]); }
    for (int k = 0; k < K; k++) { loss -= targets[k] * (logits[k] - log(sum)); }
    return loss;
}

static void check_cross_entropy(int B, int K, float total) {
    size_t n = (size_t)B * K;
    float *logits = random_floats(n, 1), *targets = guarded_floats(n), *losses = guarded_floats(B);
    float *probs = guarded_floats(n), *dlogits = guarded_floats(n);
    double *want = zero_doubles(B), *dwant = zero_doubles(n), *z = zero_doubles(K), h = 1e-5;
    for (int b = 0; b < B; b++) { // a mix of two labels, smoothed
        for (int k = 0; k < K; k++) { targets[b * K + k] = 0.1f * total / K; }
        targets[b * K + b % K] += 0.6f * total;
        targets[b * K + (b + 3) % K] += 0.3f * total;
    }
    for (size_t i = 0; i < n; i++) {
        const float* row = logits + i / K * K;
        for (int k = 0; k < K; k++) { z[k] = row[k]; }
        want[i / K] = oracle_cross_entropy(z, targets + i / K * K, K);
        z[i % K] += h;
        double high = oracle_cross_entropy(z, targets + i / K * K, K);
        z[i % K] -= 2 * h;
        dwant[i] = (high - oracle_cross_entropy(z, targets + i / K * K, K)) / (2 * h) / B;
    }
    cross_entropy_forward(losses, probs, logits, targets, B, K);
    cross_entropy_backward(dlogits, probs, targets, 1.0f / B, B, K);
    CHECK_TENSOR(losses, want, B, 1e-6, "cross entropy (observed 4e-8)");
    CHECK_TENSOR(dlogits, dwant, n, 1e-6, "cross entropy dlogits, by differences (observed 1e-7)");
    CHECK(all_numbers(losses, B) && all_numbers(dlogits, n), "cross entropy: finite");
    CHECK(guards_intact(losses, B) && guards_intact(probs, n) && guards_intact(dlogits, n), "cross entropy: sentinels");
    free(logits); free(targets); free(losses); free(probs); free(dlogits); free(want); free(dwant); free(z);
}

static void test_cross_entropy(void) {
    check_cross_entropy(1, 2, 1);
    check_cross_entropy(5, 10, 1);
    check_cross_entropy(3, 101, 1);
    check_cross_entropy(4, 10, 0.5f);
    float far[] = {1000, -1000, 999, NAN, 0, 1}, targets[] = {0, 1, 0, 1, 0, 0}, losses[2], probs[6];
    cross_entropy_forward(losses, probs, far, targets, 2, 3);
    CHECK_NEAR(losses[0], 2000.3132616875, 2e-4, "cross entropy of far logits (observed 2.9e-5, half a bit)");
    CHECK(isnan(losses[1]) && isnan(probs[4]), "a NaN logit gives a NaN loss");
    far[3] = 1; far[4] = NAN;
    cross_entropy_forward(losses, probs, far, targets, 2, 3);
    CHECK(isnan(losses[1]), "a NaN logit after the first gives a NaN loss");
}

static void test_rank(void) {
    float logits[] = {1, 3, 3, 2}, bad[] = {NAN, 1, 2}, equal[] = {0, 0, 0};
    int want[] = {3, 0, 1, 2};
    for (int k = 0; k < 4; k++) { CHECK(rank_of_label(logits, 4, k) == want[k], "rank of label %d", k); }
    CHECK(rank_of_label(bad, 3, 0) == 3, "a label whose logit is NaN comes last");
    CHECK(rank_of_label(bad, 3, 2) == 1, "another class's NaN comes before");
    CHECK(rank_of_label(equal, 3, 0) == 0 && rank_of_label(equal, 3, 2) == 2, "ties by index");
}

// ---- The same bits for any number of threads

static void test_threads(void) {
    enum { B = 3, S = 32, P = 4, N = 65, C = 40, K = 3 * P * P, ROWS = B * N, COUNT = ROWS * C };
    float *images = random_floats(B * 3 * S * S, 1), *weight = random_floats(C * K, 2), *bias = random_floats(C, 3);
    float *pos = random_floats(N * C, 4), *dout = random_floats(COUNT, 5), *patches = guarded_floats((N - 1) * B * K);
    float* scratch = alloc_floats(patch_embed_scratch(B, S, P, C) + layernorm_scratch(ROWS, C) + prelu_scratch(COUNT),
                                  "scratch");
    float *x = guarded_floats(COUNT), *y = guarded_floats(COUNT), *dx = guarded_floats(COUNT);
    float *mean = guarded_floats(ROWS), *rstd = guarded_floats(ROWS), *results[3];
    enum { LENGTH = 3 * COUNT + C * K + N * C + 5 * C + 1 };
    for (int threads = 1; threads <= 3; threads++) {
        float* r = results[threads - 1] = guarded_floats(LENGTH);
        float *dweight = r + 3 * COUNT, *dpos = dweight + C * K, *dbias = dpos + N * C; // then 5 C + 1 more
        use_threads(threads);
        patch_embed_forward(x, patches, images, weight, bias, bias, pos, scratch, B, S, P, C);
        layernorm_forward(y, mean, rstd, x, weight, bias, LAYERNORM_EPS, ROWS, C);
        activation_forward(r, y, ACTIVATION_GELU, COUNT);
        residual_forward(r + COUNT, x, r, weight, NULL, B, N, C);
        residual_backward(dx, dbias + C, dout, r, weight, NULL, scratch, B, N, C);
        activation_backward(dx, dx, y, ACTIVATION_GELU, COUNT);
        prelu_backward(dx, dbias + 5 * C, dx, y, weight, scratch, COUNT);
        memcpy(r + 2 * COUNT, dout, COUNT * sizeof *dout);
        layernorm_backward(r + 2 * COUNT, dbias + 2 * C, dbias + 3 * C, dx, x, weight, mean, rstd, scratch, ROWS, C);
        patch_embed_backward(dweight, dbias, dbias + 4 * C, dpos, r + 2 * COUNT, patches, scratch, B, S, P, C);
        CHECK(all_numbers(r, LENGTH), "finite with %d threads", threads);
        CHECK(!memcmp(r, results[0], LENGTH * sizeof *r), "the same bits with %d threads", threads);
    }
    float* all[] = {images, weight, bias, pos, dout, patches, scratch, x, y, dx, mean, rstd,
                    results[0], results[1], results[2]};
    for (int i = 0; i < 15; i++) { free(all[i]); }
}

int main(void) {
    test_activations();
    test_layernorm();
    test_patch_embed();
    test_residual();
    for (int option = 0; option < 4; option++) { check_pool(option & 1, option >> 1); }
    for (int option = 1; option < 4; option++) { check_prefix(option & 1, option & 2); }
    test_cross_entropy();
    test_rank();
    test_threads();
    return tests_finish();
}
