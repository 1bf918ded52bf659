// Learned positions (1, N, C) from a file whose tokens differ from the model's: another image size, a class token
// before the patches or none, and tokens that the model does not have (a distillation token, registers). The grid of
// patches is resized like an image of C channels, as timm's resample_abs_pos_embed does (bicubic with antialiasing, in
// float); the class token's position is kept, and those of tokens that the model does not have are left out.
//     out[y][x] = Σ_ij w_yi w_xj in[i][j],  w_yi = f((i + ½ - c_y) / max(s, 1)) normalised over i,  c_y = (y + ½) s
// with s = old side / new side and f Keys' cubic, a = -½.
#pragma once
#include "../data/resample.h"
#include "../runtime/name_prefix.h"

// Side of a square grid of so many patches; 0: they do not make one
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

// The tokens before the patches in a file's model
typedef struct { bool class_token; int others; } PrefixTokens;

static inline PrefixTokens prefix_tokens(const SafeTensors* file, const char* prefix) {
    static const char* const others[] = {"dist_token", "reg_token", "register_tokens"};
    PrefixTokens tokens = {find_prefixed(file, prefix, "cls_token") != NULL, 0};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        const SafeTensor* token = find_prefixed(file, prefix, others[i]); // (1, how many, C)
        if (token && token->rank == 3 && token->shape[1] < 1024) { tokens.others += (int)token->shape[1]; }
    }
    return tokens;
}

// What the positions are for: `prefix` tokens, then side x side patches. side 0: they make no such grid
typedef struct { int prefix, side; } PositionLayout;

// All tokens before the patches may have positions, or the class token alone, or none (timm's no_embed_class). If
// several readings are possible, the one with the model's own grid is preferred, then the one with most tokens.
static inline PositionLayout position_layout(int64_t positions, PrefixTokens tokens, int own_side) {
    const int prefixes[] = {tokens.class_token + tokens.others, tokens.class_token, 0, 1};
    PositionLayout layout = {0, 0};
    for (int i = 3; i >= 0; i--) {
        int side = positions > prefixes[i] ? grid_side(positions - prefixes[i]) : 0;
        bool settled = layout.side && layout.side == own_side;
        if (side && !settled) { layout = (PositionLayout){prefixes[i], side}; }
    }
    return layout;
}

// The model itself has positions for a class token and the patches, or for the patches alone.
static inline PositionLayout own_layout(const NamedTensor* own) {
    int token = grid_side(own->shape[1]) ? 0 : 1;
    return (PositionLayout){token, grid_side(own->shape[1] - token)};
}

static inline bool is_positions(const NamedTensor* own, const SafeTensor* stored) {
    return strcmp(own->name, "pos_embed") == 0 && stored->rank == 3 && stored->shape[0] == 1 &&
           stored->shape[2] == own->shape[2] && stored->shape[1] < 1 << 30;
}

// Whether the model computes the same with these positions: they lack only the class token's, which is then 0.
static inline bool positions_equivalent(const NamedTensor* own, const SafeTensor* stored, PrefixTokens tokens) {
    if (!is_positions(own, stored) || tokens.others || !tokens.class_token) { return false; }
    PositionLayout to = own_layout(own), from = position_layout(stored->shape[1], tokens, to.side);
    return to.prefix == 1 && from.prefix == 0 && from.side == to.side;
}

static inline void describe_positions(PositionLayout from, PositionLayout to, int left_out, char note[128]) {
    int used = from.side == to.side
        ? snprintf(note, 128, "positions of %dx%d patches kept", to.side, to.side)
        : snprintf(note, 128, "resized from %dx%d to %dx%d patches", from.side, from.side, to.side, to.side);
    if (left_out) {
        snprintf(note + used, 128 - (size_t)used, ", %d other token%s left out", left_out, left_out > 1 ? "s" : "");
    }
}

// Sets the model's positions from the file's values, and describes in note what became of them; false: they make no
// grid
static inline bool adapt_positions(float* out, const NamedTensor* own, const float* values, int64_t positions,
                                   PrefixTokens tokens, char note[128]) {
    int C = (int)own->shape[2];
    PositionLayout to = own_layout(own), from = position_layout(positions, tokens, to.side);
    if (!from.side || !to.side) { return false; }
    const float* patches = values + (size_t)from.prefix * C;
    int first_is_class = from.prefix && (tokens.class_token || !tokens.others);
    if (to.prefix && first_is_class) { memcpy(out, values, (size_t)C * sizeof(float)); }
    if (to.prefix && !from.prefix && tokens.class_token) { memset(out, 0, (size_t)C * sizeof(float)); }
    if (from.side == to.side) {
        memcpy(out + (size_t)to.prefix * C, patches, (size_t)to.side * to.side * C * sizeof(float));
    } else {
        resize_grid(out + (size_t)to.prefix * C, to.side, patches, from.side, C);
    }
    describe_positions(from, to, from.prefix - first_is_class, note);
    return true;
}
