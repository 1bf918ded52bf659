// Compares two files of --dump-state tensor by tensor:  compare_dumps A B TOLERANCE
// The error of a tensor is its largest difference over the largest value that A has in it; inputs and targets must be
// the same. Tensors that one file alone has count as failures. Prints every one beyond the tolerance, then the worst;
// the exit status is 1 if there are any.
//
// It reads no safetensors but the trainers' own dumps (fp32, names without escapes), so that it needs no library: a
// machine with a GPU may have nothing but a compiler.
#include "../../runtime/error.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_START = 8 }; // behind its length

typedef struct {
    const char* name; // of length `length`: it stands in the header
    int length;
    const float* values;
    size_t count;
} Tensor;

typedef struct {
    const char* path;
    const char* bytes;
    size_t size;
    char* header; // the JSON text, with a 0 behind it
    const char* next; // tensor in it
} Dump;

static Dump open_dump(const char* path) {
    Dump dump = {.path = path};
    struct stat status;
    uint64_t length = 0;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &status) != 0) { fail(EXIT_RUN_TIME, "%s: %s", path, strerror(errno)); }
    dump.size = (size_t)status.st_size;
    if (dump.size <= HEADER_START) { fail(EXIT_RUN_TIME, "%s is no dump: write it again with --dump-state", path); }
    dump.bytes = (const char*)mmap(NULL, dump.size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (dump.bytes == MAP_FAILED) { fail(EXIT_RUN_TIME, "cannot read %s: %s", path, strerror(errno)); }
    memcpy(&length, dump.bytes, sizeof length);
    if (length > dump.size - HEADER_START) { fail(EXIT_RUN_TIME, "%s is cut off: write it again", path); }
    dump.header = strndup(dump.bytes + HEADER_START, (size_t)length);
    if (!dump.header) { fail(EXIT_RUN_TIME, "no memory for the header of %s", path); }
    dump.next = dump.header;
    return dump;
}

// The next of "NAME":{"dtype":"F32","shape":[...],"data_offsets":[BEGIN,END]}; false at the end. In the metadata, which
// are strings, no quote stands without a backslash.
static bool next_tensor(Dump* dump, Tensor* t) {
    static const char dtype[] = "\":{\"dtype\":\"F32\"", offsets[] = "\"data_offsets\":[";
    const char* end = strstr(dump->next, dtype);
    if (!end) { return false; }
    unsigned long long from = 0, to = 0;
    size_t data = HEADER_START + strlen(dump->header), all = dump->size - data;
    const char* found = strstr(end, offsets);
    t->name = end;
    while (t->name > dump->header && t->name[-1] != '"') { t->name--; }
    t->length = (int)(end - t->name);
    if (!found || sscanf(found + strlen(offsets), "%llu,%llu", &from, &to) != 2 || from > to || to > all) {
        fail(EXIT_RUN_TIME, "%s: tensor %.*s does not lie in the file", dump->path, t->length, t->name);
    }
    t->values = (const float*)(dump->bytes + data + from);
    t->count = (size_t)(to - from) / sizeof(float);
    dump->next = found;
    return true;
}

static bool is(const Tensor* t, const char* name, int length) {
    return t->length == length && memcmp(t->name, name, (size_t)length) == 0;
}

static bool find_tensor(Dump dump, const Tensor* wanted, Tensor* found) {
    dump.next = dump.header;
    while (next_tensor(&dump, found)) {
        if (is(found, wanted->name, wanted->length)) { return true; }
    }
    return false;
}

// INFINITY where they cannot be compared
static double tensor_error(const Tensor* a, const Dump* in) {
    Tensor b;
    if (!find_tensor(*in, a, &b) || a->count != b.count) { return INFINITY; }
    double largest = 0, difference = 0;
    for (size_t i = 0; i < a->count; i++) {
        double d = fabs((double)a->values[i] - b.values[i]);
        largest = fmax(largest, fabs((double)a->values[i]));
        if (!(d <= difference)) { difference = d; } // a NaN stays
    }
    return difference == 0 ? 0 : difference / largest;
}

static int count_tensors(Dump dump) {
    Tensor t;
    int count = 0;
    while (next_tensor(&dump, &t)) { count++; }
    return count;
}

int main(int argc, char** argv) {
    if (argc != 4) { fail(EXIT_USAGE, "compare_dumps A B TOLERANCE"); }
    Dump a = open_dump(argv[1]), b = open_dump(argv[2]);
    double tolerance = atof(argv[3]), worst = 0;
    Tensor t, worst_tensor = {.name = "nothing", .length = 7};
    int count = count_tensors(a), bad = count != count_tensors(b) || count == 0;
    while (next_tensor(&a, &t)) {
        double error = tensor_error(&t, &b);
        bool given = is(&t, "input", 5) || is(&t, "target", 6);
        if (!(error <= (given ? 0 : tolerance))) {
            bad++;
            printf("%.*s: error %.3g\n", t.length, t.name, error);
        }
        if (!(error <= worst)) {
            worst = error;
            worst_tensor = t;
        }
    }
    printf("%d tensors, worst error %.2g, of %.*s; %d bad\n", count, worst, worst_tensor.length, worst_tensor.name,
           bad);
    return bad > 0;
}
