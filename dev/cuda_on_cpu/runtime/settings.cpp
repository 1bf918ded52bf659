// Settings from the environment:
//   EMU_ORDER=forward | reverse | random:SEED | priority:SEED
//   EMU_SHARED=KB   shared memory that a block can have, 227 by default
//   EMU_LATE=1      run work on streams as late as its dependencies allow
//   EMU_SEPARATE=1  emu_separate_tensors() is true: one allocation per tensor
//   EMU_TRACE=1     a line on stderr for every launch
//   EMU_REGISTERS=FILE  registers of kernels (registers.cpp)
//   EMU_GRAPHS=0    graph capture fails, as with a driver without it
//   EMU_DRY=1       nothing runs, and device memory is only address space: to record what would run, in any size
//   EMU_PRODUCTS=0  products of cublasLt and of tensor cores are zeros
//   EMU_MULTIPROCESSORS=N   of the device, 4 by default
//   EMU_DEVICES=N   number of devices, 1 by default
#include "internal.h"
#include <stdlib.h>
#include <string.h>
#include <utility>

namespace emu {

constexpr int FEW_MULTIPROCESSORS = 4; // grids sized by them stay fast

static uint64_t random_state = 88172645463325252ull;

uint64_t random_number() { // xorshift64
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

static void seed_random(uint64_t seed) {
    random_state += 0x9e3779b97f4a7c15ull * (seed + 1);
    for (int i = 0; i < 9; i++) { random_number(); }
}

static Order read_order(const char* text) {
    const char* colon = strchr(text, ':');
    if (colon) { seed_random(strtoull(colon + 1, nullptr, 10)); }
    if (!*text || !strcmp(text, "forward")) { return Order::forward; }
    if (!strcmp(text, "reverse")) { return Order::reverse; }
    if (!strncmp(text, "random:", 7)) { return Order::random; }
    if (!strncmp(text, "priority:", 9)) { return Order::priority; }
    fail("EMU_ORDER=%s: give forward, reverse, random:SEED or priority:SEED", text);
}

static const char* environment(const char* name) {
    const char* value = getenv(name);
    return value ? value : "";
}

Settings settings;

__attribute__((constructor)) static void read_environment() {
    size_t kilobytes = strtoull(environment("EMU_SHARED"), nullptr, 10);
    settings.shared = kilobytes ? kilobytes << 10 : SHARED_MAX;
    settings.order = read_order(environment("EMU_ORDER"));
    settings.late = !strcmp(environment("EMU_LATE"), "1");
    settings.separate = !strcmp(environment("EMU_SEPARATE"), "1");
    settings.trace = !strcmp(environment("EMU_TRACE"), "1");
    settings.graphs = strcmp(environment("EMU_GRAPHS"), "0") != 0;
    settings.dry = settings.skips = !strcmp(environment("EMU_DRY"), "1");
    settings.products = strcmp(environment("EMU_PRODUCTS"), "0") != 0;
    int multiprocessors = atoi(environment("EMU_MULTIPROCESSORS"));
    settings.multiprocessors = multiprocessors > 0 ? multiprocessors : FEW_MULTIPROCESSORS;
    const char* devices = environment("EMU_DEVICES");
    settings.devices = *devices ? atoi(devices) : 1;
}

bool random_order() { return settings.order == Order::random || settings.order == Order::priority; }

}

bool emu_skip(bool on) { return std::exchange(emu::settings.skips, on || emu::settings.dry); }
bool emu_separate_tensors() { return emu::settings.separate; }
