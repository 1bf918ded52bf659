// Host templates that cuda_runtime.h declares only for nvcc.
#pragma once


template <class Kernel> cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute attribute, int value) {
    return ::cudaFuncSetAttribute((const void*)kernel, attribute, value);
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel* kernel, int threads, size_t shared) {
    return ::cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, (const void*)kernel, threads, shared);
}

// __device__ and __constant__ variables are plain variables here.
template <class T> cudaError_t cudaMemcpyToSymbol(T& symbol, const void* source, size_t size, size_t offset = 0,
                                                  cudaMemcpyKind = cudaMemcpyHostToDevice) {
    cudaDeviceSynchronize();
    if (offset + size > sizeof(T)) { return cudaErrorInvalidValue; }
    memcpy((char*)&symbol + offset, source, size);
    return cudaSuccess;
}
template <class T> cudaError_t cudaMemcpyFromSymbol(void* target, const T& symbol, size_t size, size_t offset = 0,
                                                    cudaMemcpyKind = cudaMemcpyDeviceToHost) {
    cudaDeviceSynchronize();
    if (offset + size > sizeof(T)) { return cudaErrorInvalidValue; }
    memcpy(target, (const char*)&symbol + offset, size);
    return cudaSuccess;
}
template <class T> cudaError_t cudaGetSymbolAddress(void** address, const T& symbol) {
    *address = (void*)&symbol;
    return cudaSuccess;
}
