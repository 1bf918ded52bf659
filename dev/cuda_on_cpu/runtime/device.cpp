// The emulated device: compute capability 9.0 with the limits of an H100 and, by default, few multiprocessors. Of
// several identical devices, a process uses one, and queries no other.
#include "internal.h"
#include <stdlib.h>
#include <string.h>

static const int THREADS_PER_MULTIPROCESSOR = 2048;

static int current_device;

static cudaError_t check_device(int device) {
    if (device < 0 || device >= emu::settings.devices) { return emu::remember_error(cudaErrorInvalidDevice); }
    if (device != current_device) { emu::fail("device %d is asked about, and device %d is used", device, current_device); }
    return cudaSuccess;
}

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
    *count = emu::settings.devices;
    return *count ? cudaSuccess : emu::remember_error(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= emu::settings.devices) { return emu::remember_error(cudaErrorInvalidDevice); }
    if (device != current_device && emu::bytes_allocated()) { emu::fail("one process on two devices is not emulated"); }
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = current_device;
    return cudaSuccess;
}
cudaError_t cudaDeviceReset() { return cudaSuccess; }
cudaError_t cudaDeviceSetLimit(cudaLimit, size_t) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
    if (check_device(device) != cudaSuccess) { return cudaErrorInvalidDevice; }
    memset((void*)p, 0, sizeof *p);
    strcpy(p->name, "CPU emulation");
    p->major = 9;
    p->minor = 0;
    p->multiProcessorCount = emu::settings.multiprocessors;
    p->maxThreadsPerMultiProcessor = THREADS_PER_MULTIPROCESSOR;
    p->maxThreadsPerBlock = emu::MAX_THREADS;
    p->warpSize = warpSize;
    p->regsPerBlock = 65536;
    p->sharedMemPerBlock = emu::SHARED_DEFAULT;
    p->sharedMemPerBlockOptin = emu::settings.shared;
    p->sharedMemPerMultiprocessor = 228 << 10;
    p->totalGlobalMem = (size_t)80 << 30;
    p->l2CacheSize = 50 << 20;
    p->asyncEngineCount = 2;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    if (check_device(device) != cudaSuccess) { return cudaErrorInvalidDevice; }
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = emu::settings.multiprocessors; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = emu::MAX_THREADS; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = THREADS_PER_MULTIPROCESSOR; break;
    case cudaDevAttrWarpSize: *value = warpSize; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = emu::SHARED_DEFAULT; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)emu::settings.shared; break;
    default: emu::fail("cudaDeviceGetAttribute: attribute %d is not emulated", (int)attribute);
    }
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) { return cudaSuccess; }
    return emu::remember_error(emu::allow_dynamic_shared(kernel, value));
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t) {
    *blocks = threads > 0 ? THREADS_PER_MULTIPROCESSOR / threads : 0;
    return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorNotReady: return "device not ready";
    case cudaErrorHostMemoryAlreadyRegistered: return "part or all of the requested memory range is already mapped";
    case cudaErrorInvalidResourceHandle: return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorNotSupported: return "operation not supported";
    case cudaErrorIllegalState: return "the operation cannot be performed in the present state";
    default: return "an error that the emulation does not name";
    }
}

const char* cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice: return "cudaErrorInvalidDevice";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorNotReady: return "cudaErrorNotReady";
    case cudaErrorHostMemoryAlreadyRegistered: return "cudaErrorHostMemoryAlreadyRegistered";
    case cudaErrorInvalidResourceHandle: return "cudaErrorInvalidResourceHandle";
    case cudaErrorStreamCaptureUnsupported: return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorNotSupported: return "cudaErrorNotSupported";
    case cudaErrorIllegalState: return "cudaErrorIllegalState";
    default: return "cudaErrorUnknown";
    }
}

}
