// A part of a step that repeats unchanged: captured into a CUDA graph, and then launched as a whole. What differs from
// step to step is in memory that the part reads; what a launch cannot change is in the graph's key.
#pragma once
#include "../kernels/cuda_common.cuh"
#include <stdio.h>
#include <utility>

typedef struct StepKey {
    int B;       // images of the batch
    float dloss;
    bool drops;  // whether branches are dropped
    bool gathers, departs; // it gets parameters from other ranks; sends gradients to their owners
    bool operator==(const StepKey&) const = default;
} StepKey;

typedef struct {
    StepKey key;
    bool called;          // once, as it is
    cudaGraphExec_t exec; // NULL: not captured
} StepGraph;

static inline void forget_graph(StepGraph* graph) {
    if (graph->exec) { CUDA_CHECK(cudaGraphExecDestroy(graph->exec)); }
    *graph = {};
}

// Tries the last used first: if a short batch ends an epoch, neither it nor the next batch is captured again.
template <int N> static StepGraph* graph_for(StepGraph (&graphs)[N], StepKey key) {
    int i = 0;
    while (i < N - 1 && !(graphs[i].key == key)) { i++; }
    if (!(graphs[i].key == key)) {
        forget_graph(&graphs[i]);
        graphs[i].key = key;
    }
    for (; i > 0; i--) { std::swap(graphs[i], graphs[i - 1]); }
    return graphs;
}

// Whether part() could be captured
template <class Part> static bool capture(StepGraph* graph, cudaStream_t stream, Part part) {
    cudaGraph_t captured = NULL;
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (error == cudaSuccess) {
        capturing = true;
        part();
        capturing = false;
        error = cudaStreamEndCapture(stream, &captured);
    }
    if (error == cudaSuccess) { error = cudaGraphInstantiate(&graph->exec, captured, 0); }
    if (captured) { CUDA_CHECK(cudaGraphDestroy(captured)); }
    if (error == cudaSuccess) { return true; }
    cudaGetLastError();
    printf("graph      steps are not captured: %s\n", cudaGetErrorString(error));
    return false;
}

// part() itself the first time, when libraries and kernels are loaded and products planned; then its graph, as long as
// *graphs is true. It becomes false if part() cannot be captured.
template <class Part> static void repeat(StepGraph* graph, bool* graphs, cudaStream_t stream, Part part) {
    bool first = !graph->called;
    graph->called = true;
    if (!first && *graphs && !graph->exec) { *graphs = capture(graph, stream, part); }
    if (!first && *graphs) {
        CUDA_CHECK(cudaGraphLaunch(graph->exec, stream));
    } else {
        part();
    }
}
