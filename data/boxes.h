// Boxes of images on their way to a GPU, which resizes, mirrors, normalises and mixes them: for each image its pixels,
// and the weights of resampling, which the host computes so that they equal the CPU's to the bit.
#pragma once
#include "../runtime/memory.h"
#include "resample.h"

// Where a box's parts lie in a block
typedef struct {
    uint64_t pixels;                    // (channels, height, width), in bytes from its start
    uint64_t across, down;              // per axis, in ints from its start: first (S), taps (S), weights (S, stride)
    uint64_t rows;                      // (channels, height, S): the horizontal pass's output, bytes from elsewhere
    int32_t across_stride, down_stride; // 0: the axis is not resampled
    int32_t height, width;
} BoxPlace;

// Memory that may be pinned, in pages of its own, because whole pages are pinned. It grows by a new block, which knows
// the older one.
typedef struct BoxBlock {
    struct BoxBlock* older;
    size_t size, used; // bytes after this header
    bool pinned;
} BoxBlock;

enum { BOX_ALIGN = 64 };
static_assert(sizeof(BoxBlock) <= BOX_ALIGN, "the header of a block");

static inline uint8_t* block_bytes(BoxBlock* b) { return (uint8_t*)b + BOX_ALIGN; }

static inline size_t box_aligned(size_t bytes) { return (bytes + BOX_ALIGN - 1) / BOX_ALIGN * BOX_ALIGN; }

// Makes space in a block for so many more bytes than it uses; its contents stay.
static inline BoxBlock* block_grown(BoxBlock* b, size_t more) {
    size_t used = b ? b->used : 0, want = used + more;
    if (b && b->size >= want) { return b; }
    BoxBlock* grown = (BoxBlock*)alloc_aligned(ALLOC_PAGE, BOX_ALIGN + want + want / 4, "a batch's boxes");
    *grown = (BoxBlock){.older = b, .size = want + want / 4, .used = used};
    if (b) { memcpy(block_bytes(grown), block_bytes(b), used); }
    return grown;
}

static inline void block_free(BoxBlock* b) {
    while (b) {
        BoxBlock* older = b->older;
        free(b);
        b = older;
    }
}

// Bytes of a box's weights along one axis, for S outputs
static inline size_t box_axis_bytes(int in, int out, int S) {
    return box_aligned(axis_part_ints(in, out, S) * sizeof(int));
}
