// make bench-layers: where a training step's time goes. Every operation of one model, forward and backward, with its
// own shapes and buffers, block after block as in a step; beside each dense product OpenBLAS's own rate at that shape,
// on the same threads. Medians over the rounds.
//
//     ./layers [rounds] [batch size] [more flags of train_kat, such as --model kat-tiny --image-size 224 --patch 16]
#pragma GCC diagnostic ignored "-Wunused-function" // the trainer's command line is not used here
#define TESTING
#include "../../train_vit.c"

typedef struct { // one block of the model, and its operations' arguments
    Model* m;
    Params p, d;
    Acts a;
    Dims sizes;
    RationalShape shape;
    const float* images;
    int B, N, C, F, S, P, T, rows; // T patches per image, rows = B N
} Block;

// ---- The operations: the lines of train_vit.c, one by one
static void patches(Block s) {
    patch_embed_forward(s.a.x, s.a.patches, s.images, s.p.patch_weight, s.p.patch_bias, s.p.cls_token, s.p.pos_embed,
                        s.m->scratch, s.B, s.S, s.P, s.C);
}
static void layernorm(Block s) {
    layernorm_forward(s.a.ln1, s.a.ln1_mean, s.a.ln1_rstd, s.a.x, s.p.norm1_weight, s.p.norm1_bias,
                      norm_eps(&s.m->config), s.rows, s.C);
}
static void qkv(Block s) {
    linear_forward(s.a.qkv, s.a.ln1, s.p.qkv_weight, s.p.qkv_bias, s.rows, s.C, 3 * s.C);
}
static void attention(Block s) { attend_forward(s.m, s.p, s.a, s.sizes, s.B); }
static void proj(Block s) { linear_forward(s.a.proj, s.a.mix, s.p.proj_weight, s.p.proj_bias, s.rows, s.C, s.C); }
static void residual(Block s) { residual_forward(s.a.x_mid, s.a.x, s.a.proj, s.p.ls1, NULL, s.B, s.N, s.C); }
static void act1(Block s) {
    rational_forward(s.a.act1, s.a.ln2, s.p.numerator1, s.p.denominator1, s.rows, s.C, s.shape);
}
static void fc1(Block s) { linear_forward(s.a.fc1, s.a.ln2, s.p.fc1_weight, s.p.fc1_bias, s.rows, s.C, s.F); }
static void act2(Block s) { mlp_activation_forward(s.m, s.p, s.a, s.sizes, s.rows); }
static void fc2(Block s) { linear_forward(s.a.fc2, s.a.act2, s.p.fc2_weight, s.p.fc2_bias, s.rows, s.F, s.C); }

static void dresidual(Block s) {
    residual_backward(s.a.dbranch, s.d.ls2, s.a.dx, s.a.fc2, s.p.ls2, NULL, s.m->scratch, s.B, s.N, s.C);
}
static void dfc2_input(Block s) {
    linear_backward_input(s.a.dhidden, 0, s.a.dbranch, s.p.fc2_weight, s.rows, s.F, s.C);
}
static void dfc2_weight(Block s) {
    linear_backward_weight(s.d.fc2_weight, s.d.fc2_bias, s.a.dbranch, s.a.act2, s.m->scratch, s.rows, s.F, s.C);
}
static void dact2(Block s) { mlp_activation_backward(s.m, s.p, s.d, s.a, s.sizes, s.rows); }
static void dfc1_input(Block s) { linear_backward_input(s.a.dln, 0, s.a.dhidden, s.p.fc1_weight, s.rows, s.C, s.F); }
static void dfc1_weight(Block s) {
    linear_backward_weight(s.d.fc1_weight, s.d.fc1_bias, s.a.dhidden, s.a.ln2, s.m->scratch, s.rows, s.C, s.F);
}
static void dact1(Block s) {
    rational_backward(s.a.dln, s.d.numerator1, s.d.denominator1, s.a.dln, s.a.ln2, s.p.numerator1, s.p.denominator1,
                      s.m->scratch, s.rows, s.C, s.shape);
}
static void dlayernorm(Block s) {
    layernorm_backward(s.a.dx, s.d.norm1_weight, s.d.norm1_bias, s.a.dln, s.a.x, s.p.norm1_weight, s.a.ln1_mean,
                       s.a.ln1_rstd, s.m->scratch, s.rows, s.C);
}
static void dproj_input(Block s) { linear_backward_input(s.a.dmix, 0, s.a.dbranch, s.p.proj_weight, s.rows, s.C, s.C); }
static void dproj_weight(Block s) {
    linear_backward_weight(s.d.proj_weight, s.d.proj_bias, s.a.dbranch, s.a.mix, s.m->scratch, s.rows, s.C, s.C);
}
static void dattention(Block s) { attend_backward(s.m, s.p, s.d, s.a, s.sizes, s.B); }
static void dqkv_input(Block s) { linear_backward_input(s.a.dln, 0, s.a.dqkv, s.p.qkv_weight, s.rows, s.C, 3 * s.C); }
static void dqkv_weight(Block s) {
    linear_backward_weight(s.d.qkv_weight, s.d.qkv_bias, s.a.dqkv, s.a.ln1, s.m->scratch, s.rows, s.C, 3 * s.C);
}
static void dpatches(Block s) {
    patch_embed_backward(s.d.patch_weight, s.d.patch_bias, s.d.cls_token, s.d.pos_embed, s.a.dx, s.a.patches,
                         s.m->scratch, s.B, s.S, s.P, s.C);
}
static void update(Block s) {
    model_update(s.m, 1e-6, 1);
    memset(s.m->grads, 0, s.m->table.total * sizeof(float));
}

// ---- The table
enum { MAX_ROUNDS = 101, MAX_ROWS = 32 };

typedef enum { OTHER, FORWARD, INPUT, WEIGHT } Product; // which of a linear layer's three products, if one

typedef struct {
    const char* name;
    void (*run)(Block);
    int blocks, times; // how many blocks have it, how often in each
    Product product;
    double M, N, K;    // of the product: (M,K) by (K,N)
    double flops;      // of attention, by the model's own count
    double floats;     // read or written, each tensor once
    double ms[MAX_ROUNDS], library_ms[MAX_ROUNDS];
} Operation;

static Operation operations[MAX_ROWS];
static int operation_count;

static void add(Operation o) {
    if (o.blocks) { operations[operation_count++] = o; }
}

static void add_product(const char* name, void (*run)(Block), int blocks, Product product, int rows, int in, int out) {
    Operation o = {name, run, blocks, 1, product, rows, out, in, .flops = 2.0 * rows * in * out};
    if (product == INPUT) { o.N = in, o.K = out; }
    if (product == WEIGHT) { o.M = out, o.N = in, o.K = rows; }
    add(o);
}

static void add_pass(const char* name, void (*run)(Block), int blocks, int times, double flops, double floats) {
    add((Operation){name, run, blocks, times, .flops = flops, .floats = floats});
}

static void list_operations(const Model* m, Block s) {
    int L = m->dims.L - (m->dims.NQ < m->dims.N); // without a last block computed for the class token only
    int C = s.C, F = s.F, gr_kan = s.a.act1 ? L : 0;
    double width = (double)s.rows * C, hidden = (double)s.rows * F;
    double heads = 2 * s.B * attention_macs(&m->config, s.sizes);
    add_product("patches", patches, 1, FORWARD, s.B * s.T, 3 * s.P * s.P, C);
    add_pass("layernorm", layernorm, L, 2, 0, 2 * width);
    add_product("qkv", qkv, L, FORWARD, s.rows, C, 3 * C);
    add_pass("attention", attention, L, 1, heads, 4 * width);
    add_product("proj", proj, L, FORWARD, s.rows, C, C);
    add_pass("residual", residual, L, 2, 0, 3 * width);
    add_pass("act1", act1, gr_kan, 1, 0, 2 * width);
    add_product("fc1", fc1, L, FORWARD, s.rows, C, F);
    add_pass("act2", act2, L, 1, 0, 2 * hidden);
    add_product("fc2", fc2, L, FORWARD, s.rows, F, C);
    add_pass("d residual", dresidual, L, 2, 0, 2 * width);
    add_product("d fc2 input", dfc2_input, L, INPUT, s.rows, F, C);
    add_product("d fc2 weight", dfc2_weight, L, WEIGHT, s.rows, F, C);
    add_pass("d act2", dact2, L, 1, 0, 3 * hidden);
    add_product("d fc1 input", dfc1_input, L, INPUT, s.rows, C, F);
    add_product("d fc1 weight", dfc1_weight, L, WEIGHT, s.rows, C, F);
    add_pass("d act1", dact1, gr_kan, 1, 0, 3 * width);
    add_pass("d layernorm", dlayernorm, L, 2, 0, 4 * width);
    add_product("d proj input", dproj_input, L, INPUT, s.rows, C, C);
    add_product("d proj weight", dproj_weight, L, WEIGHT, s.rows, C, C);
    add_pass("d attention", dattention, L, 1, 2 * heads, 8 * width);
    add_product("d qkv input", dqkv_input, L, INPUT, s.rows, C, 3 * C);
    add_product("d qkv weight", dqkv_weight, L, WEIGHT, s.rows, C, 3 * C);
    add_product("d patches", dpatches, 1, WEIGHT, s.B * s.T, 3 * s.P * s.P, C);
    add_pass("update", update, 1, 1, 0, 10.0 * m->table.total);
}

// ---- Timing
static Block block_of(Model* m, const float* images, int l) {
    Dims d = dims_at(m, l);
    return (Block){.m = m, .p = params_of_block(&m->table, m->params, l), .d = params_of_block(&m->table, m->grads, l),
                   .a = acts_of_block(&m->acts_table, m->acts, l), .sizes = d,
                   .shape = rational_shape(&m->config),
                   .images = images, .B = m->B, .N = d.N, .C = d.C, .F = d.F, .S = d.S, .P = d.P,
                   .T = (d.S / d.P) * (d.S / d.P), .rows = m->B * d.N};
}

// Milliseconds per step, over all blocks
static double time_operation(const Operation* o, Model* m, const float* images) {
    double start = seconds_now();
    for (int l = 0; l < o->blocks; l++) { o->run(block_of(m, images, l)); }
    return 1e3 * o->times * (seconds_now() - start);
}

// The library's sgemm with its own threads, at the operation's shape
static double time_library(const Operation* o, const float* left, const float* right, float* out) {
    double start = seconds_now();
#ifdef HAVE_OPENBLAS
    int M = (int)o->M, N = (int)o->N, K = (int)o->K;
    for (int l = 0; l < o->blocks; l++) {
        cblas_sgemm(CblasRowMajor, o->product == WEIGHT ? CblasTrans : CblasNoTrans,
                    o->product == FORWARD ? CblasTrans : CblasNoTrans, M, N, K, 1, left, o->product == WEIGHT ? M : K,
                    right, o->product == FORWARD ? K : N, 0, out, N);
    }
#else
    (void)o, (void)left, (void)right, (void)out;
#endif
    return 1e3 * (seconds_now() - start);
}

static int compare_doubles(const void* a, const void* b) {
    double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

static double median(double* values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

static void print_cell(int width, double value) { // blank if it is zero
    if (value > 0) { printf(" %*.1f", width, value); } else { printf(" %*s", width, ""); }
}

static void print_table(int rounds) {
    double total = 0, total_flops = 0;
    for (int i = 0; i < operation_count; i++) {
        total += median(operations[i].ms, rounds);
        total_flops += operations[i].flops * operations[i].blocks;
    }
    printf("\n%-14s %10s %7s %9s %8s %18s\n", "operation", "ms a step", "share %", "GFLOP/s", "GB/s",
           "OpenBLAS, GFLOP/s");
    for (int i = 0; i < operation_count; i++) {
        Operation* o = &operations[i];
        double ms = median(o->ms, rounds), library_ms = median(o->library_ms, rounds), flops = o->flops * o->blocks;
        printf("%-14s %10.2f", o->name, ms);
        print_cell(7, 100 * ms / total);
        print_cell(9, 1e-6 * flops / ms);
        print_cell(8, 4e-6 * o->floats * o->blocks * o->times / ms);
        print_cell(18, library_ms > 0 ? 1e-6 * flops / library_ms : 0);
        printf("\n");
    }
    printf("%-14s %10.2f %7s %9.1f\n", "sum", total, "", 1e-6 * total_flops / total);
}

static void build(Model* m, int argc, char** argv, int batch_size) {
    char batch[16];
    char* words[64] = {"layers", "--model", "vit-tiny", "--image-size", "224", "--patch", "16", "--batch-size", batch};
    int count = 9;
    Config config;
    Error err;
    snprintf(batch, sizeof batch, "%d", batch_size);
    for (int i = 3; i < argc && count < 63; i++) { words[count++] = argv[i]; }
    if (!config_parse(&config, NULL, count, words, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (config.mlp == MLP_KAN) { fail(EXIT_USAGE, "layers does not time KAN layers: choose another --mlp"); }
    if (!model_plan(m, &config, 10, config.batch_size, &err) || !model_allocate(m, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
}

int main(int argc, char** argv) {
    static Model model, *m = &model;
    start_with_sleeping_threads(argv);
    int rounds = argc > 1 ? atoi(argv[1]) : 5, batch_size = argc > 2 ? atoi(argv[2]) : 16;
    if (rounds < 1 || rounds > MAX_ROUNDS || batch_size < 1) {
        fail(EXIT_USAGE, "give 1 to %d rounds and a batch size", MAX_ROUNDS);
    }
    int threads = threads_begin(0);
    build(m, argc, argv, batch_size);
    Dims d = m->dims;
    size_t pixels = (size_t)batch_size * 3 * d.S * d.S, rows = largest((size_t)batch_size * d.N, d.C);
    size_t most = rows * largest(largest(d.F, 3 * d.C), 3 * d.P * d.P); // of a product, or of a weight's gradient
    float *images = alloc_floats(pixels, "images"), *out = alloc_floats(most, "sgemm");
    for (size_t i = 0; i < pixels; i++) { images[i] = (float)random_normal(1, STREAM_CHECK, 1, i); }
    list_operations(m, block_of(m, images, 0));
    printf("%s, %d threads, %d tokens, batch %d, %d rounds; products by %s\n", m->config.model, threads, d.N,
           batch_size, rounds, matmul_library());
    for (int r = -1; r < rounds; r++) { // round -1 warms up and is overwritten
        for (int i = 0; i < operation_count; i++) {
            Operation* o = &operations[i];
            Acts a = acts_of_block(&m->acts_table, m->acts, 0);
            o->ms[r < 0 ? 0 : r] = time_operation(o, m, images);
            if (o->product != OTHER) { o->library_ms[r < 0 ? 0 : r] = time_library(o, a.fc1, a.act2, out); }
        }
    }
    print_table(rounds);
    return 0;
}
