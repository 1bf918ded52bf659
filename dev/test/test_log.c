// runtime/log.h and runtime/output.h: the bytes of metrics.csv, what of an old one is kept and what is refused; the
// progress line on terminals of any width; output that cannot be written.
#define _GNU_SOURCE // posix_openpt
#include "../../runtime/log.h"
#include "test_files.h"
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const Progress some_progress = {
    .step = 1234, .epoch = 2.5, .loss = {.count = 50, .mean = 1.25, .squares = 12.25}, .accuracy = 87.654321,
    .lr = 4.32273e-05, .grad_norm = 0.1331264, .ms_per_step = 12.3456, .images_per_second = 5183.94, .gflops = 101.27,
    .wait_percent = 0.456,
};
static const Evaluation some_evaluation = {
    .loss = 0.6931172, .loss_se = 0.0061612, .top1 = 86.67, .top1_se = 0.34, .top5 = 99.5, .top5_se = 0.05,
    .images = 10000,
};
#define HEADER "step,epoch,train_loss,train_loss_se,train_accuracy,lr,grad_norm,ms_per_step,images_per_second,gflops," \
    "wait_percent,test_loss,test_loss_se,test_top1,test_top1_se,test_top5,test_top5_se\n"
#define ROW(step) step ",1.0000,0.693252,0.008651,50.000,4.32273e-05,0.133126,0.067,59393.3,1.6,21.04,,,,,,\n"

// ---- metrics.csv

static void expect_file(const char* path, const char* want, size_t length, const char* what) {
    size_t count = 0;
    uint8_t* bytes = read_file(path, &count);
    bool same = bytes && count == length && memcmp(bytes, want, length) == 0;
    CHECK(same, "%s: %zu bytes where %zu were expected: %.*s", what, count, length, (int)count,
          bytes ? (char*)bytes : "");
    free(bytes);
}

static void test_rows(void) {
    const char* path = in_folder("metrics.csv");
    Metrics m;
    Error err = {""};
    if (!CHECK(metrics_open(&m, path, 0, &err), "a new file: %s", err.text)) { return; }
    CHECK(metrics_row(&m, 1234, 2.5, &some_progress, NULL, &err), "%s", err.text);
    CHECK(metrics_row(&m, 1234, 2.5, NULL, &some_evaluation, &err), "%s", err.text);
    const char want[] = HEADER
        "1234,2.5000,1.250000,0.070711,87.654,4.32273e-05,0.133126,12.346,5183.9,101.3,0.46,,,,,,\n"
        "1234,2.5000,,,,,,,,,,0.693117,0.006161,86.670,0.340,99.500,0.050\n";
    expect_file(path, want, strlen(want), "two rows, before the file is closed");
    CHECK(metrics_sync(&m, &err) && metrics_close(&m, &err), "%s", err.text);
    CHECK(METRICS_COLUMNS == 17, "%d columns", METRICS_COLUMNS);
}

typedef struct { const char* what; const char* bytes; size_t length; const char* left; } OldFile;
#define TEXT(text) text, sizeof text - 1

// What is left of an old file when a run goes on behind step 20
static void test_what_is_kept(void) {
    static const OldFile files[] = {
        {"rows of later steps go", TEXT(HEADER ROW("10") ROW("20") ROW("30")), HEADER ROW("10") ROW("20")},
        {"nothing but a header", TEXT(HEADER), HEADER},
        {"an empty file", TEXT(""), HEADER},
        {"a row that was cut short", TEXT(HEADER ROW("10") "20,1.0000,0.69"), HEADER ROW("10")},
        {"what a power cut leaves", TEXT(HEADER ROW("10") "\0\0\0\0\0\0\0\0"), HEADER ROW("10")},
    };
    const char* path = in_folder("old.csv");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        Metrics m;
        Error err = {""};
        write_file(path, files[i].bytes, files[i].length);
        if (!CHECK(metrics_open(&m, path, 20, &err), "%s: %s", files[i].what, err.text)) { continue; }
        expect_file(path, files[i].left, strlen(files[i].left), files[i].what);
        CHECK(metrics_close(&m, &err), "%s", err.text);
    }
}

// What is not a log of this program stays as it is, to the byte.
static void test_what_is_refused(void) {
    static char long_line[100000];
    snprintf(long_line, sizeof long_line, "%s", HEADER ROW("10"));
    size_t used = strlen(long_line);
    memset(long_line + used, '7', sizeof long_line - used);
    long_line[sizeof long_line - 1] = '\n';
    const struct { const char *what, *bytes; size_t length; const char* reason; } files[] = {
        {"other columns", TEXT("step,loss\n1,2\n"), "line 1"},
        {"no columns", TEXT(ROW("10")), "line 1"},
        {"a word", TEXT("hello"), "line 1"},
        {"a header cut short", HEADER, 30, "line 1"},
        {"a note between the rows", TEXT(HEADER ROW("10") "I changed the lr\n" ROW("20")), "line 3"},
        {"a note behind them", TEXT(HEADER ROW("10") "# a good run\n"), "line 3"},
        {"a row without its last columns", TEXT(HEADER "10,1.0000,0.69\n" ROW("20")), "line 2"},
        {"NUL bytes in a row", TEXT(HEADER "10,1.0\0\0\0\0\0\0\0\0\0\n" ROW("20")), "line 2"},
        {"a line without end", long_line, sizeof long_line, "line 3"},
        {"lines of another system", TEXT("step,epoch\r\n10,1\r\n"), "line 1"},
    };
    const char *path = in_folder("refused.csv"), *temporary = in_folder("refused.csv.tmp");
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        Metrics m;
        Error err = {""};
        write_file(path, files[i].bytes, files[i].length);
        CHECK(!metrics_open(&m, path, 20, &err), "%s: was opened", files[i].what);
        CHECK(strstr(err.text, files[i].reason), "%s: %s", files[i].what, err.text);
        expect_file(path, files[i].bytes, files[i].length, files[i].what);
        CHECK(access(temporary, F_OK) != 0, "%s: left a temporary file", files[i].what);
    }
}

static void expect_kept(const char* path, int type, const char* what) {
    struct stat status;
    Metrics m;
    Error err = {""};
    CHECK(!metrics_open(&m, path, 20, &err) && *err.text, "%s was taken for a log", what);
    CHECK(lstat(path, &status) == 0 && (status.st_mode & S_IFMT) == (mode_t)type, "%s was replaced", what);
}

static void test_special_files(void) {
    const char *fifo = in_folder("fifo"), *folder = in_folder("folder"), *link = in_folder("link");
    Metrics m;
    Error err = {""};
    alarm(20); // a fifo is not waited for
    if (mkfifo(fifo, 0600) != 0 || mkdir(folder, 0700) != 0) { perror("special files"); }
    expect_kept(fifo, S_IFIFO, "a fifo");
    expect_kept(folder, S_IFDIR, "a folder");
    expect_kept("/dev/null", S_IFCHR, "a device");
    if (symlink(fifo, link) != 0) { perror(link); }
    expect_kept(link, S_IFLNK, "a link to a fifo");
    unlink(link);
    if (symlink("/proc/self/mem", link) != 0) { perror(link); } // reading it is an input/output error
    expect_kept(link, S_IFLNK, "a link to what cannot be read");
    unlink(link);
    alarm(0);

    write_file(in_folder("target.csv"), TEXT(HEADER ROW("10") ROW("30")));
    if (symlink("target.csv", link) != 0) { perror(link); }
    struct stat status;
    CHECK(metrics_open(&m, link, 20, &err) && metrics_row(&m, 1234, 2.5, NULL, &some_evaluation, &err)
          && metrics_close(&m, &err), "a link: %s", err.text);
    CHECK(lstat(link, &status) == 0 && S_ISLNK(status.st_mode), "a link was replaced");
    const char want[] = HEADER ROW("10") "1234,2.5000,,,,,,,,,,0.693117,0.006161,86.670,0.340,99.500,0.050\n";
    expect_file(in_folder("target.csv"), want, strlen(want), "what the link names");
}

// Without the right to read it. Root may read everything, so that a child does it as nobody.
static void test_unreadable(void) {
    const char* path = in_folder("secret.csv");
    write_file(path, TEXT(HEADER ROW("10")));
    chmod(test_folder, 0777);
    chmod(path, 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        Metrics m;
        Error err = {""};
        if (geteuid() == 0 && setuid(65534) != 0) { _exit(0); }
        _exit(metrics_open(&m, path, 20, &err) || !strstr(err.text, "cannot read") ? 1 : 0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(status == 0, "a file that may not be read was opened, or refused for another reason");
    chmod(path, 0600);
    expect_file(path, TEXT(HEADER ROW("10")), "a file that may not be read");
}

// A full disk, here a limit on the size of files: an error, and the rows before it are there when the run goes on.
static void test_full_disk(void) {
    const char* path = in_folder("full.csv");
    const char want[] = HEADER "1,0.0000,,,,,,,,,,0.693117,0.006161,86.670,0.340,99.500,0.050\n";
    struct rlimit before, small;
    Metrics m;
    Error err = {""};
    getrlimit(RLIMIT_FSIZE, &before);
    small = (struct rlimit){sizeof want + 20, before.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    fflush(stdout);
    if (!CHECK(metrics_open(&m, path, 0, &err), "%s", err.text)) { return; }
    setrlimit(RLIMIT_FSIZE, &small);
    bool first = metrics_row(&m, 1, 0, NULL, &some_evaluation, &err);
    bool second = metrics_row(&m, 2, 0, NULL, &some_evaluation, &err);
    bool closed = metrics_close(&m, &(Error){""});
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(first && !second && !closed && strstr(err.text, "cannot write") && strstr(err.text, "free some space"),
          "%d %d %d: %s", first, second, closed, err.text);
    CHECK(metrics_open(&m, path, 2, &err) && metrics_close(&m, &err), "%s", err.text);
    expect_file(path, want, strlen(want), "the rows before the disk was full");
}

// To its end, as a string
static void read_all(int fd, char* text, size_t room) {
    size_t used = 0;
    for (ssize_t got = 1; got > 0 && used < room - 1; used += got > 0 ? (size_t)got : 0) {
        got = read(fd, text + used, room - 1 - used);
    }
    text[used] = 0;
}

// ---- what a terminal shows

typedef struct { int rows, widest, escapes; char text[1 << 16]; } Screen;

// As a terminal of so many columns has it: a character behind the last column goes to the next row.
static Screen screen_of(int columns, const char* text) {
    Screen s = {.rows = 1};
    int column = 0;
    for (const char* c = text; *c; c++) {
        if (*c == '\033') {
            s.escapes++;
            while (!((*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z'))) { c++; }
        } else if (*c == '\r') {
            column = 0;
        } else if (*c == '\n') {
            s.rows++;
            column = 0;
        } else if ((*c & 0xC0) != 0x80) {
            if (column == columns) { s.rows++; column = 0; }
            column++;
            s.widest = column > s.widest ? column : s.widest;
        }
    }
    snprintf(s.text, sizeof s.text, "%s", text);
    return s;
}

static void show_steps(int steps, int every) {
    for (int i = 1; i <= steps; i++) {
        Progress p = some_progress;
        p.step = i;
        print_progress(&p, steps, 3600, i % every == 0);
    }
}
static void show_sixty(void) { show_steps(60, 20); }
static void show_and_evaluate(void) {
    show_steps(7, 50);
    print_evaluation("epoch 1.00, test", &some_evaluation);
}
static void show_and_fail(void) {
    show_steps(7, 50);
    fail(3, "the sentence");
}
static void show_resized(void) {
    show_steps(10, 50);
    struct winsize size = {.ws_row = 24, .ws_col = 30};
    ioctl(STDOUT_FILENO, TIOCSWINSZ, &size);
    printf("\nnarrower\n");
    show_steps(10, 50);
}

// What the child wrote to the terminal, which is closed then. Whatever is still on its way when the last writer closes
// a terminal may be lost: this process keeps it open, and marks the end when the child is gone.
static void read_terminal(int master, int slave, pid_t child, char* text, size_t room) {
    const char end = 4;
    size_t used = 0;
    bool gone = false;
    struct pollfd ready = {.fd = master, .events = POLLIN};
    while (used < room - 1 && !memchr(text, end, used)) {
        if (!gone && waitpid(child, NULL, WNOHANG) == child) {
            gone = true;
            if (write(slave, &end, 1) != 1) { perror("a terminal"); exit(1); }
        }
        if (poll(&ready, 1, 10) < 1) { continue; }
        ssize_t got = read(master, text + used, room - 1 - used);
        if (got > 0) { used += (size_t)got; }
    }
    char* mark = memchr(text, end, used);
    text[mark ? (size_t)(mark - text) : used] = 0;
    close(slave);
    close(master);
}

// What show() prints on a terminal: columns 0 for one that does not know its width
static Screen on_terminal(void (*show)(void), int columns, const char* term, const char* columns_variable) {
    static char text[1 << 16];
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) { perror("a terminal"); exit(1); }
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    ioctl(master, TIOCSWINSZ, &size);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        close(master);
        dup2(slave, STDOUT_FILENO);
        dup2(slave, STDERR_FILENO);
        if (term) { setenv("TERM", term, 1); } else { unsetenv("TERM"); }
        if (columns_variable) { setenv("COLUMNS", columns_variable, 1); } else { unsetenv("COLUMNS"); }
        show();
        fflush(stdout);
        _exit(0);
    }
    read_terminal(master, slave, child, text, sizeof text);
    return screen_of(columns ? columns : 80, text);
}

static void test_terminals(void) {
    const int widths[] = {1, 2, 5, 10, 20, 40, 79, 80, 81, 100, 120, 139, 140, 141, 200, 500};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) { // three lines stay, the cursor is on the fourth
        Screen s = on_terminal(show_sixty, widths[i], "xterm", "37");
        CHECK(s.rows == 4, "%d columns: 60 steps took %d rows", widths[i], s.rows);
        CHECK(s.widest < widths[i] || widths[i] == 1, "%d columns: %d were filled", widths[i], s.widest);
    }
    const struct { int columns; const char* line; } lines[] = {
        {24, "step     20/60"},
        {60, "step     20/60 | loss 1.2500 ± 0.0707 | eta 1h00m\r"},
        {80, "step     20/60 | loss 1.2500 ± 0.0707 | acc 87.65 % | 5184 img/s | eta 1h00m\r"},
        {200, "step     20/60 | epoch 2.50 | loss 1.2500 ± 0.0707 | acc 87.65 % | lr 4.32e-05 | norm 0.133 | 12.3 ms | "
              "5184 img/s | 101.3 GFLOP/s | wait 0.5 % | eta 1h00m\r"},
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        Screen s = on_terminal(show_sixty, lines[i].columns, "xterm", NULL);
        CHECK(strstr(s.text, lines[i].line), "%d columns show: %.300s", lines[i].columns, s.text);
    }
    Screen s = on_terminal(show_sixty, 0, "xterm", "40");
    CHECK(s.widest == 39 || (s.widest < 40 && s.rows == 4), "COLUMNS=40: %d columns, %d rows", s.widest, s.rows);
    s = on_terminal(show_sixty, 0, "xterm", "none");
    CHECK(s.widest > 60 && s.widest < 80, "no width known: %d columns", s.widest);
    s = on_terminal(show_resized, 120, "xterm", NULL);
    s = screen_of(30, strstr(s.text, "narrower") ? strstr(s.text, "narrower") : "");
    CHECK(s.rows == 2 && s.widest < 30, "narrower meanwhile: %d rows, %d columns", s.rows, s.widest);
    const char* const plain[] = {"dumb", "", NULL};
    for (int i = 0; i < 3; i++) {
        s = on_terminal(show_sixty, 200, plain[i], NULL);
        CHECK(s.escapes == 0 && s.rows == 4, "TERM=%s: %d escape sequences, %d rows", plain[i] ? plain[i] : "none",
              s.escapes, s.rows);
    }
}

// Other lines take the place of the line in progress, or let it stand; none is written behind it.
static void test_other_lines(void) {
    Screen s = on_terminal(show_and_evaluate, 100, "xterm", NULL);
    CHECK(strstr(s.text, "\r\033[Kepoch 1.00, test: top-1 86.67 ± 0.34 % | top-5"), "%s", s.text);
    s = on_terminal(show_and_fail, 100, "xterm", NULL);
    CHECK(strstr(s.text, "1h00m\r\nerror: the sentence"), "%s", s.text);
}

// ---- output that cannot be written

typedef struct { int code; char said[1024]; } End;

// How a program ends that starts with output_guard() and then does this, and what it says on stderr. out < 0: closed
static End end_of(void (*program)(void), int out) {
    End end = {0};
    int ends[2];
    if (pipe(ends) != 0) { perror("a pipe"); exit(1); }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (out >= 0) { dup2(out, STDOUT_FILENO); } else { close(STDOUT_FILENO); }
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        output_guard();
        program();
        exit(0);
    }
    close(ends[1]);
    read_all(ends[0], end.said, sizeof end.said);
    close(ends[0]);
    int status;
    waitpid(child, &status, 0);
    end.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return end;
}

static void say_little(void) { printf("a line\n"); }
static void say_much(void) { for (int i = 0; i < 10000; i++) { printf("line %d\n", i); } }
static void say_and_fail(void) { say_much(); fail(2, "the sentence"); }
static void say_without_reader(void) { output_outlives_reader(); say_much(); }
static void open_a_file(void) {
    write_file(in_folder("mine"), "", 0);
    FILE* f = fopen(in_folder("mine"), "w");
    printf("not into the file\n");
    fflush(stdout);
    if (f) { fclose(f); }
}

static void test_unwritten_output(void) {
    int full = open("/dev/full", O_WRONLY), nowhere = open("/dev/null", O_WRONLY), reader[2];
    if (pipe(reader) != 0) { perror("a pipe"); exit(1); }
    close(reader[0]);
    End end = end_of(say_little, nowhere);
    CHECK(end.code == 0 && !*end.said, "written output: exit status %d, %s", end.code, end.said);
    const struct { const char* what; void (*program)(void); int out, code; const char* reason; } cases[] = {
        {"a full disk, a line", say_little, full, 1, "No space left"},
        {"a full disk, many lines", say_much, full, 1, "cannot write the standard output"},
        {"a closed output", say_little, -1, 1, "it is closed"},
        {"a reader that is gone", say_without_reader, reader[1], 1, "cannot write the standard output"},
        {"a full disk and another error", say_and_fail, full, 2, "error: the sentence\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (cases[i].out == full && full < 0) { continue; } // a system without /dev/full
        end = end_of(cases[i].program, cases[i].out);
        const char* second = strchr(end.said, '\n');
        CHECK(end.code == cases[i].code && strstr(end.said, cases[i].reason) && second && !second[1],
              "%s: exit status %d, %s", cases[i].what, end.code, end.said);
    }
    end = end_of(say_much, reader[1]);
    CHECK(end.code == 128 + SIGPIPE && !*end.said, "a reader that is gone, before training: exit status %d, %s",
          end.code, end.said);
    end = end_of(open_a_file, -1);
    expect_file(in_folder("mine"), "", 0, "a file that is opened while the output is closed");
    CHECK(end.code == 1, "and the output is an error: exit status %d", end.code);
}

int main(void) {
    open_test_folder();
    test_rows();
    test_what_is_kept();
    test_what_is_refused();
    test_special_files();
    test_unreadable();
    test_full_disk();
    test_terminals();
    test_other_lines();
    test_unwritten_output();
    remove_test_folder();
    return tests_finish();
}
