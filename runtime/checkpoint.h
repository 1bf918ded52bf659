// Checkpoints: named views of flat buffers in safetensors files, the configuration as metadata.
//   last.safetensors          weights, with timm's names
//   last.ema.safetensors      their running mean, if there is one
//   best.safetensors          the best on the test split, of the running mean if there is one
//   best/                     these under a second name, with what timm needs to open them (trainer/timm_folder.h)
//   epoch-N.safetensors       the same after epoch N
//   last.resume.safetensors   all that a resumed run needs, in one file, so that no kill can leave parts of two steps:
//                             param.NAME, exp_avg.NAME, exp_avg_sq.NAME, ema.NAME, and the step as metadata
// Every file is written under a temporary name, synced and renamed: the old one stays until the new one is complete.
#pragma once
#include "memory.h"
#include "metadata.h"
#include "safetensors.h"

enum { NAME_SIZE = 96 };

typedef struct {
    char name[NAME_SIZE];
    int rank;
    int64_t shape[4];
    size_t size, offset; // elements, and where they start in a flat buffer
} NamedTensor;

// A flat buffer whose tensors are stored under prefix + name.
typedef struct { const char* prefix; float* flat; } TensorBuffer;

// Brings a flat buffer to where this process can read it, when its turn comes; the next one may overwrite it. fetch
// NULL: they are there already.
typedef struct { float* (*fetch)(void* owner, float* flat); void* owner; } FlatReader;

typedef struct {
    const NamedTensor* tensors;
    int count;
    const TensorBuffer* buffers;
    FlatReader reader;
    const float* flat; // of the buffer whose turn it is
} CheckpointSource;

static inline const float* checkpoint_tensor(void* context, int i) {
    CheckpointSource* source = (CheckpointSource*)context;
    float* flat = source->buffers[i / source->count].flat;
    const FlatReader* reader = &source->reader;
    if (i % source->count == 0) { source->flat = reader->fetch ? reader->fetch(reader->owner, flat) : flat; }
    return source->flat + source->tensors[i % source->count].offset;
}

// Saves every tensor of every buffer.
static inline bool checkpoint_save(const char* path, const NamedTensor* tensors, int count,
                                   const TensorBuffer* buffers, int buffer_count, FlatReader reader,
                                   const Metadata* metadata, Error* err) {
    int total = count * buffer_count;
    SafeTensorOut* out = alloc_array(SafeTensorOut, total, "a checkpoint");
    char(*names)[128] = (char(*)[128])alloc_array(char, (size_t)total * 128, "a checkpoint");
    for (int i = 0; i < total; i++) {
        const NamedTensor* t = &tensors[i % count];
        snprintf(names[i], sizeof names[i], "%s%s", buffers[i / count].prefix, t->name);
        out[i] = (SafeTensorOut){.name = names[i], .rank = t->rank};
        memcpy(out[i].shape, t->shape, sizeof t->shape);
    }
    CheckpointSource source = {tensors, count, buffers, reader, NULL};
    bool ok = safetensors_save_from((TensorSource){checkpoint_tensor, &source}, path, out, total,
                                    (const char* const (*)[2])metadata->pairs, metadata->count, err);
    free(names);
    free(out);
    return ok;
}

static inline bool same_shape(const SafeTensor* stored, const NamedTensor* t) {
    bool same = stored->rank == t->rank;
    for (int k = 0; same && k < t->rank; k++) { same = stored->shape[k] == t->shape[k]; }
    return same;
}

static inline const char* shape_text(int rank, const int64_t* shape, char text[128]) {
    int used = snprintf(text, 128, "(");
    for (int k = 0; k < rank && used < 100; k++) {
        used += snprintf(text + used, 128 - (size_t)used, "%s%lld", k ? "," : "", (long long)shape[k]);
    }
    snprintf(text + used, 128 - (size_t)used, ")");
    return text;
}

// Loads one tensor, which must exist with its shape.
static inline bool checkpoint_load_tensor(const SafeTensors* file, const NamedTensor* own, TensorBuffer buffer,
                                          Error* err) {
    char name[192], stored_shape[128], own_shape[128];
    snprintf(name, sizeof name, "%s%s", buffer.prefix, own->name);
    const SafeTensor* stored = safetensors_find(file, name);
    if (!stored) {
        return set_error(err, "the file has no tensor %s: give the --model and sizes that it was made with", name);
    }
    if (!same_shape(stored, own)) {
        return set_error(err, "tensor %s is %s in the file and %s in the model: give the --model and sizes that it was "
                         "made with", name, shape_text(stored->rank, stored->shape, stored_shape),
                         shape_text(own->rank, own->shape, own_shape));
    }
    return safetensors_read(file, stored, buffer.flat + own->offset, err);
}

static inline bool checkpoint_load(const SafeTensors* file, const NamedTensor* tensors, int count, TensorBuffer buffer,
                                   Error* err) {
    for (int i = 0; i < count; i++) {
        if (!checkpoint_load_tensor(file, &tensors[i], buffer, err)) { return false; }
    }
    return true;
}
