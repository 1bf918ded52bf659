// Which rank owns which part of a model's flat buffers. They are cut into buckets of whole blocks, from the back, in
// the order of the backward: a bucket is sent to other ranks as soon as its gradients are complete. The one left at the
// front is small, so that little remains to be done when the backward has ended, or before the forward begins. The
// buckets depend on the model alone, not on the number of ranks.
//
// A bucket consists of granules, counted from its first float. With g ranks on each of M nodes, rank j of a node is
// given its share of a bucket's granules within the node, and owns the node's share of these: it alone sums them and
// updates their parameters. If the nodes have different numbers of ranks, each rank counts as a node.
#pragma once
#include "../runtime/ranks.h"
#include "parameters.h"

enum { BUCKET_FLOATS = 1 << 18 }; // at least, except in the first: each block of vit-tiny is a bucket

typedef struct {
    int count;
    size_t* first;   // (count + 1): where each begins in a flat buffer, and where the last ends
    int* of_segment; // (L + 2): the bucket that holds front, each block, back
} Buckets;

static inline Buckets buckets_of(const ParameterTable* table) {
    int segments = table->blocks + 2, last = 0; // numbered from the back until they are all known
    Buckets buckets = {.first = alloc_array(size_t, segments + 1, "buckets"),
                       .of_segment = alloc_array(int, segments, "buckets")};
    size_t floats = 0;
    for (int i = segments - 1; i >= 0; i--) {
        buckets.of_segment[i] = last;
        floats += table->segment[i + 1] - table->segment[i];
        if (floats >= BUCKET_FLOATS && i > 0) { last++, floats = 0; }
    }
    for (int i = segments - 1; i >= 0; i--) {
        buckets.of_segment[i] = last - buckets.of_segment[i];
        buckets.first[buckets.of_segment[i]] = table->segment[i];
    }
    buckets.count = last + 1;
    buckets.first[buckets.count] = table->total;
    return buckets;
}

static inline void buckets_free(Buckets* buckets) {
    free(buckets->first);
    free(buckets->of_segment);
}

// Part i of so many of a slice
static inline Slice part_of(Slice whole, int parts, int i) {
    size_t count = whole.end - whole.first, n = (size_t)parts, k = (size_t)i;
    return (Slice){whole.first + count * k / n, whole.first + count * (k + 1) / n};
}

// ---- Granules of bucket b, counted from its first

static inline Slice all_granules(const Buckets* buckets, int b) {
    return (Slice){0, granules_of(buckets->first[b + 1] - buckets->first[b])};
}

// What the ranks that are number j on their nodes have together
static inline Slice granules_of_number(const Buckets* buckets, int b, int j) {
    return part_of(all_granules(buckets, b), ranks.per_node, j);
}

static inline Slice granules_at(const Buckets* buckets, int b, int place) {
    return part_of(granules_of_number(buckets, b, place % ranks.per_node), ranks_nodes(), place / ranks.per_node);
}

// Where these granules lie in a flat buffer
static inline Slice floats_of(const Buckets* buckets, int b, Slice granules) {
    size_t first = buckets->first[b], end = buckets->first[b + 1];
    Slice floats = {first + granules.first * GRANULE_FLOATS, first + granules.end * GRANULE_FLOATS};
    return (Slice){floats.first < end ? floats.first : end, floats.end < end ? floats.end : end};
}

static inline size_t length_of(Slice slice) { return slice.end - slice.first; }
