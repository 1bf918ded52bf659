// Evaluation over the whole test split.
#pragma once
#include "../kernels/loss.h"
#include "../runtime/exchange.h"
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
        .loss = s->loss.mean, .loss_se = running_error(&s->loss),
        .top1 = s->top1.mean, .top1_se = running_error(&s->top1),
        .top5 = s->top5.mean, .top5_se = running_error(&s->top5), .images = (int64_t)s->loss.count,
    };
}

static const Batch* fetch_test_batch(Trainer* t) {
    const Batch* batch = loader_next(&t->test_loader);
    model_prefetch(&t->model, batch);
    return batch;
}

typedef struct { float loss; int32_t rank, label; } Outcome; // of an image; rank: as rank_of_label has it

// Of the first count images that model_evaluate was given; their labels are in out already.
static void note_outcomes(Outcome* out, const Model* m, int count) {
    const float *logits = model_logits(m), *losses = model_losses(m);
    for (int b = 0; b < count; b++) {
        out[b].loss = losses[b];
        out[b].rank = rank_of_label(logits + (size_t)b * m->dims.K, m->dims.K, out[b].label);
    }
}

// Evaluates this rank's batches. While a GPU works on one, the next is made and sent to it.
static void evaluate_batches(Trainer* t, float* flat, Outcome* outcomes) {
    Model* m = &t->model;
    int64_t batches = loader_batches(&t->test_loader);
    loader_seek(&t->test_loader, 0);
    const Batch* batch = batches > 0 ? fetch_test_batch(t) : NULL;
    for (int64_t k = 1; k <= batches; k++) {
        int count = batch->count;
        Outcome* out = outcomes + batch->step * t->test_loader.plan.config.batch_size;
        for (int b = 0; b < count; b++) { out[b].label = batch->labels[b]; }
        model_evaluate(m, flat, batch);
        if (k < batches) { batch = fetch_test_batch(t); }
        note_outcomes(out, m, count);
    }
}

// Each rank sends the outcomes of its batches to all others.
static void share_outcomes(const Trainer* t, Outcome* outcomes) {
    int64_t batches = t->test_loader.plan.steps_per_epoch, B = t->test_loader.plan.config.batch_size, N = t->test.count;
    if (ranks.size == 1) { return; }
    wait_on("an evaluation", -1);
    Message *in = alloc_array(Message, batches * (ranks.size + 1), "messages"), *out = in + batches;
    int ins = 0, outs = 0;
    for (int64_t i = 0; i < batches; i++) {
        int owner = (int)(i % ranks.size);
        Message batch = {owner, outcomes + i * B, (size_t)(N - i * B < B ? N - i * B : B) * sizeof *outcomes};
        if (owner != ranks.place) { in[ins++] = batch; }
        for (batch.place = 0; owner == ranks.place && batch.place < ranks.size; batch.place++) {
            if (batch.place != owner) { out[outs++] = batch; }
        }
    }
    exchange(out, outs, in, ins);
    free(in);
}

// The ranks share the batches; then every rank adds up all images, in the order of the data set.
static Evaluation evaluate(Trainer* t, float* flat, ClassCount* per_class /* (K) or NULL */) {
    EvaluationSums sums = {0};
    Outcome* outcomes = alloc_array(Outcome, t->test.count, "an evaluation");
    evaluate_batches(t, model_whole(&t->model, flat), outcomes);
    share_outcomes(t, outcomes);
    for (int i = 0; i < t->test.count; i++) {
        const Outcome* o = &outcomes[i];
        evaluation_add(&sums, o->rank, o->loss);
        if (per_class) {
            per_class[o->label].images++;
            per_class[o->label].hits += o->rank < 1;
        }
    }
    free(outcomes);
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
