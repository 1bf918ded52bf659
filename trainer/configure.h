// From the command line to a configuration.
#pragma once
#include "../model/list.h"
#include "../model/presets.h"
#include "checkpoints.h"

// Flags, over what the file of --resume or --eval says. Ends the program on --help, --list and errors.
static Config configure(int argc, char** argv) {
    Config c, saved;
    Error err;
    char given[OPTION_TEXT_SIZE], path[PATH_SIZE] = "";
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "help", given)) {
        config_help(stdout, program_name);
        exit(0);
    }
    if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "list", given)) {
        config_list(stdout);
        exit(0);
    }
    bool resumes = options_peek(config_table, CONFIG_OPTIONS, argc, argv, "resume", given) && *given;
    if (resumes) {
        snprintf(path, sizeof path, "%s/last.resume.safetensors", given);
    } else if (options_peek(config_table, CONFIG_OPTIONS, argc, argv, "eval", given)) {
        snprintf(path, sizeof path, "%s", given);
    }
    if (!options_defaults(&saved, config_table, CONFIG_OPTIONS, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (*path) {
        SafeTensors file = open_or_fail(path);
        if (!metadata_read_config(&file, &saved, config_table, CONFIG_OPTIONS, &err)) {
            fail(EXIT_RUN_TIME, "%s: %s", path, err.text);
        }
        safetensors_close(&file);
    }
    if (!config_parse(&c, *path ? &saved : NULL, argc, argv, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    if (resumes && !options_same(&saved, &c, config_table, CONFIG_OPTIONS, &err)) {
        fail(EXIT_USAGE, "a resumed run keeps its configuration, but %s: leave these flags out", err.text);
    }
    return c;
}
