// What the tests of CUDA kernels share. Every kernel runs in fp32 and in bf16 storage and is held against the CPU
// function on the same numbers (those of a bf16 tensor are rounded first). All that is compared goes into a checksum,
// printed last but one: it may depend neither on the order of threads nor on the run.
#pragma once
#include "../../kernels/cuda_common.cuh"
#include "../test/test.h"
#include "cpu_kernels.h"
#include <vector>

typedef std::vector<float> Floats;

template <class T> inline const char* storage();
template <> inline const char* storage<float>() { return "fp32"; }
template <> inline const char* storage<bf16>() { return "bf16"; }

static inline float to_host(float x) { return x; }
static inline float to_host(bf16 x) { return __bfloat162float(x); }
static inline void from_host(float* to, float x) { *to = x; }
static inline void from_host(bf16* to, float x) { *to = __float2bfloat16(x); }

// A tensor on the device
template <class T> struct Device {
    T* data = nullptr;
    size_t n;
    explicit Device(size_t n) : n(n) { CUDA_CHECK(cudaMalloc((void**)&data, (n ? n : 1) * sizeof(T))); }
    explicit Device(const Floats& values) : Device(values.size()) {
        std::vector<T> stored(n);
        for (size_t i = 0; i < n; i++) { from_host(&stored[i], values[i]); }
        CUDA_CHECK(cudaMemcpy(data, stored.data(), n * sizeof(T), cudaMemcpyHostToDevice));
    }
    Device(const Device&) = delete;
    ~Device() { CUDA_CHECK(cudaFree(data)); }
    operator T*() { return data; }
    Floats host() const {
        std::vector<T> stored(n);
        CUDA_CHECK(cudaMemcpy(stored.data(), data, n * sizeof(T), cudaMemcpyDeviceToHost));
        Floats values(n);
        for (size_t i = 0; i < n; i++) { values[i] = to_host(stored[i]); }
        return values;
    }
};

// An array on the device of what is not a tensor
template <class T> struct DeviceArray {
    T* data = nullptr;
    explicit DeviceArray(const std::vector<T>& values) {
        CUDA_CHECK(cudaMalloc((void**)&data, values.size() * sizeof(T)));
        CUDA_CHECK(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
    }
    DeviceArray(const DeviceArray&) = delete;
    ~DeviceArray() { CUDA_CHECK(cudaFree(data)); }
    operator T*() { return data; }
};

// About N(0,1): the sum of four uniform numbers. Rounded to what T can hold.
template <class T> inline Floats random_values(size_t n, float scale = 1) {
    static uint64_t state = 1;
    Floats values(n);
    for (float& value : values) {
        float sum = 0;
        for (int i = 0; i < 4; i++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) / (1 << 24) - 0.5f;
        }
        T stored;
        from_host(&stored, scale * 1.7320508f * sum);
        value = to_host(stored);
    }
    return values;
}

// NaN in the places of the queries beyond NQ in qkv (B,N,3,C), which attention does not read
static inline Floats without_queries(Floats qkv, int N, int NQ, int C) {
    for (size_t i = 0; i < qkv.size(); i++) {
        if (i / C % 3 == 0 && (int)(i / C / 3 % N) >= NQ) { qkv[i] = NAN; }
    }
    return qkv;
}

// sums (C) += column sums of values (rows, C)
static inline Floats plus_column_sums(const Floats& sums, const Floats& values) {
    std::vector<double> exact(sums.begin(), sums.end());
    for (size_t i = 0; i < values.size(); i++) { exact[i % sums.size()] += values[i]; }
    return Floats(exact.begin(), exact.end());
}

// Largest errors seen, by a name and the storage, for the comments beside the limits: printed with --errors
struct Seen { const char *what, *storage; double error; };
static std::vector<Seen> seen_errors;
static uint64_t checksum = 14695981039346656037u;

static inline void note_error(const char* what, const char* storage, double error) {
    for (Seen& s : seen_errors) {
        if (strcmp(s.what, what) == 0 && s.storage == storage) {
            s.error = error > s.error ? error : s.error;
            return;
        }
    }
    seen_errors.push_back({what, storage, error});
}

struct Limits { double fp32, bf16; };

// Largest error over the largest value of the tensor, in the storage T of what was calculated
template <class T> inline void check_values(const char* what, const Floats& got, const Floats& want, Limits limits) {
    CHECK(got.size() == want.size(), "%s: %zu values, want %zu", what, got.size(), want.size());
    std::vector<double> wanted(want.begin(), want.end());
    double error = relative_error(got.data(), wanted.data(), got.size());
    double limit = sizeof(T) == sizeof(float) ? limits.fp32 : limits.bf16;
    CHECK(error <= limit, "%s, %s: relative error %.3g, limit %.2g", what, storage<T>(), error, limit);
    note_error(what, storage<T>(), error);
    for (float value : got) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        checksum = (checksum ^ bits) * 1099511628211u;
    }
}
template <class T, class D>
inline void check(const char* what, const Device<D>& got, const Floats& want, Limits limits) {
    check_values<T>(what, got.host(), want, limits);
}

static inline int kernel_tests_finish(int argc, char** argv) { // what main returns
    if (argc > 1 && strcmp(argv[1], "--errors") == 0) {
        for (const Seen& s : seen_errors) { printf("%-28s %s %.2g\n", s.what, s.storage, s.error); }
    }
    printf("checksum %016llx\n", (unsigned long long)checksum);
    return tests_finish();
}
