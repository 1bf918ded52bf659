// augment.cuh against data/augment.h: shifts beyond every edge, mirrored images, one channel and three, mixup, cutmix and
// neither, odd batches.
#include "../../kernels/augment.cuh"
#include "kernel_test.cuh"

// Seen in fp32 and bf16:
static const Limits VALUES = {1e-6, 4e-3};

static const float MEAN[3] = {0.49f, 0.48f, 0.45f}, STD[3] = {0.25f, 0.24f, 0.26f};

template <class X> static void test_images(int B, int channels, int S, BatchMix mix) {
    const int count = 7;
    std::vector<uint8_t> pixels((size_t)count * channels * S * S);
    for (size_t i = 0; i < pixels.size(); i++) { pixels[i] = (uint8_t)(i * 2654435761u >> 13); }
    Floats out((size_t)B * 3 * S * S);
    std::vector<ImageDraw> draws;
    for (int b = 0; b < B; b++) {
        ImageDraw draw = {b * 3 % count, b * 5 % 9 - 4, b * 7 % 9 - 4, b % 2};
        draws.push_back(draw);
        cpu.prepare_image(&out[(size_t)b * 3 * S * S], &pixels[draw.image * channels * S * S], channels, S, draw.top,
                          draw.left, draw.mirrored, MEAN, STD);
    }
    const int box[4] = {mix.top, mix.left, mix.height, mix.width};
    cpu.mix_images(out.data(), mix.cutmix, mix.lambda, box, B, S);

    DeviceArray<uint8_t> d_pixels(pixels);
    DeviceArray<ImageDraw> d_draws(draws);
    Device<X> d_out(out.size());
    DeviceImages images = {d_pixels, channels, S, {}, {}};
    for (int c = 0; c < 3; c++) {
        images.gain[c] = 1 / (255 * STD[c]);
        images.offset[c] = -MEAN[c] / STD[c];
    }
    augment_images<X>(d_out, images, d_draws, mix, B, 0);
    check<X>("augment_images", d_out, out, VALUES);
}

static void test_targets(int B, int K, float lambda, float smoothing) {
    std::vector<int> labels;
    for (int b = 0; b < B; b++) { labels.push_back(b * b % K); }
    Floats targets((size_t)B * K);
    DeviceArray<int> d_labels(labels);
    Device<float> d_targets(targets.size());
    cpu.mix_targets(targets.data(), labels.data(), lambda, smoothing, B, K);
    mix_targets(d_targets, d_labels, lambda, smoothing, B, K, 0);
    check<float>("mix_targets", d_targets, targets, VALUES);
}

template <class X> static void test_storage() {
    static const BatchMix none = {1, 0, 0, 0, 0, 0}, mixup = {0.3f, 0, 0, 0, 0, 0}, cutmix = {0.8f, 1, 3, 5, 9, 7};
    test_images<X>(1, 3, 8, none);
    test_images<X>(9, 3, 17, none);
    test_images<X>(5, 1, 28, mixup);
    test_images<X>(8, 3, 16, mixup);
    test_images<X>(5, 3, 16, cutmix);
}

int main(int argc, char** argv) {
    test_storage<float>();
    test_storage<bf16>();
    test_targets(1, 2, 1, 0);
    test_targets(7, 10, 0.3f, 0.1f);
    return kernel_tests_finish(argc, argv);
}
