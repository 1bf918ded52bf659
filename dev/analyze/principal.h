// Principal components of a few long vectors x_t (P), t = 1..T, using only their products G_st = x_s . x_t, so that the
// vectors can be read in pieces. With Gc the products after centring on the mean, Gc u = lambda u:
//     v = sum_t u_t x_t / sqrt(lambda)      a unit vector (sum_t u_t = 0: the mean cancels)
//     x_s . v = sum_t u_t G_st / sqrt(lambda)
//     lambda / trace Gc                     the share of the variance explained
#pragma once
#include "../../model/eigen.h"

// G (T,T) += products of n entries of each
static inline void add_products(double* G, const float* const* x, int T, size_t n) {
    #pragma omp parallel for schedule(dynamic)
    for (int s = 0; s < T; s++) {
        for (int t = 0; t <= s; t++) {
            double sum = 0;
            for (size_t i = 0; i < n; i++) { sum += (double)x[s][i] * x[t][i]; }
            G[s * T + t] += sum;
            if (t < s) { G[t * T + s] += sum; }
        }
    }
}

typedef struct {
    double *weights[2], explained[2]; // u / sqrt(lambda), (T): the components are these sums of the vectors
} Principal;

static inline void principal_free(Principal* p) { free(p->weights[0]); }

static inline void centre_products(double* centred, const double* G, int T) {
    double *mean = alloc_array(double, T, "principal components"), all = 0;
    for (int i = 0; i < T * T; i++) {
        mean[i / T] += G[i] / T;
        all += G[i] / T / T;
    }
    for (int i = 0; i < T * T; i++) { centred[i] = G[i] - mean[i / T] - mean[i % T] + all; }
    free(mean);
}

// The first two; weights are 0 if the vectors have no such component. Signs make the first vector's coordinates
// negative, so that they do not depend on the machine.
static inline void principal_components(Principal* p, const double* G, int T) {
    double* centred = alloc_array(double, (size_t)T * (2 * T + 1), "principal components");
    double *vectors = centred + (size_t)T * T, *values = vectors + (size_t)T * T, trace = 0;
    centre_products(centred, G, T);
    for (int t = 0; t < T; t++) { trace += centred[t * T + t]; }
    symmetric_eigen(centred, values, vectors, T);
    *p = (Principal){.weights = {alloc_array(double, 2 * T, "principal components")}};
    p->weights[1] = p->weights[0] + T;
    for (int k = 0; k < 2; k++) {
        int best = -1;
        for (int i = 0; i < T; i++) {
            if (values[i] > 1e-12 * trace && (best < 0 || values[i] > values[best])) { best = i; }
        }
        if (best < 0) { break; }
        double first = 0, scale = 1 / sqrt(values[best]);
        for (int t = 0; t < T; t++) { first += vectors[best * T + t] * G[t]; }
        for (int t = 0; t < T; t++) { p->weights[k][t] = vectors[best * T + t] * (first > 0 ? -scale : scale); }
        p->explained[k] = values[best] / trace;
        values[best] = 0;
    }
    free(centred);
}

// The coordinate of vector s in component k
static inline double principal_coordinate(const Principal* p, const double* G, int T, int s, int k) {
    double sum = 0;
    for (int t = 0; t < T; t++) { sum += p->weights[k][t] * G[s * T + t]; }
    return sum;
}
