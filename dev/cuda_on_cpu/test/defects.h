// Defects planted on request: `test_emulation_emu NAME` runs with that one. For each, which runs have to catch it ('x';
// '.' need not) and words of the most specific report, preceded by the letter of its run: p plain and forward, a asan,
// l late, r race.
//   columns: forward, reverse, random and priority orders of the plain build; asan; the plain build run late; race
#pragma once

#define DEFECTS(D) \
    D(none,                        ".......", "p 0 failed",              "nothing is planted") \
    D(write_past_end,              "xxxxxxx", "a heap-buffer-overflow",  "a matmul writes a row past its output") \
    D(no_barrier_after_load,       "xxxxxxx", "r read of uninitialised", "__syncthreads missing after a tile's load") \
    D(no_barrier_before_load,      "xxxxxxx", "r not ordered",           "__syncthreads missing before the next load") \
    D(reused_reduce_buffer,        "xx.xxxx", "r not ordered",           "a block reduction's buffer reused at once") \
    D(plain_add_between_blocks,    "......x", "r race",                  "+= where blocks meet, no atomic") \
    D(plain_add_in_block,          "......x", "r race",                  "+= on shared memory, no atomic") \
    D(barrier_in_branch,           "xxxxxxx", "p wait at __syncthreads", "__syncthreads reached by some threads") \
    D(return_before_barrier,       "xxxxxxx", "p left the kernel",       "threads return before a barrier") \
    D(full_mask_in_half_warp,      "xxxxxxx", "p FAILED",                "a shuffle of the full mask in half a warp") \
    D(gradient_not_zeroed,         "xxxxxxx", "r read of uninitialised", "+= onto a gradient that was never zeroed") \
    D(unwritten_shared,            "xxxxxxx", "r read of uninitialised", "shared slots read that no thread wrote") \
    D(static_shared_overflow,      "xxxxxxx", "a out of bounds for type", "a static shared array is too short") \
    D(dynamic_shared_too_small,    "xxxxxxx", "a heap-buffer-overflow",  "the launch gives half the shared memory") \
    D(misaligned_float4,           "xxxxxxx", "a misaligned address",    "a float4 load from an odd float") \
    D(host_reads_device,           "......x", "r host reads device",     "the host dereferences a device pointer") \
    D(host_pointer_to_kernel,      "......x", "r host pointer",          "a kernel gets a host pointer") \
    D(no_sync_before_read,         ".....x.", "l FAILED",                "the host reads a result without waiting") \
    D(no_wait_between_streams,     ".....x.", "l FAILED",                "a stream does not wait for another's event") \
    D(overflow_into_neighbour,     "xxxxxxx", "a heap-buffer-overflow",  "a kernel runs into the next tensor") \
    D(no_syncwarp,                 "......x", "r not ordered",           "__syncwarp missing after a fragment store") \
    D(grid_too_small,              "xxxxxxx", "r reads uninitialised",   "the grid is one block short") \
    D(no_threadfence,              "......x", "r not ordered",           "__threadfence missing before a ticket") \
    D(no_syncwarp_before_ldmatrix, "xxxxxxx", "r read of uninitialised", "__syncwarp missing before ldmatrix") \
    D(no_wait_for_copies,          "xxxxxxx", "p FAILED",                "cp.async not waited for") \
    D(no_barrier_before_copy,      "xxxxxxx", "p FAILED",                "cp.async into what others still read") \
    D(different_barriers,          "xxxxxxx", "p wait at different",     "two branches with a __syncthreads each") \
    D(shared_above_limit,          "xxxxxxx", "p cudaFuncSetAttribute",  "more than 48 KB of shared memory asked for") \
    D(static_beside_dynamic,       "xxxxxxx", "p beside 64 static",     "48 KB of dynamic shared memory, and static") \
    D(limit_of_another_kernel,     "xxxxxxx", "p for one kernel",       "another kernel asked for more shared memory") \
    D(too_many_registers,          "xxxxxxx", "p too many resources",   "a block larger than its registers allow") \
    D(sums_in_bf16,                "xxxxxxx", "p FAILED",                "a matmul whose parts are added in bf16") \
    D(unchecked_algorithm,         "xxxxxxx", "p FAILED",                "an algorithm that does not run for its shape") \
    D(no_workspace,                "xxxxxxx", "p a workspace of",        "less workspace than an algorithm needs") \
    D(operand_too_short,           "xxxxxxx", "p cublasLt A",            "a matmul that reads past its operand") \
    D(default_stream_not_waited,   ".....x.", "l FAILED",                "a stream reads what the default one zeroes") \
    D(pinned_page_shared,          "xxxxxxx", "p already mapped",       "two blocks of one page are pinned") \
    D(second_stream_not_joined,    ".....x.", "l FAILED",                "a stream goes on before a graph beside it") \
    D(capture_not_joined,          "xxxxxxx", "p joined again",          "a capture ends while a stream is apart") \
    D(sync_in_capture,             "xxxxxxx", "p with its stream",       "the host waits for a captured stream") \
    D(device_sync_in_capture,      "xxxxxxx", "p synchronisation",       "the host waits for everything, capturing") \
    D(allocation_in_capture,       "xxxxxxx", "p cudaMalloc during",     "an allocation during a capture") \
    D(default_stream_in_capture,   "xxxxxxx", "p the default stream",    "the default stream during a capture") \
    D(pageable_in_capture,         "xxxxxxx", "p pageable memory",       "a captured copy from pageable memory") \
    D(pinned_written_too_early,    ".....x.", "l FAILED",                "a graph's parameter is written too early") \
    D(neighbour_read_in_place,     "......x", "r not ordered",           "x[i] += x[i + 1] across blocks, in place") \
    D(no_wait_in_early_kernel,     "xxxxxxx", "p did not wait",          "a kernel launched early does not wait") \
    D(wait_after_load,             "......x", "r touched before",        "a kernel launched early loads, then waits")

enum Defect {
#define DEFECT(name, caught, report, what) name,
    DEFECTS(DEFECT)
#undef DEFECT
};
