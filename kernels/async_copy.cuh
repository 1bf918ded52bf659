// Copies from global to shared memory that a thread starts and does not wait for (cp.async, sm_80 and above), past the
// registers. Those started since the last commit are a group. What it has waited for a thread may read; what others have
// copied, behind a barrier. The emulation copies when a thread waits, and until then has NaNs there (dev/cuda_on_cpu).
#pragma once
#include "cuda_common.cuh"

__device__ inline void copy_async(uint4* to, const uint4* from) {
#ifdef CUDA_EMU
    emu_copy_async(to, from, 16, true);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)) : "memory");
#endif
}

// Zero unless inside
__device__ inline void copy_async(float* to, const float* from, bool inside) {
#ifdef CUDA_EMU
    emu_copy_async(to, from, 4, inside);
#else
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 : : "r"((uint32_t)__cvta_generic_to_shared(to)), "l"(__cvta_generic_to_global(from)), "r"(inside ? 4 : 0)
                 : "memory");
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

// For all copies, in groups or not
__device__ inline void copy_async_wait_all() {
#ifdef CUDA_EMU
    emu_copy_async_commit();
    emu_copy_async_wait(0);
#else
    asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}
