// Copies from global to shared memory that a thread starts without waiting (cp.async, sm_80 and above), bypassing
// registers. Those started since the last commit form a group. A thread may read what it has waited for; what others
// have copied, after a barrier. The emulation copies when a thread waits, and shows NaNs until then (dev/cuda_on_cpu).
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

// For all groups except the last GROUPS
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
