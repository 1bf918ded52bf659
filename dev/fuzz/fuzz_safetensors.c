// An arbitrary safetensors file, from opening it to the parameters: as read by --eval, into the model that its metadata
// or tensors describe, and by --init-from, into a model of our own. What --eval accepts can be saved and read again.
#include "fuzz.h"
#include "fuzz_model.h"
#include "../../model/foreign_weights.h"
#include "../../model/sizes_from_file.h"
#pragma GCC diagnostic ignored "-Wunused-function" // all but origin_read
#include "../../trainer/origin.h"

static void check_saved(const FuzzModel* m, const Config* c) {
    SafeTensors saved;
    Config again;
    Error err;
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder("y.safetensors"));
    float* params = alloc_floats(m->table.total, "parameters");
    Metadata metadata = {0};
    metadata_add_config(&metadata, c, config_table, CONFIG_OPTIONS);
    TensorBuffer weights = {"", m->params}, read = {"", params};
    FUZZ_CHECK(checkpoint_save(path, m->tensors, m->count, &weights, 1, (FlatReader){0}, &metadata, &err), err.text);
    FUZZ_CHECK(safetensors_open(&saved, path, &err), err.text);
    FUZZ_CHECK(options_defaults(&again, config_table, CONFIG_OPTIONS, &err), err.text);
    FUZZ_CHECK(metadata_read_config(&saved, &again, config_table, CONFIG_OPTIONS, &err), err.text);
    FUZZ_CHECK(options_same(c, &again, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &err), err.text);
    FUZZ_CHECK(checkpoint_load(&saved, m->tensors, m->count, read, &err), err.text);
    FUZZ_CHECK(memcmp(params, m->params, m->table.total * sizeof(float)) == 0, "the parameters are the same");
    safetensors_close(&saved);
    metadata_free(&metadata);
    free(params);
}

// As configure() reads the file of --eval
static bool fuzz_configure(Config* c, const SafeTensors* file, char* path, Error* err) {
    Origin origin = {0};
    char* argv[] = {"train_kat", "--eval", path};
    FUZZ_CHECK(options_defaults(&origin.config, config_table, CONFIG_OPTIONS, err), err->text);
    bool ok = metadata_is_ours(file) ? origin_read(&origin, file, err)
                                     : config_from_tensors(&origin.config, file, true, err);
    free(origin.class_names);
    free(origin.class_ids);
    return ok && config_parse(c, &origin.config, 3, argv, err);
}

static void fuzz_eval(const SafeTensors* file, char* path) {
    Config c;
    FuzzModel m;
    Error err = {""};
    if (!fuzz_configure(&c, file, path, &err)) {
        FUZZ_CHECK(*err.text, "refused without a sentence");
        return;
    }
    if (!fuzz_model_open(&m, &c)) { return; }
    if (load_foreign_weights(file, m.tensors, m.count, m.params, true, false, &err)) { check_saved(&m, &c); }
    fuzz_model_close(&m);
}

static void fuzz_init_from(const SafeTensors* file) {
    Config c;
    FuzzModel m;
    Error err = {""};
    char* argv[] = {"train_kat", "--model", "vit-mini", "--dim", "2", "--heads", "1", "--depth", "1",
                    "--image-size", "4", "--patch", "2", "--mlp-ratio", "1"};
    FUZZ_CHECK(config_parse(&c, NULL, sizeof argv / sizeof argv[0], argv, &err), err.text);
    FUZZ_CHECK(fuzz_model_open(&m, &c), "the model to start is small");
    bool ok = load_foreign_weights(file, m.tensors, m.count, m.params, false, true, &err);
    FUZZ_CHECK(ok || *err.text, "refused without a sentence");
    fuzz_model_close(&m);
}

static void fuzz_safetensors(const uint8_t* bytes, size_t size) {
    SafeTensors file;
    Error err = {""};
    open_test_folder();
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder("x.safetensors"));
    write_file(path, bytes, size);
    if (safetensors_open(&file, path, &err)) {
        fuzz_eval(&file, path);
        fuzz_init_from(&file);
        safetensors_close(&file);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    remove_test_folder();
}
FUZZ_TARGET(fuzz_safetensors)

#ifdef FUZZING
// Mostly mutates the header only, and corrects its length; otherwise the file would be refused at once.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    uint64_t length = 0;
    if (size >= 8) { memcpy(&length, bytes, 8); }
    if (length == 0 || length > size - 8 || seed % 8 == 0) { return LLVMFuzzerMutate(bytes, size, room); }
    size_t data_bytes = size - 8 - length;
    uint8_t* data = malloc(data_bytes + 1);
    memcpy(data, bytes + 8 + length, data_bytes);
    length = LLVMFuzzerMutate(bytes + 8, length, room - 8 - data_bytes);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8 + length, data, data_bytes);
    free(data);
    return 8 + length + data_bytes;
}
#endif
