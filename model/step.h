// What a step leaves to be read: sums over the images of its micro-batches, and the norm of its gradients. The step is
// applied only where loss and norm are finite.
#pragma once

typedef struct MicroSums { double loss, hits; } MicroSums; // of one micro-batch

typedef struct StepSums {
    double loss, hits; // hits: images whose label has the largest logit
    double norm;
} StepSums;
