// What a run reports: a progress line (in place on a terminal, plain lines elsewhere) and metrics.csv.
#pragma once
#include "files.h"
#include "inlining.h"
#include "output.h"
#include <math.h>
#include <stdint.h>

// Mean and standard error of a stream of values (Welford).
typedef struct { double count, mean, squares; } Running;

static inline void running_add(Running* r, double x) {
    double delta = x - r->mean;
    r->count += 1;
    r->mean += delta / r->count;
    r->squares += delta * (x - r->mean);
}

static inline double running_error(const Running* r) {
    return r->count > 1 ? sqrt(r->squares / (r->count - 1) / r->count) : 0;
}

// Top-1, top-5 (per cent) and loss (nats) of a whole split, each with its standard error.
typedef struct { double loss, loss_se, top1, top1_se, top5, top5_se; int64_t images; } Evaluation;

// Summary of the steps since the last row.
typedef struct {
    int64_t step;
    double epoch;
    Running loss;
    double accuracy; // per cent, against the labels before mixing
    double lr, grad_norm, ms_per_step, images_per_second, gflops, wait_percent;
} Progress;

// ---------------------------------------------------------------------------------------------------------------------
// metrics.csv: a row for the training since the last one, and one for each evaluation, with the columns of the other
// kind empty. A new column is a row of this table; p is the Progress, e the Evaluation.

#define METRICS_TABLE(ANY, TRAIN, TEST) \
ANY  (step,              "%.0f", (double)step) \
ANY  (epoch,             "%.4f", epoch) \
TRAIN(train_loss,        "%.6f", p->loss.mean) \
TRAIN(train_loss_se,     "%.6f", running_error(&p->loss)) \
TRAIN(train_accuracy,    "%.3f", p->accuracy) \
TRAIN(lr,                "%.6g", p->lr) \
TRAIN(grad_norm,         "%.6g", p->grad_norm) \
TRAIN(ms_per_step,       "%.3f", p->ms_per_step) \
TRAIN(images_per_second, "%.1f", p->images_per_second) \
TRAIN(gflops,            "%.1f", p->gflops) \
TRAIN(wait_percent,      "%.2f", p->wait_percent) \
TEST (test_loss,         "%.6f", e->loss) \
TEST (test_loss_se,      "%.6f", e->loss_se) \
TEST (test_top1,         "%.3f", e->top1) \
TEST (test_top1_se,      "%.3f", e->top1_se) \
TEST (test_top5,         "%.3f", e->top5) \
TEST (test_top5_se,      "%.3f", e->top5_se)

#define METRICS_NAME(name, ...) "," #name
#define METRICS_COUNT(...) + 1
enum { METRICS_COLUMNS = 0 METRICS_TABLE(METRICS_COUNT, METRICS_COUNT, METRICS_COUNT) };
static const char metrics_names[] = METRICS_TABLE(METRICS_NAME, METRICS_NAME, METRICS_NAME) "\n";
static inline const char* metrics_header(void) { return metrics_names + 1; } // without the first comma

typedef struct {
    FILE* file;
    char path[PATH_MAX];
} Metrics;

static inline bool metrics_unwritten(const char* path, Error* err) { // always false
    return set_error(err, "cannot write %s: %s; %s", path, strerror(errno), write_advice(errno));
}

// p or e is NULL if the row is not about it.
static inline bool metrics_row(Metrics* m, int64_t step, double epoch, const Progress* p, const Evaluation* e,
                               Error* err) {
    const char* comma = "";
#define METRICS_VALUE(name, format, value) fprintf(m->file, "%s" format, comma, value); comma = ",";
#define METRICS_IF(given, format, value) \
    if (given) { fprintf(m->file, "," format, value); } else { fputc(',', m->file); }
#define METRICS_TRAIN(name, format, value) METRICS_IF(p, format, value)
#define METRICS_TEST(name, format, value) METRICS_IF(e, format, value)
    METRICS_TABLE(METRICS_VALUE, METRICS_TRAIN, METRICS_TEST)
    fputc('\n', m->file);
    return (fflush(m->file) == 0 && !ferror(m->file)) || metrics_unwritten(m->path, err);
}

// Syncs what was written to disk: before a checkpoint, whose run continues after these rows.
static inline bool metrics_sync(Metrics* m, Error* err) {
    return fsync(fileno(m->file)) == 0 || errno == EINVAL || metrics_unwritten(m->path, err);
}

static inline bool metrics_close(Metrics* m, Error* err) {
    bool ok = !ferror(m->file);
    return (fclose(m->file) == 0 && ok) || metrics_unwritten(m->path, err);
}

// Whether a line is a row, and its step
static inline bool metrics_parse(const char* line, size_t length, long long* step) {
    int columns = 1;
    char* end;
    *step = strtoll(line, &end, 10);
    for (const char* c = line; *c; c++) { columns += *c == ','; }
    return *end == ',' && strlen(line) == length && columns == METRICS_COLUMNS;
}

// A log's lines: the first, "" if there is none, and whether another is a row, and its step
typedef struct {
    const char* header;
    bool (*parse)(const char* line, size_t length, long long* step);
} LogFormat;

// Copies the rows up to keep_step. An unfinished last line, left by a killed run, is dropped. Anything else that is not
// a row was written by somebody, and is an error.
static inline bool log_copy(FILE* in, FILE* out, const LogFormat* f, int64_t keep_step, const char* path, Error* err) {
    char* line = NULL;
    size_t room = 0;
    ssize_t length;
    long long step = 0;
    int number = 0;
    bool ok = true;
    while (ok && (length = getline(&line, &room, in)) > 0) {
        bool cut = line[length - 1] != '\n', header = number++ == 0 && *f->header;
        ok = header ? strcmp(line, f->header) == 0 : cut || f->parse(line, (size_t)length, &step);
        if (!header && ok && !cut && step <= keep_step) { fputs(line, out); }
    }
    free(line);
    if (ferror(in)) {
        return set_error(err, "cannot read %s: %s; it is unchanged: check the disk", path, strerror(errno));
    }
    return ok || set_error(err, "%s, line %d, is not of this program's log; the file is unchanged: move it elsewhere, "
                           "and the run goes on with a new one", path, number);
}

// Opens the file for reading; NULL if there is none. false: there is something that cannot be read
static inline bool metrics_find(FILE** in, const char* path, Error* err) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // O_NONBLOCK: does not wait for a pipe
    *in = fd < 0 ? NULL : fdopen(fd, "r");
    if (!*in && errno == ENOENT) { return true; }
    if (!*in) {
        return set_error(err, "cannot read %s: %s; it is unchanged: make it readable, or move it elsewhere", path,
                         strerror(errno));
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) { return true; }
    fclose(*in);
    return set_error(err, "%s is not a file that a log can be kept in: move it elsewhere", path);
}

// Opens a log with only the rows up to keep_step: those that a killed run wrote after its last checkpoint come again.
RUNS_ONCE static inline bool log_open(Metrics* m, const char* path, const LogFormat* f, int64_t keep_step, Error* err) {
    FILE* in;
    WholeFile out;
    snprintf(m->path, sizeof m->path, "%s", path);
    if (!metrics_find(&in, path, err)) { return false; }
    bool ok = whole_file_begin(&out, path, err);
    if (ok) {
        fputs(f->header, out.file);
        ok = !in || log_copy(in, out.file, f, keep_step, path, err);
        if (ok) { ok = whole_file_end(&out, err); } else { whole_file_drop(&out); }
    }
    if (in) { fclose(in); }
    if (!ok) { return false; }
    m->file = fopen(path, "a");
    return m->file || metrics_unwritten(path, err);
}

RUNS_ONCE static inline bool metrics_open(Metrics* m, const char* path, int64_t keep_step, Error* err) {
    const LogFormat csv = {metrics_header(), metrics_parse};
    return log_open(m, path, &csv, keep_step, err);
}

// ---------------------------------------------------------------------------------------------------------------------
// The progress line

static inline const char* duration_text(double seconds, char text[32]) {
    long s = seconds < 0 ? 0 : (long)(seconds + 0.5);
    if (s < 60) { snprintf(text, 32, "%lds", s); }
    else if (s < 3600) { snprintf(text, 32, "%ldm%02lds", s / 60, s % 60); }
    else { snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60); }
    return text;
}

// In the order of the line, each with its rank: if a terminal is too narrow for all, the last in rank are left out.
#define PROGRESS_TABLE(FIELD) \
FIELD( 1, "step %6lld/%lld", (long long)p->step, (long long)total_steps) \
FIELD( 7, "epoch %.2f", p->epoch) \
FIELD( 2, "loss %.4f ± %.4f", p->loss.mean, running_error(&p->loss)) \
FIELD( 4, "acc %5.2f %%", p->accuracy) \
FIELD( 6, "lr %.2e", p->lr) \
FIELD( 9, "norm %.3g", p->grad_norm) \
FIELD( 8, "%.1f ms", p->ms_per_step) \
FIELD( 5, "%.0f img/s", p->images_per_second) \
FIELD(11, "%.1f GFLOP/s", p->gflops) \
FIELD(10, "wait %.1f %%", p->wait_percent) \
FIELD( 3, "eta %s", eta)

#define PROGRESS_COUNT(...) + 1
enum { PROGRESS_FIELDS = 0 PROGRESS_TABLE(PROGRESS_COUNT), PROGRESS_SIZE = 1024 };

// The rest of the line after what was added at `at`
__attribute__((format(printf, 3, 4)))
static inline int progress_add(char line[PROGRESS_SIZE], int at, const char* format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line + at, (size_t)(PROGRESS_SIZE - at), format, args);
    va_end(args);
    return at + length < PROGRESS_SIZE ? at + length : PROGRESS_SIZE - 1;
}

// As much of the line as fits into so many columns
static inline void progress_line(char line[PROGRESS_SIZE], const Progress* p, int64_t total_steps, double eta_seconds,
                                 int columns) {
    char eta[32];
    duration_text(eta_seconds, eta);
    for (int shown = PROGRESS_FIELDS; shown > 0; shown--) {
        int at = 0;
#define PROGRESS_FIELD(rank, ...) \
        if (rank <= shown) { at = progress_add(line, at ? progress_add(line, at, " | ") : 0, __VA_ARGS__); }
        PROGRESS_TABLE(PROGRESS_FIELD)
        if (text_columns(line) <= columns) { return; }
    }
    text_cut(line, columns);
}

// On a terminal each line overwrites the last (keep: this one stays); elsewhere only kept lines are printed. The last
// column of a terminal stays free, because some then go on to the next row.
static inline void print_progress(const Progress* p, int64_t total_steps, double eta_seconds, bool keep) {
    char line[PROGRESS_SIZE];
    bool rewrites = terminal_rewrites();
    if (!rewrites && !keep) { return; }
    progress_line(line, p, total_steps, eta_seconds, rewrites ? terminal_columns() - 1 : INT_MAX);
    output_take_back();
    fputs(line, stdout);
    output_line_open = true;
    if (keep) { output_keep(); }
    output_flush();
}

static inline void print_evaluation(const char* what, const Evaluation* e) {
    output_take_back();
    printf("%s: top-1 %.2f ± %.2f %% | top-5 %.2f ± %.2f %% | loss %.4f ± %.4f | %lld images\n", what, e->top1,
           e->top1_se, e->top5, e->top5_se, e->loss, e->loss_se, (long long)e->images);
    output_flush();
}
