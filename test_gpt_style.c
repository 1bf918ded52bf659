// The whole model, tested from inside, in the manner of llm.c's test_gpt2.c: this file includes the trainer. It needs
// no file and no network. What it checks: the parameter and operation counts of the papers; the forward against a plain
// form in double precision; every gradient by differences, for every combination of attention, MLP and mode at odd
// sizes; the last block for the class token alone against all tokens; that one batch can be learned; that saving and
// loading continues with equal losses; that threads do not change a bit; and what the command line refuses. -DREDUCED
// leaves out the slow half and checks each gradient along one direction, not three (for sanitizers).
#pragma GCC diagnostic ignored "-Wunused-function" // what only main calls
#define TESTING
#ifdef REDUCED
#define GRADCHECK_DIRECTIONS 1
#endif
#include "train_vit.c"
#include "dev/test/model_test.h"
#include "dev/test/plain_activations.h"
#include "dev/test/plain_attention.h"

#ifdef REDUCED
enum { REDUCED_SUITE = 1 };
#else
enum { REDUCED_SUITE = 0 };
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Counts that the papers print

static size_t parameters_of(const char* model, int classes) {
    char flags[64];
    Model m;
    Error err;
    snprintf(flags, sizeof flags, "--model %s", model);
    Config c = config_from(flags);
    size_t count = model_plan(&m, &c, classes, c.batch_size, &err) ? m.table.count : 0;
    model_free(&m);
    return count;
}

static void test_parameter_counts(void) {
    static const struct { const char* model; int classes; size_t count; } rows[] = {
        {"vit-tiny", 1000, 5717416}, {"vit-small", 1000, 22050664}, {"vit-base", 1000, 86567656},
        {"vit-tiny", 10, 5526346}, {"vit-small", 10, 21669514}, {"vit-base", 10, 85806346},
        {"kat-tiny", 1000, 5718328}, {"kat-small", 1000, 22051576}, {"kat-base", 1000, 86568568},
        {"vit-tiny-g3b", 10, 6292282}, {"vit-small-g3b", 1000, 23582536}, {"vit-base-g1b", 10, 87508426},
        // 12.8M, 50.4M, 199.8M
        {"kan-tiny", 1000, 12790696}, {"kan-small", 1000, 50353000}, {"kan-base", 1000, 199795432},
        {"vit-tiny-g3u", 10, 5590174}, {"vit-small-g3u", 1000, 22178320}, {"vit-base-g1u", 10, 85948186},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t got = parameters_of(rows[i].model, rows[i].classes);
        CHECK(got == rows[i].count, "%s with %d classes has %zu parameters, the papers %zu", rows[i].model,
              rows[i].classes, got, rows[i].count);
    }
}

// Tensors of the variants, by their definition: what each has more than softmax attention. N = 17, 4 of 5 heads KArAt.
static void test_variant_counts(void) {
    enum { N = 17, C = 40, H = 5, HK = 4, R = 3, M = 6, L = 2, UNITS = HK * R * N, FULL = HK * N * N };
    static const struct { const char* flags; long more; } rows[] = {
        {"--attn sigmoid", 0}, {"--attn relu", 0}, {"--attn polynomial", 0}, {"--attn linear", 0},
        {"--attn mixing", (long)L * H * N * N}, {"--attn softmax-rank", (long)L * 2 * H * R * N},
        {"--attn softmax --attn-gate", (long)L * H * C},
        {"--attn karat --softmax-heads 1", (long)L * UNITS * (M + 2 + 1)},
        {"--attn karat --softmax-heads 1 --karat-mode universal", (long)UNITS * (M + 2 + 1)},
        {"--attn karat --softmax-heads 1 --karat-order phi-w --karat-bias block", L * ((long)UNITS * (M + 2 + 1) + N)},
        {"--attn karat --softmax-heads 1 --karat-order phi-phi", (long)L * UNITS * 2 * (M + 2)},
        {"--attn karat --softmax-heads 1 --karat-full on", (long)L * FULL * (M + 2)},
        {"--attn karat --softmax-heads 1 --karat-full on --karat-scales off", (long)L * FULL * M},
    };
    static const char sizes[] = "--image-size 8 --patch 2 --dim 40 --heads 5 --depth 2 --karat-rank 3 --mlp gelu";
    static Model softmax, variant;
    Error err;
    char flags[512];
    snprintf(flags, sizeof flags, "%s --attn softmax", sizes);
    Config c = config_from(flags);
    model_plan(&softmax, &c, 10, c.batch_size, &err);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        snprintf(flags, sizeof flags, "%s %s", sizes, rows[i].flags);
        c = config_from(flags);
        model_plan(&variant, &c, 10, c.batch_size, &err);
        long more = (long)(variant.table.count - softmax.table.count);
        CHECK(more == rows[i].more, "%s: %ld parameters more than softmax, not %ld", rows[i].flags, more, rows[i].more);
        model_free(&variant);
    }
    model_free(&softmax);
}

static void test_operation_counts(void) {
    static const struct { const char* flags; double gmac; } rows[] = {
        {"--model vit-tiny", 1.2537}, {"--model vit-small", 4.5989}, {"--model vit-base", 17.5638},
        {"--model convit-tiny", 1.2478}, {"--model swin-tiny", 4.4906}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Config c = config_from(rows[i].flags);
        Dims d = dims_of(&c, 1000);
        d.NQ = d.N; // the papers count the last block for all tokens
        CHECK_NEAR(1e-9 * model_macs(&c, d), rows[i].gmac, 5e-5, rows[i].flags);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The forward once more, plainly, in double, with sigma materialised

typedef double (*Unit)(double);

static void plain_layernorm(double* out, const double* x, const float* weight, const float* bias, int C) {
    double mean = 0, variance = 0;
    for (int c = 0; c < C; c++) { mean += x[c] / C; }
    for (int c = 0; c < C; c++) { variance += (x[c] - mean) * (x[c] - mean) / C; }
    for (int c = 0; c < C; c++) { out[c] = (x[c] - mean) / sqrt(variance + 1e-6) * weight[c] + bias[c]; }
}

static void plain_linear(double* out, const double* x, const float* weight, const float* bias, int C, int OC) {
    for (int o = 0; o < OC; o++) {
        out[o] = bias ? bias[o] : 0;
        for (int c = 0; c < C; c++) { out[o] += x[c] * weight[o * C + c]; }
    }
}

static double plain_rational(double x, const float* a, const float* b, RationalShape s) {
    double numerator = 0, sum = 0;
    for (int i = 0; i <= s.m; i++) { numerator += a[i] * pow(x, i); }
    for (int j = 1; j <= s.n; j++) {
        sum += s.form == RATIONAL_FORM_A ? fabs((double)b[j - 1]) * pow(fabs(x), j) : b[j - 1] * pow(x, j);
    }
    return numerator / (1 + fabs(sum));
}

static double plain_hidden(double x, int mlp, Params p, const float* denominator, RationalShape shape) {
    if (mlp < ACTIVATION_COUNT) { return plain_activation((ActivationKind)mlp, x); }
    return mlp == MLP_PRELU ? (x > 0 ? x : *p.prelu_weight * x) : plain_rational(x, p.numerator2, denominator, shape);
}

// A KAN layer: SiLU and splines on every edge
static void plain_kan(double* out, const double* x, const float* weight, const float* spline, const float* bias, int C,
                      int OC, Basis basis) {
    int M = basis_coefficients(basis);
    for (int o = 0; o < OC; o++) {
        out[o] = bias[o];
        for (int i = 0; i < C; i++) {
            size_t edge = (size_t)o * C + i;
            double theta[MAX_COEFFICIENTS] = {0};
            for (int k = 0; k < M; k++) { theta[k] = spline[edge * M + k]; }
            out[o] += weight[edge] * plain_base(x[i], KARAT_BASE_SILU) + plain_phi(basis, theta, x[i], 0, 1);
        }
    }
}

static void plain_kan_mlp(double* out, const double* inp, const Model* m, Params p) {
    int C = m->dims.C, F = m->dims.F;
    double* hidden = malloc(sizeof(double) * F);
    plain_kan(hidden, inp, p.fc1_weight, p.fc1_spline, p.fc1_bias, C, F, kan_basis(&m->config));
    plain_kan(out, hidden, p.fc2_weight, p.fc2_spline, p.fc2_bias, F, C, kan_basis(&m->config));
    free(hidden);
}

static void plain_mlp(double* out, const double* inp, const Model* m, Params p) {
    int C = m->dims.C, F = m->dims.F, groups = m->config.rational_groups, n = m->config.rational_n;
    RationalShape shape = rational_shape(&m->config);
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    double *x = calloc(C, sizeof(double)), *hidden = malloc(sizeof(double) * F);
    for (int c = 0; c < C; c++) {
        x[c] = gr_kan ? plain_rational(inp[c], p.numerator1, p.denominator1 + c / (C / groups) * n, shape) : inp[c];
    }
    plain_linear(hidden, x, p.fc1_weight, p.fc1_bias, C, F);
    for (int f = 0; f < F; f++) {
        const float* denominator = p.denominator2 + (gr_kan ? f / (F / groups) * n : 0);
        hidden[f] = plain_hidden(hidden[f], m->config.mlp, p, denominator, shape);
    }
    plain_linear(out, hidden, p.fc2_weight, p.fc2_bias, F, C);
    free(x);
    free(hidden);
}

static void plain_embed(double* x /* (N,C) */, const float* image, const Model* m, Params p) {
    int N = m->dims.N, C = m->dims.C, S = m->dims.S, P = m->dims.P, first = p.cls_token ? 1 : 0;
    for (int n = 0; n < N; n++) {
        for (int c = 0; c < C; c++) {
            double sum = p.pos_embed[n * C + c];
            int row = (n - first) / (S / P) * P, col = (n - first) % (S / P) * P;
            sum += n < first ? p.cls_token[c] : p.patch_bias[c];
            for (int i = 0; n >= first && i < 3 * P * P; i++) {
                int channel = i / (P * P), image_row = row + i / P % P, image_col = col + i % P;
                sum += p.patch_weight[c * 3 * P * P + i] * image[channel * S * S + image_row * S + image_col];
            }
            x[n * C + c] = sum;
        }
    }
}

// out (N,C), each head by the sigmoid of its gate (N,H)
static void plain_gate(double* out, const double* gate, int N, int C, int H) {
    for (int i = 0; i < N * C; i++) { out[i] /= 1 + exp(-gate[i / (C / H)]); }
}

// Adds ls * branch to x
static void plain_add(double* x, const double* branch, const float* ls, int N, int C) {
    for (int i = 0; i < N * C; i++) { x[i] += (ls ? ls[i % C] : 1) * branch[i]; }
}

static void plain_logits(double* logits /* (K) */, const float* image, const Model* m) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H;
    size_t bytes = sizeof(double) * (size_t)N * C;
    double *x = malloc(bytes), *norm = malloc(bytes), *branch = malloc(bytes), *qkv = malloc(3 * bytes);
    double *pooled = calloc(C, sizeof(double)), *gate = malloc(bytes);
    Params p = params_of(&m->table, m->params);
    plain_embed(x, image, m, p);
    for (int l = 0; l < m->dims.L; l++) {
        p = params_of_block(&m->table, m->params, l);
        for (int n = 0; n < N; n++) {
            plain_layernorm(norm, x + n * C, p.norm1_weight, p.norm1_bias, C);
            plain_linear(qkv + n * 3 * C, norm, p.qkv_weight, p.qkv_bias, C, 3 * C);
            if (p.gate_weight) { plain_linear(gate + n * H, norm, p.gate_weight, NULL, C, H); }
        }
        plain_attention(norm, qkv, m, p);
        if (p.gate_weight) { plain_gate(norm, gate, N, C, H); }
        for (int n = 0; n < N; n++) { plain_linear(branch + n * C, norm + n * C, p.proj_weight, p.proj_bias, C, C); }
        plain_add(x, branch, p.ls1, N, C);
        for (int n = 0; n < N; n++) {
            plain_layernorm(norm, x + n * C, p.norm2_weight, p.norm2_bias, C);
            (m->config.mlp == MLP_KAN ? plain_kan_mlp : plain_mlp)(branch + n * C, norm, m, p);
        }
        plain_add(x, branch, p.ls2, N, C);
    }
    int pooled_tokens = m->config.pool == POOL_AVG ? N : 1;
    for (int n = 0; n < pooled_tokens; n++) {
        plain_layernorm(norm, x + n * C, p.norm_weight, p.norm_bias, C);
        for (int c = 0; c < C; c++) { pooled[c] += norm[c] / pooled_tokens; }
    }
    plain_linear(logits, pooled, p.head_weight, p.head_bias, C, m->dims.K);
    free(x);
    free(norm);
    free(branch);
    free(qkv);
    free(pooled);
    free(gate);
}

static void test_forward(const char* flags) {
    Model m;
    build_model(&m, flags, 7);
    gradcheck_move(m.params, m.tensors, m.tensor_count, 3);
    int B = m.B - 1, S = m.dims.S, K = m.dims.K; // a short batch
    Batch batch = random_batch(&m, B);
    double* want = malloc(sizeof(double) * (size_t)B * K);
    model_forward(&m, m.params, batch.images, B, NULL);
    for (int b = 0; b < B; b++) { plain_logits(want + b * K, batch.images + (size_t)b * 3 * S * S, &m); }
    const float* logits = acts_of_block(&m.acts_table, m.acts, 0).logits;
    CHECK_TENSOR(logits, want, (size_t)B * K, 1e-4, flags); // observed: at most 2e-5
    free(want);
    drop_batch(&batch);
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// Gradients

static long gradients_passed, gradients_at_kinks; // directions, over the whole suite

static void test_gradients(const char* flags) {
    Model m;
    build_model(&m, flags, 5);
    gradcheck_move(m.params, m.tensors, m.tensor_count, 5);
    Batch batch = random_batch(&m, m.B - 1);
    CheckedLoss checked = {&m, &batch};
    loss_of_params(&checked);
    model_backward(&m, batch.targets, batch.count, NULL, 1.0f / (float)batch.count);
    GradcheckResult r = gradcheck_run(loss_of_params, &checked, m.params, m.grads, m.tensors, m.tensor_count, 11,
                                      false);
    CHECK(r.failed == 0, "gradients of %s: %d of %d failed", flags, r.failed, r.passed + r.failed);
    CHECK(r.kinks * 10 <= r.passed, "gradients of %s: %d of %d at kinks", flags, r.kinks, r.passed + r.kinks);
    gradients_passed += r.passed;
    gradients_at_kinks += r.kinks;
    drop_batch(&batch);
    model_free(&m);
}

// Loss and gradients of the first batch, with drop path where the flags have it
static double loss_and_gradients(Model* m, const Batch* batch) {
    gradcheck_move(m->params, m->tensors, m->tensor_count, 5);
    if (m->keep) { draw_drop_path(m, 5); }
    model_forward(m, m->params, batch->images, batch->count, m->keep);
    double loss = model_loss(m, batch->targets, batch->count);
    model_backward(m, batch->targets, batch->count, m->keep, 1.0f / (float)batch->count);
    return loss;
}

// The gradients of a step are those of its micro-batches, added as runtime/tree.h has it: of three (g0 + g1) + g2.
static void test_micro_batches(void) {
    Model m;
    float* single[3];
    build_model(&m, "--model kat-mini-g3b --image-size 16 --dim 24 --depth 2 --batch-size 4 --grad-accum-steps 3", 5);
    gradcheck_move(m.params, m.tensors, m.tensor_count, 5);
    size_t total = m.table.total, wrong = 0;
    Batch batch = random_batch(&m, 4);
    double losses = 0;
    for (int i = 0; i < 3; i++) {
        batch.count = 4 - i; // another micro-batch
        model_zero_gradients(&m);
        model_gradients(&m, &batch, NULL, 0.1f);
        losses += model_step_sums(&m).loss;
        single[i] = alloc_floats(total, "test");
        memcpy(single[i], m.grads, total * sizeof(float));
    }
    model_zero_gradients(&m);
    for (int i = 0; i < 3; i++) {
        batch.count = 4 - i;
        model_gradients(&m, &batch, NULL, 0.1f);
    }
    model_update(&m, 0, 1);
    for (size_t i = 0; i < total; i++) { wrong += m.grads[i] != (single[0][i] + single[1][i]) + single[2][i]; }
    CHECK(wrong == 0, "%zu of %zu gradients are not the tree's sums", wrong, total);
    StepSums sums = model_step_sums(&m);
    CHECK(sums.loss == losses && sums.norm > 0, "losses %.17g, want %.17g; norm %g", sums.loss, losses, sums.norm);
    for (int i = 0; i < 3; i++) { free(single[i]); }
    drop_batch(&batch);
    model_free(&m);
}

// The last block for the class token alone is the same function as for all tokens, with the same gradients.
static void test_last_block(const char* flags) {
    Model whole, m;
    build_whole_model(&whole, flags, 5);
    build_model(&m, flags, 5);
    Batch batch = random_batch(&m, m.B - 1);
    double want = loss_and_gradients(&whole, &batch), got = loss_and_gradients(&m, &batch);
    // A library that adds fewer rows in another order may move an operand to the next bf16. Observed: 1.8e-6, and
    // 1.7e-3
    bool bf16 = m.config.precision == PRECISION_BF16;
    double limit = bf16 ? 0x1p-8 : 1e-5;
    CHECK_NEAR(got, want, (bf16 ? 1e-4 : 1e-6) * fabs(want), flags);
    for (int i = 0; i < m.tensor_count; i++) {
        const NamedTensor* t = &m.tensors[i];
        double* gradient = zero_doubles(t->size);
        for (size_t k = 0; k < t->size; k++) { gradient[k] = whole.grads[t->offset + k]; }
        double e = relative_error(m.grads + t->offset, gradient, t->size);
        CHECK(e <= limit, "last block, %s: gradient of %s relative error %.3g", flags, t->name, e);
        free(gradient);
    }
    CHECK(m.acts_table.total < whole.acts_table.total || m.config.pool == POOL_AVG, "%s keeps all of the last block",
          flags);
    drop_batch(&batch);
    model_free(&whole);
    model_free(&m);
}

static void test_model(const char* flags) {
    test_forward(flags);
    test_gradients(flags);
    test_last_block(flags);
}

// The kth set of flags of an MLP: some with flags of their own, then every choice of --mlp. NULL behind the last
static const char* mlp_flags(int k) {
    static const char* const mlps[] = {
        "--mlp gelu",
        "--mlp gr-kan",
        "--mlp gr-kan --rational-form paper --rational-init1 swish --rational-init gelu",
        ("--mlp gr-kan --rational-m 3 --rational-n 2 --rational-groups 4 --mlp-init variance-preserving "
         "--pool avg --layer-scale 0.5"),
        "--mlp rational --rational-groups 7 --rational-n 3", // from here on with two attentions only
        "--mlp rational --rational-form paper --rational-init gelu",
        "--mlp kan --kan-grid 3 --kan-order 1 --kan-range 2.5",
    };
    enum { SETS = sizeof mlps / sizeof mlps[0] };
    static char flags[64];
    if (k < SETS) { return mlps[k]; }
    if (k - SETS >= choice_count(CHOICES(MLPS))) { return NULL; }
    snprintf(flags, sizeof flags, "--mlp %s", choice_name(CHOICES(MLPS), k - SETS));
    return flags;
}

// These tests for every combination. N = 5, 17 and 65; C = 24 and 40; a batch one short of the room there is.
static void test_every_model(void) {
    static const char* const sizes[] = {
        "--image-size 4 --patch 2 --dim 40 --heads 5 --depth 2 --batch-size 4 --mlp-ratio 2",
        "--image-size 8 --patch 2 --dim 24 --heads 3 --depth 2 --batch-size 3 --mlp-ratio 3",
        "--image-size 16 --patch 2 --dim 24 --heads 2 --depth 2 --batch-size 2 --mlp-ratio 2",
    };
    static const char* const attentions[] = {
        "--attn softmax",
        "--attn karat --karat-mode block --grid 3",
        "--attn karat --karat-mode universal --grid 2 --karat-rank 5",
        "--attn karat --karat-base identity --karat-bias block",
        "--attn karat --karat-base silu --grid 1 --karat-mode universal",
        "--attn karat --karat-base gelu --karat-scales off --karat-bias block --karat-init unit",
    };
    for (int s = 0; s < 3; s++) {
        for (int a = 0; a < 6; a++) {
            for (int k = 0; mlp_flags(k); k++) {
                char flags[512];
                if ((REDUCED_SUITE && (s + a + k) % 6) || (s == 2 && a > 0 && k > 1)) { continue; }
                if (k > 3 && (s == 2 || a > 1)) { continue; }
                snprintf(flags, sizeof flags, "%s %s %s", sizes[s], attentions[a], mlp_flags(k));
                test_model(flags);
            }
        }
    }
}

// The same for every basis in both modes, base activations in turn. N = 10
static void test_every_basis(void) {
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        for (int mode = 0; mode < 2; mode++) {
            char flags[512];
            snprintf(flags, sizeof flags, "--image-size 6 --patch 2 --dim 24 --heads 3 --depth 2 --batch-size 3 "
                     "--mlp-ratio 1 --mlp gelu --attn karat --basis %s --karat-mode %s --karat-base %s --grid %d "
                     "--spline-order %d --spline-range 2 --karat-rank 3 --karat-init %s",
                     choice_name(CHOICES(BASES), basis), mode ? "universal" : "block",
                     choice_name(CHOICES(KARAT_BASE_FUNCTIONS), (basis + mode) % 4), 2 + mode, 3 - mode,
                     mode ? "unit" : "paper");
            test_model(flags);
        }
    }
}

// The same for everything that can stand in the place of softmax apart from KArAt with W Phi(A), and for that with its
// rows projected; each in both modes. N = 17
static void test_every_variant(void) {
    static const char* const variants[] = {
        "--karat-full on", "--karat-full on --karat-bias block --karat-scales off --karat-init unit",
        "--karat-order phi-w --karat-bias block", "--karat-order phi-w --karat-scales off --karat-init unit",
        "--karat-order phi-phi", "--karat-order phi-phi --karat-bias block --karat-scales off --karat-init unit",
        "--karat-projection simplex --karat-bias block", "--karat-projection l1",
        "--karat-projection simplex --karat-project z", "--karat-projection l1 --karat-project z --karat-bias block",
        "--karat-order phi-w --karat-projection l1", "--karat-order phi-w --karat-projection simplex --karat-project z",
        "--karat-order phi-phi --karat-projection simplex", "--karat-full on --karat-projection simplex",
        "--softmax-heads 1 --karat-bias block --attn-gate", "--softmax-heads 2 --karat-order phi-w",
    };
    for (int a = 0; a < 2 * choice_count(CHOICES(ATTENTIONS)); a++) {
        char flags[512];
        snprintf(flags, sizeof flags, "--image-size 8 --patch 2 --dim 24 --heads 3 --depth 2 --batch-size 3 "
                 "--mlp-ratio 1 --mlp gelu --grid 2 --karat-rank 5 --attn %s --attn-gate %s",
                 choice_name(CHOICES(ATTENTIONS), a / 2), a % 2 ? "on" : "off");
        test_model(flags);
    }
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        for (int mode = 0; mode < 2; mode++) {
            char flags[512];
            if (REDUCED_SUITE && (v + (size_t)mode) % 2) { continue; }
            snprintf(flags, sizeof flags, "--image-size 8 --patch 2 --dim 24 --heads 3 --depth 2 --batch-size 3 "
                     "--mlp-ratio 1 --mlp gelu --grid 2 --karat-rank 4 --karat-mode %s --karat-base %s %s",
                     mode ? "universal" : "block", mode ? "silu" : "zero", variants[v]);
            test_model(flags);
        }
    }
}

// The same for the other orders and full rank in every basis and both modes, base activations in turn: for all tokens
// (N = 9) and for the class token alone (N = 10)
static void test_every_basis_in_every_order(void) {
    static const char* const orders[] = {"--karat-order phi-w", "--karat-order phi-phi", "--karat-full on"};
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        for (int variant = 0; variant < 6; variant++) {
            int order = variant % 3, universal = variant / 3;
            char flags[512];
            if (REDUCED_SUITE && (basis + variant) % 5) { continue; }
            snprintf(flags, sizeof flags, "--image-size 6 --patch 2 --dim 24 --heads 3 --depth 1 --batch-size 3 "
                     "--mlp-ratio 1 --mlp gelu --attn karat --basis %s --karat-base %s --grid 2 --spline-range 2 "
                     "--karat-rank 3 --karat-mode %s %s", choice_name(CHOICES(BASES), basis),
                     choice_name(CHOICES(KARAT_BASE_FUNCTIONS), (basis + variant) % 4),
                     universal ? "universal" : "block --pool avg", orders[order]);
            test_model(flags);
        }
    }
}

// The same for models in stages, registers and norms behind the mean; forwards are compared in test_backbones.c
#define SMALL_CONVIT \
    "--model convit-mini --image-size 8 --patch 2 --dim 24 --depth 3 --batch-size 3 --mlp-ratio 1 --grid 2 "
#define SMALL_SWIN \
    "--model swin-mini --image-size 16 --dim 8 --heads 2,4,4 --depth 1,2,1 --window-size 2 --batch-size 3 --grid 2 "
#define SMALL_VIT "--model vit-mini --image-size 8 --patch 2 --dim 24 --depth 2 --batch-size 3 --mlp-ratio 1 "
static const char* const staged[] = {
    SMALL_CONVIT "--attn softmax", SMALL_CONVIT "--attn karat --karat-mode universal --mlp gr-kan --layer-scale 0.5",
    SMALL_CONVIT "--attn karat --softmax-heads 1 --mlp kan", SMALL_CONVIT "--attn mixing --qkv-bias on",
    SMALL_SWIN "--attn softmax --layer-scale 0.5", SMALL_SWIN "--attn karat --mlp gr-kan",
    SMALL_SWIN "--attn karat --karat-mode universal --karat-mask literal --mlp prelu",
    SMALL_SWIN "--attn karat --softmax-heads 1 --karat-base silu --qkv-bias off",
    SMALL_VIT "--reg-tokens 2 --no-embed-class --attn karat",
    SMALL_VIT "--reg-tokens 1 --no-embed-class --pool avg --fc-norm",
    SMALL_VIT "--no-embed-class --qkv-bias off --attn-gate"};
enum { STAGED = sizeof staged / sizeof staged[0] };

static void test_every_backbone(void) {
    for (int i = 0; i < STAGED; i++) {
        if (REDUCED_SUITE && i % 2) { continue; }
        test_gradients(staged[i]);
        test_last_block(staged[i]);
    }
}

// The start that --karat-init unit promises: sigma V as large as softmax V, in every basis; of rational units with the
// denominators as printed
static void test_unit_start(void) {
    for (int basis = 0; basis < BASIS_COUNT; basis++) {
        char flags[512];
        Model m;
        snprintf(flags, sizeof flags, "--image-size 32 --patch 4 --dim 96 --heads 3 --depth 1 --batch-size 4 "
                 "--mlp gelu --attn karat --karat-init unit --karat-init-denominator 1 --basis %s --seed 3",
                 choice_name(CHOICES(BASES), basis));
        build_whole_model(&m, flags, 7);
        Batch batch = random_batch(&m, 4);
        model_forward(&m, m.params, batch.images, 4, NULL);
        Acts a = acts_of_block(&m.acts_table, m.acts, 0);
        double mix = 0, values = 0, n = 4.0 * m.dims.N * m.dims.C;
        for (int i = 0; i < 4 * m.dims.N; i++) {
            for (int c = 0; c < m.dims.C; c++) {
                double v = a.qkv[(size_t)i * 3 * m.dims.C + 2 * m.dims.C + c], out = a.mix[(size_t)i * m.dims.C + c];
                values += v * v / n;
                mix += out * out / n;
            }
        }
        double ratio = mix * m.dims.N / values; // observed: 0.75 to 1.56, of 3 heads with 12 draws each
        CHECK(ratio > 0.4 && ratio < 2.5, "%s: unit start is off by a factor of %.3g", flags, ratio);
        drop_batch(&batch);
        model_free(&m);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Training

static const char small_kat[] =
    "--model kat-mini-g3b --image-size 16 --patch 4 --dim 48 --depth 2 --heads 3 --batch-size 8 --train-images 64 "
    "--test-images 20 --lr 0.002 --warmup-epochs 0 --weight-decay 0.01 --crop-padding 2 --hflip 0.5";

// A trainer on the procedural data set, as main makes it
static void open_trainer(Trainer* t, const char* flags) {
    Error err;
    Config c = config_from(flags);
    *t = (Trainer){.origin = {.config = c}};
    load_data(t, &c);
    if (!model_plan(&t->model, &c, t->train.classes, c.batch_size, &err) || !model_allocate(&t->model, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
    open_loaders(t, LOAD_IMAGES);
    plan_steps(t);
    load_weights(t);
}

static void close_trainer(Trainer* t) {
    loader_close(&t->train_loader);
    loader_close(&t->test_loader);
    dataset_free(&t->train);
    dataset_free(&t->test);
    model_free(&t->model);
}

static void take_steps(Trainer* t, int steps, double* losses) {
    for (int i = 0; i < steps; i++) {
        losses[i] = train_step(t).loss;
    }
}

// How far each parameter moves in one step without decay
static float* first_move(Trainer* t, const char* flags) {
    double loss;
    open_trainer(t, flags);
    size_t total = t->model.table.total;
    float* moved = alloc_floats(total, "test");
    memcpy(moved, t->model.params, total * sizeof *moved);
    take_steps(t, 1, &loss);
    for (size_t i = 0; i < total; i++) { moved[i] = t->model.params[i] - moved[i]; }
    return moved;
}

// --rational-lr-scale moves the rationals by so much further, and nothing else
static void test_rational_lr_scale(double scale) {
    static Trainer t[2];
    char flags[512];
    snprintf(flags, sizeof flags, "%s --weight-decay 0 --rational-lr-scale %g", small_kat, scale);
    float* scaled = first_move(&t[0], flags);
    snprintf(flags, sizeof flags, "%s --weight-decay 0", small_kat);
    float* moved = first_move(&t[1], flags);
    for (int i = 0; i < t[0].model.tensor_count; i++) {
        const NamedTensor* p = &t[0].model.tensors[i];
        double factor = strstr(p->name, "weight_numerator") || strstr(p->name, "weight_denominator") ? scale : 1;
        double worst = 0;
        for (size_t k = p->offset; k < p->offset + p->size; k++) {
            worst = fmax(worst, fabs(scaled[k] - factor * moved[k]));
        }
        CHECK(factor == 1 ? worst == 0 : worst < 1e-6, "--rational-lr-scale %g: %s is off by %g", scale, p->name,
              worst); // observed: 1.2e-7, rounding of coefficients near 1
    }
    free(moved);
    free(scaled);
    for (int i = 0; i < 2; i++) { close_trainer(&t[i]); }
}

// One batch drawn once, learned to a loss below 0.01
static void test_overfit(const char* flags) {
    static Trainer t;
    open_trainer(&t, flags);
    const Batch* batch = loader_next(&t.train_loader);
    double loss = 1;
    int steps = 0;
    for (; steps < 400 && !(loss < 0.01); steps++) {
        loss = first_gradients(&t, batch);
        model_update(&t.model, 2e-3, steps + 1);
    }
    CHECK(loss < 0.01, "%s: loss %.4f after %d steps on one batch", flags, loss, steps); // observed: 30 to 80 steps
    close_trainer(&t);
}

// Parameters after some steps must be the same bits for 1, 2 and 3 threads.
static void test_threads(const char* flags) {
    static Trainer t;
    float* one = NULL;
    double losses[3];
    for (int threads = 1; threads <= 4; threads++) {
        use_threads(threads);
        open_trainer(&t, flags);
        take_steps(&t, 3, losses);
        size_t bytes = t.model.table.total * sizeof(float);
        if (!one) {
            one = alloc_bytes(bytes, "test");
            memcpy(one, t.model.params, bytes);
        }
        CHECK(memcmp(one, t.model.params, bytes) == 0, "%s: %d threads give other bits than one", flags, threads);
        close_trainer(&t);
    }
    use_threads(1);
    free(one);
}

// --recompute changes memory, not a bit
static void test_recompute(const char* flags) {
    static Trainer t[2];
    double losses[3];
    char with[512];
    snprintf(with, sizeof with, "%s --recompute", flags);
    for (int i = 0; i < 2; i++) {
        open_trainer(&t[i], i ? with : flags);
        take_steps(&t[i], 3, losses);
    }
    bool same = memcmp(t[0].model.params, t[1].model.params, t[0].model.table.total * sizeof(float)) == 0;
    CHECK(same, "--recompute changes %s", flags);
    CHECK(t[1].model.acts_table.saved < t[0].model.acts_table.saved, "--recompute saves nothing in %s", flags);
    for (int i = 0; i < 2; i++) { close_trainer(&t[i]); }
}

// 6 steps, saved after 3: the last three losses and the parameters come again after loading.
static void test_resume(const char* flags) {
    static Trainer t;
    char folder[] = "/tmp/kat-test-XXXXXX", command[128], resumed[1024];
    double straight[6], again[3];
    if (!mkdtemp(folder)) { fail(EXIT_RUN_TIME, "no temporary folder"); }
    open_trainer(&t, flags);
    snprintf(t.output, sizeof t.output, "%s", folder);
    take_steps(&t, 3, straight);
    save_last(&t);
    take_steps(&t, 3, straight + 3);
    size_t bytes = t.model.table.total * sizeof(float);
    float* params = alloc_bytes(bytes, "test");
    memcpy(params, t.model.params, bytes);
    close_trainer(&t);

    snprintf(resumed, sizeof resumed, "%s --resume %s", flags, folder);
    open_trainer(&t, resumed);
    CHECK(t.step == 3, "resumed at step %lld", (long long)t.step);
    loader_seek(&t.train_loader, t.step * t.model.config.grad_accum_steps);
    take_steps(&t, 3, again);
    CHECK(memcmp(again, straight + 3, sizeof again) == 0,
          "losses after resuming: %.9g %.9g, without interruption %.9g %.9g",
          again[0], again[2], straight[3], straight[5]);
    CHECK(memcmp(params, t.model.params, bytes) == 0, "%s: parameters after resuming differ", flags);
    close_trainer(&t);
    free(params);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0, "cannot remove %s", folder);
}

// A KAT that starts from a ViT's file computes what the ViT does, as closely as its second rational fits GELU.
static void test_kat_from_vit(void) {
    static const char sizes[] = "--image-size 8 --dim 40 --heads 5 --depth 1 --batch-size 3 --classes 10 --seed";
    static Trainer t;
    char folder[] = "/tmp/kat-test-XXXXXX", flags[512], command[128];
    if (!mkdtemp(folder)) { fail(EXIT_RUN_TIME, "no temporary folder"); }
    snprintf(flags, sizeof flags, "--model vit-mini %s 1", sizes);
    open_trainer(&t, flags);
    snprintf(t.output, sizeof t.output, "%s", folder);
    save_weights(&t, "vit.safetensors", t.model.params);
    Batch batch = random_batch(&t.model, 3);
    model_forward(&t.model, t.model.params, batch.images, 3, NULL);
    double want[30];
    for (int i = 0; i < 30; i++) { want[i] = acts_of_block(&t.model.acts_table, t.model.acts, 0).logits[i]; }
    close_trainer(&t);
    snprintf(flags, sizeof flags, "--model kat-mini %s 2 --rational-m 7 --rational-n 6 --rational-init gelu "
             "--init-from %s/vit.safetensors", sizes, folder);
    open_trainer(&t, flags);
    model_forward(&t.model, t.model.params, batch.images, 3, NULL);
    CHECK_TENSOR(acts_of_block(&t.model.acts_table, t.model.acts, 0).logits, want, 30, 3e-5,
                 "KAT from a ViT: logits"); // observed: 8e-6; with --rational-init swish 7e-2
    drop_batch(&batch);
    close_trainer(&t);
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0, "cannot remove %s", folder);
}

// Evaluation covers the split once, whatever the batch size.
static void test_evaluation(void) {
    static const int batch_sizes[] = {1, 7, 20};
    static Trainer t;
    Evaluation first = {0};
    for (int i = 0; i < 3; i++) {
        char flags[512];
        snprintf(flags, sizeof flags, "%s --batch-size %d", small_kat, batch_sizes[i]);
        open_trainer(&t, flags);
        Evaluation e = evaluate(&t, t.model.params, NULL);
        if (i == 0) { first = e; }
        CHECK(e.images == 20, "%lld of 20 test images evaluated", (long long)e.images);
        CHECK_NEAR(e.loss, first.loss, 1e-5, "test loss at another batch size");
        CHECK_NEAR(e.top1, first.top1, 1e-9, "top-1 at another batch size");
        close_trainer(&t);
    }
}

static void test_drop_path(void) {
    Model m;
    build_model(&m, "--model vit-mini --drop-path 0.4 --batch-size 400 --depth 3 --dim 24 --image-size 8", 2);
    draw_drop_path(&m, 5);
    for (int l = 0; l < 3; l++) {
        double rate = 0.4 * l / 2, kept = 0, mean = 0;
        for (int i = 0; i < 800; i++) {
            kept += m.keep[l * 800 + i] > 0;
            mean += m.keep[l * 800 + i] / 800;
        }
        CHECK_NEAR(kept / 800, 1 - rate, 0.07, "share of branches kept"); // 4 standard errors
        CHECK_NEAR(mean, 1, 0.12, "mean factor of a branch");
    }
    model_free(&m);
}

// A NaN is named after the tensor that it first shows in.
static void test_not_finite(void) {
    Model m;
    char name[160];
    build_model(&m, "--model kat-mini-g3b --image-size 8 --dim 24 --depth 2 --batch-size 2", 3);
    Batch batch = random_batch(&m, 2);
    model_forward(&m, m.params, batch.images, 2, NULL);
    acts_of_block(&m.acts_table, m.acts, 1).qkv[5] = NAN;
    name_not_finite(&m, 2, name);
    CHECK(strcmp(name, "activation qkv of block 1") == 0, "a NaN in qkv of block 1 is called %s", name);
    params_of_block(&m.table, m.params, 1).fc1_weight[3] = INFINITY;
    name_not_finite(&m, 2, name);
    CHECK(strcmp(name, "parameter blocks.1.mlp.fc1.weight") == 0, "an Inf in fc1 of block 1 is called %s", name);
    drop_batch(&batch);
    model_free(&m);
}

// ---------------------------------------------------------------------------------------------------------------------
// Command line and schedule

static void refuses(const char* flags, const char* sentence) {
    Config c;
    Error err = {""};
    bool accepted = parse_flags(&c, flags, &err);
    CHECK(!accepted, "accepted: %s", flags);
    CHECK(strstr(err.text, sentence) != NULL, "%s says '%s', not '%s'", flags, err.text, sentence);
}

static void test_command_line(void) {
    refuses("--modle vit-tiny", "did you mean --model");
    refuses("--qwertyuiop 3", "unknown option --qwertyuiop: see --help");
    refuses("--batch-size foo", "--batch-size foo is not a whole number");
    refuses("--batch-size 0", "out of range");
    refuses("--batch-size 99999999999999999999", "out of range");
    refuses("--lr nan", "not a number");
    refuses("--lr", "needs a value");
    refuses("--attn cosine", "choose one of softmax|karat");
    refuses("--softmax-heads 1 --attn relu", "give --attn karat");
    refuses("--softmax-heads 3", "leaves none of --heads 3 to KArAt");
    refuses("--karat-full on --karat-order phi-w", "leave --karat-order out");
    refuses("--karat-full on --karat-projection l1 --karat-project z", "z is sigma");
    refuses("--model vit-huge", "unknown");
    refuses("--model kat-tiny-g3x", "unknown");
    refuses("--model kat-tiny-g3b9", "unknown");
    refuses("--image-size 30", "not a multiple of --patch");
    refuses("--dim 97", "not a multiple of --heads");
    refuses("--dim 99 --mlp gr-kan", "multiples of --rational-groups");
    refuses("--batch-size 65536 --image-size 4096 --patch 1", "tokens a batch are beyond any memory");
    refuses("train", "is not an option");
    refuses("--opt-betas 0.9", "needs two numbers");
    Config c = config_from("--grid 5 --model vit-tiny-g3u --opt-betas 0.8 0.95 --scale=0.5,1 --rrc --hflip 0.5 "
                           "--img-size 64");
    CHECK(c.grid == 5 && c.karat_mode == KARAT_UNIVERSAL && c.dim == 192,
          "flags beside --model win, whatever their order");
    CHECK(c.opt_betas[0] == 0.8 && c.opt_betas[1] == 0.95 && c.scale[0] == 0.5, "pairs are read in both forms");
    CHECK(c.rrc == 1 && c.hflip == 0.5 && c.image_size == 64, "switches, numbers and second names are read");
    Config again = c;
    Error err;
    CHECK(options_same(&c, &again, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &err),
          "a configuration is the same as itself");
    again.lr = 0.5;
    again.threads = 7;
    CHECK(!options_same(&c, &again, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &err) &&
          strstr(err.text, "--lr was 0.001, is now 0.5") && !strstr(err.text, "threads"),
          "what differs is listed: %s", err.text);
}

static void test_schedule(void) {
    Schedule s = {.lr = 1e-3, .min_lr = 1e-5, .warmup_lr = 1e-6, .warmup = 5, .total = 300};
    CHECK_NEAR(learning_rate(&s, 0), 1e-6, 1e-12, "learning rate at the start");
    CHECK_NEAR(learning_rate(&s, 2.5), 0.5 * (1e-3 + 1e-6), 1e-12, "learning rate half through the warm-up");
    CHECK_NEAR(learning_rate(&s, 150), 0.5 * (1e-3 + 1e-5), 1e-12, "learning rate half through");
    CHECK_NEAR(learning_rate(&s, 300), 1e-5, 1e-12, "learning rate at the end");
}

// Of the rational units' numerators and denominators: both N(0, deviation²)
static void test_denominator_start(const char* flag, double deviation) {
    Model m;
    char flags[256];
    double squares[2] = {0};
    snprintf(flags, sizeof flags, "--basis rational --image-size 32 --depth 2 --batch-size 1 %s", flag);
    build_model(&m, flags, 10);
    int N = m.dims.N, M = m.dims.M, units = m.dims.L * m.dims.H * m.dims.R;
    for (int i = 0; i < units * M * N; i++) {
        int block = m.dims.H * m.dims.R * M * N;
        float coef = params_of_block(&m.table, m.params, i / block).karat_coef[i % block];
        squares[i / N % M >= RATIONAL_UNIT_NUMERATOR] += (double)coef * coef;
    }
    CHECK_NEAR(sqrt(squares[0] / (units * N * RATIONAL_UNIT_NUMERATOR)), 1, 0.02, "numerators");
    CHECK_NEAR(sqrt(squares[1] / (units * N * RATIONAL_UNIT_DENOMINATOR)), deviation, 0.02 * deviation, "denominators");
    model_free(&m);
}

static void test_init(void) {
    Model m;
    build_model(&m, "--model kat-tiny-g3b --image-size 32 --patch 4 --batch-size 1 --mlp-init variance-preserving", 10);
    Params p = params_of(&m.table, m.params);
    double squares = 0, n = (double)m.dims.L * m.dims.F * m.dims.C;
    for (int l = 0; l < m.dims.L; l++) {
        const float* weight = params_of_block(&m.table, m.params, l).fc2_weight;
        for (int i = 0; i < m.dims.F * m.dims.C; i++) { squares += (double)weight[i] * weight[i]; }
    }
    CHECK_NEAR(sqrt(squares / n), sqrt(2.81076 / m.dims.F), 1.3e-4, "variance-preserving deviation of fc2 after swish");
    double sum = 0, count = (double)m.dims.H * m.dims.R * 2 * m.dims.G * m.dims.N;
    for (int i = 0; i < (int)count; i++) { sum += (double)p.karat_coef[i] * p.karat_coef[i]; }
    CHECK_NEAR(sqrt(sum / count), 1, 0.02, "deviation of the Fourier coefficients");
    CHECK_NEAR(p.scale_basis[3], 1 / sqrt(m.dims.N), 1e-6, "scale_basis at the start");
    CHECK(p.numerator1[1] == 1 && p.denominator1[0] == 0, "rational 1 starts as the identity");
    model_free(&m);
    build_model(&m, "--model vit-mini --attn-init mimetic --batch-size 1", 10);
    p = params_of_block(&m.table, m.params, 3);
    double trace = 0;
    int C = m.dims.C;
    for (int i = 0; i < C * C; i++) { trace += (double)p.proj_weight[i] * p.qkv_weight[2 * C * C + i % C * C + i / C]; }
    CHECK_NEAR(trace / C, -0.4, 0.02, "mean of the diagonal of values times projection"); // standard error 0.004
    model_free(&m);
    build_model(&m, "--basis morlet --karat-init-scale 0.1 --image-size 8 --dim 24 --depth 2 --batch-size 1", 10);
    CHECK(m.dims.M == 3, "a wavelet has %d parameters", m.dims.M);
    p = params_of_block(&m.table, m.params, 1);
    int N = m.dims.N;
    CHECK(p.karat_coef[N + 2] == 0 && p.karat_coef[2 * N + 2] == 1, "tau and s at the start");
    CHECK(p.karat_coef[2] != 0 && fabs(p.karat_coef[2]) < 0.6, "w at the start");
    model_free(&m);
    test_denominator_start("", 0.1);
    test_denominator_start("--karat-init-denominator 1", 1);
}

int main(void) {
    matmul_init();
    use_threads(1); // models this small run no faster on two
    test_parameter_counts();
    test_variant_counts();
    test_operation_counts();
    test_command_line();
    test_schedule();
    test_init();
    test_every_model();
    test_every_basis();
    test_every_variant();
    test_every_basis_in_every_order();
    test_every_backbone();
    printf("gradients along %ld directions agree with differences; %ld more lay at kinks or knots and were left out\n",
           gradients_passed, gradients_at_kinks);
    test_unit_start();
    test_last_block("--model kat-mini-g3b --image-size 16 --batch-size 8 --layer-scale 1 --drop-path 0.3 --attn-gate");
    test_last_block("--model vit-mini --image-size 16 --batch-size 5 --recompute --drop-path 0.3 --precision bf16");
    test_drop_path();
    test_not_finite();
    test_evaluation();
    test_kat_from_vit();
    test_rational_lr_scale(0);
    test_rational_lr_scale(3);
    test_micro_batches();
    test_threads(small_kat);
    test_threads("--model vit-mini --image-size 16 --patch 4 --batch-size 5 --train-images 10 --test-images 5 "
                 "--mixup 0.8 --cutmix 1 --drop-path 0.3");
    test_threads("--model kat-mini-g3b --image-size 16 --patch 4 --batch-size 5 --train-images 10 --test-images 5 "
                 "--mlp kan --softmax-heads 1 --karat-order phi-phi --karat-projection simplex --attn-gate");
    test_recompute("--model kat-mini-g3b --image-size 16 --patch 4 --batch-size 5 --train-images 20 --test-images 5 "
                   "--layer-scale 0.1 --drop-path 0.3 --attn-gate");
    for (int i = 1; i < STAGED; i += 4) { // ConViT, Swin, registers
        char flags[512];
        snprintf(flags, sizeof flags, "%s --train-images 15 --test-images 5 --drop-path 0.3 --model-ema-decay 0.9",
                 staged[i]);
        test_threads(flags);
        test_recompute(flags);
        test_resume(flags);
    }
    test_overfit(small_kat);
    test_resume("--model kat-mini-g3u --image-size 16 --dim 24 --depth 2 --batch-size 4 --train-images 12 "
                "--test-images 5 --model-ema-decay 0.9 --mixup 0.8 --cutmix 1 --drop-path 0.3 --grad-accum-steps 2 "
                "--hflip 0.5");
    if (!REDUCED_SUITE) {
        static const char* const models[] = {"vit-mini", "kat-mini", "vit-mini-g3u"};
        for (int i = 0; i < 3; i++) {
            char flags[256];
            snprintf(flags, sizeof flags, "--model %s --image-size 16 --batch-size 8 --dim 48 --depth 2 "
                     "--train-images 64 --test-images 5", models[i]);
            test_overfit(flags);
        }
    }
    return tests_finish();
}
