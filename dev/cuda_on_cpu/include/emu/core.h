// What device code needs from the emulation's runtime. Everything else under emu/ is templates on top of these
// functions.
#pragma once

// Set at every switch from one thread to the next. Not thread-local: one thread of one block runs at a time.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
// Code of the emulation itself, whose loads and stores the race detector must not take for the kernel's. Not inlined:
// within an instrumented caller it would be instrumented too.
#define EMU_UNWATCHED __attribute__((no_sanitize("thread"), noinline))
#else
#define EMU_UNWATCHED
#endif

// Set by EMU_SEPARATE=1: a program that puts its tensors into one allocation then makes one for each, because inside an
// arena no sanitizer detects an overflow into the next tensor.
bool emu_separate_tensors();

// From here on nothing runs on the device, or everything does again, unless EMU_DRY=1: skips what a program does once.
// Returns the previous state.
bool emu_skip(bool on);

// Writes a line to EMU_RECORD's file, between what ran before and what runs after
void emu_note(const char* format, ...) __attribute__((format(printf, 1, 2)));

namespace emu {

// The place of a barrier or warp operation in the source. As a default argument it takes the caller's file and line.
struct Place {
    const char* file;
    int line;
    constexpr Place(const char* file = __builtin_FILE(), int line = __builtin_LINE()) : file(file), line(line) {}
};

constexpr unsigned FULL_WARP = 0xffffffffu;
extern int lane;               // of the running thread in its warp
extern unsigned block_count;   // blocks started so far: shows whether a shared array is from an earlier block

void barrier(Place place);     // __syncthreads
enum class Vote { count, all, any };
int barrier_vote(bool vote, Vote kind, Place place);

// Every cooperation within a warp is this one primitive: the lanes of `mask` meet, and the last to arrive runs
// `together` once for all of them. lanes[i] is what lane i passed as `mine` (nullptr if it does not take part),
// `present` the mask of those that came: named lanes that have left the kernel are missing from it. Only __syncwarp
// orders memory between the lanes; the race detector uses `orders_memory`.
typedef void (*Together)(void** lanes, unsigned present);
enum class Memory { unordered, ordered };
void warp_op(unsigned mask, Together together, void* mine, const char* name, Place place,
             Memory memory = Memory::unordered);

void enter_kernel();   // the first thing in every kernel
// Copies that the running thread has started (cp.async), group by group. finish_copy gives the next one to be copied by
// a wait for all groups but the last `groups`, or returns false.
struct AsyncCopy {
    void* shared;
    const void* global; // NULL: zeros
    size_t bytes;
    int group;
};
void start_copy(AsyncCopy copy);
void commit_copies();
bool finish_copy(AsyncCopy* copy, int groups);

void* dynamic_shared();
void enter_shared(void* array, size_t size, unsigned* last_block);

// For the race detector; no effect in the other builds.
void note_fence();
void note_atomic(void* address, size_t size);

bool note_mma(); // a warp's, for EMU_RECORD; false: its result must be zero

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

}
