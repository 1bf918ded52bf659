// Checkpoints: named views of flat buffers in safetensors files, the configuration as metadata.
//   last.safetensors          weights, with timm's names
//   last.ema.safetensors      their running mean, where there is one
//   best.safetensors          what the test split likes best, of the running mean where there is one
//   epoch-N.safetensors       the same after epoch N
//   last.resume.safetensors   all that a resumed run needs, in one file, so that no kill can leave halves of two steps:
//                             param.NAME, exp_avg.NAME, exp_avg_sq.NAME, ema.NAME, and the step as metadata
// Every file is written under a temporary name, synced and renamed: an old one is whole until the new one is.
#pragma once
#include "memory.h"
#include "metadata.h"
#include "safetensors.h"

typedef struct {
    char name[96];
    int rank;
    int64_t shape[4];
    size_t size, offset; // elements, and where they start in a flat buffer
} NamedTensor;

// A flat buffer whose tensors are stored under prefix + name.
typedef struct { const char* prefix; float* flat; } TensorBuffer;

// Every tensor of every buffer
static inline bool checkpoint_save(const char* path, const NamedTensor* tensors, int count,
                                   const TensorBuffer* buffers, int buffer_count, const Metadata* metadata,
                                   Error* err) {
    int total = count * buffer_count;
    SafeTensorOut* out = alloc_array(SafeTensorOut, total, "a checkpoint");
    char(*names)[128] = (char(*)[128])alloc_array(char, (size_t)total * 128, "a checkpoint");
    for (int i = 0; i < total; i++) {
        const NamedTensor* t = &tensors[i % count];
        const TensorBuffer* buffer = &buffers[i / count];
        snprintf(names[i], sizeof names[i], "%s%s", buffer->prefix, t->name);
        out[i] = (SafeTensorOut){.name = names[i], .rank = t->rank, .data = buffer->flat + t->offset};
        memcpy(out[i].shape, t->shape, sizeof t->shape);
    }
    bool ok = safetensors_save(path, out, total, (const char* const (*)[2])metadata->pairs, metadata->count, err);
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

// Every tensor must be there in its shape.
static inline bool checkpoint_load(const SafeTensors* file, const NamedTensor* tensors, int count, TensorBuffer buffer,
                                   Error* err) {
    for (int i = 0; i < count; i++) {
        char name[128], stored_shape[128], own_shape[128];
        snprintf(name, sizeof name, "%s%s", buffer.prefix, tensors[i].name);
        const SafeTensor* stored = safetensors_find(file, name);
        if (!stored) {
            return set_error(err, "the file has no tensor %s: give the --model and sizes that it was made with", name);
        }
        if (!same_shape(stored, &tensors[i])) {
            return set_error(err, "tensor %s is %s in the file and %s in the model: "
                             "give the --model and sizes that it was made with", name,
                             shape_text(stored->rank, stored->shape, stored_shape),
                             shape_text(tensors[i].rank, tensors[i].shape, own_shape));
        }
        if (!safetensors_read(file, stored, buffer.flat + tensors[i].offset, err)) { return false; }
    }
    return true;
}

static inline bool tensors_have(const NamedTensor* tensors, int count, const char* name) {
    for (int i = 0; i < count; i++) {
        if (strcmp(tensors[i].name, name) == 0) { return true; }
    }
    return false;
}

// Makes the model's tensor out of a stored one of another shape and says how in note; false where it cannot.
typedef bool (*TensorAdapter)(float* out, const NamedTensor* own, const float* values, const int64_t* shape, int rank,
                              char note[128]);

// A stored tensor of another shape: 1 adapted, 0 not, -1 read error; lists what became of it.
static inline int checkpoint_adapt(const SafeTensors* file, const SafeTensor* stored, const NamedTensor* own,
                                   TensorAdapter adapt, float* flat, Error* err) {
    char stored_shape[128], own_shape[128], note[128];
    float* values = alloc_floats((size_t)safetensors_elements(stored), "a tensor of another shape");
    bool ok = safetensors_read(file, stored, values, err);
    bool adapted = ok && adapt(flat + own->offset, own, values, stored->shape, stored->rank, note);
    free(values);
    printf("  other shape, %s: %s is %s in the file, %s here\n", adapted ? note : "starts fresh", own->name,
           shape_text(stored->rank, stored->shape, stored_shape), shape_text(own->rank, own->shape, own_shape));
    return ok ? adapted : -1;
}

// Loads what agrees by name and shape, or can be adapted, and lists the rest. False when nothing agrees, or on a read
// error.
static inline bool checkpoint_load_matching(const SafeTensors* file, const NamedTensor* tensors, int count, float* flat,
                                            TensorAdapter adapt, Error* err) {
    int loaded = 0;
    for (int i = 0; i < count; i++) {
        const SafeTensor* stored = safetensors_find(file, tensors[i].name);
        if (!stored) {
            printf("  not in the file, starts fresh: %s\n", tensors[i].name);
            continue;
        }
        if (!same_shape(stored, &tensors[i])) {
            int adapted = checkpoint_adapt(file, stored, &tensors[i], adapt, flat, err);
            if (adapted < 0) { return false; }
            loaded += adapted;
            continue;
        }
        if (!safetensors_read(file, stored, flat + tensors[i].offset, err)) { return false; }
        loaded++;
    }
    for (int i = 0; i < file->count; i++) {
        const char* name = file->tensors[i].name;
        if (!tensors_have(tensors, count, name)) { printf("  only in the file, left out: %s\n", name); }
    }
    printf("  %d of %d tensors loaded\n", loaded, count);
    return loaded > 0 || set_error(err, "no tensor of the file fits this model: "
                                        "names must be timm's, such as blocks.0.attn.qkv.weight");
}
