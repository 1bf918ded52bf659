// What a checkpoint says of the data that it was trained on, by the trainer as a process: normalisation, class names
// and checksums, and what becomes of a run or an evaluation on other data.
#include "../../data/dataset.h"
#include "trainer_process.h"

typedef struct { const char* name; int shift; float mean; const char* first_class; } Variant;

// Both splits: 20 grey images of 16x16 in 2 classes. Their pixels are shifted; the mean, as the file states it, is not
// that of its pixels: an evaluation that took it would differ.
static void save_data(Variant v) {
    Dataset d;
    Error err;
    char file[64];
    bool ok = dataset_create(&d, "toy", 20, 2, 1, 16, 16, &err);
    for (int i = 0; ok && i < 20 * 256; i++) {
        d.images[i] = (uint8_t)((i * 7919 >> 3) % 151 + v.shift + 60 * (i / 256 % 2));
    }
    for (int i = 0; ok && i < 20; i++) { d.labels[i] = (uint16_t)(i % 2); }
    if (ok) {
        snprintf(d.class_names[0], sizeof d.class_names[0], "%s", v.first_class);
        snprintf(d.class_names[1], sizeof d.class_names[1], "dog");
        for (int c = 0; c < 3; c++) { d.mean[c] = v.mean; d.std[c] = 0.21f; }
    }
    for (int split = 0; ok && split < 2; split++) {
        snprintf(file, sizeof file, "%s.%s.kds", v.name, split ? "test" : "train");
        ok = dataset_save(&d, in_folder(file), &err);
    }
    CHECK(ok, "%s", err.text);
    dataset_free(&d);
}

// Of the last line: behind the name of the file
static void last_result(char result[200]) {
    const char* at = strstr(output, ": top-1");
    snprintf(result, 200, "%s", at ? at : "no result");
}

static void test_normalization(void) {
    char trained[200], other[200], chosen[200];
    RUN(0, "best top-1", "--data toy --steps 30 --lr 1e-2 --warmup-epochs 0 --output run");
    RUN(0, "top-1", "--data toy --eval run/last.safetensors");
    last_result(trained);
    RUN(0, "top-1", "--data brighter --eval run/last.safetensors");
    last_result(other);
    CHECK(strcmp(trained, other) == 0, "normalised as trained:%s, not%s", trained, other);
    RUN(0, "top-1", "--data brighter --eval run/last.safetensors --normalize dataset");
    last_result(chosen);
    CHECK(strcmp(trained, chosen) != 0, "--normalize wins:%s", chosen);
}

static void test_other_data(void) {
    RUN(1, "not those that the run began with", "--resume run --data brighter");
    RUN(1, "not those that the run began with", "--resume run --data shifted");
    RUN(0, "are named otherwise", "--eval run/last.safetensors --data renamed");
    RUN(0, "finished", "--resume run --data toy");
    RUN(0, "best top-1", "--data shifted --steps 2 --init-from run/last.safetensors --output tuned");
}

int main(void) {
    find_trainer();
    open_test_folder();
    trainer_flags = "--model vit-mini --dim 8 --heads 1 --depth 1 --mlp-ratio 2 --image-size 16 --batch-size 4 --threads 1";
    save_data((Variant){"toy", 0, 0.4f, "cat"});
    save_data((Variant){"brighter", 0, 0.7f, "cat"});
    save_data((Variant){"shifted", 9, 0.4f, "cat"});
    save_data((Variant){"renamed", 0, 0.4f, "lion"});
    test_normalization();
    test_other_data();
    remove_test_folder();
    return tests_finish();
}
