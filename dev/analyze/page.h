// Pictures within a self-contained page. SVG is in the markup and takes the page's colours, including its dark mode;
// what has too many points for that is a PNG in base64.
#pragma once
#include "plot.h"

static void put_base64(FILE* out, const uint8_t* bytes, size_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < count; i += 3) {
        size_t rest = count - i;
        uint32_t second = rest > 1 ? bytes[i + 1] : 0, third = rest > 2 ? bytes[i + 2] : 0;
        uint32_t three = (uint32_t)bytes[i] << 16 | second << 8 | third;
        fputc(digits[three >> 18], out);
        fputc(digits[three >> 12 & 63], out);
        fputc(rest > 1 ? digits[three >> 6 & 63] : '=', out);
        fputc(rest > 2 ? digits[three & 63] : '=', out);
    }
}

// A PNG file's contents; the size at which it is shown
static void page_png(FILE* page, const Bytes* png, int width, int height, const char* alt) {
    fprintf(page, "<img width=\"%d\" height=\"%d\" alt=\"", width, height);
    html_text(page, alt);
    fputs("\" src=\"data:image/png;base64,", page);
    put_base64(page, png->bytes, png->count);
    fputs("\">\n", page);
}

// Text of gnuplot's SVG, and its replacement in a page; %d: the picture's number, to make ids unique
typedef struct { const char *from, *to; } Replacement;
static const Replacement svg_replacements[] = {
    {" id='", " id='p%d-"}, {" id=\"", " id=\"p%d-"},
    {"xlink:href='#", "href='#p%d-"}, {"xlink:href=\"#", "href=\"#p%d-"}, {"xlink:href", "href"},
    {"url(#", "url(#p%d-"}, {"fill=\"#ffffff\"/>", "fill=\"none\"/>"},
};

// Colours of plot.h, written "rgb(  0, 114, 178)" or "rgb(0,114,178)", and the page's names for them
static const char* page_color(const char* at, int* length) {
    static const struct { const char *color, *name; } named[] = {
        {PLOT_INK, "var(--ink)"}, {PLOT_MUTED, "var(--muted)"}, {PLOT_GRID, "var(--grid)"}, {"#0072b2", "var(--c0)"},
        {"#d55e00", "var(--c1)"}, {"#009e73", "var(--c2)"}, {"#cc79a7", "var(--c3)"}, {"#e69f00", "var(--c4)"},
        {"#56b4e9", "var(--c5)"},
    };
    unsigned red, green, blue;
    char hex[16];
    *length = 0;
    if (sscanf(at, "rgb(%u,%u,%u)%n", &red, &green, &blue, length) != 3 || !*length || (red | green | blue) > 255) {
        return NULL;
    }
    snprintf(hex, sizeof hex, "#%02x%02x%02x", red, green, blue);
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (strcmp(hex, named[i].color) == 0) { return named[i].name; }
    }
    return NULL;
}

// Skips elements <TAG>...</TAG> that are not part of the picture
static const char* behind_titles(const char* at) {
    static const char* const tags[][2] = {{"<title>", "</title>"}, {"<desc>", "</desc>"}};
    for (int i = 0; i < 2; i++) {
        const char* end = strncmp(at, tags[i][0], strlen(tags[i][0])) == 0 ? strstr(at, tags[i][1]) : NULL;
        if (end) { return end + strlen(tags[i][1]); }
    }
    return at;
}

// Writes the next part in the page's form; returns what follows it
static const char* put_svg_part(FILE* page, const char* at, int number) {
    const char* behind = behind_titles(at);
    if (behind != at) { return behind; }
    int length;
    const char* color = *at == 'r' ? page_color(at, &length) : NULL;
    if (color) {
        fputs(color, page);
        return at + length;
    }
    for (size_t i = 0; i < sizeof svg_replacements / sizeof svg_replacements[0]; i++) {
        const Replacement* r = &svg_replacements[i];
        if (strncmp(at, r->from, strlen(r->from)) != 0) { continue; }
        const char* mark = strstr(r->to, "%d");
        fprintf(page, "%.*s", mark ? (int)(mark - r->to) : (int)strlen(r->to), r->to);
        if (mark) { fprintf(page, "%d%s", number, mark + 2); }
        return at + strlen(r->from);
    }
    fputc(*at, page);
    return at + 1;
}

// One panel from gnuplot: what is between <svg ...> and </svg>
static bool page_svg(FILE* page, const char* svg, const char* alt, int number, Error* err) {
    const char* at = strstr(svg, "<svg");
    at = at ? strchr(at, '>') : NULL;
    if (!at) { return set_error(err, "gnuplot's SVG is none: install gnuplot-nox of version 5"); }
    fprintf(page, "<svg role=\"img\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" aria-label=\"", PANEL_WIDTH,
            PANEL_HEIGHT, PANEL_WIDTH, PANEL_HEIGHT);
    html_text(page, alt);
    fputs("\">", page);
    for (at++; *at;) { at = put_svg_part(page, at, number); }
    return true;
}

static bool page_panel(FILE* page, const Figure* f, const char* script, int panel, Error* err) {
    static int pictures;
    char alt[1024], settings[64];
    Bytes picture;
    bool pixels = f->as_pixels[panel - 1];
    snprintf(alt, sizeof alt, "%s: %s", f->panel_title[panel - 1], f->alt);
    snprintf(settings, sizeof settings, "format='%s'; panel=%d", pixels ? "png" : "svg", panel);
    if (!gnuplot_draw(script, settings, &picture, err)) { return false; }
    bool ok = true;
    if (pixels) {
        page_png(page, &picture, PANEL_WIDTH, PANEL_HEIGHT, alt);
    } else {
        ok = page_svg(page, (const char*)picture.bytes, alt, ++pictures, err);
    }
    free(picture.bytes);
    return ok;
}

// All panels, side by side if they fit
static bool page_figure(const Figure* f, const char* script, Error* err) {
    FILE* page = f->results->page;
    char caption[4096];
    fputs("<figure>\n<h3>", page);
    html_text(page, f->title);
    fputs("</h3>\n<div class=\"panels\">\n", page);
    for (int panel = 1; panel <= f->panels && gnuplot_is_there(); panel++) {
        if (!page_panel(page, f, script, panel, err)) { return false; }
    }
    figure_caption(f, caption, sizeof caption);
    fprintf(page, "</div>\n<figcaption>%s", gnuplot_is_there() ? "" : "(not drawn: gnuplot-nox was not installed) ");
    html_text(page, caption);
    fputs("</figcaption>\n</figure>\n", page);
    return true;
}
