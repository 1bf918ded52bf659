// Evaluation over the whole test split.
#pragma once
#include "../kernels/loss.h"
#include "trainer.h"

typedef struct { int64_t images, hits; } ClassCount;

typedef struct { Running loss, top1, top5; } EvaluationSums; // over images

static void evaluation_add(EvaluationSums* s, int rank, float loss) {
    running_add(&s->loss, loss);
    running_add(&s->top1, 100.0 * (rank < 1));
    running_add(&s->top5, 100.0 * (rank < 5));
}

static Evaluation evaluation_of(const EvaluationSums* s) {
    return (Evaluation){
        .loss = s->loss.mean, .loss_se = running_error(&s->loss), .top1 = s->top1.mean, .top1_se = running_error(&s->top1),
        .top5 = s->top5.mean, .top5_se = running_error(&s->top5), .images = (int64_t)s->loss.count,
    };
}

static const Batch* fetch_test_batch(Trainer* t) {
    const Batch* batch = loader_next(&t->test_loader);
    model_prefetch(&t->model, batch);
    return batch;
}

// Of so many images that model_evaluate was given
static void evaluation_add_batch(EvaluationSums* s, ClassCount* per_class, const Model* m, const int* labels, int count) {
    const float *logits = model_logits(m), *losses = model_losses(m);
    for (int b = 0; b < count; b++) {
        int rank = rank_of_label(logits + (size_t)b * m->dims.K, m->dims.K, labels[b]);
        evaluation_add(s, rank, losses[b]);
        if (per_class) {
            per_class[labels[b]].images++;
            per_class[labels[b]].hits += rank < 1;
        }
    }
}

// While a GPU has a batch, the next one is made and sent to it.
static Evaluation evaluate(Trainer* t, float* flat, ClassCount* per_class /* (K) or NULL */) {
    Model* m = &t->model;
    EvaluationSums sums = {0};
    int* labels = alloc_array(int, m->B, "labels");
    loader_seek(&t->test_loader, 0);
    const Batch* batch = fetch_test_batch(t);
    for (int64_t images = 0; images < t->test.count;) {
        int count = batch->count;
        memcpy(labels, batch->labels, (size_t)count * sizeof(int));
        model_evaluate(m, flat, batch);
        images += count;
        if (images < t->test.count) { batch = fetch_test_batch(t); }
        evaluation_add_batch(&sums, per_class, m, labels, count);
    }
    free(labels);
    return evaluation_of(&sums);
}

RUNS_ONCE static void print_classes(const Dataset* data, const ClassCount* counts) {
    for (int k = 0; k < data->classes; k++) {
        long long images = counts[k].images;
        double share = images ? (double)counts[k].hits / (double)images : 0;
        double error = images ? sqrt(share * (1 - share) / (double)images) : 0;
        printf("  %-24s %6.2f ± %.2f %% of %lld\n", data->class_names[k], 100 * share, 100 * error, images);
    }
}

static Evaluation evaluate_and_print(Trainer* t, float* flat, const char* what) {
    Model* m = &t->model;
    ClassCount* counts = alloc_array(ClassCount, m->dims.K, "class counts");
    Evaluation e = evaluate(t, flat, counts);
    print_evaluation(what, &e);
    if (m->config.per_class) { print_classes(&t->test, counts); }
    free(counts);
    return e;
}
