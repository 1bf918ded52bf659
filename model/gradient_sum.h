// The sum of a step's gradients over its micro-batches, by the tree of runtime/tree.h: of one micro-batch they are what the
// backward left; of several, pieces wait in buffers of their own until their sibling is there.
//
//     gradient_sum_begin(&s);
//     for each micro-batch: grads = gradient_sum_next(&s, grads); ... its gradients are added to grads
//     gradient_sum_end(&s, grads, &sums);     // grads: their sum
//
// Several ranks have some micro-batches each. The flat buffer is cut into slices: everybody gets all ranks' pieces of the
// own slice, merges them as one rank would have, and gives their sum to the others.
#pragma once
#include "../runtime/exchange.h"
#include "../runtime/tree.h"
#include "step.h"

typedef struct { double loss, hits; } MicroSums; // over the images of a micro-batch

typedef struct {
    size_t n;                        // floats of a flat buffer
    int micro_batches;               // A, of a step
    Share own;                       // those of this rank
    int begun;                       // micro-batches of this step so far; the last one's gradients, or of the largest
                                     // piece that ends with it, are in the caller's buffer
    Pieces pieces;                   // those before,
    float* waiting[TREE_PIECES + 1]; // and their sums; behind these, buffers that are free. Each (n)
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
    for (int merges = pieces_push(&s->pieces, (Piece){s->own.first + s->begun - 1, 1}); merges > 0; merges--) {
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

// Losses and hits of the last micro-batch, to sums
static inline void gradient_sum_count(GradientSum* s, StepSums* sums, double loss, double hits) {
    sums->loss += loss;
    sums->hits += hits;
    if (ranks.size == 1) { return; }
    if (!s->counted) { s->counted = alloc_array(MicroSums, s->micro_batches, "sums of micro-batches"); }
    s->counted[s->own.first + s->begun - 1] = (MicroSums){loss, hits};
}

// ---- Several ranks

// What everybody counted, added in the order of the micro-batches
static inline void share_counts(GradientSum* s, StepSums* sums) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p <= ranks.size; p++) {
        bound[p] = (size_t)share_of(s->micro_batches, ranks.size, p).first * sizeof *s->counted;
    }
    gather_ranges(s->counted, bound);
    free(bound);
    sums->loss = sums->hits = 0;
    for (int i = 0; i < s->micro_batches; i++) {
        sums->loss += s->counted[i].loss;
        sums->hits += s->counted[i].hits;
    }
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
    exchange(out, outs, in, ins);
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
    if (total != grads + mine.first) { memcpy(grads + mine.first, total, length * sizeof(float)); }
}

// Slices of a flat buffer, each from its place to all
static inline void gather_slices(float* flat, size_t n) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p < ranks.size; p++) { bound[p + 1] = slice_of(n, ranks.size, p).end * sizeof(float); }
    gather_ranges(flat, bound);
    free(bound);
}

static inline void gradient_sum_share(GradientSum* s, float* grads, StepSums* sums) {
    if (!s->received) { s->received = alloc_floats(received_floats(s), "other ranks' gradients"); }
    wait_on("gradients", -1);
    exchange_pieces(s, grads);
    merge_pieces(s, grads);
    gather_slices(grads, s->n);
    share_counts(s, sums);
}

// ----

// sums: of this rank's micro-batches, and then of all
static inline void gradient_sum_end(GradientSum* s, float* grads, StepSums* sums) {
    if (s->begun == 0) { return; }
    gradient_sum_merge(s, grads);
    if (ranks.size > 1) {
        gradient_sum_share(s, grads, sums);
    } else {
        for (int i = s->pieces.count - 2; i >= 0; i--) { add_left(grads, s->waiting[i], s->n); }
    }
}

static inline void gradient_sum_free(GradientSum* s) {
    for (int i = 0; i <= TREE_PIECES; i++) { free(s->waiting[i]); }
    free(s->counted);
    free(s->received);
}
