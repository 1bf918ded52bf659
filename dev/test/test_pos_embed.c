// model/pos_embed.h: positions resized to another grid, against Pillow 13.0's resize((b, b), BICUBIC) of float images,
// whose filter is that of timm's antialiased bicubic interpolation.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../../model/pos_embed.h"
#include "kernel_test.h"

static float sample(int i) { return ((i * 37 + 11) % 23) / 10.0f - 1; }

static const double three_to_five[] = {
    0.211214, -0.316826, -0.943396, 0.030189, 0.748950, -0.015348, -0.081672, -0.115672, 0.265343, 0.522388, -0.405660,
    0.231343, 1.100000, 0.578358, 0.132075, -0.691045, -0.005536, 0.925373, 0.341479, -0.153309, -0.835849, -0.198845,
    0.669811, 0.148170, -0.298113};
static const double five_to_three[] = {
    -0.253846, 0.065775, 0.610604, -0.089231, 0.300692, -0.329338, 0.075385, 0.485853, -0.487527};

static NamedTensor positions(int N, int C) {
    return (NamedTensor){.name = "pos_embed", .rank = 3, .shape = {1, N, C}, .size = (size_t)N * C};
}

// Channel c of patch p is (c + 1) sample(p), the class token's is 100 + c
static void check_resize(int old_side, int old_token, int new_side, int new_token, const double* want) {
    enum { C = 7 };
    int old_N = old_side * old_side + old_token, new_N = new_side * new_side + new_token;
    float *values = guarded_floats((size_t)old_N * C), *out = guarded_floats((size_t)new_N * C);
    NamedTensor own = positions(new_N, C);
    char note[128] = "", expected[128];
    double worst = 0;
    for (int i = 0; i < old_N * C; i++) {
        int n = i / C - old_token, c = i % C;
        values[i] = n < 0 ? 100.0f + (float)c : (float)(c + 1) * sample(n);
    }
    for (int c = 0; c < C; c++) { out[c] = -5; } // the start of a class token that the file lacks
    PrefixTokens tokens = {old_token, 0};
    CHECK(adapt_positions(out, &own, values, old_N, tokens, note), "%d to %d", old_side, new_side);
    snprintf(expected, sizeof expected, "resized from %dx%d to %dx%d patches", old_side, old_side, new_side, new_side);
    CHECK(strcmp(note, expected) == 0, "the list says '%s'", note);
    for (int c = 0; c < C; c++) {
        float token = old_token ? 100.0f + (float)c : -5;
        CHECK(!new_token || out[c] == token, "class token: %g, want %g", out[c], token);
        for (int n = 0; n < new_side * new_side; n++) {
            worst = fmax(worst, fabs(out[(n + new_token) * C + c] / (c + 1) - want[n]));
        }
    }
    CHECK_NEAR(worst, 0, 2e-6, "resized positions (observed 5e-7, the digits above)");
    CHECK(guards_intact(out, (size_t)new_N * C), "sentinels");
    free(values); free(out);
}

// A constant stays, and inside a plane goes on: Keys' cubic has no error there
static void test_plane(void) {
    float in[64], out[256];
    for (int i = 0; i < 64; i++) { in[i] = 3.0f + 2 * (i / 8 + 0.5f) - (i % 8 + 0.5f); }
    resize_grid(out, 16, in, 8, 1);
    for (int y = 4; y < 12; y++) {
        for (int x = 4; x < 12; x++) {
            CHECK_NEAR(out[y * 16 + x], 3 + 2 * (y + 0.5) / 2 - (x + 0.5) / 2, 1e-5, "a plane (observed 0)");
        }
    }
    for (int i = 0; i < 64; i++) { in[i] = 3; }
    resize_grid(out, 3, in, 8, 1);
    for (int i = 0; i < 9; i++) { CHECK_NEAR(out[i], 3, 1e-6, "a constant (observed 0)"); }
}

static SafeTensor stored_positions(int rank, int64_t a, int64_t b, int64_t c) {
    return (SafeTensor){.rank = rank, .shape = {a, b, c}};
}

static void test_refusals(void) {
    float values[200] = {0}, out[200];
    char note[128];
    NamedTensor own = positions(17, 4), other = own;
    strcpy(other.name, "head.weight");
    SafeTensor good = stored_positions(3, 1, 5, 4), wide = stored_positions(3, 1, 5, 8);
    SafeTensor flat = stored_positions(2, 5, 4, 0);
    CHECK(is_positions(&own, &good), "positions");
    CHECK(!is_positions(&own, &wide), "another width");
    CHECK(!is_positions(&own, &flat), "another rank");
    CHECK(!is_positions(&other, &good), "another tensor");
    CHECK(!adapt_positions(out, &own, values, 7, (PrefixTokens){true, 0}, note), "7 tokens are no square grid");
}

// How positions are read: so many, of a model with these tokens, where the model here has this side
static void test_layouts(void) {
    static const struct { int positions; PrefixTokens tokens; int own_side, prefix, side; } cases[] = {
        {197, {true, 0}, 14, 1, 14}, {196, {false, 0}, 14, 0, 14}, {197, {false, 0}, 14, 1, 14},
        {198, {true, 1}, 14, 2, 14}, {198, {true, 1}, 24, 2, 14},    // distilled, and resized
        {196, {true, 0}, 14, 0, 14}, {196, {true, 4}, 24, 0, 14},    // no_embed_class, and with registers
        {201, {true, 4}, 14, 5, 14}, {197, {true, 4}, 14, 1, 14},    // registers with positions, and without
        {9, {true, 4}, 3, 0, 3}, {9, {true, 4}, 2, 5, 2}, {9, {true, 4}, 7, 5, 2}, // two readings
        {1, {true, 0}, 1, 0, 1}, {2, {true, 0}, 1, 1, 1}, {3, {false, 0}, 1, 0, 0}, {0, {true, 0}, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        PositionLayout got = position_layout(cases[i].positions, cases[i].tokens, cases[i].own_side);
        CHECK(got.side == cases[i].side && (!got.side || got.prefix == cases[i].prefix),
              "%d positions, %d further tokens: %d and %dx%d", cases[i].positions, cases[i].tokens.others, got.prefix,
              got.side, got.side);
    }
}

// The same grid: every kept position to the bit, whatever stands in front
static void test_same_grid(void) {
    enum { C = 5 };
    float values[30 * C], out[30 * C];
    char note[128];
    for (int i = 0; i < 30 * C; i++) { values[i] = 1.0f / (float)(i + 3); }
    for (int others = 0; others < 4; others++) {
        for (int own_token = 0; own_token < 2; own_token++) {
            NamedTensor own = positions(16 + own_token, C);
            if (others == 0 && own_token) { continue; } // the same shape
            PrefixTokens tokens = {true, others};
            const float* patches = values + (1 + others) * C;
            CHECK(adapt_positions(out, &own, values, 17 + others, tokens, note), "%d others", others);
            CHECK(memcmp(out + own_token * C, patches, 16 * C * sizeof *out) == 0, "%d others: patches", others);
            CHECK(!own_token || memcmp(out, values, C * sizeof *out) == 0, "%d others: class token", others);
            CHECK((strstr(note, "left out") != NULL) == (others > 0), "%d others: %s", others, note);
        }
    }
}

int main(void) {
    for (int tokens = 0; tokens < 4; tokens++) {
        check_resize(3, tokens & 1, 5, tokens >> 1, three_to_five);
        check_resize(5, tokens & 1, 3, tokens >> 1, five_to_three);
    }
    test_plane();
    test_refusals();
    test_layouts();
    test_same_grid();
    return tests_finish();
}
