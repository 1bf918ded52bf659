// How the ranks share the update of the parameters, bucket by bucket (buckets.h). During the backward, gradients go to
// their owners, who sum them in the order of runtime/tree.h and update what they own; during the next forward,
// parameters come from their owners. A rank has moments and the running mean for its own granules alone. A single rank
// owns everything, and sends no messages.
//
//     owners_close(&s, &sum, grads);      // before the backward of the last micro-batch, which completes the sum
//     bucket_depart(&s, segment);         // during it: the segment's gradients are complete and will not change
//     owners_finish(&s, ...);             // own granules of grads now hold the sum; s.squares is set for them
//     bucket_gather(&s, b, params);       // sends a bucket's own granules, which have changed; receives all others
//     bucket_arrive(&s, segment);         // before the segment's parameters are read
//     owners_poll(&s);                    // from time to time: moves along what is under way
//
// Both directions take two stages, within a node and among nodes, so that a bucket leaves a node only once, however
// many ranks it has. In the first, rank j of the node receives all pieces of its share of the bucket and merges them;
// in the second, ranks with the same number on all nodes exchange theirs. Parameters come back in the reverse order.
#pragma once
#include "buckets.h"
#include "../kernels/adamw.h"
#include "gradient_sum.h"

// Sums of pieces, each over floats that begin at granule `from` of a bucket
typedef struct {
    Pieces pieces;
    float* sum[TREE_PIECES + 1];
    size_t from;
} Sums;

// Where a bucket's gradients are on their way, and its parameters. For parameters STAGE_NONE means that none are under
// way.
typedef enum { STAGE_NONE, STAGE_QUEUED, STAGE_WITHIN_NODE, STAGE_AMONG_NODES, STAGE_DONE } Stage;

typedef struct {
    Stage sum, gather;          // how far its gradients and its parameters are
    FlatTransfer summed, gathered;
    Sums sums;                  // this rank's, then the node's
    float* received[2];         // what others send for the own share, in each of the two stages
    Slice own;                  // floats of a flat buffer that this rank owns
    size_t kept_at;             // where these are in a buffer of owned floats alone
} Bucket;

typedef struct {
    Buckets buckets;
    Bucket* bucket;
    int micro_batches;          // A
    size_t owned;               // floats
    Slice own_squares;          // where in squares those of the own granules are
    double* squares;            // Σ grads² of every granule, in the order of their owners
    float* flat;                // the buffer that is gathered
    // Of the last micro-batch of a step
    bool closed;
    float* grads;
    Sums leaves;                // pieces of this rank; the last one's sum is in grads
    int merges;                 // once so many waiting ones have been added to it
} Owners;

// ---------------------------------------------------------------------------------------------------------------------
// Who exchanges what with whom

// The ranks of a node, or those with the same number on all nodes: `count` places, `stride` apart. Each has its part of
// the granules that they hold together. Member k brings the pieces of `span` consecutive places, from leaves + k span
// on.
typedef struct { int count, own, first, stride, leaves, span; } Circle;

static inline Circle circle_within_node(void) {
    int g = ranks.per_node, node = ranks.place / g;
    return (Circle){.count = g, .own = ranks.place % g, .first = node * g, .stride = 1, .leaves = node * g, .span = 1};
}

static inline Circle circle_among_nodes(void) {
    int g = ranks.per_node;
    return (Circle){.count = ranks_nodes(), .own = ranks.place / g, .first = ranks.place % g, .stride = g, .span = g};
}

static inline int circle_place(Circle c, int k) { return c.first + k * c.stride; }

static inline Pieces circle_pieces(Circle c, int A, int k) {
    int place = c.leaves + k * c.span, first = share_of(A, ranks.size, place).first;
    Share last = share_of(A, ranks.size, place + c.span - 1);
    return pieces_of(first, last.first + last.count - first);
}

static inline int pieces_of_others(Circle c, int A) {
    int pieces = 0;
    for (int k = 0; k < c.count; k++) { pieces += k == c.own ? 0 : circle_pieces(c, A, k).count; }
    return pieces;
}

// Granules that a circle holds together
static inline Slice shared_granules(const Buckets* buckets, int b, Stage stage) {
    if (stage == STAGE_WITHIN_NODE) { return all_granules(buckets, b); }
    return granules_of_number(buckets, b, ranks.place % ranks.per_node);
}

static inline Circle circle_of(Stage stage) {
    return stage == STAGE_WITHIN_NODE ? circle_within_node() : circle_among_nodes();
}

// The floats of a bucket that a member of a circle has
static inline Slice member_floats(const Buckets* buckets, int b, Stage stage, Circle c, int k) {
    return floats_of(buckets, b, part_of(shared_granules(buckets, b, stage), c.count, k));
}

static inline Slice own_floats(const Buckets* buckets, int b, Stage stage) {
    Circle c = circle_of(stage);
    return member_floats(buckets, b, stage, c, c.own);
}

static inline int transfer_tag(int b, Stage stage, bool gather) {
    return 1 + 4 * b + 2 * gather + (stage == STAGE_AMONG_NODES);
}

// ---------------------------------------------------------------------------------------------------------------------
// Planning

// Floats that others send for the own share in a stage
static inline size_t received_of(const Owners* s, int b, Stage stage) {
    return (size_t)pieces_of_others(circle_of(stage), s->micro_batches) * length_of(own_floats(&s->buckets, b, stage));
}

// Sizes only
static inline Owners owners_plan(const ParameterTable* table, int micro_batches) {
    Owners s = {.buckets = buckets_of(table), .micro_batches = micro_batches};
    s.bucket = alloc_array(Bucket, s.buckets.count, "buckets");
    for (int b = 0; b < s.buckets.count; b++) {
        Bucket* bucket = &s.bucket[b];
        bucket->own = floats_of(&s.buckets, b, granules_at(&s.buckets, b, ranks.place));
        bucket->kept_at = s.owned;
        s.owned += length_of(bucket->own);
    }
    return s;
}

static inline size_t owners_bytes(const Owners* s) {
    size_t floats = 0;
    for (int b = 0; b < s->buckets.count; b++) {
        floats += received_of(s, b, STAGE_WITHIN_NODE) + received_of(s, b, STAGE_AMONG_NODES);
    }
    return floats * sizeof(float);
}

// Over all buckets, at a place
static inline size_t count_granules_at(const Owners* s, int place) {
    size_t count = 0;
    for (int b = 0; b < s->buckets.count; b++) { count += length_of(granules_at(&s->buckets, b, place)); }
    return count;
}

static inline size_t count_granules(const Owners* s) {
    size_t count = 0;
    for (int p = 0; p < ranks.size; p++) { count += count_granules_at(s, p); }
    return count;
}

static inline void owners_allocate(Owners* s) {
    for (int b = 0; b < s->buckets.count; b++) {
        for (int stage = STAGE_WITHIN_NODE; stage <= STAGE_AMONG_NODES; stage++) {
            float** received = &s->bucket[b].received[stage - STAGE_WITHIN_NODE];
            *received = (float*)flat_alloc(received_of(s, b, (Stage)stage) * sizeof(float), "other ranks' gradients");
        }
    }
    s->squares = (double*)flat_alloc(count_granules(s) * sizeof(double), "the gradient norm");
    for (int p = 0; p <= ranks.place; p++) {
        s->own_squares = (Slice){s->own_squares.end, s->own_squares.end + count_granules_at(s, p)};
    }
}

static inline void owners_free(Owners* s) {
    for (int b = 0; s->bucket && b < s->buckets.count; b++) {
        for (int i = 0; i < 2; i++) { flat_free(s->bucket[b].received[i]); }
    }
    free(s->bucket);
    flat_free(s->squares);
    buckets_free(&s->buckets);
}

// ---------------------------------------------------------------------------------------------------------------------
// The sum of gradients

// Sends the others their parts of the pieces that are here, and receives the own part of theirs.
static inline void sum_begin(Owners* s, int b, Stage stage) {
    Bucket* bucket = &s->bucket[b];
    Circle c = circle_of(stage);
    int outs = 0, ins = 0, most = (c.count - 1) * bucket->sums.pieces.count;
    Message* out = alloc_array(Message, most + pieces_of_others(c, s->micro_batches), "messages");
    size_t start = floats_of(&s->buckets, b, (Slice){bucket->sums.from, bucket->sums.from}).first;
    size_t length = length_of(own_floats(&s->buckets, b, stage));
    float* next = bucket->received[stage - STAGE_WITHIN_NODE];
    for (int k = 0; k < c.count; k++) {
        if (k == c.own) { continue; }
        Slice part = member_floats(&s->buckets, b, stage, c, k);
        for (int i = 0; i < bucket->sums.pieces.count; i++) {
            float* from = bucket->sums.sum[i] + (part.first - start);
            out[outs++] = (Message){circle_place(c, k), from, length_of(part) * sizeof(float)};
        }
        for (int i = 0; i < circle_pieces(c, s->micro_batches, k).count; i++, next += length) {
            out[most + ins++] = (Message){circle_place(c, k), next, length * sizeof(float)};
        }
    }
    bucket->sum = stage;
    flat_transfer_begin(&bucket->summed, transfer_tag(b, stage, false), out, outs, out + most, ins);
    free(out);
}

// Adds a piece, of n floats, to the sums.
static inline void sums_push(Sums* sums, Piece piece, float* sum, size_t n) {
    int top = sums->pieces.count;
    for (int merges = pieces_push(&sums->pieces, piece); merges > 0; merges--) { add_left(sum, sums->sum[--top], n); }
    sums->sum[sums->pieces.count - 1] = sum;
}

// All pieces of the circle have arrived: merges them, for the own part, into those of all its leaves.
static inline void sum_merge(Owners* s, int b, Stage stage) {
    Bucket* bucket = &s->bucket[b];
    Circle c = circle_of(stage);
    Slice part = part_of(shared_granules(&s->buckets, b, stage), c.count, c.own);
    Slice floats = floats_of(&s->buckets, b, part);
    size_t skip = floats.first - floats_of(&s->buckets, b, (Slice){bucket->sums.from, bucket->sums.from}).first;
    float* next = bucket->received[stage - STAGE_WITHIN_NODE];
    Sums merged = {.from = part.first};
    for (int k = 0; k < c.count; k++) {
        Pieces pieces = circle_pieces(c, s->micro_batches, k);
        for (int i = 0; i < pieces.count; i++) {
            bool own = k == c.own;
            sums_push(&merged, pieces.piece[i], own ? bucket->sums.sum[i] + skip : next, length_of(floats));
            next += own ? 0 : length_of(floats);
        }
    }
    bucket->sums = merged;
}

static inline size_t own_squares_of(const Owners* s, int b) {
    size_t at = s->own_squares.first;
    for (int i = 0; i < b; i++) { at += length_of(granules_at(&s->buckets, i, ranks.place)); }
    return at;
}

// All pieces of the own granules have arrived: their sum goes to grads.
static inline void sum_end(Owners* s, int b) {
    Bucket* bucket = &s->bucket[b];
    size_t length = length_of(bucket->own);
    int last = bucket->sums.pieces.count - 1;
    float *total = bucket->sums.sum[last], *grads = s->grads + bucket->own.first;
    for (int i = last - 1; i >= 0; i--) { add_left(total, bucket->sums.sum[i], length); }
    if (total != grads) { flat_copy(grads, total, length); }
    bucket->sum = STAGE_DONE;
}

static inline void sum_move(Owners* s, int b) {
    Bucket* bucket = &s->bucket[b];
    while ((bucket->sum == STAGE_WITHIN_NODE || bucket->sum == STAGE_AMONG_NODES) &&
           flat_transfer_done(&bucket->summed)) {
        Stage stage = bucket->sum;
        sum_merge(s, b, stage);
        if (stage == STAGE_WITHIN_NODE) { sum_begin(s, b, STAGE_AMONG_NODES); } else { sum_end(s, b); }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The gathering of parameters

static inline void gather_begin(Owners* s, int b, Stage stage) {
    Bucket* bucket = &s->bucket[b];
    Circle c = circle_of(stage);
    Slice own = own_floats(&s->buckets, b, stage);
    Message *out = alloc_array(Message, 2 * c.count, "messages"), *in = out + c.count;
    int count = 0;
    for (int k = 0; k < c.count; k++) {
        if (k == c.own) { continue; }
        Slice part = member_floats(&s->buckets, b, stage, c, k);
        out[count] = (Message){circle_place(c, k), s->flat + own.first, length_of(own) * sizeof(float)};
        in[count++] = (Message){circle_place(c, k), s->flat + part.first, length_of(part) * sizeof(float)};
    }
    bucket->gather = stage;
    flat_transfer_begin(&bucket->gathered, transfer_tag(b, stage, true), out, count, in, count);
    free(out);
}

static inline void gather_move(Owners* s, int b) {
    Bucket* bucket = &s->bucket[b];
    while (bucket->gather > STAGE_QUEUED && flat_transfer_done(&bucket->gathered)) {
        bool among_nodes = bucket->gather == STAGE_AMONG_NODES;
        bucket->gather = STAGE_NONE;
        if (among_nodes) { gather_begin(s, b, STAGE_WITHIN_NODE); }
    }
}

// Buckets are needed one after the other: only two at a time use the network, so that the first does not arrive as late
// as the last.
static inline void gather_poll(Owners* s) {
    enum { AT_A_TIME = 2 };
    int under_way = 0;
    for (int b = 0; b < s->buckets.count; b++) {
        if (s->bucket[b].gather == STAGE_QUEUED && under_way < AT_A_TIME) { gather_begin(s, b, STAGE_AMONG_NODES); }
        gather_move(s, b);
        under_way += s->bucket[b].gather == STAGE_AMONG_NODES;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// What a step calls

static inline void owners_poll(Owners* s) {
    for (int b = 0; b < s->buckets.count; b++) { sum_move(s, b); }
    gather_poll(s);
}

static inline void owners_close(Owners* s, const GradientSum* sum, float* grads) {
    s->closed = true;
    s->grads = grads;
    s->leaves = (Sums){.pieces = sum->pieces};
    s->merges = pieces_push(&s->leaves.pieces, (Piece){sum->own.first + sum->begun - 1, 1});
    for (int i = 0; i < sum->pieces.count; i++) { s->leaves.sum[i] = sum->waiting[i]; }
    for (int b = 0; b < s->buckets.count; b++) { s->bucket[b].sum = STAGE_NONE; }
}

// Merges the last leaf's floats of bucket b with those of the waiting pieces, and sends them.
static inline void bucket_leave(Owners* s, int b) {
    Slice floats = floats_of(&s->buckets, b, all_granules(&s->buckets, b));
    Sums sums = {.pieces = s->leaves.pieces};
    int last = sums.pieces.count - 1;
    for (int i = s->merges - 1; i >= 0; i--) {
        add_left(s->grads + floats.first, s->leaves.sum[last + i] + floats.first, length_of(floats));
    }
    for (int i = 0; i < last; i++) { sums.sum[i] = s->leaves.sum[i] + floats.first; }
    sums.sum[last] = s->grads + floats.first;
    s->bucket[b].sums = sums;
    sum_begin(s, b, STAGE_WITHIN_NODE);
    sum_move(s, b);
}

// A bucket departs once the first of its segments is complete.
static inline void bucket_depart(Owners* s, int segment) {
    int b = s->buckets.of_segment[segment];
    if (!s->closed || (segment > 0 && s->buckets.of_segment[segment - 1] == b)) { return; }
    bucket_leave(s, b);
    owners_poll(s);
}

// Waits, polling, until bucket b has come to stage `end`.
static inline void wait_for_stage(Owners* s, int b, const Stage* at, Stage end, const char* what) {
    if (*at == end) { return; }
    wait_on(what, b);
    wait_begin();
    for (owners_poll(s); *at != end; owners_poll(s)) { usleep(50); }
    wait_end();
}

// Waits until the parameters of bucket b have arrived.
static inline void bucket_wait(Owners* s, int b) {
    wait_for_stage(s, b, &s->bucket[b].gather, STAGE_NONE, "parameters of bucket");
}

static inline void bucket_arrive(Owners* s, int segment) { bucket_wait(s, s->buckets.of_segment[segment]); }

// Waits until everything under way has arrived.
static inline void owners_settle(Owners* s) {
    for (int b = 0; b < s->buckets.count; b++) { bucket_wait(s, b); }
}

// Sends the own granules of bucket b of `flat` to all, and receives those of others. Until the bucket is settled it must
// not be written, and no other buffer may be gathered.
static inline void bucket_gather(Owners* s, int b, float* flat) {
    if (ranks.size == 1) { return; }
    s->flat = flat;
    s->bucket[b].gather = STAGE_QUEUED;
    gather_poll(s);
}

// The same for all buckets
static inline void owners_gather(Owners* s, float* flat) {
    owners_settle(s);
    for (int b = 0; b < s->buckets.count; b++) { bucket_gather(s, b, flat); }
}

// Waits until the own granules of bucket b hold the sum of all gradients.
static inline void sum_wait(Owners* s, int b) {
    wait_for_stage(s, b, &s->bucket[b].sum, STAGE_DONE, "gradients of bucket");
}

// The same for all buckets, in the order in which they departed, and sums their squares. If no micro-batch was closed,
// the sum is what is in grads.
static inline void owners_finish(Owners* s, float* grads) {
    for (int b = s->buckets.count - 1; b >= 0; b--) {
        Bucket* bucket = &s->bucket[b];
        if (s->closed) { sum_wait(s, b); }
        granule_squares(s->squares + own_squares_of(s, b), grads + bucket->own.first, length_of(bucket->own));
    }
    s->closed = false;
}

// Where the squares of each place begin, and the end, in bytes, (R + 1); to be freed
static inline size_t* squares_bound(const Owners* s) {
    size_t* bound = alloc_array(size_t, ranks.size + 1, "messages");
    for (int p = 0; p < ranks.size; p++) { bound[p + 1] = bound[p] + count_granules_at(s, p) * sizeof *s->squares; }
    return bound;
}

// The position in squares of each granule, in the order in which granules lie: (granules), to be freed
static inline int* squares_order(const Owners* s) {
    int *order = alloc_array(int, count_granules(s), "the gradient norm"), count = 0;
    size_t* at = squares_bound(s);
    for (int b = 0; b < s->buckets.count; b++) {
        for (int i = 0; i < ranks.size; i++) {
            int place = i % ranks_nodes() * ranks.per_node + i / ranks_nodes();
            size_t granules = length_of(granules_at(&s->buckets, b, place));
            for (size_t k = 0; k < granules; k++, at[place] += sizeof *s->squares) {
                order[count++] = (int)(at[place] / sizeof *s->squares);
            }
        }
    }
    free(at);
    return order;
}

// The messages by which each rank tells all others its squares and the counts of its micro-batches. out and in have
// space for 2 R of them each. Returns how many there are.
static inline int facts_messages(Owners* s, GradientSum* sum, Message* out, Message* in) {
    size_t *squares = squares_bound(s), *counts = counts_bound(sum);
    int count = range_messages(s->squares, squares, out, in);
    count += range_messages(sum->counted, counts, out + count, in + count);
    free(squares);
    free(counts);
    return count;
}

// Exchanges squares and counts, so that every rank has all of them.
static inline void share_facts(Owners* s, GradientSum* sum) {
    if (ranks.size == 1) { return; }
    Message *out = alloc_array(Message, 4 * ranks.size, "messages"), *in = out + 2 * ranks.size;
    int count = facts_messages(s, sum, out, in);
    wait_on("the gradient norm", -1);
    exchange(out, count, in, count);
    free(out);
}

// The norm of the gradients: squares are added in the order in which the granules lie.
static inline double owners_norm(const Owners* s) {
    size_t count = count_granules(s);
    int* order = squares_order(s);
    double* in_order = alloc_array(double, count, "the gradient norm");
    for (size_t i = 0; i < count; i++) { in_order[i] = s->squares[order[i]]; }
    double norm = norm_of_granules(in_order, count);
    free(order);
    free(in_order);
    return norm;
}

// ---- Buffers of owned floats only

// whole: where the own granules lie in it
static inline void owners_spread(const Owners* s, float* whole, const float* kept) {
    for (int b = 0; b < s->buckets.count; b++) {
        const Bucket* bucket = &s->bucket[b];
        flat_copy(whole + bucket->own.first, kept + bucket->kept_at, length_of(bucket->own));
    }
}

static inline void owners_keep(const Owners* s, float* kept, const float* whole) {
    for (int b = 0; b < s->buckets.count; b++) {
        const Bucket* bucket = &s->bucket[b];
        flat_copy(kept + bucket->kept_at, whole + bucket->own.first, length_of(bucket->own));
    }
}
