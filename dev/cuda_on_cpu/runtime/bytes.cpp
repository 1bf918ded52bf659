// Replaces race.cpp in the build that counts: the bytes of device memory that each launch reads and writes. A byte
// counts once per launch however often it is read, and once however often it is written, as if caches were unlimited.
#include "internal.h"
#include <stdlib.h>
#include <string.h>

namespace emu {

struct Line { uint32_t launch, read, written; }; // 32 bytes: the last launch that touched them, and which of them
constexpr uintptr_t LINE = 32;

// The allocation of the 256 bytes around an address: every allocation begins with such a granule
struct Granule { uintptr_t number; Allocation* allocation; };
constexpr uintptr_t GRANULE = 256, GRANULES = 1 << 12;
static Granule granules[GRANULES];
static uint32_t launch_number;
static Traffic traffic;

const Traffic* launch_traffic() { return &traffic; }

void race_allocated(Allocation* a) {
    a->shadow = calloc(a->size / LINE + 1, sizeof(Line)); // pages as touched
    memset(granules, 0, sizeof granules);
}
void race_freed(Allocation* a) {
    free(a->shadow);
    memset(granules, 0, sizeof granules);
}
void race_launch() {
    launch_number++;
    traffic = {};
}
void race_block() {}
void race_waited() {}
void race_shared(void*, size_t) {}
void race_shared_end() {}
void race_range(const void*, size_t, Direction) {}
void note_fence() {}

static bool inside(uintptr_t p, uintptr_t base, size_t size) { return p - base < size; }

// nullptr: shared memory, parameters, constants
static Allocation* allocation_at(uintptr_t p) {
    uintptr_t number = p / GRANULE;
    Granule& g = granules[number % GRANULES];
    if (g.number != number) { g = {number, find_allocation((void*)(number * GRANULE))}; }
    return g.allocation && inside(p, g.allocation->base, g.allocation->size) ? g.allocation : nullptr;
}

static void touch(Line* line, uint32_t bytes, Direction direction) {
    if (line->launch != launch_number) { *line = {launch_number, 0, 0}; }
    uint32_t& seen = direction == Direction::read ? line->read : line->written;
    bytes &= ~seen;
    if (!bytes) { return; }
    (direction == Direction::read ? traffic.read : traffic.written) += __builtin_popcount(bytes);
    seen |= bytes;
}

void watch(const void* p, size_t size, Direction direction, void*) {
    uintptr_t at = (uintptr_t)p;
    if (!current_launch || inside(at, running.stack, running.stack_size) || running.unwatched || !size) { return; }
    Allocation* a = allocation_at(at);
    if (!a) { return; }
    uintptr_t from = at - a->base, end = from + size;
    for (uintptr_t line = from / LINE; line * LINE < end; line++) {
        uint32_t bytes = ~0u;
        if (line * LINE < from) { bytes &= ~0u << (from - line * LINE); }
        if (end < (line + 1) * LINE) { bytes &= ~0u >> ((line + 1) * LINE - end); }
        touch((Line*)a->shadow + line, bytes, direction);
    }
}

void note_atomic(void* p, size_t size) {
    watch(p, size, Direction::read, nullptr);
    watch(p, size, Direction::write, nullptr);
}

}
