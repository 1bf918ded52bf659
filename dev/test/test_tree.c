// runtime/tree.h: whoever adds the leaves, one root comes out. In the place of + stands a hash that knows its left from
// its right, so that any other order, or any other bracket, gives another root. model/gradient_sum.h: the same of
// floats.
#include "../../model/gradient_sum.h"
#include "../../runtime/random.h"
#include "test.h"
#include <stdint.h>

enum { MOST = 40, FLOATS = 100 };

typedef struct { Pieces pieces; uint64_t sum[TREE_PIECES + 1]; } Stack;

static uint64_t leaf(int i) { return 0x9e3779b97f4a7c15u * (uint64_t)(i + 1); }

static uint64_t plus(uint64_t left, uint64_t right) {
    uint64_t h = (left ^ (left >> 29)) * 0xbf58476d1ce4e5b9u + (right ^ (right >> 31)) * 0x94d049bb133111ebu;
    return h ^ (h >> 32);
}

static void push(Stack* s, Piece piece, uint64_t sum) {
    int top = s->pieces.count;
    for (int merges = pieces_push(&s->pieces, piece); merges > 0; merges--) { sum = plus(s->sum[--top], sum); }
    s->sum[s->pieces.count - 1] = sum;
}

static void push_all(Stack* s, const Stack* from) {
    for (int i = 0; i < from->pieces.count; i++) { push(s, from->pieces.piece[i], from->sum[i]); }
}

static uint64_t fold(const Stack* s) {
    uint64_t sum = s->sum[s->pieces.count - 1];
    for (int i = s->pieces.count - 2; i >= 0; i--) { sum = plus(s->sum[i], sum); }
    return sum;
}

// As the tree is defined: the node of the first 2^k leaves, then the rest
static uint64_t node(int first, int count) {
    return count == 1 ? leaf(first) : plus(node(first, count / 2), node(first + count / 2, count / 2));
}

static uint64_t defined(int first, int count) {
    int largest = 1;
    while (2 * largest <= count) { largest *= 2; }
    return largest == count ? node(first, count)
                            : plus(node(first, largest), defined(first + largest, count - largest));
}

// What a rank makes of its leaves
static Stack rank_pieces(int first, int end) {
    Stack s = {0};
    for (int i = first; i < end; i++) { push(&s, (Piece){i, 1}, leaf(i)); }
    return s;
}

// R ranks on nodes of so many ranks each, the last with fewer: each node merges its ranks' pieces, one rank all nodes'
static uint64_t on_ranks(int A, int R, int per_node) {
    Stack all = {0};
    for (int p = 0; p < R; p += per_node) {
        Stack of_node = {0};
        for (int q = p; q < p + per_node && q < R; q++) {
            Stack own = rank_pieces(A * q / R, A * (q + 1) / R);
            push_all(&of_node, &own);
        }
        push_all(&all, &of_node);
    }
    return fold(&all);
}

// Nodes of unlike numbers of ranks: a node ends behind rank p where bit p of `ends` is set
static uint64_t on_unlike_nodes(int A, int R, unsigned ends) {
    Stack all = {0}, of_node = {0};
    for (int p = 0; p < R; p++) {
        Stack own = rank_pieces(A * p / R, A * (p + 1) / R);
        push_all(&of_node, &own);
        if (p == R - 1 || ends >> p & 1) {
            push_all(&all, &of_node);
            of_node = (Stack){0};
        }
    }
    return fold(&all);
}

static void test_one_root(void) {
    for (int A = 1; A <= MOST; A++) {
        uint64_t root = defined(0, A);
        for (int R = 1; R <= A; R++) {
            int wrong = 0;
            for (int per_node = 1; per_node <= R; per_node++) { wrong += on_ranks(A, R, per_node) != root; }
            CHECK(wrong == 0, "%d leaves on %d ranks: %d splits into nodes have another root", A, R, wrong);
        }
    }
    for (int A = 1; A <= 12; A++) {
        for (int R = 1; R <= A; R++) {
            int wrong = 0;
            for (unsigned ends = 0; ends < 1u << (R - 1); ends++) {
                wrong += on_unlike_nodes(A, R, ends) != defined(0, A);
            }
            CHECK(wrong == 0, "%d leaves on %d ranks: %d splits into unlike nodes have another root", A, R, wrong);
        }
    }
}

// The test can fail: orders that are not the tree's have other roots
static void test_other_orders(void) {
    uint64_t in_a_row = leaf(0);
    for (int i = 1; i < 4; i++) { in_a_row = plus(in_a_row, leaf(i)); }
    CHECK(in_a_row != defined(0, 4), "a sum from left to right is not the tree's");
    Stack left = rank_pieces(0, 3), right = rank_pieces(3, 6);
    CHECK(plus(fold(&left), fold(&right)) != defined(0, 6), "nor is that of sums of halves which are no nodes");
}

static void test_pieces(void) {
    int most = 0, wrong = 0;
    for (int first = 0; first < 600; first++) {
        for (int count = 1; first + count <= 600; count++) {
            Pieces s = pieces_of(first, count);
            int at = first;
            for (int i = 0; i < s.count; i++) {
                Piece p = s.piece[i];
                wrong += p.first != at || p.first % p.count || (p.count & (p.count - 1));
                at += p.count;
            }
            wrong += at != first + count;
            most = s.count > most ? s.count : most;
        }
    }
    CHECK(wrong == 0, "%d pieces are no nodes, or leave leaves out", wrong);
    CHECK(most <= 18, "leaves in a row have %d pieces", most);
    CHECK(pieces_of(1, TREE_LEAVES - 2).count == 22, "the largest range: %d", pieces_of(1, TREE_LEAVES - 2).count);
    CHECK(pieces_of(0, 8).count == 1 && pieces_of(0, 6).count == 2 && pieces_of(3, 6).count == 3,
          "pieces of some ranges");
}

static void test_waiting(void) {
    const int want[][3] = {{0, 1, 0}, {0, 2, 1}, {0, 3, 1}, {0, 4, 2}, {0, 6, 2}, {0, 7, 2}, {0, 8, 3}, {4, 4, 2}, {3, 3, 2}};
    for (int i = 0; i < (int)(sizeof want / sizeof want[0]); i++) {
        int got = pieces_waiting(want[i][0], want[i][1]);
        CHECK(got == want[i][2], "%d leaves from %d on: %d pieces wait, not %d", want[i][1], want[i][0], got,
              want[i][2]);
    }
}

// ---- gradient_sum.h

static float gradient(int leaf, int i) {
    return random_normal(1, STREAM_CHECK, (uint32_t)leaf, (uint64_t)i) * powf(10, (float)(leaf * 7 % 5));
}

static float float_node(int first, int count, int i) {
    return count == 1 ? gradient(first, i)
                      : float_node(first, count / 2, i) + float_node(first + count / 2, count / 2, i);
}

static float float_sum(int first, int count, int i) {
    int largest = 1;
    while (2 * largest <= count) { largest *= 2; }
    float node = float_node(first, largest, i);
    return largest == count ? node : node + float_sum(first + largest, count - largest, i);
}

static void test_gradient_sum(void) {
    GradientSum s = {.n = FLOATS, .own = {0, MOST}};
    float* grads = alloc_floats(FLOATS, "test");
    int in_a_row = 0;
    for (int A = MOST; A >= 1; A--) { // with buffers in which something is left
        memset(grads, 0, FLOATS * sizeof(float));
        gradient_sum_begin(&s);
        for (int leaf = 0; leaf < A; leaf++) {
            grads = gradient_sum_next(&s, grads);
            for (int i = 0; i < FLOATS; i++) { grads[i] += gradient(leaf, i); }
        }
        gradient_sum_merge(&s, grads);
        for (int i = s.pieces.count - 2; i >= 0; i--) { add_left(grads, s.waiting[i], FLOATS); }
        int wrong = 0;
        for (int i = 0; i < FLOATS; i++) {
            float row = 0;
            for (int leaf = 0; leaf < A; leaf++) { row += gradient(leaf, i); }
            wrong += grads[i] != float_sum(0, A, i);
            in_a_row += row == grads[i];
        }
        CHECK(wrong == 0, "%d of %d sums of %d gradients are not the tree's", wrong, FLOATS, A);
    }
    CHECK(in_a_row < FLOATS * MOST / 2, "%d of %d sums tell no order: the test is too weak", in_a_row, FLOATS * MOST);
    int buffers = 0;
    while (s.waiting[buffers]) { buffers++; }
    CHECK(buffers == 5, "%d buffers for at most %d micro-batches", buffers, MOST);
    gradient_sum_free(&s);
    free(grads);
}

int main(void) {
    test_one_root();
    test_other_orders();
    test_pieces();
    test_waiting();
    test_gradient_sum();
    return tests_finish();
}
