// For tests of launchers' environment variables
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_all(const char* variables) { // "A=1 B=2", and nothing else
    char text[1000];
    clearenv();
    snprintf(text, sizeof text, "%s", variables);
    for (char* word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        char* value = strchr(word, '=');
        *value++ = 0;
        setenv(word, value, 1);
    }
}
