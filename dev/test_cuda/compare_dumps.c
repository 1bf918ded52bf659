// Compares two safetensors files tensor by tensor:  compare_dumps A B TOLERANCE
// The error of a tensor is its largest difference over the largest value that A has in it; inputs and targets must be
// the same. Tensors that one file alone has count as failures. Prints the worst, and every one beyond the tolerance; the
// exit status is 1 if there are any.
#include "../../runtime/memory.h"
#include "../../runtime/safetensors.h"
#include <math.h>

static SafeTensors open_or_fail(const char* path) {
    SafeTensors file;
    Error err;
    if (!safetensors_open(&file, path, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return file;
}

static float* read_or_fail(const SafeTensors* file, const SafeTensor* t) {
    Error err;
    float* values = alloc_floats((size_t)safetensors_elements(t), "a tensor");
    if (!safetensors_read(file, t, values, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return values;
}

// INFINITY where they cannot be compared
static double tensor_error(const SafeTensors* a, const SafeTensor* of_a, const SafeTensors* b) {
    const SafeTensor* of_b = safetensors_find(b, of_a->name);
    if (!of_b || safetensors_elements(of_a) != safetensors_elements(of_b)) { return INFINITY; }
    float *x = read_or_fail(a, of_a), *y = read_or_fail(b, of_b);
    double largest = 0, difference = 0;
    for (int64_t i = 0; i < safetensors_elements(of_a); i++) {
        double d = fabs((double)x[i] - y[i]);
        largest = fmax(largest, fabs((double)x[i]));
        if (!(d <= difference)) { difference = d; } // a NaN stays
    }
    free(x);
    free(y);
    return difference == 0 ? 0 : difference / largest;
}

int main(int argc, char** argv) {
    if (argc != 4) { fail(EXIT_USAGE, "compare_dumps A B TOLERANCE"); }
    SafeTensors a = open_or_fail(argv[1]), b = open_or_fail(argv[2]);
    double tolerance = atof(argv[3]), worst = 0;
    const char* worst_name = "nothing";
    int bad = a.count != b.count;
    for (int i = 0; i < a.count; i++) {
        double error = tensor_error(&a, &a.tensors[i], &b);
        bool given = strcmp(a.tensors[i].name, "input") == 0 || strcmp(a.tensors[i].name, "target") == 0;
        if (!(error <= (given ? 0 : tolerance))) {
            bad++;
            printf("%s: error %.3g\n", a.tensors[i].name, error);
        }
        if (!(error <= worst)) {
            worst = error;
            worst_name = a.tensors[i].name;
        }
    }
    printf("%d tensors, worst error %.2g, of %s; %d bad\n", a.count, worst, worst_name, bad);
    safetensors_close(&a);
    safetensors_close(&b);
    return bad > 0;
}
