// Launches: limits of the device, the order of blocks, shared memory.
#include "internal.h"
#include <dlfcn.h>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <vector>

extern "C" {
void __asan_poison_memory_region(void const volatile* p, size_t size) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile* p, size_t size) __attribute__((weak));
}

namespace emu {

static char* dynamic_array;
static size_t dynamic_size, static_size;
static std::map<const void*, size_t> dynamic_limits; // of kernels that asked for more dynamic shared memory, by address
static const void* entered;                          // the kernel that runs; nullptr until its first thread does
static int registers;                                // of one of its threads; 0: not known

cudaError_t allow_dynamic_shared(const void* kernel, int size) {
    if (size < 0 || (size_t)size > settings.shared) { return cudaErrorInvalidValue; }
    dynamic_limits[kernel] = size;
    return cudaSuccess;
}

void* dynamic_shared() { return dynamic_array; }

// Unless the kernel asked for more, its static and dynamic shared memory together have 48 KB.
static void check_shared() {
    auto asked = dynamic_limits.find(entered);
    size_t limit = asked != dynamic_limits.end() ? asked->second : SHARED_DEFAULT - static_size;
    if (static_size > SHARED_DEFAULT) { fail("more than 48 KB of static shared memory"); }
    if (static_size + dynamic_size > settings.shared) { fail("more than %zu KB of shared memory", settings.shared >> 10); }
    if (dynamic_size > limit) {
        fail("%zu bytes of dynamic shared memory beside %zu static ones, the limit is %zu: cudaFuncSetAttribute raises "
             "it, for one kernel", dynamic_size, static_size, limit);
    }
}

// The runtime identifies the kernel by its return address.
void enter_kernel() {
    Dl_info kernel;
    if (entered || !current_launch) { return; }
    if (!dladdr(__builtin_return_address(0), &kernel) || !kernel.dli_saddr) { fail("a kernel must not be static"); }
    entered = kernel.dli_saddr;
    registers = registers_of(kernel.dli_sname);
    size_t threads = (size_t)blockDim.x * blockDim.y * blockDim.z;
    if (!registers_suffice(registers, threads)) {
        fail("too many resources requested for launch: %zu threads of %d registers each", threads, registers);
    }
    check_shared();
}

// The first thread of a block to pass the array's declaration poisons it with NaNs.
void enter_shared(void* array, size_t size, unsigned* last_block) {
    if (*last_block == block_count) { return; }
    *last_block = block_count;
    memset(array, 0xff, size);
    static_size += size;
    check_shared();
    race_shared(array, size);
}

// A separate allocation for each block, so that AddressSanitizer and the race detector know its end.
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
    entered = nullptr;
    gridDim = launch.grid;
    blockDim = launch.block;
    check_launch(launch);
    running.parameters = (uintptr_t)call;
    running.parameters_size = call->size;
    race_launch();
    begin_waits();
    for (size_t i : block_order(settings.skips ? 0 : (size_t)gridDim.x * gridDim.y * gridDim.z)) {
        blockIdx = {(unsigned)(i % gridDim.x), (unsigned)(i / gridDim.x % gridDim.y),
                    (unsigned)(i / gridDim.x / gridDim.y)};
        running.block = (unsigned)i;
        race_block();
        begin_dynamic_shared(launch.shared);
        run_block(call);
        end_dynamic_shared();
    }
    check_waits(launch);
    record_launch(launch);
    current_launch = nullptr;
    if (settings.trace) {
        fprintf(stderr, "EMU LAUNCH %s grid %u,%u,%u block %u,%u,%u dynamic %zu static %zu registers %d %s:%d\n",
                kernel_name(launch).c_str(), gridDim.x, gridDim.y, gridDim.z, blockDim.x, blockDim.y, blockDim.z,
                launch.shared, static_size, registers, launch.file, launch.line);
    }
}

void submit(const Launch& launch, std::shared_ptr<Call> call) {
    enqueue(launch.stream, [=] { run_grid(launch, call.get()); });
}

}
