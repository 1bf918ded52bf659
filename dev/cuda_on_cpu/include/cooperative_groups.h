// Replaces the toolkit's: thread_block, tiled_partition<N> for N = 1, 2, ... 32, and reduce.
#pragma once
#include "cuda_emu.h"

namespace cooperative_groups {

struct thread_block {
    static unsigned thread_rank() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
    static unsigned num_threads() { return blockDim.x * blockDim.y * blockDim.z; }
    static unsigned size() { return num_threads(); }
    static dim3 group_index() { return dim3(blockIdx.x, blockIdx.y, blockIdx.z); }
    static dim3 thread_index() { return dim3(threadIdx.x, threadIdx.y, threadIdx.z); }
    static void sync(emu::Place place = {}) { __syncthreads(place); }
};
inline thread_block this_thread_block() { return {}; }

template <unsigned N, class Parent = void> struct thread_block_tile {
    static unsigned mask() { return N == 32 ? emu::FULL_WARP : ((1u << N % 32) - 1) << (emu::lane & ~(N - 1)); }
    static unsigned thread_rank() { return emu::lane & (N - 1); }
    static constexpr unsigned num_threads() { return N; }
    static constexpr unsigned size() { return N; }
    static unsigned meta_group_rank() { return thread_block::thread_rank() / N; }
    static unsigned meta_group_size() { return (thread_block::size() + N - 1) / N; }
    static void sync(emu::Place place = {}) { __syncwarp(mask(), place); }
    template <class T> static T shfl(T value, int source, emu::Place place = {}) {
        return __shfl_sync(mask(), value, source, N, place);
    }
    template <class T> static T shfl_xor(T value, int bits, emu::Place place = {}) {
        return __shfl_xor_sync(mask(), value, bits, N, place);
    }
    template <class T> static T shfl_down(T value, unsigned by, emu::Place place = {}) {
        return __shfl_down_sync(mask(), value, by, N, place);
    }
    template <class T> static T shfl_up(T value, unsigned by, emu::Place place = {}) {
        return __shfl_up_sync(mask(), value, by, N, place);
    }
    static unsigned ballot(int vote, emu::Place place = {}) {
        return __ballot_sync(mask(), vote, place) >> (emu::lane & ~(N - 1));
    }
    static int any(int vote, emu::Place place = {}) { return __any_sync(mask(), vote, place); }
    static int all(int vote, emu::Place place = {}) { return __all_sync(mask(), vote, place); }
};
template <unsigned N, class Group> thread_block_tile<N> tiled_partition(const Group&) { return {}; }

template <class T> struct plus {
    T operator()(T a, T b) const { return a + b; }
};
template <class T> struct less { // the smaller of two, as in the toolkit
    T operator()(T a, T b) const { return a < b ? a : b; }
};
template <class T> struct greater {
    T operator()(T a, T b) const { return a > b ? a : b; }
};
template <class Group, class T, class Op> T reduce(const Group&, T value, Op op, emu::Place place = {}) {
    return emu::reduce(Group::mask(), value, op, "cooperative_groups::reduce", place);
}

}
