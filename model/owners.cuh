// owners.h on the GPU: what is sent and summed is put on the wire, concurrently with the step's stream, in an order
// that is the same on all ranks. A graph captures it with the rest of a step, including the forks and joins of wire and
// stream.
//
//     owners_bring(&s, &d, params, low, stream);   // first in a step: starts to fetch the parameters that others own
//     owners_await(&s, &d, segment, stream);       // in the forward: waits for the segment's parameters
//     owners_depart(&s, segment, stream);          // in the backward: the segment's gradients are done
//     wire_precedes(stream);                       // after it
//     owners_tell(&s, &sum, stop, sums, stream);   // exchanges squares and counts
#pragma once
#include "flat.cuh"
#include "../kernels/adamw.cuh"
#include "owners.h"

typedef struct {
    uint32_t* place;      // index of the GROUP_FLOATS of a flat buffer that this rank owns, one after the other;
    int* order;           // squares_order: both NULL if one rank owns all
    Slice* granules;      // this rank's own: floats of a flat buffer
    cudaEvent_t* arrived; // (buckets) its parameters have arrived
    int own, all;         // numbers of granules
} OwnersTables;

template <class T> static T* on_device(const T* host, size_t count) {
    T* device = device_array<T>(count, "what this rank owns");
    CUDA_CHECK(cudaMemcpy(device, host, count * sizeof(T), cudaMemcpyHostToDevice));
    return device;
}

static inline OwnersTables owners_tables(const Owners* s) {
    OwnersTables d = {.all = (int)count_granules(s)};
    uint32_t* place = alloc_array(uint32_t, s->owned / GROUP_FLOATS, "what this rank owns");
    Slice* granules = alloc_array(Slice, count_granules_at(s, ranks.place), "what this rank owns");
    int groups = 0, *order = squares_order(s);
    for (int b = 0; b < s->buckets.count; b++) {
        Slice own = s->bucket[b].own;
        for (size_t at = own.first; at < own.end; at += GROUP_FLOATS) { place[groups++] = (uint32_t)(at / GROUP_FLOATS); }
        for (size_t at = own.first; at < own.end; at += GRANULE_FLOATS) {
            granules[d.own++] = {at, at + GRANULE_FLOATS < own.end ? at + GRANULE_FLOATS : own.end};
        }
    }
    if (ranks.size > 1) {
        d.place = on_device(place, groups);
        d.order = on_device(order, d.all);
    }
    d.granules = on_device(granules, d.own);
    d.arrived = alloc_array(cudaEvent_t, s->buckets.count, "buckets");
    for (int b = 0; b < s->buckets.count; b++) {
        CUDA_CHECK(cudaEventCreateWithFlags(&d.arrived[b], cudaEventDisableTiming));
    }
    free(place);
    free(granules);
    free(order);
    return d;
}

static inline void owners_tables_free(OwnersTables* d, const Owners* s) {
    for (int b = 0; d->arrived && b < s->buckets.count; b++) { CUDA_CHECK(cudaEventDestroy(d->arrived[b])); }
    for (void* p : {(void*)d->place, (void*)d->granules, (void*)d->order}) { CUDA_CHECK(cudaFree(p)); }
    free(d->arrived);
}

// low: where products read the parameters, or NULL
static inline void owners_bring(Owners* s, OwnersTables* d, float* flat, bf16* low, cudaStream_t stream) {
    wait_on("parameters", -1);
    wire_follows(stream);
    s->flat = flat;
    for (int b = 0; b < s->buckets.count; b++) {
        size_t first = s->buckets.first[b], floats = s->buckets.first[b + 1] - first;
        gather_begin(s, b, STAGE_AMONG_NODES);
        gather_move(s, b);
        if (low) { bf16_copy(low + first, flat + first, floats, nccl.wire); }
        CUDA_CHECK(cudaEventRecord(d->arrived[b], nccl.wire));
    }
}

// A bucket arrives as a whole, and its first segment is read first.
static inline void owners_await(const Owners* s, const OwnersTables* d, int segment, cudaStream_t stream) {
    CUDA_CHECK(cudaStreamWaitEvent(stream, d->arrived[s->buckets.of_segment[segment]], 0));
}

static inline void owners_depart(Owners* s, int segment, cudaStream_t stream) {
    if (!s->closed) { return; } // not the last micro-batch
    if (ranks.size > 1) {
        wait_on("gradients", -1);
        wire_follows(stream);
        flat_stream = nccl.wire;
    }
    bucket_depart(s, segment);
    flat_stream = stream;
}

static_assert(offsetof(StepSums, hits) == offsetof(MicroSums, hits) &&
                  offsetof(StepSums, stop) == offsetof(MicroSums, stop) && offsetof(StepSums, norm) == sizeof(MicroSums),
              "StepSums begin as MicroSums");

// The counts of the last micro-batch: with one rank they stay in sums, to which others are added; otherwise they go
// where all ranks will see them.
static inline void count_micro_batch(GradientSum* s, StepSums* sums, cudaStream_t stream) {
    if (ranks.size == 1) { return; }
    CUDA_CHECK(cudaMemcpyAsync(gradient_sum_count(s), sums, sizeof(MicroSums), cudaMemcpyDeviceToDevice, stream));
    CUDA_CHECK(cudaMemsetAsync(sums, 0, sizeof(MicroSums), stream));
}

// stop: pinned, the signal received by this rank; sums: over all micro-batches of the step
static inline void owners_tell(Owners* s, GradientSum* sum, const int* stop, StepSums* sums, cudaStream_t stream) {
    Message *out = alloc_array(Message, 4 * ranks.size, "messages"), *in = out + 2 * ranks.size;
    int count = facts_messages(s, sum, out, in);
    CUDA_CHECK(cudaMemcpyAsync(&gradient_sum_count(sum)->stop, stop, sizeof *stop, cudaMemcpyHostToDevice, stream));
    wait_on("the gradient norm", -1);
    wire_follows(stream);
    wire_exchange(out, count, in, count);
    add_counts(sums, sum->counted, sum->micro_batches, nccl.wire);
    wire_precedes(stream);
    free(out);
}
