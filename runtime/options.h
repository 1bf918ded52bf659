// The command line from one table. Each Option gives its name, type, place in the configuration struct, default, range
// and help: the parser, --help, the printed and the saved configuration, and the comparison on resume all use it.
//
// Accepted: --flag value, --flag=value, underscores for dashes; a name of one letter as -f too; a switch without a
// value (on); a pair takes two values or "a,b"; numbers are one or several, "2,2,6,2"; a list takes the words up to the
// next flag.
#pragma once
#include "error.h"
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef enum {
    OPTION_GROUP,  // a heading of --help; fields below, by type:
    OPTION_INT,    // int
    OPTION_REAL,   // double
    OPTION_PAIR,   // double[2]
    OPTION_INTS,   // Ints
    OPTION_TEXT,   // char[OPTION_TEXT_SIZE]
    OPTION_CHOICE, // int, the position in choices
    OPTION_SWITCH, // int, 0 or 1
    OPTION_WORDS,  // Words, on the command line only: they have no text
} OptionType;
enum { OPTION_TEXT_SIZE = 512, OPTION_INTS_MOST = 4 };
enum { FOLDER_SIZE = OPTION_TEXT_SIZE, PATH_SIZE = FOLDER_SIZE + 320 }; // a folder given as an option; a file in it

typedef struct { int count, value[OPTION_INTS_MOST]; } Ints; // those after count are 0

static inline Ints one_int(int value) { return (Ints){1, {value}}; }

// A list on the command line, within argv; behind: length of what precedes the value in the first word, "--flag="
typedef struct { char** word; int count, behind; } Words;

static inline const char* words_at(const Words* w, int i) { return w->word[i] + (i == 0 ? w->behind : 0); }

// What happens to an option when a run is saved and resumed
typedef enum {
    RESUME_SAME,   // shapes the result: checkpoints hold it, and a resumed run keeps it
    RESUME_LENGTH, // the length of the run: checkpoints hold it, and a resumed run may be longer
    RESUME_PATH,   // where its input is: config.txt holds it, checkpoints never do
    RESUME_FREE,   // config.txt records it, a resumed run has its own
} OptionResume;

// What defines a run, as opposed to what its process was to do, and on which machine
enum { RESUME_ALL = 1 << RESUME_SAME | 1 << RESUME_LENGTH | 1 << RESUME_PATH };

typedef struct {
    OptionType type;
    const char* names;   // "image-size|img-size": the first is the flag's name, the others are accepted too
    size_t offset;       // of the field in the configuration
    const char* initial; // the default, as a user would type it
    double min, max;     // numbers and pairs
    const char* choices; // "softmax|karat"
    OptionResume resume;
    const char* help;
} Option;

// Position of text in "a|b|c", -1 when absent.
static inline int position_in(const char* list, const char* text) {
    size_t length = strlen(text);
    int position = 0;
    for (const char* item = list; item; position++) {
        const char* end = strchr(item, '|');
        size_t item_length = end ? (size_t)(end - item) : strlen(item);
        if (item_length == length && strncmp(item, text, length) == 0) { return position; }
        item = end ? end + 1 : NULL;
    }
    return -1;
}

// Item of "a|b|c" by position. The text is valid until the fourth call after this one.
static inline const char* choice_name(const char* choices, int position) {
    static char names[4][64];
    static int turn;
    char* name = names[turn = (turn + 1) % 4];
    while (position-- > 0) { choices = strchr(choices, '|') + 1; }
    snprintf(name, sizeof names[0], "%.*s", (int)strcspn(choices, "|"), choices);
    return name;
}

static inline int choice_count(const char* choices) {
    int count = 1;
    for (; *choices; choices++) { count += *choices == '|'; }
    return count;
}

static inline const char* option_name(const Option* option) { return choice_name(option->names, 0); }

static inline const Option* option_find(const Option* table, int count, const char* name) {
    for (int i = 0; i < count; i++) {
        if (table[i].type != OPTION_GROUP && position_in(table[i].names, name) >= 0) { return &table[i]; }
    }
    return NULL;
}

static inline bool parse_real(const Option* option, const char* text, double* value, Error* err) {
    char* end;
    *value = strtod(text, &end);
    if (end == text || *end || !isfinite(*value)) {
        return set_error(err, "--%s %s is not a number: give one from %.6g to %.6g",
                         option_name(option), text, option->min, option->max);
    }
    if (*value < option->min || *value > option->max) {
        return set_error(err, "--%s %s is out of range: give a value from %.6g to %.6g",
                         option_name(option), text, option->min, option->max);
    }
    return true;
}

static inline bool parse_int(const Option* option, const char* text, int* value, Error* err) {
    char* end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end) {
        return set_error(err, "--%s %s is not a whole number: give one from %.0f to %.0f",
                         option_name(option), text, option->min, option->max);
    }
    if (errno || number < option->min || number > option->max) {
        return set_error(err, "--%s %s is out of range: give a whole number from %.0f to %.0f",
                         option_name(option), text, option->min, option->max);
    }
    *value = (int)number;
    return true;
}

static inline bool parse_pair(const Option* option, const char* text, double* pair, Error* err) {
    char first[64];
    size_t length = strcspn(text, ", ");
    if (!text[length] || length >= sizeof first) {
        return set_error(err, "--%s %s needs two numbers, such as %s", option_name(option), text, option->initial);
    }
    snprintf(first, sizeof first, "%.*s", (int)length, text);
    return parse_real(option, first, &pair[0], err) && parse_real(option, text + length + 1, &pair[1], err);
}

static inline bool parse_ints(const Option* option, const char* text, Ints* ints, Error* err) {
    *ints = (Ints){0};
    for (const char* at = text; ints->count < OPTION_INTS_MOST;) {
        char one[64];
        size_t length = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)length, at);
        if (!parse_int(option, one, &ints->value[ints->count++], err)) { return false; }
        if (!at[length]) { return true; }
        at += length + 1;
    }
    return set_error(err, "--%s %s has more than %d numbers", option_name(option), text, OPTION_INTS_MOST);
}

static inline bool option_set(void* config, const Option* option, const char* text, Error* err) {
    void* field = (char*)config + option->offset;
    switch (option->type) {
    case OPTION_INT: return parse_int(option, text, (int*)field, err);
    case OPTION_REAL: return parse_real(option, text, (double*)field, err);
    case OPTION_PAIR: return parse_pair(option, text, (double*)field, err);
    case OPTION_INTS: return parse_ints(option, text, (Ints*)field, err);
    case OPTION_TEXT:
        if (strlen(text) >= OPTION_TEXT_SIZE) {
            return set_error(err, "--%s is longer than %d characters", option_name(option), OPTION_TEXT_SIZE - 1);
        }
        if (strpbrk(text, "\n\r")) { // config.txt has one line per option
            return set_error(err, "--%s has a line break in it: rename the file or folder", option_name(option));
        }
        strcpy((char*)field, text);
        return true;
    case OPTION_CHOICE: case OPTION_SWITCH: {
        const char* choices = option->type == OPTION_SWITCH ? "off|on" : option->choices;
        int position = position_in(choices, text);
        if (position < 0) {
            return set_error(err, "--%s %s is unknown: choose one of %s", option_name(option), text, choices);
        }
        *(int*)field = position;
        return true;
    }
    case OPTION_WORDS: *(Words*)field = (Words){NULL, 0, 0}; return true;
    case OPTION_GROUP: break;
    }
    return true;
}

// The shortest text that is read back as the same number
static inline void real_text(double number, char text[32]) {
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, number);
        if (strtod(text, NULL) == number) { return; }
    }
}

// The value as a user would type it, with all its digits
static inline const char* option_text(const void* config, const Option* option, char text[OPTION_TEXT_SIZE]) {
    const void* field = (const char*)config + option->offset;
    const double* real = (const double*)field;
    const int* whole = (const int*)field;
    text[0] = 0;
    switch (option->type) {
    case OPTION_INT: snprintf(text, OPTION_TEXT_SIZE, "%d", *whole); break;
    case OPTION_REAL: real_text(*real, text); break;
    case OPTION_PAIR:
        real_text(real[0], text);
        strcat(text, ",");
        real_text(real[1], text + strlen(text));
        break;
    case OPTION_INTS:
        for (int i = 0, used = 0; i < ((const Ints*)field)->count; i++) {
            used += snprintf(text + used, OPTION_TEXT_SIZE - (size_t)used, "%s%d", i ? "," : "",
                             ((const Ints*)field)->value[i]);
        }
        break;
    case OPTION_TEXT: snprintf(text, OPTION_TEXT_SIZE, "%s", (const char*)field); break;
    case OPTION_CHOICE: snprintf(text, OPTION_TEXT_SIZE, "%s", choice_name(option->choices, *whole)); break;
    case OPTION_SWITCH: snprintf(text, OPTION_TEXT_SIZE, "%s", *whole ? "on" : "off"); break;
    case OPTION_WORDS: case OPTION_GROUP: break;
    }
    return text;
}

static inline bool options_defaults(void* config, const Option* table, int count, Error* err) {
    for (int i = 0; i < count; i++) {
        if (!option_set(config, &table[i], table[i].initial, err)) { return false; }
    }
    return true;
}

// Edits (insert, delete, replace) that turn a into b, for "did you mean".
static inline int edit_distance(const char* a, const char* b) {
    int row[80], n = (int)strlen(b);
    if (n >= 80) { return 80; }
    for (int j = 0; j <= n; j++) { row[j] = j; }
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int shorter = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            row[j] = replace < shorter ? replace : shorter;
        }
    }
    return row[n];
}

// word: "--name", with its dashes
static inline bool unknown_flag(const Option* table, int count, const char* word, Error* err) {
    const char* name = word + strspn(word, "-");
    const Option* nearest = NULL;
    int best = 80;
    for (int i = 0; i < count; i++) {
        int distance = table[i].type == OPTION_GROUP ? 80 : edit_distance(name, option_name(&table[i]));
        if (distance < best) { best = distance; nearest = &table[i]; }
    }
    if (nearest && best <= 1 + (int)strlen(name) / 3) {
        return set_error(err, "unknown option %s: did you mean --%s?", word, option_name(nearest));
    }
    return set_error(err, "unknown option %s: see --help", word);
}

// Whether a word is a flag: -1 and -x.png are values
static inline bool is_flag(const char* word) {
    bool letter = word[0] == '-' && isalpha((unsigned char)word[1]) && (!word[2] || word[2] == '=');
    return letter || strncmp(word, "--", 2) == 0;
}

// Makes --batch_size --batch-size: no option has an underscore.
static inline void flag_with_dashes(char* name) {
    for (; *name; name++) { *name = *name == '_' ? '-' : *name; }
}

// Reads one flag at argv[*at]: finds its option and value, and moves *at past them.
static inline bool next_flag(const Option* table, int count, int argc, char** argv, int* at,
                             const Option** option, char value[OPTION_TEXT_SIZE], Error* err) {
    const char *word = argv[(*at)++], *equals = strchr(word, '=');
    if (!is_flag(word) || strcmp(word, "--") == 0) {
        return set_error(err, "'%s' is not an option: options look like --name value, see --help", word);
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(equals ? equals - word : (long)strlen(word)), word);
    flag_with_dashes(name);
    *option = option_find(table, count, name + (name[1] == '-' ? 2 : 1));
    if (!*option) { return unknown_flag(table, count, name, err); }
    const char* first = equals ? equals + 1 : NULL;
    bool more = *at < argc && !is_flag(argv[*at]);
    if (!first && more) { first = argv[(*at)++]; }
    if (!first && (*option)->type == OPTION_SWITCH) { first = "on"; }
    if (!first) { return set_error(err, "%s needs a value: see --help", name); }
    if ((*option)->type == OPTION_WORDS) { // options_parse takes them
        while (*at < argc && !is_flag(argv[*at])) { ++*at; }
        first = "";
    }
    bool second = (*option)->type == OPTION_PAIR && !strpbrk(first, ", ") && *at < argc;
    int length = second ? snprintf(value, OPTION_TEXT_SIZE, "%s,%s", first, argv[(*at)++])
                        : snprintf(value, OPTION_TEXT_SIZE, "%s", first);
    return length < OPTION_TEXT_SIZE || set_error(err, "%s is longer than %d characters", name, OPTION_TEXT_SIZE - 1);
}

// The words of a flag, which follow it; the first may be within it
static inline Words words_of(char** flag, int count) {
    const char* equals = strchr(flag[0], '=');
    return equals ? (Words){flag, count, (int)(equals + 1 - flag[0])} : (Words){flag + 1, count - 1, 0};
}

static inline bool options_parse(void* config, const Option* table, int count, int argc, char** argv, Error* err) {
    for (int at = 1; at < argc;) {
        const Option* option = NULL;
        char value[OPTION_TEXT_SIZE];
        int from = at;
        if (!next_flag(table, count, argc, argv, &at, &option, value, err)) { return false; }
        if (!option_set(config, option, value, err)) { return false; }
        Words* words = (Words*)((char*)config + option->offset);
        if (option->type == OPTION_WORDS) { *words = words_of(argv + from, at - from); }
    }
    return true;
}

// A command line of words and options in any order. It moves the words to the front of argv, followed by a NULL, and
// counts them in *words, as far as they were read. Only on or off after a switch is its value: anything else is one of
// the words. given (count), if not NULL: which options there were.
static inline bool options_and_words(void* config, const Option* table, int count, int argc, char** argv, int* words,
                                     bool* given, Error* err) {
    bool ok = options_defaults(config, table, count, err);
    *words = 0;
    for (int at = 1; ok && at < argc;) {
        const Option* option = NULL;
        const char* flag = argv[at];
        char value[OPTION_TEXT_SIZE];
        if (flag[0] != '-') { argv[(*words)++] = argv[at++]; continue; }
        int behind = at + 1;
        ok = next_flag(table, count, argc, argv, &at, &option, value, err);
        if (ok && option->type == OPTION_SWITCH && !strchr(flag, '=') && position_in("off|on", value) < 0) {
            strcpy(value, "on");
            at = behind;
        }
        ok = ok && option_set(config, option, value, err);
        if (ok && given) { given[option - table] = true; }
    }
    argv[*words] = NULL;
    return ok;
}

// The value that the command line gives to one flag (the last wins); false if it is absent.
static inline bool options_peek(const Option* table, int count, int argc, char** argv, const char* name,
                                char value[OPTION_TEXT_SIZE]) {
    bool found = false;
    Error ignored; // a bad flag is reported by options_parse
    for (int at = 1; at < argc;) {
        const Option* option = NULL;
        char text[OPTION_TEXT_SIZE];
        bool read = next_flag(table, count, argc, argv, &at, &option, text, &ignored);
        if (read && strcmp(option_name(option), name) == 0) {
            strcpy(value, text);
            found = true;
        }
    }
    return found;
}

// How --help writes the value
static inline const char* option_value_name(const Option* o) {
    return o->type == OPTION_INT ? "N" : o->type == OPTION_INTS ? "N[,N...]"
         : o->type == OPTION_REAL ? "X" : o->type == OPTION_PAIR ? "X X"
         : o->type == OPTION_TEXT ? "TEXT" : o->type == OPTION_CHOICE ? o->choices
         : o->type == OPTION_WORDS ? "TEXT..." : "[on|off]";
}

static inline void options_help(FILE* out, const Option* table, int count) {
    for (int i = 0; i < count; i++) {
        const Option* o = &table[i];
        if (o->type == OPTION_GROUP) { fprintf(out, "\n%s\n", o->help); continue; }
        char left[128];
        snprintf(left, sizeof left, "--%s %s", option_name(o), option_value_name(o));
        fprintf(out, "  %-34s %s", left, strlen(left) > 34 ? "\n                                     " : "");
        fprintf(out, "%s%s%s%s\n", o->help, *o->initial ? " [" : "", o->initial, *o->initial ? "]" : "");
    }
}

// Whether two configurations agree in the options whose OptionResume is in the set `which` of bits; err lists what
// differs.
static inline bool options_same(const void* saved, const void* now, const Option* table, int count, unsigned which,
                                Error* err) {
    size_t used = 0;
    err->text[0] = 0;
    for (int i = 0; i < count; i++) {
        char was[OPTION_TEXT_SIZE], is[OPTION_TEXT_SIZE];
        if (table[i].type == OPTION_GROUP || !(which >> table[i].resume & 1)) { continue; }
        if (strcmp(option_text(saved, &table[i], was), option_text(now, &table[i], is)) == 0) { continue; }
        if (used < sizeof err->text) {
            used += snprintf(err->text + used, sizeof err->text - used, "%s--%s was %s, is now %s",
                             used ? "; " : "", option_name(&table[i]), was, is);
        }
    }
    return used == 0;
}

// Whether every line of such a file names an option of the table, or is empty or a comment; line: the first that does
// not
static inline bool options_known(FILE* in, const Option* table, int count, char line[80]) {
    char* text = NULL;
    size_t room = 0;
    bool known = true;
    while (known && getline(&text, &room, in) > 0) {
        text[strcspn(text, " \n")] = 0;
        known = !*text || *text == '#' || option_find(table, count, text);
        if (!known) { snprintf(line, 80, "%s", text); }
    }
    free(text);
    return known;
}

// Reads "name value" lines of the options whose OptionResume is in the set `which` of bits. Names that the table lacks,
// from another version, are skipped.
static inline bool options_read(FILE* in, void* config, const Option* table, int count, unsigned which, Error* err) {
    char line[OPTION_TEXT_SIZE + 80];
    while (fgets(line, sizeof line, in)) {
        char* value = line + strcspn(line, " \n");
        bool has_value = *value == ' ';
        *value = 0;
        const Option* option = has_value ? option_find(table, count, line) : NULL;
        if (!option || !(which >> option->resume & 1)) { continue; }
        value[1 + strcspn(value + 1, "\n")] = 0;
        if (!option_set(config, option, value + 1, err)) { return false; }
    }
    return !ferror(in) || set_error(err, "%s", strerror(errno));
}
