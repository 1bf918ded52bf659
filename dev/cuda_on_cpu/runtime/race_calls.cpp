// The functions called by clang's -fsanitize=thread, replacing its own runtime's.
#include "internal.h"
#include <string.h>

#define PC __builtin_return_address(0)
using emu::Direction;
using emu::watch;

extern "C" {

#define LOAD_STORE(size) \
    void __tsan_read##size(void* p) { watch(p, size, Direction::read, PC); } \
    void __tsan_write##size(void* p) { watch(p, size, Direction::write, PC); } \
    void __tsan_unaligned_read##size(void* p) { watch(p, size, Direction::read, PC); } \
    void __tsan_unaligned_write##size(void* p) { watch(p, size, Direction::write, PC); }
LOAD_STORE(1)
LOAD_STORE(2)
LOAD_STORE(4)
LOAD_STORE(8)
LOAD_STORE(16)

void __tsan_read_range(void* p, size_t size) { watch(p, size, Direction::read, PC); }
void __tsan_write_range(void* p, size_t size) { watch(p, size, Direction::write, PC); }

// Copies: older clang calls memcpy itself, which the build renames to emu_memcpy; newer ones call __tsan_memcpy.
#define COPY_FILL(prefix) \
    void* prefix##_memcpy(void* to, const void* from, size_t size) { \
        watch(from, size, Direction::read, PC); \
        watch(to, size, Direction::write, PC); \
        return memcpy(to, from, size); \
    } \
    void* prefix##_memmove(void* to, const void* from, size_t size) { \
        watch(from, size, Direction::read, PC); \
        watch(to, size, Direction::write, PC); \
        return memmove(to, from, size); \
    } \
    void* prefix##_memset(void* to, int value, size_t size) { \
        watch(to, size, Direction::write, PC); \
        return memset(to, value, size); \
    }
COPY_FILL(emu)
COPY_FILL(__tsan)

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// std::atomic and the guards of function-local statics, in host code: done, not watched
#define ATOMICS(bits, T) \
    T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); } \
    void __tsan_atomic##bits##_store(volatile T* p, T v, int) { __atomic_store_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_exchange(volatile T* p, T v, int) { return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_add(volatile T* p, T v, int) { return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_sub(volatile T* p, T v, int) { return __atomic_fetch_sub(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_or(volatile T* p, T v, int) { return __atomic_fetch_or(p, v, __ATOMIC_SEQ_CST); } \
    T __tsan_atomic##bits##_fetch_and(volatile T* p, T v, int) { return __atomic_fetch_and(p, v, __ATOMIC_SEQ_CST); } \
    int __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T v, int, int) { \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    } \
    int __tsan_atomic##bits##_compare_exchange_weak(volatile T* p, T* expected, T v, int, int) { \
        return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    } \
    T __tsan_atomic##bits##_compare_exchange_val(volatile T* p, T expected, T v, int, int) { \
        __atomic_compare_exchange_n(p, &expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        return expected; \
    }
ATOMICS(8, char)
ATOMICS(16, short)
ATOMICS(32, int)
ATOMICS(64, long)
void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
void __tsan_atomic_signal_fence(int) {}

}
