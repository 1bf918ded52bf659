// Memory that belongs to one thread, from its first use until the thread ends: for what is too large for a thread's
// stack, which may be 128 KB (musl's default). No result depends on it.
//
//     static ThreadMemory kind;           // one for each use
//     static _Thread_local Thing* own;    // so that only the first call asks
//     if (!own) { own = (Thing*)thread_memory(&kind, sizeof *own, "what it is"); }
#pragma once
#include "memory.h"
#include <pthread.h>

typedef struct { bool made; pthread_key_t key; } ThreadMemory; // the key frees it when the thread ends

static pthread_mutex_t thread_memory_lock = PTHREAD_MUTEX_INITIALIZER;

static inline void* thread_memory(ThreadMemory* kind, size_t bytes, const char* what) {
    pthread_mutex_lock(&thread_memory_lock);
    if (!kind->made) { kind->made = pthread_key_create(&kind->key, free) == 0; }
    bool made = kind->made;
    pthread_mutex_unlock(&thread_memory_lock);
    void* memory = alloc_bytes(bytes, what);
    if (made) { pthread_setspecific(kind->key, memory); } // else it stays until the program ends
    return memory;
}
