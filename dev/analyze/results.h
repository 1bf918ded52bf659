// Where an analysis puts its results: numbers as csv, tables on the standard output, pictures (plot.h), and, for a
// report, all of them again as parts of a page. Every file is written atomically, and only files made by this program
// are replaced: a csv is recognised by its first line, a picture by the script that drew it.
#pragma once
#include "../compare_runs/text_table.h"
#include "run.h"

#define RESULTS_MARK "# drawn for kat.c: " // the first line of a script, before the command

typedef struct {
    char folder[FOLDER_SIZE];
    char command[2048];  // that makes this again
    char suffix[132];    // of file names: "", or "-RUN" if an analysis is made for several runs in turn
    FILE* page;          // of a report, or NULL
    int lock;            // of the folder
    int undrawn;         // pictures not drawn for want of gnuplot
    bool quiet;          // nothing on the standard output
} Results;

static bool results_open(Results* r, const char* folder, Error* err) {
    if (strlen(folder) >= sizeof r->folder) { return set_error(err, "the path %.100s... is too long", folder); }
    strcpy(r->folder, folder);
    if (!make_folders(r->folder, err)) { return false; }
    Error reason;
    r->lock = folder_lock(r->folder, &reason);
    return r->lock != LOCK_HELD_BY_OTHER ||
           set_error(err, "%s: wait until it ends, or choose another --output", reason.text);
}

static void results_close(Results* r) {
    if (r->lock >= 0) { close(r->lock); }
}

// The path of a file called NAME, such as "curves.csv"; the suffix comes before its extension.
static void results_path(const Results* r, const char* name, char path[PATH_SIZE]) {
    const char* ending = strrchr(name, '.');
    int stem = (int)(ending ? ending - name : (long)strlen(name));
    snprintf(path, PATH_SIZE, "%s/%.*s%s%s", r->folder, stem, name, r->suffix, ending ? ending : "");
}

// Whether the file does not exist, or begins with this
static bool results_may_replace(const char* path, const char* beginning, Error* err) {
    char line[4096] = "";
    if (!path_exists(path)) { return true; }
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    bool read = in && fgets(line, sizeof line, in);
    if (in) { fclose(in); }
    if (read && strncmp(line, beginning, strlen(beginning)) == 0) { return true; }
    return set_error(err, "%s is not of ./analyze, and stays as it is: move it elsewhere, or give another --output",
                     path);
}

// ---- csv: a line of names, then rows

typedef struct { WholeFile out; bool quiet; } Csv;

static bool csv_begin(Csv* csv, const Results* r, const char* name, const char* columns, Error* err) {
    char path[PATH_SIZE];
    results_path(r, name, path);
    csv->quiet = r->quiet;
    if (!results_may_replace(path, columns, err) || !whole_file_begin(&csv->out, path, err)) { return false; }
    fprintf(csv->out.file, "%s\n", columns);
    return true;
}

__attribute__((format(printf, 2, 3)))
static inline void csv_row(Csv* csv, const char* format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(csv->out.file, format, args);
    va_end(args);
    fputc('\n', csv->out.file);
}

static bool csv_end(Csv* csv, Error* err) {
    if (!whole_file_end(&csv->out, err)) { return false; }
    if (csv->quiet) { return true; }
    output_take_back();
    printf("wrote %s\n", csv->out.path);
    return true;
}

// ---- Text in a page

static void html_text(FILE* out, const char* text) {
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
    }
}

static void results_note(Results* r, const char* text) {
    output_take_back();
    printf("%s\n", text);
    if (!r->page) { return; }
    fputs("<p>", r->page);
    html_text(r->page, text);
    fputs("</p>\n", r->page);
}

// ---- Tables

static void table_html(FILE* page, const char* title, char* text) {
    fputs("<div class=\"table\" tabindex=\"0\"><table><caption>", page); // a keyboard can scroll it
    html_text(page, title);
    fputs("</caption>\n", page);
    int row = 0;
    for (char* at = text; *at; row++) {
        bool more = true;
        fputs("<tr>", page);
        for (int k = 0; more; k++) {
            char* cell;
            more = next_cell(&at, &cell);
            const char* tag = row == 0 ? "th scope=\"col\"" : k == 0 ? "th scope=\"row\"" : "td";
            fprintf(page, "<%s>", tag);
            html_text(page, cell);
            fprintf(page, "</%.2s>", tag);
        }
        fputs("</tr>\n", page);
    }
    fputs("</table></div>\n", page);
}

static void table_end(Table* t, Results* r) {
    fclose(t->out);
    if (!r->quiet) {
        output_take_back();
        table_print(t->title, t->text);
    }
    if (r->page) { table_html(r->page, t->title, t->text); }
    free(t->text);
}
