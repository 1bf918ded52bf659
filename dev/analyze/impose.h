// A model trained with another's attention instead of its own (attention copy: Li et al., 2024, arXiv 2411.09702). In
// every block and head its values are weighted by the sigma of a trained model, the teacher, for the same image or on
// average. Its own queries and keys are ignored; everything else learns as usual.
//
// The student is a model with --attn mixing, whose weights (N,N) of a head are set before a forward and are not
// trained. With a map for each image it works image by image: the kernels of --attn mixing use the same one for a whole
// batch.
#pragma once
#include "attention_maps.h"

typedef struct {
    Model* teacher;   // params: its weights
    Trainer student;
    float* mean;      // (L,H,N,N), the same maps for all images; NULL: each image's own
} Imposed;

static size_t map_size(const Model* m) { return (size_t)m->dims.H * m->dims.N * m->dims.N; } // of a block
static size_t imposed_size(const Model* m) { return (size_t)m->dims.L * map_size(m); }

// Where the student holds the map imposed on block l, (H,N,N)
static float* imposed_map(const Model* student, float* flat, int l) {
    return params_of_block(&student->table, flat, l).mixing;
}

// How many of a batch's images share a map
static int imposed_chunk(const Imposed* s, int count) { return s->mean ? count : 1; }

// The attention weights of block l for the one image of the last forward: map (H,N,N)
static void teacher_map(Model* teacher, float* map, int l) {
    attention_weights(map, teacher, params_of_block(&teacher->table, teacher->params, l),
                      acts_of_block(&teacher->acts_table, teacher->acts, l), 1);
}

// Sets the maps before a forward of the student with the weights `flat`
static void impose(Imposed* s, float* flat, const float* image) {
    const Model* m = &s->student.model;
    size_t size = map_size(m);
    if (!s->mean) { model_forward(s->teacher, s->teacher->params, image, 1, NULL); }
    for (int l = 0; l < m->dims.L; l++) {
        float* map = imposed_map(m, flat, l);
        if (s->mean) {
            memcpy(map, s->mean + (size_t)l * size, size * sizeof(float));
        } else {
            teacher_map(s->teacher, map, l);
        }
    }
}

// Logits and losses of images first.. of a batch, in the model's activations; returns how many images
static int imposed_forward(Imposed* s, float* flat, const Batch* batch, int first, const float* keep) {
    Model* m = &s->student.model;
    int B = imposed_chunk(s, batch->count);
    const float* images = model_images(m, batch) + (size_t)first * 3 * m->dims.S * m->dims.S;
    impose(s, flat, images);
    model_forward(m, flat, images, B, keep);
    model_loss(m, batch->targets + (size_t)first * m->dims.K, B);
    return B;
}

// Like model_gradients; drop path is drawn for the images of a batch as in any run.
static void imposed_gradients(Imposed* s, const Batch* batch, float dloss) {
    Model* m = &s->student.model;
    int K = m->dims.K;
    for (int first = 0, B; first < batch->count; first += B) {
        const float* keep = m->keep ? m->keep + first : NULL;
        B = imposed_forward(s, m->params, batch, first, keep);
        for (int b = 0; b < B; b++) {
            m->sums.loss += model_losses(m)[b];
            m->sums.hits += rank_of_label(model_logits(m) + (size_t)b * K, K, batch->labels[first + b]) == 0;
        }
        model_backward(m, batch->targets + (size_t)first * K, B, keep, dloss);
    }
}

// Like train_step; imposed maps have no gradient.
static StepResult imposed_step(Imposed* s) {
    Trainer* t = &s->student;
    Model* m = &t->model;
    int micro_batches = m->config.grad_accum_steps;
    StepResult result = {.lr = scheduled_rate(t, &t->schedule)};
    model_zero_gradients(m);
    for (int i = 0; i < micro_batches; i++) {
        const Batch* batch = fetch_batch(t, t->step * micro_batches + i);
        result.images += batch->count;
        imposed_gradients(s, batch, 1.0f / (float)(batch->count * micro_batches));
    }
    for (int l = 0; l < m->dims.L; l++) { memset(imposed_map(m, m->grads, l), 0, map_size(m) * sizeof(float)); }
    model_update(m, result.lr, t->step + 1);
    return step_counted(t, result);
}

// Like evaluate
static Evaluation imposed_evaluation(Imposed* s, float* flat) {
    Trainer* t = &s->student;
    int K = t->model.dims.K;
    EvaluationSums sums = {0};
    loader_seek(&t->test_loader, 0);
    while ((int64_t)sums.loss.count < t->test.count) {
        const Batch* batch = loader_next(&t->test_loader);
        for (int first = 0, B; first < batch->count; first += B) {
            B = imposed_forward(s, flat, batch, first, NULL);
            for (int b = 0; b < B; b++) {
                int rank = rank_of_label(model_logits(&t->model) + (size_t)b * K, K, batch->labels[first + b]);
                evaluation_add(&sums, rank, model_losses(&t->model)[b]);
            }
        }
    }
    return evaluation_of(&sums);
}

// The mean of the teacher's maps over the first training images, as they are augmented
static void mean_maps(Imposed* s, int images) {
    Trainer* t = &s->student;
    size_t size = imposed_size(s->teacher), pixels = 3 * (size_t)t->model.dims.S * t->model.dims.S;
    double* sum = alloc_array(double, size, "the mean of attention maps");
    float* maps = alloc_floats(size, "attention maps");
    loader_seek(&t->train_loader, 0);
    for (int seen = 0; seen < images;) {
        const Batch* batch = loader_next(&t->train_loader);
        for (int b = 0; b < batch->count && seen < images; b++, seen++) {
            model_forward(s->teacher, s->teacher->params, model_images(&t->model, batch) + (size_t)b * pixels, 1, NULL);
            for (int l = 0; l < s->teacher->dims.L; l++) {
                teacher_map(s->teacher, maps + (size_t)l * map_size(s->teacher), l);
            }
            for (size_t i = 0; i < size; i++) { sum[i] += (double)maps[i] / images; }
        }
    }
    s->mean = alloc_floats(size, "attention maps");
    for (size_t i = 0; i < size; i++) { s->mean[i] = (float)sum[i]; }
    free(maps);
    free(sum);
}
