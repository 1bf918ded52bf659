// The smallest program that uses a GPU: prints "NAME|9.0" (its compute capability), and fails where a kernel does not run.
// For scripts/gpu_check.sh: whether there is a GPU, and whether compute-sanitizer and ncu can look at it.
#include <cstdio>

__global__ void probe_kernel(int* x) { *x = 42; }

int main() {
    int *x, got = 0;
    cudaDeviceProp device;
    cudaError_t error = cudaGetDeviceProperties(&device, 0);
    if (error == cudaSuccess) { error = cudaMalloc(&x, sizeof *x); }
    if (error == cudaSuccess) {
        probe_kernel<<<1, 1>>>(x);
        error = cudaMemcpy(&got, x, sizeof got, cudaMemcpyDeviceToHost);
    }
    if (error != cudaSuccess || got != 42) {
        printf("no kernel runs: %s\n", cudaGetErrorString(error));
        return 1;
    }
    printf("%s|%d.%d\n", device.name, device.major, device.minor);
    return 0;
}
