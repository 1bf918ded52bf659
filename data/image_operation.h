// One of the operations that timm's policies consist of, with all that was drawn for it: 16 bytes, part of an image's
// draw. data/rand_augment.h and data/color_jitter.h draw them, data/apply_operation.h applies them.
#pragma once
#include "../runtime/choices.h"
#include "../runtime/random.h"

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

HOST_DEVICE static inline int is_geometric(ImageOperationKind kind) {
    return kind == OPERATION_ROTATE || (kind >= OPERATION_SHEAR_X && kind <= OPERATION_TRANSLATE_Y);
}

typedef enum { AFFINE_NEAREST, AFFINE_BILINEAR, AFFINE_BICUBIC } AffineFilter;

typedef struct {
    ImageOperationKind kind;
    AffineFilter filter;  // of the geometric ones
    double argument;      // degrees; bits kept; threshold; addend; factor; fraction of the side or, for hue, the circle
} ImageOperation;

// In the order of application
enum { MAX_OPERATIONS = 13 };
typedef struct {
    int count;
    ImageOperation operation[MAX_OPERATIONS];
} OperationList;

static inline void add_operation(OperationList* list, ImageOperation op) { list->operation[list->count++] = op; }
