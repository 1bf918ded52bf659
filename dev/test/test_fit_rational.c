// dev/fit_rational/fit_rational.c, included: how well it fits, and the stored coefficients that it checks.
#pragma GCC diagnostic ignored "-Wunused-function" // what only main calls
#define TESTING
#include "../fit_rational/fit_rational.c"
#include "test.h"

static bool parse(FitConfig* c, const char* flag, const char* value, Error* err) {
    char* argv[] = {"test", (char*)flag, (char*)value};
    return fit_parse(c, 3, argv, err);
}

// Largest errors of orders (5,4) on [-3,3]; the limit is some 20 % above what was observed
static void test_functions(void) {
    static const struct { const char* name; double form_a, paper; } limits[] = {
        {"identity", 1e-12, 1e-12}, {"relu", 0.04, 0.045}, {"elu", 4.7e-4, 1.3e-4}, {"gelu", 1.9e-3, 6.4e-4},
        {"swish", 6e-7, 5.7e-7}, {"mish", 1.4e-4, 2.3e-4}, {"softplus", 2.6e-6, 7.2e-6}, {"sigmoid", 2.3e-9, 2.2e-9},
        {"tanh", 1.6e-6, 1.8e-6}, {"sine", 3.8e-6, 5e-6}, {"gaussian", 1.1e-3, 6.8e-4},
    };
    CHECK(FUNCTIONS == sizeof limits / sizeof limits[0], "%d functions are tested by name", FUNCTIONS);
    for (int i = 0; i < FUNCTIONS; i++) {
        FitConfig c;
        Error err;
        CHECK(strcmp(functions[i].name, limits[i].name) == 0, "function %d is %s", i, functions[i].name);
        CHECK(parse(&c, "--function", limits[i].name, &err) && c.function == i + 1, "%s is known", limits[i].name);
        for (c.form = 0; c.form < 2; c.form++) {
            FitError e = fit_and_print(&c, &functions[i]);
            CHECK_NEAR(e.largest, 0, c.form ? limits[i].paper : limits[i].form_a, limits[i].name);
            CHECK(e.root_mean_square <= e.largest, "%s: root mean square %g", limits[i].name, e.root_mean_square);
        }
    }
}

static void test_stored(void) {
    const double interval[] = {-3, 3};
    CHECK_NEAR(check_stored("swish", RATIONAL_FORM_A, exact_swish, interval).largest, 0, 1.5e-6,
               "swish (observed 1.2e-6)");
    CHECK_NEAR(check_stored("gelu", RATIONAL_FORM_A, exact_gelu, interval).largest, 0, 4.3e-3,
               "gelu (observed 4.14e-3)");
    CHECK_NEAR(check_stored("gelu", RATIONAL_FORM_PAPER, exact_gelu, interval).largest, 0, 3.1e-3,
               "gelu, paper (observed 2.95e-3)");
    CHECK_NEAR(check_stored("gelu-as-released", RATIONAL_FORM_A, exact_gelu, interval).largest, 1.47, 0.01,
               "the paper form's gelu in form A (observed 1.465)");
}

static void test_refusals(void) {
    FitConfig c;
    Error err;
    CHECK(!parse(&c, "--interval", "3,-3", &err) && strstr(err.text, "is empty"), "%s", err.text);
    CHECK(!parse(&c, "--m", "99", &err) && strstr(err.text, "out of range"), "%s", err.text);
    CHECK(!parse(&c, "--function", "cosine", &err) && strstr(err.text, "identity|relu"), "%s", err.text);
}

int main(void) {
    test_functions();
    test_stored();
    test_refusals();
    return tests_finish();
}
