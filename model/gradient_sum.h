// The sum of a step's gradients over its micro-batches, by the tree of runtime/tree.h: of one micro-batch they are what the
// backward left; of several, pieces wait in buffers of their own until their sibling is there.
//
//     gradient_sum_begin(&s);
//     for each micro-batch: grads = gradient_sum_next(&s, grads); ... its gradients are added to grads
//     gradient_sum_end(&s, grads);            // grads: their sum
//
// Several ranks have some micro-batches each. The flat buffer is cut into slices: everybody gets all ranks' pieces of the
// own slice, merges them as one rank would have, and gives their sum to the others.
#pragma once
#include "../runtime/exchange.h"
#include "../runtime/tree.h"
#include "step.h"

// ---- Where flat buffers lie: here on the host. gradient_sum.cuh has these for the GPU.
#ifndef FLAT_ON_DEVICE
static inline void* flat_alloc(size_t bytes, const char* what) { return alloc_bytes(bytes, what); }
static inline void flat_free(void* flat) { free(flat); }
static inline void flat_copy(float* to, const float* from, size_t n) { memcpy(to, from, n * sizeof *to); }
static inline void flat_exchange(const Message* out, int outs, const Message* in, int ins) { exchange(out, outs, in, ins); }

// right += left
static inline void add_left(float* right, const float* left, size_t n) {
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) { right[i] = left[i] + right[i]; }
}

// What is in grads comes to *aside, whatever that was; returns zeros, which are the new grads.
static inline float* flat_put_aside(float** aside, float* grads, size_t n) {
    float* next = *aside;
    *aside = grads;
    return (float*)memset(next, 0, n * sizeof *next);
}

// sums: of A micro-batches, in their order
static inline void add_counts(StepSums* sums, const MicroSums* counted, int A) {
    sums->loss = sums->hits = 0;
    for (int i = 0; i < A; i++) { sums->loss += counted[i].loss, sums->hits += counted[i].hits; }
}
#endif

// ----

typedef struct {
    size_t n;                        // floats of a flat buffer
    int micro_batches;               // A, of a step
    Share own;                       // those of this rank
    bool has_room;                   // what is below was allocated
    int begun;                       // micro-batches of this step so far; the last one's gradients, or of the largest
                                     // piece that ends with it, are in the caller's buffer
    Pieces pieces;                   // those before,
    float* waiting[TREE_PIECES];     // and their sums; behind these, buffers that are free. Each (n), as many as are needed
    MicroSums* counted;              // (A), where there are several ranks: everybody's in the end
    float* received;                 // (received_floats), likewise
} GradientSum;

static inline GradientSum gradient_sum_plan(size_t n, int micro_batches) {
    return (GradientSum){.n = n, .micro_batches = micro_batches, .own = own_share(micro_batches)};
}

static inline int gradient_pieces(const GradientSum* s, int place) {
    Share share = share_of(s->micro_batches, ranks.size, place);
    return pieces_of(share.first, share.count).count;
}

// Room for the other ranks' pieces of the own slice
static inline size_t received_floats(const GradientSum* s) {
    Slice own = slice_of(s->n, ranks.size, ranks.place);
    size_t pieces = 0;
    for (int p = 0; p < ranks.size; p++) { pieces += p == ranks.place ? 0 : (size_t)gradient_pieces(s, p); }
    return pieces * (own.end - own.first);
}

// Bytes of this rank beside the gradients'
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

// The gradients of the last micro-batch become a piece, in grads
static inline void gradient_sum_merge(GradientSum* s, float* grads) {
    int top = s->pieces.count;
    for (int merges = pieces_push(&s->pieces, (Piece){s->own.first + s->begun - 1, 1}); merges > 0; merges--) {
        add_left(grads, s->waiting[--top], s->n);
    }
}

// Zeros for the next micro-batch; what is in grads waits.
static inline float* gradient_sum_next(GradientSum* s, float* grads) {
    if (s->begun > 0) { gradient_sum_merge(s, grads); }
    if (s->begun++ == 0) { return grads; }
    return flat_put_aside(&s->waiting[s->pieces.count - 1], grads, s->n);
}

// Where what the last micro-batch has counted is put, for all ranks to know
static inline MicroSums* gradient_sum_count(GradientSum* s) { return &s->counted[s->own.first + s->begun - 1]; }

// ---- Several ranks

// What everybody counted, from his place to all
static inline void gather_counts(GradientSum* s) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p <= ranks.size; p++) {
        bound[p] = (size_t)share_of(s->micro_batches, ranks.size, p).first * sizeof *s->counted;
    }
    gather_ranges(s->counted, bound, flat_exchange);
    free(bound);
}

// The sum of an own piece, of which the last is in grads
static inline float* own_piece(const GradientSum* s, float* grads, int i) {
    return i == s->pieces.count - 1 ? grads : s->waiting[i];
}

// Everybody's slice of the own pieces to him, and all others' pieces of the own slice to s->received, by place
static inline void exchange_pieces(GradientSum* s, float* grads) {
    Slice mine = slice_of(s->n, ranks.size, ranks.place);
    size_t length = mine.end - mine.first;
    Message* out = alloc_array(Message, (size_t)ranks.size * (TREE_PIECES + 1) * 2, "messages");
    Message* in = out + ranks.size * (TREE_PIECES + 1);
    int outs = 0, ins = 0;
    for (int p = 0; p < ranks.size; p++) {
        if (p == ranks.place) { continue; }
        Slice slice = slice_of(s->n, ranks.size, p);
        for (int i = 0; i < s->pieces.count; i++) {
            out[outs++] = (Message){p, own_piece(s, grads, i) + slice.first, (slice.end - slice.first) * sizeof(float)};
        }
        for (int i = 0; i < gradient_pieces(s, p); i++, ins++) {
            in[ins] = (Message){p, s->received + (size_t)ins * length, length * sizeof(float)};
        }
    }
    flat_exchange(out, outs, in, ins);
    free(out);
}

// The own slice of grads becomes the sum of all pieces
static inline void merge_pieces(GradientSum* s, float* grads) {
    Slice mine = slice_of(s->n, ranks.size, ranks.place);
    size_t length = mine.end - mine.first;
    Pieces all = {0};
    float *sum[TREE_PIECES + 1], *next = s->received, *total = NULL;
    for (int p = 0; p < ranks.size; p++) {
        Share share = share_of(s->micro_batches, ranks.size, p);
        Pieces theirs = pieces_of(share.first, share.count);
        for (int i = 0; i < theirs.count; i++) {
            bool own = p == ranks.place;
            total = own ? own_piece(s, grads, i) + mine.first : next;
            next += own ? 0 : length;
            int top = all.count;
            for (int merges = pieces_push(&all, theirs.piece[i]); merges > 0; merges--) {
                add_left(total, sum[--top], length);
            }
            sum[all.count - 1] = total;
        }
    }
    for (int i = all.count - 2; i >= 0; i--) { add_left(total, sum[i], length); }
    if (total != grads + mine.first) { flat_copy(grads + mine.first, total, length); }
}

// Slices of a flat buffer, each from its place to all
static inline void gather_slices(float* flat, size_t n) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p < ranks.size; p++) { bound[p + 1] = slice_of(n, ranks.size, p).end * sizeof(float); }
    gather_ranges(flat, bound, flat_exchange);
    free(bound);
}

static inline void gradient_sum_share(GradientSum* s, float* grads) {
    if (!s->received) { s->received = (float*)flat_alloc(received_floats(s) * sizeof(float), "other ranks' gradients"); }
    wait_on("gradients", -1);
    exchange_pieces(s, grads);
    merge_pieces(s, grads);
    gather_slices(grads, s->n);
    gather_counts(s);
}

// ----

// The last micro-batch of this rank is done: grads becomes the sum over all of the step.
static inline void gradient_sum_end(GradientSum* s, float* grads) {
    if (s->begun == 0) { return; }
    gradient_sum_merge(s, grads);
    if (ranks.size > 1) {
        gradient_sum_share(s, grads);
    } else {
        for (int i = s->pieces.count - 2; i >= 0; i--) { add_left(grads, s->waiting[i], s->n); }
    }
    gradient_sum_begin(s); // of the next step
}

static inline void gradient_sum_free(GradientSum* s) {
    for (int i = 0; i < TREE_PIECES; i++) { flat_free(s->waiting[i]); }
    flat_free(s->counted);
    flat_free(s->received);
}
