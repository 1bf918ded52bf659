// What a run tells: a progress line (in place on a terminal, plain lines elsewhere) and metrics.csv.
#pragma once
#include "error.h"
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

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

// Top-1, top-5 and loss of a whole split, in per cent and nats, each with its standard error.
typedef struct { double loss, loss_se, top1, top1_se, top5, top5_se; int64_t images; } Evaluation;

// What the steps since the last row amount to.
typedef struct {
    int64_t step;
    double epoch;
    Running loss;
    double accuracy; // per cent, against the labels before mixing
    double lr, grad_norm, ms_per_step, images_per_second, gflops, wait_percent;
} Progress;

static const char metrics_header[] =
    "step,epoch,train_loss,train_loss_se,train_accuracy,lr,grad_norm,ms_per_step,images_per_second,gflops,wait_percent,"
    "test_loss,test_loss_se,test_top1,test_top1_se,test_top5,test_top5_se\n";

static inline void metrics_train(FILE* csv, const Progress* p) {
    fprintf(csv, "%lld,%.4f,%.6f,%.6f,%.3f,%.6g,%.6g,%.3f,%.1f,%.1f,%.2f,,,,,,\n", (long long)p->step, p->epoch,
            p->loss.mean, running_error(&p->loss), p->accuracy, p->lr, p->grad_norm, p->ms_per_step,
            p->images_per_second, p->gflops, p->wait_percent);
    fflush(csv);
}

static inline void metrics_test(FILE* csv, int64_t step, double epoch, const Evaluation* e) {
    fprintf(csv, "%lld,%.4f,,,,,,,,,,%.6f,%.6f,%.3f,%.3f,%.3f,%.3f\n", (long long)step, epoch,
            e->loss, e->loss_se, e->top1, e->top1_se, e->top5, e->top5_se);
    fflush(csv);
}

// Copies the header and the rows up to keep_step to the temporary file.
static inline bool metrics_copy(const char* path, FILE* out, int64_t keep_step) {
    FILE* in = fopen(path, "r");
    char line[1024];
    fputs(metrics_header, out);
    while (in && fgets(line, sizeof line, in)) {
        long long step;
        if (sscanf(line, "%lld,", &step) == 1 && step <= keep_step && strchr(line, '\n')) { fputs(line, out); }
    }
    if (in) { fclose(in); }
    return !ferror(out);
}

// Opens metrics.csv with only the rows up to keep_step: what a killed run wrote after its last checkpoint comes again.
static inline FILE* metrics_open(const char* path, int64_t keep_step, Error* err) {
    char temporary[1200];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE* out = fopen(temporary, "w");
    bool ok = out && metrics_copy(path, out, keep_step);
    if (out) { ok &= fclose(out) == 0; }
    if (!ok || rename(temporary, path) != 0) {
        set_error(err, "cannot write %s: %s", path, strerror(errno));
        return NULL;
    }
    FILE* csv = fopen(path, "a");
    if (!csv) { set_error(err, "cannot write %s: %s", path, strerror(errno)); }
    return csv;
}

static inline const char* duration_text(double seconds, char text[32]) {
    long s = seconds < 0 ? 0 : (long)(seconds + 0.5);
    if (s < 60) { snprintf(text, 32, "%lds", s); }
    else if (s < 3600) { snprintf(text, 32, "%ldm%02lds", s / 60, s % 60); }
    else { snprintf(text, 32, "%ldh%02ldm", s / 3600, s / 60 % 60); }
    return text;
}

// On a terminal each line overwrites the last (keep: this one stays); elsewhere only kept lines are printed.
static inline void print_progress(const Progress* p, int64_t total_steps, double eta_seconds, bool keep) {
    bool terminal = isatty(STDOUT_FILENO);
    char eta[32];
    if (!terminal && !keep) { return; }
    printf("%sstep %6lld/%lld | epoch %.2f | loss %.4f ± %.4f | acc %5.2f %% | lr %.2e | norm %.3g | ",
           terminal ? "\r\033[K" : "", (long long)p->step, (long long)total_steps, p->epoch, p->loss.mean,
           running_error(&p->loss), p->accuracy, p->lr, p->grad_norm);
    printf("%.1f ms | %.0f img/s | %.1f GFLOP/s | wait %.1f %% | eta %s%s", p->ms_per_step, p->images_per_second,
           p->gflops, p->wait_percent, duration_text(eta_seconds, eta), keep ? "\n" : "");
    fflush(stdout);
}

static inline void print_evaluation(const char* what, const Evaluation* e) {
    printf("%s%s: top-1 %.2f ± %.2f %% | top-5 %.2f ± %.2f %% | loss %.4f ± %.4f | %lld images\n",
           isatty(STDOUT_FILENO) ? "\r\033[K" : "", what, e->top1, e->top1_se, e->top5, e->top5_se, e->loss, e->loss_se,
           (long long)e->images);
    fflush(stdout);
}
