// The loss at points theta + x d_1 + y d_2 of a plane in the space of the parameters: those of a grid, which includes
// theta, and others. Results are saved point by point, so that an interrupted plane can be continued.
#pragma once
#include "analysis.h"
#include "../../runtime/crc32.h"

typedef struct {
    int size, origin[2];                // points per side; row and column of theta
    double step[2];
    const float *theta, *directions[2]; // (total)
    int count;                          // points: (size, size), x along a row, then others
    double *x, *y, *loss, *top1;        // (count)
} Plane;

// An axis `wider` times as long as low..high, which contains 0; 0 is one of its points
static inline void plane_axis(Plane* p, int axis, double low, double high, double wider) {
    double length = high > low ? wider * (high - low) : 1, begin = (low + high) / 2 - length / 2;
    p->step[axis] = length / (p->size - 1);
    p->origin[axis] = (int)lround(-begin / p->step[axis]);
}

static inline double plane_at(const Plane* p, int axis, int i) { return (i - p->origin[axis]) * p->step[axis]; }

// After the axes: the points of the grid, and space for others
static inline void plane_points(Plane* p, int others) {
    int n = p->size * p->size;
    p->count = n + others;
    p->x = alloc_array(double, 4 * (size_t)p->count, "the points of a landscape");
    p->y = p->x + p->count;
    p->loss = p->y + p->count;
    p->top1 = p->loss + p->count;
    for (int i = 0; i < n; i++) {
        p->x[i] = plane_at(p, 0, i % p->size);
        p->y[i] = plane_at(p, 1, i / p->size);
    }
}

static inline void plane_free(Plane* p) { free(p->x); }

// Exactly theta at the origin
static inline void plane_weights(float* to, const Plane* p, int i, size_t total) {
    double x = p->x[i], y = p->y[i];
    #pragma omp parallel for schedule(static)
    for (size_t k = 0; k < total; k++) {
        to[k] = (float)(p->theta[k] + x * p->directions[0][k] + y * p->directions[1][k]);
    }
}

// ---- The file of an unfinished plane: a first line that identifies it, then "point,loss,top1"

#define PLANE_MARK "# of a landscape that is not done"

static void plane_key(const Plane* p, int64_t images, size_t total, char key[256]) {
    size_t bytes = total * sizeof(float);
    snprintf(key, 256, PLANE_MARK ": %d points, %lld images, %08x %08x %08x %08x\n", p->count, (long long)images,
             crc32_of(p->theta, bytes), crc32_of(p->directions[0], bytes), crc32_of(p->directions[1], bytes),
             crc32_of(p->x, 2 * (size_t)p->count * sizeof(double)));
}

// The known points; *end: where the file continues after them. A truncated last line does not count.
static int plane_known(Plane* p, const char* path, const char* key, long* end) {
    char line[256];
    int known = 0, point;
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    bool same = in && fgets(line, sizeof line, in) && strcmp(line, key) == 0;
    *end = same ? ftell(in) : 0;
    while (same && known < p->count && fgets(line, sizeof line, in) && strchr(line, '\n')) {
        if (sscanf(line, "%d,%lf,%lf", &point, &p->loss[known], &p->top1[known]) != 3 || point != known) { break; }
        known++;
        *end = ftell(in);
    }
    if (in) { fclose(in); }
    return known;
}

static FILE* plane_file(const char* path, const char* key, long end) {
    FILE* out = fopen(path, end ? "r+" : "w");
    if (!out) { return NULL; }
    bool ok = end ? ftruncate(fileno(out), end) == 0 && fseek(out, end, SEEK_SET) == 0 : fputs(key, out) >= 0;
    if (ok) { return out; }
    fclose(out);
    return NULL;
}

// Loss and accuracy at all points that `path` lacks; the caller removes it once the results are written.
static bool plane_evaluate(Plane* p, Run* r, const char* path, const char* what, Error* err) {
    Trainer* t = &r->t;
    char key[256];
    long end;
    plane_key(p, t->test.count, t->model.table.count, key);
    if (!results_may_replace(path, PLANE_MARK, err)) { return false; }
    int known = plane_known(p, path, key, &end);
    FILE* out = plane_file(path, key, end);
    if (known) { printf("%s: %d of %d points were known already\n", what, known, p->count); }
    WorkProgress progress = work_progress(p->count - known);
    bool ok = out;
    for (int i = known; ok && i < p->count; i++) {
        plane_weights(t->model.params, p, i, t->model.table.total);
        Evaluation e = evaluate(t, t->model.params, NULL);
        p->loss[i] = e.loss;
        p->top1[i] = e.top1;
        ok = fprintf(out, "%d,%.17g,%.17g\n", i, e.loss, e.top1) > 0 && fflush(out) == 0;
        progress.units++;
        work_progress_say(&progress, what, "");
    }
    int error = errno;
    if (out && fclose(out) != 0 && ok) { ok = false, error = errno; }
    return ok || set_error(err, "cannot write %s: %s; %s", path, strerror(error), write_advice(error));
}

// ---- Points lower than all of their eight neighbours: their share of the points that have eight

static inline bool is_lowest(const double* loss, int size, int i) {
    for (int n = 0; n < 9; n++) {
        if (n != 4 && !(loss[i] < loss[i + (n / 3 - 1) * size + n % 3 - 1])) { return false; }
    }
    return true;
}

static inline double local_minima_share(const double* loss, int size) {
    int minima = 0, inner = size > 2 ? (size - 2) * (size - 2) : 0;
    for (int i = 0; i < inner; i++) {
        minima += is_lowest(loss, size, (1 + i / (size - 2)) * size + 1 + i % (size - 2));
    }
    return inner ? (double)minima / inner : 0;
}
