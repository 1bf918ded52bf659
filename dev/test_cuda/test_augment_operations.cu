// Every operation of RandAugment and colour jitter on the GPU (augment_operations.cuh) against the CPU, to the byte:
// lists of none to four an image, all filters, sizes that are no multiple of anything, and a pixel or two.
#include "../../kernels/augment_operations.cuh"
#include "kernel_test.cuh"
#include "../../runtime/memory.h"

static const uint8_t fill[3] = {124, 116, 104};

static uint32_t random_word(uint64_t i) { return random_bits(6, STREAM_CHECK, 1, i).word[0]; }

static ImageOperation random_operation(int i) {
    ImageOperationKind kind = (ImageOperationKind)(i % IMAGE_OPERATION_KINDS);
    double x = uniform_from(random_word((uint64_t)i)), sign = i % 3 == 0 ? -1 : 1, argument = sign * 0.45 * x;
    if (kind == OPERATION_ROTATE) { argument = i % 7 == 0 ? 90 : sign * 30 * x; }
    if (kind == OPERATION_POSTERIZE) { argument = i / IMAGE_OPERATION_KINDS % 10; }
    if (kind == OPERATION_SOLARIZE || kind == OPERATION_SOLARIZE_ADD) { argument = floor(128 * x); }
    if (kind == OPERATION_SHARPNESS || (kind >= OPERATION_COLOR && kind <= OPERATION_BRIGHTNESS)) { argument = 2 * x; }
    return ImageOperation{kind, (AffineFilter)(i / IMAGE_OPERATION_KINDS % 3), argument};
}

// Noise in any range of levels, so that histograms are not all alike
static std::vector<uint8_t> random_images(int B, size_t bytes) {
    std::vector<uint8_t> images(B * bytes);
    for (size_t i = 0; i < images.size(); i++) {
        int low = (int)(i / bytes * 37 % 100), range = 20 + (int)(i / bytes * 53 % 136);
        images[i] = (uint8_t)(low + random_word(i) % range);
    }
    return images;
}

static Floats floats_of(const std::vector<uint8_t>& bytes) { return Floats(bytes.begin(), bytes.end()); }

static void test_operations(int B, int H, int W) {
    size_t bytes = (size_t)3 * H * W;
    std::vector<uint8_t> images = random_images(B, bytes), got(B * bytes), scratch(operation_scratch(H, W));
    OperationList* lists = alloc_array(OperationList, B, "lists"); // nvcc 13.0 fails at vectors of a struct without tag
    for (int b = 0; b < B; b++) {
        lists[b].count = b % 5;
        for (int k = 0; k < lists[b].count; k++) { lists[b].operation[k] = random_operation(b * 7 + k * 13 + H); }
    }
    std::vector<DeviceOperation> operations((size_t)MAX_OPERATIONS * B);
    int rounds = operation_rounds(operations.data(), lists, B, H, W);
    DeviceArray<uint8_t> pixels(images), room(got), tables(std::vector<uint8_t>((size_t)B * 3 * LEVELS));
    DeviceArray<DeviceOperation> on_device(operations);
    uint8_t* made = apply_operations(pixels, room, tables, on_device, rounds, fill, B, H, W, 0);
    CUDA_CHECK(cudaMemcpy(got.data(), made, B * bytes, cudaMemcpyDeviceToHost));
    for (int b = 0; b < B; b++) {
        apply_operations(RgbImage{images.data() + b * bytes, H, W}, &lists[b], fill, scratch.data());
    }
    free(lists);
    check_values<float>("operations", floats_of(got), floats_of(images), Limits{0, 0});
}

int main(int argc, char** argv) {
    test_operations(80, 37, 29);
    test_operations(48, 16, 70);
    test_operations(20, 1, 5);
    test_operations(20, 2, 2);
    return kernel_tests_finish(argc, argv);
}
