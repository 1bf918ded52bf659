// Declarations shared by the files of the runtime.
#pragma once
#include <cuda_runtime.h>
#include <functional>
#include <memory>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string>
#include "../include/emu/core.h"
#include "../include/emu/launch.h"
#include "../include/emu/early.h"

namespace emu {

// ---- settings.cpp --------------------------------------------------------------------------------------------------
// The order in which threads run between two barriers, and blocks within a launch. Uniformly random threads all advance
// at about the same pace, which hides a reused buffer: `priority` gives each warp a random priority for the block, so
// that one runs as far ahead of another as the barriers allow.
enum class Order { forward, reverse, random, priority };
struct Settings {
    Order order;
    size_t shared; // bytes of shared memory that a block can have
    bool late;     // stream work runs only when something has to wait for it
    bool separate; // for emu_separate_tensors()
    bool trace;    // one line per launch
    bool graphs;   // streams can be captured
    bool skips;    // nothing runs: emu_skip()
    bool dry;      // nor is there device memory: only the host's part, in any size
    bool products; // false: they are zeros, if only the kernels' activity matters and not their results
    int multiprocessors;
    int devices;
};
extern Settings settings; // read once, before main
bool random_order();
uint64_t random_number();

// ---- report.cpp ----------------------------------------------------------------------------------------------------
constexpr int EXIT_STATUS = 86; // of a program in which the emulation found an error
extern const Launch* current_launch; // nullptr on the host
std::string kernel_name(const Launch& launch);
void print_place(FILE* out);
[[noreturn]] void stop();

// ---- block.cpp -----------------------------------------------------------------------------------------------------
constexpr int MAX_THREADS = 1024;
void run_block(Call* call);

// ---- launch.cpp ----------------------------------------------------------------------------------------------------
constexpr size_t SHARED_DEFAULT = 48 << 10, SHARED_MAX = 227 << 10;
void run_grid(const Launch& launch, Call* call);
cudaError_t allow_dynamic_shared(const void* kernel, int size);

// ---- registers.cpp -------------------------------------------------------------------------------------------------
// Registers per thread of the kernel with this symbol, from EMU_REGISTERS; 0: unknown
int registers_of(const char* symbol);
bool registers_suffice(int registers, size_t threads); // for one block, on a multiprocessor

// ---- early.cpp -----------------------------------------------------------------------------------------------------
void begin_waits();
void check_waits(const Launch& launch); // stops if a thread of an early launch did not wait

// ---- memory.cpp ----------------------------------------------------------------------------------------------------
struct Allocation {
    uintptr_t base;
    size_t size;
    void* shadow; // the race detector's
};
Allocation* find_allocation(const void* p);
// Stops unless [p, p + size) is within one allocation of the device. Copies, memsets and matmuls go through it.
enum class Direction { read, write };
void check_range(const void* p, size_t size, const char* what, Direction direction);
size_t bytes_allocated();
bool is_pinned(const void* p);
cudaError_t remember_error(cudaError_t error);

// ---- record.cpp ----------------------------------------------------------------------------------------------------
struct Traffic { size_t read, written; };  // bytes of device memory
const Traffic* launch_traffic();           // of the running launch; nullptr if they are not counted
void record_launch(const Launch& launch);
void record_copy(size_t bytes);
void record_memset(size_t bytes);

// ---- stream.cpp ----------------------------------------------------------------------------------------------------
void enqueue(cudaStream_t stream, std::function<void()> work);
bool is_capturing(cudaStream_t stream);
void finish_stream(cudaStream_t stream);
void finish_everything();
void refuse_in_capture(const char* what, bool even_if_relaxed = false); // stops if any stream is captured
void pass_seconds(double seconds); // advances the clock of events: for what takes long on a GPU, but not here
void require_one_host_thread();
bool on_cuda_thread(); // false on other host threads, such as a data loader's: their accesses are not a kernel's

// ---- race.cpp; bytes.cpp, which counts; or race_none.cpp where nothing is watched ----------------------------------
// The running thread, for the detector; updated by block.cpp and launch.cpp.
struct Running {
    unsigned epoch;                     // counts the block's barriers, and blocks
    unsigned warp_epoch[MAX_THREADS / 32]; // counts each warp's __syncwarps
    unsigned thread, block;
    uintptr_t stack, stack_size;
    uintptr_t parameters, parameters_size;
    bool unwatched;                     // the runtime accesses other threads' locals
};
extern Running running;
void race_allocated(Allocation* allocation);
void race_freed(Allocation* allocation);
void race_launch();
void race_block();
void race_waited(); // the running thread has waited for the previous kernel
void race_shared(void* array, size_t size);
void race_shared_end();
void race_range(const void* p, size_t size, Direction direction);
void watch(const void* p, size_t size, Direction direction, void* pc); // race_calls.cpp: every load and store

}
