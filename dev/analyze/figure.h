// Writes a figure (plot.h) to its files, and to its part of a page.
#pragma once
#include "page.h"
#include "plot.h"

// A caption in lines of limited length
static void put_caption(FILE* out, const char* text, int columns) {
    int used = 0;
    fputs("\"", out);
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (used && used + word > columns) { fputs("\\n", out); used = 0; }
        for (int i = 0; i < word; i++, text++) {
            if (strchr("\"\\`", *text)) { fputc('\\', out); }
            fputc(*text, out);
        }
        used += word + 1;
        if (*text) { fputc(' ', out); text++; }
    }
    fputs("\"", out);
}

typedef struct { int width, height, head, foot, caption_columns; } FigureSize; // pixels; characters per line

// The script before the panels. Sizes are pixels of SVG; PNG has twice as many.
static void put_head(FILE* out, const Figure* f, const char* caption, const FigureSize* s) {
    fprintf(out, RESULTS_MARK "%s\n# gnuplot FILE.gp >FILE.png; gnuplot -e \"format='svg'\" FILE.gp >FILE.svg\n",
            f->results->command);
    fprintf(out, "if (!exists('format')) format = 'png'\nif (!exists('panel')) panel = 0\n"
                 "ink = '" PLOT_INK "'; muted = '" PLOT_MUTED "'; grid = '" PLOT_GRID "'\n");
    fprintf(out, "width = panel ? %d : %d; height = panel ? %d : %d\n", PANEL_WIDTH, s->width, PANEL_HEIGHT, s->height);
    fprintf(out, "if (format eq 'svg') {\n"
                 "    set terminal svg noenhanced size width, height font '" PLOT_FONT ",15' background '#ffffff'\n"
                 "} else { if (format eq 'dumb') {\n"
                 "    set terminal dumb noenhanced size columns, lines\n"
                 "} else {\n"
                 "    set terminal pngcairo noenhanced size 2 * width, 2 * height font '" PLOT_FONT ",15' "
                 "fontscale 1.5 linewidth 2 pointscale 2 background '#ffffff'\n}}\n");
    fprintf(out,
            "image = format eq 'svg' ? 'image pixels' : 'image' # as one, it would be a file beside an SVG\nheading = ");
    put_quoted(out, f->title);
    fprintf(out, "\ncaption = ");
    put_caption(out, caption, s->caption_columns);
    fputc('\n', out);
}

static FigureSize figure_size(const Figure* f, const char* caption) {
    FigureSize s = {.width = f->columns * PANEL_WIDTH, .head = 44};
    s.caption_columns = s.width / 7;
    s.foot = 24 + 16 * (1 + text_columns(caption) / (s.caption_columns - 8));
    s.height = s.head + (f->panels + f->columns - 1) / f->columns * PANEL_HEIGHT + s.foot;
    return s;
}

// The place of each panel, and around them title and caption, which come with the first
static void put_places(FILE* out, const Figure* f, const FigureSize* s) {
    fprintf(out, "left(k) = ((k - 1) %% %d) / %d.; bottom(k) = 1 - (%d + %d * (1 + (k - 1) / %d)) / %d.\n", f->columns,
            f->columns, s->head, PANEL_HEIGHT, f->columns, s->height);
    fprintf(out, "share_x = %.6f; share_y = %.6f; heading_y = %.6f; caption_y = %.6f\n", 1.0 / f->columns,
            (double)PANEL_HEIGHT / s->height, 1 - 22.0 / s->height, (s->foot - 16.0) / s->height);
}

static bool figure_script(Figure* f, const char* path, Error* err) {
    char caption[4096];
    WholeFile out;
    figure_caption(f, caption, sizeof caption);
    FigureSize s = figure_size(f, caption);
    if (!results_may_replace(path, RESULTS_MARK, err) || !whole_file_begin(&out, path, err)) { return false; }
    fflush(f->data.out);
    fflush(f->body.out);
    put_head(out.file, f, caption, &s);
    put_places(out.file, f, &s);
    fprintf(out.file, "%sif (panel == 0) { set multiplot }\n%sif (panel == 0) { unset multiplot }\n", f->data.text,
            f->body.text);
    return whole_file_end(&out, err);
}

// NAME.png and NAME.svg go with NAME.gp: without that, they are not ours.
static bool picture_is_ours(const char* script, const char* picture, Error* err) {
    return path_exists(script) || !path_exists(picture) || results_may_replace(picture, RESULTS_MARK, err);
}

static bool write_bytes(const char* path, const Bytes* bytes, Error* err) {
    WholeFile out;
    if (!whole_file_begin(&out, path, err)) { return false; }
    fwrite(bytes->bytes, 1, bytes->count, out.file);
    return whole_file_end(&out, err);
}

static bool figure_draw(const char* script, char* settings, const char* path, Error* err) {
    Bytes picture;
    if (!gnuplot_draw(script, settings, &picture, err)) { return false; }
    bool ok = write_bytes(path, &picture, err);
    free(picture.bytes);
    return ok;
}

// The figure's files; without gnuplot only the script, to draw it once gnuplot is there
static bool figure_write(Figure* f, const char* script, Error* err) {
    char name[80], png[PATH_SIZE], svg[PATH_SIZE];
    snprintf(name, sizeof name, "%s.png", f->name);
    results_path(f->results, name, png);
    snprintf(name, sizeof name, "%s.svg", f->name);
    results_path(f->results, name, svg);
    bool ours = picture_is_ours(script, png, err) && picture_is_ours(script, svg, err);
    if (!ours || !figure_script(f, script, err)) { return false; }
    output_take_back();
    if (!gnuplot_is_there()) {
        f->results->undrawn++;
        if (!f->results->quiet) { printf("wrote %s, which draws the picture once gnuplot-nox is installed\n", script); }
        return true;
    }
    char png_format[] = "format='png'", svg_format[] = "format='svg'";
    if (!figure_draw(script, png_format, png, err) || !figure_draw(script, svg_format, svg, err)) { return false; }
    if (!f->results->quiet) { printf("wrote %s, .svg, .gp\n", png); }
    return true;
}

static void figure_drop(Figure* f) {
    text_free(&f->data);
    text_free(&f->body);
}

static bool figure_end(Figure* f, Error* err) {
    char name[80], script[PATH_SIZE];
    snprintf(name, sizeof name, "%s.gp", f->name);
    results_path(f->results, name, script);
    bool ok = figure_write(f, script, err) && (!f->results->page || page_figure(f, script, err));
    figure_drop(f);
    return ok;
}
