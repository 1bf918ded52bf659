// The command line of timm's train.py: its flags that mean something else here, or nothing, or something that does not
// exist here. Flags with timm's name and meaning, and their short names, are in the option table (config.h) itself;
// underscores are accepted for dashes everywhere. If there is one such flag, or a data set without a flag, whatever is
// not given is as in train.py: --recipe timm.
#pragma once
#include "../runtime/memory.h"
#include "config.h"
#include <strings.h>

typedef enum {
    TIMM_NOTHING, // has no meaning here: it is ignored, with a note
    TIMM_ONLY,    // takes only values that stand for what is done here anyway
    TIMM_BECOMES, // becomes another flag, with a fixed value or the one given
    TIMM_ABSENT,  // is refused
    TIMM_MEAN, TIMM_STD, TIMM_INPUT_SIZE, TIMM_EMA, TIMM_PRETRAINED, TIMM_REPEATS, // need code of their own
} TimmMeaning;

enum { TIMM_MANY = -1 }; // all words up to the next flag

typedef struct {
    const char* names;   // "dist-bn": as in an option table
    int words;           // how many follow it
    TimmMeaning meaning;
    const char* what;    // ONLY: "a|b"; BECOMES: the flag
    const char* value;   // BECOMES: its value; "": the one given
    const char* advice;  // ONLY and ABSENT: what there is instead
} TimmFlag;

#define NOTHING(names, words) {names, words, TIMM_NOTHING, "", "", ""},
#define ONLY(names, values, advice) {names, 1, TIMM_ONLY, values, "", advice},
#define BECOMES(names, words, flag, value) {names, words, TIMM_BECOMES, flag, value, ""},
#define ABSENT(names, words, advice) {names, words, TIMM_ABSENT, "", "", advice},
#define SPECIAL(names, words, meaning) {names, words, meaning, "", "", ""},
static const TimmFlag timm_flags[] = {
    // Data
    ONLY("dataset", "", "a data set is made by ./convert_data, and named by --data")
    ONLY("train-split", "train", "the two splits are those of the data set")
    ONLY("val-split", "validation|val|test", "the two splits are those of the data set")
    BECOMES("train-num-samples", 1, "train-images", "")
    BECOMES("val-num-samples", 1, "test-images", "")
    NOTHING("dataset-download", 0)
    ABSENT("class-map", 1, "./convert_data settles which class has which number")
    ONLY("input-img-mode", "RGB", "images have three channels")
    ABSENT("input-key|target-key", 1, "a data set has images and labels")
    // Model
    SPECIAL("pretrained", 0, TIMM_PRETRAINED)
    BECOMES("pretrained-path", 1, "init-from", "")
    ABSENT("no-resume-opt", 0, "--init-from starts from weights alone")
    ONLY("in-chans", "3", "images have three channels")
    SPECIAL("input-size", 3, TIMM_INPUT_SIZE)
    SPECIAL("mean", TIMM_MANY, TIMM_MEAN)
    SPECIAL("std", TIMM_MANY, TIMM_STD)
    NOTHING("validation-batch-size|vb", 1)
    NOTHING("channels-last|fast-norm|torchscript", 0)
    NOTHING("torchcompile", TIMM_MANY)
    NOTHING("fuser", 1)
    BECOMES("grad-checkpointing", 0, "recompute", "on")
    ABSENT("model-kwargs", TIMM_MANY,
           "parts of models have flags of their own, such as --rational-groups: --help tells all")
    ABSENT("head-init-scale|head-init-bias", 1, "the head starts as the model has it")
    // Device
    BECOMES("amp", 0, "precision", "bf16")
    ONLY("amp-dtype", "bfloat16|float16", "--precision bf16 is what there is of 16 bits")
    NOTHING("amp-impl|local-rank|device-modules", 1)
    NOTHING("no-ddp-bb|synchronize-step", 0)
    // Optimizer
    ONLY("opt", "adamw", "there is adamw")
    NOTHING("momentum", 1) // SGD's
    ONLY("clip-mode", "norm", "--clip-grad is of the norm")
    ABSENT("layer-decay", 1, "all blocks have one learning rate; --rational-lr-scale is for the rationals")
    ABSENT("opt-kwargs", TIMM_MANY, "there are --opt-betas and --opt-eps")
    // Learning rate
    ONLY("sched", "cosine", "there is cosine")
    ABSENT("lr-base", 1, "give --lr itself")
    NOTHING("lr-base-size|lr-base-scale|lr-noise-pct|lr-noise-std|lr-cycle-decay|decay-epochs|decay-rate|dr|"
            "patience-epochs", 1)
    NOTHING("decay-milestones", TIMM_MANY)
    ABSENT("lr-noise", TIMM_MANY, "the learning rate follows the cosine")
    ONLY("lr-cycle-mul", "1", "there is one cycle")
    ONLY("lr-cycle-limit", "1", "there is one cycle")
    ONLY("lr-k-decay", "1", "the cosine is the plain one")
    ONLY("epoch-repeats", "0", "give more --epochs")
    ONLY("start-epoch", "0", "--resume goes on where a run was")
    ABSENT("warmup-prefix", 0, "the warm-up is a part of --epochs")
    ONLY("cooldown-epochs", "0", "the run ends with the cosine")
    // Augmentation and regularization
    ABSENT("no-aug", 0,
           "leave the flags of augmentation out; of train.py's defaults --rrc off --hflip 0 --color-jitter 0")
    ONLY("train-crop-mode", "rrc", "there is --rrc")
    ONLY("gaussian-blur-prob", "0", "there is no blur")
    SPECIAL("aug-repeats", 1, TIMM_REPEATS)
    ONLY("aug-splits", "0", "a batch is one split")
    ABSENT("jsd-loss|bce-loss|bce-sum|resplit", 0, "the loss is the cross entropy")
    ABSENT("bce-target-thresh|bce-pos-weight", 1, "the loss is the cross entropy")
    ABSENT("cutmix-minmax", TIMM_MANY, "the size of the box is drawn by --cutmix")
    ONLY("mixup-mode", "batch", "one draw is for a micro-batch")
    ONLY("mixup-off-epoch", "0", "mixup stays on")
    ONLY("drop", "0", "there is --drop-path")
    ONLY("drop-connect", "0", "there is --drop-path")
    ONLY("drop-block", "0", "there is --drop-path")
    // Batch norm, which no model has
    NOTHING("sync-bn|split-bn", 0)
    NOTHING("dist-bn|bn-momentum|bn-eps", 1)
    // Running mean
    SPECIAL("model-ema", 0, TIMM_EMA)
    NOTHING("model-ema-force-cpu", 0)
    ABSENT("model-ema-warmup", 0, "give a --model-ema-decay for the length of the run")
    // What is left
    NOTHING("worker-seeding|checkpoint-hist|wandb-project|wandb-resume-id", 1)
    NOTHING("wandb-tags", TIMM_MANY)
    NOTHING("save-images|pin-mem|no-prefetcher|use-multi-epochs-loader|log-wandb", 0)
    ABSENT("experiment", 1, "give --output with the folder's name behind it")
    ONLY("eval-metric", "top1", "best.safetensors is the best in top-1")
    ONLY("tta", "0", "an image is looked at once")
};
#undef NOTHING
#undef ONLY
#undef BECOMES
#undef ABSENT
#undef SPECIAL
enum { TIMM_FLAGS = sizeof timm_flags / sizeof timm_flags[0] };

typedef struct {
    int argc;
    char** argv;          // (argc + 1) this program's own command line
    char** made;          // (made_count) the words in it that are not the user's
    int made_count;
    bool is_timm;         // --recipe timm was added, or could have been
    bool has_data;        // so that a further word does not name it
    char passed_over[512]; // "--pin-mem, --dist-bn"
    int normalization;    // what --mean or --std said; -1: nothing
} TimmLine;

static inline void timm_free(TimmLine* t) {
    for (int i = 0; i < t->made_count; i++) { free(t->made[i]); }
    free(t->made);
    free(t->argv);
    *t = (TimmLine){0};
}

static inline void timm_put(TimmLine* t, char* word) {
    t->argv[t->argc++] = word;
    t->argv[t->argc] = NULL;
}

static inline void timm_make(TimmLine* t, const char* flag, const char* value) {
    char word[80];
    snprintf(word, sizeof word, "--%s", flag);
    timm_put(t, t->made[t->made_count++] = copy_text(word, "a command line"));
    timm_put(t, t->made[t->made_count++] = copy_text(value, "a command line"));
}

// "dist-bn" for "--dist_bn=reduce"; "" for what is not a flag
static inline void timm_name(const char* word, char name[80]) {
    bool flag = word[0] == '-' && (word[1] == '-' ? word[2] : isalpha((unsigned char)word[1]));
    snprintf(name, 80, "%.*s", flag ? (int)strcspn(word, "=") : 0, word);
    memmove(name, name + strspn(name, "-"), strlen(name + strspn(name, "-")) + 1);
    flag_with_dashes(name);
}

static inline const TimmFlag* timm_find(const char* name) {
    for (int i = 0; i < TIMM_FLAGS && *name; i++) {
        if (position_in(timm_flags[i].names, name) >= 0) { return &timm_flags[i]; }
    }
    return NULL;
}

static inline bool line_has(int argc, char** argv, const char* wanted) {
    for (int i = 1; i < argc; i++) {
        char name[80];
        timm_name(argv[i], name);
        const Option* o = *name ? config_option(name) : NULL;
        if (strcmp(name, wanted) == 0 || (o && strcmp(option_name(o), wanted) == 0)) { return true; }
    }
    return false;
}

// Numbers are compared by value: 0 is 0.0.
static inline bool same_word(const char* a, const char* b) {
    char *end_a, *end_b;
    double x = strtod(a, &end_a), y = strtod(b, &end_b);
    bool numbers = end_a > a && !*end_a && end_b > b && !*end_b;
    return numbers ? x == y : strcasecmp(a, b) == 0;
}

static inline bool one_of(const char* values, const char* given) {
    for (int i = 0; i < choice_count(values); i++) {
        if (same_word(choice_name(values, i), given)) { return true; }
    }
    return false;
}

typedef struct { const char* word[8]; int count; } TimmValues; // further ones are counted, but not kept

static inline bool all_near(const TimmValues* v, const double wanted[3]) {
    bool near = v->count == 3 || v->count == 1;
    for (int i = 0; near && i < 3; i++) { near = fabs(atof(v->word[v->count == 1 ? 0 : i]) - wanted[i]) < 5e-4; }
    return near;
}

// --normalize has names for the known pairs of mean and deviation.
static inline bool timm_normalize(TimmLine* t, const char* name, const TimmValues* v, bool mean, Error* err) {
    static const double known[2][2][3] = {{{0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}},
                                          {{0.5, 0.5, 0.5}, {0.5, 0.5, 0.5}}};
    for (int i = 0; i < 2; i++) {
        int choice = NORMALIZE_IMAGENET + i;
        if (!all_near(v, known[i][mean ? 0 : 1])) { continue; }
        if (t->normalization >= 0 && t->normalization != choice) {
            return set_error(err,
                             "--mean and --std do not belong together: give --normalize imagenet, half or dataset");
        }
        if (t->normalization < 0) {
            timm_make(t, "normalize", choice_name(config_option("normalize")->choices, choice));
        }
        t->normalization = choice;
        return true;
    }
    return set_error(err,
                     "--%s: there are ImageNet's, 0.5 in each channel, and the data set's own, which --normalize names",
                     name);
}

static inline bool timm_special(TimmLine* t, const TimmFlag* f, const char* name, const TimmValues* v, int argc,
                                char** argv, Error* err) {
    switch (f->meaning) {
    case TIMM_MEAN: case TIMM_STD: return timm_normalize(t, name, v, f->meaning == TIMM_MEAN, err);
    case TIMM_INPUT_SIZE:
        if (!same_word(v->word[0], "3") || !same_word(v->word[1], v->word[2])) {
            return set_error(err, "--input-size %s %s %s: images have three channels, and are square", v->word[0],
                             v->word[1], v->word[2]);
        }
        timm_make(t, "image-size", v->word[1]);
        return true;
    case TIMM_EMA: // --model-ema-decay is enough here; in timm it has no effect without this flag
        if (!line_has(argc, argv, "model-ema-decay")) { timm_make(t, "model-ema-decay", "0.9998"); }
        return true;
    case TIMM_PRETRAINED:
        return line_has(argc, argv, "pretrained-path") || line_has(argc, argv, "init-from") ||
               set_error(err, "--pretrained: no weights are fetched here: name their file by --init-from");
    case TIMM_REPEATS: // 0 and 1: each image once
        timm_make(t, "aug-repeats", same_word(v->word[0], "0") ? "1" : v->word[0]);
        return true;
    default: return true;
    }
}

static inline void timm_pass_over(TimmLine* t, const char* name) {
    size_t used = strlen(t->passed_over);
    snprintf(t->passed_over + used, sizeof t->passed_over - used, "%s--%s", used ? ", " : "", name);
}

static inline bool timm_take(TimmLine* t, const TimmFlag* f, const char* name, const TimmValues* v, int argc,
                             char** argv, Error* err) {
    const char* value = v->count ? v->word[0] : "";
    switch (f->meaning) {
    case TIMM_NOTHING: timm_pass_over(t, name); return true;
    case TIMM_BECOMES: timm_make(t, f->what, *f->value ? f->value : value); return true;
    case TIMM_ONLY: return one_of(f->what, value) || set_error(err, "--%s %s is not here: %s", name, value, f->advice);
    case TIMM_ABSENT: return set_error(err, "--%s is not here: %s", name, f->advice);
    default: return timm_special(t, f, name, v, argc, argv, err);
    }
}

// The words of the flag at argv[*at]; moves *at past them
static inline bool timm_values(TimmValues* v, const TimmFlag* f, const char* name, int argc, char** argv, int* at,
                               Error* err) {
    const char* equals = strchr(argv[(*at)++], '=');
    *v = (TimmValues){.count = 0};
    if (equals) { v->word[v->count++] = equals + 1; }
    while (*at < argc && !is_flag(argv[*at]) && (f->words == TIMM_MANY || v->count < f->words)) {
        if (v->count < 8) { v->word[v->count] = argv[*at]; }
        v->count++;
        ++*at;
    }
    return f->words == TIMM_MANY || v->count == f->words ||
           set_error(err, "--%s takes %d value%s, as in timm's train.py", name, f->words, f->words == 1 ? "" : "s");
}

// Takes what is at argv[*at] if it is not one of timm's flags: one of our own with its words, or the folder of the data
static inline void timm_leave(TimmLine* t, int argc, char** argv, int* at) {
    const Option* option;
    char value[OPTION_TEXT_SIZE];
    Error ignored; // options_parse says it
    int from = *at;
    if (argv[from][0] && argv[from][0] != '-' && !t->has_data) {
        timm_make(t, "data", argv[(*at)++]);
        t->is_timm = t->has_data = true;
        return;
    }
    if (!next_flag(config_table, CONFIG_OPTIONS, argc, argv, at, &option, value, &ignored)) { *at = from + 1; }
    while (from < *at) { timm_put(t, argv[from++]); }
}

// Makes a command line of this program's own from one that may contain timm's flags. To be freed, also after a failure.
static inline bool timm_read(TimmLine* t, int argc, char** argv, Error* err) {
    bool ok = true;
    int at = 1;
    *t = (TimmLine){.has_data = line_has(argc, argv, "data"), .normalization = -1};
    t->argv = alloc_array(char*, 2 * (size_t)argc + 8, "a command line");
    t->made = alloc_array(char*, 2 * (size_t)argc + 8, "a command line");
    timm_put(t, argv[0]);
    while (ok && at < argc) {
        char name[80];
        TimmValues values;
        timm_name(argv[at], name);
        const TimmFlag* f = timm_find(name);
        if (!f) { timm_leave(t, argc, argv, &at); continue; }
        t->is_timm = true;
        ok = timm_values(&values, f, name, argc, argv, &at, err) && timm_take(t, f, name, &values, argc, argv, err);
    }
    if (ok && t->is_timm && !line_has(argc, argv, "recipe")) { timm_make(t, "recipe", "timm"); }
    return ok;
}

// One line that says what became of timm's flags
static inline void timm_print(const TimmLine* t, int argc, char** argv) {
    if (!t->is_timm) { return; }
    printf("timm       flags of its train.py");
    if (!line_has(argc, argv, "recipe")) { printf(", whose defaults hold for what is not given (--recipe timm)"); }
    if (*t->passed_over) { printf("; without meaning here: %s", t->passed_over); }
    if (line_has(argc, argv, "amp")) { printf("; --amp is bf16"); }
    printf("\n");
}
