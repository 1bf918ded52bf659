// A configuration as the command line would have it. To be included behind model/settings.h
#pragma once

static Config config_from(const char* flags) {
    static char words[4096];
    char* argv[64] = {(char*)"test"};
    int argc = 1;
    Config c;
    Error err;
    snprintf(words, sizeof words, "%s", flags);
    for (char* word = strtok(words, " "); word; word = strtok(NULL, " ")) { argv[argc++] = word; }
    if (!config_parse(&c, NULL, argc, argv, &err)) { fail(EXIT_USAGE, "%s: %s", flags, err.text); }
    return c;
}
