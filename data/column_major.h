// Images whose planes are stored column by column, as by MATLAB.
#pragma once
#include <stdint.h>

// stored (planes, width, height) to out (planes, height, width), of square planes
static inline void transpose_planes(uint8_t* out, const uint8_t* stored, int planes, int side) {
    for (int p = 0; p < planes; p++, out += side * side, stored += side * side) {
        for (int y = 0; y < side; y++) {
            for (int x = 0; x < side; x++) { out[y * side + x] = stored[x * side + y]; }
        }
    }
}
