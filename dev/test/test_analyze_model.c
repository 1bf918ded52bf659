// dev/analyze on models: logits and weights of every kind of attention against their plain forms, ranks of models that
// have learned, landscapes and their curvature, and attention that is imposed.
#pragma GCC diagnostic ignored "-Wunused-function"
#define TESTING
#include "../../train_vit.c"
#include "../analyze/impose.h"
#include "../analyze/landscape.h"
#include "../analyze/spectrum.h"
#include "model_test.h"
#include "plain_attention.h"
#include "test_files.h"

// Largest |difference| of A and sigma (B,H,N,N) of block l from the plain ones; *scale: the largest |sigma|
static void compare_maps(const Model* m, Acts a, Params p, const float* A, const float* sigma, int B, double worst[2],
                         double* scale) {
    int N = m->dims.N, C = m->dims.C, H = m->dims.H, D = m->dims.D;
    double *qkv = zero_doubles((size_t)N * 3 * C), *logits = zero_doubles(N), *weights = zero_doubles(N);
    worst[0] = worst[1] = *scale = 0;
    for (int row = 0; row < B * H * N; row++) {
        int b = row / (H * N), h = row / N % H, k = row % N;
        for (int i = 0; i < N * 3 * C; i++) { qkv[i] = a.qkv[(size_t)b * N * 3 * C + i]; }
        const double *Q = qkv + h * D, *K = Q + C;
        for (int q = 0; q < N; q++) {
            logits[q] = 0;
            for (int i = 0; i < D; i++) { logits[q] += Q[k * 3 * C + i] * K[q * 3 * C + i] / sqrt(D); }
        }
        plain_weights(weights, logits, Q + k * 3 * C, K, m, p, h, k);
        for (int n = 0; n < N; n++) {
            worst[0] = fmax(worst[0], fabs(A[(size_t)row * N + n] - logits[n]));
            worst[1] = fmax(worst[1], fabs(sigma[(size_t)row * N + n] - weights[n]));
            *scale = fmax(*scale, fabs(weights[n]));
        }
    }
    free(qkv); free(logits); free(weights);
}

static void test_maps(const char* attention) {
    Model m;
    char flags[512];
    snprintf(flags, sizeof flags, "--image-size 12 --patch 3 --dim 24 --heads 3 --depth 2 --mlp gelu --karat-rank 4 "
             "--batch-size 3 %s", attention);
    build_whole_model(&m, flags, 5);
    Batch batch = random_batch(&m, 3);
    for (size_t i = 0; i < m.table.total; i++) { m.params[i] += 0.1f * (float)random_normal(2, STREAM_CHECK, 1, i); }
    model_forward(&m, m.params, batch.images, 3, NULL);
    size_t size = (size_t)3 * m.dims.H * m.dims.N * m.dims.N;
    float *A = guarded_floats(size), *sigma = guarded_floats(size);
    for (int l = 0; l < 2; l++) {
        Params p = params_of_block(&m.table, m.params, l);
        Acts a = acts_of_block(&m.acts_table, m.acts, l);
        double worst[2], scale;
        attention_logits(A, &m, a, 3);
        attention_weights(sigma, &m, p, a, 3);
        compare_maps(&m, a, p, A, sigma, 3, worst, &scale);
        CHECK(worst[0] <= 1e-6, "%s, block %d: logits differ by %g", attention, l, worst[0]);
        CHECK(worst[1] <= 2e-6 * scale, "%s, block %d: weights differ by %g of %g", attention, l, worst[1], scale);
        CHECK(guards_intact(A, size) && guards_intact(sigma, size), "%s: maps overrun", attention);
    }
    free(A); free(sigma);
    drop_batch(&batch);
    model_free(&m);
}

// ---- Ranks of models that have learned something

static void learn(Model* m, const Batch* batch, int steps) {
    for (int t = 1; t <= steps; t++) {
        model_zero_gradients(m);
        model_gradients(m, batch, NULL, 1.0f / (float)batch->count);
        model_update(m, 0.01, t);
    }
}

static void test_ranks(const char* attention, int limit) {
    static Model m;
    char flags[512];
    double values[26];
    snprintf(flags, sizeof flags, "--image-size 15 --patch 3 --dim 24 --heads 2 --depth 2 --mlp gelu --karat-rank 4 "
             "--batch-size 4 %s", attention);
    build_whole_model(&m, flags, 5);
    Batch batch = random_batch(&m, 4);
    learn(&m, &batch, 20);
    int N = m.dims.N, H = m.dims.H;
    size_t size = (size_t)N * N;
    float* maps = alloc_floats(4 * H * size, "test");
    double* M = zero_doubles(size);
    for (int k = 0; k < 2 * 4 * H; k++) {
        int matrix = k / (4 * H), bh = k % (4 * H);
        Acts a = acts_of_block(&m.acts_table, m.acts, 1);
        if (bh == 0 && matrix == 0) { attention_logits(maps, &m, a, 4); }
        if (bh == 0 && matrix == 1) { attention_weights(maps, &m, params_of_block(&m.table, m.params, 1), a, 4); }
        for (size_t i = 0; i < size; i++) { M[i] = maps[bh * size + i]; }
        singular_values(values, M, N);
        int rank = numerical_rank(values, N), allowed = rank_limit(&m, bh % H, matrix);
        CHECK(allowed == (matrix ? limit : m.dims.D), "%s: rank %d allowed, not %d", attention, allowed, limit);
        CHECK(rank == allowed, "%s: rank %d of %s, not %d", attention, rank, matrix ? "sigma" : "A", allowed);
    }
    free(maps); free(M);
    drop_batch(&batch);
    model_free(&m);
}

// ---- Planes

static void test_directions(void) {
    static Model m;
    build_whole_model(&m, "--image-size 12 --patch 3 --dim 16 --heads 2 --depth 2 --karat-rank 3 --rational-groups 4",
                      5);
    float* d = alloc_floats(m.table.total, "test");
    filter_direction(d, m.params, m.tensors, m.tensor_count, 3, 0);
    for (int k = 0; k < m.tensor_count; k++) {
        const NamedTensor* t = &m.tensors[k];
        int last = (int)t->shape[t->rank - 1], filters = 0;
        double worst = 0;
        size_t n = t->rank == 1 ? t->size : filter_size(t);
        for (size_t i = 0; i < t->size; i += n, filters++) {
            double own = 0, weights = 0;
            for (size_t j = 0; j < n; j++) {
                own += pow(d[t->offset + i + j], 2);
                weights += pow(m.params[t->offset + i + j], 2);
            }
            worst = fmax(worst, fabs(sqrt(own) - (t->rank == 1 ? 0 : sqrt(weights))));
        }
        CHECK_NEAR(worst, 0, 1e-5, t->name);
        if (strstr(t->name, "fc1.weight")) { CHECK(filters == 64 && n == 16, "%s: %d filters", t->name, filters); }
        if (strstr(t->name, "karat.coef")) { CHECK(filters == 6, "%s: %d filters of %d", t->name, filters, last); }
        if (strstr(t->name, "patch_embed.proj.weight")) { CHECK(n == 27, "%s: a filter of %zu", t->name, n); }
    }
    free(d);
    model_free(&m);
}

static void test_grid(void) {
    float theta[] = {0.1f, 0.2f, 0.3f}, first[] = {1, 0, 0}, second[] = {0, 1, 0.5f}, at[3];
    Plane p = {.size = 7, .theta = theta, .directions = {first, second}};
    plane_axis(&p, 0, -9, 1, 1.2); // 12 long, 2 apart, from -10 on
    plane_axis(&p, 1, 0, 0, 1.2);
    plane_points(&p, 1);
    CHECK(p.step[0] == 2 && p.x[0] == -10 && p.x[6] == 2, "the axis is %g .. %g by %g", p.x[0], p.x[6], p.step[0]);
    int origin = p.origin[1] * 7 + p.origin[0];
    CHECK(p.x[origin] == 0 && p.y[origin] == 0, "the origin is %g, %g", p.x[origin], p.y[origin]);
    plane_weights(at, &p, origin, 3);
    CHECK(memcmp(at, theta, sizeof at) == 0, "the weights at the origin are others");
    p.x[49] = 2, p.y[49] = -1;
    plane_weights(at, &p, 49, 3);
    CHECK(at[0] == 2.1f && at[1] == 0.2f - 1 && at[2] == (float)(0.3f - 0.5), "weights %g %g %g", at[0], at[1], at[2]);
    plane_free(&p);
}

static void test_minima(void) {
    enum { n = 11 };
    double bowl[n * n], crate[n * n];
    for (int i = 0; i < n * n; i++) {
        bowl[i] = pow(i / n - 6, 2) + pow(i % n - 2, 2);
        crate[i] = cos(plain_pi() * (i / n)) + cos(plain_pi() * (i % n)); // lowest at odd rows and columns
    }
    CHECK_NEAR(local_minima_share(bowl, n), 1.0 / 81, 1e-12, "a bowl's share of minima");
    CHECK_NEAR(local_minima_share(crate, n), 25.0 / 81, 1e-12, "an egg crate's");
    for (int i = 0; i < n * n; i++) { bowl[i] = 1; }
    CHECK_NEAR(local_minima_share(bowl, n), 0, 0, "a plain's");
}

static void open_run(Run* r, const char* flags) {
    Config c = config_from(flags);
    Error err;
    Trainer* t = &r->t;
    load_data(t, &c);
    if (!model_plan(&t->model, &c, t->train.classes, largest_batch(t, &c), &err) || !model_allocate(&t->model, &err)) {
        fail(EXIT_USAGE, "%s", err.text);
    }
    open_loaders(t, LOAD_IMAGES);
    r->has_model = r->has_data = true;
}

// Points that the file knows are not computed again: one, with a value of ours, shows it. A cut line is.
static void test_resumed_plane(Run* r, Plane* p) {
    Error err;
    char key[256], made_up[512];
    const char* path = in_folder("plane.part");
    int n = p->size * p->size;
    double* whole = zero_doubles(n);
    CHECK(plane_evaluate(p, r, path, "test", &err), "%s", err.text);
    memcpy(whole, p->loss, n * sizeof *whole);
    plane_key(p, r->t.test.count, r->t.model.table.count, key);
    snprintf(made_up, sizeof made_up, "%s0,123.5,50\n1,%.17g,%.17g\n2,7.2", key, whole[1], p->top1[1]);
    write_file(path, made_up, strlen(made_up));
    memset(p->loss, 0, n * sizeof *p->loss);
    CHECK(plane_evaluate(p, r, path, "test", &err), "%s", err.text);
    CHECK(p->loss[0] == 123.5, "a known point was computed again: %g", p->loss[0]);
    CHECK(memcmp(p->loss + 1, whole + 1, (n - 1) * sizeof *whole) == 0, "a plane that went on differs");
    memset(p->loss, 0, n * sizeof *p->loss);
    CHECK(plane_evaluate(p, r, path, "test", &err) && p->loss[2] == whole[2], "the file of one that went on differs");
    write_file(path, "somebody's\n", 11);
    CHECK(!plane_evaluate(p, r, path, "test", &err) && strstr(err.text, "is not of ./analyze"), "a foreign file: %s",
          err.text);
    free(whole);
}

// The loss at the origin is the evaluation's, and the curvature is that of the loss along its direction.
static void test_plane_of_model(void) {
    static Landscape s;
    Run* r = s.run = alloc_array(Run, 1, "test");
    open_run(r, "--model vit-mini --dim 16 --heads 2 --depth 1 --image-size 16 --patch 8 --train-images 32 "
             "--test-images 30 --batch-size 16");
    Model* m = &r->t.model;
    size_t total = m->table.total;
    s.weights = alloc_floats(3 * total, "test");
    memcpy(s.weights, m->params, total * sizeof(float));
    Evaluation e = evaluate(&r->t, m->params, NULL);
    Plane p = plane_of_filters(&s, 5, 1);
    test_resumed_plane(r, &p);
    CHECK_NEAR(p.loss[12], e.loss, 1e-12, "the loss at the origin");
    plane_free(&p);
    Curvature c = landscape_curvature(&s, 60);
    CHECK(c.residual < 0.05 * fabs(c.value) && c.difference < 0.05 * c.value,
          "curvature %g, residual %g, difference %g", c.value, c.residual, c.difference);
    free(s.weights);
    run_release(r);
    free(r);
}

// ---- Attention that is imposed

static void copy_shared_tensors(Model* to, const Model* from) {
    for (int i = 0; i < to->tensor_count * from->tensor_count; i++) {
        const NamedTensor *a = &to->tensors[i / from->tensor_count], *b = &from->tensors[i % from->tensor_count];
        if (strcmp(a->name, b->name) == 0) {
            memcpy(to->params + a->offset, from->params + b->offset, a->size * sizeof(float));
        }
    }
}

static const char imposed_flags[] = "--image-size 12 --patch 3 --dim 24 --heads 3 --depth 2 --mlp gelu --karat-rank 4 "
                                    "--batch-size 4 --drop-path 0.3";

// A student with the teacher's own weights gives the teacher's logits.
static void test_imposed_logits(const char* attention) {
    Model teacher;
    Imposed* s = alloc_array(Imposed, 1, "test");
    Model* m = &s->student.model;
    char flags[512];
    snprintf(flags, sizeof flags, "%s %s", imposed_flags, attention);
    build_whole_model(&teacher, flags, 5);
    snprintf(flags, sizeof flags, "%s --attn mixing", imposed_flags);
    build_whole_model(m, flags, 5);
    Batch batch = random_batch(&teacher, 4);
    learn(&teacher, &batch, 5);
    copy_shared_tensors(m, &teacher);
    s->teacher = &teacher;
    for (int b = 0; b < 4; b++) {
        imposed_forward(s, m->params, &batch, b, NULL);
        double got[5], want[5];
        for (int k = 0; k < 5; k++) { got[k] = model_logits(m)[k]; }
        model_forward(&teacher, teacher.params, batch.images + (size_t)b * 3 * 12 * 12, 1, NULL);
        for (int k = 0; k < 5; k++) { want[k] = model_logits(&teacher)[k]; }
        for (int k = 0; k < 5; k++) { CHECK_NEAR(got[k], want[k], 2e-5, attention); }
    }
    drop_batch(&batch);
    model_free(&teacher);
    model_free(m);
    free(s);
}

static void set_maps(Model* m, const float* maps /* (L,H,N,N) */) {
    for (int l = 0; l < m->dims.L; l++) {
        memcpy(imposed_map(m, m->params, l), maps + (size_t)l * map_size(m), map_size(m) * sizeof(float));
    }
}

// Where the teacher has one map for all images, images one by one give the gradients of the batch, drop path and all.
static void test_imposed_gradients(void) {
    Model teacher;
    Imposed* s = alloc_array(Imposed, 1, "test");
    Model* m = &s->student.model;
    char flags[512];
    snprintf(flags, sizeof flags, "%s --attn mixing --seed 7", imposed_flags);
    build_whole_model(&teacher, flags, 5);
    snprintf(flags, sizeof flags, "%s --attn mixing", imposed_flags);
    build_whole_model(m, flags, 5);
    Batch batch = random_batch(m, 4);
    float* maps = alloc_floats(imposed_size(m), "test");
    fill_normal(maps, imposed_size(m), 9);
    set_maps(&teacher, maps);
    set_maps(m, maps);
    s->teacher = &teacher;
    draw_drop_path(m, 1);
    size_t total = m->table.total;
    double* want = zero_doubles(total);
    model_zero_gradients(m);
    model_gradients(m, &batch, m->keep, 0.25f);
    StepSums sums = model_step_sums(m);
    for (size_t i = 0; i < total; i++) { want[i] = m->grads[i]; }
    for (int mean = 0; mean < 2; mean++) {
        s->mean = mean ? maps : NULL;
        fill_normal(imposed_map(m, m->params, 1), map_size(m), 10);
        model_zero_gradients(m);
        imposed_gradients(s, &batch, 0.25f);
        StepSums own = model_step_sums(m);
        CHECK_TENSOR(m->grads, want, total, 1e-5, mean ? "gradients, one map" : "gradients, image by image");
        CHECK_NEAR(own.loss, sums.loss, 1e-5, "loss");
    }
    free(want);
    free(maps);
    drop_batch(&batch);
    model_free(&teacher);
    model_free(m);
    free(s);
}

int main(void) {
    static const char* const attentions[] = {
        "--attn softmax", "--attn sigmoid", "--attn relu", "--attn linear", "--attn mixing", "--attn softmax-rank",
        "--attn karat", "--attn karat --softmax-heads 1 --pool avg", "--attn karat --karat-full on",
        "--attn karat --karat-order phi-w --karat-bias block", "--attn karat --karat-order phi-phi --basis morlet",
        "--attn karat --karat-projection simplex", "--attn karat --basis rational --karat-base silu",
    };
    for (size_t i = 0; i < sizeof attentions / sizeof *attentions; i++) { test_maps(attentions[i]); }
    test_ranks("--attn karat", 4);
    test_ranks("--attn karat --karat-bias block", 5);
    test_ranks("--attn softmax-rank", 4);
    test_directions();
    test_grid();
    test_minima();
    open_test_folder();
    test_plane_of_model();
    remove_test_folder();
    test_imposed_logits("--attn softmax");
    test_imposed_logits("--attn karat --softmax-heads 1");
    test_imposed_gradients();
    return tests_finish();
}
