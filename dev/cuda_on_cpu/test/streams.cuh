// Two streams that an event orders, a graph captured across both, and one whose launches differ by what they read.
#pragma once
#include "support.cuh"

__global__ void scale_kernel(float* out, const float* inp, float factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { out[i] = inp[i] * factor; }
}

struct TwoStreams {
    cudaStream_t first, second;
    cudaEvent_t event;
    TwoStreams() {
        CUDA_CHECK(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking));
        CUDA_CHECK(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking));
        CUDA_CHECK(cudaEventCreate(&event));
    }
    ~TwoStreams() {
        CUDA_CHECK(cudaEventDestroy(event));
        CUDA_CHECK(cudaStreamDestroy(first));
        CUDA_CHECK(cudaStreamDestroy(second));
    }
    void second_waits_for_first() {
        CUDA_CHECK(cudaEventRecord(event, first));
        CUDA_CHECK(cudaStreamWaitEvent(second, event, 0));
    }
    void first_waits_for_second() {
        CUDA_CHECK(cudaEventRecord(event, second));
        CUDA_CHECK(cudaStreamWaitEvent(first, event, 0));
    }
};

static void test_streams() {
    int n = 1000, grid = CEIL_DIV(n, 256);
    TwoStreams s;
    float *source, *result;
    CUDA_CHECK(cudaMallocHost((void**)&source, n * sizeof(float)));
    CUDA_CHECK(cudaMallocHost((void**)&result, n * sizeof(float)));
    auto values = random_values<float>(n);
    std::vector<double> want(n);
    for (int i = 0; i < n; i++) {
        source[i] = values[i];
        result[i] = 0.0f;
        want[i] = values[i] * 6.0;
    }
    Device<float> a(n), b(n), c(n);
    CUDA_CHECK(cudaMemcpyAsync(a.data, source, n * sizeof(float), cudaMemcpyHostToDevice, s.first));
    scale_kernel<<<grid, 256, 0, s.first>>>(b.data, a.data, 2.0f, n);
    if (!PLANTED_HOST(no_wait_between_streams)) { s.second_waits_for_first(); }
    scale_kernel<<<grid, 256, 0, s.second>>>(c.data, b.data, 3.0f, n);
    CUDA_CHECK(cudaMemcpyAsync(result, c.data, n * sizeof(float), cudaMemcpyDeviceToHost, s.second));
    if (!PLANTED_HOST(no_sync_before_read)) { CUDA_CHECK(cudaStreamSynchronize(s.second)); }
    check_output("two streams and an event", std::vector<float>(result, result + n), want, 1e-7);
    CUDA_CHECK(cudaDeviceSynchronize());
    CUDA_CHECK(cudaFreeHost(source));
    CUDA_CHECK(cudaFreeHost(result));
}

// A stream apart from the default one has to be made to wait for it.
static void test_default_stream() {
    int n = 1000;
    TwoStreams s;
    Device<float> zeros(n), out(n);
    zeros.zero();
    if (!PLANTED_HOST(default_stream_not_waited)) { CUDA_CHECK(cudaDeviceSynchronize()); }
    scale_kernel<<<CEIL_DIV(n, 256), 256, 0, s.first>>>(out.data, zeros.data, 2.0f, n);
    CUDA_CHECK(cudaStreamSynchronize(s.first));
    check_output("zeros of the default stream", out, std::vector<double>(n), 1e-7);
}

static void test_pinned_pages() {
    const size_t page = 4096;
    char* memory = (char*)aligned_alloc(page, 2 * page);
    size_t second = PLANTED_HOST(pinned_page_shared) ? 64 : page;
    CUDA_CHECK(cudaHostRegister(memory, 64, cudaHostRegisterDefault));
    CUDA_CHECK(cudaHostRegister(memory + second, page, cudaHostRegisterDefault));
    CUDA_CHECK(cudaHostUnregister(memory));
    CUDA_CHECK(cudaHostUnregister(memory + second));
    free(memory);
}

static void test_graph() {
    int n = 1000, grid = CEIL_DIV(n, 256), launches = 3;
    TwoStreams s;
    auto values = random_values<float>(n);
    std::vector<double> want(n);
    for (int i = 0; i < n; i++) { want[i] = values[i] / 8.0; }
    Device<float> a(values), b(n);
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA_CHECK(cudaStreamBeginCapture(s.first, cudaStreamCaptureModeGlobal));
    scale_kernel<<<grid, 256, 0, s.first>>>(b.data, a.data, 2.0f, n);
    s.second_waits_for_first();
    scale_kernel<<<grid, 256, 0, s.second>>>(a.data, b.data, 0.25f, n);
    if (!PLANTED_HOST(capture_not_joined)) { s.first_waits_for_second(); }
    CUDA_CHECK(cudaStreamEndCapture(s.first, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    for (int i = 0; i < launches; i++) { CUDA_CHECK(cudaGraphLaunch(executable, s.first)); }
    if (!PLANTED_HOST(second_stream_not_joined)) { s.second_waits_for_first(); }
    scale_kernel<<<grid, 256, 0, s.second>>>(b.data, a.data, 1.0f, n);
    CUDA_CHECK(cudaStreamSynchronize(s.second));
    check_output("a graph, launched three times", b, want, 0.0);
    CUDA_CHECK(cudaGraphExecDestroy(executable));
    CUDA_CHECK(cudaGraphDestroy(graph));
}

// out += factor inp
__global__ void add_scaled_kernel(float* out, const float* inp, const float* factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { out[i] += *factor * inp[i]; }
}

static void plant_in_capture(cudaStream_t stream, float* device, float* pageable) {
    if (PLANTED_HOST(sync_in_capture)) { CUDA_CHECK(cudaStreamSynchronize(stream)); }
    if (PLANTED_HOST(device_sync_in_capture)) { CUDA_CHECK(cudaDeviceSynchronize()); }
    if (PLANTED_HOST(allocation_in_capture)) { Device<float> made(1); }
    if (PLANTED_HOST(default_stream_in_capture)) { CUDA_CHECK(cudaMemsetAsync(device, 0, sizeof(float), 0)); }
    if (PLANTED_HOST(pageable_in_capture)) {
        CUDA_CHECK(cudaMemcpyAsync(device, pageable, sizeof(float), cudaMemcpyHostToDevice, stream));
    }
}

// The graph copies its factor from pinned memory, which the host writes anew for each launch.
static void test_graph_parameter() {
    int n = 1000, grid = CEIL_DIV(n, 256);
    cudaStream_t stream;
    float *factor, pageable = 1;
    CUDA_CHECK(cudaStreamCreate(&stream)); // one that the default stream waits for
    CUDA_CHECK(cudaMallocHost((void**)&factor, sizeof(float)));
    auto values = random_values<float>(n);
    std::vector<double> want(n);
    for (int i = 0; i < n; i++) { want[i] = (1.0 + 2.0 + 4.0) * values[i]; }
    Device<float> inp(values), out(n), device_factor(1);
    out.zero();
    CUDA_CHECK(cudaDeviceSynchronize());
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    CUDA_CHECK(cudaMemcpyAsync(device_factor.data, factor, sizeof(float), cudaMemcpyHostToDevice, stream));
    plant_in_capture(stream, device_factor.data, &pageable);
    add_scaled_kernel<<<grid, 256, 0, stream>>>(out.data, inp.data, device_factor.data, n);
    CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    for (float value : {1.0f, 2.0f, 4.0f}) {
        *factor = value;
        CUDA_CHECK(cudaGraphLaunch(executable, stream));
        if (!PLANTED_HOST(pinned_written_too_early)) { CUDA_CHECK(cudaStreamSynchronize(stream)); }
    }
    check_output("a graph with a parameter", out, want, 1e-6);
    CUDA_CHECK(cudaGraphExecDestroy(executable));
    CUDA_CHECK(cudaFreeHost(factor));
    CUDA_CHECK(cudaStreamDestroy(stream));
}
