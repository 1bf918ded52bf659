// Shows what is in a safetensors file, or the differences between two.
//
//     ./inspect runs/first/best.safetensors
//     ./inspect runs/first/best.safetensors runs/second/best.safetensors --only 'blocks.3.*'
#define _GNU_SOURCE // FNM_EXTMATCH
#include "../../model/settings.h"
#include "../../runtime/checkpoint.h"
#include "../compare_runs/text_table.h"
#include <fnmatch.h>

typedef struct {
    char only[OPTION_TEXT_SIZE];
    int help;
} InspectOptions;

static const Option inspect_options[] = {
    {OPTION_TEXT, "only", offsetof(InspectOptions, only), "*", 0, 0, "", RESUME_FREE,
     "tensors whose names match a pattern, as of a shell: 'blocks.3.*', '@(*coef|*scale*)'"},
    {OPTION_SWITCH, "help|h", offsetof(InspectOptions, help), "off", 0, 0, "", RESUME_FREE, "print this and stop"},
};
enum { INSPECT_OPTIONS = sizeof inspect_options / sizeof inspect_options[0] };

static void print_usage(FILE* out) {
    fprintf(out, "usage: ./inspect FILE.safetensors [FILE.safetensors] [options]\n"
                 "      of one file: its tensors with shapes and norms, the configuration of its run, its metadata;\n"
                 "      of two: which tensors differ and how far, which options, which metadata\n\n"
                 "Options, each with its default:\n");
    options_help(out, inspect_options, INSPECT_OPTIONS);
}

// ---- Tensors

typedef struct { double norm, mean, deviation, least, largest; int64_t not_finite; } Statistics;

// Of the finite values; least and largest are 0 if there are none
static Statistics statistics_of(const float* x, int64_t count) {
    Statistics s = {0};
    double squares = 0, sum = 0, about_mean = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(x[i])) { continue; }
        if (n++ == 0) { s.least = s.largest = x[i]; }
        sum += x[i];
        squares += (double)x[i] * x[i];
        s.least = fmin(s.least, x[i]);
        s.largest = fmax(s.largest, x[i]);
    }
    s.not_finite = count - n;
    s.norm = sqrt(squares);
    s.mean = n ? sum / (double)n : 0;
    for (int64_t i = 0; i < count; i++) { about_mean += isfinite(x[i]) ? (x[i] - s.mean) * (x[i] - s.mean) : 0; }
    s.deviation = n ? sqrt(about_mean / (double)n) : 0;
    return s;
}

static float* values_of(const SafeTensors* file, const SafeTensor* t) {
    Error err;
    float* x = alloc_floats((size_t)safetensors_elements(t), t->name);
    if (!safetensors_read(file, t, x, &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    return x;
}

static bool is_wanted(const InspectOptions* o, const SafeTensor* t) {
    return fnmatch(o->only, t->name, FNM_EXTMATCH) == 0;
}

// A name from a file, as a cell
static const char* cell_text(const char* text, char cell[256]) {
    snprintf(cell, 256, "%s", text);
    hide_control_characters(cell);
    return cell;
}

static void tensor_row(Table* table, const SafeTensors* file, const SafeTensor* t) {
    char name[256], shape[128];
    cell_text(t->name, name);
    shape_text(t->rank, t->shape, shape);
    if (!safetensors_readable(t)) {
        table_row(table, "%s\t%s\t%s\t-\t-\t-\t-\t-\t", name, t->dtype, shape);
        return;
    }
    float* x = values_of(file, t);
    Statistics s = statistics_of(x, safetensors_elements(t));
    fprintf(table->out, "%s\t%s\t%s\t%.6g\t%.3g\t%.3g\t%.4g\t%.4g\t", name, t->dtype, shape, s.norm, s.mean,
            s.deviation, s.least, s.largest);
    if (s.not_finite) { fprintf(table->out, "%lld not finite", (long long)s.not_finite); }
    fputc('\n', table->out);
    free(x);
}

static void print_tensors(const SafeTensors* file, const InspectOptions* o) {
    Table table;
    table_begin(&table, "", "tensor\ttype\tshape\tnorm\tmean\tdeviation\tleast\tlargest\t");
    for (int i = 0; i < file->count; i++) {
        if (is_wanted(o, &file->tensors[i])) { tensor_row(&table, file, &file->tensors[i]); }
    }
    fclose(table.out);
    table_print(NULL, table.text);
    free(table.text);
}

// ---- Configuration and metadata

// The options stored in a checkpoint of ours, over the defaults; false: it is another program's
static bool config_of_file(const SafeTensors* file, Config* c) {
    Error err;
    if (!metadata_is_ours(file)) { return false; }
    bool read = options_defaults(c, config_table, CONFIG_OPTIONS, &err) &&
                metadata_read_config(file, c, config_table, CONFIG_OPTIONS, &err);
    if (!read) { fail(EXIT_RUN_TIME, "%s: %s", file->path, err.text); }
    return true;
}

// Whether a key is that of an option, which the configuration holds
static bool is_option_key(const char* key) {
    bool found = strcmp(key, METADATA_MARK) == 0;
    for (int i = 0; !found && i < CONFIG_OPTIONS; i++) {
        if (!metadata_holds(&config_table[i])) { continue; }
        char* name = metadata_key(option_name(&config_table[i]));
        found = strcmp(name, key) == 0;
        free(name);
    }
    return found;
}

// In one line, truncated if it is longer: lists, such as names of classes, have one line per entry
static const char* value_text(const char* value, char text[128]) {
    size_t used = 0;
    for (; *value && used < 120; value++) {
        if (*value == '\n' && value[1]) { text[used++] = ','; }
        text[used++] = *value == '\n' ? ' ' : *value;
    }
    snprintf(text + used, 128 - used, "%s", *value ? "..." : "");
    hide_control_characters(text);
    return text;
}

static void print_metadata(const SafeTensors* file) {
    Config c;
    bool ours = config_of_file(file, &c);
    if (ours) { settings_print(&c); }
    for (int i = 0; i < file->metadata_count; i++) {
        char key[256], value[128];
        if (ours && is_option_key(file->metadata[2 * i])) { continue; }
        printf("%-10s %s\n", cell_text(file->metadata[2 * i], key), value_text(file->metadata[2 * i + 1], value));
    }
}

static void print_file(const char* what, const SafeTensors* file) {
    int64_t values = 0;
    for (int i = 0; i < file->count; i++) { values += safetensors_elements(&file->tensors[i]); }
    printf("%-10s %s: %d tensors, %lld values, %.6g MB\n", what, file->path, file->count, (long long)values,
           1e-6 * (double)(file->data_start + file->data_bytes));
}

static void inspect(const SafeTensors* file, const InspectOptions* o) {
    print_file("file", file);
    print_metadata(file);
    print_tensors(file, o);
}

// ---- Two files

typedef struct { int same, other, only_a, only_b; } Comparison;

static bool same_shapes(const SafeTensor* a, const SafeTensor* b) {
    bool same = a->rank == b->rank;
    for (int k = 0; same && k < a->rank; k++) { same = a->shape[k] == b->shape[k]; }
    return same;
}

// For tensors of the same shape; adds a row if a value differs, by its bits as float.
static void compare_values(Comparison* c, Table* table, const SafeTensors* A, const SafeTensor* a, const SafeTensors* B,
                           const SafeTensor* b) {
    int64_t count = safetensors_elements(a);
    float *x = values_of(A, a), *y = values_of(B, b);
    double squares = 0, largest = 0;
    char name[256], shape[128];
    for (int64_t i = 0; i < count; i++) {
        double d = (double)x[i] - y[i];
        squares += d * d;
        if (!(fabs(d) <= largest)) { largest = fabs(d); }
    }
    if (memcmp(x, y, (size_t)count * sizeof(float)) == 0) { c->same++; }
    else {
        double norm_x = statistics_of(x, count).norm, norm_y = statistics_of(y, count).norm;
        c->other++;
        table_row(table, "%s\t%s\t%.6g\t%.6g\t%.3g\t%.3g", cell_text(a->name, name),
                  shape_text(a->rank, a->shape, shape), norm_x, norm_y, norm_x > 0 ? sqrt(squares) / norm_x : NAN,
                  largest);
    }
    free(x);
    free(y);
}

static uint8_t* bytes_of(const SafeTensors* file, const SafeTensor* t) {
    Error err;
    uint8_t* bytes = (uint8_t*)alloc_bytes(t->end - t->begin, t->name);
    if (!safetensors_read_bytes(file, file->data_start + t->begin, bytes, t->end - t->begin, &err)) {
        fail(EXIT_RUN_TIME, "%s", err.text);
    }
    return bytes;
}

// For a type that is not read as numbers
static bool same_bytes(const SafeTensors* A, const SafeTensor* a, const SafeTensors* B, const SafeTensor* b) {
    if (strcmp(a->dtype, b->dtype) != 0 || a->end - a->begin != b->end - b->begin) { return false; }
    uint8_t *x = bytes_of(A, a), *y = bytes_of(B, b);
    bool same = memcmp(x, y, a->end - a->begin) == 0;
    free(x);
    free(y);
    return same;
}

static void compare_tensor(Comparison* c, Table* table, const SafeTensors* A, const SafeTensor* a,
                           const SafeTensors* B) {
    const SafeTensor* b = safetensors_find(B, a->name);
    char name[256], shape[2][128];
    bool readable = b && safetensors_readable(a) && safetensors_readable(b);
    if (!b) {
        c->only_a++;
        table_row(table, "%s\t%s\tonly in the first\t\t\t", cell_text(a->name, name),
                  shape_text(a->rank, a->shape, shape[0]));
    } else if (same_shapes(a, b) && readable) {
        compare_values(c, table, A, a, B, b);
    } else if (same_shapes(a, b) && same_bytes(A, a, B, b)) {
        c->same++;
    } else {
        c->other++;
        table_row(table, "%s\t%s\tin the second %s %s\t\t\t", cell_text(a->name, name),
                  shape_text(a->rank, a->shape, shape[0]), b->dtype, shape_text(b->rank, b->shape, shape[1]));
    }
}

static void compare_tensors(const SafeTensors* A, const SafeTensors* B, const InspectOptions* o) {
    Comparison c = {0};
    Table table;
    table_begin(&table, "", "tensor\tshape\tnorm\tof the second\tdifference\tlargest");
    for (int i = 0; i < A->count; i++) {
        if (is_wanted(o, &A->tensors[i])) { compare_tensor(&c, &table, A, &A->tensors[i], B); }
    }
    for (int i = 0; i < B->count; i++) {
        const SafeTensor* b = &B->tensors[i];
        char name[256], shape[128];
        if (!is_wanted(o, b) || safetensors_find(A, b->name)) { continue; }
        c.only_b++;
        table_row(&table, "%s\t%s\tonly in the second\t\t\t", cell_text(b->name, name),
                  shape_text(b->rank, b->shape, shape));
    }
    fclose(table.out);
    if (c.other + c.only_a + c.only_b) { table_print(NULL, table.text); }
    free(table.text);
    printf("tensors    %d with the same values, %d with others (difference: its norm over the first's), %d in the first "
           "alone, %d in the second\n", c.same, c.other, c.only_a, c.only_b);
}

static void compare_metadata(const SafeTensors* A, const SafeTensors* B) {
    Config a, b;
    Error err;
    bool both_ours = config_of_file(A, &a) && config_of_file(B, &b);
    bool same = !both_ours || options_same(&a, &b, config_table, CONFIG_OPTIONS, RESUME_ALL, &err);
    if (!same) { printf("options    %s\n", err.text); }
    for (int i = 0; i < A->metadata_count; i++) {
        const char *key = A->metadata[2 * i], *value = A->metadata[2 * i + 1], *other = safetensors_metadata(B, key);
        char name[256], text[2][128];
        if ((both_ours && is_option_key(key)) || (other && strcmp(value, other) == 0)) { continue; }
        printf("%-10s %s | %s\n", cell_text(key, name), value_text(value, text[0]),
               other ? value_text(other, text[1]) : "-");
    }
    for (int i = 0; i < B->metadata_count; i++) {
        const char *key = B->metadata[2 * i], *value = B->metadata[2 * i + 1];
        char name[256], text[128];
        if ((both_ours && is_option_key(key)) || safetensors_metadata(A, key)) { continue; }
        printf("%-10s - | %s\n", cell_text(key, name), value_text(value, text));
    }
}

static void compare(const SafeTensors* A, const SafeTensors* B, const InspectOptions* o) {
    print_file("first", A);
    print_file("second", B);
    compare_metadata(A, B);
    compare_tensors(A, B, o);
}

int main(int argc, char** argv) {
    InspectOptions options;
    SafeTensors files[2];
    Error err;
    int count;
    output_guard();
    bool read = options_and_words(&options, inspect_options, INSPECT_OPTIONS, argc, argv, &count, NULL, &err);
    if (!read) { fail(EXIT_USAGE, "%s: ./inspect --help tells all", err.text); }
    if (options.help) {
        print_usage(stdout);
        return 0;
    }
    if (count < 1 || count > 2) {
        fail(EXIT_USAGE, "expected one safetensors file, or two: ./inspect --help tells all");
    }
    for (int i = 0; i < count; i++) {
        if (!safetensors_open(&files[i], argv[i], &err)) { fail(EXIT_RUN_TIME, "%s", err.text); }
    }
    if (count == 1) { inspect(&files[0], &options); } else { compare(&files[0], &files[1], &options); }
    for (int i = 0; i < count; i++) { safetensors_close(&files[i]); }
    return 0;
}
