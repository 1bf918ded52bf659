// What EMU_RECORD has to write down, for test_record.sh: kernels whose bytes can be told by looking at them.
#include <cublasLt.h>

enum { N = 1000, THREADS = 128 };

// Reads 4 (N + 3) bytes, four times over, and writes 2 N
__global__ void windows(short* out, const float* inp) {
    __shared__ float first; // not of the device's memory
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 0) { first = inp[0]; }
    __syncthreads();
    float sum = first;
    for (int k = 0; k < 4 && i < N; k++) { sum += inp[i + k]; }
    if (i < N) { out[i] = (short)sum; }
}

// Reads and writes 4
__global__ void count(int* total) { atomicAdd(total, 1); }

static void product(float* d, const float* a, const float* b) { // (3, 5) = (3, 7) (7, 5), added to d
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t description;
    cublasLtMatrixLayout_t layout_a, layout_b, layout_d;
    float one = 1;
    cublasLtCreate(&handle);
    cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&layout_a, CUDA_R_32F, 3, 7, 3);
    cublasLtMatrixLayoutCreate(&layout_b, CUDA_R_32F, 7, 5, 7);
    cublasLtMatrixLayoutCreate(&layout_d, CUDA_R_32F, 3, 5, 3);
    cublasLtMatmul(handle, description, &one, a, layout_a, b, layout_b, &one, d, layout_d, d, layout_d, nullptr, nullptr,
                   0, nullptr);
    for (cublasLtMatrixLayout_t layout : {layout_a, layout_b, layout_d}) { cublasLtMatrixLayoutDestroy(layout); }
    cublasLtMatmulDescDestroy(description);
    cublasLtDestroy(handle);
}

int main(int argc, char** argv) {
    char *memory, *more;
    size_t size = (size_t)1 << (argc > 1 ? atoi(argv[1]) : 20); // bytes
    cudaMalloc(&memory, size);
    cudaMalloc(&more, size);
    cudaMemset(memory, 0, N * 8);
    windows<<<(N + THREADS - 1) / THREADS, THREADS>>>((short*)more, (const float*)memory);
    emu_note("half of %d", 2);
    count<<<2, THREADS>>>((int*)memory);
    cudaMemcpy(more, memory, 84, cudaMemcpyDeviceToDevice);
    product((float*)memory, (float*)memory + 100, (float*)memory + 200);
    cudaFree(memory);
    cudaFree(more);
    return 0;
}
