// Tables as text: cells separated by tabs, with the names of the columns as the first row.
#pragma once
#include "../../runtime/memory.h"
#include "../../runtime/output.h"

enum { TABLE_COLUMNS = 16 };
typedef struct { const char* title; char* text; size_t size; FILE* out; } Table;

static inline void table_begin(Table* t, const char* title, const char* columns) {
    *t = (Table){.title = title};
    t->out = open_memstream(&t->text, &t->size);
    if (!t->out) { fail(EXIT_RUN_TIME, "no memory for a table: close other programs"); }
    fprintf(t->out, "%s\n", columns);
}

__attribute__((format(printf, 2, 3)))
static inline void table_row(Table* t, const char* format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(t->out, format, args);
    va_end(args);
    fputc('\n', t->out);
}

// Moves past this cell; false: it was the last of its row. The tab or line break after it becomes a 0.
static inline bool next_cell(char** at, char** cell) {
    char* end = *at + strcspn(*at, "\t\n");
    bool more = *end == '\t';
    *cell = *at;
    *end = 0;
    *at = end + 1;
    return more;
}

typedef struct { int width[TABLE_COLUMNS], columns; } TableShape;

// The width of each column; no table has more than TABLE_COLUMNS
static inline TableShape table_shape(const char* text) {
    TableShape shape = {0};
    char* copy = copy_text(text, "a table");
    for (char* at = copy; *at;) {
        bool more = true;
        for (int k = 0; more; k++) {
            char* cell;
            more = next_cell(&at, &cell);
            int columns = text_columns(cell);
            if (columns > shape.width[k]) { shape.width[k] = columns; }
            if (k == shape.columns) { shape.columns++; }
        }
    }
    free(copy);
    return shape;
}

// Aligns the first column left, numbers right. before, between: what precedes the first cell and the others
static inline void table_put(const char* text, const TableShape* shape, const char* before, const char* between,
                             const char* end, const char* under_names) {
    char* copy = copy_text(text, "a table");
    bool names = true;
    for (char* at = copy; *at; names = false) {
        bool more = true;
        for (int k = 0; more; k++) {
            char* cell;
            more = next_cell(&at, &cell);
            int pad = shape->width[k] - text_columns(cell);
            printf("%s%*s%s%*s", k == 0 ? before : between, k == 0 ? 0 : pad, "", cell, k == 0 ? pad : 0, "");
        }
        printf("%s\n%s", end, names ? under_names : "");
    }
    free(copy);
}

// title: or NULL
static inline void table_print(const char* title, const char* text) {
    TableShape shape = table_shape(text);
    if (title) { printf("\n%s\n", title); }
    table_put(text, &shape, "  ", "  ", "", "");
}

static inline void table_markdown(const char* text) {
    TableShape shape = table_shape(text);
    char line[8 * TABLE_COLUMNS + 4] = "|";
    for (int k = 0; k < shape.columns; k++) { strcat(line, k == 0 ? "---|" : "---:|"); }
    strcat(line, "\n");
    table_put(text, &shape, "| ", " | ", " |", line);
}

// ---- csv

// Text in a cell, quoted if necessary. It is valid until the fourth call after this one.
static inline const char* csv_text(const char* text) {
    static char quoted[4][1024];
    static int turn;
    char* out = quoted[turn = (turn + 1) % 4];
    if (!strpbrk(text, ",\"\n\r")) { return text; }
    size_t at = 0;
    out[at++] = '"';
    for (; *text && at < sizeof quoted[0] - 4; text++) {
        if (*text == '"') { out[at++] = '"'; }
        out[at++] = *text;
    }
    out[at++] = '"';
    out[at] = 0;
    return out;
}
