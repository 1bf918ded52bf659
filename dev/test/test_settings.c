// Who sets what: defaults, model, recipe and flags over each other, each recipe's values, what is told of their origin,
// and a run that goes on.
#include "../../model/settings.h"
#include "test.h"

// The configuration of a command line, over a saved one or over NULL
static Config parse(const Config* saved, const char* flags) {
    FlagWords f;
    Config c;
    Error err = {""};
    split_flags(&f, flags);
    CHECK(config_parse(&c, saved, f.count, f.words, &err), "%s: %s", flags, err.text);
    return c;
}

// "name value;name value" of a configuration
static void check_values(const char* flags, const char* values) {
    Config c = parse(NULL, flags);
    char list[1024], *rest = list;
    snprintf(list, sizeof list, "%s", values);
    for (char* pair; (pair = strsep(&rest, ";")) != NULL;) {
        char name[64], value[64];
        if (sscanf(pair, " %63s %63s", name, value) != 2) { continue; }
        char text[OPTION_TEXT_SIZE];
        option_text(&c, config_option(name), text);
        CHECK(strcmp(text, value) == 0, "%s: %s is %s, not %s", flags, name, text, value);
    }
}

static void test_order(void) {
    check_values("--model vit-tiny", "image-size 224;dim 192;lr 0.001;drop-path 0;recipe none");
    check_values("--model vit-tiny --recipe karat-cifar", "image-size 224;dim 192;lr 3.125e-05;drop-path 0.1");
    check_values("--lr 0.5 --recipe karat-cifar --model vit-tiny", "lr 0.5;epochs 100");
    check_values("--recipe karat-cifar --model vit-tiny --dim 96 --epochs 3", "dim 96;image-size 224;epochs 3");
    check_values("--recipe kat --recipe deit", "recipe deit;min-lr 1e-05");
    check_values("--recipe none --lr 0.25", "lr 0.25;epochs 5");
    FlagWords f;
    Config c;
    Error err = {""};
    split_flags(&f, "--recipe kta");
    CHECK(!config_parse(&c, NULL, f.count, f.words, &err) && strstr(err.text, "kat-vitft"), "%s", err.text);
}

static void test_recipes(void) {
    check_values("--model kat-tiny --recipe kat",
                 "epochs 300;batch-size 128;grad-accum-steps 8;lr 0.001;min-lr 0;warmup-epochs 5;warmup-lr 1e-05;"
                 "sched-on-updates off;opt-betas 0.9,0.999;opt-eps 1e-08;weight-decay 0.05;clip-grad 0;"
                 "model-ema-decay 0.9999;drop-path 0.1;smoothing 0.1;mixup 0.8;cutmix 1;mix-order bytes;"
                 "aa rand-m9-mstd0.5;reprob 0.25;scale 0.08,1;train-interpolation random;crop-pct 0.875;"
                 "normalize imagenet;attn-init mimetic");
    check_values("--model kat-small --recipe kat", "drop-path 0.1");
    check_values("--model kat-base --recipe kat-vitft", "drop-path 0.4;attn-init mimetic;epochs 300");
    check_values("--model vit-base --recipe kat", "drop-path 0.4;attn-init trunc02");
    check_values("--model vit-base --recipe kat --dim 192", "drop-path 0.1");
    check_values("--model vit-tiny --recipe kat --mlp gr-kan", "attn-init mimetic");
    check_values("--model vit-tiny-g3b --recipe karat-cifar",
                 "epochs 100;batch-size 32;lr 3.125e-05;min-lr 1e-05;warmup-epochs 5;warmup-lr 1e-06;opt-eps 1e-06;"
                 "weight-decay 0.05;clip-grad 1;model-ema-decay 0.99992;ratio 0.67,1.5;hflip 0.5;color-jitter 0.4;"
                 "aa rand-m15-n2-mstd1.0-inc1;smoothing 0.1;crop-pct 0.9;drop-path 0.1;reprob 0.25;aug-repeats 3;"
                 "mix-order floats");
    check_values("--model vit-base --recipe karat-imagenet", "lr 0.000125;batch-size 128;drop-path 0.1");
    check_values("--model vit-small --recipe deit",
                 "lr 0.001;batch-size 256;grad-accum-steps 4;aug-repeats 3;mix-order floats");
}

// Two flags say what model and recipe say anyhow.
static void test_setters(void) {
    Config c = parse(NULL, "--model vit-tiny --recipe karat-cifar --lr 0.5 --epochs 100 --output here");
    static const struct { const char *option; Setter setter; } wanted[] = {
        {"lr", SET_BY_USER}, {"output", SET_BY_USER}, {"recipe", SET_BY_USER},
        {"epochs", SET_BY_RECIPE}, {"clip-grad", SET_BY_RECIPE}, {"mixup-switch-prob", SET_BY_RECIPE},
        {"drop-path", SET_BY_RECIPE_LIKELY}, {"dim", SET_BY_MODEL}, {"seed", SET_BY_DEFAULT},
    };
    Unasked u;
    without_flags(&u, &c);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        Setter got = setter_of(&u, &c, config_option(wanted[i].option));
        CHECK(got == wanted[i].setter, "%s is set by %d, not %d", wanted[i].option, got, wanted[i].setter);
    }
}

// config.txt holds every option once, and is read back as it was.
static void test_written(void) {
    Config c = parse(NULL, "--model kat-base --recipe kat --lr 0.5"), read;
    Error err = {""};
    char* text = NULL;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    settings_write(out, &c);
    fclose(out);
    int lines = 0, titles = 0, options = 0;
    for (const char* at = text; *at; at = strchr(at, '\n') + 1) { lines++; titles += *at == '#'; }
    for (int i = 0; i < CONFIG_OPTIONS; i++) { options += config_table[i].type != OPTION_GROUP; }
    CHECK(lines - titles == options && titles == 4, "%d lines, %d titles, %d options", lines, titles, options);
    CHECK(strstr(text, "# command line\nmodel kat-base\n") && strstr(text, "# recipe kat\n"), "%s", text);
    FILE* in = fmemopen(text, size, "r");
    options_defaults(&read, config_table, CONFIG_OPTIONS, &err);
    CHECK(options_read(in, &read, config_table, CONFIG_OPTIONS, ~0u, &err) &&
          options_same(&c, &read, config_table, CONFIG_OPTIONS, ~0u, &err), "%s", err.text);
    fclose(in);
    free(text);
}

// A run goes on with what it had; the same flags again change nothing.
static void test_going_on(void) {
    const char* flags = "--model kat-base --recipe kat --lr 0.5 --dim 96 --heads 3";
    static Config saved, bare, again; // too large for a small stack
    saved = parse(NULL, flags), bare = parse(&saved, ""), again = parse(&saved, flags);
    Error err = {""};
    CHECK(options_same(&saved, &bare, config_table, CONFIG_OPTIONS, ~0u, &err), "%s", err.text);
    CHECK(options_same(&saved, &again, config_table, CONFIG_OPTIONS, ~0u, &err), "%s", err.text);
    Unasked u;
    without_flags(&u, &bare);
    CHECK(setter_of(&u, &bare, config_option("lr")) == SET_BY_USER, "what was given stays known");
    CHECK(setter_of(&u, &bare, config_option("drop-path")) == SET_BY_RECIPE, "what the recipe set as well");
}

// Every line of a config.txt is to name an option.
static void test_known_lines(void) {
    static const struct { const char *text, *unknown; } files[] = {
        {"# a title\nmodel kat-base\nlr 0.5\n\noutput runs/a b\n", NULL}, {"", NULL}, {"lr 0.5", NULL}, {"init-from \n", NULL},
        {"lr 0.5\nepohcs 3\n", "epohcs"}, {"lr=0.5\n", "lr=0.5"}, {"model kat-base\nGROUP x", "GROUP"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char line[80] = "", text[200];
        snprintf(text, sizeof text, "%s", files[i].text);
        FILE* in = fmemopen(text, strlen(text) + !*text, "r");
        bool known = options_known(in, config_table, CONFIG_OPTIONS, line);
        CHECK(known == !files[i].unknown && (known || strcmp(line, files[i].unknown) == 0), "file %zu: '%s'", i, line);
        fclose(in);
    }
}

int main(void) {
    test_order();
    test_recipes();
    test_setters();
    test_written();
    test_going_on();
    test_known_lines();
    return tests_finish();
}
