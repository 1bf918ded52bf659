// Products of bf16 matrices by oneDNN (libdnnl, versions 2 and 3), for processors that have instructions for them:
// vdpbf16ps of AVX-512, or AMX.
//
// What oneDNN calls a primitive is a product compiled for one shape. It may run only in the thread that made it, so
// each thread makes and keeps its own. Made and run inside a parallel region, it uses that thread alone, and its result
// depends on the shape alone. A build without OpenMP does not use it, because it would start threads of its own.
#pragma once
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// out (M,N) = op(a) op(b), op(a) (M,K), op(b) (K,N), all without gaps; type: of a and b, while out is fp32
typedef struct { int transpose_a, transpose_b, M, N, K; dnnl_data_type_t type; } OnednnShape;

typedef struct {
    OnednnShape shape;
    dnnl_primitive_t product; // NULL: oneDNN has none for this shape
    dnnl_memory_t a, b, out;
} OnednnProduct;

enum { ONEDNN_KEPT = 256 }; // per thread; a model has some dozens. When full, the oldest is dropped.
typedef struct { dnnl_stream_t stream; int made; OnednnProduct kept[ONEDNN_KEPT]; } OnednnThread;

static dnnl_engine_t onednn_engine;
static pthread_key_t onednn_thread_key; // OnednnThread* of each thread, freed when the thread ends

static inline bool onednn_has_bf16_unit(void) {
    return (dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
}

// ---- What differs between the versions: the layout of a matrix is a struct in 2, and opaque in 3
#if DNNL_VERSION_MAJOR < 3
typedef const dnnl_memory_desc_t* OnednnLayout;

static inline bool onednn_matrix(dnnl_memory_t* matrix, int rows, int columns, bool transposed, dnnl_data_type_t type) {
    dnnl_memory_desc_t layout;
    return dnnl_memory_desc_init_by_tag(&layout, 2, (dnnl_dims_t){rows, columns}, type,
                                        transposed ? dnnl_ba : dnnl_ab) == dnnl_success &&
           dnnl_memory_create(matrix, &layout, onednn_engine, DNNL_MEMORY_NONE) == dnnl_success;
}

static inline bool onednn_plan(dnnl_primitive_desc_t* plan, OnednnLayout a, OnednnLayout b, OnednnLayout out) {
    dnnl_matmul_desc_t product;
    return dnnl_matmul_desc_init(&product, a, b, NULL, out) == dnnl_success &&
           dnnl_primitive_desc_create(plan, &product, NULL, onednn_engine, NULL) == dnnl_success;
}
#else
typedef const_dnnl_memory_desc_t OnednnLayout;

static inline bool onednn_matrix(dnnl_memory_t* matrix, int rows, int columns, bool transposed, dnnl_data_type_t type) {
    dnnl_memory_desc_t layout;
    if (dnnl_memory_desc_create_with_tag(&layout, 2, (dnnl_dims_t){rows, columns}, type,
                                         transposed ? dnnl_ba : dnnl_ab) != dnnl_success) { return false; }
    dnnl_status_t status = dnnl_memory_create(matrix, layout, onednn_engine, DNNL_MEMORY_NONE);
    dnnl_memory_desc_destroy(layout);
    return status == dnnl_success;
}

static inline bool onednn_plan(dnnl_primitive_desc_t* plan, OnednnLayout a, OnednnLayout b, OnednnLayout out) {
    return dnnl_matmul_primitive_desc_create(plan, onednn_engine, a, b, NULL, out, NULL) == dnnl_success;
}
#endif

// ---- A thread's products

static inline OnednnLayout onednn_layout(dnnl_memory_t matrix) {
    OnednnLayout layout = NULL;
    dnnl_memory_get_memory_desc(matrix, &layout);
    return layout;
}

static inline void onednn_make(OnednnProduct* p, OnednnShape s) {
    dnnl_primitive_desc_t plan;
    *p = (OnednnProduct){.shape = s};
    bool planned = onednn_matrix(&p->a, s.M, s.K, s.transpose_a, s.type) &&
                   onednn_matrix(&p->b, s.K, s.N, s.transpose_b, s.type) &&
                   onednn_matrix(&p->out, s.M, s.N, false, dnnl_f32) &&
                   onednn_plan(&plan, onednn_layout(p->a), onednn_layout(p->b), onednn_layout(p->out));
    if (!planned) { return; }
    if (dnnl_primitive_create(&p->product, plan) != dnnl_success) { p->product = NULL; }
    dnnl_primitive_desc_destroy(plan);
}

static inline void onednn_destroy(OnednnProduct* p) {
    if (p->product) { dnnl_primitive_destroy(p->product); }
    dnnl_memory_t matrices[] = {p->a, p->b, p->out};
    for (int i = 0; i < 3; i++) {
        if (matrices[i]) { dnnl_memory_destroy(matrices[i]); }
    }
}

static void onednn_thread_end(void* thread) {
    OnednnThread* t = thread;
    for (int i = 0; i < ONEDNN_KEPT; i++) { onednn_destroy(&t->kept[i]); }
    dnnl_stream_destroy(t->stream);
    free(t);
}

// Before the first product, outside of parallel regions
static inline bool onednn_init(void) {
    if (onednn_engine) { return true; }
    return pthread_key_create(&onednn_thread_key, onednn_thread_end) == 0 &&
           dnnl_engine_create(&onednn_engine, dnnl_cpu, 0) == dnnl_success;
}

static inline OnednnThread* onednn_thread(void) { // NULL: no memory
    OnednnThread* t = pthread_getspecific(onednn_thread_key);
    if (t) { return t; }
    t = calloc(1, sizeof *t);
    if (!t) { return NULL; }
    bool made = dnnl_stream_create(&t->stream, onednn_engine, dnnl_stream_default_flags) == dnnl_success &&
                pthread_setspecific(onednn_thread_key, t) == 0;
    if (made) { return t; }
    free(t);
    return NULL;
}

static inline OnednnProduct* onednn_find(OnednnThread* t, OnednnShape shape) {
    for (int i = 0; i < t->made && i < ONEDNN_KEPT; i++) {
        if (memcmp(&t->kept[i].shape, &shape, sizeof shape) == 0) { return &t->kept[i]; }
    }
    OnednnProduct* p = &t->kept[t->made++ % ONEDNN_KEPT];
    onednn_destroy(p);
    onednn_make(p, shape);
    return p;
}

// One thread's product; false: oneDNN has none, and out is unchanged
static inline bool onednn_product(float* out, const void* a, const void* b, OnednnShape shape) {
    OnednnThread* t = onednn_thread();
    OnednnProduct* p = t ? onednn_find(t, shape) : NULL;
    if (!p || !p->product) { return false; }
    dnnl_memory_set_data_handle(p->a, (void*)a); // it is only read
    dnnl_memory_set_data_handle(p->b, (void*)b);
    dnnl_memory_set_data_handle(p->out, out);
    const dnnl_exec_arg_t operands[] = {{DNNL_ARG_SRC, p->a}, {DNNL_ARG_WEIGHTS, p->b}, {DNNL_ARG_DST, p->out}};
    return dnnl_primitive_execute(p->product, t->stream, 3, operands) == dnnl_success &&
           dnnl_stream_wait(t->stream) == dnnl_success;
}
