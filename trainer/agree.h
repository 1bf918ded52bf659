// What all ranks of a run must agree on, their position and their parameters, and what happens when one does not.
#pragma once
#include "../runtime/exchange.h"
#include "../runtime/hash.h"
#include "trainer.h"

// Rank 0 says why no rank can go on. The launcher ends the others; if it does not, they end themselves.
__attribute__((noreturn)) static void leave_together(int exit_code, const char* why) {
    program_rank[0] = 0; // the error concerns all ranks, so its line names none
    if (ranks_lead()) { fail(exit_code, "%s", why); }
    sleep(5);
    _exit(exit_code);
}

// Tells all ranks where in the run they are, as rank 0 read it.
RUNS_ONCE static void share_position(Trainer* t) {
    struct { int64_t step, best_step, hits, seen; double best_top1; Running loss; } at = {
        t->step, t->best_step, t->hits, t->seen, t->best_top1, t->loss};
    if (ranks.size == 1) { return; }
    wait_on("the files that rank 0 reads", -1);
    lead_tells(&at, sizeof at);
    t->step = at.step, t->best_step = at.best_step, t->hits = at.hits, t->seen = at.seen;
    t->best_top1 = at.best_top1, t->loss = at.loss, t->saved = at.step;
}

// Called before a checkpoint: if ranks hold different parameters, one of them is faulty, and nothing is written.
static void compare_parameters(Trainer* t) {
    Error err;
    if (ranks.size == 1) { return; }
    wait_on("parameters before a checkpoint", -1);
    Model* m = &t->model;
    uint64_t* all = alloc_array(uint64_t, ranks.size, "checksums");
    all[ranks.place] = hash_floats(hash_start, model_fetch(m, m->params), m->table.total);
    gather_all(all, sizeof *all);
    for (int p = 1; p < ranks.size; p++) {
        if (all[p] == all[0]) { continue; }
        set_error(&err,
                  "rank %d on %s holds other parameters than rank 0 at step %lld: its memory or GPU is faulty; the "
                  "last good state is of step %lld",
                  ranks.at_place[p], ranks.node_of[ranks.at_place[p]], (long long)t->step,
                  (long long)t->saved);
        leave_together(EXIT_RUN_TIME, err.text);
    }
    free(all);
}
