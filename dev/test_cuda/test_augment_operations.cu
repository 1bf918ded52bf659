// Every operation of RandAugment and colour jitter on the GPU (augment_operations.cuh) against the CPU, to the byte:
// all filters and both signs, lists of none to as many as there can be, sizes that are no multiple of anything, and a
// pixel or two; and, as mixing, normalising and erasing, against Pillow and timm: dev/test/augment_fixtures.txt.
#include "../../kernels/augment.cuh"
#include "../../kernels/augment_operations.cuh"
#include "kernel_test.cuh"
#include "../../runtime/memory.h"
#include "../test/augment_cases.h"

typedef std::vector<uint8_t> Bytes;

// images (B, 3, H, W) on the host, in place. captured: launched as a graph
static void operate(uint8_t* images, const OperationList* lists, const uint8_t fill[3], int B, int H, int W,
                    bool captured) {
    Bytes start(images, images + (size_t)B * 3 * H * W);
    std::vector<DeviceOperation> operations((size_t)MAX_OPERATIONS * B);
    int rounds = operation_rounds(operations.data(), lists, B, H, W);
    DeviceArray<uint8_t> pixels(start), room(start), tables(Bytes((size_t)B * 3 * LEVELS));
    DeviceArray<DeviceOperation> on_device(operations);
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t executable;
    CUDA_CHECK(cudaStreamCreate(&stream));
    if (captured) { CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal)); }
    uint8_t* made = apply_operations(pixels, room, tables, on_device, rounds, fill, B, H, W, stream);
    if (captured) {
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
        CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
        CUDA_CHECK(cudaGraphLaunch(executable, stream));
    }
    CUDA_CHECK(cudaMemcpyAsync(images, made, start.size(), cudaMemcpyDeviceToHost, stream));
    CUDA_CHECK(cudaStreamSynchronize(stream));
    if (captured) {
        CUDA_CHECK(cudaGraphExecDestroy(executable));
        CUDA_CHECK(cudaGraphDestroy(graph));
    }
    CUDA_CHECK(cudaStreamDestroy(stream));
}

// ---- against the CPU ----

static const uint8_t fill_colour_of_test[3] = {124, 116, 104};

static uint32_t random_word(uint64_t i) { return random_bits(6, STREAM_CHECK, 1, i).word[0]; }

static ImageOperation random_operation(ImageOperationKind kind, AffineFilter filter, bool negative, uint64_t i) {
    double x = uniform_from(random_word(i)), sign = negative ? -1 : 1, argument = sign * 0.45 * x;
    if (kind == OPERATION_ROTATE) { argument = i % 7 == 0 ? sign * 90 * (double)(i % 5) : sign * 180 * x; }
    if (kind == OPERATION_POSTERIZE) { argument = (double)(i % 10); }
    if (kind == OPERATION_SOLARIZE || kind == OPERATION_SOLARIZE_ADD) { argument = floor(257 * x); }
    if (kind == OPERATION_SHARPNESS || (kind >= OPERATION_COLOR && kind <= OPERATION_BRIGHTNESS)) { argument = 2 * x; }
    return ImageOperation{kind, filter, argument};
}

// Noise in any range of levels, so that histograms are not all alike
static Bytes random_images(int B, size_t bytes) {
    Bytes images(B * bytes);
    for (size_t i = 0; i < images.size(); i++) {
        int low = (int)(i / bytes * 37 % 100), range = 1 + (int)(i / bytes * 53 % 156);
        images[i] = (uint8_t)(low + random_word(i) % range);
    }
    return images;
}

static void compare_lists(const OperationList* lists, int B, int H, int W, bool captured) {
    size_t bytes = (size_t)3 * H * W;
    Bytes want = random_images(B, bytes), got = want, scratch(operation_scratch(H, W));
    operate(got.data(), lists, fill_colour_of_test, B, H, W, captured);
    for (int b = 0; b < B; b++) {
        apply_operations(RgbImage{want.data() + b * bytes, H, W}, &lists[b], fill_colour_of_test, scratch.data());
    }
    check_values<float>("operations", Floats(got.begin(), got.end()), Floats(want.begin(), want.end()), Limits{0, 0});
}

// nvcc 13.0 fails at vectors of a struct without tag
static OperationList* lists_for(int B) { return alloc_array(OperationList, B, "lists"); }

// An image for every kind, filter and sign, several times
static void test_each(int H, int W, int times) {
    int B = 0;
    OperationList* lists = lists_for(IMAGE_OPERATION_KINDS * 6 * times);
    for (int kind = 0; kind < IMAGE_OPERATION_KINDS; kind++) {
        for (int i = 0; i < 6 * times; i++) {
            lists[B].count = 0;
            add_operation(&lists[B], random_operation((ImageOperationKind)kind, (AffineFilter)(i % 3), i / 3 % 2, B));
            B++;
        }
    }
    compare_lists(lists, B, H, W, false);
    free(lists);
}

// Nearest pixels by steps of 1, each rounded: fractions of a side of 9 where x steps at once give another pixel
static void test_steps(void) {
    static const double fractions[] = {0.055555555555555497, 0.055555555555555428, 0.16666666666666655,
                                       -0.055555555555555622};
    OperationList* lists = lists_for(8);
    for (int b = 0; b < 8; b++) {
        lists[b].count = 0;
        add_operation(&lists[b], ImageOperation{b < 4 ? OPERATION_TRANSLATE_X : OPERATION_TRANSLATE_Y, AFFINE_NEAREST,
                                                fractions[b % 4]});
    }
    compare_lists(lists, 8, 9, 9, false);
    free(lists);
}

// Lists of 0..most operations
static void test_lists(int B, int H, int W, int most, bool captured) {
    OperationList* lists = lists_for(B);
    for (int b = 0; b < B; b++) {
        lists[b].count = 0;
        for (int k = 0; k < b % (most + 1); k++) {
            uint64_t i = (uint64_t)(b * MAX_OPERATIONS + k + H);
            uint32_t word = random_word(i << 32);
            ImageOperationKind kind = (ImageOperationKind)random_below(IMAGE_OPERATION_KINDS, word);
            add_operation(&lists[b], random_operation(kind, (AffineFilter)(word % 3), word / 3 % 2, i));
        }
    }
    compare_lists(lists, B, H, W, captured);
    free(lists);
}

// ---- against the fixtures ----

static void apply_on_gpu(RgbImage image, const OperationList* list, const uint8_t fill[3]) {
    operate(image.pixels, list, fill, 1, image.height, image.width, false);
}

__global__ void mix_kernel(uint8_t* x, uint8_t* y, size_t count, Mix mix, float one) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i < count) { mix_two_levels(&x[i], &y[i], mix, one); }
}

static void mix_on_gpu(uint8_t* x, uint8_t* y, size_t count, MixShares shares) {
    Mix mix = mix_none();
    mix.shares = shares;
    DeviceArray<uint8_t> own(Bytes(x, x + count)), other(Bytes(y, y + count));
    mix_kernel<<<ceil_div(count, (size_t)BLOCK), BLOCK>>>(own.data, other.data, count, mix, (float)unknown_one());
    CUDA_CHECK_LAUNCH();
    CUDA_CHECK(cudaMemcpy(x, own, count, cudaMemcpyDeviceToHost));
    CUDA_CHECK(cudaMemcpy(y, other, count, cudaMemcpyDeviceToHost));
}

__global__ void normalise_kernel(float* x, const uint8_t* levels, size_t count, double mean, double std) {
    size_t i = (size_t)blockIdx.x * BLOCK + threadIdx.x;
    if (i < count) { x[i] = normalised_level(levels[i], mean, std); }
}

static void normalise_on_gpu(float* x, const uint8_t* levels, size_t count, double mean, double std) {
    DeviceArray<uint8_t> in(Bytes(levels, levels + count));
    DeviceArray<float> out(Floats(x, x + count));
    normalise_kernel<<<ceil_div(count, (size_t)BLOCK), BLOCK>>>(out.data, in.data, count, mean, std);
    CUDA_CHECK_LAUNCH();
    CUDA_CHECK(cudaMemcpy(x, out, count * sizeof(float), cudaMemcpyDeviceToHost));
}

// x (3, H, W)
__global__ void erase_kernel(float* x, int H, int W, Erasures e) {
    int i = blockIdx.x * BLOCK + threadIdx.x, channel = i / (H * W);
    for (int k = 0; k < e.count && channel < 3; k++) {
        if (inside(e.box[k], i / W % H, i % W)) { x[i] = erased_level(&e, k, channel, i); }
    }
}

static void erase_on_gpu(float* x, int H, int W, const Erasures* e) {
    size_t count = (size_t)3 * H * W;
    DeviceArray<float> out(Floats(x, x + count));
    erase_kernel<<<ceil_div(count, (size_t)BLOCK), BLOCK>>>(out.data, H, W, *e);
    CUDA_CHECK_LAUNCH();
    CUDA_CHECK(cudaMemcpy(x, out, count * sizeof(float), cudaMemcpyDeviceToHost));
}

static bool without_images(const Fixtures*) { return true; } // the CPU's test reads those

int main(int argc, char** argv) {
    const Maker gpu = {apply_on_gpu, mix_on_gpu, normalise_on_gpu, erase_on_gpu};
    check_fixtures(&gpu, "../test/augment_fixtures.txt", without_images);
    test_each(29, 23, 3);
    test_each(5, 5, 1);
    test_steps();
    for (int S = 1; S <= 3; S++) { test_lists(40, S, S, MAX_OPERATIONS, false); }
    test_lists(40, 37, 29, MAX_OPERATIONS, false);
    test_lists(28, 16, 70, 3, true);
    test_lists(3, 224, 224, 2, false);
    test_lists(3, 8, 8, 0, false); // no operation at all
    return kernel_tests_finish(argc, argv);
}
