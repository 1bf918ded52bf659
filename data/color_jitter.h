// Colour jitter as torchvision has it: brightness, contrast, saturation and hue changed by random factors, the four in
// a random order. brightness, contrast, saturation v: a factor of U(max(0, 1-v), 1+v); hue v: of U(-v, v). 0: left
// out. Grey scale, with a probability of its own, is saturation 0; it comes last.
//
// timm jitters only if there is no RandAugment, unless told otherwise.
#pragma once
#include "rand_augment.h"

typedef struct {
    float brightness, contrast, saturation, hue;
    float probability;  // that an image is jittered at all
    float grey;         // probability of grey scale
} ColorJitter;

enum { JITTERS = 4, JITTER_ORDERS = 24 };

// The `which`-th of the orders of four
static inline void jitter_order(int order[JITTERS], uint32_t which) {
    for (int i = 0; i < JITTERS; i++) { order[i] = i; }
    for (int left = JITTERS; left > 1; which /= (uint32_t)left--) {
        int pick = (int)(which % (uint32_t)left), swap = order[left - 1];
        order[left - 1] = order[pick];
        order[pick] = swap;
    }
}

static inline float draw_between(double low, double high, uint32_t word) {
    return (float)(low + (high - low) * uniform_from(word) * unknown_one());
}

static inline void draw_color_jitter(OperationList* list, const ColorJitter* j, ImageKey key) {
    static const ImageOperationKind kinds[JITTERS] = {OPERATION_BRIGHTNESS, OPERATION_CONTRAST, OPERATION_COLOR,
                                                      OPERATION_HUE};
    const float strengths[JITTERS] = {j->brightness, j->contrast, j->saturation, j->hue};
    Random4 choice = operation_draw(key, DRAW_JITTER), factors = operation_draw(key, DRAW_JITTER_FACTORS);
    int order[JITTERS];
    jitter_order(order, random_below(JITTER_ORDERS, choice.word[1]));
    for (int i = 0; i < JITTERS && uniform_from(choice.word[0]) < j->probability; i++) {
        int k = order[i];
        double v = strengths[k], middle = kinds[k] == OPERATION_HUE ? 0 : 1, low = middle - v;
        if (kinds[k] != OPERATION_HUE && low < 0) { low = 0; }
        if (v <= 0) { continue; }
        add_operation(list, (ImageOperation){kinds[k], AFFINE_NEAREST, draw_between(low, middle + v, factors.word[k])});
    }
    if (uniform_from(choice.word[2]) < j->grey) {
        add_operation(list, (ImageOperation){OPERATION_COLOR, AFFINE_NEAREST, 0});
    }
}
