// Tensors in one allocation, or with EMU_SEPARATE=1 in one each: in an arena an overflow lands in the next tensor,
// where no sanitizer sees it.
#pragma once
#include "streams.cuh"

struct Arena {
    std::vector<float*> tensors, allocations;
    explicit Arena(const std::vector<size_t>& sizes) {
#ifdef CUDA_EMU
        bool separate = emu_separate_tensors();
#else
        bool separate = false;
#endif
        size_t total = 0;
        for (size_t size : sizes) { total += size; }
        for (size_t i = 0, at = 0; i < sizes.size(); at += sizes[i++]) {
            if (separate || i == 0) {
                allocations.push_back(nullptr);
                CUDA_CHECK(cudaMalloc((void**)&allocations.back(), (separate ? sizes[i] : total) * sizeof(float)));
            }
            tensors.push_back(separate ? allocations[i] : allocations[0] + at);
        }
    }
    ~Arena() {
        for (float* p : allocations) { CUDA_CHECK(cudaFree(p)); }
    }
};

static void test_arena() {
    int A = 10, B = 7;
    Arena arena({(size_t)A, (size_t)B});
    std::vector<float> ones(A + B, 1.0f);
    CUDA_CHECK(cudaMemcpy(arena.tensors[1], ones.data(), B * sizeof(float), cudaMemcpyHostToDevice));
    CUDA_CHECK(cudaMemcpy(arena.tensors[0], ones.data(), A * sizeof(float), cudaMemcpyHostToDevice));
    int count = PLANTED_HOST(overflow_into_neighbour) ? A + 1 : A;
    scale_kernel<<<1, 32>>>(arena.tensors[0], arena.tensors[0], 2.0f, count);
    std::vector<float> got(B);
    CUDA_CHECK(cudaMemcpy(got.data(), arena.tensors[1], B * sizeof(float), cudaMemcpyDeviceToHost));
    check_output("the next tensor of an arena", got, std::vector<double>(B, 1.0), 0.0);
}
