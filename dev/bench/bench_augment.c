// Milliseconds of a core for each operation of RandAugment, and for whole policies as they are drawn, on S x S (224)
// images. Medians over the rounds, in each of which everything is timed once.
//
//     ./bench_augment [rounds] [S]
#include "../../data/apply_operation.h"
#include "../../data/rand_augment.h"
#include "../../runtime/memory.h"
#include "median.h"
#include <time.h>

enum { IMAGES = 64 };

typedef struct {
    int S;
    uint8_t *original, *pixels; // (IMAGES, 3, S, S)
    void* scratch;
} Bench;

static const uint8_t fill[3] = {124, 116, 104};

// Smooth with noise, like a photograph for a histogram
static void make_originals(Bench* b) {
    for (int i = 0; i < IMAGES * 3 * b->S * b->S; i++) {
        int x = i % b->S, y = i / b->S % b->S, noise = (int)(random_bits(1, STREAM_CHECK, 0, (uint64_t)i).word[0] % 8);
        b->original[i] = (uint8_t)(20 + (x * (i / b->S / b->S % 7 + 4) + y * 6) * 20 / b->S + noise);
    }
}

static double core_seconds(void) { // of this thread only, whatever else runs on the machine
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

// Milliseconds per image for the operations in lists (IMAGES)
static double time_lists(Bench* b, const OperationList* lists) {
    size_t bytes = (size_t)3 * b->S * b->S;
    memcpy(b->pixels, b->original, IMAGES * bytes);
    double start = core_seconds();
    for (int i = 0; i < IMAGES; i++) {
        apply_operations((RgbImage){b->pixels + i * bytes, b->S, b->S}, &lists[i], fill, b->scratch);
    }
    return 1e3 * (core_seconds() - start) / IMAGES;
}

enum { ROWS = 2 * IMAGE_OPERATION_KINDS + 4, NAME = 40 };

typedef struct {
    char name[NAME];
    OperationList lists[IMAGES];
    double ms[MEDIAN_VALUES];
} Row;

static void add_operation_row(Row* row, ImageOperationKind kind, AffineFilter filter, const char* name) {
    const char* filter_name = filter == AFFINE_BICUBIC ? ", bicubic" : ", bilinear";
    snprintf(row->name, NAME, "%s%s", name, is_geometric(kind) ? filter_name : "");
    for (int i = 0; i < IMAGES; i++) {
        double argument = kind == OPERATION_HUE ? 0.1 : operation_argument(kind, false, 8.3 + 0.02 * i, i % 2);
        row->lists[i] = (OperationList){1, {{kind, filter, argument}}};
    }
}

static void add_policy_row(Row* row, const char* policy) {
    RandAugment r;
    Error err;
    if (!rand_augment_parse(&r, policy, &err)) { fail(EXIT_USAGE, "%s", err.text); }
    snprintf(row->name, NAME, "%s", policy);
    for (int i = 0; i < IMAGES; i++) {
        row->lists[i].count = 0;
        draw_rand_augment(&row->lists[i], &r, (ImageKey){1, (uint64_t)i, 0}, GEOMETRY_RANDOM);
    }
}

static int make_rows(Row* rows) {
    static const char* const names[] = {IMAGE_OPERATIONS(CHOICE_NAME)};
    int count = 0;
    for (int k = 0; k < IMAGE_OPERATION_KINDS; k++) {
        ImageOperationKind kind = (ImageOperationKind)k;
        add_operation_row(&rows[count++], kind, AFFINE_BILINEAR, names[k]);
        if (is_geometric(kind)) { add_operation_row(&rows[count++], kind, AFFINE_BICUBIC, names[k]); }
    }
    add_policy_row(&rows[count++], "rand-m9-mstd0.5");
    add_policy_row(&rows[count++], "rand-m9-mstd0.5-inc1");
    add_policy_row(&rows[count++], "rand-m15-n2-mstd1.0-inc1");
    return count;
}

// The mean of the fifteen, with either filter equally often, times the average number of operations per image, one
static double expected_ms(const Row* rows, int rounds) {
    double sum = 0;
    for (int k = 0, row = 0; k < RAND_OPERATION_KINDS; k++) {
        bool two = strstr(rows[row].name, "bilinear") != NULL;
        sum += (median(rows[row].ms, rounds) + median(rows[row + two].ms, rounds)) / 2;
        row += 1 + two;
    }
    return sum / RAND_OPERATION_KINDS;
}

int main(int argc, char** argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 15, S = argc > 2 ? atoi(argv[2]) : 224;
    if (rounds < 1 || rounds > MEDIAN_VALUES || S < 1 || S > 4096) {
        fail(EXIT_USAGE, "give a number of rounds from 1 to %d, and a side from 1 to 4096", MEDIAN_VALUES);
    }
    size_t bytes = (size_t)IMAGES * 3 * S * S;
    Bench b = {S, alloc_array(uint8_t, bytes, "images"), alloc_array(uint8_t, bytes, "images"),
               alloc_bytes(operation_scratch(S, S), "scratch")};
    Row* rows = alloc_array(Row, ROWS, "rows");
    int count = make_rows(rows);
    make_originals(&b);
    for (int r = 0; r < rounds; r++) {
        for (int i = 0; i < count; i++) { rows[i].ms[r] = time_lists(&b, rows[i].lists); }
    }
    printf("ms an image of %dx%d, one core, medians of %d\n", S, S, rounds);
    for (int i = 0; i < count; i++) { printf("%-28s %8.4f\n", rows[i].name, median(rows[i].ms, rounds)); }
    printf("%-28s %8.4f\n", "mean of the fifteen", expected_ms(rows, rounds));
    free(rows); free(b.original); free(b.pixels); free(b.scratch);
    return 0;
}
