// kernels/kan.h against the layer as it is defined, in double, edge by edge.
#include "../../kernels/kan.h"
#include "plain_basis.h"
#include "kernel_test.h"

typedef struct {
    int rows, C, OC, M;
    Basis basis;
    size_t inputs, outputs, edges, splines;                  // sizes
    float *inp, *dout, *weight, *spline_weight, *bias;       // inputs
    float *out, *dinp, *dweight, *dspline_weight, *dbias;    // results
} Case;

static Basis splines(int G, int order, float range) { return (Basis){BASIS_BSPLINE, G, order, range}; }

// No input within 1/1000 of a knot's distance of a knot, where splines of order 0 jump and those of order 1 bend
static void avoid_knots(float* x, size_t n, Basis b) {
    float step = 2 * b.range / b.grid;
    for (size_t i = 0; i < n; i++) {
        float place = (x[i] + b.range) / step;
        if (fabsf(place - rintf(place)) < 1e-3f) { x[i] += 0.01f * step; }
    }
}

static Case case_new(int rows, int C, int OC, Basis basis) {
    Case t = {.rows = rows, .C = C, .OC = OC, .M = basis_coefficients(basis), .basis = basis};
    t.inputs = (size_t)rows * C, t.outputs = (size_t)rows * OC, t.edges = (size_t)OC * C, t.splines = t.edges * t.M;
    t.inp = random_floats(t.inputs, 1), t.dout = random_floats(t.outputs, 2);
    t.weight = random_floats(t.edges, 3), t.spline_weight = random_floats(t.splines, 4);
    t.bias = random_floats(OC, 5);
    t.out = guarded_floats(t.outputs), t.dinp = guarded_floats(t.inputs);
    t.dweight = guarded_floats(t.edges), t.dspline_weight = guarded_floats(t.splines), t.dbias = guarded_floats(OC);
    avoid_knots(t.inp, t.inputs, basis);
    return t;
}

static void case_free(Case* t) {
    float* all[] = {t->inp, t->dout, t->weight, t->spline_weight, t->bias,
                    t->out, t->dinp, t->dweight, t->dspline_weight, t->dbias};
    for (int i = 0; i < 10; i++) { free(all[i]); }
}

static const float gradient_start = 0.25f; // += is part of the contract

static void fill(float* x, size_t n, float value) {
    for (size_t i = 0; i < n; i++) { x[i] = value; }
}

static void run(Case* t) {
    size_t size = kan_scratch(t->C, t->OC, t->basis);
    float* scratch = guarded_floats(size);
    fill(scratch, size, NAN), fill(t->out, t->outputs, NAN), fill(t->dinp, t->inputs, NAN);
    fill(t->dweight, t->edges, gradient_start), fill(t->dspline_weight, t->splines, gradient_start);
    fill(t->dbias, t->OC, gradient_start);
    kan_forward(t->out, t->inp, t->weight, t->spline_weight, t->bias, scratch, t->rows, t->C, t->OC, t->basis);
    kan_backward(t->dinp, t->dweight, t->dspline_weight, t->dbias, t->dout, t->inp, t->weight, t->spline_weight,
                 scratch, t->rows, t->C, t->OC, t->basis);
    CHECK(guards_intact(scratch, size), "scratch is overrun");
    free(scratch);
}

// ---- The oracle

typedef struct { double *out, *dinp, *dweight, *dspline_weight, *dbias; } Wanted;

static double silu(double x) { return x / (1 + exp(-x)); }

static double feature(Basis b, int m, double x) { return m < 0 ? silu(x) : plain_feature(b, m, x); }

// Input i of a row: feature m = -1 is silu
static void oracle_input(Wanted* w, const Case* t, int row, int i) {
    const double step = 1e-6;
    double x = t->inp[(size_t)row * t->C + i];
    for (int m = -1; m < t->M; m++) {
        double e = feature(t->basis, m, x);
        double slope = (feature(t->basis, m, x + step) - feature(t->basis, m, x - step)) / (2 * step);
        for (int o = 0; o < t->OC; o++) {
            size_t edge = (size_t)o * t->C + i, at = (size_t)row * t->OC + o;
            double c = m < 0 ? t->weight[edge] : t->spline_weight[edge * t->M + m];
            w->out[at] += c * e;
            w->dinp[(size_t)row * t->C + i] += c * slope * t->dout[at];
            *(m < 0 ? &w->dweight[edge] : &w->dspline_weight[edge * t->M + m]) += e * t->dout[at];
        }
    }
}

static Wanted oracle(const Case* t) {
    Wanted w = {zero_doubles(t->outputs), zero_doubles(t->inputs), zero_doubles(t->edges), zero_doubles(t->splines),
                zero_doubles(t->OC)};
    for (size_t i = 0; i < t->edges; i++) { w.dweight[i] = gradient_start; }
    for (size_t i = 0; i < t->splines; i++) { w.dspline_weight[i] = gradient_start; }
    for (int o = 0; o < t->OC; o++) { w.dbias[o] = gradient_start; }
    for (int row = 0; row < t->rows; row++) {
        for (int o = 0; o < t->OC; o++) {
            w.out[(size_t)row * t->OC + o] = t->bias[o];
            w.dbias[o] += t->dout[(size_t)row * t->OC + o];
        }
        for (int i = 0; i < t->C; i++) { oracle_input(&w, t, row, i); }
    }
    return w;
}

// ---- Checks

static void test_case(int rows, int C, int OC, Basis b) {
    Case t = case_new(rows, C, OC, b);
    run(&t);
    Wanted w = oracle(&t);
    struct { const char* name; const float* got; double* want; size_t n; } tensors[] = {
        {"out", t.out, w.out, t.outputs}, {"dinp", t.dinp, w.dinp, t.inputs},
        {"dweight", t.dweight, w.dweight, t.edges}, {"dspline_weight", t.dspline_weight, w.dspline_weight, t.splines},
        {"dbias", t.dbias, w.dbias, OC}};
    for (int i = 0; i < 5; i++) {
        double e = relative_error(tensors[i].got, tensors[i].want, tensors[i].n), limit = 3e-6; // observed: 6e-7
        CHECK(e <= limit, "G = %d, order %d, %d x %d to %d: %s relative error %.3g, limit %.2g", b.grid, b.order,
              rows, C, OC, tensors[i].name, e, limit);
        CHECK(guards_intact(tensors[i].got, tensors[i].n), "%s is overrun", tensors[i].name);
        free(tensors[i].want);
    }
    case_free(&t);
}

// Ranges smaller than the inputs; channels and outputs short of a block, and beyond one
static void test_grids(void) {
    const int orders[] = {0, 1, 3}, grids[] = {1, 2, 5};
    for (int i = 0; i < 9; i++) {
        test_case(19, 7, 5, splines(grids[i % 3], orders[i / 3], 1));
        test_case(5, 37, 11, splines(grids[i % 3], orders[i / 3], 2.5f));
    }
    test_case(1, 1, 1, splines(2, 3, 1));
    test_case(9, 2 * KAN_CHANNELS + 3, KAN_OUTPUTS + 5, splines(2, 3, 1));
}

// More rows than a block of KAN_ROWS in the weights' gradients, then in every task
static void test_rows(void) {
    test_case(2 * KAN_ROWS + 45, 35, 9, splines(2, 3, 1));
    test_case(32 * KAN_ROWS + 77, 3, 5, splines(2, 3, 2));
}

static void test_threads(void) {
    const int threads[] = {1, 2, 3};
    Case t[3];
    for (int i = 0; i < 3; i++) {
        use_threads(threads[i]);
        t[i] = case_new(301, 70, 2 * KAN_OUTPUTS + 1, splines(2, 3, 1));
        run(&t[i]);
    }
    for (int i = 1; i < 3; i++) {
        const float* ours[] = {t[i].out, t[i].dinp, t[i].dweight, t[i].dspline_weight, t[i].dbias};
        const float* first[] = {t[0].out, t[0].dinp, t[0].dweight, t[0].dspline_weight, t[0].dbias};
        size_t sizes[] = {t[0].outputs, t[0].inputs, t[0].edges, t[0].splines, t[0].OC};
        for (int k = 0; k < 5; k++) {
            CHECK(!memcmp(ours[k], first[k], sizes[k] * sizeof(float)), "tensor %d: other bits with %d threads", k,
                  threads[i]);
        }
    }
    for (int i = 0; i < 3; i++) { case_free(&t[i]); }
    use_threads(2);
}

// A NaN reaches its row's outputs and its channel's gradients, and nothing else
static void test_nan(void) {
    Case t = case_new(3, 5, 4, splines(2, 3, 1));
    t.inp[5 + 2] = NAN; // row 1, channel 2
    run(&t);
    CHECK(isnan(t.out[4]) && isnan(t.dinp[7]) && isnan(t.dweight[2]) && isnan(t.dspline_weight[2 * t.M]),
          "a NaN stays");
    CHECK(all_numbers(t.out, 4) && all_numbers(t.out + 8, 4) && all_numbers(t.dinp, 7) && all_numbers(t.dweight, 2),
          "a NaN stays in its place");
    case_free(&t);
}

// Without dinp the parameters' gradients are the same
static void test_first_layer(void) {
    Case t = case_new(40, 33, 7, splines(5, 3, 1));
    run(&t);
    float *again = guarded_floats(t.splines), *scratch = guarded_floats(kan_scratch(t.C, t.OC, t.basis));
    fill(again, t.splines, gradient_start);
    kan_backward(NULL, t.dweight, again, t.dbias, t.dout, t.inp, t.weight, t.spline_weight, scratch, t.rows, t.C, t.OC,
                 t.basis);
    CHECK(!memcmp(again, t.dspline_weight, t.splines * sizeof *again), "other gradients without dinp");
    free(again), free(scratch);
    case_free(&t);
}

int main(void) {
    matmul_init();
    use_threads(2);
    test_grids();
    test_rows();
    test_threads();
    test_nan();
    test_first_layer();
    return tests_finish();
}
