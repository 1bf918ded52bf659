// What the compiler is not left to decide. Every copy of a function costs compiling time.
#pragma once
#define ALWAYS_INLINE static inline __attribute__((always_inline)) // loops over it vectorise; literals unroll its loops
#define NEVER_INLINE __attribute__((noinline, unused)) static      // compiled once, however many call it
