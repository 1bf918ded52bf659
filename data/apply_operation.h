// Operations on one image, in place: calls those of data/image_levels.h and data/affine.h by kind.
#pragma once
#include "affine.h"
#include "image_levels.h"

// Bytes that any operation may need beside the image
static inline size_t operation_scratch(int height, int width) {
    return affine_scratch(height, width); // more than the copy of a plane that sharpness needs
}

// fill: the colour of what geometric operations leave open. scratch: operation_scratch bytes, aligned for 32-bit words
static inline void apply_operation(RgbImage image, ImageOperation op, const uint8_t fill[3], void* scratch) {
    if (is_table(op.kind)) {
        apply_tables(image, op);
    } else if (op.kind == OPERATION_COLOR) {
        blend_with_luma(image, (float)op.argument);
    } else if (op.kind == OPERATION_SHARPNESS) {
        blend_with_smoothed(image, (float)op.argument, (uint8_t*)scratch);
    } else if (op.kind == OPERATION_HUE) {
        shift_hue(image, op.argument);
    } else {
        AffineMap map = operation_map(op, image.height, image.width);
        transform_image(image, &map, op.filter, fill, scratch);
    }
}

static inline void apply_operations(RgbImage image, const OperationList* list, const uint8_t fill[3], void* scratch) {
    for (int i = 0; i < list->count; i++) { apply_operation(image, list->operation[i], fill, scratch); }
}
