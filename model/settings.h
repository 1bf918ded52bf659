// Who sets what: the defaults, what a saved run had, the sizes of the model that --model names, the recipe, the command
// line. Each overrides the ones before it.
#pragma once
#include "../runtime/inlining.h"
#include "../runtime/ranks.h"
#include "presets.h"

// A recipe's flags as a command line
enum { FLAG_TEXT = 1536, FLAG_WORDS = 160 };
typedef struct { char text[FLAG_TEXT], *words[FLAG_WORDS]; int count; } FlagWords;

static inline void split_flags(FlagWords* f, const char* flags) {
    snprintf(f->text, sizeof f->text, "%s", flags);
    f->words[0] = f->text + strlen(f->text); // in the place of a program's name
    f->count = 1;
    for (char* at = f->text; *at && f->count < FLAG_WORDS;) {
        char* end = at + strcspn(at, " ");
        f->words[f->count++] = at;
        at = end + strspn(end, " ");
        *end = 0;
    }
}

// Some of a recipe's flags are for some models only; those for this one, whose configuration is otherwise complete
static inline bool recipe_has_part(int part, const Config* model) {
    return part == RECIPE_WIDE ? model->dim >= 768 : part == RECIPE_GR_KAN ? model->mlp == MLP_GR_KAN : true;
}

static inline bool recipe_apply(Config* c, int recipe, const Config* model, Error* err) {
    for (int part = 0; part < RECIPE_PARTS; part++) {
        FlagWords f;
        split_flags(&f, recipe_has_part(part, model) ? recipe_flags[recipe][part] : "");
        if (!options_parse(c, config_table, CONFIG_OPTIONS, f.count, f.words, err)) { return false; }
    }
    return true;
}

// Settles what depends on the number of ranks.
static inline bool config_share(Config* c, Error* err) {
    if (!c->grad_accum_steps) { c->grad_accum_steps = ranks.size; }
    return *c->eval || ranks_have_work(ranks.size, c->grad_accum_steps, err);
}

// saved may be NULL
static inline bool config_parse(Config* c, const Config* saved, int argc, char** argv, Error* err) {
    if (!options_defaults(c, config_table, CONFIG_OPTIONS, err)) { return false; }
    if (saved) { *c = *saved; }
    char given[OPTION_TEXT_SIZE];
    bool model = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "model", given);
    if (model && !config_apply_model(c, given, err)) { return false; }
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "recipe", given)) {
        Config whole = *c;
        if (!options_parse(&whole, config_table, CONFIG_OPTIONS, argc, argv, err) ||
            !recipe_apply(c, whole.recipe, &whole, err)) { return false; }
    }
    return options_parse(c, config_table, CONFIG_OPTIONS, argc, argv, err) && config_check(c, err) &&
           config_share(c, err);
}

// ---- Which of them a value comes from. The configuration itself shows that, also for a resumed run: what differs from
// what model and recipe make of the defaults was given by the user.

typedef enum { SET_BY_USER, SET_BY_RECIPE, SET_BY_RECIPE_LIKELY, SET_BY_MODEL, SET_BY_DEFAULT, SETTERS } Setter;
enum { TITLE_SIZE = OPTION_TEXT_SIZE + 64 };

typedef struct { Config initial, expected; } Unasked; // the defaults; what model and recipe make of them

static inline void without_flags(Unasked* u, const Config* c) {
    Error ignored; // a model that comes from a file need not have a name
    options_defaults(&u->initial, config_table, CONFIG_OPTIONS, &ignored);
    u->initial.grad_accum_steps = 1; // what the default means for one process
    u->expected = u->initial;
    config_apply_model(&u->expected, c->model, &ignored);
    recipe_apply(&u->expected, c->recipe, c, &ignored);
}

static inline bool same_setting(const Config* a, const Config* b, const Option* o) {
    char text[2][OPTION_TEXT_SIZE];
    return strcmp(option_text(a, o, text[0]), option_text(b, o, text[1])) == 0;
}

// The last part of the recipe that has a flag for the option; -1: none has
static inline int recipe_part_with(const Config* c, const Option* o) {
    char name[OPTION_TEXT_SIZE], value[OPTION_TEXT_SIZE];
    snprintf(name, sizeof name, "%s", option_name(o));
    for (int part = RECIPE_PARTS - 1; part >= 0; part--) {
        FlagWords f;
        split_flags(&f, recipe_has_part(part, c) ? recipe_flags[c->recipe][part] : "");
        if (options_peek(config_table, CONFIG_OPTIONS, f.count, f.words, name, value)) { return part; }
    }
    return -1;
}

static inline Setter setter_of(const Unasked* u, const Config* c, const Option* o) {
    if (!same_setting(c, &u->expected, o)) { return SET_BY_USER; }
    int part = recipe_part_with(c, o);
    if (part >= 0) { return part == RECIPE_LIKELY ? SET_BY_RECIPE_LIKELY : SET_BY_RECIPE; }
    return same_setting(c, &u->initial, o) ? SET_BY_DEFAULT : SET_BY_MODEL;
}

static inline void setter_title(const Config* c, Setter setter, char title[TITLE_SIZE]) {
    const char* recipe = choice_name(config_option("recipe")->choices, c->recipe);
    const char* file = *c->init_from ? ", and the file of --init-from" : "";
    switch (setter) {
    case SET_BY_USER: snprintf(title, TITLE_SIZE, "command line%s", file); break;
    case SET_BY_RECIPE: snprintf(title, TITLE_SIZE, "recipe %s", recipe); break;
    case SET_BY_RECIPE_LIKELY: snprintf(title, TITLE_SIZE, "recipe %s, likely: not in its paper", recipe); break;
    case SET_BY_MODEL: snprintf(title, TITLE_SIZE, "model %s", c->model); break;
    case SET_BY_DEFAULT: case SETTERS: snprintf(title, TITLE_SIZE, "defaults"); break;
    }
}

// All values, as "name value" lines grouped by setter: a run's config.txt
RUNS_ONCE static inline void settings_write(FILE* out, const Config* c) {
    Unasked u;
    without_flags(&u, c);
    for (int setter = 0; setter < SETTERS; setter++) {
        char title[TITLE_SIZE], text[OPTION_TEXT_SIZE];
        bool first = true;
        setter_title(c, (Setter)setter, title);
        for (int i = 0; i < CONFIG_OPTIONS; i++) {
            const Option* o = &config_table[i];
            if (o->type == OPTION_GROUP || setter_of(&u, c, o) != (Setter)setter) { continue; }
            if (first) { fprintf(out, "# %s\n", title); }
            fprintf(out, "%s %s\n", option_name(o), option_text(c, o, text));
            first = false;
        }
    }
}

// The same as flags, printed at the start of a run, without defaults and without what does not affect the result
RUNS_ONCE static inline void settings_print(const Config* c) {
    enum { INDENT = 11, WIDTH = 118 };
    const char* start = "settings";
    Unasked u;
    without_flags(&u, c);
    for (int setter = 0; setter < SET_BY_DEFAULT; setter++) {
        char title[TITLE_SIZE], text[OPTION_TEXT_SIZE], flag[OPTION_TEXT_SIZE + 64];
        int column = 0;
        setter_title(c, (Setter)setter, title);
        for (int i = 0; i < CONFIG_OPTIONS; i++) {
            const Option* o = &config_table[i];
            bool shapes = o->type != OPTION_GROUP && o->resume != RESUME_FREE;
            if (!shapes || setter_of(&u, c, o) != (Setter)setter) { continue; }
            if (!column) { column = printf("%-*s%s:", INDENT, start, title); }
            start = "";
            option_text(c, o, text);
            int length = snprintf(flag, sizeof flag, " --%s %s", option_name(o), *text ? text : "''");
            if (column + length > WIDTH) { column = printf("\n%-*s", INDENT + 1, "") - 1; }
            column += printf("%s", flag);
        }
        if (column) { printf("\n"); }
    }
}
