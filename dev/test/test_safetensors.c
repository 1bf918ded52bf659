// safetensors.h: what is written reads back to the bit, known 16-bit and 64-bit values convert exactly, a failed save
// leaves the old file, and no header, hand-made or mutated, is believed against the file it stands in.
#include "../../runtime/safetensors.h"
#include "../../runtime/random.h"
#include "test.h"
#include <signal.h>
#include <sys/resource.h>

static char folder[256], path[300], temporary[310]; // the test's own folder, one file in it, and that file's PATH.tmp

static size_t read_file(void* bytes, size_t room) {
    FILE* f = fopen(path, "rb");
    size_t n = f ? fread(bytes, 1, room, f) : 0;
    if (f) { fclose(f); }
    return n;
}

static const float sample_data[15] = {1, -2.5f, 3e-41f, -0.0f, INFINITY, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
static const SafeTensorOut sample[] = {
    {"blocks.0.weight", 3, {1, 3, 5}, sample_data},
    {"scalar", 0, {0}, sample_data + 1},
    {"empty", 2, {0, 7}, NULL},
    {"quote \" backslash \\ newline \n accent é 漢字 \U0001F600", 1, {2}, sample_data + 2},
    {"", 4, {1, 1, 1, 1}, sample_data + 4},
};
enum { SAMPLE_COUNT = sizeof sample / sizeof sample[0], SAMPLE_METADATA = 2 };
static const char* const sample_metadata[SAMPLE_METADATA][2] = {{"heads", "3"}, {"path \"é\"\t", "a\\b\x01\x7f"}};

static void save_sample(void) {
    Error err = {""};
    CHECK(safetensors_save(path, sample, SAMPLE_COUNT, sample_metadata, SAMPLE_METADATA, &err), "saving: %s", err.text);
}

static void test_saved_bytes(void) {
    unsigned char first[4096], second[4096];
    save_sample();
    size_t first_bytes = read_file(first, sizeof first);
    save_sample();
    size_t second_bytes = read_file(second, sizeof second);
    CHECK(first_bytes == second_bytes && memcmp(first, second, first_bytes) == 0, "saving twice gives equal bytes");
    CHECK(first[0] % 8 == 0, "the header ends on a multiple of 8, its length is %d", first[0]);
    CHECK(access(temporary, F_OK) != 0, "no temporary file stays");

    Error err = {""};
    const char* want = "\x38\0\0\0\0\0\0\0"
                       "{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  "
                       "\0\0\x80\x3f";
    const SafeTensorOut one = {"t", 1, {1}, sample_data};
    CHECK(safetensors_save(path, &one, 1, NULL, 0, &err), "saving one tensor: %s", err.text);
    size_t bytes = read_file(first, sizeof first);
    CHECK(bytes == 8 + 56 + 4 && memcmp(first, want, bytes) == 0, "one tensor, byte by byte: %s", first + 8);
}

static void test_failed_saves(void) {
    static const float large[30000];
    const SafeTensorOut too_large = {"t", 1, {30000}, large};
    unsigned char before[4096], after[4096];
    Error err = {""};
    save_sample();
    size_t bytes = read_file(before, sizeof before);

    struct rlimit unlimited, limit;
    getrlimit(RLIMIT_FSIZE, &unlimited);
    limit = unlimited;
    limit.rlim_cur = 8192; // the kernel's way to make a write fail half-way, as a full disk does
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    bool saved = safetensors_save(path, &too_large, 1, NULL, 0, &err);
    setrlimit(RLIMIT_FSIZE, &unlimited);
    CHECK(!saved && strstr(err.text, "free some space"), "a full disk is reported: %s", err.text);
    size_t bytes_after = read_file(after, sizeof after);
    CHECK(bytes_after == bytes && memcmp(before, after, bytes) == 0, "a full disk leaves the old file");
    CHECK(access(temporary, F_OK) != 0, "a full disk leaves no temporary file");

    char elsewhere[400];
    snprintf(elsewhere, sizeof elsewhere, "%s/absent/x.safetensors", folder);
    saved = safetensors_save(elsewhere, sample, SAMPLE_COUNT, NULL, 0, &err);
    CHECK(!saved && strstr(err.text, "make its folder"), "a missing folder is reported: %s", err.text);
    snprintf(elsewhere, sizeof elsewhere, "%s/folder", folder);
    mkdir(elsewhere, 0777);
    CHECK(!safetensors_save(elsewhere, sample, SAMPLE_COUNT, NULL, 0, &err), "a folder cannot be replaced");
    CHECK(rmdir(elsewhere) == 0, "the folder is still there, and empty");
    snprintf(elsewhere, sizeof elsewhere, "%s/folder.tmp", folder);
    CHECK(access(elsewhere, F_OK) != 0, "a failed rename leaves no temporary file");
}

#ifdef HAVE_CJSON
static void write_file(const void* bytes, size_t n) {
    FILE* f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f) != 0) { fail(EXIT_RUN_TIME, "cannot write %s", path); }
}

// A file with that header and data_bytes of data (zeros where data is NULL).
static void write_safetensors(const char* header, size_t length, const void* data, size_t data_bytes) {
    size_t size = 8 + length + data_bytes;
    unsigned char* bytes = alloc_bytes(size, "a test file");
    for (int i = 0; i < 8; i++) { bytes[i] = (unsigned char)(length >> (8 * i)); }
    memcpy(bytes + 8, header, length);
    if (data) { memcpy(bytes + 8 + length, data, data_bytes); }
    write_file(bytes, size);
    free(bytes);
}

static void test_round_trip(void) {
    SafeTensors file;
    Error err = {""};
    save_sample();
    if (!CHECK(safetensors_open(&file, path, &err), "opening: %s", err.text)) { return; }
    CHECK(file.count == SAMPLE_COUNT && file.metadata_count == SAMPLE_METADATA, "%d tensors", file.count);
    for (int i = 0; i < SAMPLE_COUNT; i++) {
        const SafeTensor* t = safetensors_find(&file, sample[i].name);
        if (!CHECK(t != NULL, "tensor %s is there", sample[i].name)) { continue; }
        bool same_shape = t->rank == sample[i].rank && memcmp(t->shape, sample[i].shape, sizeof t->shape) == 0;
        CHECK(same_shape, "shape of %s", t->name);
        size_t n = (size_t)safetensors_elements(t);
        float* got = alloc_floats(n, "a tensor");
        CHECK(safetensors_read(&file, t, got, &err), "reading %s: %s", t->name, err.text);
        CHECK(n == 0 || memcmp(got, sample[i].data, n * sizeof(float)) == 0, "elements of %s", t->name);
        free(got);
    }
    for (int i = 0; i < SAMPLE_METADATA; i++) {
        const char* value = safetensors_metadata(&file, sample_metadata[i][0]);
        CHECK(value && strcmp(value, sample_metadata[i][1]) == 0, "metadata %s", sample_metadata[i][0]);
    }
    CHECK(!safetensors_find(&file, "HEADS") && !safetensors_metadata(&file, "Heads"), "absent names are not found");
    safetensors_close(&file);

    const char* const not_utf8[][2] = {{"data", "caf\xe9/x"}};
    CHECK(safetensors_save(path, NULL, 0, not_utf8, 1, &err), "saving without tensors: %s", err.text);
    if (!CHECK(safetensors_open(&file, path, &err), "a Latin-1 value spoils no file: %s", err.text)) { return; }
    CHECK(strcmp(safetensors_metadata(&file, "data"), "caf\uFFFD/x") == 0, "a Latin-1 byte becomes U+FFFD");
    safetensors_close(&file);
}

static void test_foreign_types(void) {
    enum { HALVES = 11, BRAINS = 7, DOUBLES = 6, LONG = 40000 };
    static const struct { uint16_t bits; double value; } halves[HALVES] = {
        {0x3C00, 1}, {0xC000, -2}, {0x3555, 0.333251953125}, {0x7BFF, 65504}, {0x0400, 0x1p-14}, {0x0001, 0x1p-24},
        {0x83FF, -1023 * 0x1p-24}, {0x8000, -0.0}, {0x7C00, INFINITY}, {0xFC00, -INFINITY}, {0x7E01, NAN},
    }, brains[BRAINS] = {
        {0x3F80, 1}, {0xC049, -3.140625}, {0x7F7F, 0x1.FEp127}, {0x0001, 0x1p-133}, {0x8000, -0.0},
        {0xFF80, -INFINITY}, {0x7FC0, NAN},
    };
    static const double doubles[DOUBLES] = {-2.5, 0.1, 1e300, 0x1.8p-149, 5e-324, NAN};
    static const double doubles_as_float[DOUBLES] = {-2.5, 0x1.99999ap-4, INFINITY, 0x1p-148, 0, NAN};
    static struct __attribute__((packed)) {
        double f64[DOUBLES];
        uint16_t f16[HALVES], bf16[BRAINS], many[LONG];
        int64_t i64;
    } data;
    memcpy(data.f64, doubles, sizeof doubles);
    for (int i = 0; i < HALVES; i++) { data.f16[i] = halves[i].bits; }
    for (int i = 0; i < BRAINS; i++) { data.bf16[i] = brains[i].bits; }
    for (int i = 0; i < LONG; i++) { data.many[i] = (uint16_t)(i % 2032 << 4); }
    const char* header =
        "{\"f64\":{\"dtype\":\"F64\",\"shape\":[2,3],\"data_offsets\":[0,48]},"
        "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[7],\"data_offsets\":[70,84]},"
        "\"f16\":{\"dtype\":\"F16\",\"shape\":[11],\"data_offsets\":[48,70]},"
        "\"i64\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[80084,80092]},"
        "\"many\":{\"dtype\":\"BF16\",\"shape\":[40000],\"data_offsets\":[84,80084]}}  ";
    write_safetensors(header, strlen(header), &data, sizeof data);

    SafeTensors file;
    Error err = {""};
    static float got[LONG];
    if (!CHECK(safetensors_open(&file, path, &err), "opening foreign types: %s", err.text)) { return; }
#define SAME(got, want) (isnan(want) ? isnan(got) : (got) == (want) && !signbit(got) == !signbit(want))
    CHECK(safetensors_read(&file, safetensors_find(&file, "f16"), got, &err), "reading F16: %s", err.text);
    for (int i = 0; i < HALVES; i++) { CHECK(SAME(got[i], halves[i].value), "F16 %04x: %g", halves[i].bits, got[i]); }
    CHECK(safetensors_read(&file, safetensors_find(&file, "bf16"), got, &err), "reading BF16: %s", err.text);
    for (int i = 0; i < BRAINS; i++) { CHECK(SAME(got[i], brains[i].value), "BF16 %04x: %g", brains[i].bits, got[i]); }
    CHECK(safetensors_read(&file, safetensors_find(&file, "f64"), got, &err), "reading F64: %s", err.text);
    for (int i = 0; i < DOUBLES; i++) { CHECK(SAME(got[i], doubles_as_float[i]), "F64 %g: %g", doubles[i], got[i]); }
    CHECK(safetensors_read(&file, safetensors_find(&file, "many"), got, &err), "reading many: %s", err.text);
    int wrong = 0;
    for (int i = 0; i < LONG; i++) { wrong += got[i] != safetensors_float_from_bits((uint32_t)data.many[i] << 16); }
    CHECK(wrong == 0, "%d of %d elements wrong in a tensor longer than the read buffer", wrong, LONG);
    bool read = safetensors_read(&file, safetensors_find(&file, "i64"), got, &err);
    CHECK(!read && strstr(err.text, "I64"), "I64 is refused by name: %s", err.text);
    const SafeTensor* many = safetensors_find(&file, "many");
    CHECK(truncate(path, 1000) == 0 && !safetensors_read(&file, many, got, &err), "a file that shrinks is reported");
    safetensors_close(&file);
}

#define TENSOR(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{" TENSOR("t", dtype, shape, offsets) "}"

static const struct { const char* header; size_t data_bytes; const char* sentence; } hostile[] = {
    {"[]", 0, "not a JSON object"},
    {" {}", 0, "not a JSON object"},
    {"{", 0, "not JSON"},
    {"{\"t\":}", 0, "not JSON"},
    {"{}x", 0, "goes on after"},
    {"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", 0, "nests deeper"},
    {"{\"t\":3}", 0, "not an object"},
    {"{\"t\":null}", 0, "not an object"},
    {"{\"t\":{}}", 0, "needs one dtype"},
    {"{\"t\":{\"dtype\":1,\"shape\":[],\"data_offsets\":[0,4]}}", 4, "needs one dtype"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, "needs one dtype"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{}}}", 4, "needs one dtype"},
    {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "needs one dtype"},
    {"{\"t\":{\"DTYPE\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "needs one dtype"},
    {ONE("F33", "[2]", "[0,8]"), 4, "only 4 bytes"},
    {ONE("F33", "[1,-1]", "[0,4]"), 4, "dimension 1 of tensor t is negative"},
    {ONE("F33", "[4294967296,4294967296]", "[0,4]"), 4, "above 2^63"},
    {ONE("F32", "[1]", "[0]"), 4, "not two numbers"},
    {ONE("F32", "[1]", "[0,4,4]"), 4, "not two numbers"},
    {ONE("F32", "[1]", "[\"0\",4]"), 4, "offset of tensor t is not a number"},
    {ONE("F32", "[1]", "[-4,0]"), 4, "offset of tensor t is negative"},
    {ONE("F32", "[1]", "[0.5,4]"), 4, "offset of tensor t has a fraction"},
    {ONE("F32", "[1]", "[0,9007199254740994]"), 4, "offset of tensor t is above 2^53"},
    {ONE("F32", "[1]", "[0,1e999]"), 4, "offset of tensor t is above 2^53"},
    {ONE("F32", "[1]", "[4,0]"), 4, "ends before it begins"},
    {ONE("F32", "[2]", "[0,8]"), 4, "only 4 bytes"},
    {ONE("F32", "[1152921504606846976]", "[0,4]"), 4, "dimension 0 of tensor t is above 2^53"},
    {ONE("F32", "[1,\"1\"]", "[0,4]"), 4, "dimension 1 of tensor t is not a number"},
    {ONE("F32", "[-1]", "[0,4]"), 4, "dimension 0 of tensor t is negative"},
    {ONE("F32", "[-1,-1]", "[0,4]"), 4, "dimension 0 of tensor t is negative"},
    {ONE("F32", "[1.5]", "[0,4]"), 4, "dimension 0 of tensor t has a fraction"},
    {ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "more than 8 dimensions"},
    {ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, "above 2^63"},
    {ONE("U8", "[9007199254740992,2048]", "[0,0]"), 0, "above 2^63"},
    {ONE("F32", "[2]", "[0,4]"), 4, "takes 4 bytes, but its shape in F32 takes 8"},
    {ONE("F32", "[0]", "[0,4]"), 4, "takes 4 bytes, but its shape in F32 takes 0"},
    {ONE("F32", "[1]", "[0,4]"), 5, "1 bytes after the last tensor"},
    {"{}", 1, "1 bytes after the last tensor"},
    {"{" TENSOR("t", "F32", "[1]", "[0,4]") "," TENSOR("u", "F32", "[1]", "[8,12]") "}", 12, "belong to no tensor"},
    {ONE("F32", "[1]", "[4,8]"), 8, "belong to no tensor"},
    {"{" TENSOR("t", "F32", "[2]", "[0,8]") "," TENSOR("u", "F32", "[1]", "[4,8]") "}", 8, "before it ends at byte 8"},
    {"{" TENSOR("t", "F32", "[1]", "[0,4]") "," TENSOR("u", "F32", "[1]", "[0,4]") "}", 4, "before it ends at byte 4"},
    {"{" TENSOR("t", "F32", "[1]", "[0,4]") "," TENSOR("t", "F32", "[1]", "[4,8]") "}", 8, "two tensors named t"},
    {"{" TENSOR("t", "U8", "[0]", "[0,0]") "," TENSOR("\\u0074", "U8", "[0]", "[0,0]") "}", 0, "two tensors named t"},
    {"{" TENSOR("t\\u0000u", "F32", "[1]", "[0,4]") "}", 4, "contains NUL"},
    {"{" TENSOR("t\x01", "F32", "[1]", "[0,4]") "}", 4, "control character"},
    {"{" TENSOR("caf\xe9", "F32", "[1]", "[0,4]") "}", 4, "not UTF-8"},
    {"{" TENSOR("\xc0\xaf", "F32", "[1]", "[0,4]") "}", 4, "not UTF-8"},
    {"{" TENSOR("\xed\xa0\x80", "F32", "[1]", "[0,4]") "}", 4, "not UTF-8"},
    {"{" TENSOR("\\ud800", "F32", "[1]", "[0,4]") "}", 4, "not JSON"},
    {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "two values for a"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ twice"},
};

static void check_refused(const char* what, const char* sentence) {
    SafeTensors file;
    Error err = {""};
    bool opened = safetensors_open(&file, path, &err);
    CHECK(!opened && strstr(err.text, sentence), "%s: want \"%s\", got \"%s\"", what, sentence, opened ? "" : err.text);
    if (opened) { safetensors_close(&file); }
}

// What other programs write stops nothing: their metadata are passed over, what is no string among them and what is.
static void test_foreign_metadata(void) {
    static const char* const headers[] = {
        "{\"__metadata__\":null," TENSOR("t", "F32", "[1]", "[0,4]") "}",
        "{\"__metadata__\":\"x\"," TENSOR("t", "F32", "[1]", "[0,4]") "}",
        "{\"__metadata__\":{\"a\":1,\"b\":null,\"c\":{\"d\":[[{\"e\":[]}]]}}," TENSOR("t", "F32", "[1]", "[0,4]") "}",
        "{\"__metadata__\":{\"a\":[1,2],\"format\":\"pt\"}," TENSOR("t", "F32", "[1]", "[0,4]") "}",
    };
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        SafeTensors file;
        Error err = {""};
        write_safetensors(headers[i], strlen(headers[i]), NULL, 4);
        if (!CHECK(safetensors_open(&file, path, &err), "%s: %s", headers[i], err.text)) { continue; }
        const char* format = safetensors_metadata(&file, "format");
        CHECK(file.count == 1 && !safetensors_metadata(&file, "a"), "%s: %d tensors", headers[i], file.count);
        CHECK((format != NULL) == (i == 3) && (!format || strcmp(format, "pt") == 0), "%s: format", headers[i]);
        safetensors_close(&file);
    }
}

// A tensor of an unknown dtype stands in nobody's way, and is not read, whatever its shape claims.
static void test_unknown_dtypes(void) {
    static const char* const dtypes[] = {"F8_E4M3FNUZ", "F4", "I4", "C64", "", "A_NAME_OF_MORE_THAN_24_LETTERS",
                                         "F32F32"};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        char header[300];
        snprintf(header, sizeof header, "{" TENSOR("t", "%s", "[9007199254740992,1000]", "[0,2]") ","
                 TENSOR("u", "F32", "[1]", "[2,6]") "}", dtypes[i]);
        write_safetensors(header, strlen(header), "\1\2\0\0\x80\x3f", 6);
        SafeTensors file;
        Error err = {""};
        float got = 0;
        if (!CHECK(safetensors_open(&file, path, &err), "dtype %s: %s", dtypes[i], err.text)) { continue; }
        const SafeTensor* t = safetensors_find(&file, "t");
        CHECK(!safetensors_readable(t) && !safetensors_read(&file, t, &got, &err) && strstr(err.text, "can be read"),
              "dtype %s is refused when it is read: %s", dtypes[i], err.text);
        CHECK(safetensors_read(&file, safetensors_find(&file, "u"), &got, &err) && got == 1, "beside %s: %g", dtypes[i],
              got);
        safetensors_close(&file);
    }
}

static void test_many_tensors(void) {
    enum { MANY = 3000 };
    static char names[MANY][16];
    static SafeTensorOut out[MANY];
    SafeTensors file;
    Error err = {""};
    for (int i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "t%d", i * 7919 % MANY);
        out[i] = (SafeTensorOut){names[i], 1, {i % 3}, sample_data};
    }
    CHECK(safetensors_save(path, out, MANY, NULL, 0, &err), "saving: %s", err.text);
    if (!CHECK(safetensors_open(&file, path, &err), "opening: %s", err.text)) { return; }
    int wrong = file.count != MANY;
    for (int i = 0; i < MANY; i++) {
        const SafeTensor* t = safetensors_find(&file, names[i]);
        wrong += !t || strcmp(t->name, names[i]) != 0 || t->shape[0] != i % 3;
    }
    CHECK(wrong == 0, "%d of %d tensors are not found by their names", wrong, MANY);
    CHECK(!safetensors_find(&file, "t") && !safetensors_find(&file, "t3000") && !safetensors_find(&file, ""), "absent");
    safetensors_close(&file);
}

#define BYTES(text) text, sizeof text - 1
static const struct { const char* bytes; size_t n; const char* sentence; } kinds[] = {
    {BYTES("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883380\n"), "git lfs pull"},
    {BYTES("{\"metadata\": {\"total_size\": 100}, \"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\"}}"),
     "several files, such as model-00001-of-00002.safetensors: join them"},
    {BYTES("{\"weight_map\": {}}"), "several files: join them"},
    {BYTES("{\"weight_map\": {\"a\": \".safetensors\""), "several files, such as .safetensors: join them"},
    {BYTES("  {\"architectures\": [\"ViT\"]}"), "is a text (JSON)"},
    {BYTES("<!DOCTYPE html>\n<html><head><title>404</title></head></html>"), "is a web page (HTML)"},
    {BYTES("\n\n<HTML LANG=en>"), "is a web page (HTML)"},
    {BYTES("\xef\xbb\xbf<!doctype html>"), "is a web page (HTML)"},
    {BYTES("<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code></Error>"), "is a text (XML)"},
    {BYTES("Not Found"), "is a text: "},
    {BYTES("PK\3\4\24\0\0\0\0\0archive/data.pkl\x80\2}q"), "is a PyTorch file"},
    {BYTES("PK\3\4\24\0\0\0\0\0arr_0.npy\x93NUMPY"), "is an archive of NumPy arrays"},
    {BYTES("PK\3\4\24\0\0\0\0\0model/config.json"), "is a zip archive"},
    {BYTES("\x80\2\x8a\nl\xfc\x9c" "F\xf9 j\xa8P\x19."), "is a Python pickle, most likely of PyTorch: convert it"},
    {BYTES("\x80\5\x95\0\0\0\0\0\0\0\0}"), "is a Python pickle"},
    {BYTES("\x93NUMPY\1\0v\0{'descr': '<f4'"), "is a NumPy array"},
    {BYTES("\x89HDF\r\n\x1a\n\0\0\0"), "is an HDF5 file"},
    {BYTES("\x1f\x8b\x08\0\0\0\0\0\0\3"), "gunzip"},
    {BYTES("\x08\x08\x12\x07pytorch\x1a\x03" "2.1"), "is an ONNX file"},
    {BYTES("KATDATA\n\1\0\0\0"), "is a data set, not weights: give it by --data"},
    {BYTES("GGUF\3\0\0\0"), "is a GGUF file"},
    {BYTES("\x38\0\0\0\0\0\0\0{\"t\":{\"dtype\":\"F32\",\"sha"), "past the end of the file"}, // cut off
    {BYTES("\x80\2\0\0\0\0\0\0{\"t\":{\"dtype\":"), "past the end of the file"}, // of 640 bytes: no pickle
};

static void test_kinds(void) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        write_file(kinds[i].bytes, kinds[i].n);
        check_refused(kinds[i].bytes, kinds[i].sentence);
    }
    static char tar[600];
    strcpy(tar, "weights/model.safetensors");
    memcpy(tar + 257, "ustar", 5);
    write_file(tar, sizeof tar);
    check_refused("a tar archive", "is a tar archive");

    SafeTensors file;
    Error err = {""};
    CHECK(!safetensors_open(&file, folder, &err) && strstr(err.text, "is a folder: give the path"), "%s", err.text);
    char best[300];
    snprintf(best, sizeof best, "%s/best.safetensors", folder);
    CHECK(rename(path, best) == 0 && !safetensors_open(&file, folder, &err) && strstr(err.text, best), "%s", err.text);
    CHECK(unlink(best) == 0 && mkfifo(path, 0600) == 0, "a fifo");
    CHECK(!safetensors_open(&file, path, &err) && strstr(err.text, "is not a file"), "a fifo: %s", err.text);
    unlink(path);
}

static void test_hostile_headers(void) {
    for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
        write_safetensors(hostile[i].header, strlen(hostile[i].header), NULL, hostile[i].data_bytes);
        check_refused(hostile[i].header, hostile[i].sentence);
    }
    write_safetensors("{}\0", 3, NULL, 0);
    check_refused("NUL after the object", "NUL");
    write_file("", 0);
    check_refused("an empty file", "is empty");
    write_file("\2\0\0\0\0\0\0", 7);
    check_refused("7 bytes", "7 bytes long");
    write_file("\0\0\0\0\0\0\0\0", 8);
    check_refused("header length 0", "header is empty");
    write_file("\3\0\0\0\0\0\0\0{}", 10);
    check_refused("header past the end", "past the end");
    write_file("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10);
    check_refused("header length 2^64 - 1", "above 100 MB");
    write_file("\1\xe1\xf5\5\0\0\0\0{}", 10);
    check_refused("header length 100000001", "above 100 MB");

    enum { COMMAS = SAFETENSORS_MAX_ENTRIES + 10 };
    char* header = alloc_bytes(2 * COMMAS, "a long header");
    memcpy(header, "{\"t\":[", 6);
    for (int i = 6; i < 2 * COMMAS; i += 2) { memcpy(header + i, "0,", 2); }
    write_safetensors(header, 2 * COMMAS, NULL, 0);
    check_refused("a million numbers", "more than 1000000 entries");
    free(header);
}

// What the format promises of an open file, worked out again: no header may be accepted that breaks it.
static bool keeps_promises(const SafeTensors* file, size_t file_bytes) {
    uint64_t at = 0;
    for (int i = 0; i < file->count; i++) {
        const SafeTensor* t = &file->tensors[i];
        double bytes = t->dtype[0] == 'B' && t->dtype[1] == 'O' ? 1 : strcmp(t->dtype, "F8_E5M2") == 0 ||
            strcmp(t->dtype, "F8_E4M3") == 0 ? 1 : atoi(t->dtype + (t->dtype[0] == 'B' ? 2 : 1)) / 8.0;
        for (int j = 0; j < t->rank; j++) {
            if (t->shape[j] < 0) { return false; }
            bytes *= (double)t->shape[j];
        }
        bool believed = !safetensors_dtype_bytes(t->dtype) || (double)(t->end - t->begin) == bytes;
        if (t->begin != at || t->end < t->begin || !believed) { return false; }
        if (safetensors_find(file, t->name) != t) { return false; }
        at = t->end;
    }
    return at == file->data_bytes && file->data_start + file->data_bytes == file_bytes;
}

static size_t mutate(char* header, size_t length, size_t room, uint32_t round) {
    static const char alphabet[] = "{}[]\",:\\0123456789-.eEFIUB_t \0\x80\xff";
    uint32_t edits = 1 + random_bits(1, STREAM_CHECK, round, 0).word[0] % 3;
    for (uint32_t e = 1; e <= edits; e++) {
        Random4 r = random_bits(1, STREAM_CHECK, round, e);
        size_t at = random_below((uint32_t)length, r.word[0]), from = random_below((uint32_t)length, r.word[1]);
        char c = alphabet[r.word[2] % (sizeof alphabet - 1)];
        switch (r.word[3] % 4) {
        case 0: header[at] = c; break;
        case 1: header[at] = header[from]; break;
        case 2: memmove(header + at, header + at + 1, --length - at); break;
        default:
            if (length == room) { break; }
            memmove(header + at + 1, header + at, length++ - at);
            header[at] = c;
        }
    }
    return length;
}

static void test_mutations(void) {
#ifdef REDUCED
    enum { ROUNDS = 1500 };
#else
    enum { ROUNDS = 3000 };
#endif
    static const char good[] = "{\"__metadata__\":{\"k\":\"v\"}," TENSOR("t", "F32", "[2,3]", "[0,24]") ","
                               TENSOR("u", "BF16", "[4]", "[24,32]") "," TENSOR("e", "U8", "[0]", "[32,32]") "}";
    int accepted = 0, broken = 0, unread = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char header[sizeof good + 8];
        memcpy(header, good, sizeof good - 1);
        size_t length = mutate(header, sizeof good - 1, sizeof header, round);
        write_safetensors(header, length, NULL, 32);
        SafeTensors file;
        Error err = {""};
        if (!safetensors_open(&file, path, &err)) {
            broken += err.text[0] == 0;
            continue;
        }
        accepted++;
        broken += !keeps_promises(&file, 8 + length + 32);
        const SafeTensor* t = safetensors_find(&file, "t");
        bool readable = t && safetensors_readable(t);
        float* got = readable ? alloc_floats((size_t)safetensors_elements(t), "a mutated tensor") : NULL;
        unread += t && strcmp(t->dtype, "F32") == 0 && !safetensors_read(&file, t, got, &err);
        free(got);
        safetensors_close(&file);
    }
    CHECK(broken == 0, "%d of %d mutated headers were accepted wrongly, or refused without a sentence", broken, ROUNDS);
    CHECK(unread == 0, "%d tensors of accepted files could not be read", unread);
    CHECK(accepted > ROUNDS / 100 && accepted < ROUNDS / 2, "the mutations reach both sides: %d accepted", accepted);
}
#else
static void test_without_cjson(void) {
    SafeTensors file;
    Error err = {""};
    save_sample();
    bool opened = safetensors_open(&file, path, &err);
    CHECK(!opened && strstr(err.text, "libcjson-dev"), "without cJSON opening names the package: %s", err.text);
}
#endif

int main(void) {
    const char* base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/test_safetensors.XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) { fail(EXIT_RUN_TIME, "cannot make the folder %s", folder); }
    snprintf(path, sizeof path, "%s/x.safetensors", folder);
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    test_saved_bytes();
    test_failed_saves();
#ifdef HAVE_CJSON
    test_round_trip();
    test_foreign_types();
    test_hostile_headers();
    test_foreign_metadata();
    test_unknown_dtypes();
    test_many_tensors();
    test_kinds();
    test_mutations();
#else
    test_without_cjson();
#endif
    unlink(path);
    CHECK(rmdir(folder) == 0, "the test leaves nothing behind in %s", folder);
    return tests_finish();
}
