// Messages between ranks by NCCL, from GPU to GPU: the messages of a list form a group, and groups are sequential on a
// separate stream, the wire. None of the library's own sums is used. Host data are staged on the device, and the host
// waits for them. To be included by exchange.h.
//
//     wire_follows(stream);                   // later work on the wire waits for the stream's work so far
//     wire_exchange(out, outs, in, ins);      // data on the device, like anything launched on nccl.wire
//     wire_precedes(stream);                  // later work on the stream waits for the wire
#pragma once
#include "clock.h"
#include "device.cuh"
#include "rendezvous.h"
#include <nccl.h>

static_assert(NCCL_VERSION_CODE >= 21800, "NCCL 2.18 is the first that is supported");

enum { STAGE_BYTES = 1 << 16, STAGE_ALIGN = 256, POLL_MICROSECONDS = 20 };

static struct {
    ncclComm_t communicator; // NULL: none
    cudaStream_t wire;
    cudaEvent_t joint;       // where wire and another stream meet
    cudaStream_t beside;     // that other stream; NULL: not yet
    char* stage;             // (STAGE_BYTES) on the device, for the host's messages
} nccl;

static inline void nccl_check(ncclResult_t result, const char* call) {
    if (result == ncclSuccess) { return; }
    fail(EXIT_RUN_TIME, "NCCL reports in %s: %s (%s)", call, ncclGetErrorString(result),
         ncclGetLastError(nccl.communicator));
}
#define NCCL_CHECK(call) nccl_check((call), #call)

// Such as "NCCL 2.28.9"
static inline const char* engine_name(void) {
    static char text[32];
    int version = 0;
    NCCL_CHECK(ncclGetVersion(&version));
    snprintf(text, sizeof text, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return text;
}

// NCCL connects by NCCL_COMM_ID: rank 0 listens there, and all derive the same id from it.
static inline void join_communicator(void) {
    char place[300];
    Error err;
    ncclUniqueId id;
    if (!getenv("NCCL_COMM_ID")) {
        if (!rendezvous(&ranks, place, sizeof place, &err)) { fail(EXIT_USAGE, "%s", err.text); }
        setenv("NCCL_COMM_ID", place, 1);
    }
    wait_begin();
    NCCL_CHECK(ncclGetUniqueId(&id));
    NCCL_CHECK(ncclCommInitRank(&nccl.communicator, ranks.size, id, ranks.rank));
    wait_end();
}

static inline bool engine_begin(const char* program, Error* err) {
    (void)program, (void)err; // an error may be on this rank only, which reports it
    device_begin();
    join_communicator();
    CUDA_CHECK(cudaStreamCreateWithFlags(&nccl.wire, cudaStreamNonBlocking));
    CUDA_CHECK(cudaEventCreateWithFlags(&nccl.joint, cudaEventDisableTiming));
    CUDA_CHECK(cudaMalloc((void**)&nccl.stage, STAGE_BYTES));
    return true;
}

static inline void engine_end(void) {
    if (!nccl.communicator) { return; }
    NCCL_CHECK(ncclCommDestroy(nccl.communicator));
    CUDA_CHECK(cudaFree(nccl.stage));
    CUDA_CHECK(cudaEventDestroy(nccl.joint));
    CUDA_CHECK(cudaStreamDestroy(nccl.wire));
    nccl = {};
}

// Ranks of two launches may meet at the same place.
static inline uint64_t engine_key(void) { return launch_key(); }

// ---- On the device

static inline void wire_follows(cudaStream_t stream) {
    CUDA_CHECK(cudaEventRecord(nccl.joint, stream));
    CUDA_CHECK(cudaStreamWaitEvent(nccl.wire, nccl.joint, 0));
    nccl.beside = stream;
}

static inline void wire_precedes(cudaStream_t stream) {
    CUDA_CHECK(cudaEventRecord(nccl.joint, nccl.wire));
    CUDA_CHECK(cudaStreamWaitEvent(stream, nccl.joint, 0));
}

// Messages between two ranks keep the order of their lists. The first call has to connect the ranks.
static inline void wire_exchange(const Message* out, int outs, const Message* in, int ins) {
    wait_begin();
    NCCL_CHECK(ncclGroupStart());
    for (int i = 0; i < outs; i++) {
        if (!out[i].bytes) { continue; }
        NCCL_CHECK(ncclSend(out[i].data, out[i].bytes, ncclInt8, ranks.at_place[out[i].place], nccl.communicator, nccl.wire));
    }
    for (int i = 0; i < ins; i++) {
        if (!in[i].bytes) { continue; }
        NCCL_CHECK(ncclRecv(in[i].data, in[i].bytes, ncclInt8, ranks.at_place[in[i].place], nccl.communicator, nccl.wire));
    }
    NCCL_CHECK(ncclGroupEnd());
    wait_end();
}

// Waits for the stream. A rank that is gone shows, if at all, in the errors that NCCL finds meanwhile.
static inline void ranks_wait(cudaStream_t stream) {
    cudaError_t state;
    ncclResult_t found = ncclSuccess;
    double asked = seconds_now();
    if (!nccl.communicator) {
        CUDA_CHECK(cudaStreamSynchronize(stream));
        return;
    }
    wait_begin();
    while ((state = cudaStreamQuery(stream)) == cudaErrorNotReady) {
        usleep(POLL_MICROSECONDS);
        if (seconds_now() - asked < 1) { continue; }
        asked = seconds_now();
        NCCL_CHECK(ncclCommGetAsyncError(nccl.communicator, &found));
        nccl_check(found, "a message");
    }
    wait_end();
    CUDA_CHECK(state);
}

// ---- On the host

static inline size_t stage_place(size_t bytes) { return ceil_div(bytes, (size_t)STAGE_ALIGN) * STAGE_ALIGN; }

// A message to several ranks occurs repeatedly in a row, but is copied to the device only once.
static inline bool is_again(const Message* list, int i) { return i > 0 && list[i].data == list[i - 1].data; }

static inline size_t stage_bytes(const Message* list, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) { bytes += is_again(list, i) ? 0 : stage_place(list[i].bytes); }
    return bytes;
}

// Places the messages from stage on; returns the end.
static inline char* stage_messages(Message* staged, const Message* list, int count, char* stage) {
    for (int i = 0; i < count; i++) {
        bool again = is_again(list, i);
        staged[i] = list[i];
        staged[i].data = again ? staged[i - 1].data : stage;
        stage += again ? 0 : stage_place(list[i].bytes);
    }
    return stage;
}

static inline void stage_copy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    if (bytes) { CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, kind, nccl.wire)); }
}

static inline void exchange(const Message* out, int outs, const Message* in, int ins) {
    size_t bytes = stage_bytes(out, outs) + stage_bytes(in, ins);
    char* stage = nccl.stage;
    Message *out_staged = alloc_array(Message, outs + ins, "messages"), *in_staged = out_staged + outs;
    if (bytes > STAGE_BYTES) { CUDA_CHECK(cudaMalloc((void**)&stage, bytes)); }
    stage_messages(in_staged, in, ins, stage_messages(out_staged, out, outs, stage));
    if (nccl.beside) { wire_follows(nccl.beside); } // all ranks have the same order, also of those in graphs
    for (int i = 0; i < outs; i++) {
        if (!is_again(out, i)) { stage_copy(out_staged[i].data, out[i].data, out[i].bytes, cudaMemcpyHostToDevice); }
    }
    wire_exchange(out_staged, outs, in_staged, ins);
    ranks_wait(nccl.wire);
    for (int i = 0; i < ins; i++) { stage_copy(in[i].data, in_staged[i].data, in[i].bytes, cudaMemcpyDeviceToHost); }
    CUDA_CHECK(cudaStreamSynchronize(nccl.wire));
    if (stage != nccl.stage) { CUDA_CHECK(cudaFree(stage)); }
    free(out_staged);
}
