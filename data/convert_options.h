// The options of ./convert_data. Which command takes which is in data/convert.c's table of commands.
#pragma once
#include "../runtime/options.h"

typedef struct {
    int any_hash, help;
} ConvertOptions;

static const Option convert_options[] = {
    {OPTION_SWITCH, "any-hash", offsetof(ConvertOptions, any_hash), "off", 0, 0, NULL, RESUME_FREE,
     "also accept files that have the right size and contents, but not the official MD5"},
    {OPTION_SWITCH, "help", offsetof(ConvertOptions, help), "off", 0, 0, NULL, RESUME_FREE,
     "print this; after a command, what belongs to it"},
};
enum { CONVERT_OPTIONS = sizeof convert_options / sizeof convert_options[0] };
