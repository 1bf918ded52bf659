// Sums of products in which every product must be rounded before it is added. If the processor can, gcc and clang
// compile a * b + c to one fused operation, which rounds once. Multiplying the product by a 1 unknown to them prevents
// that:
//     const double one = unknown_one();
//     y = a * b * one + c;
// fma(a * b, one, c) equals a * b, rounded, plus c. It costs nothing where it is fused, works on the GPU too, and
// unlike a flag or an attribute it stays with the sum wherever that is inlined.
#pragma once

static inline double unknown_one(void) {
    static const volatile double one = 1;
    return one;
}
