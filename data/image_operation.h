// One operation of those that timm's policies are made of, with all that was drawn for it: 16 bytes, to be part of an
// image's draw. data/rand_augment.h and data/color_jitter.h draw them; here they are applied.
#pragma once
#include "../runtime/choices.h"
#include "affine.h"
#include "image_ops.h"

// The fifteen of RandAugment first, in timm's order: X(constant, timm's name, its name in the increasing set)
#define RAND_OPERATIONS(X) \
    X(OPERATION_AUTO_CONTRAST, "AutoContrast", "AutoContrast") \
    X(OPERATION_EQUALIZE, "Equalize", "Equalize") \
    X(OPERATION_INVERT, "Invert", "Invert") \
    X(OPERATION_ROTATE, "Rotate", "Rotate") \
    X(OPERATION_POSTERIZE, "Posterize", "PosterizeIncreasing") \
    X(OPERATION_SOLARIZE, "Solarize", "SolarizeIncreasing") \
    X(OPERATION_SOLARIZE_ADD, "SolarizeAdd", "SolarizeAdd") \
    X(OPERATION_COLOR, "Color", "ColorIncreasing") \
    X(OPERATION_CONTRAST, "Contrast", "ContrastIncreasing") \
    X(OPERATION_BRIGHTNESS, "Brightness", "BrightnessIncreasing") \
    X(OPERATION_SHARPNESS, "Sharpness", "SharpnessIncreasing") \
    X(OPERATION_SHEAR_X, "ShearX", "ShearX") \
    X(OPERATION_SHEAR_Y, "ShearY", "ShearY") \
    X(OPERATION_TRANSLATE_X, "TranslateXRel", "TranslateXRel") \
    X(OPERATION_TRANSLATE_Y, "TranslateYRel", "TranslateYRel")
#define IMAGE_OPERATIONS(X) RAND_OPERATIONS(X) X(OPERATION_HUE, "Hue", "Hue")
typedef enum { IMAGE_OPERATIONS(CHOICE_CONSTANT) IMAGE_OPERATION_KINDS } ImageOperationKind;
enum { RAND_OPERATION_KINDS = OPERATION_HUE };

typedef struct {
    ImageOperationKind kind;
    AffineFilter filter;  // of the geometric ones
    double argument;      // degrees; bits kept; threshold; addend; factor; fraction of the side or, for hue, the circle
} ImageOperation;

// Bytes that any operation may need beside the image
static inline size_t operation_scratch(int height, int width) {
    return affine_scratch(height, width); // more than the copy of a plane that sharpness wants
}

static inline void apply_to_channels(RgbImage image, LevelTable (*table_of)(const uint8_t*, size_t)) {
    for (int c = 0; c < 3; c++) {
        LevelTable table = table_of(image_plane(image, c), plane_bytes(image));
        apply_table(image_plane(image, c), plane_bytes(image), &table);
    }
}

static inline void apply_to_all(RgbImage image, LevelTable table) {
    apply_table(image.pixels, 3 * plane_bytes(image), &table);
}

static inline AffineMap operation_map(ImageOperation op, int H, int W) {
    switch (op.kind) {
        case OPERATION_ROTATE: return rotation_map(op.argument, H, W);
        case OPERATION_SHEAR_X: return shear_x_map(op.argument);
        case OPERATION_SHEAR_Y: return shear_y_map(op.argument);
        case OPERATION_TRANSLATE_X: return translate_x_map(op.argument, W);
        default: return translate_y_map(op.argument, H);
    }
}

static inline void apply_geometry(RgbImage image, ImageOperation op, const uint8_t fill[3], void* scratch) {
    if (op.kind == OPERATION_ROTATE) {
        rotate_image(image, op.argument, op.filter, fill, scratch);
        return;
    }
    AffineMap map = operation_map(op, image.height, image.width);
    transform_image(image, &map, op.filter, fill, scratch);
}

// fill: what geometric operations leave open. scratch: operation_scratch bytes, aligned for 32-bit words
static inline void apply_operation(RgbImage image, ImageOperation op, const uint8_t fill[3], void* scratch) {
    float factor = (float)op.argument;
    switch (op.kind) {
        case OPERATION_AUTO_CONTRAST: apply_to_channels(image, autocontrast_table); break;
        case OPERATION_EQUALIZE: apply_to_channels(image, equalize_table); break;
        case OPERATION_INVERT: apply_to_all(image, invert_table()); break;
        case OPERATION_POSTERIZE: apply_to_all(image, posterize_table((int)op.argument)); break;
        case OPERATION_SOLARIZE: apply_to_all(image, solarize_table((int)op.argument)); break;
        case OPERATION_SOLARIZE_ADD: apply_to_all(image, solarize_add_table((int)op.argument)); break;
        case OPERATION_COLOR: blend_with_luma(image, factor); break;
        case OPERATION_CONTRAST: apply_to_all(image, blend_table(mean_luma(image), factor)); break;
        case OPERATION_BRIGHTNESS: apply_to_all(image, blend_table(0, factor)); break;
        case OPERATION_SHARPNESS: blend_with_smoothed(image, factor, (uint8_t*)scratch); break;
        case OPERATION_HUE: shift_hue(image, op.argument); break;
        case OPERATION_ROTATE: case OPERATION_SHEAR_X: case OPERATION_SHEAR_Y: case OPERATION_TRANSLATE_X:
        case OPERATION_TRANSLATE_Y: apply_geometry(image, op, fill, scratch); break;
        case IMAGE_OPERATION_KINDS: break;
    }
}

// What is drawn for an image, in the order of application
enum { MAX_OPERATIONS = 13 };
typedef struct {
    int count;
    ImageOperation operation[MAX_OPERATIONS];
} OperationList;

static inline void add_operation(OperationList* list, ImageOperation op) { list->operation[list->count++] = op; }

static inline void apply_operations(RgbImage image, const OperationList* list, const uint8_t fill[3], void* scratch) {
    for (int i = 0; i < list->count; i++) { apply_operation(image, list->operation[i], fill, scratch); }
}
