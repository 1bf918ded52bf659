// Pictures drawn by gnuplot from a script that contains its data: NAME.gp, NAME.png, NAME.svg. A figure is a grid of
// panels, each with lines with bands, histograms, points, maps with contours, or one surface:
//
//     Figure f;
//     figure_begin(&f, results, "curves", 2, "Loss and accuracy", "what it shows, in words", "RUN, seed");
//     panel_begin(&f, "Training", (Axis){.label = "step"}, (Axis){.label = "loss (nats)", .log = true});
//     plot_band(&f, x, low, high, count, COLOR_FIRST);
//     plot_line(&f, x, y, count, (Style){.label = "softmax", .color = COLOR_FIRST});
//     panel_end(&f);
//     figure_end(&f, &err)
//
// figure_end is in figure.h. The whole has a title, and a caption that ends with the command. A report takes the panels
// one by one instead (page.h), without either, and in the page's own colours, so that they can be stacked on a phone.
#pragma once
#include "gnuplot.h"
#include "results.h"

// Okabe and Ito's colours, distinguishable by the colour-blind, in an order that is visible on white and on black
static const char* const plot_colors[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
enum { COLOR_FIRST, COLORS = sizeof plot_colors / sizeof plot_colors[0], COLOR_INK = -1, COLOR_MUTED = -2 };
#define PLOT_INK "#1a1b1c"   // a page replaces these three
#define PLOT_MUTED "#7f8081"
#define PLOT_GRID "#d9dadb"
#define PLOT_FONT "DejaVu Sans"
enum { PANEL_WIDTH = 480, PANEL_HEIGHT = 340, PLOT_MAX_PANELS = 64, PLOT_TEXT = 160 };

typedef struct {
    const char* label;  // with its unit
    bool log;
    double low, high;   // equal: from the data
    bool downwards;     // y: the first row of a map is on top
} Axis;

typedef struct {
    const char* label;  // in the key, or NULL
    int color;          // 0, 1, ... of plot_colors; COLOR_INK, COLOR_MUTED
    int dash;           // 0: none; 1, 2, 3: patterns
    double width;       // 0: 2
} Style;

typedef struct {
    int rows, columns;
    double x[2], y[2];    // of the centres of its first and last column, and row
    const double* values; // (rows, columns)
    const char* label;    // of the scale, with its unit
    bool log, diverging;  // colours: logarithmic; symmetric about 0
    double low, high;     // the scale; equal: from the data
} PlotMap;

typedef struct { FILE* out; char* text; size_t size; } TextBuffer;

typedef struct {
    Results* results;
    char name[64];
    const char *title, *alt, *subject;
    int columns, panels, blocks; // blocks of data in the whole figure
    int plots, longest_label;    // of the panel
    Axis y;                      // its range covers what is plotted
    double x_middle;             // beyond it labels go to the left of their marks; NAN: they never do
    TextBuffer data, body, plot;
    char panel_title[PLOT_MAX_PANELS][PLOT_TEXT];
    bool as_pixels[PLOT_MAX_PANELS];    // a page uses PNG for it
} Figure;

static void text_begin(TextBuffer* t) {
    *t = (TextBuffer){0};
    t->out = open_memstream(&t->text, &t->size);
    if (!t->out) { fail(EXIT_RUN_TIME, "no memory for a picture: close other programs"); }
}

static void text_free(TextBuffer* t) {
    if (t->out) { fclose(t->out); }
    free(t->text);
    *t = (TextBuffer){0};
}

static void figure_begin(Figure* f, Results* r, const char* name, int columns, const char* title, const char* alt,
                         const char* subject) {
    *f = (Figure){.results = r, .title = title, .alt = alt, .subject = subject, .columns = columns};
    snprintf(f->name, sizeof f->name, "%s", name);
    text_begin(&f->data);
    text_begin(&f->body);
}

// In single quotes, within which gnuplot interprets only single quotes
static void put_quoted(FILE* out, const char* text) {
    fputc('\'', out);
    for (; text && *text; text++) {
        if (*text == '\'') { fputc('\'', out); }
        fputc(*text == '\n' ? ' ' : *text, out);
    }
    fputc('\'', out);
}

static const char* plot_color(int color) {
    return color == COLOR_INK ? PLOT_INK : color == COLOR_MUTED ? PLOT_MUTED : plot_colors[color % COLORS];
}

// ---- Panels

// A round distance that fits three or four times into a range
static double tic_step(const double range[2]) {
    double third = fabs(range[1] - range[0]) / 3, unit = pow(10, floor(log10(third)));
    if (!(third > 0)) { return 1; }
    return unit * (third >= 5 * unit ? 5 : third >= 2 * unit ? 2 : 1);
}

static void put_tics(FILE* out, const char* axis, Axis a) {
    fprintf(out, "    set %stics %g\n", axis, tic_step((double[]){a.low, a.high}));
}

static void put_axis(FILE* out, const char* axis, Axis a) {
    fprintf(out, "    set %slabel ", axis);
    put_quoted(out, a.label ? a.label : "");
    fprintf(out, " textcolor rgb ink\n");
    fprintf(out, "    set format %s '%%g'\n", axis);
    if (a.log) { fprintf(out, "    set logscale %s\n", axis); }
    char low[32] = "*", high[32] = "*";
    if (a.low < a.high) {
        snprintf(low, sizeof low, "%.9g", a.low);
        snprintf(high, sizeof high, "%.9g", a.high);
    }
    fprintf(out, "    set %srange [%s:%s]%s\n", axis, low, high, a.downwards ? " reverse" : "");
    if (a.low < a.high && !a.log) { put_tics(out, axis, a); }
}

static void panel_begin(Figure* f, const char* title, Axis x, Axis y) {
    FILE* out = f->body.out;
    if (f->panels == PLOT_MAX_PANELS) {
        fail(EXIT_RUN_TIME, "%s has more than %d panels: choose fewer", f->name, PLOT_MAX_PANELS);
    }
    snprintf(f->panel_title[f->panels++], PLOT_TEXT, "%s", title);
    f->plots = f->longest_label = 0;
    text_begin(&f->plot);
    fprintf(out, "\nif (panel == 0 || panel == %d) {\n    reset\n", f->panels);
    fprintf(out, "    if (panel == 0) { set origin left(%d), bottom(%d); set size share_x, share_y }\n", f->panels,
            f->panels);
    if (f->panels == 1) {
        fprintf(out, "    if (panel == 0) {\n"
                     "        set label 1 heading at screen 0.012, screen heading_y font '" PLOT_FONT ",18' "
                     "textcolor rgb ink\n"
                     "        set label 2 caption at screen 0.012, screen caption_y font '" PLOT_FONT ",11' "
                     "textcolor rgb muted\n"
                     "    }\n");
    }
    fprintf(out, "    set title ");
    put_quoted(out, title);
    fprintf(out, " textcolor rgb ink offset 0,-0.5\n    set border 3 linecolor rgb ink\n"
                 "    set tics nomirror textcolor rgb ink\n    set grid linecolor rgb grid linetype 1 linewidth 1\n"
                 "    set key bmargin center Left reverse horizontal samplen 1.6 width -1 height 1 textcolor rgb ink\n"
                 "    set xlabel offset 0,0.4; set ylabel offset 0.5,0\n");
    fputs("    if (format eq 'dumb') { unset grid }\n", out);
    put_axis(out, "x", x);
    put_axis(out, "y", y);
    f->x_middle = x.low < x.high ? (x.low + x.high) / 2 : NAN;
    f->y = y.low < y.high ? y : (Axis){.log = y.log, .low = INFINITY, .high = -INFINITY};
}

// The plot command so far, to which a plot of the data $d7 or the contours $c7 is added
static FILE* panel_add_of(Figure* f, char kind, int block) {
    fprintf(f->plot.out, "%s$%c%d ", f->plots++ ? ", \\\n        " : "", kind, block);
    return f->plot.out;
}
static FILE* panel_add(Figure* f, int block) { return panel_add_of(f, 'd', block); }

static void panel_end_as(Figure* f, const char* command) {
    fclose(f->plot.out);
    f->plot.out = NULL;
    if (f->y.low < f->y.high && !f->y.log) { put_tics(f->body.out, "y", f->y); }
    int entries = 46 / (f->longest_label + 5); // that fit side by side into the key
    fprintf(f->body.out, "    set key maxcols %d\n", entries < 1 ? 1 : entries);
    if (f->plots) { fprintf(f->body.out, "    %s %s\n", command, f->plot.text); }
    fputs("}\n", f->body.out);
    text_free(&f->plot);
}
static void panel_end(Figure* f) { panel_end_as(f, "plot"); }

// Returns its number; up to four columns; what is not finite is a gap
static int put_data(Figure* f, const double* const columns[], int column_count, int count) {
    fprintf(f->data.out, "$d%d << EOD\n", ++f->blocks);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < column_count; k++) {
            fprintf(f->data.out, "%s%.9g", k ? " " : "", columns[k][i]);
            if (k == 0 || !isfinite(columns[k][i])) { continue; }
            f->y.low = fmin(f->y.low, columns[k][i]);
            f->y.high = fmax(f->y.high, columns[k][i]);
        }
        fputc('\n', f->data.out);
    }
    fputs("EOD\n", f->data.out);
    return f->blocks;
}

static void put_label(Figure* f, const char* label) {
    FILE* out = f->plot.out;
    if (!label) {
        fputs(" notitle", out);
        return;
    }
    fputs(" title ", out);
    put_quoted(out, label);
    int columns = text_columns(label);
    if (columns > f->longest_label) { f->longest_label = columns; }
}

static void put_style(Figure* f, int block, const char* with, Style s) {
    FILE* out = panel_add(f, block);
    double width = s.width > 0 ? s.width : 2;
    fprintf(out, "with %s linecolor rgb '%s' linewidth %g dashtype %d", with, plot_color(s.color), width, s.dash + 1);
    put_label(f, s.label);
}

static void plot_as(Figure* f, const char* with, const double* x, const double* y, int count, Style s) {
    const double* columns[] = {x, y};
    put_style(f, put_data(f, columns, 2, count), with, s);
}
static inline void plot_line(Figure* f, const double* x, const double* y, int count, Style s) {
    plot_as(f, "lines", x, y, count, s);
}
static inline void plot_points(Figure* f, const double* x, const double* y, int count, Style s) {
    plot_as(f, "points pointtype 7 pointsize 0.6", x, y, count, s);
}
static inline void plot_line_points(Figure* f, const double* x, const double* y, int count, Style s) {
    plot_as(f, "linespoints pointtype 7 pointsize 0.5", x, y, count, s);
}
// x: the middles of bins
static inline void plot_histogram(Figure* f, const double* x, const double* y, int count, Style s) {
    plot_as(f, "histeps", x, y, count, s);
}
// The area between two curves, without an outline
static inline void plot_area(Figure* f, const double* x, const double* low, const double* high, int count, Style s) {
    const double* columns[] = {x, low, high};
    FILE* out = panel_add(f, put_data(f, columns, 3, count));
    fprintf(out, "with filledcurves fillstyle transparent solid 0.2 noborder linecolor rgb '%s'", plot_color(s.color));
    put_label(f, s.label);
}
static inline void plot_band(Figure* f, const double* x, const double* low, const double* high, int count,
                             int color) {
    plot_area(f, x, low, high, count, (Style){.color = color});
}

// One point with a word beside it
static inline void plot_mark(Figure* f, double x, double y, const char* word, int color) {
    const double* columns[] = {&x, &y};
    int block = put_data(f, columns, 2, 1);
    fprintf(panel_add(f, block), "with points pointtype 7 pointsize 1.2 linecolor rgb '%s' notitle",
            plot_color(color));
    fprintf(panel_add(f, block), "using 1:2:(");
    put_quoted(f->plot.out, word);
    fprintf(f->plot.out, ") with labels %s,-0.8 textcolor rgb '%s' notitle",
            x > f->x_middle ? "right offset -0.8" : "left offset 0.8", plot_color(color));
}

// ---- Maps

// Triples, with a blank line between rows: the format for maps and surfaces
static int put_map(Figure* f, const PlotMap* m) {
    double dx = m->columns > 1 ? (m->x[1] - m->x[0]) / (m->columns - 1) : 0;
    double dy = m->rows > 1 ? (m->y[1] - m->y[0]) / (m->rows - 1) : 0;
    fprintf(f->data.out, "$d%d << EOD\n", ++f->blocks);
    for (int i = 0; i < m->rows; i++) {
        for (int k = 0; k < m->columns; k++) {
            double value = m->values[(size_t)i * m->columns + k];
            fprintf(f->data.out, "%.9g %.9g %.9g\n", m->x[0] + k * dx, m->y[0] + i * dy, value);
        }
        fputc('\n', f->data.out);
    }
    fputs("EOD\n", f->data.out);
    return f->blocks;
}

static void put_palette(FILE* out, const PlotMap* m, const char* box) {
    double low = m->low, high = m->high;
    size_t count = (size_t)m->rows * m->columns;
    if (m->diverging && !(low < high)) {
        high = 0;
        for (size_t i = 0; i < count; i++) { high = fmax(high, fabs(m->values[i])); } // fmax ignores NaN
        high = high > 0 ? high : 1;
        low = -high;
    }
    fprintf(out, "    set palette defined %s\n", m->diverging // blue to red; viridis
        ? "(0 '#2166ac', 1 '#67a9cf', 2 '#d1e5f0', 3 '#f7f7f7', 4 '#fddbc7', 5 '#ef8a62', 6 '#b2182b')"
        : "(0 '#440154', 1 '#414487', 2 '#2a788e', 3 '#22a884', 4 '#7ad151', 5 '#fde725')");
    fprintf(out, "    set cblabel ");
    put_quoted(out, m->label ? m->label : "");
    fprintf(out, " offset 0.8,0 textcolor rgb ink\n    set colorbox %s\n", box);
    fprintf(out, "    set format cb '%%g'\n");
    if (m->log) { fprintf(out, "    set logscale cb\n"); }
    if (low < high) { fprintf(out, "    set cbrange [%.9g:%.9g]\n", low, high); }
}

// contours: levels drawn over it, 0 for none. Lines and points may follow.
static inline void plot_map(Figure* f, const PlotMap* m, int contours) {
    FILE* out = f->body.out;
    int block = put_map(f, m);
    put_palette(out, m, "");
    f->y.log = true; // its own marks
    f->x_middle = (m->x[0] + m->x[1]) / 2;
    fprintf(out, "    unset grid; set autoscale xfix; set autoscale yfix\n");
    if (contours > 0) {
        fprintf(out, "    set contour base; unset surface; set cntrparam cubicspline levels auto %d\n", contours);
        if (m->log) { fprintf(out, "    set logscale z\n"); }
        fprintf(out, "    set table $c%d; splot $d%d using 1:2:3 notitle; unset table; unset contour; set surface\n",
                block, block);
        if (m->log) { fprintf(out, "    unset logscale z\n"); }
    }
    fprintf(panel_add(f, block), "using 1:2:3 with @image notitle");
    if (contours > 0) {
        fprintf(panel_add_of(f, 'c', block), "using 1:2 with lines linecolor rgb '#ffffff' linewidth 0.7 notitle");
    }
}

// The panel's only picture, seen obliquely from above; a line over it may follow by plot_line_3d.
static inline void plot_surface(Figure* f, const PlotMap* m, const char* z_label) {
    FILE* out = f->body.out;
    int block = put_map(f, m);
    f->y.log = true;
    put_palette(out, m, "");
    fprintf(out, "    unset colorbox; unset grid; set border 4095 linecolor rgb grid; set view 55,35,0.9\n"
                 "    set xlabel offset -1,-0.8; set ylabel offset 2,-0.5; set ticslevel 0; set zlabel ");
    put_quoted(out, z_label);
    fprintf(out, " rotate parallel textcolor rgb ink\n    set xtics %g offset 0,-0.2; set ytics %g offset 0.4,0\n",
            tic_step(m->x), tic_step(m->y));
    double z[2] = {INFINITY, -INFINITY};
    for (int i = 0; i < m->rows * m->columns; i++) {
        z[0] = fmin(z[0], m->values[i]);
        z[1] = fmax(z[1], m->values[i]);
    }
    if (m->log) { fprintf(out, "    set logscale z\n"); } else { fprintf(out, "    set ztics %g\n", tic_step(z)); }
    fprintf(panel_add(f, block), "using 1:2:3 with pm3d notitle");
    f->as_pixels[f->panels - 1] = true;
}

static inline void plot_line_3d(Figure* f, const double* x, const double* y, const double* z, int count, Style s) {
    const double* columns[] = {x, y, z};
    put_style(f, put_data(f, columns, 3, count), "linespoints pointtype 7 pointsize 0.4", s);
}

static inline void surface_end(Figure* f) { panel_end_as(f, "splot"); }

// What is shown, of which run and checkpoint, and the command that makes it again
static void figure_caption(const Figure* f, char* text, size_t size) {
    snprintf(text, size, "%s. By %s", f->subject, f->results->command);
}
