// The progress of long work: one line that is overwritten on a terminal, elsewhere a line now and then.
#pragma once
#include "../runtime/clock.h"
#include "../runtime/log.h"

enum { PLAIN_LINE_SECONDS = 30 };

typedef struct {
    double begin, last_line;          // seconds_now()
    double units, total_units;        // of the input that is to be processed now
    uint64_t images;                  // done so far
} WorkProgress;

static inline WorkProgress work_progress(double total_units) {
    double now = seconds_now();
    return (WorkProgress){now, now, 0, total_units, 0};
}

// WHAT | 12.3 % | rate | eta 4s; rate may be ""
static inline void work_progress_say(WorkProgress* p, const char* what, const char* rate) {
    char line[256], eta[32];
    bool rewrites = terminal_rewrites();
    double part = p->total_units > 0 ? p->units / p->total_units : 1, now = seconds_now();
    if (now - p->last_line < (rewrites ? 0.2 : PLAIN_LINE_SECONDS) || now - p->begin < 1) { return; }
    duration_text(part > 0 ? (now - p->begin) * (1 - part) / part : 0, eta);
    snprintf(line, sizeof line, "%s | %.1f %% | %s%seta %s", what, 100 * (part < 1 ? part : 1), rate,
             *rate ? " | " : "", part > 0 ? eta : "?");
    if (rewrites) { text_cut(line, terminal_columns() - 1); }
    output_take_back();
    fputs(line, stdout);
    output_line_open = true;
    if (!rewrites) { output_keep(); }
    output_flush();
    p->last_line = now;
}

// For a preparation; shard: the one that is being read
static inline void work_progress_print(WorkProgress* p, const char* shard) {
    char rate[96];
    snprintf(rate, sizeof rate, "%llu images | %.0f images/s", (unsigned long long)p->images,
             (double)p->images / (seconds_now() - p->begin));
    work_progress_say(p, shard, rate);
}
