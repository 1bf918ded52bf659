// What defines a group rational (rational.h, rational.cuh) besides its coefficients; C and C++ alike.
#pragma once
#include "../runtime/choices.h"
#include "../runtime/error.h"

enum { RATIONAL_MAX_ORDER = 15 };

#define RATIONAL_FORMS(X) X(RATIONAL_FORM_A, "a") X(RATIONAL_FORM_PAPER, "paper")
typedef enum { RATIONAL_FORMS(CHOICE_CONSTANT) } RationalForm;

typedef struct {
    int m, n, groups; // degrees of the numerator and of the denominator
    RationalForm form;
} RationalShape;

static inline bool rational_check(RationalShape s, int C, Error* err) {
    if (s.m < 1 || s.m > RATIONAL_MAX_ORDER || s.n < 0 || s.n > RATIONAL_MAX_ORDER) {
        return set_error(err, "a rational of orders (%d, %d) is out of range: give a numerator of 1 to %d and a "
                         "denominator of 0 to %d", s.m, s.n, RATIONAL_MAX_ORDER, RATIONAL_MAX_ORDER);
    }
    if (s.groups < 1 || C % s.groups != 0) {
        return set_error(err, "%d channels cannot be cut into %d equal groups: "
                         "choose a number of groups that divides %d", C, s.groups, C);
    }
    return true;
}

// Coefficients of one layer: (m+1) of the numerator, then (groups, n) of the denominators
static inline int rational_coefficients(RationalShape s) { return s.m + 1 + s.groups * s.n; }
