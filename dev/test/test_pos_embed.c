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
    CHECK(adapt_pos_embed(out, &own, values, (int64_t[]){1, old_N, C}, 3, note), "%d to %d", old_side, new_side);
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

static void test_refusals(void) {
    float values[200] = {0}, out[200];
    char note[128];
    NamedTensor own = positions(17, 4), other = own;
    strcpy(other.name, "head.weight");
    CHECK(!adapt_pos_embed(out, &own, values, (int64_t[]){1, 5, 8}, 3, note), "another width");
    CHECK(!adapt_pos_embed(out, &own, values, (int64_t[]){1, 7, 4}, 3, note), "7 tokens are no square grid");
    CHECK(!adapt_pos_embed(out, &own, values, (int64_t[]){5, 4}, 2, note), "another rank");
    CHECK(!adapt_pos_embed(out, &other, values, (int64_t[]){1, 5, 4}, 3, note), "another tensor");
}

int main(void) {
    for (int tokens = 0; tokens < 4; tokens++) {
        check_resize(3, tokens & 1, 5, tokens >> 1, three_to_five);
        check_resize(5, tokens & 1, 3, tokens >> 1, five_to_three);
    }
    test_plane();
    test_refusals();
    return tests_finish();
}
