// Random numbers without state. Every draw is a pure function of (seed, stream, step, index), so that a run can resume
// at any step, and any number of threads draws the same values: there is nothing to save or advance.
// The generator is Philox 4x32-10 (Salmon et al., SC 2011), a keyed bijection of a 128-bit counter.
#pragma once
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

// What a draw is for. No two purposes share a stream.
typedef enum {
    STREAM_INIT = 1,     // step: hash of the tensor's name, index: element
    STREAM_SHUFFLE,      // step: epoch, index: position
    STREAM_AUGMENT,      // step: epoch, index: image in the data set * draws an image
    STREAM_MIX,          // step: micro-batch of the run, index: draw (mixup and cutmix)
    STREAM_DROP_PATH,    // step: micro-batch of the run, index: (block, branch, image)
    STREAM_PROCEDURAL,   // step: split, index: image * draws an image
    STREAM_CHECK,        // which elements a gradient check examines
    STREAM_ERASE,        // seed: drawn for each image, step: 0, index: value of the image (random erasing)
    STREAM_OPERATIONS,   // step: epoch, index: image * draws an image (RandAugment, colour jitter, count of erasures)
} RandomStream;

typedef struct { uint32_t word[4]; } Random4;

HOST_DEVICE static inline Random4 philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0,
                                             uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)0xD2511F53u * c0, product1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t high0 = product0 >> 32, low0 = (uint32_t)product0, high1 = product1 >> 32, low1 = (uint32_t)product1;
        c0 = high1 ^ c1 ^ k0; c1 = low1; c2 = high0 ^ c3 ^ k1; c3 = low0;
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
    return (Random4){{c0, c1, c2, c3}};
}

// Four independent 32-bit words. index uses 64 bits, step 32, stream 32, seed 64.
HOST_DEVICE static inline Random4 random_bits(uint64_t seed, RandomStream stream, uint32_t step, uint64_t index) {
    return philox4x32((uint32_t)index, (uint32_t)(index >> 32), step, (uint32_t)stream,
                      (uint32_t)seed, (uint32_t)(seed >> 32));
}

static inline float uniform_from(uint32_t word) { return (word >> 8) * 0x1p-24f; } // [0, 1)

static inline float random_uniform(uint64_t seed, RandomStream stream, uint32_t step, uint64_t index) {
    return uniform_from(random_bits(seed, stream, step, index).word[0]);
}

// N(0,1) by Box-Muller; the +0.5 keeps the logarithm's argument above 0.
HOST_DEVICE static inline double random_normal(uint64_t seed, RandomStream stream, uint32_t step, uint64_t index) {
    Random4 r = random_bits(seed, stream, step, index);
    double u = (r.word[0] + 0.5) * 0x1p-32, v = r.word[1] * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

// 0 .. n-1, n < 2^32, by multiplication (bias below n / 2^32)
static inline uint32_t random_below(uint32_t n, uint32_t word) { return (uint32_t)(((uint64_t)word * n) >> 32); }
