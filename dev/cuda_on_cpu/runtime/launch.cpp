// Launches: limits of the device, the order of blocks, shared memory.
#include "internal.h"
#include <stdlib.h>
#include <string.h>
#include <vector>

extern "C" {
void __asan_poison_memory_region(void const volatile* p, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile* p, size_t size) __attribute__((weak));
}

namespace emu {

static char* dynamic_array;
static size_t dynamic_size, static_size, dynamic_limit = SHARED_DEFAULT;

cudaError_t allow_dynamic_shared(int size) {
    if (size < 0 || (size_t)size > settings.shared) { return cudaErrorInvalidValue; }
    if ((size_t)size > dynamic_limit) { dynamic_limit = size; }
    return cudaSuccess;
}

void* dynamic_shared() { return dynamic_array; }

// The first thread of a block to pass the array's declaration poisons it: NaNs, whatever the block before left there.
void enter_shared(void* array, size_t size, unsigned* last_block) {
    if (*last_block == block_count) { return; }
    *last_block = block_count;
    memset(array, 0xff, size);
    static_size += size;
    if (static_size > SHARED_DEFAULT) { fail("more than 48 KB of static shared memory"); }
    if (static_size + dynamic_size > settings.shared) { fail("more than %zu KB of shared memory", settings.shared >> 10); }
    race_shared(array, size);
}

// Its own allocation for each block: AddressSanitizer and the race detector know where it ends.
static void begin_dynamic_shared(size_t size) {
    void* p = nullptr;
    if (posix_memalign(&p, 128, size ? size : 1)) { fail("no memory for shared memory"); }
    memset(p, 0xff, size);
    dynamic_array = (char*)p;
    dynamic_size = size;
    static_size = 0;
    race_shared(p, size);
    if (!size && __asan_poison_memory_region) { __asan_poison_memory_region(p, 1); }
}

static void end_dynamic_shared() {
    race_shared_end();
    if (!dynamic_size && __asan_unpoison_memory_region) { __asan_unpoison_memory_region(dynamic_array, 1); }
    free(dynamic_array);
    dynamic_array = nullptr;
}

static void check_launch(const Launch& l) {
    dim3 g = l.grid, b = l.block;
    bool grid_ok = g.x && g.y && g.z && g.x <= 2147483647u && g.y <= 65535 && g.z <= 65535;
    bool block_ok = b.x && b.y && b.z && b.x <= 1024 && b.y <= 1024 && b.z <= 64 &&
                    (size_t)b.x * b.y * b.z <= MAX_THREADS;
    if (!grid_ok || !block_ok) {
        fail("invalid launch: grid (%u,%u,%u), block (%u,%u,%u)", g.x, g.y, g.z, b.x, b.y, b.z);
    }
    if (l.shared > dynamic_limit) {
        fail("%zu bytes of dynamic shared memory, the limit is %zu: cudaFuncSetAttribute raises it", l.shared,
             dynamic_limit);
    }
}

static std::vector<size_t> block_order(size_t count) {
    std::vector<size_t> order(count);
    for (size_t i = 0; i < count; i++) {
        order[i] = settings.order == Order::reverse ? count - 1 - i : i;
        if (random_order()) { std::swap(order[i], order[random_number() % (i + 1)]); }
    }
    return order;
}

void run_grid(const Launch& launch, Call* call) {
    if (current_launch) { fail("a launch from inside a kernel is not emulated"); }
    current_launch = &launch;
    gridDim = launch.grid;
    blockDim = launch.block;
    check_launch(launch);
    running.parameters = (uintptr_t)call;
    running.parameters_size = call->size;
    race_launch();
    for (size_t i : block_order((size_t)gridDim.x * gridDim.y * gridDim.z)) {
        blockIdx = {(unsigned)(i % gridDim.x), (unsigned)(i / gridDim.x % gridDim.y),
                    (unsigned)(i / gridDim.x / gridDim.y)};
        running.block = (unsigned)i;
        race_block();
        begin_dynamic_shared(launch.shared);
        run_block(call);
        end_dynamic_shared();
    }
    current_launch = nullptr;
    if (settings.trace) {
        fprintf(stderr, "EMU LAUNCH %s grid %u,%u,%u block %u,%u,%u dynamic %zu static %zu %s:%d\n",
                kernel_name(launch).c_str(), gridDim.x, gridDim.y, gridDim.z, blockDim.x, blockDim.y, blockDim.z,
                launch.shared, static_size, launch.file, launch.line);
    }
}

void submit(const Launch& launch, std::shared_ptr<Call> call) {
    enqueue(launch.stream, [=] { run_grid(launch, call.get()); });
}

}
