// Batches made on the GPU (augment.cuh, device_input.cuh) against those of the loader on the CPU, to the bit: shifts
// beyond every edge, mirrored images, boxes of any size and shape enlarged and shrunk by either filter, centre crops,
// erased boxes, one channel and three, mixup, cutmix and neither, odd and short batches; images that lie on the device, and
// boxes that come with the batch, of images in memory and of encoded ones of any size.
#include "../../data/device_input.cuh"
#include "kernel_test.cuh"
#include "../test/encoded_set.h"

static Dataset make_dataset(int count, int channels, int height, int width) {
    Dataset d;
    Error err;
    if (!dataset_create(&d, "made up", count, 5, channels, height, width, &err)) { fail(1, "%s", err.text); }
    for (int i = 0; i < count; i++) { d.labels[i] = (uint16_t)(i * 7 % 5); }
    for (size_t k = 0; k < count * image_bytes(&d); k++) {
        d.images[k] = (uint8_t)random_bits(5, STREAM_CHECK, 0, k).word[0];
    }
    dataset_measure(&d);
    return d;
}

static void open_loader(Loader* l, const Dataset* d, LoaderConfig c, LoaderOutput output, int workers) {
    Error err;
    c.output = output;
    c.workers = workers;
    if (!loader_open(l, d, &c, &err)) { fail(1, "%s", err.text); }
}

// Noise is made with the device's own logarithm and cosine: to 1 ulp of values up to 6. Seen: 0 under the emulation.
static void test_batches(const char* what, const Dataset* d, LoaderConfig c, LoaderOutput output, int workers) {
    Limits limits = {c.augment.erasing.probability > 0 && c.augment.erasing.mode == ERASE_PIXEL ? 2e-7 : 0, 0};
    Loader cpu, gpu;
    DeviceInput input;
    open_loader(&cpu, d, c, LOAD_IMAGES, 0);
    open_loader(&gpu, d, c, output, workers);
    device_input_open(&input, &gpu);
    for (int step = 0; step < 5; step++) {
        const Batch *want = loader_next(&cpu), *drawn = loader_next(&gpu);
        size_t values = (size_t)want->count * 3 * c.image_size * c.image_size;
        Device<float> got(values);
        device_input_batch(got, &input, drawn, 0);
        CHECK(!drawn->boxes || drawn->boxes->pinned, "%s: the boxes of batch %d are not pinned", what, step);
        check<float>(what, got, Floats(want->images, want->images + values), limits);
        bool same_targets = memcmp(want->targets, drawn->targets, want->count * c.num_classes * sizeof(float)) == 0;
        CHECK(drawn->count == want->count && same_targets, "%s: other targets in batch %d", what, step);
    }
    device_input_close(&input);
    loader_close(&gpu);
    loader_close(&cpu);
}

#ifdef HAVE_JPEG
// With threads too, whose blocks of boxes grow while others are on their way
static void test_encoded(int batch_size, int S, int workers) {
    Dataset train, val;
    Error err;
    make_encoded_split(test_folder, "train", 0, 23);
    make_encoded_split(test_folder, "val", 100, 7);
    if (!shards_load(&train, in_folder("train.index"), &err) || !shards_load(&val, in_folder("val.index"), &err)) {
        fail(1, "%s", err.text);
    }
    LoaderConfig c = loader_defaults(&train, batch_size, S, true, 5);
    test_batches("whole encoded images", &train, c, LOAD_BOXES, workers);
    c.augment.random_resized_crop = true;
    c.augment.flip = 0.5f;
    c.augment.mixup = 0.8f;
    c.augment.cutmix = 1;
    c.augment.mix_order = MIX_BYTES;
    c.augment.rand = RandAugment{15, 3, 1, 1, 10, true};
    test_batches("boxes of encoded images", &train, c, LOAD_BOXES, workers);
    c.train = false;
    c.crop_pct = 0.8f;
    test_batches("evaluation of encoded images", &val, c, LOAD_BOXES, workers);
    dataset_free(&train);
    dataset_free(&val);
}
#endif

static void test_augmentation(const char* what, const Dataset* d, LoaderConfig c) {
    test_batches(what, d, c, LOAD_DRAWS, 0);
    test_batches(what, d, c, LOAD_BOXES, 0);
}

// Without resizing: side x side stays what it is
static void test_shifts(int batch_size, int channels, int side, float mixup, float cutmix) {
    Dataset d = make_dataset(23, channels, side, side);
    LoaderConfig c = loader_defaults(&d, batch_size, side, true, 3);
    test_augmentation("images as they are", &d, c);
    c.augment.crop_padding = side - 1;
    c.augment.flip = 0.5f;
    c.augment.mixup = mixup;
    c.augment.cutmix = cutmix;
    c.augment.smoothing = 0.1f;
    test_augmentation("padded crops", &d, c);
    c.augment.vflip = 0.5f;
    c.augment.erasing = RandomErasing{0.5f, 3, ERASE_CONST};
    test_augmentation("erased by zeros", &d, c);
    c.augment.erasing.mode = ERASE_PIXEL;
    test_augmentation("erased by noise", &d, c);
    c.augment.mix_order = MIX_BYTES;
    test_augmentation("bytes mixed", &d, c);
    c.augment.rand = RandAugment{9, 2, 0.5, 0.5, 10, true};
    test_augmentation("RandAugment", &d, c);
    c.augment.rand.operations = 0;
    c.augment.jitter = ColorJitter{0.4f, 0.4f, 0.4f, 0.2f, 0.8f, 0.2f};
    test_augmentation("colour jitter", &d, c);
    dataset_free(&d);
}

static void test_resizing(int channels, int height, int width, int S) {
    Dataset d = make_dataset(11, channels, height, width);
    LoaderConfig c = loader_defaults(&d, 4, S, true, 4);
    c.augment.flip = 0.5f;
    c.augment.mixup = 0.8f;
    c.augment.cutmix = 1;
    c.augment.crop_padding = height < width ? height / 2 : width / 2;
    test_augmentation("padded crops, resized", &d, c);
    c.augment.crop_padding = 0;
    c.augment.random_resized_crop = true;
    c.augment.ratio[0] = 0.3f;
    c.augment.ratio[1] = 3;
    test_augmentation("boxes, resized", &d, c);
    c.train = false; // 11 images in batches of 4: the last is short
    for (int filter = INTERPOLATE_BILINEAR; filter <= INTERPOLATE_BICUBIC; filter++) {
        c.eval_interpolation = (Interpolation)filter;
        c.crop_pct = filter == INTERPOLATE_BICUBIC ? 1 : 0.7f;
        test_augmentation("evaluation", &d, c);
    }
    dataset_free(&d);
}

int main(int argc, char** argv) {
    test_shifts(1, 3, 8, 0.8f, 0);
    test_shifts(5, 1, 13, 0.8f, 0);
    test_shifts(6, 3, 9, 0, 1);
    test_shifts(64, 3, 5, 0.8f, 1); // all 23, an odd number
    test_resizing(3, 8, 8, 19);
    test_resizing(1, 21, 21, 8);
    test_resizing(3, 14, 9, 12);
    test_resizing(3, 5, 40, 7);
    test_resizing(1, 1, 1, 3);
#ifdef HAVE_JPEG
    open_test_folder();
    test_encoded(5, 16, 0);
    test_encoded(8, 23, 2);
    remove_test_folder();
#endif
    return kernel_tests_finish(argc, argv);
}
