// Runs test_emulation in every build and order: correct, it must pass, with the same bits in every order of a build;
// with each planted defect it must fail where test/defects.h says so, and be named there. The builds are in $EMU_BUILD.
// Prints the matrix of defects and runs. A build that is not there is said to be skipped.
#include "../../test/test.h"
#include "defects.h"
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct { const char *name, *caught, *report, *what; } defects[] = {
#define DEFECT(name, caught, report, what) {#name, caught, report, what},
    DEFECTS(DEFECT)
#undef DEFECT
};
enum { DEFECT_COUNT = sizeof defects / sizeof *defects };

// A column of the matrix: it catches a defect if one of its runs does.
static const struct { const char *name, *build, *environments[3]; } columns[] = {
    {"forward",  "plain", {"EMU_ORDER=forward"}},
    {"reverse",  "plain", {"EMU_ORDER=reverse"}},
    {"random",   "plain", {"EMU_ORDER=random:1", "EMU_ORDER=random:2"}},
    {"priority", "plain", {"EMU_ORDER=priority:1", "EMU_ORDER=priority:2", "EMU_ORDER=priority:3"}},
    {"asan",     "asan",  {"EMU_SEPARATE=1"}},
    {"late",     "plain", {"EMU_LATE=1"}},
    {"race",     "race",  {"EMU_SEPARATE=1"}},
};
enum { COLUMNS = sizeof columns / sizeof *columns };

enum { CHECK_FAILED = 1, EMULATION_STOPPED = 86 }; // exit statuses; the sanitizers' is 1 as well

static const char* build_directory;
static char output[1 << 16]; // of the last run, cut there

static bool have_build(const char* build) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/test_emulation_emu", build_directory, build);
    return access(path, X_OK) == 0;
}

// The exit status, 128 and more for a signal.
static int run(const char* build, const char* environment, const char* defect) {
    char command[2048];
    snprintf(command, sizeof command, "%s timeout 120 '%s/%s/test_emulation_emu' %s 2>&1", environment, build_directory,
             build, defect);
    FILE* pipe = popen(command, "r");
    if (!pipe) { return -1; }
    size_t length = fread(output, 1, sizeof output - 1, pipe);
    output[length] = 0;
    while (fgetc(pipe) != EOF) { }
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static const char* checksum(void) {
    static char line[64];
    const char* at = strstr(output, "checksum ");
    snprintf(line, sizeof line, "%.25s", at ? at : "no checksum");
    return line;
}

static void test_correct(const char* build) {
    static const char* const orders[] = {"forward", "reverse", "random:1", "random:2", "random:3", "priority:1",
                                         "priority:2", "priority:3"};
    char first[64] = "";
    for (int i = 0; i < (int)(sizeof orders / sizeof *orders); i++) {
        for (int late = 0; late < 2; late++) {
            char environment[64];
            snprintf(environment, sizeof environment, "EMU_ORDER=%s EMU_LATE=%d EMU_SEPARATE=%d", orders[i], late,
                     late);
            int status = run(build, environment, "");
            CHECK(status == 0, "correct kernels, %s build, %s: exit status %d\n%.2000s", build, environment, status,
                  output);
            if (!*first) { snprintf(first, sizeof first, "%s", checksum()); }
            CHECK(!strcmp(first, checksum()), "%s build, %s: %s, in the first order %s", build, environment, checksum(),
                  first);
        }
    }
}

// The letter of the build that names the defect stands before the words.
static bool names_it(int column, const char* report) {
    static const char letters[COLUMNS] = {'p', 0, 0, 0, 'a', 'l', 'r'};
    return letters[column] == report[0];
}

static bool test_defect(int defect, int column) {
    bool caught = false;
    for (int i = 0; i < 3 && columns[column].environments[i] && !caught; i++) {
        int status = run(columns[column].build, columns[column].environments[i], defects[defect].name);
        caught = status == CHECK_FAILED || status == EMULATION_STOPPED; // not where it hung or did not start
    }
    bool wanted = defects[defect].caught[column] == 'x';
    CHECK(caught || !wanted, "%s (%s) is not caught by %s", defects[defect].name, defects[defect].what,
          columns[column].name);
    if (names_it(column, defects[defect].report)) {
        const char* words = defects[defect].report + 2;
        CHECK(strstr(output, words), "%s: %s does not say \"%s\" but\n%.2000s", defects[defect].name,
              columns[column].name, words, output);
    }
    return caught;
}

static void test_matrix(void) {
    printf("%-28s", "");
    for (int c = 0; c < COLUMNS; c++) { printf(" %-8s", columns[c].name); }
    printf("\n");
    for (int d = 0; d < DEFECT_COUNT; d++) {
        const char* marks[COLUMNS];
        for (int c = 0; c < COLUMNS; c++) {
            marks[c] = !have_build(columns[c].build) ? "skipped" : test_defect(d, c) ? "x" : ".";
        }
        printf("%-28s", defects[d].name);
        for (int c = 0; c < COLUMNS; c++) { printf(" %-8s", marks[c]); }
        printf("\n");
    }
}

int main(void) {
    build_directory = getenv("EMU_BUILD");
    if (!build_directory) { build_directory = "build"; }
    for (int i = 0; i < 3; i++) {
        const char* build = (const char*[]){"plain", "asan", "race"}[i];
        if (have_build(build)) {
            test_correct(build);
        } else {
            printf("SKIPPED, not passed: the %s build is not there\n", build);
        }
    }
    test_matrix();
    return tests_finish();
}
