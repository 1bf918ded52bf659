// runtime/event_file.h against a reader of its own: records with their checksums, fields of messages, values,
// histograms, pictures, names of files; runtime/metrics_jsonl.h: rows, and what is kept of them.
#include "../../runtime/event_file.h"
#include "../../runtime/metrics_jsonl.h"
#include "test_files.h"

// ---- crc32c, bit by bit, as it is defined

static uint32_t plain_crc32c(const uint8_t* bytes, size_t count) {
    uint32_t crc = 0xFFFFFFFF;
    for (size_t i = 0; i < count; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) { crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78 : 0); }
    }
    return ~crc;
}

static void test_checksum(void) {
    uint8_t bytes[64] = {0};
    CHECK(crc32c_of("123456789", 9) == 0xE3069283, "the polynomial's check value: %08x", crc32c_of("123456789", 9));
    CHECK(crc32c_of(bytes, 32) == 0x8A9136AA, "32 zeros, as RFC 3720 has it: %08x", crc32c_of(bytes, 32));
    for (size_t n = 0; n < 64; n++) {
        bytes[n] = (uint8_t)(37 * n + 11);
        CHECK(crc32c_of(bytes, n) == plain_crc32c(bytes, n), "%zu bytes", n);
    }
}

// ---- A reader: a message's fields

typedef struct { int number, type; uint64_t varint; const uint8_t* bytes; size_t count; } Field;

static uint64_t read_varint(const uint8_t** at, const uint8_t* end) {
    uint64_t value = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        value |= (uint64_t)(**at & 0x7F) << shift;
        if (!(*(*at)++ & 0x80)) { break; }
    }
    return value;
}

// False at the end
static int next_field(Field* f, const uint8_t** at, const uint8_t* end) {
    if (*at >= end) { return 0; }
    uint64_t key = read_varint(at, end);
    *f = (Field){.number = (int)(key >> 3), .type = (int)(key & 7), .bytes = *at};
    f->count = f->type == 1 ? 8 : f->type == 5 ? 4 : 0;
    if (f->type == 0) { f->varint = read_varint(at, end); return 1; }
    if (f->type == 2) { f->count = read_varint(at, end); f->bytes = *at; }
    CHECK(f->type != 3 && f->type != 4 && f->type < 6 && f->count <= (size_t)(end - *at),
          "field %d of type %d, %zu bytes", f->number, f->type, f->count);
    *at += f->count;
    return *at <= end;
}

// The n-th field of that number; number 0: there is none
static Field field_of(const uint8_t* bytes, size_t count, int number, int n) {
    Field f;
    for (const uint8_t* at = bytes; next_field(&f, &at, bytes + count);) {
        if (f.number == number && n-- == 0) { return f; }
    }
    return (Field){0};
}

static double double_of(Field f) {
    double x = NAN;
    if (f.type == 1) { memcpy(&x, f.bytes, 8); }
    return x;
}

static float float_of(Field f) {
    float x = NAN;
    if (f.type == 5) { memcpy(&x, f.bytes, 4); }
    return x;
}

static int is_text(Field f, const char* text) {
    return f.type == 2 && f.count == strlen(text) && !memcmp(f.bytes, text, f.count);
}

// ---- and a file's records

typedef struct { uint8_t* file; size_t count; const uint8_t* event[16]; size_t bytes[16]; int events; } Records;

static uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xA282EAD8; }

static Records read_records(const char* path) {
    Records r = {0};
    r.file = read_file(path, &r.count);
    for (size_t at = 0; at < r.count && r.events < 16;) {
        uint64_t length;
        uint32_t of_length, of_bytes;
        memcpy(&length, r.file + at, 8);
        memcpy(&of_length, r.file + at + 8, 4);
        if (!CHECK(at + 16 + length <= r.count, "record %d of %s is whole", r.events, path)) { break; }
        memcpy(&of_bytes, r.file + at + 12 + length, 4);
        CHECK(of_length == masked(plain_crc32c(r.file + at, 8)), "checksum of length %d", r.events);
        CHECK(of_bytes == masked(plain_crc32c(r.file + at + 12, length)), "checksum of record %d", r.events);
        r.event[r.events] = r.file + at + 12;
        r.bytes[r.events++] = length;
        at += 16 + length;
    }
    return r;
}

static Field event_field(const Records* r, int event, int number) {
    return field_of(r->event[event], r->bytes[event], number, 0);
}
static Field value_of(const Records* r, int event, int n) {
    Field summary = event_field(r, event, 5);
    return field_of(summary.bytes, summary.count, 1, n);
}
static Field part(Field message, int number) { return field_of(message.bytes, message.count, number, 0); }

// ---- Files

static EventFile open_events(int64_t step) {
    EventFile e;
    Error err = {""};
    CHECK(events_open(&e, test_folder, step, &err), "%s", err.text);
    return e;
}

static void close_events(EventFile* e) {
    Error err = {""};
    CHECK(events_close(e, &err), "%s", err.text);
}

static void test_values(void) {
    EventFile e = open_events(0);
    Error err = {""};
    double before = (double)time(NULL) - 1;
    events_scalar(&e, "train_loss", 1.25);
    events_scalar(&e, "lr", 3e-5);
    CHECK(events_write(&e, 300, &err), "%s", err.text);
    events_scalar(&e, "eval_top1", 86.67);
    CHECK(events_write(&e, 1LL << 40, &err), "%s", err.text);
    Records r = read_records(e.path); // it is open: each event is in the file
    CHECK(r.events == 3, "%d events", r.events);
    CHECK(is_text(event_field(&r, 0, 3), "brain.Event:2"), "the version comes first");
    CHECK(double_of(event_field(&r, 1, 1)) > before, "the time");
    CHECK(event_field(&r, 1, 2).varint == 300 && event_field(&r, 2, 2).varint == 1ULL << 40, "steps");
    CHECK(is_text(part(value_of(&r, 1, 0), 1), "train_loss") && float_of(part(value_of(&r, 1, 0), 2)) == 1.25f,
          "the first value");
    CHECK(is_text(part(value_of(&r, 1, 1), 1), "lr") && float_of(part(value_of(&r, 1, 1), 2)) == 3e-5f, "the second");
    CHECK(value_of(&r, 1, 2).number == 0 && value_of(&r, 2, 1).number == 0, "and no more");
    CHECK(float_of(part(value_of(&r, 2, 0), 2)) == 86.67f, "the next event has its own");
    free(r.file);
    close_events(&e);
}

static void test_histogram(void) {
    enum { COUNT = 500 };
    static float x[COUNT + 2];
    double sum = 0, squares = 0, total = 0, limits[HISTOGRAM_BINS], bins[HISTOGRAM_BINS];
    for (int i = 0; i < COUNT; i++) {
        x[i] = sinf((float)i);
        sum += x[i], squares += (double)x[i] * x[i];
    }
    x[COUNT] = NAN, x[COUNT + 1] = INFINITY;
    EventFile e = open_events(0);
    Error err = {""};
    events_histogram(&e, "karat.coef", x, COUNT + 2);
    events_histogram(&e, "of one value", (const float[]){2, 2, 2}, 3);
    events_histogram(&e, "of nothing", (const float[]){NAN}, 1);
    CHECK(events_write(&e, 7, &err), "%s", err.text);
    Records r = read_records(e.path);
    Field h = part(value_of(&r, 1, 0), 5), limit = part(h, 6), bin = part(h, 7);
    CHECK_NEAR(double_of(part(h, 1)), -1, 1e-4, "least");
    CHECK_NEAR(double_of(part(h, 2)), 1, 1e-4, "largest");
    CHECK(double_of(part(h, 3)) == COUNT, "those that are finite");
    CHECK_NEAR(double_of(part(h, 4)), sum, 1e-9, "their sum");
    CHECK_NEAR(double_of(part(h, 5)), squares, 1e-9, "of their squares");
    if (CHECK(limit.count == sizeof limits && bin.count == sizeof bins, "%zu and %zu bytes of bins", limit.count,
              bin.count)) {
        memcpy(limits, limit.bytes, sizeof limits);
        memcpy(bins, bin.bytes, sizeof bins);
        for (int k = 0; k < HISTOGRAM_BINS; k++) {
            int wanted = 0;
            for (int i = 0; i < COUNT; i++) { wanted += x[i] < limits[k] && (k == 0 || x[i] >= limits[k - 1]); }
            total += bins[k];
            CHECK(k == HISTOGRAM_BINS - 1 || fabs(bins[k] - wanted) <= 1, "bin %d has %g, not %d", k, bins[k], wanted);
        }
        CHECK(total == COUNT, "each is in one: %g", total);
        CHECK_NEAR(limits[HISTOGRAM_BINS - 1], 1, 1e-4, "the last limit");
    }
    Field one = part(value_of(&r, 1, 1), 5);
    CHECK(double_of(part(one, 3)) == 3 && part(one, 6).count == sizeof limits, "of one value");
    CHECK(value_of(&r, 1, 2).number == 0, "nothing is left out");
    free(r.file);
    close_events(&e);
}

static void test_picture(void) {
    EventFile e = open_events(0);
    Error err = {""};
    uint8_t bytes[1000];
    for (int i = 0; i < 1000; i++) { bytes[i] = (uint8_t)(i * 7); }
    events_image(&e, "first_batch", 40, 300, bytes, sizeof bytes);
    CHECK(events_write(&e, 0, &err), "%s", err.text);
    Records r = read_records(e.path);
    Field image = part(value_of(&r, 1, 0), 4);
    CHECK(part(image, 1).varint == 40 && part(image, 2).varint == 300 && part(image, 3).varint == 3, "its shape");
    CHECK(part(image, 4).count == 1000 && !memcmp(part(image, 4).bytes, bytes, 1000), "its bytes");
    free(r.file);
    close_events(&e);
}

// A run that goes on: another file behind the first in name, which says from which step on the others are void
static void test_going_on(void) {
    EventFile first = open_events(0), second = open_events(90), third = open_events(90);
    Records r = read_records(second.path);
    CHECK(strcmp(first.path, second.path) < 0 && strcmp(second.path, third.path) < 0, "%s, %s", first.path,
          second.path);
    CHECK(r.events == 2 && event_field(&r, 1, 2).varint == 91 && part(event_field(&r, 1, 7), 1).varint == 1,
          "START at 91");
    free(r.file);
    close_events(&first);
    close_events(&second);
    close_events(&third);
}

// ---- metrics.jsonl

static const Progress some_progress = {.loss = {.count = 50, .mean = 1.25}, .accuracy = 87.5, .lr = 4.3e-05, .grad_norm = 0.25,
                                       .ms_per_step = 12.5, .images_per_second = 5184, .gflops = 101, .wait_percent = 0.5};
static const Evaluation some_evaluation = {.loss = NAN, .top1 = 86.67, .top5 = 99.5};

static void expect_text(const char* path, const char* want) {
    size_t count;
    char* text = (char*)read_file(path, &count);
    CHECK(text && count == strlen(want) && memcmp(text, want, count) == 0, "%.*s where there should be %s", (int)count,
          text ? text : "", want);
    free(text);
}

#define FIRST "{\"step\":10,\"epoch\":2.5000,\"train_loss\":1.250000,\"train_loss_se\":0.000000,\"train_accuracy\":87.500," \
    "\"lr\":4.3e-05,\"grad_norm\":0.25,\"ms_per_step\":12.500,\"images_per_second\":5184.0,\"gflops\":101.0,\"wait_percent\":0.50}\n"
#define SECOND "{\"step\":20,\"epoch\":5.0000,\"test_loss\":null,\"test_loss_se\":0.000000,\"test_top1\":86.670," \
    "\"test_top1_se\":0.000,\"test_top5\":99.500,\"test_top5_se\":0.000}\n"

static void test_jsonl(void) {
    const char* path = in_folder("metrics.jsonl");
    Metrics m;
    Error err = {""};
    CHECK(metrics_jsonl_open(&m, path, 0, &err), "%s", err.text);
    CHECK(metrics_jsonl_row(&m, 10, 2.5, &some_progress, NULL, &err), "%s", err.text);
    CHECK(metrics_jsonl_row(&m, 20, 5, NULL, &some_evaluation, &err), "%s", err.text);
    expect_text(path, FIRST SECOND);
    CHECK(metrics_close(&m, &err), "%s", err.text);
    CHECK(metrics_jsonl_open(&m, path, 19, &err) && metrics_close(&m, &err), "%s", err.text);
    expect_text(path, FIRST);
    write_file(path, FIRST SECOND "{\"step\":20,\"ep", strlen(FIRST SECOND) + 14);
    CHECK(metrics_jsonl_open(&m, path, 20, &err) && metrics_close(&m, &err), "%s", err.text);
    expect_text(path, FIRST SECOND);
    write_file(path, FIRST "mine\n" SECOND, strlen(FIRST SECOND) + 5);
    CHECK(!metrics_jsonl_open(&m, path, 20, &err) && strstr(err.text, "line 2"), "%s", err.text);
    expect_text(path, FIRST "mine\n" SECOND);
}

int main(void) {
    open_test_folder();
    test_checksum();
    test_values();
    test_histogram();
    test_picture();
    test_going_on();
    test_jsonl();
    remove_test_folder();
    return tests_finish();
}
