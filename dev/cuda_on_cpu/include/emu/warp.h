// __syncthreads, __syncwarp, shuffles, votes and reductions, under the names and defaults of CUDA.
#pragma once
#include <functional>

inline void __syncthreads(emu::Place place = {}) { emu::barrier(place); }
inline int __syncthreads_count(int vote, emu::Place place = {}) {
    return emu::barrier_vote(vote != 0, emu::Vote::count, place);
}
inline int __syncthreads_and(int vote, emu::Place place = {}) {
    return emu::barrier_vote(vote != 0, emu::Vote::all, place);
}
inline int __syncthreads_or(int vote, emu::Place place = {}) {
    return emu::barrier_vote(vote != 0, emu::Vote::any, place);
}

namespace emu {

inline bool in_mask(unsigned mask, int lane) { return mask >> lane & 1; }
inline void nothing_together(void**, unsigned) {}

template <class T> struct Shuffle {
    T value, result;
    int source;
};
template <class T> void shuffle_together(void** lanes, unsigned present) {
    for (int i = 0; i < 32; i++) {
        if (!in_mask(present, i)) { continue; }
        Shuffle<T>& mine = *(Shuffle<T>*)lanes[i];
        if (in_mask(present, mine.source)) {
            mine.result = ((Shuffle<T>*)lanes[mine.source])->value;
        } else {
            memset((void*)&mine.result, 0xff, sizeof(T)); // undefined on the device: poison, NaN for a float
        }
    }
}
template <class T> EMU_UNWATCHED T shuffle(unsigned mask, T value, int source, const char* name, Place place) {
    Shuffle<T> mine{value, value, source & 31};
    warp_op(mask, shuffle_together<T>, &mine, name, place);
    return mine.result;
}

template <class T, class Op> struct Reduction {
    T value;
    Op op;
};
template <class T, class Op> void reduce_together(void** lanes, unsigned present) {
    T result{};
    bool first = true;
    for (int i = 0; i < 32; i++) {
        if (!in_mask(present, i)) { continue; }
        Reduction<T, Op>& mine = *(Reduction<T, Op>*)lanes[i];
        result = first ? mine.value : mine.op(result, mine.value);
        first = false;
    }
    for (int i = 0; i < 32; i++) {
        if (in_mask(present, i)) { ((Reduction<T, Op>*)lanes[i])->value = result; }
    }
}
template <class T, class Op> EMU_UNWATCHED T reduce(unsigned mask, T value, Op op, const char* name, Place place) {
    Reduction<T, Op> mine{value, op};
    warp_op(mask, reduce_together<T, Op>, &mine, name, place);
    return mine.value;
}

struct Ballot {
    bool vote;
    unsigned result;
};
inline void ballot_together(void** lanes, unsigned present) {
    unsigned votes = 0;
    for (int i = 0; i < 32; i++) {
        if (in_mask(present, i) && ((Ballot*)lanes[i])->vote) { votes |= 1u << i; }
    }
    for (int i = 0; i < 32; i++) {
        if (in_mask(present, i)) { ((Ballot*)lanes[i])->result = votes; }
    }
}
EMU_UNWATCHED inline unsigned ballot(unsigned mask, bool vote, const char* name, Place place) {
    Ballot mine{vote, 0};
    warp_op(mask, ballot_together, &mine, name, place);
    return mine.result;
}

// The lane to read from, for a warp split into segments of `width`: outside its own segment a lane reads itself.
inline int segment_start(int width) { return lane & ~(width - 1); }
inline int segment_end(int width) { return lane | (width - 1); }

}

inline void __syncwarp(unsigned mask = emu::FULL_WARP, emu::Place place = {}) {
    emu::warp_op(mask, emu::nothing_together, nullptr, "__syncwarp", place, emu::Memory::ordered);
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, emu::Place place = {}) {
    return emu::shuffle(mask, value, emu::segment_start(width) | (source & (width - 1)), "__shfl_sync", place);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, emu::Place place = {}) {
    int source = emu::lane ^ bits;
    if (source > emu::segment_end(width)) { source = emu::lane; }
    return emu::shuffle(mask, value, source, "__shfl_xor_sync", place);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, emu::Place place = {}) {
    int source = emu::lane + (int)by;
    if (source > emu::segment_end(width)) { source = emu::lane; }
    return emu::shuffle(mask, value, source, "__shfl_down_sync", place);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, emu::Place place = {}) {
    int source = emu::lane - (int)by;
    if (source < emu::segment_start(width)) { source = emu::lane; }
    return emu::shuffle(mask, value, source, "__shfl_up_sync", place);
}

inline unsigned __ballot_sync(unsigned mask, int vote, emu::Place place = {}) {
    return emu::ballot(mask, vote != 0, "__ballot_sync", place);
}
inline int __any_sync(unsigned mask, int vote, emu::Place place = {}) {
    return emu::ballot(mask, vote != 0, "__any_sync", place) != 0;
}
inline int __all_sync(unsigned mask, int vote, emu::Place place = {}) {
    return emu::ballot(mask, vote == 0, "__all_sync", place) == 0;
}

template <class T> T __reduce_add_sync(unsigned mask, T value, emu::Place place = {}) {
    return emu::reduce(mask, value, std::plus<T>(), "__reduce_add_sync", place);
}
template <class T> T __reduce_max_sync(unsigned mask, T value, emu::Place place = {}) {
    return emu::reduce(mask, value, [](T a, T b) { return a > b ? a : b; }, "__reduce_max_sync", place);
}
template <class T> T __reduce_min_sync(unsigned mask, T value, emu::Place place = {}) {
    return emu::reduce(mask, value, [](T a, T b) { return a < b ? a : b; }, "__reduce_min_sync", place);
}
