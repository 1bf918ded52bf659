// What can be read after a step: sums over the images of its micro-batches, and the norm of its gradients. The step is
// applied only if loss and norm are finite. With several ranks it also tells all of them of a signal that one received.
#pragma once

typedef struct MicroSums {
    double loss, hits;
    int stop; // the signal by which its rank was asked to end; 0: none, or there is only one rank
} MicroSums; // of one micro-batch

typedef struct StepSums {
    double loss, hits; // hits: images whose label has the largest logit
    int stop;
    double norm;
} StepSums;
