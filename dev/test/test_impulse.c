// model/impulse.h: the directions against their definition, the logits of the start against U Uᵀ H U Uᵀ formed as it is
// written, where their largest stands, and the small models in which there is less than a head's width to direct.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../model/attention_start.h"
#include "../../model/settings.h"
#include "kernel_test.h"

// A model's parameters as the trainer starts them
typedef struct { Config config; Dims dims; ParameterTable table; float* flat; } Start;

static Start start_of(const char* init, const char* dim, const char* heads, const char* image_size) {
    Start s = {0};
    Error err;
    char* argv[] = {"test", "--model", "vit-mini", "--depth", "4", "--attn-init", (char*)init, "--dim", (char*)dim,
                    "--heads", (char*)heads, "--image-size", (char*)image_size};
    CHECK(config_parse(&s.config, NULL, 13, argv, &err), "%s", err.text);
    s.dims = dims_of(&s.config, 10);
    CHECK(parameter_table(&s.table, &s.config, s.dims, &err), "%s", err.text);
    s.flat = alloc_floats(s.table.total, "test");
    CHECK(params_init(&s.table, &s.config, s.flat, &err), "%s", err.text);
    attention_start(&s.config, &s.table, s.dims, s.flat);
    return s;
}

static void free_start(Start* s) {
    free(s->flat);
    parameter_table_free(&s->table);
}

// P of the start
static double* codes_of(const Start* s, int n) {
    double* P = zero_doubles((size_t)n * s->dims.C);
    impulse_codes(P, params_of(&s->table, s->flat).pos_embed + (size_t)(s->dims.N - n) * s->dims.C, n, s->dims.C);
    return P;
}

static double length_of(const double* x, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) { squares += x[i] * x[i]; }
    return sqrt(squares);
}

// Of R = P - U Uᵀ P the largest singular value, by the power method on a vector (C)
static double rest_of(const double* P, const double* U, int rank, int n, int C) {
    double *R = zero_doubles((size_t)n * C), *x = zero_doubles(C), *y = zero_doubles(n), size = 0;
    memcpy(R, P, (size_t)n * C * sizeof *R);
    for (int i = 0; i < rank; i++) {
        for (int c = 0; c < C; c++) {
            double dot = 0;
            for (int k = 0; k < n; k++) { dot += U[i * n + k] * P[k * C + c]; }
            for (int k = 0; k < n; k++) { R[k * C + c] -= dot * U[i * n + k]; }
        }
    }
    for (int c = 0; c < C; c++) { x[c] = cos(c); }
    for (int step = 0; step < 300; step++) {
        memset(y, 0, n * sizeof *y);
        for (int k = 0; k < n; k++) {
            for (int c = 0; c < C; c++) { y[k] += R[k * C + c] * x[c]; }
        }
        memset(x, 0, C * sizeof *x);
        for (int k = 0; k < n; k++) {
            for (int c = 0; c < C; c++) { x[c] += R[k * C + c] * y[k]; }
        }
        size = length_of(x, C);
        for (int c = 0; c < C; c++) { x[c] /= size; }
    }
    free(R), free(x), free(y);
    return sqrt(size);
}

// Wk and U of one model: U orthonormal, its directions the leading ones, each Wk of the size 1 / s
static void test_directions(void) {
    Start s = start_of("impulse", "96", "3", "32");
    enum { n = 64, C = 96, D = 32 };
    double *P = codes_of(&s, n), *Wk = zero_doubles(D * C), *U = zero_doubles(D * n), skew = 0, least = INFINITY;
    int rank = impulse_keys(Wk, P, n, C, D);
    CHECK(rank == D, "%d directions of %d", rank, D);
    impulse_directions(U, P, Wk, rank, n, C);
    for (int i = 0; i < D; i++) {
        double value = 1 / length_of(Wk + i * C, C);
        CHECK(value <= least + 1e-9, "singular value %d is %g after %g", i, value, least);
        least = value;
        for (int j = 0; j < D; j++) {
            double dot = 0;
            for (int k = 0; k < n; k++) { dot += U[i * n + k] * U[j * n + k]; }
            skew = fmax(skew, fabs(dot - (i == j)));
        }
    }
    CHECK_NEAR(skew, 0, 1e-12, "keys are orthonormal (observed 3e-15)");
    double rest = rest_of(P, U, D, n, C);
    bool leading = rest > 0.5 * least && rest < 1.0001 * least;
    CHECK(leading, "what is left has the singular value %g, beside %g", rest, least);
    free(P), free(Wk), free(U);
    free_start(&s);
}

// out (n, n) = x (n, C) yᵀ
static void products(double* out, const double* x, const double* y, int n, int width) {
    for (int k = 0; k < n; k++) {
        for (int q = 0; q < n; q++) {
            out[k * n + q] = 0;
            for (int i = 0; i < width; i++) { out[k * n + q] += x[k * width + i] * y[q * width + i]; }
        }
    }
}

// P W (n, D) of the rows of a stored weight
static double* projected(const double* P, const float* weight, int n, int C, int D) {
    double* out = zero_doubles((size_t)n * D);
    for (int k = 0; k < n; k++) {
        for (int i = 0; i < D; i++) {
            for (int c = 0; c < C; c++) { out[k * D + i] += P[k * C + c] * weight[i * C + c]; }
        }
    }
    return out;
}

// Logits (n, n) of a head against U Uᵀ H U Uᵀ at the same size; returns the share of targets that have the largest
static double check_head(const double* P, const float* queries, const float* keys, int offset, int side, int C, int D) {
    int n = side * side;
    double *q = projected(P, queries, n, C, D), *k = projected(P, keys, n, C, D), *logits = zero_doubles((size_t)n * n);
    double *pi = zero_doubles((size_t)n * n), *want = zero_doubles((size_t)n * n), hits = 0, targets = 0, miss = 0;
    products(logits, q, k, n, D);
    double size = length_of(k, (size_t)n * D) / sqrt(D); // of a column: keys are U times it
    products(pi, k, k, n, D);
    for (int i = 0; i < n * n; i++) { pi[i] /= size * size; }
    for (int row = 0; row < n; row++) {
        for (int from = 0; from < n; from++) {
            int to = impulse_target(from, offset, side);
            for (int column = 0; to >= 0 && column < n; column++) {
                want[row * n + column] += pi[row * n + from] * pi[to * n + column];
            }
        }
    }
    double ratio = length_of(logits, (size_t)n * n) / length_of(want, (size_t)n * n);
    for (int i = 0; i < n * n; i++) { miss = fmax(miss, fabs(logits[i] / ratio - want[i])); }
    CHECK_NEAR(miss, 0, 1e-6, "logits (observed 3e-8)");
    for (int row = 0; row < n; row++) {
        int target = impulse_target(row, offset, side), best = 0;
        for (int column = 0; column < n; column++) {
            best = logits[row * n + column] > logits[row * n + best] ? column : best;
        }
        targets += target >= 0;
        hits += target == best;
    }
    free(q), free(k), free(logits), free(pi), free(want);
    return hits / targets;
}

static double norm_of(const float* weight, size_t n) {
    double squares = 0;
    for (size_t i = 0; i < n; i++) { squares += (double)weight[i] * weight[i]; }
    return sqrt(squares);
}

static void test_heads(const char* dim, const char* heads) {
    Start s = start_of("impulse", dim, heads, "32"), mimetic = start_of("mimetic", dim, heads, "32");
    Dims d = s.dims;
    int C = d.C, D = d.D, side = 8;
    double* P = codes_of(&s, side * side);
    for (int l = 0; l < d.L; l++) {
        Params p = params_of_block(&s.table, s.flat, l), m = params_of_block(&mimetic.table, mimetic.flat, l);
        for (int h = 0; h < d.H; h++) {
            const float *queries = p.qkv_weight + h * D * C, *keys = queries + C * C;
            double share = check_head(P, queries, keys, (l * d.H + h) % IMPULSE_OFFSETS, side, C, D);
            CHECK(share > 0.9, "block %d, head %d: %.2f of the targets have the largest logit", l, h, share);
            CHECK_NEAR(norm_of(queries, D * C), IMPULSE_NORM, 1e-5, "norm of Wq");
            CHECK_NEAR(norm_of(keys, D * C), IMPULSE_NORM, 1e-5, "norm of Wk");
        }
        bool same = !memcmp(p.qkv_weight + 2 * C * C, m.qkv_weight + 2 * C * C, C * C * sizeof(float)) &&
                    !memcmp(p.proj_weight, m.proj_weight, C * C * sizeof(float));
        CHECK(same, "values and projection of block %d are not mimetic.h's", l);
    }
    free(P), free_start(&s), free_start(&mimetic);
}

// Every offset once, none beyond the border
static void test_targets(void) {
    int seen[25] = {0};
    for (int offset = 0; offset < IMPULSE_OFFSETS; offset++) {
        int target = impulse_target(12, offset, 5), corner = impulse_target(0, offset, 5);
        int only = impulse_target(0, offset, 1);
        bool near = abs(target / 5 - 2) <= 1 && abs(target % 5 - 2) <= 1;
        CHECK(near && !seen[target]++, "offset %d of the middle leads to %d", offset, target);
        bool inside = corner == -1 || corner == 0 || corner == 1 || corner == 5 || corner == 6;
        CHECK(inside, "offset %d of a corner leads to %d", offset, corner);
        CHECK(only == (offset == 0 ? 0 : -1), "offset %d of a single patch", offset);
    }
}

// 4 patches and a head of 20, then a single patch: what there is no direction for keeps its random start
static void test_small(void) {
    static const char* const sizes[] = {"8", "4"};
    for (int i = 0; i < 2; i++) {
        Start s = start_of("impulse", "40", "2", sizes[i]), plain = start_of("trunc02", "40", "2", sizes[i]);
        const float* weight = params_of(&s.table, s.flat).qkv_weight;
        const float* random = params_of(&plain.table, plain.flat).qkv_weight;
        int rank = i == 0 ? 4 : 1;
        CHECK(all_numbers(s.flat, s.table.total), "image size %s: a start that is not finite", sizes[i]);
        CHECK_NEAR(norm_of(weight, rank * 40), IMPULSE_NORM, 1e-5, "norm of few directions");
        CHECK(!memcmp(weight + rank * 40, random + rank * 40, (20 - rank) * 40 * sizeof(float)),
              "image size %s: rows without a direction have changed", sizes[i]);
        free_start(&s), free_start(&plain);
    }
}

static void test_threads(void) {
    Start one = {0};
    for (int threads = 1; threads <= 3; threads++) {
        use_threads(threads);
        Start s = start_of("impulse", "40", "5", "32");
        if (threads == 1) { one = s; }
        CHECK(!memcmp(one.flat, s.flat, s.table.total * sizeof *s.flat), "the same bits with %d threads", threads);
        if (threads > 1) { free_start(&s); }
    }
    free_start(&one);
}

int main(void) {
    test_targets();
    test_directions();
    test_heads("96", "3");
    test_heads("128", "2");
    test_small();
    test_threads();
    return tests_finish();
}
