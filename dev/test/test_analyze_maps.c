// dev/analyze/map_numbers.h: entropy, shares, masks, upsampling, and position against content, of maps for which they
// are known.
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../analyze/map_numbers.h"
#include "kernel_test.h"

static void test_entropy(void) {
    float even[8], one[8] = {0, 0, 3, 0}, half[4] = {0.5f, 0, -0.5f, 0}, zero[3] = {0};
    for (int i = 0; i < 8; i++) { even[i] = i % 2 ? 0.1f : -0.1f; }
    CHECK_NEAR(map_entropy(even, 8), log(8), 1e-12, "entropy of equal masses");
    CHECK_NEAR(map_entropy(one, 8), 0, 0, "entropy of one");
    CHECK_NEAR(map_entropy(half, 4), log(2), 1e-12, "entropy of two");
    CHECK_NEAR(map_entropy(zero, 3), 0, 0, "entropy of none");
    CHECK_NEAR(map_negative_share(even, 8), 0.5, 1e-12, "negative share of half");
    CHECK_NEAR(map_negative_share(one, 8), 0, 0, "negative share of a positive map");
    CHECK_NEAR(map_negative_share(zero, 3), 0, 0, "negative share of none");
}

static void test_regions(void) {
    float map[6] = {4, -9, 1, 3, 2, 0}, inside[6] = {1, 1, 0, 0.5f, 0, 1};
    bool mask[6];
    CHECK_NEAR(map_inside_share(map, inside, 6), (4 + 1.5) / 10, 1e-12, "share inside");
    CHECK(isnan(map_inside_share(map + 1, inside, 1)), "what nothing is positive of has a share inside");
    map_mass_mask(mask, map, 0.65, 6); // 4 and 3 hold 0.7
    CHECK(mask[0] && mask[3] && !mask[1] && !mask[2] && !mask[4] && !mask[5], "the mask of 65 %% is not {4, 3}");
    map_mass_mask(mask, map, 1, 6);
    CHECK(mask[0] && !mask[1] && mask[2] && mask[3] && mask[4] && !mask[5], "the mask of all is not what is positive");
    map_mass_mask(mask, map + 1, 0.5, 1);
    CHECK(!mask[0], "a negative patch is in the mask");
}

// Bilinear interpolation keeps a linear function, but at the edges, and constants; at the same size it is the identity.
static void test_upsample(void) {
    enum { SIDE = 4, S = 20 };
    float map[SIDE * SIDE], out[S * S], same[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) { map[i] = (float)(i / SIDE) + 10 * (float)(i % SIDE); }
    map_upsample(out, map, SIDE, S);
    map_upsample(same, map, SIDE, SIDE);
    double worst = 0;
    for (int i = 0; i < S * S; i++) {
        double y = fmin(fmax((i / S + 0.5) / 5 - 0.5, 0), 3), x = fmin(fmax((i % S + 0.5) / 5 - 0.5, 0), 3);
        worst = fmax(worst, fabs(out[i] - (y + 10 * x)));
    }
    CHECK_NEAR(worst, 0, 1e-5, "a linear map, upsampled");
    CHECK(memcmp(map, same, sizeof map) == 0, "at its own size a map changes");
    CHECK(out[0] == map[0] && out[S * S - 1] == map[SIDE * SIDE - 1], "the corners are not the map's");
}

// w_i(x) = 1/E + p_i + c_i(x) with deviations P and C: the shares of P^2 and C^2
static PositionContent decomposition(double P, double C, int images) {
    enum { E = 400 };
    static float map[E];
    MapVariance v = map_variance_create(E);
    for (int x = 0; x < images; x++) {
        for (int i = 0; i < E; i++) {
            map[i] = (float)(1.0 / E + P * random_normal(4, STREAM_CHECK, 1, i)
                             + C * random_normal(4, STREAM_CHECK, 2, (uint64_t)x * E + i));
        }
        map_variance_add(&v, map);
    }
    PositionContent p = position_content(&v);
    map_variance_free(&v);
    return p;
}

static void test_position(void) {
    PositionContent p = decomposition(3, 1, 50);
    CHECK_NEAR(p.content, 1, 0.05, "content"); // 400 * 50 draws: 1 %
    CHECK_NEAR(p.position, 9, 1.5, "position"); // 400 draws: 7 %
    CHECK_NEAR(p.share, 0.9, 0.03, "share of position");
    p = decomposition(1, 0, 10);
    CHECK_NEAR(p.share, 1, 1e-6, "share of position where all images have the same map");
    p = decomposition(0, 1, 4); // the mean of 4 images varies by 1/4: it is taken off
    CHECK(p.share < 0.03, "share of position %g where there is none", p.share);
    CHECK(isnan(decomposition(0, 0, 5).share), "a constant map has a share");
    CHECK_NEAR(decomposition(1, 1, 1).content, 0, 0, "content of one image");
}

int main(void) {
    test_entropy();
    test_regions();
    test_upsample();
    test_position();
    return tests_finish();
}
