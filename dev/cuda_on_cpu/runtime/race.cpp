// The race detector. clang's -fsanitize=thread inserts a call at every load and store of the program; race_calls.cpp
// passes them to watch() here. No particular interleaving is needed: two accesses race if nothing orders them,
// whichever came first this time. Two accesses of one launch to one place are ordered by
//   - the same thread
//   - in a block: a __syncthreads between them, or for lanes of one warp a __syncwarp
//   - between blocks: atomics, or the writer's __threadfence followed by an atomic in the reader's block (a ticket)
// Besides races it finds accesses outside of every array, host pointers in kernels, device pointers on the host and
// reads of memory that was never written.
//
// Memory is watched in cells of 2 bytes, one bf16. Accesses to single bytes are checked for their address and mark
// their cell as written, no more. Not watched: a thread's locals, parameters, __device__ and __constant__ variables.
#include "internal.h"
#include <string.h>
#include <string>
#include <unistd.h>
#include <vector>

namespace emu {

struct Access {
    uint32_t launch, block, epoch, warp_epoch;
    uint32_t pc; // the program is linked at a fixed low address
    uint16_t thread;
    bool atomic;
    uint8_t spread; // for unordered reads: how far apart the readers were
};
enum Spread { ONE_THREAD, ONE_WARP, ONE_BLOCK, SEVERAL_BLOCKS };
struct Cell {
    Access write, read;  // the last ones
    uint32_t write_tick; // of `tick`
    bool initialised;
};
struct SharedArray {
    uintptr_t base;
    size_t size;
    Cell* cells;
};

static std::vector<SharedArray> shared_arrays; // of the running block
static Allocation* last_found;                 // most accesses are to the same as the last one
static uint32_t launch_number;
static bool in_atomic;
static std::vector<bool> waited; // the block's threads that may touch device memory in an early launch
// Counts fences and atomics. Per block of the running launch: its last fence, its last atomic.
static uint32_t tick = 1;
static std::vector<uint32_t> fence_tick, atomic_tick;

static Cell* make_cells(size_t bytes) { return (Cell*)calloc((bytes + 1) / 2 + 1, sizeof(Cell)); } // pages as touched

void race_allocated(Allocation* a) {
    a->shadow = make_cells(a->size);
    last_found = nullptr;
}
void race_freed(Allocation* a) {
    free(a->shadow);
    last_found = nullptr;
}
const Traffic* launch_traffic() { return nullptr; }
void race_launch() {
    size_t blocks = (size_t)gridDim.x * gridDim.y * gridDim.z;
    launch_number++;
    fence_tick.assign(blocks, 0);
    atomic_tick.assign(blocks, 0);
}
void race_block() {
    running.epoch++;
    waited.assign(MAX_THREADS, false);
}
void race_waited() { waited[running.thread] = true; }
void race_shared(void* array, size_t size) { shared_arrays.push_back({(uintptr_t)array, size, make_cells(size)}); }
void race_shared_end() {
    for (SharedArray& array : shared_arrays) { free(array.cells); }
    shared_arrays.clear();
}
void note_fence() { fence_tick[running.block] = ++tick; }

// ---- reports -------------------------------------------------------------------------------------------------------

static std::string source_line(void* pc) {
    char program[512] = "", command[800], line[400] = "";
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) { return "?"; }
    snprintf(command, sizeof command, "addr2line -Cfipse '%s' %p 2>/dev/null", program, (void*)((char*)pc - 1));
    FILE* pipe = popen(command, "r");
    if (!pipe) { return "?"; }
    size_t length = fread(line, 1, sizeof line - 1, pipe);
    pclose(pipe);
    std::string text(line, length);
    for (char& c : text) { c = c == '\n' ? ' ' : c; }
    return text;
}

[[noreturn]] static void report(const char* what, const void* p, size_t size, void* pc,
                                const Access* against = nullptr) {
    fflush(stdout);
    fprintf(stderr, "EMU RACE: %s, %zu bytes at %p\n", what, size, p);
    if (pc) { fprintf(stderr, "  here: %s\n", source_line(pc).c_str()); }
    if (against) {
        fprintf(stderr, "  against block %u thread %u%s: %s\n", against->block, against->thread,
                against->spread ? " and others" : "", source_line((void*)(uintptr_t)against->pc).c_str());
    }
    stop();
}

// ---- what orders two accesses --------------------------------------------------------------------------------------

static bool came_through_fence(const Cell& cell) {
    uint32_t fence = fence_tick[cell.write.block];
    return cell.write_tick < fence && fence <= atomic_tick[running.block];
}

static inline bool ordered(const Access& a, const Access& now) {
    if (a.launch != now.launch) { return true; }
    if (a.block != now.block || a.spread == SEVERAL_BLOCKS) { return false; }
    if (a.epoch != now.epoch) { return true; }
    if (a.thread == now.thread && a.spread == ONE_THREAD) { return true; }
    bool same_warp = a.thread / 32 == now.thread / 32 && a.spread <= ONE_WARP;
    return same_warp && a.warp_epoch != now.warp_epoch;
}

static inline bool conflicts(const Access& earlier, const Access& now) { // a missing one has launch 0
    return !ordered(earlier, now) && !(now.atomic && earlier.atomic);
}

static Access this_access(void* pc) {
    return {launch_number, running.block, running.epoch, running.warp_epoch[running.thread / 32],
            (uint32_t)(uintptr_t)pc, (uint16_t)running.thread, in_atomic, ONE_THREAD};
}

// Field by field: copied as a whole, `now` would be in memory, where a wide load waits for the preceding narrow stores
static inline void record(Access& place, const Access& now, uint8_t spread) {
    place.launch = now.launch, place.block = now.block, place.epoch = now.epoch, place.warp_epoch = now.warp_epoch;
    place.pc = now.pc, place.thread = now.thread, place.atomic = now.atomic, place.spread = spread;
}

// One record represents all reads of a cell. One that is ordered before this read may be forgotten: what is ordered
// after this one is after that one too. For the others it keeps how far apart they were.
static inline void record_read(Cell& cell, const Access& now) {
    uint8_t spread = ONE_THREAD;
    const Access& before = cell.read;
    if (!ordered(before, now)) {
        bool same_warp = before.thread / 32 == now.thread / 32 && before.spread <= ONE_WARP;
        spread = before.block != now.block || before.spread == SEVERAL_BLOCKS ? SEVERAL_BLOCKS
                 : same_warp                                                  ? ONE_WARP
                                                                              : ONE_BLOCK;
    }
    record(cell.read, now, spread);
}

static inline void watch_read(Cell& cell, const void* p, size_t size, void* pc, const Access& now) {
    if (conflicts(cell.write, now) && !(cell.write.block != running.block && came_through_fence(cell))) {
        report("race: a read not ordered after a write", p, size, pc, &cell.write);
    }
    if (!cell.initialised) { report("read of uninitialised memory", p, size, pc); }
    record_read(cell, now);
}

static inline void watch_write(Cell& cell, const void* p, size_t size, void* pc, const Access& now) {
    if (conflicts(cell.write, now) && !(cell.write.block != running.block && came_through_fence(cell))) {
        report("race: two writes without order", p, size, pc, &cell.write);
    }
    if (conflicts(cell.read, now)) { report("race: a write not ordered after a read", p, size, pc, &cell.read); }
    if (now.atomic && !cell.initialised) { report("atomic on uninitialised memory", p, size, pc); }
    record(cell.write, now, ONE_THREAD);
    cell.write_tick = tick;
    cell.initialised = true;
}

// ---- the place of an access ----------------------------------------------------------------------------------------

extern "C" char __executable_start, _end;

static bool inside(uintptr_t p, uintptr_t base, size_t size) { return p - base < size; }

static bool is_private(uintptr_t p) { // on the stack apart
    uintptr_t program = (uintptr_t)&__executable_start;
    return inside(p, running.parameters, running.parameters_size) ||
           inside(p, program, (uintptr_t)&_end - program); // threadIdx, tables, __constant__ variables
}

// nullptr: not watched
static Cell* find_cells(const void* p, size_t size, void* pc) {
    uintptr_t address = (uintptr_t)p;
    for (SharedArray& array : shared_arrays) { // before is_private: static arrays are in the program
        if (!inside(address, array.base, array.size)) { continue; }
        if (address + size > array.base + array.size) { report("out of bounds of a shared array", p, size, pc); }
        return array.cells + (address - array.base) / 2;
    }
    if (is_private(address)) { return nullptr; }
    if (!last_found || !inside(address, last_found->base, last_found->size)) { last_found = find_allocation(p); }
    if (!last_found || address + size > last_found->base + last_found->size) {
        report("a kernel touches what is neither device nor shared memory: out of bounds, or a host pointer", p, size,
               pc);
    }
    if (current_launch->early && !waited[running.thread]) {
        report("device memory is touched before the wait for the kernel in front", p, size, pc);
    }
    return (Cell*)last_found->shadow + (address - last_found->base) / 2;
}

static void watch_host(const void* p, size_t size, Direction direction, void* pc) {
    if (!find_allocation(p)) { return; }
    report(direction == Direction::write ? "the host writes device memory" : "the host reads device memory", p, size,
           pc);
}

void watch(const void* p, size_t size, Direction direction, void* pc) {
    if (running.unwatched || !size) { return; }
    if (current_launch && inside((uintptr_t)p, running.stack, running.stack_size)) { return; } // most are to locals
    if (!on_cuda_thread()) { return; }
    if (!current_launch) { return watch_host(p, size, direction, pc); }
    Cell* cells = find_cells(p, size, pc);
    if (!cells) { return; }
    if (size == 1) {
        cells->initialised |= direction == Direction::write;
        return;
    }
    const Access now = this_access(pc);
    for (size_t i = 0; i < (size + 1) / 2; i++) {
        if (direction == Direction::write) {
            watch_write(cells[i], p, size, pc, now);
        } else {
            watch_read(cells[i], p, size, pc, now);
        }
    }
}

void note_atomic(void* p, size_t size) {
    atomic_tick[running.block] = ++tick;
    in_atomic = true;
    watch(p, size, Direction::write, __builtin_return_address(0));
    in_atomic = false;
}

// A copy, memset or matmul: ordered by the stream, but what it reads must have been written.
void race_range(const void* p, size_t size, Direction direction) {
    Allocation* a = find_allocation(p);
    Cell* cells = (Cell*)a->shadow + ((uintptr_t)p - a->base) / 2;
    for (size_t i = 0; i < (size + 1) / 2; i++) {
        if (direction == Direction::write) { cells[i].initialised = true; }
        if (!cells[i].initialised) {
            fprintf(stderr, "EMU RACE: at byte %zu of %zu:\n", 2 * i, size);
            report("a copy or matmul reads uninitialised device memory", p, size, nullptr);
        }
    }
}

}
