// The bases of KArAt's units (Maity et al., arXiv 2503.10632): every function with its derivatives, for the CPU and, as
// plain inline code, for CUDA. A basis is either
//   linear     phi(x) = sum_m c_m e_m(x)
//       fourier      cos(mx), m = 1..G, then sin(mx), m = 1..G
//       bspline      B_m of order k on uniform knots t_j = -R + (j-k) 2R/G, j = 0..G+2k, m = 0..G+k-1; 0 beyond them
//       chebyshev    T_m(tanh x), m = 0..G
//       polynomial   x^m, m = 0..G
//   or a unit of its own parameters
//       rational     (a0 + .. + a5 x^5) / (1 + |S|), S = b1 x + .. + b4 x^4            parameters a0..a5, b1..b4
//       a wavelet    w psi((x - tau) / s)                                              parameters w, tau, s
//           mexican-hat  2/(sqrt3 pi^1/4) (1-x^2) e^{-x^2/2}         morlet   cos(5x) e^{-x^2/2}
//           dog          x e^{-x^2/2}                                shannon  sin(x)/x, times a window over the tokens
//           meyer        sin(pi|x|) m(|x|): m(t) = 1 up to 1/2, cos(pi/2 nu(2t-1)) up to 1, 0 beyond;
//                        nu(t) = t^4 (35 - 84t + 70t^2 - 20t^3)
//           sech         1 / cosh(x)
// Kinks: meyer at x = 0 (at |x| = 1/2 and 1 three derivatives agree), rational at S = 0, B-splines of order 1 at the
// knots, where those of order 0 jump. At a kink the derivative is that of the upper side: sgn(0) = +1.
// A NaN comes out as NaN.
#pragma once
#include "../runtime/choices.h"
#include "vector_math.h"
#include <stdbool.h>

#ifdef __CUDACC__
#define BASIS_FUNCTION static inline __host__ __device__
#define BASIS_SIZE_FUNCTION BASIS_FUNCTION
#else
#define BASIS_FUNCTION static inline
#define BASIS_SIZE_FUNCTION NEVER_INLINE __attribute__((const))
#endif
#define BASIS_VALUE BASIS_FUNCTION __attribute__((always_inline)) // of one number, for loops that are to vectorise

// A new basis needs a row in one of these tables and the functions that the row names, nothing else. The definition is
// plain C in double precision, which the tests compare the functions with (dev/test/plain_basis.h has plain_spline and
// plain_meyer).

// B(constant, name as a choice of --basis, note for --list, M of a Basis b, features, slopes, definition of e_m(x))
#define FOURIER_BASIS(B) \
B(BASIS_FOURIER, "fourier", "Σ a_m cos(mx) + c_m sin(mx), m = 1..G", 2 * b.grid, basis_harmonics, \
  basis_harmonic_slopes, m < b.grid ? cos((m + 1) * x) : sin((m - b.grid + 1) * x))
#define OTHER_LINEAR_BASES(B) \
B(BASIS_BSPLINE, "bspline", "Σ c_m B_m(x), order k, G intervals on [-R, R]", b.grid + b.order, basis_splines, \
  basis_spline_slopes, plain_spline(x, m, b.order, b)) \
B(BASIS_CHEBYSHEV, "chebyshev", "Σ c_m T_m(tanh x), m = 0..G", b.grid + 1, basis_chebyshev, basis_chebyshev_slopes, \
  cos(m * acos(tanh(x)))) \
B(BASIS_POLYNOMIAL, "polynomial", "Σ c_m x^m, m = 0..G", b.grid + 1, basis_powers, basis_power_slopes, pow(x, m))
#define LINEAR_BASES(B) FOURIER_BASIS(B) OTHER_LINEAR_BASES(B)

// W(constant, name, note, function of x that gives psi and psi', definition of psi(x))
#define WAVELETS(W) \
W(BASIS_MEXICAN_HAT, "mexican-hat", \
  "wavelet: second derivative of a Gaussian; weight, shift and width of each unit, as of all wavelets", \
  basis_mexican_hat, 2 / (sqrt(3) * pow(plain_pi(), 0.25)) * (1 - x * x) * exp(-x * x / 2)) \
W(BASIS_MORLET, "morlet", "wavelet: cosine under a Gaussian", basis_morlet, cos(5 * x) * exp(-x * x / 2)) \
W(BASIS_DOG, "dog", "wavelet: derivative of a Gaussian", basis_dog, x * exp(-x * x / 2)) \
W(BASIS_MEYER, "meyer", "wavelet: sine under Meyer's window", basis_meyer, plain_meyer(x)) \
W(BASIS_SHANNON, "shannon", "wavelet: sinc, with a Hamming window over the tokens", basis_shannon, \
  x == 0 ? 1 : sin(x) / x) \
W(BASIS_SECH, "sech", "wavelet: hyperbolic secant, a bell with exponential tails", basis_sech, 1 / cosh(x))

// In this order nvcc spills no register in karat_sigma.cuh: in some others it does.
#define BASES(X) \
FOURIER_BASIS(X) \
X(BASIS_RATIONAL, "rational", "(a0 + .. + a5 x^5) / (1 + |b1 x + .. + b4 x^4|), coefficients of each unit") \
WAVELETS(X) \
OTHER_LINEAR_BASES(X)
typedef enum { BASES(CHOICE_CONSTANT) BASIS_COUNT } KaratBasis;

// The base activation b(x) beside the basis
#define KARAT_BASE_FUNCTIONS(X) \
X(KARAT_BASE_ZERO, "zero") X(KARAT_BASE_IDENTITY, "identity") X(KARAT_BASE_SILU, "silu") X(KARAT_BASE_GELU, "gelu")
typedef enum { KARAT_BASE_FUNCTIONS(CHOICE_CONSTANT) } KaratBase;

typedef struct {
    KaratBasis kind;
    int grid;    // G
    int order;   // of the B-splines, k
    float range; // of the B-splines, R
} Basis;

enum { RATIONAL_UNIT_NUMERATOR = 6, RATIONAL_UNIT_DENOMINATOR = 4, WAVELET_PARAMETERS = 3, SPLINE_MAX_ORDER = 7 };

BASIS_FUNCTION bool basis_is_linear(KaratBasis kind) { return kind == BASIS_FOURIER || kind >= BASIS_BSPLINE; }
BASIS_FUNCTION bool basis_is_wavelet(KaratBasis kind) { return kind > BASIS_RATIONAL && kind < BASIS_BSPLINE; }

BASIS_SIZE_FUNCTION int basis_coefficients(Basis b) { // M
#define COUNT_CASE(constant, name, note, count, ...) case constant: return count;
    switch (b.kind) {
    LINEAR_BASES(COUNT_CASE)
    case BASIS_RATIONAL: return RATIONAL_UNIT_NUMERATOR + RATIONAL_UNIT_DENOMINATOR;
    default: return WAVELET_PARAMETERS;
    }
#undef COUNT_CASE
}

#ifdef __CUDA_ARCH__
BASIS_VALUE float basis_exp(float x) { return expf(x); }
BASIS_VALUE void basis_sincos(float x, float* sine, float* cosine) { sincosf(x, sine, cosine); }
#else
BASIS_VALUE float basis_exp(float x) { return vm_exp(x); }
BASIS_VALUE void basis_sincos(float x, float* sine, float* cosine) { vm_sincos(x, sine, cosine); }
#endif

// ---- Wavelets

typedef struct { float value, slope; } BasisValue; // psi(x) and psi'(x)

BASIS_VALUE BasisValue basis_mexican_hat(float x) {
    float square = x * x, bell = 0.86732507f * basis_exp(-0.5f * square); // 2 / (sqrt3 pi^1/4)
    return (BasisValue){(1 - square) * bell, x * (square - 3) * bell};
}

BASIS_VALUE BasisValue basis_morlet(float x) {
    float sine, cosine, bell = basis_exp(-0.5f * x * x);
    basis_sincos(5 * x, &sine, &cosine);
    return (BasisValue){cosine * bell, -(5 * sine + x * cosine) * bell};
}

BASIS_VALUE BasisValue basis_dog(float x) {
    float bell = basis_exp(-0.5f * x * x);
    return (BasisValue){x * bell, (1 - x * x) * bell};
}

// nu'(t) = 140 t^3 (1-t)^3
BASIS_VALUE BasisValue basis_meyer(float x) {
    const float pi = 3.14159265f;
    float a = fabsf(x), t = 2 * a - 1, sine, cosine, window_sine, window;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    float cube = t * t * t, rest = 1 - t, slope_nu = 140 * cube * (rest * rest * rest);
    basis_sincos(pi * a, &sine, &cosine);
    basis_sincos(0.5f * pi * (cube * t * (35 - t * (84 - t * (70 - 20 * t)))), &window_sine, &window);
    float value = sine * window, slope = pi * (cosine * window - sine * window_sine * slope_nu);
    return (BasisValue){a >= 1 ? 0 : value, a >= 1 ? 0 : x < 0 ? -slope : slope};
}

// Below 1/2 by the series, since (cos x - sin x / x) / x would cancel
BASIS_VALUE BasisValue basis_shannon(float x) {
    float sine, cosine, t = x * x;
    basis_sincos(x, &sine, &cosine);
    float series = 1 - t * (1 / 6.0f - t * (1 / 120.0f - t * (1 / 5040.0f)));
    float series_slope = -x * (1 / 3.0f - t * (1 / 30.0f - t * (1 / 840.0f - t * (1 / 45360.0f))));
    bool small = t < 0.25f;
    float divisor = small ? 1 : x, value = sine / divisor, slope = (cosine - value) / divisor;
    return (BasisValue){small ? series : value, small ? series_slope : slope};
}

// With t = e^-|x| neither tail overflows: sech x = 2t / (1 + t^2), sech' x = -sech x tanh x
BASIS_VALUE BasisValue basis_sech(float x) {
    float t = basis_exp(-fabsf(x)), square = t * t, inverse = 1 / (1 + square), bell = 2 * t * inverse;
    return (BasisValue){bell, -bell * copysignf((1 - square) * inverse, x)};
}

// The symmetric Hamming window of token q; 1 if there is only one token
BASIS_FUNCTION float basis_shannon_window(int q, int N) {
    return N == 1 ? 1 : (float)(0.54 - 0.46 * cos(6.283185307179586 * q / (N - 1)));
}

// 1/s. An |s| below 1/1000 counts as 1/1000, with the gradient there: a unit never becomes too narrow for fp32, and can
// become wider again.
BASIS_VALUE float basis_inverse_scale(float s) {
    float size = fabsf(s) < 1e-3f ? 1e-3f : fabsf(s);
    return copysignf(1 / size, s);
}

// psi and psi' of x (count). Each has a loop of its own, which its formula is inlined into, so that it vectorises.
static inline void basis_wavelets(float* value, float* slope, const float* x, int count, KaratBasis kind) {
#define WAVELET_CASE(constant, name, note, function, ...) \
    case constant: \
        _Pragma("omp simd") \
        for (int i = 0; i < count; i++) { \
            BasisValue psi = function(x[i]); \
            value[i] = psi.value; \
            slope[i] = psi.slope; \
        } \
        break;
    switch (kind) {
    WAVELETS(WAVELET_CASE)
    default: break;
    }
#undef WAVELET_CASE
}

// ---- The rational unit

typedef struct {
    float value, slope;
    float gain; // 1/Q: the derivative by a_i is gain x^i
    float turn; // -sgn(S) value / Q: the derivative by b_j is turn x^j
} BasisRational;

// theta[m * step]: a0..a5, b1..b4
BASIS_VALUE BasisRational basis_rational(float x, const float* theta, int step) {
    const float *a = theta, *b = theta + RATIONAL_UNIT_NUMERATOR * step;
    float P = a[5 * step], dP = 0, S = b[3 * step], dS = S;
    UNROLLED
    for (int i = 4; i >= 0; i--) {
        dP = dP * x + P;
        P = P * x + a[i * step];
    }
    UNROLLED
    for (int j = 2; j >= 0; j--) {
        S = S * x + b[j * step];
        dS = dS * x + S;
    }
    S *= x;
    float gain = 1 / (1 + fabsf(S)), value = P * gain, turn = (S < 0 ? value : -value) * gain;
    return (BasisRational){value, dP * gain + turn * dS, gain, turn};
}

// ---- Features of the linear bases: e (M, count) of x (count), and their derivatives

// harmonics by rotation, cos(mx) + i sin(mx) = (cos x + i sin x)^m; their derivatives are each other
BASIS_FUNCTION void basis_harmonics(float* features, const float* x, int count, Basis b) {
    int G = b.grid;
    float *cos1 = features, *sin1 = features + G * count;
    #pragma omp simd
    for (int i = 0; i < count; i++) { basis_sincos(x[i], &sin1[i], &cos1[i]); }
    for (int m = 2; m <= G; m++) {
        float *c = cos1 + (m - 1) * count, *s = sin1 + (m - 1) * count;
        #pragma omp simd
        for (int i = 0; i < count; i++) {
            c[i] = c[i - count] * cos1[i] - s[i - count] * sin1[i];
            s[i] = s[i - count] * cos1[i] + c[i - count] * sin1[i];
        }
    }
}

// x^m
BASIS_FUNCTION void basis_powers(float* e, const float* x, int count, Basis b) {
    int G = b.grid;
    for (int i = 0; i < count; i++) { e[i] = 1; }
    for (int m = 1; m <= G; m++, e += count) {
        for (int i = 0; i < count; i++) { e[count + i] = e[i] * x[i]; }
    }
}

BASIS_FUNCTION void basis_power_slopes(float* slopes, const float* e, const float* x, int count, Basis b) {
    int G = b.grid;
    (void)x;
    for (int i = 0; i < count; i++) { slopes[i] = 0; }
    for (int m = 1; m <= G; m++) {
        for (int i = 0; i < count; i++) { slopes[m * count + i] = m * e[(m - 1) * count + i]; }
    }
}

// cos(mx)' = -m sin(mx), sin(mx)' = m cos(mx)
BASIS_FUNCTION void basis_harmonic_slopes(float* slopes, const float* e, const float* x, int count, Basis b) {
    int G = b.grid;
    (void)x;
    for (int m = 1; m <= G; m++) {
        const float *c = e + (m - 1) * count, *s = c + G * count;
        float *dc = slopes + (m - 1) * count, *ds = dc + G * count;
        for (int i = 0; i < count; i++) {
            dc[i] = -m * s[i];
            ds[i] = m * c[i];
        }
    }
}

// T_1 = t = tanh x, T_m = 2t T_(m-1) - T_(m-2)
BASIS_FUNCTION void basis_chebyshev(float* e, const float* x, int count, Basis b) {
    int G = b.grid;
    #pragma omp simd
    for (int i = 0; i < count; i++) {
        float decay = basis_exp(-2 * fabsf(x[i]));
        e[i] = 1;
        e[count + i] = copysignf((1 - decay) / (1 + decay), x[i]);
    }
    const float* t = e + count;
    for (int m = 2; m <= G; m++) {
        float* next = e + m * count;
        for (int i = 0; i < count; i++) { next[i] = 2 * t[i] * next[i - count] - next[i - 2 * count]; }
    }
}

// d/dx T_m, from the recurrence: T'_1 = dt/dx = 1 - t^2, T'_m = 2 T'_1 T_(m-1) + 2t T'_(m-1) - T'_(m-2)
BASIS_FUNCTION void basis_chebyshev_slopes(float* slopes, const float* e, const float* x, int count, Basis b) {
    int G = b.grid;
    #pragma omp simd
    for (int i = 0; i < count; i++) {
        float decay = basis_exp(-2 * fabsf(x[i]));
        slopes[i] = 0;
        slopes[count + i] = 4 * decay / ((1 + decay) * (1 + decay));
    }
    const float *t = e + count, *dt = slopes + count;
    for (int m = 2; m <= G; m++) {
        const float* before = e + (m - 1) * count;
        float* next = slopes + m * count;
        for (int i = 0; i < count; i++) {
            next[i] = 2 * (dt[i] * before[i] + t[i] * next[i - count]) - next[i - 2 * count];
        }
    }
}

// On knots one apart x is in cell floor(x), a fraction f into it, where k+1 of the B-splines are not zero: that which
// began n cells before has the value piece_n, the n-th piece of the one B-spline of order k,
//     k piece_n = (n+f) piece'_n + (k+1-n-f) piece'_(n-1),  piece' of order k-1 (Cox and de Boor)
#ifdef __CUDA_ARCH__
enum { SPLINE_BLOCK = 1 };
#else
enum { SPLINE_BLOCK = 64 }; // elements at a time, so that loops over them vectorise
#endif

BASIS_FUNCTION void basis_spline_pieces(float pieces[][SPLINE_BLOCK], const float* f, int order) {
    for (int i = 0; i < SPLINE_BLOCK; i++) { pieces[0][i] = 1; }
    for (int k = 1; k <= order; k++) {
        float inverse = 1.0f / k;
        for (int n = k; n >= 0; n--) {
            UNROLLED
            for (int i = 0; i < SPLINE_BLOCK; i++) {
                float own = n < k ? (n + f[i]) * pieces[n][i] : 0, left = n > 0 ? pieces[n > 0 ? n - 1 : 0][i] : 0;
                pieces[n][i] = inverse * (own + (k + 1 - n - f[i]) * left);
            }
        }
    }
}

// The cell of each x, from the first knot on, and the fraction into it; elements beyond count repeat the last
BASIS_FUNCTION void basis_spline_cells(float* cell, float* f, const float* x, int count, Basis b) {
    float scale = b.grid / (2 * b.range), middle = 0.5f * b.grid + b.order;
    UNROLLED
    for (int i = 0; i < SPLINE_BLOCK; i++) {
        float place = x[i < count ? i : count - 1] * scale + middle;
        cell[i] = floorf(place);
        f[i] = place - cell[i];
    }
}

// e_m = sum over n of [cell = m + n] pieces_n. A product, not a selection, so that a NaN comes through
BASIS_FUNCTION void basis_spline_spread(float* e, int step, float pieces[][SPLINE_BLOCK], const float* cell, int count,
                                        Basis b) {
    for (int m = 0; m < b.grid + b.order; m++) {
        float sum[SPLINE_BLOCK] = {0};
        for (int n = 0; n <= b.order; n++) {
            float place = m + n;
            UNROLLED
            for (int i = 0; i < SPLINE_BLOCK; i++) { sum[i] += (cell[i] == place ? 1.0f : 0.0f) * pieces[n][i]; }
        }
        for (int i = 0; i < count; i++) { e[m * step + i] = sum[i]; }
    }
}

BASIS_FUNCTION void basis_splines(float* e, const float* x, int count, Basis b) {
    float pieces[SPLINE_MAX_ORDER + 1][SPLINE_BLOCK], cell[SPLINE_BLOCK], f[SPLINE_BLOCK];
    for (int i = 0; i < count; i += SPLINE_BLOCK) {
        int rest = count - i < SPLINE_BLOCK ? count - i : SPLINE_BLOCK;
        basis_spline_cells(cell, f, x + i, rest, b);
        basis_spline_pieces(pieces, f, b.order);
        basis_spline_spread(e + i, count, pieces, cell, rest, b);
    }
}

// On knots one apart the derivative of piece_n is piece'_n - piece'_(n-1)
BASIS_FUNCTION void basis_spline_slopes(float* slopes, const float* e, const float* x, int count, Basis b) {
    (void)e;
    float pieces[SPLINE_MAX_ORDER + 1][SPLINE_BLOCK], cell[SPLINE_BLOCK], f[SPLINE_BLOCK];
    float scale = b.order > 0 ? b.grid / (2 * b.range) : 0;
    for (int i = 0; i < count; i += SPLINE_BLOCK) {
        int rest = count - i < SPLINE_BLOCK ? count - i : SPLINE_BLOCK, k = b.order;
        basis_spline_cells(cell, f, x + i, rest, b);
        basis_spline_pieces(pieces, f, k > 0 ? k - 1 : 0);
        for (int n = k; n >= 0; n--) {
            UNROLLED
            for (int j = 0; j < SPLINE_BLOCK; j++) {
                float own = n < k || k == 0 ? pieces[n][j] : 0, left = n > 0 ? pieces[n > 0 ? n - 1 : 0][j] : 0;
                pieces[n][j] = scale * (own - left);
            }
        }
        basis_spline_spread(slopes + i, count, pieces, cell, rest, b);
    }
}

BASIS_FUNCTION void basis_features(float* e, const float* x, int count, Basis b) {
#define FEATURES_CASE(constant, name, note, coefficients, features, ...) case constant: features(e, x, count, b); break;
    switch (b.kind) {
    LINEAR_BASES(FEATURES_CASE)
    default: break;
    }
#undef FEATURES_CASE
}

// Their derivatives by x (M, count)
BASIS_FUNCTION void basis_slopes(float* slopes, const float* e, const float* x, int count, Basis b) {
#define SLOPES_CASE(constant, name, note, coefficients, features, slopes_of, ...) \
    case constant: slopes_of(slopes, e, x, count, b); break;
    switch (b.kind) {
    LINEAR_BASES(SLOPES_CASE)
    default: break;
    }
#undef SLOPES_CASE
}
