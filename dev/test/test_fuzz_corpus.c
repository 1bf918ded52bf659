// Every file of dev/fuzz/corpus through its fuzz target once, each in a process of its own: what `make fuzz` found
// stays fixed.
#include "../fuzz/fuzz_convert.c"
#include "../fuzz/fuzz_index.c"
#include "../fuzz/fuzz_jpeg.c"
#include "../fuzz/fuzz_kds.c"
#include "../fuzz/fuzz_mat5.c"
#include "../fuzz/fuzz_options.c"
#include "../fuzz/fuzz_png.c"
#include "../fuzz/fuzz_safetensors.c"
#include "../fuzz/fuzz_tar.c"
#include "../fuzz/fuzz_timm.c"
#include <glob.h>
#include <sys/wait.h>

enum { SECONDS = 20 }; // that one file may take

typedef void (*Target)(const uint8_t* bytes, size_t size);

static int status_of(Target target, const char* path) {
    int status = -1;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        size_t size = 0;
        uint8_t* bytes = read_file(path, &size);
        alarm(SECONDS);
        if (!bytes || !freopen("/dev/null", "w", stdout)) { exit(1); }
        target(bytes, size);
        free(bytes);
        exit(0);
    }
    waitpid(child, &status, 0);
    return status;
}

static void replay(const char* files, Target target) {
    glob_t found;
    CHECK(glob(files, 0, NULL, &found) == 0, "there is a corpus: %s", files);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        int status = status_of(target, found.gl_pathv[i]);
        CHECK(status == 0, "%s: %s %d", found.gl_pathv[i], WIFSIGNALED(status) ? "signal" : "exit",
              WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    globfree(&found);
}

int main(void) {
    replay("dev/fuzz/corpus/safetensors/*", fuzz_safetensors);
    replay("dev/fuzz/corpus/kds/*", fuzz_kds);
    replay("dev/fuzz/corpus/convert/*", fuzz_convert);
    replay("dev/fuzz/corpus/mat5/*", fuzz_mat5);
    replay("dev/fuzz/corpus/options/*", fuzz_options);
    replay("dev/fuzz/corpus/jpeg/*", fuzz_jpeg);
    replay("dev/fuzz/corpus/png/*", fuzz_png);
    replay("dev/fuzz/corpus/tar/*", fuzz_tar);
    replay("dev/fuzz/corpus/index/*", fuzz_index);
    replay("dev/fuzz/corpus/timm/*", fuzz_timm);
    return tests_finish();
}
