// What the CUDA kernels share: checks, 16-byte vectors, reductions in a fixed order, sizes of grids.
//
// Every kernel computes in fp32. Template parameters are the storage types of tensors, float or bf16: T activations, R
// the residual stream, G its gradient. Parameters, their gradients, statistics, logits and the optimiser's buffers are
// always fp32. A launcher has the name and argument order of the CPU function in the .h beside it, followed by a
// stream; its pointers are device memory. No kernel adds floats by atomics: the same input gives the same bits.
#pragma once
#include "../runtime/error.h"
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef __nv_bfloat16 bf16;

enum { WARP = 32, BLOCK = 256, VECTOR = 8 }; // threads of a warp, of most blocks; channels of a thread at a time

static bool capturing; // a step into a graph, during which some calls are not allowed
static inline const char* capture_advice(void) {
    return capturing ? ", in the capture of a step: use --cuda-graph off" : "";
}

static inline void cuda_check(cudaError_t error, const char* file, int line) {
    if (error != cudaSuccess) {
        fail(EXIT_RUN_TIME, "%s:%d: CUDA reports: %s (%s)%s", file, line, cudaGetErrorString(error),
             cudaGetErrorName(error), capture_advice());
    }
}
#define CUDA_CHECK(call) cuda_check((call), __FILE__, __LINE__)
#define CUDA_CHECK_LAUNCH() CUDA_CHECK(cudaGetLastError())

template <class A, class B> __host__ __device__ constexpr A ceil_div(A a, B b) { return (A)((a + b - 1) / b); }

static inline int device_attribute(cudaDeviceAttr attribute) { // of the device that this process uses
    int device = 0, value = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
    return value;
}

static inline cudaDeviceProp device_properties(void) {
    int device = 0;
    cudaDeviceProp properties;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaGetDeviceProperties(&properties, device));
    return properties;
}

static inline int multiprocessors(void) {
    static int count = 0;
    if (count == 0) { count = device_attribute(cudaDevAttrMultiProcessorCount); }
    return count;
}

// Blocks with so many bytes of shared memory that fit on a multiprocessor
static inline int blocks_in_shared(size_t bytes) {
    static size_t room = 0, reserved = 0;
    if (room == 0) {
        cudaDeviceProp device = device_properties();
        room = device.sharedMemPerMultiprocessor;
        reserved = device.reservedSharedMemPerBlock;
    }
    return (int)(room / (bytes + reserved));
}

// Blocks for so many tasks, a limited number per multiprocessor: for kernels that loop because they sum
static inline int blocks_for(size_t tasks, int tasks_of_block, int blocks_of_multiprocessor) {
    size_t needed = ceil_div(tasks, (size_t)tasks_of_block);
    size_t most = (size_t)multiprocessors() * blocks_of_multiprocessor;
    return (int)(needed < most ? needed : most);
}

// ---------------------------------------------------------------------------------------------------------------------
// Early launches: from sm_90 on such a kernel is set up while the previous one on the stream still runs, which hides
// most of the time between two kernels. All its threads begin with wait_for_kernel_in_front(): before that they touch
// no memory that a kernel reads or writes. After a copy, or if the device or the driver does not support it, it is an
// ordinary launch. LAUNCH_EARLY=0 compiles all as ordinary launches.
#ifndef LAUNCH_EARLY
#define LAUNCH_EARLY 1
#endif

// Waits until all previous work on the stream has ended, and its writes are visible. Then the next kernel may be set
// up: not before, so that no more than one waits.
__device__ inline void wait_for_kernel_in_front(void) {
#ifdef CUDA_EMU
    emu_grid_wait();
#elif LAUNCH_EARLY && __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Graphs support them from CUDA 12.3 on.
static inline bool launches_early(void) {
    static int known = 0, driver = 0, major = 0;
    if (!known) {
        CUDA_CHECK(cudaDriverGetVersion(&driver));
        major = device_attribute(cudaDevAttrComputeCapabilityMajor);
        known = 1;
    }
    return LAUNCH_EARLY && CUDART_VERSION >= 12030 && driver >= 12030 && major >= 9;
}

// kernel<<<grid, block, shared, stream>>>(arguments...), early
template <class... Parameters, class... Arguments>
inline void launch_early(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared, cudaStream_t stream,
                         Arguments... arguments) {
#ifdef CUDA_EMU
    emu_launch_early<Parameters...>(kernel, grid, block, shared, stream, arguments...);
#else
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = stream;
    config.attrs = &early, config.numAttrs = launches_early();
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
#endif
}

// ---------------------------------------------------------------------------------------------------------------------
// Storage

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(bf16 x) { return __bfloat162float(x); }

template <class T> __device__ inline T from_float(float x);
template <> __device__ inline float from_float<float>(float x) { return x; }
template <> __device__ inline bf16 from_float<bf16>(float x) { return __float2bfloat16(x); }

// Two at a time, in a word, with one instruction each
__device__ inline uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}
__device__ inline float bf16_low(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float bf16_high(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// W elements between memory and registers, 16 bytes at a time unless W is 1
template <int W, class T> __device__ inline void copy(T* to, const T* from) {
    static_assert(W == 1 || W * sizeof(T) % sizeof(uint4) == 0, "a vector is one element or whole 16 bytes");
    if constexpr (W == 1) {
        *to = *from;
    } else {
        for (int i = 0; i < (int)(W * sizeof(T) / sizeof(uint4)); i++) { ((uint4*)to)[i] = ((const uint4*)from)[i]; }
    }
}

template <int W> __device__ inline void load(float (&x)[W], const float* from) {
    alignas(16) float packed[W];
    copy<W>(packed, from);
    for (int i = 0; i < W; i++) { x[i] = packed[i]; }
}

template <int W> __device__ inline void store(float* to, const float (&x)[W]) {
    alignas(16) float packed[W];
    for (int i = 0; i < W; i++) { packed[i] = x[i]; }
    copy<W>(to, packed);
}

template <int W> __device__ inline void load(float (&x)[W], const bf16* from) {
    if constexpr (W == 1) {
        x[0] = __bfloat162float(*from);
    } else {
        alignas(16) uint32_t packed[W / 2];
        copy<W / 2>(packed, (const uint32_t*)from);
        for (int i = 0; i < W; i += 2) { x[i] = bf16_low(packed[i / 2]), x[i + 1] = bf16_high(packed[i / 2]); }
    }
}

template <int W> __device__ inline void store(bf16* to, const float (&x)[W]) {
    if constexpr (W == 1) {
        *to = __float2bfloat16(x[0]);
    } else {
        alignas(16) uint32_t packed[W / 2];
        for (int i = 0; i < W; i += 2) { packed[i / 2] = pack_bf16(x[i], x[i + 1]); }
        copy<W / 2>((uint32_t*)to, packed);
    }
}

template <class T, int W> __device__ inline void round_to(float (&x)[W]) { // as storing and loading them would
    alignas(16) T packed[W];
    store(packed, x);
    load(x, packed);
}

template <class T, int W> __device__ inline void store_and_round(T* to, float (&x)[W]) { // x becomes what was stored
    alignas(16) T packed[W];
    store(packed, x);
    copy<W>(to, packed);
    load(x, packed);
}

// Whether rows of n elements can be handled VECTOR at a time in all these tensors; NULL is for one that is off
template <class... Pointers> inline bool vectorises(size_t n, Pointers... pointers) {
    return n % VECTOR == 0 && (((uintptr_t)pointers % 16 == 0) && ...);
}

// Calls launch(width) with the number of elements a thread handles at once: VECTOR, or 1 for odd sizes
template <int N> struct Constant { static constexpr int value = N; };
template <class Launch> inline void with_width(bool vectors, Launch launch) {
    if (vectors) {
        launch(Constant<VECTOR>());
    } else {
        launch(Constant<1>());
    }
}

// Floats in shared memory that each lane reads and writes W = 8 at a time: first the lower halves of all vectors, then
// the upper ones, so that the lanes of a 16-byte access touch every bank once. Float c of n is at shared_place<W>(c,
// n).
template <int W> __device__ inline int shared_place(int c, int n) {
    return W == 1 ? c : c / 4 % 2 * (n / 2) + c / 8 * 4 + c % 4;
}

template <int W> __device__ inline void load_shared(float (&x)[W], const float* shared, int c, int n) {
    constexpr int H = W == 1 ? 1 : W / 2;
    for (int half = 0; half < W / H; half++) {
        float part[H];
        load(part, shared + shared_place<W>(c + half * H, n));
        for (int i = 0; i < H; i++) { x[half * H + i] = part[i]; }
    }
}

template <int W> __device__ inline void store_shared(float* shared, const float (&x)[W], int c, int n) {
    constexpr int H = W == 1 ? 1 : W / 2;
    for (int half = 0; half < W / H; half++) {
        float part[H];
        for (int i = 0; i < H; i++) { part[i] = x[half * H + i]; }
        store(shared + shared_place<W>(c + half * H, n), part);
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Arithmetic and reductions

__device__ inline float reciprocal(float x) { // 1 ulp; 0 for |x| > 2^126
#ifdef CUDA_EMU
    return 1 / x;
#else
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
#endif
}

__device__ inline float negate_where_negative(float x, float sign) { return sign < 0 ? -x : x; }

struct Sum {
    static constexpr float START = 0;
    template <class A> static __device__ A of(A a, A b) { return a + b; }
};
struct Largest {
    static constexpr float START = -INFINITY;
    static __device__ float of(float a, float b) { return fmaxf(a, b); } // ignores NaNs
};

// Butterflies: every lane has the result, the same bits in each
template <class Op, class A> __device__ inline A warp_reduce(A x) {
    for (int bits = WARP / 2; bits > 0; bits /= 2) { x = Op::of(x, __shfl_xor_sync(0xffffffff, x, bits)); }
    return x;
}
__device__ inline float warp_sum(float x) { return warp_reduce<Sum>(x); }

// Over a block of whole warps, for every thread. The second barrier lets the next call reuse `warps`.
template <class Op, class A> __device__ inline A block_reduce(A x) {
    __shared__ A warps[WARP];
    int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    x = warp_reduce<Op>(x);
    if (lane == 0) { warps[warp] = x; }
    __syncthreads();
    x = warp_reduce<Op>(lane < blockDim.x / WARP ? warps[lane] : (A)Op::START);
    __syncthreads();
    return x;
}
template <class A> __device__ inline A block_sum(A x) { return block_reduce<Sum>(x); }
__device__ inline float block_max(float x) { return block_reduce<Largest>(x); }
