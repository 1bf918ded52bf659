// The trainer's man page, and completion of its flags for bash and zsh, made from its option table:
//
//     manual man | bash | zsh
#include "../../model/list.h"
#include "../../runtime/version.h"

// ---- Words of an option

// The words that a choice, a switch or --model accepts, separated by spaces; false: it takes others
static bool values_of(const Option* o, char text[2048]) {
    text[0] = 0;
    if (o->type == OPTION_CHOICE || o->type == OPTION_SWITCH) {
        snprintf(text, 2048, "%s", o->type == OPTION_SWITCH ? "off|on" : o->choices);
        for (char* c = text; *c; c++) { *c = *c == '|' ? ' ' : *c; }
        return true;
    }
    if (strcmp(option_name(o), "model") != 0) { return false; }
    for (int f = 0, used = 0; f < FAMILIES; f++) {
        for (int p = 0; p < PRESETS; p++) {
            if (presets[p].backbone != families[f].backbone) { continue; }
            used += snprintf(text + used, 2048 - (size_t)used, "%s%s-%s", used ? " " : "", families[f].name,
                             presets[p].name);
        }
    }
    return true;
}

static bool is_file_option(const Option* o) { return o->type == OPTION_TEXT || o->type == OPTION_WORDS; }

// "--batch-size", "-b"
static const char* flag_text(const Option* o, int k, char text[80]) {
    const char* name = choice_name(o->names, k);
    snprintf(text, 80, "%s%s", name[1] ? "--" : "-", name);
    return text;
}

// ---- man: what roff would interpret is escaped

static void put_roff(const char* text) {
    for (; *text; text++) {
        if (*text == '-') { fputs("\\-", stdout); }
        else if (*text == '\\') { fputs("\\e", stdout); }
        else if (*text == '\'') { fputs("\\(aq", stdout); }
        else { putchar(*text); }
    }
}

static void man_option(const Option* o) {
    printf(".TP\n");
    for (int k = 0; k < choice_count(o->names); k++) {
        char flag[80];
        printf("%s\\fB", k ? ", " : "");
        put_roff(flag_text(o, k, flag));
        printf("\\fR");
    }
    printf(" \\fI");
    put_roff(option_value_name(o));
    printf("\\fR\n\\&");
    put_roff(o->help);
    if (*o->initial) {
        printf(" [");
        put_roff(o->initial);
        printf("]");
    }
    printf("\n");
}

static void print_man(void) {
    printf(".TH TRAIN_KAT 1 \"\" \"kat.c " KAT_VERSION "\" \"User Commands\"\n"
           ".SH NAME\n"
           "train_kat, train_katcu \\- train Kolmogorov\\-Arnold vision transformers on CPUs, on an NVIDIA GPU\n"
           ".SH SYNOPSIS\n.B train_kat\n[\\fB\\-\\-option\\fR \\fIvalue\\fR]...\n"
           ".SH DESCRIPTION\n"
           "Trains and evaluates vision transformers with Kolmogorov\\-Arnold parts: KAT's group rationals, KArAt's\n"
           "learned attention, and the ViT that they start from. Without any option: a small KAT with Fourier\\-KArAt\n"
           "attention on a procedural data set.\n.PP\n"
           "An option is \\fB\\-\\-flag\\fR \\fIvalue\\fR or \\fB\\-\\-flag=\\fR\\fIvalue\\fR; "
           "a switch may stand alone.\n"
           "Flags of timm\\(aqs train.py are taken too. Defaults stand in brackets.\n"
           ".SH OPTIONS\n");
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (config_table[i].type != OPTION_GROUP) { man_option(&config_table[i]); continue; }
        printf(".SS ");
        put_roff(config_table[i].help);
        printf("\n");
    }
    printf(".SH FILES\n"
           "A run leaves in its folder metrics.csv, config.txt, best.safetensors, last.safetensors, "
           "last.ema.safetensors\nand last.resume.safetensors; a data set is what \\fBconvert_data\\fR makes.\n"
           ".SH EXIT STATUS\n"
           "0: done. 1: failed. 2: wrong usage. 3: stopped by a signal, and saved: \\fB\\-\\-resume\\fR goes on.\n"
           ".SH SEE ALSO\n"
           "\\fBconvert_data\\fR, \\fBanalyze\\fR, \\fBcompare_runs\\fR, \\fBinspect\\fR, \\fBfit_rational\\fR:\n"
           "each tells of itself by \\fB\\-\\-help\\fR.\n");
}

// ---- bash

static void print_bash(void) {
    char flag[80], values[2048];
    printf("# completion of train_kat and train_katcu for bash\n_train_kat() {\n"
           "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n    COMPREPLY=()\n"
           "    case $before in\n");
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const Option* o = &config_table[i];
        bool listed = o->type != OPTION_GROUP && values_of(o, values);
        if (o->type == OPTION_GROUP || (!listed && !is_file_option(o))) { continue; }
        printf("    ");
        for (int k = 0; k < choice_count(o->names); k++) { printf("%s%s", k ? " | " : "", flag_text(o, k, flag)); }
        if (listed) { printf(") mapfile -t COMPREPLY < <(compgen -W '%s' -- \"$current\") ;;\n", values); }
        else { printf(") mapfile -t COMPREPLY < <(compgen -f -- \"$current\") ;;\n"); }
    }
    printf("    esac\n    [ ${#COMPREPLY[@]} = 0 ] || return\n    mapfile -t COMPREPLY < <(compgen -W '");
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        if (config_table[i].type == OPTION_GROUP) { continue; }
        printf("%s%s", i > 1 ? " " : "", flag_text(&config_table[i], 0, flag));
    }
    printf("' -- \"$current\")\n}\ncomplete -o filenames -F _train_kat train_kat train_katcu\n");
}

// ---- zsh: in [help] brackets and in ':' fields colons are escaped, in quotes '

static void put_zsh(const char* text) {
    for (; *text; text++) {
        if (*text == '\'') { fputs("'\\''", stdout); continue; }
        if (strchr("[]:\\", *text)) { putchar('\\'); }
        putchar(*text);
    }
}

static void print_zsh(void) {
    char flag[80], values[2048];
    printf("#compdef train_kat train_katcu\n_arguments -s");
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const Option* o = &config_table[i];
        for (int k = 0; o->type != OPTION_GROUP && k < choice_count(o->names); k++) {
            printf(" \\\n    '%s[", flag_text(o, k, flag));
            put_zsh(o->help);
            printf("]:%s:", option_name(o));
            if (values_of(o, values)) { printf("(%s)'", values); }
            else { printf("%s'", is_file_option(o) ? "_files" : ""); }
        }
    }
    printf("\n");
}

int main(int argc, char** argv) {
    const char* what = argc == 2 ? argv[1] : "";
    if (strcmp(what, "man") == 0) { print_man(); }
    else if (strcmp(what, "bash") == 0) { print_bash(); }
    else if (strcmp(what, "zsh") == 0) { print_zsh(); }
    else { fail(EXIT_USAGE, "manual man | bash | zsh"); }
    return 0;
}
