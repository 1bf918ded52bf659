// What ranks send each other: each time a list of messages out and a list of messages in. All that they do together is
// made of these, in an order known to all. A library's own sums are not used: they depend on the number of ranks.
//
//     exchange(out, outs, in, ins)                    returns when all messages are complete
//     transfer_begin(&t, tag, out, outs, in, ins)     returns at once: they are on their way
//     transfer_done(&t)                               called repeatedly, moves them on; true when all are complete
//
// Waiting is polling with pauses, so that ranks that share a core leave it to those with work. Transfers under way at
// the same time have different tags.
#pragma once
#include "memory.h"
#include "ranks.h"
#include "watchdog.h"

typedef struct {
    int place; // that it goes to, or comes from
    void* data;
    size_t bytes;
} Message;

#ifdef HAVE_MPI
#include "ranks_mpi.h"
#elif defined HAVE_NCCL
#include "ranks_nccl.cuh"
#else
#if defined __CUDACC__ || defined CUDA_EMU
#define ENGINE_MISSING "NCCL: install libnccl-dev, or set NCCL_HOME,"
#include "ranks_none.cuh"
#else
#define ENGINE_MISSING "MPI: install libopenmpi-dev"
#endif
static inline bool engine_begin(const char* program, Error* err) {
    return set_error(err, "%d processes were started, but %s was built without " ENGINE_MISSING " and make it again",
                     ranks.size, program);
}
static inline void engine_end(void) {}
static inline uint64_t engine_key(void) { return 0; }
static inline const char* engine_name(void) { return "none"; }
typedef struct { int left; } Transfer;
static inline void transfer_begin(Transfer* t, int tag, const Message* out, int outs, const Message* in, int ins) {
    (void)tag, (void)out, (void)outs, (void)in, (void)ins; // one rank has no others to talk to
    t->left = 0;
}
static inline bool transfer_done(Transfer* t) { return t->left == 0; }
#endif

#ifndef HAVE_NCCL // which brings its own
// Returns once all messages are complete.
static inline void exchange(const Message* out, int outs, const Message* in, int ins) {
    Transfer t;
    wait_begin();
    transfer_begin(&t, 0, out, outs, in, ins);
    while (!transfer_done(&t)) { usleep(50); }
    wait_end();
}
#endif

// The messages by which the rank at each place p sends bytes bound[p] ... bound[p+1] - 1 of base to all others. Returns
// their number in either direction: one for each other rank.
static inline int range_messages(void* base, const size_t* bound, Message* out, Message* in) {
    int own = ranks.place, count = 0;
    for (int p = 0; p < ranks.size; p++) {
        if (p == own) { continue; }
        out[count] = (Message){p, (char*)base + bound[own], bound[own + 1] - bound[own]};
        in[count++] = (Message){p, (char*)base + bound[p], bound[p + 1] - bound[p]};
    }
    return count;
}

// Every rank gets the others' ranges.
static inline void gather_ranges(void* base, const size_t* bound) {
    if (ranks.size == 1) { return; }
    Message *out = alloc_array(Message, 2 * ranks.size, "messages"), *in = out + ranks.size;
    int count = range_messages(base, bound, out, in);
    exchange(out, count, in, count);
    free(out);
}

// all: (R, bytes), which holds this rank's own already
static inline void gather_all(void* all, size_t bytes) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p <= ranks.size; p++) { bound[p] = (size_t)p * bytes; }
    gather_ranges(all, bound);
    free(bound);
}

// Copies what rank 0 has at data to all others.
static inline void lead_tells(void* data, size_t bytes) {
    if (ranks.size == 1) { return; }
    Message* list = alloc_array(Message, ranks.size, "messages");
    int count = 0;
    for (int p = 1; p < ranks.size; p++) { list[count++] = (Message){p, data, bytes}; }
    Message from_lead = {0, data, bytes};
    if (ranks_lead()) { exchange(list, count, NULL, 0); } else { exchange(NULL, 0, &from_lead, 1); }
    free(list);
}
