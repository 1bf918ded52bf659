// What the compiler is not left to decide. Every copy of a function costs compiling time.
#pragma once
#define ALWAYS_INLINE static inline __attribute__((always_inline)) // loops over it vectorise; literals unroll its loops
#define NEVER_INLINE __attribute__((noinline, unused)) static      // compiled once, however many call it

// In front of a loop whose count is a constant: written out, also at -O2, so that an array it runs over becomes
// registers. UNROLLED_FEW: for at most 5 turns, where the same loop is compiled for variable counts too, of which there
// would be 16 copies
#ifdef __CUDACC__
#define UNROLLED _Pragma("unroll")
#define UNROLLED_FEW UNROLLED
#elif defined(__clang__)
#define UNROLLED // -O3 does so by itself, and warns where it is told to and does not
#define UNROLLED_FEW
#else
#define UNROLLED _Pragma("GCC unroll 16")
#define UNROLLED_FEW _Pragma("GCC unroll 5")
#endif
#define RUNS_ONCE __attribute__((cold)) // or seldom: compiled for size, with all that it alone calls
