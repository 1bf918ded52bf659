// The operations of a training step, one by one, on the tensors of models that dev/bench/bench_cuda.cu has trained for
// a few steps: called as in train_vit.cu, on each block's tensors in turn, so that what a block keeps is not found in
// the second cache level (what all blocks share, gradients of activations, may be), in one graph, like a step. A last
// block computed for the class token only is left out.
//
// The floor of an operation is the longer of two times: the bytes that it must move (each input read once, each output
// written once) at the bandwidth of a copy, and the FLOPs of its products at the rate of a large product. Its share is
// floor / time. Attention's backward has to recompute the logits, which counts: 5 products for softmax; KArAt's are
// those of karat_macs.

typedef struct { Params p, d; Weights<bf16> w; Acts<bf16> a; } BlockTensors;

typedef struct {
    Bench* b;
    Model* m;
    const char* model;
    double covered; // ms of the step's operations so far
} Operations;

static BlockTensors block_tensors(const Model* m, int l) {
    return {params_at(m, m->params, l), params_at(m, m->grads, l), weights_at<bf16>(m, m->params, l),
            acts_at<bf16>(m, l)};
}

static int whole_blocks(const Model* m) { return m->dims.L - (m->dims.NQ < m->dims.N); }

// times: how often it occurs in a step; run(t, l) puts it on the model's stream with the tensors of block l
template <class Run>
static void operation(Operations* o, const char* name, int times, double bytes, double flops, Run run) {
    Bench* b = o->b;
    Model* m = o->m;
    int L = whole_blocks(m);
    if (L == 0) { return; }
    double seconds = time_calls(b, L, [=](int i) { run(block_tensors(m, i % L), i % L); });
    double by_bytes = bytes / b->ceilings.copy, by_flops = flops / b->ceilings.bf16;
    double share = (by_bytes > by_flops ? by_bytes : by_flops) / seconds;
    const char* bound = by_bytes > by_flops ? "bytes" : "FLOPs";
    o->covered += 1e3 * seconds * times;
    printf("  %-26s %5d %10.2f %9.3f %9.2f   %5s %6.1f %%\n", name, times, 1e6 * seconds, 1e-12 * bytes / seconds,
           1e-12 * flops / seconds, bound, 100 * share);
    if (!b->json) { return; }
    fprintf(b->json, "{\"part\": \"operations\", \"model\": \"%s\", \"name\": \"%s\", \"times\": %d, \"us\": %.3f, "
            "\"tb_s\": %.4f, \"tflop_s\": %.3f, \"bound\": \"%s\", \"share\": %.4f}\n", o->model, name, times,
            1e6 * seconds, 1e-12 * bytes / seconds, 1e-12 * flops / seconds, bound, share);
}

// Bytes of elements: E of an activation, S of the residual stream
static const double E = sizeof(bf16), S = sizeof(Residual);

static void time_embedding(Operations* o) {
    Model* m = o->m;
    Dims d = m->dims;
    int B = m->B, patches = B * (d.S / d.P) * (d.S / d.P), K = 3 * d.P * d.P;
    double n = (double)B * d.N * d.C, pixels = (double)patches * K, products = 2 * pixels * d.C;
    operation(o, "patches", 1, pixels * (4 + E), 0, [=](BlockTensors t, int) {
        extract_patches(t.a.patches, m->images, B, d.S, d.P, m->stream);
    });
    operation(o, "patch product", 1, E * (pixels + n), products, [=](BlockTensors t, int) {
        linear_forward(t.a.tokens, t.a.patches, t.w.patch_weight, t.w.patch_bias, patches, K, d.C, m->stream);
    });
    operation(o, "tokens", 1, n * (E + S), 0, [=](BlockTensors t, int) {
        embed_tokens_forward(t.a.x, t.a.tokens, t.p.cls_token, t.p.pos_embed, B, d.N, d.C, m->stream);
    });
    double of_dx = (double)stream_grad_size(&m->config), bytes = n * (E + of_dx) + E * (pixels + n);
    operation(o, "embedding backward", 1, bytes, products, [=](BlockTensors, int) {
        with_stream_grad(m, [=](auto g) {
            embed_backward<decltype(g)>(m, params_at(m, m->grads, 0), acts_at<bf16>(m, 0), B);
        });
    });
}

// The linear layers of a block, C to OC
template <class Forward, class Backward>
static void time_linear(Operations* o, const char* name, int C, int OC, Forward forward, Backward backward) {
    double rows = (double)o->m->B * o->m->dims.N, bytes = E * (rows * (C + OC) + (double)C * OC);
    double flops = 2 * rows * C * OC;
    char text[64];
    snprintf(text, sizeof text, "%s", name);
    operation(o, text, whole_blocks(o->m), bytes, flops, forward);
    snprintf(text, sizeof text, "%s backward", name);
    operation(o, text, whole_blocks(o->m), bytes + E * rows * C + 4.0 * C * OC, 2 * flops, backward);
}

static void time_linear_layers(Operations* o) {
    Model* m = o->m;
    int rows = m->B * m->dims.N, C = m->dims.C, F = m->dims.F;
    cudaStream_t s = m->stream;
    time_linear(o, "qkv", C, 3 * C, [=](BlockTensors t, int) {
        linear_forward(t.a.qkv, t.a.ln1, t.w.qkv_weight, t.w.qkv_bias, rows, C, 3 * C, s);
    }, [=](BlockTensors t, int) {
        linear_backward(t.a.dln, t.d.qkv_weight, NULL, t.a.dqkv, t.a.ln1, t.w.qkv_weight, NULL, rows, C, 3 * C, s);
    });
    time_linear(o, "proj", C, C, [=](BlockTensors t, int) {
        linear_forward(t.a.proj, t.a.mix, t.w.proj_weight, t.w.proj_bias, rows, C, C, s);
    }, [=](BlockTensors t, int) {
        linear_backward(t.a.dmix, t.d.proj_weight, NULL, t.a.dbranch, t.a.mix, t.w.proj_weight, NULL, rows, C, C, s);
    });
    time_linear(o, "fc1", C, F, [=](BlockTensors t, int) {
        linear_forward(t.a.fc1, t.a.ln2, t.w.fc1_weight, t.w.fc1_bias, rows, C, F, s);
    }, [=](BlockTensors t, int) {
        linear_backward(t.a.dln, t.d.fc1_weight, NULL, t.a.dhidden, t.a.ln2, t.w.fc1_weight, NULL, rows, C, F, s);
    });
    time_linear(o, "fc2", F, C, [=](BlockTensors t, int) {
        linear_forward(t.a.fc2, t.a.act2, t.w.fc2_weight, t.w.fc2_bias, rows, F, C, s);
    }, [=](BlockTensors t, int) {
        linear_backward(t.a.dhidden, t.d.fc2_weight, NULL, t.a.dbranch, t.a.act2, t.w.fc2_weight, NULL, rows, F, C, s);
    });
}

// The operations around the branches of a block
static void time_stream(Operations* o) {
    Model* m = o->m;
    int B = m->B, N = m->dims.N, C = m->dims.C, L = whole_blocks(m);
    double n = (double)B * N * C;
    cudaStream_t s = m->stream;
    operation(o, "layernorm", 1, n * (S + E), 0, [=](BlockTensors t, int) {
        layernorm_forward(t.a.ln1, t.a.ln1_mean, t.a.ln1_rstd, t.a.x, t.p.norm1_weight, t.p.norm1_bias, LAYERNORM_EPS,
                          B * N, C, s);
    });
    operation(o, "residual, next norm", L, n * (2 * S + 2 * E), 0, [=](BlockTensors, int l) {
        block_output<bf16>(m, m->params, l, B, NULL);
    });
    double of_dx = (double)stream_grad_size(&m->config);
    operation(o, "norm, residual backward", 2 * L + 1, n * (2 * E + S + 2 * of_dx), 0, [=](BlockTensors t, int l) {
        with_stream_grad(m, [=](auto g) {
            joined_norm_backward<bf16>(m, t.d.norm1_weight, t.d.norm1_bias, (decltype(g)*)t.a.dx, false, t.a.x,
                                       t.p.norm1_weight, t.a.ln1_mean, t.a.ln1_rstd, l, 1, B, N, C, NULL);
        });
    });
}

// Residual and normalisation in one, with GR-KAN its first rational too; and the MLP's activations
static void time_activations(Operations* o) {
    Model* m = o->m;
    Dims d = dims_at(m, 0);
    int B = m->B, rows = B * d.N, L = whole_blocks(m);
    double n = (double)rows * d.C, h = (double)rows * d.F;
    bool gr_kan = m->config.mlp == MLP_GR_KAN;
    RationalShape r = rational_shape(&m->config);
    cudaStream_t s = m->stream;
    operation(o, gr_kan ? "residual, norm, rational" : "residual, norm", L, n * (2 * S + (gr_kan ? 3 : 2) * E), 0,
              [=](BlockTensors t, int) { join_and_normalise(m, t.p, t.a, d, B, NULL); });
    operation(o, gr_kan ? "rational" : "gelu", L, 2 * E * h, 0, [=](BlockTensors t, int) {
        mlp_activation_forward(m, t.p, t.a, d, rows);
    });
    // not in place, unlike the trainer's: after many calls only zeros would be left
    operation(o, gr_kan ? "rational backward" : "gelu backward", L, 3 * E * h, 0, [=](BlockTensors t, int) {
        if (!gr_kan) {
            return activation_backward(t.a.act2, t.d.fc1_bias, t.a.dhidden, t.a.fc1, ACTIVATION_GELU, m->scratch, rows,
                                       d.F, s);
        }
        rational_backward(t.a.act2, t.d.fc1_bias, t.d.numerator2, t.d.denominator2, t.a.dhidden, t.a.fc1,
                          t.p.numerator2, t.p.denominator2, m->scratch, rows, d.F, r, s);
    });
    if (!gr_kan) { return; }
    operation(o, "rational backward, C wide", L, 3 * E * n, 0, [=](BlockTensors t, int) {
        rational_backward(t.a.act1, NULL, t.d.numerator1, t.d.denominator1, t.a.dln, t.a.ln2, t.p.numerator1,
                          t.p.denominator1, m->scratch, rows, d.C, r, s);
    });
}

static void time_attention(Operations* o) {
    Model* m = o->m;
    Dims d = dims_at(m, 0);
    int B = m->B, L = whole_blocks(m);
    bool karat = m->config.attn == ATTN_KARAT;
    double n = (double)B * d.N * d.C, kept = 4.0 * B * d.H * d.N * (karat ? d.R : 1); // z, or the log-sum-exp
    double forward = 2 * B * attention_macs(&m->config, d), logits = 2.0 * B * d.N * d.N * d.C;
    char name[64], backward[80];
    snprintf(name, sizeof name, karat ? "karat, G = %d" : "attention", d.G);
    snprintf(backward, sizeof backward, "%s, backward", name);
    operation(o, name, L, 4 * E * n + kept, forward, [=](BlockTensors t, int) {
        attend_forward(m, t.p, t.a, d, B);
    });
    operation(o, backward, L, (karat ? 7 : 8) * E * n + kept, 2 * forward + logits, [=](BlockTensors t, int) {
        attend_backward(m, t.p, t.d, t.a, d, B);
    });
}

// Once per step
static void time_ends(Operations* o) {
    Model* m = o->m;
    int B = m->B, C = m->dims.C, K = m->dims.K;
    double params = (double)m->table.total;
    cudaStream_t s = m->stream;
    operation(o, "pool, head", 1, E * ((double)B * C + (double)C * K), 2.0 * B * C * K, [=](BlockTensors t, int) {
        pool_forward(t.a.pooled, t.a.norm, false, t.p.cls_token != NULL, B, m->dims.NQ, C, s);
        linear_forward(t.a.logits, t.a.pooled, t.w.head_weight, t.p.head_bias, B, C, K, s);
    });
    operation(o, "loss, forward and backward", 1, (8.0 + E) * B * K, 0, [=](BlockTensors t, int) {
        Facts facts = facts_at(m, m->facts);
        cross_entropy(t.a.losses, t.a.hits, t.a.dlogits, t.a.logits, facts.targets, facts.labels, 1.0f / B, B, K, s);
    });
    operation(o, "gradient norm, update", 1, (36 + E) * params, 0, [=](BlockTensors, int) {
        model_update(m, 1e-6, 10);
    });
}

static Operations operations_of(Bench* b, Timed* timed) {
    b->stream = timed->trainer.model.stream;
    timed->trainer.model.graphs = false; // rows are graphs, and a graph cannot be launched within another
    printf("\n%-28s %5s %10s %9s %9s   %5s %8s\n", timed->name, "times", "us", "TB/s", "TFLOP/s", "floor", "share");
    return (Operations){.b = b, .m = &timed->trainer.model, .model = timed->name, .covered = 0};
}

// All of a ViT; of a KAT with KArAt those that replace them
static void time_operations(Bench* b, Timed* vit, Timed* kat) {
    Operations o = operations_of(b, vit);
    time_embedding(&o);
    time_stream(&o);
    time_linear_layers(&o);
    time_activations(&o);
    time_attention(&o);
    time_ends(&o);
    printf("  together %.2f ms of the %.2f of a step\n", o.covered, median(vit->step, b->rounds));
    o = operations_of(b, kat);
    time_activations(&o);
    time_attention(&o);
}
