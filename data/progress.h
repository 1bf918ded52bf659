// How far a preparation has come: one line that is overwritten on a terminal, elsewhere a line now and then.
#pragma once
#include "../runtime/clock.h"
#include "../runtime/log.h"

enum { PLAIN_LINE_SECONDS = 30 };

typedef struct {
    double begin, last_line;          // seconds_now()
    double units, total_units;        // of the input, what is to be done now
    uint64_t images;                  // done now
} WorkProgress;

static inline WorkProgress work_progress(double total_units) {
    double now = seconds_now();
    return (WorkProgress){now, now, 0, total_units, 0};
}

// shard: that is being read
static inline void work_progress_print(WorkProgress* p, const char* shard) {
    bool rewrites = terminal_rewrites();
    double now = seconds_now(), seconds = now - p->begin;
    if (now - p->last_line < (rewrites ? 0.2 : PLAIN_LINE_SECONDS) || seconds < 1) { return; }
    char line[256], eta[32];
    double part = p->total_units > 0 ? p->units / p->total_units : 1;
    duration_text(part > 0 ? seconds * (1 - part) / part : 0, eta);
    snprintf(line, sizeof line, "%s | %.1f %% | %llu images | %.0f images/s | eta %s", shard,
             100 * (part < 1 ? part : 1), (unsigned long long)p->images, (double)p->images / seconds,
             part > 0 ? eta : "?");
    if (rewrites) { text_cut(line, terminal_columns() - 1); }
    output_take_back();
    fputs(line, stdout);
    output_line_open = true;
    if (!rewrites) { output_keep(); }
    output_flush();
    p->last_line = now;
}
