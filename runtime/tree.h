// The order in which the gradients of a step's A micro-batches are added: that of one binary tree, whichever ranks
// compute and add them, so that the sum has the same bits on any number of ranks.
//
//     node(0, i) = leaf i            node(k, i) = node(k-1, 2i) + node(k-1, 2i+1)
//
// With A = 2^k1 + 2^k2 + ..., k1 > k2 > ..., the total is N1 + (N2 + (N3 + ...)), N1 the node of the first 2^k1 leaves.
//
// A piece is the sum of a node's leaves. A rank with several consecutive leaves adds them like a binary counter: pieces
// are on a stack, and a new one merges with the top while that is its left sibling. The largest pieces of these leaves
// remain on the stack. Pieces of adjacent ranges are pushed in the same way by the rank that has them all, and only
// when all A leaves are in is the stack folded from the right. This file determines which pieces merge; the caller adds
// the sums:
//
//     for (int merges = pieces_push(&s, piece); merges > 0; merges--) { sum = pop() + sum; }     push(sum)
#pragma once
#include <stdbool.h>

enum { TREE_LEAVES = 4096, TREE_PIECES = 24 }; // at most, and the most pieces that consecutive leaves have

typedef struct { int first, count; } Piece; // leaves first ... first + count - 1; count is a power of 2 dividing first

typedef struct {
    Piece piece[TREE_PIECES + 1]; // in the order of their leaves
    int count;
} Pieces;

static inline bool piece_is_sibling(Piece left, Piece right) {
    return left.count == right.count && left.first + left.count == right.first && left.first % (2 * left.count) == 0;
}

// Returns the number of pieces from the top that p merges with, one after the other.
static inline int pieces_push(Pieces* s, Piece p) {
    int merges = 0;
    for (; s->count > 0 && piece_is_sibling(s->piece[s->count - 1], p); merges++) {
        p = (Piece){s->piece[--s->count].first, 2 * p.count};
    }
    s->piece[s->count++] = p;
    return merges;
}

// The largest pieces of `count` consecutive leaves
static inline Pieces pieces_of(int first, int count) {
    Pieces s = {0};
    for (int i = first; i < first + count; i++) { pieces_push(&s, (Piece){i, 1}); }
    return s;
}

// The most pieces at any time while the leaves are added one by one, not counting the leaf added last
static inline int pieces_waiting(int first, int count) {
    Pieces s = {0};
    int most = 0;
    for (int i = first; i < first + count; i++) {
        pieces_push(&s, (Piece){i, 1});
        if (i + 1 == first + count) { s.count--; } // it need not be stored
        most = s.count > most ? s.count : most;
    }
    return most;
}
