// Sums of products where every product must be rounded before it is added. Where the processor can, gcc and clang make
// one fused operation of a * b + c, which rounds once. A product of the product with a 1 that they cannot know is safe:
//     const double one = unknown_one();
//     y = a * b * one + c;
// fma(a * b, one, c) is what a * b, rounded, plus c is. It costs nothing where it is fused, is as good on the GPU, and
// unlike a flag or an attribute it stays with the sum wherever that is inlined.
#pragma once

static inline double unknown_one(void) {
    static const volatile double one = 1;
    return one;
}
