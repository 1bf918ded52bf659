// Learned positions (1, N, C) of another image size: the grid of N patches is resized as an image of C channels, as
// timm's resample_abs_pos_embed does (bicubic with antialiasing, in float); the class token's position is kept.
//     out[y][x] = Σ_ij w_yi w_xj in[i][j],  w_yi = f((i + ½ - c_y) / max(s, 1)) normalised over i,  c_y = (y + ½) s
// with s = old side / new side and f Keys' cubic, a = -½.
#pragma once
#include "../data/resample.h"
#include "../runtime/checkpoint.h"

// Side of a square grid of so many patches, 0 if they make none
static inline int grid_side(int64_t patches) {
    int64_t side = patches > 0 ? (int64_t)lround(sqrt((double)patches)) : 0;
    return side * side == patches ? (int)side : 0;
}

// weights (new_side, old_side): each row sums to 1
static inline void cubic_weights(double* weights, int old_side, int new_side) {
    double scale = (double)old_side / new_side, widening = fmax(scale, 1);
    for (int o = 0; o < new_side; o++) {
        double *row = weights + (size_t)o * old_side, centre = (o + 0.5) * scale, sum = 0;
        for (int i = 0; i < old_side; i++) {
            row[i] = filter_value(FILTER_BICUBIC, (i + 0.5 - centre) / widening);
            sum += row[i];
        }
        for (int i = 0; i < old_side; i++) { row[i] /= sum; }
    }
}

// out (new_side², C) from in (old_side², C)
static inline void resize_grid(float* out, int new_side, const float* in, int old_side, int C) {
    double* weights = alloc_array(double, (size_t)new_side * old_side, "resized positions");
    cubic_weights(weights, old_side, new_side);
    for (int p = 0; p < new_side * new_side; p++) {
        const double *down = weights + (size_t)(p / new_side) * old_side;
        const double *across = weights + (size_t)(p % new_side) * old_side;
        for (int c = 0; c < C; c++) {
            double sum = 0;
            for (int q = 0; q < old_side * old_side; q++) {
                double weight = down[q / old_side] * across[q % old_side];
                if (weight != 0) { sum += weight * in[(size_t)q * C + c]; }
            }
            out[(size_t)p * C + c] = (float)sum;
        }
    }
    free(weights);
}

// A TensorAdapter: pos_embed of another grid. A number of tokens that is no square has a class token in front.
static inline bool adapt_pos_embed(float* out, const NamedTensor* own, const float* values, const int64_t* shape,
                                   int rank, char note[128]) {
    bool positions = strcmp(own->name, "pos_embed") == 0 && rank == 3 && shape[0] == 1 && shape[2] == own->shape[2];
    if (!positions) { return false; }
    int C = (int)own->shape[2], old_token = grid_side(shape[1]) ? 0 : 1, new_token = grid_side(own->shape[1]) ? 0 : 1;
    int old_side = grid_side(shape[1] - old_token), new_side = grid_side(own->shape[1] - new_token);
    if (!old_side || !new_side) { return false; }
    if (old_token && new_token) { memcpy(out, values, (size_t)C * sizeof(float)); }
    resize_grid(out + (size_t)new_token * C, new_side, values + (size_t)old_token * C, old_side, C);
    snprintf(note, 128, "resized from %dx%d to %dx%d patches", old_side, old_side, new_side, new_side);
    return true;
}
