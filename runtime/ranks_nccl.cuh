// Messages between ranks by NCCL, from GPU to GPU: those of a list are a group, and groups follow each other on a stream of
// their own, the wire. Of the library's own sums none is used. What lies on the host goes by way of the device, and the host
// waits for it. To be included by exchange.h.
//
//     wire_follows(stream);                   // what the wire gets from here on waits for what the stream has
//     wire_exchange(out, outs, in, ins);      // data on the device, as what else is launched on nccl.wire
//     wire_precedes(stream);                  // what the stream gets from here on waits for the wire
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
    char* stage;             // (STAGE_BYTES) on the device, where messages of the host fit
} nccl;

static inline void nccl_check(ncclResult_t result, const char* call) {
    if (result == ncclSuccess) { return; }
    fail(EXIT_RUN_TIME, "NCCL reports in %s: %s (%s)", call, ncclGetErrorString(result),
         ncclGetLastError(nccl.communicator));
}
#define NCCL_CHECK(call) nccl_check((call), #call)

// "NCCL 2.28.9", say
static inline const char* engine_name(void) {
    static char text[32];
    int version = 0;
    NCCL_CHECK(ncclGetVersion(&version));
    snprintf(text, sizeof text, "NCCL %d.%d.%d", version / 10000, version / 100 % 100, version % 100);
    return text;
}

// NCCL finds its way by NCCL_COMM_ID: rank 0 listens there, and all derive the same id from it.
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
    (void)program, (void)err; // what is wrong may be so on this rank alone, which says it
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

// Ranks of two launches may meet at one place.
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

// Those between two ranks come in the order of their lists. The first has to connect them.
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

// Until the stream has come to its end. A rank that is gone shows in what NCCL finds meanwhile, if at all.
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

// One that several ranks get stands in a row, and is brought to the device but once.
static inline bool is_again(const Message* list, int i) { return i > 0 && list[i].data == list[i - 1].data; }

static inline size_t stage_bytes(const Message* list, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) { bytes += is_again(list, i) ? 0 : stage_place(list[i].bytes); }
    return bytes;
}

// The messages with their places from stage on; returns what is behind them.
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
    if (nccl.beside) { wire_follows(nccl.beside); } // messages come in one order on all ranks, those of graphs too
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
