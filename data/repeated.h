// Repeated augmentation (Hoffer et al., arXiv 1901.09335; as DeiT samples): every image of an epoch's permutation
// appears `repeats` times in a row, and replica k of R takes positions k, k + R, k + 2R... An epoch keeps its length,
// so about N / repeats images are seen, each `repeats` times.
#pragma once
#include <stdint.h>

// How many one of `replicas` visits in an epoch of N images: its share of N rounded down to a multiple of `round`, as
// timm does with 256; round 0: its share of N, rounded up, as timm does from 1.0.31 on where N is below 256
static inline int64_t repeated_count(int64_t N, int replicas, int round) {
    return round > 0 ? N / round * round / replicas : (N + replicas - 1) / replicas;
}

// Place in the permutation of what replica `rank` visits as its i-th. If the replicas cannot share evenly, the rest is
// filled up from the beginning.
static inline int64_t repeated_place(int64_t i, int64_t N, double repeats, int replicas, int rank) {
    int64_t position = rank + i * replicas, positions = (int64_t)(N * repeats);
    positions += positions < N * repeats;
    return (int64_t)((double)(position % positions) / repeats);
}
