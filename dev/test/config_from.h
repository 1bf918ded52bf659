// A configuration as from the command line, from flags in one string. To be included after model/settings.h
#pragma once

static bool parse_flags(Config* c, const char* flags, Error* err) {
    static char words[4096];
    char* argv[128] = {(char*)"test"};
    int argc = 1;
    snprintf(words, sizeof words, "%s", flags);
    for (char* word = strtok(words, " "); word; word = strtok(NULL, " ")) { argv[argc++] = word; }
    return config_parse(c, NULL, argc, argv, err);
}

static Config config_from(const char* flags) {
    Config c;
    Error err;
    if (!parse_flags(&c, flags, &err)) { fail(EXIT_USAGE, "%s: %s", flags, err.text); }
    return c;
}
