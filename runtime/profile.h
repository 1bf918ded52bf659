// Where the time goes: a stopwatch that is read after each part of a step. lap() adds the time since the last lap to a
// part, forward or backward; when off, it costs a branch.
#pragma once
#include "clock.h"
#include "inlining.h"
#include <stdbool.h>
#include <string.h>

enum { PROFILE_PARTS = 32, PROFILE_FORWARD = 0, PROFILE_BACKWARD = 1 };

typedef struct {
    bool on;
    int direction; // of the following parts
    double last;
    double seconds[PROFILE_PARTS][2];
} Profile;

static inline void profile_start(Profile* p) {
    memset(p, 0, sizeof *p);
    p->on = true;
    p->last = seconds_now();
}

NEVER_INLINE void profile_lap(Profile* p, int part) {
    if (!p->on) { return; }
    double now = seconds_now();
    p->seconds[part][p->direction] += now - p->last;
    p->last = now;
}

static inline double profile_total(const Profile* p) {
    double sum = 0;
    for (int i = 0; i < PROFILE_PARTS; i++) { sum += p->seconds[i][0] + p->seconds[i][1]; }
    return sum;
}
