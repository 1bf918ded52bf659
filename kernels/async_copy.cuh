// Copies from global to shared memory that a thread starts and does not wait for, 16 bytes each (cp.async, sm_80 and
// above). Those started since the last commit are a group. What it has waited for a thread may read; what others have
// copied, behind a barrier. The emulation copies when a thread waits, and until then has NaNs there (dev/cuda_on_cpu).
#pragma once
#include "cuda_common.cuh"

__device__ inline void copy_async(void* shared, const void* global) {
#ifdef CUDA_EMU
    emu_copy_async(shared, global, 16);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(__cvta_generic_to_global(global)) : "memory");
#endif
}

__device__ inline void copy_async_commit() {
#ifdef CUDA_EMU
    emu_copy_async_commit();
#else
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

// For all groups but the last GROUPS
template <int GROUPS> __device__ inline void copy_async_wait() {
#ifdef CUDA_EMU
    emu_copy_async_wait(GROUPS);
#else
    asm volatile("cp.async.wait_group %0;" : : "n"(GROUPS) : "memory");
#endif
}

// As load_rows of tensor_cores.cuh, started
template <int WIDTH>
__device__ void load_rows_async(bf16* tile, const bf16* matrix, size_t ld, int tile_rows, int rows, int columns) {
    constexpr int VECTORS = WIDTH / 8;
    for (int i = threadIdx.x; i < tile_rows * VECTORS; i += blockDim.x) {
        int row = i / VECTORS, column = i % VECTORS * 8;
        bf16* to = tile + row * (WIDTH + 8) + column;
        if (row < rows && column < columns) {
            copy_async(to, matrix + row * ld + column);
        } else {
            *(uint4*)to = make_uint4(0, 0, 0, 0);
        }
    }
}
