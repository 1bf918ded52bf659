// Where activations lie in memory, for both trainers, whose tables list them: each is kept in one of these ways, in as
// much space as its block needs.
#pragma once
#include "stages.h"

typedef enum {
    ONCE,    // once: of the images, or of what comes after the blocks
    INPUTS,  // for each block and after the last: the residual stream
    ENTRIES, // for each stage: what comes before its first block
    KEPT,    // for each block
    PASSING, // one, which each block overwrites
} Keeping;

enum { ACTIVATIONS_MOST = 64 };

typedef struct {
    const char* name;
    Keeping keeping;
    size_t size;                                     // bytes of an element
    size_t of_stage[STAGES_MOST], of_last, of_end;   // elements per image: in a block of each stage, in the last
                                                     // block, after it
    size_t offset[STAGES_MOST], stride[STAGES_MOST]; // bytes, at the table's batch size: where a stage begins, and
                                                     // from one block to the next
} Activation;

// Elements per image in a block of sizes d, for every row; 0: the block has none
typedef void (*ActivationSizes)(size_t* elements, const Config* c, Dims d);

static inline size_t aligned_bytes(size_t bytes, size_t alignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

// Places the row that begins at byte `at`; returns where it ends
static inline size_t place_activation(Activation* a, Ints depths, size_t at, int B, size_t alignment) {
    size_t most = 0, last = aligned_bytes(a->of_last * a->size * (size_t)B, alignment);
    size_t end = aligned_bytes(a->of_end * a->size * (size_t)B, alignment);
    for (int s = 0; s < depths.count; s++) {
        bool is_last = s == depths.count - 1;
        a->offset[s] = at;
        a->stride[s] = aligned_bytes(a->of_stage[s] * a->size * (size_t)B, alignment);
        most = a->stride[s] > most ? a->stride[s] : most;
        if (a->keeping == ENTRIES) { at += a->stride[s]; }
        if (a->keeping == INPUTS) { at += (size_t)depths.value[s] * a->stride[s] + (is_last ? end : 0); }
        if (a->keeping == KEPT) { at += (size_t)(depths.value[s] - is_last) * a->stride[s] + (is_last ? last : 0); }
    }
    return at + (a->keeping == ONCE ? end : a->keeping == PASSING ? (most > last ? most : last) : 0);
}

// Fills in the sizes and places of so many rows; returns the bytes of all
static inline size_t place_activations(Activation* row, int rows, ActivationSizes sizes, const Config* c, Dims d, int B,
                                       size_t alignment) {
    Ints depths = stage_depths(c);
    size_t elements[ACTIVATIONS_MOST], at = 0;
    for (int s = 0, l = 0; s < depths.count; l += depths.value[s++]) {
        sizes(elements, c, dims_of_block(c, d, l));
        for (int i = 0; i < rows; i++) { row[i].of_stage[s] = elements[i]; }
    }
    sizes(elements, c, dims_of_block(c, d, d.L - 1));
    for (int i = 0; i < rows; i++) { row[i].of_last = elements[i]; }
    sizes(elements, c, dims_of_block(c, d, d.L));
    for (int i = 0; i < rows; i++) { row[i].of_end = elements[i]; }
    for (int i = 0; i < rows; i++) { at = place_activation(&row[i], depths, at, B, alignment); }
    return at;
}

static inline bool in_stages(const Activation* a) { return a->keeping != ONCE && a->keeping != PASSING; }

// Elements per image at block l of L; l = L: after the blocks; 0: there are none
static inline size_t activation_elements(const Activation* a, BlockPlace at, int l, int L) {
    if (l == L) { return in_stages(a) && a->keeping != INPUTS ? 0 : a->of_end; }
    if (!in_stages(a) || (a->keeping == ENTRIES && at.block > 0)) { return 0; }
    return a->keeping == KEPT && l == L - 1 ? a->of_last : a->of_stage[at.stage];
}

static inline bool activation_exists(const Activation* a, BlockPlace at) {
    return a->keeping == ONCE ? a->of_end > 0 : a->of_stage[at.stage] > 0 || a->of_last > 0;
}

// Bytes from the start of the buffer to the row at such a place
static inline size_t activation_offset(const Activation* a, BlockPlace at) {
    bool of_block = a->keeping == INPUTS || a->keeping == KEPT;
    return a->offset[in_stages(a) ? at.stage : 0] + (of_block ? (size_t)at.block * a->stride[at.stage] : 0);
}
