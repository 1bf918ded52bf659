// The config.json of an arbitrary folder with weights that are not ours, from the file to the model and the preparation
// of its images: as read by --init-from and --eval. What it says about classes and images can be written and read
// again.
#include "fuzz.h"
#include "fuzz_model.h"
#include "../../model/timm_config.h"

#ifdef HAVE_CJSON
enum { FUZZ_CLASSES = 3 };

static bool same_lines(const char* a, const char* b) { return a && b ? strcmp(a, b) == 0 : a == b; }

// Written for this model and read again
static void timm_again(const TimmConfig* t, const Config* c, TimmConfig* again) {
    Preprocessing p = {.image_size = c->image_size, .classes = FUZZ_CLASSES, .crop_pct = c->crop_pct,
                       .mean = {0.5, 0.5, 0.5}, .std = {0.5, 0.5, 0.5},
                       .class_names = t->class_names, .class_ids = t->class_ids,
                       .interpolation = choice_name(config_option("interpolation")->choices, c->interpolation)};
    Error err;
    if (t->normalizes) {
        memcpy(p.mean, t->mean, sizeof p.mean);
        memcpy(p.std, t->std, sizeof p.std);
    }
    FUZZ_CHECK(timm_config_write(in_folder("."), c, dims_of(c, FUZZ_CLASSES), &p, &err), err.text);
    FUZZ_CHECK(timm_config_read(again, in_folder(TIMM_CONFIG), &err), err.text);
}

static void check_timm_again(const TimmConfig* t, const Config* c) {
    TimmConfig once, twice;
    timm_again(t, c, &once);
    FUZZ_CHECK(once.normalizes && once.crop_pct == c->crop_pct, "what is written says how images are prepared");
    FUZZ_CHECK(memcmp(once.mean, t->mean, sizeof t->mean) == 0 || !t->normalizes, "the mean is the same");
    FUZZ_CHECK(memcmp(once.std, t->std, sizeof t->std) == 0 || !t->normalizes, "the deviation is the same");
    timm_again(&once, c, &twice); // now every class has a name
    FUZZ_CHECK(same_lines(once.class_names, twice.class_names) && same_lines(once.class_ids, twice.class_ids),
               "classes keep their names");
    timm_config_free(&once);
    timm_config_free(&twice);
}

// What a run of it writes to its config.txt is accepted by --config.
static void check_timm_options(const Config* c) {
    Config again = *c;
    Error err;
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        char text[OPTION_TEXT_SIZE];
        if (config_table[i].type == OPTION_GROUP) { continue; }
        FUZZ_CHECK(option_set(&again, &config_table[i], option_text(c, &config_table[i], text), &err), err.text);
    }
}

// base: what its tensors have shown
static void fuzz_timm_model(const TimmConfig* t, const Config* base) {
    char* argv[] = {"train_kat", "--init-from", "theirs"};
    Config taken = *base, c;
    FuzzModel m;
    Error err = {""};
    if (!take_timm_model(&taken, t, &err) || !take_timm_images(&taken, t, &err) ||
        !config_parse(&c, &taken, 3, argv, &err)) {
        FUZZ_CHECK(*err.text, "refused without a sentence");
        return;
    }
    check_timm_options(&c);
    if (timm_knows(&c)) { check_timm_again(t, &c); }
    if (fuzz_model_open(&m, &c)) { fuzz_model_close(&m); }
}

static Config model_beside(char* flags[], int count) {
    Config c;
    Error err;
    FUZZ_CHECK(config_parse(&c, NULL, count, flags, &err), err.text);
    return c;
}

static void fuzz_timm(const uint8_t* bytes, size_t size) {
    char *vit[] = {"train_kat", "--model", "vit-mini"}, *kat[] = {"train_kat", "--model", "kat-mini", "--pool", "avg"};
    Config models[] = {model_beside(vit, 3), model_beside(kat, 5)};
    TimmConfig t;
    Error err = {""};
    open_test_folder();
    write_file(in_folder("theirs.json"), bytes, size);
    if (timm_config_read(&t, in_folder("theirs.json"), &err)) {
        for (int i = 0; i < 2; i++) { fuzz_timm_model(&t, &models[i]); }
        timm_config_free(&t);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    remove_test_folder();
}
#else
static void fuzz_timm(const uint8_t* bytes, size_t size) { (void)bytes, (void)size; }
#endif
FUZZ_TARGET(fuzz_timm)
