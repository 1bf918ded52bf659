// TensorBoard's event files, written without its libraries.
//
// A file is records (TFRecord): 8 bytes length n, 4 bytes masked crc32c of these, n bytes, 4 bytes masked crc32c of
// those; little endian; masked(c) = (c >> 15 | c << 17) + 0xa282ead8. Each record is one message Event of protocol
// buffers: fields, a key (number << 3 | type; varint) and a value each; type 0: varint, 1: 8 bytes, 5: 4 bytes, 2: a
// length (varint), and bytes or a message.
//
//     Event           1 wall_time double, 2 step int64, 3 file_version string, 5 summary Summary,
//                     7 session_log SessionLog
//     Summary         1 value Value, repeated
//     Value           1 tag string, and one of 2 simple_value float, 4 image Image, 5 histo HistogramProto
//     Image           1 height, 2 width, 3 colorspace (3: RGB), 4 encoded_image_string bytes
//     HistogramProto  1 min, 2 max, 3 num, 4 sum, 5 sum_squares; 6 bucket_limit, 7 bucket: packed; all double
//     SessionLog      1 status (1: START): another file's events from this step on are void
#pragma once
#include "crc32.h"
#include "files.h"
#include "memory.h"
#include <math.h>
#include <time.h>

// ---- Records

static inline uint32_t masked_crc32c(const void* bytes, size_t count) {
    uint32_t crc = crc32c_of(bytes, count);
    return (crc >> 15 | crc << 17) + 0xA282EAD8u;
}

static inline void put_record(FILE* out, const void* bytes, size_t count) {
    uint64_t length = count;
    uint32_t of_length = masked_crc32c(&length, sizeof length), of_bytes = masked_crc32c(bytes, count);
    fwrite(&length, sizeof length, 1, out);
    fwrite(&of_length, sizeof of_length, 1, out);
    fwrite(bytes, 1, count, out);
    fwrite(&of_bytes, sizeof of_bytes, 1, out);
}

// ---- Messages

typedef struct { uint8_t* bytes; size_t count, room; } ProtoMessage;

static inline void message_free(ProtoMessage* m) {
    free(m->bytes);
    *m = (ProtoMessage){0};
}

static inline void message_add(ProtoMessage* m, const void* bytes, size_t count) {
    if (m->count + count > m->room) {
        size_t room = 2 * (m->count + count) + 256;
        uint8_t* grown = (uint8_t*)alloc_bytes(room, "an event");
        if (m->count) { memcpy(grown, m->bytes, m->count); }
        free(m->bytes);
        m->bytes = grown;
        m->room = room;
    }
    if (count) { memcpy(m->bytes + m->count, bytes, count); }
    m->count += count;
}

static inline void message_varint(ProtoMessage* m, uint64_t value) {
    uint8_t bytes[10];
    size_t count = 0;
    do {
        bytes[count++] = (uint8_t)((value & 0x7F) | (value > 0x7F ? 0x80 : 0));
        value >>= 7;
    } while (value);
    message_add(m, bytes, count);
}

enum { WIRE_VARINT = 0, WIRE_DOUBLE = 1, WIRE_BYTES = 2, WIRE_FLOAT = 5 };
static inline void message_key(ProtoMessage* m, int field, int type) {
    message_varint(m, (uint64_t)field << 3 | (uint64_t)type);
}

static inline void message_int(ProtoMessage* m, int field, int64_t value) {
    message_key(m, field, WIRE_VARINT);
    message_varint(m, (uint64_t)value);
}

static inline void message_double(ProtoMessage* m, int field, double value) {
    message_key(m, field, WIRE_DOUBLE);
    message_add(m, &value, sizeof value);
}

static inline void message_float(ProtoMessage* m, int field, float value) {
    message_key(m, field, WIRE_FLOAT);
    message_add(m, &value, sizeof value);
}

static inline void message_bytes(ProtoMessage* m, int field, const void* bytes, size_t count) {
    message_key(m, field, WIRE_BYTES);
    message_varint(m, count);
    message_add(m, bytes, count);
}

static inline void message_text(ProtoMessage* m, int field, const char* text) {
    message_bytes(m, field, text, strlen(text));
}

// Frees what was made for this field.
static inline void message_inner(ProtoMessage* m, int field, ProtoMessage* inner) {
    message_bytes(m, field, inner->bytes, inner->count);
    message_free(inner);
}

// ---- Events

#define EVENT_FILES "events.out.tfevents." // the prefix of their names

typedef struct {
    FILE* file;      // NULL: none is written
    char path[PATH_MAX];
    ProtoMessage summary; // of the next event
} EventFile;

// Writes one record, at once, so that a running TensorBoard sees it.
static inline bool event_write(EventFile* e, int64_t step, int field, const ProtoMessage* content, Error* err) {
    struct timespec now;
    ProtoMessage event = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    message_double(&event, 1, (double)now.tv_sec + 1e-9 * (double)now.tv_nsec);
    message_int(&event, 2, step);
    message_bytes(&event, field, content->bytes, content->count);
    put_record(e->file, event.bytes, event.count);
    message_free(&event);
    return (fflush(e->file) == 0 && !ferror(e->file)) ||
           set_error(err, "cannot write %s: %s; %s", e->path, strerror(errno), write_advice(errno));
}

// A name that sorts after those of the folder's other event files
static inline void event_file_name(EventFile* e, const char* folder) {
    char host[64] = "", pattern[64], found[256];
    long long second = (long long)time(NULL);
    gethostname(host, sizeof host - 1);
    do {
        snprintf(pattern, sizeof pattern, EVENT_FILES "%010lld.*", second++);
    } while (find_entry(folder, pattern, found));
    pattern[strlen(pattern) - 1] = 0; // the *
    snprintf(e->path, sizeof e->path, "%s/%s%s", folder, pattern, host);
}

// Opens a new file in the folder, for a run that has done so many steps: others' events of later steps become void.
static inline bool events_open(EventFile* e, const char* folder, int64_t step, Error* err) {
    ProtoMessage version = {0}, start = {0};
    *e = (EventFile){0};
    event_file_name(e, folder);
    e->file = fopen(e->path, "wbx");
    if (!e->file) { return set_error(err, "cannot write %s: %s; %s", e->path, strerror(errno), write_advice(errno)); }
    message_add(&version, "brain.Event:2", 13);
    message_int(&start, 1, 1);
    bool ok = event_write(e, 0, 3, &version, err) && (step == 0 || event_write(e, step + 1, 7, &start, err));
    message_free(&version);
    message_free(&start);
    return ok;
}

static inline bool events_close(EventFile* e, Error* err) {
    message_free(&e->summary);
    bool ok = !ferror(e->file);
    return (fclose(e->file) == 0 && ok) ||
           set_error(err, "cannot write %s: %s; %s", e->path, strerror(errno), write_advice(errno));
}

// Adds a value to the next event.
static inline void events_scalar(EventFile* e, const char* tag, double x) {
    ProtoMessage value = {0};
    message_text(&value, 1, tag);
    message_float(&value, 2, (float)x);
    message_inner(&e->summary, 1, &value);
}

enum { HISTOGRAM_BINS = 30 };

// Bins of equal width from the smallest value to the largest; values that are not finite are left out.
static inline void events_histogram(EventFile* e, const char* tag, const float* x, size_t count) {
    double least = INFINITY, most = -INFINITY, sum = 0, squares = 0, n = 0;
    double limits[HISTOGRAM_BINS], bins[HISTOGRAM_BINS] = {0};
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) { continue; }
        least = fmin(least, x[i]), most = fmax(most, x[i]);
        sum += x[i], squares += (double)x[i] * x[i], n++;
    }
    if (n == 0) { return; }
    double width = most > least ? (most - least) / (int)HISTOGRAM_BINS : fmax(1e-12, 1e-6 * fabs(most));
    for (int k = 0; k < HISTOGRAM_BINS; k++) { limits[k] = least + (k + 1) * width; }
    for (size_t i = 0; i < count; i++) {
        int bin = isfinite(x[i]) ? (int)((x[i] - least) / width) : -1;
        if (bin >= 0) { bins[bin < HISTOGRAM_BINS ? bin : HISTOGRAM_BINS - 1]++; }
    }
    const double numbers[] = {least, most, n, sum, squares};
    ProtoMessage value = {0}, histogram = {0};
    for (int k = 0; k < 5; k++) { message_double(&histogram, k + 1, numbers[k]); }
    message_bytes(&histogram, 6, limits, sizeof limits);
    message_bytes(&histogram, 7, bins, sizeof bins);
    message_text(&value, 1, tag);
    message_inner(&value, 5, &histogram);
    message_inner(&e->summary, 1, &value);
}

// bytes: an image file, such as PNG
static inline void events_image(EventFile* e, const char* tag, int height, int width, const void* bytes, size_t count) {
    ProtoMessage value = {0}, image = {0};
    message_int(&image, 1, height);
    message_int(&image, 2, width);
    message_int(&image, 3, 3);
    message_bytes(&image, 4, bytes, count);
    message_text(&value, 1, tag);
    message_inner(&value, 4, &image);
    message_inner(&e->summary, 1, &value);
}

// Writes the event of all values since the last one.
static inline bool events_write(EventFile* e, int64_t step, Error* err) {
    bool ok = event_write(e, step, 5, &e->summary, err);
    e->summary.count = 0;
    return ok;
}
