// Shared by the tests of ./convert_data's shards: images to convert, commands run here or in a process that is stopped,
// and comparison of folders.
#pragma once
#include "../../data/convert_folder.h"
#include "image_files.h"
#include "said.h"
#include <sys/wait.h>

typedef bool (*ConvertCommand)(const char* name, const char* const* words, const ConvertOptions* o, Error* err);

static inline ConvertOptions convert_defaults(void) {
    ConvertOptions o;
    Error err;
    if (!options_defaults(&o, convert_options, CONVERT_OPTIONS, &err)) { fail(1, "%s", err.text); }
    o.workers = 2;
    return o;
}

static Error convert_error; // of the last command
static char convert_said[1 << 14];

static inline bool run_convert(ConvertCommand command, const char* name, const char* input, const char* output,
                               const ConvertOptions* o) {
    const char* const words[] = {input, output, NULL};
    convert_error = (Error){""};
    said_begin();
    bool ok = command(name, words, o, &convert_error);
    snprintf(convert_said, sizeof convert_said, "%s", said_end());
    return ok;
}

static inline bool run_folder(const char* input, const char* output, const ConvertOptions* o) {
    return run_convert(convert_folder, "folder", input, output, o);
}

// Checks that it is refused, with these words.
static inline void expect_refusal(bool ok, const char* words, const char* what) {
    CHECK(!ok && strstr(convert_error.text, words), "%s is refused with '%s': %s", what, words,
          ok ? "accepted" : convert_error.text);
}

static inline void expect_said(const char* words) {
    CHECK(strstr(convert_said, words) != NULL, "it says '%s': %s", words, convert_said);
}

// ---- images

static inline void make_parents(const char* path) {
    char folder[PATH_MAX];
    Error err;
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    if (!make_folders(folder, &err)) { fail(1, "%s", err.text); }
}

__attribute__((format(printf, 3, 4)))
static inline void put_file(const void* bytes, size_t count, const char* format, ...) {
    char path[PATH_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(path, sizeof path, format, args);
    va_end(args);
    make_parents(path);
    write_file(path, bytes, count);
}

#ifdef HAVE_JPEG
// An image with size and kind by its number; every fifth is grey
static inline uint8_t* numbered_jpeg(int number, size_t* count) {
    JpegKind kind = {.height = 12 + number % 9, .width = 10 + number * 5 % 23, .components = number % 5 == 4 ? 1 : 3,
                     .quality = 60 + number % 37, .horizontal = 1, .vertical = 1};
    if (kind.components == 3 && number % 2) { kind.horizontal = kind.vertical = 2; }
    return make_jpeg(&kind, count);
}

static inline void put_jpeg(const char* folder, const char* name, int number) {
    size_t count;
    uint8_t* bytes = numbered_jpeg(number, &count);
    put_file(bytes, count, "%s/%s", folder, name);
    free(bytes);
}

// FOLDER/train/cNN/iNN.jpg and FOLDER/val/cNN/vNN.jpg
static inline void make_tree(const char* folder, int classes, int train, int val) {
    char name[64];
    for (int k = 0; k < classes; k++) {
        for (int i = 0; i < train + val; i++) {
            bool trains = i < train;
            snprintf(name, sizeof name, "%s/c%02d/%c%02d.jpg", trains ? "train" : "val", k, trains ? 'i' : 'v', i);
            put_jpeg(folder, name, k * (train + val) + i);
        }
    }
}

#endif

// ---- results

static inline bool same_bytes(const char* a, const char* b) {
    size_t n = 0, m = 0;
    uint8_t *x = read_file(a, &n), *y = read_file(b, &m);
    bool same = x && y && n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

static inline int count_entries(const char* folder, const char* pattern) {
    DIR* entries = opendir(folder);
    int count = 0;
    for (struct dirent* e; entries && (e = readdir(entries));) { count += fnmatch(pattern, e->d_name, 0) == 0; }
    if (entries) { closedir(entries); }
    return count;
}

// Checks that shards and indices of two folders have the same bytes, and that the second has nothing unfinished.
static inline void expect_same_set(const char* right, const char* folder, const char* what) {
    DIR* entries = opendir(right);
    char a[PATH_MAX], b[PATH_MAX];
    int files = 0;
    for (struct dirent* e; entries && (e = readdir(entries));) {
        bool told = fnmatch("*.tar", e->d_name, 0) == 0 || fnmatch("*.index", e->d_name, 0) == 0
            || strcmp(e->d_name, "_info.json") == 0;
        if (!told) { continue; }
        snprintf(a, sizeof a, "%.2000s/%s", right, e->d_name);
        snprintf(b, sizeof b, "%.2000s/%s", folder, e->d_name);
        CHECK(same_bytes(a, b), "%s: %s has the same bytes", what, e->d_name);
        files++;
    }
    if (entries) { closedir(entries); }
    CHECK(files >= 2, "%s: there is something to compare", what);
    CHECK(count_entries(folder, "*.part") == 0 && count_entries(folder, "*.tmp") == 0, "%s: nothing half done is left",
          what);
}

// FOLDER/SPLIT.index, opened; a set of one image without a class where that fails
static inline Dataset open_split(const char* folder, const char* split) {
    Dataset d;
    Error err;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.index", folder, split);
    if (!CHECK(shards_load(&d, path, &err), "%s opens: %s", path, err.text)) { exit(tests_finish()); }
    return d;
}

// The name of image i's member
static inline void member_of(char name[256], const Dataset* d, int image) {
    ShardRecord r = d->shards->records[image];
    char header[512] = "";
    CHECK(read_at(d->shards->descriptors[r.shard], header, 512, r.offset - 512) == 512,
          "a header stands before an image");
    snprintf(name, 256, "%.150s%s%.100s", header + 345, header[345] ? "/" : "", header);
}

// ---- processes

// Starts the command in another process, whose output is discarded.
static inline pid_t start_convert(ConvertCommand command, const char* name, const char* input, const char* output,
                                  const ConvertOptions* o) {
    fflush(stdout);
    pid_t child = fork();
    if (child != 0) { return child; }
    const char* const words[] = {input, output, NULL};
    Error err;
    if (!freopen("/dev/null", "w", stdout)) { _exit(9); }
    bool ok = command(name, words, o, &err);
    _exit(ok ? 0 : preparation_stopped ? EXIT_STOPPED : EXIT_RUN_TIME);
}

static inline int end_of(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static inline bool has_ended(pid_t child) { // it can still be waited for
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == child;
}

static inline void sleep_seconds(double seconds) {
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}
