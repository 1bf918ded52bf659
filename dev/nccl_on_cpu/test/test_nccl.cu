// One of several processes, each with a device, that add up what they have: each gets all others' part of its slice, adds,
// and sends its sum to all. On a stream of its own beside the one that calculates, a few times as it is, then in a graph.
//   RANK=0 SIZE=2 NCCL_COMM_ID=x:1 test_nccl_emu [DEFECT]     with one of the defects of defects.h planted
#include "../../test/test.h"
#include "defects.h"
#include <cuda_runtime.h>
#include <nccl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vector>

enum { N = 200003, BLOCK = 256, STEPS = 6, CAPTURED_FROM = 2 }; // several mailboxes full

static int defect, rank, size;
static bool planted(Defect which) { return defect == which; }
static bool planted_here(Defect which) { return defect == which && rank == size - 1; } // in one process

static void check(bool good, const char* call) {
    if (good) { return; }
    printf("FAILED %s: %s, %s\n", call, cudaGetErrorString(cudaGetLastError()), ncclGetLastError(NULL));
    exit(1);
}
#define CUDA(call) check((call) == cudaSuccess, #call)
#define NCCL(call) check((call) == ncclSuccess, #call)

__global__ void values_kernel(float* out, const int* step, int rank, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) { out[i] = (float)(i % 1000 + 1000 * (rank + 1) + 10000 * *step); }
}
__global__ void next_step_kernel(int* step) { *step += 1; }
__global__ void add_kernel(float* sum, const float* other, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) { sum[i] += other[i]; }
}
__global__ void copy_kernel(float* to, const float* from, int n) {
    int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < n) { to[i] = from[i]; }
}
static int grid(int n) { return (n + BLOCK - 1) / BLOCK; }

static float *values, *received, *result;
static int* step;
static bool capturing;
static cudaStream_t stream, wire;
static cudaEvent_t there, back;
static ncclComm_t communicator;

static int slice(int of) { return (int)((long long)N * of / size); }

static void send(float* data, int count, int peer) {
    static float host[N];
    if (planted_here(past_the_end)) { data = values + N - count + 1; }
    if (planted_here(host_pointer)) { data = host; }
    NCCL(ncclSend(data, count, ncclFloat, peer, communicator, wire));
}
static void receive(float* data, int count, int peer) {
    bool bytes = planted_here(other_type);
    if (planted_here(other_length)) { count--; }
    NCCL(ncclRecv(data, bytes ? count * sizeof(float) : count, bytes ? ncclInt8 : ncclFloat, peer, communicator,
                  planted_here(another_stream) ? stream : wire));
}

static void exchange_parts() {
    int own = slice(rank + 1) - slice(rank);
    NCCL(ncclGroupStart());
    for (int p = 0; p < size; p++) {
        if (p != rank) { send(values + slice(p), slice(p + 1) - slice(p), p); }
    }
    if (planted(send_group_first)) {
        NCCL(ncclGroupEnd());
        NCCL(ncclGroupStart());
    }
    for (int p = 0; p < size; p++) {
        if (p != rank) { receive(received + p * own, own, p); }
    }
    NCCL(ncclGroupEnd());
}

static void exchange_sums() {
    NCCL(ncclGroupStart());
    for (int p = 0; p < size; p++) {
        if (p == rank) { continue; }
        NCCL(ncclSend(values + slice(rank), slice(rank + 1) - slice(rank), ncclFloat, p, communicator, wire));
        NCCL(ncclRecv(values + slice(p), slice(p + 1) - slice(p), ncclFloat, p, communicator, wire));
    }
    NCCL(ncclGroupEnd());
}

static void wait_for(cudaStream_t who, cudaEvent_t event, cudaStream_t for_whom) {
    CUDA(cudaEventRecord(event, for_whom));
    CUDA(cudaStreamWaitEvent(who, event, 0));
}

static void add_parts() {
    int own = slice(rank + 1) - slice(rank);
    cudaStream_t adds = planted(merges_before_receive) ? stream : wire;
    for (int p = 0; p < size; p++) {
        if (p != rank) { add_kernel<<<grid(own), BLOCK, 0, adds>>>(values + slice(rank), received + p * own, own); }
    }
    if (planted(merges_before_receive)) { wait_for(wire, back, stream); }
}

static void run_step() {
    if (!planted_here(sends_unwritten)) {
        values_kernel<<<grid(N), BLOCK, 0, stream>>>(values, step, rank, N);
    }
    next_step_kernel<<<1, 1, 0, stream>>>(step);
    if (!planted(no_event_before_send) || capturing) { wait_for(wire, there, stream); }
    exchange_parts();
    add_parts();
    exchange_sums();
    if (planted(rewritten_too_early)) { CUDA(cudaMemsetAsync(values, 0, N * sizeof(float), stream)); }
    if (!planted(wire_not_joined)) { wait_for(stream, back, wire); }
    copy_kernel<<<grid(N), BLOCK, 0, stream>>>(result, values, N);
}

static cudaGraphExec_t graph_of_step() {
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    capturing = true;
    run_step();
    capturing = false;
    CUDA(cudaStreamEndCapture(stream, &graph));
    CUDA(cudaGraphInstantiate(&executable, graph, 0));
    CUDA(cudaGraphDestroy(graph));
    return executable;
}

static void check_sums(int done) {
    static float* host;
    long long wrong = 0, of_ranks = 1000LL * size * (size + 1) / 2;
    if (!host) { CUDA(cudaMallocHost((void**)&host, N * sizeof(float))); }
    CUDA(cudaMemcpyAsync(host, result, N * sizeof(float), cudaMemcpyDeviceToHost, stream));
    if (!planted(read_too_early)) { CUDA(cudaStreamSynchronize(stream)); }
    for (int i = 0; i < N; i++) {
        float want = (float)(size * (i % 1000) + of_ranks + 10000LL * size * done);
        wrong += !(host[i] == want);
    }
    CHECK(wrong == 0, "step %d: %lld of %d sums are wrong", done, wrong, N);
    CUDA(cudaStreamSynchronize(stream));
}

// As a watchdog does, in a thread of its own
static void* ask_for_errors(void*) {
    for (ncclResult_t error = ncclSuccess;; usleep(1000)) {
        NCCL(ncclCommGetAsyncError(communicator, &error));
        if (error == ncclSuccess) { continue; }
        printf("NCCL reports: %s\n", ncclGetErrorString(error));
        fflush(stdout);
        _exit(1);
    }
    return NULL;
}

static void begin() {
    ncclUniqueId id;
    pthread_t watchdog;
    int devices, multiprocessors;
    CUDA(cudaGetDeviceCount(&devices));
    int device = planted(one_device_for_all) ? 0 : rank % devices;
    CUDA(cudaSetDevice(device));
    CUDA(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount,
                                planted(asks_about_device_0) ? 0 : device));
    if (planted_here(never_comes)) { exit(1); }
    NCCL(ncclGetUniqueId(&id));
    NCCL(ncclCommInitRank(&communicator, size, id, rank));
    if (planted(dies_and_error_is_asked)) {
        pthread_create(&watchdog, NULL, ask_for_errors, NULL);
        usleep(20000);
    }
    CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    CUDA(cudaStreamCreateWithFlags(&wire, cudaStreamNonBlocking));
    CUDA(cudaEventCreateWithFlags(&there, cudaEventDisableTiming));
    CUDA(cudaEventCreateWithFlags(&back, cudaEventDisableTiming));
    CUDA(cudaMalloc((void**)&values, N * sizeof(float)));
    CUDA(cudaMalloc((void**)&received, (size_t)(N + size) * size * sizeof(float)));
    CUDA(cudaMalloc((void**)&result, N * sizeof(float)));
    CUDA(cudaMalloc((void**)&step, sizeof(int)));
    CUDA(cudaMemset(step, 0, sizeof(int)));
    CUDA(cudaDeviceSynchronize());
}

static void end() {
    NCCL(ncclCommDestroy(communicator));
    for (void* p : {(void*)values, (void*)received, (void*)result, (void*)step}) { CUDA(cudaFree(p)); }
    for (cudaEvent_t event : {there, back}) { CUDA(cudaEventDestroy(event)); }
    for (cudaStream_t s : {stream, wire}) { CUDA(cudaStreamDestroy(s)); }
}

int main(int argc, char** argv) {
    static const char* const names[] = {
#define DEFECT(name, ...) #name,
        DEFECTS(DEFECT)
#undef DEFECT
    };
    int count = sizeof names / sizeof *names;
    while (argc > 1 && defect < count && strcmp(names[defect], argv[1])) { defect++; }
    if (defect == count || !getenv("RANK") || !getenv("SIZE")) { return 2; }
    rank = atoi(getenv("RANK"));
    size = atoi(getenv("SIZE"));
    begin();
    cudaGraphExec_t graph = NULL;
    for (int done = 0; done < STEPS; done++) {
        if (done == 1 && (planted_here(dies) || planted_here(dies_and_error_is_asked))) { _exit(1); }
        if (done == 1 && planted_here(stops)) { raise(SIGSTOP); }
        if (done == STEPS - 1 && planted_here(skips_exchange)) { continue; }
        if (done < CAPTURED_FROM || planted_here(graph_on_one)) {
            run_step();
        } else {
            if (!graph) { graph = graph_of_step(); }
            CUDA(cudaGraphLaunch(graph, stream));
        }
        check_sums(done);
    }
    if (graph) { CUDA(cudaGraphExecDestroy(graph)); }
    end();
    return tests_finish();
}
