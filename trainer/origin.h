// What a checkpoint that is resumed or evaluated says of itself: its configuration, and the data that it was trained
// on. A file of another program says none of this.
#pragma once
#include "../data/dataset.h"
#include "../model/config.h"
#include "../runtime/metadata.h"

typedef struct {
    Config config;          // defaults where it says nothing
    bool ours;              // this program wrote it
    bool knows_data;        // the next five are known
    char train_data[FINGERPRINT_SIZE], test_data[FINGERPRINT_SIZE];
    char* class_names;      // one per line
    char* class_ids;        // likewise; NULL: there are none
    double mean[3], std[3]; // that its images were normalised by
    bool normalizes;        // mean and std are known, for an evaluation to use
    char extended[512];     // where the run was made longer, and by how much
} Origin;

static void add_class_text(Metadata* m, const char* key, const Dataset* d, char (*names)[CLASS_NAME_BYTES]) {
    char* text = dataset_class_text(d, names);
    metadata_add(m, key, text);
    free(text);
}

static void add_data(Metadata* m, const Dataset* train, const Dataset* test, const double mean[3],
                     const double std[3]) {
    char text[FINGERPRINT_SIZE];
    dataset_fingerprint(train, text);
    metadata_add(m, "train_data", text);
    dataset_fingerprint(test, text);
    metadata_add(m, "test_data", text);
    add_class_text(m, "class_names", train, train->class_names);
    if (train->class_ids) { add_class_text(m, "class_ids", train, train->class_ids); }
    metadata_print(m, "mean", "%.17g %.17g %.17g", mean[0], mean[1], mean[2]);
    metadata_print(m, "std", "%.17g %.17g %.17g", std[0], std[1], std[2]);
}

static bool read_three(const char* text, double out[3]) {
    return text && sscanf(text, "%lf %lf %lf", &out[0], &out[1], &out[2]) == 3;
}

static void read_data(Origin* o, const SafeTensors* file) {
    const char *train = safetensors_metadata(file, "train_data"), *test = safetensors_metadata(file, "test_data");
    const char *names = safetensors_metadata(file, "class_names"), *ids = safetensors_metadata(file, "class_ids");
    o->knows_data = train && test && names && read_three(safetensors_metadata(file, "mean"), o->mean) &&
                    read_three(safetensors_metadata(file, "std"), o->std);
    if (!o->knows_data) { return; }
    snprintf(o->train_data, sizeof o->train_data, "%s", train);
    snprintf(o->test_data, sizeof o->test_data, "%s", test);
    o->class_names = copy_text(names, "class names");
    o->class_ids = ids ? copy_text(ids, "class names") : NULL;
    o->normalizes = true;
}

static bool origin_read(Origin* o, const SafeTensors* file, Error* err) {
    const char* extended = safetensors_metadata(file, "extended");
    o->ours = metadata_is_ours(file);
    if (!o->ours) { return true; }
    read_data(o, file);
    snprintf(o->extended, sizeof o->extended, "%s", extended ? extended : "");
    return metadata_read_config(file, &o->config, config_table, CONFIG_OPTIONS, err);
}

// Whether these are the classes that the weights were trained for
static bool same_classes(const Origin* o, const Dataset* data) {
    char* names = dataset_class_text(data, data->class_names);
    bool same = strcmp(names, o->class_names) == 0;
    free(names);
    return same;
}

static bool same_split(const char fingerprint[FINGERPRINT_SIZE], const Dataset* data) {
    char here[FINGERPRINT_SIZE];
    dataset_fingerprint(data, here);
    return strcmp(here, fingerprint) == 0;
}

// A run must resume with the images that it began with.
static void check_resumed_data(const Origin* o, const Config* c, const Dataset* train, const Dataset* test) {
    if (!o->knows_data) { return; }
    bool train_same = same_split(o->train_data, train), test_same = same_split(o->test_data, test);
    if (train_same && test_same) { return; }
    fail(EXIT_RUN_TIME, "the %s of --data %s are not those that the run began with (they differ in their checksum): "
         "put the old ones back, name them by --data, or start a new run from its weights with --init-from",
         train_same ? "test images" : test_same ? "training images" : "images", c->data);
}

// An evaluation may use any images, but their classes should be the model's.
static void note_evaluated_data(const Origin* o, const Config* c, const Dataset* test) {
    if (o->knows_data && !same_classes(o, test)) {
        printf("note       the classes of --data %s are named otherwise than those that the model was trained on\n",
               c->data);
    }
}
