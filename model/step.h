// What a step leaves to be read: sums over the images of its micro-batches, and the norm of its gradients. The step is
// applied only where loss and norm are finite. Of several ranks it tells all what a signal has told one of them.
#pragma once

typedef struct MicroSums {
    double loss, hits;
    int stop; // the signal that asks whose it is to end; 0: none, and of one rank always
} MicroSums; // of one micro-batch

typedef struct StepSums {
    double loss, hits; // hits: images whose label has the largest logit
    int stop;
    double norm;
} StepSums;
