// Device and pinned memory, copies and memsets. Device memory is host memory, starts as NaN (all bytes 0xff), and every
// allocation is a malloc, so that AddressSanitizer puts red zones around it.
#include "internal.h"
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vector>

namespace emu {

static std::map<uintptr_t, Allocation> allocations;
static std::map<uintptr_t, size_t> pinned;
static cudaError_t last_error = cudaSuccess;

cudaError_t remember_error(cudaError_t error) {
    if (error != cudaSuccess) { last_error = error; }
    return error;
}

Allocation* find_allocation(const void* p) {
    auto after = allocations.upper_bound((uintptr_t)p);
    if (after == allocations.begin()) { return nullptr; }
    Allocation& a = std::prev(after)->second;
    return (uintptr_t)p - a.base < a.size ? &a : nullptr;
}

size_t bytes_allocated() {
    size_t total = 0;
    for (auto& entry : allocations) { total += entry.second.size; }
    return total;
}

bool is_pinned(const void* p) {
    auto after = pinned.upper_bound((uintptr_t)p);
    if (after == pinned.begin()) { return false; }
    auto block = std::prev(after);
    return (uintptr_t)p - block->first < block->second;
}

void check_range(const void* p, size_t size, const char* what, Direction direction) {
    if (!size) { return; }
    Allocation* a = find_allocation(p);
    if (!a || (uintptr_t)p + size > a->base + a->size) {
        fail("%s: %zu bytes at %p are not inside one device allocation", what, size, p);
    }
    race_range(p, size, direction);
}

// If nothing runs, addresses that must not be accessed
static void* device_memory(size_t size) {
    void* p = nullptr;
    if (settings.dry) {
        p = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return p == MAP_FAILED ? nullptr : p;
    }
    if (posix_memalign(&p, 256, size)) { return nullptr; }
    return memset(p, 0xff, size);
}

static void release_device_memory(void* p, size_t size) {
    if (settings.dry) {
        munmap(p, size ? size : 1);
    } else {
        free(p);
    }
}

static void check_host(const void* p, const char* what) {
    if (find_allocation(p)) { fail("%s is device memory, the copy's kind says host", what); }
}

static void copy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice ||
                     (kind == cudaMemcpyDefault && find_allocation(to));
    bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice ||
                       (kind == cudaMemcpyDefault && find_allocation(from));
    if (from_device) {
        check_range(from, size, "cudaMemcpy source", Direction::read);
    } else {
        check_host(from, "cudaMemcpy source");
    }
    if (to_device) {
        check_range(to, size, "cudaMemcpy destination", Direction::write);
    } else {
        check_host(to, "cudaMemcpy destination");
    }
    record_copy(size);
    if (!settings.skips) { memmove(to, from, size); }
}

}

using namespace emu;

extern "C" {

cudaError_t cudaMalloc(void** p, size_t size) {
    require_one_host_thread();
    refuse_in_capture("cudaMalloc");
    *p = device_memory(size ? size : 1);
    if (!*p) { return remember_error(cudaErrorMemoryAllocation); }
    Allocation& a = allocations[(uintptr_t)*p] = {(uintptr_t)*p, size, nullptr};
    race_allocated(&a);
    return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
    if (!p) { return cudaSuccess; }
    finish_everything();
    auto found = allocations.find((uintptr_t)p);
    if (found == allocations.end()) { fail("cudaFree of something that cudaMalloc did not return, or twice"); }
    race_freed(&found->second);
    release_device_memory(p, found->second.size);
    allocations.erase(found);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void** p, size_t size) {
    refuse_in_capture("cudaMallocHost");
    if (posix_memalign(p, 256, size ? size : 1)) { return remember_error(cudaErrorMemoryAllocation); }
    memset(*p, 0xff, size);
    pinned[(uintptr_t)*p] = size;
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** p, size_t size, unsigned) { return cudaMallocHost(p, size); }

// Whole pages are pinned: a block that shares one with another registered block is refused.
cudaError_t cudaHostRegister(void* p, size_t size, unsigned) {
    const uintptr_t PAGE = 4096;
    refuse_in_capture("cudaHostRegister");
    uintptr_t first = (uintptr_t)p / PAGE, last = ((uintptr_t)p + size - 1) / PAGE;
    for (auto& block : pinned) {
        if (block.first / PAGE <= last && (block.first + block.second - 1) / PAGE >= first) {
            return remember_error(cudaErrorHostMemoryAlreadyRegistered);
        }
    }
    pinned[(uintptr_t)p] = size;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void* p) {
    finish_everything();
    if (!pinned.erase((uintptr_t)p)) { fail("cudaHostUnregister of something that is not registered"); }
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
    if (!p) { return cudaSuccess; }
    finish_everything();
    if (!pinned.erase((uintptr_t)p)) { fail("cudaFreeHost of something that cudaMallocHost did not return, or twice"); }
    free(p);
    return cudaSuccess;
}

// Pageable host memory is staged: the source is read at once, and the host waits for a copy back. Pinned memory is read
// and written when the copy runs.
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
    bool pageable = (kind == cudaMemcpyHostToDevice && !is_pinned(from)) ||
                    (kind == cudaMemcpyDeviceToHost && !is_pinned(to));
    if (pageable && is_capturing(stream)) { fail("a copy of pageable memory in the capture of a graph"); }
    if (pageable && kind == cudaMemcpyHostToDevice) {
        auto staged = std::make_shared<std::vector<char>>((const char*)from, (const char*)from + size);
        enqueue(stream, [=] { copy(to, staged->data(), size, kind); });
        return cudaSuccess;
    }
    enqueue(stream, [=] { copy(to, from, size, kind); });
    if (pageable) { finish_stream(stream); }
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
    refuse_in_capture("cudaMemcpy");
    enqueue(nullptr, [=] { copy(to, from, size, kind); });
    finish_stream(nullptr);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width, size_t height,
                         cudaMemcpyKind kind) {
    refuse_in_capture("cudaMemcpy2D");
    enqueue(nullptr, [=] {
        for (size_t row = 0; row < height; row++) {
            copy((char*)to + row * to_pitch, (const char*)from + row * from_pitch, width, kind);
        }
    });
    finish_stream(nullptr);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t size, cudaStream_t stream) {
    enqueue(stream, [=] {
        check_range(p, size, "cudaMemset", Direction::write);
        record_memset(size);
        if (!settings.skips) { memset(p, value, size); }
    });
    return cudaSuccess;
}
cudaError_t cudaMemset(void* p, int value, size_t size) { return cudaMemsetAsync(p, value, size, nullptr); }

cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
    *total = (size_t)80 << 30;
    *free_bytes = *total - bytes_allocated();
    return cudaSuccess;
}

cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

}
