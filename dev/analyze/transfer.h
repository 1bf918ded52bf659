// ./analyze transfer TEACHER [STUDENT]: what a model's attention is worth to another. A fresh model of the run STUDENT
// (TEACHER by default) is trained by that run's recipe with the attention of TEACHER's weights instead of its own
// (impose.h), and compared with both runs. --maps mean imposes the teacher's mean map: what is due to position only.
//
// The training is a run like any other, in OUTPUT/transfer: metrics.csv, checkpoints, and it resumes if it was stopped.
// Its weights are useful only with the teacher's.
#pragma once
#include "analysis.h"
#include "impose.h"
#include "../compare_runs/metrics_table.h"

enum { MEAN_MAP_IMAGES = 256 };

// ---- The student

static Config student_config(const Run* r, const AnalyzeOptions* o) {
    Config c = r->config;
    c.attn = ATTN_MIXING;
    c.softmax_heads = c.gradcheck = c.profile = 0;
    c.init_from[0] = c.resume[0] = c.eval[0] = c.output[0] = 0;
    if (c.precision == PRECISION_TF32) { c.precision = PRECISION_FP32; }
    if (*o->data) { strcpy(c.data, o->data); }
    return c;
}

// The teacher must have a map for every block, head and pair of tokens of the student, and use the same images.
static bool check_student(const Imposed* s, const Run* teacher, const Run* student, Error* err) {
    const Dims a = s->teacher->dims, b = s->student.model.dims;
    const LoaderConfig* c = &s->student.train_loader.plan.config;
    bool same = a.S == b.S && a.P == b.P && a.N == b.N && a.H == b.H && a.L == b.L;
    if (!same) {
        return set_error(err, "%s has %d blocks, %d heads and %d tokens, and %s %d, %d and %d: give models with as "
                         "many", teacher->folder, a.L, a.H, a.N, student->folder, b.L, b.H, b.N);
    }
    for (int k = 0; k < 3 && teacher->t.origin.normalizes; k++) {
        if (fabs(c->mean[k] - teacher->t.origin.mean[k]) + fabs(c->std[k] - teacher->t.origin.std[k]) > 1e-6) {
            return set_error(err, "%s and %s normalise images otherwise: give runs of one data set", teacher->folder,
                             student->folder);
        }
    }
    return true;
}

NEVER_INLINE bool open_student(Imposed* s, const Run* teacher, const Run* student, const AnalyzeOptions* o,
                               Error* err) {
    Trainer* t = &s->student;
    Config c = student_config(student, o);
    load_data(t, &c);
    if (!c.classes) { c.classes = t->train.classes; }
    if (!model_plan(&t->model, &c, c.classes, largest_batch(t, &c), err) || !model_allocate(&t->model, err)) {
        return false;
    }
    open_loaders(t, LOAD_IMAGES);
    plan_steps(t);
    if (t->model.ema) { memcpy(t->model.ema, t->model.params, t->model.table.total * sizeof(float)); }
    return check_student(s, teacher, student, err);
}

static void close_student(Imposed* s) {
    Trainer* t = &s->student;
    if (t->train_loader.worker) { loader_close(&t->train_loader); }
    if (t->test_loader.worker) { loader_close(&t->test_loader); }
    dataset_free(&t->train);
    dataset_free(&t->test);
    model_free(&t->model);
    free(s->mean);
}

// ---- Its folder: transfer.txt records whose attention it has

static void transfer_key(const Imposed* s, const Run* teacher, const AnalyzeOptions* o, int64_t step, char key[1024]) {
    const float* source = s->mean ? s->mean : s->teacher->params;
    size_t count = s->mean ? imposed_size(s->teacher) : s->teacher->table.total;
    snprintf(key, 1024, "%s of %s, checkpoint %s of step %lld, %08x\n", s->mean ? "mean map" : "maps", teacher->name,
             o->checkpoint, (long long)step, crc32_of(source, count * sizeof(float)));
}

static bool write_key(const char* path, const char* key, Error* err) {
    WholeFile out;
    if (!whole_file_begin(&out, path, err)) { return false; }
    fputs(key, out.file);
    return whole_file_end(&out, err);
}

// Continues an existing folder, if it is for the same; makes it if there is none.
NEVER_INLINE bool enter_folder(Imposed* s, const Results* out, const char* key, Error* err) {
    Trainer* t = &s->student;
    char path[PATH_SIZE], there[1024] = "";
    Origin o = {.config = t->model.config};
    results_path(out, "transfer", path);
    if (strlen(path) >= sizeof t->output) { return set_error(err, "the path %.100s... is too long", path); }
    strcpy(t->output, path);
    if (!make_folders(t->output, err)) { return false; }
    output_path(t, "transfer.txt", path);
    FILE* in = is_file(path) ? fopen(path, "r") : NULL;
    if (in && !fgets(there, sizeof there, in)) { there[0] = 0; }
    if (in) { fclose(in); }
    bool begun = folder_has(t->output, RESUME_FILE);
    if (begun && strcmp(there, key) != 0) {
        return set_error(err, "%s holds another transfer (%.200s): give another --output", t->output, there);
    }
    if (!begun) { return write_key(path, key, err); }
    output_path(t, RESUME_FILE, path);
    read_origin(&o, path);
    bool same = options_same(&o.config, &t->model.config, config_table, CONFIG_OPTIONS, 1u << RESUME_SAME, err);
    free(o.class_names);
    free(o.class_ids);
    if (!same) { return set_error(err, "%s holds a transfer to another model: give another --output", t->output); }
    load_resume(t, t->output);
    return true;
}

// ---- The training

static void evaluate_student(Imposed* s, Records* records, Evaluation* e) {
    Trainer* t = &s->student;
    char what[64];
    *e = imposed_evaluation(s, t->model.ema ? t->model.ema : t->model.params);
    snprintf(what, sizeof what, "epoch %.2f, test%s", (double)t->step / (double)t->steps_per_epoch,
             t->model.ema ? " (EMA)" : "");
    print_evaluation(what, e);
    if (records) { record_row(t, records, NULL, e); }
}

static void after_imposed_step(Imposed* s, Records* records, const StepResult* r, Clock* clock) {
    Trainer* t = &s->student;
    bool last = t->step == t->total_steps, epoch_ends = t->step % t->steps_per_epoch == 0;
    Evaluation e;
    show_progress(t, records, r, clock);
    double paused = seconds_now();
    if (epoch_ends && !last && due(t->step / t->steps_per_epoch, t->model.config.eval_every)) {
        evaluate_student(s, records, &e);
    }
    if (epoch_ends || last) { save_all(t, records); }
    clock->start += seconds_now() - paused;
}

// Trains to the end, and evaluates.
NEVER_INLINE bool train_student(Imposed* s, Evaluation* e, Error* err) {
    Trainer* t = &s->student;
    static Records records; // too large for a small stack
    records_open(t, &records);
    save_config(t);
    stop_on_signals();
    bool done = t->step == t->total_steps, finite = true;
    loader_seek(&t->train_loader, t->step * t->model.config.grad_accum_steps);
    Clock clock = clock_start(t);
    while (t->step < t->total_steps && !stop_requested && finite) {
        StepResult r = imposed_step(s);
        finite = step_finite(&r);
        if (finite) { after_imposed_step(s, &records, &r, &clock); }
    }
    bool ended = t->step == t->total_steps;
    if (!ended) { save_all(t, &records); }
    if (ended) { evaluate_student(s, done ? NULL : &records, e); }
    records_close(&records);
    if (!finite) { return set_error(err, "the loss is no number from step %lld on: train the student at a lower rate",
                                    (long long)t->step); }
    return ended || set_error(err, "stopped at step %lld: the same command goes on", (long long)t->step);
}

// ---- Results

typedef struct { const char *what, *folder; double top1, top1_se, loss; } TransferRow;

static const char* imposed_name(const Imposed* s) {
    return s->mean ? "student with the teacher's mean map" : "student with the teacher's maps";
}

// The last evaluation in a run's log
static TransferRow row_of_run(const char* what, const Run* r) {
    MetricsTable log;
    Error ignored;
    TransferRow row = {what, r->folder, NAN, NAN, NAN};
    if (!metrics_read(&log, r->folder, &ignored)) { return row; }
    row.top1 = metrics_last(&log, METRIC_test_top1);
    row.top1_se = metrics_last(&log, METRIC_test_top1_se);
    row.loss = metrics_last(&log, METRIC_test_loss);
    metrics_table_free(&log);
    return row;
}

static bool plot_log(Figure* f, const Run* r, const char* label, int color, Error* err) {
    MetricsTable log;
    int count = 0;
    if (!metrics_read(&log, r->folder, err)) { return false; }
    double* x = alloc_array(double, 2 * log.rows, "a picture");
    for (int i = 0; i < log.rows; i++) {
        if (isnan(log.column[METRIC_test_top1][i])) { continue; }
        x[count] = log.column[METRIC_epoch][i];
        x[log.rows + count++] = log.column[METRIC_test_top1][i];
    }
    plot_line_points(f, x, x + log.rows, count, (Style){.label = label, .color = color});
    free(x);
    metrics_table_free(&log);
    return true;
}

static bool draw_transfer(const Imposed* s, Analysis* a, const char* subject, Error* err) {
    Figure f;
    Run* imposed = alloc_array(Run, 1, "a run"); // of which only the folder is used
    const Run *teacher = &a->runs[0], *student = &a->runs[a->count - 1];
    strcpy(imposed->folder, s->student.output);
    figure_begin(&f, &a->results, "transfer", 1, "Attention transfer",
                 "test accuracy by epoch of the student with imposed attention, and of the runs", subject);
    panel_begin(&f, "Test accuracy", (Axis){.label = "epoch"}, (Axis){.label = "top-1 (%)"});
    bool ok = plot_log(&f, imposed, imposed_name(s), 0, err) &&
              (a->count < 2 || plot_log(&f, student, "student with its own", 1, err)) &&
              plot_log(&f, teacher, "teacher", 2, err);
    panel_end(&f);
    free(imposed);
    if (ok) { return figure_end(&f, err); }
    figure_drop(&f);
    return false;
}

NEVER_INLINE bool write_transfer(const Imposed* s, Analysis* a, const Evaluation* e, const char* subject, Error* err) {
    TransferRow rows[3] = {row_of_run("teacher", &a->runs[0]),
                           {imposed_name(s), s->student.output, e->top1, e->top1_se, e->loss}};
    int count = 2;
    Table table;
    Csv csv;
    if (a->count > 1) { rows[count++] = row_of_run("student with its own", &a->runs[1]); }
    if (!csv_begin(&csv, &a->results, "transfer.csv", "what,run,top1,top1_se,loss", err)) { return false; }
    table_begin(&table, "Attention transfer: accuracy at the end", "model\ttop-1 (%)\tloss");
    for (int i = 0; i < count; i++) {
        csv_row(&csv, "%s,%s,%.6g,%.6g,%.9g", csv_text(rows[i].what), csv_text(rows[i].folder), rows[i].top1,
                rows[i].top1_se, rows[i].loss);
        table_row(&table, "%s\t%.2f ± %.2f\t%.4f", rows[i].what, rows[i].top1, rows[i].top1_se, rows[i].loss);
    }
    table_end(&table, &a->results);
    return csv_end(&csv, err) && draw_transfer(s, a, subject, err);
}

// ---- The analysis

static bool transfer(Analysis* a, Error* err) {
    Run *teacher = &a->runs[0], *student = &a->runs[a->count - 1];
    const AnalyzeOptions* o = &a->options;
    Imposed* s = alloc_array(Imposed, 1, "a transfer");
    Evaluation e;
    int64_t step;
    char key[1024], subject[1024];
    if (a->count > 2) { return set_error(err, "transfer takes a teacher and at most one student"); }
    if (teacher->config.local_blocks || student->config.local_blocks) {
        return set_error(err, "transfer puts maps of all tokens into every block, and some have gated positional "
                         "attention: take runs of a ViT");
    }
    bool ok = attends_to_all(a, teacher, err) && attends_to_all(a, student, err) && run_model(teacher, err) &&
              run_weights(teacher, o->checkpoint, teacher->t.model.params, &step, err);
    s->teacher = &teacher->t.model;
    ok = ok && open_student(s, teacher, student, o, err);
    if (ok && o->maps == MAPS_MEAN) { mean_maps(s, o->images ? o->images : MEAN_MAP_IMAGES); }
    if (ok) {
        transfer_key(s, teacher, o, step, key);
        subject_of(teacher, o->checkpoint, step, subject, sizeof subject);
        ok = enter_folder(s, &a->results, key, err) && train_student(s, &e, err) &&
             write_transfer(s, a, &e, subject, err);
    }
    close_student(s);
    free(s);
    return ok;
}
