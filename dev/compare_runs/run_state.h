// The summary of a run's log, and whether the run is still going on.
#pragma once
#include "metrics_table.h"
#include <sys/file.h>

// X(constant, name)
#define RUN_STATES(X) X(RUN_GOES_ON, "going on") X(RUN_STOPPED, "stopped") \
                      X(RUN_FINISHED, "finished") X(RUN_FAILED, "failed")
typedef enum { RUN_STATES(CHOICE_CONSTANT) } RunState;
static const char* const run_state_names[] = {RUN_STATES(CHOICE_NAME)};

// At the end of the log; NaN: not there yet. Seconds, images and gflop are of training only.
typedef struct {
    double step, epoch, total_steps; // total_steps 0: not known yet
    double top1, top1_se, top5, loss;
    double seconds, images, gflop;
} RunSummary;

static inline RunSummary summary_of_log(const Config* c, const MetricsTable* log) {
    RunSummary s = {
        .step = metrics_last(log, METRIC_step), .epoch = metrics_last(log, METRIC_epoch),
        .total_steps = steps_to_come(c, log), .top1 = metrics_last(log, METRIC_test_top1),
        .top1_se = metrics_last(log, METRIC_test_top1_se), .top5 = metrics_last(log, METRIC_test_top5),
        .loss = metrics_last(log, METRIC_test_loss),
    };
    double before = 0;
    for (int i = 0; i < log->rows; i++) { // a row of training is the mean over the steps since the previous one
        double step = log->column[METRIC_step][i], ms = log->column[METRIC_ms_per_step][i];
        if (isnan(ms)) { continue; }
        double seconds = 1e-3 * ms * (step - before);
        s.seconds += seconds;
        s.images += seconds * log->column[METRIC_images_per_second][i];
        s.gflop += seconds * log->column[METRIC_gflops][i];
        before = step;
    }
    return s;
}

// Whether a process writes into the folder; text: which process, or what it left there at its end
static inline bool folder_in_use(const char* folder, char text[300]) {
    char path[PATH_SIZE];
    snprintf(path, sizeof path, "%s/.lock", folder);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    text[0] = 0;
    if (fd < 0) { return false; }
    ssize_t length = read(fd, text, 299);
    text[length > 0 ? length : 0] = 0;
    bool used = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK; // otherwise it is released at once
    close(fd);
    return used;
}

// A stopped run has recorded that instead of its process; one that neither recorded it nor reached its end has failed,
// or was killed.
static inline RunState state_of_run(const char* folder, const RunSummary* s) {
    char text[300];
    if (folder_in_use(folder, text)) { return RUN_GOES_ON; }
    if (s->total_steps > 0 && s->step >= s->total_steps && !isnan(s->top1)) { return RUN_FINISHED; }
    return strncmp(text, LOCK_STOPPED, strlen(LOCK_STOPPED)) == 0 ? RUN_STOPPED : RUN_FAILED;
}
