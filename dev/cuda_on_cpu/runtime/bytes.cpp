// In the place of race.cpp, in the build that counts: the bytes of device memory that each launch reads and writes. A byte
// counts once a launch however often it is read, and once however often it is written, as if no cache ever lost it.
#include "internal.h"
#include <stdlib.h>

namespace emu {

struct Line { uint32_t launch, read, written; }; // 32 bytes: the last launch that touched them, and which of them
constexpr uintptr_t LINE = 32;

static Allocation* last_found; // most accesses go where the last one went
static uint32_t launch_number;
static Traffic traffic;

const Traffic* launch_traffic() { return &traffic; }

void race_allocated(Allocation* a) {
    a->shadow = calloc(a->size / LINE + 1, sizeof(Line)); // pages as touched
    last_found = nullptr;
}
void race_freed(Allocation* a) {
    free(a->shadow);
    last_found = nullptr;
}
void race_launch() {
    launch_number++;
    traffic = {};
}
void race_block() {}
void race_shared(void*, size_t) {}
void race_shared_end() {}
void race_range(const void*, size_t, Direction) {}
void note_fence() {}

static bool inside(uintptr_t p, uintptr_t base, size_t size) { return p - base < size; }

static void touch(Line* line, uint32_t bytes, Direction direction) {
    if (line->launch != launch_number) { *line = {launch_number, 0, 0}; }
    uint32_t& seen = direction == Direction::read ? line->read : line->written;
    (direction == Direction::read ? traffic.read : traffic.written) += __builtin_popcount(bytes & ~seen);
    seen |= bytes;
}

void watch(const void* p, size_t size, Direction direction, void*) {
    uintptr_t at = (uintptr_t)p;
    if (running.unwatched || !size || !current_launch || inside(at, running.stack, running.stack_size)) { return; }
    if (!on_cuda_thread()) { return; }
    if (!last_found || !inside(at, last_found->base, last_found->size)) {
        Allocation* found = find_allocation(p);
        if (!found) { return; } // shared memory, parameters, constants
        last_found = found;
    }
    uintptr_t from = at - last_found->base, end = from + size;
    for (uintptr_t line = from / LINE; line * LINE < end; line++) {
        uint32_t bytes = ~0u;
        if (line * LINE < from) { bytes &= ~0u << (from - line * LINE); }
        if (end < (line + 1) * LINE) { bytes &= ~0u >> ((line + 1) * LINE - end); }
        touch((Line*)last_found->shadow + line, bytes, direction);
    }
}

void note_atomic(void* p, size_t size) {
    watch(p, size, Direction::read, nullptr);
    watch(p, size, Direction::write, nullptr);
}

}
