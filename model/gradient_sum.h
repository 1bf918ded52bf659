// The sum of a step's gradients over its micro-batches, by the tree of runtime/tree.h: of one micro-batch they are what the
// backward left; of several, pieces wait in buffers of their own until their sibling is there.
//
//     gradient_sum_begin(&s);
//     for each micro-batch: grads = gradient_sum_next(&s, grads); ... its gradients are added to grads
//     gradient_sum_end(&s, grads);     // grads: their sum
#pragma once
#include "../runtime/memory.h"
#include "../runtime/tree.h"

typedef struct {
    size_t n;                        // floats of a flat buffer
    int begun;                       // micro-batches of this step so far; the last one's gradients, or of the largest
                                     // piece that ends with it, are in the caller's buffer
    Pieces pieces;                   // those before,
    float* waiting[TREE_PIECES + 1]; // and their sums; behind these, buffers that are free. Each (n)
} GradientSum;

// right += left
static inline void add_left(float* right, const float* left, size_t n) {
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) { right[i] = left[i] + right[i]; }
}

static inline void gradient_sum_begin(GradientSum* s) {
    s->begun = 0;
    s->pieces.count = 0;
}

// The gradients of the last micro-batch become a piece, in grads
static inline void gradient_sum_merge(GradientSum* s, float* grads) {
    int top = s->pieces.count;
    for (int merges = pieces_push(&s->pieces, (Piece){s->begun - 1, 1}); merges > 0; merges--) {
        add_left(grads, s->waiting[--top], s->n);
    }
}

// Zeros for the next micro-batch; what is in grads waits.
static inline float* gradient_sum_next(GradientSum* s, float* grads) {
    if (s->begun > 0) { gradient_sum_merge(s, grads); }
    if (s->begun++ == 0) { return grads; }
    float** place = &s->waiting[s->pieces.count - 1];
    float* next = *place ? *place : alloc_floats(s->n, "sums of gradients");
    *place = grads;
    memset(next, 0, s->n * sizeof(float));
    return next;
}

static inline void gradient_sum_end(GradientSum* s, float* grads) {
    if (s->begun == 0) { return; }
    gradient_sum_merge(s, grads);
    for (int i = s->pieces.count - 2; i >= 0; i--) { add_left(grads, s->waiting[i], s->n); }
}

static inline void gradient_sum_free(GradientSum* s) {
    for (int i = 0; i <= TREE_PIECES; i++) { free(s->waiting[i]); }
}
