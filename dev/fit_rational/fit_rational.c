// Fits starting coefficients of the group rational: for any orders, either denominator, any function listed below, any
// interval. Least squares by kernels/rational_fit.h; the same result in every run.
//
//     fit_rational --function tanh --form paper --interval -4,4
//     tanh  a0 a1 ... am | b1 ... bn
//           form paper, (5,4) on [-4,4]: largest error 1.15e-05, root mean square 7.76e-06
//
// --check measures the coefficients stored in kernels/rational_start.h, including those that the released code uses in
// form A but that are the paper form's.
#include "../../kernels/rational_start.h"
#include "../../runtime/options.h"

//  F(name, value at x). Adding a function is one line.
#define FUNCTION_TABLE(F) \
F(identity, x) \
F(relu, fmax(x, 0)) \
F(elu, x > 0 ? x : expm1(x)) \
F(gelu, exact_gelu(x)) \
F(swish, exact_swish(x)) \
F(mish, x * tanh(log1p(exp(x)))) \
F(softplus, log1p(exp(x))) \
F(sigmoid, 1 / (1 + exp(-x))) \
F(tanh, tanh(x)) \
F(sine, sin(x)) \
F(gaussian, exp(-0.5 * x * x))

#define DEFINE_FUNCTION(name, value) static double value_of_##name(double x) { return value; }
FUNCTION_TABLE(DEFINE_FUNCTION)

typedef struct { const char* name; RealFunction function; } FitFunction;
#define FUNCTION_ROW(name, value) {#name, value_of_##name},
static const FitFunction functions[] = { FUNCTION_TABLE(FUNCTION_ROW) };
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

typedef struct { int function, form, m, n, check, help; double interval[2]; } FitConfig;

#define FIELD(name) offsetof(FitConfig, name)
#define FUNCTION_CHOICE(name, value) "|" #name
static const Option fit_table[] = {
    {OPTION_CHOICE, "function", FIELD(function), "all", 0, 0, "all" FUNCTION_TABLE(FUNCTION_CHOICE), RESUME_FREE,
     "what to fit; swish is also called silu"},
    {OPTION_CHOICE, "form", FIELD(form), "a", 0, 0, "a|paper", RESUME_FREE,
     "denominator 1+sum|b||x|^j; paper: 1+|sum b x^j|"},
    {OPTION_INT, "m", FIELD(m), "5", 1, RATIONAL_MAX_ORDER, "", RESUME_FREE, "degree of the numerator"},
    {OPTION_INT, "n", FIELD(n), "4", 0, RATIONAL_MAX_ORDER, "", RESUME_FREE, "degree of the denominator"},
    {OPTION_PAIR, "interval", FIELD(interval), "-3,3", -1000, 1000, "", RESUME_FREE, "where to fit"},
    {OPTION_SWITCH, "check", FIELD(check), "off", 0, 0, "", RESUME_FREE,
     "measure the stored starting coefficients on the interval instead"},
    {OPTION_SWITCH, "help|h", FIELD(help), "off", 0, 0, "", RESUME_FREE, "print this and stop"},
};
enum { FIT_OPTIONS = sizeof fit_table / sizeof fit_table[0] };

static bool fit_parse(FitConfig* c, int argc, char** argv, Error* err) {
    if (!options_defaults(c, fit_table, FIT_OPTIONS, err)) { return false; }
    if (!options_parse(c, fit_table, FIT_OPTIONS, argc, argv, err)) { return false; }
    return c->interval[0] < c->interval[1] ||
           set_error(err, "--interval %g,%g is empty: give the smaller end first", c->interval[0], c->interval[1]);
}

typedef struct { double largest, root_mean_square; } FitError;

// The error of c = a0..am, b1..bn against function, on evenly spaced points
static FitError measure(const double* c, RationalShape s, RealFunction function, const double* interval) {
    enum { PANELS = 10000 };
    FitError e = {0, 0};
    for (int i = 0; i <= PANELS; i++) {
        double x = interval[0] + (interval[1] - interval[0]) * i / PANELS;
        double miss = fabs(rational_value(x, c, s, NULL) - function(x));
        e.largest = fmax(e.largest, miss);
        e.root_mean_square += miss * miss / (PANELS + 1);
    }
    e.root_mean_square = sqrt(e.root_mean_square);
    return e;
}

static FitError print_fit(const char* name, const double* c, RationalShape s, RealFunction function,
                          const double* interval) {
    FitError e = measure(c, s, function, interval);
    printf("%-16s", name);
    for (int i = 0; i <= s.m + s.n; i++) { printf("%s %.17g", i == s.m + 1 ? " |" : "", c[i]); }
    printf("\n%-16s form %s, (%d,%d) on [%g,%g]: largest error %.4g, root mean square %.4g\n", "",
           s.form == RATIONAL_FORM_A ? "a" : "paper", s.m, s.n, interval[0], interval[1], e.largest,
           e.root_mean_square);
    return e;
}

static FitError fit_and_print(const FitConfig* c, const FitFunction* f) {
    RationalShape s = {c->m, c->n, 1, c->form ? RATIONAL_FORM_PAPER : RATIONAL_FORM_A};
    double coefficients[FIT_MAX];
    rational_fit(coefficients, s, f->function, c->interval[0], c->interval[1]);
    return print_fit(f->name, coefficients, s, f->function, c->interval);
}

// The stored set of this name and form, as a model would start with it
static FitError check_stored(const char* name, RationalForm form, RealFunction function, const double* interval) {
    RationalShape s = {5, 4, 1, form};
    float a[RATIONAL_MAX_ORDER + 1], b[RATIONAL_MAX_ORDER];
    double c[FIT_MAX];
    Error err;
    if (!rational_start(name, s, a, b, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    for (int i = 0; i <= s.m; i++) { c[i] = a[i]; }
    for (int j = 0; j < s.n; j++) { c[s.m + 1 + j] = b[j]; }
    return print_fit(name, c, s, function, interval);
}

static void check_all(const double* interval) {
    check_stored("swish", RATIONAL_FORM_A, exact_swish, interval);
    check_stored("gelu", RATIONAL_FORM_A, exact_gelu, interval);
    check_stored("gelu", RATIONAL_FORM_PAPER, exact_gelu, interval);
    check_stored("gelu-as-released", RATIONAL_FORM_A, exact_gelu, interval);
}

#ifndef TESTING
int main(int argc, char** argv) {
    FitConfig c;
    Error err;
    if (!fit_parse(&c, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (c.help) {
        printf("Usage: ./fit_rational [--option value]...\nFits P(x) / Q(x) to a function by least squares.\n\n");
        options_help(stdout, fit_table, FIT_OPTIONS);
    } else if (c.check) {
        check_all(c.interval);
    } else {
        for (int i = 0; i < FUNCTIONS; i++) {
            if (c.function == 0 || c.function == i + 1) { fit_and_print(&c, &functions[i]); }
        }
    }
    return 0;
}
#endif
