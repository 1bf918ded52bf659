// dev/analyze: singular values, principal components and the largest curvature, each of what has a known answer.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../analyze/curvature.h"
#include "../analyze/principal.h"
#include "../analyze/singular_values.h"
#include "kernel_test.h"

static double normal_at(uint32_t tensor, size_t i) { return random_normal(3, STREAM_CHECK, tensor, i); }

// Rows of Q (count,n) orthonormal, from noise by Gram and Schmidt, twice
static void orthonormal(double* Q, int count, int n, uint32_t tensor) {
    for (int i = 0; i < count; i++) {
        double* row = Q + (size_t)i * n;
        for (int j = 0; j < n; j++) { row[j] = normal_at(tensor, (size_t)i * n + j); }
        for (int k = 0; k < 2 * i; k++) {
            double dot = dot_of(row, Q + (size_t)(k % i) * n, n);
            for (int j = 0; j < n; j++) { row[j] -= dot * Q[(size_t)(k % i) * n + j]; }
        }
        make_unit(row, n);
    }
}

// M = sum_i s_i u_i v_i^T
static double* matrix_of(const double* s, int n) {
    size_t size = (size_t)n * n;
    double *U = zero_doubles(size), *V = zero_doubles(size), *M = zero_doubles(size);
    orthonormal(U, n, n, 1);
    orthonormal(V, n, n, 2);
    for (size_t at = 0; at < size; at++) {
        for (int i = 0; i < n; i++) { M[at] += U[(size_t)i * n + at / n] * s[i] * V[(size_t)i * n + at % n]; }
    }
    free(U);
    free(V);
    return M;
}

// kind 0: from 1 down to 1e-12; 1: all equal; 2: of rank 5, the rest 0; 3: all 0
static void check_singular(int n, int kind) {
    double *s = zero_doubles(n), *got = zero_doubles(n), worst = 0;
    for (int i = 0; i < n; i++) {
        double options[] = {pow(10, -12.0 * i / n), 2, i < 5 ? 5 - i : 0, 0};
        s[i] = options[kind];
    }
    double* M = matrix_of(s, n);
    singular_values(got, M, n);
    for (int i = 0; i < n; i++) { worst = fmax(worst, fabs(got[i] - s[i])); }
    CHECK_NEAR(worst, 0, 2e-15 * n, "singular values (observed 3e-16 n)");
    if (kind == 1) { CHECK_NEAR(effective_rank(got, n), n, 1e-9 * n, "effective rank of an orthogonal matrix"); }
    if (kind == 2) { CHECK(numerical_rank(got, n) == 5, "rank %d, not 5", numerical_rank(got, n)); }
    if (kind == 2) { // exp of the entropy of (5,4,3,2,1)/15
        double entropy = 0;
        for (int i = 1; i <= 5; i++) { entropy -= i / 15.0 * log(i / 15.0); }
        CHECK_NEAR(effective_rank(got, n), exp(entropy), 1e-9, "effective rank");
    }
    if (kind == 3) { CHECK(effective_rank(got, n) == 0 && numerical_rank(got, n) == 0, "zeros have a rank"); }
    free(M); free(s); free(got);
}

// A rank that fp32 has rounded is still seen.
static void test_rounded_rank(void) {
    enum { N = 60 };
    double s[N] = {3, 2, 1, 0.5, 0.1, 0.01}, got[N];
    double* M = matrix_of(s, N);
    for (int i = 0; i < N * N; i++) { M[i] = (float)M[i]; }
    singular_values(got, M, N);
    CHECK(numerical_rank(got, N) == 6, "rank %d of a rounded matrix, not 6", numerical_rank(got, N));
    CHECK(got[6] > 0 && got[6] < 1e-6, "s_7 is %g", got[6]);
    free(M);
}

// x_t = m + a_t e1 + b_t e2 with orthonormal e1, e2: the components are those, the coordinates known but for their sign
static void test_principal(void) {
    enum { T = 7, P = 500 };
    static const double a[T] = {-9, -4, -1, 1, 3, 4, 6}, b[T] = {1, -2, 1, 2, -1, 0, -1}; // sums 0, and of a b -22
    double *E = zero_doubles(3 * P), G[T * T] = {0};
    const float* x[T];
    orthonormal(E, 3, P, 3);
    for (int t = 0; t < T; t++) {
        float* row = alloc_floats(P, "test");
        for (int i = 0; i < P; i++) { row[i] = (float)(2 * E[2 * P + i] + a[t] * E[i] + b[t] * E[P + i]); }
        x[t] = row;
    }
    add_products(G, x, T, 123);
    const float* rest[T];
    for (int t = 0; t < T; t++) { rest[t] = x[t] + 123; }
    add_products(G, rest, T, P - 123);
    Principal p;
    principal_components(&p, G, T);
    // by the 2 x 2 covariance matrix of (a, b)
    double aa = 0, ab = 0, bb = 0, dot = 0, length[2] = {0};
    for (int t = 0; t < T; t++) { aa += a[t] * a[t], ab += a[t] * b[t], bb += b[t] * b[t]; }
    double half = (aa - bb) / 2, root = hypot(half, ab), large = (aa + bb) / 2 + root, angle = 0.5 * atan2(ab, half);
    CHECK_NEAR(p.explained[0], large / (aa + bb), 1e-6, "variance explained by the first");
    CHECK_NEAR(p.explained[0] + p.explained[1], 1, 1e-6, "variance explained by both");
    for (int t = 0; t < T; t++) {
        double first = a[t] * cos(angle) + b[t] * sin(angle), second = -a[t] * sin(angle) + b[t] * cos(angle);
        CHECK_NEAR(fabs(principal_coordinate(&p, G, T, t, 0)), fabs(first), 1e-5, "coordinate in the first");
        CHECK_NEAR(fabs(principal_coordinate(&p, G, T, t, 1)), fabs(second), 1e-5, "coordinate in the second");
    }
    CHECK(principal_coordinate(&p, G, T, 0, 0) < 0, "the first vector lies on the positive side");
    for (int i = 0; i < P; i++) {
        double v[2] = {0};
        for (int t = 0; t < T; t++) { v[0] += p.weights[0][t] * x[t][i], v[1] += p.weights[1][t] * x[t][i]; }
        dot += v[0] * v[1], length[0] += v[0] * v[0], length[1] += v[1] * v[1];
    }
    CHECK_NEAR(dot, 0, 1e-5, "the components are orthogonal");
    CHECK_NEAR(length[0], 1, 1e-5, "and of length 1");
    CHECK_NEAR(length[1], 1, 1e-5, "both");
    for (int t = 0; t < T; t++) { free((float*)x[t]); }
    principal_free(&p);
    free(E);
}

// Of vectors on a line there is one component.
static void test_line(void) {
    enum { T = 4 };
    const float x[T][2] = {{0, 0}, {1, 2}, {2, 4}, {4, 8}}, *rows[T] = {x[0], x[1], x[2], x[3]};
    double G[T * T] = {0};
    Principal p;
    add_products(G, rows, T, 2);
    principal_components(&p, G, T);
    CHECK_NEAR(p.explained[0], 1, 1e-12, "a line is its first component");
    CHECK(p.explained[1] == 0 && principal_coordinate(&p, G, T, 3, 1) == 0, "and has no second");
    principal_free(&p);
}

// ---- Curvature of sum_i lambda_i x_i^2 / 2 in rotated coordinates, its gradient rounded to fp32

enum { QUADRATIC = 40 };
typedef struct { double lambda[QUADRATIC], Q[QUADRATIC * QUADRATIC], cubic; } Quadratic;

static void quadratic_gradient(void* context, float* grad, const float* theta) {
    const Quadratic* f = (const Quadratic*)context;
    double g[QUADRATIC] = {0};
    for (int i = 0; i < QUADRATIC; i++) {
        double y = 0;
        for (int j = 0; j < QUADRATIC; j++) { y += f->Q[i * QUADRATIC + j] * theta[j]; }
        for (int j = 0; j < QUADRATIC; j++) {
            g[j] += f->Q[i * QUADRATIC + j] * (f->lambda[i] * y + f->cubic * y * y * y);
        }
    }
    for (int j = 0; j < QUADRATIC; j++) { grad[j] = (float)g[j]; }
}

static Curvature curvature_of(Quadratic* f, double largest, double smallest) {
    static float theta[QUADRATIC];
    orthonormal(f->Q, QUADRATIC, QUADRATIC, 4);
    for (int i = 0; i < QUADRATIC; i++) {
        f->lambda[i] = i == 0 ? largest : i == 1 ? smallest : 0.3 * largest * i / QUADRATIC;
        theta[i] = (float)(0.1 * normal_at(5, i));
    }
    PowerIteration p = {.gradient = quadratic_gradient, .context = f, .theta = theta, .count = QUADRATIC, .step = 1e-2,
                        .tolerance = 1e-5, .most = 200};
    return largest_curvature(&p);
}

static void test_curvature(void) {
    static Quadratic f;
    Curvature c = curvature_of(&f, 7, -2);
    CHECK_NEAR(c.value, 7, 2e-4, "largest eigenvalue of a quadratic");
    CHECK(c.residual < 1e-4 * 7 && c.difference < 1e-3 && c.steps < 200, "residual %g, difference %g after %d",
          c.residual, c.difference, c.steps);
    c = curvature_of(&f, 3, -8); // the one of largest magnitude is negative
    CHECK_NEAR(c.value, 3, 1e-3, "largest eigenvalue where a negative one is larger in magnitude");
    f.cubic = 1; // the step's error is seen: about 3 cubic h^2 along an eigenvector, of which a third shows at h
    c = curvature_of(&f, 7, -2);
    CHECK(c.difference > 0 && fabs(c.value - 7) < 0.5, "value %g, difference %g", c.value, c.difference);
}

int main(void) {
    int sizes[] = {1, 7, 50};
    for (int i = 0; i < 3; i++) {
        check_singular(sizes[i], 0);
        check_singular(sizes[i], 1);
        check_singular(sizes[i], 3);
    }
    check_singular(50, 2);
    test_rounded_rank();
    test_principal();
    test_line();
    test_curvature();
    return tests_finish();
}
