// A command line, one argument per line, which may be timm's, and a run's config.txt, "name value" lines. What is
// accepted can be written and read again, and its parameters counted.
#include "fuzz.h"
#include "../../model/parameters.h"
#include "../../model/settings.h"
#include "../../model/timm_flags.h"

enum { FUZZ_ARGUMENTS = 200 };

static int split_lines(char* text, char* argv[FUZZ_ARGUMENTS]) {
    int argc = 0;
    argv[argc++] = "train_kat";
    for (char* line = text; line && argc < FUZZ_ARGUMENTS;) {
        char* end = strchr(line, '\n');
        argv[argc++] = line;
        if (end) { *end = 0; }
        line = end ? end + 1 : NULL;
    }
    return argc;
}

// Whether the value is the same to the last bit, which options_same does not require
static bool same_value(const Config* a, const Config* b, const Option* o) {
    char text_a[OPTION_TEXT_SIZE], text_b[OPTION_TEXT_SIZE];
    size_t reals = o->type == OPTION_REAL ? 1 : o->type == OPTION_PAIR ? 2 : 0;
    return memcmp((const char*)a + o->offset, (const char*)b + o->offset, reals * sizeof(double)) == 0 &&
        strcmp(option_text(a, o, text_a), option_text(b, o, text_b)) == 0;
}

// As a resumed run reads what the previous one saved
static void check_written(const Config* c) {
    Config again, resumed;
    Error err;
    char* argv[] = {"train_kat"};
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        char text[OPTION_TEXT_SIZE];
        const Option* o = &config_table[i];
        FUZZ_CHECK(option_set(&again, o, option_text(c, o, text), &err), err.text);
        FUZZ_CHECK(same_value(c, &again, o), o->names);
    }
    FUZZ_CHECK(config_parse(&resumed, &again, 1, argv, &err), err.text);
    FUZZ_CHECK(options_same(c, &resumed, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &err), err.text);
}

static void check_parameters(const Config* c) {
    ParameterTable table;
    Error err;
    bool long_to_start = c->image_size / c->patch > 1024 || c->mlp_init == MLP_INIT_VARIANCE_PRESERVING;
    if (long_to_start) { return; } // a window over the tokens; a fit of rationals
    if (!parameter_table(&table, c, dims_of(c, c->classes ? c->classes : 2), &err)) { return; }
    double total = 0;
    for (int i = 0; i < PARAMETER_ROWS; i++) {
        for (int l = 0; l < row_copies(&table, i); l++) {
            const Parameter* p = &table.row[l][i];
            double size = p->size > 0;
            for (int k = 0; k < p->rank; k++) { size *= (double)p->shape[k]; }
            total += size;
        }
    }
    FUZZ_CHECK(fabs((double)table.count - total) <= 1e-9 * total, "the number of parameters overflows");
    parameter_table_free(&table);
}

static void read_config_txt(char* text, size_t size) {
    Config c;
    Error err = {""};
    FILE* in = fmemopen(text, size, "r");
    FUZZ_CHECK(options_defaults(&c, config_table, CONFIG_OPTIONS, &err), err.text);
    bool ok = options_read(in, &c, config_table, CONFIG_OPTIONS, ~0u, &err) && config_check(&c, &err) &&
              config_share(&c, &err);
    FUZZ_CHECK(ok || *err.text, "refused without a sentence");
    if (ok) { check_written(&c); }
    fclose(in);
}

static void fuzz_options(const uint8_t* bytes, size_t size) {
    Config c;
    Error err = {""};
    char* argv[FUZZ_ARGUMENTS];
    TimmLine line;
    char* text = calloc(1, size + 1);
    memcpy(text, bytes, size);
    if (size > 0) { read_config_txt(text, size); }
    if (timm_read(&line, split_lines(text, argv), argv, &err) && config_parse(&c, NULL, line.argc, line.argv, &err)) {
        check_written(&c);
        check_parameters(&c);
    } else {
        FUZZ_CHECK(*err.text, "refused without a sentence");
    }
    timm_free(&line);
    free(text);
}
FUZZ_TARGET(fuzz_options)

#ifdef FUZZING
// Sometimes inserts an option of the table, with its default or one of its choices.
size_t LLVMFuzzerCustomMutator(uint8_t* bytes, size_t size, size_t room, unsigned seed) {
    const Option* o = &config_table[seed / 4 % CONFIG_OPTIONS];
    char line[OPTION_TEXT_SIZE];
    const char* value = o->initial;
    if (*o->choices) { value = choice_name(o->choices, (int)(seed / 1024) % choice_count(o->choices)); }
    size_t length = (size_t)snprintf(line, sizeof line, "%s--%s=%s", size ? "\n" : "", option_name(o), value);
    if (seed % 4 || o->type == OPTION_GROUP || size + length > room) { return LLVMFuzzerMutate(bytes, size, room); }
    memcpy(bytes + size, line, length);
    return size + length;
}
#endif
