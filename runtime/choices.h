// The choices of an option, as one table: a row for each choice, X(constant, name, note for --list, whatever else its
// users need to know of it). Enum, names and notes come from it, so that their order is the same:
//     #define COLOURS(X) X(COLOUR_RED, "red", "as blood") X(COLOUR_BLUE, "blue", "as the sky")
//     enum { COLOURS(CHOICE_CONSTANT) };
//     static const char* const colour_notes[] = {COLOURS(CHOICE_NOTE)};
//     CHOICES(COLOURS) is "red|blue", as read by options.h. A table without notes ends with the names.
#pragma once

#define CHOICE_CONSTANT(constant, ...) constant,
#define CHOICE_NAME(constant, name, ...) name,
#define CHOICE_NOTE(constant, name, note, ...) note,
#define CHOICE_BEHIND_BAR(constant, name, ...) "|" name
#define CHOICES(TABLE) (&(TABLE(CHOICE_BEHIND_BAR))[1])
