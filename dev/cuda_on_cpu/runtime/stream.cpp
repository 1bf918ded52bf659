// Streams, events and graphs: a graph of operations, each with its predecessors. They run when they are enqueued, or
// under EMU_LATE=1 only when something waits for them: if an event or a synchronisation is missing, poison is read.
#include "internal.h"
#include <algorithm>
#include <pthread.h>
#include <time.h>
#include <unordered_map>
#include <unordered_set>
#include <vector>

struct Operation {
    std::function<void()> work;
    std::vector<std::shared_ptr<Operation>> after;
    bool done = false;
};
typedef std::shared_ptr<Operation> OperationPtr;

// The toolkit's headers declare these types without contents.
struct CUgraph_st {
    std::vector<OperationPtr> operations; // in the order of their capture, in which they can run
    cudaStream_t origin = nullptr;        // where the capture began
    bool relaxed = false;                 // calls outside streams are allowed meanwhile
};
struct CUgraphExec_st {
    std::vector<OperationPtr> operations;
};
struct CUstream_st {
    OperationPtr last;
    CUgraph_st* capture = nullptr;
    bool non_blocking = false; // does not wait for the default stream, nor it for this one
};
struct CUevent_st {
    OperationPtr operation;
    CUgraph_st* capture = nullptr;
    std::shared_ptr<double> seconds = std::make_shared<double>(0.0);
};

namespace emu {

static CUstream_st default_stream;
static std::vector<CUstream_st*> streams;
static std::vector<OperationPtr> pending; // in the order in which they were enqueued

// nullptr, cudaStreamLegacy and cudaStreamPerThread are the same default stream here.
static CUstream_st* stream_of(cudaStream_t stream) { return (uintptr_t)stream <= 2 ? &default_stream : stream; }

static bool cuda_thread_known;
static pthread_t cuda_thread; // the first to make a CUDA call

void require_one_host_thread() {
    if (!cuda_thread_known) {
        cuda_thread = pthread_self();
        cuda_thread_known = true;
    }
    if (!on_cuda_thread()) { fail("CUDA calls from two host threads are not emulated"); }
}

bool on_cuda_thread() { return cuda_thread_known && pthread_equal(cuda_thread, pthread_self()); }

static void run(Operation& operation) {
    operation.work();
    operation.done = true;
    operation.work = nullptr;
    operation.after.clear();
}

static bool can_run(const OperationPtr& operation) {
    for (auto& before : operation->after) {
        if (!before->done) { return false; }
    }
    return true;
}

// Runs `todo` in an order that its dependencies allow: always the first that can run, or a random one of these.
static void run_all(std::vector<OperationPtr> todo) {
    while (!todo.empty()) {
        std::vector<size_t> candidates;
        for (size_t i = 0; i < todo.size() && (random_order() || candidates.empty()); i++) {
            if (can_run(todo[i])) { candidates.push_back(i); }
        }
        size_t next = candidates[random_order() ? random_number() % candidates.size() : 0];
        OperationPtr operation = todo[next];
        todo.erase(todo.begin() + next);
        run(*operation);
    }
}

// All direct and indirect predecessors of `target`, and itself, that have not run
static std::unordered_set<const Operation*> needed_by(const OperationPtr& target) {
    std::vector<OperationPtr> visit{target};
    std::unordered_set<const Operation*> needed;
    while (!visit.empty()) {
        OperationPtr operation = visit.back();
        visit.pop_back();
        if (operation->done || !needed.insert(operation.get()).second) { continue; }
        visit.insert(visit.end(), operation->after.begin(), operation->after.end());
    }
    return needed;
}

// Runs `target` and what it needs, nothing else.
static void finish(const OperationPtr& target) {
    std::unordered_set<const Operation*> needed = needed_by(target);
    std::vector<OperationPtr> todo, rest;
    for (auto& operation : pending) { (needed.count(operation.get()) ? todo : rest).push_back(operation); }
    pending = rest;
    run_all(todo);
}

void refuse_in_capture(const char* what, bool even_if_relaxed) {
    for (CUstream_st* stream : streams) {
        if (stream->capture && (even_if_relaxed || !stream->capture->relaxed)) {
            fail("%s during the capture of a graph", what);
        }
    }
}

void finish_everything() {
    require_one_host_thread();
    refuse_in_capture("synchronisation", true);
    std::vector<OperationPtr> todo;
    todo.swap(pending);
    run_all(todo);
}

bool is_capturing(cudaStream_t stream) { return stream_of(stream)->capture; }

void finish_stream(cudaStream_t stream) {
    require_one_host_thread();
    if (is_capturing(stream)) { fail("synchronisation during the capture of a graph, with its stream"); }
    OperationPtr last = stream_of(stream)->last;
    if (last && !last->done) { finish(last); }
}

// The predecessors of a stream's next operation. The default stream waits for the blocking ones, and they for it.
static std::vector<OperationPtr> predecessors(CUstream_st* stream) {
    std::vector<OperationPtr> after;
    if (stream->last) { after.push_back(stream->last); }
    if (stream->capture) { return after; }
    if (stream == &default_stream) {
        for (CUstream_st* other : streams) {
            if (other->non_blocking) { continue; }
            if (other->capture) { fail("the default stream is used while a stream that waits for it is captured"); }
            if (other->last) { after.push_back(other->last); }
        }
    } else if (!stream->non_blocking && default_stream.last) {
        after.push_back(default_stream.last);
    }
    return after;
}

static void start(const OperationPtr& operation) {
    if (settings.late) {
        pending.push_back(operation);
    } else {
        run(*operation);
    }
}

static void enqueue_after(CUstream_st* stream, std::function<void()> work, const OperationPtr& also_after) {
    require_one_host_thread();
    auto operation = std::make_shared<Operation>();
    operation->work = work;
    operation->after = predecessors(stream);
    if (also_after) { operation->after.push_back(also_after); }
    stream->last = operation;
    if (stream->capture) {
        stream->capture->operations.push_back(operation);
    } else {
        start(operation);
    }
}

void enqueue(cudaStream_t stream, std::function<void()> work) { enqueue_after(stream_of(stream), work, nullptr); }

// A launch of a graph: copies of its operations with the dependencies among them; the first ones come after the
// stream's previous work, and the stream's next work comes after all of them.
static void launch_graph(const std::vector<OperationPtr>& operations, CUstream_st* stream) {
    if (stream->capture) { fail("the launch of a graph into the capture of another is not emulated"); }
    if (settings.trace) { fprintf(stderr, "EMU GRAPH of %zu operations\n", operations.size()); }
    std::unordered_map<Operation*, OperationPtr> copies;
    auto end = std::make_shared<Operation>();
    end->work = [] {};
    end->after = predecessors(stream);
    std::vector<OperationPtr> begin = end->after;
    for (auto& original : operations) {
        auto copy = std::make_shared<Operation>();
        copy->work = original->work;
        for (auto& before : original->after) { copy->after.push_back(copies.at(before.get())); }
        if (copy->after.empty()) { copy->after = begin; }
        copies[original.get()] = copy;
        end->after.push_back(copy);
        start(copy);
    }
    start(end);
    stream->last = end;
}

// A query finds late work unfinished once, and then finished, so that a polling loop ends.
static cudaError_t query(const OperationPtr& operation, bool captured) {
    require_one_host_thread();
    if (captured) { fail("a query during the capture of a graph, of what is captured"); }
    if (!operation || operation->done) { return cudaSuccess; }
    finish(operation);
    return cudaErrorNotReady;
}

// The origin of a capture must have waited, directly or not, for all streams drawn into it.
static void check_joined(const CUgraph_st* graph) {
    std::unordered_set<const Operation*> joined;
    if (graph->origin->last) { joined = needed_by(graph->origin->last); }
    for (CUstream_st* s : streams) {
        if (s->capture == graph && s->last && !joined.count(s->last.get())) {
            fail("the capture ends before a stream that it has drawn in was joined again");
        }
    }
}

static double passed; // seconds that passed only on the clock of events

void pass_seconds(double seconds) { passed += seconds; }

static double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec + passed;
}

}

using namespace emu;

extern "C" {

cudaError_t cudaDeviceSynchronize() {
    finish_everything();
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    finish_stream(stream);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return query(stream_of(stream)->last, is_capturing(stream)); }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    *stream = new CUstream_st;
    (*stream)->non_blocking = flags & cudaStreamNonBlocking;
    streams.push_back(*stream);
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
    return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* lowest, int* highest) {
    *lowest = 0;
    *highest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    finish_stream(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
    *event = new CUevent_st;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    auto seconds = event->seconds; // shared: the event may be destroyed before its operation runs
    enqueue(stream, [seconds] { *seconds = now(); });
    event->capture = stream_of(stream)->capture;
    event->operation = stream_of(stream)->last;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->capture) { fail("synchronisation with an event that was recorded in the capture of a graph"); }
    if (event->operation && !event->operation->done) { finish(event->operation); }
    return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return query(event->operation, event->capture); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t first, cudaEvent_t second) {
    for (cudaEvent_t event : {first, second}) {
        if (!event->operation) { return remember_error(cudaErrorInvalidResourceHandle); }
        if (!event->operation->done) { return remember_error(cudaErrorNotReady); }
    }
    *milliseconds = (float)((*second->seconds - *first->seconds) * 1e3);
    return cudaSuccess;
}

// Waiting for an event of a stream under capture draws the waiting stream into the capture.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
    CUstream_st* s = stream_of(stream);
    if (!event->operation) { return cudaSuccess; } // never recorded
    if (s->capture && event->capture != s->capture) { fail("a captured stream waits for work outside of its graph"); }
    if (event->capture && !s->capture) {
        s->capture = event->capture;
        s->last = nullptr;
    }
    enqueue_after(s, [] {}, event->operation);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
    CUstream_st* s = stream_of(stream);
    if (!settings.graphs) { return remember_error(cudaErrorNotSupported); }
    if (s == &default_stream || s->capture) { return remember_error(cudaErrorStreamCaptureUnsupported); }
    finish_stream(stream); // else pending work would have to be kept beside the capture
    s->capture = new CUgraph_st;
    s->capture->origin = stream;
    s->capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
    s->last = nullptr;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
    *graph = stream_of(stream)->capture;
    if (!*graph) { return remember_error(cudaErrorIllegalState); }
    if ((*graph)->origin != stream) { fail("a capture ends on another stream than it began on"); }
    check_joined(*graph);
    for (CUstream_st* s : streams) {
        if (s->capture != *graph) { continue; }
        s->capture = nullptr;
        s->last = nullptr;
    }
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
    *status = is_capturing(stream) ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
    *executable = new CUgraphExec_st{graph->operations};
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
    require_one_host_thread();
    launch_graph(executable->operations, stream_of(stream));
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
    delete executable;
    return cudaSuccess;
}

}
