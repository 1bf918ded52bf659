// From the command line to a configuration.
#pragma once
#include "../model/list.h"
#include "../model/settings.h"
#include "../model/sizes_from_file.h"
#include "../model/timm_flags.h"
#include "../runtime/version.h"
#include "folder.h"

// --help, --list and --version end the program.
static void tell_and_exit(int argc, char** argv) {
    static const char* const tells[] = {"help", "list", "version"};
    char given[OPTION_TEXT_SIZE], text[VERSION_TEXT];
    int what = 0;
    while (what < 3 && !options_peek(config_table, CONFIG_OPTIONS, argc, argv, tells[what], given)) { what++; }
    switch (what) {
    case 0: config_help(stdout, program_name); break;
    case 1: config_list(stdout); break;
    case 2: printf("%s\n", version_text(text)); break;
    default: return;
    }
    exit(0);
}

static Config parse_or_fail(const Config* saved, int argc, char** argv) {
    Config c;
    Error err;
    if (!config_parse(&c, saved, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    return c;
}

// The folder of the run to resume, from --resume FOLDER, --resume FOLDER/last.resume.safetensors, or --continue if the
// run has a checkpoint; false: there is nothing to resume
static bool folder_to_resume(int argc, char** argv, char folder[FOLDER_SIZE]) {
    char given[OPTION_TEXT_SIZE];
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "resume", given) && *given) {
        char* name = strrchr(given, '/') ? strrchr(given, '/') + 1 : given;
        bool state = strcmp(name, RESUME_FILE) == 0;
        if (!state && path_exists(given) && !is_folder(given)) {
            fail(EXIT_USAGE,
                 "--resume %s: give the folder of the run, or its " RESUME_FILE "; --init-from starts a new "
                 "run from the weights of a file", given);
        }
        if (state) { *name = 0; }
        snprintf(folder, FOLDER_SIZE, "%s", *given ? given : ".");
        return true;
    }
    if (!options_peek(config_table, CONFIG_OPTIONS, argc, argv, "continue", given) || strcmp(given, "on") != 0) {
        return false;
    }
    if (!options_peek(config_table, CONFIG_OPTIONS, argc, argv, "output", folder) || !*folder) {
        fail(EXIT_USAGE, "--continue goes on in a folder that is known: give it by --output");
    }
    return folder_has(folder, RESUME_FILE);
}

static void read_origin(Origin* o, const char* path) {
    SafeTensors file = open_or_fail(path);
    Error err;
    if (!origin_read(o, &file, &err)) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
    safetensors_close(&file);
}

// --classify and --export take the model of --init-from unchanged, and need no data set.
static bool asks_for_model(int argc, char** argv) {
    char given[OPTION_TEXT_SIZE];
    return options_peek(config_table, CONFIG_OPTIONS, argc, argv, "classify", given) ||
           (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "export", given) && *given);
}

// The file of a model that is evaluated, classified with or exported; false: there is none
static bool file_to_evaluate(int argc, char** argv, char path[OPTION_TEXT_SIZE]) {
    return options_peek(config_table, CONFIG_OPTIONS, argc, argv, "eval", path) ||
           (asks_for_model(argc, argv) &&
            options_peek(config_table, CONFIG_OPTIONS, argc, argv, "init-from", path) && *path);
}

// The config.txt that --config names, by its path or its folder's; false: none is named
static bool file_of_config(int argc, char** argv, char path[PATH_SIZE]) {
    char given[OPTION_TEXT_SIZE];
    if (!options_peek(config_table, CONFIG_OPTIONS, argc, argv, "config", given) || !*given) { return false; }
    snprintf(path, PATH_SIZE, is_folder(given) ? "%s/config.txt" : "%s", given);
    return true;
}

// Reads the file of --config: what the run is, not what its process was to do. An option that this version does not
// know is an error: without it this would be another run than the one that was meant.
static void read_config(Config* c, int argc, char** argv) {
    char path[PATH_SIZE], line[80];
    Error err;
    if (!file_of_config(argc, argv, path)) { return; }
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    if (!in) {
        fail(EXIT_RUN_TIME, "cannot read --config %s: give the config.txt of a run, or the run's folder", path);
    }
    if (!options_known(in, config_table, CONFIG_OPTIONS, line)) {
        hide_control_characters(line);
        fail(EXIT_RUN_TIME,
             "%s has a line '%s', which is no option of this version: take it out, or give the flags that "
             "stand for it", path, line);
    }
    rewind(in);
    if (!options_read(in, c, config_table, CONFIG_OPTIONS, RESUME_ALL, &err)) {
        fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
    }
    fclose(in);
}

// Prints which options of the file flags beside --config have changed.
RUNS_ONCE static void note_config(const Config* from_file, const Config* c, int argc, char** argv) {
    char path[PATH_SIZE];
    Error err;
    if (!file_of_config(argc, argv, path)) { return; }
    bool same = options_same(from_file, c, config_table, CONFIG_OPTIONS, RESUME_ALL, &err);
    printf("config     %s%s%s\n", path, same ? "" : ", but ", same ? "" : err.text);
}

// The config.json that belongs to these weights; false: there is none
static bool timm_config_of(int argc, char** argv, TimmConfig* t, char path[PATH_MAX]) {
    char given[OPTION_TEXT_SIZE];
    Error err;
    bool weights = file_to_evaluate(argc, argv, given) ||
                   (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "init-from", given) && *given);
    if (!weights || !timm_config_path(given, path)) { return false; }
    if (!timm_config_read(t, path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return true;
}

// Finds the model of a file to start from, or of one to evaluate that does not say it itself: --model or --config says
// it, or else the tensors do, together with timm's config.json beside them.
static void read_model(Config* c, const TimmConfig* timm, int argc, char** argv) {
    char path[OPTION_TEXT_SIZE], given[OPTION_TEXT_SIZE];
    Error err;
    bool evaluates = file_to_evaluate(argc, argv, path);
    bool starts = !evaluates && options_peek(config_table, CONFIG_OPTIONS, argc, argv, "init-from", path) && *path;
    bool named = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "model", given) ||
                 options_peek(config_table, CONFIG_OPTIONS, argc, argv, "config", given);
    if (!evaluates && (!starts || named)) { return; }
    SafeTensors file = open_or_fail(path);
    Config other = *c;
    bool ours = metadata_is_ours(&file), says = evaluates && ours, with_data = !asks_for_model(argc, argv);
    bool theirs = timm && !ours && !named;
    bool no_vit = theirs && timm_model(timm, &other) && backbone_of(&other) != BACKBONE_VIT;
    bool read = (says && with_data) || (no_vit && !evaluates) ||
                (starts ? config_of_weights(c, &file, &err)
                 : named || says || no_vit ? config_classes_from_tensors(c, &file, &err)
                                           : config_from_tensors(c, &file, true, &err));
    read = read && (!theirs || take_timm_model(c, timm, &err));
    if (!read) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
    safetensors_close(&file);
}

// Takes the mean and deviation of images if --normalize has a name for them; otherwise training uses the data set's
// own.
static void take_normalization(Config* c, const TimmConfig* t) {
    for (int k = NORMALIZE_IMAGENET; t->normalizes && k <= NORMALIZE_HALF; k++) {
        bool same = memcmp(t->mean, known_mean[k], sizeof t->mean) == 0 &&
                    memcmp(t->std, known_std[k], sizeof t->std) == 0;
        if (same) { c->normalize = k; }
    }
}

static void print_timm_config(const Config* c, const TimmConfig* t, const char* path) {
    char heads[OPTION_TEXT_SIZE];
    printf("timm       %s, flags beside it win: %s heads, MLP %s; images %s, crop %g %%", path,
           option_text(c, config_option("heads"), heads),
           choice_name(config_option("mlp")->choices, c->mlp),
           choice_name(config_option("interpolation")->choices, c->interpolation), 100 * c->crop_pct);
    for (int i = 0; t->normalizes && i < 3; i++) { printf("%s %.4g", i ? "" : ", mean", t->mean[i]); }
    for (int i = 0; t->normalizes && i < 3; i++) { printf("%s %.4g", i ? "" : ", std", t->std[i]); }
    printf("\n");
}

// How images are prepared and what the classes are called, according to the config.json beside the weights
static void take_timm_config(Config* c, Origin* o, TimmConfig* t, const char* path) {
    Error err;
    if (!take_timm_images(c, t, &err)) { fail(EXIT_RUN_TIME, "%s: %s", path, err.text); }
    take_normalization(c, t);
    if (t->normalizes) {
        o->normalizes = true;
        memcpy(o->mean, t->mean, sizeof o->mean);
        memcpy(o->std, t->std, sizeof o->std);
    }
    if (!o->class_names && t->class_names) {
        o->class_names = t->class_names;
        o->class_ids = t->class_ids;
    } else {
        timm_config_free(t);
    }
    print_timm_config(c, t, path);
}

// Where a run's inputs lie is recorded only in its folder, in config.txt.
static void read_inputs(Config* c, const char* folder) {
    char path[PATH_SIZE];
    Error err;
    snprintf(path, sizeof path, "%s/config.txt", folder);
    FILE* in = fopen(path, "r");
    if (in && !options_read(in, c, config_table, CONFIG_OPTIONS, 1u << RESUME_PATH, &err)) {
        fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
    }
    if (in) { fclose(in); }
}

// The folder of the run that weights belong to: the one they lie in, or the one that holds their folder best/
static const char* run_of_weights(const char* given, char folder[FOLDER_SIZE]) {
    char room[PATH_MAX], inner[FOLDER_SIZE];
    folder_of(weights_path(given, room), folder);
    if (folder_has(folder, "config.txt") || !folder_has(folder, TIMM_WEIGHTS)) { return folder; }
    memcpy(inner, folder, sizeof inner);
    return folder_of(inner, folder);
}

// Applies flags over what the run had: they may repeat it, say where its data lie now, and make it longer.
static Config configure_resumed(Origin* o, const char* folder, int argc, char** argv) {
    char path[PATH_SIZE], given[OPTION_TEXT_SIZE];
    Error err;
    if (!folder_has(folder, RESUME_FILE)) {
        fail(EXIT_RUN_TIME, "--resume %s: there is no " RESUME_FILE " to go on with: give the folder of a run that has "
             "saved, or start it without --resume", folder);
    }
    snprintf(path, sizeof path, "%s/" RESUME_FILE, folder);
    read_origin(o, path);
    if (!o->ours) {
        fail(EXIT_RUN_TIME, "%s has no mark of this program: another one, or an earlier version, wrote it. Start a new "
             "run from its weights with --init-from", path);
    }
    read_inputs(&o->config, folder);
    Config base = o->config;
    read_config(&base, argc, argv);
    Config c = parse_or_fail(&base, argc, argv);
    if (!options_same(&o->config, &c, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, &err)) {
        fail(EXIT_USAGE, "a resumed run keeps its configuration, but %s: leave these flags out", err.text);
    }
    if (strcmp(c.init_from, o->config.init_from) != 0) {
        fail(EXIT_USAGE, "--init-from starts a new run, and %s holds one to go on with: leave out one of the two",
             folder);
    }
    bool epochs = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "epochs", given);
    if (epochs && !options_peek(config_table, CONFIG_OPTIONS, argc, argv, "steps", given)) { c.steps = 0; }
    snprintf(c.resume, sizeof c.resume, "%s", folder);
    return c;
}

// The model comes from either of two flags; a data set is used only if one is named.
static void settle_model(Config* c, int argc, char** argv) {
    char given[OPTION_TEXT_SIZE];
    if (!*c->eval) { memcpy(c->eval, c->init_from, sizeof c->eval); }
    if (!options_peek(config_table, CONFIG_OPTIONS, argc, argv, "data", given)) { c->data[0] = 0; }
}

// Applies flags over what the file of --resume, --continue or --eval says.
static Config configure_by(int argc, char** argv, Origin* o) {
    char given[OPTION_TEXT_SIZE], folder[FOLDER_SIZE], timm_path[PATH_MAX];
    TimmConfig timm_config;
    Error err;
    if (!options_defaults(&o->config, config_table, CONFIG_OPTIONS, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (folder_to_resume(argc, argv, folder)) { return configure_resumed(o, folder, argc, argv); }
    bool model_alone = asks_for_model(argc, argv);
    if (file_to_evaluate(argc, argv, given)) {
        read_origin(o, given);
        if (!model_alone) { read_inputs(&o->config, run_of_weights(given, folder)); }
    }
    Config base = o->config;
    read_config(&base, argc, argv);
    bool timm = timm_config_of(argc, argv, &timm_config, timm_path);
    read_model(&base, timm ? &timm_config : NULL, argc, argv);
    if (timm) { take_timm_config(&base, o, &timm_config, timm_path); }
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "normalize", given)) { o->normalizes = false; }
    Config c = parse_or_fail(&base, argc, argv);
    note_config(&base, &c, argc, argv);
    if (model_alone) { settle_model(&c, argc, argv); }
    return c;
}

// Ends the program for --help, --list, --version and errors.
RUNS_ONCE static Config configure(int argc, char** argv, Origin* o) {
    static TimmLine line; // static, because the words of --classify stay in it
    Error err;
    tell_and_exit(argc, argv);
    if (!timm_read(&line, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    timm_print(&line, argc, argv);
    return configure_by(line.argc, line.argv, o);
}
