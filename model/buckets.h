// Which part of a model's flat buffers is whose. They are cut into buckets of whole blocks, from the back, as the backward
// comes by: a bucket goes on its way to other ranks as soon as its gradients are there. What is left in front is a small
// one, so that little is to be done when the backward has ended. Buckets are a model's, whatever the number of ranks.
//
// A bucket consists of granules, from its first float on. With g ranks on each of M nodes, rank j of a node has its share
// of a bucket's granules there, and of these the node's share is what it owns: the own granules are summed, and their
// parameters updated, here and nowhere else. Where nodes have unlike numbers of ranks, each rank stands for a node.
#pragma once
#include "../runtime/ranks.h"
#include "parameters.h"

enum { BUCKET_FLOATS = 1 << 20 }; // at least, but in the first

typedef struct {
    int count;
    size_t* first;   // (count + 1): where each begins in a flat buffer, in order, and the end of the last
    int* of_segment; // (L + 2): which front, each block and back are in
} Buckets;

static inline Buckets buckets_of(const ParameterTable* table) {
    int segments = table->blocks + 2, last = 0; // numbered from the back, at first
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

// Of a slice, the i-th of so many parts
static inline Slice part_of(Slice whole, int parts, int i) {
    size_t count = whole.end - whole.first, n = (size_t)parts, k = (size_t)i;
    return (Slice){whole.first + count * k / n, whole.first + count * (k + 1) / n};
}

// ---- Granules of bucket b, counted from its first

static inline Slice all_granules(const Buckets* buckets, int b) {
    return (Slice){0, granules_of(buckets->first[b + 1] - buckets->first[b])};
}

// What the ranks on a node that are number j there have together
static inline Slice granules_of_number(const Buckets* buckets, int b, int j) {
    return part_of(all_granules(buckets, b), ranks.per_node, j);
}

static inline Slice granules_at(const Buckets* buckets, int b, int place) {
    return part_of(granules_of_number(buckets, b, place % ranks.per_node), ranks_nodes(), place / ranks.per_node);
}

// Where they lie in a flat buffer
static inline Slice floats_of(const Buckets* buckets, int b, Slice granules) {
    size_t first = buckets->first[b], end = buckets->first[b + 1];
    Slice floats = {first + granules.first * GRANULE_FLOATS, first + granules.end * GRANULE_FLOATS};
    return (Slice){floats.first < end ? floats.first : end, floats.end < end ? floats.end : end};
}

static inline size_t length_of(Slice slice) { return slice.end - slice.first; }
