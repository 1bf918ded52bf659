// Provides one batch after the other, prepared ahead by threads of its own.
//
//   Loader loader;
//   if (!loader_open(&loader, &dataset, &config, &error)) { ... }
//   loader_seek(&loader, step);                         // 0 after opening
//   const Batch* batch = loader_next(&loader);          // valid until the next loader_next
//   loader_close(&loader);
//
// If several processes share the batches, each has a loader for its own ones, counted from 0 (first, run, stride of
// LoaderConfig): a step here is a batch of this loader, whose number among all batches is batch->step.
//
// The batches form a ring: one is the caller's, the others are those that it gets next. A worker takes some images of
// the first of these that has any left to make, so that a batch is done as soon as possible, and the next one begins
// while its last images are being made. Everything about a batch is in data/batch.h, and does not depend on threads.
//
// An image that cannot be read is named by loader_next, and the next one takes its place, as in timm. Several in a row
// end the program; with `strict`, the first does.
#pragma once
#include "../runtime/clock.h"
#include "../runtime/output.h"
#include "../runtime/threads.h"
#include "batch.h"
#include <pthread.h>
#include <signal.h>

enum { LOADER_BATCHES = 3, LOADER_WORKERS = 256, LOADER_NOTES = 4, REPLACEMENTS = 10 };

typedef enum {
    PLACE_EMPTY,    // not begun
    PLACE_DRAWN,    // its images are to be made, those from `taken` on
    PLACE_MIXED,    // its pairs are to be mixed, those from `taken` on
    PLACE_MADE,     // complete
} PlaceState;

// A place in the ring
typedef struct {
    Batch batch;
    PlaceState state;
    bool busy;        // a worker has it for itself
    int taken, made;  // images or pairs
    bool* failed;     // (B) images that cannot be read
} Place;

typedef struct Loader Loader;

typedef struct {
    Loader* loader;
    ImageMaker maker;
    pthread_t thread;
} LoaderWorker;

struct Loader {
    BatchPlan plan;
    int places, workers;        // workers: threads
    LoaderWorker* worker;       // (workers), or one without a thread
    // shared with the workers, under the lock
    Place place[LOADER_BATCHES];
    int next;                   // the place of the batch that loader_next returns next,
    int64_t wanted;             // and its step
    int at_work;                // workers that are making an image, or drawing or finishing a batch
    bool stop, seeking;
    int bad;                    // images that cannot be read,
    int unsaid;                 // and how many of them loader_next has not named yet: the first of them
    char note[LOADER_NOTES][320];
    char fatal[320];            // why it cannot go on
    pthread_mutex_t lock;
    pthread_cond_t changed;
    double wait_seconds;
};

// This loader's batches of an evaluation
static inline int64_t loader_batches(const Loader* l) {
    return batches_among(&l->plan.config, l->plan.steps_per_epoch);
}

// Evaluation starts again after its last batch, so that the batches prepared ahead are the next evaluation's first. A
// loader that has none still prepares one, which is never asked for.
static inline int64_t loader_wrap(const Loader* l, int64_t step) {
    int64_t own = loader_batches(l);
    return l->plan.config.train ? step : step % (own > 0 ? own : 1);
}

// The number among all batches of the loader's batch `step`
static inline int64_t loader_number(const Loader* l, int64_t step) {
    int64_t number = batch_number(&l->plan.config, loader_wrap(l, step));
    return l->plan.config.train ? number : number % l->plan.steps_per_epoch;
}

// ---- the workers

// How many images a worker takes at a time
static inline int loader_share(const Loader* l) {
    return clamp_int(l->plan.config.batch_size / (4 * (l->workers + 1)), 1, 16);
}

// With the lock held: does what is next for a place in its state; false: there is nothing to do
static inline bool loader_draw(Loader* l, Place* p, int64_t step) {
    if (p->state != PLACE_EMPTY || p->busy) { return false; }
    p->busy = true;
    pthread_mutex_unlock(&l->lock);
    batch_draw(&l->plan, step, &p->batch);
    pthread_mutex_lock(&l->lock);
    p->state = PLACE_DRAWN;
    p->taken = p->made = 0;
    p->busy = false;
    return true;
}

// Remembers an image to be named once.
static inline void loader_note(Loader* l, int image, const Error* reason) {
    const Dataset* d = l->plan.dataset;
    char name[192];
    shard_record_name(name, d, image);
    pthread_mutex_lock(&l->lock);
    if (record_state(d->shards, image) != RECORD_BAD) {
        set_record_state(d->shards, image, RECORD_BAD);
        if (l->unsaid < LOADER_NOTES) {
            snprintf(l->note[l->unsaid], sizeof l->note[0], "%s %.100s", name, reason->text);
        }
        l->unsaid++;
        l->bad++;
    }
    if (l->plan.config.strict && !*l->fatal) { snprintf(l->fatal, sizeof l->fatal, "%s %.100s", name, reason->text); }
    pthread_mutex_unlock(&l->lock);
}

static inline bool loader_make_image(Loader* l, Batch* b, int i, ImageMaker* maker) {
    Error err;
    int image = b->indices[i];
    if (batch_make_image(&l->plan, b, i, maker, &err)) { return true; }
    loader_note(l, image, &err);
    return false;
}

static inline bool loader_make(Loader* l, Place* p, ImageMaker* maker) {
    if (p->state != PLACE_DRAWN || p->taken == p->batch.count) { return false; }
    int first = p->taken, count = clamp_int(loader_share(l), 1, p->batch.count - first);
    p->taken += count;
    pthread_mutex_unlock(&l->lock);
    for (int i = first; i < first + count; i++) { p->failed[i] = !loader_make_image(l, &p->batch, i, maker); }
    pthread_mutex_lock(&l->lock);
    p->made += count;
    return true;
}

// Puts others in the place of an image that cannot be read, until one can; false: too many cannot
static inline bool loader_replace(Loader* l, Batch* b, int i, ImageMaker* maker) {
    for (int tries = 0; tries < REPLACEMENTS; tries++) {
        batch_replace(&l->plan, b, i);
        if (loader_make_image(l, b, i, maker)) { return true; }
    }
    return false;
}

static inline bool loader_repair(Loader* l, Place* p, ImageMaker* maker) {
    if (p->state != PLACE_DRAWN || p->busy || p->made < p->batch.count) { return false; }
    bool whole = true;
    p->busy = true;
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < p->batch.count; i++) {
        if (p->failed[i]) { whole = loader_replace(l, &p->batch, i, maker) && whole; }
    }
    pthread_mutex_lock(&l->lock);
    if (!whole && !*l->fatal) {
        snprintf(l->fatal, sizeof l->fatal, "%d images of %s in a row cannot be read", REPLACEMENTS + 1,
                 l->plan.dataset->name);
    }
    p->state = PLACE_MIXED;
    p->taken = p->made = 0;
    p->busy = false;
    return true;
}

static inline bool loader_mix(Loader* l, Place* p) {
    if (p->state != PLACE_MIXED || p->taken == batch_pairs(&p->batch)) { return false; }
    int first = p->taken, count = clamp_int(loader_share(l), 1, batch_pairs(&p->batch) - first);
    p->taken += count;
    pthread_mutex_unlock(&l->lock);
    for (int i = first; i < first + count; i++) { batch_mix_pair(&l->plan, &p->batch, i); }
    pthread_mutex_lock(&l->lock);
    p->made += count;
    return true;
}

static inline bool loader_finish(Loader* l, Place* p) {
    if (p->state != PLACE_MIXED || p->busy || p->made < batch_pairs(&p->batch)) { return false; }
    p->busy = true;
    pthread_mutex_unlock(&l->lock);
    batch_finish(&l->plan, &p->batch);
    pthread_mutex_lock(&l->lock);
    p->state = PLACE_MADE;
    p->busy = false;
    return true;
}

// With the lock held: does the first thing that has to be done for the batches that are wanted next, in their order.
static inline bool loader_work(Loader* l, ImageMaker* maker) {
    bool done = false;
    l->at_work++;
    for (int k = 0; k < l->places - 1 && !done && !l->seeking; k++) {
        Place* p = &l->place[(l->next + k) % l->places];
        done = loader_draw(l, p, loader_number(l, l->wanted + k))
            || loader_make(l, p, maker) || loader_repair(l, p, maker)
            || loader_mix(l, p) || loader_finish(l, p);
    }
    l->at_work--;
    if (done || l->seeking) { pthread_cond_broadcast(&l->changed); }
    return done;
}

static inline void* loader_run(void* argument) {
    LoaderWorker* worker = (LoaderWorker*)argument;
    Loader* l = worker->loader;
    threads_unbind(); // it takes whichever core is free
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        if (!loader_work(l, &worker->maker)) { pthread_cond_wait(&l->changed, &l->lock); }
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

// Signals stay with the caller's threads. If fewer threads are available, or none, it makes do with those.
static inline void loader_start_workers(Loader* l) {
    int wish = l->plan.config.workers > LOADER_WORKERS ? LOADER_WORKERS : l->plan.config.workers;
    l->worker = alloc_array(LoaderWorker, wish > 1 ? wish : 1, "the loader's threads");
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_mutex_lock(&l->lock); // they begin once their number is known
    for (int i = 0; i < wish; i++) {
        l->worker[i].loader = l;
        if (pthread_create(&l->worker[i].thread, NULL, loader_run, &l->worker[i]) != 0) { break; }
        l->workers++;
    }
    pthread_mutex_unlock(&l->lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

// ---- what the caller does

// Names what could not be read since the last time.
static inline void loader_say(Loader* l) {
    if (l->unsaid == 0 && !*l->fatal) { return; }
    output_take_back();
    for (int i = 0; i < l->unsaid && i < LOADER_NOTES; i++) {
        printf("note       %s: the next image takes its place\n", l->note[i]);
    }
    if (l->unsaid > LOADER_NOTES) { printf("note       %d more cannot be read\n", l->unsaid - LOADER_NOTES); }
    l->unsaid = 0;
    if (*l->fatal) { fail(EXIT_RUN_TIME, "%s: make the data set again", l->fatal); }
}

// Waits for the wanted batch if need be, hands it out, and lets the workers start on one more.
static inline const Batch* loader_next(Loader* l) {
    double start = seconds_now();
    pthread_mutex_lock(&l->lock);
    Place* p = &l->place[l->next];
    while (p->state != PLACE_MADE) {
        if (l->workers) { pthread_cond_wait(&l->changed, &l->lock); } else { loader_work(l, &l->worker[0].maker); }
    }
    loader_say(l);
    l->place[(l->next + l->places - 1) % l->places].state = PLACE_EMPTY; // the one that the caller had until now
    l->next = (l->next + 1) % l->places;
    l->wanted = loader_wrap(l, l->wanted + 1);
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    l->wait_seconds += seconds_now() - start;
    return &p->batch;
}

// The next batch will be that of `step`.
static inline void loader_seek(Loader* l, int64_t step) {
    pthread_mutex_lock(&l->lock);
    if (l->wanted != loader_wrap(l, step)) {
        l->seeking = true;
        while (l->at_work > 0) { pthread_cond_wait(&l->changed, &l->lock); }
        for (int k = 0; k < l->places - 1; k++) { l->place[(l->next + k) % l->places].state = PLACE_EMPTY; }
        l->wanted = loader_wrap(l, step);
        l->seeking = false;
    }
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
}

// Seconds spent in loader_next since loader_open: the cost of loading for the training.
static inline double loader_wait_seconds(const Loader* l) { return l->wait_seconds; }

// The loader must not move afterwards (its threads point to it), and the data set must outlive it.
static inline bool loader_open(Loader* l, const Dataset* d, const LoaderConfig* config, Error* err) {
    *l = (Loader){.plan = {.dataset = d, .config = *config}};
    LoaderConfig* c = &l->plan.config;
    if (!loader_config_valid(d, config, err)) { return false; }
    if (c->batch_size > d->count) { c->batch_size = d->count; }
    int B = c->batch_size;
    l->plan.steps_per_epoch = c->train ? d->count / B : ((int64_t)d->count + B - 1) / B;
    l->places = d->images ? 2 : LOADER_BATCHES;
    for (int k = 0; k < l->places; k++) {
        l->place[k].batch = batch_create(&l->plan);
        l->place[k].failed = alloc_array(bool, B, "a batch's failures");
    }
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    loader_start_workers(l);
    return true;
}

static inline void loader_close(Loader* l) {
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->workers; i++) { pthread_join(l->worker[i].thread, NULL); }
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->changed);
    for (int i = 0; i < l->workers || i == 0; i++) { image_maker_free(&l->worker[i].maker); }
    for (int k = 0; k < l->places; k++) {
        batch_free(&l->place[k].batch);
        free(l->place[k].failed);
    }
    free(l->worker);
    *l = (Loader){0};
}
