// What is not left to the compiler to decide. Every copy of a function costs compile time.
#pragma once
#define ALWAYS_INLINE static inline __attribute__((always_inline)) // loops with it vectorise; literals unroll its loops
#define NEVER_INLINE __attribute__((noinline, unused)) static      // compiled once, however many callers it has

// Before a loop with a constant count: unrolled, also at -O2, so that an array it runs over is kept in registers.
// UNROLLED_FEW: for at most 5 iterations, if the same loop is also compiled for variable counts, which would make 16
// copies.
#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#define UNROLLED_FEW UNROLLED
#elif defined(__clang__)
#define UNROLLED // -O3 does so by itself, and warns if it is told to and does not
#define UNROLLED_FEW
#else
#define UNROLLED _Pragma("GCC unroll 16")
#define UNROLLED_FEW _Pragma("GCC unroll 5")
#endif
#define RUNS_ONCE __attribute__((cold)) // or seldom: compiled for size, with everything that only it calls
