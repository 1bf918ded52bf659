// The machine's cores. Waiting OpenMP threads should sleep: spinning ones take the core from the loader's thread, and
// from other programs. The OpenMP runtime reads that setting once, before main; and if its threads are bound to cores
// (OMP_PROC_BIND, OMP_PLACES, GOMP_CPU_AFFINITY), it binds the main thread as well, and programs and threads started by
// it would get only its one core.
//
//     start_with_sleeping_threads(argv);      // first
//     int threads = threads_begin(wanted);    // before the first parallel region; 0: as many as there are cores
//     threads_unbind();                       // in a thread outside OpenMP, or before execv
#pragma once
#include "error.h"
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif

// ---- The cores that this process was given

#ifdef __linux__
static struct { long bytes; unsigned long mask[128]; } threads_allowed; // bytes: of the mask; 0: not known

static inline void threads_unbind(void) {
    if (threads_allowed.bytes > 0) { syscall(SYS_sched_setaffinity, 0, threads_allowed.bytes, threads_allowed.mask); }
}

// As bytes: if they are the same in two processes, these may run on the same cores
static inline const void* threads_mask(size_t* bytes) {
    *bytes = sizeof threads_allowed.mask;
    return threads_allowed.mask;
}
#else
static inline void threads_unbind(void) {}
static inline const void* threads_mask(size_t* bytes) { *bytes = 0; return ""; }
#endif

// glibc runs this before the libraries' initialisation, including OpenMP's.
#if defined(_OPENMP) && defined(__linux__) && defined(__GLIBC__)
__attribute__((no_sanitize_address)) // which is not initialised either
static void threads_before_libraries(void) {
    setenv("OMP_WAIT_POLICY", "passive", 0);
    threads_allowed.bytes = syscall(SYS_sched_getaffinity, 0, sizeof threads_allowed.mask, threads_allowed.mask);
}
__attribute__((used, section(".preinit_array"))) static void (*const threads_preinit)(void) = threads_before_libraries;
#endif

// ---- How they wait

// If nothing can run before the libraries, the program starts once more; not with bound threads, which then spin.
static inline void start_with_sleeping_threads(char** argv) {
#ifdef _OPENMP
    static const char* const settled[] = {"OMP_WAIT_POLICY", "OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY"};
    for (size_t i = 0; i < sizeof settled / sizeof settled[0]; i++) {
        if (getenv(settled[i])) { return; }
    }
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv); // returns only if it fails: then this process goes on as it is
#else
    (void)argv;
#endif
}

// ---- How many

static inline int core_count(void) {
#ifdef _OPENMP
    return omp_get_num_procs();
#else
    return (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
}

#ifdef _OPENMP
// A thread that waits for the lock
static inline void* threads_wait(void* lock) {
    pthread_mutex_lock((pthread_mutex_t*)lock);
    pthread_mutex_unlock((pthread_mutex_t*)lock);
    return NULL;
}

// How many threads can be created, including this one, up to wanted; *error: why not more
static inline int threads_to_be_had(int wanted, int* error) {
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_t* others = (pthread_t*)malloc((size_t)wanted * sizeof *others);
    int count = 0;
    *error = others ? 0 : ENOMEM;
    pthread_mutex_lock(&lock);
    while (*error == 0 && count < wanted - 1) {
        *error = pthread_create(&others[count], NULL, threads_wait, &lock);
        count += *error == 0;
    }
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < count; i++) { pthread_join(others[i], NULL); }
    free(others);
    return count + 1;
}
#endif

// The OpenMP runtime ends the program if it cannot create a thread. So they are counted first, and then started.
static inline int threads_begin(int wanted) {
#ifdef _OPENMP
    int error, threads = wanted ? wanted : omp_get_max_threads(), had = threads_to_be_had(threads, &error);
    if (wanted && had < wanted) {
        fail(EXIT_RUN_TIME,
             "this machine gives no more than %d of %d threads (%s): use --threads %d, or raise its limits "
             "(ulimit -u, ulimit -v)", had, wanted, strerror(error), had);
    }
    if (had < threads) { fprintf(stderr, "note: %d of %d threads: %s\n", had, threads, strerror(error)); }
    omp_set_num_threads(had);
    #pragma omp parallel
    {
    }
    return had;
#else
    (void)wanted;
    return 1;
#endif
}
