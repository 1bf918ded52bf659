// The sum of a step's gradients over its micro-batches, by the tree of runtime/tree.h. With one micro-batch it is what
// the backward left; with several, pieces wait in buffers of their own until their siblings are done.
//
//     gradient_sum_begin(&s);
//     for each micro-batch: grads = gradient_sum_next(&s, grads); ... its gradients are added to grads
//
// At the end the largest pieces of this rank's micro-batches are there, except that the last one is not merged yet:
// owners.h does the rest.
#pragma once
#include "../runtime/tree.h"
#ifndef FLAT_ON_DEVICE
#include "flat.h"
#endif

typedef struct {
    size_t n;                        // floats of a flat buffer
    int micro_batches;               // A, of a step
    Share own;                       // those of this rank
    bool has_room;                   // the buffers below are allocated
    int begun;                       // micro-batches of this step so far; the gradients of the last one, or of the
                                     // largest piece that ends with it, are in the caller's buffer
    Pieces pieces;                   // the ones before it,
    float* waiting[TREE_PIECES];     // and their sums (n each); after these, free buffers
    MicroSums* counted;              // (A), with several ranks: in the end those of all
} GradientSum;

static inline GradientSum gradient_sum_plan(size_t n, int micro_batches) {
    return (GradientSum){.n = n, .micro_batches = micro_batches, .own = own_share(micro_batches)};
}

// This rank's bytes beside those of the gradients
static inline size_t gradient_sum_bytes(const GradientSum* s) {
    return sizeof(float) * (size_t)pieces_waiting(s->own.first, s->own.count) * s->n;
}

static inline void gradient_sum_allocate(GradientSum* s) {
    s->has_room = true;
    for (int i = 0; i < pieces_waiting(s->own.first, s->own.count); i++) {
        s->waiting[i] = (float*)flat_alloc(s->n * sizeof(float), "sums of gradients");
    }
    if (ranks.size == 1) { return; }
    s->counted = (MicroSums*)flat_alloc((size_t)s->micro_batches * sizeof(MicroSums), "sums of micro-batches");
}

static inline void gradient_sum_begin(GradientSum* s) {
    if (!s->has_room) { gradient_sum_allocate(s); }
    s->begun = 0;
    s->pieces.count = 0;
}

// Merges the gradients of the last micro-batch, in grads, with the pieces that wait for it.
static inline void gradient_sum_merge(GradientSum* s, float* grads) {
    int top = s->pieces.count;
    for (int merges = pieces_push(&s->pieces, (Piece){s->own.first + s->begun - 1, 1}); merges > 0; merges--) {
        add_left(grads, s->waiting[--top], s->n);
    }
}

// Returns zeros for the next micro-batch; what is in grads waits meanwhile.
static inline float* gradient_sum_next(GradientSum* s, float* grads) {
    if (s->begun > 0) { gradient_sum_merge(s, grads); }
    if (s->begun++ == 0) { return grads; }
    return flat_put_aside(&s->waiting[s->pieces.count - 1], grads, s->n);
}

// Where the counts of the last micro-batch go, to be shared with all ranks
static inline MicroSums* gradient_sum_count(GradientSum* s) { return &s->counted[s->own.first + s->begun - 1]; }

// Where the counts of each place begin, and the end, in bytes, (R + 1); to be freed
static inline size_t* counts_bound(const GradientSum* s) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p <= ranks.size; p++) {
        bound[p] = (size_t)share_of(s->micro_batches, ranks.size, p).first * sizeof *s->counted;
    }
    return bound;
}

static inline void gradient_sum_free(GradientSum* s) {
    for (int i = 0; i < TREE_PIECES; i++) { flat_free(s->waiting[i]); }
    flat_free(s->counted);
}
