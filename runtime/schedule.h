// The learning rate: linear warm-up, then half a cosine over the whole run (timm's cosine without warm-up prefix: after
// the warm-up the cosine is where it would be without one).
#pragma once
#include <math.h>

typedef struct {
    double lr, min_lr, warmup_lr;
    double warmup; // in units of t
    double total;  // in units of t
} Schedule;

// t: steps or epochs done before this step
static inline double learning_rate(const Schedule* s, double t) {
    if (t < s->warmup) { return s->warmup_lr + (s->lr - s->warmup_lr) * t / s->warmup; }
    double phase = t < s->total ? t / s->total : 1;
    return s->min_lr + 0.5 * (s->lr - s->min_lr) * (1 + cos(3.14159265358979323846 * phase));
}
