// The work on a plan's jobs, on all cores: images are handed out one by one in the order of their jobs, prepared by
// whichever worker is free, and written in that order by the worker that brings the next one. So the bytes depend
// neither on the number of workers nor on timing, the input is read from front to back, and memory is bounded by a
// window of images.
//
// A finished shard gets its name once it is complete on disk, and its part (part.h) after that: whatever happens, the
// same command continues after what is finished.
#pragma once
#include "../runtime/signals.h"
#include "../runtime/threads.h"
#include "part.h"
#include "progress.h"
#include "shard_writer.h"

enum { WINDOW_A_WORKER = 4 };

// A job in progress. Its fields are protected by the preparation's lock, except for writer and part, which belong to
// the worker that has set busy, and for an image that is not ready, which belongs to its worker.
typedef struct OpenJob OpenJob;
struct OpenJob {
    const Job* job;
    Cursor cursor;
    ShardWriter writer;
    Part part;
    uint64_t taken, written;    // images
    bool exhausted;             // there are no more to take
    bool busy;                  // a worker is writing
    bool* ready;                // (window) at image % window
    PreparedImage* images;      // (window)
    OpenJob* others;            // in the list of all jobs in progress
};

typedef struct {
    const Plan* plan;
    const Treatment* treatment;
    const char* comment;        // put before the first shard of a split; NULL: none
    const bool* finished;       // (jobs)
    size_t window;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    size_t next;                // the job after the current one
    OpenJob* current;           // the job that is read; NULL: the next is to be opened
    OpenJob* open;              // all jobs in progress
    int at_work;                // workers
    bool stop;                  // a signal has come
    bool failed;
    Error error;
    WorkProgress progress;
    char shard[SHARD_NAME_BYTES]; // of the current job
} Preparation;

// ---- a job begins and ends

static inline void open_job_free(const Preparation* p, OpenJob* open) {
    for (size_t i = 0; i < p->window && open->images && open->ready; i++) {
        if (open->ready[i]) { free(open->images[i].bytes); }
    }
    for (int i = 0; i < open->cursor.descriptor_count; i++) { close(open->cursor.descriptors[i]); }
    free(open->ready);
    free(open->images);
    part_free(&open->part);
    free(open);
}

static inline bool is_first_shard(const Plan* plan, const Job* job) {
    return job == plan->jobs || job[-1].split != job->split;
}

static inline bool open_writer(const Preparation* p, OpenJob* open, Error* err) {
    char path[PATH_MAX];
    if (!p->plan->writes) { return true; }
    if (!in_output(path, p->plan, open->job->shard, err) || !shard_begin(&open->writer, path, err)) { return false; }
    bool comment = p->comment && is_first_shard(p->plan, open->job);
    if (!comment || shard_add_comment(&open->writer, p->comment, err)) { return true; }
    whole_file_drop(&open->writer.file);
    return false;
}

// NULL: err says why not
static inline OpenJob* open_job(const Preparation* p, const Job* job, Error* err) {
    OpenJob* open = (OpenJob*)calloc(1, sizeof *open);
    if (!open) {
        set_error(err, "no memory for %s: close other programs", job->shard);
        return NULL;
    }
    open->job = job;
    open->ready = (bool*)calloc(p->window, sizeof *open->ready);
    open->images = (PreparedImage*)calloc(p->window, sizeof *open->images);
    open->cursor = (Cursor){.job = job, .at = job->first};
    bool ok = (open->ready && open->images) || set_error(err, "no memory for %s: close other programs", job->shard);
    if (ok && job->source->begin(&open->cursor, err) && open_writer(p, open, err)) { return open; }
    open_job_free(p, open);
    return NULL;
}

static inline bool shard_size(const Preparation* p, const OpenJob* open, uint64_t* bytes, Error* err) {
    char path[PATH_MAX];
    struct stat status;
    *bytes = open->writer.at;
    if (p->plan->writes) { return true; }
    if (!in_output(path, p->plan, open->job->shard, err)) { return false; }
    if (stat(path, &status) != 0) { return set_error(err, "cannot look at %s: %s", path, strerror(errno)); }
    *bytes = (uint64_t)status.st_size;
    return true;
}

static inline bool close_job(const Preparation* p, OpenJob* open, Error* err) {
    uint64_t bytes = 0;
    bool ok = (!p->plan->writes || shard_end(&open->writer, err)) && shard_size(p, open, &bytes, err)
        && part_save(&open->part, p->plan, open->job, bytes, err);
    open_job_free(p, open);
    return ok;
}

// ---- under the lock

static inline void preparation_fail(Preparation* p, const Error* err) {
    if (!p->failed) { p->error = *err; }
    p->failed = true;
    pthread_cond_broadcast(&p->moved);
}

// Ends the job, once all that was taken is written. No other worker knows of it any more, and the lock is released.
static inline void end_if_done(Preparation* p, OpenJob* open) {
    if (!open->exhausted || open->busy || open->written < open->taken || p->failed) { return; }
    Error err;
    OpenJob** link = &p->open;
    while (*link != open) { link = &(*link)->others; }
    *link = open->others;
    pthread_mutex_unlock(&p->lock);
    bool ok = close_job(p, open, &err);
    pthread_mutex_lock(&p->lock);
    if (!ok) { preparation_fail(p, &err); }
}

// The next job that is not finished becomes the current one; false: there is none, or it cannot be opened
static inline bool next_job(Preparation* p) {
    Error err;
    while (p->next < p->plan->count && p->finished[p->next]) { p->next++; }
    if (p->next == p->plan->count) { return false; }
    const Job* job = &p->plan->jobs[p->next++];
    memcpy(p->shard, job->shard, sizeof p->shard);
    p->current = open_job(p, job, &err);
    if (!p->current) {
        preparation_fail(p, &err);
        return false;
    }
    p->current->others = p->open;
    p->open = p->current;
    return true;
}

// The next image, with its job and its number there; false: nothing is left, or the work is to end
static inline bool next_image(Preparation* p, InputImage* image, OpenJob** from, uint64_t* number) {
    Error err;
    while (!p->failed && !p->stop && (p->current || next_job(p))) {
        OpenJob* open = *from = p->current;
        if (open->taken - open->written >= p->window) {
            pthread_cond_wait(&p->moved, &p->lock);
            continue;
        }
        int found = open->job->source->next(&open->cursor, image, &err);
        *number = open->taken;
        open->taken += found == 1;
        if (found == 1) { return true; }
        if (found < 0) {
            preparation_fail(p, &err);
            return false;
        }
        open->exhausted = true;
        p->current = NULL;
        end_if_done(p, open);
    }
    return false;
}

// ---- writing

static inline bool write_image(const Preparation* p, OpenJob* open, const PreparedImage* image, Error* err) {
    uint64_t offset = image->place, ignored;
    char name[MEMBER_KEY_BYTES + 8], label[16];
    bool writes = p->plan->writes && !(image->kinds >> ODD_FAILED & 1);
    snprintf(name, sizeof name, "%s.%s", image->key, image->png ? "png" : "jpg");
    if (writes && !shard_add(&open->writer, name, '0', image->bytes, image->record.bytes, &offset, err)) {
        return false;
    }
    if (writes && p->treatment->webdataset) {
        int digits = snprintf(label, sizeof label, "%d", image->record.label);
        snprintf(name, sizeof name, "%s.cls", image->key);
        if (!shard_add(&open->writer, name, '0', label, (size_t)digits, &ignored, err)) { return false; }
    }
    return part_add(&open->part, image, offset, err);
}

// Writes all images that are next and ready.
static inline void write_ready(Preparation* p, OpenJob* open) {
    while (!open->busy && !p->failed && open->ready[open->written % p->window]) {
        Error err;
        PreparedImage* image = &open->images[open->written % p->window];
        open->busy = true;
        pthread_mutex_unlock(&p->lock);
        bool ok = write_image(p, open, image, &err);
        free(image->bytes);
        pthread_mutex_lock(&p->lock);
        open->busy = false;
        open->ready[open->written++ % p->window] = false;
        pthread_cond_broadcast(&p->moved);
        if (!ok) { preparation_fail(p, &err); }
    }
}

static inline void image_is_ready(Preparation* p, OpenJob* open, uint64_t number) {
    const PreparedImage* image = &open->images[number % p->window];
    open->ready[number % p->window] = true;
    p->progress.units += image->units;
    p->progress.images++;
    if (p->treatment->strict && image->kinds >> ODD_FAILED & 1) {
        Error err;
        set_error(&err, "%s %s (--strict: else it would be skipped and listed)", image->from, image->reason);
        preparation_fail(p, &err);
    }
    write_ready(p, open);
    end_if_done(p, open);
}

// ---- workers

static inline void* preparation_worker(void* preparation) {
    Preparation* p = (Preparation*)preparation;
    ImageWorker* w = (ImageWorker*)calloc(1, sizeof *w);
    OpenJob* open;
    uint64_t number;
    if (w) { w->decoder = decoder_create(); }
    pthread_mutex_lock(&p->lock);
    if (!w) {
        Error err;
        set_error(&err, "no memory for a worker: give fewer --workers");
        preparation_fail(p, &err);
    }
    while (w && next_image(p, &w->image, &open, &number)) {
        pthread_mutex_unlock(&p->lock);
        prepare_image(w, p->treatment, &open->images[number % p->window]);
        pthread_mutex_lock(&p->lock);
        image_is_ready(p, open, number);
    }
    p->at_work--;
    pthread_cond_broadcast(&p->moved);
    pthread_mutex_unlock(&p->lock);
    if (w) { image_worker_free(w); }
    free(w);
    return NULL;
}

// While the workers work: shows progress, and passes a signal on to those that wait.
static inline void watch_workers(Preparation* p) {
    pthread_mutex_lock(&p->lock);
    while (p->at_work > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&p->moved, &p->lock, &until);
        if (stop_requested && !p->stop) {
            p->stop = true;
            pthread_cond_broadcast(&p->moved);
        }
        work_progress_print(&p->progress, p->shard);
    }
    pthread_mutex_unlock(&p->lock);
    output_take_back();
    output_flush();
}

// Starts as many workers as possible, up to wanted; *error: why not more. Only this thread receives signals.
static inline int start_workers(Preparation* p, pthread_t* threads, int wanted, int* error) {
    sigset_t all, before;
    int count = 0;
    *error = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&p->lock); // none ends before all are counted
    while (*error == 0 && count < wanted) {
        *error = pthread_create(&threads[count], NULL, preparation_worker, p);
        count += *error == 0;
    }
    p->at_work = count;
    pthread_mutex_unlock(&p->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return count;
}

static inline bool run_workers(Preparation* p, int wanted, Error* err) {
    int error;
    pthread_t* threads = (pthread_t*)calloc((size_t)wanted, sizeof *threads);
    if (!threads) { return set_error(err, "no memory for %d workers: give fewer --workers", wanted); }
    int count = start_workers(p, threads, wanted, &error);
    if (count > 0) { watch_workers(p); }
    for (int i = 0; i < count; i++) { pthread_join(threads[i], NULL); }
    free(threads);
    return count > 0 || set_error(err, "cannot start a worker: %s; raise the limits (ulimit -u, ulimit -v)",
                                  strerror(error));
}

static bool preparation_stopped; // by a signal, for no other reason

// Does all jobs that are not finished. false: err says why not, or that they were stopped
static inline bool prepare_jobs(const Plan* plan, const Treatment* t, const char* comment, const bool* finished,
                                Error* err) {
    int workers = t->workers ? t->workers : core_count();
    double units = 0;
    for (size_t j = 0; j < plan->count; j++) { units += finished[j] ? 0 : plan->jobs[j].units; }
    Preparation p = {.plan = plan, .treatment = t, .comment = comment, .finished = finished,
                     .window = (size_t)workers * WINDOW_A_WORKER, .progress = work_progress(units)};
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.moved, NULL);
    bool ok = run_workers(&p, workers, err), whole = !p.open;
    while (p.open) { // these did not end, and what they have so far is dropped
        OpenJob* open = p.open;
        p.open = open->others;
        if (plan->writes) { whole_file_drop(&open->writer.file); }
        open_job_free(&p, open);
    }
    for (; p.next < plan->count; p.next++) { whole = whole && finished[p.next]; }
    pthread_cond_destroy(&p.moved);
    pthread_mutex_destroy(&p.lock);
    if (ok && p.failed) { ok = set_error(err, "%s", p.error.text); }
    preparation_stopped = ok && !whole;
    return ok && (whole || set_error(err, "stopped; run the same command again to go on"));
}
