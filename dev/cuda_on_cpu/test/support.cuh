// What the tests of the emulation share: the planted defect, data, arrays on the device, comparisons.
#pragma once
#include "../../test/test.h"
#include "defects.h"
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>
#include <vector>

typedef __nv_bfloat16 bf16;

#define CEIL_DIV(a, b) (((a) + (b) - 1) / (b))
#define CUDA_CHECK(call) do { cudaError_t error_ = (call); if (error_ != cudaSuccess) { \
    printf("FAILED %s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error_)); exit(1); } } while (0)

__constant__ int defect_on_device;
static int defect_on_host;
#define PLANTED(defect) (defect_on_device == (defect))      // in kernels
#define PLANTED_HOST(defect) (defect_on_host == (defect))

static inline int plant(const char* name) {
    static const char* const names[] = {
#define DEFECT(name, caught, report, what) #name,
        DEFECTS(DEFECT)
#undef DEFECT
    };
    int count = sizeof names / sizeof *names, i = 0;
    while (i < count && strcmp(names[i], name)) { i++; }
    if (i == count) { return 0; }
    defect_on_host = i;
    CUDA_CHECK(cudaMemcpyToSymbol(defect_on_device, &defect_on_host, sizeof defect_on_host));
    return 1;
}

static inline float to_float(double x) { return (float)x; }
static inline float to_float(float x) { return x; }
static inline float to_float(bf16 x) { return __bfloat162float(x); }
static inline void from_float(float* to, float x) { *to = x; }
static inline void from_float(bf16* to, float x) { *to = __float2bfloat16(x); }

template <class T> static std::vector<T> random_values(size_t count, float scale = 1.0f) { // uniform in [-scale, scale)
    static uint32_t state = 1;
    std::vector<T> values(count);
    for (T& value : values) {
        state = state * 1664525u + 1013904223u;
        from_float(&value, scale * ((float)(state >> 8) / (1 << 23) - 1.0f));
    }
    return values;
}

// An array of the device that frees itself.
template <class T> struct Device {
    T* data;
    size_t count;
    explicit Device(size_t count) : count(count) { CUDA_CHECK(cudaMalloc((void**)&data, count * sizeof(T))); }
    explicit Device(const std::vector<T>& values) : Device(values.size()) {
        CUDA_CHECK(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }
    Device(const Device&) = delete;
    ~Device() { CUDA_CHECK(cudaFree(data)); }
    void zero() { CUDA_CHECK(cudaMemset(data, 0, count * sizeof(T))); }
    std::vector<T> host() const {
        std::vector<T> values(count);
        CUDA_CHECK(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
        return values;
    }
};

// Every compared output goes into one checksum, which must not depend on the order of threads: no tolerance there.
static uint64_t output_checksum = 14695981039346656037ull;
static inline void add_to_checksum(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    output_checksum = (output_checksum ^ bits) * 1099511628211ull;
}

enum Ordered { ANY_ORDER, ONE_ORDER }; // ONE_ORDER: sums by float atomics, whose last bits follow the order
template <class T>
static void check_output(const char* what, const std::vector<T>& got, const std::vector<double>& want, double limit,
                         Ordered ordered = ANY_ORDER) {
    std::vector<float> values;
    for (const T& value : got) { values.push_back(to_float(value)); }
    if (ordered == ANY_ORDER) {
        for (float value : values) { add_to_checksum(value); }
    }
    CHECK(values.size() == want.size(), "%s: %zu values, want %zu", what, values.size(), want.size());
    CHECK_TENSOR(values.data(), want.data(), want.size(), limit, what);
}
template <class T>
static void check_output(const char* what, const Device<T>& got, const std::vector<double>& want, double limit,
                         Ordered ordered = ANY_ORDER) {
    CUDA_CHECK(cudaGetLastError());
    check_output(what, got.host(), want, limit, ordered);
}
