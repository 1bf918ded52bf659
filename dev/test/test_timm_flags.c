// timm's command line: KAT's published scripts against --recipe kat, what flags become, what is passed over and
// refused.
#include "../../model/settings.h"
#include "../../model/timm_flags.h"
#include "test.h"

// The flags of scripts/train_kat_{tiny,small,base}_8x128.sh and their _vitft of KAT's repository, as they stand. Each
// of the 8 processes is a micro-batch here.
#define KAT_SCRIPT(model, drop_path, weights) \
    "/local_home/dataset/imagenet/ --model " model " -b 128 --opt adamw --lr 1e-3 --weight-decay 0.05 --epochs 300 " \
    "--mixup 0.8 --cutmix 1.0 --sched cosine --smoothing 0.1 --drop-path " drop_path " --aa rand-m9-mstd0.5 " \
    "--remode pixel --reprob 0.25 --amp --crop-pct 0.875 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225 " \
    "--model-ema --model-ema-decay 0.9999 --output output/" model " " weights "--log-wandb"
static const struct { const char *flags, *ours; } scripts[] = {
    {KAT_SCRIPT("kat_tiny_swish_patch16_224", "0.1", ""), "--model kat-tiny --recipe kat"},
    {KAT_SCRIPT("kat_small_swish_patch16_224", "0.1", ""), "--model kat-small --recipe kat"},
    {KAT_SCRIPT("kat_base_swish_patch16_224", "0.4", ""), "--model kat-base --recipe kat"},
    {KAT_SCRIPT("kat_tiny_swish_patch16_224", "0.1",
                "--initial-checkpoint ./checkpoints/Ti_16-i21k-300ep-lr_0.001-aug_none-"
                "wd_0.03-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.03-res_224.npz "), "--model kat-tiny --recipe kat-vitft"},
    {KAT_SCRIPT("kat_small_swish_patch16_224", "0.1",
                "--pretrained-path ./checkpoints/S_16-i21k-300ep-lr_0.001-aug_light1-"
                "wd_0.03-do_0.0-sd_0.0.npz --pretrained "), "--model kat-small --recipe kat-vitft"},
    {KAT_SCRIPT("kat_base_swish_patch16_224", "0.4", "--initial-checkpoint ./checkpoints/B_16-i21k-300ep-lr_0.001-"
                "aug_medium1-wd_0.1-do_0.0-sd_0.0.npz "), "--model kat-base --recipe kat-vitft"},
};

static bool read_line(TimmLine* t, FlagWords* f, const char* flags, Error* err) {
    *err = (Error){""};
    split_flags(f, flags);
    return timm_read(t, f->count, f->words, err);
}

static Config parse(const char* flags) {
    FlagWords f;
    TimmLine t;
    Config c = {0};
    Error err;
    bool ok = read_line(&t, &f, flags, &err) && config_parse(&c, NULL, t.argc, t.argv, &err);
    CHECK(ok, "%s: %s", flags, err.text);
    timm_free(&t);
    return c;
}

// What the recipe makes of a model's name, of GPUs, of precision, and of jitter that RandAugment turns off is not told
// by a script.
static void test_scripts(void) {
    static const char not_told[] = "model|recipe|grad-accum-steps|precision|color-jitter|output|data|init-from";
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        Config c = parse(scripts[i].flags), ours = parse(scripts[i].ours);
        for (int k = 0; k < CONFIG_OPTIONS; k++) {
            const Option* o = &config_table[k];
            char text[2][OPTION_TEXT_SIZE];
            if (o->type == OPTION_GROUP || position_in(not_told, option_name(o)) >= 0) { continue; }
            CHECK(same_setting(&c, &ours, o), "%s, of the script: --%s %s; of the recipe: %s", scripts[i].ours,
                  option_name(o), option_text(&c, o, text[0]), option_text(&ours, o, text[1]));
        }
        CHECK(strcmp(c.data, "/local_home/dataset/imagenet/") == 0, "the data are %s", c.data);
        CHECK(c.precision == PRECISION_BF16 && c.recipe == RECIPE_TIMM && *c.aa,
              "--amp, the recipe, and --aa of script %zu", i);
        CHECK((strstr(scripts[i].ours, "vitft") != NULL) == (strstr(c.init_from, "./checkpoints/") == c.init_from),
              "script %zu starts from '%s'", i, c.init_from);
    }
}

static void check_value(const char* flags, const char* option, const char* wanted) {
    Config c = parse(flags);
    char text[OPTION_TEXT_SIZE];
    option_text(&c, config_option(option), text);
    CHECK(strcmp(text, wanted) == 0, "%s: %s is %s, not %s", flags, option, text, wanted);
}

static void test_values(void) {
    check_value("--opt adamw", "epochs", "300");
    check_value("--opt adamw", "recipe", "timm");
    check_value("--opt adamw --recipe deit", "recipe", "deit");
    check_value("--opt AdamW --epochs 3", "epochs", "3");
    check_value("--lr 0.5", "recipe", "none");
    check_value("datasets/cifar10", "data", "datasets/cifar10");
    check_value("datasets/cifar10", "hflip", "0.5");
    check_value("--lr 0.25 --amp datasets/cifar10 --epochs 3", "data", "datasets/cifar10");
    check_value("--rrc --scale 0.3 1 datasets/cifar10", "data", "datasets/cifar10");
    check_value("-b 32", "batch-size", "32");
    check_value("-b 32", "recipe", "none");
    check_value("--batch_size 32 -j 3", "batch-size", "32");
    check_value("-j 3", "workers", "3");
    check_value("--model_ema", "model-ema-decay", "0.9998");
    check_value("--model-ema --model_ema_decay 0.99", "model-ema-decay", "0.99");
    check_value("--model-ema-decay=0.9 --model-ema", "model-ema-decay", "0.9");
    check_value("--input-size 3 128 128", "image-size", "128");
    check_value("--img-size 64", "image-size", "64");
    check_value("--mean 0.5 0.5 0.5 --std 0.5 0.5 0.5", "normalize", "half");
    check_value("--mean .485 .456 .406", "normalize", "imagenet");
    check_value("--mean 0.5", "normalize", "half");
    check_value("--grad-checkpointing", "recompute", "on");
    check_value("--amp --amp-dtype bfloat16", "precision", "bf16");
    check_value("--aug-repeats 0", "aug-repeats", "1");
    check_value("--aug-repeats=3", "aug-repeats", "3");
    check_value("--val-interval 4", "eval-every", "4");
    check_value("--recovery-interval 100", "checkpoint-every", "100");
    check_value("--log-interval 7 --pin-mem --train-num-samples 90", "train-images", "90");
    check_value("--torchcompile inductor --lr 0.25", "lr", "0.25");
    check_value("--torchcompile --lr 0.25", "lr", "0.25");
    check_value("--dist-bn=reduce --decay-milestones 30 60 --lr 0.25", "lr", "0.25");
    check_value("-vb 512 --local_rank 1 --drop 0.0 --lr 0.25", "lr", "0.25");
    check_value("--opt-betas 0.9 0.95 --scale 0.3 1 --opt adamw", "opt-betas", "0.9,0.95");
}

static void test_passed_over(void) {
    FlagWords f;
    TimmLine t;
    Error err;
    CHECK(read_line(&t, &f, "--pin-mem --lr 1 --dist-bn reduce --log_wandb --checkpoint-hist 3", &err), "%s", err.text);
    CHECK(strcmp(t.passed_over, "--pin-mem, --dist-bn, --log-wandb, --checkpoint-hist") == 0, "%s", t.passed_over);
    timm_free(&t);
    CHECK(read_line(&t, &f, "--classify a.png b.png --lr -1 -x.png --output=a=b", &err) && !t.is_timm &&
          t.argc == f.count, "nothing of timm's: %d words, %d before", t.argc, f.count);
    for (int i = 0; i < f.count; i++) { CHECK(t.argv[i] == f.words[i], "word %d stays in its place", i); }
    timm_free(&t);
}

static void test_refused(void) {
    static const struct { const char *flags, *said; } lines[] = {
        {"--opt lamb", "--opt lamb is not here: there is adamw"}, {"--sched step", "there is cosine"}, {"--opt=sgd", "--opt sgd"},
        {"--opt", "--opt takes 1 value"}, {"--opt --lr 1", "--opt takes 1 value"}, {"--input-size 3 224", "takes 3 values"},
        {"--input-size 3 224 192", "square"}, {"--input-size 1 32 32", "three channels"}, {"--in-chans 1", "three channels"},
        {"--mean 0.4914 0.4822 0.4465", "--normalize"}, {"--mean 0.5 0.5 0.5 --std 0.229 0.224 0.225", "belong together"},
        {"--mean", "--normalize"}, {"--mean 1 2 3 4 5 6 7 8 9 10", "--normalize"}, {"--pretrained", "--init-from"},
        {"--bce-loss", "cross entropy"}, {"--drop 0.1", "--drop-path"}, {"--model_kwargs m=6 n=4", "--model-kwargs is not here"},
        {"--layer-decay 0.65", "one learning rate"}, {"--mixup-mode elem", "micro-batch"}, {"--experiment x", "--output"},
        {"--amp=yes", "takes 0 values"}, {"--clip-mode agc", "norm"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        FlagWords f;
        TimmLine t;
        Error err;
        bool read = read_line(&t, &f, lines[i].flags, &err);
        CHECK(!read && strstr(err.text, lines[i].said), "%s: '%s', not '%s'", lines[i].flags, err.text, lines[i].said);
        timm_free(&t);
    }
}

// No name is in both tables but where the value is to be changed first, and what a flag becomes is there.
static void test_table(void) {
    for (int i = 0; i < TIMM_FLAGS; i++) {
        const TimmFlag* f = &timm_flags[i];
        for (int k = 0; k < choice_count(f->names); k++) {
            const char* name = choice_name(f->names, k);
            CHECK(!config_option(name) || f->meaning == TIMM_REPEATS, "--%s is an option of its own", name);
            CHECK(timm_find(name) == f, "--%s stands there twice", name);
        }
        CHECK(f->meaning != TIMM_BECOMES || config_option(f->what), "--%s becomes --%s", f->names, f->what);
        CHECK(f->meaning != TIMM_ONLY || *f->advice, "--%s: what there is", f->names);
    }
}

// Data are named once: another word is a mistake.
static void test_strays(void) {
    static const char* const lines[] = {"a b", "--data a b", "--data-dir a b", "a --lr 0.25 b", "-kk 3", "--lr 1 -x"};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        FlagWords f;
        TimmLine t;
        Config c;
        Error err;
        bool parsed = read_line(&t, &f, lines[i], &err) && config_parse(&c, NULL, t.argc, t.argv, &err);
        CHECK(!parsed && *err.text, "%s is refused: '%s'", lines[i], err.text);
        timm_free(&t);
    }
}

int main(void) {
    test_strays();
    test_scripts();
    test_values();
    test_passed_over();
    test_refused();
    test_table();
    return tests_finish();
}
